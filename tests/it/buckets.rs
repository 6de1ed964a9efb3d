//! A vault whose mirror and documents lie in buckets, by its configuration alone: with a key that stays, and with keys that
//! are given for a token in a file.

use std::{fs, path::Path, process::Command};

use object_store::{ObjectStore, ObjectStoreExt as _, path::Path as Location};
use sandyq::{config::Config, grpc::pb};
use tokio_stream::StreamExt as _;

use crate::common::{
    backend::{Backend, on_both},
    s3::{REGION, Server, TOKEN, serve_sts, servers, write_secret},
    served::{Served, reason, request_id},
};

/// Two buckets of a server, and who gives keys to it.
struct Buckets {
    server: Server,
    mirror: String,
    documents: String,
    sts: String,
}

impl Buckets {
    async fn of(server: Server) -> Self {
        let (mirror, documents) = (server.new_bucket().await, server.new_bucket().await);
        let sts = serve_sts(&server).await;
        Self { server, mirror, documents, sts }
    }
}

/// Puts a mirror with a key, and documents with a token, into a configuration.
fn configure(files: &Path, buckets: &Buckets) {
    let Buckets { server, mirror, documents, sts } = buckets;
    let path = files.join("sandyq.toml");
    write_secret(&files.join("token"), TOKEN);
    let mirror = server.table("mirror", mirror, files);
    let endpoint = &server.endpoint;
    let documents = format!(
        "[documents.s3]\nendpoint = \"{endpoint}\"\nregion = \"{REGION}\"\nbucket = \"{documents}\"\n\
         [documents.s3.web_identity]\ntoken_file = \"token\"\nrole = \"sandyq\"\nsts_endpoint = \"{sts}\"\n"
    );
    let text = fs::read_to_string(&path).unwrap();
    let text = text
        .replace("\"mirror-beside-database\", ", "")
        .replace("[mirror]\ndirectory = \"mirror\"\n", &mirror)
        .replace("[documents]\ndirectory = \"documents\"\n", &documents);
    assert!(text.contains(&mirror) && text.contains(&documents), "{text}");
    fs::write(path, text).unwrap();
}

fn verify_mirror(config: &Path, key: &str) -> (Option<i32>, String) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandyq"));
    command.args(["audit", "verify-mirror", "--config"]).arg(config);
    let output = command.args(["--key", key, "--platform", "lerna"]).output().unwrap();
    (output.status.code(), String::from_utf8_lossy(&[output.stdout, output.stderr].concat()).into_owned())
}

/// A platform's segments in the bucket of the mirror.
async fn segments(mirror: &dyn ObjectStore) -> Vec<Location> {
    mirror.list(Some(&"lerna/segments".into())).map(|object| object.unwrap().location).collect().await
}

on_both!(a_mirror_in_a_bucket_has_every_withdrawal_and_is_verified_there);
async fn a_mirror_in_a_bucket_has_every_withdrawal_and_is_verified_there(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    for server in servers(dir.path()).await {
        mirrored_and_verified(&backend.fresh().await, server).await;
    }
}

