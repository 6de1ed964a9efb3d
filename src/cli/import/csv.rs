//! Rows as CSV (RFC 4180): a header that names the columns, then a person a row.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs::File,
    io::{self, BufRead as _, BufReader, Seek as _, SeekFrom},
};

use csv_core::{ReadRecordResult, Reader, ReaderBuilder};

use super::rows::{Columns, MAX_ROW_BYTES, Person, Place, Problem, Row, Same};
use crate::{
    cli::{
        output::{Failure, exit},
        values::{BadPart, InputConsent},
    },
    domain::names::FieldName,
    grpc::pb,
};

/// Columns of one input: a reference, 64 fields, and 32 consents of 13 columns each.
const MAX_COLUMNS: usize = 1 + 64 + 32 * CONSENT.len();
/// Consents of one person.
const MAX_CONSENTS: usize = 32;
/// Bytes that are taken from the file at once.
const BUFFER: usize = 128 * 1024;

/// The parts of a consent that a column may hold.
pub(in crate::cli) const CONSENT: [&str; 15] = [
    "purpose",
    "fields",
    "subject_name",
    "act",
    "third_party_transfer",
    "cross_border_transfer",
    "publication",
    "policy_version",
    "language",
    "text_sha256",
    "site",
    "given_at",
    "expires_at",
    "channel",
    "sender",
];

/// What a column holds.
enum Column {
    Subject,
    Field(String),
    /// Which consent, from 0, and which part of it.
    Consent(usize, &'static str),
}

/// A field that the header names.
pub(super) struct Declared {
    /// Number of its column, from 1.
    pub(super) column: usize,
    pub(super) field: String,
}

pub(super) struct Rows {
    cells: Cells,
    columns: Vec<Column>,
    fields: Vec<Declared>,
    read: u64,
    same: Same,
}

/// Cells of one record after the other, in as much memory as a record may have: a quote that is never closed is one record to the
/// end of the file, and read to there, but not kept.
struct Cells {
    core: Reader,
    file: BufReader<File>,
    byte: u64,
    line: u64,
    text: Vec<u8>,
    /// Where each cell ends in the text.
    ends: Vec<usize>,
}

/// A record that was read.
struct Found {
    /// The line on which it begins.
    line: u64,
    /// None where there was no room for all.
    cells: Option<usize>,
}

impl Cells {
    fn new(file: File, delimiter: u8) -> Self {
        Self {
            core: ReaderBuilder::new().delimiter(delimiter).build(),
            file: BufReader::with_capacity(BUFFER, file),
            byte: 0,
            line: 1,
            text: vec![0; MAX_ROW_BYTES],
            ends: vec![0; MAX_COLUMNS + 1],
        }
    }

    fn seek(&mut self, to: Place) -> io::Result<()> {
        self.core.reset();
        (self.byte, self.line) = (self.file.seek(SeekFrom::Start(to.byte))?, to.line);
        Ok(())
    }

    /// Reads the next record; none after the last.
    fn read(&mut self) -> io::Result<Option<Found>> {
        self.skip_ends()?;
        let line = self.line;
        let (mut text, mut cells, mut whole) = (0, 0, true);
        loop {
            let input = self.file.fill_buf()?;
            let room = self.text.get_mut(text..).unwrap_or_default();
            let (result, taken, written, ended) =
                self.core.read_record(input, room, self.ends.get_mut(cells..).unwrap_or_default());
            let lines = input.iter().take(taken).filter(|byte| **byte == b'\n').count();
            self.take(taken, lines);
            (text, cells) = (text + written, cells + ended);
            match result {
                ReadRecordResult::InputEmpty => {}
                // The rest of it is read over what there is.
                ReadRecordResult::OutputFull => (text, whole) = (0, false),
                ReadRecordResult::OutputEndsFull => (cells, whole) = (0, false),
                ReadRecordResult::Record => return Ok(Some(Found { line, cells: whole.then_some(cells) })),
                ReadRecordResult::End => return Ok(None),
            }
        }
    }

