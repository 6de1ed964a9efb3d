//! `sandyq serve`.

use std::{net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    signal,
    sync::oneshot,
    time::{sleep, timeout},
};

use super::{
    kms::{open_kms, require},
    output::{Failure, Out, exit},
    reload,
    territory::{refuse_outside, territory},
    traces::send_traces,
};
use crate::{
    blobs::{backups::Backups, mirror::Mirror, parts::Parts},
    config::{Config, Database, Own, Storage},
    crypto::random::SystemRng,
    domain::{caller::Governance, replica::ReplicaName, territory::Territory, time::Clock},
    grpc::{
        attestation::AttestationRoots,
        block_list::BlockList,
        health::Health,
        server::{ServeOptions, serve},
        tls::{ServerTls, server_tls},
    },
    residency::Residency,
    store::{Store, postgres, sqlite},
    telemetry::metrics::render,
    vault::{
        Vault, documents::Documents, expiry::expire_forever, operations::work_forever,
        staff_keys::Attestation, traces::Traces,
    },
};

/// How long the mirror's disk may take for one piece.
pub(super) const MIRROR_LIMIT: Duration = Duration::from_secs(5);
/// How long the disk of backups may take for one part.
pub(super) const BACKUP_LIMIT: Duration = Duration::from_secs(20);

/// How long the document store may take for one part.
pub(super) const DOCUMENTS_LIMIT: Duration = Duration::from_secs(20);

/// How often a process says that it lives, where all is well. With the time that the database may take it is known within
/// ten seconds that it cannot serve.
const BEAT_EVERY: Duration = Duration::from_secs(5);
/// Shortest time between two heartbeats.
const BEAT_AGAIN: Duration = Duration::from_secs(1);

/// Where the server's configuration is.
#[derive(clap::Args, Debug)]
pub(super) struct ConfigArgs {
    /// The server's configuration.
    #[arg(long, value_name = "FILE", default_value = "sandyq.toml")]
    pub(super) config: PathBuf,
}

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Where to answer health and metrics, in the place of the configuration's: a pod's own address.
    #[arg(long, value_name = "ADDRESS")]
    health_listen: Option<SocketAddr>,
    /// Name of this process among those that share the mirror, in the place of the configuration's.
    #[arg(long, value_name = "NAME")]
    replica: Option<ReplicaName>,
}

pub(super) async fn run(args: &Args, _out: &mut Out) -> Result<(), Failure> {
    let own = Own { health_listen: args.health_listen, replica: args.replica.clone() };
    let config = Config::load(&args.config.config)?.with(own)?;
    for risk in config.risks()? {
        tracing::warn!(risk = risk.as_str(), "ACCEPTED RISK: {}", risk.says());
    }
    let tls = tls(&config)?;
    let vault = open(&config, Arc::default()).await?;
    let listeners = Listeners::bind(&config).await?;
    let shutdown = terminated()?;
    if let Some(health) = &listeners.health {
        tracing::info!(health_address = %health.local_addr()?, "answering health and metrics");
    }
    let (address, installation) = (listeners.calls.local_addr()?, &config.installation.name);
    tracing::info!(%address, %installation, "serving");
    serve_until(&config, listeners, tls, vault, false, shutdown).await
}

/// Where a process listens.
pub(super) struct Listeners {
    /// For calls.
    pub(super) calls: TcpListener,
    /// For health and metrics.
    pub(super) health: Option<TcpListener>,
}

impl Listeners {
    pub(super) async fn bind(config: &Config) -> Result<Self, Failure> {
        let calls = TcpListener::bind(config.server.listen).await?;
        let health = match &config.health {
            Some(health) => Some(TcpListener::bind(health.listen).await?),
            None => None,
        };
        Ok(Self { calls, health })
    }
}

/// Opens the database of a configuration; with `migrate`, makes it or brings its schema to this binary's version.
pub(super) async fn open_store(
    config: &Config,
    territory: &Arc<Residency>,
    migrate: bool,
) -> Result<Arc<dyn Store>, Failure> {
    let rng = SystemRng::new();
    let territory: Arc<dyn Territory> = Arc::<Residency>::clone(territory);
    Ok(match (config.database()?, migrate) {
        (Database::Sqlite(path), false) => sqlite::open(&path).await?,
        (Database::Sqlite(path), true) => sqlite::open_and_migrate(&path).await?,
        (Database::Postgres(options), false) => postgres::open(&options, &territory, &rng).await?,
        (Database::Postgres(options), true) => postgres::open_and_migrate(&options, &territory, &rng).await?,
    })
}

