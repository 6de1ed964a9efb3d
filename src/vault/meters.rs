//! What the vault counts while it works, for whoever watches it (`docs/telemetry.md`).
//!
//! Everything is in tables of fixed size, made once: counting allocates nothing, locks nothing, and no caller, subject,
//! token or text of a client can become a row of its own. Rows and columns are the closed sets of the code.

use std::{
    collections::BTreeMap,
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use super::{
    Served, Vault, access::Call, attempt::Attempt, error::VaultError, histogram::Histogram,
    in_use::CertificatesInUse, refusals::Refusal, tokenize::unavailable,
};
use crate::{
    audit::entry::{Entry, Verdict},
    domain::{
        ids::PlatformId,
        names::PlatformName,
        operation::{BudgetKind, OperationKind, OperationState},
        time::Timestamp,
    },
    policy::decide::Denial,
    store::{
        Write,
        breaches::OpenBreaches,
        cases::OpenCases,
        copies::OpenCopies,
        restrictions::OpenRestrictions,
        rows::{config::KeyState, work::OpenOperations},
    },
};

/// Stands for everything outside a closed set.
pub const OTHER: &str = "_OTHER";

/// Bounds of a histogram of times, in microseconds.
const MICROS: &[u64] = &[
    250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 500_000, 1_000_000, 2_500_000,
    5_000_000, 10_000_000, 30_000_000,
];
/// Bounds of a histogram of items.
const ITEMS: &[u64] = &[1, 2, 5, 10, 25, 50, 100, 250, 500, 1_000, 2_500];

pub(super) fn zeros(length: usize) -> Box<[AtomicU64]> {
    (0..length).map(|_| AtomicU64::new(0)).collect()
}

pub(super) fn add(cells: &[AtomicU64], place: usize, count: u64) {
    if let Some(cell) = cells.get(place) {
        cell.fetch_add(count, Ordering::Relaxed);
    }
}

/// Counts in rows and columns, both of a fixed number.
#[derive(Debug)]
struct Table {
    columns: usize,
    cells: Box<[AtomicU64]>,
}

impl Table {
    fn new(rows: usize, columns: usize) -> Self {
        Self { columns, cells: zeros(rows * columns) }
    }

    const fn place(&self, row: usize, column: usize) -> usize {
        row * self.columns + column
    }

    /// Row, column and count of each cell.
    fn each(&self) -> impl Iterator<Item = (usize, usize, u64)> {
        let cells = self.cells.iter().enumerate();
        cells
            .map(|(place, count)| (place / self.columns, place % self.columns, count.load(Ordering::Relaxed)))
    }
}

/// Names of gRPC's status codes, by number.
const CODES: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

/// How a comparison of log and rows ended, as metrics name it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Compared {
    Clean,
    Differs,
    Failed,
}

