//! Limits of the transport and of calls. Those of requests stand with the conversion, those of queues with the lane.

use std::{future::Future, time::Duration};

use tokio::time::{Instant, timeout_at};
use tonic::{Response, Status, codegen::http::HeaderMap};

use super::status::{deadline_exceeded, status};
use crate::vault::error::VaultError;

/// Longest time of a unary call in the vault, whatever the client's own deadline.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(30);
pub(super) const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;
pub(super) const MAX_RESPONSE_BYTES: usize = 8 * 1024 * 1024;
pub(super) const MAX_STREAMS_PER_CONNECTION: u32 = 256;
/// Bytes that a client may send on a stream before they are taken. A connection may hold as many of each of its streams: were it
/// fewer, the streams that wait for their turn would keep the bytes of those whose turn it is from coming.
pub(super) const STREAM_WINDOW: u32 = 128 * 1024;
/// Streams that a client opened and reset before they were looked at; with more, its connection ends (CVE-2023-44487).
pub(super) const MAX_RESET_STREAMS: usize = 20;
/// Streams that were reset here for a fault of the client; with more, its connection ends.
pub(super) const MAX_FAULTY_STREAMS: usize = 128;
/// Longest time until an answer begins, whatever a client does with its own message: no place is held by one that never
/// ends. Longer than [`CALL_LIMIT`], which is what honest callers meet.
pub(super) const HEAD_LIMIT: Duration = Duration::from_secs(35);
/// What is taken of the message of a call that is refused before it, and for how long.
pub(super) const HEARD_BYTES: usize = 64 * 1024;
pub(super) const HEARD_WITHIN: Duration = Duration::from_secs(2);
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_mins(1);
pub(super) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
pub(super) const MAX_CONNECTION_AGE: Duration = Duration::from_hours(1);
pub(super) const MAX_CONNECTION_AGE_GRACE: Duration = Duration::from_mins(1);
pub(super) const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// Streams, and calls at once, of one connection to the listener of health.
pub(super) const HEALTH_STREAMS: usize = 16;
pub(super) const HEALTH_CONNECTION_AGE: Duration = Duration::from_mins(10);
pub(super) const HEALTH_ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// What the transport itself would need to end a call without a reason: it counts the same time, from a moment later.
const BEFORE_THE_TRANSPORT: Duration = Duration::from_millis(1);

/// When a call that begins now must have begun its answer: when its client stops waiting, and after `most` at the latest.
pub(super) fn ends_at(headers: &HeaderMap, most: Option<Duration>, begins: Instant) -> Option<Instant> {
    let header = headers.get("grpc-timeout").and_then(|value| value.to_str().ok());
    let waits = header.and_then(patience).map(|waits| waits.saturating_sub(BEFORE_THE_TRANSPORT));
    let limit = most.into_iter().chain(waits).min()?;
    begins.checked_add(limit)
}

/// How long a client waits, as it says (gRPC over HTTP/2, `Timeout`): at most eight digits and a unit. Anything else says
/// nothing.
fn patience(header: &str) -> Option<Duration> {
    let (digits, unit) = header.split_at_checked(header.len().checked_sub(1)?)?;
    if digits.len() > 8 || !digits.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number: u64 = digits.parse().ok()?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3_600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

/// What comes in time, or the refusal that takes its place.
pub(super) async fn in_time<T>(by: Option<Instant>, work: impl Future<Output = T>) -> Result<T, Status> {
    let Some(by) = by else { return Ok(work.await) };
    timeout_at(by, work).await.map_err(|_| deadline_exceeded())
}

/// Ends a call that takes longer than the vault allows. What was sent to the lane still runs to its end there.
pub(super) async fn within_limit<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(CALL_LIMIT, call).await.unwrap_or_else(|_| Err(deadline_exceeded()))
}

/// Runs a call within the vault's own limit of time.
pub(super) async fn answer<T, R>(
    work: impl Future<Output = Result<T, VaultError>>,
    response: impl FnOnce(T) -> R,
) -> Result<Response<R>, Status> {
    // Boxed: what a change carries is large, and these calls are rare.
    let work = Box::pin(work);
    let done = within_limit(async { work.await.map_err(|e| status(&e)) }).await?;
    Ok(Response::new(response(done)))
}

#[cfg(test)]
mod tests {
    use tonic::Code;

    use super::*;

    #[tokio::test]
    async fn a_message_that_never_ends_holds_its_place_for_a_while_only() {
        let begins = Instant::now();
        let by = ends_at(&HeaderMap::new(), Some(Duration::ZERO), begins);
        let late = in_time(by, std::future::pending::<()>()).await.unwrap_err();
        assert_eq!(late.code(), Code::DeadlineExceeded);
        assert!(CALL_LIMIT < HEAD_LIMIT, "an honest caller meets the vault's own limit first");
    }

    #[test]
    fn a_call_ends_when_its_client_stops_waiting_and_never_later_than_the_limit() {
        let begins = Instant::now();
        let limit = |header: Option<&'static str>, most| {
            let mut headers = HeaderMap::new();
            if let Some(text) = header {
                headers.insert("grpc-timeout", text.parse().unwrap());
            }
            ends_at(&headers, most, begins).map(|by| by - begins)
        };
        let most = Duration::from_secs(35);
        for (header, millis) in
            [("2S", 1_999), ("1500m", 1_499), ("1M", 35_000), ("99999999H", 35_000), ("5000u", 4), ("1n", 0)]
        {
            assert_eq!(limit(Some(header), Some(most)), Some(Duration::from_millis(millis)), "{header}");
        }
        for header in ["", "S", "-1S", "1", "1s", "100000000S", "1.5S", "1S "] {
            assert_eq!(limit(Some(header), Some(most)), Some(most), "{header:?} says nothing");
        }
        assert_eq!(limit(None, None), None);
        assert_eq!(limit(Some("1M"), None), Some(Duration::from_millis(59_999)));
    }
}
