//! The store over SQL, written once. An [`Engine`] is what a database must give: connections, transactions, and the
//! few statements that the dialects write differently.

mod breaches;
mod cases;
mod commit;
mod config_writes;
mod copies;
mod copy;
pub(super) mod decode;
mod documents;
pub(super) mod engine;
mod hashed;
mod horizon;
mod inserts;
mod list_writes;
mod lists;
pub(super) mod packed;
mod read;
mod recipients;
mod restrictions;
pub(super) mod schema;
mod sealed;
pub(super) mod snapshot;
mod staff;
pub(super) mod statement;
mod stored_keys;
mod writes;

use copy::TableSql;
use decode::SqlRow;
use snapshot::SnapshotSql;
use statement::{Dialect, Statement};

use super::{
    CallerKey, Commit, CommitOutcome, Damage, GrantingTable, Hashed, IndexMove, Installation, KeyWorkStore,
    LockedHead, NewPlatform, ReadKeys, Rewrapped, RowMark, SealedCounts, SealedOf, Snapshot, Store,
    StoreError, StoredConfig, StoredKeys, StoredTree, WhichOperations, Worker,
    breaches::{BreachStore, OpenBreaches, WhichBreaches},
    cases::{CaseStore, OpenCases, WhichCases},
    copies::{CopyStore, OpenCopies, WhichCopies},
    copy::{Copying, Row, Table},
    parts::PartStore,
    restrictions::{OpenRestrictions, RestrictionStore, WhichRestrictions},
    rows::{
        SubjectRow,
        breaches::BreachRow,
        config::PolicyRow,
        copies::CopyRow,
        documents::{DocumentRow, PartRow, UploadRow},
        log::{EntryRow, ReceiptRow, SecondHead, TileRow},
        rights::CaseRow,
        work::{OpenOperations, OperationRow, ProposalRow, ReplicaRow},
    },
    whereabouts::Whereabouts,
};
use crate::domain::{
    ids::{BreachId, CaseId, CopyId, ObjectId, OperationId, PlatformId, ProposalId, SubjectId, UploadId},
    operation::Cursor,
    secret::Sealed,
    time::Timestamp,
};

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// One look at one state over several statements.
    Read,
    /// The same over whole tables, for as long as it takes.
    Copy,
    /// A commit.
    Write,
}

