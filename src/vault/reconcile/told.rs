//! What a log told of rows, and whether a row is as told. Pure.
//!
//! Rows are read while others write. A row that was read after the log was replayed up to one position and before it
//! was replayed up to a later one must be what the log told last before the first, or anything told in between.

use std::{
    collections::{BTreeMap, HashMap, HashSet},
    ops::{Bound, RangeInclusive},
};

use crate::{
    audit::entry::{Entry, Verdict},
    domain::code::coded,
    store::{GrantingTable, rows::Mac},
    vault::{
        documents::{DELETED, VERSION},
        retention::DESTROYED_RECORD,
    },
};

coded!(
    /// How a row and the log differ.
    Problem, "problem of a row" {
        /// The log tells of the row; the table has none.
        Missing = "ROW_MISSING",
        /// The table has the row; the log tells nothing of it.
        Unknown = "ROW_UNKNOWN",
        /// An older state of the row was put back: its MAC is one that the log told earlier.
        Stale = "ROW_STALE",
        /// The row's MAC is none that the log ever told of it.
        Edited = "ROW_EDITED",
    }
);

/// The entry that ends the tokens of a subject.
pub(in crate::vault) const DESTROYED: &str = "Operation/DestroySubject";

/// The entry of a row that a restore could not bring back.
pub(in crate::vault) const LOST: &str = "Restore/Lost";

/// Kinds of configuration rows in entries, and their tables.
const CONFIGURATION: [(&str, &str); 11] = [
    ("key", "key_versions"),
    ("policy", "policies"),
    ("caller", "callers"),
    ("recipient", "recipients"),
    ("limit", "budget_limits"),
    ("budget", "budget_limits"),
    ("person", "persons"),
    ("role", "person_roles"),
    ("staff_key", "staff_keys"),
    ("horizon", "horizon_plans"),
    ("closure", "closures"),
];

/// Name of a table.
pub(super) const fn table_name(table: GrantingTable) -> &'static str {
    match table {
        GrantingTable::Subjects => "subjects",
        GrantingTable::Tokens => "tokens",
        GrantingTable::Consents => "consents",
        GrantingTable::Events => "subject_events",
        GrantingTable::Proposals => "proposals",
        GrantingTable::Cases => "rights_cases",
        GrantingTable::Breaches => "breaches",
        GrantingTable::Copies => "data_copies",
        GrantingTable::Documents => "documents",
    }
}

type Id = [u8; 16];

/// The row that an entry tells of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::vault) enum Row<'a> {
    /// A row of a table that reconciliations walk.
    Of(GrantingTable, Id),
    /// A row of the configuration: its kind and id.
    Config(&'static str, &'a [u8]),
}

/// The row that an entry tells of, with the MAC that it has from then on; none where it is lost.
pub(in crate::vault) fn told_row(entry: &Entry) -> Option<(Row<'_>, Option<Mac>)> {
    let mac = entry.row_mac.map(|mac| *mac);
    if mac.is_none() && entry.call != LOST {
        return None;
    }
    let id = |id: Option<minicbor::bytes::ByteArray<16>>| {
        id.map(|id| *id).or_else(|| entry.object.as_deref().and_then(|object| object.try_into().ok()))
    };
    let (table, id) = match entry.object_kind.as_deref() {
        Some("subject") => (GrantingTable::Subjects, id(entry.subject)),
        Some("consent") => (GrantingTable::Consents, id(entry.consent)),
        Some("event") => (GrantingTable::Events, id(None)),
        Some("proposal") => (GrantingTable::Proposals, id(None)),
        Some("case") => (GrantingTable::Cases, id(None)),
        Some("breach") => (GrantingTable::Breaches, id(None)),
        Some("copy") => (GrantingTable::Copies, id(None)),
        Some(VERSION) => (GrantingTable::Documents, id(None)),
        Some("token") => (GrantingTable::Tokens, id(entry.token)),
        None => (GrantingTable::Tokens, entry.token.map(|id| *id)),
        Some(kind) => {
            let (kind, _) = CONFIGURATION.iter().find(|(known, _)| *known == kind)?;
            return Some((Row::Config(kind, entry.object.as_deref()?), mac));
        }
    };
    Some((Row::Of(table, id?), mac))
}

