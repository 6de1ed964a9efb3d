//! Documents after a restore: what was deleted or replaced since stays so, and objects that rows may name again are kept.

use sandyq::grpc::pb::{self, DocumentSide::Front, operation_service_client::OperationServiceClient};

use super::{Stopped, back_up, served, text, verify};
use crate::common::{
    backend::{Backend, on_both},
    documents::{ask, content, start},
    served::{reason, request_id},
};

on_both!(documents_that_went_since_stay_away_and_the_collector_is_held);
async fn documents_that_went_since_stay_away_and_the_collector_is_held(backend: Backend) {
    let served = served(&backend).await;
    served.with_images(4).await;
    let mut client = served.documents("backend").await;
    let image = |number: u64| content(number, 5_000);
    let mut ids = Vec::new();
    for number in 1..=3_u32 {
        let bytes = image(number.into());
        ids.push(client.put(start(number, Front, &bytes), &bytes).await.unwrap().document_id);
    }
    let backup = back_up(&served);
    client.delete(&ids[0]).await.unwrap();
    let newer = image(9);
    let replacing =
        pb::UploadStart { replace_version: 1, evidence: "ACT-1".into(), ..start(2, Front, &newer) };
    client.put(replacing, &newer).await.unwrap();
    let later = image(4);
    client.put(start(4, Front, &later), &later).await.unwrap();
    assert_eq!(served.objects().len(), 4);

    let stopped = Stopped::of(served).await;
    let restored = stopped.restore(&backup, &[]);
    assert_eq!(restored.status.code(), Some(0), "{}", text(&restored.stderr));
    let report: serde_json::Value = serde_json::from_slice(&restored.stdout).unwrap();
    let told = report["platforms"].as_array().unwrap().iter().find(|one| one["platform"] == "lerna").unwrap();
    assert_eq!(told["lost"]["document"], 2, "{told}");
    assert_eq!(told["applied"]["DocumentService/DeleteDocument"], 1, "{told}");
    let served = stopped.start().await;
    let mut payments = served.documents("payments").await;
    for (id, expected) in [
        (&ids[0], Err("DOCUMENT_NOT_FOUND".to_owned())),
        (&ids[1], Err("DOCUMENT_NOT_FOUND".to_owned())),
        (&ids[2], Ok(())),
    ] {
        assert_eq!(payments.get(ask(id, Front)).await.2, expected);
    }
    assert_eq!(served.objects().len(), 4, "objects whose rows are lost are kept");

    let mut admin = served.documents("admin").await;
    let collect =
        || pb::CollectDocumentsRequest { request_id: request_id(), platform: "lerna".into(), dry_run: false };
    let refused = admin.0.collect_documents(collect()).await.unwrap_err();
    assert_eq!(reason(&refused), "COLLECTION_RUNNING");
    let mut operations = OperationServiceClient::new(served.channel("admin").await);
    let list = pb::ListOperationsRequest { platform: "lerna".into(), ..Default::default() };
    let listed = operations.list_operations(list).await.unwrap().into_inner().operations;
    let held = listed.iter().find(|one| one.kind == "collect_documents").unwrap();
    assert_eq!(held.state(), pb::OperationState::Paused);
    let cancel =
        pb::CancelOperationRequest { request_id: request_id(), operation_id: held.operation_id.clone() };
    operations.cancel_operation(cancel).await.unwrap();
    assert!(admin.0.collect_documents(collect()).await.is_ok(), "an officer lets it go on");
    verify(&served);
    served.running.stop().await.unwrap();
}
