//! A vault whose KMS goes away and comes back: what is open is served on, health tells of the KMS alone, a start without
//! it is refused with its name and place.

use std::{fs, net::SocketAddr, path::Path, process::Command};

use sandyq::{cli::local::LocalInstallation, grpc::pb};
use tonic::transport::Channel;
use tonic_health::pb::{
    HealthCheckRequest, HealthCheckResponse, health_check_response::ServingStatus,
    health_client::HealthClient,
};

use super::private_file;
use crate::common::{
    child::Server,
    people::{bin, iin, tokenize_request},
    served::{detokenize_request, reason, request_id},
    token::{LABEL, MODULE, PIN, Tokens},
    transit::{Double, JWT, ROLE},
};

const LOCAL: &str = "[root_key]\nfile = \"root.json\"\nunseal_key = \"unseal.key\"\n";

/// A KMS that a test can take away.
trait Removable {
    async fn remove(&mut self);
    async fn insert(&mut self);
}

struct Files<'a>(&'a Path);

impl Removable for Files<'_> {
    async fn remove(&mut self) {
        fs::rename(self.0.join("unseal.key"), self.0.join("unmounted")).unwrap();
    }

    async fn insert(&mut self) {
        fs::rename(self.0.join("unmounted"), self.0.join("unseal.key")).unwrap();
    }
}

impl Removable for Tokens {
    async fn remove(&mut self) {
        Self::remove(self);
    }

    async fn insert(&mut self) {
        Self::insert(self);
    }
}

impl Removable for Double {
    async fn remove(&mut self) {
        self.stop().await;
    }

    async fn insert(&mut self) {
        self.start_again().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn local_is_away_for_a_while() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("vault");
    initialise(&files, LOCAL).await;
    serves_without(&files, Files(&files), "local root key in", "unseal.key").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pkcs11_is_away_for_a_while() {
    let Some(tokens) = Tokens::own_process("kms::served::pkcs11_is_away_for_a_while") else { return };
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("vault");
    let config = format!(
        "[root_key]\nkind = \"pkcs11\"\nmodule = \"{MODULE}\"\ntoken = \"{LABEL}\"\nlabel = \"root\"\npin_env = \"{PIN}\"\n"
    );
    initialise(&files, &config).await;
    serves_without(&files, tokens, "PKCS#11 key root in token vault", "no token is labelled vault").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn transit_is_away_for_a_while() {
    let double = Double::start().await;
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("vault");
    fs::write(dir.path().join("transit-authority.pem"), double.authority()).unwrap();
    private_file(dir.path(), "jwt", JWT);
    let address = double.address();
    let config = format!(
        "[root_key]\nkind = \"transit\"\naddress = \"{address}\"\nauthority = \"../transit-authority.pem\"\n\
         key = \"root\"\nkubernetes_role = \"{ROLE}\"\nkubernetes_jwt_file = \"../jwt\"\n"
    );
    initialise(&files, &config).await;
    let place = format!("transit key root of transit at {address}");
    serves_without(&files, double, &place, "no answer").await;
}

/// An installation with this root key, its platform and callers.
async fn initialise(files: &Path, root_key: &str) {
    let local = LocalInstallation::create(files, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let mut config = fs::read_to_string(local.config_path()).unwrap();
    assert!(config.contains(LOCAL));
    if root_key != LOCAL {
        config = config.replace(LOCAL, root_key).replace(", \"unseal-key-beside-root\"", "");
    }
    fs::write(local.config_path(), config).unwrap();
    local.start(false).await.unwrap().stop().await.unwrap();
}

async fn serves_without(files: &Path, mut kms: impl Removable, place: &str, why: &str) {
    let server = Server::start(files);
    let mut vault = Calls::of(&server, files).await;
    let mut health = HealthClient::new(server.channel(files, "backend").await);
    let request = HealthCheckRequest { service: "sandyq.kms".into() };
    let mut told = health.watch(request).await.unwrap().into_inner();
    wait_for(&mut told, ServingStatus::Serving).await;
    let token = vault.store(1).await;

    kms.remove().await;
    wait_for(&mut told, ServingStatus::NotServing).await;
    for service in ["", "sandyq.v1.VaultService", "sandyq.v1.PlatformService"] {
        let request = HealthCheckRequest { service: service.into() };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    assert_eq!(vault.read(&token).await, iin(1));
    let second = vault.store(2).await;
    assert_eq!(vault.read(&second).await, iin(2));
    let refused = vault.make_platform("second").await.unwrap_err();
    assert_eq!(reason(&refused), "UNAVAILABLE", "its keys need the root key");

    kms.insert().await;
    wait_for(&mut told, ServingStatus::Serving).await;
    vault.make_platform("third").await.unwrap();
    server.kill();

    kms.remove().await;
    let config = files.join("sandyq.toml");
    let start = Command::new(env!("CARGO_BIN_EXE_sandyq")).arg("serve").arg("--config").arg(config).output();
    let start = start.unwrap();
    let said = String::from_utf8_lossy(&start.stderr);
    assert_eq!(start.status.code(), Some(1), "{said}");
    assert!(said.contains(&format!("no root key from the {place}")) && said.contains(why), "{said}");
    kms.insert().await;
    let server = Server::start(files);
    assert_eq!(Calls::of(&server, files).await.read(&second).await, iin(2));
    server.kill();
}

/// Reads what health says until it says this.
async fn wait_for(told: &mut tonic::Streaming<HealthCheckResponse>, wanted: ServingStatus) {
    loop {
        let said = told.message().await.unwrap().expect("the server watches on").status();
        if said == wanted {
            return;
        }
    }
}

/// Clients of a served vault.
struct Calls {
    backend: pb::vault_service_client::VaultServiceClient<Channel>,
    payments: pb::vault_service_client::VaultServiceClient<Channel>,
    admin: pb::platform_service_client::PlatformServiceClient<Channel>,
}

impl Calls {
    async fn of(server: &Server, files: &Path) -> Self {
        Self {
            backend: pb::vault_service_client::VaultServiceClient::new(
                server.channel(files, "backend").await,
            ),
            payments: pb::vault_service_client::VaultServiceClient::new(
                server.channel(files, "payments").await,
            ),
            admin: pb::platform_service_client::PlatformServiceClient::new(
                server.channel(files, "admin").await,
            ),
        }
    }

    /// Stores a synthetic person, and answers the token of the IIN.
    async fn store(&mut self, number: u32) -> String {
        let stored = self.backend.tokenize(tokenize_request(number)).await.unwrap().into_inner();
        stored.tokens.into_iter().find(|token| token.field == "iin").unwrap().token
    }

    async fn read(&mut self, token: &str) -> String {
        let answer = self.payments.detokenize(detokenize_request(token, "payments")).await;
        answer.unwrap().into_inner().value
    }

    async fn make_platform(&mut self, name: &str) -> Result<(), tonic::Status> {
        let request = pb::CreatePlatformRequest {
            request_id: request_id(),
            name: name.into(),
            legal_name: "ТОО «Synthetic»".into(),
            bin: bin(1),
        };
        self.admin.create_platform(request).await.map(drop)
    }
}
