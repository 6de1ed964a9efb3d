//! A PostgreSQL pair with synchronous replication, its primary lost in the ways that a primary is lost.

use std::{
    fs,
    path::Path,
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use sandyq::{
    domain::time::Timestamp,
    store::{SCHEMA_VERSION, Store, StoreError, rows::work::ReplicaRow},
    vault::{error::VaultError, tokenize::Tokenized},
};
use tokio::task::JoinSet;

use crate::common::{
    pair::Pair,
    people::iin,
    vault::{OpenVault, person},
};

/// How soon after the address leads to a server that takes writes, one is acknowledged.
const AGAIN_WITHIN: Duration = Duration::from_secs(5);
/// Longer than the vault waits for a server that does not answer.
const PATIENCE: Duration = Duration::from_secs(90);
/// What the pool of a test may hold.
const CONNECTIONS: i64 = 6;
/// Ends every connection to the vault's database.
const END_ALL: &str = "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'vault'";

/// Writers that go on whatever happens, and keep what was acknowledged to them.
struct Load {
    stop: Arc<AtomicBool>,
    acknowledged: Arc<AtomicU32>,
    writers: JoinSet<Vec<(u32, Tokenized)>>,
}

impl Load {
    fn on(open: &Arc<OpenVault>) -> Self {
        let (stop, acknowledged) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let mut writers = JoinSet::new();
        for writer in 0..4 {
            let (open, stop, count) = (Arc::clone(open), Arc::clone(&stop), Arc::clone(&acknowledged));
            writers.spawn(async move {
                let mut kept = Vec::new();
                for number in (writer * 10_000..).take_while(|_| !stop.load(Ordering::SeqCst)) {
                    match open.tokenize(person(number, None)).await {
                        Ok(stored) => {
                            kept.push((number, stored));
                            count.fetch_add(1, Ordering::SeqCst);
                        }
                        Err(VaultError::Unavailable) => tokio::task::yield_now().await,
                        Err(other) => panic!("{other:?}"),
                    }
                }
                kept
            });
        }
        Self { stop, acknowledged, writers }
    }

    /// Until so many more are acknowledged.
    async fn more(&self, more: u32) {
        let (goal, began) = (self.acknowledged.load(Ordering::SeqCst) + more, Instant::now());
        while self.acknowledged.load(Ordering::SeqCst) < goal {
            assert!(began.elapsed() < PATIENCE, "nothing is acknowledged any more");
            tokio::task::yield_now().await;
        }
    }

    /// Writes go on, now that the address is right.
    async fn again(&self) {
        let began = Instant::now();
        self.more(1).await;
        let took = began.elapsed();
        println!("a write was acknowledged {took:?} after the address was right");
        assert!(took <= AGAIN_WITHIN, "{took:?}");
        self.more(40).await;
    }

    async fn end(self) -> Vec<(u32, Tokenized)> {
        self.stop.store(true, Ordering::SeqCst);
        self.writers.join_all().await.into_iter().flatten().collect()
    }
}

async fn all_are_there(open: &OpenVault, kept: &[(u32, Tokenized)]) {
    for (number, stored) in kept {
        let value =
            open.detokenize(&stored.tokens[0].token).await.expect("what was acknowledged is there").value;
        assert_eq!(value.expose(), iin(*number), "person {number}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_acknowledged_outlasts_the_primary_and_the_vault_goes_on_with_its_successor() {
    let (pair, dir) = (Pair::start().await, tempfile::tempdir().unwrap());
    let open = Arc::new(OpenVault::create(&pair.backend(), dir.path(), |store| store).await);
    let load = Load::on(&open);
    load.more(40).await;
    pair.first.cut();
    pair.fail_over().await;
    load.again().await;
    let kept = load.end().await;
    all_are_there(&open, &kept).await;

    // The old primary comes back as a standby that only reads, and somebody moves the address back to it.
    fs::write(pair.home.path().join("a/standby.signal"), "").unwrap();
    let _not_root =
        Command::new("chown").arg("postgres").arg(pair.home.path().join("a/standby.signal")).status();
    pair.first.start();
    let load = Load::on(&open);
    load.more(1).await;
    pair.point_to(&pair.first);
    pair.second.run("postgres", END_ALL).await;
    let refused = open.tokenize(person(90_000, None)).await;
    assert!(matches!(refused, Err(VaultError::Unavailable)), "it takes nothing");
    pair.point_to(&pair.second);
    load.again().await;
    let kept = load.end().await;
    all_are_there(&open, &kept).await;
    open.vault.close().await;
    all_go_at_the_first_refusal(&pair, dir.path()).await;
}

/// The pool is full of connections to the server that only reads. What was refused on one of them tells of all: none of them refuses
/// another write, and none stays for reads that would show an old state.
async fn all_go_at_the_first_refusal(pair: &Pair, dir: &Path) {
    let store = pair.backend().store(dir).await;
    pair.point_to(&pair.first);
    pair.second.run("postgres", END_ALL).await;
    let began = Instant::now();
    while pair.first.sessions().await < CONNECTIONS {
        assert!(began.elapsed() < PATIENCE, "the pool does not fill");
        let mut readers = JoinSet::new();
        for _ in 0..CONNECTIONS {
            let store = Arc::clone(&store);
            // Those that were ended say so, each once.
            readers.spawn(async move { store.installation().await.is_ok() });
        }
        readers.join_all().await;
    }
    assert!(beat(&store).await.is_err(), "the server only reads");
    pair.point_to(&pair.second);
    beat(&store).await.expect("the next write is on a new connection");
    // Each is closed when its turn comes, and none of them is used.
    while pair.first.sessions().await > 0 {
        assert!(began.elapsed() < PATIENCE, "connections to the old primary stay");
        beat(&store).await.expect("no write meets a connection to the old primary");
    }
    store.close().await;
}

/// A write.
async fn beat(store: &Arc<dyn Store>) -> Result<(), StoreError> {
    let now = Timestamp::from_micros(1_790_000_000_000_000);
    let (name, schema) = ("sandyq-0".to_owned(), SCHEMA_VERSION);
    let row = ReplicaRow { name, started_at: now, heartbeat_at: now, schema, keys_loaded_at: now };
    store.heartbeat(&row).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_primary_that_thaws_acknowledges_nothing_more() {
    let (pair, dir) = (Pair::start().await, tempfile::tempdir().unwrap());
    let open = Arc::new(OpenVault::create(&pair.backend(), dir.path(), |store| store).await);
    let load = Load::on(&open);
    load.more(40).await;
    pair.first.signal("-STOP");
    pair.fail_over().await;
    load.more(40).await;
    pair.first.signal("-CONT");
    load.more(40).await;
    let kept = load.end().await;
    all_are_there(&open, &kept).await;
    open.vault.close().await;
    // All of it is in the successor, and nothing of it waits for the old primary.
    pair.first.cut();
    let open = OpenVault::open(&pair.backend(), dir.path(), None).await.unwrap();
    all_are_there(&open, &kept).await;
    open.vault.close().await;
}

/// The control: without synchronous replication the same loses what was acknowledged. So the tests above can fail.
#[tokio::test(flavor = "multi_thread")]
async fn without_synchronous_replication_something_acknowledged_is_lost() {
    let (pair, dir) = (Pair::start().await, tempfile::tempdir().unwrap());
    pair.first.run("postgres", "ALTER SYSTEM SET synchronous_standby_names = ''").await;
    pair.first.run("postgres", "SELECT pg_reload_conf()").await;
    let open = OpenVault::create(&pair.backend(), dir.path(), |store| store).await;
    let kept = open.store_iin(1).await;
    pair.caught_up().await;
    pair.second.cut();
    let lost = open.store_iin(2).await;
    pair.first.cut();
    pair.second.start();
    pair.fail_over().await;
    let open = OpenVault::open(&pair.backend(), dir.path(), None).await.unwrap();
    assert!(open.detokenize(&kept.tokens[0].token).await.is_ok());
    assert!(open.detokenize(&lost.tokens[0].token).await.is_err(), "acknowledged, and gone");
    open.vault.close().await;
}
