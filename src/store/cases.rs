//! Requests of people about their data, as the store keeps them.

use super::{StoreError, rows::rights::CaseRow};
use crate::domain::{
    ids::{CaseId, PlatformId, SubjectId},
    rights::RightKind,
    time::Timestamp,
};

/// Which requests of a platform are wanted. Each list is in the order in which they are due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WhichCases {
    /// All.
    All,
    /// Those without an answer.
    Open,
    /// Those of them whose time was over then.
    Overdue(Timestamp),
    /// Those of a subject.
    Of(SubjectId),
}

/// Requests without an answer, counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OpenCases {
    /// Platform.
    pub platform: PlatformId,
    /// What is asked.
    pub kind: RightKind,
    /// How many.
    pub count: u64,
    /// When the first of them is due.
    pub due_at: Timestamp,
    /// How many are overdue.
    pub overdue: u64,
}

/// Requests of people.
#[async_trait::async_trait]
pub trait CaseStore: Send + Sync {
    /// A request by its id.
    async fn case(&self, platform: PlatformId, id: CaseId) -> Result<Option<CaseRow>, StoreError>;

    /// Up to `limit` requests after a date and id, by date and id.
    async fn cases(
        &self,
        platform: PlatformId,
        which: WhichCases,
        after: (Timestamp, CaseId),
        limit: u32,
    ) -> Result<Vec<CaseRow>, StoreError>;

    /// Requests without an answer on every platform, counted as of then.
    async fn open_cases(&self, now: Timestamp) -> Result<Vec<OpenCases>, StoreError>;
}
