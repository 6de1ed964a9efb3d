//! The `sandyq` command.

/// A call makes some hundred small objects and frees them on another thread than made them: the system's allocator takes
/// an eighth of the processor for that, this one a third of it (docs/performance.md).
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> std::process::ExitCode {
    sandyq::cli::run()
}
