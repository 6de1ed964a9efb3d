//! Documents: two sides in, for a declared purpose out, gone as one set; content that is refused leaves nothing; a stored
//! part that was touched is found before a wrong byte leaves.

use std::{fs, path::PathBuf};

use sandyq::grpc::pb::{self, DocumentSide::*};

use crate::common::{
    backend::{Backend, on_both},
    documents::{Documents, MAX_BYTES, PART, ask, content, messages, start, subject},
    people::grant,
    served::{Served, reason, request_id},
};

on_both!(both_sides_are_stored_read_for_a_purpose_and_deleted_together);
async fn both_sides_are_stored_read_for_a_purpose_and_deleted_together(backend: Backend) {
    let served = Served::start_on(&backend).await;
    served.with_images(2).await;
    let (mut backend, mut payments) = (served.documents("backend").await, served.documents("payments").await);
    let (front, back) = (content(1, 2 * PART + 12_345), content(2, 700));
    let id = request_id();
    let sent = messages(&id, start(1, Front, &front), &front, 300_000);
    let stored = backend.send(sent.clone()).await.unwrap();
    assert_eq!((stored.version, stored.media_type.as_str(), stored.side()), (1, "image/png", Front));
    assert_eq!(backend.send(sent).await.unwrap(), stored, "a retry is answered as before");
    let document = stored.document_id;
    let view = backend.describe(&document).await.unwrap();
    assert!(!view.complete && view.sides.len() == 1, "{view:?}");
    let other = backend.put(start(1, Back, &back), &back).await.unwrap();
    assert_eq!(other.document_id, document, "two sides are one set");
    let view = payments.describe(&document).await.unwrap();
    assert_eq!((view.complete, view.purposes.as_slice()), (true, &["payments".to_owned()][..]));
    let list = pb::ListDocumentsRequest { subject: Some(subject(1)), ..Default::default() };
    let listed = backend.0.list_documents(list.clone()).await.unwrap().into_inner();
    assert_eq!(listed.documents.len(), 1);
    assert_eq!(listed.documents[0].sides, view.sides);

    for (side, expected) in [(Front, &front), (Back, &back)] {
        let (head, bytes, ended) = payments.get(ask(&document, side)).await;
        assert_eq!(ended, Ok(()));
        assert!(bytes == *expected, "the same bytes come back");
        let told = head.unwrap().side.unwrap();
        assert_eq!(usize::try_from(told.size_bytes).unwrap(), expected.len());
        let masked = pb::DownloadDocumentRequest { view: pb::View::Masked.into(), ..ask(&document, side) };
        let (head, bytes, ended) = payments.get(masked).await;
        assert_eq!((bytes.len(), ended), (0, Ok(())), "masked, it is told and not shown");
        assert_eq!(head.unwrap().side.unwrap(), told);
    }
    refused_reads(&served, &document).await;

    // A side that is held is replaced only by who has seen it, and the old version goes with the set.
    let newer = content(3, PART + 1);
    assert_eq!(backend.put(start(1, Front, &newer), &newer).await, Err("DOCUMENT_EXISTS".into()));
    let replacing = |version| pb::UploadStart {
        replace_version: version,
        evidence: "ACT-17".into(),
        ..start(1, Front, &newer)
    };
    assert_eq!(backend.put(replacing(2), &newer).await, Err("DOCUMENT_EXISTS".into()));
    assert_eq!(backend.put(replacing(1), &newer).await.unwrap().version, 2);
    assert!(payments.get(ask(&document, Front)).await.1 == newer);
    assert_eq!(backend.describe(&document).await.unwrap().sides[0].version_count, 2);
    assert_eq!(backend.put(replacing(2), &newer).await.unwrap().version, 3);
    assert_eq!(backend.put(replacing(3), &newer).await, Err("TOO_MANY_DOCUMENTS".into()), "three at most");
    assert_eq!(served.objects().len(), 3 + 2 + 2 + 1);

    assert_eq!(payments.delete(&document).await, Err("CALLER_NOT_ALLOWED".into()));
    backend.delete(&document).await.unwrap();
    assert_eq!(served.objects(), Vec::<PathBuf>::new(), "every part of every version is gone");
    for table in ["documents", "document_parts", "uploads"] {
        assert_eq!(served.rows(table).await, 0, "{table}");
    }
    for side in [Front, Back] {
        assert_eq!(payments.get(ask(&document, side)).await.2, Err("DOCUMENT_NOT_FOUND".into()));
    }
    assert_eq!(backend.delete(&document).await, Err("DOCUMENT_NOT_FOUND".into()));
    let listed = backend.0.list_documents(list).await.unwrap().into_inner();
    assert!(listed.documents.is_empty());
    served.running.stop().await.unwrap();
}

