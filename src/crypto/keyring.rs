//! The keys of one platform, unwrapped and in memory.

use std::collections::BTreeMap;

use super::{
    aead::{self, Key, OpenError, SealError},
    digest::{IndexKey, RowKey},
    envelope::{SubjectKey, subject_key_place},
};
use crate::domain::{
    canonical::Canonical,
    code::coded,
    ids::{PlatformId, SubjectId},
    rng::Rng,
    secret::Sealed,
};

coded!(
    /// What a stored key version is for.
    KeyKind, "key kind" {
        /// Wraps subject keys.
        Platform = "platform",
        /// Blind indexes.
        Index = "index",
        /// MACs of rows that grant something.
        Row = "row",
        /// HMACs of requests' bodies.
        Request = "request",
        /// Signs heads of every log; one series for the installation, kept with platform 0.
        Audit = "audit",
    }
);

/// The place of a key version's wrap under the root.
#[must_use]
pub fn key_version_place(platform: PlatformId, kind: KeyKind, version: u32) -> Canonical {
    Canonical::new("key_versions.wrapped")
        .int(i64::from(platform.get()))
        .text(kind.as_str())
        .int(i64::from(version))
}

/// Platform, index and row keys of one platform.
pub struct Keyring {
    platform: PlatformId,
    wrapping: BTreeMap<u32, Key>,
    active: u32,
    /// Blind indexes.
    pub index: IndexKey,
    /// Row MACs.
    pub row: RowKey,
    /// MACs of requests' bodies.
    pub request: RowKey,
}

impl Keyring {
    /// A keyring of unwrapped keys. `active` is the platform key version that wraps new subject keys.
    ///
    /// # Errors
    /// [`OpenError::UnknownKeyVersion`] where `active` is not among `wrapping`.
    pub fn new(
        platform: PlatformId,
        wrapping: BTreeMap<u32, Key>,
        active: u32,
        index: IndexKey,
        row: RowKey,
        request: RowKey,
    ) -> Result<Self, OpenError> {
        if !wrapping.contains_key(&active) {
            return Err(OpenError::UnknownKeyVersion(active));
        }
        Ok(Self { platform, wrapping, active, index, row, request })
    }

    /// Wraps a subject key under the active platform key.
    ///
    /// # Errors
    /// [`WrapError`].
    pub fn wrap(&self, subject: SubjectId, key: &SubjectKey, rng: &dyn Rng) -> Result<Sealed, WrapError> {
        let with = self.wrapping.get(&self.active).ok_or(OpenError::UnknownKeyVersion(self.active))?;
        Ok(aead::wrap(with, self.active, &subject_key_place(self.platform, subject), key.key(), rng)?)
    }

    /// Opens a subject key with the platform key version that its wrap names.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn unwrap(&self, subject: SubjectId, wrapped: &Sealed) -> Result<SubjectKey, OpenError> {
        let version = aead::wrap_version(wrapped)?;
        let with = self.wrapping.get(&version).ok_or(OpenError::UnknownKeyVersion(version))?;
        aead::unwrap(with, &subject_key_place(self.platform, subject), wrapped).map(SubjectKey::from_key)
    }
}

/// Why a key could not be wrapped.
#[derive(Debug, thiserror::Error)]
pub enum WrapError {
    /// Not sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The active version is not loaded.
    #[error(transparent)]
    Key(#[from] OpenError),
}
