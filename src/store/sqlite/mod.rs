//! SQLite: one writer, a pool of readers, write-ahead log with full synchronisation.

mod tamper;

use std::{
    fs::{File, TryLockError},
    io,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{
    Connection as _, Sqlite, SqlitePool, Transaction,
    pool::PoolConnection,
    query::Query,
    sqlite::{
        SqliteArguments, SqliteConnectOptions, SqliteJournalMode, SqlitePoolOptions, SqliteRow,
        SqliteSynchronous,
    },
};

pub use tamper::overwrite_entry;
use tokio::time::sleep;

use super::{
    Store, StoreError,
    sql::{
        Engine, Purpose, SqlStore, database,
        engine::{bound, sql_row},
        schema,
        statement::{Column, Dialect, SQLITE, Statement, json_rows},
    },
    whereabouts::Whereabouts,
};

const READERS: u32 = 4;

/// Extended codes of SQLite for a file, and for a directory, that could not be synchronised (`SQLITE_IOERR_FSYNC` and
/// `SQLITE_IOERR_DIR_FSYNC`).
const NOT_KEPT: [&str; 2] = ["1034", "1290"];

/// The database in one file.
struct SqliteEngine {
    writer: SqlitePool,
    readers: SqlitePool,
    /// [`Dialect::swap_head`] with its own transaction around it: one hand-over to the writer's thread instead of three.
    swap_alone: &'static str,
    /// Whether the disk once failed to keep what was written: nothing is written any more.
    failed: AtomicBool,
    /// Held for the life of the process: a second vault on the same file would fight over the head.
    _lock: File,
}

/// Opens the database of an installation. The schema must be there and be one that this binary may run on.
///
/// # Errors
/// [`StoreError::Schema`] says what to do where the file is missing, in use, or of another version.
pub async fn open(path: &Path) -> Result<Arc<dyn Store>, StoreError> {
    if !path.exists() {
        return Err(StoreError::Schema(format!(
            "{} does not exist; `sandyq init` makes a new installation",
            path.display()
        )));
    }
    let store = SqlStore::new(SqliteEngine::connect(path, false).await?);
    schema::check(store.engine()).await?;
    Ok(Arc::new(store))
}

/// Opens or creates the database and brings its schema to this binary's version.
///
/// # Errors
/// [`StoreError`].
pub async fn open_and_migrate(path: &Path) -> Result<Arc<dyn Store>, StoreError> {
    let store = SqlStore::new(SqliteEngine::connect(path, true).await?);
    schema::migrate(&store.engine().writer, schema::SQLITE).await?;
    schema::check(store.engine()).await?;
    Ok(Arc::new(store))
}

impl SqliteEngine {
    async fn connect(path: &Path, create: bool) -> Result<Self, StoreError> {
        let lock = lock(path).await?;
        if create {
            private(path)?;
        }
        let options = file_options(path, create);
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
        // Prepared statements want texts that live as long as the process.
        let swap_alone = format!("BEGIN IMMEDIATE; {}; COMMIT; SELECT 1", SQLITE.swap_head).leak();
        Ok(Self { writer, readers, swap_alone, failed: AtomicBool::new(false), _lock: lock })
    }

    /// After a synchronisation that failed the kernel may have let go of what it did not write, and the next one succeeds all the same:
    /// from then on an acknowledgement of this process would be no more than a hope.
    fn watch<T>(&self, outcome: sqlx::Result<T>) -> sqlx::Result<T> {
        let error = outcome.as_ref().err().and_then(sqlx::Error::as_database_error);
        let code = error.and_then(sqlx::error::DatabaseError::code);
        if code.is_some_and(|code| NOT_KEPT.contains(&code.as_ref()))
            && !self.failed.swap(true, Ordering::SeqCst)
        {
            tracing::error!(
                "the disk did not keep what was written: this process writes nothing any more (docs/runbooks/alerts.md, SandyqNotServing)"
            );
        }
        outcome
    }

    /// Runs statements with their own transaction around them and a row after it, which is not answered: one hand-over to the
    /// writer's thread instead of three.
    async fn write_whole(&self, statement: Statement<'_>) -> sqlx::Result<Vec<SqliteRow>> {
        let mut writing = Writing { connection: self.writer.acquire().await?, ended: false };
        // Here, since another's end may have become known while this one waited; and after, where it came from a connection that was given
        // back before its end was known.
        self.require_kept()?;
        let query = bound!(Sqlite, statement, bind_rows);
        let mut answered = self.watch(query.fetch_all(&mut *writing.connection).await)?;
        // The driver's thread may end in between, and answers no error then, only less: the last row says that all is done.
        answered.pop().ok_or(sqlx::Error::WorkerCrashed)?;
        writing.ended = true;
        self.require_kept()?;
        Ok(answered)
    }

    fn require_kept(&self) -> sqlx::Result<()> {
        if self.failed.load(Ordering::SeqCst) {
            return Err(sqlx::Error::Io(io::Error::other("the disk did not keep an earlier write")));
        }
        Ok(())
    }
}

/// The writer's connection in a transaction that the driver does not know of. Where it did not come to its end the
/// connection is closed, which undoes it.
struct Writing {
    connection: PoolConnection<Sqlite>,
    ended: bool,
}

impl Drop for Writing {
    fn drop(&mut self) {
        if !self.ended {
            self.connection.close_on_drop();
        }
    }
}

/// What a connection is set up with.
pub(super) fn file_options(path: &Path, create: bool) -> SqliteConnectOptions {
    SqliteConnectOptions::new()
        .filename(path)
        .create_if_missing(create)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .foreign_keys(true)
        .busy_timeout(Duration::from_secs(5))
        .pragma("trusted_schema", "OFF")
        .pragma("secure_delete", "ON")
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

/// How long another holder of the lock is waited for: a process that is ending, or a child that is being born of one that
/// has let it go and holds every open file until it runs its own program.
const LOCK_PATIENCE: Duration = Duration::from_secs(3);
const LOCK_RETRY: Duration = Duration::from_millis(20);

async fn lock(path: &Path) -> Result<File, StoreError> {
    let name = path.with_extension("lock");
    let failed = |e: io::Error| StoreError::Schema(format!("cannot lock {}: {e}", name.display()));
    let file = File::options().create(true).truncate(false).write(true).open(&name).map_err(failed)?;
    let patience = Instant::now() + LOCK_PATIENCE;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::Error(error)) => return Err(failed(error)),
            Err(TryLockError::WouldBlock) if Instant::now() < patience => sleep(LOCK_RETRY).await,
            Err(TryLockError::WouldBlock) => {
                let used = format!("{} is in use by another process of this vault", path.display());
                return Err(StoreError::Schema(used));
            }
        }
    }
}

