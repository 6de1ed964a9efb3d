//! Tokens ended, values corrected.

use super::{
    Vault,
    access::Call,
    act::{Asker, Claim, Found, Scene},
    context::Context,
    deed::{Deed, Deeded, Hand},
    detokenize::{field_type, hashes_of},
    error::VaultError,
    replay::ItemOutcome,
    storing::{insert_version, usable},
    tokenize::{CheckedValue, unavailable},
};
use crate::{
    audit::entry::Entry,
    domain::{
        caller::Caller,
        consent::RecordAddress,
        ids::{PlatformId, SubjectId},
        reference::Reference,
        secret::Plaintext,
        subject::ValueSource,
        time::Timestamp,
        token::{AnyToken, TokenMode, TokenState},
    },
    policy::{decide::Denial, model::Policy},
    store::{
        IndexKeyOfValue, ReadKeys, Write,
        rows::{Mac, RecordRow, RecordState, TokenRow},
    },
};

const ENTRIES_AT_ONCE: u32 = 256;

/// A correction of a value (Law 94-V, Article 13).
pub struct Correction {
    /// A token of the record.
    pub token: AnyToken,
    /// The right value, as it came.
    pub value: Plaintext,
    /// Where it came from.
    pub source: ValueSource,
    /// The documents behind it, in the platform's numbering (rule R35).
    pub evidence: Reference,
}

/// A record as corrected.
#[derive(Debug, Clone, Copy)]
pub struct Corrected {
    /// Version of the record that tokens answer now.
    pub version: u32,
    /// When.
    pub updated_at: Timestamp,
}

impl Vault {
    /// Ends a token for good. One that is ended already stays as it is.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn revoke_token(
        &self,
        caller: &Caller,
        asker: Asker,
        token: AnyToken,
    ) -> Result<Timestamp, VaultError> {
        let revoked = self.run(caller.platform, caller, asker, Revoke { token }).await?;
        match revoked {
            Revoked::Now(at) => Ok(at),
            Revoked::Before { subject, mac, now } => {
                Ok(self.first_told(caller.platform, subject, mac).await?.unwrap_or(now))
            }
        }
    }

    /// When the log first told of a row of a subject with this MAC.
    async fn first_told(
        &self,
        platform: PlatformId,
        subject: SubjectId,
        mac: Mac,
    ) -> Result<Option<Timestamp>, VaultError> {
        let mut next = 0;
        loop {
            let rows = self.shared.store.entries_of(platform, subject, next, ENTRIES_AT_ONCE).await;
            let rows = rows.map_err(unavailable)?;
            let Some((last, _)) = rows.last() else { return Ok(None) };
            next = last + 1;
            for (_, row) in &rows {
                let entry = Entry::decode(&row.entry).map_err(unavailable)?;
                if entry.row_mac.is_some_and(|told| *told == mac) {
                    return Ok(Some(Timestamp::from_micros(entry.time)));
                }
            }
        }
    }

    /// Corrects a value: its record gets a new version, which all its tokens answer from now on. The value that it
    /// holds already makes none.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn update_record(
        &self,
        caller: &Caller,
        asker: Asker,
        correction: Correction,
    ) -> Result<Corrected, VaultError> {
        self.run(caller.platform, caller, asker, Update { correction }).await
    }
}

/// A token that the caller has to do with: it stores the field, or has a purpose that covers it. To others the token
/// never was.
pub(super) fn own_token<'a>(
    scene: &'a Scene<'_>,
    caller: &Caller,
    token: &AnyToken,
) -> Result<(Found<'a>, &'a Policy), Denial> {
    let policy = scene.policy()?;
    let found = scene.token_given(token)?.ok_or(Denial::TokenNotFound)?;
    let field = &found.record.address.field;
    let stores = policy.field(field).is_some_and(|declared| policy.may_collect(caller, declared));
    let reads = policy.purposes_of(caller).any(|(_, purpose)| purpose.covers(field));
    if stores || reads { Ok((found, policy)) } else { Err(Denial::TokenNotFound) }
}

