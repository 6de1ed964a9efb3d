//! `sandyq subject receipt`: receipts of erasures, to keep and to check.

use std::{fs, path::PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    audit::trusted,
    client::{self, subjects},
    output::{Failure, Out, exit, refused},
    subject::Which,
};
use crate::{
    audit::receipt::{Receipt, Verified},
    grpc::pb,
};

#[derive(clap::Args, Debug)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub(super) struct ReceiptArgs {
    #[command(subcommand)]
    command: Option<Command>,
    #[command(flatten)]
    client: client::Args,
    /// The platform's reference to the subject, or the vault's id `sub_…`.
    #[arg(required = true)]
    subject: Option<String>,
    /// Platform, for staff; a platform's own callers leave it out.
    #[arg(long, default_value = "")]
    platform: String,
    /// Also check what the vault gives: the audit key, `name+id+base64`, as `sandyq init` printed it, or a file with one on
    /// each line.
    #[arg(long)]
    key: Option<String>,
    /// Also write the receipts into this file, for `subject receipt verify`; it must not exist yet.
    #[arg(long, value_name = "FILE")]
    out: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Check kept receipts, offline, against an audit key that was kept outside the installation.
    Verify {
        /// File that `--out` wrote, or what `--json` printed, or one receipt of it.
        file: PathBuf,
        /// The audit key, `name+id+base64`, as `sandyq init` printed it, or a file with one on each line: where it was replaced
        /// since, the older and the newer are wanted.
        #[arg(long)]
        key: String,
        /// The subject that the receipts must be of (`sub_…`).
        #[arg(long)]
        subject: Option<String>,
    },
}

pub(super) async fn run(args: ReceiptArgs, out: &mut Out) -> Result<(), Failure> {
    match args {
        ReceiptArgs { command: Some(Command::Verify { file, key, subject }), .. } => {
            let told = check(&read(&file)?, &key, subject.as_deref())?;
            print(&told, true, None, out)
        }
        ReceiptArgs { client, subject: Some(subject), platform, key, out: file, .. } => {
            let which = Which { client, subject, platform };
            let receipts = ask(&which).await?;
            let told = match &key {
                Some(key) => check(&receipts, key, None)?,
                None => receipts.iter().map(stated).collect::<Result<_, _>>()?,
            };
            if let Some(file) = &file {
                let mut text = json!({ "receipts": documents(&receipts)? }).to_string();
                text.push('\n');
                fs::File::create_new(file)
                    .and_then(|mut made| std::io::Write::write_all(&mut made, text.as_bytes()))?;
            }
            print(&told, key.is_some(), Some(&receipts), out)
        }
        ReceiptArgs { .. } => Err(Failure::new(exit::USAGE, "name the subject, or `verify` a file")),
    }
}

/// What the vault has.
async fn ask(which: &Which) -> Result<Vec<Receipt>, Failure> {
    let request =
        pb::GetErasureReceiptsRequest { subject: Some(which.name()), platform: which.platform.clone() };
    let answer = subjects(which.client.connect().await?).get_erasure_receipts(request).await;
    let given = answer.map_err(refused)?.into_inner().receipts;
    if given.is_empty() {
        return Err(Failure::new(exit::FAILED, "this subject was never erased: there is no receipt"));
    }
    given.iter().map(|receipt| Ok(Receipt::parse(&receipt.document)?)).collect()
}

/// Receipts of a file.
fn read(file: &PathBuf) -> Result<Vec<Receipt>, Failure> {
    let unread = |why: &str| Failure::new(exit::FAILED, format!("{}: {why}", file.display()));
    let text = fs::read_to_string(file).map_err(|e| unread(&e.to_string()))?;
    let json: Value = serde_json::from_str(&text).map_err(|_| unread("not JSON"))?;
    let several = json.get("receipts").and_then(Value::as_array).cloned();
    let all = several.unwrap_or_else(|| vec![json]);
    if all.is_empty() {
        return Err(unread("no receipt in it"));
    }
    all.iter().map(|one| Receipt::parse(&one.to_string()).map_err(|e| unread(&e.to_string()))).collect()
}

/// A receipt as told, and whether anybody checked it.
struct Told {
    json: Value,
    lines: Vec<String>,
}

fn check(receipts: &[Receipt], key: &str, subject: Option<&str>) -> Result<Vec<Told>, Failure> {
    let keys = trusted(key)?;
    let unproven =
        |why: &str| Failure::new(exit::NOT_VERIFIED, format!("the receipt does not verify: {why}"));
    let mut told = Vec::new();
    for receipt in receipts {
        let verified = receipt.verify(&keys).map_err(|bad| unproven(&bad.to_string()))?;
        let of = verified.statement.subject.to_string();
        if subject.is_some_and(|subject| subject != of) {
            return Err(unproven(&format!("it is of {of}")));
        }
        told.push(proven(&verified));
    }
    Ok(told)
}

fn proven(verified: &Verified) -> Told {
    let Verified { statement, position, head } = verified;
    let mut lines = vec![
        format!("receipt   {} {}", statement.kind, statement.time),
        format!("log       {}", statement.origin),
        format!("subject   {}", statement.subject),
        format!("entry     {}, at position {position} of {} entries", statement.entry, head.size),
    ];
    lines.push(format!("says      {}", statement.says));
    let backups = statement.backups.map(|limit| limit.until.to_string());
    let json = json!({
        "kind": statement.kind.as_str(), "time": statement.time.to_string(), "origin": statement.origin,
        "subject_id": statement.subject.to_string(), "entry_id": statement.entry.to_string(), "position": position,
        "log_size": head.size, "erased_at": statement.erased_at.to_string(),
        "destroy_at": statement.destroy_at.to_string(), "backups_until": backups, "says": statement.says,
    });
    Told { json, lines }
}

/// The same of one that nobody checked: the vault's word.
fn stated(receipt: &Receipt) -> Result<Told, Failure> {
    Ok(proven(&receipt.unchecked()?))
}

fn documents(receipts: &[Receipt]) -> Result<Vec<Value>, Failure> {
    receipts.iter().map(|receipt| Ok(serde_json::to_value(receipt)?)).collect()
}

fn print(told: &[Told], verified: bool, receipts: Option<&[Receipt]>, out: &mut Out) -> Result<(), Failure> {
    let mut lines = Vec::new();
    for one in told {
        lines.extend(one.lines.iter().cloned());
        lines.push(String::new());
    }
    lines.push(if verified {
        "verified: the audit key signed it, and the log has it".to_owned()
    } else {
        "not verified: say --key with the audit key that was kept outside the installation".to_owned()
    });
    let mut json =
        json!({ "verified": verified, "told": told.iter().map(|one| &one.json).collect::<Vec<_>>() });
    if let (Some(receipts), Some(object)) = (receipts, json.as_object_mut()) {
        object.insert("receipts".to_owned(), documents(receipts)?.into());
    }
    Ok(out.data(&json, &lines)?)
}
