//! Reads. The hot one brings everything that a batch needs in one statement, so that it is one look at one state.

use std::fmt::Write as _;

use sqlx::{SqlitePool, sqlite::SqliteRow};

use super::{database, decode::Columns, signed};
use crate::{
    domain::{
        ids::{ConsentId, PlatformId, SubjectId},
        names::PlatformName,
        time::Timestamp,
        token::TokenHash,
    },
    store::{
        Damage, FoundSubject, Installation, ReadKeys, Snapshot, StoreError, StoredConfig, StoredTree,
        rows::{EntryRow, HeadRow, SecondHead, TileRow},
    },
};

/// Rows of different kinds under one list of columns; the first column says which kind. CROSS JOIN holds SQLite to
/// the order written: from the few wanted keys to the rows, never through a table. A token without
/// its record or subject still shows, as damage.
const SNAPSHOT: &str = "/* read::snapshot */
WITH found AS MATERIALIZED (
    SELECT t.token_hash, t.token_id, t.record_id AS token_record, t.mode, t.state AS token_state,
           t.created_at AS token_created, t.mac AS token_mac,
           r.record_id, r.version, r.subject_id, r.field, r.state AS record_state, r.sealed_value,
           r.created_at AS record_created, r.mac AS record_mac,
           s.index_version, s.reference_hash, s.wrapped_key, s.state AS subject_state,
           s.created_at AS subject_created, s.mac AS subject_mac
    FROM json_each($2) AS wanted
    CROSS JOIN tokens t ON t.platform_id = $1 AND t.token_hash = unhex(wanted.value)
    LEFT JOIN records r ON r.platform_id = $1 AND r.record_id = t.record_id AND r.state = 'current'
    LEFT JOIN subjects s ON s.platform_id = $1 AND s.subject_id = r.subject_id
),
named AS MATERIALIZED (
    SELECT s.subject_id, s.index_version, s.reference_hash, s.wrapped_key, s.state, s.created_at, s.mac
    FROM json_each($3) AS wanted
    CROSS JOIN subjects s ON s.platform_id = $1 AND s.index_version = json_extract(wanted.value, '$[0]')
                   AND s.reference_hash = unhex(json_extract(wanted.value, '$[1]'))
)
SELECT 0, CAST(unixepoch('now', 'subsec') * 1000000 AS INTEGER), size, config_epoch, tighten_seq, updated_at, root,
       right_edge, checkpoint, mac, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
FROM heads WHERE platform_id = $1
UNION ALL SELECT 1, found.* FROM found
UNION ALL SELECT 2, named.*, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0 FROM named
UNION ALL
SELECT 3, r.record_id, r.version, r.subject_id, r.field, r.state, r.sealed_value, r.created_at, r.mac,
       0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0
FROM named
CROSS JOIN records r INDEXED BY records_current
    ON r.platform_id = $1 AND r.subject_id = named.subject_id AND r.state = 'current'
UNION ALL
SELECT 4, c.consent_id, c.subject_id, c.purpose, c.fields, c.state, c.act, c.given_at, c.expires_at, c.recorded_at,
       c.withdrawn_at, c.third_party_transfer, c.cross_border_transfer, c.publication, c.policy_version, c.language,
       c.text_sha256, c.site, c.mac, 0, 0, 0
FROM (SELECT subject_id FROM found UNION SELECT subject_id FROM named) AS theirs
CROSS JOIN consents c INDEXED BY consents_by_subject
    ON c.platform_id = $1 AND c.subject_id = theirs.subject_id
UNION ALL
SELECT 5, consent_id, subject_id, purpose, fields, state, act, given_at, expires_at, recorded_at, withdrawn_at,
       third_party_transfer, cross_border_transfer, publication, policy_version, language, text_sha256, site, mac,
       0, 0, 0
FROM json_each($4) AS wanted
CROSS JOIN consents ON platform_id = $1 AND consent_id = unhex(wanted.value)";

