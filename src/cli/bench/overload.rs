//! More calls than the vault can answer: an open loop at twice the peak that a closed loop just reached. What is answered
//! meanwhile, how those are refused that are not, and how long it takes until the vault is as it was. The load takes
//! processors of the same machine, and twice the calls take twice as much: so the same closed loop is measured beside an
//! open loop to a bare server, which together make as many calls.

use std::{collections::BTreeMap, time::Instant};

use hdrhistogram::Histogram;
use serde::Serialize;

use super::{
    Failure,
    job::{Counted, DIGITS, Job, Pace, REFUSALS, Until, histogram},
    measure::{Ground, Sample, reads},
    numbers::{float, median, percentiles},
    report::rounded,
};

/// Callers of the closed loop whose rate is the peak, at least.
pub(super) const CALLERS: u32 = 256;
/// Connections of all that is measured here, at least: over each come 256 calls at once, and a caller may have 512.
const CONNECTIONS: u32 = 4;
/// How many times the peak.
pub(super) const TIMES: f64 = 2.0;
/// What is as before: nothing is refused, and its p99 at most so many times the one before.
const NEAR: f64 = 2.0;
/// After so long nobody waits any more for it to be as before.
const GIVEN_UP: f64 = 10.0;

/// What to measure.
#[derive(Debug, Clone, Copy)]
pub(super) struct Plan {
    pub(super) rounds: u32,
    pub(super) callers: u32,
    /// Of peak and moderate load.
    pub(super) until: Until,
    /// Of the load that is too much.
    pub(super) flood: Until,
    /// Windows after it.
    pub(super) window: Until,
    /// Share of the peak that the moderate load is, where it has no rate.
    pub(super) share: f64,
    pub(super) rate: Option<f64>,
}

/// What it came to. docs/performance.md says what each key is.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Overload {
    scenario: &'static str,
    concurrency: u32,
    connections: u32,
    peak_calls_per_second: f64,
    flood_rate: f64,
    offered_per_second: f64,
    goodput_per_second: f64,
    goodput_to_peak: Option<f64>,
    beside_echo_per_second: f64,
    goodput_to_beside_echo: Option<f64>,
    answered: u64,
    answered_p50_us: u64,
    answered_p99_us: u64,
    refused: u64,
    refusals: BTreeMap<String, u64>,
    refused_p50_us: u64,
    refused_p99_us: u64,
    failed: u64,
    failures: BTreeMap<String, u64>,
    rate: f64,
    p99_us_before: f64,
    p99_us_after: Option<f64>,
    recovery_ms: Option<f64>,
    answered_percentiles: Vec<(f64, u64)>,
    refused_percentiles: Vec<(f64, u64)>,
}

impl Overload {
    pub(super) const fn failed(&self) -> u64 {
        self.failed
    }

    pub(super) fn lines(&self) -> Vec<String> {
        let recovered = self
            .recovery_ms
            .map_or_else(|| "it was not as before".to_owned(), |ms| format!("as before after {ms:.0} ms"));
        let ratio = |ratio: Option<f64>| ratio.map_or_else(|| "–".to_owned(), |ratio| format!("{ratio:.2}"));
        let mut lines = vec![
            String::new(),
            format!(
                "overload: {:.0} calls a second offered, twice the peak of {:.0}: {:.0} answered, {} of the peak and {} of the \
                 {:.0} that the same callers get beside as many echoes",
                self.offered_per_second,
                self.peak_calls_per_second,
                self.goodput_per_second,
                ratio(self.goodput_to_peak),
                ratio(self.goodput_to_beside_echo),
                self.beside_echo_per_second
            ),
            format!(
                "  {} answered: p50 {} µs, p99 {} µs; {} refused: p50 {} µs, p99 {} µs; {} failed",
                self.answered,
                self.answered_p50_us,
                self.answered_p99_us,
                self.refused,
                self.refused_p50_us,
                self.refused_p99_us,
                self.failed
            ),
            format!(
                "  then {:.0} calls a second: {recovered} (p99 {:.0} µs before)",
                self.rate, self.p99_us_before
            ),
        ];
        lines.extend(
            self.refusals.iter().chain(&self.failures).map(|(reason, count)| format!("  {count} × {reason}")),
        );
        lines
    }
}

/// How often which reason was heard: of refusals for too many calls, and of everything else.
#[derive(Debug, Default)]
pub(super) struct Reasons {
    pub(super) refusals: BTreeMap<String, u64>,
    pub(super) failures: BTreeMap<String, u64>,
}

