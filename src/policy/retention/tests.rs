//! How long data are kept, as tables over the shipped policies: one fact changed at a time, named by rule.

mod borders;

use proptest::prelude::*;

use super::*;
use crate::domain::{
    consent::{ConsentAct, ConsentTerms, Language},
    ids::{ConsentId, SubjectId},
};

const LERNA: &str = include_str!("../../../policies/lerna.toml");
const EXPERIMENTUM: &str = include_str!("../../../policies/experimentum.toml");
const EDOOX: &str = include_str!("../../../policies/edoox.toml");
const SUBJECT: SubjectId = SubjectId::from_bytes([2; 16]);

fn policy(text: &str, changes: &[(&str, &str)]) -> Policy {
    let text = changes.iter().fold(text.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    });
    Policy::parse(&text).unwrap_or_else(|e| panic!("{e}"))
}

fn lerna() -> Policy {
    policy(LERNA, &[])
}

fn experimentum() -> Policy {
    policy(EXPERIMENTUM, &[("min_age = \"operator-must-set\"", "min_age = 18")])
}

fn edoox() -> Policy {
    policy(EDOOX, &[("effective = \"operator-must-set\"", "effective = \"2026-01-01\"")])
}

/// An instant of a day in Kazakhstan.
fn at(day: &str) -> Timestamp {
    let instant: jiff::Timestamp = format!("{day}T12:00:00+05:00").parse().unwrap();
    Timestamp::from_micros(instant.as_microsecond())
}

fn consent(purpose: &str, field: &str, given: &str) -> Consent {
    Consent {
        id: ConsentId::from_bytes([4; 16]),
        subject: SUBJECT,
        terms: ConsentTerms {
            purpose: purpose.parse().unwrap(),
            fields: vec![field.parse().unwrap()],
            outreach: None,
            act: ConsentAct::Tick,
            given_at: at(given),
            expires_at: None,
            third_party_transfer: false,
            cross_border_transfer: false,
            publication: false,
            policy_version: 1,
            language: Language::Ru,
            text_sha256: [5; 32],
            site: "skillbox.kz".parse().unwrap(),
        },
        state: ConsentState::Granted,
        recorded_at: at(given),
        withdrawn_at: None,
    }
}

/// One record and what is known of its subject.
struct Case {
    policy: Policy,
    field: FieldName,
    collected_at: Timestamp,
    consents: Vec<Consent>,
    events: Vec<SubjectEvent>,
}

impl Case {
    /// Stored on 10 March 2026 with a consent to each of these purposes.
    fn of(policy: Policy, field: &str, purposes: &[&str]) -> Self {
        Self {
            policy,
            field: field.parse().unwrap(),
            collected_at: at("2026-03-10"),
            consents: purposes.iter().map(|purpose| consent(purpose, field, "2026-03-10")).collect(),
            events: Vec::new(),
        }
    }

    fn event(mut self, name: &str, day: &str) -> Self {
        self.events.push(SubjectEvent { name: name.parse().unwrap(), at: at(day) });
        self
    }

    fn consent(mut self, purpose: &str, day: &str) -> Self {
        self.consents.push(consent(purpose, self.field.as_str(), day));
        self
    }

    /// Withdraws every consent to the purpose.
    fn withdrawn(mut self, purpose: &str, day: &str) -> Self {
        for consent in self.consents.iter_mut().filter(|c| c.terms.purpose.as_str() == purpose) {
            (consent.state, consent.withdrawn_at) = (ConsentState::Withdrawn, Some(at(day)));
        }
        self
    }

    fn life(&self) -> Life<'_> {
        Life {
            field: &self.field,
            collected_at: self.collected_at,
            consents: &self.consents,
            events: &self.events,
            outreach: None,
        }
    }

    fn ending(&self, purpose: &str, now: &str) -> Ending<'_> {
        let name = purpose.parse().unwrap();
        let declared = self.policy.purpose(&name).unwrap();
        ending(&self.policy, &name, declared, self.life(), at(now))
    }

    fn ends(&self, purpose: &str, now: &str) -> String {
        self.ending(purpose, now).at.map_or("no date".into(), day)
    }

    fn kept(&self, now: &str) -> String {
        match keeping(&self.policy, self.life(), at(now)).until {
            Until::At(at) => day(at),
            Until::Open => "open".into(),
            Until::Unclaimed => "unclaimed".into(),
        }
    }
}