pub(super) async fn snapshot(
    readers: &SqlitePool,
    platform: PlatformId,
    keys: &ReadKeys,
) -> Result<Snapshot, StoreError> {
    let tokens = json_list(keys.tokens.iter().map(|hash| hex_string(&hash.0)));
    let subjects =
        json_list(keys.subjects.iter().map(|(version, hash)| format!("[{version},{}]", hex_string(hash))));
    let consents = json_list(keys.consents.iter().map(|id| hex_string(id.as_bytes())));
    let rows = sqlx::query(SNAPSHOT)
        .bind(i64::from(platform.get()))
        .bind(tokens)
        .bind(subjects)
        .bind(consents)
        .fetch_all(readers)
        .await
        .map_err(database("read a batch"))?;

    let (head, now) = snapshot_head(&rows, platform)?;
    let mut snapshot = Snapshot {
        head,
        now,
        tokens: std::collections::HashMap::new(),
        subjects: std::collections::HashMap::new(),
        consents_of: std::collections::HashMap::new(),
        consents: std::collections::HashMap::new(),
    };
    for row in &rows {
        add_row(&mut snapshot, row, platform)?;
    }
    for consents in snapshot.consents_of.values_mut().flatten() {
        consents.sort_by_key(|row| (std::cmp::Reverse(row.consent.recorded_at), row.consent.id));
    }
    Ok(snapshot)
}

fn snapshot_head(rows: &[SqliteRow], platform: PlatformId) -> Result<(HeadRow, Timestamp), StoreError> {
    const MISSING: Damage = Damage { table: "heads", column: "platform_id" };
    let first = rows.first().ok_or(MISSING)?;
    let mut columns = Columns::new(first, "heads", 0);
    if columns.int("kind")? != 0 {
        return Err(MISSING.into());
    }
    let now = Timestamp::from_micros(columns.int("now")?);
    Ok((columns.head(platform)?, now))
}

/// Adds one row under its key. The keys are those that were asked for, so they decode; where they do not, the whole
/// read is damaged.
fn add_row(snapshot: &mut Snapshot, row: &SqliteRow, platform: PlatformId) -> Result<(), Damage> {
    let from = |table, first| Columns::new(row, table, first);
    match from("snapshot", 0).int("kind")? {
        1 => {
            let hash = TokenHash(from("tokens", 1).array("token_hash")?);
            snapshot.tokens.insert(hash, from("tokens", 1).found_token(platform));
        }
        2 => {
            let mut key = from("subjects", 2);
            let key = (key.number("index_version")?, key.array("reference_hash")?);
            let mut columns = from("subjects", 1);
            let id = SubjectId::from_bytes(columns.array("subject_id")?);
            let subject = columns.subject(platform, id);
            let found = subject.map(|subject| FoundSubject { subject, records: Vec::new() });
            snapshot.subjects.insert(key, found);
        }
        3 => {
            let subject = SubjectId::from_bytes(from("records", 3).array("subject_id")?);
            let theirs = |found: &&mut Result<FoundSubject, Damage>| {
                found.as_ref().is_ok_and(|found| found.subject.id == subject)
            };
            if let Some(found) = snapshot.subjects.values_mut().find(theirs) {
                match (from("records", 1).record(platform), found.as_mut()) {
                    (Ok(record), Ok(found)) => found.records.push(record),
                    (Err(damage), _) => *found = Err(damage),
                    (Ok(_), Err(_)) => {}
                }
            }
        }
        4 => {
            let subject = SubjectId::from_bytes(from("consents", 2).array("subject_id")?);
            let theirs = snapshot.consents_of.entry(subject).or_insert_with(|| Ok(Vec::new()));
            match (from("consents", 1).consent(platform), theirs.as_mut()) {
                (Ok(consent), Ok(theirs)) => theirs.push(consent),
                (Err(damage), _) => *theirs = Err(damage),
                (Ok(_), Err(_)) => {}
            }
        }
        5 => {
            let id = ConsentId::from_bytes(from("consents", 1).array("consent_id")?);
            snapshot.consents.insert(id, from("consents", 1).consent(platform));
        }
        _ => {}
    }
    Ok(())
}

pub(super) async fn installation(readers: &SqlitePool) -> Result<Option<Installation>, StoreError> {
    let failed = || database("read the installation");
    let name: Option<(String,)> = sqlx::query_as("/* read::installation */ SELECT name FROM installation")
        .fetch_optional(readers)
        .await
        .map_err(failed())?;
    let Some((name,)) = name else { return Ok(None) };
    let rows =
        sqlx::query("/* read::installation */ SELECT platform_id, name FROM platforms ORDER BY platform_id")
            .fetch_all(readers)
            .await
            .map_err(failed())?;
    let platforms = rows
        .iter()
        .map(|row| {
            let mut columns = Columns::new(row, "platforms", 0);
            let id = PlatformId::new(columns.number("platform_id")?);
            Ok((id, columns.parse::<PlatformName>("name")?))
        })
        .collect::<Result<_, StoreError>>()?;
    Ok(Some(Installation { name, platforms }))
}

