//! How signed JSON writes ids, codes and instants: as the texts that people know.

/// Anything that is printed as it is parsed.
pub mod text {
    use std::{fmt::Display, str::FromStr};

    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    /// Writes it.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<T: Display, S: Serializer>(of: &T, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(of)
    }

    /// Reads it.
    ///
    /// # Errors
    /// Where it does not parse.
    pub fn deserialize<'de, T, D>(from: D) -> Result<T, D::Error>
    where
        T: FromStr<Err: Display>,
        D: Deserializer<'de>,
    {
        String::deserialize(from)?.parse().map_err(D::Error::custom)
    }
}

/// Instants, as RFC 3339.
pub mod instant {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    use crate::domain::time::Timestamp;

    /// Writes it.
    ///
    /// # Errors
    /// Those of the serializer.
    pub fn serialize<S: Serializer>(of: &Timestamp, to: S) -> Result<S::Ok, S::Error> {
        to.collect_str(of)
    }

    /// Reads it.
    ///
    /// # Errors
    /// Where it does not parse.
    pub fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Timestamp, D::Error> {
        let time: jiff::Timestamp = String::deserialize(from)?.parse().map_err(D::Error::custom)?;
        Ok(Timestamp::from_micros(time.as_microsecond()))
    }
}
