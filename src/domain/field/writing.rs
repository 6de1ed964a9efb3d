//! What people write in letters: names and free text.

use unicode_normalization::UnicodeNormalization as _;
use zeroize::Zeroizing;

use super::{InvalidValue, MAX_VALUE_BYTES};

const MAX_NAME_CHARS: usize = 120;

/// Letters of any script, composed (NFC), with single spaces, hyphens, apostrophes and dots. One word is enough: not
/// everybody has a surname.
pub(super) fn normal_name(text: &str) -> Result<String, InvalidValue> {
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

/// Composed text (NFC) whose only control characters are line end and tab. CR LF, which forms on the web send, is a
/// line end.
pub(super) fn normal_text(text: &str) -> Result<String, InvalidValue> {
    let lines = Zeroizing::new(text.replace("\r\n", "\n"));
    let normal: Zeroizing<String> = Zeroizing::new(lines.nfc().collect());
    if normal.chars().any(|c| c.is_control() && !matches!(c, '\n' | '\t')) {
        return Err(InvalidValue("a text has no control characters but line end and tab"));
    }
    if normal.len() > MAX_VALUE_BYTES {
        return Err(InvalidValue("a text has at most 4096 bytes in its composed form"));
    }
    Ok((*normal).clone())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use unicode_normalization::UnicodeNormalization as _;

    use super::super::{FieldType, tests::normal};

    #[test]
    fn names_are_composed_and_trimmed() {
        for (text, expected) in [
            ("  Әлия   Нұрқызы ", "Әлия Нұрқызы"),
            ("Әлия\u{a0}Нұрқызы\u{2003}\n", "Әлия Нұрқызы"),
            ("Іңкәр-Гүл О'Нил", "Іңкәр-Гүл О'Нил"),
            ("Сүйін", "Сүйін"),
            ("Д’Артаньян", "Д’Артаньян"),
            ("Ibn ʼAbd al-Qādir Jr.", "Ibn ʼAbd al-Qādir Jr."),
            ("и\u{306}од", "йод"),
            ("Е\u{308}лкин", "Ёлкин"),
        ] {
            assert_eq!(normal(FieldType::PersonName, text).as_deref(), Ok(expected), "{text}");
        }
        let bad = [
            "--",
            "'",
            ".",
            "4400123412341234",
            "Ann1",
            "a@b",
            "a\u{0}b",
            "Әлия\u{200b}",
            "\u{202e}aylA",
            "Әлия, Нұрқызы",
            "😀",
            "<b>Ann</b>",
            &"ә".repeat(121),
        ];
        for text in bad {
            assert!(normal(FieldType::PersonName, text).is_err(), "{text:?}");
        }
        assert!(normal(FieldType::PersonName, &"ә".repeat(120)).is_ok());
    }

    /// Kazakh in Cyrillic, and the Latin alphabet of 2021 with both letters that its drafts had for ң.
    const ALPHABETS: &str = "АаӘәБбВвГгҒғДдЕеЁёЖжЗзИиЙйКкҚқЛлМмНнҢңОоӨөПпРрСсТтУуҰұҮүФфХхҺһЦцЧчШшЩщЪъЫыІіЬьЭэЮюЯя\
        AaÄäBbDdEeFfGgĞğHhIıİiJjKkLlMmNnÑñŊŋOoÖöPpQqRrSsŞşTtUuŪūÜüVvYyZz";

    #[test]
    fn every_kazakh_letter_makes_a_name_in_both_forms() {
        for letter in ALPHABETS.chars() {
            let composed = format!("{letter}{letter}-{letter}");
            let decomposed: String = composed.nfd().collect();
            assert_eq!(normal(FieldType::PersonName, &composed).as_deref(), Ok(&*composed));
            assert_eq!(normal(FieldType::PersonName, &decomposed).as_deref(), Ok(&*composed));
        }
        let decomposed = "ĞÄŪŞİÑй".nfd().count();
        assert_eq!(decomposed, 14, "the forms differ");
    }

    #[test]
    fn texts_are_composed_lines() {
        for (text, expected) in [
            ("  бір\r\nекі\t\"үш\" 😀 \n", "бір\nекі\t\"үш\" 😀"),
            ("и\u{306}", "й"),
            ("IIN 991231600002", "IIN 991231600002"),
        ] {
            assert_eq!(normal(FieldType::Text, text).as_deref(), Ok(expected));
        }
        for bad in ["a\0b", "a\u{1b}[31mb", "a\rb", "a\u{85}b", "a\u{7f}b", "a\u{8}b"] {
            assert!(normal(FieldType::Text, bad).is_err(), "{bad:?}");
        }
        assert!(normal(FieldType::Text, &"a".repeat(4096)).is_ok());
        // U+FB2C composes to three characters of two bytes each, from three bytes.
        assert!(normal(FieldType::Text, &"\u{fb2c}".repeat(1365)).is_err());
    }

    proptest! {
        #[test]
        fn composed_and_decomposed_names_are_one(name in "[А-Яа-яӘәҒғҚқҢңӨөҰұҮүҺһІіĞğŪūŞşÄäİıÑñ]{1,20}([ '-][А-ЯҚҰІ][а-яйёğū]{1,12}){0,3}") {
            let (composed, decomposed): (String, String) = (name.nfc().collect(), name.nfd().collect());
            let expected = normal(FieldType::PersonName, &composed);
            prop_assert_eq!(expected.as_deref(), Ok(&*composed));
            prop_assert_eq!(normal(FieldType::PersonName, &decomposed), expected);
        }
    }
}
