//! Proposals without a server: time that a test moves, and log and rows compared.

use std::{path::Path, sync::Arc};

use sandyq::{
    crypto::random::SystemRng,
    domain::{
        caller::{Caller, Governance, Role},
        ids::{PlatformId, RequestId},
        names::PersonHandle,
        proposal::ProposalState,
    },
    policy::decide::Denial,
    vault::{
        act::Asker,
        approval::{Approving, ToRun},
        callers::{CallerTerms, NewCaller},
        error::VaultError,
        page::PageAsk,
        persons::RoleOf,
        proposals::{PlanBytes, ProposalView},
        reconcile::{Problem, Step},
        replay::{Asked, Part},
        settings::Settings,
    },
};

use crate::common::{
    backend::{Backend, on_both},
    vault::{OpenVault, as_admin, settings, staff},
};

const HOUR_MICROS: i64 = 3_600_000_000;

/// An installation in two-person mode, whose officers are `admin` and `second`.
async fn two_people(backend: &Backend, dir: &Path) -> OpenVault {
    let open = OpenVault::create(backend, dir, |store| store).await;
    open.enrol_auditor().await;
    let (vault, admin) = (&open.vault, open.admin());
    let person = vault.enrol_person(&admin, as_admin(), handle("second")).await.unwrap().row.person.id;
    vault.grant_role(&admin, as_admin(), RoleOf { person, role: Role::SecurityOfficer }, "").await.unwrap();
    let terms = CallerTerms { name: "second".parse().unwrap(), roles: Vec::new(), pins: Vec::new() };
    let new = NewCaller { spiffe_id: staff("second"), terms, person: Some(person) };
    vault.enrol_caller(&admin, as_admin(), "vault", new).await.unwrap();
    let OpenVault { vault, clock } = open;
    let settings = Settings { governance: Governance::TwoPerson, ..settings() };
    OpenVault { vault: vault.with_settings(settings), clock }
}

fn handle(text: &str) -> PersonHandle {
    text.parse().unwrap()
}

fn caller(open: &OpenVault, who: &str) -> Arc<Caller> {
    open.vault.caller(&staff(who)).unwrap()
}

fn asker(open: &OpenVault, who: &str, part: Part) -> Asker {
    let id = RequestId::new(open.clock.now(), &SystemRng::new()).unwrap();
    Asker { spiffe_id: staff(who), key: [0; 32], request: Some(Asked { id, body_mac: [0; 32], part }) }
}

/// Proposes that somebody be made known.
async fn propose(open: &OpenVault, name: &str) -> ProposalView {
    let plan = PlanBytes::new(name.as_bytes().to_vec().into());
    let asker = asker(open, "admin", Part::Plan(Arc::new(plan)));
    match open.vault.enrol_person(&caller(open, "admin"), asker, handle(name)).await {
        Err(VaultError::Proposed(view)) => *view,
        other => panic!("not proposed: {other:?}"),
    }
}

async fn approve(open: &OpenVault, view: &ProposalView) -> Result<ProposalState, VaultError> {
    let who = caller(open, "second");
    let asker = asker(open, "second", Part::Alone);
    match open.vault.approve_proposal(&who, asker, view.id, view.plan_sha256).await? {
        Approving::Before(view) => Ok(view.state),
        Approving::Run(run) => {
            let name = handle(std::str::from_utf8(run.plan.expose()).unwrap());
            let done = open.vault.enrol_person(&run.proposer, run.asker.clone(), name).await;
            Ok(ToRun::outcome(&run.asker, done.map(drop))?.state)
        }
    }
}

fn is_known(open: &OpenVault, name: &str) -> bool {
    let context = open.vault.context(PlatformId::VAULT).unwrap();
    context.persons().any(|row| row.person.handle.as_str() == name)
}

