//! The report as one page: what was measured, tables and charts. It is made from the JSON, so that whatever that says is on
//! it. Nothing is loaded from anywhere.

use serde_json::{Map, Value};

use super::plot::{Curve, Windows, curves, duration, windows};
use crate::cli::html::{escape, number, page};

/// Keys whose values are charts.
const CHARTED: [&str; 1] = ["pairs"];
/// What the keys of curves have in them.
const CURVE: &str = "percentiles";
/// What is in the keys of the second of two curves, which has the colour that windows with the work have.
const SECOND: [&str; 4] = ["_with", "refused", "single", "unsealed"];
/// Columns of the table of calls: their keys, and what stands above them.
const COLUMNS: [(&str, &str); 12] = [
    ("calls_per_second", "calls/s"),
    ("items_per_second", "items/s"),
    ("ratio_to_echo", "to echo"),
    ("ratio_to_independent", "to indep."),
    ("ratio_to_select", "to select"),
    ("p50_us", "p50"),
    ("p99_us", "p99"),
    ("max_us", "longest"),
    ("server_cpu_us", "CPU, server"),
    ("database_cpu_us", "CPU, database"),
    ("commits_per_call", "commits"),
    ("failed", "failed"),
];

/// The page of a report's JSON.
pub(super) fn render(report: &Value) -> String {
    let none = Vec::new();
    let scenarios = report["scenarios"].as_array().unwrap_or(&none);
    let (calls, others): (Vec<_>, Vec<_>) =
        scenarios.iter().filter_map(Value::as_object).partition(|scenario| scenario.contains_key("load"));
    let body = format!(
        "{}{}{}{}{}",
        says(report),
        table_of_calls(&calls),
        curves_of_calls(&calls),
        others.into_iter().map(section).collect::<String>(),
        settings(report)
    );
    page("sandyq bench", &body)
}

fn says(report: &Value) -> String {
    let text = |key: &str| escape(report[key].as_str().unwrap_or_default());
    let counted = |key: &str| number(report[key].as_i64().unwrap_or_default());
    let debug = if report["optimised"] == true {
        String::new()
    } else {
        "<p class=\"bad\">Not optimised: a debug build says nothing of speed.</p>".to_owned()
    };
    format!(
        "<p>Version {}, {} with {} subjects, {} rounds, {} connections, {} cores. Server and load share the machine: compare \
         ratios of one run, not figures of two.</p>{debug}",
        text("version"),
        text("store"),
        counted("subjects"),
        counted("rounds"),
        counted("connections"),
        counted("cores")
    )
}

/// What a scenario's key says; null where it does not stand.
fn value_of<'a>(scenario: &'a Map<String, Value>, key: &str) -> &'a Value {
    scenario.get(key).unwrap_or(&Value::Null)
}

/// The load of calls as people say it.
fn load_of(scenario: &Map<String, Value>) -> String {
    match (value_of(scenario, "concurrency").as_u64(), value_of(scenario, "rate").as_f64()) {
        (Some(1), _) => "closed loop, one caller".to_owned(),
        (Some(callers), _) => format!("closed loop, {callers} callers"),
        (None, rate) => format!("open loop, {:.0} calls a second", rate.unwrap_or_default()),
    }
}

/// The same in short.
fn short_load_of(scenario: &Map<String, Value>) -> String {
    match (value_of(scenario, "concurrency").as_u64(), value_of(scenario, "rate").as_f64()) {
        (Some(1), _) => "1 caller".to_owned(),
        (Some(callers), _) => format!("{callers} callers"),
        (None, rate) => format!("{:.0}/s open", rate.unwrap_or_default()),
    }
}

fn name_of(scenario: &Map<String, Value>) -> &str {
    scenario.get("scenario").and_then(Value::as_str).unwrap_or_default()
}

fn table_of_calls(calls: &[&Map<String, Value>]) -> String {
    let head = COLUMNS.map(|(_, says)| format!("<th class=\"n\">{says}</th>")).concat();
    let line = |scenario: &&Map<String, Value>| {
        let columns =
            COLUMNS.map(|(key, _)| format!("<td class=\"n\">{}</td>", cell(key, value_of(scenario, key))));
        let (name, load) = (escape(name_of(scenario)), escape(&short_load_of(scenario)));
        format!("<tr><td>{name}</td><td>{load}</td>{}</tr>", columns.concat())
    };
    format!(
        "<h2>Calls</h2><div class=\"wide\"><table><thead><tr><th>scenario</th><th>load</th>{head}</tr></thead><tbody>{}</tbody>\
         </table></div><p>Processor time and commits are those of a call. «indep.» is a minimal server without tonic.</p>",
        calls.iter().map(line).collect::<String>()
    )
}

/// A chart for each load, with every scenario that was measured under it.
fn curves_of_calls(calls: &[&Map<String, Value>]) -> String {
    let (mut loads, mut names): (Vec<(String, Vec<Curve>)>, Vec<&str>) = (Vec::new(), Vec::new());
    for scenario in calls {
        let name = name_of(scenario);
        let look = names.iter().position(|known| *known == name).unwrap_or(names.len());
        if look == names.len() {
            names.push(name);
        }
        let (load, curve) = (load_of(scenario), curve((name, look), value_of(scenario, CURVE)));
        match loads.iter_mut().find(|(known, _)| *known == load) {
            Some((_, all)) => all.push(curve),
            None => loads.push((load, vec![curve])),
        }
    }
    let charts = loads.iter().map(|(load, all)| curves(load, all)).collect::<String>();
    format!("<h2>Time of a call by percentile</h2>{charts}")
}

