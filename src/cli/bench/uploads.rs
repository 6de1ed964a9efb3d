//! Images of documents: how fast they stream in beside the same stream that nobody seals, how much memory a crowd of
//! them takes, and what they cost those who read values meanwhile.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Failure,
    job::{Pace, Until},
    measure::{Ground, Sample, Series, Subject},
    numbers::median,
    report::rounded,
};
use crate::cli::output::exit;

/// Streams at once of the comparison.
const STREAMS: u32 = 4;
/// Share of the uploads' capacity that reads are measured beside.
const BESIDE: f64 = 0.5;

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) rounds: u32,
    pub(super) until: Until,
    /// Uploads at once of the crowd.
    pub(super) crowd: u32,
    /// Pairs of windows of reads.
    pub(super) pairs: u32,
    pub(super) window: Until,
    /// Reads a second.
    pub(super) rate: f64,
}

/// What uploads came to. docs/performance.md says what each key is.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Images {
    scenario: &'static str,
    streams: u32,
    document_bytes: u64,
    uploads: u64,
    failed: u64,
    failures: BTreeMap<String, u64>,
    bytes_per_second: f64,
    unsealed_bytes_per_second: f64,
    ratio_to_unsealed: Option<f64>,
    p50_us: f64,
    p99_us: f64,
    server_cpu_us: Option<f64>,
    unsealed_server_cpu_us: Option<f64>,
    crowd_uploads: u64,
    crowd_peak_bytes: Option<u64>,
    crowd_growth_bytes: Option<u64>,
    memory_budget_bytes: u64,
    rate: f64,
    upload_rate: f64,
    pairs: Vec<Pair>,
    p99_ratio: Option<f64>,
    reads: u64,
    failed_reads: u64,
    percentiles: Vec<(f64, u64)>,
    unsealed_percentiles: Vec<(f64, u64)>,
}

/// Reads in two windows beside each other.
#[derive(Debug, Clone, Copy, Serialize)]
struct Pair {
    p99_us_without: f64,
    p99_us_with: f64,
}

impl Images {
    pub(super) const fn failed(&self) -> u64 {
        self.failed + self.failed_reads
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let number =
            |number: Option<f64>| number.map_or_else(|| "–".to_owned(), |number| format!("{number:.2}"));
        let mib =
            |bytes: Option<u64>| bytes.map_or_else(|| "–".to_owned(), |bytes| (bytes >> 20).to_string());
        let mut lines = vec![
            String::new(),
            format!(
                "uploads of {} MiB, {} streams: {:.0} MB/s, {} of the same stream unsealed ({:.0} MB/s), {} failed",
                self.document_bytes >> 20,
                self.streams,
                self.bytes_per_second / 1e6,
                number(self.ratio_to_unsealed),
                self.unsealed_bytes_per_second / 1e6,
                self.failed
            ),
            format!(
                "  {} at once: the server grew by {} MiB to {} MiB; all streams may share {} MiB",
                self.crowd_uploads,
                mib(self.crowd_growth_bytes),
                mib(self.crowd_peak_bytes),
                self.memory_budget_bytes >> 20
            ),
            format!(
                "  beside {:.1} uploads a second, p99 of {:.0} reads a second is {} times that without; {} of {} failed",
                self.upload_rate,
                self.rate,
                number(self.p99_ratio),
                self.failed_reads,
                self.reads + self.failed_reads
            ),
        ];
        lines.extend(self.pairs.iter().map(|pair| {
            format!("  p99 {:.0} µs without, {:.0} with", pair.p99_us_without, pair.p99_us_with)
        }));
        lines.extend(self.failures.iter().map(|(reason, count)| format!("  {count} × {reason}")));
        lines
    }
}

/// Failures of several slices.
#[derive(Default)]
struct Failures(BTreeMap<String, u64>);

impl Failures {
    fn take(&mut self, sample: &Sample) {
        for (reason, count) in &sample.failures {
            *self.0.entry(reason.clone()).or_default() += count;
        }
    }
}

