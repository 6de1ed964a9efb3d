//! The work of a rotation: activate, wrap anew in small commits, verify. Every write states the fence of the worker that
//! took the operation, so one that was paused, or overtaken while it slept, writes nothing more; and each commit moves the
//! cursor, so that any process goes on where another stopped.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinHandle;

use super::{KeyState, KeyVersionRow, about_key, root, sealed_row};
use crate::{
    audit::entry::{Entry, Verdict},
    crypto::keyring::{KeyKind, Keyring, WrapError},
    domain::{
        ids::{EntryId, OperationId, PlatformId, SubjectId},
        operation::{Operation, OperationKind, OperationState, Phase},
        time::Timestamp,
    },
    store::{
        Rewrapped, Write,
        rows::work::{OperationRow, ReplicaRow},
    },
    vault::{
        Vault,
        act::{Act, Claim, Flow, Plan, Reply, Scene},
        error::{VaultError, unreadable},
        operations::LEASE,
        tokenize::unavailable,
    },
};

/// How long a commit of a rotation should take: everybody else waits meanwhile.
const SLICE: Duration = Duration::from_millis(20);
/// Fewest and most rows of one.
const ROWS: std::ops::RangeInclusive<u32> = 16..=1_000;
/// A process that was not heard of for so long is not waited for: what it decides next, it decides with the new keys.
const SILENT_MICROS: i64 = 30 * 1_000_000;

/// How a piece of work went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Went {
    /// There is more to do.
    On,
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
        let mut rows = *ROWS.start();
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
                (Phase::Rewrap | Phase::Verify, _) => self.slice(platform, &mut taken, rows).await?,
            };
            if went == Went::Stopped {
                return Ok(());
            }
            if done > 0 {
                rows = fit(rows, began.elapsed());
            }
            if let Some(pause) = rest(taken.rate, done, began.elapsed()) {
                tokio::time::sleep(pause).await;
            }
        }
    }

    /// Makes the new version active.
    async fn activate(&self, taken: &mut Operation) -> Result<Went, VaultError> {
        match self.key_step(taken.clone(), Step::Activate).await? {
            Some(next) if next.is_open() => {
                *taken = next;
                Ok(Went::On)
            }
            _ => Ok(Went::Stopped),
        }
    }

    async fn all_have_keys(&self, platform: PlatformId) -> Result<bool, VaultError> {
        self.refresh(platform).await?;
        Ok(self.processes_without_keys().await?.is_empty())
    }

    async fn slice(
        &self,
        platform: PlatformId,
        taken: &mut Operation,
        rows: u32,
    ) -> Result<(Went, usize), VaultError> {
        // No more in one commit than a second may see.
        let rows = if taken.rate > 0 { rows.min(taken.rate) } else { rows };
        let after = taken.resume_after.unwrap_or(SubjectId::from_bytes([0; 16]));
        let read = self.shared.store.wrapped_keys(platform, after, rows).await.map_err(unavailable)?;
        let keys = self.keys_of(platform, taken.key_version).await?;
        let mut slice = Slice { rows: read.len(), last: read.last().map(|(id, _)| *id), ..Slice::default() };
        for (subject, before) in read {
            match keys.rewrap(subject, &before, self.shared.rng.as_ref()) {
                Ok(None) => {}
                Ok(Some(after)) => slice.rewrapped.push(Rewrapped { subject, before, after }),
                Err(WrapError::Seal(_)) => return Err(VaultError::Unavailable),
                Err(WrapError::Key(error)) => {
                    tracing::error!(platform = platform.get(), %subject, %error, "a subject key does not open");
                    // One damaged row must not keep all others under the old version: it is met again at the end.
                    if taken.phase == Phase::Verify {
                        self.key_step(taken.clone(), Step::Fail).await?;
                        return Ok((Went::Stopped, 0));
                    }
                }
            }
        }
        let done = slice.rows;
        match self.key_step(taken.clone(), Step::Slice(slice)).await? {
            Some(next) if next.is_open() => {
                *taken = next;
                Ok((Went::On, done))
            }
            _ => Ok((Went::Stopped, done)),
        }
    }

    /// The keys of a platform, with this version active.
    async fn keys_of(&self, platform: PlatformId, version: u32) -> Result<Arc<Keyring>, VaultError> {
        let keys = Arc::clone(&self.context(platform)?.keys);
        if keys.active() == version {
            return Ok(keys);
        }
        self.refresh(platform).await?;
        let keys = Arc::clone(&self.context(platform)?.keys);
        if keys.active() == version { Ok(keys) } else { Err(VaultError::Unavailable) }
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
        let newest = contexts.filter_map(|c| c.key_rows().iter().map(|row| row.created_at).max()).max();
        newest.unwrap_or(Timestamp::from_micros(0))
    }

    /// Destroys a version whose time has come, if it still wraps nothing.
    pub(in crate::vault) async fn destroy_key(&self, operation: &Operation) -> Result<bool, VaultError> {
        let Some(taken) = self.key_step(operation.clone(), Step::Take).await? else { return Ok(false) };
        let counts = self.wraps(taken.platform).await?;
        let wraps = counts.iter().filter(|(v, _)| *v == taken.key_version).map(|(_, count)| count).sum();
        Ok(self.key_step(taken, Step::Destroy { wraps }).await?.is_some())
    }

    /// One step on an operation; none where it is not this worker's, or not the time.
    pub(super) async fn key_step(
        &self,
        operation: Operation,
        step: Step,
    ) -> Result<Option<Operation>, VaultError> {
        let of = operation.clone();
        self.step_of(&of, |reply| StepAct { operation, step, answer: None, reply }).await
    }
}

