//! Synthetic people: born on 31 December 2099, so that nobody real is meant.

use sandyq::{domain::iin, grpc::pb};

/// A consent by tick with everything that Article 8(4) asks for.
pub use sandyq::cli::local::synthetic_consent as grant;

/// Letters in the operator's name.
pub fn letters() -> pb::Outreach {
    pb::Outreach { channel: pb::Channel::Email.into(), sender: String::new() }
}

/// A consent to letters for the purpose.
pub fn grant_letters(purpose: &str, fields: &[&str]) -> pb::ConsentGrant {
    pb::ConsentGrant { outreach: Some(letters()), ..grant(purpose, fields) }
}

/// A synthetic IIN; the same number gives the same IIN.
pub fn iin(number: u32) -> String {
    checked(number, |serial| format!("9912316{:04}", serial % 10_000))
}

/// A synthetic BIN of a head office registered in December 2099.
pub fn bin(number: u32) -> String {
    checked(number, |serial| format!("991240{:05}", serial % 100_000))
}

/// The first eleven digits from this number on that have a check digit, with it.
fn checked(number: u32, body: impl Fn(u32) -> String) -> String {
    let mut serial = number;
    loop {
        let body = body(serial);
        let digits: Vec<u32> = body.chars().map(|c| c.to_digit(10).unwrap()).collect();
        match iin::check_digit(&digits.try_into().unwrap()) {
            Some(check) => return format!("{body}{check}"),
            None => serial += 5_000,
        }
    }
}

/// A complete request for a synthetic person with consents to both purposes.
pub fn tokenize_request(number: u32) -> pb::TokenizeRequest {
    let field = |field: &str, value: String| pb::FieldValue {
        field: field.into(),
        value,
        ..pb::FieldValue::default()
    };
    pb::TokenizeRequest {
        request_id: super::served::request_id(),
        subject_reference: format!("user-{number}"),
        fields: vec![
            field("surname", "Сынақова".into()),
            field("first_name", "Әлия".into()),
            field("iin", iin(number)),
            field("phone", format!("+7701{number:07}")),
            field("email", format!("person{number}@example.kz")),
        ],
        consents: vec![
            grant("payments", &["surname", "first_name", "iin"]),
            grant("request_comms", &["surname", "first_name", "phone", "email"]),
        ],
        ..pb::TokenizeRequest::default()
    }
}
