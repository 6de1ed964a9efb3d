//! An installation of the bench's own: files in a temporary directory, a server over its database, and a platform with
//! one of the source policies.

use std::{
    collections::BTreeMap,
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
};

use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use super::{Failure, bare, process::Served};
use crate::{
    cli::{
        client::{connect, policies, request_id},
        init::init,
        local::{LocalInstallation, OFFICER, policy_with_images},
        output::{exit, refused},
    },
    config::{Config, DatabaseConfig, LimitsConfig, Risk},
    domain::time::Clock,
    grpc::pb,
    store::ceiling::Ceiling,
};

/// Names of the processes that share a mirror.
const FIRST: &str = "bench-1";
pub(super) const SECOND: &str = "bench-2";

/// Which database, as the arguments name it.
pub(super) enum Place<'a> {
    Sqlite,
    Postgres { url: &'a str, password_file: Option<&'a Path> },
}

/// What an installation has that not every scenario asks for.
#[expect(clippy::struct_excessive_bools, reason = "each is a choice of its own")]
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Wants {
    /// A purpose for images.
    pub(super) images: bool,
    /// So many platforms beside the first.
    pub(super) further: u32,
    /// A mirror that a second process shares.
    pub(super) replicas: bool,
    /// The limits of callers that a vault has where nothing is said of them.
    pub(super) limits: bool,
    /// Nothing is kept after a read.
    pub(super) cold: bool,
}

/// The installation, served.
pub(super) struct House {
    pub(super) installation: LocalInstallation,
    pub(super) served: Served,
    /// The database without its vault.
    pub(super) ceiling: Ceiling,
    /// What was asked for.
    pub(super) wants: Wants,
    /// Platforms beside the first.
    pub(super) further: Vec<String>,
    /// MiB that all streams of documents share.
    pub(super) documents_mib: u32,
    // Last: it is removed when no process has it open.
    _dir: tempfile::TempDir,
}

impl House {
    /// Makes an installation and serves it.
    pub(super) async fn build(
        place: &Place<'_>,
        within: Option<&Path>,
        wants: Wants,
    ) -> Result<Self, Failure> {
        let mut builder = tempfile::Builder::new();
        builder.prefix("sandyq-bench-");
        let dir = within.map_or_else(|| builder.tempdir(), |within| builder.tempdir_in(within))?;
        let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
        let installation = LocalInstallation::create(&dir.path().join("installation"), loopback)?;
        let mut config = configure(installation.config()?, place, wants)?;
        let further: Vec<_> = (1..=wants.further).map(|number| format!("further_{number}")).collect();
        if !further.is_empty() {
            config.client_authority.push(installation.write_further_callers(&further)?);
        }
        if let (true, Some(mirror)) = (wants.replicas, &mut config.mirror) {
            mirror.shared = true;
            mirror.replica = Some(FIRST.parse()?);
        }
        fs::write(installation.config_path(), toml::to_string(&config)?)?;
        let config = installation.config()?;
        init(&config, Arc::default()).await.map_err(|failure| {
            Failure::new(exit::FAILED, format!("{} (a bench wants an empty database)", failure.message()))
        })?;
        let served = Served::start(&installation.config_path(), None).await?;
        installation.write_connections(served.address)?;
        installation.provision(&Clock::default()).await?;
        for platform in &further {
            installation.make_further(&Clock::default(), served.address, platform).await?;
        }
        if wants.images {
            apply(policy_with_images(), &installation).await?;
        }
        let documents_mib = config.documents()?.unwrap_or_default();
        Ok(Self {
            installation,
            served,
            ceiling: bare::ceiling(&config).await?,
            wants,
            further,
            documents_mib,
            _dir: dir,
        })
    }

    pub(super) fn config_path(&self) -> PathBuf {
        self.installation.config_path()
    }

    /// A file for tokens.
    pub(super) fn tokens(&self) -> PathBuf {
        self.installation.dir().join("tokens")
    }

    /// The same for tokens that nobody asks for.
    pub(super) fn tokens_of_others(&self) -> PathBuf {
        self.installation.dir().join("tokens-of-others")
    }

    /// The same for tokens of a platform beside the first.
    pub(super) fn tokens_of(&self, platform: &str) -> PathBuf {
        self.installation.dir().join(format!("tokens-of-{platform}"))
    }

    /// Commits that the vault has made so far.
    pub(super) async fn commits(&self) -> Result<u64, Failure> {
        commits_of(self.served.health).await
    }
}

/// Commits that a process has made so far.
pub(super) async fn commits_of(health: SocketAddr) -> Result<u64, Failure> {
    let text = metrics(health).await?;
    Ok(samples(&text, "sandyq_lane_commits_total").get("outcome=\"committed\"").copied().unwrap_or(0))
}

/// Makes a text the policy's next version.
async fn apply(text: String, installation: &LocalInstallation) -> Result<(), Failure> {
    let officer = connect(&installation.connection(OFFICER)?).await?;
    let request = pb::ApplyPolicyRequest { request_id: request_id()?, text, validate_only: false };
    policies(officer).apply_policy(request).await.map(drop).map_err(refused)
}

/// The configuration over the bench's database. Limits of callers are lifted where they are not what is measured, since one
/// caller is all the load here; and its one officer has no hardware key, however many synthetic people there are.
fn configure(mut config: Config, place: &Place<'_>, wants: Wants) -> Result<Config, Failure> {
    config.staff.absent_up_to_subjects = u64::MAX >> 2;
    if !wants.limits {
        config.limits = LimitsConfig { calls_at_once: 65_536, calls_per_second: 10_000_000 };
    }
    if wants.cold {
        config.warm_rows.rows = 0;
    }
    if let Place::Postgres { url, password_file } = place {
        config.accept_risks.retain(|risk| *risk != Risk::MirrorBesideDatabase);
        config.database = DatabaseConfig {
            sqlite: None,
            postgres: Some((*url).to_owned()),
            password_file: password_file.map(Path::canonicalize).transpose()?,
            connections: config.database.connections,
        };
        if let crate::config::Database::Postgres(options) = config.database()?
            && !options.verifies_server()?
        {
            config.accept_risks.push(Risk::DatabaseNotVerified);
        }
    }
    Ok(config)
}

/// What a process answers of its metrics.
async fn metrics(address: SocketAddr) -> Result<String, Failure> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    Ok(answer)
}

/// Whole numbers of a metric by their labels.
fn samples(text: &str, name: &str) -> BTreeMap<String, u64> {
    let lines = text.lines().filter_map(|line| line.strip_prefix(name)?.strip_prefix('{'));
    lines
        .filter_map(|line| {
            let (labels, value) = line.split_once("} ")?;
            Some((labels.to_owned(), value.trim().parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_metric_is_found_by_its_labels() {
        let text = "# TYPE a counter\na{x=\"1\"} 7\na{x=\"2\"} 8\nab{x=\"1\"} 9\n";
        let found = samples(text, "a");
        assert_eq!((found.len(), found["x=\"1\""], found["x=\"2\""]), (2, 7, 8));
    }
}
