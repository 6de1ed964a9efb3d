//! An installation in a temporary directory, served over mutual TLS in this process.

use std::{
    collections::HashMap,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use sandyq::{
    cli::{
        local::{LocalInstallation, Running},
        pki::Authority,
    },
    crypto::random::SystemRng,
    domain::{ids::RequestId, time::Clock},
    grpc::pb::{
        self, audit_service_client::AuditServiceClient, consent_service_client::ConsentServiceClient,
        platform_service_client::PlatformServiceClient, policy_service_client::PolicyServiceClient,
        vault_service_client::VaultServiceClient,
    },
};
use tempfile::TempDir;
use tonic::{
    Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tonic_types::StatusExt as _;

use super::backend::Backend;

/// A served installation with channels of its callers.
pub struct Served {
    pub running: Running,
    pub dir: TempDir,
    pub backend: Backend,
}

impl Served {
    pub async fn start() -> Self {
        Self::start_on(&Backend::Sqlite).await
    }

    pub async fn start_on(backend: &Backend) -> Self {
        Self::start_files(backend, |_| ()).await
    }

    /// The same with client authorities that the test holds, and certificates of theirs.
    pub async fn start_with(backend: &Backend, platform: &Authority, staff: &Authority) -> Self {
        Self::start_files(backend, |files| replace_authorities(files, platform, staff)).await
    }

    /// The same with files that the test changes first.
    pub async fn start_files(backend: &Backend, change: impl FnOnce(&Path)) -> Self {
        Self::start_by(Arc::default(), backend, change).await
    }

    /// The same by a clock that the test moves.
    pub async fn start_by(clock: Arc<Clock>, backend: &Backend, change: impl FnOnce(&Path)) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let files = dir.path().join("vault");
        let installation = LocalInstallation::create(&files, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let config = std::fs::read_to_string(installation.config_path()).unwrap();
        let config = backend.configure(&config);
        std::fs::write(installation.config_path(), config).unwrap();
        change(&files);
        let running = installation.start_by(clock, true).await.unwrap();
        Self { running, dir, backend: backend.clone() }
    }

    /// Serves the same files again, as after a restart.
    pub async fn restart(self) -> Self {
        let Self { running, dir, backend } = self;
        let installation = LocalInstallation::open(running.installation.dir());
        let clock = Arc::clone(&running.clock);
        running.stop().await.unwrap();
        Self { running: installation.start_by(clock, true).await.unwrap(), dir, backend }
    }

    pub fn file(&self, name: &str) -> PathBuf {
        self.running.installation.dir().join(name)
    }

    pub async fn channel(&self, caller: &str) -> Channel {
        let read = |name: &str| std::fs::read_to_string(self.file(name)).unwrap();
        let identity = Identity::from_pem(read(&format!("{caller}.pem")), read(&format!("{caller}.key")));
        self.connect(Some(identity)).await.unwrap()
    }

    /// A connection with any identity, or none.
    pub async fn connect(&self, identity: Option<Identity>) -> Result<Channel, tonic::transport::Error> {
        let authority = std::fs::read_to_string(self.file("server-authority.pem")).unwrap();
        let mut tls =
            ClientTlsConfig::new().ca_certificate(Certificate::from_pem(authority)).domain_name("localhost");
        if let Some(identity) = identity {
            tls = tls.identity(identity);
        }
        let address = self.running.address;
        Endpoint::from_shared(format!("https://{address}")).unwrap().tls_config(tls).unwrap().connect().await
    }

    pub async fn vault(&self, caller: &str) -> VaultServiceClient<Channel> {
        VaultServiceClient::new(self.channel(caller).await)
    }

    pub async fn consents(&self, caller: &str) -> ConsentServiceClient<Channel> {
        ConsentServiceClient::new(self.channel(caller).await)
    }

    pub async fn platforms(&self, caller: &str) -> PlatformServiceClient<Channel> {
        PlatformServiceClient::new(self.channel(caller).await)
    }

    pub async fn policies(&self, caller: &str) -> PolicyServiceClient<Channel> {
        PolicyServiceClient::new(self.channel(caller).await)
    }

    pub async fn audit(&self, caller: &str) -> AuditServiceClient<Channel> {
        AuditServiceClient::new(self.channel(caller).await)
    }

    /// Makes a platform with its policy, as the officer.
    pub async fn make_platform(&self, name: &str, legal_name: &str, bin: &str, policy: String) {
        let request = pb::CreatePlatformRequest {
            request_id: self.request_id(),
            name: name.into(),
            legal_name: legal_name.into(),
            bin: bin.into(),
        };
        self.platforms("admin").await.create_platform(request).await.unwrap();
        let request =
            pb::ApplyPolicyRequest { request_id: self.request_id(), text: policy, validate_only: false };
        let applied = self.policies("admin").await.apply_policy(request).await.unwrap().into_inner();
        let outcome = applied.outcome.unwrap();
        assert!(matches!(outcome, pb::apply_policy_response::Outcome::Applied(_)), "{outcome:?}");
    }

    /// Makes a second platform with the first one's policy, and answers a channel of its caller `payments`.
    pub async fn neighbour(&self, authority: &Authority) -> Channel {
        let (name, bin) = ("neighbour", super::people::bin(1));
        let text = super::vault::POLICY.replacen("name = \"lerna\"", &format!("name = \"{name}\""), 1);
        let text = text.replacen("bin = \"210140019844\"", &format!("bin = \"{bin}\""), 1);
        self.make_platform(name, "ТОО «Neighbour»", &bin, text).await;
        let spiffe_id = "spiffe://lerna.example.kz/neighbour";
        let request = pb::EnrolCallerRequest {
            request_id: request_id(),
            platform: name.into(),
            name: "payments".into(),
            spiffe_id: spiffe_id.into(),
            roles: vec![pb::Role::Service.into()],
            ..pb::EnrolCallerRequest::default()
        };
        self.platforms("admin").await.enrol_caller(request).await.unwrap();
        let issued = authority.client(&[spiffe_id]).unwrap();
        let identity = Identity::from_pem(&issued.certificate, &issued.key);
        self.connect(Some(identity)).await.unwrap()
    }

    /// Stores a synthetic person, and answers the tokens by field and the consents by purpose.
    pub async fn store(&self, number: u32) -> Stored {
        self.store_person(super::people::tokenize_request(number)).await
    }

    /// The same of a person as the request says it.
    pub async fn store_person(&self, request: pb::TokenizeRequest) -> Stored {
        let purposes: Vec<_> = request.consents.iter().map(|c| c.purpose.clone()).collect();
        let answer = self.vault("backend").await.tokenize(request).await.unwrap().into_inner();
        Stored {
            subject: answer.subject_id,
            tokens: answer.tokens.into_iter().map(|t| (t.field, t.token)).collect(),
            consents: purposes.into_iter().zip(answer.consent_ids).collect(),
        }
    }

    /// Detokenizes in full as this caller; the value, or the reason of the refusal.
    pub async fn read(&self, caller: &str, purpose: &str, token: &str) -> Result<String, String> {
        self.ask(caller, detokenize_request(token, purpose)).await
    }

    /// The same to write a letter to the person.
    pub async fn read_for_letters(&self, caller: &str, purpose: &str, token: &str) -> Result<String, String> {
        let request = pb::DetokenizeRequest {
            outreach: Some(super::people::letters()),
            ..detokenize_request(token, purpose)
        };
        self.ask(caller, request).await
    }

    async fn ask(&self, caller: &str, request: pb::DetokenizeRequest) -> Result<String, String> {
        let answer = self.vault(caller).await.detokenize(request).await;
        answer.map(|answer| answer.into_inner().value).map_err(|status| reason(&status))
    }

    /// A fresh request id, by the clock of this installation.
    pub fn request_id(&self) -> String {
        request_id_by(&self.running.clock)
    }

    /// Runs SQL on the database, behind the vault.
    pub async fn sql(&self, sql: &str) -> u64 {
        self.backend.sql(self.running.installation.dir(), sql).await
    }
}

/// Puts authorities that the test holds in the place of an installation's own, with certificates of theirs.
pub fn replace_authorities(files: &Path, platform: &Authority, staff: &Authority) {
    std::fs::write(files.join("platform-authority.pem"), platform.pem()).unwrap();
    std::fs::write(files.join("staff-authority.pem"), staff.pem()).unwrap();
    for (authority, domain, names) in [
        (platform, "lerna", &["backend", "payments", "support"][..]),
        (staff, "vault", &["admin", "auditor"]),
    ] {
        for name in names {
            let issued = authority.client(&[&format!("spiffe://{domain}.example.kz/{name}")]);
            issued.unwrap().write(files, name).unwrap();
        }
    }
}

/// An installation in `files` with its platform and callers, served by nobody.
pub async fn initialised(files: &Path) -> LocalInstallation {
    initialised_on(&Backend::Sqlite, files).await;
    LocalInstallation::open(files)
}

/// The same on either database; answers the audit key, as `init` printed it.
pub async fn initialised_on(backend: &Backend, files: &Path) -> String {
    let local = LocalInstallation::create(files, SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let config = std::fs::read_to_string(local.config_path()).unwrap();
    std::fs::write(local.config_path(), backend.configure(&config)).unwrap();
    let running = local.start(false).await.unwrap();
    let key = running.verifier_key.clone();
    running.stop().await.unwrap();
    key
}

/// What a stored person got.
pub struct Stored {
    pub subject: String,
    pub tokens: HashMap<String, String>,
    pub consents: HashMap<String, String>,
}

impl Stored {
    pub fn token(&self, field: &str) -> &str {
        &self.tokens[field]
    }
}

pub fn detokenize_request(token: &str, purpose: &str) -> pb::DetokenizeRequest {
    pb::DetokenizeRequest {
        request_id: String::new(),
        token: token.into(),
        purpose: purpose.into(),
        view: pb::View::Full.into(),
        reference: String::new(),
        ..pb::DetokenizeRequest::default()
    }
}

/// A fresh request id.
pub fn request_id() -> String {
    request_id_by(&Clock::default())
}

fn request_id_by(clock: &Clock) -> String {
    RequestId::new(clock.now(), &SystemRng::new()).unwrap().to_string()
}

/// The stable reason of a status.
pub fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    let info = details.error_info().unwrap_or_else(|| panic!("no ErrorInfo in {status:?}"));
    assert_eq!(info.domain, "sandyq.v1");
    info.reason.clone()
}

/// The stable reason of a status inside a batch.
pub fn reason_of_item(status: &tonic_types::Status) -> String {
    use tonic_types::RpcStatusExt as _;
    let info = status.get_details_error_info();
    info.unwrap_or_else(|| panic!("no ErrorInfo in {status:?}")).reason
}
