//! Two people: what one proposes is done only when another approves it, and every way around that is refused. Each
//! bypass has a test of its name.

use sandyq::grpc::pb::{self, policy_service_client::PolicyServiceClient};
use tonic::Status;

use crate::common::{
    backend::{Backend, on_both},
    house::{
        House, applied, approval, budget, by_reference, erase, grant, new_caller, person_named, proposed,
        rejection, revoke, state,
    },
    people::bin,
    served::{reason, request_id},
    vault::POLICY,
};

fn refusal<T: std::fmt::Debug>(answer: Result<T, Status>) -> String {
    reason(&answer.unwrap_err())
}

on_both!(each_dangerous_call_is_done_only_when_another_person_approves);
async fn each_dangerous_call_is_done_only_when_another_person_approves(backend: Backend) {
    let house = House::new(&backend).await;
    let mut admin = house.served.platforms("admin").await;
    let platforms = || async {
        let mut admin = house.served.platforms("admin").await;
        let page = admin.list_platforms(pb::ListPlatformsRequest::default()).await.unwrap().into_inner();
        assert_eq!(page.governance_mode, "two-person");
        page.platforms
            .into_iter()
            .map(|platform| (platform.name, platform.policy_version))
            .collect::<Vec<_>>()
    };
    let before = platforms().await;
    let request = pb::CreatePlatformRequest {
        request_id: request_id(),
        name: "third".into(),
        legal_name: "ТОО «Үшінші»".into(),
        bin: bin(2),
    };
    let proposal = proposed!(admin, create_platform(request) in create_platform_response);
    assert_eq!(platforms().await, before);
    house.approved(&proposal).await;
    assert!(platforms().await.contains(&("third".into(), 0)));

    let text = POLICY.replacen("number = 1\n", "number = 2\n", 1);
    let apply = |validate_only| pb::ApplyPolicyRequest {
        request_id: request_id(),
        text: text.clone(),
        validate_only,
    };
    let mut policies = PolicyServiceClient::new(house.served.channel("admin").await);
    applied!(policies, apply_policy(apply(true)) in apply_policy_response);
    let proposal = proposed!(policies, apply_policy(apply(false)) in apply_policy_response);
    assert!(platforms().await.contains(&("lerna".into(), 1)));
    house.approved(&proposal).await;
    assert!(platforms().await.contains(&("lerna".into(), 2)));
    let answer = policies.apply_policy(apply(false)).await.unwrap().into_inner().outcome.unwrap();
    assert!(
        matches!(answer, pb::apply_policy_response::Outcome::Problems(_)),
        "refused texts are not proposed"
    );

    let request = pb::EnrolPersonRequest { request_id: request_id(), handle: "third".into() };
    let proposal = proposed!(admin, enrol_person(request) in enrol_person_response);
    let known = admin.list_persons(pb::ListPersonsRequest::default()).await.unwrap().into_inner().persons;
    assert!(known.iter().all(|person| person.handle != "third"));
    house.approved(&proposal).await;
    let person = person_named(&mut admin, "third").await;
    let request = grant(&person.person_id, pb::Role::Auditor, "lerna");
    let proposal = proposed!(admin, grant_role(request.clone()) in grant_role_response);
    assert!(person_named(&mut admin, "third").await.roles.is_empty());
    house.approved(&proposal).await;
    assert_eq!(person_named(&mut admin, "third").await.roles.len(), 1);
    // What changes nothing needs nobody else, and what takes away is one person's.
    let again = pb::GrantRoleRequest { request_id: request_id(), ..request };
    applied!(admin, grant_role(again) in grant_role_response);
    let ended = admin.revoke_role(revoke(&person.person_id, pb::Role::Auditor, "lerna")).await.unwrap();
    assert!(ended.into_inner().person.unwrap().roles.is_empty());

    let proposal = house.propose("extra").await;
    assert!(!house.is_enrolled("extra").await);
    house.approved(&proposal).await;
    let extra = house.callers("lerna").await.into_iter().find(|caller| caller.name == "extra").unwrap();
    let request = pb::UpdateCallerRequest {
        request_id: request_id(),
        caller_id: extra.caller_id.clone(),
        name: "renamed".into(),
        roles: extra.roles.clone(),
        key_pins: Vec::new(),
    };
    let proposal = proposed!(admin, update_caller(request) in update_caller_response);
    assert!(house.is_enrolled("extra").await);
    house.approved(&proposal).await;
    assert!(house.is_enrolled("renamed").await);
    let request = pb::DisableCallerRequest { request_id: request_id(), caller_id: extra.caller_id.clone() };
    admin.disable_caller(request).await.unwrap();
    let request = pb::EnableCallerRequest { request_id: request_id(), caller_id: extra.caller_id.clone() };
    let proposal = proposed!(admin, enable_caller(request) in enable_caller_response);
    let stands = |callers: Vec<pb::Caller>| callers.iter().find(|c| c.name == "renamed").unwrap().state();
    assert_eq!(stands(house.callers("lerna").await), pb::CallerState::Disabled);
    house.approved(&proposal).await;
    assert_eq!(stands(house.callers("lerna").await), pb::CallerState::Enabled);

    let request = pb::RegisterRecipientRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        name: "bank".into(),
        kind: pb::RecipientKind::Bank.into(),
        country: "KZ".into(),
        legal_name: "АО «Банк»".into(),
        contract_reference: "D-17/2026".into(),
        purposes: vec!["payments".into()],
        valid_until_time: Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 }),
        ..pb::RegisterRecipientRequest::default()
    };
    let proposal = proposed!(admin, register_recipient(request) in register_recipient_response);
    let recipients = || async {
        let request = pb::ListRecipientsRequest { platform: "lerna".into(), ..Default::default() };
        let mut admin = house.served.platforms("admin").await;
        admin.list_recipients(request).await.unwrap().into_inner().recipients
    };
    assert!(recipients().await.is_empty());
    house.approved(&proposal).await;
    let request = pb::UpdateRecipientKeyRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        recipient: "bank".into(),
        public_key: vec![9; 32],
    };
    let proposal = proposed!(admin, update_recipient_key(request) in update_recipient_key_response);
    assert!(recipients().await[0].offered_key.is_none());
    house.approved(&proposal).await;
    assert_eq!(recipients().await[0].offered_key.as_ref().unwrap().public_key, [9; 32]);
    house.stop().await;
}

