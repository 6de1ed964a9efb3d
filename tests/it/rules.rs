//! `docs/rules.md`: every rule has its row, and every item and test that a row names is there.

use std::{collections::BTreeMap, fs, path::Path};

use crate::scenarios::file::{Scenario, all};

struct Row {
    rule: u32,
    clauses: String,
    code: String,
    test: String,
    /// Empty, or the test that runs against a served vault on both databases.
    served: String,
    scenarios: String,
    state: String,
}

fn rows() -> Vec<Row> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/rules.md")).unwrap();
    let row = |line: &str| {
        let cells: Vec<_> = line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect();
        let [rule, what, clauses, code, test, served, scenarios, state] = &cells[..] else {
            panic!("{line}")
        };
        assert!(!what.is_empty(), "{line}");
        Row {
            rule: rule.trim_start_matches('R').parse().unwrap(),
            clauses: clauses.clone(),
            code: code.clone(),
            test: test.clone(),
            served: if served == "the same" { test.clone() } else { served.clone() },
            scenarios: scenarios.clone(),
            state: state.clone(),
        }
    };
    page.lines().filter(|line| line.starts_with("| R") && !line.starts_with("| rule")).map(row).collect()
}

/// Whether a file has the item: a function, a type, or a constant of that name.
fn exists(named: &str) -> bool {
    let (path, item) = named.trim_matches('`').split_once("::").unwrap_or_else(|| panic!("{named}"));
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default();
    ["fn", "struct", "enum", "const", "trait"].iter().any(|kind| {
        text.match_indices(&format!("{kind} {item}")).any(|(at, found)| {
            let next = text[at + found.len()..].chars().next();
            next.is_none_or(|next| !next.is_alphanumeric() && next != '_')
        })
    })
}

/// Whether the test of that name is one: marked, or run on both stores.
fn is_test(named: &str) -> bool {
    let (path, item) = named.trim_matches('`').split_once("::").unwrap();
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default();
    let before = |lines: &[&str]| {
        lines.iter().any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"))
    };
    let lines: Vec<_> = text.lines().map(str::trim).collect();
    let at = lines.iter().position(|line| {
        let line = line.trim_start_matches("async ");
        line.strip_prefix(&format!("fn {item}")).is_some_and(|rest| rest.starts_with('('))
    });
    text.contains(&format!("on_both!({item});"))
        || at.is_some_and(|at| before(&lines[at.saturating_sub(3)..at]))
}

/// What a test calls that serves an installation.
const SERVING: [&str; 8] = [
    "Served::start",
    "House::new(",
    "served(&backend)",
    "with_staff(&backend)",
    "answered(",
    "with(&",
    "after_edit(&backend",
    "installation_on(&backend",
];

/// Whether the test of that name is of the integration tests, runs on both databases, and serves an installation.
fn is_served(named: &str) -> bool {
    let (path, item) = named.trim_matches('`').split_once("::").unwrap_or_default();
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(path)).unwrap_or_default();
    let body = text.split_once(&format!("async fn {item}(")).map_or("", |(_, rest)| rest);
    let body = body.split_once("\n}\n").map_or(body, |(body, _)| body);
    path.starts_with("tests/it/")
        && text.contains(&format!("on_both!({item});"))
        && SERVING.iter().any(|call| body.contains(call))
}

/// Whether a test's name begins with the number of the rule, perhaps among others: `r10_r49_…`.
fn is_named_for(test: &str, rule: u32) -> bool {
    let name = test.trim_matches('`').rsplit("::").next().unwrap_or_default();
    let number = |word: &str| word.strip_prefix('r').and_then(|digits| digits.parse::<u32>().ok());
    name.split('_').map_while(number).any(|named| named == rule)
}

/// Which scenarios say of themselves that they show a rule.
fn shown_by_scenarios() -> BTreeMap<u32, Vec<String>> {
    let mut shown: BTreeMap<u32, Vec<String>> = BTreeMap::new();
    for path in all() {
        let scenario = Scenario::load(&path).unwrap();
        for rule in &scenario.head.rules {
            let number: u32 = rule.strip_prefix('R').and_then(|n| n.parse().ok()).unwrap();
            assert!((1..=54).contains(&number), "{}: {rule}", scenario.name);
            shown.entry(number).or_default().push(scenario.name.clone());
        }
    }
    shown
}

#[test]
fn every_rule_has_its_row_and_every_name_in_it_exists() {
    let rows = rows();
    assert_eq!(rows.iter().map(|row| row.rule).collect::<Vec<_>>(), (1..=54).collect::<Vec<_>>());
    let shown = shown_by_scenarios();
    for Row { rule, clauses, code, test, served, scenarios, state } in rows {
        assert!(!clauses.is_empty(), "R{rule}");
        assert_eq!(scenarios, shown.get(&rule).map_or(String::new(), |names| names.join(", ")), "R{rule}");
        let word = state.split(':').next().unwrap();
        assert!(["built", "partly", "record", "absent"].contains(&word), "R{rule}: {state}");
        assert_eq!(state.contains(':'), matches!(word, "partly" | "record"), "R{rule} says what is absent");
        if word == "absent" {
            assert!(code.is_empty() && test.is_empty() && served.is_empty(), "R{rule}");
            continue;
        }
        assert!(exists(&code), "R{rule}: {code} does not exist");
        assert!(exists(&test) && is_test(&test), "R{rule}: the test {test} does not exist");
        assert!(is_named_for(&test, rule), "R{rule}: the test {test} is not named for it");
        assert!(word == "record" || !served.is_empty(), "R{rule} has no test over the service");
        assert!(
            served.is_empty() || is_served(&served),
            "R{rule}: {served} serves nothing on both databases"
        );
        assert!(served.is_empty() || is_named_for(&served, rule), "R{rule}: {served} is not named for it");
    }
}

#[test]
fn what_does_not_exist_is_seen() {
    assert!(exists("`src/policy/decide.rs::may_ask`"));
    assert!(!exists("`src/policy/decide.rs::may_as`"), "a part of a name is none");
    assert!(!exists("`src/policy/nowhere.rs::may_ask`"));
    assert!(!is_test("`src/policy/decide.rs::may_ask`"), "a function is no test");
    assert!(is_test("`tests/it/rules.rs::what_does_not_exist_is_seen`"));
    assert!(is_test("`tests/it/consents.rs::a_term_ends`"));
    assert!(is_served("`tests/it/consents.rs::a_withdrawal_binds_at_once_and_for_its_purpose_alone`"));
    assert!(!is_served("`tests/it/consents.rs::a_term_ends`"), "the vault without a service");
    assert!(!is_served("`tests/it/policies.rs::problems_are_told_with_their_lines`"), "on one database");
    assert!(!is_served("`src/policy/decide/tests/named.rs::r1_every_read_names_a_declared_purpose`"));
    assert!(is_named_for("`a.rs::r10_r49_a_sweep`", 49) && is_named_for("`a.rs::r1_reads`", 1));
    assert!(!is_named_for("`a.rs::r10_a_sweep`", 1) && !is_named_for("`a.rs::a_sweep_r10`", 10));
}
