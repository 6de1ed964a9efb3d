//! What a command prints, and how it ends.

use std::{
    error::Error,
    fmt::Write as _,
    io::{self, IsTerminal as _, Write as _},
    process::ExitCode,
};

use tonic_types::StatusExt as _;

use crate::{domain::time::Timestamp, grpc::pb};

/// Exit codes.
pub mod exit {
    /// Done.
    pub const OK: u8 = 0;
    /// Failed.
    pub const FAILED: u8 = 1;
    /// Wrong usage.
    pub const USAGE: u8 = 2;
    /// The log does not verify.
    pub const NOT_VERIFIED: u8 = 3;
    /// The vault refused.
    pub const REFUSED: u8 = 4;
    /// Nothing is done yet: another person must approve it.
    pub const PROPOSED: u8 = 5;
}

/// Why a command failed.
#[derive(Debug)]
pub struct Failure {
    code: u8,
    message: String,
    /// What programs are told of a proposal.
    proposal: Option<serde_json::Value>,
}

impl Failure {
    /// A failure with an exit code of its own.
    #[must_use]
    pub fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), proposal: None }
    }

    /// What was asked waits for a second person.
    #[must_use]
    pub(super) fn proposed(proposal: &pb::Proposal) -> Self {
        let (id, hash) = (&proposal.proposal_id, data_encoding::HEXLOWER.encode(&proposal.plan_sha256));
        let until = instant(proposal.expire_time.as_ref()).unwrap_or_default();
        let message = format!(
            "nothing is done yet: {id} waits for a second person, until {until}.\n\
             Another person with the same right looks at it and approves it:\n  \
             sandyq proposal show {id}\n  \
             sandyq proposal approve {id} --hash {hash}"
        );
        let json = serde_json::json!({
            "proposal_id": id, "plan_sha256": hash, "call": proposal.kind, "expires_at": until,
        });
        Self { code: exit::PROPOSED, message, proposal: Some(json) }
    }

    /// A refusal by the vault: its reason, its text, and the fields at fault.
    #[must_use]
    pub fn refused(status: &tonic::Status) -> Self {
        if status.get_error_details().error_info().is_some() {
            return Self::new(exit::REFUSED, describe(status));
        }
        // Not the vault's word, but the connection's.
        let mut message =
            with_causes(format!("no answer from the vault: {}", status.message()), status.source());
        message
            .push_str("; where the connection was closed, the server did not accept the client certificate");
        Self::new(exit::FAILED, message)
    }

    /// What is wrong.
    #[must_use]
    pub fn message(&self) -> &str {
        &self.message
    }
}

impl<E: Error> From<E> for Failure {
    fn from(error: E) -> Self {
        Self::new(exit::FAILED, with_causes(error.to_string(), error.source()))
    }
}

