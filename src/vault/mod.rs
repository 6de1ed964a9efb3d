//! The use cases, one file each, and the lane: the only room where policy, crypto, audit and store meet.
//!
//! Every call becomes an [`act::Act`] in its platform's [`lane::Lane`]: read with others in one batch, decided alone,
//! committed together with its log entries, and answered only when that commit is durable.

pub mod access;
mod accuracy;
pub mod act;
pub mod approval;
mod attempt;
pub mod audit_log;
pub mod backup;
pub mod breaches;
pub mod budgets;
pub mod callers;
pub mod closure;
pub mod consent;
pub mod context;
pub mod controls;
mod deed;
pub mod describe;
pub mod detokenize;
pub mod documents;
mod door;
pub mod erasure;
pub mod error;
pub mod expiry;
pub mod explain;
mod facts;
mod heads;
mod held;
pub mod histogram;
pub mod in_use;
pub mod install;
pub mod keys;
pub mod lane;
pub mod log_entries;
pub mod log_proofs;
mod look;
pub mod lookup;
pub mod meters;
mod mirroring;
pub mod officers;
pub mod operations;
pub mod page;
pub mod persons;
pub mod platforms;
pub mod policies;
pub mod proposals;
pub mod receipts;
mod recipient_keys;
pub mod recipients;
pub mod reconcile;
pub mod refusals;
pub mod registers;
pub mod release;
pub mod replay;
pub mod replicas;
mod reply;
pub mod residency;
pub mod restore;
pub mod restrictions;
pub mod retention;
pub mod revise;
pub mod rights;
pub mod root_key;
mod second_factor;
pub mod settings;
mod spending;
pub mod staff_keys;
mod stored_log;
mod storing;
pub mod subjects;
mod tip;
pub mod tokenize;
pub mod traces;
pub mod warm;

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::Duration,
};

use arc_swap::ArcSwap;
use tokio::sync::{Mutex, Notify, watch};

use crate::{
    blobs::{backups::Backups, mirror::Mirror},
    crypto::{audit_key::AuditKey, kms::Kms},
    domain::{
        caller::Caller,
        canonical::Canonical,
        ids::PlatformId,
        names::{PlatformName, SpiffeId},
        platform::Platform,
        rng::Rng,
        staff_key::HardwareKeys,
        time::Clock,
    },
    policy::decide::Denial,
    store::{CallerKey, Store},
};
use access::Call;
use act::Asker;
use context::{Context, LoadError};
use deed::{Deed, Deeded, Hand};
use documents::Documents;
use error::VaultError;
use heads::Signatory;
use lane::Lane;
use meters::Meters;
use mirroring::Mirroring;
use refusals::{Refusal, Refusals};
use residency::Watched;
use settings::Settings;
use staff_keys::Attestation;
use traces::Traces;
use warm::WarmLimits;

/// What every part of the vault shares.
pub(crate) struct Shared {
    /// Staff, and the context of the vault's own lane.
    pub(crate) staff: Arc<ArcSwap<Context>>,
    pub(crate) store: Arc<dyn Store>,
    pub(crate) kms: Arc<dyn Kms>,
    pub(crate) clock: Arc<Clock>,
    pub(crate) rng: Arc<dyn Rng>,
    pub(crate) options: VaultOptions,
    pub(crate) meters: Meters,
    /// Told when a commit failed: this process may not be able to serve.
    trouble: Notify,
    mirroring: Option<Mirroring>,
    /// Held by the one look through a whole log on demand that runs: a reconciliation, or the search of a breach.
    looking: Mutex<()>,
    /// Set while this machine's clock is too far from the database's.
    clock_is_wrong: AtomicBool,
    /// Set while the database's schema is not for this binary: somebody migrated it meanwhile.
    pub(crate) outdated: AtomicBool,
    /// Set while something lies outside the declared sites and nothing new may be stored then.
    storage_outside: AtomicBool,
    /// Set while a person's certificate counts only with a hardware key.
    staff_keys_required: AtomicBool,
}

/// Longest time between an erasure and the destruction: one working day, in which Law 94-V has the data destroyed.
pub const MAX_COOLING: Duration = Duration::from_hours(8);

/// What an operator may choose.
#[derive(Debug, Clone, Copy)]
pub struct VaultOptions {
    /// Time between an erasure and the destruction of the subject's keys; always inside one working day.
    pub erasure_cooling: Duration,
    /// Days after which no backup is restored any more, where there are: receipts of erasures say so.
    pub backup_horizon_days: Option<u32>,
    /// How old the active version of a platform's key becomes; without it only people rotate it.
    pub rotate_every: Option<Duration>,
    /// How much of each platform is kept after a read, and how long.
    pub warm: WarmLimits,
}

