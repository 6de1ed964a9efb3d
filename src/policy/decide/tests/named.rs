//! Rules that the decision executes, each by its number, as a table over the shipped policy of lerna.kz.

use super::*;

/// What changes a permitted read, and what it is answered then.
fn table(good: fn() -> Case, rows: &[(Option<Denial>, Change)]) {
    assert!(good().decide().is_ok(), "permitted before any change");
    for (i, (expected, change)) in rows.iter().enumerate() {
        let mut case = good();
        change(&mut case);
        assert_eq!(case.decide().err(), *expected, "row {i}");
    }
}

#[test]
fn r1_every_read_names_a_declared_purpose() {
    table(
        Case::iin,
        &[
            (Some(Denial::PurposeNotDeclared), |c| c.purpose = "resale".into()),
            (Some(Denial::PurposeNotDeclared), |c| c.purpose = "payment".into()),
            (Some(Denial::CallerNotAllowed), |c| c.purpose = "request_comms".into()),
            (Some(Denial::FieldNotAllowed), |c| c.field = "phone".into()),
            (None, |c| c.field = "surname".into()),
        ],
    );
}

#[test]
fn r3_a_read_stands_on_a_live_consent_or_on_a_law() {
    table(
        Case::iin,
        &[
            (Some(Denial::ConsentMissing), |c| c.consents.clear()),
            (Some(Denial::ConsentExpired), |c| c.each(|terms| terms.expires_at = Some(NOW))),
            (Some(Denial::ConsentWithdrawn), |c| {
                c.consents.iter_mut().for_each(|consent| consent.state = ConsentState::Withdrawn);
            }),
            // A reference is no basis.
            (Some(Denial::ConsentMissing), |c| {
                c.consents.clear();
                c.reference = Some(Reference::parse("CONTRACT-1").unwrap());
            }),
        ],
    );
    table(Case::lawful, &[(None, |c| c.consents.push(consent("payments", &["iin"])))]);
    for basis in ["contract", "legitimate_interest"] {
        let text =
            LERNA.replacen("basis = { kind = \"consent\"", &format!("basis = {{ kind = \"{basis}\""), 1);
        let problems = Policy::check(&text).unwrap_err();
        assert!(problems.iter().any(|p| p.rule.contains("is no basis in Kazakhstan")), "{problems:?}");
    }
}

#[test]
fn r4_a_consent_is_an_act_that_policy_and_purpose_take() {
    let policy = lerna();
    for act in ConsentAct::ALL {
        assert_eq!(policy.accepts_act(*act), *act == ConsentAct::Tick, "4.1: a tick, {act:?}");
        let mut case = Case::written();
        case.each(|terms| terms.act = *act);
        let signed = matches!(act, ConsentAct::Written | ConsentAct::ElectronicSignature);
        assert_eq!(case.decide().is_ok(), signed, "a written consent, {act:?}");
    }
    for act in ["use", "cookies", "supplying", "silence"] {
        assert!(act.parse::<ConsentAct>().is_err(), "{act} proves nothing");
    }
}

#[test]
fn r5_a_consent_opens_its_purpose_alone() {
    let purposes = ["request_comms", "marketing_mail", "bank_credit", "offers"];
    for (caller, own) in [("support", "request_comms"), ("mailing", "marketing_mail"), ("mailing", "offers")]
    {
        for given in purposes {
            let mut case = Case::read(caller, own, "email");
            case.consents = vec![consent(given, &["email"])];
            let expected = (given != own).then_some(Denial::ConsentMissing);
            assert_eq!(case.decide().err(), expected, "{given} for {own}");
        }
    }
}

/// Lerna's letters with a partner in whose name they may go out, too.
fn with_a_partner() -> Policy {
    let channels = "    { name = \"call\", given = \"stated\", clause = \"7.1(г)\" },\n]\n";
    let senders =
        "senders = [{ name = \"operator\", clause = \"1\" }, { name = \"bank\", clause = \"2\" }]\n";
    changed(channels, &format!("{channels}{senders}"))
}

#[test]
fn r5_a_consent_is_for_its_channel_and_its_sender_alone() {
    let all = ["email operator", "call operator", "email bank", "call bank"];
    for given in all {
        for asked in all {
            // A name serves both channels.
            let mut case = Case::read("mailing", "marketing_mail", "first_name");
            case.policy = with_a_partner();
            case.outreach = asked.parse().ok();
            case.each(|terms| terms.outreach = given.parse().ok());
            let channel = |text: &str| text.split(' ').next().map(str::to_owned);
            let expected = match (given == asked, channel(given) == channel(asked)) {
                (true, _) => None,
                (false, true) => Some(Denial::SenderConsentMissing),
                (false, false) => Some(Denial::ChannelConsentMissing),
            };
            assert_eq!(case.decide().err(), expected, "{given} for {asked}");
        }
    }
}

