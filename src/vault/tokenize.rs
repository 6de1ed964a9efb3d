//! Values in, tokens out: subjects, records, tokens and the consents that came with them, all or nothing.

use std::sync::Arc;

use super::{
    Vault,
    act::{Act, Asker, Claim, Flow, Plan, Reply, Scene, reply},
    consent::{MAX_CONSENTS_OF_SUBJECT, NewConsent, consent_entry},
    context::Context,
    error::{VaultError, Violation},
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
        names::FieldName,
        secret::{Plaintext, Sealed},
        subject::{SubjectKind, ValueSource},
        time::Timestamp,
        token::{Token, TokenMode, TokenState},
    },
    policy::{
        decide::{Denial, require_role},
        model::Policy,
    },
    store::{
        ReadKeys, Write,
        rows::{RecordRow, RecordState, SubjectRow, TokenRow},
    },
};

/// Fields in one Tokenize.
pub const MAX_FIELDS: usize = 64;
/// Consents in one Tokenize.
pub const MAX_CONSENTS: usize = 32;
/// Bytes of a platform's reference to a subject.
pub const MAX_REFERENCE_BYTES: usize = 256;

/// Values of one subject.
pub struct NewValues {
    /// The platform's reference to the subject.
    pub subject_reference: String,
    /// Values as they came, each field once.
    pub fields: Vec<(FieldName, Plaintext)>,
    /// Consents given with them.
    pub consents: Vec<NewConsent>,
}

/// What one subject got.
pub struct Tokenized {
    /// The subject.
    pub subject: SubjectId,
    /// A token for each field, in order.
    pub tokens: Vec<NewToken>,
    /// Ids of the consents, in order.
    pub consents: Vec<ConsentId>,
}

/// A token for a field.
pub struct NewToken {
    /// Field.
    pub field: FieldName,
    /// The token.
    pub token: Token,
    /// False where the vault held the value already.
    pub record_created: bool,
}

/// Outcome of each subject, in order.
pub type Answers = Vec<Result<Tokenized, VaultError>>;

impl Vault {
    /// Stores values of subjects, each subject alone, and answers their tokens.
    ///
    /// # Errors
    /// [`VaultError`] where the call as a whole cannot be served.
    pub async fn tokenize(
        &self,
        caller: &Caller,
        asker: Asker,
        call: &'static str,
        items: Vec<NewValues>,
    ) -> Result<Answers, VaultError> {
        let context = self.context(caller.platform)?;
        let now = self.shared.clock.now();
        let items = items.into_iter().map(|item| Checked::new(item, &context, caller, now)).collect();
        let (reply, waiting) = reply();
        let act = TokenizeAct { asker, call, items, answers: Vec::new(), reply };
        self.submit(caller, act)?;
        waiting.answer().await
    }
}

/// Values in their normal forms.
struct Checked {
    subject_reference: String,
    fields: Vec<(FieldName, FieldType, Plaintext)>,
    consents: Vec<NewConsent>,
}

impl Checked {
    /// Checks form and types before the lane, where it can run beside other calls.
    /// A caller that the policy names for nothing of this kind is refused before anything is looked at.
    fn new(item: NewValues, context: &Context, caller: &Caller, now: Timestamp) -> Result<Self, VaultError> {
        let policy = context.policy(now).ok_or(Denial::CallerNotAllowed)?;
        require_role(caller, Role::Service)?;
        if !policy.collects_anything(caller) && !policy.may_record_consents(caller) {
            return Err(Denial::CallerNotAllowed.into());
        }
        let mut violations = Vec::new();
        let mut fields: Vec<(FieldName, FieldType, Plaintext)> = Vec::new();
        for (i, (name, value)) in item.fields.into_iter().enumerate() {
            let Some(declared) = policy.field(&name) else {
                violations.push(Violation::new(
                    format!("fields[{i}].field"),
                    "the policy does not declare this field",
                ));
                continue;
            };
            if fields.iter().any(|(other, ..)| *other == name) {
                violations.push(Violation::new(format!("fields[{i}].field"), "a field may stand only once"));
                continue;
            }
            match declared.field_type.normalise(&value) {
                Ok(normal) => fields.push((name, declared.field_type, normal)),
                Err(rule) => violations.push(Violation::new(format!("fields[{i}].value"), rule.to_string())),
            }
        }
        for (i, consent) in item.consents.iter().enumerate() {
            violations.extend(consent.violations(policy, &format!("consents[{i}].")));
        }
        if violations.is_empty() {
            Ok(Self { subject_reference: item.subject_reference, fields, consents: item.consents })
        } else {
            Err(VaultError::Invalid(violations))
        }
    }
}

struct TokenizeAct {
    asker: Asker,
    call: &'static str,
    items: Vec<Result<Checked, VaultError>>,
    answers: Answers,
    reply: Reply<Answers>,
}

impl Act for TokenizeAct {
    fn weight(&self) -> usize {
        self.items.len()
    }