fn curve((name, look): (&str, usize), points: &Value) -> Curve {
    let points = points.as_array().into_iter().flatten();
    let points = points.filter_map(|point| Some((point[0].as_f64()?, point[1].as_f64()?)));
    Curve { name: name.to_owned(), look, points: points.collect() }
}

/// What is no scenario of calls: its charts, and every key that has no chart.
fn section(scenario: &Map<String, Value>) -> String {
    let all: Vec<_> = scenario
        .iter()
        .filter(|(key, _)| key.contains(CURVE))
        .map(|(key, points)| {
            let look = usize::from(SECOND.iter().any(|part| key.contains(part)) && !key.ends_with("without"));
            let name = key.replace(CURVE, "").trim_matches('_').replace('_', " ");
            curve((if name.is_empty() { name_of(scenario) } else { &name }, look), points)
        })
        .collect();
    let time = |pair: &Value, key: &str| pair[key].as_f64();
    let pairs = scenario.get("pairs").and_then(Value::as_array).into_iter().flatten();
    let pairs: Vec<_> = pairs
        .filter_map(|pair| {
            let (without, with) = (time(pair, "p99_us_without")?, time(pair, "p99_us_with")?);
            Some(Windows { without, with })
        })
        .collect();
    let shown = |key: &str| !CHARTED.contains(&key) && !key.contains(CURVE) && key != "scenario";
    let lines = scenario.iter().filter(|(key, _)| shown(key));
    let lines = lines.map(|(key, value)| {
        format!("<tr><td><code>{}</code></td><td class=\"n\">{}</td></tr>", escape(key), cell(key, value))
    });
    format!(
        "<h2>{}</h2>{}{}<div class=\"wide\"><table><tbody>{}</tbody></table></div>",
        escape(&title_of(scenario)),
        curves("Time by percentile", &all),
        windows("p99 in windows with and without, pair by pair", &pairs),
        lines.collect::<String>()
    )
}

/// A scenario's name, with its callers where there are more of them.
fn title_of(scenario: &Map<String, Value>) -> String {
    let callers = scenario.get("concurrency").and_then(Value::as_u64);
    let name = name_of(scenario);
    callers.map_or_else(|| name.to_owned(), |callers| format!("{name}, {callers} callers"))
}

fn settings(report: &Value) -> String {
    let lines = report["database"].as_object().into_iter().flatten().map(|(setting, value)| {
        let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        format!("<tr><td><code>{}</code></td><td>{}</td></tr>", escape(setting), escape(&value))
    });
    let counted = [
        ("database_bytes", "size in bytes"),
        ("database_syncs", "synchronisations of its log"),
        ("vault_commits", "commits of the vault"),
    ]
    .map(|(key, says)| format!("<tr><td>{says}</td><td>{}</td></tr>", cell(key, &report[key])));
    format!(
        "<h2>What the database says of itself</h2><div class=\"wide\"><table><tbody>{}{}</tbody></table></div>",
        lines.collect::<String>(),
        counted.concat()
    )
}

/// A value as people read it: times in their unit, counts in groups.
fn cell(key: &str, value: &Value) -> String {
    match value {
        Value::Null => "–".to_owned(),
        Value::Number(figure) if key.contains("_us") => duration(figure.as_f64().unwrap_or_default()),
        Value::Number(figure) => match (figure.as_i64(), figure.as_f64()) {
            (Some(whole), _) => number(whole),
            (None, Some(real)) if real.abs() >= 100.0 => number(whole_of(real)),
            (None, real) => format!("{:.3}", real.unwrap_or_default()),
        },
        Value::Object(map) if map.is_empty() => "none".to_owned(),
        Value::Object(map) => {
            let each = map.iter().map(|(reason, count)| format!("{} × {}", cell("", count), escape(reason)));
            each.collect::<Vec<_>>().join("<br>")
        }
        Value::String(text) => escape(text),
        Value::Bool(_) | Value::Array(_) => escape(&value.to_string()),
    }
}

fn whole_of(real: f64) -> i64 {
    i64::try_from(super::numbers::whole(real)).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn whatever_the_json_says_is_on_the_page_and_nothing_is_loaded() {
        let report = json!({
            "version": "1", "optimised": true, "store": "sqlite", "subjects": 1_234_567,
            "database": { "journal_mode": "<wal>" },
            "scenarios": [
                {
                    "scenario": "echo", "load": "closed", "concurrency": 64, "rate": null, "calls_per_second": 54_481.5,
                    "p50_us": 1_500.0, "percentiles": [[0.0, 900], [50.0, 1_500], [99.0, 3_000]]
                },
                { "scenario": "new-one", "some_key": 7, "failures": { "<DATA>": 3 } },
                { "scenario": "rotation", "percentiles_with": [[0.0, 5], [50.0, 7]], "pairs": [{ "p99_us_without": 9.0, "p99_us_with": 18.0 }] },
            ]
        });
        let page = render(&report);
        for expected in [
            "1\u{202f}234\u{202f}567 subjects",
            "closed loop, 64 callers",
            "<td class=\"n\">54\u{202f}482</td>",
            "<td class=\"n\">1.50\u{202f}ms</td>",
            "<h2>new-one</h2>",
            "<code>some_key</code></td><td class=\"n\">7<",
            "3 × &lt;DATA&gt;",
            "<h2>rotation</h2>",
            "<title>with</title></polyline>",
            "with: 18\u{202f}µs",
            "&lt;wal&gt;",
        ] {
            assert!(page.contains(expected), "{expected}: {page}");
        }
        assert!(!page.contains("http") && !page.contains("Not optimised"), "nothing is loaded");
    }
}
