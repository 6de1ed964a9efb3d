//! The KMS of a configuration, and `sandyq kms check`, which asks a running vault about its own.

use std::sync::Arc;

use clap::Subcommand;
use serde_json::json;

use super::{
    client::{self, keys},
    output::{Failure, Out, exit, refused},
};
use crate::{
    config::{Config, RootKey, SecretPlace, TransitLogin},
    crypto::kms::{
        Kms, KmsError, SecretSource,
        local::LocalKms,
        pkcs11::{Pkcs11Kms, Pkcs11Options},
        transit::{Login, TransitKms, TransitOptions},
    },
    domain::{rng::Rng, territory::Territory, time::Clock},
    grpc::pb,
    residency::Residency,
};

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Ask a running vault's KMS to wrap, to unwrap and for its versions, and say how long each took and what is wrong.
    Check(client::Args),
}

pub(super) async fn run(command: Command, out: &mut Out) -> Result<(), Failure> {
    let Command::Check(client) = command;
    let answer = keys(client.connect().await?).check_kms(pb::CheckKmsRequest {}).await.map_err(refused)?;
    let report = answer.into_inner();
    let steps: Vec<_> = report.steps.iter().map(|step| {
        json!({ "name": step.name, "duration_micros": step.duration_micros, "problem": step.problem })
    }).collect();
    let versions: Vec<_> = report.versions.iter().map(|root| {
        json!({ "version": root.version, "active": root.active, "present": root.present, "keys": root.keys })
    }).collect();
    let json = json!({
        "place": report.place, "steps": steps, "versions": versions, "problems": report.problems,
        "well": report.problems.is_empty(),
    });
    let mut lines = vec![format!("kms        {}", report.place)];
    lines.extend(report.steps.iter().map(|step| {
        let how = if step.problem.is_empty() { "done" } else { "FAILED" };
        format!("{:<10} {how} in {} \u{b5}s", step.name, step.duration_micros)
    }));
    lines.extend(report.versions.iter().map(|root| {
        let state = match (root.present, root.active) {
            (false, _) => "MISSING",
            (true, true) => "active",
            (true, false) => "not active",
        };
        format!("version {:<2} {state}, wraps {} keys of platforms", root.version, root.keys)
    }));
    lines.extend(report.problems.iter().map(|problem| format!("PROBLEM    {problem}")));
    out.data(&json, &lines)?;
    match report.problems.first() {
        None => Ok(()),
        Some(first) => Err(Failure::new(exit::FAILED, format!("the KMS is not well: {first}"))),
    }
}

/// The KMS of a configuration, which need not answer yet.
pub(super) fn open_kms(
    config: &Config,
    territory: &Arc<Residency>,
    clock: &Arc<Clock>,
) -> Result<Arc<dyn Kms>, Failure> {
    config.check_root_key_files()?;
    Ok(match config.root_key()? {
        RootKey::Local { file, unseal_key } => Arc::new(LocalKms::new(&file, &unseal_key)),
        RootKey::Pkcs11 { module, token, label, pin } => {
            Arc::new(Pkcs11Kms::new(Pkcs11Options { module, token, label, pin: source(pin) })?)
        }
        RootKey::Transit { address, authority, mount, key, login } => {
            let login = match login {
                TransitLogin::Token(place) => Login::TokenFile(source(place)),
                TransitLogin::Kubernetes { mount, role, jwt } => {
                    Login::Kubernetes { mount, role, jwt: source(jwt) }
                }
            };
            let territory: Arc<dyn Territory> = Arc::<Residency>::clone(territory);
            let options = TransitOptions { address, authority, mount, key, login, territory };
            Arc::new(TransitKms::new(options, Arc::clone(clock))?)
        }
    })
}

/// A secret that is read each time that it is needed.
pub(super) fn source(place: SecretPlace) -> SecretSource {
    Box::new(move || Ok(place.read()?))
}

/// Refuses to go on where the KMS does not answer, or does not wrap and unwrap.
pub(super) async fn require(kms: &dyn Kms, rng: &dyn Rng) -> Result<(), Failure> {
    kms.check(rng).await.map_err(|error| away(kms, error))
}

/// The failure of a KMS, which it names with its place.
pub(super) fn away(kms: &dyn Kms, error: KmsError) -> Failure {
    Failure::new(
        exit::FAILED,
        format!("no root key from the {}: {}", kms.describe(), Failure::from(error).message()),
    )
}
