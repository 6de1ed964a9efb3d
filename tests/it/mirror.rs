//! The mirror on a real directory: what two replicas write, what a damaged one says, and what `audit verify-mirror` finds.

use std::{
    error::Error as _,
    fs,
    os::unix::{
        fs::{MetadataExt as _, PermissionsExt as _},
        process::CommandExt as _,
    },
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use sandyq::{
    audit::{
        entry::{Entry, Verdict},
        head::Head,
        layout::split_bundle,
        segment::{MAX_SEGMENT_BYTES as MOST_OF_A_SEGMENT, Segment},
        tree::{LogTree, leaf_hash},
    },
    blobs::{
        BlobError,
        mirror::{MAX_SEGMENT_BYTES, Mirror, MirrorReader, SegmentName},
    },
    crypto::{aead::Key, audit_key::AuditKey, random::SystemRng},
    domain::{
        ids::{EntryId, PlatformId},
        names::PlatformName,
        time::Timestamp,
    },
};
use tempfile::TempDir;

use crate::common::{second::second_verifier, served::Served};

/// Long enough for any disk that works.
const PATIENT: Duration = Duration::from_mins(1);
const ORIGIN: &str = "vault.example.kz/lerna";

fn lerna() -> PlatformName {
    "lerna".parse().unwrap()
}

fn open(dir: &Path, replica: &str) -> Result<Mirror, BlobError> {
    Mirror::directory(dir, replica.parse().unwrap(), PATIENT)
}

fn key() -> AuditKey {
    AuditKey::from_seed("vault.example.kz", &Key::from_bytes(&[1; 32])).unwrap()
}

/// Entries of a synthetic log.
fn entries(n: u32) -> Vec<Vec<u8>> {
    let entry = |n: u32| {
        let mut id = [0; 16];
        id[..4].copy_from_slice(&n.to_be_bytes());
        let time = Timestamp::from_micros(i64::from(n));
        Entry::new(EntryId::from_bytes(id), time, PlatformId::new(1), "Test/Call", Verdict::Done)
    };
    (0..n).map(|n| entry(n).encode().unwrap()).collect()
}

fn head(entries: &[Vec<u8>], size: usize) -> String {
    let mut tree = LogTree::empty();
    entries[..size].iter().for_each(|entry| tree.append(leaf_hash(entry), &mut Vec::new()));
    Head { origin: ORIGIN.into(), size: tree.size(), root: tree.root() }.sign(&key()).unwrap()
}

async fn put(
    mirror: &Mirror,
    entries: &[Vec<u8>],
    from: usize,
    size: usize,
    checkpoint: &str,
) -> SegmentName {
    let borrowed = entries[from..size].iter().map(Vec::as_slice).collect();
    let (from, size) = (u64::try_from(from).unwrap(), u64::try_from(size).unwrap());
    let origin = checkpoint.lines().next().unwrap();
    let bytes = Segment { origin, from, entries: borrowed, checkpoint }.encode().unwrap();
    mirror.put_segment(&lerna(), from, size, bytes, &SystemRng::new()).await.unwrap()
}

/// A mirror of 40 entries by two replicas, who both wrote some of them; the files of the segments, by size.
async fn two_replicas() -> (TempDir, Vec<PathBuf>) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("mirror");
    let (a, b) = (open(&root, "sandyq-0").unwrap(), open(&root, "sandyq-1").unwrap());
    let log = entries(40);
    let mut files = Vec::new();
    for (mirror, from, size) in [(&a, 0, 10), (&b, 0, 10), (&b, 10, 20), (&a, 15, 30), (&b, 30, 40)] {
        files.push(root.join(put(mirror, &log, from, size, &head(&log, size)).await.to_string()));
    }
    a.put_head(&lerna(), &head(&log, 30)).await.unwrap();
    b.put_head(&lerna(), &head(&log, 40)).await.unwrap();
    (dir, files)
}

fn verify_mirror(dir: &Path, key: &str, more: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandyq"));
    command.args(["--json", "audit", "verify-mirror", dir.to_str().unwrap(), "--platform", "lerna"]);
    let output = command.args(["--key", key]).args(more).output().unwrap();
    let args = ["mirror", dir.to_str().unwrap(), "--platform", "lerna", "--key", key];
    let (second, said) = second_verifier(&[&args, more].concat());
    assert_eq!(second, output.status.code(), "the second verifier says otherwise: {said}");
    output
}

