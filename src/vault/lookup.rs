//! Questions about values that release none: is it this one, and whose tokens stand for it.

use std::sync::Arc;

use super::{
    Refuse, Vault,
    access::Call,
    act::{Asker, Claim},
    context::Context,
    deed::{Deed, Deeded, Hand},
    detokenize::{declared, field_type, hashes_of},
    error::VaultError,
    facts::{Held, TokenFacts, decide_on},
    replay::ItemOutcome,
    spending,
    storing::new_token,
};
use crate::{
    audit::entry::{Entry, Verdict},
    crypto::envelope::SubjectPlace,
    domain::{
        caller::Caller,
        ids::{EntryId, RecordId, SubjectId},
        names::{FieldName, PurposeName},
        operation::BudgetKind,
        outreach::Outreach,
        reference::Reference,
        secret::Plaintext,
        time::Timestamp,
        token::{AnyToken, TokenMode},
    },
    policy::{
        decide::{Ask, Denial, Permit, disclosed},
        model::{Policy, Purpose, View},
    },
    store::{IndexKeyOfValue, ReadKeys, Write},
};

/// Subjects that one look-up answers.
pub const MAX_FOUND: usize = 100;

/// Whether a token stands for a value.
pub struct Comparison {
    /// The token.
    pub token: AnyToken,
    /// For what.
    pub purpose: PurposeName,
    /// What it may stand for.
    pub candidate: Plaintext,
    /// By which channel, and in whose name, the person will be reached.
    pub outreach: Option<Outreach>,
    /// Why, in the platform's numbering.
    pub reference: Option<Reference>,
}

/// The answer to a [`Comparison`].
#[derive(Debug, Clone, Copy)]
pub struct Compared {
    /// Whether it does.
    pub equal: bool,
    /// The entry that permits the answer.
    pub entry: EntryId,
}

/// A search for the subjects that have a value.
pub struct Search {
    /// Field.
    pub field: FieldName,
    /// The value as it came.
    pub value: Plaintext,
    /// For what.
    pub purpose: PurposeName,
    /// By which channel, and in whose name, the person will be reached.
    pub outreach: Option<Outreach>,
    /// Why, in the platform's numbering.
    pub reference: Option<Reference>,
}

/// A subject that was found, with the deterministic token of its record.
pub struct FoundToken {
    /// The subject.
    pub subject: SubjectId,
    /// The token.
    pub token: AnyToken,
}

impl Vault {
    /// Says whether a token stands for a value. A wrong guess costs one of the caller's budget.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn compare_value(
        &self,
        caller: &Arc<Caller>,
        asker: Asker,
        question: Comparison,
    ) -> Result<Compared, VaultError> {
        let asked_at = self.shared.clock.now();
        self.run(caller.platform, caller, asker, Compare { question, caller: Arc::clone(caller), asked_at })
            .await
    }

    /// Finds the subjects that hold a value, as far as the purpose may see it of each; and whether there are more.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn lookup_tokens(
        &self,
        caller: &Arc<Caller>,
        asker: Asker,
        search: Search,
    ) -> Result<(Vec<FoundToken>, bool), VaultError> {
        let context = self.context(caller.platform)?;
        let asked_at = self.shared.clock.now();
        // Who may not ask for the field learns nothing of what the policy says of it: the lane refuses.
        let Some(policy) = context.policy(asked_at) else {
            let (call, reason) = (Call::LookupTokens, Denial::CallerNotAllowed);
            self.run(caller.platform, caller, asker, Refuse { call, reason }).await?;
            return Err(reason.into());
        };
        let may = |purpose: &Purpose| purpose.names_caller(caller) && purpose.covers(&search.field);
        let permitted = policy.purpose(&search.purpose).filter(|purpose| may(purpose));
        let value = match permitted.and_then(|_| policy.field(&search.field)) {
            Some(field) => field
                .field_type
                .normalise(&search.value)
                .map_err(|rule| VaultError::invalid("value", rule.to_string()))?,
            None => search.value,
        };
        let search = Search { value, ..search };
        self.run(caller.platform, caller, asker, Lookup { search, caller: Arc::clone(caller), asked_at })
            .await
    }
}

/// Any view that the purpose allows will do: these answers tell less than each.
fn least_view(policy: &Policy, purpose: &PurposeName) -> Result<View, Denial> {
    let purpose = policy.purpose(purpose).ok_or(Denial::PurposeNotDeclared)?;
    if purpose.inert.is_some() {
        return Err(Denial::PurposeInert);
    }
    let views = [View::Masked, View::Full];
    views.into_iter().find(|view| purpose.allows_view(*view)).ok_or(Denial::ViewNotAllowed)
}

