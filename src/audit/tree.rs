//! The Merkle tree of RFC 6962 over the leaves of one log, kept by its right edge and its incomplete tiles.

pub use tlog_tiles::tlog::Hash;
use tlog_tiles::{
    tile::Tile,
    tlog::{EMPTY_HASH, HASH_SIZE, node_hash, record_hash},
};

/// Hashes in a complete tile (C2SP tlog-tiles: height 8).
pub const TILE_WIDTH: usize = 256;

/// The hash of a leaf: SHA-256 of 0x00 and the entry's bytes.
#[must_use]
pub fn leaf_hash(entry: &[u8]) -> Hash {
    record_hash(entry)
}

/// A complete tile, in the moment its last hash is known.
#[derive(Debug, Clone, PartialEq)]
pub struct CompleteTile {
    /// 0 for leaf hashes.
    pub level: u8,
    /// Position within the level.
    pub index: u64,
    /// 256 hashes of 32 bytes.
    pub hashes: Vec<u8>,
    /// Root of the subtree, a hash of the next level.
    pub root: Hash,
}

/// Stored parts that do not make a tree of the stated size.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the stored right edge and tiles do not make a tree of {size} leaves")]
pub struct BadTree {
    /// The stated size.
    pub size: u64,
}

/// A tree of `size` leaves: enough of it to go on appending.
#[derive(Debug, Clone, PartialEq)]
pub struct LogTree {
    size: u64,
    /// Roots of the complete subtrees, largest first: one for each bit of `size`.
    edge: Vec<Hash>,
    /// Hashes of the incomplete tile of each tile level.
    partial: Vec<Vec<Hash>>,
}

impl Default for LogTree {
    fn default() -> Self {
        Self::empty()
    }
}

impl LogTree {
    /// The tree without leaves.
    #[must_use]
    pub const fn empty() -> Self {
        Self { size: 0, edge: Vec::new(), partial: Vec::new() }
    }

    /// A tree from its stored parts. `partial` holds, for each tile level from 0, the hashes after the last
    /// complete tile.
    ///
    /// # Errors
    /// [`BadTree`] where the parts do not fit the size, or `partial` does not hash to `edge`.
    pub fn restore(size: u64, edge: &[Hash], partial: Vec<Vec<Hash>>) -> Result<Self, BadTree> {
        let tree = Self::from_tiles(size, partial)?;
        if tree.edge == edge { Ok(tree) } else { Err(BadTree { size }) }
    }

    /// The same from the tiles alone.
    ///
    /// # Errors
    /// [`BadTree`] where they do not fit the size.
    pub fn from_tiles(size: u64, partial: Vec<Vec<Hash>>) -> Result<Self, BadTree> {
        let bad = BadTree { size };
        let mut edge = Vec::new();
        let levels = usize::try_from(size.max(1).ilog2() / 8).map_err(|_| bad)?;
        for level in (0..=levels).rev() {
            let hashes = partial.get(level).map_or(&[][..], Vec::as_slice);
            if hashes.len() != partial_width(size, level) {
                return Err(bad);
            }
            edge.extend(edge_of(hashes));
        }
        if partial.len() > levels + 1 {
            return Err(bad);
        }
        Ok(Self { size, edge, partial })
    }

    /// Number of leaves.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.size
    }

    /// Roots of the complete subtrees, left to right.
    #[must_use]
    pub fn right_edge(&self) -> &[Hash] {
        &self.edge
    }

    /// Hashes of the incomplete tile of a level; empty where the level ends with a complete tile.
    #[must_use]
    pub fn partial_tile(&self, level: usize) -> &[Hash] {
        self.partial.get(level).map_or(&[], Vec::as_slice)
    }

    /// Number of levels that have had a hash.
    #[must_use]
    pub const fn levels(&self) -> usize {
        self.partial.len()
    }

    /// The root: RFC 6962, section 2.1.
    #[must_use]
    pub fn root(&self) -> Hash {
        let mut hashes = self.edge.iter().rev().copied();
        hashes.next().map_or(EMPTY_HASH, |last| hashes.fold(last, |right, left| node_hash(left, right)))
    }

    /// Appends one leaf; tiles that it completes are added to `complete`.
    pub fn append(&mut self, leaf: Hash, complete: &mut Vec<CompleteTile>) {
        let mut hash = leaf;
        let mut subtrees = self.size;
        while subtrees & 1 == 1 {
            if let Some(left) = self.edge.pop() {
                hash = node_hash(left, hash);
            }
            subtrees >>= 1;
        }
        self.edge.push(hash);
        self.size += 1;
        self.push_to_tile(0, leaf, complete);
    }

    fn push_to_tile(&mut self, level: u8, hash: Hash, complete: &mut Vec<CompleteTile>) {
        let at = usize::from(level);
        if self.partial.len() <= at {
            self.partial.resize_with(at + 1, Vec::new);
        }
        let Some(tile) = self.partial.get_mut(at) else { return };
        tile.push(hash);
        if tile.len() == TILE_WIDTH {
            let hashes = concat(tile);
            tile.clear();
            let root = Tile::subtree_hash(&hashes);
            let index = (self.size >> (8 * (u32::from(level) + 1))) - 1;
            complete.push(CompleteTile { level, index, hashes, root });
            self.push_to_tile(level + 1, root, complete);
        }
    }
}

