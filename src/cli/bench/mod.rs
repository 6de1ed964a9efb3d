//! `sandyq bench`: what this machine and this database do, measured against their own ceilings.
//!
//! ```text
//! sandyq bench              starts the others, tells the load what to do, watches the servers from outside
//!   sandyq serve            the vault, over a database of its own
//!   sandyq bench bare echo  the same TLS, and nothing else
//!   sandyq bench bare independent  the same without tonic
//!   sandyq bench bare select  the same with one indexed SELECT a call
//!   sandyq bench load       calls them, and measures at the caller's side
//! ```
//!
//! Nothing is switched off for it: the vault runs as `serve` runs it, but for the limits of callers.

mod bare;
mod house;
mod imports;
mod independent;
mod isolation;
mod job;
mod load;
mod meanwhile;
mod measure;
mod numbers;
mod overload;
mod page;
mod plot;
mod process;
mod report;
mod spread;
mod target;
mod uploads;

use std::path::PathBuf;

use clap::{Subcommand, ValueEnum};

use super::{
    output::{Failure, Out, exit, meter},
    serve::terminated,
};
use house::{House, Place, Wants};
use job::{Pace, Until};
use meanwhile::Work;
use measure::{Ground, Series, Subject};
use numbers::{float, whole};
use report::{Measured, Report, rounded, rows};
use spread::Over;
use target::{Aim, Target};

/// The purpose that values are read for.
const PURPOSE: &str = "payments";
/// Uploads at once of a crowd.
const CROWD: u32 = 200;
/// Rows of a file that is imported.
const IMPORTED: u64 = 20_000;
/// Calls of a slice that warms up what is cold.
const WARM_UP: u64 = 20;

/// What is measured, each beside the ceilings.
#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum Scenario {
    /// A bare server with the same TLS.
    Echo,
    /// The same with one indexed SELECT a call.
    Select,
    /// A value read for a purpose, by one call each.
    Detokenize,
    /// A hundred values read by one call.
    BatchDetokenize,
    /// A person with four values and a consent stored by one call.
    Tokenize,
    /// A hundred such people stored by one call.
    BatchTokenize,
    /// A value compared with the one that a token stands for.
    Compare,
    /// 90 of a hundred calls read, 8 store, 2 compare.
    Mixed,
    /// An open loop of reads, in windows with and without a rotation of the platform's key.
    Rotation,
    /// The same with a sweep of what retention has ended: a tenth of as many people again.
    Sweep,
    /// A file of people with four values and a consent each, by `sandyq import`.
    Import,
    /// Images of 5 MiB that stream in, beside the same streams unsealed; a crowd of them; and reads beside them.
    Upload,
    /// Twice as many reads as can be answered, and the time after that; then the same beside another platform's few.
    Overload,
    /// Reads by two processes over one database, beside one.
    Replicas,
    /// Reads of ten platforms, beside one.
    Platforms,
}

impl Scenario {
    /// The calls that are measured in rounds; a rotation is measured against the peak of Detokenize.
    const fn subject(self) -> Subject {
        match self {
            Self::Echo | Self::Import => Subject::Echo,
            Self::Select => Subject::Select,
            Self::Detokenize
            | Self::Rotation
            | Self::Sweep
            | Self::Upload
            | Self::Overload
            | Self::Replicas
            | Self::Platforms => Subject::Detokenize,
            Self::BatchDetokenize => Subject::BatchDetokenize,
            Self::Tokenize => Subject::Tokenize,
            Self::BatchTokenize => Subject::BatchTokenize,
            Self::Compare => Subject::Compare,
            Self::Mixed => Subject::Mixed,
        }
    }
}

#[derive(ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
enum StoreKind {
    Sqlite,
    Postgres,
}

