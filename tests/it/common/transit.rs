//! A double of the transit protocol, as OpenBao and Vault speak it: the calls that the vault makes, over TLS, with their
//! checks of tokens, associated data and versions. It is no OpenBao.

use std::{
    collections::{BTreeMap, HashMap},
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicU32, Ordering},
    },
};

use aes_gcm::{
    Aes256Gcm,
    aead::{Aead as _, KeyInit as _, Payload},
};
use data_encoding::BASE64;
use sandyq::{crypto::random::SystemRng, domain::rng::random_bytes};
use serde_json::{Value, json};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    task::{JoinHandle, JoinSet},
};
use tokio_rustls::TlsAcceptor;

use super::https::{self, Request, acceptor};

/// The one JWT and role that it lets in.
pub const JWT: &str = "synthetic.service.account";
pub const ROLE: &str = "sandyq";

/// What the double knows.
#[derive(Default)]
pub struct Engine {
    pub keys: HashMap<String, TransitKey>,
    /// Lifetimes in seconds, by token; zero does not end.
    pub tokens: HashMap<String, u64>,
    logins: u32,
    renewals: u32,
    /// Answers every call so, with a body that nobody should see.
    pub fails_with: Option<&'static str>,
}

pub struct TransitKey {
    keys: BTreeMap<u64, [u8; 32]>,
    pub exportable: bool,
    min_available: u64,
    min_decryption: u64,
    pub min_encryption: u64,
}

/// A running double.
pub struct Double {
    engine: Arc<Mutex<Engine>>,
    acceptor: TlsAcceptor,
    connections: Arc<AtomicU32>,
    address: SocketAddr,
    authority: String,
    running: Option<JoinHandle<()>>,
}

impl Double {
    pub async fn start() -> Self {
        let (acceptor, authority) = acceptor("transit authority");
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let mut double = Self {
            engine: Arc::default(),
            acceptor,
            connections: Arc::default(),
            address: listener.local_addr().unwrap(),
            authority,
            running: None,
        };
        double.serve(listener);
        double
    }

    pub fn engine(&self) -> MutexGuard<'_, Engine> {
        self.engine.lock().unwrap()
    }

    /// How often somebody logged in, and how often a token was renewed.
    pub fn counts(&self) -> (u32, u32) {
        let engine = self.engine();
        (engine.logins, engine.renewals)
    }

    /// How often somebody connected.
    pub fn connections(&self) -> u32 {
        self.connections.load(Ordering::SeqCst)
    }

    pub fn address(&self) -> String {
        format!("https://{}", self.address)
    }

    /// Roots of its certificate, PEM.
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// A token that lives so many seconds.
    pub fn let_in(&self, token: &str, seconds: u64) {
        self.engine().tokens.insert(token.to_owned(), seconds);
    }

    fn serve(&mut self, listener: TcpListener) {
        let (engine, acceptor) = (Arc::clone(&self.engine), self.acceptor.clone());
        let connections = Arc::clone(&self.connections);
        self.running = Some(tokio::spawn(async move {
            let mut calls = JoinSet::new();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                connections.fetch_add(1, Ordering::SeqCst);
                let (engine, acceptor) = (Arc::clone(&engine), acceptor.clone());
                calls.spawn(async move {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        answer(stream, &engine).await;
                    }
                });
            }
        }));
    }

    /// Goes away, with every connection.
    pub async fn stop(&mut self) {
        let running = self.running.take().unwrap();
        running.abort();
        assert!(running.await.unwrap_err().is_cancelled());
    }

    /// Comes back with all that it knew.
    pub async fn start_again(&mut self) {
        self.serve(TcpListener::bind(self.address).await.unwrap());
    }
}

/// Answers one call of a connection, and closes it.
async fn answer(mut stream: impl AsyncRead + AsyncWrite + Unpin, engine: &Mutex<Engine>) {
    let Some(request) = Request::read(&mut stream).await else { return };
    let ((method, path), token) = (request.line(), request.header("x-vault-token"));
    let body = serde_json::from_slice(&request.body).unwrap_or(Value::Null);
    let (status, answer) = engine.lock().unwrap().answer(&method, &path, token.as_deref(), &body);
    let elsewhere = "location: https://elsewhere.example.kz/\r\n";
    https::answer(stream, status, elsewhere, answer.to_string().as_bytes()).await;
}

