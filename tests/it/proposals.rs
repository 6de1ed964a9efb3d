//! Proposals without a server: time that a test moves, and log and rows compared.

use std::{path::Path, sync::Arc};

use prost::Message as _;
use sandyq::{
    crypto::random::SystemRng,
    domain::{
        caller::Governance,
        ids::{PlatformId, ProposalId, RequestId},
        names::PersonHandle,
        proposal::ProposalState,
        time::Timestamp,
    },
    grpc::{
        authn::{Mark, Peer, Standing},
        block_list::BlockList,
        pb::{self, proposal_service_server::ProposalService as _},
        proposal_service::ProposalService,
        tls::Shown,
    },
    policy::decide::Denial,
    vault::{
        Vault,
        approval::{Approving, ToRun},
        error::VaultError,
        page::PageAsk,
        proposals::{Listed, PlanBytes, ProposalView},
        reconcile::{Problem, Step},
        replay::Part,
        settings::Settings,
    },
};

use tonic::{Request, Status};

use crate::common::{
    backend::{Backend, on_both},
    house::state,
    officers::{asker, caller, enrol_second},
    served::reason,
    vault::{OpenVault, settings, staff},
};

const HOUR_MICROS: i64 = 3_600_000_000;

/// An installation in two-person mode, whose officers are `admin` and `second`.
async fn two_people(backend: &Backend, dir: &Path) -> OpenVault {
    let open = OpenVault::create(backend, dir, |store| store).await;
    open.enrol_auditor().await;
    enrol_second(&open).await;
    let OpenVault { vault, clock } = open;
    let settings = Settings { governance: Governance::TwoPerson, ..settings() };
    OpenVault { vault: vault.with_settings(settings), clock }
}

fn handle(text: &str) -> PersonHandle {
    text.parse().unwrap()
}

/// Proposes that somebody be made known.
async fn propose(open: &OpenVault, name: &str) -> ProposalView {
    propose_as(open, name, name.as_bytes()).await
}

/// The same with these bytes as the request.
async fn propose_as(open: &OpenVault, name: &str, request: &[u8]) -> ProposalView {
    let plan = PlanBytes::new(request.to_vec().into());
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
    assert_eq!(listed.unwrap().page.rows.iter().map(|view| view.id).collect::<Vec<_>>(), [late.id]);
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
        assert!(page.page.rows.len() <= 3);
        seen.extend(page.page.rows.iter().map(|view| view.id));
        after = page.page.next;
        if after.is_none() {
            break;
        }
    }
    assert_eq!(seen, made, "oldest first");
    open.vault.close().await;
}

on_both!(a_damaged_row_is_told_and_hides_no_other);
async fn a_damaged_row_is_told_and_hides_no_other(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = two_people(&backend, dir.path()).await;
    let (first, second) = (propose(&open, "first").await.id, propose(&open, "another").await.id);
    let hex = data_encoding::HEXLOWER.encode(first.as_bytes());
    let edit = format!("UPDATE proposals SET mac = zeroblob(32) WHERE proposal_id = x'{hex}'");
    assert_eq!(backend.sql(dir.path(), &edit).await, 1);
    for wanted in [None, Some(ProposalState::Open)] {
        let listed = list(&open, wanted, None).await;
        assert_eq!((ids(&listed), &listed.damaged[..]), (vec![second], &[first][..]));
    }
    // A list never holds the sealed requests.
    let after = (Timestamp::from_micros(0), ProposalId::from_bytes([0; 16]));
    open.vault.close().await;
    drop(open);
    let rows = backend.store(dir.path()).await.proposals(PlatformId::VAULT, after, None, 9).await.unwrap();
    assert!(rows.len() == 2 && rows.iter().all(|row| row.sealed.is_none()), "{rows:?}");
}

