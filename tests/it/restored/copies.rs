//! Copies outside the vault through a restore: none is forgotten unseen, and none is taken for destroyed that may not be.

use sandyq::grpc::pb::{self, register_service_client::RegisterServiceClient};

use super::{Stopped, back_up, json, served, text, verify};
use crate::common::{
    backend::{Backend, on_both},
    served::{Served, reason, request_id},
};

const MADE: prost_types::Timestamp = prost_types::Timestamp { seconds: 1_795_752_000, nanos: 0 };
const BY: prost_types::Timestamp = prost_types::Timestamp { seconds: 1_827_288_000, nanos: 0 };

async fn register(served: &Served) -> String {
    let request = pb::RegisterCopyRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        kind: pb::CopyKind::Paper.into(),
        purpose: "payments".into(),
        fields: vec!["iin".into()],
        holder: "HR/12".into(),
        make_time: Some(MADE),
        destroy_time: Some(BY),
        ..pb::RegisterCopyRequest::default()
    };
    let mut admin = RegisterServiceClient::new(served.channel("admin").await);
    admin.register_copy(request).await.unwrap().into_inner().copy.unwrap().copy_id
}

async fn end(served: &Served, copy_id: &str) -> Result<pb::DataCopy, String> {
    let request = pb::EndCopyRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        copy_id: copy_id.into(),
        outcome: pb::CopyOutcome::Destroyed.into(),
        end_time: Some(MADE),
        act: "ACT-1".into(),
    };
    let mut admin = RegisterServiceClient::new(served.channel("admin").await);
    let ended = admin.end_copy(request).await.map_err(|status| reason(&status))?;
    Ok(ended.into_inner().copy.unwrap())
}

on_both!(a_copy_whose_end_is_lost_is_looked_for_again);
async fn a_copy_whose_end_is_lost_is_looked_for_again(backend: Backend) {
    let served = served(&backend).await;
    let (kept, ahead) = (register(&served).await, register(&served).await);
    end(&served, &kept).await.unwrap();
    let backup = back_up(&served);
    let newer = register(&served).await;
    end(&served, &ahead).await.unwrap();

    let stopped = Stopped::of(served).await;
    let restored = stopped.restore(&backup, &[]);
    assert_eq!(restored.status.code(), Some(0), "{}", text(&restored.stderr));
    let report = json(&restored);
    let lerna = &report["platforms"][1];
    assert_eq!(lerna["lost"]["copy"], 1, "{report}");
    assert_eq!(lerna["strict"]["copy"], 1, "{report}");
    let served = stopped.start().await;
    assert_eq!(end(&served, &kept).await, Err("COPY_ENDED".into()));
    assert_eq!(end(&served, &newer).await, Err("COPY_NOT_FOUND".into()), "told as lost");
    assert!(end(&served, &ahead).await.is_ok(), "it stood as open");
    verify(&served);
    served.running.stop().await.unwrap();
}
