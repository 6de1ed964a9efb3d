//! Recipients: third parties that a platform may release values to (Law 94-V, Article 10; rule R17). The list is
//! closed, and what stands in it was checked against the policy in force when it was written; each release is decided
//! anew.

use super::{
    Vault,
    access::Call,
    act::{Asker, Claim, Scene},
    context::Context,
    deed::{Deed, Deeded, Hand},
    error::{VaultError, Violation},
    page::{Page, PageAsk, Slice},
    recipient_keys::{Prove, offer},
    replay::ItemOutcome,
    tokenize::unavailable,
};
use crate::{
    audit::entry::Entry,
    crypto::digest::sha256,
    domain::{
        caller::Caller,
        ids::RecipientId,
        names::{PurposeName, RecipientName},
        recipient::{
            Abroad, CountryCode, Recipient, RecipientCondition, RecipientKind, RecipientState, Safeguard,
        },
        reference::Reference,
        time::Timestamp,
    },
    policy::{decide::Denial, model::Policy},
    store::{Write, rows::Mac},
};

pub use super::recipient_keys::{KeyAnswer, Proved};
pub use crate::{crypto::release::SUITE, store::rows::config::RecipientRow};

/// A recipient as it is to be registered.
#[derive(Debug, Clone)]
pub struct NewRecipient {
    /// Short name.
    pub name: RecipientName,
    /// What it is.
    pub kind: RecipientKind,
    /// Where it keeps what it receives.
    pub country: CountryCode,
    /// Registered name.
    pub legal_name: String,
    /// Contract or legal ground, in the platform's numbering.
    pub contract: Reference,
    /// On what it receives, where it is abroad.
    pub abroad: Option<Abroad>,
    /// What it has promised there, each once.
    pub conditions: Vec<RecipientCondition>,
    /// Purposes that it may receive for.
    pub purposes: Vec<PurposeName>,
    /// From when; from now, where none is given.
    pub valid_from: Option<Timestamp>,
    /// Until when.
    pub valid_until: Timestamp,
    /// X25519 key, to which releases are sealed once its holder has answered.
    pub public_key: Option<[u8; 32]>,
}

impl NewRecipient {
    /// What the policy in force does not take.
    fn violations(&self, policy: &Policy, now: Timestamp) -> Vec<Violation> {
        let mut found = Vec::new();
        for (i, purpose) in self.purposes.iter().enumerate() {
            let rule = match policy.purpose(purpose) {
                None => Some("the policy does not declare this purpose"),
                Some(purpose) => match purpose.recipient(self.kind) {
                    None => Some("the purpose names no recipients of this kind"),
                    Some(rule) if !rule.allows_country(self.country) => {
                        Some("the purpose lets nothing go to recipients of this kind abroad")
                    }
                    Some(_) => None,
                },
            };
            found.extend(rule.map(|rule| Violation::new(format!("purposes[{i}]"), rule)));
        }
        let stands = self.abroad.as_ref().map(|abroad| (abroad.safeguard, abroad.reference.is_some()));
        match stands {
            None if self.country != CountryCode::KZ => {
                found.push(Violation::new("safeguard", "is required for a recipient abroad (Article 16)"));
            }
            Some(_) if self.country == CountryCode::KZ => {
                found.push(Violation::new("safeguard", "is for recipients abroad alone"));
            }
            Some((safeguard, referred)) if safeguard.needs_reference() && !referred => {
                found.push(Violation::new("safeguard_reference", "is required: the safeguard stands on it"));
            }
            Some((Safeguard::SubjectConsent, true)) => {
                let rule = "is for safeguards that stand on a paper: each consent has a record of its own";
                found.push(Violation::new("safeguard_reference", rule));
            }
            Some(_) | None => {}
        }
        if self.valid_until <= self.valid_from.unwrap_or(now).max(now) {
            found
                .push(Violation::new("valid_until_time", "a contract ends after it begins, and after today"));
        }
        found
    }
}

