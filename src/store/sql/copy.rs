//! Tables copied out and in. Which tables and columns there are, the database itself says: a table that a later schema adds
//! is in the backup without a word here.

use std::sync::Arc;

use super::{
    Engine, Purpose, SqlStore, database,
    decode::{Columns, SqlRow},
    statement::Statement,
};
use crate::store::{
    Damage, StoreError,
    copy::{Column, ColumnKind, Copying, INSTALLATION, NOT_COPIED, Row, Table, Value},
};

/// Tables that others refer to, in the order in which they are filled; all others follow.
const REFERRED_TO: [&str; 4] = [INSTALLATION, "platforms", "persons", "subjects"];
/// Rows of one INSERT.
const ROWS_AT_ONCE: usize = 64;

/// A table with its statements. The texts live as long as the process, as prepared statements want them.
pub(in crate::store) struct TableSql {
    table: Table,
    count: &'static str,
    first: &'static str,
    after: &'static str,
    insert: &'static str,
    insert_many: &'static str,
}

impl TableSql {
    fn new(table: Table) -> Self {
        let name = &table.name;
        let columns = table.columns.iter().map(|c| c.name.as_str()).collect::<Vec<_>>().join(", ");
        let keys: Vec<&str> =
            table.key.iter().filter_map(|at| table.columns.get(*at)).map(|c| c.name.as_str()).collect();
        let (order, width) = (keys.join(", "), table.columns.len());
        let places = |from: usize, count: usize| {
            (from..from + count).map(|n| format!("${n}")).collect::<Vec<_>>().join(", ")
        };
        let tuples = |rows: usize| {
            let tuple = |row: usize| format!("({})", places(row * width + 1, width));
            (0..rows).map(tuple).collect::<Vec<_>>().join(", ")
        };
        let after = format!("WHERE ({order}) > ({})", places(2, keys.len()));
        let select = |rest: &str| {
            format!("/* copy::page */ SELECT {columns} FROM {name} {rest} ORDER BY {order} LIMIT $1")
        };
        let insert =
            |rows| format!("/* copy::insert */ INSERT INTO {name} ({columns}) VALUES {}", tuples(rows));
        Self {
            count: format!("/* copy::count */ SELECT count(*) FROM {name}").leak(),
            first: select("").leak(),
            after: select(&after).leak(),
            insert: insert(1).leak(),
            insert_many: insert(ROWS_AT_ONCE).leak(),
            table,
        }
    }

    fn page<'a>(&self, after: Option<&'a Row>, limit: u32) -> Statement<'a> {
        let Some(row) = after else { return Statement::any(self.first).int(limit) };
        let keys = self.table.key.iter().filter_map(|at| Some((self.table.columns.get(*at)?, row.get(*at)?)));
        keys.fold(Statement::any(self.after).int(limit), |statement, (column, value)| {
            bind(statement, column.kind, value)
        })
    }

    fn insert<'a>(&self, sql: &'static str, rows: &'a [Row]) -> Statement<'a> {
        let values = rows.iter().flat_map(|row| self.table.columns.iter().zip(row));
        values.fold(Statement::any(sql), |statement, (column, value)| bind(statement, column.kind, value))
    }

    fn read<R: SqlRow>(&self, row: &R) -> Result<Row, StoreError> {
        let value = |(at, column): (usize, &Column)| {
            let value = match column.kind {
                ColumnKind::Int => row.int(at).map(|value| value.map(Value::Int)),
                ColumnKind::Text => row.text(at).map(|value| value.map(|text| Value::Text(text.to_owned()))),
                ColumnKind::Bytes => {
                    row.bytes(at).map(|value| value.map(|bytes| Value::Bytes(bytes.to_vec())))
                }
            };
            value.map(|value| value.unwrap_or(Value::Null)).map_err(|_| unlike())
        };
        self.table.columns.iter().enumerate().map(value).collect()
    }
}

fn bind<'a>(statement: Statement<'a>, kind: ColumnKind, value: &'a Value) -> Statement<'a> {
    // A value of another kind than its column was refused before: `Table` of the backup and of the database are the same.
    match (kind, value) {
        (ColumnKind::Int, Value::Int(number)) => statement.opt_int(Some(*number)),
        (ColumnKind::Text, Value::Text(text)) => statement.opt_text(Some(text)),
        (ColumnKind::Bytes, Value::Bytes(bytes)) => statement.opt_bytes(Some(bytes)),
        (ColumnKind::Int, _) => statement.opt_int(None),
        (ColumnKind::Text, _) => statement.opt_text(None),
        (ColumnKind::Bytes, _) => statement.opt_bytes(None),
    }
}

fn unlike() -> StoreError {
    Damage { table: "a copied one", column: "kind" }.into()
}

fn kind_of(name: &str) -> Result<ColumnKind, StoreError> {
    match name.to_ascii_lowercase().as_str() {
        "integer" | "bigint" => Ok(ColumnKind::Int),
        "text" => Ok(ColumnKind::Text),
        "blob" | "bytea" => Ok(ColumnKind::Bytes),
        other => Err(StoreError::Schema(format!("a column of the unknown type {other} cannot be copied"))),
    }
}

impl<E: Engine> SqlStore<E> {
    /// The tables and their statements, read once.
    async fn copied(&self) -> Result<Arc<[TableSql]>, StoreError> {
        let tables = self.copied.get_or_try_init(|| async {
            let tables = self.read_tables().await?;
            Ok::<_, StoreError>(tables.into_iter().map(TableSql::new).collect())
        });
        Ok(Arc::clone(tables.await?))
    }

