//! The rows of one subject's values: subject, records, index entries, tokens, consents.

use std::sync::Arc;

use super::{
    act::{Asker, Plan, Scene},
    consent::{MAX_CONSENTS_OF_SUBJECT, consent_entry},
    error::VaultError,
    spending,
    tokenize::{Checked, CheckedValue, NewToken, StoredRecord, Tokenized, unavailable},
};
use crate::{
    audit::entry::{Entry, Verdict},
    crypto::{
        digest::token_hash,
        envelope::{SubjectKey, SubjectPlace},
    },
    domain::{
        caller::{Caller, Role},
        consent::{RecordAddress, SubjectState},
        field::FieldType,
        ids::{ConsentId, RecordId, SubjectId, TokenRowId},
        operation::BudgetKind,
        subject::SubjectKind,
        token::{AnyToken, DigitsToken, Token, TokenMode, TokenState},
    },
    policy::{
        decide::{Denial, require_role},
        model::Policy,
    },
    store::{
        Write,
        rows::{IndexRow, RecordRow, RecordState, SubjectRow, TokenRow},
    },
};

/// A subject whose key is open.
pub(super) struct OpenSubject<'s> {
    pub(super) id: SubjectId,
    pub(super) key: SubjectKey,
    pub(super) records: Vec<&'s RecordRow>,
}

/// Stores for one caller in one batch.
pub(super) struct Storing<'a, 's> {
    pub(super) scene: &'a Scene<'s>,
    pub(super) asker: &'a Asker,
    pub(super) caller: &'a Arc<Caller>,
    pub(super) call: &'static str,
}

