//! Answers derived from a value, for purposes that need no more: birth date and year, sex, "at least N years old".
//!
//! All of them say what the value says. An IIN's date and sex may be another's than the person's (Resolution 853 of
//! 26.08.2013), or no date at all: then there is no answer.

use std::ops::Range;

use jiff::{civil::Date, tz::Offset};

use super::{code::coded, field::FieldType, secret::Plaintext, time::Timestamp};

/// Kazakhstan's time: UTC+5 everywhere since 1 March 2024.
pub(super) const KAZAKHSTAN: Offset = Offset::constant(5);

coded!(
    /// Sex, as the seventh digit of an IIN states it.
    Sex, "sex" {
        /// 1, 3 and 5.
        Male = "male",
        /// 2, 4 and 6.
        Female = "female",
    }
);

/// A date of birth. A personal value: it has no `Debug` and no `Display`.
#[derive(PartialEq, Eq)]
pub struct BirthDate(Date);

impl BirthDate {
    /// The date of birth that a normalised value of this type states: the first seven digits of an IIN, or a date.
    /// `None` where it states none, and for all other types.
    #[must_use]
    pub fn of(field_type: FieldType, value: &Plaintext) -> Option<Self> {
        match field_type {
            FieldType::Iin => iin_birth(value.expose()).map(|(date, _)| Self(date)),
            FieldType::Date => value.expose().parse().ok().map(Self),
            FieldType::Bin
            | FieldType::PersonName
            | FieldType::Phone
            | FieldType::Email
            | FieldType::DocumentNumber
            | FieldType::Ip
            | FieldType::Text
            | FieldType::DocumentImage
            | FieldType::FaceImage => None,
        }
    }

    /// The date as YYYY-MM-DD.
    #[must_use]
    pub fn reveal(&self) -> Plaintext {
        Plaintext::new(self.0.to_string())
    }

    /// The year as YYYY.
    #[must_use]
    pub fn reveal_year(&self) -> Plaintext {
        Plaintext::new(format!("{:04}", self.0.year()))
    }

    /// Whether a person born on this date has completed `years` years of age on the day `today`.
    ///
    /// A year is complete on the birthday; for who was born on 29 February, on 1 March of a common year. Nobody is of
    /// any age before the day of birth.
    #[must_use]
    pub fn age_at_least(&self, years: u16, today: Date) -> bool {
        let day_of_year = |date: Date| (date.month(), date.day());
        let had_birthday = day_of_year(today) >= day_of_year(self.0);
        let completed = i32::from(today.year()) - i32::from(self.0.year()) - i32::from(!had_birthday);
        completed >= i32::from(years)
    }
}

/// The sex that a normalised value states: an IIN whose first seven digits are a date and a century, or nothing.
#[must_use]
pub fn sex(field_type: FieldType, value: &Plaintext) -> Option<Sex> {
    let (_, sex) = iin_birth(value.expose()).filter(|_| field_type == FieldType::Iin)?;
    Some(sex)
}

/// The calendar's date in Kazakhstan. An instant beyond the calendar's ends is its first day, which proves no age.
#[must_use]
pub fn today_in_kazakhstan(now: Timestamp) -> Date {
    let instant = jiff::Timestamp::from_microsecond(now.as_micros()).unwrap_or(jiff::Timestamp::MIN);
    KAZAKHSTAN.to_datetime(instant).date()
}

