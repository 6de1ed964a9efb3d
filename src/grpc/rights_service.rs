//! `sandyq.v1.RightsService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    authn::{Call, as_change, as_question},
    codes::same,
    convert::{Checker, consent, page_size, source, time, view as view_pb},
    limits::answer,
    pb::{self, advance_case_request::Step, rights_service_server},
    registers::{channel, channel_pb, distinct, optional_hash, place, place_token, reference, told},
    subject_service::{accuracy_pb, disclosures_pb, name, state_pb as subject_state_pb},
};
use crate::{
    domain::{
        ids::CaseId,
        rights::{Case, CaseRequester, CaseState, Ending, IdentityMethod, RefusalReason, RightKind},
        time::Timestamp,
    },
    vault::{
        Vault,
        consent::MAX_CONSENTS_OF_SUBJECT,
        error::VaultError,
        rights::{
            CaseAct, CaseEnd, CaseExport, CaseStep, CaseView, ExportedField, ExportedPurpose, Listed,
            MAX_PAGE, NewCase,
        },
    },
};

same!(
    kind,
    kind_pb,
    RightKind { Access, Correction, Restriction, Portability, Erasure, Anonymisation, Objection, Withdrawal }
);
same!(requester, requester_pb, CaseRequester { Subject, Representative });
same!(
    method,
    method_pb,
    IdentityMethod { Login, OneTimeCode, ElectronicSignature, DocumentSeen, StateService }
);
same!(
    reason,
    reason_pb,
    RefusalReason {
        IdentityNotProved,
        NoData,
        NotConfirmed,
        LawBars,
        ObligationUnfulfilled,
        NoAutomatedDecision,
    }
);

const fn state_pb(state: CaseState) -> pb::CaseState {
    match state {
        CaseState::Received => pb::CaseState::Received,
        CaseState::IdentityChecked => pb::CaseState::IdentityChecked,
        CaseState::InWork => pb::CaseState::InWork,
        CaseState::Answered => pb::CaseState::Answered,
        CaseState::Refused => pb::CaseState::Refused,
    }
}

/// Serves requests of people.
pub struct RightsService {
    vault: Arc<Vault>,
}

