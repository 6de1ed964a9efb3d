//! Canaries: marked values of every field, tokens, references and names of synthetic people are searched for, in many
//! encodings, in everything that the vault leaves behind while every call of the contract is made and refused. Each
//! place also holds a control in each of those encodings, and something of its own, so that no search can pass by
//! searching nothing.

pub mod canaries;
mod coverage;
mod documents;
mod drive;
mod driver;
mod places;
mod staff;

use std::{fs, path::Path, process::Command};

use sandyq::{cli::local::LocalInstallation, grpc::pb, vault::access::Call};

use crate::common::{
    backend::{Backend, on_both},
    child::Server,
    collector::{Collector, Mode},
    metrics::scrape,
    people::iin,
    served::initialised_on,
};
use canaries::{Canary, Search, is_text};
use drive::{Marked, WORD};
use driver::Driver;

/// What is planted into every place, in every encoding.
const CONTROL: &str = "бақылау мәтіні 4711/Ә";
const TRACE: &str = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";

/// What a place can hold.
#[derive(Clone, Copy, PartialEq)]
enum Holds {
    Bytes,
    Text,
}

/// Looks through places, and keeps what is wrong, so that one leak does not hide the next.
struct Searcher {
    canaries: Search,
    wrong: Vec<String>,
}

impl Searcher {
    fn look(&mut self, place: &str, bytes: &[u8], own: &[&str], holds: Holds) {
        println!("{place}: {} bytes", bytes.len());
        self.wrong
            .extend(self.canaries.find(bytes).into_iter().map(|found| format!("{found} lies in {place}")));
        let control = Canary::new("control", CONTROL);
        let search = Search::new(std::slice::from_ref(&control));
        let found = search.find(bytes);
        for (form, needle) in control.forms() {
            let expected = holds == Holds::Bytes || is_text(&needle);
            assert!(
                !expected || found.contains(&control.name(&form).as_str()),
                "{place}: no control as {form}"
            );
        }
        let own: Vec<_> = own.iter().map(|own| Canary::new("text of its own", *own)).collect();
        let search = Search::new(&own);
        let found = search.find(bytes);
        assert!(
            found.contains(&"a text of its own as plain") || own.is_empty(),
            "{place} holds nothing of its own"
        );
    }
}

/// The control in every form, a line each.
fn planted(holds: Holds) -> Vec<u8> {
    let forms = Canary::new("control", CONTROL).forms().into_iter().map(|(_, form)| form);
    forms.filter(|form| holds == Holds::Bytes || is_text(form)).collect::<Vec<_>>().join(&b'\n')
}

