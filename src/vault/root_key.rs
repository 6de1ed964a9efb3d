//! The root key behind an open vault. Serving does not need it; a new platform, a rotation and the next start do.

use std::{collections::BTreeSet, error::Error, time::Duration};

use super::{
    Vault,
    access::Call,
    act::Asker,
    deed::{Deed, Deeded, Hand},
    error::VaultError,
};
use crate::{
    audit::entry::Entry,
    crypto::kms::{
        KmsError,
        probe::{Asked, probe},
    },
    domain::{caller::Caller, ids::PlatformId},
};

/// One thing that was asked of the KMS.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KmsStep {
    /// What: `versions`, `wrap`, `unwrap`.
    pub name: &'static str,
    /// How long it took.
    pub took: Duration,
    /// What is wrong; none where it was done.
    pub problem: Option<String>,
}

/// A version of the root key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RootVersion {
    /// Version.
    pub version: u32,
    /// Whether it wraps.
    pub active: bool,
    /// Whether the KMS has it.
    pub present: bool,
    /// Keys of platforms that it wraps.
    pub keys: u64,
}

/// How the KMS stands that this process uses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KmsReport {
    /// Kind and place.
    pub place: String,
    /// What was asked of it, in order.
    pub steps: Vec<KmsStep>,
    /// Root versions that it has, or that keys need.
    pub roots: Vec<RootVersion>,
    /// What is wrong, or soon will be, in words.
    pub problems: Vec<String>,
}

impl Vault {
    /// Whether the KMS answers, wraps and unwraps.
    ///
    /// # Errors
    /// [`KmsError`].
    pub async fn check_kms(&self) -> Result<(), KmsError> {
        self.shared.kms.check(self.shared.rng.as_ref()).await
    }

    /// Kind and place of the KMS, for people.
    #[must_use]
    pub fn describe_kms(&self) -> String {
        self.shared.kms.describe()
    }

    /// Asks the KMS for each thing that the vault asks of it, and holds its root versions against the keys that need them.
    ///
    /// # Errors
    /// [`VaultError`]; a KMS that fails is an answer.
    pub async fn kms_report(&self, caller: &Caller, asker: Asker) -> Result<KmsReport, VaultError> {
        self.run(PlatformId::VAULT, caller, asker, MayCheck).await?;
        let found = probe(self.shared.kms.as_ref(), self.shared.rng.as_ref()).await;
        let wraps = self.root_wraps().await?;
        let mut steps = vec![step("versions", &found.versions), step("wrap", &found.wrap)];
        steps.extend(found.unwrap.as_ref().map(|asked| step("unwrap", asked)));
        let failed = steps.iter().filter_map(|step| {
            step.problem.as_ref().map(|problem| format!("{} failed: {problem}", step.name))
        });
        let mut problems: Vec<_> = failed.collect();
        let mut roots = Vec::new();
        if let Ok(versions) = &found.versions.outcome {
            let known: BTreeSet<_> = versions.present.iter().chain(wraps.keys()).copied().collect();
            for version in known {
                let (active, present) = (version == versions.active, versions.present.contains(&version));
                let keys = wraps.get(&version).copied().unwrap_or(0);
                problems.extend(judge(version, versions.active, present, keys));
                roots.push(RootVersion { version, active, present, keys });
            }
        }
        Ok(KmsReport { place: self.describe_kms(), steps, roots, problems })
    }
}

fn step<T>(name: &'static str, asked: &Asked<T>) -> KmsStep {
    KmsStep { name, took: asked.took, problem: asked.outcome.as_ref().err().map(in_words) }
}

/// An error with what caused it.
fn in_words(error: &KmsError) -> String {
    let (mut text, mut source) = (error.to_string(), error.source());
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}

/// What is wrong with one version, in words.
fn judge(version: u32, active: u32, present: bool, keys: u64) -> Option<String> {
    if !present {
        return Some(format!(
            "root version {version} wraps {keys} keys and is not in the KMS: processes that run go on, the next start will not"
        ));
    }
    if version > active {
        return Some(format!(
            "root version {version} is newer than the active one: a rotation is not done, or somebody made it by hand"
        ));
    }
    (version < active && keys > 0).then(|| {
        format!("root version {version} still wraps {keys} keys: a rotation is not done; rotate again where none runs")
    })
}

/// Whether the caller may look.
struct MayCheck;

impl Deed for MayCheck {
    type Answer = ();

    fn call(&self) -> Call {
        Call::CheckKms
    }

    fn changes(&self) -> bool {
        false
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<()>, VaultError> {
        hand.log(|entry| Entry { object_kind: Some("key".to_owned()), ..entry })?;
        Ok(Deeded::answer(()))
    }
}

#[cfg(test)]
mod tests {
    use super::judge;

    #[test]
    fn a_version_that_is_needed_and_gone_is_the_worst() {
        assert_eq!(judge(2, 2, true, 7), None);
        assert_eq!(judge(1, 2, true, 0), None);
        assert!(judge(1, 2, true, 3).unwrap().contains("still wraps 3 keys"));
        assert!(judge(3, 2, true, 0).unwrap().contains("newer than the active one"));
        assert!(judge(1, 2, false, 3).unwrap().contains("is not in the KMS"));
    }
}
