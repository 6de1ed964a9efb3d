//! `sandyq import`: people of a CSV or NDJSON file into a running vault.
//!
//! The file is read as a stream and sent in batches, a few at a time. Each batch is on record in the journal before it is sent, and
//! its results are durable before it is done there, so whoever is killed carries on with the same requests, which the vault does
//! once. Values get the record's one token and consents that are held are kept, so that even a file that comes again without its
//! journal stores nothing twice. What is written beside the input holds no value: docs/import.md describes it.

mod csv;
mod journal;
mod json;
mod progress;
mod rows;
mod send;

use std::{
    collections::VecDeque,
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::task::JoinHandle;

use super::{
    client::{self, request_id, vault},
    output::{Failure, Out, exit, refused},
    serve::terminated,
    token::Source,
};
use crate::{
    domain::{ids::RequestId, time::Clock},
    grpc::pb,
};
pub(super) use csv::CONSENT;
use journal::{Begun, Done, Header, Journal, Results, Told, identity};
use progress::Progress;
use rows::{Problem, Rows, Same};
use send::{Answered, Batch, Came, Cutter, Sender, undeclared};

const VERSION: u32 = 1;
/// Refused rows that are printed; the report has all.
const PRINTED: usize = 20;
/// How old an id may be that is sent once more: the vault keeps what was done for a day.
const OLDEST_MICROS: i64 = 23 * 60 * 60 * 1_000_000;

/// Form of the input.
#[derive(clap::ValueEnum, Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Format {
    Csv,
    Ndjson,
}

/// Whom the rows are about.
#[derive(clap::ValueEnum, Debug, Clone, Copy)]
enum Kind {
    Natural,
    Legal,
    Represented,
}

#[derive(clap::Args, Debug)]
pub(super) struct ImportArgs {
    #[command(flatten)]
    client: client::Args,
    /// The file: CSV with a header, or NDJSON (docs/import.md).
    file: PathBuf,
    /// Its form; by its name, where absent.
    #[arg(long, value_enum)]
    format: Option<Format>,
    /// What stands between the columns of CSV.
    #[arg(long, default_value_t = ',', value_name = "CHARACTER")]
    delimiter: char,
    /// Where the values came from.
    #[arg(long, value_enum, default_value = "subject")]
    source: Source,
    /// The paper behind the source, in the platform's numbering: a partner's proof, or the consent in the state's service.
    #[arg(long, default_value = "", value_name = "REFERENCE")]
    source_reference: String,
    /// Whom the rows are about; a natural person, or as the vault knows them already, where absent.
    #[arg(long, value_enum)]
    kind: Option<Kind>,
    /// Check every row against formats and policy; nothing is changed.
    #[arg(long)]
    dry_run: bool,
    /// Where the tokens go, a line a row; beside the input, where absent.
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    out: Option<PathBuf>,
    /// Where refused rows are told; beside the input, where absent.
    #[arg(long, value_name = "FILE")]
    report: Option<PathBuf>,
    /// What an import that broke off is carried on from; beside the input, where absent.
    #[arg(long, value_name = "FILE", conflicts_with = "dry_run")]
    journal: Option<PathBuf>,
    /// Batches that are on their way at a time.
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u8).range(1..=64))]
    concurrency: u8,
    /// Rows in a batch.
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u16).range(1..=1_000))]
    batch: u16,
    /// Seconds for which a batch is sent again where nobody answers.
    #[arg(long, default_value_t = 60, value_name = "SECONDS")]
    patience: u16,
}

impl ImportArgs {
    fn format(&self) -> Result<Format, Failure> {
        let by_name = || match self.file.extension()?.to_str()?.to_ascii_lowercase().as_str() {
            "csv" => Some(Format::Csv),
            "ndjson" | "jsonl" => Some(Format::Ndjson),
            _ => None,
        };
        let format = self.format.or_else(by_name);
        format.ok_or_else(|| Failure::new(exit::USAGE, "--format says whether it is csv or ndjson"))
    }

    fn delimiter(&self) -> Result<u8, Failure> {
        let byte =
            u8::try_from(self.delimiter).ok().filter(|byte| byte.is_ascii() && !b"\"\r\n".contains(byte));
        byte.ok_or_else(|| Failure::new(exit::USAGE, "--delimiter is one ASCII character, and no quote"))
    }

    fn kind(&self) -> i32 {
        match self.kind {
            None => pb::SubjectKind::Unspecified,
            Some(Kind::Natural) => pb::SubjectKind::Natural,
            Some(Kind::Legal) => pb::SubjectKind::Legal,
            Some(Kind::Represented) => pb::SubjectKind::Represented,
        }
        .into()
    }