    /// Passes over empty lines, and the rest of an end of two bytes, so that a record begins on its line.
    fn skip_ends(&mut self) -> io::Result<()> {
        loop {
            let input = self.file.fill_buf()?;
            let ends = input.iter().take_while(|byte| b"\r\n".contains(byte));
            let (taken, lines) =
                ends.fold((0, 0), |(taken, lines), byte| (taken + 1, lines + usize::from(*byte == b'\n')));
            if taken == 0 {
                return Ok(());
            }
            self.take(taken, lines);
        }
    }

    fn take(&mut self, bytes: usize, lines: usize) {
        self.file.consume(bytes);
        self.byte += u64::try_from(bytes).unwrap_or(u64::MAX);
        self.line += u64::try_from(lines).unwrap_or(u64::MAX);
    }

    /// The cells of the record that was read.
    fn iter(&self, count: usize) -> impl Iterator<Item = &[u8]> {
        let starts = std::iter::once(0).chain(self.ends.iter().copied());
        let ends = self.ends.iter().copied().take(count);
        starts.zip(ends).map(move |(start, end)| self.text.get(start..end).unwrap_or_default())
    }

    fn place(&self, rows: u64) -> Place {
        Place { byte: self.byte, line: self.line, rows }
    }
}

impl Rows {
    /// Reads the header.
    pub(super) fn open(file: File, delimiter: u8, same: Same) -> Result<Self, Failure> {
        let mut cells = Cells::new(file, delimiter);
        let Some(header) = cells.read()? else {
            return Err(Failure::new(exit::FAILED, "the input is empty: it begins with a header"));
        };
        let columns = columns(&cells, &header)?;
        let fields = columns.iter().enumerate().filter_map(|(at, column)| match column {
            Column::Field(field) => Some(Declared { column: at + 1, field: field.clone() }),
            Column::Subject | Column::Consent(..) => None,
        });
        let fields = fields.collect();
        Ok(Self { cells, columns, fields, read: 0, same })
    }

    pub(super) fn fields(&self) -> &[Declared] {
        &self.fields
    }

    pub(super) fn seek(&mut self, to: Place) -> Result<(), Failure> {
        // The beginning is what follows the header, which was read.
        if to != Place::START {
            self.cells.seek(to)?;
            self.read = to.rows;
        }
        Ok(())
    }

    pub(super) fn next(&mut self) -> Result<Option<Row>, Failure> {
        let Some(found) = self.cells.read()? else { return Ok(None) };
        self.read += 1;
        let person = match found.cells {
            Some(count) => self.person(count),
            None => Err(vec![Problem::unreadable(None, too_long(self.cells.line))]),
        };
        Ok(Some(Row { line: found.line, person, next: self.cells.place(self.read) }))
    }

    fn person(&self, count: usize) -> Result<Person, Vec<Problem>> {
        if count != self.columns.len() {
            let rule = format!("has {count} columns, and the header names {}", self.columns.len());
            return Err(vec![Problem::unreadable(None, rule)]);
        }
        let mut item = pb::TokenizeItem { subject_kind: self.same.kind, ..pb::TokenizeItem::default() };
        let (mut names, mut problems) = (Columns::default(), Vec::new());
        let mut consents: BTreeMap<usize, BTreeMap<&'static str, &str>> = BTreeMap::new();
        for ((at, column), cell) in self.columns.iter().enumerate().zip(self.cells.iter(count)) {
            let Ok(text) = std::str::from_utf8(cell) else {
                problems.push(Problem::unreadable(Some(self.name(at)), "is no UTF-8"));
                continue;
            };
            match column {
                Column::Subject => text.clone_into(&mut item.subject_reference),
                // An empty cell is no value.
                Column::Field(_) | Column::Consent(..) if text.is_empty() => {}
                Column::Field(field) => {
                    item.fields.push(self.same.value(field.clone(), text.to_owned()));
                    names.fields.push(self.name(at));
                }
                Column::Consent(number, part) => {
                    consents.entry(*number).or_default().insert(*part, text);
                }
            }
        }
        for (number, parts) in consents {
            match consent(&parts).and_then(|consent| consent.into_pb(None)) {
                Ok(consent) => {
                    item.consents.push(consent);
                    names.consents.push(consent_name(number));
                }
                Err((part, rule)) => {
                    let column = format!("{}.{part}", consent_name(number));
                    problems.push(Problem::unreadable(Some(column), rule));
                }
            }
        }
        if problems.is_empty() { Ok(Person { item, columns: names }) } else { Err(problems) }
    }

