//! Policies over the contract: checked with lines, applied with rising versions, listed; and decisions explained.

use sandyq::{
    domain::ids::PlatformId,
    grpc::pb::{self, apply_policy_response::Outcome, policy_service_client::PolicyServiceClient},
};
use tonic::{Status, transport::Channel};

use crate::common::{
    backend::{Backend, on_both},
    served::{Served, Stored, reason, request_id},
    vault::POLICY,
};

type Policies = PolicyServiceClient<Channel>;

async fn apply(staff: &mut Policies, text: &str, validate_only: bool) -> Result<Outcome, Status> {
    let request = pb::ApplyPolicyRequest { request_id: request_id(), text: text.into(), validate_only };
    Ok(staff.apply_policy(request).await?.into_inner().outcome.unwrap())
}

fn problems(outcome: Outcome) -> Vec<pb::PolicyProblem> {
    match outcome {
        Outcome::Problems(found) => found.problems,
        other @ (Outcome::Applied(_) | Outcome::Proposal(_)) => panic!("not refused: {other:?}"),
    }
}

fn applied(outcome: Outcome) -> pb::PolicyVersion {
    match outcome {
        Outcome::Applied(version) => version,
        other @ (Outcome::Problems(_) | Outcome::Proposal(_)) => panic!("not applied: {other:?}"),
    }
}

/// The policy as another version, in force from a date.
fn version(number: u32, effective: &str) -> String {
    let text = POLICY.replacen("number = 1\n", &format!("number = {number}\n"), 1);
    let text = text.replacen("effective = \"2024-01-03\"", &format!("effective = \"{effective}\""), 1);
    assert_ne!(text, POLICY);
    text
}

