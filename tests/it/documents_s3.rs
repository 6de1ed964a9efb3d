//! Documents in a bucket, over the wire to an S3 server in this process.

use std::{path::Path, sync::Arc, time::Duration};

use sandyq::{
    blobs::{parts::Parts, s3::Bucket},
    domain::{document::Side, operation::OperationState, territory::Territory},
    policy::decide::Denial,
    residency::{Residency, SystemNames, sites::Sites},
    vault::documents::Collected,
};

use crate::common::{
    backend::{Backend, here},
    documents::{PART, content},
    s3::{self, bucket},
    uploads::{Open, send},
};

const BUCKET: &str = "documents";

const LIMIT: Duration = Duration::from_secs(10);

async fn serve(dir: &Path) -> String {
    s3::serve(dir, BUCKET).await
}

/// Files of the bucket that hold parts.
fn files(dir: &Path) -> Vec<std::path::PathBuf> {
    let (mut found, mut dirs) = (Vec::new(), vec![dir.join(BUCKET).join("1")]);
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(dir).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() { dirs.push(path) } else { found.push(path) }
        }
    }
    found
}

#[tokio::test(flavor = "multi_thread")]
async fn documents_live_in_a_bucket_and_go_from_it() {
    let dir = tempfile::tempdir().unwrap();
    let place = dir.path().join("s3");
    let endpoint = serve(&place).await;
    let parts = Parts::bucket(&bucket(&endpoint, "synthetic-secret"), &here(), LIMIT).await.unwrap();
    let open = Open::over(&Backend::Sqlite, dir.path(), 2, parts).await;
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
    assert_eq!(files(&place).len(), 5);
    // The bucket's owner changes an object, and takes one away.
    let victim =
        files(&place).into_iter().find(|file| std::fs::metadata(file).unwrap().len() < 1_000).unwrap();
    let kept = std::fs::read(&victim).unwrap();
    let mut flipped = kept.clone();
    flipped[60] ^= 1;
    let damaged = async |what: &str| {
        let read = [open.read(front).await.err(), open.read(back).await.err()];
        assert!(read.contains(&Some(Denial::DataDamaged.into())), "{what}: {read:?}");
    };
    std::fs::write(&victim, flipped).unwrap();
    damaged("flipped").await;
    std::fs::remove_file(&victim).unwrap();
    damaged("gone").await;
    assert_eq!(open.survey().await, Collected { objects: 4, missing: 1, ..Collected::default() });
    std::fs::write(&victim, kept).unwrap();
    // What a death left is collected, and an erased subject's parts go in the sweep.
    std::fs::write(victim.with_file_name("0".repeat(32)), b"left by a death").unwrap();
    assert_eq!(open.collect().await, OperationState::Done);
    assert_eq!(files(&place).len(), 5);
    open.erase(1).await;
    for side in [front, back] {
        assert_eq!(open.read(side).await.err(), Some(Denial::SubjectErased.into()));
    }
    open.clock.advance(4 * 60 * 60 * 1_000_000 + 1_000_000);
    assert_eq!(open.vault.work().await.unwrap().done, 1);
    assert!(files(&place).is_empty(), "gone from the bucket after the sweep");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_that_is_not_ours_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = serve(dir.path()).await;
    let open = async |bucket: Bucket| Parts::bucket(&bucket, &here(), LIMIT).await.map(drop);
    assert!(open(bucket(&endpoint, "another-secret")).await.is_err(), "wrong credentials");
    let unknown = Bucket { bucket: "nothing".into(), ..bucket(&endpoint, "synthetic-secret") };
    assert!(open(unknown).await.is_err(), "no such bucket");
    std::fs::write(dir.path().join(BUCKET).join("somebody-elses"), b"data").unwrap();
    let told = open(bucket(&endpoint, "synthetic-secret")).await.unwrap_err().to_string();
    assert!(told.contains("is not a document store"), "{told}");
    std::fs::remove_file(dir.path().join(BUCKET).join("somebody-elses")).unwrap();
    open(bucket(&endpoint, "synthetic-secret")).await.unwrap();
    // Marked, it is opened again, whatever lies in it by then.
    std::fs::write(dir.path().join(BUCKET).join("more"), b"data").unwrap();
    open(bucket(&endpoint, "synthetic-secret")).await.unwrap();
    // Where somebody answers who has no certificate of the named authority, nothing is sent.
    let tls = endpoint.replace("http://", "https://");
    assert!(open(bucket(&tls, "synthetic-secret")).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_outside_the_declared_sites_is_not_spoken_to() {
    let dir = tempfile::tempdir().unwrap();
    let endpoint = serve(dir.path()).await;
    let nowhere = Sites::new("KZ".parse().unwrap(), Vec::new(), Vec::new(), 45).unwrap();
    let nowhere: Arc<dyn Territory> =
        Arc::new(Residency::new(nowhere, Arc::default(), Arc::new(SystemNames)));
    for endpoint in [endpoint.clone(), endpoint.replace("127.0.0.1", "localhost")] {
        let opened = Parts::bucket(&bucket(&endpoint, "synthetic-secret"), &nowhere, LIMIT).await;
        let Err(error) = opened else { panic!("{endpoint} was let in") };
        assert!(format!("{error:?}").contains("Refused"), "{error:?}");
    }
    assert_eq!(std::fs::read_dir(dir.path().join(BUCKET)).unwrap().count(), 0, "nothing was written");
}
