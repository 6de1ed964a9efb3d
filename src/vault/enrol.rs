//! Policy and callers from files: what differs from the database is written, logged and binding at once.

use std::collections::BTreeMap;

use super::{
    Vault,
    act::{Act, Claim, Flow, Plan, Reply, Scene, reply},
    context::Context,
    error::VaultError,
};
use crate::{
    audit::entry::{Entry, Verdict},
    crypto::digest::sha256,
    domain::{
        caller::{Caller, CallerState, Role},
        ids::{CallerId, EntryId, PlatformId},
        names::{CallerName, SpiffeId},
    },
    policy::model::{Policy, PolicyError},
    store::{
        Write,
        rows::{
            Mac,
            config::{CallerRow, PolicyRow},
        },
    },
};

/// A caller as a file declares it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DeclaredCaller {
    /// URI of its certificate.
    pub spiffe_id: SpiffeId,
    /// Its name in the policy.
    pub name: CallerName,
    /// Its roles.
    pub roles: Vec<Role>,
}

/// What a start changed.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// The policy version that was applied.
    pub policy_version: Option<u32>,
    /// Callers that were enrolled or changed.
    pub enrolled: usize,
    /// Callers that are no longer declared, and were disabled.
    pub disabled: usize,
}

/// Why the files were not taken over.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// The policy file is refused.
    #[error("the policy is refused")]
    Policy(#[from] PolicyError),
    /// The policy's text changed and its version did not rise.
    #[error(
        "the policy file differs from version {stored} in the database, but says it is version {file}; \
         a changed policy needs a higher version number"
    )]
    VersionNotRaised {
        /// Version in the database.
        stored: u32,
        /// Version in the file.
        file: u32,
    },
    /// Two callers with one name or one certificate URI.
    #[error("caller {0} is declared twice")]
    Duplicate(String),
    /// The caller belongs to another platform.
    #[error("caller {0} is enrolled with another platform")]
    OtherPlatform(SpiffeId),
    /// The vault could not write it.
    #[error("the vault could not take policy and callers over")]
    Vault(#[from] VaultError),
}

impl Vault {
    /// Takes a platform's policy and callers over from files. Callers that are no longer declared are disabled.
    ///
    /// # Errors
    /// [`EnrolError`]; nothing is changed then.
    pub async fn take_over(
        &self,
        platform: PlatformId,
        policy_text: Option<&str>,
        callers: &[DeclaredCaller],
    ) -> Result<Changes, EnrolError> {
        let context = self.context(platform)?;
        let mut by_id = BTreeMap::new();
        let mut names = std::collections::BTreeSet::new();
        for caller in callers {
            let twice = || EnrolError::Duplicate(caller.spiffe_id.to_string());
            if by_id.insert(caller.spiffe_id.clone(), caller.clone()).is_some() || !names.insert(&caller.name)
            {
                return Err(twice());
            }
            if self.caller(&caller.spiffe_id).is_ok_and(|known| known.platform != platform) {
                return Err(EnrolError::OtherPlatform(caller.spiffe_id.clone()));
            }
        }
        let policy = policy_text.map(|text| changed_policy(text, &context)).transpose()?.flatten();
        let (reply, waiting) = reply();
        let act = TakeOverAct { policy, declared: by_id, changes: Changes::default(), reply };
        self.platform(platform)?.lane.submit(act)?;
        Ok(waiting.answer().await?)
    }
}

/// The policy with its text, where it is not the one in force.
fn changed_policy(text: &str, context: &Context) -> Result<Option<(u32, String)>, EnrolError> {
    let policy = Policy::parse(text)?;
    let Some(stored) = context.policies().first() else { return Ok(Some((policy.version, text.to_owned()))) };
    if stored.row.sha256 == sha256(text.as_bytes()) {
        return Ok(None);
    }
    if policy.version <= stored.row.version {
        return Err(EnrolError::VersionNotRaised { stored: stored.row.version, file: policy.version });
    }
    Ok(Some((policy.version, text.to_owned())))
}

