//! The audit key rotated: every log goes over to the new key, whatever stops the work, and whoever has the first key alone
//! still verifies everything.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Output},
    time::Duration,
};

use sandyq::{
    audit::{
        chain::ANNOUNCE,
        entry::Entry,
        layout::{CHECKPOINT, HEADS, RIGHT_EDGE, entries_path, tile_path},
        tree::tile_width,
    },
    blobs::mirror::Mirror,
    domain::{
        ids::PlatformId,
        operation::{Operation, OperationState, Phase},
    },
    grpc::pb::{self, key_service_client::KeyServiceClient},
    policy::decide::Denial,
    vault::{
        act::Asker,
        audit_log::Piece,
        error::VaultError,
        keys::{KeyKind, KeyState},
        page::PageAsk,
    },
};

use crate::{
    common::{
        backend::{Backend, on_both},
        gate::{PASS, gated},
        house::{House, proposed, state},
        operations::{operation, work_once},
        people::{bin, iin},
        second::second_verifier,
        served::request_id,
        vault::{OpenVault, PLATFORM, as_admin, staff},
    },
    reconciled::{found, reconcile},
};

const SECOND: i64 = 1_000_000;
const MINUTE: i64 = 60 * SECOND;

async fn begin(open: &OpenVault) -> Result<Operation, VaultError> {
    open.vault.rotate_key(&open.admin(), as_admin(), "vault", KeyKind::Audit, 0).await
}

async fn versions(open: &OpenVault) -> Vec<(u32, KeyState)> {
    let page = PageAsk { size: 100, after: None };
    let keys = open.vault.list_keys(&open.admin(), as_admin(), "vault", page).await.unwrap().rows;
    keys.iter().filter(|row| row.kind == "audit").map(|row| (row.version, row.state)).collect()
}

async fn other_platform(open: &OpenVault, name: &str, number: u32) {
    let (name, bin) = (name.parse().unwrap(), bin(number));
    let made = open.vault.create_platform(&open.admin(), as_admin(), name, "ТОО «Басқа»".into(), bin).await;
    made.unwrap();
}

fn write(dir: &Path, path: &str, bytes: impl AsRef<[u8]>) {
    let file = dir.join(path);
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(file, bytes).unwrap();
}

/// A platform's log in a directory, as an auditor exports it.
async fn export(open: &OpenVault, dir: &Path, platform: &str) -> PathBuf {
    let asker = Asker { spiffe_id: staff("auditor"), key: [0; 32], request: None };
    let auditor = open.vault.caller(&asker.spiffe_id).unwrap();
    let (_, mut pieces) = open.vault.export_log(&auditor, asker, platform, 0).await.unwrap();
    let dir = dir.join("export").join(platform);
    let _missing = fs::remove_dir_all(&dir);
    let mut size = 0;
    while let Some(piece) = pieces.recv().await {
        match piece.unwrap() {
            Piece::Head(head) => {
                size = head.size;
                write(&dir, CHECKPOINT, head.checkpoint);
            }
            Piece::SecondHead(head) => write(&dir, &format!("{HEADS}/{}", head.second), head.checkpoint),
            Piece::Tile { level, index, hashes } => {
                write(&dir, &tile_path(level, index, hashes.len() / 32), hashes);
            }
            Piece::Entries { index, bundle } => {
                write(&dir, &entries_path(index, tile_width(size, 0, index)), bundle);
            }
            Piece::RightEdge(edge) => {
                let lines: String = edge.iter().map(|h| data_encoding::HEXLOWER.encode(h) + "\n").collect();
                write(&dir, RIGHT_EDGE, lines);
            }
        }
    }
    dir
}

fn sandyq(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sandyq")).args(args).output().unwrap()
}

/// What both verifiers say of an export; they must agree.
fn verify(dir: &Path, key: &str) -> (Option<i32>, serde_json::Value) {
    let dir = dir.to_str().unwrap();
    let output = sandyq(&["audit", "verify", dir, "--key", key, "--json"]);
    let (second, said) = second_verifier(&["export", dir, "--key", key]);
    assert_eq!(second, output.status.code(), "the second verifier says otherwise: {said}");
    (second, serde_json::from_slice(&output.stdout).unwrap())
}

