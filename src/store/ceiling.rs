//! What the database alone can do, for `sandyq bench`: one look-up by its key, bare updates of the rows that a rotation
//! writes, and what the database says of itself. No use case comes here. Sessions are set up as the vault's own are, so
//! that what is said holds for the vault too.

use std::{net::IpAddr, path::Path};

use sqlx::{PgPool, Row as _, SqlitePool, postgres::PgPoolOptions, sqlite::SqlitePoolOptions};

use super::{
    StoreError,
    postgres::{PostgresOptions, ServerPlace, session_options},
    sql::database,
    sqlite::file_options,
};
use crate::domain::{ids::SubjectId, token::TokenHash};

const SELECT: &str = "/* ceiling::select */ SELECT record_id, state, mode, mac FROM tokens \
     WHERE platform_id = $1 AND token_hash = $2";
const NEXT: &str = "/* ceiling::next */ SELECT subject_id FROM subjects \
     WHERE platform_id = $1 AND subject_id > $2 ORDER BY subject_id LIMIT $3";
const REWRITE: &str = "/* ceiling::rewrite */ UPDATE subjects SET wrapped_key = wrapped_key \
     WHERE platform_id = $1 AND subject_id > $2 AND subject_id <= $3";
/// Settings of PostgreSQL that say whether a commit is durable, and what it is run on.
const SETTINGS: [&str; 6] = [
    "server_version",
    "fsync",
    "synchronous_commit",
    "full_page_writes",
    "wal_sync_method",
    "shared_buffers",
];
/// The same of SQLite.
const PRAGMAS: [(&str, &str); 3] = [
    ("sqlite_version", "SELECT sqlite_version()"),
    ("journal_mode", "SELECT journal_mode FROM pragma_journal_mode"),
    ("synchronous", "SELECT CAST(synchronous AS TEXT) FROM pragma_synchronous"),
];

/// A database without a vault before it.
#[derive(Debug, Clone)]
pub struct Ceiling {
    pool: Pool,
    platform: i64,
    local: bool,
}

#[derive(Debug, Clone)]
enum Pool {
    Sqlite(SqlitePool),
    Postgres(PgPool),
}

/// What a query answers as one text; SQLite and PostgreSQL alike.
macro_rules! scalar {
    ($pool:expr, $sql:expr, $type:ty) => {
        match $pool {
            Pool::Sqlite(pool) => sqlx::query_scalar::<_, $type>($sql).fetch_one(pool).await,
            Pool::Postgres(pool) => sqlx::query_scalar::<_, $type>($sql).fetch_one(pool).await,
        }
    };
}

