//! Long or delayed work, and limits on what a caller may spend.

use super::{
    code::coded,
    ids::{CallerId, OperationId, PlatformId, SubjectId},
    names::PurposeName,
    time::Timestamp,
};

coded!(
    /// What an operation does.
    OperationKind, "operation kind" {
        /// Destroys the key, index and tokens of an erased subject after the cooling time.
        DestroySubject = "destroy_subject",
        /// Makes a new platform key version the active one, and wraps every subject key under it.
        RotatePlatformKey = "rotate_platform_key",
        /// Makes a new audit key version the active one, and hands every log over to it.
        RotateAuditKey = "rotate_audit_key",
        /// Makes a new root version, and wraps the keys of every platform under it.
        RotateRootKey = "rotate_root_key",
        /// Destroys a root version, and those before it, after the delay.
        DestroyRootKey = "destroy_root_key",
        /// Makes a new index key version the one by which everything is found.
        RotateIndexKey = "rotate_index_key",
        /// Makes a new platform key version the active one and new subject keys under it, and seals everything of the platform anew.
        RekeyPlatform = "rekey_platform",
        /// Destroys a version of the platform key that wraps nothing any more, after the delay.
        DestroyKey = "destroy_key",
        /// Destroys a version of the index key under which nothing is any more, after the delay.
        DestroyIndexKey = "destroy_index_key",
        /// Copies every table into a sealed backup.
        Backup = "backup",
        /// Deletes what broken uploads left in the document store, and looks for what is missing there.
        CollectDocuments = "collect_documents",
        /// Destroys every record whose retention has ended.
        SweepRetention = "sweep_retention",
    }
);

impl OperationKind {
    /// Whether it takes for good what was there at one moment, when its time has come. A sweep looks at each record's own time.
    #[must_use]
    pub const fn destroys(self) -> bool {
        matches!(self, Self::DestroySubject | Self::DestroyKey | Self::DestroyIndexKey | Self::DestroyRootKey)
    }
}

coded!(
    /// Where an operation stands.
    OperationState, "operation state" {
        /// Until its time comes.
        Waiting = "waiting",
        /// A replica works on it.
        Running = "running",
        /// Somebody stopped it for a while.
        Paused = "paused",
        /// Ended well.
        Done = "done",
        /// Called off before its time.
        Cancelled = "cancelled",
        /// Ended badly; somebody must look.
        Failed = "failed",
    }
);

