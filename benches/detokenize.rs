//! Detokenize beside a bare tonic echo with the same TLS, in one run, rounds interleaved: ratios hold where absolute
//! figures drift. `cargo bench` prints the table; see docs/performance.md.
//!
//! SQLite, or with `--postgres URL` an empty database there. The server runs in a process of its own (this program again, with `--server DIR`), the load in another, as a
//! platform's backend would be; on two cores they share the machine.

#![expect(
    clippy::unwrap_used,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a measurement that cannot go on should stop where it stands"
)]

use std::{
    io::{BufRead as _, BufReader, Write as _},
    net::{Ipv4Addr, SocketAddr},
    path::Path,
    process::{Child, Command, Stdio},
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use sandyq::{
    cli::local::{LocalInstallation, synthetic_consent},
    crypto::random::SystemRng,
    domain::{ids::RequestId, time::Clock},
    grpc::{
        block_list::BlockList,
        pb::{self, vault_service_client::VaultServiceClient},
        tls::{incoming, server_tls},
    },
};
use tokio::task::JoinSet;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic_health::pb::{HealthCheckRequest, health_client::HealthClient};

const SUBJECTS: u32 = 2_000;
const ROUNDS: usize = 5;
const SLICE: Duration = Duration::from_secs(2);
const CONNECTIONS: usize = 4;

fn main() {
    let args: Vec<String> = std::env::args().collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let value = |name: &str| args.iter().position(|a| a == name).and_then(|at| args.get(at + 1));
    let postgres = value("--postgres").map(String::as_str);
    match value("--server") {
        Some(dir) => runtime.block_on(serve(Path::new(dir), postgres)),
        None => runtime.block_on(measure(postgres)),
    }
}

/// Serves the vault and the echo, prints their addresses, and ends when stdin does.
async fn serve(dir: &Path, postgres: Option<&str>) {
    let loopback = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let installation = LocalInstallation::create(dir, loopback).unwrap();
    if let Some(url) = postgres {
        let text = std::fs::read_to_string(installation.config_path()).unwrap();
        let text = text.replace("sqlite = \"sandyq.db\"", &format!("postgres = \"{url}\""));
        let text = text.replace("\"mirror-beside-database\", ", "");
        std::fs::write(installation.config_path(), text).unwrap();
    }
    let config = installation.config().unwrap();
    let running = installation.start(false).await.unwrap();
    let files = config.tls().unwrap();
    let tls = server_tls(&files.certificate, &files.key, &files.authorities, BlockList::default()).unwrap();
    let listener = tokio::net::TcpListener::bind(loopback).await.unwrap();
    let echo = listener.local_addr().unwrap();
    let (_health, service) = tonic_health::server::health_reporter();
    tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(incoming(
        listener,
        tls,
        || false,
    )));
    println!("{} {}", running.address, echo);
    tokio::task::spawn_blocking(|| std::io::stdin().lines().for_each(drop)).await.unwrap();
    running.stop().await.unwrap();
}

struct Server {
    child: Child,
    vault: SocketAddr,
    echo: SocketAddr,
}

fn start_server(dir: &Path, postgres: Option<&str>) -> Server {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .arg("--server")
        .arg(dir)
        .args(postgres.iter().flat_map(|url| ["--postgres", url]))
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let mut addresses = line.split_whitespace().map(|a| a.parse().unwrap());
    Server { child, vault: addresses.next().unwrap(), echo: addresses.next().unwrap() }
}

async fn connect(dir: &Path, address: SocketAddr, caller: &str) -> Channel {
    let read = |name: &str| std::fs::read_to_string(dir.join(name)).unwrap();
    let identity = Identity::from_pem(read(&format!("{caller}.pem")), read(&format!("{caller}.key")));
    let tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(read("server-authority.pem")))
        .identity(identity)
        .domain_name("localhost");
    let endpoint = Endpoint::from_shared(format!("https://{address}")).unwrap();
    endpoint.tls_config(tls).unwrap().tcp_nodelay(true).connect().await.unwrap()
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Load {
    Echo,
    Detokenize,
}

