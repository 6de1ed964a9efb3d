//! Rules that a policy file itself must keep, each by its number, as tables over the five shipped policies.

use super::{
    shipped::{AITUBE, CAP, EDOOX, EXPERIMENTUM, shipped},
    *,
};
use crate::domain::names::SenderName;

const ALL: [&str; 5] = [EXPERIMENTUM, EDOOX, LERNA, CAP, AITUBE];

/// A change of lerna.kz's file, and the rule that it breaks.
fn refused(from: &str, to: &str, rule: &str) {
    let problems = Policy::check(&changed(from, to).0).expect_err(to);
    assert!(problems.iter().any(|p| p.rule.contains(rule)), "{to}: {problems:#?}");
}

#[test]
fn r2_each_field_of_a_purpose_is_stated_or_inferred_and_has_a_category() {
    for text in ALL {
        let policy = shipped(text);
        for (name, purpose) in policy.purposes() {
            for (field, tied) in purpose.fields() {
                assert!(Given::ALL.contains(&tied.given) && !tied.clause.is_empty(), "{name}: {field}");
                assert!(Category::ALL.contains(&policy.field(field).unwrap().category), "{field}");
            }
        }
    }
    let stated = "{ name = \"iin\", given = \"stated\", clause = \"9.2\" }";
    refused(stated, "{ name = \"iin\", clause = \"9.2\" }", "given is missing");
    refused("type = \"iin\"\ncategory = \"ordinary\"", "type = \"iin\"", "category is missing");
}

#[test]
fn r5_who_advertises_names_channels_that_its_fields_serve() {
    for text in ALL {
        for (name, purpose) in shipped(text).purposes() {
            assert_eq!(purpose.is(Mark::Advertising), !purpose.channels().is_empty(), "{name}");
            assert!(purpose.channels().iter().all(|rule| !rule.clause.is_empty()), "{name}");
            // No text names a partner: its operator does, in a version of its own.
            assert!(
                purpose.senders().iter().all(|rule| rule.name.as_str() == SenderName::OPERATOR),
                "{name}"
            );
        }
    }
    let call = "{ name = \"call\", given = \"stated\", clause = \"7.1(г)\" },\n]";
    let email =
        "{ name = \"email\", given = \"stated\", clause = \"7.1(г)\" },\n    { name = \"call\", given = \"st";
    for (from, to, rule) in [
        (call, "{ name = \"fax\", given = \"stated\", clause = \"1\" },\n]", "not a known channel"),
        (call, "{ name = \"call\", clause = \"1\" },\n]", "given is missing"),
        (call, "{ name = \"call\", given = \"stated\" },\n]", "clause is missing"),
        (
            call,
            "{ name = \"email\", given = \"stated\", clause = \"1\" },\n]",
            "channel email is named twice",
        ),
        (call, "]", "none of them takes a field of the type phone"),
        (email, "{ name = \"call\", given = \"st", "none of them takes a field of the type email"),
    ] {
        refused(from, to, rule);
    }
    let senders = |list: &str| format!("{call}\nsenders = [{list}]");
    let sender = "{ name = \"bank\", clause = \"1\" }";
    refused(call, &senders(&format!("{sender}, {sender}")), "sender bank is named twice");
    refused(call, &senders("{ name = \"A bank\", clause = \"1\" }"), "a sender's name must match");
    let payments = "callers = [\"payments\"]";
    refused(payments, &format!("senders = [{sender}]\n{payments}"), "senders stand only beside channels");
    let letters = "channels = [{ name = \"email\", given = \"stated\", clause = \"1\" }]";
    refused(payments, &format!("{letters}\n{payments}"), "channels need a consent of their own");
    refused(payments, &format!("separate = true\n{letters}\n{payments}"), "no field that it needs");
    let analytics = "separate = true # telemetry has a switch of its own";
    refused(analytics, &format!("advertising = true\n{analytics}"), "must say by which channels");
    let inert = "inert = \"works on irreversibly depersonalised data only";
    refused(inert, &format!("{letters}\n{inert}"), "it has no channels");
}

