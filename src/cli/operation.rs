//! `sandyq operation …`: long work, watched and steered.

use std::io::IsTerminal as _;

use clap::Subcommand;
use serde_json::json;

use super::{
    client::{self, operations, request_id},
    output::{Failure, Out, exit, instant, meter, refused, show_time},
};
use crate::grpc::pb;

/// Which operation, and where.
#[derive(clap::Args, Debug, Clone)]
pub(super) struct Which {
    #[command(flatten)]
    pub(super) client: client::Args,
    /// The operation, `opr_…`.
    pub(super) operation: String,
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// List operations, newest first.
    List {
        #[command(flatten)]
        client: client::Args,
        /// Platform; all that the caller may see, where absent.
        #[arg(long, default_value = "")]
        platform: String,
    },
    /// Print one operation.
    Show(Which),
    /// Follow an operation until it has ended. Ctrl-C ends the watching, and not the operation.
    Watch(Which),
    /// Stop an operation until it is resumed.
    Pause(Which),
    /// Let a paused operation go on.
    Resume {
        #[command(flatten)]
        which: Which,
        /// At most so many rows a second from now on; 0 for as many as go.
        #[arg(long)]
        rate: Option<u32>,
    },
    /// End an operation. What was done stays done.
    Cancel {
        #[command(flatten)]
        which: Which,
        /// Cancel indeed; without it nothing is changed, and the operation is printed.
        #[arg(long)]
        yes: bool,
    },
}

pub(super) async fn run(command: Command, out: &mut Out) -> Result<(), Failure> {
    match command {
        Command::List { client, platform } => list(&client, platform, out).await,
        Command::Show(which) => {
            let operation = get(&which).await?;
            print(&operation, out)
        }
        Command::Watch(which) => watch(&which, out).await,
        Command::Pause(which) => {
            let request = pb::PauseOperationRequest {
                request_id: request_id()?,
                operation_id: which.operation.clone(),
            };
            let answer = operations(which.client.connect().await?).pause_operation(request).await;
            print(&found(answer.map_err(refused)?.into_inner().operation)?, out)
        }
        Command::Resume { which, rate } => {
            let request = pb::ResumeOperationRequest {
                request_id: request_id()?,
                operation_id: which.operation.clone(),
                rate,
            };
            let answer = operations(which.client.connect().await?).resume_operation(request).await;
            print(&found(answer.map_err(refused)?.into_inner().operation)?, out)
        }
        Command::Cancel { which, yes } => {
            if !yes {
                print(&get(&which).await?, out)?;
                return Ok(out.note("nothing was changed; --yes cancels it")?);
            }
            let request = pb::CancelOperationRequest {
                request_id: request_id()?,
                operation_id: which.operation.clone(),
            };
            let answer = operations(which.client.connect().await?).cancel_operation(request).await;
            print(&found(answer.map_err(refused)?.into_inner().operation)?, out)
        }
    }
}

fn found(operation: Option<pb::Operation>) -> Result<pb::Operation, Failure> {
    operation.ok_or_else(|| Failure::new(exit::FAILED, "the vault answered no operation"))
}

async fn get(which: &Which) -> Result<pb::Operation, Failure> {
    let request = pb::GetOperationRequest { operation_id: which.operation.clone() };
    let answer = operations(which.client.connect().await?).get_operation(request).await;
    found(answer.map_err(refused)?.into_inner().operation)
}

