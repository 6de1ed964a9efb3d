//! One lane a platform: what waits together is read together, decided alone, committed together.
//!
//! ```text
//! queue ─▶ reader: one read a batch ─▶ committer: decide, open, one commit for all that is read ─▶ answers
//!   └─ what reads only rows that are at hand ─▶ ┘
//! ```
//!
//! While the committer writes, the reader reads on; the next commit takes every batch that was read meanwhile, each
//! decided on its own snapshot. A commit swaps the head on size, `config_epoch` and `tighten_seq`, and on the epoch of
//! the vault's own platform, where staff is kept; a batch whose snapshot is older than the last change of one of those
//! counters is read and decided again, so no answer rests on a permission that ended. Where only the log grew, by
//! another replica, the batch is decided again on the rows it has. No timer waits for a batch to fill. Acts that tighten
//! are answered when the mirror has their entries; nothing else waits for it.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use arc_swap::{ArcSwap, ArcSwapOption};
use tokio::{
    sync::{Mutex, Semaphore, mpsc},
    task::JoinHandle,
};

use super::{
    Shared,
    act::{Act, Flow, Plan, Scene, step_back_after},
    attempt::Attempt,
    context::{Context, LoadError},
    door::Door,
    error::VaultError,
    look::{Core, Look, Queued},
    meters::MirrorMeasure,
    mirroring::Mirrored,
    tip::Tip,
    warm::WarmRows,
};
use crate::{
    domain::{ids::PlatformId, names::PlatformName, time::Timestamp},
    store::{Changed, CommitOutcome, ReadKeys},
};

/// Items that may wait in a lane; more are refused at once.
pub const QUEUE_ITEMS: usize = 8_192;
/// Items after which a batch takes no further act, and a commit no further batch.
const BATCH_ITEMS: usize = 1_000;
/// Batches that may be read ahead of the commit. What comes while one waits is read with the next: each read has its price.
const BATCHES_AHEAD: usize = 1;
/// Times that a batch is tried before its acts run one by one; from the third on the head is locked first.
const ATTEMPTS: u32 = 4;
/// Tries before the head is locked.
const UNLOCKED_ATTEMPTS: u32 = 2;

/// The pipeline of one platform.
pub struct Lane {
    /// None once the lane is closing.
    queues: ArcSwapOption<Queues>,
    slots: Arc<Semaphore>,
    core: Arc<Core>,
    tasks: Mutex<Option<[JoinHandle<()>; 2]>>,
}

/// Where acts wait.
struct Queues {
    /// For a read.
    cold: mpsc::Sender<Queued>,
    /// For the next commit: everything that they read is here.
    warm: mpsc::Sender<Queued>,
}

/// Acts that were read together. The look is missing where it failed or was of no use any more.
struct Batch {
    acts: Vec<Queued>,
    look: Option<Arc<Look>>,
}

impl Batch {
    const fn unread(acts: Vec<Queued>) -> Self {
        Self { acts, look: None }
    }

    fn items(&self) -> usize {
        self.acts.iter().map(|queued| queued.act.weight()).sum()
    }
}

/// An act with what it is decided on.
struct Seen {
    queued: Queued,
    look: Arc<Look>,
}

