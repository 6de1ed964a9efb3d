//! Traces: what a collector is told of calls, and that no call waits for it.

use std::{collections::BTreeMap, path::Path, sync::Arc};

use opentelemetry_proto::tonic::{
    common::v1::any_value::Value,
    trace::v1::{Span, span::SpanKind, status::StatusCode},
};
use sandyq::{
    config::Config,
    crypto::random::SystemRng,
    grpc::pb,
    telemetry::{
        collector::{self as telemetry, CollectorPlace},
        otlp::Origin,
    },
    vault::{
        Vault,
        access::Call,
        traces::{Sampling, TraceParent, Traces},
    },
};
use tokio::{sync::oneshot, task::JoinHandle};
use tonic::{Request, client::Grpc};
use tonic_prost::ProstCodec;

use crate::common::{
    backend::{Backend, here, on_both},
    collector::{Collector, Mode, attributes},
    metrics::{samples, scrape},
    served::{Served, detokenize_request, initialised},
    vault::OpenVault,
};

const ASKED: [u8; 16] = [0xa1; 16];
const PARENT: [u8; 8] = [0xb2; 8];

/// The header of a trace, with what its caller decided.
fn traceparent(trace: [u8; 16], sampled: bool) -> String {
    let hex = data_encoding::HEXLOWER;
    format!("00-{}-{}-0{}", hex.encode(&trace), hex.encode(&PARENT), u8::from(sampled))
}

fn with<T>(message: T, traceparent: &str) -> Request<T> {
    let mut request = Request::new(message);
    request.metadata_mut().insert("traceparent", traceparent.parse().unwrap());
    request
}

async fn started(backend: &Backend, mode: Mode, ratio: &str, queue: u32) -> (Collector, Served) {
    let collector = Collector::start(mode).await;
    let served = Served::start_files(backend, |files| collector.configure(files, ratio, queue)).await;
    (collector, served)
}

/// The server's span of a trace, and its attributes.
fn of_server(spans: &[Span]) -> (&Span, BTreeMap<String, Value>) {
    let span = spans.iter().find(|span| span.kind() == SpanKind::Server).unwrap();
    (span, attributes(&span.attributes))
}

fn text(value: &str) -> Value {
    Value::StringValue(value.into())
}

async fn counted(served: &Served, outcome: &str) -> u64 {
    let text = scrape(served.running.health.unwrap()).await;
    samples(&text)[&format!("sandyq_trace_spans_total{{outcome=\"{outcome}\"}}")].parse().unwrap()
}

on_both!(a_call_is_a_span_of_its_callers_trace);
async fn a_call_is_a_span_of_its_callers_trace(backend: Backend) {
    let (collector, served) = started(&backend, Mode::Takes(0), "0", 64).await;
    let stored = served.store(1).await;
    let read = || detokenize_request(stored.token("iin"), "payments");
    let mut payments = served.vault("payments").await;
    // Who says no is not asked again, and neither is who says nothing, or no trace.
    payments.detokenize(with(read(), &traceparent([0xc3; 16], false))).await.unwrap();
    payments.detokenize(with(read(), "990101300018")).await.unwrap();
    payments.detokenize(read()).await.unwrap();
    payments.detokenize(with(read(), &traceparent(ASKED, true))).await.unwrap();

    let spans = collector.of_trace(&ASKED).await;
    assert_eq!(collector.spans().len(), spans.len(), "only the one that was asked for");
    let (span, said) = of_server(&spans);
    let expected = [
        ("rpc.system.name", text("grpc")),
        ("rpc.method", text("sandyq.v1.VaultService/Detokenize")),
        ("rpc.response.status_code", text("OK")),
        ("server.address", text("vault.example.kz")),
        ("server.port", Value::IntValue(served.running.address.port().into())),
    ];
    assert_eq!(said, BTreeMap::from(expected.map(|(name, value)| (name.to_owned(), value))));
    assert_eq!(span.name, "sandyq.v1.VaultService/Detokenize");
    assert_eq!(span.parent_span_id, PARENT);
    assert!(span.status.is_none() && span.events.is_empty() && span.trace_state.is_empty());
    let mut parts: Vec<_> = spans.iter().filter(|other| other.kind() == SpanKind::Internal).collect();
    parts.sort_by_key(|part| part.start_time_unix_nano);
    assert_eq!(parts.iter().map(|part| part.name.as_str()).collect::<Vec<_>>(), ["enter", "lane"]);
    for part in parts {
        assert_eq!(part.parent_span_id, span.span_id);
        assert!(part.span_id != span.span_id && part.attributes.is_empty());
        assert!(span.start_time_unix_nano <= part.start_time_unix_nano);
        assert!(part.start_time_unix_nano <= part.end_time_unix_nano);
        assert!(part.end_time_unix_nano <= span.end_time_unix_nano);
    }
    let resources = collector.resources();
    assert_eq!(resources["service.name"], text("sandyq"));
    assert_eq!(resources["service.namespace"], text("vault.example.kz"));
    assert_eq!(resources["service.instance.id"], text("sandyq-0"));
    served.running.stop().await.unwrap();
}

