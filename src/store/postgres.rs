//! PostgreSQL, connected directly: one server's connections, each of them the vault's own.
//!
//! A transaction pooler in between would hand one client's statements to another's connection. Each new connection
//! therefore reads back a nonce that it sent as a startup option: a pooler either refuses such an option, or gives
//! a server connection that was started by somebody else.

mod border;
mod session;

use std::{
    fmt,
    net::IpAddr,
    path::PathBuf,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use sqlx::{
    ConnectOptions as _, Executor as _, PgPool, Postgres, Row as _,
    postgres::{PgArguments, PgConnectOptions, PgConnection, PgPoolOptions, PgRow, PgSslMode},
    query::Query,
};

use super::{
    Store, StoreError,
    sql::{
        Engine, Purpose, SqlStore, database,
        engine::{bound, sql_row},
        schema,
        statement::{Column, Dialect, POSTGRES, Statement},
    },
    whereabouts::Whereabouts,
};
use crate::domain::{
    rng::{Rng, random_bytes},
    territory::{Refused, Territory},
};
use border::Border;
use session::{Session, within};

/// Oldest server that the statements are written for.
const OLDEST_SERVER: u32 = 140_000;
/// How long a call waits for a connection.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(10);

/// How to reach a server.
#[derive(Debug, Clone)]
pub struct PostgresOptions {
    /// `postgres://user@host:port/database?sslmode=verify-full&sslrootcert=…`, without a password.
    pub url: String,
    /// Password, where the server asks for one.
    pub password: Option<zeroize::Zeroizing<String>>,
    /// Connections that this process may hold.
    pub connections: u32,
}

/// Where a server answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ServerPlace {
    /// A socket in this directory.
    Socket(PathBuf),
    /// A host and a port.
    Host(String, u16),
}

impl fmt::Display for ServerPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Socket(directory) => directory.display().fmt(f),
            Self::Host(host, port) if host.contains(':') => write!(f, "[{host}]:{port}"),
            Self::Host(host, port) => write!(f, "{host}:{port}"),
        }
    }
}

impl PostgresOptions {
    /// Where the server answers.
    ///
    /// # Errors
    /// [`StoreError::Schema`] where the URL does not parse.
    pub fn place(&self) -> Result<ServerPlace, StoreError> {
        let parsed = parse_url(&self.url)?;
        let host = parsed.get_host();
        Ok(match parsed.get_socket() {
            Some(socket) => ServerPlace::Socket(socket.clone()),
            None if host.starts_with('/') => ServerPlace::Socket(host.into()),
            None => ServerPlace::Host(host.trim_matches(['[', ']']).to_owned(), parsed.get_port()),
        })
    }

    /// Whether the server is one on this machine, or proves who it is.
    ///
    /// # Errors
    /// [`StoreError::Schema`] where the URL does not parse.
    pub fn verifies_server(&self) -> Result<bool, StoreError> {
        let parsed = parse_url(&self.url)?;
        let host = parsed.get_host();
        let loopback =
            host == "localhost" || host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
        let socket = parsed.get_socket().is_some() || host.starts_with('/');
        Ok(socket || loopback || matches!(parsed.get_ssl_mode(), PgSslMode::VerifyFull))
    }
}

fn parse_url(url: &str) -> Result<PgConnectOptions, StoreError> {
    // The URL itself is not repeated: it may hold a password after all.
    url.parse().map_err(|_| StoreError::Schema("the PostgreSQL URL does not parse".to_owned()))
}

struct PostgresEngine {
    pool: PgPool,
    stale: Arc<Stale>,
}

/// When this process last learnt that its server had become read-only or silent: older connections are closed.
#[derive(Debug, Default)]
struct Stale {
    seen: AtomicBool,
    since: Mutex<Option<Instant>>,
}

impl Stale {
    fn mark(&self) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
        self.seen.store(true, Ordering::Release);
    }

    /// Whether a connection of this age was made before that.
    fn concerns(&self, age: Duration) -> bool {
        if !self.seen.load(Ordering::Acquire) {
            return false;
        }
        let since = *self.since.lock().unwrap_or_else(PoisonError::into_inner);
        since.is_some_and(|since| age >= since.elapsed())
    }
}

/// Opens the database of an installation.
///
/// # Errors
/// [`StoreError::Schema`] says what to do where the schema is missing or of another version, or where a pooler stands
/// in between; [`StoreError::Outside`] where the server is.
pub async fn open(
    options: &PostgresOptions,
    territory: &Arc<dyn Territory>,
    rng: &dyn Rng,
) -> Result<Arc<dyn Store>, StoreError> {
    let store = SqlStore::new(PostgresEngine::connect(options, territory, rng).await?);
    schema::check(store.engine()).await?;
    Ok(Arc::new(store))
}

