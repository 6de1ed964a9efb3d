//! Clients that send anything: messages that are damaged, frames that are none, more than may be sent, and streams that never end.
//! The process does not panic, its memory keeps within what its limits say, and others are served meanwhile.

use std::{
    future::poll_fn,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use h2::client::{SendRequest, handshake};
use prost::{Message as _, bytes::Bytes};
use sandyq::{
    grpc::pb::{self, vault_service_client::VaultServiceClient},
    vault::access::Call,
};
use tokio::{io::AsyncWriteExt as _, net::TcpStream, sync::mpsc, task::JoinSet, time::timeout};
use tonic::{Code, Status, codegen::http, transport::Channel};
use tonic_types::StatusExt as _;

use crate::common::{
    child::Server,
    frames::{DATA, END_HEADERS, HEADERS, call_headers, connect, frame},
    people::{iin, tokenize_request},
    random::{Choices, rounds},
    raw::call,
    served::{detokenize_request, initialised},
};

const SEED: u64 = 20_261_128;
/// Calls of one caller at once.
const AT_ONCE: u32 = 64;
const LARGEST_MESSAGE: u64 = 4 << 20;
/// What everything but messages may take on top: connections, TLS, the log's tail.
const REST: u64 = 96 << 20;
/// Reads that a percentile is taken of.
const READS: usize = 200;
/// Below this nobody asks whether it doubled.
const FLOOR: Duration = Duration::from_millis(25);
/// What no answer may take.
const PATIENCE: Duration = Duration::from_secs(40);

/// Reads that others make meanwhile.
struct Others {
    client: VaultServiceClient<Channel>,
    token: String,
}

impl Others {
    async fn read(&mut self) -> Duration {
        let began = Instant::now();
        let read = self.client.detokenize(detokenize_request(&self.token, "payments")).await;
        assert_eq!(read.expect("others are served").into_inner().value, iin(1));
        began.elapsed()
    }

    /// The time that one read in a hundred exceeds.
    async fn slowest_of_a_hundred(&mut self) -> Duration {
        let mut took = Vec::new();
        for _ in 0..READS {
            took.push(self.read().await);
        }
        took.sort();
        took[READS * 99 / 100]
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_client_sends_nothing_panics_memory_is_bounded_and_others_are_served() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("vault");
    let local = initialised(&files).await;
    let config = std::fs::read_to_string(local.config_path()).unwrap();
    let limits = format!("[limits]\ncalls_at_once = {AT_ONCE}\n\n[health]");
    std::fs::write(local.config_path(), config.replace("[health]", &limits)).unwrap();
    let server = Server::start(&files);
    let mut backend = VaultServiceClient::new(server.channel(&files, "backend").await);
    let stored = backend.tokenize(tokenize_request(1)).await.unwrap().into_inner();
    let client = VaultServiceClient::new(server.channel(&files, "payments").await);
    let mut others = Others { client, token: stored.tokens[2].token.clone() };
    let before = (others.slowest_of_a_hundred().await, server.most_memory());

    let attacking = Arc::new(AtomicBool::new(true));
    let reading = tokio::spawn({
        let attacking = Arc::clone(&attacking);
        async move {
            let mut reads = 0;
            while attacking.load(Ordering::SeqCst) {
                others.read().await;
                reads += 1;
            }
            (others, reads)
        }
    });
    let mut choices = Choices::from_seed(SEED);
    damaged_messages(&server.channel(&files, "backend").await, &mut choices).await;
    damaged_frames(server.address(), &files, &mut choices).await;
    too_much(server.address(), &files).await;
    attacking.store(false, Ordering::SeqCst);
    let (mut others, reads) = reading.await.unwrap();
    assert!(reads > 0, "others read meanwhile");

    let stalled = Stalled::begin(server.address(), &files).await;
    let during = (others.slowest_of_a_hundred().await, server.most_memory());
    println!("slowest of a hundred, and most memory: {before:?} before, {during:?} with stalled streams");
    if rounds(0, 1) == 1 {
        assert!(during.0 <= 2 * before.0.max(FLOOR), "others wait: {before:?} {during:?}");
    }
    let cap = before.1 + u64::from(AT_ONCE) * LARGEST_MESSAGE + REST;
    assert!(during.1 <= cap, "{during:?} is more than {cap}");
    stalled.end().await;
    // Its places are free again as soon as the server hears of it.
    while let Err(status) = backend.who_am_i(pb::WhoAmIRequest {}).await {
        assert_eq!(told_well(&status).as_deref(), Some("CALLER_LIMITED"), "{status:?}");
    }
    assert_eq!(server.panics(), Vec::<String>::new());
    server.kill();
}

/// One that somebody might send, with bytes flipped, cut out, or put in.
fn damaged(choices: &mut Choices) -> Vec<u8> {
    let mut bytes = match choices.below(3) {
        0 => tokenize_request(u32::try_from(choices.below(1_000)).unwrap()).encode_to_vec(),
        1 => detokenize_request("sq1_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa", "payments").encode_to_vec(),
        _ => (0..choices.below(200)).map(|_| byte(choices)).collect(),
    };
    for _ in 0..=choices.below(4) {
        let at = usize::try_from(choices.below(u64::try_from(bytes.len()).unwrap() + 1)).unwrap();
        match choices.below(4) {
            0 if at < bytes.len() => bytes[at] = byte(choices),
            1 if at < bytes.len() => drop(bytes.remove(at)),
            2 => bytes.truncate(at),
            _ => bytes.insert(at, byte(choices)),
        }
    }
    bytes
}

fn byte(choices: &mut Choices) -> u8 {
    choices.next().to_be_bytes()[0]
}

/// Damaged messages to every call of the contract: each is answered, and by no fault of the server's.
async fn damaged_messages(channel: &Channel, choices: &mut Choices) {
    let mut told = std::collections::BTreeMap::<String, u32>::new();
    for _ in 0..rounds(600, 30_000) {
        let path = choices.pick(Call::ALL).as_str();
        let sent = damaged(choices);
        let answer = timeout(PATIENCE, call(channel, path, sent.clone())).await;
        let word = match answer.unwrap_or_else(|_| panic!("{path} never ends with {sent:02x?}")) {
            Ok(_) => "OK".to_owned(),
            Err(status) => {
                told_well(&status).unwrap_or_else(|| panic!("{path} with {sent:02x?}: {status:?}"))
            }
        };
        *told.entry(word).or_default() += 1;
    }
    println!("{told:?}");
}

/// The documented reason of a refusal that is its caller's fault.
fn told_well(status: &Status) -> Option<String> {
    let ours = [Code::Internal, Code::Unknown, Code::DataLoss, Code::Unavailable];
    let reason = status.get_details_error_info()?.reason;
    (!ours.contains(&status.code())).then_some(reason)
}

/// Frames of any kind in any order, headers that do not decode, and no HTTP/2 at all. What a connection gets is its own affair.
async fn damaged_frames(address: SocketAddr, files: &Path, choices: &mut Choices) {
    for _ in 0..rounds(60, 3_000) {
        let mut raw = connect(address, files, "support").await;
        let mut sent = Vec::new();
        for _ in 0..=choices.below(12) {
            let mut payload: Vec<u8> = (0..choices.below(60)).map(|_| byte(choices)).collect();
            if choices.below(3) == 0 {
                payload = call_headers("/sandyq.v1.VaultService/Tokenize");
                let at = usize::try_from(choices.below(u64::try_from(payload.len()).unwrap())).unwrap();
                payload[at] = byte(choices);
            }
            let (kind, flags) = (byte(choices) % 12, byte(choices));
            sent.extend(frame(kind, flags, u32::try_from(choices.below(9)).unwrap(), &payload));
        }
        if choices.below(8) == 0 {
            // Not even the preface.
            let _ended = raw.send(&sent).await;
        } else {
            let _ended = raw.begin(&sent).await;
        }
        // Not TLS either.
        if choices.below(8) == 0 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let _ended = stream.write_all(&sent).await;
        }
    }
}

/// More than may be sent: a message beyond the limit, one that says that it is, a frame of sixteen megabytes.
async fn too_much(address: SocketAddr, files: &Path) {
    let mut send = client(address, files, "support").await;
    for (prefix, length, expected) in [
        ([0, 0, 0x50, 0, 0], 5 << 20, "MESSAGE_TOO_LARGE"),
        ([0, 0xff, 0xff, 0xff, 0xff], 1 << 10, "MESSAGE_TOO_LARGE"),
    ] {
        let (answer, mut body) = begin(&mut send).await;
        // What is not taken any more may not be sendable either.
        let message = [&prefix[..], &vec![b'a'; length]].concat();
        let _ended = body.send_data(message.into(), false);
        let answer = timeout(PATIENCE, answer).await.expect("it is answered").unwrap();
        let status = Status::from_header_map(answer.headers()).unwrap();
        assert_eq!(status.get_details_error_info().unwrap().reason, expected);
    }
    let mut raw = connect(address, files, "support").await;
    let headers = frame(HEADERS, END_HEADERS, 1, &call_headers("/sandyq.v1.VaultService/Tokenize"));
    let promised = [&[0xff, 0xff, 0xff, DATA, 0][..], &1_u32.to_be_bytes(), &[0; 64]].concat();
    let _ended = raw.begin(&[headers, promised].concat()).await;
    timeout(PATIENCE, raw.goodbye()).await.expect("such a frame ends its connection");
}

async fn client(address: SocketAddr, files: &Path, caller: &str) -> SendRequest<Bytes> {
    let stream = connect(address, files, caller).await.into_stream();
    let (send, connection) = handshake(stream).await.unwrap();
    tokio::spawn(async move {
        let _ended = connection.await;
    });
    send
}

/// A call whose message has not come yet.
async fn begin(send: &mut SendRequest<Bytes>) -> (h2::client::ResponseFuture, h2::SendStream<Bytes>) {
    let request = http::Request::post("https://localhost/sandyq.v1.VaultService/Tokenize")
        .header("content-type", "application/grpc")
        .header("te", "trailers");
    let mut ready = send.clone().ready().await.unwrap();
    ready.send_request(request.body(()).unwrap(), false).unwrap()
}

/// Calls of one caller whose messages never end, and connections that say nothing.
struct Stalled {
    calls: JoinSet<Option<String>>,
    _silent: Vec<TcpStream>,
}

impl Stalled {
    async fn begin(address: SocketAddr, files: &Path) -> Self {
        let mut silent = Vec::new();
        for _ in 0..100 {
            silent.push(TcpStream::connect(address).await.unwrap());
        }
        let size = if rounds(0, 1) == 1 { usize::try_from(LARGEST_MESSAGE).unwrap() - 1 } else { 64 << 10 };
        let beginning = Bytes::from([&[0, 0, 0x3f, 0xff, 0xff][..], &vec![b'a'; size - 1_024]].concat());
        let (mut calls, mut refused) = (JoinSet::new(), 0);
        let (held, mut all_taken) = mpsc::channel::<()>(1);
        for _ in 0..4 {
            let mut send = client(address, files, "backend").await;
            for _ in 0..AT_ONCE / 2 {
                let (answer, mut body) = begin(&mut send).await;
                // Who has no place may be told so before that.
                let _ended = body.send_data(beginning.clone(), false);
                let held = held.clone();
                calls.spawn(async move {
                    // There is room for more when all of it was taken; none ever in a stream that was refused.
                    body.reserve_capacity(1);
                    let _room = poll_fn(|context| body.poll_capacity(context)).await;
                    drop(held);
                    let answer = answer.await.ok()?;
                    let _kept = body;
                    let status = Status::from_header_map(answer.headers())?;
                    status.get_details_error_info().map(|info| info.reason)
                });
            }
        }
        // Half of them have no place, and are told so at once.
        while refused < AT_ONCE {
            let told = timeout(PATIENCE, calls.join_next()).await.expect("who has no place is told").unwrap();
            assert_eq!(told.unwrap().as_deref(), Some("CALLER_LIMITED"));
            refused += 1;
        }
        // What follows is about streams that stand still, and not about what is still on its way.
        drop(held);
        let all = timeout(PATIENCE, all_taken.recv()).await.expect("what has a place is taken");
        assert!(all.is_none(), "nothing is ever said there");
        Self { calls, _silent: silent }
    }

    /// The rest ends when nobody waits for it any more.
    async fn end(mut self) {
        assert_eq!(self.calls.len(), usize::try_from(AT_ONCE).unwrap(), "as many as there are places");
        self.calls.shutdown().await;
    }
}
