//! Platforms: made from the vault's own log, each with keys and a log of its own.

use super::{
    Vault,
    act::{Act, Flow, Plan, Reply, Scene, reply},
    context::LoadError,
    error::VaultError,
    install::new_platform,
};
use crate::{
    audit::entry::{Entry, Verdict},
    domain::{
        ids::{EntryId, PlatformId},
        names::PlatformName,
    },
    store::{NewPlatform, Write},
};

/// Why a platform was not made.
#[derive(Debug, thiserror::Error)]
pub enum CreateError {
    /// Keys or log could not be made.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The vault could not write it.
    #[error("the vault could not write the platform")]
    Vault(#[from] VaultError),
}

impl Vault {
    /// Makes a platform for the operator of this machine, and answers its number.
    ///
    /// # Errors
    /// [`CreateError`].
    pub async fn create_platform(&self, name: PlatformName) -> Result<PlatformId, CreateError> {
        let last = self.platforms().last().map_or(0, |(id, _)| id.get());
        let id = PlatformId::new(last + 1);
        let shared = &self.shared;
        let now = shared.clock.now();
        let new = new_platform(
            &shared.signatory,
            shared.kms.as_ref(),
            id,
            name.clone(),
            None,
            now,
            shared.rng.as_ref(),
        );
        let (reply, waiting) = reply();
        let act = CreateAct { new: Some(new.await?), name, reply };
        self.platform(PlatformId::VAULT)?.lane.submit(act)?;
        waiting.answer().await?;
        self.find_platforms().await?;
        Ok(id)
    }
}

struct CreateAct {
    new: Option<NewPlatform>,
    name: PlatformName,
    reply: Reply<()>,
}

impl Act for CreateAct {
    fn writes(&self) -> bool {
        true
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_abandoned()
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        // A second attempt means that another replica made a platform meanwhile, under the same number or name.
        let new = self.new.take().ok_or(VaultError::Contended)?;
        let id = EntryId::random(scene.rng()).map_err(super::tokenize::unavailable)?;
        plan.entries.push(Entry {
            object_kind: Some("platform".to_owned()),
            object: Some(self.name.as_str().as_bytes().to_vec()),
            ..Entry::new(id, scene.now, scene.context.platform, "Install/CreatePlatform", Verdict::Done)
        });
        plan.reconfigures = true;
        plan.writes.push(Write::CreatePlatform(Box::new(new)));
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        self.reply.send(outcome);
    }
}