impl RightsService {
    /// A service over an open vault.
    #[must_use]
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }

    async fn open(&self, call: Call, m: pb::OpenCaseRequest) -> Result<CaseView, VaultError> {
        let new = new_case(&m, self.vault.clock().now())?;
        self.vault.open_case(&call.caller, call.asker, &m.platform, new).await
    }

    async fn advance(&self, call: Call, m: pb::AdvanceCaseRequest) -> Result<CaseView, VaultError> {
        let id = case_id(&m.case_id)?;
        let step = match m.step {
            None => return Err(VaultError::invalid("step", "is required")),
            Some(Step::Work(pb::WorkBegun {})) => CaseStep::Work,
            Some(Step::Identity(identity)) => {
                let mut check = Checker::new("identity.");
                let method = check.code("method", method(identity.method));
                let evidence = check.required_reference("evidence", &identity.evidence);
                let proof_at = identity
                    .proof_time
                    .and_then(|proof| check.past_time("proof_time", Some(proof), self.vault.clock().now()));
                let (method, evidence) = check.finish(method.zip(evidence))?;
                CaseStep::Identity { method, evidence, proof_at }
            }
        };
        self.vault.advance_case(&call.caller, call.asker, &m.platform, id, step).await
    }

    async fn fulfil(
        &self,
        call: Call,
        m: pb::FulfilCaseRequest,
    ) -> Result<pb::FulfilCaseResponse, VaultError> {
        let id = case_id(&m.case_id)?;
        if m.consent_ids.len() > MAX_CONSENTS_OF_SUBJECT {
            return Err(VaultError::invalid("consent_ids", "at most 500"));
        }
        let mut check = Checker::new("");
        let review_at = m.review_time.and_then(|at| check.time("review_time", at));
        let each = m.consent_ids.iter().enumerate();
        let consents = each.filter_map(|(i, id)| check.parse(&format!("consent_ids[{i}]"), id)).collect();
        let act = check.finish(Some(CaseAct { review_at, consents }))?;
        let done = self.vault.fulfil_case(&call.caller, call.asker, &m.platform, id, act).await?;
        Ok(pb::FulfilCaseResponse {
            case: Some(case_pb(&done.view)),
            former_releases: disclosures_pb(&self.vault, call.caller.platform, &m.platform, &done.former),
        })
    }

    async fn export(
        &self,
        call: Call,
        m: pb::ExportCaseRequest,
    ) -> Result<pb::ExportCaseResponse, VaultError> {
        let id = case_id(&m.case_id)?;
        let mut check = Checker::new("");
        let purpose = check.parse_optional("purpose", &m.purpose);
        check.finish(Some(()))?;
        let export = self.vault.export_case(&call.caller, call.asker, &m.platform, id, purpose).await?;
        let uses = disclosures_pb(&self.vault, call.caller.platform, &m.platform, &export.uses);
        Ok(export_pb(export, uses))
    }

    async fn reply(&self, call: Call, m: pb::AnswerCaseRequest) -> Result<CaseView, VaultError> {
        let id = case_id(&m.case_id)?;
        let mut check = Checker::new("");
        let told = told(&mut check, m.channel, &m.language);
        let ground = check.reference("ground", &m.ground);
        let enclosure_sha256 = optional_hash(&mut check, "enclosure_sha256", &m.enclosure_sha256);
        let (channel, language) = check.finish(told)?;
        let end = CaseEnd { reasons: Vec::new(), ground, channel, language, enclosure_sha256 };
        self.vault.end_case(&call.caller, call.asker, &m.platform, id, end).await
    }

    async fn refuse(&self, call: Call, m: pb::RefuseCaseRequest) -> Result<CaseView, VaultError> {
        let id = case_id(&m.case_id)?;
        let mut check = Checker::new("");
        let told = told(&mut check, m.channel, &m.language);
        let ground = check.reference("ground", &m.ground);
        let reasons = reasons(&mut check, &m.reasons);
        let (channel, language) = check.finish(told)?;
        let end = CaseEnd { reasons, ground, channel, language, enclosure_sha256: None };
        self.vault.end_case(&call.caller, call.asker, &m.platform, id, end).await
    }

    async fn get(&self, call: Call, m: pb::GetCaseRequest) -> Result<CaseView, VaultError> {
        self.vault.case(&call.caller, call.asker, &m.platform, case_id(&m.case_id)?).await
    }

    async fn list(&self, call: Call, m: pb::ListCasesRequest) -> Result<pb::ListCasesResponse, VaultError> {
        let which = match pb::CaseFilter::try_from(m.filter) {
            Ok(pb::CaseFilter::Unspecified | pb::CaseFilter::Open) => Listed::Open,
            Ok(pb::CaseFilter::Overdue) => Listed::Overdue,
            Ok(pb::CaseFilter::All) => Listed::All,
            Err(_) => return Err(VaultError::invalid("filter", "is no filter of cases")),
        };
        let (size, after) = (page_size(m.page_size, MAX_PAGE)?, place(&m.page_token)?);
        let (found, next) =
            self.vault.cases(&call.caller, call.asker, &m.platform, which, after, size).await?;
        Ok(pb::ListCasesResponse {
            cases: found.iter().map(case_pb).collect(),
            next_page_token: place_token(next),
        })
    }
}

