//! The way of a lane to the store.

use crate::{
    domain::ids::PlatformId,
    store::{Commit, CommitOutcome, LockedHead, ReadKeys, Snapshot, Store, StoreError, StoredTree},
};

/// The way to the store: open to everybody, or through a head that this committer holds.
pub(super) enum Door<'a> {
    Open(&'a dyn Store),
    Locked(Box<dyn LockedHead + 'a>),
}

impl Door<'_> {
    pub(super) async fn tree(&mut self, platform: PlatformId) -> Result<StoredTree, StoreError> {
        match self {
            Self::Open(store) => store.tree(platform).await,
            Self::Locked(head) => head.tree().await,
        }
    }

    pub(super) async fn read(
        &mut self,
        platform: PlatformId,
        keys: &ReadKeys,
    ) -> Result<Snapshot, StoreError> {
        match self {
            Self::Open(store) => store.read(platform, keys).await,
            Self::Locked(head) => head.read(keys).await,
        }
    }

    pub(super) async fn commit(self, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        match self {
            Self::Open(store) => store.commit(commit).await,
            Self::Locked(head) => head.commit(commit).await,
        }
    }
}