/// What both verifiers say of a mirrored log.
fn verify_mirror(dir: &Path, key: &str, platform: &str) -> Option<i32> {
    let dir = dir.to_str().unwrap();
    let output = sandyq(&["audit", "verify-mirror", dir, "--key", key, "--platform", platform, "--json"]);
    let (second, said) = second_verifier(&["mirror", dir, "--key", key, "--platform", platform]);
    let first = String::from_utf8_lossy(&output.stdout);
    assert_eq!(second, output.status.code(), "the second verifier says otherwise: {said}, the first {first}");
    second
}

on_both!(every_log_goes_over_and_the_first_key_still_verifies);
async fn every_log_goes_over_and_the_first_key_still_verifies(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let mirror =
        || Mirror::directory(&dir.path().join("mirror"), "a".parse().unwrap(), Duration::from_mins(1));
    let open = OpenVault::create_mirrored(&backend, dir.path(), Some(mirror().unwrap()), |store| store).await;
    open.enrol_auditor().await;
    other_platform(&open, "quiet", 1).await;
    let before = open.store_iin(1).await;
    let first = open.vault.verifier_key();
    // A log keeps one head a second: one that the first key alone signed must stay.
    open.clock.advance(2 * SECOND);

    let refused = open.vault.rotate_key(&open.admin(), as_admin(), "lerna", KeyKind::Audit, 0).await;
    assert!(matches!(refused, Err(VaultError::Invalid(_))), "it is the vault's own: {refused:?}");
    let plan = open.vault.plan_rotation(&open.admin(), as_admin(), "vault", KeyKind::Audit, 0).await.unwrap();
    assert_eq!((plan.version, plan.logs, plan.subject_keys, plan.blockers.len()), (2, 3, 0, 0));
    assert_eq!(versions(&open).await, [(1, KeyState::Active)], "a plan changes nothing");
    let begun = begin(&open).await.unwrap();
    assert_eq!((begun.phase, begun.key_version, begun.total), (Phase::Activate, 2, 6));
    assert_eq!(begin(&open).await.err(), Some(Denial::RotationRunning.into()));
    assert_eq!(open.vault.verifier_key(), first, "it is not active yet");
    work_once(&open).await.unwrap();
    let done = operation(&open, begun.id).await;
    assert_eq!((done.state, done.done), (OperationState::Done, 6));
    assert_eq!(versions(&open).await, [(1, KeyState::Retiring), (2, KeyState::Active)]);
    let second = open.vault.verifier_key();
    assert_ne!(second, first);
    open.store_iin(2).await;
    assert_eq!(open.detokenize(&before.tokens[0].token).await.unwrap().value.expose(), iin(1));
    other_platform(&open, "younger", 2).await;

    for platform in ["lerna", "quiet", "vault"] {
        let log = export(&open, dir.path(), platform).await;
        let (code, report) = verify(&log, &first);
        assert_eq!(code, Some(0), "{platform}: {report}");
        let handed = report["handovers"].as_array().unwrap();
        assert_eq!(handed.len(), 1, "{platform}");
        assert_eq!(handed[0]["verifier_key"].as_str().unwrap(), second, "{platform}");
        assert_eq!(verify(&log, &second).0, Some(3), "heads of before are by a key that nobody vouched for");
    }
    // A log that began after the rotation has only ever known the new key.
    let younger = export(&open, dir.path(), "younger").await;
    assert_eq!(verify(&younger, &first).0, Some(3));
    assert_eq!(verify(&younger, &second).0, Some(0));
    let both = dir.path().join("keys");
    fs::write(&both, format!("{first}\n{second}\n")).unwrap();
    let both = both.to_str().unwrap();
    for platform in ["lerna", "younger"] {
        assert_eq!(verify(&export(&open, dir.path(), platform).await, both).0, Some(0), "{platform}");
    }
    for platform in ["lerna", "vault"] {
        assert_eq!(found(&reconcile(&open, platform).await), [], "{platform}");
    }
    open.vault.close().await;
    for platform in ["lerna", "quiet", "vault"] {
        assert_eq!(verify_mirror(&dir.path().join("mirror"), &first, platform), Some(0), "{platform}");
    }
    assert_eq!(verify_mirror(&dir.path().join("mirror"), &second, "lerna"), Some(3));

    // A restart goes on by the new key, and a second rotation from there.
    drop(open);
    let open = OpenVault::open(&backend, dir.path(), Some(mirror().unwrap())).await.unwrap();
    assert_eq!(open.vault.verifier_key(), second);
    // Its clock began anew: time goes on from where the log is.
    open.clock.advance(4 * SECOND);
    let begun = begin(&open).await.unwrap();
    work_once(&open).await.unwrap();
    assert_eq!(operation(&open, begun.id).await.state, OperationState::Done);
    open.store_iin(3).await;
    let log = export(&open, dir.path(), "lerna").await;
    let (code, report) = verify(&log, &first);
    assert_eq!((code, report["handovers"].as_array().unwrap().len()), (Some(0), 2), "{report}");
    open.vault.close().await;
    assert_eq!(verify_mirror(&dir.path().join("mirror"), &first, "lerna"), Some(0));
}

