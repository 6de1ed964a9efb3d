//! The mirror kept up with the logs: each second, and at once where somebody waits for it.
//!
//! How far the mirror has come is read from the mirror, from heads that the audit key signed; the database is never
//! asked about that. The other way round the mirror is what the database is held against: a log that is shorter than
//! what was mirrored, or another, was put back or rewritten, and its platform serves nothing until that is mended.
//! Entries are read from the database, hashed onto the mirrored tree, and written only where they lead to a signed
//! head. A mirror that cannot be written stops nothing but the answers of acts that tighten.

use std::{
    collections::BTreeMap,
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use tokio::{
    sync::{Notify, oneshot, watch},
    task::JoinHandle,
    time::{MissedTickBehavior, interval, timeout},
};

use super::{
    Shared,
    act::Act,
    context::LoadError,
    error::VaultError,
    meters::MirrorMeasure,
    stored_log::{StoredLog, bad_entry},
};
use crate::{
    audit::{
        chain,
        entry::Entry,
        head::Head,
        segment::{BadSegment, MAX_SEGMENT_BYTES, MAX_SEGMENT_ENTRIES, Segment},
        tree::{Hash, LogTree, leaf_hash},
    },
    blobs::{BlobError, mirror::Mirror},
    domain::{ids::PlatformId, names::PlatformName, time::Timestamp},
    store::StoreError,
};

/// How often every log is looked after.
const TICK: Duration = Duration::from_secs(1);
/// How long an act that tightens waits for the mirror before it is told to ask again.
const ACKNOWLEDGED_WITHIN: Duration = Duration::from_secs(5);
/// How often the same trouble is told again.
const TOLD_EVERY_MICROS: i64 = 60 * 1_000_000;
const ENTRIES_AT_ONCE: u32 = 1_024;
const HEADS_AT_ONCE: u32 = 256;
/// What is left of a segment for its lines and its head.
const SEGMENT_OVERHEAD: usize = 4_096;

/// Why the mirror does not have everything.
#[derive(Debug, thiserror::Error)]
enum Trouble {
    #[error(transparent)]
    Mirror(#[from] BlobError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the stored head is not signed by the audit key")]
    Head,
    #[error("stored entries do not hash to the signed head after them")]
    Entries,
    #[error("no signed head ends a segment within its limits")]
    NoCut,
    #[error("a segment cannot be written")]
    Segment(#[from] BadSegment),
    #[error("{0}")]
    Refused(&'static str),
}

const SHORTER: &str = "it is shorter than what was mirrored: the database was put back to an older state";
const ANOTHER: &str = "it is not the log that was mirrored: it was rewritten";

/// A platform's log in the mirror, as its lane sees it; nothing where there is no mirror.
pub(super) struct Mirrored(Option<Arc<MirroredLog>>);

impl Mirrored {
    /// Of a log that is looked after from now on.
    pub(super) fn of(shared: &Shared, platform: PlatformId, name: &PlatformName) -> Self {
        Self(shared.mirroring.as_ref().map(|mirroring| mirroring.add(platform, name)))
    }

    /// Entries that the mirror holds.
    pub(super) fn reached(&self) -> u64 {
        self.0.as_ref().map_or(0, |log| log.reached())
    }

    /// How far the mirror is behind a log of this size.
    pub(super) fn measure(&self, size: u64) -> Option<MirrorMeasure> {
        self.0.as_ref().map(|log| MirrorMeasure {
            behind: size.max(log.stored.load(Ordering::Relaxed)).saturating_sub(log.reached()),
            complete_at: Timestamp::from_micros(log.complete_at.load(Ordering::Relaxed)),
            contradicted: lock(&log.refused).is_some(),
        })
    }

    /// Whether a log of this size, read from the database after `reached` was, may be served.
    pub(super) fn admit(&self, size: u64, reached: u64) -> Result<(), LoadError> {
        self.0.as_ref().map_or(Ok(()), |log| log.admit(size, reached))
    }

    /// Answers an act whose commit, up to a log of `size`, is durable: one that tightened when the mirror has it, any
    /// other now.
    pub(super) fn acknowledge(&self, act: Box<dyn Act>, size: u64) {
        match &self.0 {
            Some(log) if act.tightens() => {
                let log = Arc::clone(log);
                tokio::spawn(async move { act.finish(log.wait(size).await) });
            }
            Some(_) | None => act.finish(Ok(())),
        }
    }
}

/// How far one platform's log is mirrored.
struct MirroredLog {
    platform: PlatformId,
    name: PlatformName,
    /// Entries that the mirror holds.
    reached: watch::Sender<u64>,
    /// Entries that somebody waits for.
    wanted: AtomicU64,
    wake: Arc<Notify>,
    /// Why the log is not to be served.
    refused: Mutex<Option<&'static str>>,
    /// The longest log that database and mirror agreed on.
    known: Mutex<(u64, Hash)>,
    /// Entries that the database has, as last seen.
    stored: AtomicU64,
    /// When the mirror last had all of them, in microseconds.
    complete_at: AtomicI64,
}

impl MirroredLog {
    fn reached(&self) -> u64 {
        *self.reached.borrow()
    }

    fn admit(&self, size: u64, reached: u64) -> Result<(), LoadError> {
        let refused = *lock(&self.refused);
        match refused.or((size < reached).then_some(SHORTER)) {
            None => Ok(()),
            Some(problem) => Err(self.refusal(problem)),
        }
    }

    /// Waits until the mirror holds a log of this size.
    async fn wait(&self, size: u64) -> Result<(), VaultError> {
        let mut reached = self.reached.subscribe();
        self.wanted.fetch_max(size, Ordering::SeqCst);
        self.wake.notify_one();
        match timeout(ACKNOWLEDGED_WITHIN, reached.wait_for(|reached| *reached >= size)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(_)) | Err(_) => Err(VaultError::MirrorBehind),
        }
    }

    fn is_waited_for(&self) -> bool {
        self.wanted.load(Ordering::SeqCst) > self.reached()
    }

    fn refusal(&self, problem: &'static str) -> LoadError {
        LoadError::Mirror { platform: self.name.clone(), problem }
    }
}

/// The mirror of every log of the installation.
pub(super) struct Mirroring {
    mirror: Mirror,
    logs: Mutex<Vec<Arc<MirroredLog>>>,
    wake: Arc<Notify>,
    task: Mutex<Option<(oneshot::Sender<()>, JoinHandle<()>)>>,
    told: Mutex<BTreeMap<(PlatformId, String), Timestamp>>,
}

impl Mirroring {
    pub(super) fn new(mirror: Mirror) -> Self {
        Self {
            mirror,
            logs: Mutex::default(),
            wake: Arc::default(),
            task: Mutex::default(),
            told: Mutex::default(),
        }
    }

    /// Looks after a log from now on.
    fn add(&self, platform: PlatformId, name: &PlatformName) -> Arc<MirroredLog> {
        let mut logs = lock(&self.logs);
        // A lane that could not start is tried again.
        if let Some(known) = logs.iter().find(|log| log.platform == platform) {
            return Arc::clone(known);
        }
        let log = Arc::new(MirroredLog {
            platform,
            name: name.clone(),
            reached: watch::Sender::new(0),
            wanted: AtomicU64::new(0),
            wake: Arc::clone(&self.wake),
            refused: Mutex::default(),
            known: Mutex::new((0, LogTree::empty().root())),
            stored: AtomicU64::new(0),
            complete_at: AtomicI64::new(0),
        });
        logs.push(Arc::clone(&log));
        log
    }

    /// Holds every log against the mirror, then starts to keep the mirror up with them.
    pub(super) async fn start(&self, shared: &Arc<Shared>) -> Result<(), LoadError> {
        for log in self.logs() {
            self.compare(shared, &log).await.map_err(|trouble| match trouble {
                Trouble::Refused(problem) => log.refusal(problem),
                Trouble::Store(error) => LoadError::Store(error),
                Trouble::Mirror(error) => LoadError::MirrorUnreadable(error),
                Trouble::Head | Trouble::Entries | Trouble::NoCut | Trouble::Segment(_) => {
                    let problem = "its checkpoint is of another head";
                    LoadError::Head { platform: log.name.clone(), problem }
                }
            })?;
        }
        let (close, closing) = oneshot::channel();
        let task = tokio::spawn(keep_up(Arc::downgrade(shared), Arc::clone(&self.wake), closing));
        *lock(&self.task) = Some((close, task));
        Ok(())
    }

    /// Mirrors what is left, and ends.
    pub(super) async fn close(&self) {
        let Some((close, task)) = lock(&self.task).take() else { return };
        let _closing = close.send(());
        if let Err(error) = task.await {
            tracing::error!(%error, "the mirror's task ended badly");
        }
    }

    fn logs(&self) -> Vec<Arc<MirroredLog>> {
        lock(&self.logs).clone()
    }

    /// Catches up with all logs, or with those that somebody waits for.
    async fn pass(&self, shared: &Shared, all: bool) {
        for log in self.logs().into_iter().filter(|log| all || log.is_waited_for()) {
            let Err(trouble) = self.catch_up(shared, &log).await else { continue };
            self.tell(shared.clock.now(), &log, &trouble);
            if matches!(trouble, Trouble::Mirror(_)) {
                // One disk for all: the other logs wait for the next second.
                return;
            }
        }
    }

    /// An error in the operator's log, the same once a minute.
    fn tell(&self, now: Timestamp, log: &MirroredLog, trouble: &Trouble) {
        let key = if matches!(trouble, Trouble::Mirror(_)) {
            (PlatformId::VAULT, String::new())
        } else {
            (log.platform, trouble.to_string())
        };
        let mut told = lock(&self.told);
        told.retain(|_, at| now.as_micros().saturating_sub(at.as_micros()) < TOLD_EVERY_MICROS);
        if told.contains_key(&key) {
            return;
        }
        told.insert(key, now);
        let error: &(dyn std::error::Error + 'static) = trouble;
        if matches!(trouble, Trouble::Refused(_)) {
            tracing::error!(platform = %log.name, error, "the log contradicts its mirror: the platform is not served");
        } else {
            tracing::error!(platform = %log.name, error, "the mirror is behind: withdrawals wait for it");
        }
    }

    /// The newest head that any replica left in the mirror.
    async fn newest(&self, shared: &Shared, log: &MirroredLog) -> Result<(u64, Hash), BlobError> {
        let heads = self.mirror.reader().heads(&log.name).await?.found;
        let signatory = shared.signatory().ok();
        let open = |checkpoint: &str| signatory.as_ref()?.open(&log.name, checkpoint);
        let newest = heads.iter().filter_map(|head| open(&head.checkpoint)).max_by_key(|head| head.size);
        Ok(newest.map_or_else(|| (0, LogTree::empty().root()), |head| (head.size, head.root)))
    }

    /// Holds a log against the mirror. Answers the mirrored tree, the log, and its signed head.
    async fn compare<'a>(
        &self,
        shared: &'a Shared,
        log: &MirroredLog,
    ) -> Result<(LogTree, StoredLog<'a>, Head), Trouble> {
        // The mirror first: what it holds was in the database before.
        let mirrored = self.newest(shared, log).await?;
        let stored = StoredLog::load(shared.store.as_ref(), log.platform).await?;
        log.stored.fetch_max(stored.size(), Ordering::Relaxed);
        let row = stored.head();
        let signatory = shared.signatory().map_err(|_| Trouble::Head)?;
        let head = signatory
            .open(&log.name, &row.checkpoint)
            .filter(|head| head.size == stored.size() && head.root.0 == row.root)
            .ok_or(Trouble::Head)?;
        let known = *lock(&log.known);
        let problem = match tree_with(&stored, mirrored).await? {
            Ok(tree) => match tree_with(&stored, known).await? {
                Ok(_) => {
                    *lock(&log.refused) = None;
                    *lock(&log.known) = if mirrored.0 > known.0 { mirrored } else { known };
                    log.reached.send_replace(mirrored.0);
                    return Ok((tree, stored, head));
                }
                Err(problem) => problem,
            },
            Err(problem) => problem,
        };
        *lock(&log.refused) = Some(problem);
        Err(Trouble::Refused(problem))
    }

    /// Writes everything up to the newest head.
    async fn catch_up(&self, shared: &Shared, log: &MirroredLog) -> Result<(), Trouble> {
        let (mut tree, stored, newest) = self.compare(shared, log).await?;
        while tree.size() < newest.size {
            let from = tree.size();
            let batch = Batch::read(shared, log, from, (&newest, &stored.head().checkpoint)).await?;
            for entry in &batch.entries {
                tree.append(leaf_hash(entry), &mut Vec::new());
            }
            if tree.root() != batch.head.root {
                return Err(Trouble::Entries);
            }
            let origin = shared.signatory().map_err(|_| Trouble::Head)?.origin(&log.name);
            let entries = batch.entries.iter().map(Vec::as_slice).collect();
            let segment = Segment { origin: &origin, from, entries, checkpoint: &batch.checkpoint };
            let bytes = segment.encode()?;
            self.mirror.put_segment(&log.name, from, batch.head.size, bytes, shared.rng.as_ref()).await?;
            self.mirror.put_head(&log.name, &batch.checkpoint).await?;
            *lock(&log.known) = (batch.head.size, batch.head.root);
            log.reached.send_replace(batch.head.size);
        }
        log.complete_at.store(shared.clock.now().as_micros(), Ordering::Relaxed);
        Ok(())
    }
}

/// The tree of the stored log at a size, if it has this root there; else what contradicts.
async fn tree_with(
    stored: &StoredLog<'_>,
    (size, root): (u64, Hash),
) -> Result<Result<LogTree, &'static str>, StoreError> {
    Ok(match stored.tree_at(size).await? {
        None => Err(SHORTER),
        Some(tree) if tree.root() == root => Ok(tree),
        Some(_) => Err(ANOTHER),
    })
}

/// Entries of one segment, with the head that ends it.
struct Batch {
    entries: Vec<Vec<u8>>,
    head: Head,
    checkpoint: String,
}

impl Batch {
    /// Entries from a position on, up to the newest head, or up to the last head of a second that a segment reaches.
    async fn read(
        shared: &Shared,
        log: &MirroredLog,
        from: u64,
        newest: (&Head, &str),
    ) -> Result<Self, Trouble> {
        let (mut entries, mut left) = (Vec::new(), MAX_SEGMENT_BYTES - SEGMENT_OVERHEAD);
        let mut at = from;
        'full: while at < newest.0.size {
            let limit = u32::try_from(newest.0.size - at).unwrap_or(u32::MAX).min(ENTRIES_AT_ONCE);
            let rows = shared.store.entries(log.platform, at, limit).await?;
            if rows.is_empty() {
                return Err(bad_entry().into());
            }
            for row in rows {
                match left.checked_sub(2 + row.entry.len()) {
                    Some(rest) if entries.len() < MAX_SEGMENT_ENTRIES => left = rest,
                    _ => break 'full,
                }
                entries.push(row.entry);
                at += 1;
            }
        }
        let first = entries.first().and_then(|entry| Entry::decode(entry).ok()).ok_or_else(bad_entry)?;
        // A log that goes over to another audit key is cut where both keys signed: a verifier needs that head.
        let handover =
            (from..).zip(&entries).find(|(_, entry)| announces(entry)).map(|(position, _)| position);
        if let Some(position) = handover
            && let Some((head, checkpoint)) = first_cut(shared, log, &first, position).await?
            && head.size <= at
        {
            entries.truncate(usize::try_from(head.size - from).unwrap_or(0));
            return Ok(Self { entries, head, checkpoint });
        }
        if at == newest.0.size {
            return Ok(Self { entries, head: newest.0.clone(), checkpoint: newest.1.to_owned() });
        }
        let (head, checkpoint) = last_cut(shared, log, &first, from, at).await?.ok_or(Trouble::NoCut)?;
        entries.truncate(usize::try_from(head.size - from).unwrap_or(0));
        Ok(Self { entries, head, checkpoint })
    }
}

/// Whether the bytes are of an entry that announces an audit key.
fn announces(bytes: &[u8]) -> bool {
    let call = chain::ANNOUNCE.as_bytes();
    bytes.windows(call.len()).any(|part| part == call)
        && Entry::decode(bytes).is_ok_and(|entry| chain::announced(&entry).is_some())
}

/// The first head of a second that covers a position. `first` is an entry before it.
async fn first_cut(
    shared: &Shared,
    log: &MirroredLog,
    first: &Entry,
    position: u64,
) -> Result<Option<(Head, String)>, StoreError> {
    let mut after = Timestamp::from_micros(first.time).second() - 1;
    loop {
        let heads = shared.store.second_heads(log.platform, after, HEADS_AT_ONCE).await?;
        let Some(newest) = heads.last() else { return Ok(None) };
        after = newest.second;
        if let Some(second) = heads.into_iter().find(|second| second.size > position) {
            let head = shared.signatory().ok().and_then(|known| known.open(&log.name, &second.checkpoint));
            let head = head.filter(|head| head.size == second.size);
            return Ok(head.map(|head| (head, second.checkpoint)));
        }
    }
}

/// The last head of a second of a size after `from` and up to `to`. `first` is the entry at `from`.
async fn last_cut(
    shared: &Shared,
    log: &MirroredLog,
    first: &Entry,
    from: u64,
    to: u64,
) -> Result<Option<(Head, String)>, StoreError> {
    let mut after = Timestamp::from_micros(first.time).second() - 1;
    let mut last = None;
    loop {
        let heads = shared.store.second_heads(log.platform, after, HEADS_AT_ONCE).await?;
        let Some(newest) = heads.last() else { return Ok(last) };
        after = newest.second;
        for second in heads {
            if second.size > to {
                return Ok(last);
            }
            let head = shared.signatory().ok().and_then(|known| known.open(&log.name, &second.checkpoint));
            if let Some(head) = head.filter(|head| head.size == second.size && head.size > from) {
                last = Some((head, second.checkpoint));
            }
        }
    }
}

async fn keep_up(shared: Weak<Shared>, wake: Arc<Notify>, mut closing: oneshot::Receiver<()>) {
    let mut ticks = interval(TICK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let (all, last) = tokio::select! {
            // Also where the vault was dropped without being closed.
            _ = &mut closing => (true, true),
            _ = ticks.tick() => (true, false),
            () = wake.notified() => (false, false),
        };
        let Some(shared) = shared.upgrade() else { return };
        let Some(mirroring) = &shared.mirroring else { return };
        mirroring.pass(&shared, all).await;
        if last {
            return;
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
