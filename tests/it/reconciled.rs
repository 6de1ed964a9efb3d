//! Log and rows compared: what a database administrator does to rows together with their MACs, which no read can tell.

use std::{path::Path, process::Command};

use sandyq::{
    audit::entry::Entry,
    domain::{names::SpiffeId, token::AnyToken},
    policy::decide::Denial,
    vault::{
        Vault,
        act::Asker,
        error::VaultError,
        reconcile::{Problem, Reconciled, Step},
        tokenize::Tokenized,
    },
};

use crate::common::{
    backend::{Backend, on_both},
    served::{Served, request_id},
    vault::{OpenVault, PLATFORM, asker},
};

fn auditor() -> SpiffeId {
    "spiffe://vault.example.kz/auditor".parse().unwrap()
}

async fn create(backend: &Backend, dir: &Path) -> OpenVault {
    let open = OpenVault::create(backend, dir, |store| store).await;
    open.enrol_auditor().await;
    open
}

pub async fn reconcile(open: &OpenVault, platform: &str) -> Reconciled {
    reconcile_vault(&open.vault, platform).await
}

pub async fn reconcile_vault(vault: &Vault, platform: &str) -> Reconciled {
    let caller = vault.caller(&auditor()).unwrap();
    let asker = Asker { spiffe_id: auditor(), key: [0; 32], request: None };
    let mut steps = vault.reconcile_log(&caller, asker, platform).await.unwrap();
    let mut result = None;
    while let Some(step) = steps.recv().await {
        match step.unwrap() {
            Step::Progress { entries_read, entries, .. } => {
                assert!(result.is_none() && entries_read <= entries);
            }
            Step::Result(last) => result = Some(last),
        }
    }
    result.expect("a result comes last")
}

pub fn found(result: &Reconciled) -> Vec<(&'static str, Problem)> {
    result.findings.iter().map(|finding| (finding.table, finding.problem)).collect()
}

async fn withdraw(open: &OpenVault, stored: &Tokenized) {
    let caller = open.caller("backend");
    open.vault.withdraw_consent(&caller, asker("backend"), "", stored.consents[0]).await.unwrap();
}

on_both!(an_honest_installation_agrees_with_its_log);
async fn an_honest_installation_agrees_with_its_log(backend: Backend) {
    let mut kept = None;
    let dir = tempfile::tempdir().unwrap();
    let open =
        OpenVault::create(&backend, dir.path(), |store| std::sync::Arc::clone(kept.insert(store))).await;
    open.enrol_auditor().await;
    for number in 0..20 {
        let stored = open.store_iin(number).await;
        if number % 3 == 0 {
            withdraw(&open, &stored).await;
        }
    }
    open.disable("support").await;
    for platform in ["lerna", "vault"] {
        let result = reconcile(&open, platform).await;
        assert_eq!(found(&result), [], "{platform}");
        assert!(result.rows_checked > 5);
    }
    assert!(reconcile(&open, "lerna").await.rows_checked > 60);
    let rows = kept.unwrap().entries(PLATFORM, 0, 10_000).await.unwrap();
    let runs: Vec<_> = rows
        .iter()
        .map(|row| Entry::decode(&row.entry).unwrap())
        .filter(|entry| entry.call == "Reconciliation/Run")
        .collect();
    assert_eq!(runs.len(), 2);
    assert!(runs.iter().all(|run| run.verdict == "done" && run.count == Some(0) && run.caller.is_none()));
}

on_both!(writes_in_between_are_no_findings);
async fn writes_in_between_are_no_findings(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = create(&backend, dir.path()).await;
    let writing = async {
        for number in 0..40 {
            let stored = open.store_iin(number).await;
            withdraw(&open, &stored).await;
        }
    };
    let reading = async {
        for _ in 0..10 {
            assert_eq!(found(&reconcile(&open, "lerna").await), []);
        }
    };
    tokio::join!(writing, reading);
}

/// Copies a table's rows, and puts the copies back in the place of what became of them.
struct Saved(&'static str, &'static str);

impl Saved {
    async fn take(&self, backend: &Backend, dir: &Path) {
        backend.sql(dir, &format!("CREATE TABLE saved_{0} AS SELECT * FROM {0}", self.0)).await;
    }

    async fn put_back(&self, backend: &Backend, dir: &Path) {
        let Self(table, key) = self;
        let delete = format!("DELETE FROM {table} WHERE {key} IN (SELECT {key} FROM saved_{table})");
        assert!(backend.sql(dir, &delete).await > 0);
        backend.sql(dir, &format!("INSERT INTO {table} SELECT * FROM saved_{table}")).await;
    }
}