impl Default for VaultOptions {
    fn default() -> Self {
        Self {
            erasure_cooling: Duration::from_hours(4),
            backup_horizon_days: None,
            rotate_every: None,
            warm: WarmLimits::default(),
        }
    }
}

impl Shared {
    /// Who signs heads, and whose heads are believed.
    pub(crate) fn signatory(&self) -> Result<Arc<Signatory>, LoadError> {
        self.staff.load().signatory().map(Arc::clone)
    }

    /// Name of the installation.
    pub(crate) fn installation(&self) -> String {
        // Staff is never loaded without it.
        self.signatory().map(|signatory| signatory.installation().to_owned()).unwrap_or_default()
    }

    async fn reload_staff(&self, previous: &Context) -> Result<(), LoadError> {
        let (store, kms, name) = (self.store.as_ref(), self.kms.as_ref(), self.installation());
        let fresh = Context::load(store, kms, &name, PlatformId::VAULT, Some(previous)).await?;
        self.staff.store(Arc::new(fresh));
        Ok(())
    }
}

/// An open vault: a lane for each platform.
pub struct Vault {
    shared: Arc<Shared>,
    platforms: ArcSwap<Platforms>,
    /// Held while platforms are added.
    adding: Mutex<()>,
    /// Epoch of the vault's own platform when platforms were last looked for: each that is made moves it.
    platforms_epoch: AtomicU64,
    settings: Settings,
    /// Where backups go.
    backups: Option<Backups>,
    /// Where documents lie.
    documents: Option<Arc<Documents>>,
    /// Where everything may be.
    residency: Option<Watched>,
    /// Spans of calls, where somebody collects them.
    traces: Option<Arc<Traces>>,
    /// Judges what vendors say of devices.
    attestation: Option<Box<dyn Attestation>>,
    refusals: Refusals,
    schedule: keys::Schedule,
    /// Whether this process can serve, as its last heartbeat found.
    ready: watch::Sender<bool>,
}

type Platforms = BTreeMap<PlatformId, Arc<Served>>;

/// A platform that this process serves.
struct Served {
    platform: Platform,
    lane: Lane,
}

impl Vault {
    /// Opens an installation: unwraps its keys, checks every head, starts the lanes. With a mirror it holds every log
    /// against it, and keeps it up with them.
    ///
    /// # Errors
    /// [`LoadError`] says what does not hold; nothing is served then.
    pub async fn open(
        store: Arc<dyn Store>,
        kms: Arc<dyn Kms>,
        clock: Arc<Clock>,
        rng: Arc<dyn Rng>,
        mirror: Option<Mirror>,
    ) -> Result<Self, LoadError> {
        Self::open_with(store, kms, clock, rng, mirror, VaultOptions::default()).await
    }

    /// The same with choices of the operator.
    ///
    /// # Errors
    /// As [`Vault::open`].
    pub async fn open_with(
        store: Arc<dyn Store>,
        kms: Arc<dyn Kms>,
        clock: Arc<Clock>,
        rng: Arc<dyn Rng>,
        mirror: Option<Mirror>,
        options: VaultOptions,
    ) -> Result<Self, LoadError> {
        let name = store.installation().await?.ok_or(LoadError::NotInitialised)?.name;
        let staff = Context::load(store.as_ref(), kms.as_ref(), &name, PlatformId::VAULT, None).await?;
        let staff = Arc::new(ArcSwap::from_pointee(staff));
        let meters = Meters::new(clock.now());
        let shared = Arc::new(Shared {
            staff,
            store,
            kms,
            clock,
            rng,
            options,
            meters,
            trouble: Notify::new(),
            mirroring: mirror.map(Mirroring::new),
            looking: Mutex::default(),
            clock_is_wrong: AtomicBool::new(false),
            outdated: AtomicBool::new(false),
            storage_outside: AtomicBool::new(false),
            staff_keys_required: AtomicBool::new(false),
        });
        let vault = Self {
            shared,
            platforms: ArcSwap::default(),
            adding: Mutex::default(),
            platforms_epoch: AtomicU64::new(0),
            settings: Settings::default(),
            backups: None,
            documents: None,
            residency: None,
            traces: None,
            attestation: None,
            refusals: Refusals::default(),
            schedule: keys::Schedule::default(),
            ready: watch::Sender::new(true),
        };
        match vault.start().await {
            Ok(()) => Ok(vault),
            Err(error) => {
                // What was started holds the database, which somebody may want to open at once.
                vault.close().await;
                Err(error)
            }
        }
    }