#[tokio::test]
async fn refusals_are_told_by_their_status_alone() {
    let (collector, served) = started(&Backend::Sqlite, Mode::Takes(0), "1", 4_096).await;
    let stored = served.store(1).await;
    let mut payments = served.vault("payments").await;
    let unknown_purpose = detokenize_request(stored.token("iin"), "fortune_telling");
    payments.detokenize(with(unknown_purpose, &traceparent(ASKED, true))).await.unwrap_err();
    let spans = collector.of_trace(&ASKED).await;
    let (span, said) = of_server(&spans);
    assert_eq!(said["rpc.response.status_code"], text("PERMISSION_DENIED"));
    assert!(span.status.is_none() && !said.contains_key("error.type"), "a refusal is no fault of the server");

    // A path that is none of the contract's could say anything.
    let mut client = Grpc::new(served.channel("payments").await);
    client.ready().await.unwrap();
    let path = "/sandyq.v1.VaultService/990101300018".parse().unwrap();
    let codec: ProstCodec<pb::WhoAmIRequest, pb::WhoAmIResponse> = ProstCodec::default();
    let asked = with(pb::WhoAmIRequest::default(), &traceparent([0xd4; 16], true));
    client.unary(asked, path, codec).await.unwrap_err();
    let spans = collector.of_trace(&[0xd4; 16]).await;
    let (span, said) = of_server(&spans);
    assert_eq!((span.name.as_str(), &said["rpc.method"]), ("_OTHER", &text("_OTHER")));
    assert_eq!(said["error.type"], text("UNIMPLEMENTED"));
    assert_eq!(span.status.as_ref().unwrap().code(), StatusCode::Error);
    assert!(span.status.as_ref().unwrap().message.is_empty());

    // With a ratio of one the calls that came without a trace begin one each: those that made the installation.
    let roots = collector.spans().into_iter().filter(|span| span.parent_span_id.is_empty());
    let roots: Vec<_> = roots.collect();
    assert!(roots.len() > 3, "{}", roots.len());
    assert!(roots.iter().all(|root| root.trace_id != ASKED && root.kind() == SpanKind::Server));
    served.running.stop().await.unwrap();
}

/// Memory holds as many calls as the queue; what is beyond is lost and counted, and every call is answered.
#[tokio::test]
async fn no_call_waits_for_a_collector_that_hangs() {
    const QUEUE: u32 = 8;
    let (collector, served) = started(&Backend::Sqlite, Mode::Hangs, "0", QUEUE).await;
    let stored = served.store(1).await;
    let mut payments = served.vault("payments").await;
    let mut read = async || {
        let request = detokenize_request(stored.token("iin"), "payments");
        payments.detokenize(with(request, &traceparent(ASKED, true))).await.unwrap();
    };
    read().await;
    collector.asked(1).await;
    for _ in 0..50 {
        read().await;
    }
    // What is in hand, and what waits.
    assert!(counted(&served, "lost").await >= u64::from(50 - QUEUE));
    assert_eq!(counted(&served, "sent").await, 0);
    served.running.stop().await.unwrap();
}

