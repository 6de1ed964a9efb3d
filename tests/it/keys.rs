//! Keys rotated while the vault serves: every value reads at each moment, whatever stops the work, and nothing is destroyed
//! that is needed.

use std::{sync::Arc, time::Duration};

use sandyq::{
    crypto::{kms::local::LocalKms, random::SystemRng},
    domain::{
        caller::Governance,
        ids::RequestId,
        operation::{Operation, OperationState, Phase},
        time::Timestamp,
    },
    policy::decide::Denial,
    store::{Store, rows::work::ReplicaRow},
    vault::{
        VaultOptions,
        act::Asker,
        controls::Control,
        error::VaultError,
        keys::{KeyKind, KeyState, KeyUsage, WhichKey},
        page::PageAsk,
        replay::{Asked, Part},
        settings::Settings,
        tokenize::Tokenized,
    },
};

use crate::{
    common::{
        backend::{Backend, many_newer_operations, on_both},
        counting::Counting,
        gate::{PASS, gated},
        operations::{operation, work_through},
        people::iin,
        vault::{OpenVault, PLATFORM, as_admin, settings},
    },
    reconciled::{found, reconcile},
};

const MINUTE: i64 = 60 * 1_000_000;

async fn people(open: &OpenVault, numbers: std::ops::Range<u32>) -> Vec<(u32, Tokenized)> {
    let mut stored = Vec::new();
    for number in numbers {
        stored.push((number, open.store_iin(number).await));
    }
    stored
}

async fn all_read(open: &OpenVault, people: &[(u32, Tokenized)]) {
    for (number, stored) in people {
        let value = open.detokenize(&stored.tokens[0].token).await.unwrap().value;
        assert_eq!(value.expose(), iin(*number), "person {number}");
    }
}

async fn begin(open: &OpenVault) -> Result<Operation, VaultError> {
    open.vault.rotate_key(&open.admin(), as_admin(), "lerna", KeyKind::Platform, 0).await
}

const fn platform_key(version: u32) -> WhichKey {
    WhichKey { kind: KeyKind::Platform, version }
}

async fn usage(open: &OpenVault) -> Vec<(u32, KeyState, u64)> {
    let usages = open.vault.key_usage(&open.admin(), as_admin(), "lerna").await.unwrap();
    usages
        .into_iter()
        .filter(|usage| usage.kind == KeyKind::Platform)
        .map(|KeyUsage { version, state, uses, .. }| (version, state, uses))
        .collect()
}

on_both!(a_rotation_wraps_every_key_anew_and_the_log_tells_of_it);
async fn a_rotation_wraps_every_key_anew_and_the_log_tells_of_it(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    open.enrol_auditor().await;
    let mut stored = people(&open, 0..40).await;
    let plan =
        open.vault.plan_rotation(&open.admin(), as_admin(), "lerna", KeyKind::Platform, 10).await.unwrap();
    assert_eq!((plan.version, plan.subject_keys, plan.seconds, plan.blockers.len()), (2, 40, Some(4), 0));
    assert_eq!(usage(&open).await, [(1, KeyState::Active, 40)], "a plan changes nothing");

    let begun = begin(&open).await.unwrap();
    assert_eq!((begun.phase, begun.key_version, begun.total), (Phase::Activate, 2, 80));
    assert_eq!(begin(&open).await.err(), Some(Denial::RotationRunning.into()), "one at a time");
    assert_eq!(usage(&open).await, [(1, KeyState::Active, 40), (2, KeyState::Pending, 0)]);
    work_through(&open).await;
    let done = operation(&open, begun.id).await;
    assert_eq!((done.state, done.done, done.total), (OperationState::Done, 80, 80));
    assert_eq!(usage(&open).await, [(1, KeyState::Retiring, 0), (2, KeyState::Active, 40)]);
    stored.extend(people(&open, 40..42).await);
    assert_eq!(usage(&open).await, [(1, KeyState::Retiring, 0), (2, KeyState::Active, 42)]);
    all_read(&open, &stored).await;
    let agreed = reconcile(&open, "lerna").await;
    assert_eq!(found(&agreed), []);

    // A restart loads both versions; a second rotation begins from the first.
    open.vault.close().await;
    drop(open);
    let open = OpenVault::open(&backend, dir.path(), None).await.unwrap();
    all_read(&open, &stored).await;
    begin(&open).await.unwrap();
    work_through(&open).await;
    let versions = [(1, KeyState::Retiring, 0), (2, KeyState::Retiring, 0), (3, KeyState::Active, 42)];
    assert_eq!(usage(&open).await, versions);
    all_read(&open, &stored).await;
}

