//! The beginning of a rotation, and what it would do.

use super::{about_key, name_of, sealed_row};
use OperationKind::{RekeyPlatform, RotateAuditKey, RotateIndexKey, RotatePlatformKey, RotateRootKey};

use crate::{
    audit::entry::Entry,
    crypto::{
        aead::Key,
        keyring::{KeyKind, key_version_place},
    },
    domain::{
        caller::Caller,
        ids::{OperationId, PlatformId},
        operation::{Operation, OperationKind, Phase},
        secret::Sealed,
    },
    policy::decide::Denial,
    store::{
        SealedCounts, WhichOperations, Write,
        rows::{
            config::{KeyState, KeyVersionRow},
            work::OperationRow,
        },
    },
    vault::{
        Vault,
        access::Call,
        act::{Asker, Claim, Plan, Scene},
        context::{Context, LoadError},
        deed::{Deed, Deeded, Hand},
        error::{VaultError, unreadable},
        replay::ItemOutcome,
        tokenize::unavailable,
    },
};

/// Rotations of one kind that are looked at: the newest is the open one, where one is, and a retry finds its own.
const RECENT: u32 = 100;
/// Times that a key is made: somebody else may take its number meanwhile.
const ATTEMPTS: u32 = 3;

/// What a rotation would do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RotationPlan {
    /// The version that would be made.
    pub version: u32,
    /// Subjects whose keys would be wrapped anew, or whose values would be hashed anew; none of an audit key.
    pub subject_keys: u64,
    /// Logs that would be handed over; of an audit key.
    pub logs: u64,
    /// Keys of platforms that would be wrapped anew; of the root key.
    pub platform_keys: u64,
    /// Values that would be sealed anew; of a rekey.
    pub values: u64,
    /// Parts of documents that would be sealed anew; of a rekey.
    pub parts: u64,
    /// Seconds that one pass over them would take at the given rate; none without one.
    pub seconds: Option<u64>,
    /// What stands in the way now.
    pub blockers: Vec<String>,
}

impl Vault {
    /// Says what a rotation of a key would do.
    ///
    /// # Errors
    /// [`VaultError`]; invalid for a kind that is not rotated.
    pub async fn plan_rotation(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        kind: KeyKind,
        rate: u32,
    ) -> Result<RotationPlan, VaultError> {
        self.plan_work(caller, asker, platform, Rotation::of(kind)?, rate).await
    }

