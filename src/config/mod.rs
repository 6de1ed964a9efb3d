//! Configuration files: the only reader of files and environment for the server and the clients.
//!
//! Unknown keys are refused, paths are relative to the file that names them, and files with secrets must not be
//! readable by others.

mod connection;
mod documents;
mod mirror;
mod options;
mod process;
mod residency;
mod risks;
mod root_key;
mod staff;
mod storage;
mod telemetry;
mod tls;

use std::{
    fs, io,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

pub use connection::{Connection, Credentials, TokenKeyConfig, TokenKeyName, TokenKeyPlace};
pub use documents::DocumentsConfig;
pub use mirror::MirrorConfig;
pub use options::{ErasureConfig, KeysConfig, RightsConfig, WarmRowsConfig};
pub use process::{HealthConfig, LimitsConfig, Own};
pub use residency::{AttestedConfig, ResidencyConfig, SiteConfig};
pub use risks::Risk;
pub use root_key::{
    LocalConfig, Pkcs11Config, RootKey, RootKeyConfig, SecretPlace, TransitConfig, TransitLogin, WrongRootKey,
};
use serde::{Deserialize, Serialize};
pub use staff::StaffConfig;
pub use storage::{BucketConfig, Storage, WebIdentityConfig};
pub use telemetry::{TelemetryConfig, TracesConfig, TracesPlace};
pub use tls::TlsFiles;
use zeroize::Zeroizing;

use crate::{
    domain::{
        caller::{Governance, Role},
        names::{PersonHandle, SpiffeId},
    },
    store::postgres::PostgresOptions,
    vault::{
        install::check_installation_name,
        officers::{Officer, check_officers},
        settings::{Settings, TrustDomain},
    },
};

/// Why a configuration is refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// A file could not be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: String,
        /// Why.
        source: io::Error,
    },
    /// Not TOML, or with keys that are not known.
    #[error("{path} does not parse: {source}")]
    Syntax {
        /// The file.
        path: String,
        /// Why.
        source: Box<toml::de::Error>,
    },
    /// Against a rule.
    #[error("{path}: {rule}")]
    Rule {
        /// The file.
        path: String,
        /// What is wrong and what would mend it.
        rule: String,
    },
}

/// The server's configuration, as in `docs/configuration.md`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Config {
    /// Settings that would be refused otherwise, each by name.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub accept_risks: Vec<Risk>,
    /// The installation.
    pub installation: InstallationConfig,
    /// Where and as whom to listen.
    pub server: ServerConfig,
    /// One authority for each SPIFFE trust domain.
    pub client_authority: Vec<AuthorityConfig>,
    /// The database.
    pub database: DatabaseConfig,
    /// The root key.
    pub root_key: RootKeyConfig,
    /// What each caller may ask of one process.
    #[serde(default)]
    pub limits: LimitsConfig,
    /// Where health and metrics are asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub health: Option<HealthConfig>,
    /// Who is told of calls.
    #[serde(default)]
    pub telemetry: TelemetryConfig,
    /// Where data stays.
    pub residency: ResidencyConfig,
    /// The mirror of the log.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mirror: Option<MirrorConfig>,
    /// Where backups go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backup: Option<BackupConfig>,
    /// Where documents lie.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub documents: Option<DocumentsConfig>,
    /// How subjects are erased.
    #[serde(default)]
    pub erasure: ErasureConfig,
    /// How keys are rotated.
    #[serde(default)]
    pub keys: KeysConfig,
    /// How requests of people are counted.
    #[serde(default)]
    pub rights: RightsConfig,
    /// What is kept in memory after a read.
    #[serde(default)]
    pub warm_rows: WarmRowsConfig,
    /// How many people a dangerous act needs.
    pub governance: GovernanceConfig,
    /// Whether the staff's keys live on hardware.
    pub staff: StaffConfig,
    /// The first officers; `init` enrols them, and nothing reads them afterwards.
    #[serde(default)]
    pub officer: Vec<OfficerConfig>,
    #[serde(skip)]
    path: PathBuf,
}

/// The installation.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct InstallationConfig {
    /// Its name, like a host name; it stands in the origin of every log and never changes.
    pub name: String,
}

/// Where and as whom to listen.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ServerConfig {
    /// Address and port.
    pub listen: SocketAddr,
    /// Certificate chain, PEM.
    pub certificate: PathBuf,
    /// Private key, PEM.
    pub key: PathBuf,
    /// Certificates that are refused; read again when it changes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub block_list: Option<PathBuf>,
    /// Seconds of `NOT_SERVING` before connections are drained at shutdown.
    #[serde(default = "default_lame_duck_seconds")]
    pub lame_duck_seconds: u64,
    /// Seconds that running calls may take to end after that.
    #[serde(default = "default_drain_seconds")]
    pub drain_seconds: u64,
}

