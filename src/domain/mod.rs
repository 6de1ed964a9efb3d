//! The words of the vault: ids, fields and their types, tokens, plaintexts, time and randomness.
//!
//! This room touches nothing: no files, no network, no clock but [`time::Clock`]. Every other room may use it.

pub mod authority;
pub mod birth;
pub mod breach;
pub mod calendar;
pub mod caller;
pub mod canonical;
pub mod card;
pub mod code;
pub mod consent;
pub mod data_copy;
pub mod document;
pub mod event;
pub mod field;
pub mod horizon;
pub mod ids;
pub mod iin;
pub mod names;
pub mod operation;
pub mod outreach;
pub mod platform;
pub mod proposal;
pub mod receipt;
pub mod recipient;
pub mod reference;
pub mod replica;
pub mod rights;
pub mod rng;
pub mod secret;
pub mod staff_key;
pub mod subject;
pub mod territory;
pub mod time;
pub mod token;
