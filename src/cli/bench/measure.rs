//! Slices of load against servers that are watched meanwhile, in rounds: echo, select and what is asked for one after
//! the other, again and again, so that a machine's moods fall on all alike.

use std::{collections::BTreeMap, net::SocketAddr};

use data_encoding::HEXLOWER;
use hdrhistogram::Histogram;

use super::{
    Failure, PURPOSE,
    bare::Kind,
    house::{House, commits_of},
    job::{CallKind, Counted, DIGITS, Job, Pace, Source, Until},
    numbers::{float, median, percentiles},
    process::{Bare, Load, Watched},
};
use crate::{
    cli::{local::further_caller, output::exit},
    crypto::random::SystemRng,
    domain::rng::random_bytes,
};

/// What calls are made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Subject {
    /// A bare server.
    Echo,
    /// The same without tonic.
    Independent,
    /// The same with one look-up.
    Select,
    /// The vault, as all that follow.
    Detokenize,
    BatchDetokenize,
    Tokenize,
    BatchTokenize,
    Compare,
    Mixed,
    Upload,
    /// A bare server that stores what streams in, unsealed.
    Unsealed,
}

impl Subject {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Echo => "echo",
            Self::Independent => "independent",
            Self::Select => "select",
            Self::Detokenize => "detokenize",
            Self::BatchDetokenize => "batch-detokenize",
            Self::Tokenize => "tokenize",
            Self::BatchTokenize => "batch-tokenize",
            Self::Compare => "compare",
            Self::Mixed => "mixed",
            Self::Upload => "upload",
            Self::Unsealed => "unsealed",
        }
    }

    pub(super) const fn call(self) -> CallKind {
        match self {
            Self::Echo | Self::Independent | Self::Select | Self::Detokenize => CallKind::Detokenize,
            Self::BatchDetokenize => CallKind::BatchDetokenize,
            Self::Tokenize => CallKind::Tokenize,
            Self::BatchTokenize => CallKind::BatchTokenize,
            Self::Compare => CallKind::Compare,
            Self::Mixed => CallKind::Mixed,
            Self::Upload | Self::Unsealed => CallKind::Upload,
        }
    }

    /// The caller of the installation that makes these calls.
    const fn caller(self) -> &'static str {
        match self {
            Self::Echo => "bare-echo",
            Self::Independent => "bare-independent",
            Self::Select => "bare-select",
            Self::Unsealed => "bare-store",
            Self::Tokenize | Self::BatchTokenize | Self::Upload => "backend",
            Self::Detokenize | Self::BatchDetokenize | Self::Compare | Self::Mixed => "payments",
        }
    }

    /// Whether a bare server answers.
    const fn is_bare(self) -> bool {
        matches!(self, Self::Echo | Self::Independent | Self::Select | Self::Unsealed)
    }
}

/// What one slice came to.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    pub(super) calls: u64,
    pub(super) failures: BTreeMap<String, u64>,
    pub(super) calls_per_second: f64,
    pub(super) items_per_second: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) max_us: u64,
    pub(super) server_cpu_us: Option<f64>,
    pub(super) database_cpu_us: Option<f64>,
    pub(super) peak_bytes: Option<u64>,
    pub(super) commits_per_call: Option<f64>,
    /// Of all calls, microseconds.
    pub(super) times: Histogram<u64>,
}

impl Sample {
    /// Calls of any outcome.
    pub(super) fn of(counted: &Counted) -> Result<Self, Failure> {
        let histogram = counted.histogram()?;
        let seconds = float(counted.micros.max(1)) / 1_000_000.0;
        Ok(Self {
            calls: counted.calls,
            failures: counted.failures.clone(),
            calls_per_second: float(counted.calls) / seconds,
            items_per_second: float(counted.items) / seconds,
            p50_us: float(histogram.value_at_quantile(0.5)),
            p99_us: float(histogram.value_at_quantile(0.99)),
            max_us: histogram.max(),
            server_cpu_us: None,
            database_cpu_us: None,
            peak_bytes: None,
            commits_per_call: None,
            times: histogram,
        })
    }
}

