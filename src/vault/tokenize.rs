//! Values in, tokens out: subjects, records, tokens and the consents that came with them, all or nothing.

use std::{collections::HashSet, sync::Arc};

use super::{
    Vault,
    access::Call,
    act::{Act, Asker, Claim, Flow, Plan, Reply, Scene, reply},
    consent::{NewConsent, reference_keys},
    context::Context,
    error::{VaultError, Violation},
    replay::{self, ItemOutcome, Outcome, Standing},
    spending,
    storing::{Storing, policy_admits},
};
use crate::{
    crypto::digest::IndexKey,
    domain::{
        caller::{Caller, CallerState},
        field::FieldType,
        ids::{ConsentId, RecordId, SubjectId, TokenRowId},
        names::FieldName,
        operation::BudgetKind,
        reference::Reference,
        secret::Plaintext,
        subject::{SubjectKind, ValueSource},
        time::Timestamp,
        token::{AnyToken, TokenMode},
    },
    policy::decide::{Denial, require_role},
    store::{IndexKeyOfValue, ReadKeys},
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
    /// Kind of the subject; a known subject keeps its own.
    pub subject_kind: Option<SubjectKind>,
    /// Values as they came, each field once.
    pub fields: Vec<NewValue>,
    /// Consents given with them.
    pub consents: Vec<NewConsent>,
    /// Record none again that the subject has in the same terms.
    pub keep_held_consents: bool,
}

/// A value as it came.
pub struct NewValue {
    /// Field.
    pub field: FieldName,
    /// The value.
    pub value: Plaintext,
    /// The token that is wanted for it.
    pub mode: TokenMode,
    /// End of an expiring token.
    pub expires_at: Option<Timestamp>,
    /// Where the value came from.
    pub source: ValueSource,
    /// The paper behind the source.
    pub source_reference: Option<Reference>,
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
    pub token: AnyToken,
    /// Its row.
    pub id: TokenRowId,
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
        caller: &Arc<Caller>,
        asker: Asker,
        call: Call,
        items: Vec<NewValues>,
    ) -> Result<Answers, VaultError> {
        let context = self.context(caller.platform)?;
        let asked_at = self.shared.clock.now();
        let items = items.into_iter().map(|item| Checked::new(item, &context, caller, asked_at)).collect();
        let (reply, waiting) = reply();
        let caller_now = Arc::clone(caller);
        let act = TokenizeAct {
            asker,
            caller: caller_now,
            asked_at,
            call,
            items,
            before: None,
            answers: Vec::new(),
            reply,
        };
        self.submit(caller, act)?;
        waiting.answer().await
    }

    /// Checks values of subjects, each subject alone, against their forms and the policy in force. What is held is not looked
    /// at: nothing is decided, changed or logged.
    ///
    /// # Errors
    /// [`VaultError`] where the caller could store nothing.
    pub fn check_values(
        &self,
        caller: &Caller,
        items: Vec<Result<NewValues, VaultError>>,
    ) -> Result<Vec<Result<(), VaultError>>, VaultError> {
        let context = self.context(caller.platform)?;
        if caller.state == CallerState::Disabled {
            return Err(Denial::CallerDisabled.into());
        }
        if context.is_closed() {
            return Err(Denial::PlatformClosed.into());
        }
        let now = self.shared.clock.now();
        let policy = context.policy(now).ok_or(Denial::CallerNotAllowed)?;
        let check = |item: Result<NewValues, VaultError>| {
            let item = Checked::new(item?, &context, caller, now)?;
            match item.of_the_past(now) {
                Some(error) => Err(error),
                None => policy_admits(policy, caller, &item).map_err(VaultError::from),
            }
        };
        Ok(items.into_iter().map(check).collect())
    }
}

/// Values in their normal forms.
pub(super) struct Checked {
    pub(super) subject_reference: String,
    pub(super) subject_kind: Option<SubjectKind>,
    pub(super) fields: Vec<CheckedValue>,
    pub(super) consents: Vec<NewConsent>,
    pub(super) keep_held_consents: bool,
}

