//! Heads as the vault writes and believes them.

use super::context::LoadError;
use crate::{
    audit::{
        head::{Head, HeadVerifier, origin},
        tree::{Hash, LogTree},
    },
    crypto::{audit_key::AuditKey, digest::RowKey},
    domain::{ids::PlatformId, names::PlatformName, time::Timestamp},
    store::{Counters, StoredTree, rows::log::HeadRow},
};

/// Signs heads for every log of the installation, and believes only its own.
pub(crate) struct Signatory {
    installation: String,
    key: AuditKey,
    verifier: HeadVerifier,
}

impl Signatory {
    pub(crate) fn new(installation: String, key: AuditKey) -> Result<Self, LoadError> {
        let verifier = HeadVerifier::new(&key.verifier_key()).map_err(|_| LoadError::AuditKey)?;
        Ok(Self { installation, key, verifier })
    }

    pub(crate) const fn key(&self) -> &AuditKey {
        &self.key
    }

    pub(crate) fn installation(&self) -> &str {
        &self.installation
    }

    pub(crate) fn origin(&self, platform: &PlatformName) -> String {
        origin(&self.installation, platform)
    }

    /// A head of this platform's log, where the checkpoint is signed by the installation's key.
    pub(crate) fn open(&self, name: &PlatformName, checkpoint: &str) -> Option<Head> {
        self.verifier.open(checkpoint).ok().filter(|head| head.origin == self.origin(name))
    }

    /// The row of a head: signed checkpoint, and counters under the row MAC.
    pub(crate) fn head_row(
        &self,
        platform: PlatformId,
        name: &PlatformName,
        tree: &LogTree,
        counters: Counters,
        updated_at: Timestamp,
        row_key: &RowKey,
    ) -> Result<HeadRow, LoadError> {
        let head = Head { origin: self.origin(name), size: tree.size(), root: tree.root() };
        let checkpoint = head.sign(&self.key).map_err(|_| LoadError::AuditKey)?;
        let mut row = HeadRow {
            platform,
            counters,
            updated_at,
            root: tree.root().0,
            right_edge: tree.right_edge().iter().map(|h| h.0).collect(),
            checkpoint,
            mac: [0; 32],
        };
        row.mac = row_key.mac(&row.image());
        Ok(row)
    }

    /// Checks a stored head before it is extended: signature, origin, MAC of the counters, and that edge and tiles
    /// make the tree it promises.
    pub(crate) fn believe(
        &self,
        name: &PlatformName,
        stored: &StoredTree,
        row_key: &RowKey,
    ) -> Result<LogTree, LoadError> {
        let bad = |problem| LoadError::Head { platform: name.clone(), problem };
        let row = &stored.head;
        row_key.verify(&row.image(), &row.mac).map_err(|_| bad("its row does not match its MAC"))?;
        let head = self
            .verifier
            .open(&row.checkpoint)
            .map_err(|_| bad("its checkpoint is not signed by the audit key"))?;
        if head.origin != self.origin(name) || head.size != row.counters.size || head.root.0 != row.root {
            return Err(bad("its checkpoint is of another head"));
        }
        let edge: Vec<_> = row.right_edge.iter().copied().map(Hash).collect();
        let partial = stored.partial.iter().map(|level| level.iter().copied().map(Hash).collect()).collect();
        let tree = LogTree::restore(head.size, &edge, partial)
            .map_err(|_| bad("stored leaves and tiles do not make its tree"))?;
        if tree.root() == head.root { Ok(tree) } else { Err(bad("stored leaves do not hash to its root")) }
    }
}
