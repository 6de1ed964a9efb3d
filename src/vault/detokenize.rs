//! Values for tokens, for a declared purpose.

use std::{collections::HashSet, sync::Arc, time::Duration};

use super::{
    Vault,
    access::Call,
    act::{Act, Asker, Claim, Flow, Found, Plan, Reply, Scene, reply},
    context::Context,
    error::VaultError,
    facts::{Held, TokenFacts, decide_on},
    refusals::Refusal,
    release::{SealedRelease, seal},
    replay::{self, ItemOutcome, Outcome, Standing},
    spending,
};
use crate::{
    audit::entry::{Entry, Verdict},
    crypto::digest::token_hash,
    domain::{
        birth::{BirthDate, sex, today_in_kazakhstan},
        caller::Caller,
        field::FieldType,
        ids::{EntryId, TokenRowId},
        names::{FieldName, PurposeName, RecipientName},
        operation::BudgetKind,
        outreach::Outreach,
        reference::Reference,
        secret::Plaintext,
        time::Timestamp,
        token::{AnyToken, MistypedToken, TokenHash, TokenMode, TokenState},
    },
    policy::{
        decide::{Ask, Denial, Permit, disclosed, may_know_of},
        model::{Policy, View},
    },
    store::{ReadKeys, Write, rows::TokenRow},
};

/// How long the answer to a token that answers once may be asked for again.
const ASK_AGAIN: Duration = Duration::from_mins(10);

/// A question for values.
pub struct Detokenize {
    /// Tokens, as far as the texts were tokens.
    pub tokens: Vec<Result<AnyToken, MistypedToken>>,
    /// For what.
    pub purpose: PurposeName,
    /// How much.
    pub view: View,
    /// Of [`View::AgeAtLeast`]: how many years.
    pub age_years: u16,
    /// For whom outside the platform.
    pub recipient: Option<RecipientName>,
    /// By which channel, and in whose name, the person will be reached.
    pub outreach: Option<Outreach>,
    /// Why, in the platform's numbering.
    pub reference: Option<Reference>,
    /// Whether all go out together, sealed to the recipient's key, or none does.
    pub sealed: bool,
    /// The call.
    pub call: Call,
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

/// What came of a question.
#[derive(Default)]
pub(super) struct Answered {
    pub(super) answers: Answers,
    /// All values in one envelope, where that was asked and each is permitted.
    pub(super) release: Option<SealedRelease>,
}

impl Vault {
    /// Answers values for tokens, each decided alone. Nothing is answered before the entries are durable.
    ///
    /// # Errors
    /// [`VaultError`] where the question as a whole cannot be served.
    pub async fn detokenize(
        &self,
        caller: &Arc<Caller>,
        asker: Asker,
        question: Detokenize,
    ) -> Result<Answers, VaultError> {
        self.ask(caller, asker, question).await.map(|answered| answered.answers)
    }

    pub(super) async fn ask(
        &self,
        caller: &Arc<Caller>,
        asker: Asker,
        question: Detokenize,
    ) -> Result<Answered, VaultError> {
        let mistyped = question.tokens.iter().filter(|token| token.is_err()).count();
        self.count_refusals(caller, Refusal::TokenMalformed, u64::try_from(mistyped).unwrap_or(u64::MAX));
        let (reply, waiting) = reply();
        let act = DetokenizeAct {
            asker,
            caller: Arc::clone(caller),
            asked_at: self.shared.clock.now(),
            question,
            answered: Answered::default(),
            spent: Vec::new(),
            reply,
        };
        self.submit(caller, act)?;
        waiting.answer().await
    }
}

/// What a token is found by. One of 12 digits has one hash; which key version it is under, its row says.
pub(super) fn hashes_of(context: &Context, token: &AnyToken) -> impl Iterator<Item = TokenHash> {
    let (bare, digits) = match token {
        AnyToken::Random(token) => (Some(token_hash(token)), None),
        AnyToken::Digits(digits) => (None, Some(digits)),
    };
    let keyed = move |digits| context.keys.index.readable().map(move |key| key.digits_token(digits));
    bare.into_iter().chain(digits.into_iter().flat_map(keyed))
}

struct DetokenizeAct {
    asker: Asker,
    caller: Arc<Caller>,
    asked_at: Timestamp,
    question: Detokenize,
    answered: Answered,
    /// Tokens that this question used up.
    spent: Vec<TokenRowId>,
    reply: Reply<Answered>,
}

impl Act for DetokenizeAct {
    fn weight(&self) -> usize {
        self.question.tokens.len()
    }

    fn writes(&self) -> bool {
        false
    }

