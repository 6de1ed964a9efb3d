//! Platform keys rotated by the calendar: each some time before its version is as old as the configuration lets it become, so
//! that a hundred platforms do not rotate in one minute. How much earlier is drawn once for each version. Whoever sees first
//! that a rotation is due begins it; one open rotation is all that a platform has.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{KeyKind, KeyState, rotate::NewVersion};
use crate::{
    audit::entry::{Entry, Verdict},
    domain::{
        ids::{EntryId, PlatformId},
        operation::Operation,
        rng::random_bytes,
        time::Timestamp,
    },
    vault::{
        Vault,
        act::{Act, Claim, Flow, Plan, Reply, Scene, reply},
        error::VaultError,
        tokenize::unavailable,
    },
};

/// A rotation comes at most this part of its time early.
const EARLY: u32 = 10;

/// What this process knows of what is due.
#[derive(Default)]
pub(in crate::vault) struct Schedule {
    /// How much earlier each version is replaced, as it was drawn.
    drawn: Mutex<BTreeMap<(PlatformId, u32), u64>>,
    /// Entries of the log when a rotation had to wait since time may have jumped: until somebody is logged there it would
    /// wait again, and no key is made for it.
    waits: Mutex<BTreeMap<PlatformId, u64>>,
}

impl Schedule {
    fn waits(&self) -> MutexGuard<'_, BTreeMap<PlatformId, u64>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// When a version is due that was made at a moment, for a number that was drawn.
fn due(made: Timestamp, every: Duration, drawn: u64) -> Timestamp {
    let most = u64::try_from((every / EARLY).as_micros()).unwrap_or(u64::MAX).max(1);
    let early = Duration::from_micros(drawn % most);
    made.plus(every.saturating_sub(early))
}

impl Vault {
    /// Begins the rotation of a platform's key, where it is time.
    pub(in crate::vault) async fn rotate_on_schedule(&self, platform: PlatformId) -> Result<(), VaultError> {
        let Some(every) = self.shared.options.rotate_every else { return Ok(()) };
        let context = self.context(platform)?;
        let active = context
            .key_rows()
            .iter()
            .find(|row| row.kind == KeyKind::Platform.as_str() && row.state == KeyState::Active);
        let Some(active) = active else { return Ok(()) };
        let drawn = self.drawn(platform, active.version)?;
        let now = self.shared.clock.now();
        if now < due(active.created_at, every, drawn) {
            return Ok(());
        }
        // One that somebody called off is not begun again before its time.
        let last = self.last_rotation(platform).await?;
        if last.is_some_and(|last| last.is_open() || now < due(last.created_at, every, drawn)) {
            return Ok(());
        }
        let entries = self.platform(platform)?.lane.log_entries();
        if self.schedule.waits().get(&platform) == Some(&entries) {
            return Ok(());
        }
        let new = self.new_version(platform).await?;
        let (reply, waiting) = reply();
        let act = Begin { new, due_at: due(active.created_at, every, drawn), begun: None, reply };
        self.platform(platform)?.lane.submit(act)?;
        match waiting.answer().await {
            Ok(None) => {
                self.schedule.waits().insert(platform, entries);
                Ok(())
            }
            // Or another process was faster.
            Ok(Some(_)) | Err(VaultError::Contended) => Ok(()),
            Err(other) => Err(other),
        }
    }

    fn drawn(&self, platform: PlatformId, version: u32) -> Result<u64, VaultError> {
        let mut drawn = self.schedule.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = drawn.get(&(platform, version)) {
            return Ok(*known);
        }
        let new = u64::from_be_bytes(random_bytes::<8>(self.shared.rng.as_ref()).map_err(unavailable)?);
        drawn.insert((platform, version), new);
        Ok(new)
    }
}

/// The beginning of a rotation that is due.
struct Begin {
    new: NewVersion,
    due_at: Timestamp,
    begun: Option<Operation>,
    reply: Reply<Option<Operation>>,
}

impl Act for Begin {
    fn writes(&self) -> bool {
        true
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_abandoned()
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        self.begun = None;
        let platform = scene.context.platform;
        if scene.now < self.due_at || scene.time_jumped() {
            tracing::warn!(
                platform = platform.get(),
                "time is more than a day past the log's last entry, or not what this process believes: the rotation waits"
            );
            return Ok(Flow::Ready);
        }
        if !plan.claim(Claim::Config) {
            return Ok(Flow::Later);
        }
        let begun = self.new.begin(scene)?;
        let id = EntryId::random(scene.rng()).map_err(unavailable)?;
        plan.entries.push(begun.about(Entry::new(
            id,
            scene.now,
            platform,
            "Schedule/RotateKey",
            Verdict::Done,
        )));
        self.begun = Some(begun.operation.clone());
        begun.put(plan);
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        let Self { begun, reply, .. } = *self;
        reply.send(outcome.map(|()| begun));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_version_is_replaced_in_the_last_tenth_of_its_time() {
        let (made, every) = (Timestamp::from_micros(1_000_000), Duration::from_hours(240));
        let day = |hours: u64| made.plus(Duration::from_hours(hours));
        assert_eq!(due(made, every, 0), day(240));
        assert_eq!(due(made, every, 3_600_000_000), day(239));
        for drawn in [1, 77, u64::MAX / 3, u64::MAX] {
            let at = due(made, every, drawn);
            assert!(at > day(216) && at <= day(240), "{drawn}");
        }
    }
}
