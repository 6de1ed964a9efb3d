//! The checks of a policy file, one change of a good file at a time.

mod borders;
mod diff;
mod named;
mod shipped;
mod whole;

use proptest::prelude::*;

use super::*;
use crate::domain::{
    caller::{CallerState, Role},
    ids::{CallerId, PlatformId},
    recipient::{CountryCode, RecipientKind},
    subject::ValueSource,
};

const LERNA: &str = include_str!("../../../../policies/lerna.toml");

/// A shipped file with the operator's decisions filled in.
fn with_settings(text: &str, settings: &[(&str, &str)]) -> String {
    settings.iter().fold(text.to_owned(), |text, (key, value)| {
        let open = format!("{key} = \"{}\"", settings::UNSET);
        assert!(text.contains(&open), "{key} is not left open");
        text.replacen(&open, &format!("{key} = {value}"), 1)
    })
}

/// LERNA with one text replaced, and the line where the replaced text begins.
fn changed(from: &str, to: &str) -> (String, usize) {
    let at = LERNA.find(from).unwrap_or_else(|| panic!("{from}"));
    (LERNA.replacen(from, to, 1), LERNA[..at].matches('\n').count() + 1)
}

fn caller(name: &str) -> Caller {
    Caller {
        id: CallerId::from_bytes([1; 16]),
        platform: PlatformId::new(1),
        name: name.parse().unwrap(),
        spiffe_id: format!("spiffe://lerna.kz/{name}").parse().unwrap(),
        roles: vec![Role::Service],
        pins: Vec::new(),
        person: None,
        state: CallerState::Enabled,
    }
}

#[test]
fn the_shipped_policy_says_what_its_text_says() {
    let policy = Policy::parse(LERNA).unwrap_or_else(|e| panic!("{e}"));
    let payments = policy.purpose(&"payments".parse().unwrap()).unwrap();
    let bank = payments.recipient(RecipientKind::Bank).unwrap();
    for field in ["surname", "first_name", "iin"] {
        let field = field.parse().unwrap();
        assert!(payments.covers(&field) && bank.covers(&field), "{field}");
        assert_eq!(payments.field(&field).unwrap().given, Given::Stated);
    }
    for field in ["phone", "email"] {
        assert!(!payments.covers(&field.parse().unwrap()), "9.2 sends surname, name and IIN only");
    }
    assert!(bank.encrypted && bank.allows_country(CountryCode::KZ));
    assert!(!bank.allows_country("DE".parse().unwrap()));
    assert!(payments.recipient(RecipientKind::PaymentSystem).unwrap().allows_country("US".parse().unwrap()));
    assert!(payments.recipient(RecipientKind::Contractor).is_none() && !payments.needs_reference());
    assert!(policy.purpose(&"subject_requests".parse().unwrap()).unwrap().needs_reference());
    assert!(policy.purpose(&"other_services".parse().unwrap()).unwrap().inert.is_some());

    assert_eq!(policy.subject.min_age, 18);
    assert!(policy.accepts_kind(SubjectKind::Represented) && !policy.accepts_kind(SubjectKind::Legal));
    let iin = policy.field(&"iin".parse().unwrap()).unwrap();
    assert!(!iin.is_unique() && iin.accepts_source(ValueSource::Subject));
    assert!(!iin.accepts_source(ValueSource::Partner));
    assert!(policy.ban(BanKind::Biometric).is_some_and(|ban| ban.clause == "5.2"));

    let (backend, payer, support) = (caller("backend"), caller("payments"), caller("support"));
    let (payment, deleted) = ("payment".parse().unwrap(), "account_deleted".parse().unwrap());
    assert!(policy.may_manage_subjects(&backend) && !policy.may_manage_subjects(&payer));
    assert!(policy.may_record_event(&payer, &payment) && !policy.may_record_event(&payer, &deleted));
    assert!(policy.may_record_event(&backend, &deleted) && !policy.may_record_event(&support, &payment));
    assert!(!policy.may_record_event(&backend, &"licence_end".parse().unwrap()), "not declared");
    assert!(policy.caller_names().contains(&backend.name));
}

#[test]
fn a_version_begins_at_midnight_in_kazakhstan() {
    let policy = Policy::parse(LERNA).unwrap();
    assert_eq!(policy.effective_at().to_string(), "2024-01-02T19:00:00.000000Z");
    assert_eq!(policy.governs_from(), policy.effective_at());
    let (text, _) = changed("kind = \"use\", clause", "kind = \"use\", days = 7, clause");
    let policy = Policy::parse(&text).unwrap();
    assert_eq!(policy.effective_at().to_string(), "2024-01-02T19:00:00.000000Z");
    assert_eq!(policy.governs_from().to_string(), "2024-01-09T19:00:00.000000Z");
}