    /// Says what a rekey would do.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn plan_rekey(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        rate: u32,
    ) -> Result<RotationPlan, VaultError> {
        self.plan_work(caller, asker, platform, Rotation::REKEY, rate).await
    }

    async fn plan_work(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        work: Rotation,
        rate: u32,
    ) -> Result<RotationPlan, VaultError> {
        let kind = work.key;
        let platform = self.target(caller, &asker, work.call, platform).await?;
        self.run(platform, caller, asker, MayRotate(work.call)).await?;
        work.is_kept_by(platform)?;
        let steps = self.steps(platform, work).await?;
        let of = |kind| if work.key == kind { steps } else { 0 };
        let mut blockers = Vec::new();
        if let Some(open) = self.open_beside(platform, work).await? {
            blockers.push(format!("{} is not done yet", open.id));
        }
        let sealed = if work.is_rekey() {
            self.shared.store.count_sealed(platform).await.map_err(unavailable)?
        } else {
            SealedCounts::default()
        };
        blockers.extend(self.documents_in_the_way(sealed.parts));
        let behind = self.processes_without_keys().await?;
        if !behind.is_empty() {
            blockers.push(format!("processes that lack a key version: {}", behind.join(", ")));
        }
        let version = if kind == KeyKind::Root {
            // Where the KMS does not answer, the probe says so.
            self.root_versions().await.map_or(0, |versions| Self::next_root(&versions))
        } else {
            self.context(platform)?.next_version(kind)
        };
        let place = key_version_place(platform, kind, version);
        let probe = Key::random(self.shared.rng.as_ref()).map_err(unavailable)?;
        if let Err(error) = self.shared.kms.wrap(&place, &probe, self.shared.rng.as_ref()).await {
            tracing::warn!(%error, "the KMS did not wrap a probe");
            blockers.push("the KMS does not answer".to_owned());
        }
        let subject_keys = of(KeyKind::Platform) + of(KeyKind::Index);
        let seconds = (rate > 0).then(|| u64::div_ceil(subject_keys + sealed.parts, u64::from(rate)));
        let (logs, platform_keys) = (of(KeyKind::Audit), of(KeyKind::Root));
        let (values, parts) = (sealed.values, sealed.parts);
        Ok(RotationPlan { version, subject_keys, logs, platform_keys, values, parts, seconds, blockers })
    }

    /// Makes a new version of a key, and begins the work that makes the old one needless.
    ///
    /// # Errors
    /// [`VaultError`]; invalid for a kind that is not rotated, [`Denial::RotationRunning`] where one is not done yet.
    pub async fn rotate_key(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        kind: KeyKind,
        rate: u32,
    ) -> Result<Operation, VaultError> {
        self.begin_work(caller, asker, platform, Rotation::of(kind)?, rate).await
    }

    /// Makes a new version of the platform key, and begins the work that seals everything of the platform under new keys.
    ///
    /// # Errors
    /// [`VaultError`]; [`Denial::RotationRunning`] where a rotation of the platform or index key is not done yet.
    pub async fn rekey_platform(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        rate: u32,
    ) -> Result<Operation, VaultError> {
        self.begin_work(caller, asker, platform, Rotation::REKEY, rate).await
    }

    async fn begin_work(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        work: Rotation,
        rate: u32,
    ) -> Result<Operation, VaultError> {
        let kind = work.key;
        let platform = self.target(caller, &asker, work.call, platform).await?;
        let mut attempt = 1;
        loop {
            let staff = self.shared.staff.load_full();
            // The epoch first: whatever begins after it was read moves it.
            let epoch = self.context(platform)?.config_epoch;
            let known = self.rotations(platform, work.operation, RECENT).await?;
            let open = self.open_beside(platform, work).await?.is_some();
            // The key is made before the deed, since a lane never waits for the KMS; and only where it may be needed.
            let new = if work.call.allows(caller, platform, &staff).is_ok() && !open {
                work.is_kept_by(platform)?;
                let total = self.steps(platform, work).await?;
                Some(if kind == KeyKind::Root {
                    // Its version is made in the KMS when the work begins, and not for a proposal.
                    self.root_versions().await?;
                    New { version: 0, wrapped: None, epoch, total, rate }
                } else {
                    let version = self.context(platform)?.next_version(kind);
                    let wrapped = Some(self.new_key(platform, kind, version).await?);
                    New { version, wrapped, epoch, total, rate }
                })
            } else {
                None
            };
            match self.run(platform, caller, asker.clone(), Begin { work, new, known }).await {
                Err(VaultError::Contended) if attempt < ATTEMPTS => attempt += 1,
                other => return other,
            }
        }
    }

    async fn new_key(&self, platform: PlatformId, kind: KeyKind, version: u32) -> Result<Sealed, VaultError> {
        let (kms, rng) = (self.shared.kms.as_ref(), self.shared.rng.as_ref());
        let key = Key::random(rng).map_err(unavailable)?;
        let place = key_version_place(platform, kind, version);
        kms.wrap(&place, &key, rng).await.map_err(|error| unreadable(LoadError::from(error)))
    }

    /// What a rotation does in each of its passes.
    async fn steps(&self, platform: PlatformId, work: Rotation) -> Result<u64, VaultError> {
        if work.key == KeyKind::Audit {
            return Ok(u64::try_from(self.platforms().len()).unwrap_or(u64::MAX));
        }
        if work.key == KeyKind::Root {
            return Ok(self.root_wraps().await?.values().sum());
        }
        if work.is_rekey() {
            return Ok(self.shared.store.count_sealed(platform).await.map_err(unavailable)?.subjects);
        }
        Ok(self.wraps(platform).await?.iter().map(|(_, count)| count).sum())
    }

    /// The newest rotations of one kind.
    async fn rotations(
        &self,
        platform: PlatformId,
        kind: OperationKind,
        limit: u32,
    ) -> Result<Vec<Operation>, VaultError> {
        let which = WhichOperations::OfKind(kind);
        let rows = self.shared.store.operations(platform, which, limit).await.map_err(unavailable)?;
        Ok(rows.into_iter().map(|row| row.operation).collect())
    }

    /// Open work beside which this one must not be.
    async fn open_beside(
        &self,
        platform: PlatformId,
        work: Rotation,
    ) -> Result<Option<Operation>, VaultError> {
        for kind in work.not_beside {
            let newest = self.rotations(platform, *kind, 1).await?.into_iter().next();
            if let Some(open) = newest.filter(Operation::is_open) {
                return Ok(Some(open));
            }
        }
        Ok(None)
    }
}

