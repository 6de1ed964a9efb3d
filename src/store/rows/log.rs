//! Rows of the log: heads, entries, tiles.

use super::{Mac, platform_row};
use crate::{
    domain::{
        canonical::Canonical,
        ids::{EntryId, PlatformId, SubjectId},
        receipt::ReceiptKind,
        time::Timestamp,
    },
    store::Counters,
};

/// The head of a platform's log, with the counters that commits swap on.
#[derive(Debug, Clone)]
pub struct HeadRow {
    /// Platform.
    pub platform: PlatformId,
    /// Size, epoch and sequences.
    pub counters: Counters,
    /// Time of the last entry.
    pub updated_at: Timestamp,
    /// Root of the tree.
    pub root: [u8; 32],
    /// Roots of the complete subtrees, left to right.
    pub right_edge: Vec<[u8; 32]>,
    /// Signed head.
    pub checkpoint: String,
    /// MAC of [`Self::image`]: the counters are not in the checkpoint.
    pub mac: Mac,
}

impl HeadRow {
    /// What the MAC covers.
    #[must_use]
    pub fn image(&self) -> Canonical {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        let image = platform_row("heads", self.platform)
            .int(number(self.counters.size))
            .int(number(self.counters.config_epoch))
            .int(number(self.counters.tighten_seq))
            .int(self.updated_at.as_micros())
            .bytes(&self.root);
        // Named where it has moved: heads from before there was such a column keep their MAC.
        match self.counters.change_seq {
            0 => image,
            moved => image.text("changes").int(number(moved)),
        }
    }
}

/// An entry of the log.
#[derive(Debug, Clone)]
pub struct EntryRow {
    /// Its bytes.
    pub entry: Vec<u8>,
    /// Its leaf hash.
    pub leaf_hash: [u8; 32],
    /// The subject that it is about; none where it was not asked for.
    pub subject: Option<[u8; 16]>,
}

/// What the vault states of an erasure. It grants nothing, and is signed: it needs no MAC.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptRow {
    /// Platform.
    pub platform: PlatformId,
    /// The entry that it is about.
    pub entry: EntryId,
    /// Whose erasure.
    pub subject: SubjectId,
    /// What happened.
    pub kind: ReceiptKind,
    /// The signed statement.
    pub statement: String,
    /// When it happened.
    pub created_at: Timestamp,
}

/// A complete tile.
#[derive(Debug, Clone)]
pub struct TileRow {
    /// Level.
    pub level: u8,
    /// Index within the level.
    pub index: u64,
    /// 256 hashes.
    pub hashes: Vec<u8>,
    /// Root of the subtree.
    pub root: [u8; 32],
}

/// The last head of one second.
#[derive(Debug, Clone)]
pub struct SecondHead {
    /// Seconds since the Unix epoch.
    pub second: i64,
    /// Entries under it.
    pub size: u64,
    /// Signed head.
    pub checkpoint: String,
}
