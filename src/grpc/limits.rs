//! Limits of the transport and of calls. Those of requests stand with the conversion, those of queues with the lane.

use std::{future::Future, time::Duration};

use tonic::{Response, Status};

use super::status::{deadline_exceeded, status};
use crate::vault::error::VaultError;

/// Longest time of a unary call in the vault, whatever the client's own deadline.
pub(super) const CALL_LIMIT: Duration = Duration::from_secs(30);
pub(super) const MAX_REQUEST_BYTES: usize = 4 * 1024 * 1024;
pub(super) const MAX_RESPONSE_BYTES: usize = 8 * 1024 * 1024;
pub(super) const MAX_STREAMS_PER_CONNECTION: u32 = 256;
pub(super) const KEEPALIVE_INTERVAL: Duration = Duration::from_mins(1);
pub(super) const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(20);
pub(super) const MAX_CONNECTION_AGE: Duration = Duration::from_hours(1);
pub(super) const MAX_CONNECTION_AGE_GRACE: Duration = Duration::from_mins(1);
pub(super) const MAX_HEADER_BYTES: u32 = 16 * 1024;

/// Streams, and calls at once, of one connection to the listener of health.
pub(super) const HEALTH_STREAMS: usize = 16;
pub(super) const HEALTH_CONNECTION_AGE: Duration = Duration::from_mins(10);
pub(super) const HEALTH_ANSWERS_WITHIN: Duration = Duration::from_secs(5);

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