fn about(found: Found<'_>, entry: Entry) -> Entry {
    Entry {
        field: Some(found.record.address.field.to_string()),
        subject: Some((*found.subject.id.as_bytes()).into()),
        record: Some((*found.record.address.record.as_bytes()).into()),
        token: Some((*found.token.id.as_bytes()).into()),
        ..entry
    }
}

struct Revoke {
    token: AnyToken,
}

/// When a token was ended.
enum Revoked {
    /// By this call.
    Now(Timestamp),
    /// By one before it: the log says when.
    Before {
        /// Whose token.
        subject: SubjectId,
        /// MAC of the row since then.
        mac: Mac,
        /// The time of this call.
        now: Timestamp,
    },
}

impl Deed for Revoke {
    type Answer = Revoked;

    fn call(&self) -> Call {
        Call::RevokeToken
    }

    fn changes(&self) -> bool {
        true
    }

    fn tightens(&self) -> bool {
        true
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        keys.tokens.extend(hashes_of(context, &self.token));
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Revoked>, VaultError> {
        let scene = hand.scene;
        let (found, _) = own_token(scene, hand.caller, &self.token)?;
        if !hand.plan.claim(Claim::Token(found.token.hash)) {
            return Ok(Deeded::Later);
        }
        let mut mac = found.token.mac;
        let mut revoked = Revoked::Before { subject: found.subject.id, mac, now: scene.now };
        let mut numbers = Vec::new();
        if found.token.state != TokenState::Revoked {
            revoked = Revoked::Now(scene.now);
            numbers.push(scene.now.as_micros());
            let mut row = TokenRow { state: TokenState::Revoked, ..found.token.clone() };
            row.mac = scene.keys().row.mac(&row.image());
            mac = row.mac;
            hand.plan.tightens = true;
            hand.plan.writes.push(Write::UpdateToken(row, found.token.mac));
        }
        hand.log(|entry| Entry { row_mac: Some(mac.into()), ..about(found, entry) })?;
        Ok(Deeded::changed(revoked, ItemOutcome { numbers, ..ItemOutcome::default() }))
    }

    fn again(&self, hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<Revoked, VaultError> {
        let (found, _) = own_token(hand.scene, hand.caller, &self.token)?;
        Ok(match before.time(0) {
            Ok(at) => Revoked::Now(at),
            Err(_) => {
                Revoked::Before { subject: found.subject.id, mac: found.token.mac, now: hand.scene.now }
            }
        })
    }
}

struct Update {
    correction: Correction,
}

impl Update {
    /// The value in its normal form, and where it stands in the index.
    fn checked(&self, policy: &Policy, address: &RecordAddress) -> Result<CheckedValue, VaultError> {
        let normal = field_type(policy, &address.field)?.normalise(&self.correction.value);
        let declared = policy.field(&address.field).ok_or(Denial::FieldNotAllowed)?;
        Ok(CheckedValue {
            field: address.field.clone(),
            field_type: declared.field_type,
            value: normal.map_err(|rule| VaultError::invalid("value", rule.to_string()))?,
            mode: TokenMode::Random,
            expires_at: None,
            source: self.correction.source,
            // Its entry has the evidence of the correction as its reference.
            source_reference: None,
            unique: declared.is_unique(),
        })
    }

    /// Logs what the record holds now, and answers it.
    fn answer(
        &self,
        hand: &mut Hand<'_, '_>,
        found: Found<'_>,
        version: u32,
        updated_at: Timestamp,
    ) -> Result<Deeded<Corrected>, VaultError> {
        let reference = self.correction.evidence.to_string();
        hand.log(|entry| Entry {
            reference: Some(reference),
            object_kind: Some("record".to_owned()),
            count: Some(u64::from(version)),
            ..about(found, entry)
        })?;
        let numbers = vec![i64::from(version), updated_at.as_micros()];
        let outcome = ItemOutcome { numbers, ..ItemOutcome::default() };
        Ok(Deeded::changed(Corrected { version, updated_at }, outcome))
    }

    /// Where the value may stand in the index: the field is known only with the token, so every unique field whose type
    /// takes the value is looked at.
    fn places(&self, policy: &Policy, context: &Context) -> Vec<IndexKeyOfValue> {
        let index = context.keys.index.current();
        let unique = policy.fields().filter(|(_, field)| field.is_unique());
        unique
            .filter_map(|(name, field)| {
                let normal = field.field_type.normalise(&self.correction.value).ok()?;
                Some((name.clone(), index.version, index.value(name, &normal)))
            })
            .collect()
    }
}

impl Deed for Update {
    type Answer = Corrected;

    fn call(&self) -> Call {
        Call::UpdateRecord
    }

    fn changes(&self) -> bool {
        true
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        keys.tokens.extend(hashes_of(context, &self.correction.token));
        for applied in context.policies() {
            keys.values.extend(self.places(&applied.policy, context));
        }
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Corrected>, VaultError> {
        let scene = hand.scene;
        let (found, policy) = own_token(scene, hand.caller, &self.correction.token)?;
        let address = &found.record.address;
        let declared = policy.field(&address.field).ok_or(Denial::FieldNotAllowed)?;
        if !policy.may_collect(hand.caller, declared) {
            return Err(Denial::CallerNotAllowed.into());
        }
        if !declared.accepts_source(self.correction.source) {
            return Err(Denial::SourceNotAllowed.into());
        }
        usable(found.subject)?;
        match found.token.state {
            TokenState::Active if found.token.expires_at.is_some_and(|end| end <= scene.now) => {
                return Err(Denial::TokenExpired.into());
            }
            TokenState::Active => {}
            TokenState::Spent => return Err(Denial::TokenSpent.into()),
            TokenState::Revoked => return Err(Denial::TokenRevoked.into()),
        }
        let value = self.checked(policy, address)?;
        if !hand.plan.claim(Claim::Record(address.record)) {
            return Ok(Deeded::Later);
        }
        let key = scene.subject_key(found.subject)?;
        let equal = key.value_equals(address, &found.record.sealed_value, &value.value);
        if equal.map_err(|e| scene.damaged("records", &e))? {
            return self.answer(hand, found, address.version, found.record.created_at);
        }
        let index_key = value.index_key(scene.context);
        let held = scene.snapshot.values.get(&index_key).map_or(&[][..], Vec::as_slice);
        if value.unique && held.iter().any(|row| row.claims_unique && row.record != address.record) {
            return Err(Denial::ValueNotUnique.into());
        }
        if value.unique && !hand.plan.claim(Claim::Value(index_key)) {
            return Ok(Deeded::Later);
        }
        let version = address.version.checked_add(1).ok_or(VaultError::Unavailable)?;
        let mut old = RecordRow { state: RecordState::Superseded, ..found.record.clone() };
        old.mac = scene.keys().row.mac(&old.image());
        hand.plan.writes.push(Write::UpdateRecord(old, found.record.mac));
        hand.plan.writes.push(Write::DeleteIndex(address.record));
        let next = RecordAddress { version, ..address.clone() };
        insert_version(scene, hand.plan, &key, next, &value)?;
        // A batch that was read before must not answer the old value after this one is acknowledged.
        hand.plan.tightens = true;
        self.answer(hand, found, version, scene.now)
    }

    fn again(&self, hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<Corrected, VaultError> {
        own_token(hand.scene, hand.caller, &self.correction.token)?;
        let version = u32::try_from(before.number(0)?).map_err(|_| Denial::DataDamaged)?;
        Ok(Corrected { version, updated_at: before.time(1)? })
    }
}