/// Number of hashes in the incomplete tile of a level.
#[must_use]
pub fn partial_width(size: u64, level: usize) -> usize {
    let at_level = u32::try_from(level * 8).ok().and_then(|bits| size.checked_shr(bits)).unwrap_or(0);
    usize::try_from(at_level % 256).unwrap_or(0)
}

/// Number of hashes in the tile of a level and index: 256, fewer at the right edge, 0 past it.
#[must_use]
pub fn tile_width(size: u64, level: u8, index: u64) -> usize {
    let complete = size.checked_shr(8 * (u32::from(level) + 1)).unwrap_or(0);
    match index.cmp(&complete) {
        std::cmp::Ordering::Less => TILE_WIDTH,
        std::cmp::Ordering::Equal => partial_width(size, usize::from(level)),
        std::cmp::Ordering::Greater => 0,
    }
}

/// Hashes one after the other.
#[must_use]
pub fn concat(hashes: &[Hash]) -> Vec<u8> {
    hashes.iter().flat_map(|h| h.0).collect()
}

/// The hashes that [`concat()`] joined; `None` where the length is no multiple of 32.
#[must_use]
pub fn split(bytes: &[u8]) -> Option<Vec<Hash>> {
    let (hashes, rest) = bytes.as_chunks::<HASH_SIZE>();
    rest.is_empty().then(|| hashes.iter().map(|h| Hash(*h)).collect())
}

/// Roots of the complete subtrees over `hashes`, largest first.
fn edge_of(hashes: &[Hash]) -> Vec<Hash> {
    let mut edge = Vec::new();
    let mut rest = hashes;
    while !rest.is_empty() {
        let width = 1_usize << rest.len().ilog2();
        let (subtree, right) = rest.split_at(width);
        edge.push(Tile::subtree_hash(&concat(subtree)));
        rest = right;
    }
    edge
}

#[cfg(test)]
mod tests {
    use super::*;
    use tlog_tiles::tlog::{Error, HashReader, stored_hashes, tree_hash};

    /// Every hash of the tree, as the library would store it: the oracle.
    struct Stored(Vec<Hash>);
    impl HashReader for Stored {
        fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
            Ok(indexes.iter().map(|i| self.0[usize::try_from(*i).unwrap()]).collect())
        }
    }

    #[test]
    fn roots_and_tiles_agree_with_the_library() {
        let (mut tree, mut stored, mut tiles) = (LogTree::empty(), Stored(Vec::new()), Vec::new());
        for n in 0..70_000_u64 {
            let entry = n.to_be_bytes();
            let new = stored_hashes(n, &entry, &stored).unwrap();
            stored.0.extend(new);
            tree.append(leaf_hash(&entry), &mut tiles);
            if n < 1_100 || n % 997 == 0 || n > 65_530 && n < 65_545 {
                assert_eq!(tree.root(), tree_hash(n + 1, &stored).unwrap(), "{n}");
            }
        }
        for tile in &tiles {
            let library = Tile::new(8, tile.level, tile.index, 256, false);
            assert_eq!(library.read_data(&stored).unwrap(), tile.hashes, "{} {}", tile.level, tile.index);
        }
        assert_eq!(tiles.iter().filter(|t| t.level == 0).count(), 273);
        assert_eq!(tiles.iter().filter(|t| t.level == 1).count(), 1);
    }

    #[test]
    fn a_restored_tree_goes_on_alike() {
        let (mut tree, mut tiles) = (LogTree::empty(), Vec::new());
        for n in 0..66_100_u64 {
            if [0, 1, 255, 256, 257, 1000, 65_535, 65_536, 65_537, 66_000].contains(&n) {
                let partial = (0..tree.levels()).map(|l| tree.partial_tile(l).to_vec()).collect();
                let restored = LogTree::restore(n, tree.right_edge(), partial).unwrap();
                assert_eq!(restored.root(), tree.root(), "{n}");
                tree = restored;
            }
            tree.append(leaf_hash(&n.to_be_bytes()), &mut tiles);
        }
    }

    #[test]
    fn parts_that_do_not_fit_are_refused() {
        let (mut tree, mut tiles) = (LogTree::empty(), Vec::new());
        (0..300_u64).for_each(|n| tree.append(leaf_hash(&n.to_be_bytes()), &mut tiles));
        let edge = || tree.right_edge().to_vec();
        let partial = || (0..tree.levels()).map(|l| tree.partial_tile(l).to_vec()).collect::<Vec<_>>();
        assert!(LogTree::restore(300, &edge(), partial()).is_ok());
        assert!(LogTree::restore(301, &edge(), partial()).is_err());
        let mut wrong = partial();
        wrong[0][3].0[0] ^= 1;
        assert!(LogTree::restore(300, &edge(), wrong).is_err());
        let mut wrong = edge();
        wrong[0].0[0] ^= 1;
        assert!(LogTree::restore(300, &wrong, partial()).is_err());
        let mut wrong = partial();
        wrong[1].pop();
        assert!(LogTree::restore(300, &edge(), wrong).is_err());
        let mut wrong = partial();
        wrong.push(Vec::new());
        assert!(LogTree::restore(300, &edge(), wrong).is_err());
    }
}