/// Each row: what is replaced, by what, the place and a part of the rule. The problem lies on the replaced line.
#[test]
fn a_mistake_is_named_on_its_line() {
    let ban = |what: &str| format!("[[ban]]\nwhat = \"{what}\"\nclause = \"1\"\n\n[[event]]");
    let table: &[(&str, &str, &str, &str)] = &[
        ("bin = \"210140019844\"", "bin = \"210140019845\"", "platform", "check digit"),
        ("name = \"lerna\"", "name = \"vault\"", "platform", "the vault's own"),
        ("name = \"lerna\"", "name = \"Lerna\"", "platform", "[a-z]"),
        ("legal_name = \"ТОО «Ньюскилз»\"", "legal_name = \" \"", "platform", "must not be empty"),
        ("number = 1", "number = 0", "version", "from 1"),
        ("number = 1", "number = \"1\"", "version", "a whole number, not string"),
        ("effective = \"2024-01-03\"", "effective = \"soon\"", "version", "YYYY-MM-DD"),
        ("effective = \"2024-01-03\"", "effective = \"2024-01-03T10:00\"", "version", "YYYY-MM-DD"),
        ("kind = \"use\"", "kind = \"silence\"", "version, acceptance", "kind of acceptance"),
        ("kind = \"use\"", "kind = \"act\", days = 1", "version, acceptance", "accepted by use"),
        ("\"ru\", \"kk\"", "\"ru\", \"ru\"", "version", "one twice"),
        ("\"ru\", \"kk\"", "", "version", "at least one"),
        ("format = 1", "format = 2", "format", "format 1"),
        ("min_age = 18", "min_age = 0", "subject", "from 1 to 99"),
        ("min_age = 18", "min_age = \"operator-must-set\"", "subject", "18 is the stricter choice"),
        ("kinds = [\"natural\", \"represented\"]", "kinds = [\"animal\"]", "subject", "kind of subject"),
        ("who = [\"incapacitated_adult\"]", "who = [\"child\"]", "subject, represented", "representation"),
        ("acts = [\"tick\"]", "acts = [\"use\"]", "consent", "consent act"),
        ("what = \"genetic\"", "what = \"biometric\"", "ban biometric", "declared twice"),
        ("what = \"genetic\"", "what = \"rain\"", "ban 2", "not a known ban"),
        ("name = \"payment\"", "name = \"application\"", "event application", "declared twice"),
        ("type = \"iin\"", "type = \"star_sign\"", "field iin", "field type"),
        ("type = \"iin\"", "type = \"card\"", "field iin", "rule R21"),
        ("type = \"iin\"", "tipe = \"iin\"", "field iin", "unknown key `tipe`"),
        ("callers = [\"payments\"]", "callers = []", "purpose payments", "at least one"),
        ("callers = [\"payments\"]", "callers = \"payments\"", "purpose payments", "a list, not string"),
        ("views = [\"full\", \"masked\"]", "views = [\"half\"]", "purpose payments", "view"),
        ("{ name = \"iin\", given", "{ name = \"inn\", given", "purpose payments", "inn is not declared"),
        ("{ name = \"first_name\", given", "{ name = \"surname\", given", "purpose payments", "listed twice"),
        ("given = \"stated\"", "given = \"guessed\"", "purpose payments, field surname", "not a known mark"),
        (
            "retention = { clause = \"7.1(ж)",
            "retention = { claus = \"7.1(ж)",
            "purpose payments, retention",
            "claus",
        ),
        (
            "basis = { kind = \"consent\"",
            "basis = { kind = \"contract\"",
            "purpose payments, basis",
            "no basis",
        ),
        ("article = \"94-V/9\"", "article = \"Article 9\"", "purpose legal, basis", "94-V/9(1)"),
        (
            "kind = \"payment_system\"",
            "kind = \"friend\"",
            "purpose payments, recipient 2",
            "kind of recipient",
        ),
        ("kind = \"payment_system\"", "kind = \"bank\"", "purpose payments", "named twice"),
        ("kind = \"payment_system\"", "kind = \"public\"", "purpose payments", "publication = true"),
        ("country = \"any\"", "country = \"US\"", "purpose payments, recipient 2", "`KZ`, or `any`"),
        ("\"first_name\", \"iin\"] },", "\"phone\"] },", "purpose payments", "has no field phone"),
        (
            "inert = \"the text names neither",
            "callers = [\"x\"]\ninert = \"",
            "purpose other_services",
            "read by nobody",
        ),
        (
            "callers = [\"rights\"]",
            "callers = [\"rights\"]\nseparate = true",
            "purpose subject_requests",
            "basis consent",
        ),
        ("separate = true\nadvertising = true", "advertising = true", "purpose offers", "consent of its own"),
        (
            "callers = [\"payments\"]",
            "callers = [\"payments\"]\nwritten = true",
            "purpose payments",
            "takes neither",
        ),
        (
            "acts = [\"tick\"]",
            "acts = [\"tick\"]\ncompleted_by = { event = \"x\", clause = \"1\" }",
            "consent",
            "event x",
        ),
        ("views = [\"full\"]\nfields", "views = [\"sex\"]\nfields", "purpose offers", "can answer it"),
        ("kinds = [\"natural\", \"represented\"]", "kinds = [\"natural\"]", "subject", "does not name"),
        (
            "callers = [\"rights\"]",
            "callers = [\"rights\"]\nrecipients = [{ kind = \"bank\", clause = \"1\" }]",
            "purpose subject_requests",
            "only state bodies and courts",
        ),
        (
            "encrypted = true, fields = [\"surname\", \"first_name\", \"email\", \"phone\"] }",
            "encrypted = true }",
            "purpose request_comms",
            "message is correspondence",
        ),
        (
            "after = \"account_deleted\"",
            "after = \"moonrise\"",
            "purpose payments",
            "moonrise is not declared",
        ),
        ("after = \"cabinet_deleted\"", "after = \"moonrise\"", "cap 2", "moonrise is not declared"),
        ("after = \"cabinet_deleted\"", "after = \"withdrawal\"", "cap 2", "stand on a consent"),
        ("years = 3\nafter = \"consent\"", "after = \"consent\"", "cap 1", "says how long"),
        ("years = 3\nafter", "years = 0\nafter", "cap 1", "from 1 to 100"),
        ("name = \"cabinet_deleted\"", "name = \"withdrawal\"", "event withdrawal", "without an event"),
        (
            "after = \"account_deleted\", clause",
            "after = \"account_deleted\", missing = \"consent\", clause",
            "purpose payments, retention, term 1",
            "beside a span after an event",
        ),
        (
            "callers = [\"payments\"]",
            "callers = [\"payments\"]\nclaims = true",
            "purpose payments",
            "rule R9",
        ),
        (
            "retention = { clause = \"7.3, 8.4(е)\" }\ncallers = [\"rights\"]",
            "retention = { clause = \"1\", refusal = { event = \"payment\", clause = \"1\" } }\ncallers = [\"rights\"]",
            "purpose subject_requests",
            "claims = true",
        ),
        (
            "retention = { clause = \"7.3, 8.4(е)\" }\ncallers = [\"rights\"]",
            "retention = { clause = \"1\", ends = [{ after = \"withdrawal\", clause = \"1\" }] }\ncallers = [\"rights\"]",
            "purpose subject_requests",
            "does not end by a withdrawal",
        ),
        (
            "retention = { clause = \"7.3, 8.4(е)\" }\ncallers = [\"rights\"]",
            "retention = { clause = \"7.3, 8.4(е)\" }\nclaims = true\ncallers = [\"rights\"]",
            "purpose subject_requests",
            "no term ends the purpose",
        ),
        (
            "retention = { clause = \"7.3, 8.4(е)\" }\ncallers = [\"rights\"]",
            "retention = { clause = \"1\", minimum = { after = \"payment\", article = \"94-V/12(2)\", clause = \"1\" } }\n\
             callers = [\"rights\"]",
            "purpose subject_requests, retention, minimum",
            "says how long",
        ),
        (
            "category = \"ordinary\"\ncollected_by = [\"backend\"]\nclause = \"5.3(а)\"",
            "category = \"ordinary\"\nderived_from = [\"cookies\"]\ncollected_by = [\"backend\"]\nclause = \"5.3(а)\"",
            "field surname",
            "no looser (rule R52)",
        ),
        (
            "category = \"ordinary\"\ncollected_by = [\"backend\"]\nclause = \"5.3(а)\"",
            "category = \"ordinary\"\nderived_from = [\"shoe\"]\ncollected_by = [\"backend\"]\nclause = \"5.3(а)\"",
            "field surname",
            "shoe is not declared",
        ),
        ("[[event]]", &ban("sale"), "", ""),
        ("[[event]]", &ban("partner_transfer"), "", ""),
    ];
    for (from, to, place, rule) in table {
        let (text, line) = changed(from, to);
        match (Policy::check(&text), place.is_empty()) {
            (Ok(_), true) => {}
            (Err(problems), false) => {
                let mut hits = problems.iter().filter(|p| p.place == *place && p.rule.contains(rule));
                let hit = hits.next().unwrap_or_else(|| panic!("{to}: {problems:#?}"));
                assert!(
                    (line..=line + to.matches('\n').count()).contains(&hit.line),
                    "{to}: line {line}, {hit}"
                );
            }
            (Ok(_), false) => panic!("{to}: accepted"),
            (Err(problems), true) => panic!("{to}: {problems:#?}"),
        }
    }
}