impl Vault {
    /// Registers a recipient.
    ///
    /// # Errors
    /// [`VaultError`]; [`Denial::NameTaken`] where another that has not ended has the name.
    pub async fn register_recipient(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        new: NewRecipient,
    ) -> Result<RecipientRow, VaultError> {
        let platform = self.target(caller, &asker, Call::RegisterRecipient, platform).await?;
        self.run(platform, caller, asker, Register(new)).await
    }

    /// Offers another key to a recipient: it takes the place of the one before when its holder has answered
    /// ([`Self::prove_recipient_key`]). What was sealed to the old one stays readable to it.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn update_recipient_key(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        name: RecipientName,
        key: [u8; 32],
    ) -> Result<RecipientRow, VaultError> {
        let platform = self.target(caller, &asker, Call::UpdateRecipientKey, platform).await?;
        self.run(platform, caller, asker, ChangeRecipient { name, key: Some(key) }).await
    }

    /// Answers the challenge of a recipient's key: with the right answer releases are sealed to it from now on. Any third
    /// wrong one ends the challenge.
    ///
    /// # Errors
    /// [`VaultError`]; [`Denial::KeyNotOffered`] where no key waits for an answer.
    pub async fn prove_recipient_key(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        name: RecipientName,
        answer: KeyAnswer,
    ) -> Result<Proved, VaultError> {
        let platform = self.target(caller, &asker, Call::ProveRecipientKey, platform).await?;
        self.run(platform, caller, asker, Prove { name, answer }).await
    }

    /// Ends releases to a recipient, for good. Its name may be given again.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn end_recipient(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        name: RecipientName,
    ) -> Result<RecipientRow, VaultError> {
        let platform = self.target(caller, &asker, Call::EndRecipient, platform).await?;
        self.run(platform, caller, asker, ChangeRecipient { name, key: None }).await
    }

    /// Lists recipients by platform and name, those that ended too.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn list_recipients(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        page: PageAsk,
    ) -> Result<Page<RecipientRow>, VaultError> {
        self.gather(caller, &asker, Call::ListRecipients, platform, page, |_, slice| List(slice)).await
    }
}

pub(super) fn put(
    hand: &mut Hand<'_, '_>,
    mut row: RecipientRow,
    was: Option<Mac>,
) -> Result<RecipientRow, VaultError> {
    row.updated_at = hand.scene.now;
    row.mac = hand.scene.keys().row.mac(&row.image());
    log(hand, &row)?;
    hand.plan.reconfigures = true;
    hand.plan.writes.push(Write::PutRecipient(row.clone(), was));
    Ok(row)
}

fn log(hand: &mut Hand<'_, '_>, row: &RecipientRow) -> Result<(), VaultError> {
    hand.log(|entry| Entry {
        object_kind: Some("recipient".to_owned()),
        object: Some(row.recipient.id.as_bytes().to_vec()),
        recipient: Some(row.recipient.name.to_string()),
        reference: Some(row.contract.clone()).filter(|contract| !contract.is_empty()),
        row_mac: Some(row.mac.into()),
        detail_sha256: Some(sha256(row.image().as_bytes()).into()),
        ..entry
    })?;
    Ok(())
}

/// The recipient of this name that has not ended; else the one that ended last.
pub(super) fn find<'a>(context: &'a Context, name: &RecipientName) -> Result<&'a RecipientRow, Denial> {
    let named = context.recipients().iter().filter(|row| row.recipient.name == *name);
    named
        .max_by_key(|row| (row.recipient.state == RecipientState::Active, row.updated_at))
        .ok_or(Denial::RecipientNotFound)
}

pub(super) fn by_id(scene: &Scene<'_>, before: &ItemOutcome) -> Result<RecipientRow, VaultError> {
    let id = RecipientId::from_bytes(before.id(0)?);
    let row = scene.context.recipients().iter().find(|row| row.recipient.id == id);
    Ok(row.cloned().ok_or(Denial::RecipientNotFound)?)
}

fn outcome(row: &RecipientRow) -> ItemOutcome {
    ItemOutcome { ids: vec![(*row.recipient.id.as_bytes()).into()], ..ItemOutcome::default() }
}

struct Register(NewRecipient);

impl Deed for Register {
    type Answer = RecipientRow;

