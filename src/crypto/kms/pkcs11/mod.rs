//! Root keys in a hardware security module, through PKCS#11: AES-256 keys that never leave it.
//!
//! Version `N` of the root key is the key labelled `<label>-vN`. The active one is the one whose `CKA_ID` bears the
//! highest activation number (`sandyq-active`, then eight bytes, big-endian), so that activating is one
//! `C_SetAttributeValue`: at no moment are there two active versions or none. Where no key is marked, as after a key
//! ceremony, the lowest version is active, and one that is added changes nothing.

mod module;
pub mod signing;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
    time::Duration,
};

use cryptoki::{
    error::{Error, RvError},
    mechanism::{Mechanism, aead::GcmParams},
    object::{Attribute, AttributeType, KeyType, ObjectClass, ObjectHandle},
};
use tokio::{sync::Semaphore, time::timeout};
use zeroize::Zeroizing;

use super::{Kms, KmsError, RootVersions, SecretSource};
use crate::{
    crypto::aead::{self, Key, NONCE_BYTES, OpenError},
    domain::{canonical::Canonical, rng::Rng, secret::Sealed},
};
use module::{Access, Module, Token, Trouble};

/// Calls of a module at once: each blocks a thread.
const CALLS_AT_ONCE: usize = 4;
/// How long one call may take, waiting for its turn too.
const LIMIT: Duration = Duration::from_secs(10);
const TAG_BITS: u64 = 128;
/// A key and its tag. Nothing else is given to a module, which may take lengths on trust.
const SEALED_BYTES: usize = 32 + 16;
const ACTIVE_MARK: &[u8] = b"sandyq-active";

/// Where the root key is, and how the vault is let in.
pub struct Pkcs11Options {
    /// The module's library.
    pub module: PathBuf,
    /// Label of the token.
    pub token: String,
    /// Label of the root key, without `-vN`.
    pub label: String,
    /// The user's PIN.
    pub pin: SecretSource,
}

/// Root keys in a token.
pub struct Pkcs11Kms {
    place: String,
    root: Arc<Root>,
    turns: Arc<Semaphore>,
}

struct Root {
    token: Token,
    label: String,
}

/// One version of the root key.
#[derive(Clone, Copy)]
struct Version {
    key: ObjectHandle,
    /// Zero where it was never activated.
    activation: u64,
}

impl Pkcs11Kms {
    /// Loads the module. The token need not be there yet.
    ///
    /// # Errors
    /// [`KmsError::Unavailable`] where the module does not load.
    pub fn new(options: Pkcs11Options) -> Result<Self, KmsError> {
        let Pkcs11Options { module, token, label, pin } = options;
        let place = format!("PKCS#11 key {label} in token {token} of {}", module.display());
        let module = Module::load(Path::new(&module))?;
        let token = Token { module, label: token, pin, refused_pin: Mutex::default() };
        let root = Arc::new(Root { token, label });
        Ok(Self { place, root, turns: Arc::new(Semaphore::new(CALLS_AT_ONCE)) })
    }

    /// Runs `work` in a session, on a thread that may block.
    async fn run<T: Send + 'static>(
        &self,
        write: bool,
        work: impl Fn(&Root, &Access<'_>) -> Result<T, Trouble> + Send + 'static,
    ) -> Result<T, KmsError> {
        let done = async {
            // Held by the thread: a module that hangs takes a few threads, and no more.
            let turn = Arc::clone(&self.turns).acquire_owned().await;
            let root = Arc::clone(&self.root);
            tokio::task::spawn_blocking(move || {
                let _turn = turn;
                root.token.run(write, &|access| work(&root, access))
            })
            .await
        };
        match timeout(LIMIT, done).await {
            Ok(Ok(done)) => done,
            Ok(Err(error)) => Err(KmsError::unavailable("the PKCS#11 module's thread ended", &error)),
            Err(_) => Err(KmsError::Unavailable(format!("no answer within {} s", LIMIT.as_secs()))),
        }
    }
}

#[async_trait::async_trait]
impl Kms for Pkcs11Kms {
    fn describe(&self) -> String {
        self.place.clone()
    }

