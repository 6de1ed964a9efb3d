//! Types of fields: what a value must look like, its one normal form, and how it is masked (`docs/fields.md`).

mod contact;
mod named;
mod number;
mod standard;
mod writing;

use super::{card, code::coded, secret::Plaintext};

/// Longest value of any field, in bytes, before and after normalisation.
pub const MAX_VALUE_BYTES: usize = 4_096;

coded!(
    /// Type of a field. It decides validation, normal form and mask.
    FieldType, "field type" {
        /// Individual identification number: 12 digits with a check digit.
        Iin = "iin",
        /// Business identification number: 12 digits with a check digit; the fifth is 4, 5 or 6.
        Bin = "bin",
        /// Surname, first name, patronymic, or all of them.
        PersonName = "person_name",
        /// A telephone number; kept as E.164.
        Phone = "phone",
        /// An email address (RFC 5321 mailbox without display name).
        Email = "email",
        /// Number of an identity document, of any country.
        DocumentNumber = "document_number",
        /// A calendar date (ISO 8601, YYYY-MM-DD) of the years 1800 to 2200.
        Date = "date",
        /// An IPv4 or IPv6 address.
        Ip = "ip",
        /// Free text.
        Text = "text",
        /// The image of an identity document: two sides, uploaded as a document.
        DocumentImage = "document_image",
        /// The image of a face, uploaded as a document.
        FaceImage = "face_image",
    }
);

/// Why a value does not fit its field's type. Says the rule, never the value.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct InvalidValue(&'static str);

impl FieldType {
    /// Checks a value and brings it into its normal form.
    ///
    /// # Errors
    /// [`InvalidValue`] names the rule that the value breaks.
    pub fn normalise(self, value: &Plaintext) -> Result<Plaintext, InvalidValue> {
        let text = value.expose().trim();
        if value.expose().len() > MAX_VALUE_BYTES {
            return Err(InvalidValue("a value has at most 4096 bytes"));
        }
        if text.is_empty() {
            return Err(InvalidValue("a value must not be empty"));
        }
        if self.is_free_form() && card::holds_card_number(text) {
            return Err(InvalidValue("it holds a payment card number, which the vault does not keep"));
        }
        let normal = match self {
            Self::Iin => number::normal_iin(text)?,
            Self::Bin => number::normal_bin(text)?,
            Self::PersonName => writing::normal_name(text)?,
            Self::Phone => contact::normal_phone(text)?,
            Self::Email => contact::normal_email(text)?,
            Self::DocumentNumber => number::normal_document(text)?,
            Self::Date => standard::normal_date(text)?,
            Self::Ip => standard::normal_ip(text)?,
            Self::Text => writing::normal_text(text)?,
            Self::DocumentImage | Self::FaceImage => {
                return Err(InvalidValue("an image is no value: it is uploaded as a document"));
            }
        };
        Ok(Plaintext::new(normal))
    }

    /// Enough of a normalised value to recognise it, not enough to use it.
    #[must_use]
    pub fn mask(self, value: &Plaintext) -> Plaintext {
        let text = value.expose();
        Plaintext::new(match self {
            Self::Iin | Self::Bin => keep_last(text, 4),
            Self::Phone => format!("+{}", keep_last(text.strip_prefix('+').unwrap_or(text), 4)),
            Self::PersonName => text.split(' ').map(keep_first).collect::<Vec<_>>().join(" "),
            Self::Email => {
                let (local, domain) = text.rsplit_once('@').unwrap_or((text, ""));
                format!("{}@{domain}", keep_first(local))
            }
            Self::DocumentNumber => keep_last(text, 3),
            Self::Date => standard::mask_date(text),
            Self::Ip => standard::mask_ip(text),
            Self::Text => keep_first(text),
            // No value is ever of these types.
            Self::DocumentImage | Self::FaceImage => String::new(),
        })
    }

    /// Whether the form leaves room for a payment card's number.
    const fn is_free_form(self) -> bool {
        match self {
            Self::PersonName | Self::Email | Self::DocumentNumber | Self::Text => true,
            Self::Iin
            | Self::Bin
            | Self::Phone
            | Self::Date
            | Self::Ip
            | Self::DocumentImage
            | Self::FaceImage => false,
        }
    }
}

