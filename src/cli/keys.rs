//! `sandyq keys …`: the security officer's view of keys, and rotations.

use clap::Subcommand;
use serde_json::json;

use super::{
    client::{self, keys, request_id},
    horizon, key_report,
    operation::{self, Which},
    output::{Failure, Out, exit, instant, refused, show_time},
    values::when,
};
use crate::grpc::pb;

/// A platform.
#[derive(clap::Args, Debug, Clone)]
pub(super) struct Place {
    #[command(flatten)]
    client: client::Args,
    /// Platform.
    #[arg(long)]
    platform: String,
}

/// A version of a platform's key.
#[derive(clap::Args, Debug, Clone)]
pub(super) struct Chosen {
    #[command(flatten)]
    place: Place,
    /// What the key is for.
    #[arg(long, value_enum, default_value_t = Kind::Platform)]
    kind: Kind,
    /// Version.
    #[arg(long)]
    version: u32,
}

/// A kind of key that an officer handles.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Wraps subject keys.
    Platform,
    /// Hashes values, references and 12-digit tokens, by which everything is found.
    Index,
    /// Signs every log; of `--platform vault`.
    Audit,
    /// Wraps the keys of all platforms; of `--platform vault`. A root version is destroyed with all before it, and backups
    /// that they sealed never open again.
    Root,
}

impl Kind {
    const fn message(self) -> pb::KeyKind {
        match self {
            Self::Platform => pb::KeyKind::Platform,
            Self::Index => pb::KeyKind::Index,
            Self::Audit => pb::KeyKind::Audit,
            Self::Root => pb::KeyKind::Root,
        }
    }
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// List key versions with their states.
    List {
        #[command(flatten)]
        client: client::Args,
        /// Platform; all that the caller may see, where absent.
        #[arg(long, default_value = "")]
        platform: String,
    },
    /// Count what is under each version of the platform and index keys.
    Usage(Place),
    /// Make a new version of a key, and take everything over to it while the vault serves.
    Rotate {
        #[command(flatten)]
        place: Place,
        /// The platform's key, under which every subject key is wrapped anew; its index key, under which everything is
        /// hashed anew; of `--platform vault` also the audit key, to which every log is handed over, and the root key, under
        /// which the keys of all platforms are wrapped anew.
        #[arg(long, value_enum, default_value_t = Kind::Platform)]
        kind: Kind,
        /// At most so many subjects a second; 0 for as many as go.
        #[arg(long, default_value_t = 0)]
        rate: u32,
        /// Only say what would happen: how many keys, how long, what stands in the way.
        #[arg(long)]
        dry_run: bool,
        /// Follow it until it has ended. Ctrl-C ends the watching, and not the rotation.
        #[arg(long)]
        watch: bool,
    },
    /// After a compromise: give the platform and each of its subjects new keys, and seal every value and every part of a document
    /// anew, while the vault serves. The versions of before are destroyed then. Always two people.
    Rekey {
        #[command(flatten)]
        place: Place,
        /// At most so many subjects and parts of documents a second; 0 for as many as go.
        #[arg(long, default_value_t = 0)]
        rate: u32,
        /// Only say what would happen: how much, how long, what stands in the way.
        #[arg(long)]
        dry_run: bool,
    },
    /// Follow a rotation until it has ended.
    Watch(Which),
    /// The signed record of a rotation or a rekey that has ended: to keep, to read, and to check offline.
    Report(key_report::ReportArgs),
    /// Refuse a version that retires: what it wraps is unreadable until it is enabled again. One of the index key is
    /// refused only when nothing is under it.
    Disable {
        #[command(flatten)]
        version: Chosen,
        /// Disable indeed; without it nothing is changed, and what it wraps is printed.
        #[arg(long)]
        yes: bool,
    },
    /// Let a disabled version open again what it wraps.
    Enable(Chosen),
    /// Schedule the destruction of a version that nothing is under.
    Destroy {
        #[command(flatten)]
        version: Chosen,
        /// When, RFC 3339; at least 24 hours ahead, and as much more as a proposal may wait where two people are needed.
        #[arg(long)]
        at: String,
        /// Schedule indeed; without it nothing is changed, and what it wraps is printed.
        #[arg(long)]
        yes: bool,
    },
    /// Call a scheduled destruction off; the version is disabled then.
    Keep(Chosen),
    /// The standing plan by which old versions are destroyed, so that nothing erased opens from an old backup.
    #[command(subcommand)]
    Horizon(horizon::Command),
}

