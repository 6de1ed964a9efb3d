//! The command. Data goes to stdout, progress and logs to stderr; every command that is not about a machine's own
//! files is a client of an RPC.

mod audit;
mod audit_read;
mod backup;
mod bench;
mod breach;
mod certificate;
mod client;
mod consent;
mod demo;
mod dev;
mod document;
mod health;
mod horizon;
mod html;
mod import;
mod init;
mod key_report;
mod keys;
mod kms;
pub mod local;
mod migrate;
mod mirror;
mod operation;
mod output;
mod outreach;
pub mod pki;
mod platform;
mod policy;
mod policy_read;
mod proposal;
mod receipt;
mod register;
mod registers;
mod reload;
mod residency;
mod restore;
mod retention;
mod rights;
mod serve;
mod staff;
mod subject;
mod territory;
mod token;
mod token_tls;
mod traces;
mod values;

use std::{io::Write as _, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{config, grpc, telemetry};
use output::Out;
pub use output::{Failure, exit};

/// A vault for the personal data of Kazakhstan's online platforms.
#[derive(Parser, Debug)]
#[command(name = "sandyq", version, about, max_term_width = 110, after_help = EXIT_CODES)]
struct Cli {
    /// Print data as JSON, one object.
    #[arg(long, global = true)]
    json: bool,
    #[command(subcommand)]
    command: Command,
}

const EXIT_CODES: &str = "Exit codes: 0 done; 1 failed; 2 wrong usage; 3 the log does not verify or rows differ from it; 4 the vault refused; 5 nothing is done yet, another person must approve it.";

#[derive(Subcommand, Debug)]
enum Command {
    /// Run the whole story with synthetic people in a temporary directory, and check its log.
    Demo(demo::Args),
    /// Start a vault for development: loopback, throw-away keys, synthetic people.
    Dev(dev::Args),
    /// Make a new installation, and enrol its first officers.
    Init(serve::ConfigArgs),
    /// Bring the database's schema to this binary's version.
    Migrate(migrate::Args),
    /// Put a backup into an empty database, and replay the mirror over it.
    Restore(restore::Args),
    /// Serve.
    Serve(serve::Args),
    /// Measure what this machine and this database do, against a bare server and the database alone.
    Bench(bench::Args),
    /// Ask a process on its health listener how it stands.
    Health(health::Args),
    /// Say who the vault takes the caller to be.
    Whoami(client::Args),
    /// Store values of a subject, read as JSON from stdin or a file, and print their tokens.
    Tokenize(values::TokenizeArgs),
    /// Store the people of a CSV or NDJSON file, and write their tokens to another.
    Import(import::ImportArgs),
    /// Print the values behind tokens, for a declared purpose.
    Detokenize(Box<values::DetokenizeArgs>),
    /// Withdraw and list consents.
    #[command(subcommand)]
    Consent(consent::Command),
    /// What is held of a person, who saw it, blocks, events, erasure.
    #[command(subcommand)]
    Subject(subject::Command),
    /// Images of documents: stored, read for a purpose, described, deleted.
    #[command(subcommand)]
    Document(document::Command),
    /// What a token stands for; look-ups by value, corrections, revocation.
    #[command(subcommand)]
    Token(token::Command),
    /// Export and verify the log.
    #[command(subcommand)]
    Audit(audit::Command),
    /// Platforms, callers, persons, recipients and budgets.
    #[command(subcommand)]
    Platform(platform::Command),
    /// The second factor of staff: keys on hardware.
    #[command(subcommand)]
    Staff(staff::Command),
    /// Privacy policies, and why a decision is as it is.
    #[command(subcommand)]
    Policy(policy::Command),
    /// Key versions and what they wrap; rotations while the vault serves.
    #[command(subcommand)]
    Keys(keys::Command),
    /// The KMS of a running vault.
    #[command(subcommand)]
    Kms(kms::Command),
    /// What ends when, and the sweep that destroys it.
    #[command(subcommand)]
    Retention(retention::Command),
    /// Requests of people about their data: registered, answered in the law's time.
    #[command(subcommand)]
    Rights(rights::Command),
    /// Breaches of the security of personal data: registered, told in the law's time.
    #[command(subcommand)]
    Breach(breach::Command),
    /// Registers: copies outside the vault, and a signed export of all of them.
    #[command(subcommand)]
    Registers(register::Command),
    /// Backups: begun, listed, and verified offline.
    #[command(subcommand)]
    Backup(backup::Command),
    /// Where everything is: declared sites, a look now, and a signed report.
    #[command(subcommand)]
    Residency(residency::Command),
    /// Long work: watched, paused, resumed, cancelled.
    #[command(subcommand)]
    Operation(operation::Command),
    /// Acts that wait for a second person.
    #[command(subcommand)]
    Proposal(proposal::Command),
    /// Print what a caller's certificate says: its URI, and what pins and block lists name it by.
    Certificate(certificate::Args),
    /// Print a fresh request id (`UUIDv7`), for a call made by hand.
    RequestId,
    /// Print completions for a shell.
    Completions {
        /// Shell.
        shell: clap_complete::Shell,
    },
}

/// Parses the arguments, runs the command, and says how it ended.
#[must_use]
pub fn run() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing is left to say where even this cannot be printed.
            let _printed = error.print();
            return ExitCode::from(if error.use_stderr() { exit::USAGE } else { exit::OK });
        }
    };
    grpc::tls::install_provider();
    let mut out = Out::new(cli.json);
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return out.failure(&error.into()),
    };
    match runtime.block_on(run_command(cli.command, &mut out)) {
        Ok(()) => ExitCode::from(exit::OK),
        Err(failure) => out.failure(&failure),
    }
}