coded!(
    /// How far a rotation is.
    Phase, "phase of an operation" {
        /// It has no phases.
        None = "",
        /// Waits until every process has the new version, which then becomes active.
        Activate = "activate",
        /// Wraps subject keys, or the keys of platforms, under it.
        Rewrap = "rewrap",
        /// Gives every subject a new key under it, and seals anew what was sealed under the old one.
        Reseal = "reseal",
        /// Hands every log over to it.
        Announce = "announce",
        /// Puts every value into the index of the new version, beside the old one.
        Fill = "fill",
        /// Opens every key that it wraps, looks at the head of every log, or holds every value against the new index.
        Verify = "verify",
        /// Takes every value out of the indexes of other versions.
        Drop = "drop",
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
    /// Phase.
    pub phase: Phase,
    /// The key version that it makes active, or destroys; 0 where it works on no key.
    pub key_version: u32,
    /// How far this phase is; none at its beginning.
    pub resume_after: Option<Cursor>,
    /// At most so many rows a second; 0 for as many as go.
    pub rate: u32,
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

/// How far a walk over all subjects is: the last subject that it is done with, in the order of ids; or, where it goes in the
/// order in which they are stored, a place that the store alone can read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cursor([u8; 16]);

impl Cursor {
    /// As it was kept.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// To be kept.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }
}

impl From<SubjectId> for Cursor {
    fn from(subject: SubjectId) -> Self {
        Self(*subject.as_bytes())
    }
}

impl Operation {
    /// New work on an object, with so many steps.
    #[must_use]
    pub const fn new(
        id: OperationId,
        platform: PlatformId,
        kind: OperationKind,
        object: [u8; 16],
        created_at: Timestamp,
        total: u64,
    ) -> Self {
        Self {
            id,
            platform,
            kind,
            object,
            state: OperationState::Waiting,
            phase: Phase::None,
            key_version: 0,
            resume_after: None,
            rate: 0,
            created_at,
            due_at: created_at,
            ended_at: None,
            fence: 0,
            lease_until: None,
            done: 0,
            total,
        }
    }

    /// The subject after which a phase in the order of ids goes on.
    #[must_use]
    pub fn after(&self) -> SubjectId {
        self.resume_after.map_or(SubjectId::from_bytes([0; 16]), |cursor| SubjectId::from_bytes(cursor.0))
    }

    /// Whether it has not ended.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        self.ended_at.is_none()
    }

    /// Ended now, in this state.
    #[must_use]
    pub const fn ended(self, state: OperationState, now: Timestamp) -> Self {
        Self { state, ended_at: Some(now), lease_until: None, ..self }
    }
}

coded!(
    /// What a budget limits.
    BudgetKind, "budget kind" {
        /// Questions that missed: guesses at tokens or values (design: enumeration).
        Enumeration = "enumeration",
        /// Erasures, so that a stolen certificate does not burn a country in a minute.
        Erasure = "erasure",
        /// Values that left in an hour, for one purpose.
        DisclosureHour = "disclosure_hour",
        /// Values that left in a day, for one purpose.
        DisclosureDay = "disclosure_day",
    }
);

impl BudgetKind {
    /// What each value that leaves is paid from, for its purpose.
    pub const DISCLOSURES: [Self; 2] = [Self::DisclosureHour, Self::DisclosureDay];

    /// Whether each purpose has a budget of its own.
    #[must_use]
    pub const fn is_by_purpose(self) -> bool {
        matches!(self, Self::DisclosureHour | Self::DisclosureDay)
    }

    /// The one length of a window, in seconds, where the kind has it in its name.
    #[must_use]
    pub const fn fixed_window(self) -> Option<u32> {
        match self {
            Self::DisclosureHour => Some(3_600),
            Self::DisclosureDay => Some(86_400),
            Self::Enumeration | Self::Erasure => None,
        }
    }
}

/// A window of one caller's budget.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct BudgetWindow {
    /// Whose.
    pub caller: CallerId,
    /// Of what.
    pub kind: BudgetKind,
    /// For which purpose, where each has its own.
    pub purpose: Option<PurposeName>,
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
    /// More than can be spent: no limit.
    pub const UNLIMITED: u64 = u64::MAX >> 1;

    /// Whether nothing is counted.
    #[must_use]
    pub const fn is_unlimited(&self) -> bool {
        self.limit >= Self::UNLIMITED
    }

    /// What holds where nobody set a limit: 100 misses an hour, 100 erasures a day, any number of values.
    #[must_use]
    pub const fn default_of(kind: BudgetKind) -> Self {
        match kind {
            BudgetKind::Enumeration => Self { caller: None, kind, limit: 100, window_seconds: 3_600 },
            BudgetKind::Erasure => Self { caller: None, kind, limit: 100, window_seconds: 86_400 },
            BudgetKind::DisclosureHour => {
                Self { caller: None, kind, limit: Self::UNLIMITED, window_seconds: 3_600 }
            }
            BudgetKind::DisclosureDay => {
                Self { caller: None, kind, limit: Self::UNLIMITED, window_seconds: 86_400 }
            }
        }
    }

    /// Beginning of the window that an instant falls into.
    #[must_use]
    pub fn window_start(&self, now: Timestamp) -> Timestamp {
        let length = i64::from(self.window_seconds.max(1)) * 1_000_000;
        Timestamp::from_micros(now.as_micros().div_euclid(length) * length)
    }
}
