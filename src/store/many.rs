//! Many rows that are read or written together, by long work on keys.

use std::sync::Arc;

use super::{
    StoreError,
    rows::{
        Mac, SubjectRow, TokenRow,
        documents::{DocumentRow, UploadRow},
    },
};
use crate::domain::{
    consent::RecordAddress,
    ids::{ConsentId, ObjectId, OperationId, PlatformId, RecordId, SubjectId, TokenRowId, UploadId},
    operation::Cursor,
    secret::Sealed,
};

/// What long work on keys reads and writes.
#[async_trait::async_trait]
pub trait KeyWorkStore: Send + Sync {
    /// Up to `limit` subject keys as wrapped, of subjects after an id, in the order of ids.
    async fn wrapped_keys(
        &self,
        platform: PlatformId,
        after: SubjectId,
        limit: u32,
    ) -> Result<Vec<(SubjectId, Sealed)>, StoreError>;

    /// Some `limit` subject keys as wrapped, in the order in which they are stored, from where another call ended. Who changes rows
    /// meanwhile may move a key past this walk: what must meet every key goes in the order of ids.
    async fn stored_keys(
        &self,
        platform: PlatformId,
        from: Option<Cursor>,
        limit: u32,
    ) -> Result<StoredKeys, StoreError>;

    /// How many subject keys each header of a wrap has: the header names the version that wraps.
    async fn count_wraps(&self, platform: PlatformId) -> Result<Vec<(Vec<u8>, u64)>, StoreError>;

    /// All that is sealed under the keys of up to `limit` subjects after an id, in the order of ids.
    async fn sealed(
        &self,
        platform: PlatformId,
        after: SubjectId,
        limit: u32,
    ) -> Result<Vec<SealedOf>, StoreError>;

    /// How much is sealed under the keys of all subjects.
    async fn count_sealed(&self, platform: PlatformId) -> Result<SealedCounts, StoreError>;

    /// What is hashed of up to `limit` subjects with a key after an id, in the order of ids.
    async fn hashed(
        &self,
        platform: PlatformId,
        versions: IndexMove,
        after: SubjectId,
        limit: u32,
    ) -> Result<Vec<Hashed>, StoreError>;

    /// How much is hashed under each version of the index key: values, references of subjects that have their key, tokens.
    async fn count_hashed(&self, platform: PlatformId) -> Result<Vec<(u32, u64)>, StoreError>;

    /// Puts subject keys under another wrap where the worker has its operation still; all or none. A row that is not as it was read
    /// keeps what it has. Answers how many got it.
    ///
    /// It stands beside the commits of the platform's log, so that nobody waits for it who reads: a wrap says nothing that the log
    /// must tell at the same moment, and an operation's next commit tells how far it is. That commit is on the disk (and on a
    /// standby that is waited for) only after all that was written before it; until then a loss of power may bring the wrap before
    /// back, which opens as well. PostgreSQL answers this write without waiting for the disk, which the commits of readers wait for.
    async fn rewrap(&self, worker: Worker, rows: &[Rewrapped]) -> Result<u64, StoreError>;
}

/// Subject keys of some place in the store.
#[derive(Debug)]
pub struct StoredKeys {
    /// Those that are best written together, one round after the other.
    pub rounds: Vec<Vec<(SubjectId, Sealed)>>,
    /// Where to go on; none at the end.
    pub next: Option<Cursor>,
}

/// A process that has an operation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Worker {
    /// Platform of the operation.
    pub platform: PlatformId,
    /// The operation.
    pub operation: OperationId,
    /// The fence that it took the operation at.
    pub fence: u32,
}

/// Many rows that one statement writes.
#[derive(Debug)]
pub enum Many {
    /// Places of values in the index of another key version. A value that changed meanwhile is not put there.
    FillIndex(IndexMove, Vec<Place>),
    /// Subjects whose reference is hashed under another key version.
    MoveSubjects(Vec<(SubjectRow, Mac)>),
    /// Tokens that are hashed under another key version.
    MoveTokens(Vec<(TokenRow, Mac)>),
    /// Subjects under new keys, with all that was sealed under the old ones. Everything of them must be as it was read, and
    /// nothing more may be there: what the same commit writes else is written before.
    Reseal(Arc<Vec<Resealed>>),
}

