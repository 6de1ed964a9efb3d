//! Reads beside the batch: trees, configurations, and lists.

use super::{Engine, Purpose, SqlStore, database, decode::Columns, schema, statement::Statement};
use crate::{
    domain::{
        ids::{EntryId, OperationId, PlatformId, ProposalId, SubjectId},
        platform::Platform,
        secret::Sealed,
        time::Timestamp,
    },
    store::{
        CallerKey, GrantingTable, Installation, MAX_POLICIES, RowMark, StoreError, StoredConfig, StoredTree,
        WhichOperations,
        rows::{
            config::PolicyRow,
            log::{EntryRow, ReceiptRow, SecondHead, TileRow},
            work::{OpenOperations, OperationRow, ProposalRow, ReplicaRow},
        },
    },
};

/// A replica that was not heard of for so long is gone.
const REPLICA_GONE_MICROS: i64 = 60 * 1_000_000;

impl<E: Engine> SqlStore<E> {
    pub(super) async fn list(
        &self,
        action: &'static str,
        statement: Statement<'_>,
    ) -> Result<Vec<E::Row>, StoreError> {
        self.engine.fetch(statement).await.map_err(database(action))
    }

    pub(super) async fn read_installation(&self) -> Result<Option<Installation>, StoreError> {
        const ACTION: &str = "read the installation";
        let name = Statement::any("/* read::installation */ SELECT name FROM installation");
        let names = self.list(ACTION, name).await?;
        let Some(row) = names.first() else { return Ok(None) };
        let name = Columns::new(row, "installation").text("name")?.to_owned();
        let platforms = Statement::any(
            "/* read::installation */ SELECT platform_id, name, legal_name, bin, created_at FROM platforms \
             ORDER BY platform_id",
        );
        let platforms = self
            .list(ACTION, platforms)
            .await?
            .iter()
            .map(|row| {
                let mut columns = Columns::new(row, "platforms");
                Ok(Platform {
                    id: PlatformId::new(columns.number("platform_id")?),
                    name: columns.parse("name")?,
                    legal_name: columns.text("legal_name")?.to_owned(),
                    bin: columns.text("bin")?.to_owned(),
                    created_at: columns.time("created_at")?,
                })
            })
            .collect::<Result<_, StoreError>>()?;
        Ok(Some(Installation { name, platforms }))
    }

    pub(super) async fn read_tree(&self, platform: PlatformId) -> Result<StoredTree, StoreError> {
        // One transaction: head, entries and tiles must be of one moment.
        let failed = || database("read a tree");
        let mut tx = self.engine.begin(Purpose::Read).await.map_err(failed())?;
        let tree = self.read_tree_in(&mut tx, platform).await?;
        self.engine.commit(tx).await.map_err(failed())?;
        Ok(tree)
    }

    pub(super) async fn read_tree_in(
        &self,
        tx: &mut E::Tx,
        platform: PlatformId,
    ) -> Result<StoredTree, StoreError> {
        let failed = || database("read a tree");
        let head = Statement::any(
            "/* read::tree */ SELECT root, right_edge, mac, checkpoint, size, config_epoch, tighten_seq, \
             change_seq, updated_at, \
             (SELECT v.config_epoch FROM heads v WHERE v.platform_id = 0) FROM heads WHERE platform_id = $1",
        );
        let rows = self.engine.fetch_in(tx, head.int(platform.get())).await.map_err(failed())?;
        let missing = crate::store::Damage { table: "heads", column: "platform_id" };
        let mut columns = Columns::new(rows.first().ok_or(missing)?, "heads");
        let head = columns.head(platform)?;
        let vault_epoch = columns.number("vault_epoch")?;
        let size = head.counters.size;

        let leaves = Statement::any(
            "/* read::tree */ SELECT leaf_hash FROM audit_entries WHERE platform_id = $1 AND position >= $2 \
             ORDER BY position",
        );
        let rows = self.engine.fetch_in(tx, leaves.int(platform.get()).size(size & !255)).await;
        let leaves = rows
            .map_err(failed())?
            .iter()
            .map(|row| Columns::new(row, "audit_entries").array("leaf_hash"))
            .collect::<Result<Vec<_>, _>>()?;
        let mut partial = vec![leaves];
        for level in 1..8_u32 {
            let complete = size >> (8 * level);
            if complete == 0 {
                break;
            }
            let roots = Statement::any(
                "/* read::tree */ SELECT root FROM audit_tiles WHERE platform_id = $1 AND level = $2 \
                 AND tile_index >= $3 ORDER BY tile_index",
            );
            let roots = roots.int(platform.get()).int(level - 1).size(complete & !255);
            let rows = self.engine.fetch_in(tx, roots).await.map_err(failed())?;
            let roots = rows
                .iter()
                .map(|row| Columns::new(row, "audit_tiles").array("root"))
                .collect::<Result<_, _>>()?;
            partial.push(roots);
        }
        Ok(StoredTree { head, vault_epoch, partial })
    }

