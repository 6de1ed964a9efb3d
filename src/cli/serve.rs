//! `sandyq serve`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{net::TcpListener, signal};

use super::{
    kms::{open_kms, require},
    output::{Failure, Out, exit},
};
use crate::{
    blobs::{backups::Backups, mirror::Mirror},
    config::{Config, Database},
    crypto::random::SystemRng,
    domain::{caller::Governance, replica::ReplicaName, time::Clock},
    grpc::{
        block_list::BlockList,
        server::{ServeOptions, serve},
        tls::{ServerTls, server_tls},
    },
    store::{Store, postgres, sqlite},
    vault::{Vault, expiry::expire_forever, operations::work_forever},
};

/// How long the mirror's disk may take for one piece.
pub(super) const MIRROR_LIMIT: Duration = Duration::from_secs(5);
/// How long the disk of backups may take for one part.
pub(super) const BACKUP_LIMIT: Duration = Duration::from_secs(20);

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The server's configuration.
    #[arg(long, value_name = "FILE", default_value = "sandyq.toml")]
    pub(super) config: PathBuf,
}

pub(super) async fn run(args: &Args, _out: &mut Out) -> Result<(), Failure> {
    let config = Config::load(&args.config)?;
    for risk in config.risks()? {
        tracing::warn!(risk = risk.as_str(), "ACCEPTED RISK: {}", risk.says());
    }
    let tls = tls(&config)?;
    let vault = open(&config).await?;
    let listener = TcpListener::bind(config.server.listen).await?;
    let shutdown = terminated()?;
    tracing::info!(address = %listener.local_addr()?, installation = %config.installation.name, "serving");
    serve_until(&config, listener, tls, vault, false, shutdown).await
}

/// Opens the database of a configuration; with `migrate`, makes it or brings its schema to this binary's version.
pub(super) async fn open_store(config: &Config, migrate: bool) -> Result<Arc<dyn Store>, Failure> {
    let rng = SystemRng::new();
    Ok(match (config.database()?, migrate) {
        (Database::Sqlite(path), false) => sqlite::open(&path).await?,
        (Database::Sqlite(path), true) => sqlite::open_and_migrate(&path).await?,
        (Database::Postgres(options), false) => postgres::open(&options, &rng).await?,
        (Database::Postgres(options), true) => postgres::open_and_migrate(&options, &rng).await?,
    })
}

/// Opens the vault of a configuration.
pub(super) async fn open(config: &Config) -> Result<Arc<Vault>, Failure> {
    let store = open_store(config, false).await?;
    let (clock, rng) = (Arc::new(Clock::default()), Arc::new(SystemRng::new()));
    let kms = open_kms(config, &clock)?;
    require(kms.as_ref(), rng.as_ref()).await?;
    let vault = Vault::open_with(store, kms, clock, rng, mirror(config)?, config.vault_options()?).await?;
    let vault = vault.with_settings(config.settings()?).with_backups(backups(config)?);
    if vault.installation() != config.installation.name {
        let message = format!("the database is of installation {}", vault.installation());
        return Err(Failure::new(exit::FAILED, message));
    }
    if vault.has_nobody()? {
        let message = "nobody is enrolled: name an [[officer]], and run `sandyq init`";
        return Err(Failure::new(exit::FAILED, message));
    }
    match vault.settings().governance {
        Governance::TwoPerson => {}
        Governance::SingleOfficer => tracing::warn!(
            "SINGLE-OFFICER MODE: one person does alone what should take two, such as policies, callers and roles"
        ),
    }
    let others = vault.beat(&config.replica()?, vault.clock().now()).await?;
    let lonely = config.mirror.as_ref().is_some_and(|mirror| !mirror.shared);
    if let (true, Some(other)) = (lonely, others.first()) {
        let message = format!(
            "replica {} serves this database too: the [mirror] must be declared as shared, and be the same for both",
            other.as_str()
        );
        return Err(Failure::new(exit::FAILED, message));
    }
    Ok(Arc::new(vault))
}

