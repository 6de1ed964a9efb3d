//! Two officers of an open vault: what `admin` proposes, `second` approves.

use std::sync::Arc;

use sandyq::{
    crypto::random::SystemRng,
    domain::{
        caller::{Caller, Role},
        ids::RequestId,
        operation::Operation,
    },
    vault::{
        act::Asker,
        approval::{Approving, ToRun},
        callers::{CallerTerms, NewCaller},
        error::VaultError,
        persons::RoleOf,
        proposals::{PlanBytes, ProposalView},
        replay::{Asked, Part},
    },
};

use super::vault::{OpenVault, as_admin, staff};

pub async fn enrol_second(open: &OpenVault) {
    let (vault, admin) = (&open.vault, open.admin());
    let handle = "second".parse().unwrap();
    let person = vault.enrol_person(&admin, as_admin(), handle).await.unwrap().row.person.id;
    vault.grant_role(&admin, as_admin(), RoleOf { person, role: Role::SecurityOfficer }, "").await.unwrap();
    let terms = CallerTerms { name: "second".parse().unwrap(), roles: Vec::new(), pins: Vec::new() };
    let new = NewCaller { spiffe_id: staff("second"), terms, person: Some(person) };
    vault.enrol_caller(&admin, as_admin(), "vault", new).await.unwrap();
}

pub fn caller(open: &OpenVault, who: &str) -> Arc<Caller> {
    open.vault.caller(&staff(who)).unwrap()
}

pub fn asker(open: &OpenVault, who: &str, part: Part) -> Asker {
    let id = RequestId::new(open.clock.now(), &SystemRng::new()).unwrap();
    Asker { spiffe_id: staff(who), key: [0; 32], request: Some(Asked { id, body_mac: [0; 32], part }) }
}

/// A rekey of `lerna`, proposed.
pub async fn propose_rekey(open: &OpenVault) -> Result<Box<ProposalView>, VaultError> {
    let plan = PlanBytes::new(b"rekey".to_vec().into());
    let proposer = asker(open, "admin", Part::Plan(Arc::new(plan)));
    match open.vault.rekey_platform(&caller(open, "admin"), proposer, "lerna", 0).await {
        Err(VaultError::Proposed(view)) => Ok(view),
        Err(other) => Err(other),
        Ok(begun) => panic!("one person began {begun:?}"),
    }
}

/// The same, approved.
pub async fn begin_rekey(open: &OpenVault) -> Result<Operation, VaultError> {
    let view = propose_rekey(open).await?;
    let second = asker(open, "second", Part::Alone);
    let who = caller(open, "second");
    match open.vault.approve_proposal(&who, second, view.id, view.plan_sha256).await? {
        Approving::Before(view) => panic!("it ended before: {view:?}"),
        Approving::Run(run) => {
            let begun = open.vault.rekey_platform(&run.proposer, run.asker.clone(), "lerna", 0).await;
            let told = begun.clone().map(drop);
            ToRun::outcome(&run.asker, told)?;
            begun
        }
    }
}