const fn default_lame_duck_seconds() -> u64 {
    5
}

const fn default_drain_seconds() -> u64 {
    20
}

/// The authority of one trust domain.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct AuthorityConfig {
    /// Such as `lerna.kz`.
    pub trust_domain: String,
    /// Root certificates, PEM.
    pub certificates: PathBuf,
    /// Whether it is the staff's; platforms and staff never share one.
    #[serde(default)]
    pub staff: bool,
}

/// The database.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DatabaseConfig {
    /// File of the SQLite database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sqlite: Option<PathBuf>,
    /// URL of the PostgreSQL database, without a password: `postgres://user@host/database?sslmode=verify-full`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub postgres: Option<String>,
    /// File with the PostgreSQL password, where the server asks for one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub password_file: Option<PathBuf>,
    /// PostgreSQL connections that one process may hold.
    #[serde(default = "default_connections")]
    pub connections: u32,
}

const fn default_connections() -> u32 {
    8
}

/// The database that a configuration names.
#[derive(Debug, Clone)]
pub enum Database {
    /// A file.
    Sqlite(PathBuf),
    /// A server.
    Postgres(PostgresOptions),
}

/// Where backups go.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BackupConfig {
    /// Their directory, on another disk than the database.
    pub directory: PathBuf,
    /// Days after which no backup is restored any more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub horizon_days: Option<u32>,
}

/// How many people a dangerous act needs.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct GovernanceConfig {
    /// `two-person` or `single-officer`.
    pub mode: String,
    /// Hours in which a proposal can be approved.
    #[serde(default = "default_proposal_hours")]
    pub proposal_hours: u64,
}

const fn default_proposal_hours() -> u64 {
    24
}

/// A week.
const MAX_PROPOSAL_HOURS: u64 = 7 * 24;

/// One of the first officers.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct OfficerConfig {
    /// Such as a staff number; no name.
    pub handle: String,
    /// URI of the certificate.
    pub spiffe_id: String,
    /// Roles on the whole installation.
    pub roles: Vec<String>,
}