/// YYMMDD, then century and sex in one digit (rules P070000406).
fn iin_birth(iin: &str) -> Option<(Date, Sex)> {
    let number = |range: Range<usize>| -> Option<i8> {
        let digits = iin.get(range)?;
        digits.bytes().all(|b| b.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let (year, month, day, seventh) = (number(0..2)?, number(2..4)?, number(4..6)?, number(6..7)?);
    let (century, sex) = match seventh {
        1 => (1800, Sex::Male),
        2 => (1800, Sex::Female),
        3 => (1900, Sex::Male),
        4 => (1900, Sex::Female),
        5 => (2000, Sex::Male),
        6 => (2000, Sex::Female),
        _ => return None,
    };
    let date = Date::new(century + i16::from(year), month, day).ok()?;
    Some((date, sex))
}

#[cfg(test)]
mod tests {
    use jiff::civil::date;
    use proptest::prelude::*;

    use super::*;
    use crate::domain::iin;

    fn birth(field_type: FieldType, text: &str) -> Option<String> {
        let value = Plaintext::new(text.to_owned());
        BirthDate::of(field_type, &value).map(|b| b.reveal().expose().to_owned())
    }

    fn sex_of(text: &str) -> Option<Sex> {
        sex(FieldType::Iin, &Plaintext::new(text.to_owned()))
    }

    fn at_least(born: Date, years: u16, today: Date) -> bool {
        BirthDate(born).age_at_least(years, today)
    }

    #[test]
    fn the_seventh_digit_tells_century_and_sex() {
        for (iin, born, sex) in [
            ("991231100000", "1899-12-31", Sex::Male),
            ("991231200007", "1899-12-31", Sex::Female),
            ("991231300003", "1999-12-31", Sex::Male),
            ("991231400000", "1999-12-31", Sex::Female),
            ("000229500008", "2000-02-29", Sex::Male),
            ("991231600002", "2099-12-31", Sex::Female),
        ] {
            assert_eq!(birth(FieldType::Iin, iin).as_deref(), Some(born), "{iin}");
            assert_eq!(sex_of(iin), Some(sex), "{iin}");
            let year =
                BirthDate::of(FieldType::Iin, &Plaintext::new(iin.to_owned())).map(|b| b.reveal_year());
            assert_eq!(year.unwrap().expose(), &born[..4]);
        }
    }

    #[test]
    fn an_iin_without_a_date_gives_no_answer() {
        for iin in [
            "991331600006", // month 13
            "991200600001", // day 0
            "000229200009", // 1800 was no leap year
            "990229400006", // nor was 1999
            "991231000004", // no century
            "991231700009",
            "991231900002",
            "",
            "99123",
            "+9123160000",
            "9912316",
        ] {
            let complete = iin == "9912316";
            assert_eq!(birth(FieldType::Iin, iin).is_some(), complete, "{iin}");
            assert_eq!(sex_of(iin).is_some(), complete, "{iin}");
        }
    }

    #[test]
    fn only_iins_and_dates_tell() {
        assert_eq!(birth(FieldType::Date, "1999-12-31").as_deref(), Some("1999-12-31"));
        for other in FieldType::ALL.iter().filter(|t| ![FieldType::Iin, FieldType::Date].contains(t)) {
            assert_eq!(birth(*other, "991231600002"), None);
            assert_eq!(birth(*other, "1999-12-31"), None);
            assert_eq!(sex(*other, &Plaintext::new("991231600002".to_owned())), None);
        }
        assert_eq!(sex(FieldType::Date, &Plaintext::new("1999-12-31".to_owned())), None);
    }

    #[test]
    fn a_year_is_complete_on_the_birthday() {
        let born = date(2008, 6, 15);
        assert!(!at_least(born, 18, date(2026, 6, 14)));
        assert!(at_least(born, 18, date(2026, 6, 15)));
        assert!(!at_least(born, 19, date(2026, 12, 31)));
        assert!(at_least(born, 0, born));
        assert!(!at_least(born, 0, date(2008, 6, 14)), "not born yet");
        assert!(!at_least(date(2099, 12, 31), 0, date(2026, 11, 22)));
    }

    #[test]
    fn leap_birthdays_fall_on_the_first_of_march() {
        let born = date(2008, 2, 29);
        assert!(!at_least(born, 18, date(2026, 2, 28)));
        assert!(at_least(born, 18, date(2026, 3, 1)));
        assert!(!at_least(born, 20, date(2028, 2, 28)));
        assert!(at_least(born, 20, date(2028, 2, 29)), "a leap year has the day itself");
        assert!(!at_least(date(1896, 2, 29), 4, date(1900, 2, 28)), "1900 was no leap year");
        assert!(at_least(date(1896, 2, 29), 4, date(1900, 3, 1)));
    }

    #[test]
    fn the_day_is_kazakhstans() {
        let at = |text: &str| {
            let instant: jiff::Timestamp = text.parse().unwrap();
            today_in_kazakhstan(Timestamp::from_micros(instant.as_microsecond()))
        };
        assert_eq!(at("2026-11-22T18:59:59.999999Z"), date(2026, 11, 22));
        assert_eq!(at("2026-11-22T19:00:00Z"), date(2026, 11, 23));
        assert_eq!(at("2026-12-31T19:00:00Z"), date(2027, 1, 1));
        for beyond in [i64::MIN, i64::MAX] {
            let today = today_in_kazakhstan(Timestamp::from_micros(beyond));
            assert!(!at_least(date(1800, 1, 1), 0, today), "a broken clock proves no age");
        }
    }

    proptest! {
        /// The oracle walks the birthdays instead of subtracting years.
        #[test]
        fn age_counts_birthdays(days in 0..150_000_i32, later in 0..50_000_i32, years in 0..130_u16) {
            let born = date(1800, 1, 1).checked_add(jiff::Span::new().days(days)).unwrap();
            let today = born.checked_add(jiff::Span::new().days(later)).unwrap();
            let birthdays = (born.year() + 1..=today.year())
                .map(|year| Date::new(year, born.month(), born.day()).unwrap_or_else(|_| date(year, 3, 1)))
                .filter(|birthday| *birthday <= today)
                .count();
            prop_assert_eq!(at_least(born, years, today), birthdays >= usize::from(years));
        }

        #[test]
        fn any_text_is_answered_or_not(text in "\\PC{0,14}|[0-9]{12}", which in 0..FieldType::ALL.len()) {
            let value = Plaintext::new(text);
            let (born, sex) = (BirthDate::of(FieldType::ALL[which], &value), sex(FieldType::ALL[which], &value));
            prop_assert!(sex.is_none() || born.is_some());
        }

        #[test]
        fn a_made_iin_gives_its_date_back(days in 0..109_000_i32, male: bool, serial in 0..10_000_u32) {
            let born = date(1800, 1, 1).checked_add(jiff::Span::new().days(days)).unwrap();
            let seventh = (born.year() / 100 - 18) * 2 + if male { 1 } else { 2 };
            let body = format!("{}{seventh}{serial:04}", &born.strftime("%y%m%d").to_string());
            let digits: Vec<u32> = body.chars().map(|c| c.to_digit(10).unwrap()).collect();
            if let Some(check) = iin::check_digit(&digits.try_into().unwrap()) {
                let text = format!("{body}{check}");
                prop_assert!(iin::has_valid_check_digit(&text));
                prop_assert_eq!(birth(FieldType::Iin, &text), Some(born.to_string()));
                prop_assert_eq!(sex_of(&text), Some(if male { Sex::Male } else { Sex::Female }));
            }
        }
    }
}
