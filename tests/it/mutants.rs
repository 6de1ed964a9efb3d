//! The table of docs/two-people.md: each check of the rule of two people, and the tests that fail without it. Here it is held
//! to the code and to the tests; `scripts/mutants` takes each check out and sees the tests fail.

use std::{collections::BTreeSet, fs, path::Path};

use serde::Deserialize;

#[derive(Deserialize)]
struct List {
    mutant: Vec<Mutant>,
}

#[derive(Deserialize)]
struct Mutant {
    check: String,
    file: String,
    old: String,
    new: String,
    tests: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn list() -> Vec<Mutant> {
    let text = fs::read_to_string(root().join("tests/mutants/two_people.toml")).unwrap();
    toml::from_str::<List>(&text).unwrap().mutant
}

/// The source of a module of the tests.
fn module(name: &str) -> String {
    let path = root().join("tests/it").join(name);
    let file = path.with_extension("rs");
    fs::read_to_string(if file.exists() { file } else { path.join("mod.rs") }).unwrap()
}

#[test]
fn each_check_is_in_the_code_and_each_test_exists() {
    for Mutant { check, file, old, new, tests } in list() {
        let source = fs::read_to_string(root().join(&file)).unwrap();
        assert_eq!(source.matches(&old).count(), 1, "{check}: its code is not once in {file}");
        assert_ne!(old, new, "{check}");
        assert!(!tests.is_empty(), "{check}");
        for test in tests {
            let (place, name) = test.split_once("::").unwrap();
            let source = module(place);
            let found =
                source.contains(&format!("on_both!({name});")) || source.contains(&format!("fn {name}()"));
            assert!(found, "{check}: there is no test {test}");
        }
    }
}

#[test]
fn the_table_in_the_documents_is_the_list() {
    let docs = fs::read_to_string(root().join("docs/two-people.md")).unwrap();
    let rows: BTreeSet<String> = docs
        .lines()
        .filter(|line| line.starts_with("| ") && line.contains("::"))
        .map(str::to_owned)
        .collect();
    let tests = |mutant: &Mutant| {
        let tests: Vec<_> = mutant.tests.iter().map(|test| format!("`{test}`")).collect();
        tests.join("<br>")
    };
    let wanted: BTreeSet<String> =
        list().iter().map(|m| format!("| {} | `{}` | {} |", m.check, m.file, tests(m))).collect();
    assert_eq!(rows, wanted);
}