    async fn read_tables(&self) -> Result<Vec<Table>, StoreError> {
        let statement = Statement::any(self.engine.dialect().columns);
        let rows = self.engine.fetch(statement).await.map_err(database("read the tables"))?;
        let mut tables: Vec<(Table, Vec<(i64, usize)>)> = Vec::new();
        for row in &rows {
            let mut columns = Columns::new(row, "schema");
            let name = columns.text("table")?.to_owned();
            let column =
                Column { name: columns.text("column")?.to_owned(), kind: kind_of(columns.text("type")?)? };
            let in_key = columns.int("key")?;
            if NOT_COPIED.contains(&name.as_str()) {
                continue;
            }
            if tables.last().is_none_or(|(table, _)| table.name != name) {
                tables.push((Table { name, columns: Vec::new(), key: Vec::new() }, Vec::new()));
            }
            if let Some((table, key)) = tables.last_mut() {
                if in_key > 0 {
                    key.push((in_key, table.columns.len()));
                }
                table.columns.push(column);
            }
        }
        // What has no primary key is none of the vault's tables.
        tables.retain(|(_, key)| !key.is_empty());
        let place =
            |name: &str| REFERRED_TO.iter().position(|known| *known == name).unwrap_or(REFERRED_TO.len());
        tables.sort_by(|(a, _), (b, _)| (place(&a.name), &a.name).cmp(&(place(&b.name), &b.name)));
        let keyed = |(mut table, mut key): (Table, Vec<(i64, usize)>)| {
            key.sort_unstable();
            table.key = key.into_iter().map(|(_, at)| at).collect();
            table
        };
        Ok(tables.into_iter().map(keyed).collect())
    }

    pub(super) async fn begin_copy(&self) -> Result<Box<dyn Copying + '_>, StoreError> {
        let sql = self.copied().await?;
        let tx = self.engine.begin(Purpose::Copy).await.map_err(database("begin a copy"))?;
        let tables = sql.iter().map(|sql| sql.table.clone()).collect();
        Ok(Box::new(Copy { store: self, sql, tables, tx }))
    }

    pub(super) async fn list_tables(&self) -> Result<Vec<Table>, StoreError> {
        Ok(self.copied().await?.iter().map(|sql| sql.table.clone()).collect())
    }

    pub(super) async fn has_rows(&self) -> Result<bool, StoreError> {
        for sql in self.copied().await?.iter() {
            let rows = self.engine.fetch(Statement::any(sql.first).int(1_u32)).await;
            if !rows.map_err(database("look for rows"))?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    pub(super) async fn insert_copied(&self, table: &str, rows: &[Row]) -> Result<(), StoreError> {
        let failed = || database("insert copied rows");
        let all = self.copied().await?;
        let sql = all.iter().find(|sql| sql.table.name == table).ok_or_else(unlike)?;
        if rows.iter().any(|row| row.len() != sql.table.columns.len()) {
            return Err(unlike());
        }
        let mut tx = self.engine.begin(Purpose::Write).await.map_err(failed())?;
        for chunk in rows.chunks(ROWS_AT_ONCE) {
            if chunk.len() == ROWS_AT_ONCE {
                let statement = sql.insert(sql.insert_many, chunk);
                self.engine.execute_in(&mut tx, statement).await.map_err(failed())?;
                continue;
            }
            for row in chunk.chunks(1) {
                self.engine.execute_in(&mut tx, sql.insert(sql.insert, row)).await.map_err(failed())?;
            }
        }
        self.engine.commit(tx).await.map_err(failed())
    }
}

struct Copy<'a, E: Engine> {
    store: &'a SqlStore<E>,
    sql: Arc<[TableSql]>,
    tables: Vec<Table>,
    tx: E::Tx,
}

impl<E: Engine> Copy<'_, E> {
    fn of(&self, table: &Table) -> Result<usize, StoreError> {
        self.tables.iter().position(|known| known.name == table.name).ok_or_else(unlike)
    }
}

#[async_trait::async_trait]
impl<E: Engine> Copying for Copy<'_, E> {
    fn tables(&self) -> &[Table] {
        &self.tables
    }

    async fn count(&mut self, table: &Table) -> Result<u64, StoreError> {
        let at = self.of(table)?;
        let sql = self.sql.get(at).ok_or_else(unlike)?;
        let rows = self.store.engine.fetch_in(&mut self.tx, Statement::any(sql.count)).await;
        let rows = rows.map_err(database("count rows"))?;
        Ok(Columns::new(rows.first().ok_or_else(unlike)?, "copy").number("count")?)
    }

    async fn page(&mut self, table: &Table, after: Option<&Row>, limit: u32) -> Result<Vec<Row>, StoreError> {
        let at = self.of(table)?;
        let sql = self.sql.get(at).ok_or_else(unlike)?;
        let rows = self.store.engine.fetch_in(&mut self.tx, sql.page(after, limit)).await;
        rows.map_err(database("copy rows"))?.iter().map(|row| sql.read(row)).collect()
    }

    async fn end(self: Box<Self>) -> Result<(), StoreError> {
        self.store.engine.commit(self.tx).await.map_err(database("end a copy"))
    }
}
