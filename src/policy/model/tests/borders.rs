//! What lies at a border: the last size that is taken, the first that is not; what a getter answers for another.

use super::{
    shipped::{AITUBE, shipped},
    *,
};
use crate::domain::field::FieldType;

const SMALL: &str = include_str!("small.toml");

/// The small policy with texts replaced.
fn changed(changes: &[(&str, &str)]) -> String {
    changes.iter().fold(SMALL.to_owned(), |text, (from, to)| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    })
}

/// The same as a policy, or its problems.
fn small(changes: &[(&str, &str)]) -> Result<Policy, Vec<Problem>> {
    Policy::check(&changed(changes))
}

fn refused(changes: &[(&str, &str)], rule: &str) {
    let problems = small(changes).expect_err(rule);
    assert_eq!(problems.len(), 1, "{rule}: {problems:#?}");
    assert!(problems[0].rule.contains(rule), "{rule}: {problems:#?}");
}

#[test]
fn a_file_of_the_greatest_size_is_read_and_one_more_byte_is_not() {
    let padded = |size: usize| {
        let head = format!("{LERNA}\n#");
        format!("{head}{}", "x".repeat(size - head.len()))
    };
    assert!(Policy::check(&padded(MAX_POLICY_BYTES)).is_ok());
    assert!(Policy::check(&padded(MAX_POLICY_BYTES + 1)).is_err());
    let (lerna, version) = (Some("lerna".parse().unwrap()), Some(1));
    assert_eq!(claims(&padded(MAX_POLICY_BYTES)), (version, lerna.clone()));
    assert_eq!(claims(&padded(MAX_POLICY_BYTES + 1)), (None, None));
    // Also of a text that is refused for something else.
    assert_eq!(claims(&LERNA.replacen("min_age = 18", "min_age = 0", 1)), (version, lerna.clone()));
    assert_eq!(claims(&LERNA.replacen("number = 1", "number = \"one\"", 1)), (None, lerna));
    assert_eq!(claims(&LERNA.replacen("number = 1", "number = -1", 1)).0, None);
    assert_eq!(claims(&LERNA.replacen("name = \"lerna\"", "name = \"Lerna\"", 1)), (version, None));
    assert_eq!(claims("not TOML"), (None, None));
}

#[test]
fn what_is_not_toml_is_told_alone_and_a_missing_part_on_the_first_line() {
    let broken = Policy::check("format = = 1\n").unwrap_err();
    assert!(broken.iter().all(|problem| problem.rule.starts_with("not TOML: ")), "{broken:#?}");
    let empty = Policy::check("\n\n").unwrap_err();
    assert!(empty.iter().all(|problem| problem.line == 1), "{empty:#?}");
    let error = Policy::parse("\n").unwrap_err();
    assert_eq!(error.problems(), Policy::check("\n").unwrap_err());
}

#[test]
fn the_shorter_of_policy_and_law_is_promised() {
    let policy = Policy::parse(LERNA).unwrap();
    // 6.6 and 6.7 promise seven days; the law asks for one.
    assert_eq!(policy.answers_within(RightKind::Correction), (1, "94-V 25(2)(8)"));
    assert_eq!(policy.answers_within(RightKind::Access), (3, "94-V 24; 395/НҚ 16"));
    let promised = |days: u32| {
        let right =
            format!("[[right]]\nkind = \"access\"\nworking_days = {days}\nclause = \"12\"\n\n[[purpose]]");
        small(&[("[[purpose]]", &right)]).unwrap()
    };
    assert_eq!(promised(2).answers_within(RightKind::Access), (2, "12"));
    assert_eq!(promised(3).answers_within(RightKind::Access), (3, "94-V 24; 395/НҚ 16"));
    assert_eq!(promised(4).answers_within(RightKind::Access), (3, "94-V 24; 395/НҚ 16"));
    assert_eq!(promised(2).answers_within(RightKind::Withdrawal), (15, "94-V 8(7)"));
}

#[test]
fn who_may_store_record_and_manage_is_named_by_the_policy() {
    let policy = small(&[]).unwrap();
    let iin = policy.field(&"iin".parse().unwrap()).unwrap();
    for (name, collects) in [("backend", true), ("payments", false), ("rights", false), ("nobody", false)] {
        let caller = caller(name);
        assert_eq!(policy.may_collect(&caller, iin), collects, "{name}");
        assert_eq!(policy.collects_anything(&caller), collects, "{name}");
        assert_eq!(policy.may_record_consents(&caller), collects, "{name}");
        assert_eq!(policy.may_manage_subjects(&caller), collects, "{name}");
    }
    let named: Vec<_> = policy.caller_names().into_iter().map(ToString::to_string).collect();
    assert_eq!(named, ["backend", "payments", "rights", "support"]);
    assert_eq!(policy.event(&"payment".parse().unwrap()).unwrap().clause, "5.1");
    assert!(policy.event(&"moonrise".parse().unwrap()).is_none());
    let own: Vec<_> = policy.purposes_of(&caller("payments")).map(|(name, _)| name.to_string()).collect();
    assert_eq!(own, ["pay"]);
    let agreement = shipped(AITUBE).agreement.unwrap();
    assert_eq!((agreement.edition.as_str(), agreement.clause.as_str()), ("2026-01-01", "1.6, 1.7, 2.5, 2.6"));
    assert!(policy.agreement.is_none());
}

