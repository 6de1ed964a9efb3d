//! The demo's documents: two sides stored, read for a declared purpose, refused for another, deleted as one set.

use std::{fs, path::Path};

use tonic::{Status, transport::Channel};

use super::{Callers, SUBJECT, Story};
use crate::{
    cli::{
        client::{connect, consents, documents, policies, request_id},
        local::{Running, policy_with_images, synthetic_consent},
        output::{Failure, describe, exit, refused},
    },
    crypto::digest::sha256,
    grpc::pb::{self, DocumentSide},
};

const FIELD: &str = "id_image";
/// Bytes of a side: a part and a bit.
const SIZE: usize = (1 << 20) + 12_345;

impl Story<'_> {
    pub(super) async fn documents(&mut self, callers: &Callers, running: &Running) -> Result<(), Failure> {
        self.next("The operator's next policy version names a purpose for the image of an identity card")?;
        let admin = connect(&running.installation.connection("admin")?).await?;
        let request = pb::ApplyPolicyRequest {
            request_id: request_id()?,
            text: policy_with_images(),
            validate_only: false,
        };
        policies(admin).apply_policy(request).await.map_err(refused)?;
        let consent = pb::GrantConsentRequest {
            request_id: request_id()?,
            subject_reference: SUBJECT.to_owned(),
            consent: Some(pb::ConsentGrant { policy_version: 2, ..synthetic_consent("payments", &[FIELD]) }),
        };
        consents(callers.backend.clone()).grant_consent(consent).await.map_err(refused)?;
        self.say(
            "Until a purpose uses it, the field cannot even be declared: nobody stores what nobody may read.",
        )?;

        self.next("The backend streams both sides in; what they are, their first bytes say")?;
        let images = [(DocumentSide::Front, image(1)), (DocumentSide::Back, image(2))];
        let mut document = String::new();
        for (side, image) in &images {
            let stored = upload(&callers.backend, *side, image).await.map_err(refused)?;
            self.say(&format!("{:<11} {} bytes, {}", name(*side), image.len(), stored.media_type))?;
            document = stored.document_id;
        }
        let request = pb::DescribeDocumentRequest { document_id: document.clone(), ..Default::default() };
        let held = documents(callers.backend.clone()).describe_document(request).await.map_err(refused)?;
        let complete = held.into_inner().document.is_some_and(|document| document.complete);
        if !complete {
            return Err(Failure::new(exit::FAILED, "two sides do not make a complete document"));
        }
        let store = running.installation.dir().join("documents");
        self.say(&format!("document    {document}: complete"))?;
        self.say(&format!(
            "They lie in {} sealed parts outside the database, each under its own key.",
            parts(&store)?
        ))?;

        self.next("The payment service reads a side for `payments`; for another purpose, and to others, there is none")?;
        let [(side, expected), _] = &images;
        let (told, bytes) =
            download(&callers.payments, &document, *side, "payments").await.map_err(refused)?;
        if bytes != *expected {
            return Err(Failure::new(exit::FAILED, "other bytes came back than were stored"));
        }
        self.say(&format!(
            "{:<11} the same {} bytes, permitted by {}",
            name(*side),
            bytes.len(),
            told.audit_entry_id
        ))?;
        for (who, channel, purpose, reason) in [
            ("payments asks for `resale`", &callers.payments, "resale", "PURPOSE_NOT_DECLARED"),
            ("support asks for `request_comms`", &callers.support, "request_comms", "DOCUMENT_NOT_FOUND"),
        ] {
            let answer = download(channel, &document, *side, purpose).await;
            self.expect_no_document(who, answer, reason)?;
        }

        self.next("Deleted, both sides go as one set, with every part")?;
        let request = pb::DeleteDocumentRequest {
            request_id: request_id()?,
            document_id: document.clone(),
            reference: "CASE-2026/000117".to_owned(),
            ..Default::default()
        };
        documents(callers.backend.clone()).delete_document(request).await.map_err(refused)?;
        let left = parts(&store)?;
        if left > 0 {
            return Err(Failure::new(exit::FAILED, format!("{left} parts are left")));
        }
        self.say("parts left  0")?;
        for (side, _) in &images {
            let answer = download(&callers.payments, &document, *side, "payments").await;
            self.expect_no_document(&name(*side), answer, "DOCUMENT_NOT_FOUND")?;
        }
        Ok(())
    }

    fn expect_no_document(
        &mut self,
        what: &str,
        answer: Result<(pb::DocumentHead, Vec<u8>), Status>,
        reason: &str,
    ) -> Result<(), Failure> {
        match answer {
            Err(status) if describe(&status).starts_with(reason) => {
                self.say(&format!("{what:<11} refused: {}", describe(&status)))
            }
            Err(status) => {
                let message = format!("{what}: expected {reason}, got {}", describe(&status));
                Err(Failure::new(exit::FAILED, message))
            }
            Ok(_) => Err(Failure::new(exit::FAILED, format!("{what}: expected {reason}, got a document"))),
        }
    }
}

fn name(side: DocumentSide) -> String {
    side.as_str_name().trim_start_matches("DOCUMENT_SIDE_").to_lowercase()
}

/// Bytes that begin as a PNG does, of nobody.
fn image(number: u8) -> Vec<u8> {
    let mut bytes = b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR".to_vec();
    bytes.resize(SIZE, number);
    bytes
}

/// Objects below a directory, but for its marker.
fn parts(dir: &Path) -> Result<usize, Failure> {
    let (mut count, mut dirs) = (0, vec![dir.to_owned()]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir)? {
            let entry = entry?;
            if entry.file_type()?.is_dir() {
                dirs.push(entry.path());
            } else if entry.file_name() != "sandyq-documents" {
                count += 1;
            }
        }
    }
    Ok(count)
}

async fn upload(
    channel: &Channel,
    side: DocumentSide,
    image: &[u8],
) -> Result<pb::UploadDocumentResponse, Status> {
    let subject = pb::subject_name::Subject::SubjectReference(SUBJECT.to_owned());
    let start = pb::UploadStart {
        subject: Some(pb::SubjectName { subject: Some(subject) }),
        field: FIELD.to_owned(),
        side: side.into(),
        size_bytes: i64::try_from(image.len()).unwrap_or(i64::MAX),
        sha256: sha256(image).to_vec(),
        ..Default::default()
    };
    let id = request_id().map_err(|failure| Status::internal(failure.message()))?;
    let first = pb::UploadDocumentRequest { request_id: id, start: Some(start), data: Vec::new() };
    let rest = image
        .chunks(256 << 10)
        .map(|data| pb::UploadDocumentRequest { data: data.to_vec(), ..Default::default() });
    let messages: Vec<_> = std::iter::once(first).chain(rest).collect();
    let answer = documents(channel.clone()).upload_document(tokio_stream::iter(messages)).await?;
    Ok(answer.into_inner())
}

async fn download(
    channel: &Channel,
    document: &str,
    side: DocumentSide,
    purpose: &str,
) -> Result<(pb::DocumentHead, Vec<u8>), Status> {
    let request = pb::DownloadDocumentRequest {
        document_id: document.to_owned(),
        side: side.into(),
        purpose: purpose.to_owned(),
        view: pb::View::Full.into(),
        reference: "ORDER-2026/000117".to_owned(),
        ..Default::default()
    };
    let mut stream = documents(channel.clone()).download_document(request).await?.into_inner();
    let (mut head, mut bytes) = (pb::DocumentHead::default(), Vec::new());
    while let Some(message) = stream.message().await? {
        head = message.head.unwrap_or(head);
        bytes.extend(message.data);
    }
    Ok((head, bytes))
}
