//! The mirror as a restore finds it: whether it goes on from the backup, and what it tells since.

use std::vec;

use super::RestoreError;
use crate::{
    audit::{
        chain::Chain,
        entry::Entry,
        head::{HeadVerifier, SignedHead, origin},
        mirror::{Claim, MirrorVerifier},
        segment::Segment,
        tree::{LogTree, leaf_hash},
        verify::Finding,
    },
    blobs::{
        BlobError,
        mirror::{MirrorReader, SegmentName},
    },
    domain::names::PlatformName,
    store::rows::config::ClosureReason,
    vault::backup::LogMark,
};

/// The name of the backup's own head among the findings.
const BACKUP: &str = "the backup's head";

/// How a mirrored log stands to a backup of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Looked {
    /// Why it cannot be believed to tell everything; none where it goes on from the backup and holds.
    pub problem: Option<ClosureReason>,
    /// What is wrong with it.
    pub findings: Vec<String>,
    /// Entries that are mirrored and hold; what may be replayed.
    pub size: u64,
}

/// A mirror to restore from.
pub(super) struct Source<'a> {
    pub(super) reader: Option<&'a MirrorReader>,
    /// The audit key, given from outside.
    pub(super) key: &'a str,
    pub(super) installation: &'a str,
}

impl Source<'_> {
    /// Verifies a mirrored log from its beginning, and holds the backup's head against it.
    pub(super) async fn look(&self, name: &PlatformName, mark: &LogMark) -> Result<Looked, RestoreError> {
        let missing = |why: String| {
            let problem = Some(ClosureReason::MirrorMissing);
            Ok(Looked { problem, findings: vec![why], size: mark.size })
        };
        let Some(reader) = self.reader else { return missing("no mirror is configured".to_owned()) };
        let heads = match reader.heads(name).await {
            Err(error @ BlobError::NotMarked { .. }) => return missing(error.to_string()),
            heads => heads?,
        };
        let segments = reader.segments(name).await?;
        if segments.found.is_empty() {
            return missing("nothing of this log is mirrored".to_owned());
        }
        let trusted = HeadVerifier::new(self.key).map_err(|_| RestoreError::Key)?;
        let claims = segments.found.iter();
        let claims =
            claims.map(|name| Claim { from: name.from, size: name.size, name: name.clone() }).collect();
        let mut verifier = MirrorVerifier::new(trusted, &origin(self.installation, name), claims);
        verifier.head(BACKUP, &mark.checkpoint);
        for head in &heads.found {
            verifier.head(&format!("heads/{}", head.replica), &head.checkpoint);
        }
        for strange in heads.strange.iter().chain(&segments.strange) {
            verifier.unusable(strange, "nothing of this name belongs into a mirror".to_owned());
        }
        while let Some(claim) = verifier.next_claim() {
            match reader.read_segment(&claim.name).await {
                Ok(bytes) => verifier.segment(&claim, &bytes),
                Err(error @ BlobError::TooLarge { .. }) => verifier.unusable(&claim.name, error.to_string()),
                Err(error) => return Err(error.into()),
            }
        }
        let report = verifier.finish().report;
        let differs = report
            .findings
            .iter()
            .any(|finding| matches!(finding, Finding::HeadNotTrusted { name, .. } if name == BACKUP));
        let problem = match (differs, report.holds() && report.size >= mark.size) {
            (true, _) => Some(ClosureReason::MirrorDiffers),
            (false, true) => None,
            (false, false) => Some(ClosureReason::MirrorDamaged),
        };
        let size = if differs { mark.size } else { report.size.max(mark.size) };
        Ok(Looked { problem, findings: report.findings.iter().map(ToString::to_string).collect(), size })
    }

    /// Walks over the mirrored entries of a log from its beginning up to a size that was verified.
    pub(super) async fn walk(&self, name: &PlatformName, size: u64) -> Result<Walk<'_>, RestoreError> {
        let mut segments = match self.reader {
            Some(reader) => reader.segments(name).await?.found,
            None => Vec::new(),
        };
        segments.sort_by(|a, b| (a.from, a.size, a).cmp(&(b.from, b.size, b)));
        let trusted = HeadVerifier::new(self.key).map_err(|_| RestoreError::Key)?;
        Ok(Walk {
            reader: self.reader,
            segments: segments.into_iter(),
            chain: Chain::new(trusted),
            tree: LogTree::empty(),
            size,
        })
    }
}

/// Entries of one segment that come after those before it.
pub(super) struct Slice {
    /// Position of the first.
    pub(super) from: u64,
    pub(super) entries: Vec<Vec<u8>>,
    /// The signed head after the last.
    pub(super) checkpoint: String,
}

pub(super) struct Walk<'a> {
    reader: Option<&'a MirrorReader>,
    segments: vec::IntoIter<SegmentName>,
    chain: Chain,
    tree: LogTree,
    size: u64,
}

impl Walk<'_> {
    /// The next entries that hash to a signed head; none at the end.
    pub(super) async fn next(&mut self) -> Result<Option<Slice>, RestoreError> {
        let Some(reader) = self.reader else { return Ok(None) };
        for name in self.segments.by_ref() {
            if name.from > self.tree.size() || name.size <= self.tree.size() || name.size > self.size {
                continue;
            }
            let bytes = reader.read_segment(&name).await?;
            let Ok(segment) = Segment::decode(&bytes) else { continue };
            let Ok(signed) = SignedHead::parse(segment.checkpoint) else { continue };
            if self.chain.admit(&signed).is_err() {
                continue;
            }
            let head = signed.head();
            if (segment.from, segment.size()) != (name.from, Some(head.size)) {
                continue;
            }
            let from = self.tree.size();
            let known = usize::try_from(from - segment.from).unwrap_or(usize::MAX);
            let mut tree = self.tree.clone();
            let entries: Vec<_> = segment.entries.iter().skip(known).map(|entry| entry.to_vec()).collect();
            for entry in &entries {
                tree.append(leaf_hash(entry), &mut Vec::new());
            }
            if tree.root() == head.root {
                self.tree = tree;
                for (position, bytes) in (from..).zip(&entries) {
                    if let Ok(entry) = Entry::decode(bytes) {
                        self.chain.take(position, &entry);
                    }
                }
                self.chain.confirm(&signed);
                return Ok(Some(Slice { from, entries, checkpoint: segment.checkpoint.to_owned() }));
            }
        }
        Ok(None)
    }
}
