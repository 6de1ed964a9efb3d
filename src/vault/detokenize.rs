//! Values for tokens, for a declared purpose.

use super::{
    Vault,
    act::{Act, Asker, Flow, Found, Plan, Reply, Scene, reply},
    context::Context,
    error::VaultError,
    refusals::Refusal,
};
use crate::{
    audit::entry::{Entry, Verdict},
    crypto::digest::token_hash,
    domain::{
        caller::Caller,
        field::FieldType,
        ids::EntryId,
        names::{FieldName, PurposeName},
        reference::Reference,
        secret::Plaintext,
        token::{MistypedToken, Token, TokenHash},
    },
    policy::{
        decide::{Ask, Denial, Facts, Permit, decide, disclosed},
        model::{Policy, View},
    },
    store::ReadKeys,
};

/// A question for values.
pub struct Detokenize {
    /// Tokens, as far as the texts were tokens.
    pub tokens: Vec<Result<Token, MistypedToken>>,
    /// For what.
    pub purpose: PurposeName,
    /// How much.
    pub view: View,
    /// Why, in the platform's numbering.
    pub reference: Option<Reference>,
    /// The call's name in the log.
    pub call: &'static str,
}

/// A value, released.
pub struct Released {
    /// The value in the view that was asked.
    pub value: Plaintext,
    /// Its field.
    pub field: FieldName,
    /// Its view.
    pub view: View,
    /// The entry that permits it.
    pub entry: EntryId,
}

/// Outcome of each token, in order.
pub type Answers = Vec<Result<Released, VaultError>>;

impl Vault {
    /// Answers values for tokens, each decided alone. Nothing is answered before the entries are durable.
    ///
    /// # Errors
    /// [`VaultError`] where the question as a whole cannot be served.
    pub async fn detokenize(
        &self,
        caller: &Caller,
        asker: Asker,
        question: Detokenize,
    ) -> Result<Answers, VaultError> {
        let hashes: Vec<_> = question.tokens.iter().map(|t| t.as_ref().ok().map(token_hash)).collect();
        let mistyped = hashes.iter().filter(|hash| hash.is_none()).count();
        self.count_refusals(caller, Refusal::TokenMalformed, u64::try_from(mistyped).unwrap_or(u64::MAX));
        let (reply, waiting) = reply();
        let act = DetokenizeAct { asker, question, hashes, answers: Vec::new(), reply };
        self.submit(caller, act)?;
        waiting.answer().await
    }
}

struct DetokenizeAct {
    asker: Asker,
    question: Detokenize,
    hashes: Vec<Option<TokenHash>>,
    answers: Answers,
    reply: Reply<Answers>,
}

impl Act for DetokenizeAct {
    fn weight(&self) -> usize {
        self.hashes.len()
    }

    fn writes(&self) -> bool {
        false
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_abandoned()
    }

    fn reads(&self, _context: &Context, keys: &mut ReadKeys) {
        keys.tokens.extend(self.hashes.iter().flatten());
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        let caller = scene.caller(&self.asker)?;
        self.answers = Vec::with_capacity(self.hashes.len());
        for hash in &self.hashes {
            let answer = match hash {
                Some(hash) => self.decide_one(scene, plan, &caller, hash)?,
                // Refused before a decision: no entry, so that a flood of typing errors cannot fill the log.
                None => Err(VaultError::MistypedToken),
            };
            self.answers.push(answer);
        }
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        let Self { answers, reply, .. } = *self;
        reply.send(outcome.map(|()| answers));
    }
}

impl DetokenizeAct {
    fn decide_one(
        &self,
        scene: &Scene<'_>,
        plan: &mut Plan,
        caller: &Caller,
        hash: &TokenHash,
    ) -> Result<Result<Released, VaultError>, VaultError> {
        let (found, damage) = match scene.token(hash) {
            Ok(found) => (found, None),
            Err(damage) => (None, Some(damage)),
        };
        let decided = scene.policy().and_then(|policy| {
            if let Some(damage) = damage {
                return Err(damage);
            }
            let permit = self.permit(scene, policy, caller, found)?;
            let value = open(scene, policy, &permit, found)?;
            Ok((permit, value))
        });
        let question = &self.question;
        let about = |entry: Entry| Entry {
            purpose: self.declared_purpose(scene),
            view: Some(question.view.as_str().to_owned()),
            reference: question.reference.as_ref().map(ToString::to_string),
            field: found.map(|f| f.record.address.field.to_string()),
            subject: found.map(|f| (*f.subject.id.as_bytes()).into()),
            record: found.map(|f| (*f.record.address.record.as_bytes()).into()),
            token: found.map(|f| (*f.token.id.as_bytes()).into()),
            ..entry
        };
        match (decided, found) {
            (Ok((permit, value)), Some(found)) => {
                let entry = Entry {
                    consent: permit.consent().map(|id| (*id.as_bytes()).into()),
                    ..about(scene.entry(question.call, &self.asker, caller, Verdict::Permit)?)
                };
                let released = Released {
                    value,
                    field: found.record.address.field.clone(),
                    view: permit.view(),
                    entry: entry.entry_id(),
                };
                plan.entries.push(entry);
                Ok(Ok(released))
            }
            (decided, found) => {
                let reason = decided.err().unwrap_or(Denial::TokenNotFound);
                plan.entries.push(about(scene.denial(question.call, &self.asker, caller, reason)?));
                let told = scene.policy().map_or(reason, |policy| {
                    disclosed(reason, policy, caller, found.map(|f| &f.record.address))
                });
                Ok(Err(told.into()))
            }
        }
    }

    fn permit(
        &self,
        scene: &Scene<'_>,
        policy: &Policy,
        caller: &Caller,
        found: Option<Found<'_>>,
    ) -> Result<Permit, Denial> {
        let ask = Ask {
            caller,
            purpose: &self.question.purpose,
            view: self.question.view,
            recipient: None,
            reference: self.question.reference.as_ref(),
        };
        let Some(found) = found else { return decide(policy, ask, None, scene.now) };
        let consents = scene.consents_of(found.subject.id)?;
        let facts = Facts {
            token: found.token.state,
            token_expires_at: None,
            subject: found.subject.state,
            quarantined: false,
            address: &found.record.address,
            consents: &consents,
            events: &[],
        };
        decide(policy, ask, Some(facts), scene.now)
    }

    /// A purpose goes into the log only where the policy declares it: another text might hold anything.
    fn declared_purpose(&self, scene: &Scene<'_>) -> Option<String> {
        let purpose = &self.question.purpose;
        scene.policy().ok()?.purpose(purpose).map(|_| purpose.to_string())
    }
}

fn open(
    scene: &Scene<'_>,
    policy: &Policy,
    permit: &Permit,
    found: Option<Found<'_>>,
) -> Result<Plaintext, Denial> {
    let found = found.ok_or(Denial::TokenNotFound)?;
    let key = scene.subject_key(found.subject)?;
    let value =
        key.open_value(permit, &found.record.sealed_value).map_err(|e| scene.damaged("records", &e))?;
    Ok(match permit.view() {
        View::Full => value,
        View::Masked => field_type(policy, &found.record.address.field)?.mask(&value),
        View::AgeAtLeast | View::BirthDate | View::BirthYear | View::Sex => {
            return Err(Denial::ViewNotAllowed);
        }
    })
}

fn field_type(policy: &Policy, field: &FieldName) -> Result<FieldType, Denial> {
    policy.field(field).map(|f| f.field_type).ok_or(Denial::FieldNotAllowed)
}