    /// A file that is named, or one beside the input.
    fn beside(&self, named: Option<&PathBuf>, ending: &str) -> Result<PathBuf, Failure> {
        let mut name = OsString::from(self.file.as_os_str());
        name.push(ending);
        Ok(std::path::absolute(named.map_or(Path::new(&name), PathBuf::as_path))?)
    }
}

pub(super) async fn run(args: &ImportArgs, out: &mut Out) -> Result<(), Failure> {
    let (format, delimiter) = (args.format()?, args.delimiter()?);
    let (input_bytes, input_changed) = identity(&args.file)?;
    let mut client = vault(args.client.connect().await?);
    let caller = client.who_am_i(pb::WhoAmIRequest {}).await.map_err(refused)?.into_inner();
    let header = Header {
        version: VERSION,
        input_bytes,
        input_changed,
        format,
        delimiter,
        platform: caller.platform,
        caller: caller.caller,
        source: args.source.number(),
        source_reference: args.source_reference.clone(),
        kind: args.kind(),
        out: args.beside(args.out.as_ref(), ".tokens.ndjson")?,
        report: args
            .beside(args.report.as_ref(), if args.dry_run { ".check.ndjson" } else { ".report.ndjson" })?,
    };
    let sender =
        Sender { client, patience: Duration::from_secs(args.patience.into()), dry_run: args.dry_run };
    let (source, source_reference, kind) = (header.source, header.source_reference.clone(), header.kind);
    let same = Same { source, source_reference, kind };
    let rows = Rows::open(&args.file, format, delimiter, same.clone())?;
    check_header(&rows, sender.clone(), &same).await?;
    let mut ledger = if args.dry_run { Ledger::dry(header)? } else { Ledger::open(args, header)? };
    if ledger.ended {
        return ledger.tell(args, out);
    }
    let import = Import {
        cutter: Cutter::new(rows, ledger.done.to)?,
        begun: std::mem::take(&mut ledger.begun).into(),
        most_rows: args.batch.into(),
        most_batches: args.concurrency.into(),
        sender,
        progress: Progress::new(input_bytes, ledger.done.to),
        ledger,
        under_way: VecDeque::new(),
        read_all: false,
        halted: None,
    };
    let ledger = import.run(out).await?;
    ledger.tell(args, out)
}

/// Asks whether the policy declares each field of a header. Nothing is stored: no value is sent.
async fn check_header(rows: &Rows, mut sender: Sender, same: &Same) -> Result<(), Failure> {
    let items = rows.declared().iter().map(|declared| pb::TokenizeItem {
        subject_reference: "header".to_owned(),
        fields: vec![same.value(declared.field.clone(), String::new())],
        ..pb::TokenizeItem::default()
    });
    let items: Vec<_> = items.collect();
    if items.is_empty() {
        return Ok(());
    }
    let request = pb::BatchTokenizeRequest {
        request_id: request_id()?,
        items,
        validate_only: true,
        ..pb::BatchTokenizeRequest::default()
    };
    match undeclared(&sender.call(request).await?)?.and_then(|at| rows.declared().get(at)) {
        None => Ok(()),
        Some(field) => {
            let message = format!("column {} of the header: the policy declares no such field", field.column);
            Err(Failure::new(exit::FAILED, message))
        }
    }
}

/// What is written of an import: journal, results, report.
struct Ledger {
    header: Header,
    /// None where nothing is changed.
    files: Option<(Journal, Results)>,
    report: Report,
    done: Done,
    begun: Vec<Begun>,
    ended: bool,
    /// The first rows that this run refused, as people read them.
    printed: Vec<String>,
}

/// Where refused rows are told.
enum Report {
    Kept(Results),
    /// Put in its place when it is whole.
    Anew(tempfile::NamedTempFile),
}

#[derive(Serialize)]
struct RefusedLine<'a> {
    row: u64,
    line: u64,
    problems: &'a [Problem],
}

impl Ledger {
    /// Of a check: a report alone.
    fn dry(header: Header) -> Result<Self, Failure> {
        let dir = header.report.parent().unwrap_or(Path::new("/"));
        let report = Report::Anew(tempfile::NamedTempFile::new_in(dir)?);
        Ok(Self::new(header, None, report, None))
    }