/// Slices of one kind, one of each round.
#[derive(Debug)]
pub(super) struct Series {
    pub(super) subject: Subject,
    pub(super) pace: Pace,
    pub(super) samples: Vec<Sample>,
}

impl Series {
    /// The middle of the rounds.
    pub(super) fn median(&self, of: impl Fn(&Sample) -> f64) -> f64 {
        median(self.samples.iter().map(of)).unwrap_or_default()
    }

    /// Times of all rounds together.
    pub(super) fn percentiles(&self) -> Result<Vec<(f64, u64)>, Failure> {
        percentiles_of(&self.samples)
    }

    /// The same of what not every machine tells.
    pub(super) fn median_of_known(&self, of: impl Fn(&Sample) -> Option<f64>) -> Option<f64> {
        median(self.samples.iter().filter_map(of))
    }

    /// The middle of the rounds' ratios to the same round of another series.
    pub(super) fn ratio_to(&self, other: &Self, of: impl Fn(&Sample) -> f64) -> Option<f64> {
        let pairs = self.samples.iter().zip(&other.samples);
        median(pairs.filter(|(_, under)| of(under) > 0.0).map(|(over, under)| of(over) / of(under)))
    }
}

/// Times of several slices together.
pub(super) fn percentiles_of<'a>(
    samples: impl IntoIterator<Item = &'a Sample>,
) -> Result<Vec<(f64, u64)>, Failure> {
    let mut all = Histogram::new(DIGITS)?;
    for sample in samples {
        all.add(&sample.times)?;
    }
    Ok(percentiles(&all))
}

/// Everything that runs for a bench.
pub(super) struct Ground {
    pub(super) house: House,
    pub(super) load: Load,
    bare: [Bare; 4],
    /// The process for calls beside others.
    other: Option<Load>,
    run: String,
    subjects: u64,
    database: Option<u32>,
    connections: u32,
}

impl Ground {
    pub(super) async fn prepare(house: House, connections: u32) -> Result<Self, Failure> {
        let config = house.config_path();
        let kinds = [Kind::Echo, Kind::Independent, Kind::Select, Kind::Store];
        let bare = [
            Bare::start(&config, Kind::Echo.name()).await?,
            Bare::start(&config, Kind::Independent.name()).await?,
            Bare::start(&config, Kind::Select.name()).await?,
            Bare::start(&config, Kind::Store.name()).await?,
        ];
        for (server, kind) in bare.iter().zip(kinds) {
            house.installation.write_connection(
                &format!("bare-{}", kind.name()),
                server.address,
                "payments",
            )?;
        }
        let database = Watched::postmaster(house.ceiling.server_process().await?);
        let run = HEXLOWER.encode(&random_bytes::<6>(&SystemRng::new())?);
        let load = Load::start(&run, 0)?;
        Ok(Self { house, load, bare, other: None, run, subjects: 0, database, connections })
    }

    /// Stores people to be asked for; or others, whose consent ends.
    pub(super) async fn people(
        &mut self,
        count: u32,
        ending: bool,
        progress: impl FnMut(u64) + Send,
    ) -> Result<Counted, Failure> {
        let connection = self.house.installation.connection_path("backend");
        let images = self.house.wants.images;
        let tokens = if ending { self.house.tokens_of_others() } else { self.house.tokens() };
        self.subjects = self.subjects.max(count.into());
        let job = Job::People { connection, count, tokens, images, ending };
        self.load.run(&job, progress).await
    }

