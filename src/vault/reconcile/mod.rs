//! Log and rows compared: rows that grant something must be as the log told last.
//!
//! Each read checks the MAC of its rows, so an edited row is refused at once. What a MAC cannot tell is found here: a
//! row put back to an older state of its own, one that was deleted, one that was never told of, and a log that was cut
//! back below its rows. The log is replayed and its root compared with the signed head; rows come page by page. A long
//! log is replayed several times, each time for the ids of one range, so that memory stays bounded. Documents lie outside the
//! database too: their manifests, parts and objects are compared with one another, and opened where somebody asked.

mod told;

use std::{collections::HashSet, ops::RangeInclusive, sync::Arc, time::Duration};

use tokio::{sync::mpsc, time::sleep};

pub use told::Problem;
use told::{ConfigRow, Told, table_name};
pub(in crate::vault) use told::{DESTROYED, LOST, Row, told_row};

use super::{
    Served, Shared, Vault,
    access::Call,
    act::{Act, Asker, Flow, Plan, Reply, Scene, reply},
    audit_log::{Ask, unreadable},
    documents::{
        Documents,
        check::{self, Check, CheckError},
    },
    error::VaultError,
    meters::Compared,
    stored_log::{StoredLog, bad_entry},
    tokenize::unavailable,
};
use crate::{
    audit::{
        entry::{Entry, Verdict},
        tree::{LogTree, leaf_hash},
    },
    crypto::digest::RowKey,
    domain::{
        caller::Caller,
        ids::{EntryId, PlatformId},
        rng::random_bytes,
    },
    store::{
        Damage, GrantingTable, MAX_POLICIES, StoreError, StoredConfig,
        rows::{Mac, config::PolicyRow},
    },
};

/// Findings that are told one by one.
pub const MAX_FINDINGS: usize = 1_000;
const CALL: &str = "Reconciliation/Run";
const ROWS_DIFFER: &str = "ROWS_DIFFER";
/// Entries for which the log is replayed once; for twice as many it is replayed twice.
const ENTRIES_A_PASS: u64 = 1_000_000;
const AT_ONCE: u32 = 1_000;
/// Steps that wait for a slow reader.
const STEPS_AHEAD: usize = 4;
/// After each page, where nobody waits for the end.
const PAUSE: Duration = Duration::from_millis(20);
const FIRST_AFTER: Duration = Duration::from_mins(5);
const EVERY: Duration = Duration::from_hours(24);
/// Most that is added to both, so that replicas do not run together.
const JITTER: Duration = Duration::from_mins(30);

/// A row that differs from the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RowFinding {
    /// Table.
    pub table: &'static str,
    /// Id of the row as entries name it; empty for a row of the configuration that the log does not know.
    pub object: Vec<u8>,
    /// How it differs.
    pub problem: Problem,
}

/// What a reconciliation found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reconciled {
    /// Entries of the log.
    pub size: u64,
    /// Rows compared.
    pub rows_checked: u64,
    /// What differs, at most [`MAX_FINDINGS`].
    pub findings: Vec<RowFinding>,
    /// How many there are in all.
    pub found: u64,
}

/// One step of a reconciliation.
#[derive(Debug)]
pub enum Step {
    /// So far.
    Progress {
        /// Entries replayed, in all passes.
        entries_read: u64,
        /// Entries to replay, in all passes.
        entries: u64,
        /// Rows compared.
        rows_checked: u64,
    },
    /// Last: the result.
    Result(Reconciled),
}

/// A stream of steps; an error ends it.
pub type Steps = mpsc::Receiver<Result<Step, VaultError>>;

impl Vault {
    /// Compares a platform's log with its rows. The question is an entry, and so is the result.
    ///
    /// # Errors
    /// As [`Vault::head`].
    pub async fn reconcile_log(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
    ) -> Result<Steps, VaultError> {
        let platform = self.target(caller, &asker, Call::ReconcileLog, platform).await?;
        self.run(platform, caller, asker, Ask { call: Call::ReconcileLog, subject: None }).await?;
        let (sender, steps) = mpsc::channel(STEPS_AHEAD);
        let run = self.reconciliation(platform, Some(sender.clone()))?;
        tokio::spawn(async move {
            let last = match run.run_logged().await {
                Ok(result) => Ok(Step::Result(result)),
                Err(Stop::Gone) => return,
                Err(Stop::Failed(error)) => Err(unreadable(error)),
                Err(Stop::Refused(error)) => Err(error),
            };
            let _unheard = sender.send(last).await;
        });
        Ok(steps)
    }

