//! A PostgreSQL pair with synchronous replication, its primary lost in the ways that a primary is lost. The address that the
//! vault knows is a symbolic link to the socket of whoever is primary, as a name or a virtual address is in production.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use sandyq::vault::{error::VaultError, tokenize::Tokenized};
use sqlx::{Connection as _, Executor as _, PgConnection};
use tokio::task::JoinSet;

use crate::common::{
    backend::Backend,
    people::iin,
    vault::{OpenVault, person},
};

/// A socket of PostgreSQL in its directory.
const SOCKET: &str = ".s.PGSQL.5432";
/// Longer than the vault waits for a server that does not answer.
const PATIENCE: Duration = Duration::from_secs(90);

fn binary(name: &str) -> PathBuf {
    let mut found: Vec<_> = fs::read_dir("/usr/lib/postgresql")
        .map(|entries| entries.map(|entry| entry.unwrap().path().join("bin").join(name)).collect())
        .unwrap_or_default();
    found.sort();
    found.pop().filter(|path| path.exists()).unwrap_or_else(|| name.into())
}

/// PostgreSQL refuses to run as root.
fn unprivileged(program: &Path, args: &[&str]) -> Output {
    let is_root = Command::new("id").arg("-u").output().unwrap().stdout == b"0\n";
    let mut command = Command::new(if is_root { Path::new("setpriv") } else { program });
    if is_root {
        let group = Command::new("id").args(["-g", "postgres"]).output().unwrap().stdout;
        let group = String::from_utf8(group).unwrap();
        command
            .args(["--reuid=postgres", &format!("--regid={}", group.trim()), "--clear-groups"])
            .arg(program);
    }
    command.args(args).env("HOME", "/").current_dir("/").output().unwrap()
}

fn done(output: &Output) {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// One server of the pair.
struct Node {
    name: &'static str,
    home: PathBuf,
}

impl Node {
    fn data(&self) -> String {
        self.home.join(self.name).to_str().unwrap().to_owned()
    }

    fn socket(&self) -> PathBuf {
        self.home.join(format!("socket-{}", self.name))
    }

    fn start(&self) {
        let options =
            format!("-c listen_addresses='' -c unix_socket_directories='{}'", self.socket().display());
        // What it prints goes into a file: a pipe would be held open by the server.
        let log = format!("{}.log", self.data());
        done(&unprivileged(
            &binary("pg_ctl"),
            &["-D", &self.data(), "-w", "-t", "60", "-l", &log, "-o", &options, "-s", "start"],
        ));
    }

    /// As a power cut ends it.
    fn cut(&self) {
        done(&unprivileged(&binary("pg_ctl"), &["-D", &self.data(), "-m", "immediate", "-s", "-w", "stop"]));
    }

    fn promote(&self) {
        done(&unprivileged(&binary("pg_ctl"), &["-D", &self.data(), "-w", "-s", "promote"]));
    }

    /// Sends a signal to the server and everything that it started; some of that may have ended meanwhile.
    fn signal(&self, signal: &str) {
        let pid = fs::read_to_string(self.home.join(self.name).join("postmaster.pid")).unwrap();
        let pid = pid.lines().next().unwrap().to_owned();
        let children = Command::new("pgrep").args(["-P", &pid]).output().unwrap().stdout;
        let children = String::from_utf8(children).unwrap();
        let all = children.split_whitespace().chain([pid.as_str()]);
        let _some_gone = Command::new("kill").arg(signal).args(all).output().unwrap();
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://sandyq@localhost/{database}?host={}", self.socket().display())
    }

    async fn run(&self, database: &str, sql: &'static str) {
        let mut connection = PgConnection::connect(&self.url(database)).await.unwrap();
        connection.execute(sql).await.unwrap();
        connection.close().await.unwrap();
    }
}

/// Two servers, the second of which has everything that the first acknowledges.
struct Pair {
    first: Node,
    second: Node,
    front: PathBuf,
    home: tempfile::TempDir,
}

impl Pair {
    async fn start() -> Self {
        let home = tempfile::Builder::new().prefix("pair").tempdir_in("/tmp").unwrap();
        let path = home.path().to_owned();
        let node = |name| Node { name, home: path.clone() };
        let (first, second, front) = (node("a"), node("b"), path.join("front"));
        for dir in [&first.socket(), &second.socket(), &front] {
            fs::create_dir(dir).unwrap();
        }
        // The servers run as another user.
        let _not_root = Command::new("chown").arg("-R").arg("postgres").arg(&path).status().unwrap();
        let data = first.data();
        done(&unprivileged(
            &binary("initdb"),
            &["-D", &data, "-U", "sandyq", "--auth=trust", "--encoding=UTF8", "--locale=C"],
        ));
        first.start();
        let from = format!("host={} user=sandyq application_name=b", first.socket().display());
        done(&unprivileged(
            &binary("pg_basebackup"),
            &["-d", &from, "-D", &second.data(), "-R", "-X", "stream", "-c", "fast"],
        ));
        second.start();
        first.run("postgres", "ALTER SYSTEM SET synchronous_standby_names = 'b'").await;
        first.run("postgres", "SELECT pg_reload_conf()").await;
        first.run("postgres", "CREATE DATABASE vault").await;
        let pair = Self { first, second, front, home };
        pair.point_to(&pair.first);
        pair
    }

    /// Moves the address to a server.
    fn point_to(&self, node: &Node) {
        let next = self.front.join("next");
        symlink(node.socket().join(SOCKET), &next).unwrap();
        fs::rename(next, self.front.join(SOCKET)).unwrap();
    }

    /// The second becomes primary, and waits for no standby of its own.
    async fn fail_over(&self) {
        self.second.promote();
        self.second.run("postgres", "ALTER SYSTEM SET synchronous_standby_names = ''").await;
        self.second.run("postgres", "SELECT pg_reload_conf()").await;
        self.point_to(&self.second);
    }

    /// Waits until the second has everything that the first wrote.
    async fn caught_up(&self) {
        let mut connection = PgConnection::connect(&self.first.url("postgres")).await.unwrap();
        let sql =
            "SELECT coalesce(bool_and(flush_lsn >= pg_current_wal_lsn()), false) FROM pg_stat_replication";
        while !sqlx::query_scalar::<_, bool>(sql).fetch_one(&mut connection).await.unwrap() {}
        connection.close().await.unwrap();
    }

    fn backend(&self) -> Backend {
        Backend::Postgres(format!("postgres://sandyq@localhost/vault?host={}", self.front.display()))
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for node in [&self.first, &self.second] {
            if self.home.path().join(node.name).join("postmaster.pid").exists() {
                node.signal("-CONT");
                let _stopped =
                    unprivileged(&binary("pg_ctl"), &["-D", &node.data(), "-m", "immediate", "-s", "stop"]);
            }
        }
    }
}

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
    let began = Instant::now();
    load.more(40).await;
    println!("40 more were acknowledged {:?} after the address had moved", began.elapsed());
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
    pair.second
        .run("postgres", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = 'vault'")
        .await;
    let refused = open.tokenize(person(90_000, None)).await;
    assert!(matches!(refused, Err(VaultError::Unavailable)), "it takes nothing");
    pair.point_to(&pair.second);
    load.more(20).await;
    let kept = load.end().await;
    all_are_there(&open, &kept).await;
    open.vault.close().await;
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
