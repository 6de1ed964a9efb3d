//! Synthetic people.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use tokio::task::JoinSet;
use tonic::transport::Channel;

use super::{Names, calls::Held, uploads};
use crate::{
    cli::{
        bench::{Failure, PURPOSE, job::Counted, numbers::micros},
        client::{request_id, vault},
        local::synthetic_consent,
        output::{exit, refused},
        values::item_status,
    },
    domain::time::Clock,
    grpc::pb,
};

/// Connections that people are stored over.
pub(super) const CONNECTIONS: u32 = 2;
/// People of one call: as many as it may have.
const BATCH: u32 = 1_000;
/// Calls at once: while one batch commits, others are prepared.
const CALLS: usize = 4;

/// When a consent ends that ends soon.
const ENDS_IN: Duration = Duration::from_secs(20);

/// Surnames that nobody has for certain: they mean «trial», «sample», «example», «model».
const SURNAMES: [&str; 4] = ["Сынақова", "Үлгіева", "Мысалова", "Моделева"];

/// The so-manieth surname.
pub(super) fn surname(number: usize) -> &'static str {
    SURNAMES.get(number % SURNAMES.len()).copied().unwrap_or_default()
}

/// Who is stored.
pub(super) struct Whom {
    pub(super) names: Arc<Names>,
    pub(super) count: u32,
    /// Whether they agree to an image too.
    pub(super) images: bool,
    /// Whether their consent ends soon.
    pub(super) ending: bool,
}

impl Whom {
    /// A person with a surname, and a consent to its use.
    fn person(&self, number: u64) -> pb::TokenizeItem {
        let fields: &[&str] = if self.images { &["surname", uploads::FIELD] } else { &["surname"] };
        pb::TokenizeItem {
            subject_reference: reference(&self.names, number),
            fields: vec![value("surname", surname_of(number))],
            consents: vec![pb::ConsentGrant {
                // The version that names the image, where there is one.
                policy_version: if self.images { 2 } else { 1 },
                expire_time: self.ending.then(soon),
                ..synthetic_consent(PURPOSE, fields)
            }],
            ..pb::TokenizeItem::default()
        }
    }
}

/// Late enough to be stored, and over when it is looked for.
fn soon() -> prost_types::Timestamp {
    let seconds = Clock::default().now().plus(ENDS_IN).second();
    prost_types::Timestamp { seconds, nanos: 0 }
}

/// Stores people, each with a surname and a consent to its use, and writes their tokens into a file.
pub(super) async fn store(
    channels: &Arc<[Channel]>,
    whom: &Whom,
    tokens: &Path,
    progress: impl Fn(u64) -> Result<(), Failure>,
) -> Result<Counted, Failure> {
    let began = Instant::now();
    let mut file = BufWriter::new(File::create(tokens)?);
    let (mut left, mut calls, mut done) = (whom.count, 0_usize, 0_u64);
    let mut running = JoinSet::new();
    loop {
        while left > 0 && running.len() < CALLS {
            let people = left.min(BATCH);
            left -= people;
            let Some(channel) = channels.get(calls % channels.len()) else { break };
            let numbers: Vec<_> = (0..people).map(|_| whom.names.next()).collect();
            let items = numbers.iter().map(|number| whom.person(*number)).collect();
            running.spawn(store_batch(channel.clone(), numbers, items));
            calls += 1;
        }
        let Some(stored) = running.join_next().await else { break };
        let stored = stored??;
        for held in &stored {
            writeln!(file, "{held}")?;
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

async fn store_batch(
    channel: Channel,
    numbers: Vec<u64>,
    items: Vec<pb::TokenizeItem>,
) -> Result<Vec<Held>, Failure> {
    let request = pb::BatchTokenizeRequest { request_id: request_id()?, items, ..Default::default() };
    let answer = vault(channel).batch_tokenize(request).await.map_err(refused)?.into_inner();
    let mut all = Vec::new();
    for (number, result) in numbers.iter().zip(answer.results) {
        match result.outcome {
            Some(pb::tokenize_result::Outcome::Response(stored)) => {
                let surname = usize::try_from(*number)? % SURNAMES.len();
                all.extend(stored.tokens.into_iter().map(|t| Held { token: t.token, surname }));
            }
            Some(pb::tokenize_result::Outcome::Error(status)) => {
                return Err(Failure::refused(&item_status(&status)));
            }
            None => {}
        }
    }
    if all.len() == numbers.len() {
        return Ok(all);
    }
    Err(Failure::new(exit::FAILED, "the vault answered fewer tokens than there were people"))
}

fn value(field: &str, value: String) -> pb::FieldValue {
    pb::FieldValue { field: field.to_owned(), value, ..pb::FieldValue::default() }
}

/// The name of the so-manieth subject.
pub(super) fn reference(names: &Names, number: u64) -> String {
    format!("bench-{}-{number}", names.run)
}

fn surname_of(number: u64) -> String {
    surname(usize::try_from(number).unwrap_or_default()).to_owned()
}

/// A person with four values, and a consent to their use.
pub(super) fn with_four_values(names: &Names) -> pb::TokenizeItem {
    let number = names.next();
    pb::TokenizeItem {
        subject_reference: reference(names, number),
        fields: vec![
            value("surname", surname_of(number)),
            value("first_name", "Үлгі".to_owned()),
            // Ten thousand numbers for all: nobody's, and a phone is not unique.
            value("phone", format!("+7 701 000 {:02} {:02}", number / 100 % 100, number % 100)),
            value("email", format!("bench-{number}@example.kz")),
        ],
        consents: vec![synthetic_consent("request_comms", &["surname", "first_name", "phone", "email"])],
        ..pb::TokenizeItem::default()
    }
}
