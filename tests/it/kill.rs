//! `kill -9` under load: every value that was answered has its durable entry, everything acknowledged is there, and
//! the log still verifies. The child is killed when a number of answers, drawn from a printed seed, has arrived.

use std::{
    collections::HashSet,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::Path,
    process::{Child, Command, Stdio},
    sync::{
        Arc, Mutex,
        atomic::{AtomicU32, Ordering},
    },
};

use sandyq::{
    audit::entry::Entry, cli::local::LocalInstallation, domain::ids::PlatformId,
    grpc::pb::vault_service_client::VaultServiceClient, store::sqlite,
};
use tokio::{sync::Notify, task::JoinSet};
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};

use crate::common::{
    people::{iin, tokenize_request},
    served::{detokenize_request, initialised, request_id},
};

const ROUNDS: u64 = 5;
const READERS: u32 = 8;
const WRITERS: usize = 4;

/// A served child process.
pub struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts `sandyq serve` and waits until it says where it listens.
    pub fn start(dir: &Path) -> Self {
        // A write past the limit on file sizes is to fail, as on a full disk, not to end the process.
        let mut child = Command::new("sh")
            .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh"])
            .arg(env!("CARGO_BIN_EXE_sandyq"))
            .args(["--json", "serve", "--config"])
            .arg(dir.join("sandyq.toml"))
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
        let address = loop {
            let line = lines.next().expect("serve ended before it served").unwrap();
            let log: serde_json::Value = serde_json::from_str(&line).unwrap();
            if let Some(address) = log["fields"]["address"].as_str() {
                break address.parse().unwrap();
            }
        };
        // The pipe is read on, so that the child never waits to write a line.
        std::thread::spawn(move || lines.for_each(drop));
        Self { child, address }
    }

    pub async fn channel(&self, dir: &Path, caller: &str) -> Channel {
        let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read("server-authority.pem")))
            .identity(Identity::from_pem(read(&format!("{caller}.pem")), read(&format!("{caller}.key"))))
            .domain_name("localhost");
        let endpoint = Endpoint::from_shared(format!("https://{}", self.address)).unwrap();
        endpoint.tls_config(tls).unwrap().connect().await.unwrap()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
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

/// What clients were told.
#[derive(Default)]
struct Acknowledged {
    /// Request ids of values that were answered.
    reads: Mutex<Vec<String>>,
    /// Numbers of people with the token of their IIN.
    people: Mutex<Vec<(u32, String)>>,
    answers: AtomicU32,
    answered: Notify,
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_answered_is_durable() {
    let seed: u64 = 20_261_122;
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("vault");
    initialised(&files).await;

    let acknowledged = Arc::new(Acknowledged::default());
    for round in 0..ROUNDS {
        // A small linear congruential step: the rounds differ, and a failing one can be named.
        let kill_after =
            u32::try_from((seed.wrapping_mul(6_364_136_223_846_793_005) >> (20 + round)) % 400).unwrap();
        println!("seed {seed}, round {round}: killed after {kill_after} answers");
        run_and_kill(&files, &acknowledged, u32::try_from(round).unwrap(), kill_after).await;
        check(&files, &acknowledged).await;
    }
}

async fn run_and_kill(files: &Path, acknowledged: &Arc<Acknowledged>, round: u32, kill_after: u32) {
    let server = Server::start(files);
    acknowledged.answers.store(0, Ordering::SeqCst);
    let (backend, payments) =
        (server.channel(files, "backend").await, server.channel(files, "payments").await);
    let first = VaultServiceClient::new(backend.clone())
        .tokenize(tokenize_request(100_000 + round))
        .await
        .unwrap()
        .into_inner();
    let token = first.tokens[2].token.clone();
    let mut tasks = JoinSet::new();
    for _ in 0..READERS {
        let (channel, token, acknowledged) = (payments.clone(), token.clone(), Arc::clone(acknowledged));
        tasks.spawn(async move {
            let mut client = VaultServiceClient::new(channel);
            loop {
                let mut request = detokenize_request(&token, "payments");
                request.request_id = request_id();
                let id = request.request_id.clone();
                if client.detokenize(request).await.is_err() {
                    return;
                }
                acknowledged.reads.lock().unwrap().push(id);
                acknowledged.answers.fetch_add(1, Ordering::SeqCst);
                acknowledged.answered.notify_one();
            }
        });
    }
    for writer in 0..WRITERS {
        let (channel, acknowledged) = (backend.clone(), Arc::clone(acknowledged));
        tasks.spawn(async move {
            let mut client = VaultServiceClient::new(channel);
            let first = round * 10_000 + u32::try_from(writer).unwrap();
            for number in (first..).step_by(WRITERS) {
                let Ok(answer) = client.tokenize(tokenize_request(number)).await else { return };
                let token = answer.into_inner().tokens[2].token.clone();
                acknowledged.people.lock().unwrap().push((number, token));
                acknowledged.answers.fetch_add(1, Ordering::SeqCst);
                acknowledged.answered.notify_one();
            }
        });
    }
    while acknowledged.answers.load(Ordering::SeqCst) < kill_after {
        acknowledged.answered.notified().await;
    }
    server.kill();
    while tasks.join_next().await.is_some() {}
}

async fn check(files: &Path, acknowledged: &Acknowledged) {
    let store = sqlite::open(&files.join("sandyq.db")).await.unwrap();
    let platform = PlatformId::new(1);
    let size = store.tree(platform).await.unwrap().head.counters.size;
    let rows = store.entries(platform, 0, u32::try_from(size).unwrap()).await.unwrap();
    assert_eq!(u64::try_from(rows.len()).unwrap(), size, "entries and head agree");
    let permitted: HashSet<[u8; 16]> = rows
        .iter()
        .map(|row| Entry::decode(&row.entry).unwrap())
        .filter(|entry| entry.verdict == "permit")
        .filter_map(|entry| entry.request.map(|id| *id))
        .collect();
    store.close().await;
    drop(store);
    let reads = std::mem::take(&mut *acknowledged.reads.lock().unwrap());
    for id in &reads {
        let bytes = *uuid::Uuid::try_parse(id).unwrap().as_bytes();
        assert!(permitted.contains(&bytes), "a value was answered without a durable entry: request {id}");
    }

    // Opening checks head, leaves and MACs; every acknowledged person must be readable.
    let running = LocalInstallation::open(files).start(false).await.unwrap();
    let server = crate::common::served::Served {
        running,
        dir: tempfile::tempdir().unwrap(),
        backend: crate::common::backend::Backend::Sqlite,
    };
    let people = std::mem::take(&mut *acknowledged.people.lock().unwrap());
    println!("{} reads and {} people acknowledged, all durable", reads.len(), people.len());
    for (number, token) in people {
        assert_eq!(server.read("payments", "payments", &token).await, Ok(iin(number)), "person {number}");
    }
    server.running.stop().await.unwrap();
}