/// The day in Kazakhstan; the hour is noon where a term of the calendar set it.
fn day(at: Timestamp) -> String {
    let instant = jiff::Timestamp::from_microsecond(at.as_micros()).unwrap();
    let there = instant.to_zoned(jiff::tz::Offset::constant(5).to_time_zone());
    assert_eq!((there.hour(), there.minute()), (12, 0), "{there}");
    there.date().to_string()
}

/// Each row: what happened, and when `payments` of lerna ends for the IIN.
#[test]
fn r8_a_fixed_term_counts_from_its_event_and_the_earliest_end_binds() {
    let iin = || Case::of(lerna(), "iin", &["payments"]);
    let (now, from) = ("2027-01-01", "2026-03-10");
    let rows = [
        ("no payment: stored", iin(), "2029-03-10"),
        ("a payment, and the cap of 7.3 is earlier", iin().event("payment", "2026-09-01"), "2029-03-10"),
        (
            "a later consent moves the cap, the payment binds",
            iin().event("payment", "2026-09-01").consent("payments", "2026-10-01"),
            "2029-09-01",
        ),
        (
            "the last payment counts",
            iin()
                .event("payment", "2026-09-01")
                .event("payment", "2026-11-01")
                .consent("payments", "2026-12-01"),
            "2029-11-01",
        ),
        (
            "a payment before the value was stored is not its",
            iin().event("payment", "2025-09-01").consent("payments", "2026-10-01"),
            "2029-03-10",
        ),
        ("a payment to come does not count", iin().event("payment", "2027-02-01"), "2029-03-10"),
        ("the account is deleted", iin().event("account_deleted", "2026-05-05"), "2026-05-05"),
        (
            "it was deleted, and the subject came back",
            iin().event("account_deleted", "2026-05-05").consent("payments", "2026-06-01"),
            "2029-03-10",
        ),
        ("the cabinet is deleted: a cap", iin().event("cabinet_deleted", "2026-04-01"), "2026-04-01"),
        ("withdrawn", iin().withdrawn("payments", "2026-04-02"), "2026-04-02"),
        (
            "withdrawn after the account was deleted",
            iin().event("account_deleted", from).withdrawn("payments", "2026-04-02"),
            from,
        ),
    ];
    for (what, case, end) in rows {
        assert_eq!(case.ends("payments", now), end, "{what}");
    }
}

#[test]
fn r8_a_year_is_one_of_the_calendar() {
    let of = |text: &str| {
        let from = "years = 3\nafter = \"consent\"";
        policy(LERNA, &[(from, &format!("{text}\nafter = \"consent\""))])
    };
    let given = |text: &str, day: &str| {
        let mut case = Case::of(of(text), "iin", &[]).consent("payments", day);
        case.collected_at = at(day);
        case.ends("payments", day)
    };
    assert_eq!(given("years = 1", "2028-02-29"), "2029-02-28");
    assert_eq!(given("months = 1", "2027-01-31"), "2027-02-28");
    assert_eq!(given("days = 30", "2027-01-31"), "2027-03-02");
    assert_eq!(given("years = 1\nmonths = 1\ndays = 1", "2027-01-31"), "2028-03-01");
}

#[test]
fn r6_a_purpose_ends_with_the_term_of_its_consent() {
    let mut case = Case::of(lerna(), "iin", &["payments"]);
    case.consents[0].terms.expires_at = Some(at("2026-08-01"));
    assert_eq!(case.ends("payments", "2026-07-01"), "2026-08-01", "to come");
    assert_eq!(case.kept("2026-09-01"), "2026-08-01", "and nothing waits after it");
    let case = case.consent("payments", "2026-07-01");
    assert_eq!(case.ends("payments", "2026-09-01"), "2029-03-10", "a second consent has no term");
}

/// A withdrawal of one purpose leaves the others, and the record with them; of all, the record waits for a refusal.
#[test]
fn r7_a_withdrawn_record_goes_within_its_days() {
    let case = Case::of(lerna(), "email", &["request_comms", "marketing_mail"]);
    let case = case.withdrawn("marketing_mail", "2026-04-01");
    assert_eq!(case.ends("marketing_mail", "2026-05-01"), "2026-04-01");
    assert_eq!(case.kept("2026-05-01"), "2029-03-10");
    let case = case.withdrawn("request_comms", "2026-04-02");
    assert_eq!(case.kept("2026-05-01"), "2026-04-16", "14 days, never more than 15 working days");
    let days = policy(LERNA, &[("acts = [\"tick\"]", "acts = [\"tick\"]\nwithdrawal_days = 0")]);
    assert_eq!(Case { policy: days, ..case }.kept("2026-05-01"), "2026-04-02");
}

