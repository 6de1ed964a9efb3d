//! Long or delayed work, and limits on what a caller may spend.

use super::{
    code::coded,
    ids::{CallerId, OperationId, PlatformId},
    time::Timestamp,
};

coded!(
    /// What an operation does.
    OperationKind, "operation kind" {
        /// Destroys the key, index and tokens of an erased subject after the cooling time.
        DestroySubject = "destroy_subject",
    }
);

coded!(
    /// Where an operation stands.
    OperationState, "operation state" {
        /// Until its time comes.
        Waiting = "waiting",
        /// A replica works on it.
        Running = "running",
        /// Ended well.
        Done = "done",
        /// Called off before its time.
        Cancelled = "cancelled",
        /// Ended badly; somebody must look.
        Failed = "failed",
    }
);

/// Long or delayed work.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operation {
    /// Id.
    pub id: OperationId,
    /// Whose data.
    pub platform: PlatformId,
    /// What.
    pub kind: OperationKind,
    /// Id of the object that it works on.
    pub object: [u8; 16],
    /// State.
    pub state: OperationState,
    /// When it was made.
    pub created_at: Timestamp,
    /// Not before.
    pub due_at: Timestamp,
    /// When it ended.
    pub ended_at: Option<Timestamp>,
    /// Rises with each replica that takes it: one that was overtaken writes nothing more.
    pub fence: u32,
    /// Until when the replica that has it may be believed to work.
    pub lease_until: Option<Timestamp>,
    /// Steps done.
    pub done: u64,
    /// Steps in all, as far as known.
    pub total: u64,
}

coded!(
    /// What a budget limits.
    BudgetKind, "budget kind" {
        /// Questions that missed: guesses at tokens or values (design: enumeration).
        Enumeration = "enumeration",
        /// Erasures, so that a stolen certificate does not burn a country in a minute.
        Erasure = "erasure",
    }
);

/// A window of one caller's budget.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BudgetWindow {
    /// Whose.
    pub caller: CallerId,
    /// Of what.
    pub kind: BudgetKind,
    /// Beginning of the window.
    pub start: Timestamp,
}

/// How much may be spent in a window of how many seconds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct BudgetLimit {
    /// For this caller; for every caller that has no limit of its own, where none.
    pub caller: Option<CallerId>,
    /// Of what.
    pub kind: BudgetKind,
    /// At most this much in a window.
    pub limit: u64,
    /// Length of a window.
    pub window_seconds: u32,
}

impl BudgetLimit {
    /// What holds where nobody set a limit: 100 misses an hour, 100 erasures a day.
    #[must_use]
    pub const fn default_of(kind: BudgetKind) -> Self {
        match kind {
            BudgetKind::Enumeration => Self { caller: None, kind, limit: 100, window_seconds: 3_600 },
            BudgetKind::Erasure => Self { caller: None, kind, limit: 100, window_seconds: 86_400 },
        }
    }

    /// Beginning of the window that an instant falls into.
    #[must_use]
    pub fn window_start(&self, now: Timestamp) -> Timestamp {
        let length = i64::from(self.window_seconds.max(1)) * 1_000_000;
        Timestamp::from_micros(now.as_micros().div_euclid(length) * length)
    }
}