/// The same vault with nothing at hand.
async fn reopened(open: OpenVault, backend: &Backend, dir: &Path) -> OpenVault {
    open.vault.close().await;
    drop(open);
    OpenVault::open(backend, dir, None).await.unwrap()
}

on_both!(a_withdrawal_undone_together_with_its_mac_is_found);
async fn a_withdrawal_undone_together_with_its_mac_is_found(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = create(&backend, dir.path()).await;
    let (first, _second) = (open.store_iin(1).await, open.store_iin(2).await);
    let saved = Saved("consents", "consent_id");
    saved.take(&backend, dir.path()).await;
    withdraw(&open, &first).await;
    let refused = open.detokenize(&first.tokens[0].token).await.err();
    assert_eq!(refused, Some(VaultError::Denied(Denial::ConsentWithdrawn)));
    saved.put_back(&backend, dir.path()).await;
    let told = open.detokenize(&first.tokens[0].token).await.err();
    assert_eq!(told, refused, "what is at hand is as it was");
    let open = reopened(open, &backend, dir.path()).await;
    assert!(open.detokenize(&first.tokens[0].token).await.is_ok(), "no read can tell");

    let result = reconcile(&open, "lerna").await;
    assert_eq!(found(&result), [("consents", Problem::Stale)]);
    assert_eq!(result.findings[0].object, first.consents[0].as_bytes());
    // The finding stands in the log, and once more where nobody mends it.
    assert_eq!(found(&reconcile(&open, "lerna").await).len(), 1);
}

on_both!(a_token_put_back_after_its_revocation_is_found);
async fn a_token_put_back_after_its_revocation_is_found(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = create(&backend, dir.path()).await;
    let (first, _second) = (open.store_iin(1).await, open.store_iin(2).await);
    let saved = Saved("tokens", "token_id");
    saved.take(&backend, dir.path()).await;
    let token = AnyToken::parse(&first.tokens[0].token.reveal()).unwrap();
    open.vault.revoke_token(&open.caller("backend"), asker("backend"), token).await.unwrap();
    let refused = open.detokenize(&first.tokens[0].token).await.err();
    assert_eq!(refused, Some(VaultError::Denied(Denial::TokenRevoked)));
    saved.put_back(&backend, dir.path()).await;
    let told = open.detokenize(&first.tokens[0].token).await.err();
    assert_eq!(told, refused, "what is at hand is as it was");
    let open = reopened(open, &backend, dir.path()).await;
    assert!(open.detokenize(&first.tokens[0].token).await.is_ok(), "no read can tell");
    assert_eq!(found(&reconcile(&open, "lerna").await), [("tokens", Problem::Stale)]);
}

on_both!(a_policy_put_in_the_place_of_another_is_found);
async fn a_policy_put_in_the_place_of_another_is_found(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = create(&backend, dir.path()).await;
    backend.sql(dir.path(), "DELETE FROM policies").await;
    assert_eq!(found(&reconcile(&open, "lerna").await), [("policies", Problem::Missing)]);
}

on_both!(rows_that_were_deleted_inserted_or_edited_are_found);
async fn rows_that_were_deleted_inserted_or_edited_are_found(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = create(&backend, dir.path()).await;
    for number in 0..5 {
        open.store_iin(number).await;
    }
    let one = |table: &str, key: &str| format!("(SELECT {key} FROM {table} ORDER BY {key} LIMIT 1)");
    let token = one("tokens", "token_id");
    let consent = one("consents", "consent_id");
    for (sql, expected) in [
        (format!("DELETE FROM tokens WHERE token_id = {token}"), ("tokens", Problem::Missing)),
        // A token again under another id and hash: its MAC is good for nothing, but only a read of it would tell.
        (
            format!(
                "INSERT INTO tokens (platform_id, token_hash, hash_version, token_id, record_id, mode, state, \
                 sealed_token, created_at, mac) SELECT platform_id, mac, hash_version, \
                 (SELECT consent_id FROM consents ORDER BY consent_id LIMIT 1), record_id, mode, state, sealed_token, \
                 created_at, mac FROM tokens WHERE token_id = {token}"
            ),
            ("tokens", Problem::Unknown),
        ),
        (format!("DELETE FROM consents WHERE consent_id = {consent}"), ("consents", Problem::Missing)),
        (
            format!(
                "UPDATE subjects SET mac = (SELECT mac FROM consents LIMIT 1) WHERE subject_id = {}",
                one("subjects", "subject_id")
            ),
            ("subjects", Problem::Edited),
        ),
    ] {
        assert_eq!(backend.sql(dir.path(), &sql).await, 1, "{sql}");
        let result = reconcile(&open, "lerna").await;
        assert!(found(&result).contains(&expected), "{sql}: {:?}", result.findings);
    }
}

