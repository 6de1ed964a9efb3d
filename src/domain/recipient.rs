//! Recipients: those outside the platform to whom a value may be released, by name, kind and country (rule R17).

use std::{fmt, str::FromStr};

use super::{
    code::coded,
    ids::RecipientId,
    names::{PurposeName, RecipientName},
    reference::Reference,
    time::Timestamp,
};

coded!(
    /// Kind of a recipient.
    RecipientKind, "kind of recipient" {
        /// A state body with a lawful demand.
        State = "state",
        /// A court.
        Court = "court",
        /// A bank.
        Bank = "bank",
        /// A payment system.
        PaymentSystem = "payment_system",
        /// A partner of the platform.
        Partner = "partner",
        /// A company of the operator's group.
        Affiliate = "affiliate",
        /// A contractor that helps to serve the user.
        Contractor = "contractor",
        /// A service that sends messages.
        Mailing = "mailing",
        /// An analytics system.
        Analytics = "analytics",
        /// A hosting provider.
        Hosting = "hosting",
        /// An organisation that keeps the platform's information technology running.
        ItProcessor = "it_processor",
        /// Everybody: publication in open sources (Law 94-V, Article 7(6)).
        Public = "public",
    }
);

impl RecipientKind {
    /// State bodies and courts: they get values by lawful demand (Law 94-V, Article 9), not by consent to a transfer.
    #[must_use]
    pub const fn is_authority(self) -> bool {
        matches!(self, Self::State | Self::Court)
    }
}

coded!(
    /// Where a recipient stands.
    RecipientState, "recipient state" {
        /// May receive.
        Active = "active",
        /// Receives nothing any more.
        Ended = "ended",
    }
);

coded!(
    /// On what data may go to a recipient abroad (Law 94-V, Article 16; rule R16). None of them opens anything by itself: a release
    /// abroad stands on the subject's consent to it too.
    Safeguard, "safeguard" {
        /// The state there protects personal data; the assessment says so.
        AdequateProtection = "adequate_protection",
        /// An international treaty.
        Treaty = "treaty",
        /// A law.
        Law = "law",
        /// Clauses of the contract that bind the recipient to protect the data.
        ContractClauses = "contract_clauses",
        /// Nothing but the consent of each subject.
        SubjectConsent = "subject_consent",
    }
);

impl Safeguard {
    /// Whether it says nothing without the paper behind it.
    #[must_use]
    pub const fn needs_reference(self) -> bool {
        !matches!(self, Self::SubjectConsent)
    }
}

/// On what a recipient abroad receives.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Abroad {
    /// The ground.
    pub safeguard: Safeguard,
    /// The treaty, law, assessment or clauses, in the operator's numbering.
    pub reference: Option<Reference>,
}

coded!(
    /// What a recipient has promised in its contract, as clause 9.4 of the policy of lerna.kz lists it (rule R17).
    RecipientCondition, "condition" {
        /// It keeps the data confidential, and discloses them to nobody: 9.4(а).
        Confidentiality = "confidentiality",
        /// It uses means of protection: 9.4(б).
        ProtectionMeans = "protection_means",
        /// It finds and records unauthorised access, and restores the data: 9.4(б).
        IncidentRecovery = "incident_recovery",
        /// It limits who has access: 9.4(б).
        RestrictedAccess = "restricted_access",
        /// It checks how well its measures protect: 9.4(б).
        EffectivenessChecks = "effectiveness_checks",
        /// It takes the other measures that the law asks for: 9.4(б).
        LawfulMeasures = "lawful_measures",
        /// It passes the data on to nobody, and distributes them to nobody, consent or not: 9.4(в).
        NoOnwardTransfer = "no_onward_transfer",
    }
);

