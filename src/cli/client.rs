//! Connections of the command to a vault.

use std::path::PathBuf;

use tonic::{
    Code, Status,
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};

use super::{output::Failure, token_tls};
use crate::{
    config::{Connection, Credentials},
    crypto::random::SystemRng,
    domain::{ids::RequestId, time::Clock},
    grpc::pb::{
        audit_service_client::AuditServiceClient, backup_service_client::BackupServiceClient,
        breach_service_client::BreachServiceClient, consent_service_client::ConsentServiceClient,
        document_service_client::DocumentServiceClient, key_service_client::KeyServiceClient,
        operation_service_client::OperationServiceClient, platform_service_client::PlatformServiceClient,
        policy_service_client::PolicyServiceClient, proposal_service_client::ProposalServiceClient,
        register_service_client::RegisterServiceClient, residency_service_client::ResidencyServiceClient,
        retention_service_client::RetentionServiceClient, rights_service_client::RightsServiceClient,
        subject_service_client::SubjectServiceClient, vault_service_client::VaultServiceClient,
    },
};

const CONNECT_TIMEOUT: std::time::Duration = std::time::Duration::from_secs(10);

/// Where the vault is and who calls.
#[derive(clap::Args, Debug, Clone)]
pub(super) struct Args {
    /// File that names the vault's address and the caller's certificate (docs/configuration.md).
    #[arg(long, value_name = "FILE", default_value = "sandyq-client.toml")]
    pub(super) connection: PathBuf,
}

impl Args {
    pub(super) async fn connect(&self) -> Result<Channel, Failure> {
        connect(&Connection::load(&self.connection)?).await
    }
}

/// Connects over mutual TLS.
pub(super) async fn connect(connection: &Connection) -> Result<Channel, Failure> {
    let (certificate, key) = match connection.credentials()? {
        Credentials::Files { certificate, key } => (certificate, key),
        Credentials::Token { certificate, key } => {
            return token_tls::connect(connection, certificate, key).await;
        }
    };
    let mut tls = ClientTlsConfig::new()
        .ca_certificate(Certificate::from_pem(connection.authority()?))
        .identity(Identity::from_pem(certificate, key.as_bytes()));
    if let Some(name) = &connection.server_name {
        tls = tls.domain_name(name);
    }
    let endpoint = Endpoint::from_shared(connection.target.clone())?
        .tls_config(tls)?
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true);
    Ok(endpoint.connect().await?)
}

pub(super) fn vault(channel: Channel) -> VaultServiceClient<Channel> {
    VaultServiceClient::new(channel)
}

pub(super) fn consents(channel: Channel) -> ConsentServiceClient<Channel> {
    ConsentServiceClient::new(channel)
}

pub(super) fn subjects(channel: Channel) -> SubjectServiceClient<Channel> {
    SubjectServiceClient::new(channel)
}

pub(super) fn documents(channel: Channel) -> DocumentServiceClient<Channel> {
    DocumentServiceClient::new(channel)
}

pub(super) fn audit(channel: Channel) -> AuditServiceClient<Channel> {
    AuditServiceClient::new(channel)
}

pub(super) fn platforms(channel: Channel) -> PlatformServiceClient<Channel> {
    PlatformServiceClient::new(channel)
}

pub(super) fn keys(channel: Channel) -> KeyServiceClient<Channel> {
    KeyServiceClient::new(channel)
}

pub(super) fn retention(channel: Channel) -> RetentionServiceClient<Channel> {
    RetentionServiceClient::new(channel)
}

pub(super) fn rights(channel: Channel) -> RightsServiceClient<Channel> {
    RightsServiceClient::new(channel)
}

pub(super) fn registers(channel: Channel) -> RegisterServiceClient<Channel> {
    RegisterServiceClient::new(channel)
}

pub(super) fn breaches(channel: Channel) -> BreachServiceClient<Channel> {
    BreachServiceClient::new(channel)
}

pub(super) fn backups(channel: Channel) -> BackupServiceClient<Channel> {
    BackupServiceClient::new(channel)
}

pub(super) fn residency(channel: Channel) -> ResidencyServiceClient<Channel> {
    ResidencyServiceClient::new(channel)
}

pub(super) fn operations(channel: Channel) -> OperationServiceClient<Channel> {
    OperationServiceClient::new(channel)
}

pub(super) fn policies(channel: Channel) -> PolicyServiceClient<Channel> {
    // A policy has at most 1 MiB, and an answer may hold one.
    PolicyServiceClient::new(channel)
}

pub(super) fn proposals(channel: Channel) -> ProposalServiceClient<Channel> {
    // A plan may hold a policy of 1 MiB, whose JSON is longer.
    ProposalServiceClient::new(channel).max_decoding_message_size(8 * 1024 * 1024)
}

/// Whether a call ended for a reason that another one may not meet.
pub(super) fn broke_off(status: &Status) -> bool {
    matches!(
        status.code(),
        Code::Unavailable | Code::Aborted | Code::DeadlineExceeded | Code::Unknown | Code::Cancelled
    )
}

/// An id for one logical call.
pub(super) fn request_id() -> Result<String, Failure> {
    request_id_by(&Clock::default())
}

/// The same for a server that goes by this clock.
pub(super) fn request_id_by(clock: &Clock) -> Result<String, Failure> {
    Ok(RequestId::new(clock.now(), &SystemRng::new())?.to_string())
}
