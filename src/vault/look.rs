//! What a lane decides on: rows as one read brought them or as an earlier one did, with policy, callers and staff.

use std::{
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Instant,
};

use arc_swap::ArcSwap;
use tokio::sync::OwnedSemaphorePermit;

use super::{
    Shared,
    act::Act,
    context::{Context, LoadError},
    door::Door,
    error::VaultError,
    heads::Signatory,
    mirroring::Mirrored,
    replicas::require_right_clock,
    tip::{Signing, Tip},
    warm::{ReadClock, WarmRows},
};
use crate::{
    domain::{ids::PlatformId, names::PlatformName},
    store::{ReadKeys, Snapshot, StoredTree},
};

/// What reader and committer share.
pub(super) struct Core {
    pub(super) shared: Arc<Shared>,
    pub(super) platform: PlatformId,
    pub(super) name: PlatformName,
    /// The vault's own lane and `Shared` have this one together.
    pub(super) context: Arc<ArcSwap<Context>>,
    pub(super) mirrored: Mirrored,
    /// Entries of the log, as last seen.
    pub(super) size: AtomicU64,
    /// Rows that were read a short while ago.
    pub(super) warm: Mutex<WarmRows>,
}

/// An act that waits.
pub(super) struct Queued {
    pub(super) act: Box<dyn Act>,
    /// What it reads, where that is tokens alone and no write follows, and the epoch that this was found out at.
    pub(super) tokens: Option<(u64, ReadKeys)>,
    /// Whether it may be decided on rows that were read before.
    pub(super) may_be_warm: bool,
    /// Places in the queue, given back when the act is finished.
    pub(super) _slots: OwnedSemaphorePermit,
}

impl Queued {
    pub(super) fn finish(self, outcome: Result<(), VaultError>) {
        self.act.finish(outcome);
    }
}

/// Rows with the policy, callers and keys that they are decided with.
pub(super) struct Look {
    pub(super) context: Arc<Context>,
    pub(super) staff: Arc<Context>,
    pub(super) snapshot: Snapshot,
    /// Whether the rows were read before, for others.
    pub(super) warm: bool,
}

impl Look {
    /// Whether it may be decided on: it saw the last change of policy, callers, staff, keys and permissions, and where its rows were
    /// read for others, of any row. Its log may be shorter than the tip's.
    pub(super) fn is_current(&self, tip: &Tip) -> bool {
        let seen = self.snapshot.counters;
        self.context.config_epoch == tip.counters.config_epoch
            && self.staff.config_epoch == tip.vault_epoch
            && self.snapshot.vault_epoch == tip.vault_epoch
            && seen.config_epoch == tip.counters.config_epoch
            && seen.tighten_seq == tip.counters.tighten_seq
            && seen.size <= tip.counters.size
            && (!self.warm || seen.change_seq == tip.counters.change_seq)
    }
}

impl Core {
    /// Reads everything that the acts need, under the context that is in force.
    pub(super) async fn look(&self, door: &mut Door<'_>, acts: &[Queued]) -> Result<Look, LoadError> {
        loop {
            let (context, staff) = (self.context.load_full(), self.shared.staff.load_full());
            let mut keys = ReadKeys::default();
            for queued in acts {
                match &queued.tokens {
                    Some((epoch, tokens)) if *epoch == context.config_epoch => {
                        keys.tokens.extend(&tokens.tokens);
                    }
                    Some(_) | None => queued.act.reads(&context, &mut keys),
                }
            }
            let (clock, before) = (&self.shared.clock, self.shared.clock.now());
            let instant = Instant::now();
            let snapshot = door.read(self.platform, &keys).await?;
            require_right_clock(before, clock.adjust(snapshot.now), clock.now()).inspect_err(|_| {
                self.shared.trouble.notify_one();
            })?;
            if snapshot.vault_epoch > staff.config_epoch {
                self.shared.reload_staff(&staff).await?;
            } else if snapshot.counters.config_epoch > context.config_epoch {
                self.reload_context(&context).await?;
            } else {
                let clock = ReadClock { instant, local: before, database: snapshot.now };
                self.warm_rows().keep(&keys, &snapshot, clock);
                return Ok(Look { context, staff, snapshot, warm: false });
            }
        }
    }

