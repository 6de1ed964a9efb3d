//! An open vault without a server, over a store that a test may stand in front of.

use std::{path::Path, sync::Arc};

use sandyq::{
    blobs::mirror::Mirror,
    crypto::{kms::local::LocalKms, random::SystemRng},
    domain::{
        caller::{Caller, Role},
        consent::ConsentTerms,
        ids::PlatformId,
        names::SpiffeId,
        secret::Plaintext,
        subject::ValueSource,
        time::{Clock, Timestamp},
        token::{AnyToken, TokenMode},
    },
    policy::model::View,
    store::Store,
    vault::{
        Vault,
        access::Call,
        act::Asker,
        consent::NewConsent,
        context::LoadError,
        detokenize::{Detokenize, Released},
        enrol::DeclaredCaller,
        error::VaultError,
        install::create_installation,
        tokenize::{NewValue, NewValues, Tokenized},
    },
};

use super::backend::Backend;

pub const POLICY: &str = include_str!("../../../policies/lerna.toml");
pub const PLATFORM: PlatformId = PlatformId::new(1);

pub struct OpenVault {
    pub vault: Vault,
    pub clock: Arc<Clock>,
}

impl OpenVault {
    /// A new installation in `dir`; `front` may put something before the store.
    pub async fn create(
        backend: &Backend,
        dir: &Path,
        front: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
    ) -> Self {
        Self::create_mirrored(backend, dir, None, front).await
    }

    /// The same with a mirror.
    pub async fn create_mirrored(
        backend: &Backend,
        dir: &Path,
        mirror: Option<Mirror>,
        front: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
    ) -> Self {
        sandyq::telemetry::start(sandyq::telemetry::LogFormat::Text, "error");
        let (rng, clock) = (Arc::new(SystemRng::new()), Arc::new(Clock::default()));
        let kms = Arc::new(LocalKms::create(&dir.join("root"), &dir.join("unseal"), rng.as_ref()).unwrap());
        let store = backend.store(dir).await;
        let now = clock.now();
        create_installation(store.as_ref(), kms.as_ref(), "vault.example.kz", now, rng.as_ref())
            .await
            .unwrap();
        let vault = Vault::open(front(store), kms, Arc::clone(&clock), rng, mirror).await.unwrap();
        assert_eq!(vault.create_platform("lerna".parse().unwrap()).await.unwrap(), PLATFORM);
        vault.take_over(PLATFORM, Some(POLICY), &callers()).await.unwrap();
        Self { vault, clock }
    }

    /// One more vault over the same database and keys.
    pub async fn open(backend: &Backend, dir: &Path, mirror: Option<Mirror>) -> Result<Self, LoadError> {
        let (rng, clock) = (Arc::new(SystemRng::new()), Arc::new(Clock::default()));
        let kms = Arc::new(LocalKms::open(&dir.join("root"), &dir.join("unseal")).unwrap());
        let vault = Vault::open(backend.store(dir).await, kms, Arc::clone(&clock), rng, mirror).await?;
        Ok(Self { vault, clock })
    }

    pub fn caller(&self, name: &str) -> Arc<Caller> {
        self.vault.caller(&spiffe(name)).unwrap()
    }

    pub async fn tokenize(&self, values: NewValues) -> Result<Tokenized, VaultError> {
        let caller = self.caller("backend");
        let answers = self.vault.tokenize(&caller, asker("backend"), Call::Tokenize, vec![values]).await;
        answers?.pop().unwrap()
    }

    /// Stores an IIN with a consent to `payments`, and answers its token.
    pub async fn store_iin(&self, number: u32) -> Tokenized {
        self.tokenize(person(number, None)).await.unwrap()
    }

    pub async fn detokenize(&self, token: &AnyToken) -> Result<Released, VaultError> {
        let token = AnyToken::parse(&token.reveal());
        let question = Detokenize {
            tokens: vec![token],
            purpose: "payments".parse().unwrap(),
            view: View::Full,
            age_years: 0,
            recipient: None,
            reference: None,
            sealed: false,
            call: Call::Detokenize,
        };
        let answers = self.vault.detokenize(&self.caller("payments"), asker("payments"), question).await;
        answers?.pop().unwrap()
    }
}

pub fn callers() -> Vec<DeclaredCaller> {
    ["backend", "payments", "support"]
        .map(|name| DeclaredCaller {
            spiffe_id: spiffe(name),
            name: name.parse().unwrap(),
            roles: vec![Role::Service],
        })
        .to_vec()
}

pub fn spiffe(name: &str) -> SpiffeId {
    format!("spiffe://lerna.example.kz/{name}").parse().unwrap()
}

pub fn asker(name: &str) -> Asker {
    Asker { spiffe_id: spiffe(name), request: None }
}

/// An IIN and a consent to `payments`.
pub fn person(number: u32, expires_at: Option<Timestamp>) -> NewValues {
    NewValues {
        subject_reference: format!("user-{number}"),
        subject_kind: None,
        fields: vec![NewValue {
            field: "iin".parse().unwrap(),
            value: Plaintext::new(super::people::iin(number)),
            mode: TokenMode::Random,
            expires_at: None,
            source: ValueSource::Subject,
        }],
        consents: vec![consent(expires_at)],
    }
}

pub fn consent(expires_at: Option<Timestamp>) -> NewConsent {
    let terms = ConsentTerms {
        purpose: "payments".parse().unwrap(),
        fields: vec!["iin".parse().unwrap()],
        act: "tick".parse().unwrap(),
        given_at: Timestamp::from_micros(1_790_000_000_000_000),
        expires_at,
        third_party_transfer: true,
        cross_border_transfer: false,
        publication: false,
        policy_version: 1,
        language: "ru".parse().unwrap(),
        text_sha256: [7; 32],
        site: "skillbox.kz".parse().unwrap(),
    };
    NewConsent { terms, subject_name: Plaintext::new("Сынақова Әлия".into()) }
}
