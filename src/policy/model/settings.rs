//! Decisions that a source policy leaves open and that the operator must take: required settings without a default.

/// What a shipped file holds where the operator has yet to decide.
pub(super) const UNSET: &str = "operator-must-set";

/// Each key that a shipped file leaves open: what to set, and which choice is stricter (`docs/policies.md`).
pub(super) const SETTINGS: [(&str, &str); 5] = [
    ("bin", "the operator's BIN, 12 digits; it is a fact, and no choice is stricter"),
    (
        "effective",
        "the date, YYYY-MM-DD, from which this version is in force; the latest date that the operator can prove is \
         the stricter choice",
    ),
    ("min_age", "the least age of a user in whole years; 18 is the stricter choice"),
    (
        "edition",
        "the date, YYYY-MM-DD, of the User Agreement that the policy leans on; the latest date that the operator \
         can prove is the stricter choice",
    ),
    (
        "withdrawal_address",
        "where the User Agreement lets a subject withdraw; it is a fact, and naming every address that is in use is \
         the stricter choice",
    ),
];

/// What to say of a key that is not set.
pub(super) fn advice(key: &str) -> String {
    match SETTINGS.iter().find(|(name, _)| *name == key) {
        Some((_, what)) => format!("{key}: the operator must set {what}"),
        None => format!("{key}: the operator must set it"),
    }
}
