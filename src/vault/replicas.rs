//! Processes that serve one database, and the clocks that they go by.

use std::{future::Future, sync::atomic::Ordering, time::Duration};

use tokio::{sync::watch, time::timeout};

use super::{Vault, context::LoadError, error::VaultError, tokenize::unavailable};
use crate::{
    domain::{ids::PlatformId, replica::ReplicaName, time::Timestamp},
    store::{ReadKeys, SCHEMA_VERSION, StoreError, rows::work::ReplicaRow},
};

/// A clock this far from the database's is told to the operator.
const SUSPECT_MICROS: i64 = 5 * 1_000_000;
/// A process whose clock is this far from the database's serves nothing: request ids and certificates go by it.
const WRONG_MICROS: i64 = 60 * 1_000_000;

/// How long the database may take for each question of a heartbeat; one that takes longer does not serve callers either.
const ANSWERS_WITHIN: Duration = Duration::from_secs(2);

impl Vault {
    /// Whether this process can serve, as its last heartbeat found: the database answers and takes what is written, and
    /// the clock is right.
    #[must_use]
    pub fn readiness(&self) -> watch::Receiver<bool> {
        self.ready.subscribe()
    }

    /// Waits until a commit fails, which may mean that this process cannot serve: time for a heartbeat.
    pub async fn troubled(&self) {
        self.shared.trouble.notified().await;
    }

    /// Records that this process lives, compares its clock with the database's, and answers the other processes that
    /// live. The server calls it every few seconds.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] where the database cannot be asked, or the clock is wrong: then every call is refused
    /// until it is right again.
    pub async fn beat(
        &self,
        name: &ReplicaName,
        started_at: Timestamp,
    ) -> Result<Vec<ReplicaName>, VaultError> {
        let beaten = self.try_beat(name, started_at).await;
        let alive = beaten.is_ok();
        let told = self.ready.send_if_modified(|ready| std::mem::replace(ready, alive) != alive);
        match alive {
            true if told => tracing::info!("this process is ready to serve again"),
            false if told => tracing::error!("this process is not ready to serve"),
            _ => {}
        }
        beaten
    }

    async fn try_beat(
        &self,
        name: &ReplicaName,
        started_at: Timestamp,
    ) -> Result<Vec<ReplicaName>, VaultError> {
        let shared = &self.shared;
        let before = shared.clock.now();
        let keys = ReadKeys::default();
        let snapshot = in_time(shared.store.read(PlatformId::VAULT, &keys)).await?;
        let after = shared.clock.now();
        let database = shared.clock.adjust(snapshot.now);
        let off = micros_off(before, database, after);
        shared.meters.set_clock_off(off);
        shared.clock_is_wrong.store(off > WRONG_MICROS, Ordering::SeqCst);
        if off > WRONG_MICROS {
            tracing::error!(
                off_seconds = off / 1_000_000,
                "this machine's clock is wrong: nothing is served"
            );
            return Err(VaultError::Unavailable);
        }
        if off > SUSPECT_MICROS {
            tracing::warn!(off_seconds = off / 1_000_000, "this machine's clock differs from the database's");
        }
        let replica = ReplicaRow {
            name: name.to_string(),
            started_at,
            heartbeat_at: database,
            schema: SCHEMA_VERSION,
            keys_loaded_at: if self.load_keys().await {
                self.newest_key()
            } else {
                Timestamp::from_micros(0)
            },
        };
        let beaten = timeout(ANSWERS_WITHIN, shared.store.heartbeat(&replica)).await.map_err(unavailable)?;
        let outdated = matches!(beaten, Err(StoreError::Schema(_)));
        if outdated {
            tracing::error!("the database's schema is not for this binary any more: nothing is served");
        }
        shared.outdated.store(outdated, Ordering::SeqCst);
        let alive = beaten.map_err(unavailable)?;
        shared.meters.set_replicas(alive.len());
        let others = alive.into_iter().filter(|other| other.name != name.as_str());
        Ok(others.filter_map(|other| other.name.parse().ok()).collect())
    }

    /// Looks for key versions that other processes made. Answers whether all that there are now are loaded.
    async fn load_keys(&self) -> bool {
        let mut all = self.find_platforms().await.is_ok();
        for (id, _) in self.platforms() {
            let refreshed = match self.platform(id) {
                Ok(served) => served.lane.refresh().await.is_ok(),
                Err(_) => false,
            };
            all &= refreshed && self.context(id).is_ok_and(|context| context.has_all_keys());
        }
        all
    }
}

/// How far this machine's clock is from the database's, whose time was taken somewhere between two of this machine's.
fn micros_off(before: Timestamp, database: Timestamp, after: Timestamp) -> i64 {
    let (before, database, after) = (before.as_micros(), database.as_micros(), after.as_micros());
    before.saturating_sub(database).max(database.saturating_sub(after)).max(0)
}

/// Refuses to decide by the time of a database whose clock and this machine's are too far apart: one of them is wrong, and what
/// is logged at a wrong time holds back all that comes after it.
pub(super) fn require_right_clock(
    before: Timestamp,
    database: Timestamp,
    after: Timestamp,
) -> Result<(), LoadError> {
    match micros_off(before, database, after) {
        off if off > WRONG_MICROS => Err(LoadError::WrongClock { off_seconds: off / 1_000_000 }),
        _ => Ok(()),
    }
}

async fn in_time<T>(question: impl Future<Output = Result<T, StoreError>>) -> Result<T, VaultError> {
    timeout(ANSWERS_WITHIN, question).await.map_err(unavailable)?.map_err(unavailable)
}