pub(super) async fn run(command: Command, out: &mut Out) -> Result<(), Failure> {
    match command {
        Command::List { client, platform } => list(&client, platform, out).await,
        Command::Usage(place) => usage(&place, out).await,
        Command::Rotate { place, kind, rate, dry_run, watch } => {
            let request = pb::RotateKeyRequest {
                request_id: request_id()?,
                platform: place.platform.clone(),
                kind: kind.message().into(),
                rate,
                validate_only: dry_run,
            };
            rotate(&place, request, watch, out).await
        }
        Command::Rekey { place, rate, dry_run } => {
            let platform = place.platform.clone();
            let request = pb::RekeyPlatformRequest {
                request_id: request_id()?,
                platform,
                rate,
                validate_only: dry_run,
            };
            rekey(&place, request, out).await
        }
        Command::Horizon(command) => horizon::run(command, out).await,
        Command::Report(args) => key_report::run(args, out).await,
        Command::Watch(which) => operation::watch(&which, out).await,
        Command::Disable { version, yes } => {
            if !yes {
                usage(&version.place, out).await?;
                return Ok(
                    out.note("nothing was changed; with --yes what this version wraps cannot be read")?
                );
            }
            disable(&version, out).await
        }
        Command::Enable(version) => {
            let request = pb::EnableKeyRequest {
                request_id: request_id()?,
                platform: version.place.platform.clone(),
                version: version.version,
                kind: version.kind.message().into(),
            };
            let answer = keys(version.place.client.connect().await?).enable_key(request).await;
            match answer.map_err(refused)?.into_inner().outcome {
                Some(pb::enable_key_response::Outcome::Applied(key)) => print(Some(key), out),
                Some(pb::enable_key_response::Outcome::Proposal(proposal)) => {
                    Err(Failure::proposed(&proposal))
                }
                None => print(None, out),
            }
        }
        Command::Destroy { version, at, yes } => {
            if !yes && version.kind == Kind::Root {
                let also = "nothing was changed; with --yes the root versions up to this one are destroyed at that time, and \
                            backups that they sealed never open again";
                return Ok(out.note(also)?);
            }
            if !yes {
                usage(&version.place, out).await?;
                return Ok(out.note("nothing was changed; with --yes the version is destroyed at that time")?);
            }
            destroy(&version, &at, out).await
        }
        Command::Keep(version) => {
            let request = pb::CancelKeyDestructionRequest {
                request_id: request_id()?,
                platform: version.place.platform.clone(),
                version: version.version,
                kind: version.kind.message().into(),
            };
            let answer = keys(version.place.client.connect().await?).cancel_key_destruction(request).await;
            print(answer.map_err(refused)?.into_inner().key, out)
        }
    }
}

async fn disable(version: &Chosen, out: &mut Out) -> Result<(), Failure> {
    use pb::disable_key_response::Outcome;
    let request = pb::DisableKeyRequest {
        request_id: request_id()?,
        platform: version.place.platform.clone(),
        version: version.version,
        kind: version.kind.message().into(),
    };
    let answer = keys(version.place.client.connect().await?).disable_key(request).await;
    match answer.map_err(refused)?.into_inner().outcome {
        Some(Outcome::Applied(key)) => print(Some(key), out),
        Some(Outcome::Proposal(proposal)) => Err(Failure::proposed(&proposal)),
        None => print(None, out),
    }
}

async fn destroy(version: &Chosen, at: &str, out: &mut Out) -> Result<(), Failure> {
    use pb::schedule_key_destruction_response::Outcome;
    let request = pb::ScheduleKeyDestructionRequest {
        request_id: request_id()?,
        platform: version.place.platform.clone(),
        version: version.version,
        destroy_time: Some(when(Some(at))?),
        kind: version.kind.message().into(),
    };
    let answer = keys(version.place.client.connect().await?).schedule_key_destruction(request).await;
    match answer.map_err(refused)?.into_inner().outcome {
        Some(Outcome::Applied(key)) => print(Some(key), out),
        Some(Outcome::Proposal(proposal)) => Err(Failure::proposed(&proposal)),
        None => print(None, out),
    }
}

