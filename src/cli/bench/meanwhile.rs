//! What long work costs those who read meanwhile, a rotation of the platform's key or a sweep of what retention has
//! ended: an open loop of Detokenize, in windows with and without the work by turns. And what a rotation could be at
//! best: bare updates of the same rows, under the same load and without any.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use serde::Serialize;
use tonic::transport::Channel;

use super::{
    Failure,
    job::{Counted, Job, Pace, Until},
    measure::{Ground, Sample, Subject, percentiles_of},
    numbers::{float, median, micros},
    report::rounded,
};
use crate::{
    cli::{
        client::{connect, keys, operations, request_id, retention},
        local::{OFFICER, PLATFORM},
        output::{exit, refused},
    },
    domain::ids::SubjectId,
    grpc::pb,
    store::ceiling::Ceiling,
};

/// How often the work is looked at.
const LOOK: Duration = Duration::from_millis(100);
/// How long it may take to go on: processes look for work every few seconds.
const PATIENCE: Duration = Duration::from_mins(2);
/// Rows of one bare update: as many as a commit of a rotation has at most.
const ROWS: u32 = 1_000;

/// Long work.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Work {
    Rotation,
    Sweep,
}

impl Work {
    const fn name(self) -> &'static str {
        match self {
            Self::Rotation => "rotation",
            Self::Sweep => "sweep",
        }
    }

    /// Phases in which it reads and writes rows, and does not wait for others.
    fn is_on(self, operation: &pb::Operation) -> bool {
        let of_phase = match self {
            Self::Rotation => ["rewrap", "verify"].contains(&operation.phase.as_str()),
            Self::Sweep => true,
        };
        of_phase && operation.state() == pb::OperationState::Running
    }

    /// Whether rows that are done meanwhile are those that it is measured by.
    fn counts(self, operation: &pb::Operation) -> bool {
        self.is_on(operation) && (self == Self::Sweep || operation.phase == "rewrap")
    }
}

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) work: Work,
    /// Pairs of windows.
    pub(super) pairs: u32,
    pub(super) window: Until,
    /// Calls a second.
    pub(super) rate: f64,
}

/// What it came to. docs/performance.md says what each key is.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Meanwhile {
    scenario: &'static str,
    rate: f64,
    pairs: Vec<Pair>,
    p50_ratio: Option<f64>,
    p99_ratio: Option<f64>,
    reads: u64,
    failed_reads: u64,
    failures: BTreeMap<String, u64>,
    rows: u64,
    rows_per_second: f64,
    update_rows_per_second: Option<f64>,
    idle_update_rows_per_second: Option<f64>,
    ratio_to_update: Option<f64>,
    ratio_to_idle_update: Option<f64>,
    running_share: f64,
    operations_ended: u64,
    destroyed: u64,
    peak_bytes_without: Option<u64>,
    peak_bytes_with: Option<u64>,
    percentiles_without: Vec<(f64, u64)>,
    percentiles_with: Vec<(f64, u64)>,
}

/// Two windows beside each other.
#[derive(Debug, Clone, Copy, Serialize)]
struct Pair {
    p50_us_without: f64,
    p50_us_with: f64,
    p99_us_without: f64,
    p99_us_with: f64,
}

impl Meanwhile {
    pub(super) const fn failed(&self) -> u64 {
        self.failed_reads
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
        let mib =
            |bytes: Option<u64>| bytes.map_or_else(|| "–".to_owned(), |bytes| (bytes >> 20).to_string());
        let mut lines = vec![
            String::new(),
            format!(
                "{} under {:.0} reads a second: p99 {} times that without (p50 {}), {} of {} reads failed",
                self.scenario,
                self.rate,
                ratio(self.p99_ratio),
                ratio(self.p50_ratio),
                self.failed_reads,
                self.reads + self.failed_reads
            ),
            format!(
                "  {} rows in the windows, {:.0} a second; it ran {:.0}% of their time, and ended {} times; {} subjects destroyed",
                self.rows,
                self.rows_per_second,
                self.running_share * 100.0,
                self.operations_ended,
                self.destroyed
            ),
            format!(
                "  memory of the server {} MiB without, {} MiB with",
                mib(self.peak_bytes_without),
                mib(self.peak_bytes_with)
            ),
        ];
        if let Some((loaded, idle)) = self.update_rows_per_second.zip(self.idle_update_rows_per_second) {
            lines.push(format!(
                "  {} of bare updates under the same load ({loaded:.0} rows/s), {} of those without load ({idle:.0} rows/s)",
                ratio(self.ratio_to_update),
                ratio(self.ratio_to_idle_update)
            ));
        }
        lines.extend(self.pairs.iter().map(|pair| {
            format!("  p99 {:.0} µs without, {:.0} with", pair.p99_us_without, pair.p99_us_with)
        }));
        lines.extend(self.failures.iter().map(|(reason, count)| format!("  {count} × {reason}")));
        lines
    }
}

