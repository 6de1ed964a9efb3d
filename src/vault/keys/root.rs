//! The root key's own part of a rotation, and the destruction of its versions.
//!
//! Root versions live in the KMS, which alone knows the one that wraps: every process asks it at each call, so nobody must be
//! waited for. A wrap names its version, and the MAC of a key's row does not cover the wrap: what is wrapped anew stays the same
//! row. Each platform's keys change in one commit of its own log. A worker that was overtaken writes the same key under the same
//! version once more, or nothing.

use std::collections::BTreeMap;

use super::{
    KeyState, KeyVersionRow, about_key,
    ends::put_key,
    rotation::{self, Next, Went, go_on, log},
    sealed_row,
};
use crate::{
    audit::entry::{Entry, Verdict},
    crypto::{
        aead::wrap_version,
        keyring::{KeyKind, key_version_place},
        kms::{KmsError, RootVersions},
    },
    domain::{
        caller::Caller,
        ids::{EntryId, OperationId, PlatformId},
        operation::{Operation, OperationKind, OperationState, Phase},
        secret::Sealed,
        time::Timestamp,
    },
    policy::decide::Denial,
    store::{Write, rows::work::OperationRow},
    vault::{
        Vault,
        access::Call,
        act::{Act, Asker, Claim, Flow, Plan, Reply, Scene, reply},
        context::{Context, LoadError},
        deed::{Deed, Deeded, Hand},
        error::{VaultError, unreadable},
        operations::LEASE,
        replay::ItemOutcome,
        tokenize::unavailable,
    },
};

/// Times that a platform's keys are read and wrapped anew, where somebody changes them meanwhile.
const ATTEMPTS: u32 = 3;

/// A step of the work on a root version.
pub(super) enum Step {
    /// It is made; the operation goes on with it.
    Made(u32),
    /// The KMS wraps with it.
    Active,
    /// A key is still under another version.
    Again,
    /// The version and those before it are gone; or so many keys need them.
    Destroyed { needed: u64 },
}

fn refused(error: KmsError) -> VaultError {
    unreadable(LoadError::from(error))
}

impl Vault {
    /// The version that a rotation makes: the newest, where somebody made it and was stopped.
    pub(super) fn next_root(versions: &RootVersions) -> u32 {
        let newest = versions.present.last().copied().unwrap_or(versions.active);
        if newest > versions.active { newest } else { newest.saturating_add(1) }
    }

    pub(super) async fn root_versions(&self) -> Result<RootVersions, VaultError> {
        self.shared.kms.versions().await.map_err(refused)
    }

    /// Makes a root version and lets it wrap. What it is called is written down before it is used.
    pub(super) async fn activate_root(&self, taken: &mut Operation) -> Result<Went, VaultError> {
        let (kms, rng) = (self.shared.kms.as_ref(), self.shared.rng.as_ref());
        let versions = self.root_versions().await?;
        let step = if taken.key_version == 0 {
            let next = Self::next_root(&versions);
            let known = versions.present.contains(&next);
            Step::Made(if known { next } else { kms.add_version(rng).await.map_err(refused)? })
        } else {
            if versions.active < taken.key_version {
                kms.activate(taken.key_version).await.map_err(refused)?;
            }
            Step::Active
        };
        self.root_step(taken, step).await
    }

    /// Wraps the keys of every platform anew, or opens each.
    pub(super) async fn walk_roots(&self, taken: &mut Operation) -> Result<Went, VaultError> {
        self.find_platforms().await.map_err(unreadable)?;
        let platforms = self.platforms();
        let count = platforms.len();
        for (at, (platform, _)) in (1..).zip(platforms) {
            let walked = if taken.phase == Phase::Verify {
                self.verify_keys(platform, taken.key_version).await?
            } else {
                self.rewrap_keys(platform, taken).await?
            };
            let steps = match walked {
                Ok(steps) => steps,
                Err(step) => {
                    self.key_step(taken.clone(), step).await?;
                    return Ok(Went::Stopped);
                }
            };
            let step = rotation::Step::Walked { steps, last: at == count };
            match self.key_step(taken.clone(), step).await? {
                Some(next) if next.is_open() => *taken = next,
                _ => return Ok(Went::Stopped),
            }
        }
        Ok(Went::On)
    }