/// Rows of the next commit, from those of the last and the time that it took.
fn fit(rows: u32, took: Duration) -> u32 {
    let next = match took {
        took if took > SLICE => rows / 2,
        took if took < SLICE / 2 => rows * 2,
        _ => rows,
    };
    next.clamp(*ROWS.start(), *ROWS.end())
}

/// How long to wait after so many rows, so that a second sees no more than the rate.
fn rest(rate: u32, rows: usize, took: Duration) -> Option<Duration> {
    let rows = u32::try_from(rows).unwrap_or(u32::MAX);
    let due = Duration::from_secs(1).checked_mul(rows)?.checked_div(rate)?;
    due.checked_sub(took)
}

/// What one commit of a rotation did.
#[derive(Default)]
pub(super) struct Slice {
    rewrapped: Vec<Rewrapped>,
    /// Subject keys that were looked at.
    rows: usize,
    last: Option<SubjectId>,
}

pub(super) enum Step {
    /// Raise the fence and begin.
    Take,
    Activate,
    Slice(Slice),
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
        self.answer = None;
        let next = match &mut self.step {
            Step::Take => take(&self.operation, scene, plan)?,
            Step::Fail => {
                log(&self.operation, scene, plan, "Operation/Fail", None)?;
                Some(self.operation.clone().ended(OperationState::Failed, scene.now))
            }
            Step::Activate => activate(&self.operation, scene, plan)?,
            Step::Slice(slice) => Some(advance(&self.operation, slice, scene, plan)?),
            Step::Walked { steps, last } => Some(walked(&self.operation, (*steps, *last), scene, plan)?),
            Step::Root(step) => Some(root::decide(&self.operation, step, scene, plan)?),
            Step::Destroy { wraps } => destroy(&self.operation, *wraps, scene, plan)?,
        };
        if let Some(next) = next {
            plan.writes
                .push(Write::UpdateOperation(OperationRow { operation: next.clone() }, self.operation.fence));
            self.answer = Some(next);
        }
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        let Self { answer, reply, .. } = *self;
        reply.send(outcome.map(|()| answer));
    }
}

