//! No certificate, a wrong authority, an unknown or doubled identity: refused before anything is looked at.

use std::net::SocketAddr;

use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use sandyq::{
    cli::{
        local::LocalInstallation,
        pki::{Authority, Issued},
    },
    grpc::{
        authn::{Mark, peer_of},
        pb::{
            self, operation_service_client::OperationServiceClient,
            subject_service_client::SubjectServiceClient, vault_service_client::VaultServiceClient,
        },
    },
};
use tonic::{Code, transport::Identity};
use tonic_health::pb::health_client::HealthClient;

use crate::common::{
    backend::Backend,
    house::erase,
    raw::call,
    served::{Served, reason, request_id},
};

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
    let (platform, staff) = (Authority::new("p").unwrap(), Authority::new("s").unwrap());
    let served = Served::start_with(&Backend::Sqlite, &platform, &staff).await;

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

/// Every call of the compiled contract, by somebody whom a known authority vouches for and nobody enrolled.
#[tokio::test(flavor = "multi_thread")]
async fn no_call_is_answered_to_somebody_unknown() {
    let (platform, staff) = (Authority::new("p").unwrap(), Authority::new("s").unwrap());
    let served = Served::start_with(&Backend::Sqlite, &platform, &staff).await;
    let pool = prost_reflect::DescriptorPool::decode(pb::DESCRIPTORS).unwrap();
    let mut calls = 0;
    for (authority, uri) in
        [(&platform, "spiffe://lerna.example.kz/unknown"), (&staff, "spiffe://vault.example.kz/unknown")]
    {
        let unknown = authority.client(&[uri]).unwrap();
        let channel = served.connect(Some(identity(&unknown))).await.unwrap();
        for service in pool.services().filter(|s| s.package_name() == "sandyq.v1") {
            for method in service.methods() {
                let path = format!("{}/{}", service.name(), method.name());
                let status = call(&channel, &path, Vec::new()).await.unwrap_err();
                let expected = (Code::Unauthenticated, "CALLER_UNKNOWN");
                assert_eq!((status.code(), reason(&status).as_str()), expected, "{path}");
                calls += 1;
            }
        }
    }
    assert!(calls > 120, "the contract was walked");
    served.running.stop().await.unwrap();
}

fn mark(issued: &Issued) -> Mark {
    let certificate = CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap();
    peer_of(&certificate).unwrap().mark
}

/// Another certificate of the same name, by the same authority, is somebody else where keys are pinned.
#[tokio::test(flavor = "multi_thread")]
async fn another_key_is_refused_where_keys_are_pinned() {
    let (platform, staff) = (Authority::new("p").unwrap(), Authority::new("s").unwrap());
    let served = Served::start_with(&Backend::Sqlite, &platform, &staff).await;
    let uri = "spiffe://lerna.example.kz/payments";
    let (first, second) = (platform.client(&[uri]).unwrap(), platform.client(&[uri]).unwrap());
    let mut open = VaultServiceClient::new(served.connect(Some(identity(&second))).await.unwrap());
    assert_eq!(open.who_am_i(pb::WhoAmIRequest {}).await.unwrap().into_inner().caller, "payments");

    let mut officer = served.platforms("admin").await;
    let list = pb::ListCallersRequest { platform: "lerna".into(), ..pb::ListCallersRequest::default() };
    let callers = officer.list_callers(list).await.unwrap().into_inner().callers;
    let payments = callers.into_iter().find(|caller| caller.name == "payments").unwrap();
    let request = pb::UpdateCallerRequest {
        request_id: request_id(),
        caller_id: payments.caller_id,
        name: payments.name,
        roles: payments.roles,
        key_pins: vec![mark(&first).key.to_vec()],
    };
    officer.update_caller(request).await.unwrap();

    let refused = |status: tonic::Status| (status.code(), reason(&status));
    let expected = (Code::Unauthenticated, "KEY_NOT_PINNED".to_owned());
    let status = open.who_am_i(pb::WhoAmIRequest {}).await.unwrap_err();
    assert_eq!(refused(status), expected, "on the open connection");
    let status = whoami(&served, Some(identity(&second))).await.unwrap_err().unwrap();
    assert_eq!(refused(status), expected, "on a new one");
    assert_eq!(whoami(&served, Some(identity(&first))).await.unwrap(), "payments");
    served.running.stop().await.unwrap();
}