impl Compared {
    const NAMES: [&'static str; 3] = ["clean", "differs", "failed"];

    const fn index(self) -> usize {
        match self {
            Self::Clean => 0,
            Self::Differs => 1,
            Self::Failed => 2,
        }
    }
}

/// What a commit will have done, once it is durable: places in the tables.
pub(super) struct Tally {
    decisions: Vec<usize>,
    ended: Vec<usize>,
}

/// Everything that this process counted.
#[derive(Debug)]
pub struct Meters {
    /// When the process began to count.
    pub started_at: Timestamp,
    decisions: Table,
    refusals: Box<[AtomicU64]>,
    times: Box<[Histogram]>,
    statuses: Table,
    /// Items read together.
    pub batch_items: Histogram,
    warm_items: AtomicU64,
    /// Times of a batch's one read, in microseconds.
    pub read: Histogram,
    /// Times of a commit, with its signature, in microseconds.
    pub commit: Histogram,
    commits: Box<[AtomicU64]>,
    budgets: Box<[AtomicU64]>,
    nearly: Box<[AtomicU64]>,
    ended: Table,
    compared: Box<[AtomicU64]>,
    compared_at: AtomicI64,
    damaged: AtomicU64,
    kms_answers: AtomicBool,
    certificates: CertificatesInUse,
    /// Places that the last look saw outside the declared sites, and places that it did not see.
    residency: [AtomicU64; 2],
    clock_off_micros: AtomicI64,
    replicas: AtomicU64,
    open: Mutex<Vec<OpenOperations>>,
    registers: Mutex<OpenRegisters>,
}

/// What stands open in registers.
#[derive(Debug, Clone, Default)]
pub struct OpenRegisters {
    /// Requests of people without an answer.
    pub cases: Vec<OpenCases>,
    /// Breaches that have not ended.
    pub breaches: Vec<OpenBreaches>,
    /// Copies outside the vault that have not ended.
    pub copies: Vec<OpenCopies>,
    /// Blocks on the use of subjects' data.
    pub restrictions: Vec<OpenRestrictions>,
}

/// Column of a permit in the table of decisions; of what was done; denials follow in their own order.
const PERMIT: usize = 0;
const DONE: usize = 1;
const DENIALS: usize = 2;

impl Meters {
    pub(super) fn new(started_at: Timestamp) -> Self {
        let calls = Call::ALL.len() + 1;
        Self {
            started_at,
            decisions: Table::new(calls, DENIALS + Denial::ALL.len() + 1),
            refusals: zeros(Refusal::ALL.len()),
            times: (0..calls).map(|_| Histogram::new(MICROS)).collect(),
            statuses: Table::new(calls, CODES.len()),
            batch_items: Histogram::new(ITEMS),
            warm_items: AtomicU64::new(0),
            read: Histogram::new(MICROS),
            commit: Histogram::new(MICROS),
            commits: zeros(Attempt::NAMES.len()),
            budgets: zeros(BudgetKind::ALL.len()),
            nearly: zeros(BudgetKind::ALL.len()),
            ended: Table::new(OperationKind::ALL.len(), OperationState::ALL.len()),
            compared: zeros(Compared::NAMES.len()),
            compared_at: AtomicI64::new(0),
            damaged: AtomicU64::new(0),
            kms_answers: AtomicBool::new(true),
            certificates: CertificatesInUse::new(),
            residency: [AtomicU64::new(0), AtomicU64::new(0)],
            clock_off_micros: AtomicI64::new(0),
            replicas: AtomicU64::new(1),
            open: Mutex::default(),
            registers: Mutex::default(),
        }
    }

    /// Where the entries and ended operations of a commit will be counted.
    pub(super) fn tally(&self, entries: &[Entry], writes: &[Write]) -> Tally {
        let decision = |entry: &Entry| {
            let call = entry.call.parse::<Call>().map_or(Call::ALL.len(), Call::index);
            let reason = || entry.reason.as_deref().and_then(|reason| reason.parse::<Denial>().ok());
            let column = match entry.verdict.parse::<Verdict>() {
                Ok(Verdict::Permit) => PERMIT,
                Ok(Verdict::Done) => DONE,
                Ok(Verdict::Deny) | Err(_) => DENIALS + reason().map_or(Denial::ALL.len(), Denial::index),
            };
            self.decisions.place(call, column)
        };
        let end = |write: &Write| {
            let Write::UpdateOperation(row, _) = write else { return None };
            let place = self.ended.place(row.operation.kind.index(), row.operation.state.index());
            (!row.operation.is_open()).then_some(place)
        };
        Tally {
            decisions: entries.iter().map(decision).collect(),
            ended: writes.iter().filter_map(end).collect(),
        }
    }

    /// Counts a commit; what it decided only where it is durable.
    pub(super) fn count_commit(&self, tally: &Tally, time: Duration, ended: Attempt) {
        self.commit.record_time(time);
        add(&self.commits, ended.index(), 1);
        if ended == Attempt::Committed {
            tally.decisions.iter().for_each(|place| add(&self.decisions.cells, *place, 1));
            tally.ended.iter().for_each(|place| add(&self.ended.cells, *place, 1));
        }
    }

