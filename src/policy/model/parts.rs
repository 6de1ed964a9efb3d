//! What a policy is made of. Each part keeps the clause that it comes from.

use std::collections::{BTreeMap, BTreeSet};

use super::terms::Retention;
use crate::domain::{
    caller::Caller,
    code::coded,
    consent::ConsentAct,
    field::FieldType,
    names::{CallerName, EventName, FieldName, PlatformName, SenderName},
    outreach::{Channel, Outreach},
    recipient::{CountryCode, RecipientKind},
    reference::Reference,
    subject::{SubjectKind, ValueSource},
    time::Timestamp,
};

/// Who runs the platform, as a consent must name them (Law 94-V, Article 8(4)).
#[derive(Debug, Clone)]
pub struct Operator {
    /// Short name within the installation.
    pub name: PlatformName,
    /// Registered name.
    pub legal_name: String,
    /// BIN, 12 digits.
    pub bin: String,
}

coded!(
    /// How much of a value is answered.
    View, "view" {
        /// All of it.
        Full = "full",
        /// Enough to recognise it.
        Masked = "masked",
        /// Only whether the subject is at least so old.
        AgeAtLeast = "age_at_least",
        /// Only the date of birth.
        BirthDate = "birth_date",
        /// Only the year of birth.
        BirthYear = "birth_year",
        /// Only the sex.
        Sex = "sex",
    }
);

impl View {
    /// Whether it answers something computed from the value instead of the value.
    #[must_use]
    pub const fn is_derived(self) -> bool {
        !matches!(self, Self::Full | Self::Masked)
    }

    /// Whether values of this type can be seen so: a birth is read from an IIN or a date, a sex from an IIN.
    #[must_use]
    pub const fn fits(self, field_type: FieldType) -> bool {
        match self {
            Self::Full | Self::Masked => true,
            Self::AgeAtLeast | Self::BirthDate | Self::BirthYear => {
                matches!(field_type, FieldType::Iin | FieldType::Date)
            }
            Self::Sex => matches!(field_type, FieldType::Iin),
        }
    }
}

coded!(
    /// Category of a field (rule R2).
    Category, "category" {
        /// Personal data without a rule of their own.
        Ordinary = "ordinary",
        /// Data open to all by law or by the subject's will.
        Public = "public",
        /// What devices and visits leave behind (rule R43).
        Telemetry = "telemetry",
        /// What the subject writes to others; it has no recipients (rule R31).
        Correspondence = "correspondence",
        /// Health, views, convictions and the like.
        Special = "special",
        /// Face, voice, fingerprints and what is computed from them.
        Biometric = "biometric",
        /// Genetic data.
        Genetic = "genetic",
    }
);

coded!(
    /// What a policy bars. The checks execute each: a field, purpose or recipient that a ban names is refused.
    BanKind, "ban" {
        /// Fields of the category `biometric`.
        Biometric = "biometric",
        /// Fields of the category `genetic`.
        Genetic = "genetic",
        /// Fields of the categories `special`, `biometric` and `genetic`.
        Special = "special",
        /// Payment cards; barred everywhere (rule R21), so that this only keeps the clause.
        CardData = "card_data",
        /// Purposes that publish, and the recipient `public`.
        Publication = "publication",
        /// Recipients to whom data are sold.
        Sale = "sale",
        /// Recipients with whom data are exchanged.
        Exchange = "exchange",
        /// Recipients of purposes that advertise.
        AdvertisingTransfer = "advertising_transfer",
        /// Partners and affiliates as recipients.
        PartnerTransfer = "partner_transfer",
        /// Every recipient but state bodies and courts.
        ThirdPartyTransfer = "third_party_transfer",
        /// Recipients who may pass data on.
        OnwardTransfer = "onward_transfer",
        /// Purposes that hold an IP address or referrer beside what names a person (rule R32).
        IpIdentity = "ip_identity",
    }
);

/// Something that the policy bars.
#[derive(Debug, Clone)]
pub struct Ban {
    /// What.
    pub what: BanKind,
    /// Clause.
    pub clause: String,
}

/// How a policy comes to bind a subject.
#[derive(Debug, Clone)]
pub struct Acceptance {
    /// How.
    pub kind: AcceptanceKind,
    /// Days of use until it counts as accepted; 0 unless accepted by use.
    pub days: u32,
    /// Clause.
    pub clause: String,
}

