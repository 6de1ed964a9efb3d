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
    (22, "data_copies", include_str!("../../../migrations/sqlite/0022_data_copies.sql")),
    (23, "room_for_wraps", include_str!("../../../migrations/sqlite/0023_room_for_wraps.sql")),
    (24, "recipient_keys", include_str!("../../../migrations/sqlite/0024_recipient_keys.sql")),
    (25, "reviews", include_str!("../../../migrations/sqlite/0025_reviews.sql")),
    (26, "recipient_terms", include_str!("../../../migrations/sqlite/0026_recipient_terms.sql")),
    (27, "refused_withdrawals", include_str!("../../../migrations/sqlite/0027_refused_withdrawals.sql")),
    (28, "accuracy", include_str!("../../../migrations/sqlite/0028_accuracy.sql")),
    (29, "outreach", include_str!("../../../migrations/sqlite/0029_outreach.sql")),
    (30, "changes", include_str!("../../../migrations/sqlite/0030_changes.sql")),
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
    (22, "data_copies", include_str!("../../../migrations/postgres/0022_data_copies.sql")),
    (23, "room_for_wraps", include_str!("../../../migrations/postgres/0023_room_for_wraps.sql")),
    (24, "recipient_keys", include_str!("../../../migrations/postgres/0024_recipient_keys.sql")),
    (25, "reviews", include_str!("../../../migrations/postgres/0025_reviews.sql")),
    (26, "recipient_terms", include_str!("../../../migrations/postgres/0026_recipient_terms.sql")),
    (27, "refused_withdrawals", include_str!("../../../migrations/postgres/0027_refused_withdrawals.sql")),
    (28, "accuracy", include_str!("../../../migrations/postgres/0028_accuracy.sql")),
    (29, "outreach", include_str!("../../../migrations/postgres/0029_outreach.sql")),
    (30, "changes", include_str!("../../../migrations/postgres/0030_changes.sql")),
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

/// A process that was not heard of for so long has ended.
const SILENT_MICROS: i64 = 30 * 1_000_000;

/// Refuses to bring the schema to a version that would be too new for processes that serve the database now: they would go on
/// writing rows as they know them. Where a file's lock already keeps all others away, nobody has to ask.
pub(in crate::store) async fn require_nobody_older<E: Engine>(
    engine: &E,
    scripts: &[Script],
) -> Result<(), StoreError> {
    let failed = || database("look who serves the database");
    let look = Statement::any(engine.dialect().has_schema);
    let rows = engine.fetch(look).await.map_err(failed())?;
    if rows.first().map(|row| Columns::new(row, "schema_version").int("count")).transpose()? != Some(1) {
        return Ok(());
    }
    let oldest = oldest_binary(scripts);
    // Rendered once in the life of a process that migrates.
    let sql = engine.dialect().render(
        "/* schema::require_nobody_older */ SELECT r.name FROM replicas r CROSS JOIN schema_version v \
         WHERE v.version < $1 AND r.schema < $2 AND r.heartbeat_at > {now} - $3 ORDER BY r.name",
    );
    let older = Statement::any(sql.leak()).int(SCHEMA_VERSION).int(oldest).int(SILENT_MICROS);
    let rows = engine.fetch(older).await.map_err(failed())?;
    let names = rows.iter().map(|row| Columns::new(row, "replicas").text("name").map(str::to_owned));
    let names = names.collect::<Result<Vec<_>, _>>()?;
    if names.is_empty() {
        return Ok(());
    }
    Err(StoreError::Schema(format!(
        "schema {SCHEMA_VERSION} is for binaries of schema {oldest} or newer, and older ones serve this database now: {}. Stop \
         them, and migrate again when they have been silent for half a minute (docs/upgrade.md)",
        names.join(", ")
    )))
}

/// The oldest binary that may run when all scripts are applied, as the last of them says.
fn oldest_binary(scripts: &[Script]) -> i64 {
    let said = scripts.last().and_then(|(_, _, sql)| sql.split_once("oldest_binary = "));
    let digits = said.map(|(_, rest)| rest.split(|c: char| !c.is_ascii_digit()).next().unwrap_or_default());
    digits.and_then(|digits| digits.parse().ok()).unwrap_or(SCHEMA_VERSION)
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_script_says_who_may_run() {
        let script = |sql| [(1, "init", "…"), (2, "next", sql)];
        let said = "UPDATE schema_version SET version = 13, oldest_binary = 12;\nCREATE …";
        assert_eq!(oldest_binary(&script(said)), 12);
        assert_eq!(
            oldest_binary(&script("CREATE TABLE …")),
            SCHEMA_VERSION,
            "one that says nothing is for nobody older"
        );
        for scripts in [SQLITE, POSTGRES] {
            let (version, _, sql) = scripts.last().unwrap();
            assert_eq!(*version, SCHEMA_VERSION);
            assert!(sql.contains("oldest_binary = "), "each script says who may run on it");
        }
    }
}