    pub(super) fn count_read(&self, items: usize, time: Duration) {
        self.batch_items.record(u64::try_from(items).unwrap_or(u64::MAX));
        self.read.record_time(time);
    }

    pub(super) fn count_warm(&self, items: usize) {
        self.warm_items.fetch_add(u64::try_from(items).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn count_refusals(&self, refusal: Refusal, count: u64) {
        add(&self.refusals, refusal.index(), count);
    }

    pub(super) fn count_exhausted(&self, kind: BudgetKind) {
        add(&self.budgets, kind.index(), 1);
    }

    pub(super) fn count_nearly_exhausted(&self, kind: BudgetKind) {
        add(&self.nearly, kind.index(), 1);
    }

    pub(super) fn count_damaged(&self) {
        self.damaged.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_comparison(&self, compared: Compared, now: Timestamp) {
        add(&self.compared, compared.index(), 1);
        if compared != Compared::Failed {
            self.compared_at.fetch_max(now.as_micros(), Ordering::Relaxed);
        }
    }

    /// Counts a call with the number of its status; a call outside the contract is one of the others.
    pub fn count_call(&self, call: Option<Call>, status: usize, time: Duration) {
        let row = call.map_or(Call::ALL.len(), Call::index);
        if let Some(times) = self.times.get(row) {
            times.record_time(time);
        }
        // What is no code of gRPC's is UNKNOWN.
        let status = if status < CODES.len() { status } else { 2 };
        add(&self.statuses.cells, self.statuses.place(row, status), 1);
    }

    /// How many places the last look saw outside the declared sites, and how many it did not see.
    pub(super) fn set_residency(&self, outside: u64, unseen: u64) {
        let [outside_now, unseen_now] = &self.residency;
        outside_now.store(outside, Ordering::Relaxed);
        unseen_now.store(unseen, Ordering::Relaxed);
    }

    /// Records whether the KMS answered.
    pub fn set_kms_answers(&self, answers: bool) {
        self.kms_answers.store(answers, Ordering::Relaxed);
    }

    pub(super) fn set_clock_off(&self, micros: i64) {
        self.clock_off_micros.store(micros, Ordering::Relaxed);
    }

    pub(super) fn set_replicas(&self, alive: usize) {
        self.replicas.store(u64::try_from(alive).unwrap_or(u64::MAX), Ordering::Relaxed);
    }

    pub(super) fn set_open_registers(&self, open: OpenRegisters) {
        *self.registers.lock().unwrap_or_else(PoisonError::into_inner) = open;
    }

    pub(super) fn set_open_operations(&self, open: Vec<OpenOperations>) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = open;
    }

    /// Call, verdict, reason (empty where it is no denial) and count of what is in the log by now; no zeros.
    pub fn decisions(&self) -> impl Iterator<Item = (&'static str, &'static str, &'static str, u64)> {
        self.decisions.each().filter(|(_, _, count)| *count > 0).map(|(row, column, count)| {
            let (verdict, reason) = match column {
                PERMIT => (Verdict::Permit, ""),
                DONE => (Verdict::Done, ""),
                denial => (Verdict::Deny, Denial::ALL.get(denial - DENIALS).map_or(OTHER, |d| d.as_str())),
            };
            (call_name(row), verdict.as_str(), reason, count)
        })
    }

    /// Refusals before a decision, by reason.
    pub fn refusals(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Refusal::ALL.iter().map(|r| r.as_str()).zip(loaded(&self.refusals))
    }

    /// Times of calls, in microseconds; only of calls that were made.
    pub fn times(&self) -> impl Iterator<Item = (&'static str, &Histogram)> {
        let rows = self.times.iter().enumerate().filter(|(_, times)| !times.is_empty());
        rows.map(|(row, times)| (call_name(row), times))
    }

    /// Call, status and count; no zeros.
    pub fn statuses(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        self.statuses
            .each()
            .filter(|(_, _, count)| *count > 0)
            .map(|(row, column, count)| (call_name(row), status_name(column), count))
    }

    /// Commits by how they ended.
    pub fn commits(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Attempt::NAMES.into_iter().zip(loaded(&self.commits))
    }

    /// How often budgets were found used up, by kind.
    pub fn exhausted(&self) -> impl Iterator<Item = (&'static str, u64)> {
        BudgetKind::ALL.iter().map(|kind| kind.as_str()).zip(loaded(&self.budgets))
    }

    /// How often four fifths of a budget were reached, of the kinds that tell.
    pub fn nearly_exhausted(&self) -> impl Iterator<Item = (&'static str, u64)> {
        let all = BudgetKind::ALL.iter().zip(loaded(&self.nearly));
        all.filter(|(kind, _)| kind.is_by_purpose()).map(|(kind, count)| (kind.as_str(), count))
    }

    /// Kind, state and number of operations that ended.
    pub fn ended_operations(&self) -> impl Iterator<Item = (&'static str, &'static str, u64)> {
        let ends = [OperationState::Done, OperationState::Cancelled, OperationState::Failed];
        self.ended.each().filter_map(move |(row, column, count)| {
            let (kind, state) = (OperationKind::ALL.get(row)?, OperationState::ALL.get(column)?);
            ends.contains(state).then(|| (kind.as_str(), state.as_str(), count))
        })
    }

    /// Open operations as last looked up.
    #[must_use]
    pub fn open_operations(&self) -> Vec<OpenOperations> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// What stands open in registers, as last looked up.
    #[must_use]
    pub fn open_registers(&self) -> OpenRegisters {
        self.registers.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Comparisons of log and rows by how they ended.
    pub fn comparisons(&self) -> impl Iterator<Item = (&'static str, u64)> {
        Compared::NAMES.into_iter().zip(loaded(&self.compared))
    }

    /// When log and rows were last compared here; the epoch where they were not.
    #[must_use]
    pub fn compared_at(&self) -> Timestamp {
        Timestamp::from_micros(self.compared_at.load(Ordering::Relaxed))
    }

    /// Items that were decided on rows that an earlier read brought.
    #[must_use]
    pub fn warm_items(&self) -> u64 {
        self.warm_items.load(Ordering::Relaxed)
    }

    /// Rows that failed their authentication.
    #[must_use]
    pub fn damaged(&self) -> u64 {
        self.damaged.load(Ordering::Relaxed)
    }

    /// The certificates in use.
    #[must_use]
    pub const fn certificates(&self) -> &CertificatesInUse {
        &self.certificates
    }

    /// How many places the last look saw outside the declared sites, and how many it did not see.
    #[must_use]
    pub fn residency(&self) -> [u64; 2] {
        self.residency.each_ref().map(|count| count.load(Ordering::Relaxed))
    }

    /// Whether the KMS answered when it was last asked.
    #[must_use]
    pub fn kms_answers(&self) -> bool {
        self.kms_answers.load(Ordering::Relaxed)
    }

    /// How far this machine's clock is from the database's.
    #[must_use]
    pub fn clock_off_micros(&self) -> i64 {
        self.clock_off_micros.load(Ordering::Relaxed)
    }

    /// Processes that live over this database.
    #[must_use]
    pub fn replicas(&self) -> u64 {
        self.replicas.load(Ordering::Relaxed)
    }
}

/// Name of a status of gRPC by its number; what is none is UNKNOWN.
#[must_use]
pub fn status_name(number: usize) -> &'static str {
    CODES.get(number).copied().unwrap_or("UNKNOWN")
}

fn call_name(row: usize) -> &'static str {
    Call::ALL.get(row).map_or(OTHER, |call| call.as_str())
}

fn loaded(cells: &[AtomicU64]) -> impl Iterator<Item = u64> {
    cells.iter().map(|cell| cell.load(Ordering::Relaxed))
}

/// How one platform stands in this process.
#[derive(Debug, Clone)]
pub struct PlatformMeasure {
    /// Its id.
    pub platform: PlatformId,
    /// Its name.
    pub name: PlatformName,
    /// Items that wait in its lane or are being committed.
    pub queued: usize,
    /// Entries of its log, as far as this process knows.
    pub log_entries: u64,
    /// Its mirror, where there is one.
    pub mirror: Option<MirrorMeasure>,
    /// Whether every key version that may be needed is loaded.
    pub keys_loaded: bool,
    /// Whether a restore closed it.
    pub closed: bool,
    /// Kind, state and number of key versions.
    pub key_versions: Vec<(String, KeyState, u64)>,
    /// Kind of each key, and since when its active version is there.
    pub active_keys: Vec<(String, Timestamp)>,
}

/// How far a platform's mirror is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MirrorMeasure {
    /// Entries that it does not have yet.
    pub behind: u64,
    /// When it last had everything.
    pub complete_at: Timestamp,
    /// Whether the log contradicts it, so that the platform is not served.
    pub contradicted: bool,
}

impl Vault {
    /// What this process counted.
    #[must_use]
    pub fn meters(&self) -> &Meters {
        &self.shared.meters
    }

