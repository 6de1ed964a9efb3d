//! `sandyq platform caller enrol|update|disable|enable|list`.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::json;

use super::{Hex32, Service, applied, hex32, role, role_name, service};
use crate::{
    cli::{
        certificate,
        client::{self, request_id},
        output::{Failure, Out, exit, instant, refused},
    },
    grpc::pb,
};

#[derive(Subcommand, Debug)]
pub(in crate::cli) enum Command {
    /// DANGEROUS: make a certificate's URI a caller of a platform. From then on whoever has such a certificate may ask.
    /// Of the vault itself (`--platform vault`) only a security officer enrols: with `--person` the certificate can act
    /// as that person.
    Enrol {
        #[command(flatten)]
        client: client::Args,
        /// Platform; `vault` for staff and machines of the vault.
        #[arg(long)]
        platform: String,
        /// Name by which the policy names it.
        name: String,
        /// URI of its certificate. It is enrolled once, and never moves.
        #[arg(long)]
        spiffe_id: String,
        /// `service` or `auditor`; for a person's certificate none.
        #[arg(long = "role", value_parser = role, value_name = "ROLE")]
        roles: Vec<pb::Role>,
        /// Person behind a staff certificate, `per_…`.
        #[arg(long, default_value = "")]
        person: String,
        #[command(flatten)]
        pins: Pins,
    },
    /// DANGEROUS: give a caller another name, other roles or other pins. What is not named stays as it is.
    Update {
        #[command(flatten)]
        client: client::Args,
        #[command(flatten)]
        who: Who,
        /// New name.
        #[arg(long)]
        name: Option<String>,
        /// All roles that it is to have.
        #[arg(long = "role", value_parser = role, value_name = "ROLE")]
        roles: Vec<pb::Role>,
        #[command(flatten)]
        pins: Pins,
        /// Take all pins away: any key that its authority certified may call.
        #[arg(long, conflicts_with_all = ["pins", "pin_certificates"])]
        no_pins: bool,
    },
    /// Refuse a caller from now on, on its open connections too.
    Disable {
        #[command(flatten)]
        client: client::Args,
        #[command(flatten)]
        who: Who,
    },
    /// DANGEROUS: let a disabled caller call again.
    Enable {
        #[command(flatten)]
        client: client::Args,
        #[command(flatten)]
        who: Who,
    },
    /// List callers, disabled ones too.
    List {
        #[command(flatten)]
        client: client::Args,
        /// Platform; without it all that you may see.
        #[arg(long, default_value = "")]
        platform: String,
    },
}

/// A caller by its id or its name.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Who {
    /// Id, `cal_…`, or name.
    caller: String,
    /// Platform of a name.
    #[arg(long, default_value = "")]
    platform: String,
}

/// Keys that a certificate may have.
#[derive(clap::Args, Debug)]
pub(in crate::cli) struct Pins {
    /// SHA-256 of a key that its certificate may have, 64 hexadecimal digits (`sandyq certificate` prints it).
    #[arg(long = "pin", value_parser = hex32, value_name = "HASH")]
    pins: Vec<Hex32>,
    /// The same, taken from a certificate.
    #[arg(long = "pin-certificate", value_name = "FILE")]
    pin_certificates: Vec<PathBuf>,
}

impl Pins {
    fn all(self) -> Result<Vec<Vec<u8>>, Failure> {
        let mut all: Vec<_> = self.pins.into_iter().map(|pin| pin.0).collect();
        for file in self.pin_certificates {
            all.push(certificate::read(&file)?.mark.key.to_vec());
        }
        Ok(all)
    }
}

impl Who {
    /// The caller; of several with one name the enabled one.
    pub(super) async fn find(&self, service: &mut Service) -> Result<pb::Caller, Failure> {
        let mut named: Vec<_> = list(service, &self.platform)
            .await?
            .into_iter()
            .filter(|caller| caller.caller_id == self.caller || caller.name == self.caller)
            .collect();
        named.sort_by_key(|caller| caller.state() != pb::CallerState::Enabled);
        let several = named.iter().any(|caller| named.first().is_some_and(|f| f.platform != caller.platform));
        match named.into_iter().next() {
            Some(_) if several => {
                let message = format!("several platforms have a caller {}: say --platform", self.caller);
                Err(Failure::new(exit::USAGE, message))
            }
            Some(caller) => Ok(caller),
            None => Err(Failure::new(exit::FAILED, format!("you see no caller {} there", self.caller))),
        }
    }
}

