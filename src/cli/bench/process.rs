//! The processes of a bench: started, spoken to, measured from outside, ended.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    net::SocketAddr,
    path::Path,
    process::{Child, ChildStdin, Command, Stdio},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use tokio::sync::{mpsc, oneshot};

use super::{
    Failure,
    job::{Counted, Job, Told},
};
use crate::{cli::output::exit, telemetry::process};

/// How often a process is looked at.
const LOOK: Duration = Duration::from_millis(10);

/// A process that ends when this is dropped.
pub(super) struct Process(Child);

impl Process {
    /// This program again, with other arguments.
    fn start(args: impl FnOnce(&mut Command)) -> io::Result<Self> {
        let mut command = Command::new(std::env::current_exe()?);
        args(&mut command);
        command.spawn().map(Self)
    }

    pub(super) fn pid(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself; whatever it held is thrown away.
        let _killed = self.0.kill();
        let _status = self.0.wait();
    }
}

/// `sandyq serve`, in a process of its own.
pub(super) struct Served {
    pub(super) process: Process,
    pub(super) address: SocketAddr,
    /// Where it answers health and metrics.
    pub(super) health: SocketAddr,
}

/// What a server says of where it listens.
fn address_in(line: &str, name: &str) -> Option<SocketAddr> {
    let log: serde_json::Value = serde_json::from_str(line).ok()?;
    log.get("fields")?.get(name)?.as_str()?.parse().ok()
}

impl Served {
    /// Serves a configuration; under another name than it says where two share it.
    pub(super) async fn start(config: &Path, replica: Option<&str>) -> Result<Self, Failure> {
        let mut process = Process::start(|command| {
            command.args(["--json", "serve", "--config"]).arg(config);
            command.args(replica.into_iter().flat_map(|name| ["--replica", name]));
            // Where it listens is said at this level, which is that of production.
            command
                .env("SANDYQ_LOG", "info")
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .stderr(Stdio::piped());
        })?;
        let stderr = process.0.stderr.take();
        let (serving, served) = oneshot::channel();
        let said = Arc::new(Mutex::new(String::new()));
        let last = Arc::clone(&said);
        std::thread::spawn(move || {
            let (mut serving, mut health) = (Some(serving), None);
            // Read to its end, so that the server never waits to write a line.
            for line in
                stderr.into_iter().flat_map(|stderr| BufReader::new(stderr).lines()).map_while(Result::ok)
            {
                health = health.or_else(|| address_in(&line, "health_address"));
                if let (Some(address), Some(health)) = (address_in(&line, "address"), health) {
                    // Nobody waits any more where the bench was given up.
                    let _told = serving.take().map(|serving| serving.send((address, health)));
                }
                *last.lock().unwrap_or_else(PoisonError::into_inner) = line;
            }
        });
        let Ok((address, health)) = served.await else {
            let said = said.lock().unwrap_or_else(PoisonError::into_inner).clone();
            return Err(Failure::new(exit::FAILED, format!("the server ended before it served: {said}")));
        };
        Ok(Self { process, address, health })
    }
}

/// A server that shows what can be had without a vault.
pub(super) struct Bare {
    pub(super) process: Process,
    pub(super) address: SocketAddr,
}

impl Bare {
    /// Serves with the certificates of a configuration.
    pub(super) async fn start(config: &Path, kind: &'static str) -> Result<Self, Failure> {
        let mut process = Process::start(|command| {
            command.args(["bench", "bare", kind, "--config"]).arg(config);
            // It ends when its stdin does: also where this process is killed.
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        })?;
        let stdout = process.0.stdout.take();
        let line = tokio::task::spawn_blocking(move || {
            let mut line = String::new();
            stdout.map_or(Ok(0), |stdout| BufReader::new(stdout).read_line(&mut line)).map(|_| line)
        });
        let line = line.await??;
        let address = line.trim_end().parse().map_err(|_| {
            Failure::new(exit::FAILED, format!("the server of {kind} ended before it served"))
        })?;
        Ok(Self { process, address })
    }
}

/// The process that calls.
pub(super) struct Load {
    _process: Process,
    stdin: ChildStdin,
    told: mpsc::UnboundedReceiver<io::Result<String>>,
}