/// One slice of closed-loop load: calls a second, and latencies in microseconds.
async fn slice(
    load: Load,
    channels: &[Channel],
    tokens: &[String],
    concurrency: usize,
) -> (f64, Histogram<u64>) {
    let start = Instant::now();
    let mut tasks = JoinSet::new();
    for n in 0..concurrency {
        let channel = channels.get(n % channels.len()).unwrap().clone();
        let tokens = tokens.to_vec();
        tasks.spawn(async move {
            let mut latencies = Histogram::<u64>::new(3).unwrap();
            let (mut echo, mut vault) =
                (HealthClient::new(channel.clone()), VaultServiceClient::new(channel));
            let mut next = n * 7_919;
            while start.elapsed() < SLICE {
                next += 1;
                let called = Instant::now();
                match load {
                    Load::Echo => {
                        echo.check(HealthCheckRequest { service: String::new() }).await.unwrap();
                    }
                    Load::Detokenize => {
                        let request = pb::DetokenizeRequest {
                            request_id: String::new(),
                            token: tokens.get(next % tokens.len()).unwrap().clone(),
                            purpose: "payments".to_owned(),
                            view: pb::View::Full.into(),
                            reference: String::new(),
                            ..pb::DetokenizeRequest::default()
                        };
                        vault.detokenize(request).await.unwrap();
                    }
                }
                latencies.record(u64::try_from(called.elapsed().as_micros()).unwrap()).unwrap();
            }
            latencies
        });
    }
    let mut all = Histogram::<u64>::new(3).unwrap();
    for one in tasks.join_all().await {
        all.add(one).unwrap();
    }
    #[expect(clippy::as_conversions, clippy::cast_precision_loss, reason = "counts far below 2^52")]
    let rate = all.len() as f64 / start.elapsed().as_secs_f64();
    (rate, all)
}

async fn store_people(channel: Channel) -> Vec<String> {
    let mut client = VaultServiceClient::new(channel);
    let mut tokens = Vec::new();
    let numbers: Vec<u32> = (0..SUBJECTS).collect();
    for chunk in numbers.chunks(500) {
        let items = chunk.iter().map(|n| person(*n)).collect();
        let request_id = RequestId::new(Clock::default().now(), &SystemRng::new()).unwrap().to_string();
        let request = pb::BatchTokenizeRequest { request_id, items };
        for result in client.batch_tokenize(request).await.unwrap().into_inner().results {
            if let Some(pb::tokenize_result::Outcome::Response(stored)) = result.outcome {
                tokens.extend(stored.tokens.into_iter().map(|t| t.token));
            }
        }
    }
    assert_eq!(tokens.len(), numbers.len());
    tokens
}

/// A synthetic person with a surname and a consent to `payments`.
fn person(number: u32) -> pb::TokenizeItem {
    pb::TokenizeItem {
        subject_reference: format!("bench-{number}"),
        fields: vec![pb::FieldValue {
            field: "surname".to_owned(),
            value: "Сынақова".to_owned(),
            ..pb::FieldValue::default()
        }],
        consents: vec![synthetic_consent("payments", &["surname"])],
        ..pb::TokenizeItem::default()
    }
}

async fn measure(postgres: Option<&str>) {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("vault");
    let mut server = start_server(&files, postgres);
    let tokens = store_people(connect(&files, server.vault, "backend").await).await;
    let (mut vault, mut echo) = (Vec::new(), Vec::new());
    for _ in 0..CONNECTIONS {
        vault.push(connect(&files, server.vault, "payments").await);
        echo.push(connect(&files, server.echo, "payments").await);
    }
    eprintln!(
        "{SUBJECTS} people stored; {ROUNDS} rounds of {} s each, {CONNECTIONS} connections",
        SLICE.as_secs()
    );
    println!(
        "{:>11} {:>12} {:>12} {:>12} {:>9} {:>9} {:>7}",
        "concurrency", "load", "calls/s", "ratio", "p50 us", "p99 us", "rounds"
    );
    for concurrency in [1, 8, 64] {
        let mut rates = [Vec::new(), Vec::new()];
        let mut latencies = [Histogram::<u64>::new(3).unwrap(), Histogram::<u64>::new(3).unwrap()];
        for _ in 0..ROUNDS {
            for (at, (load, channels)) in
                [(Load::Echo, &echo), (Load::Detokenize, &vault)].into_iter().enumerate()
            {
                let (rate, histogram) = slice(load, channels, &tokens, concurrency).await;
                rates.get_mut(at).unwrap().push(rate);
                latencies.get_mut(at).unwrap().add(histogram).unwrap();
            }
        }
        let medians = rates.each_mut().map(|r| median(r));
        for (at, name) in ["echo", "detokenize"].into_iter().enumerate() {
            let histogram = latencies.get(at).unwrap();
            println!(
                "{concurrency:>11} {name:>12} {:>12.0} {:>12.3} {:>9} {:>9} {ROUNDS:>7}",
                medians.get(at).unwrap(),
                medians.get(at).unwrap() / medians.first().unwrap(),
                histogram.value_at_quantile(0.5),
                histogram.value_at_quantile(0.99),
            );
            std::io::stdout().flush().unwrap();
        }
    }
    drop(server.child.stdin.take());
    server.child.wait().unwrap();
}

fn median(rates: &mut [f64]) -> f64 {
    rates.sort_by(f64::total_cmp);
    *rates.get(rates.len() / 2).unwrap()
}
