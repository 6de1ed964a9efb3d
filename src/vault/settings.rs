//! What an operator declares outside the database, as far as use cases depend on it.

use std::{sync::Arc, time::Duration};

use crate::domain::{
    calendar::WorkingCalendar, caller::Governance, ids::PlatformId, names::SpiffeId, staff_key::HardwareKeys,
};

/// A trust domain to which the configuration binds a client authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustDomain {
    /// Such as `lerna.kz`.
    pub name: String,
    /// Whether it is the staff's; platforms and staff never share one.
    pub staff: bool,
}

/// What the configuration says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Trust domains that callers may be of; a certificate of any other gets no handshake.
    pub domains: Vec<TrustDomain>,
    /// How many people a dangerous act needs.
    pub governance: Governance,
    /// How long a proposal can be approved.
    pub proposal_time: Duration,
    /// Whether staff has hardware keys.
    pub hardware_keys: HardwareKeys,
    /// Subjects up to which there may be none.
    pub absent_up_to: u64,
    /// By which calendar working days are counted.
    pub calendar: Arc<WorkingCalendar>,
}

const DAY: Duration = Duration::from_hours(24);

impl Default for Settings {
    /// Nobody can be enrolled.
    fn default() -> Self {
        Self {
            domains: Vec::new(),
            governance: Governance::SingleOfficer,
            proposal_time: DAY,
            hardware_keys: HardwareKeys::DeclaredAbsent,
            absent_up_to: u64::MAX,
            calendar: Arc::new(WorkingCalendar::kazakhstan()),
        }
    }
}

impl Settings {
    /// Whether a certificate URI may be a caller of a platform.
    ///
    /// # Errors
    /// The rule that it breaks.
    pub(super) fn check(&self, certificate: &SpiffeId, platform: PlatformId) -> Result<(), &'static str> {
        let domain = self.domains.iter().find(|domain| domain.name == certificate.trust_domain());
        match domain {
            None => Err("no client authority is declared for its trust domain"),
            Some(domain) if domain.staff && platform != PlatformId::VAULT => {
                Err("its trust domain is the staff's, which no platform shares")
            }
            Some(domain) if !domain.staff && platform == PlatformId::VAULT => {
                Err("its trust domain is a platform's, which staff does not share")
            }
            Some(_) => Ok(()),
        }
    }
}
