//! What the batch read brought, under its keys.

use std::{collections::HashMap, sync::Arc};

use super::{
    decode::{Columns, SqlRow},
    snapshot::kind,
};
use crate::{
    domain::{
        ids::{ConsentId, PlatformId, ProposalId, RecordId, SubjectId},
        time::Timestamp,
        token::{TokenHash, TokenMode, TokenState},
    },
    store::{Damage, Snapshot, StoreError},
};

/// The rows of an answer under their keys.
pub(super) fn assemble<R: SqlRow>(rows: &[R], platform: PlatformId) -> Result<Snapshot, StoreError> {
    const MISSING: Damage = Damage { table: "heads", column: "platform_id" };
    let of_kind = |row: &R| row.int(0).ok().flatten();
    let first = rows.iter().find(|row| of_kind(row) == Some(kind::HEAD)).ok_or(MISSING)?;
    let mut columns = Columns::grouped(first, "heads");
    let now = Timestamp::from_micros(columns.int("now")?);
    let vault_epoch = columns.number("vault_epoch")?;
    let (counters, logged_at) = (columns.counters()?, columns.time("updated_at")?);
    let mut snapshot = Snapshot::empty(counters, logged_at, vault_epoch, now);
    for row in rows {
        let kind = of_kind(row).ok_or(Damage { table: "snapshot", column: "kind" })?;
        add_row(&mut snapshot, kind, row, platform)?;
    }
    for consents in snapshot.consents_of.values_mut().flatten() {
        Arc::make_mut(consents)
            .sort_by_key(|row| (std::cmp::Reverse(row.consent.recorded_at), row.consent.id));
    }
    Ok(snapshot)
}

/// Adds one row under its key. The keys are those that were asked for, so they decode; where they do not, the whole
/// read is damaged.
fn add_row<R: SqlRow>(
    snapshot: &mut Snapshot,
    kind: i64,
    row: &R,
    platform: PlatformId,
) -> Result<(), Damage> {
    match kind {
        kind::TOKEN => add_token(snapshot, row, platform)?,
        kind::RECORD => {
            let mut columns = Columns::grouped(row, "records");
            let mut ids = columns;
            let id = RecordId::from_bytes(ids.array("record_id")?);
            let subject = SubjectId::from_bytes(ids.array("subject_id")?);
            snapshot.records_of.entry(subject).or_default().insert(id);
            snapshot.records.insert(id, columns.record(platform).map(Arc::new));
        }
        kind::SUBJECT => {
            let mut columns = Columns::grouped(row, "subjects");
            let mut key = columns;
            let id = SubjectId::from_bytes(key.array("subject_id")?);
            let hash = key.array("reference_hash")?;
            let subject = columns.subject(platform);
            if let Ok(subject) = &subject {
                snapshot.references.insert((subject.index_version, hash), id);
            } else {
                // Which version the hash is of cannot be trusted; whoever asked by it must find the damage.
                let version = key.number("index_version").unwrap_or(0);
                snapshot.references.insert((version, hash), id);
            }
            snapshot.subjects.insert(id, subject.map(Arc::new));
        }
        kind::CONSENT_OF => {
            let mut columns = Columns::grouped(row, "consents");
            let mut ids = columns;
            ids.array::<16>("consent_id")?;
            let subject = SubjectId::from_bytes(ids.array("subject_id")?);
            push(&mut snapshot.consents_of, subject, columns.consent(platform), shared);
        }
        kind::CONSENT => {
            let mut columns = Columns::grouped(row, "consents");
            let mut key = columns;
            let id = ConsentId::from_bytes(key.array("consent_id")?);
            snapshot.consents.insert(id, columns.consent(platform));
        }
        kind::EVENT => {
            let mut columns = Columns::grouped(row, "subject_events");
            let mut ids = columns;
            ids.array::<16>("event_id")?;
            let subject = SubjectId::from_bytes(ids.array("subject_id")?);
            push(&mut snapshot.events_of, subject, columns.event(platform), shared);
        }
        kind::VALUE => {
            let entry = Columns::grouped(row, "index_entries").index_entry()?;
            let key = (entry.field.clone(), entry.index_version, entry.hash);
            snapshot.values.entry(key).or_default().push(entry);
        }
        kind::REQUEST => {
            let mut columns = Columns::grouped(row, "requests");
            let mut ids = columns;
            let caller = crate::domain::ids::CallerId::from_bytes(ids.array("caller_id")?);
            let request = crate::domain::ids::RequestId::from_bytes(ids.array("request_id")?);
            snapshot.requests.insert((caller, request), columns.request(platform));
        }
        kind::BUDGET => {
            let budget = Columns::grouped(row, "budgets").budget()?;
            snapshot.budgets.insert(budget.window, budget.spent);
        }
        kind::RIVALLED => {
            let id = Columns::grouped(row, "index_entries").array("record_id")?;
            snapshot.rivalled.insert(RecordId::from_bytes(id));
        }
        kind::DEMAND => {
            let id = Columns::grouped(row, "subjects").array("subject_id")?;
            snapshot.demanded.insert(SubjectId::from_bytes(id));
        }
        kind::OPERATION => {
            let row = Columns::grouped(row, "operations").operation_on_subject()?;
            snapshot.operations_on.insert(row.operation.object, row);
        }
        kind::PROPOSAL => {
            let mut columns = Columns::grouped(row, "proposals");
            let mut key = columns;
            let id = ProposalId::from_bytes(key.array("proposal_id")?);
            snapshot.proposals.insert(id, columns.proposal(platform));
        }
        kind::DOCUMENT => {
            let mut columns = Columns::grouped(row, "documents");
            let subject = subject_at(columns, 2)?;
            push(&mut snapshot.documents_of, subject, columns.document(platform), Vec::push);
        }
        kind::UPLOAD => {
            let mut columns = Columns::grouped(row, "uploads");
            let subject = subject_at(columns, 5)?;
            push(&mut snapshot.uploads_of, subject, columns.upload(platform), Vec::push);
        }
        _ => {}
    }
    Ok(())
}

