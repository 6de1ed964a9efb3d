//! Two releases on one database. A migration adds what the next release needs, and takes nothing from the one before: that one
//! serves on, and serves again after a rollback. Where a migration cannot be so, it says from which release on a binary may run,
//! and older ones refuse: at their start, while they run, and before the migration.

use std::{
    borrow::Cow,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use sandyq::{
    crypto::random::SystemRng,
    store::{SCHEMA_VERSION, StoreError, postgres},
    vault::{error::VaultError, keys::KeyKind, subjects::SubjectName, tokenize::Tokenized},
};
use sqlx::{
    Connection as _, PgConnection, SqlSafeStr as _,
    migrate::{Migration, MigrationType, Migrator},
};

use crate::common::{
    backend::{Backend, here, on_both, options},
    operations::work_through,
    people::iin,
    vault::{OpenVault, as_admin, asker},
};

async fn reads(open: &OpenVault, people: &[(u32, Tokenized)]) {
    for (number, stored) in people {
        let value = open.detokenize(&stored.tokens[0].token).await.unwrap().value;
        assert_eq!(value.expose(), iin(*number), "person {number}");
    }
}

/// Everything that writes: people, withdrawals, blocks by erasure, keys, sweeps.
async fn lives(open: &OpenVault, from: u32) -> Vec<(u32, Tokenized)> {
    let mut people = Vec::new();
    for number in from..from + 5 {
        people.push((number, open.store_iin(number).await));
    }
    let caller = open.caller("backend");
    let (_, withdrawn) = people.pop().unwrap();
    open.vault.withdraw_consent(&caller, asker("backend"), "", withdrawn.consents[0]).await.unwrap();
    assert!(open.detokenize(&withdrawn.tokens[0].token).await.is_err());
    let (number, erased) = people.pop().unwrap();
    let name = SubjectName::Reference(format!("user-{number}"));
    open.vault.erase_subject(&caller, asker("backend"), "", name, None).await.unwrap();
    assert!(open.detokenize(&erased.tokens[0].token).await.is_err());
    for kind in [KeyKind::Platform, KeyKind::Index] {
        open.vault.rotate_key(&open.admin(), as_admin(), "lerna", kind, 0).await.unwrap();
        open.vault.beat(&"this-release".parse().unwrap(), open.clock.now()).await.unwrap();
        work_through(open).await;
    }
    open.vault.sweep_retention(&open.admin(), as_admin(), "lerna", 0).await.unwrap();
    // The erased person goes with it, when the cooling time is over.
    open.clock.advance(5 * 60 * 60 * 1_000_000);
    work_through(open).await;
    reads(open, &people).await;
    people
}

/// What the next release's migration does where it keeps to the rule: it adds, in every table.
fn expansion(tables: impl IntoIterator<Item = String>) -> Vec<String> {
    let columns = tables.into_iter().map(|table| {
        format!("ALTER TABLE {table} ADD COLUMN of_the_next_release INTEGER NOT NULL DEFAULT 7")
    });
    let next = SCHEMA_VERSION + 1;
    columns
        .chain([
            "CREATE TABLE of_the_next_release (id INTEGER PRIMARY KEY)".to_owned(),
            format!("UPDATE schema_version SET version = {next}, oldest_binary = {SCHEMA_VERSION}"),
        ])
        .collect()
}

on_both!(a_release_serves_on_the_next_ones_schema_and_again_after_a_rollback);
async fn a_release_serves_on_the_next_ones_schema_and_again_after_a_rollback(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let mut kept = None;
    let open = OpenVault::create(&backend, dir.path(), |store| Arc::clone(kept.insert(store))).await;
    let mut people = lives(&open, 0).await;
    let tables = kept.take().unwrap().tables().await.unwrap().into_iter().map(|table| table.name);
    // The next release migrates while this one serves.
    for sql in expansion(tables.collect::<Vec<_>>()) {
        backend.sql(dir.path(), &sql).await;
    }
    let name = "this-release".parse().unwrap();
    open.vault.beat(&name, open.clock.now()).await.expect("it may go on");
    reads(&open, &people).await;
    people.extend(lives(&open, 100).await);
    open.vault.close().await;
    drop(open);
    // The next release is taken back: this one starts on what is there.
    let open = OpenVault::open(&backend, dir.path(), None).await.unwrap();
    reads(&open, &people).await;
    open.vault.close().await;
}

on_both!(a_binary_that_is_too_old_or_too_new_refuses);
async fn a_binary_that_is_too_old_or_too_new_refuses(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    let stored = open.store_iin(1).await;
    let (name, set) = ("this-release".parse().unwrap(), async |version: i64, oldest: i64| {
        let sql = format!("UPDATE schema_version SET version = {version}, oldest_binary = {oldest}");
        backend.sql(dir.path(), &sql).await;
    });
    let ready = open.vault.readiness();
    for (version, oldest) in [(SCHEMA_VERSION + 1, SCHEMA_VERSION + 1), (SCHEMA_VERSION - 1, 1)] {
        open.vault.beat(&name, open.clock.now()).await.unwrap();
        set(version, oldest).await;
        // While it runs, from the next heartbeat on.
        assert_eq!(open.vault.beat(&name, open.clock.now()).await, Err(VaultError::Unavailable));
        assert!(!*ready.borrow(), "and the others' probes see it");
        let refused = open.detokenize(&stored.tokens[0].token).await.err();
        assert_eq!(refused, Some(VaultError::Unavailable), "schema {version} for {oldest} or newer");
        assert!(open.tokenize(crate::common::vault::person(2, None)).await.is_err());
        set(SCHEMA_VERSION, SCHEMA_VERSION).await;
    }
    open.vault.beat(&name, open.clock.now()).await.unwrap();
    assert!(open.detokenize(&stored.tokens[0].token).await.is_ok(), "it heals without a restart");
    open.vault.close().await;
    drop(open);

    // At its start. A migrated store is opened by nothing that migrates.
    for (version, oldest, told) in [
        (SCHEMA_VERSION + 1, SCHEMA_VERSION + 1, "or newer may use; this one has"),
        (SCHEMA_VERSION - 1, 1, "run `sandyq migrate`"),
    ] {
        set(version, oldest).await;
        let refused = match &backend {
            Backend::Sqlite => sandyq::store::sqlite::open(&dir.path().join("sandyq.db")).await,
            Backend::Postgres(url) => postgres::open(&options(url), &here(), &SystemRng::new()).await,
        };
        let error = refused.err().unwrap().to_string();
        assert!(error.contains(told), "{error}");
    }
}

/// Number, name and text of each script.
fn scripts() -> Vec<(i64, String, String)> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("migrations/postgres");
    let mut files: Vec<_> = fs::read_dir(dir).unwrap().map(|file| file.unwrap().path()).collect();
    files.sort();
    let script = |path: &PathBuf| {
        let (number, name) = path.file_stem().unwrap().to_str().unwrap().split_once('_').unwrap();
        (number.parse().unwrap(), name.to_owned(), fs::read_to_string(path).unwrap())
    };
    files.iter().map(script).collect()
}

