//! The server: services, limits, health, shutdown.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{
    net::TcpListener,
    task::JoinSet,
    time::{MissedTickBehavior, interval},
};
use tonic::{
    service::{Routes, RoutesBuilder},
    transport::Server,
};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::{
    audit_service::AuditService,
    backup_service::BackupService,
    consent_service::ConsentService,
    gate::GateLayer,
    key_service::KeyService,
    limits::{
        KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MAX_CONNECTION_AGE, MAX_CONNECTION_AGE_GRACE,
        MAX_HEADER_BYTES, MAX_REQUEST_BYTES, MAX_RESPONSE_BYTES, MAX_STREAMS_PER_CONNECTION,
    },
    operation_service::OperationService,
    pb::{
        DESCRIPTORS, audit_service_server::AuditServiceServer, backup_service_server::BackupServiceServer,
        consent_service_server::ConsentServiceServer, key_service_server::KeyServiceServer,
        operation_service_server::OperationServiceServer, platform_service_server::PlatformServiceServer,
        policy_service_server::PolicyServiceServer, proposal_service_server::ProposalServiceServer,
        subject_service_server::SubjectServiceServer, vault_service_server::VaultServiceServer,
    },
    platform_service::PlatformService,
    policy_service::PolicyService,
    proposal_service::ProposalService,
    subject_service::SubjectService,
    tls::{ServerTls, incoming},
    vault_service::VaultService,
};
use crate::vault::{Vault, refusals::Refusal};

/// Name in the health service under which stands whether the KMS answers.
const KMS: &str = "sandyq.kms";
const KMS_CHECK_EVERY: Duration = Duration::from_secs(15);

/// How a server runs.
#[derive(Debug, Clone, Copy)]
pub struct ServeOptions {
    /// Whether to offer gRPC reflection (version 1).
    pub reflection: bool,
    /// How long the health service says `NOT_SERVING` before connections are drained.
    pub lame_duck: Duration,
    /// How long running calls may take to end after that.
    pub drain: Duration,
}

/// Why serving ended.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// The transport failed.
    #[error("the server failed")]
    Transport(#[from] tonic::transport::Error),
    /// The reflection descriptors do not load.
    #[error("reflection could not be set up")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// Serves until `shutdown` is ready, then drains: health says `NOT_SERVING`, new work stops, running calls end, and
/// after a hard limit the rest is cut off.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(
    listener: TcpListener,
    tls: ServerTls,
    vault: Arc<Vault>,
    options: ServeOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    let (health, health_service) = tonic_health::server::health_reporter();
    set_serving(&health).await;
    health.set_service_status(KMS, ServingStatus::Serving).await;
    let reflection = if options.reflection {
        Some(
            tonic_reflection::server::Builder::configure()
                .register_encoded_file_descriptor_set(DESCRIPTORS)
                .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
                .build_v1()?,
        )
    } else {
        None
    };
    let gate = GateLayer { vault: Arc::clone(&vault), blocked: Arc::clone(&tls.blocked) };
    let refusing = Arc::clone(&vault);
    let refused = move || refusing.count_stranger(Refusal::Handshake);
    let mut routes = routes(&vault);
    routes.add_service(health_service);
    if let Some(reflection) = reflection {
        routes.add_service(reflection);
    }

    let mut watching = JoinSet::new();
    watching.spawn(watch_kms(vault, health.clone()));
    let (drain, draining) = tokio::sync::oneshot::channel();
    let signal = async move {
        shutdown.await;
        watching.shutdown().await;
        set_not_serving(&health).await;
        tokio::time::sleep(options.lame_duck).await;
        let _server_ended = drain.send(());
    };
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        // A certificate is checked in the handshake alone, so no connection outlives it for long.
        .max_connection_age(MAX_CONNECTION_AGE)
        .max_connection_age_grace(MAX_CONNECTION_AGE_GRACE)
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .layer(gate)
        .add_routes(routes.routes())
        .serve_with_incoming_shutdown(incoming(listener, tls, refused), signal);
    let hard_cap = async move {
        if draining.await.is_ok() {
            tokio::time::sleep(options.drain).await;
        }
    };
    tokio::select! {
        ended = server => Ok(ended?),
        () = hard_cap => {
            tracing::warn!("some calls did not end in time and were cut off");
            Ok(())
        }
    }
}

/// Says of the KMS whether it answers, and of nothing else: what is open needs it no more.
async fn watch_kms(vault: Arc<Vault>, health: HealthReporter) {
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
        let status = if answers { ServingStatus::Serving } else { ServingStatus::NotServing };
        health.set_service_status(KMS, status).await;
    }
}

/// Every service of the contract, with its limits and its health.
macro_rules! services {
    ($($server:ident of $service:ident;)+) => {
        fn routes(vault: &Arc<Vault>) -> RoutesBuilder {
            let mut routes = Routes::builder();
            $(
                let service = $server::new($service::new(Arc::clone(vault)));
                let service = service.max_decoding_message_size(MAX_REQUEST_BYTES);
                routes.add_service(service.max_encoding_message_size(MAX_RESPONSE_BYTES));
            )+
            routes
        }

        async fn set_serving(health: &HealthReporter) {
            $(health.set_serving::<$server<$service>>().await;)+
        }

        async fn set_not_serving(health: &HealthReporter) {
            for name in ["", KMS] {
                health.set_service_status(name, ServingStatus::NotServing).await;
            }
            $(health.set_not_serving::<$server<$service>>().await;)+
        }
    };
}

services! {
    VaultServiceServer of VaultService;
    ConsentServiceServer of ConsentService;
    SubjectServiceServer of SubjectService;
    PolicyServiceServer of PolicyService;
    PlatformServiceServer of PlatformService;
    KeyServiceServer of KeyService;
    ProposalServiceServer of ProposalService;
    OperationServiceServer of OperationService;
    BackupServiceServer of BackupService;
    AuditServiceServer of AuditService;
}