/// A value in its normal form.
pub(super) struct CheckedValue {
    pub(super) field: FieldName,
    pub(super) field_type: FieldType,
    pub(super) value: Plaintext,
    pub(super) mode: TokenMode,
    pub(super) expires_at: Option<Timestamp>,
    pub(super) source: ValueSource,
    /// The paper behind the source.
    pub(super) source_reference: Option<Reference>,
    /// Whether no two subjects may hold the same value.
    pub(super) unique: bool,
}

impl CheckedValue {
    /// The value's place in the blind index, where it is looked up.
    pub(super) fn index_key(&self, context: &Context) -> IndexKeyOfValue {
        self.index_key_under(context.keys.index.current())
    }

    /// The value's place in the index of one version.
    pub(super) fn index_key_under(&self, index: &IndexKey) -> IndexKeyOfValue {
        (self.field.clone(), index.version, index.value(&self.field, &self.value))
    }
}

impl Checked {
    /// Checks form and types before the lane, where it can run beside other calls.
    /// A caller that the policy names for nothing of this kind is refused before anything is looked at.
    fn new(item: NewValues, context: &Context, caller: &Caller, now: Timestamp) -> Result<Self, VaultError> {
        let policy = context.policy(now).ok_or(Denial::CallerNotAllowed)?;
        require_role(caller, crate::domain::caller::Role::Service)?;
        if !policy.collects_anything(caller) && !policy.may_record_consents(caller) {
            return Err(Denial::CallerNotAllowed.into());
        }
        let mut violations = Vec::new();
        let mut fields: Vec<CheckedValue> = Vec::new();
        for (i, new) in item.fields.into_iter().enumerate() {
            let mut refuse = |part: &str, rule: String| {
                violations.push(Violation::new(format!("fields[{i}].{part}"), rule));
            };
            let Some(declared) = policy.field(&new.field) else {
                refuse("field", "the policy does not declare this field".to_owned());
                continue;
            };
            if fields.iter().any(|other| other.field == new.field) {
                refuse("field", "a field may stand only once".to_owned());
                continue;
            }
            if new.source.needs_reference() && new.source_reference.is_none() {
                refuse("source_reference", ValueSource::REFERENCE_MISSING.to_owned());
            }
            match declared.field_type.normalise(&new.value) {
                Ok(value) => fields.push(CheckedValue {
                    field_type: declared.field_type,
                    unique: declared.is_unique(),
                    field: new.field,
                    value,
                    mode: new.mode,
                    expires_at: new.expires_at,
                    source: new.source,
                    source_reference: new.source_reference,
                }),
                Err(rule) => refuse("value", rule.to_string()),
            }
        }
        for (i, consent) in item.consents.iter().enumerate() {
            violations.extend(consent.violations(context, policy, &format!("consents[{i}].")));
        }
        if !violations.is_empty() {
            return Err(VaultError::Invalid(violations));
        }
        Ok(Self {
            subject_reference: item.subject_reference,
            subject_kind: item.subject_kind,
            fields,
            consents: item.consents,
            keep_held_consents: item.keep_held_consents,
        })
    }
}

impl Checked {
    /// What is wrong with what is new: a retry is answered as before, also when its token has expired since.
    fn of_the_past(&self, now: Timestamp) -> Option<VaultError> {
        let ended = |field: &CheckedValue| field.expires_at.is_some_and(|end| end <= now);
        let at = self.fields.iter().position(ended)?;
        Some(VaultError::invalid(format!("fields[{at}].token_expire_time"), "lies in the past"))
    }
}

