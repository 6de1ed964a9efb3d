//! The root key rotated: every key of every platform goes under the new version, whatever stops the work; backups of before open
//! as long as the old version is there, and a start needs it no more.

use std::{collections::BTreeSet, path::Path, sync::Arc, time::Duration};

use sandyq::{
    audit::head::HeadVerifier,
    crypto::{
        aead::wrap_version,
        kms::{Kms, RootVersions, local::LocalKms},
        random::SystemRng,
    },
    domain::operation::{Operation, OperationState, Phase},
    grpc::pb::{self, key_service_client::KeyServiceClient},
    policy::decide::Denial,
    store::Store,
    vault::{
        act::Asker,
        backup::{BackupError, Only, OpenBackup},
        controls::Control,
        error::VaultError,
        keys::{KeyKind, KeyState},
        root_key::RootVersion,
    },
};

use crate::{
    backups::{back_up, place, with_place},
    common::{
        backend::{Backend, on_both},
        gate::{PASS, gated},
        house::{House, proposed, state},
        operations::{operation, work_once},
        people::{bin, iin},
        served::request_id,
        vault::{OpenVault, PLATFORM, as_admin, staff},
    },
    reconciled::{found, reconcile},
};

const HOUR: i64 = 60 * 60 * 1_000_000;

async fn begin(open: &OpenVault) -> Result<Operation, VaultError> {
    open.vault.rotate_key(&open.admin(), as_admin(), "vault", KeyKind::Root, 0).await
}

/// Root versions that keys of all platforms are wrapped under, and how many keys.
async fn wraps(store: &Arc<dyn Store>) -> (BTreeSet<u32>, usize) {
    let (mut versions, mut keys) = (BTreeSet::new(), 0);
    for platform in store.installation().await.unwrap().unwrap().platforms {
        for row in store.config(platform.id).await.unwrap().keys {
            keys += usize::from(row.wrapped.is_some());
            versions.extend(row.wrapped.map(|wrapped| wrap_version(&wrapped).unwrap()));
        }
    }
    (versions, keys)
}

async fn other_platform(open: &OpenVault, name: &str, number: u32) {
    let (name, bin) = (name.parse().unwrap(), bin(number));
    let made = open.vault.create_platform(&open.admin(), as_admin(), name, "ТОО «Басқа»".into(), bin).await;
    made.unwrap();
}

fn present(active: u32, versions: impl IntoIterator<Item = u32>) -> RootVersions {
    RootVersions { active, present: versions.into_iter().collect() }
}

async fn destroy(open: &OpenVault, version: u32) -> Result<KeyState, VaultError> {
    let at = open.clock.now().plus(Duration::from_hours(25));
    let row = open.vault.schedule_root_destruction(&open.admin(), as_admin(), "vault", version, at).await;
    row.map(|row| row.state)
}

