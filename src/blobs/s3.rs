//! A bucket of an S3 service as an object store: path style, static credentials, and an authority of the operator's own.
//!
//! The client dials the endpoint itself: no proxy of the environment, no redirect, and no root certificates but those that the
//! configuration names, at addresses of declared sites alone. Nothing depends on conditional puts or on object locks: some servers
//! (Garage) ignore them.

use std::{sync::Arc, time::Duration};

use async_trait::async_trait;
use object_store::{
    BackoffConfig, ClientOptions, RetryConfig,
    aws::{AmazonS3, AmazonS3Builder},
    client::{HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService},
};
use zeroize::Zeroizing;

use super::error::{BlobError, Cause};
use crate::{
    domain::territory::{Territory, Use},
    net::Endpoint,
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
    /// Id of the key.
    pub access_key: String,
    /// The key.
    pub secret_key: Zeroizing<String>,
    /// Root certificates of the service, PEM; needed for `https`.
    pub authority: Option<Vec<u8>>,
}

impl Bucket {
    /// The bucket as an object store, each request of which fails after `limit`.
    pub(super) fn open(
        &self,
        what: &'static str,
        territory: &Arc<dyn Territory>,
        limit: Duration,
    ) -> Result<AmazonS3, BlobError> {
        let failed = |source| BlobError::Bucket { what, bucket: self.bucket.clone(), source };
        let place = Endpoint::new(&self.endpoint, Use::Documents, Arc::clone(territory));
        let place = place.map_err(|e| failed(Cause::new(e)))?;
        let builder = place.client(self.authority.as_deref()).map_err(|e| failed(Cause::new(e)))?;
        let client = builder.connect_timeout(limit).timeout(limit).build();
        let direct = Direct { client: client.map_err(|e| failed(Cause::new(e)))?, place };
        let retry =
            RetryConfig { max_retries: RETRIES, retry_timeout: limit, backoff: BackoffConfig::default() };
        AmazonS3Builder::new()
            .with_endpoint(&self.endpoint)
            .with_allow_http(self.endpoint.starts_with("http://"))
            .with_region(&self.region)
            .with_bucket_name(&self.bucket)
            .with_access_key_id(&self.access_key)
            .with_secret_access_key(self.secret_key.as_str())
            .with_virtual_hosted_style_request(false)
            .with_retry(retry)
            .with_http_connector(direct)
            .build()
            .map_err(|e| failed(Cause::new(e)))
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
        self.place.admit().map_err(|refused| HttpError::new(HttpErrorKind::Unknown, refused))?;
        self.client.call(request).await
    }
}