struct TakeOverAct {
    policy: Option<(u32, String)>,
    declared: BTreeMap<SpiffeId, DeclaredCaller>,
    changes: Changes,
    reply: Reply<Changes>,
}

impl Act for TakeOverAct {
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
        self.changes = Changes::default();
        if let Some((version, text)) = &self.policy {
            apply_policy(scene, plan, *version, text)?;
            self.changes.policy_version = Some(*version);
        }
        // Names are freed before they are given: a name may pass from one certificate to another in one commit.
        let mut freed = BTreeMap::new();
        for row in scene.context.callers().filter(|row| row.caller.state == CallerState::Enabled) {
            let declared = self.declared.get(&row.caller.spiffe_id);
            if declared.is_none_or(|declared| declared.name != row.caller.name) {
                let disabled = Caller { state: CallerState::Disabled, ..row.caller.clone() };
                let mac = put_caller(scene, plan, disabled, Some(row.mac), "DisableCaller")?;
                freed.insert(row.caller.spiffe_id.clone(), mac);
                self.changes.disabled += usize::from(declared.is_none());
            }
        }
        for declared in self.declared.values() {
            let known = scene.context.callers().find(|row| row.caller.spiffe_id == declared.spiffe_id);
            let caller = Caller {
                id: match known {
                    Some(known) => known.caller.id,
                    None => CallerId::random(scene.rng()).map_err(super::tokenize::unavailable)?,
                },
                platform: scene.context.platform,
                name: declared.name.clone(),
                spiffe_id: declared.spiffe_id.clone(),
                roles: declared.roles.clone(),
                pins: Vec::new(),
                person: None,
                state: CallerState::Enabled,
            };
            if known.is_none_or(|known| known.caller != caller) {
                let was = freed.get(&caller.spiffe_id).copied().or(known.map(|known| known.mac));
                put_caller(scene, plan, caller, was, "EnrolCaller")?;
                self.changes.enrolled += 1;
            }
        }
        plan.reconfigures = self.changes != Changes::default();
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        let Self { changes, reply, .. } = *self;
        reply.send(outcome.map(|()| changes));
    }
}

/// The vault itself acts: the files are the operator's, and no caller stands behind them.
fn own_entry(scene: &Scene<'_>, call: &str) -> Result<Entry, VaultError> {
    let id = EntryId::random(scene.rng()).map_err(super::tokenize::unavailable)?;
    Ok(Entry::new(id, scene.now, scene.context.platform, &format!("Start/{call}"), Verdict::Done))
}

fn apply_policy(scene: &Scene<'_>, plan: &mut Plan, version: u32, text: &str) -> Result<(), VaultError> {
    let mut row = PolicyRow {
        platform: scene.context.platform,
        version,
        text: text.to_owned(),
        sha256: sha256(text.as_bytes()),
        created_at: scene.now,
        mac: [0; 32],
    };
    row.mac = scene.keys().row.mac(&row.image());
    plan.entries.push(Entry {
        object_kind: Some("policy".to_owned()),
        object: Some(version.to_string().into_bytes()),
        policy_version: Some(version),
        row_mac: Some(row.mac.into()),
        detail_sha256: Some(row.sha256.into()),
        ..own_entry(scene, "ApplyPolicy")?
    });
    plan.writes.push(Write::InsertPolicy(row));
    Ok(())
}

fn put_caller(
    scene: &Scene<'_>,
    plan: &mut Plan,
    caller: Caller,
    was: Option<Mac>,
    call: &str,
) -> Result<Mac, VaultError> {
    let mut row = CallerRow { caller, updated_at: scene.now, mac: [0; 32] };
    row.mac = scene.keys().row.mac(&row.image());
    plan.entries.push(Entry {
        object_kind: Some("caller".to_owned()),
        object: Some(row.caller.id.as_bytes().to_vec()),
        row_mac: Some(row.mac.into()),
        detail_sha256: Some(sha256(row.image().as_bytes()).into()),
        ..own_entry(scene, call)?
    });
    let mac = row.mac;
    plan.writes.push(Write::PutCaller(row, was));
    Ok(mac)
}
