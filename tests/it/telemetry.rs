//! Health and metrics on the listener of their own: what they say, that the documentation lists them all, and that
//! nothing but declared names stands in them.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    net::SocketAddr,
    path::Path,
    process::{Command, Output},
};

use sandyq::{config::Config, grpc::pb, vault::access::Call};
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus};

use crate::common::{
    backend::{Backend, on_both},
    child::Server,
    metrics::{Ready, ask, health, samples, says, scrape},
    people::tokenize_request,
    served::{Served, initialised},
};

/// Kind and labels of each metric, by name.
type Families = BTreeMap<String, (String, BTreeSet<String>)>;

/// The table of docs/telemetry.md.
fn documented() -> Families {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/telemetry.md");
    let page = fs::read_to_string(page).unwrap();
    let rows = page.lines().map(|line| line.split('|').map(str::trim).collect::<Vec<_>>());
    let rows = rows.filter(|cells| cells.len() == 6 && ["counter", "gauge", "histogram"].contains(&cells[2]));
    rows.map(|cells| {
        let labels = cells[3].split(',').map(|label| label.trim().trim_matches('`').to_owned());
        let labels = labels.filter(|label| !label.is_empty()).collect();
        (cells[1].trim_matches('`').to_owned(), (cells[2].to_owned(), labels))
    })
    .collect()
}

/// Name of the metric that a sample belongs to, and its labels.
fn parts<'s>(sample: &'s str, kinds: &Families) -> (&'s str, BTreeMap<&'s str, &'s str>) {
    let (name, labels) = sample.split_once('{').unwrap_or((sample, ""));
    let labels = labels.trim_end_matches('}').split(',').filter(|label| !label.is_empty());
    let labels = labels.map(|label| label.split_once('=').unwrap());
    let labels = labels.map(|(name, value)| (name, value.trim_matches('"'))).collect();
    let stem = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
    let stem = stem.filter(|stem| kinds.get(*stem).is_some_and(|(kind, _)| kind == "histogram"));
    (stem.unwrap_or(name), labels)
}

fn announced(text: &str) -> Families {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE "));
    let mut families: Families = types
        .map(|line| line.split_once(' ').unwrap())
        .map(|(name, kind)| (name.to_owned(), (kind.to_owned(), BTreeSet::new())))
        .collect();
    let known = families.clone();
    let mut sampled = BTreeSet::new();
    for sample in samples(text).keys() {
        let (name, labels) = parts(sample, &known);
        let (_, seen) = families.get_mut(name).unwrap_or_else(|| panic!("{name} is of no declared type"));
        seen.extend(labels.into_keys().filter(|label| *label != "le").map(str::to_owned));
        sampled.insert(name.to_owned());
    }
    let unsampled: Vec<_> = families.keys().filter(|name| !sampled.contains(*name)).collect();
    assert!(unsampled.is_empty(), "nothing is measured of {unsampled:?}");
    families
}

/// `sandyq health`.
async fn asked(address: SocketAddr, args: &[&'static str]) -> Output {
    let args = args.to_vec();
    let run = move || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandyq"));
        command.arg("health").arg(format!("http://{address}")).args(args).output().unwrap()
    };
    tokio::task::spawn_blocking(run).await.unwrap()
}

on_both!(every_metric_is_in_the_table_and_every_row_at_the_endpoint);
async fn every_metric_is_in_the_table_and_every_row_at_the_endpoint(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let stored = served.store(1).await;
    served.read("payments", "payments", stored.token("iin")).await.unwrap();
    let text = scrape(served.running.health.unwrap()).await;
    assert_eq!(announced(&text), documented());
    served.running.stop().await.unwrap();
}

