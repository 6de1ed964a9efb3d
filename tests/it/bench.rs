//! `sandyq bench` in small: every scenario on both stores, a few calls each. What is looked at is that calls were answered
//! and that the JSON has its shape, not how fast anything was.

use std::process::{Command, Output};

use serde_json::Value;

use crate::common::{
    backend::{Backend, on_both},
    served::Served,
};

/// Keys of a scenario of calls, in the order of the alphabet.
const CALLS: [&str; 23] = [
    "calls",
    "calls_per_second",
    "commits_per_call",
    "concurrency",
    "cpu_ratio_to_echo",
    "database_cpu_us",
    "failed",
    "failures",
    "items_per_second",
    "load",
    "max_us",
    "p50_ratio_to_select",
    "p50_us",
    "p99_ratio_to_select",
    "p99_us",
    "percentiles",
    "rate",
    "ratio_to_echo",
    "ratio_to_independent",
    "ratio_to_select",
    "scenario",
    "server_cpu_us",
    "server_peak_bytes",
];
/// Keys of `rotation` and `sweep`.
const MEANWHILE: [&str; 21] = [
    "destroyed",
    "failed_reads",
    "failures",
    "idle_update_rows_per_second",
    "operations_ended",
    "p50_ratio",
    "p99_ratio",
    "pairs",
    "peak_bytes_with",
    "peak_bytes_without",
    "percentiles_with",
    "percentiles_without",
    "rate",
    "ratio_to_idle_update",
    "ratio_to_update",
    "reads",
    "rows",
    "rows_per_second",
    "running_share",
    "scenario",
    "update_rows_per_second",
];
/// Keys of `upload`.
const UPLOADS: [&str; 25] = [
    "bytes_per_second",
    "crowd_growth_bytes",
    "crowd_peak_bytes",
    "crowd_uploads",
    "document_bytes",
    "failed",
    "failed_reads",
    "failures",
    "memory_budget_bytes",
    "p50_us",
    "p99_ratio",
    "p99_us",
    "pairs",
    "percentiles",
    "rate",
    "ratio_to_unsealed",
    "reads",
    "scenario",
    "server_cpu_us",
    "streams",
    "unsealed_bytes_per_second",
    "unsealed_percentiles",
    "unsealed_server_cpu_us",
    "upload_rate",
    "uploads",
];
/// Keys of `import`.
const IMPORTS: [&str; 11] = [
    "commits_per_row",
    "database_cpu_us",
    "peak_bytes",
    "peak_bytes_of_fewer",
    "ratio_to_echo",
    "records",
    "records_per_second",
    "rows",
    "rows_per_second",
    "scenario",
    "server_cpu_us",
];
/// Keys of `overload`.
const OVERLOAD: [&str; 25] = [
    "answered",
    "answered_p50_us",
    "answered_p99_us",
    "answered_percentiles",
    "beside_echo_per_second",
    "concurrency",
    "connections",
    "failed",
    "failures",
    "flood_rate",
    "goodput_per_second",
    "goodput_to_beside_echo",
    "goodput_to_peak",
    "offered_per_second",
    "p99_us_after",
    "p99_us_before",
    "peak_calls_per_second",
    "rate",
    "recovery_ms",
    "refusals",
    "refused",
    "refused_p50_us",
    "refused_p99_us",
    "refused_percentiles",
    "scenario",
];
/// Keys of `isolation`, which `overload` measures too.
const ISOLATION: [&str; 16] = [
    "failed_reads",
    "failures",
    "flood_answered_per_second",
    "flood_offered_per_second",
    "flood_rate",
    "p50_ratio",
    "p99_ratio",
    "p99_ratio_to_beside_echo",
    "pairs",
    "percentiles_with",
    "percentiles_without",
    "rate",
    "reads",
    "refusals",
    "refused",
    "scenario",
];
/// Keys of `replicas` and `platforms`.
const SPREAD: [&str; 22] = [
    "calls",
    "calls_per_second",
    "commits_per_call",
    "concurrency",
    "connections",
    "database_cpu_us",
    "failed",
    "failures",
    "over",
    "p50_us",
    "p99_us",
    "percentiles",
    "ratio_to_single",
    "scenario",
    "server_cpu_us",
    "single_calls_per_second",
    "single_commits_per_call",
    "single_database_cpu_us",
    "single_p50_us",
    "single_p99_us",
    "single_percentiles",
    "single_server_cpu_us",
];
const PERFORMANCE: &str = include_str!("../../docs/performance.md");