    pub(super) async fn read_config(&self, platform: PlatformId) -> Result<StoredConfig, StoreError> {
        const EPOCH: &str = "/* read::config */ SELECT config_epoch FROM heads WHERE platform_id = $1";
        const KEYS: &str = "/* read::config */ SELECT kind, version, state, wrapped, created_at, destroy_at, mac \
                            FROM key_versions WHERE platform_id = $1 ORDER BY kind, version";
        const POLICIES: &str = "/* read::config */ SELECT version, text, sha256, created_at, mac FROM policies \
                                WHERE platform_id = $1 ORDER BY version DESC LIMIT $2";
        const CALLERS: &str = "/* read::config */ SELECT spiffe_id, caller_id, name, roles, pins, person_id, state, \
                               created_at, updated_at, mac FROM callers WHERE platform_id = $1 ORDER BY name";
        const RECIPIENTS: &str = "/* read::config */ SELECT recipient_id, name, kind, country, purposes, valid_from, \
                                  valid_until, state, legal_name, contract, public_key, created_at, updated_at, \
                                  mac, key_proved_at, safeguard, safeguard_reference, conditions, offered_key, \
                                  offer_statement, offer_sealed, offer_answer_sha256, offer_expires_at, offer_wrong \
                                  FROM recipients WHERE platform_id = $1 ORDER BY name";
        const LIMITS: &str = "/* read::config */ SELECT caller_id, kind, max_spent, window_seconds, updated_at, mac \
                              FROM budget_limits WHERE platform_id = $1 ORDER BY kind";
        const PERSONS: &str = "/* read::config */ SELECT person_id, handle, state, created_at, updated_at, mac FROM persons \
                               WHERE platform_id = $1 ORDER BY handle";
        const GRANTS: &str = "/* read::config */ SELECT person_id, role, scope, state, updated_at, mac \
                              FROM person_roles WHERE platform_id = $1 ORDER BY person_id";
        const STAFF_KEYS: &str = "/* read::config */ SELECT key_sha256, person_id, evidence, serial, device, chain, \
                                  proposer_id, approver_id, state, created_at, updated_at, mac \
                                  FROM staff_keys WHERE platform_id = $1 ORDER BY key_sha256";
        const HORIZONS: &str = "/* read::config */ SELECT plan_id, horizon_days, rotate_days, sha256, proposer_id, \
                                approver_id, state, created_at, expires_at, updated_at, mac \
                                FROM horizon_plans WHERE platform_id = $1 ORDER BY created_at DESC";
        const CLOSURE: &str = "/* read::config */ SELECT reason, closed_at, opened_at, mac FROM closures WHERE platform_id = $1";
        let failed = || database("read policies, callers and keys");
        let mut tx = self.engine.begin(Purpose::Read).await.map_err(failed())?;
        let mut rows = Vec::new();
        for sql in [
            EPOCH, KEYS, CALLERS, RECIPIENTS, LIMITS, PERSONS, GRANTS, STAFF_KEYS, HORIZONS, CLOSURE,
            POLICIES,
        ] {
            let mut statement = Statement::any(sql).int(platform.get());
            if sql == POLICIES {
                statement = statement.int(MAX_POLICIES);
            }
            rows.push(self.engine.fetch_in(&mut tx, statement).await.map_err(failed())?);
        }
        self.engine.commit(tx).await.map_err(failed())?;
        let mut rows = rows.into_iter();
        let mut next = || rows.next().unwrap_or_default();
        let missing = crate::store::Damage { table: "heads", column: "platform_id" };
        let (epoch, keys, callers, recipients) = (next(), next(), next(), next());
        let (limits, persons, grants, staff_keys) = (next(), next(), next(), next());
        let (horizons, closure, policies) = (next(), next(), next());
        Ok(StoredConfig {
            config_epoch: Columns::new(epoch.first().ok_or(missing)?, "heads").number("config_epoch")?,
            keys: each(&keys, "key_versions", |mut c| c.key_version(platform))?,
            callers: each(&callers, "callers", |mut c| c.caller(platform))?,
            recipients: each(&recipients, "recipients", |mut c| c.recipient(platform))?,
            limits: each(&limits, "budget_limits", |mut c| c.budget_limit(platform))?,
            persons: each(&persons, "persons", |mut c| c.person())?,
            grants: each(&grants, "person_roles", |mut c| c.role_grant())?,
            staff_keys: each(&staff_keys, "staff_keys", |mut c| c.staff_key())?,
            horizons: each(&horizons, "horizon_plans", |mut c| c.horizon())?,
            closure: each(&closure, "closures", |mut c| c.closure(platform))?.pop(),
            policies: each(&policies, "policies", |mut c| c.policy(platform))?,
        })
    }

