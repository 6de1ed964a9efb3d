//! A bucket of an S3 service as an object store: path style, static credentials, and an authority of the operator's own.
//!
//! The client dials the endpoint itself: no proxy of the environment, no redirect, and no root certificates but those that the
//! configuration names, at addresses of declared sites alone. Nothing depends on conditional puts or on object locks: some servers
//! (Garage) ignore them.

use std::{path::PathBuf, sync::Arc, time::Duration};

use async_trait::async_trait;
use object_store::{
    BackoffConfig, ClientOptions, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, Checksum},
    client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService},
};
use zeroize::Zeroizing;

use super::{
    error::{BlobError, Cause},
    place::Kind,
};
use crate::{
    domain::territory::Territory,
    net::{Endpoint, refusal},
};

/// Times that a request is sent again.
const RETRIES: usize = 3;

/// A bucket, and who we are to its service.
pub struct Bucket {
    /// Address of the service, such as `https://s3.example.kz`.
    pub endpoint: String,
    /// Its region.
    pub region: String,
    /// Name of the bucket.
    pub bucket: String,
    /// Who we are.
    pub credentials: Credentials,
    /// Root certificates of the service, and of the one that gives keys, PEM; needed for `https`.
    pub authority: Option<Vec<u8>>,
}

/// Who we are to an S3 service.
pub enum Credentials {
    /// A key that stays.
    Key {
        /// Its id.
        id: String,
        /// It.
        secret: Zeroizing<String>,
    },
    /// Keys for an hour or so, given for a token that the platform puts into a file (`AssumeRoleWithWebIdentity`).
    WebIdentity {
        /// The file, read anew for each key.
        token_file: PathBuf,
        /// The role that is taken.
        role: String,
        /// Address of the service that gives keys.
        sts_endpoint: String,
    },
}

impl Bucket {
    /// The bucket as an object store, each request of which fails after `limit`.
    pub(super) fn open(
        &self,
        kind: &Kind,
        territory: &Arc<dyn Territory>,
        limit: Duration,
    ) -> Result<AmazonS3, BlobError> {
        let failed = |source| BlobError::Bucket { what: kind.what, bucket: self.bucket.clone(), source };
        let place = Endpoint::new(&self.endpoint, kind.used_for, Arc::clone(territory));
        let place = place.map_err(|e| failed(Cause::new(e)))?;
        let builder = place.client(self.authority.as_deref()).map_err(|e| failed(Cause::new(e)))?;
        let client = builder.connect_timeout(limit).timeout(limit).build();
        let direct = Direct { client: client.map_err(|e| failed(Cause::new(e)))?, place };
        let retry =
            RetryConfig { max_retries: RETRIES, retry_timeout: limit, backoff: BackoffConfig::default() };
        let builder = AmazonS3Builder::new()
            .with_endpoint(&self.endpoint)
            .with_allow_http(self.endpoint.starts_with("http://"))
            .with_region(&self.region)
            .with_bucket_name(&self.bucket)
            .with_virtual_hosted_style_request(false)
            // A bucket that locks its objects takes none without a checksum.
            .with_checksum_algorithm(Checksum::SHA256)
            .with_retry(retry)
            .with_http_connector(direct);
        let builder = match &self.credentials {
            Credentials::Key { id, secret } => {
                builder.with_access_key_id(id).with_secret_access_key(secret.as_str())
            }
            Credentials::WebIdentity { token_file, role, sts_endpoint } => builder
                .with_config(AmazonS3ConfigKey::WebIdentityTokenFile, token_file.display().to_string())
                .with_config(AmazonS3ConfigKey::RoleArn, role)
                .with_config(AmazonS3ConfigKey::RoleSessionName, "sandyq")
                .with_config(AmazonS3ConfigKey::StsEndpoint, sts_endpoint),
        };
        builder.build().map_err(|e| failed(Cause::new(e)))
    }
}

/// The one client that was made for the bucket.
#[derive(Debug, Clone)]
struct Direct {
    client: reqwest::Client,
    place: Endpoint,
}

impl HttpConnector for Direct {
    fn connect(&self, _options: &ClientOptions) -> object_store::Result<HttpClient> {
        Ok(HttpClient::new(self.clone()))
    }
}

#[async_trait]
impl HttpService for Direct {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        // Of this kind nothing is sent again, and its words are the refusal's own: site and address.
        let outside = |refused| HttpError::new(HttpErrorKind::Unknown, refused);
        // Also where it is the service that gives keys.
        self.place.admit_url(&request.uri().to_string()).map_err(outside)?;
        let answer = self.client.call(request).await;
        answer.map_err(|error| refusal(&error).cloned().map_or(error, outside))
    }
}
