//! Rows of work: requests that may be replayed, budgets, operations, replicas.

use super::{Mac, platform_row};
use crate::domain::{
    canonical::Canonical,
    ids::{CallerId, PlatformId, RequestId},
    operation::{BudgetWindow, Operation},
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

/// What a caller spent of a budget in one window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
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
