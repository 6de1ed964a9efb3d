//! Acts that wait for a second person.

use super::code::coded;

coded!(
    /// Where a proposal stands.
    ProposalState, "proposal state" {
        /// Somebody else may approve it.
        Open = "open",
        /// Approved, and done with the same commit.
        Approved = "approved",
        /// Refused by somebody, or withdrawn by its proposer.
        Rejected = "rejected",
        /// Its time ended first.
        Expired = "expired",
        /// Approved, but what it asks could not be done any more.
        Failed = "failed",
    }
);
