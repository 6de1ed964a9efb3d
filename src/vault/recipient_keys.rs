//! Keys of recipients: two people enrol one, and it counts when its holder has shown to have the private key. The vault seals a
//! random answer to the offered key, bound to platform, recipient, key and expiry; only who can open it knows the answer.
//!
//! ```text
//! enrolled by two ──▶ offered ── the answer ──▶ counts, in the place of the key before
//!                        └────── three wrong ones, its days, another offer, the recipient's end ──▶ nothing
//! ```

use std::time::Duration;

use zeroize::Zeroizing;

use super::{
    access::Call,
    act::{Claim, Scene},
    deed::{Deed, Deeded, Hand},
    error::{VaultError, Violation},
    recipients::{RecipientRow, by_id, find, put},
    replay::ItemOutcome,
    tokenize::unavailable,
};
use crate::{
    crypto::release::{ANSWER_BYTES, NotSealed, challenge, is_answer, key_id},
    domain::{names::RecipientName, recipient::RecipientState},
    policy::decide::Denial,
    store::rows::config::OfferedKey,
};

/// How long a challenge can be answered: the recipient's people may have to bring it to where the private key is.
const LIFE: Duration = Duration::from_hours(7 * 24);
/// Wrong answers that end a challenge. Nobody guesses one; who answers wrongly is asked why.
const WRONG_ANSWERS: u8 = 3;

/// An answer as it was given.
pub type KeyAnswer = Zeroizing<[u8; ANSWER_BYTES]>;

/// What came of an answer.
pub struct Proved {
    /// The recipient as it stands now.
    pub row: RecipientRow,
    /// Whether it was the right one.
    pub proved: bool,
}

/// Challenges the holder of a key.
pub(super) fn offer(
    scene: &Scene<'_>,
    name: &RecipientName,
    public_key: [u8; 32],
) -> Result<OfferedKey, VaultError> {
    let signatory = scene.shared.signatory().map_err(unavailable)?;
    let expires_at = scene.now.plus(LIFE);
    let statement = format!(
        "sandyq-recipient-key 1\nlog {}\nrecipient {name}\nkey {}\nexpires {expires_at}\n",
        signatory.origin(scene.name),
        key_id(&public_key)
    );
    let made = challenge(&public_key, statement.as_bytes(), scene.rng()).map_err(|NotSealed| {
        VaultError::Invalid(vec![Violation::new("public_key", "is a key that nothing can be sealed to")])
    })?;
    let (sealed, answer_sha256) = (made.sealed, made.answer_sha256);
    Ok(OfferedKey { public_key, statement, sealed, answer_sha256, expires_at, wrong: 0 })
}

pub(super) struct Prove {
    pub(super) name: RecipientName,
    pub(super) answer: KeyAnswer,
}

impl Deed for Prove {
    type Answer = Proved;

    fn call(&self) -> Call {
        Call::ProveRecipientKey
    }

    fn changes(&self) -> bool {
        true
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Proved>, VaultError> {
        if !hand.plan.claim(Claim::Config) {
            return Ok(Deeded::Later);
        }
        let mut row = find(hand.scene.context, &self.name)?.clone();
        let was = row.mac;
        if row.recipient.state == RecipientState::Ended {
            return Err(Denial::RecipientNotFound.into());
        }
        let now = hand.scene.now;
        // One that ends here is gone: the right answer is given once.
        let offered = row.offered.take().filter(|key| now < key.expires_at).ok_or(Denial::KeyNotOffered)?;
        let proved = is_answer(self.answer.as_slice(), &offered.answer_sha256);
        if proved {
            row.public_key = Some(offered.public_key);
            row.recipient.has_key = true;
            row.key_proved_at = Some(now);
        } else {
            let wrong = offered.wrong.saturating_add(1);
            row.offered = (wrong < WRONG_ANSWERS).then_some(Box::new(OfferedKey { wrong, ..*offered }));
        }
        let row = put(hand, row, Some(was))?;
        let outcome = ItemOutcome {
            ids: vec![(*row.recipient.id.as_bytes()).into()],
            numbers: vec![proved.into()],
            ..ItemOutcome::default()
        };
        Ok(Deeded::changed(Proved { row, proved }, outcome))
    }

    fn again(&self, hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<Proved, VaultError> {
        Ok(Proved { row: by_id(hand.scene, before)?, proved: before.number(0)? != 0 })
    }
}
