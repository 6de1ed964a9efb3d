//! The horizon of backups: how old a key may become that could open what was erased since.

use super::{
    canonical::Canonical,
    code::coded,
    ids::{HorizonId, PersonId},
    time::Timestamp,
};

coded!(
    /// Where a standing plan stands.
    HorizonState, "state of a horizon plan" {
        /// It holds until it expires.
        Active = "active",
        /// Somebody ended it, or another took its place.
        Revoked = "revoked",
    }
);

/// What a standing plan lets happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HorizonTerms {
    /// Days after which a version of a platform, index or root key is destroyed.
    pub horizon_days: u32,
    /// Days after which it is replaced.
    pub rotate_days: u32,
}

impl HorizonTerms {
    /// What an approval is bound to.
    #[must_use]
    pub fn image(self) -> Canonical {
        Canonical::new("horizon plan").int(i64::from(self.horizon_days)).int(i64::from(self.rotate_days))
    }
}

/// A standing plan: approved once, in advance, for every run until it expires.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HorizonPlan {
    /// Id.
    pub id: HorizonId,
    /// What it lets happen.
    pub terms: HorizonTerms,
    /// SHA-256 of the terms' image.
    pub sha256: [u8; 32],
    /// Who proposed it.
    pub proposer: PersonId,
    /// Who approved it; nobody where one officer is enough.
    pub approver: Option<PersonId>,
    /// State.
    pub state: HorizonState,
    /// Until when it holds.
    pub expires_at: Timestamp,
}
