//! Reads TOML tables key by key and notes every problem with its line. A key that nobody asked for is a problem too.

use std::{collections::BTreeMap, fmt::Display, ops::Range, str::FromStr};

use toml::{
    Spanned,
    de::{DeTable, DeValue},
};

use super::{problem::Findings, settings};

/// A value and its line.
#[derive(Debug, Clone)]
pub(super) struct At<T> {
    pub(super) value: T,
    pub(super) line: usize,
}

/// A table that is being read. Getters note what is wrong and answer `None`; [`Table::finish`] notes unknown keys.
pub(super) struct Table<'f, 't> {
    findings: &'f Findings,
    /// How problems name it.
    place: String,
    /// Line of its header, where missing keys are reported.
    line: usize,
    entries: BTreeMap<String, (usize, Spanned<DeValue<'t>>)>,
}

impl<'f, 't> Table<'f, 't> {
    pub(super) fn new(findings: &'f Findings, place: &str, span: &Range<usize>, table: DeTable<'t>) -> Self {
        let entry = |(key, value): (Spanned<_>, _)| {
            let line = findings.line(&key.span());
            (String::from(key.into_inner()), (line, value))
        };
        Self {
            findings,
            place: place.to_owned(),
            line: findings.line(span),
            entries: table.into_iter().map(entry).collect(),
        }
    }

    pub(super) fn place(&self) -> &str {
        &self.place
    }

    pub(super) fn line(&self) -> usize {
        self.line
    }

    /// Puts the table's own name into its place: `purpose payments` instead of `purpose 3`.
    pub(super) fn named(mut self, kind: &str) -> Self {
        if let Some((_, value)) = self.entries.get("name")
            && let DeValue::String(name) = value.get_ref()
        {
            let outer = self.place.rsplit_once(", ").map_or(String::new(), |(outer, _)| format!("{outer}, "));
            self.place = format!("{outer}{kind} {name}");
        }
        self
    }

    pub(super) fn problem(&self, line: usize, rule: impl Into<String>) {
        self.findings.add(line, &self.place, rule);
    }

    /// A value that may be missing; one that the operator has yet to decide is a problem.
    fn take(&mut self, key: &str) -> Taken<'t> {
        let Some((_, value)) = self.entries.remove(key) else { return Taken::Missing };
        let line = self.findings.line(&value.span());
        let value = value.into_inner();
        if matches!(&value, DeValue::String(text) if text == settings::UNSET) {
            self.problem(line, settings::advice(key));
            return Taken::Unset;
        }
        Taken::Value(At { value, line })
    }

