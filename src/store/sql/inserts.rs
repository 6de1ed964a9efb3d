//! New rows of a commit, table by table: one statement for all of a table, however many people they are about.

use std::borrow::Cow;

use super::{
    list_writes::exactly,
    statement::{Column, Dialect, Statement},
    writes::micros,
};
use crate::{
    domain::{ids::PlatformId, names::FieldName, reference::Reference, secret::Sealed},
    store::{
        Write,
        rows::{
            ConsentRow, EventRow, IndexRow, RecordRow, SubjectRow, TokenRow, log::EntryRow, work::RequestRow,
        },
    },
};

/// A column beside the platform's: its name, and what a row has there.
type Field<R> = (&'static str, Get<R>);

/// What a row has in a column.
enum Get<R> {
    Bytes(fn(&R) -> Option<&[u8]>),
    Int(fn(&R) -> Option<i64>),
    Text(fn(&R) -> Option<Cow<'_, str>>),
}

const SUBJECTS: &[Field<SubjectRow>] = &[
    ("subject_id", Get::Bytes(|r| Some(r.id.as_bytes()))),
    ("index_version", Get::Int(|r| Some(r.index_version.into()))),
    ("reference_hash", Get::Bytes(|r| Some(&r.reference_hash))),
    ("sealed_reference", Get::Bytes(|r| Some(r.sealed_reference.as_bytes()))),
    ("wrapped_key", Get::Bytes(|r| r.wrapped_key.as_ref().map(Sealed::as_bytes))),
    ("kind", Get::Text(|r| Some(r.kind.as_str().into()))),
    ("state", Get::Text(|r| Some(r.state.as_str().into()))),
    ("restriction_trigger", Get::Text(|r| Some(r.restriction.as_ref()?.trigger.as_str().into()))),
    ("restriction_requester", Get::Text(|r| Some(r.restriction.as_ref()?.requester.as_str().into()))),
    ("restricted_at", Get::Int(|r| Some(r.restriction.as_ref()?.since.as_micros()))),
    ("review_at", Get::Int(|r| Some(r.restriction.as_ref()?.review_at.as_micros()))),
    ("erased_at", Get::Int(|r| micros(r.erased_at))),
    ("destroy_at", Get::Int(|r| micros(r.destroy_at))),
    ("created_at", Get::Int(|r| Some(r.created_at.as_micros()))),
    ("mac", Get::Bytes(|r| Some(&r.mac))),
];

const RECORDS: &[Field<RecordRow>] = &[
    ("record_id", Get::Bytes(|r| Some(r.address.record.as_bytes()))),
    ("version", Get::Int(|r| Some(r.address.version.into()))),
    ("subject_id", Get::Bytes(|r| Some(r.address.subject.as_bytes()))),
    ("field", Get::Text(|r| Some(r.address.field.as_str().into()))),
    ("state", Get::Text(|r| Some(r.state.as_str().into()))),
    ("source", Get::Text(|r| Some(r.source.as_str().into()))),
    ("sealed_value", Get::Bytes(|r| Some(r.sealed_value.as_bytes()))),
    ("created_at", Get::Int(|r| Some(r.created_at.as_micros()))),
    ("mac", Get::Bytes(|r| Some(&r.mac))),
];

const INDEX: &[Field<IndexRow>] = &[
    ("field", Get::Text(|r| Some(r.field.as_str().into()))),
    ("index_version", Get::Int(|r| Some(r.index_version.into()))),
    ("value_hash", Get::Bytes(|r| Some(&r.hash))),
    ("record_id", Get::Bytes(|r| Some(r.record.as_bytes()))),
    ("claims_unique", Get::Int(|r| Some(r.claims_unique.into()))),
];

const TOKENS: &[Field<TokenRow>] = &[
    ("token_hash", Get::Bytes(|r| Some(&r.hash.0))),
    ("hash_version", Get::Int(|r| Some(r.hash_version.into()))),
    ("token_id", Get::Bytes(|r| Some(r.id.as_bytes()))),
    ("record_id", Get::Bytes(|r| Some(r.record.as_bytes()))),
    ("mode", Get::Text(|r| Some(r.mode.as_str().into()))),
    ("state", Get::Text(|r| Some(r.state.as_str().into()))),
    ("expires_at", Get::Int(|r| micros(r.expires_at))),
    ("sealed_token", Get::Bytes(|r| Some(r.sealed_token.as_bytes()))),
    ("created_at", Get::Int(|r| Some(r.created_at.as_micros()))),
    ("mac", Get::Bytes(|r| Some(&r.mac))),
];

const CONSENTS: &[Field<ConsentRow>] = &[
    ("consent_id", Get::Bytes(|r| Some(r.consent.id.as_bytes()))),
    ("subject_id", Get::Bytes(|r| Some(r.consent.subject.as_bytes()))),
    ("purpose", Get::Text(|r| Some(r.consent.terms.purpose.as_str().into()))),
    ("fields", Get::Text(|r| Some(fields(r).into()))),
    ("state", Get::Text(|r| Some(r.consent.state.as_str().into()))),
    ("act", Get::Text(|r| Some(r.consent.terms.act.as_str().into()))),
    ("given_at", Get::Int(|r| Some(r.consent.terms.given_at.as_micros()))),
    ("expires_at", Get::Int(|r| micros(r.consent.terms.expires_at))),
    ("recorded_at", Get::Int(|r| Some(r.consent.recorded_at.as_micros()))),
    ("withdrawn_at", Get::Int(|r| micros(r.consent.withdrawn_at))),
    ("third_party_transfer", Get::Int(|r| Some(r.consent.terms.third_party_transfer.into()))),
    ("cross_border_transfer", Get::Int(|r| Some(r.consent.terms.cross_border_transfer.into()))),
    ("publication", Get::Int(|r| Some(r.consent.terms.publication.into()))),
    ("policy_version", Get::Int(|r| Some(r.consent.terms.policy_version.into()))),
    ("language", Get::Text(|r| Some(r.consent.terms.language.as_str().into()))),
    ("text_sha256", Get::Bytes(|r| Some(&r.consent.terms.text_sha256))),
    ("site", Get::Text(|r| Some(r.consent.terms.site.as_str().into()))),
    ("channel", Get::Text(|r| Some(r.consent.terms.outreach.as_ref()?.channel.as_str().into()))),
    ("sender", Get::Text(|r| Some(r.consent.terms.outreach.as_ref()?.sender.as_str().into()))),
    ("sealed_evidence", Get::Bytes(|r| Some(r.sealed_evidence.as_bytes()))),
    ("mac", Get::Bytes(|r| Some(&r.mac))),
];

const EVENTS: &[Field<EventRow>] = &[
    ("event_id", Get::Bytes(|r| Some(r.id.as_bytes()))),
    ("subject_id", Get::Bytes(|r| Some(r.subject.as_bytes()))),
    ("name", Get::Text(|r| Some(r.event.name.as_str().into()))),
    ("happened_at", Get::Int(|r| Some(r.event.at.as_micros()))),
    ("withdrawal_bar", Get::Text(|r| Some(r.refusal.as_ref()?.bar.as_str().into()))),
    ("ground", Get::Text(|r| ground(r).map(Into::into))),
    ("field", Get::Text(|r| Some(r.mark.as_ref()?.field.as_str().into()))),
    ("accuracy", Get::Text(|r| Some(r.mark.as_ref()?.accuracy.as_str().into()))),
    ("recorded_at", Get::Int(|r| Some(r.recorded_at.as_micros()))),
    ("mac", Get::Bytes(|r| Some(&r.mac))),
];

const REQUESTS: &[Field<RequestRow>] = &[
    ("caller_id", Get::Bytes(|r| Some(r.caller.as_bytes()))),
    ("request_id", Get::Bytes(|r| Some(r.request.as_bytes()))),
    ("call", Get::Text(|r| Some(r.call.as_str().into()))),
    ("body_mac", Get::Bytes(|r| Some(&r.body_mac))),
    ("outcome", Get::Bytes(|r| Some(&r.outcome))),
    ("created_at", Get::Int(|r| Some(r.created_at.as_micros()))),
    ("mac", Get::Bytes(|r| Some(&r.mac))),
];

/// The paper behind an event.
fn ground(row: &EventRow) -> Option<&str> {
    let ground = row.refusal.as_ref().map(|refusal| &refusal.ground);
    ground.or(row.mark.as_ref().map(|mark| &mark.evidence)).map(Reference::as_str)
}

fn fields(row: &ConsentRow) -> String {
    row.consent.terms.fields.iter().map(FieldName::as_str).collect::<Vec<_>>().join(",")
}

/// The statements in one dialect, each for any number of rows.
pub(super) struct InsertSql {
    subjects: &'static str,
    records: &'static str,
    index: &'static str,
    tokens: &'static str,
    consents: &'static str,
    events: &'static str,
    requests: &'static str,
}

impl InsertSql {
    /// The texts live as long as the process, as prepared statements want them.
    pub(super) fn new(dialect: &Dialect) -> Self {
        Self {
            subjects: insert_sql(dialect, "subjects", SUBJECTS),
            records: insert_sql(dialect, "records", RECORDS),
            index: insert_sql(dialect, "index_entries", INDEX),
            tokens: insert_sql(dialect, "tokens", TOKENS),
            consents: insert_sql(dialect, "consents", CONSENTS),
            events: insert_sql(dialect, "subject_events", EVENTS),
            requests: insert_sql(dialect, "requests", REQUESTS),
        }
    }
}

fn insert_sql<R>(dialect: &Dialect, table: &str, fields: &[Field<R>]) -> &'static str {
    let names: Vec<_> = fields.iter().map(|(name, _)| *name).collect();
    let kinds: Vec<_> = fields.iter().map(|(_, get)| columns::<R>(get, &[])).collect();
    let (values, from) = dialect.rows(2, &kinds);
    let (names, values) = (names.join(", "), values.join(", "));
    format!(
        "/* insert::{table} */ INSERT INTO {table} (platform_id, {names}) SELECT $1, {values} FROM {from}"
    )
    .leak()
}

fn columns<'a, R>(get: &Get<R>, rows: &[&'a R]) -> Column<'a> {
    match get {
        Get::Bytes(get) => Column::Bytes(rows.iter().map(|row| get(row)).collect()),
        Get::Int(get) => Column::Ints(rows.iter().map(|row| get(row)).collect()),
        Get::Text(get) => Column::Texts(rows.iter().map(|row| get(row)).collect()),
    }
}

