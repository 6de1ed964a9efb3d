//! `sandyq platform budget set|list`.

use std::collections::HashMap;

use clap::Subcommand;
use serde_json::json;

use super::{applied, caller, service};
use crate::{
    cli::{
        client::{self, request_id},
        output::{Failure, Out, instant, refused},
    },
    domain::operation::BudgetLimit,
    grpc::pb,
};

#[derive(Subcommand, Debug)]
pub(in crate::cli) enum Command {
    /// DANGEROUS: set what a caller may spend of a kind in a window of time. A high limit lets whoever has the caller's
    /// certificate guess more values, or erase more people, before anybody is asked.
    Set {
        #[command(flatten)]
        client: client::Args,
        #[command(flatten)]
        who: caller::Who,
        /// `enumeration` (questions that found nothing), `erasure`, or values that leave for one purpose: `disclosure_hour`,
        /// `disclosure_day`.
        #[arg(long, value_parser = kind)]
        kind: pb::BudgetKind,
        /// Most in one window; 0 refuses all, `none` nothing.
        #[arg(long, value_parser = limit)]
        limit: u64,
        /// Length of a window in seconds, 60 to 2592000; values are counted by the hour or by the day.
        #[arg(long, value_name = "SECONDS", required_if_eq_any([("kind", "enumeration"), ("kind", "erasure")]))]
        window: Option<u32>,
    },
    /// List budgets of a platform's callers, and what is spent.
    List {
        #[command(flatten)]
        client: client::Args,
        /// Platform.
        #[arg(long)]
        platform: String,
    },
}

fn kind(text: &str) -> Result<pb::BudgetKind, String> {
    match text {
        "enumeration" => Ok(pb::BudgetKind::Enumeration),
        "erasure" => Ok(pb::BudgetKind::Erasure),
        "disclosure_hour" => Ok(pb::BudgetKind::DisclosureHour),
        "disclosure_day" => Ok(pb::BudgetKind::DisclosureDay),
        _ => Err("`enumeration`, `erasure`, `disclosure_hour` or `disclosure_day`".to_owned()),
    }
}

fn limit(text: &str) -> Result<u64, String> {
    if text == "none" {
        return Ok(BudgetLimit::UNLIMITED);
    }
    text.parse().map_err(|_| "a number, or `none`".to_owned())
}

/// The window that a kind has in its name.
const fn window_of(kind: pb::BudgetKind) -> u32 {
    match kind {
        pb::BudgetKind::DisclosureHour => 3_600,
        pb::BudgetKind::DisclosureDay => 86_400,
        pb::BudgetKind::Enumeration | pb::BudgetKind::Erasure | pb::BudgetKind::Unspecified => 0,
    }
}

pub(super) async fn run(command: Command, out: &mut Out) -> Result<(), Failure> {
    match command {
        Command::Set { client, who, kind, limit, window } => {
            let mut service = service(&client).await?;
            let of = who.find(&mut service).await?;
            let request = pb::SetBudgetRequest {
                request_id: request_id()?,
                caller_id: of.caller_id.clone(),
                kind: kind.into(),
                limit,
                window_seconds: window.unwrap_or_else(|| window_of(kind)),
            };
            let answer = service.set_budget(request).await.map_err(refused)?;
            print(out, &[applied!(answer, set_budget_response)?], &[of])
        }
        Command::List { client, platform } => {
            let mut service = service(&client).await?;
            let callers = caller::list(&mut service, &platform).await?;
            let (mut all, mut page_token) = (Vec::new(), String::new());
            loop {
                let request = pb::ListBudgetsRequest { platform: platform.clone(), page_size: 0, page_token };
                let page = service.list_budgets(request).await.map_err(refused)?.into_inner();
                all.extend(page.budgets);
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    return print(out, &all, &callers);
                }
            }
        }
    }
}

fn print(out: &mut Out, all: &[pb::Budget], callers: &[pb::Caller]) -> Result<(), Failure> {
    let names: HashMap<_, _> = callers.iter().map(|c| (c.caller_id.as_str(), c.name.as_str())).collect();
    let name = |b: &pb::Budget| names.get(b.caller_id.as_str()).copied().unwrap_or_default();
    let kind = |b: &pb::Budget| match b.kind() {
        pb::BudgetKind::Enumeration => "enumeration",
        pb::BudgetKind::Erasure => "erasure",
        pb::BudgetKind::DisclosureHour => "disclosure_hour",
        pb::BudgetKind::DisclosureDay => "disclosure_day",
        pb::BudgetKind::Unspecified => "unknown",
    };
    let json: Vec<_> = all
        .iter()
        .map(|b| {
            json!({
                "caller_id": b.caller_id, "caller": name(b), "kind": kind(b), "limit": b.limit,
                "window_seconds": b.window_seconds, "spent": b.spent,
                "purpose": Some(&b.purpose).filter(|purpose| !purpose.is_empty()), "window_began_at": instant(b.window_start_time.as_ref()),
            })
        })
        .collect();
    let lines: Vec<_> = all
        .iter()
        .map(|b| {
            let spent = if b.limit >= BudgetLimit::UNLIMITED {
                "no limit".to_owned()
            } else {
                format!("{} of {} in {} s", b.spent, b.limit, b.window_seconds)
            };
            format!("{}  {:<16} {:<15} {spent} {}", b.caller_id, name(b), kind(b), b.purpose)
                .trim_end()
                .to_owned()
        })
        .collect();
    out.data(&json!({ "budgets": json }), &lines)?;
    Ok(())
}
