//! The declared sites of a configuration, and whether everything that it names is in them.

use std::sync::Arc;

use super::output::{Failure, exit};
use crate::{
    config::Config,
    domain::{territory::Refused, time::Clock},
    residency::{Residency, SystemNames},
};

/// The sites of a configuration. Nothing is opened before: bytes that lie outside are not brought back.
///
/// # Errors
/// [`Failure`] names each place that is outside, with its address and why.
pub(super) async fn territory(config: &Config, clock: &Arc<Clock>) -> Result<Arc<Residency>, Failure> {
    let residency = config.residency(Arc::clone(clock), Arc::new(SystemNames))?;
    let findings = residency.look(&config.targets()?).await;
    let refused: Vec<Refused> = findings.iter().filter_map(crate::residency::Finding::refused).collect();
    if refused.is_empty() {
        return Ok(Arc::new(residency));
    }
    let lines: Vec<String> = refused.iter().map(ToString::to_string).collect();
    Err(Failure::new(exit::FAILED, format!("{} (docs/residency.md)", lines.join("\n"))))
}