    /// Wraps one platform's keys under the active root version. Each is opened again before it replaces the other wrap. A
    /// damaged one does not open later either: the rotation ends with it, and the version that it needs stays.
    async fn rewrap_keys(
        &self,
        platform: PlatformId,
        taken: &Operation,
    ) -> Result<Result<u64, rotation::Step>, VaultError> {
        let (kms, rng) = (self.shared.kms.as_ref(), self.shared.rng.as_ref());
        for _ in 0..ATTEMPTS {
            let rows = self.wrapped_rows(platform).await?;
            let steps = u64::try_from(rows.len()).unwrap_or(u64::MAX);
            let mut changed = Vec::new();
            for row in rows {
                let Some(before) = &row.wrapped else { continue };
                if wrap_version(before).is_ok_and(|version| version == taken.key_version) {
                    continue;
                }
                let place = place_of(&row)?;
                let after = match kms.rewrap(&place, before, rng).await {
                    Ok(after) => after,
                    Err(KmsError::DoesNotOpen(error)) => return Ok(Err(damaged(&row, &error))),
                    Err(error) => return Err(refused(error)),
                };
                let is_new = wrap_version(&after).is_ok_and(|version| version == taken.key_version);
                if !is_new {
                    tracing::error!(platform = platform.get(), "the KMS wraps under another root version");
                    return Err(VaultError::Unavailable);
                }
                changed.push((row, after));
            }
            if changed.is_empty() {
                return Ok(Ok(steps));
            }
            let (reply, waiting) = reply();
            self.platform(platform)?.lane.submit(RewrapKeys { changed, reply })?;
            match waiting.answer().await {
                Ok(()) => return Ok(Ok(steps)),
                Err(VaultError::Contended) => {}
                Err(other) => return Err(other),
            }
        }
        Err(VaultError::Contended)
    }

    /// Opens each of a platform's keys; or what there is to do where one is not as it should be.
    async fn verify_keys(
        &self,
        platform: PlatformId,
        version: u32,
    ) -> Result<Result<u64, rotation::Step>, VaultError> {
        let rows = self.wrapped_rows(platform).await?;
        for row in &rows {
            let Some(wrapped) = &row.wrapped else { continue };
            if wrap_version(wrapped).is_ok_and(|under| under < version) {
                // A platform that was made meanwhile, under the version of before.
                return Ok(Err(rotation::Step::Root(Step::Again)));
            }
            match self.shared.kms.unwrap(&place_of(row)?, wrapped).await {
                Ok(_) => {}
                Err(KmsError::DoesNotOpen(error)) => return Ok(Err(damaged(row, &error))),
                Err(error) => return Err(refused(error)),
            }
        }
        Ok(Ok(u64::try_from(rows.len()).unwrap_or(u64::MAX)))
    }

    /// Key versions of a platform that are wrapped under the root, as stored now.
    async fn wrapped_rows(&self, platform: PlatformId) -> Result<Vec<KeyVersionRow>, VaultError> {
        let stored = self.shared.store.config(platform).await.map_err(unavailable)?;
        Ok(stored.keys.into_iter().filter(|row| row.wrapped.is_some()).collect())
    }

    /// How many keys of all platforms each root version wraps.
    pub(in crate::vault) async fn root_wraps(&self) -> Result<BTreeMap<u32, u64>, VaultError> {
        self.find_platforms().await.map_err(unreadable)?;
        let mut wraps = BTreeMap::new();
        for (platform, _) in self.platforms() {
            for row in self.wrapped_rows(platform).await? {
                // A wrap that names no version is damage, which the verification of a rotation tells of.
                let version =
                    row.wrapped.as_ref().and_then(|wrapped| wrap_version(wrapped).ok()).unwrap_or(0);
                *wraps.entry(version).or_default() += 1;
            }
        }
        Ok(wraps)
    }

