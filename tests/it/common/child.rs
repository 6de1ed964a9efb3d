//! The vault as a process of its own, which can be killed.

use std::{
    fs::{self, File},
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
};

use sandyq::cli::local::LocalInstallation;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

/// A served child process.
pub struct Server {
    child: Child,
    address: SocketAddr,
    /// Where it answers health and metrics.
    pub health: Option<SocketAddr>,
    /// What it said of panics since it serves.
    panics: Arc<Mutex<Vec<String>>>,
}

/// `sandyq serve` with this configuration.
fn serve(config: &Path) -> Command {
    // A write past the limit on file sizes is to fail, as on a full disk, not to end the process.
    let mut command = Command::new("sh");
    command
        .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
        .arg(env!("CARGO_BIN_EXE_sandyq"))
        .args(["--json", "serve", "--config"])
        .arg(config);
    command
}

/// Where a line of the log says that the server listens.
fn address_in(line: &str) -> Option<SocketAddr> {
    field_in(line, "address")
}

/// Where a line of the log says that health and metrics are answered; it comes before the other.
fn health_in(line: &str) -> Option<SocketAddr> {
    field_in(line, "health_address")
}

fn field_in(line: &str, name: &str) -> Option<SocketAddr> {
    let log: serde_json::Value = serde_json::from_str(line).ok()?;
    log["fields"][name].as_str()?.parse().ok()
}

impl Server {
    /// Starts `sandyq serve` over the installation in `dir`, and waits until it says where it listens.
    pub fn start(dir: &Path) -> Self {
        Self::start_with(&dir.join("sandyq.toml"))
    }

    /// The same with another configuration.
    pub fn start_with(config: &Path) -> Self {
        Self::start_in(config, &[])
    }

    /// The same with more in its environment.
    pub fn start_in(config: &Path, environment: &[(&str, PathBuf)]) -> Self {
        let environment = environment.iter().cloned();
        let mut child = serve(config).envs(environment).stderr(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let mut health = None;
        let mut said = Vec::new();
        let address = loop {
            let Some(line) = lines.next() else { panic!("serve ended before it served: {said:#?}") };
            let line = line.unwrap();
            said.push(line.clone());
            health = health.or_else(|| health_in(&line));
            if let Some(address) = address_in(&line) {
                break address;
            }
        };
        let panics = Arc::<Mutex<Vec<String>>>::default();
        let told = Arc::clone(&panics);
        // The pipe is read on, so that the child never waits to write a line.
        std::thread::spawn(move || {
            let panicked = lines.map_while(Result::ok).filter(|line| line.contains("panicked at"));
            panicked.for_each(|line| told.lock().unwrap().push(line));
        });
        Self { child, address, health, panics }
    }

    /// The same at the most talkative level, with all that it says in a file.
    pub async fn start_traced(dir: &Path, log: &Path) -> Self {
        let file = File::create(log).unwrap();
        let mut child = serve(&dir.join("sandyq.toml"))
            .env("SANDYQ_LOG", "trace")
            .stdout(file.try_clone().unwrap())
            .stderr(file)
            .spawn()
            .unwrap();
        loop {
            let text = fs::read_to_string(log).unwrap();
            let serving = text.lines().filter(|line| line.contains("\"serving\"")).find_map(address_in);
            if let Some(address) = serving {
                let health = text.lines().find_map(health_in);
                return Self { child, address, health, panics: Arc::default() };
            }
            assert!(child.try_wait().unwrap().is_none(), "serve ended before it served");
            tokio::task::yield_now().await;
        }
    }

    pub async fn channel(&self, dir: &Path, caller: &str) -> Channel {
        self.try_channel(dir, caller).await.unwrap()
    }

    /// A connection, where the server takes the caller's certificate.
    pub async fn try_channel(&self, dir: &Path, caller: &str) -> Result<Channel, tonic::transport::Error> {
        channel_to(self.address, dir, caller).await
    }

    /// Writes connection files for commands that call this server.
    pub fn write_connections(&self, dir: &Path) {
        LocalInstallation::open(dir).write_connections(self.address).unwrap();
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it said of panics since it serves.
    pub fn panics(&self) -> Vec<String> {
        self.panics.lock().unwrap().clone()
    }

    /// The most memory that was resident so far, in bytes, as the kernel counts it.
    pub fn most_memory(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
        1_024 * line.trim().trim_end_matches(" kB").parse::<u64>().unwrap()
    }

    /// Sends SIGTERM, and waits until the process has ended; whether it ended well.
    pub async fn terminate(mut self) -> bool {
        let pid = self.pid().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        tokio::task::spawn_blocking(move || self.child.wait().unwrap().success()).await.unwrap()
    }

    /// Where it listens.
    pub const fn address(&self) -> SocketAddr {
        self.address
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }
}

/// A test that fails leaves no server behind.
impl Drop for Server {
    fn drop(&mut self) {
        let _ended = self.child.kill();
    }
}

/// A connection to an address that leads to a server over the installation in `dir`.
pub async fn channel_to(
    address: SocketAddr,
    dir: &Path,
    caller: &str,
) -> Result<Channel, tonic::transport::Error> {
    let read = |name: &str| fs::read_to_string(dir.join(name)).unwrap();
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read("server-authority.pem")))
        .identity(Identity::from_pem(read(&format!("{caller}.pem")), read(&format!("{caller}.key"))))
        .domain_name("localhost");
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    endpoint.tls_config(tls).unwrap().connect().await
}