fn bench(backend: &Backend, args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandyq"));
    command.args(["--json", "bench", "--subjects", "50"]).args(args);
    if !args.contains(&"--rounds") {
        command.args(["--rounds", "1"]);
    }
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

/// The JSON of a run, all of which is on its page too.
fn measured(backend: &Backend, args: &[&str]) -> Value {
    let place = tempfile::tempdir().unwrap();
    let file = place.path().join("page.html");
    let args: Vec<_> = args.iter().copied().chain(["--html", file.to_str().unwrap()]).collect();
    let report = report(&bench(backend, &args));
    let page = std::fs::read_to_string(&file).unwrap();
    is_well_formed(&page);
    for outside in ["http:", "https:", "src=", "href=", "url(", "@import"] {
        assert!(!page.contains(outside), "nothing is loaded from outside: {outside}");
    }
    let rows = report["scenarios"].as_array().unwrap();
    for row in rows {
        let name = row["scenario"].as_str().unwrap();
        let expected = if row["load"].is_null() { format!("<h2>{name}") } else { format!("<td>{name}</td>") };
        let count = page.matches(&expected).count();
        assert_eq!(
            count,
            rows.iter()
                .filter(|r| r["scenario"] == name && r["load"].is_null() == row["load"].is_null())
                .count()
        );
        let keys = row.as_object().unwrap().keys().filter(|key| row["load"].is_null() && *key != "scenario");
        for key in keys.filter(|key| *key != "pairs" && !key.contains("percentiles")) {
            assert!(page.contains(&format!("<code>{key}</code>")), "{key} is not on the page");
        }
        let pairs = row["pairs"].as_array().map_or(0, Vec::len);
        assert!(pairs == 0 || page.contains("p99 in windows with and without"), "{name}");
    }
    let curves = rows
        .iter()
        .flat_map(|row| row.as_object().unwrap())
        .filter(|(key, points)| key.contains("percentiles") && !points.as_array().unwrap().is_empty());
    assert!(page.matches("<polyline ").count() >= curves.count(), "a curve for each");
    for setting in report["database"].as_object().unwrap().keys() {
        assert!(page.contains(&format!("<code>{setting}</code>")), "{setting}");
    }
    report
}

/// Every element that begins ends where it should.
#[track_caller]
fn is_well_formed(page: &str) {
    let mut open = Vec::new();
    for tag in page.split('<').skip(1) {
        let (tag, text) = tag.split_once('>').unwrap_or_else(|| panic!("a tag without its end: {tag}"));
        assert!(!text.contains('>') && tag.matches('"').count().is_multiple_of(2), "<{tag}>{text}");
        let name = tag.split_whitespace().next().unwrap();
        if let Some(ended) = name.strip_prefix('/') {
            assert_eq!(open.pop(), Some(ended), "{tag}");
        } else if !tag.ends_with('/') && !["!doctype", "meta", "br"].contains(&name) {
            open.push(name);
        }
    }
    assert!(open.is_empty(), "{open:?}");
}

/// The row of a scenario, in a closed or an open loop where it has both.
fn row<'a>(report: &'a Value, scenario: &str, load: Option<&str>) -> &'a Value {
    let rows = report["scenarios"].as_array().unwrap();
    let found = rows.iter().find(|row| row["scenario"] == scenario && row["load"].as_str() == load);
    found.unwrap_or_else(|| panic!("no {scenario} of {load:?}: {report:#}"))
}

/// Keys of an object, in the order of the alphabet.
fn keys(object: &Value) -> Vec<&str> {
    let mut keys: Vec<_> = object.as_object().unwrap().keys().map(String::as_str).collect();
    keys.sort_unstable();
    keys
}

/// How many calls were answered as wanted, and how many were not.
fn counted(row: &Value) -> (Option<u64>, Option<u64>) {
    (row["calls"].as_u64(), row["failed"].as_u64())
}

#[track_caller]
fn are_above_zero(row: &Value, figures: &[&str]) {
    for figure in figures {
        assert!(row[*figure].as_f64().unwrap_or_default() > 0.0, "{figure}: {row:#}");
    }
}