impl Lane {
    /// Checks the platform's head, loads its context, and starts the two tasks.
    pub(crate) async fn start(
        shared: Arc<Shared>,
        platform: PlatformId,
        name: PlatformName,
    ) -> Result<Self, LoadError> {
        let context = if platform == PlatformId::VAULT {
            Arc::clone(&shared.staff)
        } else {
            let (store, kms, installation) =
                (shared.store.as_ref(), shared.kms.as_ref(), shared.installation());
            let context = Context::load(store, kms, &installation, platform, None).await?;
            Arc::new(ArcSwap::from_pointee(context))
        };
        let mirrored = Mirrored::of(&shared, platform, &name);
        let size = AtomicU64::new(0);
        let warm = std::sync::Mutex::new(WarmRows::new(shared.options.warm));
        let core = Arc::new(Core { shared, platform, name, context, mirrored, size, warm });
        let tip = core.believe(core.shared.store.tree(platform).await?)?;
        core.warm_rows().seen(tip.counters);
        let (cold, waiting) = mpsc::channel(QUEUE_ITEMS);
        let (warm, ready) = mpsc::channel(QUEUE_ITEMS);
        let (read, batches) = mpsc::channel(BATCHES_AHEAD);
        let committer = Committer { core: Arc::clone(&core), tip: Some(tip) };
        let tasks = [
            tokio::spawn(read_batches(Arc::clone(&core), waiting, read)),
            tokio::spawn(committer.run(batches, ready)),
        ];
        Ok(Self {
            queues: ArcSwapOption::from_pointee(Queues { cold, warm }),
            slots: Arc::new(Semaphore::new(QUEUE_ITEMS)),
            core,
            tasks: Mutex::new(Some(tasks)),
        })
    }

    /// Policy, callers and keys as last loaded.
    pub(crate) fn context(&self) -> Arc<Context> {
        self.core.context.load_full()
    }

    /// Items that wait or are being worked on.
    pub(super) fn queued(&self) -> usize {
        QUEUE_ITEMS.saturating_sub(self.slots.available_permits())
    }

    /// Entries of the log, as far as this process knows.
    pub(super) fn log_entries(&self) -> u64 {
        self.core.size.load(Ordering::Relaxed)
    }

    /// How far the mirror is, where there is one.
    pub(super) fn mirror(&self) -> Option<MirrorMeasure> {
        self.core.mirrored.measure(self.log_entries())
    }

    /// Loads policy, callers and staff anew where another replica changed them, and keys that could not be loaded.
    pub(crate) async fn refresh(&self) -> Result<(), LoadError> {
        let mut door = Door::Open(self.core.shared.store.as_ref());
        let look = self.core.look(&mut door, &[]).await?;
        if look.context.has_all_keys() { Ok(()) } else { self.core.reload_context(&look.context).await }
    }

    /// Puts an act into the queue, or refuses at once.
    pub(crate) fn submit(&self, act: impl Act + 'static) -> Result<(), VaultError> {
        if self.core.shared.outdated.load(Ordering::Relaxed) {
            return Err(VaultError::Unavailable);
        }
        let weight = u32::try_from(act.weight()).map_err(|_| VaultError::Overloaded)?;
        let slots = Arc::clone(&self.slots)
            .try_acquire_many_owned(weight.max(1))
            .map_err(|_| VaultError::Overloaded)?;
        let queues = self.queues.load_full().ok_or(VaultError::Unavailable)?;
        let tokens = if act.writes() { None } else { self.tokens_read(&act) };
        let may_be_warm = tokens.as_ref().is_some_and(|(_, keys)| {
            let (context, rows) = (self.core.context.load(), self.core.warm_rows());
            rows.covers(keys, Instant::now(), |field| act.may_know_of(&context, field))
        });
        let queue = if may_be_warm { &queues.warm } else { &queues.cold };
        let waiting = Queued { act: Box::new(act), tokens, may_be_warm, _slots: slots };
        queue.try_send(waiting).map_err(|e| match e {
            mpsc::error::TrySendError::Full(_) => VaultError::Overloaded,
            mpsc::error::TrySendError::Closed(_) => VaultError::Unavailable,
        })
    }

    /// What an act reads, where that is tokens alone.
    fn tokens_read(&self, act: &impl Act) -> Option<(u64, ReadKeys)> {
        let context = self.core.context.load();
        let mut keys = ReadKeys::default();
        act.reads(&context, &mut keys);
        keys.are_tokens_alone().then_some((context.config_epoch, keys))
    }

    /// Lets what waits finish, then ends the tasks.
    pub(crate) async fn close(&self) {
        self.queues.store(None);
        for task in self.tasks.lock().await.take().into_iter().flatten() {
            if let Err(error) = task.await {
                tracing::error!(platform = %self.core.name, %error, "a lane's task ended badly");
            }
        }
    }
}

