//! Acts that wait for a second person: how they are proposed, shown and rejected. `approval` carries them out.
//!
//! The plan of a proposal is the request itself: its act ran all its checks when it was proposed, and runs them again,
//! with its writes, in the commit of the approval. The row lies with the platform in whose lane the act is done.

use std::{fmt, sync::Arc};

use zeroize::Zeroizing;

use super::{
    Refuse, Vault,
    access::Call,
    act::{Asker, Claim, Scene},
    context::Context,
    deed::{Deed, Deeded, Hand},
    error::{VaultError, unreadable},
    page::{Page, PageAsk},
    replay::{ItemOutcome, Part},
    tokenize::unavailable,
};
use crate::{
    audit::entry::Entry,
    crypto::digest::sha256,
    domain::{
        caller::Caller,
        canonical::Canonical,
        ids::{PersonId, PlatformId, ProposalId},
        proposal::ProposalState,
        time::Timestamp,
    },
    policy::decide::Denial,
    store::{
        ReadKeys, Write,
        rows::{
            Mac,
            work::{ProposalRow, SealedPlan},
        },
    },
};

/// Rows that one look at a list reads.
const AT_ONCE: u32 = 200;
/// Rows that one page looks at: a rare match may take several pages, some of them empty.
const LOOKED_AT: usize = 2_000;

/// A request as it was sent. It can name a person, so it is not shown.
pub struct PlanBytes(Zeroizing<Vec<u8>>);

impl PlanBytes {
    /// These bytes.
    #[must_use]
    pub const fn new(bytes: Zeroizing<Vec<u8>>) -> Self {
        Self(bytes)
    }

    /// The message.
    #[must_use]
    pub fn expose(&self) -> &[u8] {
        &self.0
    }

    /// What an approval binds: SHA-256 of call and request.
    pub(super) fn sha256(&self, call: Call) -> [u8; 32] {
        sha256(Canonical::new("plan").text(call.as_str()).bytes(&self.0).as_bytes())
    }
}

impl fmt::Debug for PlanBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PlanBytes(..)")
    }
}

/// A proposal as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposalView {
    /// Id.
    pub id: ProposalId,
    /// Platform in whose log it stands.
    pub platform: PlatformId,
    /// The call that is proposed.
    pub call: Call,
    /// SHA-256 of call and request.
    pub plan_sha256: [u8; 32],
    /// Who proposed it.
    pub proposer: PersonId,
    /// When.
    pub created_at: Timestamp,
    /// Until when it can be approved.
    pub expires_at: Timestamp,
    /// State; expired from the moment that its time ended.
    pub state: ProposalState,
    /// Who approved or rejected it.
    pub ended_by: Option<PersonId>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it failed.
    pub reason: Option<String>,
}

impl ProposalView {
    pub(super) fn of(row: &ProposalRow, now: Timestamp) -> Result<Self, Denial> {
        let state = if is_over(row, now) { ProposalState::Expired } else { row.state };
        Ok(Self {
            id: row.id,
            platform: row.platform,
            call: call_of(row)?,
            plan_sha256: row.plan_sha256,
            proposer: row.proposer,
            created_at: row.created_at,
            expires_at: row.expires_at,
            state,
            ended_by: row.ended_by,
            ended_at: row.ended_at.or((state == ProposalState::Expired).then_some(row.expires_at)),
            reason: row.reason.clone(),
        })
    }
}

/// Proposals of one page.
#[derive(Debug)]
pub struct Listed {
    /// Those that hold.
    pub page: Page<ProposalView>,
    /// Those whose rows were changed behind the vault; nobody can approve them.
    pub damaged: Vec<ProposalId>,
}

/// The call of a believed row.
pub(super) fn call_of(row: &ProposalRow) -> Result<Call, Denial> {
    row.call.parse().map_err(|_| Denial::DataDamaged)
}

/// Whether nobody can approve it any more, although nobody ended it.
pub(super) fn is_over(row: &ProposalRow, now: Timestamp) -> bool {
    row.state == ProposalState::Open && now >= row.expires_at
}

/// Whether it can still be ended by somebody.
pub(super) fn is_open(row: &ProposalRow, now: Timestamp) -> Result<(), Denial> {
    if row.state != ProposalState::Open {
        return Err(if row.state == ProposalState::Expired {
            Denial::ProposalExpired
        } else {
            Denial::ProposalEnded
        });
    }
    if is_over(row, now) { Err(Denial::ProposalExpired) } else { Ok(()) }
}

/// What the log says of a proposal.
pub(super) fn about(row: &ProposalRow, entry: Entry) -> Entry {
    Entry {
        object_kind: Some("proposal".to_owned()),
        object: Some(row.id.as_bytes().to_vec()),
        row_mac: Some(row.mac.into()),
        detail_sha256: Some(row.plan_sha256.into()),
        ..entry
    }
}

