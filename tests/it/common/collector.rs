//! A collector of traces: OTLP over HTTP and TLS, decoded by OpenTelemetry's own definitions.

use std::{
    collections::BTreeMap,
    fs,
    net::SocketAddr,
    path::Path,
    sync::{Arc, Mutex},
};

use opentelemetry_proto::tonic::{
    collector::trace::v1::{
        ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
    },
    common::v1::{KeyValue, any_value::Value},
    trace::v1::Span,
};
use prost::Message as _;
use tokio::{
    net::TcpListener,
    sync::Notify,
    task::{JoinHandle, JoinSet},
};

use super::https::{Request, acceptor, answer};

/// How it answers.
#[derive(Clone, Copy, PartialEq)]
pub enum Mode {
    /// Takes all but so many spans.
    Takes(i64),
    /// Takes nothing, with this status.
    Refuses(&'static str),
    /// Reads, and never answers.
    Hangs,
}

struct Seen {
    mode: Mode,
    taken: Vec<ExportTraceServiceRequest>,
    bodies: Vec<u8>,
    connections: u32,
    asked: u32,
}

/// A running collector; it ends with the test.
pub struct Collector {
    seen: Arc<Mutex<Seen>>,
    changed: Arc<Notify>,
    pub address: SocketAddr,
    authority: String,
    running: JoinHandle<()>,
}

impl Collector {
    pub async fn start(mode: Mode) -> Self {
        let (acceptor, authority) = acceptor("collector authority");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Seen { mode, taken: Vec::new(), bodies: Vec::new(), connections: 0, asked: 0 };
        let (seen, changed) = (Arc::new(Mutex::new(seen)), Arc::new(Notify::new()));
        let (to, told) = (Arc::clone(&seen), Arc::clone(&changed));
        let running = tokio::spawn(async move {
            let mut calls = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                to.lock().unwrap().connections += 1;
                let (to, told, acceptor) = (Arc::clone(&to), Arc::clone(&told), acceptor.clone());
                calls.spawn(async move {
                    let Ok(mut stream) = acceptor.accept(stream).await else { return };
                    let Some(request) = Request::read(&mut stream).await else { return };
                    let mode = take(&request, &to);
                    told.notify_one();
                    match mode {
                        Mode::Takes(rejected) => {
                            let partial = ExportTracePartialSuccess {
                                rejected_spans: rejected,
                                error_message: "words of the collector".into(),
                            };
                            let partial_success = (rejected > 0).then_some(partial);
                            let body = ExportTraceServiceResponse { partial_success }.encode_to_vec();
                            answer(stream, "200 OK", "content-type: application/x-protobuf\r\n", &body).await;
                        }
                        Mode::Refuses(status) => answer(stream, status, "", b"").await,
                        Mode::Hangs => std::future::pending().await,
                    }
                });
            }
        });
        Self { seen, changed, address, authority, running }
    }

    pub fn turn(&self, mode: Mode) {
        self.seen.lock().unwrap().mode = mode;
    }

    /// Roots of its certificate, PEM.
    pub fn authority(&self) -> &[u8] {
        self.authority.as_bytes()
    }

    /// Has an installation send its traces here.
    pub fn configure(&self, files: &Path, ratio: &str, queue: u32) {
        fs::write(files.join("collector.pem"), self.authority()).unwrap();
        let config = fs::read_to_string(files.join("sandyq.toml")).unwrap();
        let traces = format!(
            "[telemetry.traces]\nendpoint = \"https://{}\"\nauthority = \"collector.pem\"\nratio = {ratio}\n\
             queue_calls = {queue}\n\n[residency]\n",
            self.address
        );
        let config = config.replacen("[residency]\n", &traces, 1);
        assert!(config.contains("[telemetry.traces]"));
        fs::write(files.join("sandyq.toml"), config).unwrap();
    }

    pub fn connections(&self) -> u32 {
        self.seen.lock().unwrap().connections
    }

    /// Every span that it took.
    pub fn spans(&self) -> Vec<Span> {
        let seen = self.seen.lock().unwrap();
        let scopes = seen.taken.iter().flat_map(|r| &r.resource_spans).flat_map(|r| &r.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    /// What it is told of the process.
    pub fn resources(&self) -> BTreeMap<String, Value> {
        let seen = self.seen.lock().unwrap();
        let sent = seen.taken.iter().flat_map(|request| &request.resource_spans);
        sent.flat_map(|of| attributes(&of.resource.as_ref().unwrap().attributes)).collect()
    }

    /// Everything that came, as bytes and as text.
    pub fn bytes(&self) -> Vec<u8> {
        let seen = self.seen.lock().unwrap();
        let mut all = seen.bodies.clone();
        all.extend(format!("\n{:?}\n", seen.taken).into_bytes());
        all
    }

    /// Waits until somebody asked so often.
    pub async fn asked(&self, times: u32) {
        while self.seen.lock().unwrap().asked < times {
            self.changed.notified().await;
        }
    }

    /// Waits until it has the span of a call in this trace, and answers that with its parts.
    pub async fn of_trace(&self, trace: &[u8; 16]) -> Vec<Span> {
        loop {
            let spans: Vec<_> = self.spans().into_iter().filter(|span| span.trace_id == trace).collect();
            if !spans.is_empty() {
                return spans;
            }
            self.changed.notified().await;
        }
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        self.running.abort();
    }
}

fn take(request: &Request, seen: &Mutex<Seen>) -> Mode {
    assert_eq!(request.line(), ("POST".to_owned(), "/v1/traces".to_owned()));
    assert_eq!(request.header("content-type").as_deref(), Some("application/x-protobuf"));
    let decoded = ExportTraceServiceRequest::decode(request.body.as_slice()).unwrap();
    let mut seen = seen.lock().unwrap();
    seen.asked += 1;
    if matches!(seen.mode, Mode::Takes(_)) {
        seen.taken.push(decoded);
        seen.bodies.extend_from_slice(&request.body);
    }
    seen.mode
}

/// Attributes by name.
pub fn attributes(of: &[KeyValue]) -> BTreeMap<String, Value> {
    let value = |attribute: &KeyValue| attribute.value.clone().unwrap().value.unwrap();
    of.iter().map(|attribute| (attribute.key.clone(), value(attribute))).collect()
}