async fn mirrored_and_verified(backend: &Backend, s3: Server) {
    let buckets = Buckets::of(s3).await;
    let mirror = buckets.server.owner(&buckets.mirror);
    let served = Served::start_files(backend, |files| configure(files, &buckets)).await;
    let key = served.running.verifier_key.clone();
    let stored = served.store(1).await;
    let withdraw = pb::WithdrawConsentRequest {
        request_id: request_id(),
        consent_id: stored.consents.values().next().unwrap().clone(),
        ..pb::WithdrawConsentRequest::default()
    };
    served.consents("backend").await.withdraw_consent(withdraw).await.expect("the mirror has it");
    assert!(!segments(mirror.as_ref()).await.is_empty());
    let documents = buckets.server.owner(&buckets.documents);
    documents.head(&"sandyq-documents".into()).await.expect("the token opened the other bucket");
    let config = served.file("sandyq.toml");
    // It begins again over what is mirrored, and goes on.
    let served = served.restart().await;
    served.store(2).await;
    let kept = served.running.installation.dir().to_owned();
    assert_eq!(config, kept.join("sandyq.toml"));
    let Served { running, dir: _dir, .. } = served;
    running.stop().await.unwrap();
    let (code, said) = verify_mirror(&config, &key);
    assert_eq!(code, Some(0), "{said}");
    // The bucket's owner takes a segment away.
    mirror.delete(&segments(mirror.as_ref()).await[0]).await.unwrap();
    let (code, said) = verify_mirror(&config, &key);
    assert_eq!(code, Some(3), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_bucket_holds_withdrawals_up_and_stops_no_read() {
    let dir = tempfile::tempdir().unwrap();
    for server in servers(dir.path()).await {
        withdrawals_wait_for_the_bucket(server).await;
    }
}

async fn withdrawals_wait_for_the_bucket(s3: Server) {
    let buckets = Buckets::of(s3).await;
    let (mirror, marker) = (buckets.server.owner(&buckets.mirror), Location::from("sandyq-mirror"));
    let served = Served::start_files(&Backend::Sqlite, |files| configure(files, &buckets)).await;
    let stored = served.store(1).await;
    // Without its marker the bucket is another.
    let kept = mirror.get(&marker).await.unwrap().bytes().await.unwrap();
    mirror.delete(&marker).await.unwrap();
    let withdraw = pb::WithdrawConsentRequest {
        request_id: request_id(),
        consent_id: stored.consents.values().next().unwrap().clone(),
        ..pb::WithdrawConsentRequest::default()
    };
    let told = served.consents("backend").await.withdraw_consent(withdraw.clone()).await.unwrap_err();
    assert_eq!(reason(&told), "MIRROR_BEHIND");
    let next = served.store(2).await;
    served.read("payments", "payments", next.token("iin")).await.expect("reads go on");
    mirror.put(&marker, kept.into()).await.unwrap();
    served
        .consents("backend")
        .await
        .withdraw_consent(withdraw)
        .await
        .expect("the same request, once it is back");
    served.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_configured_one_way_and_with_tls() {
    let dir = tempfile::tempdir().unwrap();
    let local = crate::common::served::initialised(&dir.path().join("vault")).await;
    let (path, files) = (local.config_path(), dir.path().join("vault"));
    let server = Server {
        name: "nowhere",
        endpoint: "http://127.0.0.1:1".into(),
        key: "vault".into(),
        secret: "synthetic-secret".into(),
    };
    let (mirror, documents) = ("mirror".into(), "documents".into());
    configure(&files, &Buckets { server, mirror, documents, sts: "http://127.0.0.1:2".into() });
    let good = fs::read_to_string(&path).unwrap();
    Config::load(&path).unwrap();
    for (from, to, told) in [
        (
            "[mirror.s3]",
            "[mirror]\ndirectory = \"m\"\n[mirror.s3]",
            "[mirror] names either `directory` or `s3`",
        ),
        (
            "secret_key_file = \"s3.key\"\n",
            "",
            "[mirror.s3] has either `access_key` and `secret_key_file`, or",
        ),
        ("http://127.0.0.1:1", "http://10.0.0.1:1", "s3.endpoint is an https address"),
        ("http://127.0.0.1:1", "https://10.0.0.1:1", "s3.endpoint needs `authority`"),
        ("http://127.0.0.1:2", "http://10.0.0.1:2", "sts_endpoint is an https address"),
        ("http://127.0.0.1:2", "nowhere", "sts_endpoint must be https://host:port"),
        ("role = \"sandyq\"", "roles = \"sandyq\"", "unknown field"),
    ] {
        fs::write(&path, good.replace(from, to)).unwrap();
        let error = Config::load(&path).unwrap_err();
        let error = format!("{error} {error:?}");
        assert!(error.contains(told), "{told}: {error}");
    }
}
