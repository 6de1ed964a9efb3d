//! `sandyq proposal list|show|approve|reject`.

use std::io::{self, IsTerminal as _, Write as _};

use clap::Subcommand;
use data_encoding::HEXLOWER;
use serde_json::{Value, json};
use tonic::transport::Channel;

use super::{
    client::{self, proposals, request_id},
    output::{Failure, Out, exit, instant, refused},
};
use crate::grpc::pb::{self, proposal_service_client::ProposalServiceClient};

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// List what waits for a second person, of calls that you may make yourself.
    List {
        #[command(flatten)]
        client: client::Args,
        /// Platform; without it all that you may see.
        #[arg(long, default_value = "")]
        platform: String,
        /// Those that ended, too.
        #[arg(long)]
        all: bool,
    },
    /// Print what would be done, by whom it was proposed, and the hash that an approval binds.
    Show {
        #[command(flatten)]
        client: client::Args,
        /// Id, `prp_…`.
        proposal: String,
    },
    /// DANGEROUS: let it happen. Read the plan first: you answer for it as its proposer does.
    Approve {
        #[command(flatten)]
        client: client::Args,
        /// Id, `prp_…`.
        proposal: String,
        /// Hash of the plan that you approve, 64 hexadecimal digits; without it the plan is printed.
        #[arg(long, value_name = "HEX")]
        hash: Option<String>,
        /// Do not ask.
        #[arg(long)]
        yes: bool,
    },
    /// End a proposal: your own, or one that you could have approved.
    Reject {
        #[command(flatten)]
        client: client::Args,
        /// Id, `prp_…`.
        proposal: String,
    },
}

type Service = ProposalServiceClient<Channel>;

pub(super) async fn run(command: Command, out: &mut Out) -> Result<(), Failure> {
    match command {
        Command::List { client, platform, all } => list(&client, &platform, all, out).await,
        Command::Show { client, proposal } => {
            let mut service = proposals(client.connect().await?);
            let found = get(&mut service, proposal).await?;
            let record = found.proposal.clone().unwrap_or_default();
            out.data(&shown_json(&found, &record), &shown_lines(&found, &record))?;
            Ok(())
        }
        Command::Approve { client, proposal, hash, yes } => approve(&client, proposal, hash, yes, out).await,
        Command::Reject { client, proposal } => {
            let request = pb::RejectProposalRequest { request_id: request_id()?, proposal_id: proposal };
            let mut service = proposals(client.connect().await?);
            let answer = service.reject_proposal(request).await.map_err(refused)?.into_inner();
            print(answer.proposal, out)
        }
    }
}

async fn list(client: &client::Args, platform: &str, all: bool, out: &mut Out) -> Result<(), Failure> {
    let mut service = proposals(client.connect().await?);
    let state = if all { pb::ProposalState::Unspecified } else { pb::ProposalState::Open };
    let (mut found, mut damaged, mut page_token) = (Vec::new(), Vec::new(), String::new());
    loop {
        let request = pb::ListProposalsRequest {
            platform: platform.to_owned(),
            state: state.into(),
            page_size: 0,
            page_token,
        };
        let page = service.list_proposals(request).await.map_err(refused)?.into_inner();
        found.extend(page.proposals);
        damaged.extend(page.damaged_proposal_ids);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    let json: Vec<_> = found.iter().map(record_json).collect();
    let mut lines: Vec<_> = found.iter().map(line).collect();
    lines.extend(damaged.iter().map(|id| format!("DAMAGED      {id}: its row was changed behind the vault")));
    out.data(&json!({ "proposals": json, "damaged": damaged }), &lines)?;
    Ok(())
}

async fn approve(
    client: &client::Args,
    proposal: String,
    hash: Option<String>,
    yes: bool,
    out: &mut Out,
) -> Result<(), Failure> {
    let mut service = proposals(client.connect().await?);
    let named = hash.map(|hash| sha256(&hash)).transpose()?;
    let plan_sha256 = match named {
        Some(hash) if yes => hash,
        named => {
            let found = get(&mut service, proposal.clone()).await?;
            let record = found.proposal.clone().unwrap_or_default();
            for line in shown_lines(&found, &record) {
                out.note(&line)?;
            }
            let seen = record.proposal.unwrap_or_default().plan_sha256;
            if named.is_some_and(|named| named != seen) {
                return Err(Failure::new(exit::FAILED, "the proposal has another plan than --hash names"));
            }
            if !yes {
                confirm()?;
            }
            seen
        }
    };
    let request =
        pb::ApproveProposalRequest { request_id: request_id()?, proposal_id: proposal, plan_sha256 };
    let answer = service.approve_proposal(request).await.map_err(refused)?.into_inner();
    let record = answer.proposal.unwrap_or_default();
    if state(&record) == "failed" {
        let reason = &record.failure_reason;
        return Err(Failure::new(
            exit::REFUSED,
            format!("it could not be done any more: {reason}; nothing was changed"),
        ));
    }
    print(Some(record), out)
}

/// Asks the person at the terminal; where nobody sits at one, `--yes` must say it.
fn confirm() -> Result<(), Failure> {
    if !io::stdin().is_terminal() {
        return Err(Failure::new(
            exit::USAGE,
            "nobody can be asked here: say --yes, with --hash, to approve",
        ));
    }
    let mut stderr = io::stderr().lock();
    write!(stderr, "Approve exactly this? [yes/no] ")?;
    stderr.flush()?;
    let mut answer = String::new();
    io::stdin().read_line(&mut answer)?;
    if answer.trim() == "yes" { Ok(()) } else { Err(Failure::new(exit::FAILED, "not approved")) }
}

fn sha256(text: &str) -> Result<Vec<u8>, Failure> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok();
    bytes
        .filter(|bytes| bytes.len() == 32)
        .ok_or_else(|| Failure::new(exit::USAGE, "--hash: 64 hexadecimal digits are expected"))
}