on_both!(erasures_beyond_the_budget_and_their_end_need_two);
async fn erasures_beyond_the_budget_and_their_end_need_two(backend: Backend) {
    let house = House::new(&backend).await;
    let (first, second) = (house.served.store(1).await, house.served.store(2).await);
    let reads = |token: &str| {
        let token = token.to_owned();
        let served = &house.served;
        async move { served.read("payments", "payments", &token).await }
    };
    let payments = house.callers("lerna").await.into_iter().find(|caller| caller.name == "payments").unwrap();
    let mut admin = house.served.platforms("admin").await;
    let proposal = proposed!(admin, set_budget(budget(&payments.caller_id, 1)) in set_budget_response);
    let request = pb::ListBudgetsRequest { platform: "lerna".into(), ..pb::ListBudgetsRequest::default() };
    let limits = admin.list_budgets(request.clone()).await.unwrap().into_inner().budgets;
    assert!(limits.iter().all(|budget| budget.limit >= 100));
    house.approved(&proposal).await;
    let limits = admin.list_budgets(request).await.unwrap().into_inner().budgets;
    assert!(limits.iter().any(|budget| budget.limit == 1));

    let mut subjects = house.subjects("admin").await;
    let erased = applied!(subjects, erase_subject(erase(1)) in erase_subject_response);
    assert!(erased.destroy_time.is_some());
    assert_eq!(reads(first.token("iin")).await, Err("SUBJECT_ERASED".into()));
    let cancel = pb::CancelErasureRequest {
        request_id: request_id(),
        subject: Some(by_reference(1)),
        platform: "lerna".into(),
        ..pb::CancelErasureRequest::default()
    };
    let proposal = proposed!(subjects, cancel_erasure(cancel) in cancel_erasure_response);
    assert_eq!(reads(first.token("iin")).await, Err("SUBJECT_ERASED".into()));
    house.approved(&proposal).await;
    assert!(reads(first.token("iin")).await.is_ok());

    for number in 3..102 {
        house.served.store(number).await;
        subjects.erase_subject(erase(number)).await.unwrap();
    }
    let proposal = proposed!(subjects, erase_subject(erase(2)) in erase_subject_response);
    assert!(reads(second.token("iin")).await.is_ok());
    house.approved(&proposal).await;
    assert_eq!(reads(second.token("iin")).await, Err("SUBJECT_ERASED".into()));
    house.stop().await;
}