fn new_case(m: &pb::OpenCaseRequest, now: Timestamp) -> Result<NewCase, VaultError> {
    let subject = match (&m.subject, m.nobody_known) {
        (None, true) => None,
        (Some(_), true) => {
            return Err(VaultError::invalid(
                "nobody_known",
                "stands in the place of a subject, not beside it",
            ));
        }
        (subject, false) => Some(name(subject.clone())?),
    };
    let mut check = Checker::new("");
    let kind = check.code("kind", kind(m.kind));
    let channel = check.code("channel", channel(m.channel));
    let site = check.parse_optional("site", &m.site);
    let requester = check.code("requester", requester(m.requester));
    let representation = check.reference("representation", &m.representation);
    let acts_for = requester == Some(CaseRequester::Representative);
    if requester.is_some() && acts_for == m.representation.is_empty() {
        check.refuse("representation", "goes with a representative, who shows it (rule R29)");
    }
    let reference = check.reference("reference", &m.reference);
    let received_at = check.past_time("receive_time", m.receive_time, now);
    let all = kind.zip(channel).zip(requester).zip(received_at);
    let (((kind, channel), requester), received_at) = check.finish(all)?;
    Ok(NewCase { subject, kind, channel, site, requester, representation, reference, received_at })
}

fn reasons(check: &mut Checker, numbers: &[i32]) -> Vec<RefusalReason> {
    if numbers.is_empty() {
        check.refuse("reasons", "a refusal has at least one");
    }
    distinct(check, "reasons", numbers, RefusalReason::ALL.len(), reason)
}

fn case_id(text: &str) -> Result<CaseId, VaultError> {
    let mut check = Checker::new("");
    let id = check.parse("case_id", text);
    check.finish(id)
}

fn case_pb(view: &CaseView) -> pb::Case {
    let Case { id, subject, kind, .. } = view.case;
    let case = &view.case;
    let identity = case.identity.as_ref();
    pb::Case {
        case_id: id.to_string(),
        subject_id: subject.map(|id| id.to_string()).unwrap_or_default(),
        kind: kind_pb(kind).into(),
        channel: channel_pb(case.channel).into(),
        site: case.site.as_ref().map(ToString::to_string).unwrap_or_default(),
        requester: requester_pb(case.requester).into(),
        representation: reference(case.representation.as_ref()),
        reference: reference(case.reference.as_ref()),
        receive_time: Some(time(case.received_at)),
        count_time: Some(time(case.counts_from)),
        working_days: case.working_days,
        clause: case.clause.clone(),
        due_time: Some(time(case.due_at)),
        calendar_sha256: case.calendar_sha256.to_vec(),
        state: state_pb(case.state).into(),
        overdue: view.overdue,
        identity: identity.map(|identity| pb::IdentityCheck {
            method: method_pb(identity.method).into(),
            evidence: identity.evidence.to_string(),
            proof_time: (case.counts_from != case.received_at).then(|| time(case.counts_from)),
        }),
        identify_time: identity.map(|identity| time(identity.at)),
        begin_time: case.begun_at.map(time),
        ending: case.ending.as_ref().map(|ending| ending_pb(ending, view.notice.as_deref())),
        open_time: Some(time(case.opened_at)),
        done_time: case.done_at.map(time),
    }
}

fn export_pb(export: CaseExport, disclosures: Vec<pb::Disclosure>) -> pb::ExportCaseResponse {
    let view = CaseView { overdue: export.case.is_overdue(export.at), notice: None, case: export.case };
    pb::ExportCaseResponse {
        case: Some(case_pb(&view)),
        export_time: Some(time(export.at)),
        state: subject_state_pb(export.state).into(),
        create_time: Some(time(export.created_at)),
        operator: export.operator,
        operator_bin: export.operator_bin,
        policy_version: export.policy_version,
        fields: export.fields.into_iter().map(field_pb).collect(),
        consents: export.consents.iter().map(consent).collect(),
        disclosures,
        more_disclosures: export.more_uses,
    }
}

fn field_pb(held: ExportedField) -> pb::ExportedField {
    let (value, view, withheld) = match held.value {
        Ok((view, value)) => (value.expose().to_owned(), view_pb(view), String::new()),
        Err(denial) => (String::new(), pb::View::Unspecified, denial.as_str().to_owned()),
    };
    pb::ExportedField {
        field: held.field.to_string(),
        field_type: held.field_type.as_str().to_owned(),
        category: held.category.as_str().to_owned(),
        record_version: held.version,
        source: source(held.source).into(),
        accuracy: accuracy_pb(held.accuracy).into(),
        hold_time: Some(time(held.since)),
        keep_time: held.until.map(time),
        purposes: held.purposes.into_iter().map(purpose_pb).collect(),
        value,
        view: view.into(),
        withheld,
    }
}

