//! `sandyq.v1.BreachService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    authn::{Call, as_change, as_question},
    codes::same,
    convert::{Checker, page_size, time},
    limits::{answer, within_limit},
    log_convert::number,
    pb::{self, breach_service_server},
    registers::{Answers, answers, channel_pb, distinct, optional_hash, place, place_token, reference, told},
    status::status,
};
use crate::{
    domain::{
        breach::{
            Addressee, Breach, BreachCause, BreachCertainty, BreachConsequence, BreachEnd, BreachFacts,
            BreachKind, BreachMeasure, BreachOutcome, BreachScope, BreachState, Held, MAX_CALLERS, Reach,
            Told,
        },
        ids::BreachId,
    },
    vault::{
        Vault,
        breaches::{
            BreachClosing, BreachDraft, BreachStep, BreachSteps, BreachTold, BreachView, ListedBreaches,
            MAX_PAGE,
        },
        error::VaultError,
    },
};

same!(kind, kind_pb, BreachKind { Access, Disclosure, Loss, Alteration, Destruction });
same!(certainty, certainty_pb, BreachCertainty { Suspected, Confirmed });
same!(
    cause,
    cause_pb,
    BreachCause {
        Unknown,
        StolenCredential,
        Insider,
        SoftwareFault,
        Misconfiguration,
        HumanMistake,
        Malware,
        LostCarrier,
        Recipient,
    }
);
same!(
    consequence,
    consequence_pb,
    BreachConsequence { IdentityTheft, Fraud, UnwantedContact, Exposure, WrongDecision, LossOfService }
);
same!(
    measure,
    measure_pb,
    BreachMeasure {
        CallerDisabled,
        KeysReplaced,
        DataBlocked,
        FaultMended,
        AccessNarrowed,
        CopiesRecalled,
        DataRestored,
        WatchRaised,
        PoliceTold,
    }
);
same!(outcome, outcome_pb, BreachOutcome { Settled, NotConfirmed });

fn addressee(number: i32) -> Option<Addressee> {
    match pb::BreachAddressee::try_from(number).ok()? {
        pb::BreachAddressee::Unspecified => None,
        pb::BreachAddressee::Authority => Some(Addressee::Authority),
        pb::BreachAddressee::Subjects => Some(Addressee::Subjects),
    }
}

const fn state_pb(state: BreachState) -> pb::BreachState {
    match state {
        BreachState::Open => pb::BreachState::Open,
        BreachState::AuthorityTold => pb::BreachState::AuthorityTold,
        BreachState::SubjectsTold => pb::BreachState::SubjectsTold,
        BreachState::Told => pb::BreachState::Told,
        BreachState::Closed => pb::BreachState::Closed,
    }
}

/// Serves the register of breaches.
pub struct BreachService {
    vault: Arc<Vault>,
}