    /// Of an import that begins, or that is carried on.
    fn open(args: &ImportArgs, header: Header) -> Result<Self, Failure> {
        let path = args.beside(args.journal.as_ref(), ".import.ndjson")?;
        let (mut journal, told) = Journal::open(&path)?;
        let Some(told) = told else {
            for file in [&header.out, &header.report] {
                if std::fs::exists(file)? {
                    let message = format!("{} is there already: name another file", file.display());
                    return Err(Failure::new(exit::FAILED, message));
                }
            }
            journal.import(&header)?;
            let results = Results::create(&header.out)?;
            let report = Report::Kept(Results::create(&header.report)?);
            return Ok(Self::new(header, Some((journal, results)), report, None));
        };
        if header != told.header {
            let message = format!(
                "{} is about another import: another input, or one that was changed since, another caller, or other options; \
                 what it holds is done. Name another journal with --journal, and other files with --out and --report",
                path.display()
            );
            return Err(Failure::new(exit::FAILED, message));
        }
        let results = Results::reopen(&told.header.out, told.done.out_bytes)?;
        let report = Report::Kept(Results::reopen(&told.header.report, told.done.report_bytes)?);
        Ok(Self::new(header, Some((journal, results)), report, Some(told)))
    }

    fn new(header: Header, files: Option<(Journal, Results)>, report: Report, told: Option<Told>) -> Self {
        let (done, begun, ended) =
            told.map_or((Done::NOTHING, Vec::new(), false), |told| (told.done, told.begun, told.ended));
        Self { header, files, report, done, begun, ended, printed: Vec::new() }
    }

    /// Notes that a batch is sent under this id, before it is.
    fn begin(&mut self, begun: &Begun) -> Result<(), Failure> {
        match &mut self.files {
            Some((journal, _)) => journal.begin(begun),
            None => Ok(()),
        }
    }

    /// Writes what came of a batch, and then that it is done.
    fn take(&mut self, answered: &Answered) -> Result<(), Failure> {
        let mut done = self.done;
        for ((line, came), row) in answered.rows.iter().zip(answered.from.rows + 1..) {
            match came {
                Came::Stored(stored) => {
                    done.stored += 1;
                    if let Some((_, results)) = &mut self.files {
                        results.line(&result(row, *line, stored))?;
                    }
                }
                Came::Refused(problems) => {
                    done.refused += 1;
                    if self.printed.len() < PRINTED {
                        self.printed.push(as_text(*line, problems));
                    }
                    self.report.line(&RefusedLine { row, line: *line, problems })?;
                }
            }
        }
        done.to = answered.to;
        if let Some((journal, results)) = &mut self.files {
            results.write()?;
            done.out_bytes = results.bytes;
            done.report_bytes = self.report.write()?;
            journal.done(done)?;
        }
        self.done = done;
        Ok(())
    }

    fn end(&mut self) -> Result<(), Failure> {
        self.ended = true;
        match &mut self.files {
            Some((journal, _)) => journal.end(),
            None => Ok(()),
        }
    }

    /// How to go on where an import stops.
    fn stopped(&self, why: &str) -> Failure {
        let rows = self.done.to.rows;
        if self.files.is_none() {
            return Failure::new(
                exit::FAILED,
                format!("{why}; {rows} rows were checked, and nothing was changed"),
            );
        }
        let message =
            format!("{why}; {rows} rows are done: start the same command again, and it goes on after them");
        Failure::new(exit::FAILED, message)
    }

    /// Says what came of it all.
    fn tell(self, args: &ImportArgs, out: &mut Out) -> Result<(), Failure> {
        let Self { header, files, report, done, printed, .. } = self;
        report.close(&header.report)?;
        let (rows, dry) = (done.to.rows, files.is_none());
        let json = json!({
            "dry_run": dry, "rows": rows, "stored": done.stored, "refused": done.refused,
            "report": header.report, "tokens": (!dry).then_some(&header.out),
        });
        let verb = if dry { "would be stored" } else { "stored" };
        let mut lines = printed;
        if done.refused > u64::try_from(lines.len())? {
            lines.push("…".to_owned());
        }
        lines.push(format!("rows      {rows}: {} {verb}, {} refused", done.stored, done.refused));
        if !dry {
            lines.push(format!("tokens    {}", header.out.display()));
        }
        lines.push(format!("report    {}", header.report.display()));
        out.data(&json, &lines)?;
        if done.refused == 0 {
            return Ok(());
        }
        let name = args.file.display();
        Err(Failure::new(exit::REFUSED, format!("{} of {rows} rows of {name} refused", done.refused)))
    }
}

impl Report {
    fn line(&mut self, line: &RefusedLine<'_>) -> Result<(), Failure> {
        match self {
            Self::Kept(report) => report.line(line),
            Self::Anew(file) => {
                serde_json::to_writer(&mut *file, line)?;
                Ok(std::io::Write::write_all(file, b"\n")?)
            }
        }
    }

    /// Bytes that are durable.
    fn write(&mut self) -> Result<u64, Failure> {
        match self {
            Self::Kept(report) => report.write().map(|()| report.bytes),
            Self::Anew(_) => Ok(0),
        }
    }

