//! Where backups lie: a second place, outside the database, that the operator copies away from the machine.
//!
//! ```text
//! sandyq-backups                              marks the place, and names this layout
//! <backup>/<attempt>/<part, 10 digits>        a sealed part
//! <backup>/manifest                           signed; written last, so that without it there is no backup
//! ```
//!
//! Names hold random ids and numbers alone.

use std::{path::Path, time::Duration};

use super::{
    error::BlobError,
    place::{Kind, Place, Put},
};
use crate::domain::ids::BackupId;
use crate::domain::territory::Use;

/// Most bytes of a part: 32 MiB.
pub const MAX_PART_BYTES: u64 = 32 << 20;
/// Most bytes of a manifest.
pub const MAX_MANIFEST_BYTES: u64 = 4 << 20;

const BACKUPS: Kind = Kind {
    tidy: false,
    what: "backups",
    used_for: Use::Backups,
    marker: "sandyq-backups",
    text: "sandyq-backups 1\n",
};
const MANIFEST: &str = "manifest";

/// Which attempts at a backup.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attempts {
    /// This one.
    Only(u32),
    /// Every other.
    AllBut(u32),
}

/// A place of backups.
#[derive(Clone)]
pub struct Backups(Place);

impl Backups {
    /// A directory, made with mode 0700 where it is missing; its parent must be there. Each later operation fails after
    /// `limit`; this one runs on the calling thread, without a limit.
    ///
    /// # Errors
    /// [`BlobError`].
    pub fn create(path: &Path, limit: Duration) -> Result<Self, BlobError> {
        Place::create(path, &BACKUPS)?;
        Self::open(path, limit)
    }

    /// A directory that holds backups.
    ///
    /// # Errors
    /// [`BlobError`].
    pub fn open(path: &Path, limit: Duration) -> Result<Self, BlobError> {
        Place::directory(path, &BACKUPS, limit).map(Self)
    }

    /// Backups that are complete, by id.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn list(&self) -> Result<Vec<BackupId>, BlobError> {
        let manifest = |object: &str| object.strip_suffix("/manifest")?.parse::<BackupId>().ok();
        Ok(self.0.list("", manifest).await?.found)
    }

    /// Writes a part, durable when this returns.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn put_part(
        &self,
        backup: BackupId,
        attempt: u32,
        index: u64,
        bytes: Vec<u8>,
    ) -> Result<(), BlobError> {
        self.0.put(&part(backup, attempt, index), bytes, Put::Over).await
    }

    /// Writes the manifest: from then on there is a backup.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn put_manifest(&self, backup: BackupId, text: &str) -> Result<(), BlobError> {
        self.0.put(&format!("{backup}/{MANIFEST}"), text.as_bytes().to_vec(), Put::New).await
    }

    /// The manifest; bytes that are no text make one that does not verify.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn manifest(&self, backup: BackupId) -> Result<String, BlobError> {
        let bytes = self.0.read(format!("{backup}/{MANIFEST}"), MAX_MANIFEST_BYTES).await?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The bytes of a part.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn part(&self, backup: BackupId, attempt: u32, index: u64) -> Result<Vec<u8>, BlobError> {
        self.0.read(part(backup, attempt, index), MAX_PART_BYTES).await
    }

    /// Deletes the parts of an attempt at a backup, or those of every other.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn clear(&self, backup: BackupId, attempts: Attempts) -> Result<(), BlobError> {
        let (number, but) = match attempts {
            Attempts::Only(number) => (number, false),
            Attempts::AllBut(number) => (number, true),
        };
        let of = format!("{number}/");
        let goes = |file: &str| (file != MANIFEST && file.starts_with(&of) != but).then(|| file.to_owned());
        for file in self.0.list(&backup.to_string(), goes).await?.found {
            self.0.delete(&format!("{backup}/{file}")).await?;
        }
        Ok(())
    }
}

fn part(backup: BackupId, attempt: u32, index: u64) -> String {
    format!("{backup}/{attempt}/{index:010}")
}
