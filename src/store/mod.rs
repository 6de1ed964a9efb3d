//! The database behind one trait. The only rooms that may speak SQL are the implementations below this one.
//!
//! A platform's writes all go through [`Store::commit`], which advances the platform's head by compare-and-swap:
//! entries, rows and head land together or not at all.

pub mod rows;
pub mod sqlite;

use std::collections::{BTreeSet, HashMap};

use crate::domain::{
    ids::{ConsentId, PlatformId, SubjectId},
    names::PlatformName,
    time::Timestamp,
    token::TokenHash,
};
use rows::{
    CallerRow, ConsentRow, EntryRow, HeadRow, KeyVersionRow, PolicyRow, RecordRow, SecondHead, SubjectRow,
    TileRow, TokenRow,
};

/// The schema version that this binary writes.
pub const SCHEMA_VERSION: i64 = 1;

/// Why the store did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database does not answer, or answers with an error of its own.
    #[error("the database failed: {action}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// The driver's error. For the operator's log; never for a client.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A stored row cannot be what it claims.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The database has no schema, or one that this binary may not run on.
    #[error("{0}")]
    Schema(String),
}

/// A stored row that cannot be what it claims: unknown code, wrong length, missing part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("table {table} holds a row that cannot be: column {column}")]
pub struct Damage {
    /// Table.
    pub table: &'static str,
    /// Column.
    pub column: &'static str,
}

/// What a batch needs to see. Sets, so that each key is looked up once.
#[derive(Debug, Default)]
pub struct ReadKeys {
    /// Tokens, with their records, subjects and those subjects' consents.
    pub tokens: BTreeSet<TokenHash>,
    /// Subjects by index version and reference hash, with their current records and consents.
    pub subjects: BTreeSet<(u32, [u8; 32])>,
    /// Single consents.
    pub consents: BTreeSet<ConsentId>,
}

/// A token with what stands behind it.
#[derive(Debug)]
pub struct FoundToken {
    /// The token's row.
    pub token: TokenRow,
    /// The current version of its record.
    pub record: RecordRow,
    /// The record's subject.
    pub subject: SubjectRow,
}

/// A subject with its current records.
#[derive(Debug)]
pub struct FoundSubject {
    /// The row.
    pub subject: SubjectRow,
    /// Current records.
    pub records: Vec<RecordRow>,
}

/// What a batch read brought: rows as stored, their MACs not yet checked. A row that cannot be is the fault of the
/// items that need it, and of no other.
#[derive(Debug)]
pub struct Snapshot {
    /// The head. It was read before the rows or with them, so a change in between shows at the commit.
    pub head: HeadRow,
    /// The database's clock.
    pub now: Timestamp,
    /// By token hash.
    pub tokens: HashMap<TokenHash, Result<FoundToken, Damage>>,
    /// By index version and reference hash.
    pub subjects: HashMap<(u32, [u8; 32]), Result<FoundSubject, Damage>>,
    /// Consents of every subject found above, newest first.
    pub consents_of: HashMap<SubjectId, Result<Vec<ConsentRow>, Damage>>,
    /// Single consents that were asked for.
    pub consents: HashMap<ConsentId, Result<ConsentRow, Damage>>,
}

/// One row written with a commit. Each states what it must meet; where it does not, the whole commit is undone.
#[derive(Debug)]
pub enum Write {
    /// A new subject; its reference must be new.
    InsertSubject(SubjectRow),
    /// A new record; the subject must have no current record of the field.
    InsertRecord(RecordRow),
    /// A new token.
    InsertToken(TokenRow),
    /// A new consent.
    InsertConsent(ConsentRow),
    /// A consent that must be granted still, withdrawn.
    WithdrawConsent(ConsentRow),
    /// A new policy version.
    InsertPolicy(PolicyRow),
    /// A caller, new or changed.
    PutCaller(CallerRow),
}