on_both!(a_caller_that_was_let_in_again_is_found);
async fn a_caller_that_was_let_in_again_is_found(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = create(&backend, dir.path()).await;
    let saved = Saved("callers", "spiffe_id");
    saved.take(&backend, dir.path()).await;
    let id = open.caller("support").id;
    open.disable("support").await;
    assert_eq!(found(&reconcile(&open, "lerna").await), []);
    saved.put_back(&backend, dir.path()).await;
    let result = reconcile(&open, "lerna").await;
    assert_eq!(found(&result), [("callers", Problem::Stale)]);
    assert_eq!(result.findings[0].object, id.as_bytes());
    backend.sql(dir.path(), "DELETE FROM callers WHERE name = 'support'").await;
    assert_eq!(found(&reconcile(&open, "lerna").await), [("callers", Problem::Missing)]);
}

on_both!(a_log_that_was_cut_back_is_found_by_its_rows);
async fn a_log_that_was_cut_back_is_found_by_its_rows(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = create(&backend, dir.path()).await;
    let first = open.store_iin(1).await;
    let (heads, tiles) = (Saved("heads", "platform_id"), Saved("audit_tiles", "platform_id"));
    heads.take(&backend, dir.path()).await;
    tiles.take(&backend, dir.path()).await;
    withdraw(&open, &first).await;
    open.store_iin(2).await;
    heads.put_back(&backend, dir.path()).await;
    for sql in [
        "DELETE FROM audit_tiles",
        "INSERT INTO audit_tiles SELECT * FROM saved_audit_tiles",
        "DELETE FROM audit_entries WHERE position >= \
         (SELECT size FROM saved_heads h WHERE h.platform_id = audit_entries.platform_id)",
        "DELETE FROM audit_heads WHERE size > \
         (SELECT size FROM saved_heads h WHERE h.platform_id = audit_heads.platform_id)",
    ] {
        backend.sql(dir.path(), sql).await;
    }
    let mut result = found(&reconcile(&open, "lerna").await);
    result.sort_unstable();
    let expected = [
        ("consents", Problem::Unknown),
        ("consents", Problem::Edited),
        ("subjects", Problem::Unknown),
        ("tokens", Problem::Unknown),
    ];
    assert_eq!(result, expected);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_tells_and_fails_on_findings() {
    let served = Served::start().await;
    let person = served.store(1).await;
    served.store(2).await;
    let run = |json: bool| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandyq"));
        command.args(["audit", "reconcile", "--platform", "lerna", "--connection"]);
        command.arg(served.running.installation.connection_path("auditor"));
        command.args(json.then_some("--json")).output().unwrap()
    };
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let output = run(false);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
    assert!(text(&output.stdout).ends_with("log and rows agree\n"), "{}", text(&output.stdout));

    served.sql("CREATE TABLE kept AS SELECT * FROM consents").await;
    let request = sandyq::grpc::pb::WithdrawConsentRequest {
        request_id: request_id(),
        consent_id: person.consents["payments"].clone(),
        ..sandyq::grpc::pb::WithdrawConsentRequest::default()
    };
    served.consents("backend").await.withdraw_consent(request).await.unwrap();
    served.sql("DELETE FROM consents").await;
    served.sql("INSERT INTO consents SELECT * FROM kept").await;
    let output = run(true);
    let found: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(3), "{found}");
    assert_eq!(found["findings"].as_array().unwrap().len(), 1, "{found}");
    assert_eq!(found["findings"][0]["problem"], "ROW_STALE");
    assert_eq!(found["findings"][0]["table"], "consents");

    let mut client = served.audit("payments").await;
    let request = sandyq::grpc::pb::ReconcileLogRequest { platform: "lerna".into() };
    let status = client.reconcile_log(request).await.unwrap_err();
    assert_eq!(crate::common::served::reason(&status), "CALLER_NOT_ALLOWED");
    served.running.stop().await.unwrap();
}