/// A stream that goes on for long ends when its caller's certificate comes onto the block list.
#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_certificate_watches_no_longer() {
    let served = Served::start_files(&Backend::Sqlite, |files| {
        let config = std::fs::read_to_string(files.join("sandyq.toml")).unwrap();
        let with_list = config.replace("[server]", "[server]\nblock_list = \"blocked.txt\"");
        std::fs::write(files.join("sandyq.toml"), with_list).unwrap();
        std::fs::write(files.join("blocked.txt"), "# nobody yet\n").unwrap();
    })
    .await;
    served.store(1).await;
    // An operation that stays open: the destruction of an erased subject, hours away.
    let mut subjects = SubjectServiceClient::new(served.channel("admin").await);
    let erased = subjects.erase_subject(erase(1)).await.unwrap().into_inner().outcome.unwrap();
    let pb::erase_subject_response::Outcome::Applied(erasure) = erased else { panic!("{erased:?}") };
    let mut operations = OperationServiceClient::new(served.channel("admin").await);
    let watch = pb::WatchOperationRequest { operation_id: erasure.operation_id };
    let mut watched = operations.watch_operation(watch).await.unwrap().into_inner();
    assert!(watched.message().await.unwrap().is_some());
    let admin = Issued {
        certificate: std::fs::read_to_string(served.file("admin.pem")).unwrap(),
        key: std::fs::read_to_string(served.file("admin.key")).unwrap(),
    };
    let list = format!("key {}\n", data_encoding::HEXLOWER.encode(&mark(&admin).key));
    std::fs::write(served.file("blocked.txt"), list).unwrap();
    let status = watched.message().await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "CERTIFICATE_BLOCKED"));
    served.running.stop().await.unwrap();
}

/// A certificate that comes onto the block list gets nothing more: no call on its open connection, and no handshake.
#[tokio::test(flavor = "multi_thread")]
async fn a_blocked_certificate_gets_nothing_more() {
    let served = Served::start_files(&Backend::Sqlite, |files| {
        let config = std::fs::read_to_string(files.join("sandyq.toml")).unwrap();
        let with_list = config.replace("[server]", "[server]\nblock_list = \"blocked.txt\"");
        std::fs::write(files.join("sandyq.toml"), with_list).unwrap();
        std::fs::write(files.join("blocked.txt"), "# nobody yet\n").unwrap();
    })
    .await;
    let issued = |name: &str| Issued {
        certificate: std::fs::read_to_string(served.file(&format!("{name}.pem"))).unwrap(),
        key: std::fs::read_to_string(served.file(&format!("{name}.key"))).unwrap(),
    };
    let (payments, support) = (issued("payments"), issued("support"));
    let channels = [served.channel("payments").await, served.channel("support").await];
    let mut clients = channels.clone().map(VaultServiceClient::new);
    for client in &mut clients {
        assert!(client.who_am_i(pb::WhoAmIRequest {}).await.is_ok());
    }
    // One by its key, the other by its serial number.
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let (by_key, by_serial) = (mark(&payments), mark(&support));
    let list = format!(
        "key {}\nserial {} issuer {}\n",
        hex(&by_key.key),
        hex(&by_serial.serial),
        hex(&by_serial.issuer)
    );
    std::fs::write(served.file("blocked.txt"), list).unwrap();
    for client in &mut clients {
        let status = client.who_am_i(pb::WhoAmIRequest {}).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::Unauthenticated, "CERTIFICATE_BLOCKED"));
    }
    for channel in channels {
        let request = tonic_health::pb::HealthCheckRequest::default();
        let status = HealthClient::new(channel).check(request).await.unwrap_err();
        assert_eq!(reason(&status), "CERTIFICATE_BLOCKED", "health is a call too");
    }
    assert_no_handshake(whoami(&served, Some(identity(&payments))).await, "blocked by key");
    assert_no_handshake(whoami(&served, Some(identity(&support))).await, "blocked by serial number");
    assert_eq!(whoami(&served, Some(identity(&issued("backend")))).await.unwrap(), "backend");
    std::fs::write(served.file("blocked.txt"), "").unwrap();
    assert_eq!(whoami(&served, Some(identity(&payments))).await.unwrap(), "payments");
    served.running.stop().await.unwrap();
}

