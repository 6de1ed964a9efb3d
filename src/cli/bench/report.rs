//! What a bench prints. docs/performance.md describes the JSON: its keys stay.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Failure,
    imports::Imports,
    isolation::Isolation,
    job::Pace,
    meanwhile::Meanwhile,
    measure::{Sample, Series, Subject},
    numbers::{float, whole},
    overload::Overload,
    spread::Spread,
    uploads::Images,
};

/// Number of the shape: one more where a key changes its meaning or goes.
const FORMAT: u32 = 1;

/// Everything that was measured.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    format: u32,
    version: &'static str,
    /// Whether the compiler optimised: figures of a debug build say nothing of speed.
    optimised: bool,
    pub(super) store: &'static str,
    cores: usize,
    pub(super) subjects: u32,
    pub(super) subjects_per_second: f64,
    /// People beside them whose consent ends.
    pub(super) ending_subjects: u32,
    pub(super) rounds: u32,
    pub(super) connections: u32,
    /// What the database says of itself.
    pub(super) database: BTreeMap<&'static str, String>,
    pub(super) database_bytes: Option<u64>,
    /// How often the database's server has synchronised its log, in the whole run.
    pub(super) database_syncs: Option<u64>,
    /// Commits of the vault in the whole run.
    pub(super) vault_commits: Option<u64>,
    pub(super) scenarios: Vec<Measured>,
}

/// What one scenario came to.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Measured {
    Calls(Box<Row>),
    Meanwhile(Box<Meanwhile>),
    Uploads(Box<Images>),
    Imports(Box<Imports>),
    Overload(Box<Overload>),
    Isolation(Box<Isolation>),
    Spread(Box<Spread>),
}

impl Measured {
    /// Calls that were not answered as wanted.
    fn failed(&self) -> u64 {
        match self {
            Self::Calls(row) => row.failed,
            Self::Meanwhile(meanwhile) => meanwhile.failed(),
            Self::Uploads(uploads) => uploads.failed(),
            // One that refuses a row ends the bench.
            Self::Imports(_) => 0,
            Self::Overload(overload) => overload.failed(),
            Self::Isolation(isolation) => isolation.failed(),
            Self::Spread(spread) => spread.failed(),
        }
    }

    fn row(&self) -> Option<&Row> {
        if let Self::Calls(row) = self { Some(row) } else { None }
    }

    /// Lines under the table.
    fn lines(&self) -> Vec<String> {
        match self {
            Self::Calls(_) => Vec::new(),
            Self::Meanwhile(meanwhile) => meanwhile.lines(),
            Self::Uploads(uploads) => uploads.lines(),
            Self::Imports(imports) => imports.lines(),
            Self::Overload(overload) => overload.lines(),
            Self::Isolation(isolation) => isolation.lines(),
            Self::Spread(spread) => spread.lines(),
        }
    }
}

/// One scenario at one load.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Row {
    scenario: &'static str,
    load: &'static str,
    concurrency: Option<u32>,
    rate: Option<f64>,
    calls: u64,
    failed: u64,
    failures: BTreeMap<String, u64>,
    calls_per_second: f64,
    items_per_second: f64,
    ratio_to_echo: Option<f64>,
    ratio_to_independent: Option<f64>,
    ratio_to_select: Option<f64>,
    p50_us: f64,
    p99_us: f64,
    max_us: u64,
    p50_ratio_to_select: Option<f64>,
    p99_ratio_to_select: Option<f64>,
    server_cpu_us: Option<f64>,
    database_cpu_us: Option<f64>,
    cpu_ratio_to_echo: Option<f64>,
    server_peak_bytes: Option<u64>,
    commits_per_call: Option<f64>,
    percentiles: Vec<(f64, u64)>,
}

impl Report {
    pub(super) fn new(store: &'static str) -> Self {
        Self {
            format: FORMAT,
            version: env!("CARGO_PKG_VERSION"),
            optimised: !cfg!(debug_assertions),
            store,
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            subjects: 0,
            subjects_per_second: 0.0,
            ending_subjects: 0,
            rounds: 0,
            connections: 0,
            database: BTreeMap::new(),
            database_bytes: None,
            database_syncs: None,
            vault_commits: None,
            scenarios: Vec::new(),
        }
    }

    /// Calls that were not answered as wanted.
    pub(super) fn failed(&self) -> u64 {
        self.scenarios.iter().map(Measured::failed).sum()
    }

    /// Lines for people.
    pub(super) fn lines(&self) -> Vec<String> {
        let says: Vec<_> = self.database.iter().map(|(name, value)| format!("{name} {value}")).collect();
        let syncs =
            self.database_syncs.map_or_else(String::new, |syncs| format!(", {syncs} syncs of its log"));
        let mut lines = vec![format!(
            "{} with {} subjects ({:.0} stored a second), {} rounds, {} connections, {} cores",
            self.store, self.subjects, self.subjects_per_second, self.rounds, self.connections, self.cores
        )];
        if !says.is_empty() {
            let says = says.join(", ");
            lines.push(format!(
                "database: {says}; {} commits of the vault{syncs}",
                self.vault_commits.unwrap_or_default()
            ));
        }
        if !self.optimised {
            lines.push("NOT OPTIMISED: a debug build says nothing of speed".to_owned());
        }
        lines.push(String::new());
        lines.push(HEAD.join(" "));
        let rows = || self.scenarios.iter().filter_map(Measured::row);
        lines.extend(rows().map(Row::line));
        lines.extend(rows().filter_map(Row::line_of_echo));
        for row in rows().filter(|row| row.failed > 0) {
            let reasons: Vec<_> = row.failures.iter().map(|(reason, n)| format!("{n} × {reason}")).collect();
            lines.push(format!("{}: {} failed: {}", row.scenario, row.failed, reasons.join("; ")));
        }
        lines.extend(self.scenarios.iter().flat_map(Measured::lines));
        lines
    }
}

