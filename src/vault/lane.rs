//! One lane a platform: what waits together is read together, decided alone, committed together.
//!
//! ```text
//! queue ─▶ reader: one read a batch ─▶ committer: decide, open, one commit for all that is read ─▶ answers
//! ```
//!
//! While the committer writes, the reader reads on; the next commit takes every batch that was read meanwhile, each
//! decided on its own snapshot. A commit swaps the head on size, `config_epoch`
//! and `tighten_seq`; a batch whose snapshot is older than the last change of one of the two counters is read and
//! decided again, so no answer rests on a permission that ended. No timer waits for a batch to fill.

use std::sync::Arc;

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::{
    sync::{Mutex, OwnedSemaphorePermit, Semaphore, mpsc},
    task::JoinHandle,
};

use super::{
    Shared,
    act::{Act, Flow, Plan, Scene},
    context::{Context, LoadError},
    error::VaultError,
};
use crate::{
    audit::tree::{LogTree, leaf_hash},
    domain::{ids::PlatformId, names::PlatformName, time::Timestamp},
    store::{
        Commit, CommitOutcome, Counters, Damage, ReadKeys, Snapshot, StoreError,
        rows::{EntryRow, TileRow},
    },
};

/// Items that may wait in a lane; more are refused at once.
pub const QUEUE_ITEMS: usize = 8_192;
/// Items after which a batch takes no further act, and a commit no further batch.
const BATCH_ITEMS: usize = 1_000;
/// Batches that may be read ahead of the commit.
const BATCHES_AHEAD: usize = 16;
/// Times that a batch is read and decided before its acts run one by one.
const ATTEMPTS: u32 = 3;

/// The pipeline of one platform.
pub struct Lane {
    /// None once the lane is closing.
    queue: ArcSwapOption<mpsc::Sender<Queued>>,
    slots: Arc<Semaphore>,
    core: Arc<Core>,
    tasks: Mutex<Option<[JoinHandle<()>; 2]>>,
}

/// What reader and committer share.
struct Core {
    shared: Arc<Shared>,
    platform: PlatformId,
    name: PlatformName,
    context: ArcSwap<Context>,
}

struct Queued {
    act: Box<dyn Act>,
    /// Places in the queue, given back when the act is finished.
    _slots: OwnedSemaphorePermit,
}

impl Queued {
    fn finish(self, outcome: Result<(), VaultError>) {
        self.act.finish(outcome);
    }
}

/// Rows with the policy, callers and keys that they were read for.
struct Look {
    context: Arc<Context>,
    snapshot: Snapshot,
}

/// Acts that were read together. The look is missing where it failed or was of no use any more.
struct Batch {
    acts: Vec<Queued>,
    look: Option<Look>,
}

impl Batch {
    const fn unread(acts: Vec<Queued>) -> Self {
        Self { acts, look: None }
    }

    fn items(&self) -> usize {
        self.acts.iter().map(|queued| queued.act.weight()).sum()
    }
}

/// Where the log stands, as this process last saw or left it.
struct Tip {
    tree: LogTree,
    counters: Counters,
    last: Timestamp,
    checkpoint: String,
}

impl Lane {
    /// Checks the platform's head, loads its context, and starts the two tasks.
    pub(crate) async fn start(
        shared: Arc<Shared>,
        platform: PlatformId,
        name: PlatformName,
    ) -> Result<Self, LoadError> {
        let context = Context::load(shared.store.as_ref(), shared.kms.as_ref(), platform, None).await?;
        let core = Arc::new(Core { shared, platform, name, context: ArcSwap::from_pointee(context) });
        let tip = core.load_tip().await?;
        let (queue, waiting) = mpsc::channel(QUEUE_ITEMS);
        let (read, batches) = mpsc::channel(BATCHES_AHEAD);
        let committer = Committer { core: Arc::clone(&core), tip: Some(tip) };
        let tasks = [
            tokio::spawn(read_batches(Arc::clone(&core), waiting, read)),
            tokio::spawn(committer.run(batches)),
        ];
        Ok(Self {
            queue: ArcSwapOption::from_pointee(queue),
            slots: Arc::new(Semaphore::new(QUEUE_ITEMS)),
            core,
            tasks: Mutex::new(Some(tasks)),
        })
    }

    /// Policy, callers and keys as last loaded.
    pub(crate) fn context(&self) -> Arc<Context> {
        self.core.context.load_full()
    }

