//! A restore: a backup put into an empty database, and what the mirror tells since replayed over it.
//!
//! The row that makes a database an installation is written last. Until then nobody serves it: a restore that was killed
//! leaves a database that says what it is, and that is emptied and filled anew.
//!
//! Of what came after the backup only the log is mirrored: ids, times, MACs and verdicts, no sealed value. So every act that
//! took something away can be done again, and nothing that was given can. What is lost is an entry each, in the log itself.

mod apply;
mod config;
mod documents;
mod mirrored;
mod newer;
mod site;

use std::{sync::Arc, time::Duration};

pub use mirrored::Looked;
use mirrored::Source;
use serde::Serialize;
pub use site::Counts;
use site::{Site, Step};

use super::{
    backup::{BackupError, Manifest, OpenBackup, Sink},
    closure::about_closure,
    context::{Context, LoadError},
};
use crate::{
    audit::{entry::Entry, receipt::BadReceipt},
    blobs::{BlobError, mirror::MirrorReader},
    crypto::{aead::wrap_version, keyring::KeyKind, kms::Kms},
    domain::{
        ids::PlatformId,
        names::PlatformName,
        operation::{Operation, OperationKind, OperationState},
        rng::{RandomUnavailable, Rng},
        secret::Sealed,
        time::Timestamp,
    },
    store::{
        SCHEMA_VERSION, Store, StoreError, WhichOperations, Write,
        copy::{Column, INSTALLATION, Row},
        rows::{
            config::{ClosureReason, ClosureRow, KeyState},
            work::OperationRow,
        },
    },
};

/// Backups among which open ones are looked for.
const RECENT: u32 = 64;
const FROM_BACKUP: &str = "Restore/FromBackup";
const CLOSED: &str = "Restore/Close";

