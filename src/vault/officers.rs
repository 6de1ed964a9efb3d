//! The first officers: enrolled once, when an installation is made, by whoever holds its root key. Everybody after
//! them is enrolled by somebody.

use super::{
    Vault,
    act::{Act, Claim, Flow, Plan, Reply, Scene, reply},
    error::VaultError,
    persons::role_object,
    tokenize::unavailable,
};
use crate::{
    audit::entry::{Entry, Verdict},
    crypto::digest::sha256,
    domain::{
        caller::{Caller, CallerState, Governance, Person, Role, RoleGrant},
        canonical::Canonical,
        ids::{CallerId, EntryId, PersonId, PlatformId},
        names::{CallerName, PersonHandle, SpiffeId},
    },
    store::{
        Write,
        rows::{
            Mac,
            config::{CallerRow, PersonRow, RoleGrantRow},
        },
    },
};

/// A person as the configuration names them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Officer {
    /// Such as a staff number.
    pub handle: PersonHandle,
    /// URI of the certificate.
    pub spiffe_id: SpiffeId,
    /// Roles on the whole installation.
    pub roles: Vec<Role>,
}

impl Officer {
    /// The name of the officer's caller: the handle, as far as a caller's name can hold it.
    fn caller_name(&self) -> Option<CallerName> {
        let name = self.handle.as_str().replace(['.', '-'], "_");
        name.parse().or_else(|_| format!("officer_{name}").parse()).ok()
    }
}

/// What the officers of a configuration break; nothing where they can be enrolled.
///
/// # Errors
/// The rule.
pub fn check_officers(officers: &[Officer], governance: Governance) -> Result<(), &'static str> {
    let officers_of_security = officers.iter().filter(|o| o.roles.contains(&Role::SecurityOfficer)).count();
    match (governance, officers_of_security) {
        (_, 0) => {
            return Err(
                "at least one [[officer]] needs the role security_officer: nobody could enrol anybody",
            );
        }
        (Governance::TwoPerson, 1) => {
            return Err(
                "in two-person mode two [[officer]] need the role security_officer: nobody could approve what \
                        the other proposes",
            );
        }
        (Governance::TwoPerson | Governance::SingleOfficer, _) => {}
    }
    if officers.iter().any(|o| o.roles.is_empty() || o.roles.contains(&Role::Service)) {
        return Err("an [[officer]] has at least one role, and never service");
    }
    let alike = |a: &Officer, b: &Officer| {
        a.handle == b.handle || a.spiffe_id == b.spiffe_id || a.caller_name() == b.caller_name()
    };
    let twice = officers.iter().enumerate().any(|(i, a)| officers.iter().skip(i + 1).any(|b| alike(a, b)));
    if twice { Err("two [[officer]] have the same handle or spiffe_id") } else { Ok(()) }
}

impl Vault {
    /// Whether the installation has no persons yet, and so nobody who could enrol anybody.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`].
    pub fn has_nobody(&self) -> Result<bool, VaultError> {
        Ok(self.context(PlatformId::VAULT)?.persons().next().is_none())
    }

    /// Enrols the first officers, with their callers and roles, in one commit. Does nothing where the installation has
    /// persons already, and answers whether it did something.
    ///
    /// # Errors
    /// [`VaultError`]; [`VaultError::Invalid`] where they break a rule.
    pub async fn enrol_officers(&self, officers: Vec<Officer>) -> Result<bool, VaultError> {
        check_officers(&officers, self.settings.governance)
            .map_err(|rule| VaultError::invalid("officer", rule))?;
        for officer in &officers {
            let domain = self.settings.check(&officer.spiffe_id, PlatformId::VAULT);
            domain.map_err(|rule| VaultError::invalid("officer.spiffe_id", rule))?;
        }
        let (reply, waiting) = reply();
        let act = EnrolAct { officers, enrolled: false, reply };
        self.platform(PlatformId::VAULT)?.lane.submit(act)?;
        waiting.answer().await
    }
}

struct EnrolAct {
    officers: Vec<Officer>,
    enrolled: bool,
    reply: Reply<bool>,
}

impl Act for EnrolAct {
    fn writes(&self) -> bool {
        true
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_abandoned()
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        if !plan.claim(Claim::Config) {
            return Ok(Flow::Later);
        }
        self.enrolled = scene.context.persons().next().is_none();
        if self.enrolled {
            for officer in &self.officers {
                enrol(scene, plan, officer)?;
            }
            plan.reconfigures = true;
        }
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        let Self { enrolled, reply, .. } = *self;
        reply.send(outcome.map(|()| enrolled));
    }
}

fn enrol(scene: &Scene<'_>, plan: &mut Plan, officer: &Officer) -> Result<(), VaultError> {
    let now = scene.now;
    let id = PersonId::random(scene.rng()).map_err(unavailable)?;
    let person = Person { id, handle: officer.handle.clone(), state: CallerState::Enabled };
    let mut row = PersonRow { person, created_at: now, updated_at: now, mac: [0; 32] };
    row.mac = log(scene, plan, "EnrolPerson", ("person", id.as_bytes().to_vec()), &row.image())?;
    plan.writes.push(Write::PutPerson(row, None));

    let caller = Caller {
        id: CallerId::random(scene.rng()).map_err(unavailable)?,
        platform: PlatformId::VAULT,
        name: officer.caller_name().ok_or(VaultError::invalid("officer.handle", "is too long"))?,
        spiffe_id: officer.spiffe_id.clone(),
        roles: Vec::new(),
        pins: Vec::new(),
        person: Some(id),
        state: CallerState::Enabled,
    };
    let mut row = CallerRow { caller, created_at: now, updated_at: now, mac: [0; 32] };
    let object = ("caller", row.caller.id.as_bytes().to_vec());
    row.mac = log(scene, plan, "EnrolCaller", object, &row.image())?;
    plan.writes.push(Write::PutCaller(row, None));

    let mut roles = officer.roles.clone();
    roles.sort();
    roles.dedup();
    for role in roles {
        let grant = RoleGrant { person: id, role, scope: PlatformId::VAULT, state: CallerState::Enabled };
        let mut row = RoleGrantRow { grant, updated_at: now, mac: [0; 32] };
        row.mac = log(scene, plan, "GrantRole", ("role", role_object(&grant)), &row.image())?;
        plan.writes.push(Write::PutRole(row, None));
    }
    Ok(())
}

/// The entry of a row that the vault itself makes: no caller stands behind it. Answers the row's MAC.
fn log(
    scene: &Scene<'_>,
    plan: &mut Plan,
    call: &str,
    (kind, object): (&str, Vec<u8>),
    image: &Canonical,
) -> Result<Mac, VaultError> {
    let id = EntryId::random(scene.rng()).map_err(unavailable)?;
    let mac = scene.keys().row.mac(image);
    plan.entries.push(Entry {
        object_kind: Some(kind.to_owned()),
        object: Some(object),
        row_mac: Some(mac.into()),
        detail_sha256: Some(sha256(image.as_bytes()).into()),
        ..Entry::new(id, scene.now, scene.context.platform, &format!("Install/{call}"), Verdict::Done)
    });
    Ok(mac)
}