#[test]
fn r5_who_reaches_people_says_how_and_by_what_serves_the_channel() {
    let letters = || Case::read("mailing", "marketing_mail", "email");
    table(
        letters,
        &[
            (Some(Denial::ChannelRequired), |c| c.outreach = None),
            (Some(Denial::ChannelNotAllowed), |c| c.outreach = "sms operator".parse().ok()),
            (Some(Denial::ChannelNotAllowed), |c| c.outreach = "call operator".parse().ok()),
            (Some(Denial::SenderNotAllowed), |c| c.outreach = "email bank".parse().ok()),
            // Given before the policy named channels: it is for none.
            (Some(Denial::ChannelConsentMissing), |c| c.each(|terms| terms.outreach = None)),
        ],
    );
    // Where nobody is reached, a channel has no place; a consent that is for one opens no read for none.
    let mut paid = Case::iin();
    paid.outreach = "email operator".parse().ok();
    assert_eq!(paid.decide().err(), Some(Denial::ChannelNotAllowed));
    let mut paid = Case::iin();
    paid.each(|terms| terms.outreach = "email operator".parse().ok());
    assert_eq!(paid.decide().err(), Some(Denial::ChannelConsentMissing));
    // By no channel that the purpose does not name, though the field would serve it and the person consented.
    for (field, channel, named) in [
        ("first_name", "email", true),
        ("first_name", "call", true),
        ("first_name", "sms", false),
        ("phone", "call", true),
        ("phone", "sms", false),
        ("phone", "messenger", false),
    ] {
        let mut case = Case::read("mailing", "marketing_mail", field);
        case.outreach = format!("{channel} operator").parse().ok();
        let consented = case.outreach.clone();
        case.each(|terms| terms.outreach = consented.clone());
        let expected = (!named).then_some(Denial::ChannelNotAllowed);
        assert_eq!(case.decide().err(), expected, "{field} by {channel}");
    }
    // A telephone number is not read to write a letter, whatever a consent lists.
    let mut phone = Case::read("mailing", "marketing_mail", "phone");
    assert_eq!(phone.decide().err(), Some(Denial::ChannelNotAllowed));
    phone.outreach = "call operator".parse().ok();
    phone.each(|terms| terms.outreach = "call operator".parse().ok());
    assert!(phone.decide().is_ok());
}

/// A version that was applied before channels were asked for stays in force, and nobody is reached by it.
#[test]
fn r5_a_purpose_that_advertises_and_names_no_channel_reaches_nobody() {
    let channels = "channels = [ # \"among them by electronic mail and telephone\" opens no third one (rule R39)\n    \
                    { name = \"email\", given = \"stated\", clause = \"7.1(г)\" },\n    \
                    { name = \"call\", given = \"stated\", clause = \"7.1(г)\" },\n]\n";
    assert!(LERNA.contains(channels));
    let text = LERNA.replacen(channels, "", 1);
    assert!(Policy::parse(&text).is_err(), "no new version is taken without");
    for outreach in [None, Some("email operator")] {
        let mut case = Case::read("mailing", "marketing_mail", "email");
        case.policy = Policy::applied(&text).unwrap();
        case.outreach = outreach.map(|outreach| outreach.parse().unwrap());
        case.each(|terms| terms.outreach = None);
        let expected = if outreach.is_none() { Denial::ChannelRequired } else { Denial::ChannelNotAllowed };
        assert_eq!(case.decide().err(), Some(expected));
    }
}

#[test]
fn r5_a_withdrawal_ends_its_channel_and_sender_alone() {
    let of = |outreach: &str| {
        let mut consent = consent("marketing_mail", &["first_name", "email"]);
        consent.terms.outreach = outreach.parse().ok();
        consent
    };
    let decide = |consents: Vec<Consent>, asked: &str| {
        let mut case = Case::read("mailing", "marketing_mail", "first_name");
        (case.policy, case.outreach, case.consents) = (with_a_partner(), asked.parse().ok(), consents);
        case.decide().err()
    };
    let withdrawn =
        |outreach: &str| Consent { state: ConsentState::Withdrawn, withdrawn_at: Some(NOW), ..of(outreach) };
    for (ended, asked, expected) in [
        ("email operator", "email operator", Some(Denial::ConsentWithdrawn)),
        ("call operator", "email operator", None),
        ("email bank", "email operator", None),
        // One that was for no channel was the person's no to the purpose as a whole.
        ("", "email operator", Some(Denial::ConsentWithdrawn)),
    ] {
        let both = vec![withdrawn(ended), of("email operator")];
        assert_eq!(decide(both, asked), expected, "{ended}");
    }
    // The twin of the one that was withdrawn falls with it, and the other channel's term does not lengthen this one's.
    let mut old = of("email operator");
    old.terms.given_at = NOW.plus_micros(-THREE_YEARS_MICROS);
    let fresh = vec![old, of("call operator")];
    assert_eq!(decide(fresh.clone(), "email operator"), Some(Denial::RetentionEnded));
    assert_eq!(decide(fresh, "call operator"), None);
}

