//! `sandyq platform person enrol|disable|list|grant|revoke`.

use clap::Subcommand;
use serde_json::json;

use super::{Service, applied, role, role_name, service};
use crate::{
    cli::{
        client::{self, request_id},
        output::{Failure, Out, exit, instant, refused},
    },
    grpc::pb,
};

#[derive(Subcommand, Debug)]
pub(in crate::cli) enum Command {
    /// Make a member of staff known, by a handle that is no name. Roles and a certificate come next (`grant`,
    /// `platform caller enrol --platform vault --person …`).
    Enrol {
        #[command(flatten)]
        client: client::Args,
        /// Such as a staff number, `[a-z0-9][a-z0-9._-]{1,39}`.
        handle: String,
    },
    /// DANGEROUS: take all roles from a person and disable the person's certificates, for good.
    Disable {
        #[command(flatten)]
        client: client::Args,
        /// Id, `per_…`, or handle.
        person: String,
    },
    /// List persons and their roles, disabled persons too.
    List {
        #[command(flatten)]
        client: client::Args,
    },
    /// DANGEROUS: give a person a role. A `security_officer` of the installation decides who everybody is.
    Grant(RoleArgs),
    /// Take a role from a person, as it was granted. It binds at once.
    Revoke(RoleArgs),
}

#[derive(clap::Args, Debug)]
pub(in crate::cli) struct RoleArgs {
    #[command(flatten)]
    client: client::Args,
    /// Id, `per_…`, or handle.
    person: String,
    /// `auditor`, `security_officer`, `data_protection` or `platform_admin`.
    #[arg(value_parser = role)]
    role: pb::Role,
    /// Platform that it holds for; without it the whole installation.
    #[arg(long, default_value = "")]
    platform: String,
}

pub(super) async fn run(command: Command, out: &mut Out) -> Result<(), Failure> {
    match command {
        Command::Enrol { client, handle } => {
            let request = pb::EnrolPersonRequest { request_id: request_id()?, handle };
            let answer = service(&client).await?.enrol_person(request).await.map_err(refused)?;
            print(out, &[applied!(answer, enrol_person_response)?])
        }
        Command::Disable { client, person } => {
            let mut service = service(&client).await?;
            let person_id = find(&mut service, person).await?;
            let request = pb::DisablePersonRequest { request_id: request_id()?, person_id };
            let answer = service.disable_person(request).await.map_err(refused)?.into_inner();
            print(out, answer.person.as_slice())
        }
        Command::List { client } => {
            let mut service = service(&client).await?;
            let all = list(&mut service).await?;
            print(out, &all)
        }
        Command::Grant(RoleArgs { client, person, role, platform }) => {
            let mut service = service(&client).await?;
            let person_id = find(&mut service, person).await?;
            let (request_id, role) = (request_id()?, role.into());
            let request = pb::GrantRoleRequest { request_id, person_id, role, platform };
            let answer = service.grant_role(request).await.map_err(refused)?;
            print(out, &[applied!(answer, grant_role_response)?])
        }
        Command::Revoke(RoleArgs { client, person, role, platform }) => {
            let mut service = service(&client).await?;
            let person_id = find(&mut service, person).await?;
            let (request_id, role) = (request_id()?, role.into());
            let request = pb::RevokeRoleRequest { request_id, person_id, role, platform };
            let answer = service.revoke_role(request).await.map_err(refused)?.into_inner();
            print(out, answer.person.as_slice())
        }
    }
}

async fn list(service: &mut Service) -> Result<Vec<pb::Person>, Failure> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListPersonsRequest { page_size: 0, page_token };
        let page = service.list_persons(request).await.map_err(refused)?.into_inner();
        all.extend(page.persons);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(all);
        }
    }
}

/// The id of a person, who is named by it or by the handle.
pub(in crate::cli) async fn find(service: &mut Service, person: String) -> Result<String, Failure> {
    if person.starts_with("per_") {
        return Ok(person);
    }
    let found = list(service).await?.into_iter().find(|known| known.handle == person);
    let missing = || Failure::new(exit::FAILED, format!("there is no person {person}"));
    found.map(|known| known.person_id).ok_or_else(missing)
}

fn print(out: &mut Out, all: &[pb::Person]) -> Result<(), Failure> {
    let json: Vec<_> = all
        .iter()
        .map(|p| {
            let roles: Vec<_> = p
                .roles
                .iter()
                .map(|grant| {
                    json!({
                        "role": role_name(grant.role), "platform": grant.platform,
                        "granted_at": instant(grant.grant_time.as_ref()),
                    })
                })
                .collect();
            json!({
                "person_id": p.person_id, "handle": p.handle, "roles": roles,
                "enrolled_at": instant(p.enrol_time.as_ref()), "disabled_at": instant(p.disable_time.as_ref()),
            })
        })
        .collect();
    let held = |grant: &pb::RoleGrant| match grant.platform.as_str() {
        "" => role_name(grant.role).to_owned(),
        platform => format!("{} of {platform}", role_name(grant.role)),
    };
    let lines: Vec<_> = all
        .iter()
        .map(|p| {
            let roles = match (&p.disable_time, p.roles.is_empty()) {
                (Some(_), _) => "disabled".to_owned(),
                (None, true) => "no role".to_owned(),
                (None, false) => p.roles.iter().map(held).collect::<Vec<_>>().join(", "),
            };
            format!("{}  {:<16} {roles}", p.person_id, p.handle)
        })
        .collect();
    out.data(&json!({ "persons": json }), &lines)?;
    Ok(())
}
