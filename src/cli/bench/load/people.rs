//! Synthetic people.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    sync::Arc,
    time::Instant,
};

use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::Names;
use crate::{
    cli::{
        bench::{Failure, PURPOSE, job::Counted, numbers::micros},
        client::{request_id, vault},
        local::synthetic_consent,
        output::{exit, refused},
        values::item_status,
    },
    grpc::pb,
};

/// Connections that people are stored over.
pub(super) const CONNECTIONS: u32 = 2;
/// People of one call: as many as it may have.
const BATCH: u32 = 1_000;
/// Calls at once: while one batch commits, others are prepared.
const CALLS: usize = 4;

/// Surnames that nobody has for certain: they mean «trial», «sample», «example», «model».
const SURNAMES: [&str; 4] = ["Сынақова", "Үлгіева", "Мысалова", "Моделева"];

/// Stores people, each with a surname and a consent to its use, and writes their tokens into a file.
pub(super) async fn store(
    channels: &Arc<[Channel]>,
    names: &Arc<Names>,
    count: u32,
    tokens: &Path,
    progress: impl Fn(u64) -> Result<(), Failure>,
) -> Result<Counted, Failure> {
    let began = Instant::now();
    let mut file = BufWriter::new(File::create(tokens)?);
    let (mut left, mut calls, mut done) = (count, 0_usize, 0_u64);
    let mut running = JoinSet::new();
    loop {
        while left > 0 && running.len() < CALLS {
            let people = left.min(BATCH);
            left -= people;
            let Some(channel) = channels.get(calls % channels.len()) else { break };
            running.spawn(store_batch(channel.clone(), (0..people).map(|_| person(names)).collect()));
            calls += 1;
        }
        let Some(stored) = running.join_next().await else { break };
        let stored = stored??;
        for token in &stored {
            writeln!(file, "{token}")?;
        }
        done += u64::try_from(stored.len())?;
        progress(done)?;
    }
    file.flush()?;
    Ok(Counted {
        calls: u64::try_from(calls)?,
        items: done,
        micros: micros(began.elapsed()),
        ..Counted::default()
    })
}

async fn store_batch(channel: Channel, items: Vec<pb::TokenizeItem>) -> Result<Vec<String>, Failure> {
    let (request_id, people) = (request_id()?, items.len());
    let request = pb::BatchTokenizeRequest { request_id, items };
    let answer = vault(channel).batch_tokenize(request).await.map_err(refused)?.into_inner();
    let mut tokens = Vec::new();
    for result in answer.results {
        match result.outcome {
            Some(pb::tokenize_result::Outcome::Response(stored)) => {
                tokens.extend(stored.tokens.into_iter().map(|t| t.token));
            }
            Some(pb::tokenize_result::Outcome::Error(status)) => {
                return Err(Failure::refused(&item_status(&status)));
            }
            None => {}
        }
    }
    if tokens.len() == people {
        return Ok(tokens);
    }
    Err(Failure::new(exit::FAILED, "the vault answered fewer tokens than there were people"))
}

/// A person with a surname, and a consent to its use.
fn person(names: &Names) -> pb::TokenizeItem {
    let number = names.next();
    let at = usize::try_from(number).unwrap_or_default() % SURNAMES.len();
    pb::TokenizeItem {
        subject_reference: format!("bench-{}-{number}", names.run),
        fields: vec![pb::FieldValue {
            field: "surname".to_owned(),
            value: SURNAMES.get(at).copied().unwrap_or_default().to_owned(),
            ..pb::FieldValue::default()
        }],
        consents: vec![synthetic_consent(PURPOSE, &["surname"])],
        ..pb::TokenizeItem::default()
    }
}
