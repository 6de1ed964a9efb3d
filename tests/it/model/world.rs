//! What the model knows by itself: the parts of `policies/lerna.toml` that it uses, written down a second time, and
//! the synthetic values that people have.

use sandyq::domain::outreach::Outreach;

use crate::common::people::iin;

/// A purpose as the policy declares it.
pub struct Purpose {
    pub name: &'static str,
    /// Nobody where it is inert.
    pub caller: &'static str,
    pub masked: bool,
    pub law: bool,
    pub publication: bool,
    /// Of [`FIELDS`].
    pub fields: &'static [&'static str],
}

const fn by_consent(
    name: &'static str,
    caller: &'static str,
    masked: bool,
    fields: &'static [&'static str],
) -> Purpose {
    Purpose { name, caller, masked, law: false, publication: false, fields }
}

pub const PURPOSES: &[Purpose] = &[
    by_consent("payments", "payments", true, &["surname", "iin", "payment_status"]),
    by_consent("request_comms", "support", true, &["surname", "email", "phone", "message"]),
    by_consent("marketing_mail", "mailing", false, &["email", "phone"]),
    by_consent("offers", "mailing", false, &["email", "phone"]),
    by_consent("bank_credit", "credit", true, &["surname", "email", "phone"]),
    Purpose { publication: true, ..by_consent("content_publication", "backend", false, &["user_post"]) },
    Purpose {
        law: true,
        ..by_consent("subject_requests", "rights", true, &["surname", "email", "phone", "message"])
    },
    by_consent("ad_stats", "", false, &[]),
    Purpose { law: true, ..by_consent("legal", "", false, &[]) },
];

pub const FIELDS: [&str; 7] = ["iin", "phone", "email", "surname", "message", "payment_status", "user_post"];
/// Callers of the platform; `admin` is the officer.
pub const CALLERS: [&str; 7] = ["backend", "payments", "support", "mailing", "credit", "rights", "admin"];

/// A version of the policy in which an email is unique and messages come from partners too: two rules that the shipped
/// text has no field for.
pub fn policy(shipped: &str) -> String {
    let changed = [
        ("number = 1\n", "number = 2\n"),
        ("type = \"email\"\n", "type = \"email\"\nunique = true\n"),
        (
            "category = \"correspondence\"\n",
            "category = \"correspondence\"\nsources = [\"subject\", \"partner\"]\n",
        ),
    ];
    changed.iter().fold(shipped.to_owned(), |text, (from, to)| {
        assert_eq!(text.matches(from).count(), 1, "{from}");
        text.replace(from, to)
    })
}

pub fn purpose(name: &str) -> Option<&'static Purpose> {
    PURPOSES.iter().find(|purpose| purpose.name == name)
}

/// By which channel a purpose reaches people with these fields: letters, or calls where there is a telephone alone.
pub fn outreach(purpose: &str, fields: &[&str]) -> Option<Outreach> {
    let by = if fields == ["phone"] { "call operator" } else { "email operator" };
    matches!(purpose, "marketing_mail" | "offers").then(|| by.parse().unwrap())
}

/// Whether the policy lets the caller store the field.
pub fn collects(caller: &str, field: &str) -> bool {
    caller == "backend" || (caller == "payments" && field == "payment_status")
}

/// Whether one of the caller's purposes covers the field.
pub fn reads(caller: &str, field: &str) -> bool {
    PURPOSES.iter().any(|purpose| purpose.caller == caller && purpose.fields.contains(&field))
}

/// Free text is in no index.
pub fn is_indexed(field: &str) -> bool {
    !matches!(field, "message" | "payment_status" | "user_post")
}

/// Which value of a person is meant.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Which {
    First,
    /// The first, as another hand writes it.
    Rewritten,
    Second,
    /// The first of the next person.
    OfNext,
    /// None that the field's type takes.
    Bad,
}

/// The value in its normal form; none where it has none.
pub fn normal(field: &str, base: u32, person: usize, which: Which) -> Option<String> {
    let of = |person: usize, variant: u32| base * 6 + u32::try_from(person % 3).unwrap() * 2 + variant;
    let number = match which {
        Which::First | Which::Rewritten => of(person, 0),
        Which::Second => of(person, 1),
        Which::OfNext => of(person + 1, 0),
        Which::Bad => return None,
    };
    Some(match field {
        "iin" => iin(number),
        "phone" => format!("+7701{number:07}"),
        "email" => format!("person{number}@example.kz"),
        "surname" => format!("Сынақ{}", letters(number)),
        _ => format!("{field} {number}"),
    })
}

/// The value as it is sent.
pub fn written(field: &str, base: u32, person: usize, which: Which) -> String {
    let bad = || String::from(if matches!(field, "iin") { "991231600003" } else { " " });
    let Some(normal) = normal(field, base, person, which) else { return bad() };
    match (which, field) {
        (Which::Rewritten, "phone") => normal.replace("+7701", "8 701 "),
        (Which::Rewritten, "email") => normal.replace("example", "EXAMPLE"),
        (Which::Rewritten, _) => format!("  {normal}\n"),
        _ => normal,
    }
}

/// The value as the masked view shows it.
pub fn masked(field: &str, normal: &str) -> String {
    match field {
        "iin" => format!("********{}", &normal[8..]),
        "phone" => format!("+*******{}", &normal[8..]),
        "email" => "p***@example.kz".into(),
        _ => format!("{}***", normal.chars().next().unwrap()),
    }
}

/// A number in letters: names have no digits.
fn letters(number: u32) -> String {
    number
        .to_string()
        .bytes()
        .map(|digit| ['а', 'б', 'в', 'г', 'д', 'е', 'ж', 'з', 'и', 'к'][usize::from(digit - b'0')])
        .collect()
}
