//! Erasure: unreadable at once by state, destroyed after the cooling time, called off until then.

use super::{
    Vault,
    access::Call,
    act::{Asker, Claim},
    context::Context,
    deed::{Deed, Deeded, Hand},
    error::VaultError,
    replay::ItemOutcome,
    spending,
    subjects::{SubjectName, about, changed, may_manage},
    tokenize::unavailable,
};
use crate::{
    domain::{
        caller::{Caller, Governance},
        consent::SubjectState,
        ids::{CallerId, OperationId},
        operation::{BudgetKind, Operation, OperationKind, OperationState},
        receipt::ReceiptKind,
        reference::Reference,
        time::Timestamp,
    },
    policy::decide::Denial,
    store::{
        ReadKeys, Write,
        rows::{SubjectRow, work::OperationRow},
    },
};

/// An erasure that is on its way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Erasure {
    /// Since when the subject is unreadable.
    pub erased_at: Timestamp,
    /// When its keys are destroyed.
    pub destroy_at: Timestamp,
    /// The operation that does it.
    pub operation: OperationId,
}

impl Vault {
    /// Erases a subject: nothing of it is readable from the answer on, and its keys are destroyed after the cooling
    /// time. A subject whose use is blocked is not erased (rules R11, R49).
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn erase_subject(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        subject: SubjectName,
        reference: Option<Reference>,
    ) -> Result<Erasure, VaultError> {
        let platform = self.target(caller, &asker, Call::EraseSubject, platform).await?;
        let (asked_at, cooling) = (self.shared.clock.now(), self.shared.options.erasure_cooling);
        let deed = Erase::new(subject, reference, caller.id, asked_at, cooling);
        self.run(platform, caller, asker, deed).await
    }

    /// Calls an erasure off, as long as the keys are not destroyed.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn cancel_erasure(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        subject: SubjectName,
        reference: Option<Reference>,
    ) -> Result<Timestamp, VaultError> {
        let platform = self.target(caller, &asker, Call::CancelErasure, platform).await?;
        self.run(platform, caller, asker, Cancel { subject, reference }).await
    }
}

pub(super) struct Erase {
    subject: SubjectName,
    reference: Option<Reference>,
    caller: CallerId,
    asked_at: Timestamp,
    cooling: std::time::Duration,
    /// Whether the caller has erased as much as one person may.
    beyond_budget: bool,
}

impl Erase {
    pub(super) const fn new(
        subject: SubjectName,
        reference: Option<Reference>,
        caller: CallerId,
        asked_at: Timestamp,
        cooling: std::time::Duration,
    ) -> Self {
        Self { subject, reference, caller, asked_at, cooling, beyond_budget: false }
    }
}

impl Deed for Erase {
    type Answer = Erasure;

    fn call(&self) -> Call {
        Call::EraseSubject
    }

    fn changes(&self) -> bool {
        true
    }

    fn tightens(&self) -> bool {
        true
    }

