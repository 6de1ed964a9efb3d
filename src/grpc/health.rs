//! Health (`grpc.health.v1`), beside the calls and on a listener of its own without TLS, which also answers `/metrics`.
//!
//! ```text
//! sandyq.live    the process answers; it stays so while its database is away
//! sandyq.ready   it can serve: the database answers and takes what is written, the clock is right, no shutdown began
//! sandyq.kms     the KMS answers; what is open is served without it
//! sandyq.certificates  the certificates that the configuration names are those that are served
//! sandyq.staff         staff can act: hardware keys are not required, or two people have one
//! sandyq.residency     everything that holds bytes is in a declared site
//! "", sandyq.v1.*  as sandyq.ready
//! ```

use std::{
    future::Future,
    net::IpAddr,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use tokio::{
    net::TcpListener,
    sync::watch,
    time::{MissedTickBehavior, interval},
};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{body::Body, codegen::http, service::Routes, transport::Server};
use tonic_health::{
    ServingStatus,
    pb::health_server::HealthServer,
    server::{HealthReporter, HealthService},
};
use tower::{Layer, Service};

use super::{
    limits::{HEALTH_ANSWERS_WITHIN, HEALTH_CONNECTION_AGE, HEALTH_STREAMS, MAX_HEADER_BYTES},
    server::SERVICES,
    tls::InUse,
};
use crate::{domain::staff_key::KeyRule, vault::Vault};

/// Whether the process answers at all.
pub const LIVE: &str = "sandyq.live";
/// Whether it can serve.
pub const READY: &str = "sandyq.ready";
/// Whether the KMS answers.
const KMS: &str = "sandyq.kms";
/// Whether staff can do more than enrol its first hardware keys.
const STAFF: &str = "sandyq.staff";
/// Whether the certificates that the configuration names are those that are served.
const CERTIFICATES: &str = "sandyq.certificates";
/// Whether everything that holds bytes is in a declared site.
const RESIDENCY: &str = "sandyq.residency";
const KMS_CHECK_EVERY: Duration = Duration::from_secs(15);
const STAFF_CHECK_EVERY: Duration = Duration::from_secs(1);
/// Checks of staff from one count of subjects to the next: an hour.
const STAFF_COUNT_EVERY: u32 = 3_600;

/// What the health service says.
#[derive(Debug, Clone, Default)]
pub struct Health(HealthReporter);

impl Health {
    /// Alive, and not ready yet.
    pub async fn starting() -> Self {
        let health = Self::default();
        for name in [LIVE, KMS, CERTIFICATES, RESIDENCY, STAFF] {
            health.set(name, true).await;
        }
        health.set_all(false).await;
        health
    }

    async fn set(&self, name: &str, serves: bool) {
        let status = if serves { ServingStatus::Serving } else { ServingStatus::NotServing };
        self.0.set_service_status(name, status).await;
    }

    /// Of everything that needs a vault that serves. [`READY`] comes last, so that whoever watches it finds the rest as it says.
    pub(super) async fn set_all(&self, serves: bool) {
        for name in SERVICES.iter().chain(&["", READY]) {
            self.set(name, serves).await;
        }
    }

    pub(super) fn service(&self) -> HealthServer<HealthService> {
        HealthServer::new(HealthService::from_health_reporter(self.0.clone()))
    }

    /// Answers health, and `/metrics` with the text of `metrics`, without TLS, until it is dropped.
    ///
    /// # Errors
    /// [`tonic::transport::Error`].
    pub async fn listen(
        self,
        listener: TcpListener,
        metrics: impl Fn() -> String + Send + Sync + 'static,
    ) -> Result<(), tonic::transport::Error> {
        Server::builder()
            .accept_http1(true)
            .concurrency_limit_per_connection(HEALTH_STREAMS)
            .max_concurrent_streams(u32::try_from(HEALTH_STREAMS).unwrap_or(u32::MAX))
            .http2_max_header_list_size(MAX_HEADER_BYTES)
            .max_connection_age(HEALTH_CONNECTION_AGE)
            .max_connection_age_grace(HEALTH_ANSWERS_WITHIN)
            .layer(MetricsLayer(Arc::new(metrics)))
            .add_routes(Routes::new(self.service()))
            .serve_with_incoming(TcpListenerStream::new(listener))
            .await
    }
}

/// Whether an address is one that only this machine or a private network reaches. The listener has no TLS and asks nobody
/// who they are.
#[must_use]
pub fn is_private(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(ip) => {
            let shared = ip.octets()[0] == 100 && (64..128).contains(&ip.octets()[1]);
            ip.is_loopback() || ip.is_private() || ip.is_link_local() || shared
        }
        IpAddr::V6(ip) => ip.is_loopback() || ip.is_unique_local() || ip.is_unicast_link_local(),
    }
}

