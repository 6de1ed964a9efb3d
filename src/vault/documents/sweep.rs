//! Objects that are doomed, deleted: first where they lie, then from the list.

use super::{Documents, object_of};
use crate::{blobs::BlobError, domain::ids::PlatformId, store::StoreError, vault::Vault};

/// Objects of one look.
const AT_ONCE: u32 = 64;

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
        let Some(place) = self.documents.clone() else { return 0 };
        let (mut swept, mut left) = (0, true);
        while left {
            match self.sweep_some(&place, platform).await {
                Ok(some) => {
                    swept += some;
                    left = some > 0;
                }
                Err(error) => {
                    let error: &(dyn std::error::Error + 'static) = &error;
                    tracing::error!(
                        platform = platform.get(),
                        error,
                        "objects of documents could not be deleted yet"
                    );
                    left = false;
                }
            }
        }
        swept
    }

    async fn sweep_some(&self, place: &Documents, platform: PlatformId) -> Result<usize, SweepError> {
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
