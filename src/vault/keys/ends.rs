//! How work on keys ends: in a version that is given up, that retires until it is destroyed, or that is gone.

use std::time::Duration;

use super::{
    KeyState, KeyVersionRow, about_key,
    rotation::{Next, key_kind, log},
    sealed_row,
    states::LEAST_DELAY,
};
use crate::{
    audit::entry::{Entry, Verdict},
    crypto::keyring::KeyKind,
    domain::{
        ids::{EntryId, OperationId},
        operation::{Operation, OperationKind, OperationState, Phase},
    },
    store::{
        Write,
        rows::{Mac, work::OperationRow},
    },
    vault::{
        act::{Claim, Plan, Scene},
        error::VaultError,
        tokenize::unavailable,
    },
};

/// Writes a version's next state, with its entry.
pub(super) fn put_key(
    to: KeyVersionRow,
    was: &KeyVersionRow,
    scene: &Scene<'_>,
    plan: &mut Plan,
    call: &str,
) -> Result<(), VaultError> {
    let row = sealed_row(scene, to);
    let id = EntryId::random(scene.rng()).map_err(unavailable)?;
    plan.entries.push(about_key(&row, Entry::new(id, scene.now, row.platform, call, Verdict::Done)));
    plan.reconfigures = true;
    plan.writes.push(Write::UpdateKey(row, was.mac));
    Ok(())
}

/// The new version of a rotation that is given up, as it is then, and its MAC before. Where nothing was ever protected by
/// it, it is gone. Where a new index is not whole, nothing more is put there; what is there, the next rotation moves on.
pub(in crate::vault) fn given_up(scene: &Scene<'_>, operation: &Operation) -> Option<(KeyVersionRow, Mac)> {
    let row = scene.context.key(key_kind(operation.kind), operation.key_version)?;
    let next = match (operation.kind, operation.phase, row.state) {
        (_, Phase::Activate, KeyState::Pending) => {
            KeyVersionRow { state: KeyState::Destroyed, wrapped: None, ..row.clone() }
        }
        (OperationKind::RotateIndexKey, Phase::Fill | Phase::Verify, KeyState::Active) => {
            KeyVersionRow { state: KeyState::Retiring, ..row.clone() }
        }
        // Whoever calls a destruction off means to keep the version.
        (OperationKind::DestroyRootKey, _, KeyState::DestructionScheduled) => {
            KeyVersionRow { state: KeyState::Disabled, destroy_at: None, ..row.clone() }
        }
        _ => return None,
    };
    Some((sealed_row(scene, next), row.mac))
}

pub(super) fn fail(operation: &Operation, scene: &Scene<'_>, plan: &mut Plan) -> Result<Next, VaultError> {
    if let Some((row, _)) = given_up(scene, operation)
        && let Some(was) = scene.context.key(key_kind(operation.kind), row.version)
    {
        if !plan.claim(Claim::Config) {
            return Ok(Next::Later);
        }
        put_key(row, was, scene, plan, "Operation/Fail")?;
    }
    log(operation, scene, plan, "Operation/Fail", None)?;
    Ok(Next::To(operation.clone().ended(OperationState::Failed, scene.now)))
}

/// Schedules the destruction of every version of the platform key before the one that a rekey made: nothing is under them. False
/// where the batch changes the configuration already.
pub(super) fn retire(
    operation: &Operation,
    may_wait: Duration,
    scene: &Scene<'_>,
    plan: &mut Plan,
) -> Result<bool, VaultError> {
    if !plan.claim(Claim::Config) {
        return Ok(false);
    }
    // Proposals that are sealed under them end by themselves until then.
    let at = scene.now.plus(LEAST_DELAY + may_wait);
    for row in scene.context.key_rows() {
        let older = row.kind == KeyKind::Platform.as_str() && row.version < operation.key_version;
        if older && matches!(row.state, KeyState::Retiring | KeyState::Disabled) {
            let next =
                KeyVersionRow { state: KeyState::DestructionScheduled, destroy_at: Some(at), ..row.clone() };
            put_key(next, row, scene, plan, "Operation/ScheduleDestruction")?;
            let id = OperationId::random(scene.rng()).map_err(unavailable)?;
            let kind = OperationKind::DestroyKey;
            let work = Operation::new(id, row.platform, kind, *id.as_bytes(), scene.now, 1);
            let operation = Operation { due_at: at, key_version: row.version, ..work };
            plan.writes.push(Write::InsertOperation(OperationRow { operation }));
        }
    }
    Ok(true)
}