struct Compare {
    question: Comparison,
    caller: Arc<Caller>,
    asked_at: Timestamp,
}

impl Deed for Compare {
    type Answer = Compared;

    fn call(&self) -> Call {
        Call::CompareValue
    }

    fn changes(&self) -> bool {
        false
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        keys.tokens.extend(hashes_of(context, &self.question.token));
        spending::reads(context, self.caller.id, BudgetKind::Enumeration, self.asked_at, keys);
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Compared>, VaultError> {
        let (scene, question) = (hand.scene, &self.question);
        let policy = scene.policy()?;
        let found = scene.token_given(&question.token)?;
        let about = |entry: Entry| Entry {
            purpose: declared(scene, &question.purpose),
            view: Some("compare".to_owned()),
            reference: question.reference.as_ref().map(ToString::to_string),
            field: found.map(|f| f.record.address.field.to_string()),
            subject: found.map(|f| (*f.subject.id.as_bytes()).into()),
            record: found.map(|f| (*f.record.address.record.as_bytes()).into()),
            token: found.map(|f| (*f.token.id.as_bytes()).into()),
            ..entry
        };
        let decided = compare(hand, policy, question);
        match decided {
            Ok((permit, equal)) => {
                let consent = permit.consent().map(|id| (*id.as_bytes()).into());
                let entry = hand.log_as(Verdict::Permit, |entry| Entry { consent, ..about(entry) })?;
                Ok(Deeded::answer(Compared { equal, entry }))
            }
            Err(reason) => {
                hand.refuse(reason, about)?;
                let address = found.map(|f| &f.record.address);
                Ok(Deeded::refused(disclosed(reason, policy, hand.caller, address)))
            }
        }
    }
}

/// Decides and compares. A miss of either kind costs the same.
fn compare(
    hand: &mut Hand<'_, '_>,
    policy: &Policy,
    question: &Comparison,
) -> Result<(Permit, bool), Denial> {
    let (scene, caller) = (hand.scene, hand.caller);
    spending::check(scene, hand.plan, caller, BudgetKind::Enumeration)?;
    let found = scene.token_given(&question.token)?;
    let ask = Ask {
        caller,
        purpose: &question.purpose,
        view: least_view(policy, &question.purpose)?,
        recipient: None,
        outreach: question.outreach.as_ref(),
        reference: question.reference.as_ref(),
    };
    let known = found.map(|found| (Held::value(found.record), found.subject, TokenFacts::of(&found)));
    if found.is_none() {
        spending::spend(scene, hand.plan, caller, BudgetKind::Enumeration)?;
    }
    let permit = decide_on(scene, policy, ask, known)?;
    let found = found.ok_or(Denial::TokenNotFound)?;
    let address = &found.record.address;
    let equal = match field_type(policy, &address.field)?.normalise(&question.candidate) {
        Ok(normal) => {
            let key = scene.subject_key(found.subject)?;
            key.value_equals(address, &found.record.sealed_value, &normal)
                .map_err(|e| scene.damaged("records", &e))?
        }
        // What is no value of the field's type equals none.
        Err(_) => false,
    };
    if !equal {
        spending::spend(scene, hand.plan, caller, BudgetKind::Enumeration)?;
    }
    Ok((permit, equal))
}

struct Lookup {
    search: Search,
    caller: Arc<Caller>,
    asked_at: Timestamp,
}

impl Lookup {
    fn key(&self, context: &Context) -> IndexKeyOfValue {
        let index = context.keys.index.current();
        (self.search.field.clone(), index.version, index.value(&self.search.field, &self.search.value))
    }
}

impl Deed for Lookup {
    type Answer = (Vec<FoundToken>, bool);

    fn call(&self) -> Call {
        Call::LookupTokens
    }