/// Says of the KMS whether it answers, and of nothing else: what is open needs it no more.
pub(super) async fn watch_kms(vault: Arc<Vault>, health: Health) {
    let mut ticks = interval(KMS_CHECK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut answers = true;
    loop {
        ticks.tick().await;
        match (vault.check_kms().await, answers) {
            (Ok(()), true) | (Err(_), false) => continue,
            (Ok(()), false) => tracing::info!(kms = vault.describe_kms(), "the KMS answers again"),
            (Err(error), true) => {
                let error: &(dyn std::error::Error + 'static) = &error;
                let kms = vault.describe_kms();
                tracing::error!(
                    kms,
                    error,
                    "the KMS is away: what is open is served on, but no platform can be made, and no restart succeeds"
                );
            }
        }
        answers = !answers;
        vault.meters().set_kms_answers(answers);
        health.set(KMS, answers).await;
    }
}

/// Says of the certificates whether those of the files are served, and when they end, and of nothing else.
pub(super) async fn watch_certificates(
    vault: Arc<Vault>,
    mut in_use: watch::Receiver<InUse>,
    health: Health,
) {
    // What was said before this began to listen counts too.
    loop {
        let InUse { newest, server_until, authority_until } = *in_use.borrow_and_update();
        vault.meters().certificates().set(newest, [server_until, authority_until]);
        health.set(CERTIFICATES, newest).await;
        if in_use.changed().await.is_err() {
            return;
        }
    }
}

/// Says whether staff can act, and nothing else: it cannot where hardware keys are required and fewer than two people have
/// one. Counts subjects now and then, since beyond a number of them keys are required.
pub(super) async fn watch_staff_keys(vault: Arc<Vault>, health: Health) {
    let mut ticks = interval(STAFF_CHECK_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = None;
    for tick in (0..STAFF_COUNT_EVERY).cycle() {
        ticks.tick().await;
        let rule = vault.key_rule();
        if tick == 0 && told.is_some() {
            // What it was stays where the database does not answer, which is in the server's log already.
            let _counted = vault.look_at_staff_keys().await;
        }
        if told != Some(rule) {
            health.set(STAFF, rule != KeyRule::Begun).await;
            told = Some(rule);
        }
    }
}

/// Looks where everything is, and says whether all is in the declared sites, and nothing else.
pub(super) async fn watch_residency(vault: Arc<Vault>, every: Duration, health: Health) {
    let mut ticks = interval(every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut told = true;
    loop {
        ticks.tick().await;
        let inside = match vault.look_at_residency().await {
            Ok(sight) => sight.outside().next().is_none(),
            // What it was last stays: nothing new is known.
            Err(error) => {
                tracing::warn!(%error, "residency could not be looked at");
                continue;
            }
        };
        if inside != told {
            health.set(RESIDENCY, inside).await;
            told = inside;
        }
    }
}

/// Passes on what heartbeats find.
pub(super) async fn watch_readiness(mut ready: watch::Receiver<bool>, health: Health) {
    loop {
        let serves = *ready.borrow_and_update();
        health.set_all(serves).await;
        if ready.changed().await.is_err() {
            return;
        }
    }
}

type Render = Arc<dyn Fn() -> String + Send + Sync>;

/// Puts `/metrics` before a service.
#[derive(Clone)]
struct MetricsLayer(Render);

impl<S> Layer<S> for MetricsLayer {
    type Service = Metrics<S>;

    fn layer(&self, inner: S) -> Metrics<S> {
        Metrics { inner, render: Arc::clone(&self.0) }
    }
}

#[derive(Clone)]
struct Metrics<S> {
    inner: S,
    render: Render,
}

type Answer<E> = Pin<Box<dyn Future<Output = Result<http::Response<Body>, E>> + Send>>;

impl<S> Service<http::Request<Body>> for Metrics<S>
where
    S: Service<http::Request<Body>, Response = http::Response<Body>>,
    S::Future: Send + 'static,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Answer<S::Error>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        if request.uri().path() != "/metrics" {
            return Box::pin(self.inner.call(request));
        }
        let answer = if request.method() == http::Method::GET {
            let text = http::HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
            let mut answer = http::Response::new(Body::new((self.render)()));
            answer.headers_mut().insert(http::header::CONTENT_TYPE, text);
            answer
        } else {
            let mut answer = http::Response::new(Body::empty());
            *answer.status_mut() = http::StatusCode::METHOD_NOT_ALLOWED;
            answer
        };
        Box::pin(async move { Ok(answer) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_addresses_that_the_world_cannot_reach_are_private() {
        for private in [
            "127.0.0.1",
            "10.1.2.3",
            "172.16.0.1",
            "192.168.1.1",
            "100.64.0.9",
            "169.254.1.1",
            "::1",
            "fd00::1",
        ] {
            assert!(is_private(private.parse().unwrap()), "{private}");
        }
        for other in
            ["0.0.0.0", "::", "8.8.8.8", "172.32.0.1", "100.128.0.1", "2001:db8::1", "::ffff:8.8.8.8"]
        {
            assert!(!is_private(other.parse().unwrap()), "{other}");
        }
    }
}
