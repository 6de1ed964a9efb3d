//! Blocks on the use of subjects' data, as the store lists them.

use super::{StoreError, rows::SubjectRow};
use crate::domain::{
    ids::{PlatformId, SubjectId},
    time::Timestamp,
};

/// Which blocked subjects of a platform are wanted. Each list is in the order of their reviews.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhichRestrictions {
    /// All.
    All,
    /// Those whose day of review was over then.
    Overdue(Timestamp),
}

/// Blocks of a platform, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenRestrictions {
    /// Platform.
    pub platform: PlatformId,
    /// How many.
    pub count: u64,
    /// Of how many the day of review is over.
    pub overdue: u64,
}

/// Blocks on the use of subjects' data.
#[async_trait::async_trait]
pub trait RestrictionStore: Send + Sync {
    /// Up to `limit` blocked subjects after a date of review and id, by date and id.
    async fn restricted_subjects(
        &self,
        platform: PlatformId,
        which: WhichRestrictions,
        after: (Timestamp, SubjectId),
        limit: u32,
    ) -> Result<Vec<SubjectRow>, StoreError>;

    /// Blocks on every platform, counted as of then.
    async fn open_restrictions(&self, now: Timestamp) -> Result<Vec<OpenRestrictions>, StoreError>;
}
