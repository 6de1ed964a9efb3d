//! Lists by pages. Those that go over several platforms go over them by name, and leave an entry with each.

use super::{Refuse, Vault, access::Call, act::Asker, deed::Deed, error::VaultError};
use crate::{
    domain::{caller::Caller, ids::PlatformId, names::PlatformName},
    policy::decide::Denial,
};

/// Rows on one page.
pub const MAX_PAGE: usize = 100;

/// Where a row stands in a list: the name of its platform, and its key there.
pub type Place = (String, String);

/// A part of a list that is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageAsk {
    /// Rows, from 1 to [`MAX_PAGE`].
    pub size: usize,
    /// The last row of the page before.
    pub after: Option<Place>,
}

/// A page.
#[derive(Debug)]
pub struct Page<T> {
    /// Rows in order.
    pub rows: Vec<T>,
    /// The last of them, where more follow.
    pub next: Option<Place>,
}

/// The part of one platform's rows that a page takes.
#[derive(Debug, Clone)]
pub(super) struct Slice {
    after: Option<String>,
    limit: usize,
}

impl Slice {
    /// All of them.
    pub(super) const fn whole() -> Self {
        Self { after: None, limit: usize::MAX }
    }

    /// The rows of this part, in the order of their keys.
    pub(super) fn of<T>(&self, rows: impl Iterator<Item = (String, T)>) -> Vec<(String, T)> {
        let mut rows: Vec<_> =
            rows.filter(|(key, _)| self.after.as_ref().is_none_or(|after| key > after)).collect();
        rows.sort_by(|a, b| a.0.cmp(&b.0));
        rows.truncate(self.limit);
        rows
    }
}

impl Vault {
    /// A page of a list over the platform that is named, or over all that the caller may see.
    pub(super) async fn gather<T, D: Deed<Answer = Vec<(String, T)>>>(
        &self,
        caller: &Caller,
        asker: &Asker,
        call: Call,
        platform: &str,
        ask: PageAsk,
        deed: impl Fn(PlatformId, Slice) -> D,
    ) -> Result<Page<T>, VaultError> {
        let (mut rows, mut last) = (Vec::new(), None);
        for (name, id) in self.in_view(caller, asker, call, platform).await? {
            let after = match &ask.after {
                Some((before, _)) if name.as_str() < before.as_str() => continue,
                Some((at, key)) if name.as_str() == at => Some(key.clone()),
                Some(_) | None => None,
            };
            // One more than the page takes, to know whether there are more.
            let limit = ask.size + 1 - rows.len();
            for (key, row) in self.run(id, caller, asker.clone(), deed(id, Slice { after, limit })).await? {
                if rows.len() == ask.size {
                    return Ok(Page { rows, next: last });
                }
                last = Some((name.to_string(), key));
                rows.push(row);
            }
        }
        Ok(Page { rows, next: None })
    }

    /// Platforms of a list, by name: the one that is named, or all on which the caller may make the call.
    pub(super) async fn in_view(
        &self,
        caller: &Caller,
        asker: &Asker,
        call: Call,
        platform: &str,
    ) -> Result<Vec<(PlatformName, PlatformId)>, VaultError> {
        if !platform.is_empty() {
            let id = self.target(caller, asker, call, platform).await?;
            return Ok(self.platform_name(id).map(|name| (name, id)).into_iter().collect());
        }
        let staff = self.shared.staff.load_full();
        let mut seen: Vec<_> = self
            .platforms()
            .into_iter()
            .filter(|(id, _)| call.allows(caller, *id, &staff).is_ok())
            .map(|(id, name)| (name, id))
            .collect();
        seen.sort();
        if seen.is_empty() {
            let refused = Refuse { call, reason: Denial::CallerNotAllowed };
            self.run(caller.platform, caller, asker.clone(), refused).await?;
        }
        Ok(seen)
    }
}
