//! Of the room what a commit does.

#[path = "../../../src/audit/entry.rs"]
pub mod entry;
#[path = "../../../src/audit/tree.rs"]
pub mod tree;