fn report(output: &Output) -> serde_json::Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test]
async fn two_replicas_make_one_mirror() {
    let (dir, files) = two_replicas().await;
    let root = dir.path().join("mirror");
    let reader = MirrorReader::directory(&root, PATIENT).unwrap();
    let segments = reader.segments(&lerna()).await.unwrap();
    let sizes: Vec<_> = segments.found.iter().map(|name| (name.from, name.size)).collect();
    assert_eq!(sizes, [(0, 10), (0, 10), (10, 20), (15, 30), (30, 40)]);
    assert_eq!(fs::read(&files[4]).unwrap(), reader.read_segment(&segments.found[4]).await.unwrap());
    let heads = reader.heads(&lerna()).await.unwrap();
    let replicas: Vec<_> = heads.found.iter().map(|head| head.replica.as_str()).collect();
    assert_eq!(replicas, ["sandyq-0", "sandyq-1"]);
    assert!(heads.found[1].checkpoint.contains("\n40\n"));
    assert_eq!((segments.strange, heads.strange), (vec![], vec![]));
    // Another platform's log is another's.
    assert_eq!(reader.segments(&"vault".parse().unwrap()).await.unwrap().found, []);

    let output = verify_mirror(&root, &key().verifier_key(), &[]);
    let found = report(&output);
    assert_eq!((output.status.code(), found["verified"].as_bool()), (Some(0), Some(true)), "{found}");
    assert_eq!((found["entries"].as_u64(), found["heads"].as_u64()), (Some(40), Some(7)));
    assert_eq!(found["origin"], ORIGIN);
}

#[tokio::test]
async fn heads_are_replaced_and_segments_never() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = open(&dir.path().join("m"), "a").unwrap();
    let log = entries(3);
    for size in 1..=3 {
        mirror.put_head(&lerna(), &head(&log, size)).await.unwrap();
    }
    let heads = mirror.reader().heads(&lerna()).await.unwrap().found;
    assert_eq!(heads.iter().map(|head| head.checkpoint.as_str()).collect::<Vec<_>>(), [head(&log, 3)]);
    let one = put(&mirror, &log, 0, 3, &head(&log, 3)).await;
    let two = put(&mirror, &log, 0, 3, &head(&log, 3)).await;
    assert_ne!(one, two);
    assert_eq!(mirror.reader().segments(&lerna()).await.unwrap().found.len(), 2);
}

type Edit = fn(&Path, &[PathBuf]);

/// Each way to damage a mirror, and what is said about it. Segments: 0 and 1 hold entries 0 to 9, 2 holds 10 to 19,
/// 3 holds 15 to 29, 4 holds 30 to 39.
#[tokio::test]
async fn damage_is_found_and_named() {
    fn cut(file: &Path, by: u64) {
        let len = fs::metadata(file).unwrap().len();
        fs::OpenOptions::new().write(true).open(file).unwrap().set_len(len.saturating_sub(by)).unwrap();
    }
    fn edit(file: &Path) {
        let mut bytes = fs::read(file).unwrap();
        let at = bytes.windows(9).position(|w| w == b"Test/Call").unwrap();
        bytes[at] ^= 1;
        fs::write(file, bytes).unwrap();
    }
    let edits: [(&str, Edit); 13] = [
        ("lerna/heads/sandyq-1 promises 40 entries, the segments end after 30", |_, s| {
            fs::remove_file(&s[4]).unwrap();
        }),
        ("entries 10 to 14 are in no segment that holds", |_, s| fs::remove_file(&s[2]).unwrap()),
        ("0000000020-00000000000000000010-sandyq-1-", |_, s| edit(&s[2])),
        ("do not hash to its signed head", |_, s| edit(&s[4])),
        ("is not the one that other segments hold", |_, s| edit(&s[1])),
        ("it does not begin as a segment of format 1", |_, s| cut(&s[0], u64::MAX)),
        ("it ends within its entries", |_, s| cut(&s[4], 300)),
        ("a head is malformed", |_, s| cut(&s[4], 1)),
        ("its name says otherwise", |_, s| {
            fs::rename(&s[4], text(s[4].as_os_str().as_encoded_bytes()).replace("0030-", "0031-")).unwrap();
        }),
        ("has more than 67108864 bytes", |_, s| {
            fs::OpenOptions::new().write(true).open(&s[4]).unwrap().set_len(MAX_SEGMENT_BYTES + 1).unwrap();
        }),
        ("lerna/segments/notes.txt: nothing of this name belongs into a mirror", |m, _| {
            fs::write(m.join("lerna/segments/notes.txt"), "").unwrap();
        }),
        ("lerna/heads/UPPER: nothing of this name belongs into a mirror", |m, _| {
            fs::write(m.join("lerna/heads/UPPER"), "").unwrap();
        }),
        ("heads/sandyq-0: a head is not signed by the trusted audit key", |m, _| {
            let file = m.join("lerna/heads/sandyq-0");
            fs::write(&file, fs::read_to_string(&file).unwrap().replace("\n30\n", "\n29\n")).unwrap();
        }),
    ];
    for (i, (expected, damage)) in edits.into_iter().enumerate() {
        let (dir, files) = two_replicas().await;
        let root = dir.path().join("mirror");
        damage(&root, &files);
        let output = verify_mirror(&root, &key().verifier_key(), &[]);
        let findings = report(&output)["findings"].to_string();
        assert!(findings.contains(expected), "edit {i}: {expected} not in {findings}");
        assert_eq!(output.status.code(), Some(3), "edit {i}");
    }
}

