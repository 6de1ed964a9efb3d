//! The files that the server's TLS is made of.

use std::{fs, path::PathBuf, time::SystemTime};

use zeroize::Zeroizing;

use super::{Config, ConfigError, read_text, refuse_readable_by_others};
use crate::grpc::tls::ClientAuthority;

/// What the server's TLS is made of.
pub struct TlsFiles {
    /// Certificate chain, PEM.
    pub certificate: Vec<u8>,
    /// Private key, PEM.
    pub key: Zeroizing<Vec<u8>>,
    /// Client authorities.
    pub authorities: Vec<ClientAuthority>,
}

impl Config {
    /// Certificate and key of the server, and the client authorities.
    ///
    /// # Errors
    /// [`ConfigError`], also where others may read the key.
    pub fn tls(&self) -> Result<TlsFiles, ConfigError> {
        let key = self.resolve(&self.server.key);
        refuse_readable_by_others(&key)?;
        let authorities = self
            .client_authority
            .iter()
            .map(|authority| {
                let pem = self.read(&authority.certificates)?.into_bytes();
                Ok(ClientAuthority { trust_domain: authority.trust_domain.clone(), pem })
            })
            .collect::<Result<_, ConfigError>>()?;
        Ok(TlsFiles {
            certificate: self.read(&self.server.certificate)?.into_bytes(),
            key: Zeroizing::new(read_text(&key)?.into_bytes()),
            authorities,
        })
    }

    /// What of the files of [`Config::tls`] changes with their content; none where there is no file.
    #[must_use]
    pub fn tls_stamps(&self) -> Vec<Option<(SystemTime, u64)>> {
        let authorities = self.client_authority.iter().map(|authority| &authority.certificates);
        let files = authorities.chain([&self.server.certificate, &self.server.key]);
        let stamp = |file: &PathBuf| {
            let metadata = fs::metadata(self.resolve(file)).ok()?;
            Some((metadata.modified().ok()?, metadata.len()))
        };
        files.map(stamp).collect()
    }
}
