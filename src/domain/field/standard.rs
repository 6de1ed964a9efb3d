//! Values whose form is an international standard: calendar dates and addresses of the internet.

use std::net::IpAddr;

use jiff::civil::Date;

use super::InvalidValue;

/// The years that a date may have.
const YEARS: std::ops::RangeInclusive<i16> = 1800..=2200;

/// A date that exists, as ISO 8601 writes it in full: YYYY-MM-DD.
pub(super) fn normal_date(text: &str) -> Result<String, InvalidValue> {
    const INVALID: InvalidValue = InvalidValue("a date is YYYY-MM-DD, of the years 1800 to 2200");
    // The parser takes more than one form: only the text that it would itself write counts.
    let date: Date = text.parse().map_err(|_| INVALID)?;
    if !YEARS.contains(&date.year()) || date.to_string() != text {
        return Err(INVALID);
    }
    Ok(text.to_owned())
}

/// The year.
pub(super) fn mask_date(text: &str) -> String {
    let year: String = text.chars().take(4).collect();
    format!("{year}-**-**")
}

/// An address as RFC 5952 writes it; an IPv4 address mapped into IPv6 is the IPv4 address.
pub(super) fn normal_ip(text: &str) -> Result<String, InvalidValue> {
    let address: IpAddr = text.parse().map_err(|_| InvalidValue("not an IPv4 or IPv6 address"))?;
    Ok(address.to_canonical().to_string())
}

/// The first two octets of an IPv4 address, the first two groups of an IPv6 address.
pub(super) fn mask_ip(text: &str) -> String {
    match text.parse() {
        Ok(IpAddr::V4(address)) => {
            let [first, second, ..] = address.octets();
            format!("{first}.{second}.*.*")
        }
        Ok(IpAddr::V6(address)) => {
            let [first, second, ..] = address.segments();
            format!("{first:x}:{second:x}:*")
        }
        Err(_) => "***".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{FieldType, tests::normal};

    #[test]
    fn dates_exist() {
        for text in ["1800-01-01", "2200-12-31", "2000-02-29", "2024-02-29", "2099-12-31"] {
            assert_eq!(normal(FieldType::Date, text).as_deref(), Ok(text));
        }
        for bad in [
            "1799-12-31",
            "2201-01-01",
            "1900-02-29",
            "2023-02-29",
            "2023-04-31",
            "2023-13-01",
            "2023-00-10",
            "2023-01-00",
            "20230101",
            "2023-1-1",
            "23-01-01",
            "31.12.2023",
            "+002023-01-01",
            "-2023-01-01",
            "2023-W01-1",
            "2023-001",
            "2023-01-01T00:00:00Z",
            "2023-01-01 00:00",
            "2023-01-01[Asia/Almaty]",
            "2023–01–01",
            "２０２３-01-01",
        ] {
            assert!(normal(FieldType::Date, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn addresses_have_one_normal_form() {
        for (text, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            ("2001:DB8:0:0:0:0:0:1", "2001:db8::1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::FFFF:C000:201", "192.0.2.1"),
            ("::", "::"),
        ] {
            assert_eq!(normal(FieldType::Ip, text).as_deref(), Ok(expected), "{text}");
        }
        for bad in [
            "192.0.2",
            "192.0.2.256",
            "192.0.02.1",
            "192.0.2.1:80",
            "192.0.2.0/24",
            "fe80::1%eth0",
            "[::1]",
            "0x7f.1",
            "3221225985",
        ] {
            assert!(normal(FieldType::Ip, bad).is_err(), "{bad}");
        }
    }

    /// Days of a month by the Gregorian rule.
    fn days(year: u32, month: u32) -> u32 {
        match month {
            2 if (year.is_multiple_of(4) && !year.is_multiple_of(100)) || year.is_multiple_of(400) => 29,
            2 => 28,
            4 | 6 | 9 | 11 => 30,
            1..=12 => 31,
            _ => 0,
        }
    }

    proptest! {
        #[test]
        fn exactly_the_days_of_the_calendar_are_dates(year in 1790..2210_u32, month in 0..14_u32, day in 0..33_u32) {
            let text = format!("{year:04}-{month:02}-{day:02}");
            let exists = (1800..=2200).contains(&year) && (1..=days(year, month)).contains(&day);
            prop_assert_eq!(normal(FieldType::Date, &text).is_ok(), exists, "{}", text);
        }

        #[test]
        fn every_address_is_an_address(v4: std::net::Ipv4Addr, v6: std::net::Ipv6Addr) {
            prop_assert_eq!(normal(FieldType::Ip, &v4.to_string()), Ok(v4.to_string()));
            let groups = v6.segments().map(|group| format!("{group:04X}")).join(":");
            prop_assert_eq!(normal(FieldType::Ip, &groups), normal(FieldType::Ip, &v6.to_string()));
        }
    }
}