/// Measures it.
pub(super) async fn measure(
    ground: &mut Ground,
    plan: Plan,
    mut told: impl FnMut(&str, u32) + Send,
) -> Result<Images, Failure> {
    let subjects = [Subject::Unsealed, Subject::Upload];
    let all = ground
        .rounds(
            &subjects,
            |_| Pace::Closed(STREAMS),
            (plan.rounds, plan.until),
            |subject, round| {
                told(subject.name(), round);
            },
        )
        .await?;
    let [unsealed, sealed] = all.as_slice() else {
        return Err(Failure::new(exit::FAILED, "nothing was measured"));
    };
    let rate_of = |series: &Series| series.median(|sample| sample.items_per_second);
    let cpu_of = |series: &Series| series.median_of_known(|sample| sample.server_cpu_us).map(rounded);
    let (bytes, uploads_a_second) = (rate_of(sealed), sealed.median(|sample| sample.calls_per_second));
    let mut failures = Failures::default();
    all.iter().flat_map(|series| &series.samples).for_each(|sample| failures.take(sample));

    told("a crowd", 1);
    ground.forget_peak();
    let before = ground.peak_bytes();
    let crowd =
        ground.slice(Subject::Upload, Pace::Closed(plan.crowd), Until::Calls(plan.crowd.into())).await?;
    failures.take(&crowd);
    let grown = crowd.peak_bytes.zip(before).map(|(peak, before)| peak.saturating_sub(before));

    let upload_rate = uploads_a_second * BESIDE;
    let (mut pairs, mut reads, mut failed_reads) = (Vec::new(), 0, 0);
    for number in 1..=plan.pairs {
        told("reads without", number);
        let reading = ground.job(Subject::Detokenize, Pace::Open(plan.rate), plan.window);
        let without = ground.load.run(&reading, |_| {}).await?;
        told("reads with", number);
        let uploading = ground.job(Subject::Upload, Pace::Open(upload_rate), plan.window);
        let [with, beside] = ground.beside(&reading, &uploading).await?;
        failures.take(&Sample::of(&beside)?);
        reads += without.calls + with.calls;
        failed_reads += without.failed() + with.failed();
        let (without, with) = (Sample::of(&without)?, Sample::of(&with)?);
        pairs.push(Pair { p99_us_without: without.p99_us, p99_us_with: with.p99_us });
    }
    let ratios = pairs.iter().map(|pair| pair.p99_us_with / pair.p99_us_without.max(1.0));
    Ok(Images {
        scenario: "upload",
        streams: STREAMS,
        document_bytes: DOCUMENT_BYTES,
        uploads: sealed.samples.iter().map(|sample| sample.calls).sum(),
        failed: failures.0.values().sum(),
        failures: failures.0,
        bytes_per_second: rounded(bytes),
        unsealed_bytes_per_second: rounded(rate_of(unsealed)),
        ratio_to_unsealed: sealed.ratio_to(unsealed, |sample| sample.items_per_second).map(rounded),
        p50_us: sealed.median(|sample| sample.p50_us),
        p99_us: sealed.median(|sample| sample.p99_us),
        server_cpu_us: cpu_of(sealed),
        unsealed_server_cpu_us: cpu_of(unsealed),
        crowd_uploads: crowd.calls,
        crowd_peak_bytes: crowd.peak_bytes,
        crowd_growth_bytes: grown,
        memory_budget_bytes: u64::from(ground.house.documents_mib) << 20,
        rate: rounded(plan.rate),
        upload_rate: rounded(upload_rate),
        p99_ratio: median(ratios).map(rounded),
        pairs,
        reads,
        failed_reads,
        percentiles: sealed.percentiles()?,
        unsealed_percentiles: unsealed.percentiles()?,
    })
}

/// Bytes of an image.
pub(super) const DOCUMENT_BYTES: u64 = 5 << 20;
