//! Limits of the transport and of calls. Those of requests stand with the conversion, those of queues with the lane.

use std::{future::Future, time::Duration};

use tonic::Status;

use super::status::deadline_exceeded;

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

/// Ends a call that takes longer than the vault allows. What was sent to the lane still runs to its end there.
pub(super) async fn within_limit<T>(call: impl Future<Output = Result<T, Status>>) -> Result<T, Status> {
    tokio::time::timeout(CALL_LIMIT, call).await.unwrap_or_else(|_| Err(deadline_exceeded()))
}
