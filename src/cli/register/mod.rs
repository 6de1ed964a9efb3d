//! `sandyq registers …`: copies outside the vault with the day by which each is destroyed, and the export of every register.

mod page;

use std::{
    fs,
    io::{BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use clap::Subcommand;
use serde_json::{Value, json};

use self::page::Page;
use super::{
    audit::trusted,
    client::{registers, request_id},
    key_report::keep,
    output::{Failure, Out, exit, instant, meter, refused, show_time},
    registers::{At, code, every, last_day, listed, narrowed, number},
    subject::name_of,
    values::when,
};
use crate::{
    grpc::pb,
    vault::registers::statement::{BadRegisters, ReadRegisters, RegisterStatement},
};

const KINDS: [&str; 3] = ["paper", "file", "medium"];
const OUTCOMES: [&str; 2] = ["destroyed", "handed-over"];

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Register a copy outside the vault, on paper or exported, with the day by which it is destroyed.
    Copy {
        #[command(flatten)]
        at: At,
        /// What it is.
        #[arg(long, value_parser = KINDS)]
        kind: String,
        /// What it was made for: a purpose of the policy in force.
        #[arg(long)]
        purpose: String,
        /// Which data stand in it; again for each.
        #[arg(long = "field", required = true, value_name = "FIELD")]
        fields: Vec<String>,
        /// Whose, by the platform's reference or `sub_…`; left out where it is of more people.
        #[arg(long)]
        subject: Option<String>,
        /// The office that keeps it, in the platform's numbering.
        #[arg(long)]
        holder: String,
        /// The platform's own number of it.
        #[arg(long, default_value = "")]
        reference: String,
        /// When it was made, RFC 3339; now, where absent.
        #[arg(long)]
        made_at: Option<String>,
        /// By when it is destroyed, RFC 3339.
        #[arg(long)]
        destroy_by: String,
    },
    /// Record how a copy ended.
    Ended {
        #[command(flatten)]
        at: At,
        /// The copy, `cpy_…`.
        copy: String,
        /// How it ended.
        #[arg(long, value_parser = OUTCOMES)]
        outcome: String,
        /// The record of it, such as an act of destruction, in the platform's numbering.
        #[arg(long)]
        act: String,
        /// When, RFC 3339; now, where absent.
        #[arg(long)]
        ended_at: Option<String>,
    },
    /// List copies that have not ended, the soonest to be destroyed first.
    Copies {
        #[command(flatten)]
        at: At,
        /// Those alone whose day is over.
        #[arg(long, conflicts_with = "all")]
        overdue: bool,
        /// Those that have ended, too.
        #[arg(long)]
        all: bool,
    },
    /// Write every register into a file that the audit key signs: policies, purposes with their assessments, recipients, who has
    /// access, consents, transfers, transfers abroad, publications, copies.
    Export {
        #[command(flatten)]
        at: At,
        /// The new file; nobody else may read it.
        #[arg(long, value_name = "FILE")]
        out: PathBuf,
        /// Transfers and publications from then on, RFC 3339; from the log's begin, where absent.
        #[arg(long)]
        since: Option<String>,
        /// Up to then; up to now, where absent.
        #[arg(long)]
        until: Option<String>,
        /// Also check what the vault gives: the audit key, `name+id+base64`, as `sandyq init` printed it, or a file with one on each
        /// line.
        #[arg(long)]
        key: Option<String>,
        /// Also write a page that people read into this file; it must not exist yet.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
    /// Check an export, offline, against an audit key that was kept outside the installation.
    Verify {
        /// File that `export` wrote.
        file: PathBuf,
        /// The audit key, `name+id+base64`, as `sandyq init` printed it, or a file with one on each line.
        #[arg(long)]
        key: String,
        /// Also write a page that people read into this file; it must not exist yet.
        #[arg(long, value_name = "FILE")]
        html: Option<PathBuf>,
    },
}

pub(super) async fn run(command: Command, out: &mut Out) -> Result<(), Failure> {
    match command {
        Command::Copy { at, kind, purpose, fields, subject, holder, reference, made_at, destroy_by } => {
            let request = pb::RegisterCopyRequest {
                request_id: request_id()?,
                platform: at.platform,
                kind: number("COPY_KIND_", &kind, pb::CopyKind::from_str_name)?.into(),
                purpose,
                fields,
                subject: subject.as_deref().map(name_of),
                holder,
                reference,
                make_time: Some(when(made_at.as_deref())?),
                destroy_time: Some(when(Some(&destroy_by))?),
            };
            let answer = registers(at.client.connect().await?).register_copy(request).await;
            print(&answer.map_err(refused)?.into_inner().copy.unwrap_or_default(), out)
        }
        Command::Ended { at, copy, outcome, act, ended_at } => {
            let request = pb::EndCopyRequest {
                request_id: request_id()?,
                platform: at.platform,
                copy_id: copy,
                outcome: number("COPY_OUTCOME_", &outcome, pb::CopyOutcome::from_str_name)?.into(),
                end_time: Some(when(ended_at.as_deref())?),
                act,
            };
            let answer = registers(at.client.connect().await?).end_copy(request).await;
            print(&answer.map_err(refused)?.into_inner().copy.unwrap_or_default(), out)
        }
        Command::Copies { at, overdue, all } => list(at, overdue, all, out).await,
        Command::Export { at, out: file, since, until, key, html } => {
            let time = |text: Option<String>| text.map(|text| when(Some(&text))).transpose();
            let (since_time, until_time) = (time(since)?, time(until)?);
            let request =
                pb::ExportRegistersRequest { platform: at.platform.clone(), since_time, until_time };
            export(at, request, &file, out).await?;
            told(&file, key.as_deref(), html, out)
        }
        Command::Verify { file, key, html } => told(&file, Some(&key), html, out),
    }
}

async fn export(
    at: At,
    request: pb::ExportRegistersRequest,
    path: &Path,
    out: &mut Out,
) -> Result<(), Failure> {
    use pb::export_registers_response::Step;
    let mut calls = registers(at.client.connect().await?);
    let mut steps = calls.export_registers(request).await.map_err(refused)?.into_inner();
    let mut options = fs::File::options();
    let file =
        std::os::unix::fs::OpenOptionsExt::mode(options.create_new(true).write(true), 0o600).open(path)?;
    let mut file = BufWriter::new(file);
    while let Some(step) = steps.message().await.map_err(refused)? {
        match step.step {
            Some(Step::Progress(progress)) => {
                let size = |number: i64| usize::try_from(number).unwrap_or(0);
                let meter = meter(size(progress.entries_read), size(progress.entries));
                out.progress(&format!("looking through the log {meter}"));
            }
            Some(Step::Lines(some)) => {
                for line in some.lines {
                    writeln!(file, "{line}")?;
                }
            }
            None => {}
        }
    }
    file.flush()?;
    out.progress_end();
    Ok(())
}

fn failed(path: &Path, bad: &BadRegisters) -> Failure {
    let code = match bad {
        BadRegisters::Unread(_) => exit::FAILED,
        BadRegisters::Format(_) | BadRegisters::Unsigned(_) | BadRegisters::Differs(_) => exit::NOT_VERIFIED,
    };
    Failure::new(code, format!("{}: {bad}", path.display()))
}

/// Reads a file, checks it as far as there is a key, and says what stands in it.
fn told(path: &Path, key: Option<&str>, html: Option<PathBuf>, out: &mut Out) -> Result<(), Failure> {
    let key = key.map(trusted).transpose()?;
    let mut page = Page::default();
    let file = BufReader::new(fs::File::open(path)?);
    let read = ReadRegisters::read(file, |register, row| page.take(register, row));
    let read = read.map_err(|bad| failed(path, &bad))?;
    let statement = match &key {
        Some(key) => read.verify(key),
        None => read.unchecked(),
    };
    let statement = statement.map_err(|bad| failed(path, &bad))?;
    keep(html, &page.render(&read.head, &statement, key.is_some()))?;
    say(&read.head, &statement, key.is_some(), out)
}

const VERIFIED: &str = "verified: the audit key signed it, and every row is as it was then";
const UNVERIFIED: &str = "not verified: say --key with the audit key that was kept outside the installation";

fn say(head: &Value, statement: &RegisterStatement, verified: bool, out: &mut Out) -> Result<(), Failure> {
    let text = |key: &str| head.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let span = match (&statement.since, &statement.until) {
        (None, None) => "all".to_owned(),
        (since, until) => {
            let shown = |time: &Option<String>| time.clone().unwrap_or("…".to_owned());
            format!("{} – {}", shown(since), shown(until))
        }
    };
    let mut lines = vec![
        format!("operator      {} {}", text("operator"), text("bin")),
        format!("log           {}, {} entries", statement.origin, statement.log_size),
        format!("made          {}", statement.made),
        format!("releases      {span}"),
    ];
    lines.extend(statement.rows.iter().map(|(register, rows)| format!("{register:<13} {rows}")));
    lines.push(format!("sha256        {}", statement.sha256));
    lines.push(if verified { VERIFIED } else { UNVERIFIED }.to_owned());
    Ok(out.data(&json!({ "verified": verified, "head": head, "statement": statement }), &lines)?)
}

fn outcome(copy: &pb::DataCopy) -> String {
    match copy.outcome() {
        pb::CopyOutcome::Unspecified => String::new(),
        outcome @ (pb::CopyOutcome::Destroyed | pb::CopyOutcome::HandedOver) => {
            code(outcome.as_str_name(), "COPY_OUTCOME_")
        }
    }
}

fn json_of(copy: &pb::DataCopy) -> Value {
    json!({
        "copy_id": copy.copy_id, "kind": code(copy.kind().as_str_name(), "COPY_KIND_"), "purpose": copy.purpose,
        "fields": copy.fields, "subject_id": copy.subject_id, "holder": copy.holder, "reference": copy.reference,
        "made_at": instant(copy.make_time.as_ref()), "destroy_by": instant(copy.destroy_time.as_ref()),
        "last_day": last_day(copy.destroy_time), "overdue": copy.overdue, "late": copy.late,
        "registered_at": instant(copy.register_time.as_ref()), "ended_at": instant(copy.end_time.as_ref()),
        "outcome": outcome(copy), "act": copy.act,
    })
}

fn print(copy: &pb::DataCopy, out: &mut Out) -> Result<(), Failure> {
    let overdue = if copy.overdue { ", OVERDUE" } else { "" };
    let mut lines = vec![
        format!("copy         {} {}", copy.copy_id, copy.reference),
        format!("what         {} for {}", code(copy.kind().as_str_name(), "COPY_KIND_"), copy.purpose),
        format!("data         {}", copy.fields.join(", ")),
        format!("kept by      {}", copy.holder),
        format!("made         {}", show_time(copy.make_time)),
        format!("destroyed by {}{overdue}", show_time(copy.destroy_time)),
    ];
    if !copy.subject_id.is_empty() {
        lines.push(format!("of           {}", copy.subject_id));
    }
    if copy.end_time.is_some() {
        let late = if copy.late { ", late" } else { "" };
        let when = show_time(copy.end_time);
        lines.push(format!("ended        {when}: {}, {}{late}", outcome(copy), copy.act));
    }
    Ok(out.data(&json_of(copy), &lines)?)
}

async fn list(at: At, overdue: bool, all: bool, out: &mut Out) -> Result<(), Failure> {
    use pb::CopyFilter::{All, Open, Overdue};
    let (platform, filter) = (at.platform, narrowed(overdue, all, [Overdue, All, Open]).into());
    let mut calls = registers(at.client.connect().await?);
    let request =
        |page_token| pb::ListCopiesRequest { platform: platform.clone(), filter, page_size: 0, page_token };
    let found = every!(calls.list_copies(page_token => request(page_token)).copies);
    listed(out, ("copies", "no copy"), &found, line, json_of)
}

fn line(copy: &pb::DataCopy) -> String {
    let late = if copy.overdue { "  OVERDUE" } else { "" };
    format!(
        "{}  until {}  {:<7} {:<16} {} {}{late}",
        copy.copy_id,
        last_day(copy.destroy_time),
        code(copy.kind().as_str_name(), "COPY_KIND_"),
        copy.purpose,
        copy.holder,
        outcome(copy)
    )
}