#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true, after_help = ABOUT)]
pub(super) struct Args {
    /// What to measure; the ceilings are measured with everything.
    #[arg(long = "scenario", value_enum, value_delimiter = ',', default_value = "detokenize")]
    scenarios: Vec<Scenario>,
    /// Database of the vault that is measured: a file in a temporary directory, or an empty database of a server.
    #[arg(long, value_enum, default_value = "sqlite")]
    store: StoreKind,
    /// A vault that runs already, in the place of one of its own: the connection file of a caller that reads. Only
    /// `detokenize` and `batch-detokenize`, without ceilings.
    #[arg(long, value_name = "FILE", requires = "tokens", conflicts_with_all = ["store", "postgres", "subjects"])]
    target: Option<PathBuf>,
    /// Tokens of that vault, one a line, for values that this caller may read: of synthetic people.
    #[arg(long, value_name = "FILE", requires = "target")]
    tokens: Option<PathBuf>,
    /// Purpose that they are read for.
    #[arg(long, default_value = PURPOSE, requires = "target")]
    purpose: String,
    /// The empty database, `postgres://user@host/database`, without a password. What is stored stays there.
    #[arg(long, value_name = "URL", required_if_eq("store", "postgres"))]
    postgres: Option<String>,
    /// File with its password, where the server asks for one.
    #[arg(long, value_name = "FILE", requires = "postgres")]
    postgres_password_file: Option<PathBuf>,
    /// Directory to make the temporary one in: on the disk that is to be measured.
    #[arg(long, value_name = "DIR")]
    dir: Option<PathBuf>,
    /// Keep no rows in memory after a read (`warm_rows`): every read is one of the database.
    #[arg(long, conflicts_with = "target")]
    cold: bool,
    /// Callers at once of the closed loop.
    #[arg(long, value_delimiter = ',', default_values_t = [1, 8, 64], value_parser = clap::value_parser!(u32).range(1..=10_000))]
    concurrency: Vec<u32>,
    /// Synthetic people to store first.
    #[arg(long, default_value_t = 2_000, value_parser = clap::value_parser!(u32).range(1..=20_000_000))]
    subjects: u32,
    /// Rounds; every figure is the median of them.
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    rounds: u32,
    /// Seconds of each slice of load.
    #[arg(long, default_value_t = 2.0, value_parser = positive)]
    seconds: f64,
    /// Calls of each slice, in the place of seconds.
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    calls: Option<u64>,
    /// Connections of the load.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    connections: u32,
    /// Share of the peak just measured at which the open loop runs.
    #[arg(long, default_value_t = 0.3, value_parser = positive)]
    share: f64,
    /// Calls a second of the open loop, in the place of a share of the peak.
    #[arg(long, value_parser = positive)]
    rate: Option<f64>,
    /// Windows of `rotation`, half of them with it.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    windows: u32,
    /// Seconds of each window.
    #[arg(long, default_value_t = 30.0, value_parser = positive)]
    window_seconds: f64,
    /// Write a page with tables and charts, too.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    #[command(subcommand)]
    part: Option<Part>,
}

const ABOUT: &str = "Server and load are processes of their own that share this machine: compare ratios of one run, not \
figures of two. docs/performance.md says what each figure means, and describes the JSON.";

/// The processes that a bench starts of itself.
#[derive(Subcommand, Debug)]
enum Part {
    /// Make calls as stdin says.
    #[command(hide = true)]
    Load(load::Args),
    /// Serve a ceiling.
    #[command(hide = true)]
    Bare(bare::Args),
}

fn positive(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "not a number".to_owned())?;
    if number.is_normal() && number > 0.0 { Ok(number) } else { Err("must be above zero".to_owned()) }
}

pub(super) async fn run(args: &Args, out: &mut Out) -> Result<(), Failure> {
    match &args.part {
        Some(Part::Load(load)) => load::serve(load).await,
        Some(Part::Bare(bare)) => bare::serve(bare).await,
        None => {
            // What is dropped on the way ends its process and removes its directory.
            let stopped = terminated()?;
            tokio::select! {
                done = Box::pin(bench(args, out)) => done,
                () = stopped => Err(Failure::new(exit::FAILED, "interrupted")),
            }
        }
    }
}

