//! A look at a KMS, step by step, for people: what it did, how long it took, what is wrong.

use std::time::{Duration, Instant};

use super::{Kms, KmsError, RootVersions};
use crate::{
    crypto::aead::Key,
    domain::{canonical::Canonical, rng::Rng},
};

/// One thing that was asked of a KMS.
#[derive(Debug)]
pub struct Asked<T> {
    /// What came of it.
    pub outcome: Result<T, KmsError>,
    /// How long it took.
    pub took: Duration,
}

impl<T> Asked<T> {
    async fn of(question: impl Future<Output = Result<T, KmsError>>) -> Self {
        let began = Instant::now();
        let outcome = question.await;
        Self { outcome, took: began.elapsed() }
    }
}

/// What a KMS did when it was asked for each thing once.
#[derive(Debug)]
pub struct Probe {
    /// A key that nobody keeps, wrapped.
    pub wrap: Asked<()>,
    /// The same, opened again; none where it was not wrapped.
    pub unwrap: Option<Asked<()>>,
    /// The root versions.
    pub versions: Asked<RootVersions>,
}

/// Asks a KMS for each thing once.
pub async fn probe(kms: &dyn Kms, rng: &dyn Rng) -> Probe {
    let place = Canonical::new("probe");
    let versions = Asked::of(kms.versions()).await;
    let key = match Key::random(rng) {
        Ok(key) => key,
        Err(error) => {
            let wrap = Asked { outcome: Err(error.into()), took: Duration::ZERO };
            return Probe { wrap, unwrap: None, versions };
        }
    };
    let wrapped = Asked::of(kms.wrap(&place, &key, rng)).await;
    let (wrap, unwrap) = match wrapped.outcome {
        Ok(sealed) => {
            let opened = Asked::of(async { super::same(&kms.unwrap(&place, &sealed).await?, &key) }).await;
            (Ok(()), Some(opened))
        }
        Err(error) => (Err(error), None),
    };
    Probe { wrap: Asked { outcome: wrap, took: wrapped.took }, unwrap, versions }
}
