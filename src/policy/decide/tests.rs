//! The decision as a table: one change of a permitted case at a time, each with its reason; and as properties.

mod named;
mod rules;

use proptest::prelude::*;

use super::*;
use crate::domain::{
    consent::{ConsentAct, Language},
    ids::{CallerId, PlatformId, RecordId, SubjectId},
    recipient::RecipientState,
};

const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
const SUBJECT: SubjectId = SubjectId::from_bytes([2; 16]);
const CONSENT: ConsentId = ConsentId::from_bytes([4; 16]);
const RECIPIENT: RecipientId = RecipientId::from_bytes([6; 16]);
/// From NOW, 15 January 2027, back: one 29 February lies between.
const THREE_YEARS_MICROS: i64 = (3 * 365 + 1) * 86_400_000_000;
const LERNA: &str = include_str!("../../../policies/lerna.toml");

fn lerna() -> Policy {
    Policy::parse(LERNA).unwrap()
}

/// LERNA with one text replaced.
fn changed(from: &str, to: &str) -> Policy {
    assert!(LERNA.contains(from), "{from}");
    Policy::parse(&LERNA.replacen(from, to, 1)).unwrap_or_else(|e| panic!("{e}"))
}

fn caller(name: &str, roles: &[Role]) -> Caller {
    Caller {
        id: CallerId::from_bytes([1; 16]),
        platform: PlatformId::new(1),
        name: name.parse().unwrap(),
        spiffe_id: format!("spiffe://lerna.kz/{name}").parse().unwrap(),
        roles: roles.to_vec(),
        pins: Vec::new(),
        person: None,
        state: CallerState::Enabled,
    }
}

fn address(field: &str) -> RecordAddress {
    RecordAddress {
        platform: PlatformId::new(1),
        subject: SUBJECT,
        record: RecordId::from_bytes([3; 16]),
        field: field.parse().unwrap(),
        version: 1,
    }
}

/// Letters in the operator's name, of the purposes by which lerna reaches people.
fn outreach_of(purpose: &str) -> Option<Outreach> {
    matches!(purpose, "marketing_mail" | "offers").then(|| "email operator".parse().unwrap())
}

fn consent(purpose: &str, fields: &[&str]) -> Consent {
    Consent {
        id: CONSENT,
        subject: SUBJECT,
        terms: ConsentTerms {
            purpose: purpose.parse().unwrap(),
            fields: fields.iter().map(|f| f.parse().unwrap()).collect(),
            outreach: outreach_of(purpose),
            act: ConsentAct::Tick,
            given_at: NOW.plus_micros(-10),
            expires_at: None,
            third_party_transfer: true,
            cross_border_transfer: true,
            publication: true,
            policy_version: 1,
            language: Language::Ru,
            text_sha256: [5; 32],
            site: "skillbox.kz".parse().unwrap(),
        },
        state: ConsentState::Granted,
        recorded_at: NOW.plus_micros(-5),
        withdrawn_at: None,
    }
}

fn recipient(kind: RecipientKind, country: &str, purpose: &str) -> Recipient {
    Recipient {
        id: RECIPIENT,
        name: "somebody".parse().unwrap(),
        kind,
        country: country.parse().unwrap(),
        purposes: vec![purpose.parse().unwrap()],
        valid_from: NOW,
        valid_until: Some(NOW.plus_micros(1)),
        state: RecipientState::Active,
        has_key: true,
    }
}

/// A recipient as a caller may name it.
enum Named {
    Nobody,
    Unknown,
    Known(Recipient),
}

struct Case {
    policy: Policy,
    caller: Caller,
    purpose: String,
    view: View,
    field: String,
    recipient: Named,
    outreach: Option<Outreach>,
    reference: Option<Reference>,
    known: bool,
    token: TokenState,
    token_expires_at: Option<Timestamp>,
    subject: SubjectState,
    quarantined: bool,
    collected_at: Timestamp,
    consents: Vec<Consent>,
    events: Vec<SubjectEvent>,
}

