//! What can go wrong with stored bytes.

use std::{fmt, io, path::PathBuf};

use crate::domain::rng::RandomUnavailable;

/// Why bytes were not stored or not read. Paths are those of configuration, names those of objects: neither holds
/// personal data.
#[derive(Debug, thiserror::Error)]
pub enum BlobError {
    /// The directory of a mirror, or of backups, cannot be made or opened.
    #[error("cannot use {} as a {what}", path.display())]
    Directory {
        /// What the place is for.
        what: &'static str,
        /// The directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A bucket cannot be used.
    #[error("cannot use the bucket {bucket} as a {what}")]
    Bucket {
        /// What the place is for.
        what: &'static str,
        /// The bucket.
        bucket: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// What should be a directory is a file.
    #[error("{} is not a directory", .0.display())]
    NotADirectory(PathBuf),
    /// The place does not say what it is: another directory, or a disk that is not mounted.
    #[error("{place} is not a {what}: it has no file sandyq-{what} of format 1")]
    NotMarked {
        /// What the place is for.
        what: &'static str,
        /// The place.
        place: String,
    },
    /// The store refused or failed.
    #[error("cannot {doing} {object} in the {what}")]
    Store {
        /// What the place is for.
        what: &'static str,
        /// `read`, `write`, `list` or `delete`.
        doing: &'static str,
        /// Name of the object, or of what is listed.
        object: String,
        /// Why.
        #[source]
        source: Cause,
    },
    /// The store did not answer in time. A write may still have been made, or still be made.
    #[error("cannot {doing} {object} in the {what}: no answer in time")]
    TimedOut {
        /// What the place is for.
        what: &'static str,
        /// `read`, `write`, `list` or `delete`.
        doing: &'static str,
        /// Name of the object, or of what is listed.
        object: String,
    },
    /// An object is larger than such an object can be.
    #[error("{object} in the {what} has more than {limit} bytes")]
    TooLarge {
        /// What the place is for.
        what: &'static str,
        /// Name of the object.
        object: String,
        /// The limit.
        limit: u64,
    },
    /// A segment without entries.
    #[error("a segment from {from} to {size} holds no entry")]
    EmptyRange {
        /// Position of its first entry.
        from: u64,
        /// Size of the log at its end.
        size: u64,
    },
    /// No randomness for a name.
    #[error("cannot name a segment")]
    Random(#[from] RandomUnavailable),
}

/// What the object store says. Its errors print their sources too, so this one has none of its own.
#[derive(Debug)]
pub struct Cause(Box<dyn std::error::Error + Send + Sync>);

impl Cause {
    pub(super) fn new(error: impl Into<Box<dyn std::error::Error + Send + Sync>>) -> Self {
        Self(error.into())
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for Cause {}
