//! The plan as one page: numbers, a chart of what ends when, and the table. Nothing is loaded from anywhere.

use std::{collections::BTreeMap, fmt::Write as _};

use super::{FATES, Plan, Row, code};
use crate::{
    cli::html::{escape, number, page},
    grpc::pb,
};

/// Months that have a bar each; with more, bars are years.
const MOST_MONTHS: usize = 36;
const WIDTH: i64 = 960;
const HEIGHT: i64 = 260;

/// Kinds of records that have a date, with the colour of their bars.
const DATED: [(pb::RetentionFate, &str, &str); 3] = [
    (pb::RetentionFate::Over, "--over", "over already"),
    (pb::RetentionFate::Ends, "--ends", "ends"),
    (pb::RetentionFate::KeptByLaw, "--kept", "kept by a law until then"),
];

pub(super) fn render(plan: &Plan) -> String {
    let title = format!("Retention of {}", escape(&plan.platform));
    let body = format!(
        "<p>{} subjects. What the platform's policy lets it keep, and until when; counted in records. Months are \
         Kazakhstan's.</p>{}{}{}",
        number(plan.subjects),
        cards(plan),
        chart(plan),
        table(plan)
    );
    page(&title, &body)
}

fn cards(plan: &Plan) -> String {
    let card = |(fate, says): &(pb::RetentionFate, &str)| {
        format!("<div class=\"card\"><b>{}</b><span>{says}</span></div>", number(plan.records_of(*fate)))
    };
    format!("<div class=\"cards\">{}</div>", FATES.iter().map(card).collect::<String>())
}

/// Records by month or year of their end, and by kind.
type Bars = BTreeMap<String, [i64; 3]>;

fn bars(plan: &Plan) -> Bars {
    let by = |length: usize| {
        let mut bars = Bars::new();
        for (row, records) in plan.rows.iter().filter(|(row, _)| !row.month.is_empty()) {
            if let Some(kind) = DATED.iter().position(|(fate, ..)| *fate == row.fate()) {
                let bar = bars.entry(row.month.chars().take(length).collect()).or_default();
                if let Some(sum) = bar.get_mut(kind) {
                    *sum = sum.saturating_add(*records);
                }
            }
        }
        bars
    };
    let months = by("2029-03".len());
    if months.len() <= MOST_MONTHS { months } else { by("2029".len()) }
}

fn chart(plan: &Plan) -> String {
    let bars = bars(plan);
    let most = bars.values().map(|bar| bar.iter().sum::<i64>()).max().unwrap_or(0);
    if most == 0 {
        return "<h2>What ends when</h2><figure>Nothing has a date.</figure>".to_owned();
    }
    let (left, bottom) = (64, 34);
    let count = i64::try_from(bars.len()).unwrap_or(i64::MAX);
    let step = ((WIDTH - left) / count).min(120);
    let mut svg = String::new();
    for part in 0..=2 {
        let (value, y) = (most * part / 2, HEIGHT - bottom - (HEIGHT - bottom - 20) * part / 2);
        push(
            &mut svg,
            &format!(
                "<line x1=\"{left}\" x2=\"{WIDTH}\" y1=\"{y}\" y2=\"{y}\" stroke=\"var(--line)\"/>\
             <text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>",
                left - 8,
                y + 4,
                number(value)
            ),
        );
    }
    // Names of bars that would run into each other are left out.
    let every = (60 / step.max(1)) + 1;
    for (at, (name, bar)) in (0..).zip(&bars) {
        let (x, width) = (left + at * step + step / 8, (step * 3 / 4).max(2));
        let mut y = HEIGHT - bottom;
        for (records, (_, colour, says)) in bar.iter().zip(&DATED) {
            // A few records beside very many are still to be seen.
            let tall = ((HEIGHT - bottom - 20) * records / most).max(i64::from(*records > 0) * 2);
            y -= tall;
            if tall > 0 {
                push(
                    &mut svg,
                    &format!(
                        "<rect x=\"{x}\" y=\"{y}\" width=\"{width}\" height=\"{tall}\" rx=\"2\" fill=\"var({colour})\">\
                     <title>{}: {} {says}</title></rect>",
                        escape(name),
                        number(*records)
                    ),
                );
            }
        }
        if at % every == 0 {
            push(
                &mut svg,
                &format!(
                    "<text x=\"{}\" y=\"{}\" text-anchor=\"middle\">{}</text>",
                    x + width / 2,
                    HEIGHT - bottom + 20,
                    escape(name)
                ),
            );
        }
    }
    let legend = |(_, colour, says): &(pb::RetentionFate, &str, &str)| {
        format!("<span><i style=\"background:var({colour})\"></i>{says}</span>")
    };
    format!(
        "<h2>What ends when</h2><figure><svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"records by the time of \
         their end\">{svg}</svg><div class=\"legend\">{}</div></figure>",
        DATED.iter().map(legend).collect::<String>()
    )
}

fn table(plan: &Plan) -> String {
    let line = |(row, records): (&Row, &i64)| {
        let missing = row.missing.join(", ");
        let month = if row.month.is_empty() { "no date" } else { &row.month };
        format!(
            "<tr><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td></tr>",
            code(row.fate()).replace('_', " "),
            escape(month),
            escape(&row.field),
            escape(&row.purpose),
            escape(&row.clause),
            escape(&missing),
            number(*records)
        )
    };
    format!(
        "<h2>Every row</h2><table><thead><tr><th>state</th><th>month</th><th>field</th><th>kept longest by</th><th>clause</th>\
         <th>events not recorded</th><th class=\"n\">records</th></tr></thead><tbody>{}</tbody></table>",
        plan.rows.iter().map(line).collect::<String>()
    )
}

fn push(svg: &mut String, part: &str) {
    // Writing to a String cannot fail.
    let _written = svg.write_str(part);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn plan(rows: &[(pb::RetentionFate, &str, i64)]) -> Plan {
        let row = |(fate, month, records): &(pb::RetentionFate, &str, i64)| {
            let row = Row {
                fate: (*fate).into(),
                month: (*month).to_owned(),
                field: "email".to_owned(),
                purpose: "offers".to_owned(),
                clause: "7.1(а) <b>".to_owned(),
                missing: Vec::new(),
            };
            (row, *records)
        };
        Plan { platform: "lerna".to_owned(), rows: rows.iter().map(row).collect(), subjects: 1_234_567 }
    }

    #[test]
    fn few_are_seen_beside_many_and_texts_are_escaped() {
        let page = render(&plan(&[
            (pb::RetentionFate::Ends, "2029-03", 1_000_000),
            (pb::RetentionFate::Over, "2026-11", 1),
            (pb::RetentionFate::Waits, "", 7),
        ]));
        assert!(page.contains("height=\"2\" rx=\"2\" fill=\"var(--over)\""), "{page}");
        assert!(page.contains("7.1(а) &lt;b&gt;") && !page.contains("<b>\""));
        assert!(page.contains("1\u{202f}234\u{202f}567 subjects"));
        assert!(!page.contains("http"), "nothing is loaded");
    }

    #[test]
    fn many_months_are_years() {
        let months: Vec<_> = (0..40).map(|n| format!("20{:02}-{:02}", 30 + n / 12, n % 12 + 1)).collect();
        let rows: Vec<_> = months.iter().map(|month| (pb::RetentionFate::Ends, month.as_str(), 1)).collect();
        let bars = bars(&plan(&rows));
        assert_eq!(bars.keys().collect::<Vec<_>>(), ["2030", "2031", "2032", "2033"]);
        assert_eq!(bars["2030"], [0, 12, 0]);
    }
}
