//! Requests of people about their data.

use super::{Engine, SqlRow, SqlStore, decode::Columns, lists::each, statement::Statement};
use crate::{
    domain::{
        ids::{CaseId, PlatformId, SubjectId},
        reference::Reference,
        rights::{Case, Ending, Identity, RefusalReason},
        time::Timestamp,
    },
    store::{
        Damage, StoreError,
        cases::{OpenCases, WhichCases},
        rows::{Mac, rights::CaseRow},
    },
};

/// The columns of a row, in the order in which [`Columns::case`] reads them and [`bound`] binds them.
macro_rules! columns {
    () => {
        "platform_id, case_id, subject_id, kind, channel, site, requester, representation, reference, received_at, \
         counts_from, working_days, clause, calendar_sha256, due_at, state, identity_method, identity_evidence, \
         identified_at, begun_at, done_at, ended_at, reasons, ground, answer_channel, language, notice_sha256, \
         enclosure_sha256, opened_at, mac"
    };
}

impl<E: Engine> SqlStore<E> {
    pub(super) async fn read_case(
        &self,
        platform: PlatformId,
        id: CaseId,
    ) -> Result<Option<CaseRow>, StoreError> {
        let statement = Statement::any(concat!(
            "/* read::case */ SELECT ",
            columns!(),
            " FROM rights_cases WHERE platform_id = $1 AND case_id = $2"
        ));
        let rows = self.list("read a request", statement.int(platform.get()).bytes(id.as_bytes())).await?;
        Ok(each(&rows, "rights_cases", |mut c| c.case())?.pop())
    }

    pub(super) async fn read_cases(
        &self,
        platform: PlatformId,
        which: WhichCases,
        (due, id): (Timestamp, CaseId),
        limit: u32,
    ) -> Result<Vec<CaseRow>, StoreError> {
        const ALL: &str = concat!(
            "/* read::cases */ SELECT ",
            columns!(),
            " FROM rights_cases WHERE platform_id = $1 AND (due_at > $3 OR (due_at = $3 AND case_id > $4)) \
             ORDER BY due_at, case_id LIMIT $2"
        );
        const WITHOUT_ANSWER: &str = concat!(
            "/* read::cases */ SELECT ",
            columns!(),
            " FROM rights_cases WHERE platform_id = $1 AND (due_at > $3 OR (due_at = $3 AND case_id > $4)) \
             AND due_at <= $5 AND state IN ('received', 'identity_checked', 'in_work') \
             ORDER BY due_at, case_id LIMIT $2"
        );
        const THEIRS: &str = concat!(
            "/* read::cases */ SELECT ",
            columns!(),
            " FROM rights_cases WHERE platform_id = $1 AND (due_at > $3 OR (due_at = $3 AND case_id > $4)) \
             AND subject_id = $5 ORDER BY due_at, case_id LIMIT $2"
        );
        let of = |sql| {
            let statement = Statement::any(sql).int(platform.get()).int(limit).int(due.as_micros());
            statement.own_bytes(id.as_bytes().to_vec())
        };
        let statement = match which {
            WhichCases::All => of(ALL),
            WhichCases::Open => of(WITHOUT_ANSWER).int(i64::MAX),
            WhichCases::Overdue(now) => of(WITHOUT_ANSWER).int(now.as_micros()),
            WhichCases::Of(subject) => of(THEIRS).own_bytes(subject.as_bytes().to_vec()),
        };
        let rows = self.list("read requests", statement).await?;
        each(&rows, "rights_cases", |mut c| c.case())
    }

    pub(super) async fn count_open_cases(&self, now: Timestamp) -> Result<Vec<OpenCases>, StoreError> {
        let statement = Statement::any(
            "/* read::open_cases */ SELECT platform_id, kind, count(*) AS number, min(due_at) AS due, \
             count(CASE WHEN due_at <= $1 THEN 1 END) AS overdue FROM rights_cases \
             WHERE state IN ('received', 'identity_checked', 'in_work') \
             GROUP BY platform_id, kind ORDER BY platform_id, kind",
        );
        let rows = self.list("count requests", statement.int(now.as_micros())).await?;
        each(&rows, "rights_cases", |mut c| {
            Ok(OpenCases {
                platform: PlatformId::new(c.number("platform_id")?),
                kind: c.parse("kind")?,
                count: c.number("number")?,
                due_at: c.time("due")?,
                overdue: c.number("overdue")?,
            })
        })
    }
}

