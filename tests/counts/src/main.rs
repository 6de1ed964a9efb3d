//! Does one operation of the hot path so many times, for callgrind to count what it takes (`scripts/counts`, which subtracts one run
//! from a longer one). Everything is fixed: ids, keys, times, and what is random elsewhere.

use std::{env, process::ExitCode};

#[path = "../../../src/domain/mod.rs"]
pub mod domain;
#[path = "../../../src/policy/mod.rs"]
pub mod policy;

pub mod audit;
pub mod crypto;
mod operations;

/// The allocator of the binary that serves, and not that of the machine's C library.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    let operations = operations::all();
    let mut arguments = env::args().skip(1);
    let (Some(name), Some(rounds)) = (arguments.next(), arguments.next()) else {
        for name in operations.keys() {
            println!("{name}");
        }
        return ExitCode::SUCCESS;
    };
    let operation =
        operations.into_iter().find_map(|(known, operation)| (known == name).then_some(operation));
    let (Some(mut operation), Ok(rounds)) = (operation, rounds.parse::<u32>()) else {
        eprintln!("usage: counts [OPERATION ROUNDS]");
        return ExitCode::FAILURE;
    };
    for _ in 0..rounds {
        operation();
    }
    ExitCode::SUCCESS
}