async fn read_batches(core: Arc<Core>, mut waiting: mpsc::Receiver<Queued>, batches: mpsc::Sender<Batch>) {
    // A batch is gathered when there is room for it, so that what comes meanwhile is part of it.
    while let Ok(room) = batches.reserve().await {
        let Some(first) = waiting.recv().await else { return };
        let mut items = first.act.weight();
        let mut acts = vec![first];
        while items < BATCH_ITEMS
            && let Ok(next) = waiting.try_recv()
        {
            items += next.act.weight();
            acts.push(next);
        }
        // A look that failed is taken again by the committer, which knows how to go on without it.
        let mut door = Door::Open(core.shared.store.as_ref());
        let started = Instant::now();
        let look = core.look(&mut door, &acts).await.ok().map(Arc::new);
        core.shared.meters.count_read(items, started.elapsed());
        room.send(Batch { acts, look });
    }
}

struct Committer {
    core: Arc<Core>,
    /// None after a failure: read and checked anew before anything is extended.
    tip: Option<Tip>,
}

/// How a round of batches ended.
enum Round {
    /// Done, but for acts that wait for the next round.
    Done { later: Vec<Queued> },
    /// Each attempt met a change by somebody else, or a row that does not fit.
    Exhausted(Vec<Queued>),
}

impl Committer {
    async fn run(mut self, mut batches: mpsc::Receiver<Batch>, mut ready: mpsc::Receiver<Queued>) {
        let mut later = Vec::new();
        loop {
            // Acts that had to wait for a row share the next commit with everybody else.
            let mut together = vec![Batch::unread(std::mem::take(&mut later))];
            if together.iter().all(|batch| batch.acts.is_empty()) {
                tokio::select! {
                    Some(first) = batches.recv() => together.push(first),
                    Some(first) = ready.recv() => together.push(Batch::unread(vec![first])),
                    else => return,
                }
            }
            let mut items: usize = together.iter().map(Batch::items).sum();
            while items < BATCH_ITEMS
                && let Ok(next) = batches.try_recv()
            {
                items += next.items();
                together.push(next);
            }
            // A count of their own, so that neither kind can keep the other waiting for ever.
            let (mut warm, mut warm_items) = (Vec::new(), 0);
            while warm_items < BATCH_ITEMS
                && let Ok(next) = ready.try_recv()
            {
                warm_items += next.act.weight();
                warm.push(next);
            }
            together.push(Batch::unread(warm));
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
        let core = Arc::clone(&self.core);
        let mut todo = batches;
        for number in 0..ATTEMPTS {
            todo.retain(|batch| !batch.acts.is_empty());
            if todo.is_empty() {
                break;
            }
            let (mut door, tip) = match self.approach(&core, number >= UNLOCKED_ATTEMPTS).await {
                Ok(ready) => ready,
                Err(error) => {
                    self.report("the head is not believed", &error);
                    finish_all(acts_of(todo), &VaultError::Unavailable);
                    return Round::Done { later: Vec::new() };
                }
            };
            let seen = self.look_again(&mut door, todo, &tip).await;
            if !seen.iter().all(|s| s.look.is_current(&tip)) {
                // Another writer moved the head: it is read and checked anew, and then the rows are.
                todo = vec![Batch::unread(seen.into_iter().map(|s| s.queued).collect())];
                continue;
            }
            let (ready, later, attempt) = self.attempt(door, seen, tip).await;
            match attempt {
                Attempt::Committed => {
                    let size = self.tip.as_ref().map_or(0, |tip| tip.counters.size);
                    for seen in ready {
                        core.mirrored.acknowledge(seen.queued.act, size);
                    }
                    return Round::Done { later };
                }
                Attempt::Moved => {
                    // The looks may be good still: the tip, read anew, tells.
                    let again = ready.into_iter().map(|s| Batch { acts: vec![s.queued], look: Some(s.look) });
                    todo = again.chain([Batch::unread(later)]).collect();
                }
                Attempt::Conflict => {
                    core.warm_rows().clear();
                    todo = vec![Batch::unread(unseen(ready).chain(later).collect())];
                }
                Attempt::Refused if ready.len() > 1 => {
                    return Round::Exhausted(unseen(ready).chain(later).collect());
                }
                Attempt::Refused | Attempt::Failed => {
                    finish_all(unseen(ready), &VaultError::Unavailable);
                    return Round::Done { later };
                }
            }
        }
        let acts: Vec<_> = acts_of(todo).collect();
        if acts.is_empty() { Round::Done { later: acts } } else { Round::Exhausted(acts) }
    }

    /// The way to the store and the tip. Where others were faster too often, they wait until this attempt is over.
    async fn approach<'a>(&mut self, core: &'a Core, lock: bool) -> Result<(Door<'a>, Tip), LoadError> {
        let store = core.shared.store.as_ref();
        let mut door =
            if lock { Door::Locked(store.lock_head(core.platform).await?) } else { Door::Open(store) };
        let tip = match self.tip.take() {
            Some(tip) if !lock => {
                core.mirrored.admit(tip.counters.size, 0)?;
                tip
            }
            Some(_) | None => core.load_tip(&mut door).await?,
        };
        Ok((door, tip))
    }

