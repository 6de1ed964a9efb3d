//! S3 servers, over the wire, and a double of the service that gives keys to them.

use std::{
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
};
use object_store::{
    ObjectStore,
    aws::{AmazonS3, AmazonS3Builder},
    signer::Signer as _,
};
use s3s::{auth::SimpleAuth, service::S3ServiceBuilder};
use sandyq::{
    blobs::s3::{Bucket, Credentials},
    grpc::tls::install_provider,
};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};
use zeroize::Zeroizing;

use super::random::rounds;

/// The region of every server here.
pub const REGION: &str = "kz-1";
/// What the double of STS gives a key for.
pub const TOKEN: &str = "synthetic.web.identity";

/// A server, and who we are to it.
#[derive(Debug, Clone)]
pub struct Server {
    pub name: &'static str,
    pub endpoint: String,
    pub key: String,
    pub secret: String,
}

/// Every server that S3 is tested against: one in this process, and in a full run Garage.
pub async fn servers(dir: &Path) -> Vec<Server> {
    let mut all = vec![Server::in_process(&dir.join("s3s-fs")).await];
    if rounds(0, 1) == 1 {
        all.push(Server::garage());
    }
    all
}

impl Server {
    /// Serves buckets, which are directories below this one.
    pub async fn in_process(dir: &Path) -> Self {
        install_provider();
        let (key, secret) = ("vault", "synthetic-secret");
        std::fs::create_dir_all(dir).unwrap();
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(dir).unwrap());
        service.set_auth(SimpleAuth::from_single(key, secret));
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let service = service.clone();
                tokio::spawn(async move {
                    let _ended = Builder::new(TokioExecutor::new())
                        .serve_connection(TokioIo::new(stream), service)
                        .await;
                });
            }
        });
        let endpoint = format!("http://{address}");
        Self { name: "s3s-fs", endpoint, key: key.into(), secret: secret.into() }
    }

    /// The Garage server that `scripts/garage` started.
    pub fn garage() -> Self {
        install_provider();
        let file = Path::new(env!("CARGO_MANIFEST_DIR")).join("target/garage.server");
        let text = std::fs::read_to_string(&file).expect(
            "no Garage server, and a full run tests against one: run `scripts/garage start` first, or the tests through \
             `scripts/test --full`",
        );
        let lines: Vec<_> = text.lines().map(str::to_owned).collect();
        let [endpoint, key, secret] = lines.try_into().expect("an address, a key's id, and its secret");
        Self { name: "garage", endpoint, key, secret }
    }

    /// A bucket of this server, by a name that may not be there.
    pub fn bucket(&self, name: &str) -> Bucket {
        let (id, secret) = (self.key.clone(), Zeroizing::new(self.secret.clone()));
        Bucket {
            endpoint: self.endpoint.clone(),
            region: REGION.into(),
            bucket: name.to_owned(),
            credentials: Credentials::Key { id, secret },
            authority: None,
        }
    }

    /// A table of the configuration that names a bucket, with a key that stays; writes the key's secret beside it.
    pub fn table(&self, table: &str, bucket: &str, files: &Path) -> String {
        let Self { endpoint, key, secret, .. } = self;
        write_secret(&files.join("s3.key"), secret);
        format!(
            "[{table}.s3]\nendpoint = \"{endpoint}\"\nregion = \"{REGION}\"\nbucket = \"{bucket}\"\n\
             access_key = \"{key}\"\nsecret_key_file = \"s3.key\"\n"
        )
    }

    /// Makes an empty bucket that nobody else has, and answers its name.
    pub async fn new_bucket(&self) -> String {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::SeqCst));
        let store = self.client(&name);
        let url = store.signed_url("PUT".parse().unwrap(), &"".into(), Duration::from_mins(1)).await.unwrap();
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let answer = client.put(url).send().await.unwrap();
        assert!(answer.status().is_success(), "{}: {}", self.name, answer.text().await.unwrap());
        name
    }

    /// The bucket as its owner has it, behind the vault.
    pub fn owner(&self, bucket: &str) -> Arc<dyn ObjectStore> {
        Arc::new(self.client(bucket))
    }

    fn client(&self, bucket: &str) -> AmazonS3 {
        let builder = AmazonS3Builder::new()
            .with_endpoint(&self.endpoint)
            .with_allow_http(true)
            .with_region(REGION)
            .with_bucket_name(bucket)
            .with_access_key_id(&self.key)
            .with_secret_access_key(&self.secret);
        builder.build().unwrap()
    }
}

/// Writes a file that others may not read.
pub fn write_secret(path: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::write(path, text).unwrap();
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600)).unwrap();
}

/// Gives a server's key for [`TOKEN`] and the role `sandyq`, as STS does. It is no STS: it knows this one call.
pub async fn serve_sts(server: &Server) -> String {
    let (key, secret) = (server.key.clone(), server.secret.clone());
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let Ok(byte) = stream.read_u8().await else { break };
                head.push(byte);
            }
            let head = String::from_utf8_lossy(&head);
            let words = ["POST ", "Action=AssumeRoleWithWebIdentity", "RoleArn=sandyq", TOKEN];
            let (status, body) = if words.iter().all(|word| head.contains(word)) {
                let credentials = format!(
                    "<AccessKeyId>{key}</AccessKeyId><SecretAccessKey>{secret}</SecretAccessKey>\
                     <SessionToken>session</SessionToken><Expiration>2999-01-01T00:00:00Z</Expiration>"
                );
                let result = format!("<Credentials>{credentials}</Credentials>");
                let result =
                    format!("<AssumeRoleWithWebIdentityResult>{result}</AssumeRoleWithWebIdentityResult>");
                (
                    "200 OK",
                    format!(
                        "<AssumeRoleWithWebIdentityResponse>{result}</AssumeRoleWithWebIdentityResponse>"
                    ),
                )
            } else {
                ("403 Forbidden", "<ErrorResponse/>".to_owned())
            };
            let answer = format!(
                "HTTP/1.1 {status}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
                body.len()
            );
            let _gone = stream.write_all(answer.as_bytes()).await;
        }
    });
    format!("http://{address}")
}
