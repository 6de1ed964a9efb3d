//! Buckets, of documents and of a mirror, by the address that is really reached: at the start and at each new connection.

use std::{net::TcpListener, sync::Arc, time::Duration};

use sandyq::{
    blobs::{
        BlobError,
        mirror::Mirror,
        parts::{PartName, Parts},
        s3::{Bucket, Credentials},
    },
    crypto::random::SystemRng,
    domain::{
        ids::{ObjectId, PlatformId, UploadId},
        territory::Territory,
    },
    net::causes,
    residency::{Names, SystemNames},
};
use tokio_stream::StreamExt as _;

use super::net::{Forwarder, Turning, with_frankfurt};
use crate::common::s3::{Server, servers};

const LIMIT: Duration = Duration::from_secs(10);
/// What the service is called by here.
const NAME: &str = "s3.example.kz";

/// A bucket that the vault has opened.
enum Opened {
    Documents(Parts),
    Mirror(Mirror),
}

impl Opened {
    async fn documents(bucket: &Bucket, territory: &Arc<dyn Territory>) -> Result<Self, BlobError> {
        Parts::bucket(bucket, territory, LIMIT).await.map(Self::Documents)
    }

    async fn mirror(bucket: &Bucket, territory: &Arc<dyn Territory>) -> Result<Self, BlobError> {
        Mirror::bucket(bucket, territory, "sandyq-0".parse().unwrap(), LIMIT).await.map(Self::Mirror)
    }

    /// By what it is used for.
    async fn by_use(
        used_for: &str,
        bucket: &Bucket,
        territory: &Arc<dyn Territory>,
    ) -> Result<Self, BlobError> {
        match used_for {
            "documents" => Self::documents(bucket, territory).await,
            _ => Self::mirror(bucket, territory).await,
        }
    }

    /// Writes something that was not there.
    async fn write(&self) -> Result<(), BlobError> {
        let rng = SystemRng::new();
        match self {
            Self::Documents(parts) => {
                let platform = PlatformId::VAULT;
                let (upload, object) = (UploadId::random(&rng).unwrap(), ObjectId::random(&rng).unwrap());
                parts.put(&PartName { platform, upload, object }, b"sealed".to_vec()).await
            }
            Self::Mirror(mirror) => {
                let platform = "lerna".parse().unwrap();
                mirror.put_segment(&platform, 0, 1, b"entries".to_vec(), &rng).await.map(drop)
            }
        }
    }

    /// Reads.
    async fn read(&self) -> Result<(), BlobError> {
        match self {
            Self::Documents(parts) => parts.shelf(PlatformId::VAULT, 0).await.map(drop),
            Self::Mirror(mirror) => mirror.reader().segments(&"lerna".parse().unwrap()).await.map(drop),
        }
    }
}

/// How many objects lie in a bucket, as its owner has it.
async fn objects(server: &Server, bucket: &str) -> usize {
    server.owner(bucket).list(None).map(Result::unwrap).collect::<Vec<_>>().await.len()
}

/// What is said of a refusal, which tells nothing else.
fn refused<T>(outcome: Result<T, BlobError>) -> String {
    let error = outcome.err().expect("it was let in");
    causes(&error)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bucket_is_judged_by_the_address_that_is_dialled() {
    let dir = tempfile::tempdir().unwrap();
    for server in servers(dir.path()).await {
        for used_for in ["documents", "mirror"] {
            judged_by_address(&server, used_for).await;
        }
    }
}

async fn judged_by_address(server: &Server, used_for: &str) {
    let name = server.new_bucket().await;
    let to = server.endpoint.strip_prefix("http://").unwrap().parse().unwrap();
    let home = Forwarder::start("127.0.0.1", to, None).await;
    // Abroad somebody waits at the same port.
    let abroad = TcpListener::bind(("127.0.0.2", home.port)).unwrap();
    abroad.set_nonblocking(true).unwrap();
    let bucket = Bucket { endpoint: format!("http://{NAME}:{}", home.port), ..server.bucket(&name) };
    let names = Turning::at("127.0.0.2");
    let territory: Arc<dyn Territory> = with_frankfurt(&["127.0.0.2/32"], names.clone());
    let expected = format!(
        "the {used_for} at {NAME} is at 127.0.0.2: it is of site frankfurt in DE, and data stays in KZ"
    );

    // At the start.
    let said = refused(Opened::by_use(used_for, &bucket, &territory).await);
    assert!(said.contains(&expected), "{said}");
    assert_eq!((home.cut(), objects(server, &name).await), (0, 0), "nobody connected, nothing was written");

    // At a new connection, once the name stands for another place.
    names.turn_to("127.0.0.1");
    let open = Opened::by_use(used_for, &bucket, &territory).await.unwrap();
    open.write().await.unwrap();
    names.turn_to("127.0.0.2");
    let (connected, before) = (home.cut(), objects(server, &name).await);
    assert!(connected > 0 && before == 2, "a marker and what was written");
    for said in [refused(open.write().await), refused(open.read().await)] {
        assert!(said.contains(&expected), "{said}");
    }
    assert_eq!((home.cut(), objects(server, &name).await), (connected, before));
    let nobody = abroad.accept().err().map(|error| error.kind());
    assert_eq!(nobody, Some(std::io::ErrorKind::WouldBlock), "nobody came");

    // And back.
    names.turn_to("127.0.0.1");
    open.write().await.unwrap();
    open.read().await.unwrap();
    assert_eq!(objects(server, &name).await, before + 1);
}

/// An address that the configuration names is judged however it is written, also that of the service that gives keys.
#[tokio::test(flavor = "multi_thread")]
async fn an_address_in_any_spelling_is_that_address_to_a_bucket() {
    let dir = tempfile::tempdir().unwrap();
    let server = Server::in_process(&dir.path().join("s3s-fs")).await;
    let name = server.new_bucket().await;
    let to = server.endpoint.strip_prefix("http://").unwrap().parse().unwrap();
    let token_file = dir.path().join("token");
    std::fs::write(&token_file, "synthetic.web.identity").unwrap();
    let system: Arc<dyn Names> = Arc::new(SystemNames);
    for host in ["127.0.0.2", "2130706434", "0x7f.2", "[::ffff:127.0.0.2]"] {
        let abroad = Forwarder::start("127.0.0.2", to, None).await;
        let territory: Arc<dyn Territory> = with_frankfurt(&["127.0.0.2/32"], Arc::clone(&system));
        let address = format!("http://{host}:{}", abroad.port);
        let identity = Credentials::WebIdentity {
            token_file: token_file.clone(),
            role: "sandyq".into(),
            sts_endpoint: address.clone(),
        };
        let by_key = Bucket { endpoint: address.clone(), ..server.bucket(&name) };
        let by_token = Bucket { credentials: identity, ..server.bucket(&name) };
        for bucket in [by_key, by_token] {
            for used_for in ["documents", "mirror"] {
                let said = refused(Opened::by_use(used_for, &bucket, &territory).await);
                assert!(said.contains("127.0.0.2: it is of site frankfurt in DE"), "{host}: {said}");
                assert!(said.contains(&format!("residency: the {used_for} at ")), "{host}: {said}");
            }
        }
        assert_eq!(abroad.cut(), 0, "{host}: nobody connected");
    }
    assert_eq!(objects(&server, &name).await, 0);
}
