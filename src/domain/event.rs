//! Events in a subject's life that retention and consents count from (rule R42).

use super::{names::EventName, time::Timestamp};

/// Something that happened to a subject, as the platform recorded it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SubjectEvent {
    /// What, as the policy declares it.
    pub name: EventName,
    /// When it happened.
    pub at: Timestamp,
}