    /// The nonce is the token's: it may not let a caller choose one.
    async fn wrap(&self, place: &Canonical, key: &Key, _rng: &dyn Rng) -> Result<Sealed, KmsError> {
        let (place, key) = (place.clone(), Zeroizing::new(*key.expose()));
        self.run(false, move |root, access| {
            let (versions, active) = root.versions(access)?;
            let version = versions.get(&active).ok_or(KmsError::NoRoot)?;
            let aad = aead::wrap_associated_data(active, &place);
            let mut nonce = [0_u8; NONCE_BYTES];
            access.session.generate_random_slice(&mut nonce)?;
            let cipher = Mechanism::AesGcm(GcmParams::new(&mut nonce, &aad, TAG_BITS.into())?);
            let sealed = access.session.encrypt(&cipher, version.key, key.as_slice())?;
            Ok(aead::wrap_of(active, &[&nonce, sealed.as_slice()].concat()))
        })
        .await
    }

    async fn unwrap(&self, place: &Canonical, wrapped: &Sealed) -> Result<Key, KmsError> {
        let (version, body) = aead::wrap_body(wrapped).map_err(KmsError::DoesNotOpen)?;
        let (nonce, sealed) = body
            .split_first_chunk::<NONCE_BYTES>()
            .filter(|(_, sealed)| sealed.len() == SEALED_BYTES)
            .ok_or(KmsError::DoesNotOpen(OpenError::Malformed))?;
        let (nonce, sealed) = (*nonce, sealed.to_vec());
        let aad = aead::wrap_associated_data(version, place);
        self.run(false, move |root, access| {
            let key = root.find(access, version)?;
            let mut nonce = nonce;
            let cipher = Mechanism::AesGcm(GcmParams::new(&mut nonce, &aad, TAG_BITS.into())?);
            let opened = access.session.decrypt(&cipher, key, &sealed).map_err(refused_or_gone)?;
            let opened = Zeroizing::new(opened);
            let bytes: &[u8; 32] =
                opened.as_slice().try_into().map_err(|_| KmsError::DoesNotOpen(OpenError::Malformed))?;
            Ok(Key::from_bytes(bytes))
        })
        .await
    }

    async fn make_first(&self, _rng: &dyn Rng) -> Result<(), KmsError> {
        self.run(true, |root, access| {
            if !root.find_all(access)?.is_empty() {
                return Err(KmsError::Version { version: 1, problem: "is there already" }.into());
            }
            root.make(access, 1, 1)
        })
        .await
    }

    async fn versions(&self) -> Result<RootVersions, KmsError> {
        self.run(false, |root, access| {
            let (versions, active) = root.versions(access)?;
            Ok(RootVersions { active, present: versions.into_keys().collect() })
        })
        .await
    }

    async fn add_version(&self, _rng: &dyn Rng) -> Result<u32, KmsError> {
        self.run(true, |root, access| {
            let (versions, _) = root.versions(access)?;
            let version = versions.last_key_value().map_or(0, |(version, _)| *version) + 1;
            root.make(access, version, 0)?;
            Ok(version)
        })
        .await
    }

    async fn activate(&self, version: u32) -> Result<(), KmsError> {
        self.run(true, move |root, access| {
            let (versions, active) = root.versions(access)?;
            let missing = KmsError::Version { version, problem: "is not there" };
            let chosen = versions.get(&version).ok_or(missing)?;
            let last = versions.values().map(|version| version.activation).max().unwrap_or(0);
            if version != active || last == 0 {
                access.session.update_attributes(chosen.key, &[mark(last + 1)])?;
            }
            Ok(())
        })
        .await
    }

    async fn destroy(&self, version: u32) -> Result<(), KmsError> {
        self.run(true, move |root, access| {
            let (versions, active) = root.versions(access)?;
            RootVersions { active, present: versions.keys().copied().collect() }.may_destroy(version)?;
            let chosen = versions.get(&version).ok_or(KmsError::NoRoot)?;
            Ok(access.session.destroy_object(chosen.key)?)
        })
        .await
    }
}

impl Root {
    fn label_of(&self, version: u32) -> Vec<u8> {
        format!("{}-v{version}", self.label).into_bytes()
    }

    /// The key of one version.
    fn find(&self, access: &Access<'_>, version: u32) -> Result<ObjectHandle, Trouble> {
        let mut template = root_keys().to_vec();
        template.push(Attribute::Label(self.label_of(version)));
        match access.session.find_objects(&template)?.as_slice() {
            [key] => Ok(*key),
            [] => {
                access.require_token()?;
                Err(KmsError::DoesNotOpen(OpenError::UnknownKeyVersion(version)).into())
            }
            _ => Err(two_keys(version).into()),
        }
    }