    /// Puts an act into the queue, or refuses at once.
    pub(crate) fn submit(&self, act: impl Act + 'static) -> Result<(), VaultError> {
        let weight = u32::try_from(act.weight()).map_err(|_| VaultError::Overloaded)?;
        let slots = Arc::clone(&self.slots)
            .try_acquire_many_owned(weight.max(1))
            .map_err(|_| VaultError::Overloaded)?;
        let queue = self.queue.load_full().ok_or(VaultError::Unavailable)?;
        queue.try_send(Queued { act: Box::new(act), _slots: slots }).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => VaultError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => VaultError::Unavailable,
        })
    }

    /// Lets what waits finish, then ends the tasks.
    pub(crate) async fn close(&self) {
        self.queue.store(None);
        for task in self.tasks.lock().await.take().into_iter().flatten() {
            if let Err(error) = task.await {
                tracing::error!(platform = %self.core.name, %error, "a lane's task ended badly");
            }
        }
    }
}

async fn read_batches(core: Arc<Core>, mut waiting: mpsc::Receiver<Queued>, batches: mpsc::Sender<Batch>) {
    while let Some(first) = waiting.recv().await {
        let mut items = first.act.weight();
        let mut acts = vec![first];
        while items < BATCH_ITEMS
            && let Ok(next) = waiting.try_recv()
        {
            items += next.act.weight();
            acts.push(next);
        }
        // A look that failed is taken again by the committer, which knows how to go on without it.
        let look = core.look(&acts).await.ok();
        if batches.send(Batch { acts, look }).await.is_err() {
            return;
        }
    }
}

impl Core {
    /// Reads everything that the acts need, under the context that is in force.
    async fn look(&self, acts: &[Queued]) -> Result<Look, LoadError> {
        loop {
            let context = self.context.load_full();
            let mut keys = ReadKeys::default();
            for queued in acts {
                queued.act.reads(&context, &mut keys);
            }
            let snapshot = self.shared.store.read(self.platform, &keys).await?;
            if snapshot.head.counters.config_epoch <= context.config_epoch {
                return Ok(Look { context, snapshot });
            }
            self.reload_context(&context).await?;
        }
    }

    async fn reload_context(&self, previous: &Context) -> Result<(), LoadError> {
        let shared = &self.shared;
        let fresh =
            Context::load(shared.store.as_ref(), shared.kms.as_ref(), self.platform, Some(previous)).await?;
        self.context.store(Arc::new(fresh));
        Ok(())
    }

    async fn load_tip(&self) -> Result<Tip, LoadError> {
        let stored = self.shared.store.tree(self.platform).await?;
        let context = self.context.load();
        let tree = self.shared.signatory.believe(&self.name, &stored, &context.keys.row)?;
        Ok(Tip {
            tree,
            counters: stored.head.counters,
            last: stored.head.updated_at,
            checkpoint: stored.head.checkpoint,
        })
    }
}

struct Committer {
    core: Arc<Core>,
    /// None after a failure: read and checked anew before anything is extended.
    tip: Option<Tip>,
}

/// How one attempt at a commit ended.
enum Attempt {
    Committed,
    /// Nothing was written: read and decide again.
    Again,
    /// The store failed. Where the outcome is unknown the acts must not run again, and elsewhere it would not help.
    Failed,
}

/// How a round of batches ended.
enum Round {
    /// Done, but for acts that wait for the next round.
    Done { later: Vec<Queued> },
    /// Each attempt met a change by somebody else, or a row that does not fit.
    Exhausted(Vec<Queued>),
}

impl Committer {
    async fn run(mut self, mut batches: mpsc::Receiver<Batch>) {
        let mut later = Vec::new();
        loop {
            // Acts that had to wait for a row share the next commit with everybody else.
            let mut together = vec![Batch::unread(std::mem::take(&mut later))];
            if together.iter().all(|batch| batch.acts.is_empty()) {
                match batches.recv().await {
                    Some(first) => together.push(first),
                    None => return,
                }
            }
            let mut items: usize = together.iter().map(Batch::items).sum();
            while items < BATCH_ITEMS
                && let Ok(next) = batches.try_recv()
            {
                items += next.items();
                together.push(next);
            }
            later = self.run_round(together).await;
        }
    }