// Without the old key's signature on the head that covers the announcement, nobody vouches for the new key.
on_both!(an_unannounced_key_is_refused);
async fn an_unannounced_key_is_refused(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    open.enrol_auditor().await;
    let first = open.vault.verifier_key();
    begin(&open).await.unwrap();
    work_once(&open).await.unwrap();
    open.store_iin(1).await;
    let log = export(&open, dir.path(), "lerna").await;
    assert_eq!(verify(&log, &first).0, Some(0));
    for head in fs::read_dir(log.join(HEADS)).unwrap() {
        let path = head.unwrap().path();
        let text = fs::read_to_string(&path).unwrap();
        let signatures = text.lines().filter(|line| line.starts_with('—')).count();
        if signatures == 2 {
            let old = text.lines().find(|line| line.starts_with('—')).unwrap();
            fs::write(&path, text.replacen(&format!("{old}\n"), "", 1)).unwrap();
        }
    }
    let checkpoint = fs::read_to_string(log.join(CHECKPOINT)).unwrap();
    let signatures: Vec<_> = checkpoint.lines().filter(|line| line.starts_with('—')).collect();
    if let [old, _] = signatures[..] {
        fs::write(log.join(CHECKPOINT), checkpoint.replacen(&format!("{old}\n"), "", 1)).unwrap();
    }
    let (code, report) = verify(&log, &first);
    assert_eq!(code, Some(3), "{report}");
    assert!(report["findings"].to_string().contains("not signed by the trusted audit key"), "{report}");
}

/// A rotation whose worker stops before its n-th commit; another takes it up.
async fn killed_at(backend: &Backend, commit: u64) -> bool {
    let (dir, open, gate) = gated(&backend.fresh().await).await;
    open.enrol_auditor().await;
    other_platform(&open, "quiet", 1).await;
    let stored = open.store_iin(1).await;
    let first = open.vault.verifier_key();
    let begun = begin(&open).await.unwrap();
    gate.fail_after(commit);
    let survived = work_once(&open).await.is_ok();
    gate.set(PASS);
    assert_eq!(open.detokenize(&stored.tokens[0].token).await.unwrap().value.expose(), iin(1));
    open.store_iin(2).await;
    open.clock.advance(2 * MINUTE);
    work_once(&open).await.unwrap();
    assert_eq!(operation(&open, begun.id).await.state, OperationState::Done, "commit {commit}");
    assert_eq!(versions(&open).await, [(1, KeyState::Retiring), (2, KeyState::Active)]);
    for platform in [PlatformId::VAULT, PLATFORM, PlatformId::new(2)] {
        let size = u32::try_from(gate.inner.tree(platform).await.unwrap().head.counters.size).unwrap();
        let rows = gate.inner.entries(platform, 0, size).await.unwrap();
        let calls = rows.iter().map(|row| Entry::decode(&row.entry).unwrap().call);
        assert_eq!(calls.filter(|call| call == ANNOUNCE).count(), 1, "announced once, commit {commit}");
    }
    let lerna = export(&open, dir.path(), "lerna").await;
    let output = sandyq(&["audit", "verify", lerna.to_str().unwrap(), "--key", &first]);
    assert!(output.status.success(), "commit {commit}: {}", String::from_utf8_lossy(&output.stderr));
    survived
}

