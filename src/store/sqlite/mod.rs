//! SQLite: one writer, a pool of readers, write-ahead log with full synchronisation.

mod commit;
mod decode;
mod read;
mod schema;
mod tamper;

use std::{fs::File, path::Path, time::Duration};

use sqlx::{
    Connection as _, SqlitePool,
    sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteSynchronous},
};

pub use tamper::overwrite_entry;

use super::{
    Commit, CommitOutcome, Installation, NewPlatform, ReadKeys, Snapshot, Store, StoreError, StoredConfig,
    StoredTree,
    rows::{EntryRow, SecondHead, TileRow},
};
use crate::domain::ids::PlatformId;

const READERS: u32 = 4;

/// The database in one file.
pub struct SqliteStore {
    writer: SqlitePool,
    readers: SqlitePool,
    /// Held for the life of the process: a second vault on the same file would fight over the head.
    _lock: File,
}

impl SqliteStore {
    /// Opens the database of an installation. The schema must be there and be one that this binary may run on.
    ///
    /// # Errors
    /// [`StoreError::Schema`] says what to do where the file is missing, in use, or of another version.
    pub async fn open(path: &Path) -> Result<Self, StoreError> {
        if !path.exists() {
            return Err(StoreError::Schema(format!(
                "{} does not exist; `sandyq init` makes a new installation",
                path.display()
            )));
        }
        let store = Self::connect(path, false).await?;
        schema::check(&store.writer).await?;
        Ok(store)
    }

    /// Opens or creates the database and brings its schema to this binary's version.
    ///
    /// # Errors
    /// [`StoreError`].
    pub async fn open_and_migrate(path: &Path) -> Result<Self, StoreError> {
        let store = Self::connect(path, true).await?;
        schema::migrate(&store.writer).await?;
        schema::check(&store.writer).await?;
        Ok(store)
    }

    async fn connect(path: &Path, create: bool) -> Result<Self, StoreError> {
        let lock = lock(path)?;
        if create {
            private(path)?;
        }
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(create)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(SqliteSynchronous::Full)
            .foreign_keys(true)
            .busy_timeout(Duration::from_secs(5))
            .pragma("trusted_schema", "OFF")
            .pragma("secure_delete", "ON");
        let writer = SqlitePoolOptions::new()
            .max_connections(1)
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            // SQLite undoes a transaction by itself when the disk is full or fails; the driver then believes in a
            // transaction that is no more. Such a connection is closed, and the next commit gets a new one.
            .after_release(|connection, _| Box::pin(async move { Ok(!connection.is_in_transaction()) }))
            .connect_with(options.clone())
            .await
            .map_err(database("open the database"))?;
        let readers = SqlitePoolOptions::new()
            .max_connections(READERS)
            .min_connections(1)
            .idle_timeout(None)
            .max_lifetime(None)
            .test_before_acquire(false)
            .connect_with(options.read_only(true).pragma("query_only", "ON"))
            .await
            .map_err(database("open the database for reading"))?;
        Ok(Self { writer, readers, _lock: lock })
    }
}

/// Makes the file for its owner's eyes only; SQLite gives its side files the same mode.
fn private(path: &Path) -> Result<(), StoreError> {
    let mut options = File::options();
    options.create(true).truncate(false).write(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
    let made = options.open(path);
    made.map(drop).map_err(|e| StoreError::Schema(format!("cannot create {}: {e}", path.display())))
}

fn lock(path: &Path) -> Result<File, StoreError> {
    let name = path.with_extension("lock");
    let failed = |e: std::io::Error| StoreError::Schema(format!("cannot lock {}: {e}", name.display()));
    let file = File::options().create(true).truncate(false).write(true).open(&name).map_err(failed)?;
    file.try_lock().map_err(|_| {
        StoreError::Schema(format!("{} is in use by another process of this vault", path.display()))
    })?;
    Ok(file)
}

fn database(action: &'static str) -> impl Fn(sqlx::Error) -> StoreError {
    move |source| StoreError::Database { action, source: Box::new(source) }
}

/// A size or index as SQLite stores it. None comes near 2^63.
fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

#[async_trait::async_trait]
impl Store for SqliteStore {
    async fn create_installation(&self, name: &str, vault: NewPlatform) -> Result<(), StoreError> {
        commit::create_installation(&self.writer, name, vault).await
    }

    async fn create_platform(&self, platform: NewPlatform) -> Result<(), StoreError> {
        commit::create_platform(&self.writer, platform).await
    }

    async fn installation(&self) -> Result<Option<Installation>, StoreError> {
        read::installation(&self.readers).await
    }

    async fn read(&self, platform: PlatformId, keys: &ReadKeys) -> Result<Snapshot, StoreError> {
        read::snapshot(&self.readers, platform, keys).await
    }

    async fn commit(&self, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        commit::commit(&self.writer, commit).await
    }

    async fn tree(&self, platform: PlatformId) -> Result<StoredTree, StoreError> {
        read::tree(&self.readers, platform).await
    }

    async fn config(&self, platform: PlatformId) -> Result<StoredConfig, StoreError> {
        read::config(&self.readers, platform).await
    }

    async fn entries(
        &self,
        platform: PlatformId,
        from: u64,
        limit: u32,
    ) -> Result<Vec<EntryRow>, StoreError> {
        read::entries(&self.readers, platform, from, limit).await
    }

    async fn tiles(
        &self,
        platform: PlatformId,
        level: u8,
        from: u64,
        limit: u32,
    ) -> Result<Vec<TileRow>, StoreError> {
        read::tiles(&self.readers, platform, level, from, limit).await
    }

    async fn second_heads(
        &self,
        platform: PlatformId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<SecondHead>, StoreError> {
        read::second_heads(&self.readers, platform, after, limit).await
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}