fn keep_last(text: &str, keep: usize) -> String {
    let hidden = text.chars().count().saturating_sub(keep);
    text.chars().enumerate().map(|(i, c)| if i < hidden { '*' } else { c }).collect()
}

/// The first character and three stars: the length is not told.
fn keep_first(text: &str) -> String {
    text.chars().take(1).chain("***".chars()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    pub(super) fn normal(t: FieldType, text: &str) -> Result<String, InvalidValue> {
        t.normalise(&Plaintext::new(text.to_owned())).map(|p| p.expose().to_owned())
    }

    fn masked(t: FieldType, text: &str) -> String {
        let normal = t.normalise(&Plaintext::new(text.to_owned())).unwrap();
        t.mask(&normal).expose().to_owned()
    }

    #[test]
    fn masks_hide() {
        for (t, text, mask) in [
            (FieldType::Iin, "991231600002", "********0002"),
            (FieldType::Bin, "211140009394", "********9394"),
            (FieldType::Phone, "+77011234567", "+*******4567"),
            (FieldType::PersonName, "Әлия Нұрқызы", "Ә*** Н***"),
            (FieldType::Email, "aliya@example.kz", "a***@example.kz"),
            (FieldType::DocumentNumber, "000123456", "******456"),
            (FieldType::DocumentNumber, "N00123456", "******456"),
            (FieldType::Date, "2099-12-31", "2099-**-**"),
            (FieldType::Ip, "192.0.2.17", "192.0.*.*"),
            (FieldType::Ip, "2001:db8:1::17", "2001:db8:*"),
            (FieldType::Ip, "::1", "0:0:*"),
            (FieldType::Text, "Көмек керек", "К***"),
        ] {
            assert_eq!(masked(t, text), mask);
        }
    }

    #[test]
    fn cards_are_refused_wherever_text_is_free() {
        const CARD: InvalidValue =
            InvalidValue("it holds a payment card number, which the vault does not keep");
        for (t, text) in [
            (FieldType::Text, "менің картам 4111 1111 1111 1111"),
            (FieldType::Text, "٤١١١-١١١١-١١١١-١١١١"),
            (FieldType::PersonName, "Әлия 5555\u{a0}5555\u{a0}5555\u{a0}4444"),
            (FieldType::DocumentNumber, "N378282246310005"),
            (FieldType::DocumentNumber, "3782 822463 10005"),
            (FieldType::Email, "4111.1111.1111.1111@example.kz"),
            (FieldType::Email, "card-6200000000000005@example.kz"),
            (FieldType::Email, "a@4111111111111111.kz"),
        ] {
            assert_eq!(normal(t, text), Err(CARD), "{text}");
        }
        for text in
            ["991231600002", "+7 701 123-45-67", "2026-11-22", "INV-20261122-0001", "KZ86125KZT5004100100"]
        {
            assert_eq!(normal(FieldType::Text, text).as_deref(), Ok(text));
        }
    }

    #[test]
    fn no_type_takes_nothing_or_too_much() {
        for t in FieldType::ALL {
            for bad in ["", "  ", "\u{a0}\n", &"1".repeat(MAX_VALUE_BYTES + 1)] {
                assert!(normal(*t, bad).is_err(), "{} {bad}", t.as_str());
            }
        }
    }

    proptest::proptest! {
        #[test]
        fn normalising_twice_changes_nothing(
            text in "\\PC{0,40}|[0-9N]{8,12}|[0-9]{4}-[01][0-9]-[0-3][0-9]|[0-9a-f]{1,4}::[0-9a-f]{1,4}|\\w{1,9}@\\w{1,9}\\.\\w{2,5}",
            which in 0..FieldType::ALL.len(),
        ) {
            let t = FieldType::ALL[which];
            if let Ok(once) = normal(t, &text) {
                proptest::prop_assert_eq!(normal(t, &once), Ok(once.clone()));
            }
        }
    }
}