#[test]
fn r8_what_ends_is_destroyed_unless_the_policy_lets_it_be_depersonalised() {
    // cap.kz (10) and lerna.kz (8.2(ж)) name both ends, and keep less by the stricter; the others name none.
    for (text, clause) in [
        (EXPERIMENTUM, None),
        (EDOOX, None),
        (LERNA, Some("8.2(ж), 8.4(ж)")),
        (CAP, Some("10")),
        (AITUBE, None),
    ] {
        let policy = shipped(text);
        assert_eq!(policy.expires_by(), ExpiryKind::Destruction, "{}", policy.operator.name);
        assert_eq!(policy.expiry.as_ref().map(|expiry| expiry.clause.as_str()), clause);
    }
    let said = "[expiry]\nkind = \"destruction\"\nclause = \"8.2(ж), 8.4(ж)\"";
    let policy = |to: &str| Policy::parse(&changed(said, to).0).unwrap_or_else(|e| panic!("{to}: {e}"));
    let (plain, depersonalised) = (policy(""), policy(&said.replace("destruction", "depersonalisation")));
    assert_eq!(plain.expires_by(), ExpiryKind::Destruction);
    assert_eq!(depersonalised.expires_by(), ExpiryKind::Depersonalisation);
    // To say it is to widen, and to leave it out again narrows: under the clause that said it.
    for (from, to, effect) in
        [(&plain, &depersonalised, Effect::Widens), (&depersonalised, &plain, Effect::Narrows)]
    {
        let changes = diff(from, to);
        let [change] = &changes[..] else { panic!("{effect:?}: {changes:#?}") };
        assert_eq!((change.effect, change.place.as_str(), &change.asks), (effect, "expiry", &Asks::Nobody));
        assert_eq!(change.clause, "8.2(ж), 8.4(ж)");
    }
    for (to, rule) in [
        ("[expiry]\nkind = \"archive\"\nclause = \"1\"", "not a known kind of expiry"),
        ("[expiry]\nclause = \"1\"", "kind is missing"),
        ("[expiry]\nkind = \"depersonalisation\"", "clause is missing"),
        ("[expiry]\nkind = \"destruction\"\nclause = \"1\"\nafter = \"consent\"", "unknown key `after`"),
    ] {
        refused(said, to, rule);
    }
    for (language, destroyed, said) in [
        (
            Language::En,
            "At the end of retention: destruction",
            "depersonalisation, and destruction where it was demanded",
        ),
        (Language::Ru, "По истечении срока: уничтожение", "обезличивание, а где того требовали, уничтожение"),
        (Language::Kk, "Сақтау мерзімі біткен соң: жою", "иесіздендіру, ал талап етілсе жою"),
    ] {
        let has = |policy: &Policy, text: &str| {
            show(policy, language).iter().any(|line| line.depth == 0 && line.text == text)
        };
        assert!(has(&plain, destroyed), "{destroyed}");
        let heading = destroyed.split_once(": ").map_or("", |(heading, _)| heading);
        assert!(has(&depersonalised, &format!("{heading}: {said} (8.2(ж), 8.4(ж))")), "{said}");
    }
}

#[test]
fn r21_no_card_no_password_and_no_category_that_the_policy_bars() {
    for text in ALL {
        let policy = shipped(text);
        for (name, field) in policy.fields() {
            assert!(!cards::is_card_or_password(name.as_str()), "{name}");
            let guarded = [Category::Biometric, Category::Genetic, Category::Special];
            assert!(!guarded.contains(&field.category), "{name}: used by no purpose of these texts");
        }
    }
    refused("type = \"iin\"", "type = \"card_number\"", "rule R21");
    refused("name = \"iin\"\ntype", "name = \"password\"\ntype", "rule R21");
    refused(
        "type = \"iin\"\ncategory = \"ordinary\"",
        "type = \"iin\"\ncategory = \"biometric\"",
        "ban biometric",
    );
}

#[test]
fn r23_an_image_that_no_purpose_names_is_refused_and_a_face_is_biometric() {
    let image = |kind: &str, category: &str, more: &str| {
        format!(
            "[[field]]\nname = \"scan\"\ntype = \"{kind}\"\ncategory = \"{category}\"\n{more}\
             collected_by = [\"backend\"]\nclause = \"1\"\n\n[[field]]"
        )
    };
    refused("[[field]]", &image("document_image", "ordinary", ""), "no purpose uses it");
    refused(
        "[[field]]",
        &image("face_image", "ordinary", ""),
        "an image of a face has the category biometric",
    );
    refused("[[field]]", &image("document_image", "ordinary", "unique = true\n"), "images are not compared");
    for text in ALL {
        assert!(shipped(text).fields().all(|(_, field)| !field.field_type.is_image()));
    }
}

#[test]
fn r24_values_come_from_the_sources_that_the_policy_names() {
    for (text, field, named) in [
        (EXPERIMENTUM, "full_name", &[ValueSource::Subject, ValueSource::Partner][..]),
        (EDOOX, "iin", &[ValueSource::Subject, ValueSource::StateDatabase]),
        (LERNA, "iin", &[ValueSource::Subject]),
        (CAP, "email", &[ValueSource::Subject]),
        (AITUBE, "email", &[ValueSource::Subject, ValueSource::Public, ValueSource::Partner]),
    ] {
        let policy = shipped(text);
        let field = policy.field(&field.parse().unwrap()).unwrap();
        for source in ValueSource::ALL {
            assert_eq!(field.accepts_source(*source), named.contains(source), "{source:?}");
        }
    }
}

#[test]
fn r29_age_and_representation_are_those_of_the_policy() {
    for (text, age, who) in [
        (LERNA, 18, Some(&[Incapacity::IncapacitatedAdult][..])),
        (EDOOX, 16, Some(&[Incapacity::UnderMinAge])),
        (EXPERIMENTUM, 18, None),
        (CAP, 18, None),
        (AITUBE, 18, None),
    ] {
        let policy = shipped(text);
        assert_eq!(policy.subject.min_age, age, "{}", policy.operator.name);
        assert_eq!(policy.subject.represented.as_ref().map(|r| r.who.as_slice()), who);
        assert_eq!(policy.accepts_kind(SubjectKind::Represented), who.is_some());
    }
    let by = "represented = { who = [\"incapacitated_adult\"], clause = \"8.1(а)\" }\n";
    refused(by, "", "for whom a representative may act");
    refused("min_age = 18", "min_age = \"operator-must-set\"", "18 is the stricter choice");
}

