//! Approvals: what one person proposed, another lets happen. The checks, the end of the proposal and the act itself are
//! one decision in the platform's lane, and one commit.

use std::sync::{Arc, OnceLock};

use super::{
    Refuse, Vault,
    access::Call,
    act::{Asker, Claim, Flow, Mark, Plan, Scene},
    deed::{Deed, DeedAct, Deeded, Done, Hand},
    error::{VaultError, unreadable},
    proposals::{PlanBytes, ProposalView, about, call_of, ended, is_open},
    replay::{self, ItemOutcome, Outcome, Part, Standing},
};
use crate::{
    audit::entry::{Entry, Verdict},
    domain::{
        caller::Caller,
        ids::{CallerId, PlatformId, ProposalId},
        proposal::ProposalState,
    },
    policy::decide::Denial,
    store::{ReadKeys, Write, rows::work::ProposalRow},
};

/// An approval on its way through the lane of the proposal's platform.
#[derive(Debug)]
pub struct Approval {
    pub(super) proposal: ProposalId,
    pub(super) platform: PlatformId,
    /// The certificate of who approves.
    pub(super) approver: CallerId,
    /// The plan as the approver names it.
    sent: [u8; 32],
    /// The plan that was opened to be run.
    opened: [u8; 32],
    /// How the proposal stands, once that is durable.
    outcome: OnceLock<ProposalView>,
}

impl Approval {
    /// Tells how the proposal stands.
    pub(super) fn tell(&self, view: ProposalView) {
        // An approval runs once.
        let _told = self.outcome.set(view);
    }
}

/// An approval before it is run.
pub enum Approving {
    /// The request is to be run as it was sent, by this caller and asker.
    Run(Box<ToRun>),
    /// The same approval came before: this is how the proposal stands.
    Before(Box<ProposalView>),
}

/// A proposed request, to be run by the same way that it came.
pub struct ToRun {
    /// The call.
    pub call: Call,
    /// The request.
    pub plan: PlanBytes,
    /// Who proposed it.
    pub proposer: Arc<Caller>,
    /// Who approves, with the approval.
    pub asker: Asker,
}

impl ToRun {
    /// Whether the lane has decided on an approval.
    #[must_use]
    pub fn is_decided(asker: &Asker) -> bool {
        asker.approval().is_some_and(|approval| approval.outcome.get().is_some())
    }

    /// How the proposal stands, after its call answered `done`; the call's own error where it was not run.
    ///
    /// # Errors
    /// [`VaultError`].
    pub fn outcome(asker: &Asker, done: Result<(), VaultError>) -> Result<ProposalView, VaultError> {
        match asker.approval().and_then(|approval| approval.outcome.get()) {
            Some(view) => Ok(view.clone()),
            None => Err(done.err().unwrap_or(VaultError::Unavailable)),
        }
    }
}

impl Vault {
    /// Opens a proposal for its approval. Whether it may be approved is decided where it is run.
    ///
    /// # Errors
    /// [`VaultError`] where it cannot be run at all.
    pub async fn approve_proposal(
        &self,
        caller: &Caller,
        asker: Asker,
        id: ProposalId,
        sent: [u8; 32],
    ) -> Result<Approving, VaultError> {
        let platform = self.place_of_proposal(caller, &asker, Call::ApproveProposal, id).await?;
        let keys = ReadKeys { proposals: [id].into(), ..ReadKeys::default() };
        let mut snapshot = self.shared.store.read(platform, &keys).await.map_err(unreadable)?;
        let row = snapshot.proposals.remove(&id).and_then(Result::ok);
        let (context, staff) = (self.context(platform)?, self.shared.staff.load_full());
        let opened = row.as_ref().and_then(|row| {
            let sealed = row.sealed.as_ref()?;
            let plan = context.keys.open_plan(row.id, &sealed.wrapped_key, &sealed.request).ok()?;
            let proposer = staff.callers().find(|known| known.caller.id == row.proposer_caller)?;
            let proposer = staff.caller(&proposer.caller.spiffe_id)?;
            Some((call_of(row).ok()?, PlanBytes::new(plan), proposer))
        });
        let hash = opened.as_ref().map_or([0; 32], |(call, plan, _)| plan.sha256(*call));
        let approval = Arc::new(Approval {
            proposal: id,
            platform,
            approver: caller.id,
            sent,
            opened: hash,
            outcome: OnceLock::new(),
        });
        let request = asker.request.map(|asked| replay::Asked { part: Part::Approval(approval), ..asked });
        let asker = Asker { request, ..asker };
        if asker.approval().is_none() {
            return Err(VaultError::invalid("request_id", "is required"));
        }
        if let Some((call, plan, proposer)) = opened {
            return Ok(Approving::Run(Box::new(ToRun { call, plan, proposer, asker })));
        }
        // One that ended, or that cannot be read: the lane says which.
        let call = row.as_ref().and_then(|row| call_of(row).ok()).unwrap_or(Call::ApproveProposal);
        let refuse = Refuse { call, reason: Denial::DataDamaged };
        let done = self.run(platform, caller, asker.clone(), refuse).await;
        ToRun::outcome(&asker, done).map(|view| Approving::Before(Box::new(view)))
    }