/// Everybody and everything but the declared purpose.
async fn refused_reads(served: &Served, document: &str) {
    let read = async |caller: &str, request| served.documents(caller).await.get(request).await;
    let question = || ask(document, Front);
    for (caller, request, expected) in [
        ("backend", question(), "CALLER_NOT_ALLOWED"),
        (
            "support",
            pb::DownloadDocumentRequest { purpose: "request_comms".into(), ..question() },
            "DOCUMENT_NOT_FOUND",
        ),
        (
            "payments",
            pb::DownloadDocumentRequest { purpose: "gift".into(), ..question() },
            "PURPOSE_NOT_DECLARED",
        ),
        (
            "payments",
            pb::DownloadDocumentRequest { view: pb::View::Sex.into(), ..question() },
            "VIEW_NOT_ALLOWED",
        ),
        (
            "payments",
            pb::DownloadDocumentRequest { recipient: "bank".into(), ..question() },
            "RECIPIENT_UNKNOWN",
        ),
        ("payments", pb::DownloadDocumentRequest { side: Face.into(), ..question() }, "DOCUMENT_NOT_FOUND"),
    ] {
        let (head, bytes, ended) = read(caller, request).await;
        assert_eq!((head, bytes.len(), ended), (None, 0, Err(expected.to_owned())), "{caller}");
    }
    // Without the subject's consent there is none either.
    let (mut backend, image) = (served.documents("backend").await, content(9, 100));
    let mut request = crate::common::people::tokenize_request(2);
    request.subject_reference = "user-20".into();
    request.consents = vec![grant("payments", &["iin"])];
    request.fields.retain(|field| field.field == "phone");
    served.vault("backend").await.tokenize(request).await.unwrap();
    let stored = backend.put(start(20, Front, &image), &image).await.unwrap();
    let (_, bytes, ended) = read("payments", ask(&stored.document_id, Front)).await;
    assert_eq!((bytes.len(), ended), (0, Err("CONSENT_MISSING".into())));
    backend.delete(&stored.document_id).await.unwrap();
}

