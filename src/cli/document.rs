//! `sandyq document …`: images of documents stored, read for a purpose, described, deleted.

use std::{
    fs::{self, File},
    io::{self, IsTerminal as _, Read as _, Write as _},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use clap::{Subcommand, ValueEnum};
use serde_json::json;
use tokio_stream::StreamExt as _;
use tonic::{Status, transport::Channel};
use zeroize::Zeroizing;

use super::{
    client::{self, broke_off, documents, request_id},
    operation,
    output::{Failure, Out, exit, instant, meter, refused, show_time},
    subject::name_of,
    token::Source,
};
use crate::{
    crypto::digest::sha256,
    domain::document::MAX_DOCUMENT_BYTES,
    grpc::pb::{self, document_service_client::DocumentServiceClient},
};

/// Bytes of one message.
const MESSAGE_BYTES: usize = 256 << 10;
/// Streams that one command tries, each beginning where the one before broke off.
const STREAMS: u32 = 5;
/// How often progress is shown.
const TICK: Duration = Duration::from_millis(200);

/// A side.
#[derive(ValueEnum, Debug, Clone, Copy)]
pub(super) enum Side {
    /// The front of a document.
    Front,
    /// The back of a document.
    Back,
    /// The only side of an image of a face.
    Face,
}

impl Side {
    const fn pb(self) -> pb::DocumentSide {
        match self {
            Self::Front => pb::DocumentSide::Front,
            Self::Back => pb::DocumentSide::Back,
            Self::Face => pb::DocumentSide::Face,
        }
    }
}

#[derive(clap::Args, Debug)]
pub(super) struct Put {
    #[command(flatten)]
    client: client::Args,
    /// The platform's reference to the subject, or the vault's id `sub_…`.
    subject: String,
    /// The image; `-` for stdin.
    file: PathBuf,
    /// Field of the policy.
    #[arg(long)]
    field: String,
    /// Side.
    #[arg(long, value_enum)]
    side: Side,
    /// Where the image came from.
    #[arg(long, value_enum, default_value = "subject")]
    source: Source,
    /// The paper behind the source, in the platform's numbering: a partner's proof, or the consent in the state's service.
    #[arg(long, default_value = "", value_name = "REFERENCE", conflicts_with = "evidence")]
    source_reference: String,
    /// The version of the side that this one replaces.
    #[arg(long, value_name = "VERSION", default_value_t = 0, requires = "evidence")]
    replace: u32,
    /// The documents behind a replacement, in the platform's numbering.
    #[arg(long, default_value = "", value_name = "REFERENCE", requires = "replace")]
    evidence: String,
    /// Carry an upload on that an earlier command began.
    #[arg(long, value_name = "ID")]
    upload: Option<String>,
}

#[derive(clap::Args, Debug)]
pub(super) struct Get {
    #[command(flatten)]
    client: client::Args,
    /// The document, `doc_…`.
    document: String,
    /// Side.
    #[arg(long, value_enum)]
    side: Side,
    /// Purpose that the policy declares.
    #[arg(long)]
    purpose: String,
    /// Where the image goes, a file that is not there yet; `-` for stdout.
    #[arg(long, value_name = "FILE", required_unless_present = "masked")]
    out: Option<PathBuf>,
    /// Only say what it is.
    #[arg(long, conflicts_with_all = ["out", "offset", "length"])]
    masked: bool,
    /// Begin at this byte.
    #[arg(long, default_value_t = 0)]
    offset: i64,
    /// At most so many bytes; 0 for all.
    #[arg(long, default_value_t = 0)]
    length: i64,
    /// Registered recipient whom the image is for.
    #[arg(long, default_value = "")]
    recipient: String,
    /// Case, contract or demand behind the read, in the platform's numbering.
    #[arg(long, default_value = "")]
    reference: String,
}

/// Which document, and where.
#[derive(clap::Args, Debug)]
pub(super) struct Which {
    #[command(flatten)]
    client: client::Args,
    /// The document, `doc_…`.
    document: String,
    /// Platform, for staff; a platform's own callers leave it out.
    #[arg(long, default_value = "")]
    platform: String,
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Store one side. Where the connection breaks, the upload is carried on.
    Put(Put),
    /// Read one side for a declared purpose.
    Get(Get),
    /// Print which sides of a document are held.
    Show(Which),
    /// Delete a document, every side and version. Nothing brings it back.
    Rm {
        #[command(flatten)]
        which: Which,
        /// The case, in the platform's numbering.
        #[arg(long, default_value = "")]
        reference: String,
        /// Delete indeed; without it nothing is changed, and what would be deleted is printed.
        #[arg(long)]
        yes: bool,
    },
    /// Clean the document store of what broken uploads left, and look for what is missing there.
    Collect {
        #[command(flatten)]
        client: client::Args,
        /// Platform.
        #[arg(long)]
        platform: String,
        /// Only print what there is; nothing is changed.
        #[arg(long)]
        dry_run: bool,
        /// Follow it until it ends.
        #[arg(long, conflicts_with = "dry_run")]
        watch: bool,
    },
    /// Print the documents of a subject.
    List {
        #[command(flatten)]
        client: client::Args,
        /// The platform's reference to the subject, or the vault's id `sub_…`.
        subject: String,
        /// Platform, for staff; a platform's own callers leave it out.
        #[arg(long, default_value = "")]
        platform: String,
    },
}

pub(super) async fn run(command: Command, out: &mut Out) -> Result<(), Failure> {
    match command {
        Command::Put(args) => put(&args, out).await,
        Command::Get(args) => get(&args, out).await,
        Command::Show(which) => {
            let document = describe(&which).await?;
            Ok(out.data(&as_json(&document), &lines(&document))?)
        }
        Command::Rm { which, reference, yes } => remove(&which, reference, yes, out).await,
        Command::Collect { client, platform, dry_run, watch } => {
            let request = pb::CollectDocumentsRequest { request_id: request_id()?, platform, dry_run };
            collect(client, request, watch, out).await
        }
        Command::List { client, subject, platform } => {
            let mut request = pb::ListDocumentsRequest {
                subject: Some(name_of(&subject)),
                platform,
                ..pb::ListDocumentsRequest::default()
            };
            let (mut client, mut all) = (documents(client.connect().await?), Vec::new());
            loop {
                let page = client.list_documents(request.clone()).await.map_err(refused)?.into_inner();
                all.extend(page.documents);
                request.page_token = page.next_page_token;
                if request.page_token.is_empty() {
                    break;
                }
            }
            let json: Vec<_> = all.iter().map(as_json).collect();
            Ok(out.data(&json!({ "documents": json }), &all.iter().flat_map(lines).collect::<Vec<_>>())?)
        }
    }
}

/// The image, whole: its size and hash are told first.
fn read(file: &Path) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let most = u64::from(MAX_DOCUMENT_BYTES);
    let mut bytes = Zeroizing::new(Vec::new());
    if file == Path::new("-") {
        io::stdin().lock().take(most + 1).read_to_end(&mut bytes)?;
    } else {
        let opened = File::open(file);
        let opened =
            opened.map_err(|e| Failure::new(exit::FAILED, format!("cannot read {}: {e}", file.display())))?;
        opened.take(most + 1).read_to_end(&mut bytes)?;
    }
    if u64::try_from(bytes.len()).unwrap_or(u64::MAX) > most {
        return Err(Failure::new(exit::FAILED, format!("the image has more than {most} bytes")));
    }
    if bytes.is_empty() {
        return Err(Failure::new(exit::FAILED, "the image is empty"));
    }
    Ok(bytes)
}