/// Says every few seconds that this process lives, and watches its clock.
async fn beat_forever(vault: Arc<Vault>, name: ReplicaName) {
    let started_at = vault.clock().now();
    let mut ticks = tokio::time::interval(Duration::from_secs(10));
    loop {
        ticks.tick().await;
        // What went wrong is in the server's log already.
        let _told = vault.beat(&name, started_at).await;
    }
}

/// Where the backups of a configuration go.
fn backups(config: &Config) -> Result<Option<Backups>, Failure> {
    let place = config.backup.as_ref().map(|backup| config.resolve(&backup.directory));
    Ok(place.map(|path| Backups::create(&path, BACKUP_LIMIT)).transpose()?)
}

/// The mirror of a configuration.
fn mirror(config: &Config) -> Result<Option<Mirror>, Failure> {
    let Some(mirror) = config.mirror()? else { return Ok(None) };
    if config.database.postgres.is_some() && !config.mirror.as_ref().is_some_and(|mirror| mirror.shared) {
        tracing::warn!("[mirror] is not declared as shared: only one process may serve this database");
    }
    Ok(Some(Mirror::directory(&mirror.directory, mirror.replica, MIRROR_LIMIT)?))
}

/// Certificate, key and client authorities of a configuration.
pub(super) fn tls(config: &Config) -> Result<ServerTls, Failure> {
    let files = config.tls()?;
    let blocked = match &config.server.block_list {
        Some(file) => BlockList::open(&config.resolve(file))?,
        None => BlockList::default(),
    };
    Ok(server_tls(&files.certificate, &files.key, &files.authorities, blocked)?)
}

/// Serves until `shutdown`, then drains and closes the vault.
pub(super) async fn serve_until(
    config: &Config,
    listener: TcpListener,
    tls: ServerTls,
    vault: Arc<Vault>,
    reflection: bool,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Failure> {
    let options = ServeOptions {
        reflection,
        lame_duck: Duration::from_secs(config.server.lame_duck_seconds),
        drain: Duration::from_secs(config.server.drain_seconds),
    };
    let summaries = tokio::spawn(log_refusals(Arc::clone(&vault)));
    let reconciling = Arc::clone(&vault);
    let background = [
        tokio::spawn(work_forever(Arc::clone(&vault))),
        tokio::spawn(expire_forever(Arc::clone(&vault))),
        tokio::spawn(beat_forever(Arc::clone(&vault), config.replica()?)),
        tokio::spawn(async move { reconciling.reconcile_daily().await }),
    ];
    let served = serve(listener, tls, Arc::clone(&vault), options, shutdown).await;
    summaries.abort();
    background.iter().for_each(tokio::task::JoinHandle::abort);
    // What calls sent to the lanes commits before the end, also where the calls themselves were cut off.
    vault.close().await;
    Ok(served?)
}

/// Sums up each minute's refusals in the logs.
async fn log_refusals(vault: Arc<Vault>) {
    let mut minutes = tokio::time::interval(Duration::from_mins(1));
    loop {
        minutes.tick().await;
        if let Err(error) = vault.log_refusals().await {
            tracing::warn!(%error, "refusals that were counted could not be logged yet");
        }
    }
}

/// Watches for SIGTERM and SIGINT from now on, and is ready at the first of either.
pub(super) fn terminated() -> std::io::Result<impl Future<Output = ()> + Send + 'static> {
    #[cfg(unix)]
    {
        use signal::unix::{SignalKind, signal};
        let (mut term, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        Ok(async move {
            tokio::select! {
                _ = term.recv() => {}
                _ = interrupt.recv() => {}
            }
        })
    }
    #[cfg(not(unix))]
    {
        Ok(async {
            // An error means that signals cannot be watched; the process then ends as the system ends it.
            let _watched = signal::ctrl_c().await;
        })
    }
}
