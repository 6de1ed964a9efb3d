//! A value leaves only after its audit entry is durable. A store that stands in front of the real one stops the
//! commit at a chosen moment; no clock decides anything.

use std::sync::{
    Arc,
    atomic::{AtomicU8, Ordering},
};

use sandyq::{
    audit::entry::Entry,
    domain::{
        ids::{OperationId, PlatformId, SubjectId},
        time::Timestamp,
    },
    store::{
        CallerKey, Commit, CommitOutcome, GrantingTable, Installation, LockedHead, NewPlatform, ReadKeys,
        RowMark, Snapshot, Store, StoreError, StoredConfig, StoredTree,
        rows::{
            config::PolicyRow,
            log::{EntryRow, SecondHead, TileRow},
            work::{OperationRow, ReplicaRow},
        },
    },
    vault::error::VaultError,
};
use tokio::sync::Semaphore;

use crate::common::{
    backend::{Backend, on_both},
    vault::{OpenVault, PLATFORM},
};

const PASS: u8 = 0;
/// Commits, says so, and waits before it returns.
const HOLD_AFTER: u8 = 1;
/// Fails without committing.
const FAIL_BEFORE: u8 = 2;
/// Commits, and then fails: the outcome is unknown to the vault.
const FAIL_AFTER: u8 = 3;
/// Says that the head moved, without committing.
const MOVED: u8 = 4;
/// Says that it was called, waits, and then commits.
const HOLD_BEFORE: u8 = 5;
/// Passes, with a clock a minute ahead.
const SKEWED: u8 = 6;

struct Gate {
    inner: Arc<dyn Store>,
    mode: AtomicU8,
    committed: Semaphore,
    go_on: Semaphore,
    reads: Semaphore,
}

impl Gate {
    fn set(&self, mode: u8) {
        self.mode.store(mode, Ordering::SeqCst);
    }

    async fn permits(&self) -> usize {
        let head = self.inner.tree(PLATFORM).await.unwrap().head;
        let limit = u32::try_from(head.counters.size).unwrap();
        let entries = self.inner.entries(PLATFORM, 0, limit).await.unwrap();
        entries.iter().filter(|row| Entry::decode(&row.entry).unwrap().verdict == "permit").count()
    }
}

fn broken() -> StoreError {
    StoreError::Schema("stopped by the test".to_owned())
}

impl Gate {
    async fn pass(
        &self,
        commit: impl Future<Output = Result<CommitOutcome, StoreError>>,
    ) -> Result<CommitOutcome, StoreError> {
        match self.mode.load(Ordering::SeqCst) {
            HOLD_AFTER => {
                let outcome = commit.await?;
                self.committed.add_permits(1);
                self.go_on.acquire().await.unwrap().forget();
                Ok(outcome)
            }
            HOLD_BEFORE => {
                self.committed.add_permits(1);
                self.go_on.acquire().await.unwrap().forget();
                commit.await
            }
            FAIL_BEFORE => Err(broken()),
            FAIL_AFTER => {
                commit.await?;
                self.set(PASS);
                Err(broken())
            }
            MOVED => {
                self.committed.add_permits(1);
                Ok(CommitOutcome::HeadMoved)
            }
            _ => commit.await,
        }
    }
}

struct GatedHead<'a> {
    gate: &'a Gate,
    inner: Box<dyn LockedHead + 'a>,
}

#[async_trait::async_trait]
impl LockedHead for GatedHead<'_> {
    async fn tree(&mut self) -> Result<StoredTree, StoreError> {
        self.inner.tree().await
    }

    async fn read(&mut self, keys: &ReadKeys) -> Result<Snapshot, StoreError> {
        let snapshot = self.inner.read(keys).await;
        self.gate.reads.add_permits(1);
        snapshot
    }

    async fn commit(self: Box<Self>, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        let Self { gate, inner } = *self;
        gate.pass(inner.commit(commit)).await
    }
}

#[async_trait::async_trait]
impl Store for Gate {
    async fn commit(&self, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        self.pass(self.inner.commit(commit)).await
    }

