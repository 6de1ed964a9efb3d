//! The calls of documents, over content that must be nowhere in clear.

use sandyq::{crypto::digest::sha256, grpc::pb, vault::access::Call};

use super::{
    canaries::Canary,
    drive::{Marked, by_reference},
    driver::Driver,
};
use crate::common::{
    documents::{PART, content},
    served::request_id,
};

const FIELD: &str = "further_document_image";
/// What stands on a document.
const WRITTEN: &str = "Сынақбаева Әлия 991231600002 IDKAZ000000000";

/// An image that says so, at its beginning, across the border of its first part, and at its end.
fn marked(marks: &mut Marked, size: usize) -> Vec<u8> {
    let mut image = content(4711, size);
    let text = WRITTEN.as_bytes();
    for at in [100, PART.min(size) - text.len() / 2 - 1, size] {
        let at = at.min(size - text.len());
        image[at..at + text.len()].copy_from_slice(text);
    }
    marks.canaries.push(Canary::new("hash of an image", sha256(&image).to_vec()));
    image
}

fn upload(side: pb::DocumentSide, image: &[u8]) -> pb::UploadDocumentRequest {
    let start = pb::UploadStart {
        subject: Some(by_reference(0)),
        field: FIELD.into(),
        side: side.into(),
        size_bytes: i64::try_from(image.len()).unwrap(),
        sha256: sha256(image).to_vec(),
        ..Default::default()
    };
    let data = image[..image.len().min(PART)].to_vec();
    pb::UploadDocumentRequest { request_id: request_id(), start: Some(start), data }
}

/// A document in and out, and an upload that breaks off.
pub async fn drive_documents(driver: &mut Driver, marks: &mut Marked) {
    marks.canaries.push(Canary::new("text in an image", WRITTEN));
    let image = marked(marks, 5_000);
    let stored: pb::UploadDocumentResponse =
        driver.answer("backend", Call::UploadDocument, upload(pb::DocumentSide::Front, &image)).await;
    let document_id = stored.document_id;
    // One message of two: what was sent stays for the next stream.
    let broken = upload(pb::DocumentSide::Back, &marked(marks, PART + 100));
    driver.refuse("backend", Call::UploadDocument, broken.clone(), "UPLOAD_INCOMPLETE").await;
    let query = pb::QueryUploadRequest { request_id: broken.request_id };
    driver.succeed("backend", Call::QueryUpload, query).await;
    let unknown = pb::QueryUploadRequest { request_id: request_id() };
    driver.refuse("backend", Call::QueryUpload, unknown, "UPLOAD_NOT_FOUND").await;
    let read = pb::DownloadDocumentRequest {
        document_id: document_id.clone(),
        side: pb::DocumentSide::Front.into(),
        purpose: "payments".into(),
        view: pb::View::Full.into(),
        ..Default::default()
    };
    let read_back: pb::DownloadDocumentResponse =
        driver.answer("payments", Call::DownloadDocument, read.clone()).await;
    assert!(read_back.data == image);
    let other = pb::DownloadDocumentRequest { side: pb::DocumentSide::Back.into(), ..read };
    driver.refuse("payments", Call::DownloadDocument, other, "DOCUMENT_NOT_FOUND").await;
    let describe = pb::DescribeDocumentRequest { document_id: document_id.clone(), ..Default::default() };
    driver.succeed("backend", Call::DescribeDocument, describe).await;
    let list = pb::ListDocumentsRequest { subject: Some(by_reference(0)), ..Default::default() };
    driver.succeed("backend", Call::ListDocuments, list).await;
    let second = upload(pb::DocumentSide::Front, &image);
    let start = second.start.clone().unwrap();
    let start = pb::UploadStart { subject: Some(by_reference(1)), ..start };
    let stored: pb::UploadDocumentResponse = driver
        .answer("backend", Call::UploadDocument, pb::UploadDocumentRequest { start: Some(start), ..second })
        .await;
    let delete = pb::DeleteDocumentRequest {
        request_id: request_id(),
        document_id: stored.document_id,
        ..Default::default()
    };
    driver.succeed("backend", Call::DeleteDocument, delete.clone()).await;
    let survey =
        pb::CollectDocumentsRequest { request_id: request_id(), platform: "lerna".into(), dry_run: true };
    let found: pb::CollectDocumentsResponse = driver.answer("admin", Call::CollectDocuments, survey).await;
    assert!(found.found.unwrap().objects > 0);
    let again = pb::DeleteDocumentRequest { request_id: request_id(), ..delete };
    driver.refuse("backend", Call::DeleteDocument, again, "DOCUMENT_NOT_FOUND").await;
}