    /// Runs batches, and answers the acts that wait for the next round. Where all together do not go through, each
    /// runs alone, once, so that one bad item never fails its neighbours.
    async fn run_round(&mut self, together: Vec<Batch>) -> Vec<Queued> {
        let acts = match self.run_batches(together).await {
            Round::Done { later } => return later,
            Round::Exhausted(acts) => acts,
        };
        let alone = acts.len() > 1;
        let mut later = Vec::new();
        for queued in acts {
            let round = if alone {
                self.run_batches(vec![Batch::unread(vec![queued])]).await
            } else {
                Round::Exhausted(vec![queued])
            };
            match round {
                Round::Done { later: more } => later.extend(more),
                Round::Exhausted(acts) => finish_all(acts, &VaultError::Contended),
            }
        }
        later
    }

    async fn run_batches(&mut self, batches: Vec<Batch>) -> Round {
        let mut todo = batches;
        for _ in 0..ATTEMPTS {
            todo.retain(|batch| !batch.acts.is_empty());
            if todo.is_empty() {
                break;
            }
            let Ok(tip) = self.take_tip().await else {
                finish_all(acts_of(todo), &VaultError::Unavailable);
                return Round::Done { later: Vec::new() };
            };
            let groups = self.look_again(todo, &tip).await;
            if !groups.iter().all(|(_, look)| is_current(look, &tip)) {
                // Another writer moved the head: it is read and checked anew, and then the rows are.
                todo = vec![Batch::unread(groups.into_iter().flat_map(|(acts, _)| acts).collect())];
                continue;
            }
            let (ready, later, attempt) = self.attempt(groups, tip).await;
            match attempt {
                Attempt::Committed => {
                    for queued in ready {
                        queued.finish(Ok(()));
                    }
                    return Round::Done { later };
                }
                Attempt::Again => todo = vec![Batch::unread(ready.into_iter().chain(later).collect())],
                Attempt::Failed => {
                    finish_all(ready, &VaultError::Unavailable);
                    return Round::Done { later };
                }
            }
        }
        let acts = acts_of(todo);
        if acts.is_empty() { Round::Done { later: acts } } else { Round::Exhausted(acts) }
    }

    /// Keeps looks that are still current, and reads the acts of all others again, together. Acts that cannot be read
    /// are answered; the others go on.
    async fn look_again(&self, batches: Vec<Batch>, tip: &Tip) -> Vec<(Vec<Queued>, Look)> {
        let (mut groups, mut unread) = (Vec::new(), Vec::new());
        for Batch { acts, look } in batches {
            match look {
                Some(look) if is_current(&look, tip) => groups.push((acts, look)),
                Some(_) | None => unread.extend(acts),
            }
        }
        if !unread.is_empty() {
            match self.core.look(&unread).await {
                Ok(look) => groups.push((unread, look)),
                Err(error) => {
                    self.report("a batch could not be read", &error);
                    finish_all(unread, &VaultError::Unavailable);
                }
            }
        }
        groups
    }

    async fn take_tip(&mut self) -> Result<Tip, ()> {
        match self.tip.take() {
            Some(tip) => Ok(tip),
            None => {
                self.core.load_tip().await.map_err(|error| self.report("the head is not believed", &error))
            }
        }
    }

    /// Decides every act on its own group's look and commits those that are ready. Leaves the new tip, or none
    /// where it is unknown.
    async fn attempt(
        &mut self,
        groups: Vec<(Vec<Queued>, Look)>,
        tip: Tip,
    ) -> (Vec<Queued>, Vec<Queued>, Attempt) {
        let core = Arc::clone(&self.core);
        let Some(context) = groups.first().map(|(_, look)| Arc::clone(&look.context)) else {
            self.tip = Some(tip);
            return (Vec::new(), Vec::new(), Attempt::Committed);
        };
        let times = groups.iter().map(|(_, look)| core.shared.clock.adjust(look.snapshot.now));
        let now = times.fold(tip.last, Timestamp::max);
        let (mut plan, mut ready, mut later) = (Plan::default(), Vec::new(), Vec::new());
        let (mut reading, mut writing) = (Vec::new(), Vec::new());
        for (acts, look) in groups {
            let look = Arc::new(look);
            // Nobody waits for some of them any more: what changes nothing is then not decided, nor logged as given.
            for queued in acts.into_iter().filter(|queued| queued.act.writes() || !queued.act.is_abandoned())
            {
                let kind = if queued.act.writes() { &mut writing } else { &mut reading };
                kind.push((queued, Arc::clone(&look)));
            }
        }
        for (mut queued, look) in reading.into_iter().chain(writing) {
            let scene = Scene { shared: &core.shared, context: &look.context, snapshot: &look.snapshot, now };
            let mark = plan.mark();
            match queued.act.decide(&scene, &mut plan) {
                Ok(Flow::Ready) => ready.push(queued),
                Ok(Flow::Later) => {
                    plan.undo_to(mark);
                    later.push(queued);
                }
                Err(error) => {
                    plan.undo_to(mark);
                    queued.finish(Err(error));
                }
            }
        }
        if plan.entries.is_empty() {
            self.tip = Some(tip);
            return (ready, later, Attempt::Committed);
        }
        let reconfigures = plan.reconfigures;
        let attempt = self.commit(&context, plan, tip, now).await;
        if reconfigures
            && matches!(attempt, Attempt::Committed)
            && let Err(error) = core.reload_context(&context).await
        {
            self.report("policy and callers could not be loaded after a change", &error);
        }
        (ready, later, attempt)
    }