pub(super) async fn tree(readers: &SqlitePool, platform: PlatformId) -> Result<StoredTree, StoreError> {
    // One transaction: head, entries and tiles must be of one moment.
    let failed = || database("read a tree");
    let mut tx = readers.begin().await.map_err(failed())?;
    let row = sqlx::query(
        "/* read::tree */ SELECT size, config_epoch, tighten_seq, updated_at, root, right_edge, checkpoint, mac \
         FROM heads WHERE platform_id = $1",
    )
    .bind(i64::from(platform.get()))
    .fetch_one(&mut *tx)
    .await
    .map_err(failed())?;
    let head = Columns::new(&row, "heads", 0).head(platform)?;
    let size = head.counters.size;

    let rows = sqlx::query(
        "/* read::tree */ SELECT leaf_hash FROM audit_entries WHERE platform_id = $1 AND position >= $2 \
         ORDER BY position",
    )
    .bind(i64::from(platform.get()))
    .bind(signed(size & !255))
    .fetch_all(&mut *tx)
    .await
    .map_err(failed())?;
    let leaves = rows
        .iter()
        .map(|row| Columns::new(row, "audit_entries", 0).array("leaf_hash"))
        .collect::<Result<Vec<_>, _>>()?;
    let mut partial = vec![leaves];
    for level in 1..8_u32 {
        let complete = size >> (8 * level);
        if complete == 0 {
            break;
        }
        let rows = sqlx::query(
            "/* read::tree */ SELECT root FROM audit_tiles WHERE platform_id = $1 AND level = $2 \
             AND tile_index >= $3 ORDER BY tile_index",
        )
        .bind(i64::from(platform.get()))
        .bind(i64::from(level - 1))
        .bind(signed(complete & !255))
        .fetch_all(&mut *tx)
        .await
        .map_err(failed())?;
        let roots = rows
            .iter()
            .map(|row| Columns::new(row, "audit_tiles", 0).array("root"))
            .collect::<Result<_, _>>()?;
        partial.push(roots);
    }
    tx.commit().await.map_err(failed())?;
    Ok(StoredTree { head, partial })
}

pub(super) async fn config(readers: &SqlitePool, platform: PlatformId) -> Result<StoredConfig, StoreError> {
    let failed = || database("read policy, callers and keys");
    let id = i64::from(platform.get());
    let mut tx = readers.begin().await.map_err(failed())?;
    let row = sqlx::query("/* read::config */ SELECT config_epoch FROM heads WHERE platform_id = $1")
        .bind(id)
        .fetch_one(&mut *tx)
        .await
        .map_err(failed())?;
    let config_epoch = Columns::new(&row, "heads", 0).number("config_epoch")?;
    let keys = sqlx::query(
        "/* read::config */ SELECT kind, version, state, wrapped, created_at, mac FROM key_versions \
         WHERE platform_id = $1 AND state <> 'destroyed' ORDER BY kind, version",
    )
    .bind(id)
    .fetch_all(&mut *tx)
    .await
    .map_err(failed())?;
    let policy = sqlx::query(
        "/* read::config */ SELECT version, text, sha256, created_at, mac FROM policies WHERE platform_id = $1 \
         ORDER BY version DESC LIMIT 1",
    )
    .bind(id)
    .fetch_optional(&mut *tx)
    .await
    .map_err(failed())?;
    let callers = sqlx::query(
        "/* read::config */ SELECT spiffe_id, caller_id, name, roles, state, updated_at, mac FROM callers \
         WHERE platform_id = $1 ORDER BY name",
    )
    .bind(id)
    .fetch_all(&mut *tx)
    .await
    .map_err(failed())?;
    tx.commit().await.map_err(failed())?;
    Ok(StoredConfig {
        config_epoch,
        keys: keys
            .iter()
            .map(|row| Columns::new(row, "key_versions", 0).key_version(platform))
            .collect::<Result<_, _>>()?,
        policy: policy.map(|row| Columns::new(&row, "policies", 0).policy(platform)).transpose()?,
        callers: callers
            .iter()
            .map(|row| Columns::new(row, "callers", 0).caller(platform))
            .collect::<Result<_, _>>()?,
    })
}

