//! The offline verifier: replays an export piece by piece and names what does not hold.
//!
//! Trust starts from a verifier key given from outside. Memory grows with the heads, and by one tile for 65,536
//! entries.

use std::{collections::BTreeMap, fmt};

use super::{
    chain::{Chain, Handover},
    entry::Entry,
    head::{HeadVerifier, SignedHead},
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
    /// A segment of the mirror is damaged, or belongs elsewhere. It is then as if it were not there.
    Segment {
        /// Name of the segment.
        name: String,
        /// What is wrong.
        problem: String,
    },
    /// Entries of the mirror are missing.
    Gap {
        /// Position of the first missing entry.
        from: u64,
        /// Position after the last.
        to: u64,
    },
    /// The mirror ends before a head that says it is complete, or that is known from elsewhere.
    Cut {
        /// Which head.
        name: String,
        /// Entries that it promises.
        size: u64,
        /// Entries that the segments reach.
        reach: u64,
    },
    /// The mirror has no segment of this log.
    NothingMirrored,
    /// An export agrees with the mirror up to one size, and no longer at a later one.
    DiffersFromMirror {
        /// Last size at which both have the same root.
        agrees_until: u64,
        /// First size at which they do not.
        differs_at: u64,
    },
    /// An export ends before the mirror does: the log was cut back.
    BehindMirror {
        /// Entries of the export.
        size: u64,
        /// Entries of the mirror.
        mirrored: u64,
    },
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::HeadNotTrusted { name, problem } | Self::Segment { name, problem } => {
                write!(f, "{name}: {problem}")
            }
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
            Self::Gap { from, to } => write!(
                f,
                "entries {from} to {} are in no segment that holds; what comes after them could not be checked",
                to.saturating_sub(1)
            ),
            Self::Cut { name, size, reach } => {
                write!(f, "{name} promises {size} entries, the segments end after {reach}")
            }
            Self::NothingMirrored => f.write_str("the mirror has no segment of this log"),
            Self::DiffersFromMirror { agrees_until, differs_at } => write!(
                f,
                "entries {agrees_until} to {} are not those that were mirrored",
                differs_at.saturating_sub(1)
            ),
            Self::BehindMirror { size, mirrored } => {
                write!(f, "the log was cut back: it has {size} entries, {mirrored} were mirrored")
            }
        }
    }
}

/// What the verifier saw.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Origin of the log.
    pub origin: String,
    /// Entries that the signed head promises; of a mirror, entries from 0 that are there and hold.
    pub size: u64,
    /// Heads of single seconds that were checked; of a mirror, heads of segments and replicas.
    pub heads: u64,
    /// Time of the first entry.
    pub first: Option<Timestamp>,
    /// Time of the last entry.
    pub last: Option<Timestamp>,
    /// What does not hold; empty when all does.
    pub findings: Vec<Finding>,
    /// Findings beyond the first hundred.
    pub more_findings: u64,
    /// Audit keys that the log was handed over to.
    pub handovers: Vec<Handover>,
}

impl Report {
    pub(super) const fn new(origin: String) -> Self {
        Self {
            origin,
            size: 0,
            heads: 0,
            first: None,
            last: None,
            findings: Vec::new(),
            more_findings: 0,
            handovers: Vec::new(),
        }
    }

    pub(super) fn find(&mut self, finding: Finding) {
        if self.findings.len() < MAX_FINDINGS {
            self.findings.push(finding);
        } else {
            self.more_findings += 1;
        }
    }

    /// True when everything holds.
    #[must_use]
    pub const fn holds(&self) -> bool {
        self.findings.is_empty() && self.more_findings == 0
    }
}

/// What the entries of one log keep from one to the next: the platform, and a time that does not go back.
#[derive(Debug, Clone, Default)]
pub(super) struct Sequence {
    platform: Option<u32>,
    pub(super) first: Option<Timestamp>,
    pub(super) last: Option<Timestamp>,
}

impl Sequence {
    /// Takes the next entry; what is wrong with it here, if anything.
    pub(super) fn take(&mut self, entry: &Entry) -> Option<String> {
        let time = Timestamp::from_micros(entry.time);
        let platform = *self.platform.get_or_insert(entry.platform);
        let went_back = self.last.is_some_and(|last| time < last);
        self.first.get_or_insert(time);
        self.last = Some(time);
        if platform != entry.platform {
            return Some(format!("it names platform {}, the others {platform}", entry.platform));
        }
        went_back.then(|| "its time is before that of the entry before".to_owned())
    }
}

