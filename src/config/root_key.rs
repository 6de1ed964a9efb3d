//! `[root_key]`: where the root key lives, one of three kinds.

use std::{
    fmt,
    net::IpAddr,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Config, ConfigError, read_text, refuse_readable_by_others};

/// The root key, by `kind`; without one it is `local`.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(try_from = "toml::Table", tag = "kind", rename_all = "lowercase")]
pub enum RootKeyConfig {
    /// In two files.
    Local(LocalConfig),
    /// In a hardware security module.
    Pkcs11(Pkcs11Config),
    /// In the transit engine of OpenBao or Vault.
    Transit(TransitConfig),
}

/// The root key in two files.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct LocalConfig {
    /// Sealed root keys.
    pub file: PathBuf,
    /// The key that unseals them. Belongs on another medium.
    pub unseal_key: PathBuf,
}

/// The root key in a hardware security module.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Pkcs11Config {
    /// The module's library.
    pub module: PathBuf,
    /// Label of the token.
    pub token: String,
    /// Label of the root key; its versions are labelled `<label>-vN`.
    pub label: String,
    /// File with the user's PIN …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin_file: Option<PathBuf>,
    /// … or name of the environment variable that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin_env: Option<String>,
}

/// The root key in the transit engine of OpenBao or Vault.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TransitConfig {
    /// `https://host:port`; plain HTTP on loopback only.
    pub address: String,
    /// Roots of the server's certificate, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<PathBuf>,
    /// Path of the engine.
    #[serde(default = "default_mount")]
    pub mount: String,
    /// Name of the key.
    pub key: String,
    /// File with a token …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub token_file: Option<PathBuf>,
    /// … or a role of the Kubernetes method.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes_role: Option<String>,
    /// File with the service account's JWT.
    #[serde(default = "default_jwt_file")]
    pub kubernetes_jwt_file: PathBuf,
    /// Path of the Kubernetes method.
    #[serde(default = "default_kubernetes_mount")]
    pub kubernetes_mount: String,
}

fn default_mount() -> String {
    "transit".to_owned()
}

fn default_kubernetes_mount() -> String {
    "kubernetes".to_owned()
}

fn default_jwt_file() -> PathBuf {
    "/var/run/secrets/kubernetes.io/serviceaccount/token".into()
}

/// Why `[root_key]` is refused.
#[derive(Debug)]
pub struct WrongRootKey(String);

impl fmt::Display for WrongRootKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[root_key] {}", self.0)
    }
}

impl TryFrom<toml::Table> for RootKeyConfig {
    type Error = WrongRootKey;

    fn try_from(mut table: toml::Table) -> Result<Self, WrongRootKey> {
        let kind = table.remove("kind").unwrap_or_else(|| "local".into());
        let table = toml::Value::Table(table);
        let read = match kind.as_str() {
            Some("local") => table.try_into().map(Self::Local),
            Some("pkcs11") => table.try_into().map(Self::Pkcs11),
            Some("transit") => table.try_into().map(Self::Transit),
            _ => return Err(WrongRootKey("kind must be \"local\", \"pkcs11\" or \"transit\"".to_owned())),
        };
        read.map_err(|error| WrongRootKey(format!("of kind {kind}: {}", error.message())))
    }
}

/// Where a secret stands. It is read each time that it is needed.
#[derive(Debug, Clone)]
pub enum SecretPlace {
    /// A file that others must not read.
    File(PathBuf),
    /// A file that the platform mounts for this process, with modes of its own.
    Mounted(PathBuf),
    /// A variable of the environment.
    Variable(String),
}

impl SecretPlace {
    /// Where a token's PIN stands; none unless exactly one place is named.
    pub(super) fn pin(
        file: Option<&Path>,
        variable: Option<&str>,
        resolve: impl FnOnce(&Path) -> PathBuf,
    ) -> Option<Self> {
        match (file, variable) {
            (Some(file), None) => Some(Self::File(resolve(file))),
            (None, Some(name)) => Some(Self::Variable(name.to_owned())),
            _ => None,
        }
    }

    /// The secret, without the line's end.
    ///
    /// # Errors
    /// [`ConfigError`], also where others may read the file.
    pub fn read(&self) -> Result<Zeroizing<String>, ConfigError> {
        let text = match self {
            Self::File(path) => {
                refuse_readable_by_others(path)?;
                Zeroizing::new(read_text(path)?)
            }
            Self::Mounted(path) => Zeroizing::new(read_text(path)?),
            Self::Variable(name) => Zeroizing::new(variable(name)?),
        };
        Ok(Zeroizing::new(text.trim_end_matches(['\r', '\n']).to_owned()))
    }
}

#[expect(clippy::disallowed_methods, reason = "config is the one reader of the environment")]
fn variable(name: &str) -> Result<String, ConfigError> {
    std::env::var(name).map_err(|_| ConfigError::Rule {
        path: format!("environment variable {name}"),
        rule: "it is not set, or is no text".to_owned(),
    })
}