on_both!(nothing_is_done_before_somebody_approves);
async fn nothing_is_done_before_somebody_approves(backend: Backend) {
    let house = House::new(&backend).await;
    let mut admin = house.served.platforms("admin").await;
    let request = new_caller("extra");
    let proposal = proposed!(admin, enrol_caller(request.clone()) in enrol_caller_response);
    assert_eq!(proposed!(admin, enrol_caller(request) in enrol_caller_response), proposal, "a retry");
    assert_eq!(
        (proposal.kind.as_str(), proposal.platform.as_str()),
        ("PlatformService/EnrolCaller", "lerna")
    );
    assert!(!house.is_enrolled("extra").await);
    let house = House { served: house.served.restart().await, staff: house.staff };
    assert!(!house.is_enrolled("extra").await);
    // The plan as others see it.
    let request = pb::GetProposalRequest { proposal_id: proposal.proposal_id.clone() };
    let shown = house.proposals("second").await.get_proposal(request).await.unwrap().into_inner();
    let json: serde_json::Value = serde_json::from_str(&shown.request_json).unwrap();
    let plan = serde_json::json!({
        "platform": "lerna", "name": "extra", "spiffe_id": "spiffe://lerna.example.kz/extra",
        "roles": ["ROLE_SERVICE"],
    });
    assert_eq!((json, shown.withheld_fields.len()), (plan, 0));
    assert_eq!(shown.proposal.as_ref().unwrap().proposer_handle, "admin");
    // What would be refused now is not proposed.
    let mut admin = house.served.platforms("admin").await;
    let taken = pb::EnrolCallerRequest { name: "payments".into(), ..new_caller("fresh") };
    assert_eq!(refusal(admin.enrol_caller(taken).await), "NAME_TAKEN");
    let mut payments = house.served.platforms("payments").await;
    assert_eq!(refusal(payments.enrol_caller(new_caller("fresh")).await), "CALLER_NOT_ALLOWED");
    let request = pb::ListProposalsRequest::default();
    let listed = house.proposals("second").await.list_proposals(request).await.unwrap().into_inner();
    assert_eq!(listed.proposals.iter().map(|r| r.proposal.clone().unwrap()).collect::<Vec<_>>(), [proposal]);
    house.stop().await;
}

on_both!(both_names_stand_in_the_log_in_one_commit);
async fn both_names_stand_in_the_log_in_one_commit(backend: Backend) {
    let house = House::new(&backend).await;
    let proposal = house.propose("extra").await;
    let record = house.approve("second", &proposal).await.unwrap();
    let log = house.log("lerna").await;
    let about: Vec<_> = log
        .iter()
        .filter(|entry| entry.object_kind == "proposal" || !entry.proposal_id.is_empty())
        .map(|entry| (entry.call.as_str(), entry.object_kind.as_str(), entry.person_id.as_str()))
        .collect();
    let (by, other) = (record.proposer_person_id.as_str(), record.end_person_id.as_str());
    assert_ne!(by, other);
    let expected = [
        ("PlatformService/EnrolCaller", "proposal", by),
        ("ProposalService/ApproveProposal", "proposal", other),
        ("PlatformService/EnrolCaller", "caller", by),
    ];
    assert_eq!(about, expected);
    let (approved, done) = (&log[log.len() - 3], &log[log.len() - 2]);
    assert_eq!((approved.entry_time, &approved.request_id), (done.entry_time, &done.request_id));
    assert_eq!(
        (done.proposal_id.as_str(), approved.proposal_id.as_str()),
        (proposal.proposal_id.as_str(), "")
    );
    house.stop().await;
}

on_both!(nobody_approves_their_own_proposal);
async fn nobody_approves_their_own_proposal(backend: Backend) {
    let house = House::new(&backend).await;
    let proposal = house.propose("extra").await;
    assert_eq!(house.approve("admin", &proposal).await, Err("OWN_PROPOSAL".into()));
    assert!(!house.is_enrolled("extra").await);
    house.stop().await;
}