    fn call(&self) -> Call {
        Call::RegisterRecipient
    }

    fn changes(&self) -> bool {
        true
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<RecipientRow>, VaultError> {
        if !hand.plan.claim(Claim::Config) {
            return Ok(Deeded::Later);
        }
        let (scene, new) = (hand.scene, &self.0);
        let violations =
            new.violations(scene.context.policy(scene.now).ok_or(Denial::PolicyNotFound)?, scene.now);
        if !violations.is_empty() {
            return Err(VaultError::Invalid(violations));
        }
        if find(scene.context, &new.name).is_ok_and(|row| row.recipient.state == RecipientState::Active) {
            return Err(Denial::NameTaken.into());
        }
        let mut purposes = new.purposes.clone();
        purposes.sort();
        purposes.dedup();
        let mut conditions = new.conditions.clone();
        conditions.sort();
        let recipient = Recipient {
            id: RecipientId::random(scene.rng()).map_err(unavailable)?,
            name: new.name.clone(),
            kind: new.kind,
            country: new.country,
            purposes,
            valid_from: new.valid_from.unwrap_or(scene.now),
            valid_until: Some(new.valid_until),
            state: RecipientState::Active,
            has_key: false,
        };
        let offered = new.public_key.map(|key| offer(scene, &new.name, key).map(Box::new)).transpose()?;
        let row = RecipientRow {
            platform: scene.context.platform,
            recipient,
            legal_name: new.legal_name.clone(),
            contract: new.contract.to_string(),
            abroad: new.abroad.clone(),
            conditions,
            public_key: None,
            key_proved_at: None,
            offered,
            created_at: scene.now,
            updated_at: scene.now,
            mac: [0; 32],
        };
        let row = put(hand, row, None)?;
        let outcome = outcome(&row);
        Ok(Deeded::changed(row, outcome))
    }

    fn again(&self, hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<RecipientRow, VaultError> {
        by_id(hand.scene, before)
    }
}

struct ChangeRecipient {
    name: RecipientName,
    /// The key on offer; none to end it.
    key: Option<[u8; 32]>,
}

impl Deed for ChangeRecipient {
    type Answer = RecipientRow;

    fn call(&self) -> Call {
        if self.key.is_some() { Call::UpdateRecipientKey } else { Call::EndRecipient }
    }

    fn changes(&self) -> bool {
        true
    }

    fn tightens(&self) -> bool {
        self.key.is_none()
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<RecipientRow>, VaultError> {
        if !hand.plan.claim(Claim::Config) {
            return Ok(Deeded::Later);
        }
        let mut row = find(hand.scene.context, &self.name)?.clone();
        let was = row.mac;
        let ended = row.recipient.state == RecipientState::Ended;
        let row = match self.key {
            Some(_) if ended => return Err(Denial::RecipientNotFound.into()),
            Some(key) => {
                row.offered = Some(Box::new(offer(hand.scene, &self.name, key)?));
                put(hand, row, Some(was))?
            }
            None if ended => {
                log(hand, &row)?;
                row
            }
            None => {
                row.recipient.state = RecipientState::Ended;
                row.offered = None;
                hand.plan.tightens = true;
                put(hand, row, Some(was))?
            }
        };
        let outcome = outcome(&row);
        Ok(Deeded::changed(row, outcome))
    }

    fn again(&self, hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<RecipientRow, VaultError> {
        by_id(hand.scene, before)
    }
}

struct List(Slice);

impl Deed for List {
    type Answer = Vec<(String, RecipientRow)>;

    fn call(&self) -> Call {
        Call::ListRecipients
    }

    fn changes(&self) -> bool {
        false
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Self::Answer>, VaultError> {
        let rows = hand.scene.context.recipients().iter();
        // Those that ended may share a name.
        let keyed = rows.map(|row| (format!("{}/{}", row.recipient.name, row.recipient.id), row.clone()));
        let answer = self.0.of(keyed);
        hand.log(|entry| Entry { object_kind: Some("recipient".to_owned()), ..entry })?;
        Ok(Deeded::answer(answer))
    }
}
