//! Writes of many rows in one statement, each with the dialect's way of writing lists.

use super::{
    sealed::SealedWrites,
    statement::{Column, Dialect, Statement, Touches},
};
use crate::{
    domain::ids::PlatformId,
    store::{Many, Rewrapped, Worker, rows::Mac},
};

/// `$1` platform, `$2` operation, `$3` fence, rows of subject, wrap before, wrap now. Whoever takes the operation over waits until
/// this is done, and after that it writes nothing. It may be on the disk later than it is answered: see `KeyWorkStore::rewrap`.
const REWRAP: &str = "/* write::rewrap */ WITH held AS (SELECT operation_id FROM operations WHERE platform_id = $1 \
     AND operation_id = $2 AND fence = $3 AND state = 'running'{share}){unwaited} \
     UPDATE subjects SET wrapped_key = {2} FROM {rows}, held{and_unwaited} \
     WHERE platform_id = $1 AND subject_id = {0} AND wrapped_key = {1}";

/// `$2` and `$3` the versions from and to which, rows of record, hash under the one and under the other.
fn fill(dialect: &Dialect) -> String {
    let places = dialect.find(
        "index_entries i",
        "index_entries_by_record",
        "i.record_id = {0} AND i.value_hash = {1}",
    );
    format!(
        "/* commit::fill_index */ INSERT INTO index_entries (platform_id, field, index_version, value_hash, record_id, \
         claims_unique) SELECT i.platform_id, i.field, $3, {{2}}, i.record_id, i.claims_unique \
         FROM {{rows}} {places} WHERE i.index_version = $2 \
         ON CONFLICT (platform_id, field, index_version, value_hash, record_id) DO NOTHING"
    )
}

/// `$2` the version, rows of subject, hash under it, MAC now, MAC before.
const MOVE_SUBJECTS: &str = "/* commit::move_subjects */ UPDATE subjects SET index_version = $2, \
     reference_hash = {1}, mac = {2} FROM {rows} WHERE platform_id = $1 AND subject_id = {0} AND mac = {3}";

/// The same of tokens, by row id.
const MOVE_TOKENS: &str = "/* commit::move_tokens */ UPDATE tokens SET hash_version = $2, token_hash = {1}, \
     mac = {2} FROM {rows} WHERE platform_id = $1 AND token_id = {0} AND mac = {3}";

/// The statements in one dialect.
pub(super) struct ListWrites {
    rewrap: &'static str,
    fill: &'static str,
    move_subjects: &'static str,
    move_tokens: &'static str,
    sealed: SealedWrites,
}

impl ListWrites {
    /// The texts live as long as the process, as prepared statements want them.
    pub(super) fn new(dialect: &Dialect) -> Self {
        Self {
            rewrap: over_rows::<3>(dialect, 4, REWRAP),
            fill: over_rows::<3>(dialect, 4, &fill(dialect)),
            move_subjects: over_rows::<4>(dialect, 3, MOVE_SUBJECTS),
            move_tokens: over_rows::<4>(dialect, 3, MOVE_TOKENS),
            sealed: SealedWrites::new(dialect),
        }
    }

    /// The statement that puts subject keys under another wrap.
    pub(super) fn rewrap<'a>(&self, worker: Worker, rows: &'a [Rewrapped]) -> Statement<'a> {
        let wraps =
            rows.iter().map(|r| [r.subject.as_bytes().as_slice(), r.before.as_bytes(), r.after.as_bytes()]);
        Statement::any(self.rewrap)
            .int(worker.platform.get())
            .own_bytes(worker.operation.as_bytes().to_vec())
            .int(worker.fence)
            .rows(byte_columns(wraps))
    }

    /// The statements that write these rows.
    pub(super) fn statements<'a>(&self, platform: PlatformId, rows: &'a Many) -> Vec<Statement<'a>> {
        let id = platform.get();
        vec![match rows {
            Many::Reseal(rows) => return self.sealed.statements(platform, rows),
            Many::FillIndex(versions, places) => {
                let rows = places.iter().map(|p| [p.record.as_bytes().as_slice(), &p.from, &p.to]);
                Statement::any(self.fill).int(id).int(versions.from).int(versions.to).rows(byte_columns(rows))
            }
            Many::MoveSubjects(rows) => {
                let version = rows.first().map_or(0, |(row, _)| row.index_version);
                let moved = rows
                    .iter()
                    .map(|(row, was)| moved(row.id.as_bytes(), &row.reference_hash, &row.mac, was));
                exactly(self.move_subjects, rows.len()).int(id).int(version).rows(byte_columns(moved))
            }
            Many::MoveTokens(rows) => {
                let version = rows.first().map_or(0, |(row, _)| row.hash_version);
                let moved =
                    rows.iter().map(|(row, was)| moved(row.id.as_bytes(), &row.hash.0, &row.mac, was));
                exactly(self.move_tokens, rows.len()).int(id).int(version).rows(byte_columns(moved))
            }
        }]
    }
}

/// Each row must be as it was: its entry tells what it becomes.
pub(super) fn exactly(sql: &'static str, rows: usize) -> Statement<'static> {
    Statement::touching(sql, Touches::Exactly(u64::try_from(rows).unwrap_or(u64::MAX)))
}

const fn moved<'a>(id: &'a [u8; 16], hash: &'a [u8; 32], mac: &'a Mac, was: &'a Mac) -> [&'a [u8]; 4] {
    [id, hash, mac, was]
}

/// A statement over rows of `N` columns of bytes, which are its parameters from `first` on: `{rows}` stands for what they are
/// selected from, and `{0}` to `{N - 1}` for what a row has. The text lives as long as the process, as prepared statements want it.
pub(super) fn over_rows<const N: usize>(dialect: &Dialect, first: usize, template: &str) -> &'static str {
    let (values, from) = dialect.rows(first, &byte_columns::<N>(std::iter::empty()));
    let mut text = template.replace("{rows}", &from);
    for (at, value) in values.iter().enumerate() {
        text = text.replace(&format!("{{{at}}}"), value);
    }
    dialect.render(&text).leak()
}

/// Rows, column by column.
pub(super) fn byte_columns<'a, const N: usize>(rows: impl Iterator<Item = [&'a [u8]; N]>) -> Vec<Column<'a>> {
    let mut columns = vec![Vec::with_capacity(rows.size_hint().0); N];
    for row in rows {
        for (column, value) in columns.iter_mut().zip(row) {
            column.push(Some(value));
        }
    }
    columns.into_iter().map(Column::Bytes).collect()
}