async fn put(args: &Put, out: &mut Out) -> Result<(), Failure> {
    let image = Arc::new(read(&args.file)?);
    let channel = args.client.connect().await?;
    let upload = args.upload.clone().map_or_else(request_id, Ok)?;
    let start = pb::UploadStart {
        subject: Some(name_of(&args.subject)),
        field: args.field.clone(),
        side: args.side.pb().into(),
        size_bytes: i64::try_from(image.len())?,
        sha256: sha256(&image).to_vec(),
        source: args.source.number(),
        replace_version: args.replace,
        evidence: args.evidence.clone(),
        offset: 0,
        source_reference: args.source_reference.clone(),
    };
    let mut client = documents(channel);
    let mut offset = if args.upload.is_some() { query(&mut client, &upload).await? } else { 0 };
    let mut streams = 1;
    let stored = loop {
        match send(&mut client, &upload, &start, &image, offset, out).await {
            Ok(stored) => break stored,
            Err(status) if streams < STREAMS && broke_off(&status) => {
                out.note(&format!("the stream broke off: {}; carried on", status.message()))?;
                streams += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
                offset = query(&mut client, &upload).await.unwrap_or(0);
            }
            Err(status) => {
                out.progress_end();
                if broke_off(&status) {
                    out.note(&format!("carry the upload on with --upload {upload}"))?;
                }
                return Err(refused(status));
            }
        }
    };
    out.progress_end();
    let json = json!({
        "document_id": stored.document_id, "side": side_name(stored.side()), "version": stored.version,
        "media_type": stored.media_type, "create_time": instant(stored.create_time.as_ref()),
    });
    let line = format!(
        "{}  {} version {}  {}",
        stored.document_id,
        side_name(stored.side()),
        stored.version,
        stored.media_type
    );
    Ok(out.data(&json, &[line])?)
}

