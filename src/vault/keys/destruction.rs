//! The end of a version of a platform or index key.

use super::{
    KeyState, KeyVersionRow,
    ends::put_key,
    rotation::{Next, Step, key_kind, log},
};
use crate::{
    domain::operation::{Operation, OperationState},
    vault::{
        Vault,
        act::{Claim, Plan, Scene},
        error::VaultError,
    },
};

impl Vault {
    /// Destroys a version whose time has come, if it still wraps nothing.
    pub(in crate::vault) async fn destroy_key(&self, operation: &Operation) -> Result<bool, VaultError> {
        let Some(taken) = self.key_step(operation.clone(), Step::Take).await? else { return Ok(false) };
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
