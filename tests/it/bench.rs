//! `sandyq bench` in small: every scenario on both stores, a hundred calls each. What is looked at is that calls were
//! answered and that the JSON has its shape, not how fast anything was.

use std::process::{Command, Output};

use serde_json::Value;

use crate::common::backend::{Backend, on_both};

/// Keys of one scenario, as docs/performance.md lists them.
const KEYS: [&str; 21] = [
    "scenario",
    "load",
    "concurrency",
    "rate",
    "calls",
    "failed",
    "failures",
    "calls_per_second",
    "items_per_second",
    "ratio_to_echo",
    "ratio_to_select",
    "p50_us",
    "p99_us",
    "max_us",
    "p50_ratio_to_select",
    "p99_ratio_to_select",
    "server_cpu_us",
    "database_cpu_us",
    "cpu_ratio_to_echo",
    "server_peak_bytes",
    "commits_per_call",
];
const PERFORMANCE: &str = include_str!("../../docs/performance.md");

fn bench(backend: &Backend, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandyq"));
    command.args(["--json", "bench", "--rounds", "1", "--subjects", "50", "--calls", "100"]).args(args);
    match backend {
        Backend::Sqlite => command.args(["--store", "sqlite"]),
        Backend::Postgres(url) => command.args(["--store", "postgres", "--postgres", url]),
    };
    command.output().unwrap()
}

fn report(output: &Output) -> Value {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// The row of a scenario.
fn row<'a>(report: &'a Value, scenario: &str, load: &str) -> &'a Value {
    let rows = report["scenarios"].as_array().unwrap();
    let found = rows.iter().find(|row| row["scenario"] == scenario && row["load"] == load);
    found.unwrap_or_else(|| panic!("no {scenario} in a {load} loop: {report:#}"))
}

async fn calls_are_answered_and_measured(backend: Backend) {
    let report = report(&bench(&backend, &["--scenario", "detokenize", "--concurrency", "4"]));
    assert_eq!((report["format"].as_u64(), report["subjects"].as_u64()), (Some(1), Some(50)));
    for scenario in ["echo", "select", "detokenize"] {
        for load in ["closed", "open"] {
            let row = row(&report, scenario, load);
            let keys: Vec<_> = row.as_object().unwrap().keys().map(String::as_str).collect();
            assert!(keys.len() == KEYS.len() && KEYS.iter().all(|key| keys.contains(key)), "{keys:?}");
            assert_eq!((row["calls"].as_u64(), row["failed"].as_u64()), (Some(100), Some(0)), "{row:#}");
            for figure in ["calls_per_second", "p50_us", "p99_us", "ratio_to_echo", "ratio_to_select"] {
                assert!(row[figure].as_f64().unwrap() > 0.0, "{figure}: {row:#}");
            }
            assert!(row["p99_us"].as_f64() >= row["p50_us"].as_f64());
            assert!(row["server_cpu_us"].is_number() && row["server_peak_bytes"].as_u64() > Some(1 << 20));
        }
        // Four callers at once, and so many calls a second: a call takes about that long, or times are not what they say.
        let closed = row(&report, scenario, "closed");
        let mean = 4.0 * 1_000_000.0 / closed["calls_per_second"].as_f64().unwrap();
        assert!(closed["max_us"].as_f64().unwrap() > mean / 2.0, "calls took {mean} µs: {closed:#}");
        let of_database = row(&report, scenario, "closed")["database_cpu_us"].is_number();
        assert_eq!(of_database, matches!(backend, Backend::Postgres(_)) && scenario != "echo");
    }
    // What is read is logged first: the vault commits, and no more often than it is called.
    let commits = row(&report, "detokenize", "closed")["commits_per_call"].as_f64().unwrap();
    assert!(commits > 0.0 && commits <= 1.5, "{commits}");
    assert!(row(&report, "select", "closed")["commits_per_call"].is_null());
    let says = |setting: &str| report["database"][setting].as_str().unwrap_or_default().to_owned();
    match backend {
        // 2 is FULL.
        Backend::Sqlite => {
            assert_eq!((says("journal_mode"), says("synchronous")), ("wal".into(), "2".into()));
        }
        Backend::Postgres(_) => {
            assert_eq!(says("synchronous_commit"), "on");
            assert_eq!(says("fsync"), "on");
        }
    }
}
on_both!(calls_are_answered_and_measured);

#[test]
fn a_bench_says_what_it_needs() {
    let wrong = |args: &[&str], expected: &str| {
        let output = Command::new(env!("CARGO_BIN_EXE_sandyq")).arg("bench").args(args).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(output.status.code() == Some(2) && said.contains(expected), "{said}");
    };
    wrong(&["--store", "postgres"], "--postgres");
    wrong(&["--scenario", "nothing"], "possible values");
    wrong(&["--share", "0"], "above zero");
    wrong(&["--concurrency", "0"], "not in");
}

/// A database that somebody uses is left alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_in_use_is_refused() {
    let backend = Backend::postgres().await;
    report(&bench(&backend, &["--scenario", "echo", "--concurrency", "1"]));
    let again = bench(&backend, &["--scenario", "echo", "--concurrency", "1"]);
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.status.code() == Some(1) && said.contains("wants an empty database"), "{said}");
}

#[test]
fn every_key_is_described() {
    for key in KEYS {
        assert!(PERFORMANCE.contains(&format!("| `{key}` |")), "docs/performance.md does not describe {key}");
    }
}