    async fn lock_head(&self, platform: PlatformId) -> Result<Box<dyn LockedHead + '_>, StoreError> {
        Ok(Box::new(GatedHead { gate: self, inner: self.inner.lock_head(platform).await? }))
    }

    async fn operations(
        &self,
        platform: PlatformId,
        due: Option<Timestamp>,
        limit: u32,
    ) -> Result<Vec<OperationRow>, StoreError> {
        self.inner.operations(platform, due, limit).await
    }

    async fn operation(
        &self,
        platform: PlatformId,
        id: OperationId,
    ) -> Result<Option<OperationRow>, StoreError> {
        self.inner.operation(platform, id).await
    }

    async fn row_marks(
        &self,
        platform: PlatformId,
        table: GrantingTable,
        after: [u8; 16],
        limit: u32,
    ) -> Result<Vec<RowMark>, StoreError> {
        self.inner.row_marks(platform, table, after, limit).await
    }

    async fn heartbeat(&self, replica: &ReplicaRow) -> Result<Vec<ReplicaRow>, StoreError> {
        self.inner.heartbeat(replica).await
    }

    async fn policies(&self, p: PlatformId, below: u32, limit: u32) -> Result<Vec<PolicyRow>, StoreError> {
        self.inner.policies(p, below, limit).await
    }

    async fn place_of_caller(&self, caller: CallerKey<'_>) -> Result<Option<PlatformId>, StoreError> {
        self.inner.place_of_caller(caller).await
    }

    async fn create_installation(&self, name: &str, vault: NewPlatform) -> Result<(), StoreError> {
        self.inner.create_installation(name, vault).await
    }

    async fn installation(&self) -> Result<Option<Installation>, StoreError> {
        self.inner.installation().await
    }

    async fn read(&self, platform: PlatformId, keys: &ReadKeys) -> Result<Snapshot, StoreError> {
        let mut snapshot = self.inner.read(platform, keys).await?;
        if self.mode.load(Ordering::SeqCst) == SKEWED {
            snapshot.now = snapshot.now.plus_micros(61_000_000);
        }
        self.reads.add_permits(1);
        Ok(snapshot)
    }

    async fn tree(&self, platform: PlatformId) -> Result<StoredTree, StoreError> {
        self.inner.tree(platform).await
    }

    async fn config(&self, platform: PlatformId) -> Result<StoredConfig, StoreError> {
        self.inner.config(platform).await
    }

    async fn entries(
        &self,
        platform: PlatformId,
        from: u64,
        limit: u32,
    ) -> Result<Vec<EntryRow>, StoreError> {
        self.inner.entries(platform, from, limit).await
    }

    async fn entries_of(
        &self,
        platform: PlatformId,
        subject: SubjectId,
        from: u64,
        limit: u32,
    ) -> Result<Vec<(u64, EntryRow)>, StoreError> {
        self.inner.entries_of(platform, subject, from, limit).await
    }

    async fn token_count(&self, platform: PlatformId, subject: SubjectId) -> Result<u64, StoreError> {
        self.inner.token_count(platform, subject).await
    }

    async fn tiles(
        &self,
        p: PlatformId,
        level: u8,
        from: u64,
        limit: u32,
    ) -> Result<Vec<TileRow>, StoreError> {
        self.inner.tiles(p, level, from, limit).await
    }

    async fn second_heads(
        &self,
        p: PlatformId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<SecondHead>, StoreError> {
        self.inner.second_heads(p, after, limit).await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

async fn gated(backend: &Backend) -> (tempfile::TempDir, OpenVault, Arc<Gate>) {
    let dir = tempfile::tempdir().unwrap();
    let mut gate = None;
    let open = OpenVault::create(backend, dir.path(), |inner| {
        let made = Arc::new(Gate {
            inner,
            mode: AtomicU8::new(PASS),
            committed: Semaphore::new(0),
            go_on: Semaphore::new(0),
            reads: Semaphore::new(0),
        });
        gate = Some(Arc::clone(&made));
        made
    })
    .await;
    (dir, open, gate.unwrap())
}

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

on_both!(a_process_with_a_wrong_clock_serves_nothing);
async fn a_process_with_a_wrong_clock_serves_nothing(backend: Backend) {
    let (_dir, open, gate) = gated(&backend).await;
    let stored = open.store_iin(1).await;
    let (name, now) = ("replica-1".parse().unwrap(), open.clock.now());
    assert_eq!(open.vault.beat(&name, now).await, Ok(Vec::new()));
    gate.set(SKEWED);
    assert_eq!(open.vault.beat(&name, now).await, Err(VaultError::Unavailable));
    assert_eq!(open.detokenize(&stored.tokens[0].token).await.err(), Some(VaultError::Unavailable));
    gate.set(PASS);
    let other = "replica-2".parse().unwrap();
    assert_eq!(open.vault.beat(&other, now).await, Ok(vec![name]), "each sees the others");
    assert!(open.detokenize(&stored.tokens[0].token).await.is_ok(), "it heals by itself");
}
