//! Where a log stands, and the commit that takes it further.

use super::{
    act::Plan,
    context::{Context, LoadError},
    heads::{NewHead, Signatory, Signers},
};
use crate::{
    audit::{
        chain::{ANNOUNCE, AUDIT_KEY},
        entry::{Entry, Verdict},
        tree::{LogTree, leaf_hash},
    },
    crypto::kms::KmsError,
    domain::{
        ids::{EntryId, PlatformId},
        names::PlatformName,
        rng::Rng,
        time::Timestamp,
    },
    store::{
        Changed, Commit, Counters, Damage, StoreError,
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
    /// Who signed it.
    pub(super) signers: Signers,
}

/// Who signs the next head, and of which log.
pub(super) struct Signing<'a> {
    pub(super) signatory: &'a Signatory,
    pub(super) platform: PlatformId,
    pub(super) name: &'a PlatformName,
    pub(super) rng: &'a dyn Rng,
}

impl Signing<'_> {
    /// The entry that hands the log over to the key that signs now.
    fn announcement(&self, now: Timestamp) -> Result<Entry, LoadError> {
        let id = EntryId::random(self.rng).map_err(KmsError::from)?;
        let key = self.signatory.active_key()?.verifier_key();
        Ok(Entry {
            object_kind: Some(AUDIT_KEY.to_owned()),
            object: Some(key.into_bytes()),
            ..Entry::new(id, now, self.platform, ANNOUNCE, Verdict::Done)
        })
    }
}

impl Tip {
    /// Who signs the next head. A log goes over to another key with a head that both sign, and so do all others of that
    /// second: of a second only the last one is kept.
    fn next_signers(&self, signatory: &Signatory, now: Timestamp) -> Signers {
        let newest = signatory.active();
        let before = if self.signers.newest != newest {
            Some(self.signers.newest)
        } else if self.last.second() == now.second() {
            self.signers.before
        } else {
            None
        };
        Signers { newest, before }
    }

    /// The commit that adds a plan's entries and rows to this log, with the tree after it and who signed its head.
    pub(super) fn extended(
        &self,
        signing: &Signing<'_>,
        context: &Context,
        plan: Plan,
        now: Timestamp,
    ) -> Result<(Commit, LogTree, Signers), LoadError> {
        let signers = self.next_signers(signing.signatory, now);
        let hands_over = signers.newest != self.signers.newest;
        let announcement = hands_over.then(|| signing.announcement(now)).transpose()?;
        let (mut tree, mut complete, mut entries) = (self.tree.clone(), Vec::new(), Vec::new());
        for entry in announcement.iter().chain(&plan.entries) {
            let bytes = entry
                .encode()
                .map_err(|_| StoreError::Damaged(Damage { table: "audit_entries", column: "entry" }))?;
            let leaf = leaf_hash(&bytes);
            tree.append(leaf, &mut complete);
            let subject = entry.subject.map(|id| *id);
            entries.push(EntryRow { entry: bytes, leaf_hash: leaf.0, subject });
        }
        let (reconfigures, tightens) = (plan.reconfigures, plan.tightens);
        let writes = plan.into_writes();
        let changed = Changed::by(&writes);
        let counters = Counters {
            size: tree.size(),
            config_epoch: self.counters.config_epoch + u64::from(reconfigures),
            tighten_seq: self.counters.tighten_seq + u64::from(tightens),
            change_seq: self.counters.change_seq + u64::from(changed.is_any()),
        };
        let (platform, name) = (signing.platform, signing.name);
        let new = NewHead { platform, name, tree: &tree, counters, updated_at: now };
        let head = signing.signatory.head_row(new, signers, &context.keys.row)?;
        let tiles = complete
            .into_iter()
            .map(|t| TileRow { level: t.level, index: t.index, hashes: t.hashes, root: t.root.0 })
            .collect();
        let (expected, vault_epoch) = (self.counters, self.vault_epoch);
        let commit = Commit { expected, vault_epoch, head, entries, tiles, writes };
        Ok((commit, tree, signers))
    }
}
