//! What one call does.

use std::{fmt, sync::Arc};

use tonic::{Status, transport::Channel};
use tonic_types::StatusExt as _;

use super::{Names, people, uploads::Image};
use crate::{
    cli::{
        bench::{
            Failure,
            job::{CallKind, REFUSALS},
        },
        client::{documents, request_id, vault},
        output::exit,
        values::item_status,
    },
    grpc::pb::{
        self, document_service_client::DocumentServiceClient, vault_service_client::VaultServiceClient,
    },
};

/// Items of a batch.
const BATCH: usize = 100;
/// Longest text that stands for a failure that has no reason of the vault's.
const MESSAGE_CHARS: usize = 120;

/// A token, and what it stands for.
pub(super) struct Held {
    pub(super) token: String,
    /// Number of the surname.
    pub(super) surname: usize,
}

impl fmt::Display for Held {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.token, self.surname)
    }
}

impl Held {
    /// A line of a file of tokens; of a file that others made, only the token stands there.
    pub(super) fn parse(line: &str) -> Option<Self> {
        let (token, surname) = line.split_once(' ').unwrap_or((line, "0"));
        (!token.is_empty()).then_some(())?;
        Some(Self { token: token.to_owned(), surname: surname.parse().ok()? })
    }
}

/// Makes calls of one kind.
pub(super) struct Caller {
    kind: CallKind,
    purpose: String,
    /// Of who reads, and of who stores.
    channels: [Arc<[Channel]>; 2],
    tokens: Arc<[Held]>,
    names: Arc<Names>,
    image: Arc<Image>,
}

/// A caller's connections.
pub(super) struct Client {
    reading: VaultServiceClient<Channel>,
    storing: VaultServiceClient<Channel>,
    images: DocumentServiceClient<Channel>,
}

impl Caller {
    pub(super) fn new(
        (kind, purpose): (CallKind, String),
        channels: [Arc<[Channel]>; 2],
        tokens: Arc<[Held]>,
        (names, image): (Arc<Names>, Arc<Image>),
    ) -> Result<Self, Failure> {
        if tokens.is_empty() || channels.iter().any(|channels| channels.is_empty()) {
            return Err(Failure::new(exit::FAILED, "there is nothing to ask for"));
        }
        Ok(Self { kind, purpose, channels, tokens, names, image })
    }

    /// The connections of the so-manieth caller.
    pub(super) fn client(&self, number: usize) -> Option<Client> {
        let one = |channels: &Arc<[Channel]>| channels.get(number % channels.len()).cloned();
        let [reading, storing] = &self.channels;
        let (reading, storing) = (one(reading)?, one(storing)?);
        Some(Client { reading: vault(reading), storing: vault(storing.clone()), images: documents(storing) })
    }

    /// One call. How many values or people it was about; or why it was not answered as wanted.
    pub(super) async fn call(&self, client: &mut Client) -> Result<u64, String> {
        match self.kind {
            CallKind::Detokenize => self.detokenize(client).await,
            CallKind::BatchDetokenize => self.batch_detokenize(client).await,
            CallKind::Tokenize => self.tokenize(client).await,
            CallKind::BatchTokenize => self.batch_tokenize(client).await,
            CallKind::Compare => self.compare(client).await,
            CallKind::Upload => {
                self.image.send(&mut client.images, &self.names).await.map_err(|s| reason(&s))
            }
            CallKind::Mixed => match self.names.next() % 50 {
                0 => self.compare(client).await,
                1..=4 => self.tokenize(client).await,
                _ => self.detokenize(client).await,
            },
        }
    }

    async fn detokenize(&self, client: &mut Client) -> Result<u64, String> {
        let Some(held) = self.any() else { return Ok(0) };
        let request = pb::DetokenizeRequest {
            token: held.token.clone(),
            purpose: self.purpose.clone(),
            view: pb::View::Full.into(),
            ..pb::DetokenizeRequest::default()
        };
        let answer = client.reading.detokenize(request).await.map_err(|s| reason(&s))?;
        if answer.into_inner().value.is_empty() { Err("an empty value".to_owned()) } else { Ok(1) }
    }

