//! Documents compared: what an administrator of the database does to their rows, and the owner of a place to its objects, is
//! found without anybody reading them.

use std::{path::Path, sync::Arc};

use sandyq::{
    domain::document::Side,
    vault::{
        documents::{Documents, StoredSide},
        reconcile::Problem,
    },
};

use crate::{
    common::{
        backend::{Backend, on_both},
        documents::{PART, content},
        places::{Place, everywhere},
        uploads::{Open, send},
        vault::OpenVault,
    },
    reconciled::{found, reconcile_vault},
};

const ROWS: &str = "documents";
const PARTS: &str = "document_parts";
const OBJECTS: &str = "document_objects";

async fn create(backend: &Backend, dir: &Path, place: &Place, people: u32) -> Open {
    let made = OpenVault::create(backend, dir, |store| store).await;
    made.enrol_auditor().await;
    let OpenVault { vault, clock } = made;
    let vault = vault.with_documents(Some(Documents::new(place.parts.clone(), 64)));
    let open = Open { vault: Arc::new(vault), clock };
    open.prepare(people).await;
    open
}

impl Open {
    /// What a reconciliation that an auditor asks for finds.
    async fn differs(&self) -> Vec<(&'static str, Problem)> {
        let mut all = found(&reconcile_vault(&self.vault, "lerna").await);
        all.sort_unstable();
        all
    }
}

on_both!(documents_that_nobody_touched_agree);
async fn documents_that_nobody_touched_agree(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::directory(&dir.path().join("documents"));
    let open = create(&backend, dir.path(), &place, 3).await;
    let image = content(1, 2 * PART + 9);
    open.put(1, Side::Front, &image).await.unwrap();
    open.put(1, Side::Back, &content(2, 40)).await.unwrap();
    open.put(2, Side::Front, &image).await.unwrap();
    let sent = open.upload(3, Side::Front, &image);
    let mut uploading = open.begin(&sent, 0).await.unwrap();
    send(&mut uploading, &image[..PART + 5]).await.unwrap();
    assert_eq!(open.differs().await, []);
    open.erase(2).await;
    assert_eq!(open.differs().await, [], "erased, and still there");
    open.clock.advance(4 * 60 * 60 * 1_000_000 + 1_000_000);
    assert_eq!(open.vault.work().await.unwrap().done, 1);
    assert_eq!(open.differs().await, [], "destroyed");
    assert_eq!(open.vault.reconcile_all().await, 0);
}

on_both!(what_is_done_to_rows_of_documents_is_found);
async fn what_is_done_to_rows_of_documents_is_found(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let place = Place::directory(&dir.path().join("documents"));
    let open = create(&backend, dir.path(), &place, 2).await;
    open.put(1, Side::Front, &content(1, PART + 9)).await.unwrap();
    open.put(1, Side::Back, &content(2, PART + 9)).await.unwrap();
    open.put(2, Side::Front, &content(3, PART + 9)).await.unwrap();
    assert_eq!(open.differs().await, []);
    let sql = async |sql: &str| backend.sql(dir.path(), sql).await;
    for table in [ROWS, PARTS] {
        sql(&format!("CREATE TABLE kept_{table} AS SELECT * FROM {table}")).await;
    }
    let back = "side = 'back'";
    let of = |column: &str| format!("(SELECT k.{column} FROM kept_documents k WHERE k.side = 'back')");
    let part = format!("upload_id = {} AND position = 0", of("upload_id"));
    for (done, expected) in [
        (format!("DELETE FROM documents WHERE {back}"), vec![(ROWS, Problem::Missing)]),
        (format!("UPDATE documents SET media_type = 'image/jpeg' WHERE {back}"), vec![(ROWS, Problem::Edited)]),
        (format!("UPDATE documents SET size = size + 1 WHERE {back}"), vec![(ROWS, Problem::Edited)]),
        (
            format!("UPDATE documents SET sealed_manifest = {} WHERE side = 'front'", of("sealed_manifest")),
            vec![(ROWS, Problem::Edited); 2],
        ),
        (format!("UPDATE documents SET mac = {} WHERE side = 'front'", of("mac")), vec![(ROWS, Problem::Edited); 2]),
        (
            format!(
                "INSERT INTO documents (platform_id, upload_id, document_id, subject_id, field, side, version, state, \
                 source, media_type, size, sealed_manifest, created_at, mac) SELECT platform_id, record_id, document_id, \
                 subject_id, field, side, 9, 'superseded', source, media_type, size, sealed_manifest, d.created_at, d.mac \
                 FROM documents d, (SELECT record_id FROM records LIMIT 1) r WHERE {back}"
            )
            .replace("SELECT platform_id, record_id", "SELECT d.platform_id, r.record_id"),
            vec![(ROWS, Problem::Unknown)],
        ),
        (format!("DELETE FROM document_parts WHERE {part}"), vec![(PARTS, Problem::Missing)]),
        (
            format!("UPDATE document_parts SET object_id = {} WHERE {part}", of("document_id")),
            vec![(PARTS, Problem::Missing), (PARTS, Problem::Unknown)],
        ),
        // It is missing where it should be, and nothing else of it is told.
        (format!("UPDATE document_parts SET position = 7 WHERE {part}"), vec![(PARTS, Problem::Missing)]),
    ] {
        assert!(sql(&done).await > 0, "{done}");
        assert_eq!(open.differs().await, expected, "{done}");
        for table in [ROWS, PARTS] {
            sql(&format!("DELETE FROM {table}")).await;
            sql(&format!("INSERT INTO {table} SELECT * FROM kept_{table}")).await;
        }
        assert_eq!(open.differs().await, [], "put back after {done}");
    }
    // The key of a subject, wrapped under a version that never was.
    let wrap = "CAST(substr(wrapped_key, 1, 2) || x'00000009' || substr(wrapped_key, 7) AS BLOB)";
    sql("CREATE TABLE kept_subjects AS SELECT * FROM subjects").await;
    assert_eq!(sql(&format!("UPDATE subjects SET wrapped_key = {wrap}")).await, 2);
    assert_eq!(open.differs().await, [("subjects", Problem::Edited); 2]);
    let kept = "SELECT k.wrapped_key FROM kept_subjects k WHERE k.subject_id = subjects.subject_id";
    sql(&format!("UPDATE subjects SET wrapped_key = ({kept})")).await;
    assert_eq!(open.differs().await, []);
    // An older state, whole and with its MAC: the deletion of a document undone.
    delete(&open, 2).await;
    assert_eq!(open.differs().await, []);
    for table in [ROWS, PARTS] {
        sql(&format!("DELETE FROM {table}")).await;
        sql(&format!("INSERT INTO {table} SELECT * FROM kept_{table}")).await;
    }
    let all = open.differs().await;
    assert!(all.contains(&(ROWS, Problem::Stale)), "{all:?}");
    let gone = all.iter().filter(|found| **found == (OBJECTS, Problem::Missing)).count();
    assert_eq!(gone, 2, "its objects are gone: {all:?}");
}

