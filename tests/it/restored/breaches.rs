//! Breaches through a restore: none is forgotten unseen, and nobody is taken for told who was not.

use sandyq::grpc::pb::{self, breach_service_client::BreachServiceClient};

use super::{Stopped, back_up, json, served, text, verify};
use crate::common::{
    backend::{Backend, on_both},
    served::{Served, reason, request_id},
};

const FOUND: prost_types::Timestamp = prost_types::Timestamp { seconds: 1_795_752_000, nanos: 0 };

async fn open(served: &Served) -> String {
    let facts = pb::BreachFacts {
        kind: pb::BreachKind::Loss.into(),
        certainty: pb::BreachCertainty::Suspected.into(),
        cause: pb::BreachCause::Unknown.into(),
        everyone: true,
        ..pb::BreachFacts::default()
    };
    let request = pb::OpenBreachRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        find_time: Some(FOUND),
        facts: Some(facts),
    };
    let mut admin = BreachServiceClient::new(served.channel("admin").await);
    admin.open_breach(request).await.unwrap().into_inner().breach.unwrap().breach_id
}

async fn tell(served: &Served, breach_id: &str) -> pb::Breach {
    let report = pb::ReportBreachRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        breach_id: breach_id.into(),
        to: pb::BreachAddressee::Authority.into(),
        tell_time: Some(FOUND),
        channel: pb::RightsChannel::Email.into(),
        language: "ru".into(),
        ..pb::ReportBreachRequest::default()
    };
    let mut admin = BreachServiceClient::new(served.channel("admin").await);
    admin.report_breach(report).await.unwrap().into_inner().breach.unwrap()
}

async fn state(served: &Served, breach_id: &str) -> Result<pb::BreachState, String> {
    let get = pb::GetBreachRequest { platform: "lerna".into(), breach_id: breach_id.into() };
    let mut admin = BreachServiceClient::new(served.channel("admin").await);
    let found = admin.get_breach(get).await.map_err(|status| reason(&status))?;
    Ok(found.into_inner().breach.unwrap().state())
}

on_both!(nobody_is_taken_for_told_who_was_not);
async fn nobody_is_taken_for_told_who_was_not(backend: Backend) {
    let served = served(&backend).await;
    let (kept, ahead) = (open(&served).await, open(&served).await);
    tell(&served, &kept).await;
    let backup = back_up(&served);
    let newer = open(&served).await;
    tell(&served, &ahead).await;

    let stopped = Stopped::of(served).await;
    let restored = stopped.restore(&backup, &[]);
    assert_eq!(restored.status.code(), Some(0), "{}", text(&restored.stderr));
    let report = json(&restored);
    let lerna = &report["platforms"][1];
    assert_eq!(lerna["lost"]["breach"], 1, "{report}");
    assert_eq!(lerna["strict"]["breach"], 1, "{report}");
    let served = stopped.start().await;
    assert_eq!(state(&served, &kept).await, Ok(pb::BreachState::AuthorityTold));
    assert_eq!(state(&served, &ahead).await, Ok(pb::BreachState::Open), "somebody looks at it again");
    assert_eq!(state(&served, &newer).await, Err("BREACH_NOT_FOUND".into()), "told as lost");
    assert_eq!(tell(&served, &ahead).await.state(), pb::BreachState::AuthorityTold, "and goes on");
    verify(&served);
    served.running.stop().await.unwrap();
}
