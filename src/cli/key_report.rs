//! `sandyq keys report`: the signed record of a rotation or a rekey, to keep, to read and to check.

use std::{fs, io::Write as _, path::PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::{
    audit::trusted,
    client::{self, keys},
    html::{escape, number, page},
    output::{Failure, Out, exit, refused},
};
use crate::{
    audit::key_report::{Acted, KeyReport, KeyStatement, PhaseDone, ReportHeld, VersionThen},
    domain::time::Timestamp,
    grpc::pb,
};

#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct ReportArgs {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    client: client::Args,
    /// The operation, `opr_…`; it has ended.
    #[arg(required = true)]
    operation: Option<String>,
    /// Also check what the vault gives: the audit key, `name+id+base64`, as `sandyq init` printed it, or a file with one on
    /// each line.
    #[arg(long)]
    key: Option<String>,
    /// Also write the report into this file, for `keys report verify`; it must not exist yet.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
    /// Also write a page that people read into this file; it must not exist yet.
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Check a kept report, offline, against an audit key that was kept outside the installation.
    Verify {
        /// File that `--out` wrote.
        file: PathBuf,
        /// The audit key, `name+id+base64`, as `sandyq init` printed it, or a file with one on each line: where it was replaced
        /// since, the newer is wanted.
        #[arg(long)]
        key: String,
        /// The operation that the report must be of (`opr_…`).
        #[arg(long)]
        operation: Option<String>,
        /// Also write a page that people read into this file; it must not exist yet.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
}

pub(super) async fn run(args: ReportArgs, out: &mut Out) -> Result<(), Failure> {
    match args {
        ReportArgs { command: Some(Command::Verify { file, key, operation, html }), .. } => {
            let unread = |why: String| Failure::new(exit::FAILED, format!("{}: {why}", file.display()));
            let text = fs::read_to_string(&file).map_err(|e| unread(e.to_string()))?;
            let report = KeyReport::parse(text.trim_end()).map_err(|e| unread(e.to_string()))?;
            let held = check(&report, &key)?;
            let of = held.statement.operation.to_string();
            if operation.is_some_and(|wanted| wanted != of) {
                return Err(unproven(&format!("it is of {of}")));
            }
            keep(html, &render(&held, true))?;
            print(&held, true, out)
        }
        ReportArgs { client, operation: Some(operation_id), key, out: file, html, .. } => {
            let request = pb::GetKeyReportRequest { operation_id };
            let answer = keys(client.connect().await?).get_key_report(request).await.map_err(refused)?;
            let document = answer.into_inner().document;
            let report = KeyReport::parse(&document)?;
            let held = match &key {
                Some(key) => check(&report, key)?,
                None => report.unchecked()?,
            };
            keep(file, &format!("{document}\n"))?;
            keep(html, &render(&held, key.is_some()))?;
            print(&held, key.is_some(), out)
        }
        ReportArgs { .. } => Err(Failure::new(exit::USAGE, "name the operation, or `verify` a file")),
    }
}

/// Writes a file that is not there yet, where one is wanted.
pub(super) fn keep(file: Option<PathBuf>, text: &str) -> Result<(), Failure> {
    if let Some(file) = file {
        fs::File::create_new(file)?.write_all(text.as_bytes())?;
    }
    Ok(())
}

fn unproven(why: &str) -> Failure {
    Failure::new(exit::NOT_VERIFIED, format!("the report does not verify: {why}"))
}

fn check(report: &KeyReport, key: &str) -> Result<ReportHeld, Failure> {
    report.verify(&trusted(key)?).map_err(|bad| unproven(&bad.to_string()))
}

/// Who did it; where nobody did, the vault: it begins by its calendar, and ends what it began.
fn who(act: &Acted) -> String {
    act.person.clone().or_else(|| act.caller.clone()).unwrap_or_else(|| "the vault".to_owned())
}

/// A moment for people: the second is enough.
fn second(time: Timestamp) -> String {
    let whole = Timestamp::from_micros(time.as_micros().div_euclid(1_000_000) * 1_000_000).to_string();
    let text = whole.split_once('.').map_or(whole.as_str(), |(whole, _)| whole);
    escape(&text.trim_end_matches('Z').replace('T', " "))
}

fn shown(count: u64) -> String {
    number(i64::try_from(count).unwrap_or(i64::MAX))
}

/// What was done, as people say it.
fn title(of: &KeyStatement) -> String {
    match of.kind.as_str() {
        "rekey_platform" => "Rekey of a platform".to_owned(),
        _ => format!("Rotation of the {} key", of.key),
    }
}

const VERIFIED: &str = "verified: the audit key signed it, and the log has every entry that it names";
const UNVERIFIED: &str = "not verified: say --key with the audit key that was kept outside the installation";

fn print(held: &ReportHeld, verified: bool, out: &mut Out) -> Result<(), Failure> {
    let of = &held.statement;
    let mut lines = vec![
        format!("report    {}, {}", title(of), of.state),
        format!("log       {}, {} entries", of.origin, held.head.size),
        format!("operation {}", of.operation),
        format!("made      version {} of the {} key", of.version, of.key),
    ];
    let acts = [("proposed", of.proposed.as_ref()), ("approved", of.approved.as_ref())];
    let acts = acts.into_iter().filter_map(|(what, act)| act.map(|act| (what, act)));
    for (what, act) in acts.chain([("begun", &of.begun), ("ended", &of.ended)]) {
        lines.push(format!("{what:<9} {} by {}, entry {}", act.time, who(act), act.entry));
    }
    for phase in &of.phases {
        let (name, began, ended) = (&phase.phase, phase.began, phase.ended);
        lines.push(format!("{name:<9} {began} to {ended}: {} in {} commits", phase.count, phase.commits));
    }
    for version in &of.versions {
        let when = if version.before { "before" } else { "since" };
        lines.push(format!("version   {} {when}: {}", version.version, version.state));
    }
    lines.push(format!(
        "opened    {}",
        if of.verified { "everything, before the end" } else { "NOT everything" }
    ));
    lines.push(if verified { VERIFIED } else { UNVERIFIED }.to_owned());
    let positions: Vec<_> = held
        .positions
        .iter()
        .map(|(entry, position)| json!({ "entry_id": entry.to_string(), "position": position }))
        .collect();
    let json = json!({
        "verified": verified, "statement": of, "entries": positions, "log_size": held.head.size,
    });
    Ok(out.data(&json, &lines)?)
}

/// The report as a page.
fn render(held: &ReportHeld, verified: bool) -> String {
    let of = &held.statement;
    let title = title(of);
    let told = if verified {
        "<b class=\"good\">Verified</b>: signed by the audit key, and every entry that it names is in the log."
    } else {
        "<b class=\"bad\">Not verified.</b> Check the kept report with <code>sandyq keys report verify</code>."
    };
    let card =
        |value: &str, what: &str| format!("<div class=\"card\"><b>{value}</b><span>{what}</span></div>");
    let seconds = (of.ended.time.as_micros() - of.begun.time.as_micros()) / 1_000_000;
    let commits: u64 = of.phases.iter().map(|phase| phase.commits).sum();
    let opened = if of.verified { "yes" } else { "no" };
    let cards = [
        card(&escape(&of.state), "how it ended"),
        card(opened, "everything opened before the end"),
        card(&format!("{}", of.version), "version that it made"),
        card(&format!("{}\u{202f}s", number(seconds)), "from beginning to end"),
        card(&shown(commits), "commits"),
    ];
    format_page(&title, told, &cards.concat(), of, held)
}

fn format_page(title: &str, told: &str, cards: &str, of: &KeyStatement, held: &ReportHeld) -> String {
    let position = |entry| held.positions.get(&entry).map_or(String::new(), |at| shown(*at));
    let act = |what: &str, act: &Acted| {
        format!(
            "<tr><td>{what}</td><td>{}</td><td><code>{}</code></td><td><code>{}</code></td><td class=\"n\">{}</td></tr>",
            second(act.time),
            escape(&who(act)),
            act.entry,
            position(act.entry)
        )
    };
    let mut acts = String::new();
    for (what, some) in [
        ("proposed", of.proposed.as_ref()),
        ("approved", of.approved.as_ref()),
        ("begun", Some(&of.begun)),
        ("ended", Some(&of.ended)),
    ] {
        acts.extend(some.map(|some| act(what, some)));
    }
    let phase = |phase: &PhaseDone| {
        format!(
            "<tr><td>{}</td><td>{}</td><td>{}</td><td class=\"n\">{}</td><td class=\"n\">{}</td></tr>",
            escape(&phase.phase),
            second(phase.began),
            second(phase.ended),
            shown(phase.count),
            shown(phase.commits)
        )
    };
    let version = |version: &VersionThen| {
        let when = if version.before { "before this work" } else { "by this work, or since" };
        let state = escape(&version.state.replace('_', " "));
        format!("<tr><td>version {}</td><td>{when}</td><td>{state}</td></tr>", version.version)
    };
    let phases = of.phases.iter().map(phase).collect::<String>();
    let versions = of.versions.iter().map(version).collect::<String>();
    let body = format!(
        "<p>Log <code>{}</code>, operation <code>{}</code>, as of {} UTC. Times are UTC. {told}</p><div class=\"cards\">{cards}</div>\
         <h2>Who</h2><table><thead><tr><th>act</th><th>when</th><th>who</th><th>entry of the log</th><th class=\"n\">position</th>\
         </tr></thead><tbody>{acts}</tbody></table>\
         <h2>Phases</h2><table><thead><tr><th>phase</th><th>began</th><th>ended</th><th class=\"n\">done</th>\
         <th class=\"n\">commits</th></tr></thead><tbody>{phases}</tbody></table>\
         <h2>Versions of the {} key</h2><table><thead><tr><th>version</th><th>made</th><th>state when the report was made</th></tr></thead>\
         <tbody>{versions}</tbody></table>\
         <h2>Checkpoint</h2><p>The head of the log that holds every entry above: {} entries.</p><pre>{}\n{}\n{}</pre>",
        escape(&of.origin),
        of.operation,
        second(of.made),
        escape(&of.key),
        shown(held.head.size),
        escape(&held.head.origin),
        held.head.size,
        data_encoding::BASE64.encode(&held.head.root.0),
    );
    page(title, &body)
}
