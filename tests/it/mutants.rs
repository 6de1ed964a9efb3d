//! Checks and the tests that fail without them: tables of the pages below. Here they are held to the code and
//! to the tests; `scripts/mutants` takes each check out and sees the tests fail.

use std::{collections::BTreeSet, fs, path::Path};

use serde::Deserialize;

/// Lists with the pages that show them.
const LISTS: [(&str, &str); 3] =
    [("two_people", "docs/two-people.md"), ("rekey", "docs/cryptography.md"), ("faults", "docs/faults.md")];

#[derive(Deserialize)]
struct List {
    mutant: Vec<Mutant>,
}

#[derive(Deserialize)]
pub struct Mutant {
    pub check: String,
    file: String,
    old: String,
    new: String,
    tests: Vec<String>,
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The mutants of a list.
pub fn list(name: &str) -> Vec<Mutant> {
    let text = fs::read_to_string(root().join(format!("tests/mutants/{name}.toml"))).unwrap();
    toml::from_str::<List>(&text).unwrap().mutant
}

/// Whether there is a test of this name, such as `module::name`.
pub fn is_test(test: &str) -> bool {
    let Some((place, name)) = test.rsplit_once("::") else { return false };
    let path = root().join("tests/it").join(place.replace("::", "/"));
    let file = path.with_extension("rs");
    let file = if file.exists() { file } else { path.join("mod.rs") };
    let source = fs::read_to_string(file).unwrap_or_default();
    // On both stores, perhaps with a comment before its name; or on its own.
    let forms = [format!("on_both!({name});"), format!("\n    {name}\n);"), format!("fn {name}()")];
    forms.iter().any(|form| source.contains(form))
}

#[test]
fn each_check_is_in_the_code_and_each_test_exists() {
    for Mutant { check, file, old, new, tests } in LISTS.iter().flat_map(|(name, _)| list(name)) {
        let source = fs::read_to_string(root().join(&file)).unwrap();
        assert_eq!(source.matches(&old).count(), 1, "{check}: its code is not once in {file}");
        assert_ne!(old, new, "{check}");
        assert!(!tests.is_empty(), "{check}");
        for test in tests {
            assert!(is_test(&test), "{check}: there is no test {test}");
        }
    }
}

#[test]
fn the_tables_in_the_documents_are_the_lists() {
    for (name, page) in LISTS {
        let docs = fs::read_to_string(root().join(page)).unwrap();
        let rows: BTreeSet<String> = docs
            .lines()
            .filter(|line| line.starts_with("| ") && line.contains("| `src/"))
            .map(str::to_owned)
            .collect();
        let tests = |mutant: &Mutant| {
            let tests: Vec<_> = mutant.tests.iter().map(|test| format!("`{test}`")).collect();
            tests.join("<br>")
        };
        let row = |m: &Mutant| format!("| {} | `{}` | {} |", m.check, m.file, tests(m));
        let wanted: BTreeSet<String> = list(name).iter().map(row).collect();
        assert_eq!(rows, wanted, "{page}");
    }
}

/// What `scripts/mutants-policy` lets live: each with a file that is there and a reason, and none twice.
#[test]
fn each_survivor_of_the_policies_has_a_reason() {
    #[derive(Deserialize)]
    struct Survivor {
        name: String,
        why: String,
    }
    #[derive(Deserialize)]
    struct Survivors {
        mutant: Vec<Survivor>,
    }
    let text = fs::read_to_string(root().join("tests/survivors.toml")).unwrap();
    let Survivors { mutant } = toml::from_str(&text).unwrap();
    let names: BTreeSet<_> = mutant.iter().map(|survivor| survivor.name.as_str()).collect();
    assert_eq!(names.len(), mutant.len(), "none stands twice");
    for Survivor { name, why } in &mutant {
        let (file, what) = name.split_once(": ").unwrap_or_else(|| panic!("{name}"));
        assert!(file.starts_with("src/policy/") && root().join(file).is_file(), "{name}");
        assert!(what.contains(" with ") || what.starts_with("delete "), "{name}");
        assert!(why.len() > 20, "{name}: why is it not killed?");
    }
}
