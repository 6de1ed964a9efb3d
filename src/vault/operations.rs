//! Long and delayed work. One worker a process looks for what is due; whoever takes an operation raises its fence, and
//! every later write states that fence, so a worker that was overtaken while it slept writes nothing.

use std::{sync::Arc, time::Duration};

use super::{
    Vault,
    access::Call,
    act::{Act, Asker, Flow, Plan, Reply, Scene, reply},
    context::Context,
    deed::{Deed, Deeded, Hand},
    error::VaultError,
    keys::Working,
    page::{Page, PageAsk},
    replay::ItemOutcome,
    tokenize::unavailable,
};
use crate::{
    audit::entry::{Entry, Verdict},
    domain::{
        caller::Caller,
        consent::SubjectState,
        ids::{EntryId, OperationId, PlatformId, SubjectId},
        operation::{Operation, OperationKind, OperationState},
        receipt::ReceiptKind,
        time::Timestamp,
    },
    policy::decide::Denial,
    store::{
        ReadKeys, WhichOperations, Write,
        rows::{SubjectRow, work::OperationRow},
    },
};

/// How long a worker may be silent before another takes its operation.
pub(super) const LEASE: Duration = Duration::from_mins(1);
/// Operations that one look takes on.
const AT_ONCE: u32 = 64;

pub(super) const DESTROY: &str = "Operation/DestroySubject";

/// What a worker did in one look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Worked {
    /// Rotations, backups, collections and sweeps that somebody must work on: they take long, so they are not done in passing.
    pub long: Vec<Operation>,
    /// Operations that ended.
    pub done: usize,
    /// Operations that somebody else has, or that wait for an officer.
    pub left: usize,
}

impl Vault {
    /// Does what is due on every platform. The server calls it every few seconds.
    ///
    /// # Errors
    /// [`VaultError`] of the first platform whose operations could not be read; the others are worked on all the same.
    pub async fn work(&self) -> Result<Worked, VaultError> {
        let (mut worked, mut outcome) = (Worked::default(), Ok(()));
        for (platform, _) in self.platforms() {
            // Nothing is destroyed of what two people have not looked at yet.
            if self.context(platform)?.is_closed() {
                continue;
            }
            let days_went_on = match self.days_went_on(platform).await {
                Ok(went_on) => went_on,
                Err(error) => {
                    outcome = Err(error);
                    continue;
                }
            };
            if days_went_on && let Err(error) = self.rotate_on_schedule(platform).await {
                tracing::warn!(platform = platform.get(), %error, "a rotation is due and did not begin; it is tried again");
            }
            if days_went_on && let Err(error) = self.destroy_on_schedule(platform).await {
                tracing::warn!(platform = platform.get(), %error, "a destruction is due and was not scheduled; it is tried again");
            }
            match self.work_on(platform, days_went_on).await {
                Ok(more) => {
                    worked.done += more.done;
                    worked.left += more.left;
                    worked.long.extend(more.long);
                }
                Err(error) => outcome = Err(error),
            }
        }
        outcome.map(|()| worked)
    }

    /// Works on a rotation, a backup, a collection or a sweep until it ends, waits, or is somebody else's.
    ///
    /// # Errors
    /// [`VaultError`]; whoever takes the operation next goes on with it.
    pub async fn work_long(&self, operation: &Operation) -> Result<(), VaultError> {
        match operation.kind {
            OperationKind::RotatePlatformKey
            | OperationKind::RotateAuditKey
            | OperationKind::RotateRootKey
            | OperationKind::RekeyPlatform
            | OperationKind::RotateIndexKey => self.rotate(operation).await,
            OperationKind::Backup => self.write_backup(operation).await,
            OperationKind::CollectDocuments => self.collect(operation).await,
            OperationKind::SweepRetention => self.sweep(operation).await,
            OperationKind::DestroySubject
            | OperationKind::DestroyKey
            | OperationKind::DestroyIndexKey
            | OperationKind::DestroyRootKey => Ok(()),
        }
    }