    async fn root_step(&self, taken: &mut Operation, step: Step) -> Result<Went, VaultError> {
        Ok(go_on(taken, self.key_step(taken.clone(), rotation::Step::Root(step)).await?))
    }

    /// Schedules the destruction of a root version and of all before it. Backups that they sealed never open again.
    ///
    /// # Errors
    /// [`VaultError`]; [`Denial::KeyInUse`] where one of them wraps a key.
    pub async fn schedule_root_destruction(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        version: u32,
        at: Timestamp,
    ) -> Result<KeyVersionRow, VaultError> {
        let id = self.target(caller, &asker, Call::ScheduleKeyDestruction, platform).await?;
        if id != PlatformId::VAULT {
            return Err(VaultError::invalid("platform", "the root key is one for all: name `vault`"));
        }
        // The KMS is not asked for somebody who may not; the deed refuses with an entry.
        let staff = self.shared.staff.load_full();
        if Call::ScheduleKeyDestruction.allows(caller, id, &staff).is_err() {
            let state = Err(Denial::CallerNotAllowed);
            return self.run(id, caller, asker, Schedule { version, at, state }).await;
        }
        let (versions, wraps) = (self.root_versions().await?, self.root_wraps().await?);
        let state = if !versions.present.contains(&version) {
            Err(Denial::KeyNotFound)
        } else if version >= versions.active {
            Err(Denial::KeyActive)
        } else if needed(&wraps, version) > 0 {
            Err(Denial::KeyInUse)
        } else {
            Ok(())
        };
        self.run(id, caller, asker, Schedule { version, at, state }).await
    }

    /// Destroys a root version and those before it, if they still wrap nothing.
    pub(in crate::vault) async fn destroy_root(&self, operation: &Operation) -> Result<bool, VaultError> {
        let step = rotation::Step::Take;
        let Some(taken) = self.key_step(operation.clone(), step).await? else { return Ok(false) };
        if !taken.is_open() {
            return Ok(true);
        }
        let needed = needed(&self.root_wraps().await?, taken.key_version);
        let mut left = self.root_versions().await?;
        while needed == 0
            && let Some(oldest) = left.present.first().copied()
            && oldest <= taken.key_version
        {
            self.shared.kms.destroy(oldest).await.map_err(refused)?;
            left = self.root_versions().await?;
        }
        let step = rotation::Step::Root(Step::Destroyed { needed });
        Ok(self.key_step(taken, step).await?.is_some())
    }
}

/// Keys that need a version or one before it.
fn needed(wraps: &BTreeMap<u32, u64>, version: u32) -> u64 {
    wraps.range(..=version).map(|(_, count)| count).sum()
}

fn place_of(row: &KeyVersionRow) -> Result<crate::domain::canonical::Canonical, VaultError> {
    let kind: KeyKind = row.kind.parse().map_err(unavailable)?;
    Ok(key_version_place(row.platform, kind, row.version))
}

pub(super) fn decide(
    operation: &Operation,
    step: &Step,
    scene: &Scene<'_>,
    plan: &mut Plan,
) -> Result<Next, VaultError> {
    if matches!(step, Step::Active | Step::Destroyed { .. }) && !plan.claim(Claim::Config) {
        return Ok(Next::Later);
    }
    decided(operation, step, scene, plan).map(Next::To)
}