on_both!(what_was_decided_is_counted_once_it_is_durable);
async fn what_was_decided_is_counted_once_it_is_durable(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let address = served.running.health.unwrap();
    let stored = served.store(1).await;
    let count = async |sample: &str| samples(&scrape(address).await).get(sample).cloned().unwrap_or_default();
    let number = async |sample: &str| count(sample).await.parse::<f64>().unwrap();
    let permits = "sandyq_decisions_total{call=\"VaultService/Detokenize\",verdict=\"permit\",reason=\"\"}";
    let denials = "sandyq_decisions_total{call=\"VaultService/Detokenize\",verdict=\"deny\",reason=\"PURPOSE_NOT_DECLARED\"}";
    assert_eq!((count(permits).await, count(denials).await), (String::new(), String::new()));
    for _ in 0..2 {
        served.read("payments", "payments", stored.token("iin")).await.unwrap();
    }
    served.read("payments", "fortune_telling", stored.token("iin")).await.unwrap_err();
    assert_eq!((count(permits).await, count(denials).await), ("2".into(), "1".into()));
    let ok = "sandyq_calls_total{rpc_method=\"sandyq.v1.VaultService/Detokenize\",rpc_response_status_code=\"OK\"}";
    assert_eq!(count(ok).await, "2");
    let timed = "rpc_server_call_duration_seconds_count{rpc_method=\"sandyq.v1.VaultService/Detokenize\"}";
    assert_eq!(count(timed).await, "3");

    let malformed = served.read("payments", "payments", "no token").await.unwrap_err();
    assert_eq!(malformed, "TOKEN_MALFORMED");
    assert_eq!(count("sandyq_refusals_total{reason=\"TOKEN_MALFORMED\"}").await, "1");

    assert_eq!(
        count("sandyq_key_versions{platform=\"lerna\",kind=\"platform\",state=\"active\"}").await,
        "1"
    );
    let made =
        number("sandyq_key_active_created_timestamp_seconds{platform=\"lerna\",kind=\"platform\"}").await;
    let started = number("process_start_time_seconds").await;
    assert!(made >= started && made < started + 3_600.0, "{made} {started}");
    assert!(number("sandyq_lane_batch_items_count").await >= 4.0);
    assert!(number("sandyq_lane_commits_total{outcome=\"committed\"}").await >= 4.0);
    assert_eq!(count("sandyq_lane_queue_items{platform=\"lerna\"}").await, "0");
    assert!(number("process_resident_memory_bytes").await > 1e6);
    served.running.stop().await.unwrap();
}

/// No label holds anything but a declared name, whatever callers send.
#[tokio::test]
async fn labels_are_names_of_the_code_and_of_platforms() {
    let served = Served::start().await;
    let stored = served.store(1).await;
    let token = stored.token("iin");
    served.read("payments", "payments", token).await.unwrap();
    served.read("payments", "A-purpose-of-the-callers-own", token).await.unwrap_err();
    let mut client = tonic::client::Grpc::new(served.channel("payments").await);
    client.ready().await.unwrap();
    let path = "/sandyq.v1.VaultService/990101300018".parse().unwrap();
    let codec: tonic_prost::ProstCodec<pb::WhoAmIRequest, pb::WhoAmIResponse> =
        tonic_prost::ProstCodec::default();
    client.unary(tonic::Request::new(pb::WhoAmIRequest::default()), path, codec).await.unwrap_err();

    let text = scrape(served.running.health.unwrap()).await;
    let known = announced(&text);
    let calls: BTreeSet<_> = Call::ALL.iter().map(|call| format!("sandyq.v1.{}", call.as_str())).collect();
    let mut others = 0;
    for sample in samples(&text).keys() {
        for (label, value) in parts(sample, &known).1 {
            match label {
                "platform" => assert!(["lerna", "vault"].contains(&value), "{sample}"),
                "rpc_method" if value == "_OTHER" => others += 1,
                "rpc_method" => assert!(calls.contains(value), "{sample}"),
                "version" | "le" => {}
                _ => assert!(
                    value.bytes().all(|b| b.is_ascii_alphabetic() || b == b'_' || b == b'/'),
                    "{sample} holds what no code of ours looks like"
                ),
            }
        }
    }
    assert!(others > 0, "a call that is none of ours was counted with the others");
    served.running.stop().await.unwrap();
}

