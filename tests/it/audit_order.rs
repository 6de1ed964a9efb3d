//! A value leaves only after its audit entry is durable.

use std::sync::atomic::Ordering;

use sandyq::vault::error::VaultError;

use crate::common::{
    backend::{Backend, on_both},
    gate::{FAIL_AFTER, FAIL_BEFORE, HOLD_AFTER, HOLD_BEFORE, MOVED, PASS, gated},
};

on_both!(no_answer_before_the_entry_is_durable);
async fn no_answer_before_the_entry_is_durable(backend: Backend) {
    let (_dir, open, gate) = gated(&backend).await;
    let stored = open.store_iin(1).await;
    assert_eq!(gate.permits().await, 0);

    gate.set(HOLD_AFTER);
    let mut answer = std::pin::pin!(open.detokenize(&stored.tokens[0].token));
    tokio::select! {
        biased;
        _ = &mut answer => panic!("answered while the commit had not returned"),
        permit = gate.committed.acquire() => permit.unwrap().forget(),
    }
    // The entry is durable and the answer still waits: had it been sent before or beside the commit, it would be
    // ready now.
    assert_eq!(gate.permits().await, 1);
    tokio::select! {
        biased;
        _ = &mut answer => panic!("answered while the commit had not returned"),
        () = std::future::ready(()) => {}
    }
    gate.set(PASS);
    gate.go_on.add_permits(1);
    assert_eq!(answer.await.unwrap().value.expose(), crate::common::people::iin(1));
}

on_both!(no_entry_no_answer);
async fn no_entry_no_answer(backend: Backend) {
    let (_dir, open, gate) = gated(&backend).await;
    let stored = open.store_iin(1).await;
    gate.set(FAIL_BEFORE);
    let refused = open.detokenize(&stored.tokens[0].token).await.err();
    assert_eq!(refused, Some(VaultError::Unavailable));
    assert_eq!(gate.permits().await, 0);
    gate.set(PASS);
    assert!(open.detokenize(&stored.tokens[0].token).await.is_ok(), "it heals without a restart");
    assert_eq!(gate.permits().await, 1);
}

on_both!(an_unknown_outcome_is_looked_up);
async fn an_unknown_outcome_is_looked_up(backend: Backend) {
    let (_dir, open, gate) = gated(&backend).await;
    let stored = open.store_iin(1).await;
    gate.set(FAIL_AFTER);
    assert!(open.detokenize(&stored.tokens[0].token).await.is_ok(), "the head shows that it was committed");
    assert_eq!(gate.permits().await, 1, "and it was committed once");
}

on_both!(a_moved_head_is_read_and_decided_again);
async fn a_moved_head_is_read_and_decided_again(backend: Backend) {
    let (_dir, open, gate) = gated(&backend).await;
    let stored = open.store_iin(1).await;
    gate.set(MOVED);
    let refused = open.detokenize(&stored.tokens[0].token).await.err();
    assert_eq!(refused, Some(VaultError::Contended));
    assert!(gate.committed.available_permits() > 1, "it was tried again before it was given up");
    assert_eq!(gate.permits().await, 0);
}

/// Two processes on one SQLite file would fight over the head.
#[tokio::test(flavor = "multi_thread")]
async fn a_second_process_on_one_file_is_refused() {
    let (dir, _open, _gate) = gated(&Backend::Sqlite).await;
    let second = sandyq::store::sqlite::open(&dir.path().join("sandyq.db")).await;
    let error = second.err().unwrap().to_string();
    assert!(error.contains("in use by another process"), "{error}");
}

// A batch that was read before a withdrawal is decided again after it.
on_both!(a_withdrawal_between_read_and_commit_binds);
async fn a_withdrawal_between_read_and_commit_binds(backend: Backend) {
    let (_dir, open, gate) = gated(&backend).await;
    let stored = open.store_iin(1).await;
    let (consent, token) = (stored.consents[0], &stored.tokens[0].token);
    let backend = open.caller("backend");

    // The withdrawal is held before its commit while the lane already reads the batch behind it.
    gate.set(HOLD_BEFORE);
    let mut withdrawal = std::pin::pin!(open.vault.withdraw_consent(
        &backend,
        crate::common::vault::asker("backend"),
        "",
        consent
    ));
    tokio::select! {
        biased;
        _ = &mut withdrawal => panic!("answered before its commit returned"),
        permit = gate.committed.acquire() => permit.unwrap().forget(),
    }
    gate.reads.forget_permits(usize::MAX);
    let mut reading = std::pin::pin!(open.detokenize(token));
    tokio::select! {
        biased;
        _ = &mut reading => panic!("answered while the lane was held"),
        permit = gate.reads.acquire() => permit.unwrap().forget(),
    }
    gate.set(PASS);
    gate.go_on.add_permits(1);
    assert!(withdrawal.await.is_ok());
    let refused = reading.await.err();
    assert_eq!(refused, Some(VaultError::Denied(sandyq::policy::decide::Denial::ConsentWithdrawn)));
    assert_eq!(gate.permits().await, 0);
}

// By a minute, and by ten years, in both directions.
on_both!(a_process_with_a_wrong_clock_serves_nothing);
async fn a_process_with_a_wrong_clock_serves_nothing(backend: Backend) {
    const MINUTE: i64 = 61 * 1_000_000;
    const DECADE: i64 = 3_653 * 24 * 60 * 60 * 1_000_000;
    let (_dir, open, gate) = gated(&backend).await;
    let (stored, mut others) = (open.store_iin(1).await, Vec::new());
    for number in 2..6 {
        others.push(open.store_iin(number).await);
    }
    let (name, now) = ("replica-1".parse().unwrap(), open.clock.now());
    assert_eq!(open.vault.beat(&name, now).await, Ok(Vec::new()));
    for off in [MINUTE, -MINUTE, DECADE, -DECADE] {
        let size = gate.cost().await.entries;
        gate.ahead.store(off, Ordering::SeqCst);
        let unread = others.pop().unwrap();
        let refused = open.detokenize(&unread.tokens[0].token).await.err();
        assert_eq!(refused, Some(VaultError::Unavailable), "no heartbeat has seen it yet");
        assert_eq!(open.vault.beat(&name, now).await, Err(VaultError::Unavailable));
        assert_eq!(open.detokenize(&stored.tokens[0].token).await.err(), Some(VaultError::Unavailable));
        gate.ahead.store(0, Ordering::SeqCst);
        assert_eq!(gate.cost().await.entries, size, "nothing is logged at a wrong time");
        assert_eq!(open.vault.beat(&name, now).await, Ok(Vec::new()));
        assert!(open.detokenize(&stored.tokens[0].token).await.is_ok(), "it heals by itself");
    }
    let other = "replica-2".parse().unwrap();
    assert_eq!(open.vault.beat(&other, now).await, Ok(vec![name]), "each sees the others");
}
