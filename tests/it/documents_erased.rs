//! Documents of an erased subject: unreadable at once, also to a stream that runs, and gone after the sweep.

use sandyq::{domain::document::Side, policy::decide::Denial};

use crate::common::{
    backend::{Backend, on_both},
    documents::{PART, content},
    uploads::{Open, objects, send},
};

on_both!(an_erased_subjects_documents_are_unreadable_at_once_and_go_in_the_sweep);
async fn an_erased_subjects_documents_are_unreadable_at_once_and_go_in_the_sweep(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = Open::new(&backend, dir.path(), 2).await;
    let image = content(1, 5 * PART);
    let front = open.put(1, Side::Front, &image).await.unwrap();
    let back = open.put(1, Side::Back, &content(2, 10)).await.unwrap();
    let kept = open.put(2, Side::Front, &content(3, 10)).await.unwrap();
    // A stream is on its way.
    let running = open.download(front).await.unwrap().content.unwrap();
    let mut starts = running.starts();
    let first = running.piece(starts.next().unwrap()).await.unwrap();
    assert!(image.starts_with(&first.bytes));
    first.slot.release();
    open.erase(1).await;
    for side in [front, back] {
        assert_eq!(open.download(side).await.err(), Some(Denial::SubjectErased.into()));
    }
    assert_eq!(open.put(1, Side::Back, &image).await.err(), Some(Denial::SubjectErased.into()));
    let next = running.piece(starts.next().unwrap()).await.err();
    assert_eq!(next, Some(Denial::SubjectErased.into()), "a stream does not outlast the erasure");
    assert_eq!(objects(dir.path()), 7, "until the cooling time ends, nothing is destroyed");
    open.clock.advance(4 * 60 * 60 * 1_000_000 + 1_000_000);
    assert_eq!(open.vault.work().await.unwrap().done, 1);
    assert_eq!(objects(dir.path()), 1, "the other subject's alone");
    for (table, rows) in [("documents", 1), ("document_parts", 1), ("uploads", 0)] {
        let touch = format!("UPDATE {table} SET platform_id = platform_id");
        assert_eq!(backend.sql(dir.path(), &touch).await, rows, "{table}");
    }
    assert_eq!(open.download(front).await.err(), Some(Denial::DocumentNotFound.into()));
    assert!(open.download(kept).await.is_ok());
}

on_both!(an_upload_does_not_outlast_its_subject_or_document);
async fn an_upload_does_not_outlast_its_subject_or_document(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = Open::new(&backend, dir.path(), 2).await;
    let image = content(1, PART + 10);
    // Erased while bytes come in: the row is not written.
    let mut uploading = open.begin(&open.upload(1, Side::Front, &image), 0).await.unwrap();
    send(&mut uploading, &image).await.unwrap();
    open.erase(1).await;
    assert_eq!(uploading.finish().await, Err(Denial::SubjectErased.into()));
    // Destroyed while bytes come in: not even a part is counted.
    let mut uploading = open.begin(&open.upload(2, Side::Front, &image), 0).await.unwrap();
    send(&mut uploading, &image[..PART]).await.unwrap();
    open.erase(2).await;
    open.clock.advance(4 * 60 * 60 * 1_000_000 + 1_000_000);
    assert_eq!(open.vault.work().await.unwrap().done, 2);
    assert_eq!(send(&mut uploading, &image[PART..]).await, Err(Denial::UploadMoved.into()));
    assert_eq!(objects(dir.path()), 0);
    for table in ["documents", "document_parts", "uploads"] {
        let touch = format!("UPDATE {table} SET platform_id = platform_id");
        assert_eq!(backend.sql(dir.path(), &touch).await, 0, "{table}");
    }
}