fn decided(
    operation: &Operation,
    step: &Step,
    scene: &Scene<'_>,
    plan: &mut Plan,
) -> Result<Operation, VaultError> {
    let next = Operation { lease_until: Some(scene.now.plus(LEASE)), ..operation.clone() };
    let ended = |state| operation.clone().ended(state, scene.now);
    match *step {
        Step::Made(version) => {
            log(operation, scene, plan, "Operation/MakeRoot", None)?;
            Ok(Operation { key_version: version, ..next })
        }
        Step::Active => {
            log(operation, scene, plan, "Operation/ActivateKey", None)?;
            note_active(operation.key_version, scene, plan)?;
            Ok(Operation { phase: Phase::Rewrap, ..next })
        }
        Step::Again => {
            log(operation, scene, plan, "Operation/RewrapKeys", None)?;
            Ok(Operation { phase: Phase::Rewrap, ..next })
        }
        Step::Destroyed { needed } if needed > 0 => {
            let version = operation.key_version;
            tracing::error!(version, needed, "a root version is in use: it is not destroyed");
            log(operation, scene, plan, "Operation/DestroyKey", Some(needed))?;
            if let Some(row) = root_row(scene, version) {
                let kept = KeyVersionRow { state: KeyState::Disabled, destroy_at: None, ..row.clone() };
                put_key(kept, row, scene, plan, "Operation/DestroyKey")?;
            }
            Ok(ended(OperationState::Failed))
        }
        Step::Destroyed { .. } => {
            log(operation, scene, plan, "Operation/DestroyKey", None)?;
            for row in root_rows(scene).filter(|row| row.version <= operation.key_version) {
                let gone = KeyVersionRow { state: KeyState::Destroyed, ..row.clone() };
                put_key(gone, row, scene, plan, "Operation/DestroyKey")?;
            }
            Ok(Operation { done: operation.total, ..ended(OperationState::Done) })
        }
    }
}

/// Rows of root versions that are there still.
fn root_rows<'a>(scene: &Scene<'a>) -> impl Iterator<Item = &'a KeyVersionRow> {
    let rows = scene.context.key_rows().iter();
    rows.filter(|row| row.kind == KeyKind::Root.as_str() && row.state != KeyState::Destroyed)
}

fn root_row<'a>(scene: &Scene<'a>, version: u32) -> Option<&'a KeyVersionRow> {
    root_rows(scene).find(|row| row.version == version)
}

/// Whether a root version is to be destroyed now, as its row says.
pub(super) fn is_due(scene: &Scene<'_>, version: u32) -> bool {
    root_row(scene, version).is_some_and(|row| {
        row.state == KeyState::DestructionScheduled && row.destroy_at.is_some_and(|at| at <= scene.now)
    })
}

/// A root version's row, without its MAC.
const fn new_row(version: u32, kind: String, state: KeyState, now: Timestamp) -> KeyVersionRow {
    KeyVersionRow {
        platform: PlatformId::VAULT,
        kind,
        version,
        state,
        wrapped: None,
        created_at: now,
        destroy_at: None,
        mac: [0; 32],
    }
}

/// Writes down that a root version wraps from now on, and the ones before it no more.
fn note_active(version: u32, scene: &Scene<'_>, plan: &mut Plan) -> Result<(), VaultError> {
    const CALL: &str = "Operation/ActivateKey";
    for row in root_rows(scene).filter(|row| row.state == KeyState::Active && row.version != version) {
        put_key(KeyVersionRow { state: KeyState::Retiring, ..row.clone() }, row, scene, plan, CALL)?;
    }
    // Those before it that nobody wrote down are as old as the installation may be.
    let oldest = installed_at(scene.context).unwrap_or(scene.now);
    for known in 1..=version {
        if scene.context.key(KeyKind::Root, known).is_some() {
            continue;
        }
        let (state, since) =
            if known == version { (KeyState::Active, scene.now) } else { (KeyState::Retiring, oldest) };
        let row = sealed_row(scene, new_row(known, KeyKind::Root.as_str().to_owned(), state, since));
        let id = EntryId::random(scene.rng()).map_err(unavailable)?;
        plan.entries.push(about_key(&row, Entry::new(id, scene.now, row.platform, CALL, Verdict::Done)));
        plan.writes.push(Write::InsertKey(row));
    }
    plan.reconfigures = true;
    Ok(())
}