sql_row!(SqliteRow);

#[async_trait::async_trait]
impl Engine for SqliteEngine {
    type Row = SqliteRow;
    type Tx = Transaction<'static, Sqlite>;

    fn dialect(&self) -> &'static Dialect {
        &SQLITE
    }

    async fn swap_head_alone(&self, statement: Statement<'_>) -> sqlx::Result<bool> {
        let whole = Statement { sql: self.swap_alone, ..statement };
        self.write_whole(whole).await.map(|answered| !answered.is_empty())
    }

    async fn fetch(&self, statement: Statement<'_>) -> sqlx::Result<Vec<SqliteRow>> {
        bound!(Sqlite, statement, bind_rows).fetch_all(&self.readers).await
    }

    async fn execute(&self, statement: Statement<'_>) -> sqlx::Result<u64> {
        let mut tx = self.begin(Purpose::Write).await?;
        let touched = self.execute_in(&mut tx, statement).await?;
        self.commit(tx).await.map(|()| touched)
    }

    async fn begin(&self, purpose: Purpose) -> sqlx::Result<Self::Tx> {
        match purpose {
            Purpose::Read | Purpose::Copy => self.readers.begin().await,
            Purpose::Write => {
                self.require_kept()?;
                self.watch(self.writer.begin_with("BEGIN IMMEDIATE").await)
            }
        }
    }

    async fn fetch_in(&self, tx: &mut Self::Tx, statement: Statement<'_>) -> sqlx::Result<Vec<SqliteRow>> {
        self.watch(bound!(Sqlite, statement, bind_rows).fetch_all(&mut **tx).await)
    }

    async fn execute_in(&self, tx: &mut Self::Tx, statement: Statement<'_>) -> sqlx::Result<u64> {
        let query = bound!(Sqlite, statement, bind_rows);
        Ok(self.watch(query.execute(&mut **tx).await)?.rows_affected())
    }

    async fn commit(&self, tx: Self::Tx) -> sqlx::Result<()> {
        // Also where it began while the other's end was not known.
        self.require_kept()?;
        self.watch(tx.commit().await)
    }

    async fn rollback(&self, tx: Self::Tx) -> sqlx::Result<()> {
        tx.rollback().await
    }

    async fn whereabouts(&self) -> sqlx::Result<Option<Whereabouts>> {
        Ok(None)
    }

    async fn close(&self) {
        self.readers.close().await;
        self.writer.close().await;
    }
}

