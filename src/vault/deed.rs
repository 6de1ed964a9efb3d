//! The common form of most calls: one caller, one object, one entry. A [`Deed`] authorises, refuses with an entry,
//! answers a retry as before, and records what was done; the use case says only what it reads and does. Where two people are needed, what a deed
//! would have written is thrown away, and a proposal written instead.

use std::{sync::Arc, time::Duration};

use super::{
    Refuse, Vault,
    access::Call,
    act::{Act, Asker, Flow, Plan, Reply, Scene, reply},
    context::Context,
    error::VaultError,
    proposals::{ProposalView, propose},
    replay::{self, ItemOutcome, Outcome, Standing},
};
use crate::{
    audit::entry::{Entry, Verdict},
    domain::{
        caller::{Caller, Governance},
        ids::{EntryId, PlatformId, ProposalId},
    },
    policy::decide::Denial,
    store::ReadKeys,
};

/// What a deed came to.
pub(super) struct Done<T> {
    /// The answer.
    pub(super) answer: T,
    /// What a retry is answered from; not used by questions.
    pub(super) outcome: ItemOutcome,
}

/// A use case in the common form.
pub(super) trait Deed: Send + Sync + 'static {
    /// The answer.
    type Answer: Send + Sync;

    /// The call.
    fn call(&self) -> Call;

    /// Whether it changes rows; questions do not.
    fn changes(&self) -> bool;

    /// Whether what it does can turn a permit into a denial: then it is answered when it is in the mirror.
    fn tightens(&self) -> bool {
        false
    }

    /// Whether what it just did needs two people. Asked after [`Deed::act`], and only where that wrote something.
    fn needs_two(&self) -> bool {
        self.call().needs_two()
    }

    /// Whether this person, who has the role and did not propose it, may approve it.
    ///
    /// # Errors
    /// The refusal; the proposal stays open.
    fn may_approve(&self, _approver: &Caller) -> Result<(), Denial> {
        Ok(())
    }

    /// Adds what it needs to see; of a retry, with what came of the first time.
    fn reads(&self, _context: &Context, _before: Option<&ItemOutcome>, _keys: &mut ReadKeys) {}

    /// Decides. Adds its writes to the plan, and its entry with [`Hand::log`].
    ///
    /// # Errors
    /// [`VaultError::Denied`] becomes an entry by itself.
    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Self::Answer>, VaultError>;

    /// The answer to a retry. Questions are asked again instead.
    ///
    /// # Errors
    /// [`VaultError`].
    fn again(&self, _hand: &Hand<'_, '_>, _before: &ItemOutcome) -> Result<Self::Answer, VaultError> {
        Err(VaultError::Unavailable)
    }
}

/// How a deed went in this batch.
pub(super) enum Deeded<T> {
    /// Done.
    Done(Done<T>),
    /// Refused, with its entry written: what the caller is told may be less than what the log says.
    Refused(Denial),
    /// It touches a row that the batch writes already: next batch.
    Later,
}

impl<T> Deeded<T> {
    /// A question's answer.
    pub(super) fn answer(answer: T) -> Self {
        Self::changed(answer, ItemOutcome::default())
    }

    /// The same with another answer.
    pub(super) fn with<U>(self, answer: U) -> Deeded<U> {
        match self {
            Self::Done(done) => Deeded::changed(answer, done.outcome),
            Self::Refused(told) => Deeded::Refused(told),
            Self::Later => Deeded::Later,
        }
    }

    /// A refusal whose entry is in the plan.
    pub(super) const fn refused(told: Denial) -> Self {
        Self::Refused(told)
    }

    /// A change's answer, with what a retry is answered from.
    pub(super) const fn changed(answer: T, outcome: ItemOutcome) -> Self {
        Self::Done(Done { answer, outcome })
    }
}

/// What a deed works with.
pub(super) struct Hand<'a, 's> {
    pub(super) scene: &'a Scene<'s>,
    pub(super) plan: &'a mut Plan,
    pub(super) caller: &'a Arc<Caller>,
    pub(super) asker: &'a Asker,
    call: Call,
    first_entry: Option<EntryId>,
    /// How many people a dangerous act needs.
    pub(super) governance: Governance,
    /// How long a proposal can be approved.
    proposal_time: Duration,
}

