//! Migrations, and the check that this binary may run on the schema it finds.

use std::borrow::Cow;

use sqlx::{
    Row as _, SqlSafeStr as _, SqlitePool,
    migrate::{Migration, MigrationType, Migrator},
};

use super::database;
use crate::store::{SCHEMA_VERSION, StoreError};

const MIGRATIONS: [(i64, &str, &str); 1] =
    [(1, "init", include_str!("../../../migrations/sqlite/0001_init.sql"))];

/// Applies the migrations that the database has not seen.
pub(super) async fn migrate(writer: &SqlitePool) -> Result<(), StoreError> {
    let migrations = MIGRATIONS
        .into_iter()
        .map(|(version, name, sql)| {
            Migration::new(version, Cow::Borrowed(name), MigrationType::Simple, sql.into_sql_str(), false)
        })
        .collect();
    Migrator::with_migrations(migrations)
        .run(writer)
        .await
        .map_err(|e| StoreError::Database { action: "migrate the schema", source: Box::new(e) })
}

/// Refuses a schema that is missing, too old for this binary, or that says this binary is too old.
pub(super) async fn check(writer: &SqlitePool) -> Result<(), StoreError> {
    let (version,): (i64,) = sqlx::query_as(
        "/* schema::check */ SELECT count(*) FROM sqlite_schema WHERE name = 'schema_version'",
    )
    .fetch_one(writer)
    .await
    .map_err(database("look for a schema"))?;
    if version == 0 {
        return Err(StoreError::Schema("the database has no schema; run `sandyq migrate`".to_owned()));
    }
    let row = sqlx::query("/* schema::check */ SELECT version, oldest_binary FROM schema_version")
        .fetch_one(writer)
        .await
        .map_err(database("read the schema's version"))?;
    let (version, oldest): (i64, i64) = (
        row.try_get(0).map_err(database("read the schema's version"))?,
        row.try_get(1).map_err(database("read the schema's version"))?,
    );
    if version < SCHEMA_VERSION {
        return Err(StoreError::Schema(format!(
            "the database has schema {version}, this binary needs {SCHEMA_VERSION}; run `sandyq migrate`"
        )));
    }
    if SCHEMA_VERSION < oldest {
        return Err(StoreError::Schema(format!(
            "the database has schema {version}, which a binary of schema {oldest} or newer may use; this one has \
             {SCHEMA_VERSION}"
        )));
    }
    Ok(())
}
