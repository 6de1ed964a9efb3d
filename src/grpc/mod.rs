//! The contract `sandyq.v1` over gRPC and mutual TLS. Thin: it authenticates, converts, and calls the vault.

pub mod audit_service;
pub mod authn;
pub mod backup_service;
pub mod block_list;
pub mod consent_service;
mod convert;
pub mod document_service;
mod gate;
pub mod health;
mod kept;
pub mod key_service;
mod limits;
mod log_convert;
pub mod operation_service;
pub mod pb;
mod platform_convert;
pub mod platform_service;
pub mod policy_service;
mod proposal_convert;
pub mod proposal_service;
pub mod residency_service;
pub mod server;
pub mod status;
pub mod subject_service;
pub mod throttle;
pub mod tls;
pub mod vault_service;