impl BreachService {
    /// A service over an open vault.
    #[must_use]
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }

    async fn open(&self, call: Call, m: pb::OpenBreachRequest) -> Result<BreachView, VaultError> {
        let mut check = Checker::new("");
        let found_at = check.past_time("find_time", m.find_time, self.vault.clock().now());
        let found_at = check.finish(found_at)?;
        let facts = facts(m.facts)?;
        self.vault.open_breach(&call.caller, call.asker, &m.platform, found_at, facts).await
    }

    async fn amend(&self, call: Call, m: pb::AmendBreachRequest) -> Result<BreachView, VaultError> {
        let (id, facts) = (breach_id(&m.breach_id)?, facts(m.facts)?);
        self.vault.amend_breach(&call.caller, call.asker, &m.platform, id, facts).await
    }

    async fn assess(&self, call: Call, m: pb::AssessBreachRequest) -> Result<BreachSteps, VaultError> {
        let id = breach_id(&m.breach_id)?;
        let begun = self.vault.begin_assessment(&call.caller, call.asker, &m.platform, id).await?;
        let (steps, assessment) = begun;
        let vault = Arc::clone(&self.vault);
        tokio::spawn(async move { vault.assess_breach(assessment).await });
        Ok(steps)
    }

    async fn subjects(
        &self,
        call: Call,
        m: pb::ExportBreachSubjectsRequest,
    ) -> Result<BreachSteps, VaultError> {
        let id = breach_id(&m.breach_id)?;
        self.vault.breach_subjects(&call.caller, call.asker, &m.platform, id).await
    }

    async fn notice(
        &self,
        call: Call,
        m: pb::GetBreachNoticeRequest,
    ) -> Result<pb::GetBreachNoticeResponse, VaultError> {
        let id = breach_id(&m.breach_id)?;
        let mut check = Checker::new("");
        let to = check.code("to", addressee(m.to));
        let language = check.parse("language", &m.language);
        let asked = check.finish(to.zip(language))?;
        let draft = self.vault.breach_notice(&call.caller, call.asker, &m.platform, id, asked).await?;
        Ok(notice_pb(draft))
    }

    async fn report(&self, call: Call, m: pb::ReportBreachRequest) -> Result<BreachView, VaultError> {
        let id = breach_id(&m.breach_id)?;
        let mut check = Checker::new("");
        let whom = check.code("to", addressee(m.to));
        let at = check.past_time("tell_time", m.tell_time, self.vault.clock().now());
        let how = told(&mut check, m.channel, &m.language);
        let reference = check.reference("reference", &m.reference);
        let enclosure_sha256 = optional_hash(&mut check, "enclosure_sha256", &m.enclosure_sha256);
        let ((whom, at), (channel, language)) = check.finish(whom.zip(at).zip(how))?;
        let told = BreachTold { whom, at, channel, language, reference, enclosure_sha256 };
        self.vault.report_breach(&call.caller, call.asker, &m.platform, id, told).await
    }

    async fn close(&self, call: Call, m: pb::CloseBreachRequest) -> Result<BreachView, VaultError> {
        let id = breach_id(&m.breach_id)?;
        let mut check = Checker::new("");
        let outcome = check.code("outcome", outcome(m.outcome));
        let ground = check.reference("ground", &m.ground);
        let closing = BreachClosing { outcome: check.finish(outcome)?, ground };
        self.vault.close_breach(&call.caller, call.asker, &m.platform, id, closing).await
    }

    async fn get(&self, call: Call, m: pb::GetBreachRequest) -> Result<BreachView, VaultError> {
        self.vault.breach(&call.caller, call.asker, &m.platform, breach_id(&m.breach_id)?).await
    }

    async fn list(
        &self,
        call: Call,
        m: pb::ListBreachesRequest,
    ) -> Result<pb::ListBreachesResponse, VaultError> {
        let which = match pb::BreachFilter::try_from(m.filter) {
            Ok(pb::BreachFilter::Unspecified | pb::BreachFilter::Open) => ListedBreaches::Open,
            Ok(pb::BreachFilter::Overdue) => ListedBreaches::Overdue,
            Ok(pb::BreachFilter::All) => ListedBreaches::All,
            Err(_) => return Err(VaultError::invalid("filter", "is no filter of breaches")),
        };
        let (size, after) = (page_size(m.page_size, MAX_PAGE)?, place(&m.page_token)?);
        let (found, next) =
            self.vault.breaches(&call.caller, call.asker, &m.platform, which, after, size).await?;
        Ok(pb::ListBreachesResponse {
            breaches: found.iter().map(breach_pb).collect(),
            next_page_token: place_token(next),
        })
    }
}

fn breach_id(text: &str) -> Result<BreachId, VaultError> {
    let mut check = Checker::new("");
    let id = check.parse("breach_id", text);
    check.finish(id)
}

fn facts(given: Option<pb::BreachFacts>) -> Result<BreachFacts, VaultError> {
    let m = given.ok_or(VaultError::invalid("facts", "is required"))?;
    let mut check = Checker::new("facts.");
    let kind = check.code("kind", kind(m.kind));
    let certainty = check.code("certainty", certainty(m.certainty));
    let cause = check.code("cause", cause(m.cause));
    let began_at = m.begin_time.and_then(|at| check.time("begin_time", at));
    let ended_at = m.end_time.and_then(|at| check.time("end_time", at));
    let reach = reach(&mut check, &m);
    let all = BreachConsequence::ALL.len();
    let consequences = distinct(&mut check, "consequences", &m.consequences, all, consequence);
    let measures = distinct(&mut check, "measures", &m.measures, BreachMeasure::ALL.len(), measure);
    let reference = check.reference("reference", &m.reference);
    let ((kind, certainty), cause) = check.finish(kind.zip(certainty).zip(cause))?;
    Ok(BreachFacts { kind, certainty, cause, began_at, ended_at, reach, consequences, measures, reference })
}

fn reach(check: &mut Checker, m: &pb::BreachFacts) -> Reach {
    if m.caller_ids.len() > MAX_CALLERS {
        check.refuse("caller_ids", "at most 16");
    }
    let each = m.caller_ids.iter().take(MAX_CALLERS).enumerate();
    let mut callers: Vec<_> =
        each.filter_map(|(i, id)| check.parse(&format!("caller_ids[{i}]"), id)).collect();
    callers.sort_unstable();
    callers.dedup();
    let held = match (m.everyone, m.key_version) {
        (false, 0) => None,
        (true, 0) => Some(Held::Everyone),
        (false, version) => Some(Held::UnderKey(version)),
        (true, _) => {
            check.refuse("key_version", "is left out where everyone is reached");
            None
        }
    };
    Reach { callers, held }
}

