//! Mutual TLS: client certificates by trust domain, handshakes off the accept loop, limits on both.

use std::{
    collections::HashMap,
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    task::{self, Poll},
    time::Duration,
};

use arc_swap::ArcSwap;
use rustls::{
    DigitallySignedStruct, DistinguishedName, RootCertStore, ServerConfig, SignatureScheme,
    client::danger::HandshakeSignatureValid,
    server::{
        NoServerSessionStorage, WebPkiClientVerifier,
        danger::{ClientCertVerified, ClientCertVerifier},
    },
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, UnixTime,
    pem::{self, PemObject as _},
};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::{TcpListener, TcpStream},
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::server::Connected;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{
    authn::{Peer, peer_of},
    block_list::BlockList,
};
use crate::domain::time::Timestamp;

/// Connections served at once; further ones wait in the listener's backlog.
const MAX_CONNECTIONS: usize = 4_096;
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
const PAUSE_AFTER_FAILED_ACCEPT: Duration = Duration::from_millis(50);

/// Why TLS cannot be set up.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// Certificates or keys do not parse.
    #[error("{what} does not parse")]
    Pem {
        /// Which.
        what: String,
        /// Why.
        source: pem::Error,
    },
    /// No certificate in a file that should hold some.
    #[error("{0} holds no certificate")]
    Empty(String),
    /// rustls refuses it.
    #[error("{what} is refused")]
    Refused {
        /// Which.
        what: String,
        /// Why.
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// One root for two trust domains: it could speak for both.
    #[error("a root certificate stands for two trust domains, {0} and {1}")]
    SharedRoot(String, String),
    /// Two authorities for one trust domain.
    #[error("trust domain {0} is declared twice")]
    TwoAuthorities(String),
}

/// Makes ring this process's provider of TLS, for clients that ask for the process's own. The start of `main`, and of
/// tests that use such a client.
pub fn install_provider() {
    // An error means that it is installed already.
    let _installed = rustls::crypto::ring::default_provider().install_default();
}

/// The certificate authority of one SPIFFE trust domain.
pub struct ClientAuthority {
    /// The trust domain, such as `lerna.kz`.
    pub trust_domain: String,
    /// Its roots, PEM.
    pub pem: Vec<u8>,
}

/// What handshakes are made with, and what connections are held to.
#[derive(Debug)]
struct Trust {
    config: Arc<ServerConfig>,
    verifier: Arc<TrustDomains>,
    /// Differs from that of every other state of trust of this process.
    generation: u64,
    server_until: Timestamp,
    authority_until: Timestamp,
}

/// The certificates that handshakes are made with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct InUse {
    /// Whether they are those that the files hold now.
    pub(super) newest: bool,
    /// When the first of the server's own ends.
    pub(super) server_until: Timestamp,
    /// When the first root of an authority ends.
    pub(super) authority_until: Timestamp,
}

/// The server's side of TLS, ready to accept. Certificate, key and authorities can be replaced while it serves.
#[derive(Debug, Clone)]
pub struct ServerTls {
    current: Arc<ArcSwap<Trust>>,
    pub(super) blocked: Arc<BlockList>,
    in_use: watch::Sender<InUse>,
}

/// The certificates that a connection showed, and the state of trust that they were last held against.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    chain: Arc<[CertificateDer<'static>]>,
    held_against: Arc<AtomicU64>,
}

/// Builds the server's TLS: TLS 1.2 and 1.3, HTTP/2 only, client certificates required, no resumption.
///
/// # Errors
/// [`TlsError`].
pub fn server_tls(
    certificate_pem: &[u8],
    key_pem: &[u8],
    authorities: &[ClientAuthority],
    blocked: BlockList,
) -> Result<ServerTls, TlsError> {
    let blocked = Arc::new(blocked);
    let trust = trust(certificate_pem, key_pem, authorities, &blocked, 0)?;
    let (in_use, _) = watch::channel(trust.in_use());
    Ok(ServerTls { current: Arc::new(ArcSwap::from_pointee(trust)), blocked, in_use })
}

