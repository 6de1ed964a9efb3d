//! Limits of the transport and of calls. Those of requests stand with the conversion, those of queues with the lane.

use std::{future::Future, time::Duration};

use tonic::{Response, Status, body::Body, codegen::http};

use super::status::{deadline_exceeded, status};
use crate::vault::error::VaultError;

/// Longest time of a unary call in the vault, whatever the client's own deadline.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(30);
pub(super) const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;
pub(super) const MAX_RESPONSE_BYTES: usize = 8 * 1024 * 1024;
pub(super) const MAX_STREAMS_PER_CONNECTION: u32 = 256;
/// Streams that a client opened and reset before they were looked at; with more, its connection ends (CVE-2023-44487).
pub(super) const MAX_RESET_STREAMS: usize = 20;
/// Streams that were reset here for a fault of the client; with more, its connection ends.
pub(super) const MAX_FAULTY_STREAMS: usize = 128;
/// Longest time until an answer begins, whatever a client does with its own message: no place is held by one that never
/// ends. Longer than [`CALL_LIMIT`], which is what honest callers meet.
pub(super) const HEAD_LIMIT: Duration = Duration::from_secs(35);
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_mins(1);
pub(super) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
pub(super) const MAX_CONNECTION_AGE: Duration = Duration::from_hours(1);
pub(super) const MAX_CONNECTION_AGE_GRACE: Duration = Duration::from_mins(1);
pub(super) const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// Streams, and calls at once, of one connection to the listener of health.
pub(super) const HEALTH_STREAMS: usize = 16;
pub(super) const HEALTH_CONNECTION_AGE: Duration = Duration::from_mins(10);
pub(super) const HEALTH_ANSWERS_WITHIN: Duration = Duration::from_secs(5);

/// Ends a call whose answer does not begin in time.
pub(super) async fn head_within<E>(
    limit: Option<Duration>,
    answer: impl Future<Output = Result<http::Response<Body>, E>>,
) -> Result<http::Response<Body>, E> {
    let Some(limit) = limit else { return answer.await };
    tokio::time::timeout(limit, answer).await.unwrap_or_else(|_| Ok(deadline_exceeded().into_http()))
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
    use std::convert::Infallible;

    use super::*;

    #[tokio::test]
    async fn a_message_that_never_ends_holds_its_place_for_a_while_only() {
        let never = std::future::pending::<Result<http::Response<Body>, Infallible>>();
        let answer = head_within(Some(Duration::ZERO), never).await.unwrap();
        assert_eq!(answer.headers()["grpc-status"], "4");
        assert!(CALL_LIMIT < HEAD_LIMIT, "an honest caller meets the vault's own limit first");
    }
}
