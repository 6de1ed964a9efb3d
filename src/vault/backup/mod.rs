//! Backups: every table at one moment, sealed, in a place outside the database.
//!
//! A backup is an operation of the vault's own platform, which one security officer begins: it goes to the place that the
//! configuration names, under a key that the root alone opens, so that whoever begins it sees nothing and decides nothing
//! (`docs/adr/0005-one-officer-begins-a-backup.md`).

mod manifest;
mod read;
mod stream;
mod write;

pub use manifest::{LogMark, Manifest};
pub use read::{Only, OpenBackup, Sink};

use super::{
    Vault,
    access::Call,
    act::Asker,
    deed::{Deed, Deeded, Hand},
    error::{VaultError, unreadable},
    operations::begun_before,
    replay::ItemOutcome,
    tokenize::unavailable,
};
use crate::{
    audit::{entry::Entry, head::BadHead},
    blobs::{BlobError, backups::Backups},
    crypto::kms::KmsError,
    domain::{
        caller::Caller,
        ids::{BackupId, OperationId, PlatformId},
        operation::{Operation, OperationKind},
    },
    policy::decide::Denial,
    store::{StoreError, WhichOperations},
};

/// Backups that are looked at: the newest is the open one, where one is, and a retry finds its own.
const RECENT: u32 = 64;

/// Why a backup is not written or not read.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// The place failed.
    #[error(transparent)]
    Place(#[from] BlobError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The KMS failed, or the root version that wraps its key is gone.
    #[error("the backup's key is not to be had")]
    Kms(#[from] KmsError),
    /// It is sealed under a root version that was destroyed.
    #[error(
        "the backup is sealed under version {0} of the root key, which was destroyed: it never opens again"
    )]
    RootGone(u32),
    /// A manifest or a head that the audit key did not sign.
    #[error("the backup is not one that the trusted audit key signed")]
    Unsigned(#[from] BadHead),
    /// A manifest that says something else.
    #[error("the manifest is refused: {0}")]
    Manifest(&'static str),
    /// A part that does not open.
    #[error("part {index} is damaged: {problem}")]
    Part {
        /// Which, from 0.
        index: u64,
        /// How.
        problem: String,
    },
    /// What it holds cannot be.
    #[error("the backup is refused: {0}")]
    Content(&'static str),
    /// A log whose entries do not hash to its head.
    #[error("the log of platform {0} in the backup does not hash to its signed head")]
    Log(String),
    /// The lane or the database could not be reached for the operation.
    #[error("the operation could not be held")]
    Lost,
}

impl Vault {
    /// The same vault with a place for its backups.
    #[must_use]
    pub fn with_backups(self, backups: Option<Backups>) -> Self {
        Self { backups, ..self }
    }

    /// Begins a backup of the installation.
    ///
    /// # Errors
    /// [`VaultError`]; [`Denial::BackupNotConfigured`] without a place for it, [`Denial::BackupRunning`] where one is not
    /// done yet.
    pub async fn start_backup(&self, caller: &Caller, asker: Asker) -> Result<Operation, VaultError> {
        let shared = &self.shared;
        let which = WhichOperations::OfKind(OperationKind::Backup);
        let recent = shared.store.operations(PlatformId::VAULT, which, RECENT).await;
        let known = recent.map_err(unavailable)?.into_iter().map(|row| row.operation).collect();
        let start = Start { known, configured: self.backups.is_some() };
        self.run(PlatformId::VAULT, caller, asker, start).await
    }

    /// Backups that are complete, the newest first.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn list_backups(&self, caller: &Caller, asker: Asker) -> Result<Vec<Manifest>, VaultError> {
        self.run(PlatformId::VAULT, caller, asker, Look(Call::ListBackups)).await?;
        let Some(backups) = &self.backups else { return Err(Denial::BackupNotConfigured.into()) };
        let mut all = Vec::new();
        for id in backups.list().await.map_err(unreadable)? {
            match self.manifest(backups, id).await {
                Ok(manifest) => all.push(manifest),
                Err(error) => {
                    let error: &(dyn std::error::Error + 'static) = &error;
                    tracing::error!(backup = %id, error, "a backup is not believed");
                }
            }
        }
        all.sort_by_key(|manifest| std::cmp::Reverse(manifest.taken_at));
        Ok(all)
    }

    /// What a backup holds.
    ///
    /// # Errors
    /// [`VaultError`]; [`Denial::BackupNotFound`].
    pub async fn backup(&self, caller: &Caller, asker: Asker, id: BackupId) -> Result<Manifest, VaultError> {
        self.run(PlatformId::VAULT, caller, asker, Look(Call::GetBackup)).await?;
        let Some(backups) = &self.backups else { return Err(Denial::BackupNotConfigured.into()) };
        if !backups.list().await.map_err(unreadable)?.contains(&id) {
            return Err(Denial::BackupNotFound.into());
        }
        self.manifest(backups, id).await.map_err(unreadable)
    }

    async fn manifest(&self, backups: &Backups, id: BackupId) -> Result<Manifest, BackupError> {
        let signatory = self.shared.signatory();
        let signatory = signatory.map_err(|_| BackupError::Manifest("there is no audit key"))?;
        Manifest::open(&backups.manifest(id).await?, signatory.verifier())
    }
}

/// The one backup that an installation makes at a time.
const OBJECT: [u8; 16] = *b"installation    ";

/// Whether the caller may look. What a manifest says is numbers and signatures.
struct Look(Call);

impl Deed for Look {
    type Answer = ();

    fn call(&self) -> Call {
        self.0
    }

    fn changes(&self) -> bool {
        false
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<()>, VaultError> {
        hand.log(|entry| Entry { object_kind: Some("backup".to_owned()), ..entry })?;
        Ok(Deeded::answer(()))
    }
}

struct Start {
    /// Backups that there were.
    known: Vec<Operation>,
    configured: bool,
}

impl Deed for Start {
    type Answer = Operation;

    fn call(&self) -> Call {
        Call::StartBackup
    }

    fn changes(&self) -> bool {
        true
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Operation>, VaultError> {
        if !self.configured {
            return Err(Denial::BackupNotConfigured.into());
        }
        if self.known.iter().any(Operation::is_open) {
            return Err(Denial::BackupRunning.into());
        }
        let id = OperationId::random(hand.scene.rng()).map_err(unavailable)?;
        let now = hand.scene.now;
        let operation = Operation::new(id, PlatformId::VAULT, OperationKind::Backup, OBJECT, now, 0);
        hand.begin(operation, "backup")
    }

    fn again(&self, _hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<Operation, VaultError> {
        begun_before(&self.known, before)
    }
}
