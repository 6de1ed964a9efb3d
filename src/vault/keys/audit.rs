//! The audit key's own part of a rotation. From the moment that the new version is active each commit is signed by it, and
//! the first one of each log hands that log over: it announces the new key, and both keys sign its head. What is left to do
//! is to see that every log has such a commit, also one that nobody writes to.

use super::rotation::{Step, Went, go_on};
use crate::{
    audit::entry::{Entry, Verdict},
    domain::{
        ids::{EntryId, OperationId, PlatformId},
        operation::{Operation, Phase},
    },
    vault::{
        Vault,
        act::{Act, Flow, Plan, Reply, Scene, reply},
        error::{VaultError, unreadable},
        tokenize::unavailable,
    },
};

impl Vault {
    /// Hands over, or looks at, every log.
    pub(super) async fn hand_over(&self, taken: &mut Operation) -> Result<Went, VaultError> {
        self.find_platforms().await.map_err(unreadable)?;
        let mut logs = 0;
        for (platform, _) in self.platforms() {
            logs += 1;
            if self.is_handed_over(platform, taken.key_version).await? {
                continue;
            }
            if taken.phase == Phase::Verify {
                tracing::error!(platform = platform.get(), "a log is not signed by the new audit key");
                self.key_step(taken.clone(), Step::Fail).await?;
                return Ok(Went::Stopped);
            }
            // The vault's own log goes over with the operation's own commits.
            if platform != PlatformId::VAULT {
                let (reply, waiting) = reply();
                self.platform(platform)?.lane.submit(HandOver { operation: taken.id, reply })?;
                waiting.answer().await?;
            }
        }
        let step = Step::Walked { steps: logs, last: true };
        Ok(go_on(taken, self.key_step(taken.clone(), step).await?))
    }

    /// Whether this version signed the newest head of a log.
    async fn is_handed_over(&self, platform: PlatformId, version: u32) -> Result<bool, VaultError> {
        let head = self.shared.store.tree(platform).await.map_err(unavailable)?.head;
        let signatory = self.shared.signatory().map_err(unreadable)?;
        Ok(signatory.signers(&head.checkpoint).is_some_and(|signers| signers.newest == version))
    }
}

/// A commit in a log that may have none otherwise.
struct HandOver {
    operation: OperationId,
    reply: Reply<()>,
}

impl Act for HandOver {
    fn writes(&self) -> bool {
        true
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_abandoned()
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        let id = EntryId::random(scene.rng()).map_err(unavailable)?;
        let platform = scene.context.platform;
        plan.entries.push(Entry {
            object_kind: Some("operation".to_owned()),
            object: Some(self.operation.as_bytes().to_vec()),
            ..Entry::new(id, scene.now, platform, "Operation/HandOver", Verdict::Done)
        });
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        self.reply.send(outcome);
    }
}
