//! `sandyq dev`: the demo's vault as a server that stays, for development on this machine.

use std::{
    fs,
    net::{Ipv4Addr, SocketAddr},
    path::{Path, PathBuf},
};

use serde_json::json;

use super::{
    local::LocalInstallation,
    output::{Failure, Out},
    serve::terminated,
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Port on loopback; 0 takes a free one.
    #[arg(long, default_value_t = 7443)]
    port: u16,
    /// Directory to make and keep; a temporary one otherwise, removed at the end.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
}

pub(super) async fn run(args: &Args, out: &mut Out) -> Result<(), Failure> {
    let temporary = tempfile::Builder::new().prefix("sandyq-dev-").tempdir()?;
    let dir = args.dir.clone().unwrap_or_else(|| temporary.path().join("installation"));
    let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, args.port));
    let shutdown = terminated()?;
    let running = LocalInstallation::create(&dir, listen)?.start(true).await?;
    write_example(&dir)?;
    let file = |name: &str| dir.join(name).display().to_string();
    out.data(
        &json!({
            "address": running.address.to_string(), "dir": dir.display().to_string(),
            "verifier_key": running.verifier_key, "health": running.health.map(|at| at.to_string()),
        }),
        &[
            "==========================================================================".to_owned(),
            "  DEV: throw-away keys and certificates. Synthetic people only. Loopback.".to_owned(),
            "==========================================================================".to_owned(),
            format!("address    {} (gRPC over mutual TLS, reflection on)", running.address),
            format!(
                "metrics    {}",
                running.health.map_or_else(String::new, |at| format!("http://{at}/metrics"))
            ),
            format!("files      {}", dir.display()),
            format!("audit key  {}", running.verifier_key),
            String::new(),
            "Store a person, read the IIN back with the token that this prints, see the log:".to_owned(),
            String::new(),
            format!(
                "  sandyq tokenize --connection {} --input {}",
                file("client-backend.toml"),
                file("person.json")
            ),
            format!(
                "  sandyq detokenize --connection {} --purpose payments TOKEN",
                file("client-payments.toml")
            ),
            format!("  sandyq audit head --connection {} --platform lerna", file("client-auditor.toml")),
            String::new(),
            "Ctrl-C stops it.".to_owned(),
        ],
    )?;
    shutdown.await;
    running.stop().await
}

/// A synthetic person for the first command.
fn write_example(dir: &Path) -> Result<(), Failure> {
    let consent = |purpose: &str, fields: &[&str]| {
        json!({
            "purpose": purpose, "fields": fields, "subject_name": "Сынақова Әлия", "act": "tick",
            "third_party_transfer": true, "cross_border_transfer": false, "publication": false,
            "policy_version": 1, "language": "ru", "site": "skillbox.kz",
            "text_sha256": data_encoding::HEXLOWER.encode(&crate::crypto::digest::sha256(b"synthetic consent text")),
        })
    };
    let person = json!({
        "subject": "user-000117",
        "fields": {
            "surname": "Сынақова", "first_name": "Әлия", "iin": "991231600002",
            "phone": "8 (701) 000-00-17", "email": "aliya@example.kz",
        },
        "consents": [
            consent("payments", &["surname", "first_name", "iin"]),
            consent("request_comms", &["surname", "first_name", "phone", "email"]),
        ],
    });
    Ok(fs::write(dir.join("person.json"), serde_json::to_string_pretty(&person)?)?)
}
