//! The work of a backup: every table at one moment, sealed part by part, then the manifest. A moment cannot be held while
//! nobody works, so a backup that is paused, or whose worker died, begins anew under a new number of the attempt; what the
//! attempt before left is deleted.

use super::{
    BackupError,
    manifest::{Begun, LogMark, Manifest},
    stream::{push_rows, push_table},
};
use crate::{
    blobs::backups::{Attempts, Backups},
    crypto::backup::{BackupKey, BackupName, PartsHash, root_version},
    domain::{
        ids::BackupId,
        operation::{Operation, OperationState},
        rng::Rng,
    },
    store::{
        SCHEMA_VERSION,
        copy::{Row, Table, Value},
    },
    vault::{
        Vault,
        error::VaultError,
        held::{Calls, Progressing, Step},
    },
};

/// Bytes after which a part is sealed.
const PART_BYTES: usize = 4 << 20;
/// Rows that are read at once.
const ROWS_AT_ONCE: u32 = 256;
const CALLS: Calls = Calls { progress: "Operation/WriteBackup", end: "Operation/EndBackup" };

impl Vault {
    /// Works on a backup until it ends, or is paused or somebody else's.
    ///
    /// # Errors
    /// [`VaultError`]; whoever takes the operation next begins anew.
    pub(in crate::vault) async fn write_backup(&self, operation: &Operation) -> Result<(), VaultError> {
        let Some(backups) = self.backups.clone() else {
            tracing::error!(operation = %operation.id, "a backup waits, and no [backup] directory is configured");
            return Ok(());
        };
        let Some(taken) = self.backup_step(operation.clone(), Step::Take).await? else { return Ok(()) };
        let backup = BackupId::from_bytes(*taken.id.as_bytes());
        let mut work = Work { vault: self, backups: backups.clone(), taken };
        let written = work.write(backup).await;
        let Work { taken, .. } = work;
        let goes = match written {
            Ok(Some(attempt)) => {
                self.backup_step(taken, Step::End(OperationState::Done)).await?;
                Attempts::AllBut(attempt)
            }
            // Paused, cancelled or taken: whoever has it now writes under another number.
            Ok(None) => Attempts::Only(taken.fence),
            Err(error) => {
                tell_failure(&taken, &error);
                let own = Attempts::Only(taken.fence);
                self.backup_step(taken, Step::End(OperationState::Failed)).await?;
                own
            }
        };
        if let Err(error) = backups.clear(backup, goes).await {
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::warn!(error, "parts that no backup needs are left");
        }
        Ok(())
    }

    async fn backup_step(&self, operation: Operation, step: Step) -> Result<Option<Operation>, VaultError> {
        self.hold_step(operation, step, CALLS).await
    }
}

/// One attempt.
struct Work<'a> {
    vault: &'a Vault,
    backups: Backups,
    taken: Operation,
}

impl Work<'_> {
    /// Writes the backup, and answers the number of the attempt that made it; none where the operation is no longer this
    /// worker's.
    async fn write(&mut self, backup: BackupId) -> Result<Option<u32>, BackupError> {
        let shared = &self.vault.shared;
        if self.backups.list().await?.contains(&backup) {
            // An earlier worker wrote it, and did not come to say so.
            return Ok(Some(self.vault.manifest(&self.backups, backup).await?.attempt));
        }
        let name = BackupName { installation: self.vault.installation(), backup, attempt: self.taken.fence };
        let (key, wrapped_key) =
            BackupKey::create(name.clone(), shared.kms.as_ref(), shared.rng.as_ref()).await?;
        let root_version =
            root_version(&wrapped_key).map_err(|_| BackupError::Content("a wrap is malformed"))?;
        let taken_at = shared.clock.now();
        let begun = Begun { name, schema: SCHEMA_VERSION, taken_at, root_version, wrapped_key };
        let mut copying = shared.store.copy().await?;
        let tables = copying.tables().to_vec();
        let mut total = 0_u64;
        for table in &tables {
            total = total.saturating_add(copying.count(table).await?);
        }
        let mut parts = Parts {
            backups: self.backups.clone(),
            key,
            backup,
            attempt: self.taken.fence,
            open: Vec::new(),
            sealed: (0, 0, PartsHash::NONE),
        };
        let mut progress = Progress { total, done: 0, told: Progressing::default() };
        let (mut counts, mut logs) = (Vec::new(), Logs::default());
        for table in &tables {
            push_table(&mut parts.open, table).map_err(|_| unwritable())?;
            let (mut after, mut count): (Option<Row>, u64) = (None, 0);
            loop {
                let rows = copying.page(table, after.as_ref(), ROWS_AT_ONCE).await?;
                if rows.is_empty() {
                    break;
                }
                logs.take(table, &rows);
                push_rows(&mut parts.open, &rows).map_err(|_| unwritable())?;
                parts.flush(shared.rng.as_ref(), false).await?;
                let read = u64::try_from(rows.len()).unwrap_or(u64::MAX);
                (count, progress.done) = (count + read, progress.done + read);
                after = rows.into_iter().next_back();
                if !self.tell(&mut progress).await? {
                    copying.end().await?;
                    return Ok(None);
                }
            }
            counts.push((table.name.clone(), count));
        }
        copying.end().await?;
        parts.flush(shared.rng.as_ref(), true).await?;
        let mut manifest = Manifest::new(begun, parts.sealed);
        manifest.rows.extend(counts);
        manifest.logs = logs.marks()?;
        progress.told.hasten();
        if !self.tell(&mut progress).await? {
            return Ok(None);
        }
        let key = self.vault.audit_key().map_err(|_| BackupError::Manifest("there is no audit key"))?;
        let manifest = manifest.sign(key.as_ref())?;
        self.backups.put_manifest(backup, &manifest).await?;
        Ok(Some(self.taken.fence))
    }

    /// Says how far it is, and holds the operation, every few seconds. False where it is not this worker's any more.
    async fn tell(&mut self, progress: &mut Progress) -> Result<bool, BackupError> {
        if !progress.told.is_due() {
            return Ok(true);
        }
        let (done, total) = (progress.done, progress.total.max(progress.done));
        let step = Step::Progress { done, total };
        let next = self.vault.backup_step(self.taken.clone(), step).await;
        match next.map_err(|_| BackupError::Lost)? {
            Some(next) => self.taken = next,
            None => return Ok(false),
        }
        Ok(true)
    }
}

