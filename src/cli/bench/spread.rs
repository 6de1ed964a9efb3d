//! The same calls by more than one: two processes of the vault over one database, or ten platforms in one process, each
//! against one of them, slice by slice in turn.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Failure, WARM_UP,
    house::SECOND,
    job::{Job, Pace, Source, Until},
    measure::{Ground, Sample, Subject, percentiles_of, reads},
    numbers::median,
    process::Served,
    report::rounded,
};
use crate::cli::output::exit;

/// Platforms beside the first.
pub(super) const FURTHER: u32 = 9;
/// The caller that reads, to the second process.
const READER_OF_SECOND: &str = "second-payments";

/// Over what calls are spread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Over {
    Replicas,
    Platforms,
}

impl Over {
    const fn name(self) -> &'static str {
        match self {
            Self::Replicas => "replicas",
            Self::Platforms => "platforms",
        }
    }
}

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) over: Over,
    pub(super) rounds: u32,
    pub(super) callers: u32,
    pub(super) until: Until,
}

/// What it came to. docs/performance.md says what each key is.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Spread {
    scenario: &'static str,
    over: usize,
    concurrency: u32,
    connections: u32,
    calls: u64,
    failed: u64,
    failures: BTreeMap<String, u64>,
    calls_per_second: f64,
    single_calls_per_second: f64,
    ratio_to_single: Option<f64>,
    p50_us: f64,
    single_p50_us: f64,
    p99_us: f64,
    single_p99_us: f64,
    server_cpu_us: Option<f64>,
    single_server_cpu_us: Option<f64>,
    database_cpu_us: Option<f64>,
    single_database_cpu_us: Option<f64>,
    commits_per_call: Option<f64>,
    single_commits_per_call: Option<f64>,
    percentiles: Vec<(f64, u64)>,
    single_percentiles: Vec<(f64, u64)>,
}

impl Spread {
    pub(super) const fn failed(&self) -> u64 {
        self.failed
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let ratio = self.ratio_to_single.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
        let mut lines = vec![
            String::new(),
            format!(
                "{} {} with {} callers: {:.0} calls a second, {ratio} of one alone ({:.0}); p99 {:.0} µs ({:.0}); {} failed",
                self.over,
                self.scenario,
                self.concurrency,
                self.calls_per_second,
                self.single_calls_per_second,
                self.p99_us,
                self.single_p99_us,
                self.failed
            ),
        ];
        lines.extend(self.failures.iter().map(|(reason, count)| format!("  {count} × {reason}")));
        lines
    }
}

/// Measures it.
pub(super) async fn measure(
    ground: &mut Ground,
    plan: Plan,
    mut told: impl FnMut(&str, u32) + Send,
) -> Result<Spread, Failure> {
    let further = ground.house.further.clone();
    let over = match plan.over {
        Over::Replicas => 2,
        Over::Platforms => further.len() + 1,
    };
    if over < 2 {
        return Err(Failure::new(exit::FAILED, "there is nothing to spread calls over"));
    }
    // As many connections in all to either.
    let connections = ground.connections_for(u32::try_from(over)?);
    let each = connections / u32::try_from(over)?;
    let pace = Pace::Closed(plan.callers);
    let single = reads(vec![ground.source()], connections, pace, plan.until);
    let (mut alone, mut spread) = (Vec::new(), Vec::new());
    for round in 1..=plan.rounds {
        told("one", round);
        alone.push(slice(ground, &single, None).await?);
        told("several", round);
        let (sources, second) = match plan.over {
            Over::Platforms => {
                let further = further.iter().map(|platform| ground.source_of(platform));
                (further.chain([ground.source()]).collect(), None)
            }
            Over::Replicas => {
                let (second, source) = replica(ground, (plan.callers, round)).await?;
                (vec![ground.source(), source], Some(second))
            }
        };
        let warm_up = reads(sources.clone(), each, Pace::Closed(plan.callers), Until::Calls(WARM_UP));
        ground.load.run(&warm_up, |_| {}).await?;
        let job = reads(sources, each, pace, plan.until);
        spread.push(slice(ground, &job, second.as_ref()).await?);
    }
    report(plan, (over, connections), &alone, &spread)
}

fn report(
    plan: Plan,
    (over, connections): (usize, u32),
    alone: &[Sample],
    spread: &[Sample],
) -> Result<Spread, Failure> {
    let middle =
        |all: &[Sample], of: fn(&Sample) -> f64| rounded(median(all.iter().map(of)).unwrap_or_default());
    let known =
        |all: &[Sample], of: fn(&Sample) -> Option<f64>| median(all.iter().filter_map(of)).map(rounded);
    let mut failures = BTreeMap::new();
    for (reason, count) in alone.iter().chain(spread).flat_map(|sample| &sample.failures) {
        *failures.entry(reason.clone()).or_default() += count;
    }
    let ratios = alone.iter().zip(spread).filter(|(single, _)| single.calls_per_second > 0.0);
    let ratios = ratios.map(|(single, spread)| spread.calls_per_second / single.calls_per_second);
    Ok(Spread {
        scenario: plan.over.name(),
        over,
        concurrency: plan.callers,
        connections,
        calls: alone.iter().chain(spread).map(|sample| sample.calls).sum(),
        failed: failures.values().sum(),
        failures,
        calls_per_second: middle(spread, |sample| sample.calls_per_second),
        single_calls_per_second: middle(alone, |sample| sample.calls_per_second),
        ratio_to_single: median(ratios).map(rounded),
        p50_us: middle(spread, |sample| sample.p50_us),
        single_p50_us: middle(alone, |sample| sample.p50_us),
        p99_us: middle(spread, |sample| sample.p99_us),
        single_p99_us: middle(alone, |sample| sample.p99_us),
        server_cpu_us: known(spread, |sample| sample.server_cpu_us),
        single_server_cpu_us: known(alone, |sample| sample.server_cpu_us),
        database_cpu_us: known(spread, |sample| sample.database_cpu_us),
        single_database_cpu_us: known(alone, |sample| sample.database_cpu_us),
        commits_per_call: known(spread, |sample| sample.commits_per_call),
        single_commits_per_call: known(alone, |sample| sample.commits_per_call),
        percentiles: percentiles_of(spread)?,
        single_percentiles: percentiles_of(alone)?,
    })
}

/// A slice of load on the vault, and on its second process where there is one.
async fn slice(ground: &mut Ground, job: &Job, second: Option<&Served>) -> Result<Sample, Failure> {
    let mut watched = ground.watched(Subject::Detokenize);
    watched.servers.extend(second.map(|second| second.process.pid()));
    let mut health = vec![ground.house.served.health];
    health.extend(second.map(|second| second.health));
    ground.watch(job, &watched, &health).await
}

/// A second process over the same database, started for one slice: beside the slices of the first alone there is none.
async fn replica(ground: &Ground, (callers, round): (u32, u32)) -> Result<(Served, Source), Failure> {
    let config = ground.house.config_path();
    let second = Served::start(&config, Some(SECOND)).await?;
    // Another name each time: the load keeps connections by the name of their file.
    let name = format!("{READER_OF_SECOND}-{callers}-{round}");
    let connection = ground.house.installation.write_connection(&name, second.address, "payments")?;
    let source = Source { storing: connection.clone(), connection, tokens: ground.house.tokens() };
    Ok((second, source))
}
