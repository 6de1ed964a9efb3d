//! What a database administrator with bad intent would do. `sandyq demo --tamper` shows that it does not stay unseen.

use std::path::Path;

use sqlx::{Connection as _, SqliteConnection, sqlite::SqliteConnectOptions};

use super::database;
use crate::{
    domain::ids::PlatformId,
    store::{Damage, StoreError},
};

/// Changes one byte of a stored entry, behind the vault and past its lock.
///
/// # Errors
/// [`StoreError`], also where there is no such entry.
pub async fn overwrite_entry(path: &Path, platform: PlatformId, position: u64) -> Result<(), StoreError> {
    let mut connection = SqliteConnection::connect_with(&SqliteConnectOptions::new().filename(path))
        .await
        .map_err(database("open the database"))?;
    let changed = sqlx::query(
        "/* tamper */ UPDATE audit_entries SET entry = CAST(substr(entry, 1, length(entry) - 1) || \
         CASE WHEN substr(entry, -1) = x'30' THEN x'31' ELSE x'30' END AS BLOB) \
         WHERE platform_id = $1 AND position = $2",
    )
    .bind(i64::from(platform.get()))
    .bind(i64::try_from(position).unwrap_or(i64::MAX))
    .execute(&mut connection)
    .await
    .map_err(database("overwrite an entry"))?;
    connection.close().await.map_err(database("close the database"))?;
    if changed.rows_affected() == 1 {
        Ok(())
    } else {
        Err(StoreError::Damaged(Damage { table: "audit_entries", column: "position" }))
    }
}