/// Why nothing is restored, or why a restore stopped.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// The backup does not hold.
    #[error(transparent)]
    Backup(#[from] BackupError),
    /// The database failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The mirror failed. One that is missing or damaged is no failure.
    #[error(transparent)]
    Mirror(#[from] BlobError),
    /// Keys, policies or heads of the backup do not load.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomUnavailable),
    /// The audit key is none.
    #[error("not a verifier key; expected name+id+base64")]
    Key,
    /// A receipt cannot be stated.
    #[error("a receipt of an erasure cannot be signed: {0}")]
    Receipt(#[from] BadReceipt),
    /// It must not be restored, or not here.
    #[error("{0}")]
    Refused(String),
    /// A row of the backup was changed behind the vault before the backup was taken.
    #[error("a row of platform {0} in the backup does not match its MAC")]
    Forged(String),
    /// The log cannot be replayed over the rows.
    #[error("the log cannot be replayed: {0}")]
    Replay(&'static str),
}

/// What a restore needs.
pub struct Restore<'a> {
    /// The backup.
    pub backup: &'a OpenBackup,
    /// The mirror, where there is one.
    pub mirror: Option<&'a MirrorReader>,
    /// The audit key, given from outside the installation.
    pub key: &'a str,
    /// How old a backup may be.
    pub horizon: Option<Duration>,
    /// Now.
    pub now: Timestamp,
    /// The root.
    pub kms: &'a dyn Kms,
    /// Randomness.
    pub rng: &'a dyn Rng,
}

/// What a restore would do, or did, with one platform.
#[derive(Debug, Clone, Serialize)]
pub struct PlatformReport {
    /// Platform.
    pub platform: String,
    /// Entries of its log in the backup.
    pub backed_up: u64,
    /// Entries that the mirror has, verified.
    pub mirrored: u64,
    /// What is wrong with the mirror.
    pub findings: Vec<String>,
    /// Why the platform is closed; none where it is open.
    pub closed: Option<String>,
    /// Acts whose rows are as the log proves, by call.
    pub applied: std::collections::BTreeMap<String, u64>,
    /// Rows that were put to their strictest state, by kind.
    pub strict: std::collections::BTreeMap<String, u64>,
    /// Rows that cannot be brought back, by kind.
    pub lost: std::collections::BTreeMap<String, u64>,
}

/// What a restore would do, or did.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The backup.
    pub backup: String,
    /// The moment that it is of.
    pub taken_at: String,
    /// Its age in seconds.
    pub age_seconds: i64,
    /// Rows of the backup.
    pub rows: u64,
    /// Platforms by number.
    pub platforms: Vec<PlatformReport>,
}

/// Told how far a restore is: what it does, rows done, rows in all.
pub type Progress<'a> = &'a mut (dyn FnMut(&'static str, u64, u64) + Send);

/// A backup that was read whole, and a mirror that was looked at. Nothing is written yet.
pub struct Plan {
    platforms: Vec<(PlatformId, PlatformName, u64, Looked)>,
    report: Report,
}

impl Plan {
    /// What would be done.
    #[must_use]
    pub const fn report(&self) -> &Report {
        &self.report
    }
}

impl Restore<'_> {
    const fn manifest(&self) -> &Manifest {
        self.backup.manifest()
    }

    const fn source(&self) -> Source<'_> {
        Source { reader: self.mirror, key: self.key, installation: self.manifest().installation.as_str() }
    }

    /// Reads the whole backup and looks at the whole mirror, and writes nothing.
    ///
    /// # Errors
    /// [`RestoreError`] where it must not be restored.
    pub async fn plan(&self, progress: Progress<'_>) -> Result<Plan, RestoreError> {
        let manifest = self.manifest();
        if manifest.schema != SCHEMA_VERSION {
            return Err(RestoreError::Refused(format!(
                "the backup has schema {}, this binary {SCHEMA_VERSION}: restore it with the release that wrote it, \
                 and run `sandyq migrate` with this one then",
                manifest.schema
            )));
        }
        let age = self.now.as_micros() - manifest.taken_at.as_micros();
        if let Some(horizon) = self.horizon
            && manifest.taken_at.plus(horizon) < self.now
        {
            return Err(RestoreError::Refused(format!(
                "the backup is of {}, older than the horizon of {} days: what was erased since must not come back, and \
                 no older backup is restored",
                manifest.taken_at,
                horizon.as_secs() / 86_400
            )));
        }
        let rows = manifest.row_count();
        self.backup.read(&mut Reading { progress, rows }).await?;
        let mut platforms = Vec::new();
        for log in &manifest.logs {
            let name: PlatformName =
                log.name.parse().map_err(|_| BackupError::Manifest("a log has no platform's name"))?;
            let looked = self.source().look(&name, log).await?;
            platforms.push((PlatformId::new(log.platform), name, log.size, looked));
        }
        // Staff is kept with the vault's own platform: where that may miss a removal, nobody is sure of anybody.
        let vault = platforms.iter().find(|(id, ..)| *id == PlatformId::VAULT);
        if let Some(problem) = vault.and_then(|(.., looked)| looked.problem) {
            for (.., looked) in &mut platforms {
                looked.problem.get_or_insert(problem);
            }
        }
        let report = Report {
            backup: manifest.backup.to_string(),
            taken_at: manifest.taken_at.to_string(),
            age_seconds: age / 1_000_000,
            rows,
            platforms: platforms.iter().map(planned).collect(),
        };
        Ok(Plan { platforms, report })
    }

    /// Fills an empty database, and replays the mirror.
    ///
    /// # Errors
    /// [`RestoreError`]; the database is then none that anybody serves, and must be emptied before the next attempt.
    pub async fn run(
        &self,
        plan: Plan,
        store: &dyn Store,
        progress: Progress<'_>,
    ) -> Result<Report, RestoreError> {
        refuse_used(store).await?;
        let rows = self.manifest().row_count();
        let mut filling =
            Filling { store, tables: store.tables().await?, progress, rows, installation: Vec::new() };
        self.backup.read(&mut filling).await?;
        let Filling { installation, progress, .. } = filling;
        let own = &self.manifest().installation;
        let staff = Context::load(store, self.kms, own, PlatformId::VAULT, None).await?;
        let signatory = Arc::clone(staff.signatory()?);
        let mut report = plan.report;
        let days = self.horizon.and_then(|horizon| u32::try_from(horizon.as_secs() / 86_400).ok());
        let count = u64::try_from(plan.platforms.len()).unwrap_or(u64::MAX);
        let told = report.platforms.iter_mut();
        for ((at, (id, name, _, looked)), told) in (0..).zip(&plan.platforms).zip(told) {
            progress("replay", at, count);
            let context = Context::load(store, self.kms, own, *id, None).await?;
            let site =
                Site::open(store, &signatory, self.rng, context, name.clone(), (days, self.now)).await?;
            let (counts, closed) = self.replay(site, looked).await?;
            told.closed = closed.map(|reason| reason.as_str().to_owned());
            (told.applied, told.strict, told.lost) = (counts.applied, counts.strict, counts.lost);
        }
        store.insert_rows(INSTALLATION, &installation).await?;
        progress("replay", count, count);
        Ok(report)
    }

    async fn replay(
        &self,
        mut site: Site<'_>,
        looked: &Looked,
    ) -> Result<(Counts, Option<ClosureReason>), RestoreError> {
        let backed_up = site.size();
        let source = self.source();
        let walk = source.walk(&site.name, looked.size).await?;
        let newer = if looked.size > backed_up { site.extend(walk).await? } else { newer::Newer::default() };
        if site.size() != looked.size {
            return Err(RestoreError::Replay("the mirror changed while it was read"));
        }
        let mut counts = Counts::default();
        let mut begin = Step::default();
        begin.log(Entry {
            object_kind: Some("backup".to_owned()),
            object: Some(self.manifest().backup.as_bytes().to_vec()),
            count: Some(backed_up),
            ..site.entry(FROM_BACKUP)?
        });
        if site.platform == PlatformId::VAULT {
            begin.writes.extend(unfinished(site.store).await?.iter().map(|open| failed(open, site.now())));
        }
        site.commit(begin, &mut counts).await?;
        self.refuse_destroyed(&site, &newer).await?;
        let policy_lost = site.apply_config(&newer, &mut counts).await?;
        site.apply_rows(&newer, &mut counts).await?;
        site.apply_documents(&newer, &mut counts).await?;
        let reason = looked.problem.or(policy_lost.then_some(ClosureReason::PolicyLost));
        if let Some(reason) = reason {
            close(&mut site, reason, &mut counts).await?;
        }
        Ok((counts, reason))
    }

    /// Refuses a backup whose data a key version wraps that was destroyed since.
    async fn refuse_destroyed(&self, site: &Site<'_>, newer: &newer::Newer) -> Result<(), RestoreError> {
        let wraps = site.store.count_wraps(site.platform).await?;
        let version = |header| wrap_version(&Sealed::from_bytes(header)).unwrap_or(0);
        let wraps = wraps.into_iter().map(|(header, count)| (KeyKind::Platform, version(header), count));
        let hashed = site.store.count_hashed(site.platform).await?;
        let hashed = hashed.into_iter().map(|(version, count)| (KeyKind::Index, version, count));
        for (kind, version, count) in wraps.chain(hashed) {
            let Some(row) = site.context.key(kind, version) else { continue };
            let object = format!("{}/{version}", row.kind).into_bytes();
            let Some(last) = newer.config.get(&("key", object)) else { continue };
            let mut gone = row.clone();
            (gone.state, gone.wrapped) = (KeyState::Destroyed, None);
            let destroyed = [row.destroy_at, None].into_iter().any(|destroy_at| {
                gone.destroy_at = destroy_at;
                site.mac(&gone.image()) == last.mac
            });
            if destroyed && count > 0 {
                return Err(RestoreError::Refused(format!(
                    "version {version} of the {} key of platform {} was destroyed at {}, and {count} rows of the backup \
                     need it: no backup from before its rotation is restored any more",
                    row.kind, site.name, last.at
                )));
            }
        }
        Ok(())
    }
}

/// Refuses a database that a backup must not go into.
///
/// # Errors
/// [`RestoreError::Refused`] says what to do.
pub async fn refuse_used(store: &dyn Store) -> Result<(), RestoreError> {
    let message = if store.installation().await?.is_some() {
        "the database holds an installation already; a backup goes into an empty one"
    } else if store.is_used().await? {
        "the database is not empty, and holds no installation: a restore into it broke off. Remove it (the file with those \
         beside it, or DROP DATABASE), make it anew, and restore again"
    } else {
        return Ok(());
    };
    Err(RestoreError::Refused(message.to_owned()))
}

fn planned((_, name, backed_up, looked): &(PlatformId, PlatformName, u64, Looked)) -> PlatformReport {
    PlatformReport {
        platform: name.to_string(),
        backed_up: *backed_up,
        mirrored: looked.size,
        findings: looked.findings.clone(),
        closed: looked.problem.map(|reason| reason.as_str().to_owned()),
        applied: std::collections::BTreeMap::new(),
        strict: std::collections::BTreeMap::new(),
        lost: std::collections::BTreeMap::new(),
    }
}

/// Backups that were being written when this one was: itself among them.
async fn unfinished(store: &dyn Store) -> Result<Vec<Operation>, RestoreError> {
    let which = WhichOperations::OfKind(OperationKind::Backup);
    let rows = store.operations(PlatformId::VAULT, which, RECENT).await?;
    Ok(rows.into_iter().map(|row| row.operation).filter(Operation::is_open).collect())
}

fn failed(open: &Operation, now: Timestamp) -> Write {
    let next = Operation { fence: open.fence.saturating_add(1), ..open.clone() };
    Write::UpdateOperation(OperationRow { operation: next.ended(OperationState::Failed, now) }, open.fence)
}

async fn close(site: &mut Site<'_>, reason: ClosureReason, counts: &mut Counts) -> Result<(), RestoreError> {
    let was = site.context.closure().map(|row| row.mac);
    let mut row =
        ClosureRow { platform: site.platform, reason, closed_at: site.now(), opened_at: None, mac: [0; 32] };
    row.mac = site.mac(&row.image());
    let mut step = Step::configuring();
    step.log(about_closure(&row, site.entry(CLOSED)?));
    step.writes.push(Write::PutClosure(row, was));
    site.commit(step, counts).await
}

/// Takes nothing; says how far the reading is.
struct Reading<'a> {
    progress: Progress<'a>,
    rows: u64,
}