    pub(super) async fn read_policies(
        &self,
        platform: PlatformId,
        below: u32,
        limit: u32,
    ) -> Result<Vec<PolicyRow>, StoreError> {
        let statement = Statement::any(
            "/* read::policies */ SELECT version, text, sha256, created_at, mac FROM policies WHERE platform_id = $1 \
             AND version < $2 ORDER BY version DESC LIMIT $3",
        );
        let statement = statement.int(platform.get()).int(below).int(limit);
        let rows = self.list("read policies", statement).await?;
        each(&rows, "policies", |mut c| c.policy(platform))
    }

    pub(super) async fn read_place_of_caller(
        &self,
        caller: CallerKey<'_>,
    ) -> Result<Option<PlatformId>, StoreError> {
        let statement = match caller {
            CallerKey::Certificate(uri) => Statement::any(
                "/* read::place_of_caller */ SELECT platform_id FROM callers WHERE spiffe_id = $1",
            )
            .text(uri.as_str()),
            CallerKey::Id(id) => Statement::any(
                "/* read::place_of_caller */ SELECT platform_id FROM callers WHERE caller_id = $1",
            )
            .own_bytes(id.as_bytes().to_vec()),
        };
        let rows = self.list("look a caller up", statement).await?;
        let places = each(&rows, "callers", |mut c| c.number("platform_id").map(PlatformId::new))?;
        Ok(places.first().copied())
    }

    pub(super) async fn read_entries(
        &self,
        platform: PlatformId,
        from: u64,
        limit: u32,
    ) -> Result<Vec<EntryRow>, StoreError> {
        let statement = Statement::any(
            "/* read::entries */ SELECT entry, leaf_hash FROM audit_entries WHERE platform_id = $1 AND position >= $2 \
             ORDER BY position LIMIT $3",
        );
        let rows = self.list("read entries", statement.int(platform.get()).size(from).int(limit)).await?;
        each(&rows, "audit_entries", |mut c| {
            Ok(EntryRow {
                entry: c.bytes("entry")?.to_vec(),
                leaf_hash: c.array("leaf_hash")?,
                subject: None,
            })
        })
    }

    pub(super) async fn read_entries_of(
        &self,
        platform: PlatformId,
        subject: SubjectId,
        from: u64,
        limit: u32,
    ) -> Result<Vec<(u64, EntryRow)>, StoreError> {
        let statement = Statement::any(
            "/* read::entries_of */ SELECT position, entry, leaf_hash, subject_id FROM audit_entries \
             WHERE platform_id = $1 AND subject_id = $2 AND position >= $3 ORDER BY position LIMIT $4",
        );
        let statement = statement.int(platform.get()).bytes(subject.as_bytes()).size(from).int(limit);
        let rows = self.list("read entries of a subject", statement).await?;
        each(&rows, "audit_entries", |mut c| {
            let position = c.number("position")?;
            let (entry, leaf_hash) = (c.bytes("entry")?.to_vec(), c.array("leaf_hash")?);
            Ok((position, EntryRow { entry, leaf_hash, subject: Some(c.array("subject_id")?) }))
        })
    }

