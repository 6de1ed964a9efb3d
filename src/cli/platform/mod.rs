//! `sandyq platform …`: who may use the vault. Commands of officers and administrators.

mod budget;
mod caller;
mod person;
mod recipient;

use clap::Subcommand;
use serde_json::json;
use tonic::transport::Channel;

use super::{
    client::{self, platforms, request_id},
    output::{Failure, Out, exit, instant, refused},
};
use crate::{
    domain::caller::Role,
    grpc::pb::{self, platform_service_client::PlatformServiceClient},
};

pub(super) use caller::list as list_callers;
pub(super) use person::find as find_person;

type Service = PlatformServiceClient<Channel>;

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// DANGEROUS: make a platform, with keys and a log of its own. There is no way back, and its name is never free
    /// again. It allows nothing before it has a policy.
    Create {
        #[command(flatten)]
        client: client::Args,
        /// Short name, `[a-z][a-z0-9_]{0,62}`.
        name: String,
        /// Registered name of the operator.
        #[arg(long)]
        legal_name: String,
        /// BIN of the operator, 12 digits. Each policy of the platform must be of this BIN.
        #[arg(long)]
        bin: String,
    },
    /// List platforms that you may see.
    List {
        #[command(flatten)]
        client: client::Args,
    },
    /// Propose to open a platform that a restore closed; another person approves it.
    Open {
        #[command(flatten)]
        client: client::Args,
        /// Platform.
        platform: String,
    },
    /// Services and staff certificates that may call.
    #[command(subcommand)]
    Caller(caller::Command),
    /// Members of staff, and their roles.
    #[command(subcommand)]
    Person(person::Command),
    /// Third parties that values may be released to.
    #[command(subcommand)]
    Recipient(recipient::Command),
    /// What callers may spend before they are refused.
    #[command(subcommand)]
    Budget(budget::Command),
}

/// What was applied; a proposal is told, for nothing is done yet.
macro_rules! applied {
    ($response:expr, $module:ident) => {
        match $response.into_inner().outcome {
            Some(crate::grpc::pb::$module::Outcome::Applied(done)) => Ok(done),
            Some(crate::grpc::pb::$module::Outcome::Proposal(proposal)) => {
                Err(crate::cli::output::Failure::proposed(&proposal))
            }
            None => Err(crate::cli::platform::no_outcome()),
        }
    };
}
pub(super) use applied;

pub(super) fn no_outcome() -> Failure {
    Failure::new(exit::FAILED, "the vault answered with an outcome that this command does not know")
}

pub(super) async fn run(command: Command, out: &mut Out) -> Result<(), Failure> {
    match command {
        Command::Create { client, name, legal_name, bin } => {
            let request = pb::CreatePlatformRequest { request_id: request_id()?, name, legal_name, bin };
            let answer = service(&client).await?.create_platform(request).await.map_err(refused)?;
            let made = applied!(answer, create_platform_response)?;
            print(out, &[made], None)
        }
        Command::List { client } => {
            let mut service = service(&client).await?;
            let (mut all, mut page_token) = (Vec::new(), String::new());
            loop {
                let request = pb::ListPlatformsRequest { page_size: 0, page_token };
                let page = service.list_platforms(request).await.map_err(refused)?.into_inner();
                all.extend(page.platforms);
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    return print(out, &all, Some(&page.governance_mode));
                }
            }
        }
        Command::Open { client, platform } => {
            let request = pb::OpenPlatformRequest { request_id: request_id()?, platform };
            let answer = service(&client).await?.open_platform(request).await.map_err(refused)?;
            let opened = applied!(answer, open_platform_response)?;
            let at = instant(opened.open_time.as_ref());
            let line = format!("platform {} is open again", opened.platform);
            let json = json!({ "platform": opened.platform, "reason": opened.reason, "opened_at": at });
            Ok(out.data(&json, &[line])?)
        }
        Command::Caller(command) => caller::run(command, out).await,
        Command::Person(command) => person::run(command, out).await,
        Command::Recipient(command) => recipient::run(command, out).await,
        Command::Budget(command) => budget::run(command, out).await,
    }
}

async fn service(client: &client::Args) -> Result<Service, Failure> {
    Ok(platforms(client.connect().await?))
}

fn print(out: &mut Out, all: &[pb::Platform], mode: Option<&str>) -> Result<(), Failure> {
    let json: Vec<_> = all
        .iter()
        .map(|p| {
            json!({
                "name": p.name, "legal_name": p.legal_name, "bin": p.bin, "policy_version": p.policy_version,
                "created_at": instant(p.create_time.as_ref()),
            })
        })
        .collect();
    let policy = |p: &pb::Platform| match p.policy_version {
        0 => "no policy".to_owned(),
        version => format!("policy {version}"),
    };
    let mut lines: Vec<_> = all
        .iter()
        .map(|p| format!("{:<16} {:<12} {:<12} {}", p.name, p.bin, policy(p), p.legal_name))
        .collect();
    if let Some(mode @ "single-officer") = mode {
        lines.push(format!("governance: {mode}: one person does alone what should take two"));
    }
    out.data(&json!({ "platforms": json, "governance": mode }), &lines)?;
    Ok(())
}

/// A role by its name.
fn role(text: &str) -> Result<pb::Role, String> {
    Ok(match text.parse::<Role>().map_err(|e| e.to_string())? {
        Role::Service => pb::Role::Service,
        Role::Auditor => pb::Role::Auditor,
        Role::SecurityOfficer => pb::Role::SecurityOfficer,
        Role::DataProtection => pb::Role::DataProtection,
        Role::PlatformAdmin => pb::Role::PlatformAdmin,
    })
}

/// The name of a role.
fn role_name(number: i32) -> &'static str {
    match pb::Role::try_from(number) {
        Ok(pb::Role::Service) => Role::Service.as_str(),
        Ok(pb::Role::Auditor) => Role::Auditor.as_str(),
        Ok(pb::Role::SecurityOfficer) => Role::SecurityOfficer.as_str(),
        Ok(pb::Role::DataProtection) => Role::DataProtection.as_str(),
        Ok(pb::Role::PlatformAdmin) => Role::PlatformAdmin.as_str(),
        Ok(pb::Role::Unspecified) | Err(_) => "unknown",
    }
}

/// 32 bytes as 64 hexadecimal digits: a pin, or an X25519 key.
fn hex32(text: &str) -> Result<Hex32, String> {
    let bytes = data_encoding::HEXLOWER_PERMISSIVE.decode(text.as_bytes()).map_err(|e| e.to_string())?;
    if bytes.len() == 32 { Ok(Hex32(bytes)) } else { Err("64 hexadecimal digits are expected".to_owned()) }
}

#[derive(Debug, Clone)]
pub(super) struct Hex32(Vec<u8>);
