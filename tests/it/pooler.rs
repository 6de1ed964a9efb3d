//! A transaction pooler between the vault and PostgreSQL mixes statements of different clients: a real pooler is
//! found and refused, also where it was told to swallow the startup option that would give it away.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::{fs::MetadataExt as _, fs::PermissionsExt as _, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use sandyq::{crypto::random::SystemRng, store::postgres};

use crate::common::backend::{Backend, here, options, server_url};

/// A running PgBouncer; it ends with the test.
struct Pooler(Child);

impl Drop for Pooler {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

impl Pooler {
    /// Starts it before the test server, with its socket in `dir`.
    fn start(dir: &Path, mode: &str, ignored: &str) -> Self {
        let url = server_url();
        let home = url.split("host=").nth(1).unwrap();
        let (place, config) = (dir.display(), dir.join("pgbouncer.ini"));
        let text = format!(
            "[databases]\n* = host={home} user=sandyq\n[pgbouncer]\nlisten_addr =\nlisten_port = 6432\n\
             unix_socket_dir = {place}\nauth_type = any\npool_mode = {mode}\n\
             ignore_startup_parameters = extra_float_digits{ignored}\n"
        );
        fs::write(&config, text).unwrap();
        fs::set_permissions(dir, fs::Permissions::from_mode(0o777)).unwrap();
        // Like the server, it does not run as root: it runs as whoever owns the server's files.
        let owner = fs::metadata(home).unwrap();
        let mut command = Command::new("/usr/sbin/pgbouncer");
        command.arg(&config).stdout(Stdio::null()).stderr(Stdio::piped());
        if fs::metadata("/proc/self").unwrap().uid() == 0 {
            command.uid(owner.uid()).gid(owner.gid());
        }
        let mut child = command.spawn().expect("PgBouncer is installed by scripts/postgres");
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let up = lines.any(|line| line.contains("process up"));
        assert!(up, "PgBouncer did not start");
        std::thread::spawn(move || lines.for_each(drop));
        Self(child)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pooler_in_between_is_refused() {
    let Backend::Postgres(direct) = Backend::postgres().await else { unreachable!("asked for PostgreSQL") };
    postgres::open_and_migrate(&options(&direct), &here(), &SystemRng::new()).await.unwrap().close().await;
    for (mode, ignored) in [("transaction", ""), ("transaction", ",options"), ("session", ",options")] {
        let dir = tempfile::tempdir().unwrap();
        let _pooler = Pooler::start(dir.path(), mode, ignored);
        let (base, _) = direct.split_once("?host=").unwrap();
        let url = format!("{base}?host={}&port=6432", dir.path().display());
        let refused = postgres::open(&options(&url), &here(), &SystemRng::new()).await;
        let error = refused.err().unwrap().to_string();
        assert!(error.contains("a connection pooler stands between"), "{mode}{ignored}: {error}");
    }
}
