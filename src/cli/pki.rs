//! Certificates for development, the demo and tests. Production brings its own.

use std::{
    fs, io,
    io::Write as _,
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, Certificate, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType,
};

/// A throw-away certificate authority.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its key, PEM.
pub struct Issued {
    /// Certificate.
    pub certificate: String,
    /// Private key.
    pub key: String,
}

impl Authority {
    /// A new authority.
    ///
    /// # Errors
    /// [`rcgen::Error`].
    pub fn new(name: &str) -> Result<Self, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::new(Vec::new())?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let pem = params.self_signed(&key)?.pem();
        Ok(Self { pem, issuer: Issuer::new(params, key) })
    }

    /// The authority's own certificate, PEM.
    #[must_use]
    pub fn pem(&self) -> &str {
        &self.pem
    }

    /// A certificate for a server on this machine.
    ///
    /// # Errors
    /// [`rcgen::Error`].
    pub fn server(&self) -> Result<Issued, rcgen::Error> {
        let params = CertificateParams::new(vec!["localhost".to_owned(), "127.0.0.1".to_owned()])?;
        self.issue(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// A certificate for a caller with these URI names; a caller has exactly one.
    ///
    /// # Errors
    /// [`rcgen::Error`].
    pub fn client(&self, uris: &[&str]) -> Result<Issued, rcgen::Error> {
        self.issue(caller(uris)?, ExtendedKeyUsagePurpose::ClientAuth)
    }

    /// A certificate for a caller whose key lives elsewhere, as in a token.
    ///
    /// # Errors
    /// [`rcgen::Error`].
    pub fn client_of(&self, key: &impl PublicKeyData, uri: &str) -> Result<Certificate, rcgen::Error> {
        self.sign(caller(&[uri])?, ExtendedKeyUsagePurpose::ClientAuth, key)
    }

    fn issue(
        &self,
        params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
    ) -> Result<Issued, rcgen::Error> {
        let key = KeyPair::generate()?;
        let certificate = self.sign(params, usage, &key)?.pem();
        Ok(Issued { certificate, key: key.serialize_pem() })
    }

    fn sign(
        &self,
        mut params: CertificateParams,
        usage: ExtendedKeyUsagePurpose,
        key: &impl PublicKeyData,
    ) -> Result<Certificate, rcgen::Error> {
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![usage];
        params.signed_by(key, &self.issuer)
    }
}

fn caller(uris: &[&str]) -> Result<CertificateParams, rcgen::Error> {
    let mut params = CertificateParams::new(Vec::new())?;
    for uri in uris {
        params.subject_alt_names.push(SanType::URI((*uri).try_into()?));
    }
    Ok(params)
}

impl Issued {
    /// Writes `<name>.pem` and `<name>.key`, the key for the owner's eyes only.
    ///
    /// # Errors
    /// [`io::Error`].
    pub fn write(&self, dir: &Path, name: &str) -> io::Result<(PathBuf, PathBuf)> {
        let (certificate, key) = (dir.join(format!("{name}.pem")), dir.join(format!("{name}.key")));
        fs::write(&certificate, &self.certificate)?;
        let mut options = fs::OpenOptions::new();
        options.write(true).create(true).truncate(true);
        #[cfg(unix)]
        std::os::unix::fs::OpenOptionsExt::mode(&mut options, 0o600);
        options.open(&key)?.write_all(self.key.as_bytes())?;
        Ok((certificate, key))
    }
}