/// The row as it ends, with its MAC; the request goes.
pub(super) fn ended(
    scene: &Scene<'_>,
    row: &ProposalRow,
    state: ProposalState,
    by: Option<PersonId>,
    reason: Option<String>,
) -> ProposalRow {
    let mut next =
        ProposalRow { sealed: None, state, ended_by: by, ended_at: Some(scene.now), reason, ..row.clone() };
    next.mac = scene.keys().row.mac(&next.image());
    next
}

/// Puts a proposal in the place of what a deed would have written.
pub(super) fn propose(
    hand: &mut Hand<'_, '_>,
    time: std::time::Duration,
) -> Result<(ProposalView, ItemOutcome), VaultError> {
    let (scene, call) = (hand.scene, hand.call());
    let proposer = hand.caller.person.ok_or(Denial::PersonRequired)?;
    let Some(Part::Plan(plan)) = hand.asker.request.as_ref().map(|asked| &asked.part) else {
        tracing::error!(call = call.as_str(), "a call that needs two people came without its request");
        return Err(VaultError::Unavailable);
    };
    let id = ProposalId::random(scene.rng()).map_err(unavailable)?;
    let sealed = scene.keys().seal_plan(id, plan.expose(), scene.rng());
    let (wrapped_key, request) = sealed.map_err(unavailable)?;
    let mut row = ProposalRow {
        platform: scene.context.platform,
        id,
        call: call.as_str().to_owned(),
        sealed: Some(SealedPlan { wrapped_key, request }),
        plan_sha256: plan.sha256(call),
        proposer,
        proposer_caller: hand.caller.id,
        created_at: scene.now,
        expires_at: scene.now.plus(time),
        state: ProposalState::Open,
        ended_by: None,
        ended_at: None,
        reason: None,
        mac: [0; 32],
    };
    row.mac = scene.keys().row.mac(&row.image());
    hand.log(|entry| about(&row, entry))?;
    let view = ProposalView::of(&row, scene.now)?;
    hand.plan.writes.push(Write::InsertProposal(row));
    let outcome = ItemOutcome { proposal: Some((*id.as_bytes()).into()), ..ItemOutcome::default() };
    Ok((view, outcome))
}

impl Vault {
    /// Lists proposals of calls that the caller may make, oldest first; `wanted` narrows it to a state. A row that was
    /// changed behind the vault is told by its id, and keeps no other out of the list.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn list_proposals(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        wanted: Option<ProposalState>,
        ask: PageAsk,
    ) -> Result<Listed, VaultError> {
        let (mut rows, mut damaged, mut last, mut looked) = (Vec::new(), Vec::new(), None, 0);
        for (name, id) in self.in_view(caller, &asker, Call::ListProposals, platform).await? {
            let mut after = match &ask.after {
                Some((before, _)) if name.as_str() < before.as_str() => continue,
                Some((at, key)) if name.as_str() == at => place(key)?,
                Some(_) | None => BEGINNING,
            };
            let now = self.run(id, caller, asker.clone(), MayList).await?;
            loop {
                let open_at = (wanted == Some(ProposalState::Open)).then_some(now);
                let found = self.shared.store.proposals(id, after, open_at, AT_ONCE).await;
                let found = found.map_err(unreadable)?;
                let (context, staff) = (self.context(id)?, self.shared.staff.load_full());
                for row in &found {
                    if rows.len() == ask.size || looked == LOOKED_AT {
                        return Ok(Listed { page: Page { rows, next: last }, damaged });
                    }
                    looked += 1;
                    after = (row.created_at, row.id);
                    last = Some((name.to_string(), format!("{}/{}", row.created_at.as_micros(), row.id)));
                    let believed = context.keys.row.verify(&row.image(), &row.mac).is_ok();
                    let Some(view) = ProposalView::of(row, now).ok().filter(|_| believed) else {
                        tracing::error!(platform = id.get(), proposal = %row.id, "a proposal's row is damaged");
                        damaged.push(row.id);
                        continue;
                    };
                    let other = wanted.is_some_and(|wanted| wanted != view.state);
                    let may = self.second_factor(caller, &asker.key, Some(view.call)).is_ok();
                    if !other && may && view.call.allows(caller, id, &staff).is_ok() {
                        rows.push(view);
                    }
                }
                if found.len() < usize::try_from(AT_ONCE).unwrap_or(usize::MAX) {
                    break;
                }
            }
        }
        Ok(Listed { page: Page { rows, next: None }, damaged })
    }

    /// A proposal with its request, where it is open.
    ///
    /// # Errors
    /// [`VaultError`]; [`Denial::ProposalNotFound`].
    pub async fn proposal(
        &self,
        caller: &Caller,
        asker: Asker,
        id: ProposalId,
    ) -> Result<(ProposalView, Option<Arc<PlanBytes>>), VaultError> {
        let platform = self.place_of_proposal(caller, &asker, Call::GetProposal, id).await?;
        self.run(platform, caller, asker, Look(id)).await
    }

    /// Ends a proposal: anybody who could make its call may, and its proposer.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn reject_proposal(
        &self,
        caller: &Caller,
        asker: Asker,
        id: ProposalId,
    ) -> Result<ProposalView, VaultError> {
        let platform = self.place_of_proposal(caller, &asker, Call::RejectProposal, id).await?;
        self.run(platform, caller, asker, Reject(id)).await
    }

    /// The platform of a proposal. Only staff finds any.
    pub(super) async fn place_of_proposal(
        &self,
        caller: &Caller,
        asker: &Asker,
        call: Call,
        id: ProposalId,
    ) -> Result<PlatformId, VaultError> {
        let staff = caller.platform == PlatformId::VAULT;
        let place =
            if staff { self.shared.store.place_of_proposal(id).await.map_err(unreadable)? } else { None };
        if let Some(place) = place {
            if self.platform(place).is_err() {
                self.find_platforms().await.map_err(unreadable)?;
            }
            return Ok(place);
        }
        let refused = Refuse { call, reason: Denial::ProposalNotFound };
        self.run(caller.platform, caller, asker.clone(), refused).await?;
        Err(Denial::ProposalNotFound.into())
    }
}

