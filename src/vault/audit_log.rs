//! The log for auditors: heads, and everything that offline verification needs.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{
    Shared, Vault,
    access::Call,
    act::Asker,
    context::Context,
    deed::{Deed, Deeded, Hand},
    error::VaultError,
    replay::ItemOutcome,
};
use crate::{
    audit::{entry::Entry, layout::push_to_bundle, tree::TILE_WIDTH},
    domain::{
        caller::Caller,
        ids::{PlatformId, SubjectId},
        time::Timestamp,
    },
    store::{
        Damage, ReadKeys, StoreError, StoredTree,
        rows::log::{HeadRow, SecondHead},
    },
};

const HEADS_AT_ONCE: u32 = 1_000;
const TILES_AT_ONCE: u32 = 64;
/// Entries of a whole bundle.
const BUNDLE: u64 = 256;
/// Pieces that wait for a slow reader.
const PIECES_AHEAD: usize = 4;

/// A signed head.
#[derive(Debug, Clone)]
pub struct SignedHead {
    /// The checkpoint.
    pub checkpoint: String,
    /// Entries under it.
    pub size: u64,
    /// Time of the last entry.
    pub updated_at: Timestamp,
}

/// One piece of an export, in this order.
#[derive(Debug)]
pub enum Piece {
    /// The head that the export is complete up to.
    Head(SignedHead),
    /// The last head of a second.
    SecondHead(SecondHead),
    /// Hashes of a tile.
    Tile {
        /// Level, 0 for leaves.
        level: u8,
        /// Index within the level.
        index: u64,
        /// 32 bytes each.
        hashes: Vec<u8>,
    },
    /// Entries under a tile of level 0.
    Entries {
        /// Index of the tile.
        index: u64,
        /// Each preceded by its length.
        bundle: Vec<u8>,
    },
    /// The right edge.
    RightEdge(Vec<[u8; 32]>),
}

/// A stream of pieces; an error ends it.
pub type Pieces = mpsc::Receiver<Result<Piece, VaultError>>;

impl Vault {
    /// The newest head of a platform's log.
    ///
    /// # Errors
    /// [`VaultError::Denied`], with `PlatformNotFound` also where the caller may not see the platform.
    pub async fn head(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
    ) -> Result<SignedHead, VaultError> {
        let platform = self.target(caller, &asker, Call::GetHead, platform).await?;
        self.run(platform, caller, asker, Ask { call: Call::GetHead, subject: None }).await?;
        let stored = self.shared.store.tree(platform).await.map_err(unreadable)?;
        Ok(signed(&stored.head))
    }

    /// Everything up to the newest head, and whose log it is; entries and heads from the position `from` on. The export itself is
    /// an entry of the log, before its first piece.
    ///
    /// # Errors
    /// As [`Vault::head`]; [`VaultError::Invalid`] where a bundle does not begin at `from`, or the log has ended before it.
    pub async fn export_log(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        from: u64,
    ) -> Result<(PlatformId, Pieces), VaultError> {
        let platform = self.target(caller, &asker, Call::ExportLog, platform).await?;
        self.run(platform, caller, asker, Ask { call: Call::ExportLog, subject: None }).await?;
        let stored = self.shared.store.tree(platform).await.map_err(unreadable)?;
        if from > stored.head.counters.size || !from.is_multiple_of(BUNDLE) {
            let rule = "must be a multiple of 256, and at most the size of the log";
            return Err(VaultError::invalid("entries_from", rule));
        }
        let (sender, pieces) = mpsc::channel(PIECES_AHEAD);
        let export = Export { shared: Arc::clone(&self.shared), platform, from, sender };
        tokio::spawn(export.run(stored));
        Ok((platform, pieces))
    }
}

