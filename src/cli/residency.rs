//! `sandyq residency …`: declared sites, a look at where everything is, and a signed report.

use std::{fs, path::PathBuf};

use clap::Subcommand;
use serde_json::json;

use super::{
    audit::trusted,
    client::{self, residency},
    output::{Failure, Out, exit, instant, refused, show_time},
};
use crate::{
    grpc::pb,
    vault::residency::report::{BadReport, Report},
};

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// List the declared sites.
    Sites {
        #[command(flatten)]
        client: client::Args,
    },
    /// Look where everything is now. Fails where something is outside, or is not seen.
    Check {
        #[command(flatten)]
        client: client::Args,
    },
    /// Look, and print a report that the audit key signed.
    Report {
        #[command(flatten)]
        client: client::Args,
        /// Also write the signed note into a new file.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Check a report's signature, offline, and print it.
    Verify {
        /// The note that `report --output` wrote.
        file: PathBuf,
        /// The audit key, `name+id+base64`, as `sandyq init` printed it, or a file with one on each line.
        #[arg(long)]
        key: String,
    },
}

pub(super) async fn run(command: Command, out: &mut Out) -> Result<(), Failure> {
    match command {
        Command::Sites { client } => sites(&client, out).await,
        Command::Check { client } => check(&client, out).await,
        Command::Report { client, output } => report(&client, output, out).await,
        Command::Verify { file, key } => {
            let trusted = trusted(&key)?;
            let unverified = |error: BadReport| Failure::new(exit::NOT_VERIFIED, error.to_string());
            let report = Report::open(&fs::read_to_string(file)?, &trusted).map_err(unverified)?;
            let mut lines = report.lines();
            lines.push("verified: signed by the audit key".to_owned());
            Ok(out.data(&json!({ "verified": true, "report": report }), &lines)?)
        }
    }
}

async fn sites(client: &client::Args, out: &mut Out) -> Result<(), Failure> {
    let answer = residency(client.connect().await?).get_sites(pb::GetSitesRequest {}).await;
    let answer = answer.map_err(refused)?.into_inner();
    let attestation = |a: &pb::SiteAttestation| {
        json!({
            "networks": a.networks, "mounts": a.mounts, "archives": a.archives, "stated_by": a.stated_by,
            "expire_time": instant(a.expire_time.as_ref()), "statement": a.statement,
        })
    };
    let site = |site: &pb::StorageSite| {
        json!({
            "name": site.name, "country": site.country, "networks": site.networks, "here": site.here,
            "registered": site.registered,
            "attestations": site.attestations.iter().map(attestation).collect::<Vec<_>>(),
        })
    };
    let json =
        json!({ "country": answer.country, "sites": answer.sites.iter().map(site).collect::<Vec<_>>() });
    let mut lines = vec![format!("data stays in {}", answer.country)];
    for site in &answer.sites {
        let marks = [(site.here, "here"), (site.registered, "registered")];
        let marks: Vec<&str> = marks.into_iter().filter(|(is, _)| *is).map(|(_, mark)| mark).collect();
        let what: Vec<&str> = marks.into_iter().chain(site.networks.iter().map(String::as_str)).collect();
        lines.push(format!("{:<20} {}  {}", site.name, site.country, what.join(", ")));
        lines.extend(site.attestations.iter().map(|a| {
            let until = show_time(a.expire_time);
            format!("  attested by {} until {until}: {}", a.stated_by, a.statement)
        }));
    }
    Ok(out.data(&json, &lines)?)
}

async fn check(client: &client::Args, out: &mut Out) -> Result<(), Failure> {
    let answer = residency(client.connect().await?).get_residency(pb::GetResidencyRequest {}).await;
    let answer = answer.map_err(refused)?.into_inner();
    let finding = |f: &pb::ResidencyFinding| {
        json!({
            "used_for": f.used_for, "place": f.place, "address": f.address, "state": state(f), "site": f.site,
            "country": f.country, "basis": f.basis, "problem": f.problem,
        })
    };
    let line = |f: &pb::ResidencyFinding| {
        let at = if f.address.is_empty() { String::new() } else { format!(" at {}", f.address) };
        let why =
            if f.problem.is_empty() { format!("site {}, {}", f.site, f.basis) } else { f.problem.clone() };
        format!("{:<8} {:<9} {}{at}: {why}", state(f), f.used_for, f.place)
    };
    let json = json!({
        "check_time": instant(answer.check_time.as_ref()),
        "findings": answer.findings.iter().map(finding).collect::<Vec<_>>(),
    });
    out.data(&json, &answer.findings.iter().map(line).collect::<Vec<_>>())?;
    let not_inside = answer.findings.iter().filter(|f| f.state() != pb::ResidencyState::Inside).count();
    match not_inside {
        0 => Ok(()),
        some => {
            Err(Failure::new(exit::FAILED, format!("{some} of these are not seen inside the declared sites")))
        }
    }
}

fn state(finding: &pb::ResidencyFinding) -> &'static str {
    match finding.state() {
        pb::ResidencyState::Inside => "INSIDE",
        pb::ResidencyState::Outside => "OUTSIDE",
        pb::ResidencyState::Unseen | pb::ResidencyState::Unspecified => "UNSEEN",
    }
}

async fn report(client: &client::Args, output: Option<PathBuf>, out: &mut Out) -> Result<(), Failure> {
    let request = pb::GetResidencyReportRequest {};
    let answer = residency(client.connect().await?).get_residency_report(request).await;
    let note = answer.map_err(refused)?.into_inner().note;
    let report = Report::parse(&note)?;
    if let Some(path) = output {
        let mut file = fs::File::options().create_new(true).write(true).open(path)?;
        std::io::Write::write_all(&mut file, note.as_bytes())?;
        file.sync_all()?;
    }
    let mut lines = report.lines();
    lines.extend([String::new(), "signed:".to_owned()]);
    lines.extend(note.lines().map(str::to_owned));
    Ok(out.data(&json!({ "report": report, "note": note }), &lines)?)
}
