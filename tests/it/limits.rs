//! What a caller, or a client without manners, may do to a process: the rest is refused, at once where it can be, and
//! others are served.

use std::time::Duration;

use sandyq::{
    config::Config,
    grpc::pb::{self, operation_service_client::OperationServiceClient},
};
use tokio::task::JoinSet;
use tonic::{Code, Request, Status, Streaming};
use tonic_types::StatusExt as _;

use crate::common::{
    backend::{Backend, on_both},
    frames::{
        CONTINUATION, DATA, END_HEADERS, END_STREAM, ENHANCE_YOUR_CALM, GOAWAY, HEADERS, PING, RST_STREAM,
        SETTINGS, call_headers, connect, frame, literal,
    },
    metrics::{samples, scrape},
    served::{Served, initialised, reason},
    shutting::watched,
};

async fn limited(backend: &Backend, limits: &str) -> Served {
    let change = |files: &std::path::Path| {
        let file = files.join("sandyq.toml");
        let config = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, config.replace("[health]", &format!("[limits]\n{limits}\n\n[health]")))
            .unwrap();
    };
    Served::start_files(backend, change).await
}

async fn who_am_i(served: &Served, caller: &str) -> Result<(), Status> {
    served.vault(caller).await.who_am_i(pb::WhoAmIRequest::default()).await.map(|_| ())
}

fn is_limited(status: &Status) -> Duration {
    assert_eq!((status.code(), reason(status).as_str()), (Code::ResourceExhausted, "CALLER_LIMITED"));
    let details = status.get_error_details();
    details.retry_info().expect("when to try again").retry_delay.unwrap()
}

/// As many calls as an officer may have at once, open.
async fn three_streams(served: &Served) -> Vec<Streaming<pb::WatchOperationResponse>> {
    let operation_id = watched(served).await;
    let mut client = OperationServiceClient::new(served.channel("admin").await);
    let mut open = Vec::new();
    for _ in 0..3 {
        let request = pb::WatchOperationRequest { operation_id: operation_id.clone() };
        let mut stream = client.watch_operation(request).await.unwrap().into_inner();
        stream.message().await.unwrap().unwrap();
        open.push(stream);
    }
    open
}

on_both!(a_caller_with_too_many_calls_at_once_is_refused_and_nobody_else);
async fn a_caller_with_too_many_calls_at_once_is_refused_and_nobody_else(backend: Backend) {
    let served = limited(&backend, "calls_at_once = 3").await;
    let mut open = three_streams(&served).await;
    let refused = who_am_i(&served, "admin").await.unwrap_err();
    assert!(is_limited(&refused) > Duration::ZERO);
    who_am_i(&served, "backend").await.expect("another caller has places of its own");
    let metrics = samples(&scrape(served.running.health.unwrap()).await);
    assert_eq!(metrics["sandyq_refusals_total{reason=\"CALLER_LIMITED\"}"], "1");

    // A stream that is dropped gives its place back, as soon as the server hears of it.
    open.pop();
    while let Err(refused) = who_am_i(&served, "admin").await {
        is_limited(&refused);
    }
    drop(open);
    served.running.stop().await.unwrap();
}

#[tokio::test]
async fn a_caller_that_begins_too_many_calls_in_a_second_is_told_when_to_come_again() {
    let served = limited(&Backend::Sqlite, "calls_per_second = 50").await;
    let client = served.vault("payments").await;
    let mut calls = JoinSet::new();
    for _ in 0..200 {
        let mut client = client.clone();
        calls.spawn(async move { client.who_am_i(pb::WhoAmIRequest::default()).await });
    }
    let (done, refused): (Vec<_>, Vec<_>) = calls.join_all().await.into_iter().partition(Result::is_ok);
    assert!(done.len() >= 50, "a second's worth may begin together: {}", done.len());
    assert!(!refused.is_empty(), "two hundred at once are more than fifty a second");
    for status in refused.into_iter().filter_map(Result::err) {
        let wait = is_limited(&status);
        assert!(wait <= Duration::from_millis(20), "a place comes every fiftieth of a second: {wait:?}");
    }
    who_am_i(&served, "support").await.unwrap();
    served.running.stop().await.unwrap();
}

