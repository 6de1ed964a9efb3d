//! Generated from `proto/sandyq/v1`. Messages with personal or secret fields have a `Debug` that shows only their
//! public fields.

#![allow(
    clippy::pedantic,
    clippy::restriction,
    clippy::allow_attributes,
    clippy::allow_attributes_without_reason,
    missing_docs,
    unused_qualifications,
    reason = "generated code"
)]

tonic::include_proto!("sandyq.v1");
include!(concat!(env!("OUT_DIR"), "/redacted_debug.rs"));

/// The compiled contract, for reflection.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/sandyq_descriptor.bin"));
