//! `sandyq restore`: a backup put into an empty database, offline.

use std::{collections::BTreeMap, fs, path::PathBuf, sync::Arc, time::Duration};

use super::{
    audit::key_text,
    backup::{self, At, unverified},
    kms::{open_kms, require},
    output::{Failure, Out},
    serve::{MIRROR_LIMIT, open_store},
    territory::territory,
};
use crate::{
    blobs::{BlobError, mirror::MirrorReader},
    config::{Config, Database, Storage},
    crypto::random::SystemRng,
    domain::{territory::Territory, time::Clock},
    residency::Residency,
    vault::restore::{PlatformReport, Report, Restore, RestoreError, refuse_used},
};

const DAY: u64 = 24 * 60 * 60;

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    at: At,
    /// Read and check everything, say what would be done, and write nothing.
    #[arg(long)]
    dry_run: bool,
    /// Also write the report, as JSON, into a new file.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
}

pub(super) async fn run(args: &Args, out: &mut Out) -> Result<(), Failure> {
    let config = Config::load(&args.at.config)?;
    let (clock, rng) = (Arc::new(Clock::default()), SystemRng::new());
    let territory = territory(&config, &clock).await?;
    let kms = open_kms(&config, &territory, &clock)?;
    require(kms.as_ref(), &rng).await?;
    let opened = backup::open(&args.at, &config).await?;
    let key = key_text(&args.at.key)?;
    let mirror = configured_mirror(&config, &territory, MIRROR_LIMIT).await?;
    let days = config.backup.as_ref().and_then(|backup| backup.horizon_days);
    let restore = Restore {
        backup: &opened,
        mirror: mirror.as_ref(),
        key: &key,
        horizon: days.map(|days| Duration::from_secs(u64::from(days) * DAY)),
        now: clock.now(),
        kms: kms.as_ref(),
        rng: &rng,
    };
    if !args.dry_run {
        // Before the long reading: whoever named the wrong database learns it at once.
        check_database(&config, &territory).await?;
    }
    let mut tell =
        |what: &'static str, done: u64, of: u64| out.progress(&format!("{what:<7} {done} of {of}"));
    let planned = restore.plan(&mut tell).await;
    out.progress_end();
    let plan = planned.map_err(failure)?;
    if args.dry_run {
        let mut lines = told(plan.report());
        lines.extend(
            check_database(&config, &territory)
                .await
                .err()
                .map(|refused| format!("REFUSED  {}", refused.message())),
        );
        lines.push("nothing was written".to_owned());
        return Ok(out.data(&serde_json::to_value(plan.report())?, &lines)?);
    }
    let store = open_store(&config, &territory, true).await?;
    let mut tell =
        |what: &'static str, done: u64, of: u64| out.progress(&format!("{what:<7} {done} of {of}"));
    let done = restore.run(plan, store.as_ref(), &mut tell).await;
    store.close().await;
    out.progress_end();
    let report = done.map_err(failure)?;
    let json = serde_json::to_value(&report)?;
    if let Some(path) = &args.report {
        let mut file = fs::File::options().create_new(true).write(true).open(path)?;
        serde_json::to_writer_pretty(&mut file, &report)?;
        file.sync_all()?;
    }
    let mut lines = told(&report);
    lines.push(next(&report));
    Ok(out.data(&json, &lines)?)
}

/// The mirror of a configuration, where it is there.
pub(super) async fn configured_mirror(
    config: &Config,
    territory: &Arc<Residency>,
    limit: Duration,
) -> Result<Option<MirrorReader>, Failure> {
    let found = match config.mirror_place()? {
        None => return Ok(None),
        Some(Storage::Directory(directory)) => MirrorReader::directory(&directory, limit),
        Some(Storage::Bucket(bucket)) => {
            let territory: Arc<dyn Territory> = Arc::<Residency>::clone(territory);
            MirrorReader::bucket(&bucket, &territory, limit).await
        }
    };
    match found {
        Ok(reader) => Ok(Some(reader)),
        Err(BlobError::NotMarked { .. }) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

fn failure(error: RestoreError) -> Failure {
    if let RestoreError::Backup(error) = error { unverified(error) } else { error.into() }
}

/// Refuses a database that a backup must not go into, without making one.
async fn check_database(config: &Config, territory: &Arc<Residency>) -> Result<(), Failure> {
    if let Database::Sqlite(path) = config.database()?
        && !path.exists()
    {
        return Ok(());
    }
    match open_store(config, territory, false).await {
        Ok(store) => {
            let free = refuse_used(store.as_ref()).await;
            store.close().await;
            free.map_err(failure)
        }
        // No schema, which the restore makes.
        Err(error) if error.message().contains("has no schema") => Ok(()),
        Err(error) => Err(error),
    }
}

fn told(report: &Report) -> Vec<String> {
    let (days, hours) = (report.age_seconds / 86_400, report.age_seconds % 86_400 / 3_600);
    let mut lines = vec![
        format!("backup   {}", report.backup),
        format!("of       {} ({days} days and {hours} hours ago)", report.taken_at),
        format!("rows     {}", report.rows),
    ];
    for platform in &report.platforms {
        lines.extend(platform_told(platform));
    }
    lines
}

fn platform_told(told: &PlatformReport) -> Vec<String> {
    let newer = told.mirrored.saturating_sub(told.backed_up);
    let mut lines = vec![
        String::new(),
        format!("platform {}", told.platform),
        format!("  log      {} entries in the backup, {newer} newer in the mirror", told.backed_up),
    ];
    lines.extend(told.findings.iter().map(|finding| format!("  FINDING  {finding}")));
    let counts = |what: &str, of: &BTreeMap<String, u64>| {
        of.iter().map(|(kind, count)| format!("  {what:<8} {count:>6}  {kind}")).collect::<Vec<_>>()
    };
    lines.extend(counts("replayed", &told.applied));
    lines.extend(counts("strict", &told.strict));
    lines.extend(counts("LOST", &told.lost));
    if let Some(reason) = &told.closed {
        lines.push(format!("  CLOSED   {reason}: two people must open it"));
    }
    lines
}

fn next(report: &Report) -> String {
    let closed: Vec<_> = report
        .platforms
        .iter()
        .filter(|told| told.closed.is_some())
        .map(|told| told.platform.as_str())
        .collect();
    if closed.is_empty() {
        return "restored: `sandyq serve` may start".to_owned();
    }
    format!(
        "restored, and closed: {}. Where the mirror is missing or does not hold, put it aside as evidence and configure a \
         new directory before `sandyq serve`; then one person proposes `sandyq platform open`, and another approves",
        closed.join(", ")
    )
}
