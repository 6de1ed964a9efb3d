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
        /// `enumeration` (questions that found nothing) or `erasure`.
        #[arg(long, value_parser = kind)]
        kind: pb::BudgetKind,
        /// Most in one window; 0 refuses all.
        #[arg(long)]
        limit: u64,
        /// Length of a window in seconds, 60 to 2592000.
        #[arg(long, value_name = "SECONDS")]
        window: u32,
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
        _ => Err("`enumeration` or `erasure`".to_owned()),
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
                window_seconds: window,
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
        pb::BudgetKind::Unspecified => "unknown",
    };
    let json: Vec<_> = all
        .iter()
        .map(|b| {
            json!({
                "caller_id": b.caller_id, "caller": name(b), "kind": kind(b), "limit": b.limit,
                "window_seconds": b.window_seconds, "spent": b.spent,
                "window_began_at": instant(b.window_start_time.as_ref()),
            })
        })
        .collect();
    let lines: Vec<_> = all
        .iter()
        .map(|b| {
            let spent = format!("{} of {} in {} s", b.spent, b.limit, b.window_seconds);
            format!("{}  {:<16} {:<12} {spent}", b.caller_id, name(b), kind(b))
        })
        .collect();
    out.data(&json!({ "budgets": json }), &lines)?;
    Ok(())
}