impl ServerTls {
    /// Takes another certificate, key and authorities for every handshake from now on. Open connections go on, and are
    /// held against the new authorities at their next call.
    ///
    /// # Errors
    /// [`TlsError`] where they do not fit each other, or the certificate is not valid now: what was, stays.
    pub fn replace(
        &self,
        certificate_pem: &[u8],
        key_pem: &[u8],
        authorities: &[ClientAuthority],
        now: Timestamp,
    ) -> Result<(), TlsError> {
        let generation = self.current.load().generation + 1;
        let replaced = require_valid(certificate_pem, now)
            .and_then(|()| trust(certificate_pem, key_pem, authorities, &self.blocked, generation));
        self.say(replaced.as_ref().ok().map(Trust::in_use));
        self.current.store(Arc::new(replaced?));
        Ok(())
    }

    /// Says that what should be served now could not even be read.
    pub fn cannot_be_read(&self) {
        self.say(None);
    }

    /// Tells what is in use from now on; none where it is no longer what the files hold.
    fn say(&self, taken: Option<InUse>) {
        self.in_use.send_if_modified(|known| {
            let now = taken.unwrap_or(InUse { newest: false, ..*known });
            std::mem::replace(known, now) != now
        });
    }

    /// The certificates in use.
    pub(super) fn watch(&self) -> watch::Receiver<InUse> {
        self.in_use.subscribe()
    }

    /// Whether the certificates of an open connection would still get a handshake. They are looked at once after each
    /// change of the authorities.
    pub(super) fn still_trusts(&self, peer: &Peer, now: Timestamp) -> bool {
        let trust = self.current.load();
        if peer.shown.held_against.load(Ordering::Acquire) == trust.generation {
            return true;
        }
        let Some((leaf, intermediates)) = peer.shown.chain.split_first() else { return false };
        let now = UnixTime::since_unix_epoch(Duration::from_secs(u64::try_from(now.second()).unwrap_or(0)));
        let trusted = trust.verifier.verify_client_cert(leaf, intermediates, now).is_ok();
        if trusted {
            peer.shown.held_against.store(trust.generation, Ordering::Release);
        }
        trusted
    }
}

impl Trust {
    const fn in_use(&self) -> InUse {
        let Self { server_until, authority_until, .. } = self;
        InUse { newest: true, server_until: *server_until, authority_until: *authority_until }
    }
}

