//! Objects that parts of documents lie in. What is written here stands beside the log: it grants nothing, and what an object
//! holds is bound to its place by its seal.

use super::{
    Damage, StoreError,
    rows::documents::{DocumentRow, PartRow, UploadRow},
};
use crate::domain::ids::{ObjectId, PlatformId, UploadId};

/// Objects of parts.
#[async_trait::async_trait]
pub trait PartStore: Send + Sync {
    /// Counts a part of an upload whose object is durable. False where the upload is gone, or at another attempt or part.
    async fn count_part(
        &self,
        upload: &UploadRow,
        position: u32,
        object: ObjectId,
    ) -> Result<bool, StoreError>;

    /// The parts of an upload, or of the version that it became, in order.
    async fn parts_of(&self, platform: PlatformId, upload: UploadId) -> Result<Vec<PartRow>, StoreError>;

    /// Parts of uploads whose ids lie between two, both included, that are not to be deleted; those that stand ready too.
    async fn parts_between(
        &self,
        platform: PlatformId,
        uploads: (UploadId, UploadId),
    ) -> Result<Vec<PartRow>, StoreError>;

    /// Up to `limit` versions of sides whose ids lie between two, both included, in the order of ids; each with its id, since
    /// what is damaged of it says no more.
    async fn documents_between(
        &self,
        platform: PlatformId,
        ids: (UploadId, UploadId),
        limit: u32,
    ) -> Result<Vec<(UploadId, Result<DocumentRow, Damage>)>, StoreError>;

    /// Uploads that are not done, whose ids lie between two, both included.
    async fn uploads_between(
        &self,
        platform: PlatformId,
        uploads: (UploadId, UploadId),
    ) -> Result<Vec<UploadRow>, StoreError>;

    /// Puts objects on record that will stand ready for a version of a side that is sealed anew.
    async fn ready_parts(&self, document: &DocumentRow, parts: &[PartRow]) -> Result<(), StoreError>;

    /// Objects that stand ready, and that nothing will need: these, or all of the platform. Answers how many.
    async fn doom_ready(&self, platform: PlatformId, which: Option<&[ObjectId]>) -> Result<u64, StoreError>;

    /// Up to `limit` parts whose objects are to be deleted.
    async fn doomed_parts(&self, platform: PlatformId, limit: u32) -> Result<Vec<PartRow>, StoreError>;

    /// Forgets such parts, whose objects are deleted.
    async fn forget_parts(&self, parts: &[PartRow]) -> Result<(), StoreError>;
}