    fn writes(&self) -> bool {
        true
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_abandoned()
    }

    fn reads(&self, context: &Context, keys: &mut ReadKeys) {
        let index = &context.keys.index;
        keys.references.extend(
            self.items
                .iter()
                .flatten()
                .map(|item| (index.version, index.subject_reference(&item.subject_reference))),
        );
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        let caller = scene.caller(&self.asker)?;
        self.answers = Vec::with_capacity(self.items.len());
        let mut own = std::collections::HashSet::new();
        for item in &self.items {
            let item = match item {
                Ok(item) => item,
                Err(error) => {
                    if let VaultError::Denied(reason) = error {
                        plan.entries.push(scene.denial(self.call, &self.asker, &caller, *reason)?);
                    }
                    self.answers.push(Err(error.clone()));
                    continue;
                }
            };
            let hash = scene.keys().index.subject_reference(&item.subject_reference);
            if !own.insert(hash) {
                let again = "a batch names each subject once";
                self.answers.push(Err(VaultError::invalid("subject_reference", again)));
                continue;
            }
            if !plan.claim(Claim::Subject(hash)) {
                return Ok(Flow::Later);
            }
            let mark = plan.mark();
            let storing = Storing { scene, asker: &self.asker, caller: &caller, call: self.call };
            match storing.store(plan, item, hash)? {
                Ok(tokenized) => self.answers.push(Ok(tokenized)),
                Err(reason) => {
                    plan.undo_to(mark);
                    plan.entries.push(scene.denial(self.call, &self.asker, &caller, reason)?);
                    self.answers.push(Err(reason.into()));
                }
            }
        }
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        let Self { answers, reply, .. } = *self;
        reply.send(outcome.map(|()| answers));
    }
}

/// A subject whose key is open.
struct OpenSubject<'s> {
    id: SubjectId,
    key: SubjectKey,
    records: Vec<&'s RecordRow>,
}

struct Storing<'a> {
    scene: &'a Scene<'a>,
    asker: &'a Asker,
    caller: &'a Arc<Caller>,
    call: &'static str,
}

