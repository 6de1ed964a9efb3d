//! The two databases, each real.

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use sandyq::{
    crypto::random::SystemRng,
    domain::territory::Territory,
    residency::{
        Residency, SystemNames,
        sites::{Site, Sites},
    },
    store::{
        Store,
        postgres::{self, PostgresOptions},
        sqlite,
    },
};
use sqlx::{Connection as _, PgConnection, SqliteConnection, sqlite::SqliteConnectOptions};

/// Where a test keeps its data.
#[derive(Debug, Clone)]
pub enum Backend {
    Sqlite,
    /// URL of a database of the test's own.
    Postgres(Arc<Url>),
}

/// Where a database is.
#[derive(Debug)]
pub struct Url {
    url: String,
    /// Its name on the test server.
    own: Option<String>,
}

/// Databases on the test server that no test holds any more.
static ENDED: Mutex<Vec<String>> = Mutex::new(Vec::new());
/// So many are dropped together: each drop waits for a checkpoint, and those after the first have little to write.
const DROPPED_TOGETHER: usize = 16;

impl Url {
    pub fn as_str(&self) -> &str {
        &self.url
    }
}

impl std::ops::Deref for Url {
    type Target = str;

    fn deref(&self) -> &str {
        &self.url
    }
}

impl Drop for Url {
    fn drop(&mut self) {
        ENDED.lock().unwrap().extend(self.own.take());
    }
}

/// Names to drop, when there are enough of them.
fn ended() -> Vec<String> {
    let mut ended = ENDED.lock().unwrap();
    if ended.len() < DROPPED_TOGETHER { Vec::new() } else { std::mem::take(&mut *ended) }
}

/// Runs an async test on both databases, as `name::sqlite` and `name::postgres`.
macro_rules! on_both {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        mod $name {
            #[tokio::test(flavor = "multi_thread")]
            async fn sqlite() {
                super::$name($crate::common::backend::Backend::Sqlite).await;
            }

            #[tokio::test(flavor = "multi_thread")]
            async fn postgres() {
                super::$name($crate::common::backend::Backend::postgres().await).await;
            }
        }
    };
}
pub(crate) use on_both;

impl Backend {
    /// A new, empty database on the test server.
    pub async fn postgres() -> Self {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let server = server_url();
        let name = format!("test_{}_{}", std::process::id(), NUMBER.fetch_add(1, Ordering::SeqCst));
        let mut admin = PgConnection::connect(&server).await.expect("the test server answers");
        for sql in [format!("DROP DATABASE IF EXISTS {name}"), format!("CREATE DATABASE {name}")] {
            sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut admin).await.unwrap();
        }
        for old in ended() {
            // One that a test's processes still have open waits for the next round.
            let dropped =
                sqlx::query(sqlx::AssertSqlSafe(format!("DROP DATABASE {old}"))).execute(&mut admin);
            if dropped.await.is_err() {
                ENDED.lock().unwrap().push(old);
            }
        }
        admin.close().await.unwrap();
        let url = server.replace("/postgres?", &format!("/{name}?"));
        Self::Postgres(Arc::new(Url { url, own: Some(name) }))
    }

    /// A database that is not on the test server.
    pub fn elsewhere(url: String) -> Self {
        Self::Postgres(Arc::new(Url { url, own: None }))
    }

    /// The migrated store; SQLite keeps its file as `sandyq.db` in `dir`.
    pub async fn store(&self, dir: &Path) -> Arc<dyn Store> {
        match self {
            Self::Sqlite => sqlite::open_and_migrate(&dir.join("sandyq.db")).await.unwrap(),
            Self::Postgres(url) => {
                postgres::open_and_migrate(&options(url), &here(), &SystemRng::new()).await.unwrap()
            }
        }
    }

    /// A local installation's configuration over this database.
    pub fn configure(&self, config: &str) -> String {
        match self {
            Self::Sqlite => config.to_owned(),
            Self::Postgres(url) => config
                .replace("sqlite = \"sandyq.db\"", &format!("postgres = \"{}\"", url.as_str()))
                .replace("\"mirror-beside-database\", ", ""),
        }
    }

    /// Another database of the same kind, for a test that needs several.
    pub async fn fresh(&self) -> Self {
        match self {
            Self::Sqlite => Self::Sqlite,
            Self::Postgres(_) => Self::postgres().await,
        }
    }

    /// Bytes that a query of a PostgreSQL database finds, in their order.
    pub async fn bytes(&self, sql: &'static str) -> Vec<Option<Vec<u8>>> {
        let Self::Postgres(url) = self else { panic!("of PostgreSQL alone") };
        let mut connection = PgConnection::connect(url).await.unwrap();
        let mut found = sqlx::query_scalar(sql).fetch_all(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        found.sort();
        found
    }

    /// Runs SQL on the database, behind the vault, and answers how many rows it touched. It is written for SQLite; what
    /// PostgreSQL spells differently (bytes) is translated.
    pub async fn sql(&self, dir: &Path, sql: &str) -> u64 {
        let sql = match self {
            Self::Sqlite => sql.to_owned(),
            Self::Postgres(_) => postgres_bytes(sql),
        };
        let sql = sqlx::AssertSqlSafe(sql);
        match self {
            Self::Sqlite => {
                let options = SqliteConnectOptions::new().filename(dir.join("sandyq.db"));
                let mut connection = SqliteConnection::connect_with(&options).await.unwrap();
                let touched = sqlx::query(sql).execute(&mut connection).await.unwrap().rows_affected();
                connection.close().await.unwrap();
                touched
            }
            Self::Postgres(url) => {
                let mut connection = PgConnection::connect(url).await.unwrap();
                let touched = sqlx::query(sql).execute(&mut connection).await.unwrap().rows_affected();
                connection.close().await.unwrap();
                touched
            }
        }
    }
}

