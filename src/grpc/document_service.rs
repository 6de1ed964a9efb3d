//! `sandyq.v1.DocumentService`.

use std::{ops::Range, pin::Pin, sync::Arc, time::Duration};

use prost::Message as _;
use tokio::time::{Instant, timeout_at};
use tokio_stream::{Stream, StreamExt as _, once};
use tonic::{Request, Response, Status, Streaming};
use zeroize::Zeroizing;

use super::{
    authn::{Call, RequestIdRule, authenticate, caller_of, with_request},
    convert::{Checker, page_size, page_token, source, time, view},
    limits::{answer, within_limit},
    operation_service::operation_pb,
    pb::{self, document_service_server},
    status::{deadline_exceeded, status},
    subject_service::name,
};
use crate::{
    domain::{
        document::{PART_BYTES, Side},
        ids::RequestId,
        reference::Reference,
    },
    vault::{
        Vault,
        documents::{
            Begun, Chunk, Collected, DocumentHead, DocumentView, DownloadAsk, HeldSide, NewUpload,
            StoredSide, Uploading,
        },
        error::VaultError,
        page::MAX_PAGE,
    },
};

/// How long a client may take for one part of an upload.
const PART_LIMIT: Duration = Duration::from_secs(30);
/// A client that takes longer for one gives its share of the memory to the next in line, and waits again. Until then it keeps it: a
/// stream that waits in the middle holds what its client sent last.
const PROMPT: Duration = Duration::from_secs(1);

/// Serves documents.
pub struct DocumentService {
    vault: Arc<Vault>,
}

impl DocumentService {
    /// A service over an open vault.
    #[must_use]
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }

    fn call<T: prost::Message>(
        &self,
        request: &Request<T>,
        id: &str,
        rule: RequestIdRule,
    ) -> Result<Call, Status> {
        authenticate(&self.vault, request, id, rule).map_err(|e| status(&e))
    }

    /// Takes a stream in. Memory is had before anything of it is read, so that a client waits with its bytes.
    async fn upload(
        &self,
        request: Request<Streaming<pb::UploadDocumentRequest>>,
    ) -> Result<StoredSide, Status> {
        let refused = |e| status(&e);
        let stranger = caller_of(&self.vault, request.extensions()).map_err(refused)?;
        let mut slot = self.vault.stream_room().await.map_err(refused)?;
        let mut incoming = Incoming { stream: request.into_inner(), began: Instant::now() };
        let mut first = incoming.next().await?.ok_or_else(|| missing("start"))?;
        let mut data = Zeroizing::new(std::mem::take(&mut first.data));
        let start = first.start.clone().ok_or_else(|| missing("start"))?;
        // Where a stream begins differs between the streams of one upload; all else is the same.
        let body = start_without_offset(&first);
        let call = with_request(&self.vault, stranger, &first.request_id, body, RequestIdRule::Required);
        let call = call.map_err(refused)?;
        let new = new_upload(start).map_err(refused)?;
        let work = self.vault.begin_upload(&call.caller, call.asker, new);
        let begun = within_limit(async { Box::pin(work).await.map_err(refused) }).await?;
        let mut uploading = match begun {
            Begun::Stored(stored) => return Ok(stored),
            Begun::Open(uploading) => uploading,
        };
        loop {
            let mut rest = data.as_slice();
            while !rest.is_empty() {
                let taken = uploading.take(rest).await.map_err(refused)?;
                rest = rest.get(taken..).unwrap_or_default();
                if uploading.part_is_complete() {
                    store(&mut uploading).await?;
                    if incoming.began.elapsed() > PROMPT {
                        // Who is slow lets others go first; who is not has soon ended.
                        stored(&mut uploading).await?;
                        slot.release();
                        slot = self.vault.stream_room().await.map_err(refused)?;
                    }
                    incoming.begin_part();
                }
            }
            let Some(message) = incoming.next().await? else { break };
            if message.start.is_some() || !message.request_id.is_empty() {
                return Err(refused(VaultError::invalid("start", "stands in the first message alone")));
            }
            data = Zeroizing::new(message.data);
        }
        within_limit(async { Box::pin(uploading.finish()).await.map_err(refused) }).await
    }

    async fn list(
        &self,
        call: Call,
        m: pb::ListDocumentsRequest,
    ) -> Result<pb::ListDocumentsResponse, VaultError> {
        let subject = name(m.subject)?;
        let (size, from) = (page_size(m.page_size, MAX_PAGE)?, page_token(&m.page_token)?);
        let all = self.vault.list_documents(&call.caller, call.asker, &m.platform, subject).await?;
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let next = from.saturating_add(size);
        Ok(pb::ListDocumentsResponse {
            documents: all.iter().skip(from).take(size).map(document_pb).collect(),
            next_page_token: if next < all.len() { next.to_string() } else { String::new() },
        })
    }
}

