//! Names that policies declare: of platforms, fields, purposes, callers, sites. They are public words.

use std::{borrow::Borrow, fmt, str::FromStr, sync::Arc};

/// A name that does not have the form of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{kind} must match {form}")]
pub struct MalformedName {
    kind: &'static str,
    form: &'static str,
}

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $kind:literal, $form:literal, $valid:path) => {
        $(#[$doc])*
        ///
        #[doc = concat!("Form: `", $form, "`.")]
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            /// The name as text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = MalformedName;

            fn from_str(text: &str) -> Result<Self, MalformedName> {
                if $valid(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(MalformedName { kind: $kind, form: $form })
                }
            }
        }

        impl<'de> serde::Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Borrow<str> for $name {
            fn borrow(&self) -> &str {
                &self.0
            }
        }
    };
}

name!(
    /// Short name of a platform.
    PlatformName, "a platform's name", "[a-z][a-z0-9_]{0,62}", is_word
);
name!(
    /// Name of a field that a policy declares.
    FieldName, "a field's name", "[a-z][a-z0-9_]{0,62}", is_word
);
name!(
    /// Name of a purpose that a policy declares.
    PurposeName, "a purpose's name", "[a-z][a-z0-9_]{0,62}", is_word
);
name!(
    /// Name of a caller within its platform.
    CallerName, "a caller's name", "[a-z][a-z0-9_]{0,62}", is_word
);
name!(
    /// Name of an event that a policy declares.
    EventName, "an event's name", "[a-z][a-z0-9_]{0,62}", is_word
);
name!(
    /// Short name of a recipient within its platform.
    RecipientName, "a recipient's name", "[a-z][a-z0-9_]{0,62}", is_word
);
name!(
    /// In whose name a message goes out: `operator`, or a partner that a policy names.
    SenderName, "a sender's name", "[a-z][a-z0-9_]{0,62}", is_word
);
name!(
    /// Handle of a person of the staff, such as a staff number; not a name.
    PersonHandle, "a person's handle", "[a-z0-9][a-z0-9._-]{1,39}", is_handle
);
name!(
    /// A site (host name) that a policy declares.
    SiteName, "a site's name", "[a-z0-9][a-z0-9.-]{0,252}", is_host
);
name!(
    /// Name of a place where bytes live, which the configuration declares.
    StorageSite, "a storage site's name", "[a-z0-9][a-z0-9._-]{1,39}", is_handle
);
name!(
    /// A SPIFFE ID: the one URI in a caller's certificate (SPIFFE-ID, section 2).
    SpiffeId, "a SPIFFE ID", "spiffe://TRUST-DOMAIN/PATH, at most 512 bytes", is_spiffe
);

impl SpiffeId {
    /// The trust domain: what stands between `spiffe://` and the path.
    #[must_use]
    pub fn trust_domain(&self) -> &str {
        let rest = self.0.get("spiffe://".len()..).unwrap_or_default();
        rest.split_once('/').map_or(rest, |(domain, _)| domain)
    }
}

fn is_word(text: &str) -> bool {
    text.len() <= 63
        && text.starts_with(|c: char| c.is_ascii_lowercase())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_')
}

/// A handle stands in the log and in every list of persons: what reads as an IIN, a telephone or a card number is none.
fn is_handle(text: &str) -> bool {
    (2..=40).contains(&text.len())
        && !super::reference::holds_personal_data(text)
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'_' | b'-'))
}

fn is_host(text: &str) -> bool {
    text.len() <= 253
        && text.starts_with(|c: char| c.is_ascii_lowercase() || c.is_ascii_digit())
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-'))
}

fn is_spiffe(text: &str) -> bool {
    let Some((domain, path)) = text.strip_prefix("spiffe://").and_then(|rest| rest.split_once('/')) else {
        return false;
    };
    let segment = |s: &str| {
        !s.is_empty()
            && s != "."
            && s != ".."
            && s.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'.' | b'-' | b'_'))
    };
    text.len() <= 512
        && !domain.is_empty()
        && domain
            .bytes()
            .all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'.' | b'-' | b'_'))
        && path.split('/').all(segment)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spiffe_ids_follow_the_standard() {
        for good in ["spiffe://lerna.kz/payments", "spiffe://a.b/ns/x/sa/y-1_2.z"] {
            assert!(good.parse::<SpiffeId>().is_ok(), "{good}");
        }
        for bad in [
            "spiffe://lerna.kz",
            "spiffe://lerna.kz/",
            "spiffe:///payments",
            "spiffe://Lerna.kz/x",
            "spiffe://lerna.kz/a//b",
            "spiffe://lerna.kz/a/../b",
            "spiffe://lerna.kz:1/a",
            "spiffe://u@lerna.kz/a",
            "spiffe://lerna.kz/a?b",
            "https://lerna.kz/a",
        ] {
            assert!(bad.parse::<SpiffeId>().is_err(), "{bad}");
        }
        assert_eq!("spiffe://lerna.kz/a/b".parse::<SpiffeId>().unwrap().trust_domain(), "lerna.kz");
    }

    #[test]
    fn a_handle_is_no_number_of_a_person() {
        for good in ["k-17", "second", "0042", "a.b_c", "7011"] {
            assert!(good.parse::<PersonHandle>().is_ok(), "{good}");
        }
        // An IIN (of nobody: 1 January 2000, number 0000) alone, in a text, in groups; a telephone; a test card.
        for bad in ["000101500001", "k-000101500001", "000101-500001", "87010000000", "4111111111111111"] {
            assert!(bad.parse::<PersonHandle>().is_err(), "{bad}");
        }
    }

    #[test]
    fn words_are_lower_case() {
        assert!("bank_credit2".parse::<PurposeName>().is_ok());
        for bad in ["", "_a", "2a", "A", "a-b", "иин", &"a".repeat(64)] {
            assert!(bad.parse::<PurposeName>().is_err(), "{bad}");
        }
    }
}
