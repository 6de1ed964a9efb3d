//! What stands before every call, health and reflection too: the block list, and what other replicas changed.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use tonic::{body::Body, codegen::http};
use tower::{Layer, Service};

use super::{authn::Peer, block_list::BlockList, status::status};
use crate::vault::{Vault, error::VaultError, refusals::Refusal};

/// Puts a gate before a service.
#[derive(Clone)]
pub(super) struct GateLayer {
    pub(super) vault: Arc<Vault>,
    pub(super) blocked: Arc<BlockList>,
}

impl GateLayer {
    /// Whether a peer's call may go on. A certificate is checked in the handshake; what was said of it since is
    /// checked here.
    async fn check(&self, peer: &Peer) -> Result<(), VaultError> {
        if self.blocked.blocks(&peer.mark) {
            if self.vault.count_stranger(Refusal::CertificateBlocked) {
                let spiffe_id = &peer.spiffe_id;
                tracing::warn!(%spiffe_id, "a blocked certificate called on an open connection");
            }
            return Err(VaultError::CertificateBlocked);
        }
        self.vault.follow(&peer.spiffe_id).await.map_err(|error| {
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::error!(error, "what other replicas changed could not be read");
            VaultError::Unavailable
        })
    }
}

impl<S> Layer<S> for GateLayer {
    type Service = Gate<S>;

    fn layer(&self, inner: S) -> Gate<S> {
        Gate { inner, gate: self.clone() }
    }
}

/// A service behind a gate.
#[derive(Clone)]
pub(super) struct Gate<S> {
    inner: S,
    gate: GateLayer,
}

type Answer<E> = Pin<Box<dyn Future<Output = Result<http::Response<Body>, E>> + Send>>;

impl<S> Service<http::Request<Body>> for Gate<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>> + Clone + Send + 'static,
    S::Future: Send,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Answer<S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        // The one that is ready takes the call; its copy gets ready for the next.
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        let gate = self.gate.clone();
        Box::pin(async move {
            // Without a peer nobody is authenticated, and the services refuse.
            if let Some(peer) = request.extensions().get::<Peer>()
                && let Err(error) = gate.check(peer).await
            {
                return Ok(status(&error).into_http());
            }
            inner.call(request).await
        })
    }
}
