//! HTTP/1.1 over TLS by hand, for what answers in the place of a service.

use std::sync::Arc;

use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};
use sandyq::{cli::pki::Authority, grpc::tls::install_provider};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio_rustls::TlsAcceptor;

/// A server's side of TLS, and the roots of its certificate, PEM.
pub fn acceptor(name: &str) -> (TlsAcceptor, String) {
    install_provider();
    let authority = Authority::new(name).unwrap();
    let issued = authority.server().unwrap();
    let chain = vec![CertificateDer::from_pem_slice(issued.certificate.as_bytes()).unwrap()];
    let key = PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap();
    let config = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key).unwrap();
    (TlsAcceptor::from(Arc::new(config)), authority.pem().to_owned())
}

/// A request with its body.
pub struct Request {
    head: String,
    pub body: Vec<u8>,
}

impl Request {
    /// Reads one; none where the client went away.
    pub async fn read(stream: &mut (impl AsyncRead + Unpin)) -> Option<Self> {
        let (mut bytes, mut chunk) = (Vec::new(), [0; 4096]);
        loop {
            let read = stream.read(&mut chunk).await.ok().filter(|read| *read > 0)?;
            bytes.extend_from_slice(&chunk[..read]);
            let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") else { continue };
            let head = String::from_utf8(bytes[..end].to_vec()).unwrap();
            let mut request = Self { head, body: Vec::new() };
            let length = request.header("content-length").map_or(0, |length| length.parse().unwrap());
            if bytes.len() >= end + 4 + length {
                request.body = bytes.split_off(end + 4);
                return Some(request);
            }
        }
    }

    pub fn header(&self, name: &str) -> Option<String> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(key, _)| key.eq_ignore_ascii_case(name)).map(|(_, value)| value.to_owned())
    }

    /// Method and path.
    pub fn line(&self) -> (String, String) {
        let mut first = self.head.lines().next().unwrap().split(' ').map(str::to_owned);
        (first.next().unwrap(), first.next().unwrap())
    }
}

/// Answers, with headers of the test's own, and closes the connection. The client may have gone meanwhile.
pub async fn answer(mut stream: impl AsyncWrite + Unpin, status: &str, headers: &str, body: &[u8]) {
    let length = body.len();
    let head = format!("HTTP/1.1 {status}\r\n{headers}content-length: {length}\r\nconnection: close\r\n\r\n");
    let _sent = stream.write_all(&[head.as_bytes(), body].concat()).await;
    let _closed = stream.shutdown().await;
}