/// One copy of two is damaged: it is named, and the other stands in for it.
#[tokio::test]
async fn the_other_replicas_copy_stands_in() {
    let (dir, files) = two_replicas().await;
    fs::write(&files[0], "torn").unwrap();
    let output = verify_mirror(&dir.path().join("mirror"), &key().verifier_key(), &[]);
    let found = report(&output);
    assert_eq!((output.status.code(), found["entries"].as_u64()), (Some(3), Some(40)));
    assert_eq!(found["findings"].as_array().unwrap().len(), 1, "{found}");
}

/// All segments and heads after a point are gone: only a checkpoint kept elsewhere tells.
#[tokio::test]
async fn a_mirror_that_was_cut_back_needs_a_checkpoint_from_elsewhere() {
    let (dir, files) = two_replicas().await;
    let root = dir.path().join("mirror");
    fs::remove_file(&files[4]).unwrap();
    fs::remove_file(root.join("lerna/heads/sandyq-1")).unwrap();
    let key = key().verifier_key();
    assert_eq!(verify_mirror(&root, &key, &[]).status.code(), Some(0));
    let kept = dir.path().join("kept");
    fs::write(&kept, head(&entries(40), 40)).unwrap();
    let output = verify_mirror(&root, &key, &["--since", kept.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3), "{}", report(&output));
    // Nothing at all, or the log of another: never a verified mirror.
    let other = verify_mirror(&root, &key, &["--origin", "vault.example.kz/other"]);
    assert_eq!(other.status.code(), Some(3));
    fs::remove_dir_all(root.join("lerna")).unwrap();
    let empty = verify_mirror(&root, &key, &[]);
    assert_eq!(empty.status.code(), Some(3));
    assert!(report(&empty)["findings"].to_string().contains("no segment of this log"));
}

#[test]
fn a_mirror_takes_no_directory_of_others() {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().join("mirror");
    drop(open(&root, "a").unwrap());
    assert_eq!(fs::metadata(&root).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(open(&root, "b").is_ok(), "a second replica finds it there");

    let file = dir.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(open(&file, "a"), Err(BlobError::NotADirectory(_))));
    assert!(matches!(open(dir.path(), "a"), Err(BlobError::NotMarked { .. })), "it holds other files");
    let missing = open(&dir.path().join("not-mounted/mirror"), "a").err().unwrap();
    assert!(missing.to_string().contains("not-mounted/mirror"), "{missing}");
    assert!(missing.source().unwrap().to_string().contains("No such file"));
    fs::write(root.join("sandyq-mirror"), "sandyq-mirror 2\n").unwrap();
    assert!(matches!(open(&root, "a"), Err(BlobError::NotMarked { .. })), "a later format");
    // The root of a file system of its own.
    let mounted = dir.path().join("mounted");
    fs::create_dir_all(mounted.join("lost+found")).unwrap();
    assert!(open(&mounted, "a").is_ok());
    assert!(MirrorReader::directory(&dir.path().join("none"), PATIENT).is_err(), "a reader makes nothing");
}