/// Ended operations of another kind, each newer than all that are there.
pub fn many_newer_operations(platform: u32, count: u32) -> String {
    let row = |number: u32| {
        format!(
            "({platform}, x'{number:032x}', 'destroy_subject', x'{number:032x}', 'done', '', 0, x'', 0, \
             4000000000000000, 1, 1, 1, 1, 1)"
        )
    };
    let rows: Vec<_> = (1..=count).map(row).collect();
    format!(
        "INSERT INTO operations (platform_id, operation_id, kind, object_id, state, phase, key_version, resume_after, \
         rate, created_at, due_at, ended_at, fence, done, total) VALUES {}",
        rows.join(", ")
    )
}

/// `x'00'`, `zeroblob(n)` and `AS BLOB` as PostgreSQL writes them.
fn postgres_bytes(sql: &str) -> String {
    let sql = sql.replace(" AS BLOB)", " AS bytea)").replace(" x'", " '\\x").replace("(x'", "('\\x");
    let mut parts = sql.split("zeroblob(");
    let mut translated = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let depth = part.char_indices().scan(1, |depth, (at, c)| {
            *depth += i32::from(c == '(') - i32::from(c == ')');
            Some((at, *depth))
        });
        let end =
            depth.into_iter().find(|(_, depth)| *depth == 0).map(|(at, _)| at).expect("a closing bracket");
        let (length, rest) = (&part[..end], &part[end + 1..]);
        translated = format!("{translated}decode(repeat('00', {length}), 'hex'){rest}");
    }
    translated
}

/// One site in Kazakhstan, and this machine of it.
pub fn here() -> Arc<dyn Territory> {
    let site = Site {
        name: "this-machine".parse().unwrap(),
        country: "KZ".parse().unwrap(),
        networks: Vec::new(),
        here: true,
        registered: false,
        attestations: Vec::new(),
    };
    let sites = Sites::new("KZ".parse().unwrap(), vec![site], Vec::new(), 45).unwrap();
    Arc::new(Residency::new(sites, Arc::default(), Arc::new(SystemNames)))
}

pub fn options(url: &str) -> PostgresOptions {
    PostgresOptions { url: url.to_owned(), password: None, connections: 6 }
}

/// URL of the test server.
pub fn server_url() -> String {
    let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/postgres.url");
    let url = std::fs::read_to_string(&file)
        .expect("no test server: run `scripts/postgres start` first, or the tests through `scripts/test`");
    url.trim().to_owned()
}