struct TokenizeAct {
    asker: Asker,
    caller: Arc<Caller>,
    asked_at: Timestamp,
    call: Call,
    items: Vec<Result<Checked, VaultError>>,
    /// What came of the first time, where this is a retry.
    before: Option<Outcome>,
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
        replay::reads(self.caller.id, &self.asker, keys);
        if let Some(before) = &self.before {
            let ids = before.items.iter().flat_map(|item| tokens_of(item).0);
            keys.token_rows.extend(ids);
        }
        for item in self.items.iter().flatten() {
            keys.references.extend(reference_keys(context, &item.subject_reference));
            let unique = item.fields.iter().filter(|f| f.unique);
            keys.values.extend(unique.map(|f| f.index_key(context)));
            keys.deterministic |= item.fields.iter().any(|f| f.mode == TokenMode::Deterministic);
        }
        spending::reads(context, self.caller.id, BudgetKind::Enumeration, self.asked_at, keys);
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        let caller = scene.caller(&self.asker)?;
        let call = self.call.as_str();
        match replay::standing(scene, plan, &caller, call, &self.asker) {
            Ok(Standing::New) => {}
            Ok(Standing::Twin) => return Ok(Flow::Later),
            Ok(Standing::Done(outcome, _)) if self.before.is_none() => {
                self.before = Some(*outcome);
                return Ok(Flow::Later);
            }
            Ok(Standing::Done(outcome, _)) => return self.answer_again(scene, plan, &caller, &outcome),
            Err(reason) => {
                plan.entries.push(scene.denial(call, &self.asker, &caller, reason)?);
                self.answers = self.items.iter().map(|_| Err(reason.into())).collect();
                return Ok(Flow::Ready);
            }
        }
        let first_entry = plan.entries.len();
        self.answers = Vec::with_capacity(self.items.len());
        let (mut own, mut own_values) = (HashSet::new(), HashSet::new());
        for item in &self.items {
            let item = match item {
                Ok(item) => item,
                Err(error) => {
                    if let VaultError::Denied(reason) = error {
                        plan.entries.push(scene.denial(call, &self.asker, &caller, *reason)?);
                    }
                    self.answers.push(Err(error.clone()));
                    continue;
                }
            };
            if let Some(error) = item.of_the_past(self.asked_at) {
                self.answers.push(Err(error));
                continue;
            }
            let hash = scene.keys().index.current().subject_reference(&item.subject_reference);
            if !own.insert(hash) {
                let again = "a batch names each subject once";
                self.answers.push(Err(VaultError::invalid("subject_reference", again)));
                continue;
            }
            let unique = item.fields.iter().filter(|f| f.unique).map(|f| f.index_key(scene.context));
            let (new, twice): (Vec<_>, Vec<_>) = unique.partition(|key| own_values.insert(key.clone()));
            if !twice.is_empty() {
                plan.entries.push(scene.denial(call, &self.asker, &caller, Denial::ValueNotUnique)?);
                self.answers.push(Err(Denial::ValueNotUnique.into()));
                continue;
            }
            let mut claims = std::iter::once(Claim::Subject(hash)).chain(new.into_iter().map(Claim::Value));
            if !claims.all(|claim| plan.claim(claim)) {
                return Ok(Flow::Later);
            }
            let mark = plan.mark();
            let storing = Storing { scene, asker: &self.asker, caller: &caller, call };
            match storing.store(plan, item)? {
                Ok(tokenized) => self.answers.push(Ok(tokenized)),
                Err(reason) => {
                    plan.undo_to(mark);
                    plan.entries.push(scene.denial(call, &self.asker, &caller, reason)?);
                    self.answers.push(Err(reason.into()));
                }
            }
        }
        if self.answers.iter().any(Result::is_ok)
            && let Some(entry) = plan.entries.get(first_entry)
        {
            let items = self.answers.iter().map(item_outcome).collect();
            let outcome = Outcome { entry: entry.id, items };
            replay::record(scene, plan, &caller, call, &self.asker, &outcome);
        }
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        let Self { answers, reply, .. } = *self;
        reply.send(outcome.map(|()| answers));
    }
}