#[test]
fn views_fit_the_types_that_can_answer_them() {
    for view in View::ALL {
        assert_eq!(view.is_derived(), !matches!(view, View::Full | View::Masked), "{view:?}");
        for field_type in FieldType::ALL {
            let fits = match view {
                View::Full | View::Masked => true,
                View::AgeAtLeast | View::BirthDate | View::BirthYear => {
                    [FieldType::Iin, FieldType::Date].contains(field_type)
                }
                View::Sex => *field_type == FieldType::Iin,
            };
            assert_eq!(view.fits(*field_type), fits, "{view:?} of {field_type:?}");
        }
    }
}

/// A field of images that a purpose names.
fn with_image(kind: &str, category: &str, more: &str) -> Result<Policy, Vec<Problem>> {
    let field = format!(
        "[[field]]\nname = \"scan\"\ntype = \"{kind}\"\ncategory = \"{category}\"\n{more}collected_by = [\"backend\"]\n\
         clause = \"7.2\"\n\n[[purpose]]\nname = \"pay\""
    );
    let named = "{ name = \"email\", given = \"stated\", clause = \"11.3\" },";
    let both = format!("{named}\n{{ name = \"scan\", given = \"stated\", clause = \"11.4\" }},");
    small(&[("[[purpose]]\nname = \"pay\"", &field), (named, &both)])
}

#[test]
fn images_have_limits_and_nothing_else_has() {
    let limits = |kind, category, more| {
        let policy = with_image(kind, category, more).unwrap_or_else(|problems| panic!("{problems:#?}"));
        policy.field(&"scan".parse().unwrap()).unwrap().image
    };
    let default = Some(ImageLimits { max_bytes: 10_485_760, max_versions: 5 });
    assert_eq!(limits("document_image", "ordinary", ""), default);
    assert_eq!(limits("face_image", "biometric", ""), default);
    let set = "max_bytes = 1000\nmax_versions = 2\n";
    let given = Some(ImageLimits { max_bytes: 1_000, max_versions: 2 });
    assert_eq!(limits("document_image", "ordinary", set), given);
    assert_eq!(limits("text", "ordinary", ""), None);
    let rules = |kind, category, more| -> Vec<String> {
        with_image(kind, category, more).unwrap_err().into_iter().map(|problem| problem.rule).collect()
    };
    assert_eq!(
        rules("text", "ordinary", set),
        ["max_bytes stands only in a field of images", "max_versions stands only in a field of images"]
    );
    let unknown = rules("star_sign", "ordinary", set);
    assert!(
        unknown.len() == 1 && unknown[0].contains("field type"),
        "of an unknown type nothing is judged: {unknown:?}"
    );
    assert_eq!(rules("face_image", "ordinary", "").len(), 1);
    assert_eq!(rules("document_image", "ordinary", "unique = true\n"), ["unique: images are not compared"]);
}

#[test]
fn what_is_derived_comes_from_what_is_not() {
    let field = |name: &str, from: &str, category: &str| {
        format!(
            "[[field]]\nname = \"{name}\"\ntype = \"text\"\ncategory = \"{category}\"\nderived_from = [\"{from}\"]\n\
             collected_by = [\"backend\"]\nclause = \"7.3\"\n\n"
        )
    };
    let named = "{ name = \"email\", given = \"stated\", clause = \"11.3\" },";
    let both = format!(
        "{named}\n{{ name = \"score\", given = \"stated\", clause = \"1\" }},\n{{ name = \"rank\", given = \"stated\", clause = \"1\" }},"
    );
    let place = "[[purpose]]\nname = \"pay\"";
    let of = |score: &str, rank: &str, category: &str| {
        let fields = field("score", score, "ordinary") + &field("rank", rank, category) + place;
        small(&[(place, &fields), (named, &both)])
    };
    let policy = of("email", "email", "ordinary").unwrap();
    let ask = policy.purpose(&"ask".parse().unwrap()).unwrap();
    assert!(policy.decides_by_machine(ask), "what is computed decides by machine, also unmarked");
    assert!(!policy.decides_by_machine(policy.purpose(&"pay".parse().unwrap()).unwrap()));
    let score = policy.field(&"score".parse().unwrap()).unwrap();
    assert_eq!(score.sources_of_derived(), ["email".parse().unwrap()]);
    let chained = of("email", "score", "ordinary").unwrap_err();
    assert!(chained.len() == 1 && chained[0].rule.contains("score is derived itself"), "{chained:#?}");
    assert!(of("email", "email", "telemetry").is_ok(), "stricter than its source");
    let looser = of("email", "email", "public").unwrap_err();
    assert!(looser.len() == 1 && looser[0].rule.contains("no looser (rule R52)"), "{looser:#?}");
}

