//! The calls of staff and auditors, each with success.

use sandyq::{grpc::pb, vault::access::Call};

use super::driver::Driver;
use crate::common::{
    recipients::{Pair, proof},
    served::request_id,
};

/// Who may use the vault.
pub async fn drive_staff(driver: &mut Driver) {
    let request = pb::CreatePlatformRequest {
        request_id: request_id(),
        name: "second".into(),
        legal_name: "ТОО «Екінші»".into(),
        bin: "211140009394".into(),
    };
    driver.succeed("admin", Call::CreatePlatform, request).await;
    let listed: pb::ListPlatformsResponse =
        driver.answer("admin", Call::ListPlatforms, pb::ListPlatformsRequest::default()).await;
    assert_eq!(listed.platforms.len(), 3);
    let enrol = pb::EnrolCallerRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        name: "extra".into(),
        spiffe_id: "spiffe://lerna.example.kz/extra".into(),
        roles: vec![pb::Role::Service.into()],
        ..Default::default()
    };
    let enrolled: pb::EnrolCallerResponse = driver.answer("admin", Call::EnrolCaller, enrol).await;
    let Some(pb::enrol_caller_response::Outcome::Applied(extra)) = enrolled.outcome else {
        panic!("{enrolled:?}")
    };
    let caller_id = extra.caller_id;
    let update = pb::UpdateCallerRequest {
        request_id: request_id(),
        caller_id: caller_id.clone(),
        name: "other".into(),
        roles: extra.roles,
        key_pins: Vec::new(),
    };
    driver.succeed("admin", Call::UpdateCaller, update).await;
    let request = pb::DisableCallerRequest { request_id: request_id(), caller_id: caller_id.clone() };
    driver.succeed("admin", Call::DisableCaller, request).await;
    let request = pb::EnableCallerRequest { request_id: request_id(), caller_id: caller_id.clone() };
    driver.succeed("admin", Call::EnableCaller, request).await;
    driver.succeed("admin", Call::ListCallers, pb::ListCallersRequest::default()).await;
    let budget = pb::SetBudgetRequest {
        request_id: request_id(),
        caller_id,
        kind: pb::BudgetKind::Enumeration.into(),
        limit: 10,
        window_seconds: 60,
    };
    driver.succeed("admin", Call::SetBudget, budget).await;
    let list = pb::ListBudgetsRequest { platform: "lerna".into(), ..Default::default() };
    driver.succeed("admin", Call::ListBudgets, list).await;
    let list = pb::ListProposalsRequest { platform: "lerna".into(), ..Default::default() };
    driver.succeed("admin", Call::ListProposals, list).await;

    let request = pb::EnrolPersonRequest { request_id: request_id(), handle: "k-17".into() };
    let enrolled: pb::EnrolPersonResponse = driver.answer("admin", Call::EnrolPerson, request).await;
    let Some(pb::enrol_person_response::Outcome::Applied(person)) = enrolled.outcome else {
        panic!("{enrolled:?}")
    };
    let person_id = person.person_id;
    let role = pb::Role::Auditor.into();
    let request = pb::GrantRoleRequest {
        request_id: request_id(),
        person_id: person_id.clone(),
        role,
        platform: "lerna".into(),
    };
    driver.succeed("admin", Call::GrantRole, request).await;
    let request = pb::RevokeRoleRequest {
        request_id: request_id(),
        person_id: person_id.clone(),
        role,
        platform: "lerna".into(),
    };
    driver.succeed("admin", Call::RevokeRole, request).await;
    let request = pb::EnrolStaffKeyRequest {
        request_id: request_id(),
        person_id: person_id.clone(),
        key_sha256: vec![7; 32],
        serial: "12345678".into(),
        device: "a synthetic token".into(),
        attestation_chain: Vec::new(),
    };
    driver.succeed("admin", Call::EnrolStaffKey, request).await;
    driver.succeed("admin", Call::ListStaffKeys, pb::ListStaffKeysRequest::default()).await;
    let request = pb::DisablePersonRequest { request_id: request_id(), person_id };
    driver.succeed("admin", Call::DisablePerson, request).await;
    driver.succeed("admin", Call::ListPersons, pb::ListPersonsRequest::default()).await;
}

