//! Single rules over the decision, each by its name: `docs/rules.md` refers to them.

use super::*;

fn refused(mut case: Case, change: Change) -> Option<Denial> {
    assert!(case.decide().is_ok(), "the case is permitted before the change");
    change(&mut case);
    case.decide().err()
}

#[test]
fn r19_an_authority_gets_nothing_without_a_reference() {
    assert_eq!(refused(Case::demanded(), |c| c.reference = None), Some(Denial::LegalReferenceMissing));
    assert_eq!(refused(Case::lawful(), |c| c.reference = None), Some(Denial::LegalReferenceMissing));
    // To a bank the consent suffices.
    assert_eq!(refused(Case::abroad(), |c| c.reference = None), None);
}

#[test]
fn r22_nobody_reads_for_statistics_on_depersonalised_data() {
    for field in ["email", "iin", "cookies"] {
        let case = Case::read("analytics", "ad_stats", field);
        assert_eq!(case.decide().err(), Some(Denial::PurposeInert), "{field}");
    }
}

/// Hashing protects a value; it does not depersonalise it (Law 94-V, Articles 1(18), 23(2)).
#[test]
fn r22_a_hash_is_no_view_and_what_needs_depersonalised_data_gets_none() {
    for view in View::ALL {
        let mut case = Case::read("analytics", "ad_stats", "email");
        case.view = *view;
        assert_eq!(case.decide().err(), Some(Denial::PurposeInert), "{view:?}");
    }
    let refused = |from: &str, to: &str, rule: &str| {
        assert!(LERNA.contains(from), "{from}");
        let problems = Policy::check(&LERNA.replacen(from, to, 1)).expect_err(to);
        assert!(problems.iter().any(|problem| problem.rule.contains(rule)), "{to}: {problems:?}");
    };
    for word in ["hash", "sha256", "hmac", "token", "depersonalised"] {
        let views = format!("views = [\"{word}\"]");
        refused("views = [\"full\", \"masked\"]", &views, "not a known view");
    }
    let inert = "inert = \"works on irreversibly depersonalised data only";
    refused(inert, &format!("views = [\"full\"]\n{inert}"), "read by nobody");
    let partner = "recipients = [{ kind = \"partner\", clause = \"9.6\" }]";
    refused(inert, &format!("{partner}\n{inert}"), "read by nobody");
}

#[test]
fn r34_a_profile_is_read_on_its_own_consent_alone() {
    let profile = || Case::read("mailing", "offers", "preferences");
    assert!(profile().decide().is_ok());
    // Whoever consented to letters did not consent to a profile.
    let letters = |c: &mut Case| c.each(|terms| terms.purpose = "marketing_mail".parse().unwrap());
    assert_eq!(refused(profile(), letters), Some(Denial::ConsentMissing));
}

#[test]
fn r34_an_objection_ends_profiles_until_a_new_consent() {
    fn object(c: &mut Case, micros: i64) {
        c.events.extend(SubjectEvent::objection(NOW.plus_micros(micros)));
    }
    let profile = || Case::read("mailing", "offers", "preferences");
    assert_eq!(refused(profile(), |c| object(c, -1)), Some(Denial::ObjectedTo));
    // One that is dated ahead has not happened yet.
    assert_eq!(refused(profile(), |c| object(c, 1)), None);
    // What no machine decides on goes on.
    assert_eq!(refused(Case::iin(), |c| object(c, -1)), None);
    let anew = |c: &mut Case| {
        object(c, -20);
        c.each(|terms| terms.given_at = NOW.plus_micros(-10));
    };
    assert_eq!(refused(profile(), anew), None, "the person consented to this purpose after that");
    let other = |c: &mut Case| {
        object(c, -10);
        let mut letters = c.consents[0].clone();
        letters.terms.purpose = "marketing_mail".parse().unwrap();
        letters.terms.given_at = NOW.plus_micros(-1);
        c.consents.push(letters);
    };
    assert_eq!(refused(profile(), other), Some(Denial::ObjectedTo), "a consent to letters opens no profile");
}