/// Where the next stream begins.
async fn query(client: &mut DocumentServiceClient<Channel>, upload: &str) -> Result<usize, Failure> {
    let request = pb::QueryUploadRequest { request_id: upload.to_owned() };
    let answer = client.query_upload(request).await.map_err(refused)?.into_inner();
    Ok(usize::try_from(answer.offset)?)
}

async fn send(
    client: &mut DocumentServiceClient<Channel>,
    upload: &str,
    start: &pb::UploadStart,
    image: &Arc<Zeroizing<Vec<u8>>>,
    offset: usize,
    out: &mut Out,
) -> Result<pb::UploadDocumentResponse, Status> {
    let sent = Arc::new(AtomicUsize::new(offset));
    let first = pb::UploadDocumentRequest {
        request_id: upload.to_owned(),
        start: Some(pb::UploadStart { offset: i64::try_from(offset).unwrap_or(i64::MAX), ..start.clone() }),
        data: Vec::new(),
    };
    let (bytes, counted) = (Arc::clone(image), Arc::clone(&sent));
    let places = (offset..image.len()).step_by(MESSAGE_BYTES);
    let rest = tokio_stream::iter(places).map(move |at| {
        let end = bytes.len().min(at + MESSAGE_BYTES);
        counted.store(end, Ordering::Relaxed);
        let data = bytes.get(at..end).unwrap_or_default().to_vec();
        pb::UploadDocumentRequest { data, ..pb::UploadDocumentRequest::default() }
    });
    let call = client.upload_document(tokio_stream::once(first).chain(rest));
    tokio::pin!(call);
    let mut ticks = tokio::time::interval(TICK);
    loop {
        tokio::select! {
            answer = &mut call => return answer.map(tonic::Response::into_inner),
            _ = ticks.tick() => out.progress(&meter(sent.load(Ordering::Relaxed), image.len())),
        }
    }
}

/// Where a downloaded image goes.
enum Target {
    Stdout,
    /// Into place when it is complete.
    File(PathBuf, tempfile::NamedTempFile),
}

impl Target {
    fn open(path: &Path) -> Result<Self, Failure> {
        if path == Path::new("-") {
            if io::stdout().is_terminal() {
                return Err(Failure::new(exit::USAGE, "an image is not printed on a terminal: name a file"));
            }
            return Ok(Self::Stdout);
        }
        if fs::exists(path)? {
            return Err(Failure::new(exit::FAILED, format!("{} is there already", path.display())));
        }
        // Readable by its owner alone, as the standard of such files is.
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new("."));
        Ok(Self::File(path.to_owned(), tempfile::NamedTempFile::new_in(dir)?))
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Stdout => io::stdout().lock().write_all(bytes),
            Self::File(_, file) => file.write_all(bytes),
        }
    }

    fn close(self) -> Result<(), Failure> {
        match self {
            Self::Stdout => Ok(io::stdout().lock().flush()?),
            Self::File(path, file) => {
                file.as_file().sync_all()?;
                Ok(file.persist_noclobber(path).map(drop)?)
            }
        }
    }
}