    /// The processes that calls of this kind keep busy.
    pub(super) fn watched(&self, subject: Subject) -> Watched {
        let [echo, independent, select, store] = &self.bare;
        let server = match subject {
            Subject::Echo => &echo.process,
            Subject::Independent => &independent.process,
            Subject::Select => &select.process,
            Subject::Unsealed => &store.process,
            Subject::Detokenize
            | Subject::BatchDetokenize
            | Subject::Tokenize
            | Subject::BatchTokenize
            | Subject::Compare
            | Subject::Mixed
            | Subject::Upload => &self.house.served.process,
        };
        // What the database does while those answer that have none is not for them.
        let has_database = !matches!(subject, Subject::Echo | Subject::Independent);
        Watched { servers: vec![server.pid()], database: self.database.filter(|_| has_database) }
    }

    /// What the load process does in a slice.
    pub(super) fn job(&self, subject: Subject, pace: Pace, until: Until) -> Job {
        let callers = match pace {
            Pace::Closed(callers) => callers,
            Pace::Open(_) => u32::MAX,
        };
        let connection = self.house.installation.connection_path(subject.caller());
        let storing = if subject == Subject::Mixed {
            self.house.installation.connection_path("backend")
        } else {
            connection.clone()
        };
        let sources = vec![Source { connection, storing, tokens: self.house.tokens() }];
        let connections = self.connections.min(callers).max(1);
        Job::Calls { sources, connections, call: subject.call(), purpose: PURPOSE.to_owned(), pace, until }
    }

    /// Connections that so many share alike: as many as there are, or more.
    pub(super) fn connections_for(&self, sharers: u32) -> u32 {
        self.connections.max(1).div_ceil(sharers) * sharers
    }

    /// One slice.
    pub(super) async fn slice(
        &mut self,
        subject: Subject,
        pace: Pace,
        until: Until,
    ) -> Result<Sample, Failure> {
        let (job, watched) = (self.job(subject, pace, until), self.watched(subject));
        let sample = self.watch(&job, &watched, &[self.house.served.health]).await?;
        Ok(Sample { commits_per_call: sample.commits_per_call.filter(|_| !subject.is_bare()), ..sample })
    }

    /// A job, and what it costs those processes that are watched and makes these vaults commit.
    pub(super) async fn watch(
        &mut self,
        job: &Job,
        watched: &Watched,
        vaults: &[SocketAddr],
    ) -> Result<Sample, Failure> {
        watched.forget_peak();
        let (commits, before) = (commits_of_all(vaults).await?, watched.spent());
        let counted = self.load.run(job, |_| {}).await?;
        let (after, commits) = (watched.spent(), commits_of_all(vaults).await?.saturating_sub(commits));
        let calls = counted.calls + counted.failed();
        if calls == 0 {
            return Err(Failure::new(exit::FAILED, "no call was made"));
        }
        let each = |before: Option<u64>, after: Option<u64>| {
            before.zip(after).map(|(before, after)| float(after.saturating_sub(before)) / float(calls))
        };
        Ok(Sample {
            server_cpu_us: each(before.server, after.server),
            database_cpu_us: each(before.database, after.database),
            peak_bytes: watched.peak_bytes(),
            commits_per_call: Some(float(commits) / float(calls)),
            ..Sample::of(&counted)?
        })
    }

    /// Lets [`Self::peak_bytes`] begin anew.
    pub(super) fn forget_peak(&self) {
        self.watched(Subject::Detokenize).forget_peak();
    }

    /// Most memory that the vault had resident.
    pub(super) fn peak_bytes(&self) -> Option<u64> {
        self.watched(Subject::Detokenize).peak_bytes()
    }

    /// Stores people of a platform beside the first.
    pub(super) async fn people_of(&mut self, platform: &str, count: u32) -> Result<Counted, Failure> {
        let connection = self.house.installation.connection_path(&further_caller(platform, "backend"));
        let tokens = self.house.tokens_of(platform);
        let job = Job::People { connection, count, tokens, images: false, ending: false };
        self.load.run(&job, |_| {}).await
    }

    /// Reads of a platform beside the first.
    pub(super) fn source_of(&self, platform: &str) -> Source {
        let connection = self.house.installation.connection_path(&further_caller(platform, "payments"));
        Source { storing: connection.clone(), connection, tokens: self.house.tokens_of(platform) }
    }