    /// A value that must be there.
    fn require(&mut self, key: &str) -> Option<At<DeValue<'t>>> {
        match self.take(key) {
            Taken::Value(value) => Some(value),
            Taken::Unset => None,
            Taken::Missing => {
                self.problem(self.line, format!("{key} is missing"));
                None
            }
        }
    }

    fn as_text(&self, key: &str, value: At<DeValue<'t>>) -> Option<At<String>> {
        let found = value.value.type_str();
        let DeValue::String(text) = value.value else { return self.wrong(key, value.line, "a text", found) };
        if text.trim().is_empty() {
            self.problem(value.line, format!("{key} must not be empty"));
            return None;
        }
        Some(At { value: text.into_owned(), line: value.line })
    }

    fn wrong<T>(&self, key: &str, line: usize, expected: &str, found: &str) -> Option<T> {
        self.problem(line, format!("{key} must be {expected}, not {found}"));
        None
    }

    /// The text as something narrower.
    pub(super) fn as_parsed<T: FromStr>(&self, key: &str, text: &At<String>) -> Option<At<T>>
    where
        T::Err: Display,
    {
        match text.value.parse() {
            Ok(value) => Some(At { value, line: text.line }),
            Err(e) => {
                self.problem(text.line, format!("{key}: `{}`: {e}", text.value));
                None
            }
        }
    }

    /// A text that is not blank.
    pub(super) fn text(&mut self, key: &str) -> Option<At<String>> {
        let value = self.require(key)?;
        self.as_text(key, value)
    }

    /// A text that may be missing, but not blank.
    pub(super) fn optional_text(&mut self, key: &str) -> Option<At<String>> {
        let Taken::Value(value) = self.take(key) else { return None };
        self.as_text(key, value)
    }

    /// A text of a narrower kind.
    pub(super) fn parsed<T: FromStr>(&mut self, key: &str) -> Option<At<T>>
    where
        T::Err: Display,
    {
        let text = self.text(key)?;
        self.as_parsed(key, &text)
    }

    /// A text of a narrower kind that may be missing.
    pub(super) fn optional<T: FromStr>(&mut self, key: &str) -> Option<At<T>>
    where
        T::Err: Display,
    {
        let text = self.optional_text(key)?;
        self.as_parsed(key, &text)
    }

    /// A list of texts of a narrower kind: at least one, none twice. What does not parse is noted and left out.
    pub(super) fn list<T: FromStr + PartialEq>(&mut self, key: &str) -> Option<Vec<At<T>>>
    where
        T::Err: Display,
    {
        let value = self.require(key)?;
        self.as_list(key, value)
    }

    /// The same where the key may be missing.
    pub(super) fn optional_list<T: FromStr + PartialEq>(&mut self, key: &str) -> Option<Vec<At<T>>>
    where
        T::Err: Display,
    {
        let Taken::Value(value) = self.take(key) else { return None };
        self.as_list(key, value)
    }

    fn as_list<T: FromStr + PartialEq>(&self, key: &str, value: At<DeValue<'t>>) -> Option<Vec<At<T>>>
    where
        T::Err: Display,
    {
        let found = value.value.type_str();
        let DeValue::Array(items) = value.value else {
            return self.wrong(key, value.line, "a list", found);
        };
        if items.is_empty() {
            self.problem(value.line, format!("{key} must name at least one"));
            return None;
        }
        let mut list: Vec<At<T>> = Vec::new();
        for item in items {
            let line = self.findings.line(&item.span());
            let text = self.as_text(key, At { value: item.into_inner(), line });
            let Some(parsed) = text.and_then(|text| self.as_parsed::<T>(key, &text)) else { continue };
            if list.iter().any(|known| known.value == parsed.value) {
                self.problem(line, format!("{key} names one twice"));
            } else {
                list.push(parsed);
            }
        }
        Some(list)
    }

    /// A truth value; `false` where it is missing.
    pub(super) fn flag(&mut self, key: &str) -> At<bool> {
        let absent = At { value: false, line: self.line };
        let Taken::Value(value) = self.take(key) else { return absent };
        let DeValue::Boolean(flag) = value.value else {
            return self.wrong(key, value.line, "true or false", value.value.type_str()).unwrap_or(absent);
        };
        At { value: flag, line: value.line }
    }

    /// A whole number within `range`.
    pub(super) fn number(&mut self, key: &str, range: std::ops::RangeInclusive<u32>) -> Option<At<u32>> {
        let value = self.require(key)?;
        self.as_number(key, &value, &range)
    }

    /// The same where the key may be missing.
    pub(super) fn optional_number(
        &mut self,
        key: &str,
        range: std::ops::RangeInclusive<u32>,
    ) -> Option<At<u32>> {
        let Taken::Value(value) = self.take(key) else { return None };
        self.as_number(key, &value, &range)
    }

    fn as_number(
        &self,
        key: &str,
        value: &At<DeValue<'t>>,
        range: &std::ops::RangeInclusive<u32>,
    ) -> Option<At<u32>> {
        let DeValue::Integer(number) = &value.value else {
            return self.wrong(key, value.line, "a whole number", value.value.type_str());
        };
        let parsed = u32::from_str_radix(number.as_str(), number.radix()).ok();
        let within = parsed.filter(|number| range.contains(number));
        if within.is_none() {
            let rule = format!("{key} must be a number from {} to {}", range.start(), range.end());
            self.problem(value.line, rule);
        }
        within.map(|number| At { value: number, line: value.line })
    }

    /// A table within this one.
    pub(super) fn table(&mut self, key: &str) -> Option<Self> {
        let value = self.require(key)?;
        self.as_table(key, value)
    }

    /// The same where the key may be missing.
    pub(super) fn optional_table(&mut self, key: &str) -> Option<Self> {
        let Taken::Value(value) = self.take(key) else { return None };
        self.as_table(key, value)
    }

    fn as_table(&self, key: &str, value: At<DeValue<'t>>) -> Option<Self> {
        let found = value.value.type_str();
        let DeValue::Table(table) = value.value else {
            return self.wrong(key, value.line, "a table", found);
        };
        Some(self.below(key, value.line, table))
    }

    /// Tables within this one; none where the key is missing. `kind` is how problems name each.
    pub(super) fn tables(&mut self, key: &str, kind: &str) -> Vec<Self> {
        let Taken::Value(value) = self.take(key) else { return Vec::new() };
        let DeValue::Array(items) = value.value else {
            self.problem(value.line, format!("{key} must be a list of tables"));
            return Vec::new();
        };
        let mut tables = Vec::new();
        for (i, item) in items.into_iter().enumerate() {
            let line = self.findings.line(&item.span());
            let DeValue::Table(table) = item.into_inner() else {
                self.problem(line, format!("{key} must be a list of tables"));
                continue;
            };
            tables.push(self.below(&format!("{kind} {}", i + 1), line, table).named(kind));
        }
        tables
    }

    /// The same where there must be at least one.
    pub(super) fn required_tables(&mut self, key: &str, kind: &str) -> Vec<Self> {
        let empty = match self.entries.get(key) {
            None => Some(self.line),
            Some((line, value)) => {
                matches!(value.get_ref(), DeValue::Array(items) if items.is_empty()).then_some(*line)
            }
        };
        if let Some(line) = empty {
            self.problem(line, format!("{key} must name at least one"));
        }
        self.tables(key, kind)
    }

    /// Leaves a key out, and answers its line where it was there.
    pub(super) fn discard(&mut self, key: &str) -> Option<usize> {
        self.entries.remove(key).map(|(line, _)| line)
    }

    fn below(&self, key: &str, line: usize, table: DeTable<'t>) -> Self {
        let place = if self.place == "file" { key.to_owned() } else { format!("{}, {key}", self.place) };
        let mut below = Self::new(self.findings, &place, &(0..0), table);
        below.line = line;
        below
    }

    /// Every key that was not asked for is a problem: the world is closed.
    pub(super) fn finish(self) {
        for (key, (line, _)) in &self.entries {
            self.problem(*line, format!("unknown key `{key}`"));
        }
    }
}

enum Taken<'t> {
    Missing,
    Unset,
    Value(At<DeValue<'t>>),
}