async fn bench(args: &Args, out: &mut Out) -> Result<(), Failure> {
    if let Some((connection, tokens)) = args.target.clone().zip(args.tokens.clone()) {
        let (purpose, connections) = (args.purpose.clone(), args.connections);
        let aim = Aim::take(Target { connection, tokens, purpose, connections })?;
        return measure_target(args, aim, out).await;
    }
    let (place, store) = match args.store {
        StoreKind::Sqlite => (Place::Sqlite, "sqlite"),
        StoreKind::Postgres => {
            let url = args.postgres.as_deref().unwrap_or_default();
            (Place::Postgres { url, password_file: args.postgres_password_file.as_deref() }, "postgres")
        }
    };
    if args.has(Scenario::Replicas) && args.store == StoreKind::Sqlite {
        let message = "replicas are measured with --store postgres: SQLite has one process";
        return Err(Failure::new(exit::USAGE, message));
    }
    let mut report = Report::new(store);
    out.progress("an installation is made");
    let house = House::build(&place, args.dir.as_deref(), args.wants()).await?;
    let mut ground = Ground::prepare(house, args.connections).await?;
    let (syncs, commits) = (ground.house.ceiling.syncs().await, ground.house.commits().await?);
    store_people(args, &mut ground, &mut report, out).await?;
    let rate = measure_calls(args, &mut ground, &mut report, out).await?;
    measure_streams(args, rate, &mut ground, &mut report, out).await?;
    measure_long_work(args, rate, &mut ground, &mut report, out).await?;
    measure_crowds(args, &mut ground, &mut report, out).await?;
    out.progress_end();
    (report.rounds, report.connections) = (args.rounds, args.connections);
    report.database = ground.house.ceiling.settings().await?.into_iter().collect();
    report.database_bytes = Some(ground.house.ceiling.bytes().await?);
    let syncs = syncs.zip(ground.house.ceiling.syncs().await);
    report.database_syncs = syncs.map(|(before, after)| after.saturating_sub(before));
    report.vault_commits = Some(ground.house.commits().await?.saturating_sub(commits));
    print(args, &report, out)
}

impl Args {
    fn has(&self, scenario: Scenario) -> bool {
        self.scenarios.contains(&scenario)
    }

    /// What the installation has for these scenarios.
    fn wants(&self) -> Wants {
        let further = if self.has(Scenario::Platforms) {
            spread::FURTHER
        } else {
            u32::from(self.has(Scenario::Overload))
        };
        Wants {
            images: self.has(Scenario::Upload),
            further,
            replicas: self.has(Scenario::Replicas),
            limits: self.has(Scenario::Overload),
            cold: self.cold,
        }
    }

    /// How long a slice is, or so many times that.
    fn until(&self, times: f64) -> Until {
        let calls = |calls| Until::Calls(whole(float(calls) * times).max(1));
        self.calls.map_or(Until::Seconds(self.seconds * times), calls)
    }

    /// How long a window is.
    fn window(&self) -> Until {
        self.calls.map_or(Until::Seconds(self.window_seconds), Until::Calls)
    }
}

/// Images that stream in, and files that are imported.
async fn measure_streams(
    args: &Args,
    rate: f64,
    ground: &mut Ground,
    report: &mut Report,
    out: &mut Out,
) -> Result<(), Failure> {
    if args.has(Scenario::Upload) {
        let until = args.calls.map_or(Until::Seconds(args.seconds), |calls| Until::Calls(calls.div_ceil(10)));
        let crowd = args.calls.and_then(|calls| u32::try_from(calls).ok()).unwrap_or(CROWD).min(CROWD);
        // Short windows: a second of uploads is hundreds of megabytes.
        let (pairs, window) = (args.windows / 2, args.until(1.0));
        let plan = uploads::Plan { rounds: args.rounds, until, crowd, pairs, window, rate };
        let told = |what: &str, number| out.progress(&format!("uploads, {number}: {what}"));
        let uploads = uploads::measure(ground, plan, told).await?;
        report.scenarios.push(Measured::Uploads(Box::new(uploads)));
    }
    if args.has(Scenario::Import) {
        let rows = args.calls.unwrap_or(IMPORTED);
        let plan = imports::Plan { rounds: args.rounds, until: args.until(1.0), rows };
        let told = |what: &str, number| out.progress(&format!("imports, {number}: {what}"));
        let imports = imports::measure(ground, plan, told).await?;
        report.scenarios.push(Measured::Imports(Box::new(imports)));
    }
    Ok(())
}