fn breach_pb(view: &BreachView) -> pb::Breach {
    let breach = &view.breach;
    let Breach { id, found_at, working_days, due_at, calendar_sha256, opened_at, .. } = *breach;
    let told = |told: Option<&Told>, notice: Option<&String>| told.map(|told| told_pb(told, notice));
    pb::Breach {
        breach_id: id.to_string(),
        facts: Some(facts_pb(&breach.facts)),
        find_time: Some(time(found_at)),
        working_days,
        clause: breach.clause.clone(),
        due_time: Some(time(due_at)),
        calendar_sha256: calendar_sha256.to_vec(),
        state: state_pb(breach.state()).into(),
        overdue: view.overdue,
        late: breach.was_late(),
        scope: breach.scope.as_ref().map(scope_pb),
        authority: told(breach.authority.as_ref(), view.authority_notice.as_ref()),
        subjects: told(breach.subjects.as_ref(), view.subjects_notice.as_ref()),
        ending: breach.end.as_ref().map(ending_pb),
        open_time: Some(time(opened_at)),
    }
}

fn facts_pb(facts: &BreachFacts) -> pb::BreachFacts {
    let (everyone, key_version) = match facts.reach.held {
        None => (false, 0),
        Some(Held::Everyone) => (true, 0),
        Some(Held::UnderKey(version)) => (false, version),
    };
    pb::BreachFacts {
        kind: kind_pb(facts.kind).into(),
        certainty: certainty_pb(facts.certainty).into(),
        cause: cause_pb(facts.cause).into(),
        begin_time: facts.began_at.map(time),
        end_time: facts.ended_at.map(time),
        caller_ids: facts.reach.callers.iter().map(ToString::to_string).collect(),
        key_version,
        everyone,
        consequences: facts.consequences.iter().map(|code| consequence_pb(*code).into()).collect(),
        measures: facts.measures.iter().map(|code| measure_pb(*code).into()).collect(),
        reference: reference(facts.reference.as_ref()),
    }
}

fn scope_pb(scope: &BreachScope) -> pb::BreachScope {
    pb::BreachScope {
        assess_time: Some(time(scope.at)),
        log_size: number(scope.log_size),
        entries: number(scope.entries),
        subjects: number(scope.subjects),
        subjects_sha256: scope.subjects_sha256.to_vec(),
        fields: scope.fields.iter().map(ToString::to_string).collect(),
        purposes: scope.purposes.iter().map(ToString::to_string).collect(),
        recipients: scope.recipients.iter().map(ToString::to_string).collect(),
    }
}

fn told_pb(told: &Told, notice: Option<&String>) -> pb::BreachReport {
    pb::BreachReport {
        tell_time: Some(time(told.at)),
        channel: channel_pb(told.channel).into(),
        language: told.language.as_str().to_owned(),
        reference: reference(told.reference.as_ref()),
        notice_sha256: told.notice_sha256.to_vec(),
        enclosure_sha256: told.enclosure_sha256.map(|hash| hash.to_vec()).unwrap_or_default(),
        notice: notice.cloned().unwrap_or_default(),
    }
}

fn ending_pb(end: &BreachEnd) -> pb::BreachEnding {
    pb::BreachEnding {
        end_time: Some(time(end.at)),
        outcome: outcome_pb(end.outcome).into(),
        ground: reference(end.ground.as_ref()),
    }
}

fn notice_pb(draft: BreachDraft) -> pb::GetBreachNoticeResponse {
    let BreachDraft { view, written, text, sha256 } = draft;
    let row = |(name, value): (&str, String)| pb::BreachNoticeRow { name: name.to_owned(), value };
    pb::GetBreachNoticeResponse {
        breach: Some(breach_pb(&view)),
        title: written.title.to_owned(),
        lead: written.lead.to_owned(),
        rows: written.rows.into_iter().map(row).collect(),
        foot: written.foot.iter().map(|paragraph| (*paragraph).to_owned()).collect(),
        text,
        sha256: sha256.to_vec(),
    }
}

fn progress_pb(entries_read: u64, entries: u64) -> pb::BreachProgress {
    pb::BreachProgress { entries_read: number(entries_read), entries: number(entries) }
}