    /// Compares every platform's log with its rows, some minutes after the start and then once a day, for as long as it
    /// is polled. Findings go into the server's log, and their number into the platform's.
    pub async fn reconcile_daily(&self) {
        sleep(FIRST_AFTER + self.jitter()).await;
        loop {
            self.reconcile_all().await;
            sleep(EVERY + self.jitter()).await;
        }
    }

    /// Compares every platform's log with its rows once, slowly, and answers how much differs.
    pub async fn reconcile_all(&self) -> u64 {
        let mut found = 0;
        for (platform, name) in self.platforms() {
            let outcome = match self.reconciliation(platform, None) {
                Ok(run) => run.run_logged().await,
                Err(error) => Err(Stop::Refused(error)),
            };
            match outcome {
                Ok(result) => {
                    tracing::info!(platform = %name, rows = result.rows_checked, findings = result.found,
                        "log and rows were compared");
                    found += result.found;
                }
                Err(Stop::Failed(error)) => {
                    let error: &(dyn std::error::Error + 'static) = &error;
                    tracing::error!(platform = %name, error, "log and rows could not be compared");
                }
                Err(Stop::Refused(error)) => {
                    tracing::error!(platform = %name, %error, "log and rows could not be compared");
                }
                Err(Stop::Gone) => {}
            }
        }
        found
    }

    fn jitter(&self) -> Duration {
        let random = random_bytes::<4>(self.shared.rng.as_ref()).map_or(0, u32::from_be_bytes);
        JITTER.mul_f64(f64::from(random) / f64::from(u32::MAX))
    }

    fn reconciliation(
        &self,
        id: PlatformId,
        steps: Option<mpsc::Sender<Result<Step, VaultError>>>,
    ) -> Result<Run, VaultError> {
        let platform = self.platform(id)?;
        let (shared, documents) = (Arc::clone(&self.shared), self.documents.clone());
        Ok(Run { shared, platform, id, documents, steps, result: Reconciled::default() })
    }
}

enum Stop {
    /// Nobody listens any more.
    Gone,
    Failed(StoreError),
    Refused(VaultError),
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}

impl From<CheckError> for Stop {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Store(error) => Self::Failed(error),
            CheckError::Refused(error) => Self::Refused(error),
        }
    }
}

struct Run {
    shared: Arc<Shared>,
    platform: Arc<Served>,
    id: PlatformId,
    documents: Option<Arc<Documents>>,
    /// None where it runs in the background.
    steps: Option<mpsc::Sender<Result<Step, VaultError>>>,
    result: Reconciled,
}

impl Run {
    async fn run_logged(mut self) -> Result<Reconciled, Stop> {
        let shared = Arc::clone(&self.shared);
        // Each holds a part of a log in memory, so those that are asked for take turns; none waits for the slow daily one.
        let _turn = if self.steps.is_some() { Some(shared.looking.lock().await) } else { None };
        let outcome = self.compare().await;
        self.count(&shared, outcome)?;
        for RowFinding { table, object, problem } in &self.result.findings {
            let (object, problem) = (data_encoding::HEXLOWER.encode(object), problem.as_str());
            tracing::error!(platform = %self.platform.platform.name, table, object, problem, "a row is not as the log told");
        }
        let (reply, waiting) = reply();
        let act = RunAct { found: self.result.found, reply };
        self.platform.lane.submit(act).map_err(Stop::Refused)?;
        waiting.answer().await.map_err(Stop::Refused)?;
        Ok(self.result)
    }

    /// Counts how a comparison ended.
    fn count(&self, shared: &Shared, outcome: Result<(), Stop>) -> Result<(), Stop> {
        let compared = match &outcome {
            Ok(()) if self.result.found == 0 => Compared::Clean,
            Ok(()) => Compared::Differs,
            Err(Stop::Gone) => return outcome,
            Err(Stop::Failed(_) | Stop::Refused(_)) => Compared::Failed,
        };
        shared.meters.count_comparison(compared, shared.clock.now());
        outcome
    }

    async fn compare(&mut self) -> Result<(), Stop> {
        let size = StoredLog::load(self.shared.store.as_ref(), self.id).await?.size();
        let ranges = ranges(size);
        let passes = u64::try_from(ranges.len()).unwrap_or(u64::MAX);
        for (pass, range) in (0..).zip(ranges) {
            let mut replay = Replay {
                told: Told::new(range.clone()),
                tree: LogTree::empty(),
                read_before: size * pass,
                of: size * passes,
            };
            self.advance(&mut replay).await?;
            if pass == 0 {
                self.compare_config(&mut replay).await?;
            }
            for table in GrantingTable::ALL {
                self.compare_table(&mut replay, table, &range).await?;
            }
            self.result.size = replay.tree.size();
            if pass == 0 {
                self.compare_documents(&replay).await?;
            }
        }
        Ok(())
    }

