//! The way of an act's answer to whoever waits for it.

use tokio::sync::oneshot;

use super::{error::VaultError, traces};

/// Where an act's answer goes.
#[derive(Debug)]
pub struct Reply<T>(oneshot::Sender<Result<T, VaultError>>);

/// Where a caller waits for it.
#[derive(Debug)]
pub struct Waiting<T>(oneshot::Receiver<Result<T, VaultError>>);

/// A pair of the two.
#[must_use]
pub fn reply<T>() -> (Reply<T>, Waiting<T>) {
    let (sender, receiver) = oneshot::channel();
    (Reply(sender), Waiting(receiver))
}

impl<T> Reply<T> {
    /// Whether nobody waits any more.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        self.0.is_closed()
    }

    /// Sends the answer. Where nobody waits any more it is dropped, and with it any plaintext.
    pub fn send(self, answer: Result<T, VaultError>) {
        let _unheard = self.0.send(answer);
    }
}

impl<T> Waiting<T> {
    /// Waits for the answer.
    ///
    /// # Errors
    /// The act's error; [`VaultError::Unavailable`] where the lane ended first.
    pub async fn answer(self) -> Result<T, VaultError> {
        traces::timed(traces::Part::Lane, self.0).await.unwrap_or(Err(VaultError::Unavailable))
    }
}