    /// Ends a proposal as failed whose request breaks a rule by now, or is none that this release knows; by the same
    /// checks as if it were carried out.
    ///
    /// # Errors
    /// `why`, and [`VaultError`] where it may not be approved.
    pub async fn void_proposal(
        &self,
        call: Call,
        proposer: &Caller,
        asker: Asker,
        why: VaultError,
    ) -> Result<(), VaultError> {
        self.run(PlatformId::VAULT, proposer, asker, Void { call, why }).await
    }
}

/// A request that cannot be carried out.
struct Void {
    call: Call,
    why: VaultError,
}

impl Deed for Void {
    type Answer = ();

    fn call(&self) -> Call {
        self.call
    }

    fn changes(&self) -> bool {
        true
    }

    fn act(&mut self, _hand: &mut Hand<'_, '_>) -> Result<Deeded<()>, VaultError> {
        Err(self.why.clone())
    }
}

impl<D: Deed> DeedAct<D> {
    /// Decides on an approval, and where it holds on the act as its proposer's.
    pub(super) fn decide_approval(
        &mut self,
        approval: &Approval,
        scene: &Scene<'_>,
        plan: &mut Plan,
    ) -> Result<Flow, VaultError> {
        let approver = scene.caller(&self.asker)?;
        scene.second_factor(self.deed.call(), &approver, &self.asker.key)?;
        let mark = plan.mark();
        self.ended = None;
        match self.approve(approval, &approver, scene, plan) {
            Ok(flow) => return Ok(flow),
            Err(VaultError::Denied(reason)) => {
                plan.undo_to(mark);
                let entry = scene.denial(CALL.as_str(), &self.asker, &approver, reason)?;
                plan.entries.push(Entry {
                    object_kind: Some("proposal".to_owned()),
                    object: Some(approval.proposal.as_bytes().to_vec()),
                    ..entry
                });
                self.answer = Err(reason.into());
            }
            Err(other) => {
                plan.undo_to(mark);
                self.answer = Err(other);
            }
        }
        Ok(Flow::Ready)
    }

    fn approve(
        &mut self,
        approval: &Approval,
        approver: &Arc<Caller>,
        scene: &Scene<'_>,
        plan: &mut Plan,
    ) -> Result<Flow, VaultError> {
        scene.authorise(CALL, approver)?;
        match replay::standing(scene, plan, approver, CALL.as_str(), &self.asker)? {
            Standing::New => {}
            Standing::Twin => return Ok(Flow::Later),
            Standing::Done(before, _) => {
                let row = scene.proposal(approval.proposal)?;
                let entry = scene.entry(CALL.as_str(), &self.asker, approver, Verdict::Done)?;
                plan.entries.push(Entry {
                    replay_of: Some(before.entry),
                    row_mac: None,
                    ..about(row, entry)
                });
                self.ended = Some(ProposalView::of(row, scene.now)?);
                return Ok(Flow::Ready);
            }
        }
        let row = scene.proposal(approval.proposal)?;
        let proposer = check(approval, self.deed.call(), approver, scene, row)?;
        self.deed.may_approve(approver)?;
        if !plan.claim(Claim::Proposal(row.id)) {
            return Ok(Flow::Later);
        }
        let mark = plan.mark();
        let mut hand = Hand::new(scene, plan, &proposer, &self.asker, self.deed.call());
        let failed = match self.deed.act(&mut hand) {
            Ok(Deeded::Later) => return Ok(Flow::Later),
            Ok(Deeded::Done(Done { answer, .. })) => {
                self.answer = Ok(answer);
                // A plan that has become void is not done, and nobody should believe that it was.
                (!plan.writes_since(mark)).then(|| NO_EFFECT.to_owned())
            }
            // What cannot be judged now may be judged later.
            Err(VaultError::Denied(Denial::DataDamaged)) => return Err(Denial::DataDamaged.into()),
            Ok(Deeded::Refused(reason)) | Err(VaultError::Denied(reason)) => {
                Some(self.fail(reason.into(), reason.as_str()))
            }
            Err(error @ VaultError::Invalid(_)) => Some(self.fail(error, INVALID)),
            Err(other) => return Err(other),
        };
        if failed.is_some() {
            plan.undo_to(mark);
        }
        self.end(approver, scene, plan, (row, mark), failed)?;
        Ok(Flow::Ready)
    }