/// What a retry of an item is answered from: the subject, its token rows and consents; how many of them are tokens,
/// and which records were new.
fn item_outcome(answer: &Result<Tokenized, VaultError>) -> ItemOutcome {
    match answer {
        Ok(tokenized) => {
            let subject = std::iter::once(*tokenized.subject.as_bytes());
            let tokens = tokenized.tokens.iter().map(|token| *token.id.as_bytes());
            let consents = tokenized.consents.iter().map(|id| *id.as_bytes());
            let count = i64::try_from(tokenized.tokens.len()).unwrap_or(i64::MAX);
            let created = tokenized.tokens.iter().map(|token| i64::from(token.record_created));
            ItemOutcome {
                denial: None,
                ids: subject.chain(tokens).chain(consents).map(Into::into).collect(),
                numbers: std::iter::once(count).chain(created).collect(),
                proposal: None,
            }
        }
        Err(VaultError::Denied(reason)) => {
            ItemOutcome { denial: Some(reason.as_str().to_owned()), ..ItemOutcome::default() }
        }
        // Wrong by form, and so it stays: the same body is checked the same way.
        Err(_) => ItemOutcome::default(),
    }
}

/// Token rows and consents of an item that was stored.
fn tokens_of(item: &ItemOutcome) -> (Vec<TokenRowId>, Vec<ConsentId>) {
    let count = item.number(0).ok().and_then(|n| usize::try_from(n).ok()).unwrap_or(0);
    let rows = item.ids.iter().skip(1).map(|id| **id);
    let tokens = rows.clone().take(count).map(TokenRowId::from_bytes).collect();
    (tokens, rows.skip(count).map(ConsentId::from_bytes).collect())
}

impl TokenizeAct {
    /// Answers a retry from the rows that the first time left; the caller is authorised anew.
    fn answer_again(
        &mut self,
        scene: &Scene<'_>,
        plan: &mut Plan,
        caller: &Arc<Caller>,
        outcome: &Outcome,
    ) -> Result<Flow, VaultError> {
        let storing = Storing { scene, asker: &self.asker, caller, call: self.call.as_str() };
        self.answers = Vec::with_capacity(self.items.len());
        for (item, before) in self.items.iter().zip(&outcome.items) {
            let answer = match item {
                Err(error) => Err(error.clone()),
                Ok(item) => match before.denial.as_deref().map(str::parse::<Denial>) {
                    Some(Ok(reason)) => Err(reason.into()),
                    Some(Err(_)) => Err(Denial::DataDamaged.into()),
                    None if before.ids.is_empty() => {
                        Err(VaultError::invalid("subject_reference", "a batch names each subject once"))
                    }
                    None => {
                        let (tokens, consents) = tokens_of(before);
                        let subject = SubjectId::from_bytes(before.id(0)?);
                        let created: Vec<_> = before.numbers.iter().skip(1).map(|n| *n != 0).collect();
                        let rebuilt = storing.tokens_again(item, subject, &tokens, &created);
                        rebuilt.map(|tokens| Tokenized { subject, tokens, consents }).map_err(Into::into)
                    }
                },
            };
            self.answers.push(answer);
        }
        let verdict = crate::audit::entry::Verdict::Done;
        plan.entries.push(crate::audit::entry::Entry {
            replay_of: Some(outcome.entry),
            ..scene.entry(self.call.as_str(), &self.asker, caller, verdict)?
        });
        Ok(Flow::Ready)
    }
}

/// A record that a value went into.
pub(super) struct StoredRecord {
    pub(super) id: RecordId,
    pub(super) created: bool,
}

/// Sealing fails only for want of randomness: a fault of the machine, to be seen by its operator.
pub(super) fn unavailable<E: std::error::Error + 'static>(error: E) -> VaultError {
    let error: &(dyn std::error::Error + 'static) = &error;
    tracing::error!(error, "nothing can be sealed");
    VaultError::Unavailable
}
