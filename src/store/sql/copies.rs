//! Copies of data outside the vault.

use super::{Engine, SqlRow, SqlStore, breaches::joined, decode::Columns, lists::each, statement::Statement};
use crate::{
    domain::{
        data_copy::{CopyEnd, CopyFacts, DataCopy},
        ids::{CopyId, PlatformId, SubjectId},
        reference::Reference,
        time::Timestamp,
    },
    store::{
        Damage, StoreError,
        copies::{OpenCopies, WhichCopies},
        rows::{Mac, copies::CopyRow},
    },
};

/// The columns of a row, in the order in which [`Columns::data_copy`] reads them and [`insert_copy`] binds them.
macro_rules! columns {
    () => {
        "platform_id, copy_id, kind, purpose, fields, subject_id, holder, reference, made_at, destroy_by, recorded_at, \
         ended_at, outcome, act, mac"
    };
}

const TABLE: &str = "data_copies";

impl<E: Engine> SqlStore<E> {
    pub(super) async fn read_copy(
        &self,
        platform: PlatformId,
        id: CopyId,
    ) -> Result<Option<CopyRow>, StoreError> {
        let statement = Statement::any(concat!(
            "/* read::data_copy */ SELECT ",
            columns!(),
            " FROM data_copies WHERE platform_id = $1 AND copy_id = $2"
        ));
        let rows = self.list("read a copy", statement.int(platform.get()).bytes(id.as_bytes())).await?;
        Ok(each(&rows, TABLE, |mut c| c.data_copy())?.pop())
    }

    pub(super) async fn read_copies(
        &self,
        platform: PlatformId,
        which: WhichCopies,
        (due, id): (Timestamp, CopyId),
        limit: u32,
    ) -> Result<Vec<CopyRow>, StoreError> {
        const ALL: &str = concat!(
            "/* read::data_copies */ SELECT ",
            columns!(),
            " FROM data_copies WHERE platform_id = $1 AND (destroy_by > $3 OR (destroy_by = $3 AND copy_id > $4)) \
             ORDER BY destroy_by, copy_id LIMIT $2"
        );
        const OPEN: &str = concat!(
            "/* read::data_copies */ SELECT ",
            columns!(),
            " FROM data_copies WHERE platform_id = $1 AND (destroy_by > $3 OR (destroy_by = $3 AND copy_id > $4)) \
             AND ended_at IS NULL ORDER BY destroy_by, copy_id LIMIT $2"
        );
        const OVERDUE: &str = concat!(
            "/* read::data_copies */ SELECT ",
            columns!(),
            " FROM data_copies WHERE platform_id = $1 AND (destroy_by > $3 OR (destroy_by = $3 AND copy_id > $4)) \
             AND ended_at IS NULL AND destroy_by <= $5 ORDER BY destroy_by, copy_id LIMIT $2"
        );
        let of = |sql| {
            let statement = Statement::any(sql).int(platform.get()).int(limit).int(due.as_micros());
            statement.own_bytes(id.as_bytes().to_vec())
        };
        let statement = match which {
            WhichCopies::All => of(ALL),
            WhichCopies::Open => of(OPEN),
            WhichCopies::Overdue(now) => of(OVERDUE).int(now.as_micros()),
        };
        let rows = self.list("read copies", statement).await?;
        each(&rows, TABLE, |mut c| c.data_copy())
    }

    pub(super) async fn count_open_copies(&self, now: Timestamp) -> Result<Vec<OpenCopies>, StoreError> {
        let statement = Statement::any(
            "/* read::open_copies */ SELECT platform_id, count(*) AS number, \
             count(CASE WHEN destroy_by <= $1 THEN 1 END) AS overdue FROM data_copies \
             WHERE ended_at IS NULL GROUP BY platform_id ORDER BY platform_id",
        );
        let rows = self.list("count copies", statement.int(now.as_micros())).await?;
        each(&rows, TABLE, |mut c| {
            Ok(OpenCopies {
                platform: PlatformId::new(c.number("platform_id")?),
                count: c.number("number")?,
                overdue: c.number("overdue")?,
            })
        })
    }
}

impl<R: SqlRow> Columns<'_, R> {
    fn data_copy(&mut self) -> Result<CopyRow, Damage> {
        let damaged = |column| Damage { table: TABLE, column };
        let platform = PlatformId::new(self.number("platform_id")?);
        let id = CopyId::from_bytes(self.array("copy_id")?);
        let facts = CopyFacts {
            kind: self.parse("kind")?,
            purpose: self.parse("purpose")?,
            fields: self.list("fields")?,
            subject: self.optional_array("subject_id")?.map(SubjectId::from_bytes),
            holder: self.reference("holder")?.ok_or(damaged("holder"))?,
            reference: self.reference("reference")?,
            made_at: self.time("made_at")?,
            destroy_by: self.time("destroy_by")?,
        };
        let (recorded_at, ended_at) = (self.time("recorded_at")?, self.optional_time("ended_at")?);
        let (outcome, act) = (self.text("outcome")?, self.reference("act")?);
        let end = match ended_at {
            None => None,
            Some(at) => Some(CopyEnd {
                at,
                outcome: outcome.parse().map_err(|_| damaged("outcome"))?,
                act: act.ok_or(damaged("act"))?,
            }),
        };
        let copy = DataCopy { id, facts, recorded_at, end };
        Ok(CopyRow { platform, copy, mac: self.array("mac")? })
    }
}

pub(super) fn insert_copy(row: &CopyRow) -> Statement<'_> {
    let (copy, facts) = (&row.copy, &row.copy.facts);
    let statement = Statement::new(concat!(
        "/* write::insert_copy */ INSERT INTO data_copies (",
        columns!(),
        ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15)"
    ))
    .int(row.platform.get())
    .bytes(copy.id.as_bytes())
    .text(facts.kind.as_str())
    .text(facts.purpose.as_str())
    .own_text(joined(facts.fields.iter().map(ToString::to_string)))
    .opt_bytes(facts.subject.as_ref().map(|id| id.as_bytes().as_slice()))
    .text(facts.holder.as_str())
    .text(facts.reference.as_ref().map_or("", Reference::as_str))
    .int(facts.made_at.as_micros())
    .int(facts.destroy_by.as_micros())
    .int(copy.recorded_at.as_micros());
    bound_end(statement, row)
}

/// A copy ends where it is as it was: nothing of it may have changed meanwhile.
pub(super) fn update_copy<'a>(row: &'a CopyRow, was: &'a Mac) -> Statement<'a> {
    let statement = Statement::new(
        "/* write::update_copy */ UPDATE data_copies SET ended_at = $4, outcome = $5, act = $6, mac = $7 \
         WHERE platform_id = $1 AND copy_id = $2 AND mac = $3",
    )
    .int(row.platform.get())
    .bytes(row.copy.id.as_bytes())
    .bytes(was);
    bound_end(statement, row)
}

/// From `ended_at` to `mac`.
fn bound_end<'a>(statement: Statement<'a>, row: &'a CopyRow) -> Statement<'a> {
    let end = row.copy.end.as_ref();
    statement
        .opt_int(end.map(|end| end.at.as_micros()))
        .text(end.map_or("", |end| end.outcome.as_str()))
        .text(end.map_or("", |end| end.act.as_str()))
        .bytes(&row.mac)
}
