//! The verifier of a mirror: puts segments of all replicas together and names what does not hold.
//!
//! Segments may overlap, since replicas may write the same range twice; then they must agree. They are taken in the
//! order of their first position, and a segment counts only if its entries, after all before them, hash to its own
//! signed head: so one damaged segment spoils no other, and another replica's copy can stand in for it. Memory grows
//! with the number of segments, by a few hundred bytes each; of entries only the hashes of one segment are kept.

use std::{
    collections::{BTreeMap, VecDeque},
    fmt::Display,
    vec,
};

use super::{
    chain::{self, Chain},
    entry::Entry,
    head::{HeadVerifier, SignedHead},
    segment::Segment,
    tree::{Hash, LogTree, leaf_hash},
    verify::{Finding, Report, Sequence},
};

/// What a segment's name says it holds. Nothing of it is believed before the segment is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Claim<N> {
    /// The name, for findings and for whoever reads it.
    pub name: N,
    /// Position of its first entry.
    pub from: u64,
    /// Size of the log at its end.
    pub size: u64,
}

/// A verified mirror.
#[derive(Debug)]
pub struct Mirrored {
    /// What was seen; `size` is how many entries from 0 are there and hold.
    pub report: Report,
    /// Roots of the mirrored log, by size, at the end of each segment up to `report.size`.
    pub roots: BTreeMap<u64, Hash>,
}

/// Replays a mirror. Feed [`MirrorVerifier::head`] every head, then answer each [`MirrorVerifier::next_claim`], and
/// finish.
pub struct MirrorVerifier<N> {
    chain: Chain,
    claims: vec::IntoIter<Claim<N>>,
    heads: Vec<(String, SignedHead)>,
    /// Roots at the sizes that some segment or head speaks of, where they are known yet.
    roots: BTreeMap<u64, Option<Hash>>,
    /// The entries from 0 that hold.
    tree: LogTree,
    sequence: Sequence,
    /// Hashes of the last leaves of `tree`, from the first position of the claim that is due.
    window: VecDeque<Hash>,
    /// Size of the log at the end of the furthest segment that is well-formed and signed.
    reach: u64,
    report: Report,
}

impl<N: Display + Ord> MirrorVerifier<N> {
    /// Starts with the names of all segments, in any order, of the log with this origin.
    #[must_use]
    pub fn new(trusted: HeadVerifier, origin: &str, mut claims: Vec<Claim<N>>) -> Self {
        claims.sort_by(|a, b| (a.from, a.size, &a.name).cmp(&(b.from, b.size, &b.name)));
        let tree = LogTree::empty();
        let mut roots: BTreeMap<_, _> = claims.iter().map(|claim| (claim.size, None)).collect();
        roots.insert(0, Some(tree.root()));
        let mut report = Report::new(origin.to_owned());
        if claims.is_empty() {
            report.find(Finding::NothingMirrored);
        }
        Self {
            chain: Chain::new(trusted),
            claims: claims.into_iter(),
            heads: Vec::new(),
            roots,
            tree,
            sequence: Sequence::default(),
            window: VecDeque::new(),
            reach: 0,
            report,
        }
    }

    /// Takes a head that the mirror must reach and agree with, before any segment: of a replica, or one kept from
    /// earlier.
    pub fn head(&mut self, name: &str, text: &str) {
        self.report.heads += 1;
        let problem = match SignedHead::parse(text) {
            Ok(signed) if signed.head().origin == self.report.origin => {
                self.roots.entry(signed.head().size).or_insert(None);
                self.heads.push((name.to_owned(), signed));
                return;
            }
            Ok(_) => "it belongs to another log".to_owned(),
            Err(problem) => problem.to_string(),
        };
        self.report.find(Finding::HeadNotTrusted { name: name.to_owned(), problem });
    }

    /// The segment to be read next, for [`MirrorVerifier::segment`] or [`MirrorVerifier::unusable`].
    pub fn next_claim(&mut self) -> Option<Claim<N>> {
        let claim = self.claims.next()?;
        let held = u64::try_from(self.window.len()).unwrap_or(u64::MAX);
        let behind = claim.from.saturating_sub(self.tree.size().saturating_sub(held));
        self.window.drain(..usize::try_from(behind.min(held)).unwrap_or(0));
        Some(claim)
    }