    pub(super) async fn read_receipts(
        &self,
        platform: PlatformId,
        subject: SubjectId,
        limit: u32,
    ) -> Result<Vec<ReceiptRow>, StoreError> {
        // Of one moment there is one receipt: an erasure ends what came before it.
        let statement = Statement::any(
            "/* read::receipts */ SELECT entry_id, kind, statement, created_at FROM erasure_receipts \
             WHERE platform_id = $1 AND subject_id = $2 ORDER BY created_at DESC LIMIT $3",
        );
        let statement = statement.int(platform.get()).bytes(subject.as_bytes()).int(limit);
        let rows = self.list("read receipts", statement).await?;
        each(&rows, "erasure_receipts", |mut c| {
            Ok(ReceiptRow {
                platform,
                entry: EntryId::from_bytes(c.array("entry_id")?),
                subject,
                kind: c.parse("kind")?,
                statement: c.text("statement")?.to_owned(),
                created_at: c.time("created_at")?,
            })
        })
    }

    pub(super) async fn count_tokens_of(
        &self,
        platform: PlatformId,
        subject: SubjectId,
    ) -> Result<u64, StoreError> {
        let statement = Statement::any(
            "/* read::count_tokens_of */ SELECT count(*) FROM records r JOIN tokens t \
             ON t.platform_id = r.platform_id AND t.record_id = r.record_id \
             WHERE r.platform_id = $1 AND r.subject_id = $2 AND r.state = 'current'",
        );
        let rows = self.list("count tokens", statement.int(platform.get()).bytes(subject.as_bytes())).await?;
        let missing = crate::store::Damage { table: "tokens", column: "count" };
        Ok(Columns::new(rows.first().ok_or(missing)?, "tokens").number("count")?)
    }

    pub(super) async fn read_tiles(
        &self,
        platform: PlatformId,
        level: u8,
        from: u64,
        limit: u32,
    ) -> Result<Vec<TileRow>, StoreError> {
        let statement = Statement::any(
            "/* read::tiles */ SELECT tile_index, hashes, root FROM audit_tiles WHERE platform_id = $1 AND level = $2 \
             AND tile_index >= $3 ORDER BY tile_index LIMIT $4",
        );
        let statement = statement.int(platform.get()).int(level).size(from).int(limit);
        let rows = self.list("read tiles", statement).await?;
        each(&rows, "audit_tiles", |mut c| {
            let index = c.number("tile_index")?;
            Ok(TileRow { level, index, hashes: c.bytes("hashes")?.to_vec(), root: c.array("root")? })
        })
    }

    pub(super) async fn read_second_heads(
        &self,
        platform: PlatformId,
        after: i64,
        limit: u32,
    ) -> Result<Vec<SecondHead>, StoreError> {
        let statement = Statement::any(
            "/* read::second_heads */ SELECT second, size, checkpoint FROM audit_heads WHERE platform_id = $1 \
             AND second > $2 ORDER BY second LIMIT $3",
        );
        let rows = self.list("read heads", statement.int(platform.get()).int(after).int(limit)).await?;
        each(&rows, "audit_heads", |mut c| {
            Ok(SecondHead {
                second: c.int("second")?,
                size: c.number("size")?,
                checkpoint: c.text("checkpoint")?.to_owned(),
            })
        })
    }

