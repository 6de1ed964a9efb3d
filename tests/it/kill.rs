//! `kill -9` under load: every value that was answered has its durable entry, everything acknowledged is there, log and
//! mirror still verify, and a call that got no answer is repeated with the same request id and done once. The child is
//! killed when a number of answers, drawn from a printed seed, has arrived.

mod beside;
mod calls;
mod log;
mod lost;
mod rotations;

use std::{
    path::Path,
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering},
    },
};

use tokio::{sync::Notify, task::JoinSet};

pub use crate::common::child::Server;
use crate::common::{
    backend::{Backend, on_both},
    random::{Choices, rounds},
    served::{detokenize_request, initialised_on, request_id},
};
use calls::{Answer, Clients, Sent, bytes_of, is_lost, lasting};
use log::{Auditor, Log};

const SEED: u64 = 20_261_122;
/// The kill comes after fewer answers than this.
const MOST_ANSWERS: u64 = 250;
const READERS: u32 = 4;
const WRITERS: u32 = 3;
const LIVES: u32 = 5;

/// What clients were told in one round, and what they were not.
#[derive(Default)]
struct Told {
    /// Request and entry of each value that was answered.
    reads: Mutex<Vec<(String, String)>>,
    answered: Mutex<Vec<(Sent, Answer)>>,
    lost: Mutex<Vec<Sent>>,
    answers: AtomicU64,
    one_more: Notify,
}

impl Told {
    fn count(&self) {
        self.answers.fetch_add(1, Ordering::SeqCst);
        self.one_more.notify_one();
    }

    /// Sends a call and notes what came of it; none where the answer was lost.
    async fn send(&self, clients: &mut Clients, sent: Sent) -> Option<Answer> {
        match clients.send(&sent).await {
            Ok(answer) => {
                self.answered.lock().unwrap().push((sent, answer.clone()));
                self.count();
                Some(answer)
            }
            Err(status) => {
                assert!(is_lost(&status), "{status:?}");
                self.lost.lock().unwrap().push(sent);
                None
            }
        }
    }
}

on_both!(
    /// Five deaths, fifty in a full run.
    what_was_answered_is_durable_and_what_was_lost_is_done_once
);
async fn what_was_answered_is_durable_and_what_was_lost_is_done_once(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("vault");
    let key = initialised_on(&backend, &files).await;
    let mut auditor = Auditor::new(&files, dir.path(), key);
    let mut server = Server::start(&files);
    let (mut kept, mut lost) = (Vec::new(), 0);
    for round in 0..rounds(5, 50) {
        let mut choices = Choices::from_seed(SEED + u64::from(round));
        let told = run_and_kill(server, &files, round, &mut choices).await;
        // As the crash left it: nobody writes now.
        let mirror = auditor.copy_mirror();
        server = Server::start(&files);
        server.write_connections(&files);
        let log = auditor.export();
        check_log(&told, &log, &auditor.verify_mirror(&mirror));

        let mut clients = Clients::connect(&server, &files).await;
        let tokens = repeat(&told, &mut clients).await;
        clients.read_back(&tokens).await;
        let log = auditor.export();
        for sent in &*told.lost.lock().unwrap() {
            assert!(log.holds_once(sent, 1..=2));
        }
        for (sent, _) in &*told.answered.lock().unwrap() {
            assert!(log.holds_once(sent, 1..=1));
        }
        kept.extend(tokens);
        lost += told.lost.lock().unwrap().len();
    }
    assert!(lost > 0, "the kills came in the middle of calls");
    // What was acknowledged before the first death is there after the last.
    let mut clients = Clients::connect(&server, &files).await;
    clients.read_back(&kept).await;
    server.kill();
}