/// All that is sealed under a subject's key.
#[derive(Debug)]
pub struct SealedOf {
    /// Whose.
    pub subject: SubjectId,
    /// The key.
    pub wrapped_key: Sealed,
    /// The platform's reference.
    pub reference: Sealed,
    /// Values in every version.
    pub values: Vec<(RecordAddress, Sealed)>,
    /// Tokens.
    pub tokens: Vec<(TokenRowId, Sealed)>,
    /// What was said with consents.
    pub consents: Vec<(ConsentId, Sealed)>,
    /// Sides of documents in every version.
    pub documents: Vec<DocumentRow>,
    /// Uploads that are not done.
    pub uploads: Vec<UploadRow>,
}

/// How much is sealed under the keys of all subjects.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct SealedCounts {
    /// Subjects with a key.
    pub subjects: u64,
    /// Values in every version.
    pub values: u64,
    /// Parts of documents.
    pub parts: u64,
}

/// What is sealed, before and now.
#[derive(Debug, Clone)]
pub struct Swap<I> {
    /// Of what.
    pub id: I,
    /// As it was read.
    pub before: Sealed,
    /// As it is now.
    pub after: Sealed,
}

/// A subject under a new key.
#[derive(Debug)]
pub struct Resealed {
    /// Its key.
    pub key: Swap<SubjectId>,
    /// The platform's reference.
    pub reference: Swap<SubjectId>,
    /// Values.
    pub values: Vec<Swap<RecordId>>,
    /// Tokens.
    pub tokens: Vec<Swap<TokenRowId>>,
    /// What was said with consents.
    pub consents: Vec<Swap<ConsentId>>,
    /// Manifests of documents.
    pub documents: Vec<Swap<UploadId>>,
    /// Objects that stand ready for their parts, and take the place of all others.
    pub objects: Vec<ObjectId>,
    /// Uploads that go with the old key. The commit drops them before.
    pub uploads: Vec<UploadRow>,
}

/// A subject key with its wrap before and now.
#[derive(Debug)]
pub struct Rewrapped {
    /// Whose.
    pub subject: SubjectId,
    /// As it was read.
    pub before: Sealed,
    /// As it is now.
    pub after: Sealed,
}

/// A value's place in the index under two versions of its key.
#[derive(Debug, Clone, Copy)]
pub struct Place {
    /// The record that holds it.
    pub record: RecordId,
    /// Its hash under the version that has it.
    pub from: [u8; 32],
    /// Its hash under the version that gets it.
    pub to: [u8; 32],
}

/// What of a subject is hashed under the index key, for a rotation.
#[derive(Debug)]
pub struct Hashed {
    /// Whose.
    pub subject: SubjectId,
    /// The subject's key.
    pub wrapped_key: Sealed,
    /// The platform's reference.
    pub sealed_reference: Sealed,
    /// Version of the index key under which the reference is.
    pub index_version: u32,
    /// Values that are in the index.
    pub values: Vec<HashedValue>,
    /// Tokens of 12 digits that are not under the new version.
    pub tokens: Vec<(TokenRowId, Sealed)>,
}

/// A current value that is in the index of one key version.
#[derive(Debug)]
pub struct HashedValue {
    /// Where it belongs.
    pub address: RecordAddress,
    /// The value.
    pub sealed_value: Sealed,
    /// Its hash there.
    pub hash: [u8; 32],
    /// Whether it is in the index of the other version too.
    pub filled: bool,
}

/// Versions of the index key between which a rotation moves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IndexMove {
    /// The version whose index is whole.
    pub from: u32,
    /// The version whose index is filled.
    pub to: u32,
}
