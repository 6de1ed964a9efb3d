//! `sandyq breach …`: breaches of the security of personal data, from their finding to the end.

mod facts;
mod page;
mod show;

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::PathBuf};

use clap::Subcommand;
use serde_json::json;

use self::facts::Facts;
use super::{
    client::{breaches, request_id},
    output::{Failure, Out, exit, meter, refused},
    registers::{At, CHANNELS, LANGUAGES, channel_of, every, listed, narrowed, number},
    values::when,
};
use crate::{
    crypto::{digest::sha256, document::ContentHash},
    domain::ids::SubjectId,
    grpc::pb,
};

const ADDRESSEES: [&str; 2] = ["authority", "subjects"];
const OUTCOMES: [&str; 2] = ["settled", "not-confirmed"];
const FORMATS: [&str; 3] = ["text", "json", "html"];

/// Which breach.
#[derive(clap::Args, Debug, Clone)]
pub(super) struct Which {
    #[command(flatten)]
    at: At,
    /// The breach, `brc_…`.
    breach: String,
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Register a breach, and print by when the authority is told.
    Open {
        #[command(flatten)]
        at: At,
        /// When it was found out, RFC 3339; now, where absent. The authority's day counts from then, and it never changes.
        #[arg(long)]
        found_at: Option<String>,
        #[command(flatten)]
        facts: Facts,
    },
    /// Record what is known now. What is not given stays; lists are added to.
    Amend {
        #[command(flatten)]
        which: Which,
        #[command(flatten)]
        facts: Facts,
        /// Lists and ways in that are given take the place of those that were.
        #[arg(long)]
        replace: bool,
    },
    /// Find in the log whom it reaches, and record how many, which data, purposes and recipients.
    Assess(Which),
    /// Write the ids of the people whom it reaches, one a line.
    Subjects {
        #[command(flatten)]
        which: Which,
        /// The new file; nobody else may read it.
        #[arg(long, value_name = "FILE")]
        output: PathBuf,
    },
    /// Write what the authority or the people are told, as it stands now. Nothing is recorded.
    Notice {
        #[command(flatten)]
        which: Which,
        /// Who is told.
        #[arg(long, value_parser = ADDRESSEES)]
        to: String,
        /// In which language.
        #[arg(long, value_parser = LANGUAGES)]
        language: String,
        /// `text` to be sent, `json` for programs, `html` for people.
        #[arg(long, value_parser = FORMATS, default_value = "text")]
        format: String,
        /// Contacts of the responsible person, for the page and the JSON; they do not go to the vault.
        #[arg(long, default_value = "")]
        contact: String,
        /// The new file; without it, it is printed.
        #[arg(long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Record that the authority or the people were told.
    Report {
        #[command(flatten)]
        which: Which,
        /// Who was told.
        #[arg(long, value_parser = ADDRESSEES)]
        to: String,
        /// When, RFC 3339; now, where absent.
        #[arg(long)]
        told_at: Option<String>,
        /// How.
        #[arg(long, value_parser = CHANNELS)]
        channel: String,
        /// In which language.
        #[arg(long, value_parser = LANGUAGES)]
        language: String,
        /// The authority's number of its receipt, or the platform's of the mailing.
        #[arg(long, default_value = "")]
        reference: String,
        /// What was sent with the notice, such as the list of people by name: its hash is recorded.
        #[arg(long, value_name = "FILE")]
        enclosure: Option<PathBuf>,
    },
    /// End it.
    Close {
        #[command(flatten)]
        which: Which,
        /// How it ended.
        #[arg(long, value_parser = OUTCOMES)]
        outcome: String,
        /// The decision behind it, in the platform's numbering; required where there was none.
        #[arg(long, default_value = "")]
        ground: String,
    },
    /// Print a breach.
    Show(Which),
    /// List breaches that have not ended, in the order in which the authority is to be told.
    List {
        #[command(flatten)]
        at: At,
        /// Only those of which the authority was not told in its day.
        #[arg(long, conflicts_with = "all")]
        overdue: bool,
        /// Those that have ended, too.
        #[arg(long)]
        all: bool,
    },
}

pub(super) async fn run(command: Command, out: &mut Out) -> Result<(), Failure> {
    match command {
        Command::Open { at, found_at, facts } => {
            let channel = at.client.connect().await?;
            let request = pb::OpenBreachRequest {
                request_id: request_id()?,
                find_time: Some(when(found_at.as_deref())?),
                facts: Some(facts.first(channel.clone(), &at.platform).await?),
                platform: at.platform,
            };
            let answer = breaches(channel).open_breach(request).await.map_err(refused)?;
            show::print(&answer.into_inner().breach.unwrap_or_default(), out)
        }
        Command::Amend { which, facts, replace } => amend(which, facts, replace, out).await,
        Command::Assess(which) => assess(which, out).await,
        Command::Subjects { which, output } => subjects(which, output, out).await,
        Command::Notice { which, to, language, format, contact, output } => {
            let request = pb::GetBreachNoticeRequest {
                platform: which.at.platform,
                breach_id: which.breach,
                to: addressee(&to)?,
                language: language.clone(),
            };
            let client = which.at.client.connect().await?;
            let notice = breaches(client).get_breach_notice(request).await.map_err(refused)?.into_inner();
            let text = match format.as_str() {
                "html" => page::render(&notice, &language, &contact),
                "json" => format!("{:#}\n", page::json(&notice, &to, &language, &contact)),
                _ => notice.text,
            };
            written(&text, output, out)
        }
        Command::Report { which, to, told_at, channel, language, reference, enclosure } => {
            let enclosed = enclosure.map(fs::read).transpose()?;
            let request = pb::ReportBreachRequest {
                request_id: request_id()?,
                platform: which.at.platform,
                breach_id: which.breach,
                to: addressee(&to)?,
                tell_time: Some(when(told_at.as_deref())?),
                channel: channel_of(&channel)?,
                language,
                reference,
                enclosure_sha256: enclosed.map(|bytes| sha256(&bytes).to_vec()).unwrap_or_default(),
            };
            let client = which.at.client.connect().await?;
            let answer = breaches(client).report_breach(request).await.map_err(refused)?;
            show::print(&answer.into_inner().breach.unwrap_or_default(), out)
        }
        Command::Close { which, outcome, ground } => {
            let outcome = number("BREACH_OUTCOME_", &outcome, pb::BreachOutcome::from_str_name)?;
            let request = pb::CloseBreachRequest {
                request_id: request_id()?,
                platform: which.at.platform,
                breach_id: which.breach,
                outcome: outcome.into(),
                ground,
            };
            let client = which.at.client.connect().await?;
            let answer = breaches(client).close_breach(request).await.map_err(refused)?;
            show::print(&answer.into_inner().breach.unwrap_or_default(), out)
        }
        Command::Show(which) => {
            let request = pb::GetBreachRequest { platform: which.at.platform, breach_id: which.breach };
            let client = which.at.client.connect().await?;
            let answer = breaches(client).get_breach(request).await.map_err(refused)?;
            show::print(&answer.into_inner().breach.unwrap_or_default(), out)
        }
        Command::List { at, overdue, all } => list(at, overdue, all, out).await,
    }
}

fn addressee(code: &str) -> Result<i32, Failure> {
    number("BREACH_ADDRESSEE_", code, pb::BreachAddressee::from_str_name).map(i32::from)
}

async fn amend(which: Which, facts: Facts, replace: bool, out: &mut Out) -> Result<(), Failure> {
    let channel = which.at.client.connect().await?;
    let (platform, breach_id) = (which.at.platform, which.breach);
    let get = pb::GetBreachRequest { platform: platform.clone(), breach_id: breach_id.clone() };
    let found = breaches(channel.clone()).get_breach(get).await.map_err(refused)?.into_inner();
    let was = found.breach.and_then(|breach| breach.facts).unwrap_or_default();
    let facts = Some(facts.over(was, replace, channel.clone(), &platform).await?);
    let request = pb::AmendBreachRequest { request_id: request_id()?, platform, breach_id, facts };
    let answer = breaches(channel).amend_breach(request).await.map_err(refused)?;
    show::print(&answer.into_inner().breach.unwrap_or_default(), out)
}

fn told(progress: &pb::BreachProgress, out: &mut Out) {
    let size = |number: i64| usize::try_from(number).unwrap_or(0);
    out.progress(&format!(
        "looking through the log {}",
        meter(size(progress.entries_read), size(progress.entries))
    ));
}

async fn assess(which: Which, out: &mut Out) -> Result<(), Failure> {
    use pb::assess_breach_response::Step;
    let request = pb::AssessBreachRequest {
        request_id: request_id()?,
        platform: which.at.platform,
        breach_id: which.breach,
    };
    let client = which.at.client.connect().await?;
    let mut steps = breaches(client).assess_breach(request).await.map_err(refused)?.into_inner();
    while let Some(step) = steps.message().await.map_err(refused)? {
        match step.step {
            Some(Step::Progress(progress)) => told(&progress, out),
            Some(Step::Breach(breach)) => {
                out.progress_end();
                return show::print(&breach, out);
            }
            None => {}
        }
    }
    Err(Failure::new(exit::FAILED, "the search of the log ended before its end; ask again"))
}

async fn subjects(which: Which, output: PathBuf, out: &mut Out) -> Result<(), Failure> {
    use pb::export_breach_subjects_response::Step;
    let request = pb::ExportBreachSubjectsRequest { platform: which.at.platform, breach_id: which.breach };
    let client = which.at.client.connect().await?;
    let mut steps = breaches(client).export_breach_subjects(request).await.map_err(refused)?.into_inner();
    let file = fs::File::options().create_new(true).write(true).mode(0o600).open(&output)?;
    let mut file = std::io::BufWriter::new(file);
    let (mut hash, mut count) = (ContentHash::default(), 0_i64);
    let mut whole = None;
    while let Some(step) = steps.message().await.map_err(refused)? {
        match step.step {
            Some(Step::Progress(progress)) => told(&progress, out),
            Some(Step::Subjects(some)) => {
                for id in some.subject_ids {
                    hash.update(id.parse::<SubjectId>()?.as_bytes());
                    writeln!(file, "{id}")?;
                    count += 1;
                }
            }
            Some(Step::Breach(breach)) => whole = breach.scope,
            None => {}
        }
    }
    file.flush()?;
    out.progress_end();
    let scope = whole.ok_or(Failure::new(exit::FAILED, "the list ended before its end; ask again"))?;
    if count != scope.subjects || hash.finish().as_slice() != scope.subjects_sha256.as_slice() {
        return Err(Failure::new(exit::FAILED, "the list is not the one whose hash is registered"));
    }
    let hex = data_encoding::HEXLOWER.encode(&scope.subjects_sha256);
    let lines = [
        format!("people       {count}"),
        format!("sha256       {hex}"),
        format!("list         {}", output.display()),
    ];
    let data = json!({ "subjects": count, "subjects_sha256": hex, "output": output });
    Ok(out.data(&data, &lines)?)
}

/// Writes a notice to a new file, or prints it.
fn written(text: &str, output: Option<PathBuf>, out: &mut Out) -> Result<(), Failure> {
    let Some(path) = output else {
        return Ok(out.data(&json!({ "notice": text }), &[text.to_owned()])?);
    };
    fs::File::options().create_new(true).write(true).open(&path)?.write_all(text.as_bytes())?;
    let hex = data_encoding::HEXLOWER.encode(&sha256(text.as_bytes()));
    let lines = [format!("notice       {}", path.display()), format!("sha256       {hex}")];
    Ok(out.data(&json!({ "output": path, "sha256": hex }), &lines)?)
}

async fn list(at: At, overdue: bool, all: bool, out: &mut Out) -> Result<(), Failure> {
    use pb::BreachFilter::{All, Open, Overdue};
    let (platform, filter) = (at.platform, narrowed(overdue, all, [Overdue, All, Open]).into());
    let mut calls = breaches(at.client.connect().await?);
    let request =
        |page_token| pb::ListBreachesRequest { platform: platform.clone(), filter, page_size: 0, page_token };
    let found = every!(calls.list_breaches(page_token => request(page_token)).breaches);
    listed(out, ("breaches", "no breach"), &found, show::line, show::json)
}
