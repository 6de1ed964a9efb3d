//! What a store answers where it does not do as asked.

use crate::domain::territory::Refused;

/// Why the store did not do as asked.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// The database does not answer, or answers with an error of its own.
    #[error("the database failed: {action}")]
    Database {
        /// What was tried.
        action: &'static str,
        /// The driver's error. For the operator's log; never for a client.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// A stored row cannot be what it claims.
    #[error(transparent)]
    Damaged(#[from] Damage),
    /// The database has no schema, or one that this binary may not run on.
    #[error("{0}")]
    Schema(String),
    /// The database lies outside the declared sites.
    #[error(transparent)]
    Outside(#[from] Refused),
}

/// A stored row that cannot be what it claims: unknown code, wrong length, missing part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("table {table} holds a row that cannot be: column {column}")]
pub struct Damage {
    /// Table.
    pub table: &'static str,
    /// Column.
    pub column: &'static str,
}
