//! Telephone numbers and email addresses.

use unicode_normalization::{UnicodeNormalization as _, is_nfkc};
use zeroize::Zeroizing;

use super::InvalidValue;

const MAX_EMAIL_BYTES: usize = 254;

/// E.164. A national number of Kazakhstan may begin with 8 or have ten digits.
pub(super) fn normal_phone(text: &str) -> Result<String, InvalidValue> {
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

/// One mailbox: no display name, no quoted local part, a domain name with a top-level domain.
pub(super) fn normal_email(text: &str) -> Result<String, InvalidValue> {
    const INVALID: InvalidValue = InvalidValue("not a valid email address");
    let options =
        email_address::Options::default().with_required_tld().without_display_text().without_domain_literal();
    let composed: Zeroizing<String> = Zeroizing::new(text.nfc().collect());
    // Beyond ASCII only letters and digits, and none that merely looks like another (RFC 5891, section 5.4 for the
    // domain; here for the local part too).
    let plain = composed.chars().all(|c| c.is_ascii_graphic() || (!c.is_ascii() && c.is_alphanumeric()));
    if composed.len() > MAX_EMAIL_BYTES || composed.contains('"') || !plain || !is_nfkc(&composed) {
        return Err(INVALID);
    }
    let address = email_address::EmailAddress::parse_with_options(&composed, options).map_err(|_| INVALID)?;
    // The domain is case-insensitive (RFC 5321, section 2.4); the local part belongs to its host and stays.
    let domain: String = address.domain().to_lowercase().nfc().collect();
    if !is_domain(&domain) {
        return Err(INVALID);
    }
    Ok(format!("{}@{domain}", address.local_part()))
}

/// Labels of letters, digits and inner hyphens, of which the last is no number: `a@127.0.0.1` names no domain.
fn is_domain(domain: &str) -> bool {
    let label = |l: &str| {
        !l.starts_with('-') && !l.ends_with('-') && l.chars().all(|c| c.is_alphanumeric() || c == '-')
    };
    let top = domain.rsplit('.').next().unwrap_or_default();
    domain.split('.').all(label)
        && top.chars().count() >= 2
        && !top.chars().all(char::is_numeric)
        && is_nfkc(domain)
}

#[cfg(test)]
mod tests {
    use super::super::{FieldType, tests::normal};

    #[test]
    fn phones_have_one_normal_form() {
        for text in [
            "+77011234567",
            "87011234567",
            "8 (701) 123-45-67",
            "7011234567",
            "+7 701 123 45 67",
            "+7\u{a0}701\u{a0}123\u{a0}45\u{a0}67",
            "77011234567",
        ] {
            assert_eq!(normal(FieldType::Phone, text).as_deref(), Ok("+77011234567"), "{text}");
        }
        assert_eq!(normal(FieldType::Phone, "8 (727) 250-12-34").as_deref(), Ok("+77272501234"));
        assert_eq!(normal(FieldType::Phone, "+7 912 345-67-89").as_deref(), Ok("+79123456789"));
        assert_eq!(normal(FieldType::Phone, "+998 90 123 45 67").as_deref(), Ok("+998901234567"));
        for bad in [
            "12",
            "701123456",
            "+7701123456789",
            "8701123456x",
            "8701123456\n7 x",
            "٨٧٠١١٢٣٤٥٦٧",
            "８７０１１２３４５６７",
            "+7701123\u{200b}4567",
            "+77011234567;ext=1",
            "tel:+77011234567",
        ] {
            assert!(normal(FieldType::Phone, bad).is_err(), "{bad}");
        }
    }

    /// Mobile prefixes of libphonenumber 9.0.43, and those beside them that nobody may have.
    #[test]
    fn the_mobile_prefixes_are_those_of_kazakhstan() {
        let mobile =
            [700, 701, 702, 705, 706, 707, 708, 747, 760, 761, 762, 763, 764, 771, 775, 776, 777, 778, 785];
        for prefix in [700..=709, 740..=749, 760..=769, 770..=779, 780..=789].into_iter().flatten() {
            for text in
                [format!("8{prefix}1234567"), format!("+7 {prefix} 1234567"), format!("{prefix}1234567")]
            {
                let expected = mobile.contains(&prefix).then(|| format!("+7{prefix}1234567"));
                assert_eq!(normal(FieldType::Phone, &text).ok(), expected, "{text}");
            }
        }
    }

    #[test]
    fn emails_have_one_normal_form() {
        for (text, expected) in [
            (" Aliya@Example.KZ ", "Aliya@example.kz"),
            ("a.b+c@mail.example.kz", "a.b+c@mail.example.kz"),
            ("пошта@мысал.ҚАЗ", "пошта@мысал.қаз"),
            ("и\u{306}од@example.kz", "йод@example.kz"),
            ("a@xn--e1afmkfd.kz", "a@xn--e1afmkfd.kz"),
            ("a@1.example.kz", "a@1.example.kz"),
        ] {
            assert_eq!(normal(FieldType::Email, text).as_deref(), Ok(expected), "{text}");
        }
        let long = format!("{}@{}.kz", "a".repeat(64), "b".repeat(63));
        assert_eq!(normal(FieldType::Email, &long), Ok(long));
    }

    #[test]
    fn hostile_emails_are_refused() {
        let label = "b".repeat(63);
        for bad in [
            "a@b",
            "a@b.k",
            "a@b.1",
            "a@",
            "@b.kz",
            "a.kz",
            "a@b@c.kz",
            "a..b@c.kz",
            ".a@c.kz",
            "a.@c.kz",
            "a@.kz",
            "a@b..kz",
            "a@b.kz.",
            "a@-b.kz",
            "a@b-.kz",
            "a@b_c.kz",
            "a@b!c.kz",
            "a@b.kz,c@d.kz",
            "a@b.kz;c@d.kz",
            // Display names, comments, quoted local parts, routes.
            "Bob <a@b.kz>",
            "<a@b.kz>",
            "\"a b\"@c.kz",
            "\"a\"@c.kz",
            "(c)a@b.kz",
            "mailto:a@b.kz",
            "@x.kz:a@b.kz",
            "a b@c.kz",
            // Addresses instead of names.
            "a@127.0.0.1",
            "a@[127.0.0.1]",
            "a@[IPv6:::1]",
            "a@::1",
            // Control and invisible characters, and letters that only look like others.
            "a@b.kz\nBcc: c@d.kz",
            "a@b.kz\r\n.",
            "a\0@b.kz",
            "a\t@b.kz",
            "a\u{7f}@b.kz",
            "a\u{85}@b.kz",
            "a\u{a0}b@c.kz",
            "a\u{200b}@b.kz",
            "a\u{202e}zk.b@c.kz",
            "a\u{ad}@b.kz",
            "a\u{feff}@b.kz",
            "a\u{301}\u{302}\u{303}@b.kz",
            "ａ@b.kz",
            "a＠b.kz",
            "a@b．kz",
            "a@b。kz",
            "a@ⓑ.kz",
            "a@𝐛.kz",
            "a@b.kz/../c",
            "😀@b.kz",
            &format!("{}@b.kz", "a".repeat(65)),
            &format!("a@{}.kz", "b".repeat(64)),
            &format!("a@{label}.{label}.{label}.{label}.kz"),
            &format!("{}@b.kz", "a".repeat(250)),
        ] {
            assert!(normal(FieldType::Email, bad).is_err(), "{bad:?}");
        }
    }
}