#[test]
fn r31_correspondence_has_no_recipients() {
    let mut seen = 0;
    for text in ALL {
        let policy = shipped(text);
        let letters: Vec<_> =
            policy.fields().filter(|(_, field)| field.category == Category::Correspondence).collect();
        seen += letters.len();
        for (name, _) in letters {
            for (purpose, rule) in policy
                .purposes()
                .filter(|(_, p)| p.covers(name))
                .flat_map(|(of, p)| p.recipients().iter().map(move |rule| (of, rule)))
            {
                assert!(!rule.covers(name), "{purpose}: {name}");
            }
        }
    }
    assert_eq!(seen, 3, "lerna, cap and aitube hold what users write");
    refused(
        "clause = \"9.1\", encrypted = true, fields = [\"surname\", \"first_name\", \"email\", \"phone\"]",
        "clause = \"9.1\", encrypted = true, fields = [\"email\", \"message\"]",
        "correspondence, which has no recipients",
    );
}

#[test]
fn r32_an_address_serves_no_purpose_that_names_a_person_where_that_is_barred() {
    let policy = shipped(LERNA);
    assert_eq!(policy.ban(BanKind::IpIdentity).unwrap().clause, "10.2");
    for (address, rule) in [("ip_address", "ban ip_identity"), ("referrer", "ban ip_identity")] {
        let with = format!("{{ name = \"{address}\", given");
        refused("{ name = \"purchases\", given", &with, rule);
    }
}

#[test]
fn r36_consents_are_of_sites_that_the_policy_governs() {
    let sites: [(&str, &[&str]); 5] = [
        (EXPERIMENTUM, &["experimentum.kz"]),
        (EDOOX, &["edoox.com", "testter.kz"]),
        (LERNA, &["lerna.kz", "skillbox.kz", "geekbrains.kz"]),
        (CAP, &["cap.kz"]),
        (AITUBE, &["aitube.kz"]),
    ];
    for (text, own) in sites {
        let policy = shipped(text);
        for site in sites.iter().flat_map(|(_, sites)| sites.iter()) {
            assert_eq!(policy.governs(&site.parse().unwrap()), own.contains(site), "{site}");
        }
    }
}

#[test]
fn r37_subjects_are_of_the_kinds_that_the_policy_takes() {
    use SubjectKind::{Legal, Natural, Represented};
    for (text, kinds) in [
        (EXPERIMENTUM, &[Natural][..]),
        (EDOOX, &[Natural, Legal, Represented]),
        (LERNA, &[Natural, Represented]),
        (CAP, &[Natural]),
        (AITUBE, &[Natural]),
    ] {
        let policy = shipped(text);
        for kind in SubjectKind::ALL {
            assert_eq!(
                policy.accepts_kind(*kind),
                kinds.contains(kind),
                "{}: {kind:?}",
                policy.operator.name
            );
        }
    }
}

#[test]
fn r43_telemetry_is_read_on_a_consent_to_a_purpose_of_its_own() {
    for (text, count) in [(EXPERIMENTUM, 2), (EDOOX, 7), (LERNA, 8), (CAP, 8), (AITUBE, 6)] {
        let policy = shipped(text);
        let telemetry: Vec<_> =
            policy.fields().filter(|(_, field)| field.category == Category::Telemetry).collect();
        assert_eq!(telemetry.len(), count, "{}", policy.operator.name);
        for (name, _) in telemetry {
            let readers: Vec<_> = policy.purposes().filter(|(_, p)| p.covers(name)).collect();
            assert!(!readers.is_empty(), "{name} is collected for a purpose");
            let lawful = |p: &Purpose| p.basis.kind == BasisKind::Consent || p.needs_reference();
            assert!(readers.iter().all(|(_, p)| lawful(p)), "{name}");
        }
    }
}

#[test]
fn r51_each_language_that_the_policy_has_can_be_consented_in_and_no_other() {
    use Language::{En, Kk, Ru};
    for (text, languages) in
        [(EXPERIMENTUM, &[Ru, Kk][..]), (EDOOX, &[Kk]), (LERNA, &[Ru, Kk]), (CAP, &[Kk]), (AITUBE, &[Kk])]
    {
        let policy = shipped(text);
        for language in [En, Ru, Kk] {
            assert_eq!(policy.speaks(language), languages.contains(&language), "{}", policy.operator.name);
        }
    }
}

#[test]
fn r53_no_disclaimer_loosens_a_rule() {
    for key in ["disclaimer = true", "including = \"but not limited to\"", "public_domain = true"] {
        refused("callers = [\"payments\"]", &format!("{key}\ncallers = [\"payments\"]"), "unknown key");
        refused("clause = \"4.1, 7.2\"", &format!("{key}\nclause = \"4.1, 7.2\""), "unknown key");
    }
}
