//! Commits: one `BEGIN IMMEDIATE` that swaps the head and writes entries, tiles and rows, or nothing.

use sqlx::{Sqlite, SqlitePool, Transaction};

use super::{database, signed};
use crate::{
    domain::{caller::Role, consent::ConsentState, names::FieldName, time::Timestamp},
    store::{
        Commit, CommitOutcome, NewPlatform, StoreError, Write,
        rows::{CallerRow, ConsentRow, EntryRow, KeyVersionRow, PolicyRow, RecordRow, SubjectRow, TokenRow},
    },
};

type Tx = Transaction<'static, Sqlite>;

/// A statement failed: either a row did not meet what its write stated (a constraint), or the database failed.
enum Failed {
    Conflict,
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error() {
            Some(e) if !matches!(e.kind(), sqlx::error::ErrorKind::Other) => Self::Conflict,
            _ => Self::Database(error),
        }
    }
}

pub(super) async fn commit(writer: &SqlitePool, commit: &Commit) -> Result<CommitOutcome, StoreError> {
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await.map_err(database("begin a commit"))?;
    let written = match swap_head(&mut tx, commit).await {
        Ok(false) => {
            undo(tx).await;
            return Ok(CommitOutcome::HeadMoved);
        }
        Ok(true) => write_rows(&mut tx, commit).await,
        Err(failed) => Err(failed),
    };
    match written {
        Ok(()) => {
            tx.commit().await.map_err(database("commit"))?;
            Ok(CommitOutcome::Committed)
        }
        Err(Failed::Conflict) => {
            undo(tx).await;
            Ok(CommitOutcome::Conflict)
        }
        Err(Failed::Database(error)) => {
            undo(tx).await;
            Err(database("write a commit")(error))
        }
    }
}

