//! The keys of one platform, unwrapped and in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use zeroize::Zeroizing;

use super::{
    aead::{self, Key, OpenError, SealError},
    digest::{IndexKey, RowKey},
    envelope::{SubjectKey, subject_key_place},
};
use crate::domain::{
    canonical::Canonical,
    code::coded,
    ids::{PlatformId, ProposalId, SubjectId},
    rng::Rng,
    secret::Sealed,
};

coded!(
    /// What a stored key version is for.
    KeyKind, "key kind" {
        /// Wraps subject keys.
        Platform = "platform",
        /// Blind indexes.
        Index = "index",
        /// MACs of rows that grant something.
        Row = "row",
        /// HMACs of requests' bodies.
        Request = "request",
        /// Wraps all others. Kept in the KMS, and never stored.
        Root = "root",
        /// Signs heads of every log; one series for the installation, kept with platform 0.
        Audit = "audit",
    }
);

/// The place of a key version's wrap under the root.
#[must_use]
pub fn key_version_place(platform: PlatformId, kind: KeyKind, version: u32) -> Canonical {
    Canonical::new("key_versions.wrapped")
        .int(i64::from(platform.get()))
        .text(kind.as_str())
        .int(i64::from(version))
}

fn plan_place(column: &str, platform: PlatformId, proposal: ProposalId) -> Canonical {
    Canonical::new("proposals").text(column).int(i64::from(platform.get())).bytes(proposal.as_bytes())
}

/// Platform, index and row keys of one platform.
pub struct Keyring {
    platform: PlatformId,
    wrapping: WrappingKeys,
    /// Blind indexes.
    pub index: IndexKeys,
    /// Row MACs.
    pub row: Arc<RowKey>,
    /// MACs of requests' bodies.
    pub request: Arc<RowKey>,
}

impl Keyring {
    /// A keyring of unwrapped keys.
    ///
    /// # Errors
    /// [`OpenError::UnknownKeyVersion`] where the active version is not among the keys that wrap.
    pub fn new(
        platform: PlatformId,
        wrapping: WrappingKeys,
        index: IndexKeys,
        row: Arc<RowKey>,
        request: Arc<RowKey>,
    ) -> Result<Self, OpenError> {
        if !wrapping.keys.contains_key(&wrapping.active) {
            return Err(OpenError::UnknownKeyVersion(wrapping.active));
        }
        Ok(Self { platform, wrapping, index, row, request })
    }

    /// A version of the platform key that is loaded, also one that is disabled: a keyring of other states is made of the
    /// same keys, without asking the KMS again.
    #[must_use]
    pub fn loaded(&self, version: u32) -> Option<Arc<Key>> {
        self.wrapping.keys.get(&version).map(Arc::clone)
    }

    /// The version that wraps new subject keys.
    #[must_use]
    pub const fn active(&self) -> u32 {
        self.wrapping.active
    }

    /// Wraps a subject key under the active platform key.
    ///
    /// # Errors
    /// [`WrapError`].
    pub fn wrap(&self, subject: SubjectId, key: &SubjectKey, rng: &dyn Rng) -> Result<Sealed, WrapError> {
        let active = self.active();
        let with = self.wrapping.key(active)?;
        Ok(aead::wrap(with, active, &subject_key_place(self.platform, subject), key.key(), rng)?)
    }

    /// Opens a subject key, and wraps it under the active version; none where it is already. What was wrapped is opened
    /// again before it is handed out: it may replace the only other copy.
    ///
    /// # Errors
    /// [`WrapError`].
    pub fn rewrap(
        &self,
        subject: SubjectId,
        wrapped: &Sealed,
        rng: &dyn Rng,
    ) -> Result<Option<Sealed>, WrapError> {
        let key = self.unwrap(subject, wrapped)?;
        if aead::wrap_version(wrapped)? == self.active() {
            return Ok(None);
        }
        let again = self.wrap(subject, &key, rng)?;
        let same = self.unwrap(subject, &again)?;
        let equal =
            subtle::ConstantTimeEq::ct_eq(same.key().expose().as_slice(), key.key().expose().as_slice());
        if bool::from(equal) { Ok(Some(again)) } else { Err(OpenError::Forged.into()) }
    }

