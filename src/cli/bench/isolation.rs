//! Two platforms in one vault, each with a lane of its own: what the one's flood costs the other, in windows without it, with
//! it, and with the same flood on a bare server instead, by turns. The last tells what the load alone costs, which shares
//! the processors with the vault.

use std::collections::BTreeMap;

use serde::Serialize;

use super::{
    Failure, WARM_UP,
    job::{Pace, Until},
    measure::{Ground, Sample, percentiles_of, reads},
    numbers::{float, median},
    overload::{CALLERS, Reasons, TIMES, echoes, reads_of_first},
    report::rounded,
};
use crate::cli::output::exit;

/// Calls a second of the other platform: few, so that it is no load itself.
const RATE: f64 = 200.0;
/// Its connections.
const CONNECTIONS: u32 = 1;

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    /// Of the peak.
    pub(super) until: Until,
    /// Pairs of windows.
    pub(super) pairs: u32,
    pub(super) window: Until,
    pub(super) rate: Option<f64>,
}

/// What it came to. docs/performance.md says what each key is.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Isolation {
    scenario: &'static str,
    rate: f64,
    flood_rate: f64,
    flood_offered_per_second: f64,
    flood_answered_per_second: f64,
    refused: u64,
    refusals: BTreeMap<String, u64>,
    pairs: Vec<Pair>,
    p50_ratio: Option<f64>,
    p99_ratio: Option<f64>,
    p99_ratio_to_beside_echo: Option<f64>,
    reads: u64,
    failed_reads: u64,
    failures: BTreeMap<String, u64>,
    percentiles_without: Vec<(f64, u64)>,
    percentiles_with: Vec<(f64, u64)>,
}

/// Reads of the other platform in windows beside each other.
#[derive(Debug, Clone, Copy, Serialize)]
struct Pair {
    p50_us_without: f64,
    p50_us_with: f64,
    p99_us_without: f64,
    p99_us_with: f64,
    /// The flood was a bare server's.
    p50_us_beside_echo: f64,
    p99_us_beside_echo: f64,
}

impl Isolation {
    pub(super) const fn failed(&self) -> u64 {
        self.failed_reads
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
        let mut lines = vec![
            String::new(),
            format!(
                "isolation: {:.0} reads a second beside another platform's flood of {:.0} ({:.0} answered, {} refused): \
                 p99 {} times that without (p50 {}), {} times that beside as many echoes, {} of {} failed",
                self.rate,
                self.flood_offered_per_second,
                self.flood_answered_per_second,
                self.refused,
                ratio(self.p99_ratio),
                ratio(self.p50_ratio),
                ratio(self.p99_ratio_to_beside_echo),
                self.failed_reads,
                self.reads + self.failed_reads
            ),
        ];
        lines.extend(self.pairs.iter().map(|pair| {
            let (without, with, echoes) = (pair.p99_us_without, pair.p99_us_with, pair.p99_us_beside_echo);
            format!("  p99 {without:.0} µs without, {with:.0} with, {echoes:.0} beside as many echoes")
        }));
        lines.extend(self.failures.iter().map(|(reason, count)| format!("  {count} × {reason}")));
        lines
    }
}

/// Measures it.
pub(super) async fn measure(
    ground: &mut Ground,
    plan: Plan,
    mut told: impl FnMut(&str, u32) + Send,
) -> Result<Isolation, Failure> {
    let Some(other) = ground.house.further.first().cloned() else {
        return Err(Failure::new(exit::FAILED, "there is no second platform"));
    };
    told("the peak", 0);
    let peak = reads_of_first(ground, Pace::Closed(CALLERS), plan.until);
    let peak = ground.load.run(&peak, |_| {}).await?;
    let flood_rate = Sample::of(&peak)?.calls_per_second * TIMES;
    let flood = reads_of_first(ground, Pace::Open(flood_rate), plan.window);
    let echoing = echoes(ground, Pace::Open(flood_rate), plan.window);
    let rate = plan.rate.unwrap_or(RATE);
    let small = |until| reads(vec![ground.source_of(&other)], CONNECTIONS, Pace::Open(rate), until);
    let (warm_up, small) = (small(Until::Calls(WARM_UP)), small(plan.window));
    ground.aside(&warm_up).await?;
    let (mut pairs, mut read, mut of_flood, mut of_reads) =
        (Vec::new(), 0, Reasons::default(), Reasons::default());
    let (mut offered, mut answered) = (Vec::new(), Vec::new());
    let (mut all_without, mut all_with) = (Vec::new(), Vec::new());
    for number in 1..=plan.pairs {
        told("reads without", number);
        let without = ground.aside(&small).await?;
        told("reads with", number);
        let [flooding, with] = ground.beside(&flood, &small).await?;
        told("reads beside as many echoes", number);
        let [echoed, elsewhere] = ground.beside(&echoing, &small).await?;
        let seconds = float(flooding.sending_micros.max(1)) / 1_000_000.0;
        offered.push(float(flooding.calls + flooding.failed()) / seconds);
        answered.push(float(flooding.calls_meanwhile) / seconds);
        of_flood.take(&flooding);
        for counted in [&without, &with, &elsewhere] {
            read += counted.calls;
            of_reads.take_failures(counted);
        }
        of_reads.take_failures(&echoed);
        let [without, with, elsewhere] = [Sample::of(&without)?, Sample::of(&with)?, Sample::of(&elsewhere)?];
        pairs.push(Pair {
            p50_us_without: without.p50_us,
            p50_us_with: with.p50_us,
            p99_us_without: without.p99_us,
            p99_us_with: with.p99_us,
            p50_us_beside_echo: elsewhere.p50_us,
            p99_us_beside_echo: elsewhere.p99_us,
        });
        all_without.push(without);
        all_with.push(with);
    }
    let middle = |numbers: Vec<f64>| rounded(median(numbers).unwrap_or_default());
    let ratio = |of: fn(&Pair) -> f64| median(pairs.iter().map(of)).map(rounded);
    let Reasons { refusals, failures: strange } = of_flood;
    let mut failures = of_reads.failures;
    let failed_reads = failures.values().sum::<u64>() + strange.values().sum::<u64>();
    for (reason, count) in strange {
        *failures.entry(reason).or_default() += count;
    }
    Ok(Isolation {
        scenario: "isolation",
        rate: rounded(rate),
        flood_rate: rounded(flood_rate),
        flood_offered_per_second: middle(offered),
        flood_answered_per_second: middle(answered),
        refused: refusals.values().sum(),
        refusals,
        p50_ratio: ratio(|pair| pair.p50_us_with / pair.p50_us_without.max(1.0)),
        p99_ratio: ratio(|pair| pair.p99_us_with / pair.p99_us_without.max(1.0)),
        p99_ratio_to_beside_echo: ratio(|pair| pair.p99_us_with / pair.p99_us_beside_echo.max(1.0)),
        pairs,
        reads: read,
        failed_reads,
        failures,
        percentiles_without: percentiles_of(&all_without)?,
        percentiles_with: percentiles_of(&all_with)?,
    })
}