on_both!(whatever_stops_it_every_log_goes_over_once);
async fn whatever_stops_it_every_log_goes_over_once(backend: Backend) {
    let mut commit = 0;
    while !killed_at(&backend, commit).await {
        commit += 1;
    }
    println!("stopped before each of {commit} commits");
    assert!(commit >= 6, "take, activate, two logs, verify, end");
}

/// On PostgreSQL alone: SQLite has one process.
#[tokio::test(flavor = "multi_thread")]
async fn another_replica_signs_with_the_new_key() {
    let backend = Backend::postgres().await;
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    open.enrol_auditor().await;
    let first = open.vault.verifier_key();
    let replica = OpenVault::open(&backend, dir.path(), None).await.unwrap();
    let started = open.clock.now();
    let beat = async |of: &OpenVault, name: &str| {
        of.vault.beat(&name.parse().unwrap(), started).await.unwrap();
    };
    beat(&open, "here").await;
    beat(&replica, "there").await;
    let begun = begin(&open).await.unwrap();
    work_once(&open).await.unwrap();
    assert_eq!(operation(&open, begun.id).await.state, OperationState::Waiting, "one lacks the key");
    beat(&open, "here").await;
    beat(&replica, "there").await;
    // Both write while one hands over.
    replica.store_iin(1).await;
    work_once(&open).await.unwrap();
    assert_eq!(operation(&open, begun.id).await.state, OperationState::Done);
    for number in 2..6 {
        let from = if number % 2 == 0 { &replica } else { &open };
        from.store_iin(number).await;
    }
    assert_eq!(replica.vault.verifier_key(), open.vault.verifier_key());
    let (code, report) = verify(&export(&replica, dir.path(), "lerna").await, &first);
    assert_eq!((code, report["handovers"].as_array().unwrap().len()), (Some(0), 1), "{report}");
}

on_both!(two_people_rotate_the_audit_key);
async fn two_people_rotate_the_audit_key(backend: Backend) {
    let house = House::new(&backend).await;
    let mut keys = KeyServiceClient::new(house.served.channel("admin").await);
    let request = |validate_only| pb::RotateKeyRequest {
        request_id: request_id(),
        platform: "vault".into(),
        kind: pb::KeyKind::Audit.into(),
        rate: 0,
        validate_only,
    };
    let plan = keys.rotate_key(request(true)).await.unwrap().into_inner().outcome.unwrap();
    assert!(matches!(plan, pb::rotate_key_response::Outcome::Plan(_)), "looking needs nobody else");
    let proposal = proposed!(keys, rotate_key(request(false)) in rotate_key_response);
    let listed = async || {
        let request = pb::ListKeysRequest { platform: "vault".into(), ..pb::ListKeysRequest::default() };
        let mut keys = KeyServiceClient::new(house.served.channel("admin").await);
        let all = keys.list_keys(request).await.unwrap().into_inner().keys;
        all.into_iter().filter(|key| key.kind() == pb::KeyKind::Audit).collect::<Vec<_>>()
    };
    assert_eq!(listed().await.len(), 1, "a proposal makes no key");
    assert_eq!(house.approve("admin2", &proposal).await.unwrap_err(), "OWN_PROPOSAL");
    assert_eq!(house.approve("local", &proposal).await.unwrap_err(), "CALLER_NOT_ALLOWED");
    let record = house.approve("second", &proposal).await.unwrap();
    assert_eq!(state(&record), pb::ProposalState::Approved);
    let made = listed().await;
    assert_eq!(made.len(), 2);
    assert_eq!(made[0].verifier_key, house.served.running.verifier_key);
    assert!(made[1].verifier_key.starts_with("vault.example.kz+"), "{made:?}");
    // A platform's key is one officer's to rotate.
    let request = pb::RotateKeyRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        kind: pb::KeyKind::Platform.into(),
        ..pb::RotateKeyRequest::default()
    };
    let begun = keys.rotate_key(request).await.unwrap().into_inner().outcome.unwrap();
    assert!(matches!(begun, pb::rotate_key_response::Outcome::Operation(_)));
    house.served.running.stop().await.unwrap();
}
