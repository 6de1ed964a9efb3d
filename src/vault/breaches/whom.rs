//! Whom a breach reaches, entry by entry. Pure.
//!
//! A log of a country does not fit into memory, nor do its people: one walk over the log finds the smallest ids from one on, as
//! many as there is room for, and says where the next walk begins.

use std::collections::BTreeSet;

use crate::{
    audit::entry::{Entry, Verdict},
    crypto::keyring::KeyKind,
    domain::{
        breach::{BreachFacts, Held},
        time::Timestamp,
    },
    vault::{access::Call, reconcile::DESTROYED},
};

/// Id of a person.
pub(super) type Id = [u8; 16];

/// The entry by which a key version takes the place of another.
const ACTIVATED: &str = "Operation/ActivateKey";

/// What the log is asked.
#[derive(Debug, Clone)]
pub(super) struct Question {
    /// Entries of this time or later; the log's begin where it is not known.
    from: i64,
    /// Entries of this time or earlier; the log's end where it is not known.
    until: i64,
    /// Callers, whose reads count.
    callers: BTreeSet<Id>,
    /// Whether their changes count, too.
    counts_changes: bool,
    held: Option<Held>,
    /// Whoever was destroyed before is not held any more when it begins.
    held_from: i64,
}

impl Question {
    /// The question of what is known, with the time at which the key version in it was made.
    pub(super) fn of(facts: &BreachFacts, made_at: Option<Timestamp>) -> Self {
        let from = facts.began_at.map_or(i64::MIN, Timestamp::as_micros);
        let until = facts.ended_at.map_or(i64::MAX, Timestamp::as_micros);
        let made = made_at.map_or(i64::MIN, Timestamp::as_micros);
        Self {
            from,
            until,
            callers: facts.reach.callers.iter().map(|id| *id.as_bytes()).collect(),
            counts_changes: facts.kind.counts_changes(),
            // Nobody was ever under a version that was made after the end.
            held: facts.reach.held.filter(|_| made <= until),
            held_from: from.max(made),
        }
    }

    /// From when on the log has anything to say. Whoever is reached by being held was stored at any time before.
    pub(super) fn since(&self) -> Option<Timestamp> {
        let known = self.held.is_none() && self.from > i64::MIN;
        known.then(|| Timestamp::from_micros(self.from))
    }

    /// Whether an entry, and with it all that follow, come too late.
    pub(super) const fn is_over(&self, entry: &Entry) -> bool {
        entry.time > self.until
    }
}

/// Names that entries tell of, and how many of them count. Names are of a policy, so there are few.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Names {
    pub(super) entries: u64,
    pub(super) fields: BTreeSet<String>,
    pub(super) purposes: BTreeSet<String>,
    pub(super) recipients: BTreeSet<String>,
}

impl Names {
    fn take(&mut self, entry: &Entry) {
        self.entries += 1;
        self.fields.extend(entry.field.clone());
        self.purposes.extend(entry.purpose.clone());
        self.recipients.extend(entry.recipient.clone());
    }
}

/// One walk over the log, up to the end that the question has.
pub(super) struct Walk<'q> {
    question: &'q Question,
    ids: Smallest,
    pub(super) names: Names,
    /// Whether the version of the key protects nobody new any more.
    left: bool,
}

impl<'q> Walk<'q> {
    /// A walk that finds `room` ids at most, none before `from`.
    pub(super) fn new(question: &'q Question, from: Id, room: usize) -> Self {
        let ids = Smallest { from, room, held: BTreeSet::new(), ceiling: None };
        Self { question, ids, names: Names::default(), left: false }
    }

    /// Takes the next entry.
    pub(super) fn take(&mut self, entry: &Entry) {
        let (held, reached) = (self.is_held(entry), self.was_reached(entry));
        if held || reached {
            self.names.take(entry);
        }
    }

    /// The ids in ascending order, and where the next walk begins.
    pub(super) fn end(self) -> (BTreeSet<Id>, Option<Id>, Names) {
        (self.ids.held, self.ids.ceiling, self.names)
    }

    /// A caller of the question was told, or changed, something of somebody.
    fn was_reached(&mut self, entry: &Entry) -> bool {
        let question = self.question;
        let by_them = entry.caller.is_some_and(|caller| question.callers.contains(&*caller));
        let counts = entry.verdict == Verdict::Permit.as_str()
            || (question.counts_changes && entry.verdict == Verdict::Done.as_str());
        match entry.subject {
            Some(subject) if by_them && counts && entry.time >= question.from => {
                self.ids.insert(*subject);
                true
            }
            Some(_) | None => false,
        }
    }

