//! A new installation, and new platforms in it: keys made and wrapped, the log begun.

use std::{collections::BTreeMap, sync::Arc};

use super::{
    context::LoadError,
    heads::{NewHead, Signatory, Signers},
};
use crate::{
    audit::{
        entry::{Entry, Verdict},
        tree::{LogTree, leaf_hash},
    },
    crypto::{
        aead::Key,
        audit_key::AuditKey,
        digest::{RowKey, sha256},
        keyring::{KeyKind, key_version_place},
        kms::{Kms, KmsError},
    },
    domain::{
        ids::{EntryId, PlatformId},
        platform::Platform,
        rng::Rng,
        time::Timestamp,
    },
    store::{
        Counters, NewPlatform, Store, StoreError,
        rows::{
            config::{KeyState, KeyVersionRow},
            log::EntryRow,
        },
    },
};

/// The name of platform 0.
pub const VAULT: &str = "vault";

/// An installation name stands in origins and key names: no spaces, no `+`, no `/`.
///
/// # Errors
/// The rule, where the name breaks it.
pub fn check_installation_name(name: &str) -> Result<(), &'static str> {
    let allowed = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-');
    if name.is_empty() || name.len() > 200 || !name.bytes().all(allowed) {
        return Err("an installation's name must match [a-z0-9.-]{1,200}, like a host name");
    }
    Ok(())
}

/// Makes the installation with its own platform 0 and its audit key.
///
/// # Errors
/// [`LoadError`]; nothing is left behind then.
pub async fn create_installation(
    store: &dyn Store,
    kms: &dyn Kms,
    name: &str,
    now: Timestamp,
    rng: &dyn Rng,
) -> Result<(), LoadError> {
    if store.installation().await?.is_some() {
        let message = "the database holds an installation already".to_owned();
        return Err(StoreError::Schema(message).into());
    }
    let seed = Key::random(rng).map_err(KmsError::from)?;
    let key = AuditKey::from_seed(name, &seed).map_err(|_| LoadError::AuditKey)?;
    let signatory = Signatory::new(name.to_owned(), 1, BTreeMap::from([(1, Arc::new(key))]))?;
    let own = Platform {
        id: PlatformId::VAULT,
        name: VAULT.parse().map_err(|_| LoadError::NotInitialised)?,
        legal_name: String::new(),
        bin: String::new(),
        created_at: now,
    };
    let platform = new_platform(&signatory, kms, own, Some(seed), rng).await?;
    Ok(store.create_installation(name, platform).await?)
}

pub(super) async fn new_platform(
    signatory: &Signatory,
    kms: &dyn Kms,
    platform: Platform,
    audit_seed: Option<Key>,
    rng: &dyn Rng,
) -> Result<NewPlatform, LoadError> {
    let (id, now) = (platform.id, platform.created_at);
    let random = |rng: &dyn Rng| Key::random(rng).map_err(KmsError::from);
    let row_bytes = random(rng)?;
    let row_key = RowKey::new(&row_bytes);
    let mut made = vec![
        (KeyKind::Row, row_bytes),
        (KeyKind::Platform, random(rng)?),
        (KeyKind::Index, random(rng)?),
        (KeyKind::Request, random(rng)?),
    ];
    made.extend(audit_seed.map(|seed| (KeyKind::Audit, seed)));

    let entry = |call: &str| -> Result<Entry, LoadError> {
        let entry_id = EntryId::random(rng).map_err(KmsError::from)?;
        Ok(Entry::new(entry_id, now, id, call, Verdict::Done))
    };
    let mut entries = vec![Entry {
        object_kind: Some("platform".to_owned()),
        object: Some(platform.name.as_str().as_bytes().to_vec()),
        detail_sha256: Some(sha256(platform.image().as_bytes()).into()),
        ..entry("Install/CreatePlatform")?
    }];
    let mut keys = Vec::new();
    for (kind, key) in made {
        let mut row = KeyVersionRow {
            platform: id,
            kind: kind.as_str().to_owned(),
            version: 1,
            state: KeyState::Active,
            wrapped: Some(kms.wrap(&key_version_place(id, kind, 1), &key, rng).await?),
            created_at: now,
            destroy_at: None,
            mac: [0; 32],
        };
        row.mac = row_key.mac(&row.image());
        entries.push(Entry {
            object_kind: Some("key".to_owned()),
            object: Some(format!("{}/1", kind.as_str()).into_bytes()),
            row_mac: Some(row.mac.into()),
            ..entry("Install/CreateKey")?
        });
        keys.push(row);
    }

    let mut tree = LogTree::empty();
    let mut rows = Vec::new();
    for entry in entries {
        let bytes = entry.encode().map_err(|_| LoadError::AuditKey)?;
        let leaf = leaf_hash(&bytes);
        tree.append(leaf, &mut Vec::new());
        rows.push(EntryRow { entry: bytes, leaf_hash: leaf.0, subject: None });
    }
    let counters = Counters { size: tree.size(), config_epoch: 1, tighten_seq: 0, change_seq: 0 };
    let new = NewHead { platform: id, name: &platform.name, tree: &tree, counters, updated_at: now };
    let signers = Signers { newest: signatory.active(), before: None };
    let head = signatory.head_row(new, signers, &row_key)?;
    Ok(NewPlatform { platform, keys, head, entries: rows })
}