fn tell_failure(operation: &Operation, error: &BackupError) {
    let error: &(dyn std::error::Error + 'static) = error;
    tracing::error!(operation = %operation.id, error, "a backup failed");
}

struct Progress {
    total: u64,
    done: u64,
    told: Progressing,
}

fn unwritable() -> BackupError {
    BackupError::Content("a row cannot be encoded")
}

/// Parts as they are sealed.
struct Parts {
    backups: Backups,
    key: BackupKey,
    backup: BackupId,
    attempt: u32,
    open: Vec<u8>,
    /// Number, bytes and hash of those that are written.
    sealed: (u64, u64, PartsHash),
}

impl Parts {
    /// Seals and writes what is open, if it is enough or the last.
    async fn flush(&mut self, rng: &dyn Rng, last: bool) -> Result<(), BackupError> {
        if !last && self.open.len() < PART_BYTES {
            return Ok(());
        }
        let (index, bytes, hash) = self.sealed;
        let part = self
            .key
            .seal(index, last, &self.open, rng)
            .map_err(|_| BackupError::Content("a part is not sealed"))?;
        self.open.clear();
        let part = part.as_bytes().to_vec();
        let length = u64::try_from(part.len()).unwrap_or(u64::MAX);
        self.sealed = (index + 1, bytes.saturating_add(length), hash.with(&part));
        Ok(self.backups.put_part(self.backup, self.attempt, index, part).await?)
    }
}

/// Heads and names of platforms, picked from the rows as they go by.
#[derive(Default)]
struct Logs {
    names: Vec<(i64, String)>,
    heads: Vec<(i64, i64, String)>,
}

impl Logs {
    fn take(&mut self, table: &Table, rows: &[Row]) {
        let at = |name: &str| table.columns.iter().position(|column| column.name == name);
        let int = |row: &Row, name: &str| match at(name).and_then(|at| row.get(at)) {
            Some(Value::Int(number)) => Some(*number),
            _ => None,
        };
        let text = |row: &Row, name: &str| match at(name).and_then(|at| row.get(at)) {
            Some(Value::Text(text)) => Some(text.clone()),
            _ => None,
        };
        match table.name.as_str() {
            "platforms" => {
                self.names.extend(
                    rows.iter().filter_map(|row| Some((int(row, "platform_id")?, text(row, "name")?))),
                );
            }
            "heads" => self.heads.extend(rows.iter().filter_map(|row| {
                Some((int(row, "platform_id")?, int(row, "size")?, text(row, "checkpoint")?))
            })),
            _ => {}
        }
    }

    fn marks(self) -> Result<Vec<LogMark>, BackupError> {
        let name =
            |platform: i64| self.names.iter().find(|(number, _)| *number == platform).map(|(_, name)| name);
        let mark = |(platform, size, checkpoint): &(i64, i64, String)| {
            Some(LogMark {
                platform: u32::try_from(*platform).ok()?,
                name: name(*platform)?.clone(),
                size: u64::try_from(*size).ok()?,
                checkpoint: checkpoint.clone(),
            })
        };
        let marks: Option<Vec<_>> = self.heads.iter().map(mark).collect();
        marks.ok_or(BackupError::Content("a head has no platform"))
    }
}
