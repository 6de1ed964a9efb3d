//! Certificates and authorities replaced while the vault serves: no call is dropped, what does not fit is not taken, and
//! who is trusted no more gets nothing more.

use std::{
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

use rustls_pki_types::{CertificateDer, pem::PemObject as _};
use sandyq::{
    cli::pki::{Authority, Issued},
    grpc::pb::{self, vault_service_client::VaultServiceClient},
};
use tonic::{
    Code,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::common::{
    backend::Backend,
    child::{Server, channel_to},
    frames,
    served::{Served, initialised, reason, replace_authorities},
};

/// Puts a file in its place in one step.
fn put(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    let beside = path.with_extension("new");
    std::fs::write(&beside, text).unwrap();
    std::fs::set_permissions(&beside, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::rename(beside, path).unwrap();
}

fn put_server(served: &Served, issued: &Issued) {
    put(&served.file("server.pem"), &issued.certificate);
    put(&served.file("server.key"), &issued.key);
}

/// The serial number of a certificate, DER.
fn serial_of(der: &[u8]) -> Vec<u8> {
    let (_, certificate) = x509_parser::parse_x509_certificate(der).unwrap();
    certificate.raw_serial().to_vec()
}

/// The same, PEM.
fn serial(pem: &[u8]) -> Vec<u8> {
    serial_of(&CertificateDer::from_pem_slice(pem).unwrap())
}

/// A connection that believes these server authorities alone.
async fn connect(served: &Served, authorities: &[&Authority], identity: &Identity) -> Option<Channel> {
    let pem: String = authorities.iter().map(|authority| authority.pem()).collect();
    let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(pem)).domain_name("localhost");
    let target = format!("https://{}", served.running.address);
    let endpoint = Endpoint::from_shared(target).unwrap().tls_config(tls.identity(identity.clone())).unwrap();
    endpoint.connect().await.ok()
}

fn identity(served: &Served, name: &str) -> Identity {
    let read = |ending: &str| std::fs::read_to_string(served.file(&format!("{name}.{ending}"))).unwrap();
    Identity::from_pem(read("pem"), read("key"))
}

async fn whoami(channel: &Channel) -> Result<String, tonic::Status> {
    let answer = VaultServiceClient::new(channel.clone()).who_am_i(pb::WhoAmIRequest {}).await;
    answer.map(|answer| answer.into_inner().caller)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_is_replaced_under_load_and_a_bad_pair_is_not_taken() {
    let (first, second) = (Authority::new("first").unwrap(), Authority::new("second").unwrap());
    let served = Served::start_files(&Backend::Sqlite, |files| {
        first.server().unwrap().write(files, "server").unwrap();
        // Callers trust both meanwhile.
        let both = format!("{}{}", first.pem(), second.pem());
        std::fs::write(files.join("server-authority.pem"), both).unwrap();
    })
    .await;
    let old = serial(&std::fs::read(served.file("server.pem")).unwrap());
    let payments = identity(&served, "payments");
    let open = connect(&served, &[&first], &payments).await.unwrap();
    assert!(connect(&served, &[&second], &payments).await.is_none(), "nobody has the second certificate yet");
    let asked = HealthCheckRequest { service: "sandyq.certificates".to_owned() };
    let mut health = HealthClient::new(open.clone()).watch(asked).await.unwrap().into_inner();
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::Serving);

    // Calls on an open connection and on new ones all the while, none of which may fail.
    let (stop, calls) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
    let on_new = tokio::spawn({
        let (address, files) = (served.running.address, served.running.installation.dir().to_owned());
        let stop = Arc::clone(&stop);
        async move {
            let mut shown = Vec::new();
            while !stop.load(Ordering::SeqCst) {
                let channel = channel_to(address, &files, "payments").await.expect("a new connection");
                whoami(&channel).await.expect("a call on a new connection");
                shown.push(serial_of(frames::connect(address, &files, "payments").await.shown()));
            }
            shown
        }
    });
    let on_open = tokio::spawn({
        let (open, stop, calls) = (open.clone(), Arc::clone(&stop), Arc::clone(&calls));
        async move {
            while !stop.load(Ordering::SeqCst) {
                whoami(&open).await.expect("a call on the open connection");
                calls.fetch_add(1, Ordering::SeqCst);
            }
        }
    });

    // A key of another certificate: what was served is served on, and this is told.
    let (next, other) = (second.server().unwrap(), second.server().unwrap());
    let new = serial(next.certificate.as_bytes());
    put_server(&served, &Issued { certificate: next.certificate.clone(), key: other.key });
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(connect(&served, &[&first], &payments).await.is_some(), "the old pair serves on");
    assert!(connect(&served, &[&second], &payments).await.is_none(), "the bad pair was not taken");

    put_server(&served, &next);
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::Serving);
    let fresh =
        connect(&served, &[&second], &payments).await.expect("new handshakes get the new certificate");
    assert_eq!(whoami(&fresh).await.unwrap(), "payments");
    assert!(connect(&served, &[&first], &payments).await.is_none(), "and no other");
    assert_eq!(whoami(&open).await.unwrap(), "payments", "the open connection goes on");
    stop.store(true, Ordering::SeqCst);
    on_open.await.unwrap();
    assert!(calls.load(Ordering::SeqCst) > 0, "there was load");
    let shown = on_new.await.unwrap();
    let switched = shown.iter().position(|serial| *serial == new).unwrap_or(shown.len());
    assert!(
        shown[..switched].iter().all(|serial| *serial == old),
        "the old one, also while the files did not fit"
    );
    assert!(shown[switched..].iter().all(|serial| *serial == new), "and from the change on the new one");
    assert!(switched > 0, "there was load on new connections");

    // A file that is gone, and one that others may read.
    std::fs::remove_file(served.file("server.key")).unwrap();
    assert_eq!(health.message().await.unwrap().unwrap().status(), ServingStatus::NotServing);
    assert!(connect(&served, &[&second], &payments).await.is_some());
    drop(health);
    served.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_authority_that_is_taken_out_ends_its_open_connections_alone() {
    let (old, new, staff) =
        (Authority::new("old").unwrap(), Authority::new("new").unwrap(), Authority::new("staff").unwrap());
    let served = Served::start_with(&Backend::Sqlite, &old, &staff).await;
    let (leaving, officer) = (served.channel("payments").await, served.channel("admin").await);
    assert_eq!(whoami(&leaving).await.unwrap(), "payments");
    assert_eq!(whoami(&officer).await.unwrap(), "admin");

    // Both roots first, as a rotation goes, and then the new one alone.
    let issued = new.client(&["spiffe://lerna.example.kz/support"]).unwrap();
    let next = Identity::from_pem(issued.certificate, issued.key);
    let file = served.file("platform-authority.pem");
    put(&file, &format!("{}{}", old.pem(), new.pem()));
    let staying = accepted(&served, &next).await;
    assert_eq!(whoami(&leaving).await.unwrap(), "payments", "trusted still");
    put(&file, new.pem());
    let refused = loop {
        if let Err(refused) = whoami(&leaving).await {
            break refused;
        }
    };
    assert_eq!(
        (refused.code(), reason(&refused).as_str()),
        (Code::Unauthenticated, "CERTIFICATE_NOT_TRUSTED")
    );
    let health = HealthClient::new(leaving.clone()).check(HealthCheckRequest::default()).await.unwrap_err();
    assert_eq!(reason(&health), "CERTIFICATE_NOT_TRUSTED", "health is a call too");
    assert_eq!(whoami(&staying).await.unwrap(), "support");
    assert_eq!(whoami(&officer).await.unwrap(), "admin", "staff has another authority");

    // A file that holds nothing takes nothing away.
    put(&file, "");
    let asked = HealthCheckRequest { service: "sandyq.certificates".to_owned() };
    let mut health = HealthClient::new(officer).watch(asked).await.unwrap().into_inner();
    while health.message().await.unwrap().unwrap().status() == ServingStatus::Serving {}
    assert_eq!(whoami(&staying).await.unwrap(), "support");
    drop(health);
    served.running.stop().await.unwrap();
}

/// Connects until the server takes the certificate.
async fn accepted(served: &Served, identity: &Identity) -> Channel {
    loop {
        if let Ok(channel) = served.connect(Some(identity.clone())).await
            && whoami(&channel).await.is_ok()
        {
            return channel;
        }
    }
}

/// SIGHUP asks for a look at the files, and ends nothing.
#[tokio::test(flavor = "multi_thread")]
async fn a_hangup_reads_the_files_and_does_not_end_the_server() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("vault");
    initialised(&files).await;
    let (platform, staff) = (Authority::new("platform").unwrap(), Authority::new("staff").unwrap());
    let server = Server::start(&files);
    let old = server.channel(&files, "payments").await;
    assert_eq!(whoami(&old).await.unwrap(), "payments");
    replace_authorities(&files, &platform, &staff);
    let status = Command::new("kill").args(["-HUP", &server.pid().to_string()]).status().unwrap();
    assert!(status.success());
    loop {
        if let Ok(channel) = server.try_channel(&files, "payments").await
            && whoami(&channel).await.is_ok()
        {
            break;
        }
    }
    let refused = whoami(&old).await.unwrap_err();
    assert_eq!(reason(&refused), "CERTIFICATE_NOT_TRUSTED");
    server.kill();
}