    pub(super) async fn read_operations(
        &self,
        platform: PlatformId,
        which: WhichOperations,
        limit: u32,
    ) -> Result<Vec<OperationRow>, StoreError> {
        const DUE: &str = "/* read::operations */ SELECT platform_id, operation_id, kind, object_id, state, phase, \
                           key_version, resume_after, rate, created_at, due_at, ended_at, fence, lease_until, done, \
                           total FROM operations WHERE platform_id = $1 AND state IN ('waiting', 'running') AND due_at <= $3 ORDER BY due_at LIMIT $2";
        const ALL: &str = "/* read::operations */ SELECT platform_id, operation_id, kind, object_id, state, phase, \
                           key_version, resume_after, rate, created_at, due_at, ended_at, fence, lease_until, done, \
                           total FROM operations WHERE platform_id = $1 \
                           AND (created_at < $3 OR (created_at = $3 AND operation_id > $4)) ORDER BY created_at DESC, operation_id LIMIT $2";
        const KIND: &str = "/* read::operations */ SELECT platform_id, operation_id, kind, object_id, state, phase, \
                            key_version, resume_after, rate, created_at, due_at, ended_at, fence, lease_until, done, \
                            total FROM operations WHERE platform_id = $1 AND kind = $3 ORDER BY created_at DESC, operation_id LIMIT $2";
        let of = |sql| Statement::any(sql).int(platform.get()).int(limit);
        let statement = match which {
            WhichOperations::Due(now) => of(DUE).int(now.as_micros()),
            WhichOperations::OfKind(kind) => of(KIND).text(kind.as_str()),
            WhichOperations::Newest(None) => of(ALL).int(i64::MAX).own_bytes(Vec::new()),
            WhichOperations::Newest(Some((made, id))) => {
                of(ALL).int(made.as_micros()).own_bytes(id.as_bytes().to_vec())
            }
        };
        let rows = self.list("read operations", statement).await?;
        each(&rows, "operations", |mut c| c.operation())
    }

    pub(super) async fn count_open_operations(&self) -> Result<Vec<OpenOperations>, StoreError> {
        let statement = Statement::any(
            "/* read::open_operations */ SELECT kind, state, count(*) AS number, min(due_at) AS due FROM operations \
             WHERE state IN ('waiting', 'running', 'paused') GROUP BY kind, state ORDER BY kind, state",
        );
        let rows = self.list("count open operations", statement).await?;
        each(&rows, "operations", |mut c| {
            Ok(OpenOperations {
                kind: c.parse("kind")?,
                state: c.parse("state")?,
                count: c.number("number")?,
                due_at: c.time("due")?,
            })
        })
    }

    pub(super) async fn read_operation(
        &self,
        platform: PlatformId,
        id: OperationId,
    ) -> Result<Option<OperationRow>, StoreError> {
        let statement = Statement::any(
            "/* read::operation */ SELECT platform_id, operation_id, kind, object_id, state, phase, key_version, \
             resume_after, rate, created_at, due_at, ended_at, fence, lease_until, done, total FROM operations \
             WHERE platform_id = $1 AND operation_id = $2",
        );
        let rows = self.list("read an operation", statement.int(platform.get()).bytes(id.as_bytes())).await?;
        Ok(each(&rows, "operations", |mut c| c.operation())?.pop())
    }

    pub(super) async fn read_place_of_proposal(
        &self,
        id: ProposalId,
    ) -> Result<Option<PlatformId>, StoreError> {
        let statement = Statement::any(
            "/* read::place_of_proposal */ SELECT platform_id FROM proposals WHERE proposal_id = $1",
        );
        let rows = self.list("look a proposal up", statement.bytes(id.as_bytes())).await?;
        let places = each(&rows, "proposals", |mut c| c.number("platform_id").map(PlatformId::new))?;
        Ok(places.first().copied())
    }

    pub(super) async fn read_expired_proposals(
        &self,
        platform: PlatformId,
        by: Timestamp,
        limit: u32,
    ) -> Result<Vec<ProposalId>, StoreError> {
        let statement = Statement::any(
            "/* read::expired_proposals */ SELECT proposal_id FROM proposals WHERE platform_id = $1 AND state = 'open' \
             AND expires_at <= $2 ORDER BY expires_at LIMIT $3",
        );
        let statement = statement.int(platform.get()).int(by.as_micros()).int(limit);
        let rows = self.list("look for expired proposals", statement).await?;
        each(&rows, "proposals", |mut c| c.array("proposal_id").map(ProposalId::from_bytes))
    }