/// A vault that stops at its n-th commit from now on, as if it were killed, and another that takes its work up.
async fn killed_at(backend: &Backend, commit: u64) -> bool {
    let (dir, open, gate) = gated(&backend.fresh().await).await;
    let stored = people(&open, 0..40).await;
    let begun = begin(&open).await.unwrap();
    gate.fail_after(commit);
    let rotations = open.vault.work().await.unwrap().long;
    let survived = open.vault.rotate(&rotations[0]).await.is_ok();
    gate.set(PASS);
    let seen = usage(&open).await;
    let kept: u64 = seen.iter().map(|(_, _, keys)| keys).sum();
    assert_eq!(kept, 40, "no key was lost: {seen:?}");
    all_read(&open, &stored).await;
    assert!(
        open.vault.rotate(&operation(&open, begun.id).await).await.is_ok(),
        "what a worker holds is left to it until its lease ends"
    );
    let _dir = dir;
    open.clock.advance(2 * MINUTE);
    work_through(&open).await;
    assert_eq!(operation(&open, begun.id).await.state, OperationState::Done, "commit {commit}");
    assert_eq!(usage(&open).await, [(1, KeyState::Retiring, 0), (2, KeyState::Active, 40)]);
    all_read(&open, &stored).await;
    survived
}

on_both!(whatever_stops_a_rotation_another_ends_it);
async fn whatever_stops_a_rotation_another_ends_it(backend: Backend) {
    let mut commit = 0;
    while !killed_at(&backend, commit).await {
        commit += 1;
    }
    println!("stopped before each of {commit} commits");
    assert!(commit >= 6, "take, activate, wrap anew, verify, end");
}

on_both!(a_worker_that_was_overtaken_writes_nothing);
async fn a_worker_that_was_overtaken_writes_nothing(backend: Backend) {
    let (_dir, open, gate) = gated(&backend).await;
    let stored = people(&open, 0..20).await;
    let begun = begin(&open).await.unwrap();
    let rotations = open.vault.work().await.unwrap().long;
    // The worker takes the operation and is stopped before its next commit.
    gate.fail_after(1);
    assert!(open.vault.rotate(&rotations[0]).await.is_err());
    gate.set(PASS);
    let stale = operation(&open, begun.id).await;
    assert_eq!((stale.state, stale.fence), (OperationState::Running, 1));
    // An officer pauses it: from now on the fence is another.
    let control = async |control| open.vault.control(&open.admin(), as_admin(), begun.id, control).await;
    let paused = control(Control::Pause).await.unwrap();
    assert_eq!((paused.state, paused.fence), (OperationState::Paused, 2));
    open.clock.advance(2 * MINUTE);
    assert!(open.vault.work().await.unwrap().long.is_empty(), "nobody takes it up");
    let before = usage(&open).await;
    open.vault.rotate(&stale).await.unwrap();
    assert_eq!(usage(&open).await, before, "the worker that slept wrote nothing");
    assert_eq!(operation(&open, begun.id).await, paused);

    let resumed = control(Control::Resume(Some(5_000))).await.unwrap();
    assert_eq!((resumed.state, resumed.rate), (OperationState::Waiting, 5_000));
    work_through(&open).await;
    assert_eq!(usage(&open).await, [(1, KeyState::Retiring, 0), (2, KeyState::Active, 20)]);
    assert_eq!(control(Control::Cancel).await.err(), Some(Denial::OperationEnded.into()));
    all_read(&open, &stored).await;
}

on_both!(a_rotation_that_is_cancelled_before_it_began_leaves_no_key);
async fn a_rotation_that_is_cancelled_before_it_began_leaves_no_key(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    let stored = people(&open, 0..3).await;
    let begun = begin(&open).await.unwrap();
    let cancelled = open.vault.control(&open.admin(), as_admin(), begun.id, Control::Cancel).await.unwrap();
    assert_eq!(cancelled.state, OperationState::Cancelled);
    assert_eq!(usage(&open).await, [(1, KeyState::Active, 3)]);
    let again = begin(&open).await.unwrap();
    assert_eq!(again.key_version, 3, "a number is never used twice");
    work_through(&open).await;
    assert_eq!(usage(&open).await, [(1, KeyState::Retiring, 0), (3, KeyState::Active, 3)]);
    all_read(&open, &stored).await;
    // An erasure is called off by its own call.
    let backend = open.caller("backend");
    let name = sandyq::vault::subjects::SubjectName::Id(stored[0].1.subject);
    let erased = open.vault.erase_subject(&backend, crate::common::vault::asker("backend"), "", name, None);
    let operation = erased.await.unwrap().operation;
    let refused = open.vault.control(&open.admin(), as_admin(), operation, Control::Cancel).await;
    assert_eq!(refused.err(), Some(Denial::OperationUncontrolled.into()));
}

