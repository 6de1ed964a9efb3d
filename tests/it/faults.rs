//! `docs/faults.md` (and the table of `docs/residency.md`): every fault of the catalogue has its row, every test that a row names is there, and each fault whose tests stand
//! here was shown to do harm without what keeps it from it.

use std::{collections::BTreeSet, fs, path::Path};

use crate::mutants::{is_test, list};

/// Faults of the catalogue.
const FAULTS: u32 = 25;

struct Row {
    fault: u32,
    happens: String,
    holds: String,
    tests: Vec<String>,
}

/// The cells of a line of a table.
fn cells(line: &str) -> Vec<&str> {
    line.trim_matches('|').split('|').map(str::trim).collect()
}

fn rows() -> Vec<Row> {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/faults.md")).unwrap();
    let row = |line: &str| {
        let [fault, happens, holds, tests] = cells(line)[..] else { return None };
        let tests = tests.split("<br>").map(|test| test.trim_matches('`').to_owned());
        let (happens, holds) = (happens.to_owned(), holds.to_owned());
        Some(Row { fault: fault.parse().ok()?, happens, holds, tests: tests.collect() })
    };
    page.lines().filter(|line| line.starts_with("| ")).filter_map(row).collect()
}

#[test]
fn every_fault_has_its_row_and_its_tests_exist() {
    let rows = rows();
    assert_eq!(rows.iter().map(|row| row.fault).collect::<Vec<_>>(), (1..=FAULTS).collect::<Vec<_>>());
    for Row { fault, happens, holds, tests } in rows {
        assert!(!happens.is_empty() && !holds.is_empty(), "{fault}");
        if tests == ["open"] {
            continue;
        }
        for test in tests {
            assert!(is_test(&test), "fault {fault}: the test {test} does not exist");
        }
    }
}

/// `docs/residency.md` says of each kind of place which test shows its refusal, at the start and at a new connection.
#[test]
fn every_place_has_tests_of_its_refusals() {
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/residency.md")).unwrap();
    let (_, table) = page.split_once("## Which test shows it").unwrap();
    let (table, _) = table.split_once("\n## ").unwrap();
    let rows: Vec<Vec<_>> = table.lines().filter(|line| line.starts_with("| ")).skip(1).map(cells).collect();
    assert_eq!(rows.len(), 6, "database, replica, documents, mirror, root key, collector");
    for row in rows {
        let [place, start, connection] = row[..] else { panic!("{row:?}") };
        for cell in [start, connection] {
            let named: Vec<_> = cell.split('`').filter(|word| word.starts_with("residency::")).collect();
            assert!(!named.is_empty(), "{place}");
            for test in named {
                assert!(is_test(test), "{place}: there is no test {test}");
            }
        }
    }
}

/// These are what `tests/mutants/faults.toml` is about; the others' tests show their own controls.
#[test]
fn each_fault_was_shown_to_do_harm() {
    let wanted: BTreeSet<u32> = (4..=12).chain([15, 16, 17, 18, 19, 20, 22, 24]).collect();
    let of = |check: &str| -> Vec<u32> {
        let (faults, _) = check.split_once(": ").unwrap();
        faults.split(", ").map(|fault| fault.parse().unwrap()).collect()
    };
    let shown: BTreeSet<u32> = list("faults").iter().flat_map(|mutant| of(&mutant.check)).collect();
    assert_eq!(shown, wanted);
}
