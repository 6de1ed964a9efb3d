//! Proofs of RFC 6962, sections 2.1.1 and 2.1.2, from tiles.
//!
//! A proof needs a few tiles of the log: [`Question::needs`] names them, whoever has them brings them, and
//! [`Question::prove`] answers.

use std::collections::{BTreeMap, BTreeSet};

use tlog_tiles::{
    tile::Tile,
    tlog::{Error, Hash, HashReader, check_record, check_tree, prove_record, prove_tree},
};

use super::tree::concat;

/// Tile height of C2SP tlog-tiles.
const HEIGHT: u8 = 8;

/// Level and index of a tile.
pub type TileId = (u8, u64);

/// What is to be proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Question {
    /// The entry at a position is in the tree of a size.
    Inclusion {
        /// Position, from 0.
        position: u64,
        /// Entries of the tree.
        size: u64,
    },
    /// The tree of the greater size is that of the smaller with entries added.
    Consistency {
        /// Entries of the earlier tree, at least 1.
        from: u64,
        /// Entries of the later tree.
        to: u64,
    },
}

/// A proof that cannot be made, or does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadProof {
    /// The sizes ask for a tree that cannot be.
    #[error("no such position or tree")]
    OutOfRange,
    /// A tile is missing or too narrow.
    #[error("a tile that the proof needs is missing")]
    TileMissing,
    /// The hashes do not lead to the root.
    #[error("the proof does not hold")]
    Wrong,
}

impl Question {
    /// The tiles that the answer is made of.
    ///
    /// # Errors
    /// [`BadProof::OutOfRange`].
    pub fn needs(&self) -> Result<BTreeSet<TileId>, BadProof> {
        let asked = Asked::default();
        self.answer(&asked)?;
        Ok(asked.0.into_inner())
    }

    /// The hashes of the proof, in the order of the RFC.
    ///
    /// # Errors
    /// [`BadProof::OutOfRange`], [`BadProof::TileMissing`].
    pub fn prove(&self, tiles: &BTreeMap<TileId, Vec<Hash>>) -> Result<Vec<Hash>, BadProof> {
        self.answer(&Given(tiles))
    }

    fn answer(&self, hashes: &impl HashReader) -> Result<Vec<Hash>, BadProof> {
        // The library panics on questions about trees that cannot be.
        match *self {
            Self::Inclusion { position, size } if position < size && size < 1 << 62 => {
                prove_record(size, position, hashes)
            }
            Self::Consistency { from, to } if (1..=to).contains(&from) && to < 1 << 62 => {
                prove_tree(to, from, hashes)
            }
            Self::Inclusion { .. } | Self::Consistency { .. } => return Err(BadProof::OutOfRange),
        }
        .map_err(|_| BadProof::TileMissing)
    }
}

/// Notes what it is asked for.
#[derive(Default)]
struct Asked(std::cell::RefCell<BTreeSet<TileId>>);

impl HashReader for Asked {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        let tiles = indexes.iter().map(|index| Tile::from_index(HEIGHT, *index));
        self.0.borrow_mut().extend(tiles.map(|tile| (tile.level(), tile.level_index())));
        Ok(vec![Hash([0; 32]); indexes.len()])
    }
}

struct Given<'a>(&'a BTreeMap<TileId, Vec<Hash>>);

impl HashReader for Given<'_> {
    fn read_hashes(&self, indexes: &[u64]) -> Result<Vec<Hash>, Error> {
        let hash = |index: &u64| {
            let tile = Tile::from_index(HEIGHT, *index);
            let hashes = self.0.get(&(tile.level(), tile.level_index())).ok_or(Error::IndexesNotInTree)?;
            tile.hash_at_index(&concat(hashes), *index)
        };
        indexes.iter().map(hash).collect()
    }
}

/// Checks that a tree of `size` and `root` has the leaf at `position`.
///
/// # Errors
/// [`BadProof::OutOfRange`], [`BadProof::Wrong`].
pub fn check_inclusion(
    proof: &[Hash],
    size: u64,
    root: Hash,
    position: u64,
    leaf: Hash,
) -> Result<(), BadProof> {
    if position >= size || size >= 1 << 62 {
        return Err(BadProof::OutOfRange);
    }
    check_record(&proof.to_vec(), size, root, position, leaf).map_err(|_| BadProof::Wrong)
}