async fn beat(store: &Arc<dyn Store>, name: &str, now: Timestamp, keys_loaded_at: Timestamp) {
    let row = ReplicaRow { name: name.into(), started_at: now, heartbeat_at: now, schema: 3, keys_loaded_at };
    store.heartbeat(&row).await.unwrap();
}

on_both!(a_version_turns_active_when_every_process_has_it);
async fn a_version_turns_active_when_every_process_has_it(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let mut kept = None;
    let open = OpenVault::create(&backend, dir.path(), |store| Arc::clone(kept.insert(store))).await;
    let store = kept.unwrap();
    people(&open, 0..3).await;
    let now = open.clock.now();
    open.vault.beat(&"here".parse().unwrap(), now).await.unwrap();
    beat(&store, "elsewhere", now, Timestamp::from_micros(0)).await;
    let plan =
        open.vault.plan_rotation(&open.admin(), as_admin(), "lerna", KeyKind::Platform, 0).await.unwrap();
    assert_eq!(plan.blockers, ["processes that lack a key version: elsewhere"]);
    let begun = begin(&open).await.unwrap();
    // Both lack it, then one does: this process looks, the other does not.
    let wait = async || {
        open.clock.advance(10 * 1_000_000);
        let rotations = open.vault.work().await.unwrap().long;
        open.vault.rotate(&rotations[0]).await.unwrap();
        operation(&open, begun.id).await.state
    };
    assert_eq!(wait().await, OperationState::Waiting);
    open.vault.beat(&"here".parse().unwrap(), now).await.unwrap();
    beat(&store, "elsewhere", open.clock.now(), now).await;
    assert_eq!(wait().await, OperationState::Waiting, "it has the keys of before, not this one");
    assert_eq!(usage(&open).await, [(1, KeyState::Active, 3), (2, KeyState::Pending, 0)]);
    beat(&store, "elsewhere", open.clock.now(), open.clock.now()).await;
    open.vault.beat(&"here".parse().unwrap(), now).await.unwrap();
    assert_eq!(wait().await, OperationState::Done);
    assert_eq!(usage(&open).await, [(1, KeyState::Retiring, 0), (2, KeyState::Active, 3)]);
}

on_both!(a_rotation_is_found_behind_any_number_of_newer_operations);
async fn a_rotation_is_found_behind_any_number_of_newer_operations(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    let id = RequestId::new(open.clock.now(), &SystemRng::new()).unwrap();
    let asked = Asked { id, body_mac: [0; 32], part: Part::Alone };
    let again = Asker { request: Some(asked), ..as_admin() };
    let rotate = async |asker| {
        open.vault.rotate_key(&open.admin(), asker, "lerna", KeyKind::Platform, 0).await.map(|begun| begun.id)
    };
    let begun = rotate(again.clone()).await.unwrap();
    assert_eq!(backend.sql(dir.path(), &many_newer_operations(1, 150)).await, 150);
    assert_eq!(rotate(as_admin()).await, Err(Denial::RotationRunning.into()), "it is not done yet");
    assert_eq!(rotate(again).await, Ok(begun), "a retry is answered as before");
    let plan = open.vault.plan_rotation(&open.admin(), as_admin(), "lerna", KeyKind::Platform, 0).await;
    assert_eq!(plan.unwrap().blockers, [format!("{begun} is not done yet")]);
}

on_both!(a_destruction_leaves_a_day_after_the_last_moment_to_approve_it);
async fn a_destruction_leaves_a_day_after_the_last_moment_to_approve_it(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let OpenVault { vault, clock } = OpenVault::create(&backend, dir.path(), |store| store).await;
    let two = Settings { governance: Governance::TwoPerson, ..settings() };
    assert_eq!(two.proposal_time, Duration::from_hours(24));
    let open = OpenVault { vault: vault.with_settings(two), clock };
    let destroy = async |hours: u64| {
        let at = open.clock.now().plus(Duration::from_hours(hours) + Duration::from_mins(1));
        open.vault
            .schedule_key_destruction(&open.admin(), as_admin(), "lerna", platform_key(1), at)
            .await
            .unwrap_err()
    };
    // Approved at the last moment, it would come before anybody could notice it.
    assert!(matches!(destroy(25).await, VaultError::Invalid(_)));
    assert!(matches!(destroy(47).await, VaultError::Invalid(_)));
    assert_eq!(destroy(48).await, Denial::KeyActive.into(), "as far as the date goes it could be proposed");
}