/// A law's minimum keeps the record after the purpose's end, and nobody reads by the purpose meanwhile.
#[test]
fn r8_a_statutory_minimum_wins_and_restricts() {
    let minimum = "retention = { clause = \"7.1(ж), 7.3, 8.4(е)\", \
                   minimum = { years = 5, after = \"payment\", article = \"94-V/12(2)\", clause = \"9\" }, ends = [";
    let kept = || policy(LERNA, &[("retention = { clause = \"7.1(ж), 7.3, 8.4(е)\", ends = [", minimum)]);
    let case = Case::of(kept(), "iin", &["payments"]);
    assert_eq!(case.kept("2026-05-01"), "2029-03-10", "no payment, no minimum");
    let case = case.event("payment", "2026-04-01").withdrawn("payments", "2026-06-01");
    assert_eq!(case.ends("payments", "2027-01-01"), "2026-06-01", "use has stopped");
    assert_eq!(case.kept("2027-01-01"), "2031-04-01", "and the data stay");
    let phone = Case::of(kept(), "phone", &["request_comms"]).event("payment", "2026-04-01");
    assert_eq!(phone.kept("2027-01-01"), "2029-03-10", "a field of another purpose");
}

/// Whoever demanded that the data go is never depersonalised instead; a consent whose term ended demands nothing.
#[test]
fn r8_what_was_demanded_to_go_is_never_depersonalised() {
    use ExpiryKind::{Depersonalisation, Destruction};
    let depersonalising = || policy(LERNA, &[("kind = \"destruction\"", "kind = \"depersonalisation\"")]);
    let granted = Case::of(depersonalising(), "iin", &["payments", "bank_credit"]);
    let withdrawn =
        Case::of(depersonalising(), "iin", &["payments", "bank_credit"]).withdrawn("payments", "2026-04-02");
    let destroying = Case::of(lerna(), "iin", &["payments"]);
    for (case, is_demanded, ends) in [
        (&granted, false, Depersonalisation),
        (&granted, true, Destruction),
        (&withdrawn, false, Destruction),
        (&withdrawn, true, Destruction),
        (&destroying, false, Destruction),
        (&destroying, true, Destruction),
    ] {
        let version = |number| (number == 1).then_some(&case.policy);
        assert_eq!(expiry(&case.policy, version, &case.consents, is_demanded), ends, "{is_demanded}");
    }
    let of_nobody = expiry(&granted.policy, |_| None, &[], false);
    assert_eq!(of_nobody, Depersonalisation, "of whom no consent is known");
}

/// A consent keeps the scope of its version: whoever consented to be destroyed is, whatever a newer version says.
#[test]
fn r8_a_new_version_depersonalises_nobody_who_consented_to_another() {
    use ExpiryKind::{Depersonalisation, Destruction};
    let (destroys, depersonalises) =
        (lerna(), policy(LERNA, &[("kind = \"destruction\"", "kind = \"depersonalisation\"")]));
    let version = |number| match number {
        1 | 3 => Some(&destroys),
        2 | 4 => Some(&depersonalises),
        _ => None,
    };
    for (in_force, consented_to, ends) in [
        (&depersonalises, &[2][..], Depersonalisation),
        (&depersonalises, &[2, 4], Depersonalisation),
        (&depersonalises, &[1], Destruction),
        (&depersonalises, &[2, 3, 4], Destruction),
        (&depersonalises, &[4, 1], Destruction),
        (&depersonalises, &[2, 5], Destruction),
        (&destroys, &[2], Destruction),
    ] {
        let consents: Vec<_> = consented_to
            .iter()
            .map(|number| {
                let mut consent = consent("payments", "iin", "2026-03-10");
                consent.terms.policy_version = *number;
                consent
            })
            .collect();
        assert_eq!(expiry(in_force, version, &consents, false), ends, "{consented_to:?}");
    }
}

