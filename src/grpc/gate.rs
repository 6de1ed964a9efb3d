//! What stands before every call, health and reflection too: the block list, what other replicas changed, the span by
//! which log lines of one call are known, how much a caller may ask at once, and the words for what the transport itself refuses.

use std::{
    future::Future,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use tonic::{Code, Status, body::Body, codegen::http};
use tower::{Layer, Service};
use tracing::{Instrument as _, Span, field::Empty};

use super::{
    authn::{Peer, Standing},
    kept::{Cut, Kept, cut},
    limits::{HEAD_LIMIT, ends_at, in_time},
    status::{caller_limited, of_transport, shutting_down, status},
    throttle::{Running, Throttle},
    tls::ServerTls,
};
use crate::vault::{Vault, access::Call, error::VaultError, meters::OTHER, refusals::Refusal};

/// Puts a gate before a service.
#[derive(Clone)]
pub(super) struct GateLayer {
    pub(super) vault: Arc<Vault>,
    pub(super) tls: ServerTls,
    pub(super) throttle: Arc<Throttle>,
    /// Ends what still runs.
    pub(super) cut: Cut,
}

impl GateLayer {
    /// Whether a peer's call may go on. A certificate is checked in the handshake; what was said of it since is
    /// checked here.
    async fn check(&self, peer: &Peer) -> Result<(), VaultError> {
        if self.tls.blocked.blocks(&peer.mark) {
            if self.vault.count_stranger(Refusal::CertificateBlocked) {
                let spiffe_id = &peer.spiffe_id;
                tracing::warn!(%spiffe_id, "a blocked certificate called on an open connection");
            }
            return Err(VaultError::CertificateBlocked);
        }
        if !self.tls.still_trusts(peer, self.vault.clock().now()) {
            if self.vault.count_stranger(Refusal::Handshake) {
                let spiffe_id = &peer.spiffe_id;
                tracing::warn!(%spiffe_id, "a certificate that is trusted no more called on an open connection");
            }
            return Err(VaultError::CertificateNotTrusted);
        }
        self.vault.follow(&peer.spiffe_id).await.map_err(|error| {
            let error: &(dyn std::error::Error + 'static) = &error;
            tracing::error!(error, "what other replicas changed could not be read");
            VaultError::Unavailable
        })
    }
}

impl GateLayer {
    /// Lets a call begin, as far as its caller may. A stranger is refused where it is authenticated.
    fn admit(&self, peer: &Peer) -> Result<Option<Running>, Status> {
        let Ok(caller) = self.vault.caller(&peer.spiffe_id) else { return Ok(None) };
        self.throttle.admit(caller.id, Instant::now()).map(Some).map_err(|retry_after| {
            self.vault.count_refusals(&caller, Refusal::CallerLimited, 1);
            caller_limited(retry_after)
        })
    }

    /// What must hold before a call is looked at, and its place among those of its caller.
    async fn enter(&self, peer: Option<&Peer>) -> Result<Option<Running>, Status> {
        // Without a peer nobody is authenticated, and the services refuse.
        let Some(peer) = peer else { return Ok(None) };
        self.check(peer).await.map_err(|error| status(&error))?;
        self.admit(peer)
    }

    /// Counts a call whose answer has begun. A unary call has ended then; of a stream only the beginning is known.
    fn counted(
        &self,
        call: Option<Call>,
        started: Instant,
        answer: http::Response<Body>,
    ) -> http::Response<Body> {
        let code = answer.headers().get(GRPC_STATUS).map(http::HeaderValue::as_bytes);
        let code = i32::from(code.map_or(Code::Ok, Code::from_bytes));
        self.vault.meters().count_call(call, usize::try_from(code).unwrap_or(usize::MAX), started.elapsed());
        answer
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

    fn call(&mut self, mut request: http::Request<Body>) -> Self::Future {
        // The one that is ready takes the call; its copy gets ready for the next.
        let copy = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, copy);
        let gate = self.gate.clone();
        let (call, started) = (call_of(&request), Instant::now());
        let span = span_of(&request, call);
        let ours = request.uri().path().starts_with(CONTRACT);
        // A call that takes a stream is as long as its stream.
        let most = (!request.uri().path().ends_with(UPLOAD)).then_some(HEAD_LIMIT);
        let by = ends_at(request.headers(), most, started.into());
        let answered = async move {
            let entered = in_time(by, gate.enter(request.extensions().get::<Peer>())).await;
            let running = match entered.flatten() {
                Ok(running) => running,
                Err(status) => return Ok(gate.counted(call, started, status.into_http())),
            };
            if let Some(mark) = request.extensions().get::<Peer>().map(|peer| peer.mark.clone()) {
                request.extensions_mut().insert(Standing::new(Arc::clone(&gate.tls.blocked), mark));
            }
            if let Some(call) = call {
                request.extensions_mut().insert(call);
            }
            let answer = tokio::select! {
                biased;
                answer = in_time(by, inner.call(request)) => answer.unwrap_or_else(|late| Ok(late.into_http()))?,
                () = cut(gate.cut.clone()) => shutting_down().into_http(),
            };
            tracing::debug!("the head of the answer is ready");
            let answer = gate.counted(call, started, if ours { explained(answer) } else { answer });
            Ok(Kept::answer(answer, running, gate.cut))
        };
        Box::pin(answered.instrument(span))
    }
}

/// The call that takes a stream.
const UPLOAD: &str = "/UploadDocument";
/// Header of an answer that has failed already.
const GRPC_STATUS: &str = "grpc-status";
/// Paths of the contract's calls.
const CONTRACT: &str = "/sandyq.v1.";

/// Gives a refusal of the transport its documented reason: the codec's own says what it failed at, in its own words.
fn explained(answer: http::Response<Body>) -> http::Response<Body> {
    let refused = Status::from_header_map(answer.headers()).and_then(|status| of_transport(&status));
    refused.map_or(answer, Status::into_http)
}

/// The call of the contract that a request is; a path that is none of ours could say anything.
fn call_of(request: &http::Request<Body>) -> Option<Call> {
    request.uri().path().strip_prefix(CONTRACT).and_then(|name| name.parse().ok())
}

/// The span of a call. Authentication records the request id, once it has parsed.
fn span_of(request: &http::Request<Body>, call: Option<Call>) -> Span {
    let traceparent = request.headers().get("traceparent").and_then(|value| value.to_str().ok());
    let traceparent = traceparent.filter(|text| is_traceparent(text));
    tracing::info_span!("call", rpc = call.map_or(OTHER, Call::as_str), traceparent, request_id = Empty)
}

/// Whether a text is a traceparent of version 00 (W3C Trace Context, 3.2); anything else is no id, and is not logged.
fn is_traceparent(text: &str) -> bool {
    let hex = |part: &str, length: usize| {
        part.len() == length && part.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'))
    };
    let parts: Vec<&str> = text.split('-').collect();
    matches!(parts[..], ["00", trace, parent, flags] if hex(trace, 32) && hex(parent, 16) && hex(flags, 2))
}