on_both!(a_second_certificate_of_the_same_person_is_no_second_person);
async fn a_second_certificate_of_the_same_person_is_no_second_person(backend: Backend) {
    let house = House::new(&backend).await;
    let proposal = house.propose("extra").await;
    assert_eq!(house.approve("admin2", &proposal).await, Err("OWN_PROPOSAL".into()));
    assert!(!house.is_enrolled("extra").await);
    house.stop().await;
}

on_both!(a_person_of_another_platform_approves_nothing_here);
/// Also the nested role: an approver may approve, but not what the proposed call asks for on its platform.
async fn a_person_of_another_platform_approves_nothing_here(backend: Backend) {
    let house = House::new(&backend).await;
    let proposal = house.propose("extra").await;
    assert_eq!(house.approve("elsewhere", &proposal).await, Err("CALLER_NOT_ALLOWED".into()));
    assert_eq!(house.approve("backend", &proposal).await, Err("CALLER_NOT_ALLOWED".into()));
    assert_eq!(house.approve("auditor", &proposal).await, Err("CALLER_NOT_ALLOWED".into()));
    assert!(!house.is_enrolled("extra").await);
    house.stop().await;
}

on_both!(a_role_that_does_not_cover_the_call_approves_nothing);
async fn a_role_that_does_not_cover_the_call_approves_nothing(backend: Backend) {
    let house = House::new(&backend).await;
    let mut admin = house.served.platforms("admin").await;
    let local = person_named(&mut admin, "local").await.person_id;
    // Staff is enrolled by security officers alone, and `local` is one on `lerna` only.
    let request = pb::EnrolPersonRequest { request_id: request_id(), handle: "third".into() };
    let proposal = proposed!(admin, enrol_person(request) in enrol_person_response);
    assert_eq!(house.approve("local", &proposal).await, Err("CALLER_NOT_ALLOWED".into()));
    // On `lerna` the role of an administrator is what enrolling asks for; two others do not stand in for it.
    let proposal = house.propose("extra").await;
    admin.revoke_role(revoke(&local, pb::Role::PlatformAdmin, "lerna")).await.unwrap();
    assert_eq!(house.approve("local", &proposal).await, Err("CALLER_NOT_ALLOWED".into()));
    // Nor do they see it.
    let request = pb::GetProposalRequest { proposal_id: proposal.proposal_id.clone() };
    assert_eq!(refusal(house.proposals("local").await.get_proposal(request).await), "CALLER_NOT_ALLOWED");
    let listed = house.proposals("local").await.list_proposals(pb::ListProposalsRequest::default()).await;
    assert!(listed.unwrap().into_inner().proposals.is_empty());
    assert_eq!(
        refusal(house.proposals("local").await.reject_proposal(rejection(&proposal)).await),
        "CALLER_NOT_ALLOWED"
    );
    assert_eq!(house.state(&proposal).await, pb::ProposalState::Open);
    house.stop().await;
}

on_both!(an_approver_who_lost_the_role_since_approves_nothing);
async fn an_approver_who_lost_the_role_since_approves_nothing(backend: Backend) {
    let house = House::new(&backend).await;
    let proposal = house.propose("extra").await;
    let mut admin = house.served.platforms("admin").await;
    let second = person_named(&mut admin, "second").await.person_id;
    admin.revoke_role(revoke(&second, pb::Role::PlatformAdmin, "")).await.unwrap();
    assert_eq!(house.approve("second", &proposal).await, Err("CALLER_NOT_ALLOWED".into()));
    let request = pb::DisablePersonRequest { request_id: request_id(), person_id: second };
    admin.disable_person(request).await.unwrap();
    assert_eq!(house.approve("second", &proposal).await, Err("CALLER_DISABLED".into()));
    assert!(!house.is_enrolled("extra").await);
    house.approve("local", &proposal).await.unwrap();
    assert!(house.is_enrolled("extra").await);
    house.stop().await;
}