/// Work that is kept running, and what was seen of it.
struct Worker {
    work: Work,
    channel: Channel,
    operation: Option<pb::Operation>,
    seen: Seen,
}

#[derive(Debug, Default)]
struct Seen {
    rows: u64,
    counted: Duration,
    running: Duration,
    looked: Duration,
    ended: u64,
}

impl Worker {
    /// Begins the work, or lets what is paused go on; ready when rows are being read and written.
    async fn set_going(&mut self) -> Result<(), Failure> {
        match &self.operation {
            Some(known) => {
                let request = pb::ResumeOperationRequest {
                    request_id: request_id()?,
                    operation_id: known.operation_id.clone(),
                    rate: None,
                };
                operations(self.channel.clone()).resume_operation(request).await.map_err(refused)?;
            }
            None => self.begin().await?,
        }
        let since = Instant::now();
        while since.elapsed() < PATIENCE {
            match self.look().await? {
                Some(found) if self.work.is_on(&found) => return Ok(()),
                Some(_) => tokio::time::sleep(LOOK).await,
                // So few rows that it has ended already.
                None => return Ok(()),
            }
        }
        Err(Failure::new(exit::FAILED, format!("the {} does not go on", self.work.name())))
    }

    async fn begin(&mut self) -> Result<(), Failure> {
        let (request_id, platform) = (request_id()?, PLATFORM.to_owned());
        let begun = match self.work {
            Work::Rotation => {
                use pb::rotate_key_response::Outcome;
                let kind = pb::KeyKind::Platform.into();
                let request =
                    pb::RotateKeyRequest { request_id, platform, kind, ..pb::RotateKeyRequest::default() };
                let answer = keys(self.channel.clone()).rotate_key(request).await.map_err(refused)?;
                match answer.into_inner().outcome {
                    Some(Outcome::Operation(begun)) => Some(begun),
                    Some(Outcome::Plan(_) | Outcome::Proposal(_)) | None => None,
                }
            }
            Work::Sweep => {
                let request = pb::SweepRetentionRequest { request_id, platform, rate: 0 };
                let answer =
                    retention(self.channel.clone()).sweep_retention(request).await.map_err(refused)?;
                answer.into_inner().operation
            }
        };
        let missing = || Failure::new(exit::FAILED, format!("the {} did not begin", self.work.name()));
        self.operation = Some(begun.ok_or_else(missing)?);
        Ok(())
    }

    /// The work as it is now; none where it has ended.
    async fn look(&mut self) -> Result<Option<pb::Operation>, Failure> {
        let Some(known) = &self.operation else { return Ok(None) };
        let request = pb::GetOperationRequest { operation_id: known.operation_id.clone() };
        let answer = operations(self.channel.clone()).get_operation(request).await.map_err(refused)?;
        let found = answer.into_inner().operation;
        let found = found.ok_or_else(|| Failure::new(exit::FAILED, "the vault answered no operation"))?;
        match found.state() {
            pb::OperationState::Done => {
                self.operation = None;
                self.seen.ended += 1;
                Ok(None)
            }
            pb::OperationState::Failed | pb::OperationState::Cancelled => {
                Err(Failure::new(exit::FAILED, format!("the {} failed", self.work.name())))
            }
            pb::OperationState::Unspecified
            | pb::OperationState::Waiting
            | pb::OperationState::Running
            | pb::OperationState::Paused => {
                self.operation = Some(found.clone());
                Ok(Some(found))
            }
        }
    }

    /// Watches it, and begins another where one ends, until this is dropped.
    async fn keep_going(&mut self) -> Result<Never, Failure> {
        let mut before = (Instant::now(), self.operation.clone());
        loop {
            tokio::time::sleep(LOOK).await;
            let mut now = self.look().await?;
            let at = Instant::now();
            self.seen.take(self.work, [&before.1, &now], at - before.0);
            if now.is_none() {
                self.begin().await?;
                now.clone_from(&self.operation);
            }
            before = (at, now);
        }
    }

