//! Working days of Kazakhstan, in which the law counts what an operator owes a person. The days of the years at hand stand
//! in a file; an operator adds what the Government transfers. A year that no line tells of has weekends only: a deadline then
//! comes too early, and never too late.

use std::collections::BTreeMap;

use jiff::civil::{Date, Weekday};

use super::{
    birth::{KAZAKHSTAN, today_in_kazakhstan},
    time::Timestamp,
};

/// The days that this binary knows.
const BUILT_IN: &str = include_str!("calendar/kazakhstan.txt");

/// A line of a calendar that is refused.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}: a day is `off YYYY-MM-DD why` or `on YYYY-MM-DD why`")]
pub struct BadCalendar {
    /// Its number, from 1.
    pub line: usize,
}

/// Which days people work.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct WorkingCalendar {
    /// Days that differ from their day of the week: whether people work.
    days: BTreeMap<Date, bool>,
}

impl WorkingCalendar {
    /// The days that this binary knows.
    #[must_use]
    pub fn kazakhstan() -> Self {
        // A unit test reads the file; without it, weekends alone are off, which makes every deadline earlier.
        Self::default().with(BUILT_IN).unwrap_or_default()
    }

    /// The same with the lines of a text over it: transfers of working days, and what else an operator knows better.
    ///
    /// # Errors
    /// [`BadCalendar`] names the line.
    pub fn with(mut self, text: &str) -> Result<Self, BadCalendar> {
        for (at, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let (date, works) = day(line).ok_or(BadCalendar { line: at + 1 })?;
            self.days.insert(date, works);
        }
        Ok(self)
    }

    /// Whether people work on a day.
    #[must_use]
    pub fn is_working(&self, date: Date) -> bool {
        let weekday = !matches!(date.weekday(), Weekday::Saturday | Weekday::Sunday);
        self.days.get(&date).copied().unwrap_or(weekday)
    }

    /// The last of so many working days after the day of an instant: the day itself does not count.
    #[must_use]
    pub fn last_day(&self, from: Timestamp, working_days: u32) -> Date {
        let mut date = today_in_kazakhstan(from);
        let mut left = working_days;
        while left > 0 {
            // The calendar's end is the end of every term.
            let Ok(next) = date.tomorrow() else { return date };
            date = next;
            left -= u32::from(self.is_working(date));
        }
        date
    }

    /// When a term of so many working days is over: the end of its last day in Kazakhstan.
    #[must_use]
    pub fn end_of(&self, from: Timestamp, working_days: u32) -> Timestamp {
        let last = self.last_day(from, working_days);
        let midnight = last.tomorrow().unwrap_or(last).to_zoned(KAZAKHSTAN.to_time_zone());
        midnight.map_or(from, |end| Timestamp::from_micros(end.timestamp().as_microsecond()))
    }

    /// Every day that differs from its day of the week, in order: what the calendar's hash is of.
    #[must_use]
    pub fn text(&self) -> String {
        let line = |(date, works): (&Date, &bool)| format!("{} {date}\n", if *works { "on" } else { "off" });
        self.days.iter().map(line).collect()
    }
}

/// `off 2026-01-01 New Year`: the day, and whether people work.
fn day(line: &str) -> Option<(Date, bool)> {
    let mut words = line.splitn(3, ' ');
    let is_worked = match words.next()? {
        "on" => true,
        "off" => false,
        _ => return None,
    };
    let date: Date = words.next()?.parse().ok()?;
    words.next().filter(|why| !why.trim().is_empty())?;
    Some((date, is_worked))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;

    use super::*;

    fn at(text: &str) -> Timestamp {
        let instant: jiff::Timestamp = text.parse().unwrap();
        Timestamp::from_micros(instant.as_microsecond())
    }

    #[test]
    fn the_days_of_this_binary_are_read() {
        let calendar = WorkingCalendar::default().with(BUILT_IN).unwrap();
        for (year, days) in
            [(2025, 23), (2026, 19), (2027, 19), (2028, 19), (2029, 16), (2030, 17), (2031, 21)]
        {
            let found = calendar.days.keys().filter(|day| day.year() == year).count();
            assert_eq!(found, days, "{year}");
        }
        assert!(!calendar.is_working(date(2027, 3, 15)), "the new Constitution Day");
        assert!(calendar.is_working(date(2026, 8, 31)), "30 August is abolished, so nothing moves");
        assert!(!calendar.is_working(date(2026, 3, 25)), "Nauryz on a weekend moves");
        assert!(calendar.is_working(date(2025, 1, 5)), "a Sunday that is worked");
    }

    /// The examples of the law's deadlines, each counted by hand.
    #[test]
    fn working_days_are_counted_from_the_next_day() {
        let calendar = WorkingCalendar::kazakhstan();
        for (from, days, last) in [
            ("2026-03-20T09:00:00+05", 7, date(2026, 4, 3)),
            ("2026-10-23T09:00:00+05", 7, date(2026, 11, 4)),
            ("2026-12-28T09:00:00+05", 7, date(2027, 1, 11)),
            ("2026-11-27T09:00:00+05", 1, date(2026, 11, 30)),
            ("2026-11-27T09:00:00+05", 3, date(2026, 12, 2)),
            // A Sunday: the next day is the first.
            ("2026-11-29T12:00:00+05", 1, date(2026, 11, 30)),
            // The day in Kazakhstan counts: in UTC it is still the 26th.
            ("2026-11-27T00:30:00+05", 1, date(2026, 11, 30)),
            ("2026-12-14T09:00:00+05", 15, date(2027, 1, 8)),
        ] {
            assert_eq!(calendar.last_day(at(from), days), last, "{from} and {days}");
        }
        let end = calendar.end_of(at("2026-03-20T09:00:00+05"), 7);
        assert_eq!(end, at("2026-04-04T00:00:00+05"), "the last day belongs to the term");
    }

    #[test]
    fn an_operator_knows_better() {
        let friday = at("2026-11-27T09:00:00+05");
        let moved = "# Government's decree\non 2026-11-28 worked for 4 January\n\noff 2026-11-30 free\n";
        let calendar = WorkingCalendar::kazakhstan().with(moved).unwrap();
        assert_eq!(calendar.last_day(friday, 1), date(2026, 11, 28));
        assert_eq!(calendar.last_day(friday, 2), date(2026, 12, 1));
        assert_ne!(
            calendar.text(),
            WorkingCalendar::kazakhstan().text(),
            "another calendar has another hash"
        );
        for (text, line) in [
            ("off 2026-13-01 x", 1),
            ("# fine\nclosed 2026-01-01 x", 2),
            ("off 2026-01-01", 1),
            ("off tomorrow x", 1),
        ] {
            assert_eq!(WorkingCalendar::kazakhstan().with(text), Err(BadCalendar { line }), "{text}");
        }
    }

    #[test]
    fn a_year_that_nobody_tells_of_has_weekends() {
        let calendar = WorkingCalendar::kazakhstan();
        assert_eq!(calendar.last_day(at("2099-12-31T09:00:00+05"), 1), date(2100, 1, 1));
    }
}
