//! The five shipped files: they hold what their texts say, and leave open what an operator must decide.

use super::*;

pub(super) const EXPERIMENTUM: &str = include_str!("../../../../policies/experimentum.toml");
pub(super) const EDOOX: &str = include_str!("../../../../policies/edoox.toml");
pub(super) const CAP: &str = include_str!("../../../../policies/cap.toml");
pub(super) const AITUBE: &str = include_str!("../../../../policies/aitube.toml");

/// Every shipped file with what an operator must decide in it, and a synthetic decision.
const SHIPPED: [(&str, &[(&str, &str)]); 5] = [
    (LERNA, &[]),
    (EXPERIMENTUM, &[("min_age", "18")]),
    (EDOOX, &[("effective", "\"2026-01-01\"")]),
    (CAP, &[("effective", "\"2026-01-01\""), ("min_age", "18")]),
    (
        AITUBE,
        &[
            ("bin", "\"211140009394\""),
            ("effective", "\"2026-01-01\""),
            ("edition", "\"2026-01-01\""),
            ("withdrawal_address", "\"the address of the agreement\""),
            ("min_age", "18"),
        ],
    ),
];

/// A shipped file, decided.
pub(super) fn shipped(text: &str) -> Policy {
    let (_, settings) = SHIPPED.iter().find(|(shipped, _)| *shipped == text).unwrap();
    Policy::parse(&with_settings(text, settings)).unwrap_or_else(|e| panic!("{e}"))
}

fn purpose<'a>(policy: &'a Policy, name: &str) -> &'a Purpose {
    policy.purpose(&name.parse().unwrap()).unwrap_or_else(|| panic!("{name}"))
}

#[test]
fn undecided_files_are_refused_for_each_decision_and_nothing_else() {
    for (text, settings) in SHIPPED {
        let problems = Policy::check(text).err().unwrap_or_default();
        assert_eq!(problems.len(), settings.len(), "{problems:#?}");
        for (key, _) in settings {
            let open = format!("{key} = \"operator-must-set\"");
            let line = text.lines().position(|line| line.starts_with(&open)).unwrap() + 1;
            let problem = problems.iter().find(|p| p.line == line).unwrap_or_else(|| panic!("{key}"));
            assert!(problem.rule.contains("must set") && problem.rule.contains("stricter"), "{problem}");
        }
        shipped(text);
    }
}

#[test]
fn every_contradiction_has_its_resolution_beside_a_line() {
    for (text, letter, count) in
        [(EXPERIMENTUM, 'E', 9), (EDOOX, 'X', 12), (LERNA, 'L', 20), (CAP, 'K', 9), (AITUBE, 'T', 16)]
    {
        let comments: String =
            text.lines().filter_map(|line| line.split_once('#')).map(|(_, comment)| comment).collect();
        for number in 1..=count {
            let id = format!("C-{letter}{number}");
            let named = |end: char| comments.contains(&format!("{id}{end}"));
            assert!([')', ';', ',', ' '].into_iter().any(named), "{id}");
        }
    }
}

#[test]
fn every_purpose_has_its_fields_or_says_why_not() {
    // Purposes of each text, inert ones among them.
    for (text, purposes, inert) in
        [(EXPERIMENTUM, 5, 0), (EDOOX, 12, 0), (LERNA, 12, 3), (CAP, 13, 1), (AITUBE, 17, 1)]
    {
        let policy = shipped(text);
        assert_eq!(policy.purposes().count(), purposes, "{}", policy.operator.name);
        let idle: Vec<_> = policy.purposes().filter(|(_, p)| p.fields().next().is_none()).collect();
        assert!(idle.iter().all(|(_, p)| p.inert.is_some() && p.recipients().is_empty()));
        assert_eq!(idle.len(), inert, "{}", policy.operator.name);
    }
}

#[test]
fn experimentum_releases_to_authorities_alone() {
    let policy = shipped(EXPERIMENTUM);
    assert!(policy.purposes().flat_map(|(_, p)| p.recipients()).all(|rule| rule.kind.is_authority()));
    assert_eq!(policy.consent.completed_by.as_ref().unwrap().event.as_str(), "first_login");
    assert_eq!(policy.effective_at().to_string(), "2026-01-20T19:00:00.000000Z");
    let claims = purpose(&policy, "claims");
    assert!(claims.needs_reference() && !claims.covers(&"cookies".parse().unwrap()));
    let name = policy.field(&"full_name".parse().unwrap()).unwrap();
    assert!(name.accepts_source(ValueSource::Partner) && !name.accepts_source(ValueSource::Public));
}