    /// How each platform stands in this process.
    #[must_use]
    pub fn measures(&self) -> Vec<PlatformMeasure> {
        self.platforms.load().values().map(|served| measure(served)).collect()
    }

    /// Looks up what is only in the database: how many operations, requests, breaches, copies and blocks are open.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`].
    pub async fn sample(&self) -> Result<(), VaultError> {
        let open = self.shared.store.open_operations().await.map_err(unavailable)?;
        self.shared.meters.set_open_operations(open);
        let now = self.shared.clock.now();
        let cases = self.shared.store.open_cases(now).await.map_err(unavailable)?;
        let breaches = self.shared.store.open_breaches(now).await.map_err(unavailable)?;
        let copies = self.shared.store.open_copies(now).await.map_err(unavailable)?;
        let restrictions = self.shared.store.open_restrictions(now).await.map_err(unavailable)?;
        self.shared.meters.set_open_registers(OpenRegisters { cases, breaches, copies, restrictions });
        Ok(())
    }
}

fn measure(served: &Served) -> PlatformMeasure {
    let context = served.lane.context();
    let (mut versions, mut active) = (BTreeMap::new(), BTreeMap::new());
    for row in context.key_rows() {
        *versions.entry((row.kind.clone(), row.state)).or_insert(0) += 1;
        if row.state == KeyState::Active {
            active.insert(row.kind.clone(), row.created_at);
        }
    }
    PlatformMeasure {
        platform: served.platform.id,
        name: served.platform.name.clone(),
        queued: served.lane.queued(),
        log_entries: served.lane.log_entries(),
        mirror: served.lane.mirror(),
        keys_loaded: context.has_all_keys(),
        closed: context.is_closed(),
        key_versions: versions.into_iter().map(|((kind, state), count)| (kind, state, count)).collect(),
        active_keys: active.into_iter().collect(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_falls_below_the_first_bound_that_it_does_not_exceed() {
        let histogram = Histogram::new(&[10, 20]);
        assert!(histogram.is_empty());
        for value in [0, 10, 11, 20, 21, u64::MAX / 2] {
            histogram.record(value);
        }
        let counts: Vec<_> = histogram.cumulative().collect();
        assert_eq!(counts, [(Some(10), 2), (Some(20), 4), (None, 6)]);
    }

    #[test]
    fn every_call_reason_and_status_has_a_place_and_nothing_else_has() {
        let meters = Meters::new(Timestamp::from_micros(0));
        for call in Call::ALL {
            meters.count_call(Some(*call), 7, Duration::from_millis(1));
        }
        meters.count_call(None, 400, Duration::ZERO);
        assert_eq!(meters.times().count(), Call::ALL.len() + 1);
        let others: Vec<_> = meters.statuses().filter(|(call, ..)| *call == OTHER).collect();
        assert_eq!(others, [(OTHER, "UNKNOWN", 1)]);
        let statuses = meters.statuses().filter(|(_, status, _)| *status == "PERMISSION_DENIED");
        assert_eq!(statuses.count(), Call::ALL.len());
    }
}
