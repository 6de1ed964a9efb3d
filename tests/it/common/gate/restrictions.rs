//! Lists of blocks pass as they are.

use sandyq::{
    domain::{
        ids::{PlatformId, SubjectId},
        time::Timestamp,
    },
    store::{
        StoreError,
        restrictions::{OpenRestrictions, RestrictionStore, WhichRestrictions},
        rows::SubjectRow,
    },
};

use super::Gate;

#[async_trait::async_trait]
impl RestrictionStore for Gate {
    async fn restricted_subjects(
        &self,
        platform: PlatformId,
        which: WhichRestrictions,
        after: (Timestamp, SubjectId),
        limit: u32,
    ) -> Result<Vec<SubjectRow>, StoreError> {
        self.inner.restricted_subjects(platform, which, after, limit).await
    }

    async fn open_restrictions(&self, now: Timestamp) -> Result<Vec<OpenRestrictions>, StoreError> {
        self.inner.open_restrictions(now).await
    }
}
