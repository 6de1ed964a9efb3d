//! Operations under a person's hand: paused, resumed, cancelled. Each raises the fence, so a worker that has the operation
//! writes nothing more.

use super::{
    Vault,
    access::Call,
    act::{Asker, Claim},
    deed::{Deed, Deeded, Hand},
    error::VaultError,
    keys::given_up,
    replay::ItemOutcome,
    tokenize::unavailable,
};
use crate::{
    audit::entry::Entry,
    domain::{
        caller::Caller,
        ids::{OperationId, PlatformId},
        operation::{Operation, OperationKind, OperationState},
    },
    policy::decide::Denial,
    store::{Write, rows::work::OperationRow},
};

/// What a person does to an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Control {
    /// Stop it for a while.
    Pause,
    /// Let it go on, perhaps at another rate.
    Resume(Option<u32>),
    /// End it.
    Cancel,
}

impl Control {
    const fn call(self) -> Call {
        match self {
            Self::Pause => Call::PauseOperation,
            Self::Resume(_) => Call::ResumeOperation,
            Self::Cancel => Call::CancelOperation,
        }
    }
}

impl Vault {
    /// Pauses, resumes or cancels an operation.
    ///
    /// # Errors
    /// [`VaultError`]; [`VaultError::Contended`] where it moved meanwhile.
    pub async fn control(
        &self,
        caller: &Caller,
        asker: Asker,
        id: OperationId,
        control: Control,
    ) -> Result<Operation, VaultError> {
        let found = self.find_operation(caller, id).await?;
        let platform = found.as_ref().map_or(caller.platform, |operation| operation.platform);
        self.run(platform, caller, asker, Steer { found, control }).await
    }

    /// An operation on any platform that the caller might see. Whether it may, the deed decides.
    pub(super) async fn find_operation(
        &self,
        caller: &Caller,
        id: OperationId,
    ) -> Result<Option<Operation>, VaultError> {
        let everywhere = caller.platform == PlatformId::VAULT;
        for (platform, _) in self.platforms() {
            if everywhere || platform == caller.platform {
                let row = self.shared.store.operation(platform, id).await.map_err(unavailable)?;
                if let Some(row) = row {
                    return Ok(Some(row.operation));
                }
            }
        }
        Ok(None)
    }
}

struct Steer {
    /// As it was a moment ago.
    found: Option<Operation>,
    control: Control,
}

impl Deed for Steer {
    type Answer = Operation;

    fn call(&self) -> Call {
        self.control.call()
    }

    fn changes(&self) -> bool {
        true
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Operation>, VaultError> {
        let found = self.found.as_ref().ok_or(Denial::OperationNotFound)?;
        let next = steered(found, self.control, hand.scene.now)?;
        if self.control == Control::Cancel
            && let Some((row, was)) = given_up(hand.scene, found)
        {
            if !hand.plan.claim(Claim::Config) {
                return Ok(Deeded::Later);
            }
            hand.log(|entry| super::keys::about_key(&row, entry))?;
            hand.plan.reconfigures = true;
            hand.plan.writes.push(Write::UpdateKey(row, was));
        }
        hand.log(|entry| Entry {
            object_kind: Some("operation".to_owned()),
            object: Some(OperationId::as_bytes(&found.id).to_vec()),
            ..entry
        })?;
        hand.plan.writes.push(Write::UpdateOperation(OperationRow { operation: next.clone() }, found.fence));
        Ok(Deeded::changed(next, ItemOutcome::default()))
    }

    fn again(&self, _hand: &Hand<'_, '_>, _before: &ItemOutcome) -> Result<Operation, VaultError> {
        Ok(self.found.clone().ok_or(Denial::OperationNotFound)?)
    }
}

/// The operation after a person's word. An erasure and a destruction of a key are called off by calls of their own, which
/// also bring back what they stopped.
fn steered(
    found: &Operation,
    control: Control,
    now: crate::domain::time::Timestamp,
) -> Result<Operation, Denial> {
    if !found.is_open() {
        return Err(Denial::OperationEnded);
    }
    match found.kind {
        OperationKind::RotatePlatformKey
        | OperationKind::RotateAuditKey
        | OperationKind::RotateIndexKey
        | OperationKind::RotateRootKey
        | OperationKind::RekeyPlatform
        | OperationKind::CollectDocuments
        | OperationKind::Backup
        | OperationKind::SweepRetention => {}
        // Its date was approved, so it comes neither sooner nor later; and once it has begun, the version may be gone.
        OperationKind::DestroyRootKey
            if control == Control::Cancel && found.state == OperationState::Waiting => {}
        OperationKind::DestroyRootKey => return Err(Denial::OperationUncontrolled),
        OperationKind::DestroySubject | OperationKind::DestroyKey | OperationKind::DestroyIndexKey => {
            return Err(Denial::OperationUncontrolled);
        }
    }
    let next = Operation { fence: found.fence.saturating_add(1), lease_until: None, ..found.clone() };
    Ok(match control {
        Control::Pause => Operation { state: OperationState::Paused, ..next },
        Control::Resume(rate) => Operation {
            state: OperationState::Waiting,
            due_at: now,
            rate: rate.unwrap_or(found.rate),
            ..next
        },
        Control::Cancel => next.ended(OperationState::Cancelled, now),
    })
}
