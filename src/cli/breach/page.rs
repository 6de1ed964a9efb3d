//! The notice of a breach as JSON, and as one page that is printed or shown.

use serde_json::{Value, json};

use super::show;
use crate::{
    cli::html::{STYLE, escape},
    grpc::pb,
};

/// What this page looks like besides what every page does.
const OWN_STYLE: &str = "\
main{max-width:820px}.lead{font-size:15px;margin:8px 0 20px}table{table-layout:fixed}th{width:34%;font-weight:500}\
td{overflow-wrap:anywhere}.blank{border-bottom:1px solid var(--soft);display:inline-block;width:min(280px,100%);height:1.2em}\
.foot{color:var(--ink);margin:14px 0 0}\
@media print{body{padding:0;background:#fff}tr{break-inside:avoid}}";

/// What is left to be filled in by hand.
const BLANK: &str = "________________";

pub(super) fn json(notice: &pb::GetBreachNoticeResponse, to: &str, language: &str, contact: &str) -> Value {
    let breach = notice.breach.as_ref().map(show::json);
    let row = |row: &pb::BreachNoticeRow| json!({ "name": row.name, "value": filled(&row.value, contact) });
    json!({
        "format": "sandyq-breach-notice-1", "to": to, "language": language, "title": notice.title,
        "lead": notice.lead, "rows": notice.rows.iter().map(row).collect::<Vec<_>>(), "foot": notice.foot,
        "sha256": data_encoding::HEXLOWER.encode(&notice.sha256), "breach": breach,
    })
}

pub(super) fn render(notice: &pb::GetBreachNoticeResponse, language: &str, contact: &str) -> String {
    let title = escape(&notice.title);
    let rows: String = notice.rows.iter().map(|row| cells(row, contact)).collect();
    let paragraph = |foot: String, text: &String| foot + "<p class=\"foot\">" + &escape(text) + "</p>";
    let foot = notice.foot.iter().fold(String::new(), paragraph);
    format!(
        "<!doctype html>\n<html lang=\"{language}\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>{STYLE}{OWN_STYLE}</style></head><body><main>\
         <h1>{title}</h1><p class=\"lead\">{}</p><table><tbody>{rows}</tbody></table>{foot}</main></body></html>\n",
        escape(&notice.lead),
    )
}

fn cells(row: &pb::BreachNoticeRow, contact: &str) -> String {
    let value = match filled(&row.value, contact) {
        BLANK => "<span class=\"blank\"></span>".to_owned(),
        value => match value.rsplit_once(": ").filter(|(_, hash)| hash.len() == 64) {
            Some((what, hash)) => format!("{}: <code>{}</code>", escape(what), escape(hash)),
            None => escape(value),
        },
    };
    format!("<tr><th>{}</th><td>{value}</td></tr>", escape(&row.name))
}

/// The contacts where they are left out of the vault's text.
fn filled<'a>(value: &'a str, contact: &'a str) -> &'a str {
    if value == BLANK && !contact.is_empty() { contact } else { value }
}