    /// Takes the bytes of the segment that was due.
    pub fn segment(&mut self, claim: &Claim<N>, bytes: &[u8]) {
        if let Err(problem) = self.take(claim, bytes) {
            self.unusable(&claim.name, problem);
        }
    }

    /// Notes an object that is no segment, or cannot be one.
    pub fn unusable(&mut self, name: &dyn Display, problem: String) {
        self.report.find(Finding::Segment { name: name.to_string(), problem });
    }

    fn take(&mut self, claim: &Claim<N>, bytes: &[u8]) -> Result<(), String> {
        let segment = Segment::decode(bytes).map_err(|e| e.to_string())?;
        if (segment.from, segment.size()) != (claim.from, Some(claim.size)) {
            let count = segment.entries.len();
            return Err(format!("it holds {count} entries from {}, its name says otherwise", segment.from));
        }
        if segment.origin != self.report.origin {
            return Err("it belongs to another log".to_owned());
        }
        self.report.heads += 1;
        let signed = SignedHead::parse(segment.checkpoint).map_err(|e| e.to_string())?;
        self.chain.admit(&signed).map_err(|e| e.to_string())?;
        let head = signed.head();
        if head.origin != self.report.origin {
            return Err("its head belongs to another log".to_owned());
        }
        if head.size != claim.size {
            return Err(format!("its head is of size {}, not {}", head.size, claim.size));
        }
        if segment.from > self.reach {
            self.report.find(Finding::Gap { from: self.reach, to: segment.from });
        }
        if segment.from <= self.tree.size() {
            self.append(&segment, &signed)?;
        }
        self.reach = self.reach.max(claim.size);
        Ok(())
    }

    /// Compares what others hold already, and appends the rest if it hashes to the segment's head.
    fn append(&mut self, segment: &Segment<'_>, signed: &SignedHead) -> Result<(), String> {
        let head = signed.head();
        for ((entry, known), position) in segment.entries.iter().zip(&self.window).zip(segment.from..) {
            if leaf_hash(entry) != *known {
                return Err(format!("entry {position} is not the one that other segments hold"));
            }
        }
        let (mut tree, mut sequence) = (self.tree.clone(), self.sequence.clone());
        let (mut leaves, mut roots, mut findings, mut tiles) =
            (Vec::new(), Vec::new(), Vec::new(), Vec::new());
        let mut announced = Vec::new();
        for entry in segment.entries.iter().skip(self.window.len()) {
            let position = tree.size();
            let problem = match Entry::decode(entry) {
                Ok(entry) => {
                    let problem = sequence.take(&entry);
                    if chain::announced(&entry).is_some() {
                        announced.push((position, entry));
                    }
                    problem
                }
                Err(problem) => Some(problem.to_string()),
            };
            findings.extend(problem.map(|problem| Finding::EntryImplausible { position, problem }));
            let leaf = leaf_hash(entry);
            leaves.push(leaf);
            tree.append(leaf, &mut tiles);
            tiles.clear();
            if self.roots.contains_key(&tree.size()) {
                roots.push((tree.size(), Some(tree.root())));
            }
        }
        let root =
            if leaves.is_empty() { self.roots.get(&head.size).copied().flatten() } else { Some(tree.root()) };
        if root != Some(head.root) {
            return Err("its entries, after those before them, do not hash to its signed head".to_owned());
        }
        (self.tree, self.sequence) = (tree, sequence);
        for (position, entry) in &announced {
            self.chain.take(*position, entry);
        }
        self.chain.confirm(signed);
        self.window.extend(leaves);
        self.roots.extend(roots);
        for finding in findings {
            self.report.find(finding);
        }
        Ok(())
    }

