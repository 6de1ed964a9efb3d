//! The way of spans from a served vault to the collector of its configuration.

use std::{future::Future, sync::Arc};

use tokio::task::JoinHandle;

use super::output::{Failure, exit};
use crate::{
    config::Config,
    telemetry::{
        collector::{Collector, CollectorPlace, export},
        otlp::Origin,
    },
    vault::Vault,
};

/// Sends the vault's spans to the collector until `end`; nothing where none is named.
///
/// # Errors
/// [`Failure`] where the collector's address or roots make no client.
pub(super) fn send_traces(
    config: &Config,
    vault: &Vault,
    port: u16,
    end: impl Future<Output = ()> + Send + 'static,
) -> Result<Option<JoinHandle<()>>, Failure> {
    let (Some(place), Some(traces)) = (config.traces()?, vault.traces()) else { return Ok(None) };
    let territory = vault.territory();
    let territory = territory.ok_or_else(|| Failure::new(exit::FAILED, "traces without declared sites"))?;
    let origin = Origin {
        installation: config.installation.name.clone(),
        replica: config.replica()?.as_str().to_owned(),
        port,
    };
    let place = CollectorPlace { endpoint: place.endpoint, authority: place.authority };
    let collector = Collector::new(&place, origin, territory)?;
    Ok(Some(tokio::spawn(export(Arc::clone(traces), collector, end))))
}