/// Percentiles that rise, of times that do, up to the longest.
#[track_caller]
fn is_a_curve(points: &Value, longest: f64) {
    let points: Vec<_> = points.as_array().unwrap().iter().map(|point| [&point[0], &point[1]]).collect();
    let points: Vec<_> = points.iter().map(|point| point.map(|number| number.as_f64().unwrap())).collect();
    assert!(points.is_sorted_by(|one, next| one[0] < next[0] && one[1] <= next[1]), "{points:?}");
    assert!(points.len() > 8 && points.iter().all(|point| point[1] <= longest), "{longest}: {points:?}");
}

async fn calls_are_answered_and_measured(backend: Backend) {
    let args = ["--scenario", "detokenize,tokenize,compare,mixed", "--concurrency", "4", "--calls", "100"];
    let report = measured(&backend, &args);
    assert_eq!((report["format"].as_u64(), report["subjects"].as_u64()), (Some(1), Some(50)));
    for scenario in ["echo", "select", "detokenize"] {
        for load in ["closed", "open"] {
            let row = row(&report, scenario, Some(load));
            assert_eq!(keys(row), CALLS);
            assert_eq!(counted(row), (Some(100), Some(0)), "{row:#}");
            are_above_zero(
                row,
                &["calls_per_second", "p50_us", "p99_us", "ratio_to_echo", "ratio_to_select"],
            );
            assert!(row["p99_us"].as_f64() >= row["p50_us"].as_f64());
            is_a_curve(&row["percentiles"], row["max_us"].as_f64().unwrap());
            assert!(row["server_cpu_us"].is_number() && row["server_peak_bytes"].as_u64() > Some(1 << 20));
        }
        // Four callers at once, and so many calls a second: a call takes about that long, or times are not what they say.
        let closed = row(&report, scenario, Some("closed"));
        let mean = 4.0 * 1_000_000.0 / closed["calls_per_second"].as_f64().unwrap();
        assert!(closed["max_us"].as_f64().unwrap() > mean / 2.0, "calls took {mean} µs: {closed:#}");
        let of_database = closed["database_cpu_us"].is_number();
        assert_eq!(of_database, matches!(backend, Backend::Postgres(_)) && scenario != "echo");
    }
    let (echo, independent) =
        (row(&report, "echo", Some("closed")), row(&report, "independent", Some("closed")));
    assert_eq!((counted(independent), keys(independent)), ((Some(100), Some(0)), CALLS.to_vec()));
    let [ratio, under] =
        [&echo["ratio_to_independent"], &independent["ratio_to_echo"]].map(|ratio| ratio.as_f64().unwrap());
    assert!(ratio > 0.0 && (ratio * under - 1.0).abs() < 0.01, "of one round, so one is the other's inverse");
    assert!(independent["database_cpu_us"].is_null() && independent["commits_per_call"].is_null());
    for scenario in ["tokenize", "compare", "mixed"] {
        let row = row(&report, scenario, Some("closed"));
        assert_eq!(counted(row), (Some(100), Some(0)), "{row:#}");
    }
    // What is read is logged first: the vault commits, and no more often than it is called.
    let commits = row(&report, "detokenize", Some("closed"))["commits_per_call"].as_f64().unwrap();
    assert!(commits > 0.0 && commits <= 1.5, "{commits}");
    assert!(row(&report, "select", Some("closed"))["commits_per_call"].is_null());
    let says = |setting: &str| report["database"][setting].as_str().unwrap_or_default().to_owned();
    match backend {
        // 2 is FULL.
        Backend::Sqlite => {
            assert_eq!((says("journal_mode"), says("synchronous")), ("wal".into(), "2".into()));
        }
        Backend::Postgres(_) => {
            assert_eq!((says("synchronous_commit"), says("fsync")), ("on".into(), "on".into()));
        }
    }
}
on_both!(calls_are_answered_and_measured);

/// The operations of an officer beside reads. Processes look for such work every five seconds: that is what this waits for.
async fn long_work_is_measured(backend: Backend) {
    let args = [
        "--scenario",
        "rotation,sweep",
        "--concurrency",
        "2",
        "--calls",
        "4",
        "--windows",
        "2",
        "--rate",
        "20",
    ];
    let report = measured(&backend, &args);
    for scenario in ["rotation", "sweep"] {
        let row = row(&report, scenario, None);
        assert_eq!(keys(row), MEANWHILE);
        assert_eq!((row["reads"].as_u64(), row["failed_reads"].as_u64()), (Some(8), Some(0)), "{row:#}");
        are_above_zero(row, &["p99_ratio", "peak_bytes_with", "peak_bytes_without"]);
    }
    are_above_zero(
        row(&report, "rotation", None),
        &["update_rows_per_second", "idle_update_rows_per_second"],
    );
    assert_eq!((report["subjects"].as_u64(), report["ending_subjects"].as_u64()), (Some(50), Some(5)));
}
on_both!(long_work_is_measured);

