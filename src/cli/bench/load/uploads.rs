//! An image that streams in.

use std::sync::Arc;

use tokio_stream::StreamExt as _;
use tonic::{Status, transport::Channel};

use super::{Names, people};
use crate::{
    cli::{bench::uploads::DOCUMENT_BYTES, client::request_id, subject::name_of},
    crypto::digest::sha256,
    grpc::pb::{self, DocumentSide, document_service_client::DocumentServiceClient},
};

/// The field of the policy with images.
pub(super) const FIELD: &str = "id_image";
/// Bytes of one message.
const MESSAGE_BYTES: usize = 256 << 10;

/// What is streamed in: it begins as a JPEG does, and no part of it is like another.
pub(super) struct Image {
    bytes: Arc<[u8]>,
    sha256: [u8; 32],
}

impl Image {
    pub(super) fn new() -> Self {
        let bytes: Arc<[u8]> = [0xFF, 0xD8, 0xFF, 0xE0]
            .into_iter()
            .chain((0..).flat_map(|number: u64| super::calls::scatter(number).to_le_bytes()))
            .take(usize::try_from(DOCUMENT_BYTES).unwrap_or_default())
            .collect();
        Self { sha256: sha256(&bytes), bytes }
    }

    /// Streams it in as the next side of a document. Its bytes.
    pub(super) async fn send(
        &self,
        client: &mut DocumentServiceClient<Channel>,
        names: &Names,
    ) -> Result<u64, Status> {
        let number = names.next_upload();
        let side = if number.is_multiple_of(2) { DocumentSide::Front } else { DocumentSide::Back };
        let start = pb::UploadStart {
            subject: Some(name_of(&people::reference(names, number / 2))),
            field: FIELD.to_owned(),
            side: side.into(),
            size_bytes: i64::try_from(self.bytes.len()).unwrap_or(i64::MAX),
            sha256: self.sha256.to_vec(),
            ..pb::UploadStart::default()
        };
        let request_id = request_id().map_err(|failure| Status::internal(failure.message()))?;
        let first = pb::UploadDocumentRequest { request_id, start: Some(start), data: Vec::new() };
        let bytes = Arc::clone(&self.bytes);
        let rest = tokio_stream::iter((0..bytes.len()).step_by(MESSAGE_BYTES)).map(move |at| {
            let end = bytes.len().min(at + MESSAGE_BYTES);
            let data = bytes.get(at..end).unwrap_or_default().to_vec();
            pb::UploadDocumentRequest { data, ..pb::UploadDocumentRequest::default() }
        });
        client.upload_document(tokio_stream::once(first).chain(rest)).await?;
        Ok(DOCUMENT_BYTES)
    }
}
