//! References: free text that callers may put into the log, kept so narrow that no person can hide in it.

use std::fmt;

use super::{card, iin};

/// A reference in the platform's own numbering: `[A-Z0-9/._-]{1,64}` in which no IIN, telephone or card number
/// was found. Safe to log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Reference(String);

/// Why a text is refused as a reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadReference {
    /// Length or alphabet.
    #[error("a reference must match [A-Z0-9/._-]{{1,64}}")]
    Form,
    /// Something in it reads as an IIN, a telephone number or a payment card number.
    #[error("a reference must not contain what reads as an IIN, a telephone or a card number")]
    PersonalData,
}

impl Reference {
    /// Checks a text.
    ///
    /// # Errors
    /// [`BadReference`] says which rule it breaks.
    pub fn parse(text: &str) -> Result<Self, BadReference> {
        let allowed =
            |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || matches!(b, b'/' | b'.' | b'_' | b'-');
        if text.is_empty() || text.len() > 64 || !text.bytes().all(allowed) {
            return Err(BadReference::Form);
        }
        if holds_personal_data(text) {
            return Err(BadReference::PersonalData);
        }
        Ok(Self(text.to_owned()))
    }

    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl std::str::FromStr for Reference {
    type Err = BadReference;

    fn from_str(text: &str) -> Result<Self, BadReference> {
        Self::parse(text)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Whether something in a text of letters, digits and separators reads as an IIN, a telephone or a card number.
pub(super) fn holds_personal_data(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_digit()).any(is_phone)
        || digit_runs(text).iter().any(|run| holds_personal_number(run))
}

/// Runs of digits, with the separators that people put into numbers taken out.
fn digit_runs(text: &str) -> Vec<String> {
    text.split(|c: char| c.is_ascii_alphabetic())
        .map(|part| part.chars().filter(char::is_ascii_digit).collect())
        .collect()
}

fn holds_personal_number(digits: &str) -> bool {
    let windows = |len: usize| (0..digits.len()).filter_map(move |at| digits.get(at..at + len));
    windows(12).any(iin::has_valid_check_digit)
        || windows(11).any(is_kazakh_phone)
        || (digits.len() == 10 && is_kazakh_phone(&format!("7{digits}")))
        || (13..=19).any(|len| windows(len).any(card::is_card_number))
}

/// A group of digits that people write a number of Kazakhstan or Russia in: ten that begin with 7 or 9, or eleven that
/// begin with 7 or 8.
fn is_phone(group: &str) -> bool {
    (group.len() == 10 && group.starts_with(['7', '9']))
        || (group.len() == 11 && group.starts_with(['7', '8']))
}

/// `7` or `8`, then ten digits that begin with 7 (mobile or area code of Kazakhstan).
fn is_kazakh_phone(digits: &str) -> bool {
    digits.starts_with("77") || digits.starts_with("87")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_references_pass() {
        for text in ["ORDER-2026/000117", "A", "CASE_17.4", "INV-20261122-0001"] {
            assert!(Reference::parse(text).is_ok(), "{text}");
        }
    }

    #[test]
    fn people_do_not_fit_into_a_reference() {
        for text in [
            "991231600002",
            "IIN991231600002X",
            "99-12-31-600002",
            "ORDER/8.701.123.45.67",
            "77011234567",
            "7011234567",
            "ORDER-2026/7011234567",
            "7011234567-1",
            "79123456789",
            "TEL9123456789",
            "4111-1111-1111-1111",
        ] {
            assert_eq!(Reference::parse(text), Err(BadReference::PersonalData), "{text}");
        }
        for text in ["", "a@b.kz", "Order", "A B", "ИИН", &"A".repeat(65)] {
            assert_eq!(Reference::parse(text), Err(BadReference::Form), "{text}");
        }
    }
}
