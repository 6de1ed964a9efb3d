//! The use cases, one file each, and the lane: the only room where policy, crypto, audit and store meet.
//!
//! Every call becomes an [`act::Act`] in its platform's [`lane::Lane`]: read with others in one batch, decided alone,
//! committed together with its log entries, and answered only when that commit is durable.

pub mod act;
pub mod audit_log;
pub mod consent;
pub mod context;
pub mod describe;
pub mod detokenize;
pub mod enrol;
pub mod error;
mod heads;
pub mod install;
pub mod lane;
pub mod refusals;
pub mod tokenize;

use std::{collections::HashMap, sync::Arc};

use crate::{
    crypto::{audit_key::AuditKey, kms::Kms},
    domain::{
        caller::Caller,
        ids::PlatformId,
        names::{PlatformName, SpiffeId},
        rng::Rng,
        time::Clock,
    },
    store::Store,
};
use context::{Context, LoadError};
use error::VaultError;
use heads::Signatory;
use lane::Lane;
use refusals::{Refusal, Refusals};

/// What every part of the vault shares.
pub(crate) struct Shared {
    pub(crate) store: Arc<dyn Store>,
    pub(crate) kms: Arc<dyn Kms>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) signatory: Signatory,
}

/// An open vault: a lane for each platform.
pub struct Vault {
    shared: Arc<Shared>,
    platforms: HashMap<PlatformId, Platform>,
    refusals: Refusals,
}

struct Platform {
    name: PlatformName,
    lane: Lane,
}

impl Vault {
    /// Opens an installation: unwraps its keys, checks every head, starts the lanes.
    ///
    /// # Errors
    /// [`LoadError`] says what does not hold; nothing is served then.
    pub async fn open(
        store: Arc<dyn Store>,
        kms: Arc<dyn Kms>,
        clock: Arc<Clock>,
        rng: Arc<dyn Rng>,
    ) -> Result<Self, LoadError> {
        let installation = store.installation().await?.ok_or(LoadError::NotInitialised)?;
        let audit_key = context::audit_key(store.as_ref(), kms.as_ref(), &installation.name).await?;
        let signatory = Signatory::new(installation.name.clone(), audit_key)?;
        let shared = Arc::new(Shared { store, kms, clock, rng, signatory });
        let mut platforms = HashMap::new();
        for (id, name) in installation.platforms {
            let lane = Lane::start(Arc::clone(&shared), id, name.clone()).await?;
            platforms.insert(id, Platform { name, lane });
        }
        Ok(Self { shared, platforms, refusals: Refusals::default() })
    }

    /// The audit key's public half, to be kept outside the installation.
    #[must_use]
    pub fn verifier_key(&self) -> String {
        self.audit_key().verifier_key()
    }

    /// Name of the installation.
    #[must_use]
    pub fn installation(&self) -> &str {
        self.shared.signatory.installation()
    }

    /// Every platform of the installation, the vault's own among them.
    pub fn platforms(&self) -> impl Iterator<Item = (PlatformId, &PlatformName)> {
        self.platforms.iter().map(|(id, platform)| (*id, &platform.name))
    }

    /// The vault's clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// The platform of this name.
    #[must_use]
    pub fn platform_named(&self, name: &str) -> Option<PlatformId> {
        self.platforms.iter().find(|(_, p)| p.name.as_str() == name).map(|(id, _)| *id)
    }

    /// Name of a platform.
    #[must_use]
    pub fn platform_name(&self, id: PlatformId) -> Option<&PlatformName> {
        self.platforms.get(&id).map(|p| &p.name)
    }

    /// The enrolled caller with this certificate URI, of whichever platform.
    ///
    /// # Errors
    /// [`VaultError::UnknownCaller`].
    pub fn caller(&self, spiffe_id: &SpiffeId) -> Result<Arc<Caller>, VaultError> {
        self.platforms
            .values()
            .find_map(|platform| platform.lane.context().caller(spiffe_id))
            .ok_or(VaultError::UnknownCaller)
    }

    /// The present policy, callers and keys of a platform.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] where there is no such lane.
    pub fn context(&self, platform: PlatformId) -> Result<Arc<Context>, VaultError> {
        self.lane(platform).map(Lane::context)
    }

    /// Ends the lanes after what waits in them, then the database's connections.
    pub async fn close(&self) {
        if let Err(error) = self.log_refusals().await {
            tracing::warn!(%error, "refusals that were counted could not be logged");
        }
        for platform in self.platforms.values() {
            platform.lane.close().await;
        }
        self.shared.store.close().await;
    }

    /// Puts a caller's act into its platform's lane. A lane that is full is counted as a refusal.
    fn submit(&self, caller: &Caller, act: impl act::Act + 'static) -> Result<(), VaultError> {
        let submitted = self.lane(caller.platform)?.submit(act);
        if submitted == Err(VaultError::Overloaded) {
            self.count_refusals(caller, Refusal::Overloaded, 1);
        }
        submitted
    }

    fn lane(&self, platform: PlatformId) -> Result<&Lane, VaultError> {
        self.platforms.get(&platform).map(|p| &p.lane).ok_or(VaultError::Unavailable)
    }

    fn audit_key(&self) -> &AuditKey {
        self.shared.signatory.key()
    }
}
