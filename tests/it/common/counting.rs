//! A KMS that counts what it is asked to wrap.

use std::sync::atomic::{AtomicU64, Ordering};

use sandyq::{
    crypto::{
        aead::Key,
        kms::{Kms, KmsError, RootVersions, local::LocalKms},
    },
    domain::{canonical::Canonical, rng::Rng, secret::Sealed},
};

pub struct Counting {
    inner: LocalKms,
    wraps: AtomicU64,
}

impl Counting {
    pub fn new(inner: LocalKms) -> Self {
        Self { inner, wraps: AtomicU64::new(0) }
    }

    pub fn wraps(&self) -> u64 {
        self.wraps.load(Ordering::SeqCst)
    }
}

#[async_trait::async_trait]
impl Kms for Counting {
    fn describe(&self) -> String {
        self.inner.describe()
    }

    async fn wrap(&self, place: &Canonical, key: &Key, rng: &dyn Rng) -> Result<Sealed, KmsError> {
        self.wraps.fetch_add(1, Ordering::SeqCst);
        self.inner.wrap(place, key, rng).await
    }

    async fn unwrap(&self, place: &Canonical, wrapped: &Sealed) -> Result<Key, KmsError> {
        self.inner.unwrap(place, wrapped).await
    }

    async fn make_first(&self, rng: &dyn Rng) -> Result<(), KmsError> {
        self.inner.make_first(rng).await
    }

    async fn versions(&self) -> Result<RootVersions, KmsError> {
        self.inner.versions().await
    }

    async fn add_version(&self, rng: &dyn Rng) -> Result<u32, KmsError> {
        self.inner.add_version(rng).await
    }

    async fn activate(&self, version: u32) -> Result<(), KmsError> {
        self.inner.activate(version).await
    }

    async fn destroy(&self, version: u32) -> Result<(), KmsError> {
        self.inner.destroy(version).await
    }
}