/// The subject of a row, which follows so many byte strings.
fn subject_at<R: SqlRow>(mut columns: Columns<'_, R>, after: usize) -> Result<SubjectId, Damage> {
    for _ in 0..after {
        columns.bytes("id")?;
    }
    columns.array("subject_id").map(SubjectId::from_bytes)
}

fn add_token<R: SqlRow>(snapshot: &mut Snapshot, row: &R, platform: PlatformId) -> Result<(), Damage> {
    let mut columns = Columns::grouped(row, "tokens");
    let mut ids = columns;
    let hash = TokenHash(ids.array("token_hash")?);
    let token = columns.token(platform);
    if let Ok(token) = &token {
        snapshot.token_hashes.insert(token.id, hash);
        if token.mode == TokenMode::Deterministic && token.state == TokenState::Active {
            snapshot.deterministic.insert(token.record, hash);
        }
    }
    // The same token may come twice, once with its sealed copy: that one stays.
    let sealed = |t: &Result<_, Damage>| {
        t.as_ref().is_ok_and(|t: &Arc<crate::store::rows::TokenRow>| !t.sealed_token.as_bytes().is_empty())
    };
    if !snapshot.tokens.get(&hash).is_some_and(sealed) {
        snapshot.tokens.insert(hash, token.map(Arc::new));
    }
    Ok(())
}

/// Adds a row to the list of its subject. A damaged one damages the list: what is missing from it might be what counts.
fn push<T, L: Default>(
    lists: &mut HashMap<SubjectId, Result<L, Damage>>,
    subject: SubjectId,
    row: Result<T, Damage>,
    add: fn(&mut L, T),
) {
    let list = lists.entry(subject).or_insert_with(|| Ok(L::default()));
    match (row, list.as_mut()) {
        (Ok(row), Ok(list)) => add(list, row),
        (Err(damage), _) => *list = Err(damage),
        (Ok(_), Err(_)) => {}
    }
}

fn shared<T: Clone>(list: &mut Arc<Vec<T>>, row: T) {
    Arc::make_mut(list).push(row);
}
