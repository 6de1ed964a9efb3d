//! The server: services, limits, health, shutdown.

use std::{future::Future, sync::Arc, time::Duration};

use tokio::{net::TcpListener, task::JoinSet};
use tokio_stream::StreamExt as _;
use tonic::{
    server::NamedService,
    service::{Routes, RoutesBuilder},
    transport::Server,
};

use super::{
    audit_service::AuditService,
    backup_service::BackupService,
    breach_service::BreachService,
    consent_service::ConsentService,
    document_service::DocumentService,
    gate::GateLayer,
    gathered::Gathered,
    health::{Health, watch_certificates, watch_kms, watch_readiness, watch_residency, watch_staff_keys},
    key_service::KeyService,
    limits::{
        KEEPALIVE_INTERVAL, KEEPALIVE_TIMEOUT, MAX_CONNECTION_AGE, MAX_CONNECTION_AGE_GRACE,
        MAX_FAULTY_STREAMS, MAX_HEADER_BYTES, MAX_REQUEST_BYTES, MAX_RESET_STREAMS, MAX_RESPONSE_BYTES,
        MAX_STREAMS_PER_CONNECTION, STREAM_WINDOW,
    },
    operation_service::OperationService,
    pb::{
        DESCRIPTORS, audit_service_server::AuditServiceServer, backup_service_server::BackupServiceServer,
        breach_service_server::BreachServiceServer, consent_service_server::ConsentServiceServer,
        document_service_server::DocumentServiceServer, key_service_server::KeyServiceServer,
        operation_service_server::OperationServiceServer, platform_service_server::PlatformServiceServer,
        policy_service_server::PolicyServiceServer, proposal_service_server::ProposalServiceServer,
        register_service_server::RegisterServiceServer, residency_service_server::ResidencyServiceServer,
        retention_service_server::RetentionServiceServer, rights_service_server::RightsServiceServer,
        subject_service_server::SubjectServiceServer, vault_service_server::VaultServiceServer,
    },
    platform_service::PlatformService,
    policy_service::PolicyService,
    proposal_service::ProposalService,
    register_service::RegisterService,
    residency_service::ResidencyService,
    retention_service::RetentionService,
    rights_service::RightsService,
    subject_service::SubjectService,
    throttle::{CallerLimits, Throttle},
    tls::{ServerTls, incoming},
    vault_service::VaultService,
};
use crate::vault::{Vault, refusals::Refusal};

/// Time in which calls that are cut off are told so.
const SAY_SO: Duration = Duration::from_secs(1);

/// How a server runs.
#[derive(Debug, Clone, Copy)]
pub struct ServeOptions {
    /// Whether to offer gRPC reflection (version 1).
    pub reflection: bool,
    /// How long the health service says `NOT_SERVING` before connections are drained.
    pub lame_duck: Duration,
    /// How long running calls may take to end after that; then they end as UNAVAILABLE.
    pub drain: Duration,
    /// What each caller may ask of this process.
    pub limits: CallerLimits,
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

/// Serves until `shutdown` is ready, then drains: `health` says `NOT_SERVING`, new work stops, running calls end, and
/// after a hard limit the rest is cut off.
///
/// # Errors
/// [`ServeError`].
pub async fn serve(
    listener: TcpListener,
    tls: ServerTls,
    vault: Arc<Vault>,
    health: Health,
    options: ServeOptions,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> Result<(), ServeError> {
    health.set_all(true).await;
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
    let (cut, cutting) = tokio::sync::watch::channel(false);
    let gate = GateLayer {
        vault: Arc::clone(&vault),
        tls: tls.clone(),
        throttle: Arc::new(Throttle::new(options.limits)),
        cut: cutting,
    };
    let refusing = Arc::clone(&vault);
    let refused = move || refusing.count_stranger(Refusal::Handshake);
    let mut routes = routes(&vault);
    routes.add_service(health.service());
    if let Some(reflection) = reflection {
        routes.add_service(reflection);
    }

    let mut watching = JoinSet::new();
    if let Some(every) = vault.residency_interval() {
        watching.spawn(watch_residency(Arc::clone(&vault), every, health.clone()));
    }
    watching.spawn(watch_certificates(Arc::clone(&vault), tls.watch(), health.clone()));
    watching.spawn(watch_staff_keys(Arc::clone(&vault), health.clone()));
    watching.spawn(watch_kms(Arc::clone(&vault), health.clone()));
    watching.spawn(watch_readiness(vault.readiness(), health.clone()));
    let (drain, draining) = tokio::sync::oneshot::channel();
    let signal = async move {
        shutdown.await;
        watching.shutdown().await;
        health.set_all(false).await;
        tokio::time::sleep(options.lame_duck).await;
        let _server_ended = drain.send(());
    };
    let connections = incoming(listener, tls, refused).map(|stream| stream.map(Gathered::new));
    let server = Server::builder()
        .http2_keepalive_interval(Some(KEEPALIVE_INTERVAL))
        .http2_keepalive_timeout(Some(KEEPALIVE_TIMEOUT))
        // A certificate is checked in the handshake alone, so no connection outlives it for long.
        .max_connection_age(MAX_CONNECTION_AGE)
        .max_connection_age_grace(MAX_CONNECTION_AGE_GRACE)
        .max_concurrent_streams(MAX_STREAMS_PER_CONNECTION)
        .initial_stream_window_size(STREAM_WINDOW)
        .initial_connection_window_size(STREAM_WINDOW * MAX_STREAMS_PER_CONNECTION)
        .http2_max_header_list_size(MAX_HEADER_BYTES)
        .http2_max_pending_accept_reset_streams(Some(MAX_RESET_STREAMS))
        .http2_max_local_error_reset_streams(Some(MAX_FAULTY_STREAMS))
        .layer(gate)
        .add_routes(routes.routes())
        .serve_with_incoming_shutdown(connections, signal);
    let hard_cap = async move {
        if draining.await.is_ok() {
            tokio::time::sleep(options.drain).await;
            cut.send_replace(true);
            tokio::time::sleep(SAY_SO).await;
        }
    };
    tokio::select! {
        ended = server => Ok(ended?),
        () = hard_cap => {
            tracing::warn!("some connections did not end in time and were cut off");
            Ok(())
        }
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

        /// Names of the services, as health knows them.
        pub(super) const SERVICES: &[&str] = &[$(<$server<$service> as NamedService>::NAME,)+];
    };
}

services! {
    VaultServiceServer of VaultService;
    ConsentServiceServer of ConsentService;
    SubjectServiceServer of SubjectService;
    DocumentServiceServer of DocumentService;
    PolicyServiceServer of PolicyService;
    PlatformServiceServer of PlatformService;
    KeyServiceServer of KeyService;
    ProposalServiceServer of ProposalService;
    OperationServiceServer of OperationService;
    RetentionServiceServer of RetentionService;
    RightsServiceServer of RightsService;
    BreachServiceServer of BreachService;
    RegisterServiceServer of RegisterService;
    BackupServiceServer of BackupService;
    ResidencyServiceServer of ResidencyService;
    AuditServiceServer of AuditService;
}
