//! Every table as it is, row by row: what a backup is made of, and what a restore puts back. Both databases have the same
//! tables and columns, so what was copied out of one goes into the other.

use super::StoreError;

/// Tables of the process that runs, and of the schema itself; everything else is copied.
pub const NOT_COPIED: [&str; 2] = ["schema_version", "replicas"];

/// The table whose one row makes a database an installation. A restore writes it last.
pub const INSTALLATION: &str = "installation";

/// A column's value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// None.
    Null,
    /// A number.
    Int(i64),
    /// Text.
    Text(String),
    /// Bytes.
    Bytes(Vec<u8>),
}

/// What a column holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ColumnKind {
    /// Numbers.
    Int,
    /// Text.
    Text,
    /// Bytes.
    Bytes,
}

/// A column.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Column {
    /// Name.
    pub name: String,
    /// What it holds.
    pub kind: ColumnKind,
}

/// A table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Table {
    /// Name.
    pub name: String,
    /// Columns in the order of their names, which is the order of a [`Row`].
    pub columns: Vec<Column>,
    /// Places in `columns` of the primary key, in its order.
    pub key: Vec<usize>,
}

/// A row: one value for each column.
pub type Row = Vec<Value>;

/// Every table at one moment, while others go on writing.
#[async_trait::async_trait]
pub trait Copying: Send {
    /// The tables, each after those that it refers to.
    fn tables(&self) -> &[Table];

    /// Rows of a table.
    async fn count(&mut self, table: &Table) -> Result<u64, StoreError>;

    /// Up to `limit` rows after a row, in the order of the primary key.
    async fn page(&mut self, table: &Table, after: Option<&Row>, limit: u32) -> Result<Vec<Row>, StoreError>;

    /// Lets go of the moment.
    async fn end(self: Box<Self>) -> Result<(), StoreError>;
}
