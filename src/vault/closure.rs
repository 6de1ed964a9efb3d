//! A platform that a restore closed, and its opening: by two people, always, and on the record.

use super::{
    Vault,
    access::Call,
    act::{Asker, Claim},
    deed::{Deed, Deeded, Hand},
    error::VaultError,
    replay::ItemOutcome,
};
use crate::{
    audit::entry::Entry,
    domain::caller::Caller,
    policy::decide::Denial,
    store::{Write, rows::config::ClosureRow},
};

/// Id of the one closure that a platform has, in entries.
const OBJECT: &[u8] = b"restore";

impl Vault {
    /// Opens a platform that a restore closed.
    ///
    /// # Errors
    /// [`VaultError`]; [`Denial::PlatformNotClosed`].
    pub async fn open_platform(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
    ) -> Result<ClosureRow, VaultError> {
        let platform = self.target(caller, &asker, Call::OpenPlatform, platform).await?;
        self.run(platform, caller, asker, Open).await
    }
}

/// An entry about a closure.
pub(super) fn about_closure(row: &ClosureRow, entry: Entry) -> Entry {
    Entry {
        object_kind: Some("closure".to_owned()),
        object: Some(OBJECT.to_vec()),
        row_mac: Some(row.mac.into()),
        reason: Some(row.reason.as_str().to_ascii_uppercase()),
        ..entry
    }
}

struct Open;

impl Deed for Open {
    type Answer = ClosureRow;

    fn call(&self) -> Call {
        Call::OpenPlatform
    }

    fn changes(&self) -> bool {
        true
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<ClosureRow>, VaultError> {
        let scene = hand.scene;
        let closed = scene.context.closure().filter(|row| row.opened_at.is_none());
        let was = closed.ok_or(Denial::PlatformNotClosed)?;
        if !hand.plan.claim(Claim::Config) {
            return Ok(Deeded::Later);
        }
        let mut row = ClosureRow { opened_at: Some(scene.now), ..was.clone() };
        row.mac = scene.keys().row.mac(&row.image());
        hand.log(|entry| about_closure(&row, entry))?;
        hand.plan.reconfigures = true;
        hand.plan.writes.push(Write::PutClosure(row.clone(), Some(was.mac)));
        Ok(Deeded::changed(row, ItemOutcome::default()))
    }

    fn again(&self, hand: &Hand<'_, '_>, _before: &ItemOutcome) -> Result<ClosureRow, VaultError> {
        Ok(hand.scene.context.closure().cloned().ok_or(Denial::PlatformNotClosed)?)
    }
}
