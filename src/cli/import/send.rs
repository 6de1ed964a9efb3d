//! One batch: cut from the rows, sent until it is answered, and what came of each of its rows.

use std::{collections::HashSet, mem, time::Duration};

use prost::Message as _;
use tokio::time::Instant;
use tonic::{Request, Status, transport::Channel};
use tonic_types::StatusExt as _;

use super::rows::{Columns, Place, Problem, Row, Rows};
use crate::{
    cli::{
        client::broke_off,
        output::{Failure, exit},
        values::item_status,
    },
    grpc::pb::{self, tokenize_result::Outcome, vault_service_client::VaultServiceClient},
};

/// Most bytes of a request with its answer: a message has at most 4 MiB.
const MAX_BYTES: usize = 2 * 1024 * 1024;
/// Most bytes that a value or a consent adds to an answer.
const ANSWER_BYTES: usize = 128;
/// How long an answer may take: longer than the vault gives itself.
const CALL_LIMIT: Duration = Duration::from_secs(40);
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Reasons for which not this row is refused, but all: the import stops, and goes on when it is mended.
const STOPS: [&str; 7] = [
    "BUDGET_EXHAUSTED",
    "PLATFORM_CLOSED",
    "STORAGE_OUTSIDE",
    "CALLER_NOT_ALLOWED",
    "SOURCE_NOT_ALLOWED",
    "DATA_DAMAGED",
    "KEY_DISABLED",
];

/// A row that waits for its result.
pub(super) struct Waiting {
    pub(super) line: u64,
    pub(super) sent: Result<Columns, Vec<Problem>>,
}

/// Rows that are sent together.
pub(super) struct Batch {
    pub(super) from: Place,
    pub(super) to: Place,
    pub(super) rows: Vec<Waiting>,
    pub(super) items: Vec<pb::TokenizeItem>,
}

/// Cuts batches from rows.
pub(super) struct Cutter {
    rows: Rows,
    at: Place,
    /// Read, and part of the next batch.
    ahead: Option<Row>,
}

impl Cutter {
    pub(super) fn new(mut rows: Rows, at: Place) -> Result<Self, Failure> {
        rows.seek(at)?;
        Ok(Self { rows, at, ahead: None })
    }

    /// The next rows, as many as there may be; none after the last.
    pub(super) fn next(&mut self, most: usize) -> Result<Option<Batch>, Failure> {
        self.cut(|batch| batch.rows.len() < most)
    }

    /// The rows up to a place, as they were cut before.
    pub(super) fn up_to(&mut self, to: Place) -> Result<Option<Batch>, Failure> {
        self.cut(|batch| batch.to.rows < to.rows)
    }

    fn cut(&mut self, goes_on: impl Fn(&Batch) -> bool) -> Result<Option<Batch>, Failure> {
        let mut batch = Batch { from: self.at, to: self.at, rows: Vec::new(), items: Vec::new() };
        let (mut people, mut bytes) = (HashSet::new(), 0);
        loop {
            let row = match self.ahead.take() {
                Some(row) => Some(row),
                None => self.rows.next()?,
            };
            let Some(row) = row else { break };
            let size = row.person.as_ref().map_or(0, |person| size_of(&person.item));
            // A batch names each person once.
            let again =
                row.person.as_ref().is_ok_and(|person| people.contains(&person.item.subject_reference));
            if !goes_on(&batch) || again || (bytes + size > MAX_BYTES && bytes > 0) {
                self.ahead = Some(row);
                break;
            }
            bytes += size;
            batch.to = row.next;
            let sent = row.person.map(|person| {
                people.insert(person.item.subject_reference.clone());
                batch.items.push(person.item);
                person.columns
            });
            batch.rows.push(Waiting { line: row.line, sent });
        }
        self.at = batch.to;
        Ok((!batch.rows.is_empty()).then_some(batch))
    }
}

/// Bytes of an item, with those that are answered: a token with its field, and a consent's id.
fn size_of(item: &pb::TokenizeItem) -> usize {
    item.encoded_len() + ANSWER_BYTES * (1 + item.fields.len() + item.consents.len())
}

/// What came of a row.
pub(super) enum Came {
    Stored(pb::TokenizeResponse),
    Refused(Vec<Problem>),
}

