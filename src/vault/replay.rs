//! Requests that were done: what a retry with the same request id is answered from.
//!
//! A row keeps an HMAC of the request's body, and of each item its denial or the ids of its rows; never a value. An
//! answer is rebuilt from the rows, and the caller is authorised anew.

use std::sync::Arc;

use minicbor::{Decode, Encode, bytes::ByteArray};

use super::{
    act::{Asker, Claim, Plan, Scene},
    approval::Approval,
    proposals::PlanBytes,
};
use crate::{
    domain::{
        caller::Caller,
        ids::{CallerId, EntryId, RequestId},
        time::Timestamp,
    },
    policy::decide::Denial,
    store::{Damage, ReadKeys, Write, rows::work::RequestRow},
};

/// How long a request is kept: its id may be dated up to 24 hours back, and 5 minutes ahead.
pub(in crate::vault) const KEPT_MICROS: i64 = 25 * 60 * 60 * 1_000_000;

/// What came of a request.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Outcome {
    /// The entry that it left; the replay's entry names it.
    #[n(0)]
    pub entry: ByteArray<16>,
    /// One for each item, in order.
    #[n(1)]
    pub items: Vec<ItemOutcome>,
}

/// What came of one item.
#[derive(Debug, Clone, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct ItemOutcome {
    /// Code of the denial.
    #[n(0)]
    pub denial: Option<String>,
    /// Ids of rows, as the call orders them.
    #[n(1)]
    pub ids: Vec<ByteArray<16>>,
    /// Times, versions and flags, as the call orders them.
    #[n(2)]
    pub numbers: Vec<i64>,
    /// The proposal that it became.
    #[n(3)]
    pub proposal: Option<ByteArray<16>>,
}

impl Outcome {
    /// The outcome of a call with one item.
    #[must_use]
    pub fn one(entry: EntryId, item: ItemOutcome) -> Self {
        Self { entry: (*entry.as_bytes()).into(), items: vec![item] }
    }

    /// The only item.
    #[must_use]
    pub fn item(&self) -> ItemOutcome {
        self.items.first().cloned().unwrap_or_default()
    }
}

impl ItemOutcome {
    /// An id by its place.
    ///
    /// # Errors
    /// [`Denial::DataDamaged`] where there is none: the outcome is of another call, which its MAC denies.
    pub fn id(&self, at: usize) -> Result<[u8; 16], Denial> {
        self.ids.get(at).map(|id| **id).ok_or(Denial::DataDamaged)
    }

    /// A number by its place.
    ///
    /// # Errors
    /// As [`Self::id`].
    pub fn number(&self, at: usize) -> Result<i64, Denial> {
        self.numbers.get(at).copied().ok_or(Denial::DataDamaged)
    }

    /// An instant by its place.
    ///
    /// # Errors
    /// As [`Self::id`].
    pub fn time(&self, at: usize) -> Result<Timestamp, Denial> {
        self.number(at).map(Timestamp::from_micros)
    }
}

/// A request id with the HMAC of the body that it came with.
#[derive(Debug, Clone)]
pub struct Asked {
    /// The client's id.
    pub id: RequestId,
    /// HMAC of the body under the request key of the caller's platform.
    pub body_mac: [u8; 32],
    /// What the request is where two people are needed.
    pub part: Part,
}

/// What a request is where two people are needed: one thing only, so that an approval is never proposed itself.
#[derive(Debug, Clone)]
pub enum Part {
    /// It can be no proposal.
    Alone,
    /// It may become a proposal, whose plan is the message.
    Plan(Arc<PlanBytes>),
    /// It approves one.
    Approval(Arc<Approval>),
}

/// How a request with an id stands.
pub(super) enum Standing {
    /// Never seen: to be done, and recorded with [`record`].
    New,
    /// Another act of this batch has the same id: wait for it.
    Twin,
    /// Done before, at that time: answer as then.
    Done(Box<Outcome>, Timestamp),
}

/// Adds what [`standing`] looks at.
pub(super) fn reads(caller: CallerId, asker: &Asker, keys: &mut ReadKeys) {
    if let Some(request) = &asker.request {
        keys.requests.insert((caller, request.id));
    }
}

/// Whether this request was done before.
///
/// # Errors
/// [`Denial::RequestIdReused`] where the id came with another call or body, [`Denial::DataDamaged`] where the record of
/// it was changed behind the vault.
pub(super) fn standing(
    scene: &Scene<'_>,
    plan: &mut Plan,
    caller: &Caller,
    call: &str,
    asker: &Asker,
) -> Result<Standing, Denial> {
    let Some(request) = &asker.request else { return Ok(Standing::New) };
    let Some(row) = scene.found(scene.snapshot.requests.get(&(caller.id, request.id)))? else {
        let first = plan.claim(Claim::Request(caller.id, request.id));
        return Ok(if first { Standing::New } else { Standing::Twin });
    };
    scene.keys().row.verify(&row.image(), &row.mac).map_err(|e| scene.damaged("requests", &e))?;
    if row.call != call || row.body_mac != request.body_mac {
        return Err(Denial::RequestIdReused);
    }
    let outcome = minicbor::decode(&row.outcome)
        .map_err(|_| scene.damaged("requests", &Damage { table: "requests", column: "outcome" }))?;
    Ok(Standing::Done(Box::new(outcome), row.created_at))
}

/// Records a request that is done with this commit.
pub(super) fn record(
    scene: &Scene<'_>,
    plan: &mut Plan,
    caller: &Caller,
    call: &str,
    asker: &Asker,
    outcome: &Outcome,
) {
    let Some(request) = &asker.request else { return };
    let mut row = RequestRow {
        platform: scene.context.platform,
        caller: caller.id,
        request: request.id,
        call: call.to_owned(),
        body_mac: request.body_mac,
        // Writing to a vector cannot fail.
        outcome: minicbor::to_vec(outcome).unwrap_or_default(),
        created_at: scene.now,
        mac: [0; 32],
    };
    row.mac = scene.keys().row.mac(&row.image());
    // One request in sixteen sweeps up after those that are too old to come again.
    if request.id.as_bytes().last().is_some_and(|byte| byte.is_multiple_of(16)) {
        let before = scene.now.plus_micros(-KEPT_MICROS);
        plan.writes.push(Write::ForgetRequests { before, limit: 64 });
    }
    plan.writes.push(Write::InsertRequest(row));
}