async fn rotate(
    place: &Place,
    request: pb::RotateKeyRequest,
    watch: bool,
    out: &mut Out,
) -> Result<(), Failure> {
    use pb::rotate_key_response::Outcome;
    let kind = request.kind();
    let answer = keys(place.client.connect().await?).rotate_key(request).await.map_err(refused)?;
    match answer.into_inner().outcome {
        Some(Outcome::Plan(plan)) => print_plan(kind, &plan, out),
        Some(Outcome::Proposal(proposal)) => Err(Failure::proposed(&proposal)),
        Some(Outcome::Operation(begun)) => {
            if watch {
                let which = Which { client: place.client.clone(), operation: begun.operation_id };
                return operation::watch(&which, out).await;
            }
            operation::print(&begun, out)?;
            Ok(out.note(&format!("it goes on by itself: sandyq keys watch {}", begun.operation_id))?)
        }
        None => Err(Failure::new(exit::FAILED, "the vault answered nothing")),
    }
}

async fn rekey(place: &Place, request: pb::RekeyPlatformRequest, out: &mut Out) -> Result<(), Failure> {
    use pb::rekey_platform_response::Outcome;
    let answer = keys(place.client.connect().await?).rekey_platform(request).await.map_err(refused)?;
    match answer.into_inner().outcome {
        Some(Outcome::Plan(plan)) => print_rekey_plan(&plan, out),
        Some(Outcome::Proposal(proposal)) => Err(Failure::proposed(&proposal)),
        // Of a request that was approved already.
        Some(Outcome::Operation(begun)) => operation::print(&begun, out),
        None => Err(Failure::new(exit::FAILED, "the vault answered nothing")),
    }
}

fn print_rekey_plan(plan: &pb::RotationPlan, out: &mut Out) -> Result<(), Failure> {
    let json = json!({
        "version": plan.version, "subject_keys": plan.subject_keys, "values": plan.values,
        "document_parts": plan.document_parts,
        "estimated_seconds": plan.estimated_seconds, "blockers": plan.blockers,
    });
    let (values, parts) = (plan.values, plan.document_parts);
    let mut lines = vec![
        format!(
            "would make    version {} of the platform key, and {} subject keys",
            plan.version, plan.subject_keys
        ),
        format!("would seal    {values} values and {parts} parts of documents anew, and open them to verify"),
        "would destroy the versions of before, 24 hours after the last proposal under them can be approved"
            .to_owned(),
    ];
    if plan.estimated_seconds > 0 {
        lines.push(format!("would take    {} s to seal, and less to verify", plan.estimated_seconds));
    }
    finish_plan(&json, lines, plan, out)
}

fn finish_plan(
    json: &serde_json::Value,
    mut lines: Vec<String>,
    plan: &pb::RotationPlan,
    out: &mut Out,
) -> Result<(), Failure> {
    lines.extend(plan.blockers.iter().map(|blocker| format!("in the way    {blocker}")));
    if plan.blockers.is_empty() {
        lines.push("in the way    nothing".to_owned());
    }
    out.data(json, &lines)?;
    Ok(out.note("nothing was changed")?)
}