on_both!(a_proposer_who_lost_the_role_since_has_proposed_nothing);
async fn a_proposer_who_lost_the_role_since_has_proposed_nothing(backend: Backend) {
    let house = House::new(&backend).await;
    let mut admin = house.served.platforms("admin").await;
    let mut local = house.served.platforms("local").await;
    let person = person_named(&mut admin, "local").await.person_id;
    let certificate = house.callers("vault").await.into_iter().find(|caller| caller.name == "local").unwrap();
    let proposal = proposed!(local, enrol_caller(new_caller("extra")) in enrol_caller_response);
    // Its certificate, its role, its person: each alone is enough.
    let request =
        pb::DisableCallerRequest { request_id: request_id(), caller_id: certificate.caller_id.clone() };
    admin.disable_caller(request).await.unwrap();
    assert_eq!(house.approve("second", &proposal).await, Err("PROPOSER_NOT_ALLOWED".into()));
    let request = pb::EnableCallerRequest { request_id: request_id(), caller_id: certificate.caller_id };
    let enabling = proposed!(admin, enable_caller(request) in enable_caller_response);
    house.approved(&enabling).await;
    admin.revoke_role(revoke(&person, pb::Role::PlatformAdmin, "lerna")).await.unwrap();
    assert_eq!(house.approve("second", &proposal).await, Err("PROPOSER_NOT_ALLOWED".into()));
    let request = pb::DisablePersonRequest { request_id: request_id(), person_id: person };
    admin.disable_person(request).await.unwrap();
    assert_eq!(house.approve("second", &proposal).await, Err("PROPOSER_NOT_ALLOWED".into()));
    assert!(!house.is_enrolled("extra").await);
    house.stop().await;
}

on_both!(another_plan_than_the_one_that_was_seen_is_not_approved);
async fn another_plan_than_the_one_that_was_seen_is_not_approved(backend: Backend) {
    let house = House::new(&backend).await;
    let (first, second) = (house.propose("extra").await, house.propose("other").await);
    assert_ne!(first.plan_sha256, second.plan_sha256);
    let request = pb::ApproveProposalRequest { plan_sha256: second.plan_sha256, ..approval(&first) };
    assert_eq!(house.send("second", request).await, Err("PLAN_DIFFERS".into()));
    let request = pb::ApproveProposalRequest { plan_sha256: Vec::new(), ..approval(&first) };
    assert_eq!(house.send("second", request).await, Err("INVALID_FIELDS".into()));
    assert!(!house.is_enrolled("extra").await);
    house.approved(&first).await;
    house.stop().await;
}

on_both!(an_ended_proposal_is_not_approved_again);
async fn an_ended_proposal_is_not_approved_again(backend: Backend) {
    let house = House::new(&backend).await;
    let proposal = house.propose("extra").await;
    let request = approval(&proposal);
    let record = house.send("second", request.clone()).await.unwrap();
    assert_eq!(house.send("second", request).await, Ok(record), "the same request is answered as before");
    let extra = house.callers("lerna").await.into_iter().find(|caller| caller.name == "extra").unwrap();
    let mut admin = house.served.platforms("admin").await;
    let off = pb::DisableCallerRequest { request_id: request_id(), caller_id: extra.caller_id };
    admin.disable_caller(off).await.unwrap();
    for who in ["second", "local"] {
        assert_eq!(house.approve(who, &proposal).await, Err("PROPOSAL_ENDED".into()));
    }
    let rejected = house.proposals("second").await.reject_proposal(rejection(&proposal)).await;
    assert_eq!(refusal(rejected), "PROPOSAL_ENDED");

    // Rejected by somebody, and withdrawn by its proposer: neither is approved afterwards.
    for who in ["second", "admin"] {
        let proposal = house.propose("rejected").await;
        let answer = house.proposals(who).await.reject_proposal(rejection(&proposal)).await.unwrap();
        assert_eq!(state(&answer.into_inner().proposal.unwrap()), pb::ProposalState::Rejected);
        assert_eq!(house.approve("second", &proposal).await, Err("PROPOSAL_ENDED".into()));
    }
    assert!(!house.is_enrolled("rejected").await);
    house.stop().await;
}

