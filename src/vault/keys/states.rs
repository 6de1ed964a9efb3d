//! Versions that are put out of use: disabled for a time, or destroyed at a date.

use std::time::Duration;

use super::{KeyKind, KeyState, KeyVersionRow, again, change, outcome};
use crate::{
    domain::{
        caller::Caller,
        ids::OperationId,
        operation::{Operation, OperationKind},
        time::Timestamp,
    },
    policy::decide::Denial,
    store::{Write, rows::work::OperationRow},
    vault::{
        Vault,
        access::Call,
        act::Asker,
        deed::{Deed, Deeded, Hand},
        error::VaultError,
        replay::ItemOutcome,
        tokenize::unavailable,
    },
};

/// A key version of a platform.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct WhichKey {
    /// What the key is for.
    pub kind: KeyKind,
    /// Version.
    pub version: u32,
}

impl WhichKey {
    /// The operation that destroys it.
    ///
    /// # Errors
    /// [`VaultError`] where versions of the kind do not change their states.
    fn destruction(self) -> Result<OperationKind, VaultError> {
        match self.kind {
            KeyKind::Platform => Ok(OperationKind::DestroyKey),
            KeyKind::Index => Ok(OperationKind::DestroyIndexKey),
            KeyKind::Root | KeyKind::Row | KeyKind::Request | KeyKind::Audit => {
                Err(VaultError::invalid("kind", "versions of keys of this kind stay as they are"))
            }
        }
    }
}

/// How long a destruction is at least in the future: time to notice it.
pub(super) const LEAST_DELAY: Duration = Duration::from_hours(24);
/// How long it is at most.
const MOST_DELAY: Duration = Duration::from_hours(24 * 366);

impl Vault {
    /// Refuses a version that retires: what it wraps is unreadable until it is enabled again.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn disable_key(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        which: WhichKey,
    ) -> Result<KeyVersionRow, VaultError> {
        self.change_key(caller, asker, platform, which, To::Disabled).await
    }

    /// Lets a disabled version open again.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn enable_key(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        which: WhichKey,
    ) -> Result<KeyVersionRow, VaultError> {
        self.change_key(caller, asker, platform, which, To::Enabled).await
    }

    /// Schedules the destruction of a version that wraps nothing.
    ///
    /// # Errors
    /// [`VaultError`]; [`Denial::KeyInUse`] where it wraps anything.
    pub async fn schedule_key_destruction(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        which: WhichKey,
        at: Timestamp,
    ) -> Result<KeyVersionRow, VaultError> {
        self.change_key(caller, asker, platform, which, To::Destroyed(at)).await
    }

    /// Calls a destruction off; the version is disabled then.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn cancel_key_destruction(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        which: WhichKey,
    ) -> Result<KeyVersionRow, VaultError> {
        self.change_key(caller, asker, platform, which, To::Kept).await
    }

    async fn change_key(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        which: WhichKey,
        to: To,
    ) -> Result<KeyVersionRow, VaultError> {
        which.destruction()?;
        let mut change = Change { to, which, uses: 0 };
        let platform = self.target(caller, &asker, change.call(), platform).await?;
        // What a disabled version wraps is refused. What one of the index key hides would look as if it were not there,
        // and be stored a second time.
        let counts =
            matches!(to, To::Destroyed(_)) || (matches!(to, To::Disabled) && which.kind == KeyKind::Index);
        // Nothing is counted for a caller who may not ask; the deed refuses with an entry.
        let staff = self.shared.staff.load_full();
        if counts && change.call().allows(caller, platform, &staff).is_ok() {
            change.uses = self.used(platform, which.kind, which.version).await?;
        }
        self.run(platform, caller, asker, change).await
    }
}

/// Refuses a destruction that nobody has the time to notice.
pub(super) fn check_time(at: Timestamp, now: Timestamp, may_wait: Duration) -> Result<(), VaultError> {
    // Whoever approves at the last moment must still leave a day to notice it.
    let least = LEAST_DELAY + may_wait;
    if (now.plus(least)..=now.plus(MOST_DELAY)).contains(&at) {
        return Ok(());
    }
    let hours = least.as_secs().div_ceil(3_600);
    let rule = format!("must be between {hours} hours and 366 days ahead");
    Err(VaultError::invalid("destroy_time", rule))
}

#[derive(Debug, Clone, Copy)]
enum To {
    Disabled,
    Enabled,
    Destroyed(Timestamp),
    Kept,
}

struct Change {
    to: To,
    which: WhichKey,
    /// What is under it, where that matters. A version that does not protect new data gets no more.
    uses: u64,
}

impl Deed for Change {
    type Answer = KeyVersionRow;