async fn store(uploading: &mut Uploading) -> Result<(), Status> {
    within_limit(async { uploading.store_part().await.map_err(|e| status(&e)) }).await
}

async fn stored(uploading: &mut Uploading) -> Result<(), Status> {
    within_limit(async { uploading.stored().await.map_err(|e| status(&e)) }).await
}

/// The messages of a stream, each by the time that its part must be there.
struct Incoming {
    stream: Streaming<pb::UploadDocumentRequest>,
    /// When the part that comes began to.
    began: Instant,
}

impl Incoming {
    fn begin_part(&mut self) {
        self.began = Instant::now();
    }

    async fn next(&mut self) -> Result<Option<pb::UploadDocumentRequest>, Status> {
        let message = timeout_at(self.began + PART_LIMIT, self.stream.message()).await;
        let message = message.map_err(|_| deadline_exceeded())??;
        if message.as_ref().is_some_and(|message| message.data.len() > PART_BYTES) {
            return Err(status(&VaultError::invalid("data", "a message has at most 1 MiB")));
        }
        Ok(message)
    }
}

fn missing(field: &str) -> Status {
    status(&VaultError::invalid(field, "is required"))
}

fn start_without_offset(first: &pb::UploadDocumentRequest) -> Zeroizing<Vec<u8>> {
    let mut start = first.start.clone().unwrap_or_default();
    start.offset = 0;
    let request_id = first.request_id.clone();
    let same = pb::UploadDocumentRequest { request_id, start: Some(start), data: Vec::new() };
    Zeroizing::new(same.encode_to_vec())
}

fn new_upload(start: pb::UploadStart) -> Result<NewUpload, VaultError> {
    let subject = name(start.subject)?;
    let mut check = Checker::new("start.");
    let field = check.parse("field", &start.field);
    let which = check.code("side", side(start.side));
    let size = u64::try_from(start.size_bytes).ok().filter(|size| *size > 0);
    if size.is_none() {
        check.refuse("size_bytes", "must be at least 1");
    }
    let sha256 = <[u8; 32]>::try_from(start.sha256.as_slice()).ok();
    if sha256.is_none() {
        check.refuse("sha256", "must have 32 bytes");
    }
    let offset = u64::try_from(start.offset).ok();
    if offset.is_none() {
        check.refuse("offset", "must not be negative");
    }
    let source = check.source("source", start.source);
    let paper = check.reference("source_reference", &start.source_reference);
    let reference: Option<Reference> = match start.replace_version {
        0 => paper,
        _ => check.required_reference("evidence", &start.evidence),
    };
    if start.replace_version == 0 && !start.evidence.is_empty() {
        check.refuse(
            "evidence",
            "stands only with replace_version; the paper behind a source is source_reference",
        );
    }
    if start.replace_version > 0 && !start.source_reference.is_empty() {
        check.refuse("source_reference", "stands only without replace_version, whose evidence says it");
    }
    let parts = field.zip(which).zip(size).zip(sha256).zip(offset).zip(source);
    let (((((field, which), size), sha256), offset), source) = check.finish(parts)?;
    let replaces = start.replace_version;
    Ok(NewUpload { subject, field, side: which, size, sha256, source, replaces, reference, offset })
}

fn side(number: i32) -> Option<Side> {
    match pb::DocumentSide::try_from(number).ok()? {
        pb::DocumentSide::Unspecified => None,
        pb::DocumentSide::Front => Some(Side::Front),
        pb::DocumentSide::Back => Some(Side::Back),
        pb::DocumentSide::Face => Some(Side::Face),
    }
}

