//! The database behind one trait. The only room that may speak SQL is below this one.
//!
//! A platform's writes all go through [`Store::commit`], which advances the platform's head by compare-and-swap:
//! entries, rows and head land together or not at all.

pub mod breaches;
pub mod cases;
pub mod ceiling;
mod changed;
pub mod copies;
pub mod copy;
mod error;
mod granting;
mod many;
pub mod parts;
pub mod postgres;
mod read_keys;
pub mod restrictions;
pub mod rows;
mod sql;
pub mod sqlite;
pub mod whereabouts;

use std::{
    collections::{BTreeSet, HashMap, HashSet},
    sync::Arc,
};

use crate::domain::{
    ids::{
        CallerId, ConsentId, DocumentId, OperationId, PlatformId, ProposalId, RecordId, RequestId, SubjectId,
        TokenRowId,
    },
    names::{FieldName, SpiffeId},
    operation::{BudgetWindow, OperationKind},
    platform::Platform,
    time::Timestamp,
    token::TokenHash,
};
use breaches::BreachStore;
use cases::CaseStore;
pub use changed::{Changed, Touched};
use copies::CopyStore;
use copy::{Copying, Row, Table};
pub use error::{Damage, StoreError};
pub use granting::GrantingTable;
pub use many::{
    Hashed, HashedValue, IndexMove, KeyWorkStore, Many, Place, Resealed, Rewrapped, SealedCounts, SealedOf,
    StoredKeys, Swap, Worker,
};
use parts::PartStore;
pub use read_keys::ReadKeys;
use restrictions::RestrictionStore;
use rows::{
    ConsentRow, EventRow, IndexRow, Mac, RecordRow, SubjectRow, TokenRow,
    breaches::BreachRow,
    config::{
        BudgetLimitRow, CallerRow, ClosureRow, HorizonRow, KeyVersionRow, PersonRow, PolicyRow, RecipientRow,
        RoleGrantRow, StaffKeyRow,
    },
    copies::CopyRow,
    documents::{DocumentRow, UploadRow},
    log::{EntryRow, HeadRow, ReceiptRow, SecondHead, TileRow},
    rights::CaseRow,
    work::{OpenOperations, OperationRow, ProposalRow, ReplicaRow, RequestRow},
};
use whereabouts::Whereabouts;

/// The schema version that this binary writes.
pub const SCHEMA_VERSION: i64 = 30;
/// Index entries of looked-up values that one read brings.
pub const MAX_INDEX_HITS: usize = 1_000;

/// A value's place in the blind index: field, version of the index key, hash.
pub type IndexKeyOfValue = (FieldName, u32, [u8; 32]);
/// A subject's place: version of the index key, hash of the platform's reference.
pub type ReferenceKey = (u32, [u8; 32]);