    /// Keeps looks that are still current, and reads the acts of all others again, together, where their rows are not at hand.
    /// Acts that cannot be read are answered; the others go on.
    async fn look_again(&self, door: &mut Door<'_>, batches: Vec<Batch>, tip: &Tip) -> Vec<Seen> {
        let (mut seen, mut unread) = (Vec::new(), Vec::new());
        for Batch { acts, look } in batches {
            match look {
                Some(look) if look.is_current(tip) => {
                    seen.extend(acts.into_iter().map(|queued| Seen { queued, look: Arc::clone(&look) }));
                }
                Some(_) | None => unread.extend(acts),
            }
        }
        if let Some((look, warm)) = self.core.warm_look(&mut unread, tip) {
            let look = Arc::new(look);
            seen.extend(warm.into_iter().map(|queued| Seen { queued, look: Arc::clone(&look) }));
        }
        if !unread.is_empty() {
            match self.core.look(door, &unread).await {
                Ok(look) => {
                    let look = Arc::new(look);
                    seen.extend(unread.into_iter().map(|queued| Seen { queued, look: Arc::clone(&look) }));
                }
                Err(error) => {
                    self.report("a batch could not be read", &error);
                    finish_all(unread, &VaultError::Unavailable);
                }
            }
        }
        seen
    }

