//! The offline verifier: replays an export piece by piece and names what does not hold.
//!
//! Trust starts from a verifier key given from outside. Memory grows with the heads, and by one tile for 65,536
//! entries.

use std::fmt;

use super::{
    entry::Entry,
    head::{Head, HeadVerifier},
    layout::split_bundle,
    tree::{CompleteTile, Hash, LogTree, concat, leaf_hash, split, tile_width},
};
use crate::domain::{ids::EntryId, time::Timestamp};

/// Findings kept; the rest are counted.
const MAX_FINDINGS: usize = 100;

/// Something that does not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Finding {
    /// The head of the export, or the head of a second, is malformed or not signed by the trusted key.
    HeadNotTrusted {
        /// Which: `checkpoint`, or `heads/<second>`.
        name: String,
        /// Why.
        problem: String,
    },
    /// An entry's bytes do not hash to its leaf: the entry was changed.
    EntryChanged {
        /// Position in the log, from 0.
        position: u64,
        /// Its id, as far as the changed bytes still tell.
        entry: Option<EntryId>,
    },
    /// An entry's bytes are not an entry, or stand where they cannot.
    EntryImplausible {
        /// Position in the log, from 0.
        position: u64,
        /// What is wrong.
        problem: String,
    },
    /// A stored tile does not hold the hashes that follow from the leaves.
    TileDiffers {
        /// Tile level.
        level: u8,
        /// Position within the level.
        index: u64,
    },
    /// Leaves were rewritten: the log agrees with a head up to one size, and with no later one.
    Rewritten {
        /// Size of the last head that agrees.
        agrees_until: u64,
        /// Size of the first head that does not.
        differs_at: u64,
    },
    /// Something of the export is missing or of the wrong shape.
    Incomplete {
        /// What.
        what: String,
    },
    /// The right edge is not that of the leaves.
    RightEdgeDiffers,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeadNotTrusted { name, problem } => write!(f, "{name}: {problem}"),
            Self::EntryChanged { position, entry: Some(id) } => {
                write!(f, "entry {position} ({id}) was changed: its bytes do not hash to its leaf")
            }
            Self::EntryChanged { position, entry: None } => {
                write!(f, "entry {position} was changed: its bytes do not hash to its leaf")
            }
            Self::EntryImplausible { position, problem } => write!(f, "entry {position}: {problem}"),
            Self::TileDiffers { level, index } => {
                write!(f, "tile {index} of level {level} does not follow from the leaves")
            }
            Self::Rewritten { agrees_until, differs_at } => write!(
                f,
                "entries {agrees_until} to {} were rewritten: the signed head of size {agrees_until} agrees with \
                 the log, the signed head of size {differs_at} does not",
                differs_at.saturating_sub(1)
            ),
            Self::Incomplete { what } => write!(f, "the export is incomplete: {what}"),
            Self::RightEdgeDiffers => f.write_str("the right edge does not follow from the leaves"),
        }
    }
}

/// What the verifier saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Origin of the log.
    pub origin: String,
    /// Entries that the signed head promises.
    pub size: u64,
    /// Heads of single seconds that were checked.
    pub heads: u64,
    /// Time of the first entry.
    pub first: Option<Timestamp>,
    /// Time of the last entry.
    pub last: Option<Timestamp>,
    /// What does not hold; empty when all does.
    pub findings: Vec<Finding>,
    /// Findings beyond the first hundred.
    pub more_findings: u64,
}

impl Report {
    /// True when everything holds.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.findings.is_empty() && self.more_findings == 0
    }
}

/// Replays one log. Feed [`Verifier::head`] every head, then [`Verifier::bundle`] every bundle in order, then the
/// tiles of higher levels, and finish.
pub struct Verifier {
    heads: HeadVerifier,
    target: Head,
    pending: Vec<Head>,
    agrees_until: u64,
    rewritten: bool,
    tree: LogTree,
    completed: Vec<CompleteTile>,
    platform: Option<u32>,
    report: Report,
}

