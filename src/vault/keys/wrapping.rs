//! What a rotation of the platform key does with each subject: its key is wrapped anew.

use super::piece::{Piece, Slice};
use crate::{
    crypto::keyring::{Keyring, WrapError},
    domain::{ids::SubjectId, operation::Operation},
    store::Rewrapped,
    vault::{Vault, error::VaultError, tokenize::unavailable},
};

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
        let (mut wraps, mut damaged) = (Vec::new(), false);
        for (subject, before) in read {
            match keys.rewrap(subject, &before, self.shared.rng.as_ref()) {
                Ok(None) => {}
                Ok(Some(after)) => wraps.push(Rewrapped { subject, before, after }),
                Err(WrapError::Seal(_)) => return Err(VaultError::Unavailable),
                Err(WrapError::Key(error)) => {
                    tracing::error!(platform = platform.get(), %subject, %error, "a subject key does not open");
                    damaged = true;
                }
            }
        }
        Ok(Slice { piece: Piece::Wraps(wraps), rows: count, last, damaged })
    }
}