/// What one replica enrols, makes and disables, another follows: by its next call, without a restart.
#[tokio::test(flavor = "multi_thread")]
async fn another_replica_follows() {
    let backend = Backend::postgres().await;
    let (platform, staff) = (Authority::new("p").unwrap(), Authority::new("s").unwrap());
    let first = Served::start_with(&backend, &platform, &staff).await;
    let known = platform.client(&["spiffe://lerna.example.kz/payments"]).unwrap();
    known.write(first.running.installation.dir(), "payments").unwrap();
    let files = first.running.installation.dir().to_owned();
    let second = LocalInstallation::open(&files).start(false).await.unwrap();
    let second = Served { running: second, dir: tempfile::tempdir().unwrap(), backend };
    let mut open = second.vault("payments").await;
    assert!(open.who_am_i(pb::WhoAmIRequest {}).await.is_ok());

    let mut officer = first.platforms("admin").await;
    let request = pb::CreatePlatformRequest {
        request_id: request_id(),
        name: "second".into(),
        legal_name: "ТОО «Екінші»".into(),
        bin: "211140009394".into(),
    };
    officer.create_platform(request).await.unwrap();
    // A caller of the new platform is enrolled, and one of the old is disabled.
    let list = pb::ListCallersRequest { platform: "lerna".into(), ..pb::ListCallersRequest::default() };
    let callers = officer.list_callers(list).await.unwrap().into_inner().callers;
    let id = |name: &str| callers.iter().find(|c| c.name == name).unwrap().caller_id.clone();
    let request = pb::DisableCallerRequest { request_id: request_id(), caller_id: id("payments") };
    officer.disable_caller(request).await.unwrap();
    let uri = "spiffe://lerna.example.kz/newcomer";
    let request = pb::EnrolCallerRequest {
        request_id: request_id(),
        platform: "second".into(),
        name: "newcomer".into(),
        spiffe_id: uri.into(),
        roles: vec![pb::Role::Service.into()],
        ..pb::EnrolCallerRequest::default()
    };
    officer.enrol_caller(request).await.unwrap();

    let newcomer = platform.client(&[uri]).unwrap();
    assert_eq!(whoami(&second, Some(identity(&newcomer))).await.unwrap(), "newcomer");
    let mut elsewhere = second.platforms("admin").await;
    let request = pb::ListCallersRequest { platform: "second".into(), ..pb::ListCallersRequest::default() };
    assert_eq!(elsewhere.list_callers(request).await.unwrap().into_inner().callers.len(), 1);
    let person = pb::ListConsentsRequest { subject_reference: "user-1".into(), ..Default::default() };
    let refused = second.consents("payments").await.list_consents(person).await.unwrap_err();
    assert_eq!(reason(&refused), "CALLER_DISABLED");
    second.running.stop().await.unwrap();
    first.running.stop().await.unwrap();
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
    let installation = LocalInstallation::create(&files, loopback).unwrap();
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
    let served = Served { running: installation.start(false).await.unwrap(), dir, backend: Backend::Sqlite };
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
