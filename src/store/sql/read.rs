//! The batch read: everything that a batch needs in one statement, so that it is one look at one state.

use std::{
    collections::{HashMap, HashSet},
    fmt::Write as _,
};

use super::{
    decode::{Columns, GROUPED_BYTES, GROUPED_INTS, GROUPED_TEXTS, SqlRow},
    statement::{Dialect, Statement},
};
use crate::{
    domain::{
        ids::{ConsentId, PlatformId, ProposalId, RecordId, SubjectId},
        time::Timestamp,
        token::{TokenHash, TokenMode, TokenState},
    },
    store::{Damage, MAX_INDEX_HITS, ReadKeys, Snapshot, StoreError},
};

/// From the few wanted keys to the rows, never through a table.
const WANTED: &str = "/* read::snapshot */
WITH tok AS MATERIALIZED (
    SELECT t.token_hash, t.token_id, t.record_id, t.mac, CAST(NULL AS {bytes}) AS sealed_token, t.mode, t.state,
           t.hash_version, t.expires_at, t.created_at
    FROM {2} {join} tokens t ON t.platform_id = $1 AND t.token_hash = {hex:0}
    UNION ALL
    SELECT t.token_hash, t.token_id, t.record_id, t.mac, t.sealed_token, t.mode, t.state,
           t.hash_version, t.expires_at, t.created_at
    FROM {3} {join} tokens t ON t.platform_id = $1 AND t.token_id = {hex:0}
),
val AS MATERIALIZED (
    SELECT i.value_hash, i.record_id, i.field, i.index_version, i.claims_unique
    FROM {6} {join} index_entries i ON i.platform_id = $1 AND i.field = {text:0} AND i.index_version = {int:1}
                              AND i.value_hash = {hex:2}
    LIMIT {hits}
),
named AS MATERIALIZED (
    SELECT s.subject_id FROM {4} {join} subjects s ON s.platform_id = $1 AND s.index_version = {int:0}
                                             AND s.reference_hash = {hex:1}
    UNION
    SELECT s.subject_id FROM {5} {join} subjects s ON s.platform_id = $1 AND s.subject_id = {hex:0}
),
rec AS MATERIALIZED (
    SELECT r.record_id, r.subject_id, r.sealed_value, r.mac, r.field, r.state, r.source, r.version, r.created_at
    FROM (SELECT record_id FROM tok UNION SELECT record_id FROM val) AS ids
    {join} records r ON r.platform_id = $1 AND r.record_id = ids.record_id AND r.state = 'current'
    UNION ALL
    SELECT r.record_id, r.subject_id, r.sealed_value, r.mac, r.field, r.state, r.source, r.version, r.created_at
    FROM named {join} records r {indexed:records_current:indexed}
        ON r.platform_id = $1 AND r.subject_id = named.subject_id AND r.state = 'current'
),
docs AS MATERIALIZED (
    SELECT d.subject_id FROM {15} {join} documents d {indexed:documents_versions:indexed} ON d.platform_id = $1
                                             AND d.document_id = {hex:0}
    UNION
    SELECT u.subject_id FROM {16} {join} uploads u {indexed:uploads_by_request:indexed} ON u.platform_id = $1
                                             AND u.caller_id = {hex:0} AND u.request_id = {hex:1}
),
theirs AS MATERIALIZED (
    SELECT subject_id FROM rec UNION SELECT subject_id FROM named UNION SELECT subject_id FROM docs
)
";

const TOKEN: [&[&str]; 3] = [
    &["t.token_hash", "t.token_id", "t.record_id", "t.mac", "t.sealed_token"],
    &["t.mode", "t.state"],
    &["t.hash_version", "t.expires_at", "t.created_at"],
];
const CONSENT: [&[&str]; 3] = [
    &["c.consent_id", "c.subject_id", "c.text_sha256", "c.mac"],
    &["c.purpose", "c.fields", "c.state", "c.act", "c.language", "c.site"],
    &[
        "c.given_at",
        "c.expires_at",
        "c.recorded_at",
        "c.withdrawn_at",
        "c.third_party_transfer",
        "c.cross_border_transfer",
        "c.publication",
        "c.policy_version",
    ],
];

const OPERATION: [&[&str]; 3] = [
    &["o.operation_id", "o.object_id"],
    &["o.kind", "o.state"],
    &[
        "o.platform_id",
        "o.created_at",
        "o.due_at",
        "o.ended_at",
        "o.fence",
        "o.lease_until",
        "o.done",
        "o.total",
    ],
];