on_both!(values_tokens_and_references_are_in_answers_alone);
async fn values_tokens_and_references_are_in_answers_alone(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let (files, log, export) = (dir.path().join("vault"), dir.path().join("log"), dir.path().join("export"));
    initialised_on(&backend, &files).await;
    let config = fs::read_to_string(files.join("sandyq.toml")).unwrap();
    let horizon = config.replace("directory = \"backups\"", "directory = \"backups\"\nhorizon_days = 90");
    fs::write(files.join("sandyq.toml"), horizon).unwrap();
    let collector = Collector::start(Mode::Takes(0)).await;
    collector.configure(&files, "1", 65_536);
    let server = Server::start_traced(&files, &log).await;
    let mut driver = Driver::connect(&server, &files).await;
    let mut marked = Marked::new();

    driver.traceparent = Some(TRACE.into());
    marked.drive_values(&mut driver).await;
    // What is no trace id is not logged.
    driver.traceparent = Some(iin(4711));
    marked.drive_subjects(&mut driver).await;
    documents::drive_documents(&mut driver, &mut marked).await;
    staff::drive_staff(&mut driver).await;
    staff::drive_rights(&mut driver).await;
    staff::drive_breaches(&mut driver).await;
    staff::drive_registers(&mut driver).await;
    staff::drive_keys(&mut driver).await;
    staff::drive_backups(&mut driver).await;
    let sealed = ["surname", "first_name"].map(|field| marked.token(0, field));
    staff::drive_recipients(&mut driver, sealed.to_vec()).await;
    staff::ask_about(&mut driver, marked.token(0, "surname")).await;
    marked.refuse_every_call(&mut driver).await;
    staff::disable(&mut driver, "credit").await;
    driver.fill_every_call("credit", WORD, true).await;
    driver.drove_every_call();
    coverage::every_call_left_its_entries(&mut driver).await;

    // Spans leave in the order in which calls end.
    driver.traceparent = Some(TRACE.replace("0af7651916cd43dd8448eb211c80319c", &"d7".repeat(16)));
    driver.succeed("backend", Call::WhoAmI, pb::WhoAmIRequest::default()).await;
    collector.of_trace(&[0xd7; 16]).await;
    let mut metrics = scrape(server.health.unwrap()).await.into_bytes();
    server.write_connections(&files);
    let connection = LocalInstallation::open(&files).connection_path("auditor");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandyq"));
    command.args(["audit", "export", "--platform", "lerna", "--out"]).arg(&export);
    let told = command.arg("--connection").arg(connection).output().unwrap();
    assert!(told.status.success());
    places::plant_into_database(&backend, &files, &Canary::new("control", CONTROL)).await;
    server.kill();

    let mut searcher = Searcher { canaries: Search::new(&marked.canaries), wrong: Vec::new() };
    let plant = |place: &Path| fs::write(place.join("planted"), planted(Holds::Bytes)).unwrap();
    plant(&export);
    plant(&files.join("mirror"));
    plant(&files.join("documents"));
    let entries = places::entries_of(&export);
    let shown = [entries.as_slice(), &planted(Holds::Bytes)].concat();
    searcher.look("the entries, decoded", &shown, &["VaultService/Detokenize"], Holds::Bytes);
    searcher.look("the export", &places::below(&export), &["VaultService/Detokenize"], Holds::Bytes);
    let mirror = places::below(&files.join("mirror"));
    searcher.look("the mirror", &mirror, &["sandyq-segment 1"], Holds::Bytes);
    let stored = places::below(&files.join("documents"));
    assert!(stored.len() > 1 << 20, "there are parts");
    searcher.look("the document store", &stored, &["sandyq-documents 1"], Holds::Bytes);
    places::look_into_database(&mut searcher, &backend, &files);

    let text = String::from_utf8(planted(Holds::Text)).unwrap();
    let control = tonic::Status::with_details(tonic::Code::Unknown, text, planted(Holds::Bytes).into());
    driver.statuses.push(control);
    searcher.look("the statuses", &places::of_statuses(&driver.statuses), &["VALUE_DIFFERS"], Holds::Bytes);
    metrics.push(b'\n');
    metrics.extend(planted(Holds::Text));
    let spans = [collector.bytes().as_slice(), &planted(Holds::Bytes)].concat();
    searcher.look("the spans", &spans, &["sandyq.v1.VaultService/Detokenize"], Holds::Bytes);
    searcher.look("the metrics", &metrics, &["VaultService/Detokenize"], Holds::Text);
    let mut traced = fs::read(&log).unwrap();
    says_what_was_called(&String::from_utf8_lossy(&traced));
    traced.push(b'\n');
    traced.extend(planted(Holds::Bytes));
    searcher.look("the log", &traced, &[TRACE], Holds::Bytes);
    assert!(searcher.wrong.is_empty(), "{:#?}", searcher.wrong);
}

/// The log was written, in detail, and a call's lines carry its name, request and trace.
fn says_what_was_called(log: &str) {
    assert!(log.len() > 1_000_000, "{} bytes are no trace", log.len());
    let lines = log.lines().filter(|line| line.contains(TRACE));
    let spans = lines.filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok());
    let of_call = |line: &serde_json::Value| {
        line["span"]["rpc"] == "VaultService/Tokenize" && line["span"]["request_id"].is_string()
    };
    assert!(spans.into_iter().any(|line| of_call(&line)), "lines of a call carry its request id and trace");
}