/// What was told of one row: each MAC that it had, with the position of the entry; none from where it was lost.
#[derive(Debug, Default)]
struct History {
    told: Vec<(u64, Option<Mac>)>,
    /// Of a token or a document: whose.
    subject: Option<Id>,
    /// Of a token the record that it stands for, of a version of a side its document.
    record: Option<Id>,
}

impl History {
    /// How a row with this MAC differs, read when the log was replayed up to `since`.
    fn judge(&self, mac: &Mac, since: u64) -> Option<Problem> {
        let last_before = self.told.iter().rposition(|(at, _)| *at < since).unwrap_or(0);
        match self.told.iter().rposition(|(_, told)| told.as_ref() == Some(mac)) {
            Some(at) if at >= last_before => None,
            Some(_) => Some(Problem::Stale),
            None => Some(Problem::Edited),
        }
    }

    /// Whether there must be such a row, read when the log was replayed up to `since`.
    fn is_expected(&self, since: u64) -> bool {
        self.told.iter().rfind(|(at, _)| *at < since).is_some_and(|(_, told)| told.is_some())
    }
}

/// A configuration row as stored.
pub(super) struct ConfigRow {
    pub(super) table: &'static str,
    pub(super) mac: Mac,
    /// Whether the MAC is that of the row's content.
    pub(super) genuine: bool,
}

/// What a log told of rows whose ids begin with a byte of a range.
pub(super) struct Told {
    range: RangeInclusive<u8>,
    rows: [BTreeMap<Id, History>; 9],
    destroyed: HashMap<Id, u64>,
    /// Records whose retention ended, and documents that were deleted.
    ended: HashMap<Id, u64>,
    /// By kind and id.
    config: BTreeMap<(&'static str, Vec<u8>), History>,
}

impl Told {
    pub(super) fn new(range: RangeInclusive<u8>) -> Self {
        Self {
            range,
            rows: Default::default(),
            destroyed: HashMap::new(),
            ended: HashMap::new(),
            config: BTreeMap::new(),
        }
    }

    /// Takes the next entry of the log.
    pub(super) fn take(&mut self, position: u64, entry: &Entry) {
        if entry.call == DESTROYED
            && entry.verdict == Verdict::Done.as_str()
            && let Some(subject) = entry.subject
        {
            self.destroyed.entry(*subject).or_insert(position);
        }
        if entry.call == DESTROYED_RECORD
            && let Some(record) = entry.record
        {
            self.ended.entry(*record).or_insert(position);
        }
        if entry.object_kind.as_deref() == Some(DELETED)
            && entry.verdict == Verdict::Done.as_str()
            && let Some(document) = entry.record
        {
            self.ended.entry(*document).or_insert(position);
        }
        let Some((row, mac)) = told_row(entry) else { return };
        let (table, id) = match row {
            Row::Of(table, id) => (table, id),
            Row::Config(kind, object) => {
                self.config.entry((kind, object.to_vec())).or_default().told.push((position, mac));
                return;
            }
        };
        if !id.first().is_some_and(|first| self.range.contains(first)) {
            return;
        }
        let history = rows_of(&mut self.rows, table).entry(id).or_default();
        history.told.push((position, mac));
        if matches!(table, GrantingTable::Tokens | GrantingTable::Documents) {
            history.subject = history.subject.or(entry.subject.map(|subject| *subject));
            history.record = history.record.or(entry.record.map(|record| *record));
        }
    }

    /// How a row differs, read when the log was replayed up to `since`.
    pub(super) fn judge(&self, table: GrantingTable, id: &Id, mac: &Mac, since: u64) -> Option<Problem> {
        let Some(history) = self.of(table).get(id) else { return Some(Problem::Unknown) };
        if self.destroyed_at(history).is_some_and(|at| at < since) {
            let told = history.told.iter().any(|(_, told)| told.as_ref() == Some(mac));
            return Some(if told { Problem::Stale } else { Problem::Edited });
        }
        history.judge(mac, since)
    }