async fn delete(open: &Open, number: u32) {
    use crate::common::{
        uploads::reference,
        vault::{asker, spiffe},
    };
    let caller = open.vault.caller(&spiffe("backend")).unwrap();
    let held = open.vault.list_documents(&caller, asker("backend"), "", reference(number)).await.unwrap();
    open.vault.delete_document(&caller, asker("backend"), "", held[0].id, None).await.unwrap();
}

/// Stores a side, and answers its objects in the order of its parts.
async fn stored(
    open: &Open,
    place: &Place,
    number: u32,
    side: Side,
    image: &[u8],
) -> (StoredSide, Vec<String>) {
    let mut uploading = open.begin(&open.upload(number, side, image), 0).await.unwrap();
    let mut objects = Vec::new();
    for part in image.chunks(PART) {
        let before = place.names().await;
        send(&mut uploading, part).await.unwrap();
        objects.extend(place.names().await.into_iter().filter(|name| !before.contains(name)));
    }
    (uploading.finish().await.unwrap(), objects)
}

on_both!(what_is_done_to_objects_of_documents_is_found);
async fn what_is_done_to_objects_of_documents_is_found(backend: Backend) {
    let places = tempfile::tempdir().unwrap();
    for place in everywhere(places.path()).await {
        let dir = tempfile::tempdir().unwrap();
        let backend = backend.fresh().await;
        let open = create(&backend, dir.path(), &place, 2).await;
        let (_, own) = stored(&open, &place, 1, Side::Front, &content(1, PART + 9)).await;
        let (_, other_side) = stored(&open, &place, 1, Side::Back, &content(2, PART + 9)).await;
        let (_, other_subject) = stored(&open, &place, 2, Side::Front, &content(3, PART + 9)).await;
        assert_eq!(open.differs().await, [], "{}", place.name);
        let kept = place.read(&own[1]).await;
        let (mut flipped, cut) = (kept.clone(), kept[..kept.len() - 1].to_vec());
        flipped[50] ^= 1;
        for (what, bytes) in [
            ("flipped", flipped),
            ("cut", cut),
            ("larger than any part", vec![1; PART + 100]),
            ("another part", place.read(&own[0]).await),
            ("the other side's", place.read(&other_side[1]).await),
            ("another subject's", place.read(&other_subject[1]).await),
        ] {
            place.write(&own[1], bytes).await;
            assert_eq!(open.differs().await, [(OBJECTS, Problem::Edited)], "{}: {what}", place.name);
        }
        assert_eq!(open.vault.reconcile_all().await, 0, "the daily one does not open objects");
        place.remove(&own[1]).await;
        assert_eq!(open.differs().await, [(OBJECTS, Problem::Missing)], "{}: gone", place.name);
        assert_eq!(
            open.vault.reconcile_all().await,
            1,
            "{}: the daily one looks whether they are there",
            place.name
        );
        place.write(&own[1], kept).await;
        assert_eq!(open.differs().await, [], "{}: put back", place.name);
    }
}
