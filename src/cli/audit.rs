//! `sandyq audit`: heads, entries, proofs, exports, and the offline verifiers.

use std::{
    collections::BTreeMap,
    fs, io, iter,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use serde_json::json;
use tonic::transport::Channel;

use super::{
    audit_read,
    client::{self, audit},
    mirror,
    output::{Failure, Out, exit},
};
use crate::{
    audit::{
        chain::Handover,
        head::{HeadVerifier, SignedHead},
        layout::{CHECKPOINT, HEADS, RIGHT_EDGE, entries_path, tile_path},
        tree::{Hash, split, tile_width},
        verify::{Report, Verifier},
    },
    grpc::pb::{self, export_log_response::Piece},
};

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Print the newest signed head of a platform's log.
    Head {
        #[command(flatten)]
        client: client::Args,
        /// Platform.
        #[arg(long)]
        platform: String,
    },
    /// List entries of a platform's log.
    Entries(audit_read::EntriesArgs),
    /// Prove, and check here, that an entry is in the log or that the log extends an earlier one.
    Prove(audit_read::ProveArgs),
    /// Compare a platform's log with the rows that grant something.
    Reconcile {
        #[command(flatten)]
        client: client::Args,
        /// Platform.
        #[arg(long)]
        platform: String,
    },
    /// Write a platform's log into a directory, in the layout of C2SP tlog-tiles.
    Export {
        #[command(flatten)]
        client: client::Args,
        /// Platform.
        #[arg(long)]
        platform: String,
        /// Directory to make.
        #[arg(long, value_name = "DIR")]
        out: PathBuf,
        /// An earlier export of the same log: entries and heads that it has are left out. Verify the two together (`--archive`).
        #[arg(long, value_name = "EXPORT_DIR")]
        after: Option<PathBuf>,
    },
    /// Check an exported log, offline, against an audit key that was kept outside the installation.
    Verify {
        /// Directory of the export.
        dir: PathBuf,
        /// The audit key, `name+id+base64`, as `sandyq init` printed it, or a file with one on each line.
        #[arg(long)]
        key: String,
        /// The log that is expected, `installation/platform`.
        #[arg(long)]
        origin: Option<String>,
        /// A checkpoint kept from an earlier export: this one must extend it, so that a log cut back is found.
        #[arg(long, value_name = "FILE")]
        since: Option<PathBuf>,
        /// An earlier export of the same log, for entries that this one leaves out; as often as there are some. This one must
        /// extend it.
        #[arg(long, value_name = "EXPORT_DIR")]
        archive: Vec<PathBuf>,
    },
    /// Check a mirror, offline, against an audit key that was kept outside the installation.
    VerifyMirror(mirror::Args),
}

pub(super) async fn run(command: Command, out: &mut Out) -> Result<(), Failure> {
    match command {
        Command::Head { client, platform } => {
            let request = pb::GetHeadRequest { platform };
            let head = audit(client.connect().await?)
                .get_head(request)
                .await
                .map_err(|s| Failure::refused(&s))?
                .into_inner();
            out.data(
                &json!({ "checkpoint": head.checkpoint, "size": head.size }),
                &[head.checkpoint.trim_end().to_owned()],
            )?;
            Ok(())
        }
        Command::Entries(args) => audit_read::entries(&args, out).await,
        Command::Prove(args) => audit_read::prove(&args, out).await,
        Command::Reconcile { client, platform } => audit_read::reconcile(&client, platform, out).await,
        Command::Export { client, platform, out: dir, after } => {
            let from = after.as_deref().map_or(Ok(0), first_after)?;
            let exported = export(client.connect().await?, &platform, &dir, from).await?;
            out.data(
                &json!({ "entries": exported.size, "from": from, "verifier_key": exported.verifier_key }),
                &[
                    format!(
                        "{} entries written to {}",
                        exported.size.saturating_sub_unsigned(from),
                        dir.display()
                    ),
                    "verify with the audit key that `sandyq init` printed, not with one from the server"
                        .to_owned(),
                ],
            )?;
            Ok(())
        }
        Command::Verify { dir, key, origin, since, archive } => {
            let report = verify(Exported { dir: &dir, archives: &archive }, &key, since.as_deref())?;
            if origin.is_some_and(|origin| origin != report.origin) {
                let message = format!("this is the log of {}", report.origin);
                return Err(Failure::new(exit::NOT_VERIFIED, message));
            }
            print_report(&report, out)
        }
        Command::VerifyMirror(args) => mirror::run(&args, out).await,
    }
}

/// The keys that are trusted: one in the command line, or those of a file.
pub(super) fn trusted(key: &str) -> Result<HeadVerifier, Failure> {
    Ok(HeadVerifier::new(&key_text(key)?)?)
}

/// The text of the keys.
pub(super) fn key_text(key: &str) -> Result<String, Failure> {
    if Path::new(key).is_file() { Ok(fs::read_to_string(key)?) } else { Ok(key.to_owned()) }
}