/// A head with its name in findings.
struct Named {
    name: String,
    signed: SignedHead,
}

impl Named {
    const fn size(&self) -> u64 {
        self.signed.head().size
    }
}

/// Replays one log. Feed [`Verifier::head`] every head, then [`Verifier::bundle`] every bundle in order, then the
/// tiles of higher levels, and finish. Heads are judged where the log reaches them: by then it has told which key counts.
pub struct Verifier {
    chain: Chain,
    target: Named,
    pending: Vec<Named>,
    /// Whether any head was signed by a key that counts.
    believed: bool,
    agrees_until: u64,
    rewritten: bool,
    mirrored: BTreeMap<u64, Hash>,
    agrees_with_mirror_until: u64,
    differs_from_mirror: bool,
    tree: LogTree,
    completed: Vec<CompleteTile>,
    sequence: Sequence,
    report: Report,
}

impl Verifier {
    /// Starts from the export's checkpoint.
    ///
    /// # Errors
    /// The [`Report`] with the one finding, since nothing else means anything then.
    pub fn new(heads: HeadVerifier, checkpoint: &str) -> Result<Self, Box<Report>> {
        let mut report = Report::new(String::new());
        let name = super::layout::CHECKPOINT.to_owned();
        match SignedHead::parse(checkpoint) {
            Ok(signed) => {
                report.origin.clone_from(&signed.head().origin);
                report.size = signed.head().size;
                Ok(Self {
                    chain: Chain::new(heads),
                    target: Named { name, signed },
                    pending: Vec::new(),
                    believed: false,
                    agrees_until: 0,
                    rewritten: false,
                    mirrored: BTreeMap::new(),
                    agrees_with_mirror_until: 0,
                    differs_from_mirror: false,
                    tree: LogTree::empty(),
                    completed: Vec::new(),
                    sequence: Sequence::default(),
                    report,
                })
            }
            Err(problem) => {
                report.findings.push(Finding::HeadNotTrusted { name, problem: problem.to_string() });
                Err(Box::new(report))
            }
        }
    }

    /// Number of entries that the checkpoint promises.
    #[must_use]
    pub const fn size(&self) -> u64 {
        self.target.size()
    }

    /// Takes the head of one second.
    pub fn head(&mut self, name: &str, text: &str) {
        self.report.heads += 1;
        let name = name.to_owned();
        let problem = match SignedHead::parse(text) {
            Ok(signed) if signed.head().origin == self.report.origin => {
                self.pending.push(Named { name, signed });
                return;
            }
            Ok(_) => "it belongs to another log".to_owned(),
            Err(problem) => problem.to_string(),
        };
        self.report.find(Finding::HeadNotTrusted { name, problem });
    }

    /// Whether a key signed the head that counts there; a finding where none did.
    fn admit(&mut self, head: &Named) -> bool {
        match self.chain.admit(&head.signed) {
            Ok(()) => {
                self.believed = true;
                true
            }
            Err(problem) => {
                let (name, problem) = (head.name.clone(), problem.to_string());
                self.report.find(Finding::HeadNotTrusted { name, problem });
                false
            }
        }
    }

    /// Takes the roots that a mirror of this log has at some sizes ([`super::mirror::Mirrored`]), before any bundle.
    pub fn mirrored(&mut self, roots: BTreeMap<u64, Hash>) {
        if let Some(mirrored) = roots.last_key_value().map(|(size, _)| *size).filter(|s| *s > self.size()) {
            self.report.find(Finding::BehindMirror { size: self.size(), mirrored });
        }
        self.mirrored = roots;
    }