/// The three numbers that a commit swaps on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Entries in the log.
    pub size: u64,
    /// Moves with any change to a policy, caller or key.
    pub config_epoch: u64,
    /// Moves with any change that can turn a permit into a denial.
    pub tighten_seq: u64,
}

/// Everything that becomes durable together.
#[derive(Debug)]
pub struct Commit {
    /// What the head must be still.
    pub expected: Counters,
    /// What the head becomes.
    pub head: HeadRow,
    /// Entries, from position `expected.size` on.
    pub entries: Vec<EntryRow>,
    /// Tiles that the entries completed.
    pub tiles: Vec<TileRow>,
    /// Rows.
    pub writes: Vec<Write>,
}

/// How a commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CommitOutcome {
    /// Durable.
    Committed,
    /// Nothing was written: the head is not what was expected.
    HeadMoved,
    /// Nothing was written: a row did not meet what its write stated.
    Conflict,
}

/// A head with what is needed to go on from it.
#[derive(Debug)]
pub struct StoredTree {
    /// The head.
    pub head: HeadRow,
    /// For each tile level, the hashes after its last complete tile.
    pub partial: Vec<Vec<[u8; 32]>>,
}

/// Policy, callers and keys of one platform, as of one epoch.
#[derive(Debug)]
pub struct StoredConfig {
    /// The epoch.
    pub config_epoch: u64,
    /// Keys that are not destroyed.
    pub keys: Vec<KeyVersionRow>,
    /// The newest policy.
    pub policy: Option<PolicyRow>,
    /// Callers.
    pub callers: Vec<CallerRow>,
}

/// A platform as created: its keys, and its log with the first entries.
#[derive(Debug)]
pub struct NewPlatform {
    /// Short name.
    pub name: PlatformName,
    /// When.
    pub created_at: Timestamp,
    /// Keys.
    pub keys: Vec<KeyVersionRow>,
    /// Head after `entries`.
    pub head: HeadRow,
    /// The first entries.
    pub entries: Vec<EntryRow>,
}

/// What stays the same for the life of an installation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installation {
    /// The name in every log's origin.
    pub name: String,
    /// Platforms by number.
    pub platforms: Vec<(PlatformId, PlatformName)>,
}

/// The database.
#[async_trait::async_trait]
pub trait Store: Send + Sync {
    /// Records the installation and its platform 0. Refused where there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn create_installation(&self, name: &str, vault: NewPlatform) -> Result<(), StoreError>;

    /// Adds a platform.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn create_platform(&self, platform: NewPlatform) -> Result<(), StoreError>;

    /// The installation, where there is one.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn installation(&self) -> Result<Option<Installation>, StoreError>;

    /// One consistent look at everything that a batch needs.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn read(&self, platform: PlatformId, keys: &ReadKeys) -> Result<Snapshot, StoreError>;

    /// Makes everything in `commit` durable, or nothing.
    ///
    /// # Errors
    /// [`StoreError`]: whether the commit became durable is then unknown, and the head tells.
    async fn commit(&self, commit: &Commit) -> Result<CommitOutcome, StoreError>;

    /// The head and the incomplete tiles.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn tree(&self, platform: PlatformId) -> Result<StoredTree, StoreError>;

    /// Policy, callers and keys.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn config(&self, platform: PlatformId) -> Result<StoredConfig, StoreError>;

    /// Up to `limit` entries from a position on.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn entries(&self, platform: PlatformId, from: u64, limit: u32)
    -> Result<Vec<EntryRow>, StoreError>;

    /// Up to `limit` complete tiles of a level, from an index on.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn tiles(
        &self,
        platform: PlatformId,
        level: u8,
        from: u64,
        limit: u32,
    ) -> Result<Vec<TileRow>, StoreError>;

    /// Up to `limit` heads of single seconds after a second.
    ///
    /// # Errors
    /// [`StoreError`].
    async fn second_heads(
        &self,
        platform: PlatformId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<SecondHead>, StoreError>;

    /// Ends all connections, after what runs on them.
    async fn close(&self);
}
