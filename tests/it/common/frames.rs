//! HTTP/2 by hand, over mutual TLS: for clients that send what no library would.

use std::{net::SocketAddr, path::Path, sync::Arc};

use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};
use tokio_rustls::{TlsConnector, client::TlsStream};

const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
pub const DATA: u8 = 0;
pub const HEADERS: u8 = 1;
pub const RST_STREAM: u8 = 3;
pub const SETTINGS: u8 = 4;
pub const PING: u8 = 6;
pub const GOAWAY: u8 = 7;
pub const CONTINUATION: u8 = 9;
pub const END_STREAM: u8 = 1;
pub const END_HEADERS: u8 = 4;
pub const ENHANCE_YOUR_CALM: u32 = 0xb;

/// A frame as it came.
#[derive(Debug)]
pub struct Frame {
    pub kind: u8,
    pub payload: Vec<u8>,
}

/// A connection after its handshake.
pub struct Raw(TlsStream<TcpStream>);

/// A TLS connection with a caller's certificate, over which nothing was sent yet.
pub async fn connect(address: SocketAddr, files: &Path, caller: &str) -> Raw {
    let read = |name: String| std::fs::read(files.join(name)).unwrap();
    let certificates = |pem: &[u8]| {
        CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<CertificateDer<'static>>, _>>().unwrap()
    };
    let mut roots = rustls::RootCertStore::empty();
    for root in certificates(&read("server-authority.pem".into())) {
        roots.add(root).unwrap();
    }
    let chain = certificates(&read(format!("{caller}.pem")));
    let key = PrivateKeyDer::from_pem_slice(&read(format!("{caller}.key"))).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(provider);
    let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
    let mut config = config.with_client_auth_cert(chain, key).unwrap();
    config.alpn_protocols = vec![b"h2".to_vec()];
    let stream = TcpStream::connect(address).await.unwrap();
    let name = ServerName::try_from("localhost").unwrap();
    Raw(TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap())
}

/// A frame's bytes.
pub fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

/// A header block (RFC 7541) that begins a call of the contract: literals without Huffman's code.
pub fn call_headers(path: &str) -> Vec<u8> {
    // :method POST, :scheme https, then :path and :authority by their indexes in the static table.
    let mut block = vec![0x83, 0x87];
    for (index, value) in [(4, path), (1, "localhost")] {
        block.extend([index, u8::try_from(value.len()).unwrap()]);
        block.extend(value.as_bytes());
    }
    literal(&mut block, "content-type", "application/grpc");
    literal(&mut block, "te", "trailers");
    block
}

/// A header that is in no table; short.
pub fn literal(block: &mut Vec<u8>, name: &str, value: &str) {
    block.push(0);
    for text in [name, value] {
        block.push(u8::try_from(text.len()).unwrap());
        block.extend(text.as_bytes());
    }
}

impl Raw {
    /// The certificate that the server showed, DER.
    pub fn shown(&self) -> &[u8] {
        self.0.get_ref().1.peer_certificates().unwrap().first().unwrap()
    }

    /// The connection, for a library that speaks over it.
    pub fn into_stream(self) -> TlsStream<TcpStream> {
        self.0
    }

    pub async fn send(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.0.write_all(bytes).await?;
        self.0.flush().await
    }

    /// The preface, settings of no matter, and these frames, in one write.
    pub async fn begin(&mut self, frames: &[u8]) -> std::io::Result<()> {
        self.send(&[PREFACE, &frame(SETTINGS, 0, 0, &[]), frames].concat()).await
    }

    /// The next frame; none where the connection has ended.
    pub async fn next(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        self.0.read_exact(&mut head).await.ok()?;
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; usize::try_from(length).unwrap()];
        self.0.read_exact(&mut payload).await.ok()?;
        Some(Frame { kind: head[3], payload })
    }

    /// Reads on until the server says goodbye; its code, or none where it ended without a word.
    pub async fn goodbye(&mut self) -> Option<u32> {
        loop {
            let frame = self.next().await?;
            if frame.kind == GOAWAY {
                return Some(u32::from_be_bytes(frame.payload[4..8].try_into().unwrap()));
            }
        }
    }
}
