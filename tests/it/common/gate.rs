//! A store that stands in front of the real one: it stops, fails or counts at a chosen moment; no clock decides anything.

mod restrictions;

use std::sync::{
    Arc,
    atomic::{AtomicI64, AtomicU8, AtomicU64, Ordering},
};

use sandyq::{
    audit::entry::Entry,
    domain::{
        ids::{BreachId, CaseId, CopyId, ObjectId, OperationId, PlatformId, ProposalId, SubjectId, UploadId},
        operation::Cursor,
        secret::Sealed,
        time::Timestamp,
    },
    store::{
        CallerKey, Commit, CommitOutcome, Damage, GrantingTable, Hashed, IndexMove, Installation,
        KeyWorkStore, LockedHead, NewPlatform, ReadKeys, Rewrapped, RowMark, SealedCounts, SealedOf,
        Snapshot, Store, StoreError, StoredConfig, StoredKeys, StoredTree, WhichOperations, Worker,
        breaches::{BreachStore, OpenBreaches, WhichBreaches},
        cases::{CaseStore, OpenCases, WhichCases},
        copies::{CopyStore, OpenCopies, WhichCopies},
        copy::{Copying, Row, Table},
        parts::PartStore,
        rows::{
            breaches::BreachRow,
            config::PolicyRow,
            copies::CopyRow,
            documents::{DocumentRow, PartRow, UploadRow},
            log::{EntryRow, ReceiptRow, SecondHead, TileRow},
            rights::CaseRow,
            work::{OpenOperations, OperationRow, ProposalRow, ReplicaRow},
        },
        whereabouts::Whereabouts,
    },
};
use tokio::sync::Semaphore;

use super::{
    backend::Backend,
    vault::{OpenVault, PLATFORM},
};

pub const PASS: u8 = 0;
/// Commits, says so, and waits before it returns.
pub const HOLD_AFTER: u8 = 1;
/// Fails without committing.
pub const FAIL_BEFORE: u8 = 2;
/// Commits, and then fails: the outcome is unknown to the vault.
pub const FAIL_AFTER: u8 = 3;
/// Says that the head moved, without committing.
pub const MOVED: u8 = 4;
/// Says that it was called, waits, and then commits.
pub const HOLD_BEFORE: u8 = 5;
/// Fails without committing, from some commit on.
pub const FAIL_AFTER_SOME: u8 = 6;
/// Says that it was called, waits, and then commits, from some commit on.
pub const HOLD_AFTER_SOME: u8 = 7;

pub struct Gate {
    pub inner: Arc<dyn Store>,
    mode: AtomicU8,
    pub committed: Semaphore,
    pub go_on: Semaphore,
    pub reads: Semaphore,
    commits: AtomicU64,
    /// Commits that were refused.
    pub refused: AtomicU64,
    /// How often a head was locked: others were faster too often.
    pub locks: AtomicU64,
    /// Commits that still pass.
    left: AtomicU64,
    /// How far ahead the database's clock is of this machine's, in microseconds.
    pub ahead: AtomicI64,
}

impl Gate {
    /// An open one.
    pub fn before(inner: Arc<dyn Store>) -> Arc<Self> {
        Arc::new(Self {
            inner,
            mode: AtomicU8::new(PASS),
            committed: Semaphore::new(0),
            go_on: Semaphore::new(0),
            reads: Semaphore::new(0),
            commits: AtomicU64::new(0),
            refused: AtomicU64::new(0),
            locks: AtomicU64::new(0),
            left: AtomicU64::new(0),
            ahead: AtomicI64::new(0),
        })
    }

    pub fn set(&self, mode: u8) {
        self.mode.store(mode, Ordering::SeqCst);
    }

    /// Lets so many commits pass, and then none.
    pub fn fail_after(&self, commits: u64) {
        self.left.store(commits, Ordering::SeqCst);
        self.set(FAIL_AFTER_SOME);
    }

    /// Lets so many commits pass, and holds the next before it is written.
    pub fn hold_after(&self, commits: u64) {
        self.left.store(commits, Ordering::SeqCst);
        self.set(HOLD_AFTER_SOME);
    }

