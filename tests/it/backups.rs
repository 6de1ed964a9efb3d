//! Backups: of one moment, sealed, signed, and refused where a byte of them differs.

use std::{collections::BTreeSet, fs, path::Path, sync::Arc, time::Duration};

use sandyq::{
    audit::head::HeadVerifier,
    blobs::backups::Backups,
    crypto::kms::local::LocalKms,
    domain::{
        ids::{BackupId, OperationId},
        operation::{Operation, OperationState},
    },
    policy::decide::Denial,
    vault::{
        Vault,
        access::Call,
        backup::{BackupError, Only, OpenBackup},
        controls::Control,
        error::VaultError,
    },
};

use crate::common::{
    backend::{Backend, many_newer_operations, on_both},
    people::iin,
    served::Served,
    vault::{OpenVault, as_admin},
};

const PATIENT: Duration = Duration::from_mins(1);
const MINUTE: i64 = 60 * 1_000_000;

pub fn place(dir: &Path) -> Backups {
    Backups::create(&dir.join("backups"), PATIENT).unwrap()
}

/// A vault with a place for its backups.
pub fn with_place(open: OpenVault, dir: &Path) -> OpenVault {
    OpenVault { vault: open.vault.with_backups(Some(place(dir))), clock: open.clock }
}

async fn create(backend: &Backend, dir: &Path) -> OpenVault {
    with_place(OpenVault::create(backend, dir, |store| store).await, dir)
}

async fn start(open: &OpenVault) -> Result<Operation, VaultError> {
    open.vault.start_backup(&open.admin(), as_admin()).await
}

async fn operation(open: &OpenVault, id: OperationId) -> Operation {
    open.vault.operation(&open.admin(), as_admin(), Call::GetOperation, id).await.unwrap().unwrap()
}

/// Does what is due, as the server does every few seconds.
async fn work(vault: &Vault) {
    for due in vault.work().await.unwrap().long {
        vault.work_long(&due).await.unwrap();
    }
}

/// Makes a backup.
pub async fn back_up(open: &OpenVault) -> BackupId {
    let begun = start(open).await.unwrap();
    work(&open.vault).await;
    assert_eq!(operation(open, begun.id).await.state, OperationState::Done);
    BackupId::from_bytes(*begun.id.as_bytes())
}

pub async fn open_backup(dir: &Path, key: &str, id: BackupId) -> Result<OpenBackup, BackupError> {
    let kms = LocalKms::open(&dir.join("root"), &dir.join("unseal")).unwrap();
    OpenBackup::open(place(dir), id, &HeadVerifier::new(key).unwrap(), &kms).await
}

async fn verify(dir: &Path, key: &str, id: BackupId) -> Result<OpenBackup, BackupError> {
    let opened = open_backup(dir, key, id).await?;
    opened.read(&mut Only(|_| ())).await.map(|()| opened)
}

/// Files of a backup, parts in their order.
fn files(dir: &Path, id: BackupId) -> (Vec<std::path::PathBuf>, std::path::PathBuf) {
    let root = dir.join("backups").join(id.to_string());
    let attempts = fs::read_dir(&root).unwrap().map(|e| e.unwrap().path()).filter(|path| path.is_dir());
    let mut parts: Vec<_> =
        attempts.flat_map(|attempt| fs::read_dir(attempt).unwrap()).map(|e| e.unwrap().path()).collect();
    parts.sort();
    (parts, root.join("manifest"))
}

on_both!(an_open_backup_is_found_behind_any_number_of_newer_operations);
async fn an_open_backup_is_found_behind_any_number_of_newer_operations(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = create(&backend, dir.path()).await;
    start(&open).await.unwrap();
    assert_eq!(backend.sql(dir.path(), &many_newer_operations(0, 100)).await, 100);
    assert_eq!(start(&open).await.err(), Some(Denial::BackupRunning.into()));
}

on_both!(a_backup_holds_every_table_and_no_value_in_clear);
async fn a_backup_holds_every_table_and_no_value_in_clear(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let mut kept = None;
    let open = OpenVault::create(&backend, dir.path(), |store| Arc::clone(kept.insert(store))).await;
    let open = with_place(open, dir.path());
    for number in 0..5 {
        open.store_iin(number).await;
    }
    let id = back_up(&open).await;
    let opened = verify(dir.path(), &open.vault.verifier_key(), id).await.unwrap();
    let manifest = opened.manifest();
    let tables: BTreeSet<_> = manifest.rows.keys().map(String::as_str).collect();
    for expected in [
        "audit_entries",
        "audit_heads",
        "audit_tiles",
        "budget_limits",
        "budgets",
        "callers",
        "consents",
        "heads",
        "index_entries",
        "installation",
        "key_versions",
        "operations",
        "person_roles",
        "persons",
        "platforms",
        "policies",
        "proposals",
        "recipients",
        "records",
        "requests",
        "staff_keys",
        "subject_events",
        "subjects",
        "tokens",
    ] {
        assert!(tables.contains(expected), "{expected} is missing: {tables:?}");
    }
    assert!(!tables.contains("replicas") && !tables.contains("schema_version"), "{tables:?}");
    assert_eq!((manifest.rows["subjects"], manifest.rows["tokens"], manifest.rows["callers"]), (5, 5, 4));
    assert_eq!(manifest.logs.iter().map(|log| log.name.as_str()).collect::<Vec<_>>(), ["vault", "lerna"]);
    let (parts, signed) = files(dir.path(), id);
    for file in parts.iter().chain([&signed]) {
        let bytes = fs::read(file).unwrap();
        for clear in [iin(1).as_bytes(), "user-1".as_bytes(), b"skillbox.kz", b"lerna.example.kz"] {
            assert!(!bytes.windows(clear.len()).any(|window| window == clear), "{}", file.display());
        }
    }
    let listed = open.vault.list_backups(&open.admin(), as_admin()).await.unwrap();
    assert_eq!(listed.iter().map(|manifest| manifest.backup).collect::<Vec<_>>(), [id]);
    assert_eq!(open.vault.backup(&open.admin(), as_admin(), id).await.unwrap(), *manifest);
    let unknown = BackupId::from_bytes([9; 16]);
    let missing = open.vault.backup(&open.admin(), as_admin(), unknown).await.err();
    assert_eq!(missing, Some(Denial::BackupNotFound.into()));
}