    /// Takes the next tile of level 0 with its entries, in order from index 0.
    pub fn bundle(&mut self, index: u64, hashes: &[u8], entries: &[u8]) {
        let width = tile_width(self.size(), 0, index);
        let (Some(hashes), Some(entries)) = (split(hashes), split_bundle(entries)) else {
            self.report.find(Finding::Incomplete { what: format!("bundle {index} is malformed") });
            return;
        };
        if hashes.len() != width || entries.len() != width || self.tree.size() != index * 256 {
            self.report.find(Finding::Incomplete {
                what: format!(
                    "bundle {index} should have {width} entries and hashes, after {} others",
                    index * 256
                ),
            });
            return;
        }
        if index == 0 {
            self.pending.sort_by_key(Named::size);
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
                Ok(entry) => {
                    self.chain.take(position, entry);
                    if let Some(problem) = self.sequence.take(entry) {
                        self.report.find(Finding::EntryImplausible { position, problem });
                    }
                }
                Err(problem) => {
                    self.report.find(Finding::EntryImplausible { position, problem: problem.to_string() });
                }
            }
        } else {
            let entry = decoded.ok().map(|e| e.entry_id());
            self.report.find(Finding::EntryChanged { position, entry });
        }
        let mut completed = Vec::new();
        self.tree.append(leaf, &mut completed);
        // Level 0 is what was given; the tiles above it are kept, to compare with those that are stored.
        self.completed.extend(completed.into_iter().filter(|tile| tile.level > 0));
        self.compare_heads();
    }

    fn compare_heads(&mut self) {
        let size = self.tree.size();
        match self.mirrored.get(&size) {
            Some(root) if *root == self.tree.root() => self.agrees_with_mirror_until = size,
            Some(_) if !self.differs_from_mirror => {
                self.differs_from_mirror = true;
                let agrees_until = self.agrees_with_mirror_until;
                self.report.find(Finding::DiffersFromMirror { agrees_until, differs_at: size });
            }
            Some(_) | None => {}
        }
        while let Some(head) = self.pending.pop_if(|head| head.size() <= size) {
            if head.size() == size {
                self.compare(&head);
            } else if self.admit(&head) && head.size() > 0 {
                let what = format!("the head of size {} came after its leaves", head.size());
                self.report.find(Finding::Incomplete { what });
            }
        }
    }

    fn compare(&mut self, head: &Named) {
        if !self.admit(head) {
            return;
        }
        if head.signed.head().root == self.tree.root() {
            self.agrees_until = head.size();
            self.chain.confirm(&head.signed);
        } else if !self.rewritten {
            self.rewritten = true;
            let (agrees_until, differs_at) = (self.agrees_until, head.size());
            self.report.find(Finding::Rewritten { agrees_until, differs_at });
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
            self.report.find(Finding::TileDiffers { level, index });
        }
    }

    /// Takes the right edge, after all bundles.
    pub fn right_edge(&mut self, hashes: &[Hash]) {
        if hashes != self.tree.right_edge() {
            self.report.find(Finding::RightEdgeDiffers);
        }
    }

    /// Notes that a part of the export is missing or unreadable.
    pub fn missing(&mut self, what: String) {
        self.report.find(Finding::Incomplete { what });
    }

    /// Compares the whole with the checkpoint, and reports.
    #[must_use]
    pub fn finish(mut self) -> Report {
        let size = self.size();
        for head in std::mem::take(&mut self.pending) {
            if self.admit(&head) && head.size() > size {
                let what = format!("a head of size {} is newer than the checkpoint", head.size());
                self.report.find(Finding::Incomplete { what });
            }
        }
        // Where no head at all is believed, nothing else that was found means anything.
        if self.chain.admit(&self.target.signed).is_err() && !self.believed {
            self.report.findings.clear();
            self.report.more_findings = 0;
        }
        if let Err(problem) = self.chain.admit(&self.target.signed) {
            let (name, problem) = (self.target.name.clone(), problem.to_string());
            self.report.find(Finding::HeadNotTrusted { name, problem });
        } else if self.tree.size() != size {
            let what = format!("{} entries of {size}", self.tree.size());
            self.report.find(Finding::Incomplete { what });
        } else if self.target.signed.head().root != self.tree.root() && !self.rewritten {
            self.report.find(Finding::Rewritten { agrees_until: self.agrees_until, differs_at: size });
        }
        (self.report.first, self.report.last) = (self.sequence.first, self.sequence.last);
        self.report.handovers = self.chain.handovers().to_vec();
        self.report
    }
}

#[cfg(test)]
mod tests;