/// Readers of one token, writers of new people, and whole lives: stored, read once, withdrawn.
async fn run_and_kill(server: Server, files: &Path, round: u32, choices: &mut Choices) -> Told {
    let (kill_after, yields) = (choices.below(MOST_ANSWERS), choices.below(200));
    let told = Arc::new(Told::default());
    let clients = Clients::connect(&server, files).await;
    let first = Sent::tokenize(round * 10_000 + 9_999);
    let Some(Answer::Tokens(shared)) = told.send(&mut clients.clone(), first).await else {
        panic!("nobody was killed yet")
    };
    let mut tasks = JoinSet::new();
    for _ in 0..READERS {
        let token = shared.tokens[2].token.clone();
        tasks.spawn(read_on(Arc::clone(&told), clients.clone(), token));
    }
    for writer in 0..WRITERS {
        tasks.spawn(write_on(Arc::clone(&told), clients.clone(), round * 10_000 + writer));
    }
    for life in 0..LIVES {
        tasks.spawn(live_on(Arc::clone(&told), clients.clone(), round * 10_000 + 5_000 + life));
    }
    while told.answers.load(Ordering::SeqCst) < kill_after {
        tokio::select! {
            () = told.one_more.notified() => {}
            ended = tasks.join_next() => panic!("a client ended before the kill: {ended:?}"),
        }
    }
    // The answers of one commit arrive together: this moves the kill on into the next one.
    for _ in 0..yields {
        tokio::task::yield_now().await;
    }
    server.kill();
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    let told = Arc::into_inner(told).unwrap();
    let (reads, changes) = (told.reads.lock().unwrap().len(), told.answered.lock().unwrap().len());
    println!("round {round}: {reads} reads and {changes} changes acknowledged");
    told
}

async fn read_on(told: Arc<Told>, mut clients: Clients, token: String) {
    loop {
        let mut request = detokenize_request(&token, "payments");
        request.request_id = request_id();
        let id = request.request_id.clone();
        match clients.payments.detokenize(request).await {
            Ok(answer) => told.reads.lock().unwrap().push((id, answer.into_inner().audit_entry_id)),
            Err(status) => return assert!(is_lost(&status), "{status:?}"),
        }
        told.count();
    }
}

async fn write_on(told: Arc<Told>, mut clients: Clients, first: u32) {
    let step = usize::try_from(WRITERS).unwrap();
    for person in (first..).step_by(step) {
        if told.send(&mut clients, Sent::tokenize(person)).await.is_none() {
            return;
        }
    }
}

async fn live_on(told: Arc<Told>, mut clients: Clients, first: u32) {
    let step = usize::try_from(LIVES).unwrap();
    for person in (first..).step_by(step) {
        let Some(Answer::Tokens(stored)) = told.send(&mut clients, Sent::tokenize_once(person)).await else {
            return;
        };
        let read = Sent::detokenize(person, &stored.tokens[2].token);
        if told.send(&mut clients, read).await.is_none() {
            return;
        }
        // Not the consent that the read stands on: a repeated read is decided anew.
        let withdrawal = Sent::withdraw(person, &stored.consent_ids[1]);
        if told.send(&mut clients, withdrawal).await.is_none() {
            return;
        }
    }
}

/// What was answered stands in the log, whole and once; what was lost stands there so, or not at all. What ends a
/// permission was in the mirror before it was answered.
fn check_log(told: &Told, log: &Log, mirror: &Log) {
    for (request, entry) in &*told.reads.lock().unwrap() {
        let id = bytes_of(request);
        assert!(log.permits(&id, entry), "a value was answered without a durable entry: request {request}");
    }
    for (sent, _) in &*told.answered.lock().unwrap() {
        assert!(log.holds_once(sent, 0..=0), "acknowledged, and not in the log: {sent:?}");
        if sent.tightens() {
            let mirrored = mirror.of_request(&sent.request_id());
            assert!(!mirrored.is_empty(), "acknowledged, and not in the mirror: {sent:?}");
        }
    }
    let lost = told.lost.lock().unwrap();
    let done = lost.iter().filter(|sent| log.holds_once(sent, 0..=0)).count();
    println!("of the {} that were lost, {done} were done", lost.len());
}

/// Sends what was lost twice, and what was acknowledged once more; answers the tokens that all this left.
async fn repeat(told: &Told, clients: &mut Clients) -> Vec<calls::Token> {
    let mut tokens = Vec::new();
    let mut people = Vec::new();
    let (lost, answered) = (told.lost.lock().unwrap().clone(), told.answered.lock().unwrap().clone());
    for sent in &lost {
        let answer = clients.send(sent).await.unwrap();
        assert!(clients.send(sent).await.unwrap() == answer, "another answer: {sent:?}");
        tokens.extend(lasting(sent, &answer));
        people.push(sent.person);
    }
    let mut tasks = JoinSet::new();
    for (sent, answer) in answered {
        tokens.extend(lasting(&sent, &answer));
        people.push(sent.person);
        let mut clients = clients.clone();
        tasks.spawn(async move {
            assert!(clients.send(&sent).await.unwrap() == answer, "another answer: {sent:?}");
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    people.sort_unstable();
    people.dedup();
    for person in people {
        let mut clients = clients.clone();
        tasks.spawn(async move { clients.is_stored_once(person).await });
    }
    while let Some(ended) = tasks.join_next().await {
        ended.unwrap();
    }
    tokens
}