/// When the first of them ends.
fn first_end(chain: &[CertificateDer<'_>]) -> Timestamp {
    let parsed = chain.iter().filter_map(|certificate| X509Certificate::from_der(certificate).ok());
    let ends = parsed.map(|(_, certificate)| certificate.validity().not_after.timestamp());
    Timestamp::from_micros(ends.min().unwrap_or(0).saturating_mul(1_000_000))
}

/// Refuses a certificate that clients would refuse by its dates.
fn require_valid(certificate_pem: &[u8], now: Timestamp) -> Result<(), TlsError> {
    let what = "the server's certificate";
    let chain = certificates(certificate_pem, what)?;
    let refused = |source: Box<dyn std::error::Error + Send + Sync>| TlsError::Refused {
        what: what.to_owned(),
        source,
    };
    let leaf = chain.first().ok_or_else(|| TlsError::Empty(what.to_owned()))?;
    let (_, parsed) = X509Certificate::from_der(leaf).map_err(|error| refused(error.to_string().into()))?;
    let validity = parsed.validity();
    if (validity.not_before.timestamp()..=validity.not_after.timestamp()).contains(&now.second()) {
        return Ok(());
    }
    Err(refused("it is not valid at this time".into()))
}

fn trust(
    certificate_pem: &[u8],
    key_pem: &[u8],
    authorities: &[ClientAuthority],
    blocked: &Arc<BlockList>,
    generation: u64,
) -> Result<Trust, TlsError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let chain = certificates(certificate_pem, "the server's certificate")?;
    let key = PrivateKeyDer::from_pem_slice(key_pem)
        .map_err(|source| TlsError::Pem { what: "the server's key".to_owned(), source })?;
    let verifier = Arc::new(TrustDomains::new(authorities, Arc::clone(blocked), &provider)?);
    let mut roots = Vec::new();
    for authority in authorities {
        roots.extend(certificates(&authority.pem, &authority.trust_domain)?);
    }
    let (server_until, authority_until) = (first_end(&chain), first_end(&roots));
    let refused = |what: &str, source: rustls::Error| TlsError::Refused {
        what: what.to_owned(),
        source: Box::new(source),
    };
    let mut config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13, &rustls::version::TLS12])
        .map_err(|e| refused("the protocol version", e))?
        .with_client_cert_verifier(Arc::<TrustDomains>::clone(&verifier))
        .with_single_cert(chain, key)
        .map_err(|e| refused("the server's certificate or key", e))?;
    config.alpn_protocols = vec![b"h2".to_vec()];
    // A resumed session would carry trust past a change of the authorities.
    config.session_storage = Arc::new(NoServerSessionStorage {});
    config.send_tls13_tickets = 0;
    Ok(Trust { config: Arc::new(config), verifier, generation, server_until, authority_until })
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let chain: Vec<_> = CertificateDer::pem_slice_iter(pem)
        .collect::<Result<_, _>>()
        .map_err(|source| TlsError::Pem { what: what.to_owned(), source })?;
    if chain.is_empty() { Err(TlsError::Empty(what.to_owned())) } else { Ok(chain) }
}

/// Verifies a client certificate against the authority of the trust domain that its SPIFFE ID names, and no other:
/// an authority cannot speak for another's domain.
#[derive(Debug)]
struct TrustDomains {
    by_domain: Vec<(String, Arc<dyn ClientCertVerifier>)>,
    blocked: Arc<BlockList>,
    roots: Vec<DistinguishedName>,
    schemes: Vec<SignatureScheme>,
}

impl TrustDomains {
    fn new(
        authorities: &[ClientAuthority],
        blocked: Arc<BlockList>,
        provider: &Arc<rustls::crypto::CryptoProvider>,
    ) -> Result<Self, TlsError> {
        let schemes = provider.signature_verification_algorithms.supported_schemes();
        let (mut by_domain, mut roots) = (Vec::new(), Vec::new());
        let mut owners: HashMap<CertificateDer<'static>, &str> = HashMap::new();
        for authority in authorities {
            let domain = &authority.trust_domain;
            let what = format!("the client authority of {domain}");
            let refused = |source: Box<dyn std::error::Error + Send + Sync>| TlsError::Refused {
                what: what.clone(),
                source,
            };
            let mut store = RootCertStore::empty();
            for root in certificates(&authority.pem, &what)? {
                match owners.insert(root.clone(), domain) {
                    Some(other) if other != domain => {
                        return Err(TlsError::SharedRoot(other.to_owned(), domain.clone()));
                    }
                    Some(_) | None => store.add(root).map_err(|e| refused(Box::new(e)))?,
                }
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(store), Arc::clone(provider))
                .build()
                .map_err(|e| refused(Box::new(e)))?;
            if by_domain.iter().any(|(known, _)| known == domain) {
                return Err(TlsError::TwoAuthorities(domain.clone()));
            }
            roots.extend_from_slice(verifier.root_hint_subjects());
            by_domain.push((domain.clone(), verifier));
        }
        Ok(Self { by_domain, blocked, roots, schemes })
    }

    /// Any of the verifiers: they check handshake signatures alike.
    fn any(&self) -> Result<&dyn ClientCertVerifier, rustls::Error> {
        self.by_domain.first().map(|(_, verifier)| verifier.as_ref()).ok_or(unknown_issuer())
    }
}

