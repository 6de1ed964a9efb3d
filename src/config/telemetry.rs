//! `[telemetry]`: who is told of calls.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Config, ConfigError, residency::host_and_port};
use crate::{
    domain::territory::Use,
    residency::{Place, Target},
    vault::traces::Sampling,
};

/// Who is told of calls.
#[derive(Debug, Clone, Default, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TelemetryConfig {
    /// Who gets spans of calls; without it none are made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traces: Option<TracesConfig>,
}

/// Who gets spans of calls.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct TracesConfig {
    /// Address of the collector: OTLP over HTTP.
    pub endpoint: String,
    /// Root certificates of the collector, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<PathBuf>,
    /// Share of calls that come without a trace of their own.
    #[serde(default = "default_ratio")]
    pub ratio: f64,
    /// Calls that may wait for the collector.
    #[serde(default = "default_queue_calls")]
    pub queue_calls: usize,
}

const fn default_ratio() -> f64 {
    0.01
}

const fn default_queue_calls() -> usize {
    2_048
}

/// Some tens of megabytes.
const MAX_QUEUE_CALLS: usize = 65_536;

/// A collector as configured, with its roots read.
pub struct TracesPlace {
    /// Its address.
    pub endpoint: String,
    /// Roots of its certificate, PEM.
    pub authority: Option<Vec<u8>>,
}

impl Config {
    /// The collector of traces, where there is one.
    ///
    /// # Errors
    /// [`ConfigError::Read`].
    pub fn traces(&self) -> Result<Option<TracesPlace>, ConfigError> {
        let Some(traces) = &self.telemetry.traces else { return Ok(None) };
        let authority = traces.authority.as_ref().map(|file| self.read(file)).transpose()?;
        Ok(Some(TracesPlace {
            endpoint: traces.endpoint.clone(),
            authority: authority.map(String::into_bytes),
        }))
    }

    /// Which calls are traced, where there is a collector.
    #[must_use]
    pub fn sampling(&self) -> Option<Sampling> {
        let of = |traces: &TracesConfig| Sampling { ratio: traces.ratio, queue: traces.queue_calls };
        self.telemetry.traces.as_ref().map(of)
    }

    pub(super) fn check_traces(&self) -> Result<(), ConfigError> {
        let Some(traces) = &self.telemetry.traces else { return Ok(()) };
        if !(0.0..=1.0).contains(&traces.ratio) {
            return Err(self.rule("telemetry.traces.ratio must be from 0 to 1"));
        }
        if !(1..=MAX_QUEUE_CALLS).contains(&traces.queue_calls) {
            return Err(
                self.rule(&format!("telemetry.traces.queue_calls must be from 1 to {MAX_QUEUE_CALLS}"))
            );
        }
        self.check_endpoint("telemetry.traces.endpoint", &traces.endpoint, traces.authority.is_some())
    }

    pub(super) fn traces_target(&self) -> Result<Option<Target>, ConfigError> {
        let Some(traces) = &self.telemetry.traces else { return Ok(None) };
        let (host, port) = host_and_port(&traces.endpoint)
            .ok_or_else(|| self.rule("telemetry.traces.endpoint must be https://host:port"))?;
        Ok(Some(Target { used_for: Use::Telemetry, place: Place::Host(host, port) }))
    }
}
