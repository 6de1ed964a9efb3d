//! Keys rotated by the calendar: each some time before its version is as old as the configuration lets it become, so
//! that a hundred platforms do not rotate in one minute. How much earlier is drawn once for each version. Whoever sees first
//! that a rotation is due begins it; one open rotation is all that a platform has.

use std::{
    collections::BTreeMap,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::{KeyKind, KeyState, horizon, root, rotate::NewVersion};
use crate::{
    audit::entry::{Entry, Verdict},
    domain::{
        horizon::HorizonPlan,
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

/// A version of a key of a platform.
type Version = (PlatformId, KeyKind, u32);

/// What this process knows of what is due.
#[derive(Default)]
pub(in crate::vault) struct Schedule {
    /// How much earlier each version is replaced, as it was drawn.
    drawn: Mutex<BTreeMap<Version, u64>>,
    /// Entries of the log when a rotation had to wait since time may have jumped: until somebody is logged there it would
    /// wait again, and no key is made for it.
    waits: Mutex<BTreeMap<(PlatformId, KeyKind), u64>>,
    /// When it was last counted what is under a version that is to be destroyed.
    counted: Mutex<BTreeMap<Version, Timestamp>>,
}

/// How long it is not counted again.
const COUNT_AGAIN: Duration = Duration::from_hours(1);

impl Schedule {
    fn waits(&self) -> MutexGuard<'_, BTreeMap<(PlatformId, KeyKind), u64>> {
        self.waits.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether it is time to count again.
    pub(super) fn may_try(&self, platform: PlatformId, kind: KeyKind, version: u32, now: Timestamp) -> bool {
        let mut counted = self.counted.lock().unwrap_or_else(PoisonError::into_inner);
        let last = counted.get(&(platform, kind, version));
        if last.is_some_and(|last| now < last.plus(COUNT_AGAIN)) {
            return false;
        }
        counted.insert((platform, kind, version), now);
        true
    }

    /// Counts again with the next look.
    pub(super) fn try_again(&self, platform: PlatformId, kind: KeyKind, version: u32) {
        self.counted.lock().unwrap_or_else(PoisonError::into_inner).remove(&(platform, kind, version));
    }
}

/// When a version is due that was made at a moment, for a number that was drawn.
fn due(made: Timestamp, every: Duration, drawn: u64) -> Timestamp {
    let most = u64::try_from((every / EARLY).as_micros()).unwrap_or(u64::MAX).max(1);
    let early = Duration::from_micros(drawn % most);
    made.plus(every.saturating_sub(early))
}

impl Vault {
    /// Begins the rotations of a platform's keys that are due: of the platform key where the configuration says so, of all that
    /// backups need where a standing plan of the horizon holds.
    pub(in crate::vault) async fn rotate_on_schedule(&self, platform: PlatformId) -> Result<(), VaultError> {
        let staff = self.shared.staff.load_full();
        let plan = horizon::in_force(&staff, &self.shared.options, self.shared.clock.now());
        let Some(every) = plan.map(HorizonPlan::rotate_every).or(self.shared.options.rotate_every) else {
            return Ok(());
        };
        let kinds: &[KeyKind] = match plan {
            None => &[KeyKind::Platform],
            Some(_) if platform == PlatformId::VAULT => &[KeyKind::Platform, KeyKind::Index, KeyKind::Root],
            Some(_) => &[KeyKind::Platform, KeyKind::Index],
        };
        for kind in kinds {
            self.rotate_if_due(platform, *kind, every).await?;
        }
        Ok(())
    }

    async fn rotate_if_due(
        &self,
        platform: PlatformId,
        kind: KeyKind,
        every: Duration,
    ) -> Result<(), VaultError> {
        let context = self.context(platform)?;
        let active = context
            .key_rows()
            .iter()
            .filter(|row| row.kind == kind.as_str() && row.state == KeyState::Active)
            .max_by_key(|row| row.version);
        // The first root version has no row.
        let (version, made) = match active {
            Some(active) => (active.version, active.created_at),
            None if kind == KeyKind::Root => {
                (1, root::installed_at(&context).ok_or(VaultError::Unavailable)?)
            }
            None => return Ok(()),
        };
        let drawn = self.drawn(platform, kind, version)?;
        let now = self.shared.clock.now();
        if now < due(made, every, drawn) {
            return Ok(());
        }
        // One that somebody called off is not begun again before its time.
        let last = self.last_rotation(platform, kind).await?;
        if last.is_some_and(|last| last.is_open() || now < due(last.created_at, every, drawn)) {
            return Ok(());
        }
        let entries = self.platform(platform)?.lane.log_entries();
        if self.schedule.waits().get(&(platform, kind)) == Some(&entries) {
            return Ok(());
        }
        let new = self.new_version(platform, kind, &context).await?;
        let (reply, waiting) = reply();
        let act = Begin { new, due_at: due(made, every, drawn), begun: None, reply };
        self.platform(platform)?.lane.submit(act)?;
        match waiting.answer().await {
            Ok(None) => {
                self.schedule.waits().insert((platform, kind), entries);
                Ok(())
            }
            // Or another process was faster.
            Ok(Some(_)) | Err(VaultError::Contended) => Ok(()),
            Err(other) => Err(other),
        }
    }

    fn drawn(&self, platform: PlatformId, kind: KeyKind, version: u32) -> Result<u64, VaultError> {
        let mut drawn = self.schedule.drawn.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(known) = drawn.get(&(platform, kind, version)) {
            return Ok(*known);
        }
        let new = u64::from_be_bytes(random_bytes::<8>(self.shared.rng.as_ref()).map_err(unavailable)?);
        drawn.insert((platform, kind, version), new);
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
