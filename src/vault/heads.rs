//! Heads as the vault writes and believes them.

use std::{collections::BTreeMap, sync::Arc};

use signed_note::Signer;

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
    /// The version that signs.
    active: u32,
    keys: BTreeMap<u32, Signing>,
    /// Every version, for heads of before.
    all: HeadVerifier,
}

struct Signing {
    key: Arc<AuditKey>,
    verifier: HeadVerifier,
}

/// Versions of the audit key that signed a head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Signers {
    pub(crate) newest: u32,
    /// The version before it, where both did.
    pub(crate) before: Option<u32>,
}

impl Signatory {
    pub(crate) fn new(
        installation: String,
        active: u32,
        keys: BTreeMap<u32, Arc<AuditKey>>,
    ) -> Result<Self, LoadError> {
        let texts: Vec<_> = keys.values().map(|key| key.verifier_key()).collect();
        let all = HeadVerifier::new(&texts.join("\n")).map_err(|_| LoadError::AuditKey)?;
        let mut signing = BTreeMap::new();
        for (version, key) in keys {
            let verifier = HeadVerifier::new(&key.verifier_key()).map_err(|_| LoadError::AuditKey)?;
            signing.insert(version, Signing { key, verifier });
        }
        if !signing.contains_key(&active) {
            return Err(LoadError::AuditKey);
        }
        Ok(Self { installation, active, keys: signing, all })
    }

    /// The version that signs.
    pub(crate) const fn active(&self) -> u32 {
        self.active
    }

    /// A version of the key, where it is loaded.
    pub(crate) fn key(&self, version: u32) -> Option<&Arc<AuditKey>> {
        self.keys.get(&version).map(|signing| &signing.key)
    }

    /// The key that signs.
    pub(crate) fn active_key(&self) -> Result<&Arc<AuditKey>, LoadError> {
        self.key(self.active).ok_or(LoadError::AuditKey)
    }

    /// Believes what any version signed.
    pub(crate) const fn verifier(&self) -> &HeadVerifier {
        &self.all
    }

    pub(crate) fn installation(&self) -> &str {
        &self.installation
    }

    pub(crate) fn origin(&self, platform: &PlatformName) -> String {
        origin(&self.installation, platform)
    }

    /// A head of this platform's log, where the checkpoint is signed by the installation's key.
    pub(crate) fn open(&self, name: &PlatformName, checkpoint: &str) -> Option<Head> {
        self.all.open(checkpoint).ok().filter(|head| head.origin == self.origin(name))
    }

    /// Which versions signed a head; none where none that is known did.
    pub(crate) fn signers(&self, checkpoint: &str) -> Option<Signers> {
        let signed = self.keys.iter().rev().filter(|(_, known)| known.verifier.open(checkpoint).is_ok());
        let mut versions = signed.map(|(version, _)| *version);
        let (some, other) = (versions.next()?, versions.next());
        // After a restore an older version may have taken over again.
        match other {
            Some(active) if active == self.active => Some(Signers { newest: active, before: Some(some) }),
            before => Some(Signers { newest: some, before }),
        }
    }

    /// The row of a head: checkpoint signed by these, and counters under the row MAC.
    pub(crate) fn head_row(
        &self,
        of: NewHead<'_>,
        by: Signers,
        row_key: &RowKey,
    ) -> Result<HeadRow, LoadError> {
        let NewHead { platform, name, tree, counters, updated_at } = of;
        let head = Head { origin: self.origin(name), size: tree.size(), root: tree.root() };
        let versions = [by.before, Some(by.newest)].into_iter().flatten();
        let keys: Vec<_> = versions.filter_map(|version| self.key(version)).collect();
        let keys: Vec<&dyn Signer> = keys.iter().map(|key| -> &dyn Signer { &***key }).collect();
        let checkpoint = head.sign_by(&keys).map_err(|_| LoadError::AuditKey)?;
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
    ) -> Result<(LogTree, Signers), LoadError> {
        let bad = |problem| LoadError::Head { platform: name.clone(), problem };
        let row = &stored.head;
        row_key.verify(&row.image(), &row.mac).map_err(|_| bad("its row does not match its MAC"))?;
        let unsigned = || bad("its checkpoint is not signed by the audit key");
        let head = self.all.open(&row.checkpoint).map_err(|_| unsigned())?;
        let signers = self.signers(&row.checkpoint).ok_or_else(unsigned)?;
        if head.origin != self.origin(name) || head.size != row.counters.size || head.root.0 != row.root {
            return Err(bad("its checkpoint is of another head"));
        }
        let edge: Vec<_> = row.right_edge.iter().copied().map(Hash).collect();
        let partial = stored.partial.iter().map(|level| level.iter().copied().map(Hash).collect()).collect();
        let tree = LogTree::restore(head.size, &edge, partial)
            .map_err(|_| bad("stored leaves and tiles do not make its tree"))?;
        if tree.root() == head.root {
            Ok((tree, signers))
        } else {
            Err(bad("stored leaves do not hash to its root"))
        }
    }
}

/// A head to be signed.
#[derive(Clone, Copy)]
pub(crate) struct NewHead<'a> {
    pub(crate) platform: PlatformId,
    pub(crate) name: &'a PlatformName,
    pub(crate) tree: &'a LogTree,
    pub(crate) counters: Counters,
    pub(crate) updated_at: Timestamp,
}
