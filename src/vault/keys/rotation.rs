//! The work of a rotation: activate, wrap anew in small commits, verify. Every write states the fence of the worker that
//! took the operation, so one that was paused, or overtaken while it slept, writes nothing more; and each commit moves the
//! cursor, so that any process goes on where another stopped.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use super::{
    KeyState, KeyVersionRow, destruction,
    ends::{fail, put_key, retire},
    horizon,
    pace::{BESIDE_IT, IN_THE_LANE, rest},
    piece::{Planned, Slice},
    rekey::RESEAL,
    root,
};
use crate::{
    audit::entry::{Entry, Verdict},
    crypto::keyring::{KeyKind, Keyring},
    domain::{
        ids::{EntryId, OperationId, PlatformId},
        operation::{Operation, OperationKind, OperationState, Phase},
        time::Timestamp,
    },
    store::{
        ReadKeys, Write,
        rows::work::{OperationRow, ReplicaRow},
    },
    vault::{
        Vault,
        act::{Act, Claim, Flow, Plan, Reply, Scene},
        context::Context,
        error::{VaultError, unreadable},
        operations::LEASE,
        tokenize::unavailable,
    },
};

/// Times in a row that somebody else is faster with one of the subjects.
const MOST_AGAIN: u32 = 200;
/// A process that was not heard of for so long is not waited for: what it decides next, it decides with the new keys.
const SILENT_MICROS: i64 = 30 * 1_000_000;

/// How a piece of work went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Went {
    /// There is more to do.
    On,
    /// Somebody else was faster: it is read and tried again.
    Again,
    /// Nothing is left for this worker: it ended, waits, or is another's.
    Stopped,
}

