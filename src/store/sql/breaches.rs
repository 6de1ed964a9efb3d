//! Breaches of the security of personal data.

use super::{
    Engine, SqlRow, SqlStore,
    decode::Columns,
    lists::each,
    statement::{Statement, signed},
};
use crate::{
    domain::{
        breach::{Breach, BreachEnd, BreachFacts, BreachScope, Held, Reach, Told},
        ids::{BreachId, PlatformId},
        reference::Reference,
        time::Timestamp,
    },
    store::{
        Damage, StoreError,
        breaches::{OpenBreaches, WhichBreaches},
        rows::{
            Mac,
            breaches::{BreachRow, held},
        },
    },
};

/// The columns of a row, in the order in which [`Columns::breach`] reads them and [`bound`] binds them.
macro_rules! columns {
    () => {
        "platform_id, breach_id, kind, certainty, cause, began_at, ended_at, callers, everyone, key_version, consequences, \
         measures, reference, found_at, working_days, clause, calendar_sha256, due_at, opened_at, assessed_at, log_size, \
         entries, subjects, subjects_sha256, fields, purposes, recipients, authority_at, authority_channel, \
         authority_reference, authority_language, authority_sha256, authority_enclosure_sha256, people_at, people_channel, \
         people_reference, people_language, people_sha256, people_enclosure_sha256, closed_at, outcome, ground, mac"
    };
}

const TABLE: &str = "breaches";

impl<E: Engine> SqlStore<E> {
    pub(super) async fn read_breach(
        &self,
        platform: PlatformId,
        id: BreachId,
    ) -> Result<Option<BreachRow>, StoreError> {
        let statement = Statement::any(concat!(
            "/* read::breach */ SELECT ",
            columns!(),
            " FROM breaches WHERE platform_id = $1 AND breach_id = $2"
        ));
        let rows = self.list("read a breach", statement.int(platform.get()).bytes(id.as_bytes())).await?;
        Ok(each(&rows, TABLE, |mut c| c.breach())?.pop())
    }

    pub(super) async fn read_breaches(
        &self,
        platform: PlatformId,
        which: WhichBreaches,
        (due, id): (Timestamp, BreachId),
        limit: u32,
    ) -> Result<Vec<BreachRow>, StoreError> {
        const ALL: &str = concat!(
            "/* read::breaches */ SELECT ",
            columns!(),
            " FROM breaches WHERE platform_id = $1 AND (due_at > $3 OR (due_at = $3 AND breach_id > $4)) \
             ORDER BY due_at, breach_id LIMIT $2"
        );
        const NOT_ENDED: &str = concat!(
            "/* read::breaches */ SELECT ",
            columns!(),
            " FROM breaches WHERE platform_id = $1 AND (due_at > $3 OR (due_at = $3 AND breach_id > $4)) \
             AND closed_at IS NULL ORDER BY due_at, breach_id LIMIT $2"
        );
        const NOT_TOLD: &str = concat!(
            "/* read::breaches */ SELECT ",
            columns!(),
            " FROM breaches WHERE platform_id = $1 AND (due_at > $3 OR (due_at = $3 AND breach_id > $4)) \
             AND closed_at IS NULL AND authority_at IS NULL AND due_at <= $5 ORDER BY due_at, breach_id LIMIT $2"
        );
        let of = |sql| {
            let statement = Statement::any(sql).int(platform.get()).int(limit).int(due.as_micros());
            statement.own_bytes(id.as_bytes().to_vec())
        };
        let statement = match which {
            WhichBreaches::All => of(ALL),
            WhichBreaches::Open => of(NOT_ENDED),
            WhichBreaches::Overdue(now) => of(NOT_TOLD).int(now.as_micros()),
        };
        let rows = self.list("read breaches", statement).await?;
        each(&rows, TABLE, |mut c| c.breach())
    }

    pub(super) async fn count_open_breaches(&self, now: Timestamp) -> Result<Vec<OpenBreaches>, StoreError> {
        let statement = Statement::any(
            "/* read::open_breaches */ SELECT platform_id, count(*) AS number, \
             count(CASE WHEN authority_at IS NULL AND due_at <= $1 THEN 1 END) AS overdue FROM breaches \
             WHERE closed_at IS NULL GROUP BY platform_id ORDER BY platform_id",
        );
        let rows = self.list("count breaches", statement.int(now.as_micros())).await?;
        each(&rows, TABLE, |mut c| {
            Ok(OpenBreaches {
                platform: PlatformId::new(c.number("platform_id")?),
                count: c.number("number")?,
                overdue: c.number("overdue")?,
            })
        })
    }
}