async fn batches_and_streams_are_measured(backend: Backend) {
    let scenarios = "batch-detokenize,batch-tokenize,upload";
    let args =
        ["--scenario", scenarios, "--concurrency", "2", "--calls", "2", "--windows", "2", "--rate", "20"];
    let report = measured(&backend, &args);
    for scenario in ["batch-detokenize", "batch-tokenize"] {
        let row = row(&report, scenario, Some("closed"));
        assert_eq!(counted(row), (Some(2), Some(0)), "{row:#}");
        let [calls, items] = ["calls_per_second", "items_per_second"].map(|key| row[key].as_f64().unwrap());
        assert!((items / calls - 100.0).abs() < 1.0, "a hundred items a call: {row:#}");
    }
    let uploads = row(&report, "upload", None);
    assert_eq!(keys(uploads), UPLOADS);
    assert_eq!((uploads["uploads"].as_u64(), uploads["failed"].as_u64()), (Some(1), Some(0)), "{uploads:#}");
    assert_eq!((uploads["crowd_uploads"].as_u64(), uploads["failed_reads"].as_u64()), (Some(2), Some(0)));
    are_above_zero(uploads, &["ratio_to_unsealed", "bytes_per_second", "p99_ratio"]);
    assert_eq!(uploads["memory_budget_bytes"].as_u64(), Some(64 << 20));
}
on_both!(batches_and_streams_are_measured);

async fn imports_are_measured(backend: Backend) {
    let args = ["--scenario", "import", "--concurrency", "4", "--calls", "40"];
    let report = measured(&backend, &args);
    let row = row(&report, "import", None);
    assert_eq!(keys(row), IMPORTS);
    assert_eq!((row["rows"].as_u64(), row["records"].as_u64()), (Some(40), Some(160)), "{row:#}");
    are_above_zero(row, &["rows_per_second", "ratio_to_echo", "commits_per_row", "peak_bytes"]);
}
on_both!(imports_are_measured);

/// Whether calls are refused depends on the machine; that each is either answered or refused as documented does not.
async fn overload_is_measured(backend: Backend) {
    let args =
        ["--scenario", "overload", "--concurrency", "4", "--calls", "200", "--windows", "2", "--rate", "50"];
    let report = measured(&backend, &args);
    let overload = row(&report, "overload", None);
    assert_eq!(keys(overload), OVERLOAD);
    let [answered, refused, failed] =
        ["answered", "refused", "failed"].map(|key| overload[key].as_u64().unwrap());
    assert_eq!((answered + refused, failed), (500, 0), "two and a half times as many calls: {overload:#}");
    let refusals = overload["refusals"].as_object().unwrap();
    assert_eq!(refusals.values().map(|count| count.as_u64().unwrap()).sum::<u64>(), refused);
    are_above_zero(
        overload,
        &[
            "peak_calls_per_second",
            "offered_per_second",
            "goodput_per_second",
            "goodput_to_peak",
            "goodput_to_beside_echo",
            "p99_us_before",
        ],
    );
    let [peak, flood] = ["peak_calls_per_second", "flood_rate"].map(|key| overload[key].as_f64().unwrap());
    assert!((flood / peak - 2.0).abs() < 0.01, "{overload:#}");
    assert_eq!(overload["recovery_ms"].is_null(), overload["p99_us_after"].is_null(), "{overload:#}");
    let isolation = row(&report, "isolation", None);
    assert_eq!(keys(isolation), ISOLATION);
    assert_eq!((isolation["reads"].as_u64(), isolation["failed_reads"].as_u64()), (Some(600), Some(0)));
    assert_eq!(isolation["pairs"].as_array().unwrap().len(), 1);
    are_above_zero(isolation, &["p50_ratio", "p99_ratio", "flood_offered_per_second"]);
}
on_both!(overload_is_measured);

