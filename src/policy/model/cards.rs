//! Payment cards and passwords: no policy may declare a field for them (rule R21, a choice of the vault).

/// Whole words of a field's name or type that mean a payment card or a password, in English and in Russian and
/// Kazakh as people write them in Latin letters or their own.
const WORDS: [&str; 35] = [
    "card",
    "cards",
    "cardno",
    "cardnumber",
    "cardholder",
    "cc",
    "ccn",
    "ccnum",
    "pan",
    "cvv",
    "cvc",
    "csc",
    "expiry",
    "karta",
    "karty",
    "kartasy",
    "карта",
    "карты",
    "картасы",
    "pin",
    "pincode",
    "пин",
    "password",
    "passwords",
    "passwd",
    "passcode",
    "passphrase",
    "pwd",
    "secret",
    "secrets",
    "parol",
    "parole",
    "пароль",
    "қупия",
    "құпиясөз",
];

/// Parts of words that mean the same wherever they stand.
const PARTS: [&str; 6] = ["password", "passwd", "creditcard", "bankcard", "парол", "карт"];

/// Words before `card` that make it a document.
const DOCUMENTS: [&str; 3] = ["id", "identity", "residence"];

/// Whether a field's name or type says that it holds a payment card or a password.
pub(super) fn is_card_or_password(text: &str) -> bool {
    let lower = text.to_lowercase();
    let words: Vec<&str> = lower
        .split(|c: char| !c.is_alphanumeric())
        .map(|word| word.trim_end_matches(|c: char| c.is_ascii_digit()))
        .collect();
    let joined = words.concat();
    let barred = |(i, word): (usize, &&str)| {
        let document = *word == "card"
            && i.checked_sub(1).and_then(|before| words.get(before)).is_some_and(|w| DOCUMENTS.contains(w));
        WORDS.contains(word) && !document
    };
    PARTS.iter().any(|part| joined.contains(part)) || words.iter().enumerate().any(barred)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cards_and_passwords_are_seen() {
        for text in [
            "card",
            "card_number",
            "CardNumber1",
            "bank_card",
            "credit_card",
            "pan",
            "pan2",
            "cvv",
            "cvv2",
            "cvc",
            "card_expiry",
            "expiry",
            "password",
            "user_password",
            "old_passwd",
            "pin",
            "pin_code",
            "secret",
            "client_secret",
            "parol",
            "пароль",
            "пароли",
            "карта",
            "номер_карты",
            "passphrase",
            "pass_word",
        ] {
            assert!(is_card_or_password(text), "{text}");
        }
    }

    #[test]
    fn other_words_are_left_alone() {
        for text in [
            "iin",
            "passport",
            "passport_number",
            "identity_card_number",
            "id_card",
            "company",
            "pinned_topic",
            "secretary",
            "experience",
            "patronymic",
            "login",
            "cookies",
            "discard",
            "payment_status",
            "text",
            "date",
        ] {
            assert!(!is_card_or_password(text), "{text}");
        }
    }
}
