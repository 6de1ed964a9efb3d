//! Rows that were read for tokens a short while ago, as the database has them still.
//!
//! They are used in the place of a read, and never in the place of a commit: whatever is decided on them is swapped in on
//! the head's counters like everything else, so nobody is answered where policy, caller or a permission changed. What
//! changes rows moves `change_seq` with it. The lane's own commits say which rows those are; where `change_seq` or
//! `config_epoch` moved without it, another process wrote, and everything here is forgotten. Values stay sealed, keys
//! wrapped, and MACs are verified as after any read.

use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};

use hashlink::LruCache;

use crate::{
    domain::{
        ids::{RecordId, SubjectId},
        names::FieldName,
        time::Timestamp,
        token::TokenHash,
    },
    store::{
        Changed, Counters, ReadKeys, Snapshot, Touched,
        rows::{ConsentRow, EventRow, RecordRow, SubjectRow, TokenRow},
    },
};

/// How much of each platform is kept, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WarmLimits {
    /// Rows: subjects, consents, events, records and tokens. None are kept where it is 0.
    pub rows: usize,
    /// After this a row is read again.
    pub time: Duration,
}

impl Default for WarmLimits {
    fn default() -> Self {
        Self { rows: 100_000, time: Duration::from_mins(1) }
    }
}

/// How long the database's clock is told by this machine's, counted from when it was last read.
const CLOCK_TIME: Duration = Duration::from_secs(1);
/// How far this machine's two clocks may come apart meanwhile: more means that it slept, or that somebody set one of them.
const CLOCK_DRIFT_MICROS: i64 = 50_000;

/// The rows of one platform.
pub(super) struct WarmRows {
    limits: WarmLimits,
    /// What the rows are as of; none before the first head was read.
    at: Option<Counters>,
    clock: Option<ReadClock>,
    subjects: LruCache<SubjectId, WarmSubject>,
    /// Of all subjects.
    rows: usize,
    tokens: HashMap<TokenHash, SubjectId>,
    records: HashMap<RecordId, SubjectId>,
}

/// A moment on three clocks.
#[derive(Debug, Clone, Copy)]
pub(super) struct ReadClock {
    /// This machine's that is never set.
    pub(super) instant: Instant,
    /// This machine's.
    pub(super) local: Timestamp,
    /// The database's.
    pub(super) database: Timestamp,
}

impl ReadClock {
    /// The database's time at another moment; none where it has to be read again.
    fn database_at(&self, instant: Instant, local: Timestamp) -> Option<Timestamp> {
        let passed = instant.checked_duration_since(self.instant).filter(|passed| *passed <= CLOCK_TIME)?;
        let micros = i64::try_from(passed.as_micros()).ok()?;
        let told = local.as_micros().saturating_sub(self.local.as_micros());
        let drift = told.saturating_sub(micros).saturating_abs();
        (drift <= CLOCK_DRIFT_MICROS).then(|| self.database.plus_micros(micros))
    }
}

/// A subject with what was read of it.
struct WarmSubject {
    read_at: Instant,
    subject: Arc<SubjectRow>,
    consents: Arc<Vec<ConsentRow>>,
    events: Arc<Vec<EventRow>>,
    tokens: HashMap<TokenHash, (Arc<TokenRow>, Arc<RecordRow>)>,
}

impl WarmSubject {
    fn rows(&self) -> usize {
        1 + self.consents.len() + self.events.len() + 2 * self.tokens.len()
    }
}

impl WarmRows {
    pub(super) fn new(limits: WarmLimits) -> Self {
        Self {
            limits,
            at: None,
            clock: None,
            subjects: LruCache::new_unbounded(),
            rows: 0,
            tokens: HashMap::new(),
            records: HashMap::new(),
        }
    }

    /// Whether a read of these keys would bring nothing that is not here, of fields that the caller may know of.
    pub(super) fn covers(
        &self,
        keys: &ReadKeys,
        now: Instant,
        may_know_of: impl Fn(&FieldName) -> bool,
    ) -> bool {
        !keys.tokens.is_empty()
            && keys
                .tokens
                .iter()
                .all(|hash| self.fresh(hash, now).is_some_and(|record| may_know_of(&record.address.field)))
    }

    fn fresh(&self, hash: &TokenHash, now: Instant) -> Option<&RecordRow> {
        let subject = self.subjects.peek(self.tokens.get(hash)?)?;
        let age = now.saturating_duration_since(subject.read_at);
        subject.tokens.get(hash).filter(|_| age < self.limits.time).map(|(_, record)| record.as_ref())
    }

    /// A look to which rows can be added, as of a head; none where the rows are of another one, or the time must be read.
    pub(super) fn look(
        &self,
        head: (Counters, Timestamp, u64),
        now: Instant,
        local: Timestamp,
    ) -> Option<Snapshot> {
        let (counters, logged_at, vault_epoch) = head;
        let time = self.clock.as_ref()?.database_at(now, local)?;
        let same = self.at.is_some_and(|at| is_same(&at, &counters));
        same.then(|| Snapshot::empty(counters, logged_at, vault_epoch, time))
    }