    fn changes(&self) -> bool {
        false
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        keys.values.insert(self.key(context));
        keys.deterministic = true;
        spending::reads(context, self.caller.id, BudgetKind::Enumeration, self.asked_at, keys);
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Self::Answer>, VaultError> {
        let (scene, search) = (hand.scene, &self.search);
        let policy = scene.policy()?;
        let about = |entry: Entry| Entry {
            purpose: declared(scene, &search.purpose),
            view: Some("lookup".to_owned()),
            reference: search.reference.as_ref().map(ToString::to_string),
            field: policy.field(&search.field).map(|_| search.field.to_string()),
            ..entry
        };
        // Purpose, caller, view, channel and field are checked before anything of the values: none needs a look at them.
        let asked = least_view(policy, &search.purpose).and_then(|view| {
            let purpose = policy.purpose(&search.purpose).ok_or(Denial::PurposeNotDeclared)?;
            if !purpose.names_caller(hand.caller) {
                return Err(Denial::CallerNotAllowed);
            }
            purpose.allows_outreach(search.outreach.as_ref())?;
            if !purpose.covers(&search.field) {
                return Err(Denial::FieldNotAllowed);
            }
            spending::check(scene, hand.plan, hand.caller, BudgetKind::Enumeration)?;
            Ok(view)
        });
        let view = match asked {
            Ok(view) => view,
            Err(reason) => {
                hand.refuse(reason, about)?;
                return Ok(Deeded::refused(reason));
            }
        };
        let hits = scene.snapshot.values.get(&self.key(scene.context)).map_or(&[][..], Vec::as_slice);
        let (mut found, mut more) = (Vec::new(), false);
        for record in hits.iter().map(|hit| hit.record) {
            if found.len() == MAX_FOUND {
                more = true;
                break;
            }
            if !hand.plan.claim(Claim::Record(record)) {
                return Ok(Deeded::Later);
            }
            if let Some(subject) = find_one(hand, policy, search, view, record, about)? {
                found.push(subject);
            }
        }
        if found.is_empty() {
            if let Err(reason) = spending::spend(scene, hand.plan, hand.caller, BudgetKind::Enumeration) {
                hand.refuse(reason, about)?;
                return Ok(Deeded::refused(reason));
            }
            hand.log(|entry| Entry { count: Some(0), ..about(entry) })?;
        }
        Ok(Deeded::answer((found, more)))
    }
}

/// One subject that holds the value, where the purpose may see it of this subject. Its denial is an entry, and no
/// answer: who is not found and who may not be seen look the same.
fn find_one(
    hand: &mut Hand<'_, '_>,
    policy: &Policy,
    search: &Search,
    view: View,
    record: RecordId,
    about: impl Fn(Entry) -> Entry,
) -> Result<Option<FoundToken>, VaultError> {
    let scene = hand.scene;
    let row = scene.record(record)?;
    let subject = scene.subject(row.address.subject)?;
    let of_subject = |entry: Entry| Entry {
        subject: Some((*subject.id.as_bytes()).into()),
        record: Some((*record.as_bytes()).into()),
        ..about(entry)
    };
    let ask = Ask {
        caller: hand.caller,
        purpose: &search.purpose,
        view,
        recipient: None,
        outreach: search.outreach.as_ref(),
        reference: search.reference.as_ref(),
    };
    let permit = match decide_on(scene, policy, ask, Some((Held::value(row), subject, TokenFacts::NONE))) {
        Ok(permit) => permit,
        Err(reason) => {
            hand.refuse(reason, of_subject)?;
            return Ok(None);
        }
    };
    // An index entry is no proof: the value itself is.
    let key = scene.subject_key(subject)?;
    let equal = key
        .value_equals(&row.address, &row.sealed_value, &search.value)
        .map_err(|e| scene.damaged("records", &e))?;
    if !equal {
        return Ok(None);
    }
    let (token, id, made) = if let Some(hash) = scene.snapshot.deterministic.get(&record) {
        let found = scene.token(hash)?.ok_or(Denial::DataDamaged)?;
        let place = SubjectPlace::token(found.token.platform, subject.id, found.token.id);
        let token =
            key.open_token(&place, &found.token.sealed_token).map_err(|e| scene.damaged("tokens", &e))?;
        (token, found.token.id, None)
    } else {
        let (token, row) = new_token(scene, subject.id, &key, record, TokenMode::Deterministic, None)?;
        (token, row.id, Some(row))
    };
    let consent = permit.consent().map(|id| (*id.as_bytes()).into());
    hand.log_as(Verdict::Permit, |entry| Entry {
        consent,
        token: Some((*id.as_bytes()).into()),
        row_mac: made.as_ref().map(|row| row.mac.into()),
        ..of_subject(entry)
    })?;
    hand.plan.writes.extend(made.map(Write::InsertToken));
    Ok(Some(FoundToken { subject: subject.id, token }))
}
