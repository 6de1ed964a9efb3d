//! Entries of the log, decoded and filtered, page by page. For reading, not for proof.

use super::{
    Vault,
    access::Call,
    act::Asker,
    audit_log::{Ask, unreadable},
    error::VaultError,
    stored_log::decoded,
};
use crate::{
    audit::entry::Entry,
    domain::{
        caller::Caller,
        ids::{CallerId, PlatformId, SubjectId},
        time::Timestamp,
    },
    store::StoreError,
};

/// Entries on one page.
pub const MAX_PAGE: usize = 1_000;
/// Entries on a page where nobody asks for a number.
pub const DEFAULT_PAGE: usize = 100;
/// Entries that one page looks at: a rare match may take several pages, some of them empty.
const LOOKED_AT: u64 = 20_000;
const ENTRIES_AT_ONCE: u32 = 1_000;

/// Which entries. Everything that is given must hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct EntryFilter {
    /// Of this subject.
    pub subject: Option<SubjectId>,
    /// Of this caller.
    pub caller: Option<CallerId>,
    /// Of this call, such as `VaultService/Detokenize`.
    pub call: Option<String>,
    /// With the verdict of this code.
    pub verdict: Option<&'static str>,
    /// Written at this time or later.
    pub since: Option<Timestamp>,
    /// Written before this time.
    pub until: Option<Timestamp>,
}

impl EntryFilter {
    fn takes(&self, entry: &Entry) -> bool {
        let id = |of: Option<minicbor::bytes::ByteArray<16>>| of.map(|id| *id);
        self.subject.is_none_or(|subject| id(entry.subject) == Some(*subject.as_bytes()))
            && self.caller.is_none_or(|caller| id(entry.caller) == Some(*caller.as_bytes()))
            && self.call.as_ref().is_none_or(|call| *call == entry.call)
            && self.verdict.is_none_or(|verdict| verdict == entry.verdict)
    }
}

/// Where a page begins, and the size of the log that the list is of: what came later is not in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryCursor {
    /// Position of the next entry to look at.
    pub next: u64,
    /// Size of the log when the list was begun.
    pub end: u64,
}

/// One page.
#[derive(Debug)]
pub struct EntryPage {
    /// Entries with their positions.
    pub entries: Vec<(u64, Entry)>,
    /// Where the next page begins; none after the last.
    pub next: Option<EntryCursor>,
}

impl Vault {
    /// Entries of a platform's log in its order. The question itself is an entry.
    ///
    /// # Errors
    /// As [`Vault::head`].
    pub async fn list_entries(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        filter: EntryFilter,
        page_size: usize,
        from: Option<EntryCursor>,
    ) -> Result<EntryPage, VaultError> {
        let platform = self.target(caller, &asker, Call::ListEntries, platform).await?;
        let ask = Ask { call: Call::ListEntries, subject: filter.subject };
        self.run(platform, caller, asker, ask).await?;
        self.page(platform, &filter, page_size.clamp(1, MAX_PAGE), from).await.map_err(unreadable)
    }

    async fn page(
        &self,
        platform: PlatformId,
        filter: &EntryFilter,
        page_size: usize,
        from: Option<EntryCursor>,
    ) -> Result<EntryPage, StoreError> {
        let size = self.shared.store.tree(platform).await?.head.counters.size;
        let EntryCursor { mut next, end } = match from {
            Some(cursor) => EntryCursor { end: cursor.end.min(size), ..cursor },
            None => EntryCursor { next: self.first_since(platform, filter.since, size).await?, end: size },
        };
        let stop = end.min(next.saturating_add(LOOKED_AT));
        let mut entries = Vec::new();
        while next < stop {
            let limit = u32::try_from(stop - next).unwrap_or(u32::MAX).min(ENTRIES_AT_ONCE);
            let some = decoded(self.shared.store.as_ref(), platform, next, limit).await?;
            if some.is_empty() {
                break;
            }
            for (position, entry) in some {
                if filter.until.is_some_and(|until| entry.time >= until.as_micros()) {
                    return Ok(EntryPage { entries, next: None });
                }
                if entries.len() == page_size {
                    return Ok(EntryPage { entries, next: Some(EntryCursor { next: position, end }) });
                }
                next = position + 1;
                if filter.takes(&entry) {
                    entries.push((position, entry));
                }
            }
        }
        Ok(EntryPage { entries, next: (next < end).then_some(EntryCursor { next, end }) })
    }

    /// Position of the first entry of this time or later; the log is in the order of time.
    pub(super) async fn first_since(
        &self,
        platform: PlatformId,
        since: Option<Timestamp>,
        size: u64,
    ) -> Result<u64, StoreError> {
        let Some(since) = since else { return Ok(0) };
        let (mut low, mut high) = (0, size);
        while low < high {
            let middle = low + (high - low) / 2;
            let found = decoded(self.shared.store.as_ref(), platform, middle, 1).await?;
            match found.first() {
                Some((_, entry)) if entry.time < since.as_micros() => low = middle + 1,
                Some(_) | None => high = middle,
            }
        }
        Ok(low)
    }
}
