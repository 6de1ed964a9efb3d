//! Two processes over one database. One begins work on keys and is killed in the middle of it, again and again; the other answers and
//! stores all along: no read fails, and nothing is left under a version that retired.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use sandyq::grpc::pb::{self, vault_service_client::VaultServiceClient};

use super::{
    Server,
    rotations::{Held, Life, Work, initialised, is_open},
};
use crate::common::{
    backend::Backend,
    people::{iin, tokenize_request},
    random::{Choices, rounds},
    served::detokenize_request,
};

const SEED: u64 = 20_261_128;
const MOST_LOOKS: u64 = 40;
/// Numbers of people who come meanwhile begin here.
const LATER: u32 = 1_000;

/// A configuration of one of several processes over the same database and mirror.
fn replica(files: &Path, name: &str) -> std::path::PathBuf {
    let text = std::fs::read_to_string(files.join("sandyq.toml")).unwrap();
    let alone = "directory = \"mirror\"";
    assert!(text.contains(alone));
    let text = text.replace(alone, &format!("{alone}\nshared = true\nreplica = \"{name}\""));
    let path = files.join(format!("{name}.toml"));
    std::fs::write(&path, text).unwrap();
    path
}

/// Reads what is held, and takes people in and reads them, until it is told to stop. Answers those who came, by number, and how often
/// it read.
async fn load(
    life: Arc<Life>,
    held: Arc<Held>,
    mut next: u32,
    goes_on: Arc<AtomicBool>,
) -> (Vec<(u32, String)>, usize) {
    let (mut vault, mut reader) =
        (VaultServiceClient::new(life.backend.clone()), VaultServiceClient::new(life.payments.clone()));
    let (mut came, mut reads) = (Vec::new(), 0);
    while goes_on.load(Ordering::SeqCst) {
        let stored = vault.tokenize(tokenize_request(next)).await.expect("somebody comes").into_inner();
        let iin_token = stored.tokens.into_iter().find(|token| token.field == "iin").unwrap().token;
        came.push((next, iin_token));
        next += 1;
        let old = held.tokens.iter().skip(reads % held.tokens.len()).take(5);
        for (number, token) in old.chain(came.last()) {
            let answer = reader.detokenize(detokenize_request(token, "payments")).await;
            assert_eq!(answer.expect("no read fails").into_inner().value, iin(*number));
            reads += 1;
        }
    }
    (came, reads)
}

#[tokio::test(flavor = "multi_thread")]
async fn another_process_answers_and_stores_while_the_one_at_work_is_killed() {
    let backend = Backend::postgres().await;
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("vault");
    initialised(&backend, &files).await;
    let [dying, staying] = ["dying", "staying"].map(|name| replica(&files, name));
    let other = Arc::new(Life::of(Server::start_with(&staying), &files).await);
    let held = Arc::new(other.fill(Work::Rekey).await);
    let (mut choices, mut next, mut midway) = (Choices::from_seed(SEED), LATER, 0);
    for work in [
        Work::Rotate(pb::KeyKind::Platform),
        Work::Rotate(pb::KeyKind::Index),
        Work::Rotate(pb::KeyKind::Audit),
        Work::Rotate(pb::KeyKind::Root),
        Work::Rekey,
    ] {
        let goes_on = Arc::new(AtomicBool::new(true));
        let under_load =
            tokio::spawn(load(Arc::clone(&other), Arc::clone(&held), next, Arc::clone(&goes_on)));
        let mut open: Option<String> = None;
        for _ in 0..rounds(2, 15) {
            let life = Life::of(Server::start_with(&dying), &files).await;
            let id = match open.take() {
                Some(id) if is_open(&life.look(&id).await) => id,
                _ => life.begin(work, 0).await,
            };
            for _ in 0..choices.below(MOST_LOOKS) {
                if !is_open(&life.look(&id).await) {
                    break;
                }
            }
            midway += u32::from(is_open(&life.look(&id).await));
            open = Some(id);
            life.server.kill();
            backend.sql(&files, "UPDATE operations SET lease_until = 1 WHERE lease_until IS NOT NULL").await;
        }
        // Whoever is left, or comes back, ends it.
        let life = Life::of(Server::start_with(&dying), &files).await;
        life.end(&open.unwrap()).await;
        goes_on.store(false, Ordering::SeqCst);
        let (came, reads) = under_load.await.unwrap();
        println!("{work:?}: {} came and {reads} reads meanwhile", came.len());
        assert!(reads > 10);
        next += u32::try_from(came.len()).unwrap();
        life.all_read(&Held { tokens: came, documents: Vec::new() }).await;
        for one in [&life, &other] {
            one.all_read(&held).await;
        }
        life.is_as_it_should_be(work).await;
        life.server.kill();
    }
    assert!(midway > 0, "somebody died in the middle of it");
    Arc::into_inner(other).unwrap().server.kill();
}