coded!(
    /// How a new version comes to bind subjects. A wider purpose, field or recipient needs a fresh consent in any case.
    AcceptanceKind, "kind of acceptance" {
        /// By being published.
        Publication = "publication",
        /// By going on using the platform for a number of days.
        Use = "use",
        /// By an act of each subject.
        Act = "act",
    }
);

/// An agreement that the policy leans on for terms which it lacks itself.
#[derive(Debug, Clone)]
pub struct Agreement {
    /// Date of its text, YYYY-MM-DD.
    pub edition: String,
    /// Where it lets a subject withdraw.
    pub withdrawal_address: String,
    /// Clause of the policy that refers to it.
    pub clause: String,
}

/// Who answers for personal data at the operator (Law 94-V, Article 25(2); rule R48): an office, never a person by name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Responsible {
    /// The office.
    pub office: String,
    /// Where it is reached.
    pub contact: String,
    /// Clause.
    pub clause: String,
}

/// Whose data the platform holds.
#[derive(Debug, Clone)]
pub struct SubjectRules {
    pub(super) kinds: Vec<SubjectKind>,
    /// Least age of a user, in whole years.
    pub min_age: u32,
    /// For whom a representative may act; `None` where nobody is represented.
    pub represented: Option<Represented>,
    pub(super) managed_by: BTreeSet<CallerName>,
    /// Clause.
    pub clause: String,
}

/// For whom a legal representative may act.
#[derive(Debug, Clone)]
pub struct Represented {
    /// Whom.
    pub who: Vec<Incapacity>,
    /// Clause.
    pub clause: String,
}

coded!(
    /// Why somebody is represented.
    Incapacity, "reason of representation" {
        /// An adult whom a court has found incapable.
        IncapacitatedAdult = "incapacitated_adult",
        /// Somebody younger than the policy's least age.
        UnderMinAge = "under_min_age",
    }
);

/// What counts as a consent.
#[derive(Debug, Clone)]
pub struct ConsentRules {
    pub(super) acts: Vec<ConsentAct>,
    pub(super) recorded_by: BTreeSet<CallerName>,
    /// An event without which a consent is not complete.
    pub completed_by: Option<CompletedBy>,
    /// Days from a withdrawal to the destruction, in which the operator may record a refusal; use stops at once.
    pub withdrawal_days: u32,
    /// Days after which data that no consent ever covered are destroyed; `None` where they wait.
    pub unclaimed_days: Option<u32>,
    /// Clause.
    pub clause: String,
}

/// An event without which a consent is not complete.
#[derive(Debug, Clone)]
pub struct CompletedBy {
    /// The event.
    pub event: EventName,
    /// Clause.
    pub clause: String,
}

/// A declared event.
#[derive(Debug, Clone)]
pub struct Event {
    /// Clause.
    pub clause: String,
    pub(super) recorded_by: BTreeSet<CallerName>,
}

/// A declared field.
#[derive(Debug, Clone)]
pub struct Field {
    /// Its type.
    pub field_type: FieldType,
    /// Its category.
    pub category: Category,
    /// Clause.
    pub clause: String,
    /// Of an image: how much of it may be stored.
    pub image: Option<ImageLimits>,
    pub(super) unique: bool,
    pub(super) sources: Vec<ValueSource>,
    pub(super) collected_by: BTreeSet<CallerName>,
    pub(super) derived_from: Vec<FieldName>,
}

/// How much may be stored in a field of images.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ImageLimits {
    /// Bytes of one side.
    pub max_bytes: u32,
    /// Versions of one side, those that were replaced among them.
    pub max_versions: u32,
}

impl ImageLimits {
    /// What holds where a policy says nothing: 10 MiB a side, five versions.
    pub const DEFAULT: Self = Self { max_bytes: 10 << 20, max_versions: 5 };
}

impl Field {
    /// The fields that it is computed from, and whose strictest retention it inherits (rule R52).
    #[must_use]
    pub fn sources_of_derived(&self) -> &[FieldName] {
        &self.derived_from
    }

    /// Whether two subjects of the platform may not hold the same value.
    #[must_use]
    pub const fn is_unique(&self) -> bool {
        self.unique
    }

    /// Whether a value may come from there.
    #[must_use]
    pub fn accepts_source(&self, source: ValueSource) -> bool {
        self.sources.contains(&source)
    }
}

