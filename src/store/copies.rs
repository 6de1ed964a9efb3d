//! Copies of data outside the vault, as the store keeps them.

use super::{StoreError, rows::copies::CopyRow};
use crate::domain::{
    ids::{CopyId, PlatformId},
    time::Timestamp,
};

/// Which copies of a platform are wanted. Each list is in the order in which they are to be destroyed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhichCopies {
    /// All.
    All,
    /// Those that have not ended.
    Open,
    /// Those of them whose day was over then.
    Overdue(Timestamp),
}

/// Copies of a platform that have not ended, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenCopies {
    /// Platform.
    pub platform: PlatformId,
    /// How many.
    pub count: u64,
    /// Of how many the day is over.
    pub overdue: u64,
}

/// Copies of data outside the vault.
#[async_trait::async_trait]
pub trait CopyStore: Send + Sync {
    /// A copy by its id.
    async fn data_copy(&self, platform: PlatformId, id: CopyId) -> Result<Option<CopyRow>, StoreError>;

    /// Up to `limit` copies after a date and id, by date and id.
    async fn data_copies(
        &self,
        platform: PlatformId,
        which: WhichCopies,
        after: (Timestamp, CopyId),
        limit: u32,
    ) -> Result<Vec<CopyRow>, StoreError>;

    /// Copies that have not ended on every platform, counted as of then.
    async fn open_copies(&self, now: Timestamp) -> Result<Vec<OpenCopies>, StoreError>;
}
