//! `sandyq audit verify-mirror`.

use std::{collections::BTreeMap, path::PathBuf, sync::Arc, time::Duration};

use super::{
    audit::{Exported, describe, read_note, trusted, verdict, verify_against},
    output::{Failure, Out, exit},
    restore::configured_mirror,
    territory::territory,
};
use crate::{
    audit::{
        head::origin,
        mirror::{Claim, MirrorVerifier, Mirrored},
        tree::Hash,
        verify::Report,
    },
    blobs::{BlobError, mirror::MirrorReader},
    config::Config,
    domain::{names::PlatformName, time::Clock},
};

/// How long a disk may take for one piece.
const LIMIT: Duration = Duration::from_mins(1);

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// Directory of the mirror.
    #[arg(required_unless_present = "config")]
    dir: Option<PathBuf>,
    /// The configuration of a vault, in the place of a directory: its mirror, also in a bucket.
    #[arg(long, value_name = "FILE", conflicts_with = "dir")]
    config: Option<PathBuf>,
    /// The audit key, `name+id+base64`, as `sandyq init` printed it, or a file with one on each line.
    #[arg(long)]
    key: String,
    /// Platform.
    #[arg(long)]
    platform: PlatformName,
    /// The log that is expected, `installation/platform`; by default the installation that the key names.
    #[arg(long)]
    origin: Option<String>,
    /// A checkpoint kept from earlier: the mirror must reach it, so that a mirror cut back is found.
    #[arg(long, value_name = "FILE")]
    since: Option<PathBuf>,
    /// An export of the same log: it must not end before the mirror, and must agree with it.
    #[arg(long, value_name = "EXPORT_DIR")]
    against: Option<PathBuf>,
    /// An earlier export, for entries that the export leaves out; as often as there are some.
    #[arg(long, value_name = "EXPORT_DIR", requires = "against")]
    archive: Vec<PathBuf>,
}

pub(super) async fn run(args: &Args, out: &mut Out) -> Result<(), Failure> {
    let Mirrored { report, roots } = verify_mirror(args).await?;
    let (mut json, mut lines) = describe(&report);
    if report.holds() {
        lines.push("verified: the mirror holds every entry up to here as it was signed".to_owned());
    }
    let export = args
        .against
        .as_deref()
        .map(|dir| compare(Exported { dir, archives: &args.archive }, &args.key, &report, roots));
    let export = export.transpose()?;
    if let Some(export) = &export {
        let (found, more) = describe(export);
        if let Some(object) = json.as_object_mut() {
            object.insert("export".to_owned(), found);
        }
        lines.push(String::new());
        lines.push("export, held against the mirror".to_owned());
        lines.extend(more);
        if export.holds() {
            lines.push(
                "verified: the export goes at least as far as the mirror, and agrees with it".to_owned(),
            );
        }
    }
    out.data(&json, &lines)?;
    verdict(&report, "mirror")?;
    export.map_or(Ok(()), |export| verdict(&export, "export"))
}

async fn verify_mirror(args: &Args) -> Result<Mirrored, Failure> {
    let trusted = trusted(&args.key)?;
    let named = || origin(trusted.installation(), &args.platform);
    let origin = args.origin.clone().unwrap_or_else(named);
    let mirror = open(args).await?;
    // Heads before segments: a segment that comes in between is no fault.
    let heads = mirror.heads(&args.platform).await?;
    let segments = mirror.segments(&args.platform).await?;
    let claims = segments.found.into_iter().map(|name| Claim { from: name.from, size: name.size, name });
    let mut verifier = MirrorVerifier::new(trusted, &origin, claims.collect());
    for head in &heads.found {
        verifier.head(&format!("{}/heads/{}", args.platform, head.replica), &head.checkpoint);
    }
    if let Some(since) = &args.since {
        verifier.head("the earlier checkpoint", &read_note(since)?);
    }
    for name in heads.strange.iter().chain(&segments.strange) {
        verifier.unusable(name, "nothing of this name belongs into a mirror".to_owned());
    }
    while let Some(claim) = verifier.next_claim() {
        match mirror.read_segment(&claim.name).await {
            Ok(bytes) => verifier.segment(&claim, &bytes),
            Err(error @ BlobError::TooLarge { .. }) => verifier.unusable(&claim.name, error.to_string()),
            Err(error) => return Err(error.into()),
        }
    }
    Ok(verifier.finish())
}

async fn open(args: &Args) -> Result<MirrorReader, Failure> {
    match (&args.dir, &args.config) {
        (Some(dir), _) => Ok(MirrorReader::directory(dir, LIMIT)?),
        (None, Some(file)) => {
            let config = Config::load(file)?;
            let territory = territory(&config, &Arc::new(Clock::default())).await?;
            let found = configured_mirror(&config, &territory, LIMIT).await?;
            found.ok_or_else(|| Failure::new(exit::FAILED, "the configuration names no mirror that is there"))
        }
        (None, None) => Err(Failure::new(exit::USAGE, "a directory or --config is needed")),
    }
}

fn compare(
    of: Exported<'_>,
    key: &str,
    mirror: &Report,
    roots: BTreeMap<u64, Hash>,
) -> Result<Report, Failure> {
    let export = verify_against(of, key, None, roots)?;
    if !export.origin.is_empty() && export.origin != mirror.origin {
        let message =
            format!("the export is the log of {}, the mirror that of {}", export.origin, mirror.origin);
        return Err(Failure::new(exit::NOT_VERIFIED, message));
    }
    Ok(export)
}