/// What an officer begins.
async fn measure_long_work(
    args: &Args,
    rate: f64,
    ground: &mut Ground,
    report: &mut Report,
    out: &mut Out,
) -> Result<(), Failure> {
    let (pairs, window) = (args.windows / 2, args.window());
    for (scenario, work) in [(Scenario::Rotation, Work::Rotation), (Scenario::Sweep, Work::Sweep)] {
        if args.has(scenario) {
            let plan = meanwhile::Plan { work, pairs, window, rate };
            let told = |what: &str, number| {
                out.progress(&format!("{scenario:?}, pair {number} of {pairs}: {what}"));
            };
            let meanwhile = meanwhile::measure(ground, plan, told).await?;
            report.scenarios.push(Measured::Meanwhile(Box::new(meanwhile)));
        }
    }
    Ok(())
}

/// More calls than there is room for, and calls over more than one process or platform. The second process comes last:
/// for a while the vault waits for it where keys change.
async fn measure_crowds(
    args: &Args,
    ground: &mut Ground,
    report: &mut Report,
    out: &mut Out,
) -> Result<(), Failure> {
    let most = args.concurrency.iter().copied().max().unwrap_or_default();
    if args.has(Scenario::Overload) {
        let plan = overload::Plan {
            rounds: args.rounds,
            callers: most.max(overload::CALLERS),
            until: args.until(1.0),
            flood: args.until(2.5),
            window: args.until(0.125),
            share: args.share,
            rate: args.rate,
        };
        let told = |what: &str, number| out.progress(&format!("overload, round {number}: {what}"));
        report.scenarios.push(Measured::Overload(Box::new(overload::measure(ground, plan, told).await?)));
        let (pairs, window) = (args.windows / 2, args.window());
        let plan = isolation::Plan { until: args.until(1.0), pairs, window, rate: args.rate };
        let told = |what: &str, number| out.progress(&format!("isolation, pair {number} of {pairs}: {what}"));
        report.scenarios.push(Measured::Isolation(Box::new(isolation::measure(ground, plan, told).await?)));
    }
    for (scenario, over) in [(Scenario::Platforms, Over::Platforms), (Scenario::Replicas, Over::Replicas)] {
        for callers in args.concurrency.iter().copied().filter(|_| args.has(scenario)) {
            let plan = spread::Plan { over, rounds: args.rounds, callers, until: args.until(1.0) };
            let told = |what: &str, number| {
                out.progress(&format!("{scenario:?}, {callers} callers, round {number}: {what}"));
            };
            report.scenarios.push(Measured::Spread(Box::new(spread::measure(ground, plan, told).await?)));
        }
    }
    Ok(())
}

fn print(args: &Args, report: &Report, out: &mut Out) -> Result<(), Failure> {
    let json = serde_json::to_value(report)?;
    if let Some(file) = &args.html {
        std::fs::write(file, page::render(&json))?;
    }
    out.data(&json, &report.lines())?;
    match report.failed() {
        0 => Ok(()),
        failed => Err(Failure::new(exit::FAILED, format!("{failed} calls were not answered as wanted"))),
    }
}

