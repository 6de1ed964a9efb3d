//! Releases to a recipient: a batch of values in one envelope, sealed to the recipient's key, whole or not at all.

use std::sync::Arc;

use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    Vault,
    act::Asker,
    detokenize::{Detokenize, Released},
    error::VaultError,
    tokenize::unavailable,
};
use crate::{
    crypto::release::{SUITE, SealedToKey, key_id, seal_to},
    domain::{caller::Caller, canonical::Canonical, ids::EntryId, names::RecipientName},
    policy::decide::Denial,
};

/// What a recipient opens, and what it rebuilds the associated data from.
pub struct SealedRelease {
    /// The recipient.
    pub recipient: RecipientName,
    /// The envelope.
    pub sealed: SealedToKey,
    /// HPKE suite.
    pub suite: &'static str,
    /// The recipient's key.
    pub key_id: String,
    /// The platform.
    pub platform: String,
    /// The purpose.
    pub purpose: String,
    /// The reference.
    pub reference: String,
    /// The entry that permits each value, in order.
    pub entries: Vec<EntryId>,
}

/// The plaintext of an envelope.
#[derive(Serialize)]
struct Envelope<'a> {
    values: Vec<EnvelopeValue<'a>>,
}

#[derive(Serialize)]
struct EnvelopeValue<'a> {
    field: &'a str,
    value: &'a str,
}

impl Vault {
    /// Answers values of a batch as one envelope for its recipient.
    ///
    /// # Errors
    /// The first item's refusal, where one is refused: then nothing is released.
    pub async fn release(
        &self,
        caller: &Arc<Caller>,
        asker: Asker,
        recipient: RecipientName,
        question: Detokenize,
    ) -> Result<SealedRelease, VaultError> {
        let (purpose, reference) = (question.purpose.to_string(), question.reference.as_ref());
        let reference = reference.map(ToString::to_string).unwrap_or_default();
        let question = Detokenize { recipient: Some(recipient.clone()), sealed: true, ..question };
        let answers = self.detokenize(caller, asker, question).await?;
        let mut released: Vec<Released> = Vec::with_capacity(answers.len());
        let mut refused = None;
        for answer in answers {
            match answer {
                Ok(value) => released.push(value),
                // Why the others were withheld says less than why this one was refused.
                Err(VaultError::Denied(Denial::BatchIncomplete)) => {
                    refused.get_or_insert(VaultError::Denied(Denial::BatchIncomplete));
                }
                Err(error) => return Err(error),
            }
        }
        if let Some(refused) = refused {
            return Err(refused);
        }
        let context = self.context(caller.platform)?;
        let row =
            context.recipients().iter().find(|r| r.recipient.name == recipient && r.public_key.is_some());
        let key = row.and_then(|row| row.public_key).ok_or(Denial::RecipientKeyMissing)?;
        let platform = self.platform_name(caller.platform).map(|name| name.to_string()).unwrap_or_default();
        let (key_id, entries) = (key_id(&key), released.iter().map(|r| r.entry).collect::<Vec<_>>());
        let aad =
            Canonical::new(&platform).text(recipient.as_str()).text(&key_id).text(&purpose).text(&reference);
        let aad = entries.iter().fold(aad, |aad, id| aad.text(&id.to_string()));
        let values = released.iter();
        let values =
            values.map(|r| EnvelopeValue { field: r.field.as_str(), value: r.value.expose() }).collect();
        let plaintext = Zeroizing::new(serde_json::to_vec(&Envelope { values }).map_err(unavailable)?);
        let sealed = seal_to(&key, &aad, &plaintext, self.shared.rng.as_ref()).map_err(unavailable)?;
        Ok(SealedRelease { recipient, sealed, suite: SUITE, key_id, platform, purpose, reference, entries })
    }
}