/// What is told of a log that cannot be read now.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
pub(super) fn unreadable(error: StoreError) -> VaultError {
    let error: &(dyn std::error::Error + 'static) = &error;
    tracing::error!(error, "the log could not be read");
    VaultError::Unavailable
}

fn signed(head: &HeadRow) -> SignedHead {
    SignedHead { checkpoint: head.checkpoint.clone(), size: head.counters.size, updated_at: head.updated_at }
}

/// A question for the log. It leaves an entry, unless its call is one of the few that leave none.
pub(super) struct Ask {
    pub(super) call: Call,
    /// Whose entries are asked for.
    pub(super) subject: Option<SubjectId>,
}

impl Deed for Ask {
    type Answer = ();

    fn call(&self) -> Call {
        self.call
    }

    fn changes(&self) -> bool {
        false
    }

    fn reads(&self, _context: &Context, _before: Option<&ItemOutcome>, _keys: &mut ReadKeys) {}

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<()>, VaultError> {
        if self.call.unlogged().is_none() {
            let subject = self.subject.map(|id| (*id.as_bytes()).into());
            hand.log(|entry| Entry { subject, ..entry })?;
        }
        Ok(Deeded::answer(()))
    }
}

struct Export {
    shared: Arc<Shared>,
    platform: PlatformId,
    /// Position of the first entry that is sent, where a bundle begins.
    from: u64,
    sender: mpsc::Sender<Result<Piece, VaultError>>,
}

/// The reader went away.
pub(super) struct Gone;

impl Export {
    async fn run(self, stored: StoredTree) {
        let outcome = self.send_all(&stored).await;
        if let Err(Stop::Failed(error)) = outcome {
            let _unheard = self.sender.send(Err(unreadable(error))).await;
        }
    }

    async fn send_all(&self, stored: &StoredTree) -> Result<(), Stop> {
        let size = stored.head.counters.size;
        self.send(Piece::Head(signed(&stored.head))).await?;
        self.send_second_heads(size).await?;
        self.send_tiles(0, self.from / BUNDLE).await?;
        self.send_bundles(size).await?;
        for level in 1..8 {
            self.send_level(level, size, stored).await?;
        }
        self.send(Piece::RightEdge(stored.head.right_edge.clone())).await?;
        Ok(())
    }

    /// Heads up to `size`, but those of before the first entry that is sent. The head of the present second may have moved on; the export's own head stands for it.
    async fn send_second_heads(&self, size: u64) -> Result<(), Stop> {
        let mut after = i64::MIN;
        loop {
            let heads = self.shared.store.second_heads(self.platform, after, HEADS_AT_ONCE).await?;
            let Some(last) = heads.last() else { return Ok(()) };
            after = last.second;
            let wanted = |head: &SecondHead| head.size <= size && (self.from == 0 || head.size > self.from);
            for head in heads.into_iter().filter(wanted) {
                self.send(Piece::SecondHead(head)).await?;
            }
        }
    }

    async fn send_bundles(&self, size: u64) -> Result<(), Stop> {
        for index in self.from / BUNDLE..size.div_ceil(BUNDLE) {
            let width = u32::try_from((size - index * BUNDLE).min(BUNDLE)).unwrap_or(256);
            let rows = self.shared.store.entries(self.platform, index * BUNDLE, width).await?;
            let (mut hashes, mut bundle) = (Vec::new(), Vec::new());
            for row in &rows {
                hashes.extend_from_slice(&row.leaf_hash);
                push_to_bundle(&mut bundle, &row.entry)
                    .ok_or(StoreError::Damaged(Damage { table: "audit_entries", column: "entry" }))?;
            }
            self.send(Piece::Tile { level: 0, index, hashes }).await?;
            self.send(Piece::Entries { index, bundle }).await?;
        }
        Ok(())
    }

    async fn send_level(&self, level: u8, size: u64, stored: &StoredTree) -> Result<(), Stop> {
        let complete = size.checked_shr(8 * (u32::from(level) + 1)).unwrap_or(0);
        self.send_tiles(level, complete).await?;
        let partial = stored.partial.get(usize::from(level)).map_or(&[][..], Vec::as_slice);
        if !partial.is_empty() && partial.len() < TILE_WIDTH {
            self.send(Piece::Tile { level, index: complete, hashes: partial.concat() }).await?;
        }
        Ok(())
    }

    /// The first tiles of a level, all of them complete.
    async fn send_tiles(&self, level: u8, complete: u64) -> Result<(), Stop> {
        let mut next = 0;
        while next < complete {
            let tiles = self.shared.store.tiles(self.platform, level, next, TILES_AT_ONCE).await?;
            if tiles.is_empty() {
                return Err(StoreError::Damaged(Damage { table: "audit_tiles", column: "tile_index" }).into());
            }
            for tile in tiles.into_iter().filter(|tile| tile.index < complete) {
                next = tile.index + 1;
                self.send(Piece::Tile { level, index: tile.index, hashes: tile.hashes }).await?;
            }
        }
        Ok(())
    }

    async fn send(&self, piece: Piece) -> Result<(), Gone> {
        self.sender.send(Ok(piece)).await.map_err(|_| Gone)
    }
}

/// Why a stream over stored rows ends early.
pub(super) enum Stop {
    /// Nobody listens any more.
    Gone,
    /// The store does not answer.
    Failed(StoreError),
}

impl From<Gone> for Stop {
    fn from(_: Gone) -> Self {
        Self::Gone
    }
}

impl From<StoreError> for Stop {
    fn from(error: StoreError) -> Self {
        Self::Failed(error)
    }
}