    /// Documents against their manifests, parts and objects. The objects are opened where somebody asked: that is as much work
    /// as reading them all.
    async fn compare_documents(&mut self, replay: &Replay) -> Result<(), Stop> {
        let (store, place) = (Arc::clone(&self.shared.store), self.documents.clone());
        let mut check = Check::new(store, place, self.id, self.steps.is_some());
        let mut from = Some(check::first_id());
        while let Some(first) = from {
            let context = self.platform.lane.context();
            let checked = check.page(&context, first).await?;
            for RowFinding { table, object, problem } in checked.found {
                let is_told = |told: &RowFinding| told.table == table && told.object == object;
                if !self.result.findings.iter().any(is_told) {
                    self.find(table, object, problem);
                }
            }
            self.breathe(replay).await?;
            from = checked.next;
        }
        Ok(())
    }

    /// Replays what the log has more by now, and compares roots.
    async fn advance(&self, replay: &mut Replay) -> Result<(), Stop> {
        let log = StoredLog::load(self.shared.store.as_ref(), self.id).await?;
        let signatory = self.shared.signatory().map_err(|_| bad_entry())?;
        let head = signatory.open(&self.platform.platform.name, &log.head().checkpoint);
        let head = head.ok_or(Damage { table: "heads", column: "checkpoint" }).map_err(StoreError::from)?;
        while replay.tree.size() < head.size {
            let from = replay.tree.size();
            let limit = u32::try_from(head.size - from).unwrap_or(u32::MAX).min(AT_ONCE);
            let rows = self.shared.store.entries(self.id, from, limit).await?;
            if rows.is_empty() {
                return Err(bad_entry().into());
            }
            for row in rows {
                let entry = Entry::decode(&row.entry).map_err(|_| bad_entry())?;
                replay.told.take(replay.tree.size(), &entry);
                replay.tree.append(leaf_hash(&row.entry), &mut Vec::new());
            }
            self.breathe(replay).await?;
        }
        // A head that fell behind what was replayed has another root.
        if replay.tree.root() == head.root { Ok(()) } else { Err(bad_entry().into()) }
    }

    async fn compare_table(
        &mut self,
        replay: &mut Replay,
        table: GrantingTable,
        range: &RangeInclusive<u8>,
    ) -> Result<(), Stop> {
        let mut after = before(*range.start());
        loop {
            let since = replay.tree.size();
            let mut marks = self.shared.store.row_marks(self.id, table, after, AT_ONCE).await?;
            let whole = marks.len() == usize::try_from(AT_ONCE).unwrap_or(usize::MAX);
            let read = marks.len();
            marks.retain(|(id, _)| id.first().is_some_and(|first| range.contains(first)));
            let last = if whole && marks.len() == read { marks.last().map(|(id, _)| *id) } else { None };
            self.advance(replay).await?;
            let mut found = HashSet::new();
            for (id, mac) in &marks {
                found.insert(*id);
                self.result.rows_checked += 1;
                if let Some(problem) = replay.told.judge(table, id, mac, since) {
                    self.find(table_name(table), id.to_vec(), problem);
                }
            }
            for id in replay.told.missing(table, after, last, &found, since) {
                self.find(table_name(table), id.to_vec(), Problem::Missing);
            }
            self.breathe(replay).await?;
            match last {
                Some(last) => after = last,
                None => return Ok(()),
            }
        }
    }

    async fn compare_config(&mut self, replay: &mut Replay) -> Result<(), Stop> {
        let since = replay.tree.size();
        let stored = self.shared.store.config(self.id).await?;
        self.advance(replay).await?;
        let context = self.platform.lane.context();
        let rows = config_rows(&stored, &context.keys.row);
        self.result.rows_checked += u64::try_from(rows.len()).unwrap_or(0);
        // Only the newest versions of a policy are read.
        let oldest = stored.policies.iter().map(|row: &PolicyRow| row.version).min().unwrap_or(0);
        let all = stored.policies.len() < usize::try_from(MAX_POLICIES).unwrap_or(0);
        let expected = |kind: &str, id: &[u8]| {
            let version = || std::str::from_utf8(id).ok().and_then(|text| text.parse::<u32>().ok());
            kind != "policy" || all || version().is_none_or(|version| version >= oldest)
        };
        for (table, id, problem) in replay.told.judge_config(&rows, expected, since) {
            self.find(table, id, problem);
        }
        Ok(())
    }

