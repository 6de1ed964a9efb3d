//! HTTP to OpenBao or Vault, and the token that it takes.

use std::{sync::Arc, time::Duration};

use reqwest::{
    Client, Method, StatusCode,
    header::{CONTENT_TYPE, HeaderValue},
};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use tokio::sync::Mutex;
use zeroize::Zeroizing;

use super::{Login, TransitOptions};
use crate::{
    crypto::kms::{KmsError, SecretSource, read_secret},
    domain::{
        territory::{Refused, Use},
        time::{Clock, Timestamp},
    },
    net::Endpoint,
};

const CONNECT_LIMIT: Duration = Duration::from_secs(3);
const ANSWER_LIMIT: Duration = Duration::from_secs(8);
/// No answer that the vault asks for comes near to it.
const MAX_ANSWER_BYTES: usize = 64 * 1024;

/// An answer. Its body may hold a key or a token, so it is zeroised; it is never logged and never told.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    body: Zeroizing<Vec<u8>>,
}

impl Answer {
    /// The `data` of an answer that went well.
    pub(super) fn data<T: DeserializeOwned>(self) -> Result<T, KmsError> {
        #[derive(Deserialize)]
        struct Data<T> {
            data: T,
        }
        self.parse::<Data<T>>().map(|answer| answer.data)
    }

    fn parse<T: DeserializeOwned>(self) -> Result<T, KmsError> {
        self.done()?;
        // The error would quote the body.
        let unknown = |_| KmsError::Unavailable("the answer is not of this protocol".to_owned());
        serde_json::from_slice(&self.body).map_err(unknown)
    }

    pub(super) fn done(&self) -> Result<(), KmsError> {
        if self.status.is_success() {
            return Ok(());
        }
        let hint = match self.status {
            StatusCode::FORBIDDEN => ": the token is refused, or its policy does not let the vault do this",
            StatusCode::SERVICE_UNAVAILABLE => ": it is sealed, or has no active node",
            status if status.is_redirection() => ": redirects are not followed; name the node itself",
            _ => "",
        };
        Err(KmsError::Unavailable(format!("it answers {}{hint}", self.status)))
    }
}

/// A token that is let in.
struct Lease {
    token: Zeroizing<String>,
    /// When it is to be renewed; none for one that does not end.
    renew_at: Option<Timestamp>,
    ends_at: Option<Timestamp>,
    renewable: bool,
}

impl Lease {
    fn new(token: Zeroizing<String>, seconds: u64, renewable: bool, now: Timestamp) -> Self {
        let after = |seconds: u64| (seconds > 0).then(|| now.plus(Duration::from_secs(seconds)));
        Self { token, renew_at: after(seconds.saturating_mul(2) / 3), ends_at: after(seconds), renewable }
    }

    fn due(&self, now: Timestamp) -> bool {
        self.renewable && self.renew_at.is_some_and(|at| at <= now)
    }

    fn ended(&self, now: Timestamp) -> bool {
        self.ends_at.is_some_and(|at| at <= now)
    }
}

pub(super) struct Transport {
    http: Client,
    place: Endpoint,
    base: String,
    login: Login,
    clock: Arc<Clock>,
    /// Held while the vault logs in, so that it does so once.
    lease: Mutex<Option<Lease>>,
}

impl Transport {
    pub(super) fn new(options: TransitOptions, clock: Arc<Clock>) -> Result<Self, KmsError> {
        let cannot =
            |error: reqwest::Error| KmsError::unavailable("[root_key] makes no HTTPS client", &error);
        let place = Endpoint::new(&options.address, Use::RootKey, options.territory)
            .map_err(|e| KmsError::unavailable("root_key.address is no URL", &e))?;
        let builder = place.client(options.authority.as_deref()).map_err(cannot)?;
        let http = builder.connect_timeout(CONNECT_LIMIT).timeout(ANSWER_LIMIT).build().map_err(cannot)?;
        let base = format!("{}/v1", options.address.trim_end_matches('/'));
        Ok(Self { http, place, base, login: options.login, clock, lease: Mutex::default() })
    }

    /// Asks as the vault; once more with another token where the first is refused.
    pub(super) async fn ask<B: Serialize + Sync>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<Answer, KmsError> {
        let token = self.token(None).await?;
        let answer = self.send(method.clone(), path, Some(&token), body).await?;
        if answer.status != StatusCode::FORBIDDEN {
            return Ok(answer);
        }
        let other = self.token(Some(&token)).await?;
        if *other == *token {
            return Ok(answer);
        }
        self.send(method, path, Some(&other), body).await
    }

