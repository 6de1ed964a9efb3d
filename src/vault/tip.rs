//! Where a log stands, and the commit that takes it further.

use super::{
    act::Plan,
    context::{Context, LoadError},
    heads::Signatory,
};
use crate::{
    audit::tree::{LogTree, leaf_hash},
    domain::{ids::PlatformId, names::PlatformName, time::Timestamp},
    store::{
        Commit, Counters, Damage, StoreError,
        rows::log::{EntryRow, TileRow},
    },
};

/// Where the log stands, as this process last saw or left it.
pub(super) struct Tip {
    pub(super) tree: LogTree,
    pub(super) counters: Counters,
    /// Epoch of the vault's own platform.
    pub(super) vault_epoch: u64,
    pub(super) last: Timestamp,
    pub(super) checkpoint: String,
}

/// Who signs the next head, and of which log.
pub(super) struct Signing<'a> {
    pub(super) signatory: &'a Signatory,
    pub(super) platform: PlatformId,
    pub(super) name: &'a PlatformName,
}

impl Tip {
    /// The commit that adds a plan's entries and rows to this log, and the tree after it.
    pub(super) fn extended(
        &self,
        signing: &Signing<'_>,
        context: &Context,
        plan: Plan,
        now: Timestamp,
    ) -> Result<(Commit, LogTree), LoadError> {
        let (mut tree, mut complete, mut entries) = (self.tree.clone(), Vec::new(), Vec::new());
        for entry in &plan.entries {
            let bytes = entry
                .encode()
                .map_err(|_| StoreError::Damaged(Damage { table: "audit_entries", column: "entry" }))?;
            let leaf = leaf_hash(&bytes);
            tree.append(leaf, &mut complete);
            let subject = entry.subject.map(|id| *id);
            entries.push(EntryRow { entry: bytes, leaf_hash: leaf.0, subject });
        }
        let counters = Counters {
            size: tree.size(),
            config_epoch: self.counters.config_epoch + u64::from(plan.reconfigures),
            tighten_seq: self.counters.tighten_seq + u64::from(plan.tightens),
        };
        let (platform, name, row_key) = (signing.platform, signing.name, &context.keys.row);
        let head = signing.signatory.head_row(platform, name, &tree, counters, now, row_key)?;
        let tiles = complete
            .into_iter()
            .map(|t| TileRow { level: t.level, index: t.index, hashes: t.hashes, root: t.root.0 })
            .collect();
        let (expected, vault_epoch) = (self.counters, self.vault_epoch);
        Ok((Commit { expected, vault_epoch, head, entries, tiles, writes: plan.into_writes() }, tree))
    }
}
