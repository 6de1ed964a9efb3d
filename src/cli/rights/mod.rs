//! `sandyq rights …`: requests of people about their data, from their receipt to the answer.

mod export;
mod page;

use std::{fs, io::Write as _, path::PathBuf};

use clap::Subcommand;
use serde_json::{Value, json};

use super::{
    client::{request_id, rights},
    output::{Failure, Out, instant, refused, show_time},
    registers::{At, CHANNELS, LANGUAGES, channel_of, code, every, last_day, listed, narrowed, number},
    subject::name_of,
    values::when,
};
use crate::{crypto::digest::sha256, grpc::pb};

const KINDS: [&str; 8] = [
    "access",
    "correction",
    "restriction",
    "portability",
    "erasure",
    "anonymisation",
    "objection",
    "withdrawal",
];
const METHODS: [&str; 5] =
    ["login", "one-time-code", "electronic-signature", "document-seen", "state-service"];
const REASONS: [&str; 6] = [
    "identity-not-proved",
    "no-data",
    "not-confirmed",
    "law-bars",
    "obligation-unfulfilled",
    "no-automated-decision",
];
const FORMATS: [&str; 3] = ["json", "html", "portable"];

/// Which request.
#[derive(clap::Args, Debug, Clone)]
pub(super) struct Which {
    #[command(flatten)]
    at: At,
    /// The request, `cas_…`.
    case: String,
}

