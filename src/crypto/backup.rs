//! The key of one backup, and the parts that it seals.
//!
//! The key is fresh for each backup and wrapped by the root alone: a root version that is destroyed takes every backup
//! under it along, which the erasure horizon relies on. A part is bound to its backup, its attempt and its place, and says
//! whether it is the last: one that was cut off, moved, swapped or left out is found.

use zeroize::Zeroizing;

use super::{
    aead::{self, Key, OpenError, SealError},
    digest::sha256,
    kms::{Kms, KmsError},
};
use crate::domain::{canonical::Canonical, ids::BackupId, rng::Rng, secret::Sealed};

/// Which backup, as its parts and its key name it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BackupName {
    /// Name of the installation.
    pub installation: String,
    /// The backup.
    pub backup: BackupId,
    /// The attempt at it that was completed.
    pub attempt: u32,
}

impl BackupName {
    fn place(&self, label: &str) -> Canonical {
        Canonical::new(label)
            .text(&self.installation)
            .bytes(self.backup.as_bytes())
            .int(i64::from(self.attempt))
    }

    fn part(&self, index: u64, last: bool) -> Canonical {
        self.place("backup part").int(i64::try_from(index).unwrap_or(i64::MAX)).flag(last)
    }
}

/// The key of one backup.
pub struct BackupKey {
    key: Key,
    name: BackupName,
}

impl BackupKey {
    /// A new key, and its wrap under the active root version.
    ///
    /// # Errors
    /// [`KmsError`].
    pub async fn create(name: BackupName, kms: &dyn Kms, rng: &dyn Rng) -> Result<(Self, Sealed), KmsError> {
        let key = Key::random(rng)?;
        let wrapped = kms.wrap(&name.place("backup key"), &key, rng).await?;
        Ok((Self { key, name }, wrapped))
    }

    /// The key of a backup, by the root version that its wrap names.
    ///
    /// # Errors
    /// [`KmsError`].
    pub async fn open(name: BackupName, wrapped: &Sealed, kms: &dyn Kms) -> Result<Self, KmsError> {
        let key = kms.unwrap(&name.place("backup key"), wrapped).await?;
        Ok(Self { key, name })
    }

    /// Seals a part.
    ///
    /// # Errors
    /// [`SealError`].
    pub fn seal(&self, index: u64, last: bool, bytes: &[u8], rng: &dyn Rng) -> Result<Sealed, SealError> {
        aead::seal(&self.key, &self.name.part(index, last), bytes, rng)
    }

    /// Opens a part.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn unseal(&self, index: u64, last: bool, part: &Sealed) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        aead::open(&self.key, &self.name.part(index, last), part)
    }
}

/// One hash over the parts of a backup: of the hash of those before, and the hash of the next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartsHash(pub [u8; 32]);

impl PartsHash {
    /// Of no parts.
    pub const NONE: Self = Self([0; 32]);

    /// With one more part.
    #[must_use]
    pub fn with(self, part: &[u8]) -> Self {
        Self(sha256(&[self.0, sha256(part)].concat()))
    }
}

/// The root version that wraps a backup's key.
///
/// # Errors
/// [`OpenError::Malformed`].
pub fn root_version(wrapped: &Sealed) -> Result<u32, OpenError> {
    aead::wrap_version(wrapped)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::SystemRng;

    fn name(backup: u8, attempt: u32) -> BackupName {
        let backup = BackupId::from_bytes([backup; 16]);
        BackupName { installation: "vault.example.kz".to_owned(), backup, attempt }
    }

    #[test]
    fn a_part_opens_at_its_place_alone() {
        let rng = SystemRng::new();
        let key = |name| BackupKey { key: Key::from_bytes(&[7; 32]), name };
        let part = key(name(1, 2)).seal(3, false, b"synthetic", &rng).unwrap();
        assert_eq!(*key(name(1, 2)).unseal(3, false, &part).unwrap(), b"synthetic");
        for (other, index, last) in [
            (name(2, 2), 3, false),
            (name(1, 1), 3, false),
            (name(1, 2), 4, false),
            (name(1, 2), 3, true),
            (BackupName { installation: "other.example.kz".to_owned(), ..name(1, 2) }, 3, false),
        ] {
            assert_eq!(key(other).unseal(index, last, &part).err(), Some(OpenError::Forged));
        }
    }

    #[test]
    fn the_hash_tells_order_and_number() {
        let of = |parts: &[&[u8]]| parts.iter().fold(PartsHash::NONE, |hash, part| hash.with(part)).0;
        let all = [of(&[]), of(&[b"a"]), of(&[b"a", b"b"]), of(&[b"b", b"a"]), of(&[b"ab"])];
        for (i, a) in all.iter().enumerate() {
            assert_eq!(all.iter().position(|b| a == b), Some(i));
        }
    }
}