    /// Somebody whom the platform held while it was open is told of: stored before the end, and not destroyed before the begin.
    fn is_held(&mut self, entry: &Entry) -> bool {
        let Some(held) = self.question.held else { return false };
        if let Held::UnderKey(version) = held {
            self.follow(entry, version);
        }
        let (Some(subject), false) = (entry.subject, entry.verdict == Verdict::Deny.as_str()) else {
            return false;
        };
        if entry.call == DESTROYED && entry.time < self.question.held_from {
            self.ids.remove(&subject);
            return false;
        }
        if self.left {
            return false;
        }
        if is_stored(entry) {
            self.ids.insert(*subject);
        }
        true
    }

    /// Whether the key's version still wraps whoever is stored. Who was before it was made is wrapped under it by that rotation.
    fn follow(&mut self, entry: &Entry, version: u32) {
        if entry.object_kind.as_deref() != Some("key") || entry.row_mac.is_none() {
            return;
        }
        let named = entry.object.as_deref().and_then(|name| std::str::from_utf8(name).ok());
        let named = named.and_then(|name| name.split_once('/'));
        let Some((kind, Ok(number))) = named.map(|(kind, number)| (kind, number.parse::<u32>())) else {
            return;
        };
        if kind == KeyKind::Platform.as_str() {
            self.left |= number > version && entry.call == ACTIVATED;
        }
    }
}

/// Whether the entry is that of a person's first value.
fn is_stored(entry: &Entry) -> bool {
    let stored = [Call::Tokenize.as_str(), Call::BatchTokenize.as_str()];
    entry.object_kind.as_deref() == Some("subject")
        && entry.row_mac.is_some()
        && stored.contains(&entry.call.as_str())
}

/// The smallest ids from one on, of which no more are kept than there is room for.
struct Smallest {
    from: Id,
    room: usize,
    held: BTreeSet<Id>,
    /// Ids from here on did not fit.
    ceiling: Option<Id>,
}

impl Smallest {
    fn insert(&mut self, id: Id) {
        if id < self.from || self.ceiling.is_some_and(|ceiling| id >= ceiling) {
            return;
        }
        self.held.insert(id);
        if self.held.len() > self.room {
            self.ceiling = self.held.pop_last();
        }
    }

    fn remove(&mut self, id: &Id) {
        self.held.remove(id);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        breach::{BreachCause, BreachCertainty, BreachKind, Reach},
        ids::{CallerId, EntryId, PlatformId},
    };

    fn facts(kind: BreachKind, callers: &[u8], held: Option<Held>) -> BreachFacts {
        let at = |micros| Some(Timestamp::from_micros(micros));
        BreachFacts {
            kind,
            certainty: BreachCertainty::Confirmed,
            cause: BreachCause::Unknown,
            began_at: at(100),
            ended_at: at(200),
            reach: Reach { callers: callers.iter().map(|n| CallerId::from_bytes([*n; 16])).collect(), held },
            consequences: Vec::new(),
            measures: Vec::new(),
            reference: None,
        }
    }

    fn entry(call: &str, at: i64, subject: u8) -> Entry {
        let id = EntryId::from_bytes([1; 16]);
        Entry {
            subject: Some([subject; 16].into()),
            ..Entry::new(id, Timestamp::from_micros(at), PlatformId::new(1), call, Verdict::Done)
        }
    }

    fn read(at: i64, caller: u8, subject: u8) -> Entry {
        Entry {
            caller: Some([caller; 16].into()),
            verdict: Verdict::Permit.as_str().to_owned(),
            field: Some("iin".to_owned()),
            purpose: Some("payments".to_owned()),
            recipient: (subject == 3).then(|| "bank".to_owned()),
            ..entry("VaultService/Detokenize", at, subject)
        }
    }

    fn stored(at: i64, subject: u8) -> Entry {
        Entry {
            object_kind: Some("subject".to_owned()),
            row_mac: Some([1; 32].into()),
            ..entry("VaultService/Tokenize", at, subject)
        }
    }

    fn key(call: &str, at: i64, version: u32) -> Entry {
        Entry {
            subject: None,
            object_kind: Some("key".to_owned()),
            object: Some(format!("platform/{version}").into_bytes()),
            row_mac: Some([1; 32].into()),
            ..entry(call, at, 0)
        }
    }

    /// The people that a log tells of, found with room for so many at once; in how many walks.
    fn found(facts: &BreachFacts, log: &[Entry], room: usize) -> (Vec<u8>, usize, Names) {
        found_since(facts, None, log, room)
    }

