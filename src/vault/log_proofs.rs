//! Proofs of RFC 6962 over a platform's log. Hashes and signatures only: they leave no entry.

use super::{
    Vault,
    access::Call,
    act::Asker,
    audit_log::{Ask, unreadable},
    error::VaultError,
    stored_log::{StoredLog, bad_entry, decoded},
};
use crate::{
    audit::{
        proof::{BadProof, Question},
        tree::Hash,
    },
    domain::{
        caller::Caller,
        ids::{EntryId, PlatformId},
        time::Timestamp,
    },
    store::StoreError,
};

/// Newest entries among which one is found by its id: the log has no index of ids.
pub const SEARCHED_BY_ID: u64 = 100_000;
const ENTRIES_AT_ONCE: u32 = 1_000;

/// Which entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum EntryKey {
    /// By its position, from 0.
    Position(u64),
    /// By its id, among the newest [`SEARCHED_BY_ID`].
    Id(EntryId),
}

/// That an entry is in a tree.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InclusionProof {
    /// Hash of the leaf.
    pub leaf: [u8; 32],
    /// The audit path, from the leaf up.
    pub hashes: Vec<[u8; 32]>,
    /// Position of the entry.
    pub position: u64,
    /// Entries of the tree.
    pub size: u64,
    /// Signed head of the tree, where there is one.
    pub checkpoint: Option<String>,
}

/// That a tree is another with entries added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsistencyProof {
    /// The proof, in the order of the RFC.
    pub hashes: Vec<[u8; 32]>,
    /// Entries of the later tree.
    pub to: u64,
    /// Signed head of the later tree, where there is one.
    pub checkpoint: Option<String>,
}

impl Vault {
    /// Proves that an entry is in the tree of `size` entries; of all there are, where none is given.
    ///
    /// # Errors
    /// As [`Vault::head`]; [`VaultError::Invalid`] where there is no such entry or tree.
    pub async fn inclusion_proof(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        entry: EntryKey,
        size: Option<u64>,
    ) -> Result<InclusionProof, VaultError> {
        let platform = self.ask_for_proof(caller, asker, platform, Call::GetInclusionProof).await?;
        let log = StoredLog::load(self.shared.store.as_ref(), platform).await.map_err(unreadable)?;
        let size = tree_size("size", size, &log)?;
        let position = match entry {
            EntryKey::Position(position) => position,
            EntryKey::Id(id) => {
                self.find(platform, id, log.size()).await.map_err(unreadable)?.ok_or_else(|| {
                    let rule =
                        format!("is not among the newest {SEARCHED_BY_ID} entries; ask by its position");
                    VaultError::invalid("entry_id", rule)
                })?
            }
        };
        let proven = log.prove(Question::Inclusion { position, size }).await.map_err(unreadable)?;
        let hashes = proven.map_err(|bad| refused("position", bad))?;
        let rows = self.shared.store.entries(platform, position, 1).await.map_err(unreadable)?;
        let leaf = rows.first().ok_or_else(|| unreadable(bad_entry()))?.leaf_hash;
        let checkpoint = self.checkpoint(&log, platform, size).await.map_err(unreadable)?;
        Ok(InclusionProof { leaf, hashes: bytes(hashes), position, size, checkpoint })
    }

    /// Proves that the tree of `to` entries, or of all there are, is that of `from` entries with more added.
    ///
    /// # Errors
    /// As [`Vault::head`]; [`VaultError::Invalid`] where there is no such tree.
    pub async fn consistency_proof(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        from: u64,
        to: Option<u64>,
    ) -> Result<ConsistencyProof, VaultError> {
        let platform = self.ask_for_proof(caller, asker, platform, Call::GetConsistencyProof).await?;
        let log = StoredLog::load(self.shared.store.as_ref(), platform).await.map_err(unreadable)?;
        let to = tree_size("to_size", to, &log)?;
        let proven = log.prove(Question::Consistency { from, to }).await.map_err(unreadable)?;
        let hashes = proven.map_err(|bad| refused("from_size", bad))?;
        let checkpoint = self.checkpoint(&log, platform, to).await.map_err(unreadable)?;
        Ok(ConsistencyProof { hashes: bytes(hashes), to, checkpoint })
    }

    async fn ask_for_proof(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        call: Call,
    ) -> Result<PlatformId, VaultError> {
        let platform = self.target(caller, &asker, call, platform).await?;
        self.run(platform, caller, asker, Ask { call, subject: None }).await?;
        Ok(platform)
    }

    /// Position of an entry, from the newest back.
    async fn find(&self, platform: PlatformId, id: EntryId, size: u64) -> Result<Option<u64>, StoreError> {
        let oldest = size.saturating_sub(SEARCHED_BY_ID);
        let mut end = size;
        while end > oldest {
            let from = end.saturating_sub(u64::from(ENTRIES_AT_ONCE)).max(oldest);
            let limit = u32::try_from(end - from).unwrap_or(ENTRIES_AT_ONCE);
            let entries = decoded(self.shared.store.as_ref(), platform, from, limit).await?;
            let found = entries.into_iter().find(|(_, entry)| entry.entry_id() == id);
            if let Some((position, _)) = found {
                return Ok(Some(position));
            }
            end = from;
        }
        Ok(None)
    }

    /// The signed head of this size: the newest, or the last of the second in which the size was reached.
    async fn checkpoint(
        &self,
        log: &StoredLog<'_>,
        platform: PlatformId,
        size: u64,
    ) -> Result<Option<String>, StoreError> {
        if size == log.size() {
            return Ok(Some(log.head().checkpoint.clone()));
        }
        let store = self.shared.store.as_ref();
        let last = decoded(store, platform, size.saturating_sub(1), 1).await?;
        let Some((_, last)) = last.first() else { return Ok(None) };
        let before = Timestamp::from_micros(last.time).second() - 1;
        let heads = store.second_heads(platform, before, 1).await?;
        Ok(heads.into_iter().find(|head| head.size == size).map(|head| head.checkpoint))
    }
}

/// The size that was asked for, or that of the whole log.
fn tree_size(field: &str, asked: Option<u64>, log: &StoredLog<'_>) -> Result<u64, VaultError> {
    match asked {
        None => Ok(log.size()),
        Some(size) if (1..=log.size()).contains(&size) => Ok(size),
        Some(_) => Err(VaultError::invalid(field, "the log has no tree of this size")),
    }
}

fn refused(field: &str, bad: BadProof) -> VaultError {
    match bad {
        BadProof::OutOfRange => VaultError::invalid(field, "the tree has no such position or size"),
        BadProof::TileMissing | BadProof::Wrong => unreadable(bad_entry()),
    }
}

fn bytes(hashes: Vec<Hash>) -> Vec<[u8; 32]> {
    hashes.into_iter().map(|hash| hash.0).collect()
}
