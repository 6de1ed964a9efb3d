//! One lane a platform: what waits together is read together, decided alone, committed together.
//!
//! ```text
//! queue ─▶ reader: one read a batch ─▶ committer: decide, open, one commit ─▶ answers
//! ```
//!
//! While the committer writes batch n, the reader reads batch n+1. A commit swaps the head on size, `config_epoch`
//! and `tighten_seq`; a batch whose snapshot is older than the last change of one of the two counters is read and
//! decided again, so no answer rests on a permission that ended. No timer waits for a batch to fill.

use std::sync::Arc;

use arc_swap::ArcSwap;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc},
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
        Commit, CommitOutcome, Counters, ReadKeys, Snapshot, StoreError,
        rows::{EntryRow, TileRow},
    },
};

/// Items that may wait in a lane; more are refused at once.
pub const QUEUE_ITEMS: usize = 8_192;
/// Items after which a batch takes no further act.
const BATCH_ITEMS: usize = 1_000;
/// Times that a batch is read and decided again before its acts run one by one.
const ATTEMPTS: u32 = 3;

/// The pipeline of one platform.
pub struct Lane {
    queue: mpsc::Sender<Queued>,
    slots: Arc<Semaphore>,
    core: Arc<Core>,
    tasks: [JoinHandle<()>; 2],
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

struct Batch {
    acts: Vec<Queued>,
    look: Option<Look>,
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
        let (read, batches) = mpsc::channel(1);
        let committer = Committer { core: Arc::clone(&core), tip: Some(tip) };
        let tasks = [
            tokio::spawn(read_batches(Arc::clone(&core), waiting, read)),
            tokio::spawn(committer.run(batches)),
        ];
        Ok(Self { queue, slots: Arc::new(Semaphore::new(QUEUE_ITEMS)), core, tasks })
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
        self.queue.try_send(Queued { act: Box::new(act), _slots: slots }).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => VaultError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => VaultError::Unavailable,
        })
    }

    /// Lets what waits finish, then ends the tasks.
    pub(crate) async fn close(self) {
        drop(self.queue);
        for task in self.tasks {
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

/// How one attempt at a batch ended.
enum Attempt {
    Committed,
    /// Read and decide again.
    Again,
    /// The store failed, or does not hold what it should.
    Failed,
}

impl Committer {
    async fn run(mut self, mut batches: mpsc::Receiver<Batch>) {
        while let Some(batch) = batches.recv().await {
            let left = self.run_batch(batch).await;
            // What failed together runs alone, once, so that one bad item never fails its neighbours.
            let alone = left.len() > 1;
            for queued in left {
                let left = if alone {
                    self.run_batch(Batch { acts: vec![queued], look: None }).await
                } else {
                    vec![queued]
                };
                for queued in left {
                    queued.finish(Err(VaultError::Unavailable));
                }
            }
        }
    }

    /// Runs a batch to its end and answers the acts that could not be done, because the store failed under them.
    async fn run_batch(&mut self, batch: Batch) -> Vec<Queued> {
        let Batch { acts: mut todo, mut look } = batch;
        let mut attempts = 0;
        while !todo.is_empty() {
            let Ok(tip) = self.take_tip().await else { return todo };
            let seen = match look.take().filter(|look| is_current(look, &tip)) {
                Some(look) => look,
                None => match self.core.look(&todo).await {
                    Ok(look) => look,
                    Err(error) => {
                        self.tip = Some(tip);
                        self.report("a batch could not be read", &error);
                        return todo;
                    }
                },
            };
            if !is_current(&seen, &tip) {
                // Another writer moved the head: it is read and checked anew, and then the rows are.
                attempts += 1;
                if attempts == ATTEMPTS {
                    return todo;
                }
                continue;
            }
            let (ready, later, attempt) = self.attempt(todo, &seen, tip).await;
            match attempt {
                Attempt::Committed => {
                    for queued in ready {
                        queued.finish(Ok(()));
                    }
                    todo = later;
                    attempts = 0;
                }
                Attempt::Again => {
                    todo = ready.into_iter().chain(later).collect();
                    attempts += 1;
                    if attempts == ATTEMPTS && todo.len() == 1 {
                        todo.drain(..).for_each(|queued| queued.finish(Err(VaultError::Contended)));
                    } else if attempts == ATTEMPTS {
                        return todo;
                    }
                }
                Attempt::Failed => return ready.into_iter().chain(later).collect(),
            }
        }
        Vec::new()
    }

    async fn take_tip(&mut self) -> Result<Tip, ()> {
        match self.tip.take() {
            Some(tip) => Ok(tip),
            None => {
                self.core.load_tip().await.map_err(|error| self.report("the head is not believed", &error))
            }
        }
    }

    /// Decides every act and commits those that are ready. Leaves the new tip, or none where it is unknown.
    async fn attempt(
        &mut self,
        acts: Vec<Queued>,
        look: &Look,
        tip: Tip,
    ) -> (Vec<Queued>, Vec<Queued>, Attempt) {
        let core = Arc::clone(&self.core);
        let now = core.shared.clock.adjust(look.snapshot.now).max(tip.last);
        let scene = Scene { shared: &core.shared, context: &look.context, snapshot: &look.snapshot, now };
        let (mut plan, mut ready, mut later) = (Plan::default(), Vec::new(), Vec::new());
        let (writing, reading): (Vec<_>, Vec<_>) = acts.into_iter().partition(|queued| queued.act.writes());
        for mut queued in reading.into_iter().chain(writing) {
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
        let attempt = self.commit(&look.context, plan, tip, now).await;
        if reconfigures
            && matches!(attempt, Attempt::Committed)
            && let Err(error) = core.reload_context(&look.context).await
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
                .map_err(|_| StoreError::Damaged { table: "audit_entries", column: "entry" })?;
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

/// Whether a look may be decided on: it saw the last change of policy, callers, keys and permissions. Its log may
/// be shorter than the tip's, by this process's own batches.
fn is_current(look: &Look, tip: &Tip) -> bool {
    let seen = look.snapshot.head.counters;
    look.context.config_epoch == tip.counters.config_epoch
        && seen.config_epoch == tip.counters.config_epoch
        && seen.tighten_seq == tip.counters.tighten_seq
        && seen.size <= tip.counters.size
}
