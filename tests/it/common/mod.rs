//! Synthetic people, a served installation, and an open vault without a server.

pub mod backend;
pub mod child;
pub mod counting;
pub mod documents;
pub mod frames;
pub mod gate;
pub mod house;
pub mod line;
pub mod metrics;
pub mod officers;
pub mod operations;
pub mod pair;
pub mod people;
pub mod places;
pub mod random;
pub mod raw;
pub mod s3;
pub mod second;
pub mod served;
pub mod shutting;
pub mod token;
pub mod transit;
pub mod uploads;
pub mod vault;
pub mod wire;
