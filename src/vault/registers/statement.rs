//! The file of an export: a line that says whose registers these are, a line for each row, and last the statement that the audit
//! key signed: how many rows each register has, and the SHA-256 of every line before it. `docs/registers.md` describes it for a
//! second verifier.

use std::{
    collections::BTreeMap,
    io::{BufRead, Read as _},
};

use data_encoding::HEXLOWER;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use signed_note::Signer;

use crate::{
    audit::head::{BadHead, HeadVerifier, sign_text, unsigned_text},
    crypto::document::ContentHash,
    domain::code::coded,
};

/// What a file calls itself, and the first line of its statement.
pub const FORMAT: &str = "sandyq registers 1";
/// Longest line of a file, in bytes.
const MAX_LINE: u64 = 1024 * 1024;

coded!(
    /// A register.
    Register, "register" {
        /// Versions of the policy.
        Policies = "policies",
        /// Purposes of the version in force, with the number of the assessment of their impact and who answers for them.
        Purposes = "purposes",
        /// Third parties that values may go to.
        Recipients = "recipients",
        /// Persons and certificates with access.
        Access = "access",
        /// Consents.
        Consents = "consents",
        /// Values that went to third parties.
        Transfers = "transfers",
        /// Those of them that went abroad.
        CrossBorder = "cross_border",
        /// Values that were given out to be published.
        Publications = "publications",
        /// Copies outside the vault.
        Copies = "copies",
    }
);

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RegisterStatement {
    /// The log of the platform, `<installation>/<platform>`.
    pub origin: String,
    /// When the export was made, RFC 3339.
    pub made: String,
    /// Releases from then on; from the log's begin where there is none.
    pub since: Option<String>,
    /// Releases up to then; up to the export where there is none.
    pub until: Option<String>,
    /// Entries of the log that releases were looked for in.
    pub log_size: u64,
    /// Rows of each register.
    pub rows: BTreeMap<String, u64>,
    /// SHA-256 of every line before the statement, each with its line feed, in hexadecimal.
    pub sha256: String,
}

/// A file that is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadRegisters {
    /// It cannot be read.
    #[error("the file cannot be read: {0}")]
    Unread(String),
    /// It is no such file, or ends early.
    #[error("line {0}: not an export of registers, format 1, or not whole")]
    Format(usize),
    /// No trusted key signed the statement.
    #[error("its statement is not one that the trusted audit key signed")]
    Unsigned(#[from] BadHead),
    /// The rows are not those that were signed.
    #[error("its rows are not those of its statement: the {0} differ")]
    Differs(&'static str),
}

impl RegisterStatement {
    /// The last line of a file.
    ///
    /// # Errors
    /// [`BadHead`] where it cannot be signed.
    pub fn sign(&self, key: &dyn Signer) -> Result<String, BadHead> {
        let json = serde_json::to_string(self).map_err(|_| BadHead::Malformed)?;
        let note = sign_text(&format!("{FORMAT}\n{json}\n"), key)?;
        Ok(serde_json::json!({ "statement": note }).to_string())
    }

    fn parse(text: &str) -> Option<Self> {
        serde_json::from_str(text.strip_prefix(FORMAT)?.strip_prefix('\n')?).ok()
    }
}

/// What stands in a file so far.
#[derive(Default)]
pub struct Tally {
    hash: ContentHash,
    rows: BTreeMap<String, u64>,
}

impl Tally {
    /// Takes the next line, and the register that it is a row of.
    pub fn take(&mut self, register: Option<Register>, line: &str) {
        self.hash.update(line.as_bytes());
        self.hash.update(b"\n");
        if let Some(register) = register {
            *self.rows.entry(register.as_str().to_owned()).or_default() += 1;
        }
    }

    /// Rows of each register, and the hash of all lines.
    #[must_use]
    pub fn end(self) -> (BTreeMap<String, u64>, String) {
        (self.rows, HEXLOWER.encode(&self.hash.finish()))
    }
}

/// A file that was read to its end, and that nobody has checked yet.
pub struct ReadRegisters {
    /// Its first line.
    pub head: Value,
    note: String,
    rows: BTreeMap<String, u64>,
    sha256: String,
}

impl ReadRegisters {
    /// Reads a file line by line; each row is told as it comes.
    ///
    /// # Errors
    /// [`BadRegisters`].
    pub fn read(mut file: impl BufRead, mut row: impl FnMut(Register, Value)) -> Result<Self, BadRegisters> {
        let (mut tally, mut head, mut at) = (Tally::default(), None, 0);
        loop {
            at += 1;
            let mut line = String::new();
            let read = file.by_ref().take(MAX_LINE).read_line(&mut line);
            read.map_err(|e| BadRegisters::Unread(e.to_string()))?;
            let line = line.strip_suffix('\n').ok_or(BadRegisters::Format(at))?;
            let value: Value = serde_json::from_str(line).map_err(|_| BadRegisters::Format(at))?;
            let text = |key: &str| value.get(key).and_then(Value::as_str);
            if head.is_none() {
                if text("registers") != Some(FORMAT) {
                    return Err(BadRegisters::Format(at));
                }
                tally.take(None, line);
                head = Some(value);
            } else if let Some(note) = text("statement") {
                let mut after = [0];
                let more = file.read(&mut after).map_err(|e| BadRegisters::Unread(e.to_string()))?;
                if more > 0 {
                    return Err(BadRegisters::Format(at + 1));
                }
                let note = note.to_owned();
                let (rows, sha256) = tally.end();
                return Ok(Self { head: head.unwrap_or_default(), note, rows, sha256 });
            } else {
                let register = text("register").and_then(|name| name.parse::<Register>().ok());
                let register = register.ok_or(BadRegisters::Format(at))?;
                tally.take(Some(register), line);
                row(register, value);
            }
        }
    }

    /// What was signed, where a trusted key signed it and the file has these rows.
    ///
    /// # Errors
    /// [`BadRegisters`].
    pub fn verify(&self, trusted: &HeadVerifier) -> Result<RegisterStatement, BadRegisters> {
        self.compare(&trusted.open_text(&self.note)?)
    }

    /// What it says it is, where nobody asks who signed it.
    ///
    /// # Errors
    /// [`BadRegisters`].
    pub fn unchecked(&self) -> Result<RegisterStatement, BadRegisters> {
        self.compare(&unsigned_text(&self.note).ok_or(BadRegisters::Unsigned(BadHead::Malformed))?)
    }

    fn compare(&self, text: &str) -> Result<RegisterStatement, BadRegisters> {
        let statement = RegisterStatement::parse(text).ok_or(BadRegisters::Unsigned(BadHead::Malformed))?;
        if statement.sha256 != self.sha256 {
            return Err(BadRegisters::Differs("bytes"));
        }
        if statement.rows != self.rows {
            return Err(BadRegisters::Differs("numbers"));
        }
        Ok(statement)
    }
}
