//! Types of fields: what a value must look like, its one normal form, and how it is masked.

use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use super::{code::coded, iin, secret::Plaintext};

/// Longest value of any field, in bytes before normalisation.
pub const MAX_VALUE_BYTES: usize = 4_096;

const MAX_NAME_CHARS: usize = 120;
const MAX_EMAIL_BYTES: usize = 254;

coded!(
    /// Type of a field. It decides validation, normal form and mask.
    FieldType, "field type" {
        /// Individual identification number: 12 digits with a check digit.
        Iin = "iin",
        /// Surname, first name, patronymic, or all of them.
        PersonName = "person_name",
        /// A telephone number; kept as E.164.
        Phone = "phone",
        /// An email address (RFC 5321 mailbox without display name).
        Email = "email",
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
        let normal = match self {
            Self::Iin => normal_iin(text)?,
            Self::PersonName => normal_name(text)?,
            Self::Phone => normal_phone(text)?,
            Self::Email => normal_email(text)?,
        };
        Ok(Plaintext::new(normal))
    }

    /// Enough of a normalised value to recognise it, not enough to use it.
    #[must_use]
    pub fn mask(self, value: &Plaintext) -> Plaintext {
        let text = value.expose();
        Plaintext::new(match self {
            Self::Iin => keep_last(text, 4),
            Self::Phone => format!("+{}", keep_last(text.strip_prefix('+').unwrap_or(text), 4)),
            Self::PersonName => text.split(' ').map(keep_first).collect::<Vec<_>>().join(" "),
            Self::Email => {
                let (local, domain) = text.rsplit_once('@').unwrap_or((text, ""));
                format!("{}@{domain}", keep_first(local))
            }
        })
    }
}

fn keep_last(text: &str, keep: usize) -> String {
    let hidden = text.chars().count().saturating_sub(keep);
    text.chars().enumerate().map(|(i, c)| if i < hidden { '*' } else { c }).collect()
}

/// The first character and three stars: the length of a name is not told.
fn keep_first(text: &str) -> String {
    text.chars().take(1).chain("***".chars()).collect()
}

fn normal_iin(text: &str) -> Result<String, InvalidValue> {
    if text.len() != 12 || !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(InvalidValue("an IIN has exactly 12 digits"));
    }
    if !iin::has_valid_check_digit(text) {
        return Err(InvalidValue("the IIN's check digit does not match"));
    }
    Ok(text.to_owned())
}

fn normal_name(text: &str) -> Result<String, InvalidValue> {
    let composed: Zeroizing<String> = Zeroizing::new(text.nfc().collect());
    let normal = composed.split_whitespace().collect::<Vec<_>>().join(" ");
    let allowed = |c: char| c.is_alphabetic() || matches!(c, ' ' | '-' | '\'' | '’' | 'ʼ' | '.');
    if normal.chars().count() > MAX_NAME_CHARS {
        return Err(InvalidValue("a name has at most 120 characters"));
    }
    if !normal.chars().all(allowed) {
        return Err(InvalidValue("a name has letters, spaces, hyphens, apostrophes and dots only"));
    }
    if !normal.chars().any(char::is_alphabetic) {
        return Err(InvalidValue("a name has at least one letter"));
    }
    Ok(normal)
}

fn normal_phone(text: &str) -> Result<String, InvalidValue> {
    const INVALID: InvalidValue = InvalidValue("not a valid telephone number");
    let allowed = |c: char| c.is_ascii_digit() || matches!(c, '+' | ' ' | '-' | '(' | ')' | '.' | '\u{a0}');
    if text.len() > 40 || !text.chars().all(allowed) {
        return Err(INVALID);
    }
    let digits: Zeroizing<String> = Zeroizing::new(text.chars().filter(char::is_ascii_digit).collect());
    // The library takes the leading 7 of a bare national number for the country code, so the two national forms
    // of Kazakhstan (8 and ten digits, or ten digits that begin with 7) are written out first.
    let international = Zeroizing::new(match (text.starts_with('+'), digits.len()) {
        (false, 11) if digits.starts_with('8') => format!("+7{}", digits.get(1..).unwrap_or_default()),
        (false, 10) if digits.starts_with('7') => format!("+7{}", *digits),
        _ => format!("+{}", *digits),
    });
    let number = phonenumber::parse(None, international.as_str()).map_err(|_| INVALID)?;
    if !number.is_valid() {
        return Err(INVALID);
    }
    Ok(number.format().mode(phonenumber::Mode::E164).to_string())
}

