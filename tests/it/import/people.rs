//! Files of synthetic people.

use std::ops::RangeInclusive;

use data_encoding::HEXLOWER;
use sandyq::crypto::digest::sha256;

use crate::common::people::iin;

pub const HEADER: &str = "subject,surname,first_name,iin,phone,email,consent.purpose,consent.fields,consent.subject_name,\
     consent.act,consent.third_party_transfer,consent.cross_border_transfer,consent.publication,\
     consent.policy_version,consent.language,consent.text_sha256,consent.site,consent.given_at";
const GIVEN: &str = "2026-09-21T13:33:20Z";
/// The parts of a consent that a column may hold.
pub const CONSENT_COLUMNS: [&str; 13] = [
    "purpose",
    "fields",
    "subject_name",
    "act",
    "third_party_transfer",
    "cross_border_transfer",
    "publication",
    "policy_version",
    "language",
    "text_sha256",
    "site",
    "given_at",
    "expires_at",
];

pub fn phone(number: u32) -> String {
    format!("+7701{number:07}")
}

fn email(number: u32) -> String {
    format!("person{number}@example.kz")
}

/// What must be told nowhere of a person.
pub fn values(number: u32) -> [String; 5] {
    ["Сынақова".into(), "Әлия".into(), iin(number), phone(number), email(number)]
}

/// A row with its end.
pub fn csv_row(number: u32) -> String {
    let hash = HEXLOWER.encode(&sha256(b"synthetic consent text"));
    let (iin, phone, email) = (iin(number), phone(number), email(number));
    format!(
        "user-{number},Сынақова,Әлия,{iin},{phone},{email},payments,surname first_name iin,Сынақова Әлия,tick,true,false,false,\
         1,ru,{hash},skillbox.kz,{GIVEN}\n"
    )
}

pub fn csv(numbers: RangeInclusive<u32>) -> String {
    format!("{HEADER}\n{}", numbers.map(csv_row).collect::<String>())
}

/// The same as a line of JSON.
pub fn json_row(number: u32) -> String {
    let hash = HEXLOWER.encode(&sha256(b"synthetic consent text"));
    let (iin, phone, email) = (iin(number), phone(number), email(number));
    let person = serde_json::json!({
        "subject": format!("user-{number}"),
        "fields": { "surname": "Сынақова", "first_name": "Әлия", "iin": iin, "phone": phone, "email": email },
        "consents": [{
            "purpose": "payments", "fields": ["surname", "first_name", "iin"], "subject_name": "Сынақова Әлия",
            "act": "tick", "third_party_transfer": true, "cross_border_transfer": false, "publication": false,
            "policy_version": 1, "language": "ru", "text_sha256": hash, "site": "skillbox.kz", "given_at": GIVEN,
        }],
    });
    format!("{person}\n")
}

pub fn ndjson(numbers: RangeInclusive<u32>) -> String {
    numbers.map(json_row).collect()
}