    fn close(self, path: &Path) -> Result<(), Failure> {
        match self {
            Self::Kept(_) => Ok(()),
            Self::Anew(file) => Ok(file.persist(path).map(drop)?),
        }
    }
}

/// A line of the results.
fn result(row: u64, line: u64, stored: &pb::TokenizeResponse) -> serde_json::Value {
    let tokens: serde_json::Map<_, _> =
        stored.tokens.iter().map(|token| (token.field.clone(), token.token.clone().into())).collect();
    json!({
        "row": row, "line": line, "subject_id": stored.subject_id, "tokens": tokens, "consent_ids": stored.consent_ids,
    })
}

fn as_text(line: u64, problems: &[Problem]) -> String {
    let told = problems.iter().map(|problem| {
        let column = problem.column.as_ref().map(|column| format!("{column}: ")).unwrap_or_default();
        format!("{column}{} {}", problem.reason, problem.rule)
    });
    format!("line {line:<8} {}", told.collect::<Vec<_>>().join("; "))
}

/// An import under way.
struct Import {
    cutter: Cutter,
    /// Batches that an earlier run began.
    begun: VecDeque<Begun>,
    most_rows: usize,
    most_batches: usize,
    sender: Sender,
    ledger: Ledger,
    progress: Progress,
    under_way: VecDeque<JoinHandle<Result<Answered, Failure>>>,
    read_all: bool,
    /// Why no more is sent, though there may be more.
    halted: Option<String>,
}

impl Import {
    /// Imports to the end of the input; answers the ledger.
    async fn run(mut self, out: &mut Out) -> Result<Ledger, Failure> {
        let mut stopped = Box::pin(terminated()?);
        let mut ticks = Progress::ticks(out);
        loop {
            while self.halted.is_none() && !self.read_all && self.under_way.len() < self.most_batches {
                // What is on its way is ended first.
                self.halted = self.send_next().err().map(|failure| failure.message().to_owned());
            }
            let Some(first) = self.under_way.front_mut() else { break };
            let answered = tokio::select! {
                answered = first => answered,
                () = &mut stopped => {
                    stopped = Box::pin(terminated()?);
                    out.progress_end();
                    if self.halted.replace("stopped".to_owned()).is_some() {
                        return Err(self.ledger.stopped("stopped at once"));
                    }
                    out.note("stopping when what is on its way is answered; once more, and it stops at once")?;
                    continue;
                }
                _ = ticks.tick() => {
                    self.progress.show(self.ledger.done.to, out);
                    continue;
                }
            };
            self.under_way.pop_front();
            let answered = match answered? {
                Ok(answered) => answered,
                Err(failure) => {
                    out.progress_end();
                    return Err(self.ledger.stopped(failure.message()));
                }
            };
            if let Some(why) = &answered.stop {
                out.progress_end();
                // Under this id the vault would answer the same when it is mended.
                let (from, to) = (answered.from, answered.to);
                self.ledger.begin(&Begun { from, to, request_id: request_id()? })?;
                return Err(self.ledger.stopped(why));
            }
            self.ledger.take(&answered)?;
        }
        self.progress.show(self.ledger.done.to, out);
        out.progress_end();
        if !self.read_all {
            return Err(self.ledger.stopped(self.halted.as_deref().unwrap_or("stopped")));
        }
        self.ledger.end()?;
        Ok(self.ledger)
    }

    /// Sends the next batch, on record before it leaves.
    fn send_next(&mut self) -> Result<(), Failure> {
        let known = self.begun.pop_front();
        let batch = match &known {
            Some(begun) => self.cutter.up_to(begun.to)?,
            None => self.cutter.next(self.most_rows)?,
        };
        let Some(batch) = batch else {
            self.read_all = true;
            return Ok(());
        };
        let request_id = self.id_of(&batch, known)?;
        self.under_way.push_back(tokio::spawn(self.sender.clone().send(batch, request_id)));
        Ok(())
    }

    /// The id that a batch was sent with, while the vault knows it; a new one otherwise.
    fn id_of(&mut self, batch: &Batch, known: Option<Begun>) -> Result<String, Failure> {
        if let Some(begun) = known {
            if begun.to != batch.to {
                return Err(Failure::new(
                    exit::FAILED,
                    "the input is not what it was when this import began",
                ));
            }
            let earlier = Clock::default().now().plus_micros(24 * 60 * 60 * 1_000_000 - OLDEST_MICROS);
            if RequestId::parse(&begun.request_id, earlier).is_ok() {
                return Ok(begun.request_id);
            }
        }
        let request_id = request_id()?;
        self.ledger.begin(&Begun { from: batch.from, to: batch.to, request_id: request_id.clone() })?;
        Ok(request_id)
    }
}
