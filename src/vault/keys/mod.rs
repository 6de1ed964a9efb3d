//! Keys of platforms: what there is, what it protects, and how it changes while the vault serves.
//!
//! A rotation makes a new version of the platform key, which wraps subject keys (and the keys of open proposals, which end by
//! themselves): values stay untouched.
//! The new version is `pending` until every process has it, then `active`; the old one `retiring`. Then each subject key is
//! wrapped anew in small commits, and at last every one is opened with the new version. The old version stays intact, and
//! can be destroyed only when it wraps nothing.
//!
//! A rotation of the audit key takes the same way; instead of keys that are wrapped anew, every log is handed over. One of the
//! root key makes its version in the KMS, and wraps the keys of all platforms anew. One of the index key moves what
//! everything is found by.
//!
//! A rekey is a rotation of the platform key after which also the subject keys are new, and everything is sealed under them.

mod audit;
mod destruction;
mod ends;
mod horizon;
mod index;
mod pace;
mod piece;
mod rekey;
mod report;
mod root;
mod rotate;
mod rotation;
mod schedule;
mod states;
mod working;
mod wrapping;

pub(in crate::vault) use ends::given_up;
pub use horizon::{HorizonView, NewHorizon};
pub(in crate::vault) use index::MOVED;
pub(in crate::vault) use pace::{SWEEP, rest};
pub use rotate::RotationPlan;
pub(in crate::vault) use schedule::Schedule;
pub use states::WhichKey;
pub(in crate::vault) use working::Working;

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
    store::rows::config::{HorizonRow, KeyState, KeyVersionRow},
};

/// What is under a version of a platform's platform or index key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KeyUsage {
    /// What the key is for.
    pub kind: KeyKind,
    /// Version.
    pub version: u32,
    /// State.
    pub state: KeyState,
    /// Subject keys that it wraps; or values, references and tokens of 12 digits that are hashed under it.
    pub uses: u64,
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

    /// Counts what is under each version of the index and platform keys.
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
        let mut usages = Vec::new();
        for kind in [KeyKind::Platform, KeyKind::Index] {
            let counts = self.uses(platform, kind).await?;
            let rows = keys.iter().map(|(_, row)| row);
            let rows = rows.filter(|row| row.kind == kind.as_str() && row.state != KeyState::Destroyed);
            usages.extend(rows.map(|row| KeyUsage {
                kind,
                version: row.version,
                state: row.state,
                uses: under(&counts, row.version),
            }));
        }
        Ok(usages)
    }

    /// What is under each version of a key.
    async fn uses(&self, platform: PlatformId, kind: KeyKind) -> Result<Vec<(u32, u64)>, VaultError> {
        match kind {
            KeyKind::Platform => self.wraps(platform).await,
            KeyKind::Index => self.shared.store.count_hashed(platform).await.map_err(unavailable),
            KeyKind::Root | KeyKind::Row | KeyKind::Request | KeyKind::Audit => Ok(Vec::new()),
        }
    }

    /// What is under one version of a key.
    async fn used(&self, platform: PlatformId, kind: KeyKind, version: u32) -> Result<u64, VaultError> {
        Ok(under(&self.uses(platform, kind).await?, version))
    }

    /// Subject keys by the version that wraps them.
    pub(in crate::vault) async fn wraps(&self, platform: PlatformId) -> Result<Vec<(u32, u64)>, VaultError> {
        let counts = self.shared.store.count_wraps(platform).await.map_err(unavailable)?;
        let version = |(header, count)| {
            // A wrap that names no version is damage, which reads and the verification of a rotation tell of.
            (wrap_version(&Sealed::from_bytes(header)).unwrap_or(0), count)
        };
        Ok(counts.into_iter().map(version).collect())
    }
}

fn under(counts: &[(u32, u64)], version: u32) -> u64 {
    counts.iter().filter(|(known, _)| *known == version).map(|(_, count)| count).sum()
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

/// A key version.
fn key_row<'a>(scene: &Scene<'a>, which: WhichKey) -> Result<&'a KeyVersionRow, Denial> {
    let context: &'a Context = scene.context;
    context.key(which.kind, which.version).ok_or(Denial::KeyNotFound)
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
    which: WhichKey,
    to: impl FnOnce(&KeyVersionRow) -> Result<KeyVersionRow, Denial>,
) -> Result<Option<KeyVersionRow>, VaultError> {
    if !hand.plan.claim(Claim::Config) {
        return Ok(None);
    }
    let row = key_row(hand.scene, which)?;
    let changed = sealed_row(hand.scene, to(row)?);
    hand.log(|entry| about_key(&changed, entry))?;
    hand.plan.reconfigures = true;
    hand.plan.writes.push(crate::store::Write::UpdateKey(changed.clone(), row.mac));
    Ok(Some(changed))
}

/// The answer to a retry of a change: the version as it is now.
fn again(hand: &Hand<'_, '_>, kind: KeyKind, before: &ItemOutcome) -> Result<KeyVersionRow, VaultError> {
    let version = u32::try_from(before.number(0)?).map_err(unavailable)?;
    Ok(key_row(hand.scene, WhichKey { kind, version })?.clone())
}

fn outcome(row: &KeyVersionRow) -> ItemOutcome {
    ItemOutcome { numbers: vec![i64::from(row.version)], ..ItemOutcome::default() }
}
