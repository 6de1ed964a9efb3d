//! `sandyq serve`.

use std::{path::PathBuf, sync::Arc, time::Duration};

use tokio::{net::TcpListener, signal};

use super::output::{Failure, Out, exit};
use crate::{
    config::Config,
    crypto::{kms::local::LocalKms, random::SystemRng},
    domain::{ids::PlatformId, time::Clock},
    grpc::{
        server::{ServeOptions, serve},
        tls::{ServerTls, server_tls},
    },
    policy::model::Policy,
    store::sqlite::SqliteStore,
    vault::Vault,
};

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    /// The server's configuration.
    #[arg(long, value_name = "FILE", default_value = "sandyq.toml")]
    pub(super) config: PathBuf,
}

pub(super) async fn run(args: &Args, _out: &mut Out) -> Result<(), Failure> {
    let config = Config::load(&args.config)?;
    let tls = tls(&config)?;
    let vault = open(&config).await?;
    let listener = TcpListener::bind(config.server.listen).await?;
    let shutdown = terminated()?;
    tracing::info!(address = %listener.local_addr()?, installation = %config.installation.name, "serving");
    serve_until(&config, listener, tls, vault, false, shutdown).await
}

/// Opens the vault of a configuration, and takes policies and callers over from its files.
pub(super) async fn open(config: &Config) -> Result<Arc<Vault>, Failure> {
    config.check_root_key_files()?;
    let (root, unseal) = (config.resolve(&config.root_key.file), config.resolve(&config.root_key.unseal_key));
    let kms = Arc::new(LocalKms::open(&root, &unseal)?);
    let store = Arc::new(SqliteStore::open(&config.resolve(&config.database.sqlite)).await?);
    let vault = Vault::open(store, kms, Arc::new(Clock::default()), Arc::new(SystemRng::new())).await?;
    if vault.installation() != config.installation.name {
        let message = format!("the database is of installation {}", vault.installation());
        return Err(Failure::new(exit::FAILED, message));
    }
    let mut declared = vec![PlatformId::VAULT];
    let staff = config.staff.as_ref().map(|staff| config.callers(&staff.callers)).transpose()?;
    let changes = vault.take_over(PlatformId::VAULT, None, &staff.unwrap_or_default()).await?;
    tracing::info!(?changes, "staff taken over");
    for platform in &config.platform {
        let policy = config.read(&platform.policy)?;
        let name = Policy::parse(&policy)?.operator.name;
        let id = vault.platform_named(name.as_str()).ok_or_else(|| {
            let message = format!("platform {name} is not in the database; `sandyq init` adds it");
            Failure::new(exit::FAILED, message)
        })?;
        declared.push(id);
        let callers = config.callers(&platform.callers)?;
        let changes = vault.take_over(id, Some(&policy), &callers).await?;
        tracing::info!(platform = %name, ?changes, "policy and callers taken over");
    }
    // What the configuration no longer names has no callers any more.
    for (id, name) in vault.platforms().filter(|(id, _)| !declared.contains(id)) {
        let changes = vault.take_over(id, None, &[]).await?;
        tracing::warn!(platform = %name, ?changes, "the configuration does not name this platform; nobody may call");
    }
    Ok(Arc::new(vault))
}

/// Certificate, key and client authorities of a configuration.
pub(super) fn tls(config: &Config) -> Result<ServerTls, Failure> {
    let files = config.tls()?;
    Ok(server_tls(&files.certificate, &files.key, &files.authorities)?)
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
    let served = serve(listener, tls, Arc::clone(&vault), options, shutdown).await;
    summaries.abort();
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