/// The whole life of a root version, in any KMS that has a first one.
pub async fn is_rotated_and_destroyed(backend: &Backend, kms: &Arc<dyn Kms>) {
    let dir = tempfile::tempdir().unwrap();
    let mut kept = None;
    let front = |store: Arc<dyn Store>| Arc::clone(kept.insert(store));
    let open = OpenVault::create_under(backend, dir.path(), Arc::clone(kms), None, front).await;
    let (open, store) = (with_place(open, dir.path()), kept.unwrap());
    open.enrol_auditor().await;
    other_platform(&open, "quiet", 1).await;
    let stored = open.store_iin(1).await;
    let old = back_up(&open).await;
    let (_, keys) = wraps(&store).await;

    let refused = open.vault.rotate_key(&open.admin(), as_admin(), "lerna", KeyKind::Root, 0).await;
    assert!(matches!(refused, Err(VaultError::Invalid(_))), "it is the vault's own: {refused:?}");
    let plan = open.vault.plan_rotation(&open.admin(), as_admin(), "vault", KeyKind::Root, 0).await.unwrap();
    let planned = usize::try_from(plan.platform_keys).unwrap();
    assert_eq!((plan.version, planned, plan.blockers.len()), (2, keys, 0));
    assert_eq!(kms.versions().await.unwrap(), present(1, [1]), "a plan changes nothing");
    let begun = begin(&open).await.unwrap();
    assert_eq!(begin(&open).await.err(), Some(Denial::RotationRunning.into()));
    assert_eq!(begun.phase, Phase::Activate);
    work_once(&open).await.unwrap();
    let done = operation(&open, begun.id).await;
    assert_eq!((done.state, done.key_version, done.done), (OperationState::Done, 2, done.total));
    assert_eq!(kms.versions().await.unwrap(), present(2, [1, 2]));
    assert_eq!(wraps(&store).await, ([2].into(), keys));
    let reads = async |open: &OpenVault| {
        assert_eq!(open.detokenize(&stored.tokens[0].token).await.unwrap().value.expose(), iin(1));
    };
    reads(&open).await;
    other_platform(&open, "younger", 2).await;
    assert_eq!(wraps(&store).await.0, [2].into(), "what is new is under the new version");
    for platform in ["lerna", "vault"] {
        assert_eq!(found(&reconcile(&open, platform).await), [], "{platform}");
    }

    let key = open.vault.verifier_key();
    let backup = async |dir: &Path| {
        OpenBackup::open(place(dir), old, &HeadVerifier::new(&key).unwrap(), kms.as_ref()).await
    };
    backup(dir.path()).await.unwrap().read(&mut Only(|_| ())).await.unwrap();
    assert_eq!(destroy(&open, 2).await.err(), Some(Denial::KeyActive.into()));
    assert_eq!(destroy(&open, 7).await.err(), Some(Denial::KeyNotFound.into()));
    assert_eq!(destroy(&open, 1).await, Ok(KeyState::DestructionScheduled));
    // Called off, and scheduled again.
    let operations = open.vault.operations(&open.admin(), as_admin(), "vault", page()).await.unwrap().rows;
    let scheduled = operations.iter().find(|found| found.is_open()).unwrap();
    for control in [Control::Resume(None), Control::Pause] {
        let hastened = open.vault.control(&open.admin(), as_admin(), scheduled.id, control).await;
        assert_eq!(hastened.err(), Some(Denial::OperationUncontrolled.into()), "its date was approved");
    }
    work_once(&open).await.unwrap();
    assert_eq!(kms.versions().await.unwrap(), present(2, [1, 2]));
    open.vault.control(&open.admin(), as_admin(), scheduled.id, Control::Cancel).await.unwrap();
    two_days(&open).await;
    assert_eq!(kms.versions().await.unwrap(), present(2, [1, 2]), "it was called off");
    destroy(&open, 1).await.unwrap();
    two_days(&open).await;
    assert_eq!(kms.versions().await.unwrap(), present(2, [2]));
    let gone = backup(dir.path()).await.err().unwrap();
    assert!(matches!(gone, BackupError::RootGone(1)), "{gone}");

    // A start needs the old version no more; a second rotation goes on from here.
    open.vault.close().await;
    drop((open, store));
    let open = OpenVault::open_under(backend, dir.path(), Arc::clone(kms), None).await.unwrap();
    reads(&open).await;
    // Its clock is four days behind the log, in which work that begins now would be due.
    two_days(&open).await;
    two_days(&open).await;
    begin(&open).await.unwrap();
    work_once(&open).await.unwrap();
    assert_eq!(kms.versions().await.unwrap(), present(3, [2, 3]));
    reads(&open).await;
    open.vault.close().await;
}

/// Time passes, with somebody at work in the vault's log, and what is due is done.
async fn two_days(open: &OpenVault) {
    for _ in 0..4 {
        open.clock.advance(12 * HOUR);
        open.vault.list_keys(&open.admin(), as_admin(), "vault", page()).await.unwrap();
    }
    work_once(open).await.unwrap();
}

