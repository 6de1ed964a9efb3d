//! The name of one running vault among those that share a database and a mirror.

use std::{fmt, str::FromStr, sync::Arc};

/// Name of a replica. It stands in names of objects, so two replicas of one installation never share one.
///
/// Form: `[a-z0-9-]{1,40}`.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ReplicaName(Arc<str>);

/// A text that is no name of a replica.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a replica's name must match [a-z0-9-]{{1,40}}")]
pub struct MalformedReplicaName;

impl ReplicaName {
    /// The name as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ReplicaName {
    type Err = MalformedReplicaName;

    fn from_str(text: &str) -> Result<Self, MalformedReplicaName> {
        let valid = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-';
        if (1..=40).contains(&text.len()) && text.bytes().all(valid) {
            Ok(Self(text.into()))
        } else {
            Err(MalformedReplicaName)
        }
    }
}

impl<'de> serde::Deserialize<'de> for ReplicaName {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

impl serde::Serialize for ReplicaName {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.as_str())
    }
}

impl fmt::Display for ReplicaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for ReplicaName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_of_pods() {
        for good in ["a", "7", "sandyq-0", "sandyq-6f7d9c-x2kq9", &"a".repeat(40)] {
            assert!(good.parse::<ReplicaName>().is_ok(), "{good}");
        }
        for bad in ["", "A", "a_b", "a.b", "a/b", "а", &"a".repeat(41)] {
            assert!(bad.parse::<ReplicaName>().is_err(), "{bad}");
        }
    }
}