impl Verifier {
    /// Starts from the export's checkpoint.
    ///
    /// # Errors
    /// The [`Report`] with the one finding, since nothing else means anything then.
    pub fn new(heads: HeadVerifier, checkpoint: &str) -> Result<Self, Box<Report>> {
        let mut report = Report {
            origin: String::new(),
            size: 0,
            heads: 0,
            first: None,
            last: None,
            findings: Vec::new(),
            more_findings: 0,
        };
        match heads.open(checkpoint) {
            Ok(target) => {
                report.origin.clone_from(&target.origin);
                report.size = target.size;
                Ok(Self {
                    heads,
                    target,
                    pending: Vec::new(),
                    agrees_until: 0,
                    rewritten: false,
                    tree: LogTree::empty(),
                    completed: Vec::new(),
                    platform: None,
                    report,
                })
            }
            Err(problem) => {
                report.findings.push(Finding::HeadNotTrusted {
                    name: super::layout::CHECKPOINT.to_owned(),
                    problem: problem.to_string(),
                });
                Err(Box::new(report))
            }
        }
    }

    /// Number of entries that the checkpoint promises.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.target.size
    }

    /// Takes the head of one second.
    pub fn head(&mut self, name: &str, text: &str) {
        self.report.heads += 1;
        match self.heads.open(text) {
            Ok(head) if head.origin != self.target.origin => self.find(Finding::HeadNotTrusted {
                name: name.to_owned(),
                problem: "it belongs to another log".to_owned(),
            }),
            Ok(head) => self.pending.push(head),
            Err(problem) => {
                self.find(Finding::HeadNotTrusted { name: name.to_owned(), problem: problem.to_string() });
            }
        }
    }

    /// Takes the next tile of level 0 with its entries, in order from index 0.
    pub fn bundle(&mut self, index: u64, hashes: &[u8], entries: &[u8]) {
        let width = tile_width(self.target.size, 0, index);
        let (Some(hashes), Some(entries)) = (split(hashes), split_bundle(entries)) else {
            self.find(Finding::Incomplete { what: format!("bundle {index} is malformed") });
            return;
        };
        if hashes.len() != width || entries.len() != width || self.tree.size() != index * 256 {
            self.find(Finding::Incomplete {
                what: format!(
                    "bundle {index} should have {width} entries and hashes, after {} others",
                    index * 256
                ),
            });
            return;
        }
        if index == 0 {
            self.pending.sort_by_key(|head| head.size);
            self.pending.reverse();
        }
        for (entry, hash) in entries.into_iter().zip(hashes) {
            self.entry(entry, hash);
        }
    }

    fn entry(&mut self, bytes: &[u8], leaf: Hash) {
        let position = self.tree.size();
        let decoded = Entry::decode(bytes);
        if leaf_hash(bytes) == leaf {
            match &decoded {
                Ok(entry) => self.plausible(position, entry),
                Err(problem) => {
                    self.find(Finding::EntryImplausible { position, problem: problem.to_string() });
                }
            }
        } else {
            let entry = decoded.ok().map(|e| e.entry_id());
            self.find(Finding::EntryChanged { position, entry });
        }
        let mut completed = Vec::new();
        self.tree.append(leaf, &mut completed);
        // Level 0 is what was given; the tiles above it are kept, to compare with those that are stored.
        self.completed.extend(completed.into_iter().filter(|tile| tile.level > 0));
        self.compare_heads();
    }

    fn plausible(&mut self, position: u64, entry: &Entry) {
        let time = Timestamp::from_micros(entry.time);
        let platform = *self.platform.get_or_insert(entry.platform);
        if platform != entry.platform {
            let problem = format!("it names platform {}, the others {platform}", entry.platform);
            self.find(Finding::EntryImplausible { position, problem });
        }
        if self.report.last.is_some_and(|last| time < last) {
            let problem = "its time is before that of the entry before".to_owned();
            self.find(Finding::EntryImplausible { position, problem });
        }
        self.report.first.get_or_insert(time);
        self.report.last = Some(time);
    }

    fn compare_heads(&mut self) {
        let size = self.tree.size();
        while let Some(head) = self.pending.pop_if(|head| head.size <= size) {
            if head.size == size {
                self.compare(&head);
            } else if head.size > 0 {
                let what = format!("the head of size {} came after its leaves", head.size);
                self.find(Finding::Incomplete { what });
            }
        }
    }

    fn compare(&mut self, head: &Head) {
        if head.root == self.tree.root() {
            self.agrees_until = head.size;
        } else if !self.rewritten {
            self.rewritten = true;
            self.find(Finding::Rewritten { agrees_until: self.agrees_until, differs_at: head.size });
        }
    }

    /// Takes a stored tile of a level above 0, after all bundles.
    pub fn tile(&mut self, level: u8, index: u64, hashes: &[u8]) {
        let computed = self.completed.iter().find(|t| t.level == level && t.index == index);
        let same = match computed {
            Some(tile) => tile.hashes == hashes,
            None => concat(self.tree.partial_tile(usize::from(level))) == hashes,
        };
        if !same {
            self.find(Finding::TileDiffers { level, index });
        }
    }

    /// Takes the right edge, after all bundles.
    pub fn right_edge(&mut self, hashes: &[Hash]) {
        if hashes != self.tree.right_edge() {
            self.find(Finding::RightEdgeDiffers);
        }
    }

    /// Notes that a part of the export is missing or unreadable.
    pub fn missing(&mut self, what: String) {
        self.find(Finding::Incomplete { what });
    }

    /// Compares the whole with the checkpoint, and reports.
    #[must_use]
    pub fn finish(mut self) -> Report {
        if self.tree.size() == self.target.size {
            let target = self.target.clone();
            self.compare(&target);
        } else {
            let what = format!("{} entries of {}", self.tree.size(), self.target.size);
            self.find(Finding::Incomplete { what });
        }
        if let Some(head) = self.pending.iter().find(|head| head.size > self.target.size) {
            let what = format!("a head of size {} is newer than the checkpoint", head.size);
            self.find(Finding::Incomplete { what });
        }
        self.report
    }

    fn find(&mut self, finding: Finding) {
        if self.report.findings.len() < MAX_FINDINGS {
            self.report.findings.push(finding);
        } else {
            self.report.more_findings += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::{entry::Verdict, layout::push_to_bundle},
        crypto::{aead::Key, audit_key::AuditKey},
        domain::ids::PlatformId,
    };

    const ORIGIN: &str = "vault.example.kz/lerna";

    /// An honest log of 600 entries with a head after every 50.
    struct Log {
        entries: Vec<Vec<u8>>,
        leaves: Vec<Hash>,
        heads: Vec<String>,
        checkpoint: String,
        key: AuditKey,
    }

    impl Log {
        fn new() -> Self {
            let key = AuditKey::from_seed("vault.example.kz", &Key::from_bytes(&[1; 32])).unwrap();
            let (mut tree, mut entries, mut leaves, mut heads) =
                (LogTree::empty(), Vec::new(), Vec::new(), Vec::new());
            for n in 0..600_u32 {
                let mut id = [0; 16];
                id[..4].copy_from_slice(&n.to_be_bytes());
                let time = Timestamp::from_micros(i64::from(n));
                let entry =
                    Entry::new(EntryId::from_bytes(id), time, PlatformId::new(1), "Test/Call", Verdict::Done);
                entries.push(entry.encode().unwrap());
                leaves.push(leaf_hash(entries.last().unwrap()));
                tree.append(*leaves.last().unwrap(), &mut Vec::new());
                if n % 50 == 49 {
                    heads.push(Self::sign(&tree, &key));
                }
            }
            let checkpoint = Self::sign(&tree, &key);
            Self { entries, leaves, heads, checkpoint, key }
        }

        fn sign(tree: &LogTree, key: &AuditKey) -> String {
            Head { origin: ORIGIN.into(), size: tree.size(), root: tree.root() }.sign(key).unwrap()
        }

        fn verify(&self) -> Report {
            let trusted = HeadVerifier::new(&self.key.verifier_key()).unwrap();
            let mut verifier = match Verifier::new(trusted, &self.checkpoint) {
                Ok(verifier) => verifier,
                Err(report) => return *report,
            };
            for (i, head) in self.heads.iter().enumerate() {
                verifier.head(&format!("heads/{i}"), head);
            }
            let mut tree = LogTree::empty();
            let mut tiles = Vec::new();
            for (index, (entries, leaves)) in
                self.entries.chunks(256).zip(self.leaves.chunks(256)).enumerate()
            {
                let mut bundle = Vec::new();
                for entry in entries {
                    push_to_bundle(&mut bundle, entry).unwrap();
                }
                verifier.bundle(u64::try_from(index).unwrap(), &concat(leaves), &bundle);
                for leaf in leaves {
                    tree.append(*leaf, &mut tiles);
                }
            }
            verifier.tile(1, 0, &concat(tree.partial_tile(1)));
            verifier.right_edge(tree.right_edge());
            verifier.finish()
        }
    }

    #[test]
    fn an_honest_log_holds() {
        let report = Log::new().verify();
        assert!(report.holds(), "{:?}", report.findings);
        assert_eq!((report.size, report.heads, report.origin.as_str()), (600, 12, ORIGIN));
    }

    #[test]
    fn a_changed_entry_is_named() {
        let mut log = Log::new();
        *log.entries[321].last_mut().unwrap() ^= 1;
        assert!(matches!(log.verify().findings[..], [Finding::EntryChanged { position: 321, .. }]));
    }

    #[test]
    fn a_rewritten_leaf_is_bounded_by_heads() {
        let mut log = Log::new();
        log.entries[321] = log.entries[320].clone();
        log.leaves[321] = leaf_hash(&log.entries[321]);
        assert!(
            log.verify().findings.contains(&Finding::Rewritten { agrees_until: 300, differs_at: 350 }),
            "{:?}",
            log.verify().findings
        );
    }

    #[test]
    fn a_removed_entry_is_found() {
        let mut log = Log::new();
        log.entries.remove(321);
        log.leaves.remove(321);
        assert!(!log.verify().holds());
        let mut log = Log::new();
        log.entries.swap(10, 11);
        log.leaves.swap(10, 11);
        assert!(log.verify().findings.contains(&Finding::Rewritten { agrees_until: 0, differs_at: 50 }));
    }

    #[test]
    fn heads_of_others_are_not_believed() {
        let mut log = Log::new();
        let stranger = AuditKey::from_seed("vault.example.kz", &Key::from_bytes(&[2; 32])).unwrap();
        let mut tree = LogTree::empty();
        log.leaves.iter().for_each(|l| tree.append(*l, &mut Vec::new()));
        log.heads[3] = Log::sign(&tree, &stranger);
        assert!(matches!(log.verify().findings[..], [Finding::HeadNotTrusted { .. }]));
        log.checkpoint = Log::sign(&tree, &stranger);
        assert!(matches!(log.verify().findings[..], [Finding::HeadNotTrusted { .. }]));
    }

    #[test]
    fn a_cut_log_does_not_reach_its_checkpoint() {
        let mut log = Log::new();
        log.entries.truncate(550);
        log.leaves.truncate(550);
        assert!(!log.verify().holds());
        // Cut together with its checkpoint, a newer head still tells.
        log.checkpoint.clone_from(&log.heads[10]);
        assert!(!log.verify().holds());
    }
}