/// When the installation was made, as its first keys tell.
pub(super) fn installed_at(staff: &Context) -> Option<Timestamp> {
    staff.key_rows().iter().map(|row| row.created_at).min()
}

/// A key that does not open: the work on the root ends with it.
fn damaged(row: &KeyVersionRow, error: &(dyn std::error::Error + 'static)) -> rotation::Step {
    let (platform, kind, version) = (row.platform.get(), row.kind.as_str(), row.version);
    tracing::error!(
        platform,
        kind,
        version,
        error,
        "a key does not open under its root version: the rotation fails; put its row back from a backup, and rotate again"
    );
    rotation::Step::Fail
}

/// Keys of one platform under another wrap.
struct RewrapKeys {
    /// Rows as they were read, and their new wraps.
    changed: Vec<(KeyVersionRow, Sealed)>,
    reply: Reply<()>,
}

impl Act for RewrapKeys {
    fn writes(&self) -> bool {
        true
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_abandoned()
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        if !plan.claim(Claim::Config) {
            return Ok(Flow::Later);
        }
        for (was, after) in &self.changed {
            let kind: KeyKind = was.kind.parse().map_err(unavailable)?;
            let row = scene.context.key(kind, was.version).filter(|row| row.wrapped == was.wrapped);
            let row = row.ok_or(VaultError::Contended)?;
            let next = KeyVersionRow { wrapped: Some(after.clone()), ..row.clone() };
            let id = EntryId::random(scene.rng()).map_err(unavailable)?;
            let entry = Entry::new(id, scene.now, row.platform, "Operation/RewrapKey", Verdict::Done);
            plan.entries.push(about_key(&next, entry));
            plan.writes.push(Write::UpdateKey(next, row.mac));
        }
        plan.reconfigures = true;
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        self.reply.send(outcome);
    }
}

/// The destruction of root versions, at a date.
struct Schedule {
    version: u32,
    at: Timestamp,
    /// Whether it may be destroyed, as the KMS and the stored keys say.
    state: Result<(), Denial>,
}

impl Deed for Schedule {
    type Answer = KeyVersionRow;

    fn call(&self) -> Call {
        Call::ScheduleKeyDestruction
    }

    fn changes(&self) -> bool {
        true
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<KeyVersionRow>, VaultError> {
        let now = hand.scene.now;
        super::states::check_time(self.at, now, hand.may_wait())?;
        self.state?;
        if !hand.plan.claim(Claim::Config) {
            return Ok(Deeded::Later);
        }
        let known = hand.scene.context.key(KeyKind::Root, self.version);
        // A later schedule replaces the date of an earlier one: what the row says is what holds.
        let kind = KeyKind::Root.as_str().to_owned();
        let row = known.cloned().unwrap_or(new_row(self.version, kind, KeyState::Retiring, now));
        let row = KeyVersionRow { state: KeyState::DestructionScheduled, destroy_at: Some(self.at), ..row };
        let row = sealed_row(hand.scene, row);
        hand.log(|entry| about_key(&row, entry))?;
        hand.plan.reconfigures = true;
        hand.plan.writes.push(match known {
            Some(known) => Write::UpdateKey(row.clone(), known.mac),
            None => Write::InsertKey(row.clone()),
        });
        let id = OperationId::random(hand.scene.rng()).map_err(unavailable)?;
        let kind = OperationKind::DestroyRootKey;
        let work = Operation::new(id, row.platform, kind, *id.as_bytes(), now, 1);
        let operation = Operation { due_at: self.at, key_version: row.version, ..work };
        hand.plan.writes.push(Write::InsertOperation(OperationRow { operation }));
        Ok(Deeded::changed(row, ItemOutcome::default()))
    }

    fn again(&self, hand: &Hand<'_, '_>, _before: &ItemOutcome) -> Result<KeyVersionRow, VaultError> {
        let row = hand.scene.context.key(KeyKind::Root, self.version);
        Ok(row.ok_or(Denial::KeyNotFound)?.clone())
    }
}