impl Case {
    /// A read of one field by its purpose, for nobody outside.
    fn read(caller_name: &str, purpose: &str, field: &str) -> Self {
        Self {
            policy: lerna(),
            caller: caller(caller_name, &[Role::Service]),
            purpose: purpose.into(),
            view: View::Full,
            field: field.into(),
            recipient: Named::Nobody,
            outreach: outreach_of(purpose),
            reference: None,
            known: true,
            token: TokenState::Active,
            token_expires_at: Some(NOW.plus_micros(1)),
            subject: SubjectState::Active,
            quarantined: false,
            collected_at: NOW.plus_micros(-20),
            consents: vec![consent(purpose, &[field, "surname"])],
            events: Vec::new(),
        }
    }

    fn to(mut self, kind: RecipientKind, country: &str) -> Self {
        self.recipient = Named::Known(recipient(kind, country, &self.purpose));
        self
    }

    fn with_reference(mut self) -> Self {
        self.reference = Some(Reference::parse("CASE-17").unwrap());
        self
    }

    fn iin() -> Self {
        Self::read("payments", "payments", "iin")
    }

    /// To a payment system abroad.
    fn abroad() -> Self {
        Self::iin().to(RecipientKind::PaymentSystem, "US")
    }

    /// On demand of a state body.
    fn demanded() -> Self {
        let mut case = Self::iin().to(RecipientKind::State, "KZ").with_reference();
        case.each(|terms| terms.third_party_transfer = false);
        case
    }

    /// On the basis of a law.
    fn lawful() -> Self {
        let mut case = Self::read("rights", "subject_requests", "phone").with_reference();
        case.consents.clear();
        case
    }

    fn published() -> Self {
        let mut case =
            Self::read("backend", "content_publication", "user_post").to(RecipientKind::Public, "KZ");
        case.each(|terms| (terms.third_party_transfer, terms.cross_border_transfer) = (false, false));
        case
    }

    fn advertised() -> Self {
        Self::read("mailing", "marketing_mail", "email").to(RecipientKind::Mailing, "KZ")
    }

    /// A purpose that takes written consents only.
    fn written() -> Self {
        let mut case = Self::iin();
        case.policy = Policy::parse(
            &LERNA.replacen("acts = [\"tick\"]", "acts = [\"tick\", \"written\"]", 1).replacen(
                "callers = [\"payments\"]",
                "callers = [\"payments\"]\nwritten = true",
                1,
            ),
        )
        .unwrap();
        case.each(|terms| terms.act = ConsentAct::Written);
        case
    }

    /// A policy whose consents an event completes.
    fn completed() -> Self {
        let mut case = Self::iin();
        case.policy = changed(
            "acts = [\"tick\"]",
            "completed_by = { event = \"payment\", clause = \"1\" }\nacts = [\"tick\"]",
        );
        case.events = vec![SubjectEvent { name: "payment".parse().unwrap(), at: NOW }];
        case
    }

    fn each(&mut self, change: impl Fn(&mut ConsentTerms)) {
        self.consents.iter_mut().for_each(|consent| change(&mut consent.terms));
    }

    fn happened(&mut self, event: &str, at: Timestamp) {
        self.events.push(SubjectEvent { name: event.parse().unwrap(), at });
    }

    fn recipient(&mut self, change: impl Fn(&mut Recipient)) {
        if let Named::Known(recipient) = &mut self.recipient {
            change(recipient);
        }
    }

    fn decide(&self) -> Result<Permit, Denial> {
        let (purpose, address) = (self.purpose.parse().unwrap(), address(&self.field));
        let recipient = match &self.recipient {
            Named::Nobody => None,
            Named::Unknown => Some(RecipientAsk::Unknown),
            Named::Known(recipient) => Some(RecipientAsk::Known(recipient)),
        };
        let (outreach, reference) = (self.outreach.as_ref(), self.reference.as_ref());
        let (caller, view) = (&self.caller, self.view);
        let ask = Ask { caller, purpose: &purpose, view, recipient, outreach, reference };
        let facts = Facts {
            token: self.token,
            token_expires_at: self.token_expires_at,
            subject: self.subject,
            quarantined: self.quarantined,
            address: &address,
            collected_at: self.collected_at,
            consents: &self.consents,
            events: &self.events,
        };
        decide(&self.policy, ask, self.known.then_some(facts), NOW)
    }
}

type Change = fn(&mut Case);

