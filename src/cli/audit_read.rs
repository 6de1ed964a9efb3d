//! `sandyq audit entries|prove|reconcile`: questions to the log of a running vault.

use std::path::{Path, PathBuf};

use serde_json::json;

use super::{
    audit::{read_note, trusted},
    client::{self, audit},
    output::{Failure, Out, exit},
};
use crate::{
    audit::{
        head::{Head, HeadVerifier},
        proof::{check_consistency, check_inclusion},
        tree::{Hash, split},
    },
    domain::time::Timestamp,
    grpc::pb::{self, get_inclusion_proof_request::Entry},
};

/// Entries asked for at once.
const PAGE: i32 = 1_000;

#[derive(clap::Args, Debug)]
pub(super) struct EntriesArgs {
    #[command(flatten)]
    client: client::Args,
    /// Platform.
    #[arg(long)]
    platform: String,
    /// Only of this subject (`sub_…`).
    #[arg(long, default_value = "")]
    subject: String,
    /// Only of this caller (`cal_…`).
    #[arg(long, default_value = "")]
    caller: String,
    /// Only of this call, such as `VaultService/Detokenize`.
    #[arg(long, default_value = "")]
    call: String,
    /// Only with this verdict.
    #[arg(long, value_parser = ["permit", "deny", "done"])]
    verdict: Option<String>,
    /// Only written at this time or later (RFC 3339).
    #[arg(long, value_name = "TIME")]
    since: Option<jiff::Timestamp>,
    /// Only written before this time.
    #[arg(long, value_name = "TIME")]
    until: Option<jiff::Timestamp>,
    /// At most this many.
    #[arg(long, default_value_t = 100)]
    limit: usize,
}

pub(super) async fn entries(args: &EntriesArgs, out: &mut Out) -> Result<(), Failure> {
    let time = |time: jiff::Timestamp| prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    };
    let verdict = match args.verdict.as_deref() {
        Some("permit") => pb::Verdict::Permit,
        Some("deny") => pb::Verdict::Deny,
        Some("done") => pb::Verdict::Done,
        _ => pb::Verdict::Unspecified,
    };
    let mut request = pb::ListEntriesRequest {
        platform: args.platform.clone(),
        subject_id: args.subject.clone(),
        caller_id: args.caller.clone(),
        call: args.call.clone(),
        verdict: verdict.into(),
        since_time: args.since.map(time),
        until_time: args.until.map(time),
        page_size: PAGE,
        page_token: String::new(),
    };
    let mut client = audit(args.client.connect().await?);
    let mut entries = Vec::new();
    while entries.len() < args.limit {
        request.page_size = i32::try_from(args.limit - entries.len()).unwrap_or(PAGE).min(PAGE);
        let page = client.list_entries(request.clone()).await.map_err(|s| Failure::refused(&s))?.into_inner();
        entries.extend(page.entries);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    let more = !request.page_token.is_empty();
    let mut lines = table(&entries);
    if more {
        lines.push("there may be more; ask for them with --limit".to_owned());
    }
    let entries: Vec<_> = entries.iter().map(entry_json).collect();
    Ok(out.data(&json!({ "entries": entries, "more": more }), &lines)?)
}

fn entry_time(entry: &pb::AuditEntry) -> String {
    let micros = entry.entry_time.map_or(0, |t| t.seconds * 1_000_000 + i64::from(t.nanos / 1_000));
    Timestamp::from_micros(micros).to_string()
}

fn verdict_name(entry: &pb::AuditEntry) -> &'static str {
    match entry.verdict() {
        pb::Verdict::Permit => "permit",
        pb::Verdict::Deny => "deny",
        pb::Verdict::Done => "done",
        pb::Verdict::Unspecified => "",
    }
}

