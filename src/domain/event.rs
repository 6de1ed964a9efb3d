//! Events in a subject's life that retention and consents count from (rule R42).

use super::{
    code::coded,
    names::{EventName, FieldName},
    reference::Reference,
    time::Timestamp,
};

/// Something that happened to a subject, as the platform recorded it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubjectEvent {
    /// What, as the policy declares it.
    pub name: EventName,
    /// When it happened.
    pub at: Timestamp,
}

coded!(
    /// Why a consent cannot be withdrawn (Law 94-V, Article 8(2); rule R7).
    WithdrawalBar, "bar of a withdrawal" {
        /// A law forbids it.
        Law = "law_bars",
        /// An obligation of the person is not fulfilled.
        Obligation = "obligation_unfulfilled",
    }
);

/// Why the operator refuses a withdrawal. It stands with the event that says so.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct WithdrawalRefusal {
    /// Why.
    pub bar: WithdrawalBar,
    /// The law or the contract, in the operator's numbering.
    pub ground: Reference,
}

coded!(
    /// What is known of how true a value is (Law 94-V, Article 13; rule R35).
    Accuracy, "accuracy" {
        /// Nobody looked.
        Unverified = "unverified",
        /// Somebody saw the paper that says so.
        Confirmed = "confirmed",
        /// Somebody says that it is wrong.
        Disputed = "disputed",
    }
);

/// A mark on the value that a subject has in a field.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AccuracyMark {
    /// The field.
    pub field: FieldName,
    /// The mark.
    pub accuracy: Accuracy,
    /// The paper or the complaint behind it, in the operator's numbering.
    pub evidence: Reference,
}

/// An event that no policy declares: the subject objects to decisions by machine (Law 94-V, Article 19-1).
pub const OBJECTION: &str = "automated_decisions_objection";
/// Another: a value of the subject was marked as confirmed or disputed (rule R35).
pub const ACCURACY: &str = "value_accuracy";
/// Names that no policy gives to an event of its own.
pub const RESERVED: [&str; 2] = [OBJECTION, ACCURACY];

impl SubjectEvent {
    /// The subject objects to decisions by machine.
    #[must_use]
    pub fn objection(at: Timestamp) -> Option<Self> {
        Some(Self { name: OBJECTION.parse().ok()?, at })
    }

    /// A value of the subject was marked.
    #[must_use]
    pub fn accuracy(at: Timestamp) -> Option<Self> {
        Some(Self { name: ACCURACY.parse().ok()?, at })
    }

    /// Whether it is such an objection.
    #[must_use]
    pub fn is_objection(&self) -> bool {
        self.name.as_str() == OBJECTION
    }
}
