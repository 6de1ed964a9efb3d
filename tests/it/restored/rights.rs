//! Requests of people through a restore: nobody who asked is passed by, and nobody who is anonymous is found again.

use sandyq::grpc::pb::{self, rights_service_client::RightsServiceClient};

use super::{Stopped, back_up, json, read, served, text, verify};
use crate::common::{
    backend::{Backend, on_both},
    house::{by_reference, erase},
    people::{grant, iin},
    served::{Served, reason, request_id},
    vault::POLICY,
};

async fn open(served: &Served, kind: pb::RightKind, number: u32) -> String {
    let request = pb::OpenCaseRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        subject: Some(by_reference(number)),
        kind: kind.into(),
        channel: pb::RightsChannel::Site.into(),
        requester: pb::CaseRequester::Subject.into(),
        receive_time: Some(prost_types::Timestamp { seconds: 1_795_752_000, nanos: 0 }),
        ..pb::OpenCaseRequest::default()
    };
    let mut admin = RightsServiceClient::new(served.channel("admin").await);
    admin.open_case(request).await.unwrap().into_inner().case.unwrap().case_id
}

async fn to_work(served: &Served, case_id: &str) {
    use pb::advance_case_request::Step;
    let identity = pb::IdentityCheck {
        method: pb::IdentityMethod::Login.into(),
        evidence: "LOGIN-17".into(),
        proof_time: None,
    };
    let mut admin = RightsServiceClient::new(served.channel("admin").await);
    for step in [Step::Identity(identity), Step::Work(pb::WorkBegun {})] {
        let (request_id, platform, step) = (request_id(), "lerna".into(), Some(step));
        let advance = pb::AdvanceCaseRequest { request_id, platform, case_id: case_id.into(), step };
        admin.advance_case(advance).await.unwrap();
    }
}

async fn state(served: &Served, case_id: &str) -> Result<pb::CaseState, String> {
    let get = pb::GetCaseRequest { platform: "lerna".into(), case_id: case_id.into() };
    let mut admin = RightsServiceClient::new(served.channel("admin").await);
    let case = admin.get_case(get).await.map_err(|status| reason(&status))?.into_inner().case.unwrap();
    Ok(case.state())
}

on_both!(nobody_who_asked_is_passed_by);
async fn nobody_who_asked_is_passed_by(backend: Backend) {
    let served = served(&backend).await;
    let (first, second) = (served.store(1).await, served.store(2).await);
    let kept = open(&served, pb::RightKind::Access, 1).await;
    let ahead = open(&served, pb::RightKind::Anonymisation, 2).await;
    let backup = back_up(&served);
    let newer = open(&served, pb::RightKind::Erasure, 1).await;
    to_work(&served, &ahead).await;
    let fulfil = pb::FulfilCaseRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        case_id: ahead.clone(),
        ..pb::FulfilCaseRequest::default()
    };
    RightsServiceClient::new(served.channel("admin").await).fulfil_case(fulfil).await.unwrap();

    let stopped = Stopped::of(served).await;
    let restored = stopped.restore(&backup, &[]);
    assert_eq!(restored.status.code(), Some(0), "{}", text(&restored.stderr));
    let report = json(&restored);
    let lerna = &report["platforms"][1];
    assert_eq!(lerna["lost"]["case"], 1, "{report}");
    assert_eq!(lerna["strict"]["case"], 1, "{report}");
    let served = stopped.start().await;
    assert_eq!(state(&served, &kept).await, Ok(pb::CaseState::Received));
    assert_eq!(state(&served, &ahead).await, Ok(pb::CaseState::Received), "somebody looks at it again");
    assert_eq!(state(&served, &newer).await, Err("CASE_NOT_FOUND".into()), "told as lost");
    // What was asked is lost, and may have been a demand: nobody uses or ends the data until somebody has looked.
    assert_eq!(read(&served, &first).await, Err("SUBJECT_RESTRICTED".into()));
    // The values are destroyed again, and the reference leads nowhere.
    assert_eq!(read(&served, &second).await, Err("TOKEN_NOT_FOUND".into()));
    let view = pb::GetSubjectRequest { subject: Some(by_reference(2)), platform: String::new() };
    let mut subjects = pb::subject_service_client::SubjectServiceClient::new(served.channel("backend").await);
    assert_eq!(reason(&subjects.get_subject(view).await.unwrap_err()), "SUBJECT_NOT_FOUND");
    verify(&served);
    served.running.stop().await.unwrap();
}

/// Gives a consent, and answers its id.
async fn give(served: &Served, number: u32) -> String {
    let request = pb::GrantConsentRequest {
        request_id: request_id(),
        subject_reference: format!("user-{number}"),
        consent: Some(grant("payments", &["iin"])),
    };
    let given = served.consents("backend").await.grant_consent(request).await.unwrap().into_inner();
    given.consent.unwrap().consent_id
}

on_both!(r8_nobody_is_depersonalised_whose_demand_a_restore_lost);
async fn r8_nobody_is_depersonalised_whose_demand_a_restore_lost(backend: Backend) {
    let served = served(&backend).await;
    let depersonalises = [
        ("number = 1\n", "number = 2\n"),
        ("effective = \"2024-01-03\"", "effective = \"2024-02-01\""),
        ("kind = \"destruction\"", "kind = \"depersonalisation\""),
    ];
    let text_of =
        depersonalises.iter().fold(POLICY.to_owned(), |text, (from, to)| text.replacen(from, to, 1));
    let apply = pb::ApplyPolicyRequest { request_id: request_id(), text: text_of, validate_only: false };
    served.policies("admin").await.apply_policy(apply).await.unwrap();
    let mut people = Vec::new();
    for number in 0..4 {
        people.push(served.store(number).await);
    }
    let backup = back_up(&served);
    // Each demand is newer than the backup: a request, a withdrawal of a consent as new, an erasure that was called off.
    open(&served, pb::RightKind::Erasure, 0).await;
    let withdraw = pb::WithdrawConsentRequest {
        request_id: request_id(),
        consent_id: give(&served, 1).await,
        ..pb::WithdrawConsentRequest::default()
    };
    served.consents("backend").await.withdraw_consent(withdraw).await.unwrap();
    let mut subjects = pb::subject_service_client::SubjectServiceClient::new(served.channel("admin").await);
    subjects.erase_subject(erase(2)).await.unwrap();
    let cancel = pb::CancelErasureRequest {
        request_id: request_id(),
        subject: Some(by_reference(2)),
        platform: "lerna".into(),
        ..pb::CancelErasureRequest::default()
    };
    subjects.cancel_erasure(cancel).await.unwrap();
    // Who only consented anew has demanded nothing.
    give(&served, 3).await;

    let stopped = Stopped::of(served).await;
    let restored = stopped.restore(&backup, &[]);
    assert_eq!(restored.status.code(), Some(0), "{}", text(&restored.stderr));
    let report = json(&restored);
    let lerna = &report["platforms"][1];
    assert_eq!(lerna["lost"]["case"], 1, "{report}");
    assert_eq!(lerna["lost"]["consent"], 2, "{report}");
    assert_eq!(lerna["strict"]["subject"], 3, "{report}");
    let served = stopped.start().await;
    for (number, stored) in people.iter().take(3).enumerate() {
        assert_eq!(read(&served, stored).await, Err("SUBJECT_RESTRICTED".into()), "{number}");
    }
    assert_eq!(read(&served, &people[3]).await, Ok(iin(3)));
    verify(&served);
    served.running.stop().await.unwrap();
}