impl Storing<'_> {
    /// Stores one subject's values. The inner result is a refusal, for the log and the caller.
    fn store(
        &self,
        plan: &mut Plan,
        item: &Checked,
        reference_hash: [u8; 32],
    ) -> Result<Result<Tokenized, Denial>, VaultError> {
        if let Err(reason) = self.may_store(item) {
            return Ok(Err(reason));
        }
        let version = self.scene.keys().index.version;
        let known = self.scene.subject_by_reference(&(version, reference_hash));
        let subject = match known.and_then(|found| found.map(|found| self.open(found)).transpose()) {
            Ok(Some(subject)) => subject,
            Ok(None) => self.create(plan, item, reference_hash)?,
            Err(reason) => return Ok(Err(reason)),
        };
        let mut tokens = Vec::new();
        for (field, _, value) in &item.fields {
            match self.store_value(plan, &subject, field, value)? {
                Ok(token) => tokens.push(token),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        let mut consents = Vec::new();
        for consent in &item.consents {
            let row = consent.seal(self.scene, subject.id, &subject.key)?;
            plan.entries.push(consent_entry(
                self.scene.entry(self.call, self.asker, self.caller, Verdict::Done)?,
                &row,
            ));
            consents.push(row.consent.id);
            plan.writes.push(Write::InsertConsent(row));
        }
        if !item.consents.is_empty() {
            match self.scene.consents_of(subject.id) {
                Ok(held) if held.len() + item.consents.len() <= MAX_CONSENTS_OF_SUBJECT => {}
                Ok(_) => return Ok(Err(Denial::TooManyConsents)),
                Err(reason) => return Ok(Err(reason)),
            }
        }
        Ok(Ok(Tokenized { subject: subject.id, tokens, consents }))
    }

    /// Policy names who may store each field and who may record consents; types must still be those that the
    /// values were checked against.
    fn may_store(&self, item: &Checked) -> Result<(), Denial> {
        require_role(self.caller, Role::Service)?;
        let policy: &Policy = self.scene.policy()?;
        for (name, field_type, _) in &item.fields {
            let field = policy.field(name).filter(|f| f.field_type == *field_type);
            let field = field.ok_or(Denial::FieldNotAllowed)?;
            if !policy.may_collect(self.caller, field) {
                return Err(Denial::CallerNotAllowed);
            }
        }
        if !item.consents.is_empty() && !policy.may_record_consents(self.caller) {
            return Err(Denial::CallerNotAllowed);
        }
        Ok(())
    }

    fn open(&self, found: &SubjectRow) -> Result<OpenSubject<'_>, Denial> {
        match found.state {
            SubjectState::Active => {}
            SubjectState::Restricted => return Err(Denial::SubjectRestricted),
            SubjectState::Erased => return Err(Denial::SubjectErased),
        }
        let key = self.scene.subject_key(found)?;
        Ok(OpenSubject { id: found.id, key, records: self.scene.records_of(found.id)? })
    }

    fn create(
        &self,
        plan: &mut Plan,
        item: &Checked,
        reference_hash: [u8; 32],
    ) -> Result<OpenSubject<'static>, VaultError> {
        let scene = self.scene;
        let (platform, rng) = (scene.context.platform, scene.rng());
        let id = SubjectId::random(rng).map_err(unavailable)?;
        let key = SubjectKey::random(rng).map_err(unavailable)?;
        let place = SubjectPlace::reference(platform, id);
        let mut row = SubjectRow {
            platform,
            id,
            index_version: scene.keys().index.version,
            reference_hash,
            sealed_reference: key
                .seal_at(&place, item.subject_reference.as_bytes(), rng)
                .map_err(unavailable)?,
            wrapped_key: Some(scene.keys().wrap(id, &key, rng).map_err(unavailable)?),
            kind: SubjectKind::Natural,
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
            ..scene.entry(self.call, self.asker, self.caller, Verdict::Done)?
        });
        plan.writes.push(Write::InsertSubject(row));
        Ok(OpenSubject { id, key, records: Vec::new() })
    }

    fn store_value(
        &self,
        plan: &mut Plan,
        subject: &OpenSubject<'_>,
        field: &FieldName,
        value: &Plaintext,
    ) -> Result<Result<NewToken, Denial>, VaultError> {
        let held = subject.records.iter().find(|record| record.address.field == *field);
        let record = match held {
            Some(held) => match self.same_value(subject, held, value) {
                Ok(()) => held.address.record,
                Err(reason) => return Ok(Err(reason)),
            },
            None => self.create_record(plan, subject, field, value)?,
        };
        let token = self.create_token(plan, subject, field, record)?;
        Ok(Ok(NewToken { field: field.clone(), token, record_created: held.is_none() }))
    }

    fn same_value(
        &self,
        subject: &OpenSubject<'_>,
        held: &RecordRow,
        value: &Plaintext,
    ) -> Result<(), Denial> {
        let equal = subject
            .key
            .value_equals(&held.address, &held.sealed_value, value)
            .map_err(|e| self.scene.damaged("records", &e))?;
        if equal { Ok(()) } else { Err(Denial::ValueDiffers) }
    }

    fn create_record(
        &self,
        plan: &mut Plan,
        subject: &OpenSubject<'_>,
        field: &FieldName,
        value: &Plaintext,
    ) -> Result<RecordId, VaultError> {
        let (scene, rng) = (self.scene, self.scene.rng());
        let record = RecordId::random(rng).map_err(unavailable)?;
        let address = RecordAddress {
            platform: scene.context.platform,
            subject: subject.id,
            record,
            field: field.clone(),
            version: 1,
        };
        let sealed_value = subject.key.seal_value(&address, value, rng).map_err(unavailable)?;
        let mut row = RecordRow {
            address,
            state: RecordState::Current,
            source: ValueSource::Subject,
            sealed_value,
            created_at: scene.now,
            mac: [0; 32],
        };
        row.mac = scene.keys().row.mac(&row.image());
        plan.writes.push(Write::InsertRecord(row));
        Ok(record)
    }

    fn create_token(
        &self,
        plan: &mut Plan,
        subject: &OpenSubject<'_>,
        field: &FieldName,
        record: RecordId,
    ) -> Result<Token, VaultError> {
        let (scene, rng) = (self.scene, self.scene.rng());
        let platform = scene.context.platform;
        let token = Token::random(rng).map_err(unavailable)?;
        let id = TokenRowId::random(rng).map_err(unavailable)?;
        let place = SubjectPlace::token(platform, subject.id, id);
        let sealed_token: Sealed =
            subject.key.seal_at(&place, token.reveal().as_bytes(), rng).map_err(unavailable)?;
        let mut row = TokenRow {
            platform,
            hash: token_hash(&token),
            hash_version: 0,
            id,
            record,
            mode: TokenMode::Random,
            state: TokenState::Active,
            expires_at: None,
            sealed_token,
            created_at: scene.now,
            mac: [0; 32],
        };
        row.mac = scene.keys().row.mac(&row.image());
        plan.entries.push(Entry {
            field: Some(field.to_string()),
            subject: Some((*subject.id.as_bytes()).into()),
            record: Some((*record.as_bytes()).into()),
            token: Some((*id.as_bytes()).into()),
            row_mac: Some(row.mac.into()),
            ..scene.entry(self.call, self.asker, self.caller, Verdict::Done)?
        });
        plan.writes.push(Write::InsertToken(row));
        Ok(token)
    }
}

/// Sealing fails only for want of randomness: a fault of the machine, to be seen by its operator.
pub(super) fn unavailable<E: std::error::Error + 'static>(error: E) -> VaultError {
    let error: &(dyn std::error::Error + 'static) = &error;
    tracing::error!(error, "nothing can be sealed");
    VaultError::Unavailable
}
