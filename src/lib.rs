//! Sandyq: a gRPC vault for the personal data of Kazakhstan's online platforms.
//!
//! The rooms and who may use whom: `main → cli, grpc → vault → {policy, audit, crypto, store, blobs, residency} → domain`.
//! Rooms on one level do not import each other; `tests/it/architecture.rs` holds the house to it.

pub mod audit;
pub mod blobs;
pub mod cli;
pub mod config;
pub mod crypto;
pub mod domain;
pub mod grpc;
pub mod net;
pub mod policy;
pub mod residency;
pub mod store;
pub mod telemetry;
pub mod vault;