/// Opens the vault of a configuration, which goes by this clock.
pub(super) async fn open(config: &Config, clock: Arc<Clock>) -> Result<Arc<Vault>, Failure> {
    let rng = Arc::new(SystemRng::new());
    let territory = territory(config, &clock).await?;
    let store = open_store(config, &territory, false).await?;
    let kms = open_kms(config, &territory, &clock)?;
    require(kms.as_ref(), rng.as_ref()).await?;
    let mirror = mirror(config, &territory).await?;
    let vault = Vault::open_with(store, kms, clock, rng, mirror, config.vault_options()?).await?;
    let vault = vault.with_settings(config.settings()?).with_backups(backups(config)?);
    let vault = vault.with_attestation(config.attestation_roots()?.map(attestation));
    let vault = vault.with_documents(documents(config, &territory).await?);
    let vault = vault.with_residency(config.residency_watch(territory)?);
    let traces = config.sampling().map(|sampling| Traces::new(sampling, Arc::new(SystemRng::new())));
    let vault = vault.with_traces(traces);
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
    vault.look_at_staff_keys().await?;
    if vault.horizon_holds() == Some(false) {
        tracing::warn!(
            "THE HORIZON OF BACKUPS IS NOT KEPT: no standing plan holds, so old key versions stay and what was erased opens from \
             old backups (sandyq keys horizon)"
        );
    }
    // After the log was told of it.
    refuse_outside(&vault.look_at_residency().await?)?;
    Ok(Arc::new(vault))
}

/// Says every few seconds that this process lives, at once where a commit failed, and watches its clock.
async fn beat_forever(vault: Arc<Vault>, name: ReplicaName) {
    let started_at = vault.clock().now();
    loop {
        // What went wrong is in the server's log already.
        let beaten = vault.beat(&name, started_at).await;
        if beaten.is_ok() {
            let _told = vault.sample().await;
        }
        sleep(BEAT_AGAIN).await;
        if beaten.is_ok() {
            let _sooner = timeout(BEAT_EVERY, vault.troubled()).await;
        }
    }
}

fn attestation(roots: AttestationRoots) -> Box<dyn Attestation> {
    Box::new(roots)
}

/// Where the backups of a configuration go.
fn backups(config: &Config) -> Result<Option<Backups>, Failure> {
    let place = config.backup.as_ref().map(|backup| config.resolve(&backup.directory));
    Ok(place.map(|path| Backups::create(&path, BACKUP_LIMIT)).transpose()?)
}

/// Where the documents of a configuration lie.
async fn documents(config: &Config, territory: &Arc<Residency>) -> Result<Option<Documents>, Failure> {
    let Some(memory_mib) = config.documents()? else { return Ok(None) };
    let parts = match config.documents_place()? {
        Some(Storage::Directory(directory)) => Parts::create(&directory, DOCUMENTS_LIMIT)?,
        Some(Storage::Bucket(bucket)) => {
            let territory: Arc<dyn Territory> = Arc::<Residency>::clone(territory);
            Parts::bucket(&bucket, &territory, DOCUMENTS_LIMIT).await?
        }
        None => return Ok(None),
    };
    Ok(Some(Documents::new(parts, memory_mib)))
}

/// The mirror of a configuration.
async fn mirror(config: &Config, territory: &Arc<Residency>) -> Result<Option<Mirror>, Failure> {
    let Some(place) = config.mirror_place()? else { return Ok(None) };
    if config.database.postgres.is_some() && !config.mirror.as_ref().is_some_and(|mirror| mirror.shared) {
        tracing::warn!("[mirror] is not declared as shared: only one process may serve this database");
    }
    let replica = config.replica()?;
    Ok(Some(match place {
        Storage::Directory(directory) => Mirror::directory(&directory, replica, MIRROR_LIMIT)?,
        Storage::Bucket(bucket) => {
            let territory: Arc<dyn Territory> = Arc::<Residency>::clone(territory);
            Mirror::bucket(&bucket, &territory, replica, MIRROR_LIMIT).await?
        }
    }))
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
    listeners: Listeners,
    tls: ServerTls,
    vault: Arc<Vault>,
    reflection: bool,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), Failure> {
    let options = ServeOptions {
        reflection,
        lame_duck: Duration::from_secs(config.server.lame_duck_seconds),
        drain: Duration::from_secs(config.server.drain_seconds),
        limits: config.caller_limits()?,
    };
    let (ending, ended) = oneshot::channel();
    let ended = async {
        // Dropped or sent: either way it is time to send the last.
        let _ended: Result<(), _> = ended.await;
    };
    let sending = send_traces(config, &vault, listeners.calls.local_addr()?.port(), ended)?;
    let summaries = tokio::spawn(log_refusals(Arc::clone(&vault)));
    let reconciling = Arc::clone(&vault);
    let background = [
        tokio::spawn(reload::follow(config.clone(), tls.clone(), Arc::clone(&vault))),
        tokio::spawn(work_forever(Arc::clone(&vault))),
        tokio::spawn(expire_forever(Arc::clone(&vault))),
        tokio::spawn(beat_forever(Arc::clone(&vault), config.replica()?)),
        tokio::spawn(async move { reconciling.reconcile_daily().await }),
    ];
    let health = Health::starting().await;
    let beside = listeners.health.map(|listener| {
        let measured = Arc::clone(&vault);
        tokio::spawn(health.clone().listen(listener, move || render(&measured)))
    });
    let served = serve(listeners.calls, tls, Arc::clone(&vault), health, options, shutdown).await;
    summaries.abort();
    beside.iter().for_each(tokio::task::JoinHandle::abort);
    background.iter().for_each(tokio::task::JoinHandle::abort);
    // What calls sent to the lanes commits before the end, also where the calls themselves were cut off.
    vault.close().await;
    drop(ending);
    if let Some(sending) = sending {
        // Its time is limited; that it panicked changes nothing any more.
        let _sent = sending.await;
    }
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
