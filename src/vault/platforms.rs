//! Platforms: made from the vault's own log, each with keys and a log of its own.

use std::sync::Arc;

use super::{
    Vault,
    access::Call,
    act::{Asker, Claim},
    deed::{Deed, Deeded, Hand},
    error::{VaultError, unreadable},
    install::new_platform,
    page::{Page, PageAsk, Slice},
    replay::ItemOutcome,
};
use crate::{
    audit::entry::Entry,
    crypto::digest::sha256,
    domain::{caller::Caller, ids::PlatformId, names::PlatformName, platform::Platform},
    policy::decide::Denial,
    store::{NewPlatform, Write},
};

/// Times that a platform's keys are made: another replica may take its number meanwhile.
const ATTEMPTS: u32 = 3;

/// A platform as a list shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlatformView {
    /// The platform.
    pub platform: Platform,
    /// Version of its policy in force.
    pub policy_version: Option<u32>,
}

impl Vault {
    /// Makes a platform, without policy and callers.
    ///
    /// # Errors
    /// [`VaultError`]; [`Denial::NameTaken`] where the installation has or had one of this name.
    pub async fn create_platform(
        &self,
        caller: &Caller,
        asker: Asker,
        name: PlatformName,
        legal_name: String,
        bin: String,
    ) -> Result<Platform, VaultError> {
        let mut attempt = 1;
        loop {
            self.find_platforms().await.map_err(unreadable)?;
            let known: Vec<_> =
                self.platforms().into_iter().filter_map(|(id, _)| self.described(id)).collect();
            let id = PlatformId::new(known.last().map_or(0, |last| last.id.get()) + 1);
            let staff = self.shared.staff.load_full();
            let wanted = Call::CreatePlatform.allows(caller, PlatformId::VAULT, &staff).is_ok()
                && known.iter().all(|platform| platform.name != name);
            // Keys are made before the deed, since a lane never waits for the KMS; and only where they may be needed.
            let new = if wanted {
                let created_at = self.shared.clock.now();
                let (name, legal_name, bin) = (name.clone(), legal_name.clone(), bin.clone());
                Some(self.new_platform(Platform { id, name, legal_name, bin, created_at }).await?)
            } else {
                None
            };
            let done = self.run(PlatformId::VAULT, caller, asker.clone(), Create { new, known }).await;
            match done {
                Err(VaultError::Contended) if attempt < ATTEMPTS => attempt += 1,
                Err(error) => return Err(error),
                Ok(platform) => {
                    self.find_platforms().await.map_err(unreadable)?;
                    return Ok(platform);
                }
            }
        }
    }

    async fn new_platform(&self, platform: Platform) -> Result<Arc<NewPlatform>, VaultError> {
        let shared = &self.shared;
        let signatory = shared.signatory().map_err(unreadable)?;
        let new = new_platform(&signatory, shared.kms.as_ref(), platform, None, shared.rng.as_ref());
        new.await.map(Arc::new).map_err(unreadable)
    }

    /// Lists platforms by name.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn list_platforms(
        &self,
        caller: &Caller,
        asker: Asker,
        page: PageAsk,
    ) -> Result<Page<PlatformView>, VaultError> {
        let describe = |id, slice| Describe { slice, platform: self.described(id) };
        self.gather(caller, &asker, Call::ListPlatforms, "", page, describe).await
    }
}

struct Create {
    /// None where the name is taken, or the caller may not.
    new: Option<Arc<NewPlatform>>,
    /// Platforms that there are.
    known: Vec<Platform>,
}

impl Deed for Create {
    type Answer = Platform;

    fn call(&self) -> Call {
        Call::CreatePlatform
    }

    fn changes(&self) -> bool {
        true
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Platform>, VaultError> {
        if !hand.plan.claim(Claim::Config) {
            return Ok(Deeded::Later);
        }
        let new = self.new.as_ref().ok_or(Denial::NameTaken)?;
        let platform = new.platform.clone();
        hand.log(|entry| Entry {
            object_kind: Some("platform".to_owned()),
            object: Some(platform.name.as_str().as_bytes().to_vec()),
            detail_sha256: Some(sha256(platform.image().as_bytes()).into()),
            ..entry
        })?;
        hand.plan.reconfigures = true;
        hand.plan.writes.push(Write::CreatePlatform(Arc::clone(new)));
        let numbers = vec![i64::from(platform.id.get())];
        Ok(Deeded::changed(platform, ItemOutcome { numbers, ..ItemOutcome::default() }))
    }

    fn again(&self, _hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<Platform, VaultError> {
        let number = before.number(0)?;
        let made = self.known.iter().find(|platform| i64::from(platform.id.get()) == number);
        Ok(made.cloned().ok_or(Denial::PlatformNotFound)?)
    }
}

struct Describe {
    slice: Slice,
    platform: Option<Platform>,
}

impl Deed for Describe {
    type Answer = Vec<(String, PlatformView)>;

    fn call(&self) -> Call {
        Call::ListPlatforms
    }

    fn changes(&self) -> bool {
        false
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Self::Answer>, VaultError> {
        // Leaves no entry: names and dates of the installation (`Call::unlogged`).
        let policy_version = hand.scene.context.policy(hand.scene.now).map(|policy| policy.version);
        let view = self.platform.clone().map(|platform| PlatformView { platform, policy_version });
        Ok(Deeded::answer(self.slice.of(view.map(|view| (String::new(), view)).into_iter())))
    }
}