/// Keys: rotated, paused, resumed, watched to the end, put out of use, kept, and a rotation that is called off.
pub async fn drive_keys(driver: &mut Driver) {
    use pb::rotate_key_response::Outcome;
    let rotate = |validate_only| pb::RotateKeyRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        kind: pb::KeyKind::Platform.into(),
        rate: 0,
        validate_only,
    };
    driver.succeed("admin", Call::RotateKey, rotate(true)).await;
    let rekey = pb::RekeyPlatformRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        rate: 0,
        validate_only: true,
    };
    driver.succeed("admin", Call::RekeyPlatform, rekey).await;
    let begun: pb::RotateKeyResponse = driver.answer("admin", Call::RotateKey, rotate(false)).await;
    let Some(Outcome::Operation(begun)) = begun.outcome else { panic!("{begun:?}") };
    let operation_id = begun.operation_id;
    let pause = pb::PauseOperationRequest { request_id: request_id(), operation_id: operation_id.clone() };
    driver.succeed("admin", Call::PauseOperation, pause).await;
    let resume = pb::ResumeOperationRequest {
        request_id: request_id(),
        operation_id: operation_id.clone(),
        rate: Some(0),
    };
    driver.succeed("admin", Call::ResumeOperation, resume).await;
    let watched: pb::WatchOperationResponse =
        driver.answer("admin", Call::WatchOperation, pb::WatchOperationRequest { operation_id }).await;
    let ended = watched.operation.unwrap();
    assert_eq!(ended.state(), pb::OperationState::Done);
    let report = pb::GetKeyReportRequest { operation_id: ended.operation_id };
    driver.succeed("admin", Call::GetKeyReport, report).await;

    let platform = || "lerna".to_owned();
    let list = pb::ListKeysRequest { platform: platform(), ..Default::default() };
    driver.succeed("admin", Call::ListKeys, list).await;
    let checked: pb::CheckKmsResponse =
        driver.answer("admin", Call::CheckKms, pb::CheckKmsRequest::default()).await;
    assert!(checked.problems.is_empty(), "{checked:?}");
    let usage = pb::ListKeyUsageRequest { platform: platform(), ..Default::default() };
    let used: pb::ListKeyUsageResponse = driver.answer("admin", Call::ListKeyUsage, usage).await;
    assert_eq!(used.usages[0].subject_keys, 0, "{used:?}");
    let disable =
        pb::DisableKeyRequest { request_id: request_id(), platform: platform(), version: 1, kind: 0 };
    driver.succeed("admin", Call::DisableKey, disable).await;
    let enable = pb::EnableKeyRequest { request_id: request_id(), platform: platform(), version: 1, kind: 0 };
    driver.succeed("admin", Call::EnableKey, enable).await;
    let destroy = pb::ScheduleKeyDestructionRequest {
        request_id: request_id(),
        platform: platform(),
        version: 1,
        destroy_time: Some(super::drive::seconds(7 * 86_400)),
        ..pb::ScheduleKeyDestructionRequest::default()
    };
    driver.succeed("admin", Call::ScheduleKeyDestruction, destroy).await;
    let keep = pb::CancelKeyDestructionRequest {
        request_id: request_id(),
        platform: platform(),
        version: 1,
        kind: 0,
    };
    driver.succeed("admin", Call::CancelKeyDestruction, keep).await;
    let horizon = pb::ScheduleHorizonRequest {
        request_id: request_id(),
        horizon_days: 90,
        rotate_days: 45,
        valid_days: 30,
    };
    driver.succeed("admin", Call::ScheduleHorizon, horizon).await;
    driver.succeed("admin", Call::GetHorizon, pb::GetHorizonRequest {}).await;
    let revoke = pb::RevokeHorizonRequest { request_id: request_id() };
    driver.succeed("admin", Call::RevokeHorizon, revoke).await;

    let begun: pb::RotateKeyResponse = driver.answer("admin", Call::RotateKey, rotate(false)).await;
    let Some(Outcome::Operation(begun)) = begun.outcome else { panic!("{begun:?}") };
    let cancel = pb::CancelOperationRequest { request_id: request_id(), operation_id: begun.operation_id };
    driver.succeed("admin", Call::CancelOperation, cancel).await;
}

