//! Proposals whose time ended without anybody: they cannot be approved from that moment on, and some time later their
//! rows say so and their requests go.

use std::{sync::Arc, time::Duration};

use super::{
    Vault,
    act::{Act, Claim, Flow, Plan, Reply, Scene, reply},
    context::Context,
    error::{VaultError, unreadable},
    proposals::{about, ended, is_over},
    tokenize::unavailable,
};
use crate::{
    audit::entry::{Entry, Verdict},
    domain::{
        ids::{EntryId, PlatformId, ProposalId},
        proposal::ProposalState,
    },
    store::{ReadKeys, Write},
};

const CALL: &str = "Proposal/Expire";
/// Proposals that one look ends.
const AT_ONCE: u32 = 64;

/// Ends what has expired, once a minute, for as long as it is polled.
pub async fn expire_forever(vault: Arc<Vault>) {
    let mut minutes = tokio::time::interval(Duration::from_mins(1));
    loop {
        minutes.tick().await;
        if let Err(error) = vault.end_expired_proposals().await {
            tracing::warn!(%error, "expired proposals could not be ended yet");
        }
    }
}

impl Vault {
    /// Ends proposals whose time has ended, on every platform.
    ///
    /// # Errors
    /// [`VaultError`] of the first platform that failed.
    pub async fn end_expired_proposals(&self) -> Result<(), VaultError> {
        for (platform, _) in self.platforms() {
            self.expire_on(platform).await?;
        }
        Ok(())
    }

    async fn expire_on(&self, platform: PlatformId) -> Result<(), VaultError> {
        let now = self.shared.clock.now();
        let ids = self.shared.store.expired_proposals(platform, now, AT_ONCE).await.map_err(unreadable)?;
        if ids.is_empty() {
            return Ok(());
        }
        let (reply, waiting) = reply();
        self.platform(platform)?.lane.submit(ExpireAct { ids, reply })?;
        waiting.answer().await
    }
}

struct ExpireAct {
    ids: Vec<ProposalId>,
    reply: Reply<()>,
}

impl Act for ExpireAct {
    fn writes(&self) -> bool {
        true
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_abandoned()
    }

    fn reads(&self, _context: &Context, keys: &mut ReadKeys) {
        keys.proposals.extend(&self.ids);
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        for id in &self.ids {
            // One that was edited stays as it is, for the reconciliation to find.
            let Ok(row) = scene.proposal(*id) else { continue };
            if !is_over(row, scene.now) || !plan.claim(Claim::Proposal(*id)) {
                continue;
            }
            let next = ended(scene, row, ProposalState::Expired, None, None);
            let entry = EntryId::random(scene.rng()).map_err(unavailable)?;
            let entry = Entry::new(entry, scene.now, scene.context.platform, CALL, Verdict::Done);
            plan.entries.push(about(&next, entry));
            plan.writes.push(Write::EndProposal(next, row.mac));
        }
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        self.reply.send(outcome);
    }
}
