//! The KMS of a configuration.

use std::sync::Arc;

use super::output::{Failure, exit};
use crate::{
    config::{Config, RootKey, SecretPlace, TransitLogin},
    crypto::kms::{
        Kms, KmsError, SecretSource,
        local::LocalKms,
        pkcs11::{Pkcs11Kms, Pkcs11Options},
        transit::{Login, TransitKms, TransitOptions},
    },
    domain::{rng::Rng, time::Clock},
};

/// The KMS of a configuration, which need not answer yet.
pub(super) fn open_kms(config: &Config, clock: &Arc<Clock>) -> Result<Arc<dyn Kms>, Failure> {
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
            let options = TransitOptions { address, authority, mount, key, login };
            Arc::new(TransitKms::new(options, Arc::clone(clock))?)
        }
    })
}

fn source(place: SecretPlace) -> SecretSource {
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
