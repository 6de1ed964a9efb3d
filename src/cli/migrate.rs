//! `sandyq migrate`.

use serde_json::json;

use super::{
    output::{Failure, Out, exit},
    serve,
};
use crate::{
    config::{Config, Database},
    store::SCHEMA_VERSION,
};

pub(super) async fn run(args: &serve::Args, out: &mut Out) -> Result<(), Failure> {
    let config = Config::load(&args.config)?;
    if let Database::Sqlite(database) = config.database()?
        && !database.exists()
    {
        let message =
            format!("{} does not exist; `sandyq init` makes a new installation", database.display());
        return Err(Failure::new(exit::FAILED, message));
    }
    serve::open_store(&config, true).await?.close().await;
    out.data(
        &json!({ "schema_version": SCHEMA_VERSION }),
        &[format!("The database has schema {SCHEMA_VERSION}.")],
    )?;
    Ok(())
}