fn with_causes(mut message: String, mut source: Option<&(dyn Error + 'static)>) -> String {
    while let Some(cause) = source {
        // Writing to a String cannot fail.
        let _written = write!(message, ": {cause}");
        source = cause.source();
    }
    message
}

/// The failure of a call that the vault refused.
#[expect(clippy::needless_pass_by_value, reason = "the shape that map_err takes")]
pub(super) fn refused(status: tonic::Status) -> Failure {
    Failure::refused(&status)
}

/// A time as RFC 3339; none where there is none.
pub(super) fn instant(time: Option<&prost_types::Timestamp>) -> Option<String> {
    time.map(|t| Timestamp::from_micros(t.seconds * 1_000_000 + i64::from(t.nanos) / 1_000).to_string())
}

/// A status as people read it: `REASON: text (field: rule; …)`.
#[must_use]
pub(super) fn describe(status: &tonic::Status) -> String {
    let details = status.get_error_details();
    let reason = details.error_info().map_or_else(|| status.code().to_string(), |info| info.reason.clone());
    let fields: Vec<_> = details
        .bad_request()
        .map(|bad| bad.field_violations.iter().map(|v| format!("{}: {}", v.field, v.description)).collect())
        .unwrap_or_default();
    let fields = if fields.is_empty() { String::new() } else { format!(" ({})", fields.join("; ")) };
    format!("{reason}: {}{fields}", status.message())
}

/// A time of an answer as people read it; empty where there is none.
#[must_use]
pub(super) fn show_time(time: Option<prost_types::Timestamp>) -> String {
    let micros = |t: prost_types::Timestamp| t.seconds * 1_000_000 + i64::from(t.nanos) / 1_000;
    time.map(|t| Timestamp::from_micros(micros(t)).to_string()).unwrap_or_default()
}

/// How far something is: `[#########...........]  45%  12000 of 26000`.
#[must_use]
pub(super) fn meter(done: usize, total: usize) -> String {
    const WIDTH: usize = 30;
    let percent = done.saturating_mul(100) / total.max(1);
    let full = percent.min(100) * WIDTH / 100;
    format!("[{}{}] {percent:>3}%  {done} of {total}", "#".repeat(full), ".".repeat(WIDTH - full))
}

/// Prints for people or for programs.
#[derive(Debug)]
pub(super) struct Out {
    /// Print JSON.
    pub(super) json: bool,
    progressing: bool,
}

impl Out {
    /// An output.
    #[must_use]
    pub(super) const fn new(json: bool) -> Self {
        Self { json, progressing: false }
    }

    /// A line of data for people; nothing in JSON mode.
    pub(super) fn line(&mut self, line: &str) -> io::Result<()> {
        if self.json { Ok(()) } else { print(line) }
    }

    /// The data of a command: one JSON object, or lines for people.
    pub(super) fn data(&mut self, json: &serde_json::Value, lines: &[String]) -> io::Result<()> {
        if self.json { print(&json.to_string()) } else { lines.iter().try_for_each(|line| print(line)) }
    }

    /// A remark on stderr.
    pub(super) fn note(&mut self, line: &str) -> io::Result<()> {
        self.progress_end();
        writeln!(io::stderr().lock(), "{line}")
    }

    /// Whether people look at stderr.
    pub(super) fn is_watched(&self) -> bool {
        !self.json && io::stderr().is_terminal()
    }

    /// Says on stderr how far a command is, to programs.
    pub(super) fn progress_line(&mut self, line: &serde_json::Value) {
        self.progress_end();
        // Progress that cannot be told is no reason to stop.
        let _told = writeln!(io::stderr().lock(), "{line}");
    }

    /// Says on stderr how far a command is: one line that is written over, and only where people look.
    pub(super) fn progress(&mut self, line: &str) {
        let mut stderr = io::stderr().lock();
        if !self.json && stderr.is_terminal() {
            // Progress that cannot be shown is no reason to stop.
            let _shown = write!(stderr, "\r\x1b[K{line}").and_then(|()| stderr.flush());
            self.progressing = true;
        }
    }

    /// Ends the line of progress.
    pub(super) fn progress_end(&mut self) {
        if std::mem::take(&mut self.progressing) {
            let _shown = writeln!(io::stderr().lock());
        }
    }

    /// Says on stderr why the command failed.
    pub(super) fn failure(&mut self, failure: &Failure) -> ExitCode {
        let text = if self.json {
            let mut json = serde_json::json!({ "error": failure.message, "exit_code": failure.code });
            if let (Some(proposal), Some(object)) = (&failure.proposal, json.as_object_mut()) {
                object.insert("proposal".to_owned(), proposal.clone());
            }
            json.to_string()
        } else {
            format!("sandyq: {}", failure.message)
        };
        // Nothing is left to say where stderr is gone.
        let _printed = writeln!(io::stderr().lock(), "{text}");
        ExitCode::from(failure.code)
    }
}

fn print(line: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    writeln!(stdout, "{line}")?;
    stdout.flush()
}
