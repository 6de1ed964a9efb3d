//! `sandyq policy validate|show|diff|apply|get|list|explain`.

use std::{
    fs,
    path::{Path, PathBuf},
};

use clap::Subcommand;
use serde_json::json;

use super::{
    client::{self, platforms, policies, request_id},
    output::{Failure, Out, exit, instant, refused},
    outreach,
    platform::{list_callers, no_outcome},
    policy_read::{self, DiffArgs, ShowArgs},
};
use crate::{
    grpc::pb::{self, apply_policy_response::Outcome},
    policy::model::Policy,
};

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Check a policy file; every problem is told with its line.
    Validate {
        #[command(flatten)]
        client: client::Args,
        /// The file.
        file: PathBuf,
        /// Check it here, without a vault.
        #[arg(long)]
        offline: bool,
    },
    /// Print a policy as a person reads it, with headings in English, Russian or Kazakh.
    Show(Box<ShowArgs>),
    /// Say what a new version widens (+), narrows (-) and changes (~), and whose consent it needs anew.
    Diff(Box<DiffArgs>),
    /// DANGEROUS: make a file the next version of the policy of the platform that it names. From the day that it says,
    /// it alone decides who reads what.
    Apply {
        #[command(flatten)]
        client: client::Args,
        /// The file.
        file: PathBuf,
        /// Check everything, and change nothing.
        #[arg(long)]
        dry_run: bool,
    },
    /// Print one version, byte for byte.
    Get {
        #[command(flatten)]
        client: client::Args,
        /// Platform; without it your own.
        #[arg(long, default_value = "")]
        platform: String,
        /// Version; without it the one in force.
        #[arg(long, default_value_t = 0)]
        version: u32,
    },
    /// List versions, newest first.
    List {
        #[command(flatten)]
        client: client::Args,
        /// Platform; without it your own.
        #[arg(long, default_value = "")]
        platform: String,
    },
    /// Say what a read would be answered now, why, and by which clauses. It releases nothing, and is logged.
    Explain(Box<ExplainArgs>),
}

#[derive(clap::Args, Debug)]
pub(super) struct ExplainArgs {
    #[command(flatten)]
    client: client::Args,
    /// Platform; without it your own.
    #[arg(long, default_value = "")]
    platform: String,
    /// The token that would be read.
    #[arg(required_unless_present = "field", conflicts_with = "field")]
    token: Option<String>,
    /// The platform's name for a subject, whose field would be read with a good token.
    #[arg(long, conflicts_with = "subject_id")]
    subject: Option<String>,
    /// The vault's id of the subject, `sub_…`.
    #[arg(long)]
    subject_id: Option<String>,
    /// The subject's field.
    #[arg(long)]
    field: Option<String>,
    /// Purpose.
    #[arg(long)]
    purpose: String,
    /// Name of the caller who would read.
    #[arg(long, default_value = "")]
    caller: String,
    /// Whether the masked value would be asked for.
    #[arg(long)]
    masked: bool,
    /// Recipient that it would go to.
    #[arg(long, default_value = "")]
    recipient: String,
    #[command(flatten)]
    outreach: outreach::OutreachArgs,
    /// Reference that would be given.
    #[arg(long, default_value = "")]
    reference: String,
}

pub(super) async fn run(command: Command, out: &mut Out) -> Result<(), Failure> {
    match command {
        Command::Validate { client, file, offline } => validate(&client, &file, offline, out).await,
        Command::Show(args) => policy_read::run_show(*args, out).await,
        Command::Diff(args) => policy_read::run_diff(*args, out).await,
        Command::Apply { client, file, dry_run } => apply(&client, &file, dry_run, out).await,
        Command::Get { client, platform, version } => {
            let request = pb::GetPolicyRequest { platform, version };
            let mut service = policies(client.connect().await?);
            let found = service.get_policy(request).await.map_err(refused)?.into_inner();
            let policy = found.policy.as_ref().map(version_json);
            out.data(
                &json!({ "policy": policy, "text": found.text }),
                &[found.text.strip_suffix('\n').unwrap_or(&found.text).to_owned()],
            )?;
            Ok(())
        }
        Command::List { client, platform } => {
            let mut service = policies(client.connect().await?);
            let (mut all, mut page_token) = (Vec::new(), String::new());
            loop {
                let platform = platform.clone();
                let request = pb::ListPoliciesRequest { platform, page_size: 0, page_token };
                let page = service.list_policies(request).await.map_err(refused)?.into_inner();
                all.extend(page.policies);
                page_token = page.next_page_token;
                if page_token.is_empty() {
                    break;
                }
            }
            let json: Vec<_> = all.iter().map(version_json).collect();
            let lines: Vec<_> = all.iter().map(version_line).collect();
            out.data(&json!({ "policies": json }), &lines)?;
            Ok(())
        }
        Command::Explain(args) => explain(*args, out).await,
    }
}

async fn validate(client: &client::Args, file: &Path, offline: bool, out: &mut Out) -> Result<(), Failure> {
    let text = read(file)?;
    let problems = if offline {
        let problem = |p: crate::policy::model::Problem| pb::PolicyProblem {
            line: u32::try_from(p.line).unwrap_or_default(),
            place: p.place,
            rule: p.rule,
        };
        Policy::check(&text).err().unwrap_or_default().into_iter().map(problem).collect()
    } else {
        let request = pb::ValidatePolicyRequest { text };
        let mut service = policies(client.connect().await?);
        service.validate_policy(request).await.map_err(refused)?.into_inner().problems
    };
    if !problems.is_empty() {
        return Err(told(&problems, out)?);
    }
    out.data(&json!({ "problems": [] }), &["The file can be applied.".to_owned()])?;
    Ok(())
}