impl<R: SqlRow> Columns<'_, R> {
    pub(super) fn reference(&mut self, column: &'static str) -> Result<Option<Reference>, Damage> {
        let text = self.text(column)?;
        let reference = (!text.is_empty()).then(|| Reference::parse(text)).transpose();
        reference.map_err(|_| self.damaged(column))
    }

    fn case(&mut self) -> Result<CaseRow, Damage> {
        let missing = |column| Damage { table: "rights_cases", column };
        let platform = PlatformId::new(self.number("platform_id")?);
        let id = CaseId::from_bytes(self.array("case_id")?);
        let subject = self.optional_array("subject_id")?.map(SubjectId::from_bytes);
        let (kind, channel) = (self.parse("kind")?, self.parse("channel")?);
        let site = match self.text("site")? {
            "" => None,
            site => Some(site.parse().map_err(|_| missing("site"))?),
        };
        let requester = self.parse("requester")?;
        let (representation, reference) = (self.reference("representation")?, self.reference("reference")?);
        let (received_at, counts_from) = (self.time("received_at")?, self.time("counts_from")?);
        let working_days = self.number("working_days")?;
        let clause = self.text("clause")?.to_owned();
        let calendar_sha256 = self.array("calendar_sha256")?;
        let (due_at, state) = (self.time("due_at")?, self.parse("state")?);
        let (method, evidence) = (self.text("identity_method")?, self.reference("identity_evidence")?);
        let identity = match (method, evidence, self.optional_time("identified_at")?) {
            ("", None, None) => None,
            (method, Some(evidence), Some(at)) => {
                let method = method.parse().map_err(|_| missing("identity_method"))?;
                Some(Identity { method, evidence, at })
            }
            _ => return Err(missing("identity_evidence")),
        };
        let begun_at = self.optional_time("begun_at")?;
        let done_at = self.optional_time("done_at")?;
        let ended_at = self.optional_time("ended_at")?;
        let (reasons, ground) = (self.list::<RefusalReason>("reasons")?, self.reference("ground")?);
        let (told_by, language) = (self.text("answer_channel")?, self.text("language")?);
        let notice = self.optional_array("notice_sha256")?;
        let enclosure_sha256 = self.optional_array("enclosure_sha256")?;
        let ending = match (ended_at, notice) {
            (None, None) => None,
            (Some(at), Some(notice_sha256)) => Some(Ending {
                at,
                reasons,
                reference: ground,
                channel: told_by.parse().map_err(|_| missing("answer_channel"))?,
                language: language.parse().map_err(|_| missing("language"))?,
                notice_sha256,
                enclosure_sha256,
            }),
            _ => return Err(missing("ended_at")),
        };
        let opened_at = self.time("opened_at")?;
        let case = Case {
            id,
            subject,
            kind,
            channel,
            site,
            requester,
            representation,
            reference,
            received_at,
            counts_from,
            working_days,
            clause,
            calendar_sha256,
            due_at,
            state,
            identity,
            begun_at,
            done_at,
            ending,
            opened_at,
        };
        Ok(CaseRow { platform, case, mac: self.array("mac")? })
    }
}

pub(super) fn insert_case(row: &CaseRow) -> Statement<'_> {
    bound(
        Statement::new(concat!(
            "/* write::insert_case */ INSERT INTO rights_cases (",
            columns!(),
            ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20, $21, \
             $22, $23, $24, $25, $26, $27, $28, $29, $30)"
        )),
        row,
    )
}

