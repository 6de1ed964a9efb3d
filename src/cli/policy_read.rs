//! `sandyq policy show` and `sandyq policy diff`: a policy as a person reads it, and what a new version changes.

use std::path::PathBuf;

use serde_json::json;

use super::{
    client::{self, policies},
    output::{Failure, Out, refused},
    policy::read,
};
use crate::{
    domain::consent::Language,
    grpc::pb,
    policy::model::{Asks, Change, Effect, Policy, diff, show},
};

/// Which policy to print.
#[derive(clap::Args, Debug)]
pub(super) struct ShowArgs {
    #[command(flatten)]
    client: client::Args,
    /// A file, read here without a vault; without it a version that the vault has.
    #[arg(conflicts_with_all = ["platform", "version"])]
    file: Option<PathBuf>,
    /// Platform; without it your own.
    #[arg(long, default_value = "")]
    platform: String,
    /// Version; without it the one in force.
    #[arg(long, default_value_t = 0)]
    version: u32,
    /// Language of the headings: en, ru or kk.
    #[arg(long, default_value = "en")]
    language: Language,
}

/// Which versions to compare.
#[derive(clap::Args, Debug)]
pub(super) struct DiffArgs {
    #[command(flatten)]
    client: client::Args,
    /// The file of the new version.
    new: PathBuf,
    /// The file of the version before; without it the one that is in force in the vault.
    #[arg(long)]
    old: Option<PathBuf>,
}

pub(super) async fn run_show(args: ShowArgs, out: &mut Out) -> Result<(), Failure> {
    let policy = match &args.file {
        Some(file) => Policy::parse(&read(file)?)?,
        None => Policy::applied(&stored(&args.client, args.platform, args.version).await?)?,
    };
    let page = show(&policy, args.language);
    let json: Vec<_> = page.iter().map(|line| json!({ "depth": line.depth, "text": line.text })).collect();
    let lines: Vec<_> = page.iter().map(|line| format!("{}{}", "  ".repeat(line.depth), line.text)).collect();
    let json = json!({ "platform": policy.operator.name.as_str(), "version": policy.version, "lines": json });
    Ok(out.data(&json, &lines)?)
}

pub(super) async fn run_diff(args: DiffArgs, out: &mut Out) -> Result<(), Failure> {
    let new = Policy::parse(&read(&args.new)?)?;
    let old = match &args.old {
        Some(file) => read(file)?,
        None => stored(&args.client, new.operator.name.to_string(), 0).await?,
    };
    let old = Policy::applied(&old)?;
    let changes = diff(&old, &new);
    let json: Vec<_> = changes.iter().map(change_json).collect();
    let mut lines: Vec<_> = changes.iter().map(line).collect();
    if lines.is_empty() {
        lines.push("nothing that anybody is read by is different".to_owned());
    } else if changes.iter().any(|change| change.asks != Asks::Nobody) {
        lines.push("Who consented before keeps the scope of that consent until the new act.".to_owned());
    }
    Ok(out.data(&json!({ "from": old.version, "to": new.version, "changes": json }), &lines)?)
}

async fn stored(client: &client::Args, platform: String, version: u32) -> Result<String, Failure> {
    let request = pb::GetPolicyRequest { platform, version };
    let found = policies(client.connect().await?).get_policy(request).await.map_err(refused)?;
    Ok(found.into_inner().text)
}

fn asked(asks: &Asks) -> Option<String> {
    match asks {
        Asks::Nobody => None,
        Asks::ConsentedTo(purpose) => Some(format!("each subject who consented to {purpose}")),
        Asks::ForNew(purpose) => Some(format!("each subject who shall be read for {purpose}")),
    }
}

fn change_json(change: &Change) -> serde_json::Value {
    json!({
        "effect": change.effect.as_str(), "place": change.place, "what": change.what, "clause": change.clause,
        "asks": asked(&change.asks),
    })
}

fn line(change: &Change) -> String {
    let sign = match change.effect {
        Effect::Widens => "+",
        Effect::Narrows => "-",
        Effect::Changes => "~",
    };
    let asks = asked(&change.asks).map(|whom| format!("; asks {whom}")).unwrap_or_default();
    format!("{sign} {}: {} ({}){asks}", change.place, change.what, change.clause)
}
