//! The collector: what nobody needs goes, what is on its way stays, and what is missing is told; also after a death in the
//! middle of an upload and of a deletion.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use sandyq::{
    blobs::parts::Parts,
    crypto::{kms::local::LocalKms, random::SystemRng},
    domain::{document::Side, operation::OperationState, time::Clock},
    grpc::pb::{self, document_service_client::DocumentServiceClient},
    policy::decide::Denial,
    vault::{
        Vault,
        documents::{Collected, Documents},
    },
};

use crate::common::{
    backend::{Backend, on_both},
    child::Server,
    documents::{PART, ask, consent, content, messages, policy, start},
    people::tokenize_request,
    places::{Place, buckets},
    random::{Choices, rounds},
    served::{initialised_on, reason, request_id},
    uploads::{Open, objects, reference, send},
    vault::{asker, settings, spiffe},
};

const DAY: i64 = 24 * 60 * 60 * 1_000_000;
/// People whose upload is on its way when the server dies, and people whose document stays, are numbered from here.
const BEGUN: u32 = 100;
const KEPT: u32 = 200;

/// Files in the document store.
fn files(dir: &Path) -> Vec<PathBuf> {
    let (mut found, mut dirs) = (Vec::new(), vec![dir.join("documents/1")]);
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { dirs.push(path) } else { found.push(path) }
        }
    }
    found
}

const NOTHING: Collected = Collected { objects: 0, expired: 0, orphans: 0, missing: 0 };

on_both!(the_collector_takes_what_nobody_needs_and_tells_what_is_missing);
async fn the_collector_takes_what_nobody_needs_and_tells_what_is_missing(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = Open::new(&backend, dir.path(), 3).await;
    let image = content(1, 2 * PART);
    let kept = open.put(1, Side::Front, &image).await.unwrap();
    // Objects that no row names: of an upload that is done, and of one that never was.
    let known = files(dir.path());
    let stray = known[0].with_file_name("0".repeat(32));
    fs::write(&stray, b"left by a stream that was overtaken").unwrap();
    let unknown = dir.path().join("documents/1/ab").join("c".repeat(30));
    fs::create_dir_all(&unknown).unwrap();
    fs::write(unknown.join("d".repeat(32)), b"left by a death").unwrap();
    let strange = unknown.join("README");
    fs::write(&strange, b"no part").unwrap();
    // An upload on its way, with a part that is not counted yet.
    let running = open.upload(2, Side::Front, &image);
    let mut uploading = open.begin(&running, 0).await.unwrap();
    send(&mut uploading, &image[..PART + 5]).await.unwrap();
    let found = files(dir.path())
        .into_iter()
        .find(|path| !known.contains(path) && path.parent() != stray.parent() && !path.starts_with(&unknown))
        .unwrap();
    fs::write(found.with_file_name("e".repeat(32)), b"not counted yet").unwrap();
    assert_eq!(open.survey().await, Collected { objects: 6, orphans: 2, ..NOTHING });
    assert_eq!(objects(dir.path()), 7, "a dry run deletes nothing");
    assert_eq!(open.collect().await, OperationState::Done);
    assert_eq!(open.survey().await, Collected { objects: 4, ..NOTHING });
    assert!(strange.exists(), "what is no part is nobody's to delete");
    send(&mut uploading, &image[PART + 5..]).await.unwrap();
    let done = uploading.finish().await.unwrap();
    assert!(open.read(done).await.unwrap() == image, "what was on its way was left alone");

    // An upload that nobody carries on, and one collection at a time.
    let left = open.upload(3, Side::Front, &image);
    let mut uploading = open.begin(&left, 0).await.unwrap();
    send(&mut uploading, &image[..PART]).await.unwrap();
    open.clock.advance(DAY + 1_000_000);
    let begun = open.begin_collection().await.unwrap();
    assert_eq!(open.begin_collection().await.err(), Some(Denial::CollectionRunning.into()));
    open.vault.work_long(&begun).await.unwrap();
    assert_eq!(open.query(&left).await.err(), Some(Denial::UploadNotFound.into()));
    assert_eq!(send(&mut uploading, &image[PART..]).await, Err(Denial::UploadMoved.into()));
    assert_eq!(
        open.survey().await,
        Collected { objects: 4, ..NOTHING },
        "and the part that was never counted"
    );

    // A row whose object is gone is damage: told each time, and left as it is.
    fs::remove_file(&known[1]).unwrap();
    for _ in 0..2 {
        assert_eq!(open.survey().await, Collected { objects: 3, missing: 1, ..NOTHING });
        assert_eq!(open.collect().await, OperationState::Failed);
    }
    assert_eq!(open.read(kept).await.err(), Some(Denial::DataDamaged.into()));
    let caller = open.vault.caller(&spiffe("backend")).unwrap();
    let held = open.vault.list_documents(&caller, asker("backend"), "", reference(1)).await.unwrap();
    assert_eq!(held.len(), 1);
}

