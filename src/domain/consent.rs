//! Subjects, records and consents as decisions see them.

use super::{
    code::coded,
    ids::{ConsentId, PlatformId, RecordId, SubjectId},
    names::{FieldName, PurposeName, SiteName},
    outreach::Outreach,
    time::Timestamp,
};

coded!(
    /// Where a subject stands.
    SubjectState, "subject state" {
        /// Values may be read where policy allows.
        Active = "active",
        /// Use is blocked for a time (Law 94-V, Article 1(3)).
        Restricted = "restricted",
        /// Unreadable for good; keys wait for destruction or are destroyed.
        Erased = "erased",
    }
);

coded!(
    /// The act by which a subject consented (rule R4: use, cookies or supplying data are none).
    ConsentAct, "consent act" {
        /// A box ticked.
        Tick = "tick",
        /// A paper signed by hand.
        Written = "written",
        /// A document with an electronic digital signature.
        ElectronicSignature = "electronic_signature",
        /// A code sent to the subject and entered by the subject.
        OneTimeCode = "one_time_code",
    }
);

coded!(
    /// Where a consent stands.
    ConsentState, "consent state" {
        /// In force until its term ends.
        Granted = "granted",
        /// Withdrawn.
        Withdrawn = "withdrawn",
    }
);

coded!(
    /// Language of a consent's text.
    Language, "language" {
        /// Kazakh.
        Kk = "kk",
        /// Russian.
        Ru = "ru",
        /// English.
        En = "en",
    }
);

/// The place of one value: everything its key and its seal are bound to.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RecordAddress {
    /// Platform.
    pub platform: PlatformId,
    /// Subject.
    pub subject: SubjectId,
    /// Record.
    pub record: RecordId,
    /// Field.
    pub field: FieldName,
    /// Version of the record, from 1.
    pub version: u32,
}

/// What a subject agreed to, when, how and where: the contents of Law 94-V, Article 8(4) that name nobody.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConsentTerms {
    /// To what.
    pub purpose: PurposeName,
    /// The list of data.
    pub fields: Vec<FieldName>,
    /// By which channel and in whose name, of a purpose by which people are reached: one of each, so that each is consented to
    /// and withdrawn by itself (rule R5).
    pub outreach: Option<Outreach>,
    /// How.
    pub act: ConsentAct,
    /// When the subject acted.
    pub given_at: Timestamp,
    /// End of the term; `None` until the purpose is reached (Article 8(6)).
    pub expires_at: Option<Timestamp>,
    /// Transfer to third parties.
    pub third_party_transfer: bool,
    /// Transfer abroad.
    pub cross_border_transfer: bool,
    /// Publication in open sources.
    pub publication: bool,
    /// Policy version shown.
    pub policy_version: u32,
    /// Language shown.
    pub language: Language,
    /// SHA-256 of the text shown.
    pub text_sha256: [u8; 32],
    /// Where.
    pub site: SiteName,
}

/// A consent on record, without its sealed evidence (the subject's name and the operator as it was named).
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Consent {
    /// Id.
    pub id: ConsentId,
    /// Who consented.
    pub subject: SubjectId,
    /// To what; fields are sorted.
    pub terms: ConsentTerms,
    /// State.
    pub state: ConsentState,
    /// When the vault recorded it.
    pub recorded_at: Timestamp,
    /// When it was withdrawn.
    pub withdrawn_at: Option<Timestamp>,
}
