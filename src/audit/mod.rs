//! The tamper-evident log: encoding of entries, the Merkle tree, signed heads, and the offline verifier. Pure.
//!
//! `docs/audit-log.md` describes the format for those who write a verifier of their own.

pub mod chain;
pub mod entry;
pub mod head;
pub mod json;
pub mod key_report;
pub mod layout;
pub mod mirror;
pub mod proof;
pub mod receipt;
pub mod release;
pub mod segment;
pub mod tree;
pub mod verify;
