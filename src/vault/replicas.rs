//! Processes that serve one database, and the clocks that they go by.

use std::sync::atomic::Ordering;

use super::{Vault, error::VaultError, tokenize::unavailable};
use crate::{
    domain::{ids::PlatformId, replica::ReplicaName, time::Timestamp},
    store::{ReadKeys, SCHEMA_VERSION, rows::work::ReplicaRow},
};

/// A clock this far from the database's is told to the operator.
const SUSPECT_MICROS: i64 = 5 * 1_000_000;
/// A process whose clock is this far from the database's serves nothing: request ids and certificates go by it.
const WRONG_MICROS: i64 = 60 * 1_000_000;

impl Vault {
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
        let shared = &self.shared;
        let before = shared.clock.now();
        let keys = ReadKeys::default();
        let snapshot = shared.store.read(PlatformId::VAULT, &keys).await.map_err(unavailable)?;
        let after = shared.clock.now();
        // The database's time was taken somewhere between the two.
        let database = shared.clock.adjust(snapshot.now).as_micros();
        let off = (before.as_micros() - database).max(database - after.as_micros()).max(0);
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
        let now = Timestamp::from_micros(database);
        let replica = ReplicaRow {
            name: name.to_string(),
            started_at,
            heartbeat_at: now,
            schema: SCHEMA_VERSION,
            keys_loaded_at: if self.load_keys().await {
                self.newest_key()
            } else {
                Timestamp::from_micros(0)
            },
        };
        let alive = shared.store.heartbeat(&replica).await.map_err(unavailable)?;
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