/// A disk that is unmounted leaves its empty mount point: nothing is written there, nothing is believed of it.
#[tokio::test]
async fn an_unmounted_mirror_takes_and_tells_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let (root, away) = (dir.path().join("mirror"), dir.path().join("away"));
    let mirror = open(&root, "a").unwrap();
    fs::rename(&root, &away).unwrap();
    for mount_point in [false, true] {
        if mount_point {
            fs::create_dir(&root).unwrap();
        }
        let put = mirror.put_head(&lerna(), "head").await;
        assert!(matches!(put, Err(BlobError::NotMarked { .. })), "{put:?}");
        let segments = mirror.reader().segments(&lerna()).await;
        assert!(matches!(segments, Err(BlobError::NotMarked { .. })), "{segments:?}");
    }
    assert!(fs::read_dir(&root).unwrap().next().is_none());
    fs::remove_dir(&root).unwrap();
    fs::rename(&away, &root).unwrap();
    mirror.put_head(&lerna(), "head").await.unwrap();
}

#[tokio::test]
async fn a_segment_has_its_limits() {
    let dir = tempfile::tempdir().unwrap();
    let mirror = open(&dir.path().join("m"), "a").unwrap();
    assert_eq!(u64::try_from(MOST_OF_A_SEGMENT).unwrap(), MAX_SEGMENT_BYTES);
    let rng = SystemRng::new();
    let large = mirror.put_segment(&lerna(), 0, 1, vec![0; MOST_OF_A_SEGMENT + 1], &rng).await;
    assert!(matches!(large, Err(BlobError::TooLarge { .. })));
    let empty = mirror.put_segment(&lerna(), 7, 7, vec![], &rng).await;
    assert!(matches!(empty, Err(BlobError::EmptyRange { from: 7, size: 7 })));
    assert_eq!(mirror.reader().segments(&lerna()).await.unwrap().found, []);
}

/// What a crash within a write leaves beside the segments is no segment, and a write that fails says why.
#[tokio::test]
async fn leftovers_are_not_seen_and_failures_are_told() {
    let (dir, files) = two_replicas().await;
    let root = dir.path().join("mirror");
    let mut staged = files[4].clone().into_os_string();
    staged.push("#1");
    fs::write(&staged, "half a segm").unwrap();
    assert_eq!(verify_mirror(&root, &key().verifier_key(), &[]).status.code(), Some(0));

    let mirror = open(&root, "sandyq-0").unwrap();
    let segments = root.join("lerna/segments");
    fs::remove_dir_all(&segments).unwrap();
    fs::write(&segments, "no directory").unwrap();
    let error = mirror.put_segment(&lerna(), 0, 1, vec![1], &SystemRng::new()).await.unwrap_err();
    assert!(error.to_string().starts_with("cannot write lerna/segments/"), "{error}");
    assert!(error.source().unwrap().to_string().contains("Not a directory"), "{:?}", error.source());
}

/// Whoever may not read the mirror is told so, by the command, without a verdict on the log.
#[tokio::test]
async fn permission_denied_is_told() {
    let (dir, files) = two_replicas().await;
    let root = dir.path().join("mirror");
    let open_to_all = |path: &Path| fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    open_to_all(dir.path());
    open_to_all(&root);
    for (closed, told) in [
        (files[0].clone(), "cannot read lerna/segments/"),
        (root.join("lerna/segments"), "cannot list lerna/segments"),
        (root.join("sandyq-mirror"), "as a mirror"),
    ] {
        let before = fs::metadata(&closed).unwrap().permissions();
        fs::set_permissions(&closed, fs::Permissions::from_mode(0o000)).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandyq"));
        command.args(["audit", "verify-mirror", root.to_str().unwrap(), "--platform", "lerna"]);
        command.args(["--key", &key().verifier_key()]);
        if fs::metadata(&root).unwrap().uid() == 0 {
            // The superuser may read everything.
            command.uid(65_534);
        }
        let output = command.output().unwrap();
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(told) && said.matches("Permission denied").count() == 1, "{told}: {said}");
        fs::set_permissions(&closed, before).unwrap();
    }
}

