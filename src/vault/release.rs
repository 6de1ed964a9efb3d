//! Releases to a recipient: a batch of values in one envelope, sealed to the recipient's key, whole or not at all. It is sealed
//! and signed before its entries are durable, and each of them has its hash: what left is what the log says.

use std::{sync::Arc, time::Duration};

use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    Vault,
    act::{Asker, Scene},
    detokenize::{Detokenize, Released},
    error::VaultError,
    tokenize::unavailable,
};
use crate::{
    audit::release::{Terms, sign},
    crypto::release::{SUITE, SealedToKey, key_id, seal_to},
    domain::{caller::Caller, ids::EntryId, names::RecipientName, time::Timestamp},
    policy::decide::Denial,
};

/// How long a recipient takes an envelope.
const LIFE: Duration = Duration::from_hours(24);

/// What a recipient opens.
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
    /// From when on the recipient takes it no more.
    pub expires_at: Timestamp,
    /// What the vault states of it, signed.
    pub statement: String,
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
        let question = Detokenize { recipient: Some(recipient), sealed: true, ..question };
        let answered = self.ask(caller, asker, question).await?;
        if let Some(release) = answered.release {
            return Ok(release);
        }
        // Why the others were withheld says less than why this one was refused.
        let withheld = VaultError::Denied(Denial::BatchIncomplete);
        let refusals = answered.answers.into_iter().filter_map(Result::err);
        Err(refusals.reduce(|first, next| if first == withheld { next } else { first }).unwrap_or(withheld))
    }
}

/// Seals the values of a batch that was permitted whole.
///
/// # Errors
/// [`Denial::RecipientKeyMissing`]; [`VaultError::Unavailable`] where it cannot be sealed or signed.
pub(super) fn seal(
    scene: &Scene<'_>,
    question: &Detokenize,
    released: &[&Released],
) -> Result<SealedRelease, VaultError> {
    let row = question.recipient.as_ref().and_then(|name| scene.recipient(name));
    let row = row.ok_or(Denial::RecipientUnknown)?;
    let key = row.public_key.ok_or(Denial::RecipientKeyMissing)?;
    let signatory = scene.shared.signatory().map_err(unavailable)?;
    let entries: Vec<_> = released.iter().map(|released| released.entry).collect();
    let (recipient, key_id, purpose) = (&row.recipient.name, key_id(&key), question.purpose.to_string());
    let expires_at = scene.now.plus(LIFE);
    let lines = Terms {
        origin: &signatory.origin(scene.name),
        recipient,
        key_id: &key_id,
        purpose: &purpose,
        outreach: question.outreach.as_ref(),
        reference: question.reference.as_ref(),
        expires_at,
        entries: &entries,
    }
    .lines();
    let values = released.iter();
    let values = values.map(|r| EnvelopeValue { field: r.field.as_str(), value: r.value.expose() }).collect();
    let plaintext = Zeroizing::new(serde_json::to_vec(&Envelope { values }).map_err(unavailable)?);
    let sealed = seal_to(&key, lines.as_bytes(), &plaintext, scene.rng()).map_err(unavailable)?;
    let signing = signatory.active_key().map_err(unavailable)?;
    let statement = sign(&lines, &sealed.sha256(), &**signing).map_err(unavailable)?;
    Ok(SealedRelease {
        recipient: recipient.clone(),
        sealed,
        suite: SUITE,
        key_id,
        platform: scene.name.to_string(),
        purpose,
        reference: question.reference.as_ref().map(ToString::to_string).unwrap_or_default(),
        entries,
        expires_at,
        statement,
    })
}