/// A request is put in the place of itself as it was: nothing of it may have changed meanwhile.
pub(super) fn update_case<'a>(row: &'a CaseRow, was: &'a Mac) -> Statement<'a> {
    let c = &row.case;
    let identity = c.identity.as_ref();
    let ending = c.ending.as_ref();
    Statement::new(
        "/* write::update_case */ UPDATE rights_cases SET counts_from = $3, due_at = $4, state = $5, \
         calendar_sha256 = $19, done_at = $20, identity_method = $6, identity_evidence = $7, identified_at = $8, begun_at = $9, ended_at = $10, \
         reasons = $11, ground = $12, answer_channel = $13, language = $14, notice_sha256 = $15, \
         enclosure_sha256 = $16, mac = $17 WHERE platform_id = $1 AND case_id = $2 AND mac = $18",
    )
    .int(row.platform.get())
    .bytes(c.id.as_bytes())
    .int(c.counts_from.as_micros())
    .int(c.due_at.as_micros())
    .text(c.state.as_str())
    .text(identity.map_or("", |identity| identity.method.as_str()))
    .text(identity.map_or("", |identity| identity.evidence.as_str()))
    .opt_int(identity.map(|identity| identity.at.as_micros()))
    .opt_int(c.begun_at.map(Timestamp::as_micros))
    .opt_int(ending.map(|ending| ending.at.as_micros()))
    .own_text(reasons(ending))
    .text(ending.and_then(|ending| ending.reference.as_ref()).map_or("", Reference::as_str))
    .text(ending.map_or("", |ending| ending.channel.as_str()))
    .text(ending.map_or("", |ending| ending.language.as_str()))
    .opt_bytes(ending.map(|ending| ending.notice_sha256.as_slice()))
    .opt_bytes(enclosure(ending))
    .bytes(&row.mac)
    .bytes(was)
    .bytes(&c.calendar_sha256)
    .opt_int(c.done_at.map(Timestamp::as_micros))
}

fn bound<'a>(statement: Statement<'a>, row: &'a CaseRow) -> Statement<'a> {
    let c = &row.case;
    let identity = c.identity.as_ref();
    let ending = c.ending.as_ref();
    statement
        .int(row.platform.get())
        .bytes(c.id.as_bytes())
        .opt_bytes(c.subject.as_ref().map(|id| id.as_bytes().as_slice()))
        .text(c.kind.as_str())
        .text(c.channel.as_str())
        .text(c.site.as_ref().map_or("", |site| site.as_str()))
        .text(c.requester.as_str())
        .text(c.representation.as_ref().map_or("", Reference::as_str))
        .text(c.reference.as_ref().map_or("", Reference::as_str))
        .int(c.received_at.as_micros())
        .int(c.counts_from.as_micros())
        .int(c.working_days)
        .text(&c.clause)
        .bytes(&c.calendar_sha256)
        .int(c.due_at.as_micros())
        .text(c.state.as_str())
        .text(identity.map_or("", |identity| identity.method.as_str()))
        .text(identity.map_or("", |identity| identity.evidence.as_str()))
        .opt_int(identity.map(|identity| identity.at.as_micros()))
        .opt_int(c.begun_at.map(Timestamp::as_micros))
        .opt_int(c.done_at.map(Timestamp::as_micros))
        .opt_int(ending.map(|ending| ending.at.as_micros()))
        .own_text(reasons(ending))
        .text(ending.and_then(|ending| ending.reference.as_ref()).map_or("", Reference::as_str))
        .text(ending.map_or("", |ending| ending.channel.as_str()))
        .text(ending.map_or("", |ending| ending.language.as_str()))
        .opt_bytes(ending.map(|ending| ending.notice_sha256.as_slice()))
        .opt_bytes(enclosure(ending))
        .int(c.opened_at.as_micros())
        .bytes(&row.mac)
}

fn reasons(ending: Option<&Ending>) -> String {
    let reasons = ending.map_or(&[][..], |ending| &ending.reasons);
    reasons.iter().map(|reason| reason.as_str()).collect::<Vec<_>>().join(",")
}

fn enclosure(ending: Option<&Ending>) -> Option<&[u8]> {
    ending.and_then(|ending| ending.enclosure_sha256.as_ref()).map(<[u8; 32]>::as_slice)
}
