//! A complete installation in one directory, with certificates of its own: for the demo, for development, for tests.

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use tonic::transport::Channel;

use super::{
    client::{connect, platforms, policies, request_id_by},
    init::init,
    output::{Failure, refused},
    pki::Authority,
    serve::{Listeners, open, serve_until, tls},
};
use crate::{
    config::{AuthorityConfig, Config, Connection},
    crypto::digest::sha256,
    domain::time::Clock,
    grpc::pb,
    policy::model::Policy,
    vault::install::VAULT,
};

/// The policy that the demo and development run.
const POLICY: &str = include_str!("../../policies/lerna.toml");

/// The platform of that policy.
pub(super) const PLATFORM: &str = "lerna";
/// The officer who makes the platform and enrols everybody else.
pub(super) const OFFICER: &str = "admin";
/// The machine that reads every log.
const AUDITOR: &str = "auditor";
/// Callers that the policy names.
const SERVICES: [&str; 7] = ["backend", "payments", "support", "credit", "mailing", "analytics", "rights"];

/// Trust domain of the platform's callers.
pub const PLATFORM_DOMAIN: &str = "lerna.example.kz";
/// Trust domain of the vault's own staff.
pub const STAFF_DOMAIN: &str = "vault.example.kz";

/// Files of an installation on this machine.
pub struct LocalInstallation {
    dir: PathBuf,
}

impl LocalInstallation {
    /// Writes certificates, policy and configuration into an empty directory.
    ///
    /// # Errors
    /// [`Failure`]; a directory that holds anything is refused.
    pub fn create(dir: &Path, listen: SocketAddr) -> Result<Self, Failure> {
        fs::create_dir_all(dir)?;
        if fs::read_dir(dir)?.next().is_some() {
            let message = format!("{} is not empty", dir.display());
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, message).into());
        }
        let (server_ca, platform_ca, staff_ca) = (
            Authority::new("development server authority")?,
            Authority::new("development platform authority")?,
            Authority::new("development staff authority")?,
        );
        fs::write(dir.join("server-authority.pem"), server_ca.pem())?;
        fs::write(dir.join("platform-authority.pem"), platform_ca.pem())?;
        fs::write(dir.join("staff-authority.pem"), staff_ca.pem())?;
        server_ca.server()?.write(dir, "server")?;
        for name in SERVICES {
            platform_ca.client(&[&spiffe_id(PLATFORM_DOMAIN, name)])?.write(dir, name)?;
        }
        for name in [OFFICER, AUDITOR] {
            staff_ca.client(&[&spiffe_id(STAFF_DOMAIN, name)])?.write(dir, name)?;
        }
        fs::write(dir.join("lerna.toml"), POLICY)?;
        fs::write(dir.join("sandyq.toml"), config_text(listen))?;
        Ok(Self { dir: dir.to_owned() })
    }

    /// The installation that an earlier `create` made in this directory.
    #[must_use]
    pub fn open(dir: &Path) -> Self {
        Self { dir: dir.to_owned() }
    }

    /// The directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The configuration file.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.dir.join("sandyq.toml")
    }

    /// The configuration.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn config(&self) -> Result<Config, Failure> {
        Ok(Config::load(&self.config_path())?)
    }

    /// Writes a connection file for each caller, once the server's port is known.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn write_connections(&self, server: SocketAddr) -> Result<(), Failure> {
        for name in SERVICES.into_iter().chain([OFFICER, AUDITOR]) {
            let text = toml::to_string(&connection(server, name))?;
            fs::write(self.connection_path(name), text)?;
        }
        Ok(())
    }

    /// Writes a connection file of a caller to another server that has the installation's certificates.
    ///
    /// # Errors
    /// [`Failure`].
    pub(super) fn write_connection(
        &self,
        name: &str,
        server: SocketAddr,
        caller: &str,
    ) -> Result<PathBuf, Failure> {
        let path = self.connection_path(name);
        fs::write(&path, toml::to_string(&connection(server, caller))?)?;
        Ok(path)
    }

    /// The connection file of a caller.
    #[must_use]
    pub fn connection_path(&self, caller: &str) -> PathBuf {
        self.dir.join(format!("client-{caller}.toml"))
    }

    /// The connection of a caller.
    ///
    /// # Errors
    /// [`Failure`].
    pub fn connection(&self, caller: &str) -> Result<Connection, Failure> {
        Ok(Connection::load(&self.connection_path(caller))?)
    }
}

fn spiffe_id(domain: &str, name: &str) -> String {
    format!("spiffe://{domain}/{name}")
}

fn connection(server: SocketAddr, name: &str) -> Connection {
    Connection {
        target: format!("https://{server}"),
        server_name: Some("localhost".to_owned()),
        server_authority: "server-authority.pem".into(),
        certificate: Some(format!("{name}.pem").into()),
        key: Some(format!("{name}.key").into()),
        pkcs11: None,
        file: PathBuf::new(),
    }
}