/// What breaks any case, with its reason.
fn common() -> Vec<(Denial, Change)> {
    vec![
        (Denial::CallerDisabled, |c| c.caller.state = CallerState::Disabled),
        (Denial::CallerNotAllowed, |c| c.caller.roles = vec![Role::Auditor]),
        (Denial::CallerNotAllowed, |c| c.caller = caller("analytics", &[Role::Service])),
        (Denial::PurposeNotDeclared, |c| c.purpose = "resale".into()),
        (Denial::PurposeInert, |c| c.purpose = "other_services".into()),
        (Denial::ViewNotAllowed, |c| c.view = View::BirthYear),
        (Denial::TokenNotFound, |c| c.known = false),
        (Denial::FieldNotAllowed, |c| c.field = "cookies".into()),
        (Denial::TokenSpent, |c| c.token = TokenState::Spent),
        (Denial::TokenRevoked, |c| c.token = TokenState::Revoked),
        (Denial::TokenExpired, |c| c.token_expires_at = Some(NOW)),
        (Denial::SubjectRestricted, |c| c.subject = SubjectState::Restricted),
        (Denial::SubjectErased, |c| c.subject = SubjectState::Erased),
        (Denial::Quarantined, |c| c.quarantined = true),
        (Denial::RecipientUnknown, |c| c.recipient = Named::Unknown),
        (Denial::RetentionEnded, |c| c.happened("cabinet_deleted", NOW)),
    ]
}

/// What breaks a case that stands on a consent.
fn of_consent() -> Vec<(Denial, Change)> {
    vec![
        (Denial::ConsentMissing, |c| c.consents.clear()),
        (Denial::ConsentMissing, |c| c.each(|terms| terms.purpose = "request_comms".parse().unwrap())),
        (Denial::ConsentMissing, |c| c.each(|terms| terms.fields = vec!["surname".parse().unwrap()])),
        (Denial::ConsentMissing, |c| c.each(|terms| terms.given_at = NOW.plus_micros(1))),
        (Denial::ConsentMissing, |c| {
            c.consents.iter_mut().for_each(|consent| consent.subject = SubjectId::from_bytes([9; 16]));
        }),
        (Denial::ConsentWithdrawn, |c| {
            c.consents.iter_mut().for_each(|consent| consent.state = ConsentState::Withdrawn);
        }),
        (Denial::ConsentWithdrawn, |c| {
            let twin = Consent {
                state: ConsentState::Withdrawn,
                withdrawn_at: Some(NOW),
                ..consent("payments", &["iin"])
            };
            let terms = c.consents.first().map(|consent| consent.terms.clone());
            c.consents.push(Consent { terms: terms.unwrap_or(twin.terms), ..twin });
        }),
        (Denial::ConsentExpired, |c| c.each(|terms| terms.expires_at = Some(NOW))),
        (Denial::RetentionEnded, |c| c.each(|terms| terms.given_at = NOW.plus_micros(-THREE_YEARS_MICROS))),
    ]
}

/// What breaks a case with a recipient who needs a key and a consent.
fn of_recipient() -> Vec<(Denial, Change)> {
    vec![
        (Denial::RecipientUnknown, |c| c.recipient(|r| r.state = RecipientState::Ended)),
        (Denial::RecipientUnknown, |c| c.recipient(|r| r.valid_from = NOW.plus_micros(1))),
        (Denial::RecipientUnknown, |c| c.recipient(|r| r.valid_until = Some(NOW))),
        (Denial::RecipientUnknown, |c| c.recipient(|r| r.purposes = vec!["request_comms".parse().unwrap()])),
    ]
}