on_both!(a_version_is_put_out_of_use_and_destroyed_only_when_nothing_needs_it);
async fn a_version_is_put_out_of_use_and_destroyed_only_when_nothing_needs_it(backend: Backend) {
    let (dir, open, gate) = gated(&backend).await;
    let stored = people(&open, 0..60).await;
    let (admin, vault) = (open.admin(), &open.vault);
    let disable = async |version| vault.disable_key(&admin, as_admin(), "lerna", platform_key(version)).await;
    let destroy = async |version, days: u64| {
        let at = open.clock.now().plus(Duration::from_hours(24 * days) + Duration::from_hours(1));
        vault.schedule_key_destruction(&admin, as_admin(), "lerna", platform_key(version), at).await
    };
    assert_eq!(disable(1).await.err(), Some(Denial::KeyActive.into()));
    assert_eq!(destroy(1, 1).await.err(), Some(Denial::KeyActive.into()));
    assert_eq!(disable(7).await.err(), Some(Denial::KeyNotFound.into()));

    // In the middle of it: some keys are wrapped anew, the rest still needs the old version.
    begin(&open).await.unwrap();
    gate.fail_after(3);
    let rotations = vault.work().await.unwrap().long;
    assert!(vault.rotate(&rotations[0]).await.is_err());
    gate.set(PASS);
    let midway = usage(&open).await;
    let [(1, KeyState::Retiring, old), (2, KeyState::Active, new)] = midway[..] else { panic!("{midway:?}") };
    assert!(old > 0 && new > 0 && old + new == 60, "{midway:?}");
    assert_eq!(destroy(1, 1).await.err(), Some(Denial::KeyInUse.into()));
    disable(1).await.unwrap();
    let mut readable = 0;
    for (_, person) in &stored {
        match open.detokenize(&person.tokens[0].token).await {
            Ok(_) => readable += 1,
            Err(error) => assert_eq!(error, Denial::KeyDisabled.into()),
        }
    }
    assert_eq!(readable, new, "what the disabled version wraps is refused, and nothing else");
    vault.enable_key(&admin, as_admin(), "lerna", platform_key(1)).await.unwrap();
    all_read(&open, &stored).await;
    open.clock.advance(2 * MINUTE);
    work_through(&open).await;

    assert!(matches!(destroy(1, 0).await.err(), Some(VaultError::Invalid(_))), "no less than a day ahead");
    assert_eq!(destroy(1, 1).await.unwrap().state, KeyState::DestructionScheduled);
    let kept = vault.cancel_key_destruction(&admin, as_admin(), "lerna", platform_key(1)).await.unwrap();
    assert_eq!((kept.state, kept.destroy_at), (KeyState::Disabled, None));
    destroy(1, 2).await.unwrap();
    // The destruction that was called off comes due first, and does nothing.
    for _ in 0..3 {
        open.clock.advance(20 * 60 * MINUTE);
        all_read(&open, &stored).await;
        work_through(&open).await;
    }
    let keys =
        vault.list_keys(&admin, as_admin(), "lerna", PageAsk { size: 100, after: None }).await.unwrap();
    let platform: Vec<_> =
        keys.rows.iter().filter(|row| row.kind == "platform").map(|row| (row.version, row.state)).collect();
    assert_eq!(platform, [(1, KeyState::Destroyed), (2, KeyState::Active)]);
    let bytes = "UPDATE key_versions SET state = state WHERE kind = 'platform' AND wrapped IS NULL";
    assert_eq!(backend.sql(dir.path(), bytes).await, 1, "its bytes are gone");
    all_read(&open, &stored).await;
    assert_eq!(destroy(1, 1).await.err(), Some(Denial::KeyStateUnsuitable.into()));
}

// Keys that a process has it keeps: what changes their states must not need the root.
on_both!(states_change_while_the_root_is_away);
async fn states_change_while_the_root_is_away(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    let stored = people(&open, 0..3).await;
    begin(&open).await.unwrap();
    work_through(&open).await;
    let (root, away) = (dir.path().join("root"), dir.path().join("away"));
    std::fs::rename(&root, &away).unwrap();
    let (admin, vault) = (open.admin(), &open.vault);
    vault.disable_key(&admin, as_admin(), "lerna", platform_key(1)).await.unwrap();
    all_read(&open, &stored).await;
    vault.enable_key(&admin, as_admin(), "lerna", platform_key(1)).await.unwrap();
    all_read(&open, &stored).await;
    assert_eq!(begin(&open).await.err(), Some(VaultError::Unavailable), "a new version needs the root");
    assert_eq!(usage(&open).await, [(1, KeyState::Retiring, 0), (2, KeyState::Active, 3)]);
    std::fs::rename(&away, &root).unwrap();
    begin(&open).await.unwrap();
    work_through(&open).await;
    all_read(&open, &stored).await;
}

