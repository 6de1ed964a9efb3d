//! What stands before every call, health and reflection too: the block list, what other replicas changed, the span by
//! which log lines of one call are known, how much a caller may ask at once, and the words for what the transport itself refuses.

use std::{
    future::{Future, poll_fn},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Instant,
};

use http_body::Body as _;
use tokio::time::timeout;
use tonic::{
    Code, Status,
    body::Body,
    codegen::{Bytes, http},
};
use tower::{Layer, Service};
use tracing::{Instrument as _, Span, field::Empty};

use super::{
    authn::{Peer, Standing},
    kept::{Cut, Kept, cut},
    limits::{HEAD_LIMIT, HEARD_BYTES, HEARD_WITHIN, ends_at, in_time},
    status::{caller_limited, of_transport, shutting_down, status},
    throttle::{Running, Throttle},
    tls::ServerTls,
};
use crate::vault::{
    Vault,
    access::Call,
    error::VaultError,
    meters::OTHER,
    refusals::Refusal,
    traces::{Part, TraceParent, timed},
};

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
        self.vault.meters().count_call(call, status_of(&answer), started.elapsed());
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
        let parent = parent_of(&request);
        let span = span_of(call, parent.map(|(text, _)| text));
        let recording = gate.vault.trace(parent.map(|(_, parent)| parent), call);
        let ours = request.uri().path().starts_with(CONTRACT);
        // A call that takes a stream is as long as its stream.
        let most = (!request.uri().path().ends_with(UPLOAD)).then_some(HEAD_LIMIT);
        let by = ends_at(request.headers(), most, started.into());
        let answered = async move {
            let entering = gate.enter(request.extensions().get::<Peer>());
            let entered = timed(Part::Enter, in_time(by, entering)).await;
            let running = match entered.flatten() {
                Ok(running) => running,
                Err(status) => {
                    if most.is_some() {
                        hear_out(request.into_body()).await;
                    }
                    return Ok(gate.counted(call, started, status.into_http()));
                }
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
        let answered = answered.instrument(span);
        match recording {
            None => Box::pin(answered),
            Some(recording) => {
                Box::pin(recording.of(answered, |answer| answer.as_ref().map_or(usize::MAX, status_of)))
            }
        }
    }
}

/// Takes the message of a call that is refused, where it is short and comes at once. An answer before its end resets the stream, and
/// what is under way on many such streams looks like a client's fault, which ends its connection and the calls on it.
async fn hear_out(mut message: Body) {
    let taking = async {
        let mut left = HEARD_BYTES;
        while let Some(Ok(frame)) = poll_fn(|context| Pin::new(&mut message).poll_frame(context)).await {
            let Some(rest) = left.checked_sub(frame.data_ref().map_or(0, Bytes::len)) else { return };
            left = rest;
        }
    };
    // Who sends it slowly is refused all the same.
    let _late = timeout(HEARD_WITHIN, taking).await;
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

/// Number of the status with which an answer begins.
fn status_of(answer: &http::Response<Body>) -> usize {
    let code = answer.headers().get(GRPC_STATUS).map(http::HeaderValue::as_bytes);
    usize::try_from(i32::from(code.map_or(Code::Ok, Code::from_bytes))).unwrap_or(usize::MAX)
}

/// The caller's place in a trace, as it wrote it; anything else under that name is no id, and is not logged.
fn parent_of(request: &http::Request<Body>) -> Option<(&str, TraceParent)> {
    let text = request.headers().get("traceparent")?.to_str().ok()?;
    TraceParent::parse(text).map(|parent| (text, parent))
}

/// The span of a call, by which its log lines are known. Authentication records the request id, once it has parsed.
fn span_of(call: Option<Call>, traceparent: Option<&str>) -> Span {
    tracing::info_span!("call", rpc = call.map_or(OTHER, Call::as_str), traceparent, request_id = Empty)
}
