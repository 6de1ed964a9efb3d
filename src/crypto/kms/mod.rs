//! Where the root keys live. Called at start, for a new platform and in rotation: never on the hot path, so that the
//! vault goes on serving while its KMS is away.
//!
//! A root key has versions. Which one is active is the KMS's own knowledge, changed by one write there: the database
//! may be put back to an older state, and must not bring an older root back with it. No version number is ever used
//! twice, because the newest version is never destroyed.

pub mod local;
pub mod pkcs11;
pub mod probe;
pub mod transit;

use std::{collections::BTreeSet, error::Error};

use zeroize::Zeroizing;

use crate::{
    crypto::aead::{Key, OpenError, SealError},
    domain::{
        canonical::Canonical,
        rng::{RandomUnavailable, Rng},
        secret::Sealed,
    },
    net::causes,
};

/// Why the KMS did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum KmsError {
    /// A file could not be read or written.
    #[error("{action} {path}")]
    File {
        /// What was tried, such as "cannot read".
        action: &'static str,
        /// The file.
        path: String,
        /// Why.
        source: std::io::Error,
    },
    /// A file does not have its form.
    #[error("{path}: {problem}")]
    Malformed {
        /// The file.
        path: String,
        /// What is wrong.
        problem: &'static str,
    },
    /// The unseal key does not open the root file.
    #[error("{path} does not open with this unseal key")]
    WrongUnsealKey {
        /// The root file.
        path: String,
    },
    /// A key was wrapped by another root, or its wrap was changed.
    #[error("a key of the database does not open under this root: wrong root key, or damaged data")]
    DoesNotOpen(#[source] OpenError),
    /// The KMS answers, and has no root key at this place.
    #[error("there is no root key yet; `sandyq init` makes it, for a new installation only")]
    NoRoot,
    /// The KMS does not answer, does not let the vault in, or has a root key that cannot be trusted.
    #[error("{0}")]
    Unavailable(String),
    /// A root version is not there, or not as the change needs it.
    #[error("root version {version} {problem}")]
    Version {
        /// The version.
        version: u32,
        /// Why not.
        problem: &'static str,
    },
    /// No randomness.
    #[error(transparent)]
    Random(#[from] RandomUnavailable),
    /// Not sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
}

impl KmsError {
    /// The KMS is away, and this is why; sources are told with it.
    fn unavailable(problem: impl Into<String>, error: &dyn Error) -> Self {
        Self::Unavailable(format!("{}: {}", problem.into(), causes(error)))
    }
}

/// Refuses what was opened where it is not what was wrapped.
fn same(opened: &Key, wrapped: &Key) -> Result<(), KmsError> {
    let equal = subtle::ConstantTimeEq::ct_eq(opened.expose().as_slice(), wrapped.expose().as_slice());
    if bool::from(equal) { Ok(()) } else { Err(KmsError::DoesNotOpen(OpenError::Forged)) }
}

/// A PIN, a token, a JWT: read anew each time that it is needed, so that it can be changed and is not kept.
pub type SecretSource =
    Box<dyn Fn() -> Result<Zeroizing<String>, Box<dyn Error + Send + Sync>> + Send + Sync>;

fn read_secret(what: &str, source: &SecretSource) -> Result<Zeroizing<String>, KmsError> {
    source().map_err(|error| KmsError::unavailable(format!("no {what}"), error.as_ref()))
}

/// Root versions that a KMS holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RootVersions {
    /// The one that wraps.
    pub active: u32,
    /// All that open what they wrapped, the active one among them.
    pub present: BTreeSet<u32>,
}

impl RootVersions {
    /// Refuses a version that is not there.
    fn require(&self, version: u32) -> Result<(), KmsError> {
        if self.present.contains(&version) {
            return Ok(());
        }
        Err(KmsError::Version { version, problem: "is not there" })
    }

    /// Refuses to destroy anything but the oldest version, and anything from the active one on. The newest therefore
    /// stays, and its number is never given to another key; a transit engine could do nothing else.
    fn may_destroy(&self, version: u32) -> Result<(), KmsError> {
        self.require(version)?;
        let problem = if version == self.active {
            "is active: activate another one first"
        } else if version > self.active {
            "is newer than the active one, and only older ones are destroyed"
        } else if self.present.first() != Some(&version) {
            "is not the oldest: older ones are destroyed first"
        } else {
            return Ok(());
        };
        Err(KmsError::Version { version, problem })
    }
}

/// Keeps root keys, and wraps and unwraps the keys below them.
///
/// Every call asks the KMS itself: what one process changes holds for all from their next call on.
#[async_trait::async_trait]
pub trait Kms: Send + Sync {
    /// Kind and place, for people. No secret.
    fn describe(&self) -> String;

    /// Wraps a key for a place under the active root version.
    ///
    /// # Errors
    /// [`KmsError`].
    async fn wrap(&self, place: &Canonical, key: &Key, rng: &dyn Rng) -> Result<Sealed, KmsError>;

    /// Opens a wrap with the root version that it names, and with no other.
    ///
    /// # Errors
    /// [`KmsError`].
    async fn unwrap(&self, place: &Canonical, wrapped: &Sealed) -> Result<Key, KmsError>;

    /// Wraps what a wrap holds under the active root version. It is opened again before it is handed out: it replaces the
    /// other wrap.
    ///
    /// # Errors
    /// [`KmsError`].
    async fn rewrap(&self, place: &Canonical, wrapped: &Sealed, rng: &dyn Rng) -> Result<Sealed, KmsError> {
        let key = self.unwrap(place, wrapped).await?;
        let again = self.wrap(place, &key, rng).await?;
        let opened = self.unwrap(place, &again).await?;
        same(&opened, &key).map(|()| again)
    }

    /// Whether it answers, wraps and unwraps.
    ///
    /// # Errors
    /// [`KmsError`].
    async fn check(&self, rng: &dyn Rng) -> Result<(), KmsError> {
        let (key, place) = (Key::random(rng)?, Canonical::new("probe"));
        let wrapped = self.wrap(&place, &key, rng).await?;
        same(&self.unwrap(&place, &wrapped).await?, &key)
    }

    /// Makes the first root version, active, where there is none.
    ///
    /// # Errors
    /// [`KmsError`], also where there is one.
    async fn make_first(&self, rng: &dyn Rng) -> Result<(), KmsError>;

    /// The root versions that there are.
    ///
    /// # Errors
    /// [`KmsError`]; [`KmsError::NoRoot`] where there is none.
    async fn versions(&self) -> Result<RootVersions, KmsError>;

    /// Makes a root version, newer than all, and not active yet.
    ///
    /// # Errors
    /// [`KmsError`].
    async fn add_version(&self, rng: &dyn Rng) -> Result<u32, KmsError>;

    /// Lets a version wrap from now on. What others wrapped still opens.
    ///
    /// # Errors
    /// [`KmsError`].
    async fn activate(&self, version: u32) -> Result<(), KmsError>;

    /// Destroys the oldest version, which must be older than the active one. What it wrapped never opens again.
    ///
    /// # Errors
    /// [`KmsError`].
    async fn destroy(&self, version: u32) -> Result<(), KmsError>;
}
