//! What the parts of a backup hold: items in CBOR, one after the other, none over the border of two parts.
//!
//! ```text
//! [1, table, [column, …], [kind, …]]   the table that rows follow of; kinds: 1 numbers, 2 text, 3 bytes
//! [2, [[value, …], …]]                 rows of that table, a value for each column: null, number, text or bytes
//! ```
//!
//! The number of an item says what it is, so that another kind of item (an index of blobs) finds a place beside these.

use minicbor::{Decoder, Encoder, data::Type, decode::Error as DecodeError};

use crate::store::copy::{Column, ColumnKind, Row, Table, Value};

const TABLE: u8 = 1;
const ROWS: u8 = 2;
/// Most columns of a table, and rows of an item: what a decoder makes room for at once.
const MAX_COLUMNS: u64 = 100;
const MAX_ROWS: u64 = 10_000;

/// An item.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Item {
    /// Rows of this table follow.
    Table { name: String, columns: Vec<Column> },
    /// Rows.
    Rows(Vec<Row>),
}

type Written = Result<(), minicbor::encode::Error<std::convert::Infallible>>;

/// Adds the item that begins a table.
pub(super) fn push_table(to: &mut Vec<u8>, table: &Table) -> Written {
    let mut encoder = Encoder::new(to);
    encoder.array(4)?.u8(TABLE)?.str(&table.name)?;
    encoder.array(length(table.columns.len()))?;
    for column in &table.columns {
        encoder.str(&column.name)?;
    }
    encoder.array(length(table.columns.len()))?;
    for column in &table.columns {
        encoder.u8(code(column.kind))?;
    }
    Ok(())
}

/// Adds an item of rows.
pub(super) fn push_rows(to: &mut Vec<u8>, rows: &[Row]) -> Written {
    let mut encoder = Encoder::new(to);
    encoder.array(2)?.u8(ROWS)?.array(length(rows.len()))?;
    for row in rows {
        encoder.array(length(row.len()))?;
        for value in row {
            match value {
                Value::Null => encoder.null()?,
                Value::Int(number) => encoder.i64(*number)?,
                Value::Text(text) => encoder.str(text)?,
                Value::Bytes(bytes) => encoder.bytes(bytes)?,
            };
        }
    }
    Ok(())
}

fn length(of: usize) -> u64 {
    u64::try_from(of).unwrap_or(u64::MAX)
}

const fn code(kind: ColumnKind) -> u8 {
    match kind {
        ColumnKind::Int => 1,
        ColumnKind::Text => 2,
        ColumnKind::Bytes => 3,
    }
}

/// The items of a part.
pub(super) fn items(part: &[u8]) -> Result<Vec<Item>, DecodeError> {
    let (mut decoder, mut all) = (Decoder::new(part), Vec::new());
    while decoder.position() < part.len() {
        let parts = array(&mut decoder, 4)?;
        all.push(match (decoder.u8()?, parts) {
            (TABLE, 4) => table(&mut decoder)?,
            (ROWS, 2) => rows(&mut decoder)?,
            _ => return Err(DecodeError::message("an item of an unknown kind")),
        });
    }
    Ok(all)
}

fn array(decoder: &mut Decoder<'_>, most: u64) -> Result<u64, DecodeError> {
    decoder.array()?.filter(|count| *count <= most).ok_or(DecodeError::message("a list of that length"))
}

fn table(decoder: &mut Decoder<'_>) -> Result<Item, DecodeError> {
    let name = decoder.str()?.to_owned();
    let names = array(decoder, MAX_COLUMNS)?;
    let names = (0..names).map(|_| decoder.str().map(str::to_owned)).collect::<Result<Vec<_>, _>>()?;
    if array(decoder, MAX_COLUMNS)? != length(names.len()) {
        return Err(DecodeError::message("a table with other kinds than columns"));
    }
    let column = |name| {
        let kind = match decoder.u8()? {
            1 => ColumnKind::Int,
            2 => ColumnKind::Text,
            3 => ColumnKind::Bytes,
            _ => return Err(DecodeError::message("a column of an unknown kind")),
        };
        Ok(Column { name, kind })
    };
    let columns = names.into_iter().map(column).collect::<Result<_, _>>()?;
    Ok(Item::Table { name, columns })
}

fn rows(decoder: &mut Decoder<'_>) -> Result<Item, DecodeError> {
    let count = array(decoder, MAX_ROWS)?;
    let mut row = || -> Result<Row, DecodeError> {
        let values = array(decoder, MAX_COLUMNS)?;
        (0..values).map(|_| value(decoder)).collect()
    };
    (0..count).map(|_| row()).collect::<Result<_, _>>().map(Item::Rows)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "CBOR has many types, and four of them are values")]
fn value(decoder: &mut Decoder<'_>) -> Result<Value, DecodeError> {
    Ok(match decoder.datatype()? {
        Type::Null => {
            decoder.null()?;
            Value::Null
        }
        Type::String => Value::Text(decoder.str()?.to_owned()),
        Type::Bytes => Value::Bytes(decoder.bytes()?.to_vec()),
        Type::U8
        | Type::U16
        | Type::U32
        | Type::U64
        | Type::I8
        | Type::I16
        | Type::I32
        | Type::I64
        | Type::Int => Value::Int(decoder.i64()?),
        _ => return Err(DecodeError::message("a value of an unknown kind")),
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn a_value() -> impl Strategy<Value = Value> {
        prop_oneof![
            Just(Value::Null),
            any::<i64>().prop_map(Value::Int),
            ".{0,20}".prop_map(Value::Text),
            proptest::collection::vec(any::<u8>(), 0..40).prop_map(Value::Bytes),
        ]
    }

    proptest! {
        #[test]
        fn items_are_read_as_written(
            rows in proptest::collection::vec(proptest::collection::vec(a_value(), 0..6), 0..20),
            kinds in proptest::collection::vec(0_u8..3, 1..6),
        ) {
            let kind = |n: &u8| [ColumnKind::Int, ColumnKind::Text, ColumnKind::Bytes][usize::from(*n)];
            let columns: Vec<_> =
                kinds.iter().enumerate().map(|(n, k)| Column { name: format!("c{n}"), kind: kind(k) }).collect();
            let table = Table { name: "t".into(), columns: columns.clone(), key: vec![0] };
            let mut bytes = Vec::new();
            push_table(&mut bytes, &table).unwrap();
            push_rows(&mut bytes, &rows).unwrap();
            let expected = vec![Item::Table { name: "t".into(), columns }, Item::Rows(rows)];
            prop_assert_eq!(items(&bytes).unwrap(), expected);
            for cut in 1..bytes.len() {
                // Only what ends with an item is a part.
                if let Ok(some) = items(&bytes[..cut]) {
                    prop_assert!(some.len() < 2);
                }
            }
        }

        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _read = items(&bytes);
        }
    }
}