impl Ceiling {
    /// The file of an installation, which its vault may have open.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn sqlite(path: &Path, connections: u32) -> Result<Self, StoreError> {
        let options = SqlitePoolOptions::new()
            .max_connections(connections)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false);
        let pool =
            options.connect_with(file_options(path, false)).await.map_err(database("open the database"))?;
        Self::of_first_platform(Pool::Sqlite(pool), true).await
    }

    /// The database of an installation at a server.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn postgres(options: &PostgresOptions) -> Result<Self, StoreError> {
        let local = match options.place()? {
            ServerPlace::Socket(_) => true,
            ServerPlace::Host(host, _) => {
                host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
            }
        };
        let pool = PgPoolOptions::new()
            .max_connections(options.connections)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(session_options(options)?)
            .await
            .map_err(database("open the database"))?;
        Self::of_first_platform(Pool::Postgres(pool), local).await
    }

    async fn of_first_platform(pool: Pool, local: bool) -> Result<Self, StoreError> {
        let platform = scalar!(&pool, "SELECT min(platform_id) FROM platforms WHERE platform_id > 0", i64);
        Ok(Self { platform: platform.map_err(database("look for a platform"))?, pool, local })
    }

    /// One look-up of a token by its key, and nothing else. Whether it is there.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn select(&self, token: TokenHash) -> Result<bool, StoreError> {
        let hash = token.0.as_slice();
        let found = match &self.pool {
            Pool::Sqlite(pool) => {
                let row = sqlx::query(SELECT).bind(self.platform).bind(hash).fetch_optional(pool).await;
                row.map(|row| row.is_some())
            }
            Pool::Postgres(pool) => {
                let row = sqlx::query(SELECT).bind(self.platform).bind(hash).fetch_optional(pool).await;
                row.map(|row| row.is_some())
            }
        };
        found.map_err(database("look a token up"))
    }

    /// Writes the wrapped keys of up to `rows` subjects after one as they are, in one commit. How many, and the last.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn rewrite(&self, after: SubjectId, rows: u32) -> Result<Option<(u64, SubjectId)>, StoreError> {
        let failed = || database("write subjects");
        let (platform, after, limit) = (self.platform, after.as_bytes().to_vec(), i64::from(rows));
        macro_rules! rewrite {
            ($pool:expr) => {{
                let found = sqlx::query(NEXT).bind(platform).bind(&after).bind(limit).fetch_all($pool).await;
                let found = found.map_err(failed())?;
                let Some(last) = found.last() else { return Ok(None) };
                let last: Vec<u8> = last.try_get(0).map_err(failed())?;
                let done = sqlx::query(REWRITE).bind(platform).bind(&after).bind(&last).execute($pool).await;
                (done.map_err(failed())?.rows_affected(), last)
            }};
        }
        let (done, last) = match &self.pool {
            Pool::Sqlite(pool) => rewrite!(pool),
            Pool::Postgres(pool) => rewrite!(pool),
        };
        let last: [u8; 16] = last.try_into().map_err(|_| StoreError::Schema("a subject's id".to_owned()))?;
        Ok(Some((done, SubjectId::from_bytes(last))))
    }

    /// How many subjects have their key still.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn subjects(&self) -> Result<u64, StoreError> {
        let sql = "SELECT count(*) FROM subjects WHERE platform_id > 0 AND wrapped_key IS NOT NULL";
        let count = scalar!(&self.pool, sql, i64).map_err(database("count subjects"))?;
        Ok(u64::try_from(count).unwrap_or(0))
    }

    /// What the database says of how it makes commits durable.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn settings(&self) -> Result<Vec<(&'static str, String)>, StoreError> {
        let failed = || database("read settings");
        let mut settings = Vec::new();
        match &self.pool {
            Pool::Sqlite(pool) => {
                for (name, sql) in PRAGMAS {
                    let value: String = sqlx::query_scalar(sql).fetch_one(pool).await.map_err(failed())?;
                    settings.push((name, value));
                }
            }
            Pool::Postgres(pool) => {
                for name in SETTINGS {
                    let asked = sqlx::query_scalar("SELECT current_setting($1)").bind(name);
                    settings.push((name, asked.fetch_one(pool).await.map_err(failed())?));
                }
            }
        }
        Ok(settings)
    }

    /// Process of a server on this machine that serves one of these connections.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn server_process(&self) -> Result<Option<u32>, StoreError> {
        let Pool::Postgres(pool) = &self.pool else { return Ok(None) };
        if !self.local {
            return Ok(None);
        }
        let pid: i32 = sqlx::query_scalar("SELECT pg_backend_pid()")
            .fetch_one(pool)
            .await
            .map_err(database("ask for a process"))?;
        Ok(u32::try_from(pid).ok())
    }

    /// How often the server has synchronised its log with the disk; none where it does not say.
    pub async fn syncs(&self) -> Option<u64> {
        let Pool::Postgres(pool) = &self.pool else { return None };
        // The column moved in PostgreSQL 18: what is not told is not needed.
        let syncs: i64 = sqlx::query_scalar("SELECT wal_sync FROM pg_stat_wal").fetch_one(pool).await.ok()?;
        u64::try_from(syncs).ok()
    }

    /// Bytes of the database, indexes and all.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn bytes(&self) -> Result<u64, StoreError> {
        let sql = match &self.pool {
            Pool::Sqlite(_) => "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size",
            Pool::Postgres(_) => "SELECT pg_database_size(current_database())",
        };
        let bytes = scalar!(&self.pool, sql, i64).map_err(database("measure the database"))?;
        Ok(u64::try_from(bytes).unwrap_or(0))
    }
}