    pub(super) async fn reload_context(&self, previous: &Context) -> Result<(), LoadError> {
        if self.platform == PlatformId::VAULT {
            return self.shared.reload_staff(previous).await;
        }
        let shared = &self.shared;
        let (store, kms, installation) = (shared.store.as_ref(), shared.kms.as_ref(), shared.installation());
        let fresh = Context::load(store, kms, &installation, self.platform, Some(previous)).await?;
        self.context.store(Arc::new(fresh));
        Ok(())
    }

    pub(super) fn believe(&self, stored: StoredTree) -> Result<Tip, LoadError> {
        let context = self.context.load();
        let (tree, signers) = self.shared.signatory()?.believe(&self.name, &stored, &context.keys.row)?;
        self.size.fetch_max(stored.head.counters.size, Ordering::Relaxed);
        Ok(Tip {
            tree,
            signers,
            counters: stored.head.counters,
            vault_epoch: stored.vault_epoch,
            last: stored.head.updated_at,
            checkpoint: stored.head.checkpoint,
        })
    }

    /// Who signs the next head, as staff stands that it is decided by: a commit by another's newer key or older one would
    /// miss the epoch that it states.
    pub(super) fn signing<'a>(&'a self, signatory: &'a Signatory) -> Signing<'a> {
        let rng = self.shared.rng.as_ref();
        Signing { signatory, platform: self.platform, name: &self.name, rng }
    }

    pub(super) async fn load_tip(&self, door: &mut Door<'_>) -> Result<Tip, LoadError> {
        // Before the head: what is mirrored was in the database before.
        let reached = self.mirrored.reached();
        let stored = door.tree(self.platform).await?;
        let staff = self.shared.staff.load_full();
        if stored.vault_epoch > staff.config_epoch {
            // The head may be signed by an audit key that is not known here yet.
            self.shared.reload_staff(&staff).await?;
        }
        let tip = self.believe(stored)?;
        self.mirrored.admit(tip.counters.size, reached)?;
        self.warm_rows().seen(tip.counters);
        Ok(tip)
    }

    /// Takes out of these acts those of which every row was read a short while ago, with a look at them; none where there are none.
    pub(super) fn warm_look(&self, acts: &mut Vec<Queued>, tip: &Tip) -> Option<(Look, Vec<Queued>)> {
        if acts.is_empty() || self.shared.clock_is_wrong.load(Ordering::SeqCst) {
            return None;
        }
        let (context, staff) = (self.context.load_full(), self.shared.staff.load_full());
        let (instant, local) = (Instant::now(), self.shared.clock.now());
        let mut rows = self.warm_rows();
        let mut snapshot = rows.look((tip.counters, tip.last, tip.vault_epoch), instant, local)?;
        require_right_clock(local, self.shared.clock.adjust(snapshot.now), local).ok()?;
        let is_warm = |queued: &mut Queued| match &queued.tokens {
            Some((epoch, keys)) if queued.may_be_warm && *epoch == context.config_epoch => {
                rows.add(keys, &mut snapshot, instant)
            }
            Some(_) | None => false,
        };
        let warm: Vec<_> = acts.extract_if(.., is_warm).collect();
        drop(rows);
        let look = Look { context, staff, snapshot, warm: true };
        // Policy or staff may be newer than the tip; then everything is read.
        if warm.is_empty() || !look.is_current(tip) {
            acts.extend(warm);
            return None;
        }
        self.shared.meters.count_warm(warm.iter().map(|queued| queued.act.weight()).sum());
        Some((look, warm))
    }

    pub(super) fn warm_rows(&self) -> MutexGuard<'_, WarmRows> {
        self.warm.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
