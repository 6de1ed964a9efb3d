//! `sandyq init`.

use std::sync::Arc;

use serde_json::json;

use super::{
    kms::{away, open_kms, require},
    output::{Failure, Out, exit},
    serve::{self, open_store},
    territory::territory,
};
use crate::{
    config::{Config, Database, RootKey},
    crypto::{kms::KmsError, random::SystemRng},
    domain::time::Clock,
    vault::{Vault, error::VaultError, install::create_installation},
};

pub(super) async fn run(args: &serve::ConfigArgs, out: &mut Out) -> Result<(), Failure> {
    let config = Config::load(&args.config)?;
    let done = init(&config, Arc::default()).await?;
    let mut lines = Vec::new();
    if done.created {
        lines.push(format!("Created installation {}.", config.installation.name));
    }
    if done.officers_enrolled {
        let handles: Vec<_> = config.officer.iter().map(|officer| officer.handle.as_str()).collect();
        lines.push(format!("Enrolled the first officers: {}.", handles.join(", ")));
    }
    if lines.is_empty() {
        lines.push("Nothing to do: the installation exists, and has its officers.".to_owned());
    }
    if done.created {
        lines.push(keep(&config.root_key()?));
    }
    lines.push(String::new());
    lines.push(
        "Audit key (keep it outside the installation; `sandyq audit verify` starts from it):".to_owned(),
    );
    lines.push(done.verifier_key.clone());
    out.data(
        &json!({
            "created": done.created, "officers_enrolled": done.officers_enrolled,
            "governance": config.governance.mode, "verifier_key": done.verifier_key,
        }),
        &lines,
    )?;
    Ok(())
}

/// What losing the root key means, and what guards against it.
fn keep(root_key: &RootKey) -> String {
    match root_key {
        RootKey::Local { file, unseal_key } => format!(
            "Root key: {} and {}. Losing either loses every value: back both up, apart from each other, and move the \
             unseal key to another medium (SECURITY.md).",
            file.display(),
            unseal_key.display()
        ),
        RootKey::Pkcs11 { token, label, .. } => format!(
            "Root key: {label} in token {token}. Losing it loses every value: back the token up as its maker says \
             (docs/kms.md)."
        ),
        RootKey::Transit { address, key, .. } => format!(
            "Root key: {key} at {address}. Losing it loses every value: back that server up, with what unseals it \
             (docs/kms.md)."
        ),
    }
}

/// What an init did.
pub(super) struct Done {
    pub(super) created: bool,
    pub(super) officers_enrolled: bool,
    pub(super) verifier_key: String,
}

/// Makes what is not there yet, at the time of this clock: root key, database, installation, the first officers.
pub(super) async fn init(config: &Config, clock: Arc<Clock>) -> Result<Done, Failure> {
    let rng = Arc::new(SystemRng::new());
    let territory = territory(config, &clock).await?;
    let fresh = match config.database()? {
        Database::Sqlite(path) => !path.exists(),
        Database::Postgres(_) => {
            let store = open_store(config, &territory, true).await?;
            let installation = store.installation().await?;
            store.close().await;
            installation.is_none()
        }
    };
    // They are judged before anything is made; later the file may go without them.
    let officers = if fresh || !config.officer.is_empty() { config.officers()? } else { Vec::new() };
    let kms = open_kms(config, &territory, &clock)?;
    match kms.versions().await {
        Err(KmsError::NoRoot) if fresh => {
            kms.make_first(rng.as_ref()).await.map_err(|e| away(kms.as_ref(), e))?;
        }
        Err(KmsError::NoRoot) => {
            let message =
                "there is a database, but no root key: a new root key could not open an old database";
            return Err(Failure::new(exit::FAILED, format!("{}: {message}", kms.describe())));
        }
        _ => {}
    }
    require(kms.as_ref(), rng.as_ref()).await?;
    let store = open_store(config, &territory, true).await?;
    let now = clock.now();
    let created = match store.installation().await? {
        None => {
            let name = &config.installation.name;
            create_installation(store.as_ref(), kms.as_ref(), name, now, rng.as_ref()).await?;
            true
        }
        Some(installation) if installation.name == config.installation.name => false,
        Some(installation) => {
            let message = format!("the database is of installation {}", installation.name);
            return Err(Failure::new(exit::FAILED, message));
        }
    };
    let vault = Vault::open(store, kms, clock, rng, None).await?.with_settings(config.settings()?);
    let enrolled = if vault.has_nobody()? { vault.enrol_officers(officers).await } else { Ok(false) };
    let verifier_key = vault.verifier_key();
    vault.close().await;
    let officers_enrolled = match enrolled {
        Err(VaultError::Invalid(rules)) => {
            let rules: Vec<_> = rules.into_iter().map(|v| format!("{}: {}", v.field, v.rule)).collect();
            return Err(Failure::new(exit::FAILED, rules.join("; ")));
        }
        other => other?,
    };
    Ok(Done { created, officers_enrolled, verifier_key })
}
