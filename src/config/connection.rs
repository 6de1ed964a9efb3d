//! The connection file of the command: where the vault is, and who calls.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{ConfigError, beside, parse_file, read_text, refuse_readable_by_others, root_key::SecretPlace};

/// How a client reaches the vault, and as whom.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct Connection {
    /// `https://host:port`
    pub target: String,
    /// Name in the server's certificate, where it is not the target's host.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub server_name: Option<String>,
    /// Roots of the server's certificate, PEM.
    pub server_authority: PathBuf,
    /// The client's certificate chain, PEM; with `[pkcs11]` it may be the token's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub certificate: Option<PathBuf>,
    /// Its private key, PEM …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<PathBuf>,
    /// … or where that key lives, if not in a file.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pkcs11: Option<TokenKeyConfig>,
    /// The file that it was read from.
    #[serde(skip)]
    pub file: PathBuf,
}

/// A private key in a token.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TokenKeyConfig {
    /// The module's library.
    pub module: PathBuf,
    /// Label of the token.
    pub token: String,
    /// Label of the key …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub label: Option<String>,
    /// … or its id, in hexadecimal digits.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// File with the user's PIN …
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin_file: Option<PathBuf>,
    /// … or name of the environment variable that holds it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pin_env: Option<String>,
}

/// Who calls: a certificate and its key.
pub enum Credentials {
    /// Both in files, PEM.
    Files {
        /// The chain, PEM.
        certificate: String,
        /// Its private key, PEM.
        key: Zeroizing<String>,
    },
    /// The key in a token, which signs with it.
    Token {
        /// The chain, PEM; none where the token holds the certificate.
        certificate: Option<String>,
        /// Where the key is.
        key: TokenKeyPlace,
    },
}

/// Where a key in a token is.
#[derive(Debug, Clone)]
pub struct TokenKeyPlace {
    /// The module's library.
    pub module: PathBuf,
    /// Label of the token.
    pub token: String,
    /// Which of its keys.
    pub name: TokenKeyName,
    /// The user's PIN.
    pub pin: SecretPlace,
}

/// How a key is found in its token.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum TokenKeyName {
    /// By its label.
    Label(String),
    /// By its id.
    Id(Vec<u8>),
}

impl Connection {
    /// Reads a connection file.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let mut connection: Self = parse_file(path)?;
        path.clone_into(&mut connection.file);
        connection.server_authority = beside(path, &connection.server_authority);
        for file in [&mut connection.certificate, &mut connection.key].into_iter().flatten() {
            *file = beside(path, file);
        }
        Ok(connection)
    }

    /// Roots of the server's certificate, PEM.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn authority(&self) -> Result<String, ConfigError> {
        read_text(&self.server_authority)
    }

    /// Certificate and key.
    ///
    /// # Errors
    /// [`ConfigError`], also where others may read a key file, or the key is named twice or not at all.
    pub fn credentials(&self) -> Result<Credentials, ConfigError> {
        let certificate = self.certificate.as_deref().map(read_text).transpose()?;
        match (&self.key, &self.pkcs11) {
            (Some(key), None) => {
                let certificate = certificate.ok_or_else(|| self.rule("`certificate` is missing"))?;
                refuse_readable_by_others(key)?;
                Ok(Credentials::Files { certificate, key: Zeroizing::new(read_text(key)?) })
            }
            (None, Some(config)) => Ok(Credentials::Token { certificate, key: self.token_key(config)? }),
            _ => Err(self.rule("names either `key`, a file, or `[pkcs11]`, a key in a token")),
        }
    }

    fn token_key(&self, config: &TokenKeyConfig) -> Result<TokenKeyPlace, ConfigError> {
        let name = match (&config.label, &config.id) {
            (Some(label), None) => TokenKeyName::Label(label.clone()),
            (None, Some(id)) => match data_encoding::HEXLOWER_PERMISSIVE.decode(id.as_bytes()) {
                Ok(id) if !id.is_empty() => TokenKeyName::Id(id),
                Ok(_) | Err(_) => return Err(self.rule("pkcs11.id must be pairs of hexadecimal digits")),
            },
            _ => return Err(self.rule("[pkcs11] names either `label` or `id` of the key")),
        };
        let pin = SecretPlace::pin(config.pin_file.as_deref(), config.pin_env.as_deref(), |file| {
            beside(&self.file, file)
        })
        .ok_or_else(|| self.rule("[pkcs11] names either `pin_file` or `pin_env`"))?;
        let module = beside(&self.file, &config.module);
        Ok(TokenKeyPlace { module, token: config.token.clone(), name, pin })
    }

    fn rule(&self, rule: &str) -> ConfigError {
        ConfigError::Rule { path: self.file.display().to_string(), rule: rule.to_owned() }
    }
}