/// What a batch read brought: rows as stored, their MACs not yet checked. A row that cannot be is the fault of the
/// items that need it, and of no other.
#[derive(Debug)]
pub struct Snapshot {
    /// Where the log and the rows stood. Read before the rows or with them, so a change in between shows at the commit.
    pub counters: Counters,
    /// Time of the log's last entry.
    pub logged_at: Timestamp,
    /// `config_epoch` of the vault's own platform: staff is kept there.
    pub vault_epoch: u64,
    /// The database's clock.
    pub now: Timestamp,
    /// By token hash.
    pub tokens: HashMap<TokenHash, Result<Arc<TokenRow>, Damage>>,
    /// Hashes of tokens that were asked for by row id, or as deterministic.
    pub token_hashes: HashMap<TokenRowId, TokenHash>,
    /// Deterministic tokens by record.
    pub deterministic: HashMap<RecordId, TokenHash>,
    /// Current versions of records.
    pub records: HashMap<RecordId, Result<Arc<RecordRow>, Damage>>,
    /// Records of each subject.
    pub records_of: HashMap<SubjectId, BTreeSet<RecordId>>,
    /// Subjects.
    pub subjects: HashMap<SubjectId, Result<Arc<SubjectRow>, Damage>>,
    /// Subjects by reference.
    pub references: HashMap<ReferenceKey, SubjectId>,
    /// Consents of every subject found above, newest first.
    pub consents_of: HashMap<SubjectId, Result<Arc<Vec<ConsentRow>>, Damage>>,
    /// Single consents that were asked for.
    pub consents: HashMap<ConsentId, Result<ConsentRow, Damage>>,
    /// Events of every subject found above.
    pub events_of: HashMap<SubjectId, Result<Arc<Vec<EventRow>>, Damage>>,
    /// Records by the values that were asked for.
    pub values: HashMap<IndexKeyOfValue, Vec<IndexRow>>,
    /// Records whose value another one claims as unique.
    pub rivalled: HashSet<RecordId>,
    /// Requests that were done.
    pub requests: HashMap<(CallerId, RequestId), Result<RequestRow, Damage>>,
    /// Spent of budgets.
    pub budgets: HashMap<BudgetWindow, u64>,
    /// Open operations by object.
    pub operations_on: HashMap<[u8; 16], OperationRow>,
    /// Proposals that were asked for.
    pub proposals: HashMap<ProposalId, Result<ProposalRow, Damage>>,
    /// Documents of every subject found, where they were asked for: each side in each version.
    pub documents_of: HashMap<SubjectId, Result<Vec<DocumentRow>, Damage>>,
    /// Their uploads that are not done.
    pub uploads_of: HashMap<SubjectId, Result<Vec<UploadRow>, Damage>>,
    /// Subjects of whom a request for erasure or a withdrawal was ever registered, or an erasure called off, where that was
    /// asked for; and each that is erased. No MAC is checked: one too many destroys, as a subject is by default, and one that
    /// is gone is found by the reconciliation.
    pub demanded: HashSet<SubjectId>,
}

impl Snapshot {
    /// A look that found nothing.
    #[must_use]
    pub fn empty(counters: Counters, logged_at: Timestamp, vault_epoch: u64, now: Timestamp) -> Self {
        Self {
            counters,
            logged_at,
            vault_epoch,
            now,
            tokens: HashMap::new(),
            token_hashes: HashMap::new(),
            deterministic: HashMap::new(),
            records: HashMap::new(),
            records_of: HashMap::new(),
            subjects: HashMap::new(),
            references: HashMap::new(),
            consents_of: HashMap::new(),
            consents: HashMap::new(),
            events_of: HashMap::new(),
            values: HashMap::new(),
            rivalled: HashSet::new(),
            requests: HashMap::new(),
            budgets: HashMap::new(),
            operations_on: HashMap::new(),
            proposals: HashMap::new(),
            documents_of: HashMap::new(),
            uploads_of: HashMap::new(),
            demanded: HashSet::new(),
        }
    }
}

