//! Bytes outside the database, behind one small door: the mirror of the log, backups, and parts of documents. The only room that knows `object_store`.
//!
//! It stores bytes under names and understands neither: what a segment holds is [`crate::audit`]'s matter, and the
//! vault brings the two together. Names are unique by construction, since not every object store honours a conditional
//! put (Garage does not).

pub mod backups;
mod error;
mod fs;
pub mod mirror;
pub mod parts;
mod place;
pub mod s3;

pub use error::{BlobError, Cause};
