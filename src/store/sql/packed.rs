//! The batch read's rows as one JSON text, for a driver that makes an object of each column of each row and hands rows over to
//! another thread one by one: that costs several times what finding them does.
//!
//! A row is `[kind, [bytes…], [texts…], [numbers…]]`, byte strings in hexadecimal digits.

use serde::{Deserialize, Deserializer, de::Error as _};

use super::decode::{GROUPED_BYTES, GROUPED_TEXTS, NotThat, SqlRow};
use crate::store::Damage;

/// A row of the text.
#[derive(Deserialize)]
pub(in crate::store) struct PackedRow(i64, Vec<Option<Bytes>>, Vec<Option<String>>, Vec<Option<i64>>);

/// A byte string.
struct Bytes(Vec<u8>);

impl<'de> Deserialize<'de> for Bytes {
    fn deserialize<D: Deserializer<'de>>(digits: D) -> Result<Self, D::Error> {
        let digits = <&str>::deserialize(digits)?;
        data_encoding::HEXUPPER.decode(digits.as_bytes()).map(Self).map_err(D::Error::custom)
    }
}

/// A SELECT of one kind of row. A damaged file may hold what a STRICT table does not take: a value of another type is none, so
/// that its row is damaged and no other.
pub(in crate::store) fn row(kind: i64, [bytes, texts, ints]: [&[&str]; 3], from: &str) -> String {
    let of = |columns: &[&str], kind: &str, open: &str, close: &str| {
        let cell =
            |column: &&str| format!("CASE typeof({column}) WHEN '{kind}' THEN {open}{column}{close} END");
        columns.iter().map(cell).collect::<Vec<_>>().join(", ")
    };
    let (bytes, texts) = (of(bytes, "blob", "hex(", ")"), of(texts, "text", "", ""));
    let ints = of(ints, "integer", "", "");
    format!(
        "SELECT json_array({kind}, json_array({bytes}), json_array({texts}), json_array({ints})) AS packed FROM {from}"
    )
}

/// All rows of a union of such SELECTs. As bytes, since one text that is no UTF-8 must not hide all others.
pub(in crate::store) fn all(union: &str) -> String {
    format!("SELECT CAST('[' || group_concat(packed) || ']' AS BLOB) FROM ({union}) AS every")
}

/// The rows of such an answer. A text that is no UTF-8 is another one then, which its row's MAC tells.
pub(in crate::store) fn rows<R: SqlRow>(answer: &[R]) -> Result<Vec<PackedRow>, Damage> {
    const DAMAGE: Damage = Damage { table: "snapshot", column: "packed" };
    let text = answer.first().and_then(|row| row.bytes(0).ok().flatten()).ok_or(DAMAGE)?;
    serde_json::from_str(&String::from_utf8_lossy(text)).map_err(|_| DAMAGE)
}

/// Columns are counted as in rows that are not packed: the kind, then groups of byte strings, texts and numbers, each
/// filled up.
impl SqlRow for PackedRow {
    fn int(&self, at: usize) -> Result<Option<i64>, NotThat> {
        if at == 0 {
            return Ok(Some(self.0));
        }
        let group = at.checked_sub(1 + GROUPED_BYTES + GROUPED_TEXTS).ok_or(NotThat)?;
        Ok(self.3.get(group).copied().flatten())
    }

    fn text(&self, at: usize) -> Result<Option<&str>, NotThat> {
        let group = at.checked_sub(1 + GROUPED_BYTES).ok_or(NotThat)?;
        Ok(self.2.get(group).and_then(Option::as_deref))
    }

    fn bytes(&self, at: usize) -> Result<Option<&[u8]>, NotThat> {
        let group = at.checked_sub(1).ok_or(NotThat)?;
        Ok(self.1.get(group).and_then(|bytes| bytes.as_ref().map(|bytes| bytes.0.as_slice())))
    }
}
