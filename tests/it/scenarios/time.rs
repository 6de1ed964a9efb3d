//! Days of a scenario: dates and spans as people write them, in Kazakhstan's time.

use jiff::{
    Span,
    civil::{Date, DateTime},
    tz::Offset,
};
use sandyq::domain::time::Timestamp;

const KAZAKHSTAN: Offset = Offset::constant(5);

/// Nine o'clock of a date, `2027-02-01`.
pub fn on(date: &str) -> Result<Timestamp, String> {
    let day: Date = date.parse().map_err(|_| format!("«{date}» is no date such as 2027-02-01"))?;
    instant(day.at(9, 0, 0, 0))
}

/// A span after an instant: `30 days`, `5 hours`, `3 years`.
pub fn later(from: Timestamp, span: &str) -> Result<Timestamp, String> {
    let ahead: Span = span.parse().map_err(|_| format!("«{span}» is no span such as «30 days»"))?;
    let at = local(from).checked_add(ahead).map_err(|e| format!("«{span}»: {e}"))?;
    instant(at)
}

/// The date of an instant.
pub fn date_of(at: Timestamp) -> String {
    local(at).date().to_string()
}

/// As the contract writes it.
pub fn pb(at: Timestamp) -> prost_types::Timestamp {
    let micros = at.as_micros().rem_euclid(1_000_000);
    prost_types::Timestamp { seconds: at.second(), nanos: i32::try_from(micros * 1_000).unwrap() }
}

/// From what the contract writes.
pub fn from_pb(at: prost_types::Timestamp) -> Timestamp {
    Timestamp::from_micros(at.seconds * 1_000_000 + i64::from(at.nanos) / 1_000)
}

fn local(at: Timestamp) -> DateTime {
    KAZAKHSTAN.to_datetime(jiff::Timestamp::from_microsecond(at.as_micros()).unwrap())
}

fn instant(local: DateTime) -> Result<Timestamp, String> {
    let at = KAZAKHSTAN.to_timestamp(local).map_err(|e| e.to_string())?;
    Ok(Timestamp::from_micros(at.as_microsecond()))
}

#[test]
fn days_are_those_of_kazakhstan() {
    let morning = on("2027-02-01").unwrap();
    assert_eq!(morning.second() % 86_400, 4 * 3_600, "nine o'clock is four in Greenwich");
    assert_eq!(date_of(later(morning, "3 years").unwrap()), "2030-02-01");
    assert_eq!(date_of(later(morning, "16 hours").unwrap()), "2027-02-02");
    assert_eq!(date_of(later(on("2028-02-29").unwrap(), "1 year").unwrap()), "2029-02-28");
    assert!(on("01.02.2027").is_err() && later(morning, "soon").is_err());
    assert_eq!(from_pb(pb(morning)), morning);
}