/// One row written with a commit. Each states what it must meet; where it does not, the whole commit is undone. `was`
/// is the MAC of the row that is replaced.
#[derive(Debug)]
pub enum Write {
    /// A new subject; its reference must be new.
    InsertSubject(SubjectRow),
    /// A subject's state, and the hash that its reference is found by.
    UpdateSubject(SubjectRow, Mac),
    /// An erased subject, whose key, records, index entries, tokens and documents go for good.
    DestroySubject(SubjectRow),
    /// A new record or version; the subject must have no other current record of the field.
    InsertRecord(RecordRow),
    /// A record's state.
    UpdateRecord(RecordRow, Mac),
    /// A record whose time has ended: every version, token and index entry of it goes for good.
    DestroyRecord(RecordId),
    /// A new token.
    InsertToken(TokenRow),
    /// That no token has this hash.
    NoToken(TokenHash),
    /// A token's state.
    UpdateToken(TokenRow, Mac),
    /// A new consent.
    InsertConsent(ConsentRow),
    /// A consent's state.
    UpdateConsent(ConsentRow, Mac),
    /// Something that happened to a subject.
    InsertEvent(EventRow),
    /// A new request of a person.
    InsertCase(CaseRow),
    /// A request of a person after its next step.
    UpdateCase(CaseRow, Mac),
    /// A new breach.
    InsertBreach(BreachRow),
    /// A breach after its next step.
    UpdateBreach(BreachRow, Mac),
    /// A copy of data outside the vault, new or ended.
    PutCopy(CopyRow, Option<Mac>),
    /// What is stated of an erasure.
    InsertReceipt(ReceiptRow),
    /// A value's place in the blind index; where it claims uniqueness, nobody else may.
    InsertIndex(IndexRow),
    /// Ends a record's claims to unique values.
    EndClaims(RecordId),
    /// Claims a record's unique value again.
    Claim(RecordId),
    /// Takes a record's values out of the index.
    DeleteIndex(RecordId),
    /// A request that was done.
    InsertRequest(RequestRow),
    /// Forgets requests from before an instant, up to a number of them.
    ForgetRequests {
        /// Before when.
        before: Timestamp,
        /// At most so many.
        limit: u32,
    },
    /// What is spent of a budget.
    Spend {
        /// Window.
        window: BudgetWindow,
        /// Spent before, as it was read.
        before: u64,
        /// Spent now.
        after: u64,
    },
    /// A new policy version.
    InsertPolicy(PolicyRow),
    /// A caller, new or changed.
    PutCaller(CallerRow, Option<Mac>),
    /// A person, new or changed.
    PutPerson(PersonRow, Option<Mac>),
    /// A role of a person, granted or ended.
    PutRole(RoleGrantRow, Option<Mac>),
    /// A hardware key of a person, enrolled or withdrawn.
    PutStaffKey(StaffKeyRow, Option<Mac>),
    /// A standing plan of the horizon, approved or revoked.
    PutHorizon(HorizonRow, Option<Mac>),
    /// A recipient, new or changed.
    PutRecipient(RecipientRow, Option<Mac>),
    /// A limit, new or changed.
    PutLimit(BudgetLimitRow, Option<Mac>),
    /// A closure, new or ended.
    PutClosure(ClosureRow, Option<Mac>),
    /// A new key version.
    InsertKey(KeyVersionRow),
    /// A key version's state; its key goes where it is destroyed.
    UpdateKey(KeyVersionRow, Mac),
    /// Many rows in one statement.
    Many(Many),
    /// Takes values out of every index but one, of subjects after one and up to another, in the order of ids.
    DropIndex(u32, SubjectId, SubjectId),
    /// New work.
    InsertOperation(OperationRow),
    /// Work that must be at this fence still.
    UpdateOperation(OperationRow, u32),
    /// A new proposal.
    InsertProposal(ProposalRow),
    /// The end of one.
    EndProposal(ProposalRow, Mac),
    /// A new version of a side; the subject must have no other current one.
    InsertDocument(DocumentRow),
    /// A version's state.
    UpdateDocument(DocumentRow, Mac),
    /// Every side and version of a document, and its uploads; their objects are doomed.
    DeleteDocument(DocumentId),
    /// A new upload.
    InsertUpload(UploadRow),
    /// An upload carried on by a further stream, in the place of this attempt; objects of parts to come again are doomed.
    TakeUpload(UploadRow, u32),
    /// An upload that is done at this attempt and part: its objects are the document's.
    EndUpload(UploadRow),
    /// An upload that comes to nothing, if it is at this attempt still; its objects are doomed.
    DropUpload(UploadRow),
    /// A new platform; written from the vault's own log.
    CreatePlatform(Arc<NewPlatform>),
}

/// Where a platform's log and rows stand. A commit swaps on the first three.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counters {
    /// Entries in the log.
    pub size: u64,
    /// Moves with any change to a policy, caller, recipient, limit or key.
    pub config_epoch: u64,
    /// Moves with any change that can turn a permit into a denial.
    pub tighten_seq: u64,
    /// Moves with any change of a row that a read by tokens brought before, or of what it would bring with such a row: while
    /// it stands, so do they.
    pub change_seq: u64,
}

/// Everything that becomes durable together.
#[derive(Debug)]
pub struct Commit {
    /// What the head must be still.
    pub expected: Counters,
    /// What the vault's own `config_epoch` must be still: staff is kept there.
    pub vault_epoch: u64,
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
    /// `config_epoch` of the vault's own platform.
    pub vault_epoch: u64,
    /// For each tile level, the hashes after its last complete tile.
    pub partial: Vec<Vec<[u8; 32]>>,
}