on_both!(a_backup_taken_during_writes_is_of_one_moment);
async fn a_backup_taken_during_writes_is_of_one_moment(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = create(&backend, dir.path()).await;
    open.store_iin(1_000).await;
    let writing = async {
        for number in 0..60 {
            open.store_iin(number).await;
        }
    };
    let backing = async {
        let mut ids = Vec::new();
        for _ in 0..4 {
            ids.push(back_up(&open).await);
        }
        ids
    };
    let ((), ids) = tokio::join!(writing, backing);
    let mut sizes = Vec::new();
    for id in ids {
        // Reading it compares every log with its head, and each row with what the manifest counts.
        let opened = verify(dir.path(), &open.vault.verifier_key(), id).await.unwrap();
        let manifest = opened.manifest();
        assert_eq!(manifest.rows["subjects"], manifest.rows["tokens"]);
        assert_eq!(manifest.rows["subjects"], manifest.rows["consents"]);
        sizes.push(manifest.rows["subjects"]);
    }
    assert!(sizes.is_sorted() && sizes[3] > sizes[0], "{sizes:?}");
}

on_both!(a_backup_with_one_other_byte_is_refused);
async fn a_backup_with_one_other_byte_is_refused(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = create(&backend, dir.path()).await;
    open.store_iin(1).await;
    // Enough for several parts.
    for n in 1..=9 {
        let row = format!(
            "INSERT INTO requests (platform_id, caller_id, request_id, call, body_mac, outcome, created_at, mac) \
             VALUES (1, x'{n:032x}', x'{n:032x}', 'x', x'{n:064x}', zeroblob(1000000), 0, x'{n:064x}')"
        );
        backend.sql(dir.path(), &row).await;
    }
    let (first, second) = (back_up(&open).await, back_up(&open).await);
    let key = open.vault.verifier_key();
    verify(dir.path(), &key, first).await.unwrap();
    let (parts, manifest) = files(dir.path(), first);
    assert!(parts.len() > 1, "{parts:?}");
    let whole: Vec<_> = parts.iter().map(|part| fs::read(part).unwrap()).collect();
    let signed = fs::read_to_string(&manifest).unwrap();
    let refused = async |what: &str| {
        let refused = verify(dir.path(), &key, first).await.err();
        assert!(refused.is_some(), "{what} was not found");
    };
    for at in [0, 1, 2, 13, whole[0].len() / 2, whole[0].len() - 1] {
        let mut flipped = whole[0].clone();
        flipped[at] ^= 1;
        fs::write(&parts[0], flipped).unwrap();
        refused(&format!("a flipped bit of byte {at}")).await;
    }
    fs::write(&parts[0], &whole[0][..whole[0].len() - 1]).unwrap();
    refused("a part cut").await;
    fs::write(&parts[0], &whole[1]).unwrap();
    fs::write(&parts[1], &whole[0]).unwrap();
    refused("parts swapped").await;
    fs::write(&parts[0], &whole[0]).unwrap();
    fs::remove_file(&parts[1]).unwrap();
    refused("a part gone").await;
    fs::write(&parts[1], fs::read(&files(dir.path(), second).0[1]).unwrap()).unwrap();
    refused("a part of another backup").await;
    fs::write(&parts[1], &whole[1]).unwrap();
    let parts_said = format!("\"parts\": {}", parts.len());
    assert!(signed.contains(&parts_said));
    fs::write(&manifest, signed.replace(&parts_said, "\"parts\": 1")).unwrap();
    refused("a manifest of fewer parts").await;
    fs::write(&manifest, fs::read(files(dir.path(), second).1).unwrap()).unwrap();
    refused("the manifest of another backup").await;
    fs::write(&manifest, &signed).unwrap();
    verify(dir.path(), &key, first).await.unwrap();
    let other = tempfile::tempdir().unwrap();
    let stranger =
        OpenVault::create(&Backend::Sqlite, other.path(), |store| store).await.vault.verifier_key();
    assert!(matches!(verify(dir.path(), &stranger, first).await.err(), Some(BackupError::Unsigned(_))));
    // Another root does not open its key.
    let kms = LocalKms::open(&other.path().join("root"), &other.path().join("unseal")).unwrap();
    let opened = OpenBackup::open(place(dir.path()), first, &HeadVerifier::new(&key).unwrap(), &kms).await;
    assert!(matches!(opened.err(), Some(BackupError::Kms(_))));
}