/// New rows that stand together in a commit. Within them the order of tables is free, but for subjects, which others name.
#[derive(Default)]
pub(super) struct NewRows<'a> {
    subjects: Vec<&'a SubjectRow>,
    records: Vec<&'a RecordRow>,
    index: Vec<&'a IndexRow>,
    tokens: Vec<&'a TokenRow>,
    consents: Vec<&'a ConsentRow>,
    events: Vec<&'a EventRow>,
    requests: Vec<&'a RequestRow>,
}

/// A part of a commit's writes.
pub(super) enum Piece<'a> {
    /// New rows that stand together.
    New(NewRows<'a>),
    /// Any other write, by itself.
    Change(&'a Write),
}

/// The writes of a commit in their order. No new row passes another write: what ends a claim lets a new one in, and a subject's new
/// key is written on condition that everything of the subject is there already.
pub(super) fn pieces(writes: &[Write]) -> Vec<Piece<'_>> {
    let mut pieces = Vec::new();
    for write in writes {
        if let Some(Piece::New(rows)) = pieces.last_mut()
            && rows.take(write)
        {
            continue;
        }
        let mut rows = NewRows::default();
        pieces.push(if rows.take(write) { Piece::New(rows) } else { Piece::Change(write) });
    }
    pieces
}

impl<'a> NewRows<'a> {
    /// Takes a write that adds such a row; answers whether it was one.
    #[expect(clippy::wildcard_enum_match_arm, reason = "every other write has its statements in `writes`")]
    fn take(&mut self, write: &'a Write) -> bool {
        match write {
            Write::InsertSubject(row) => self.subjects.push(row),
            Write::InsertRecord(row) => self.records.push(row),
            Write::InsertIndex(row) => self.index.push(row),
            Write::InsertToken(row) => self.tokens.push(row),
            Write::InsertConsent(row) => self.consents.push(row),
            Write::InsertEvent(row) => self.events.push(row),
            Write::InsertRequest(row) => self.requests.push(row),
            _ => return false,
        }
        true
    }