    async fn work_on(&self, platform: PlatformId, may_destroy: bool) -> Result<Worked, VaultError> {
        let now = self.shared.clock.now();
        let which = WhichOperations::Due(now);
        let due = self.shared.store.operations(platform, which, AT_ONCE).await.map_err(unavailable)?;
        let mut worked = Worked::default();
        for OperationRow { operation } in due {
            if operation.kind.destroys() && !may_destroy {
                tracing::error!(
                    platform = platform.get(),
                    operation = %operation.id,
                    "the last sweep of retention is more than two days ago: time may have jumped, so destruction waits until an \
                     officer begins one"
                );
                worked.left += 1;
                continue;
            }
            let done = match operation.kind {
                OperationKind::DestroySubject => match self.take(platform, operation.clone()).await? {
                    Some(taken) => self.step(platform, taken, Step::Destroy).await?.is_some(),
                    None => false,
                },
                OperationKind::DestroyKey | OperationKind::DestroyIndexKey => {
                    self.destroy_key(&operation).await?
                }
                OperationKind::DestroyRootKey => self.destroy_root(&operation).await?,
                OperationKind::RotatePlatformKey
                | OperationKind::RotateAuditKey
                | OperationKind::RotateRootKey
                | OperationKind::RekeyPlatform
                | OperationKind::CollectDocuments
                | OperationKind::RotateIndexKey
                | OperationKind::Backup
                | OperationKind::SweepRetention => {
                    worked.long.push(operation);
                    continue;
                }
            };
            worked.done += usize::from(done);
            worked.left += usize::from(!done);
        }
        self.sweep_parts(platform).await;
        Ok(worked)
    }

    /// Submits one step of a long operation; none where it is no longer this worker's: a write that stated a fence which
    /// is no more, since somebody paused it, ended it, or took it.
    pub(in crate::vault) async fn step_of<A: Act + 'static>(
        &self,
        operation: &Operation,
        act: impl FnOnce(Reply<Option<Operation>>) -> A,
    ) -> Result<Option<Operation>, VaultError> {
        let (reply, waiting) = reply();
        self.platform(operation.platform)?.lane.submit(act(reply))?;
        match waiting.answer().await {
            Err(VaultError::Contended) => {
                let stored = self.shared.store.operation(operation.platform, operation.id).await;
                let stored = stored.map_err(unavailable)?;
                let ours = stored.is_some_and(|row| row.operation.fence == operation.fence);
                if ours { Err(VaultError::Contended) } else { Ok(None) }
            }
            other => other,
        }
    }

    /// Takes an operation: from now on its fence is this worker's.
    async fn take(
        &self,
        platform: PlatformId,
        operation: Operation,
    ) -> Result<Option<Operation>, VaultError> {
        self.step(platform, operation, Step::Take).await
    }

    async fn step(
        &self,
        platform: PlatformId,
        operation: Operation,
        step: Step,
    ) -> Result<Option<Operation>, VaultError> {
        let (reply, waiting) = reply();
        let act = StepAct { operation, step, answer: None, reply };
        self.platform(platform)?.lane.submit(act)?;
        waiting.answer().await
    }

    /// Operations by platform, the newest first.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn operations(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        ask: PageAsk,
    ) -> Result<Page<Operation>, VaultError> {
        let (mut rows, mut last) = (Vec::new(), None);
        for (name, id) in self.in_view(caller, &asker, Call::ListOperations, platform).await? {
            let after = match &ask.after {
                Some((before, _)) if name.as_str() < before.as_str() => continue,
                Some((at, key)) if name.as_str() == at => Some(place_of(key)?),
                Some(_) | None => None,
            };
            self.run(id, caller, asker.clone(), MaySee(Call::ListOperations)).await?;
            // One more than the page takes, to know whether there are more.
            let limit = u32::try_from(ask.size + 1 - rows.len()).map_err(unavailable)?;
            let found = self.shared.store.operations(id, WhichOperations::Newest(after), limit).await;
            for OperationRow { operation } in found.map_err(unavailable)? {
                if rows.len() == ask.size {
                    return Ok(Page { rows, next: last });
                }
                let key = format!("{}.{}", operation.created_at.as_micros(), operation.id);
                last = Some((name.to_string(), key));
                rows.push(operation);
            }
        }
        Ok(Page { rows, next: None })
    }

    /// An operation by its id, on any platform that the caller may see.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn operation(
        &self,
        caller: &Caller,
        asker: Asker,
        call: Call,
        id: OperationId,
    ) -> Result<Option<Operation>, VaultError> {
        let Some(found) = self.find_operation(caller, id).await? else {
            let refused = self.run(caller.platform, caller, asker, MaySee(call)).await;
            return if caller.platform == PlatformId::VAULT { Ok(None) } else { refused.map(|()| None) };
        };
        match self.run(found.platform, caller, asker, MaySee(call)).await {
            Ok(()) => Ok(Some(found)),
            // To staff, one that may not be seen and one that never was look the same.
            Err(VaultError::Denied(_)) if found.platform != caller.platform => Ok(None),
            Err(error) => Err(error),
        }
    }
}