pub(super) async fn run(command: Command, out: &mut Out) -> Result<(), Failure> {
    match command {
        Command::Enrol { client, platform, name, spiffe_id, roles, person, pins } => {
            let request = pb::EnrolCallerRequest {
                request_id: request_id()?,
                platform,
                name,
                spiffe_id,
                roles: roles.into_iter().map(Into::into).collect(),
                key_pins: pins.all()?,
                person_id: person,
            };
            let answer = service(&client).await?.enrol_caller(request).await.map_err(refused)?;
            print(out, &[applied!(answer, enrol_caller_response)?])
        }
        Command::Update { client, who, name, roles, pins, no_pins } => {
            let mut service = service(&client).await?;
            let known = who.find(&mut service).await?;
            let pins = pins.all()?;
            let request = pb::UpdateCallerRequest {
                request_id: request_id()?,
                caller_id: known.caller_id,
                name: name.unwrap_or(known.name),
                roles: if roles.is_empty() {
                    known.roles
                } else {
                    roles.into_iter().map(Into::into).collect()
                },
                key_pins: if no_pins || !pins.is_empty() { pins } else { known.key_pins },
            };
            let answer = service.update_caller(request).await.map_err(refused)?;
            print(out, &[applied!(answer, update_caller_response)?])
        }
        Command::Disable { client, who } => {
            let mut service = service(&client).await?;
            let caller_id = who.find(&mut service).await?.caller_id;
            let request = pb::DisableCallerRequest { request_id: request_id()?, caller_id };
            let answer = service.disable_caller(request).await.map_err(refused)?.into_inner();
            print(out, answer.caller.as_slice())
        }
        Command::Enable { client, who } => {
            let mut service = service(&client).await?;
            let caller_id = who.find(&mut service).await?.caller_id;
            let request = pb::EnableCallerRequest { request_id: request_id()?, caller_id };
            let answer = service.enable_caller(request).await.map_err(refused)?;
            print(out, &[applied!(answer, enable_caller_response)?])
        }
        Command::List { client, platform } => {
            let mut service = service(&client).await?;
            let all = list(&mut service, &platform).await?;
            print(out, &all)
        }
    }
}

/// Every caller of a platform, or of all.
pub(in crate::cli) async fn list(service: &mut Service, platform: &str) -> Result<Vec<pb::Caller>, Failure> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListCallersRequest { platform: platform.to_owned(), page_size: 0, page_token };
        let page = service.list_callers(request).await.map_err(refused)?.into_inner();
        all.extend(page.callers);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}

fn print(out: &mut Out, all: &[pb::Caller]) -> Result<(), Failure> {
    let state = |c: &pb::Caller| match c.state() {
        pb::CallerState::Enabled => "enabled",
        pb::CallerState::Disabled => "disabled",
        pb::CallerState::Unspecified => "unknown",
    };
    let roles = |c: &pb::Caller| c.roles.iter().map(|role| role_name(*role)).collect::<Vec<_>>();
    let pins =
        |c: &pb::Caller| c.key_pins.iter().map(|p| data_encoding::HEXLOWER.encode(p)).collect::<Vec<_>>();
    let json: Vec<_> = all
        .iter()
        .map(|c| {
            json!({
                "caller_id": c.caller_id, "platform": c.platform, "name": c.name, "spiffe_id": c.spiffe_id,
                "roles": roles(c), "pins": pins(c), "person_id": c.person_id, "state": state(c),
                "enrolled_at": instant(c.enrol_time.as_ref()), "updated_at": instant(c.update_time.as_ref()),
            })
        })
        .collect();
    let may = |c: &pb::Caller| if c.person_id.is_empty() { roles(c).join(", ") } else { c.person_id.clone() };
    let lines: Vec<_> = all
        .iter()
        .map(|c| {
            let pinned = if c.key_pins.is_empty() { "" } else { "  pinned" };
            let name = format!("{}/{}", c.platform, c.name);
            format!("{}  {:<8}  {name:<24} {}  {}{pinned}", c.caller_id, state(c), c.spiffe_id, may(c))
        })
        .collect();
    out.data(&json!({ "callers": json }), &lines)?;
    Ok(())
}