/// What a ban names is refused, on the line of what it names.
#[test]
fn bans_are_executed() {
    let table = [
        ("publication", "publication = true\n", "category = \"ordinary\"", "purpose payments"),
        ("biometric", "", "category = \"biometric\"", "field surname"),
        ("special", "", "category = \"biometric\"", "field surname"),
        ("special", "", "category = \"special\"", "field surname"),
        ("genetic", "", "category = \"genetic\"", "field surname"),
        (
            "advertising_transfer",
            "advertising = true\nseparate = true\n",
            "",
            "purpose payments, recipient bank",
        ),
        ("third_party_transfer", "", "", "purpose payments, recipient bank"),
        ("sale", "manner = \"sale\", ", "", "purpose payments, recipient bank"),
        ("exchange", "manner = \"exchange\", ", "", "purpose payments, recipient bank"),
        ("onward_transfer", "manner = \"onward\", ", "", "purpose payments, recipient bank"),
        ("partner_transfer", "kind = \"partner\", ", "", "purpose payments, recipient partner"),
        ("ip_identity", "", "", "purpose offers"),
    ];
    for (what, addition, category, place) in table {
        let mut text = LERNA.replacen("category = \"ordinary\"", category, usize::from(!category.is_empty()));
        if what == "ip_identity" {
            text = text.replacen("{ name = \"purchases\", given", "{ name = \"referrer\", given", 1);
        } else if addition.starts_with("kind") {
            text = text.replacen("kind = \"bank\", ", addition, 1);
        } else if addition.starts_with("manner") {
            text = text.replacen("kind = \"bank\", ", &format!("kind = \"bank\", {addition}"), 1);
        } else {
            text =
                text.replacen("callers = [\"payments\"]", &format!("{addition}callers = [\"payments\"]"), 1);
        }
        if !text.contains(&format!("what = \"{what}\"")) {
            text = text.replacen(
                "[[event]]",
                &format!("[[ban]]\nwhat = \"{what}\"\nclause = \"1\"\n\n[[event]]"),
                1,
            );
        }
        let problems = Policy::check(&text).expect_err(what);
        let barred = problems.iter().find(|p| p.place == place && p.rule.contains(&format!("ban {what}")));
        let barred = barred.unwrap_or_else(|| panic!("{what}: {problems:#?}"));
        let line = text.lines().nth(barred.line - 1).unwrap();
        let named = ["kind = \"bank\"", "kind = \"partner\"", "publication = true", "category", "referrer"];
        assert!(named.iter().any(|part| line.contains(part)), "{what}: {line}");
    }
}

