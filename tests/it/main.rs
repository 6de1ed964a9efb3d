//! The one integration-test binary: a file a topic. Servers are real: gRPC over mutual TLS on loopback, SQLite files.

#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test that cannot go on should stop where it stands"
)]
#![expect(clippy::print_stdout, reason = "seeds and counts belong into the output of a failed test")]
#![expect(unreachable_pub, reason = "one binary: `pub` says what the common parts offer")]

mod common;

mod architecture;
mod audit_keys;
mod audit_log;
mod audit_order;
mod authentication;
mod backups;
mod bad_input;
mod bench;
mod breaches;
mod buckets;
mod clocks;
mod clogged;
mod command;
mod commits;
mod consents;
mod contract;
mod disclosures;
mod disk_full;
mod document_command;
mod documents;
mod documents_collected;
mod documents_erased;
mod documents_resumed;
mod documents_s3;
mod failover;
mod faults;
mod fsync_fails;
mod fuzzed;
mod horizon;
mod import;
mod index_rotation;
mod interleavings;
mod key_reports;
mod keys;
mod kill;
mod kms;
mod leaks;
mod limits;
mod lines;
mod log_questions;
mod mirror;
mod mirrored;
mod model;
mod mutants;
mod overload;
mod paused;
mod plans;
mod policies;
mod policy_walk;
mod pooler;
mod proposals;
mod readme;
mod receipts;
mod recipient_keys;
mod reconciled;
mod reconciled_documents;
mod registers;
mod rekey;
mod releases;
mod reload;
mod residency;
mod restored;
mod retention;
mod rights;
mod rights_export;
mod root_keys;
mod rules;
mod rules_served;
mod runbook;
mod same_cost;
mod scenarios;
mod shutdown;
mod staff;
mod staff_command;
mod staff_keys;
mod stored_keys;
mod subjects;
mod tampering;
mod telemetry;
mod token_keys;
mod tokens;
mod traces;
mod two_people;
mod upgrades;
mod values;
mod warm_rows;
