//! The `sandyq` command.

fn main() -> std::process::ExitCode {
    sandyq::cli::run()
}