fn assessed_pb(step: BreachStep) -> pb::AssessBreachResponse {
    use pb::assess_breach_response::Step;
    let step = match step {
        BreachStep::Progress { entries_read, entries } => {
            Some(Step::Progress(progress_pb(entries_read, entries)))
        }
        // A search that is recorded tells of nobody.
        BreachStep::Subjects(_) => None,
        BreachStep::Result(view) => Some(Step::Breach(Box::new(breach_pb(&view)))),
    };
    pb::AssessBreachResponse { step }
}

fn exported_pb(step: BreachStep) -> pb::ExportBreachSubjectsResponse {
    use pb::export_breach_subjects_response::Step;
    let step = match step {
        BreachStep::Progress { entries_read, entries } => Step::Progress(progress_pb(entries_read, entries)),
        BreachStep::Subjects(ids) => {
            let subject_ids = ids.iter().map(ToString::to_string).collect();
            Step::Subjects(pb::BreachSubjects { subject_ids })
        }
        BreachStep::Result(view) => Step::Breach(Box::new(breach_pb(&view))),
    };
    pb::ExportBreachSubjectsResponse { step: Some(step) }
}

#[tonic::async_trait]
impl breach_service_server::BreachService for BreachService {
    async fn open_breach(
        &self,
        request: Request<pb::OpenBreachRequest>,
    ) -> Result<Response<pb::OpenBreachResponse>, Status> {
        let call = as_change(&self.vault, &request, &request.get_ref().request_id)?;
        let response = |view| pb::OpenBreachResponse { breach: Some(breach_pb(&view)) };
        answer(self.open(call, request.into_inner()), response).await
    }

    async fn amend_breach(
        &self,
        request: Request<pb::AmendBreachRequest>,
    ) -> Result<Response<pb::AmendBreachResponse>, Status> {
        let call = as_change(&self.vault, &request, &request.get_ref().request_id)?;
        let response = |view| pb::AmendBreachResponse { breach: Some(breach_pb(&view)) };
        answer(self.amend(call, request.into_inner()), response).await
    }

    type AssessBreachStream = Answers<pb::AssessBreachResponse>;

    async fn assess_breach(
        &self,
        request: Request<pb::AssessBreachRequest>,
    ) -> Result<Response<Self::AssessBreachStream>, Status> {
        let call = as_change(&self.vault, &request, &request.get_ref().request_id)?;
        let begun = async { self.assess(call, request.into_inner()).await.map_err(|e| status(&e)) };
        Ok(Response::new(answers(within_limit(begun).await?, assessed_pb)))
    }

    type ExportBreachSubjectsStream = Answers<pb::ExportBreachSubjectsResponse>;

    async fn export_breach_subjects(
        &self,
        request: Request<pb::ExportBreachSubjectsRequest>,
    ) -> Result<Response<Self::ExportBreachSubjectsStream>, Status> {
        let call = as_question(&self.vault, &request)?;
        let begun = async { self.subjects(call, request.into_inner()).await.map_err(|e| status(&e)) };
        Ok(Response::new(answers(within_limit(begun).await?, exported_pb)))
    }

    async fn get_breach_notice(
        &self,
        request: Request<pb::GetBreachNoticeRequest>,
    ) -> Result<Response<pb::GetBreachNoticeResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        answer(self.notice(call, request.into_inner()), |notice| notice).await
    }

    async fn report_breach(
        &self,
        request: Request<pb::ReportBreachRequest>,
    ) -> Result<Response<pb::ReportBreachResponse>, Status> {
        let call = as_change(&self.vault, &request, &request.get_ref().request_id)?;
        let response = |view| pb::ReportBreachResponse { breach: Some(breach_pb(&view)) };
        answer(self.report(call, request.into_inner()), response).await
    }

    async fn close_breach(
        &self,
        request: Request<pb::CloseBreachRequest>,
    ) -> Result<Response<pb::CloseBreachResponse>, Status> {
        let call = as_change(&self.vault, &request, &request.get_ref().request_id)?;
        let response = |view| pb::CloseBreachResponse { breach: Some(breach_pb(&view)) };
        answer(self.close(call, request.into_inner()), response).await
    }

    async fn get_breach(
        &self,
        request: Request<pb::GetBreachRequest>,
    ) -> Result<Response<pb::GetBreachResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        let response = |view| pb::GetBreachResponse { breach: Some(breach_pb(&view)) };
        answer(self.get(call, request.into_inner()), response).await
    }

    async fn list_breaches(
        &self,
        request: Request<pb::ListBreachesRequest>,
    ) -> Result<Response<pb::ListBreachesResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        answer(self.list(call, request.into_inner()), |page| page).await
    }
}