#[tokio::test]
async fn a_collector_that_comes_back_gets_what_waited() {
    let busy = Mode::Refuses("503 Service Unavailable");
    let (collector, served) = started(&Backend::Sqlite, busy, "0", 64).await;
    let stored = served.store(1).await;
    let mut payments = served.vault("payments").await;
    let mut read = async |trace: [u8; 16]| {
        let request = detokenize_request(stored.token("iin"), "payments");
        payments.detokenize(with(request, &traceparent(trace, true))).await.unwrap();
    };
    read(ASKED).await;
    collector.asked(1).await;
    collector.turn(Mode::Takes(1));
    let spans = collector.of_trace(&ASKED).await.len();
    assert_eq!(spans, 3, "a call and two parts");
    // What it took is counted when its answer has come; the next request goes after that.
    collector.turn(Mode::Refuses("400 Bad Request"));
    read([0xe5; 16]).await;
    collector.asked(3).await;
    assert_eq!(counted(&served, "sent").await, 2);
    // One that it rejected; those of a request that it will never take are not sent again.
    collector.turn(Mode::Takes(0));
    read([0xf6; 16]).await;
    collector.of_trace(&[0xf6; 16]).await;
    assert_eq!(counted(&served, "lost").await, 1 + 3);
    served.running.stop().await.unwrap();
}

/// What waits when the process is told to end goes out before it does.
#[tokio::test]
async fn the_last_spans_are_sent_before_the_end() {
    let (collector, served) = started(&Backend::Sqlite, Mode::Takes(0), "0", 64).await;
    let stored = served.store(1).await;
    let request = detokenize_request(stored.token("iin"), "payments");
    let mut payments = served.vault("payments").await;
    payments.detokenize(with(request, &traceparent(ASKED, true))).await.unwrap();
    drop(payments);
    served.running.stop().await.unwrap();
    assert_eq!(collector.spans().len(), 3);
}

/// A vault whose calls are traced, an exporter of them to a collector, and how that is told to end.
async fn exporting(
    dir: &Path,
    collector: &Collector,
) -> (Vault, Arc<Traces>, oneshot::Sender<()>, JoinHandle<()>) {
    let OpenVault { vault, .. } = OpenVault::create(&Backend::Sqlite, dir, |store| store).await;
    let traces = Traces::new(Sampling { ratio: 0.0, queue: 64 }, Arc::new(SystemRng::new()));
    let vault = vault.with_traces(Some(Arc::clone(&traces)));
    let place = CollectorPlace {
        endpoint: format!("https://{}", collector.address),
        authority: Some(collector.authority().to_vec()),
    };
    let origin = Origin { installation: "vault.example.kz".into(), replica: "sandyq-0".into(), port: 7443 };
    let sender = telemetry::Collector::new(&place, origin, here()).unwrap();
    let (end, ended) = oneshot::channel::<()>();
    let ended = async {
        ended.await.unwrap();
    };
    let exporter = tokio::spawn(telemetry::export(Arc::clone(&traces), sender, ended));
    (vault, traces, end, exporter)
}

/// A call in a trace, which ends at once.
fn traced(vault: &Vault, trace: [u8; 16]) {
    let parent = TraceParent::parse(&traceparent(trace, true));
    drop(vault.trace(parent, Some(Call::Detokenize)).unwrap());
}

