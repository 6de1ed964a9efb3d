//! The declared sites of a configuration, and whether everything that it names is in them.

use std::sync::Arc;

use super::output::{Failure, exit};
use crate::{
    config::Config,
    domain::time::Clock,
    residency::{Finding, Residency, SystemNames},
    vault::residency::Sight,
};

/// The sites of a configuration. Nothing is opened before: bytes that lie outside are not brought back.
///
/// # Errors
/// [`Failure`] names each place that is outside, with its address and why.
pub(super) async fn territory(config: &Config, clock: &Arc<Clock>) -> Result<Arc<Residency>, Failure> {
    let residency = config.residency(Arc::clone(clock), Arc::new(SystemNames))?;
    let findings = residency.look(&config.targets()?).await;
    refuse(findings.iter())?;
    Ok(Arc::new(residency))
}

/// Refuses what the first look at the open database shows: a follower, or a copy of its log, outside the declared sites. What is not
/// shown is told, and stops nothing.
///
/// # Errors
/// [`Failure`], as [`territory`].
pub(super) fn refuse_outside(sight: &Sight) -> Result<(), Failure> {
    refuse(sight.outside())
}

fn refuse<'a>(findings: impl Iterator<Item = &'a Finding>) -> Result<(), Failure> {
    let lines: Vec<_> = findings.filter_map(Finding::refused).map(|refused| refused.to_string()).collect();
    if lines.is_empty() {
        return Ok(());
    }
    Err(Failure::new(exit::FAILED, format!("{} (docs/residency.md)", lines.join("\n"))))
}