impl<R: SqlRow> Columns<'_, R> {
    fn breach(&mut self) -> Result<BreachRow, Damage> {
        let damaged = |column| Damage { table: TABLE, column };
        let platform = PlatformId::new(self.number("platform_id")?);
        let id = BreachId::from_bytes(self.array("breach_id")?);
        let (kind, certainty, cause) = (self.parse("kind")?, self.parse("certainty")?, self.parse("cause")?);
        let (began_at, ended_at) = (self.optional_time("began_at")?, self.optional_time("ended_at")?);
        let callers = self.list("callers")?;
        let held = match (self.flag("everyone")?, self.optional_number("key_version")?) {
            (false, None) => None,
            (true, None) => Some(Held::Everyone),
            (false, Some(version)) => Some(Held::UnderKey(version)),
            (true, Some(_)) => return Err(damaged("key_version")),
        };
        let facts = BreachFacts {
            kind,
            certainty,
            cause,
            began_at,
            ended_at,
            reach: Reach { callers, held },
            consequences: self.list("consequences")?,
            measures: self.list("measures")?,
            reference: self.reference("reference")?,
        };
        let (found_at, working_days) = (self.time("found_at")?, self.number("working_days")?);
        let deadline = self.text("clause")?.to_owned();
        let calendar_sha256 = self.array("calendar_sha256")?;
        let (due_at, opened_at) = (self.time("due_at")?, self.time("opened_at")?);
        let scope = self.breach_scope()?;
        let authority = self.breach_told("authority_at")?;
        let subjects = self.breach_told("people_at")?;
        let closed_at = self.optional_time("closed_at")?;
        let (outcome, ground) = (self.text("outcome")?, self.reference("ground")?);
        let end = match closed_at {
            None => None,
            Some(at) => {
                Some(BreachEnd { at, outcome: outcome.parse().map_err(|_| damaged("outcome"))?, ground })
            }
        };
        let breach = Breach {
            id,
            facts,
            found_at,
            working_days,
            clause: deadline,
            calendar_sha256,
            due_at,
            scope,
            authority,
            subjects,
            end,
            opened_at,
        };
        Ok(BreachRow { platform, breach, mac: self.array("mac")? })
    }

    fn optional_number<T: TryFrom<i64>>(&mut self, column: &'static str) -> Result<Option<T>, Damage> {
        let number = self.optional_int(column)?;
        number.map(|number| T::try_from(number).map_err(|_| self.damaged(column))).transpose()
    }

    fn breach_scope(&mut self) -> Result<Option<BreachScope>, Damage> {
        let at = self.optional_time("assessed_at")?;
        let (log_size, entries) = (self.optional_number("log_size")?, self.optional_number("entries")?);
        let subjects = self.optional_number("subjects")?;
        let subjects_sha256 = self.optional_array("subjects_sha256")?;
        let (fields, purposes) = (self.list("fields")?, self.list("purposes")?);
        let recipients = self.list("recipients")?;
        match (at, log_size, entries, subjects, subjects_sha256) {
            (None, None, None, None, None) => Ok(None),
            (Some(at), Some(log_size), Some(entries), Some(subjects), Some(subjects_sha256)) => {
                Ok(Some(BreachScope {
                    at,
                    log_size,
                    entries,
                    subjects,
                    subjects_sha256,
                    fields,
                    purposes,
                    recipients,
                }))
            }
            _ => Err(Damage { table: TABLE, column: "assessed_at" }),
        }
    }

    /// The six columns of somebody who was told.
    fn breach_told(&mut self, column: &'static str) -> Result<Option<Told>, Damage> {
        let damaged = |_| Damage { table: TABLE, column };
        let at = self.optional_time(column)?;
        let channel = self.text(column)?;
        let reference = self.reference(column)?;
        let language = self.text(column)?;
        let notice = self.optional_array(column)?;
        let enclosure_sha256 = self.optional_array(column)?;
        let (Some(at), Some(notice_sha256)) = (at, notice) else { return Ok(None) };
        Ok(Some(Told {
            at,
            channel: channel.parse().map_err(damaged)?,
            reference,
            language: language.parse().map_err(damaged)?,
            notice_sha256,
            enclosure_sha256,
        }))
    }
}

pub(super) fn insert_breach(row: &BreachRow) -> Statement<'_> {
    let b = &row.breach;
    let statement = Statement::new(concat!(
        "/* write::insert_breach */ INSERT INTO breaches (",
        columns!(),
        ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, $22, \
         $23, $24, $25, $26, $27, $28, $29, $30, $31, $32, $33, $34, $35, $36, $37, $38, $39, $40, $41, $42, $43)"
    ))
    .int(row.platform.get())
    .bytes(b.id.as_bytes());
    let statement = bound_facts(statement, row)
        .int(b.found_at.as_micros())
        .int(b.working_days)
        .text(&b.clause)
        .bytes(&b.calendar_sha256)
        .int(b.due_at.as_micros())
        .int(b.opened_at.as_micros());
    bound_steps(statement, row)
}