    /// A token that should be let in: not `refused`, where there is another.
    async fn token(&self, refused: Option<&str>) -> Result<Zeroizing<String>, KmsError> {
        let mut lease = self.lease.lock().await;
        let now = self.clock.now();
        if lease.as_ref().is_some_and(|lease| Some(lease.token.as_str()) == refused || lease.ended(now)) {
            *lease = None;
        }
        if let Login::TokenFile(source) = &self.login {
            let token = read_secret("token", source)?;
            // Somebody else may keep the file's token fresh.
            if lease.as_ref().is_some_and(|lease| *lease.token != *token) {
                *lease = None;
            }
        }
        let fresh = match lease.take() {
            Some(known) if known.due(now) => match (self.renew(&known, now).await, &self.login) {
                (Some(renewed), _) => renewed,
                (None, Login::Kubernetes { .. }) => self.log_in(now).await?,
                (None, Login::TokenFile(_)) => known,
            },
            Some(known) => known,
            None => self.log_in(now).await?,
        };
        let token = fresh.token.clone();
        *lease = Some(fresh);
        Ok(token)
    }

    async fn log_in(&self, now: Timestamp) -> Result<Lease, KmsError> {
        match &self.login {
            Login::TokenFile(source) => {
                #[derive(Deserialize)]
                struct Known {
                    ttl: u64,
                    #[serde(default)]
                    renewable: bool,
                }
                let token = read_secret("token", source)?;
                let answer =
                    self.send::<()>(Method::GET, "auth/token/lookup-self", Some(&token), None).await?;
                let known: Known = answer.data()?;
                Ok(Lease::new(token, known.ttl, known.renewable, now))
            }
            Login::Kubernetes { mount, role, jwt } => self.log_in_with_jwt(mount, role, jwt, now).await,
        }
    }

    async fn log_in_with_jwt(
        &self,
        mount: &str,
        role: &str,
        jwt: &SecretSource,
        now: Timestamp,
    ) -> Result<Lease, KmsError> {
        #[derive(Serialize)]
        struct Asked<'a> {
            role: &'a str,
            jwt: &'a str,
        }
        let jwt = read_secret("JWT", jwt)?;
        let path = format!("auth/{mount}/login");
        let answer = self.send(Method::POST, &path, None, Some(&Asked { role, jwt: &jwt })).await?;
        Ok(answer.parse::<LoggedIn>()?.auth.lease(now))
    }

    /// The same token for longer; none where that is refused.
    async fn renew(&self, lease: &Lease, now: Timestamp) -> Option<Lease> {
        let path = "auth/token/renew-self";
        let asked = serde_json::json!({});
        let answer = self.send(Method::POST, path, Some(&lease.token), Some(&asked)).await;
        match answer.and_then(Answer::parse::<LoggedIn>) {
            Ok(renewed) => Some(renewed.auth.lease(now)),
            Err(error) => {
                tracing::warn!(%error, "the KMS did not renew the vault's token");
                None
            }
        }
    }

    async fn send<B: Serialize + Sync>(
        &self,
        method: Method,
        path: &str,
        token: Option<&str>,
        body: Option<&B>,
    ) -> Result<Answer, KmsError> {
        self.place.admit().map_err(|refused| outside(&refused))?;
        let mut request = self.http.request(method, format!("{}/{path}", self.base));
        if let Some(token) = token {
            let malformed = |_| KmsError::Unavailable("the token holds bytes that no header may".to_owned());
            let mut value = HeaderValue::from_str(token).map_err(malformed)?;
            value.set_sensitive(true);
            request = request.header("X-Vault-Token", value);
        }
        if let Some(body) = body {
            let json = serde_json::to_vec(body)
                .map_err(|error| KmsError::unavailable("the question has no JSON", &error))?;
            request = request.header(CONTENT_TYPE, "application/json").body(json);
        }
        let lost = |error: reqwest::Error| KmsError::unavailable("no answer", &error);
        let mut response = request.send().await.map_err(lost)?;
        let reached = response.remote_addr();
        let reached = reached.ok_or_else(|| KmsError::Unavailable("it answers from nowhere".to_owned()))?;
        self.place.admit_address(reached.ip()).map_err(|refused| outside(&refused))?;
        let status = response.status();
        let mut body = Zeroizing::new(Vec::with_capacity(MAX_ANSWER_BYTES));
        while let Some(chunk) = response.chunk().await.map_err(lost)? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                return Err(KmsError::Unavailable("the answer is too long".to_owned()));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Answer { status, body })
    }
}

fn outside(refused: &Refused) -> KmsError {
    KmsError::Unavailable(refused.to_string())
}

#[derive(Deserialize)]
struct LoggedIn {
    auth: Auth,
}

#[derive(Deserialize)]
struct Auth {
    client_token: String,
    lease_duration: u64,
    #[serde(default)]
    renewable: bool,
}

impl Auth {
    fn lease(self, now: Timestamp) -> Lease {
        Lease::new(Zeroizing::new(self.client_token), self.lease_duration, self.renewable, now)
    }
}