    fn find(&mut self, table: &'static str, object: Vec<u8>, problem: Problem) {
        self.result.found += 1;
        if self.result.findings.len() < MAX_FINDINGS {
            self.result.findings.push(RowFinding { table, object, problem });
        }
    }

    /// Tells how far it is, or lets others work.
    async fn breathe(&self, replay: &Replay) -> Result<(), Stop> {
        let Some(steps) = &self.steps else {
            sleep(PAUSE).await;
            return Ok(());
        };
        let entries_read = replay.read_before + replay.tree.size();
        let progress = Step::Progress {
            entries_read,
            entries: replay.of.max(entries_read),
            rows_checked: self.result.rows_checked,
        };
        steps.send(Ok(progress)).await.map_err(|_| Stop::Gone)
    }
}

/// How far the log is replayed in this pass, and what it told.
struct Replay {
    told: Told,
    tree: LogTree,
    /// Entries that earlier passes replayed.
    read_before: u64,
    /// Entries of all passes.
    of: u64,
}

/// Ranges of the first byte of ids, one for each pass.
fn ranges(size: u64) -> Vec<RangeInclusive<u8>> {
    let passes = size.div_ceil(ENTRIES_A_PASS).clamp(1, 256).next_power_of_two();
    let width = 256 / passes;
    let byte = |n: u64| u8::try_from(n).unwrap_or(u8::MAX);
    (0..passes).map(|pass| byte(pass * width)..=byte((pass + 1) * width - 1)).collect()
}

/// The id before all that begin with this byte. An id of zeros does not occur.
fn before(first: u8) -> [u8; 16] {
    let mut id = [0; 16];
    if let (Some(previous), Some(byte)) = (first.checked_sub(1), id.first_mut()) {
        *byte = previous;
        id.iter_mut().skip(1).for_each(|byte| *byte = u8::MAX);
    }
    id
}

fn config_rows(stored: &StoredConfig, key: &RowKey) -> Vec<ConfigRow> {
    let row = |table: &'static str, image: &crate::domain::canonical::Canonical, mac: &Mac| ConfigRow {
        table,
        mac: *mac,
        genuine: key.verify(image, mac).is_ok(),
    };
    let mut rows = Vec::new();
    rows.extend(stored.keys.iter().map(|r| row("key_versions", &r.image(), &r.mac)));
    rows.extend(stored.policies.iter().map(|r| row("policies", &r.image(), &r.mac)));
    rows.extend(stored.callers.iter().map(|r| row("callers", &r.image(), &r.mac)));
    rows.extend(stored.recipients.iter().map(|r| row("recipients", &r.image(), &r.mac)));
    rows.extend(stored.limits.iter().map(|r| row("budget_limits", &r.image(), &r.mac)));
    rows.extend(stored.persons.iter().map(|r| row("persons", &r.image(), &r.mac)));
    rows.extend(stored.closure.iter().map(|r| row("closures", &r.image(), &r.mac)));
    rows.extend(stored.grants.iter().map(|r| row("person_roles", &r.image(), &r.mac)));
    rows.extend(stored.horizons.iter().map(|r| row("horizon_plans", &r.image(), &r.mac)));
    rows.extend(stored.staff_keys.iter().map(|r| row("staff_keys", &r.image(), &r.mac)));
    rows
}

/// The entry of a run.
struct RunAct {
    found: u64,
    reply: Reply<()>,
}

impl Act for RunAct {
    fn writes(&self) -> bool {
        // It writes no row, but its entry must not be dropped where nobody waits.
        true
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_abandoned()
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        let id = EntryId::random(scene.rng()).map_err(unavailable)?;
        let (verdict, reason) = if self.found == 0 {
            (Verdict::Done, None)
        } else {
            (Verdict::Deny, Some(ROWS_DIFFER.to_owned()))
        };
        plan.entries.push(Entry {
            reason,
            count: Some(self.found),
            ..Entry::new(id, scene.now, scene.context.platform, CALL, verdict)
        });
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        self.reply.send(outcome);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_cover_every_id_once() {
        for size in [0, 1, ENTRIES_A_PASS, ENTRIES_A_PASS + 1, 5 * ENTRIES_A_PASS, u64::MAX] {
            let mut covered: Vec<u8> = ranges(size).into_iter().flatten().collect();
            covered.dedup();
            assert_eq!(covered, (0..=u8::MAX).collect::<Vec<_>>(), "{size}");
        }
        assert_eq!(ranges(3 * ENTRIES_A_PASS).len(), 4);
        assert!(before(0x80) < [0x80; 16] && before(0x80) > [0x7f; 16]);
        assert!([0x80_u8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0] > before(0x80));
    }
}