fn unknown_issuer() -> rustls::Error {
    rustls::Error::InvalidCertificate(rustls::CertificateError::UnknownIssuer)
}

impl ClientCertVerifier for TrustDomains {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &self.roots
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        let peer = peer_of(end_entity).ok_or(rustls::Error::InvalidCertificate(
            rustls::CertificateError::ApplicationVerificationFailure,
        ))?;
        let verifier = self.by_domain.iter().find(|(domain, _)| domain == peer.spiffe_id.trust_domain());
        let (_, verifier) = verifier.ok_or(unknown_issuer())?;
        let done = verifier.verify_client_cert(end_entity, intermediates, now)?;
        if self.blocked.blocks(&peer.mark) {
            return Err(rustls::Error::InvalidCertificate(rustls::CertificateError::Revoked));
        }
        Ok(done)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.any()?.verify_tls12_signature(message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.any()?.verify_tls13_signature(message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.schemes.clone()
    }
}

/// A connection whose peer is known. The peer is read from the certificate once, not at each call.
pub struct PeerStream {
    stream: TlsStream<TcpStream>,
    peer: Peer,
    _slot: OwnedSemaphorePermit,
}

impl Connected for PeerStream {
    type ConnectInfo = Peer;

    fn connect_info(&self) -> Peer {
        self.peer.clone()
    }
}

impl AsyncRead for PeerStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for PeerStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut task::Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut task::Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

/// Accepts connections and finishes their handshakes, each in a task of its own and within a time limit; `refused` is
/// told of each that fails, and answers whether it is worth a line in the log. Ends when the stream is dropped.
#[must_use]
pub fn incoming(
    listener: TcpListener,
    tls: ServerTls,
    refused: impl Fn() -> bool + Clone + Send + Sync + 'static,
) -> ReceiverStream<io::Result<PeerStream>> {
    let (ready, connections) = mpsc::channel(64);
    let slots = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    tokio::spawn(async move {
        loop {
            let Ok(slot) = Arc::clone(&slots).acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = ready.closed() => return,
                accepted = listener.accept() => accepted,
            };
            let Ok((stream, _)) = accepted else {
                // Out of file descriptors, most likely: the connections that end will give some back.
                tokio::time::sleep(PAUSE_AFTER_FAILED_ACCEPT).await;
                continue;
            };
            tokio::spawn(handshake(tls.current.load_full(), stream, slot, ready.clone(), refused.clone()));
        }
    });
    ReceiverStream::new(connections)
}

async fn handshake(
    trust: Arc<Trust>,
    stream: TcpStream,
    slot: OwnedSemaphorePermit,
    ready: mpsc::Sender<io::Result<PeerStream>>,
    refused: impl Fn() -> bool,
) {
    // A socket that refuses the option works all the same, a little slower.
    let _delayed = stream.set_nodelay(true);
    let acceptor = TlsAcceptor::from(Arc::clone(&trust.config));
    let problem = match tokio::time::timeout(HANDSHAKE_TIMEOUT, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => {
            let chain = stream.get_ref().1.peer_certificates().unwrap_or_default();
            if let Some(mut peer) = chain.first().and_then(|leaf| peer_of(leaf)) {
                let chain = chain.iter().map(|certificate| certificate.clone().into_owned()).collect();
                peer.shown = Shown { chain, held_against: Arc::new(AtomicU64::new(trust.generation)) };
                let _ended = ready.send(Ok(PeerStream { stream, peer, _slot: slot })).await;
                return;
            }
            "the certificate has no single SPIFFE ID".to_owned()
        }
        Ok(Err(error)) => error.to_string(),
        Err(_) => "it took too long".to_owned(),
    };
    if refused() {
        tracing::info!(problem, "a TLS handshake failed; further ones are counted until the next summary");
    }
}