    fn tightens(&self) -> bool {
        !self.spent.is_empty()
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_abandoned()
    }

    fn may_know_of(&self, context: &Context, field: &FieldName) -> bool {
        let policy = context.policy(self.asked_at);
        policy.is_some_and(|policy| may_know_of(policy, &self.caller, field))
    }

    fn reads(&self, context: &Context, keys: &mut ReadKeys) {
        let tokens = || self.question.tokens.iter().flatten();
        keys.tokens.extend(tokens().flat_map(|token| hashes_of(context, token)));
        replay::reads(self.caller.id, &self.asker, keys);
        if tokens().any(is_guessable) {
            spending::reads(context, self.caller.id, BudgetKind::Enumeration, self.asked_at, keys);
        }
        spending::reads_values(context, self.caller.id, &self.question.purpose, self.asked_at, keys);
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        let caller = scene.caller(&self.asker)?;
        self.spent.clear();
        self.answered = Answered::default();
        let call = self.question.call;
        let before = match replay::standing(scene, plan, &caller, call.as_str(), &self.asker) {
            Ok(Standing::New) => None,
            Ok(Standing::Twin) => return Ok(Flow::Later),
            Ok(Standing::Done(outcome, at)) => Some((outcome, at)),
            Err(reason) => {
                plan.entries.push(scene.denial(call.as_str(), &self.asker, &caller, reason)?);
                self.answered.answers = self.question.tokens.iter().map(|_| Err(reason.into())).collect();
                return Ok(Flow::Ready);
            }
        };
        let mut asking = Asking {
            scene,
            question: &self.question,
            asker: &self.asker,
            caller: &caller,
            before,
            own: HashSet::new(),
            claimed: HashSet::new(),
            spent: Vec::new(),
            later: false,
        };
        let mut asked = asking.ask_all(plan);
        if asking.later {
            asking.give_back(plan, &asked);
            return Ok(Flow::Later);
        }
        if self.question.sealed && !asked.iter().all(|one| matches!(one, Asked::Opened(_))) {
            asking.give_back(plan, &asked);
            asked.iter_mut().for_each(Asked::withhold);
        }
        let (first, mut answers) = (plan.entries.len(), Vec::with_capacity(asked.len()));
        for one in asked {
            answers.push(asking.record(plan, one)?);
        }
        self.spent = std::mem::take(&mut asking.spent);
        if let (false, Some(first)) = (self.spent.is_empty(), first_entry(&answers)) {
            plan.tightens = true;
            let ids = self.spent.iter().map(|id| (*id.as_bytes()).into()).collect();
            let outcome = Outcome::one(first, ItemOutcome { ids, ..ItemOutcome::default() });
            replay::record(scene, plan, &caller, call.as_str(), &self.asker, &outcome);
        }
        let released: Vec<_> = answers.iter().flatten().collect();
        if self.question.sealed && !released.is_empty() {
            let release = seal(scene, &self.question, &released)?;
            let hash = release.sealed.sha256();
            plan.entries.iter_mut().skip(first).for_each(|entry| entry.detail_sha256 = Some(hash.into()));
            self.answered.release = Some(release);
        }
        self.answered.answers = answers;
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        let Self { answered, reply, .. } = *self;
        reply.send(outcome.map(|()| answered));
    }
}

/// Twelve digits can be guessed; 160 bits cannot.
const fn is_guessable(token: &AnyToken) -> bool {
    matches!(token, AnyToken::Digits(_))
}

fn first_entry(answers: &Answers) -> Option<EntryId> {
    answers.iter().flatten().map(|released| released.entry).next()
}

/// One question on its way through a batch.
struct Asking<'a, 's> {
    scene: &'a Scene<'s>,
    question: &'a Detokenize,
    asker: &'a Asker,
    caller: &'a Arc<Caller>,
    /// What came of it the first time, where this is a retry of a question that used tokens up.
    before: Option<(Box<Outcome>, Timestamp)>,
    /// Tokens that this question uses up already.
    own: HashSet<TokenHash>,
    /// Tokens that this question has claimed of the batch.
    claimed: HashSet<TokenHash>,
    spent: Vec<TokenRowId>,
    /// It met a token that the batch uses up already.
    later: bool,
}

impl<'a> Asking<'a, '_> {
    /// Decides every token, and pays for what may leave.
    fn ask_all(&mut self, plan: &mut Plan) -> Vec<Asked<'a>> {
        let tokens = self.question.tokens.iter();
        tokens
            .map(|token| match token {
                Ok(token) => self.ask_one(plan, token),
                Err(MistypedToken) => Asked::Mistyped,
            })
            .collect()
    }

    fn ask_one(&mut self, plan: &mut Plan, token: &AnyToken) -> Asked<'a> {
        let scene = self.scene;
        let (found, damage) = match scene.token_given(token) {
            Ok(found) => (found, None),
            Err(damage) => (None, Some(damage)),
        };
        let decided = scene.policy().and_then(|policy| match damage {
            Some(damage) => Err(damage),
            None => self.open(plan, policy, token, found),
        });
        // A lost answer that is asked again was paid for.
        let mut pay = |opened: &Opened<'a>| match opened {
            Opened { again: true, .. } => Ok(()),
            _ => spending::spend_value(scene, plan, self.caller, &self.question.purpose),
        };
        match decided.and_then(|opened| pay(&opened).map(|()| opened)) {
            Ok(opened) => Asked::Opened(opened),
            Err(reason) => Asked::Denied(found, reason),
        }
    }

    /// Takes nothing for values that do not leave.
    fn give_back(&self, plan: &mut Plan, asked: &[Asked<'a>]) {
        for one in asked {
            if matches!(one, Asked::Opened(opened) if !opened.again) {
                spending::give_back_value(self.scene, plan, self.caller, &self.question.purpose);
            }
        }
    }

    /// The entry of one token, and what its caller is told.
    fn record(
        &mut self,
        plan: &mut Plan,
        asked: Asked<'a>,
    ) -> Result<Result<Released, VaultError>, VaultError> {
        let (scene, question) = (self.scene, self.question);
        let call = question.call.as_str();
        match asked {
            // Refused before a decision: no entry, so that a flood of typing errors cannot fill the log.
            Asked::Mistyped => Ok(Err(VaultError::MistypedToken)),
            Asked::Opened(opened) => {
                let found = opened.found;
                let replay_of = self.before.as_ref().map(|(outcome, _)| outcome.entry);
                let entry = scene.entry(call, self.asker, self.caller, Verdict::Permit)?;
                let mut entry = Entry {
                    consent: opened.permit.consent().map(|id| (*id.as_bytes()).into()),
                    replay_of: replay_of.filter(|_| opened.again),
                    ..self.about(Some(found), entry)
                };
                if found.token.mode == TokenMode::OneTime && !opened.again {
                    entry.row_mac = Some(self.use_up(plan, found.token).into());
                }
                let released = Released {
                    value: opened.value,
                    field: found.record.address.field.clone(),
                    view: opened.permit.view(),
                    entry: entry.entry_id(),
                };
                plan.entries.push(entry);
                Ok(Ok(released))
            }
            Asked::Denied(found, reason) => {
                plan.entries.push(self.about(found, scene.denial(call, self.asker, self.caller, reason)?));
                let told = scene.policy().map_or(reason, |policy| {
                    disclosed(reason, policy, self.caller, found.map(|f| &f.record.address))
                });
                Ok(Err(told.into()))
            }
        }
    }

    fn about(&self, found: Option<Found<'_>>, entry: Entry) -> Entry {
        let (scene, question) = (self.scene, self.question);
        Entry {
            purpose: declared(scene, &question.purpose),
            view: Some(question.view.as_str().to_owned()),
            reference: question.reference.as_ref().map(ToString::to_string),
            recipient: question
                .recipient
                .as_ref()
                .and_then(|n| scene.recipient(n))
                .map(|r| r.recipient.name.to_string()),
            field: found.map(|f| f.record.address.field.to_string()),
            subject: found.map(|f| (*f.subject.id.as_bytes()).into()),
            record: found.map(|f| (*f.record.address.record.as_bytes()).into()),
            token: found.map(|f| (*f.token.id.as_bytes()).into()),
            ..entry
        }
    }

    /// The decision, and the value where it is a permit.
    fn open(
        &mut self,
        plan: &mut Plan,
        policy: &Policy,
        token: &AnyToken,
        found: Option<Found<'a>>,
    ) -> Result<Opened<'a>, Denial> {
        let (scene, question) = (self.scene, self.question);
        if is_guessable(token) {
            spending::check(scene, plan, self.caller, BudgetKind::Enumeration)?;
            if found.is_none() {
                spending::spend(scene, plan, self.caller, BudgetKind::Enumeration)?;
            }
        }
        let ask = Ask {
            caller: self.caller,
            purpose: &question.purpose,
            view: question.view,
            recipient: scene.recipient_ask(question.recipient.as_ref()),
            outreach: question.outreach.as_ref(),
            reference: question.reference.as_ref(),
        };
        let again = found.is_some_and(|found| self.may_ask_again(found.token));
        let known = found.map(|found| {
            let mut facts = TokenFacts::of(&found);
            if again {
                facts.state = TokenState::Active;
            }
            (Held::value(found.record), found.subject, facts)
        });
        let permit = decide_on(scene, policy, ask, known)?;
        let found = found.ok_or(Denial::TokenNotFound)?;
        if permit.must_seal() && !question.sealed {
            return Err(Denial::SealRequired);
        }
        let key = || scene.recipient(question.recipient.as_ref()?)?.public_key;
        if question.sealed && key().is_none() {
            return Err(Denial::RecipientKeyMissing);
        }
        if found.token.mode == TokenMode::OneTime && !again {
            self.claim(plan, found.token)?;
        }
        let value = view_of(scene, policy, &permit, found, question.age_years)?;
        Ok(Opened { found, permit, value, again })
    }

    /// A token that answers once goes to one question of the batch; others see it spent, or wait to see it so.
    fn claim(&mut self, plan: &mut Plan, token: &TokenRow) -> Result<(), Denial> {
        if self.asker.request.is_none() {
            return Err(Denial::RequestIdRequired);
        }
        if !self.own.insert(token.hash) {
            return Err(Denial::TokenSpent);
        }
        if !self.claimed.contains(&token.hash) {
            if plan.claim(Claim::Token(token.hash)) {
                self.claimed.insert(token.hash);
            } else {
                self.later = true;
            }
        }
        Ok(())
    }

    fn use_up(&mut self, plan: &mut Plan, token: &TokenRow) -> [u8; 32] {
        let mut row = TokenRow { state: TokenState::Spent, ..token.clone() };
        row.mac = self.scene.keys().row.mac(&row.image());
        let mac = row.mac;
        plan.writes.push(Write::UpdateToken(row, token.mac));
        self.spent.push(token.id);
        mac
    }

    /// Whether this question used the token up itself, a short while ago: then its answer was lost. One that was revoked
    /// since has ended for this question too.
    fn may_ask_again(&self, token: &TokenRow) -> bool {
        let spent = token.state == TokenState::Spent;
        self.before.as_ref().filter(|_| spent).is_some_and(|(outcome, at)| {
            at.plus(ASK_AGAIN) >= self.scene.now
                && outcome.item().ids.iter().any(|id| **id == *token.id.as_bytes())
        })
    }
}