/// A database of the release before, one process of which was heard of so many seconds ago; answers what a migration says.
async fn migrated_under(schema: i64, seconds_ago: &[u32]) -> Vec<Result<(), StoreError>> {
    let Backend::Postgres(url) = Backend::postgres().await else { unreachable!("asked for PostgreSQL") };
    let mut connection = PgConnection::connect(&url).await.unwrap();
    let mut before = scripts();
    before.pop();
    let migration = |(number, name, sql): (i64, String, String)| {
        let sql = sqlx::AssertSqlSafe(sql).into_sql_str();
        Migration::new(number, Cow::Owned(name), MigrationType::Simple, sql, false)
    };
    let before = before.into_iter().map(migration).collect();
    Migrator::with_migrations(before).run(&mut connection).await.unwrap();
    let mut told = Vec::new();
    for seconds in seconds_ago {
        let sql = format!(
            "INSERT INTO replicas (name, started_at, heartbeat_at, schema, keys_loaded_at) VALUES \
             ('old-release', 0, CAST(extract(epoch FROM clock_timestamp()) AS bigint) * 1000000 - {seconds}000000, {schema}, 0) \
             ON CONFLICT (name) DO UPDATE SET heartbeat_at = excluded.heartbeat_at"
        );
        sqlx::query(sqlx::AssertSqlSafe(sql)).execute(&mut connection).await.unwrap();
        let opened = postgres::open_and_migrate(&options(&url), &here(), &SystemRng::new()).await;
        told.push(opened.map(drop));
    }
    connection.close().await.unwrap();
    told
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_migrated_under_a_binary_that_the_new_schema_is_not_for() {
    let (_, _, last) = scripts().pop().unwrap();
    let (_, oldest) = last.split_once("oldest_binary = ").unwrap();
    let oldest: i64 = oldest.split(';').next().unwrap().parse().unwrap();
    let told = migrated_under(oldest - 1, &[5, 40, 5]).await;
    let refused = told[0].as_ref().unwrap_err().to_string();
    assert!(refused.contains("older ones serve this database now: old-release"), "{refused}");
    assert!(told[1].is_ok(), "nobody has heard of it for longer than half a minute");
    assert!(told[2].is_ok(), "and then there is nothing to do");
    let told = migrated_under(oldest, &[5]).await;
    assert!(told[0].is_ok(), "the new schema is for this one too");
}
