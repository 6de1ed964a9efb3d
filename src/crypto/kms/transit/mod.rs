//! Root keys in the transit engine of OpenBao or Vault: it wraps and unwraps, and gives no key away.
//!
//! Versions of the root key are the engine's own. The active one is its `min_encryption_version`: one write changes it,
//! and from then on the engine itself refuses to wrap under an older one, also for a process that does not know yet. A
//! rotation alone therefore changes nothing. What the engine answers (`vault:vN:` and base64 of nonce, ciphertext and
//! tag) is kept in the vault's own form of a wrap, which names N too, and is bound to its place by `associated_data`.

mod client;

use std::{collections::BTreeMap, sync::Arc};

use data_encoding::BASE64;
use reqwest::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use super::{Kms, KmsError, RootVersions, SecretSource};
use crate::{
    crypto::aead::{self, Key, OpenError},
    domain::{canonical::Canonical, rng::Rng, secret::Sealed, territory::Territory, time::Clock},
};
use client::Transport;

/// The one kind of transit key that a root key may be.
const KEY_TYPE: &str = "aes256-gcm96";

/// Where the engine is, and how the vault is let in.
pub struct TransitOptions {
    /// `https://host:port`
    pub address: String,
    /// Roots of the server's certificate, PEM; none only where the address is plain HTTP on loopback.
    pub authority: Option<Vec<u8>>,
    /// Path of the engine, such as `transit`.
    pub mount: String,
    /// Name of the key.
    pub key: String,
    /// How the vault is let in.
    pub login: Login,
    /// Where the engine may be.
    pub territory: Arc<dyn Territory>,
}

/// How the vault gets a token.
pub enum Login {
    /// From a file, which somebody else may keep fresh.
    TokenFile(SecretSource),
    /// Against the service account's JWT.
    Kubernetes {
        /// Path of the method, such as `kubernetes`.
        mount: String,
        /// The role.
        role: String,
        /// The JWT.
        jwt: SecretSource,
    },
}

/// Root keys in a transit engine.
pub struct TransitKms {
    place: String,
    mount: String,
    key: String,
    transport: Transport,
}

/// A transit key as the engine describes it.
#[derive(Deserialize)]
struct TransitKey {
    #[serde(rename = "type")]
    kind: String,
    latest_version: u32,
    #[serde(default)]
    min_available_version: u32,
    min_encryption_version: u32,
    #[serde(default)]
    exportable: bool,
    #[serde(default)]
    allow_plaintext_backup: bool,
    #[serde(default)]
    derived: bool,
}

impl TransitKey {
    fn versions(&self) -> Result<RootVersions, KmsError> {
        let wrong = if self.kind != KEY_TYPE {
            Some("is not of the type aes256-gcm96")
        } else if self.exportable || self.allow_plaintext_backup {
            Some("may leave the engine (exportable, allow_plaintext_backup)")
        } else if self.derived {
            Some("is derived")
        } else {
            None
        };
        if let Some(wrong) = wrong {
            return Err(KmsError::Unavailable(format!("the transit key {wrong}: it is no root key")));
        }
        let oldest = self.min_available_version.max(1);
        // Without a mark the oldest is active, so that a rotation by somebody else activates nothing.
        let active = if self.min_encryption_version == 0 { oldest } else { self.min_encryption_version };
        Ok(RootVersions { active, present: (oldest..=self.latest_version).collect() })
    }
}

#[derive(Serialize)]
struct Wrapping<'a> {
    plaintext: &'a str,
    associated_data: String,
    key_version: u32,
}

#[derive(Deserialize)]
struct Wrapped {
    ciphertext: String,
}

#[derive(Serialize)]
struct Unwrapping {
    ciphertext: String,
    associated_data: String,
}

#[derive(Deserialize, Zeroize, ZeroizeOnDrop)]
struct Unwrapped {
    plaintext: String,
}

impl TransitKms {
    /// An engine, which need not answer yet. The process must have a provider of TLS (`grpc::tls::install_provider`).
    ///
    /// # Errors
    /// [`KmsError::Unavailable`] where the roots do not parse.
    pub fn new(options: TransitOptions, clock: Arc<Clock>) -> Result<Self, KmsError> {
        let (mount, key) = (options.mount.clone(), options.key.clone());
        let place = format!("transit key {key} of {mount} at {}", options.address);
        Ok(Self { place, mount, key, transport: Transport::new(options, clock)? })
    }

    fn path(&self, action: &str) -> String {
        format!("{}/{action}/{}", self.mount, self.key)
    }

    async fn key(&self) -> Result<RootVersions, KmsError> {
        let answer = self.transport.ask::<()>(Method::GET, &self.path("keys"), None).await?;
        if answer.status == StatusCode::NOT_FOUND {
            return Err(KmsError::NoRoot);
        }
        answer.data::<TransitKey>()?.versions()
    }