#[async_trait::async_trait]
impl Sink for Reading<'_> {
    async fn table(&mut self, _name: &str, _columns: &[Column]) -> Result<(), BackupError> {
        Ok(())
    }

    async fn rows(&mut self, _table: &str, _rows: Vec<Row>) -> Result<(), BackupError> {
        Ok(())
    }

    fn progress(&mut self, rows: u64) {
        (self.progress)("verify", rows, self.rows);
    }
}

/// Puts rows into a database; those that make it an installation are kept for the end.
struct Filling<'a> {
    store: &'a dyn Store,
    tables: Vec<crate::store::copy::Table>,
    progress: Progress<'a>,
    rows: u64,
    installation: Vec<Row>,
}

#[async_trait::async_trait]
impl Sink for Filling<'_> {
    async fn table(&mut self, name: &str, columns: &[Column]) -> Result<(), BackupError> {
        let known = self.tables.iter().find(|table| table.name == name);
        if known.is_some_and(|table| table.columns == columns) {
            return Ok(());
        }
        Err(BackupError::Content("it has other tables than this release"))
    }

    async fn rows(&mut self, table: &str, rows: Vec<Row>) -> Result<(), BackupError> {
        if table == INSTALLATION {
            self.installation.extend(rows);
            return Ok(());
        }
        Ok(self.store.insert_rows(table, &rows).await?)
    }

    fn progress(&mut self, rows: u64) {
        (self.progress)("fill", rows, self.rows);
    }
}