    /// Opens a subject key with the platform key version that its wrap names.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn unwrap(&self, subject: SubjectId, wrapped: &Sealed) -> Result<SubjectKey, OpenError> {
        let version = aead::wrap_version(wrapped)?;
        let with = self.wrapping.key(version)?;
        aead::unwrap(with, &subject_key_place(self.platform, subject), wrapped).map(SubjectKey::from_key)
    }

    /// Seals the request of a proposal under a key of its own: the wrapped key, and the request.
    ///
    /// # Errors
    /// [`WrapError`].
    pub fn seal_plan(
        &self,
        proposal: ProposalId,
        request: &[u8],
        rng: &dyn Rng,
    ) -> Result<(Sealed, Sealed), WrapError> {
        let active = self.active();
        let with = self.wrapping.key(active)?;
        let key = Key::random(rng).map_err(SealError::from)?;
        let sealed = aead::seal(&key, &plan_place("request", self.platform, proposal), request, rng)?;
        let place = plan_place("wrapped_key", self.platform, proposal);
        Ok((aead::wrap(with, active, &place, &key, rng)?, sealed))
    }

    /// Opens the request of a proposal.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open_plan(
        &self,
        proposal: ProposalId,
        wrapped_key: &Sealed,
        request: &Sealed,
    ) -> Result<Zeroizing<Vec<u8>>, OpenError> {
        let version = aead::wrap_version(wrapped_key)?;
        let with = self.wrapping.key(version)?;
        let key = aead::unwrap(with, &plan_place("wrapped_key", self.platform, proposal), wrapped_key)?;
        aead::open(&key, &plan_place("request", self.platform, proposal), request)
    }
}

/// Versions of the index key. More than one is active while a rotation fills the index of the newest.
pub struct IndexKeys {
    loaded: BTreeMap<u32, Arc<IndexKey>>,
    current: Arc<IndexKey>,
    newest: Arc<IndexKey>,
    written: Vec<Arc<IndexKey>>,
    readable: Vec<Arc<IndexKey>>,
}

impl IndexKeys {
    /// Versions that are loaded, those of them that are active, and those that only find what is there.
    ///
    /// # Errors
    /// [`OpenError::UnknownKeyVersion`] where none is active, or one of them is not loaded.
    pub fn new(
        loaded: BTreeMap<u32, Arc<IndexKey>>,
        active: &BTreeSet<u32>,
        retiring: &BTreeSet<u32>,
    ) -> Result<Self, OpenError> {
        let key =
            |version: &u32| loaded.get(version).map(Arc::clone).ok_or(OpenError::UnknownKeyVersion(*version));
        let written = active.iter().map(key).collect::<Result<Vec<_>, _>>()?;
        let mut readable = active.union(retiring).map(key).collect::<Result<Vec<_>, _>>()?;
        readable.reverse();
        let current = written.first().map(Arc::clone).ok_or(OpenError::UnknownKeyVersion(0))?;
        let newest = written.last().map(Arc::clone).ok_or(OpenError::UnknownKeyVersion(0))?;
        Ok(Self { loaded, current, newest, written, readable })
    }

    /// A version that is loaded, in whatever state.
    #[must_use]
    pub fn loaded(&self, version: u32) -> Option<Arc<IndexKey>> {
        self.loaded.get(&version).map(Arc::clone)
    }

    /// The version by which values are looked up, and under which a unique value is unique: the oldest active one, whose
    /// index is whole.
    #[must_use]
    pub fn current(&self) -> &IndexKey {
        &self.current
    }

    /// The version under which new references and tokens of 12 digits are: each has one hash only.
    #[must_use]
    pub fn newest(&self) -> &IndexKey {
        &self.newest
    }

    /// Versions in whose index a new value is put.
    pub fn written(&self) -> impl Iterator<Item = &IndexKey> {
        self.written.iter().map(Arc::as_ref)
    }

    /// Versions under which references and tokens of 12 digits may be, newest first.
    pub fn readable(&self) -> impl Iterator<Item = &IndexKey> {
        self.readable.iter().map(Arc::as_ref)
    }
}

/// Versions of the platform key.
pub struct WrappingKeys {
    /// Unwrapped, by version; disabled ones too.
    pub keys: BTreeMap<u32, Arc<Key>>,
    /// Versions that an officer put out of use: they open nothing.
    pub disabled: BTreeSet<u32>,
    /// The version that wraps new subject keys.
    pub active: u32,
}

impl WrappingKeys {
    fn key(&self, version: u32) -> Result<&Key, OpenError> {
        if self.disabled.contains(&version) {
            return Err(OpenError::DisabledKeyVersion(version));
        }
        self.keys.get(&version).map(Arc::as_ref).ok_or(OpenError::UnknownKeyVersion(version))
    }
}

/// Why a key could not be wrapped.
#[derive(Debug, thiserror::Error)]
pub enum WrapError {
    /// Not sealed.
    #[error(transparent)]
    Seal(#[from] SealError),
    /// The active version is not loaded.
    #[error(transparent)]
    Key(#[from] OpenError),
}
