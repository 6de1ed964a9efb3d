//! Imports that die in the middle, or whose vault does, and are carried on.

use std::{
    fs,
    io::Write as _,
    path::Path,
    process::{Child, Command},
};

use super::{Case, csv, held, ndjson};
use crate::common::{
    backend::{Backend, on_both},
    child::Server,
    people::iin,
    random::{Choices, rounds},
    served::{detokenize_request, initialised_on},
};
use sandyq::grpc::pb::vault_service_client::VaultServiceClient;

const PEOPLE: u32 = 240;
const BATCH: &str = "4";
/// Kills come after fewer batches than this.
const MOST_BATCHES: u64 = 14;
const SEED: u64 = 20_261_128;

/// Batches that are done, as the journal says.
fn done(case: &Case) -> u64 {
    let text = fs::read_to_string(case.beside(".import.ndjson")).unwrap_or_default();
    u64::try_from(text.lines().filter(|line| line.starts_with("{\"done\"")).count()).unwrap()
}

/// Starts the command, and waits until it has done more batches than were done before, or has ended.
async fn start(case: &Case, more: u64) -> Child {
    let before = done(case);
    let mut child = case.command(&["--batch", BATCH, "--patience", "0"]).spawn().unwrap();
    while done(case) < before + more && child.try_wait().unwrap().is_none() {
        tokio::task::yield_now().await;
    }
    child
}

/// How a run ended, and what it said.
async fn ended(child: Child) -> (Option<i32>, String) {
    let output = tokio::task::spawn_blocking(|| child.wait_with_output().unwrap()).await.unwrap();
    (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
}

/// Every row is there once, in the results and in the vault, and each token answers the value of its row.
async fn is_whole(case: &Case, backend: &Backend, server: &Server, files: &Path) {
    let tokens = case.tokens();
    let rows: Vec<_> = tokens.iter().map(|line| line["row"].as_u64().unwrap()).collect();
    assert_eq!(rows, (1..=u64::from(PEOPLE)).collect::<Vec<_>>());
    let people = u64::from(PEOPLE);
    assert_eq!(held(backend, files).await, [people, 5 * people, 5 * people, people]);
    let mut payments = VaultServiceClient::new(server.channel(files, "payments").await);
    for line in &tokens {
        let number = u32::try_from(line["row"].as_u64().unwrap()).unwrap();
        let request = detokenize_request(line["tokens"]["iin"].as_str().unwrap(), "payments");
        assert_eq!(payments.detokenize(request).await.unwrap().into_inner().value, iin(number));
    }
}

on_both!(
    /// The importer or its vault dies, in turns, until the file is at its end.
    a_killed_import_is_carried_on_and_each_row_is_there_once
);
async fn a_killed_import_is_carried_on_and_each_row_is_there_once(backend: Backend) {
    let mut choices = Choices::from_seed(SEED);
    for round in 0..rounds(1, 10) {
        let (backend, dir) = (backend.fresh().await, tempfile::tempdir().unwrap());
        let files = dir.path().join("vault");
        initialised_on(&backend, &files).await;
        let mut server = Server::start(&files);
        server.write_connections(&files);
        let case = if round.is_multiple_of(2) {
            Case::new(&files, "people.csv", csv(1..=PEOPLE))
        } else {
            Case::new(&files, "people.ndjson", ndjson(1..=PEOPLE))
        };
        let (mut killed, mut orphaned) = (0, 0);
        for turn in 0_u32.. {
            let mut child = start(&case, 1 + choices.below(MOST_BATCHES)).await;
            if child.try_wait().unwrap().is_some() {
                let (code, said) = ended(child).await;
                assert_eq!(code, Some(0), "{said}");
                break;
            }
            if turn.is_multiple_of(2) {
                child.kill().unwrap();
                killed += 1;
                ended(child).await;
            } else {
                server.kill();
                let (code, said) = ended(child).await;
                // The last answer may have come before its vault died.
                if code != Some(0) {
                    assert_eq!(code, Some(1), "{said}");
                    assert!(said.contains("start the same command again"), "{said}");
                    orphaned += 1;
                }
                server = Server::start(&files);
                server.write_connections(&files);
            }
        }
        println!("round {round}: {killed} imports and {orphaned} vaults died");
        assert!(killed > 0 && orphaned > 0, "somebody of each died in the middle");
        is_whole(&case, &backend, &server, &files).await;
        server.kill();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_interrupted_import_ends_what_is_on_its_way_and_says_how_to_go_on() {
    let (backend, dir) = (Backend::Sqlite, tempfile::tempdir().unwrap());
    let files = dir.path().join("vault");
    initialised_on(&backend, &files).await;
    let server = Server::start(&files);
    server.write_connections(&files);
    let case = Case::new(&files, "people.csv", csv(1..=PEOPLE));
    for signal in ["-INT", "-TERM"] {
        let child = start(&case, 3).await;
        assert!(Command::new("kill").args([signal, &child.id().to_string()]).status().unwrap().success());
        let (code, said) = ended(child).await;
        assert_eq!(code, Some(1), "{said}");
        assert!(said.contains("stopping when what is on its way is answered"), "{said}");
        assert!(said.contains("start the same command again"), "{said}");
        // Nothing is left half done: what was begun is done.
        let journal = fs::read_to_string(case.beside(".import.ndjson")).unwrap();
        let begun = journal.lines().filter(|line| line.starts_with("{\"begin\"")).count();
        assert_eq!(u64::try_from(begun).unwrap(), done(&case));
    }
    // A line that a death cut off, and results that were not done, count for nothing.
    for (ending, rest) in [(".import.ndjson", "{\"done\":{\"to\""), (".tokens.ndjson", "{\"row\":1}\n{\"ro")]
    {
        let mut file = fs::OpenOptions::new().append(true).open(case.beside(ending)).unwrap();
        file.write_all(rest.as_bytes()).unwrap();
    }
    assert_eq!(case.told(&["--batch", "50"]).0, 0);
    is_whole(&case, &backend, &server, &files).await;
    server.kill();
}