/// Columns as wide as their longest cell.
fn table(entries: &[pb::AuditEntry]) -> Vec<String> {
    let head = ["POSITION", "TIME", "CALL", "VERDICT", "REASON", "PURPOSE", "FIELD", "SUBJECT", "CALLER"];
    let mut rows = vec![head.map(str::to_owned)];
    rows.extend(entries.iter().map(|entry| {
        [
            entry.position.to_string(),
            entry_time(entry),
            entry.call.clone(),
            verdict_name(entry).to_owned(),
            entry.reason.clone(),
            entry.purpose.clone(),
            entry.field.clone(),
            entry.subject_id.clone(),
            entry.caller_id.clone(),
        ]
    }));
    let mut widths = [0; 9];
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = cell.chars().count().max(*width);
        }
    }
    let line = |row: &[String; 9]| {
        let cells: Vec<_> = row.iter().zip(widths).map(|(cell, width)| format!("{cell:<width$}")).collect();
        cells.join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// Every part that the entry has.
fn entry_json(entry: &pb::AuditEntry) -> serde_json::Value {
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let mut json = json!({
        "position": entry.position, "format": entry.format, "entry_id": entry.entry_id, "time": entry_time(entry),
        "platform_number": entry.platform_number, "call": entry.call, "verdict": verdict_name(entry),
    });
    let texts = [
        ("caller_id", entry.caller_id.clone()),
        ("person_id", entry.person_id.clone()),
        ("purpose", entry.purpose.clone()),
        ("view", entry.view.clone()),
        ("field", entry.field.clone()),
        ("subject_id", entry.subject_id.clone()),
        ("record_id", entry.record_id.clone()),
        ("token_id", entry.token_id.clone()),
        ("consent_id", entry.consent_id.clone()),
        ("object_kind", entry.object_kind.clone()),
        ("object_id", entry.object_id.clone()),
        ("row_mac", hex(&entry.row_mac)),
        ("recipient", entry.recipient.clone()),
        ("reference", entry.reference.clone()),
        ("reason", entry.reason.clone()),
        ("request_id", entry.request_id.clone()),
        ("replay_of", entry.replay_of.clone()),
        ("detail_sha256", hex(&entry.detail_sha256)),
    ];
    if let Some(object) = json.as_object_mut() {
        for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
            object.insert(name.to_owned(), text.into());
        }
        let numbers = [("policy_version", u64::from(entry.policy_version)), ("count", entry.count)];
        for (name, number) in numbers.into_iter().filter(|(_, number)| *number > 0) {
            object.insert(name.to_owned(), number.into());
        }
    }
    json
}

#[derive(clap::Args, Debug)]
#[group(id = "what", required = true, multiple = false, args = ["position", "entry", "since"])]
pub(super) struct ProveArgs {
    #[command(flatten)]
    client: client::Args,
    /// Platform.
    #[arg(long)]
    platform: String,
    /// The audit key, `name+id+base64`, as `sandyq init` printed it, or a file with one on each line.
    #[arg(long)]
    key: String,
    /// Prove that the entry at this position is in the log.
    #[arg(long, value_name = "N")]
    position: Option<i64>,
    /// Prove that the entry with this id (`ent_…`) is in the log.
    #[arg(long, value_name = "ID")]
    entry: Option<String>,
    /// Prove that the log extends the one of this checkpoint, kept from earlier.
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
}

/// Asks for a proof up to the newest head, and checks it here: the vault's word is not enough.
pub(super) async fn prove(args: &ProveArgs, out: &mut Out) -> Result<(), Failure> {
    match (&args.since, args.position, &args.entry) {
        (Some(since), ..) => prove_extension(args, since, out).await,
        (None, Some(position), _) => prove_entry(args, Entry::Position(position), out).await,
        (None, None, Some(id)) => prove_entry(args, Entry::EntryId(id.clone()), out).await,
        (None, None, None) => Err(Failure::new(exit::USAGE, "name what is to be proven")),
    }
}

async fn prove_entry(args: &ProveArgs, entry: Entry, out: &mut Out) -> Result<(), Failure> {
    let trusted = trusted(&args.key)?;
    let request =
        pb::GetInclusionProofRequest { platform: args.platform.clone(), entry: Some(entry), size: 0 };
    let answer = audit(args.client.connect().await?)
        .get_inclusion_proof(request)
        .await
        .map_err(|s| Failure::refused(&s))?
        .into_inner();
    let head = head(&trusted, &answer.checkpoint, &args.platform)?;
    let leaf = hashes(std::slice::from_ref(&answer.leaf_hash))?.pop().ok_or_else(|| unproven("no leaf"))?;
    let position = u64::try_from(answer.position)?;
    check_inclusion(&hashes(&answer.hashes)?, head.size, head.root, position, leaf)
        .map_err(|bad| unproven(&bad.to_string()))?;
    let leaf = data_encoding::HEXLOWER.encode(&leaf.0);
    out.data(
        &json!({ "proven": true, "position": position, "leaf_hash": leaf, "checkpoint": answer.checkpoint }),
        &[
            format!("proven: entry {position} is in the log of {} entries", head.size),
            format!("leaf hash  {leaf}"),
            answer.checkpoint.trim_end().to_owned(),
        ],
    )?;
    Ok(())
}

