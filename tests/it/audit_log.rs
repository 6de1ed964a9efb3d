//! The log as auditors get it: heads, export, offline verification of honest and of edited logs.

use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use data_encoding::HEXLOWER;
use sandyq::{
    audit::{layout::split_bundle, tree::leaf_hash},
    grpc::pb,
};
use tonic::Code;

use crate::common::{
    backend::{Backend, on_both},
    second::second_verifier,
    served::{Served, reason, request_id},
};

fn sandyq(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sandyq")).args(args).output().unwrap()
}

fn export(served: &Served, name: &str) -> PathBuf {
    export_after(served, name, None)
}

fn export_after(served: &Served, name: &str, after: Option<&Path>) -> PathBuf {
    let out = served.dir.path().join(name);
    let connection = served.running.installation.connection_path("auditor");
    let (connection, to) = (connection.to_str().unwrap(), out.to_str().unwrap());
    let mut args = vec!["audit", "export", "--platform", "lerna", "--connection", connection, "--out", to];
    args.extend(after.iter().flat_map(|dir| ["--after", dir.to_str().unwrap()]));
    let output = sandyq(&args);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    out
}

/// What both verifiers say; they must agree.
fn verify(dir: &Path, key: &str) -> (Option<i32>, serde_json::Value) {
    let (code, report) = verify_with(dir, key, &[]);
    (code, serde_json::from_slice(&report).unwrap())
}

fn verify_with(dir: &Path, key: &str, more: &[&str]) -> (Option<i32>, Vec<u8>) {
    let dir = dir.to_str().unwrap();
    let output = sandyq(&[&["audit", "verify", dir, "--key", key, "--json"], more].concat());
    let (second, said) = second_verifier(&[&["export", dir, "--key", key], more].concat());
    assert_eq!(second, output.status.code(), "the second verifier says otherwise: {said}");
    (second, output.stdout)
}

/// A log of more than two tiles.
async fn busy() -> Served {
    let served = Served::start().await;
    read(&served, 1, 590).await;
    served
}