    fn found_since(
        facts: &BreachFacts,
        made: Option<i64>,
        log: &[Entry],
        room: usize,
    ) -> (Vec<u8>, usize, Names) {
        let question = Question::of(facts, made.map(Timestamp::from_micros));
        let (mut all, mut walks, mut from, mut names) = (Vec::new(), 0, Some([0; 16]), None);
        while let Some(first) = from {
            let mut walk = Walk::new(&question, first, room);
            log.iter().take_while(|entry| !question.is_over(entry)).for_each(|entry| walk.take(entry));
            let (ids, next, told) = walk.end();
            assert!(ids.len() <= room);
            all.extend(ids.iter().map(|id| id[0]));
            names.get_or_insert(told);
            (from, walks) = (next, walks + 1);
        }
        (all, walks, names.unwrap())
    }

    #[test]
    fn a_caller_reaches_whom_it_was_told_of_in_that_time() {
        let denied = Entry { verdict: Verdict::Deny.as_str().to_owned(), ..read(150, 1, 9) };
        let changed = Entry { caller: Some([1; 16].into()), ..entry("VaultService/UpdateRecord", 150, 8) };
        let log = [
            read(99, 1, 2),
            read(100, 1, 3),
            read(100, 1, 3),
            read(150, 2, 4),
            denied,
            changed,
            read(200, 1, 5),
            read(201, 1, 6),
        ];
        let (ids, _, names) = found(&facts(BreachKind::Access, &[1], None), &log, 10);
        assert_eq!(ids, [3, 5], "both ends belong to it, each person once");
        assert_eq!((names.entries, names.recipients), (3, BTreeSet::from(["bank".to_owned()])));
        assert_eq!(found(&facts(BreachKind::Access, &[1, 2], None), &log, 10).0, [3, 4, 5]);
        assert_eq!(found(&facts(BreachKind::Alteration, &[1], None), &log, 10).0, [3, 5, 8]);
        assert_eq!(found(&facts(BreachKind::Access, &[3], None), &log, 10).0, [0; 0]);
    }

    #[test]
    fn everyone_is_who_was_held_in_that_time() {
        let again = entry("RightsService/AnswerCase", 120, 1);
        let log = [
            stored(10, 1),
            stored(20, 2),
            entry(DESTROYED, 99, 1),
            again,
            stored(100, 3),
            entry(DESTROYED, 150, 2),
            stored(200, 4),
            stored(201, 5),
        ];
        let everyone = facts(BreachKind::Loss, &[], Some(Held::Everyone));
        assert_eq!(found(&everyone, &log, 10).0, [2, 3, 4], "destroyed before is not reached, in it is");
    }

    #[test]
    fn a_key_version_reaches_whoever_was_wrapped_under_it() {
        let log = [
            key("Install/CreateKey", 1, 1),
            stored(10, 1),
            stored(11, 2),
            entry(DESTROYED, 20, 2),
            key("KeyService/RotateKey", 110, 2),
            entry(DESTROYED, 112, 1),
            key(ACTIVATED, 115, 1),
            key(ACTIVATED, 115, 2),
            stored(120, 3),
            key("KeyService/RotateKey", 140, 3),
            stored(141, 4),
            key(ACTIVATED, 150, 3),
            stored(160, 5),
        ];
        let under = |version, made| {
            let facts = facts(BreachKind::Access, &[], Some(Held::UnderKey(version)));
            found_since(&facts, Some(made), &log, 9).0
        };
        assert_eq!(under(1, 1), [1], "destroyed in that time; 3 came under its successor");
        assert_eq!(under(2, 110), [1, 3, 4], "who was there when it was made was wrapped under it");
        assert_eq!(under(3, 140), [3, 4, 5]);
        assert_eq!(under(4, 201), [0; 0], "made after the end");
    }

    #[test]
    fn little_room_takes_more_walks_and_finds_the_same() {
        let mut log: Vec<Entry> = (1..=40).map(|n: u8| stored(i64::from(n), 41 - n)).collect();
        log.push(entry(DESTROYED, 50, 7));
        log.extend((30..=60).map(|n| read(150, 1, n)));
        let all = facts(BreachKind::Access, &[1], Some(Held::Everyone));
        let (whole, one, names) = found(&all, &log, 100);
        assert_eq!((whole.len(), one), (59, 1));
        for room in [1, 2, 7, 58] {
            let (ids, walks, told) = found(&all, &log, room);
            assert_eq!((&ids, &told), (&whole, &names), "{room}");
            assert!(walks >= 59_usize.div_ceil(room), "{room}: {walks}");
        }
    }
}