type Reply = (&'static str, Value);

fn refused(why: &str) -> Reply {
    ("400 Bad Request", json!({ "errors": [why] }))
}

fn done(data: &Value) -> Reply {
    ("200 OK", json!({ "data": data }))
}

fn random() -> [u8; 32] {
    random_bytes(&SystemRng::new()).unwrap()
}

impl Engine {
    fn answer(&mut self, method: &str, path: &str, token: Option<&str>, body: &Value) -> Reply {
        if let Some(status) = self.fails_with {
            return (status, json!({ "errors": ["secret words of the server"] }));
        }
        let parts: Vec<_> = path.split('/').skip(2).collect();
        if (method, parts.as_slice()) == ("POST", &["auth", "kubernetes", "login"]) {
            if (body["jwt"].as_str(), body["role"].as_str()) != (Some(JWT), Some(ROLE)) {
                return ("403 Forbidden", json!({ "errors": ["permission denied"] }));
            }
            self.logins += 1;
            let token = format!("s.login-{}", self.logins);
            self.tokens.insert(token.clone(), 3600);
            return ("200 OK", auth(&token, 3600));
        }
        let Some(seconds) = token.and_then(|token| self.tokens.get(token)).copied() else {
            return ("403 Forbidden", json!({ "errors": ["permission denied"] }));
        };
        match (method, parts.as_slice()) {
            ("GET", ["auth", "token", "lookup-self"]) => {
                done(&json!({ "ttl": seconds, "renewable": seconds > 0 }))
            }
            ("POST", ["auth", "token", "renew-self"]) => {
                self.renewals += 1;
                ("200 OK", auth(token.unwrap(), seconds))
            }
            ("POST", ["transit", "keys", name]) => self.create(name, body),
            (method, ["transit", "keys", name, rest @ ..]) => match self.keys.get_mut(*name) {
                None => ("404 Not Found", json!({ "errors": [] })),
                Some(key) => key.manage(method, rest, body),
            },
            ("POST", ["transit", action, name]) => match self.keys.get(*name) {
                None => refused("encryption key not found"),
                Some(key) => key.seal(action, body).unwrap_or_else(refused),
            },
            _ => ("404 Not Found", json!({ "errors": [] })),
        }
    }

    fn create(&mut self, name: &str, body: &Value) -> Reply {
        assert_eq!((&body["type"], &body["exportable"]), (&json!("aes256-gcm96"), &json!(false)));
        self.keys.entry(name.to_owned()).or_insert_with(|| TransitKey {
            keys: BTreeMap::from([(1, random())]),
            exportable: false,
            min_available: 0,
            min_decryption: 1,
            min_encryption: 0,
        });
        done(&Value::Null)
    }
}

fn auth(token: &str, seconds: u64) -> Value {
    json!({ "auth": { "client_token": token, "lease_duration": seconds, "renewable": true } })
}

impl TransitKey {
    fn latest(&self) -> u64 {
        *self.keys.last_key_value().unwrap().0
    }

    fn manage(&mut self, method: &str, action: &[&str], body: &Value) -> Reply {
        match (method, action) {
            ("GET", []) => done(&json!({
                "type": "aes256-gcm96", "latest_version": self.latest(), "exportable": self.exportable,
                "min_available_version": self.min_available, "derived": false,
                "min_decryption_version": self.min_decryption, "min_encryption_version": self.min_encryption,
                "allow_plaintext_backup": false, "keys": {},
            })),
            ("POST", ["rotate"]) => {
                self.keys.insert(self.latest() + 1, random());
                done(&Value::Null)
            }
            ("POST", ["config"]) => {
                let wanted = |key: &str, present| body[key].as_u64().unwrap_or(present);
                let decryption = wanted("min_decryption_version", self.min_decryption);
                let encryption = wanted("min_encryption_version", self.min_encryption);
                if decryption.max(encryption) > self.latest() || (encryption > 0 && encryption < decryption) {
                    return refused("cannot set min versions");
                }
                (self.min_decryption, self.min_encryption) = (decryption, encryption);
                done(&Value::Null)
            }
            ("POST", ["trim"]) => {
                let available = body["min_available_version"].as_u64().unwrap();
                if self.min_encryption == 0
                    || available < self.min_available
                    || available > self.min_encryption.min(self.min_decryption)
                {
                    return refused("minimum available version cannot be greater than the other minima");
                }
                self.min_available = available;
                self.keys.retain(|version, _| *version >= available);
                done(&Value::Null)
            }
            _ => ("404 Not Found", json!({ "errors": [] })),
        }
    }

    fn seal(&self, action: &str, body: &Value) -> Result<Reply, &'static str> {
        let bytes = |key: &str| BASE64.decode(body[key].as_str().unwrap().as_bytes()).unwrap();
        let aad = bytes("associated_data");
        if aad.is_empty() {
            return Err("every wrap is bound to its place");
        }
        if action == "encrypt" {
            let version = body["key_version"].as_u64().ok_or("the vault names its version")?;
            if version < self.min_encryption {
                return Err(
                    "requested version for encryption is less than the minimum encryption key version",
                );
            }
            let cipher = Aes256Gcm::new(self.keys.get(&version).ok_or("no such version")?.into());
            let nonce: [u8; 12] = random()[..12].try_into().unwrap();
            let sealed =
                cipher.encrypt((&nonce).into(), Payload { msg: &bytes("plaintext"), aad: &aad }).unwrap();
            let text = BASE64.encode(&[&nonce, sealed.as_slice()].concat());
            return Ok(done(
                &json!({ "ciphertext": format!("vault:v{version}:{text}"), "key_version": version }),
            ));
        }
        let text =
            body["ciphertext"].as_str().unwrap().strip_prefix("vault:v").ok_or("invalid ciphertext")?;
        let (version, text) = text.split_once(':').ok_or("invalid ciphertext")?;
        let version: u64 = version.parse().map_err(|_| "invalid version")?;
        if version < self.min_decryption {
            return Err("ciphertext or signature version is disallowed by policy (too old)");
        }
        let cipher = Aes256Gcm::new(self.keys.get(&version).ok_or("version is too new")?.into());
        let bytes = BASE64.decode(text.as_bytes()).map_err(|_| "invalid base64")?;
        let (nonce, sealed) = bytes.split_first_chunk::<12>().ok_or("too short")?;
        let opened = cipher.decrypt(nonce.into(), Payload { msg: sealed, aad: &aad });
        let opened = opened.map_err(|_| "cipher: message authentication failed")?;
        Ok(done(&json!({ "plaintext": BASE64.encode(&opened) })))
    }
}