/// Reads a value so many times.
async fn read(served: &Served, person: u32, times: usize) {
    let person = served.store(person).await;
    let request = pb::BatchDetokenizeRequest {
        request_id: request_id(),
        tokens: vec![person.token("iin").to_owned(); times],
        purpose: "payments".into(),
        view: pb::View::Full.into(),
        reference: String::new(),
        ..pb::BatchDetokenizeRequest::default()
    };
    let answer = served.vault("payments").await.batch_detokenize(request).await.unwrap().into_inner();
    assert_eq!(answer.results.len(), times);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_honest_log_verifies_and_goes_on_verifying() {
    let served = busy().await;
    let log = export(&served, "log");
    for file in ["checkpoint", "tile/0/000", "tile/0/001", "tile/entries/000", "tile/1/000.p/2", "right-edge"]
    {
        assert!(log.join(file).exists(), "{file}");
    }
    let (code, report) = verify(&log, &served.running.verifier_key);
    assert_eq!((code, report["verified"].as_bool()), (Some(0), Some(true)), "{report}");
    assert!(report["entries"].as_u64().unwrap() > 600);

    // Each export is itself an entry, and a restart changes nothing.
    let entries = report["entries"].as_u64().unwrap();
    let served = served.restart().await;
    let log = export(&served, "log2");
    let (code, report) = verify(&log, &served.running.verifier_key);
    assert_eq!((code, report["entries"].as_u64()), (Some(0), Some(entries + 1)), "{report}");
    served.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_in_the_database_is_named() {
    let served = busy().await;
    let edit = "UPDATE audit_entries SET entry = CAST(substr(entry, 1, 30) || x'7f' || substr(entry, 32) AS BLOB) \
                WHERE platform_id = 1 AND position = 300";
    assert_eq!(served.sql(edit).await, 1);
    let (code, report) = verify(&export(&served, "log"), &served.running.verifier_key);
    assert_eq!(code, Some(3));
    assert!(report["findings"][0].as_str().unwrap().starts_with("entry 300"), "{report}");
    served.running.stop().await.unwrap();
}

/// An administrator who can hash rewrites an entry and its leaf; only the signature is out of reach.
async fn r25_an_entry_rewritten_with_its_hash_is_found(backend: Backend) {
    let served = Served::start_on(&backend).await;
    served.store(1).await;
    let bundle = std::fs::read_dir(export(&served, "before").join("tile/entries/000.p"));
    let bundle = std::fs::read(bundle.unwrap().next().unwrap().unwrap().path()).unwrap();
    let length = usize::from(u16::from_be_bytes([bundle[0], bundle[1]]));
    let mut entry = bundle[2..2 + length].to_vec();
    *entry.last_mut().unwrap() ^= 1;
    let edit = format!(
        "UPDATE audit_entries SET entry = x'{}', leaf_hash = x'{}' WHERE platform_id = 1 AND position = 0",
        HEXLOWER.encode(&entry),
        HEXLOWER.encode(&leaf_hash(&entry).0)
    );
    assert_eq!(served.sql(&edit).await, 1);
    let (code, report) = verify(&export(&served, "after"), &served.running.verifier_key);
    assert_eq!(code, Some(3));
    assert!(report["findings"].to_string().contains("were rewritten"), "{report}");
    let config = served.file("sandyq.toml");
    served.running.stop().await.unwrap();
    let serve = sandyq(&["serve", "--config", config.to_str().unwrap()]);
    let stderr = String::from_utf8_lossy(&serve.stderr);
    assert_eq!(serve.status.code(), Some(1));
    assert!(stderr.contains("stored leaves"), "{stderr}");
}
on_both!(r25_an_entry_rewritten_with_its_hash_is_found);

type Edit = fn(&Path);

fn change(path: PathBuf, at: usize) {
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[at] ^= 1;
    std::fs::write(path, bytes).unwrap();
}

fn rebundle(path: &Path, edit: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let bytes = std::fs::read(path).unwrap();
    let mut entries = split_bundle(&bytes).unwrap().into_iter().map(<[u8]>::to_vec).collect();
    edit(&mut entries);
    let length = |entry: &Vec<u8>| u16::try_from(entry.len()).unwrap().to_be_bytes();
    let bytes: Vec<u8> = entries.iter().flat_map(|e| [&length(e)[..], e].concat()).collect();
    std::fs::write(path, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn edits_of_an_export_are_found() {
    let served = busy().await;
    let key = served.running.verifier_key.clone();
    let edits: Vec<(&str, Edit)> = vec![
        ("entry 0 ", |d| change(d.join("tile/entries/000"), 10)),
        ("entry 5 ", |d| change(d.join("tile/0/000"), 5 * 32)),
        ("tile 0 of level 1", |d| change(d.join("tile/1/000.p/2"), 0)),
        ("checkpoint", |d| change(d.join("checkpoint"), 3)),
        ("right edge", |d| std::fs::write(d.join("right-edge"), "").unwrap()),
        ("incomplete", |d| std::fs::remove_file(d.join("tile/entries/001")).unwrap()),
        ("incomplete", |d| std::fs::remove_dir_all(d.join("heads")).unwrap()),
        ("incomplete", |d| {
            let path = d.join("tile/entries/000");
            let bytes = std::fs::read(&path).unwrap();
            std::fs::write(path, &bytes[..bytes.len() - 1]).unwrap();
        }),
        // The first entry is gone from its bundle; the first two have changed places.
        ("incomplete: bundle 0", |d| {
            rebundle(&d.join("tile/entries/000"), |entries| drop(entries.remove(0)));
        }),
        ("entry 1 ", |d| rebundle(&d.join("tile/entries/000"), |entries| entries.swap(0, 1))),
        ("heads/", |d| {
            let head = std::fs::read_dir(d.join("heads")).unwrap().next().unwrap().unwrap().path();
            change(head, 40);
        }),
    ];
    for (i, (expected, edit)) in edits.into_iter().enumerate() {
        let log = export(&served, &format!("log{i}"));
        edit(&log);
        let (code, report) = verify(&log, &key);
        assert_eq!(code, Some(3), "edit {i}");
        let findings = report["findings"].to_string();
        assert!(findings.contains(expected), "edit {i}: {expected} not in {findings}");
    }
    // A log cut back to an older head of its own verifies, but not against a checkpoint that was kept.
    let log = export(&served, "cut");
    let kept = served.dir.path().join("kept");
    std::fs::copy(log.join("checkpoint"), &kept).unwrap();
    let newer = export(&served, "newer");
    let args = |dir: &Path, since: &Path| verify_with(dir, &key, &["--since", since.to_str().unwrap()]).0;
    assert_eq!(args(&newer, &kept), Some(0), "the newer log extends what was kept");
    assert_eq!(
        args(&log, &newer.join("checkpoint")),
        Some(3),
        "the older log does not reach the newer checkpoint"
    );
    assert_eq!(verify_with(&newer, &key, &["--origin", "other/lerna"]).0, Some(3));
    // Another installation's key.
    let other = "vault.example.kz+fd5320fe+ATnoatfBW0B8B7PXklgdZ50JxCCRZmq0gcGDfuSwU5Jy";
    assert_eq!(verify(&export(&served, "other"), other).0, Some(3));
    served.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_goes_on_from_another_verifies_with_it() {
    let served = busy().await;
    let key = served.running.verifier_key.clone();
    let first = export(&served, "first");
    read(&served, 2, 300).await;
    let second = export_after(&served, "second", Some(&first));
    read(&served, 3, 300).await;
    let third = export_after(&served, "third", Some(&second));
    let bundles = |dir: &Path| {
        let named =
            |file: std::io::Result<std::fs::DirEntry>| file.unwrap().file_name().into_string().unwrap();
        let mut files: Vec<_> = std::fs::read_dir(dir.join("tile/entries")).unwrap().map(named).collect();
        files.sort();
        files
    };
    assert_eq!(bundles(&second), ["002", "003.p"], "what was whole in the first is left out");
    assert_eq!(bundles(&third), ["003", "004.p"]);
    for head in std::fs::read_dir(second.join("heads")).unwrap() {
        let note = std::fs::read_to_string(head.unwrap().path()).unwrap();
        let size: u64 = note.lines().nth(1).unwrap().parse().unwrap();
        assert!(size > 512, "heads of before are left out, too");
    }

    let paths: Vec<_> = [&first, &second].map(|dir| dir.to_str().unwrap()).to_vec();
    let with = |dir: &Path, archives: &[&str]| {
        let more: Vec<_> = archives.iter().flat_map(|dir| ["--archive", dir]).collect();
        let (code, report) = verify_with(dir, &key, &more);
        (code, serde_json::from_slice::<serde_json::Value>(&report).unwrap()["findings"].to_string())
    };
    assert_eq!(with(&second, &paths[..1]), (Some(0), "[]".to_owned()));
    assert_eq!(with(&third, &paths), (Some(0), "[]".to_owned()));
    let (code, findings) = with(&third, &paths[1..]);
    assert!(code == Some(3) && findings.contains("tile or entries 0 cannot be read"), "{findings}");
    // One byte of an archive: the entry is named.
    change(first.join("tile/entries/001"), 10);
    let (code, findings) = with(&third, &paths);
    assert!(code == Some(3) && findings.contains("entry 256 "), "{findings}");
    change(first.join("tile/entries/001"), 10);
    assert_eq!(with(&third, &paths).0, Some(0), "put back");
    // Another log's export is no archive of this one, nor is a newer one of an older.
    let (code, findings) = with(&first, &paths[1..]);
    assert!(code == Some(3) && findings.contains("newer than the checkpoint"), "{findings}");
    std::fs::remove_dir_all(first.join("heads")).unwrap();
    assert_eq!(with(&third, &paths).0, Some(3), "an archive has its heads");

    for wrong in [-256, 1, 257, 1 << 40] {
        let request = pb::ExportLogRequest { platform: "lerna".into(), entries_from: wrong };
        let mut client = served.audit("auditor").await;
        let status = client.export_log(request).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (Code::InvalidArgument, "INVALID_FIELDS"),
            "{wrong}"
        );
    }
    served.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn only_auditors_see_a_log() {
    let served = Served::start().await;
    for (caller, platform, code, expected) in [
        ("payments", "lerna", Code::PermissionDenied, "CALLER_NOT_ALLOWED"),
        // Without the role nothing is looked at, so it does not matter which platforms there are.
        ("payments", "vault", Code::PermissionDenied, "CALLER_NOT_ALLOWED"),
        ("payments", "nowhere", Code::PermissionDenied, "CALLER_NOT_ALLOWED"),
        ("auditor", "nowhere", Code::NotFound, "PLATFORM_NOT_FOUND"),
    ] {
        let mut client = served.audit(caller).await;
        let status = client.get_head(pb::GetHeadRequest { platform: platform.into() }).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (code, expected), "{caller} {platform}");
        let status = client
            .export_log(pb::ExportLogRequest { platform: platform.into(), ..Default::default() })
            .await
            .unwrap_err();
        assert_eq!(reason(&status), expected, "{caller} {platform}");
    }
    for platform in ["lerna", "vault"] {
        let request = pb::GetHeadRequest { platform: platform.into() };
        let head = served.audit("auditor").await.get_head(request).await.unwrap().into_inner();
        assert!(head.checkpoint.starts_with(&format!("vault.example.kz/{platform}\n{}\n", head.size)));
    }
    served.running.stop().await.unwrap();
}

/// Refusals before a decision: summed, not written one by one.
#[tokio::test(flavor = "multi_thread")]
async fn refusals_before_a_decision_are_summed() {
    use sandyq::{audit::entry::Entry, domain::ids::PlatformId, store::sqlite};
    let served = Served::start().await;
    for _ in 0..7 {
        let refused = served.read("payments", "payments", "sq1_mistyped").await;
        assert_eq!(refused, Err("TOKEN_MALFORMED".into()));
    }
    for _ in 0..3 {
        // Without a certificate there is no connection, or no call on it.
        if let Ok(channel) = served.connect(None).await {
            let mut client = pb::vault_service_client::VaultServiceClient::new(channel);
            assert!(client.who_am_i(pb::WhoAmIRequest {}).await.is_err());
        }
    }
    let database = served.file("sandyq.db");
    served.running.stop().await.unwrap();
    let store = sqlite::open(&database).await.unwrap();
    let mut summaries = Vec::new();
    for platform in [PlatformId::VAULT, PlatformId::new(1)] {
        let rows = store.entries(platform, 0, 1000).await.unwrap();
        let entries = rows.iter().map(|row| Entry::decode(&row.entry).unwrap());
        summaries.extend(entries.filter(|e| e.call == "Refusals/Summary"));
    }
    let count = |reason: &str, known: bool| {
        let of = |e: &&Entry| e.reason.as_deref() == Some(reason) && e.caller.is_some() == known;
        summaries.iter().filter(of).filter_map(|e| e.count).sum::<u64>()
    };
    assert_eq!(count("TOKEN_MALFORMED", true), 7);
    assert!(count("HANDSHAKE", false) >= 3);
    assert!(summaries.len() <= 4, "summed: {}", summaries.len());
}

/// What the log says of one person's story.
#[tokio::test(flavor = "multi_thread")]
async fn every_decision_is_an_entry() {
    use sandyq::{audit::entry::Entry, store::sqlite};
    let served = Served::start().await;
    let person = served.store(1).await;
    let _answer = served.read("payments", "payments", person.token("iin")).await;
    let _answer = served.read("payments", "resale", person.token("iin")).await;
    let _answer = served.read("payments", "payments", person.token("phone")).await;
    let _answer = served.read("support", "payments", person.token("iin")).await;
    let stranger = crate::common::people::tokenize_request(2);
    let _refused = served.vault("payments").await.tokenize(stranger).await;
    let _refused =
        served.audit("payments").await.get_head(pb::GetHeadRequest { platform: "lerna".into() }).await;
    let database = served.file("sandyq.db");
    served.running.stop().await.unwrap();

    let store = sqlite::open(&database).await.unwrap();
    let rows = store.entries(sandyq::domain::ids::PlatformId::new(1), 0, 1000).await.unwrap();
    let entries: Vec<_> = rows.iter().map(|row| Entry::decode(&row.entry).unwrap()).collect();
    let count = |call: &str, verdict: &str, reason: Option<&str>| {
        entries
            .iter()
            .filter(|e| e.call == call && e.verdict == verdict && e.reason.as_deref() == reason)
            .count()
    };
    assert_eq!(count("VaultService/Tokenize", "done", None), 1 + 5 + 2, "subject, tokens, consents");
    assert_eq!(count("VaultService/Detokenize", "permit", None), 1);
    for denial in ["PURPOSE_NOT_DECLARED", "FIELD_NOT_ALLOWED", "CALLER_NOT_ALLOWED"] {
        assert_eq!(count("VaultService/Detokenize", "deny", Some(denial)), 1, "{denial}: the true reason");
    }
    for call in ["VaultService/Tokenize", "AuditService/GetHead"] {
        assert_eq!(count(call, "deny", Some("CALLER_NOT_ALLOWED")), 1, "{call}");
    }
    let permit = entries.iter().find(|e| e.verdict == "permit").unwrap();
    assert_eq!(permit.purpose.as_deref(), Some("payments"));
    assert_eq!(permit.field.as_deref(), Some("iin"));
    assert!(permit.consent.is_some() && permit.subject.is_some() && permit.policy_version == Some(1));
    let undeclared = entries.iter().find(|e| e.reason.as_deref() == Some("PURPOSE_NOT_DECLARED")).unwrap();
    assert_eq!(undeclared.purpose, None, "a purpose that nobody declared might say anything");
}
