//! Copies of data outside the vault: on paper, in a file, on a medium (Law 94-V, Articles 12, 18; rules R10, R46). Software cannot
//! take them back, so each is registered with the day by which it is destroyed, and stands in the register until it is. Pure.
//!
//! Nothing here is free text: who keeps a copy is an office in the operator's numbering.

use super::{
    code::coded,
    ids::{CopyId, SubjectId},
    names::{FieldName, PurposeName},
    reference::Reference,
    time::Timestamp,
};

/// Fields that one copy names at most.
pub const MAX_FIELDS: usize = 64;

coded!(
    /// What a copy is.
    CopyKind, "kind of copy" {
        /// A document on paper.
        Paper = "paper",
        /// A file that was exported.
        File = "file",
        /// A medium with data, such as a disk or a tape.
        Medium = "medium",
    }
);

coded!(
    /// How a copy ends.
    CopyOutcome, "outcome of a copy" {
        /// It is destroyed.
        Destroyed = "destroyed",
        /// It was given to the person, or to whoever may demand it; it is theirs from then on.
        HandedOver = "handed_over",
    }
);

/// What is known of a copy when it is made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyFacts {
    /// What it is.
    pub kind: CopyKind,
    /// What it was made for.
    pub purpose: PurposeName,
    /// Which data stand in it.
    pub fields: Vec<FieldName>,
    /// Whose; none where it is of more people.
    pub subject: Option<SubjectId>,
    /// The office that keeps it.
    pub holder: Reference,
    /// The operator's own number of it.
    pub reference: Option<Reference>,
    /// When it was made.
    pub made_at: Timestamp,
    /// By when it is destroyed.
    pub destroy_by: Timestamp,
}

/// How a copy ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CopyEnd {
    /// When.
    pub at: Timestamp,
    /// How.
    pub outcome: CopyOutcome,
    /// The record of it, such as an act of destruction, in the operator's numbering.
    pub act: Reference,
}

/// A copy.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DataCopy {
    /// Id.
    pub id: CopyId,
    /// What is known of it.
    pub facts: CopyFacts,
    /// When it was registered.
    pub recorded_at: Timestamp,
    /// How it ended.
    pub end: Option<CopyEnd>,
}

/// Why a copy does not end so.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CopyMisstep {
    /// It has ended before.
    Ended,
    /// That lies before it was made.
    TooEarly,
}

impl DataCopy {
    /// Whether it should be destroyed by now and is not.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.end.is_none() && self.facts.destroy_by <= now
    }

    /// Whether it ended after its day.
    #[must_use]
    pub fn was_late(&self) -> bool {
        self.end.as_ref().is_some_and(|end| end.at > self.facts.destroy_by)
    }

    /// The same with its end.
    ///
    /// # Errors
    /// [`CopyMisstep`].
    pub fn ended(&self, end: CopyEnd) -> Result<Self, CopyMisstep> {
        if self.end.is_some() {
            return Err(CopyMisstep::Ended);
        }
        if end.at < self.facts.made_at {
            return Err(CopyMisstep::TooEarly);
        }
        Ok(Self { end: Some(end), ..self.clone() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn copy() -> DataCopy {
        DataCopy {
            id: CopyId::from_bytes([1; 16]),
            facts: CopyFacts {
                kind: CopyKind::Paper,
                purpose: "payments".parse().unwrap(),
                fields: vec!["iin".parse().unwrap()],
                subject: None,
                holder: Reference::parse("HR/12").unwrap(),
                reference: None,
                made_at: Timestamp::from_micros(10),
                destroy_by: Timestamp::from_micros(20),
            },
            recorded_at: Timestamp::from_micros(11),
            end: None,
        }
    }

    fn end(at: i64) -> CopyEnd {
        let act = Reference::parse("ACT-1").unwrap();
        CopyEnd { at: Timestamp::from_micros(at), outcome: CopyOutcome::Destroyed, act }
    }

    #[test]
    fn r46_a_copy_is_open_until_it_is_destroyed_and_overdue_from_its_day_on() {
        let overdue = |now| copy().is_overdue(Timestamp::from_micros(now));
        assert_eq!((overdue(19), overdue(20), overdue(21)), (false, true, true));
        let ended = copy().ended(end(20)).unwrap();
        assert!(!ended.is_overdue(Timestamp::from_micros(30)) && !ended.was_late());
        assert!(copy().ended(end(21)).unwrap().was_late() && !copy().was_late());
        assert_eq!(ended.ended(end(22)), Err(CopyMisstep::Ended), "it ends once");
        assert_eq!(copy().ended(end(9)), Err(CopyMisstep::TooEarly));
        assert!(copy().ended(end(10)).is_ok());
    }
}