    /// Rows between two ids that the log told of, and that are not among those found there.
    pub(super) fn missing<'a>(
        &'a self,
        table: GrantingTable,
        after: Id,
        up_to: Option<Id>,
        found: &'a HashSet<Id>,
        since: u64,
    ) -> impl Iterator<Item = Id> + 'a {
        let end = up_to.map_or(Bound::Unbounded, Bound::Included);
        // A page that ends where it began has nothing between.
        let none = up_to.is_some_and(|end| end <= after);
        let range = (!none).then(|| self.of(table).range((Bound::Excluded(after), end)));
        range
            .into_iter()
            .flatten()
            .filter(move |(id, history)| {
                !found.contains(*id) && history.is_expected(since) && self.destroyed_at(history).is_none()
            })
            .map(|(id, _)| *id)
    }

    /// Configuration rows that differ: table, id, problem. Ids are those of entries, so a row that the log does not
    /// know has none.
    pub(super) fn judge_config(
        &self,
        rows: &[ConfigRow],
        expected: impl Fn(&str, &[u8]) -> bool,
        since: u64,
    ) -> Vec<(&'static str, Vec<u8>, Problem)> {
        let (mut findings, mut seen) = (Vec::new(), HashSet::new());
        for row in rows {
            let teller = self.config.iter().find(|((kind, _), history)| {
                table_of(kind) == row.table && history.told.iter().any(|(_, told)| *told == Some(row.mac))
            });
            let problem = match teller {
                Some((key, history)) => {
                    seen.insert(key);
                    history.judge(&row.mac, since)
                }
                None if row.genuine => Some(Problem::Unknown),
                None => Some(Problem::Edited),
            };
            let problem = problem.or((!row.genuine).then_some(Problem::Edited));
            let id = teller.map(|((_, id), _)| id.clone()).unwrap_or_default();
            findings.extend(problem.map(|problem| (row.table, id, problem)));
        }
        let missing = self.config.iter().filter(|(key, history)| {
            !seen.contains(key) && history.is_expected(since) && expected(key.0, &key.1)
        });
        findings.extend(missing.map(|((kind, id), _)| (table_of(kind), id.clone(), Problem::Missing)));
        findings
    }

    fn of(&self, table: GrantingTable) -> &BTreeMap<Id, History> {
        let [subjects, tokens, consents, events, proposals, cases, breaches, copies, documents] = &self.rows;
        match table {
            GrantingTable::Subjects => subjects,
            GrantingTable::Tokens => tokens,
            GrantingTable::Consents => consents,
            GrantingTable::Events => events,
            GrantingTable::Proposals => proposals,
            GrantingTable::Cases => cases,
            GrantingTable::Breaches => breaches,
            GrantingTable::Copies => copies,
            GrantingTable::Documents => documents,
        }
    }

    /// Since when the subject or the record of a token is destroyed, and the token with it; the same of a document.
    fn destroyed_at(&self, history: &History) -> Option<u64> {
        let subject = history.subject.and_then(|subject| self.destroyed.get(&subject).copied());
        let record = history.record.and_then(|record| self.ended.get(&record).copied());
        subject.into_iter().chain(record).min()
    }
}

fn rows_of(rows: &mut [BTreeMap<Id, History>; 9], table: GrantingTable) -> &mut BTreeMap<Id, History> {
    let [subjects, tokens, consents, events, proposals, cases, breaches, copies, documents] = rows;
    match table {
        GrantingTable::Subjects => subjects,
        GrantingTable::Tokens => tokens,
        GrantingTable::Consents => consents,
        GrantingTable::Events => events,
        GrantingTable::Proposals => proposals,
        GrantingTable::Cases => cases,
        GrantingTable::Breaches => breaches,
        GrantingTable::Copies => copies,
        GrantingTable::Documents => documents,
    }
}

