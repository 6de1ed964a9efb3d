//! How long data are kept, as a policy says it: terms that end a purpose, the least time that a law asks for, and what a
//! refused withdrawal leaves (rules R8, R9, R42).

use std::{fmt, str::FromStr};

use jiff::Span;

use super::{
    load::{KAZAKHSTAN, text},
    purpose::law_article,
    table::{At, Table},
};
use crate::domain::{
    code::coded,
    names::{EventName, MalformedName},
    time::Timestamp,
};

/// How long a purpose keeps its data.
#[derive(Debug, Clone, Default)]
pub struct Retention {
    /// Clause that says how long.
    pub clause: String,
    /// What a law asks to be kept, however the purpose ends.
    pub minimum: Option<Minimum>,
    /// The event by which the operator records that it refuses a withdrawal; of a purpose for claims alone.
    pub refusal: Option<Refusal>,
    pub(super) ends: Vec<Term>,
}

impl Retention {
    /// The terms that end it. The earliest counts.
    #[must_use]
    pub fn ends(&self) -> &[Term] {
        &self.ends
    }
}

coded!(
    /// What becomes of a subject when the last of its data ends (rule R8; Law 94-V, Articles 12(2), 18).
    ExpiryKind, "kind of expiry" {
        /// Nothing is left but the evidence, under the hash of the platform's reference.
        Destruction = "destruction",
        /// That hash goes too, so that the vault finds by no reference what is left (Article 1(2-5)).
        Depersonalisation = "depersonalisation",
    }
);

/// What a policy says of the end of retention.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// What becomes of a subject.
    pub kind: ExpiryKind,
    /// Clause.
    pub clause: String,
}

pub(super) fn expiry(mut table: Table<'_, '_>) -> Option<Expiry> {
    let kind = table.parsed::<ExpiryKind>("kind");
    let clause = table.text("clause");
    table.finish();
    Some(Expiry { kind: kind?.value, clause: clause?.value })
}

/// A term that ends a purpose.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// From when it counts.
    pub from: Start,
    /// How long it is.
    pub length: Length,
    /// From when it counts where the event is not recorded; with none, the term waits for the event.
    pub missing: Option<Fallback>,
    /// Clause.
    pub clause: String,
}

impl fmt::Display for Term {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.length == Length::default() {
            write!(f, "ends at {}", self.from)?;
        } else {
            write!(f, "ends {} after {}", self.length, self.from)?;
        }
        match self.missing {
            Some(missing) => write!(f, ", or after {} where that is not recorded", missing.as_str()),
            None => Ok(()),
        }
    }
}

/// From when a term counts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Start {
    /// The value was stored.
    Collection,
    /// The subject consented; the value was stored where no consent is.
    Consent,
    /// The last consent ended.
    Withdrawal,
    /// Something happened to the subject.
    Event(EventName),
}

impl FromStr for Start {
    type Err = MalformedName;

    fn from_str(text: &str) -> Result<Self, MalformedName> {
        Ok(match text {
            "collection" => Self::Collection,
            "consent" => Self::Consent,
            "withdrawal" => Self::Withdrawal,
            event => Self::Event(event.parse()?),
        })
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Collection => f.write_str("collection"),
            Self::Consent => f.write_str("consent"),
            Self::Withdrawal => f.write_str("withdrawal"),
            Self::Event(event) => write!(f, "{event}"),
        }
    }
}

coded!(
    /// What stands in for an event that is not recorded: the earliest date that can be defended (rule R42).
    Fallback, "stand-in for an event" {
        /// The value was stored.
        Collection = "collection",
        /// The subject consented.
        Consent = "consent",
    }
);

/// A span of the calendar; none is the instant itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Length {
    years: u32,
    months: u32,
    days: u32,
}

impl Length {
    /// So many days.
    #[must_use]
    pub const fn of_days(days: u32) -> Self {
        Self { years: 0, months: 0, days }
    }

    /// Whether the term ends at its start.
    #[must_use]
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// The end of a span that starts then, by Kazakhstan's calendar: 29 February and three years is 28 February.
    #[must_use]
    pub fn after(&self, start: Timestamp) -> Timestamp {
        let end = || {
            let from = jiff::Timestamp::from_microsecond(start.as_micros()).ok()?;
            let span = Span::new().try_years(self.years).ok()?;
            let span = span.try_months(self.months).ok()?.try_days(self.days).ok()?;
            from.to_zoned(KAZAKHSTAN.to_time_zone()).checked_add(span).ok()
        };
        end().map_or(Timestamp::from_micros(i64::MAX), |end| {
            Timestamp::from_micros(end.timestamp().as_microsecond())
        })
    }
}