/// An operation's place in a list: when it was made, and its id.
fn place_of(key: &str) -> Result<(Timestamp, OperationId), VaultError> {
    let parse = || {
        let (made, id) = key.split_once('.')?;
        Some((Timestamp::from_micros(made.parse().ok()?), id.parse().ok()?))
    };
    parse().ok_or(VaultError::invalid("page_token", "not a page of this list"))
}

/// Whether the caller may see operations. Names, dates and counts leave no entry.
struct MaySee(Call);

impl Deed for MaySee {
    type Answer = ();

    fn call(&self) -> Call {
        self.0
    }

    fn changes(&self) -> bool {
        false
    }

    fn reads(&self, _context: &Context, _before: Option<&ItemOutcome>, _keys: &mut ReadKeys) {}

    fn act(&mut self, _hand: &mut Hand<'_, '_>) -> Result<Deeded<()>, VaultError> {
        Ok(Deeded::answer(()))
    }
}

impl Hand<'_, '_> {
    /// Begins an operation that the act was asked for: its row, and its entry with the kind of object that names it.
    pub(in crate::vault) fn begin(
        &mut self,
        operation: Operation,
        object_kind: &str,
    ) -> Result<Deeded<Operation>, VaultError> {
        let id = *operation.id.as_bytes();
        self.log(|entry| Entry {
            object_kind: Some(object_kind.to_owned()),
            object: Some(id.to_vec()),
            ..entry
        })?;
        self.plan.writes.push(Write::InsertOperation(OperationRow { operation: operation.clone() }));
        let outcome = ItemOutcome { ids: vec![id.into()], ..ItemOutcome::default() };
        Ok(Deeded::changed(operation, outcome))
    }
}