fn page() -> sandyq::vault::page::PageAsk {
    sandyq::vault::page::PageAsk { size: 100, after: None }
}

on_both!(a_root_in_a_file_is_rotated);
async fn a_root_in_a_file_is_rotated(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let kms = LocalKms::create(&dir.path().join("r"), &dir.path().join("u"), &SystemRng::new()).unwrap();
    let kms: Arc<dyn Kms> = Arc::new(kms);
    is_rotated_and_destroyed(&backend, &kms).await;
}

/// A rotation whose worker stops before its n-th commit; another takes it up.
async fn killed_at(backend: &Backend, commit: u64) -> bool {
    let (dir, open, gate) = gated(&backend.fresh().await).await;
    let stored = open.store_iin(1).await;
    let begun = begin(&open).await.unwrap();
    gate.fail_after(commit);
    let survived = work_once(&open).await.is_ok();
    gate.set(PASS);
    let reads = async || {
        assert_eq!(open.detokenize(&stored.tokens[0].token).await.unwrap().value.expose(), iin(1));
    };
    reads().await;
    let store = Arc::clone(&gate.inner);
    // A platform that is made in the middle is not forgotten.
    other_platform(&open, "younger", 1).await;
    open.clock.advance(HOUR / 30);
    work_once(&open).await.unwrap();
    assert_eq!(operation(&open, begun.id).await.state, OperationState::Done, "commit {commit}");
    let kms = LocalKms::open(&dir.path().join("root"), &dir.path().join("unseal")).unwrap();
    assert_eq!(kms.versions().await.unwrap(), present(2, [1, 2]), "one version was made, commit {commit}");
    assert_eq!(wraps(&store).await.0, [2].into(), "commit {commit}");
    reads().await;
    survived
}

on_both!(whatever_stops_it_every_key_goes_under_the_new_root);
async fn whatever_stops_it_every_key_goes_under_the_new_root(backend: Backend) {
    let mut commit = 0;
    while !killed_at(&backend, commit).await {
        commit += 1;
    }
    println!("stopped before each of {commit} commits");
    assert!(commit >= 8, "take, make, activate, two platforms with a step each, verify, end");
}

on_both!(a_root_that_wraps_is_not_destroyed);
async fn a_root_that_wraps_is_not_destroyed(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let mut kept = None;
    let front = |store: Arc<dyn Store>| Arc::clone(kept.insert(store));
    let open = OpenVault::create(&backend, dir.path(), front).await;
    let store = kept.unwrap();
    let kms = LocalKms::open(&dir.path().join("root"), &dir.path().join("unseal")).unwrap();
    let stored = open.store_iin(1).await;
    let before = store.config(PLATFORM).await.unwrap().keys;
    // Another hand activates a version: nothing is under it.
    let made = kms.add_version(&SystemRng::new()).await.unwrap();
    kms.activate(made).await.unwrap();
    assert_eq!(destroy(&open, 1).await.err(), Some(Denial::KeyInUse.into()));
    begin(&open).await.unwrap();
    work_once(&open).await.unwrap();
    let active = kms.versions().await.unwrap().active;
    destroy(&open, 1).await.unwrap();
    // An old row is put back meanwhile: its MAC is the same, and it needs the old version.
    let row = before.iter().find(|row| row.kind == "platform").unwrap();
    let hex = data_encoding::HEXLOWER.encode(row.wrapped.as_ref().unwrap().as_bytes());
    let bytes = match backend {
        Backend::Sqlite => format!("x'{hex}'"),
        Backend::Postgres(_) => format!("'\\x{hex}'::bytea"),
    };
    let back =
        format!("UPDATE key_versions SET wrapped = {bytes} WHERE platform_id = 1 AND kind = 'platform'");
    assert_eq!(backend.sql(dir.path(), &back).await, 1);
    two_days(&open).await;
    assert_eq!(kms.versions().await.unwrap(), present(active, 1..=active), "a key needs it");
    assert_eq!(open.detokenize(&stored.tokens[0].token).await.unwrap().value.expose(), iin(1));
}

