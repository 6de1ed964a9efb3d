//! SIGTERM while clients are idle, hang, stream and work: every call that is cut off is told UNAVAILABLE, none anything else,
//! and the process ends well inside its grace period.

use std::{path::Path, time::Duration};

use sandyq::grpc::pb::{
    self, operation_service_client::OperationServiceClient, vault_service_client::VaultServiceClient,
};
use tokio::{net::TcpStream, task::JoinSet, time::timeout};
use tonic::{Code, Status, transport::Channel};

use crate::common::{
    child::Server,
    frames::{DATA, END_HEADERS, HEADERS, call_headers, connect, frame},
    people::tokenize_request,
    random::rounds,
    served::{detokenize_request, initialised},
    shutting::erased,
};

/// Installations that are served at once, and how often each is stopped.
const PLACES: u32 = 4;
/// What the chart gives a pod: both times of the configuration, and fifteen seconds.
const GRACE: Duration = Duration::from_secs(16);

#[tokio::test(flavor = "multi_thread")]
async fn whoever_is_cut_off_is_told_unavailable_and_nothing_else() {
    let mut places = JoinSet::new();
    for _ in 0..PLACES {
        places.spawn(stop_again_and_again(rounds(5, 13)));
    }
    let mut told = Vec::new();
    while let Some(seen) = places.join_next().await {
        told.extend(seen.unwrap());
    }
    let others: Vec<_> = told.iter().filter(|status| status.code() != Code::Unavailable).collect();
    println!("{} calls were cut off", told.len());
    assert!(others.is_empty(), "{} of {} were told otherwise: {others:#?}", others.len(), told.len());
}

/// Answers what clients were told.
async fn stop_again_and_again(times: u32) -> Vec<Status> {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("vault");
    let local = initialised(&files).await;
    let config = std::fs::read_to_string(local.config_path()).unwrap();
    let mut told = Vec::new();
    for round in 0..times {
        let drain = format!("drain_seconds = {}", round % 2);
        std::fs::write(local.config_path(), config.replace("drain_seconds = 5", &drain)).unwrap();
        told.extend(stop_once(&files, round).await);
    }
    told
}

async fn stop_once(files: &Path, number: u32) -> Vec<Status> {
    let server = Server::start(files);
    let (backend, payments, admin) = (
        server.channel(files, "backend").await,
        server.channel(files, "payments").await,
        server.channel(files, "admin").await,
    );
    let operation_id = erased(backend.clone(), admin.clone(), number).await;
    let stored = VaultServiceClient::new(backend.clone()).tokenize(tokenize_request(100 + number)).await;
    let token = stored.unwrap().into_inner().tokens[2].token.clone();

    // Who hangs: before TLS, after TLS, and in the middle of a message.
    let _before_tls = TcpStream::connect(server.address()).await.unwrap();
    let _after_tls = connect(server.address(), files, "support").await;
    let mut in_a_message = connect(server.address(), files, "support").await;
    let begun = [
        frame(HEADERS, END_HEADERS, 1, &call_headers("/sandyq.v1.VaultService/Tokenize")),
        frame(DATA, 0, 1, &[0, 0, 0, 1, 0, 1, 2, 3]),
    ];
    in_a_message.begin(&begun.concat()).await.unwrap();
    // Who is idle.
    let mut idle = VaultServiceClient::new(server.channel(files, "support").await);
    idle.who_am_i(pb::WhoAmIRequest::default()).await.unwrap();

    let mut clients = JoinSet::new();
    let mut watching = OperationServiceClient::new(admin);
    let request = pb::WatchOperationRequest { operation_id };
    let mut stream = watching.watch_operation(request).await.unwrap().into_inner();
    stream.message().await.unwrap().unwrap();
    clients.spawn(async move {
        loop {
            match stream.message().await {
                Ok(Some(_)) => {}
                Ok(None) => return Status::ok("the stream ended as if the operation had"),
                Err(status) => return status,
            }
        }
    });
    for _ in 0..4 {
        clients.spawn(read_on(payments.clone(), token.clone()));
    }
    clients.spawn(write_on(backend, 1_000 + number * 800));
    let ended = timeout(GRACE, server.terminate()).await;
    assert!(ended.expect("it did not end inside its grace period"), "it ended badly");
    let mut told = timeout(GRACE, clients.join_all()).await.expect("a client was left hanging");
    told.push(loop {
        match idle.who_am_i(pb::WhoAmIRequest::default()).await {
            Err(status) if never_looked_at(&status) => {}
            Err(status) => break status,
            Ok(_) => panic!("the process has ended"),
        }
    });
    told
}

/// Whether the server never looked at a call: it was not sent when its connection ended, or was sent after the last one
/// that the server said it would look at (RFC 9113, 6.8). gRPC has a client repeat such a call unasked; tonic's does not.
fn never_looked_at(status: &Status) -> bool {
    let said = format!("{status:?}").split_whitespace().collect::<String>();
    said.contains(r#"Canceled,"connectionclosed""#) || said.contains(r#"GoAway(b"",NO_ERROR,Remote"#)
}

/// Reads until it is refused.
async fn read_on(channel: Channel, token: String) -> Status {
    let mut client = VaultServiceClient::new(channel);
    loop {
        match client.detokenize(detokenize_request(&token, "payments")).await {
            Err(status) if !never_looked_at(&status) => return status,
            Ok(_) | Err(_) => {}
        }
    }
}

/// Stores people until it is refused.
async fn write_on(channel: Channel, from: u32) -> Status {
    let mut client = VaultServiceClient::new(channel);
    for number in from.. {
        match client.tokenize(tokenize_request(number)).await {
            Err(status) if !never_looked_at(&status) => return status,
            Ok(_) | Err(_) => {}
        }
    }
    Status::ok("nobody refused")
}