on_both!(what_is_refused_leaves_nothing);
async fn what_is_refused_leaves_nothing(backend: Backend) {
    let served = Served::start_on(&backend).await;
    served.with_images(1).await;
    let mut backend = served.documents("backend").await;
    let good = content(1, PART + 500);
    let of = |content: &[u8]| start(1, Front, content);
    let script = [b"#!/bin/sh\n".as_slice(), &good].concat();
    let large = vec![0; MAX_BYTES + 1];
    let longer = [good.as_slice(), &[0]].concat();
    let cases: [(&str, pb::UploadStart, &[u8]); 10] = [
        ("MEDIA_TYPE_NOT_ALLOWED", of(&script), &script),
        // At the first message: not one byte of the content is sent.
        ("DOCUMENT_TOO_LARGE", of(&large), &[]),
        ("DOCUMENT_TOO_LARGE", of(&good), &longer),
        ("CONTENT_DIFFERS", pb::UploadStart { sha256: vec![7; 32], ..of(&good) }, &good),
        ("INVALID_FIELDS", pb::UploadStart { side: Face.into(), ..of(&good) }, &good),
        ("INVALID_FIELDS", pb::UploadStart { field: "iin".into(), ..of(&good) }, &good),
        ("INVALID_FIELDS", pb::UploadStart { size_bytes: 0, ..of(&good) }, &good),
        ("INVALID_FIELDS", pb::UploadStart { sha256: vec![7; 31], ..of(&good) }, &good),
        ("FIELD_NOT_ALLOWED", pb::UploadStart { field: "pass_image".into(), ..of(&good) }, &good),
        ("SUBJECT_NOT_FOUND", pb::UploadStart { subject: Some(subject(99)), ..of(&good) }, &good),
    ];
    for (expected, start, bytes) in cases {
        assert_eq!(backend.put(start, bytes).await.err().as_deref(), Some(expected));
        assert_eq!(served.objects(), Vec::<PathBuf>::new(), "{expected}");
        for table in ["documents", "document_parts", "uploads"] {
            assert_eq!(served.rows(table).await, 0, "{table} after {expected}");
        }
    }
    let mut payments = served.documents("payments").await;
    assert_eq!(payments.put(of(&good), &good).await, Err("CALLER_NOT_ALLOWED".into()));
    // The first message says what it is, and no other does.
    let mut twice = messages(&request_id(), of(&good), &good, 100_000);
    twice[1].start = Some(of(&good));
    assert_eq!(reason(&backend.send(twice).await.unwrap_err()), "INVALID_FIELDS");
    let none = vec![pb::UploadDocumentRequest::default()];
    assert_eq!(reason(&backend.send(none).await.unwrap_err()), "INVALID_FIELDS");
    let large = messages(&request_id(), of(&good), &good, PART + 1);
    assert_eq!(reason(&backend.send(large).await.unwrap_err()), "INVALID_FIELDS");
    // An image is no value.
    let mut request = crate::common::people::tokenize_request(1);
    request.fields =
        vec![pb::FieldValue { field: "id_image".into(), value: "image".into(), ..pb::FieldValue::default() }];
    let status = served.vault("backend").await.tokenize(request).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELDS");
    served.running.stop().await.unwrap();
}

/// Entries of reads that were refused as damaged.
async fn damaged_entries(served: &Served) -> usize {
    let request = pb::ListEntriesRequest {
        platform: "lerna".into(),
        page_size: 1_000,
        ..pb::ListEntriesRequest::default()
    };
    let entries = served.audit("auditor").await.list_entries(request).await.unwrap().into_inner().entries;
    entries
        .iter()
        .filter(|entry| entry.call == "DocumentService/DownloadDocument" && entry.reason == "DATA_DAMAGED")
        .count()
}

/// What somebody who holds the document store could do to one object.
struct Tamper<'a> {
    what: &'static str,
    file: &'a PathBuf,
    bytes: Option<Vec<u8>>,
}

