//! An export as one page: a table of each register, the first rows of long ones, and how many there are in all.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    cli::html::{escape, number, page},
    vault::registers::statement::{Register, RegisterStatement},
};

/// Rows of a register that the page shows; the file has all.
const SHOWN: usize = 500;

/// What a register is called, and the columns that people look at: the key of a row, and its heading.
struct Shape {
    register: Register,
    title: &'static str,
    columns: &'static [(&'static str, &'static str)],
}

const SHAPES: [Shape; 9] = [
    Shape {
        register: Register::Policies,
        title: "Policies",
        columns: &[
            ("version", "version"),
            ("applied_at", "applied"),
            ("governs_from", "governs from"),
            ("governs", "governs now"),
            ("sha256", "SHA-256"),
        ],
    },
    Shape {
        register: Register::Purposes,
        title: "Purposes and assessments of their impact",
        columns: &[
            ("purpose", "purpose"),
            ("basis", "basis"),
            ("clause", "clause"),
            ("high_risk", "risky"),
            ("dpia", "assessment"),
            ("responsible.office", "responsible"),
            ("fields", "data"),
        ],
    },
    Shape {
        register: Register::Recipients,
        title: "Recipients",
        columns: &[
            ("name", "name"),
            ("legal_name", "registered name"),
            ("kind", "kind"),
            ("country", "country"),
            ("contract", "contract"),
            ("safeguard", "abroad on"),
            ("conditions", "has promised"),
            ("valid_until", "until"),
            ("state", "state"),
            ("purposes", "purposes"),
        ],
    },
    Shape {
        register: Register::Access,
        title: "Who has access",
        columns: &[
            ("who", "who"),
            ("name", "name"),
            ("id", "id"),
            ("roles", "roles"),
            ("purposes", "reads for"),
            ("state", "state"),
            ("since", "since"),
        ],
    },
    Shape {
        register: Register::Consents,
        title: "Consents",
        columns: &[
            ("consent", "consent"),
            ("subject", "subject"),
            ("purpose", "purpose"),
            ("channel", "channel"),
            ("sender", "sender"),
            ("act", "act"),
            ("given_at", "given"),
            ("expires_at", "until"),
            ("withdrawn_at", "withdrawn"),
            ("third_party_transfer", "transfer"),
            ("cross_border_transfer", "abroad"),
            ("publication", "publication"),
        ],
    },
    Shape { register: Register::Transfers, title: "Transfers to third parties", columns: RELEASE },
    Shape { register: Register::CrossBorder, title: "Transfers abroad", columns: RELEASE },
    Shape {
        register: Register::Publications,
        title: "Publications",
        columns: &[
            ("time", "when"),
            ("subject", "subject"),
            ("field", "data"),
            ("purpose", "purpose"),
            ("recipient", "where"),
            ("consent", "consent"),
            ("consent_ended_at", "consent ended"),
            ("take_down_by", "take down by"),
        ],
    },
    Shape {
        register: Register::Copies,
        title: "Copies outside the vault",
        columns: &[
            ("copy", "copy"),
            ("kind", "kind"),
            ("purpose", "purpose"),
            ("holder", "kept by"),
            ("made_at", "made"),
            ("destroy_by", "destroyed by"),
            ("overdue", "overdue"),
            ("ended_at", "ended"),
            ("outcome", "how"),
            ("act", "act"),
        ],
    },
];

const RELEASE: &[(&str, &str)] = &[
    ("time", "when"),
    ("subject", "subject"),
    ("field", "data"),
    ("purpose", "purpose"),
    ("recipient", "to"),
    ("country", "country"),
    ("reference", "reference"),
    ("consent", "consent"),
    ("position", "entry"),
];

/// The rows of an export that are shown.
#[derive(Default)]
pub(super) struct Page {
    rows: BTreeMap<Register, Vec<Value>>,
}

impl Page {
    /// Takes the next row.
    pub(super) fn take(&mut self, register: Register, row: Value) {
        let rows = self.rows.entry(register).or_default();
        if rows.len() < SHOWN {
            rows.push(row);
        }
    }