fn table_of(kind: &str) -> &'static str {
    CONFIGURATION.iter().find(|(known, _)| *known == kind).map_or("", |(_, table)| table)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        ids::{EntryId, PlatformId},
        time::Timestamp,
    };

    fn entry(call: &str) -> Entry {
        let id = EntryId::from_bytes([1; 16]);
        Entry::new(id, Timestamp::from_micros(1), PlatformId::new(1), call, Verdict::Done)
    }

    fn token(id: u8, mac: u8) -> Entry {
        Entry {
            token: Some([id; 16].into()),
            subject: Some([9; 16].into()),
            row_mac: Some([mac; 32].into()),
            ..entry("VaultService/Tokenize")
        }
    }

    fn told(entries: &[Entry]) -> Told {
        let mut told = Told::new(0..=u8::MAX);
        for (position, entry) in (0..).zip(entries) {
            told.take(position, entry);
        }
        told
    }

    const TOKENS: GrantingTable = GrantingTable::Tokens;

    #[test]
    fn a_row_is_what_was_told_last() {
        let told = told(&[token(1, 1), token(1, 2), token(2, 3)]);
        let judge = |id, mac| told.judge(TOKENS, &[id; 16], &[mac; 32], 3);
        assert_eq!(judge(1, 2), None);
        assert_eq!(judge(1, 1), Some(Problem::Stale));
        assert_eq!(judge(1, 3), Some(Problem::Edited), "the MAC of another row");
        assert_eq!(judge(3, 3), Some(Problem::Unknown));
    }

    #[test]
    fn what_changed_while_it_was_read_is_no_finding() {
        let told = told(&[token(1, 1), token(1, 2), token(1, 3), token(2, 4)]);
        let judge = |mac, since| told.judge(TOKENS, &[1; 16], &[mac; 32], since);
        assert_eq!((judge(1, 1), judge(2, 1), judge(3, 1)), (None, None, None));
        assert_eq!((judge(1, 2), judge(2, 2)), (Some(Problem::Stale), None));
        let missing = |since| told.missing(TOKENS, [0; 16], None, &HashSet::new(), since).count();
        assert_eq!((missing(0), missing(1), missing(4)), (0, 1, 2), "made after the rows were read");
    }

    #[test]
    fn missing_rows_are_looked_for_between_pages() {
        let told = told(&[token(1, 1), token(2, 1), token(3, 1)]);
        let missing = |after: u8, up_to: Option<u8>, found: &[u8]| -> Vec<u8> {
            let found = found.iter().map(|id| [*id; 16]).collect();
            let end = up_to.map(|id| [id; 16]);
            told.missing(TOKENS, [after; 16], end, &found, 3).map(|id| id[0]).collect()
        };
        assert_eq!(missing(0, Some(2), &[2]), [1]);
        assert_eq!(missing(2, None, &[]), [3]);
        assert_eq!(missing(2, Some(2), &[]), [0; 0]);
        assert_eq!(missing(0, None, &[1, 2, 3]), [0; 0]);
    }

    #[test]
    fn tokens_of_a_destroyed_subject_are_gone() {
        let destroyed = Entry { subject: Some([9; 16].into()), ..entry(DESTROYED) };
        let told = told(&[token(1, 1), destroyed]);
        assert_eq!(told.missing(TOKENS, [0; 16], None, &HashSet::new(), 2).count(), 0);
        assert_eq!(told.judge(TOKENS, &[1; 16], &[1; 32], 2), Some(Problem::Stale), "put back");
        assert_eq!(told.judge(TOKENS, &[1; 16], &[1; 32], 1), None, "read before they went");
    }

    #[test]
    fn tokens_of_a_destroyed_record_are_gone_and_others_stay() {
        let of = |token: Entry, record: u8| Entry { record: Some([record; 16].into()), ..token };
        let ended = of(Entry { subject: Some([9; 16].into()), ..entry(DESTROYED_RECORD) }, 5);
        let told = told(&[of(token(1, 1), 5), of(token(2, 2), 6), ended]);
        assert_eq!(told.missing(TOKENS, [0; 16], None, &HashSet::new(), 3).collect::<Vec<_>>(), [[2; 16]]);
        assert_eq!(told.judge(TOKENS, &[1; 16], &[1; 32], 3), Some(Problem::Stale), "put back");
        assert_eq!(told.judge(TOKENS, &[2; 16], &[2; 32], 3), None);
    }

    #[test]
    fn versions_of_a_deleted_document_are_gone_and_others_stay() {
        let version = |id: u8, mac: u8, document: u8| Entry {
            object_kind: Some(VERSION.to_owned()),
            object: Some(vec![id; 16]),
            row_mac: Some([mac; 32].into()),
            subject: Some([9; 16].into()),
            record: Some([document; 16].into()),
            ..entry("DocumentService/UploadDocument")
        };
        let deleted = Entry {
            object_kind: Some(DELETED.to_owned()),
            record: Some([5; 16].into()),
            ..entry("DocumentService/DeleteDocument")
        };
        let documents = GrantingTable::Documents;
        let told = told(&[version(1, 1, 5), version(2, 2, 6), version(2, 3, 6), deleted]);
        let none = HashSet::new();
        let missing = told.missing(documents, [0; 16], None, &none, 4);
        assert_eq!(missing.collect::<Vec<_>>(), [[2; 16]]);
        assert_eq!(told.judge(documents, &[1; 16], &[1; 32], 4), Some(Problem::Stale), "put back");
        assert_eq!(told.judge(documents, &[2; 16], &[2; 32], 4), Some(Problem::Stale), "in use again");
        assert_eq!(told.judge(documents, &[2; 16], &[3; 32], 4), None);
    }

    #[test]
    fn what_a_restore_lost_is_not_missed_and_must_not_be_there() {
        let lost = |kind: &str, object: Vec<u8>| Entry {
            object_kind: Some(kind.to_owned()),
            object: Some(object),
            ..entry(LOST)
        };
        let told = told(&[token(1, 1), lost("token", vec![1; 16]), token(2, 2)]);
        assert_eq!(told.missing(TOKENS, [0; 16], None, &HashSet::new(), 3).collect::<Vec<_>>(), [[2; 16]]);
        assert_eq!(told.judge(TOKENS, &[1; 16], &[1; 32], 3), Some(Problem::Stale), "put back");
        assert_eq!(told.judge(TOKENS, &[1; 16], &[1; 32], 1), None, "read before it was lost");
    }

    #[test]
    fn other_ids_are_of_another_pass() {
        let mut told = Told::new(0..=0x7f);
        told.take(0, &token(0x80, 1));
        told.take(1, &token(0x7f, 1));
        assert_eq!(told.of(TOKENS).len(), 1);
    }

    #[test]
    fn configuration_is_found_by_its_macs() {
        let caller = |id: u8, mac: u8| Entry {
            object_kind: Some("caller".to_owned()),
            object: Some(vec![id; 16]),
            row_mac: Some([mac; 32].into()),
            ..entry("Start/EnrolCaller")
        };
        let told = told(&[caller(1, 1), caller(1, 2), caller(2, 3)]);
        let row = |mac: u8, genuine: bool| ConfigRow { table: "callers", mac: [mac; 32], genuine };
        let judge = |rows: &[ConfigRow]| told.judge_config(rows, |_, _| true, 3);
        assert_eq!(judge(&[row(2, true), row(3, true)]), []);
        let of = |id: u8, problem| ("callers", vec![id; 16], problem);
        assert_eq!(judge(&[row(1, true), row(3, true)]), [of(1, Problem::Stale)]);
        assert_eq!(judge(&[row(2, true)]), [of(2, Problem::Missing)]);
        assert_eq!(judge(&[row(2, false), row(3, true)]), [of(1, Problem::Edited)]);
        let unknown = ("callers", vec![], Problem::Unknown);
        assert_eq!(judge(&[row(2, true), row(3, true), row(9, true)]), [unknown]);
    }
}
