//! A vault whose mirror and documents lie in buckets, by its configuration alone: with a key that stays, and with keys that
//! are given for a token in a file.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use sandyq::{config::Config, grpc::pb};

use crate::common::{
    backend::{Backend, on_both},
    s3::{self, ACCESS_KEY, SECRET_KEY, TOKEN},
    served::{Served, reason, request_id},
};

/// Writes a file that others may not read.
fn secret(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    fs::write(path, text).unwrap();
    fs::set_permissions(path, fs::Permissions::from_mode(0o600)).unwrap();
}

/// Puts a mirror with a key, and documents with a token, into a configuration.
fn configure(files: &Path, endpoint: &str, sts: &str) {
    let path = files.join("sandyq.toml");
    secret(&files.join("s3.key"), SECRET_KEY);
    secret(&files.join("token"), TOKEN);
    let place = format!("endpoint = \"{endpoint}\"\nregion = \"kz-1\"\n");
    let mirror = format!(
        "[mirror.s3]\n{place}bucket = \"mirror\"\naccess_key = \"{ACCESS_KEY}\"\nsecret_key_file = \"s3.key\"\n"
    );
    let documents = format!(
        "[documents.s3]\n{place}bucket = \"documents\"\n[documents.s3.web_identity]\ntoken_file = \"token\"\n\
         role = \"sandyq\"\nsts_endpoint = \"{sts}\"\n"
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

/// Files of a platform's segments in the bucket of the mirror.
fn segments(place: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(place.join("mirror/lerna/segments")).unwrap();
    entries.map(|entry| entry.unwrap().path()).filter(|path| path.is_file()).collect()
}

on_both!(a_mirror_in_a_bucket_has_every_withdrawal_and_is_verified_there);
async fn a_mirror_in_a_bucket_has_every_withdrawal_and_is_verified_there(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("s3");
    let endpoint = s3::serve(&place, "mirror").await;
    fs::create_dir_all(place.join("documents")).unwrap();
    let sts = s3::serve_sts().await;
    let served = Served::start_files(&backend, |files| configure(files, &endpoint, &sts)).await;
    let key = served.running.verifier_key.clone();
    let stored = served.store(1).await;
    let withdraw = pb::WithdrawConsentRequest {
        request_id: request_id(),
        consent_id: stored.consents.values().next().unwrap().clone(),
        ..pb::WithdrawConsentRequest::default()
    };
    served.consents("backend").await.withdraw_consent(withdraw).await.expect("the mirror has it");
    assert!(!segments(&place).is_empty());
    assert!(place.join("documents/sandyq-documents").exists(), "the token opened the other bucket");
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
    fs::remove_file(&segments(&place)[0]).unwrap();
    let (code, said) = verify_mirror(&config, &key);
    assert_eq!(code, Some(3), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_bucket_holds_withdrawals_up_and_stops_no_read() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("s3");
    let endpoint = s3::serve(&place, "mirror").await;
    fs::create_dir_all(place.join("documents")).unwrap();
    let sts = s3::serve_sts().await;
    let served = Served::start_files(&Backend::Sqlite, |files| configure(files, &endpoint, &sts)).await;
    let stored = served.store(1).await;
    // Without its marker the bucket is another.
    fs::rename(place.join("mirror"), place.join("mirror-gone")).unwrap();
    let withdraw = pb::WithdrawConsentRequest {
        request_id: request_id(),
        consent_id: stored.consents.values().next().unwrap().clone(),
        ..pb::WithdrawConsentRequest::default()
    };
    let told = served.consents("backend").await.withdraw_consent(withdraw.clone()).await.unwrap_err();
    assert_eq!(reason(&told), "MIRROR_BEHIND");
    let next = served.store(2).await;
    served.read("payments", "payments", next.token("iin")).await.expect("reads go on");
    fs::rename(place.join("mirror-gone"), place.join("mirror")).unwrap();
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
    configure(&files, "http://127.0.0.1:1", "http://127.0.0.1:2");
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
