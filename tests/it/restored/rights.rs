//! Requests of people through a restore: nobody who asked is passed by, and nobody who is anonymous is found again.

use sandyq::grpc::pb::{self, rights_service_client::RightsServiceClient};

use super::{Stopped, back_up, json, read, served, text, verify};
use crate::common::{
    backend::{Backend, on_both},
    house::by_reference,
    served::{Served, reason, request_id},
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
    assert!(read(&served, &first).await.is_ok());
    // The values are destroyed again, and the reference leads nowhere.
    assert_eq!(read(&served, &second).await, Err("TOKEN_NOT_FOUND".into()));
    let view = pb::GetSubjectRequest { subject: Some(by_reference(2)), platform: String::new() };
    let mut subjects = pb::subject_service_client::SubjectServiceClient::new(served.channel("backend").await);
    assert_eq!(reason(&subjects.get_subject(view).await.unwrap_err()), "SUBJECT_NOT_FOUND");
    verify(&served);
    served.running.stop().await.unwrap();
}
