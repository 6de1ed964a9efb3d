//! The end of a key version: by the calendar, as a standing plan lets it, and of a platform or index key the end itself.

use super::{
    KeyKind, KeyState, KeyVersionRow, WhichKey,
    ends::put_key,
    horizon,
    rotation::{Next, Step, key_kind, log},
};
use crate::{
    domain::{
        ids::{OperationId, PlatformId},
        operation::{Operation, OperationKind, OperationState},
    },
    store::{Write, rows::work::OperationRow},
    vault::{
        Vault,
        act::{Act, Claim, Flow, Plan, Reply, Scene, reply},
        error::VaultError,
        tokenize::unavailable,
    },
};

impl Vault {
    /// Destroys a version whose time has come, if it still wraps nothing.
    pub(in crate::vault) async fn destroy_key(&self, operation: &Operation) -> Result<bool, VaultError> {
        let Some(taken) = self.key_step(operation.clone(), Step::Take).await? else { return Ok(false) };
        if !taken.is_open() {
            return Ok(true);
        }
        let kind = key_kind(taken.kind);
        let wraps = self.used(taken.platform, kind, taken.key_version).await?;
        Ok(self.key_step(taken, Step::Destroy { wraps }).await?.is_some())
    }
}

pub(super) fn decide(
    operation: &Operation,
    wraps: u64,
    scene: &Scene<'_>,
    plan: &mut Plan,
) -> Result<Next, VaultError> {
    let row = scene.context.key(key_kind(operation.kind), operation.key_version);
    let due = row.filter(|row| {
        row.state == KeyState::DestructionScheduled && row.destroy_at.is_some_and(|at| at <= scene.now)
    });
    let Some(row) = due else {
        // It was called off.
        log(operation, scene, plan, "Operation/DestroyKey", None)?;
        return Ok(Next::To(operation.clone().ended(OperationState::Cancelled, scene.now)));
    };
    if !plan.claim(Claim::Config) {
        return Ok(Next::Later);
    }
    if wraps > 0 {
        tracing::error!(
            kind = row.kind,
            version = row.version,
            wraps,
            "a key version is in use: it is not destroyed"
        );
        let kept = KeyVersionRow { state: KeyState::Disabled, destroy_at: None, ..row.clone() };
        put_key(kept, row, scene, plan, "Operation/DestroyKey")?;
        return Ok(Next::To(operation.clone().ended(OperationState::Failed, scene.now)));
    }
    let gone = KeyVersionRow { state: KeyState::Destroyed, wrapped: None, ..row.clone() };
    put_key(gone, row, scene, plan, "Operation/DestroyKey")?;
    Ok(Next::To(Operation { done: 1, ..operation.clone() }.ended(OperationState::Done, scene.now)))
}

/// The announcement of a destruction that a standing plan lets happen.
struct Announce {
    which: WhichKey,
    announced: bool,
    reply: Reply<bool>,
}

impl Vault {
    /// Schedules the destruction of versions that are as old as the horizon soon and that nothing is under, as far as a
    /// standing plan lets it.
    pub(in crate::vault) async fn destroy_on_schedule(&self, platform: PlatformId) -> Result<(), VaultError> {
        let (staff, now) = (self.shared.staff.load_full(), self.shared.clock.now());
        let Some(plan) = horizon::in_force(&staff, &self.shared.options, now) else { return Ok(()) };
        let context = self.context(platform)?;
        for row in context.key_rows() {
            let kind = row.kind.parse::<KeyKind>().ok().filter(|kind| horizon::OF_DATA.contains(kind));
            let Some(kind) = kind.filter(|_| plan.destroy_at(row, now).is_some()) else { continue };
            // What is under a version is counted; that is not done every few seconds.
            if !self.schedule.may_try(platform, kind, row.version, now) {
                continue;
            }
            let uses = if kind == KeyKind::Root {
                self.root_wraps().await?.range(..=row.version).map(|(_, count)| count).sum()
            } else {
                self.used(platform, kind, row.version).await?
            };
            if uses > 0 {
                let (platform, kind, version) = (platform.get(), kind.as_str(), row.version);
                tracing::error!(
                    platform,
                    kind,
                    version,
                    uses,
                    "a key version is as old as the horizon soon, and something is under it: it is not destroyed; see why its \
                     rotation is not done"
                );
                continue;
            }
            let (reply, waiting) = reply();
            let which = WhichKey { kind, version: row.version };
            self.platform(platform)?.lane.submit(Announce { which, announced: false, reply })?;
            if !waiting.answer().await? {
                self.schedule.try_again(platform, kind, row.version);
            }
        }
        Ok(())
    }
}

impl Act for Announce {
    fn writes(&self) -> bool {
        true
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_abandoned()
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        self.announced = false;
        if scene.time_jumped() {
            return Ok(Flow::Ready);
        }
        let WhichKey { kind, version } = self.which;
        let standing = horizon::in_force(scene.staff, &scene.shared.options, scene.now);
        let row = scene.context.key(kind, version);
        let Some((standing, row)) = standing.zip(row) else { return Ok(Flow::Ready) };
        let Some(at) = standing.destroy_at(row, scene.now) else { return Ok(Flow::Ready) };
        if !plan.claim(Claim::Config) {
            return Ok(Flow::Later);
        }
        let next =
            KeyVersionRow { state: KeyState::DestructionScheduled, destroy_at: Some(at), ..row.clone() };
        put_key(next, row, scene, plan, "Schedule/DestroyKey")?;
        let id = OperationId::random(scene.rng()).map_err(unavailable)?;
        let destruction = match kind {
            KeyKind::Index => OperationKind::DestroyIndexKey,
            KeyKind::Root => OperationKind::DestroyRootKey,
            KeyKind::Platform | KeyKind::Row | KeyKind::Request | KeyKind::Audit => OperationKind::DestroyKey,
        };
        let object = standing.object(kind, version);
        let work = Operation::new(id, row.platform, destruction, object, scene.now, 1);
        let operation = Operation { due_at: at, key_version: version, ..work };
        plan.writes.push(Write::InsertOperation(OperationRow { operation }));
        self.announced = true;
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        let Self { announced, reply, .. } = *self;
        reply.send(outcome.map(|()| announced));
    }
}

/// Ends the destruction of a version under a standing plan that holds no more.
pub(super) fn call_off(
    operation: &Operation,
    scene: &Scene<'_>,
    plan: &mut Plan,
) -> Result<Next, VaultError> {
    if !plan.claim(Claim::Config) {
        return Ok(Next::Later);
    }
    let row = scene.context.key(key_kind(operation.kind), operation.key_version);
    if let Some(row) = row.filter(|row| row.state == KeyState::DestructionScheduled) {
        let kept = KeyVersionRow { state: KeyState::Retiring, destroy_at: None, ..row.clone() };
        put_key(kept, row, scene, plan, "Schedule/KeepKey")?;
    }
    log(operation, scene, plan, "Schedule/KeepKey", None)?;
    Ok(Next::To(operation.clone().ended(OperationState::Cancelled, scene.now)))
}
