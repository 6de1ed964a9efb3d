//! `[erasure]`, `[keys]`, `[rights]` and `[warm_rows]`: what an operator may choose of how the vault works.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError};
use crate::{
    domain::calendar::WorkingCalendar,
    vault::{MAX_COOLING, VaultOptions, warm::WarmLimits},
};

/// How keys are rotated.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct KeysConfig {
    /// Days after which a version of a platform's key is replaced at the latest; without it only people rotate it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rotate_days: Option<u16>,
}

/// How requests of people are counted.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct RightsConfig {
    /// File with days that are transferred or otherwise known better than in the binary's own calendar.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub calendar: Option<PathBuf>,
}

/// How subjects are erased.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct ErasureConfig {
    /// Minutes between an erasure and the destruction of the subject's key, in which it can be cancelled.
    #[serde(default = "default_cooling_minutes")]
    pub cooling_minutes: u64,
}

const fn default_cooling_minutes() -> u64 {
    4 * 60
}

const MAX_COOLING_MINUTES: u64 = MAX_COOLING.as_secs() / 60;

impl Default for ErasureConfig {
    fn default() -> Self {
        Self { cooling_minutes: default_cooling_minutes() }
    }
}

/// Rows that are kept in memory after a read, sealed as they are stored.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct WarmRowsConfig {
    /// Rows of each platform; none are kept where it is 0.
    pub rows: u32,
    /// Seconds after which a row is read again.
    pub seconds: u16,
}

impl Default for WarmRowsConfig {
    fn default() -> Self {
        let WarmLimits { rows, time } = WarmLimits::default();
        Self {
            rows: u32::try_from(rows).unwrap_or(u32::MAX),
            seconds: u16::try_from(time.as_secs()).unwrap_or(u16::MAX),
        }
    }
}

const MOST_WARM_ROWS: u32 = 100_000_000;
const LONGEST_WARM_SECONDS: u16 = 3_600;

impl Config {
    /// What an operator may choose of the vault.
    ///
    /// # Errors
    /// [`ConfigError::Rule`] where a time is out of bounds.
    pub fn vault_options(&self) -> Result<VaultOptions, ConfigError> {
        let minutes = self.erasure.cooling_minutes;
        if !(1..=MAX_COOLING_MINUTES).contains(&minutes) {
            return Err(
                self.rule(&format!("erasure.cooling_minutes must be from 1 to {MAX_COOLING_MINUTES}"))
            );
        }
        Ok(VaultOptions {
            erasure_cooling: Duration::from_mins(minutes),
            backup_horizon_days: self.backup.as_ref().and_then(|backup| backup.horizon_days),
            rotate_every: self.rotate_every()?,
            warm: self.warm_limits()?,
        })
    }

    fn warm_limits(&self) -> Result<WarmLimits, ConfigError> {
        let WarmRowsConfig { rows, seconds } = self.warm_rows;
        if rows > MOST_WARM_ROWS || !(1..=LONGEST_WARM_SECONDS).contains(&seconds) {
            return Err(self.rule(&format!(
                "warm_rows.rows must be at most {MOST_WARM_ROWS} (0 keeps none), and warm_rows.seconds from 1 to \
                 {LONGEST_WARM_SECONDS}"
            )));
        }
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        Ok(WarmLimits { rows, time: Duration::from_secs(seconds.into()) })
    }

    /// The calendar of working days: the binary's own, with the operator's days over it.
    pub(super) fn calendar(&self) -> Result<WorkingCalendar, ConfigError> {
        let own = WorkingCalendar::kazakhstan();
        let Some(path) = &self.rights.calendar else { return Ok(own) };
        own.with(&self.read(path)?).map_err(|e| self.rule(&format!("rights.calendar: {e}")))
    }

    fn rotate_every(&self) -> Result<Option<Duration>, ConfigError> {
        let Some(days) = self.keys.rotate_days else { return Ok(None) };
        if !(1..=366).contains(&days) {
            return Err(self.rule("keys.rotate_days must be from 1 to 366"));
        }
        let horizon = self.backup.as_ref().and_then(|backup| backup.horizon_days);
        if horizon.is_some_and(|horizon| u32::from(days) >= horizon) {
            let rule = "keys.rotate_days must be less than backup.horizon_days: what a backup needs is destroyed by then";
            return Err(self.rule(rule));
        }
        Ok(Some(Duration::from_hours(24 * u64::from(days))))
    }
}
