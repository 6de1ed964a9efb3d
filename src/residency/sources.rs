//! What others say of public addresses: the registries' delegated statistics, and a database of countries.

use std::{fmt, net::IpAddr};

use maxminddb::{Reader, geoip2};

use super::sites::Undeclarable;
use crate::domain::{
    territory::{Country, Outside},
    time::Timestamp,
};

/// Says of an address in which country it is.
pub trait Source: fmt::Debug + Send + Sync {
    /// Its name in messages.
    fn name(&self) -> &'static str;

    /// When it was made.
    fn built_at(&self) -> Timestamp;

    /// The country; none where it says nothing of this address.
    ///
    /// # Errors
    /// [`Outside::Unknown`] where it cannot be read.
    fn country_of(&self, address: IpAddr) -> Result<Option<Country>, Outside>;
}

/// Delegated statistics as RIPE NCC and the other registries publish them: to whom addresses were given. A range of
/// IPv4 is a first address and a number of addresses, which need be no power of two.
pub struct Delegated {
    ended_at: Timestamp,
    /// First and last address as numbers, by first address; none overlaps another.
    v4: Vec<(u128, u128, Country)>,
    v6: Vec<(u128, u128, Country)>,
}

/// Codes that stand for no one country.
const NOWHERE: [&str; 3] = ["EU", "AP", "ZZ"];

impl Delegated {
    /// Reads statistics, basic or extended.
    ///
    /// # Errors
    /// [`Undeclarable`] names the first line that is not of the format.
    pub fn parse(text: &str) -> Result<Self, Undeclarable> {
        let mut ended_at = None;
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        let lines = text.lines().enumerate().filter(|(_, l)| !l.starts_with('#') && !l.trim().is_empty());
        for (at, line) in lines {
            let wrong = || Undeclarable(format!("line {} is no delegated statistics", at + 1));
            let parts: Vec<&str> = line.trim().split('|').collect();
            match parts.as_slice() {
                ["2" | "2.3", _, _, _, _, end, ..] if ended_at.is_none() => {
                    ended_at = Some(day(end).ok_or_else(wrong)?);
                }
                _ if ended_at.is_none() => return Err(wrong()),
                [_, "*", ..] | [_, _, "asn", ..] => {}
                [_, country, kind @ ("ipv4" | "ipv6"), start, value, _, _, ..] => {
                    let Ok(country) = country.parse::<Country>() else { continue };
                    if NOWHERE.contains(&country.as_str()) {
                        continue;
                    }
                    let (first, last) = range(kind, start, value).ok_or_else(wrong)?;
                    let ranges = if *kind == "ipv4" { &mut v4 } else { &mut v6 };
                    ranges.push((first, last, country));
                }
                _ => return Err(wrong()),
            }
        }
        let ended_at = ended_at.ok_or_else(|| Undeclarable("it holds no delegated statistics".to_owned()))?;
        for ranges in [&mut v4, &mut v6] {
            ranges.sort_unstable();
            let overlap = ranges.windows(2).any(|pair| matches!(pair, [a, b] if b.0 <= a.1));
            if overlap {
                return Err(Undeclarable("it gives the same addresses twice".to_owned()));
            }
        }
        Ok(Self { ended_at, v4, v6 })
    }
}

fn range(kind: &str, start: &str, value: &str) -> Option<(u128, u128)> {
    let value: u64 = value.parse().ok()?;
    match (kind, start.parse().ok()?) {
        ("ipv4", IpAddr::V4(start)) => {
            let first = u128::from(u32::from(start));
            let last = first.checked_add(u128::from(value))?.checked_sub(1)?;
            (value > 0 && last <= u128::from(u32::MAX)).then_some((first, last))
        }
        ("ipv6", IpAddr::V6(start)) => {
            let network = ipnet::Ipv6Net::new(start, u8::try_from(value).ok()?).ok()?;
            Some((u128::from(network.network()), u128::from(network.broadcast())))
        }
        _ => None,
    }
}

/// The end of a day such as `20261126`.
fn day(text: &str) -> Option<Timestamp> {
    let date = jiff::civil::Date::strptime("%Y%m%d", text).ok()?;
    end_of(date)
}

/// The end of a day, in UTC.
pub(super) fn end_of(date: jiff::civil::Date) -> Option<Timestamp> {
    let zoned = date.tomorrow().ok()?.to_zoned(jiff::tz::TimeZone::UTC).ok()?;
    Some(Timestamp::from_micros(zoned.timestamp().as_microsecond()))
}

impl fmt::Debug for Delegated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Delegated({} and {} ranges)", self.v4.len(), self.v6.len())
    }
}

impl Source for Delegated {
    fn name(&self) -> &'static str {
        "delegated statistics"
    }

    fn built_at(&self) -> Timestamp {
        self.ended_at
    }

    fn country_of(&self, address: IpAddr) -> Result<Option<Country>, Outside> {
        let (ranges, address) = match address {
            IpAddr::V4(v4) => (&self.v4, u128::from(u32::from(v4))),
            IpAddr::V6(v6) => (&self.v6, u128::from(v6)),
        };
        let after = ranges.partition_point(|(first, _, _)| *first <= address);
        let range = after.checked_sub(1).and_then(|at| ranges.get(at));
        Ok(range.filter(|(_, last, _)| address <= *last).map(|(_, _, country)| *country))
    }
}

/// A database of countries in the format MMDB. Its `country` is where an address is; `registered_country` is where its
/// holder is registered, and is not looked at.
pub struct Geo {
    built_at: Timestamp,
    reader: Reader<Vec<u8>>,
}

impl Geo {
    /// Reads a database.
    ///
    /// # Errors
    /// [`Undeclarable`] where it is none of countries.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, Undeclarable> {
        let reader =
            Reader::from_source(bytes).map_err(|error| Undeclarable(format!("it is no MMDB: {error}")))?;
        let metadata = reader.metadata();
        let kind = metadata.database_type.clone();
        if !["Country", "City", "Enterprise"].iter().any(|known| kind.contains(known)) {
            return Err(Undeclarable(format!("an MMDB of type {kind} holds no countries")));
        }
        let micros = i64::try_from(metadata.build_epoch).ok().and_then(|s| s.checked_mul(1_000_000));
        let built_at = Timestamp::from_micros(
            micros.ok_or_else(|| Undeclarable("its time of build is no time".to_owned()))?,
        );
        Ok(Self { built_at, reader })
    }
}

impl fmt::Debug for Geo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Geo({})", self.built_at)
    }
}

impl Source for Geo {
    fn name(&self) -> &'static str {
        "country data (MMDB)"
    }

    fn built_at(&self) -> Timestamp {
        self.built_at
    }

    fn country_of(&self, address: IpAddr) -> Result<Option<Country>, Outside> {
        let damaged = |error: maxminddb::MaxMindDbError| Outside::Unknown(format!("the MMDB: {error}"));
        if address.is_ipv6() && self.reader.metadata().ip_version == 4 {
            return Ok(None);
        }
        let found = self.reader.lookup(address).map_err(damaged)?;
        let found = found.decode::<geoip2::Country<'_>>().map_err(damaged)?;
        Ok(found.and_then(|found| found.country.iso_code).and_then(|code| code.parse().ok()))
    }
}

#[cfg(test)]
mod tests;
