//! Questions to the log of a running vault: entries by page and filter, and proofs that are checked here.

use std::{
    collections::BTreeMap,
    process::{Command, Output},
};

use sandyq::{
    audit::{
        head::{Head, HeadVerifier},
        proof::{check_consistency, check_inclusion},
        tree::{Hash, leaf_hash},
    },
    grpc::pb::{self, get_inclusion_proof_request::Entry as Which},
};
use tonic::Code;

use crate::common::{
    backend::{Backend, on_both},
    served::{Served, reason, request_id},
};

fn list() -> pb::ListEntriesRequest {
    pb::ListEntriesRequest { platform: "lerna".into(), ..pb::ListEntriesRequest::default() }
}

/// Every page of a list.
async fn all(served: &Served, mut request: pb::ListEntriesRequest) -> Vec<pb::AuditEntry> {
    let (mut client, mut entries) = (served.audit("auditor").await, Vec::new());
    loop {
        let page = client.list_entries(request.clone()).await.unwrap().into_inner();
        entries.extend(page.entries);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            return entries;
        }
    }
}

on_both!(entries_are_listed_by_page_and_filter);
async fn entries_are_listed_by_page_and_filter(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let (first, second) = (served.store(1).await, served.store(2).await);
    served.read("payments", "payments", first.token("iin")).await.unwrap();
    served.read("payments", "payments", second.token("iin")).await.unwrap();
    assert!(served.read("payments", "resale", second.token("iin")).await.is_err());

    let whole = all(&served, list()).await;
    let positions: Vec<_> = whole.iter().map(|entry| entry.position).collect();
    let expected: Vec<_> = (0..i64::try_from(whole.len()).unwrap()).collect();
    assert_eq!(positions, expected, "each entry once, in order");
    // Each question is an entry itself, so a list of single entries ends only because it has an end of its own.
    let small = all(&served, pb::ListEntriesRequest { page_size: 1, ..list() }).await;
    assert_eq!(small[..whole.len()], whole[..]);
    assert_eq!(small.len(), whole.len() + 1);

    let of = async |request: pb::ListEntriesRequest| {
        let mut counts = BTreeMap::new();
        for entry in all(&served, request).await {
            *counts.entry((entry.call.clone(), entry.verdict().as_str_name())).or_insert(0) += 1;
        }
        counts
    };
    let reads = of(pb::ListEntriesRequest { call: "VaultService/Detokenize".into(), ..list() }).await;
    let call = |verdict| ("VaultService/Detokenize".to_owned(), verdict);
    assert_eq!(reads, BTreeMap::from([(call("VERDICT_PERMIT"), 2), (call("VERDICT_DENY"), 1)]));
    let one = of(pb::ListEntriesRequest {
        subject_id: first.subject.clone(),
        verdict: pb::Verdict::Permit.into(),
        ..list()
    });
    assert_eq!(one.await, BTreeMap::from([(call("VERDICT_PERMIT"), 1)]));
    let permit = whole.iter().find(|entry| entry.verdict() == pb::Verdict::Permit).unwrap();
    let by_caller = pb::ListEntriesRequest { caller_id: permit.caller_id.clone(), ..list() };
    assert_eq!(all(&served, by_caller).await.len(), 3);

    // Time: half-open, so that two lists side by side miss nothing and tell nothing twice.
    let at = permit.entry_time;
    let before = all(&served, pb::ListEntriesRequest { until_time: at, ..list() }).await;
    let after = all(&served, pb::ListEntriesRequest { since_time: at, ..list() }).await;
    assert!(before.len() > 10 && after.len() > 3);
    assert_eq!(before.last().unwrap().position + 1, after[0].position);
    assert!(after.iter().any(|entry| entry.entry_id == permit.entry_id));

    for (bad, field) in [
        (pb::ListEntriesRequest { page_token: "x".into(), ..list() }, "page_token"),
        (pb::ListEntriesRequest { subject_id: "sub_x".into(), ..list() }, "subject_id"),
        (pb::ListEntriesRequest { page_size: -1, ..list() }, "page_size"),
        (pb::ListEntriesRequest { verdict: 9, ..list() }, "verdict"),
    ] {
        let status = served.audit("auditor").await.list_entries(bad).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_FIELDS", "{field}");
    }
    served.running.stop().await.unwrap();
}