impl fmt::Display for Length {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = [(self.years, "year"), (self.months, "month"), (self.days, "day")];
        let mut space = "";
        for (number, unit) in parts.into_iter().filter(|(number, _)| *number > 0) {
            write!(f, "{space}{number} {unit}{}", if number == 1 { "" } else { "s" })?;
            space = " ";
        }
        Ok(())
    }
}

/// The least time that a law asks for: it wins over every end, and keeps the data restricted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Minimum {
    /// From when it counts; nothing is kept before that.
    pub from: Start,
    /// How long it is.
    pub length: Length,
    /// Act and article, such as `94-V/12(2)`.
    pub article: String,
    /// Clause.
    pub clause: String,
}

/// The event that records a reasoned refusal of a withdrawal (Law 94-V, Article 8(2)).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// The event.
    pub event: EventName,
    /// Clause.
    pub clause: String,
}

/// A purpose's retention with the lines that rules need.
#[derive(Default)]
pub(super) struct ReadRetention {
    pub(super) line: usize,
    /// Every event that it names.
    pub(super) events: Vec<At<EventName>>,
    /// Lines of terms that count from a withdrawal.
    pub(super) withdrawals: Vec<usize>,
    pub(super) retention: Retention,
}

pub(super) fn read(mut table: Table<'_, '_>) -> ReadRetention {
    let mut read = ReadRetention { line: table.line(), ..ReadRetention::default() };
    read.retention.clause = text(table.text("clause"));
    for term in table.tables("ends", "term").into_iter().filter_map(term) {
        read.note(&term.value.from, term.line);
        read.retention.ends.push(term.value);
    }
    read.retention.minimum = table.optional_table("minimum").and_then(|table| read.minimum(table));
    read.retention.refusal = table.optional_table("refusal").and_then(|mut table| {
        let (event, clause) = (table.parsed::<EventName>("event"), table.text("clause"));
        table.finish();
        let event = event?;
        read.events.push(event.clone());
        Some(Refusal { event: event.value, clause: clause?.value })
    });
    table.finish();
    read
}

impl ReadRetention {
    fn note(&mut self, start: &Start, line: usize) {
        match start {
            Start::Event(event) => self.events.push(At { value: event.clone(), line }),
            Start::Withdrawal => self.withdrawals.push(line),
            Start::Collection | Start::Consent => {}
        }
    }

    fn minimum(&mut self, mut table: Table<'_, '_>) -> Option<Minimum> {
        let from = table.parsed::<Start>("after");
        let length = length(&mut table);
        if length.is_none() {
            table.problem(table.line(), "a minimum says how long: years, months or days");
        }
        let article = law_article(&mut table);
        let clause = table.text("clause");
        table.finish();
        let from = from?;
        self.note(&from.value, from.line);
        Some(Minimum { from: from.value, length, article: article?.value, clause: clause?.value })
    }
}

/// A term, as it stands in `ends` and as a `[[cap]]`.
pub(super) fn term(mut table: Table<'_, '_>) -> Option<At<Term>> {
    let from = table.parsed::<Start>("after");
    let length = length(&mut table);
    let missing = table.optional::<Fallback>("missing");
    let clause = table.text("clause");
    if let (Some(from), Some(missing)) = (&from, &missing)
        && (!matches!(from.value, Start::Event(_)) || length.is_none())
    {
        table.problem(missing.line, "missing stands only beside a span after an event");
    }
    if let Some(from) = &from
        && length.is_none()
        && matches!(from.value, Start::Collection | Start::Consent)
    {
        table.problem(from.line, format!("a term after {} says how long: years, months or days", from.value));
    }
    table.finish();
    let (from, clause) = (from?, clause?.value);
    let missing = missing.map(|missing| missing.value);
    Some(At { value: Term { from: from.value, length, missing, clause }, line: from.line })
}

fn length(table: &mut Table<'_, '_>) -> Length {
    let mut part = |key, most| table.optional_number(key, 1..=most).map_or(0, |number| number.value);
    Length { years: part("years", 100), months: part("months", 1_200), days: part("days", 36_600) }
}
