//! An S3 server in this process, over the wire, and a double of the service that gives keys to it.

use std::path::Path;

use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
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

pub const ACCESS_KEY: &str = "vault";
pub const SECRET_KEY: &str = "synthetic-secret";
/// What the double of STS gives a key for.
pub const TOKEN: &str = "synthetic.web.identity";

/// Serves buckets, which are directories below this one, and makes one. Answers the endpoint.
pub async fn serve(dir: &Path, bucket: &str) -> String {
    install_provider();
    std::fs::create_dir_all(dir.join(bucket)).unwrap();
    let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(dir).unwrap());
    service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
    let service = service.build();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let service = service.clone();
            tokio::spawn(async move {
                let _ended =
                    Builder::new(TokioExecutor::new()).serve_connection(TokioIo::new(stream), service).await;
            });
        }
    });
    format!("http://{address}")
}

/// A bucket of that server, with a key that stays.
pub fn bucket(endpoint: &str, secret: &str) -> Bucket {
    let (id, secret) = (ACCESS_KEY.to_owned(), Zeroizing::new(secret.to_owned()));
    Bucket {
        endpoint: endpoint.to_owned(),
        region: "kz-1".into(),
        bucket: "documents".into(),
        credentials: Credentials::Key { id, secret },
        authority: None,
    }
}

/// Gives the server's key for [`TOKEN`] and the role `sandyq`, as STS does. It is no STS: it knows this one call.
pub async fn serve_sts() -> String {
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
                    "<AccessKeyId>{ACCESS_KEY}</AccessKeyId><SecretAccessKey>{SECRET_KEY}</SecretAccessKey>\
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