async fn run_command(command: Command, out: &mut Out) -> Result<(), Failure> {
    let quiet = !matches!(command, Command::Serve(_) | Command::Dev(_));
    let format = if out.json { telemetry::LogFormat::Json } else { telemetry::LogFormat::Text };
    let filter = config::log_filter().unwrap_or_else(|| (if quiet { "error" } else { "info" }).to_owned());
    telemetry::start(format, &filter);
    match command {
        Command::Demo(args) => demo::run(&args, out).await,
        Command::Dev(args) => dev::run(&args, out).await,
        Command::Init(args) => init::run(&args, out).await,
        Command::Migrate(args) => migrate::run(&args, out).await,
        Command::Restore(args) => restore::run(&args, out).await,
        Command::Serve(args) => serve::run(&args, out).await,
        Command::Bench(args) => bench::run(&args, out).await,
        Command::Health(args) => health::run(&args, out).await,
        Command::Whoami(args) => values::whoami(&args, out).await,
        Command::Tokenize(args) => values::tokenize(&args, out).await,
        Command::Import(args) => import::run(&args, out).await,
        Command::Detokenize(args) => values::detokenize(*args, out).await,
        Command::Consent(command) => consent::run(command, out).await,
        Command::Subject(command) => subject::run(command, out).await,
        Command::Document(command) => document::run(command, out).await,
        Command::Token(command) => token::run(command, out).await,
        Command::Audit(command) => audit::run(command, out).await,
        Command::Platform(command) => platform::run(command, out).await,
        Command::Staff(command) => staff::run(command, out).await,
        Command::Policy(command) => policy::run(command, out).await,
        Command::Keys(command) => keys::run(command, out).await,
        Command::Kms(command) => kms::run(command, out).await,
        Command::Retention(command) => retention::run(command, out).await,
        Command::Rights(command) => rights::run(command, out).await,
        Command::Breach(command) => breach::run(command, out).await,
        Command::Registers(command) => register::run(command, out).await,
        Command::Backup(command) => backup::run(command, out).await,
        Command::Residency(command) => residency::run(command, out).await,
        Command::Operation(command) => operation::run(command, out).await,
        Command::Proposal(command) => proposal::run(command, out).await,
        Command::Certificate(args) => certificate::run(&args, out),
        Command::RequestId => {
            let id = client::request_id()?;
            Ok(out.data(&serde_json::json!({ "request_id": id }), std::slice::from_ref(&id))?)
        }
        Command::Completions { shell } => {
            let mut script = Vec::new();
            clap_complete::generate(shell, &mut Cli::command(), "sandyq", &mut script);
            Ok(std::io::stdout().write_all(&script)?)
        }
    }
}