    /// Every version, and the active one.
    fn versions(&self, access: &Access<'_>) -> Result<(BTreeMap<u32, Version>, u32), Trouble> {
        let versions = self.find_all(access)?;
        // With one activation number twice, as two processes at once might give it, the higher version is active.
        let active = versions
            .iter()
            .filter(|(_, version)| version.activation > 0)
            .max_by_key(|(number, version)| (version.activation, **number))
            .or_else(|| versions.first_key_value())
            .map(|(number, _)| *number);
        match active {
            Some(active) => Ok((versions, active)),
            None => Err(KmsError::NoRoot.into()),
        }
    }

    fn find_all(&self, access: &Access<'_>) -> Result<BTreeMap<u32, Version>, Trouble> {
        let asked =
            [AttributeType::Label, AttributeType::Id, AttributeType::Sensitive, AttributeType::Extractable];
        let mut versions = BTreeMap::new();
        for key in access.session.find_objects(&root_keys())? {
            let (mut number, mut activation, mut kept) = (None, 0, [false; 2]);
            for attribute in access.session.get_attributes(key, &asked)? {
                if let Attribute::Label(label) = attribute {
                    number = self.version_of(&label);
                } else if let Attribute::Id(id) = attribute {
                    activation = activation_of(&id);
                } else if let Attribute::Sensitive(true) = attribute {
                    kept[0] = true;
                } else if let Attribute::Extractable(false) = attribute {
                    kept[1] = true;
                }
            }
            let Some(number) = number else { continue };
            if kept != [true; 2] {
                let text = format!("the key of root version {number} may leave the token: it is no root key");
                return Err(KmsError::Unavailable(text).into());
            }
            if versions.insert(number, Version { key, activation }).is_some() {
                return Err(two_keys(number).into());
            }
        }
        if versions.is_empty() {
            access.require_token()?;
        }
        Ok(versions)
    }

    fn version_of(&self, label: &[u8]) -> Option<u32> {
        let number = std::str::from_utf8(label).ok()?.strip_prefix(&self.label)?.strip_prefix("-v")?;
        let version = number.parse().ok()?;
        (self.label_of(version) == label).then_some(version)
    }

    fn make(&self, access: &Access<'_>, version: u32, activation: u64) -> Result<(), Trouble> {
        let made = access.session.generate_key(
            &Mechanism::AesKeyGen,
            &[
                Attribute::Token(true),
                Attribute::Private(true),
                Attribute::Sensitive(true),
                Attribute::Extractable(false),
                Attribute::ValueLen(32.into()),
                Attribute::Label(self.label_of(version)),
                mark(activation),
                Attribute::Encrypt(true),
                Attribute::Decrypt(true),
                Attribute::Wrap(false),
                Attribute::Unwrap(false),
            ],
        )?;
        // Another process may have made the same version at the same time. Neither is in use yet.
        if self.find(access, version).is_err() {
            access.session.destroy_object(made)?;
            return Err(two_keys(version).into());
        }
        Ok(())
    }
}

fn root_keys() -> [Attribute; 3] {
    [Attribute::Class(ObjectClass::SECRET_KEY), Attribute::KeyType(KeyType::AES), Attribute::Token(true)]
}

fn mark(activation: u64) -> Attribute {
    Attribute::Id([ACTIVE_MARK, &activation.to_be_bytes()].concat())
}

fn activation_of(id: &[u8]) -> u64 {
    let number = id.strip_prefix(ACTIVE_MARK).and_then(|number| number.try_into().ok());
    number.map_or(0, u64::from_be_bytes)
}

fn two_keys(version: u32) -> KmsError {
    KmsError::Version { version, problem: "is there twice: remove the key that was never active" }
}

/// Modules say in many ways that a tag does not match; these errors alone are of the session or the token.
fn refused_or_gone(error: Error) -> Trouble {
    let of_the_token = matches!(
        error,
        Error::Pkcs11(
            RvError::CryptokiNotInitialized
                | RvError::DeviceError
                | RvError::DeviceMemory
                | RvError::DeviceRemoved
                | RvError::HostMemory
                | RvError::KeyHandleInvalid
                | RvError::ObjectHandleInvalid
                | RvError::OperationActive
                | RvError::SessionClosed
                | RvError::SessionHandleInvalid
                | RvError::TokenNotPresent
                | RvError::UserNotLoggedIn,
            _
        )
    );
    if of_the_token { error.into() } else { KmsError::DoesNotOpen(OpenError::Forged).into() }
}
