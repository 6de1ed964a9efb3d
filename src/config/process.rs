//! What one process is told beside what all that share a database are: `[health]`, `[limits]`, and what its arguments say.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError};
use crate::{
    domain::replica::ReplicaName,
    grpc::{health::is_private, throttle::CallerLimits},
};

/// What each caller may ask of one process.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields, default)]
pub struct LimitsConfig {
    /// Calls that run at once.
    pub calls_at_once: u32,
    /// Calls that begin in a second.
    pub calls_per_second: u32,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        let CallerLimits { calls_at_once, calls_per_second } = CallerLimits::default();
        Self { calls_at_once, calls_per_second }
    }
}

/// Where health and metrics are asked for, without TLS.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct HealthConfig {
    /// Address and port; only loopback or a private address.
    pub listen: SocketAddr,
}

/// What differs between processes that share one configuration file.
#[derive(Debug, Clone, Default)]
pub struct Own {
    /// Where this process answers health and metrics.
    pub health_listen: Option<SocketAddr>,
    /// Its name among those that share the mirror.
    pub replica: Option<ReplicaName>,
}

impl Config {
    /// Puts what differs from process to process in the place of what the file says.
    ///
    /// # Errors
    /// [`ConfigError::Rule`].
    pub fn with(mut self, own: Own) -> Result<Self, ConfigError> {
        if let Some(listen) = own.health_listen {
            self.health = Some(HealthConfig { listen });
        }
        match (own.replica, &mut self.mirror) {
            (Some(replica), Some(mirror)) => mirror.replica = Some(replica),
            (Some(_), None) => return Err(self.rule("a replica's name needs a [mirror] that is shared")),
            (None, _) => {}
        }
        self.check_health()?;
        Ok(self)
    }

    /// What each caller may ask of one process.
    ///
    /// # Errors
    /// [`ConfigError::Rule`] where it could ask nothing.
    pub fn caller_limits(&self) -> Result<CallerLimits, ConfigError> {
        let LimitsConfig { calls_at_once, calls_per_second } = self.limits;
        if calls_at_once == 0 || calls_per_second == 0 {
            return Err(self.rule("limits.calls_at_once and limits.calls_per_second must be at least 1"));
        }
        Ok(CallerLimits { calls_at_once, calls_per_second })
    }

    pub(super) fn check_health(&self) -> Result<(), ConfigError> {
        match &self.health {
            Some(health) if !is_private(health.listen.ip()) => Err(self.rule(
                "health.listen has no TLS and asks nobody who they are: name loopback, or the private address of this \
                 machine or pod",
            )),
            Some(_) | None => Ok(()),
        }
    }
}
