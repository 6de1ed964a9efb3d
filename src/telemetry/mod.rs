//! Logs on stderr, metrics, and traces. What may be in them: ids of rows, names that policies declare, codes; never a value, a token, a
//! subject's reference, or a message of a client.

pub mod collector;
pub mod metrics;
pub mod otlp;
pub mod process;

use std::io::IsTerminal as _;

use tracing_subscriber::{EnvFilter, fmt};

/// How logs look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LogFormat {
    /// For people.
    Text,
    /// One JSON object a line.
    Json,
}

/// Starts logging for the process. A second call changes nothing.
pub fn start(format: LogFormat, filter: &str) {
    let filter = EnvFilter::try_new(filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let colours = std::io::stderr().is_terminal();
    let builder = fmt().with_env_filter(filter).with_ansi(colours).with_writer(std::io::stderr);
    // An error means that logging runs already.
    let _started = match format {
        LogFormat::Text => builder.with_target(false).try_init(),
        LogFormat::Json => builder.json().try_init(),
    };
}
