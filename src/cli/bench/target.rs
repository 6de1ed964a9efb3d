//! A vault that runs already: what its callers see of it, read with tokens that are there. It has no ceilings beside it,
//! and nothing of its processes is known.

use std::path::PathBuf;

use super::{
    Failure,
    job::{Job, Pace, Source, Until},
    measure::{Sample, Series, Subject},
    process::Load,
};

/// Which vault, and what is asked of it.
pub(super) struct Target {
    /// The connection file of who reads.
    pub(super) connection: PathBuf,
    /// Tokens, one a line.
    pub(super) tokens: PathBuf,
    pub(super) purpose: String,
    pub(super) connections: u32,
}

/// The load on it.
pub(super) struct Aim {
    target: Target,
    load: Load,
}

impl Aim {
    pub(super) fn take(target: Target) -> Result<Self, Failure> {
        // Nobody is stored, so nobody gets a name.
        Ok(Self { load: Load::start("none", 0)?, target })
    }

    async fn slice(&mut self, subject: Subject, pace: Pace, until: Until) -> Result<Sample, Failure> {
        let connections = match pace {
            Pace::Closed(callers) => self.target.connections.min(callers),
            Pace::Open(_) => self.target.connections,
        };
        let source = Source {
            connection: self.target.connection.clone(),
            storing: self.target.connection.clone(),
            tokens: self.target.tokens.clone(),
        };
        let (call, purpose) = (subject.call(), self.target.purpose.clone());
        let job = Job::Calls { sources: vec![source], connections, call, purpose, pace, until };
        let counted = self.load.run(&job, |_| {}).await?;
        Sample::of(&counted)
    }

    /// Rounds of slices, each subject once in each.
    pub(super) async fn rounds(
        &mut self,
        subjects: &[Subject],
        pace: Pace,
        (rounds, until): (u32, Until),
        mut told: impl FnMut(Subject, u32),
    ) -> Result<Vec<Series>, Failure> {
        let series = |subject: &Subject| Series { subject: *subject, pace, samples: Vec::new() };
        let mut all: Vec<Series> = subjects.iter().map(series).collect();
        for round in 1..=rounds {
            for series in &mut all {
                told(series.subject, round);
                series.samples.push(self.slice(series.subject, pace, until).await?);
            }
        }
        Ok(all)
    }
}