    pub(super) async fn read_proposals(
        &self,
        platform: PlatformId,
        (at, id): (Timestamp, ProposalId),
        open_at: Option<Timestamp>,
        limit: u32,
    ) -> Result<Vec<ProposalRow>, StoreError> {
        const ALL: &str = "/* read::proposals */ SELECT proposal_id, plan_sha256, person_id, caller_id, ended_by, mac, call, \
             state, reason, created_at, expires_at, ended_at FROM proposals WHERE platform_id = $1 \
             AND (created_at > $2 OR (created_at = $2 AND proposal_id > $3)) ORDER BY created_at, proposal_id LIMIT $4";
        const OPEN: &str = "/* read::proposals */ SELECT proposal_id, plan_sha256, person_id, caller_id, ended_by, mac, call, \
             state, reason, created_at, expires_at, ended_at FROM proposals WHERE platform_id = $1 AND state = 'open' \
             AND (created_at > $2 OR (created_at = $2 AND proposal_id > $3)) AND expires_at > $5 \
             ORDER BY created_at, proposal_id LIMIT $4";
        let of = |sql| {
            let statement = Statement::any(sql).int(platform.get()).int(at.as_micros());
            statement.own_bytes(id.as_bytes().to_vec()).int(limit)
        };
        let statement = open_at.map_or_else(|| of(ALL), |now| of(OPEN).int(now.as_micros()));
        let rows = self.list("read proposals", statement).await?;
        each(&rows, "proposals", |mut c| c.listed_proposal(platform))
    }

    pub(super) async fn read_row_marks(
        &self,
        platform: PlatformId,
        table: GrantingTable,
        after: [u8; 16],
        limit: u32,
    ) -> Result<Vec<RowMark>, StoreError> {
        let statement = Statement::any(match table {
            GrantingTable::Subjects => {
                "/* read::marks */ SELECT subject_id, mac FROM subjects WHERE platform_id = $1 AND subject_id > $2 \
                 ORDER BY subject_id LIMIT $3"
            }
            GrantingTable::Tokens => {
                "/* read::marks */ SELECT token_id, mac FROM tokens WHERE platform_id = $1 AND token_id > $2 \
                 ORDER BY token_id LIMIT $3"
            }
            GrantingTable::Consents => {
                "/* read::marks */ SELECT consent_id, mac FROM consents WHERE platform_id = $1 AND consent_id > $2 \
                 ORDER BY consent_id LIMIT $3"
            }
            GrantingTable::Events => {
                "/* read::marks */ SELECT event_id, mac FROM subject_events WHERE platform_id = $1 AND event_id > $2 \
                 ORDER BY event_id LIMIT $3"
            }
            GrantingTable::Proposals => {
                "/* read::marks */ SELECT proposal_id, mac FROM proposals WHERE platform_id = $1 AND proposal_id > $2 \
                 ORDER BY proposal_id LIMIT $3"
            }
            GrantingTable::Cases => {
                "/* read::marks */ SELECT case_id, mac FROM rights_cases WHERE platform_id = $1 AND case_id > $2 \
                 ORDER BY case_id LIMIT $3"
            }
            GrantingTable::Breaches => {
                "/* read::marks */ SELECT breach_id, mac FROM breaches WHERE platform_id = $1 AND breach_id > $2 \
                 ORDER BY breach_id LIMIT $3"
            }
            GrantingTable::Copies => {
                "/* read::marks */ SELECT copy_id, mac FROM data_copies WHERE platform_id = $1 AND copy_id > $2 \
                 ORDER BY copy_id LIMIT $3"
            }
            GrantingTable::Documents => {
                "/* read::marks */ SELECT upload_id, mac FROM documents WHERE platform_id = $1 AND upload_id > $2 \
                 ORDER BY upload_id LIMIT $3"
            }
        });
        let statement = statement.int(platform.get()).own_bytes(after.to_vec()).int(limit);
        let rows = self.list("read rows for reconciliation", statement).await?;
        each(&rows, "marks", |mut c| Ok((c.array("id")?, c.array("mac")?)))
    }