/// The installation in these files, open without a server.
async fn reopen(backend: &Backend, files: &Path, parts: &Parts) -> Open {
    let (rng, clock) = (Arc::new(SystemRng::new()), Arc::new(Clock::default()));
    let kms = LocalKms::open(&files.join("root.json"), &files.join("unseal.key")).unwrap();
    let store = backend.store(files).await;
    let vault = Vault::open(store, Arc::new(kms), Arc::clone(&clock), rng, None).await.unwrap();
    let vault = vault.with_settings(settings()).with_documents(Some(Documents::new(parts.clone(), 64)));
    Open { vault: Arc::new(vault), clock }
}

on_both!(a_death_in_an_upload_or_a_deletion_leaves_nothing_after_one_collection);
async fn a_death_in_an_upload_or_a_deletion_leaves_nothing_after_one_collection(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("vault");
    initialised_on(&backend, &files).await;
    let place = Place::directory(&files.join("documents"));
    nothing_is_left_of_deaths(&backend, &files, &place).await;
}

on_both!(
    /// The same where the parts lie in a bucket, which lives on: of every S3 server that is tested against.
    a_death_over_a_bucket_leaves_nothing_after_one_collection
);
async fn a_death_over_a_bucket_leaves_nothing_after_one_collection(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    for place in buckets(dir.path()).await {
        let (files, backend) = (dir.path().join(place.name).join("vault"), backend.fresh().await);
        fs::create_dir_all(files.parent().unwrap()).unwrap();
        initialised_on(&backend, &files).await;
        place.configure(&files);
        nothing_is_left_of_deaths(&backend, &files, &place).await;
        assert!(!files.join("documents/1").exists(), "nothing lies in the directory");
    }
}

/// Kills the server again and again while one document is uploaded and another deleted, collects once, and looks.
async fn nothing_is_left_of_deaths(backend: &Backend, files: &Path, place: &Place) {
    let mut choices = Choices::from_seed(std::process::id().into());
    let mut server = Server::start(files);
    let deaths = rounds(4, 25);
    prepare(&server, files, deaths).await;
    let mut stored = Vec::new();
    for round in 1..=deaths {
        stored.push(die(server, files, place, round, &mut choices).await);
        server = Server::start(files);
    }
    server.kill();
    let open = reopen(backend, files, &place.parts).await;
    open.clock.advance(DAY + 1_000_000);
    let found = open.survey().await;
    println!("{}: {found:?}", place.name);
    assert!(found.expired > 0 && found.orphans > 0 && found.missing == 0, "deaths left something: {found:?}");
    // Somebody is logged, so that time is believed; then one collection.
    assert_eq!(open.collect().await, OperationState::Done);
    open.vault.work().await.unwrap();
    let after = open.survey().await;
    assert_eq!(after, Collected { objects: after.objects, ..NOTHING });
    let parts = backend.sql(files, "UPDATE document_parts SET platform_id = platform_id").await;
    let lie = u64::try_from(place.names().await.len()).unwrap();
    assert_eq!((parts, lie), (after.objects, parts), "every object has its row, and every row its object");
    assert_eq!(backend.sql(files, "UPDATE uploads SET platform_id = platform_id").await, 0);
    open.vault.close().await;
    drop(open);
    // What was acknowledged is so; what was not is whole, or gone as a whole.
    let server = Server::start(files);
    let mut payments = DocumentServiceClient::new(server.channel(files, "payments").await);
    for Stored { kept, document, deleted, content } in stored {
        for (id, bytes, may_be_gone) in [(kept, &content, false), (document, &content, true)] {
            match payments.download_document(ask(&id, pb::DocumentSide::Front)).await {
                Ok(stream) => {
                    assert!(!(may_be_gone && deleted), "a deletion that was acknowledged is done");
                    assert!(all_of(stream.into_inner()).await == *bytes);
                }
                Err(status) => {
                    assert_eq!(reason(&status), "DOCUMENT_NOT_FOUND");
                    assert!(may_be_gone, "an upload that was acknowledged is there");
                }
            }
        }
    }
    server.kill();
}