#[tokio::test]
async fn the_listener_answers_health_and_metrics_and_nothing_else() {
    let served = Served::start().await;
    let address = served.running.health.unwrap();
    let mut client = health(address).await;
    for name in ["", "sandyq.live", "sandyq.ready", "sandyq.kms", "sandyq.v1.VaultService"] {
        assert_eq!(says(&mut client, name).await, ServingStatus::Serving, "{name:?}");
    }
    for service in ["sandyq.ready", "sandyq.kms"] {
        let told = asked(address, &["--service", service]).await;
        assert!(told.status.success(), "{told:?}");
        assert_eq!(String::from_utf8_lossy(&told.stdout), format!("{service} SERVING\n"));
    }
    assert!(!asked(address, &["--service", "sandyq.other"]).await.status.success());
    let unknown = client.check(HealthCheckRequest { service: "sandyq.other".into() }).await.unwrap_err();
    assert_eq!(unknown.code(), tonic::Code::NotFound);
    assert!(ask(address, "POST /metrics").await.starts_with("HTTP/1.1 405"));
    for path in ["GET /", "GET /metrics/", "GET /debug"] {
        let answer = ask(address, path).await;
        assert!(!answer.contains("sandyq_"), "{path}: {answer}");
    }
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{address}")).unwrap();
    let mut vault = pb::vault_service_client::VaultServiceClient::new(channel.connect().await.unwrap());
    let refused = vault.who_am_i(pb::WhoAmIRequest::default()).await.unwrap_err();
    assert_eq!(refused.code(), tonic::Code::Unimplemented, "no service of the contract is here");
    served.running.stop().await.unwrap();
}

/// A database that takes nothing any more: not ready, alive, and ready again when it does.
#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_makes_it_not_ready_and_leaves_it_alive() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("vault");
    initialised(&files).await;
    let server = Server::start(&files);
    let address = server.health.unwrap();
    let (mut client, mut ready) = (health(address).await, Ready::watch(address).await);
    ready.until(ServingStatus::Serving).await;

    crate::disk_full::limit_file_size(&server, "1");
    let mut backend =
        pb::vault_service_client::VaultServiceClient::new(server.channel(&files, "backend").await);
    backend.tokenize(tokenize_request(1)).await.unwrap_err();
    ready.until(ServingStatus::NotServing).await;
    assert_eq!(says(&mut client, "sandyq.v1.VaultService").await, ServingStatus::NotServing);
    assert_eq!(says(&mut client, "sandyq.live").await, ServingStatus::Serving);
    assert_eq!(samples(&scrape(address).await)["sandyq_ready"], "0");

    let told = asked(address, &[]).await;
    assert!(
        !told.status.success() && String::from_utf8_lossy(&told.stderr).contains("NOT_SERVING"),
        "{told:?}"
    );

    crate::disk_full::limit_file_size(&server, "unlimited");
    ready.until(ServingStatus::Serving).await;
    assert_eq!(samples(&scrape(address).await)["sandyq_ready"], "1");
    backend.tokenize(tokenize_request(1)).await.unwrap();
    server.kill();
}

#[tokio::test]
async fn an_address_that_the_world_reaches_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let local = initialised(&dir.path().join("vault")).await;
    let config = fs::read_to_string(local.config_path()).unwrap();
    for address in ["0.0.0.0:9464", "[::]:9464", "8.8.8.8:9464"] {
        fs::write(
            local.config_path(),
            config
                .replace("[health]\nlisten = \"127.0.0.1:0\"", &format!("[health]\nlisten = \"{address}\"")),
        )
        .unwrap();
        let error = Config::load(&local.config_path()).unwrap_err().to_string();
        assert!(error.contains("health.listen has no TLS"), "{error}");
    }
}