async fn get(args: &Get, out: &mut Out) -> Result<(), Failure> {
    let mut client = documents(args.client.connect().await?);
    let mut target = args.out.as_deref().map(Target::open).transpose()?;
    let mut request = pb::DownloadDocumentRequest {
        document_id: args.document.clone(),
        side: args.side.pb().into(),
        purpose: args.purpose.clone(),
        view: if args.masked { pb::View::Masked } else { pb::View::Full }.into(),
        recipient: args.recipient.clone(),
        reference: args.reference.clone(),
        offset: args.offset,
        length: args.length,
    };
    let (mut told, mut streams) = (None::<pb::DocumentHead>, 1);
    loop {
        match receive(&mut client, &mut request, &mut told, target.as_mut(), out).await? {
            None => break,
            Some(status) if streams < STREAMS && broke_off(&status) => {
                out.note(&format!("the stream broke off: {}; carried on", status.message()))?;
                streams += 1;
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
            Some(status) => {
                out.progress_end();
                return Err(refused(status));
            }
        }
    }
    out.progress_end();
    let shown = told.as_ref().filter(|head| head.view() == pb::View::Full);
    let size = shown.and_then(|head| head.side.as_ref()).map_or(0, |side| side.size_bytes);
    let wanted = args.length == 0 || request.length > 0;
    if target.is_some() && wanted && request.offset < size {
        return Err(Failure::new(exit::FAILED, "the stream ended before all bytes were there"));
    }
    let to_stdout = matches!(target, Some(Target::Stdout));
    if let Some(target) = target {
        target.close()?;
    }
    let Some(head) = told else { return Err(Failure::new(exit::FAILED, "the vault answered nothing")) };
    let line = head_line(&head);
    // Where the image is what stdout has, nothing else is.
    if to_stdout { Ok(out.note(&line)?) } else { Ok(out.data(&head_json(&head), &[line])?) }
}

/// Receives one stream, and moves the request's beginning to where it ended. The status that broke it off, if one did.
async fn receive(
    client: &mut DocumentServiceClient<Channel>,
    request: &mut pb::DownloadDocumentRequest,
    told: &mut Option<pb::DocumentHead>,
    mut target: Option<&mut Target>,
    out: &mut Out,
) -> Result<Option<Status>, Failure> {
    let mut stream = match client.download_document(request.clone()).await {
        Ok(stream) => stream.into_inner(),
        Err(status) => return Ok(Some(status)),
    };
    loop {
        let message = match stream.message().await {
            Ok(Some(message)) => message,
            Ok(None) => return Ok(None),
            Err(status) => return Ok(Some(status)),
        };
        let version = |head: &pb::DocumentHead| head.side.as_ref().map(|side| side.version);
        if let (Some(before), Some(now)) = (&told, &message.head)
            && version(before) != version(now)
        {
            return Err(Failure::new(exit::FAILED, "the side was replaced meanwhile: read it anew"));
        }
        *told = message.head.or(told.take());
        let data = Zeroizing::new(message.data);
        if let Some(target) = target.as_mut() {
            target.write(&data)?;
        }
        let took = i64::try_from(data.len())?;
        request.offset += took;
        if request.length > 0 {
            request.length -= took;
            if request.length <= 0 {
                return Ok(None);
            }
        }
        let size = told.as_ref().and_then(|head| head.side.as_ref()).map_or(0, |side| side.size_bytes);
        if took > 0 {
            out.progress(&meter(usize::try_from(request.offset)?, usize::try_from(size)?));
        }
    }
}

async fn describe(which: &Which) -> Result<pb::Document, Failure> {
    let request =
        pb::DescribeDocumentRequest { document_id: which.document.clone(), platform: which.platform.clone() };
    let answer = documents(which.client.connect().await?).describe_document(request).await;
    let document = answer.map_err(refused)?.into_inner().document;
    document.ok_or_else(|| Failure::new(exit::FAILED, "the vault answered no document"))
}

async fn remove(which: &Which, reference: String, yes: bool, out: &mut Out) -> Result<(), Failure> {
    if !yes {
        let document = describe(which).await?;
        out.note("nothing is deleted without --yes; this would go, every side and version:")?;
        return Ok(out.data(&as_json(&document), &lines(&document))?);
    }
    let request = pb::DeleteDocumentRequest {
        request_id: request_id()?,
        document_id: which.document.clone(),
        platform: which.platform.clone(),
        reference,
    };
    let answer = documents(which.client.connect().await?).delete_document(request).await;
    let at = answer.map_err(refused)?.into_inner().delete_time;
    let line = format!("{} deleted at {}", which.document, show_time(at));
    Ok(out.data(&json!({ "document_id": which.document, "delete_time": instant(at.as_ref()) }), &[line])?)
}

async fn collect(
    client: client::Args,
    request: pb::CollectDocumentsRequest,
    watch: bool,
    out: &mut Out,
) -> Result<(), Failure> {
    let answer = documents(client.connect().await?).collect_documents(request).await;
    let answer = answer.map_err(refused)?.into_inner();
    if let Some(found) = answer.found {
        let json = json!({
            "objects": found.objects, "expired_uploads": found.expired_uploads, "orphans": found.orphans,
            "missing": found.missing,
        });
        let lines = [
            format!("objects          {}", found.objects),
            format!("expired uploads  {}", found.expired_uploads),
            format!("orphans          {}", found.orphans),
            format!("missing          {}", found.missing),
        ];
        return Ok(out.data(&json, &lines)?);
    }
    let nothing = || Failure::new(exit::FAILED, "the vault answered no operation");
    let begun = answer.operation.ok_or_else(nothing)?;
    if watch {
        return operation::watch(&operation::Which { client, operation: begun.operation_id }, out).await;
    }
    operation::print(&begun, out)?;
    Ok(out.note(&format!("watch it with: sandyq operation watch {}", begun.operation_id))?)
}

fn side_name(side: pb::DocumentSide) -> String {
    side.as_str_name().trim_start_matches("DOCUMENT_SIDE_").to_lowercase()
}

fn side_json(side: &pb::HeldSide) -> serde_json::Value {
    json!({
        "side": side_name(side.side()), "version": side.version, "versions": side.version_count,
        "media_type": side.media_type, "size_bytes": side.size_bytes,
        "create_time": instant(side.create_time.as_ref()),
    })
}

fn head_json(head: &pb::DocumentHead) -> serde_json::Value {
    json!({
        "field": head.field, "side": head.side.as_ref().map(side_json),
        "held_sides": head.held_sides().map(side_name).collect::<Vec<_>>(),
        "audit_entry_id": head.audit_entry_id,
    })
}

fn head_line(head: &pb::DocumentHead) -> String {
    let side = head.side.clone().unwrap_or_default();
    let sides = head.held_sides().map(side_name).collect::<Vec<_>>().join(", ");
    format!(
        "{} {} version {}  {}  {} bytes  held: {sides}  by entry {}",
        head.field,
        side_name(side.side()),
        side.version,
        side.media_type,
        side.size_bytes,
        head.audit_entry_id
    )
}

fn as_json(document: &pb::Document) -> serde_json::Value {
    json!({
        "document_id": document.document_id, "subject_id": document.subject_id, "field": document.field,
        "field_type": document.field_type, "complete": document.complete,
        "sides": document.sides.iter().map(side_json).collect::<Vec<_>>(), "purposes": document.purposes,
    })
}

fn lines(document: &pb::Document) -> Vec<String> {
    let complete = if document.complete { "complete" } else { "incomplete" };
    let mut lines =
        vec![format!("{}  {} ({})  {complete}", document.document_id, document.field, document.field_type)];
    lines.extend(document.sides.iter().map(|side| {
        format!(
            "  {:<5}  version {} of {}  {}  {} bytes  {}",
            side_name(side.side()),
            side.version,
            side.version_count,
            side.media_type,
            side.size_bytes,
            show_time(side.create_time)
        )
    }));
    lines
}