fn take(operation: &Operation, scene: &Scene<'_>, plan: &mut Plan) -> Result<Option<Operation>, VaultError> {
    let leased = operation.lease_until.is_some_and(|until| until > scene.now);
    let open = matches!(operation.state, OperationState::Waiting | OperationState::Running);
    if operation.due_at > scene.now || leased || !open {
        return Ok(None);
    }
    let destroys = matches!(operation.kind, OperationKind::DestroyKey | OperationKind::DestroyRootKey);
    if destroys && scene.time_jumped() {
        tracing::error!(
            platform = scene.context.platform.get(),
            operation = %operation.id,
            "time is more than a day past the log's last entry: destruction waits until somebody is logged there"
        );
        return Ok(None);
    }
    log(operation, scene, plan, "Operation/Take", None)?;
    Ok(Some(Operation {
        state: OperationState::Running,
        fence: operation.fence.saturating_add(1),
        lease_until: Some(scene.now.plus(LEASE)),
        ..operation.clone()
    }))
}

fn activate(
    operation: &Operation,
    scene: &Scene<'_>,
    plan: &mut Plan,
) -> Result<Option<Operation>, VaultError> {
    let keys = scene.context.key_rows();
    let kind = rotated_key(operation.kind).ok_or(VaultError::Unavailable)?;
    let of = |state| keys.iter().filter(move |row| row.kind == kind.as_str() && row.state == state);
    let is_audit = kind == KeyKind::Audit;
    let next = Operation {
        phase: if is_audit { Phase::Announce } else { Phase::Rewrap },
        resume_after: None,
        lease_until: Some(scene.now.plus(LEASE)),
        ..operation.clone()
    };
    let Some(pending) = of(KeyState::Pending).find(|row| row.version == operation.key_version) else {
        // Somebody paused the operation as it turned active; or the version is gone.
        let active = of(KeyState::Active).any(|row| row.version == operation.key_version);
        log(operation, scene, plan, if active { "Operation/ActivateKey" } else { "Operation/Fail" }, None)?;
        let failed = || operation.clone().ended(OperationState::Failed, scene.now);
        return Ok(Some(if active { next } else { failed() }));
    };
    if !scene.context.has_all_keys() || !plan.claim(Claim::Config) {
        return Ok(None);
    }
    let retiring = of(KeyState::Active).map(|row| (row, KeyState::Retiring));
    for (row, state) in retiring.chain([(pending, KeyState::Active)]) {
        put_key(KeyVersionRow { state, ..row.clone() }, row, scene, plan, "Operation/ActivateKey")?;
    }
    Ok(Some(next))
}

/// The kind of key that an operation makes a new version of; none of another.
pub(in crate::vault) const fn rotated_key(operation: OperationKind) -> Option<KeyKind> {
    match operation {
        OperationKind::RotatePlatformKey => Some(KeyKind::Platform),
        OperationKind::RotateAuditKey => Some(KeyKind::Audit),
        OperationKind::RotateRootKey => Some(KeyKind::Root),
        OperationKind::DestroySubject
        | OperationKind::DestroyKey
        | OperationKind::DestroyRootKey
        | OperationKind::Backup
        | OperationKind::CollectDocuments => None,
    }
}

fn put_key(
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

fn advance(
    operation: &Operation,
    slice: &mut Slice,
    scene: &Scene<'_>,
    plan: &mut Plan,
) -> Result<Operation, VaultError> {
    if scene.keys().active() != operation.key_version {
        return Err(VaultError::Unavailable);
    }
    let rows = u64::try_from(slice.rows).unwrap_or(u64::MAX);
    let next = Operation {
        resume_after: slice.last,
        lease_until: Some(scene.now.plus(LEASE)),
        // Subjects that came since are done already; those that went are not missed.
        done: (operation.done + rows).min(operation.total),
        ..operation.clone()
    };
    let (call, next) = match (operation.phase, slice.last.is_some()) {
        (Phase::Verify, true) => ("Operation/VerifyKeys", next),
        (Phase::Verify, false) => {
            let ended = Operation { done: next.total, ..next };
            ("Operation/EndRotation", ended.ended(OperationState::Done, scene.now))
        }
        (_, true) => ("Operation/RewrapKeys", next),
        (_, false) => ("Operation/RewrapKeys", Operation { phase: Phase::Verify, ..next }),
    };
    let changed = u64::try_from(slice.rewrapped.len()).unwrap_or(u64::MAX);
    let count = if operation.phase == Phase::Verify { rows } else { changed };
    log(operation, scene, plan, call, Some(count))?;
    // Decided again, the plan needs them again.
    let again = |row: &Rewrapped| Rewrapped {
        subject: row.subject,
        before: row.before.clone(),
        after: row.after.clone(),
    };
    if !slice.rewrapped.is_empty() {
        plan.writes.push(Write::Rewrap(slice.rewrapped.iter().map(again).collect()));
    }
    Ok(next)
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
        Phase::None | Phase::Activate | Phase::Rewrap => "Operation/RewrapKeys",
    };
    log(operation, scene, plan, call, Some(steps))?;
    Ok(match (last, operation.phase == Phase::Verify) {
        (true, true) => Operation { done: next.total, ..next }.ended(OperationState::Done, scene.now),
        (true, false) => Operation { phase: Phase::Verify, done: half, ..next },
        (false, _) => next,
    })
}