fn config_text(listen: SocketAddr) -> String {
    format!(
        r#"accept_risks = ["mirror-beside-database", "unseal-key-beside-root"]

[installation]
name = "{STAFF_DOMAIN}"

[server]
listen = "{listen}"
certificate = "server.pem"
key = "server.key"
lame_duck_seconds = 0
drain_seconds = 5

[health]
listen = "127.0.0.1:0"

[[client_authority]]
trust_domain = "{PLATFORM_DOMAIN}"
certificates = "platform-authority.pem"

[[client_authority]]
trust_domain = "{STAFF_DOMAIN}"
certificates = "staff-authority.pem"
staff = true

[database]
sqlite = "sandyq.db"

[mirror]
directory = "mirror"

[backup]
directory = "backups"

[documents]
directory = "documents"

[root_key]
file = "root.json"
unseal_key = "unseal.key"

[residency]
country = "KZ"

[[residency.site]]
name = "this-machine"
here = true

[governance]
mode = "single-officer"

[staff]
hardware_keys = "declared_absent"

[[officer]]
handle = "{OFFICER}"
spiffe_id = "spiffe://{STAFF_DOMAIN}/{OFFICER}"
roles = ["platform_admin", "security_officer", "data_protection"]
"#
    )
}

/// The same policy as its next version: an operator names a purpose for the image of an identity document.
#[must_use]
pub fn policy_with_images() -> String {
    const FIELD: &str = r#"[[field]]
name = "id_image"
type = "document_image"
category = "ordinary"
max_bytes = 6291456
max_versions = 3
collected_by = ["backend"]
clause = "5.4"

"#;
    let (purpose, use_of) = ("[[purpose]]\nname = \"payments\"", "    { name = \"payment_amount\", given");
    let image = "    { name = \"id_image\", given = \"stated\", clause = \"5.4\" },\n";
    POLICY
        .replacen("number = 1\n", "number = 2\n", 1)
        .replacen("effective = \"2024-01-03\"", "effective = \"2024-02-01\"", 1)
        .replacen(purpose, &format!("{FIELD}{purpose}"), 1)
        .replacen(use_of, &format!("{image}{use_of}"), 1)
}

/// A synthetic person's consent by tick, given in September 2026, with everything that Law 94-V, Article 8(4) asks for.
#[must_use]
pub fn synthetic_consent(purpose: &str, fields: &[&str]) -> pb::ConsentGrant {
    pb::ConsentGrant {
        purpose: purpose.to_owned(),
        fields: fields.iter().map(|f| (*f).to_owned()).collect(),
        subject_name: "Сынақова Әлия".to_owned(),
        act: pb::ConsentAct::Tick.into(),
        give_time: Some(prost_types::Timestamp { seconds: 1_790_000_000, nanos: 0 }),
        expire_time: None,
        third_party_transfer: Some(true),
        cross_border_transfer: Some(false),
        publication: Some(false),
        policy_version: 1,
        language: "ru".to_owned(),
        text_sha256: sha256(b"synthetic consent text").to_vec(),
        site: "skillbox.kz".to_owned(),
        outreach: None,
    }
}

/// A local installation that is being served.
pub struct Running {
    /// Its files.
    pub installation: LocalInstallation,
    /// What it goes by.
    pub clock: Arc<Clock>,
    /// Where it listens.
    pub address: SocketAddr,
    /// Where it answers health and metrics.
    pub health: Option<SocketAddr>,
    /// Its audit key, as `init` printed it.
    pub verifier_key: String,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), Failure>>,
}