/// Policies, callers, recipients, limits and keys of one platform, as of one epoch.
#[derive(Debug)]
pub struct StoredConfig {
    /// The epoch.
    pub config_epoch: u64,
    /// Keys, destroyed ones too.
    pub keys: Vec<KeyVersionRow>,
    /// Policy versions, newest first, at most [`MAX_POLICIES`].
    pub policies: Vec<PolicyRow>,
    /// Callers.
    pub callers: Vec<CallerRow>,
    /// Recipients.
    pub recipients: Vec<RecipientRow>,
    /// Limits that an operator set.
    pub limits: Vec<BudgetLimitRow>,
    /// Persons; of platform 0 only.
    pub persons: Vec<PersonRow>,
    /// Their roles; of platform 0 only.
    pub grants: Vec<RoleGrantRow>,
    /// Their hardware keys, withdrawn ones too; of platform 0 only.
    pub staff_keys: Vec<StaffKeyRow>,
    /// Standing plans of the horizon, newest first; of platform 0 only.
    pub horizons: Vec<HorizonRow>,
    /// That a restore closed it.
    pub closure: Option<ClosureRow>,
}

/// Policy versions that are loaded: the one in force, and those around it.
pub const MAX_POLICIES: u32 = 16;

/// A platform as created: its keys, and its log with the first entries.
#[derive(Debug)]
pub struct NewPlatform {
    /// Who.
    pub platform: Platform,
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
    /// Platforms by number, the vault's own first.
    pub platforms: Vec<Platform>,
}

/// Which operations of a platform are wanted.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhichOperations {
    /// Open ones whose time has come, the longest due first.
    Due(Timestamp),
    /// Those of one kind, the newest first.
    OfKind(OperationKind),
    /// The newest first, after one that was made then.
    Newest(Option<(Timestamp, OperationId)>),
}

/// A caller, by one of the two names that are its own in the whole installation.
#[derive(Debug, Clone, Copy)]
pub enum CallerKey<'a> {
    /// URI of its certificate.
    Certificate(&'a SpiffeId),
    /// Id.
    Id(CallerId),
}

/// Id and MAC of a stored row.
pub type RowMark = ([u8; 16], Mac);

/// A platform's head, held against every other writer until it is committed or dropped.
#[async_trait::async_trait]
pub trait LockedHead: Send {
    /// As [`Store::tree`].
    async fn tree(&mut self) -> Result<StoredTree, StoreError>;

    /// As [`Store::read`].
    async fn read(&mut self, keys: &ReadKeys) -> Result<Snapshot, StoreError>;

    /// As [`Store::commit`].
    async fn commit(self: Box<Self>, commit: &Commit) -> Result<CommitOutcome, StoreError>;
}

/// The database.
#[async_trait::async_trait]
pub trait Store: PartStore + CaseStore + BreachStore + CopyStore + RestrictionStore + KeyWorkStore {
    /// Records the installation and its platform 0. Refused where there is one.
    async fn create_installation(&self, name: &str, vault: NewPlatform) -> Result<(), StoreError>;

    /// The installation, where there is one.
    async fn installation(&self) -> Result<Option<Installation>, StoreError>;

    /// One consistent look at everything that a batch needs.
    async fn read(&self, platform: PlatformId, keys: &ReadKeys) -> Result<Snapshot, StoreError>;

    /// Makes everything in `commit` durable, or nothing. After an error it is unknown whether the commit became
    /// durable, and the head tells.
    async fn commit(&self, commit: &Commit) -> Result<CommitOutcome, StoreError>;

    /// Waits until nobody else writes to the platform's log, and keeps it so.
    async fn lock_head(&self, platform: PlatformId) -> Result<Box<dyn LockedHead + '_>, StoreError>;

    /// The head and the incomplete tiles.
    async fn tree(&self, platform: PlatformId) -> Result<StoredTree, StoreError>;

    /// Policies, callers, recipients, limits and keys.
    async fn config(&self, platform: PlatformId) -> Result<StoredConfig, StoreError>;

    /// Up to `limit` policy versions below a version, newest first.
    async fn policies(
        &self,
        platform: PlatformId,
        below: u32,
        limit: u32,
    ) -> Result<Vec<PolicyRow>, StoreError>;

