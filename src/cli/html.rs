//! What pages have in common: one look, and texts that cannot become markup. Nothing is loaded from anywhere.

/// The look of every page, light and dark.
pub(super) const STYLE: &str = "\
:root{--ink:#1b2430;--soft:#5b6675;--line:#dfe4ea;--back:#f6f7f9;--card:#fff;--ends:#2f6fb3;--kept:#8a63b8;--over:#c0392b;\
--good:#2e7d4f}\
@media (prefers-color-scheme:dark){:root{--ink:#e8ecf1;--soft:#9aa7b6;--line:#313b47;--back:#161b21;--card:#1e252d;\
--ends:#6ea8e5;--kept:#b592e0;--over:#ef7a6d;--good:#6fc794}}\
*{box-sizing:border-box}body{margin:0;padding:32px;background:var(--back);color:var(--ink);\
font:15px/1.45 system-ui,sans-serif}main{max-width:1040px;margin:0 auto}h1{font-size:24px;margin:0 0 4px}\
h2{font-size:17px;margin:32px 0 10px}h3{font-size:14px;margin:20px 0 8px}p{color:var(--soft);margin:0 0 20px}\
.cards{display:grid;grid-template-columns:repeat(auto-fit,minmax(150px,1fr));gap:12px}\
.card{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:12px 14px}\
.card b{display:block;font-size:22px;font-variant-numeric:tabular-nums}.card span{color:var(--soft);font-size:13px}\
figure{margin:0;background:var(--card);border:1px solid var(--line);border-radius:8px;padding:16px;overflow-x:auto}\
svg[role]{min-width:620px}.wide{overflow-x:auto}.wide td{white-space:nowrap}.wide th,.wide td{padding:7px}\
.swatch{display:inline-block;width:26px;height:10px;margin-right:6px}\
svg{display:block;width:100%;height:auto}svg text{fill:var(--soft);font-size:12px}.legend{display:flex;flex-wrap:wrap;gap:16px;\
margin-top:10px;color:var(--soft);font-size:13px}.legend i{display:inline-block;width:11px;height:11px;border-radius:2px;\
margin-right:6px}table{width:100%;border-collapse:collapse;background:var(--card);border:1px solid var(--line)}\
th,td{text-align:left;padding:7px 10px;border-bottom:1px solid var(--line);vertical-align:top}\
th{font-size:13px;color:var(--soft);font-weight:600}td.n,th.n{text-align:right;font-variant-numeric:tabular-nums}\
code,pre{font:12.5px/1.5 ui-monospace,monospace}pre{white-space:pre-wrap;overflow-wrap:anywhere;background:var(--card);\
border:1px solid var(--line);border-radius:8px;padding:14px;margin:0}td code{overflow-wrap:anywhere}\
.good{color:var(--good)}.bad{color:var(--over)}";

/// A page of a title and what stands under it.
pub(super) fn page(title: &str, body: &str) -> String {
    format!(
        "<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" \
         content=\"width=device-width\"><title>{title}</title><style>{STYLE}</style></head><body><main>\
         <h1>{title}</h1>{body}</main></body></html>\n"
    )
}

/// Groups of three digits.
pub(super) fn number(number: i64) -> String {
    let digits = number.to_string();
    let mut shown = String::new();
    for (i, digit) in digits.chars().enumerate() {
        if i > 0 && (digits.len() - i).is_multiple_of(3) {
            shown.push('\u{202f}');
        }
        shown.push(digit);
    }
    shown
}

/// A text as it stands in a page.
pub(super) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}
