//! A worker that stands still for a minute in the middle of a rotation: another takes its work over, and the one that wakes up writes
//! nothing more, in whichever phase it was. In a normal run the successor's clock goes a minute ahead; in a full run a minute passes.

use std::{sync::Arc, time::Duration};

use sandyq::{
    crypto::kms::local::LocalKms,
    domain::operation::{Operation, OperationState, Phase},
    store::Store,
    vault::{VaultOptions, keys::KeyKind},
};
use tokio::{task::JoinHandle, time::sleep};

use crate::common::{
    backend::Backend,
    gate::{Gate, PASS, gated},
    operations::{operation, work_through},
    people::iin,
    random::rounds,
    vault::{OpenVault, PLATFORM, as_admin},
};

/// Longer than a worker may be silent.
const PAUSE: Duration = Duration::from_secs(61);

/// Works until the gate has let so many commits pass, and waits until the next one is held there.
async fn work_until(open: &Arc<OpenVault>, gate: &Gate, commits: u64) -> JoinHandle<()> {
    let due = open.vault.work().await.unwrap().long.remove(0);
    gate.hold_after(commits);
    let working = tokio::spawn({
        let open = Arc::clone(open);
        async move { open.vault.rotate(&due).await.expect("it ends, or stops") }
    });
    gate.committed.acquire().await.unwrap().forget();
    working
}

async fn goes_on(gate: &Gate, working: JoinHandle<()>) {
    gate.set(PASS);
    gate.go_on.add_permits(1);
    working.await.unwrap();
}

/// A worker that stands still before its commit of this number; answers the phase in which it did.
async fn paused_before(commit: u64) -> Phase {
    let backend = Backend::postgres().await;
    let (dir, worker, gate) = gated(&backend).await;
    let worker = Arc::new(worker);
    let mut people = Vec::new();
    for number in 0..10 {
        people.push((number, worker.store_iin(number).await));
    }
    let admin = worker.admin();
    let rotation = worker.vault.rotate_key(&admin, as_admin(), "lerna", KeyKind::Platform, 0).await;
    let rotation = rotation.unwrap().id;
    let working = work_until(&worker, &gate, commit).await;

    let store = backend.store(dir.path()).await;
    let next = Gate::before(store);
    let kms = Arc::new(LocalKms::open(&dir.path().join("root"), &dir.path().join("unseal")).unwrap());
    let front: Arc<dyn Store> = next.clone();
    let successor = Arc::new(OpenVault::over(front, kms, None, VaultOptions::default()).await.unwrap());
    work_through(&successor).await;
    let held = operation(&successor, rotation).await;
    assert_eq!((held.state, held.fence), (OperationState::Running, 1), "its lease is not over");
    if commit == 3 && rounds(0, 1) == 1 {
        sleep(PAUSE).await;
    } else {
        successor.clock.advance(i64::try_from(PAUSE.as_micros()).unwrap());
    }
    // The successor takes the work, and has done nothing yet.
    let taking = work_until(&successor, &next, 1).await;
    let seen = async || -> (Operation, u64, Vec<_>) {
        let wraps = backend.bytes("SELECT wrapped_key FROM subjects").await;
        // Past the lanes, both of which are held.
        let row = gate.inner.operation(PLATFORM, rotation).await.unwrap().unwrap();
        (row.operation, gate.cost().await.entries, wraps)
    };
    let taken = seen().await;
    assert_eq!((taken.0.state, taken.0.fence), (OperationState::Running, 2), "it has a successor");
    goes_on(&gate, working).await;
    assert_eq!(seen().await, taken, "neither a row nor an entry is of the one that slept");

    goes_on(&next, taking).await;
    assert_eq!(operation(&successor, rotation).await.state, OperationState::Done);
    for open in [&worker, &successor] {
        for (number, stored) in &people {
            let value = open.detokenize(&stored.tokens[0].token).await.unwrap().value;
            assert_eq!(value.expose(), iin(*number));
        }
        open.vault.close().await;
    }
    held.phase
}

#[tokio::test(flavor = "multi_thread")]
async fn a_worker_that_stood_still_for_a_minute_finds_its_work_taken_and_writes_nothing() {
    let mut phases = Vec::new();
    // The ten keys are on one page: five statements wrap them, and a commit tells of it.
    for commit in [2, 3, 5, 7, 8, 9] {
        phases.push(paused_before(commit).await);
    }
    println!("{phases:?}");
    assert!(phases.contains(&Phase::Rewrap) && phases.contains(&Phase::Verify), "{phases:?}");
}
