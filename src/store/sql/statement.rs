//! Statements that both dialects take, with their parameters; and the few words in which the dialects differ.

use std::{borrow::Cow, fmt::Write as _};

/// A value to bind.
#[derive(Debug, Clone)]
pub(in crate::store) enum Param<'a> {
    Int(i64),
    OptInt(Option<i64>),
    Text(&'a str),
    OptText(Option<&'a str>),
    OwnText(String),
    Bytes(&'a [u8]),
    OwnBytes(Vec<u8>),
    OptBytes(Option<&'a [u8]>),
    /// Rows, column by column: an array for each column in PostgreSQL, one JSON list of lists in SQLite.
    Rows(Vec<Column<'a>>),
}

/// A column of many rows.
#[derive(Debug, Clone)]
pub(in crate::store) enum Column<'a> {
    Bytes(Vec<Option<&'a [u8]>>),
    Ints(Vec<Option<i64>>),
    Texts(Vec<Option<Cow<'a, str>>>),
}

/// How many rows a statement must touch; otherwise the commit that it belongs to is undone.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::store) enum Touches {
    /// Exactly one.
    One,
    /// Exactly so many.
    Exactly(u64),
    /// At least one.
    Some,
    /// However many there are.
    Any,
}

/// A statement with its parameters.
#[derive(Debug, Clone)]
pub(in crate::store) struct Statement<'a> {
    pub(in crate::store) sql: &'static str,
    pub(in crate::store) params: Vec<Param<'a>>,
    pub(in crate::store) touches: Touches,
}

impl Column<'_> {
    /// As PostgreSQL names it.
    const fn array_type(&self) -> &'static str {
        match self {
            Self::Bytes(_) => "bytea",
            Self::Ints(_) => "bigint",
            Self::Texts(_) => "text",
        }
    }
}

impl<'a> Statement<'a> {
    pub(in crate::store) const fn new(sql: &'static str) -> Self {
        Self { sql, params: Vec::new(), touches: Touches::One }
    }

    pub(in crate::store) const fn any(sql: &'static str) -> Self {
        Self { sql, params: Vec::new(), touches: Touches::Any }
    }

    pub(in crate::store) const fn touching(sql: &'static str, touches: Touches) -> Self {
        Self { sql, params: Vec::new(), touches }
    }

    fn with(mut self, param: Param<'a>) -> Self {
        self.params.push(param);
        self
    }

    pub(in crate::store) fn int(self, value: impl Into<i64>) -> Self {
        self.with(Param::Int(value.into()))
    }

    /// A size, index or count. None comes near 2^63.
    pub(in crate::store) fn size(self, value: u64) -> Self {
        self.with(Param::Int(signed(value)))
    }

    pub(in crate::store) fn opt_int(self, value: Option<i64>) -> Self {
        self.with(Param::OptInt(value))
    }

    pub(in crate::store) fn text(self, value: &'a str) -> Self {
        self.with(Param::Text(value))
    }

    pub(in crate::store) fn opt_text(self, value: Option<&'a str>) -> Self {
        self.with(Param::OptText(value))
    }

    pub(in crate::store) fn own_text(self, value: String) -> Self {
        self.with(Param::OwnText(value))
    }

    pub(in crate::store) fn bytes(self, value: &'a [u8]) -> Self {
        self.with(Param::Bytes(value))
    }

    pub(in crate::store) fn own_bytes(self, value: Vec<u8>) -> Self {
        self.with(Param::OwnBytes(value))
    }

    pub(in crate::store) fn opt_bytes(self, value: Option<&'a [u8]>) -> Self {
        self.with(Param::OptBytes(value))
    }

    pub(in crate::store) fn rows(self, columns: Vec<Column<'a>>) -> Self {
        self.with(Param::Rows(columns))
    }
}

/// A size or index as it is stored.
pub(in crate::store) fn signed(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// Rows for `json_each`: a list of lists, bytes in hexadecimal digits.
pub(in crate::store) fn json_rows(columns: &[Column<'_>]) -> String {
    let rows = columns.first().map_or(0, |column| match column {
        Column::Bytes(values) => values.len(),
        Column::Ints(values) => values.len(),
        Column::Texts(values) => values.len(),
    });
    let mut list = String::from("[");
    for row in 0..rows {
        list.push_str(if row == 0 { "[" } else { ",[" });
        for (i, column) in columns.iter().enumerate() {
            list.push_str(if i == 0 { "" } else { "," });
            push_json(&mut list, column, row);
        }
        list.push(']');
    }
    list.push(']');
    list
}

fn push_json(list: &mut String, column: &Column<'_>, row: usize) {
    match column {
        Column::Bytes(values) => match values.get(row).copied().flatten() {
            Some(bytes) => {
                list.push('"');
                data_encoding::HEXLOWER.encode_append(bytes, list);
                list.push('"');
            }
            None => list.push_str("null"),
        },
        // Writing to a String cannot fail.
        Column::Ints(values) => match values.get(row).copied().flatten() {
            Some(number) => drop(write!(list, "{number}")),
            None => list.push_str("null"),
        },
        Column::Texts(values) => match values.get(row).and_then(Option::as_deref) {
            Some(text) => drop(write!(list, "{}", serde_json::Value::from(text))),
            None => list.push_str("null"),
        },
    }
}

/// What the dialects write differently. `{1}` … `{9}` stand for "each item of that parameter, a JSON list of lists,
/// as `wanted`"; `{hex:i}`, `{int:i}` and `{text:i}` for the i-th part of such an item.
#[derive(Debug)]
pub(in crate::store) struct Dialect {
    list: [&'static str; 2],
    hex: [&'static str; 2],
    int: [&'static str; 2],
    text: [&'static str; 2],
    words: &'static [(&'static str, &'static str)],
    /// Whether [`Param::Rows`] is an array for each column.
    column_arrays: bool,
    /// Whether the batch read answers one text with all rows ([`super::packed`]).
    pub(in crate::store) packs_rows: bool,
    /// How the table of subjects is read page by page; none where it is stored in the order of its primary key.
    pub(in crate::store) pages: Option<PagesSql>,
    /// [`Dialect::find`] by an index and by the primary key: `{row}`, `{alias}`, `{index}`, `{on}`.
    find: [&'static str; 2],
    /// `commit::swap_head`, whose parameters say what it does.
    pub(in crate::store) swap_head: &'static str,
    /// Entries `$2` from position 0 of the platform `$1` on.
    pub(in crate::store) insert_entries: &'static str,
    /// Waits for the head of the platform `$1` and holds it until the end of the transaction.
    pub(in crate::store) lock_head: &'static str,
    /// Answers 1 where the schema's version is there to be read.
    pub(in crate::store) has_schema: &'static str,
    /// Every column of every table: table, column, type, place in the primary key (from 1; 0 for none).
    pub(in crate::store) columns: &'static str,
}

/// A walk over a table in the order of its pages.
#[derive(Debug)]
pub(in crate::store) struct PagesSql {
    /// How many pages it has: `pages`.
    pub(in crate::store) count: &'static str,
    /// What is on the pages from `$2` to before `$3`, each written as the place before its first row.
    pub(in crate::store) read: &'static str,
}

/// SQLite. CROSS JOIN and INDEXED BY hold its planner to the order written: from the few wanted keys to the rows.
pub(in crate::store) const SQLITE: Dialect = Dialect {
    list: ["json_each($", ") AS wanted"],
    hex: ["unhex(json_extract(wanted.value, '$[", "]'))"],
    int: ["json_extract(wanted.value, '$[", "]')"],
    text: ["json_extract(wanted.value, '$[", "]')"],
    words: &[
        ("{bytes}", "BLOB"),
        ("{now}", "CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER)"),
        ("{platform}", "platform_id = $1"),
        // The only writer waits for no other.
        ("{share}", ""),
        ("{unwaited}", ""),
        ("{and_unwaited}", ""),
    ],
    column_arrays: false,
    packs_rows: true,
    pages: None,
    find: [
        "CROSS JOIN {row} INDEXED BY {index} ON {alias}.platform_id = $1 AND {on}",
        "CROSS JOIN {row} ON {alias}.platform_id = $1 AND {on}",
    ],
    // Three statements, of which the first answers a row; only where the swap happened has the head this commit's
    // checkpoint, which no other has.
    swap_head: "/* commit::swap_head */ UPDATE heads SET size = $2, config_epoch = $3, tighten_seq = $4, \
        updated_at = $5, root = $6, right_edge = $7, checkpoint = $8, mac = $9, change_seq = $15 \
        WHERE platform_id = $1 AND size = $10 AND config_epoch = $11 AND tighten_seq = $12 \
        AND (SELECT v.config_epoch FROM heads v WHERE v.platform_id = 0) = $14 RETURNING platform_id; \
        INSERT INTO audit_heads (platform_id, second, size, checkpoint) \
        SELECT $1, $13, $2, $8 FROM heads WHERE platform_id = $1 AND checkpoint = $8 \
        ON CONFLICT (platform_id, second) DO UPDATE SET size = excluded.size, checkpoint = excluded.checkpoint; \
        INSERT INTO audit_entries (platform_id, position, entry, leaf_hash, subject_id) \
        SELECT $1, $10 + e.key, unhex(json_extract(e.value, '$[0]')), unhex(json_extract(e.value, '$[1]')), \
        unhex(json_extract(e.value, '$[2]')) FROM json_each($16) e \
        WHERE EXISTS (SELECT 1 FROM heads WHERE platform_id = $1 AND checkpoint = $8)",
    insert_entries: "/* insert_entries */ INSERT INTO audit_entries (platform_id, position, entry, leaf_hash) \
        SELECT $1, e.key, unhex(json_extract(e.value, '$[0]')), unhex(json_extract(e.value, '$[1]')) \
        FROM json_each($2) e",
    // The transaction is the only writer's already.
    lock_head: "/* lock_head */ SELECT size FROM heads WHERE platform_id = $1",
    has_schema: "/* schema::check */ SELECT count(*) FROM sqlite_schema WHERE name = 'schema_version'",
    columns: "/* copy::columns */ SELECT t.name, c.name, c.type, c.pk FROM sqlite_schema t \
        JOIN pragma_table_info(t.name) c WHERE t.type = 'table' AND t.name NOT LIKE 'sqlite!_%' ESCAPE '!' \
        AND t.name NOT LIKE '!_%' ESCAPE '!' ORDER BY t.name, c.name",
};

/// PostgreSQL, from version 14 on.
pub(in crate::store) const POSTGRES: Dialect = Dialect {
    list: ["json_array_elements(CAST($", " AS json)) AS wanted"],
    hex: ["decode(wanted.value ->> ", ", 'hex')"],
    int: ["CAST(wanted.value ->> ", " AS bigint)"],
    text: ["wanted.value ->> ", ""],
    words: &[
        ("{bytes}", "bytea"),
        ("{now}", "CAST(extract(epoch FROM clock_timestamp()) * 1000000 AS bigint)"),
        // No index that begins with the platform is taken: without statistics each looks as good as one that fits.
        ("{platform}", "platform_id + 0 = $1"),
        ("{share}", " FOR SHARE"),
        // For the transaction of this statement alone: its commit does not wait for the disk.
        ("{unwaited}", ", unwaited AS MATERIALIZED (SELECT set_config('synchronous_commit', 'off', true))"),
        ("{and_unwaited}", ", unwaited"),
    ],
    column_arrays: true,
    packs_rows: false,
    // The sum keeps the primary key, which begins with the platform, from being walked through instead.
    pages: Some(PagesSql {
        count: "/* read::count_pages */ SELECT pg_relation_size('subjects') / current_setting('block_size')::bigint \
            AS pages",
        read: "/* read::stored_keys */ SELECT subject_id, wrapped_key, CAST((CAST(CAST(ctid AS text) AS point))[0] AS bigint) \
            AS page FROM subjects WHERE platform_id + 0 = $1 AND wrapped_key IS NOT NULL \
            AND ctid >= CAST($2 AS tid) AND ctid < CAST($3 AS tid) ORDER BY ctid",
    }),
    // A subquery with an OFFSET is not merged into what is around it, so it runs once for each key and no other join
    // can be planned. The sum keeps the primary key, which begins with the platform, from being taken for an index
    // that fits: without statistics the two look alike.
    find: [
        "CROSS JOIN LATERAL (SELECT * FROM {row} WHERE {alias}.platform_id + 0 = $1 AND {on} OFFSET 0) AS {alias}",
        "CROSS JOIN LATERAL (SELECT * FROM {row} WHERE {alias}.platform_id = $1 AND {on} OFFSET 0) AS {alias}",
    ],
    // One statement: the parts that follow the swap read what it returned, which is nothing where it did not happen.
    swap_head: "/* commit::swap_head */ WITH swapped AS ( \
        UPDATE heads SET size = $2, config_epoch = $3, tighten_seq = $4, updated_at = $5, root = $6, right_edge = $7, \
        checkpoint = $8, mac = $9, change_seq = $15 WHERE platform_id = $1 AND size = $10 AND config_epoch = $11 AND tighten_seq = $12 \
        AND (SELECT v.config_epoch FROM heads v WHERE v.platform_id = 0) = $14 RETURNING platform_id), \
        second_head AS (INSERT INTO audit_heads (platform_id, second, size, checkpoint) \
        SELECT platform_id, $13, $2, $8 FROM swapped \
        ON CONFLICT (platform_id, second) DO UPDATE SET size = excluded.size, checkpoint = excluded.checkpoint), \
        entries AS (INSERT INTO audit_entries (platform_id, position, entry, leaf_hash, subject_id) \
        SELECT s.platform_id, $10 + e.place - 1, e.entry, e.hash, e.subject \
        FROM swapped s, unnest($16::bytea[], $17::bytea[], $18::bytea[]) WITH ORDINALITY \
        AS e (entry, hash, subject, place)) \
        SELECT platform_id FROM swapped",
    insert_entries: "/* insert_entries */ INSERT INTO audit_entries (platform_id, position, entry, leaf_hash) \
        SELECT $1, e.place - 1, e.entry, e.hash \
        FROM unnest($2::bytea[], $3::bytea[], $4::bytea[]) WITH ORDINALITY AS e (entry, hash, subject, place)",
    lock_head: "/* lock_head */ SELECT size FROM heads WHERE platform_id = $1 FOR UPDATE",
    has_schema: "/* schema::check */ SELECT count(*) FROM pg_catalog.pg_class \
        WHERE oid = to_regclass('schema_version')",
    columns: "/* copy::columns */ SELECT CAST(t.relname AS text), CAST(c.attname AS text), \
        format_type(c.atttypid, NULL), coalesce((SELECT k.place FROM pg_catalog.pg_index i, \
        unnest(CAST(i.indkey AS int2[])) WITH ORDINALITY AS k (number, place) \
        WHERE i.indrelid = t.oid AND i.indisprimary AND k.number = c.attnum), 0) \
        FROM pg_catalog.pg_class t JOIN pg_catalog.pg_attribute c ON c.attrelid = t.oid \
        WHERE t.relkind IN ('r', 'p') AND t.relnamespace = CAST(current_schema() AS regnamespace) AND c.attnum > 0 \
        AND NOT c.attisdropped AND t.relname NOT LIKE '!_%' ESCAPE '!' \
        ORDER BY CAST(t.relname AS text) COLLATE \"C\", CAST(c.attname AS text) COLLATE \"C\"",
};

impl Dialect {
    /// Joins to what stands before it the rows of the platform `$1` that meet a condition, each looked up by its keys.
    /// `row` is the table with its alias; `index` the one to take, or empty for the primary key.
    pub(in crate::store) fn find(&self, row: &str, index: &str, on: &str) -> String {
        let alias = row.rsplit_once(' ').map_or(row, |(_, alias)| alias);
        let [with_index, without] = self.find;
        let template = if index.is_empty() { without } else { with_index };
        template.replace("{on}", on).replace("{row}", row).replace("{index}", index).replace("{alias}", alias)
    }

    /// What selects the rows of a [`Param::Rows`] that begins with this parameter: the values of a row, and what they are
    /// selected from.
    pub(in crate::store) fn rows(&self, first: usize, columns: &[Column<'_>]) -> (Vec<String>, String) {
        let each = |of: &dyn Fn(usize, &Column<'_>) -> String| -> Vec<String> {
            columns.iter().enumerate().map(|(i, column)| of(i, column)).collect()
        };
        if self.column_arrays {
            let arrays = each(&|i, column| format!("${}::{}[]", first + i, column.array_type())).join(", ");
            let names = each(&|i, _| format!("c{i}")).join(", ");
            return (each(&|i, _| format!("wanted.c{i}")), format!("unnest({arrays}) AS wanted ({names})"));
        }
        let part = |i, column: &Column<'_>| {
            let [before, after] = match column {
                Column::Bytes(_) => self.hex,
                Column::Ints(_) => self.int,
                Column::Texts(_) => self.text,
            };
            format!("{before}{i}{after}")
        };
        let [before, after] = self.list;
        (each(&part), format!("{before}{first}{after}"))
    }

    /// A statement written once, in this dialect.
    pub(in crate::store) fn render(&self, template: &str) -> String {
        let mut text = template.to_owned();
        for n in 0..=17 {
            for (key, [before, after]) in [
                (format!("{{{n}}}"), self.list),
                (format!("{{hex:{n}}}"), self.hex),
                (format!("{{int:{n}}}"), self.int),
                (format!("{{text:{n}}}"), self.text),
            ] {
                text = text.replace(&key, &format!("{before}{n}{after}"));
            }
        }
        for (word, meaning) in self.words {
            text = text.replace(word, meaning);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_are_rendered_whole() {
        let found = |dialect: &Dialect| {
            let on = "t.a = {hex:0} AND t.b = {int:1} AND t.c = {text:2} AND CAST(NULL AS {bytes}) IS NULL";
            let found = dialect.find("things t", "by_x", on);
            dialect.render(&format!("SELECT {{now}} FROM {{2}} {found}"))
        };
        for text in [found(&SQLITE), found(&POSTGRES)] {
            assert!(!text.contains(['{', '}']), "{text}");
            assert!(text.contains("($2") || text.contains("CAST($2"), "{text}");
            assert!(text.contains("t.platform_id"), "{text}");
        }
        assert!(found(&SQLITE).contains("INDEXED BY by_x"));
        assert!(!found(&POSTGRES).contains("by_x"));
    }

    #[test]
    fn rows_are_json() {
        let columns = [
            Column::Bytes(vec![Some(&[1, 255]), None, Some(&[])]),
            Column::Ints(vec![Some(-7), Some(i64::MAX), None]),
            Column::Texts(vec![Some("a".into()), Some("\"\\\u{1}".into()), None]),
        ];
        let parsed: serde_json::Value = serde_json::from_str(&json_rows(&columns)).unwrap();
        let expected =
            serde_json::json!([["01ff", -7, "a"], [null, i64::MAX, "\"\\\u{1}"], ["", null, null]]);
        assert_eq!(parsed, expected);
        assert_eq!(json_rows(&[]), "[]");
    }
}
