//! Documents of synthetic people: a policy with a field of images, content, uploads and downloads.

/// The policy of the installation as its next version, with the images of an identity document, which `payments` reads.
pub use sandyq::cli::local::policy_with_images as policy;
use sandyq::{
    crypto::digest::sha256,
    grpc::pb::{self, document_service_client::DocumentServiceClient},
};
use tonic::{Status, transport::Channel};

use super::{
    people::grant,
    random::Choices,
    served::{Served, reason, request_id},
};

pub const PART: usize = 1 << 20;
/// What the policy lets a side have.
pub const MAX_BYTES: usize = 6 * PART;

/// Content that begins as a PNG does; another number gives other bytes.
pub fn content(number: u64, size: usize) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    let mut choices = Choices::quiet(number);
    while bytes.len() < size {
        bytes.extend(choices.next().to_be_bytes());
    }
    bytes.truncate(size);
    bytes
}

pub fn subject(number: u32) -> pb::SubjectName {
    let reference = format!("user-{number}");
    pb::SubjectName { subject: Some(pb::subject_name::Subject::SubjectReference(reference)) }
}

/// What an upload of this content says of itself.
pub fn start(number: u32, side: pb::DocumentSide, content: &[u8]) -> pb::UploadStart {
    pb::UploadStart {
        subject: Some(subject(number)),
        field: "id_image".into(),
        side: side.into(),
        size_bytes: i64::try_from(content.len()).unwrap(),
        sha256: sha256(content).to_vec(),
        ..Default::default()
    }
}

/// The messages of a stream: what it is, then the bytes in pieces.
pub fn messages(
    request_id: &str,
    start: pb::UploadStart,
    content: &[u8],
    piece: usize,
) -> Vec<pb::UploadDocumentRequest> {
    let first =
        pb::UploadDocumentRequest { request_id: request_id.into(), start: Some(start), ..Default::default() };
    let rest = content
        .chunks(piece)
        .map(|data| pb::UploadDocumentRequest { data: data.to_vec(), ..Default::default() });
    std::iter::once(first).chain(rest).collect()
}

/// A consent to the image by the version that first names it.
pub fn consent() -> pb::ConsentGrant {
    pb::ConsentGrant { policy_version: 2, ..grant("payments", &["iin", "id_image"]) }
}

/// A client of the documents.
pub struct Documents(pub DocumentServiceClient<Channel>);

impl Served {
    pub async fn documents(&self, caller: &str) -> Documents {
        Documents(DocumentServiceClient::new(self.channel(caller).await))
    }

    /// Puts the policy with images in force, and stores synthetic people who consent to `payments`.
    pub async fn with_images(&self, people: u32) {
        let request =
            pb::ApplyPolicyRequest { request_id: request_id(), text: policy(), validate_only: false };
        self.policies("admin").await.apply_policy(request).await.unwrap();
        for number in 1..=people {
            let mut request = super::people::tokenize_request(number);
            request.consents = vec![consent()];
            self.vault("backend").await.tokenize(request).await.unwrap();
        }
    }

    /// Every object in the document store.
    pub fn objects(&self) -> Vec<std::path::PathBuf> {
        let (mut found, mut dirs) = (Vec::new(), vec![self.file("documents")]);
        while let Some(dir) = dirs.pop() {
            for entry in std::fs::read_dir(dir).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    dirs.push(path);
                } else if path.file_name().unwrap() != "sandyq-documents" {
                    found.push(path);
                }
            }
        }
        found.sort();
        found
    }

    /// Rows of a table of the platform.
    pub async fn rows(&self, table: &str) -> u64 {
        let touch = format!("UPDATE {table} SET platform_id = platform_id WHERE platform_id = 1");
        self.sql(&touch).await
    }
}

impl Documents {
    /// Sends a stream.
    pub async fn send(
        &mut self,
        messages: Vec<pb::UploadDocumentRequest>,
    ) -> Result<pb::UploadDocumentResponse, Status> {
        let answer = self.0.upload_document(tokio_stream::iter(messages)).await;
        answer.map(tonic::Response::into_inner)
    }

    /// Uploads a side; what came of it, or the reason of the refusal.
    pub async fn put(
        &mut self,
        start: pb::UploadStart,
        content: &[u8],
    ) -> Result<pb::UploadDocumentResponse, String> {
        let sent = self.send(messages(&request_id(), start, content, 200_000)).await;
        sent.map_err(|status| reason(&status))
    }

    /// Downloads as `payments` may: what is told first, the bytes that came, and how it ended.
    pub async fn get(
        &mut self,
        request: pb::DownloadDocumentRequest,
    ) -> (Option<pb::DocumentHead>, Vec<u8>, Result<(), String>) {
        let (mut head, mut bytes) = (None, Vec::new());
        let mut stream = match self.0.download_document(request).await {
            Ok(stream) => stream.into_inner(),
            Err(status) => return (head, bytes, Err(reason(&status))),
        };
        loop {
            match stream.message().await {
                Ok(Some(message)) => {
                    head = head.or(message.head);
                    bytes.extend(message.data);
                }
                Ok(None) => return (head, bytes, Ok(())),
                Err(status) => return (head, bytes, Err(reason(&status))),
            }
        }
    }

    pub async fn describe(&mut self, document_id: &str) -> Result<pb::Document, String> {
        let request = pb::DescribeDocumentRequest { document_id: document_id.into(), ..Default::default() };
        let answer = self.0.describe_document(request).await.map_err(|status| reason(&status))?;
        Ok(answer.into_inner().document.unwrap())
    }

    pub async fn delete(&mut self, document_id: &str) -> Result<(), String> {
        let request = pb::DeleteDocumentRequest {
            request_id: request_id(),
            document_id: document_id.into(),
            ..Default::default()
        };
        self.0.delete_document(request).await.map(drop).map_err(|status| reason(&status))
    }
}

/// A question of `payments`.
pub fn ask(document_id: &str, side: pb::DocumentSide) -> pb::DownloadDocumentRequest {
    pb::DownloadDocumentRequest {
        document_id: document_id.into(),
        side: side.into(),
        purpose: "payments".into(),
        view: pb::View::Full.into(),
        ..Default::default()
    }
}
