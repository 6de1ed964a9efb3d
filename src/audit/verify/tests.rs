//! Tests of the verifier, under `#[cfg(test)]`.

use signed_note::Signer;

use super::*;
use crate::{
    audit::{
        chain::{ANNOUNCE, AUDIT_KEY},
        entry::Verdict,
        head::{BadHead, Head},
        layout::push_to_bundle,
    },
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
        self.verify_with(BTreeMap::new())
    }

    fn verify_with(&self, mirrored: BTreeMap<u64, Hash>) -> Report {
        let trusted = HeadVerifier::new(&self.key.verifier_key()).unwrap();
        let mut verifier = match Verifier::new(trusted, &self.checkpoint) {
            Ok(verifier) => verifier,
            Err(report) => return *report,
        };
        verifier.mirrored(mirrored);
        for (i, head) in self.heads.iter().enumerate() {
            verifier.head(&format!("heads/{i}"), head);
        }
        let mut tree = LogTree::empty();
        let mut tiles = Vec::new();
        for (index, (entries, leaves)) in self.entries.chunks(256).zip(self.leaves.chunks(256)).enumerate() {
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
    let findings = log.verify().findings;
    assert!(matches!(findings[..], [Finding::HeadNotTrusted { .. }, Finding::HeadNotTrusted { .. }]));
    log.heads = vec![log.checkpoint.clone(); 3];
    assert_eq!(log.verify().findings.len(), 1, "nothing means anything then");
}

/// A log of 600 entries that was handed over at 300: `with` signs each head by its size.
fn handed_over(with: impl Fn(u64) -> Vec<u8>) -> Report {
    let (old, new) = (Log::new().key, AuditKey::from_seed("vault.example.kz", &Key::from_bytes(&[2; 32])));
    let new = new.unwrap();
    let mut log = Log::new();
    let announcement = Entry {
        object_kind: Some(AUDIT_KEY.into()),
        object: Some(new.verifier_key().into_bytes()),
        call: ANNOUNCE.into(),
        ..Entry::decode(&log.entries[299]).unwrap()
    };
    log.entries[299] = announcement.encode().unwrap();
    log.leaves[299] = leaf_hash(&log.entries[299]);
    let mut tree = LogTree::empty();
    log.heads.clear();
    for leaf in &log.leaves {
        tree.append(*leaf, &mut Vec::new());
        let size = tree.size();
        if size.is_multiple_of(50) {
            let head = Head { origin: ORIGIN.into(), size, root: tree.root() };
            let keys = with(size);
            let key = |n: &u8| -> &dyn Signer { if *n == 1 { &old } else { &new } };
            let keys: Vec<_> = keys.iter().map(key).collect();
            log.checkpoint = head.sign_by(&keys).unwrap();
            log.heads.push(log.checkpoint.clone());
        }
    }
    log.verify()
}

#[test]
fn a_log_hands_over_to_another_key() {
    let good = |size: u64| match size {
        ..300 => vec![1],
        300 => vec![1, 2],
        _ => vec![2],
    };
    let report = handed_over(good);
    assert_eq!((report.findings, report.size), (vec![], 600));
    assert_eq!(report.handovers.iter().map(|h| h.size).collect::<Vec<_>>(), [300]);
    // Never signed by both; and signed by the old key after it.
    let findings = handed_over(|size| if size < 300 { vec![1] } else { vec![2] }).findings;
    assert_eq!(findings.len(), 8, "{findings:?}");
    let findings = handed_over(|size| if size == 450 { vec![1] } else { good(size) }).findings;
    let replaced = BadHead::Replaced.to_string();
    let expected = Finding::HeadNotTrusted { name: "heads/8".into(), problem: replaced };
    assert_eq!(findings, [expected]);
}

#[test]
fn an_export_must_not_be_behind_its_mirror_nor_differ_from_it() {
    let log = Log::new();
    let root = |size: usize| {
        let mut tree = LogTree::empty();
        log.leaves[..size].iter().for_each(|l| tree.append(*l, &mut Vec::new()));
        tree.root()
    };
    let wrong = root(1);
    let with = |roots: &[(u64, Hash)]| log.verify_with(roots.iter().copied().collect()).findings;
    assert_eq!(with(&[(100, root(100)), (600, root(600))]), []);
    assert_eq!(
        with(&[(100, root(100)), (150, wrong), (600, wrong), (601, wrong)]),
        [
            Finding::BehindMirror { size: 600, mirrored: 601 },
            Finding::DiffersFromMirror { agrees_until: 100, differs_at: 150 }
        ]
    );
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
