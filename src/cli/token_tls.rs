//! TLS of a command whose private key lives in a token: the handshake is signed there. tonic takes keys in PEM alone, so the
//! connection is made here, and tonic speaks over it.

use std::{fmt, io, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::{
    ClientConfig, RootCertStore, SignatureAlgorithm, SignatureScheme,
    sign::{CertifiedKey, Signer, SigningKey, SingleCertAndKey},
};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{
    kms::source,
    output::{Failure, exit},
};
use crate::{
    config::{Connection, TokenKeyName, TokenKeyPlace},
    crypto::kms::pkcs11::signing::{KeyName, SigningAlgorithm, TokenKey, TokenKeyOptions},
};

/// For TCP and the handshake, in which somebody may have to touch the device. The server waits ten seconds.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(15);
const PORT: u16 = 443;
const HTTP_2: &[u8] = b"h2";

/// Connects with a key in a token. The chain is the token's where it is not given, PEM.
pub(super) async fn connect(
    connection: &Connection,
    chain: Option<String>,
    place: TokenKeyPlace,
) -> Result<Channel, Failure> {
    let failed = |text: &str| Failure::new(exit::FAILED, text);
    let rest = connection.target.strip_prefix("https://");
    let rest = rest.ok_or_else(|| failed("the connection's `target` must begin with https://"))?;
    let target: Uri = connection.target.parse()?;
    let host = target.host().unwrap_or_default().trim_matches(['[', ']']).to_owned();
    let name = ServerName::try_from(connection.server_name.clone().unwrap_or_else(|| host.clone()))?;

    let key = tokio::task::spawn_blocking(move || TokenKey::open(options(place))).await??;
    let chain = match (chain, key.certificate()) {
        (Some(pem), _) => certificates(&pem)?,
        (None, Some(der)) => vec![CertificateDer::from(der.to_vec())],
        (None, None) => {
            let key = key.describe();
            return Err(failed(&format!(
                "there is no certificate beside the {key}: name one as `certificate`"
            )));
        }
    };
    let leaf = chain.first().ok_or_else(|| failed("`certificate` holds no certificate"))?;
    let public_key = public_key(leaf).ok_or_else(|| failed("`certificate` is no certificate"))?;
    let signing = Signing(Arc::new(InToken { key, public_key }));
    let tls = client_config(&connection.authority()?, CertifiedKey::new(chain, Arc::new(signing)))?;
    let tls = TlsConnector::from(Arc::new(tls));

    let address = (host, target.port_u16().unwrap_or(PORT));
    let connector = service_fn(move |_: Uri| dial(address.clone(), name.clone(), tls.clone()));
    // An address of `https` would have tonic look for TLS of its own.
    let endpoint = Endpoint::from_shared(format!("http://{rest}"))?.origin(target);
    Ok(endpoint.connect_with_connector(connector).await?)
}

fn options(place: TokenKeyPlace) -> TokenKeyOptions {
    let TokenKeyPlace { module, token, name, pin } = place;
    let key = match name {
        TokenKeyName::Label(label) => KeyName::Label(label),
        TokenKeyName::Id(id) => KeyName::Id(id),
    };
    TokenKeyOptions { module, token, key, pin: source(pin) }
}

fn certificates(pem: &str) -> Result<Vec<CertificateDer<'static>>, Failure> {
    Ok(CertificateDer::pem_slice_iter(pem.as_bytes()).collect::<Result<Vec<_>, _>>()?)
}

/// The contents of the bit string.
fn public_key(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = X509Certificate::from_der(certificate).ok()?;
    Some(parsed.public_key().subject_public_key.data.to_vec())
}

fn client_config(authority: &str, identity: CertifiedKey) -> Result<ClientConfig, Failure> {
    let mut roots = RootCertStore::empty();
    for root in certificates(authority)? {
        roots.add(root)?;
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity)));
    config.alpn_protocols = vec![HTTP_2.to_vec()];
    Ok(config)
}

async fn dial(
    address: (String, u16),
    name: ServerName<'static>,
    tls: TlsConnector,
) -> io::Result<TokioIo<TlsStream<TcpStream>>> {
    let dialled = async {
        let tcp = TcpStream::connect(address).await?;
        tcp.set_nodelay(true)?;
        tls.connect(name, tcp).await
    };
    let stream = timeout(CONNECT_TIMEOUT, dialled).await??;
    if stream.get_ref().1.alpn_protocol() != Some(HTTP_2) {
        return Err(io::Error::other("the server does not speak HTTP/2"));
    }
    Ok(TokioIo::new(stream))
}

/// A key in a token, with the public key of the certificate that it should be of.
struct InToken {
    key: TokenKey,
    public_key: Vec<u8>,
}

impl fmt::Debug for InToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.key.describe())
    }
}

#[derive(Debug, Clone)]
struct Signing(Arc<InToken>);

impl SigningKey for Signing {
    fn choose_scheme(&self, offered: &[SignatureScheme]) -> Option<Box<dyn Signer>> {
        offered.contains(&self.scheme()).then(|| -> Box<dyn Signer> { Box::new(self.clone()) })
    }

    fn algorithm(&self) -> SignatureAlgorithm {
        match self.0.key.algorithm() {
            SigningAlgorithm::EcdsaP256 | SigningAlgorithm::EcdsaP384 => SignatureAlgorithm::ECDSA,
            SigningAlgorithm::RsaPss => SignatureAlgorithm::RSA,
        }
    }
}

impl Signer for Signing {
    /// Blocks this thread of the command's runtime, which has others.
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rustls::Error> {
        let signed = self.0.key.sign(message, &self.0.public_key);
        signed.map_err(|error| rustls::Error::General(error.to_string()))
    }

    fn scheme(&self) -> SignatureScheme {
        match self.0.key.algorithm() {
            SigningAlgorithm::EcdsaP256 => SignatureScheme::ECDSA_NISTP256_SHA256,
            SigningAlgorithm::EcdsaP384 => SignatureScheme::ECDSA_NISTP384_SHA384,
            SigningAlgorithm::RsaPss => SignatureScheme::RSA_PSS_SHA256,
        }
    }
}
