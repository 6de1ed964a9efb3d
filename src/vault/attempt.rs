//! How one attempt at a commit ended.

/// How one attempt at a commit ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Attempt {
    Committed,
    /// Nothing was written, because another writer moved the head.
    Moved,
    /// Nothing was written, because a row did not meet what its write stated: read and decide again.
    Conflict,
    /// Nothing was written, because the database refused it. It answers: each act may run alone.
    Refused,
    /// It is unknown whether anything was written. The acts must not run again.
    Failed,
}

impl Attempt {
    /// As metrics name them, by [`Self::index`].
    pub(super) const NAMES: [&'static str; 5] = ["committed", "moved", "conflict", "refused", "failed"];

    pub(super) const fn index(self) -> usize {
        match self {
            Self::Committed => 0,
            Self::Moved => 1,
            Self::Conflict => 2,
            Self::Refused => 3,
            Self::Failed => 4,
        }
    }
}