const PROPOSAL: [&[&str]; 3] = [
    &[
        "p.proposal_id",
        "p.wrapped_key",
        "p.sealed_request",
        "p.plan_sha256",
        "p.person_id",
        "p.caller_id",
        "p.ended_by",
        "p.mac",
    ],
    &["p.call", "p.state", "p.reason"],
    &["p.created_at", "p.expires_at", "p.ended_at"],
];

const DOCUMENT: [&[&str]; 3] = [
    &["d.upload_id", "d.document_id", "d.subject_id", "d.sealed_manifest", "d.mac"],
    &["d.field", "d.side", "d.state", "d.source", "d.media_type"],
    &["d.version", "d.size", "d.created_at"],
];
const UPLOAD: [&[&str]; 3] = [
    &["u.upload_id", "u.caller_id", "u.request_id", "u.body_mac", "u.document_id", "u.subject_id", "u.mac"],
    &["u.field", "u.side", "u.source"],
    &["u.version", "u.size", "u.attempt", "u.parts", "u.created_at", "u.expires_at"],
];

/// Kinds of rows in the answer.
mod kind {
    pub(super) const HEAD: i64 = 0;
    pub(super) const TOKEN: i64 = 1;
    pub(super) const RECORD: i64 = 2;
    pub(super) const SUBJECT: i64 = 3;
    pub(super) const CONSENT_OF: i64 = 4;
    pub(super) const CONSENT: i64 = 5;
    pub(super) const EVENT: i64 = 6;
    pub(super) const VALUE: i64 = 7;
    pub(super) const REQUEST: i64 = 8;
    pub(super) const BUDGET: i64 = 9;
    pub(super) const OPERATION: i64 = 10;
    pub(super) const RIVALLED: i64 = 11;
    pub(super) const PROPOSAL: i64 = 12;
    pub(super) const DOCUMENT: i64 = 13;
    pub(super) const UPLOAD: i64 = 14;
}