coded!(
    /// Whether the source policy itself ties a field to a purpose.
    Given, "mark" {
        /// It does.
        Stated = "stated",
        /// It does not; the file's authors inferred it, and a lawyer should confirm it.
        Inferred = "inferred",
    }
);

/// A field of a purpose.
#[derive(Debug, Clone)]
pub struct PurposeField {
    /// Stated or inferred.
    pub given: Given,
    /// Clause.
    pub clause: String,
}

/// What a purpose stands on. Contract and legitimate interest are no bases in Kazakhstan (Law 94-V, Article 9).
#[derive(Debug, Clone)]
pub struct Basis {
    /// Consent, or an article of a law.
    pub kind: BasisKind,
    /// Clause.
    pub clause: String,
    /// The basis that the source policy claims, where the law does not know it.
    pub declared: Option<DeclaredBasis>,
}

/// Kind of a basis.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BasisKind {
    /// The subject's consent.
    Consent,
    /// A law that needs no consent.
    Law {
        /// Act and article, such as `94-V/9(1)`.
        article: String,
    },
}

coded!(
    /// A basis that a source policy claims and that opens nothing (rule R3).
    DeclaredBasis, "declared basis" {
        /// A contract with the subject.
        Contract = "contract",
        /// The operator's legitimate interest.
        LegitimateInterest = "legitimate_interest",
    }
);

coded!(
    /// On what terms a recipient gets data.
    Manner, "manner of transfer" {
        /// For the purpose alone.
        Disclosure = "disclosure",
        /// For money.
        Sale = "sale",
        /// For other data.
        Exchange = "exchange",
        /// With leave to pass it on.
        Onward = "onward",
    }
);

/// A kind of recipient that a purpose names.
#[derive(Debug, Clone)]
pub struct RecipientRule {
    /// Kind.
    pub kind: RecipientKind,
    /// Clause.
    pub clause: String,
    /// Whether recipients abroad are allowed, with the consent that they need; Kazakhstan alone otherwise.
    pub abroad: bool,
    /// Whether a release is sealed to the recipient's key.
    pub encrypted: bool,
    /// On what terms.
    pub manner: Manner,
    pub(super) fields: Option<BTreeSet<FieldName>>,
}

impl RecipientRule {
    /// Whether this recipient may get the field.
    #[must_use]
    pub fn covers(&self, field: &FieldName) -> bool {
        self.fields.as_ref().is_none_or(|fields| fields.contains(field))
    }

    /// Whether this recipient may lie in the country.
    #[must_use]
    pub fn allows_country(&self, country: CountryCode) -> bool {
        self.abroad || country == CountryCode::KZ
    }
}

/// A channel by which a purpose reaches people.
#[derive(Debug, Clone)]
pub struct ChannelRule {
    /// Which.
    pub channel: Channel,
    /// Stated or inferred.
    pub given: Given,
    /// Clause.
    pub clause: String,
}

/// In whose name a purpose reaches people.
#[derive(Debug, Clone)]
pub struct SenderRule {
    /// Whose.
    pub name: SenderName,
    /// Clause.
    pub clause: String,
}

/// What a purpose does not have of a channel and a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NoOutreach {
    /// It reaches people, and no channel was named.
    Unnamed,
    /// It does not reach people by this channel.
    Channel,
    /// It does not reach people in this name.
    Sender,
}

coded!(
    /// What is special about a purpose.
    Mark, "mark of a purpose" {
        /// Its consent is an act of its own, by channel and sender (rule R5).
        Separate = "separate",
        /// Its consent is given in writing or with an electronic signature.
        Written = "written",
        /// Every read names the law or the demand behind it (rule R19).
        LegalReference = "legal_reference",
        /// It offers goods or services to the subject, by the channels that it names.
        Advertising = "advertising",
        /// It publishes.
        Publication = "publication",
        /// It keeps data for claims after every other purpose has ended, and reads for nothing else (rule R9).
        Claims = "claims",
        /// It decides about the subject by machine, or profiles: the subject may object (rule R34).
        Automated = "automated",
        /// What it does is risky for the subject, and was assessed before (rule R48).
        HighRisk = "high_risk",
    }
);