/// Every officially assigned code of ISO 3166-1 alpha-2.
const ASSIGNED: &str = "\
    AD AE AF AG AI AL AM AO AQ AR AS AT AU AW AX AZ BA BB BD BE BF BG BH BI BJ BL BM BN BO BQ BR BS BT \
    BV BW BY BZ CA CC CD CF CG CH CI CK CL CM CN CO CR CU CV CW CX CY CZ DE DJ DK DM DO DZ EC EE EG EH \
    ER ES ET FI FJ FK FM FO FR GA GB GD GE GF GG GH GI GL GM GN GP GQ GR GS GT GU GW GY HK HM HN HR HT \
    HU ID IE IL IM IN IO IQ IR IS IT JE JM JO JP KE KG KH KI KM KN KP KR KW KY KZ LA LB LC LI LK LR LS \
    LT LU LV LY MA MC MD ME MF MG MH MK ML MM MN MO MP MQ MR MS MT MU MV MW MX MY MZ NA NC NE NF NG NI \
    NL NO NP NR NU NZ OM PA PE PF PG PH PK PL PM PN PR PS PT PW PY QA RE RO RS RU RW SA SB SC SD SE SG \
    SH SI SJ SK SL SM SN SO SR SS ST SV SX SY SZ TC TD TF TG TH TJ TK TL TM TN TO TR TT TV TW TZ UA UG \
    UM US UY UZ VA VC VE VG VI VN VU WF WS YE YT ZA ZM ZW";

/// A country: ISO 3166-1 alpha-2.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CountryCode([u8; 2]);

/// A text that is no country's code.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a country must be an assigned code of ISO 3166-1 alpha-2, such as KZ")]
pub struct UnknownCountry;

impl CountryCode {
    /// Kazakhstan.
    pub const KZ: Self = Self(*b"KZ");

    /// The two letters.
    #[must_use]
    pub fn as_str(&self) -> &str {
        // Only assigned codes are ever kept: both bytes are ASCII.
        std::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl FromStr for CountryCode {
    type Err = UnknownCountry;

    fn from_str(text: &str) -> Result<Self, UnknownCountry> {
        let bytes: [u8; 2] = text.as_bytes().try_into().map_err(|_| UnknownCountry)?;
        if ASSIGNED.split(' ').any(|code| code == text) { Ok(Self(bytes)) } else { Err(UnknownCountry) }
    }
}

impl fmt::Display for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for CountryCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A registered recipient, as decisions see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Recipient {
    /// Id in the log.
    pub id: RecipientId,
    /// Short name within the platform.
    pub name: RecipientName,
    /// What it is.
    pub kind: RecipientKind,
    /// Where it is.
    pub country: CountryCode,
    /// Purposes that it is registered for.
    pub purposes: Vec<PurposeName>,
    /// First instant of its contract.
    pub valid_from: Timestamp,
    /// End of its contract: from this instant on it receives nothing; `None` until it is ended.
    pub valid_until: Option<Timestamp>,
    /// State.
    pub state: RecipientState,
    /// Whether a key is on record to which releases can be sealed.
    pub has_key: bool,
}

impl Recipient {
    /// Whether a release for the purpose may go to it at `now`: active, within its dates, registered for the purpose.
    #[must_use]
    pub fn may_receive(&self, purpose: &PurposeName, now: Timestamp) -> bool {
        self.state == RecipientState::Active
            && self.valid_from <= now
            && self.valid_until.is_none_or(|end| now < end)
            && self.purposes.contains(purpose)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_assigned_countries() {
        assert_eq!("KZ".parse(), Ok(CountryCode::KZ));
        assert_eq!(ASSIGNED.split(' ').count(), 249);
        assert!(
            ASSIGNED.split(' ').all(|code| code.parse::<CountryCode>().is_ok_and(|c| c.as_str() == code))
        );
        for bad in ["", "K", "kz", "KAZ", "XX", "ZZ", "Z ", " ", "Қ"] {
            assert_eq!(bad.parse::<CountryCode>(), Err(UnknownCountry), "{bad}");
        }
    }
}
