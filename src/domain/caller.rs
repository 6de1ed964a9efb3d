//! Callers: services and persons that an installation knows by their certificates.

use super::{
    code::coded,
    ids::{CallerId, PersonId, PlatformId},
    names::{CallerName, PersonHandle, SpiffeId},
};

coded!(
    /// What a caller may do.
    Role, "role" {
        /// A platform's backend: values and consents, as far as the policy names it.
        Service = "service",
        /// Reads the log, never a value.
        Auditor = "auditor",
        /// Keys, persons and their roles.
        SecurityOfficer = "security_officer",
        /// Consents, restriction, erasure and the explanation of decisions.
        DataProtection = "data_protection",
        /// Platforms, policies, callers, recipients, limits.
        PlatformAdmin = "platform_admin",
    }
);

coded!(
    /// How many people a dangerous act needs.
    Governance, "mode of governance" {
        /// One: whoever has the role does it alone.
        SingleOfficer = "single-officer",
        /// Two: what one proposes, another person approves.
        TwoPerson = "two-person",
    }
);

coded!(
    /// Where a caller stands.
    CallerState, "caller state" {
        /// May call.
        Enabled = "enabled",
        /// Refused at every call.
        Disabled = "disabled",
    }
);

/// SHA-256 of a certificate's subject public key info.
pub type KeyPin = [u8; 32];

/// An enrolled caller.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// Id in the log.
    pub id: CallerId,
    /// The platform it belongs to.
    pub platform: PlatformId,
    /// Its name in the platform's policy.
    pub name: CallerName,
    /// The URI of its certificate.
    pub spiffe_id: SpiffeId,
    /// Its own roles, on its own platform; a staff caller has those of its person instead.
    pub roles: Vec<Role>,
    /// Keys that its certificate may have; any, where there is none.
    pub pins: Vec<KeyPin>,
    /// The person behind a staff caller: two certificates can be one person.
    pub person: Option<PersonId>,
    /// Its state.
    pub state: CallerState,
}

impl Caller {
    /// Whether its certificate may have this key.
    #[must_use]
    pub fn accepts_key(&self, key: &KeyPin) -> bool {
        self.pins.is_empty() || self.pins.contains(key)
    }
}

/// A person of the staff, by a handle that is no name.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Person {
    /// Id in the log.
    pub id: PersonId,
    /// Such as a staff number.
    pub handle: PersonHandle,
    /// Whether the person may act.
    pub state: CallerState,
}

/// A role of a person.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct RoleGrant {
    /// Who.
    pub person: PersonId,
    /// What.
    pub role: Role,
    /// Where; on the vault's own platform it holds for the whole installation.
    pub scope: PlatformId,
    /// Whether it holds still.
    pub state: CallerState,
}

impl RoleGrant {
    /// Whether the grant gives the role on a platform.
    #[must_use]
    pub fn covers(&self, role: Role, platform: PlatformId) -> bool {
        self.state == CallerState::Enabled
            && self.role == role
            && (self.scope == platform || self.scope == PlatformId::VAULT)
    }
}
