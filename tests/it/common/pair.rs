//! A PostgreSQL pair with synchronous replication. The address that the vault knows is a symbolic link to the socket of whoever is
//! primary, as a name or a virtual address is in production.

use std::{
    fs,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
    process::{Command, Output},
};

use sqlx::{Connection as _, Executor as _, PgConnection};

use super::backend::Backend;

/// A socket of PostgreSQL in its directory.
pub const SOCKET: &str = ".s.PGSQL.5432";

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
pub struct Node {
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

    pub fn start(&self) {
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
    pub fn cut(&self) {
        done(&unprivileged(&binary("pg_ctl"), &["-D", &self.data(), "-m", "immediate", "-s", "-w", "stop"]));
    }

    pub fn promote(&self) {
        done(&unprivileged(&binary("pg_ctl"), &["-D", &self.data(), "-w", "-s", "promote"]));
    }

    /// Sends a signal to the server and everything that it started; some of that may have ended meanwhile.
    pub fn signal(&self, signal: &str) {
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

    pub async fn run(&self, database: &str, sql: &'static str) {
        let mut connection = PgConnection::connect(&self.url(database)).await.unwrap();
        connection.execute(sql).await.unwrap();
        connection.close().await.unwrap();
    }

    /// How many connections of a vault it has.
    pub async fn sessions(&self) -> i64 {
        let mut connection = PgConnection::connect(&self.url("postgres")).await.unwrap();
        let sql = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'sandyq'";
        let count = sqlx::query_scalar(sql).fetch_one(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        count
    }
}

/// Two servers, the second of which has everything that the first acknowledges.
pub struct Pair {
    pub first: Node,
    pub second: Node,
    front: PathBuf,
    pub home: tempfile::TempDir,
}

impl Pair {
    pub async fn start() -> Self {
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
    pub fn point_to(&self, node: &Node) {
        let next = self.front.join("next");
        symlink(node.socket().join(SOCKET), &next).unwrap();
        fs::rename(next, self.front.join(SOCKET)).unwrap();
    }

    /// The second becomes primary, and waits for no standby of its own.
    pub async fn fail_over(&self) {
        self.second.promote();
        self.second.run("postgres", "ALTER SYSTEM SET synchronous_standby_names = ''").await;
        self.second.run("postgres", "SELECT pg_reload_conf()").await;
        self.point_to(&self.second);
    }

    /// Waits until the second has everything that the first wrote.
    pub async fn caught_up(&self) {
        let mut connection = PgConnection::connect(&self.first.url("postgres")).await.unwrap();
        let sql =
            "SELECT coalesce(bool_and(flush_lsn >= pg_current_wal_lsn()), false) FROM pg_stat_replication";
        while !sqlx::query_scalar::<_, bool>(sql).fetch_one(&mut connection).await.unwrap() {}
        connection.close().await.unwrap();
    }

    pub fn backend(&self) -> Backend {
        Backend::elsewhere(format!("postgres://sandyq@localhost/vault?host={}", self.front.display()))
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