impl Reasons {
    /// Takes calls that may be refused.
    pub(super) fn take(&mut self, counted: &Counted) {
        for (reason, count) in &counted.failures {
            let refused = REFUSALS.contains(&reason.as_str());
            let of = if refused { &mut self.refusals } else { &mut self.failures };
            *of.entry(reason.clone()).or_default() += count;
        }
    }

    /// Takes calls that are few enough for all to be answered.
    pub(super) fn take_failures(&mut self, counted: &Counted) {
        for (reason, count) in &counted.failures {
            *self.failures.entry(reason.clone()).or_default() += count;
        }
    }
}

/// Figures of the rounds.
struct Rounds {
    peaks: Vec<f64>,
    offered: Vec<f64>,
    goodput: Vec<f64>,
    beside_echo: Vec<f64>,
    rates: Vec<f64>,
    before: Vec<f64>,
    /// Time and p99 of each that was as before in time.
    after: Vec<(f64, f64)>,
    answered: Histogram<u64>,
    refused: Histogram<u64>,
    reasons: Reasons,
}

impl Rounds {
    fn new() -> Result<Self, Failure> {
        Ok(Self {
            peaks: Vec::new(),
            offered: Vec::new(),
            goodput: Vec::new(),
            beside_echo: Vec::new(),
            rates: Vec::new(),
            before: Vec::new(),
            after: Vec::new(),
            answered: Histogram::new(DIGITS)?,
            refused: Histogram::new(DIGITS)?,
            reasons: Reasons::default(),
        })
    }

    fn take_flood(&mut self, counted: &Counted) -> Result<(), Failure> {
        let seconds = float(counted.sending_micros.max(1)) / 1_000_000.0;
        self.offered.push(float(counted.calls + counted.failed()) / seconds);
        self.goodput.push(float(counted.calls_meanwhile) / seconds);
        self.answered.add(histogram(&counted.answered)?)?;
        self.refused.add(histogram(&counted.refused)?)?;
        self.reasons.take(counted);
        Ok(())
    }
}

/// Reads of the first platform over enough connections.
pub(super) fn reads_of_first(ground: &Ground, pace: Pace, until: Until) -> Job {
    reads(vec![ground.source()], connections(ground), pace, until)
}

/// Connections of what is too much.
fn connections(ground: &Ground) -> u32 {
    ground.connections_for(1).max(CONNECTIONS)
}

/// The same calls to a bare server.
pub(super) fn echoes(ground: &Ground, pace: Pace, until: Until) -> Job {
    reads(vec![ground.source_of_echo()], connections(ground), pace, until)
}

/// Measures it.
pub(super) async fn measure(
    ground: &mut Ground,
    plan: Plan,
    mut told: impl FnMut(&str, u32) + Send,
) -> Result<Overload, Failure> {
    let mut rounds = Rounds::new()?;
    for round in 1..=plan.rounds {
        told("the peak", round);
        let job = reads_of_first(ground, Pace::Closed(plan.callers), plan.until);
        let counted = ground.load.run(&job, |_| {}).await?;
        rounds.reasons.take_failures(&counted);
        let peak = Sample::of(&counted)?.calls_per_second;
        let rate = plan.rate.unwrap_or(peak * plan.share);
        told("a moderate load", round);
        let moderate = reads_of_first(ground, Pace::Open(rate), plan.until);
        let counted = ground.load.run(&moderate, |_| {}).await?;
        rounds.reasons.take_failures(&counted);
        let before = Sample::of(&counted)?.p99_us;
        told("the peak beside as many echoes", round);
        let (job, beside) = (
            reads_of_first(ground, Pace::Closed(plan.callers), plan.until),
            echoes(ground, Pace::Open(peak), plan.until),
        );
        let [counted, echoed] = ground.beside(&job, &beside).await?;
        for counted in [&counted, &echoed] {
            rounds.reasons.take_failures(counted);
        }
        rounds.beside_echo.push(Sample::of(&counted)?.calls_per_second);
        told("twice the peak", round);
        let job = reads_of_first(ground, Pace::Open(peak * TIMES), plan.flood);
        let counted = ground.load.run(&job, |_| {}).await?;
        rounds.take_flood(&counted)?;
        told("a moderate load again", round);
        let since = float(counted.micros.saturating_sub(counted.sending_micros)) / 1_000.0;
        let job = reads_of_first(ground, Pace::Open(rate), plan.window);
        rounds.after.extend(recover(ground, &job, since, before).await?);
        rounds.peaks.push(peak);
        rounds.rates.push(rate);
        rounds.before.push(before);
    }
    Ok(overload(&plan, connections(ground), rounds))
}