    pub(super) fn render(&self, head: &Value, statement: &RegisterStatement, verified: bool) -> String {
        let told = if verified {
            "<b class=\"good\">Verified</b>: signed by the audit key, and every row is as it was then."
        } else {
            "<b class=\"bad\">Not verified.</b> Check the kept file with <code>sandyq registers verify</code>."
        };
        let text = |key: &str| escape(head.get(key).and_then(Value::as_str).unwrap_or_default());
        let title = format!("Registers of {}", text("platform"));
        let lead = format!(
            "<p>{}, BIN {}. Log <code>{}</code> up to entry {}, made {}. {told}</p>",
            text("operator"),
            text("bin"),
            escape(&statement.origin),
            count(statement.log_size),
            short(&statement.made)
        );
        let cards: Vec<_> = SHAPES
            .iter()
            .map(|shape| {
                let rows = rows_of(statement, shape.register);
                format!("<div class=\"card\"><b>{}</b><span>{}</span></div>", count(rows), name(shape))
            })
            .collect();
        let tables: Vec<_> = SHAPES.iter().map(|shape| self.table(shape, statement)).collect();
        page(&title, &format!("{lead}<div class=\"cards\">{}</div>{}", cards.concat(), tables.concat()))
    }

    fn table(&self, shape: &Shape, statement: &RegisterStatement) -> String {
        let all = rows_of(statement, shape.register);
        let rows = self.rows.get(&shape.register).map_or(&[][..], Vec::as_slice);
        let heading = format!("<h2>{}</h2>", shape.title);
        if rows.is_empty() {
            return format!("{heading}<p>None.</p>");
        }
        let note = if u64::try_from(rows.len()).is_ok_and(|shown| shown < all) {
            format!("<p>The first {} of {}; the file has all.</p>", rows.len(), count(all))
        } else {
            String::new()
        };
        let titles: Vec<_> = shape.columns.iter().map(|(_, title)| format!("<th>{title}</th>")).collect();
        let body: Vec<_> = rows
            .iter()
            .map(|row| {
                let cells = shape.columns.iter().map(|(key, _)| format!("<td>{}</td>", cell(row, key)));
                format!("<tr>{}</tr>", cells.collect::<Vec<_>>().concat())
            })
            .collect();
        let (titles, body) = (titles.concat(), body.concat());
        format!(
            "{heading}{note}<div style=\"overflow-x:auto\"><table><thead><tr>{titles}</tr></thead><tbody>{body}</tbody>\
             </table></div>"
        )
    }
}

fn rows_of(statement: &RegisterStatement, register: Register) -> u64 {
    statement.rows.get(register.as_str()).copied().unwrap_or(0)
}

fn name(shape: &Shape) -> String {
    shape.register.as_str().replace('_', " ")
}

fn count(rows: u64) -> String {
    number(i64::try_from(rows).unwrap_or(i64::MAX))
}

/// An instant to the second, such as `2026-11-28 06:00:00`; another text as it is.
fn short(text: &str) -> String {
    let instant = text.parse::<jiff::Timestamp>().ok();
    instant.map_or_else(|| escape(text), |at| at.strftime("%Y-%m-%d\u{a0}%H:%M:%S").to_string())
}

fn cell(row: &Value, key: &str) -> String {
    let value = key.split('.').try_fold(row, |value, part| value.get(part));
    match value {
        None | Some(Value::Null) => String::new(),
        Some(Value::Bool(true)) => "yes".to_owned(),
        Some(Value::Bool(false)) => "no".to_owned(),
        Some(Value::String(text)) if is_id(text) => format!("<code>{}</code>", escape(text)),
        Some(Value::String(text)) => short(text),
        Some(Value::Array(items)) => items.iter().map(item).collect::<Vec<_>>().join(", "),
        Some(other) => escape(&other.to_string()),
    }
}

/// An id or a hash.
fn is_id(text: &str) -> bool {
    text.len() > 24 && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

fn item(value: &Value) -> String {
    let text = |key: &str| value.get(key).and_then(Value::as_str);
    match (value.as_str(), text("role"), text("scope")) {
        (Some(text), _, _) => escape(text),
        (None, Some(role), Some("installation")) => format!("{} (everywhere)", escape(role)),
        (None, Some(role), _) => escape(role),
        _ => escape(&value.to_string()),
    }
}
