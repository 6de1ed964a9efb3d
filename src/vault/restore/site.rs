//! One platform while it is restored: its log extended by what was mirrored, and by what the restore itself did.

use std::collections::BTreeMap;

use super::{
    RestoreError,
    mirrored::{Slice, Walk},
    newer::Newer,
};
use crate::{
    audit::{
        entry::{Entry, Verdict},
        tree::{LogTree, leaf_hash},
    },
    domain::{
        canonical::Canonical,
        ids::{EntryId, PlatformId, SubjectId},
        names::{FieldName, PlatformName},
        rng::Rng,
        time::Timestamp,
    },
    policy::model::Field,
    store::{
        Commit, CommitOutcome, Counters, Damage, ReadKeys, Snapshot, Store, StoreError, Write,
        rows::{
            Mac,
            log::{EntryRow, TileRow},
        },
    },
    vault::{
        act::Plan,
        context::Context,
        heads::{NewHead, Signatory, Signers},
        receipts::Stating,
        reconcile::LOST,
        replay::KEPT_MICROS,
        tip::{Signing, Tip},
    },
};

/// The entry of a row that was put to its strictest state.
const STRICT: &str = "Restore/Strict";
/// The entry of a row whose hash a rotation had moved since the backup.
const KEPT: &str = "Restore/Keep";
/// The entry of rows that were put to what the log proves.
const REPLAYED: &str = "Restore/Replay";

/// What was done, by call or by kind of row.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Counts {
    /// Acts whose rows are as the log proves, by call.
    pub applied: BTreeMap<String, u64>,
    /// Rows that were put to their strictest state, by kind.
    pub strict: BTreeMap<String, u64>,
    /// Rows that cannot be brought back, by kind; each stands in the log.
    pub lost: BTreeMap<String, u64>,
}

/// What one commit does.
#[derive(Default)]
pub(super) struct Step {
    pub(super) writes: Vec<Write>,
    reconfigures: bool,
    entries: Vec<Entry>,
    counts: Counts,
}

fn one_more(of: &mut BTreeMap<String, u64>, key: &str) {
    *of.entry(key.to_owned()).or_default() += 1;
}

impl Step {
    /// A step that changes the configuration.
    pub(super) fn configuring() -> Self {
        Self { reconfigures: true, ..Self::default() }
    }

    /// A row is as the log proves that it became by this call.
    pub(super) fn applied(&mut self, call: &str) {
        one_more(&mut self.counts.applied, call);
    }

    /// A row that cannot be brought back.
    pub(super) fn lost(
        &mut self,
        site: &Site<'_>,
        kind: &str,
        id: &[u8],
        subject: Option<SubjectId>,
    ) -> Result<(), RestoreError> {
        one_more(&mut self.counts.lost, kind);
        // A subject's own id stands as the object: the row is lost, not the person told of.
        let subject = subject.map(|id| (*id.as_bytes()).into());
        self.entries.push(Entry { subject, ..site.about(LOST, kind, id)? });
        Ok(())
    }

    /// A row that has this MAC from now on, since nobody knows what `call` made of it.
    pub(super) fn strict(
        &mut self,
        site: &Site<'_>,
        kind: &str,
        id: &[u8],
        mac: Mac,
        call: &str,
    ) -> Result<(), RestoreError> {
        one_more(&mut self.counts.strict, kind);
        tracing::debug!(kind, call, "a row is put to its strictest state");
        self.entries.push(Entry { row_mac: Some(mac.into()), ..site.about(STRICT, kind, id)? });
        Ok(())
    }

    /// A row that has this MAC again, since its hash is under the version of the index key that the backup has.
    pub(super) fn kept(
        &mut self,
        site: &Site<'_>,
        kind: &str,
        id: &[u8],
        mac: Mac,
    ) -> Result<(), RestoreError> {
        self.entries.push(Entry { row_mac: Some(mac.into()), ..site.about(KEPT, kind, id)? });
        Ok(())
    }

    /// Any other entry of the restore.
    pub(super) fn log(&mut self, entry: Entry) {
        self.entries.push(entry);
    }
}

