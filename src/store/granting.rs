//! Tables whose rows grant something.

/// Which rows a reconciliation walks, in the order of their ids.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum GrantingTable {
    /// `subjects`.
    Subjects,
    /// `tokens`, by row id.
    Tokens,
    /// `consents`.
    Consents,
    /// `subject_events`.
    Events,
    /// `proposals`.
    Proposals,
    /// `rights_cases`.
    Cases,
    /// `breaches`.
    Breaches,
    /// `data_copies`.
    Copies,
    /// `documents`, by row id: one version of one side.
    Documents,
}

impl GrantingTable {
    /// Each of them.
    pub const ALL: [Self; 9] = [
        Self::Subjects,
        Self::Tokens,
        Self::Consents,
        Self::Events,
        Self::Proposals,
        Self::Cases,
        Self::Breaches,
        Self::Copies,
        Self::Documents,
    ];
}