/// Before every proposal.
const BEGINNING: (Timestamp, ProposalId) = (Timestamp::from_micros(0), ProposalId::from_bytes([0; 16]));

/// A place in a list: `MICROSECONDS/ID`.
fn place(key: &str) -> Result<(Timestamp, ProposalId), VaultError> {
    let parts = key.split_once('/').and_then(|(at, id)| Some((at.parse().ok()?, id.parse().ok()?)));
    let (at, id) = parts.ok_or(VaultError::invalid("page_token", "not a page of this list"))?;
    Ok((Timestamp::from_micros(at), id))
}

/// Asks for a list; answers the time by which it is shown.
struct MayList;

impl Deed for MayList {
    type Answer = Timestamp;

    fn call(&self) -> Call {
        Call::ListProposals
    }

    fn changes(&self) -> bool {
        false
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Timestamp>, VaultError> {
        hand.log(|entry| Entry { object_kind: Some("proposal".to_owned()), ..entry })?;
        Ok(Deeded::answer(hand.scene.now))
    }
}

struct Look(ProposalId);

impl Deed for Look {
    type Answer = (ProposalView, Option<Arc<PlanBytes>>);

    fn call(&self) -> Call {
        Call::GetProposal
    }

    fn changes(&self) -> bool {
        false
    }

    fn reads(&self, _context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        keys.proposals.insert(self.0);
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Self::Answer>, VaultError> {
        let scene = hand.scene;
        let row = scene.proposal(self.0)?;
        if hand.caller.person != Some(row.proposer) {
            scene.authorise(call_of(row)?, hand.caller)?;
        }
        scene.second_factor(call_of(row)?, hand.caller, &hand.asker.key)?;
        let plan = match &row.sealed {
            Some(sealed) => {
                let plan = scene.keys().open_plan(row.id, &sealed.wrapped_key, &sealed.request);
                let plan = PlanBytes::new(plan.map_err(|e| scene.damaged("proposals", &e))?);
                if plan.sha256(call_of(row)?) != row.plan_sha256 {
                    return Err(Denial::DataDamaged.into());
                }
                Some(Arc::new(plan))
            }
            None => None,
        };
        hand.log(|entry| Entry { row_mac: None, ..about(row, entry) })?;
        Ok(Deeded::answer((ProposalView::of(row, scene.now)?, plan)))
    }
}

struct Reject(ProposalId);

impl Deed for Reject {
    type Answer = ProposalView;

    fn call(&self) -> Call {
        Call::RejectProposal
    }

    fn changes(&self) -> bool {
        true
    }

    fn reads(&self, _context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        keys.proposals.insert(self.0);
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<ProposalView>, VaultError> {
        if !hand.plan.claim(Claim::Proposal(self.0)) {
            return Ok(Deeded::Later);
        }
        let scene = hand.scene;
        let row = scene.proposal(self.0)?;
        is_open(row, scene.now)?;
        let person = hand.caller.person.ok_or(Denial::PersonRequired)?;
        if person != row.proposer {
            scene.authorise(call_of(row)?, hand.caller)?;
        }
        scene.second_factor(call_of(row)?, hand.caller, &hand.asker.key)?;
        let next = ended(scene, row, ProposalState::Rejected, Some(person), None);
        let was: Mac = row.mac;
        hand.log(|entry| about(&next, entry))?;
        let view = ProposalView::of(&next, scene.now)?;
        hand.plan.writes.push(Write::EndProposal(next, was));
        Ok(Deeded::changed(view, ItemOutcome::default()))
    }

    fn again(&self, hand: &Hand<'_, '_>, _before: &ItemOutcome) -> Result<ProposalView, VaultError> {
        Ok(ProposalView::of(hand.scene.proposal(self.0)?, hand.scene.now)?)
    }
}