on_both!(platform_keys_are_rotated_by_the_calendar);
async fn platform_keys_are_rotated_by_the_calendar(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let made = OpenVault::create(&backend, dir.path(), |store| store).await;
    let stored = people(&made, 0..3).await;
    made.vault.close().await;
    drop(made);
    let kms = LocalKms::open(&dir.path().join("root"), &dir.path().join("unseal")).unwrap();
    let counting = Arc::new(Counting::new(kms));
    let kms = Arc::clone(&counting);
    let options = VaultOptions { rotate_every: Some(Duration::from_hours(240)), ..VaultOptions::default() };
    let open = OpenVault::open_with(&backend, dir.path(), kms, None, options).await.unwrap();
    let hours = async |hours: i64| {
        for _ in 0..hours / 12 {
            open.clock.advance(12 * 60 * MINUTE);
            all_read(&open, &stored).await;
            work_through(&open).await;
        }
        usage(&open).await
    };
    let one = [(1, KeyState::Active, 3)];
    assert_eq!(hours(204).await, one, "nine tenths of its time are not over");
    let two = [(1, KeyState::Retiring, 0), (2, KeyState::Active, 3)];
    assert_eq!(hours(48).await, two, "and ten are");
    // Time that jumps is not believed; one that was called off is not begun again at once.
    open.clock.advance(500 * 60 * MINUTE);
    work_through(&open).await;
    // Nor is a key made again and again for what waits.
    let wraps = counting.wraps();
    for _ in 0..3 {
        open.vault.work().await.unwrap();
    }
    assert_eq!(counting.wraps(), wraps);
    assert_eq!(usage(&open).await, two);
    all_read(&open, &stored).await;
    open.vault.work().await.unwrap();
    let list = PageAsk { size: 100, after: None };
    let operations = open.vault.operations(&open.admin(), as_admin(), "lerna", list).await.unwrap().rows;
    let waiting = operations.iter().find(|found| found.is_open()).unwrap().id;
    open.vault.control(&open.admin(), as_admin(), waiting, Control::Cancel).await.unwrap();
    assert_eq!(hours(204).await, two);
    assert_eq!(hours(48).await, [two[0], (2, KeyState::Retiring, 0), (4, KeyState::Active, 3)]);
}

/// Two vaults on one database, both answering and storing while one of them rotates: no read fails, and nothing is written with
/// the version that retired.
#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_answer_while_one_rotates() {
    let backend = Backend::postgres().await;
    let dir = tempfile::tempdir().unwrap();
    let first = Arc::new(OpenVault::create(&backend, dir.path(), |store| store).await);
    let second = Arc::new(OpenVault::open(&backend, dir.path(), None).await.unwrap());
    let stored = Arc::new(people(&first, 0..60).await);
    let rotating = Arc::new(std::sync::atomic::AtomicBool::new(true));
    let mut readers = tokio::task::JoinSet::new();
    for (number, open) in [&first, &second].into_iter().enumerate() {
        let (open, stored, rotating) = (Arc::clone(open), Arc::clone(&stored), Arc::clone(&rotating));
        readers.spawn(async move {
            let (mut reads, mut came) = (0, 0);
            while rotating.load(std::sync::atomic::Ordering::SeqCst) {
                let (person, token) = &stored[(reads * 7 + number) % stored.len()];
                let value = open.detokenize(&token.tokens[0].token).await.unwrap().value;
                assert_eq!(value.expose(), iin(*person));
                reads += 1;
                if reads % 4 == 0 {
                    came += 1;
                    open.store_iin(u32::try_from(1_000 + 2 * came + number).unwrap()).await;
                }
            }
            // What is stored from now on is under the new version, whoever stores it.
            open.store_iin(u32::try_from(1_000 + number).unwrap()).await;
            (reads, came + 1)
        });
    }
    begin(&first).await.unwrap();
    work_through(&second).await;
    rotating.store(false, std::sync::atomic::Ordering::SeqCst);
    let mut people = 60;
    while let Some(did) = readers.join_next().await {
        let (reads, came) = did.unwrap();
        assert!(reads > 0);
        people += u64::try_from(came).unwrap();
    }
    // Whoever came meanwhile too: nothing was written with the version that retired.
    assert_eq!(usage(&first).await, [(1, KeyState::Retiring, 0), (2, KeyState::Active, people)]);
    assert_eq!(first.vault.platform_named("lerna"), Some(PLATFORM));
}