#[test]
fn edoox_discloses_to_partners_in_writing_and_sells_nothing() {
    let policy = shipped(EDOOX);
    let partners = purpose(&policy, "partner_access");
    assert!(partners.accepts_act(ConsentAct::Written) && !partners.accepts_act(ConsentAct::Tick));
    let with_partner: Vec<_> = policy
        .purposes()
        .filter(|(_, p)| p.recipients().iter().any(|rule| !rule.kind.is_authority()))
        .map(|(name, _)| name.as_str())
        .collect();
    assert_eq!(with_partner, ["partner_access"]);
    for barred in [BanKind::Sale, BanKind::Exchange, BanKind::Publication] {
        assert_eq!(policy.ban(barred).unwrap().clause, "6.2.2");
    }
    let history = "purchase_history".parse().unwrap();
    let control = purpose(&policy, "payment_control");
    assert!(control.covers(&history) && !control.recipient(RecipientKind::State).unwrap().covers(&history));
    assert_eq!(policy.subject.min_age, 16);
    assert!(
        policy.accepts_kind(SubjectKind::Legal) && policy.field(&"iin".parse().unwrap()).unwrap().is_unique()
    );
    assert!(policy.field(&"iin".parse().unwrap()).unwrap().accepts_source(ValueSource::StateDatabase));
}

#[test]
fn lerna_seals_what_leaves_and_sends_no_telemetry() {
    let policy = shipped(LERNA);
    for (name, purpose) in policy.purposes() {
        for rule in purpose.recipients().iter().filter(|rule| rule.kind != RecipientKind::Public) {
            assert!(rule.encrypted, "{name}");
            for (field, _) in purpose.fields().filter(|(field, _)| rule.covers(field)) {
                assert_eq!(policy.field(field).unwrap().category, Category::Ordinary, "{name}: {field}");
            }
        }
    }
}

#[test]
fn cap_takes_consent_where_the_text_takes_a_contract_or_an_interest() {
    let policy = shipped(CAP);
    for (name, declared) in [
        ("education", DeclaredBasis::Contract),
        ("contract", DeclaredBasis::Contract),
        ("improve", DeclaredBasis::LegitimateInterest),
        ("security", DeclaredBasis::LegitimateInterest),
    ] {
        let basis = &purpose(&policy, name).basis;
        assert_eq!((&basis.kind, basis.declared), (&BasisKind::Consent, Some(declared)), "{name}");
    }
    let abroad: Vec<_> = policy
        .purposes()
        .filter(|(_, p)| {
            p.recipients().iter().any(|rule| rule.abroad && rule.kind != RecipientKind::Analytics)
        })
        .collect();
    assert!(abroad.is_empty(), "only analytics go abroad (9)");
}

#[test]
fn aitube_tells_nobody_what_users_write_and_waits_seven_days() {
    let policy = shipped(AITUBE);
    let message = "message".parse().unwrap();
    assert!(policy.purposes().all(|(_, p)| !p.covers(&message) || p.recipients().is_empty()));
    let week = 7 * 86_400_000_000;
    assert_eq!(policy.governs_from(), policy.effective_at().plus_micros(week));
    assert!(policy.fields().all(|(_, f)| !matches!(f.category, Category::Biometric | Category::Special)));
    let publication = purpose(&policy, "contest_publication");
    assert!(publication.is(Mark::Publication) && publication.is(Mark::Separate));
    assert!(!purpose(&policy, "contests").is(Mark::Publication));
    assert!(purpose(&policy, "market_research").recipients().is_empty());
}

#[test]
fn r7_events_that_refuse_a_withdrawal_are_known() {
    for text in [EXPERIMENTUM, AITUBE] {
        let policy = shipped(text);
        assert!(policy.refuses_withdrawal(&"withdrawal_refused".parse().unwrap()));
        assert!(!policy.refuses_withdrawal(&"first_login".parse().unwrap()));
    }
    assert!(!shipped(LERNA).refuses_withdrawal(&"withdrawal_refused".parse().unwrap()));
}
