//! Keys of platforms: what there is, what it protects, and how it changes while the vault serves.
//!
//! A rotation makes a new version of the platform key, which wraps subject keys (and the keys of open proposals, which end by
//! themselves): values stay untouched.
//! The new version is `pending` until every process has it, then `active`; the old one `retiring`. Then each subject key is
//! wrapped anew in small commits, and at last every one is opened with the new version. The old version stays intact, and
//! can be destroyed only when it wraps nothing.
//!
//! A rotation of the audit key takes the same way; instead of keys that are wrapped anew, every log is handed over. One of the
//! root key makes its version in the KMS, and wraps the keys of all platforms anew.

mod audit;
mod root;
mod rotate;
mod rotation;
mod schedule;
mod states;

pub use rotate::RotationPlan;
pub(in crate::vault) use rotation::{Working, rotated_key};
pub(in crate::vault) use schedule::Schedule;

use super::{
    Vault,
    access::Call,
    act::{Asker, Claim, Scene},
    context::Context,
    deed::{Deed, Deeded, Hand},
    error::VaultError,
    page::{Page, PageAsk, Slice},
    replay::ItemOutcome,
    tokenize::unavailable,
};
use crate::{
    audit::entry::Entry,
    crypto::aead::wrap_version,
    domain::{caller::Caller, ids::PlatformId, secret::Sealed},
    policy::decide::Denial,
};
pub use crate::{
    crypto::keyring::KeyKind,
    store::rows::config::{KeyState, KeyVersionRow},
};

/// What a version of the platform key wraps.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUsage {
    /// Version.
    pub version: u32,
    /// State.
    pub state: KeyState,
    /// Subject keys under it.
    pub subject_keys: u64,
}

impl Vault {
    /// Lists key versions by kind and version.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn list_keys(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        page: PageAsk,
    ) -> Result<Page<KeyVersionRow>, VaultError> {
        let list = |_, slice| List { call: Call::ListKeys, slice };
        self.gather(caller, &asker, Call::ListKeys, platform, page, list).await
    }

    /// Counts what each version of the platform key wraps.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn key_usage(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
    ) -> Result<Vec<KeyUsage>, VaultError> {
        let platform = self.target(caller, &asker, Call::ListKeyUsage, platform).await?;
        let slice = Slice::whole();
        let keys = self.run(platform, caller, asker, List { call: Call::ListKeyUsage, slice }).await?;
        let counts = self.wraps(platform).await?;
        let usages = keys
            .into_iter()
            .map(|(_, row)| row)
            .filter(|row| row.kind == KeyKind::Platform.as_str() && row.state != KeyState::Destroyed)
            .map(|row| {
                let subject_keys = counts.iter().filter(|(v, _)| *v == row.version).map(|(_, n)| n).sum();
                KeyUsage { version: row.version, state: row.state, subject_keys }
            });
        Ok(usages.collect())
    }

    /// Subject keys by the version that wraps them.
    async fn wraps(&self, platform: PlatformId) -> Result<Vec<(u32, u64)>, VaultError> {
        let counts = self.shared.store.count_wraps(platform).await.map_err(unavailable)?;
        let version = |(header, count)| {
            // A wrap that names no version is damage, which reads and the verification of a rotation tell of.
            (wrap_version(&Sealed::from_bytes(header)).unwrap_or(0), count)
        };
        Ok(counts.into_iter().map(version).collect())
    }
}

/// Name of a key version in entries.
fn name_of(row: &KeyVersionRow) -> String {
    format!("{}/{}", row.kind, row.version)
}

/// What an entry of a changed key version says.
pub(super) fn about_key(row: &KeyVersionRow, entry: Entry) -> Entry {
    Entry {
        object_kind: Some("key".to_owned()),
        object: Some(name_of(row).into_bytes()),
        row_mac: Some(row.mac.into()),
        ..entry
    }
}

/// A key version with the MAC of what it says now.
fn sealed_row(scene: &Scene<'_>, mut row: KeyVersionRow) -> KeyVersionRow {
    row.mac = scene.keys().row.mac(&row.image());
    row
}

/// A version of the platform key.
fn platform_key<'a>(scene: &Scene<'a>, version: u32) -> Result<&'a KeyVersionRow, Denial> {
    let context: &'a Context = scene.context;
    context.key(KeyKind::Platform, version).ok_or(Denial::KeyNotFound)
}

struct List {
    call: Call,
    slice: Slice,
}

impl Deed for List {
    type Answer = Vec<(String, KeyVersionRow)>;

    fn call(&self) -> Call {
        self.call
    }

    fn changes(&self) -> bool {
        false
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Self::Answer>, VaultError> {
        let rows = hand.scene.context.key_rows().iter();
        let rows = rows.map(|row| (format!("{}.{:010}", row.kind, row.version), row.clone()));
        let listed = self.slice.of(rows);
        hand.log(|entry| Entry { object_kind: Some("key".to_owned()), ..entry })?;
        Ok(Deeded::answer(listed))
    }
}

/// The part that changes of one key version have in common: found, changed, written, told.
fn change(
    hand: &mut Hand<'_, '_>,
    version: u32,
    to: impl FnOnce(&KeyVersionRow) -> Result<KeyVersionRow, Denial>,
) -> Result<Option<KeyVersionRow>, VaultError> {
    if !hand.plan.claim(Claim::Config) {
        return Ok(None);
    }
    let row = platform_key(hand.scene, version)?;
    let changed = sealed_row(hand.scene, to(row)?);
    hand.log(|entry| about_key(&changed, entry))?;
    hand.plan.reconfigures = true;
    hand.plan.writes.push(crate::store::Write::UpdateKey(changed.clone(), row.mac));
    Ok(Some(changed))
}

/// The answer to a retry of a change: the version as it is now.
fn again(hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<KeyVersionRow, VaultError> {
    let version = u32::try_from(before.number(0)?).map_err(unavailable)?;
    Ok(platform_key(hand.scene, version)?.clone())
}

fn outcome(row: &KeyVersionRow) -> ItemOutcome {
    ItemOutcome { numbers: vec![i64::from(row.version)], ..ItemOutcome::default() }
}
