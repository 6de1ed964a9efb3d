//! Rows as NDJSON: on each line what `sandyq tokenize` reads.

use std::fs::File;

use super::rows::{Columns, Line, Lines, MAX_ROW_BYTES, Person, Place, Problem, Row, Same};
use crate::{
    cli::{output::Failure, values::Input},
    grpc::pb,
};

pub(super) struct Rows {
    lines: Lines,
    next: Place,
    same: Same,
    line: Vec<u8>,
}

impl Rows {
    pub(super) fn open(file: File, same: Same) -> Self {
        Self { lines: Lines::new(file), next: Place::START, same, line: Vec::new() }
    }

    pub(super) fn seek(&mut self, place: Place) -> Result<(), Failure> {
        self.next = place;
        Ok(self.lines.seek(place.byte)?)
    }

    pub(super) fn next(&mut self) -> Result<Option<Row>, Failure> {
        loop {
            let found = self.lines.read(&mut self.line)?;
            let line = self.next.line;
            let person = match found {
                Line::End => return Ok(None),
                Line::TooLong => {
                    let rule = format!("the line has more than {MAX_ROW_BYTES} bytes");
                    Err(vec![Problem::unreadable(None, rule)])
                }
                // Between rows, and after the last, a line may be empty.
                Line::Whole if self.line.trim_ascii().is_empty() => {
                    self.next = Place { byte: self.lines.byte, line: line + 1, ..self.next };
                    continue;
                }
                Line::Whole => person(&self.line, &self.same),
            };
            self.next = Place { byte: self.lines.byte, line: line + 1, rows: self.next.rows + 1 };
            return Ok(Some(Row { line, person, next: self.next }));
        }
    }
}

fn person(line: &[u8], same: &Same) -> Result<Person, Vec<Problem>> {
    // A byte order mark is no part of the text.
    let line = line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line);
    // The parser's own message would repeat what stood there, which may be a value.
    let input: Input = serde_json::from_slice(line).map_err(|e| {
        let rule = format!(
            "is no object as docs/import.md describes, up to character {}: every value is a string, and each name stands once",
            e.column()
        );
        vec![Problem::unreadable(None, rule)]
    })?;
    let mut problems = Vec::new();
    let mut consents = Vec::new();
    for (at, consent) in input.consents.into_iter().enumerate() {
        match consent.into_pb(None) {
            Ok(consent) => consents.push(consent),
            Err((name, rule)) => {
                problems.push(Problem::unreadable(Some(format!("consents[{at}].{name}")), rule));
            }
        }
    }
    if !problems.is_empty() {
        return Err(problems);
    }
    let columns = Columns {
        fields: input.fields.0.iter().map(|(field, _)| format!("fields.{field}")).collect(),
        consents: (0..consents.len()).map(|at| format!("consents[{at}]")).collect(),
    };
    let fields = input.fields.0.into_iter().map(|(field, value)| same.value(field, value)).collect();
    let item =
        pb::TokenizeItem { subject_reference: input.subject, fields, consents, subject_kind: same.kind };
    Ok(Person { item, columns })
}
