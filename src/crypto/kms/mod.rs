//! Where the root keys live. Called at start, for a new platform and in rotation: never on the hot path.

pub mod local;

use crate::{
    crypto::aead::{Key, OpenError, SealError},
    domain::{
        canonical::Canonical,
        rng::{RandomUnavailable, Rng},
        secret::Sealed,
    },
};

/// Why the KMS did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum KmsError {
    /// A file could not be read or written.
    #[error("{action} {path}")]
    File {
        /// What was tried, such as "cannot read".
        action: &'static str,
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file does not have its form.
    #[error("{path}: {problem}")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The unseal key does not open the root file.
    #[error("{path} does not open with this unseal key")]
    WrongUnsealKey {
        /// The root file.
        path: String,
    },
    /// A key was wrapped by another root, or its wrap was changed.
    #[error("a key of the database does not open under this root: wrong root file, or damaged data")]
    DoesNotOpen(#[source] OpenError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomUnavailable),
    /// Not sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Keeps root keys, and wraps and unwraps the keys below them.
#[async_trait::async_trait]
pub trait Kms: Send + Sync {
    /// Wraps a key for a place under the active root version.
    ///
    /// # Errors
    /// [`KmsError`].
    async fn wrap(&self, place: &Canonical, key: &Key, rng: &dyn Rng) -> Result<Sealed, KmsError>;

    /// Opens a wrap with the root version that it names.
    ///
    /// # Errors
    /// [`KmsError`].
    async fn unwrap(&self, place: &Canonical, wrapped: &Sealed) -> Result<Key, KmsError>;
}