    fn fail(&mut self, error: VaultError, reason: &str) -> String {
        self.answer = Err(error);
        reason.to_owned()
    }

    /// Ends the proposal, with the approver's entry before those of the act.
    fn end(
        &mut self,
        approver: &Caller,
        scene: &Scene<'_>,
        plan: &mut Plan,
        (row, mark): (&ProposalRow, Mark),
        failed: Option<String>,
    ) -> Result<(), VaultError> {
        let by = approver.person.ok_or(Denial::PersonRequired)?;
        let (state, verdict) = match failed {
            None => (ProposalState::Approved, Verdict::Done),
            Some(_) => (ProposalState::Failed, Verdict::Deny),
        };
        let next = ended(scene, row, state, Some(by), failed.clone());
        let entry = scene.entry(CALL.as_str(), &self.asker, approver, verdict)?;
        let entry = Entry { reason: failed, ..about(&next, entry) };
        let outcome = Outcome::one(entry.entry_id(), ItemOutcome::default());
        plan.log_before(mark, entry);
        self.ended = Some(ProposalView::of(&next, scene.now)?);
        plan.writes.push(Write::EndProposal(next, row.mac));
        replay::record(scene, plan, approver, CALL.as_str(), &self.asker, &outcome);
        Ok(())
    }
}

const CALL: Call = Call::ApproveProposal;
/// Reason of a failure: what was proposed is refused by now, or was done by somebody else.
const NO_EFFECT: &str = "NO_EFFECT";
/// Reason of a failure: a field of the request breaks a rule by now.
const INVALID: &str = "INVALID_FIELDS";

/// Whether this caller may approve this proposal now; answers the proposer, who must still be allowed the call too.
fn check(
    approval: &Approval,
    call: Call,
    approver: &Caller,
    scene: &Scene<'_>,
    row: &ProposalRow,
) -> Result<Arc<Caller>, Denial> {
    is_open(row, scene.now)?;
    if call != call_of(row)? || approval.opened != row.plan_sha256 {
        return Err(Denial::DataDamaged);
    }
    if approval.sent != row.plan_sha256 {
        return Err(Denial::PlanDiffers);
    }
    let person = approver.person.ok_or(Denial::PersonRequired)?;
    if person == row.proposer {
        return Err(Denial::OwnProposal);
    }
    scene.authorise(call, approver)?;
    let proposer = scene.staff.callers().find(|known| known.caller.id == row.proposer_caller);
    let proposer = proposer.and_then(|known| scene.staff.caller(&known.caller.spiffe_id));
    let proposer = proposer.filter(|known| known.person == Some(row.proposer));
    let proposer = proposer.ok_or(Denial::ProposerNotAllowed)?;
    scene.authorise(call, &proposer).map_err(|_| Denial::ProposerNotAllowed)?;
    // Whoever finds or steals a key may propose with it until it is withdrawn: that is proposed anew.
    if scene.staff.lost_a_key_since(row.proposer, row.created_at) {
        return Err(Denial::ProposerNotAllowed);
    }
    // Whoever proposes must not be able to make an approver for it.
    let older = |at| at < row.created_at;
    let known = scene.staff.person(person).is_some_and(|known| older(known.created_at));
    let certificate =
        scene.staff.callers().any(|known| known.caller.id == approver.id && older(known.updated_at));
    let roles = call.roles_on(row.platform);
    let role = scene.staff.grants().iter().any(|held| {
        held.grant.person == person
            && roles.iter().any(|role| held.grant.covers(*role, row.platform))
            && older(held.updated_at)
    });
    if known && certificate && role { Ok(proposer) } else { Err(Denial::ApproverTooNew) }
}