/// After the licence the product reads nothing; `claims` reads for three years, and after a withdrawal only with a refusal.
#[test]
fn r9_claims_keep_what_ended_and_a_withdrawal_ends_them_unless_refused() {
    let email = || Case::of(experimentum(), "email", &["account_verify", "content_access"]);
    let now = "2028-01-01";
    let rows = [
        ("no licence end: 12 months", email(), "2027-03-10", "2029-03-10", "2029-03-10"),
        ("licence end", email().event("licence_end", "2026-12-01"), "2026-12-01", "2029-12-01", "2029-12-01"),
        (
            "withdrawn from all",
            email().withdrawn("account_verify", "2026-05-01").withdrawn("content_access", "2026-06-01"),
            "2026-05-01",
            "2026-06-01",
            "2026-06-15",
        ),
        (
            "refused",
            email()
                .withdrawn("account_verify", "2026-05-01")
                .withdrawn("content_access", "2026-06-01")
                .event("withdrawal_refused", "2026-06-10"),
            "2026-05-01",
            "2029-03-10",
            "2029-03-10",
        ),
        (
            "refused, counted from the earlier of withdrawal and licence end",
            email()
                .withdrawn("account_verify", "2026-05-01")
                .withdrawn("content_access", "2026-06-01")
                .event("withdrawal_refused", "2026-06-10")
                .event("licence_end", "2026-07-01"),
            "2026-05-01",
            "2029-06-01",
            "2029-06-01",
        ),
        (
            "a refusal from before the withdrawal refuses nothing",
            email()
                .event("withdrawal_refused", "2026-04-10")
                .withdrawn("account_verify", "2026-05-01")
                .withdrawn("content_access", "2026-06-01"),
            "2026-05-01",
            "2026-06-01",
            "2026-06-15",
        ),
    ];
    for (what, case, product, claims, kept) in rows {
        assert_eq!(case.ends("account_verify", now), product, "{what}");
        assert_eq!(case.ends("claims", now), claims, "{what}");
        assert_eq!(case.kept(now), kept, "{what}");
    }
    let partner = Case::of(experimentum(), "email", &[]);
    assert_eq!(partner.kept(now), "unclaimed", "claims keep nothing that no consent covered");
}

/// What is kept for one channel ends with its consent, whatever stands for another.
#[test]
fn r5_a_withdrawn_channel_ends_what_it_alone_needed() {
    let by = |field: &str, outreach: &str| {
        let mut consent = consent("marketing_mail", field, "2026-03-10");
        consent.terms.outreach = outreach.parse().ok();
        consent
    };
    let case = |field: &str, withdrawn: &str| {
        let mut case = Case::of(lerna(), field, &[]);
        case.consents = vec![by("email", "email operator"), by("phone", "call operator")];
        for outreach in ["email operator", "call operator"] {
            case.consents.push(by("first_name", outreach));
        }
        let reached = |c: &&mut Consent| c.terms.outreach == withdrawn.parse().ok();
        for consent in case.consents.iter_mut().filter(reached) {
            (consent.state, consent.withdrawn_at) = (ConsentState::Withdrawn, Some(at("2026-04-01")));
        }
        case
    };
    assert_eq!(case("phone", "call operator").ends("marketing_mail", "2026-05-01"), "2026-04-01");
    assert_eq!(case("email", "call operator").ends("marketing_mail", "2026-05-01"), "2029-03-10");
    // The name serves the letters still.
    assert_eq!(case("first_name", "call operator").ends("marketing_mail", "2026-05-01"), "2029-03-10");
}

/// What stands in for a missing event is told, and so is what a term waits for.
#[test]
fn r42_a_missing_event_is_told() {
    let case = Case::of(lerna(), "email", &["request_comms"]);
    let ending = case.ending("request_comms", "2026-05-01");
    assert_eq!(ending.stood_in.iter().map(|e| e.as_str()).collect::<Vec<_>>(), ["last_active_action"]);
    let case = case.event("last_active_action", "2026-04-01");
    assert!(case.ending("request_comms", "2026-05-01").stood_in.is_empty());

    let case = Case::of(edoox(), "email", &["feedback"]);
    let ending = case.ending("feedback", "2026-05-01");
    assert_eq!(ending.at, None);
    assert_eq!(
        ending.waits.iter().map(|e| e.as_str()).collect::<Vec<_>>(),
        ["purpose_reached", "account_deleted"]
    );
    assert_eq!(case.kept("2026-05-01"), "open");
    let case = case.event("account_deleted", "2026-04-01");
    assert_eq!(case.kept("2026-05-01"), "2026-04-01");
}

