//! `sandyq backup …`: backups begun and listed at the server, and verified offline.

use std::{path::PathBuf, sync::Arc};

use clap::Subcommand;
use serde_json::json;

use super::{
    audit::trusted,
    client::{self, backups, request_id},
    kms::open_kms,
    operation::{self, Which},
    output::{Failure, Out, exit, instant, refused, show_time},
    serve::BACKUP_LIMIT,
    territory::territory,
};
use crate::{
    blobs::backups::Backups,
    config::Config,
    domain::{ids::BackupId, time::Clock},
    grpc::pb,
    vault::backup::{BackupError, Manifest, Only, OpenBackup},
};

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Begin a backup of the whole installation.
    Start {
        #[command(flatten)]
        client: client::Args,
        /// Follow it until it has ended. Ctrl-C ends the watching, and not the backup.
        #[arg(long)]
        watch: bool,
    },
    /// List backups that are complete, newest first.
    List {
        #[command(flatten)]
        client: client::Args,
    },
    /// Print what one backup holds.
    Show {
        #[command(flatten)]
        client: client::Args,
        /// The backup, `bkp_…`.
        backup: BackupId,
    },
    /// Check a backup, offline: its signature, every part, and that its logs are whole. Asks the KMS for its key.
    Verify(At),
}

/// A backup in the place that a configuration names.
#[derive(clap::Args, Debug)]
pub(super) struct At {
    /// The backup, `bkp_…`.
    pub(super) backup: BackupId,
    /// The server's configuration: it names the place, and the root key.
    #[arg(long, value_name = "FILE", default_value = "sandyq.toml")]
    pub(super) config: PathBuf,
    /// The audit key, `name+id+base64`, as `sandyq init` printed it, or a file with one on each line.
    #[arg(long)]
    pub(super) key: String,
}

pub(super) async fn run(command: Command, out: &mut Out) -> Result<(), Failure> {
    match command {
        Command::Start { client, watch } => start(client, watch, out).await,
        Command::List { client } => list(&client, out).await,
        Command::Show { client, backup } => {
            let request = pb::GetBackupRequest { backup_id: backup.to_string() };
            let answer = backups(client.connect().await?).get_backup(request).await.map_err(refused)?;
            let found = answer.into_inner().backup.ok_or_else(nothing)?;
            Ok(out.data(&as_json(&found), &describe(&found))?)
        }
        Command::Verify(at) => verify(&at, out).await,
    }
}

fn nothing() -> Failure {
    Failure::new(exit::FAILED, "the vault answered no backup")
}

async fn start(client: client::Args, watch: bool, out: &mut Out) -> Result<(), Failure> {
    let request = pb::StartBackupRequest { request_id: request_id()? };
    let answer = backups(client.connect().await?).start_backup(request).await.map_err(refused)?;
    let begun = answer.into_inner().operation.ok_or_else(nothing)?;
    if !watch {
        operation::print(&begun, out)?;
        return Ok(out.note(&format!("watch it with: sandyq operation watch {}", begun.operation_id))?);
    }
    operation::watch(&Which { client, operation: begun.operation_id }, out).await
}

async fn list(client: &client::Args, out: &mut Out) -> Result<(), Failure> {
    let mut client = backups(client.connect().await?);
    let (mut request, mut all) = (pb::ListBackupsRequest::default(), Vec::new());
    loop {
        let page = client.list_backups(request.clone()).await.map_err(refused)?.into_inner();
        all.extend(page.backups);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    let line = |backup: &pb::Backup| {
        let (time, rows, size) = (show_time(backup.snapshot_time), backup.rows, backup.size_bytes);
        format!("{}  {time}  {rows} rows  {size} bytes  root {}", backup.backup_id, backup.root_version)
    };
    let json: Vec<_> = all.iter().map(as_json).collect();
    Ok(out.data(&json!({ "backups": json }), &all.iter().map(line).collect::<Vec<_>>())?)
}

fn as_json(backup: &pb::Backup) -> serde_json::Value {
    let log = |log: &pb::BackupLog| json!({ "platform": log.platform, "size": log.size, "checkpoint": log.checkpoint });
    json!({
        "backup_id": backup.backup_id, "snapshot_time": instant(backup.snapshot_time.as_ref()),
        "schema_version": backup.schema_version, "root_version": backup.root_version,
        "size_bytes": backup.size_bytes, "rows": backup.rows, "logs": backup.logs.iter().map(log).collect::<Vec<_>>(),
    })
}

fn describe(backup: &pb::Backup) -> Vec<String> {
    let mut lines = vec![
        format!("backup   {}", backup.backup_id),
        format!("of       {}", show_time(backup.snapshot_time)),
        format!("schema   {}", backup.schema_version),
        format!("root     version {}", backup.root_version),
        format!("rows     {}", backup.rows),
        format!("bytes    {}", backup.size_bytes),
    ];
    lines
        .extend(backup.logs.iter().map(|log| format!("log      {} with {} entries", log.platform, log.size)));
    lines
}

/// Opens a backup offline.
pub(super) async fn open(at: &At, config: &Config) -> Result<OpenBackup, Failure> {
    let place = config.backup.as_ref().map(|backup| config.resolve(&backup.directory));
    let place =
        place.ok_or_else(|| Failure::new(exit::FAILED, "the configuration names no [backup] directory"))?;
    let backups = Backups::open(&place, BACKUP_LIMIT)?;
    let clock = Arc::new(Clock::default());
    let kms = open_kms(config, &territory(config, &clock).await?, &clock)?;
    let trusted = trusted(&at.key)?;
    let opened = OpenBackup::open(backups, at.backup, &trusted, kms.as_ref()).await.map_err(unverified)?;
    if opened.manifest().installation == config.installation.name {
        return Ok(opened);
    }
    let message = format!("the backup is of installation {}", opened.manifest().installation);
    Err(Failure::new(exit::FAILED, message))
}

/// The failure of a backup that does not hold, with a code of its own.
pub(super) fn unverified(error: BackupError) -> Failure {
    let code = match error {
        BackupError::Unsigned(_)
        | BackupError::Manifest(_)
        | BackupError::Part { .. }
        | BackupError::Content(_)
        | BackupError::Log(_) => exit::NOT_VERIFIED,
        BackupError::Place(_)
        | BackupError::Store(_)
        | BackupError::Kms(_)
        | BackupError::RootGone(_)
        | BackupError::Lost => exit::FAILED,
    };
    Failure::new(code, Failure::from(error).message())
}

async fn verify(at: &At, out: &mut Out) -> Result<(), Failure> {
    let opened = open(at, &Config::load(&at.config)?).await?;
    let rows = opened.manifest().row_count();
    let read = opened.read(&mut Only(|done| out.progress(&format!("{done} of {rows} rows")))).await;
    out.progress_end();
    read.map_err(unverified)?;
    let mut lines = told(opened.manifest());
    lines.push("verified: signed, whole, and every log in it hashes to its signed head".to_owned());
    Ok(out.data(&json!({ "verified": true, "backup": opened.manifest() }), &lines)?)
}

/// A manifest for people.
pub(super) fn told(manifest: &Manifest) -> Vec<String> {
    let mut lines = vec![
        format!("backup   {} of {}", manifest.backup, manifest.installation),
        format!("of       {}", manifest.taken_at),
        format!("schema   {}", manifest.schema),
        format!("root     version {}", manifest.root_version),
        format!("rows     {}", manifest.row_count()),
        format!("bytes    {} in {} parts", manifest.bytes, manifest.parts),
    ];
    lines.extend(manifest.logs.iter().map(|log| format!("log      {} with {} entries", log.name, log.size)));
    lines
}
