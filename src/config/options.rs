//! `[erasure]`, `[keys]` and `[rights]`: what an operator may choose of how the vault works.

use std::{path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError};
use crate::{
    domain::calendar::WorkingCalendar,
    vault::{MAX_COOLING, VaultOptions},
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
        })
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