/// What is to be sent again later, and what waits behind it, goes out at the end: each once.
#[tokio::test]
async fn what_is_in_hand_at_the_end_is_sent_once() {
    let collector = Collector::start(Mode::Refuses("503 Service Unavailable")).await;
    let dir = tempfile::tempdir().unwrap();
    let (vault, traces, end, exporter) = exporting(dir.path(), &collector).await;
    traced(&vault, ASKED);
    collector.asked(1).await;
    traced(&vault, [0xe5; 16]);
    collector.turn(Mode::Takes(0));
    end.send(()).unwrap();
    exporter.await.unwrap();
    let mut arrived: Vec<_> = collector.spans().into_iter().map(|span| span.trace_id).collect();
    arrived.sort();
    assert_eq!(arrived, [ASKED.to_vec(), vec![0xe5; 16]]);
    assert_eq!(traces.counts(), [2, 0]);
}

/// A collector that hangs keeps no process: what it was given, and what waited for it, is lost and counted.
#[tokio::test]
async fn what_has_not_arrived_at_the_end_is_counted_as_lost() {
    let collector = Collector::start(Mode::Hangs).await;
    let dir = tempfile::tempdir().unwrap();
    let (vault, traces, end, exporter) = exporting(dir.path(), &collector).await;
    traced(&vault, ASKED);
    collector.asked(1).await;
    for trace in 1..=5 {
        traced(&vault, [trace; 16]);
    }
    end.send(()).unwrap();
    exporter.await.unwrap();
    assert_eq!(traces.counts(), [0, 6], "one in hand and five that waited");
    assert!(traces.take(1).is_empty());
}

/// One that refuses loses what it is given at the end, with one attempt for each.
#[tokio::test]
async fn what_is_refused_at_the_end_is_counted_as_lost() {
    let collector = Collector::start(Mode::Refuses("503 Service Unavailable")).await;
    let dir = tempfile::tempdir().unwrap();
    let (vault, traces, end, exporter) = exporting(dir.path(), &collector).await;
    traced(&vault, ASKED);
    collector.asked(1).await;
    traced(&vault, [0xe5; 16]);
    end.send(()).unwrap();
    exporter.await.unwrap();
    assert_eq!(traces.counts(), [0, 2]);
    assert!(collector.spans().is_empty());
}

#[tokio::test]
async fn a_collector_is_configured_whole_or_not_at_all() {
    let dir = tempfile::tempdir().unwrap();
    let local = initialised(&dir.path().join("vault")).await;
    let config = std::fs::read_to_string(local.config_path()).unwrap();
    let whole = "endpoint = \"https://127.0.0.1:4318\"\nauthority = \"server-authority.pem\"\n";
    for (traces, expected) in [
        (whole.to_owned(), ""),
        ("endpoint = \"http://127.0.0.1:4318\"\n".to_owned(), ""),
        ("endpoint = \"http://10.1.2.3:4318\"\n".to_owned(), "telemetry.traces.endpoint is an https address"),
        ("endpoint = \"https://127.0.0.1:4318\"\n".to_owned(), "telemetry.traces.endpoint needs `authority`"),
        ("endpoint = \"collector\"\n".to_owned(), "telemetry.traces.endpoint must be https://host:port"),
        (format!("{whole}ratio = 1.5\n"), "telemetry.traces.ratio must be from 0 to 1"),
        (format!("{whole}ratio = nan\n"), "telemetry.traces.ratio must be from 0 to 1"),
        (format!("{whole}queue_calls = 0\n"), "telemetry.traces.queue_calls must be from 1 to 65536"),
        (format!("{whole}headers = 1\n"), "unknown field `headers`"),
    ] {
        let text =
            config.replacen("[residency]\n", &format!("[telemetry.traces]\n{traces}\n[residency]\n"), 1);
        std::fs::write(local.config_path(), text).unwrap();
        let said =
            Config::load(&local.config_path()).err().map(|error| error.to_string()).unwrap_or_default();
        assert_eq!(said.is_empty(), expected.is_empty(), "{traces}: {said}");
        assert!(said.contains(expected), "{expected} not in {said}");
    }
}