/// The statement in a dialect.
pub(in crate::store) fn snapshot_sql(dialect: &Dialect) -> String {
    let head = branch(
        kind::HEAD,
        [
            &[
                "root",
                "right_edge",
                "mac",
                "CAST(NULL AS {bytes})",
                "CAST(NULL AS {bytes})",
                "CAST(NULL AS {bytes})",
                "CAST(NULL AS {bytes})",
                "CAST(NULL AS {bytes})",
            ],
            &[
                "checkpoint",
                "CAST(NULL AS text)",
                "CAST(NULL AS text)",
                "CAST(NULL AS text)",
                "CAST(NULL AS text)",
                "CAST(NULL AS text)",
            ],
            &[
                "{now}",
                "(SELECT v.config_epoch FROM heads v WHERE v.platform_id = 0)",
                "size",
                "config_epoch",
                "tighten_seq",
                "updated_at",
                "CAST(NULL AS bigint)",
                "CAST(NULL AS bigint)",
            ],
        ],
        "heads WHERE platform_id = $1",
    );
    let branches = [
        head,
        branch(kind::TOKEN, TOKEN, "tok t"),
        branch(
            kind::TOKEN,
            TOKEN,
            "rec {join} tokens t {indexed:tokens_deterministic:indexed} ON t.platform_id = $1 \
             AND t.record_id = rec.record_id AND t.mode = 'deterministic' AND t.state = 'active' WHERE $8 = 1",
        ),
        branch(
            kind::RECORD,
            [
                &["record_id", "subject_id", "sealed_value", "mac"],
                &["field", "state", "source"],
                &["version", "created_at"],
            ],
            "rec",
        ),
        branch(
            kind::SUBJECT,
            [
                &["s.subject_id", "s.reference_hash", "s.wrapped_key", "s.mac"],
                &["s.kind", "s.state", "s.restriction_trigger", "s.restriction_requester"],
                &[
                    "s.index_version",
                    "s.restricted_at",
                    "s.review_at",
                    "s.erased_at",
                    "s.destroy_at",
                    "s.created_at",
                ],
            ],
            "theirs {join} subjects s ON s.platform_id = $1 AND s.subject_id = theirs.subject_id",
        ),
        branch(
            kind::CONSENT_OF,
            CONSENT,
            "theirs {join} consents c {indexed:consents_by_subject:indexed} ON c.platform_id = $1 \
             AND c.subject_id = theirs.subject_id",
        ),
        branch(
            kind::CONSENT,
            CONSENT,
            "{7} {join} consents c ON c.platform_id = $1 AND c.consent_id = {hex:0}",
        ),
        branch(
            kind::EVENT,
            [&["e.event_id", "e.subject_id", "e.mac"], &["e.name"], &["e.happened_at", "e.recorded_at"]],
            "theirs {join} subject_events e {indexed:subject_events_by_subject:indexed} ON e.platform_id = $1 \
             AND e.subject_id = theirs.subject_id",
        ),
        branch(
            kind::VALUE,
            [&["value_hash", "record_id"], &["field"], &["index_version", "claims_unique"]],
            "val",
        ),
        branch(
            kind::REQUEST,
            [
                &["q.caller_id", "q.request_id", "q.body_mac", "q.outcome", "q.mac"],
                &["q.call"],
                &["q.created_at"],
            ],
            "{9} {join} requests q ON q.platform_id = $1 AND q.caller_id = {hex:0} AND q.request_id = {hex:1}",
        ),
        branch(
            kind::BUDGET,
            [&["b.caller_id"], &["b.kind"], &["b.window_start", "b.spent"]],
            "{10} {join} budgets b ON b.platform_id = $1 AND b.caller_id = {hex:0} AND b.kind = {text:1} \
             AND b.window_start = {int:2}",
        ),
        branch(
            kind::OPERATION,
            OPERATION,
            "theirs {join} operations o {indexed:operations_of_object:indexed} ON o.platform_id = $1 \
             AND o.kind = 'destroy_subject' AND o.object_id = theirs.subject_id AND o.state IN ('waiting', 'running', 'paused') \
             WHERE $12 = 1",
        ),
        branch(
            kind::OPERATION,
            OPERATION,
            "{11} {join} operations o {indexed:operations_of_object:indexed} ON o.platform_id = $1 \
             AND o.kind = 'destroy_subject' AND o.object_id = {hex:0} AND o.state IN ('waiting', 'running', 'paused')",
        ),
        branch(
            kind::RIVALLED,
            [&["rec.record_id"], &[], &[]],
            "rec {join} index_entries own {indexed:index_entries_by_record:indexed} ON own.platform_id = $1 \
             AND own.record_id = rec.record_id \
             {join} index_entries other ON other.platform_id = $1 AND other.field = own.field \
             AND other.index_version = own.index_version AND other.value_hash = own.value_hash \
             AND other.claims_unique = 1 AND other.record_id <> own.record_id WHERE $13 = 1",
        ),
        branch(
            kind::PROPOSAL,
            PROPOSAL,
            "{14} {join} proposals p ON p.platform_id = $1 AND p.proposal_id = {hex:0}",
        ),
        branch(
            kind::DOCUMENT,
            DOCUMENT,
            "theirs {join} documents d {indexed:documents_by_subject:indexed} ON d.platform_id = $1 \
             AND d.subject_id = theirs.subject_id WHERE $17 = 1",
        ),
        branch(
            kind::UPLOAD,
            UPLOAD,
            "theirs {join} uploads u {indexed:uploads_by_subject:indexed} ON u.platform_id = $1 \
             AND u.subject_id = theirs.subject_id WHERE $17 = 1",
        ),
    ];
    let wanted = WANTED.replace("{hits}", &(MAX_INDEX_HITS + 1).to_string());
    dialect.render(&(wanted + &branches.join("\nUNION ALL ")))
}

/// One SELECT of the union: the kind, then each group of columns filled up to its width.
fn branch(kind: i64, [bytes, texts, ints]: [&[&str]; 3], from: &str) -> String {
    let mut columns = vec![format!("CAST({kind} AS bigint)")];
    for (group, width) in [(bytes, GROUPED_BYTES), (texts, GROUPED_TEXTS), (ints, GROUPED_INTS)] {
        columns.extend(group.iter().map(|column| (*column).to_owned()));
        columns.extend(std::iter::repeat_n("NULL".to_owned(), width.saturating_sub(group.len())));
    }
    format!("SELECT {} FROM {from}", columns.join(", "))
}

/// Binds the keys of a batch.
pub(super) fn snapshot_statement<'a>(
    sql: &'static str,
    platform: PlatformId,
    keys: &ReadKeys,
) -> Statement<'a> {
    let hex = |bytes: &[u8]| format!("\"{}\"", data_encoding::HEXLOWER.encode(bytes));
    Statement::any(sql)
        .int(platform.get())
        .own_text(json_list(keys.tokens.iter().map(|hash| hex(&hash.0))))
        .own_text(json_list(keys.token_rows.iter().map(|id| hex(id.as_bytes()))))
        .own_text(json_list(keys.references.iter().map(|(version, hash)| format!("{version},{}", hex(hash)))))
        .own_text(json_list(keys.subjects.iter().map(|id| hex(id.as_bytes()))))
        .own_text(json_list(
            keys.values.iter().map(|(field, version, hash)| format!("\"{field}\",{version},{}", hex(hash))),
        ))
        .own_text(json_list(keys.consents.iter().map(|id| hex(id.as_bytes()))))
        .int(i64::from(keys.deterministic))
        .own_text(json_list(
            keys.requests.iter().map(|(c, r)| format!("{},{}", hex(c.as_bytes()), hex(r.as_bytes()))),
        ))
        .own_text(json_list(keys.budgets.iter().map(|w| {
            format!("{},\"{}\",{}", hex(w.caller.as_bytes()), w.kind.as_str(), w.start.as_micros())
        })))
        .own_text(json_list(keys.operations_on.iter().map(|object| hex(object))))
        .int(i64::from(keys.operations_of_found))
        .int(i64::from(keys.rivals_of_found))
        .own_text(json_list(keys.proposals.iter().map(|id| hex(id.as_bytes()))))
        .own_text(json_list(keys.documents.iter().map(|id| hex(id.as_bytes()))))
        .own_text(json_list(
            keys.uploads.iter().map(|(c, r)| format!("{},{}", hex(c.as_bytes()), hex(r.as_bytes()))),
        ))
        .int(i64::from(keys.documents_of_found))
}