/// Requests of people: one that is answered, one that is refused.
pub async fn drive_rights(driver: &mut Driver) {
    let platform = || "lerna".to_owned();
    let mut cases = Vec::new();
    for caller in ["backend", "admin"] {
        let open = pb::OpenCaseRequest {
            request_id: request_id(),
            platform: platform(),
            subject: Some(super::drive::by_reference(0)),
            kind: pb::RightKind::Access.into(),
            channel: pb::RightsChannel::Email.into(),
            requester: pb::CaseRequester::Subject.into(),
            receive_time: Some(super::drive::seconds(-60)),
            ..pb::OpenCaseRequest::default()
        };
        let opened: pb::OpenCaseResponse = driver.answer(caller, Call::OpenCase, open).await;
        cases.push(opened.case.unwrap().case_id);
    }
    let case_id = || cases[0].clone();
    let fulfil = |case_id: String| pb::FulfilCaseRequest {
        request_id: request_id(),
        platform: platform(),
        case_id,
        ..pb::FulfilCaseRequest::default()
    };
    driver.refuse("admin", Call::FulfilCase, fulfil(case_id()), "CASE_STATE_UNSUITABLE").await;
    let identity = pb::IdentityCheck {
        method: pb::IdentityMethod::Login.into(),
        evidence: "LOGIN-4711".into(),
        proof_time: None,
    };
    for step in [
        pb::advance_case_request::Step::Identity(identity.clone()),
        pb::advance_case_request::Step::Work(pb::WorkBegun {}),
    ] {
        let (request_id, step) = (request_id(), Some(step));
        let advance = pb::AdvanceCaseRequest { request_id, platform: platform(), case_id: case_id(), step };
        driver.succeed("admin", Call::AdvanceCase, advance).await;
    }
    let export = |purpose: &str| pb::ExportCaseRequest {
        platform: platform(),
        case_id: case_id(),
        purpose: purpose.into(),
    };
    driver.succeed("admin", Call::ExportCase, export("")).await;
    let told: pb::ExportCaseResponse =
        driver.answer("rights", Call::ExportCase, export("subject_requests")).await;
    assert!(told.fields.iter().any(|field| !field.value.is_empty()), "values are in the answer");
    let open = pb::OpenCaseRequest {
        request_id: request_id(),
        platform: platform(),
        subject: Some(super::drive::by_reference(0)),
        kind: pb::RightKind::Objection.into(),
        channel: pb::RightsChannel::Site.into(),
        requester: pb::CaseRequester::Subject.into(),
        receive_time: Some(super::drive::seconds(-60)),
        ..pb::OpenCaseRequest::default()
    };
    let opened: pb::OpenCaseResponse = driver.answer("admin", Call::OpenCase, open).await;
    let objection = opened.case.unwrap().case_id;
    for step in [
        pb::advance_case_request::Step::Identity(identity),
        pb::advance_case_request::Step::Work(pb::WorkBegun {}),
    ] {
        let (request_id, step, case_id) = (request_id(), Some(step), objection.clone());
        let advance = pb::AdvanceCaseRequest { request_id, platform: platform(), case_id, step };
        driver.succeed("admin", Call::AdvanceCase, advance).await;
    }
    driver.succeed("admin", Call::FulfilCase, fulfil(objection)).await;
    let answer = pb::AnswerCaseRequest {
        request_id: request_id(),
        platform: platform(),
        case_id: case_id(),
        channel: pb::RightsChannel::Email.into(),
        language: "kk".into(),
        ..pb::AnswerCaseRequest::default()
    };
    driver.succeed("admin", Call::AnswerCase, answer.clone()).await;
    let again = pb::AnswerCaseRequest { request_id: request_id(), ..answer };
    driver.refuse("admin", Call::AnswerCase, again, "CASE_ENDED").await;
    let refuse = pb::RefuseCaseRequest {
        request_id: request_id(),
        platform: platform(),
        case_id: cases[1].clone(),
        reasons: vec![pb::RefusalReason::IdentityNotProved.into()],
        channel: pb::RightsChannel::Email.into(),
        language: "ru".into(),
        ..pb::RefuseCaseRequest::default()
    };
    driver.succeed("admin", Call::RefuseCase, refuse).await;
    let get = pb::GetCaseRequest { platform: platform(), case_id: case_id() };
    driver.succeed("admin", Call::GetCase, get).await;
    let list = pb::ListCasesRequest {
        platform: platform(),
        filter: pb::CaseFilter::All.into(),
        ..pb::ListCasesRequest::default()
    };
    driver.succeed("admin", Call::ListCases, list).await;
}

