//! Objects that are doomed, deleted: first where they lie, then from the list.

use std::time::Duration;

use tokio::time::timeout;

use super::{Documents, object_of};
use crate::{blobs::BlobError, domain::ids::PlatformId, store::StoreError, vault::Vault};

/// Objects of one look.
const AT_ONCE: u32 = 64;
/// How long their deletion is waited for.
const AT_MOST: Duration = Duration::from_secs(10);

/// Why a sweep stopped. What is left is swept later.
#[derive(Debug, thiserror::Error)]
enum SweepError {
    #[error(transparent)]
    Place(#[from] BlobError),
    #[error(transparent)]
    Store(#[from] StoreError),
}

impl Vault {
    /// Deletes the objects of a platform that are doomed, and answers how many. What cannot be deleted now is met again:
    /// the worker of operations calls this every few seconds.
    pub(in crate::vault) async fn sweep_parts(&self, platform: PlatformId) -> usize {
        let mut swept = 0;
        loop {
            match self.sweep_some_parts(platform).await {
                0 => return swept,
                some => swept += some,
            }
        }
    }

    /// Deletes some of them: a call that made them does not wait long, and what is left is the worker's.
    pub(in crate::vault) async fn sweep_some_parts(&self, platform: PlatformId) -> usize {
        let Some(place) = self.documents.clone() else { return 0 };
        match timeout(AT_MOST, self.delete_doomed(&place, platform)).await {
            Ok(Ok(some)) => some,
            Ok(Err(error)) => {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::error!(
                    platform = platform.get(),
                    error,
                    "objects of documents could not be deleted yet"
                );
                0
            }
            Err(_late) => {
                tracing::error!(platform = platform.get(), "objects of documents are deleted too slowly");
                0
            }
        }
    }

    async fn delete_doomed(&self, place: &Documents, platform: PlatformId) -> Result<usize, SweepError> {
        let doomed = self.shared.store.doomed_parts(platform, AT_ONCE).await?;
        for part in &doomed {
            place.parts.delete(&object_of(part)).await?;
        }
        if !doomed.is_empty() {
            self.shared.store.forget_parts(&doomed).await?;
        }
        Ok(doomed.len())
    }
}