    /// Whether one more of the commits that still pass is left.
    fn passes(&self) -> bool {
        let left = |left: u64| left.checked_sub(1);
        self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, left).is_ok()
    }

    /// Reads and commits so far, and entries in the log.
    pub async fn cost(&self) -> Cost {
        let size = self.inner.tree(PLATFORM).await.unwrap().head.counters.size;
        let reads = u64::try_from(self.reads.available_permits()).unwrap();
        Cost { reads, commits: self.commits.load(Ordering::SeqCst), entries: size }
    }

    pub async fn permits(&self) -> usize {
        let head = self.inner.tree(PLATFORM).await.unwrap().head;
        let limit = u32::try_from(head.counters.size).unwrap();
        let entries = self.inner.entries(PLATFORM, 0, limit).await.unwrap();
        entries.iter().filter(|row| Entry::decode(&row.entry).unwrap().verdict == "permit").count()
    }
}

/// What calls have cost.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cost {
    pub reads: u64,
    pub commits: u64,
    pub entries: u64,
}

fn broken() -> StoreError {
    StoreError::Schema("stopped by the test".to_owned())
}

impl Gate {
    async fn pass(
        &self,
        commit: impl Future<Output = Result<CommitOutcome, StoreError>>,
    ) -> Result<CommitOutcome, StoreError> {
        self.commits.fetch_add(1, Ordering::SeqCst);
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
            FAIL_AFTER => {
                commit.await?;
                self.set(PASS);
                Err(broken())
            }
            FAIL_AFTER_SOME if self.passes() => commit.await,
            FAIL_BEFORE | FAIL_AFTER_SOME => {
                self.refused.fetch_add(1, Ordering::SeqCst);
                Err(broken())
            }
            HOLD_AFTER_SOME if !self.passes() => {
                self.committed.add_permits(1);
                self.go_on.acquire().await.unwrap().forget();
                commit.await
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
impl PartStore for Gate {
    async fn count_part(
        &self,
        upload: &UploadRow,
        position: u32,
        object: ObjectId,
    ) -> Result<bool, StoreError> {
        self.inner.count_part(upload, position, object).await
    }

    async fn parts_of(&self, platform: PlatformId, upload: UploadId) -> Result<Vec<PartRow>, StoreError> {
        self.inner.parts_of(platform, upload).await
    }

    async fn parts_between(
        &self,
        platform: PlatformId,
        uploads: (UploadId, UploadId),
    ) -> Result<Vec<PartRow>, StoreError> {
        self.inner.parts_between(platform, uploads).await
    }

    async fn documents_between(
        &self,
        platform: PlatformId,
        ids: (UploadId, UploadId),
        limit: u32,
    ) -> Result<Vec<(UploadId, Result<DocumentRow, Damage>)>, StoreError> {
        self.inner.documents_between(platform, ids, limit).await
    }

    async fn uploads_between(
        &self,
        platform: PlatformId,
        uploads: (UploadId, UploadId),
    ) -> Result<Vec<UploadRow>, StoreError> {
        self.inner.uploads_between(platform, uploads).await
    }

    async fn ready_parts(&self, document: &DocumentRow, parts: &[PartRow]) -> Result<(), StoreError> {
        self.inner.ready_parts(document, parts).await
    }

    async fn doom_ready(&self, platform: PlatformId, which: Option<&[ObjectId]>) -> Result<u64, StoreError> {
        // What is dead tidies nothing up.
        let mode = self.mode.load(Ordering::SeqCst);
        if mode == FAIL_AFTER_SOME && self.left.load(Ordering::SeqCst) == 0 {
            return Err(broken());
        }
        self.inner.doom_ready(platform, which).await
    }

    async fn doomed_parts(&self, platform: PlatformId, limit: u32) -> Result<Vec<PartRow>, StoreError> {
        self.inner.doomed_parts(platform, limit).await
    }

    async fn forget_parts(&self, parts: &[PartRow]) -> Result<(), StoreError> {
        self.inner.forget_parts(parts).await
    }
}

#[async_trait::async_trait]
impl CopyStore for Gate {
    async fn data_copy(&self, platform: PlatformId, id: CopyId) -> Result<Option<CopyRow>, StoreError> {
        self.inner.data_copy(platform, id).await
    }

    async fn data_copies(
        &self,
        platform: PlatformId,
        which: WhichCopies,
        after: (Timestamp, CopyId),
        limit: u32,
    ) -> Result<Vec<CopyRow>, StoreError> {
        self.inner.data_copies(platform, which, after, limit).await
    }

    async fn open_copies(&self, now: Timestamp) -> Result<Vec<OpenCopies>, StoreError> {
        self.inner.open_copies(now).await
    }
}

#[async_trait::async_trait]
impl BreachStore for Gate {
    async fn breach(&self, platform: PlatformId, id: BreachId) -> Result<Option<BreachRow>, StoreError> {
        self.inner.breach(platform, id).await
    }

    async fn breaches(
        &self,
        platform: PlatformId,
        which: WhichBreaches,
        after: (Timestamp, BreachId),
        limit: u32,
    ) -> Result<Vec<BreachRow>, StoreError> {
        self.inner.breaches(platform, which, after, limit).await
    }

    async fn open_breaches(&self, now: Timestamp) -> Result<Vec<OpenBreaches>, StoreError> {
        self.inner.open_breaches(now).await
    }
}

#[async_trait::async_trait]
impl CaseStore for Gate {
    async fn case(&self, platform: PlatformId, id: CaseId) -> Result<Option<CaseRow>, StoreError> {
        self.inner.case(platform, id).await
    }

    async fn cases(
        &self,
        platform: PlatformId,
        which: WhichCases,
        after: (Timestamp, CaseId),
        limit: u32,
    ) -> Result<Vec<CaseRow>, StoreError> {
        self.inner.cases(platform, which, after, limit).await
    }

    async fn open_cases(&self, now: Timestamp) -> Result<Vec<OpenCases>, StoreError> {
        self.inner.open_cases(now).await
    }
}

#[async_trait::async_trait]
impl KeyWorkStore for Gate {
    async fn wrapped_keys(
        &self,
        platform: PlatformId,
        after: SubjectId,
        limit: u32,
    ) -> Result<Vec<(SubjectId, Sealed)>, StoreError> {
        self.inner.wrapped_keys(platform, after, limit).await
    }

    async fn stored_keys(
        &self,
        platform: PlatformId,
        from: Option<Cursor>,
        limit: u32,
    ) -> Result<StoredKeys, StoreError> {
        self.inner.stored_keys(platform, from, limit).await
    }

    async fn count_wraps(&self, platform: PlatformId) -> Result<Vec<(Vec<u8>, u64)>, StoreError> {
        self.inner.count_wraps(platform).await
    }

    async fn sealed(
        &self,
        platform: PlatformId,
        after: SubjectId,
        limit: u32,
    ) -> Result<Vec<SealedOf>, StoreError> {
        self.inner.sealed(platform, after, limit).await
    }

    async fn count_sealed(&self, platform: PlatformId) -> Result<SealedCounts, StoreError> {
        self.inner.count_sealed(platform).await
    }

    async fn hashed(
        &self,
        platform: PlatformId,
        versions: IndexMove,
        after: SubjectId,
        limit: u32,
    ) -> Result<Vec<Hashed>, StoreError> {
        self.inner.hashed(platform, versions, after, limit).await
    }

    async fn count_hashed(&self, platform: PlatformId) -> Result<Vec<(u32, u64)>, StoreError> {
        self.inner.count_hashed(platform).await
    }

    async fn rewrap(&self, worker: Worker, rows: &[Rewrapped]) -> Result<u64, StoreError> {
        let mut wrapped = 0;
        let commit = async {
            wrapped = self.inner.rewrap(worker, rows).await?;
            Ok(CommitOutcome::Committed)
        };
        match self.pass(commit).await? {
            CommitOutcome::Committed => Ok(wrapped),
            CommitOutcome::HeadMoved | CommitOutcome::Conflict => Err(broken()),
        }
    }
}

#[async_trait::async_trait]
impl Store for Gate {
    async fn commit(&self, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        self.pass(self.inner.commit(commit)).await
    }

    async fn lock_head(&self, platform: PlatformId) -> Result<Box<dyn LockedHead + '_>, StoreError> {
        self.locks.fetch_add(1, Ordering::SeqCst);
        Ok(Box::new(GatedHead { gate: self, inner: self.inner.lock_head(platform).await? }))
    }

    async fn operations(
        &self,
        platform: PlatformId,
        which: WhichOperations,
        limit: u32,
    ) -> Result<Vec<OperationRow>, StoreError> {
        self.inner.operations(platform, which, limit).await
    }

    async fn open_operations(&self) -> Result<Vec<OpenOperations>, StoreError> {
        self.inner.open_operations().await
    }

    async fn operation(
        &self,
        platform: PlatformId,
        id: OperationId,
    ) -> Result<Option<OperationRow>, StoreError> {
        self.inner.operation(platform, id).await
    }

    async fn place_of_proposal(&self, id: ProposalId) -> Result<Option<PlatformId>, StoreError> {
        self.inner.place_of_proposal(id).await
    }

    async fn expired_proposals(
        &self,
        platform: PlatformId,
        by: Timestamp,
        limit: u32,
    ) -> Result<Vec<ProposalId>, StoreError> {
        self.inner.expired_proposals(platform, by, limit).await
    }

    async fn proposals(
        &self,
        platform: PlatformId,
        after: (Timestamp, ProposalId),
        open_at: Option<Timestamp>,
        limit: u32,
    ) -> Result<Vec<ProposalRow>, StoreError> {
        self.inner.proposals(platform, after, open_at, limit).await
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

    async fn replicas(&self) -> Result<Vec<ReplicaRow>, StoreError> {
        self.inner.replicas().await
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

    async fn count_subjects(&self, up_to: u64) -> Result<u64, StoreError> {
        self.inner.count_subjects(up_to).await
    }

    async fn create_installation(&self, name: &str, vault: NewPlatform) -> Result<(), StoreError> {
        self.inner.create_installation(name, vault).await
    }

    async fn installation(&self) -> Result<Option<Installation>, StoreError> {
        self.inner.installation().await
    }

    async fn read(&self, platform: PlatformId, keys: &ReadKeys) -> Result<Snapshot, StoreError> {
        let mut snapshot = self.inner.read(platform, keys).await?;
        snapshot.now = snapshot.now.plus_micros(self.ahead.load(Ordering::SeqCst));
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

    async fn receipts(
        &self,
        platform: PlatformId,
        subject: SubjectId,
        limit: u32,
    ) -> Result<Vec<ReceiptRow>, StoreError> {
        self.inner.receipts(platform, subject, limit).await
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

    async fn copy(&self) -> Result<Box<dyn Copying + '_>, StoreError> {
        self.inner.copy().await
    }

    async fn tables(&self) -> Result<Vec<Table>, StoreError> {
        self.inner.tables().await
    }

    async fn is_used(&self) -> Result<bool, StoreError> {
        self.inner.is_used().await
    }

    async fn insert_rows(&self, table: &str, rows: &[Row]) -> Result<(), StoreError> {
        self.inner.insert_rows(table, rows).await
    }

    async fn whereabouts(&self) -> Result<Option<Whereabouts>, StoreError> {
        self.inner.whereabouts().await
    }

    async fn close(&self) {
        self.inner.close().await;
    }
}

/// A vault behind a gate that is open.
pub async fn gated(backend: &Backend) -> (tempfile::TempDir, OpenVault, Arc<Gate>) {
    let dir = tempfile::tempdir().unwrap();
    let mut gate = None;
    let open = OpenVault::create(backend, dir.path(), |inner| gate.insert(Gate::before(inner)).clone()).await;
    (dir, open, gate.unwrap())
}