fn normal_email(text: &str) -> Result<String, InvalidValue> {
    const INVALID: InvalidValue = InvalidValue("not a valid email address");
    let options =
        email_address::Options::default().with_required_tld().without_display_text().without_domain_literal();
    if text.len() > MAX_EMAIL_BYTES || text.contains('"') || text.contains(char::is_control) {
        return Err(INVALID);
    }
    let address = email_address::EmailAddress::parse_with_options(text, options).map_err(|_| INVALID)?;
    // The domain is case-insensitive (RFC 5321, section 2.4); the local part belongs to its host and stays.
    Ok(format!("{}@{}", address.local_part(), address.domain().to_lowercase()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normal(t: FieldType, text: &str) -> Result<String, InvalidValue> {
        t.normalise(&Plaintext::new(text.to_owned())).map(|p| p.expose().to_owned())
    }

    fn masked(t: FieldType, text: &str) -> String {
        t.mask(&Plaintext::new(text.to_owned())).expose().to_owned()
    }

    #[test]
    fn phones_have_one_normal_form() {
        for text in [
            "+77011234567",
            "87011234567",
            "8 (701) 123-45-67",
            "7011234567",
            "+7 701 123 45 67",
            "77011234567",
        ] {
            assert_eq!(normal(FieldType::Phone, text).as_deref(), Ok("+77011234567"), "{text}");
        }
        assert_eq!(normal(FieldType::Phone, "8 (727) 250-12-34").as_deref(), Ok("+77272501234"));
        assert_eq!(normal(FieldType::Phone, "+7 912 345-67-89").as_deref(), Ok("+79123456789"));
        for bad in [
            "",
            "12",
            "+77031234567",
            "87041234567",
            "7091234567",
            "701123456",
            "+7701123456789",
            "8701123456x",
        ] {
            assert!(normal(FieldType::Phone, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn every_kazakh_mobile_prefix_is_accepted() {
        for prefix in [700, 701, 702, 705, 706, 707, 708, 747, 760, 771, 775, 776, 777, 778, 785] {
            let text = format!("8{prefix}1234567");
            assert_eq!(normal(FieldType::Phone, &text), Ok(format!("+7{prefix}1234567")));
        }
    }

    #[test]
    fn names_are_composed_and_trimmed() {
        assert_eq!(normal(FieldType::PersonName, "  Әлия   Нұрқызы ").as_deref(), Ok("Әлия Нұрқызы"));
        assert_eq!(normal(FieldType::PersonName, "и\u{306}од").as_deref(), Ok("йод"));
        assert_eq!(normal(FieldType::PersonName, "Іңкәр-Гүл О'Нил").as_deref(), Ok("Іңкәр-Гүл О'Нил"));
        for bad in ["", " ", "--", "4400123412341234", "Ann1", "a@b", "a\u{0}b", &"ә".repeat(121)] {
            assert!(normal(FieldType::PersonName, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn emails_are_strict() {
        assert_eq!(normal(FieldType::Email, " Aliya@Example.KZ ").as_deref(), Ok("Aliya@example.kz"));
        for bad in [
            "a@b",
            "Bob <a@b.kz>",
            "a@[127.0.0.1]",
            "@b.kz",
            "a@",
            "a b@c.kz",
            "\"a b\"@c.kz",
            "a@b.kz\nBcc: c",
        ] {
            assert!(normal(FieldType::Email, bad).is_err(), "{bad}");
        }
        assert!(normal(FieldType::Email, &format!("{}@b.kz", "a".repeat(250))).is_err());
    }

    #[test]
    fn an_iin_is_never_refused_for_its_date_or_sex() {
        for text in ["991231600002", "991231600301"] {
            assert_eq!(normal(FieldType::Iin, text).as_deref(), Ok(text));
        }
        let month_13 = "991331600006";
        assert!(iin::has_valid_check_digit(month_13));
        assert_eq!(normal(FieldType::Iin, month_13).as_deref(), Ok(month_13));
        assert!(normal(FieldType::Iin, "991231600003").is_err());
    }

    #[test]
    fn masks_hide() {
        assert_eq!(masked(FieldType::Iin, "991231600002"), "********0002");
        assert_eq!(masked(FieldType::Phone, "+77011234567"), "+*******4567");
        assert_eq!(masked(FieldType::PersonName, "Әлия Нұрқызы"), "Ә*** Н***");
        assert_eq!(masked(FieldType::Email, "aliya@example.kz"), "a***@example.kz");
    }

    proptest::proptest! {
        #[test]
        fn normalising_twice_changes_nothing(text in "\\PC{0,40}", which in 0..4_usize) {
            let t = FieldType::ALL[which];
            if let Ok(once) = normal(t, &text) {
                proptest::prop_assert_eq!(normal(t, &once), Ok(once.clone()));
            }
        }
    }
}
