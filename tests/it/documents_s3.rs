//! Documents in a bucket, over the wire, at every S3 server that is tested against.

use std::{sync::Arc, time::Duration};

use object_store::{ObjectStore as _, ObjectStoreExt as _};
use sandyq::{
    blobs::{parts::Parts, s3::Bucket},
    domain::{document::Side, operation::OperationState, territory::Territory},
    policy::decide::Denial,
    residency::{Residency, SystemNames, sites::Sites},
    vault::documents::{Collected, StoredSide},
};

use crate::common::{
    backend::{Backend, here},
    documents::{PART, content},
    places::{Place, buckets},
    s3::servers,
    uploads::{Open, send},
};

const LIMIT: Duration = Duration::from_secs(10);

#[tokio::test(flavor = "multi_thread")]
async fn documents_live_in_a_bucket_and_go_from_it() {
    let dir = tempfile::tempdir().unwrap();
    for place in buckets(dir.path()).await {
        let vault = tempfile::tempdir().unwrap();
        let open = Open::over(&Backend::Sqlite, vault.path(), 2, place.parts.clone()).await;
        let image = content(1, 3 * PART + 17);
        // Broken off, carried on, read back.
        let sent = open.upload(1, Side::Front, &image);
        let mut first = open.begin(&sent, 0).await.unwrap();
        send(&mut first, &image[..2 * PART + 9]).await.unwrap();
        let offset = open.query(&sent).await.unwrap().0;
        let mut second = open.begin(&sent, offset).await.unwrap();
        send(&mut second, &image[2 * PART..]).await.unwrap();
        let front = second.finish().await.unwrap();
        let back = open.put(1, Side::Back, &content(2, 100)).await.unwrap();
        assert!(open.read(front).await.unwrap() == image);
        let held = place.names().await;
        assert_eq!(held.len(), 5, "{}", place.name);
        // The bucket's owner takes an object away.
        let kept = place.read(&held[0]).await;
        place.remove(&held[0]).await;
        let survey = open.survey().await;
        assert_eq!(survey, Collected { objects: 4, missing: 1, ..Collected::default() }, "{}", place.name);
        place.write(&held[0], kept).await;
        // What a death left is collected, and an erased subject's parts go in the sweep.
        let (book, _) = held[0].rsplit_once('/').unwrap();
        place.write(&format!("{book}/{}", "0".repeat(32)), b"left by a death".to_vec()).await;
        assert_eq!(open.collect().await, OperationState::Done);
        assert_eq!(place.names().await, held, "{}", place.name);
        open.erase(1).await;
        for side in [front, back] {
            assert_eq!(open.read(side).await.err(), Some(Denial::SubjectErased.into()));
        }
        open.clock.advance(4 * 60 * 60 * 1_000_000 + 1_000_000);
        assert_eq!(open.vault.work().await.unwrap().done, 1);
        assert!(place.names().await.is_empty(), "{}: gone from the bucket after the sweep", place.name);
    }
}

/// Stores a side, and answers it with its objects in the order of their parts, which have different sizes or bytes.
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

#[tokio::test(flavor = "multi_thread")]
async fn what_the_owner_of_a_bucket_does_is_found_before_a_wrong_byte_leaves() {
    let dir = tempfile::tempdir().unwrap();
    for place in buckets(dir.path()).await {
        let vault = tempfile::tempdir().unwrap();
        let open = Open::over(&Backend::Sqlite, vault.path(), 2, place.parts.clone()).await;
        let image = content(1, PART + 99);
        let (victim, own) = stored(&open, &place, 1, Side::Front, &image).await;
        let (_, other_side) = stored(&open, &place, 1, Side::Back, &content(2, PART + 99)).await;
        let (_, other_subject) = stored(&open, &place, 2, Side::Front, &content(3, PART + 99)).await;
        assert_eq!([own.len(), other_side.len(), other_subject.len()], [2; 3], "{}", place.name);
        for (at, name) in own.iter().enumerate() {
            let kept = place.read(name).await;
            let (mut flipped, mut longer) = (kept.clone(), kept.clone());
            flipped[kept.len() / 2] ^= 1;
            longer.push(0);
            let cut = kept[..kept.len() - 1].to_vec();
            for (what, bytes) in [
                ("flipped", Some(flipped)),
                ("cut", Some(cut)),
                ("longer", Some(longer)),
                ("empty", Some(Vec::new())),
                ("gone", None),
                ("another part", Some(place.read(&own[1 - at]).await)),
                ("the other side's", Some(place.read(&other_side[at]).await)),
                ("another subject's", Some(place.read(&other_subject[at]).await)),
            ] {
                match bytes {
                    Some(bytes) => place.write(name, bytes).await,
                    None => place.remove(name).await,
                }
                let read = open.read(victim).await;
                assert_eq!(read.err(), Some(Denial::DataDamaged.into()), "{}: {what}", place.name);
            }
            place.write(name, kept).await;
            assert!(open.read(victim).await.unwrap() == image, "{}: put back", place.name);
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_ours_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    for server in servers(dir.path()).await {
        let open = async |bucket: Bucket| Parts::bucket(&bucket, &here(), LIMIT).await.map(drop);
        let name = server.new_bucket().await;
        let owner = server.owner(&name);
        let stranger =
            crate::common::s3::Server { secret: "another-secret-of-somebody".into(), ..server.clone() };
        assert!(open(stranger.bucket(&name)).await.is_err(), "wrong credentials");
        assert!(open(server.bucket("nothing")).await.is_err(), "no such bucket");
        owner.put(&"somebody-elses".into(), b"data".to_vec().into()).await.unwrap();
        let told = open(server.bucket(&name)).await.unwrap_err().to_string();
        assert!(told.contains("is not a document store"), "{told}");
        owner.delete(&"somebody-elses".into()).await.unwrap();
        open(server.bucket(&name)).await.unwrap();
        // Marked, it is opened again, whatever lies in it by then.
        owner.put(&"more".into(), b"data".to_vec().into()).await.unwrap();
        open(server.bucket(&name)).await.unwrap();
        // Where somebody answers who has no certificate of the named authority, nothing is sent.
        let tls = Bucket { endpoint: server.endpoint.replace("http://", "https://"), ..server.bucket(&name) };
        assert!(open(tls).await.is_err());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_outside_the_declared_sites_is_not_spoken_to() {
    let dir = tempfile::tempdir().unwrap();
    for server in servers(dir.path()).await {
        let name = server.new_bucket().await;
        let nowhere = Sites::new("KZ".parse().unwrap(), Vec::new(), Vec::new(), 45).unwrap();
        let nowhere: Arc<dyn Territory> =
            Arc::new(Residency::new(nowhere, Arc::default(), Arc::new(SystemNames)));
        for endpoint in [server.endpoint.clone(), server.endpoint.replace("127.0.0.1", "localhost")] {
            let bucket = Bucket { endpoint: endpoint.clone(), ..server.bucket(&name) };
            let opened = Parts::bucket(&bucket, &nowhere, LIMIT).await;
            let Err(error) = opened else { panic!("{endpoint} was let in") };
            assert!(format!("{error:?}").contains("Refused"), "{error:?}");
        }
        let listed = server.owner(&name).list_with_delimiter(None).await.unwrap();
        assert!(listed.objects.is_empty() && listed.common_prefixes.is_empty(), "nothing was written");
    }
}