fn bind_rows<'q>(
    query: Query<'q, Sqlite, SqliteArguments>,
    columns: &[Column<'_>],
) -> Query<'q, Sqlite, SqliteArguments> {
    query.bind(json_rows(columns))
}

#[cfg(test)]
mod tests {
    use sqlx::Row as _;

    use super::*;
    use crate::store::sql::{
        decode::{GROUPED_BYTES, GROUPED_TEXTS, SqlRow as _},
        packed,
        snapshot::{all_sql, by_token_sql},
    };

    const THINGS: &str = "CREATE TABLE things (id BLOB, name TEXT, number INTEGER) STRICT";

    type Thing<'a> = (Option<&'a [u8]>, Option<&'a str>, Option<i64>);

    /// One damaged text hides no other row, and what is not there is not an empty string.
    #[tokio::test]
    async fn packed_rows_are_what_is_stored() {
        let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
        // Not STRICT, as a file that somebody edited may be.
        sqlx::raw_sql(THINGS.trim_end_matches("STRICT")).execute(&pool).await.unwrap();
        let stored = "INSERT INTO things VALUES (x'00ff', 'a\"\\' || char(1, 1178), -9223372036854775808), \
            (x'', '', 0), (NULL, NULL, NULL), ('61', x'61', 1.5), (x'aa', CAST(x'61ff' AS TEXT), 9223372036854775807)";
        sqlx::raw_sql(stored).execute(&pool).await.unwrap();
        let row = packed::row(7, [&["id"], &["name"], &["number"]], "(SELECT * FROM things ORDER BY rowid)");
        let text = sqlx::AssertSqlSafe(packed::all(&row));
        let answer = sqlx::query(text).fetch_all(&pool).await.unwrap();
        let rows = packed::rows(&answer).unwrap();
        let (first_text, first_number) = (1 + GROUPED_BYTES, 1 + GROUPED_BYTES + GROUPED_TEXTS);
        let read = rows.iter().map(|row| {
            assert_eq!(row.int(0).ok(), Some(Some(7)));
            assert_eq!(row.bytes(2).ok(), Some(None), "what a kind of rows has not");
            (
                row.bytes(1).ok().unwrap(),
                row.text(first_text).ok().unwrap(),
                row.int(first_number).ok().unwrap(),
            )
        });
        let expected: [Thing<'_>; 5] = [
            (Some(&[0, 255]), Some("a\"\\\u{1}\u{49a}"), Some(i64::MIN)),
            (Some(&[]), Some(""), Some(0)),
            (None, None, None),
            (None, None, None),
            (Some(&[0xaa]), Some("a\u{fffd}"), Some(i64::MAX)),
        ];
        assert_eq!(read.collect::<Vec<_>>(), expected);
    }

