//! Refusals before a decision: counted, and summed into one log entry a caller, reason and minute, so that a flood of
//! them leaves its mark and cannot fill the disk.

use std::{
    collections::BTreeMap,
    sync::{Mutex, PoisonError},
};

use super::{
    Vault,
    act::{Act, Flow, Plan, Reply, Scene, reply},
    error::VaultError,
};
use crate::{
    audit::entry::{Entry, Verdict},
    domain::{
        caller::Caller,
        code::coded,
        ids::{CallerId, EntryId, PlatformId},
    },
};

const CALL: &str = "Refusals/Summary";

coded!(
    /// Why something was refused before a decision.
    Refusal, "refusal" {
        /// No handshake: no certificate, an unknown authority, no single SPIFFE ID.
        Handshake = "HANDSHAKE",
        /// The certificate names no enrolled caller.
        CallerUnknown = "CALLER_UNKNOWN",
        /// The caller pins keys, and its certificate had another.
        KeyNotPinned = "KEY_NOT_PINNED",
        /// The certificate's key is none that two people attested to live on the person's hardware.
        StaffKeyNotEnrolled = "STAFF_KEY_NOT_ENROLLED",
        /// The certificate is on the block list.
        CertificateBlocked = "CERTIFICATE_BLOCKED",
        /// The text was not a token.
        TokenMalformed = "TOKEN_MALFORMED",
        /// The caller had too many calls at once, or in a second.
        CallerLimited = "CALLER_LIMITED",
        /// The lane was full.
        Overloaded = "OVERLOADED",
    }
);

/// Counts since the last summary. Keys are enrolled callers and reasons, so their number is bounded.
#[derive(Debug, Default)]
pub(super) struct Refusals(Mutex<Counts>);

/// Counts by platform, caller (none for strangers) and reason.
type Counts = BTreeMap<(PlatformId, Option<CallerId>, &'static str), u64>;

impl Refusals {
    /// Adds, and answers the sum since the last summary.
    fn add(&self, platform: PlatformId, caller: Option<CallerId>, refusal: Refusal, count: u64) -> u64 {
        let mut counts = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let sum = counts.entry((platform, caller, refusal.as_str())).or_default();
        *sum = sum.saturating_add(count);
        *sum
    }

    fn take(&self) -> Counts {
        std::mem::take(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Vault {
    /// Counts refusals of a caller, for its platform's log.
    pub fn count_refusals(&self, caller: &Caller, refusal: Refusal, count: u64) {
        if count > 0 {
            self.shared.meters.count_refusals(refusal, count);
            self.refusals.add(caller.platform, Some(caller.id), refusal, count);
        }
    }

    /// Counts a refusal of somebody unknown, for the vault's own log. True for the first since the last summary: the
    /// one that is worth a line in the server's log, which strangers must not be able to fill.
    pub fn count_stranger(&self, refusal: Refusal) -> bool {
        self.shared.meters.count_refusals(refusal, 1);
        self.refusals.add(PlatformId::VAULT, None, refusal, 1) == 1
    }

    /// Writes what was counted since the last time. Counts that cannot be written now are kept.
    ///
    /// # Errors
    /// [`VaultError`] of the first lane that failed.
    pub async fn log_refusals(&self) -> Result<(), VaultError> {
        let mut by_platform: BTreeMap<PlatformId, Vec<Sum>> = BTreeMap::new();
        for ((platform, caller, reason), count) in self.refusals.take() {
            by_platform.entry(platform).or_default().push(Sum { caller, reason, count });
        }
        // All are in their lanes before the first is waited for: who stops waiting loses none.
        let mut submitted = Vec::new();
        for (platform, sums) in by_platform {
            let (reply, waiting) = reply();
            let act = SummaryAct { sums: sums.clone(), reply };
            submitted.push((
                platform,
                sums,
                waiting,
                self.platform(platform).and_then(|p| p.lane.submit(act)),
            ));
        }
        let mut outcome = Ok(());
        for (platform, sums, waiting, submitted) in submitted {
            let written = match submitted {
                Ok(()) => waiting.answer().await,
                Err(error) => Err(error),
            };
            if let Err(error) = written {
                let mut counts = self.refusals.0.lock().unwrap_or_else(PoisonError::into_inner);
                for Sum { caller, reason, count } in sums {
                    *counts.entry((platform, caller, reason)).or_default() += count;
                }
                outcome = Err(error);
            }
        }
        outcome
    }
}

#[derive(Clone, Copy)]
struct Sum {
    caller: Option<CallerId>,
    reason: &'static str,
    count: u64,
}

struct SummaryAct {
    sums: Vec<Sum>,
    reply: Reply<()>,
}

impl Act for SummaryAct {
    fn writes(&self) -> bool {
        // It writes no row, but what it counts must not be dropped where nobody waits.
        true
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_abandoned()
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        for sum in &self.sums {
            let id = EntryId::random(scene.rng()).map_err(super::tokenize::unavailable)?;
            plan.entries.push(Entry {
                caller: sum.caller.map(|id| (*id.as_bytes()).into()),
                reason: Some(sum.reason.to_owned()),
                count: Some(sum.count),
                ..Entry::new(id, scene.now, scene.context.platform, CALL, Verdict::Deny)
            });
        }
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        self.reply.send(outcome);
    }
}