/// A database.
#[async_trait::async_trait]
pub(super) trait Engine: Send + Sync + 'static {
    type Row: SqlRow;
    type Tx: Send;

    /// How it writes what others write differently.
    fn dialect(&self) -> &'static Dialect;

    /// Swaps the head, and only where that happened writes the head of the second and the entries: parameters as in
    /// `commit::swap_head`. A whole commit, in one round trip. Answers whether the head was swapped.
    async fn swap_head_alone(&self, statement: Statement<'_>) -> sqlx::Result<bool>;

    async fn fetch(&self, statement: Statement<'_>) -> sqlx::Result<Vec<Self::Row>>;
    /// A statement that is a commit by itself. Answers how many rows were touched.
    async fn execute(&self, statement: Statement<'_>) -> sqlx::Result<u64>;
    async fn begin(&self, purpose: Purpose) -> sqlx::Result<Self::Tx>;
    async fn fetch_in(&self, tx: &mut Self::Tx, statement: Statement<'_>) -> sqlx::Result<Vec<Self::Row>>;
    /// Answers how many rows were touched.
    async fn execute_in(&self, tx: &mut Self::Tx, statement: Statement<'_>) -> sqlx::Result<u64>;
    async fn commit(&self, tx: Self::Tx) -> sqlx::Result<()>;
    async fn rollback(&self, tx: Self::Tx) -> sqlx::Result<()>;
    /// What the server says of itself; none for a file.
    async fn whereabouts(&self) -> sqlx::Result<Option<Whereabouts>>;
    async fn close(&self);
}

/// The store over an engine.
pub(super) struct SqlStore<E> {
    engine: E,
    snapshot: SnapshotSql,
    insert_entries: &'static str,
    inserts: inserts::InsertSql,
    record_texts: writes::RecordTexts,
    lists: list_writes::ListWrites,
    copied: tokio::sync::OnceCell<std::sync::Arc<[TableSql]>>,
}

impl<E: Engine> SqlStore<E> {
    pub(super) fn new(engine: E) -> Self {
        // The texts live as long as the process, as prepared statements want them; each dialect is rendered a few
        // times in a process's life at most.
        let snapshot = SnapshotSql::leak(engine.dialect());
        let insert_entries = engine.dialect().render(engine.dialect().insert_entries).leak();
        let inserts = inserts::InsertSql::new(engine.dialect());
        let record_texts = writes::RecordTexts::new(engine.dialect());
        let lists = list_writes::ListWrites::new(engine.dialect());
        Self {
            engine,
            snapshot,
            insert_entries,
            inserts,
            record_texts,
            lists,
            copied: tokio::sync::OnceCell::new(),
        }
    }

    pub(super) const fn engine(&self) -> &E {
        &self.engine
    }

    fn assembled(&self, answer: &[E::Row], platform: PlatformId) -> Result<Snapshot, StoreError> {
        if self.engine.dialect().packs_rows {
            return read::assemble(&packed::rows(answer)?, platform);
        }
        read::assemble(answer, platform)
    }
}

pub(super) fn database(action: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |source| StoreError::Database { action, source: Box::new(source) }
}

/// A transaction that holds a head.
struct Locked<'a, E: Engine> {
    store: &'a SqlStore<E>,
    platform: PlatformId,
    tx: E::Tx,
}

#[async_trait::async_trait]
impl<E: Engine> LockedHead for Locked<'_, E> {
    async fn tree(&mut self) -> Result<StoredTree, StoreError> {
        self.store.read_tree_in(&mut self.tx, self.platform).await
    }

    async fn read(&mut self, keys: &ReadKeys) -> Result<Snapshot, StoreError> {
        let statement = self.store.snapshot.statement(self.platform, keys);
        let rows = self.store.engine.fetch_in(&mut self.tx, statement).await;
        self.store.assembled(&rows.map_err(database("read a batch"))?, self.platform)
    }

    async fn commit(self: Box<Self>, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        self.store.write_commit_in(self.tx, commit).await
    }
}

#[async_trait::async_trait]
impl<E: Engine> PartStore for SqlStore<E> {
    async fn count_part(
        &self,
        upload: &UploadRow,
        position: u32,
        object: ObjectId,
    ) -> Result<bool, StoreError> {
        self.add_part(upload, position, object).await
    }

    async fn parts_of(&self, platform: PlatformId, upload: UploadId) -> Result<Vec<PartRow>, StoreError> {
        self.read_parts_of(platform, upload).await
    }

    async fn parts_between(
        &self,
        platform: PlatformId,
        uploads: (UploadId, UploadId),
    ) -> Result<Vec<PartRow>, StoreError> {
        self.read_parts_between(platform, uploads).await
    }

    async fn documents_between(
        &self,
        platform: PlatformId,
        ids: (UploadId, UploadId),
        limit: u32,
    ) -> Result<Vec<(UploadId, Result<DocumentRow, Damage>)>, StoreError> {
        self.read_documents_between(platform, ids, limit).await
    }

    async fn uploads_between(
        &self,
        platform: PlatformId,
        uploads: (UploadId, UploadId),
    ) -> Result<Vec<UploadRow>, StoreError> {
        self.read_uploads_between(platform, uploads).await
    }

    async fn ready_parts(&self, document: &DocumentRow, parts: &[PartRow]) -> Result<(), StoreError> {
        self.insert_ready(document, parts).await
    }

    async fn doom_ready(&self, platform: PlatformId, which: Option<&[ObjectId]>) -> Result<u64, StoreError> {
        self.doom_ready_parts(platform, which).await
    }

    async fn doomed_parts(&self, platform: PlatformId, limit: u32) -> Result<Vec<PartRow>, StoreError> {
        self.read_doomed_parts(platform, limit).await
    }

    async fn forget_parts(&self, parts: &[PartRow]) -> Result<(), StoreError> {
        self.delete_doomed(parts).await
    }
}

#[async_trait::async_trait]
impl<E: Engine> BreachStore for SqlStore<E> {
    async fn breach(&self, platform: PlatformId, id: BreachId) -> Result<Option<BreachRow>, StoreError> {
        self.read_breach(platform, id).await
    }

    async fn breaches(
        &self,
        platform: PlatformId,
        which: WhichBreaches,
        after: (Timestamp, BreachId),
        limit: u32,
    ) -> Result<Vec<BreachRow>, StoreError> {
        self.read_breaches(platform, which, after, limit).await
    }

    async fn open_breaches(&self, now: Timestamp) -> Result<Vec<OpenBreaches>, StoreError> {
        self.count_open_breaches(now).await
    }
}

#[async_trait::async_trait]
impl<E: Engine> CopyStore for SqlStore<E> {
    async fn data_copy(&self, platform: PlatformId, id: CopyId) -> Result<Option<CopyRow>, StoreError> {
        self.read_copy(platform, id).await
    }

    async fn data_copies(
        &self,
        platform: PlatformId,
        which: WhichCopies,
        after: (Timestamp, CopyId),
        limit: u32,
    ) -> Result<Vec<CopyRow>, StoreError> {
        self.read_copies(platform, which, after, limit).await
    }

    async fn open_copies(&self, now: Timestamp) -> Result<Vec<OpenCopies>, StoreError> {
        self.count_open_copies(now).await
    }
}

#[async_trait::async_trait]
impl<E: Engine> RestrictionStore for SqlStore<E> {
    async fn restricted_subjects(
        &self,
        platform: PlatformId,
        which: WhichRestrictions,
        after: (Timestamp, SubjectId),
        limit: u32,
    ) -> Result<Vec<SubjectRow>, StoreError> {
        self.read_restricted(platform, which, after, limit).await
    }

    async fn open_restrictions(&self, now: Timestamp) -> Result<Vec<OpenRestrictions>, StoreError> {
        self.count_open_restrictions(now).await
    }
}

#[async_trait::async_trait]
impl<E: Engine> CaseStore for SqlStore<E> {
    async fn case(&self, platform: PlatformId, id: CaseId) -> Result<Option<CaseRow>, StoreError> {
        self.read_case(platform, id).await
    }

    async fn cases(
        &self,
        platform: PlatformId,
        which: WhichCases,
        after: (Timestamp, CaseId),
        limit: u32,
    ) -> Result<Vec<CaseRow>, StoreError> {
        self.read_cases(platform, which, after, limit).await
    }

    async fn open_cases(&self, now: Timestamp) -> Result<Vec<OpenCases>, StoreError> {
        self.count_open_cases(now).await
    }
}

#[async_trait::async_trait]
impl<E: Engine> KeyWorkStore for SqlStore<E> {
    async fn wrapped_keys(
        &self,
        platform: PlatformId,
        after: SubjectId,
        limit: u32,
    ) -> Result<Vec<(SubjectId, Sealed)>, StoreError> {
        self.read_wrapped_keys(platform, after, limit).await
    }

    async fn stored_keys(
        &self,
        platform: PlatformId,
        from: Option<Cursor>,
        limit: u32,
    ) -> Result<StoredKeys, StoreError> {
        self.read_stored_keys(platform, from, limit).await
    }

    async fn count_wraps(&self, platform: PlatformId) -> Result<Vec<(Vec<u8>, u64)>, StoreError> {
        self.count_wraps_by_header(platform).await
    }

    async fn sealed(
        &self,
        platform: PlatformId,
        after: SubjectId,
        limit: u32,
    ) -> Result<Vec<SealedOf>, StoreError> {
        self.read_sealed(platform, after, limit).await
    }

    async fn count_sealed(&self, platform: PlatformId) -> Result<SealedCounts, StoreError> {
        self.count_all_sealed(platform).await
    }

    async fn hashed(
        &self,
        platform: PlatformId,
        versions: IndexMove,
        after: SubjectId,
        limit: u32,
    ) -> Result<Vec<Hashed>, StoreError> {
        self.read_hashed(platform, versions, after, limit).await
    }

    async fn count_hashed(&self, platform: PlatformId) -> Result<Vec<(u32, u64)>, StoreError> {
        self.count_hashed_by_version(platform).await
    }

    async fn rewrap(&self, worker: Worker, rows: &[Rewrapped]) -> Result<u64, StoreError> {
        let statement = self.lists.rewrap(worker, rows);
        self.engine.execute(statement).await.map_err(database("wrap keys anew"))
    }
}

#[async_trait::async_trait]
impl<E: Engine> Store for SqlStore<E> {
    async fn create_installation(&self, name: &str, vault: NewPlatform) -> Result<(), StoreError> {
        self.insert_installation(name, &vault).await.map_err(database("create the installation"))
    }

    async fn installation(&self) -> Result<Option<Installation>, StoreError> {
        self.read_installation().await
    }

    async fn read(&self, platform: PlatformId, keys: &ReadKeys) -> Result<Snapshot, StoreError> {
        let statement = self.snapshot.statement(platform, keys);
        let rows = self.engine.fetch(statement).await.map_err(database("read a batch"))?;
        self.assembled(&rows, platform)
    }

    async fn commit(&self, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        self.write_commit(commit).await
    }

    async fn lock_head(&self, platform: PlatformId) -> Result<Box<dyn LockedHead + '_>, StoreError> {
        let failed = || database("lock a head");
        let mut tx = self.engine.begin(Purpose::Write).await.map_err(failed())?;
        let lock = Statement::any(self.engine.dialect().lock_head).int(platform.get());
        self.engine.fetch_in(&mut tx, lock).await.map_err(failed())?;
        Ok(Box::new(Locked { store: self, platform, tx }))
    }

    async fn tree(&self, platform: PlatformId) -> Result<StoredTree, StoreError> {
        self.read_tree(platform).await
    }

    async fn config(&self, platform: PlatformId) -> Result<StoredConfig, StoreError> {
        self.read_config(platform).await
    }

    async fn policies(
        &self,
        platform: PlatformId,
        below: u32,
        limit: u32,
    ) -> Result<Vec<PolicyRow>, StoreError> {
        self.read_policies(platform, below, limit).await
    }

    async fn place_of_caller(&self, caller: CallerKey<'_>) -> Result<Option<PlatformId>, StoreError> {
        self.read_place_of_caller(caller).await
    }

    async fn count_subjects(&self, up_to: u64) -> Result<u64, StoreError> {
        self.read_subject_count(up_to).await
    }

    async fn entries(
        &self,
        platform: PlatformId,
        from: u64,
        limit: u32,
    ) -> Result<Vec<EntryRow>, StoreError> {
        self.read_entries(platform, from, limit).await
    }

    async fn entries_of(
        &self,
        platform: PlatformId,
        subject: SubjectId,
        from: u64,
        limit: u32,
    ) -> Result<Vec<(u64, EntryRow)>, StoreError> {
        self.read_entries_of(platform, subject, from, limit).await
    }

    async fn receipts(
        &self,
        platform: PlatformId,
        subject: SubjectId,
        limit: u32,
    ) -> Result<Vec<ReceiptRow>, StoreError> {
        self.read_receipts(platform, subject, limit).await
    }

    async fn token_count(&self, platform: PlatformId, subject: SubjectId) -> Result<u64, StoreError> {
        self.count_tokens_of(platform, subject).await
    }

    async fn tiles(
        &self,
        platform: PlatformId,
        level: u8,
        from: u64,
        limit: u32,
    ) -> Result<Vec<TileRow>, StoreError> {
        self.read_tiles(platform, level, from, limit).await
    }

    async fn second_heads(
        &self,
        platform: PlatformId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<SecondHead>, StoreError> {
        self.read_second_heads(platform, after, limit).await
    }

    async fn operations(
        &self,
        platform: PlatformId,
        which: WhichOperations,
        limit: u32,
    ) -> Result<Vec<OperationRow>, StoreError> {
        self.read_operations(platform, which, limit).await
    }

    async fn open_operations(&self) -> Result<Vec<OpenOperations>, StoreError> {
        self.count_open_operations().await
    }

    async fn operation(
        &self,
        platform: PlatformId,
        id: OperationId,
    ) -> Result<Option<OperationRow>, StoreError> {
        self.read_operation(platform, id).await
    }

    async fn place_of_proposal(&self, id: ProposalId) -> Result<Option<PlatformId>, StoreError> {
        self.read_place_of_proposal(id).await
    }

    async fn expired_proposals(
        &self,
        platform: PlatformId,
        by: Timestamp,
        limit: u32,
    ) -> Result<Vec<ProposalId>, StoreError> {
        self.read_expired_proposals(platform, by, limit).await
    }

    async fn proposals(
        &self,
        platform: PlatformId,
        after: (Timestamp, ProposalId),
        open_at: Option<Timestamp>,
        limit: u32,
    ) -> Result<Vec<ProposalRow>, StoreError> {
        self.read_proposals(platform, after, open_at, limit).await
    }

    async fn row_marks(
        &self,
        platform: PlatformId,
        table: GrantingTable,
        after: [u8; 16],
        limit: u32,
    ) -> Result<Vec<RowMark>, StoreError> {
        self.read_row_marks(platform, table, after, limit).await
    }

    async fn replicas(&self) -> Result<Vec<ReplicaRow>, StoreError> {
        self.read_replicas().await
    }

    async fn heartbeat(&self, replica: &ReplicaRow) -> Result<Vec<ReplicaRow>, StoreError> {
        self.beat(replica).await
    }

    async fn copy(&self) -> Result<Box<dyn Copying + '_>, StoreError> {
        self.begin_copy().await
    }

    async fn tables(&self) -> Result<Vec<Table>, StoreError> {
        self.list_tables().await
    }

    async fn is_used(&self) -> Result<bool, StoreError> {
        self.has_rows().await
    }

    async fn insert_rows(&self, table: &str, rows: &[Row]) -> Result<(), StoreError> {
        self.insert_copied(table, rows).await
    }

    async fn whereabouts(&self) -> Result<Option<Whereabouts>, StoreError> {
        self.engine.whereabouts().await.map_err(database("ask the server where it is"))
    }

    async fn close(&self) {
        self.engine.close().await;
    }
}