impl Vault {
    /// Works on a rotation until it ends, waits, or is somebody else's.
    ///
    /// # Errors
    /// [`VaultError`]; whoever takes the operation next goes on where this one stopped.
    pub async fn rotate(&self, operation: &Operation) -> Result<(), VaultError> {
        let platform = operation.platform;
        // Nobody takes it before every process has the new version.
        let is_root = operation.kind == OperationKind::RotateRootKey;
        if operation.phase == Phase::Activate && !is_root && !self.all_have_keys(platform).await? {
            return Ok(());
        }
        let Some(mut taken) = self.key_step(operation.clone(), Step::Take).await? else { return Ok(()) };
        if taken.kind == OperationKind::RekeyPlatform {
            // What a worker before this one left.
            self.drop_all_ready(platform).await?;
        }
        let pace = if taken.kind == OperationKind::RotatePlatformKey { BESIDE_IT } else { IN_THE_LANE };
        let (mut rows, mut again) = (pace.fewest(), 0);
        loop {
            let began = Instant::now();
            let (went, done) = match (taken.phase, taken.kind) {
                (Phase::None | Phase::Activate, OperationKind::RotateRootKey) => {
                    (self.activate_root(&mut taken).await?, 0)
                }
                (_, OperationKind::RotateRootKey) => (self.walk_roots(&mut taken).await?, 0),
                (Phase::None | Phase::Activate, _) => (self.activate(&mut taken).await?, 0),
                (Phase::Announce, _) | (Phase::Verify, OperationKind::RotateAuditKey) => {
                    (self.hand_over(&mut taken).await?, 0)
                }
                (Phase::Rewrap | Phase::Fill | Phase::Reseal | Phase::Verify | Phase::Drop, _) => {
                    self.slice(&mut taken, rows).await?
                }
            };
            if went == Went::Stopped {
                return Ok(());
            }
            if went == Went::Again {
                again += 1;
                if again > MOST_AGAIN {
                    return Err(VaultError::Contended);
                }
                rows = (rows / 4).max(1);
                continue;
            }
            again = 0;
            if done > 0 {
                rows = pace.fit(rows, began.elapsed());
            }
            if let Some(pause) = rest(taken.rate, done, began.elapsed()) {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Makes the new version active.
    async fn activate(&self, taken: &mut Operation) -> Result<Went, VaultError> {
        Ok(go_on(taken, self.key_step(taken.clone(), Step::Activate).await?))
    }

    async fn all_have_keys(&self, platform: PlatformId) -> Result<bool, VaultError> {
        self.refresh(platform).await?;
        Ok(self.processes_without_keys().await?.is_empty())
    }

    async fn slice(&self, taken: &mut Operation, rows: u32) -> Result<(Went, usize), VaultError> {
        // No more in one commit than a second may see; in the order of pages, no more than a page has beyond that.
        let rows = if taken.rate > 0 { rows.min(taken.rate) } else { rows };
        let after = taken.after();
        let keys = self.keys_of(taken).await?;
        let slice = if taken.kind == OperationKind::RotateIndexKey {
            self.index_slice(&keys, taken, after, rows).await?
        } else if taken.kind == OperationKind::RekeyPlatform {
            let sealed = self.sealed_slice(&keys, taken, after, rows).await?;
            let Some(slice) = sealed else { return Ok((Went::Stopped, 0)) };
            slice
        } else {
            self.wrapping_slice(&keys, taken, rows).await?
        };
        let (objects, read) = (slice.piece.objects(), slice.rows);
        // One damaged row must not keep all others under the old version: it is met again at the end.
        let step =
            if slice.damaged && taken.phase == Phase::Verify { Step::Fail } else { Step::Slice(slice) };
        let failed = matches!(step, Step::Fail);
        let next = self.key_step(taken.clone(), step).await;
        if !failed && matches!(next, Ok(Some(_))) {
            if !objects.is_empty() {
                // Those before them.
                self.sweep_parts(taken.platform).await;
            }
        } else {
            self.drop_ready(taken.platform, &objects).await;
        }
        match next {
            Err(VaultError::Contended) if taken.kind == OperationKind::RekeyPlatform => Ok((Went::Again, 0)),
            Err(error) => Err(error),
            Ok(_) if failed => Ok((Went::Stopped, 0)),
            Ok(next) => Ok((go_on(taken, next), read + objects.len())),
        }
    }

    /// Says that the worker of a rotation lives; none where it is another's.
    pub(in crate::vault) async fn hold_key_work(
        &self,
        operation: &Operation,
    ) -> Result<Option<Operation>, VaultError> {
        self.key_step(operation.clone(), Step::Hold).await
    }

    /// The keys of a platform, as far along as its rotation.
    async fn keys_of(&self, taken: &Operation) -> Result<Arc<Keyring>, VaultError> {
        let keys = Arc::clone(&self.context(taken.platform)?.keys);
        if is_in_force(taken, &keys) {
            return Ok(keys);
        }
        self.refresh(taken.platform).await?;
        let keys = Arc::clone(&self.context(taken.platform)?.keys);
        if is_in_force(taken, &keys) { Ok(keys) } else { Err(VaultError::Unavailable) }
    }

    async fn refresh(&self, platform: PlatformId) -> Result<(), VaultError> {
        self.platform(platform)?.lane.refresh().await.map_err(unreadable)
    }

    /// Names of the processes that live and are not known to have every key version, this one included.
    pub(super) async fn processes_without_keys(&self) -> Result<Vec<String>, VaultError> {
        let newest = self.newest_key();
        let here =
            self.platforms().into_iter().all(|(id, _)| self.context(id).is_ok_and(|c| c.has_all_keys()));
        let alive = self.shared.store.replicas().await.map_err(unavailable)?;
        let now = alive.iter().map(|replica| replica.heartbeat_at).max();
        let lives = |replica: &&ReplicaRow| {
            now.is_none_or(|now| replica.heartbeat_at.plus_micros(SILENT_MICROS) > now)
        };
        let behind = alive.iter().filter(lives).filter(|replica| replica.keys_loaded_at < newest);
        let mut names: Vec<_> = behind.map(|replica| replica.name.clone()).collect();
        if !here && names.is_empty() {
            names.push("this one".to_owned());
        }
        Ok(names)
    }

    /// When the newest key version of all platforms was made.
    pub(in crate::vault) fn newest_key(&self) -> Timestamp {
        let contexts = self.platforms().into_iter().filter_map(|(id, _)| self.context(id).ok());
        let newest = contexts.filter_map(|c| {
            // The root's versions are in the KMS, and nobody loads them.
            let rows = c.key_rows().iter().filter(|row| row.kind != KeyKind::Root.as_str());
            rows.map(|row| row.created_at).max()
        });
        let newest = newest.max();
        newest.unwrap_or(Timestamp::from_micros(0))
    }

    /// One step on an operation; none where it is not this worker's, or not the time.
    pub(super) async fn key_step(
        &self,
        operation: Operation,
        step: Step,
    ) -> Result<Option<Operation>, VaultError> {
        let of = operation.clone();
        let may_wait = self.settings.proposal_time;
        self.step_of(&of, |reply| StepAct { operation, step, may_wait, answer: None, reply }).await
    }
}

pub(super) enum Step {
    /// Raise the fence and begin.
    Take,
    Activate,
    Slice(Slice),
    /// Go on holding it, in the middle of a slice.
    Hold,
    /// So many logs or keys were done, of the last platform or not.
    Walked {
        steps: u64,
        last: bool,
    },
    Root(root::Step),
    Fail,
    Destroy {
        wraps: u64,
    },
}

/// A step of the vault's own work: nobody outside asked for it now.
struct StepAct {
    /// As the worker last saw or left it.
    operation: Operation,
    step: Step,
    /// How long a proposal may wait.
    may_wait: Duration,
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
        if let Step::Slice(slice) = &self.step {
            slice.piece.reads(keys);
        }
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        self.answer = None;
        let next = match &self.step {
            Step::Take => take(&self.operation, scene, plan)?,
            Step::Fail => fail(&self.operation, scene, plan)?,
            Step::Activate => activate(&self.operation, scene, plan)?,
            Step::Slice(slice) => advance(&self.operation, (slice, self.may_wait), scene, plan)?,
            Step::Hold => {
                let operation = &self.operation;
                log(operation, scene, plan, call_of(operation.kind, operation.phase), Some(0))?;
                Next::To(Operation { lease_until: Some(scene.now.plus(LEASE)), ..operation.clone() })
            }
            Step::Walked { steps, last } => Next::To(walked(&self.operation, (*steps, *last), scene, plan)?),
            Step::Root(step) => root::decide(&self.operation, step, scene, plan)?,
            Step::Destroy { wraps } => destruction::decide(&self.operation, *wraps, scene, plan)?,
        };
        match next {
            Next::Later => return Ok(Flow::Later),
            Next::Not => {}
            Next::To(next) => {
                let row = OperationRow { operation: next.clone() };
                plan.writes.push(Write::UpdateOperation(row, self.operation.fence));
                self.answer = Some(next);
            }
        }
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        let Self { answer, reply, .. } = *self;
        reply.send(outcome.map(|()| answer));
    }
}

/// Where a step leads.
pub(super) enum Next {
    To(Operation),
    /// It is not this worker's, or not the time.
    Not,
    /// The batch changes the configuration already.
    Later,
}

/// Goes on with what a step led to.
pub(super) fn go_on(taken: &mut Operation, next: Option<Operation>) -> Went {
    match next {
        Some(next) if next.is_open() => {
            *taken = next;
            Went::On
        }
        _ => Went::Stopped,
    }
}

/// The kind of key that an operation works on.
pub(super) const fn key_kind(kind: OperationKind) -> KeyKind {
    match kind {
        OperationKind::RotateIndexKey | OperationKind::DestroyIndexKey => KeyKind::Index,
        OperationKind::RotateAuditKey => KeyKind::Audit,
        OperationKind::RotateRootKey | OperationKind::DestroyRootKey => KeyKind::Root,
        OperationKind::RotatePlatformKey
        | OperationKind::RekeyPlatform
        | OperationKind::DestroyKey
        | OperationKind::DestroySubject
        | OperationKind::CollectDocuments
        | OperationKind::SweepRetention
        | OperationKind::Backup => KeyKind::Platform,
    }
}

/// Whether keys are as far along as the rotation: every commit of it states so, as every other commit states the epoch
/// that it was decided under.
fn is_in_force(operation: &Operation, keys: &Keyring) -> bool {
    let version = match (operation.kind, operation.phase) {
        (OperationKind::RotateIndexKey, Phase::Drop) => keys.index.current().version,
        (OperationKind::RotateIndexKey, _) => keys.index.newest().version,
        _ => keys.active(),
    };
    version == operation.key_version
}

fn take(operation: &Operation, scene: &Scene<'_>, plan: &mut Plan) -> Result<Next, VaultError> {
    let leased = operation.lease_until.is_some_and(|until| until > scene.now);
    let open = matches!(operation.state, OperationState::Waiting | OperationState::Running);
    if operation.due_at > scene.now || leased || !open {
        return Ok(Next::Not);
    }
    let destroys = operation.kind.destroys();
    if destroys && scene.time_jumped() {
        tracing::error!(
            platform = scene.context.platform.get(),
            operation = %operation.id,
            "time is more than a day past the log's last entry: destruction waits until somebody is logged there"
        );
        return Ok(Next::Not);
    }
    if destroys && horizon::is_called_off(operation, scene) {
        return destruction::call_off(operation, scene, plan);
    }
    if operation.kind == OperationKind::DestroyRootKey && !root::is_due(scene, operation.key_version) {
        // An operation alone destroys nothing: the version's own row, which has a MAC, says whether and when.
        tracing::error!(
            version = operation.key_version,
            "no root version is scheduled for destruction now: nothing is done"
        );
        log(operation, scene, plan, "Operation/DestroyKey", None)?;
        return Ok(Next::To(operation.clone().ended(OperationState::Cancelled, scene.now)));
    }
    log(operation, scene, plan, "Operation/Take", None)?;
    Ok(Next::To(Operation {
        state: OperationState::Running,
        fence: operation.fence.saturating_add(1),
        lease_until: Some(scene.now.plus(LEASE)),
        ..operation.clone()
    }))
}

fn activate(operation: &Operation, scene: &Scene<'_>, plan: &mut Plan) -> Result<Next, VaultError> {
    let keys = scene.context.key_rows();
    let kind = key_kind(operation.kind);
    let of = |state| keys.iter().filter(move |row| row.kind == kind.as_str() && row.state == state);
    let begun = Operation {
        phase: match kind {
            KeyKind::Audit => Phase::Announce,
            KeyKind::Index => Phase::Fill,
            KeyKind::Platform if operation.kind == OperationKind::RekeyPlatform => Phase::Reseal,
            KeyKind::Platform | KeyKind::Root | KeyKind::Row | KeyKind::Request => Phase::Rewrap,
        },
        resume_after: None,
        lease_until: Some(scene.now.plus(LEASE)),
        ..operation.clone()
    };
    let Some(pending) = of(KeyState::Pending).find(|row| row.version == operation.key_version) else {
        // Somebody paused the operation as it turned active; or the version is gone.
        let active = of(KeyState::Active).any(|row| row.version == operation.key_version);
        log(operation, scene, plan, if active { "Operation/ActivateKey" } else { "Operation/Fail" }, None)?;
        let failed = || operation.clone().ended(OperationState::Failed, scene.now);
        return Ok(Next::To(if active { begun } else { failed() }));
    };
    if !scene.context.has_all_keys() {
        return Ok(Next::Not);
    }
    if !plan.claim(Claim::Config) {
        return Ok(Next::Later);
    }
    // Until the index of the new version is filled, values are found by the old one, and written to both.
    let retiring = of(KeyState::Active).filter(|_| kind != KeyKind::Index);
    let retiring = retiring.map(|row| (row, KeyState::Retiring));
    for (row, state) in retiring.chain([(pending, KeyState::Active)]) {
        put_key(KeyVersionRow { state, ..row.clone() }, row, scene, plan, "Operation/ActivateKey")?;
    }
    Ok(Next::To(begun))
}

/// The phase after one that is done with the last subject; none at the end.
const fn phase_after(kind: OperationKind, phase: Phase) -> Option<Phase> {
    match (kind, phase) {
        (OperationKind::RotateIndexKey, Phase::Verify) => Some(Phase::Drop),
        (_, Phase::Rewrap | Phase::Fill | Phase::Reseal) => Some(Phase::Verify),
        _ => None,
    }
}

const fn call_of(kind: OperationKind, phase: Phase) -> &'static str {
    match (kind, phase) {
        (OperationKind::RotateIndexKey, Phase::Drop) => "Operation/DropIndex",
        (OperationKind::RotateIndexKey, Phase::Verify) => "Operation/VerifyIndex",
        (OperationKind::RotateIndexKey, _) => "Operation/FillIndex",
        (_, Phase::Verify) => "Operation/VerifyKeys",
        (OperationKind::RekeyPlatform, _) => RESEAL,
        _ => "Operation/RewrapKeys",
    }
}

fn advance(
    operation: &Operation,
    (slice, may_wait): (&Slice, Duration),
    scene: &Scene<'_>,
    plan: &mut Plan,
) -> Result<Next, VaultError> {
    if !is_in_force(operation, scene.keys()) {
        return Err(VaultError::Unavailable);
    }
    let rows = u64::try_from(slice.rows).unwrap_or(u64::MAX);
    let mut next = Operation {
        resume_after: slice.next,
        lease_until: Some(scene.now.plus(LEASE)),
        // Subjects that came since are done already; those that went are not missed.
        done: (operation.done + rows).min(operation.total),
        ..operation.clone()
    };
    let mark = plan.mark();
    let changed = match slice.piece.plan(operation, scene, plan)? {
        Planned::Ready { damaged: true, .. } if operation.phase == Phase::Verify => {
            plan.undo_to(mark);
            return fail(operation, scene, plan);
        }
        Planned::Ready { changed, .. } => changed,
        Planned::Later => return Ok(Next::Later),
    };
    let count = if matches!(operation.phase, Phase::Verify | Phase::Drop) { rows } else { changed };
    let mut call = call_of(operation.kind, operation.phase);
    if slice.next.is_none() {
        if let Some(phase) = phase_after(operation.kind, operation.phase) {
            next.phase = phase;
        } else {
            if operation.kind == OperationKind::RekeyPlatform && !retire(operation, may_wait, scene, plan)? {
                return Ok(Next::Later);
            }
            call = "Operation/EndRotation";
            next.done = next.total;
            next = next.ended(OperationState::Done, scene.now);
        }
        if next.phase == Phase::Drop && operation.phase == Phase::Verify {
            if !plan.claim(Claim::Config) {
                return Ok(Next::Later);
            }
            // From here on everything is found by the new version alone.
            for row in scene.context.key_rows() {
                let older = row.kind == KeyKind::Index.as_str() && row.version != operation.key_version;
                if older && row.state == KeyState::Active {
                    let retiring = KeyVersionRow { state: KeyState::Retiring, ..row.clone() };
                    put_key(retiring, row, scene, plan, "Operation/SwitchIndex")?;
                }
            }
        }
    }
    log(operation, scene, plan, call, Some(count))?;
    Ok(Next::To(next))
}

/// The operation after a walk over one platform, or over all.
fn walked(
    operation: &Operation,
    (steps, last): (u64, bool),
    scene: &Scene<'_>,
    plan: &mut Plan,
) -> Result<Operation, VaultError> {
    let half = operation.total / 2;
    let most = if operation.phase == Phase::Verify { operation.total } else { half };
    let next = Operation {
        lease_until: Some(scene.now.plus(LEASE)),
        // A walk that is begun again counts again.
        done: (operation.done + steps).min(most),
        ..operation.clone()
    };
    let call = match operation.phase {
        Phase::Verify if last => "Operation/EndRotation",
        Phase::Verify => "Operation/VerifyKeys",
        Phase::Announce => "Operation/HandOver",
        Phase::None | Phase::Activate | Phase::Rewrap | Phase::Fill | Phase::Reseal | Phase::Drop => {
            "Operation/RewrapKeys"
        }
    };
    log(operation, scene, plan, call, Some(steps))?;
    Ok(match (last, operation.phase == Phase::Verify) {
        (true, true) => Operation { done: next.total, ..next }.ended(OperationState::Done, scene.now),
        (true, false) => Operation { phase: Phase::Verify, done: half, ..next },
        (false, _) => next,
    })
}

pub(super) fn log(
    operation: &Operation,
    scene: &Scene<'_>,
    plan: &mut Plan,
    call: &str,
    count: Option<u64>,
) -> Result<(), VaultError> {
    let id = EntryId::random(scene.rng()).map_err(unavailable)?;
    plan.entries.push(Entry {
        object_kind: Some("operation".to_owned()),
        object: Some(OperationId::as_bytes(&operation.id).to_vec()),
        count,
        ..Entry::new(id, scene.now, scene.context.platform, call, Verdict::Done)
    });
    Ok(())
}