fn purpose_pb(purpose: ExportedPurpose) -> pb::ExportedPurpose {
    pb::ExportedPurpose {
        purpose: purpose.purpose.to_string(),
        clause: purpose.clause,
        law: purpose.law.unwrap_or_default(),
        basis_clause: purpose.basis_clause,
        end_time: purpose.until.map(time),
        ended: purpose.ended,
        recipient_kinds: purpose.recipients,
    }
}

fn ending_pb(ending: &Ending, notice: Option<&str>) -> pb::CaseEnding {
    pb::CaseEnding {
        end_time: Some(time(ending.at)),
        reasons: ending.reasons.iter().map(|reason| reason_pb(*reason).into()).collect(),
        ground: reference(ending.reference.as_ref()),
        channel: channel_pb(ending.channel).into(),
        language: ending.language.as_str().to_owned(),
        notice_sha256: ending.notice_sha256.to_vec(),
        enclosure_sha256: ending.enclosure_sha256.map(|hash| hash.to_vec()).unwrap_or_default(),
        notice: notice.unwrap_or_default().to_owned(),
    }
}

#[tonic::async_trait]
impl rights_service_server::RightsService for RightsService {
    async fn open_case(
        &self,
        request: Request<pb::OpenCaseRequest>,
    ) -> Result<Response<pb::OpenCaseResponse>, Status> {
        let call = as_change(&self.vault, &request, &request.get_ref().request_id)?;
        let response = |view| pb::OpenCaseResponse { case: Some(case_pb(&view)) };
        answer(self.open(call, request.into_inner()), response).await
    }

    async fn advance_case(
        &self,
        request: Request<pb::AdvanceCaseRequest>,
    ) -> Result<Response<pb::AdvanceCaseResponse>, Status> {
        let call = as_change(&self.vault, &request, &request.get_ref().request_id)?;
        let response = |view| pb::AdvanceCaseResponse { case: Some(case_pb(&view)) };
        answer(self.advance(call, request.into_inner()), response).await
    }

    async fn fulfil_case(
        &self,
        request: Request<pb::FulfilCaseRequest>,
    ) -> Result<Response<pb::FulfilCaseResponse>, Status> {
        let call = as_change(&self.vault, &request, &request.get_ref().request_id)?;
        answer(self.fulfil(call, request.into_inner()), |done| done).await
    }

    async fn export_case(
        &self,
        request: Request<pb::ExportCaseRequest>,
    ) -> Result<Response<pb::ExportCaseResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        answer(self.export(call, request.into_inner()), |export| export).await
    }

    async fn answer_case(
        &self,
        request: Request<pb::AnswerCaseRequest>,
    ) -> Result<Response<pb::AnswerCaseResponse>, Status> {
        let call = as_change(&self.vault, &request, &request.get_ref().request_id)?;
        let response = |view| pb::AnswerCaseResponse { case: Some(case_pb(&view)) };
        answer(self.reply(call, request.into_inner()), response).await
    }

    async fn refuse_case(
        &self,
        request: Request<pb::RefuseCaseRequest>,
    ) -> Result<Response<pb::RefuseCaseResponse>, Status> {
        let call = as_change(&self.vault, &request, &request.get_ref().request_id)?;
        let response = |view| pb::RefuseCaseResponse { case: Some(case_pb(&view)) };
        answer(self.refuse(call, request.into_inner()), response).await
    }

    async fn get_case(
        &self,
        request: Request<pb::GetCaseRequest>,
    ) -> Result<Response<pb::GetCaseResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        let response = |view| pb::GetCaseResponse { case: Some(case_pb(&view)) };
        answer(self.get(call, request.into_inner()), response).await
    }

    async fn list_cases(
        &self,
        request: Request<pb::ListCasesRequest>,
    ) -> Result<Response<pb::ListCasesResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        answer(self.list(call, request.into_inner()), |page| page).await
    }
}
