//! Subjects: their kinds, where their values came from, and the block on their use.

use super::{code::coded, time::Timestamp};

coded!(
    /// Kind of a subject (rule R37).
    SubjectKind, "kind of subject" {
        /// A human who acts alone.
        Natural = "natural",
        /// A legal person.
        Legal = "legal",
        /// A human for whom a legal representative acts.
        Represented = "represented",
    }
);

coded!(
    /// Where a value came from (rule R24).
    ValueSource, "source" {
        /// The subject gave it.
        Subject = "subject",
        /// A partner gave it.
        Partner = "partner",
        /// A state database.
        StateDatabase = "state_database",
        /// A public source.
        Public = "public",
    }
);

impl ValueSource {
    /// What is said of a value that comes without the paper that it needs.
    pub const REFERENCE_MISSING: &'static str = "is required of a partner and of a state database";

    /// Whether a value of it comes with the paper behind it: a partner's proof (rule R38), or the number of the consent in the
    /// state's access-control service (rule R24; Law 94-V, Article 8-1).
    #[must_use]
    pub const fn needs_reference(self) -> bool {
        matches!(self, Self::Partner | Self::StateDatabase)
    }
}

coded!(
    /// Why use of a subject's data is blocked (rule R11).
    RestrictionTrigger, "restriction trigger" {
        /// Accuracy is disputed, and is being checked.
        AccuracyDisputed = "accuracy_disputed",
        /// Processing is said to be unlawful.
        UnlawfulProcessing = "unlawful_processing",
        /// A complaint, an appeal, a dispute: destruction waits (rule R49).
        LegalHold = "legal_hold",
        /// The authority demands it.
        AuthorityDemand = "authority_demand",
        /// The subject asks for it.
        SubjectRequest = "subject_request",
    }
);

coded!(
    /// Who asked for the block (rule R11).
    RestrictionRequester, "restriction requester" {
        /// The subject.
        Subject = "subject",
        /// The subject's representative.
        Representative = "representative",
        /// The authority.
        Authority = "authority",
        /// The operator itself.
        Operator = "operator",
    }
);

/// A block on use. It has a date of review: a block is never an end state (rule R11).
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Restriction {
    /// Why.
    pub trigger: RestrictionTrigger,
    /// Who asked.
    pub requester: RestrictionRequester,
    /// Since when.
    pub since: Timestamp,
    /// When somebody must look at it again.
    pub review_at: Timestamp,
}

impl Restriction {
    /// Whether the day of its review is over: it stands all the same, until somebody decides.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.review_at <= now
    }
}