    async fn batch_detokenize(&self, client: &mut Client) -> Result<u64, String> {
        let tokens: Vec<_> = (0..BATCH).filter_map(|_| self.any()).map(|held| held.token.clone()).collect();
        let wanted = tokens.len();
        let request = pb::BatchDetokenizeRequest {
            tokens,
            purpose: self.purpose.clone(),
            view: pb::View::Full.into(),
            ..pb::BatchDetokenizeRequest::default()
        };
        let answer = client.reading.batch_detokenize(request).await.map_err(|s| reason(&s))?.into_inner();
        let released = answer.results.into_iter().map(|result| match result.outcome {
            Some(pb::detokenize_result::Outcome::Response(_)) => Ok(()),
            Some(pb::detokenize_result::Outcome::Error(status)) => Err(reason(&item_status(&status))),
            None => Err("no outcome".to_owned()),
        });
        all_of(released, wanted)
    }

    async fn tokenize(&self, client: &mut Client) -> Result<u64, String> {
        let person = people::with_four_values(&self.names);
        let request = pb::TokenizeRequest {
            request_id: request_id().map_err(|failure| failure.message().to_owned())?,
            subject_reference: person.subject_reference,
            fields: person.fields,
            consents: person.consents,
            subject_kind: person.subject_kind,
        };
        let stored = client.storing.tokenize(request).await.map_err(|s| reason(&s))?.into_inner();
        if stored.tokens.len() == 4 { Ok(1) } else { Err("not a token for each value".to_owned()) }
    }

    async fn batch_tokenize(&self, client: &mut Client) -> Result<u64, String> {
        let items: Vec<_> = (0..BATCH).map(|_| people::with_four_values(&self.names)).collect();
        let wanted = items.len();
        let request_id = request_id().map_err(|failure| failure.message().to_owned())?;
        let request = pb::BatchTokenizeRequest { request_id, items, ..Default::default() };
        let answer = client.storing.batch_tokenize(request).await.map_err(|s| reason(&s))?.into_inner();
        let stored = answer.results.into_iter().map(|result| match result.outcome {
            Some(pb::tokenize_result::Outcome::Response(_)) => Ok(()),
            Some(pb::tokenize_result::Outcome::Error(status)) => Err(reason(&item_status(&status))),
            None => Err("no outcome".to_owned()),
        });
        all_of(stored, wanted)
    }

    async fn compare(&self, client: &mut Client) -> Result<u64, String> {
        let Some(held) = self.any() else { return Ok(0) };
        let request = pb::CompareValueRequest {
            token: held.token.clone(),
            purpose: self.purpose.clone(),
            value: people::surname(held.surname).to_owned(),
            ..pb::CompareValueRequest::default()
        };
        let answer = client.reading.compare_value(request).await.map_err(|s| reason(&s))?.into_inner();
        if answer.equal { Ok(1) } else { Err("the value is another".to_owned()) }
    }

    /// Any of the tokens: all are asked for in turn, in no order that a table or a cache would like.
    fn any(&self) -> Option<&Held> {
        let count = u64::try_from(self.tokens.len()).ok()?;
        self.tokens.get(usize::try_from(scatter(self.names.next()).checked_rem(count)?).ok()?)
    }
}

/// How many items a batch was about, where all of them came out as wanted.
fn all_of(outcomes: impl Iterator<Item = Result<(), String>>, wanted: usize) -> Result<u64, String> {
    let mut done = 0;
    for outcome in outcomes {
        outcome?;
        done += 1;
    }
    if done == wanted {
        u64::try_from(done).map_err(|e| e.to_string())
    } else {
        Err("items are missing".to_owned())
    }
}

/// A number that looks random (`SplitMix64`).
pub(super) const fn scatter(number: u64) -> u64 {
    let mut mixed = number.wrapping_add(0x9E37_79B9_7F4A_7C15);
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    mixed ^ (mixed >> 31)
}

/// The vault's reason, or what the connection said.
fn reason(status: &Status) -> String {
    let details = status.get_error_details();
    match details.error_info() {
        None => format!("{:?}: {}", status.code(), status.message()).chars().take(MESSAGE_CHARS).collect(),
        Some(info) if REFUSALS.contains(&info.reason.as_str()) && details.retry_info().is_none() => {
            format!("{} without RetryInfo", info.reason)
        }
        Some(info) => info.reason.clone(),
    }
}