#[test]
fn a_field_that_no_purpose_uses_is_refused() {
    let unused = "[[field]]\nname = \"shoe_size\"\ntype = \"text\"\ncategory = \"ordinary\"\n\
                  collected_by = [\"backend\"]\nclause = \"1\"\n\n[[field]]";
    let (text, line) = changed("[[field]]", unused);
    let problems = Policy::check(&text).unwrap_err();
    assert_eq!(problems.len(), 1, "{problems:#?}");
    assert_eq!((problems[0].line, problems[0].place.as_str()), (line + 1, "field shoe_size"));
    assert!(problems[0].rule.contains("Articles 7(8), 7(9)"));
}

#[test]
fn all_problems_are_found_at_once() {
    let text = LERNA
        .replacen("bin = \"210140019844\"", "bin = \"1\"", 1)
        .replacen("acts = [\"tick\"]", "acts = [\"use\"]\nextra = 1", 1)
        .replacen("type = \"iin\"", "type = \"password\"", 1)
        .replacen("kind = \"consent\"", "kind = \"legitimate_interest\"", 1)
        .replacen("name = \"ad_stats\"", "name = \"payments\"", 1)
        .replacen("[[ban]]", "[[bna]]", 1);
    let problems = Policy::check(&text).unwrap_err();
    let lines: Vec<_> = problems.iter().map(|p| p.line).collect();
    assert!(lines.is_sorted(), "{lines:?}");
    for part in ["bin", "act", "`extra`", "R21", "legitimate_interest", "declared twice", "`bna`"] {
        assert!(problems.iter().any(|p| p.rule.contains(part)), "{part}: {problems:#?}");
    }
    assert_eq!(problems.len(), 7, "{problems:#?}");
    let shown = Policy::parse(&text).unwrap_err().to_string();
    assert_eq!(shown.lines().count(), 7);
    assert!(shown.starts_with(&format!("line {}: platform: bin", problems[0].line)), "{shown}");
}

