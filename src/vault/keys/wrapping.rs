//! What a rotation of the platform key does with each subject: its key is wrapped anew.

use std::time::Instant;

use tokio::time::sleep;

use super::{
    pace::BESIDE_IT,
    piece::{Piece, Slice},
};
use crate::{
    crypto::keyring::{Keyring, WrapError},
    domain::{
        ids::{PlatformId, SubjectId},
        operation::{Cursor, Operation, Phase},
        secret::Sealed,
    },
    store::{Rewrapped, StoredKeys, Worker},
    vault::{Vault, error::VaultError, tokenize::unavailable},
};

/// Keys of one statement: what is written at once delays the commits of others, though none waits for it.
const CHUNK: usize = 512;

impl Vault {
    pub(super) async fn wrapping_slice(
        &self,
        keys: &Keyring,
        taken: &Operation,
        rows: u32,
    ) -> Result<Slice, VaultError> {
        let platform = taken.platform;
        let read = self.keys_to_wrap(taken, rows).await?;
        let (mut count, mut changed, mut damaged) = (0, 0, false);
        for round in read.rounds {
            count += round.len();
            let mut round = round.into_iter();
            while !round.as_slice().is_empty() {
                let began = Instant::now();
                let (wraps, all_open) = self.wrap_anew(keys, platform, round.by_ref().take(CHUNK))?;
                damaged |= !all_open;
                if !wraps.is_empty() {
                    changed += self.rewrap(taken, &wraps).await?;
                }
                sleep(BESIDE_IT.rest_after(began.elapsed())).await;
            }
        }
        Ok(Slice { piece: Piece::Wraps(changed), rows: count, next: read.next, damaged })
    }

    /// As they are stored, to be quick; then once more in the order of ids, so that no key is passed by that moved meanwhile.
    async fn keys_to_wrap(&self, taken: &Operation, rows: u32) -> Result<StoredKeys, VaultError> {
        let (store, platform) = (&self.shared.store, taken.platform);
        if taken.phase == Phase::Rewrap {
            return store.stored_keys(platform, taken.resume_after, rows).await.map_err(unavailable);
        }
        let keys = store.wrapped_keys(platform, taken.after(), rows).await.map_err(unavailable)?;
        let next = keys.last().map(|(last, _)| Cursor::from(*last));
        Ok(StoredKeys { rounds: vec![keys], next })
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