    fn needs_two(&self) -> bool {
        self.beyond_budget
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        self.subject.reads(context, keys);
        spending::reads(context, self.caller, BudgetKind::Erasure, self.asked_at, keys);
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Erasure>, VaultError> {
        let scene = hand.scene;
        may_manage(scene, hand.caller)?;
        let row = self.subject.find(scene)?;
        match row.state {
            SubjectState::Active => {}
            SubjectState::Restricted => return Err(Denial::SubjectRestricted.into()),
            SubjectState::Erased => return Err(Denial::SubjectErased.into()),
        }
        if !hand.plan.claim(Claim::SubjectRow(row.id)) {
            return Ok(Deeded::Later);
        }
        // A stolen certificate must not burn a country in a minute.
        self.beyond_budget = false;
        if !hand.is_approved() {
            match spending::spend(scene, hand.plan, hand.caller, BudgetKind::Erasure) {
                Err(Denial::BudgetExhausted) if hand.governance == Governance::TwoPerson => {
                    self.beyond_budget = true;
                }
                spent => spent?,
            }
        }
        let operation = OperationId::random(scene.rng()).map_err(unavailable)?;
        let erasure = Erasure { erased_at: scene.now, destroy_at: scene.now.plus(self.cooling), operation };
        let next = SubjectRow {
            state: SubjectState::Erased,
            erased_at: Some(erasure.erased_at),
            destroy_at: Some(erasure.destroy_at),
            ..row.clone()
        };
        let next = changed(scene, next);
        let entry = hand.log(|entry| about(next.id, next.mac, self.reference.as_ref(), entry))?;
        hand.plan.writes.push(scene.receipt(ReceiptKind::Erased, entry, &next)?);
        hand.plan.tightens = true;
        for record in scene.records_of(row.id)? {
            hand.plan.writes.push(Write::EndClaims(record.address.record));
        }
        let kind = OperationKind::DestroySubject;
        let work = Operation::new(operation, scene.context.platform, kind, *row.id.as_bytes(), scene.now, 1);
        let work = Operation { due_at: erasure.destroy_at, ..work };
        hand.plan.writes.push(Write::InsertOperation(OperationRow { operation: work }));
        hand.plan.writes.push(Write::UpdateSubject(next, row.mac));
        let outcome = ItemOutcome {
            ids: vec![(*operation.as_bytes()).into()],
            numbers: vec![erasure.erased_at.as_micros(), erasure.destroy_at.as_micros()],
            ..ItemOutcome::default()
        };
        Ok(Deeded::changed(erasure, outcome))
    }

    fn again(&self, hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<Erasure, VaultError> {
        may_manage(hand.scene, hand.caller)?;
        let (erased_at, destroy_at) = (before.time(0)?, before.time(1)?);
        Ok(Erasure { erased_at, destroy_at, operation: OperationId::from_bytes(before.id(0)?) })
    }
}

struct Cancel {
    subject: SubjectName,
    reference: Option<Reference>,
}

impl Deed for Cancel {
    type Answer = Timestamp;

    fn call(&self) -> Call {
        Call::CancelErasure
    }

    fn changes(&self) -> bool {
        true
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        self.subject.reads(context, keys);
        keys.operations_of_found = true;
        keys.rivals_of_found = true;
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Timestamp>, VaultError> {
        let scene = hand.scene;
        let row = self.subject.find(scene)?;
        if row.state != SubjectState::Erased {
            return Err(Denial::SubjectNotErased.into());
        }
        // From its date on the destruction is nobody's to stop, whether or not the work on it has begun.
        if row.wrapped_key.is_none() || row.destroy_at.is_some_and(|at| at <= scene.now) {
            return Err(Denial::SubjectDestroyed.into());
        }
        if !hand.plan.claim(Claim::SubjectRow(row.id)) {
            return Ok(Deeded::Later);
        }
        let state = match row.restriction {
            Some(_) => SubjectState::Restricted,
            None => SubjectState::Active,
        };
        let next = SubjectRow { state, erased_at: None, destroy_at: None, ..row.clone() };
        let next = changed(scene, next);
        let entry = hand.log(|entry| about(next.id, next.mac, self.reference.as_ref(), entry))?;
        hand.plan.writes.push(scene.receipt(ReceiptKind::CalledOff, entry, row)?);
        let policy = scene.policy()?;
        for record in scene.records_of(row.id)? {
            if policy.field(&record.address.field).is_some_and(crate::policy::model::Field::is_unique) {
                // Erasure ended the claim at once, so another subject may hold the value by now.
                if scene.snapshot.rivalled.contains(&record.address.record) {
                    return Err(Denial::ValueNotUnique.into());
                }
                hand.plan.writes.push(Write::Claim(record.address.record));
            }
        }
        if let Some(found) = scene.snapshot.operations_on.get(row.id.as_bytes()) {
            let fence = found.operation.fence;
            let operation = Operation { fence: fence.saturating_add(1), ..found.operation.clone() }
                .ended(OperationState::Cancelled, scene.now);
            hand.plan.writes.push(Write::UpdateOperation(OperationRow { operation }, fence));
        }
        hand.plan.writes.push(Write::UpdateSubject(next, row.mac));
        let numbers = vec![scene.now.as_micros()];
        Ok(Deeded::changed(scene.now, ItemOutcome { numbers, ..ItemOutcome::default() }))
    }

    fn again(&self, _hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<Timestamp, VaultError> {
        Ok(before.time(0)?)
    }
}