pub(super) async fn entries(
    readers: &SqlitePool,
    platform: PlatformId,
    from: u64,
    limit: u32,
) -> Result<Vec<EntryRow>, StoreError> {
    let rows = sqlx::query(
        "/* read::entries */ SELECT entry, leaf_hash FROM audit_entries WHERE platform_id = $1 AND position >= $2 \
         ORDER BY position LIMIT $3",
    )
    .bind(i64::from(platform.get()))
    .bind(signed(from))
    .bind(i64::from(limit))
    .fetch_all(readers)
    .await
    .map_err(database("read entries"))?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::new(row, "audit_entries", 0);
            Ok(EntryRow { entry: columns.bytes("entry")?, leaf_hash: columns.array("leaf_hash")? })
        })
        .collect()
}

pub(super) async fn tiles(
    readers: &SqlitePool,
    platform: PlatformId,
    level: u8,
    from: u64,
    limit: u32,
) -> Result<Vec<TileRow>, StoreError> {
    let rows = sqlx::query(
        "/* read::tiles */ SELECT tile_index, hashes, root FROM audit_tiles WHERE platform_id = $1 AND level = $2 \
         AND tile_index >= $3 ORDER BY tile_index LIMIT $4",
    )
    .bind(i64::from(platform.get()))
    .bind(i64::from(level))
    .bind(signed(from))
    .bind(i64::from(limit))
    .fetch_all(readers)
    .await
    .map_err(database("read tiles"))?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::new(row, "audit_tiles", 0);
            let index = columns.number("tile_index")?;
            Ok(TileRow { level, index, hashes: columns.bytes("hashes")?, root: columns.array("root")? })
        })
        .collect()
}

pub(super) async fn second_heads(
    readers: &SqlitePool,
    platform: PlatformId,
    after: i64,
    limit: u32,
) -> Result<Vec<SecondHead>, StoreError> {
    let rows = sqlx::query(
        "/* read::second_heads */ SELECT second, size, checkpoint FROM audit_heads WHERE platform_id = $1 AND second > $2 \
         ORDER BY second LIMIT $3",
    )
    .bind(i64::from(platform.get()))
    .bind(after)
    .bind(i64::from(limit))
    .fetch_all(readers)
    .await
    .map_err(database("read heads"))?;
    rows.iter()
        .map(|row| {
            let mut columns = Columns::new(row, "audit_heads", 0);
            Ok(SecondHead {
                second: columns.int("second")?,
                size: columns.number("size")?,
                checkpoint: columns.text("checkpoint")?,
            })
        })
        .collect()
}

/// A JSON string of hexadecimal digits.
fn hex_string(bytes: &[u8]) -> String {
    format!("\"{}\"", data_encoding::HEXLOWER.encode(bytes))
}

fn json_list(items: impl Iterator<Item = String>) -> String {
    let mut list = String::from("[");
    for (i, item) in items.enumerate() {
        let comma = if i == 0 { "" } else { "," };
        // Writing to a String cannot fail.
        let _written = write!(list, "{comma}{item}");
    }
    list.push(']');
    list
}

#[cfg(test)]
mod tests {
    use sqlx::{Row as _, sqlite::SqlitePoolOptions};

    use super::*;

    /// The hot read must go from keys to rows: a plan that walks through a table grows with the platform.
    #[tokio::test]
    async fn the_batch_read_scans_no_table() {
        let pool = SqlitePoolOptions::new().max_connections(1).connect("sqlite::memory:").await.unwrap();
        super::super::schema::migrate(&pool).await.unwrap();
        let explain = sqlx::AssertSqlSafe(format!("EXPLAIN QUERY PLAN {SNAPSHOT}"));
        let plan =
            sqlx::query(explain).bind(1).bind("[]").bind("[]").bind("[]").fetch_all(&pool).await.unwrap();
        let steps: Vec<String> = plan.iter().map(|row| row.get("detail")).collect();
        assert!(steps.len() > 10, "{steps:?}");
        for step in steps {
            let own = ["SCAN wanted", "SCAN found", "SCAN named", "SCAN theirs"];
            assert!(!step.starts_with("SCAN") || own.iter().any(|o| step.starts_with(o)), "{step}");
            let by_platform_alone = step.starts_with("SEARCH") && step.ends_with("(platform_id=?)");
            assert!(!by_platform_alone, "{step}");
        }
    }
}