/// Checks that the tree of `size` and `root` is that of `from_size` and `from_root` with entries added.
///
/// # Errors
/// [`BadProof::OutOfRange`], [`BadProof::Wrong`].
pub fn check_consistency(
    proof: &[Hash],
    size: u64,
    root: Hash,
    from_size: u64,
    from_root: Hash,
) -> Result<(), BadProof> {
    if !(1..=size).contains(&from_size) || size >= 1 << 62 {
        return Err(BadProof::OutOfRange);
    }
    check_tree(&proof.to_vec(), size, root, from_size, from_root).map_err(|_| BadProof::Wrong)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tree::{LogTree, leaf_hash, tile_width};
    use tlog_tiles::tlog::node_hash;

    /// RFC 6962, section 2.1, to the letter.
    fn root_of(leaves: &[Hash]) -> Hash {
        match leaves {
            [] => LogTree::empty().root(),
            [leaf] => *leaf,
            _ => {
                let k = split_at(leaves.len());
                node_hash(root_of(&leaves[..k]), root_of(&leaves[k..]))
            }
        }
    }

    /// The largest power of two below `n`.
    fn split_at(n: usize) -> usize {
        1 << (n - 1).ilog2()
    }

    /// Section 2.1.1.
    fn path(m: usize, leaves: &[Hash]) -> Vec<Hash> {
        if leaves.len() <= 1 {
            return Vec::new();
        }
        let k = split_at(leaves.len());
        let (mut proof, other) = if m < k {
            (path(m, &leaves[..k]), root_of(&leaves[k..]))
        } else {
            (path(m - k, &leaves[k..]), root_of(&leaves[..k]))
        };
        proof.push(other);
        proof
    }

    /// Section 2.1.2.
    fn consistency(m: usize, leaves: &[Hash], whole: bool) -> Vec<Hash> {
        if m == leaves.len() {
            return if whole { Vec::new() } else { vec![root_of(leaves)] };
        }
        let k = split_at(leaves.len());
        let (mut proof, other) = if m <= k {
            (consistency(m, &leaves[..k], whole), root_of(&leaves[k..]))
        } else {
            (consistency(m - k, &leaves[k..], false), root_of(&leaves[..k]))
        };
        proof.push(other);
        proof
    }

    /// A log of `n` leaves with all its tiles.
    fn log(n: u64) -> (Vec<Hash>, BTreeMap<TileId, Vec<Hash>>) {
        let leaves: Vec<_> = (0..n).map(|n| leaf_hash(&n.to_be_bytes())).collect();
        let (mut tree, mut complete) = (LogTree::empty(), Vec::new());
        for leaf in &leaves {
            tree.append(*leaf, &mut complete);
        }
        let mut tiles: BTreeMap<_, _> = complete
            .into_iter()
            .map(|tile| ((tile.level, tile.index), crate::audit::tree::split(&tile.hashes).unwrap()))
            .collect();
        for level in 0..3_u8 {
            let index = n >> (8 * (level + 1));
            if tile_width(n, level, index) > 0 {
                tiles.insert((level, index), tree.partial_tile(usize::from(level)).to_vec());
            }
        }
        (leaves, tiles)
    }

    #[test]
    fn proofs_are_those_of_the_rfc_and_hold() {
        let (leaves, tiles) = log(1_000);
        let at = |n: u64| usize::try_from(n).unwrap();
        for size in [1, 2, 3, 7, 8, 255, 256, 257, 511, 512, 700, 1_000_u64] {
            let root = root_of(&leaves[..at(size)]);
            for other in (0..size).step_by(13).chain([size - 1]) {
                let question = Question::Inclusion { position: other, size };
                let only: BTreeMap<_, _> =
                    question.needs().unwrap().into_iter().map(|id| (id, tiles[&id].clone())).collect();
                let proof = question.prove(&only).unwrap();
                assert_eq!(proof, path(at(other), &leaves[..at(size)]), "{question:?}");
                let leaf = leaves[at(other)];
                assert_eq!(check_inclusion(&proof, size, root, other, leaf), Ok(()));
                let wrong = leaf_hash(b"another");
                assert_eq!(check_inclusion(&proof, size, root, other, wrong), Err(BadProof::Wrong));

                let from = other + 1;
                let question = Question::Consistency { from, to: size };
                let proof = question.prove(&tiles).unwrap();
                assert_eq!(proof, consistency(at(from), &leaves[..at(size)], true), "{question:?}");
                let from_root = root_of(&leaves[..at(from)]);
                assert_eq!(check_consistency(&proof, size, root, from, from_root), Ok(()));
                assert_eq!(check_consistency(&proof, size, root, from, wrong), Err(BadProof::Wrong));
            }
        }
    }

    #[test]
    fn what_cannot_be_is_not_proven() {
        let (_, tiles) = log(300);
        for question in [
            Question::Inclusion { position: 300, size: 300 },
            Question::Inclusion { position: 0, size: u64::MAX },
            Question::Consistency { from: 0, to: 300 },
            Question::Consistency { from: 301, to: 300 },
            Question::Consistency { from: 1, to: u64::MAX },
        ] {
            assert_eq!(question.needs(), Err(BadProof::OutOfRange), "{question:?}");
        }
        let beyond = Question::Inclusion { position: 299, size: 5_000 };
        assert_eq!(beyond.prove(&tiles), Err(BadProof::TileMissing));
    }
}