    /// Reads of the first platform.
    pub(super) fn source(&self) -> Source {
        let connection = self.house.installation.connection_path(Subject::Detokenize.caller());
        Source { storing: connection.clone(), connection, tokens: self.house.tokens() }
    }

    /// The same of a bare server.
    pub(super) fn source_of_echo(&self) -> Source {
        let connection = self.house.installation.connection_path(Subject::Echo.caller());
        Source { storing: connection.clone(), connection, tokens: self.house.tokens() }
    }

    /// A job, and another of a second process beside it. What each came to.
    pub(super) async fn beside(&mut self, job: &Job, other: &Job) -> Result<[Counted; 2], Failure> {
        self.start_other()?;
        let Self { load, other: Some(process), .. } = self else { return Err(no_second()) };
        let (done, beside) = tokio::join!(load.run(job, |_| {}), process.run(other, |_| {}));
        Ok([done?, beside?])
    }

    /// A job of the second process, with nothing beside it.
    pub(super) async fn aside(&mut self, job: &Job) -> Result<Counted, Failure> {
        self.start_other()?;
        let Some(process) = &mut self.other else { return Err(no_second()) };
        process.run(job, |_| {}).await
    }

    fn start_other(&mut self) -> Result<(), Failure> {
        if self.other.is_none() {
            // The first process takes the first half of the subjects' sides, and this one the other.
            self.other = Some(Load::start(&self.run, self.subjects)?);
        }
        Ok(())
    }

    /// Rounds of slices, each subject once in each. `told` hears of every slice.
    pub(super) async fn rounds(
        &mut self,
        subjects: &[Subject],
        pace: impl Fn(Subject) -> Pace,
        (rounds, until): (u32, Until),
        mut told: impl FnMut(Subject, u32),
    ) -> Result<Vec<Series>, Failure> {
        let series =
            |subject: &Subject| Series { subject: *subject, pace: pace(*subject), samples: Vec::new() };
        let mut all: Vec<Series> = subjects.iter().map(series).collect();
        for round in 1..=rounds {
            for series in &mut all {
                told(series.subject, round);
                series.samples.push(self.slice(series.subject, series.pace, until).await?);
            }
        }
        Ok(all)
    }
}

/// Reads by these, over so many connections each.
pub(super) fn reads(sources: Vec<Source>, connections: u32, pace: Pace, until: Until) -> Job {
    let (call, purpose) = (CallKind::Detokenize, PURPOSE.to_owned());
    Job::Calls { sources, connections, call, purpose, pace, until }
}

fn no_second() -> Failure {
    Failure::new(exit::FAILED, "there is no second load process")
}

async fn commits_of_all(vaults: &[SocketAddr]) -> Result<u64, Failure> {
    let mut all = 0;
    for vault in vaults {
        all += commits_of(*vault).await?;
    }
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn series(rates: &[u64]) -> Series {
        let sample =
            |rate: &u64| Sample::of(&Counted { calls: *rate, micros: 1_000_000, ..Counted::default() });
        let samples = rates.iter().map(|rate| sample(rate).unwrap()).collect();
        Series { subject: Subject::Echo, pace: Pace::Closed(1), samples }
    }

    #[test]
    fn a_ratio_is_that_of_the_rounds_and_not_of_the_medians() {
        // The machine was twice as fast in the second round: the ratio does not care.
        let (echo, vault) = (series(&[100, 200, 100]), series(&[50, 100, 20]));
        let rate = |sample: &Sample| sample.calls_per_second;
        assert_eq!(vault.ratio_to(&echo, rate), Some(0.5));
        assert_eq!((echo.median(rate), vault.median(rate)), (100.0, 50.0));
        assert_eq!(vault.ratio_to(&series(&[0, 0, 0]), rate), None);
        assert_eq!(vault.median_of_known(|sample| sample.server_cpu_us), None);
    }
}