impl<'a> Storing<'a, '_> {
    /// Stores one subject's values. The inner result is a refusal, for the log and the caller.
    pub(super) fn store(
        &self,
        plan: &mut Plan,
        item: &Checked,
    ) -> Result<Result<Tokenized, Denial>, VaultError> {
        if let Err(reason) = self.may_store(item) {
            return Ok(Err(reason));
        }
        let known = self.scene.subject_by_reference(&item.subject_reference);
        let kind = item.subject_kind;
        let subject = match known.and_then(|found| found.map(|found| self.open(found, kind)).transpose()) {
            Ok(Some(subject)) => subject,
            Ok(None) => self.create(plan, item)?,
            Err(reason) => return Ok(Err(reason)),
        };
        let mut tokens = Vec::new();
        for value in &item.fields {
            match self.store_value(plan, &subject, value)? {
                Ok(token) => tokens.push(token),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        let consents = self.store_consents(plan, &subject, item)?;
        Ok(consents.map(|consents| Tokenized { subject: subject.id, tokens, consents }))
    }

    /// The consents of an item, in order: recorded, or held already where the call says that those are kept.
    fn store_consents(
        &self,
        plan: &mut Plan,
        subject: &OpenSubject<'_>,
        item: &Checked,
    ) -> Result<Result<Vec<ConsentId>, Denial>, VaultError> {
        if item.consents.is_empty() {
            return Ok(Ok(Vec::new()));
        }
        let held = match self.scene.consents_of(subject.id) {
            Ok(held) => held,
            Err(reason) => return Ok(Err(reason)),
        };
        let (mut ids, mut new) = (Vec::new(), 0);
        for consent in &item.consents {
            let terms = consent.recorded_terms();
            if let Some(same) = held.iter().find(|held| item.keep_held_consents && held.terms == terms) {
                // Nothing changes, but that the caller was told is an entry as well.
                plan.entries.push(Entry {
                    purpose: Some(same.terms.purpose.to_string()),
                    subject: Some((*subject.id.as_bytes()).into()),
                    consent: Some((*same.id.as_bytes()).into()),
                    ..self.entry()?
                });
                ids.push(same.id);
                continue;
            }
            let row = consent.seal(self.scene, subject.id, &subject.key)?;
            plan.entries.push(consent_entry(self.entry()?, &row));
            ids.push(row.consent.id);
            plan.writes.push(Write::InsertConsent(row));
            new += 1;
        }
        if held.len() + new > MAX_CONSENTS_OF_SUBJECT {
            return Ok(Err(Denial::TooManyConsents));
        }
        Ok(Ok(ids))
    }

    /// The tokens of a retry, from their rows.
    pub(super) fn tokens_again(
        &self,
        item: &Checked,
        subject: SubjectId,
        rows: &[TokenRowId],
        created: &[bool],
    ) -> Result<Vec<NewToken>, Denial> {
        self.may_store(item)?;
        let scene = self.scene;
        let row = scene.subject(subject)?;
        usable(row)?;
        let key = scene.subject_key(row)?;
        let created = created.iter().copied().chain(std::iter::repeat(false));
        item.fields
            .iter()
            .zip(rows)
            .zip(created)
            .map(|((value, id), record_created)| {
                // A token that was ended since is not handed out again.
                let hash = scene.snapshot.token_hashes.get(id).ok_or(Denial::TokenRevoked)?;
                let found = scene.token(hash)?.ok_or(Denial::TokenRevoked)?;
                let token = self.reveal(&key, subject, found.token)?;
                Ok(NewToken { field: value.field.clone(), token, id: *id, record_created })
            })
            .collect()
    }

    fn entry(&self) -> Result<Entry, VaultError> {
        self.scene.entry(self.call, self.asker, self.caller, Verdict::Done)
    }

    /// Policy names who may store each field, from where, and who may record consents; types must still be those that
    /// the values were checked against.
    fn may_store(&self, item: &Checked) -> Result<(), Denial> {
        require_role(self.caller, Role::Service)?;
        self.scene.storage_is_inside()?;
        policy_admits(self.scene.policy()?, self.caller, item)
    }

    fn open(&self, found: &'a SubjectRow, kind: Option<SubjectKind>) -> Result<OpenSubject<'a>, Denial> {
        usable(found)?;
        if kind.is_some_and(|kind| kind != found.kind) {
            return Err(Denial::SubjectKindNotAllowed);
        }
        let key = self.scene.subject_key(found)?;
        Ok(OpenSubject { id: found.id, key, records: self.scene.records_of(found.id)? })
    }

    fn create(&self, plan: &mut Plan, item: &Checked) -> Result<OpenSubject<'static>, VaultError> {
        let scene = self.scene;
        let (platform, rng) = (scene.context.platform, scene.rng());
        let id = SubjectId::random(rng).map_err(unavailable)?;
        let key = SubjectKey::random(rng).map_err(unavailable)?;
        let place = SubjectPlace::reference(platform, id);
        let index = scene.keys().index.newest();
        let mut row = SubjectRow {
            platform,
            id,
            index_version: index.version,
            reference_hash: index.subject_reference(&item.subject_reference),
            sealed_reference: key
                .seal_at(&place, item.subject_reference.as_bytes(), rng)
                .map_err(unavailable)?,
            wrapped_key: Some(scene.keys().wrap(id, &key, rng).map_err(unavailable)?),
            kind: item.subject_kind.unwrap_or(SubjectKind::Natural),
            state: SubjectState::Active,
            restriction: None,
            erased_at: None,
            destroy_at: None,
            created_at: scene.now,
            mac: [0; 32],
        };
        row.mac = scene.keys().row.mac(&row.image());
        plan.entries.push(Entry {
            subject: Some((*id.as_bytes()).into()),
            object_kind: Some("subject".to_owned()),
            row_mac: Some(row.mac.into()),
            ..self.entry()?
        });
        plan.writes.push(Write::InsertSubject(row));
        Ok(OpenSubject { id, key, records: Vec::new() })
    }

    fn store_value(
        &self,
        plan: &mut Plan,
        subject: &OpenSubject<'_>,
        value: &CheckedValue,
    ) -> Result<Result<NewToken, Denial>, VaultError> {
        let held = subject.records.iter().find(|record| record.address.field == value.field);
        let allowed = match held {
            Some(held) => self.same_value(plan, subject, held, value),
            None => self.must_be_unique(plan, value),
        };
        if let Err(reason) = allowed {
            return Ok(Err(reason));
        }
        let record = if let Some(held) = held {
            StoredRecord { id: held.address.record, created: false }
        } else {
            self.create_record(plan, subject, value)?
        };
        if value.mode == TokenMode::Deterministic
            && let Some(hash) = self.scene.snapshot.deterministic.get(&record.id)
        {
            return self.same_token(plan, subject, value, hash);
        }
        let new = self.create_token(plan, subject, value, record.id)?;
        let (token, id) = new;
        Ok(Ok(NewToken { field: value.field.clone(), token, id, record_created: record.created }))
    }

    /// A different value than the one held is a guess that missed, as far as the vault can know.
    fn same_value(
        &self,
        plan: &mut Plan,
        subject: &OpenSubject<'_>,
        held: &RecordRow,
        value: &CheckedValue,
    ) -> Result<(), Denial> {
        let equal = subject
            .key
            .value_equals(&held.address, &held.sealed_value, &value.value)
            .map_err(|e| self.scene.damaged("records", &e))?;
        if equal { Ok(()) } else { Err(self.missed(plan, Denial::ValueDiffers)) }
    }

    /// Nobody else may hold a value of a unique field. The index is the database's own constraint too.
    fn must_be_unique(&self, plan: &mut Plan, value: &CheckedValue) -> Result<(), Denial> {
        let held = value.unique
            && self
                .scene
                .snapshot
                .values
                .get(&value.index_key(self.scene.context))
                .is_some_and(|rows| rows.iter().any(|row| row.claims_unique));
        if held { Err(self.missed(plan, Denial::ValueNotUnique)) } else { Ok(()) }
    }

    fn missed(&self, plan: &mut Plan, denial: Denial) -> Denial {
        let spent = spending::spend(self.scene, plan, self.caller, BudgetKind::Enumeration);
        spent.err().unwrap_or(denial)
    }

    fn create_record(
        &self,
        plan: &mut Plan,
        subject: &OpenSubject<'_>,
        value: &CheckedValue,
    ) -> Result<StoredRecord, VaultError> {
        let (scene, rng) = (self.scene, self.scene.rng());
        let record = RecordId::random(rng).map_err(unavailable)?;
        let address = RecordAddress {
            platform: scene.context.platform,
            subject: subject.id,
            record,
            field: value.field.clone(),
            version: 1,
        };
        insert_version(scene, plan, &subject.key, address, value)?;
        Ok(StoredRecord { id: record, created: true })
    }

    /// The token that a record has already. Nothing changes, but that the caller was told is an entry as well.
    fn same_token(
        &self,
        plan: &mut Plan,
        subject: &OpenSubject<'_>,
        value: &CheckedValue,
        hash: &crate::domain::token::TokenHash,
    ) -> Result<Result<NewToken, Denial>, VaultError> {
        let found = match self.scene.token(hash) {
            Ok(Some(found)) => found,
            Ok(None) => return Ok(Err(Denial::DataDamaged)),
            Err(reason) => return Ok(Err(reason)),
        };
        let token = match self.reveal(&subject.key, subject.id, found.token) {
            Ok(token) => token,
            Err(reason) => return Ok(Err(reason)),
        };
        plan.entries.push(Entry {
            field: Some(value.field.to_string()),
            reference: value.source_reference.as_ref().map(ToString::to_string),
            subject: Some((*subject.id.as_bytes()).into()),
            record: Some((*found.token.record.as_bytes()).into()),
            token: Some((*found.token.id.as_bytes()).into()),
            ..self.entry()?
        });
        Ok(Ok(NewToken { field: value.field.clone(), token, id: found.token.id, record_created: false }))
    }

    fn reveal(&self, key: &SubjectKey, subject: SubjectId, row: &TokenRow) -> Result<AnyToken, Denial> {
        let place = SubjectPlace::token(row.platform, subject, row.id);
        key.open_token(&place, &row.sealed_token).map_err(|e| self.scene.damaged("tokens", &e))
    }

    fn create_token(
        &self,
        plan: &mut Plan,
        subject: &OpenSubject<'_>,
        value: &CheckedValue,
        record: RecordId,
    ) -> Result<(AnyToken, TokenRowId), VaultError> {
        let (token, row) =
            new_token(self.scene, subject.id, &subject.key, record, value.mode, value.expires_at)?;
        plan.entries.push(Entry {
            field: Some(value.field.to_string()),
            reference: value.source_reference.as_ref().map(ToString::to_string),
            subject: Some((*subject.id.as_bytes()).into()),
            record: Some((*record.as_bytes()).into()),
            token: Some((*row.id.as_bytes()).into()),
            row_mac: Some(row.mac.into()),
            ..self.entry()?
        });
        let id = row.id;
        if let AnyToken::Digits(digits) = &token {
            // The database keeps hashes of one version apart; under another the same digits have another hash.
            let others = self.scene.keys().index.readable().filter(|key| key.version != row.hash_version);
            plan.writes.extend(others.map(|key| Write::NoToken(key.digits_token(digits))));
        }
        plan.writes.push(Write::InsertToken(row));
        Ok((token, id))
    }
}

/// Whether the policy names the caller, the sources and the kind for all of an item.
pub(super) fn policy_admits(policy: &Policy, caller: &Caller, item: &Checked) -> Result<(), Denial> {
    for value in &item.fields {
        let field = policy.field(&value.field).filter(|f| f.field_type == value.field_type);
        let field = field.ok_or(Denial::FieldNotAllowed)?;
        if !policy.may_collect(caller, field) {
            return Err(Denial::CallerNotAllowed);
        }
        if !field.accepts_source(value.source) {
            return Err(Denial::SourceNotAllowed);
        }
    }
    if !item.consents.is_empty() && !policy.may_record_consents(caller) {
        return Err(Denial::CallerNotAllowed);
    }
    if !policy.accepts_kind(item.subject_kind.unwrap_or(SubjectKind::Natural)) {
        return Err(Denial::SubjectKindNotAllowed);
    }
    Ok(())
}

/// Whether values of the subject may be stored and corrected.
pub(super) const fn usable(subject: &SubjectRow) -> Result<(), Denial> {
    match subject.state {
        SubjectState::Active => Ok(()),
        SubjectState::Restricted => Err(Denial::SubjectRestricted),
        SubjectState::Erased => Err(Denial::SubjectErased),
    }
}

/// A version of a record with its place in the blind index. Free text has none: nobody is found by it.
pub(super) fn insert_version(
    scene: &Scene<'_>,
    plan: &mut Plan,
    key: &SubjectKey,
    address: RecordAddress,
    value: &CheckedValue,
) -> Result<(), VaultError> {
    let sealed_value = key.seal_value(&address, &value.value, scene.rng()).map_err(unavailable)?;
    let record = address.record;
    let mut row = RecordRow {
        address,
        state: RecordState::Current,
        source: value.source,
        sealed_value,
        created_at: scene.now,
        mac: [0; 32],
    };
    row.mac = scene.keys().row.mac(&row.image());
    plan.writes.push(Write::InsertRecord(row));
    if value.field_type != FieldType::Text {
        let claims_unique = value.unique;
        for index in scene.keys().index.written() {
            let (field, index_version, hash) = value.index_key_under(index);
            plan.writes.push(Write::InsertIndex(IndexRow {
                field,
                index_version,
                hash,
                record,
                claims_unique,
            }));
        }
    }
    Ok(())
}

/// A new token of a record, with its row.
pub(super) fn new_token(
    scene: &Scene<'_>,
    subject: SubjectId,
    key: &SubjectKey,
    record: RecordId,
    mode: TokenMode,
    expires_at: Option<crate::domain::time::Timestamp>,
) -> Result<(AnyToken, TokenRow), VaultError> {
    let (rng, platform) = (scene.rng(), scene.context.platform);
    let index = scene.keys().index.newest();
    let (token, hash, hash_version) = if mode == TokenMode::Digits {
        let digits = DigitsToken::random(rng).map_err(unavailable)?;
        let hash = index.digits_token(&digits);
        (AnyToken::Digits(digits), hash, index.version)
    } else {
        let token = Token::random(rng).map_err(unavailable)?;
        let hash = token_hash(&token);
        (AnyToken::Random(token), hash, 0)
    };
    let id = TokenRowId::random(rng).map_err(unavailable)?;
    let place = SubjectPlace::token(platform, subject, id);
    let mut row = TokenRow {
        platform,
        hash,
        hash_version,
        id,
        record,
        mode,
        state: TokenState::Active,
        expires_at,
        sealed_token: key.seal_at(&place, token.reveal().as_bytes(), rng).map_err(unavailable)?,
        created_at: scene.now,
        mac: [0; 32],
    };
    row.mac = scene.keys().row.mac(&row.image());
    Ok((token, row))
}
