//! `sandyq retention …`: what ends when, and the sweep that destroys it.

mod page;

use std::{collections::BTreeMap, fs, io::Write as _, path::PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::{
    client::{self, request_id, retention},
    operation::{self, Which},
    output::{Failure, Out, exit, refused},
};
use crate::grpc::pb;

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Say what ends when: a table, JSON, or a page with a chart. Changes nothing.
    Plan {
        #[command(flatten)]
        client: client::Args,
        /// Platform.
        #[arg(long)]
        platform: String,
        /// Write a page with a chart into this file, which must not be there yet.
        #[arg(long)]
        html: Option<PathBuf>,
    },
    /// Destroy every record whose time is over. It also runs by itself once a day.
    Sweep {
        #[command(flatten)]
        client: client::Args,
        /// Platform.
        #[arg(long)]
        platform: String,
        /// At most so many subjects a second; 0 for as many as go.
        #[arg(long, default_value_t = 0)]
        rate: u32,
        /// Only say what would be destroyed now.
        #[arg(long)]
        dry_run: bool,
        /// Follow it until it has ended. Ctrl-C ends the watching, and not the sweep.
        #[arg(long)]
        watch: bool,
        /// Destroy indeed; without it nothing is changed, and what would be destroyed is printed.
        #[arg(long)]
        yes: bool,
    },
}

pub(super) async fn run(command: Command, out: &mut Out) -> Result<(), Failure> {
    match command {
        Command::Plan { client, platform, html } => {
            let plan = Plan::read(&client, &platform, out).await?;
            match html {
                Some(path) => plan.write_page(&path, out),
                None => plan.print(out),
            }
        }
        Command::Sweep { client, platform, rate, dry_run, watch, yes } => {
            if dry_run || !yes {
                let plan = Plan::read(&client, &platform, out).await?;
                plan.only(pb::RetentionFate::Over).print(out)?;
                return Ok(out.note("nothing was changed; --yes destroys what is over")?);
            }
            sweep(&client, &platform, rate, watch, out).await
        }
    }
}

async fn sweep(
    client: &client::Args,
    platform: &str,
    rate: u32,
    watch: bool,
    out: &mut Out,
) -> Result<(), Failure> {
    let request =
        pb::SweepRetentionRequest { request_id: request_id()?, platform: platform.to_owned(), rate };
    let answer = retention(client.connect().await?).sweep_retention(request).await.map_err(refused)?;
    let begun = answer.into_inner().operation;
    let begun = begun.ok_or_else(|| Failure::new(exit::FAILED, "the vault answered no operation"))?;
    if watch {
        return operation::watch(&Which { client: client.clone(), operation: begun.operation_id }, out).await;
    }
    operation::print(&begun, out)?;
    Ok(out.note(&format!("it goes on by itself: sandyq operation watch {}", begun.operation_id))?)
}

/// Records that stand alike; sorted as they are shown.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Row {
    fate: i32,
    month: String,
    field: String,
    purpose: String,
    clause: String,
    missing: Vec<String>,
}

impl Row {
    fn fate(&self) -> pb::RetentionFate {
        pb::RetentionFate::try_from(self.fate).unwrap_or_default()
    }
}

/// The sums of all pages.
#[derive(Debug, Default)]
struct Plan {
    platform: String,
    rows: BTreeMap<Row, i64>,
    subjects: i64,
}

impl Plan {
    async fn read(client: &client::Args, platform: &str, out: &mut Out) -> Result<Self, Failure> {
        let mut calls = retention(client.connect().await?);
        let mut plan = Self { platform: platform.to_owned(), ..Self::default() };
        let mut request =
            pb::PlanRetentionRequest { platform: platform.to_owned(), ..pb::PlanRetentionRequest::default() };
        loop {
            let page = calls.plan_retention(request.clone()).await.map_err(refused)?.into_inner();
            for row in page.rows {
                let (fate, records) = (row.fate, row.records);
                let pb::RetentionRow { month, field, purpose, clause, missing_events: missing, .. } = row;
                let sum = plan.rows.entry(Row { fate, month, field, purpose, clause, missing }).or_default();
                *sum = sum.saturating_add(records);
            }
            plan.subjects = plan.subjects.saturating_add(page.subjects);
            request.page_token = page.next_page_token;
            if request.page_token.is_empty() {
                out.progress_end();
                return Ok(plan);
            }
            out.progress(&format!("{} subjects", plan.subjects));
        }
    }

    fn only(self, fate: pb::RetentionFate) -> Self {
        let rows = self.rows.into_iter().filter(|(row, _)| row.fate() == fate).collect();
        Self { rows, ..self }
    }

    fn records_of(&self, fate: pb::RetentionFate) -> i64 {
        self.rows.iter().filter(|(row, _)| row.fate() == fate).map(|(_, records)| records).sum()
    }

    fn print(&self, out: &mut Out) -> Result<(), Failure> {
        let rows: Vec<_> = self
            .rows
            .iter()
            .map(|(row, records)| {
                json!({
                    "fate": code(row.fate()), "month": row.month, "field": row.field, "purpose": row.purpose,
                    "clause": row.clause, "missing_events": row.missing, "records": records,
                })
            })
            .collect();
        let mut lines: Vec<_> = self.rows.iter().map(|(row, records)| line(row, *records)).collect();
        if lines.is_empty() {
            lines.push("no record".to_owned());
        }
        lines.push(format!("{} subjects looked at", self.subjects));
        let json = json!({ "platform": self.platform, "subjects": self.subjects, "rows": rows });
        Ok(out.data(&json, &lines)?)
    }

    fn write_page(&self, path: &std::path::Path, out: &mut Out) -> Result<(), Failure> {
        let mut file = fs::File::options().create_new(true).write(true).open(path)?;
        file.write_all(page::render(self).as_bytes())?;
        let lines = [format!("{} shows what ends when", path.display())];
        Ok(out.data(&json!({ "platform": self.platform, "page": path }), &lines)?)
    }
}

const FATES: [(pb::RetentionFate, &str); 6] = [
    (pb::RetentionFate::Over, "over: the next sweep destroys it"),
    (pb::RetentionFate::Ends, "ends at a date"),
    (pb::RetentionFate::KeptByLaw, "kept by a law, restricted"),
    (pb::RetentionFate::Waits, "waits for an event"),
    (pb::RetentionFate::Unclaimed, "no consent ever covered it"),
    (pb::RetentionFate::Blocked, "blocked: nothing is destroyed"),
];

fn code(fate: pb::RetentionFate) -> String {
    fate.as_str_name().trim_start_matches("RETENTION_FATE_").to_lowercase()
}

fn line(row: &Row, records: i64) -> String {
    let month = if row.month.is_empty() { "no date" } else { &row.month };
    let mut line = format!("{:<11} {month:<7} {:<18} {records:>10} records", code(row.fate()), row.field);
    if !row.purpose.is_empty() {
        line = format!("{line}  {} ({})", row.purpose, row.clause);
    }
    if row.missing.is_empty() {
        return line;
    }
    let says = if row.fate() == pb::RetentionFate::Waits { "waits for" } else { "not recorded:" };
    format!("{line}; {says} {}", row.missing.join(", "))
}