    /// Statements that are sent with their own transaction around them leave nothing behind where one fails.
    #[tokio::test]
    async fn a_commit_that_fails_half_way_is_undone_and_the_next_goes_on() {
        let dir = tempfile::tempdir().unwrap();
        let engine = SqliteEngine::connect(&dir.path().join("things.db"), true).await.unwrap();
        engine.execute(Statement::any(THINGS)).await.unwrap();
        let write = |sql| engine.write_whole(Statement::any(sql));
        let count = async || {
            let found = engine.fetch(Statement::any("SELECT count(*) FROM things")).await.unwrap();
            found[0].int(0).ok().unwrap()
        };
        let half = "BEGIN IMMEDIATE; INSERT INTO things VALUES (x'01', 'a', 1); INSERT INTO things VALUES (1, 1, 1); COMMIT; SELECT 1";
        assert!(write(half).await.is_err());
        assert_eq!(count().await, Some(0));
        let whole =
            "BEGIN IMMEDIATE; INSERT INTO things VALUES (x'01', 'a', 1) RETURNING number; COMMIT; SELECT 1";
        assert_eq!(write(whole).await.unwrap().len(), 1);
        assert_eq!(count().await, Some(1));
        let cut_off = "BEGIN IMMEDIATE; DELETE FROM things; COMMIT";
        assert!(write(cut_off).await.is_err(), "nothing said that it came to its end");
    }

    /// What waits for the writer while another's write is lost is not written after it, and acknowledged even less.
    #[tokio::test]
    async fn what_waited_while_the_disk_failed_is_not_written() {
        let dir = tempfile::tempdir().unwrap();
        let engine = SqliteEngine::connect(&dir.path().join("things.db"), true).await.unwrap();
        engine.execute(Statement::any(THINGS)).await.unwrap();
        let whole = "BEGIN IMMEDIATE; INSERT INTO things VALUES (x'01', 'a', 1); COMMIT; SELECT 1";
        let others = engine.writer.acquire().await.unwrap();
        let mut waiting = std::pin::pin!(engine.write_whole(Statement::any(whole)));
        tokio::select! {
            biased;
            _ = &mut waiting => panic!("there is one writer"),
            () = std::future::ready(()) => {}
        }
        engine.failed.store(true, Ordering::SeqCst);
        drop(others);
        assert!(waiting.await.is_err());
        let found = engine.fetch(Statement::any("SELECT count(*) FROM things")).await.unwrap();
        assert_eq!(found[0].int(0).ok().unwrap(), Some(0));
    }

    /// The hot read must go from keys to rows: a plan that walks through a table grows with the platform.
    #[tokio::test]
    async fn the_batch_read_scans_no_table() {
        let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
        schema::migrate(&pool, schema::SQLITE).await.unwrap();
        let explained =
            |sql: String| sqlx::query(sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {sql}"))).bind(1);
        let mut all = explained(all_sql(&SQLITE));
        for _ in 0..6 {
            all = all.bind("[]");
        }
        let all = all.bind(0).bind("[]").bind("[]").bind("[]").bind(0).bind(0).bind("[]");
        let all = all.bind("[]").bind("[]").bind(0).bind(0);
        let mut plan = all.fetch_all(&pool).await.unwrap();
        let by_token = explained(by_token_sql(&SQLITE, true)).bind("[]").bind("[]").bind("[]");
        plan.extend(by_token.fetch_all(&pool).await.unwrap());
        let by_token_alone = explained(by_token_sql(&SQLITE, false)).bind("[]");
        plan.extend(by_token_alone.fetch_all(&pool).await.unwrap());
        let steps: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
        assert!(steps.len() > 20, "{steps:?}");
        for step in steps {
            let own = ["wanted", "tok", "val", "named", "rec", "docs", "theirs", "ids", "t", "every"];
            let is_own =
                own.iter().any(|o| step == format!("SCAN {o}") || step.starts_with(&format!("SCAN {o} ")));
            assert!(!step.starts_with("SCAN") || is_own, "{step}");
            let by_platform_alone = step.starts_with("SEARCH") && step.ends_with("(platform_id=?)");
            assert!(!by_platform_alone, "{step}");
        }
    }
}
