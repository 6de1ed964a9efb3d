//! Why a decision is as it is: decided on the facts as they stand, by the policy in force, for a caller that is named.
//! Nothing is opened, released or spent.

use super::{
    Vault,
    access::Call,
    act::{Asker, Scene},
    consent::reference_keys,
    context::Context,
    deed::{Deed, Deeded, Hand},
    detokenize::hashes_of,
    error::VaultError,
    facts::{Held, TokenFacts, decide_on},
    replay::ItemOutcome,
};
use crate::{
    audit::entry::Entry,
    domain::{
        caller::{Caller, CallerState},
        ids::{ConsentId, SubjectId},
        names::{CallerName, FieldName, PurposeName, RecipientName},
        outreach::Outreach,
        reference::Reference,
        token::AnyToken,
    },
    policy::{
        decide::{Ask, Denial},
        explain::{Clause, explain},
        model::View,
    },
    store::{
        ReadKeys,
        rows::{RecordRow, SubjectRow, TokenRow},
    },
};

/// A decision that somebody asks about.
pub struct Question {
    /// The value.
    pub target: Target,
    /// Purpose.
    pub purpose: PurposeName,
    /// Who would ask; the one who asks now, where none is named.
    pub caller: Option<CallerName>,
    /// View.
    pub view: View,
    /// To whom it would go.
    pub recipient: Option<RecipientName>,
    /// By which channel, and in whose name, the person would be reached.
    pub outreach: Option<Outreach>,
    /// The law, demand or case behind it.
    pub reference: Option<Reference>,
}

/// A value that a question is about.
pub enum Target {
    /// The one behind a token.
    Token(AnyToken),
    /// The one in a field of a subject, as if it were asked for with a good token.
    Field(SubjectBy, FieldName),
}

/// A subject by one of its names.
pub enum SubjectBy {
    /// The platform's own.
    Reference(String),
    /// The vault's.
    Id(SubjectId),
}

/// A decision with what is behind it.
#[derive(Debug)]
pub struct Explained {
    /// The consent that a permit would stand on, where it needs one; or the true reason of the denial.
    pub decision: Result<Option<ConsentId>, Denial>,
    /// Clauses from the purpose to what decided.
    pub clauses: Vec<Clause>,
    /// Version of the policy that would decide.
    pub policy_version: u32,
}

impl Vault {
    /// Says what Detokenize would decide now, and why.
    ///
    /// # Errors
    /// [`VaultError`]. A denial of the read that is asked about is an answer.
    pub async fn explain_decision(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        question: Question,
    ) -> Result<Explained, VaultError> {
        let platform = self.target(caller, &asker, Call::ExplainDecision, platform).await?;
        self.run(platform, caller, asker, Explain(question)).await
    }
}

/// The rows behind a target.
#[derive(Clone, Copy)]
struct Behind<'a> {
    token: Option<&'a TokenRow>,
    record: &'a RecordRow,
    subject: &'a SubjectRow,
}

struct Explain(Question);

impl Explain {
    fn behind<'a>(&self, scene: &'a Scene<'_>) -> Result<Option<Behind<'a>>, Denial> {
        match &self.0.target {
            Target::Token(token) => {
                let found = scene.token_given(token)?;
                Ok(found.map(|f| Behind { token: Some(f.token), record: f.record, subject: f.subject }))
            }
            Target::Field(by, field) => {
                let subject = match by {
                    SubjectBy::Reference(reference) => scene.subject_by_reference(reference)?,
                    SubjectBy::Id(id) if scene.snapshot.subjects.contains_key(id) => {
                        Some(scene.subject(*id)?)
                    }
                    SubjectBy::Id(_) => None,
                };
                let subject = subject.ok_or(Denial::SubjectNotFound)?;
                let records = scene.records_of(subject.id)?;
                let record = records.into_iter().find(|record| record.address.field == *field);
                Ok(record.map(|record| Behind { token: None, record, subject }))
            }
        }
    }

    /// The caller who would ask.
    fn asking<'a>(&self, hand: &'a Hand<'_, '_>) -> Result<&'a Caller, Denial> {
        let Some(name) = &self.0.caller else { return Ok(hand.caller) };
        let mut named: Vec<_> =
            hand.scene.context.callers().map(|row| &row.caller).filter(|c| c.name == *name).collect();
        named.sort_by_key(|caller| caller.state != CallerState::Enabled);
        named.first().copied().ok_or(Denial::CallerNotFound)
    }
}

impl Deed for Explain {
    type Answer = Explained;

    fn call(&self) -> Call {
        Call::ExplainDecision
    }

    fn changes(&self) -> bool {
        false
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        match &self.0.target {
            Target::Token(token) => {
                keys.tokens.extend(hashes_of(context, token));
            }
            Target::Field(SubjectBy::Reference(reference), _) => {
                keys.references.extend(reference_keys(context, reference));
            }
            Target::Field(SubjectBy::Id(id), _) => {
                keys.subjects.insert(*id);
            }
        }
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Explained>, VaultError> {
        let (scene, question) = (hand.scene, &self.0);
        let policy = scene.context.policy(scene.now).ok_or(Denial::PolicyNotFound)?;
        let behind = self.behind(scene)?;
        let ask = Ask {
            caller: self.asking(hand)?,
            purpose: &question.purpose,
            view: question.view,
            recipient: scene.recipient_ask(question.recipient.as_ref()),
            outreach: question.outreach.as_ref(),
            reference: question.reference.as_ref(),
        };
        let known = behind.map(|b| {
            let token = b.token.map_or(TokenFacts::NONE, |token| TokenFacts {
                state: token.state,
                expires_at: token.expires_at,
            });
            (Held::value(b.record), b.subject, token)
        });
        let decided = decide_on(scene, policy, ask, known);
        let decision = decided.map(|permit| permit.consent());
        let field = match (&question.target, behind) {
            (_, Some(behind)) => Some(&behind.record.address.field),
            (Target::Field(_, field), None) => Some(field),
            (Target::Token(_), None) => None,
        };
        // A token that never was is of no field, so no clause speaks of it.
        let clauses =
            field.map(|field| explain(policy, &question.purpose, field, decision.map(drop)).clauses);
        let purpose = policy.purpose(&question.purpose).map(|_| question.purpose.to_string());
        let (consent, policy_version) = (decision.ok().flatten(), policy.version);
        hand.log(|entry| Entry {
            purpose,
            view: Some(question.view.as_str().to_owned()),
            reference: question.reference.as_ref().map(ToString::to_string),
            field: behind.map(|b| b.record.address.field.to_string()),
            subject: behind.map(|b| (*b.subject.id.as_bytes()).into()),
            record: behind.map(|b| (*b.record.address.record.as_bytes()).into()),
            token: behind.and_then(|b| b.token).map(|token| (*token.id.as_bytes()).into()),
            consent: consent.map(|id| (*id.as_bytes()).into()),
            ..entry
        })?;
        Ok(Deeded::answer(Explained { decision, clauses: clauses.unwrap_or_default(), policy_version }))
    }
}