impl LocalInstallation {
    /// Initialises the installation, serves it on loopback in this process, and makes platform and callers as its officer.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn start(self, reflection: bool) -> Result<Running, Failure> {
        self.start_by(Arc::default(), reflection).await
    }

    /// The same by a clock that whoever holds it may move: years are gone through in seconds. `sandyq serve` has no such.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn start_by(self, clock: Arc<Clock>, reflection: bool) -> Result<Running, Failure> {
        let config = self.config()?;
        let verifier_key = init(&config, Arc::clone(&clock)).await?.verifier_key;
        let tls = tls(&config)?;
        let vault = open(&config, Arc::clone(&clock)).await?;
        // Who comes back may serve staff that needs hardware keys by now, which this knows none of.
        let provisioned = vault.platform_named(Policy::parse(POLICY)?.operator.name.as_str()).is_some();
        let listeners = Listeners::bind(&config).await?;
        let address = listeners.calls.local_addr()?;
        let health = listeners.health.as_ref().map(TcpListener::local_addr).transpose()?;
        self.write_connections(address)?;
        let (stop, stopped) = oneshot::channel();
        let server = tokio::spawn(async move {
            let shutdown = async {
                // Dropped or sent: either way it is time to stop.
                let _stopped = stopped.await;
            };
            serve_until(&config, listeners, tls, vault, reflection, shutdown).await
        });
        let running = Running { installation: self, clock, address, health, verifier_key, stop, server };
        if provisioned {
            return Ok(running);
        }
        match running.installation.provision(&running.clock).await {
            Ok(()) => Ok(running),
            Err(failure) => {
                running.stop().await?;
                Err(failure)
            }
        }
    }

    /// Makes the platform with its policy and callers, as the officer, on a server that goes by this clock.
    pub(super) async fn provision(&self, clock: &Clock) -> Result<(), Failure> {
        let officer = connect(&self.connection(OFFICER)?).await?;
        make_platform(&officer, clock, POLICY, |service| spiffe_id(PLATFORM_DOMAIN, service)).await?;
        enrol(&officer, clock, (VAULT, AUDITOR), spiffe_id(STAFF_DOMAIN, AUDITOR), pb::Role::Auditor).await
    }

    /// Writes certificates for the callers of further platforms, under an authority of their own; what the configuration
    /// says of that.
    pub(super) fn write_further_callers(&self, platforms: &[String]) -> Result<AuthorityConfig, Failure> {
        let authority = Authority::new("development authority of further platforms")?;
        fs::write(self.dir.join("further-authority.pem"), authority.pem())?;
        for platform in platforms {
            for service in SERVICES {
                let issued = authority.client(&[&further_id(platform, service)])?;
                issued.write(&self.dir, &further_caller(platform, service))?;
            }
        }
        Ok(AuthorityConfig {
            trust_domain: FURTHER_DOMAIN.to_owned(),
            certificates: "further-authority.pem".into(),
            staff: false,
        })
    }

    /// Makes a further platform with the same policy under its own name, and writes its callers' connections.
    pub(super) async fn make_further(
        &self,
        clock: &Clock,
        server: SocketAddr,
        platform: &str,
    ) -> Result<(), Failure> {
        let officer = connect(&self.connection(OFFICER)?).await?;
        let (own, named) = (format!("name = \"{PLATFORM}\""), format!("name = \"{platform}\""));
        let policy = POLICY.replacen(&own, &named, 1);
        make_platform(&officer, clock, &policy, |service| further_id(platform, service)).await?;
        for service in SERVICES {
            let caller = further_caller(platform, service);
            self.write_connection(&caller, server, &caller)?;
        }
        Ok(())
    }
}

/// Trust domain of the callers of further platforms.
const FURTHER_DOMAIN: &str = "platforms.example.kz";

/// What files of a caller of a further platform are named by.
pub(super) fn further_caller(platform: &str, service: &str) -> String {
    format!("{platform}-{service}")
}

fn further_id(platform: &str, service: &str) -> String {
    spiffe_id(FURTHER_DOMAIN, &further_caller(platform, service))
}

/// Makes a platform with this policy, and enrols its callers.
async fn make_platform(
    officer: &Channel,
    clock: &Clock,
    text: &str,
    id_of: impl Fn(&str) -> String,
) -> Result<(), Failure> {
    let policy = Policy::parse(text)?.operator;
    let name = policy.name.to_string();
    let request = pb::CreatePlatformRequest {
        request_id: request_id_by(clock)?,
        name: name.clone(),
        legal_name: policy.legal_name,
        bin: policy.bin,
    };
    platforms(officer.clone()).create_platform(request).await.map_err(refused)?;
    let request = pb::ApplyPolicyRequest {
        request_id: request_id_by(clock)?,
        text: text.to_owned(),
        validate_only: false,
    };
    policies(officer.clone()).apply_policy(request).await.map_err(refused)?;
    for service in SERVICES {
        enrol(officer, clock, (&name, service), id_of(service), pb::Role::Service).await?;
    }
    Ok(())
}

async fn enrol(
    officer: &Channel,
    clock: &Clock,
    (platform, name): (&str, &str),
    spiffe_id: String,
    role: pb::Role,
) -> Result<(), Failure> {
    let request = pb::EnrolCallerRequest {
        request_id: request_id_by(clock)?,
        platform: platform.to_owned(),
        name: name.to_owned(),
        spiffe_id,
        roles: vec![role.into()],
        ..pb::EnrolCallerRequest::default()
    };
    platforms(officer.clone()).enrol_caller(request).await.map(drop).map_err(refused)
}

impl Running {
    /// Stops serving, after running calls have ended.
    ///
    /// # Errors
    /// [`Failure`].
    pub async fn stop(self) -> Result<(), Failure> {
        // An error means that the server has ended by itself; its own result says why.
        let _sent = self.stop.send(());
        self.server.await?
    }
}
