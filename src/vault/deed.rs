//! The common form of most calls: one caller, one object, one entry. A [`Deed`] authorises, refuses with an entry,
//! answers a retry as before, and records what was done; the use case says only what it reads and does.

use std::sync::Arc;

use super::{
    Refuse, Vault,
    access::Call,
    act::{Act, Asker, Flow, Plan, Reply, Scene, reply},
    context::Context,
    error::VaultError,
    replay::{self, ItemOutcome, Outcome, Standing},
};
use crate::{
    audit::entry::{Entry, Verdict},
    domain::{
        caller::Caller,
        ids::{EntryId, PlatformId},
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
        let entry = fill(self.scene.entry(self.call.as_str(), self.asker, self.caller, verdict)?);
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
        };
        self.submit_to(platform, caller, act)?;
        waiting.answer().await
    }
}

struct DeedAct<D: Deed> {
    deed: D,
    /// As authenticated; what counts is how the caller stands when the deed is decided.
    caller: Caller,
    asker: Asker,
    /// What came of the first time, where this is a retry.
    before: Option<Outcome>,
    answer: Result<D::Answer, VaultError>,
    reply: Reply<D::Answer>,
}

impl<D: Deed> Act for DeedAct<D> {
    fn writes(&self) -> bool {
        self.deed.changes()
    }

    fn tightens(&self) -> bool {
        self.deed.tightens() && self.answer.is_ok()
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_abandoned()
    }

    fn reads(&self, context: &Context, keys: &mut ReadKeys) {
        if self.deed.changes() {
            replay::reads(self.caller.id, &self.asker, keys);
        }
        let before = self.before.as_ref().map(Outcome::item);
        self.deed.reads(context, before.as_ref(), keys);
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        let caller = scene.caller(&self.asker)?;
        let call = self.deed.call();
        let mark = plan.mark();
        let decided = self.decide_as(scene, plan, &caller);
        self.answer = match decided {
            Ok(Some(Ok(answer))) => Ok(answer),
            Ok(Some(Err(told))) => Err(told.into()),
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
        let Self { answer, reply, .. } = *self;
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
    ) -> Result<Option<Result<D::Answer, Denial>>, VaultError> {
        let (call, changes) = (self.deed.call(), self.deed.changes());
        scene.authorise(call, caller)?;
        let standing = if changes {
            replay::standing(scene, plan, caller, call.as_str(), &self.asker)?
        } else {
            Standing::New
        };
        let mut hand = Hand { scene, plan, caller, call, asker: &self.asker, first_entry: None };
        match (standing, &self.before) {
            (Standing::Twin, _) => Ok(None),
            // What the answer is rebuilt from is read first.
            (Standing::Done(outcome, _), None) => {
                self.before = Some(*outcome);
                Ok(None)
            }
            (Standing::Done(..), Some(before)) => {
                let answer = self.deed.again(&hand, &before.item())?;
                let of = before.entry;
                hand.log(|entry| Entry { replay_of: Some(of), ..entry })?;
                Ok(Some(Ok(answer)))
            }
            (Standing::New, _) => match self.deed.act(&mut hand)? {
                Deeded::Later => Ok(None),
                Deeded::Refused(told) => Ok(Some(Err(told))),
                Deeded::Done(Done { answer, outcome }) => {
                    if changes && let Some(entry) = hand.first_entry {
                        let outcome = Outcome::one(entry, outcome);
                        replay::record(scene, hand.plan, caller, call.as_str(), &self.asker, &outcome);
                    }
                    Ok(Some(Ok(answer)))
                }
            },
        }
    }
}