/// Prints a report; a log that does not hold is a failure with a code of its own.
pub(super) fn print_report(report: &Report, out: &mut Out) -> Result<(), Failure> {
    let (json, mut lines) = describe(report);
    if report.holds() {
        lines.push("verified: up to this head nothing was changed, removed or added unseen".to_owned());
    }
    out.data(&json, &lines)?;
    verdict(report, "log")
}

/// A report for programs and for people.
pub(super) fn describe(report: &Report) -> (serde_json::Value, Vec<String>) {
    let findings: Vec<_> = report.findings.iter().map(ToString::to_string).collect();
    let handover = |of: &Handover| json!({ "size": of.size, "verifier_key": of.key });
    let handovers: Vec<_> = report.handovers.iter().map(handover).collect();
    let time = |t: Option<crate::domain::time::Timestamp>| t.map(|t| t.to_string());
    let mut lines = vec![format!("log       {}", report.origin), format!("entries   {}", report.size)];
    lines.push(format!("heads     {}", report.heads));
    if let (Some(first), Some(last)) = (time(report.first), time(report.last)) {
        lines.push(format!("from      {first}"));
        lines.push(format!("to        {last}"));
    }
    for handover in &report.handovers {
        lines.push(format!("audit key from entry {} on: {}", handover.size, handover.key));
    }
    lines.extend(findings.iter().map(|finding| format!("FINDING   {finding}")));
    if report.more_findings > 0 {
        lines.push(format!("FINDING   and {} more", report.more_findings));
    }
    let json = json!({
        "verified": report.holds(), "origin": report.origin, "entries": report.size, "heads": report.heads,
        "first": time(report.first), "last": time(report.last), "findings": findings,
        "more_findings": report.more_findings, "handovers": handovers,
    });
    (json, lines)
}

/// The failure of a report that does not hold.
pub(super) fn verdict(report: &Report, what: &str) -> Result<(), Failure> {
    if report.holds() {
        return Ok(());
    }
    let first = report.findings.first().map(ToString::to_string).unwrap_or_default();
    Err(Failure::new(exit::NOT_VERIFIED, format!("the {what} does not verify: {first}")))
}

/// Where an export goes on that leaves out what an earlier one has: at the bundle that was not whole then.
fn first_after(earlier: &Path) -> Result<u64, Failure> {
    let checkpoint = read_note(&earlier.join(CHECKPOINT)).map_err(|e| no_export(earlier, &e))?;
    let head = SignedHead::parse(&checkpoint).map_err(|bad| no_export(earlier, &bad))?;
    Ok(head.head().size / 256 * 256)
}

fn no_export(dir: &Path, problem: &dyn std::fmt::Display) -> Failure {
    Failure::new(exit::FAILED, format!("{} holds no exported log: {problem}", dir.display()))
}

/// Writes an export, with the entries from a position on, and answers what it holds.
pub(super) async fn export(
    channel: Channel,
    platform: &str,
    dir: &Path,
    from: u64,
) -> Result<pb::LogSummary, Failure> {
    fs::create_dir_all(dir)?;
    if fs::read_dir(dir)?.next().is_some() {
        return Err(Failure::new(exit::FAILED, format!("{} is not empty", dir.display())));
    }
    let request = pb::ExportLogRequest { platform: platform.to_owned(), entries_from: i64::try_from(from)? };
    let mut pieces = audit(channel).export_log(request).await.map_err(|s| Failure::refused(&s))?.into_inner();
    let (mut summary, mut complete) = (None, false);
    while let Some(next) = pieces.message().await.map_err(|s| Failure::refused(&s))? {
        match next.piece {
            Some(Piece::Summary(first)) => {
                write(dir, CHECKPOINT, first.checkpoint.as_bytes())?;
                summary = Some(first);
            }
            Some(piece) => complete = write_piece(dir, piece, summary.as_ref())?,
            None => {}
        }
    }
    match summary {
        Some(summary) if complete => Ok(summary),
        _ => Err(Failure::new(exit::FAILED, "the export broke off; try again into an empty directory")),
    }
}

/// Writes a piece; true for the last one.
fn write_piece(dir: &Path, piece: Piece, summary: Option<&pb::LogSummary>) -> Result<bool, Failure> {
    let malformed = || Failure::new(exit::FAILED, "the server sent a malformed export");
    let size = u64::try_from(summary.ok_or_else(malformed)?.size)?;
    match piece {
        Piece::Summary(_) => return Err(malformed()),
        Piece::Head(head) => {
            let second = head.second.ok_or_else(malformed)?.seconds;
            write(dir, &format!("{HEADS}/{second}"), head.checkpoint.as_bytes())?;
        }
        Piece::Tile(tile) => {
            let path = tile_path(tile.level.try_into()?, tile.index.try_into()?, tile.hashes.len() / 32);
            write(dir, &path, &tile.hashes)?;
        }
        Piece::EntryBundle(bundle) => {
            let index = bundle.index.try_into()?;
            write(dir, &entries_path(index, tile_width(size, 0, index)), &bundle.entries)?;
        }
        Piece::RightEdge(edge) => {
            let lines: String =
                edge.hashes.iter().map(|hash| data_encoding::HEXLOWER.encode(hash) + "\n").collect();
            write(dir, RIGHT_EDGE, lines.as_bytes())?;
            return Ok(true);
        }
    }
    Ok(false)
}

