//! No certificate, a wrong authority, an unknown or doubled identity: refused before anything is looked at.

use std::net::SocketAddr;

use sandyq::{
    cli::pki::{Authority, Issued},
    grpc::pb::{self, vault_service_client::VaultServiceClient},
};
use tonic::{Code, transport::Identity};

use crate::common::served::{Served, reason};

/// What a caller with this identity gets from `WhoAmI`: its name, or the refusal.
async fn whoami(served: &Served, identity: Option<Identity>) -> Result<String, Option<tonic::Status>> {
    // With TLS 1.3 a client learns of its refusal only at the first call.
    let channel = served.connect(identity).await.map_err(|_| None)?;
    let answer = VaultServiceClient::new(channel).who_am_i(pb::WhoAmIRequest {}).await.map_err(Some)?;
    Ok(answer.into_inner().caller)
}

fn identity(issued: &Issued) -> Identity {
    Identity::from_pem(&issued.certificate, &issued.key)
}

/// Refused in the handshake: no status of the vault's, and no word about why.
fn assert_no_handshake(outcome: Result<String, Option<tonic::Status>>, what: &str) {
    match outcome {
        Ok(name) => panic!("{what}: served as {name}"),
        Err(None) => {}
        Err(Some(status)) => assert!(
            status.details().is_empty() && status.code() != Code::Unauthenticated,
            "{what}: the call reached the vault: {status:?}"
        ),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn strangers_get_no_handshake() {
    let served = Served::start().await;
    assert_no_handshake(whoami(&served, None).await, "no certificate");

    let stranger = Authority::new("someone else's authority").unwrap();
    let forged = stranger.client(&["spiffe://lerna.example.kz/payments"]).unwrap();
    assert_no_handshake(whoami(&served, Some(identity(&forged))).await, "wrong authority");

    let elsewhere = stranger.client(&["spiffe://elsewhere.kz/payments"]).unwrap();
    assert_no_handshake(whoami(&served, Some(identity(&elsewhere))).await, "unknown trust domain");
    served.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_of_known_authorities_need_one_known_name() {
    let dir = tempfile::tempdir().unwrap();
    let (platform, staff) = (Authority::new("p").unwrap(), Authority::new("s").unwrap());
    let served = Served::start_with(dir, &platform, &staff).await;

    let known = platform.client(&["spiffe://lerna.example.kz/payments"]).unwrap();
    assert_eq!(whoami(&served, Some(identity(&known))).await.unwrap(), "payments");

    let unknown = platform.client(&["spiffe://lerna.example.kz/unknown"]).unwrap();
    let status = whoami(&served, Some(identity(&unknown))).await.unwrap_err().unwrap();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "CALLER_UNKNOWN"));

    for uris in [
        &[][..],
        &["spiffe://lerna.example.kz/payments", "spiffe://lerna.example.kz/support"],
        &["https://lerna.example.kz/payments"],
    ] {
        let odd = platform.client(uris).unwrap();
        assert_no_handshake(whoami(&served, Some(identity(&odd))).await, &format!("{uris:?}"));
    }

    // An authority speaks for its own trust domain alone.
    let crossed = platform.client(&["spiffe://vault.example.kz/auditor"]).unwrap();
    assert_no_handshake(whoami(&served, Some(identity(&crossed))).await, "the platform's authority as staff");
    let crossed = staff.client(&["spiffe://lerna.example.kz/payments"]).unwrap();
    assert_no_handshake(
        whoami(&served, Some(identity(&crossed))).await,
        "the staff's authority as the platform",
    );
    served.running.stop().await.unwrap();
}

/// The recipe of docs/certificates.md, run as it stands, makes certificates that the server takes.
#[tokio::test(flavor = "multi_thread")]
async fn the_documented_recipe_makes_good_certificates() {
    let recipe = include_str!("../../docs/certificates.md").split("```sh").nth(1).unwrap();
    let recipe = recipe.split("```").next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let output =
        std::process::Command::new("sh").args(["-c", recipe]).current_dir(dir.path()).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let files = dir.path().join("vault");
    let loopback = SocketAddr::from(([127, 0, 0, 1], 0));
    let installation = sandyq::cli::local::LocalInstallation::create(&files, loopback).unwrap();
    for name in [
        "server-authority",
        "platform-authority",
        "staff-authority",
        "server",
        "backend",
        "payments",
        "admin",
        "auditor",
    ] {
        for kind in ["pem", "key"] {
            let file = format!("{name}.{kind}");
            std::fs::copy(dir.path().join(&file), files.join(&file)).unwrap();
        }
    }
    let served = Served {
        running: installation.start(false).await.unwrap(),
        dir,
        backend: crate::common::backend::Backend::Sqlite,
    };
    for caller in ["backend", "payments", "auditor"] {
        let me = served.vault(caller).await.who_am_i(pb::WhoAmIRequest {}).await.unwrap().into_inner();
        assert_eq!(me.caller, caller);
    }
    served.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn plain_text_gets_nothing() {
    let served = Served::start().await;
    let address: SocketAddr = served.running.address;
    let endpoint = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    if let Ok(channel) = endpoint.connect().await {
        assert!(VaultServiceClient::new(channel).who_am_i(pb::WhoAmIRequest {}).await.is_err());
    }
    served.running.stop().await.unwrap();
}