/// What clients were told before a death.
struct Stored {
    /// A document that nobody deletes.
    kept: String,
    /// One that was being deleted, and whether its deletion was acknowledged.
    document: String,
    deleted: bool,
    /// Of either.
    content: Vec<u8>,
}

/// Two documents are whole, and one of them is deleted while the server dies; another is on its way.
async fn die(server: Server, files: &Path, place: &Place, round: u32, choices: &mut Choices) -> Stored {
    let channel = server.channel(files, "backend").await;
    let mut client = DocumentServiceClient::new(channel.clone());
    let small = content(u64::from(round), 2 * PART);
    let mut whole = async |person: u32| {
        let whole = messages(&request_id(), start(person, pb::DocumentSide::Front, &small), &small, 500_000);
        let sent = client.upload_document(tokio_stream::iter(whole)).await;
        sent.unwrap().into_inner().document_id
    };
    let (document, kept) = (whole(round).await, whole(round + KEPT).await);
    let delete = pb::DeleteDocumentRequest {
        request_id: request_id(),
        document_id: document.clone(),
        ..Default::default()
    };
    let image = content(1, 4 * PART + 99);
    let begun = start(round + BEGUN, pb::DocumentSide::Front, &image);
    let pieces = messages(&request_id(), begun, &image, 100_000);
    let (sender, receiver) = tokio::sync::mpsc::channel(1);
    let mut other = DocumentServiceClient::new(channel);
    let upload = tokio::spawn(async move {
        let stream = tokio_stream::wrappers::ReceiverStream::new(receiver);
        other.upload_document(stream).await.map(drop)
    });
    let before = place.names().await;
    // All but the last piece: it does not end.
    let feed = tokio::spawn(async move {
        for piece in pieces.into_iter().rev().skip(1).rev() {
            if sender.send(piece).await.is_err() {
                return;
            }
        }
        sender.closed().await;
    });
    // An object is there a moment before its row.
    let parts = 1 + usize::try_from(choices.below(3)).unwrap();
    while place.names().await.iter().filter(|name| !before.contains(name)).count() < parts {
        assert!(!upload.is_finished(), "the upload is on its way");
    }
    let deletion = tokio::spawn(async move { client.delete_document(delete).await.map(drop) });
    for _ in 0..choices.below(100) {
        tokio::task::yield_now().await;
    }
    server.kill();
    assert!(upload.await.unwrap().is_err());
    feed.await.unwrap();
    let deleted = deletion.await.unwrap().is_ok();
    Stored { kept, document, deleted, content: small }
}

async fn all_of(mut stream: tonic::Streaming<pb::DownloadDocumentResponse>) -> Vec<u8> {
    let mut bytes = Vec::new();
    while let Some(message) = stream.message().await.unwrap() {
        bytes.extend(message.data);
    }
    bytes
}

/// The policy with images, and people for so many rounds.
async fn prepare(server: &Server, files: &Path, rounds: u32) {
    use pb::{policy_service_client::PolicyServiceClient, vault_service_client::VaultServiceClient};
    let mut admin = PolicyServiceClient::new(server.channel(files, "admin").await);
    let request = pb::ApplyPolicyRequest { request_id: request_id(), text: policy(), validate_only: false };
    admin.apply_policy(request).await.unwrap();
    let mut backend = VaultServiceClient::new(server.channel(files, "backend").await);
    for number in [0, BEGUN, KEPT].into_iter().flat_map(|first| first + 1..=first + rounds) {
        let mut request = tokenize_request(number);
        request.consents = vec![consent()];
        backend.tokenize(request).await.unwrap();
    }
}