impl<'a, 's> Hand<'a, 's> {
    pub(super) fn new(
        scene: &'a Scene<'s>,
        plan: &'a mut Plan,
        caller: &'a Arc<Caller>,
        asker: &'a Asker,
        call: Call,
    ) -> Self {
        Self {
            scene,
            plan,
            caller,
            call,
            asker,
            first_entry: None,
            governance: Governance::SingleOfficer,
            proposal_time: Duration::ZERO,
        }
    }

    /// The call.
    pub(super) const fn call(&self) -> Call {
        self.call
    }

    /// How long it may be until this is done: a proposal waits for its second person.
    pub(super) fn may_wait(&self) -> Duration {
        let proposed =
            self.governance == Governance::TwoPerson && self.call.needs_two() && !self.is_approved();
        if proposed { self.proposal_time } else { Duration::ZERO }
    }

    /// Whether two people have agreed to it.
    pub(super) fn is_approved(&self) -> bool {
        self.asker.approval().is_some()
    }
}

impl Hand<'_, '_> {
    /// Adds an entry of this call, with what `fill` says of it.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] without randomness.
    pub(super) fn log(&mut self, fill: impl FnOnce(Entry) -> Entry) -> Result<EntryId, VaultError> {
        self.log_as(Verdict::Done, fill)
    }

    /// Adds the entry of a refusal.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] without randomness.
    pub(super) fn refuse(
        &mut self,
        reason: Denial,
        fill: impl FnOnce(Entry) -> Entry,
    ) -> Result<(), VaultError> {
        let entry = self.scene.denial(self.call.as_str(), self.asker, self.caller, reason)?;
        self.plan.entries.push(fill(entry));
        Ok(())
    }

    /// The same as [`Hand::log`] with another verdict.
    pub(super) fn log_as(
        &mut self,
        verdict: Verdict,
        fill: impl FnOnce(Entry) -> Entry,
    ) -> Result<EntryId, VaultError> {
        let mut entry = fill(self.scene.entry(self.call.as_str(), self.asker, self.caller, verdict)?);
        entry.proposal = self.asker.approval().map(|approval| (*approval.proposal.as_bytes()).into());
        let id = entry.entry_id();
        self.first_entry.get_or_insert(id);
        self.plan.entries.push(entry);
        Ok(id)
    }
}

impl Vault {
    /// Runs a deed in a platform's lane. A platform's caller acts on its own alone, and is refused there.
    pub(super) async fn run<D: Deed>(
        &self,
        platform: PlatformId,
        caller: &Caller,
        asker: Asker,
        deed: D,
    ) -> Result<D::Answer, VaultError> {
        // An approval is decided where its proposal lies, whatever its request names by now.
        let platform = asker.approval().map_or(platform, |approval| approval.platform);
        if platform != caller.platform && caller.platform != PlatformId::VAULT {
            let reason = Denial::CallerNotAllowed;
            self.run_in(caller.platform, caller, asker, Refuse { call: deed.call(), reason }).await?;
            return Err(reason.into());
        }
        self.run_in(platform, caller, asker, deed).await
    }

    async fn run_in<D: Deed>(
        &self,
        platform: PlatformId,
        caller: &Caller,
        asker: Asker,
        deed: D,
    ) -> Result<D::Answer, VaultError> {
        let (reply, waiting) = reply();
        let act = DeedAct {
            deed,
            caller: caller.clone(),
            asker,
            before: None,
            answer: Err(VaultError::Unavailable),
            reply,
            governance: self.settings.governance,
            proposal_time: self.settings.proposal_time,
            ended: None,
        };
        self.submit_to(platform, caller, act)?;
        waiting.answer().await
    }
}

pub(super) struct DeedAct<D: Deed> {
    pub(super) deed: D,
    /// As authenticated; what counts is how the caller stands when the deed is decided.
    caller: Caller,
    pub(super) asker: Asker,
    /// What came of the first time, where this is a retry.
    before: Option<Outcome>,
    pub(super) answer: Result<D::Answer, VaultError>,
    reply: Reply<D::Answer>,
    governance: Governance,
    proposal_time: Duration,
    /// How the proposal stands that this approves.
    pub(super) ended: Option<ProposalView>,
}

impl<D: Deed> Act for DeedAct<D> {
    fn writes(&self) -> bool {
        self.deed.changes() || self.asker.approval().is_some()
    }

    fn tightens(&self) -> bool {
        self.deed.tightens() && self.answer.is_ok()
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_abandoned()
    }