/// The operation that an act began the first time, among those that are known.
pub(in crate::vault) fn begun_before<'a>(
    known: impl IntoIterator<Item = &'a Operation>,
    before: &ItemOutcome,
) -> Result<Operation, VaultError> {
    let id = OperationId::from_bytes(before.id(0)?);
    Ok(known.into_iter().find(|known| known.id == id).cloned().ok_or(Denial::OperationNotFound)?)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Step {
    /// Raise the fence and begin.
    Take,
    /// Destroy an erased subject, and end.
    Destroy,
}

/// A step of the vault's own work: nobody outside asked for it now.
struct StepAct {
    /// As the worker last saw or left it.
    operation: Operation,
    step: Step,
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

    fn reads(&self, _context: &Context, keys: &mut ReadKeys) {
        keys.subjects.insert(SubjectId::from_bytes(self.operation.object));
        keys.operations_on.insert(self.operation.object);
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        self.answer = None;
        let stored = scene.snapshot.operations_on.get(&self.operation.object);
        let Some(stored) = stored.filter(|row| row.operation.id == self.operation.id) else {
            return Ok(Flow::Ready);
        };
        let current = &stored.operation;
        match self.step {
            Step::Take => self.take(scene, plan, current),
            Step::Destroy => self.destroy(scene, plan, current),
        }
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        let Self { answer, reply, .. } = *self;
        reply.send(outcome.map(|()| answer));
    }
}

impl StepAct {
    fn take(&mut self, scene: &Scene<'_>, plan: &mut Plan, current: &Operation) -> Result<Flow, VaultError> {
        let leased = current.lease_until.is_some_and(|until| until > scene.now);
        if current.due_at > scene.now || leased {
            return Ok(Flow::Ready);
        }
        if scene.time_jumped() {
            tracing::error!(
                platform = scene.context.platform.get(),
                operation = %current.id,
                "time is more than a day past the log's last entry: destruction waits until somebody is logged there"
            );
            return Ok(Flow::Ready);
        }
        let taken = Operation {
            state: OperationState::Running,
            fence: current.fence.saturating_add(1),
            lease_until: Some(scene.now.plus(LEASE)),
            ..current.clone()
        };
        self.log(scene, plan, "Operation/Take", None)?;
        self.put(plan, taken, current.fence);
        Ok(Flow::Ready)
    }

    /// The subject's row decides, not the operation's: only an erased subject whose time has come is destroyed.
    fn destroy(
        &mut self,
        scene: &Scene<'_>,
        plan: &mut Plan,
        current: &Operation,
    ) -> Result<Flow, VaultError> {
        let fence = self.operation.fence;
        if current.fence != fence || current.state != OperationState::Running {
            return Ok(Flow::Ready);
        }
        let id = SubjectId::from_bytes(self.operation.object);
        let subject = scene.subject(id)?;
        let ended = |state, done| Operation { done, ..current.clone() }.ended(state, scene.now);
        let due = subject.state == SubjectState::Erased
            && subject.destroy_at.is_some_and(|at: Timestamp| at <= scene.now);
        if !due || subject.wrapped_key.is_none() {
            self.log(scene, plan, DESTROY, None)?;
            self.put(plan, ended(OperationState::Failed, 0), fence);
            return Ok(Flow::Ready);
        }
        let entry = self.log(scene, plan, DESTROY, Some(subject))?;
        plan.tightens = true;
        plan.writes.push(scene.receipt(ReceiptKind::Destroyed, entry, subject)?);
        plan.writes.push(Write::DestroySubject(subject.clone()));
        self.put(plan, ended(OperationState::Done, 1), fence);
        Ok(Flow::Ready)
    }

    fn put(&mut self, plan: &mut Plan, operation: Operation, fence: u32) {
        plan.writes.push(Write::UpdateOperation(OperationRow { operation: operation.clone() }, fence));
        self.answer = Some(operation);
    }

    fn log(
        &self,
        scene: &Scene<'_>,
        plan: &mut Plan,
        call: &str,
        destroyed: Option<&SubjectRow>,
    ) -> Result<EntryId, VaultError> {
        let id = EntryId::random(scene.rng()).map_err(unavailable)?;
        plan.entries.push(Entry {
            object_kind: Some("operation".to_owned()),
            object: Some(OperationId::as_bytes(&self.operation.id).to_vec()),
            subject: destroyed.map(|subject| (*subject.id.as_bytes()).into()),
            row_mac: destroyed.map(|subject| subject.mac.into()),
            ..Entry::new(id, scene.now, scene.context.platform, call, Verdict::Done)
        });
        Ok(id)
    }
}

/// Looks at operations between two looks for sweeps that are due.
const LOOKS_A_SWEEP: u32 = 60;

/// Works for as long as the vault is served: operations every few seconds, and the day's sweeps.
pub async fn work_forever(vault: Arc<Vault>) {
    let mut ticks = tokio::time::interval(Duration::from_secs(5));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut working = Working::default();
    for look in (0..LOOKS_A_SWEEP).cycle() {
        ticks.tick().await;
        if look == 0
            && let Err(error) = vault.begin_daily_sweeps().await
        {
            tracing::warn!(%error, "the day's sweep could not be begun");
        }
        match vault.work().await {
            Ok(worked) => {
                if worked.done > 0 {
                    tracing::info!(done = worked.done, left = worked.left, "operations ended");
                }
                working.begin(&vault, worked.long);
            }
            Err(error) => tracing::warn!(%error, "operations could not be worked on"),
        }
    }
}