    async fn start(&self) -> Result<(), LoadError> {
        self.find_platforms().await?;
        match &self.shared.mirroring {
            Some(mirroring) => mirroring.start(&self.shared).await,
            None => Ok(()),
        }
    }

    /// The same with what the configuration declares; without it nobody can be enrolled.
    #[must_use]
    pub fn with_settings(self, settings: Settings) -> Self {
        let required = settings.hardware_keys == HardwareKeys::Required;
        self.shared.staff_keys_required.store(required, Ordering::SeqCst);
        Self { settings, ..self }
    }

    /// The same with somebody who judges what vendors say of devices; without it nobody does.
    #[must_use]
    pub fn with_attestation(self, attestation: Option<Box<dyn Attestation>>) -> Self {
        Self { attestation, ..self }
    }

    /// What the configuration declares.
    #[must_use]
    pub const fn settings(&self) -> &Settings {
        &self.settings
    }

    /// Starts a lane for each platform that has none here yet: another replica may have made it.
    pub(crate) async fn find_platforms(&self) -> Result<(), LoadError> {
        let _adding = self.adding.lock().await;
        let epoch = self.shared.staff.load().config_epoch;
        let installation = self.shared.store.installation().await?.ok_or(LoadError::NotInitialised)?;
        let mut platforms = Platforms::clone(&self.platforms.load());
        let mut outcome = Ok(());
        for platform in installation.platforms {
            if let Entry::Vacant(vacant) = platforms.entry(platform.id) {
                match Lane::start(Arc::clone(&self.shared), platform.id, platform.name.clone()).await {
                    Ok(lane) => {
                        vacant.insert(Arc::new(Served { platform, lane }));
                        self.platforms.store(Arc::new(platforms.clone()));
                    }
                    // The others are served all the same; this one is tried again with the next heartbeat.
                    Err(error) => outcome = Err(error),
                }
            }
        }
        self.platforms_epoch.fetch_max(epoch, Ordering::Relaxed);
        outcome
    }

    /// Follows what other replicas changed since: new platforms, and a caller that is unknown here. Cheap where there
    /// is nothing to follow.
    ///
    /// # Errors
    /// [`LoadError`].
    pub async fn follow(&self, certificate: &SpiffeId) -> Result<(), LoadError> {
        if self.shared.staff.load().config_epoch > self.platforms_epoch.load(Ordering::Relaxed) {
            // Another's new platform that cannot be served here is no reason to refuse everybody else.
            if let Err(error) = self.find_platforms().await {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::error!(error, "a platform that another process made cannot be served here");
            }
        }
        if self.caller(certificate).is_err() {
            self.find_caller(CallerKey::Certificate(certificate)).await?;
        }
        Ok(())
    }

    /// The platform of a caller, with its newest context loaded; none where nobody enrolled the caller.
    async fn find_caller(&self, caller: CallerKey<'_>) -> Result<Option<PlatformId>, LoadError> {
        let Some(id) = self.shared.store.place_of_caller(caller).await? else { return Ok(None) };
        if !self.platforms.load().contains_key(&id) {
            self.find_platforms().await?;
        }
        if let Ok(served) = self.platform(id) {
            served.lane.refresh().await?;
        }
        Ok(Some(id))
    }

    /// Public half of the audit key that signs now, to be kept outside the installation.
    #[must_use]
    pub fn verifier_key(&self) -> String {
        self.audit_key().map(|key| key.verifier_key()).unwrap_or_default()
    }

    /// Public half of a version of the audit key.
    #[must_use]
    pub fn verifier_key_of(&self, version: u32) -> Option<String> {
        Some(self.shared.signatory().ok()?.key(version)?.verifier_key())
    }

    /// Name of the installation.
    #[must_use]
    pub fn installation(&self) -> String {
        self.shared.installation()
    }

    /// Every platform of the installation, the vault's own among them.
    #[must_use]
    pub fn platforms(&self) -> Vec<(PlatformId, PlatformName)> {
        self.platforms.load().iter().map(|(id, served)| (*id, served.platform.name.clone())).collect()
    }

    /// The vault's clock.
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// The platform of this name.
    #[must_use]
    pub fn platform_named(&self, name: &str) -> Option<PlatformId> {
        self.platforms.load().iter().find(|(_, p)| p.platform.name.as_str() == name).map(|(id, _)| *id)
    }

    /// Name of a platform.
    #[must_use]
    pub fn platform_name(&self, id: PlatformId) -> Option<PlatformName> {
        self.described(id).map(|platform| platform.name)
    }