on_both!(versions_rise_and_one_governs);
async fn versions_rise_and_one_governs(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let mut staff = served.policies("admin").await;
    let same = problems(apply(&mut staff, POLICY, false).await.unwrap());
    assert!(same[0].rule.contains("version 1 is applied already"), "{same:?}");

    // A check of the next version changes nothing; what is applied then is what was checked.
    let second = version(2, "2024-02-01");
    let checked = applied(apply(&mut staff, &second, true).await.unwrap());
    assert_eq!((checked.version, checked.governs), (2, true));
    let request =
        pb::ApplyPolicyRequest { request_id: request_id(), text: second.clone(), validate_only: false };
    let done = staff.apply_policy(request.clone()).await.unwrap().into_inner();
    assert_eq!(staff.apply_policy(request).await.unwrap().into_inner(), done, "a retry");
    assert_eq!(applied(done.outcome.unwrap()).sha256, checked.sha256);

    // One of a later date waits for its day.
    let third = applied(apply(&mut staff, &version(7, "2099-01-01"), false).await.unwrap());
    assert!(!third.governs && third.govern_time.unwrap().seconds > 4_000_000_000);
    let mut listed = Vec::new();
    let mut page_token = String::new();
    loop {
        let request = pb::ListPoliciesRequest { platform: "lerna".into(), page_size: 2, page_token };
        let page = staff.list_policies(request).await.unwrap().into_inner();
        listed.extend(page.policies.into_iter().map(|p| (p.version, p.governs)));
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!(listed, [(7, false), (2, true), (1, false)]);
    let get = |platform: &str, version| pb::GetPolicyRequest { platform: platform.into(), version };
    let in_force = staff.get_policy(get("lerna", 0)).await.unwrap().into_inner();
    assert_eq!(in_force.text, second, "byte for byte");
    let first = staff.get_policy(get("lerna", 1)).await.unwrap().into_inner();
    assert_eq!((first.text.as_str(), first.policy.unwrap().governs), (POLICY, false));
    for missing in [get("lerna", 3), get("lerna", u32::MAX), get("vault", 0)] {
        assert_eq!(reason(&staff.get_policy(missing).await.unwrap_err()), "POLICY_NOT_FOUND");
    }
    // A platform's own services read it too, and change nothing.
    let mut own = served.policies("backend").await;
    assert_eq!(own.get_policy(get("", 0)).await.unwrap().into_inner().text, second);
    let refused = apply(&mut own, &version(9, "2024-03-01"), false).await.unwrap_err();
    assert_eq!(reason(&refused), "CALLER_NOT_ALLOWED");
    served.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn problems_are_told_with_their_lines() {
    let served = Served::start().await;
    let mut staff = served.policies("admin").await;
    let broken = version(2, "2024-02-01").replacen("name = \"iin\"", "name = \"IIN\"", 1);
    let line = broken.lines().position(|line| line.contains("name = \"IIN\"")).unwrap() + 1;
    let request = pb::ValidatePolicyRequest { text: broken.clone() };
    let checked = staff.validate_policy(request).await.unwrap().into_inner();
    assert_eq!((checked.version, checked.platform.as_str()), (2, "lerna"));
    assert!(checked.problems.iter().any(|p| p.line == u32::try_from(line).unwrap()), "{checked:?}");
    assert_eq!(problems(apply(&mut staff, &broken, false).await.unwrap()), checked.problems);

    let good = pb::ValidatePolicyRequest { text: POLICY.into() };
    assert!(staff.validate_policy(good).await.unwrap().into_inner().problems.is_empty());
    let nothing = pb::ValidatePolicyRequest { text: "not = [toml".into() };
    let checked = staff.validate_policy(nothing).await.unwrap().into_inner();
    assert_eq!((checked.version, checked.problems.is_empty()), (0, false));

    // A platform that is not there, and one of another operator.
    let elsewhere = version(2, "2024-02-01").replacen("name = \"lerna\"", "name = \"other\"", 1);
    let found = problems(apply(&mut staff, &elsewhere, false).await.unwrap());
    assert_eq!(found[0].place, "platform.name", "{found:?}");
    let stranger = version(2, "2024-02-01").replacen("210140019844", "211140009394", 1);
    let found = problems(apply(&mut staff, &stranger, false).await.unwrap());
    assert_eq!(found[0].place, "platform.bin", "{found:?}");
    served.running.stop().await.unwrap();
}

fn question(token: &str, purpose: &str, caller: &str) -> pb::ExplainDecisionRequest {
    pb::ExplainDecisionRequest {
        platform: "lerna".into(),
        target: Some(pb::explain_decision_request::Target::Token(token.into())),
        purpose: purpose.into(),
        caller: caller.into(),
        view: pb::View::Full.into(),
        ..pb::ExplainDecisionRequest::default()
    }
}

fn of_field(person: &Stored, field: &str) -> pb::ExplainDecisionRequest {
    use pb::{explain_decision_request::Target, subject_name::Subject};
    let subject = pb::SubjectName { subject: Some(Subject::SubjectId(person.subject.clone())) };
    let named = pb::SubjectField { subject: Some(subject), field: field.into() };
    pb::ExplainDecisionRequest {
        target: Some(Target::SubjectField(named)),
        ..question("", "payments", "payments")
    }
}

on_both!(a_decision_is_explained_and_releases_nothing);
async fn a_decision_is_explained_and_releases_nothing(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let person = served.store(1).await;
    let mut staff = served.policies("admin").await;
    let mut explain = async |request| staff.explain_decision(request).await.map(tonic::Response::into_inner);

    let permit = explain(question(person.token("iin"), "payments", "payments")).await.unwrap();
    assert_eq!((permit.decision(), permit.reason.as_str()), (pb::Decision::Permit, ""));
    assert_eq!(
        (permit.consent_id.as_str(), permit.policy_version),
        (person.consents["payments"].as_str(), 1)
    );
    assert!(permit.clauses.iter().any(|c| c.kind == "field" && c.clause == "9.2"), "{permit:?}");
    assert_eq!(explain(of_field(&person, "iin")).await.unwrap(), permit, "as if with a good token");

    // The true reason, also where the caller would be told less; as whom it would be asked; and as the one who asks.
    for (purpose, caller, expected) in [
        ("payments", "support", "CALLER_NOT_ALLOWED"),
        ("request_comms", "support", "FIELD_NOT_ALLOWED"),
        ("resale", "payments", "PURPOSE_NOT_DECLARED"),
        ("payments", "", "CALLER_NOT_ALLOWED"),
    ] {
        let denied = explain(question(person.token("iin"), purpose, caller)).await.unwrap();
        assert_eq!((denied.decision(), denied.reason.as_str()), (pb::Decision::Deny, expected));
        assert!(!denied.clauses.is_empty());
    }
    let recipient = pb::ExplainDecisionRequest {
        recipient: "bank".into(),
        ..question(person.token("iin"), "payments", "payments")
    };
    assert_eq!(explain(recipient).await.unwrap().reason, "RECIPIENT_UNKNOWN");
    assert_eq!(explain(of_field(&person, "document_number")).await.unwrap().reason, "TOKEN_NOT_FOUND");
    let nobody = question(person.token("iin"), "payments", "nobody");
    assert_eq!(reason(&explain(nobody).await.unwrap_err()), "CALLER_NOT_FOUND");
    let withdrawn = pb::WithdrawConsentRequest {
        request_id: request_id(),
        consent_id: person.consents["payments"].clone(),
        ..pb::WithdrawConsentRequest::default()
    };
    served.consents("backend").await.withdraw_consent(withdrawn).await.unwrap();
    let denied = explain(question(person.token("iin"), "payments", "payments")).await.unwrap();
    assert_eq!(denied.reason, "CONSENT_WITHDRAWN");
    assert!(denied.clauses.iter().any(|c| c.kind == "law" && c.clause.contains("8(7)")), "{denied:?}");

    // A service may not ask; and each question is an entry that permits nothing.
    let mut own = served.policies("payments").await;
    let refused = own.explain_decision(question(person.token("iin"), "payments", "")).await.unwrap_err();
    assert_eq!(reason(&refused), "CALLER_NOT_ALLOWED");
    let dir = served.running.installation.dir().to_owned();
    served.running.stop().await.unwrap();
    let store = backend.store(&dir).await;
    let entries = store.entries(PlatformId::new(1), 0, 1_000).await.unwrap();
    let entries: Vec<_> =
        entries.iter().map(|row| sandyq::audit::entry::Entry::decode(&row.entry).unwrap()).collect();
    let asked: Vec<_> = entries.iter().filter(|e| e.call == "PolicyService/ExplainDecision").collect();
    assert_eq!(asked.iter().filter(|e| e.verdict == "done").count(), 9);
    assert!(entries.iter().all(|e| e.verdict != "permit"));
}
