//! Certificates and authorities that are replaced while the server serves: at SIGHUP, and where a file changes.

use std::{sync::Arc, time::Duration};

use tokio::time::{MissedTickBehavior, interval};

use super::output::Failure;
use crate::{config::Config, grpc::tls::ServerTls, vault::Vault};

/// How often the files are looked at.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Follows the files of a configuration for ever. What does not fit together is not taken: a certificate is often
/// written before its key.
pub(super) async fn follow(config: Config, tls: ServerTls, vault: Arc<Vault>) {
    let mut hangups = match hangups() {
        Ok(hangups) => hangups,
        Err(error) => {
            tracing::error!(%error, "SIGHUP cannot be watched; changed certificates need a restart");
            return;
        }
    };
    let mut ticks = interval(LOOK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // The first look takes what changed between the start and now.
    let mut seen = None;
    loop {
        let asked = tokio::select! {
            _ = ticks.tick() => false,
            _ = hangups.recv() => true,
        };
        let stamps = Some(config.tls_stamps());
        if asked || stamps != seen {
            seen = stamps;
            reload(&config, &tls, &vault);
        }
    }
}

fn reload(config: &Config, tls: &ServerTls, vault: &Vault) {
    let replaced = match config.tls() {
        Ok(files) => {
            let now = vault.clock().now();
            tls.replace(&files.certificate, &files.key, &files.authorities, now).map_err(Failure::from)
        }
        Err(error) => {
            tls.cannot_be_read();
            Err(error.into())
        }
    };
    match replaced {
        Ok(()) => tracing::info!("certificate, key and client authorities were read again"),
        Err(failure) => tracing::error!(
            problem = failure.message(),
            "CERTIFICATES: what the files hold now is not taken; what was served before is served on"
        ),
    }
}

#[cfg(unix)]
fn hangups() -> std::io::Result<tokio::signal::unix::Signal> {
    tokio::signal::unix::signal(tokio::signal::unix::SignalKind::hangup())
}

/// Systems without SIGHUP have the files alone.
#[cfg(not(unix))]
struct Never;

#[cfg(not(unix))]
impl Never {
    async fn recv(&mut self) -> Option<()> {
        std::future::pending().await
    }
}

#[cfg(not(unix))]
fn hangups() -> std::io::Result<Never> {
    Ok(Never)
}