on_both!(a_backup_whose_worker_died_begins_anew);
async fn a_backup_whose_worker_died_begins_anew(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = create(&backend, dir.path()).await;
    open.store_iin(1).await;
    let begun = start(&open).await.unwrap();
    assert_eq!(start(&open).await.err(), Some(Denial::BackupRunning.into()), "one at a time");
    let id = BackupId::from_bytes(*begun.id.as_bytes());
    // A worker that took it, wrote a part, and was heard of no more.
    let due = open.vault.work().await.unwrap().long;
    let place = place(dir.path());
    drop(tokio::time::timeout(Duration::ZERO, open.vault.work_long(&due[0])).await);
    // It has taken it, before or after that was.
    while operation(&open, begun.id).await.state != OperationState::Running {}
    place.put_part(id, 1, 7, vec![1, 2, 3]).await.unwrap();
    assert!(place.list().await.unwrap().is_empty(), "without a manifest there is no backup");
    open.clock.advance(2 * MINUTE);
    work(&open.vault).await;
    assert_eq!(operation(&open, begun.id).await.state, OperationState::Done);
    verify(dir.path(), &open.vault.verifier_key(), id).await.unwrap();
    let attempts = fs::read_dir(dir.path().join("backups").join(id.to_string())).unwrap();
    let left: usize = attempts
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_dir())
        .map(|attempt| fs::read_dir(attempt).unwrap().count())
        .sum();
    assert_eq!(left, 1, "what the dead worker left is gone");
}

on_both!(a_backup_is_paused_resumed_and_cancelled);
async fn a_backup_is_paused_resumed_and_cancelled(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = create(&backend, dir.path()).await;
    open.store_iin(1).await;
    let control =
        async |id, control| open.vault.control(&open.admin(), as_admin(), id, control).await.unwrap();
    let begun = start(&open).await.unwrap();
    let due = open.vault.work().await.unwrap().long;
    control(begun.id, Control::Pause).await;
    open.vault.work_long(&due[0]).await.unwrap();
    work(&open.vault).await;
    assert_eq!(operation(&open, begun.id).await.state, OperationState::Paused, "nobody takes it up");
    assert!(place(dir.path()).list().await.unwrap().is_empty());
    control(begun.id, Control::Resume(None)).await;
    work(&open.vault).await;
    assert_eq!(operation(&open, begun.id).await.state, OperationState::Done);
    let next = start(&open).await.unwrap();
    control(next.id, Control::Cancel).await;
    work(&open.vault).await;
    assert_eq!(place(dir.path()).list().await.unwrap(), [BackupId::from_bytes(*begun.id.as_bytes())]);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_place_no_backup_begins() {
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&Backend::Sqlite, dir.path(), |store| store).await;
    assert_eq!(start(&open).await.err(), Some(Denial::BackupNotConfigured.into()));
    let listed = open.vault.list_backups(&open.admin(), as_admin()).await.err();
    assert_eq!(listed, Some(Denial::BackupNotConfigured.into()));
}

on_both!(the_command_begins_lists_and_verifies_backups);
async fn the_command_begins_lists_and_verifies_backups(backend: Backend) {
    let served = Served::start_on(&backend).await;
    served.store(1).await;
    let sandyq = |args: &[&str], connected: bool| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sandyq"));
        command.args(args).arg("--json");
        if connected {
            command.arg("--connection").arg(served.running.installation.connection_path("admin"));
        }
        command.output().unwrap()
    };
    let output = tokio::task::block_in_place(|| sandyq(&["backup", "start", "--watch"], true));
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let output = tokio::task::block_in_place(|| sandyq(&["backup", "list"], true));
    let listed: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let id = listed["backups"][0]["backup_id"].as_str().unwrap().to_owned();
    let output = tokio::task::block_in_place(|| sandyq(&["backup", "show", &id], true));
    let shown: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(shown["logs"][1]["platform"], "lerna");
    let config = served.file("sandyq.toml");
    let verify = || {
        let args = ["backup", "verify", &id, "--key", &served.running.verifier_key, "--config"];
        sandyq(&[&args[..], &[config.to_str().unwrap()]].concat(), false)
    };
    let output = tokio::task::block_in_place(verify);
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    let id: BackupId = id.parse().unwrap();
    let (parts, _) = files(served.running.installation.dir(), id);
    let mut bytes = fs::read(&parts[0]).unwrap();
    bytes[40] ^= 1;
    fs::write(&parts[0], bytes).unwrap();
    let output = tokio::task::block_in_place(verify);
    assert_eq!(output.status.code(), Some(3), "{}", String::from_utf8_lossy(&output.stderr));
    served.running.stop().await.unwrap();
}
