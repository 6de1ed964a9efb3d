//! Rows of an input: read one by one, from any place, whatever is wrong with one of them.
//!
//! A row that cannot be taken is told by its line, its column and a rule; what stood there is told nowhere.

use std::{
    fs::File,
    io::{self, BufRead as _, BufReader, Read as _, Seek as _, SeekFrom},
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::{Format, csv, json};
use crate::{
    cli::output::{Failure, exit},
    grpc::pb,
};

/// Longest row, in bytes: 64 values of 4 KiB would be more than anybody is, and consents are small.
pub(super) const MAX_ROW_BYTES: usize = 256 * 1024;

/// A place in the input, between two rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Place {
    /// Bytes before it.
    pub(super) byte: u64,
    /// The line that begins there, from 1.
    pub(super) line: u64,
    /// Rows before it; a header is none.
    pub(super) rows: u64,
}

impl Place {
    pub(super) const START: Self = Self { byte: 0, line: 1, rows: 0 };
}

/// One thing that is wrong with a row.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Problem {
    /// Where in the row; none where it is the row as a whole.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) column: Option<String>,
    /// Stable code: those of docs/errors.md, or `ROW_UNREADABLE`.
    pub(super) reason: String,
    /// The rule that it breaks, never what stood there.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(super) rule: String,
}

impl Problem {
    /// Of a row that is not sent.
    pub(super) fn unreadable(column: Option<String>, rule: impl Into<String>) -> Self {
        Self { column, reason: "ROW_UNREADABLE".to_owned(), rule: rule.into() }
    }
}

/// Names of what a person's values and consents stand in, in the order of the request: a refusal names that.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(super) struct Columns {
    pub(super) fields: Vec<String>,
    pub(super) consents: Vec<String>,
}

impl Columns {
    /// The column behind a path of the request, such as `fields[2].value`. A field that the policy does not declare is told by
    /// its number: its name may be anything.
    pub(super) fn of(&self, path: &str) -> String {
        let within = |list: &str| {
            let (number, part) = path.strip_prefix(list)?.strip_prefix('[')?.split_once(']')?;
            Some((number.parse::<usize>().ok()?, part))
        };
        if let Some((at, part)) = within("fields") {
            return match self.fields.get(at) {
                Some(name) if part != ".field" => name.clone(),
                _ => format!("field {}", at + 1),
            };
        }
        if let Some((at, part)) = within("consents")
            && let Some(name) = self.consents.get(at)
        {
            let part = match part {
                ".give_time" => ".given_at",
                ".expire_time" => ".expires_at",
                other => other,
            };
            return format!("{name}{part}");
        }
        if path == "subject_reference" { "subject".to_owned() } else { path.to_owned() }
    }
}

/// A person as a row has it.
pub(super) struct Person {
    pub(super) item: pb::TokenizeItem,
    pub(super) columns: Columns,
}

/// A row, and where the next one begins.
pub(super) struct Row {
    /// Line on which it begins.
    pub(super) line: u64,
    pub(super) person: Result<Person, Vec<Problem>>,
    pub(super) next: Place,
}

/// What is the same for each row of a run, also when it is carried on: a repeated request has the same bytes.
#[derive(Debug, Clone)]
pub(super) struct Same {
    pub(super) source: i32,
    /// The paper behind the source.
    pub(super) source_reference: String,
    pub(super) kind: i32,
}

impl Same {
    /// A value with the record's one token, so that a row that comes again gets the same.
    pub(super) fn value(&self, field: String, value: String) -> pb::FieldValue {
        pb::FieldValue {
            field,
            value,
            token_mode: pb::TokenMode::Deterministic.into(),
            source: self.source,
            source_reference: self.source_reference.clone(),
            ..pb::FieldValue::default()
        }
    }
}

/// The rows of a file.
pub(super) enum Rows {
    Csv(Box<csv::Rows>),
    Json(json::Rows),
}

impl Rows {
    pub(super) fn open(path: &Path, format: Format, delimiter: u8, same: Same) -> Result<Self, Failure> {
        let file = File::open(path).map_err(|e| cannot_read(path, &e))?;
        Ok(match format {
            Format::Csv => Self::Csv(Box::new(csv::Rows::open(file, delimiter, same)?)),
            Format::Ndjson => Self::Json(json::Rows::open(file, same)),
        })
    }

    /// Fields that every row may have, where the input says so before its rows.
    pub(super) fn declared(&self) -> &[csv::Declared] {
        match self {
            Self::Csv(rows) => rows.fields(),
            Self::Json(_) => &[],
        }
    }

    /// Goes on at a place that a row told.
    pub(super) fn seek(&mut self, place: Place) -> Result<(), Failure> {
        match self {
            Self::Csv(rows) => rows.seek(place),
            Self::Json(rows) => rows.seek(place),
        }
    }

    /// The next row; none after the last.
    pub(super) fn next(&mut self) -> Result<Option<Row>, Failure> {
        match self {
            Self::Csv(rows) => rows.next(),
            Self::Json(rows) => rows.next(),
        }
    }
}

pub(super) fn cannot_read(path: &Path, error: &io::Error) -> Failure {
    Failure::new(exit::FAILED, format!("cannot read {}: {error}", path.display()))
}

/// What a look for the end of a line came to.
pub(super) enum Line {
    Whole,
    /// It goes on beyond the limit; all of it was passed over.
    TooLong,
    /// There is none.
    End,
}

/// Lines of a file with a limit on each, and how many bytes were taken.
pub(super) struct Lines {
    file: BufReader<File>,
    pub(super) byte: u64,
}

impl Lines {
    pub(super) fn new(file: File) -> Self {
        Self { file: BufReader::with_capacity(128 * 1024, file), byte: 0 }
    }

    pub(super) fn seek(&mut self, byte: u64) -> io::Result<()> {
        self.byte = self.file.seek(SeekFrom::Start(byte))?;
        Ok(())
    }

    /// Reads a line without its end.
    pub(super) fn read(&mut self, line: &mut Vec<u8>) -> io::Result<Line> {
        line.clear();
        let most = u64::try_from(MAX_ROW_BYTES).unwrap_or(u64::MAX);
        let mut read = self.file.by_ref().take(most + 2).read_until(b'\n', line)?;
        let mut found = Line::Whole;
        if line.last() != Some(&b'\n') && line.len() > MAX_ROW_BYTES {
            line.clear();
            read += self.file.skip_until(b'\n')?;
            found = Line::TooLong;
        }
        self.byte += u64::try_from(read).unwrap_or(u64::MAX);
        if read == 0 {
            return Ok(Line::End);
        }
        if line.last() == Some(&b'\n') {
            line.pop();
        }
        if line.last() == Some(&b'\r') {
            line.pop();
        }
        Ok(found)
    }
}