/// Each instant at its border: an objection binds from its own on, and only a consent that was given after it opens again.
#[test]
fn r34_objections_and_consents_count_to_the_instant() {
    let row = |objected: i64, given: i64| {
        let mut case = Case::read("mailing", "offers", "preferences");
        case.events.extend(SubjectEvent::objection(NOW.plus_micros(objected)));
        case.each(|terms| terms.given_at = NOW.plus_micros(given));
        case
    };
    let decided = |objected, given| row(objected, given).decide().err();
    assert_eq!(decided(0, -10), Some(Denial::ObjectedTo), "it binds at once");
    assert_eq!(decided(-10, -10), Some(Denial::ObjectedTo), "at the same instant, no wins");
    assert_eq!(decided(-20, 0), None, "a consent of now");
    assert_eq!(decided(-20, 1), Some(Denial::ObjectedTo), "one that is dated ahead");
    let mut withdrawn = row(-20, -10);
    withdrawn.consents.iter_mut().for_each(|consent| consent.state = ConsentState::Withdrawn);
    assert_eq!(withdrawn.decide().err(), Some(Denial::ObjectedTo));
    let mut later = row(-20, -10);
    later.events.extend(SubjectEvent::objection(NOW.plus_micros(-5)));
    assert_eq!(later.decide().err(), Some(Denial::ObjectedTo), "the last objection counts");
    let mut other = Case::read("mailing", "offers", "preferences");
    other.happened("payment", NOW.plus_micros(-5));
    assert!(other.decide().is_ok(), "another event is no objection");
}

#[test]
fn r7_why_no_consent_is_live_is_told_by_the_strongest_reason() {
    let mut case = Case::iin();
    case.each(|terms| terms.given_at = NOW);
    assert!(case.decide().is_ok(), "one that is given now");
    let expired = Consent {
        terms: ConsentTerms { expires_at: Some(NOW), ..consent("payments", &["iin"]).terms },
        ..consent("payments", &["iin"])
    };
    let withdrawn = Consent { state: ConsentState::Withdrawn, ..consent("payments", &["iin"]) };
    for consents in [vec![withdrawn.clone(), expired.clone()], vec![expired, withdrawn]] {
        assert_eq!(Case { consents, ..Case::iin() }.decide().err(), Some(Denial::ConsentWithdrawn));
    }
    let mut lacking = Case::abroad();
    lacking.consents.push(Consent { state: ConsentState::Withdrawn, ..consent("payments", &["iin"]) });
    lacking.consents[0].terms.third_party_transfer = false;
    let untransferred = Some(Denial::TransferConsentMissing);
    assert_eq!(lacking.decide().err(), untransferred, "what a live one lacks is told before");
    lacking.consents.push(consent("payments", &["iin"]));
    lacking.consents[2].terms.cross_border_transfer = false;
    assert_eq!(lacking.decide().err(), untransferred, "the first of two that lack something");
}

#[test]
fn r39_what_the_policy_does_not_declare_is_refused() {
    assert_eq!(
        refused(Case::iin(), |c| c.purpose = "anything_else".into()),
        Some(Denial::PurposeNotDeclared)
    );
    assert_eq!(refused(Case::iin(), |c| c.field = "other_data".into()), Some(Denial::FieldNotAllowed));
    assert_eq!(refused(Case::iin(), |c| c.purpose = "other_services".into()), Some(Denial::PurposeInert));
    let stranger = |c: &mut Case| c.recipient(|r| r.kind = RecipientKind::Affiliate);
    assert_eq!(refused(Case::abroad(), stranger), Some(Denial::RecipientUnknown));
}

#[test]
fn r44_a_payment_abroad_needs_a_consent_to_it() {
    let silent = |c: &mut Case| c.each(|terms| terms.cross_border_transfer = false);
    assert_eq!(refused(Case::abroad(), silent), Some(Denial::CrossBorder));
    // A bank stays in Kazakhstan whatever the subject consents to (9.2 names payment systems alone).
    assert_eq!(
        refused(Case::abroad(), |c| c.recipient(|r| r.kind = RecipientKind::Bank)),
        Some(Denial::CrossBorder)
    );
    let at_home = |c: &mut Case| {
        c.recipient(|r| r.country = "KZ".parse().unwrap());
        c.each(|terms| terms.cross_border_transfer = false);
    };
    assert_eq!(refused(Case::abroad(), at_home), None);
}

#[test]
fn r45_nothing_is_published_without_a_consent_to_publication() {
    let silent = |c: &mut Case| c.each(|terms| terms.publication = false);
    assert_eq!(refused(Case::published(), silent), Some(Denial::PublicationConsentMissing));
    let withdrawn = |c: &mut Case| {
        c.consents.iter_mut().for_each(|consent| consent.state = ConsentState::Withdrawn);
    };
    assert_eq!(refused(Case::published(), withdrawn), Some(Denial::ConsentWithdrawn));
}
