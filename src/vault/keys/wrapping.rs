//! What a rotation of the platform key does with each subject: its key is wrapped anew.

use std::time::{Duration, Instant};

use tokio::time::sleep;

use super::piece::{Piece, Slice};
use crate::{
    crypto::keyring::{Keyring, WrapError},
    domain::{
        ids::{PlatformId, SubjectId},
        operation::Operation,
        secret::Sealed,
    },
    store::{Rewrapped, Worker},
    vault::{Vault, error::VaultError, tokenize::unavailable},
};

/// Keys of one statement: what is written at once delays the commits of others, though none waits for it.
const CHUNK: usize = 512;
/// Parts of ten of its own time that the work rests after each chunk, for readers' processes to come in between. Three parts
/// took a quarter of its speed and brought the median time of reads from 2.3 times that without a rotation to 1.9; their
/// slowest wait for the disk, and rests change nothing there (docs/performance.md).
const REST_TENTHS: u32 = 2;

impl Vault {
    pub(super) async fn wrapping_slice(
        &self,
        keys: &Keyring,
        taken: &Operation,
        after: SubjectId,
        rows: u32,
    ) -> Result<Slice, VaultError> {
        let platform = taken.platform;
        let read = self.shared.store.wrapped_keys(platform, after, rows).await.map_err(unavailable)?;
        let (last, count) = (read.last().map(|(id, _)| *id), read.len());
        let (mut changed, mut damaged) = (0, false);
        let mut read = read.into_iter();
        while !read.as_slice().is_empty() {
            let began = Instant::now();
            let (wraps, all_open) = self.wrap_anew(keys, platform, read.by_ref().take(CHUNK))?;
            damaged |= !all_open;
            if !wraps.is_empty() {
                changed += self.rewrap(taken, &wraps).await?;
            }
            sleep(rest_after(began.elapsed())).await;
        }
        Ok(Slice { piece: Piece::Wraps(changed), rows: count, last, damaged })
    }

    /// Those that are not under the active version yet, and whether all of them open.
    fn wrap_anew(
        &self,
        keys: &Keyring,
        platform: PlatformId,
        read: impl Iterator<Item = (SubjectId, Sealed)>,
    ) -> Result<(Vec<Rewrapped>, bool), VaultError> {
        let (mut wraps, mut all_open) = (Vec::new(), true);
        for (subject, before) in read {
            match keys.rewrap(subject, &before, self.shared.rng.as_ref()) {
                Ok(None) => {}
                Ok(Some(after)) => wraps.push(Rewrapped { subject, before, after }),
                Err(WrapError::Seal(_)) => return Err(VaultError::Unavailable),
                Err(WrapError::Key(error)) => {
                    tracing::error!(platform = platform.get(), %subject, %error, "a subject key does not open");
                    all_open = false;
                }
            }
        }
        Ok((wraps, all_open))
    }

    /// Beside the lane, so that no reader waits for it: a key opens under either wrap. The step that follows tells how far it is, and
    /// whoever takes the work up before that finds these keys done.
    async fn rewrap(&self, taken: &Operation, wraps: &[Rewrapped]) -> Result<u64, VaultError> {
        let worker = Worker { platform: taken.platform, operation: taken.id, fence: taken.fence };
        self.shared.store.rewrap(worker, wraps).await.map_err(unavailable)
    }
}

fn rest_after(took: Duration) -> Duration {
    took.saturating_mul(REST_TENTHS) / 10
}
