//! Commits: the head is swapped and entries, tiles and rows are written, or nothing is.

use super::{
    Engine, Purpose, SqlStore,
    config_writes::insert_key,
    database,
    inserts::{Piece, entry_columns, pieces},
    statement::{Statement, Touches},
    writes::{insert_tile, statements},
};
use crate::store::{Commit, CommitOutcome, NewPlatform, StoreError, Write};

/// A statement failed: either a row did not meet what its write stated, or the database failed.
enum Failed {
    Conflict,
    Database(sqlx::Error),
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Self {
        match error.as_database_error() {
            // A constraint that does not hold; or (PostgreSQL) two transactions that wait for each other.
            Some(e) if !matches!(e.kind(), sqlx::error::ErrorKind::Other) => Self::Conflict,
            Some(e) if e.code().is_some_and(|code| code == "40P01" || code == "40001") => Self::Conflict,
            _ => Self::Database(error),
        }
    }
}

/// `$1` platform, `$2`–`$9` the new head, `$10`–`$12` the counters expected, `$13` the second, `$14` the epoch of the vault's
/// own platform, `$15` the new `change_seq`, from `$16` on the entries.
fn swap_head<'a>(sql: &'static str, commit: &'a Commit) -> Statement<'a> {
    let (head, expected) = (&commit.head, commit.expected);
    Statement::any(sql)
        .int(head.platform.get())
        .size(head.counters.size)
        .size(head.counters.config_epoch)
        .size(head.counters.tighten_seq)
        .int(head.updated_at.as_micros())
        .bytes(&head.root)
        .own_bytes(head.right_edge.concat())
        .text(&head.checkpoint)
        .bytes(&head.mac)
        .size(expected.size)
        .size(expected.config_epoch)
        .size(expected.tighten_seq)
        .int(head.updated_at.second())
        .size(commit.vault_epoch)
        .size(head.counters.change_seq)
        .rows(entry_columns(&commit.entries))
}

impl<E: Engine> SqlStore<E> {
    pub(super) async fn write_commit(&self, commit: &Commit) -> Result<CommitOutcome, StoreError> {
        let swap = swap_head(self.engine.dialect().swap_head, commit);
        if commit.writes.is_empty() && commit.tiles.is_empty() {
            let swapped = self.engine.swap_head_alone(swap).await.map_err(database("commit"))?;
            return Ok(if swapped { CommitOutcome::Committed } else { CommitOutcome::HeadMoved });
        }
        let tx = self.engine.begin(Purpose::Write).await.map_err(database("begin a commit"))?;
        self.write_commit_in(tx, commit).await
    }

    pub(super) async fn write_commit_in(
        &self,
        mut tx: E::Tx,
        commit: &Commit,
    ) -> Result<CommitOutcome, StoreError> {
        let swap = swap_head(self.engine.dialect().swap_head, commit);
        let written = match self.engine.fetch_in(&mut tx, swap).await {
            Ok(swapped) if swapped.is_empty() => {
                self.undo(tx).await;
                return Ok(CommitOutcome::HeadMoved);
            }
            Ok(_) => self.write_rows(&mut tx, commit).await,
            Err(error) => Err(error.into()),
        };
        match written {
            Ok(()) => {
                self.engine.commit(tx).await.map_err(database("commit"))?;
                Ok(CommitOutcome::Committed)
            }
            Err(Failed::Conflict) => {
                self.undo(tx).await;
                Ok(CommitOutcome::Conflict)
            }
            Err(Failed::Database(error)) => {
                self.undo(tx).await;
                Err(database("write a commit")(error))
            }
        }
    }

    /// Rolls back. Where even that fails the transaction goes with its connection, which the pool closes then.
    async fn undo(&self, tx: E::Tx) {
        if let Err(error) = self.engine.rollback(tx).await {
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::warn!(error, "a transaction could not be rolled back; its connection is closed");
        }
    }

    async fn write_rows(&self, tx: &mut E::Tx, commit: &Commit) -> Result<(), Failed> {
        let platform = commit.head.platform;
        for tile in &commit.tiles {
            self.run(tx, insert_tile(platform, tile)).await?;
        }
        for piece in pieces(&commit.writes) {
            let write = match piece {
                Piece::New(rows) => {
                    for statement in rows.statements(&self.inserts, platform) {
                        self.run(tx, statement).await?;
                    }
                    continue;
                }
                Piece::Change(write) => write,
            };
            for statement in statements(&self.record_texts, platform, write) {
                self.run(tx, statement).await?;
            }
            if let Write::CreatePlatform(new) = write {
                self.insert_platform(tx, new).await?;
            }
            if let Write::Many(many) = write {
                for statement in self.lists.statements(platform, many) {
                    self.run(tx, statement).await?;
                }
            }
        }
        Ok(())
    }

    async fn run(&self, tx: &mut E::Tx, statement: Statement<'_>) -> Result<(), Failed> {
        let touches = statement.touches;
        let rows = self.engine.execute_in(tx, statement).await?;
        let met = match touches {
            Touches::One => rows == 1,
            Touches::Exactly(expected) => rows == expected,
            Touches::Some => rows > 0,
            Touches::Any => true,
        };
        if met { Ok(()) } else { Err(Failed::Conflict) }
    }

    pub(super) async fn insert_installation(&self, name: &str, vault: &NewPlatform) -> sqlx::Result<()> {
        let mut tx = self.engine.begin(Purpose::Write).await?;
        let now = vault.platform.created_at.as_micros();
        let installation = Statement::new(
            "/* create_installation */ INSERT INTO installation (sole, name, created_at) VALUES (1, $1, $2)",
        );
        self.engine.execute_in(&mut tx, installation.text(name).int(now)).await?;
        self.insert_platform(&mut tx, vault).await?;
        self.engine.commit(tx).await
    }

    async fn insert_platform(&self, tx: &mut E::Tx, platform: &NewPlatform) -> sqlx::Result<()> {
        let head = &platform.head;
        let id = head.platform.get();
        let row = Statement::new(
            "/* insert_platform */ INSERT INTO platforms (platform_id, name, legal_name, bin, created_at) \
             VALUES ($1, $2, $3, $4, $5)",
        );
        let of = &platform.platform;
        let row = row
            .int(id)
            .text(of.name.as_str())
            .text(&of.legal_name)
            .text(&of.bin)
            .int(of.created_at.as_micros());
        self.engine.execute_in(tx, row).await?;
        for key in &platform.keys {
            self.engine.execute_in(tx, insert_key(key)).await?;
        }
        let first = Statement::new(
            "/* insert_platform */ INSERT INTO heads (platform_id, size, config_epoch, tighten_seq, updated_at, root, \
             right_edge, checkpoint, mac, change_seq) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        )
        .int(id)
        .size(head.counters.size)
        .size(head.counters.config_epoch)
        .size(head.counters.tighten_seq)
        .int(head.updated_at.as_micros())
        .bytes(&head.root)
        .own_bytes(head.right_edge.concat())
        .text(&head.checkpoint)
        .bytes(&head.mac)
        .size(head.counters.change_seq);
        self.engine.execute_in(tx, first).await?;
        let second = Statement::new(
            "/* insert_platform */ INSERT INTO audit_heads (platform_id, second, size, checkpoint) VALUES ($1, $2, $3, $4)",
        );
        let second =
            second.int(id).int(head.updated_at.second()).size(head.counters.size).text(&head.checkpoint);
        self.engine.execute_in(tx, second).await?;
        let rows = Statement::any(self.insert_entries).int(id).rows(entry_columns(&platform.entries));
        self.engine.execute_in(tx, rows).await?;
        Ok(())
    }
}
