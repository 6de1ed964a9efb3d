//! The log of one platform as the database has it, up to one head: tiles, older trees, entries.

use std::collections::BTreeMap;

use crate::{
    audit::{
        entry::Entry,
        proof::{BadProof, Question, TileId},
        tree::{Hash, LogTree, partial_width, split},
    },
    domain::ids::PlatformId,
    store::{
        Damage, Store, StoreError, StoredTree,
        rows::log::{EntryRow, HeadRow},
    },
};

/// A log up to a head. Nothing is believed here: whoever asks compares roots.
pub(super) struct StoredLog<'a> {
    store: &'a dyn Store,
    platform: PlatformId,
    stored: StoredTree,
}

impl<'a> StoredLog<'a> {
    /// The log up to the newest head.
    pub(super) async fn load(store: &'a dyn Store, platform: PlatformId) -> Result<Self, StoreError> {
        Ok(Self { store, platform, stored: store.tree(platform).await? })
    }

    pub(super) const fn head(&self) -> &HeadRow {
        &self.stored.head
    }

    pub(super) const fn size(&self) -> u64 {
        self.stored.head.counters.size
    }

    /// The tree of the first `size` entries, from the tiles; none where the log is shorter.
    pub(super) async fn tree_at(&self, size: u64) -> Result<Option<LogTree>, StoreError> {
        if size > self.size() {
            return Ok(None);
        }
        let mut partial = Vec::new();
        for level in 0..=u8::try_from(size.max(1).ilog2() / 8).unwrap_or(7) {
            let width = partial_width(size, usize::from(level));
            let mut hashes = Vec::new();
            if width > 0 {
                let index = size.checked_shr(8 * (u32::from(level) + 1)).unwrap_or(0);
                hashes = self.tile(level, index).await?;
                hashes.truncate(width);
            }
            partial.push(hashes);
        }
        LogTree::from_tiles(size, partial).map(Some).map_err(|_| damaged())
    }

    /// The hashes of a proof.
    pub(super) async fn prove(&self, question: Question) -> Result<Result<Vec<Hash>, BadProof>, StoreError> {
        let needed = match question.needs() {
            Ok(needed) => needed,
            Err(bad) => return Ok(Err(bad)),
        };
        let mut tiles = BTreeMap::<TileId, _>::new();
        for (level, index) in needed {
            tiles.insert((level, index), self.tile(level, index).await?);
        }
        Ok(question.prove(&tiles))
    }

    /// The hashes of a tile, as many as there are.
    async fn tile(&self, level: u8, index: u64) -> Result<Vec<Hash>, StoreError> {
        let complete = self.size().checked_shr(8 * (u32::from(level) + 1)).unwrap_or(0);
        if index >= complete {
            let partial = self.stored.partial.get(usize::from(level)).filter(|_| index == complete);
            return Ok(partial.into_iter().flatten().copied().map(Hash).collect());
        }
        let tiles = self.store.tiles(self.platform, level, index, 1).await?;
        let tile = tiles.first().filter(|tile| tile.index == index).ok_or_else(damaged)?;
        split(&tile.hashes).ok_or_else(damaged)
    }
}

/// Up to `limit` entries from a position on, decoded, each with its position.
pub(super) async fn decoded(
    store: &dyn Store,
    platform: PlatformId,
    from: u64,
    limit: u32,
) -> Result<Vec<(u64, Entry)>, StoreError> {
    let rows = store.entries(platform, from, limit).await?;
    let entry = |row: &EntryRow| Entry::decode(&row.entry).map_err(|_| bad_entry());
    (from..).zip(&rows).map(|(position, row)| Ok((position, entry(row)?))).collect()
}

pub(super) fn bad_entry() -> StoreError {
    Damage { table: "audit_entries", column: "entry" }.into()
}

fn damaged() -> StoreError {
    Damage { table: "audit_tiles", column: "hashes" }.into()
}