fn print_plan(kind: pb::KeyKind, plan: &pb::RotationPlan, out: &mut Out) -> Result<(), Failure> {
    let json = json!({
        "version": plan.version, "subject_keys": plan.subject_keys, "logs": plan.logs,
        "platform_keys": plan.platform_keys,
        "estimated_seconds": plan.estimated_seconds, "blockers": plan.blockers,
    });
    let mut lines = vec![format!("would make    version {} of the {} key", plan.version, kind_name(kind))];
    let subjects = plan.subject_keys;
    let mut passes = "two";
    if kind == pb::KeyKind::Audit {
        lines.push(format!("would hand    {} logs over, and look at the head of each to verify", plan.logs));
    } else if kind == pb::KeyKind::Root {
        lines.push(format!(
            "would wrap    {} keys of platforms anew, and open each to verify",
            plan.platform_keys
        ));
    } else if kind == pb::KeyKind::Index {
        passes = "three";
        let held = "and hold each against the new index";
        lines.push(format!("would hash    what is held of {subjects} subjects anew, {held}"));
        lines.push("would drop    every other index then".to_owned());
    } else {
        lines.push(format!("would wrap    {subjects} subject keys anew, and open each to verify"));
    }
    if plan.estimated_seconds > 0 {
        lines.push(format!("would take    {} s for each of the {passes} passes", plan.estimated_seconds));
    }
    finish_plan(&json, lines, plan, out)
}

async fn list(client: &client::Args, platform: String, out: &mut Out) -> Result<(), Failure> {
    let mut client = keys(client.connect().await?);
    let mut request = pb::ListKeysRequest { platform, ..pb::ListKeysRequest::default() };
    let mut all = Vec::new();
    loop {
        let page = client.list_keys(request.clone()).await.map_err(refused)?.into_inner();
        all.extend(page.keys);
        request.page_token = page.next_page_token;
        if request.page_token.is_empty() {
            break;
        }
    }
    let json: Vec<_> = all.iter().map(as_json).collect();
    let lines: Vec<_> = all.iter().map(line).collect();
    Ok(out.data(&json!({ "keys": json }), &lines)?)
}

async fn usage(place: &Place, out: &mut Out) -> Result<(), Failure> {
    let request =
        pb::ListKeyUsageRequest { platform: place.platform.clone(), ..pb::ListKeyUsageRequest::default() };
    let answer = keys(place.client.connect().await?).list_key_usage(request).await.map_err(refused)?;
    let usages = answer.into_inner().usages;
    let json: Vec<_> = usages
        .iter()
        .map(|usage| {
            json!({
                "kind": kind_name(usage.kind()), "version": usage.version, "state": state(usage.state()),
                "subject_keys": usage.subject_keys, "hashes": usage.hashes,
            })
        })
        .collect();
    let line = |usage: &pb::KeyUsage| {
        let (kind, state) = (kind_name(usage.kind()), state(usage.state()));
        let uses = if usage.kind() == pb::KeyKind::Index {
            format!("has {} values, references and 12-digit tokens", usage.hashes)
        } else {
            format!("wraps {} subject keys", usage.subject_keys)
        };
        format!("{kind:<9} version {:<4} {state:<22} {uses}", usage.version)
    };
    Ok(out.data(&json!({ "usages": json }), &usages.iter().map(line).collect::<Vec<_>>())?)
}

fn kind_name(kind: pb::KeyKind) -> String {
    kind.as_str_name().trim_start_matches("KEY_KIND_").to_lowercase()
}

fn state(state: pb::KeyState) -> String {
    state.as_str_name().trim_start_matches("KEY_STATE_").to_lowercase()
}

fn line(key: &pb::KeyVersion) -> String {
    let mut end =
        key.destroy_time.map(|at| format!("  destroyed at {}", show_time(Some(at)))).unwrap_or_default();
    if !key.verifier_key.is_empty() {
        end = format!("{end}  {}", key.verifier_key);
    }
    format!(
        "{:<16} {:<9} {:<4} {:<22} since {}{end}",
        key.platform,
        kind_name(key.kind()),
        key.version,
        state(key.state()),
        show_time(key.create_time)
    )
}

fn as_json(key: &pb::KeyVersion) -> serde_json::Value {
    json!({
        "platform": key.platform,
        "kind": kind_name(key.kind()),
        "version": key.version, "state": state(key.state()),
        "create_time": instant(key.create_time.as_ref()), "destroy_time": instant(key.destroy_time.as_ref()),
        "verifier_key": key.verifier_key,
    })
}

fn print(key: Option<pb::KeyVersion>, out: &mut Out) -> Result<(), Failure> {
    let key = key.ok_or_else(|| Failure::new(exit::FAILED, "the vault answered no key version"))?;
    Ok(out.data(&as_json(&key), &[line(&key)])?)
}