/// A JSON list of lists.
fn json_list(items: impl Iterator<Item = String>) -> String {
    let mut list = String::from("[");
    for (i, item) in items.enumerate() {
        let comma = if i == 0 { "" } else { "," };
        // Writing to a String cannot fail.
        let _written = write!(list, "{comma}[{item}]");
    }
    list.push(']');
    list
}

/// The rows of an answer under their keys.
pub(super) fn assemble<R: SqlRow>(rows: &[R], platform: PlatformId) -> Result<Snapshot, StoreError> {
    const MISSING: Damage = Damage { table: "heads", column: "platform_id" };
    let of_kind = |row: &R| row.int(0).ok().flatten();
    let first = rows.iter().find(|row| of_kind(row) == Some(kind::HEAD)).ok_or(MISSING)?;
    let mut columns = Columns::grouped(first, "heads");
    let now = Timestamp::from_micros(columns.int("now")?);
    let vault_epoch = columns.number("vault_epoch")?;
    let mut snapshot = Snapshot {
        head: columns.head(platform)?,
        vault_epoch,
        now,
        tokens: HashMap::new(),
        token_hashes: HashMap::new(),
        deterministic: HashMap::new(),
        records: HashMap::new(),
        records_of: HashMap::new(),
        subjects: HashMap::new(),
        references: HashMap::new(),
        consents_of: HashMap::new(),
        consents: HashMap::new(),
        events_of: HashMap::new(),
        values: HashMap::new(),
        requests: HashMap::new(),
        budgets: HashMap::new(),
        operations_on: HashMap::new(),
        rivalled: HashSet::new(),
        proposals: HashMap::new(),
        documents_of: HashMap::new(),
        uploads_of: HashMap::new(),
    };
    for row in rows {
        let kind = of_kind(row).ok_or(Damage { table: "snapshot", column: "kind" })?;
        add_row(&mut snapshot, kind, row, platform)?;
    }
    for consents in snapshot.consents_of.values_mut().flatten() {
        consents.sort_by_key(|row| (std::cmp::Reverse(row.consent.recorded_at), row.consent.id));
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
            snapshot.records.insert(id, columns.record(platform));
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
            snapshot.subjects.insert(id, subject);
        }
        kind::CONSENT_OF => {
            let mut columns = Columns::grouped(row, "consents");
            let mut ids = columns;
            ids.array::<16>("consent_id")?;
            let subject = SubjectId::from_bytes(ids.array("subject_id")?);
            push(&mut snapshot.consents_of, subject, columns.consent(platform));
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
            push(&mut snapshot.events_of, subject, columns.event(platform));
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
            push(&mut snapshot.documents_of, subject, columns.document(platform));
        }
        kind::UPLOAD => {
            let mut columns = Columns::grouped(row, "uploads");
            let subject = subject_at(columns, 5)?;
            push(&mut snapshot.uploads_of, subject, columns.upload(platform));
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
        t.as_ref().is_ok_and(|t: &crate::store::rows::TokenRow| !t.sealed_token.as_bytes().is_empty())
    };
    if !snapshot.tokens.get(&hash).is_some_and(sealed) {
        snapshot.tokens.insert(hash, token);
    }
    Ok(())
}

fn push<T>(
    lists: &mut HashMap<SubjectId, Result<Vec<T>, Damage>>,
    subject: SubjectId,
    row: Result<T, Damage>,
) {
    let list = lists.entry(subject).or_insert_with(|| Ok(Vec::new()));
    match (row, list.as_mut()) {
        (Ok(row), Ok(list)) => list.push(row),
        (Err(damage), _) => *list = Err(damage),
        (Ok(_), Err(_)) => {}
    }
}