/// A refusal before the message was taken would reset its stream, and what is under way on more than 128 of those would end the
/// connection, and with it the calls that its caller may make.
#[tokio::test]
async fn calls_that_are_refused_before_their_message_came_cost_no_connection() {
    const CALLS: u32 = 200;
    let served = limited(&Backend::Sqlite, "calls_at_once = 3").await;
    let open = three_streams(&served).await;
    let mut raw = connect(served.running.address, served.running.installation.dir(), "admin").await;
    let headers = call_headers("/sandyq.v1.VaultService/WhoAmI");
    let of_each = |kind, flags, payload: &[u8]| {
        (0..CALLS).flat_map(|number| frame(kind, flags, 2 * number + 1, payload)).collect::<Vec<_>>()
    };
    let ping = frame(PING, 0, 0, &[0; 8]);
    raw.begin(&[of_each(HEADERS, END_HEADERS, &headers), ping].concat()).await.unwrap();
    // When that is answered, every call has been looked at.
    while raw.next().await.unwrap().kind != PING {}
    raw.send(&of_each(DATA, END_STREAM, &[0; 5])).await.unwrap();
    let mut answers = 0;
    while answers < CALLS {
        let kind = raw.next().await.expect("the connection lives").kind;
        assert!(![GOAWAY, RST_STREAM].contains(&kind), "{kind} after {answers} answers");
        answers += u32::from(kind == HEADERS);
    }
    drop(open);
    served.running.stop().await.unwrap();
}

#[tokio::test]
async fn limits_that_allow_nothing_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let local = initialised(&dir.path().join("vault")).await;
    let config = std::fs::read_to_string(local.config_path()).unwrap();
    for limits in ["calls_at_once = 0", "calls_per_second = 0"] {
        let text = config.replace("[health]", &format!("[limits]\n{limits}\n\n[health]"));
        std::fs::write(local.config_path(), text).unwrap();
        let error = Config::load(&local.config_path()).unwrap_err().to_string();
        assert!(error.contains("must be at least 1"), "{error}");
    }
}

#[tokio::test]
async fn a_connection_says_how_much_it_takes() {
    let served = Served::start().await;
    let mut raw = connect(served.running.address, served.running.installation.dir(), "payments").await;
    raw.begin(&[]).await.unwrap();
    let settings = loop {
        let frame = raw.next().await.unwrap();
        if frame.kind == SETTINGS {
            break frame.payload;
        }
    };
    let of = |id: u8| {
        let found = settings.chunks(6).find(|setting| setting[..2] == [0, id]);
        found.map(|setting| u32::from_be_bytes(setting[2..].try_into().unwrap()))
    };
    // SETTINGS_MAX_CONCURRENT_STREAMS and SETTINGS_MAX_HEADER_LIST_SIZE.
    assert_eq!((of(3), of(6)), (Some(256), Some(16 * 1024)));
    served.running.stop().await.unwrap();
}

/// CVE-2023-44487: streams that are opened and reset before anybody could look at them.
#[tokio::test]
async fn a_flood_of_resets_ends_its_connection() {
    let served = Served::start().await;
    let mut raw = connect(served.running.address, served.running.installation.dir(), "payments").await;
    let headers = call_headers("/sandyq.v1.VaultService/WhoAmI");
    let mut flood = Vec::new();
    for number in 0..400 {
        let stream = 2 * number + 1;
        flood.extend(frame(HEADERS, END_HEADERS, stream, &headers));
        flood.extend(frame(RST_STREAM, 0, stream, &8_u32.to_be_bytes()));
    }
    raw.begin(&flood).await.unwrap();
    assert_eq!(raw.goodbye().await, Some(ENHANCE_YOUR_CALM));
    who_am_i(&served, "payments").await.expect("another connection is served");
    served.running.stop().await.unwrap();
}

/// CVE-2024-27316: a header block that never ends.
#[tokio::test]
async fn a_header_block_that_never_ends_ends_its_connection() {
    let served = Served::start().await;
    let mut raw = connect(served.running.address, served.running.installation.dir(), "payments").await;
    raw.begin(&frame(HEADERS, 0, 1, &call_headers("/sandyq.v1.VaultService/WhoAmI"))).await.unwrap();
    let mut more = Vec::new();
    literal(&mut more, "x-filler", &"a".repeat(100));
    let more = frame(CONTINUATION, 0, 1, &more.repeat(100));
    let mut sent = 0;
    // A megabyte and more: sixty times what a header list may have.
    while sent < 100 && raw.send(&more).await.is_ok() {
        sent += 1;
    }
    let code = raw.goodbye().await;
    assert!(sent < 100 || code.is_some(), "the server takes headers without an end");
    who_am_i(&served, "payments").await.expect("another connection is served");
    served.running.stop().await.unwrap();
}

#[tokio::test]
async fn headers_beyond_the_limit_are_refused_and_the_connection_lives() {
    let served = Served::start().await;
    let mut client = served.vault("payments").await;
    let mut request = Request::new(pb::WhoAmIRequest::default());
    for number in 0..20 {
        let name = tonic::metadata::AsciiMetadataKey::from_bytes(format!("x-filler-{number}").as_bytes());
        request.metadata_mut().insert(name.unwrap(), "a".repeat(1_000).parse().unwrap());
    }
    client.who_am_i(request).await.unwrap_err();
    client.who_am_i(pb::WhoAmIRequest::default()).await.unwrap();
    served.running.stop().await.unwrap();
}
