//! Places of objects: a directory, or a bucket of an S3 service.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::{Config, ConfigError, read_text, refuse_readable_by_others, residency::host_and_port};
use crate::{
    domain::territory::Use,
    residency::{Place, Target},
    vault::documents::{Bucket, Credentials},
};

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
    /// Id of the key, where one stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub access_key: Option<String>,
    /// File with the key; others must not read it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_key_file: Option<PathBuf>,
    /// How a key for a while is asked for, where none stays.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub web_identity: Option<WebIdentityConfig>,
    /// Root certificates of the service, PEM.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<PathBuf>,
}

/// Keys for a while, given for a token in a file, such as Kubernetes puts into a pod.
#[derive(Debug, Clone, Deserialize, Serialize)]
#[serde(deny_unknown_fields)]
pub struct WebIdentityConfig {
    /// File with the token.
    pub token_file: PathBuf,
    /// The role that is taken.
    pub role: String,
    /// Address of the service that gives keys.
    pub sts_endpoint: String,
}

fn default_region() -> String {
    "us-east-1".to_owned()
}

/// A place of objects, as configured.
pub enum Storage {
    /// A directory.
    Directory(PathBuf),
    /// A bucket.
    Bucket(Box<Bucket>),
}

/// What a table of the configuration says of its place.
#[derive(Clone, Copy)]
pub(super) struct Stored<'a> {
    pub(super) table: &'static str,
    pub(super) directory: Option<&'a PathBuf>,
    pub(super) s3: Option<&'a BucketConfig>,
    pub(super) used_for: Use,
}

impl Config {
    /// Whether a table names one place, as it may be named.
    pub(super) fn check_stored(&self, stored: Stored<'_>) -> Result<(), ConfigError> {
        let table = stored.table;
        match (stored.directory, stored.s3) {
            (Some(_), None) => Ok(()),
            (None, Some(s3)) => self.check_bucket(table, s3),
            _ => Err(self.rule(&format!("[{table}] names either `directory` or `s3`"))),
        }
    }

    fn check_bucket(&self, table: &str, s3: &BucketConfig) -> Result<(), ConfigError> {
        self.check_endpoint(&format!("{table}.s3.endpoint"), &s3.endpoint, s3.authority.is_some())?;
        match (&s3.access_key, &s3.secret_key_file, &s3.web_identity) {
            (Some(_), Some(_), None) => Ok(()),
            (None, None, Some(identity)) => self.check_endpoint(
                &format!("{table}.s3.web_identity.sts_endpoint"),
                &identity.sts_endpoint,
                s3.authority.is_some(),
            ),
            _ => Err(self.rule(&format!(
                "[{table}.s3] has either `access_key` and `secret_key_file`, or `web_identity`"
            ))),
        }
    }

    /// Over the network a service is reached by TLS alone, under roots that the operator names.
    pub(super) fn check_endpoint(
        &self,
        name: &str,
        endpoint: &str,
        has_authority: bool,
    ) -> Result<(), ConfigError> {
        let (host, _port) =
            host_and_port(endpoint).ok_or_else(|| self.rule(&format!("{name} must be https://host:port")))?;
        match endpoint.starts_with("https://") {
            true if has_authority => Ok(()),
            true => Err(self.rule(&format!("{name} needs `authority`, the service's root certificates"))),
            false if ["127.0.0.1", "localhost"].contains(&host.as_str()) => Ok(()),
            false => Err(self.rule(&format!("{name} is an https address; http only on this machine"))),
        }
    }

    /// The place that a table names, with its secret read.
    pub(super) fn storage(&self, stored: Stored<'_>) -> Result<Storage, ConfigError> {
        self.check_stored(stored)?;
        let s3 = match (stored.directory, stored.s3) {
            (Some(directory), _) => return Ok(Storage::Directory(self.resolve(directory))),
            (None, Some(s3)) => s3,
            (None, None) => return Err(self.rule(&format!("[{}] names no place", stored.table))),
        };
        let authority = s3.authority.as_ref().map(|file| self.read(file)).transpose()?;
        Ok(Storage::Bucket(Box::new(Bucket {
            endpoint: s3.endpoint.clone(),
            region: s3.region.clone(),
            bucket: s3.bucket.clone(),
            credentials: self.credentials(stored.table, s3)?,
            authority: authority.map(String::into_bytes),
        })))
    }

    fn credentials(&self, table: &str, s3: &BucketConfig) -> Result<Credentials, ConfigError> {
        match (&s3.access_key, &s3.secret_key_file, &s3.web_identity) {
            (Some(id), Some(file), _) => {
                let file = self.resolve(file);
                refuse_readable_by_others(&file)?;
                let secret = Zeroizing::new(read_text(&file)?.trim_end_matches(['\r', '\n']).to_owned());
                Ok(Credentials::Key { id: id.clone(), secret })
            }
            (_, _, Some(identity)) => Ok(Credentials::WebIdentity {
                token_file: self.resolve(&identity.token_file),
                role: identity.role.clone(),
                sts_endpoint: identity.sts_endpoint.clone(),
            }),
            _ => Err(self.rule(&format!("[{table}.s3] has no credentials"))),
        }
    }

    /// Everything of a place that holds bytes, or gives keys to them.
    pub(super) fn stored_targets(&self, stored: Stored<'_>) -> Result<Vec<Target>, ConfigError> {
        let host = |endpoint: &str| {
            let (host, port) = host_and_port(endpoint)
                .ok_or_else(|| self.rule(&format!("{}.s3 must name https://host:port", stored.table)))?;
            Ok(Place::Host(host, port))
        };
        let places = match (stored.directory, stored.s3) {
            (Some(directory), _) => vec![Place::Path(self.resolve(directory))],
            (None, Some(s3)) => {
                let identity = s3.web_identity.iter().map(|identity| identity.sts_endpoint.as_str());
                [s3.endpoint.as_str()].into_iter().chain(identity).map(host).collect::<Result<_, _>>()?
            }
            (None, None) => Vec::new(),
        };
        Ok(places.into_iter().map(|place| Target { used_for: stored.used_for, place }).collect())
    }
}