/// A named pipe without a writer stands for a disk that does not answer. Operations end in time, take no more than
/// their slots, and go on once the disk does.
#[tokio::test]
async fn a_stalled_disk_is_not_waited_for() {
    let (dir, files) = two_replicas().await;
    let root = dir.path().join("mirror");
    let mut names = open(&root, "x").unwrap().reader().segments(&lerna()).await.unwrap().found;
    let (stalled, other) = (names.pop().unwrap(), names.pop().unwrap());
    fs::remove_file(&files[4]).unwrap();
    assert!(Command::new("mkfifo").arg(&files[4]).status().unwrap().success());
    let hasty = Mirror::directory(&root, "x".parse().unwrap(), Duration::from_millis(50)).unwrap();
    let mut ends = Vec::new();
    for _ in 0..8 {
        ends.push(hasty.reader().read_segment(&stalled).await.map(drop));
    }
    // No slot is left, so nothing more is begun; what writes has slots of its own.
    ends.push(hasty.reader().read_segment(&other).await.map(drop));
    let mut put = Err(());
    for _ in 0..200 {
        put = hasty.put_head(&lerna(), "head").await.map_err(drop);
        if put.is_ok() {
            break;
        }
    }
    // Before anything is asserted: a thread that waits for the pipe would hold the test's end.
    drop(fs::OpenOptions::new().write(true).open(&files[4]).unwrap());
    for read in ends {
        assert!(matches!(read, Err(BlobError::TimedOut { doing: "read", .. })), "{read:?}");
    }
    assert_eq!(put, Ok(()));
    assert!(root.join("lerna/heads/x").exists());
    let mut outcome = Err(());
    for _ in 0..200 {
        outcome = hasty.reader().read_segment(&other).await.map(drop).map_err(drop);
        if outcome.is_ok() {
            break;
        }
    }
    assert_eq!(outcome, Ok(()), "the slots are free again");
}

/// The log of a served vault, mirrored, and exports of it from before and after.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_held_against_the_mirror() {
    let served = Served::start().await;
    served.store(1).await;
    let older = export(&served, "older");
    served.store(2).await;
    let middle = export(&served, "middle");
    served.store(3).await;
    let newer = export(&served, "newer");
    let key = served.running.verifier_key.clone();

    let root = served.dir.path().join("mirror");
    let mirror = open(&root, "sandyq-0").unwrap();
    let bundle = fs::read_dir(newer.join("tile/entries/000.p")).unwrap().next().unwrap().unwrap().path();
    let bundle = fs::read(bundle).unwrap();
    let log: Vec<Vec<u8>> = split_bundle(&bundle).unwrap().into_iter().map(<[u8]>::to_vec).collect();
    let mut from = 0;
    for export in [&older, &middle] {
        let checkpoint = fs::read_to_string(export.join("checkpoint")).unwrap();
        let size = checkpoint.lines().nth(1).unwrap().parse().unwrap();
        put(&mirror, &log, from, size, &checkpoint).await;
        mirror.put_head(&lerna(), &checkpoint).await.unwrap();
        from = size;
    }
    let against = |dir: &Path| {
        let output = verify_mirror(&root, &key, &["--against", dir.to_str().unwrap()]);
        (output.status.code(), report(&output))
    };
    for export in [&middle, &newer] {
        let (code, found) = against(export);
        assert_eq!((code, found["export"]["verified"].as_bool()), (Some(0), Some(true)), "{found}");
    }
    let (code, found) = against(&older);
    assert_eq!((code, found["verified"].as_bool()), (Some(3), Some(true)), "the mirror itself holds");
    assert!(found["export"]["findings"][0].as_str().unwrap().contains("cut back"), "{found}");
    served.running.stop().await.unwrap();
}

fn export(served: &Served, name: &str) -> PathBuf {
    let out = served.dir.path().join(name);
    let status = Command::new(env!("CARGO_BIN_EXE_sandyq"))
        .args(["audit", "export", "--platform", "lerna", "--connection"])
        .arg(served.running.installation.connection_path("auditor"))
        .arg("--out")
        .arg(&out)
        .output();
    assert!(status.unwrap().status.success());
    out
}
