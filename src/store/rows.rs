//! Rows as stored. Rows that grant something have an `image`: the canonical form of table, primary key and every
//! deciding column that their MAC covers.

use crate::domain::{
    caller::{Caller, Role},
    canonical::Canonical,
    code::coded,
    consent::{Consent, RecordAddress, SubjectState},
    ids::{PlatformId, RecordId, SubjectId, TokenRowId},
    secret::Sealed,
    time::Timestamp,
    token::{TokenHash, TokenMode, TokenState},
};

use super::Counters;

/// MAC of a row.
pub type Mac = [u8; 32];

coded!(
    /// Where a key version stands.
    KeyState, "key state" {
        /// Made, not yet loaded everywhere.
        Pending = "pending",
        /// Protects new data.
        Active = "active",
        /// Opens old data only.
        Retiring = "retiring",
        /// Refused for a time.
        Disabled = "disabled",
        /// Waits for its destruction.
        DestructionScheduled = "destruction_scheduled",
        /// Gone.
        Destroyed = "destroyed",
    }
);

coded!(
    /// Where a record version stands.
    RecordState, "record state" {
        /// What tokens answer.
        Current = "current",
        /// Corrected since.
        Superseded = "superseded",
    }
);

/// A subject.
#[derive(Debug, Clone)]
pub struct SubjectRow {
    /// Platform.
    pub platform: PlatformId,
    /// Id.
    pub id: SubjectId,
    /// Version of the index key under `reference_hash`.
    pub index_version: u32,
    /// HMAC of the platform's reference.
    pub reference_hash: [u8; 32],
    /// The reference itself.
    pub sealed_reference: Sealed,
    /// The subject key; none once it is destroyed.
    pub wrapped_key: Option<Sealed>,
    /// State.
    pub state: SubjectState,
    /// Created.
    pub created_at: Timestamp,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl SubjectRow {
    /// What the MAC covers.
    #[must_use]
    pub fn image(&self) -> Canonical {
        platform_row("subjects", self.platform)
            .bytes(self.id.as_bytes())
            .int(i64::from(self.index_version))
            .bytes(&self.reference_hash)
            .text(self.state.as_str())
            .int(self.created_at.as_micros())
    }
}

/// One version of a record.
#[derive(Debug, Clone)]
pub struct RecordRow {
    /// Where the value belongs.
    pub address: RecordAddress,
    /// State.
    pub state: RecordState,
    /// The value.
    pub sealed_value: Sealed,
    /// Created.
    pub created_at: Timestamp,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl RecordRow {
    /// What the MAC covers.
    #[must_use]
    pub fn image(&self) -> Canonical {
        platform_row("records", self.address.platform)
            .bytes(self.address.record.as_bytes())
            .int(i64::from(self.address.version))
            .bytes(self.address.subject.as_bytes())
            .text(self.address.field.as_str())
            .text(self.state.as_str())
            .int(self.created_at.as_micros())
    }
}

/// A token.
#[derive(Debug, Clone)]
pub struct TokenRow {
    /// Platform.
    pub platform: PlatformId,
    /// SHA-256 of the token.
    pub hash: TokenHash,
    /// Id of this row, for the log.
    pub id: TokenRowId,
    /// The record it stands for.
    pub record: RecordId,
    /// Mode.
    pub mode: TokenMode,
    /// State.
    pub state: TokenState,
    /// The token, for look-ups and replays; empty where it was not read.
    pub sealed_token: Sealed,
    /// Created.
    pub created_at: Timestamp,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl TokenRow {
    /// What the MAC covers.
    #[must_use]
    pub fn image(&self) -> Canonical {
        platform_row("tokens", self.platform)
            .bytes(&self.hash.0)
            .bytes(self.id.as_bytes())
            .bytes(self.record.as_bytes())
            .text(self.mode.as_str())
            .text(self.state.as_str())
            .int(self.created_at.as_micros())
    }
}

/// A consent.
#[derive(Debug, Clone)]
pub struct ConsentRow {
    /// Platform.
    pub platform: PlatformId,
    /// The consent.
    pub consent: Consent,
    /// The subject's name and the operator, as they stood in the consent; empty where it was not read.
    pub sealed_evidence: Sealed,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl ConsentRow {
    /// What the MAC covers.
    #[must_use]
    pub fn image(&self) -> Canonical {
        let c = &self.consent;
        platform_row("consents", self.platform)
            .bytes(c.id.as_bytes())
            .bytes(c.subject.as_bytes())
            .text(c.terms.purpose.as_str())
            .texts(c.terms.fields.iter().map(crate::domain::names::FieldName::as_str))
            .text(c.state.as_str())
            .text(c.terms.act.as_str())
            .int(c.terms.given_at.as_micros())
            .optional_int(c.terms.expires_at.map(Timestamp::as_micros))
            .int(c.recorded_at.as_micros())
            .optional_int(c.withdrawn_at.map(Timestamp::as_micros))
            .flag(c.terms.third_party_transfer)
            .flag(c.terms.cross_border_transfer)
            .flag(c.terms.publication)
            .int(i64::from(c.terms.policy_version))
            .text(c.terms.language.as_str())
            .bytes(&c.terms.text_sha256)
            .text(c.terms.site.as_str())
    }
}

/// A policy version.
#[derive(Debug, Clone)]
pub struct PolicyRow {
    /// Platform.
    pub platform: PlatformId,
    /// Version.
    pub version: u32,
    /// The TOML.
    pub text: String,
    /// SHA-256 of the TOML.
    pub sha256: [u8; 32],
    /// Created.
    pub created_at: Timestamp,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl PolicyRow {
    /// What the MAC covers.
    #[must_use]
    pub fn image(&self) -> Canonical {
        platform_row("policies", self.platform)
            .int(i64::from(self.version))
            .bytes(&self.sha256)
            .int(self.created_at.as_micros())
    }
}

/// A caller.
#[derive(Debug, Clone)]
pub struct CallerRow {
    /// The caller.
    pub caller: Caller,
    /// Enrolled, or changed since.
    pub updated_at: Timestamp,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl CallerRow {
    /// What the MAC covers.
    #[must_use]
    pub fn image(&self) -> Canonical {
        let c = &self.caller;
        platform_row("callers", c.platform)
            .text(c.spiffe_id.as_str())
            .bytes(c.id.as_bytes())
            .text(c.name.as_str())
            .texts(c.roles.iter().map(|r: &Role| r.as_str()))
            .text(c.state.as_str())
            .int(self.updated_at.as_micros())
    }
}

/// A wrapped key.
#[derive(Debug, Clone)]
pub struct KeyVersionRow {
    /// Platform.
    pub platform: PlatformId,
    /// Kind, by its code.
    pub kind: String,
    /// Version, from 1.
    pub version: u32,
    /// State.
    pub state: KeyState,
    /// The key under the root; none once it is destroyed.
    pub wrapped: Option<Sealed>,
    /// Created.
    pub created_at: Timestamp,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl KeyVersionRow {
    /// What the MAC covers.
    #[must_use]
    pub fn image(&self) -> Canonical {
        platform_row("key_versions", self.platform)
            .text(&self.kind)
            .int(i64::from(self.version))
            .text(self.state.as_str())
            .int(self.created_at.as_micros())
    }
}

/// The head of a platform's log, with the counters that commits swap on.
#[derive(Debug, Clone)]
pub struct HeadRow {
    /// Platform.
    pub platform: PlatformId,
    /// Size, epoch and tightening sequence.
    pub counters: Counters,
    /// Time of the last entry.
    pub updated_at: Timestamp,
    /// Root of the tree.
    pub root: [u8; 32],
    /// Roots of the complete subtrees, left to right.
    pub right_edge: Vec<[u8; 32]>,
    /// Signed head.
    pub checkpoint: String,
    /// MAC of [`Self::image`]: the counters are not in the checkpoint.
    pub mac: Mac,
}

impl HeadRow {
    /// What the MAC covers.
    #[must_use]
    pub fn image(&self) -> Canonical {
        let number = |n: u64| i64::try_from(n).unwrap_or(i64::MAX);
        platform_row("heads", self.platform)
            .int(number(self.counters.size))
            .int(number(self.counters.config_epoch))
            .int(number(self.counters.tighten_seq))
            .int(self.updated_at.as_micros())
            .bytes(&self.root)
    }
}

/// An entry of the log.
#[derive(Debug, Clone)]
pub struct EntryRow {
    /// Its bytes.
    pub entry: Vec<u8>,
    /// Its leaf hash.
    pub leaf_hash: [u8; 32],
}

/// A complete tile.
#[derive(Debug, Clone)]
pub struct TileRow {
    /// Level.
    pub level: u8,
    /// Index within the level.
    pub index: u64,
    /// 256 hashes.
    pub hashes: Vec<u8>,
    /// Root of the subtree.
    pub root: [u8; 32],
}

/// The last head of one second.
#[derive(Debug, Clone)]
pub struct SecondHead {
    /// Seconds since the Unix epoch.
    pub second: i64,
    /// Entries under it.
    pub size: u64,
    /// Signed head.
    pub checkpoint: String,
}

fn platform_row(table: &str, platform: PlatformId) -> Canonical {
    Canonical::new(table).int(i64::from(platform.get()))
}