/// What came of a batch.
pub(super) struct Answered {
    pub(super) from: Place,
    pub(super) to: Place,
    /// By the line on which each row begins.
    pub(super) rows: Vec<(u64, Came)>,
    /// Why the import stops, where all rows would be refused.
    pub(super) stop: Option<String>,
}

/// How batches are sent.
#[derive(Clone)]
pub(super) struct Sender {
    pub(super) client: VaultServiceClient<Channel>,
    /// How long a batch is sent again where nobody answers.
    pub(super) patience: Duration,
    pub(super) dry_run: bool,
}

impl Sender {
    /// Sends a batch under a request id until it is answered.
    pub(super) async fn send(mut self, mut batch: Batch, request_id: String) -> Result<Answered, Failure> {
        let items = mem::take(&mut batch.items);
        let results = if items.is_empty() {
            Vec::new()
        } else {
            self.call(pb::BatchTokenizeRequest {
                request_id,
                items,
                validate_only: self.dry_run,
                keep_held_consents: true,
            })
            .await?
        };
        let (mut results, mut stop, mut rows) = (results.into_iter(), None, Vec::new());
        for Waiting { line, sent } in batch.rows {
            let came = match sent {
                Err(problems) => Came::Refused(problems),
                Ok(columns) => match results.next().and_then(|result| result.outcome) {
                    Some(Outcome::Response(stored)) => Came::Stored(stored),
                    Some(Outcome::Error(status)) => {
                        let status = item_status(&status);
                        let problems = problems(&status, &columns);
                        if let Some(problem) =
                            problems.iter().find(|problem| STOPS.contains(&problem.reason.as_str()))
                        {
                            stop.get_or_insert_with(|| format!("{}: {}", problem.reason, status.message()));
                        }
                        Came::Refused(problems)
                    }
                    None => {
                        return Err(Failure::new(exit::FAILED, "the vault answered fewer results than rows"));
                    }
                },
            };
            rows.push((line, came));
        }
        Ok(Answered { from: batch.from, to: batch.to, rows, stop })
    }

    pub(super) async fn call(
        &mut self,
        batch: pb::BatchTokenizeRequest,
    ) -> Result<Vec<pb::TokenizeResult>, Failure> {
        let (began, mut pause) = (Instant::now(), Duration::from_millis(100));
        loop {
            let mut request = Request::new(batch.clone());
            request.set_timeout(CALL_LIMIT);
            match self.client.batch_tokenize(request).await {
                Ok(answer) => return Ok(answer.into_inner().results),
                Err(status) if may_end_otherwise(&status) && began.elapsed() < self.patience => {
                    let told = status.get_details_retry_info().and_then(|info| info.retry_delay);
                    tokio::time::sleep(told.unwrap_or(pause).min(LONGEST_PAUSE)).await;
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
                Err(status) => return Err(Failure::refused(&status)),
            }
        }
    }
}

/// Whether the same request may be answered another time.
fn may_end_otherwise(status: &Status) -> bool {
    broke_off(status) || status.code() == tonic::Code::ResourceExhausted
}

/// What is wrong with a row, as the vault tells it: each violation by its column.
fn problems(status: &Status, columns: &Columns) -> Vec<Problem> {
    let details = status.get_error_details();
    let reason = details.error_info().map_or_else(|| status.code().to_string(), |info| info.reason.clone());
    let violations = details.bad_request().map(|bad| bad.field_violations.as_slice()).unwrap_or_default();
    if violations.is_empty() {
        return vec![Problem { column: None, reason, rule: status.message().to_owned() }];
    }
    let told = violations.iter().map(|violation| Problem {
        column: Some(columns.of(&violation.field)),
        reason: reason.clone(),
        rule: violation.description.clone(),
    });
    told.collect()
}

/// The first item that the policy declares no such field for. What refuses all of them is the caller's to mend.
pub(super) fn undeclared(results: &[pb::TokenizeResult]) -> Result<Option<usize>, Failure> {
    for (at, result) in results.iter().enumerate() {
        let Some(Outcome::Error(status)) = &result.outcome else { continue };
        let status = item_status(status);
        let Some(bad) = status.get_details_bad_request() else { return Err(Failure::refused(&status)) };
        if bad
            .field_violations
            .iter()
            .any(|violation| violation.field.split('.').next_back() == Some("field"))
        {
            return Ok(Some(at));
        }
    }
    Ok(None)
}