    /// A platform with its operator.
    #[must_use]
    pub fn described(&self, id: PlatformId) -> Option<Platform> {
        self.platforms.load().get(&id).map(|served| served.platform.clone())
    }

    /// The enrolled caller with this certificate URI, of whichever platform.
    ///
    /// # Errors
    /// [`VaultError::UnknownCaller`].
    pub fn caller(&self, spiffe_id: &SpiffeId) -> Result<Arc<Caller>, VaultError> {
        self.platforms
            .load()
            .values()
            .find_map(|platform| platform.lane.context().caller(spiffe_id))
            .ok_or(VaultError::UnknownCaller)
    }

    /// The present policy, callers and keys of a platform.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] where there is no such lane.
    pub fn context(&self, platform: PlatformId) -> Result<Arc<Context>, VaultError> {
        Ok(self.platform(platform)?.lane.context())
    }

    /// HMAC of a request's body, under the request key of the caller's platform.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] where there is no such lane.
    pub fn body_mac(&self, caller: &Caller, body: &[u8]) -> Result<[u8; 32], VaultError> {
        Ok(self.context(caller.platform)?.keys.request.mac(&Canonical::new("request body").bytes(body)))
    }

    /// The platform that a call is about: the caller's own where the name is empty. Callers of platforms see their own
    /// only; those of the vault see all, as far as their roles go.
    ///
    /// # Errors
    /// [`Denial::PlatformNotFound`], which is an entry of the caller's own platform.
    pub async fn target(
        &self,
        caller: &Caller,
        asker: &Asker,
        call: Call,
        name: &str,
    ) -> Result<PlatformId, VaultError> {
        if name.is_empty() {
            return Ok(caller.platform);
        }
        let mut named = self.platform_named(name);
        if named.is_none() && caller.platform == PlatformId::VAULT {
            self.find_platforms().await.map_err(error::unreadable)?;
            named = self.platform_named(name);
        }
        let seen = named.filter(|id| *id == caller.platform || caller.platform == PlatformId::VAULT);
        if let Some(id) = seen {
            return Ok(id);
        }
        let refused = Refuse { call, reason: Denial::PlatformNotFound };
        self.run(caller.platform, caller, asker.clone(), refused).await?;
        Err(Denial::PlatformNotFound.into())
    }

    /// Whether the caller may make this call, as staff stands now; what decides is the deed.
    fn may_ask(&self, call: Call, caller: &Caller, platform: PlatformId) -> bool {
        call.allows(caller, platform, &self.shared.staff.load_full()).is_ok()
    }

    /// Ends the lanes after what waits in them, mirrors the rest, then ends the database's connections.
    pub async fn close(&self) {
        if let Err(error) = self.log_refusals().await {
            tracing::warn!(%error, "refusals that were counted could not be logged");
        }
        for platform in self.platforms.load().values() {
            platform.lane.close().await;
        }
        if let Some(mirroring) = &self.shared.mirroring {
            mirroring.close().await;
        }
        self.shared.store.close().await;
    }

    /// Puts a caller's act into its platform's lane. A lane that is full is counted as a refusal.
    fn submit(&self, caller: &Caller, act: impl act::Act + 'static) -> Result<(), VaultError> {
        self.submit_to(caller.platform, caller, act)
    }

    /// Puts a caller's act into a platform's lane: a member of the staff acts on many.
    fn submit_to(
        &self,
        platform: PlatformId,
        caller: &Caller,
        act: impl act::Act + 'static,
    ) -> Result<(), VaultError> {
        if self.shared.clock_is_wrong.load(Ordering::SeqCst) {
            return Err(VaultError::Unavailable);
        }
        let submitted = self.platform(platform)?.lane.submit(act);
        if submitted == Err(VaultError::Overloaded) {
            self.count_refusals(caller, Refusal::Overloaded, 1);
        }
        submitted
    }

    fn platform(&self, platform: PlatformId) -> Result<Arc<Served>, VaultError> {
        self.platforms.load().get(&platform).cloned().ok_or(VaultError::Unavailable)
    }

    fn audit_key(&self) -> Result<Arc<AuditKey>, LoadError> {
        self.shared.signatory()?.active_key().map(Arc::clone)
    }
}

/// A refusal that needs no look at anything.
struct Refuse {
    call: Call,
    reason: Denial,
}

impl Deed for Refuse {
    type Answer = ();

    fn call(&self) -> Call {
        self.call
    }

    fn changes(&self) -> bool {
        false
    }

    fn act(&mut self, _hand: &mut Hand<'_, '_>) -> Result<Deeded<()>, VaultError> {
        Err(self.reason.into())
    }
}