fn hashes(bytes: &[Vec<u8>]) -> Vec<Hash> {
    bytes.iter().map(|hash| Hash(hash.as_slice().try_into().unwrap())).collect()
}

on_both!(proofs_hold_against_signed_heads);
async fn proofs_hold_against_signed_heads(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let person = served.store(1).await;
    let trusted = HeadVerifier::new(&served.running.verifier_key).unwrap();
    let mut client = served.audit("auditor").await;
    let head = async |client: &mut pb::audit_service_client::AuditServiceClient<_>| -> Head {
        let request = pb::GetHeadRequest { platform: "lerna".into() };
        trusted.open(&client.get_head(request).await.unwrap().into_inner().checkpoint).unwrap()
    };
    let mut earlier = vec![head(&mut client).await];
    for tokens in [1, 300, 590] {
        let request = pb::BatchDetokenizeRequest {
            request_id: request_id(),
            tokens: vec![person.token("iin").to_owned(); tokens],
            purpose: "payments".into(),
            view: pb::View::Full.into(),
            ..pb::BatchDetokenizeRequest::default()
        };
        served.vault("payments").await.batch_detokenize(request).await.unwrap();
        earlier.push(head(&mut client).await);
    }
    let newest = earlier.last().unwrap().clone();
    assert!(newest.size > 800, "more than three tiles");

    for from in &earlier {
        let request = pb::GetConsistencyProofRequest {
            platform: "lerna".into(),
            from_size: i64::try_from(from.size).unwrap(),
            to_size: 0,
        };
        let proof = client.get_consistency_proof(request).await.unwrap().into_inner();
        let to = trusted.open(&proof.checkpoint).unwrap();
        assert_eq!(to, newest, "neither heads nor proofs are entries");
        let hashes = hashes(&proof.hashes);
        assert_eq!(check_consistency(&hashes, to.size, to.root, from.size, from.root), Ok(()));
    }
    // Entries that are listed are those whose leaves are proven.
    let listed = all(&served, list()).await;
    let size = i64::try_from(newest.size).unwrap();
    for at in [0, 1, 255, 256, 511, 700, size - 1] {
        let entry = &listed[usize::try_from(at).unwrap()];
        for which in [Which::Position(at), Which::EntryId(entry.entry_id.clone())] {
            let request = pb::GetInclusionProofRequest { platform: "lerna".into(), entry: Some(which), size };
            let proof = client.get_inclusion_proof(request).await.unwrap().into_inner();
            assert_eq!((proof.position, proof.size), (at, size));
            let leaf = Hash(proof.leaf_hash.as_slice().try_into().unwrap());
            let position = u64::try_from(at).unwrap();
            let path = hashes(&proof.hashes);
            assert_eq!(check_inclusion(&path, newest.size, newest.root, position, leaf), Ok(()));
            let other = leaf_hash(b"another entry");
            assert!(check_inclusion(&path, newest.size, newest.root, position, other).is_err());
        }
    }
    let grown = head(&mut client).await;
    assert!(grown.size > newest.size, "a list is an entry");
    for (position, size) in [(size, size), (0, size + 1_000), (-1, 0), (0, -1)] {
        let request = pb::GetInclusionProofRequest {
            platform: "lerna".into(),
            entry: Some(Which::Position(position)),
            size,
        };
        let status = client.get_inclusion_proof(request).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_FIELDS", "{position} of {size}");
    }
    served.running.stop().await.unwrap();
}

