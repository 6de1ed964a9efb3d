//! Breaches of the security of personal data, as the store keeps them.

use super::{StoreError, rows::breaches::BreachRow};
use crate::domain::{
    ids::{BreachId, PlatformId},
    time::Timestamp,
};

/// Which breaches of a platform are wanted. Each list is in the order in which the authority is to be told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhichBreaches {
    /// All.
    All,
    /// Those that have not ended.
    Open,
    /// Those of them of which the authority was not told, though its day was over then.
    Overdue(Timestamp),
}

/// Breaches of a platform that have not ended, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenBreaches {
    /// Platform.
    pub platform: PlatformId,
    /// How many.
    pub count: u64,
    /// Of how many the authority was not told, and its day is over.
    pub overdue: u64,
}

/// Breaches.
#[async_trait::async_trait]
pub trait BreachStore: Send + Sync {
    /// A breach by its id.
    async fn breach(&self, platform: PlatformId, id: BreachId) -> Result<Option<BreachRow>, StoreError>;

    /// Up to `limit` breaches after a date and id, by date and id.
    async fn breaches(
        &self,
        platform: PlatformId,
        which: WhichBreaches,
        after: (Timestamp, BreachId),
        limit: u32,
    ) -> Result<Vec<BreachRow>, StoreError>;

    /// Breaches that have not ended on every platform, counted as of then.
    async fn open_breaches(&self, now: Timestamp) -> Result<Vec<OpenBreaches>, StoreError>;
}