/// Opens the database and brings its schema to this binary's version.
///
/// # Errors
/// [`StoreError`].
pub async fn open_and_migrate(
    options: &PostgresOptions,
    territory: &Arc<dyn Territory>,
    rng: &dyn Rng,
) -> Result<Arc<dyn Store>, StoreError> {
    let store = SqlStore::new(PostgresEngine::connect(options, territory, rng).await?);
    schema::require_nobody_older(store.engine(), schema::POSTGRES).await?;
    schema::migrate(&store.engine().pool, schema::POSTGRES).await?;
    schema::check(store.engine()).await?;
    Ok(Arc::new(store))
}

impl PostgresEngine {
    async fn connect(
        options: &PostgresOptions,
        territory: &Arc<dyn Territory>,
        rng: &dyn Rng,
    ) -> Result<Self, StoreError> {
        let nonce = random_bytes::<16>(rng).map_err(|e| StoreError::Schema(e.to_string()))?;
        let nonce: Arc<str> = data_encoding::HEXLOWER.encode(&nonce).into();
        let border = Border::new(options.place()?, territory);
        border.look().await?;
        let connect = connect_options(options, &nonce)?;
        // Once by hand first: the pool would try again and again, and tell a timeout instead of the reason.
        let mut first = connect.connect().await.map_err(refused)?;
        check_server(&mut first, &nonce).await?;
        border.check(&mut first).await.map_err(refused)?;
        sqlx::Connection::close(first).await.map_err(database("connect"))?;

        let stale = Arc::new(Stale::default());
        let watched = Arc::clone(&stale);
        let pool = PgPoolOptions::new()
            .max_connections(options.connections.max(2))
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .max_lifetime(None)
            .test_before_acquire(false)
            .after_connect(move |connection, _| {
                let (nonce, border) = (Arc::clone(&nonce), border.clone());
                Box::pin(async move {
                    if !reads_back(connection, &nonce).await? {
                        return Err(sqlx::Error::Configuration(POOLER.into()));
                    }
                    border.check(connection).await
                })
            })
            .before_acquire(move |_, meta| {
                let stale = watched.concerns(meta.age);
                Box::pin(async move { Ok(!stale) })
            })
            .connect_with(connect)
            .await
            .map_err(database("open the database"))?;
        Ok(Self { pool, stale })
    }

    /// A server that was demoted answers 25006 to writes for ever, and one that is frozen answers nothing: its connections go,
    /// and new ones find its successor.
    fn watch<T>(&self, outcome: sqlx::Result<T>) -> sqlx::Result<T> {
        let Err(error) = &outcome else { return outcome };
        let code = error.as_database_error().and_then(sqlx::error::DatabaseError::code);
        if code.as_deref() == Some("25006") {
            self.stale.mark();
            tracing::warn!("the database server is read-only; its connections are closed");
        }
        if matches!(error, sqlx::Error::Io(io) if io.kind() == std::io::ErrorKind::TimedOut) {
            self.stale.mark();
            tracing::warn!("the database server does not answer; its connections are closed");
        }
        outcome
    }
}

const ONE_STATE: &str = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY";
const POOLER: &str = "a connection pooler stands between the vault and PostgreSQL: the connection that answered is not \
                      the one that was opened. Poolers in transaction mode mix statements of different clients, so \
                      the vault connects directly (docs/configuration.md)";

fn refused(error: sqlx::Error) -> StoreError {
    if let sqlx::Error::Configuration(source) = &error
        && let Some(refused) = source.downcast_ref::<Refused>()
    {
        return refused.clone().into();
    }
    // What a pooler says that does not pass startup options on.
    let text = error.to_string();
    if text.contains("unsupported startup parameter") {
        return StoreError::Schema(POOLER.to_owned());
    }
    database("connect")(error)
}

fn connect_options(options: &PostgresOptions, nonce: &str) -> Result<PgConnectOptions, StoreError> {
    let parsed = parse_url(&options.url)?;
    let parsed = parsed.application_name("sandyq").options([
        ("sandyq.nonce", nonce),
        ("synchronous_commit", "on"),
        ("default_transaction_isolation", "read committed"),
        ("statement_timeout", "20s"),
        ("lock_timeout", "10s"),
        ("idle_in_transaction_session_timeout", "30s"),
        ("timezone", "UTC"),
        // Each statement is planned once a connection, for any keys: planning anew costs more than the batch read. An
        // index can be taken from the first row on, when the tables are so small that reading them whole looks cheap.
        ("plan_cache_mode", "force_generic_plan"),
        ("enable_seqscan", "off"),
        ("jit", "off"),
    ]);
    Ok(match &options.password {
        Some(password) => parsed.password(password.as_str()),
        None => parsed,
    })
}

/// What a session of the vault is set up with, for one that is not its own.
pub(super) fn session_options(options: &PostgresOptions) -> Result<PgConnectOptions, StoreError> {
    connect_options(options, "")
}