    async fn pause(&mut self) -> Result<(), Failure> {
        if self.look().await?.is_none() {
            return Ok(());
        }
        let Some(known) = &self.operation else { return Ok(()) };
        let operation_id = known.operation_id.clone();
        let request = pb::PauseOperationRequest { request_id: request_id()?, operation_id };
        let refusal = match operations(self.channel.clone()).pause_operation(request).await {
            Ok(_) => return Ok(()),
            Err(status) => refused(status),
        };
        // It may have ended since it was looked at.
        if self.look().await?.is_none() { Ok(()) } else { Err(refusal) }
    }

    /// Lets it come to its end; a sweep, of which nothing more is asked, only where that is soon.
    async fn end(&mut self) -> Result<(), Failure> {
        if self.operation.is_none() {
            return Ok(());
        }
        self.set_going().await?;
        let since = Instant::now();
        while let Some(known) = self.look().await? {
            if self.work == Work::Sweep && since.elapsed() > PATIENCE {
                let operation_id = known.operation_id;
                let request = pb::CancelOperationRequest { request_id: request_id()?, operation_id };
                let cancelled = operations(self.channel.clone()).cancel_operation(request).await;
                return cancelled.map(drop).map_err(refused);
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

/// What never comes.
enum Never {}

impl Seen {
    /// Takes what is between two looks.
    fn take(&mut self, work: Work, [before, now]: [&Option<pb::Operation>; 2], took: Duration) {
        self.looked += took;
        let Some(before) = before.as_ref().filter(|operation| work.is_on(operation)) else { return };
        self.running += took;
        let Some(now) = now.as_ref().filter(|now| now.operation_id == before.operation_id) else { return };
        if work.counts(before) && work.counts(now) {
            self.rows += u64::try_from(now.done - before.done).unwrap_or(0);
            self.counted += took;
        }
    }
}

/// Measures it.
pub(super) async fn measure(
    ground: &mut Ground,
    plan: Plan,
    mut told: impl FnMut(&str, u32) + Send,
) -> Result<Meanwhile, Failure> {
    let connection = ground.house.installation.connection(OFFICER)?;
    let channel = connect(&connection).await?;
    let mut worker = Worker { work: plan.work, channel, operation: None, seen: Seen::default() };
    let job = ground.job(Subject::Detokenize, Pace::Open(plan.rate), plan.window);
    let subjects = ground.house.ceiling.subjects().await?;
    let mut windows = Windows::default();
    for number in 1..=plan.pairs {
        told("reads without", number);
        ground.forget_peak();
        let without = ground.load.run(&job, |_| {}).await?;
        windows.peaks[0] = windows.peaks[0].max(ground.peak_bytes());
        told("waits until it goes on", number);
        worker.set_going().await?;
        told("reads with", number);
        ground.forget_peak();
        let with = during(ground, &job, &mut worker).await?;
        windows.peaks[1] = windows.peaks[1].max(ground.peak_bytes());
        worker.pause().await?;
        windows.take(&without, &with)?;
    }
    told("comes to its end", plan.pairs);
    worker.end().await?;
    let destroyed = subjects.saturating_sub(ground.house.ceiling.subjects().await?);
    let (mut loaded, mut idle) = (None, None);
    if plan.work == Work::Rotation {
        told("bare updates", plan.pairs);
        loaded = Some(updates_under_load(ground, &job).await?);
        idle = Some(updates_of_all(&ground.house.ceiling).await?);
    }
    let seen = worker.seen;
    let rows_per_second = per_second(seen.rows, seen.counted);
    let ratio = |of: Option<f64>| of.filter(|of| *of > 0.0).map(|of| rounded(rows_per_second / of));
    let Windows { pairs, samples, reads, failures, peaks: [peak_bytes_without, peak_bytes_with] } = windows;
    let (without, with): (Vec<_>, Vec<_>) = samples.into_iter().unzip();
    let middle = |of: fn(&Pair) -> f64| median(pairs.iter().map(of)).map(rounded);
    Ok(Meanwhile {
        scenario: plan.work.name(),
        rate: rounded(plan.rate),
        p50_ratio: middle(|pair| pair.p50_us_with / pair.p50_us_without.max(1.0)),
        p99_ratio: middle(|pair| pair.p99_us_with / pair.p99_us_without.max(1.0)),
        pairs,
        reads,
        failed_reads: failures.values().sum(),
        failures,
        rows: seen.rows,
        rows_per_second: rounded(rows_per_second),
        update_rows_per_second: loaded.map(rounded),
        idle_update_rows_per_second: idle.map(rounded),
        ratio_to_update: ratio(loaded),
        ratio_to_idle_update: ratio(idle),
        running_share: rounded(seen.running.as_secs_f64() / seen.looked.as_secs_f64().max(0.001)),
        operations_ended: seen.ended,
        destroyed,
        peak_bytes_without,
        peak_bytes_with,
        percentiles_without: percentiles_of(&without)?,
        percentiles_with: percentiles_of(&with)?,
    })
}

/// What the windows came to.
#[derive(Default)]
struct Windows {
    pairs: Vec<Pair>,
    /// Without the work, and with it.
    samples: Vec<(Sample, Sample)>,
    reads: u64,
    failures: BTreeMap<String, u64>,
    /// Most memory of the server without the work, and with it.
    peaks: [Option<u64>; 2],
}

impl Windows {
    fn take(&mut self, without: &Counted, with: &Counted) -> Result<(), Failure> {
        for counted in [without, with] {
            self.reads += counted.calls;
            for (reason, count) in &counted.failures {
                *self.failures.entry(reason.clone()).or_default() += count;
            }
        }
        let (without, with) = (Sample::of(without)?, Sample::of(with)?);
        self.pairs.push(Pair {
            p50_us_without: without.p50_us,
            p50_us_with: with.p50_us,
            p99_us_without: without.p99_us,
            p99_us_with: with.p99_us,
        });
        self.samples.push((without, with));
        Ok(())
    }
}

/// A window of load beside the work.
async fn during(ground: &mut Ground, job: &Job, worker: &mut Worker) -> Result<Counted, Failure> {
    tokio::select! {
        counted = ground.load.run(job, |_| {}) => counted,
        ended = worker.keep_going() => match ended? {},
    }
}

/// Rows a second of bare updates beside a window of load.
async fn updates_under_load(ground: &mut Ground, job: &Job) -> Result<f64, Failure> {
    let (began, mut rows, mut after) = (Instant::now(), 0, FIRST);
    let Ground { house, load, .. } = ground;
    let window = load.run(job, |_| {});
    tokio::pin!(window);
    loop {
        tokio::select! {
            counted = &mut window => return counted.map(|_| per_second(rows, began.elapsed())),
            done = house.ceiling.rewrite(after, ROWS) => match done? {
                Some((done, last)) => (rows, after) = (rows + done, last),
                None => after = FIRST,
            },
        }
    }
}

/// Rows a second of bare updates of every subject, with nothing beside them.
async fn updates_of_all(ceiling: &Ceiling) -> Result<f64, Failure> {
    let (began, mut rows, mut after) = (Instant::now(), 0, FIRST);
    while let Some((done, last)) = ceiling.rewrite(after, ROWS).await? {
        (rows, after) = (rows + done, last);
    }
    Ok(per_second(rows, began.elapsed()))
}

/// Before every subject.
const FIRST: SubjectId = SubjectId::from_bytes([0; 16]);

fn per_second(rows: u64, took: Duration) -> f64 {
    float(rows) * 1_000_000.0 / float(micros(took).max(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn operation(id: &str, phase: &str, done: i64) -> pb::Operation {
        pb::Operation {
            operation_id: id.to_owned(),
            state: pb::OperationState::Running.into(),
            phase: phase.to_owned(),
            done,
            ..pb::Operation::default()
        }
    }

    #[test]
    fn only_rows_that_were_wrapped_meanwhile_count() {
        let mut seen = Seen::default();
        let mut take = |before: &_, now: &_| seen.take(Work::Rotation, [before, now], Duration::from_secs(1));
        take(&Some(operation("a", "rewrap", 10)), &Some(operation("a", "rewrap", 60)));
        take(&Some(operation("a", "rewrap", 60)), &Some(operation("a", "verify", 100)));
        take(&Some(operation("a", "verify", 100)), &None);
        take(&Some(operation("b", "activate", 0)), &Some(operation("b", "rewrap", 40)));
        take(&Some(operation("b", "rewrap", 40)), &Some(operation("b", "rewrap", 90)));
        assert_eq!((seen.rows, seen.counted.as_secs()), (100, 2));
        assert_eq!((seen.running.as_secs(), seen.looked.as_secs()), (4, 5));
    }

    #[test]
    fn a_sweep_counts_while_it_runs() {
        let (mut seen, second) = (Seen::default(), Duration::from_secs(1));
        seen.take(Work::Sweep, [&Some(operation("a", "", 0)), &Some(operation("a", "", 64))], second);
        seen.take(Work::Sweep, [&Some(operation("a", "", 64)), &None], second);
        assert_eq!((seen.rows, seen.counted, seen.running), (64, second, second * 2));
    }
}