    /// The platform that a caller is enrolled with; none where it is enrolled with none.
    async fn place_of_caller(&self, caller: CallerKey<'_>) -> Result<Option<PlatformId>, StoreError>;

    /// Subjects of the whole installation, counted up to a number.
    async fn count_subjects(&self, up_to: u64) -> Result<u64, StoreError>;

    /// Up to `limit` entries from a position on.
    async fn entries(&self, platform: PlatformId, from: u64, limit: u32)
    -> Result<Vec<EntryRow>, StoreError>;

    /// Up to `limit` entries about a subject, with their positions, from a position on.
    async fn entries_of(
        &self,
        platform: PlatformId,
        subject: SubjectId,
        from: u64,
        limit: u32,
    ) -> Result<Vec<(u64, EntryRow)>, StoreError>;

    /// Up to `limit` receipts of a subject's erasures, newest first.
    async fn receipts(
        &self,
        platform: PlatformId,
        subject: SubjectId,
        limit: u32,
    ) -> Result<Vec<ReceiptRow>, StoreError>;

    /// How many tokens a subject's current records have, of all states.
    async fn token_count(&self, platform: PlatformId, subject: SubjectId) -> Result<u64, StoreError>;

    /// Up to `limit` complete tiles of a level, from an index on.
    async fn tiles(
        &self,
        platform: PlatformId,
        level: u8,
        from: u64,
        limit: u32,
    ) -> Result<Vec<TileRow>, StoreError>;

    /// Up to `limit` heads of single seconds after a second.
    async fn second_heads(
        &self,
        platform: PlatformId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<SecondHead>, StoreError>;

    /// Up to `limit` operations.
    async fn operations(
        &self,
        platform: PlatformId,
        which: WhichOperations,
        limit: u32,
    ) -> Result<Vec<OperationRow>, StoreError>;

    /// Open operations, counted by kind and state.
    async fn open_operations(&self) -> Result<Vec<OpenOperations>, StoreError>;

    /// An operation by its id.
    async fn operation(
        &self,
        platform: PlatformId,
        id: OperationId,
    ) -> Result<Option<OperationRow>, StoreError>;

    /// The platform of a proposal; none where there is no such proposal.
    async fn place_of_proposal(&self, id: ProposalId) -> Result<Option<PlatformId>, StoreError>;

    /// Up to `limit` open proposals whose time ended by a moment.
    async fn expired_proposals(
        &self,
        platform: PlatformId,
        by: Timestamp,
        limit: u32,
    ) -> Result<Vec<ProposalId>, StoreError>;

    /// Up to `limit` proposals after a moment and id, oldest first, without their requests: all, or those that are open
    /// and can be approved at a moment.
    async fn proposals(
        &self,
        platform: PlatformId,
        after: (Timestamp, ProposalId),
        open_at: Option<Timestamp>,
        limit: u32,
    ) -> Result<Vec<ProposalRow>, StoreError>;

    /// Up to `limit` rows after an id, in the order of ids.
    async fn row_marks(
        &self,
        platform: PlatformId,
        table: GrantingTable,
        after: [u8; 16],
        limit: u32,
    ) -> Result<Vec<RowMark>, StoreError>;

    /// Processes that live, as they were last heard of.
    async fn replicas(&self) -> Result<Vec<ReplicaRow>, StoreError>;

    /// Records that this process lives, and answers all that do.
    async fn heartbeat(&self, replica: &ReplicaRow) -> Result<Vec<ReplicaRow>, StoreError>;

    /// Every table at one moment, while others go on writing.
    async fn copy(&self) -> Result<Box<dyn Copying + '_>, StoreError>;

    /// Tables that are copied, each after those that it refers to.
    async fn tables(&self) -> Result<Vec<Table>, StoreError>;

    /// Whether any of these tables has a row.
    async fn is_used(&self) -> Result<bool, StoreError>;

    /// Puts copied rows into a table, all or none.
    async fn insert_rows(&self, table: &str, rows: &[Row]) -> Result<(), StoreError>;

    /// What the database server says of itself and of who follows it; none for a file.
    async fn whereabouts(&self) -> Result<Option<Whereabouts>, StoreError>;

    /// Ends all connections, after what runs on them.
    async fn close(&self);
}
