//! Callers: services and persons that an installation knows by their certificates.

use super::{
    code::coded,
    ids::{CallerId, PlatformId},
    names::{CallerName, SpiffeId},
};

coded!(
    /// What a caller may do.
    Role, "role" {
        /// A platform's backend: values and consents, as far as the policy names it.
        Service = "service",
        /// Reads the log, never a value.
        Auditor = "auditor",
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
    /// Its roles.
    pub roles: Vec<Role>,
    /// Its state.
    pub state: CallerState,
}