on_both!(an_operation_alone_destroys_no_root);
async fn an_operation_alone_destroys_no_root(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    let kms = LocalKms::open(&dir.path().join("root"), &dir.path().join("unseal")).unwrap();
    begin(&open).await.unwrap();
    work_once(&open).await.unwrap();
    destroy(&open, 1).await.unwrap();
    let rows = async || {
        let keys = open.vault.list_keys(&open.admin(), as_admin(), "vault", page()).await.unwrap().rows;
        let roots = keys.into_iter().filter(|row| row.kind == "root");
        roots.map(|row| (row.version, row.state)).collect::<Vec<_>>()
    };
    assert_eq!(rows().await, [(1, KeyState::DestructionScheduled), (2, KeyState::Active)]);
    // The date of the operation is moved behind the vault; that of the version is under a MAC.
    let hasten = "UPDATE operations SET due_at = 0 WHERE kind = 'destroy_root_key' AND state = 'waiting'";
    assert_eq!(backend.sql(dir.path(), hasten).await, 1);
    work_once(&open).await.unwrap();
    assert_eq!(kms.versions().await.unwrap(), present(2, [1, 2]));
    let revive = "UPDATE operations SET state = 'waiting', ended_at = NULL, key_version = 2 \
                  WHERE kind = 'destroy_root_key'";
    assert_eq!(backend.sql(dir.path(), revive).await, 1);
    two_days(&open).await;
    assert_eq!(kms.versions().await.unwrap(), present(2, [1, 2]), "another version than the scheduled one");
    // And a date that was edited under it is believed by nobody.
    let edit = "UPDATE key_versions SET destroy_at = 0 WHERE kind = 'root' AND version = 1";
    assert_eq!(backend.sql(dir.path(), edit).await, 1);
    open.vault.close().await;
    drop(open);
    let refused = OpenVault::open(&backend, dir.path(), None).await.err().unwrap();
    assert!(refused.to_string().contains("key_versions"), "{refused}");
}

on_both!(a_damaged_key_ends_the_rotation_of_the_root);
async fn a_damaged_key_ends_the_rotation_of_the_root(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let mut kept = None;
    let front = |store: Arc<dyn Store>| Arc::clone(kept.insert(store));
    let open = OpenVault::create(&backend, dir.path(), front).await;
    let store = kept.unwrap();
    let stored = open.store_iin(1).await;
    let rows = store.config(PLATFORM).await.unwrap().keys;
    let row = rows.iter().find(|row| row.kind == "platform").unwrap();
    let mut bytes = row.wrapped.as_ref().unwrap().as_bytes().to_vec();
    *bytes.last_mut().unwrap() ^= 1;
    let hex = data_encoding::HEXLOWER.encode(&bytes);
    let bytes = match backend {
        Backend::Sqlite => format!("x'{hex}'"),
        Backend::Postgres(_) => format!("'\\x{hex}'::bytea"),
    };
    let damage =
        format!("UPDATE key_versions SET wrapped = {bytes} WHERE platform_id = 1 AND kind = 'platform'");
    assert_eq!(backend.sql(dir.path(), &damage).await, 1);
    let begun = begin(&open).await.unwrap();
    work_once(&open).await.unwrap();
    assert_eq!(operation(&open, begun.id).await.state, OperationState::Failed);
    // What is open stays open, and what the damaged row needs is kept.
    assert_eq!(open.detokenize(&stored.tokens[0].token).await.unwrap().value.expose(), iin(1));
    assert_eq!(destroy(&open, 1).await.err(), Some(Denial::KeyInUse.into()));
    open.vault.close().await;
}

