//! What a vendor says of a device that holds a key: a chain of X.509 certificates from a configured root down to a
//! certificate of that very key, as PIV and PKCS#11 tokens make it.

use std::sync::Arc;

use rustls::{
    RootCertStore,
    server::{VerifierBuilderError, WebPkiClientVerifier, danger::ClientCertVerifier},
};
use rustls_pki_types::{CertificateDer, UnixTime, pem::PemObject as _};
use x509_parser::{
    oid_registry::{Oid, asn1_rs::oid},
    prelude::{FromDer as _, X509Certificate},
};

use crate::{
    domain::{caller::KeyPin, time::Timestamp},
    vault::{callers::fingerprint, staff_keys::Attestation},
};

/// Serial number of the device, in PIV attestations of Yubico; an INTEGER.
const SERIAL: Oid<'static> = oid!(1.3.6.1.4.1.41482.3.7);

/// Why roots cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RootsError {
    /// Not PEM, or no certificate in it.
    #[error("holds no certificate in PEM")]
    Pem,
    /// A certificate is no root.
    #[error("holds a certificate that is no root")]
    Root(#[source] rustls::Error),
    /// They make no verifier.
    #[error("its certificates make no verifier")]
    Verifier(#[from] VerifierBuilderError),
}

/// The roots of device vendors.
pub struct AttestationRoots(Arc<dyn ClientCertVerifier>);

impl AttestationRoots {
    /// Reads root certificates, PEM.
    ///
    /// # Errors
    /// [`RootsError`].
    pub fn parse(pem: &[u8]) -> Result<Self, RootsError> {
        let mut store = RootCertStore::empty();
        for root in CertificateDer::pem_slice_iter(pem) {
            store.add(root.map_err(|_| RootsError::Pem)?).map_err(RootsError::Root)?;
        }
        if store.is_empty() {
            return Err(RootsError::Pem);
        }
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        Ok(Self(WebPkiClientVerifier::builder_with_provider(Arc::new(store), provider).build()?))
    }
}

impl Attestation for AttestationRoots {
    fn judge(&self, chain: &[Vec<u8>], key: &KeyPin, now: Timestamp) -> Result<Option<String>, &'static str> {
        let chain: Vec<_> = chain.iter().map(|der| CertificateDer::from(der.as_slice())).collect();
        let (leaf, others) = chain.split_first().ok_or("holds no certificate")?;
        let (rest, parsed) = X509Certificate::from_der(leaf).map_err(|_| "its first is no certificate")?;
        if !rest.is_empty() {
            return Err("its first is no certificate");
        }
        if fingerprint(parsed.public_key().raw) != *key {
            return Err("is of another key");
        }
        let seconds = u64::try_from(now.as_micros() / 1_000_000).unwrap_or(0);
        let now = UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        let verified = self.0.verify_client_cert(leaf, others, now);
        verified.map_err(|_| "leads to none of staff.attestation_roots, or is out of its time")?;
        let serial = parsed.get_extension_unique(&SERIAL).map_err(|_| "names its device twice")?;
        serial
            .map(|extension| number(extension.value).ok_or("names a serial number that is none"))
            .transpose()
    }
}

/// A DER INTEGER that is not negative, in decimal.
fn number(der: &[u8]) -> Option<String> {
    let [0x02, length, digits @ ..] = der else { return None };
    let fits = usize::from(*length) == digits.len() && (1..=8).contains(&digits.len());
    let positive = digits.first().is_some_and(|first| *first < 0x80);
    let value = digits.iter().fold(0_u64, |value, byte| value << 8 | u64::from(*byte));
    (fits && positive).then(|| value.to_string())
}

#[cfg(test)]
mod tests {
    use super::number;

    #[test]
    fn serial_numbers_are_read_by_checked_reads() {
        assert_eq!(number(&[2, 4, 0, 0xbc, 0x61, 0x4e]).as_deref(), Some("12345678"));
        assert_eq!(number(&[2, 1, 0]).as_deref(), Some("0"));
        for wrong in [&[][..], &[2], &[2, 0], &[2, 2, 1], &[2, 1, 0x80], &[4, 1, 1], &[2, 1, 1, 1]] {
            assert_eq!(number(wrong), None, "{wrong:?}");
        }
        assert_eq!(number(&[2, 9, 0, 1, 1, 1, 1, 1, 1, 1, 1]), None);
    }
}