/// A declared purpose.
#[derive(Debug, Clone)]
pub struct Purpose {
    /// Clause.
    pub clause: String,
    /// What it stands on.
    pub basis: Basis,
    /// How long its data are kept.
    pub retention: Retention,
    /// Why nobody reads by it: the source names the purpose and no data.
    pub inert: Option<String>,
    /// Number of the assessment of its impact on people, in the operator's numbering.
    pub dpia: Option<Reference>,
    pub(super) callers: BTreeSet<CallerName>,
    pub(super) fields: BTreeMap<FieldName, PurposeField>,
    pub(super) views: Vec<View>,
    pub(super) recipients: Vec<RecipientRule>,
    pub(super) channels: Vec<ChannelRule>,
    pub(super) senders: Vec<SenderRule>,
    pub(super) marks: Vec<Mark>,
}

impl Purpose {
    /// Whether the policy names this caller for the purpose.
    #[must_use]
    pub fn names_caller(&self, caller: &Caller) -> bool {
        self.callers.contains(&caller.name)
    }

    /// Whether the purpose covers the field.
    #[must_use]
    pub fn covers(&self, field: &FieldName) -> bool {
        self.fields.contains_key(field)
    }

    /// Whether the purpose may see this much.
    #[must_use]
    pub fn allows_view(&self, view: View) -> bool {
        self.views.contains(&view)
    }

    /// How the source ties a field to the purpose.
    #[must_use]
    pub fn field(&self, name: &FieldName) -> Option<&PurposeField> {
        self.fields.get(name)
    }

    /// Its fields.
    pub fn fields(&self) -> impl Iterator<Item = (&FieldName, &PurposeField)> {
        self.fields.iter()
    }

    /// The kinds of recipients that it names.
    #[must_use]
    pub fn recipients(&self) -> &[RecipientRule] {
        &self.recipients
    }

    /// The rule for a kind of recipient; `None` where the purpose does not name it.
    #[must_use]
    pub fn recipient(&self, kind: RecipientKind) -> Option<&RecipientRule> {
        self.recipients.iter().find(|rule| rule.kind == kind)
    }

    /// The channels by which it reaches people; none where it does not.
    #[must_use]
    pub fn channels(&self) -> &[ChannelRule] {
        &self.channels
    }

    /// In whose names it reaches people.
    #[must_use]
    pub fn senders(&self) -> &[SenderRule] {
        &self.senders
    }

    /// Whether people are reached by it: it names channels, or advertises. One that advertises and names none reaches nobody.
    #[must_use]
    pub fn reaches_people(&self) -> bool {
        !self.channels.is_empty() || self.is(Mark::Advertising)
    }

    /// Whether it reaches people so (rule R5).
    ///
    /// # Errors
    /// What it does not have.
    pub fn allows_outreach(&self, asked: Option<&Outreach>) -> Result<(), NoOutreach> {
        let Some(asked) = asked else {
            return if self.reaches_people() { Err(NoOutreach::Unnamed) } else { Ok(()) };
        };
        if !self.channels.iter().any(|rule| rule.channel == asked.channel) {
            return Err(NoOutreach::Channel);
        }
        if !self.senders.iter().any(|rule| rule.name == asked.sender) {
            return Err(NoOutreach::Sender);
        }
        Ok(())
    }

    /// Whether the policy marks it so.
    #[must_use]
    pub fn is(&self, mark: Mark) -> bool {
        self.marks.contains(&mark)
    }

    /// Whether this act can be a consent to the purpose, as far as the purpose itself asks for more than the policy.
    #[must_use]
    pub fn accepts_act(&self, act: ConsentAct) -> bool {
        !self.is(Mark::Written) || matches!(act, ConsentAct::Written | ConsentAct::ElectronicSignature)
    }

    /// Whether every read names the law or the demand behind it: where the policy says so, and without consent.
    #[must_use]
    pub fn needs_reference(&self) -> bool {
        self.is(Mark::LegalReference) || self.basis.kind != BasisKind::Consent
    }
}

/// What the policy promises people who ask about their data.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PromisedTerm {
    /// Working days.
    pub working_days: u32,
    /// Clause.
    pub clause: String,
}

/// From when a version is in force, and from when it governs.
#[derive(Debug, Clone, Copy)]
pub(super) struct InForce {
    pub(super) effective: Timestamp,
    pub(super) governs: Timestamp,
}