/// Everybody else is refused, and the refusal is in the log.
#[tokio::test(flavor = "multi_thread")]
async fn only_auditors_ask() {
    let served = Served::start().await;
    let mut client = served.audit("payments").await;
    let inclusion =
        pb::GetInclusionProofRequest { platform: "lerna".into(), entry: Some(Which::Position(0)), size: 0 };
    let consistency = pb::GetConsistencyProofRequest { platform: String::new(), from_size: 1, to_size: 0 };
    for status in [
        client.list_entries(list()).await.unwrap_err(),
        client.get_inclusion_proof(inclusion).await.unwrap_err(),
        client.get_consistency_proof(consistency).await.unwrap_err(),
    ] {
        assert_eq!(reason(&status), "CALLER_NOT_ALLOWED");
    }
    let elsewhere = pb::ListEntriesRequest { platform: "vault".into(), ..list() };
    let status = client.list_entries(elsewhere).await.unwrap_err();
    assert_eq!(reason(&status), "CALLER_NOT_ALLOWED", "without the role nothing is looked at");
    let nowhere = pb::ListEntriesRequest { platform: "nowhere".into(), ..list() };
    let status = served.audit("auditor").await.list_entries(nowhere).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "PLATFORM_NOT_FOUND"));
    let denied = all(&served, pb::ListEntriesRequest { verdict: pb::Verdict::Deny.into(), ..list() }).await;
    let calls: Vec<_> = denied.iter().map(|entry| entry.call.as_str()).collect();
    assert_eq!(
        calls,
        [
            "AuditService/ListEntries",
            "AuditService/GetInclusionProof",
            "AuditService/GetConsistencyProof",
            "AuditService/ListEntries"
        ]
    );
    served.running.stop().await.unwrap();
}

fn sandyq(served: &Served, args: &[&str]) -> Output {
    let connection = served.running.installation.connection_path("auditor");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandyq"));
    command.args(["audit"]).args(args).args(["--platform", "lerna", "--connection"]).arg(connection);
    command.output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_lists_and_proves() {
    let served = Served::start().await;
    let person = served.store(1).await;
    served.read("payments", "payments", person.token("iin")).await.unwrap();
    let kept = served.dir.path().join("kept");
    let head = sandyq(&served, &["head"]);
    std::fs::write(&kept, &head.stdout).unwrap();

    let json = sandyq(&served, &["entries", "--json", "--verdict", "permit"]);
    let found: serde_json::Value = serde_json::from_slice(&json.stdout).unwrap();
    let permit = &found["entries"][0];
    assert_eq!(
        (permit["call"].as_str(), found["more"].as_bool()),
        (Some("VaultService/Detokenize"), Some(false))
    );
    assert_eq!(permit["subject_id"], person.subject);
    let table = text(&sandyq(&served, &["entries", "--limit", "3"]).stdout);
    assert!(table.starts_with("POSITION") && table.lines().count() == 5, "{table}");

    let key = served.running.verifier_key.clone();
    let id = permit["entry_id"].as_str().unwrap();
    for what in [["--entry", id], ["--position", "0"], ["--since", kept.to_str().unwrap()]] {
        let output = sandyq(&served, &[&["prove", "--key", &key][..], &what].concat());
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        assert!(text(&output.stdout).starts_with("proven: "), "{}", text(&output.stdout));
    }
    // Another key, an earlier head of another history, and nothing to prove.
    let other = "vault.example.kz+fd5320fe+ATnoatfBW0B8B7PXklgdZ50JxCCRZmq0gcGDfuSwU5Jy";
    assert_eq!(sandyq(&served, &["prove", "--key", other, "--position", "0"]).status.code(), Some(3));
    let stranger = Served::start().await;
    std::fs::write(&kept, &sandyq(&stranger, &["head"]).stdout).unwrap();
    let forged = sandyq(&served, &["prove", "--key", &key, "--since", kept.to_str().unwrap()]);
    assert_eq!(forged.status.code(), Some(3));
    assert_eq!(sandyq(&served, &["prove", "--key", &key]).status.code(), Some(2));
    stranger.running.stop().await.unwrap();
    served.running.stop().await.unwrap();
}