/// A copy on paper from its making to its end, and the export that tells of it.
pub async fn drive_registers(driver: &mut Driver) {
    let platform = || "lerna".to_owned();
    let made = super::drive::seconds(-60);
    let register = pb::RegisterCopyRequest {
        request_id: request_id(),
        platform: platform(),
        kind: pb::CopyKind::Paper.into(),
        purpose: "payments".into(),
        fields: vec!["iin".into()],
        holder: "HR/12".into(),
        make_time: Some(made),
        destroy_time: Some(super::drive::seconds(3_600)),
        ..pb::RegisterCopyRequest::default()
    };
    let kept: pb::RegisterCopyResponse = driver.answer("admin", Call::RegisterCopy, register).await;
    let end = pb::EndCopyRequest {
        request_id: request_id(),
        platform: platform(),
        copy_id: kept.copy.unwrap().copy_id,
        outcome: pb::CopyOutcome::Destroyed.into(),
        end_time: Some(super::drive::seconds(0)),
        act: "ACT-4711".into(),
    };
    driver.succeed("admin", Call::EndCopy, end.clone()).await;
    let again = pb::EndCopyRequest { request_id: request_id(), ..end };
    driver.refuse("admin", Call::EndCopy, again, "COPY_ENDED").await;
    let all = pb::ListCopiesRequest {
        platform: platform(),
        filter: pb::CopyFilter::All.into(),
        ..pb::ListCopiesRequest::default()
    };
    driver.succeed("admin", Call::ListCopies, all).await;
    let export = pb::ExportRegistersRequest { platform: platform(), ..pb::ExportRegistersRequest::default() };
    let end: pb::ExportRegistersResponse = driver.answer("auditor", Call::ExportRegisters, export).await;
    let Some(pb::export_registers_response::Step::Lines(lines)) = end.step else { panic!("{end:?}") };
    assert!(lines.lines.iter().any(|line| line.contains("statement")), "the last line is signed");
}