/// The root key as configured, with paths resolved.
#[derive(Debug, Clone)]
pub enum RootKey {
    /// In two files.
    Local {
        /// Sealed root keys.
        file: PathBuf,
        /// The key that unseals them.
        unseal_key: PathBuf,
    },
    /// In a hardware security module.
    Pkcs11 {
        /// The module's library.
        module: PathBuf,
        /// Label of the token.
        token: String,
        /// Label of the root key.
        label: String,
        /// The user's PIN.
        pin: SecretPlace,
    },
    /// In the transit engine of OpenBao or Vault.
    Transit {
        /// Where it answers.
        address: String,
        /// Roots of its certificate, PEM.
        authority: Option<Vec<u8>>,
        /// Path of the engine.
        mount: String,
        /// Name of the key.
        key: String,
        /// How the vault is let in.
        login: TransitLogin,
    },
}

/// How the vault gets a token.
#[derive(Debug, Clone)]
pub enum TransitLogin {
    /// From a file.
    Token(SecretPlace),
    /// Against the service account's JWT.
    Kubernetes {
        /// Path of the method.
        mount: String,
        /// The role.
        role: String,
        /// The JWT.
        jwt: SecretPlace,
    },
}

impl Config {
    /// Where the root key lives.
    ///
    /// # Errors
    /// [`ConfigError::Rule`] where the way in is missing or named twice, or the connection would not be protected.
    pub fn root_key(&self) -> Result<RootKey, ConfigError> {
        Ok(match &self.root_key {
            RootKeyConfig::Local(local) => RootKey::Local {
                file: self.resolve(&local.file),
                unseal_key: self.resolve(&local.unseal_key),
            },
            RootKeyConfig::Pkcs11(config) => RootKey::Pkcs11 {
                module: self.resolve(&config.module),
                token: config.token.clone(),
                label: config.label.clone(),
                pin: SecretPlace::pin(config.pin_file.as_deref(), config.pin_env.as_deref(), |file| {
                    self.resolve(file)
                })
                .ok_or_else(|| self.rule("[root_key] names either `pin_file` or `pin_env`"))?,
            },
            RootKeyConfig::Transit(config) => self.transit(config)?,
        })
    }

    fn transit(&self, config: &TransitConfig) -> Result<RootKey, ConfigError> {
        match (config.address.strip_prefix("http://"), &config.authority) {
            (Some(host), None) if is_loopback(host) => {}
            (None, Some(_)) if config.address.starts_with("https://") => {}
            (None, None) if config.address.starts_with("https://") => {
                let rule =
                    "root_key.authority is missing: the file with the roots of the server's certificate";
                return Err(self.rule(rule));
            }
            _ => {
                let rule = "root_key.address must begin with https://, or be plain HTTP on loopback, which has no \
                            authority";
                return Err(self.rule(rule));
            }
        }
        for (key, path) in
            [("mount", &config.mount), ("key", &config.key), ("kubernetes_mount", &config.kubernetes_mount)]
        {
            let allowed = |part: &str| part.bytes().all(|b| b.is_ascii_alphanumeric() || b"._-".contains(&b));
            if !path.split('/').all(|part| !part.is_empty() && !part.starts_with('.') && allowed(part)) {
                return Err(
                    self.rule(&format!("root_key.{key} must be a path of letters, digits, `.`, `_`, `-`"))
                );
            }
        }
        let login = match (&config.token_file, &config.kubernetes_role) {
            (Some(file), None) => TransitLogin::Token(SecretPlace::File(self.resolve(file))),
            (None, Some(role)) => TransitLogin::Kubernetes {
                mount: config.kubernetes_mount.clone(),
                role: role.clone(),
                jwt: SecretPlace::Mounted(self.resolve(&config.kubernetes_jwt_file)),
            },
            _ => return Err(self.rule("[root_key] names either `token_file` or `kubernetes_role`")),
        };
        let authority = config.authority.as_ref().map(|file| self.read(file)).transpose()?;
        Ok(RootKey::Transit {
            address: config.address.clone(),
            authority: authority.map(String::into_bytes),
            mount: config.mount.clone(),
            key: config.key.clone(),
            login,
        })
    }
}

fn is_loopback(host: &str) -> bool {
    let host = host.split('/').next().unwrap_or_default();
    let name = host.rsplit_once(':').map_or(host, |(name, _)| name).trim_matches(['[', ']']);
    name == "localhost" || name.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// Refuses root key files that others may read. Whether they are there at all is for the KMS to say.
pub(super) fn check_files(root_key: &RootKey) -> Result<(), ConfigError> {
    let RootKey::Local { file, unseal_key } = root_key else { return Ok(()) };
    for path in [file, unseal_key] {
        if path.exists() {
            refuse_readable_by_others(path)?;
        }
    }
    Ok(())
}