    /// The statements that add them.
    pub(super) fn statements(self, sql: &InsertSql, platform: PlatformId) -> Vec<Statement<'a>> {
        let all = [
            insert(sql.subjects, platform, SUBJECTS, &self.subjects),
            insert(sql.records, platform, RECORDS, &self.records),
            insert(sql.index, platform, INDEX, &self.index),
            insert(sql.tokens, platform, TOKENS, &self.tokens),
            insert(sql.consents, platform, CONSENTS, &self.consents),
            insert(sql.events, platform, EVENTS, &self.events),
            insert(sql.requests, platform, REQUESTS, &self.requests),
        ];
        all.into_iter().flatten().collect()
    }
}

fn insert<'a, R>(
    sql: &'static str,
    platform: PlatformId,
    fields: &[Field<R>],
    rows: &[&'a R],
) -> Option<Statement<'a>> {
    let found = || fields.iter().map(|(_, get)| columns(get, rows)).collect();
    (!rows.is_empty()).then(|| exactly(sql, rows.len()).int(platform.get()).rows(found()))
}

/// Entries as rows of their bytes, leaf hashes and subjects.
pub(super) fn entry_columns(entries: &[EntryRow]) -> Vec<Column<'_>> {
    let of = |get: fn(&EntryRow) -> Option<&[u8]>| Column::Bytes(entries.iter().map(get).collect());
    vec![
        of(|row| Some(&row.entry)),
        of(|row| Some(&row.leaf_hash)),
        of(|row| row.subject.as_ref().map(<[u8; 16]>::as_slice)),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        domain::ids::RecordId,
        store::sql::statement::{POSTGRES, SQLITE},
    };

    #[test]
    fn no_new_row_passes_another_write() {
        let record = RecordId::from_bytes([1; 16]);
        let new = |hash| {
            let field = "iin".parse().unwrap();
            Write::InsertIndex(IndexRow {
                field,
                index_version: 1,
                hash: [hash; 32],
                record,
                claims_unique: true,
            })
        };
        let writes = [
            new(1),
            Write::EndClaims(record),
            new(2),
            new(3),
            Write::Claim(record),
            Write::DeleteIndex(record),
            new(4),
        ];
        let told: Vec<_> = pieces(&writes)
            .iter()
            .map(|piece| match piece {
                Piece::New(rows) => rows.index.iter().map(|row| row.hash[0]).collect(),
                Piece::Change(_) => Vec::new(),
            })
            .collect();
        assert_eq!(told, [vec![1], vec![], vec![2, 3], vec![], vec![], vec![4]]);
    }

    #[test]
    fn a_column_has_the_type_of_what_its_rows_have() {
        let sql = |dialect| insert_sql(dialect, "index_entries", INDEX);
        assert_eq!(
            sql(&POSTGRES),
            "/* insert::index_entries */ INSERT INTO index_entries (platform_id, field, index_version, value_hash, \
             record_id, claims_unique) SELECT $1, wanted.c0, wanted.c1, wanted.c2, wanted.c3, wanted.c4 FROM \
             unnest($2::text[], $3::bigint[], $4::bytea[], $5::bytea[], $6::bigint[]) AS wanted (c0, c1, c2, c3, c4)"
        );
        assert_eq!(
            sql(&SQLITE),
            "/* insert::index_entries */ INSERT INTO index_entries (platform_id, field, index_version, value_hash, \
             record_id, claims_unique) SELECT $1, json_extract(wanted.value, '$[0]'), \
             json_extract(wanted.value, '$[1]'), unhex(json_extract(wanted.value, '$[2]')), \
             unhex(json_extract(wanted.value, '$[3]')), json_extract(wanted.value, '$[4]') \
             FROM json_each($2) AS wanted"
        );
    }
}
