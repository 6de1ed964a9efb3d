//! Places where parts of documents lie, each real: a directory, and a bucket of every S3 server that is tested against. What
//! their owner does behind the vault is the same in each.

use std::{path::Path, sync::Arc, time::Duration};

use object_store::{ObjectStore, ObjectStoreExt as _, local::LocalFileSystem};
use sandyq::blobs::parts::Parts;
use tokio_stream::StreamExt as _;

use super::{backend::here, s3};

const LIMIT: Duration = Duration::from_secs(20);

/// A place of parts.
pub struct Place {
    pub name: &'static str,
    /// As the vault has it.
    pub parts: Parts,
    /// As its owner has it.
    owner: Arc<dyn ObjectStore>,
    /// Where it is a bucket: whose, and its name.
    bucket: Option<(s3::Server, String)>,
}

/// One of each kind, empty.
pub async fn everywhere(dir: &Path) -> Vec<Place> {
    let mut all = vec![Place::directory(&dir.join("documents"))];
    all.extend(buckets(dir).await);
    all
}

/// Those that are buckets.
pub async fn buckets(dir: &Path) -> Vec<Place> {
    let mut all = Vec::new();
    for server in s3::servers(dir).await {
        all.push(Place::bucket(&server).await);
    }
    all
}

impl Place {
    pub fn directory(dir: &Path) -> Self {
        let parts = Parts::create(dir, LIMIT).unwrap();
        let owner = Arc::new(LocalFileSystem::new_with_prefix(dir).unwrap());
        Self { name: "directory", parts, owner, bucket: None }
    }

    pub async fn bucket(server: &s3::Server) -> Self {
        let bucket = server.new_bucket().await;
        let parts = Parts::bucket(&server.bucket(&bucket), &here(), LIMIT).await.unwrap();
        let owner = server.owner(&bucket);
        Self { name: server.name, parts, owner, bucket: Some((server.clone(), bucket)) }
    }

    /// Names this place in the configuration of an installation, which keeps documents in a directory of its own.
    pub fn configure(&self, files: &Path) {
        let Some((server, bucket)) = &self.bucket else { return };
        let path = files.join("sandyq.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let directory = "[documents]\ndirectory = \"documents\"\n";
        assert!(text.contains(directory), "{text}");
        let table = server.table("documents", bucket, files);
        std::fs::write(&path, text.replace(directory, &table)).unwrap();
    }

    /// Names of the objects of the first platform, in order.
    pub async fn names(&self) -> Vec<String> {
        let listed = self.owner.list(Some(&"1".into())).map(|object| object.unwrap().location.to_string());
        let mut names: Vec<_> = listed.collect().await;
        names.sort();
        names
    }

    pub async fn read(&self, name: &str) -> Vec<u8> {
        self.owner.get(&name.into()).await.unwrap().bytes().await.unwrap().into()
    }

    pub async fn write(&self, name: &str, bytes: Vec<u8>) {
        self.owner.put(&name.into(), bytes.into()).await.unwrap();
    }

    pub async fn remove(&self, name: &str) {
        self.owner.delete(&name.into()).await.unwrap();
    }
}