async fn platforms_are_measured(backend: Backend) {
    let args = ["--scenario", "platforms", "--concurrency", "10,20", "--calls", "60"];
    let report = measured(&backend, &args);
    let all: Vec<_> = report["scenarios"].as_array().unwrap().iter().filter(|r| r["over"] == 10).collect();
    assert_eq!(all.len(), 2, "one for each number of callers");
    for row in all {
        assert_eq!((keys(row), counted(row)), (SPREAD.to_vec(), (Some(120), Some(0))), "{row:#}");
        are_above_zero(row, &["ratio_to_single", "commits_per_call", "single_commits_per_call"]);
        // Ten lanes commit more often than one does for the same calls, and never more than once a call.
        assert!(row["commits_per_call"].as_f64() <= Some(1.5), "{row:#}");
        assert_eq!(row["connections"].as_u64(), Some(10));
    }
}
on_both!(platforms_are_measured);

#[tokio::test(flavor = "multi_thread")]
async fn replicas_are_measured() {
    let backend = Backend::postgres().await;
    let args = ["--scenario", "replicas", "--concurrency", "8", "--calls", "60", "--rounds", "2"];
    let report = measured(&backend, &args);
    let row = row(&report, "replicas", None);
    assert_eq!((keys(row), counted(row)), (SPREAD.to_vec(), (Some(240), Some(0))), "{row:#}");
    assert_eq!((row["over"].as_u64(), row["connections"].as_u64()), (Some(2), Some(4)));
    are_above_zero(row, &["ratio_to_single", "server_cpu_us", "database_cpu_us", "single_database_cpu_us"]);
}

/// A vault that runs already is read with tokens that are there.
async fn a_running_vault_is_measured(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let (stored, place) = (served.store(1).await, tempfile::tempdir().unwrap());
    let tokens = place.path().join("tokens");
    std::fs::write(&tokens, format!("{}\n", stored.token("iin"))).unwrap();
    let target = |caller: &str, scenario: &str| {
        let connection = served.running.installation.connection_path(caller);
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandyq"));
        command.args([
            "--json",
            "bench",
            "--rounds",
            "1",
            "--calls",
            "20",
            "--concurrency",
            "2",
            "--scenario",
            scenario,
        ]);
        command.arg("--target").arg(connection).arg("--tokens").arg(&tokens).output().unwrap()
    };
    let report = report(&target("payments", "detokenize,batch-detokenize"));
    assert_eq!(report["store"], "target");
    for (scenario, load) in [("detokenize", "closed"), ("detokenize", "open"), ("batch-detokenize", "closed")]
    {
        let row = row(&report, scenario, Some(load));
        assert_eq!(counted(row), (Some(20), Some(0)), "{row:#}");
        assert!(row["ratio_to_echo"].is_null() && row["server_cpu_us"].is_null(), "{row:#}");
    }
    // Who may not read is told so, with the vault's reason.
    let refused = target("support", "detokenize");
    let report: Value = serde_json::from_slice(&refused.stdout).unwrap();
    let row = row(&report, "detokenize", Some("closed"));
    assert_eq!((refused.status.code(), counted(row)), (Some(1), (Some(0), Some(20))), "{row:#}");
    assert_eq!(row["failures"].as_object().unwrap().len(), 1);
    assert_eq!(target("payments", "tokenize").status.code(), Some(2));
}
on_both!(a_running_vault_is_measured);

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
    wrong(&["--target", "client.toml"], "--tokens");
    wrong(&["--scenario", "replicas"], "--store postgres");
}

/// A database that somebody uses is left alone.
#[tokio::test(flavor = "multi_thread")]
async fn a_database_in_use_is_refused() {
    let backend = Backend::postgres().await;
    let args = ["--scenario", "echo", "--concurrency", "1", "--calls", "1"];
    report(&bench(&backend, &args));
    let again = bench(&backend, &args);
    let said = String::from_utf8_lossy(&again.stderr).into_owned();
    assert!(again.status.code() == Some(1) && said.contains("wants an empty database"), "{said}");
}

#[test]
fn every_key_is_described() {
    let crowds = OVERLOAD.iter().chain(&ISOLATION).chain(&SPREAD);
    for key in CALLS.iter().chain(&MEANWHILE).chain(&UPLOADS).chain(&IMPORTS).chain(crowds) {
        assert!(PERFORMANCE.contains(&format!("`{key}`")), "docs/performance.md does not describe {key}");
    }
}