on_both!(a_touched_part_is_found_before_a_wrong_byte_leaves);
async fn a_touched_part_is_found_before_a_wrong_byte_leaves(backend: Backend) {
    let served = Served::start_on(&backend).await;
    served.with_images(2).await;
    let mut client = served.documents("backend").await;
    let mut objects: Vec<Vec<PathBuf>> = Vec::new();
    let mut new_objects = async |client: &mut Documents, start: pb::UploadStart, image: &[u8]| {
        let known: Vec<_> = objects.concat();
        let stored = client.put(start, image).await.unwrap();
        objects.push(served.objects().into_iter().filter(|path| !known.contains(path)).collect());
        (stored.document_id, objects.last().unwrap().clone())
    };
    // Another subject's, an older version's, and the other side's parts stand at the same index as those of the victim.
    let size = 2 * PART + 99;
    let (_, theirs) = new_objects(&mut client, start(2, Front, &content(4, size)), &content(4, size)).await;
    let (_, older) = new_objects(&mut client, start(1, Front, &content(1, size)), &content(1, size)).await;
    let (_, back) = new_objects(&mut client, start(1, Back, &content(2, size)), &content(2, size)).await;
    let image = content(3, size);
    let replacing =
        pb::UploadStart { replace_version: 1, evidence: "ACT-1".into(), ..start(1, Front, &image) };
    let (document, own) = new_objects(&mut client, replacing, &image).await;
    assert_eq!([theirs.len(), older.len(), back.len(), own.len()], [3; 4]);

    let read = |path: &PathBuf| fs::read(path).unwrap();
    let mut tampers = Vec::new();
    for (at, file) in own.iter().enumerate() {
        let bytes = read(file);
        let mut flipped = bytes.clone();
        flipped[bytes.len() / 2] ^= 1;
        let mut salted = bytes.clone();
        salted[5] ^= 1;
        let cut = bytes[..bytes.len() - 1].to_vec();
        let longer = [bytes.as_slice(), &[0]].concat();
        let other = &own[(at + 1) % own.len()];
        tampers.extend([
            Tamper { what: "flipped", file, bytes: Some(flipped) },
            Tamper { what: "of another salt", file, bytes: Some(salted) },
            Tamper { what: "cut", file, bytes: Some(cut) },
            Tamper { what: "longer", file, bytes: Some(longer) },
            Tamper { what: "empty", file, bytes: Some(Vec::new()) },
            Tamper { what: "gone", file, bytes: None },
            Tamper { what: "another part of the same side", file, bytes: Some(read(other)) },
            Tamper { what: "an older version's", file, bytes: Some(read(&older[at])) },
            Tamper { what: "the other side's", file, bytes: Some(read(&back[at])) },
            Tamper { what: "another subject's", file, bytes: Some(read(&theirs[at])) },
        ]);
    }
    let mut payments = served.documents("payments").await;
    let count = tampers.len();
    for Tamper { what, file, bytes } in tampers {
        let before = read(file);
        match bytes {
            Some(bytes) => fs::write(file, bytes).unwrap(),
            None => fs::remove_file(file).unwrap(),
        }
        let (_, bytes, ended) = payments.get(ask(&document, Front)).await;
        assert_eq!(ended, Err("DATA_DAMAGED".into()), "{what}");
        assert!(bytes.len() < image.len() && image.starts_with(&bytes), "{what}: right bytes alone");
        fs::write(file, before).unwrap();
    }
    assert_eq!(damaged_entries(&served).await, count, "each is on record");
    // Rows too: a manifest of another version, a version brought back, a row that says something else.
    for sql in [
        "UPDATE documents SET sealed_manifest = (SELECT o.sealed_manifest FROM documents o WHERE o.version = 1 \
         AND o.side = 'front' AND o.subject_id = documents.subject_id) WHERE version = 2",
        "UPDATE documents SET media_type = 'image/jpeg' WHERE version = 2",
    ] {
        served.sql("CREATE TABLE kept AS SELECT * FROM documents").await;
        assert_eq!(served.sql(sql).await, 1);
        let (head, bytes, ended) = payments.get(ask(&document, Front)).await;
        assert_eq!((head, bytes.len(), ended), (None, 0, Err("DATA_DAMAGED".into())), "{sql}");
        served.sql("DELETE FROM documents").await;
        served.sql("INSERT INTO documents SELECT * FROM kept").await;
        served.sql("DROP TABLE kept").await;
    }
    assert!(payments.get(ask(&document, Front)).await.1 == image, "put back, it is read again");
    served.running.stop().await.unwrap();
}

on_both!(more_streams_than_there_is_memory_for_share_a_connection);
async fn more_streams_than_there_is_memory_for_share_a_connection(backend: Backend) {
    let served = Served::start_on(&backend).await;
    served.with_images(40).await;
    let image = content(3, 3 * PART);
    // Sixteen parts have room at a time. The bytes of all other streams wait at the server, and must not keep away those of the
    // sixteen.
    let client = served.documents("backend").await;
    let mut uploads = tokio::task::JoinSet::new();
    for number in 1..=40 {
        let (mut client, image) = (Documents(client.0.clone()), image.clone());
        let start = start(number, Front, &image);
        uploads.spawn(async move { client.put(start, &image).await.map(drop) });
    }
    let ended = uploads.join_all().await;
    assert_eq!(ended, vec![Ok(()); 40]);
}
