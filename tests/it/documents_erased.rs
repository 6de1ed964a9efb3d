//! Documents of an erased subject: unreadable at once, also to a stream that runs, and gone after the sweep.

use sandyq::{
    domain::{document::Side, event::SubjectEvent, operation::OperationState},
    policy::decide::Denial,
    vault::access::Call,
};

use crate::common::{
    backend::{Backend, on_both},
    documents::{PART, content},
    places::{Place, everywhere},
    uploads::{Open, objects, reference, send},
    vault::{as_admin, asker, spiffe, staff},
};

const DAY: i64 = 24 * 60 * 60 * 1_000_000;

impl Open {
    async fn account_deleted(&self, number: u32) {
        let event = SubjectEvent { name: "account_deleted".parse().unwrap(), at: self.clock.now() };
        let caller = self.vault.caller(&spiffe("backend")).unwrap();
        self.vault.record_event(&caller, asker("backend"), reference(number), event, None).await.unwrap();
    }

    async fn swept(&self) {
        let admin = self.vault.caller(&staff("admin")).unwrap();
        let begun = self.vault.sweep_retention(&admin, as_admin(), "lerna", 0).await.unwrap();
        for long in self.vault.work().await.unwrap().long {
            self.vault.work_long(&long).await.unwrap();
        }
        let ended = self.vault.operation(&admin, as_admin(), Call::GetOperation, begun.id).await.unwrap();
        assert_eq!(ended.unwrap().state, OperationState::Done);
        // The objects go with the next work.
        self.vault.work().await.unwrap();
    }
}

on_both!(an_erased_subjects_documents_are_unreadable_at_once_and_go_in_the_sweep);
async fn an_erased_subjects_documents_are_unreadable_at_once_and_go_in_the_sweep(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    for place in everywhere(dir.path()).await {
        erased_at_once_and_swept(&backend.fresh().await, &place).await;
    }
}

async fn erased_at_once_and_swept(backend: &Backend, place: &Place) {
    let dir = tempfile::tempdir().unwrap();
    let open = Open::over(backend, dir.path(), 2, place.parts.clone()).await;
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
    assert_eq!(place.names().await.len(), 7, "until the cooling time ends, nothing is destroyed");
    open.clock.advance(4 * 60 * 60 * 1_000_000 + 1_000_000);
    assert_eq!(open.vault.work().await.unwrap().done, 1);
    assert_eq!(place.names().await.len(), 1, "{}: the other subject's alone", place.name);
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

on_both!(a_document_ends_whole_when_its_purpose_does);
async fn a_document_ends_whole_when_its_purpose_does(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = Open::new(&backend, dir.path(), 3).await;
    let image = content(1, PART + 10);
    let front = open.put(1, Side::Front, &image).await.unwrap();
    let back = open.put(1, Side::Back, &content(2, 10)).await.unwrap();
    let kept = open.put(2, Side::Front, &content(3, 10)).await.unwrap();
    open.swept().await;
    assert_eq!(open.read(front).await.unwrap(), image, "nothing has ended yet");
    open.account_deleted(1).await;
    // Of a third nothing but an upload that is on its way is held.
    let sent = open.upload(3, Side::Front, &image);
    let mut uploading = open.begin(&sent, 0).await.unwrap();
    send(&mut uploading, &image[..PART]).await.unwrap();
    open.account_deleted(3).await;
    open.swept().await;
    for side in [front, back] {
        assert_eq!(open.download(side).await.err(), Some(Denial::DocumentNotFound.into()));
    }
    assert!(open.download(kept).await.is_ok());
    assert_eq!(objects(dir.path()), 2, "the second person's, and the part that is on its way");
    let keys = async |rows: u64, why: &str| {
        let touch = "UPDATE subjects SET state = state WHERE wrapped_key IS NOT NULL";
        assert_eq!(backend.sql(dir.path(), touch).await, rows, "{why}");
    };
    keys(2, "of the first nothing is left, and the third waits for the upload").await;
    // What nobody finished ends, and then its subject, who has had nothing for a while.
    open.clock.advance(DAY + DAY / 2);
    open.swept().await;
    keys(1, "the second person's").await;
    assert_eq!(open.collect().await, OperationState::Done);
    assert_eq!(objects(dir.path()), 1);
}
