//! What a log tells after a backup: of each row the last word, what was destroyed, corrected, made and asked. Pure.

use std::collections::{BTreeMap, BTreeSet};

use crate::{
    audit::entry::{Entry, Verdict},
    domain::{
        ids::{CallerId, DocumentId, EntryId, PersonId, RecordId, RequestId, SubjectId},
        time::Timestamp,
    },
    store::{GrantingTable, rows::Mac},
    vault::{
        access::Call,
        documents::DELETED,
        keys::MOVED,
        reconcile::{DESTROYED, Row, told_row},
        retention::DESTROYED_RECORD,
    },
};

type Id = [u8; 16];

/// The last word on a row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Last {
    /// The entry.
    pub(super) entry: EntryId,
    /// The call.
    pub(super) call: String,
    /// When; a row that was changed has this time in it.
    pub(super) at: Timestamp,
    /// MAC that the row has from then on.
    pub(super) mac: Mac,
    /// The person who did it.
    pub(super) person: Option<PersonId>,
    /// Whose row it is.
    pub(super) subject: Option<SubjectId>,
    /// The record that a token stands for.
    pub(super) record: Option<RecordId>,
    /// Why, where something failed.
    pub(super) reason: Option<String>,
    /// Of a version of a document's side: which document.
    pub(super) document: Option<DocumentId>,
    /// Whether a rotation of the index key moved the row's hash since. What else it says did not change by that.
    pub(super) moved: bool,
}

/// A correction of a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Corrected {
    pub(super) version: u64,
    pub(super) subject: SubjectId,
}

/// What entries after a backup tell.
#[derive(Debug, Default)]
pub(super) struct Newer {
    /// Entries.
    pub(super) entries: u64,
    pub(super) rows: BTreeMap<(GrantingTable, Id), Last>,
    pub(super) config: BTreeMap<(&'static str, Vec<u8>), Last>,
    /// What was destroyed, by which entry and when.
    pub(super) destroyed: BTreeMap<SubjectId, (EntryId, Timestamp)>,
    /// Subjects of whom an erasure was called off.
    pub(super) called_off: BTreeSet<SubjectId>,
    /// Records whose retention ended.
    pub(super) ended: BTreeSet<RecordId>,
    pub(super) corrected: BTreeMap<Id, Corrected>,
    /// Documents that were deleted.
    pub(super) deleted: BTreeSet<DocumentId>,
    /// Names of platforms that were made.
    pub(super) platforms: Vec<String>,
    /// Requests older than this are refused by their date, and need no row.
    requests_since: Option<Timestamp>,
    /// Requests that were done, with their calls.
    pub(super) requests: BTreeMap<(CallerId, RequestId), (String, Timestamp)>,
}

impl Newer {
    /// Nothing told yet; requests count where they were done after `since`.
    pub(super) fn since(since: Timestamp) -> Self {
        Self { requests_since: Some(since), ..Self::default() }
    }

    /// Takes the next entry.
    pub(super) fn take(&mut self, entry: &Entry) {
        self.entries += 1;
        let at = Timestamp::from_micros(entry.time);
        let subject = entry.subject.map(|id| SubjectId::from_bytes(*id));
        let done = entry.verdict == Verdict::Done.as_str();
        if let (Some(caller), Some(request), None) = (entry.caller, entry.request, entry.replay_of)
            && self.requests_since.is_none_or(|since| at >= since)
        {
            let key = (CallerId::from_bytes(*caller), RequestId::from_bytes(*request));
            self.requests.insert(key, (entry.call.clone(), at));
        }
        if entry.call == DESTROYED
            && done
            && let Some(subject) = subject
        {
            // Its row stays as it was erased, so the word before is the last on it.
            self.destroyed.insert(subject, (entry.entry_id(), at));
            return;
        }
        if entry.call == Call::CancelErasure.as_str() && done {
            self.called_off.extend(subject);
        }
        let record = entry.record.map(|id| RecordId::from_bytes(*id));
        if entry.call == DESTROYED_RECORD {
            self.ended.extend(record);
            return;
        }
        match entry.object_kind.as_deref() {
            Some("record") if done => {
                let record = entry.record.map(|id| *id);
                if let (Some(record), Some(version), Some(subject)) = (record, entry.count, subject) {
                    self.corrected.insert(record, Corrected { version, subject });
                }
            }
            Some(DELETED) if done => {
                let id = entry.object.as_deref().and_then(|id| id.try_into().ok());
                self.deleted.extend(id.map(DocumentId::from_bytes));
            }
            Some("platform") if done => {
                let name = entry.object.as_deref().and_then(|name| std::str::from_utf8(name).ok());
                self.platforms.extend(name.map(str::to_owned));
            }
            _ => {}
        }
        let Some((row, mac)) = told_row(entry) else { return };
        let Some(mac) = mac else {
            self.forget(row);
            return;
        };
        let last = last_of(entry, mac);
        match row {
            Row::Of(table, id) => {
                let before = self.rows.get_mut(&(table, id));
                if let Some(before) = before {
                    if last.moved {
                        before.moved = true;
                        return;
                    }
                    // The use of a token may be told again where its answer was lost; whose it is, each word says.
                    *before = Last {
                        subject: subject.or(before.subject),
                        record: record.or(before.record),
                        moved: before.moved,
                        ..last
                    };
                } else {
                    self.rows.insert((table, id), last);
                }
            }
            Row::Config(kind, object) => {
                self.config.insert((kind, object.to_vec()), last);
            }
        }
    }