/// What came of one token.
enum Asked<'a> {
    /// The text was no token.
    Mistyped,
    /// A value that may leave.
    Opened(Opened<'a>),
    /// Why not, with what was found.
    Denied(Option<Found<'a>>, Denial),
}

impl Asked<'_> {
    /// A sealed batch goes out whole or not at all: then no entry may say that a value left.
    fn withhold(&mut self) {
        if let Self::Opened(opened) = self {
            *self = Self::Denied(Some(opened.found), Denial::BatchIncomplete);
        }
    }
}

struct Opened<'a> {
    found: Found<'a>,
    permit: Permit,
    value: Plaintext,
    /// Whether it was answered before, to the same request.
    again: bool,
}

/// A purpose goes into the log only where the policy declares it: another text might hold anything.
pub(super) fn declared(scene: &Scene<'_>, purpose: &PurposeName) -> Option<String> {
    scene.policy().ok()?.purpose(purpose).map(|_| purpose.to_string())
}

fn view_of(
    scene: &Scene<'_>,
    policy: &Policy,
    permit: &Permit,
    found: Found<'_>,
    age_years: u16,
) -> Result<Plaintext, Denial> {
    let key = scene.subject_key(found.subject)?;
    let value =
        key.open_value(permit, &found.record.sealed_value).map_err(|e| scene.damaged("records", &e))?;
    let field_type = field_type(policy, &found.record.address.field)?;
    let born = || BirthDate::of(field_type, &value).ok_or(Denial::ViewUnavailable);
    Ok(match permit.view() {
        View::Full => value,
        View::Masked => field_type.mask(&value),
        View::BirthDate => born()?.reveal(),
        View::BirthYear => born()?.reveal_year(),
        View::AgeAtLeast => {
            let old_enough = born()?.age_at_least(age_years, today_in_kazakhstan(scene.now));
            Plaintext::new(old_enough.to_string())
        }
        View::Sex => {
            let sex = sex(field_type, &value).ok_or(Denial::ViewUnavailable)?;
            Plaintext::new(sex.as_str().to_owned())
        }
    })
}

pub(super) fn field_type(policy: &Policy, field: &FieldName) -> Result<FieldType, Denial> {
    policy.field(field).map(|f| f.field_type).ok_or(Denial::FieldNotAllowed)
}
