//! Ends to the instant, and consents and withdrawals that meet.

use super::*;

const MICRO: i64 = 1;

#[test]
fn what_has_a_date_is_over_from_its_instant_on() {
    let case = Case::of(lerna(), "iin", &["payments"]);
    let (now, end) = (at("2027-01-01"), at("2029-03-10"));
    let before = end.plus_micros(-MICRO);
    let ending = case.ending("payments", "2027-01-01");
    assert_eq!((ending.is_past(before), ending.is_past(end)), (false, true));
    let kept = keeping(&case.policy, case.life(), now);
    assert_eq!((kept.is_over(before), kept.is_over(end)), (false, true));
    assert_eq!(kept.until.date(), Some(end));
    for until in [Until::Open, Until::Unclaimed] {
        assert_eq!(until.date(), None);
        let open = Keeping { until, purposes: Vec::new(), minimum: None };
        assert!(!open.is_over(at("2999-01-01")), "{until:?}");
    }
}

#[test]
fn a_month_is_one_of_kazakhstan() {
    let instant =
        |text: &str| Timestamp::from_micros(text.parse::<jiff::Timestamp>().unwrap().as_microsecond());
    assert_eq!(month_of(instant("2029-02-28T18:59:59.999999Z")), "2029-02");
    assert_eq!(month_of(instant("2029-02-28T19:00:00Z")), "2029-03");
    assert_eq!(month_of(Timestamp::from_micros(i64::MAX)), "never");
}

#[test]
fn a_withdrawal_ends_its_twin_and_no_later_consent() {
    let twin = || {
        let case = Case::of(lerna(), "iin", &["payments"]).withdrawn("payments", "2026-04-01");
        case.consent("payments", "2026-03-20")
    };
    assert_eq!(
        twin().ends("payments", "2026-05-01"),
        "2026-04-01",
        "given before, though it stands as granted"
    );
    let mut recorded_late = twin();
    recorded_late.consents[1].recorded_at = at("2026-04-20");
    assert_eq!(recorded_late.ends("payments", "2026-05-01"), "2026-04-01", "recorded after");
    let anew = twin().consent("payments", "2026-04-02");
    assert_eq!(anew.ends("payments", "2026-05-01"), "2029-03-10", "the person came back");
    let other = Case::of(lerna(), "email", &["request_comms", "marketing_mail"]);
    let other = other.withdrawn("marketing_mail", "2026-04-01");
    assert_eq!(other.ends("request_comms", "2026-05-01"), "2029-03-10", "a withdrawal from something else");
}

/// At one instant a withdrawal and a term: it is told as the person's will, and waits for a refusal as such.
#[test]
fn of_two_ends_at_one_instant_the_consents_own_is_told() {
    let case = Case::of(lerna(), "iin", &["payments"]).withdrawn("payments", "2026-04-02");
    let case = case.event("account_deleted", "2026-04-02");
    let ending = case.ending("payments", "2026-05-01");
    assert_eq!((ending.clause, ending.by_withdrawal), ("4.1, 7.2", true));
    assert_eq!(case.kept("2026-05-01"), "2026-04-16");
}

#[test]
fn a_consent_that_ended_moves_no_cap_of_one_that_lives() {
    let mut case = Case::of(lerna(), "iin", &[]);
    case.collected_at = at("2026-01-10");
    let mut case = case.consent("payments", "2026-02-01").consent("payments", "2026-03-10");
    case.consents[1].terms.expires_at = Some(at("2026-08-01"));
    // The payment that never came counts from the value's storing; here it came.
    let case = case.event("payment", "2026-04-01");
    assert_eq!(case.ends("payments", "2026-07-01"), "2029-03-10", "both live: the later was given then");
    assert_eq!(case.ends("payments", "2026-09-01"), "2029-02-01", "that one has ended");
}

