//! What the bench asks of its load process, and what that answers: a line of JSON each, on stdin and stdout.

use std::{collections::BTreeMap, path::PathBuf};

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use super::Failure;

/// What one call does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum CallKind {
    /// Reads a value.
    Detokenize,
    /// Reads many values in one call.
    BatchDetokenize,
    /// Stores a person with four values and a consent.
    Tokenize,
    /// Stores many such people in one call.
    BatchTokenize,
    /// Asks whether a token stands for a value; it does.
    Compare,
    /// Of a hundred calls 90 read, 8 store, 2 compare.
    Mixed,
    /// Streams an image in.
    Upload,
}

/// When a slice of load ends.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Until {
    /// No call begins after so many seconds.
    Seconds(f64),
    /// After so many calls.
    Calls(u64),
}

/// How calls follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Pace {
    /// So many callers, each with its next call when the last is answered.
    Closed(u32),
    /// So many calls a second, whatever becomes of those before. Times count from the instant that a call was due, so a
    /// call that had to wait to be sent counts as slow.
    Open(f64),
}

/// Whose calls they are, and what they are about.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Source {
    /// Who calls, and where.
    pub(super) connection: PathBuf,
    /// Who stores people, where that is somebody else.
    pub(super) storing: PathBuf,
    /// Tokens to ask for.
    pub(super) tokens: PathBuf,
}

/// Work for the load process.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "job", rename_all = "snake_case")]
pub(super) enum Job {
    /// Store synthetic people.
    People {
        /// Who stores them, and where.
        connection: PathBuf,
        /// How many.
        count: u32,
        /// Where their tokens go, a line each, with the number of the surname.
        tokens: PathBuf,
        /// Whether they agree to an image too.
        images: bool,
        /// Whether their consent ends soon.
        ending: bool,
    },
    /// Calls.
    Calls {
        /// Who calls, in turn.
        sources: Vec<Source>,
        /// Connections of each, to share.
        connections: u32,
        /// What each does.
        call: CallKind,
        /// The purpose that values are read for.
        purpose: String,
        /// How they follow each other.
        pace: Pace,
        /// For how long.
        until: Until,
    },
}

/// What the load process says.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(tag = "told", rename_all = "snake_case")]
pub(super) enum Told {
    /// How far a job is.
    Progress {
        /// So much of it.
        done: u64,
    },
    /// The job is done.
    Done(Counted),
    /// The job could not be done.
    Failed {
        /// Why.
        message: String,
    },
}

/// What a slice of load came to.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Counted {
    /// Calls that were answered as wanted.
    pub(super) calls: u64,
    /// Values, people or bytes that they were about.
    pub(super) items: u64,
    /// Calls that were not, by reason.
    pub(super) failures: BTreeMap<String, u64>,
    /// From the first call's begin to the last one's end.
    pub(super) micros: u64,
    /// The same until the last call of an open loop was sent.
    pub(super) sending_micros: u64,
    /// Calls that were answered as wanted by then.
    pub(super) calls_meanwhile: u64,
    /// Microseconds of a call that was answered as wanted, and how many took so long.
    pub(super) answered: Vec<(u64, u64)>,
    /// The same of those that were not.
    pub(super) refused: Vec<(u64, u64)>,
}

impl Counted {
    /// Calls that were not answered as wanted.
    pub(super) fn failed(&self) -> u64 {
        self.failures.values().sum()
    }

    /// Times of all calls.
    pub(super) fn histogram(&self) -> Result<Histogram<u64>, Failure> {
        histogram(self.answered.iter().chain(&self.refused))
    }
}

/// What a histogram holds.
pub(super) fn steps(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    histogram.iter_recorded().map(|step| (step.value_iterated_to(), step.count_at_value())).collect()
}

/// The histogram that holds it.
pub(super) fn histogram<'a>(
    steps: impl IntoIterator<Item = &'a (u64, u64)>,
) -> Result<Histogram<u64>, Failure> {
    let mut histogram = Histogram::new(DIGITS)?;
    for (micros, calls) in steps {
        histogram.record_n(*micros, *calls)?;
    }
    Ok(histogram)
}

/// Reasons by which calls are refused that are too many, each with the time after which to try again.
pub(super) const REFUSALS: [&str; 2] = ["OVERLOADED", "CALLER_LIMITED"];

/// Digits of a latency that are kept.
pub(super) const DIGITS: u8 = 3;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn latencies_survive_the_way_to_the_bench() {
        let mut histogram = Histogram::<u64>::new(DIGITS).unwrap();
        (1..=10_000).for_each(|micros| histogram.record(micros * 37).unwrap());
        let counted = Counted { calls: 9_999, answered: steps(&histogram), ..Counted::default() };
        let counted = Counted { refused: vec![(1_000_000, 1)], ..counted };
        let line = serde_json::to_string(&Told::Done(counted.clone())).unwrap();
        let Ok(Told::Done(back)) = serde_json::from_str(&line) else { panic!("{line}") };
        assert_eq!(back, counted);
        histogram.record(1_000_000).unwrap();
        let back = back.histogram().unwrap();
        assert_eq!(back.len(), 10_001);
        for quantile in [0.5, 0.99, 1.0] {
            assert_eq!(back.value_at_quantile(quantile), histogram.value_at_quantile(quantile));
        }
    }
}