/// A kind of rotation: the key, the work, and the object of which a platform has one open operation at a time.
#[derive(Debug, Clone, Copy)]
struct Rotation {
    call: Call,
    key: KeyKind,
    operation: OperationKind,
    object: [u8; 16],
    /// Times that it goes through all subjects.
    passes: u64,
    /// Kinds of work beside which it must not be. Of each, a platform has one at a time. A rekey exchanges what a rotation of the
    /// index key reads.
    not_beside: &'static [OperationKind],
}

impl Rotation {
    /// Of the platform key, with every subject key: sealed anew, and opened to verify.
    const REKEY: Self = Self {
        call: Call::RekeyPlatform,
        key: KeyKind::Platform,
        operation: RekeyPlatform,
        object: *b"platform key    ",
        passes: 2,
        not_beside: &[RotatePlatformKey, RekeyPlatform, RotateIndexKey],
    };

    fn of(key: KeyKind) -> Result<Self, VaultError> {
        let (operation, object, passes, not_beside): (_, _, _, &[_]) = match key {
            // Wrapped anew, and opened to verify.
            KeyKind::Platform => {
                (RotatePlatformKey, *b"platform key    ", 2, &[RotatePlatformKey, RekeyPlatform])
            }
            KeyKind::Root => (RotateRootKey, *b"root key        ", 2, &[RotateRootKey]),
            // Handed over, and looked at to verify.
            KeyKind::Audit => (RotateAuditKey, *b"audit key       ", 2, &[RotateAuditKey]),
            // Put into the new index, held against it, and taken out of the old.
            KeyKind::Index => (RotateIndexKey, *b"index key       ", 3, &[RotateIndexKey, RekeyPlatform]),
            KeyKind::Row | KeyKind::Request => {
                return Err(VaultError::invalid("kind", "keys of this kind are not rotated"));
            }
        };
        Ok(Self { call: Call::RotateKey, key, operation, object, passes, not_beside })
    }

    fn is_rekey(self) -> bool {
        self.operation == RekeyPlatform
    }

    /// Whether there is one key of the kind for the whole installation.
    const fn is_for_all(self) -> bool {
        matches!(self.key, KeyKind::Audit | KeyKind::Root)
    }

    /// Refuses a platform that has no key of the kind.
    fn is_kept_by(self, platform: PlatformId) -> Result<(), VaultError> {
        if self.is_for_all() && platform != PlatformId::VAULT {
            return Err(VaultError::invalid("platform", "this key is one for all platforms: name `vault`"));
        }
        Ok(())
    }
}

struct MayRotate(Call);

impl Deed for MayRotate {
    type Answer = ();

    fn call(&self) -> Call {
        self.0
    }

    fn changes(&self) -> bool {
        false
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<()>, VaultError> {
        hand.log(|entry| Entry { object_kind: Some("key".to_owned()), ..entry })?;
        Ok(Deeded::answer(()))
    }
}

struct New {
    version: u32,
    /// None of the root key.
    wrapped: Option<Sealed>,
    /// The configuration in which nothing stood in the way.
    epoch: u64,
    total: u64,
    rate: u32,
}

struct Begin {
    work: Rotation,
    /// None where the caller may not, or a rotation is open.
    new: Option<New>,
    /// Rotations that there were.
    known: Vec<Operation>,
}

impl Deed for Begin {
    type Answer = Operation;

    fn call(&self) -> Call {
        self.work.call
    }

    fn changes(&self) -> bool {
        true
    }