/// A platform that is restored.
pub(super) struct Site<'a> {
    pub(super) store: &'a dyn Store,
    pub(super) signatory: &'a Signatory,
    pub(super) rng: &'a dyn Rng,
    pub(super) platform: PlatformId,
    pub(super) name: PlatformName,
    pub(super) context: Context,
    /// Days after which no backup is restored.
    horizon_days: Option<u32>,
    /// None while a commit is on its way.
    tip: Tip,
    now: Timestamp,
}

impl<'a> Site<'a> {
    pub(super) async fn open(
        store: &'a dyn Store,
        signatory: &'a Signatory,
        rng: &'a dyn Rng,
        context: Context,
        name: PlatformName,
        (horizon_days, now): (Option<u32>, Timestamp),
    ) -> Result<Self, RestoreError> {
        let platform = context.platform;
        let tip = tip(store, signatory, &context, &name).await?;
        let now = now.max(tip.last);
        Ok(Self { store, signatory, rng, platform, name, context, horizon_days, tip, now })
    }

    pub(super) fn rng(&self) -> &dyn Rng {
        self.rng
    }

    /// States what entries did.
    pub(super) fn stating(&self) -> Result<Stating<'_>, RestoreError> {
        let key = self.signatory.active_key()?;
        let (signatory, name) = (self.signatory, &self.name);
        Ok(Stating { signatory, key, name, horizon_days: self.horizon_days })
    }

    /// The time of what the restore does: no earlier than anything that was mirrored.
    pub(super) const fn now(&self) -> Timestamp {
        self.now
    }

    pub(super) fn mac(&self, image: &Canonical) -> Mac {
        self.context.keys.row.mac(image)
    }

    pub(super) async fn read(&self, keys: &ReadKeys) -> Result<Snapshot, RestoreError> {
        Ok(self.store.read(self.platform, keys).await?)
    }

    /// A row whose MAC is that of its content.
    pub(super) fn believed<'r, T>(
        &self,
        row: &'r Result<T, Damage>,
        image: impl Fn(&T) -> Canonical,
        mac: impl Fn(&T) -> Mac,
    ) -> Result<&'r T, RestoreError> {
        let row = row.as_ref().map_err(|damage| StoreError::Damaged(*damage))?;
        match self.context.keys.row.verify(&image(row), &mac(row)) {
            Ok(()) => Ok(row),
            Err(_) => Err(RestoreError::Forged(self.name.to_string())),
        }
    }

    /// Whether the policy in force declares a field as unique.
    pub(super) fn is_unique(&self, field: &FieldName) -> bool {
        self.context.policy(self.now).and_then(|policy| policy.field(field)).is_some_and(Field::is_unique)
    }

    pub(super) fn entry(&self, call: &str) -> Result<Entry, RestoreError> {
        Ok(Entry::new(EntryId::random(self.rng)?, self.now, self.platform, call, Verdict::Done))
    }

    fn about(&self, call: &str, kind: &str, id: &[u8]) -> Result<Entry, RestoreError> {
        Ok(Entry { object_kind: Some(kind.to_owned()), object: Some(id.to_vec()), ..self.entry(call)? })
    }

    /// Adds the mirrored entries that the backup does not have, each run under the head that was signed for it, and
    /// answers what they tell.
    pub(super) async fn extend(&mut self, mut walk: Walk<'_>) -> Result<Newer, RestoreError> {
        let mut newer = Newer::since(self.now.plus_micros(-KEPT_MICROS));
        while let Some(slice) = walk.next().await? {
            self.append(slice, &mut newer).await?;
        }
        self.now = self.now.max(self.tip.last);
        Ok(newer)
    }

    async fn append(&mut self, slice: Slice, newer: &mut Newer) -> Result<(), RestoreError> {
        let size = self.tip.tree.size();
        let known = usize::try_from(size.saturating_sub(slice.from)).unwrap_or(usize::MAX);
        let (mut tree, mut complete, mut rows) = (self.tip.tree.clone(), Vec::new(), Vec::new());
        let mut last = self.tip.last;
        for bytes in slice.entries.into_iter().skip(known) {
            let entry =
                Entry::decode(&bytes).map_err(|_| RestoreError::Replay("an entry does not decode"))?;
            newer.take(&entry);
            last = last.max(Timestamp::from_micros(entry.time));
            let leaf = leaf_hash(&bytes);
            tree.append(leaf, &mut complete);
            let subject = entry.subject.map(|id| *id);
            rows.push(EntryRow { entry: bytes, leaf_hash: leaf.0, subject });
        }
        if rows.is_empty() {
            return Ok(());
        }
        let counters = Counters { size: tree.size(), ..self.tip.counters };
        let row_key = &self.context.keys.row;
        let new =
            NewHead { platform: self.platform, name: &self.name, tree: &tree, counters, updated_at: last };
        let mut head = self.signatory.head_row(new, self.tip.signers, row_key)?;
        head.checkpoint = slice.checkpoint;
        // A key that is not in the backup has signed nothing that this vault could go on from.
        let signers = self.signatory.signers(&head.checkpoint).unwrap_or(self.tip.signers);
        let tiles = complete
            .into_iter()
            .map(|t| TileRow { level: t.level, index: t.index, hashes: t.hashes, root: t.root.0 })
            .collect();
        let (expected, vault_epoch) = (self.tip.counters, self.tip.vault_epoch);
        let commit = Commit { expected, vault_epoch, head, entries: rows, tiles, writes: Vec::new() };
        self.write(&commit, (tree, signers), last).await
    }

    /// Commits a step with its entries; the counters move, so that nobody goes on with what was read before.
    pub(super) async fn commit(&mut self, step: Step, counts: &mut Counts) -> Result<(), RestoreError> {
        if step.writes.is_empty() && step.entries.is_empty() {
            return Ok(());
        }
        let mut plan = Plan::default();
        (plan.writes, plan.entries) = (step.writes, step.entries);
        (plan.tightens, plan.reconfigures) = (true, step.reconfigures);
        let applied = step.counts.applied.values().sum();
        plan.entries.push(Entry { count: Some(applied), ..self.entry(REPLAYED)? });
        let signing =
            Signing { signatory: self.signatory, platform: self.platform, name: &self.name, rng: self.rng };
        let (commit, tree, signers) = self.tip.extended(&signing, &self.context, plan, self.now)?;
        self.write(&commit, (tree, signers), self.now).await?;
        for (to, from) in [
            (&mut counts.applied, step.counts.applied),
            (&mut counts.strict, step.counts.strict),
            (&mut counts.lost, step.counts.lost),
        ] {
            for (key, count) in from {
                *to.entry(key).or_default() += count;
            }
        }
        Ok(())
    }

    async fn write(
        &mut self,
        commit: &Commit,
        (tree, signers): (LogTree, Signers),
        last: Timestamp,
    ) -> Result<(), RestoreError> {
        match self.store.commit(commit).await? {
            CommitOutcome::Committed => {}
            CommitOutcome::HeadMoved => {
                return Err(RestoreError::Replay("somebody else writes to the database"));
            }
            CommitOutcome::Conflict => {
                return Err(RestoreError::Replay("a row does not meet what the log tells of it"));
            }
        }
        let moved = commit.head.counters.config_epoch - self.tip.counters.config_epoch;
        let own = self.platform == PlatformId::VAULT;
        self.tip = Tip {
            tree,
            signers,
            counters: commit.head.counters,
            vault_epoch: self.tip.vault_epoch + if own { moved } else { 0 },
            last,
            checkpoint: commit.head.checkpoint.clone(),
        };
        Ok(())
    }

    /// Entries of the log.
    pub(super) const fn size(&self) -> u64 {
        self.tip.counters.size
    }
}

async fn tip(
    store: &dyn Store,
    signatory: &Signatory,
    context: &Context,
    name: &PlatformName,
) -> Result<Tip, RestoreError> {
    let stored = store.tree(context.platform).await?;
    let (tree, signers) = signatory.believe(name, &stored, &context.keys.row)?;
    let (counters, last) = (stored.head.counters, stored.head.updated_at);
    let (vault_epoch, checkpoint) = (stored.vault_epoch, stored.head.checkpoint);
    Ok(Tip { tree, counters, vault_epoch, last, checkpoint, signers })
}
