//! What both engines do alike: bind, run, and read columns.

/// Implements [`super::decode::SqlRow`] for a driver's row.
macro_rules! sql_row {
    ($row:ty) => {
        impl $crate::store::sql::decode::SqlRow for $row {
            fn int(&self, at: usize) -> Result<Option<i64>, $crate::store::sql::decode::NotThat> {
                sqlx::Row::try_get(self, at).map_err(|_| $crate::store::sql::decode::NotThat)
            }

            fn text(&self, at: usize) -> Result<Option<&str>, $crate::store::sql::decode::NotThat> {
                sqlx::Row::try_get(self, at).map_err(|_| $crate::store::sql::decode::NotThat)
            }

            fn bytes(&self, at: usize) -> Result<Option<&[u8]>, $crate::store::sql::decode::NotThat> {
                sqlx::Row::try_get(self, at).map_err(|_| $crate::store::sql::decode::NotThat)
            }
        }
    };
}

/// A statement with its parameters bound; `$rows` binds rows to a query.
macro_rules! bound {
    ($db:ty, $statement:expr, $rows:expr) => {{
        use $crate::store::sql::statement::Param;
        let statement: $crate::store::sql::statement::Statement<'_> = $statement;
        let mut query = sqlx::query::<$db>(statement.sql);
        for param in statement.params {
            query = match param {
                Param::Int(value) => query.bind(value),
                Param::OptInt(value) => query.bind(value),
                Param::Text(value) => query.bind(value),
                Param::OptText(value) => query.bind(value),
                Param::OwnText(value) => query.bind(value),
                Param::Bytes(value) => query.bind(value),
                Param::OwnBytes(value) => query.bind(value),
                Param::OptBytes(value) => query.bind(value),
                Param::Rows(columns) => $rows(query, &columns),
            };
        }
        query
    }};
}

pub(in crate::store) use {bound, sql_row};