on_both!(an_approver_whom_the_proposer_added_afterwards_is_too_new);
async fn an_approver_whom_the_proposer_added_afterwards_is_too_new(backend: Backend) {
    let mut house = House::new(&backend).await;
    let mut admin = house.served.platforms("admin").await;
    let elsewhere = person_named(&mut admin, "elsewhere").await.person_id;
    let proposal = house.propose("extra").await;
    // As if two others had helped, or the mode had been another meanwhile: a role, a certificate, a person.
    house = house.mode("two-person", "single-officer").await;
    let mut admin = house.served.platforms("admin").await;
    let role = grant(&elsewhere, pb::Role::PlatformAdmin, "lerna");
    applied!(admin, grant_role(role) in grant_role_response);
    let second = person_named(&mut admin, "second").await.person_id;
    house.enrol_certificate("fresh", &second).await;
    let request = pb::EnrolPersonRequest { request_id: request_id(), handle: "third".into() };
    let third = applied!(admin, enrol_person(request) in enrol_person_response).person_id;
    applied!(admin, grant_role(grant(&third, pb::Role::PlatformAdmin, "")) in grant_role_response);
    house.enrol_certificate("third", &third).await;
    house = house.mode("single-officer", "two-person").await;
    for who in ["elsewhere", "fresh", "third"] {
        assert_eq!(house.approve(who, &proposal).await, Err("APPROVER_TOO_NEW".into()), "{who}");
    }
    assert!(!house.is_enrolled("extra").await);
    // For what is proposed from now on they are old enough.
    let proposal = house.propose("extra").await;
    house.approve("third", &proposal).await.unwrap();
    house.stop().await;
}

on_both!(a_machine_without_a_person_proposes_nothing);
async fn a_machine_without_a_person_proposes_nothing(backend: Backend) {
    let house = House::new(&backend).await;
    house.served.store(1).await;
    let service = house.callers("lerna").await.into_iter().find(|caller| caller.name == "backend").unwrap();
    let mut admin = house.served.platforms("admin").await;
    let proposal = proposed!(admin, set_budget(budget(&service.caller_id, 0)) in set_budget_response);
    house.approved(&proposal).await;
    let request = pb::EraseSubjectRequest { platform: String::new(), ..erase(1) };
    let refused = house.subjects("backend").await.erase_subject(request).await;
    assert_eq!(refusal(refused), "PERSON_REQUIRED");
    assert_eq!(
        refusal(house.served.platforms("auditor").await.enrol_caller(new_caller("x")).await),
        "CALLER_NOT_ALLOWED"
    );
    let listed = house.proposals("admin").await.list_proposals(pb::ListProposalsRequest::default()).await;
    assert_eq!(listed.unwrap().into_inner().proposals.len(), 1);
    house.stop().await;
}

on_both!(a_plan_that_became_impossible_fails_and_changes_nothing);
async fn a_plan_that_became_impossible_fails_and_changes_nothing(backend: Backend) {
    let house = House::new(&backend).await;
    let twin =
        pb::EnrolCallerRequest { spiffe_id: "spiffe://lerna.example.kz/twin".into(), ..new_caller("extra") };
    let mut admin = house.served.platforms("admin").await;
    let first = house.propose("extra").await;
    let second = proposed!(admin, enrol_caller(twin) in enrol_caller_response);
    house.approved(&first).await;
    let request = approval(&second);
    let record = house.send("second", request.clone()).await.unwrap();
    assert_eq!((state(&record), record.failure_reason.as_str()), (pb::ProposalState::Failed, "NAME_TAKEN"));
    assert_eq!(house.send("second", request).await, Ok(record));
    assert_eq!(house.approve("second", &second).await, Err("PROPOSAL_ENDED".into()));
    let named = house.callers("lerna").await.into_iter().filter(|caller| caller.name == "extra").count();
    assert_eq!(named, 1);
    // Done by somebody else meanwhile: nobody should believe that this approval did it.
    let person = person_named(&mut admin, "local").await.person_id;
    let role = || grant(&person, pb::Role::Auditor, "lerna");
    let (one, two) = (
        proposed!(admin, grant_role(role()) in grant_role_response),
        proposed!(admin, grant_role(role()) in grant_role_response),
    );
    house.approved(&one).await;
    let record = house.approve("second", &two).await.unwrap();
    assert_eq!((state(&record), record.failure_reason.as_str()), (pb::ProposalState::Failed, "NO_EFFECT"));
    let log = house.log("vault").await;
    assert!(
        log.iter().all(|entry| entry.proposal_id != two.proposal_id),
        "an act that was not done has no entry"
    );
    house.stop().await;
}