async fn prove_extension(args: &ProveArgs, since: &Path, out: &mut Out) -> Result<(), Failure> {
    let trusted = trusted(&args.key)?;
    let earlier = head(&trusted, &read_note(since)?, &args.platform)?;
    let request = pb::GetConsistencyProofRequest {
        platform: args.platform.clone(),
        from_size: i64::try_from(earlier.size)?,
        to_size: 0,
    };
    let answer = audit(args.client.connect().await?)
        .get_consistency_proof(request)
        .await
        .map_err(|s| Failure::refused(&s))?
        .into_inner();
    let head = head(&trusted, &answer.checkpoint, &args.platform)?;
    check_consistency(&hashes(&answer.hashes)?, head.size, head.root, earlier.size, earlier.root)
        .map_err(|bad| unproven(&bad.to_string()))?;
    out.data(
        &json!({ "proven": true, "from": earlier.size, "size": head.size, "checkpoint": answer.checkpoint }),
        &[
            format!("proven: the log of {} entries extends the one of {}", head.size, earlier.size),
            answer.checkpoint.trim_end().to_owned(),
        ],
    )?;
    Ok(())
}

fn unproven(why: &str) -> Failure {
    Failure::new(exit::NOT_VERIFIED, format!("not proven: {why}"))
}

/// A head of this platform's log that the key signed.
fn head(trusted: &HeadVerifier, checkpoint: &str, platform: &str) -> Result<Head, Failure> {
    let head = trusted.open(checkpoint).map_err(|bad| unproven(&bad.to_string()))?;
    if head.origin.rsplit_once('/').is_some_and(|(_, name)| name == platform) {
        Ok(head)
    } else {
        Err(unproven(&format!("the head is of {}", head.origin)))
    }
}

fn hashes(bytes: &[Vec<u8>]) -> Result<Vec<Hash>, Failure> {
    let malformed = || unproven("the server sent a malformed proof");
    if bytes.iter().any(|hash| hash.len() != 32) {
        return Err(malformed());
    }
    split(&bytes.concat()).ok_or_else(malformed)
}

/// Compares log and rows, with progress on stderr. Findings have an exit code of their own.
pub(super) async fn reconcile(client: &client::Args, platform: String, out: &mut Out) -> Result<(), Failure> {
    use pb::reconcile_log_response::Step;
    let request = pb::ReconcileLogRequest { platform };
    let mut steps = audit(client.connect().await?)
        .reconcile_log(request)
        .await
        .map_err(|s| Failure::refused(&s))?
        .into_inner();
    let mut result = None;
    while let Some(next) = steps.message().await.map_err(|s| Failure::refused(&s))? {
        match next.step {
            Some(Step::Progress(so_far)) => out.progress(&format!(
                "{} of {} entries replayed, {} rows compared",
                so_far.entries_read, so_far.size, so_far.rows_checked
            )),
            Some(Step::Result(last)) => result = Some(last),
            None => {}
        }
    }
    out.progress_end();
    let result = result.ok_or_else(|| Failure::new(exit::FAILED, "the comparison broke off; try again"))?;
    let findings: Vec<_> = result
        .findings
        .iter()
        .map(|finding| (finding.problem().as_str_name().replace("RECONCILE_PROBLEM_", ""), finding))
        .collect();
    let json: Vec<_> = findings
        .iter()
        .map(|(problem, finding)| {
            json!({ "problem": problem, "table": finding.table, "object_id": finding.object_id })
        })
        .collect();
    let mut lines = vec![format!("entries   {}", result.size), format!("rows      {}", result.rows_checked)];
    lines.extend(
        findings
            .iter()
            .map(|(problem, finding)| format!("FINDING   {problem} {} {}", finding.table, finding.object_id)),
    );
    if result.truncated {
        lines.push("FINDING   and more".to_owned());
    }
    if result.findings.is_empty() {
        lines.push("log and rows agree".to_owned());
    }
    out.data(
        &json!({
            "entries": result.size, "rows_checked": result.rows_checked, "findings": json,
            "truncated": result.truncated,
        }),
        &lines,
    )?;
    match findings.len() {
        0 => Ok(()),
        count => Err(Failure::new(exit::NOT_VERIFIED, format!("{count} rows are not as the log told"))),
    }
}