#[test]
fn a_purpose_without_a_term_is_refused_where_nothing_caps_it() {
    let cap = "[[cap]]\nyears = 3\nafter = \"consent\"\nclause = \"6\"\n";
    refused(&[(cap, "")], "no term ends the purpose");
    assert!(small(&[]).unwrap().retention_of("ask").ends().is_empty(), "the cap ends it");
    let ends =
        "retention = { clause = \"11.2\", ends = [{ days = 9, after = \"consent\", clause = \"11.2\" }] }";
    assert!(small(&[(cap, ""), ("retention = { clause = \"11.2\" }", ends)]).is_ok());
    let missing = "retention = { clause = \"11.2\", ends = [{ days = 9, after = \"consent\", missing = \"collection\", clause = \"1\" }] }";
    refused(&[("retention = { clause = \"11.2\" }", missing)], "beside a span after an event");
}

#[test]
fn a_recipient_lies_in_kazakhstan_unless_the_policy_says_anywhere() {
    let bank = "{ kind = \"bank\", clause = \"8.6\"";
    let of = |country: &str| format!("{bank}, country = \"{country}\"");
    for (written, abroad) in [(bank.to_owned(), false), (of("KZ"), false), (of("any"), true)] {
        let policy = small(&[(bank, &written)]).unwrap_or_else(|problems| panic!("{problems:#?}"));
        let pay = policy.purpose(&"pay".parse().unwrap()).unwrap();
        let rule = pay.recipient(RecipientKind::Bank).unwrap();
        assert_eq!(rule.abroad, abroad, "{written}");
        assert!(rule.allows_country(CountryCode::KZ), "{written}");
        assert_eq!(rule.allows_country("DE".parse().unwrap()), abroad, "{written}");
    }
    for country in ["DE", "kz", "Any"] {
        refused(&[(bank, &of(country))], "`KZ`, or `any`");
    }
}

#[test]
fn what_nobody_reads_by_needs_no_act_of_its_own() {
    let idle = "inert = \"the text names no data\"";
    assert!(small(&[(idle, &format!("{idle}\nadvertising = true"))]).is_ok());
    let ask = "callers = [\"support\"]";
    let channels = "channels = [{ name = \"email\", given = \"stated\", clause = \"11.3\" }]";
    let ask_and = |marks: &str| format!("{marks}\n{channels}\n{ask}");
    refused(&[(ask, &format!("advertising = true\nseparate = true\n{ask}"))], "must say by which channels");
    assert!(small(&[(ask, &ask_and("advertising = true\nseparate = true"))]).is_ok());
    assert!(
        small(&[(ask, &ask_and("separate = true"))]).is_ok(),
        "people are reached for more than advertising"
    );
}

#[test]
fn names_of_the_law_are_no_events_of_a_policy() {
    let event = "[[event]]\nname = \"payment\"";
    let with = |name: &str| {
        format!("[[event]]\nname = \"{name}\"\nrecorded_by = [\"backend\"]\nclause = \"5\"\n\n{event}")
    };
    refused(&[(event, &with("automated_decisions_objection"))], "the law's own");
    refused(&[(event, &with("value_accuracy"))], "the law's own");
    refused(&[(event, &with("collection"))], "terms count from without an event");
    assert!(small(&[(event, &with("something_else"))]).is_ok());
}

#[test]
fn spans_of_one_length_are_no_longer_one_than_the_other() {
    let (years, months) =
        (small(&[]).unwrap(), small(&[("[[cap]]\nyears = 3", "[[cap]]\nmonths = 36")]).unwrap());
    for (old, new) in [(&years, &months), (&months, &years)] {
        let changes = diff(old, new);
        assert!(changes.len() == 1 && changes[0].effect == Effect::Narrows, "{changes:#?}");
    }
}

impl Policy {
    fn retention_of(&self, purpose: &str) -> &Retention {
        &self.purpose(&purpose.parse().unwrap()).unwrap().retention
    }
}