type Good = (&'static str, fn() -> Case, Vec<(Denial, Change)>);

/// Every kind of permitted case, with what breaks it.
fn tables() -> Vec<Good> {
    let with = |lists: Vec<Vec<(Denial, Change)>>| lists.concat();
    let abroad: Vec<(Denial, Change)> = vec![
        (Denial::RecipientUnknown, |c| c.recipient(|r| r.kind = RecipientKind::Contractor)),
        (Denial::CrossBorder, |c| c.recipient(|r| r.kind = RecipientKind::Bank)),
        (Denial::CrossBorder, |c| c.each(|terms| terms.cross_border_transfer = false)),
        (Denial::TransferConsentMissing, |c| c.each(|terms| terms.third_party_transfer = false)),
        (Denial::RecipientKeyMissing, |c| c.recipient(|r| r.has_key = false)),
    ];
    let demanded: Vec<(Denial, Change)> = vec![
        (Denial::LegalReferenceMissing, |c| c.reference = None),
        (Denial::CrossBorder, |c| c.recipient(|r| r.country = "US".parse().unwrap())),
        (Denial::RecipientKeyMissing, |c| c.recipient(|r| r.has_key = false)),
    ];
    let lawful: Vec<(Denial, Change)> = vec![(Denial::LegalReferenceMissing, |c| c.reference = None)];
    let published: Vec<(Denial, Change)> = vec![
        (Denial::PublicationConsentMissing, |c| c.each(|terms| terms.publication = false)),
        (Denial::RecipientUnknown, |c| c.recipient(|r| r.kind = RecipientKind::Mailing)),
    ];
    let advertised: Vec<(Denial, Change)> = vec![
        (Denial::ChannelRequired, |c| c.outreach = None),
        (Denial::ChannelNotAllowed, |c| c.outreach = "sms operator".parse().ok()),
        (Denial::SenderNotAllowed, |c| c.outreach = "email partner".parse().ok()),
        (Denial::ChannelConsentMissing, |c| c.each(|terms| terms.outreach = "call operator".parse().ok())),
        (Denial::ChannelConsentMissing, |c| c.each(|terms| terms.outreach = None)),
        (Denial::SenderConsentMissing, |c| c.each(|terms| terms.outreach = "email partner".parse().ok())),
        (Denial::AdvertisingBarred, |c| c.recipient(|r| r.kind = RecipientKind::Partner)),
        (Denial::TransferConsentMissing, |c| c.each(|terms| terms.third_party_transfer = false)),
        (Denial::RecipientKeyMissing, |c| c.recipient(|r| r.has_key = false)),
    ];
    let written: Vec<(Denial, Change)> = vec![
        (Denial::ConsentMissing, |c| c.each(|terms| terms.act = ConsentAct::Tick)),
        (Denial::ConsentMissing, |c| c.each(|terms| terms.act = ConsentAct::OneTimeCode)),
    ];
    let completed: Vec<(Denial, Change)> = vec![
        (Denial::ConsentIncomplete, |c| c.events.clear()),
        (Denial::ConsentIncomplete, |c| c.events.iter_mut().for_each(|event| event.at = NOW.plus_micros(1))),
        (Denial::ConsentIncomplete, |c| {
            c.events.iter_mut().for_each(|e| e.name = "application".parse().unwrap());
        }),
    ];
    vec![
        ("iin", Case::iin, with(vec![common(), of_consent()])),
        ("abroad", Case::abroad, with(vec![common(), of_consent(), of_recipient(), abroad])),
        ("demanded", Case::demanded, with(vec![common(), of_consent(), of_recipient(), demanded])),
        ("lawful", Case::lawful, with(vec![common(), lawful])),
        ("published", Case::published, with(vec![common(), of_consent(), of_recipient(), published])),
        ("advertised", Case::advertised, with(vec![common(), of_consent(), of_recipient(), advertised])),
        ("written", Case::written, with(vec![common(), of_consent(), written])),
        ("completed", Case::completed, with(vec![common(), of_consent(), completed])),
    ]
}

#[test]
fn the_decision_as_a_table() {
    for (name, good, table) in tables() {
        let permit = good().decide().unwrap_or_else(|e| panic!("{name}: {e:?}"));
        assert_eq!(permit.view(), View::Full);
        assert_eq!(permit.consent(), (name != "lawful").then_some(CONSENT), "{name}");
        let released = matches!(good().recipient, Named::Known(_));
        assert_eq!(permit.recipient(), released.then_some(RECIPIENT), "{name}");
        assert_eq!(permit.must_seal(), released && name != "published", "{name}");
        for (i, (denial, change)) in table.into_iter().enumerate() {
            let mut case = good();
            change(&mut case);
            assert_eq!(case.decide().err(), Some(denial), "{name}, row {i}");
        }
    }
}

proptest! {
    /// However many preconditions are broken at once, nothing is permitted.
    #[test]
    fn what_is_broken_stays_broken(kind in 0..8_usize, rows in proptest::collection::vec(any::<prop::sample::Index>(), 1..5)) {
        let (_, good, table) = tables().remove(kind);
        let mut case = good();
        for row in rows {
            row.get(&table).1(&mut case);
        }
        prop_assert!(case.decide().is_err());
    }

    /// Whatever is asked, a permit stands on a named caller, a usable token and subject, and a consent or a law.
    #[test]
    fn a_permit_has_its_reasons(
        words in (0..6_usize, 0..6_usize, 0..6_usize, 0..View::ALL.len()),
        states in (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()),
        kind in proptest::option::of(0..RecipientKind::ALL.len()),
        flags in (any::<bool>(), any::<bool>(), any::<bool>(), any::<bool>()),
        consented in (0..6_usize, 0..6_usize),
    ) {
        let callers = ["payments", "support", "mailing", "rights", "backend", "analytics"];
        let purposes = ["payments", "request_comms", "marketing_mail", "subject_requests", "content_publication", "legal"];
        let fields = ["iin", "phone", "email", "surname", "user_post", "message"];
        let mut case = Case::read(callers[words.0], purposes[words.1], fields[words.2]);
        case.view = View::ALL[words.3];
        case.consents = vec![consent(purposes[consented.0], &[fields[consented.1]])];
        case.each(|terms| {
            (terms.third_party_transfer, terms.cross_border_transfer, terms.publication) = (flags.0, flags.1, flags.2);
        });
        if states.0 { case.token = TokenState::Revoked }
        if states.1 && states.2 { case.subject = SubjectState::Restricted }
        case.quarantined = states.3 && states.4;
        if states.5 { case = case.with_reference() }
        if let Some(kind) = kind {
            case = case.to(RecipientKind::ALL[kind], if flags.3 { "KZ" } else { "DE" });
        }
        if let Ok(permit) = case.decide() {
            let name = case.purpose.parse().unwrap();
            let purpose = case.policy.purpose(&name).unwrap();
            let field = case.field.parse().unwrap();
            prop_assert!(purpose.names_caller(&case.caller) && purpose.covers(&field) && purpose.allows_view(case.view));
            prop_assert!(case.token == TokenState::Active && case.subject == SubjectState::Active && !case.quarantined);
            let terms = &case.consents[0].terms;
            if permit.consent().is_some() {
                prop_assert!(terms.purpose == name && terms.fields.contains(&field));
            } else {
                prop_assert!(purpose.basis.kind != BasisKind::Consent && case.reference.is_some());
            }
            if let Named::Known(recipient) = &case.recipient {
                let rule = purpose.recipient(recipient.kind).unwrap();
                prop_assert!(rule.covers(&field) && rule.allows_country(recipient.country));
                prop_assert!(recipient.country == CountryCode::KZ || terms.cross_border_transfer);
                prop_assert!(recipient.kind != RecipientKind::Public || terms.publication);
                prop_assert!(!recipient.kind.is_authority() || case.reference.is_some());
                prop_assert_eq!(permit.must_seal(), rule.encrypted);
            }
        }
    }
}

#[test]
fn a_fresh_consent_outlives_a_withdrawn_one_and_a_twin_does_not() {
    let mut case = Case::iin();
    let withdrawn_at = Some(NOW.plus_micros(-6));
    let withdrawn = Consent { state: ConsentState::Withdrawn, withdrawn_at, ..consent("payments", &["iin"]) };
    case.consents.insert(0, withdrawn);
    assert_eq!(case.decide().err(), Some(Denial::ConsentWithdrawn), "given before, recorded after");
    case.consents[1].terms.given_at = NOW.plus_micros(-5);
    assert!(case.decide().is_ok());
    case.consents[1].recorded_at = NOW.plus_micros(-6);
    assert_eq!(case.decide().err(), Some(Denial::ConsentWithdrawn), "recorded before the withdrawal");
    case.consents[0].terms.fields = vec!["surname".parse().unwrap()];
    assert!(case.decide().is_ok(), "the withdrawal of another field");
    case.consents[1].terms.expires_at = Some(NOW.plus_micros(1));
    assert!(case.decide().is_ok(), "a term ends at its instant, not before");
}

/// A consent to the purpose without a transfer does not stand in the way of one with it, nor the other way round.
#[test]
fn one_consent_must_allow_everything_that_is_needed() {
    let mut case = Case::abroad();
    case.consents.insert(0, consent("payments", &["iin"]));
    case.consents[0].terms.third_party_transfer = false;
    assert!(case.decide().is_ok());
    case.consents[1].terms.cross_border_transfer = false;
    assert!(case.decide().is_err(), "what two consents allow by halves, none allows");
}

#[test]
fn a_release_is_bound_to_the_fields_of_its_recipient() {
    let mut case = Case::abroad();
    case.field = "payment_status".into();
    case.each(|terms| terms.fields.push("payment_status".parse().unwrap()));
    assert_eq!(case.decide().err(), Some(Denial::FieldNotAllowed), "9.2 sends surname, name and IIN only");
    case.recipient = Named::Nobody;
    assert!(case.decide().is_ok());
}

#[test]
fn advertising_goes_to_nobody_where_nobody_is_listed() {
    let mut case = Case::advertised();
    case.policy = changed(
        "recipients = [\n    { kind = \"mailing\", clause = \"9.1, 9.4\", encrypted = true },\n]\n",
        "",
    );
    assert_eq!(case.decide().err(), Some(Denial::AdvertisingBarred));
    case.recipient = Named::Unknown;
    assert_eq!(case.decide().err(), Some(Denial::AdvertisingBarred));
}

#[test]
fn a_derived_view_needs_a_field_that_can_answer_it() {
    let mut case = Case::iin();
    case.policy = changed("views = [\"full\", \"masked\"]", "views = [\"full\", \"sex\"]");
    case.view = View::Sex;
    assert_eq!(case.decide().unwrap().view(), View::Sex);
    case.field = "surname".into();
    assert_eq!(case.decide().err(), Some(Denial::ViewNotAllowed));
}

#[test]
fn a_caller_outside_the_field_learns_nothing() {
    let (policy, support) = (lerna(), caller("support", &[Role::Service]));
    let always = [
        "CALLER_DISABLED",
        "PURPOSE_NOT_DECLARED",
        "PURPOSE_INERT",
        "CALLER_NOT_ALLOWED",
        "VIEW_NOT_ALLOWED",
        "CHANNEL_REQUIRED",
        "CHANNEL_NOT_ALLOWED",
        "SENDER_NOT_ALLOWED",
        "BUDGET_EXHAUSTED",
        "DATA_DAMAGED",
    ];
    for denial in Denial::ALL.iter().copied() {
        let told = if always.contains(&denial.as_str()) { denial } else { Denial::TokenNotFound };
        assert_eq!(disclosed(denial, &policy, &support, Some(&address("iin"))), told);
        assert_eq!(disclosed(denial, &policy, &support, None), told);
        assert_eq!(disclosed(denial, &policy, &support, Some(&address("phone"))), denial);
    }
}

/// Until the instant before the purpose's time ends it reads, and from that instant on it does not (rule R8).
#[test]
fn r8_the_purpose_ends_at_its_instant() {
    let mut case = Case::iin();
    case.collected_at = NOW.plus_micros(-THREE_YEARS_MICROS);
    assert_eq!(
        case.decide().err(),
        Some(Denial::RetentionEnded),
        "no payment: collection stands in (rule R42)"
    );
    case.collected_at = NOW.plus_micros(1 - THREE_YEARS_MICROS);
    assert!(case.decide().is_ok());
    case.happened("payment", NOW.plus_micros(-30));
    case.happened("account_deleted", NOW.plus_micros(-11));
    assert!(case.decide().is_ok(), "the consent was given after the account was deleted");
    case.happened("account_deleted", NOW.plus_micros(1));
    assert!(case.decide().is_ok(), "not yet");
    case.happened("account_deleted", NOW);
    assert_eq!(case.decide().err(), Some(Denial::RetentionEnded));
}

/// A withdrawal is told as one, also where it ended the purpose's time as well.
#[test]
fn r7_a_withdrawal_is_told_before_the_end_of_retention() {
    let mut case = Case::iin();
    case.happened("account_deleted", NOW);
    for consent in &mut case.consents {
        (consent.state, consent.withdrawn_at) = (ConsentState::Withdrawn, Some(NOW));
    }
    assert_eq!(case.decide().err(), Some(Denial::ConsentWithdrawn));
}