    fn call(&self) -> Call {
        match self.to {
            To::Disabled => Call::DisableKey,
            To::Enabled => Call::EnableKey,
            To::Destroyed(_) => Call::ScheduleKeyDestruction,
            To::Kept => Call::CancelKeyDestruction,
        }
    }

    fn changes(&self) -> bool {
        true
    }

    fn tightens(&self) -> bool {
        matches!(self.to, To::Disabled | To::Destroyed(_))
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<KeyVersionRow>, VaultError> {
        let (now, to, uses) = (hand.scene.now, self.to, self.uses);
        if let To::Destroyed(at) = to {
            check_time(at, now, hand.may_wait())?;
        }
        let changed = change(hand, self.which, |row| next(row, to, uses))?;
        let Some(row) = changed else { return Ok(Deeded::Later) };
        if let To::Destroyed(at) = to {
            // Each destruction is an object of its own: one that was called off does not stand in the way of the next.
            let id = OperationId::random(hand.scene.rng()).map_err(unavailable)?;
            let work = Operation::new(id, row.platform, self.which.destruction()?, *id.as_bytes(), now, 1);
            let operation = Operation { due_at: at, key_version: row.version, ..work };
            hand.plan.writes.push(Write::InsertOperation(OperationRow { operation }));
        }
        let outcome = outcome(&row);
        Ok(Deeded::changed(row, outcome))
    }

    fn again(&self, hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<KeyVersionRow, VaultError> {
        again(hand, self.which.kind, before)
    }
}

/// The version in its next state (design: pending, active, retiring, disabled, scheduled, destroyed).
fn next(row: &KeyVersionRow, to: To, uses: u64) -> Result<KeyVersionRow, Denial> {
    let (state, destroy_at) = match (to, row.state) {
        (To::Disabled | To::Destroyed(_), KeyState::Active | KeyState::Pending) => {
            return Err(Denial::KeyActive);
        }
        (To::Disabled, KeyState::Retiring) if uses > 0 && row.kind == KeyKind::Index.as_str() => {
            return Err(Denial::KeyInUse);
        }
        (To::Disabled, KeyState::Retiring) | (To::Kept, KeyState::DestructionScheduled) => {
            (KeyState::Disabled, None)
        }
        (To::Enabled, KeyState::Disabled) => (KeyState::Retiring, None),
        (To::Destroyed(at), KeyState::Retiring | KeyState::Disabled) if uses == 0 => {
            (KeyState::DestructionScheduled, Some(at))
        }
        (To::Destroyed(_), KeyState::Retiring | KeyState::Disabled) => return Err(Denial::KeyInUse),
        _ => return Err(Denial::KeyStateUnsuitable),
    };
    Ok(KeyVersionRow { state, destroy_at, ..row.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::ids::PlatformId;

    use Denial::{KeyActive, KeyInUse, KeyStateUnsuitable};
    use KeyState::{Active, Destroyed, DestructionScheduled, Disabled, Pending, Retiring};

    #[test]
    fn only_what_protects_nothing_new_is_put_out_of_use() {
        let at = Timestamp::from_micros(1);
        let reached = |state, to, wraps| {
            let row = KeyVersionRow {
                platform: PlatformId::new(1),
                kind: "platform".into(),
                version: 1,
                state,
                wrapped: None,
                created_at: at,
                destroy_at: None,
                mac: [0; 32],
            };
            next(&row, to, wraps).map(|row| row.state)
        };
        for (state, to, wraps, expected) in [
            (Active, To::Disabled, 0, Err(KeyActive)),
            (Active, To::Destroyed(at), 0, Err(KeyActive)),
            (Pending, To::Destroyed(at), 0, Err(KeyActive)),
            (Retiring, To::Disabled, 5, Ok(Disabled)),
            (Disabled, To::Disabled, 0, Err(KeyStateUnsuitable)),
            (Disabled, To::Enabled, 0, Ok(Retiring)),
            (Active, To::Enabled, 0, Err(KeyStateUnsuitable)),
            (Retiring, To::Destroyed(at), 0, Ok(DestructionScheduled)),
            (Disabled, To::Destroyed(at), 0, Ok(DestructionScheduled)),
            (Retiring, To::Destroyed(at), 1, Err(KeyInUse)),
            (Disabled, To::Destroyed(at), 1, Err(KeyInUse)),
            (DestructionScheduled, To::Kept, 0, Ok(Disabled)),
            (DestructionScheduled, To::Enabled, 0, Err(KeyStateUnsuitable)),
            (Destroyed, To::Enabled, 0, Err(KeyStateUnsuitable)),
            (Destroyed, To::Kept, 0, Err(KeyStateUnsuitable)),
        ] {
            assert_eq!(reached(state, to, wraps), expected, "{state:?} {to:?}");
        }
    }
}