fn destroy(
    operation: &Operation,
    wraps: u64,
    scene: &Scene<'_>,
    plan: &mut Plan,
) -> Result<Option<Operation>, VaultError> {
    let row = scene.context.key(KeyKind::Platform, operation.key_version);
    let due = row.filter(|row| {
        row.state == KeyState::DestructionScheduled && row.destroy_at.is_some_and(|at| at <= scene.now)
    });
    let Some(row) = due else {
        // It was called off.
        log(operation, scene, plan, "Operation/DestroyKey", None)?;
        return Ok(Some(operation.clone().ended(OperationState::Cancelled, scene.now)));
    };
    if !plan.claim(Claim::Config) {
        return Ok(None);
    }
    if wraps > 0 {
        tracing::error!(version = row.version, wraps, "a key version is in use: it is not destroyed");
        let kept = KeyVersionRow { state: KeyState::Disabled, destroy_at: None, ..row.clone() };
        put_key(kept, row, scene, plan, "Operation/DestroyKey")?;
        return Ok(Some(operation.clone().ended(OperationState::Failed, scene.now)));
    }
    let gone = KeyVersionRow { state: KeyState::Destroyed, wrapped: None, ..row.clone() };
    put_key(gone, row, scene, plan, "Operation/DestroyKey")?;
    Ok(Some(Operation { done: 1, ..operation.clone() }.ended(OperationState::Done, scene.now)))
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

/// Long work that this process does.
#[derive(Default)]
pub(in crate::vault) struct Working(BTreeMap<OperationId, JoinHandle<()>>);

impl Working {
    /// Begins work on each that nobody here works on.
    pub(in crate::vault) fn begin(&mut self, vault: &Arc<Vault>, due: Vec<Operation>) {
        self.0.retain(|_, task| !task.is_finished());
        for operation in due {
            if self.0.contains_key(&operation.id) {
                continue;
            }
            let vault = Arc::clone(vault);
            let id = operation.id;
            let task = tokio::spawn(async move {
                if let Err(error) = vault.work_long(&operation).await {
                    tracing::warn!(operation = %operation.id, %error, "long work stopped; it is taken up again");
                }
            });
            self.0.insert(id, task);
        }
    }
}

impl Drop for Working {
    fn drop(&mut self) {
        self.0.values().for_each(JoinHandle::abort);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_grow_and_shrink_with_their_time() {
        assert_eq!(fit(16, Duration::from_millis(1)), 32);
        assert_eq!(fit(64, Duration::from_millis(15)), 64);
        assert_eq!(fit(64, Duration::from_millis(25)), 32);
        assert_eq!(fit(1_000, Duration::ZERO), 1_000);
        assert_eq!(fit(16, Duration::from_secs(1)), 16);
    }

    #[test]
    fn a_rate_is_kept() {
        assert_eq!(rest(0, 100, Duration::ZERO), None);
        assert_eq!(rest(100, 50, Duration::from_millis(100)), Some(Duration::from_millis(400)));
        assert_eq!(rest(100, 50, Duration::from_secs(1)), None);
    }
}