    /// Decides every act on its own look and commits those that are ready. Leaves the new tip, or none where it is
    /// unknown.
    async fn attempt(
        &mut self,
        door: Door<'_>,
        seen: Vec<Seen>,
        tip: Tip,
    ) -> (Vec<Seen>, Vec<Queued>, Attempt) {
        let core = Arc::clone(&self.core);
        let Some(look) = seen.first().map(|s| Arc::clone(&s.look)) else {
            self.tip = Some(tip);
            return (Vec::new(), Vec::new(), Attempt::Committed);
        };
        let times = seen.iter().map(|s| core.shared.clock.adjust(s.look.snapshot.now));
        let now = times.fold(tip.last, Timestamp::max);
        let (mut plan, mut ready, mut later) = (Plan::default(), Vec::new(), Vec::new());
        // Nobody waits for some of them any more: what changes nothing is then not decided, nor logged as given.
        let wanted = seen.into_iter().filter(|s| s.queued.act.writes() || !s.queued.act.is_abandoned());
        let (writing, reading): (Vec<_>, Vec<_>) = wanted.partition(|s| s.queued.act.writes());
        for (number, Seen { mut queued, look }) in reading.into_iter().chain(writing).enumerate() {
            step_back_after(number).await;
            let scene = Scene {
                shared: &core.shared,
                name: &core.name,
                context: &look.context,
                staff: &look.staff,
                snapshot: &look.snapshot,
                now,
            };
            let mark = plan.mark();
            match queued.act.decide(&scene, &mut plan) {
                // What leaves no entry is in no commit, which would tell whether the rows are the database's still.
                Ok(Flow::Ready) | Err(_) if look.warm && !plan.logged_since(mark) => {
                    plan.undo_to(mark);
                    later.push(Queued { may_be_warm: false, ..queued });
                }
                Ok(Flow::Ready) => ready.push(Seen { queued, look }),
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
        let meters = &core.shared.meters;
        let (tally, started) = (meters.tally(&plan.entries, &plan.writes), Instant::now());
        let attempt = self.commit(door, &look, plan, tip, now).await;
        meters.count_commit(&tally, started.elapsed(), attempt);
        let size = self.tip.as_ref().map_or(0, |tip| tip.counters.size);
        core.size.fetch_max(size, Ordering::Relaxed);
        if reconfigures
            && matches!(attempt, Attempt::Committed)
            && let Err(error) = core.reload_context(&look.context).await
        {
            self.report("policy and callers could not be loaded after a change", &error);
        }
        (ready, later, attempt)
    }

    async fn commit(&mut self, door: Door<'_>, look: &Look, plan: Plan, tip: Tip, now: Timestamp) -> Attempt {
        let reconfigures = plan.reconfigures;
        let core = Arc::clone(&self.core);
        let extended = look
            .staff
            .signatory()
            .and_then(|signatory| tip.extended(&core.signing(signatory), &look.context, plan, now));
        let (commit, tree, signers) = match extended {
            Ok(built) => built,
            Err(error) => {
                self.tip = Some(tip);
                self.report("a batch could not be signed", &error);
                return Attempt::Failed;
            }
        };
        let own_platform = self.core.platform == PlatformId::VAULT;
        let next = Tip {
            tree,
            signers,
            counters: commit.head.counters,
            vault_epoch: tip.vault_epoch + u64::from(own_platform && reconfigures),
            last: now,
            checkpoint: commit.head.checkpoint.clone(),
        };
        match door.commit(&commit).await {
            Ok(CommitOutcome::Committed) => {
                let changed = Changed::by(&commit.writes);
                core.warm_rows().committed(&changed, &commit.expected, next.counters);
                self.tip = Some(next);
                Attempt::Committed
            }
            // The tip is read anew: after a conflict it is the same, after a moved head it is not.
            Ok(CommitOutcome::HeadMoved) => Attempt::Moved,
            Ok(CommitOutcome::Conflict) => Attempt::Conflict,
            Err(error) => {
                self.report("a commit failed", &error);
                self.core.shared.trouble.notify_one();
                // Its outcome is unknown until the head is seen: the checkpoint is of this commit alone.
                match core.load_tip(&mut Door::Open(core.shared.store.as_ref())).await {
                    Ok(tip) if tip.checkpoint == next.checkpoint => {
                        self.tip = Some(next);
                        Attempt::Committed
                    }
                    // Another writer may have extended a commit of ours; only where nobody did is it surely undone.
                    Ok(tip) if tip.counters == commit.expected => {
                        self.tip = Some(tip);
                        Attempt::Refused
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

    fn report(&self, what: &'static str, error: &(dyn std::error::Error + 'static)) {
        tracing::error!(platform = %self.core.name, error, "{what}");
    }
}

fn finish_all(acts: impl IntoIterator<Item = Queued>, error: &VaultError) {
    for queued in acts {
        queued.finish(Err(error.clone()));
    }
}

fn acts_of(batches: Vec<Batch>) -> impl Iterator<Item = Queued> {
    batches.into_iter().flat_map(|batch| batch.acts)
}

fn unseen(seen: Vec<Seen>) -> impl Iterator<Item = Queued> {
    seen.into_iter().map(|seen| seen.queued)
}