    fn reads(&self, context: &Context, keys: &mut ReadKeys) {
        match self.asker.approval() {
            Some(approval) => {
                keys.proposals.insert(approval.proposal);
                replay::reads(approval.approver, &self.asker, keys);
            }
            None if self.deed.changes() => replay::reads(self.caller.id, &self.asker, keys),
            None => {}
        }
        let proposal = self.before.as_ref().and_then(|before| before.item().proposal);
        keys.proposals.extend(proposal.map(|id| ProposalId::from_bytes(*id)));
        let before = self.before.as_ref().map(Outcome::item);
        self.deed.reads(context, before.as_ref(), keys);
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        if let Some(approval) = self.asker.approval().cloned() {
            return self.decide_approval(&approval, scene, plan);
        }
        let caller = scene.caller(&self.asker)?;
        let call = self.deed.call();
        scene.second_factor(call, &caller, &self.asker.key)?;
        let mark = plan.mark();
        let decided = self.decide_as(scene, plan, &caller);
        self.answer = match decided {
            Ok(Some(Ok(answer))) => Ok(answer),
            Ok(Some(Err(told))) => Err(told),
            Ok(None) => return Ok(Flow::Later),
            Err(VaultError::Denied(reason)) => {
                plan.undo_to(mark);
                plan.entries.push(scene.denial(call.as_str(), &self.asker, &caller, reason)?);
                Err(reason.into())
            }
            Err(other) => {
                plan.undo_to(mark);
                Err(other)
            }
        };
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        let Self { answer, reply, asker, ended, .. } = *self;
        if let (Ok(()), Some(ended), Some(approval)) = (&outcome, ended, asker.approval()) {
            approval.tell(ended);
        }
        reply.send(outcome.and(answer));
    }
}

impl<D: Deed> DeedAct<D> {
    /// The answer; none where the deed must wait for the next batch.
    fn decide_as(
        &mut self,
        scene: &Scene<'_>,
        plan: &mut Plan,
        caller: &Arc<Caller>,
    ) -> Result<Option<Result<D::Answer, VaultError>>, VaultError> {
        let (call, changes) = (self.deed.call(), self.deed.changes());
        scene.authorise(call, caller)?;
        let standing = if changes {
            replay::standing(scene, plan, caller, call.as_str(), &self.asker)?
        } else {
            Standing::New
        };
        let mut hand = Hand::new(scene, plan, caller, &self.asker, call);
        (hand.governance, hand.proposal_time) = (self.governance, self.proposal_time);
        match (standing, &self.before) {
            (Standing::Twin, _) => Ok(None),
            // What the answer is rebuilt from is read first.
            (Standing::Done(outcome, _), None) => {
                self.before = Some(*outcome);
                Ok(None)
            }
            (Standing::Done(..), Some(before)) => {
                let (of, item) = (before.entry, before.item());
                let answer = match item.proposal {
                    Some(id) => {
                        let row = scene.proposal(ProposalId::from_bytes(*id))?;
                        Err(VaultError::Proposed(Box::new(ProposalView::of(row, scene.now)?)))
                    }
                    None => Ok(self.deed.again(&hand, &item)?),
                };
                hand.log(|entry| Entry { replay_of: Some(of), ..entry })?;
                Ok(Some(answer))
            }
            (Standing::New, _) => {
                let mark = hand.plan.mark();
                let (answer, outcome) = match self.deed.act(&mut hand)? {
                    Deeded::Later => return Ok(None),
                    Deeded::Refused(told) => return Ok(Some(Err(told.into()))),
                    Deeded::Done(Done { answer, outcome }) => (answer, outcome),
                };
                let one_is_enough = self.governance == Governance::SingleOfficer && !call.always_needs_two();
                let alone = one_is_enough || !self.deed.needs_two() || !hand.plan.writes_since(mark);
                let (answer, outcome) = if alone {
                    (Ok(answer), outcome)
                } else {
                    // It could be done: the next to look at it is another person.
                    hand.plan.undo_to(mark);
                    hand.first_entry = None;
                    let (view, outcome) = propose(&mut hand, self.proposal_time)?;
                    (Err(VaultError::Proposed(Box::new(view))), outcome)
                };
                if changes && let Some(entry) = hand.first_entry {
                    let outcome = Outcome::one(entry, outcome);
                    replay::record(scene, hand.plan, caller, call.as_str(), &self.asker, &outcome);
                }
                Ok(Some(answer))
            }
        }
    }
}