on_both!(a_page_looks_at_a_bounded_number_of_rows_and_open_ones_are_found_at_once);
async fn a_page_looks_at_a_bounded_number_of_rows_and_open_ones_are_found_at_once(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = two_people(&backend, dir.path()).await;
    let id = propose(&open, "last").await.id;
    let row = |number: u32| {
        format!(
            "(0, x'{number:032x}', 'PlatformService/EnrolPerson', zeroblob(32), zeroblob(16), zeroblob(16), {number}, \
             9999999, 'expired', 1, zeroblob(32))"
        )
    };
    let rows: Vec<_> = (1..=2_100).map(row).collect();
    let insert = format!(
        "INSERT INTO proposals (platform_id, proposal_id, call, plan_sha256, person_id, caller_id, created_at, \
         expires_at, state, ended_at, mac) VALUES {}",
        rows.join(", ")
    );
    assert_eq!(backend.sql(dir.path(), &insert).await, 2_100);
    let at_once = list(&open, Some(ProposalState::Open), None).await;
    assert_eq!((ids(&at_once), at_once.damaged.len()), (vec![id], 0), "ended ones are not even read");
    let first = list(&open, None, None).await;
    assert_eq!((ids(&first), first.damaged.len()), (vec![], 2_000));
    let rest = list(&open, None, first.page.next).await;
    assert_eq!((ids(&rest), rest.damaged.len(), rest.page.next), (vec![id], 100, None));
    open.vault.close().await;
}

async fn list(open: &OpenVault, wanted: Option<ProposalState>, after: Option<(String, String)>) -> Listed {
    let (asker, page) = (asker(open, "second", Part::Alone), PageAsk { size: 10, after });
    open.vault.list_proposals(&caller(open, "second"), asker, "vault", wanted, page).await.unwrap()
}

fn ids(listed: &Listed) -> Vec<ProposalId> {
    listed.page.rows.iter().map(|view| view.id).collect()
}

/// What the service answers to the approval of a proposal, as `second`.
async fn approve_by_service(
    vault: &Arc<Vault>,
    view: &ProposalView,
    standing: Option<BlockList>,
) -> Result<pb::ProposalRecord, Status> {
    let mut request = Request::new(pb::ApproveProposalRequest {
        request_id: RequestId::new(vault.clock().now(), &SystemRng::new()).unwrap().to_string(),
        proposal_id: view.id.to_string(),
        plan_sha256: view.plan_sha256.to_vec(),
    });
    let mark = Mark { key: [0; 32], issuer: [0; 32], serial: vec![1] };
    request.extensions_mut().insert(Peer {
        spiffe_id: staff("second"),
        mark: mark.clone(),
        shown: Shown::default(),
    });
    if let Some(list) = standing {
        request.extensions_mut().insert(Standing::new(Arc::new(list), mark));
    }
    let answer = ProposalService::new(Arc::clone(vault)).approve_proposal(request).await?;
    Ok(answer.into_inner().proposal.unwrap())
}

on_both!(a_request_that_cannot_be_carried_out_ends_its_proposal);
async fn a_request_that_cannot_be_carried_out_ends_its_proposal(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = two_people(&backend, dir.path()).await;
    // Bytes that are no message; and a message that breaks a rule, as one of a release with other rules may.
    let (none, broken) = (propose(&open, "third").await, propose_as(&open, "fourth", &[0x12, 1, b'!']).await);
    let vault = Arc::new(open.vault);
    for view in [&none, &broken] {
        let record = approve_by_service(&vault, view, None).await.unwrap();
        let said = (record.failure_reason.as_str(), state(&record));
        assert_eq!(said, ("INVALID_FIELDS", pb::ProposalState::Failed));
        let again = approve_by_service(&vault, view, None).await.unwrap_err();
        assert_eq!(reason(&again), "PROPOSAL_ENDED");
    }
}

on_both!(an_approver_who_was_blocked_since_the_call_began_approves_nothing);
async fn an_approver_who_was_blocked_since_the_call_began_approves_nothing(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = two_people(&backend, dir.path()).await;
    let plan = pb::EnrolPersonRequest { request_id: String::new(), handle: "third".into() };
    let view = propose_as(&open, "third", &plan.encode_to_vec()).await;
    let vault = Arc::new(open.vault);
    let list = |text: String| {
        let file = dir.path().join("blocked.txt");
        std::fs::write(&file, text).unwrap();
        BlockList::open(&file).unwrap()
    };
    let blocked = list(format!("key {}\n", "00".repeat(32)));
    let refused = approve_by_service(&vault, &view, Some(blocked)).await.unwrap_err();
    assert_eq!(reason(&refused), "CERTIFICATE_BLOCKED");
    // The control: with another's certificate on the list it is approved.
    let other = list(format!("key {}\n", "01".repeat(32)));
    let record = approve_by_service(&vault, &view, Some(other)).await.unwrap();
    assert_eq!(state(&record), pb::ProposalState::Approved, "{record:?}");
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