const fn side_pb(side: Side) -> pb::DocumentSide {
    match side {
        Side::Front => pb::DocumentSide::Front,
        Side::Back => pb::DocumentSide::Back,
        Side::Face => pb::DocumentSide::Face,
    }
}

fn held_pb(held: &HeldSide) -> pb::HeldSide {
    pb::HeldSide {
        side: side_pb(held.side).into(),
        version: held.version,
        version_count: held.versions,
        media_type: held.media_type.as_str().to_owned(),
        size_bytes: count_pb(held.size),
        source: source(held.source).into(),
        create_time: Some(time(held.created_at)),
    }
}

fn count_pb(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn document_pb(view: &DocumentView) -> pb::Document {
    pb::Document {
        document_id: view.id.to_string(),
        subject_id: view.subject.to_string(),
        field: view.field.to_string(),
        field_type: view.field_type.as_str().to_owned(),
        complete: view.is_complete(),
        sides: view.sides.iter().map(held_pb).collect(),
        purposes: view.purposes.iter().map(ToString::to_string).collect(),
    }
}

fn found_pb(found: &Collected) -> pb::Collection {
    pb::Collection {
        objects: count_pb(found.objects),
        expired_uploads: count_pb(found.expired),
        orphans: count_pb(found.orphans),
        missing: count_pb(found.missing),
    }
}

fn head_pb(head: &DocumentHead) -> pb::DownloadDocumentResponse {
    let head = pb::DocumentHead {
        field: head.field.to_string(),
        side: Some(held_pb(&head.side)),
        held_sides: head.sides.iter().map(|side| side_pb(*side).into()).collect(),
        view: view(head.view).into(),
        audit_entry_id: head.entry.to_string(),
    };
    pb::DownloadDocumentResponse { head: Some(head), data: Vec::new() }
}

/// The bytes of a chunk; its share of memory goes back when it is handed to the transport.
fn chunk_pb(chunk: Chunk) -> pb::DownloadDocumentResponse {
    let Chunk { mut bytes, slot } = chunk;
    slot.release();
    pb::DownloadDocumentResponse { head: None, data: std::mem::take(&mut *bytes) }
}

/// Bytes from an offset on, all or some.
fn range(check: &mut Checker, offset: i64, length: i64) -> Option<Range<u64>> {
    let number = |check: &mut Checker, field, number: i64| {
        u64::try_from(number).map_err(|_| check.refuse(field, "must not be negative")).ok()
    };
    let (start, length) = (number(check, "offset", offset), number(check, "length", length));
    start.zip(length).map(|(start, length)| match length {
        0 => start..u64::MAX,
        some => start..start.saturating_add(some),
    })
}

fn download(m: &pb::DownloadDocumentRequest) -> Result<DownloadAsk, VaultError> {
    let mut check = Checker::new("");
    let document = check.parse("document_id", &m.document_id);
    let side = check.code("side", side(m.side));
    let purpose = check.parse("purpose", &m.purpose);
    let asked_view = check.view("view", m.view);
    let recipient = check.parse_optional("recipient", &m.recipient);
    let reference = check.reference("reference", &m.reference);
    let bytes = range(&mut check, m.offset, m.length);
    let ((((document, side), purpose), view), bytes) =
        check.finish(document.zip(side).zip(purpose).zip(asked_view).zip(bytes))?;
    Ok(DownloadAsk { document, side, purpose, view, recipient, reference, bytes })
}

#[tonic::async_trait]
impl document_service_server::DocumentService for DocumentService {
    async fn upload_document(
        &self,
        request: Request<Streaming<pb::UploadDocumentRequest>>,
    ) -> Result<Response<pb::UploadDocumentResponse>, Status> {
        let stored = self.upload(request).await?;
        Ok(Response::new(pb::UploadDocumentResponse {
            document_id: stored.document.to_string(),
            side: side_pb(stored.side).into(),
            version: stored.version,
            media_type: stored.media_type.as_str().to_owned(),
            create_time: Some(time(stored.created_at)),
        }))
    }

    async fn query_upload(
        &self,
        request: Request<pb::QueryUploadRequest>,
    ) -> Result<Response<pb::QueryUploadResponse>, Status> {
        let call = self.call(&request, "", RequestIdRule::Optional)?;
        let work = async {
            let id = RequestId::parse(&request.get_ref().request_id, self.vault.clock().now());
            let id = id.map_err(|e| VaultError::invalid("request_id", e.to_string()))?;
            self.vault.query_upload(&call.caller, call.asker, id).await
        };
        answer(work, |(offset, end)| pb::QueryUploadResponse {
            offset: count_pb(offset),
            expire_time: Some(time(end)),
        })
        .await
    }

    type DownloadDocumentStream =
        Pin<Box<dyn Stream<Item = Result<pb::DownloadDocumentResponse, Status>> + Send>>;

    async fn download_document(
        &self,
        request: Request<pb::DownloadDocumentRequest>,
    ) -> Result<Response<Self::DownloadDocumentStream>, Status> {
        let call = self.call(&request, "", RequestIdRule::Optional)?;
        let ask = download(request.get_ref()).map_err(|e| status(&e))?;
        let opened = within_limit(async {
            let work = self.vault.download_document(&call.caller, call.asker, ask);
            Box::pin(work).await.map_err(|e| status(&e))
        })
        .await?;
        let head = head_pb(&opened.head);
        let pieces = opened.content.map(Arc::new).into_iter().flat_map(|content| {
            content.starts().map(move |from| (Arc::clone(&content), from)).collect::<Vec<_>>()
        });
        // Read when the connection takes more, and not before.
        let chunks = tokio_stream::iter(pieces).then(|(content, from)| async move {
            content.piece(from).await.map(chunk_pb).map_err(|e| status(&e))
        });
        Ok(Response::new(Box::pin(once(Ok(head)).chain(chunks))))
    }

    async fn describe_document(
        &self,
        request: Request<pb::DescribeDocumentRequest>,
    ) -> Result<Response<pb::DescribeDocumentResponse>, Status> {
        let call = self.call(&request, "", RequestIdRule::Optional)?;
        let m = request.into_inner();
        let work = async {
            let mut check = Checker::new("");
            let document = check.parse("document_id", &m.document_id);
            let document = check.finish(document)?;
            self.vault.describe_document(&call.caller, call.asker, &m.platform, document).await
        };
        answer(work, |view| pb::DescribeDocumentResponse { document: Some(document_pb(&view)) }).await
    }

    async fn list_documents(
        &self,
        request: Request<pb::ListDocumentsRequest>,
    ) -> Result<Response<pb::ListDocumentsResponse>, Status> {
        let call = self.call(&request, "", RequestIdRule::Optional)?;
        answer(self.list(call, request.into_inner()), |response| response).await
    }

    async fn delete_document(
        &self,
        request: Request<pb::DeleteDocumentRequest>,
    ) -> Result<Response<pb::DeleteDocumentResponse>, Status> {
        let call = self.call(&request, &request.get_ref().request_id, RequestIdRule::Required)?;
        let m = request.into_inner();
        let work = async {
            let mut check = Checker::new("");
            let document = check.parse("document_id", &m.document_id);
            let reference = check.reference("reference", &m.reference);
            let document = check.finish(document)?;
            let vault = &self.vault;
            vault.delete_document(&call.caller, call.asker, &m.platform, document, reference).await
        };
        answer(work, |at| pb::DeleteDocumentResponse { delete_time: Some(time(at)) }).await
    }

    async fn collect_documents(
        &self,
        request: Request<pb::CollectDocumentsRequest>,
    ) -> Result<Response<pb::CollectDocumentsResponse>, Status> {
        let call = self.call(&request, &request.get_ref().request_id, RequestIdRule::Required)?;
        let m = request.into_inner();
        if m.dry_run {
            let work = self.vault.survey_documents(&call.caller, call.asker, &m.platform);
            return answer(work, |found| pb::CollectDocumentsResponse {
                operation: None,
                found: Some(found_pb(&found)),
            })
            .await;
        }
        let work = self.vault.collect_documents(&call.caller, call.asker, &m.platform);
        answer(work, |operation| pb::CollectDocumentsResponse {
            operation: Some(operation_pb(&self.vault, &operation)),
            found: None,
        })
        .await
    }
}
