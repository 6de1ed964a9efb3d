//! `sandyq keys horizon approve|show|revoke`.

use clap::Subcommand;
use serde_json::json;

use super::{
    client::{self, keys, request_id},
    output::{Failure, Out, instant, refused},
    platform::applied,
};
use crate::grpc::pb;

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// DANGEROUS: let old versions of platform, index and root keys be destroyed by the calendar when they are as old as the
    /// horizon of backups, each time without asking again. In two-person mode another person approves it, once.
    Approve {
        #[command(flatten)]
        client: client::Args,
        /// Days, as `backup.horizon_days` of the vault's configuration.
        #[arg(long)]
        days: u32,
        /// Days after which versions are replaced, as `keys.rotate_days`; without that key half of `--days`.
        #[arg(long)]
        rotate_days: Option<u32>,
        /// Days that it holds, 1 to 366.
        #[arg(long, default_value_t = 366)]
        valid_days: u32,
        /// Approve indeed; without it nothing is changed, and how the horizon stands is printed.
        #[arg(long)]
        yes: bool,
    },
    /// Say how the horizon stands, and what stands in its way.
    Show {
        #[command(flatten)]
        client: client::Args,
    },
    /// End the standing plan. What it scheduled is called off when its time comes.
    Revoke {
        #[command(flatten)]
        client: client::Args,
    },
}

pub(super) async fn run(command: Command, out: &mut Out) -> Result<(), Failure> {
    match command {
        Command::Approve { client, days, rotate_days, valid_days, yes } => {
            if !yes {
                show(&client, out).await?;
                return Ok(out.note(
                    "nothing was changed; with --yes versions as old as that are destroyed, and backups that need them never \
                     open again",
                )?);
            }
            let request = pb::ScheduleHorizonRequest {
                request_id: request_id()?,
                horizon_days: days,
                rotate_days: rotate_days.unwrap_or(days / 2),
                valid_days,
            };
            let answer = keys(client.connect().await?).schedule_horizon(request).await.map_err(refused)?;
            let plan = applied!(answer, schedule_horizon_response)?;
            print(&pb::GetHorizonResponse { plan: Some(plan), in_force: true, problems: Vec::new() }, out)
        }
        Command::Show { client } => show(&client, out).await,
        Command::Revoke { client } => {
            let request = pb::RevokeHorizonRequest { request_id: request_id()? };
            let answer = keys(client.connect().await?).revoke_horizon(request).await.map_err(refused)?;
            let plan = answer.into_inner().plan;
            print(&pb::GetHorizonResponse { plan, in_force: false, problems: Vec::new() }, out)
        }
    }
}

async fn show(client: &client::Args, out: &mut Out) -> Result<(), Failure> {
    let answer = keys(client.connect().await?).get_horizon(pb::GetHorizonRequest {}).await;
    print(&answer.map_err(refused)?.into_inner(), out)
}

fn print(found: &pb::GetHorizonResponse, out: &mut Out) -> Result<(), Failure> {
    let plan = found.plan.as_ref();
    let until = plan.and_then(|plan| instant(plan.expire_time.as_ref()));
    let json = plan.map(|plan| {
        json!({
            "plan_id": plan.plan_id, "horizon_days": plan.horizon_days, "rotate_days": plan.rotate_days,
            "plan_sha256": data_encoding::HEXLOWER.encode(&plan.plan_sha256),
            "proposed_by": plan.proposer_person_id, "approved_by": plan.approver_person_id,
            "approved_at": instant(plan.approve_time.as_ref()), "expires_at": until,
            "revoked_at": instant(plan.revoke_time.as_ref()),
        })
    });
    let mut lines = vec![match plan {
        None => "no plan".to_owned(),
        Some(plan) => format!(
            "{}  versions are replaced after {} days and destroyed after {}; until {}",
            plan.plan_id,
            plan.rotate_days,
            plan.horizon_days,
            until.as_deref().unwrap_or_default()
        ),
    }];
    lines.push(
        if found.in_force { "in force" } else { "NOT IN FORCE: nothing is destroyed by it" }.to_owned(),
    );
    lines.extend(found.problems.iter().map(|problem| format!("problem    {problem}")));
    out.data(&json!({ "plan": json, "in_force": found.in_force, "problems": found.problems }), &lines)?;
    Ok(())
}
