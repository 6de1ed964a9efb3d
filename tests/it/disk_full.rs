//! A disk that is full for a while: nothing unaudited is answered, and the vault heals without a restart. The limit is
//! the kernel's own on the size of a process's files, lowered and raised from outside with `prlimit`.

use std::process::Command;

use sandyq::grpc::pb::{
    self, audit_service_client::AuditServiceClient, vault_service_client::VaultServiceClient,
};
use tonic_health::pb::health_check_response::ServingStatus;

use crate::{
    common::{
        metrics::Ready,
        people::{iin, tokenize_request},
        served::{detokenize_request, initialised, reason},
    },
    kill::Server,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_heals() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("vault");
    initialised(&files).await;
    let server = Server::start(&files);
    let (backend, payments) =
        (server.channel(&files, "backend").await, server.channel(&files, "payments").await);
    let (mut backend, mut payments) = (VaultServiceClient::new(backend), VaultServiceClient::new(payments));
    let stored = backend.tokenize(tokenize_request(1)).await.unwrap().into_inner();
    let token = stored.tokens[2].token.clone();
    assert!(payments.detokenize(detokenize_request(&token, "payments")).await.is_ok());
    let mut auditor = AuditServiceClient::new(server.channel(&files, "auditor").await);
    let mut ready = Ready::watch(server.health.unwrap()).await;
    ready.until(ServingStatus::Serving).await;

    limit_file_size(&server, "1");
    for round in 0..3 {
        let refused = payments.detokenize(detokenize_request(&token, "payments")).await.unwrap_err();
        assert_eq!(reason(&refused), "UNAVAILABLE", "round {round}: no entry, no value");
        let refused = backend.tokenize(tokenize_request(2 + round)).await.unwrap_err();
        assert_eq!(reason(&refused), "UNAVAILABLE", "round {round}");
        // What leaves no entry needs no disk.
        assert_eq!(backend.who_am_i(pb::WhoAmIRequest {}).await.unwrap().into_inner().caller, "backend");
        let head = pb::GetHeadRequest { platform: "lerna".into() };
        assert!(auditor.get_head(head).await.is_ok(), "round {round}");
    }
    ready.until(ServingStatus::NotServing).await;
    limit_file_size(&server, "unlimited");
    let healed = payments.detokenize(detokenize_request(&token, "payments")).await;
    assert_eq!(healed.unwrap().into_inner().value, iin(1));
    assert!(backend.tokenize(tokenize_request(2)).await.is_ok());
    ready.until(ServingStatus::Serving).await;
    server.kill();
}

/// Sets the soft limit, in bytes; the hard one stays, so that it can be raised again.
pub fn limit_file_size(server: &Server, limit: &str) {
    let status = Command::new("prlimit")
        .arg(format!("--pid={}", server.pid()))
        .arg(format!("--fsize={limit}:"))
        .status()
        .unwrap();
    assert!(status.success());
}