async fn apply(client: &client::Args, file: &Path, dry_run: bool, out: &mut Out) -> Result<(), Failure> {
    let text = read(file)?;
    let channel = client.connect().await?;
    let request =
        pb::ApplyPolicyRequest { request_id: request_id()?, text: text.clone(), validate_only: dry_run };
    let answer = policies(channel.clone()).apply_policy(request).await.map_err(refused)?;
    let version = match answer.into_inner().outcome {
        Some(Outcome::Applied(version)) => version,
        Some(Outcome::Problems(found)) => return Err(told(&found.problems, out)?),
        Some(Outcome::Proposal(proposal)) => return Err(Failure::proposed(&proposal)),
        None => return Err(no_outcome()),
    };
    // A name that nobody has is most likely mistyped, here or where the caller was enrolled.
    let callers = list_callers(&mut platforms(channel), &version.platform).await?;
    let policy = Policy::parse(&text)?;
    let enabled =
        |name: &str| callers.iter().any(|c| c.name == name && c.state() == pb::CallerState::Enabled);
    let missing: Vec<_> =
        policy.caller_names().into_iter().map(ToString::to_string).filter(|name| !enabled(name)).collect();
    let mut lines = vec![version_line(&version)];
    if dry_run {
        lines.insert(0, "Nothing was changed. It would be:".to_owned());
    }
    if !missing.is_empty() {
        lines.push(format!("It names callers that nobody enrolled: {}.", missing.join(", ")));
    }
    let json = json!({ "policy": version_json(&version), "applied": !dry_run, "callers_missing": missing });
    out.data(&json, &lines)?;
    Ok(())
}

async fn explain(args: ExplainArgs, out: &mut Out) -> Result<(), Failure> {
    use pb::{explain_decision_request::Target, subject_name::Subject};
    let subject = args.subject.map(Subject::SubjectReference).or(args.subject_id.map(Subject::SubjectId));
    let target = match (args.token, args.field) {
        (Some(token), _) => Some(Target::Token(token)),
        (None, field) => Some(Target::SubjectField(pb::SubjectField {
            subject: Some(pb::SubjectName { subject }),
            field: field.unwrap_or_default(),
        })),
    };
    let request = pb::ExplainDecisionRequest {
        platform: args.platform,
        target,
        purpose: args.purpose,
        caller: args.caller,
        view: if args.masked { pb::View::Masked } else { pb::View::Full }.into(),
        recipient: args.recipient,
        reference: args.reference,
        outreach: args.outreach.into_pb(),
    };
    let mut service = policies(args.client.connect().await?);
    let answer = service.explain_decision(request).await.map_err(refused)?.into_inner();
    let permit = answer.decision() == pb::Decision::Permit;
    let clauses: Vec<_> = answer
        .clauses
        .iter()
        .map(|c| json!({ "clause": c.clause, "kind": c.kind, "text": c.text }))
        .collect();
    let json = json!({
        "decision": if permit { "permit" } else { "deny" }, "reason": answer.reason, "clauses": clauses,
        "consent_id": answer.consent_id, "policy_version": answer.policy_version,
    });
    let decided = if permit {
        let basis = if answer.consent_id.is_empty() { "without a consent" } else { &answer.consent_id };
        format!("permit, {basis}, by policy {}", answer.policy_version)
    } else {
        format!("deny: {}, by policy {}", answer.reason, answer.policy_version)
    };
    let clauses = answer.clauses.iter().map(|c| format!("  {:<20} {}", c.clause, c.text));
    let lines: Vec<_> = [decided].into_iter().chain(clauses).collect();
    out.data(&json, &lines)?;
    Ok(())
}

pub(super) fn read(file: &Path) -> Result<String, Failure> {
    fs::read_to_string(file).map_err(|e| Failure::new(exit::FAILED, format!("{}: {e}", file.display())))
}

/// Prints problems as data, and answers how the command ends.
fn told(problems: &[pb::PolicyProblem], out: &mut Out) -> Result<Failure, Failure> {
    let json: Vec<_> =
        problems.iter().map(|p| json!({ "line": p.line, "place": p.place, "rule": p.rule })).collect();
    let lines: Vec<_> = problems
        .iter()
        .map(|p| match p.line {
            0 => format!("{}: {}", p.place, p.rule),
            line => format!("line {line}: {}: {}", p.place, p.rule),
        })
        .collect();
    out.data(&json!({ "problems": json }), &lines)?;
    Ok(Failure::new(exit::FAILED, "the policy is refused"))
}

fn version_json(v: &pb::PolicyVersion) -> serde_json::Value {
    json!({
        "platform": v.platform, "version": v.version, "sha256": data_encoding::HEXLOWER.encode(&v.sha256),
        "applied_at": instant(v.apply_time.as_ref()), "effective_at": instant(v.effective_time.as_ref()),
        "governs_from": instant(v.govern_time.as_ref()), "governs": v.governs,
    })
}

fn version_line(v: &pb::PolicyVersion) -> String {
    let now = if v.governs { "  governs now" } else { "" };
    let from = instant(v.govern_time.as_ref()).unwrap_or_default();
    format!("{} {:<4} governs from {from}{now}", v.platform, v.version)
}