on_both!(the_kms_is_not_asked_for_somebody_who_may_not);
async fn the_kms_is_not_asked_for_somebody_who_may_not(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    open.enrol_auditor().await;
    std::fs::remove_file(dir.path().join("root")).unwrap();
    let at = open.clock.now().plus(Duration::from_hours(25));
    let auditor = open.vault.caller(&staff("auditor")).unwrap();
    let asker = Asker { spiffe_id: staff("auditor"), key: [0; 32], request: None };
    let refused = open.vault.schedule_root_destruction(&auditor, asker, "vault", 1, at).await.err();
    assert_eq!(refused, Some(Denial::CallerNotAllowed.into()));
    assert_eq!(destroy(&open, 1).await.err(), Some(VaultError::Unavailable), "the KMS is away");
    open.vault.close().await;
}

on_both!(what_is_wrong_with_the_kms_is_said_in_words);
async fn what_is_wrong_with_the_kms_is_said_in_words(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    let report = async || open.vault.kms_report(&open.admin(), as_admin()).await.unwrap();
    let well = report().await;
    assert_eq!(well.steps.iter().map(|step| step.name).collect::<Vec<_>>(), ["versions", "wrap", "unwrap"]);
    assert!(well.problems.is_empty() && well.place.starts_with("local root key in"), "{well:?}");
    assert!(matches!(well.roots[..], [RootVersion { version: 1, active: true, present: true, keys: 9.. }]));

    let files = (dir.path().join("root"), dir.path().join("unseal"));
    let kms = LocalKms::open(&files.0, &files.1).unwrap();
    let made = kms.add_version(&SystemRng::new()).await.unwrap();
    assert!(report().await.problems[0].starts_with("root version 2 is newer"), "{:?}", report().await);
    kms.activate(made).await.unwrap();
    assert!(report().await.problems[0].starts_with("root version 1 still wraps"), "{:?}", report().await);
    kms.destroy(1).await.unwrap();
    assert!(
        report().await.problems[0].contains("wraps 9 keys and is not in the KMS"),
        "{:?}",
        report().await
    );

    std::fs::rename(&files.1, dir.path().join("away")).unwrap();
    let away = report().await;
    assert_eq!(away.problems.len(), 2, "versions and wrap; there is nothing to unwrap: {away:?}");
    assert!(away.problems[0].starts_with("versions failed: cannot read"), "{away:?}");
    let payments = open.caller("payments");
    let refused = open.vault.kms_report(&payments, crate::common::vault::asker("payments")).await;
    assert_eq!(refused.err(), Some(Denial::CallerNotAllowed.into()));
}

on_both!(two_people_rotate_and_destroy_a_root);
async fn two_people_rotate_and_destroy_a_root(backend: Backend) {
    let house = House::new(&backend).await;
    let mut keys = KeyServiceClient::new(house.served.channel("admin").await);
    let request = pb::RotateKeyRequest {
        request_id: request_id(),
        platform: "vault".into(),
        kind: pb::KeyKind::Root.into(),
        ..pb::RotateKeyRequest::default()
    };
    let kms = LocalKms::open(&house.served.file("root.json"), &house.served.file("unseal.key")).unwrap();
    let proposal = proposed!(keys, rotate_key(request) in rotate_key_response);
    assert_eq!(house.approve("admin2", &proposal).await.unwrap_err(), "OWN_PROPOSAL");
    assert_eq!(house.approve("local", &proposal).await.unwrap_err(), "CALLER_NOT_ALLOWED");
    assert_eq!(kms.versions().await.unwrap(), present(1, [1]), "a proposal makes no version");
    let record = house.approve("second", &proposal).await.unwrap();
    assert_eq!(state(&record), pb::ProposalState::Approved);
    let destroy = pb::ScheduleKeyDestructionRequest {
        request_id: request_id(),
        platform: "vault".into(),
        version: 1,
        kind: pb::KeyKind::Root.into(),
        destroy_time: Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 }),
    };
    let refused = keys.schedule_key_destruction(destroy).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::InvalidArgument, "no more than a year ahead: {refused}");
    house.served.running.stop().await.unwrap();
}
