//! `sandyq migrate`.

use serde_json::json;

use super::{
    output::{Failure, Out, exit},
    serve,
};
use crate::{
    config::Config,
    store::{SCHEMA_VERSION, Store as _, sqlite::SqliteStore},
};

pub(super) async fn run(args: &serve::Args, out: &mut Out) -> Result<(), Failure> {
    let config = Config::load(&args.config)?;
    let database = config.resolve(&config.database.sqlite);
    if !database.exists() {
        let message =
            format!("{} does not exist; `sandyq init` makes a new installation", database.display());
        return Err(Failure::new(exit::FAILED, message));
    }
    SqliteStore::open_and_migrate(&database).await?.close().await;
    out.data(
        &json!({ "schema_version": SCHEMA_VERSION }),
        &[format!("The database has schema {SCHEMA_VERSION}.")],
    )?;
    Ok(())
}