    /// Compares the whole with the heads, and reports.
    #[must_use]
    pub fn finish(mut self) -> Mirrored {
        for (name, signed) in std::mem::take(&mut self.heads) {
            let head = signed.head();
            let known = self.roots.get(&head.size).copied().flatten();
            if let Err(problem) = self.chain.admit(&signed) {
                self.report.find(Finding::HeadNotTrusted { name, problem: problem.to_string() });
            } else if head.size > self.reach {
                self.report.find(Finding::Cut { name, size: head.size, reach: self.reach });
            } else if known.is_some_and(|root| root != head.root) {
                let problem = "the mirrored entries do not hash to it".to_owned();
                self.report.find(Finding::HeadNotTrusted { name, problem });
            }
        }
        self.report.handovers = self.chain.handovers().to_vec();
        self.report.size = self.tree.size();
        (self.report.first, self.report.last) = (self.sequence.first, self.sequence.last);
        let roots = self.roots.into_iter().filter_map(|(size, root)| Some((size, root?))).collect();
        Mirrored { report: self.report, roots }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use signed_note::Signer;

    use super::*;
    use crate::{
        audit::{
            entry::Verdict,
            head::{BadHead, Head},
        },
        crypto::{aead::Key, audit_key::AuditKey},
        domain::{
            ids::{EntryId, PlatformId},
            time::Timestamp,
        },
    };

    const ORIGIN: &str = "vault.example.kz/lerna";

    /// A log of `n` entries, and the mirror that the test makes of it: names and bytes of segments, and heads.
    struct Fixture {
        key: AuditKey,
        entries: Vec<Vec<u8>>,
        segments: Vec<(Claim<String>, Vec<u8>)>,
        heads: Vec<(String, String)>,
    }

    impl Fixture {
        fn new(n: u32) -> Self {
            let key = AuditKey::from_seed("vault.example.kz", &Key::from_bytes(&[1; 32])).unwrap();
            let entry = |n: u32| {
                let mut id = [0; 16];
                id[..4].copy_from_slice(&n.to_be_bytes());
                let time = Timestamp::from_micros(i64::from(n));
                Entry::new(EntryId::from_bytes(id), time, PlatformId::new(1), "Test/Call", Verdict::Done)
                    .encode()
                    .unwrap()
            };
            Self { key, entries: (0..n).map(entry).collect(), segments: vec![], heads: vec![] }
        }

        fn head(&self, size: u64) -> String {
            let mut tree = LogTree::empty();
            for entry in &self.entries[..usize::try_from(size).unwrap()] {
                tree.append(leaf_hash(entry), &mut Vec::new());
            }
            Head { origin: ORIGIN.into(), size, root: tree.root() }.sign(&self.key).unwrap()
        }

        fn bytes(&self, from: u64, size: u64) -> Vec<u8> {
            let range = usize::try_from(from).unwrap()..usize::try_from(size).unwrap();
            let entries = self.entries[range].iter().map(Vec::as_slice).collect();
            Segment { origin: ORIGIN, from, entries, checkpoint: &self.head(size) }.encode().unwrap()
        }

        fn with(mut self, ranges: &[(u64, u64)]) -> Self {
            for (from, size) in ranges {
                let name = format!("s{}", self.segments.len());
                self.segments.push((Claim { name, from: *from, size: *size }, self.bytes(*from, *size)));
            }
            self
        }

        fn verify(&self) -> Mirrored {
            let trusted = HeadVerifier::new(&self.key.verifier_key()).unwrap();
            let claims = self.segments.iter().map(|(claim, _)| claim.clone()).collect();
            let mut verifier = MirrorVerifier::new(trusted, ORIGIN, claims);
            for (name, head) in &self.heads {
                verifier.head(name, head);
            }
            while let Some(claim) = verifier.next_claim() {
                let (_, bytes) = self.segments.iter().find(|(c, _)| *c == claim).unwrap();
                verifier.segment(&claim, bytes);
            }
            verifier.finish()
        }

        fn findings(&self) -> Vec<String> {
            self.verify().report.findings.iter().map(ToString::to_string).collect()
        }
    }

    #[test]
    fn segments_in_any_order_and_overlapping_hold() {
        for ranges in [
            &[(0, 30)][..],
            &[(20, 30), (0, 10), (10, 20)],
            &[(0, 10), (20, 30), (5, 25)],
            &[(0, 30), (0, 10), (5, 20), (29, 30), (0, 30)],
        ] {
            let mut mirror = Fixture::new(30).with(ranges);
            mirror.heads = vec![("heads/a".into(), mirror.head(30)), ("heads/b".into(), mirror.head(7))];
            let mirrored = mirror.verify();
            assert!(mirrored.report.holds(), "{ranges:?}: {:?}", mirrored.report.findings);
            assert_eq!((mirrored.report.size, mirrored.report.last), (30, Some(Timestamp::from_micros(29))));
            assert!(mirrored.roots.contains_key(&30));
        }
    }

    #[test]
    fn a_missing_segment_is_a_gap() {
        let mirror = Fixture::new(40).with(&[(0, 10), (20, 30), (25, 40)]);
        let mirrored = mirror.verify();
        assert_eq!(mirrored.report.findings, [Finding::Gap { from: 10, to: 20 }]);
        assert_eq!((mirrored.report.size, mirrored.roots.last_key_value().unwrap().0), (10, &10));
        let from_the_middle = Fixture::new(40).with(&[(10, 40)]);
        assert_eq!(from_the_middle.verify().report.findings, [Finding::Gap { from: 0, to: 10 }]);
        assert_eq!(Fixture::new(1).verify().report.findings, [Finding::NothingMirrored]);
    }

    #[test]
    fn a_cut_mirror_does_not_reach_a_head() {
        let mut mirror = Fixture::new(30).with(&[(0, 10), (10, 20)]);
        mirror.heads = vec![("heads/a".into(), mirror.head(30))];
        assert_eq!(mirror.findings(), ["heads/a promises 30 entries, the segments end after 20"]);
    }

    #[test]
    fn an_edited_segment_is_named_and_another_copy_stands_in() {
        let mut mirror = Fixture::new(40).with(&[(0, 10), (10, 20), (20, 40)]);
        let bytes = &mut mirror.segments[1].1;
        let at = bytes.windows(9).position(|w| w == b"Test/Call").unwrap();
        bytes[at] ^= 1;
        let own = "s1: its entries, after those before them, do not hash to its signed head";
        let gap = "entries 10 to 19 are in no segment that holds; what comes after them could not be checked";
        assert_eq!(mirror.findings(), [own, gap]);
        let mirror = mirror.with(&[(5, 20)]);
        assert_eq!(mirror.findings(), ["s1: entry 10 is not the one that other segments hold"]);
        assert_eq!(mirror.verify().report.size, 40);
    }

    #[test]
    fn cut_and_changed_bytes_are_found() {
        let mut mirror = Fixture::new(12).with(&[(0, 4), (4, 8), (8, 12)]);
        let whole = mirror.segments[1].1.clone();
        for cut in (0..whole.len()).step_by(7) {
            mirror.segments[1].1 = whole[..cut].to_vec();
            assert!(!mirror.verify().report.holds(), "{cut}");
        }
        for at in (0..whole.len()).step_by(5) {
            mirror.segments[1].1.clone_from(&whole);
            mirror.segments[1].1[at] ^= 1;
            let findings = mirror.findings();
            assert!(findings.first().is_some_and(|f| f.starts_with("s1: ")), "{at}: {findings:?}");
        }
    }

    #[test]
    fn two_signed_histories_are_told_apart() {
        let mut mirror = Fixture::new(20).with(&[(0, 10), (10, 20)]);
        mirror.entries[15] = mirror.entries[14].clone();
        mirror = mirror.with(&[(10, 20)]);
        assert_eq!(mirror.findings(), ["s2: entry 15 is not the one that other segments hold"]);
        mirror.segments.truncate(2);
        mirror.heads = vec![("heads/a".into(), mirror.head(20))];
        assert_eq!(mirror.findings(), ["heads/a: the mirrored entries do not hash to it"]);
    }

    #[test]
    fn segments_of_others_are_not_believed() {
        let mut mirror = Fixture::new(20).with(&[(0, 10), (10, 20)]);
        mirror.segments[1].0.from = 9;
        assert_eq!(mirror.findings(), ["s1: it holds 10 entries from 10, its name says otherwise"]);

        let mut mirror = Fixture::new(20);
        mirror.key = AuditKey::from_seed("vault.example.kz", &Key::from_bytes(&[2; 32])).unwrap();
        mirror = mirror.with(&[(0, 10)]);
        mirror.heads = vec![("heads/b".into(), mirror.head(20))];
        mirror.key = Fixture::new(0).key;
        let unsigned = BadHead::Unsigned.to_string();
        assert_eq!(mirror.findings(), [format!("s0: {unsigned}"), format!("heads/b: {unsigned}")]);

        // Signed by the key, but of another log: the segment's line says lerna, or not even that.
        let mirror = Fixture::new(10);
        let head = Head { origin: "vault.example.kz/other".into(), ..mirror.opened(10) };
        let text = head.sign(&mirror.key).unwrap();
        for (origin, problem) in
            [(ORIGIN, "its head belongs to another log"), (&head.origin, "it belongs to another log")]
        {
            let entries = mirror.entries.iter().map(Vec::as_slice).collect();
            let bytes = Segment { origin, from: 0, entries, checkpoint: &text }.encode().unwrap();
            let mut mirror = Fixture::new(10).with(&[(0, 10)]);
            mirror.segments[0].1 = bytes;
            assert_eq!(mirror.findings(), [format!("s0: {problem}")]);
        }
    }

    #[test]
    fn entries_must_be_entries_in_order_of_time() {
        let mut mirror = Fixture::new(20);
        mirror.entries.swap(3, 4);
        mirror.entries[7] = b"no entry".to_vec();
        let findings = mirror.with(&[(0, 10), (10, 20)]).findings();
        assert_eq!(
            findings,
            ["entry 4: its time is before that of the entry before", "entry 7: not the encoding of an entry"]
        );
    }

    impl Fixture {
        fn opened(&self, size: u64) -> Head {
            HeadVerifier::new(&self.key.verifier_key()).unwrap().open(&self.head(size)).unwrap()
        }
    }

    #[test]
    fn a_mirror_hands_over_where_a_segment_ends_with_both_signatures() {
        let new = AuditKey::from_seed("vault.example.kz", &Key::from_bytes(&[2; 32])).unwrap();
        let mirrored = |cuts: &[(u64, u64, &[u8])]| {
            let mut mirror = Fixture::new(20);
            let announcement = Entry {
                call: chain::ANNOUNCE.into(),
                object_kind: Some(chain::AUDIT_KEY.into()),
                object: Some(new.verifier_key().into_bytes()),
                ..Entry::decode(&mirror.entries[9]).unwrap()
            };
            mirror.entries[9] = announcement.encode().unwrap();
            for (from, size, keys) in cuts {
                let key = |n: &u8| -> &dyn Signer { if *n == 1 { &mirror.key } else { &new } };
                let keys: Vec<_> = keys.iter().map(key).collect();
                let checkpoint = mirror.opened(*size).sign_by(&keys).unwrap();
                let range = usize::try_from(*from).unwrap()..usize::try_from(*size).unwrap();
                let entries = mirror.entries[range].iter().map(Vec::as_slice).collect();
                let segment = Segment { origin: ORIGIN, from: *from, entries, checkpoint: &checkpoint };
                let bytes = segment.encode().unwrap();
                let name = format!("s{}", mirror.segments.len());
                mirror.segments.push((Claim { name, from: *from, size: *size }, bytes));
                mirror.heads = vec![("heads/a".into(), checkpoint)];
            }
            (mirror.findings(), mirror.verify().report.handovers.len())
        };
        assert_eq!(mirrored(&[(0, 8, &[1]), (8, 12, &[1, 2]), (12, 20, &[2])]), (vec![], 1));
        // A segment that jumps over the one head that both signed leaves the key unannounced.
        let (findings, handovers) = mirrored(&[(0, 8, &[1]), (8, 15, &[2]), (15, 20, &[2])]);
        assert_eq!((findings.len(), handovers), (3, 0), "{findings:?}");
        // The old key signs nothing more.
        let (findings, _) = mirrored(&[(0, 8, &[1]), (8, 12, &[1, 2]), (12, 20, &[1])]);
        assert_eq!(findings, ["s2", "heads/a"].map(|name| format!("{name}: {}", BadHead::Replaced)));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// Against a plain account of which positions the segments cover.
        #[test]
        fn gaps_are_where_nothing_covers(
            ranges in proptest::collection::vec((0_u64..40).prop_flat_map(|f| (Just(f), f + 1..=40)), 1..8),
        ) {
            let mirrored = Fixture::new(40).with(&ranges).verify();
            let end = ranges.iter().map(|(_, size)| *size).max().unwrap();
            let bare = |at: &u64| !ranges.iter().any(|(from, size)| (*from..*size).contains(at));
            prop_assert_eq!(mirrored.report.size, (0..end).find(bare).unwrap_or(end));
            let gaps: Vec<u64> = mirrored
                .report
                .findings
                .iter()
                .flat_map(|finding| {
                    let Finding::Gap { from, to } = finding else { panic!("{finding}") };
                    *from..*to
                })
                .collect();
            prop_assert_eq!(gaps, (0..end).filter(bare).collect::<Vec<_>>());
        }
    }
}