/// Names of the columns, as wide as what stands under them.
const HEAD: [&str; 12] = [
    "scenario        ",
    "         load",
    "   calls/s",
    "   items/s",
    " /echo",
    "/select",
    "   p50 µs",
    "   p99 µs",
    "server µs",
    "    db µs",
    "peak MiB",
    "commits",
];

impl Row {
    /// Whether echo is as fast as a bare server can be.
    fn line_of_echo(&self) -> Option<String> {
        let ratio = self.ratio_to_independent.filter(|_| self.scenario == Subject::Echo.name())?;
        let callers = self.concurrency?;
        Some(format!("{callers} callers: echo is {ratio:.2} of a minimal server without tonic"))
    }

    fn line(&self) -> String {
        let load = match (self.concurrency, self.rate) {
            (Some(callers), _) => format!("{callers} callers"),
            (None, rate) => format!("{:.0}/s open", rate.unwrap_or_default()),
        };
        let one = |number: Option<f64>, digits: usize, width: usize| {
            let text = number.map_or_else(|| "–".to_owned(), |number| format!("{number:.digits$}"));
            format!("{text:>width$}")
        };
        let peak = self.server_peak_bytes.map(|bytes| float(bytes >> 20));
        [
            format!("{:<16}", self.scenario),
            format!("{load:>13}"),
            one(Some(self.calls_per_second), 0, 10),
            one(Some(self.items_per_second), 0, 10),
            one(self.ratio_to_echo, 2, 6),
            one(self.ratio_to_select, 2, 7),
            one(Some(self.p50_us), 0, 9),
            one(Some(self.p99_us), 0, 9),
            one(self.server_cpu_us, 1, 9),
            one(self.database_cpu_us, 1, 9),
            one(peak, 0, 8),
            one(self.commits_per_call, 3, 7),
        ]
        .join(" ")
    }
}

/// Rows of series that were measured together, beside the bare servers.
pub(super) fn rows(all: &[Series]) -> Result<Vec<Measured>, Failure> {
    all.iter().map(|series| Ok(Measured::Calls(Box::new(row(series, all)?)))).collect()
}

fn row(series: &Series, all: &[Series]) -> Result<Row, Failure> {
    let bare = |subject| all.iter().find(|series| series.subject == subject);
    let ratio = |other: Subject, of: fn(&Sample) -> f64| {
        bare(other).and_then(|other| series.ratio_to(other, of)).map(rounded)
    };
    let mut failures = BTreeMap::new();
    for (reason, count) in series.samples.iter().flat_map(|sample| &sample.failures) {
        *failures.entry(reason.clone()).or_default() += count;
    }
    let echo_cpu = bare(Subject::Echo).and_then(|echo| echo.median_of_known(|sample| sample.server_cpu_us));
    let all_cpu = series.median_of_known(|sample| {
        sample.server_cpu_us.map(|server| server + sample.database_cpu_us.unwrap_or_default())
    });
    let (load, concurrency, rate) = match series.pace {
        Pace::Closed(callers) => ("closed", Some(callers), None),
        Pace::Open(rate) => ("open", None, Some(rounded(rate))),
    };
    Ok(Row {
        scenario: series.subject.name(),
        load,
        concurrency,
        rate,
        calls: series.samples.iter().map(|sample| sample.calls).sum(),
        failed: failures.values().sum(),
        failures,
        calls_per_second: rounded(series.median(|sample| sample.calls_per_second)),
        items_per_second: rounded(series.median(|sample| sample.items_per_second)),
        ratio_to_echo: ratio(Subject::Echo, |sample| sample.items_per_second),
        ratio_to_independent: ratio(Subject::Independent, |sample| sample.items_per_second),
        ratio_to_select: ratio(Subject::Select, |sample| sample.items_per_second),
        p50_us: series.median(|sample| sample.p50_us),
        p99_us: series.median(|sample| sample.p99_us),
        max_us: series.samples.iter().map(|sample| sample.max_us).max().unwrap_or_default(),
        p50_ratio_to_select: ratio(Subject::Select, |sample| sample.p50_us),
        p99_ratio_to_select: ratio(Subject::Select, |sample| sample.p99_us),
        server_cpu_us: series.median_of_known(|sample| sample.server_cpu_us).map(rounded),
        database_cpu_us: series.median_of_known(|sample| sample.database_cpu_us).map(rounded),
        cpu_ratio_to_echo: all_cpu
            .zip(echo_cpu)
            .filter(|(_, echo)| *echo > 0.0)
            .map(|(all, echo)| rounded(all / echo)),
        server_peak_bytes: series.samples.iter().filter_map(|sample| sample.peak_bytes).max(),
        commits_per_call: series.median_of_known(|sample| sample.commits_per_call).map(rounded),
        percentiles: series.percentiles()?,
    })
}

/// To thousandths: no measurement here has more.
pub(super) fn rounded(number: f64) -> f64 {
    float(whole(number * 1_000.0)) / 1_000.0
}