on_both!(an_expired_proposal_is_not_approved);
async fn an_expired_proposal_is_not_approved(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = two_people(&backend, dir.path()).await;
    let (late, early) = (propose(&open, "late").await, propose(&open, "early").await);
    open.clock.advance(24 * HOUR_MICROS - 60_000_000);
    assert_eq!(approve(&open, &early).await, Ok(ProposalState::Approved));
    open.clock.advance(61_000_000);
    let expired = Err(VaultError::Denied(Denial::ProposalExpired));
    assert_eq!(approve(&open, &late).await, expired);
    assert!(is_known(&open, "early") && !is_known(&open, "late"));
    let (who, as_second) = (caller(&open, "second"), asker(&open, "second", Part::Alone));
    let rejected = open.vault.reject_proposal(&who, as_second.clone(), late.id).await;
    assert_eq!(rejected.map(|view| view.state), expired);
    // Some time later its row says so, and its request goes.
    let sealed = "UPDATE proposals SET reason = reason WHERE sealed_request IS NOT NULL";
    assert_eq!(backend.sql(dir.path(), sealed).await, 1);
    open.vault.end_expired_proposals().await.unwrap();
    open.vault.end_expired_proposals().await.unwrap();
    assert_eq!(backend.sql(dir.path(), sealed).await, 0);
    assert_eq!(approve(&open, &late).await, expired);
    assert_eq!(found(&open).await, []);
    let page = PageAsk { size: 10, after: None };
    let listed = open.vault.list_proposals(&who, as_second, "", Some(ProposalState::Expired), page).await;
    assert_eq!(listed.unwrap().rows.iter().map(|view| view.id).collect::<Vec<_>>(), [late.id]);
    open.vault.close().await;
}

on_both!(lists_are_paged_without_a_gap);
async fn lists_are_paged_without_a_gap(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = two_people(&backend, dir.path()).await;
    let mut made = Vec::new();
    for number in 0..7 {
        made.push(propose(&open, &format!("person{number}")).await.id);
    }
    let who = caller(&open, "second");
    let (mut seen, mut after) = (Vec::new(), None);
    loop {
        let (asker, page) = (asker(&open, "second", Part::Alone), PageAsk { size: 3, after });
        let page = open.vault.list_proposals(&who, asker, "", None, page).await.unwrap();
        assert!(page.rows.len() <= 3);
        seen.extend(page.rows.iter().map(|view| view.id));
        after = page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, made, "oldest first");
    open.vault.close().await;
}

on_both!(the_log_tells_a_proposal_that_was_put_back_deleted_or_edited);
async fn the_log_tells_a_proposal_that_was_put_back_deleted_or_edited(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = two_people(&backend, dir.path()).await;
    let (first, second, third) =
        (propose(&open, "first").await, propose(&open, "second-one").await, propose(&open, "third").await);
    assert_eq!(found(&open).await, []);
    backend.sql(dir.path(), "CREATE TABLE saved AS SELECT * FROM proposals").await;
    let who = caller(&open, "second");
    for view in [&first, &second] {
        open.vault.reject_proposal(&who, asker(&open, "second", Part::Alone), view.id).await.unwrap();
    }
    assert_eq!(found(&open).await, []);
    let id = |view: &ProposalView| data_encoding::HEXLOWER.encode(view.id.as_bytes());
    // The rejected proposal stands open again, with the MAC of that time.
    backend.sql(dir.path(), &format!("DELETE FROM proposals WHERE proposal_id = x'{}'", id(&first))).await;
    let back = format!("INSERT INTO proposals SELECT * FROM saved WHERE proposal_id = x'{}'", id(&first));
    assert_eq!(backend.sql(dir.path(), &back).await, 1);
    backend.sql(dir.path(), &format!("DELETE FROM proposals WHERE proposal_id = x'{}'", id(&second))).await;
    let edit = format!("UPDATE proposals SET mac = zeroblob(32) WHERE proposal_id = x'{}'", id(&third));
    assert_eq!(backend.sql(dir.path(), &edit).await, 1);
    let mut expected =
        [(first.id, Problem::Stale), (second.id, Problem::Missing), (third.id, Problem::Edited)]
            .map(|(id, problem)| (id.as_bytes().to_vec(), problem));
    expected.sort_by(|a, b| a.0.cmp(&b.0));
    assert_eq!(found(&open).await, expected);
    open.vault.close().await;
}

/// What a reconciliation of the vault's own log finds, by id.
async fn found(open: &OpenVault) -> Vec<(Vec<u8>, Problem)> {
    let who = caller(open, "auditor");
    let asker = asker(open, "auditor", Part::Alone);
    let mut steps = open.vault.reconcile_log(&who, asker, "vault").await.unwrap();
    let mut findings = Vec::new();
    while let Some(step) = steps.recv().await {
        if let Step::Result(result) = step.unwrap() {
            assert!(result.findings.iter().all(|finding| finding.table == "proposals"));
            findings.extend(result.findings.into_iter().map(|finding| (finding.object, finding.problem)));
        }
    }
    findings.sort_by(|a, b| a.0.cmp(&b.0));
    findings
}