#[test]
fn what_is_not_toml_is_refused_with_its_line() {
    let (text, line) = changed("callers = [\"payments\"]", "callers = [\"payments\"");
    let problems = Policy::check(&text).unwrap_err();
    assert!(problems.iter().any(|p| (line..=line + 1).contains(&p.line)), "{problems:#?}");
    let (text, line) = changed("number = 1", "number = 1\nnumber = 2");
    let problems = Policy::check(&text).unwrap_err();
    assert_eq!(problems.iter().map(|p| p.line).collect::<Vec<_>>(), [line + 1], "{problems:#?}");
    let long = "#".repeat(MAX_POLICY_BYTES + 1);
    assert!(Policy::check(&long).unwrap_err()[0].rule.contains("1 MiB"));
    assert!(!Policy::check("").unwrap_err().is_empty());
}

#[test]
fn settings_of_the_operator_have_no_default() {
    for (key, what) in settings::SETTINGS {
        assert!(what.contains("stricter"), "{key} says which choice is stricter");
    }
    let (open, line) = changed("bin = \"210140019844\"", "bin = \"operator-must-set\"");
    let problems = Policy::check(&open).unwrap_err();
    assert_eq!(problems.len(), 1);
    assert_eq!((problems[0].line, problems[0].place.as_str()), (line, "platform"));
    assert!(problems[0].rule.contains("BIN"), "{}", problems[0]);
    assert!(Policy::check(&with_settings(&open, &[("bin", "\"210140019844\"")])).is_ok());
}

proptest! {
    /// Cut or damaged anywhere, a file gives problems with lines that it has, and never a panic.
    #[test]
    fn damage_is_a_problem_not_a_panic(at in 0..LERNA.len(), len in 0..40_usize, junk in "[\\[\\]{}=\"a-z\n ,1]{0,6}") {
        let (start, end) = (LERNA.floor_char_boundary(at), LERNA.ceil_char_boundary(at + len));
        let text = format!("{}{junk}{}", &LERNA[..start], &LERNA[end..]);
        if let Err(problems) = Policy::check(&text) {
            prop_assert!(!problems.is_empty());
            let lines = text.matches('\n').count() + 1;
            prop_assert!(problems.iter().all(|p| (1..=lines).contains(&p.line) && !p.rule.is_empty()));
        }
    }
}

#[test]
fn r48_what_is_risky_is_assessed_and_answered_for() {
    let responsible =
        "[responsible]\noffice = \"DPO\"\ncontact = \"dpo@lerna.kz\"\nclause = \"14\"\n\n[subject]";
    let (answered, _) = changed("[subject]", responsible);
    let risky = |text: &str, dpia: &str| {
        let marks = format!("callers = [\"payments\"]\nhigh_risk = true\n{dpia}");
        text.replacen("callers = [\"payments\"]", &marks, 1)
    };
    let assessed = "dpia = \"DPIA-2026/3\"";
    for (text, rule) in [
        (risky(&answered, ""), "dpia = the number"),
        (risky(LERNA, assessed), "who answers for it"),
        (risky(&answered, "dpia = \"see the folder\""), "must match"),
    ] {
        let problems = Policy::check(&text).err().unwrap_or_default();
        assert!(problems.iter().any(|problem| problem.rule.contains(rule)), "{rule}: {problems:?}");
    }
    let policy = Policy::parse(&risky(&answered, assessed)).unwrap_or_else(|e| panic!("{e}"));
    assert_eq!(policy.responsible.as_ref().unwrap().contact, "dpo@lerna.kz");
    let payments = policy.purpose(&"payments".parse().unwrap()).unwrap();
    assert_eq!(payments.dpia.as_ref().unwrap().as_str(), "DPIA-2026/3");
    let plain = Policy::parse(LERNA).unwrap();
    assert!(plain.responsible.is_none() && !diff(&plain, &policy).is_empty());
    let shown = show(&policy, Language::Ru);
    let says = |text: &str| shown.iter().any(|line| line.text.contains(text));
    assert!(says("Ответственный: DPO, dpo@lerna.kz (14)") && says("DPIA-2026/3"));
}
