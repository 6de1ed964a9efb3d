//! Rows as stored. Rows that grant something have an `image`: the canonical form of table, primary key and every
//! deciding column that their MAC covers.

pub mod breaches;
pub mod config;
pub mod copies;
pub mod documents;
pub mod log;
pub mod rights;
pub mod work;

use crate::domain::{
    canonical::Canonical,
    code::coded,
    consent::{Consent, RecordAddress, SubjectState},
    event::{AccuracyMark, SubjectEvent, WithdrawalRefusal},
    ids::{EventId, PlatformId, RecordId, SubjectId, TokenRowId},
    names::FieldName,
    secret::Sealed,
    subject::{Restriction, SubjectKind, ValueSource},
    time::Timestamp,
    token::{TokenHash, TokenMode, TokenState},
};

/// MAC of a row.
pub type Mac = [u8; 32];

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
    /// The reference itself; empty where it was not read.
    pub sealed_reference: Sealed,
    /// The subject key; none once it is destroyed.
    pub wrapped_key: Option<Sealed>,
    /// Kind.
    pub kind: SubjectKind,
    /// State.
    pub state: SubjectState,
    /// The block on its use, where there is one; kept through an erasure that may be cancelled.
    pub restriction: Option<Restriction>,
    /// When it was erased.
    pub erased_at: Option<Timestamp>,
    /// When its keys are destroyed.
    pub destroy_at: Option<Timestamp>,
    /// Created.
    pub created_at: Timestamp,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl SubjectRow {
    /// What the MAC covers.
    #[must_use]
    pub fn image(&self) -> Canonical {
        let image = platform_row("subjects", self.platform)
            .bytes(self.id.as_bytes())
            .int(i64::from(self.index_version))
            .bytes(&self.reference_hash)
            .text(self.kind.as_str())
            .text(self.state.as_str())
            .optional_int(self.erased_at.map(Timestamp::as_micros))
            .optional_int(self.destroy_at.map(Timestamp::as_micros))
            .int(self.created_at.as_micros());
        match &self.restriction {
            None => image.flag(false),
            Some(r) => image
                .flag(true)
                .text(r.trigger.as_str())
                .text(r.requester.as_str())
                .int(r.since.as_micros())
                .int(r.review_at.as_micros()),
        }
    }
}

/// One version of a record.
#[derive(Debug, Clone)]
pub struct RecordRow {
    /// Where the value belongs.
    pub address: RecordAddress,
    /// State.
    pub state: RecordState,
    /// Where the value came from (rule R24).
    pub source: ValueSource,
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
            .text(self.source.as_str())
            .int(self.created_at.as_micros())
    }
}

/// A token.
#[derive(Debug, Clone)]
pub struct TokenRow {
    /// Platform.
    pub platform: PlatformId,
    /// What the token is found by.
    pub hash: TokenHash,
    /// Version of the index key under `hash`; 0 for the SHA-256 of a token of 160 bits.
    pub hash_version: u32,
    /// Id of this row, for the log.
    pub id: TokenRowId,
    /// The record it stands for.
    pub record: RecordId,
    /// Mode.
    pub mode: TokenMode,
    /// State.
    pub state: TokenState,
    /// End of an expiring token.
    pub expires_at: Option<Timestamp>,
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
            .int(i64::from(self.hash_version))
            .bytes(self.id.as_bytes())
            .bytes(self.record.as_bytes())
            .text(self.mode.as_str())
            .text(self.state.as_str())
            .optional_int(self.expires_at.map(Timestamp::as_micros))
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
        let image = platform_row("consents", self.platform)
            .bytes(c.id.as_bytes())
            .bytes(c.subject.as_bytes())
            .text(c.terms.purpose.as_str())
            .texts(c.terms.fields.iter().map(FieldName::as_str))
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
            .text(c.terms.site.as_str());
        // Named where it stands: rows from before there were such columns keep their MAC.
        match &c.terms.outreach {
            None => image,
            Some(outreach) => {
                image.text("outreach").text(outreach.channel.as_str()).text(outreach.sender.as_str())
            }
        }
    }
}

/// Something that happened to a subject: a consent may need it, retention counts from it.
#[derive(Debug, Clone)]
pub struct EventRow {
    /// Platform.
    pub platform: PlatformId,
    /// Id.
    pub id: EventId,
    /// To whom.
    pub subject: SubjectId,
    /// What and when.
    pub event: SubjectEvent,
    /// Why a withdrawal is refused, where the event says that it is.
    pub refusal: Option<WithdrawalRefusal>,
    /// How a value is marked, where the event says that it is.
    pub mark: Option<AccuracyMark>,
    /// When the vault recorded it.
    pub recorded_at: Timestamp,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl EventRow {
    /// What the MAC covers.
    #[must_use]
    pub fn image(&self) -> Canonical {
        let image = platform_row("subject_events", self.platform)
            .bytes(self.id.as_bytes())
            .bytes(self.subject.as_bytes())
            .text(self.event.name.as_str())
            .int(self.event.at.as_micros())
            .int(self.recorded_at.as_micros());
        // Named where they stand: rows from before there were such columns keep their MAC.
        let image = match &self.refusal {
            None => image,
            Some(refusal) => image.text("refusal").text(refusal.bar.as_str()).text(refusal.ground.as_str()),
        };
        match &self.mark {
            None => image,
            Some(mark) => image
                .text("accuracy")
                .text(mark.field.as_str())
                .text(mark.accuracy.as_str())
                .text(mark.evidence.as_str()),
        }
    }
}

/// A value's place in the blind index. It grants nothing: whoever finds a record by it compares the value itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IndexRow {
    /// Field.
    pub field: FieldName,
    /// Version of the index key.
    pub index_version: u32,
    /// HMAC of the value.
    pub hash: [u8; 32],
    /// The record that holds it.
    pub record: RecordId,
    /// Whether no other record of the field may claim the same value.
    pub claims_unique: bool,
}

fn platform_row(table: &str, platform: PlatformId) -> Canonical {
    Canonical::new(table).int(i64::from(platform.get()))
}