/// How the person is told.
#[derive(clap::Args, Debug, Clone)]
pub(super) struct Told {
    /// By which channel the person is told.
    #[arg(long, value_parser = CHANNELS)]
    channel: String,
    /// Language of the notice.
    #[arg(long, value_parser = LANGUAGES)]
    language: String,
    /// Write the notice to this new file; without it, it is printed.
    #[arg(long, value_name = "FILE")]
    notice: Option<PathBuf>,
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Register a request, and print by when it is answered.
    Open {
        #[command(flatten)]
        at: At,
        /// Whose data: the platform's reference, or the vault's id `sub_…`; `-` where the platform knows nobody like that.
        subject: String,
        /// What is asked.
        #[arg(long, value_parser = KINDS)]
        kind: String,
        /// How it came.
        #[arg(long, value_parser = CHANNELS)]
        channel: String,
        /// When it came, RFC 3339; now, where absent. Its days count from the next day.
        #[arg(long)]
        received_at: Option<String>,
        /// Through which site of the policy.
        #[arg(long, default_value = "")]
        site: String,
        /// The paper of a representative who asks, in the platform's numbering; without it the person asks.
        #[arg(long, default_value = "")]
        representation: String,
        /// The platform's own number of the request.
        #[arg(long, default_value = "")]
        reference: String,
    },
    /// Record how it was found out who asks. No document is kept here: say where the evidence lies.
    Check {
        #[command(flatten)]
        which: Which,
        /// How.
        #[arg(long, value_parser = METHODS)]
        method: String,
        /// Where the evidence lies, in the platform's numbering.
        #[arg(long)]
        evidence: String,
        /// When proof of what is asked came, where that was after the request, RFC 3339.
        #[arg(long)]
        proof_at: Option<String>,
    },
    /// Begin the work on it.
    Begin(Which),
    /// Do what it asks: erase, block, anonymise, mark the objection, withdraw consents, or find the correction made. Without
    /// `--yes` nothing is changed.
    Fulfil {
        #[command(flatten)]
        which: Which,
        /// When a block is looked at again, RFC 3339; of a restriction.
        #[arg(long)]
        review_at: Option<String>,
        /// A consent that ends, `con_…`; of a withdrawal. May be given more than once; without it, every one in force.
        #[arg(long = "consent")]
        consents: Vec<String>,
        /// Do it indeed; without it, what would be done is printed.
        #[arg(long)]
        yes: bool,
    },
    /// Write what is held of the person who asks: by field what, why, since when, until when, who saw it, to whom it went.
    Export {
        #[command(flatten)]
        which: Which,
        /// Declared purpose for which values are read; without it, no value is.
        #[arg(long, default_value = "")]
        purpose: String,
        /// `json` for programs, `html` for people, `portable` for another operator: values alone.
        #[arg(long, value_parser = FORMATS, default_value = "json")]
        format: String,
        /// Language of the page.
        #[arg(long, value_parser = LANGUAGES, default_value = "ru")]
        language: String,
        /// The new file; nobody else may read it.
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// End it: what was asked is done. Prints the notice to the person.
    Answer {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        told: Told,
        /// The decision behind it, in the platform's numbering.
        #[arg(long, default_value = "")]
        ground: String,
        /// What goes with the notice, such as an export: its hash is recorded.
        #[arg(long, value_name = "FILE")]
        enclosure: Option<PathBuf>,
    },
    /// Refuse it with reasons. Prints the notice to the person.
    Refuse {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        told: Told,
        /// Why; may be given more than once.
        #[arg(long = "reason", value_parser = REASONS, required = true)]
        reasons: Vec<String>,
        /// The law or contract behind it, in the platform's numbering.
        #[arg(long, default_value = "")]
        ground: String,
    },
    /// Print a request.
    Show(Which),
    /// List requests without an answer, in the order in which they are due.
    List {
        #[command(flatten)]
        at: At,
        /// Only those whose time is over.
        #[arg(long, conflicts_with = "all")]
        overdue: bool,
        /// Those that have ended, too.
        #[arg(long)]
        all: bool,
    },
}

pub(super) async fn run(command: Command, out: &mut Out) -> Result<(), Failure> {
    match command {
        Command::Open { at, subject, kind, channel, received_at, site, representation, reference } => {
            let acts = if representation.is_empty() {
                pb::CaseRequester::Subject
            } else {
                pb::CaseRequester::Representative
            };
            let request = pb::OpenCaseRequest {
                request_id: request_id()?,
                platform: at.platform,
                subject: (subject != "-").then(|| name_of(&subject)),
                nobody_known: subject == "-",
                kind: number("RIGHT_KIND_", &kind, pb::RightKind::from_str_name)?.into(),
                channel: channel_of(&channel)?,
                site,
                requester: acts.into(),
                representation,
                reference,
                receive_time: Some(when(received_at.as_deref())?),
            };
            let answer = rights(at.client.connect().await?).open_case(request).await.map_err(refused)?;
            print(&answer.into_inner().case.unwrap_or_default(), out)
        }
        Command::Check { which, method, evidence, proof_at } => {
            let proof_time = proof_at.map(|at| when(Some(&at))).transpose()?;
            let method = number("IDENTITY_METHOD_", &method, pb::IdentityMethod::from_str_name)?.into();
            let identity = pb::IdentityCheck { method, evidence, proof_time };
            advance(which, pb::advance_case_request::Step::Identity(identity), out).await
        }
        Command::Begin(which) => {
            advance(which, pb::advance_case_request::Step::Work(pb::WorkBegun {}), out).await
        }
        Command::Fulfil { which, yes: false, .. } => {
            show(which, out).await?;
            Ok(out.note("nothing was changed: say --yes to do what is asked")?)
        }
        Command::Fulfil { which, review_at, consents, yes: true } => {
            let request = pb::FulfilCaseRequest {
                request_id: request_id()?,
                platform: which.at.platform,
                case_id: which.case,
                review_time: review_at.map(|at| when(Some(&at))).transpose()?,
                consent_ids: consents,
            };
            let client = which.at.client.connect().await?;
            let answer = rights(client).fulfil_case(request).await.map_err(refused)?;
            fulfilled(answer.into_inner(), out)
        }
        Command::Export { which, purpose, format, language, output } => {
            export::run(which, purpose, &format, &language, &output, out).await
        }
        Command::Answer { which, told, ground, enclosure } => {
            let enclosed = enclosure.map(fs::read).transpose()?;
            let request = pb::AnswerCaseRequest {
                request_id: request_id()?,
                platform: which.at.platform,
                case_id: which.case,
                channel: channel_of(&told.channel)?,
                language: told.language.clone(),
                ground,
                enclosure_sha256: enclosed.map(|bytes| sha256(&bytes).to_vec()).unwrap_or_default(),
            };
            let client = which.at.client.connect().await?;
            let answer = rights(client).answer_case(request).await.map_err(refused)?;
            ended(&answer.into_inner().case.unwrap_or_default(), &told, out)
        }
        Command::Refuse { which, told, reasons, ground } => {
            let reason = |text: &String| {
                number("REFUSAL_REASON_", text, pb::RefusalReason::from_str_name).map(i32::from)
            };
            let request = pb::RefuseCaseRequest {
                request_id: request_id()?,
                platform: which.at.platform,
                case_id: which.case,
                reasons: reasons.iter().map(reason).collect::<Result<_, _>>()?,
                ground,
                channel: channel_of(&told.channel)?,
                language: told.language.clone(),
            };
            let client = which.at.client.connect().await?;
            let answer = rights(client).refuse_case(request).await.map_err(refused)?;
            ended(&answer.into_inner().case.unwrap_or_default(), &told, out)
        }
        Command::Show(which) => show(which, out).await,
        Command::List { at, overdue, all } => list(at, overdue, all, out).await,
    }
}

async fn show(which: Which, out: &mut Out) -> Result<(), Failure> {
    let request = pb::GetCaseRequest { platform: which.at.platform, case_id: which.case };
    let answer = rights(which.at.client.connect().await?).get_case(request).await.map_err(refused)?;
    print(&answer.into_inner().case.unwrap_or_default(), out)
}

async fn advance(which: Which, step: pb::advance_case_request::Step, out: &mut Out) -> Result<(), Failure> {
    let request = pb::AdvanceCaseRequest {
        request_id: request_id()?,
        platform: which.at.platform,
        case_id: which.case,
        step: Some(step),
    };
    let answer = rights(which.at.client.connect().await?).advance_case(request).await.map_err(refused)?;
    print(&answer.into_inner().case.unwrap_or_default(), out)
}

async fn list(at: At, overdue: bool, all: bool, out: &mut Out) -> Result<(), Failure> {
    use pb::CaseFilter::{All, Open, Overdue};
    let (platform, filter) = (at.platform, narrowed(overdue, all, [Overdue, All, Open]).into());
    let mut calls = rights(at.client.connect().await?);
    let request =
        |page_token| pb::ListCasesRequest { platform: platform.clone(), filter, page_size: 0, page_token };
    let found = every!(calls.list_cases(page_token => request(page_token)).cases);
    listed(out, ("cases", "no request"), &found, line, json)
}

fn kind(case: &pb::Case) -> String {
    code(case.kind().as_str_name(), "RIGHT_KIND_")
}

fn state(case: &pb::Case) -> String {
    code(case.state().as_str_name(), "CASE_STATE_")
}

fn line(case: &pb::Case) -> String {
    let late = if case.overdue { "  OVERDUE" } else { "" };
    format!(
        "{}  until {}  {:<14} {:<16} {}{late}",
        case.case_id,
        last_day(case.due_time),
        kind(case),
        state(case),
        case.reference
    )
}

fn json(case: &pb::Case) -> Value {
    let hex = |bytes: &[u8]| data_encoding::HEXLOWER.encode(bytes);
    let channel = |channel: pb::RightsChannel| code(channel.as_str_name(), "RIGHTS_CHANNEL_");
    json!({
        "case_id": case.case_id, "subject_id": case.subject_id, "kind": kind(case),
        "channel": channel(case.channel()), "site": case.site, "reference": case.reference,
        "requester": code(case.requester().as_str_name(), "CASE_REQUESTER_"),
        "representation": case.representation, "received_at": instant(case.receive_time.as_ref()),
        "counts_from": instant(case.count_time.as_ref()), "working_days": case.working_days,
        "clause": case.clause, "due_at": instant(case.due_time.as_ref()), "last_day": last_day(case.due_time),
        "calendar_sha256": hex(&case.calendar_sha256), "state": state(case), "overdue": case.overdue,
        "identity": case.identity.as_ref().map(|identity| json!({
            "method": code(identity.method().as_str_name(), "IDENTITY_METHOD_"),
            "evidence": identity.evidence, "at": instant(case.identify_time.as_ref()),
        })),
        "begun_at": instant(case.begin_time.as_ref()), "done_at": instant(case.done_time.as_ref()),
        "ending": case.ending.as_ref().map(|ending| json!({
            "at": instant(ending.end_time.as_ref()),
            "reasons": ending.reasons().map(|r| code(r.as_str_name(), "REFUSAL_REASON_")).collect::<Vec<_>>(),
            "ground": ending.ground, "channel": channel(ending.channel()), "language": ending.language,
            "notice_sha256": hex(&ending.notice_sha256), "enclosure_sha256": hex(&ending.enclosure_sha256),
            "notice": ending.notice,
        })),
    })
}

fn print(case: &pb::Case, out: &mut Out) -> Result<(), Failure> {
    Ok(out.data(&json(case), &lines(case))?)
}

/// Prints a case that is done, and who has a former value.
fn fulfilled(done: pb::FulfilCaseResponse, out: &mut Out) -> Result<(), Failure> {
    let case = done.case.unwrap_or_default();
    let (mut data, mut lines, mut former) = (json(&case), lines(&case), Vec::new());
    for release in &done.former_releases {
        let (recipient, field, at) = (&release.recipient, &release.field, show_time(release.disclose_time));
        lines.push(format!("to be told   {recipient}: {field}, which it got on {at}"));
        former.push(
            json!({ "recipient": recipient, "field": field, "at": at, "entry": release.audit_entry_id }),
        );
    }
    if let Some(object) = data.as_object_mut() {
        object.insert("former_releases".to_owned(), former.into());
    }
    Ok(out.data(&data, &lines)?)
}

fn lines(case: &pb::Case) -> Vec<String> {
    let late = if case.overdue { ", OVERDUE" } else { "" };
    let subject = if case.subject_id.is_empty() { "nobody known" } else { &case.subject_id };
    let mut lines = vec![
        format!("request      {} {}", case.case_id, case.reference),
        format!("asks for     {}, {subject}", kind(case)),
        format!("state        {}{late}", state(case)),
        format!("received     {}", show_time(case.receive_time)),
        format!(
            "last day     {} ({} working days, {})",
            last_day(case.due_time),
            case.working_days,
            case.clause
        ),
    ];
    if let Some(identity) = &case.identity {
        let method = code(identity.method().as_str_name(), "IDENTITY_METHOD_");
        lines.push(format!(
            "identity     {method}, {} on {}",
            identity.evidence,
            show_time(case.identify_time)
        ));
    }
    if let Some(done) = case.done_time {
        lines.push(format!("done         {}", show_time(Some(done))));
    }
    if let Some(ending) = &case.ending {
        lines.push(format!("told         {} in {}", show_time(ending.end_time), ending.language));
        let reasons = ending.reasons().map(|r| code(r.as_str_name(), "REFUSAL_REASON_"));
        lines.extend(reasons.map(|reason| format!("because      {reason} {}", ending.ground)));
    }
    lines
}

/// Prints a case that ended, and the notice to its person.
fn ended(case: &pb::Case, told: &Told, out: &mut Out) -> Result<(), Failure> {
    print(case, out)?;
    let notice = case.ending.as_ref().map_or("", |ending| ending.notice.as_str());
    match &told.notice {
        Some(path) => {
            fs::File::options().create_new(true).write(true).open(path)?.write_all(notice.as_bytes())?;
            Ok(out.note(&format!("{} is the notice to the person", path.display()))?)
        }
        None => Ok(out.line(&format!("\n{notice}"))?),
    }
}