/// A breach from its finding to the end: whom it reaches is told by ids.
pub async fn drive_breaches(driver: &mut Driver) {
    let platform = || "lerna".to_owned();
    let facts = pb::BreachFacts {
        kind: pb::BreachKind::Access.into(),
        certainty: pb::BreachCertainty::Confirmed.into(),
        cause: pb::BreachCause::Insider.into(),
        everyone: true,
        reference: "INC-4711".into(),
        ..pb::BreachFacts::default()
    };
    let open = pb::OpenBreachRequest {
        request_id: request_id(),
        platform: platform(),
        find_time: Some(super::drive::seconds(-60)),
        facts: Some(facts.clone()),
    };
    let opened: pb::OpenBreachResponse = driver.answer("admin", Call::OpenBreach, open).await;
    let breach_id = || opened.breach.clone().unwrap().breach_id;
    let export = || pb::ExportBreachSubjectsRequest { platform: platform(), breach_id: breach_id() };
    driver.refuse("admin", Call::ExportBreachSubjects, export(), "BREACH_NOT_ASSESSED").await;
    let facts = Some(pb::BreachFacts { measures: vec![pb::BreachMeasure::DataBlocked.into()], ..facts });
    let amend = pb::AmendBreachRequest {
        request_id: request_id(),
        platform: platform(),
        breach_id: breach_id(),
        facts,
    };
    driver.succeed("admin", Call::AmendBreach, amend).await;
    let assess =
        pb::AssessBreachRequest { request_id: request_id(), platform: platform(), breach_id: breach_id() };
    let end: pb::AssessBreachResponse = driver.answer("admin", Call::AssessBreach, assess).await;
    let Some(pb::assess_breach_response::Step::Breach(assessed)) = end.step else { panic!("{end:?}") };
    assert!(assessed.scope.unwrap().subjects > 0, "people are in the answer");
    driver.succeed("admin", Call::ExportBreachSubjects, export()).await;
    for to in [pb::BreachAddressee::Authority, pb::BreachAddressee::Subjects] {
        let notice = pb::GetBreachNoticeRequest {
            platform: platform(),
            breach_id: breach_id(),
            to: to.into(),
            language: "en".into(),
        };
        driver.succeed("admin", Call::GetBreachNotice, notice).await;
        let report = pb::ReportBreachRequest {
            request_id: request_id(),
            platform: platform(),
            breach_id: breach_id(),
            to: to.into(),
            tell_time: Some(super::drive::seconds(0)),
            channel: pb::RightsChannel::Email.into(),
            language: "en".into(),
            ..pb::ReportBreachRequest::default()
        };
        driver.succeed("admin", Call::ReportBreach, report).await;
    }
    let close = pb::CloseBreachRequest {
        request_id: request_id(),
        platform: platform(),
        breach_id: breach_id(),
        outcome: pb::BreachOutcome::Settled.into(),
        ..pb::CloseBreachRequest::default()
    };
    driver.succeed("admin", Call::CloseBreach, close.clone()).await;
    let again = pb::CloseBreachRequest { request_id: request_id(), ..close };
    driver.refuse("admin", Call::CloseBreach, again, "BREACH_CLOSED").await;
    let get = pb::GetBreachRequest { platform: platform(), breach_id: breach_id() };
    driver.succeed("admin", Call::GetBreach, get).await;
    let list = pb::ListBreachesRequest {
        platform: platform(),
        filter: pb::BreachFilter::All.into(),
        ..pb::ListBreachesRequest::default()
    };
    driver.succeed("admin", Call::ListBreaches, list).await;
}

/// A backup, watched to its end, listed and looked at.
pub async fn drive_backups(driver: &mut Driver) {
    driver.succeed("admin", Call::GetSites, pb::GetSitesRequest {}).await;
    driver.succeed("admin", Call::GetResidency, pb::GetResidencyRequest {}).await;
    driver.succeed("admin", Call::GetResidencyReport, pb::GetResidencyReportRequest {}).await;
    let start = pb::StartBackupRequest { request_id: request_id() };
    let begun: pb::StartBackupResponse = driver.answer("admin", Call::StartBackup, start).await;
    let operation_id = begun.operation.unwrap().operation_id;
    let backup_id = operation_id.replacen("opr_", "bkp_", 1);
    loop {
        let look = pb::GetOperationRequest { operation_id: operation_id.clone() };
        let seen: pb::GetOperationResponse = driver.answer("admin", Call::GetOperation, look).await;
        if seen.operation.unwrap().state() == pb::OperationState::Done {
            break;
        }
        tokio::task::yield_now().await;
    }
    driver.succeed("admin", Call::ListBackups, pb::ListBackupsRequest::default()).await;
    driver.succeed("admin", Call::GetBackup, pb::GetBackupRequest { backup_id }).await;
}

/// A bank that gets values sealed, until it is ended.
pub async fn drive_recipients(driver: &mut Driver, tokens: Vec<String>) {
    let bank = pb::RegisterRecipientRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        name: "bank".into(),
        kind: pb::RecipientKind::Bank.into(),
        country: "KZ".into(),
        legal_name: "АО «Банк»".into(),
        contract_reference: "D-17/2026".into(),
        purposes: vec!["payments".into()],
        valid_until_time: Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 }),
        public_key: Pair::of(1).public(),
        ..Default::default()
    };
    driver.succeed("admin", Call::RegisterRecipient, bank).await;
    let key = pb::UpdateRecipientKeyRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        recipient: "bank".into(),
        public_key: Pair::of(2).public(),
    };
    let offered: pb::UpdateRecipientKeyResponse = driver.answer("admin", Call::UpdateRecipientKey, key).await;
    let Some(pb::update_recipient_key_response::Outcome::Applied(bank)) = offered.outcome else {
        panic!("{offered:?}")
    };
    let answer = Pair::of(2).answer(&bank.offered_key.unwrap()).unwrap();
    driver.succeed("admin", Call::ProveRecipientKey, proof("lerna", "bank", answer)).await;
    let release = pb::BatchDetokenizeRequest {
        request_id: request_id(),
        tokens,
        purpose: "payments".into(),
        view: pb::View::Full.into(),
        recipient: "bank".into(),
        ..Default::default()
    };
    let sealed: pb::BatchDetokenizeResponse = driver.answer("payments", Call::BatchDetokenize, release).await;
    assert!(sealed.sealed.is_some());
    let end = pb::EndRecipientRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        recipient: "bank".into(),
    };
    driver.succeed("admin", Call::EndRecipient, end).await;
    driver.succeed("admin", Call::ListRecipients, pb::ListRecipientsRequest::default()).await;
}