on_both!(of_two_approvals_at_once_one_wins);
async fn of_two_approvals_at_once_one_wins(backend: Backend) {
    let house = House::new(&backend).await;
    for round in 0..10 {
        let name = format!("extra{round}");
        let proposal = house.propose(&name).await;
        let (one, other) =
            tokio::join!(house.approve("second", &proposal), house.approve("local", &proposal));
        let answers = [one.map(|record| state(&record)), other.map(|record| state(&record))];
        let done = answers.iter().filter(|answer| **answer == Ok(pb::ProposalState::Approved)).count();
        let late = answers.iter().filter(|answer| **answer == Err("PROPOSAL_ENDED".into())).count();
        assert_eq!((done, late), (1, 1), "{answers:?}");
        assert_eq!(house.callers("lerna").await.iter().filter(|caller| caller.name == name).count(), 1);
    }
    house.stop().await;
}

on_both!(a_proposal_that_was_edited_in_the_database_is_damaged);
async fn a_proposal_that_was_edited_in_the_database_is_damaged(backend: Backend) {
    let house = House::new(&backend).await;
    for (i, edit) in [
        // The plan: another call, another hash, another request, another key.
        "call = 'PlatformService/EnrolPerson'",
        "plan_sha256 = zeroblob(32)",
        "sealed_request = zeroblob(60)",
        "wrapped_key = zeroblob(66)",
        "sealed_request = (SELECT p.sealed_request FROM proposals p WHERE p.proposal_id <> proposals.proposal_id \
         AND p.state = 'open' ORDER BY p.created_at LIMIT 1)",
        // Who, until when, how it stands.
        "person_id = x'00112233445566778899aabbccddeeff'",
        "caller_id = x'00112233445566778899aabbccddeeff'",
        "created_at = created_at + 3600000000",
        "expires_at = expires_at + 1",
        "state = 'rejected', ended_by = person_id, ended_at = 1, wrapped_key = NULL, sealed_request = NULL",
        "mac = zeroblob(32)",
    ]
    .into_iter()
    .enumerate()
    {
        let (name, bystander) = (format!("extra{i}"), format!("bystander{i}"));
        let other = house.propose(&bystander).await;
        let proposal = house.propose(&name).await;
        let sql = format!(
            "UPDATE proposals SET {edit} WHERE created_at = (SELECT max(created_at) FROM proposals)"
        );
        assert_eq!(house.served.sql(&sql).await, 1, "{edit}");
        let answer = house.proposals("second").await.approve_proposal(approval(&proposal)).await;
        let status = answer.unwrap_err();
        assert_eq!((status.code(), reason(&status)), (tonic::Code::DataLoss, "DATA_DAMAGED".into()), "{edit}");
        assert!(!house.is_enrolled(&name).await, "{edit}");
        let request = pb::GetProposalRequest { proposal_id: proposal.proposal_id.clone() };
        let looked = house.proposals("second").await.get_proposal(request).await;
        assert_eq!(refusal(looked), "DATA_DAMAGED", "{edit}");
        // The neighbour's is not touched.
        house.approved(&other).await;
        house.served.sql("DELETE FROM proposals WHERE state IN ('open', 'rejected')").await;
    }
    house.stop().await;
}

on_both!(an_approval_that_was_undone_in_the_database_is_not_believed);
async fn an_approval_that_was_undone_in_the_database_is_not_believed(backend: Backend) {
    let house = House::new(&backend).await;
    let proposal = house.propose("extra").await;
    let rejected = house.proposals("second").await.reject_proposal(rejection(&proposal)).await;
    rejected.unwrap();
    let open = "UPDATE proposals SET state = 'open', ended_by = NULL, ended_at = NULL, wrapped_key = zeroblob(66), \
                sealed_request = zeroblob(60)";
    assert_eq!(house.served.sql(open).await, 1);
    assert_eq!(house.approve("second", &proposal).await, Err("DATA_DAMAGED".into()));
    house.stop().await;
}
