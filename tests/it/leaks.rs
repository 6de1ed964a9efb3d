//! Canaries: values, tokens and references of synthetic people are searched for in everything that the vault leaves
//! behind, in several encodings. Each search also finds something that must be there, so that it cannot pass by
//! searching nothing.

use std::{fs, path::Path, process::Command, process::Stdio};

use data_encoding::{BASE32_NOPAD, BASE64, HEXLOWER};
use sandyq::grpc::pb;

use crate::common::{
    people::{iin, tokenize_request},
    served::{Served, detokenize_request, initialised, request_id},
};

/// Every form in which a text might lie about.
fn encodings(text: &str) -> Vec<Vec<u8>> {
    let bytes = text.as_bytes();
    vec![
        bytes.to_vec(),
        HEXLOWER.encode(bytes).into_bytes(),
        HEXLOWER.encode(bytes).to_uppercase().into_bytes(),
        BASE64.encode(bytes).trim_end_matches('=').as_bytes().to_vec(),
        BASE32_NOPAD.encode(bytes).into_bytes(),
        text.encode_utf16().flat_map(u16::to_le_bytes).collect(),
    ]
}

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack.windows(needle.len()).any(|window| window == needle)
}

/// What must be nowhere, for person 4711.
fn canaries() -> Vec<String> {
    let request = tokenize_request(4711);
    let mut all: Vec<String> = request.fields.into_iter().map(|f| f.value).collect();
    all.push(request.subject_reference);
    all.push("Сынақова Әлия".into());
    all
}

fn assert_absent(haystack: &[u8], canaries: &[String], place: &str) {
    for canary in canaries {
        for (i, needle) in encodings(canary).iter().enumerate() {
            assert!(!contains(haystack, needle), "a canary lies in {place}, in encoding {i}");
        }
    }
}

fn files_below(dir: &Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { files.extend(files_below(&path)) } else { files.push(path) }
    }
    files
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_token_or_reference_on_disk_or_in_an_export() {
    let served = Served::start().await;
    let person = served.store(4711).await;
    for field in ["iin", "surname"] {
        served.read("payments", "payments", person.token(field)).await.unwrap();
    }
    let mut all = canaries();
    all.extend(person.tokens.values().cloned());
    let export = served.dir.path().join("log");
    let status = Command::new(env!("CARGO_BIN_EXE_sandyq"))
        .args(["audit", "export", "--platform", "lerna", "--out"])
        .arg(&export)
        .arg("--connection")
        .arg(served.running.installation.connection_path("auditor"))
        .stdout(Stdio::null())
        .status()
        .unwrap();
    assert!(status.success());
    let (mut found_iin_column, mut found_call) = (false, false);
    for file in files_below(served.dir.path()) {
        let bytes = fs::read(&file).unwrap();
        assert!(
            !all.iter().any(|c| file.to_string_lossy().contains(c.as_str())),
            "a canary is in a file name"
        );
        assert_absent(&bytes, &all, &file.display().to_string());
        found_iin_column |= contains(&bytes, b"records_current");
        found_call |= file.starts_with(&export) && contains(&bytes, b"VaultService/Detokenize");
    }
    assert!(found_iin_column && found_call, "the search looked into database and export");
    served.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn no_value_token_or_reference_in_logs_or_errors() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("vault");
    let local = initialised(&files).await;
    let log = fs::File::create(dir.path().join("log")).unwrap();
    let mut child = Command::new(env!("CARGO_BIN_EXE_sandyq"))
        .args(["--json", "serve", "--config"])
        .arg(local.config_path())
        .env("SANDYQ_LOG", "trace")
        .stderr(log)
        .spawn()
        .unwrap();
    let address = loop {
        let text = fs::read_to_string(dir.path().join("log")).unwrap();
        let line = text.lines().find(|line| line.contains("\"serving\""));
        if let Some(line) = line.and_then(|line| serde_json::from_str::<serde_json::Value>(line).ok()) {
            break line["fields"]["address"].as_str().unwrap().parse().unwrap();
        }
        tokio::task::yield_now().await;
    };
    local.write_connections(address).unwrap();
    let connect = async |caller: &str| {
        let read = |name: &str| fs::read_to_string(files.join(name)).unwrap();
        let identity = tonic::transport::Identity::from_pem(
            read(&format!("{caller}.pem")),
            read(&format!("{caller}.key")),
        );
        let tls = tonic::transport::ClientTlsConfig::new()
            .ca_certificate(tonic::transport::Certificate::from_pem(read("server-authority.pem")))
            .identity(identity)
            .domain_name("localhost");
        let endpoint = tonic::transport::Endpoint::from_shared(format!("https://{address}")).unwrap();
        pb::vault_service_client::VaultServiceClient::new(
            endpoint.tls_config(tls).unwrap().connect().await.unwrap(),
        )
    };
    let (mut backend, mut payments) = (connect("backend").await, connect("payments").await);
    let request = tokenize_request(4711);
    let request_ids = [request.request_id.clone()];
    let mut request = tonic::Request::new(request);
    let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    request.metadata_mut().insert("traceparent", trace.parse().unwrap());
    let stored = backend.tokenize(request).await.unwrap().into_inner();
    // What is no trace id is not logged.
    let mut request = tonic::Request::new(detokenize_request(&stored.tokens[0].token, "payments"));
    request.metadata_mut().insert("traceparent", iin(4711).parse().unwrap());
    payments.detokenize(request).await.unwrap();
    let mut all = canaries();
    all.extend(stored.tokens.iter().map(|t| t.token.clone()));

    // Errors of every kind, each over a request full of canaries.
    let mut statuses = Vec::new();
    let mut wrong = tokenize_request(4711);
    wrong.fields[2].value = iin(4712);
    wrong.fields[3].field = "telefon".into();
    statuses.push(backend.tokenize(wrong).await.unwrap_err());
    let mut differs = tokenize_request(4711);
    differs.fields[2].value = iin(4712);
    statuses.push(backend.tokenize(differs).await.unwrap_err());
    statuses.push(payments.tokenize(tokenize_request(4711)).await.unwrap_err());
    for token in &stored.tokens {
        payments.detokenize(detokenize_request(&token.token, "payments")).await.ok();
        let mut request = detokenize_request(&token.token, "request_comms");
        request.request_id = request_id();
        statuses.push(payments.detokenize(request).await.unwrap_err());
        let mistyped = token.token.replace("sq1_", "sq1_a");
        statuses.push(payments.detokenize(detokenize_request(&mistyped, "payments")).await.unwrap_err());
    }
    all.push(iin(4712));
    for status in &statuses {
        let text = format!("{status:?} {}", status.message());
        assert_absent(text.as_bytes(), &all, "a status");
        assert_absent(status.details(), &all, "the details of a status");
    }
    child.kill().unwrap();
    child.wait().unwrap();
    let log = fs::read(dir.path().join("log")).unwrap();
    assert_absent(&log, &all, "the log");
    let traced = String::from_utf8_lossy(&log);
    let of_call = |line: &&str| line.contains(trace) && line.contains(&request_ids[0]);
    let line = traced.lines().find(of_call).expect("lines of a call carry its request id and trace");
    let line: serde_json::Value = serde_json::from_str(line).unwrap();
    assert_eq!(line["span"]["rpc"], "VaultService/Tokenize");
    assert!(contains(&log, b"\"serving\"") && log.len() > 10_000, "the log was written, and in detail");
}
