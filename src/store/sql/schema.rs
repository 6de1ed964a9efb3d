//! Migrations, and the check that this binary may run on the schema it finds.

use std::borrow::Cow;

use sqlx::{
    Acquire, Database, SqlSafeStr as _,
    migrate::{Migrate, Migration, MigrationType, Migrator},
};

use super::{Engine, database, decode::Columns, statement::Statement};
use crate::store::{SCHEMA_VERSION, StoreError};

/// Number, name, text.
type Script = (i64, &'static str, &'static str);

/// The schema for SQLite.
pub(in crate::store) const SQLITE: &[Script] = &[
    (1, "init", include_str!("../../../migrations/sqlite/0001_init.sql")),
    (2, "proposals", include_str!("../../../migrations/sqlite/0002_proposals.sql")),
    (3, "keys", include_str!("../../../migrations/sqlite/0003_keys.sql")),
    (4, "restore", include_str!("../../../migrations/sqlite/0004_restore.sql")),
    (5, "audit_keys", include_str!("../../../migrations/sqlite/0005_audit_keys.sql")),
    (6, "receipts", include_str!("../../../migrations/sqlite/0006_receipts.sql")),
    (7, "root_keys", include_str!("../../../migrations/sqlite/0007_root_keys.sql")),
    (8, "documents", include_str!("../../../migrations/sqlite/0008_documents.sql")),
    (9, "lookup_indexes", include_str!("../../../migrations/sqlite/0009_lookup_indexes.sql")),
    (10, "disclosures", include_str!("../../../migrations/sqlite/0010_disclosures.sql")),
    (11, "collect", include_str!("../../../migrations/sqlite/0011_collect.sql")),
    (12, "index_rotation", include_str!("../../../migrations/sqlite/0012_index_rotation.sql")),
    (13, "lists", include_str!("../../../migrations/sqlite/0013_lists.sql")),
    (14, "retention", include_str!("../../../migrations/sqlite/0014_retention.sql")),
    (15, "staff_keys", include_str!("../../../migrations/sqlite/0015_staff_keys.sql")),
    (16, "rights", include_str!("../../../migrations/sqlite/0016_rights.sql")),
    (17, "root_rows", include_str!("../../../migrations/sqlite/0017_root_rows.sql")),
    (18, "rekey", include_str!("../../../migrations/sqlite/0018_rekey.sql")),
    (19, "horizon", include_str!("../../../migrations/sqlite/0019_horizon.sql")),
    (20, "rights_done", include_str!("../../../migrations/sqlite/0020_rights_done.sql")),
    (21, "breaches", include_str!("../../../migrations/sqlite/0021_breaches.sql")),
];

/// The same for PostgreSQL, under the same numbers.
pub(in crate::store) const POSTGRES: &[Script] = &[
    (1, "init", include_str!("../../../migrations/postgres/0001_init.sql")),
    (2, "proposals", include_str!("../../../migrations/postgres/0002_proposals.sql")),
    (3, "keys", include_str!("../../../migrations/postgres/0003_keys.sql")),
    (4, "restore", include_str!("../../../migrations/postgres/0004_restore.sql")),
    (5, "audit_keys", include_str!("../../../migrations/postgres/0005_audit_keys.sql")),
    (6, "receipts", include_str!("../../../migrations/postgres/0006_receipts.sql")),
    (7, "root_keys", include_str!("../../../migrations/postgres/0007_root_keys.sql")),
    (8, "documents", include_str!("../../../migrations/postgres/0008_documents.sql")),
    (9, "lookup_indexes", include_str!("../../../migrations/postgres/0009_lookup_indexes.sql")),
    (10, "disclosures", include_str!("../../../migrations/postgres/0010_disclosures.sql")),
    (11, "collect", include_str!("../../../migrations/postgres/0011_collect.sql")),
    (12, "index_rotation", include_str!("../../../migrations/postgres/0012_index_rotation.sql")),
    (13, "lists", include_str!("../../../migrations/postgres/0013_lists.sql")),
    (14, "retention", include_str!("../../../migrations/postgres/0014_retention.sql")),
    (15, "staff_keys", include_str!("../../../migrations/postgres/0015_staff_keys.sql")),
    (16, "rights", include_str!("../../../migrations/postgres/0016_rights.sql")),
    (17, "root_rows", include_str!("../../../migrations/postgres/0017_root_rows.sql")),
    (18, "rekey", include_str!("../../../migrations/postgres/0018_rekey.sql")),
    (19, "horizon", include_str!("../../../migrations/postgres/0019_horizon.sql")),
    (20, "rights_done", include_str!("../../../migrations/postgres/0020_rights_done.sql")),
    (21, "breaches", include_str!("../../../migrations/postgres/0021_breaches.sql")),
];

/// Applies the migrations that the database has not seen.
pub(in crate::store) async fn migrate<'a, A>(database: A, scripts: &[Script]) -> Result<(), StoreError>
where
    A: Acquire<'a>,
    <A::Database as Database>::Connection: Migrate,
{
    let migrations = scripts
        .iter()
        .map(|(version, name, sql)| {
            Migration::new(
                *version,
                Cow::Borrowed(*name),
                MigrationType::Simple,
                (*sql).into_sql_str(),
                false,
            )
        })
        .collect();
    Migrator::with_migrations(migrations)
        .run(database)
        .await
        .map_err(|e| StoreError::Database { action: "migrate the schema", source: Box::new(e) })
}

/// Refuses a schema that is missing, too old for this binary, or that says this binary is too old.
pub(in crate::store) async fn check<E: Engine>(engine: &E) -> Result<(), StoreError> {
    let failed = || database("read the schema's version");
    let look = Statement::any(engine.dialect().has_schema);
    let rows = engine.fetch(look).await.map_err(failed())?;
    if rows.first().map(|row| Columns::new(row, "schema_version").int("count")).transpose()? != Some(1) {
        return Err(StoreError::Schema("the database has no schema; run `sandyq migrate`".to_owned()));
    }
    let version = Statement::any("/* schema::check */ SELECT version, oldest_binary FROM schema_version");
    let rows = engine.fetch(version).await.map_err(failed())?;
    let missing = crate::store::Damage { table: "schema_version", column: "version" };
    let mut columns = Columns::new(rows.first().ok_or(missing)?, "schema_version");
    let (version, oldest) = (columns.int("version")?, columns.int("oldest_binary")?);
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
