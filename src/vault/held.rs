//! An operation in the hands of a worker that does its work outside the lane: taken, said how far it is, ended. Each step is
//! conditional on the fence, so that a worker that was overtaken writes nothing more.

use std::time::{Duration, Instant};

use super::{
    Vault,
    act::{Act, Flow, Plan, Reply, Scene},
    error::VaultError,
    operations::LEASE,
    tokenize::unavailable,
};
use crate::{
    audit::entry::{Entry, Verdict},
    domain::{
        ids::{EntryId, OperationId},
        operation::{Operation, OperationState},
    },
    store::{Write, rows::work::OperationRow},
};

/// How often the operation says how far it is.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// What the log calls the steps of an operation.
#[derive(Debug, Clone, Copy)]
pub(super) struct Calls {
    pub(super) progress: &'static str,
    /// Its good end.
    pub(super) end: &'static str,
}

/// A step.
#[derive(Debug, Clone, Copy)]
pub(super) enum Step {
    /// Raise the fence and begin.
    Take,
    /// Say how far it is, and go on holding it.
    Progress {
        done: u64,
        total: u64,
    },
    End(OperationState),
}

/// When it was last said how far it is.
#[derive(Debug, Default)]
pub(super) struct Progressing(Option<Instant>);

impl Progressing {
    /// Whether it is to be said again. The first time is at once.
    pub(super) fn is_due(&mut self) -> bool {
        let due = self.0.is_none_or(|told| told.elapsed() >= TOLD_EVERY);
        if due {
            self.0 = Some(Instant::now());
        }
        due
    }

    /// Has it said at the next occasion.
    pub(super) const fn hasten(&mut self) {
        self.0 = None;
    }
}

impl Vault {
    /// Does a step; none where the operation is no longer this worker's, or not to be taken.
    pub(super) async fn hold_step(
        &self,
        operation: Operation,
        step: Step,
        calls: Calls,
    ) -> Result<Option<Operation>, VaultError> {
        let of = operation.clone();
        self.step_of(&of, |reply| StepAct { operation, step, calls, answer: None, reply }).await
    }
}

/// A step of the vault's own work.
struct StepAct {
    /// As the worker last saw or left it.
    operation: Operation,
    step: Step,
    calls: Calls,
    /// The operation after the step; none where it is not this worker's, or not the time.
    answer: Option<Operation>,
    reply: Reply<Option<Operation>>,
}

impl Act for StepAct {
    fn writes(&self) -> bool {
        true
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_abandoned()
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        let operation = &self.operation;
        let lease_until = Some(scene.now.plus(LEASE));
        let (call, count, next) = match self.step {
            Step::Take => {
                let leased = operation.lease_until.is_some_and(|until| until > scene.now);
                let open = matches!(operation.state, OperationState::Waiting | OperationState::Running);
                if leased || !open {
                    return Ok(Flow::Ready);
                }
                let fence = operation.fence.saturating_add(1);
                let state = OperationState::Running;
                (
                    "Operation/Take",
                    None,
                    Operation { state, fence, lease_until, done: 0, ..operation.clone() },
                )
            }
            Step::Progress { done, total } => {
                let next = Operation { lease_until, done, total, ..operation.clone() };
                (self.calls.progress, Some(done), next)
            }
            Step::End(state) => {
                let call = if state == OperationState::Done { self.calls.end } else { "Operation/Fail" };
                (call, Some(operation.done), operation.clone().ended(state, scene.now))
            }
        };
        let id = EntryId::random(scene.rng()).map_err(unavailable)?;
        plan.entries.push(Entry {
            object_kind: Some("operation".to_owned()),
            object: Some(OperationId::as_bytes(&operation.id).to_vec()),
            count,
            ..Entry::new(id, scene.now, scene.context.platform, call, Verdict::Done)
        });
        plan.writes.push(Write::UpdateOperation(OperationRow { operation: next.clone() }, operation.fence));
        self.answer = Some(next);
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        let Self { answer, reply, .. } = *self;
        reply.send(outcome.map(|()| answer));
    }
}