impl Config {
    /// Reads a configuration file and checks it.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let mut config: Self = parse_file(path)?;
        path.clone_into(&mut config.path);
        check_installation_name(&config.installation.name).map_err(|rule| config.rule(rule))?;
        if config.client_authority.is_empty() {
            return Err(config.rule("at least one [[client_authority]] is needed: nobody could call"));
        }
        config.settings()?;
        config.vault_options()?;
        config.root_key()?;
        config.check_health()?;
        config.check_traces()?;
        config.documents()?;
        config.check_mirror()?;
        config.check_sites()?;
        config.caller_limits()?;
        Ok(config)
    }

    /// The database.
    ///
    /// # Errors
    /// [`ConfigError`] where none or two are named, a password stands in the URL, or others may read the password.
    pub fn database(&self) -> Result<Database, ConfigError> {
        match (&self.database.sqlite, &self.database.postgres) {
            (Some(path), None) => Ok(Database::Sqlite(self.resolve(path))),
            (None, Some(url)) => {
                let host = url.split_once("://").map_or("", |(_, rest)| rest);
                let user =
                    host.split('/').next().unwrap_or_default().rsplit_once('@').map_or("", |(user, _)| user);
                if user.contains(':') || url.contains("password=") {
                    return Err(self.rule("database.postgres must not hold a password; name a password_file"));
                }
                let password = self.database.password_file.as_ref().map(|file| {
                    let file = self.resolve(file);
                    refuse_readable_by_others(&file)?;
                    Ok::<_, ConfigError>(Zeroizing::new(
                        read_text(&file)?.trim_end_matches(['\r', '\n']).to_owned(),
                    ))
                });
                let password = password.transpose()?;
                let connections = self.database.connections;
                Ok(Database::Postgres(PostgresOptions { url: url.clone(), password, connections }))
            }
            _ => Err(self.rule("[database] names either `sqlite` or `postgres`")),
        }
    }

    /// A path of this configuration.
    #[must_use]
    pub fn resolve(&self, path: &Path) -> PathBuf {
        beside(&self.path, path)
    }

    /// Text of a file of this configuration.
    ///
    /// # Errors
    /// [`ConfigError::Read`].
    pub fn read(&self, path: &Path) -> Result<String, ConfigError> {
        read_text(&self.resolve(path))
    }

    /// Refuses root key files that others may read.
    ///
    /// # Errors
    /// [`ConfigError::Rule`].
    pub fn check_root_key_files(&self) -> Result<(), ConfigError> {
        root_key::check_files(&self.root_key()?)
    }

    /// What use cases need to know: trust domains, and how many people a dangerous act needs.
    ///
    /// # Errors
    /// [`ConfigError::Rule`].
    pub fn settings(&self) -> Result<Settings, ConfigError> {
        let mode = self.governance.mode.parse::<Governance>();
        let governance = mode.map_err(|_| {
            self.rule("governance.mode must be \"two-person\", or \"single-officer\" where one person is to do alone what should take two")
        })?;
        let hours = self.governance.proposal_hours;
        if !(1..=MAX_PROPOSAL_HOURS).contains(&hours) {
            let rule = format!("governance.proposal_hours must be from 1 to {MAX_PROPOSAL_HOURS}");
            return Err(self.rule(&rule));
        }
        let domain = |a: &AuthorityConfig| TrustDomain { name: a.trust_domain.clone(), staff: a.staff };
        Ok(Settings {
            domains: self.client_authority.iter().map(domain).collect(),
            governance,
            proposal_time: Duration::from_hours(hours),
            hardware_keys: self.hardware_keys(governance)?,
            absent_up_to: self.staff.absent_up_to_subjects,
            calendar: Arc::new(self.calendar()?),
        })
    }

    /// The risks that this configuration takes, all of them accepted.
    ///
    /// # Errors
    /// [`ConfigError::Rule`] names each that is not accepted.
    pub fn risks(&self) -> Result<Vec<Risk>, ConfigError> {
        risks::accepted(self)
    }

    /// The first officers.
    ///
    /// # Errors
    /// [`ConfigError::Rule`].
    pub fn officers(&self) -> Result<Vec<Officer>, ConfigError> {
        let parse = |officer: &OfficerConfig| {
            let wrong =
                |rule: &dyn std::fmt::Display| self.rule(&format!("officer {}: {rule}", officer.handle));
            let roles = officer.roles.iter().map(|role| role.parse::<Role>().map_err(|e| wrong(&e)));
            Ok(Officer {
                handle: officer.handle.parse::<PersonHandle>().map_err(|e| wrong(&e))?,
                spiffe_id: officer.spiffe_id.parse::<SpiffeId>().map_err(|e| wrong(&e))?,
                roles: roles.collect::<Result<_, ConfigError>>()?,
            })
        };
        let officers = self.officer.iter().map(parse).collect::<Result<Vec<_>, ConfigError>>()?;
        check_officers(&officers, self.settings()?.governance).map_err(|rule| self.rule(rule))?;
        Ok(officers)
    }

    fn rule(&self, rule: &str) -> ConfigError {
        ConfigError::Rule { path: self.path.display().to_string(), rule: rule.to_owned() }
    }
}

/// What the environment says of logs: `SANDYQ_LOG`, in the syntax of `tracing`'s filters.
#[expect(clippy::disallowed_methods, reason = "the one reader of the environment")]
#[must_use]
pub fn log_filter() -> Option<String> {
    std::env::var("SANDYQ_LOG").ok()
}

fn beside(file: &Path, path: &Path) -> PathBuf {
    file.parent().unwrap_or(Path::new("")).join(path)
}

fn read_text(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::Read { path: path.display().to_string(), source })
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, ConfigError> {
    fs::read(path).map_err(|source| ConfigError::Read { path: path.display().to_string(), source })
}

fn parse_file<T: serde::de::DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    toml::from_str(&read_text(path)?)
        .map_err(|source| ConfigError::Syntax { path: path.display().to_string(), source: Box::new(source) })
}

#[cfg(unix)]
fn refuse_readable_by_others(path: &Path) -> Result<(), ConfigError> {
    use std::os::unix::fs::PermissionsExt as _;
    let metadata = fs::metadata(path)
        .map_err(|source| ConfigError::Read { path: path.display().to_string(), source })?;
    if metadata.permissions().mode().is_multiple_of(0o10) {
        return Ok(());
    }
    Err(ConfigError::Rule {
        path: path.display().to_string(),
        rule: "others may read this secret; `chmod o-rwx` it".to_owned(),
    })
}

#[cfg(not(unix))]
fn refuse_readable_by_others(_path: &Path) -> Result<(), ConfigError> {
    Ok(())
}