    /// A row that an earlier restore lost: there is nothing to bring back.
    fn forget(&mut self, row: Row<'_>) {
        match row {
            Row::Of(table, id) => drop(self.rows.remove(&(table, id))),
            Row::Config(kind, object) => drop(self.config.remove(&(kind, object.to_vec()))),
        }
    }

    /// Last words on the rows of a table.
    pub(super) fn of(&self, table: GrantingTable) -> impl Iterator<Item = (Id, &Last)> {
        self.rows.iter().filter(move |((known, _), _)| *known == table).map(|((_, id), last)| (*id, last))
    }
}

fn last_of(entry: &Entry, mac: Mac) -> Last {
    Last {
        entry: entry.entry_id(),
        call: entry.call.clone(),
        at: Timestamp::from_micros(entry.time),
        mac,
        person: entry.person.map(|id| PersonId::from_bytes(*id)),
        subject: entry.subject.map(|id| SubjectId::from_bytes(*id)),
        reason: entry.reason.clone(),
        record: entry.record.map(|id| RecordId::from_bytes(*id)),
        document: entry.record.map(|id| DocumentId::from_bytes(*id)),
        moved: entry.call == MOVED,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::PlatformId;

    fn entry(call: &str, kind: &str, at: i64) -> Entry {
        let id = EntryId::from_bytes([1; 16]);
        Entry {
            object_kind: Some(kind.to_owned()),
            subject: Some([9; 16].into()),
            row_mac: Some([u8::try_from(at).unwrap(); 32].into()),
            ..Entry::new(id, Timestamp::from_micros(at), PlatformId::new(1), call, Verdict::Done)
        }
    }

    #[test]
    fn the_last_word_counts_and_a_destruction_is_none() {
        let mut newer = Newer::default();
        newer.take(&entry("SubjectService/RestrictSubject", "subject", 1));
        newer.take(&entry("SubjectService/EraseSubject", "subject", 2));
        newer.take(&Entry { object_kind: Some("operation".into()), ..entry(DESTROYED, "", 3) });
        let (id, last) = newer.of(GrantingTable::Subjects).next().unwrap();
        assert_eq!((id, last.call.as_str(), last.mac), ([9; 16], "SubjectService/EraseSubject", [2; 32]));
        assert_eq!(newer.destroyed.keys().collect::<Vec<_>>(), [&SubjectId::from_bytes([9; 16])]);
        assert_eq!(newer.entries, 3);
    }

    #[test]
    fn an_erasure_that_was_called_off_is_told_whatever_followed() {
        let mut newer = Newer::default();
        newer.take(&entry("SubjectService/EraseSubject", "subject", 1));
        assert!(newer.called_off.is_empty());
        newer.take(&entry("SubjectService/CancelErasure", "subject", 2));
        newer.take(&entry("SubjectService/UnrestrictSubject", "subject", 3));
        newer.take(&Entry {
            verdict: Verdict::Deny.as_str().to_owned(),
            subject: Some([8; 16].into()),
            ..entry("SubjectService/CancelErasure", "subject", 4)
        });
        assert_eq!(newer.called_off.iter().collect::<Vec<_>>(), [&SubjectId::from_bytes([9; 16])]);
    }

    #[test]
    fn retries_are_no_requests_of_their_own() {
        let asked = |n: u8| Entry {
            caller: Some([1; 16].into()),
            request: Some([n; 16].into()),
            ..entry("VaultService/RevokeToken", "token", 1)
        };
        let mut newer = Newer::default();
        newer.take(&asked(1));
        newer.take(&Entry { replay_of: Some([7; 16].into()), ..asked(2) });
        assert_eq!(newer.requests.len(), 1);
    }

    #[test]
    fn requests_whose_ids_are_too_old_to_be_sent_again_are_not_kept() {
        let asked = |n: u8, at: i64| Entry {
            caller: Some([1; 16].into()),
            request: Some([n; 16].into()),
            ..entry("SubjectService/RestrictSubject", "subject", at)
        };
        let mut newer = Newer::since(Timestamp::from_micros(5));
        newer.take(&asked(1, 4));
        newer.take(&asked(2, 5));
        let kept: Vec<_> = newer.requests.keys().map(|(_, request)| *request).collect();
        assert_eq!(kept, [RequestId::from_bytes([2; 16])]);
        assert_eq!(newer.rows.len(), 1, "what it did to rows counts, however old");
    }
}
