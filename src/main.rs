//! The `sandyq` command.

/// A call makes some hundred small objects, and most end on another thread than they began on, which this allocator is made for
/// (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    sandyq::cli::run()
}
