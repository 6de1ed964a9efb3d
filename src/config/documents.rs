//! `[documents]`: where parts of documents lie.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Config, ConfigError, read_text, refuse_readable_by_others};
use crate::vault::documents::{Bucket, MIN_MEMORY_MIB};

/// Most memory for all streams: 64 GiB.
const MAX_MEMORY_MIB: u32 = 64 << 10;

/// Where documents lie: in a directory, or in a bucket.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct DocumentsConfig {
    /// Their directory.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub directory: Option<PathBuf>,
    /// Their bucket.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub s3: Option<BucketConfig>,
    /// MiB of memory that all streams of documents share.
    #[serde(default = "default_memory_mib")]
    pub memory_mib: u32,
}

/// A bucket of an S3 service.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct BucketConfig {
    /// Address of the service.
    pub endpoint: String,
    /// Its region.
    #[serde(default = "default_region")]
    pub region: String,
    /// Name of the bucket.
    pub bucket: String,
    /// Id of the key.
    pub access_key: String,
    /// File with the key; others must not read it.
    pub secret_key_file: PathBuf,
    /// Root certificates of the service, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<PathBuf>,
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

/// Where documents lie, as configured.
pub enum DocumentsPlace {
    /// In a directory.
    Directory(PathBuf),
    /// In a bucket.
    Bucket(Box<Bucket>),
}

const fn default_memory_mib() -> u32 {
    64
}

impl Config {
    /// MiB of memory for streams of documents, where a place for them is configured.
    ///
    /// # Errors
    /// [`ConfigError::Rule`].
    pub fn documents(&self) -> Result<Option<u32>, ConfigError> {
        let Some(documents) = &self.documents else { return Ok(None) };
        if !(MIN_MEMORY_MIB..=MAX_MEMORY_MIB).contains(&documents.memory_mib) {
            let rule = format!("documents.memory_mib must be from {MIN_MEMORY_MIB} to {MAX_MEMORY_MIB}");
            return Err(self.rule(&rule));
        }
        match (&documents.directory, &documents.s3) {
            (Some(_), None) => {}
            (None, Some(s3)) => self.check_bucket(s3)?,
            _ => return Err(self.rule("[documents] names either `directory` or `s3`")),
        }
        Ok(Some(documents.memory_mib))
    }

    /// Over the network a bucket is reached by TLS alone, under roots that the operator names.
    fn check_bucket(&self, s3: &BucketConfig) -> Result<(), ConfigError> {
        let host = |scheme: &str| s3.endpoint.strip_prefix(scheme).map(|rest| rest.split(['/', ':']).next());
        match (host("https://"), host("http://")) {
            (Some(_), _) if s3.authority.is_some() => Ok(()),
            (Some(_), _) => Err(self.rule("documents.s3 needs `authority`, the service's root certificates")),
            (None, Some(Some("127.0.0.1" | "localhost"))) => Ok(()),
            (None, _) => {
                Err(self.rule("documents.s3.endpoint is an https address; http only on this machine"))
            }
        }
    }

    /// The place of documents, with its secret read.
    ///
    /// # Errors
    /// [`ConfigError`], also where others may read the secret.
    pub fn documents_place(&self) -> Result<Option<DocumentsPlace>, ConfigError> {
        let Some(documents) = &self.documents else { return Ok(None) };
        if let Some(directory) = &documents.directory {
            return Ok(Some(DocumentsPlace::Directory(self.resolve(directory))));
        }
        let Some(s3) = &documents.s3 else { return Ok(None) };
        let secret = self.resolve(&s3.secret_key_file);
        refuse_readable_by_others(&secret)?;
        let secret_key = Zeroizing::new(read_text(&secret)?.trim_end_matches(['\r', '\n']).to_owned());
        let authority = s3.authority.as_ref().map(|file| self.read(file)).transpose()?;
        Ok(Some(DocumentsPlace::Bucket(Box::new(Bucket {
            endpoint: s3.endpoint.clone(),
            region: s3.region.clone(),
            bucket: s3.bucket.clone(),
            access_key: s3.access_key.clone(),
            secret_key,
            authority: authority.map(String::into_bytes),
        }))))
    }
}
