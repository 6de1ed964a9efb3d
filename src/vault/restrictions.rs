//! Subjects that are blocked, by the day of their review (rule R11). A block ends when somebody lifts it and never by itself, so
//! those whose day is over are counted, told, and listed here until they are decided anew.

use super::{
    Vault,
    access::Call,
    act::{Asker, Scene},
    deed::{Deed, Deeded, Hand},
    error::VaultError,
    tokenize::unavailable,
};
use crate::{
    audit::entry::Entry,
    domain::{caller::Caller, ids::SubjectId, subject::Restriction, time::Timestamp},
    policy::decide::Denial,
    store::{restrictions::WhichRestrictions, rows::SubjectRow},
};

/// Blocked subjects on one page.
pub const MAX_PAGE: usize = 100;

/// A subject that is blocked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RestrictedSubject {
    /// Its id.
    pub id: SubjectId,
    /// The block.
    pub restriction: Restriction,
    /// Whether its day of review is over.
    pub overdue: bool,
}

/// Which blocked subjects are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListedRestrictions {
    /// All.
    All,
    /// Those whose day of review is over.
    Overdue,
}

/// Where a blocked subject stands in a list: its day of review, and its id.
pub type ReviewPlace = (Timestamp, SubjectId);

impl Vault {
    /// Blocked subjects in the order of their reviews, after one; and the place of the last, where more may follow.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn restrictions(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        which: ListedRestrictions,
        after: Option<ReviewPlace>,
        size: usize,
    ) -> Result<(Vec<RestrictedSubject>, Option<ReviewPlace>), VaultError> {
        let platform = self.target(caller, &asker, Call::ListRestrictions, platform).await?;
        let size = size.clamp(1, MAX_PAGE);
        let after = after.unwrap_or((Timestamp::from_micros(i64::MIN), SubjectId::from_bytes([0; 16])));
        let now = self.shared.clock.now();
        let mut found = Vec::new();
        // None is read for a caller who may not ask, whom the deed refuses with an entry.
        if self.may_ask(Call::ListRestrictions, caller, platform) {
            // One more than the page takes, to know whether there are more.
            let limit = u32::try_from(size + 1).map_err(unavailable)?;
            let which = match which {
                ListedRestrictions::All => WhichRestrictions::All,
                ListedRestrictions::Overdue => WhichRestrictions::Overdue(now),
            };
            let rows = self.shared.store.restricted_subjects(platform, which, after, limit).await;
            found = rows.map_err(unavailable)?;
        }
        let more = found.len() > size;
        found.truncate(size);
        let listed = self.run(platform, caller, asker, List(found, now)).await?;
        let last = listed.last().map(|last| (last.restriction.review_at, last.id));
        Ok((listed, last.filter(|_| more)))
    }
}

/// The block of a row that was read beside the batch, believed.
fn block_of(scene: &Scene<'_>, row: &SubjectRow) -> Result<Restriction, Denial> {
    scene.trust_subject(row)?;
    row.restriction.ok_or(Denial::DataDamaged)
}

/// Rows as they were a moment ago, and when that was.
struct List(Vec<SubjectRow>, Timestamp);

impl Deed for List {
    type Answer = Vec<RestrictedSubject>;

    fn call(&self) -> Call {
        Call::ListRestrictions
    }

    fn changes(&self) -> bool {
        false
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Self::Answer>, VaultError> {
        let count = u64::try_from(self.0.len()).ok();
        hand.log(|entry| Entry { object_kind: Some("subject".to_owned()), count, ..entry })?;
        let one = |row: &SubjectRow| {
            let restriction = block_of(hand.scene, row)?;
            Ok(RestrictedSubject { id: row.id, restriction, overdue: restriction.is_overdue(self.1) })
        };
        Ok(Deeded::answer(self.0.iter().map(one).collect::<Result<_, VaultError>>()?))
    }
}