    pub(super) async fn read_wrapped_keys(
        &self,
        platform: PlatformId,
        after: SubjectId,
        limit: u32,
    ) -> Result<Vec<(SubjectId, Sealed)>, StoreError> {
        let statement = Statement::any(
            "/* read::wrapped_keys */ SELECT subject_id, wrapped_key FROM subjects WHERE platform_id = $1 \
             AND subject_id > $2 AND wrapped_key IS NOT NULL ORDER BY subject_id LIMIT $3",
        );
        let statement = statement.int(platform.get()).own_bytes(after.as_bytes().to_vec()).int(limit);
        let rows = self.list("read wrapped keys", statement).await?;
        each(&rows, "subjects", |mut c| {
            Ok((SubjectId::from_bytes(c.array("subject_id")?), c.sealed("wrapped_key")?))
        })
    }

    pub(super) async fn count_wraps_by_header(
        &self,
        platform: PlatformId,
    ) -> Result<Vec<(Vec<u8>, u64)>, StoreError> {
        let statement = Statement::any(
            "/* read::count_wraps */ SELECT substr(wrapped_key, 1, 6) AS header, count(*) FROM \
             (SELECT wrapped_key FROM subjects WHERE platform_id = $1 UNION ALL \
             SELECT wrapped_key FROM proposals WHERE platform_id = $1) AS keys \
             WHERE wrapped_key IS NOT NULL GROUP BY 1 ORDER BY 1",
        );
        let rows = self.list("count wrapped keys", statement.int(platform.get())).await?;
        each(&rows, "subjects", |mut c| Ok((c.bytes("wrapped_key")?.to_vec(), c.number("count")?)))
    }

    pub(super) async fn beat(&self, replica: &ReplicaRow) -> Result<Vec<ReplicaRow>, StoreError> {
        schema::check(&self.engine).await?;
        let failed = || database("record that this process lives");
        let mut tx = self.engine.begin(Purpose::Write).await.map_err(failed())?;
        let beat = Statement::new(
            "/* heartbeat */ INSERT INTO replicas (name, started_at, heartbeat_at, schema, keys_loaded_at) \
             VALUES ($1, $2, $3, $4, $5) ON CONFLICT (name) DO UPDATE SET started_at = excluded.started_at, \
             heartbeat_at = excluded.heartbeat_at, schema = excluded.schema, keys_loaded_at = excluded.keys_loaded_at",
        )
        .text(&replica.name)
        .int(replica.started_at.as_micros())
        .int(replica.heartbeat_at.as_micros())
        .int(replica.schema)
        .int(replica.keys_loaded_at.as_micros());
        self.engine.execute_in(&mut tx, beat).await.map_err(failed())?;
        let gone = Statement::any("/* heartbeat */ DELETE FROM replicas WHERE heartbeat_at < $1");
        let gone = gone.int(replica.heartbeat_at.plus_micros(-REPLICA_GONE_MICROS).as_micros());
        self.engine.execute_in(&mut tx, gone).await.map_err(failed())?;
        let rows = self.engine.fetch_in(&mut tx, Statement::any(REPLICAS)).await.map_err(failed())?;
        self.engine.commit(tx).await.map_err(failed())?;
        each(&rows, "replicas", |mut c| c.replica())
    }

    pub(super) async fn read_replicas(&self) -> Result<Vec<ReplicaRow>, StoreError> {
        let rows = self.list("read which processes live", Statement::any(REPLICAS)).await?;
        each(&rows, "replicas", |mut c| c.replica())
    }
}

const REPLICAS: &str = "/* replicas */ SELECT name, started_at, heartbeat_at, schema, keys_loaded_at FROM replicas ORDER BY name";

/// Decodes each row.
pub(super) fn each<'r, R: super::SqlRow, T>(
    rows: &'r [R],
    table: &'static str,
    decode: impl Fn(Columns<'r, R>) -> Result<T, crate::store::Damage>,
) -> Result<Vec<T>, StoreError> {
    Ok(rows.iter().map(|row| decode(Columns::new(row, table))).collect::<Result<_, _>>()?)
}
