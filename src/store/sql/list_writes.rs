//! Writes of many rows in one statement, each with the dialect's way of writing lists.

use super::{
    sealed::SealedWrites,
    statement::{Dialect, Statement, Touches, json_blobs},
};
use crate::{
    domain::ids::PlatformId,
    store::{Many, rows::Mac},
};

/// `$2` a list of subject, wrap before, wrap now.
const REWRAP: &str = "/* commit::rewrap */ UPDATE subjects SET wrapped_key = {hex:2} FROM {2} \
     WHERE platform_id = $1 AND subject_id = {hex:0} AND wrapped_key = {hex:1}";

/// `$2` a list of record, hash under the version `$3`, hash under the version `$4`.
fn fill(dialect: &Dialect) -> String {
    let on = "i.record_id = {hex:0} AND i.value_hash = {hex:1}";
    let places = dialect.find("index_entries i", "index_entries_by_record", on);
    format!(
        "/* commit::fill_index */ INSERT INTO index_entries (platform_id, field, index_version, value_hash, record_id, \
         claims_unique) SELECT i.platform_id, i.field, $4, {{hex:2}}, i.record_id, i.claims_unique \
         FROM {{2}} {places} WHERE i.index_version = $3 \
         ON CONFLICT (platform_id, field, index_version, value_hash, record_id) DO NOTHING"
    )
}

/// `$2` a list of subject, hash under the version `$3`, MAC now, MAC before.
const MOVE_SUBJECTS: &str = "/* commit::move_subjects */ UPDATE subjects SET index_version = $3, \
     reference_hash = {hex:1}, mac = {hex:2} FROM {2} \
     WHERE platform_id = $1 AND subject_id = {hex:0} AND mac = {hex:3}";

/// The same of tokens, by row id.
const MOVE_TOKENS: &str = "/* commit::move_tokens */ UPDATE tokens SET hash_version = $3, token_hash = {hex:1}, \
     mac = {hex:2} FROM {2} WHERE platform_id = $1 AND token_id = {hex:0} AND mac = {hex:3}";

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
        let render = |template: &str| -> &'static str { dialect.render(template).leak() };
        Self {
            rewrap: render(REWRAP),
            fill: render(&fill(dialect)),
            move_subjects: render(MOVE_SUBJECTS),
            move_tokens: render(MOVE_TOKENS),
            sealed: SealedWrites::new(render, dialect),
        }
    }

    /// The statements that write these rows.
    pub(super) fn statements(&self, platform: PlatformId, rows: &Many) -> Vec<Statement<'static>> {
        let id = platform.get();
        vec![match rows {
            Many::Reseal(rows) => return self.sealed.statements(platform, rows),
            Many::Rewrap(rows) => {
                let rows = rows
                    .iter()
                    .map(|r| [r.subject.as_bytes().as_slice(), r.before.as_bytes(), r.after.as_bytes()]);
                Statement::any(self.rewrap).int(id).own_text(list(rows))
            }
            Many::FillIndex(versions, places) => {
                let rows = places.iter().map(|p| [p.record.as_bytes().as_slice(), &p.from, &p.to]);
                Statement::any(self.fill).int(id).own_text(list(rows)).int(versions.from).int(versions.to)
            }
            Many::MoveSubjects(rows) => {
                let version = rows.first().map_or(0, |(row, _)| row.index_version);
                let moved = rows
                    .iter()
                    .map(|(row, was)| moved(row.id.as_bytes(), &row.reference_hash, &row.mac, was));
                exactly(self.move_subjects, rows.len()).int(id).own_text(list(moved)).int(version)
            }
            Many::MoveTokens(rows) => {
                let version = rows.first().map_or(0, |(row, _)| row.hash_version);
                let moved =
                    rows.iter().map(|(row, was)| moved(row.id.as_bytes(), &row.hash.0, &row.mac, was));
                exactly(self.move_tokens, rows.len()).int(id).own_text(list(moved)).int(version)
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

pub(super) fn list<'a, const N: usize>(rows: impl Iterator<Item = [&'a [u8]; N]>) -> String {
    format!("[{}]", rows.map(|parts| json_blobs(&parts)).collect::<Vec<_>>().join(","))
}