async fn reads_back(connection: &mut PgConnection, nonce: &str) -> sqlx::Result<bool> {
    let row = connection.fetch_one("SELECT current_setting('sandyq.nonce', true)").await?;
    Ok(row.try_get::<Option<String>, _>(0)?.as_deref() == Some(nonce))
}

async fn check_server(connection: &mut PgConnection, nonce: &str) -> Result<(), StoreError> {
    let failed = || database("look at the database server");
    if !reads_back(connection, nonce).await.map_err(failed())? {
        return Err(StoreError::Schema(POOLER.to_owned()));
    }
    let sql = "SELECT current_setting('server_version_num')::int4, current_setting('fsync'), \
               current_setting('full_page_writes')";
    let row = connection.fetch_one(sql).await.map_err(failed())?;
    let version: i32 = row.try_get(0).map_err(failed())?;
    if u32::try_from(version).unwrap_or(0) < OLDEST_SERVER {
        return Err(StoreError::Schema("the vault needs PostgreSQL 14 or newer".to_owned()));
    }
    for (column, setting) in [(1, "fsync"), (2, "full_page_writes")] {
        if row.try_get::<String, _>(column).map_err(failed())? != "on" {
            tracing::warn!(setting, "the database server runs with a setting that loses data in a crash");
        }
    }
    Ok(())
}

sql_row!(PgRow);

#[async_trait::async_trait]
impl Engine for PostgresEngine {
    type Row = PgRow;
    type Tx = Session;

    fn dialect(&self) -> &'static Dialect {
        &POSTGRES
    }

    async fn swap_head_alone(&self, statement: Statement<'_>) -> sqlx::Result<bool> {
        Ok(!self.fetch(statement).await?.is_empty())
    }

    async fn fetch(&self, statement: Statement<'_>) -> sqlx::Result<Vec<PgRow>> {
        let mut session = Session::of(&self.pool).await?;
        let query = bound!(Postgres, statement, bind_rows);
        let found = within(session.limit(), query.fetch_all(&mut *session)).await;
        session.give_back_after(&found);
        self.watch(found)
    }

    async fn execute(&self, statement: Statement<'_>) -> sqlx::Result<u64> {
        let mut session = Session::of(&self.pool).await?;
        let query = bound!(Postgres, statement, bind_rows);
        let done = within(session.limit(), query.execute(&mut *session)).await;
        session.give_back_after(&done);
        Ok(self.watch(done)?.rows_affected())
    }

    async fn begin(&self, purpose: Purpose) -> sqlx::Result<Self::Tx> {
        match purpose {
            Purpose::Read => self.watch(Session::begun(&self.pool, ONE_STATE).await),
            Purpose::Copy => {
                let mut tx = self.watch(Session::begun(&self.pool, ONE_STATE).await)?;
                // Counting a log of a year takes longer than any statement that somebody waits for.
                let (limit, unbounded) =
                    (tx.limit(), "SET LOCAL statement_timeout = 0; SET LOCAL enable_seqscan = on");
                self.watch(within(limit, tx.execute(unbounded)).await)?;
                tx.without_limit();
                Ok(tx)
            }
            Purpose::Write => self.watch(Session::begun(&self.pool, "BEGIN").await),
        }
    }

    async fn fetch_in(&self, tx: &mut Self::Tx, statement: Statement<'_>) -> sqlx::Result<Vec<PgRow>> {
        let query = bound!(Postgres, statement, bind_rows);
        self.watch(within(tx.limit(), query.fetch_all(&mut **tx)).await)
    }

    async fn execute_in(&self, tx: &mut Self::Tx, statement: Statement<'_>) -> sqlx::Result<u64> {
        let query = bound!(Postgres, statement, bind_rows);
        Ok(self.watch(within(tx.limit(), query.execute(&mut **tx)).await)?.rows_affected())
    }

    async fn commit(&self, tx: Self::Tx) -> sqlx::Result<()> {
        self.watch(tx.end("COMMIT").await)
    }

    async fn rollback(&self, tx: Self::Tx) -> sqlx::Result<()> {
        tx.end("ROLLBACK").await
    }

    async fn whereabouts(&self) -> sqlx::Result<Option<Whereabouts>> {
        let mut session = Session::of(&self.pool).await?;
        let found = within(session.limit(), border::whereabouts(&mut session)).await;
        session.give_back_after(&found);
        self.watch(found).map(Some)
    }

    async fn close(&self) {
        self.pool.close().await;
    }
}

fn bind_rows<'q>(
    query: Query<'q, Postgres, PgArguments>,
    columns: &[Column<'_>],
) -> Query<'q, Postgres, PgArguments> {
    columns.iter().fold(query, |query, column| match column {
        Column::Bytes(values) => query.bind(values.as_slice()),
        Column::Ints(values) => query.bind(values.as_slice()),
        Column::Texts(values) => query.bind(values.as_slice()),
    })
}
