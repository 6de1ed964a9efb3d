//! Rows of work: requests that may be replayed, proposals, budgets, operations, replicas.

use super::{Mac, platform_row};
use crate::domain::{
    canonical::Canonical,
    ids::{CallerId, PersonId, PlatformId, ProposalId, RequestId},
    operation::{BudgetWindow, Operation, OperationKind, OperationState},
    proposal::ProposalState,
    secret::Sealed,
    time::Timestamp,
};

/// A mutation that was done, for its replay: ids and codes, never a value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestRow {
    /// Platform.
    pub platform: PlatformId,
    /// Who asked.
    pub caller: CallerId,
    /// The client's id.
    pub request: RequestId,
    /// The call, such as `VaultService/Tokenize`.
    pub call: String,
    /// HMAC of the body.
    pub body_mac: [u8; 32],
    /// What came of it, in CBOR.
    pub outcome: Vec<u8>,
    /// When.
    pub created_at: Timestamp,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl RequestRow {
    /// What the MAC covers.
    #[must_use]
    pub fn image(&self) -> Canonical {
        platform_row("requests", self.platform)
            .bytes(self.caller.as_bytes())
            .bytes(self.request.as_bytes())
            .text(&self.call)
            .bytes(&self.body_mac)
            .bytes(&self.outcome)
            .int(self.created_at.as_micros())
    }
}

/// An act that waits for a second person, or waited.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProposalRow {
    /// Platform in whose lane the act is done.
    pub platform: PlatformId,
    /// Id.
    pub id: ProposalId,
    /// The call that is proposed.
    pub call: String,
    /// The key of the request under the platform's key, and the request under that; neither once it ended.
    pub sealed: Option<SealedPlan>,
    /// SHA-256 of call and request.
    pub plan_sha256: [u8; 32],
    /// Who proposed it.
    pub proposer: PersonId,
    /// With which certificate.
    pub proposer_caller: CallerId,
    /// Proposed.
    pub created_at: Timestamp,
    /// Until when it can be approved.
    pub expires_at: Timestamp,
    /// State.
    pub state: ProposalState,
    /// Who approved or rejected it.
    pub ended_by: Option<PersonId>,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Why it failed.
    pub reason: Option<String>,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

/// A request that is sealed under a key of its own.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedPlan {
    /// The key.
    pub wrapped_key: Sealed,
    /// The request.
    pub request: Sealed,
}

impl ProposalRow {
    /// What the MAC covers. The sealed request is bound by its place and by the hash.
    #[must_use]
    pub fn image(&self) -> Canonical {
        platform_row("proposals", self.platform)
            .bytes(self.id.as_bytes())
            .text(&self.call)
            .bytes(&self.plan_sha256)
            .bytes(self.proposer.as_bytes())
            .bytes(self.proposer_caller.as_bytes())
            .int(self.created_at.as_micros())
            .int(self.expires_at.as_micros())
            .text(self.state.as_str())
            .bytes(self.ended_by.as_ref().map_or(&[], |id| id.as_bytes().as_slice()))
            .optional_int(self.ended_at.map(Timestamp::as_micros))
            .text(self.reason.as_deref().unwrap_or_default())
    }
}

/// What a caller spent of a budget in one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BudgetRow {
    /// Whose, of what, when.
    pub window: BudgetWindow,
    /// Spent before.
    pub spent: u64,
}

/// An operation. Its fence is what a worker's writes are conditional on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct OperationRow {
    /// The operation.
    pub operation: Operation,
}

/// Open operations of one kind and state, on all platforms together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct OpenOperations {
    /// Kind.
    pub kind: OperationKind,
    /// State.
    pub state: OperationState,
    /// How many.
    pub count: u64,
    /// When the first of them is or was due.
    pub due_at: Timestamp,
}

/// A running vault process.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReplicaRow {
    /// Its name.
    pub name: String,
    /// Since when.
    pub started_at: Timestamp,
    /// When it was last heard of.
    pub heartbeat_at: Timestamp,
    /// The schema version that it writes.
    pub schema: i64,
    /// Since when it is known to have every key version that there was.
    pub keys_loaded_at: Timestamp,
}