/// A breach is put in the place of itself as it was: nothing of it may have changed meanwhile.
pub(super) fn update_breach<'a>(row: &'a BreachRow, was: &'a Mac) -> Statement<'a> {
    let statement = Statement::new(
        "/* write::update_breach */ UPDATE breaches SET kind = $4, certainty = $5, cause = $6, began_at = $7, \
         ended_at = $8, callers = $9, everyone = $10, key_version = $11, consequences = $12, measures = $13, \
         reference = $14, assessed_at = $15, log_size = $16, entries = $17, subjects = $18, subjects_sha256 = $19, \
         fields = $20, purposes = $21, recipients = $22, authority_at = $23, authority_channel = $24, \
         authority_reference = $25, authority_language = $26, authority_sha256 = $27, \
         authority_enclosure_sha256 = $28, people_at = $29, people_channel = $30, people_reference = $31, \
         people_language = $32, people_sha256 = $33, people_enclosure_sha256 = $34, closed_at = $35, outcome = $36, \
         ground = $37, mac = $38 WHERE platform_id = $1 AND breach_id = $2 AND mac = $3",
    )
    .int(row.platform.get())
    .bytes(row.breach.id.as_bytes())
    .bytes(was);
    bound_steps(bound_facts(statement, row), row)
}

/// What is known: from `kind` to `reference`.
fn bound_facts<'a>(statement: Statement<'a>, row: &'a BreachRow) -> Statement<'a> {
    let facts = &row.breach.facts;
    let (everyone, version) = held(facts.reach.held);
    statement
        .text(facts.kind.as_str())
        .text(facts.certainty.as_str())
        .text(facts.cause.as_str())
        .opt_int(facts.began_at.map(Timestamp::as_micros))
        .opt_int(facts.ended_at.map(Timestamp::as_micros))
        .own_text(joined(facts.reach.callers.iter().map(ToString::to_string)))
        .int(i64::from(everyone))
        .opt_int(version)
        .own_text(joined(facts.consequences.iter().map(|code| code.as_str().to_owned())))
        .own_text(joined(facts.measures.iter().map(|code| code.as_str().to_owned())))
        .text(facts.reference.as_ref().map_or("", Reference::as_str))
}

/// What was done: from `assessed_at` to `mac`.
fn bound_steps<'a>(statement: Statement<'a>, row: &'a BreachRow) -> Statement<'a> {
    let (b, scope) = (&row.breach, row.breach.scope.as_ref());
    let statement = statement
        .opt_int(scope.map(|scope| scope.at.as_micros()))
        .opt_int(scope.map(|scope| signed(scope.log_size)))
        .opt_int(scope.map(|scope| signed(scope.entries)))
        .opt_int(scope.map(|scope| signed(scope.subjects)))
        .opt_bytes(scope.map(|scope| scope.subjects_sha256.as_slice()))
        .own_text(scope.map_or_else(String::new, |s| joined(s.fields.iter().map(ToString::to_string))))
        .own_text(scope.map_or_else(String::new, |s| joined(s.purposes.iter().map(ToString::to_string))))
        .own_text(scope.map_or_else(String::new, |s| joined(s.recipients.iter().map(ToString::to_string))));
    let statement = bound_told(bound_told(statement, b.authority.as_ref()), b.subjects.as_ref());
    let end = b.end.as_ref();
    statement
        .opt_int(end.map(|end| end.at.as_micros()))
        .text(end.map_or("", |end| end.outcome.as_str()))
        .text(end.and_then(|end| end.ground.as_ref()).map_or("", Reference::as_str))
        .bytes(&row.mac)
}

fn bound_told<'a>(statement: Statement<'a>, told: Option<&'a Told>) -> Statement<'a> {
    statement
        .opt_int(told.map(|told| told.at.as_micros()))
        .text(told.map_or("", |told| told.channel.as_str()))
        .text(told.and_then(|told| told.reference.as_ref()).map_or("", Reference::as_str))
        .text(told.map_or("", |told| told.language.as_str()))
        .opt_bytes(told.map(|told| told.notice_sha256.as_slice()))
        .opt_bytes(told.and_then(|told| told.enclosure_sha256.as_ref()).map(<[u8; 32]>::as_slice))
}

pub(super) fn joined(parts: impl Iterator<Item = String>) -> String {
    parts.collect::<Vec<_>>().join(",")
}