    async fn change(&self, what: &str, body: &BTreeMap<&str, serde_json::Value>) -> Result<(), KmsError> {
        let path = format!("{}{what}", self.path("keys"));
        self.transport.ask(Method::POST, &path, Some(body)).await?.done()
    }

    async fn mark_active(&self, version: u32) -> Result<(), KmsError> {
        self.change("/config", &[("min_encryption_version", version.into())].into()).await
    }

    /// Why the engine refuses a wrap: it says 400 for all reasons, and its words are for people.
    async fn why_refused(&self, version: u32) -> KmsError {
        match self.key().await {
            Ok(versions) if versions.present.contains(&version) => KmsError::DoesNotOpen(OpenError::Forged),
            Ok(_) => KmsError::DoesNotOpen(OpenError::UnknownKeyVersion(version)),
            Err(error) => error,
        }
    }
}

#[async_trait::async_trait]
impl Kms for TransitKms {
    fn describe(&self) -> String {
        self.place.clone()
    }

    async fn wrap(&self, place: &Canonical, key: &Key, _rng: &dyn Rng) -> Result<Sealed, KmsError> {
        let version = self.key().await?.active;
        let plaintext = Zeroizing::new(BASE64.encode(key.expose()));
        let body = Wrapping {
            plaintext: &plaintext,
            associated_data: BASE64.encode(&aead::wrap_associated_data(version, place)),
            key_version: version,
        };
        let answer = self.transport.ask(Method::POST, &self.path("encrypt"), Some(&body)).await?;
        let wrapped: Wrapped = answer.data()?;
        let sealed = wrapped.ciphertext.strip_prefix(&format!("vault:v{version}:"));
        let sealed = sealed.and_then(|sealed| BASE64.decode(sealed.as_bytes()).ok());
        let unknown = || KmsError::Unavailable("the engine wrapped under another version".to_owned());
        Ok(aead::wrap_of(version, &sealed.ok_or_else(unknown)?))
    }

    async fn unwrap(&self, place: &Canonical, wrapped: &Sealed) -> Result<Key, KmsError> {
        let (version, sealed) = aead::wrap_body(wrapped).map_err(KmsError::DoesNotOpen)?;
        let body = Unwrapping {
            ciphertext: format!("vault:v{version}:{}", BASE64.encode(sealed)),
            associated_data: BASE64.encode(&aead::wrap_associated_data(version, place)),
        };
        let answer = self.transport.ask(Method::POST, &self.path("decrypt"), Some(&body)).await?;
        if answer.status == StatusCode::BAD_REQUEST {
            return Err(self.why_refused(version).await);
        }
        let opened: Unwrapped = answer.data()?;
        let malformed = || KmsError::DoesNotOpen(OpenError::Malformed);
        let bytes = BASE64.decode(opened.plaintext.as_bytes()).map_err(|_| malformed())?;
        let bytes = Zeroizing::new(bytes);
        let bytes: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| malformed())?;
        Ok(Key::from_bytes(bytes))
    }

    async fn make_first(&self, _rng: &dyn Rng) -> Result<(), KmsError> {
        match self.key().await {
            Err(KmsError::NoRoot) => {}
            Ok(_) => return Err(KmsError::Version { version: 1, problem: "is there already" }),
            Err(error) => return Err(error),
        }
        self.change("", &[("type", KEY_TYPE.into()), ("exportable", false.into())].into()).await?;
        self.mark_active(1).await
    }

    async fn versions(&self) -> Result<RootVersions, KmsError> {
        self.key().await
    }

    async fn add_version(&self, _rng: &dyn Rng) -> Result<u32, KmsError> {
        // Marked first: a key without a mark would wrap under its newest version for others.
        self.mark_active(self.key().await?.active).await?;
        self.change("/rotate", &BTreeMap::new()).await?;
        self.key().await?.present.last().copied().ok_or(KmsError::NoRoot)
    }

    async fn activate(&self, version: u32) -> Result<(), KmsError> {
        self.key().await?.require(version)?;
        self.mark_active(version).await
    }

    async fn destroy(&self, version: u32) -> Result<(), KmsError> {
        let versions = self.key().await?;
        versions.may_destroy(version)?;
        // The engine trims what is below all three marks. A destruction that stops between is taken up by the next.
        let marks = [
            ("min_encryption_version", versions.active.into()),
            ("min_decryption_version", (version + 1).into()),
        ];
        self.change("/config", &marks.into()).await?;
        self.change("/trim", &[("min_available_version", (version + 1).into())].into()).await
    }
}