async fn list(client: &client::Args, platform: String, out: &mut Out) -> Result<(), Failure> {
    let mut client = operations(client.connect().await?);
    let mut request = pb::ListOperationsRequest { platform, ..pb::ListOperationsRequest::default() };
    let mut all = Vec::new();
    loop {
        let page = client.list_operations(request.clone()).await.map_err(refused)?.into_inner();
        all.extend(page.operations);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    let json: Vec<_> = all.iter().map(as_json).collect();
    let lines: Vec<_> = all.iter().map(line).collect();
    Ok(out.data(&json!({ "operations": json }), &lines)?)
}

/// Follows an operation: a bar on a terminal, one JSON object or line for each change elsewhere.
pub(super) async fn watch(which: &Which, out: &mut Out) -> Result<(), Failure> {
    let request = pb::WatchOperationRequest { operation_id: which.operation.clone() };
    let mut client = operations(which.client.connect().await?);
    let mut steps = client.watch_operation(request).await.map_err(refused)?.into_inner();
    let mut last = None;
    let interrupt = tokio::signal::ctrl_c();
    tokio::pin!(interrupt);
    let mut pace = Pace::default();
    loop {
        tokio::select! {
            step = steps.message() => match step.map_err(refused)? {
                None => break,
                Some(step) => {
                    let operation = found(step.operation)?;
                    show(&operation, &mut pace, out)?;
                    last = Some(operation);
                }
            },
            _ = &mut interrupt => {
                out.progress_end();
                let again = format!("the operation goes on: sandyq operation watch {}", which.operation);
                return Ok(out.note(&again)?);
            }
        }
    }
    out.progress_end();
    let Some(operation) = last else {
        return Err(Failure::new(exit::FAILED, "the vault answered no operation"));
    };
    if !out.json {
        print(&operation, out)?;
    }
    if operation.state() == pb::OperationState::Done {
        return Ok(());
    }
    Err(Failure::new(exit::FAILED, format!("the operation is {}", state(&operation))))
}

/// How fast an operation goes, as far as it was watched.
#[derive(Default)]
struct Pace(Option<(std::time::Instant, i64)>);

impl Pace {
    /// Pieces a second, and seconds that are left; none before there is anything to tell from.
    fn of(&mut self, operation: &pb::Operation) -> Option<(i64, i64)> {
        let (since, first) = *self.0.get_or_insert((std::time::Instant::now(), operation.done));
        let millis = i64::try_from(since.elapsed().as_millis()).ok().filter(|millis| *millis > 0)?;
        let rate = (operation.done - first).checked_mul(1_000)? / millis;
        (rate > 0).then(|| (rate, (operation.total - operation.done) / rate))
    }
}

fn show(operation: &pb::Operation, pace: &mut Pace, out: &mut Out) -> Result<(), Failure> {
    let pace = pace.of(operation);
    if out.json {
        return Ok(out.data(&as_json(operation), &[])?);
    }
    if std::io::stderr().is_terminal() {
        out.progress(&bar(operation, pace));
        return Ok(());
    }
    Ok(out.note(&line(operation))?)
}

/// `rewrap  [#########...........]  45%  12,000 of 26,000  3,400/s  4 s left`
fn bar(operation: &pb::Operation, pace: Option<(i64, i64)>) -> String {
    let number = |number: i64| usize::try_from(number).unwrap_or(0);
    let bar = meter(number(operation.done), number(operation.total));
    let pace = pace.map(|(rate, left)| format!("  {rate}/s  {left} s left")).unwrap_or_default();
    format!("{:<8} {bar}{pace}", phase(operation))
}

fn phase(operation: &pb::Operation) -> String {
    if operation.phase.is_empty() { state(operation) } else { operation.phase.clone() }
}

fn state(operation: &pb::Operation) -> String {
    operation.state().as_str_name().trim_start_matches("OPERATION_STATE_").to_lowercase()
}

fn line(operation: &pb::Operation) -> String {
    let of = if operation.phase.is_empty() { String::new() } else { format!(" ({})", operation.phase) };
    format!(
        "{}  {:<20} {:<9}{of}  {} of {}  {}  {}",
        operation.operation_id,
        operation.kind,
        state(operation),
        operation.done,
        operation.total,
        operation.platform,
        show_time(operation.create_time)
    )
}

fn as_json(operation: &pb::Operation) -> serde_json::Value {
    json!({
        "operation_id": operation.operation_id, "platform": operation.platform, "kind": operation.kind,
        "state": state(operation), "phase": operation.phase, "key_version": operation.key_version,
        "done": operation.done, "total": operation.total, "rate": operation.rate,
        "create_time": instant(operation.create_time.as_ref()),
        "due_time": instant(operation.due_time.as_ref()), "end_time": instant(operation.end_time.as_ref()),
    })
}

/// Prints an operation.
pub(super) fn print(operation: &pb::Operation, out: &mut Out) -> Result<(), Failure> {
    let mut lines = vec![
        format!("operation  {}", operation.operation_id),
        format!("what       {} of platform {}", operation.kind, operation.platform),
        format!("state      {}", state(operation)),
    ];
    if !operation.phase.is_empty() {
        lines.push(format!("phase      {} of key version {}", operation.phase, operation.key_version));
    }
    lines.push(format!("done       {} of {}", operation.done, operation.total));
    lines.push(format!("began      {}", show_time(operation.create_time)));
    if operation.end_time.is_some() {
        lines.push(format!("ended      {}", show_time(operation.end_time)));
    }
    Ok(out.data(&as_json(operation), &lines)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bar_says_how_far_how_fast_and_how_long() {
        let operation =
            pb::Operation { done: 12, total: 40, phase: "rewrap".into(), ..pb::Operation::default() };
        let text = bar(&operation, Some((7, 4)));
        assert_eq!(text, "rewrap   [#########.....................]  30%  12 of 40  7/s  4 s left");
        let none = pb::Operation { state: pb::OperationState::Waiting.into(), ..pb::Operation::default() };
        assert_eq!(bar(&none, None), format!("waiting  [{}]   0%  0 of 0", ".".repeat(30)));
    }
}
