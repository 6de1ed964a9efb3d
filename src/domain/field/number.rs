//! Numbers that a state gives: IIN, BIN, and those of identity documents.

use super::InvalidValue;
use crate::domain::iin;

/// 12 digits with the check digit of rules P030000565 and P070000406. Nothing in them is compared with a date of birth
/// or a sex (Resolution 853 of 26.08.2013).
pub(super) fn normal_iin(text: &str) -> Result<String, InvalidValue> {
    if !is_twelve_digits(text) {
        return Err(InvalidValue("an IIN has exactly 12 digits"));
    }
    if !iin::has_valid_check_digit(text) {
        return Err(InvalidValue("the IIN's check digit does not match"));
    }
    Ok(text.to_owned())
}

/// As an IIN, and the fifth digit is 4 (resident), 5 (non-resident) or 6 (joint individual entrepreneurship).
pub(super) fn normal_bin(text: &str) -> Result<String, InvalidValue> {
    if !is_twelve_digits(text) {
        return Err(InvalidValue("a BIN has exactly 12 digits"));
    }
    if !matches!(text.as_bytes(), [_, _, _, _, b'4'..=b'6', ..]) {
        return Err(InvalidValue("the fifth digit of a BIN is 4, 5 or 6"));
    }
    if !iin::has_valid_check_digit(text) {
        return Err(InvalidValue("the BIN's check digit does not match"));
    }
    Ok(text.to_owned())
}

fn is_twelve_digits(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|b| b.is_ascii_digit())
}

/// Five to twenty capital letters and digits, four digits at least; spaces and hyphens are dropped.
///
/// This holds the identity card and residence permit (nine digits) and passport (N and eight digits) of Kazakhstan,
/// and what foreigners show: their documents follow no common form, and a platform whose foreigner is refused here
/// would put the number into free text. An IIN stands on the same cards and is often typed in the number's place,
/// where purposes that may not read the IIN would see it: it is refused.
pub(super) fn normal_document(text: &str) -> Result<String, InvalidValue> {
    let kept = text.chars().filter(|c| !matches!(c, ' ' | '-' | '\u{a0}'));
    let number = zeroize::Zeroizing::new(kept.map(|c| c.to_ascii_uppercase()).collect::<String>());
    let digits = number.bytes().filter(u8::is_ascii_digit).count();
    let allowed = number.bytes().all(|b| b.is_ascii_uppercase() || b.is_ascii_digit());
    if !allowed || !(5..=20).contains(&number.len()) || digits < 4 {
        return Err(InvalidValue(
            "a document's number has 5 to 20 Latin letters and digits, of which 4 are digits",
        ));
    }
    if iin::has_valid_check_digit(&number) {
        return Err(InvalidValue("this is an IIN or a BIN, not the number of a document"));
    }
    Ok((*number).clone())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::{FieldType, tests::normal};

    #[test]
    fn an_iin_is_never_refused_for_its_date_or_sex() {
        // Pass 1, pass 2, month 13, the century digits 0 and 9.
        for text in ["991231600002", "991231600301", "991331600006", "991231000004", "991231900001"] {
            assert_eq!(normal(FieldType::Iin, text).as_deref(), Ok(text));
        }
        assert!(normal(FieldType::Iin, "991231600003").is_err());
        for bad in ["99123160000", "9912316000021", "9912 3160 0002", "99123160000x", "٩٩١٢٣١٦٠٠٠٠٢"]
        {
            assert!(normal(FieldType::Iin, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn bins_say_who_they_are_of() {
        for text in ["211140009394", "230840002814", "210140019844", "171240017760"] {
            assert_eq!(normal(FieldType::Bin, text).as_deref(), Ok(text));
            assert_eq!(
                normal(FieldType::Iin, text).as_deref(),
                Ok(text),
                "an entrepreneur's IIN may look like it"
            );
        }
        for bad in ["991231600002", "211140009395", "21114000939", "2111 4000 9394"] {
            assert!(normal(FieldType::Bin, bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn documents_of_kazakhstan_and_of_others() {
        for (text, expected) in [
            ("000123456", "000123456"),
            ("000 123 456", "000123456"),
            ("n00123456", "N00123456"),
            ("N 00123456", "N00123456"),
            ("AB-123456", "AB123456"),
            ("45 00 000000", "4500000000"),
            ("123456789012345678X", "123456789012345678X"),
        ] {
            assert_eq!(normal(FieldType::DocumentNumber, text).as_deref(), Ok(expected), "{text}");
        }
        for bad in [
            "1234",
            "ABCDE",
            "ABCDEF123",
            "Н00123456",
            "N0012345б",
            "N00123456/1",
            "N٠٠١٢٣٤٥٦",
            "N0012\n3456",
            "123456789012345678901",
            "991231600002",
            "9912 3160 0301",
            "211140009394",
        ] {
            assert!(normal(FieldType::DocumentNumber, bad).is_err(), "{bad}");
        }
    }

    /// The check digit by another road: since 11 is 0 modulo 11, the second pass's weights are the first's plus two.
    fn oracle(body: u64) -> Option<u64> {
        let (mut rest, mut weighed, mut sum) = (body, 0, 0);
        for weight in (1..=11).rev() {
            weighed += weight * (rest % 10);
            sum += rest % 10;
            rest /= 10;
        }
        [weighed % 11, (weighed + 2 * sum) % 11].into_iter().find(|check| *check < 10)
    }

    proptest! {
        #[test]
        fn iins_and_bins_are_what_the_rules_compute(body in 0..100_000_000_000_u64, digit in 0..10_u64) {
            let text = format!("{body:011}{digit}");
            let valid = oracle(body) == Some(digit);
            prop_assert_eq!(normal(FieldType::Iin, &text).is_ok(), valid);
            let bin = valid && matches!(text.as_bytes()[4], b'4' | b'5' | b'6');
            prop_assert_eq!(normal(FieldType::Bin, &text).is_ok(), bin);
            prop_assert_eq!(normal(FieldType::DocumentNumber, &text).is_ok(), !valid);
        }

        #[test]
        fn every_issued_iin_is_accepted(body in 0..100_000_000_000_u64) {
            if let Some(check) = oracle(body) {
                let text = format!("{body:011}{check}");
                prop_assert_eq!(normal(FieldType::Iin, &text), Ok(text.clone()));
            }
        }
    }
}
