//! The batch read: everything that a batch needs in one statement, so that it is one look at one state.
//!
//! There are three texts of it. Most batches only read by tokens, and a database starts each part of a statement, wanted
//! or not: the short ones have the parts that Detokenize needs.

use std::fmt::Write as _;

use super::{
    decode::{GROUPED_BYTES, GROUPED_INTS, GROUPED_TEXTS},
    packed,
    statement::{Column, Dialect, Statement},
};
use crate::{
    domain::{ids::PlatformId, names::PurposeName, rights::RightKind},
    store::{BudgetWindow, MAX_INDEX_HITS, ReadKeys},
};

/// The texts in a dialect.
#[derive(Debug, Clone, Copy)]
pub(super) struct SnapshotSql {
    /// `$1` platform, from `$2` on tokens.
    by_token_alone: &'static str,
    /// `$1` platform, `$2` requests, `$3` budgets, from `$4` on tokens.
    by_token: &'static str,
    /// `$1` to `$18`: every kind of key.
    all: &'static str,
}

impl SnapshotSql {
    /// Prepared statements want texts that live as long as the process; each dialect is rendered a few times in a
    /// process's life at most.
    pub(super) fn leak(dialect: &Dialect) -> Self {
        Self {
            by_token_alone: by_token_sql(dialect, false).leak(),
            by_token: by_token_sql(dialect, true).leak(),
            all: all_sql(dialect).leak(),
        }
    }

    /// Binds the keys of a batch to the text that has all it needs.
    pub(super) fn statement<'a>(&self, platform: PlatformId, keys: &'a ReadKeys) -> Statement<'a> {
        let tokens = || vec![Column::Bytes(keys.tokens.iter().map(|hash| Some(hash.0.as_slice())).collect())];
        if !keys.are_of_tokens() {
            return all(self.all, platform, keys);
        }
        if keys.are_tokens_alone() {
            return Statement::any(self.by_token_alone).int(platform.get()).rows(tokens());
        }
        let statement = Statement::any(self.by_token).int(platform.get());
        statement.own_text(requests(keys)).own_text(budgets(keys)).rows(tokens())
    }
}

/// From the few wanted keys to the rows, never through a table.
fn all_wanted(dialect: &Dialect) -> String {
    let find = |row, index, on| dialect.find(row, index, on);
    let by_hash = find("tokens t", "", "t.token_hash = {hex:0}");
    let by_id = find("tokens t", "tokens_by_id", "t.token_id = {hex:0}");
    let by_value = find(
        "index_entries i",
        "",
        "i.field = {text:0} AND i.index_version = {int:1} AND i.value_hash = {hex:2}",
    );
    let by_reference = find(
        "subjects s",
        "subjects_by_reference",
        "s.index_version = {int:0} AND s.reference_hash = {hex:1}",
    );
    let by_subject = find("subjects s", "", "s.subject_id = {hex:0}");
    let current = find("records r", "", CURRENT);
    let all_current =
        find("records r", "records_current", "r.subject_id = named.subject_id AND r.state = 'current'");
    let by_document = find("documents d", "documents_versions", "d.document_id = {hex:0}");
    let by_upload =
        find("uploads u", "uploads_by_request", "u.caller_id = {hex:0} AND u.request_id = {hex:1}");
    let hits = MAX_INDEX_HITS + 1;
    format!(
        "/* read::snapshot */
WITH tok AS MATERIALIZED (
    SELECT t.token_hash, t.token_id, t.record_id, t.mac, CAST(NULL AS {{bytes}}) AS sealed_token, t.mode, t.state,
           t.hash_version, t.expires_at, t.created_at
    FROM {{2}} {by_hash}
    UNION ALL
    SELECT t.token_hash, t.token_id, t.record_id, t.mac, t.sealed_token, t.mode, t.state,
           t.hash_version, t.expires_at, t.created_at
    FROM {{3}} {by_id}
),
val AS MATERIALIZED (
    SELECT i.value_hash, i.record_id, i.field, i.index_version, i.claims_unique FROM {{6}} {by_value} LIMIT {hits}
),
named AS MATERIALIZED (
    SELECT s.subject_id FROM {{4}} {by_reference}
    UNION
    SELECT s.subject_id FROM {{5}} {by_subject}
),
rec AS MATERIALIZED (
    SELECT r.record_id, r.subject_id, r.sealed_value, r.mac, r.field, r.state, r.source, r.version, r.created_at
    FROM (SELECT record_id FROM tok UNION SELECT record_id FROM val) AS ids {current}
    UNION ALL
    SELECT r.record_id, r.subject_id, r.sealed_value, r.mac, r.field, r.state, r.source, r.version, r.created_at
    FROM named {all_current}
),
docs AS MATERIALIZED (
    SELECT d.subject_id FROM {{15}} {by_document}
    UNION
    SELECT u.subject_id FROM {{16}} {by_upload}
),
theirs AS MATERIALIZED (
    SELECT subject_id FROM rec UNION SELECT subject_id FROM named UNION SELECT subject_id FROM docs
)
"
    )
}

