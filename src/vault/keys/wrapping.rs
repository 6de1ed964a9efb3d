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
const CHUNK: usize = 256;

impl Vault {
    pub(super) async fn wrapping_slice(
        &self,
        keys: &Keyring,
        taken: &Operation,
        rows: u32,
    ) -> Result<Slice, VaultError> {
        let platform = taken.platform;
        let read = self.keys_to_wrap(taken, rows).await?;
        let count = read.rounds.iter().map(Vec::len).sum();
        let mut chunks = read.rounds.into_iter().flat_map(in_chunks);
        let (mut changed, mut damaged, mut ready) = (0, false, Vec::new());
        loop {
            let began = Instant::now();
            // The database writes some while the next are made ready.
            let next = async { chunks.next().map(|chunk| self.wrap_anew(keys, platform, chunk)).transpose() };
            let (written, next) = tokio::join!(self.rewrap(taken, &ready), next);
            changed += written?;
            let Some((wraps, all_open)) = next? else { break };
            (ready, damaged) = (wraps, damaged || !all_open);
            sleep(BESIDE_IT.rest_after(began.elapsed())).await;
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
        read: Vec<(SubjectId, Sealed)>,
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
        if wraps.is_empty() {
            return Ok(0);
        }
        let worker = Worker { platform: taken.platform, operation: taken.id, fence: taken.fence };
        self.shared.store.rewrap(worker, wraps).await.map_err(unavailable)
    }
}

/// What one statement writes.
fn in_chunks(round: Vec<(SubjectId, Sealed)>) -> impl Iterator<Item = Vec<(SubjectId, Sealed)>> {
    let mut round = round.into_iter();
    std::iter::from_fn(move || {
        let chunk: Vec<_> = round.by_ref().take(CHUNK).collect();
        (!chunk.is_empty()).then_some(chunk)
    })
}