fn write(dir: &Path, path: &str, bytes: &[u8]) -> io::Result<()> {
    let file = dir.join(path);
    if let Some(parent) = file.parent() {
        fs::create_dir_all(parent)?;
    }
    fs::write(file, bytes)
}

/// An exported log, with earlier exports that have what it leaves out.
#[derive(Clone, Copy)]
pub(super) struct Exported<'a> {
    pub(super) dir: &'a Path,
    pub(super) archives: &'a [PathBuf],
}

impl<'a> Exported<'a> {
    /// Directories of the export and of the earlier ones.
    fn dirs(self) -> impl Iterator<Item = &'a Path> {
        iter::once(self.dir).chain(self.archives.iter().map(PathBuf::as_path))
    }

    /// The entries under a tile of level 0; those of an earlier export where this one has left them out.
    fn entries(self, index: u64, width: usize) -> Option<Vec<u8>> {
        let path = entries_path(index, width);
        self.dirs().find_map(|dir| fs::read(dir.join(&path)).ok())
    }
}

/// Replays an exported log.
pub(super) fn verify(export: Exported<'_>, key: &str, since: Option<&Path>) -> Result<Report, Failure> {
    verify_against(export, key, since, BTreeMap::new())
}

/// Replays an exported log, and compares it with roots of its mirror.
pub(super) fn verify_against(
    export: Exported<'_>,
    key: &str,
    since: Option<&Path>,
    mirrored: BTreeMap<u64, Hash>,
) -> Result<Report, Failure> {
    let dir = export.dir;
    let checkpoint = read_note(&dir.join(CHECKPOINT)).map_err(|e| no_export(dir, &e))?;
    let mut verifier = match Verifier::new(trusted(key)?, &checkpoint) {
        Ok(verifier) => verifier,
        Err(report) => return Ok(*report),
    };
    read_heads(dir, "", &mut verifier)?;
    for archive in export.archives {
        let name = format!("{}/", archive.display());
        let kept = read_note(&archive.join(CHECKPOINT)).map_err(|e| no_export(archive, &e))?;
        verifier.head(&format!("{name}{CHECKPOINT}"), &kept);
        read_heads(archive, &name, &mut verifier)?;
    }
    verifier.mirrored(mirrored);
    if let Some(since) = since {
        verifier.head("the earlier checkpoint", &read_note(since)?);
    }
    let size = verifier.size();
    for index in 0..size.div_ceil(256) {
        let width = tile_width(size, 0, index);
        let hashes = fs::read(dir.join(tile_path(0, index, width)));
        let entries = export.entries(index, width);
        let (Ok(hashes), Some(entries)) = (hashes, entries) else {
            // Nothing that comes after it can be compared; and nobody has vouched for the size yet.
            verifier.missing(format!("tile or entries {index} cannot be read"));
            return Ok(verifier.finish());
        };
        verifier.bundle(index, &hashes, &entries);
    }
    for level in 1..8_u8 {
        let hashes = size.checked_shr(8 * u32::from(level)).unwrap_or(0);
        for index in 0..hashes.div_ceil(256) {
            match fs::read(dir.join(tile_path(level, index, tile_width(size, level, index)))) {
                Ok(tile) => verifier.tile(level, index, &tile),
                Err(_) => verifier.missing(format!("tile {index} of level {level} cannot be read")),
            }
        }
    }
    match read_right_edge(dir) {
        Some(edge) => verifier.right_edge(&edge),
        None => verifier.missing("the right edge cannot be read".to_owned()),
    }
    Ok(verifier.finish())
}

/// Feeds the heads of single seconds in; findings call them by `within` and their path.
fn read_heads(dir: &Path, within: &str, verifier: &mut Verifier) -> Result<(), Failure> {
    let heads = match fs::read_dir(dir.join(HEADS)) {
        Ok(heads) => heads,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            verifier.missing(format!("{within}{HEADS} has no heads of single seconds"));
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    for head in heads {
        let path = head?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        verifier.head(&format!("{within}{HEADS}/{name}"), &read_note(&path)?);
    }
    Ok(())
}

/// A signed note. Bytes that are no text make it one that does not verify.
pub(super) fn read_note(path: &Path) -> io::Result<String> {
    Ok(String::from_utf8_lossy(&fs::read(path)?).into_owned())
}

fn read_right_edge(dir: &Path) -> Option<Vec<Hash>> {
    let text = fs::read_to_string(dir.join(RIGHT_EDGE)).ok()?;
    let mut bytes = Vec::new();
    for line in text.lines() {
        bytes.extend(data_encoding::HEXLOWER.decode(line.as_bytes()).ok()?);
    }
    split(&bytes)
}