fn overload(plan: &Plan, connections: u32, rounds: Rounds) -> Overload {
    let middle = |numbers: &[f64]| rounded(median(numbers.iter().copied()).unwrap_or_default());
    let Reasons { refusals, failures } = rounds.reasons;
    let all_after = rounds.after.len() == rounds.before.len();
    let goodput_to = |others: &[f64]| {
        let ratios = rounds.goodput.iter().zip(others).filter(|(_, other)| **other > 0.0);
        median(ratios.map(|(goodput, other)| goodput / other)).map(rounded)
    };
    Overload {
        scenario: "overload",
        concurrency: plan.callers,
        connections,
        peak_calls_per_second: middle(&rounds.peaks),
        flood_rate: rounded(middle(&rounds.peaks) * TIMES),
        offered_per_second: middle(&rounds.offered),
        goodput_per_second: middle(&rounds.goodput),
        goodput_to_peak: goodput_to(&rounds.peaks),
        beside_echo_per_second: middle(&rounds.beside_echo),
        goodput_to_beside_echo: goodput_to(&rounds.beside_echo),
        answered: rounds.answered.len(),
        answered_p50_us: rounds.answered.value_at_quantile(0.5),
        answered_p99_us: rounds.answered.value_at_quantile(0.99),
        refused: refusals.values().sum(),
        refusals,
        refused_p50_us: rounds.refused.value_at_quantile(0.5),
        refused_p99_us: rounds.refused.value_at_quantile(0.99),
        failed: failures.values().sum(),
        failures,
        rate: middle(&rounds.rates),
        p99_us_before: middle(&rounds.before),
        p99_us_after: median(rounds.after.iter().map(|(_, p99)| *p99)).filter(|_| all_after).map(rounded),
        recovery_ms: rounds
            .after
            .iter()
            .map(|(after, _)| *after)
            .max_by(f64::total_cmp)
            .filter(|_| all_after)
            .map(rounded),
        answered_percentiles: percentiles(&rounds.answered),
        refused_percentiles: percentiles(&rounds.refused),
    }
}

/// Windows of a moderate load until one is as it was before: when that one began, in milliseconds after the last call of
/// the load that was too much, and its p99.
async fn recover(
    ground: &mut Ground,
    job: &Job,
    since: f64,
    before: f64,
) -> Result<Option<(f64, f64)>, Failure> {
    let began = Instant::now();
    while began.elapsed().as_secs_f64() < GIVEN_UP {
        let after = since + began.elapsed().as_secs_f64() * 1_000.0;
        let counted = ground.load.run(job, |_| {}).await?;
        let p99 = Sample::of(&counted)?.p99_us;
        if counted.failed() == 0 && p99 <= before * NEAR {
            return Ok(Some((after, p99)));
        }
    }
    Ok(None)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_for_too_many_calls_is_no_failure() {
        let failures =
            [("OVERLOADED", 5), ("CALLER_LIMITED", 2), ("OVERLOADED without RetryInfo", 1), ("DATA_LOSS", 1)];
        let failures = failures.map(|(reason, count)| (reason.to_owned(), count));
        let counted = Counted { failures: failures.into(), ..Counted::default() };
        let (mut reasons, mut moderate) = (Reasons::default(), Reasons::default());
        reasons.take(&counted);
        assert_eq!(reasons.refusals.values().sum::<u64>(), 7);
        assert_eq!(reasons.failures.values().sum::<u64>(), 2);
        moderate.take_failures(&counted);
        assert_eq!(moderate.failures.values().sum::<u64>(), 9, "at a moderate rate nothing is to be refused");
    }

    #[test]
    fn goodput_is_what_was_answered_while_calls_were_sent() {
        let mut rounds = Rounds::new().unwrap();
        let flood = Counted {
            calls: 1_500,
            calls_meanwhile: 1_000,
            micros: 3_000_000,
            sending_micros: 2_000_000,
            failures: [("OVERLOADED".to_owned(), 500)].into(),
            answered: vec![(1_000, 1_500)],
            refused: vec![(10, 500)],
            ..Counted::default()
        };
        rounds.take_flood(&flood).unwrap();
        rounds.peaks.push(1_000.0);
        rounds.before.push(1.0);
        let plan = Plan {
            rounds: 1,
            callers: 1,
            until: Until::Calls(1),
            flood: Until::Calls(1),
            window: Until::Calls(1),
            share: 0.3,
            rate: None,
        };
        let overload = overload(&plan, 4, rounds);
        assert_eq!((overload.offered_per_second, overload.goodput_to_peak), (1_000.0, Some(0.5)));
        assert_eq!((overload.answered, overload.refused, overload.failed), (1_500, 500, 0));
        assert_eq!((overload.recovery_ms, overload.p99_us_after), (None, None), "it was never as before");
    }
}