async fn get(service: &mut Service, proposal_id: String) -> Result<pb::GetProposalResponse, Failure> {
    let request = pb::GetProposalRequest { proposal_id };
    Ok(service.get_proposal(request).await.map_err(refused)?.into_inner())
}

fn print(record: Option<pb::ProposalRecord>, out: &mut Out) -> Result<(), Failure> {
    let record = record.unwrap_or_default();
    out.data(&json!({ "proposal": record_json(&record) }), &[line(&record)])?;
    Ok(())
}

fn state(record: &pb::ProposalRecord) -> String {
    let state = record.proposal.as_ref().map_or(pb::ProposalState::Unspecified, pb::Proposal::state);
    state.as_str_name().trim_start_matches("PROPOSAL_STATE_").to_lowercase()
}

fn record_json(record: &pb::ProposalRecord) -> Value {
    let proposal = record.proposal.clone().unwrap_or_default();
    json!({
        "proposal_id": proposal.proposal_id, "call": proposal.kind, "platform": proposal.platform,
        "state": state(record), "plan_sha256": HEXLOWER.encode(&proposal.plan_sha256),
        "proposer": record.proposer_handle, "proposer_person_id": record.proposer_person_id,
        "proposed_at": instant(proposal.propose_time.as_ref()),
        "expires_at": instant(proposal.expire_time.as_ref()),
        "ended_by_person_id": record.end_person_id, "ended_at": instant(record.end_time.as_ref()),
        "failure_reason": record.failure_reason,
    })
}

fn line(record: &pb::ProposalRecord) -> String {
    let proposal = record.proposal.clone().unwrap_or_default();
    let end = match instant(proposal.expire_time.as_ref()) {
        Some(until) if state(record) == "open" => format!("until {until}"),
        _ => format!("{} {}", state(record), record.failure_reason).trim_end().to_owned(),
    };
    let place = &proposal.platform;
    format!(
        "{}  {:<34} {place:<16} by {}  {end}",
        proposal.proposal_id, proposal.kind, record.proposer_handle
    )
}

fn shown_json(found: &pb::GetProposalResponse, record: &pb::ProposalRecord) -> Value {
    let request: Option<Value> = serde_json::from_str(&found.request_json).ok();
    json!({
        "proposal": record_json(record), "summary": found.summary, "request": request,
        "withheld": found.withheld_fields,
    })
}

/// The plan as a person reads it.
fn shown_lines(found: &pb::GetProposalResponse, record: &pb::ProposalRecord) -> Vec<String> {
    let proposal = record.proposal.clone().unwrap_or_default();
    let mut lines = vec![
        format!("proposal     {}", proposal.proposal_id),
        format!("would        {}", found.summary),
        format!("call         {} on {}", proposal.kind, proposal.platform),
        format!("proposed by  {} ({})", record.proposer_handle, record.proposer_person_id),
        format!("at           {}", instant(proposal.propose_time.as_ref()).unwrap_or_default()),
        format!("until        {}", instant(proposal.expire_time.as_ref()).unwrap_or_default()),
        format!("state        {} {}", state(record), record.failure_reason).trim_end().to_owned(),
        format!("hash         {}", HEXLOWER.encode(&proposal.plan_sha256)),
    ];
    let fields: Option<serde_json::Map<String, Value>> = serde_json::from_str(&found.request_json).ok();
    for (name, value) in fields.into_iter().flatten() {
        match value.as_str() {
            Some(text) if text.contains('\n') => {
                lines.push(format!("  {name}:"));
                lines.extend(text.lines().map(|line| format!("    {line}")));
            }
            Some(text) => lines.push(format!("  {name}: {text}")),
            None => lines.push(format!("  {name}: {value}")),
        }
    }
    lines.extend(found.withheld_fields.iter().map(|name| format!("  {name}: (personal; not shown)")));
    lines.iter().map(|line| printable(line)).collect()
}

/// A line that shows what it holds: whoever proposes must not be able to hide a part of it on the approver's terminal.
fn printable(line: &str) -> String {
    let hides = |c: char| {
        c.is_control()
            || matches!(c, '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{2069}' | '\u{feff}')
    };
    line.chars().map(|c| if hides(c) { c.escape_unicode().to_string() } else { c.to_string() }).collect()
}