/// A profile ends with what it was computed from, whatever its own purpose allows.
#[test]
fn r52_derived_data_end_with_the_strictest_source() {
    let derived = "name = \"preferences\"\nderived_from = [\"purchases\", \"email\"]";
    let case = || {
        let mut case = Case::of(policy(LERNA, &[("name = \"preferences\"", derived)]), "preferences", &[]);
        for field in ["preferences", "purchases", "email"] {
            case.consents.push(consent("offers", field, "2026-03-10"));
        }
        case
    };
    assert_eq!(case().ends("offers", "2026-05-01"), "2029-03-10");
    let mut withdrawn = case();
    let source = withdrawn.consents.last_mut().unwrap();
    (source.state, source.withdrawn_at) = (ConsentState::Withdrawn, Some(at("2026-04-01")));
    assert_eq!(withdrawn.ends("offers", "2026-05-01"), "2026-04-15", "with the source's record");
    assert_eq!(withdrawn.kept("2026-05-01"), "2026-04-15");
    let mut unsourced = case();
    unsourced.consents.truncate(2);
    assert_eq!(unsourced.ends("offers", "2026-05-01"), "2026-03-10", "nothing permits a source");
    let plain = Case { policy: lerna(), ..case() };
    assert_eq!(plain.ends("offers", "2026-05-01"), "2029-03-10");
}

#[test]
fn r38_what_no_consent_ever_covered_waits_as_long_as_the_policy_says() {
    let case = Case::of(lerna(), "email", &[]);
    assert_eq!(case.kept("2026-05-01"), "unclaimed");
    let days = policy(LERNA, &[("acts = [\"tick\"]", "acts = [\"tick\"]\nunclaimed_days = 30")]);
    let case = Case { policy: days, ..case };
    assert_eq!(case.kept("2026-05-01"), "2026-04-09");
    assert_eq!(case.consent("marketing_mail", "2026-03-12").kept("2026-05-01"), "2029-03-10");
}

/// A consent that ends must not revive what counted from it, because another was given later and ended before.
#[test]
fn what_counted_from_a_consent_stays_ended_when_it_ends() {
    let mut case = Case::of(experimentum(), "email", &[]);
    case.collected_at = at("2026-03-10");
    let mut short = consent("account_verify", "email", "2026-03-10");
    (short.state, short.withdrawn_at) = (ConsentState::Withdrawn, Some(at("2026-03-10")));
    let mut long = consent("content_access", "email", "2023-03-10");
    long.terms.expires_at = Some(at("2026-03-11"));
    case.consents = vec![short, long];
    for day in ["2026-03-10", "2026-03-11", "2026-03-12"] {
        let purpose = case.policy.purposes().find(|(name, _)| name.as_str() == "claims").unwrap();
        let ending = ending(&case.policy, purpose.0, purpose.1, case.life(), at(day));
        assert!(ending.is_past(at(day)), "{day}");
    }
}

proptest! {
    /// Whatever happened: what has ended stays ended while nothing new happens, and a record outlives each purpose that
    /// keeps it.
    #[test]
    fn what_ended_stays_ended(
        events in proptest::collection::vec((0..4_usize, 0..1_500_i64), 0..5),
        consents in proptest::collection::vec((0..3_usize, 0..1_500_i64, proptest::option::of(1..1_500_i64), any::<bool>()), 0..4),
        collected in 0..1_500_i64,
        later in 0..5_000_i64,
    ) {
        let (now, days) = (at("2026-03-10"), 86_400_000_000);
        let ago = |n: i64| now.plus_micros(-n * days);
        let mut case = Case::of(experimentum(), "email", &[]);
        case.collected_at = ago(collected);
        let names = ["licence_end", "first_login", "withdrawal_refused", "licence_end"];
        for (name, n) in events {
            case.events.push(SubjectEvent { name: names[name].parse().unwrap(), at: ago(n) });
        }
        for (purpose, n, end, withdrawn) in consents {
            let name = ["account_verify", "content_access", "tech_support"][purpose];
            let mut new = consent(name, "email", "2026-03-10");
            (new.terms.given_at, new.recorded_at) = (ago(n), ago(n));
            new.terms.expires_at = end.filter(|_| !withdrawn).map(|end| ago(n).plus_micros(end * days));
            if withdrawn {
                (new.state, new.withdrawn_at) = (ConsentState::Withdrawn, Some(ago(end.unwrap_or(0).min(n))));
            }
            case.consents.push(new);
        }
        let after = now.plus_micros(later * days);
        for (name, purpose) in case.policy.purposes() {
            if ending(&case.policy, name, purpose, case.life(), now).is_past(now) {
                prop_assert!(ending(&case.policy, name, purpose, case.life(), after).is_past(after), "{name}");
            }
        }
        let kept = keeping(&case.policy, case.life(), now);
        if let Until::At(until) = kept.until {
            for (name, ending) in &kept.purposes {
                prop_assert!(ending.at.is_some_and(|at| at <= until), "{name}");
            }
        }
        if kept.is_over(now) {
            prop_assert!(keeping(&case.policy, case.life(), after).is_over(after));
        }
    }
}