/// By the primary key. A plain comparison of the state would let PostgreSQL take `records_current`, whose first column
/// is not given.
const CURRENT: &str = "r.record_id = ids.record_id AND coalesce(r.state, '') = 'current'";

const TOKEN: [&[&str]; 3] = [
    &["t.token_hash", "t.token_id", "t.record_id", "t.mac", "t.sealed_token"],
    &["t.mode", "t.state"],
    &["t.hash_version", "t.expires_at", "t.created_at"],
];
const CONSENT: [&[&str]; 3] = [
    &["c.consent_id", "c.subject_id", "c.text_sha256", "c.mac"],
    &["c.purpose", "c.fields", "c.state", "c.act", "c.language", "c.site", "c.channel || ' ' || c.sender"],
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
pub(super) mod kind {
    pub(in crate::store::sql) const HEAD: i64 = 0;
    pub(in crate::store::sql) const TOKEN: i64 = 1;
    pub(in crate::store::sql) const RECORD: i64 = 2;
    pub(in crate::store::sql) const SUBJECT: i64 = 3;
    pub(in crate::store::sql) const CONSENT_OF: i64 = 4;
    pub(in crate::store::sql) const CONSENT: i64 = 5;
    pub(in crate::store::sql) const EVENT: i64 = 6;
    pub(in crate::store::sql) const VALUE: i64 = 7;
    pub(in crate::store::sql) const REQUEST: i64 = 8;
    pub(in crate::store::sql) const BUDGET: i64 = 9;
    pub(in crate::store::sql) const OPERATION: i64 = 10;
    pub(in crate::store::sql) const RIVALLED: i64 = 11;
    pub(in crate::store::sql) const PROPOSAL: i64 = 12;
    pub(in crate::store::sql) const DOCUMENT: i64 = 13;
    pub(in crate::store::sql) const UPLOAD: i64 = 14;
    pub(in crate::store::sql) const DEMAND: i64 = 15;
}

const UNION: &str = "\nUNION ALL ";

/// The head, the database's clock, and the epoch of the vault's own platform.
fn head(dialect: &Dialect) -> String {
    branch(
        dialect,
        kind::HEAD,
        [
            &[],
            &[],
            &[
                "{now}",
                "(SELECT v.config_epoch FROM heads v WHERE v.platform_id = 0)",
                "size",
                "config_epoch",
                "tighten_seq",
                "change_seq",
                "updated_at",
            ],
        ],
        "heads WHERE platform_id = $1",
    )
}

/// What every text brings: the head, and tokens with what hangs on them.
fn found(dialect: &Dialect) -> [String; 6] {
    let find = |row, index, on| dialect.find(row, index, on);
    let of = |rows: &str, found: String| format!("{rows} {found}");
    [
        head(dialect),
        branch(dialect, kind::TOKEN, TOKEN, "tok t"),
        branch(
            dialect,
            kind::RECORD,
            [
                &["record_id", "subject_id", "sealed_value", "mac"],
                &["field", "state", "source"],
                &["version", "created_at"],
            ],
            "rec",
        ),
        branch(
            dialect,
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
            &of("theirs", find("subjects s", "", "s.subject_id = theirs.subject_id")),
        ),
        branch(
            dialect,
            kind::CONSENT_OF,
            CONSENT,
            &of("theirs", find("consents c", "consents_by_subject", "c.subject_id = theirs.subject_id")),
        ),
        branch(
            dialect,
            kind::EVENT,
            [
                &["e.event_id", "e.subject_id", "e.mac"],
                &["e.name", "e.withdrawal_bar", "e.ground", "e.field", "e.accuracy"],
                &["e.happened_at", "e.recorded_at"],
            ],
            &of(
                "theirs",
                find("subject_events e", "subject_events_by_subject", "e.subject_id = theirs.subject_id"),
            ),
        ),
    ]
}

/// Requests and budgets, of these parameters.
fn asked_before(dialect: &Dialect, requests: &str, budgets: &str) -> [String; 2] {
    let find = |row, index, on| dialect.find(row, index, on);
    let of = |rows: &str, found: String| format!("{rows} {found}");
    [
        branch(
            dialect,
            kind::REQUEST,
            [
                &["q.caller_id", "q.request_id", "q.body_mac", "q.outcome", "q.mac"],
                &["q.call"],
                &["q.created_at"],
            ],
            &of(requests, find("requests q", "", "q.caller_id = {hex:0} AND q.request_id = {hex:1}")),
        ),
        branch(
            dialect,
            kind::BUDGET,
            [&["b.caller_id"], &["b.kind", "b.purpose"], &["b.window_start", "b.spent"]],
            &of(
                budgets,
                find(
                    "budgets b",
                    "",
                    "b.caller_id = {hex:0} AND b.kind = {text:1} AND b.purpose = {text:2} \
                     AND b.window_start = {int:3}",
                ),
            ),
        ),
    ]
}

/// The text with every part.
pub(in crate::store) fn all_sql(dialect: &Dialect) -> String {
    let demands = RightKind::ALL.iter().filter(|kind| kind.demands_destruction());
    let demands = demands.map(|kind| format!("'{}'", kind.as_str())).collect::<Vec<_>>().join(", ");
    let demanded = format!("d.subject_id = theirs.subject_id AND d.kind IN ({demands})");
    let find = |row, index, on| dialect.find(row, index, on);
    let of = |rows: &str, found: String| format!("{rows} {found}");
    let branches = [
        branch(
            dialect,
            kind::TOKEN,
            TOKEN,
            &of(
                "rec",
                find(
                    "tokens t",
                    "tokens_deterministic",
                    "t.record_id = rec.record_id AND t.mode = 'deterministic' AND t.state = 'active'",
                ) + " WHERE $8 = 1",
            ),
        ),
        branch(dialect, kind::CONSENT, CONSENT, &of("{7}", find("consents c", "", "c.consent_id = {hex:0}"))),
        branch(
            dialect,
            kind::VALUE,
            [&["value_hash", "record_id"], &["field"], &["index_version", "claims_unique"]],
            "val",
        ),
        branch(
            dialect,
            kind::OPERATION,
            OPERATION,
            &of(
                "theirs",
                find(
                    "operations o",
                    "operations_of_object",
                    "o.kind = 'destroy_subject' AND o.object_id = theirs.subject_id \
                     AND o.state IN ('waiting', 'running', 'paused')",
                ) + " WHERE $12 = 1",
            ),
        ),
        branch(
            dialect,
            kind::OPERATION,
            OPERATION,
            &of(
                "{11}",
                find(
                    "operations o",
                    "operations_of_object",
                    "o.kind = 'destroy_subject' AND o.object_id = {hex:0} \
                     AND o.state IN ('waiting', 'running', 'paused')",
                ),
            ),
        ),
        branch(
            dialect,
            kind::RIVALLED,
            [&["rec.record_id"], &[], &[]],
            &format!(
                "rec {} {} WHERE $13 = 1",
                find("index_entries own", "index_entries_by_record", "own.record_id = rec.record_id"),
                find(
                    "index_entries other",
                    "",
                    "other.field = own.field AND other.index_version = own.index_version \
                     AND other.value_hash = own.value_hash AND other.claims_unique = 1 \
                     AND other.record_id <> own.record_id",
                ),
            ),
        ),
        branch(
            dialect,
            kind::PROPOSAL,
            PROPOSAL,
            &of("{14}", find("proposals p", "", "p.proposal_id = {hex:0}")),
        ),
        branch(
            dialect,
            kind::DOCUMENT,
            DOCUMENT,
            &of(
                "theirs",
                find("documents d", "documents_by_subject", "d.subject_id = theirs.subject_id")
                    + " WHERE $17 = 1",
            ),
        ),
        branch(
            dialect,
            kind::UPLOAD,
            UPLOAD,
            &of(
                "theirs",
                find("uploads u", "uploads_by_subject", "u.subject_id = theirs.subject_id")
                    + " WHERE $17 = 1",
            ),
        ),
        branch(
            dialect,
            kind::DEMAND,
            [&["d.subject_id"], &[], &[]],
            &of("theirs", find("rights_cases d", "rights_cases_by_subject", &demanded) + " WHERE $18 = 1"),
        ),
        // Of one that is not erased, each receipt is of an erasure that was called off.
        branch(
            dialect,
            kind::DEMAND,
            [&["d.subject_id"], &[], &[]],
            &of(
                "theirs",
                find("erasure_receipts d", "erasure_receipts_by_subject", "d.subject_id = theirs.subject_id")
                    + " WHERE $18 = 1",
            ),
        ),
    ];
    let asked = asked_before(dialect, "{9}", "{10}");
    let parts: Vec<String> = found(dialect).into_iter().chain(asked).chain(branches).collect();
    dialect.render(&(all_wanted(dialect) + &union(dialect, &parts)))
}

/// The text with what Detokenize needs, and that with requests and budgets beside it.
pub(in crate::store) fn by_token_sql(dialect: &Dialect, asked: bool) -> String {
    let (column, wanted) = dialect.rows(if asked { 4 } else { 2 }, &[Column::Bytes(Vec::new())]);
    let by_hash = dialect.find("tokens t", "", &format!("t.token_hash = {}", column.concat()));
    let current = dialect.find("records r", "", CURRENT);
    let wanted = format!(
        "/* read::snapshot by token */
WITH tok AS MATERIALIZED (
    SELECT t.token_hash, t.token_id, t.record_id, t.mac, CAST(NULL AS {{bytes}}) AS sealed_token, t.mode, t.state,
           t.hash_version, t.expires_at, t.created_at
    FROM {wanted} {by_hash}
),
rec AS MATERIALIZED (
    SELECT r.record_id, r.subject_id, r.sealed_value, r.mac, r.field, r.state, r.source, r.version, r.created_at
    FROM (SELECT DISTINCT record_id FROM tok) AS ids {current}
),
theirs AS MATERIALIZED (SELECT DISTINCT subject_id FROM rec)
"
    );
    let asked = asked.then(|| asked_before(dialect, "{2}", "{3}"));
    let parts: Vec<String> = found(dialect).into_iter().chain(asked.into_iter().flatten()).collect();
    dialect.render(&(wanted + &union(dialect, &parts)))
}

fn union(dialect: &Dialect, parts: &[String]) -> String {
    let union = parts.join(UNION);
    if dialect.packs_rows { packed::all(&union) } else { union }
}

/// One SELECT of the union: the kind, then each group of columns filled up to its width.
fn branch(dialect: &Dialect, kind: i64, groups: [&[&str]; 3], from: &str) -> String {
    if dialect.packs_rows {
        return packed::row(kind, groups, from);
    }
    let mut columns = vec![format!("CAST({kind} AS bigint)")];
    let widths = [(GROUPED_BYTES, "{bytes}"), (GROUPED_TEXTS, "text"), (GROUPED_INTS, "bigint")];
    for (group, (width, of)) in groups.into_iter().zip(widths) {
        columns.extend(group.iter().map(|column| (*column).to_owned()));
        columns.extend(std::iter::repeat_n(format!("CAST(NULL AS {of})"), width.saturating_sub(group.len())));
    }
    format!("SELECT {} FROM {from}", columns.join(", "))
}

fn hex(bytes: &[u8]) -> String {
    format!("\"{}\"", data_encoding::HEXLOWER.encode(bytes))
}

fn tokens(keys: &ReadKeys) -> String {
    json_list(keys.tokens.iter().map(|hash| hex(&hash.0)))
}

fn requests(keys: &ReadKeys) -> String {
    json_list(keys.requests.iter().map(|(c, r)| format!("{},{}", hex(c.as_bytes()), hex(r.as_bytes()))))
}

fn budgets(keys: &ReadKeys) -> String {
    let window = |w: &BudgetWindow| {
        let purpose = w.purpose.as_ref().map_or("", PurposeName::as_str);
        format!("{},\"{}\",\"{purpose}\",{}", hex(w.caller.as_bytes()), w.kind.as_str(), w.start.as_micros())
    };
    json_list(keys.budgets.iter().map(window))
}

fn all<'a>(sql: &'static str, platform: PlatformId, keys: &ReadKeys) -> Statement<'a> {
    Statement::any(sql)
        .int(platform.get())
        .own_text(tokens(keys))
        .own_text(json_list(keys.token_rows.iter().map(|id| hex(id.as_bytes()))))
        .own_text(json_list(keys.references.iter().map(|(version, hash)| format!("{version},{}", hex(hash)))))
        .own_text(json_list(keys.subjects.iter().map(|id| hex(id.as_bytes()))))
        .own_text(json_list(
            keys.values.iter().map(|(field, version, hash)| format!("\"{field}\",{version},{}", hex(hash))),
        ))
        .own_text(json_list(keys.consents.iter().map(|id| hex(id.as_bytes()))))
        .int(i64::from(keys.deterministic))
        .own_text(requests(keys))
        .own_text(budgets(keys))
        .own_text(json_list(keys.operations_on.iter().map(|object| hex(object))))
        .int(i64::from(keys.operations_of_found))
        .int(i64::from(keys.rivals_of_found))
        .own_text(json_list(keys.proposals.iter().map(|id| hex(id.as_bytes()))))
        .own_text(json_list(keys.documents.iter().map(|id| hex(id.as_bytes()))))
        .own_text(json_list(
            keys.uploads.iter().map(|(c, r)| format!("{},{}", hex(c.as_bytes()), hex(r.as_bytes()))),
        ))
        .int(i64::from(keys.documents_of_found))
        .int(i64::from(keys.demands_of_found))
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
