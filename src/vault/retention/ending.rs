//! How data end for good, whoever ends them: a record of a subject, and the subject itself.
//!
//! Nothing of it can be called off, so that what ends an operation, a request of the person or the calendar writes the same rows
//! and the same entries, under its own name.

use crate::{
    audit::entry::Entry,
    domain::{
        consent::SubjectState, ids::SubjectId, receipt::ReceiptKind, rng::random_bytes, time::Timestamp,
    },
    policy::model::ExpiryKind,
    store::{
        Write,
        rows::{RecordRow, SubjectRow},
    },
    vault::{
        act::{Plan, Scene},
        error::VaultError,
        operations::DESTROY,
        tokenize::unavailable,
    },
};

/// The entry of a record that was destroyed.
pub(in crate::vault) const DESTROYED_RECORD: &str = "Operation/DestroyRecord";
/// The entry of a subject of whom nothing is left; its destruction follows in the same commit.
pub(in crate::vault) const ENDED_SUBJECT: &str = "Operation/EndSubject";
/// The entry of a subject that no reference is to lead to any more, by the end of its retention or because a person asked for it; its
/// destruction follows likewise.
pub(in crate::vault) const ANONYMISED: &str = "Operation/AnonymiseSubject";

/// Every version, token and index row of a record.
pub(in crate::vault) fn end_record(record: &RecordRow, entry: Entry, plan: &mut Plan) {
    plan.entries.push(Entry {
        field: Some(record.address.field.to_string()),
        record: Some((*record.address.record.as_bytes()).into()),
        ..of(record.address.subject, entry)
    });
    plan.writes.push(Write::DestroyRecord(record.address.record));
}

/// What is left of a subject without records is its key and its reference: both go, and where it is depersonalised even the hash
/// that the platform's reference is found by. Consents, events, requests and entries stay, under the subject's id and with the numbers of
/// papers that the platform gave: whoever kept those finds them, and only the platform can delete what it kept. `begin` begins an entry
/// of a call.
pub(in crate::vault) fn end_subject(
    subject: &SubjectRow,
    kind: ExpiryKind,
    scene: &Scene<'_>,
    plan: &mut Plan,
    begin: impl Fn(&str) -> Result<Entry, VaultError>,
) -> Result<(), VaultError> {
    let (call, reference_hash) = match kind {
        ExpiryKind::Destruction => (ENDED_SUBJECT, subject.reference_hash),
        ExpiryKind::Depersonalisation => (ANONYMISED, random_bytes(scene.rng()).map_err(unavailable)?),
    };
    let gone = SubjectRow { reference_hash, ..ended_subject(subject, scene.now) };
    let gone = SubjectRow { mac: scene.keys().row.mac(&gone.image()), ..gone };
    let told = |entry: Entry| Entry { row_mac: Some(gone.mac.into()), ..of(gone.id, entry) };
    let subject_entry = Entry { object_kind: Some("subject".to_owned()), object: None, ..begin(call)? };
    let last = told(Entry { object_kind: Some("operation".to_owned()), ..begin(DESTROY)? });
    let destroyed = last.entry_id();
    plan.entries.extend([told(subject_entry), last]);
    plan.writes.push(Write::UpdateSubject(gone.clone(), subject.mac));
    plan.writes.push(scene.receipt(ReceiptKind::Destroyed, destroyed, &gone)?);
    plan.writes.push(Write::DestroySubject(gone));
    Ok(())
}

fn of(subject: SubjectId, entry: Entry) -> Entry {
    Entry { subject: Some((*subject.as_bytes()).into()), ..entry }
}

/// A subject as its end leaves it, without the MAC.
fn ended_subject(subject: &SubjectRow, at: Timestamp) -> SubjectRow {
    SubjectRow { state: SubjectState::Erased, erased_at: Some(at), destroy_at: Some(at), ..subject.clone() }
}