/// The same of a vault that runs already, as far as its callers see it.
async fn measure_target(args: &Args, mut aim: Aim, out: &mut Out) -> Result<(), Failure> {
    if args.scenarios.iter().any(|one| ![Scenario::Detokenize, Scenario::BatchDetokenize].contains(one)) {
        let message = "--target is measured with detokenize and batch-detokenize alone: the others want an installation of the \
                       bench's own";
        return Err(Failure::new(exit::USAGE, message));
    }
    let mut subjects: Vec<_> = args.scenarios.iter().map(|scenario| scenario.subject()).collect();
    subjects.sort_unstable();
    subjects.dedup();
    let until = args.calls.map_or(Until::Seconds(args.seconds), Until::Calls);
    let mut report = Report::new("target");
    (report.rounds, report.connections) = (args.rounds, args.connections);
    let mut peak: f64 = 0.0;
    for callers in &args.concurrency {
        let told = |subject: Subject, round| {
            out.progress(&format!("{callers} callers, round {round} of {}: {}", args.rounds, subject.name()));
        };
        let all = aim.rounds(&subjects, Pace::Closed(*callers), (args.rounds, until), told).await?;
        peak = peak.max(peak_of(&all));
        report.scenarios.extend(rows(&all)?);
    }
    let rate = args.rate.unwrap_or(peak * args.share);
    if rate > 0.0 {
        let told =
            |_, round| out.progress(&format!("{rate:.0} calls a second, round {round} of {}", args.rounds));
        let all = aim.rounds(&[Subject::Detokenize], Pace::Open(rate), (args.rounds, until), told).await?;
        report.scenarios.extend(rows(&all)?);
    }
    out.progress_end();
    print(args, &report, out)
}

async fn store_people(
    args: &Args,
    ground: &mut Ground,
    report: &mut Report,
    out: &mut Out,
) -> Result<(), Failure> {
    let total = usize::try_from(args.subjects)?;
    let progress =
        |done| out.progress(&format!("people {}", meter(usize::try_from(done).unwrap_or(total), total)));
    if args.has(Scenario::Sweep) {
        report.ending_subjects = args.subjects.div_ceil(10);
    }
    let stored = ground.people(args.subjects, false, progress).await?;
    let others = args.subjects.div_ceil(args.wants().further + 1);
    for platform in ground.house.further.clone() {
        ground.people_of(&platform, others).await?;
    }
    if report.ending_subjects > 0 {
        ground.people(report.ending_subjects, true, |_| {}).await?;
    }
    report.subjects = args.subjects;
    report.subjects_per_second = rounded(float(stored.items) * 1_000_000.0 / float(stored.micros.max(1)));
    Ok(())
}

/// Closed loops at each number of callers, then an open loop. The rate of that.
async fn measure_calls(
    args: &Args,
    ground: &mut Ground,
    report: &mut Report,
    out: &mut Out,
) -> Result<f64, Failure> {
    let mut subjects: Vec<_> = args.scenarios.iter().map(|scenario| scenario.subject()).collect();
    subjects.extend([Subject::Echo, Subject::Independent, Subject::Select]);
    subjects.sort_unstable();
    subjects.dedup();
    let until = args.calls.map_or(Until::Seconds(args.seconds), Until::Calls);
    let plan = (args.rounds, until);
    let warm_up = Until::Calls(args.calls.unwrap_or(WARM_UP).min(WARM_UP));
    ground.rounds(&subjects, |_| Pace::Closed(8), (1, warm_up), |_, _| {}).await?;
    let mut peak: f64 = 0.0;
    for callers in &args.concurrency {
        let told = |subject: Subject, round| {
            out.progress(&format!("{callers} callers, round {round} of {}: {}", args.rounds, subject.name()));
        };
        let all = ground.rounds(&subjects, |_| Pace::Closed(*callers), plan, told).await?;
        peak = peak.max(peak_of(&all));
        report.scenarios.extend(rows(&all)?);
    }
    let rate = args.rate.unwrap_or(peak * args.share);
    if subjects.contains(&Subject::Detokenize) {
        let told = |subject: Subject, round| {
            out.progress(&format!(
                "{rate:.0} calls a second, round {round} of {}: {}",
                args.rounds,
                subject.name()
            ));
        };
        let subjects = [Subject::Echo, Subject::Select, Subject::Detokenize];
        let all = ground.rounds(&subjects, |_| Pace::Open(rate), plan, told).await?;
        report.scenarios.extend(rows(&all)?);
    }
    Ok(rate)
}

/// Calls a second of Detokenize.
fn peak_of(all: &[Series]) -> f64 {
    let detokenize = all.iter().find(|series| series.subject == Subject::Detokenize);
    detokenize.map_or(0.0, |series| series.median(|sample| sample.calls_per_second))
}