impl Load {
    /// A process that names subjects so, and makes uploads from this number on.
    pub(super) fn start(run: &str, uploads_from: u64) -> Result<Self, Failure> {
        let mut process = Process::start(|command| {
            command.args(["bench", "load", "--run", run, "--uploads-from", &uploads_from.to_string()]);
            command.stdin(Stdio::piped()).stdout(Stdio::piped());
        })?;
        let (Some(stdin), Some(stdout)) = (process.0.stdin.take(), process.0.stdout.take()) else {
            return Err(Failure::new(exit::FAILED, "the load process has no pipes"));
        };
        let (tell, told) = mpsc::unbounded_channel();
        std::thread::spawn(move || BufReader::new(stdout).lines().try_for_each(|line| tell.send(line)).ok());
        Ok(Self { _process: process, stdin, told })
    }

    /// Does a job; `progress` is told how far it is.
    pub(super) async fn run(
        &mut self,
        job: &Job,
        mut progress: impl FnMut(u64) + Send,
    ) -> Result<Counted, Failure> {
        let mut line = serde_json::to_string(job)?;
        line.push('\n');
        self.stdin.write_all(line.as_bytes())?;
        self.stdin.flush()?;
        loop {
            let Some(line) = self.told.recv().await else {
                return Err(Failure::new(exit::FAILED, "the load process ended in the middle of a job"));
            };
            match serde_json::from_str(&line?)? {
                Told::Progress { done } => progress(done),
                Told::Done(counted) => return Ok(counted),
                Told::Failed { message } => return Err(Failure::new(exit::FAILED, message)),
            }
        }
    }
}

/// Imports a file by a process of its own: how long that took, and the most memory that it had resident.
pub(super) async fn import(connection: &Path, file: &Path) -> Result<(Duration, Option<u64>), Failure> {
    let began = Instant::now();
    let mut importing = Process::start(|command| {
        command.args(["--json", "import", "--connection"]).arg(connection).arg(file);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    })?;
    let mut peak = None;
    loop {
        peak = process::peak_bytes(importing.pid()).or(peak);
        match importing.0.try_wait()? {
            Some(status) if status.success() => return Ok((began.elapsed(), peak)),
            Some(status) => return Err(Failure::new(exit::FAILED, format!("an import ended with {status}"))),
            None => tokio::time::sleep(LOOK).await,
        }
    }
}

/// What is measured of servers and of the database's server, from outside.
#[derive(Debug, Clone)]
pub(super) struct Watched {
    /// The servers that are called.
    pub(super) servers: Vec<u32>,
    /// The process that all processes of the database's server descend from.
    pub(super) database: Option<u32>,
}

/// Processor time so far.
#[derive(Debug, Clone, Copy)]
pub(super) struct Spent {
    pub(super) server: Option<u64>,
    pub(super) database: Option<u64>,
}

impl Watched {
    /// The database's server behind a process that serves a connection.
    pub(super) fn postmaster(backend: Option<u32>) -> Option<u32> {
        let parent = process::parent(backend?)?;
        // A number of another machine or container would be that of anybody here.
        process::name(parent).filter(|name| name.starts_with("postgres")).map(|_| parent)
    }

    pub(super) fn spent(&self) -> Spent {
        let database = self.database.and_then(|postmaster| {
            let children = process::children(postmaster);
            let children = children.into_iter().filter_map(process::cpu_micros).sum::<u64>();
            process::cpu_micros(postmaster).map(|own| own + children)
        });
        // What is known of some only is known of none.
        let servers: Option<u64> = self.servers.iter().map(|pid| process::cpu_micros(*pid)).sum();
        Spent { server: servers.filter(|_| !self.servers.is_empty()), database }
    }

    pub(super) fn peak_bytes(&self) -> Option<u64> {
        self.servers.iter().filter_map(|pid| process::peak_bytes(*pid)).max()
    }

    pub(super) fn forget_peak(&self) {
        self.servers.iter().copied().for_each(process::forget_peak);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_says_where_it_listens() {
        let line = r#"{"level":"INFO","fields":{"message":"serving","address":"127.0.0.1:7"},"target":"x"}"#;
        assert_eq!(address_in(line, "address"), "127.0.0.1:7".parse().ok());
        assert_eq!(address_in(line, "health_address"), None);
        assert_eq!(address_in("text", "address"), None);
    }

    #[test]
    fn this_process_costs_time_and_memory() {
        let watched = Watched { servers: vec![std::process::id()], database: None };
        assert!(watched.spent().server.is_some() && watched.spent().database.is_none());
        assert!(watched.peak_bytes().unwrap() > 1 << 20);
        assert_eq!(Watched::postmaster(Some(std::process::id())), None);
    }
}