    /// A column as it is told: by the name that the vault took, since a header may not be one.
    fn name(&self, at: usize) -> String {
        match self.columns.get(at) {
            Some(Column::Subject) => "subject".to_owned(),
            Some(Column::Field(field)) => field.clone(),
            Some(Column::Consent(number, part)) => format!("{}.{part}", consent_name(*number)),
            None => format!("column {}", at + 1),
        }
    }
}

fn consent_name(number: usize) -> String {
    format!("consent{}", number + 1)
}

fn too_long(up_to: u64) -> String {
    format!(
        "has more than {MAX_ROW_BYTES} bytes or {MAX_COLUMNS} columns, and ends on line {up_to}: is a quote open?"
    )
}

/// What each column holds. A header that is none may be the first person: nothing of it is repeated.
fn columns(cells: &Cells, header: &Found) -> Result<Vec<Column>, Failure> {
    let refuse = |at: usize, rule: &str| {
        Err(Failure::new(exit::FAILED, format!("column {} of the header {rule}", at + 1)))
    };
    let Some(count) = header.cells.filter(|count| *count <= MAX_COLUMNS) else {
        return Err(Failure::new(exit::FAILED, format!("the header {}", too_long(cells.line))));
    };
    let (mut found, mut names) = (Vec::new(), BTreeSet::new());
    for (at, cell) in cells.iter(count).enumerate() {
        let Some(name) = std::str::from_utf8(cell).ok().map(str::trim).filter(|name| names.insert(*name))
        else {
            return refuse(at, "is no text, or stands twice");
        };
        found.push(if name == "subject" {
            Column::Subject
        } else if let Some((number, part)) =
            name.strip_prefix("consent").and_then(|rest| rest.split_once('.'))
        {
            let number = if number.is_empty() { Some(1) } else { number.parse().ok() };
            let number = number.filter(|number: &usize| (1..=MAX_CONSENTS).contains(number));
            let part = CONSENT.into_iter().find(|known| *known == part);
            let (Some(number), Some(part)) = (number, part) else {
                return refuse(at, "is no part of a consent that docs/import.md names");
            };
            Column::Consent(number - 1, part)
        } else if name.parse::<FieldName>().is_ok() {
            Column::Field(name.to_owned())
        } else {
            return refuse(at, "is neither `subject`, nor the name of a field, nor a part of a consent");
        });
    }
    if !found.iter().any(|column| matches!(column, Column::Subject)) {
        return Err(Failure::new(exit::FAILED, "the header names no column `subject`"));
    }
    Ok(found)
}

/// A consent from its cells; the part that is missing or no such thing otherwise.
fn consent(cells: &BTreeMap<&'static str, &str>) -> Result<InputConsent, BadPart> {
    let text = |part: &'static str| {
        cells
            .get(part)
            .map(|cell| (*cell).to_owned())
            .ok_or((part, "is missing, and other parts of the consent are there"))
    };
    let flag = |part: &'static str| match cells.get(part).copied() {
        Some("true") => Ok(true),
        Some("false") => Ok(false),
        Some(_) | None => Err((part, "is `true` or `false`")),
    };
    Ok(InputConsent {
        purpose: text("purpose")?,
        fields: text("fields")?.split_ascii_whitespace().map(str::to_owned).collect(),
        subject_name: text("subject_name")?,
        act: text("act")?,
        third_party_transfer: flag("third_party_transfer")?,
        cross_border_transfer: flag("cross_border_transfer")?,
        publication: flag("publication")?,
        policy_version: text("policy_version")?
            .parse()
            .map_err(|_| ("policy_version", "is a number of a version"))?,
        language: text("language")?,
        text_sha256: text("text_sha256")?,
        site: text("site")?,
        given_at: text("given_at").ok(),
        expires_at: text("expires_at").ok(),
        channel: text("channel").ok(),
        sender: text("sender").ok(),
    })
}