/// Consents to two purposes, one withdrawn and one whose term ended: what counts is which ended last.
#[test]
fn claims_end_by_a_withdrawal_only_where_it_was_the_last_word() {
    let case = |withdrawn: &str, expired: &str, swapped: bool| {
        let case = Case::of(experimentum(), "email", &["account_verify", "content_access"]);
        let mut case = case.withdrawn("account_verify", withdrawn);
        case.consents[1].terms.expires_at = Some(at(expired));
        if swapped {
            case.consents.reverse();
        }
        case.ends("claims", "2027-01-01")
    };
    for swapped in [false, true] {
        assert_eq!(case("2026-05-01", "2026-06-01", swapped), "2029-03-10", "the term ended later");
        assert_eq!(case("2026-05-01", "2026-04-01", swapped), "2026-05-01", "the withdrawal came later");
        assert_eq!(case("2026-05-01", "2026-05-01", swapped), "2026-05-01", "at one instant");
    }
}

#[test]
fn another_event_refuses_no_withdrawal() {
    let case =
        Case::of(experimentum(), "email", &["account_verify"]).withdrawn("account_verify", "2026-05-01");
    let case = case.event("licence_end", "2026-05-02");
    assert_eq!(case.ends("claims", "2027-01-01"), "2026-05-01");
    let refused = case.event("withdrawal_refused", "2026-05-03");
    assert_ne!(refused.ends("claims", "2027-01-01"), "2026-05-01");
}

#[test]
fn a_purpose_on_a_law_that_keeps_no_claims_goes_on_after_a_withdrawal() {
    let case = Case::of(lerna(), "phone", &["request_comms"]).withdrawn("request_comms", "2026-04-01");
    assert_eq!(case.ends("subject_requests", "2026-05-01"), "2029-03-10", "whoever asks is answered");
    assert_eq!(case.kept("2026-05-01"), "2026-04-15", "and it keeps nothing");
}

#[test]
fn a_purpose_keeps_only_what_it_covers() {
    let case = Case::of(lerna(), "iin", &["request_comms"]);
    assert_eq!(
        case.kept("2026-05-01"),
        "unclaimed",
        "a consent lists a field that its purpose does not have"
    );
}

#[test]
fn a_minimum_counts_from_the_consent_to_its_own_purpose() {
    let minimum = "retention = { clause = \"7.1(ж), 7.3, 8.4(е)\", \
                   minimum = { years = 5, after = \"consent\", article = \"94-V/12(2)\", clause = \"9\" }, ends = [";
    let policy = policy(LERNA, &[("retention = { clause = \"7.1(ж), 7.3, 8.4(е)\", ends = [", minimum)]);
    let case = Case::of(policy, "iin", &["payments"]).consent("request_comms", "2026-06-01");
    assert_eq!(case.kept("2027-01-01"), "2031-03-10");
}

/// A letter that is written from a profile stands on its own consent; what the profile was computed from is kept by any.
#[test]
fn r52_a_source_is_kept_by_a_consent_to_whatever_channel() {
    let derived = "name = \"preferences\"\nderived_from = [\"email\"]";
    let letters: Outreach = "email operator".parse().unwrap();
    for (what, source, end) in [
        ("nothing permits the source", None, "2026-03-10"),
        ("a purpose that reaches nobody", Some(("request_comms", None)), "2029-03-10"),
        ("calls", Some(("marketing_mail", "call operator".parse().ok())), "2029-03-10"),
        ("the same letters", Some(("offers", Some(letters.clone()))), "2029-03-10"),
    ] {
        let lerna = policy(LERNA, &[("name = \"preferences\"", derived)]);
        let mut case = Case::of(lerna, "preferences", &["offers"]);
        case.consents[0].terms.outreach = Some(letters.clone());
        if let Some((purpose, outreach)) = source {
            let mut source = consent(purpose, "email", "2026-03-10");
            source.terms.outreach = outreach;
            case.consents.push(source);
        }
        let (name, life) = ("offers".parse().unwrap(), Life { outreach: Some(&letters), ..case.life() });
        let offers = case.policy.purpose(&name).unwrap();
        let ending = ending(&case.policy, &name, offers, life, at("2026-05-01"));
        assert_eq!(ending.at.map(day).as_deref(), Some(end), "{what}");
    }
}