#[test]
fn r16_a_release_abroad_needs_a_country_that_the_purpose_allows_and_a_consent_to_it() {
    for (kind, country, consented, expected) in [
        (RecipientKind::PaymentSystem, "US", true, None),
        (RecipientKind::PaymentSystem, "US", false, Some(Denial::CrossBorder)),
        (RecipientKind::PaymentSystem, "KZ", false, None),
        (RecipientKind::Bank, "US", true, Some(Denial::CrossBorder)),
        (RecipientKind::Bank, "KZ", false, None),
    ] {
        let mut case = Case::iin().to(kind, country);
        case.each(|terms| terms.cross_border_transfer = consented);
        assert_eq!(case.decide().err(), expected, "{kind:?} in {country}, consented: {consented}");
    }
}

#[test]
fn r17_a_recipient_receives_in_its_dates_and_for_its_purposes_alone() {
    table(
        Case::abroad,
        &[
            (None, |c| c.recipient(|r| r.valid_until = None)),
            (Some(Denial::RecipientUnknown), |c| c.recipient = Named::Unknown),
            (Some(Denial::RecipientUnknown), |c| c.recipient(|r| r.state = RecipientState::Ended)),
            (Some(Denial::RecipientUnknown), |c| c.recipient(|r| r.valid_until = Some(NOW))),
            (Some(Denial::RecipientUnknown), |c| c.recipient(|r| r.valid_from = NOW.plus_micros(1))),
            (Some(Denial::RecipientUnknown), |c| c.recipient(|r| r.purposes.clear())),
        ],
    );
}

#[test]
fn r18_whom_the_purpose_does_not_name_gets_nothing() {
    let named =
        [RecipientKind::Bank, RecipientKind::PaymentSystem, RecipientKind::State, RecipientKind::Court];
    for kind in RecipientKind::ALL {
        let case = Case::iin().to(*kind, "KZ").with_reference();
        let expected = (!named.contains(kind)).then_some(Denial::RecipientUnknown);
        assert_eq!(case.decide().err(), expected, "{kind:?}");
    }
}

#[test]
fn r20_banks_and_payment_systems_get_surname_name_and_iin_sealed() {
    let purpose = lerna();
    let payments = purpose.purpose(&"payments".parse().unwrap()).unwrap();
    for kind in [RecipientKind::Bank, RecipientKind::PaymentSystem] {
        for (field, _) in payments.fields() {
            let mut case = Case::iin().to(kind, "KZ");
            case.field = field.to_string();
            case.consents = vec![consent("payments", &[field.as_str()])];
            let allowed = ["surname", "first_name", "iin"].contains(&field.as_str());
            match case.decide() {
                Ok(permit) => assert!(allowed && permit.must_seal(), "{field}"),
                Err(denial) => assert!(!allowed && denial == Denial::FieldNotAllowed, "{field}: {denial:?}"),
            }
            case.recipient(|r| r.has_key = false);
            assert!(case.decide().is_err(), "{field}: nothing leaves that is not sealed");
        }
    }
}

#[test]
fn r41_a_withdrawal_binds_before_any_consequence_is_recorded() {
    table(
        Case::iin,
        &[(Some(Denial::ConsentWithdrawn), |c| {
            c.events.clear();
            for consent in &mut c.consents {
                (consent.state, consent.withdrawn_at) = (ConsentState::Withdrawn, Some(NOW));
            }
        })],
    );
}

#[test]
fn r50_what_was_there_before_the_policy_is_read_on_a_consent_alone() {
    fn older() -> Case {
        let mut case = Case::iin();
        case.collected_at = NOW.plus_micros(1 - THREE_YEARS_MICROS);
        case
    }
    table(
        older,
        &[
            (Some(Denial::ConsentMissing), |c| c.consents.clear()),
            (Some(Denial::Quarantined), |c| c.quarantined = true),
        ],
    );
}

/// What a consent must allow depends on where the value goes, and on nothing else.
#[test]
fn r16_r45_each_release_needs_its_own_part_of_the_consent() {
    table(Case::abroad, &[(None, |c| c.each(|terms| terms.publication = false))]);
    table(
        Case::published,
        &[
            (None, |c| c.recipient = Named::Nobody),
            (Some(Denial::PublicationConsentMissing), |c| {
                c.recipient = Named::Nobody;
                c.each(|terms| terms.publication = false);
            }),
        ],
    );
    // A law opens nothing abroad: an authority of another country gets what a person let go there, or nothing.
    let mut abroad = Case::lawful();
    abroad.policy = changed(
        "callers = [\"rights\"]",
        "callers = [\"rights\"]\nrecipients = [{ kind = \"state\", clause = \"9.3\", country = \"any\", fields = [\"phone\"] }]",
    );
    abroad = abroad.to(RecipientKind::State, "KZ");
    assert!(abroad.decide().is_ok());
    abroad.recipient(|r| r.country = "DE".parse().unwrap());
    assert_eq!(abroad.decide().err(), Some(Denial::CrossBorder));
}