    /// Adds all rows behind these keys to a look, or none.
    pub(super) fn add(&mut self, keys: &ReadKeys, look: &mut Snapshot, now: Instant) -> bool {
        if !self.covers(keys, now, |_| true) {
            return false;
        }
        for hash in &keys.tokens {
            let found = self.tokens.get(hash).and_then(|id| self.subjects.get(id));
            let Some((subject, (token, record))) = found.and_then(|s| Some((s, s.tokens.get(hash)?))) else {
                return false;
            };
            let id = subject.subject.id;
            look.tokens.insert(*hash, Ok(Arc::clone(token)));
            look.records.insert(record.address.record, Ok(Arc::clone(record)));
            look.subjects.insert(id, Ok(Arc::clone(&subject.subject)));
            look.consents_of.insert(id, Ok(Arc::clone(&subject.consents)));
            look.events_of.insert(id, Ok(Arc::clone(&subject.events)));
        }
        true
    }

    /// Keeps what a read brought, where it is of the head that the other rows are of.
    pub(super) fn keep(&mut self, keys: &ReadKeys, read: &Snapshot, clock: ReadClock) {
        self.clock = Some(clock);
        let same = self.at.is_some_and(|at| is_same(&at, &read.counters));
        if self.limits.rows == 0 || !same || !keys.are_of_tokens() {
            return;
        }
        for hash in &keys.tokens {
            self.keep_token(hash, read, clock.instant);
        }
        while self.rows > self.limits.rows
            && let Some((_, oldest)) = self.subjects.remove_lru()
        {
            self.forgotten(&oldest);
        }
    }

    /// Keeps a token with what stands behind it. Where a row of these is damaged or missing, it is to be read each time.
    fn keep_token(&mut self, hash: &TokenHash, read: &Snapshot, now: Instant) {
        let Some(Ok(token)) = read.tokens.get(hash) else { return };
        let Some(Ok(record)) = read.records.get(&token.record) else { return };
        let id = record.address.subject;
        let Some(Ok(subject)) = read.subjects.get(&id) else { return };
        let consents = read.consents_of.get(&id).cloned().unwrap_or_else(|| Ok(Arc::default()));
        let events = read.events_of.get(&id).cloned().unwrap_or_else(|| Ok(Arc::default()));
        let (Ok(consents), Ok(events)) = (consents, events) else { return };
        let mut kept = WarmSubject {
            read_at: now,
            subject: Arc::clone(subject),
            consents,
            events,
            tokens: HashMap::new(),
        };
        if let Some(before) = self.subjects.remove(&id) {
            self.forgotten(&before);
            let age = now.saturating_duration_since(before.read_at);
            if age < self.limits.time {
                (kept.read_at, kept.tokens) = (before.read_at, before.tokens);
            }
        }
        kept.tokens.insert(*hash, (Arc::clone(token), Arc::clone(record)));
        // One subject alone must not take the place of all others.
        if kept.rows() > self.limits.rows.div_ceil(16) {
            return;
        }
        self.rows += kept.rows();
        for (hash, (_, record)) in &kept.tokens {
            self.tokens.insert(*hash, id);
            self.records.insert(record.address.record, id);
        }
        self.subjects.insert(id, kept);
    }

    /// The head was read: where it was moved by others, they may have changed rows.
    pub(super) fn seen(&mut self, head: Counters) {
        if !self.at.is_some_and(|at| is_same(&at, &head)) {
            self.clear();
        }
        self.at = Some(head);
    }

    /// A commit of the lane itself: what it changed is forgotten, before anybody is told that it happened.
    pub(super) fn committed(&mut self, changed: &Changed, before: &Counters, after: Counters) {
        match changed {
            Changed::These(touched) if self.at.is_some_and(|at| is_same(&at, before)) => {
                for one in touched {
                    let subject = match one {
                        Touched::Subject(id) => Some(*id),
                        Touched::Record(record) => self.records.get(record).copied(),
                        Touched::Token(hash) => self.tokens.get(hash).copied(),
                    };
                    if let Some(gone) = subject.and_then(|id| self.subjects.remove(&id)) {
                        self.forgotten(&gone);
                    }
                }
            }
            Changed::These(_) | Changed::Anything => self.clear(),
        }
        if before.config_epoch != after.config_epoch {
            self.clear();
        }
        self.at = Some(after);
    }

    /// Forgets everything.
    pub(super) fn clear(&mut self) {
        self.subjects.clear();
        self.tokens.clear();
        self.records.clear();
        self.rows = 0;
    }

    /// Takes a subject that was removed out of the counts and places.
    fn forgotten(&mut self, gone: &WarmSubject) {
        self.rows = self.rows.saturating_sub(gone.rows());
        for (hash, (_, record)) in &gone.tokens {
            self.tokens.remove(hash);
            self.records.remove(&record.address.record);
        }
    }
}

/// Whether rows of one head are those of another: its log may have grown, and new rows may have come.
const fn is_same(one: &Counters, other: &Counters) -> bool {
    one.config_epoch == other.config_epoch && one.change_seq == other.change_seq
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_databases_time_is_told_for_a_second_and_not_across_a_jump() {
        let (instant, local) = (Instant::now(), Timestamp::from_micros(5_000_000));
        let clock = ReadClock { instant, local, database: Timestamp::from_micros(9_000_000) };
        let at = |steady: u64, told: i64| {
            let told = local.plus_micros(told * 1_000);
            clock.database_at(instant + Duration::from_millis(steady), told).map(Timestamp::as_micros)
        };
        assert_eq!(at(0, 0), Some(9_000_000));
        assert_eq!(at(400, 410), Some(9_400_000), "by the steady clock");
        assert_eq!(at(1_000, 1_000), Some(10_000_000));
        assert_eq!(at(1_001, 1_001), None, "it is read again");
        assert_eq!(at(400, 500), None, "the machine slept, or its clock was set");
        assert_eq!(at(400, -10_000), None);
    }
}