    /// Another audit key is another word for everything that is ever proven, another root opens everything; and a
    /// rekey destroys what older keys open.
    fn needs_two(&self) -> bool {
        self.work.is_for_all() || self.work.is_rekey()
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Operation>, VaultError> {
        let (scene, work) = (hand.scene, self.work);
        let new = self.new.as_ref().ok_or(Denial::RotationRunning)?;
        if scene.context.config_epoch != new.epoch {
            return Err(VaultError::Contended);
        }
        if !hand.plan.claim(Claim::Config) {
            return Ok(Deeded::Later);
        }
        let begun = Begun::of(work, new, scene)?;
        hand.log(|entry| begun.about(entry))?;
        let operation = begun.operation.clone();
        let id = operation.id;
        begun.put(hand.plan);
        let outcome = ItemOutcome { ids: vec![(*id.as_bytes()).into()], ..ItemOutcome::default() };
        Ok(Deeded::changed(operation, outcome))
    }

    fn again(&self, _hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<Operation, VaultError> {
        let id = OperationId::from_bytes(before.id(0)?);
        Ok(self.known.iter().find(|known| known.id == id).cloned().ok_or(Denial::OperationNotFound)?)
    }
}

/// A rotation as it begins: the version that is made, and the work.
pub(super) struct Begun {
    row: KeyVersionRow,
    pub(super) operation: Operation,
}

impl Begun {
    fn of(work: Rotation, new: &New, scene: &Scene<'_>) -> Result<Self, VaultError> {
        let row = sealed_row(
            scene,
            KeyVersionRow {
                platform: scene.context.platform,
                kind: work.key.as_str().to_owned(),
                version: new.version,
                state: KeyState::Pending,
                wrapped: new.wrapped.clone(),
                created_at: scene.now,
                destroy_at: None,
                mac: [0; 32],
            },
        );
        let id = OperationId::random(scene.rng()).map_err(unavailable)?;
        let operation = Operation {
            phase: Phase::Activate,
            key_version: new.version,
            rate: new.rate,
            ..Operation::new(
                id,
                row.platform,
                work.operation,
                work.object,
                scene.now,
                work.passes * new.total,
            )
        };
        tracing::info!(platform = row.platform.get(), key = name_of(&row), operation = %id, "a rotation begins");
        Ok(Self { row, operation })
    }

    /// What its entry says. A root version has no row.
    pub(super) fn about(&self, entry: Entry) -> Entry {
        let entry = about_key(&self.row, entry);
        Entry { row_mac: entry.row_mac.filter(|_| self.row.wrapped.is_some()), ..entry }
    }

    pub(super) fn put(self, plan: &mut Plan) {
        if self.row.wrapped.is_some() {
            plan.reconfigures = true;
            plan.writes.push(Write::InsertKey(self.row));
        }
        plan.writes.push(Write::InsertOperation(OperationRow { operation: self.operation }));
    }
}

/// A new version of a key that the calendar asks for, and no person.
pub(super) struct NewVersion(Rotation, New);

impl NewVersion {
    /// The rotation, where the version is still the next one.
    pub(super) fn begin(&self, scene: &Scene<'_>) -> Result<Begun, VaultError> {
        let Self(work, new) = self;
        // Whatever began since, beside which it must not be, moved the epoch.
        if scene.context.config_epoch != new.epoch {
            return Err(VaultError::Contended);
        }
        Begun::of(*work, new, scene)
    }
}

impl Vault {
    /// The newest rotation of a key, or the open work beside which it must not be: when it began, and whether it is open. A
    /// rekey makes a version of the platform key too.
    pub(super) async fn last_rotation(
        &self,
        platform: PlatformId,
        kind: KeyKind,
    ) -> Result<Option<Operation>, VaultError> {
        let work = Rotation::of(kind)?;
        if let Some(open) = self.open_beside(platform, work).await? {
            return Ok(Some(open));
        }
        let mut newest = self.rotations(platform, work.operation, 1).await?;
        if kind == KeyKind::Platform {
            newest.extend(self.rotations(platform, RekeyPlatform, 1).await?);
        }
        Ok(newest.into_iter().max_by_key(|rotation| rotation.created_at))
    }

    /// Makes the next version of a key, as a context has it that was read before the last rotation was looked for; that of the
    /// root is made when the work begins.
    pub(super) async fn new_version(
        &self,
        platform: PlatformId,
        kind: KeyKind,
        context: &Context,
    ) -> Result<NewVersion, VaultError> {
        let work = Rotation::of(kind)?;
        let (epoch, version) = (context.config_epoch, context.next_version(kind));
        let total = self.steps(platform, work).await?;
        if kind == KeyKind::Root {
            self.root_versions().await?;
            return Ok(NewVersion(work, New { version: 0, wrapped: None, epoch, total, rate: 0 }));
        }
        let wrapped = Some(self.new_key(platform, kind, version).await?);
        Ok(NewVersion(work, New { version, wrapped, epoch, total, rate: 0 }))
    }
}
