//! A PostgreSQL server of a test's own on the network, things that stand before it, and resolvers that change their mind.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener as StdListener},
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    sync::{Arc, Mutex},
};

use sandyq::{
    domain::time::Clock,
    residency::{
        Names, Residency,
        sites::{Site, Sites},
    },
};
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpSocket, TcpStream, UnixListener},
    task::JoinHandle,
};

/// This machine's site in Kazakhstan, and these networks in Germany.
pub fn with_frankfurt(networks: &[&str], names: Arc<dyn Names>) -> Arc<Residency> {
    let site = |name: &str, country: &str, here, networks: &[&str]| Site {
        name: name.parse().unwrap(),
        country: country.parse().unwrap(),
        networks: networks.iter().map(|network| network.parse().unwrap()).collect(),
        here,
        registered: false,
        attestations: Vec::new(),
    };
    let sites = vec![site("almaty-1", "KZ", true, &[]), site("frankfurt", "DE", false, networks)];
    let sites = Sites::new("KZ".parse().unwrap(), sites, Vec::new(), 45).unwrap();
    Arc::new(Residency::new(sites, Arc::<Clock>::default(), names))
}

/// Says the same address for every name, until it is told another.
#[derive(Debug)]
pub struct Turning(Mutex<IpAddr>);

impl Turning {
    pub fn at(address: &str) -> Arc<Self> {
        Arc::new(Self(Mutex::new(address.parse().unwrap())))
    }

    pub fn turn_to(&self, address: &str) {
        *self.0.lock().unwrap() = address.parse().unwrap();
    }
}

#[async_trait::async_trait]
impl Names for Turning {
    async fn addresses(&self, _host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
        Ok(vec![SocketAddr::new(*self.0.lock().unwrap(), port)])
    }
}

/// Passes connections on to a server; it ends with the test.
pub struct Forwarder {
    pub port: u16,
    running: JoinHandle<()>,
    passing: Arc<Mutex<Vec<JoinHandle<()>>>>,
}

impl Forwarder {
    /// Listens at an address, and connects from another where that is given.
    pub async fn start(listen: &str, to: SocketAddr, from: Option<IpAddr>) -> Self {
        let listener = TcpListener::bind((listen, 0)).await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let passing = Arc::<Mutex<Vec<JoinHandle<()>>>>::default();
        let kept = Arc::clone(&passing);
        let running = tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                kept.lock().unwrap().push(tokio::spawn(async move {
                    if let Ok(mut far) = reach(to, from).await {
                        let _ended = copy_bidirectional(&mut near, &mut far).await;
                    }
                }));
            }
        });
        Self { port, running, passing }
    }

    /// Ends every connection; the next one is passed on as these were. Answers how many there were since the start.
    pub fn cut(&self) -> usize {
        let passing = self.passing.lock().unwrap();
        passing.iter().for_each(JoinHandle::abort);
        passing.len()
    }

    /// The same from a socket in a directory, as PostgreSQL names it.
    pub fn start_socket(directory: &Path, to: SocketAddr) -> Self {
        let listener = UnixListener::bind(directory.join(".s.PGSQL.5432")).unwrap();
        let running = tokio::spawn(async move {
            loop {
                let (mut near, _) = listener.accept().await.unwrap();
                tokio::spawn(async move {
                    let mut far = reach(to, None).await.unwrap();
                    let _ended = copy_bidirectional(&mut near, &mut far).await;
                });
            }
        });
        Self { port: 5432, running, passing: Arc::default() }
    }
}

impl Drop for Forwarder {
    fn drop(&mut self) {
        self.running.abort();
    }
}

async fn reach(to: SocketAddr, from: Option<IpAddr>) -> io::Result<TcpStream> {
    let socket = if to.is_ipv6() { TcpSocket::new_v6()? } else { TcpSocket::new_v4()? };
    if let Some(from) = from {
        socket.bind(SocketAddr::new(from, 0))?;
    }
    socket.connect(to).await
}

/// A server of the test's own, at loopback of both protocols; it ends with the test.
pub struct Cluster {
    home: tempfile::TempDir,
    bin: PathBuf,
    pub port: u16,
}

impl Cluster {
    pub fn start() -> Self {
        let home = tempfile::tempdir().unwrap();
        std::fs::set_permissions(home.path(), std::fs::Permissions::from_mode(0o777)).unwrap();
        let found =
            Command::new("sh").args(["-c", "ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1"]).output();
        let bin = PathBuf::from(String::from_utf8(found.unwrap().stdout).unwrap().trim());
        let port = StdListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let cluster = Self { home, bin, port };
        let data = cluster.data();
        let made = cluster
            .run("initdb", &["-N", "-D", &data, "-U", "sandyq", "--auth=trust", "--locale=C", "-E", "UTF8"]);
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let hba = "local all all trust\nhost all all 127.0.0.0/8 trust\nhost all all ::1/128 trust\n\
                   host replication all 127.0.0.0/8 trust\n";
        std::fs::write(cluster.home.path().join("data/pg_hba.conf"), hba).unwrap();
        // In the file, where the test may change it.
        std::fs::write(
            cluster.home.path().join("data/postgresql.auto.conf"),
            "archive_command = '/bin/true'\n",
        )
        .unwrap();
        let options = format!(
            "-c listen_addresses='127.0.0.1,::1' -c port={port} -c unix_socket_directories='{}' -c fsync=off \
             -c archive_mode=on",
            cluster.home.path().display()
        );
        let log = cluster.home.path().join("log").display().to_string();
        let started = cluster.run("pg_ctl", &["-D", &data, "-w", "-s", "-l", &log, "-o", &options, "start"]);
        assert!(started.status.success(), "{}", String::from_utf8_lossy(&started.stderr));
        cluster
    }

    fn data(&self) -> String {
        self.home.path().join("data").display().to_string()
    }

    /// PostgreSQL refuses to run as root.
    fn command(&self, program: &str) -> Command {
        let program = self.bin.join(program);
        if !std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
            return Command::new(program);
        }
        let mut command = Command::new("setpriv");
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]).arg(program);
        command
    }

    fn run(&self, program: &str, args: &[&str]) -> Output {
        // The server keeps what it inherits, and a pipe that it keeps never ends.
        let log = std::fs::File::create(self.home.path().join(format!("{program}.log"))).unwrap();
        let mut command = self.command(program);
        command.args(args).current_dir("/").stdout(Stdio::null()).stderr(log);
        let status = command.status().unwrap();
        let stderr = std::fs::read(self.home.path().join(format!("{program}.log"))).unwrap();
        Output { status, stdout: Vec::new(), stderr }
    }

    pub fn url(host: &str, port: u16) -> String {
        format!("postgres://sandyq@{host}:{port}/postgres?sslmode=disable")
    }

    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// Somebody who receives what is written, through a port.
    pub fn follow(&self, port: u16) -> Follower {
        let into = self.home.path().join(format!("followed-{port}"));
        std::fs::create_dir_all(&into).unwrap();
        std::fs::set_permissions(&into, std::fs::Permissions::from_mode(0o777)).unwrap();
        let url = format!("host=127.0.0.1 port={port} user=sandyq");
        let mut command = self.command("pg_receivewal");
        command.args(["-D", into.to_str().unwrap(), "--no-loop", "-d", &url]).current_dir("/");
        Follower(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _stopped = self.run("pg_ctl", &["-D", &self.data(), "-m", "immediate", "-s", "stop"]);
    }
}

/// A receiver of the server's log; it ends with the test.
pub struct Follower(Child);

impl Drop for Follower {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}