/// Rolls back. Where even that fails the transaction is gone or goes with its connection, which is closed then: see
/// `after_release` of the writer.
async fn undo(tx: Tx) {
    if let Err(error) = tx.rollback().await {
        let error: &(dyn std::error::Error + 'static) = &error;
        tracing::warn!(error, "a transaction could not be rolled back; its connection is closed");
    }
}

/// Three statements in one round trip to the driver's thread: the swap, and, only where it happened (the head then
/// has this commit's checkpoint, which no other has), the head of the second and the entries.
async fn swap_head(tx: &mut Tx, commit: &Commit) -> Result<bool, Failed> {
    let (head, expected) = (&commit.head, commit.expected);
    let done = sqlx::query(
        "/* commit::swap_head */ UPDATE heads SET size = $2, config_epoch = $3, tighten_seq = $4, updated_at = $5, \
         root = $6, right_edge = $7, checkpoint = $8, mac = $9 \
         WHERE platform_id = $1 AND size = $10 AND config_epoch = $11 AND tighten_seq = $12; \
         INSERT INTO audit_heads (platform_id, second, size, checkpoint) \
         SELECT $1, $13, $2, $8 FROM heads WHERE platform_id = $1 AND checkpoint = $8 \
         ON CONFLICT (platform_id, second) DO UPDATE SET size = excluded.size, checkpoint = excluded.checkpoint; \
         INSERT INTO audit_entries (platform_id, position, entry, leaf_hash) \
         SELECT $1, $10 + key, unhex(substr(value, 65)), unhex(substr(value, 1, 64)) FROM json_each($14) \
         WHERE EXISTS (SELECT 1 FROM heads WHERE platform_id = $1 AND checkpoint = $8)",
    )
    .bind(i64::from(head.platform.get()))
    .bind(signed(head.counters.size))
    .bind(signed(head.counters.config_epoch))
    .bind(signed(head.counters.tighten_seq))
    .bind(head.updated_at.as_micros())
    .bind(head.root.as_slice())
    .bind(head.right_edge.concat())
    .bind(head.checkpoint.as_str())
    .bind(head.mac.as_slice())
    .bind(signed(expected.size))
    .bind(signed(expected.config_epoch))
    .bind(signed(expected.tighten_seq))
    .bind(head.updated_at.second())
    .bind(json_entries(&commit.entries))
    .execute(&mut **tx)
    .await?;
    Ok(done.rows_affected() > 0)
}

async fn write_rows(tx: &mut Tx, commit: &Commit) -> Result<(), Failed> {
    let platform = i64::from(commit.head.platform.get());
    for tile in &commit.tiles {
        sqlx::query(
            "/* commit::tile */ INSERT INTO audit_tiles (platform_id, level, tile_index, hashes, root) \
             VALUES ($1, $2, $3, $4, $5)",
        )
        .bind(platform)
        .bind(i64::from(tile.level))
        .bind(signed(tile.index))
        .bind(tile.hashes.as_slice())
        .bind(tile.root.as_slice())
        .execute(&mut **tx)
        .await?;
    }
    for write in &commit.writes {
        match write {
            Write::InsertSubject(row) => insert_subject(tx, row).await?,
            Write::InsertRecord(row) => insert_record(tx, row).await?,
            Write::InsertToken(row) => insert_token(tx, row).await?,
            Write::InsertConsent(row) => insert_consent(tx, row).await?,
            Write::WithdrawConsent(row) => withdraw_consent(tx, row).await?,
            Write::InsertPolicy(row) => insert_policy(tx, row).await?,
            Write::PutCaller(row) => put_caller(tx, row).await?,
        }
    }
    Ok(())
}

/// A list for `json_each`: each item is a leaf hash and the entry's bytes, in hexadecimal.
fn json_entries(entries: &[EntryRow]) -> String {
    let bytes: usize = entries.iter().map(|row| 2 * row.entry.len() + 67).sum();
    let mut list = String::with_capacity(bytes + 2);
    list.push('[');
    for (i, row) in entries.iter().enumerate() {
        list.push_str(if i == 0 { "\"" } else { ",\"" });
        data_encoding::HEXLOWER.encode_append(&row.leaf_hash, &mut list);
        data_encoding::HEXLOWER.encode_append(&row.entry, &mut list);
        list.push('"');
    }
    list.push(']');
    list
}

async fn insert_subject(tx: &mut Tx, row: &SubjectRow) -> Result<(), Failed> {
    sqlx::query(
        "/* commit::insert_subject */ INSERT INTO subjects (platform_id, subject_id, index_version, reference_hash, \
         sealed_reference, wrapped_key, state, created_at, mac) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(i64::from(row.platform.get()))
    .bind(row.id.as_bytes().as_slice())
    .bind(i64::from(row.index_version))
    .bind(row.reference_hash.as_slice())
    .bind(row.sealed_reference.as_bytes())
    .bind(row.wrapped_key.as_ref().map(crate::domain::secret::Sealed::as_bytes))
    .bind(row.state.as_str())
    .bind(row.created_at.as_micros())
    .bind(row.mac.as_slice())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn insert_record(tx: &mut Tx, row: &RecordRow) -> Result<(), Failed> {
    sqlx::query(
        "/* commit::insert_record */ INSERT INTO records (platform_id, record_id, version, subject_id, field, state, \
         sealed_value, created_at, mac) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(i64::from(row.address.platform.get()))
    .bind(row.address.record.as_bytes().as_slice())
    .bind(i64::from(row.address.version))
    .bind(row.address.subject.as_bytes().as_slice())
    .bind(row.address.field.as_str())
    .bind(row.state.as_str())
    .bind(row.sealed_value.as_bytes())
    .bind(row.created_at.as_micros())
    .bind(row.mac.as_slice())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn insert_token(tx: &mut Tx, row: &TokenRow) -> Result<(), Failed> {
    sqlx::query(
        "/* commit::insert_token */ INSERT INTO tokens (platform_id, token_hash, token_id, record_id, mode, state, \
         sealed_token, created_at, mac) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(i64::from(row.platform.get()))
    .bind(row.hash.0.as_slice())
    .bind(row.id.as_bytes().as_slice())
    .bind(row.record.as_bytes().as_slice())
    .bind(row.mode.as_str())
    .bind(row.state.as_str())
    .bind(row.sealed_token.as_bytes())
    .bind(row.created_at.as_micros())
    .bind(row.mac.as_slice())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn insert_consent(tx: &mut Tx, row: &ConsentRow) -> Result<(), Failed> {
    let c = &row.consent;
    sqlx::query(
        "/* commit::insert_consent */ INSERT INTO consents (platform_id, consent_id, subject_id, purpose, fields, \
         state, act, given_at, expires_at, recorded_at, withdrawn_at, third_party_transfer, cross_border_transfer, \
         publication, policy_version, language, text_sha256, site, sealed_evidence, mac) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17, $18, $19, $20)",
    )
    .bind(i64::from(row.platform.get()))
    .bind(c.id.as_bytes().as_slice())
    .bind(c.subject.as_bytes().as_slice())
    .bind(c.terms.purpose.as_str())
    .bind(c.terms.fields.iter().map(FieldName::as_str).collect::<Vec<_>>().join(","))
    .bind(c.state.as_str())
    .bind(c.terms.act.as_str())
    .bind(c.terms.given_at.as_micros())
    .bind(c.terms.expires_at.map(Timestamp::as_micros))
    .bind(c.recorded_at.as_micros())
    .bind(c.withdrawn_at.map(Timestamp::as_micros))
    .bind(c.terms.third_party_transfer)
    .bind(c.terms.cross_border_transfer)
    .bind(c.terms.publication)
    .bind(i64::from(c.terms.policy_version))
    .bind(c.terms.language.as_str())
    .bind(c.terms.text_sha256.as_slice())
    .bind(c.terms.site.as_str())
    .bind(row.sealed_evidence.as_bytes())
    .bind(row.mac.as_slice())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn withdraw_consent(tx: &mut Tx, row: &ConsentRow) -> Result<(), Failed> {
    let updated = sqlx::query(
        "/* commit::withdraw_consent */ UPDATE consents SET state = $3, withdrawn_at = $4, mac = $5 \
         WHERE platform_id = $1 AND consent_id = $2 AND state = $6",
    )
    .bind(i64::from(row.platform.get()))
    .bind(row.consent.id.as_bytes().as_slice())
    .bind(row.consent.state.as_str())
    .bind(row.consent.withdrawn_at.map(Timestamp::as_micros))
    .bind(row.mac.as_slice())
    .bind(ConsentState::Granted.as_str())
    .execute(&mut **tx)
    .await?;
    if updated.rows_affected() == 1 { Ok(()) } else { Err(Failed::Conflict) }
}

async fn insert_policy(tx: &mut Tx, row: &PolicyRow) -> Result<(), Failed> {
    sqlx::query(
        "/* commit::insert_policy */ INSERT INTO policies (platform_id, version, text, sha256, created_at, mac) \
         VALUES ($1, $2, $3, $4, $5, $6)",
    )
    .bind(i64::from(row.platform.get()))
    .bind(i64::from(row.version))
    .bind(row.text.as_str())
    .bind(row.sha256.as_slice())
    .bind(row.created_at.as_micros())
    .bind(row.mac.as_slice())
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn put_caller(tx: &mut Tx, row: &CallerRow) -> Result<(), Failed> {
    let c = &row.caller;
    let put = sqlx::query(
        "/* commit::put_caller */ INSERT INTO callers (spiffe_id, caller_id, platform_id, name, roles, state, \
         updated_at, mac) VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (spiffe_id) \
         DO UPDATE SET name = excluded.name, roles = excluded.roles, state = excluded.state, \
         updated_at = excluded.updated_at, mac = excluded.mac \
         WHERE caller_id = excluded.caller_id AND platform_id = excluded.platform_id",
    )
    .bind(c.spiffe_id.as_str())
    .bind(c.id.as_bytes().as_slice())
    .bind(i64::from(c.platform.get()))
    .bind(c.name.as_str())
    .bind(c.roles.iter().map(|role: &Role| role.as_str()).collect::<Vec<_>>().join(","))
    .bind(c.state.as_str())
    .bind(row.updated_at.as_micros())
    .bind(row.mac.as_slice())
    .execute(&mut **tx)
    .await?;
    if put.rows_affected() == 1 { Ok(()) } else { Err(Failed::Conflict) }
}

pub(super) async fn create_installation(
    writer: &SqlitePool,
    name: &str,
    vault: NewPlatform,
) -> Result<(), StoreError> {
    let failed = || database("create the installation");
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
    let now = vault.created_at.as_micros();
    sqlx::query(
        "/* create_installation */ INSERT INTO installation (only, name, created_at) VALUES (1, $1, $2)",
    )
    .bind(name)
    .bind(now)
    .execute(&mut *tx)
    .await
    .map_err(failed())?;
    sqlx::query("/* create_installation */ INSERT INTO root_versions (version, state, created_at) VALUES (1, 'active', $1)")
        .bind(now)
        .execute(&mut *tx)
        .await
        .map_err(failed())?;
    insert_platform(&mut tx, vault).await.map_err(failed())?;
    tx.commit().await.map_err(failed())
}

pub(super) async fn create_platform(writer: &SqlitePool, platform: NewPlatform) -> Result<(), StoreError> {
    let failed = || database("create a platform");
    let mut tx = writer.begin_with("BEGIN IMMEDIATE").await.map_err(failed())?;
    insert_platform(&mut tx, platform).await.map_err(failed())?;
    tx.commit().await.map_err(failed())
}

async fn insert_platform(tx: &mut Tx, platform: NewPlatform) -> sqlx::Result<()> {
    let head = &platform.head;
    let id = i64::from(head.platform.get());
    sqlx::query(
        "/* insert_platform */ INSERT INTO platforms (platform_id, name, created_at) VALUES ($1, $2, $3)",
    )
    .bind(id)
    .bind(platform.name.as_str())
    .bind(platform.created_at.as_micros())
    .execute(&mut **tx)
    .await?;
    for key in &platform.keys {
        insert_key(tx, key).await?;
    }
    sqlx::query(
        "/* insert_platform */ INSERT INTO heads (platform_id, size, config_epoch, tighten_seq, updated_at, root, \
         right_edge, checkpoint, mac) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
    )
    .bind(id)
    .bind(signed(head.counters.size))
    .bind(signed(head.counters.config_epoch))
    .bind(signed(head.counters.tighten_seq))
    .bind(head.updated_at.as_micros())
    .bind(head.root.as_slice())
    .bind(head.right_edge.concat())
    .bind(head.checkpoint.as_str())
    .bind(head.mac.as_slice())
    .execute(&mut **tx)
    .await?;
    sqlx::query(
        "/* insert_platform */ INSERT INTO audit_heads (platform_id, second, size, checkpoint) VALUES ($1, $2, $3, $4); \
         INSERT INTO audit_entries (platform_id, position, entry, leaf_hash) \
         SELECT $1, key, unhex(substr(value, 65)), unhex(substr(value, 1, 64)) FROM json_each($5)",
    )
    .bind(id)
    .bind(head.updated_at.second())
    .bind(signed(head.counters.size))
    .bind(head.checkpoint.as_str())
    .bind(json_entries(&platform.entries))
    .execute(&mut **tx)
    .await?;
    Ok(())
}

async fn insert_key(tx: &mut Tx, row: &KeyVersionRow) -> sqlx::Result<()> {
    sqlx::query(
        "/* insert_key */ INSERT INTO key_versions (platform_id, kind, version, state, wrapped, created_at, mac) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(i64::from(row.platform.get()))
    .bind(row.kind.as_str())
    .bind(i64::from(row.version))
    .bind(row.state.as_str())
    .bind(row.wrapped.as_ref().map(crate::domain::secret::Sealed::as_bytes))
    .bind(row.created_at.as_micros())
    .bind(row.mac.as_slice())
    .execute(&mut **tx)
    .await?;
    Ok(())
}
