//! The memory that all streams of documents share. A stream takes a slot before it reads anything, and gives it back at its end,
//! or where its client is slow; who finds none free waits, and its client with it: nothing more of the stream is read meanwhile.

use std::{sync::Arc, time::Duration};

use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore},
    time::timeout,
};

use crate::vault::error::VaultError;

/// What one stream holds at most: the part that comes, the one that is being stored, a message of its client, and what is between.
const SLOT_MIB: u32 = 4;
/// Least memory for all streams.
pub const MIN_MEMORY_MIB: u32 = 16;
/// How long a stream waits for its turn.
const TURN: Duration = Duration::from_secs(30);

/// The memory.
pub(super) struct Room(Arc<Semaphore>);

/// A stream's share of it, until it is dropped.
pub struct Slot(OwnedSemaphorePermit);

impl Slot {
    /// Gives the share back.
    pub fn release(self) {
        drop(self.0);
    }
}

impl Room {
    pub(super) fn new(memory_mib: u32) -> Self {
        let slots = memory_mib.max(MIN_MEMORY_MIB) / SLOT_MIB;
        Self(Arc::new(Semaphore::new(usize::try_from(slots).unwrap_or(usize::MAX))))
    }

    pub(super) async fn take(&self) -> Result<Slot, VaultError> {
        match timeout(TURN, Arc::clone(&self.0).acquire_owned()).await {
            Ok(Ok(permit)) => Ok(Slot(permit)),
            Ok(Err(_)) | Err(_) => Err(VaultError::Overloaded),
        }
    }
}
