//! `sandyq migrate`.

use std::{sync::Arc, time::Duration};

use serde_json::json;
use tokio::time::{Instant, sleep};

use super::{
    output::{Failure, Out, exit},
    serve::{self, ConfigArgs},
    territory::territory,
};
use crate::{
    config::{Config, Database},
    domain::time::Clock,
    store::SCHEMA_VERSION,
};

/// How long `--wait` waits, and how often it looks.
const WAITS: Duration = Duration::from_mins(10);
const LOOKS_EVERY: Duration = Duration::from_secs(1);

#[derive(clap::Args, Debug)]
pub(super) struct Args {
    #[command(flatten)]
    config: ConfigArgs,
    /// Change nothing: wait up to ten minutes until somebody else has brought the schema to this version.
    #[arg(long)]
    wait: bool,
}

pub(super) async fn run(args: &Args, out: &mut Out) -> Result<(), Failure> {
    let config = Config::load(&args.config.config)?;
    if args.wait {
        wait(&config, out).await?;
    } else {
        migrate(&config).await?;
    }
    out.data(
        &json!({ "schema_version": SCHEMA_VERSION }),
        &[format!("The database has schema {SCHEMA_VERSION}.")],
    )?;
    Ok(())
}

async fn migrate(config: &Config) -> Result<(), Failure> {
    if let Database::Sqlite(database) = config.database()?
        && !database.exists()
    {
        let message =
            format!("{} does not exist; `sandyq init` makes a new installation", database.display());
        return Err(Failure::new(exit::FAILED, message));
    }
    let territory = territory(config, &Arc::new(Clock::default())).await?;
    serve::open_store(config, &territory, true).await?.close().await;
    Ok(())
}

async fn wait(config: &Config, out: &mut Out) -> Result<(), Failure> {
    let until = Instant::now() + WAITS;
    let mut told = String::new();
    let clock = Arc::new(Clock::default());
    loop {
        let opened = match territory(config, &clock).await {
            Ok(territory) => serve::open_store(config, &territory, false).await,
            Err(outside) => Err(outside),
        };
        match opened {
            Ok(store) => {
                store.close().await;
                return Ok(());
            }
            Err(failure) if Instant::now() >= until => return Err(failure),
            Err(failure) => {
                if failure.message() != told {
                    failure.message().clone_into(&mut told);
                    out.note(&format!("waiting: {told}"))?;
                }
            }
        }
        sleep(LOOKS_EVERY).await;
    }
}
