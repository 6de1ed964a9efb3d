//! A connection while somebody uses it. It goes back into the pool only when its work was ended: one whose answer is not waited
//! for any more, since its caller has gone or the server is frozen, is closed. Otherwise it would wait in the pool for that
//! answer, and whoever came next would wait with it.

use std::{
    future::Future,
    io,
    ops::{Deref, DerefMut},
    time::Duration,
};

use sqlx::{Executor as _, PgPool, Postgres, pool::PoolConnection, postgres::PgConnection};
use tokio::time::timeout;

/// How long the server may take for one statement. It cancels them itself before that; a server that is frozen, or behind a
/// line that is dead, cancels nothing.
const ANSWER_LIMIT: Duration = Duration::from_secs(25);

/// A connection in use; one that is dropped is closed, and with it a transaction on it is undone.
pub(super) struct Session {
    connection: Option<PoolConnection<Postgres>>,
    limit: Option<Duration>,
}

impl Session {
    /// The next free connection.
    pub(super) async fn of(pool: &PgPool) -> sqlx::Result<Self> {
        Ok(Self { connection: Some(pool.acquire().await?), limit: Some(ANSWER_LIMIT) })
    }

    /// One that has begun a transaction.
    pub(super) async fn begun(pool: &PgPool, begin: &'static str) -> sqlx::Result<Self> {
        let mut session = Self::of(pool).await?;
        let limit = session.limit;
        within(limit, session.execute(begin)).await?;
        Ok(session)
    }

    /// Waits for statements as long as they take.
    pub(super) const fn without_limit(&mut self) {
        self.limit = None;
    }

    pub(super) const fn limit(&self) -> Option<Duration> {
        self.limit
    }

    /// Ends a transaction, and gives the connection back.
    pub(super) async fn end(mut self, statement: &'static str) -> sqlx::Result<()> {
        let limit = self.limit;
        let outcome = within(limit, self.execute(statement)).await.map(drop);
        self.give_back_after(&outcome);
        outcome
    }

    /// Gives the connection back, unless its answer was lost.
    pub(super) fn give_back_after<T>(mut self, outcome: &sqlx::Result<T>) {
        if !matches!(outcome, Err(sqlx::Error::Io(_) | sqlx::Error::Protocol(_))) {
            drop(self.connection.take());
        }
    }
}

impl Drop for Session {
    fn drop(&mut self) {
        if let Some(connection) = self.connection.take() {
            drop(connection.detach());
        }
    }
}

impl Deref for Session {
    type Target = PgConnection;

    #[expect(clippy::expect_used, reason = "it is taken out by what consumes the session alone")]
    fn deref(&self) -> &PgConnection {
        self.connection.as_ref().expect("a session has its connection")
    }
}

impl DerefMut for Session {
    #[expect(clippy::expect_used, reason = "it is taken out by what consumes the session alone")]
    fn deref_mut(&mut self) -> &mut PgConnection {
        self.connection.as_mut().expect("a session has its connection")
    }
}

/// The answer of a server, or an error where it does not come.
pub(super) async fn within<T>(
    limit: Option<Duration>,
    work: impl Future<Output = sqlx::Result<T>>,
) -> sqlx::Result<T> {
    let Some(limit) = limit else { return work.await };
    let late = || sqlx::Error::Io(io::Error::new(io::ErrorKind::TimedOut, "the server does not answer"));
    timeout(limit, work).await.unwrap_or_else(|_| Err(late()))
}
