//! A rotation takes the keys of a platform as they are stored, page by page, and leaves each row on its page; what such a walk
//! passes by is found in the order of ids.

use std::collections::BTreeSet;

use sandyq::{
    domain::operation::{OperationState, Phase},
    vault::keys::{KeyKind, KeyState},
};

use crate::common::{
    backend::{Backend, on_both},
    gate::{PASS, gated},
    operations::{operation, work_through},
    pair::Pair,
    vault::{OpenVault, as_admin},
};

const MINUTE: i64 = 60 * 1_000_000;
/// More than a page has rows by far, and no more than one slice of the work takes in the end.
const PEOPLE: u32 = 600;

async fn store(open: &OpenVault, people: u32) {
    for number in 0..people {
        open.store_iin(number).await;
    }
}

/// How many keys each version of the platform's key wraps.
async fn wrapped_by_version(open: &OpenVault) -> Vec<(u32, KeyState, u64)> {
    let usages = open.vault.key_usage(&open.admin(), as_admin(), "lerna").await.unwrap();
    let platform = usages.into_iter().filter(|usage| usage.kind == KeyKind::Platform);
    platform.map(|usage| (usage.version, usage.state, usage.uses)).collect()
}

/// Each subject with its page.
async fn places(backend: &Backend) -> BTreeSet<Vec<u8>> {
    let places =
        "SELECT int8send(CAST((CAST(CAST(ctid AS text) AS point))[0] AS bigint)) || subject_id FROM subjects";
    backend.bytes(places).await.into_iter().flatten().collect()
}

/// A row that stays where it was leaves the indexes alone: without the room in the pages nine of ten move, and where more of a page
/// is written at once than it has room for, most do.
#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_leaves_rows_on_their_pages() {
    let backend = Backend::postgres().await;
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    store(&open, PEOPLE).await;
    let before = places(&backend).await;
    let pages: BTreeSet<_> = before.iter().map(|place| place[..8].to_vec()).collect();
    assert!(pages.len() > 20, "{} pages", pages.len());
    open.vault.rotate_key(&open.admin(), as_admin(), "lerna", KeyKind::Platform, 0).await.unwrap();
    work_through(&open).await;
    assert_eq!(
        wrapped_by_version(&open).await,
        [(1, KeyState::Retiring, 0), (2, KeyState::Active, u64::from(PEOPLE))]
    );
    let stayed = before.intersection(&places(&backend).await).count();
    // All but a few do, unless somebody looks at an older state meanwhile (the server's own housekeeping does): room is made later then.
    assert!(stayed * 4 >= before.len(), "{stayed} of {} stayed on their page", before.len());
}

on_both!(
    /// As after a process of an older version, whose walk went in the order of ids, and after rows that moved to pages which the walk had
    /// passed.
    what_a_walk_over_pages_passed_by_is_wrapped_before_the_end
);
async fn what_a_walk_over_pages_passed_by_is_wrapped_before_the_end(backend: Backend) {
    let (dir, open, gate) = gated(&backend).await;
    store(&open, 40).await;
    let begun =
        open.vault.rotate_key(&open.admin(), as_admin(), "lerna", KeyKind::Platform, 0).await.unwrap();
    // Taken, active, and the first keys wrapped.
    gate.fail_after(3);
    let due = open.vault.work().await.unwrap().long;
    assert!(open.vault.rotate(&due[0]).await.is_err());
    gate.set(PASS);
    assert_eq!(operation(&open, begun.id).await.phase, Phase::Rewrap);
    let some = wrapped_by_version(&open).await;
    assert!(some.iter().all(|(_, _, keys)| *keys > 0), "{some:?}");
    let skipped =
        format!("UPDATE operations SET resume_after = x'{}' WHERE phase = 'rewrap'", "fe".repeat(16));
    assert_eq!(backend.sql(dir.path(), &skipped).await, 1);
    open.clock.advance(2 * MINUTE);
    work_through(&open).await;
    assert_eq!(operation(&open, begun.id).await.state, OperationState::Done);
    assert_eq!(wrapped_by_version(&open).await, [(1, KeyState::Retiring, 0), (2, KeyState::Active, 40)]);
}

/// A wrap is answered before it is on the disk, and what the operation records is there with all that it counts. A power cut takes the
/// wraps after that back, and the keys open as before.
#[tokio::test(flavor = "multi_thread")]
async fn a_power_cut_takes_back_no_wrap_that_was_counted() {
    let pair = Pair::start().await;
    // Otherwise the server's own writer may be as fast as the cut.
    pair.first.run("postgres", "ALTER SYSTEM SET wal_writer_delay = '10s'").await;
    pair.first.run("postgres", "SELECT pg_reload_conf()").await;
    let backend = pair.backend();
    let (dir, open, gate) = gated(&backend).await;
    let mut stored = Vec::new();
    for number in 0..60 {
        stored.push(open.store_iin(number).await);
    }
    let keys = async || -> BTreeSet<Vec<u8>> {
        let keys = backend.bytes("SELECT wrapped_key FROM subjects").await;
        keys.into_iter().flatten().collect()
    };
    let before = keys().await;
    let begun =
        open.vault.rotate_key(&open.admin(), as_admin(), "lerna", KeyKind::Platform, 0).await.unwrap();
    // Taken, active, a page of keys two at a time with the step that counts them, and some more.
    gate.fail_after(2 + 12 + 4);
    let due = open.vault.work().await.unwrap().long;
    assert!(open.vault.rotate(&due[0]).await.is_err());
    let wrapped = keys().await.difference(&before).count();
    pair.first.cut();
    drop(open);
    pair.first.start();
    let left = keys().await.difference(&before).count();
    let open = OpenVault::open(&backend, dir.path(), None).await.unwrap();
    let counted = usize::try_from(operation(&open, begun.id).await.done).unwrap();
    println!("{wrapped} keys were wrapped, {left} of them are, {counted} were counted");
    assert!(counted > 0 && counted <= left, "{counted} of {left}");
    assert!(left < wrapped, "{left} of {wrapped}: each wrap waited for the disk");
    for stored in &stored {
        open.detokenize(&stored.tokens[0].token).await.expect("a key opens under either wrap");
    }
    open.clock.advance(2 * MINUTE);
    work_through(&open).await;
    assert_eq!(operation(&open, begun.id).await.state, OperationState::Done);
    assert_eq!(wrapped_by_version(&open).await, [(1, KeyState::Retiring, 0), (2, KeyState::Active, 60)]);
}