/// Questions about policies, operations and the log.
pub async fn ask_about(driver: &mut Driver, token: String) {
    let platform = || "lerna".to_owned();
    driver.succeed("admin", Call::GetPolicy, pb::GetPolicyRequest { platform: platform(), version: 0 }).await;
    let list = pb::ListPoliciesRequest { platform: platform(), ..Default::default() };
    driver.succeed("admin", Call::ListPolicies, list).await;
    let explain = pb::ExplainDecisionRequest {
        platform: platform(),
        target: Some(pb::explain_decision_request::Target::Token(token)),
        purpose: "payments".into(),
        caller: "payments".into(),
        view: pb::View::Full.into(),
        ..Default::default()
    };
    driver.succeed("admin", Call::ExplainDecision, explain).await;
    let list = pb::ListOperationsRequest { platform: platform(), ..Default::default() };
    let found: pb::ListOperationsResponse = driver.answer("admin", Call::ListOperations, list).await;
    let operation_id = found.operations[0].operation_id.clone();
    driver.succeed("admin", Call::GetOperation, pb::GetOperationRequest { operation_id }).await;
    let plan = pb::PlanRetentionRequest { platform: platform(), ..Default::default() };
    let plan: pb::PlanRetentionResponse = driver.answer("admin", Call::PlanRetention, plan).await;
    assert!(!plan.rows.is_empty());
    let sweep = pb::SweepRetentionRequest { request_id: request_id(), platform: platform(), rate: 0 };
    driver.succeed("admin", Call::SweepRetention, sweep).await;

    let head: pb::GetHeadResponse =
        driver.answer("auditor", Call::GetHead, pb::GetHeadRequest { platform: platform() }).await;
    let list = pb::ListEntriesRequest { platform: platform(), ..Default::default() };
    driver.succeed("auditor", Call::ListEntries, list).await;
    let entry = Some(pb::get_inclusion_proof_request::Entry::Position(1));
    let proof = pb::GetInclusionProofRequest { platform: platform(), entry, size: head.size };
    driver.succeed("auditor", Call::GetInclusionProof, proof).await;
    let proof = pb::GetConsistencyProofRequest { platform: platform(), from_size: 1, to_size: head.size };
    driver.succeed("auditor", Call::GetConsistencyProof, proof).await;
    driver
        .succeed("auditor", Call::ExportLog, pb::ExportLogRequest { platform: platform(), entries_from: 0 })
        .await;
    let end: pb::ReconcileLogResponse =
        driver.answer("auditor", Call::ReconcileLog, pb::ReconcileLogRequest { platform: platform() }).await;
    let Some(pb::reconcile_log_response::Step::Result(result)) = end.step else { panic!("{end:?}") };
    assert!(result.findings.is_empty(), "{result:?}");
}

/// Disables a caller, for whom every call is refused from then on.
pub async fn disable(driver: &mut Driver, name: &str) {
    let list = pb::ListCallersRequest { platform: "lerna".into(), ..Default::default() };
    let listed: pb::ListCallersResponse = driver.answer("admin", Call::ListCallers, list).await;
    let caller_id = listed.callers.into_iter().find(|caller| caller.name == name).unwrap().caller_id;
    let request = pb::DisableCallerRequest { request_id: request_id(), caller_id };
    driver.succeed("admin", Call::DisableCaller, request).await;
}