    async fn commit(&mut self, context: &Context, plan: Plan, tip: Tip, now: Timestamp) -> Attempt {
        let commit = match self.build(context, plan, &tip, now) {
            Ok(built) => built,
            Err(error) => {
                self.tip = Some(tip);
                self.report("a batch could not be signed", &error);
                return Attempt::Failed;
            }
        };
        let (commit, tree) = commit;
        let next = Tip {
            tree,
            counters: commit.head.counters,
            last: now,
            checkpoint: commit.head.checkpoint.clone(),
        };
        match self.core.shared.store.commit(&commit).await {
            Ok(CommitOutcome::Committed) => {
                self.tip = Some(next);
                Attempt::Committed
            }
            // The tip is read anew: after a conflict it is the same, after a moved head it is not.
            Ok(CommitOutcome::HeadMoved | CommitOutcome::Conflict) => Attempt::Again,
            Err(error) => {
                self.report("a commit failed", &error);
                // Its outcome is unknown until the head is seen: the checkpoint is of this commit alone.
                match self.core.load_tip().await {
                    Ok(tip) if tip.checkpoint == next.checkpoint => {
                        self.tip = Some(next);
                        Attempt::Committed
                    }
                    Ok(tip) => {
                        self.tip = Some(tip);
                        Attempt::Failed
                    }
                    Err(_) => Attempt::Failed,
                }
            }
        }
    }

    fn build(
        &self,
        context: &Context,
        plan: Plan,
        tip: &Tip,
        now: Timestamp,
    ) -> Result<(Commit, LogTree), LoadError> {
        let (mut tree, mut complete, mut entries) = (tip.tree.clone(), Vec::new(), Vec::new());
        for entry in &plan.entries {
            let bytes = entry
                .encode()
                .map_err(|_| StoreError::Damaged(Damage { table: "audit_entries", column: "entry" }))?;
            let leaf = leaf_hash(&bytes);
            tree.append(leaf, &mut complete);
            entries.push(EntryRow { entry: bytes, leaf_hash: leaf.0 });
        }
        let counters = Counters {
            size: tree.size(),
            config_epoch: tip.counters.config_epoch + u64::from(plan.reconfigures),
            tighten_seq: tip.counters.tighten_seq + u64::from(plan.tightens),
        };
        let core = &self.core;
        let head = core.shared.signatory.head_row(
            core.platform,
            &core.name,
            &tree,
            counters,
            now,
            &context.keys.row,
        )?;
        let tiles = complete
            .into_iter()
            .map(|t| TileRow { level: t.level, index: t.index, hashes: t.hashes, root: t.root.0 })
            .collect();
        Ok((Commit { expected: tip.counters, head, entries, tiles, writes: plan.writes }, tree))
    }

    fn report(&self, what: &'static str, error: &(dyn std::error::Error + 'static)) {
        tracing::error!(platform = %self.core.name, error, "{what}");
    }
}

fn finish_all(acts: Vec<Queued>, error: &VaultError) {
    for queued in acts {
        queued.finish(Err(error.clone()));
    }
}

fn acts_of(batches: Vec<Batch>) -> Vec<Queued> {
    batches.into_iter().flat_map(|batch| batch.acts).collect()
}

/// Whether a look may be decided on: it saw the last change of policy, callers, keys and permissions. Its log may
/// be shorter than the tip's, by this process's own batches.
fn is_current(look: &Look, tip: &Tip) -> bool {
    let seen = look.snapshot.head.counters;
    look.context.config_epoch == tip.counters.config_epoch
        && seen.config_epoch == tip.counters.config_epoch
        && seen.tighten_seq == tip.counters.tighten_seq
        && seen.size <= tip.counters.size
}
