//! An open vault without a server, over a store that a test may stand in front of.

use std::{path::Path, sync::Arc};

use sandyq::{
    blobs::mirror::Mirror,
    crypto::{
        kms::{Kms, local::LocalKms},
        random::SystemRng,
    },
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
    policy::model::{Policy, View},
    store::Store,
    vault::{
        Vault, VaultOptions,
        access::Call,
        act::Asker,
        callers::{CallerTerms, NewCaller},
        consent::NewConsent,
        context::LoadError,
        detokenize::{Detokenize, Released},
        error::VaultError,
        install::create_installation,
        officers::Officer,
        policies::Applied,
        settings::{Settings, TrustDomain},
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
        let (root, unseal) = (dir.join("root"), dir.join("unseal"));
        let kms = Arc::new(LocalKms::create(&root, &unseal, &SystemRng::new()).unwrap());
        Self::create_under(backend, dir, kms, mirror, front).await
    }

    /// The same with its root in this KMS.
    pub async fn create_under(
        backend: &Backend,
        dir: &Path,
        kms: Arc<dyn Kms>,
        mirror: Option<Mirror>,
        front: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
    ) -> Self {
        sandyq::telemetry::start(sandyq::telemetry::LogFormat::Text, "error");
        let (rng, clock) = (Arc::new(SystemRng::new()), Arc::new(Clock::default()));
        let store = backend.store(dir).await;
        let now = clock.now();
        create_installation(store.as_ref(), kms.as_ref(), "vault.example.kz", now, rng.as_ref())
            .await
            .unwrap();
        let vault = Vault::open(front(store), kms, Arc::clone(&clock), rng, mirror).await.unwrap();
        let vault = vault.with_settings(settings());
        provision(&vault).await;
        Self { vault, clock }
    }

    /// One more vault over the same database and keys.
    pub async fn open(backend: &Backend, dir: &Path, mirror: Option<Mirror>) -> Result<Self, LoadError> {
        let kms = Arc::new(LocalKms::open(&dir.join("root"), &dir.join("unseal")).unwrap());
        Self::open_under(backend, dir, kms, mirror).await
    }

    /// The same with its root in this KMS.
    pub async fn open_under(
        backend: &Backend,
        dir: &Path,
        kms: Arc<dyn Kms>,
        mirror: Option<Mirror>,
    ) -> Result<Self, LoadError> {
        Self::open_with(backend, dir, kms, mirror, VaultOptions::default()).await
    }

    /// The same with choices of the operator.
    pub async fn open_with(
        backend: &Backend,
        dir: &Path,
        kms: Arc<dyn Kms>,
        mirror: Option<Mirror>,
        options: VaultOptions,
    ) -> Result<Self, LoadError> {
        Self::over(backend.store(dir).await, kms, mirror, options).await
    }

    /// The same on a store that is open already.
    pub async fn over(
        store: Arc<dyn Store>,
        kms: Arc<dyn Kms>,
        mirror: Option<Mirror>,
        options: VaultOptions,
    ) -> Result<Self, LoadError> {
        let (rng, clock) = (Arc::new(SystemRng::new()), Arc::new(Clock::default()));
        let vault = Vault::open_with(store, kms, Arc::clone(&clock), rng, mirror, options).await?;
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

    /// The officer, who has every role but the auditor's.
    pub fn admin(&self) -> Arc<Caller> {
        self.vault.caller(&staff("admin")).unwrap()
    }

    /// A machine that reads every log.
    pub async fn enrol_auditor(&self) {
        let terms =
            CallerTerms { name: "auditor".parse().unwrap(), roles: vec![Role::Auditor], pins: Vec::new() };
        let new = NewCaller { spiffe_id: staff("auditor"), terms, person: None };
        self.vault.enrol_caller(&self.admin(), as_admin(), "vault", new).await.unwrap();
    }

    pub async fn disable(&self, caller: &str) {
        let id = self.caller(caller).id;
        self.vault.disable_caller(&self.admin(), as_admin(), id).await.unwrap();
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
            outreach: None,
            reference: None,
            sealed: false,
            call: Call::Detokenize,
        };
        let answers = self.vault.detokenize(&self.caller("payments"), asker("payments"), question).await;
        answers?.pop().unwrap()
    }
}

/// The trust domains of [`sandyq::cli::local`].
pub fn settings() -> Settings {
    let domain = |name: &str, staff| TrustDomain { name: name.into(), staff };
    let domains = vec![domain("lerna.example.kz", false), domain("vault.example.kz", true)];
    Settings { domains, ..Settings::default() }
}

/// An officer, and by the officer the platform with its policy and callers.
async fn provision(vault: &Vault) {
    let officer = Officer {
        handle: "admin".parse().unwrap(),
        spiffe_id: staff("admin"),
        roles: vec![Role::PlatformAdmin, Role::SecurityOfficer, Role::DataProtection],
    };
    assert!(vault.enrol_officers(vec![officer]).await.unwrap());
    let admin = vault.caller(&staff("admin")).unwrap();
    let operator = Policy::parse(POLICY).unwrap().operator;
    let made = vault
        .create_platform(&admin, as_admin(), operator.name, operator.legal_name, operator.bin)
        .await
        .unwrap();
    assert_eq!(made.id, PLATFORM);
    let applied = vault.apply_policy(&admin, as_admin(), POLICY.into(), false).await.unwrap();
    assert!(matches!(applied, Applied::Version(_)), "{applied:?}");
    for name in ["backend", "payments", "support"] {
        let terms = CallerTerms { name: name.parse().unwrap(), roles: vec![Role::Service], pins: Vec::new() };
        let new = NewCaller { spiffe_id: spiffe(name), terms, person: None };
        vault.enrol_caller(&admin, as_admin(), "lerna", new).await.unwrap();
    }
}

/// A member of the staff.
pub fn staff(name: &str) -> SpiffeId {
    format!("spiffe://vault.example.kz/{name}").parse().unwrap()
}

pub fn as_admin() -> Asker {
    Asker { spiffe_id: staff("admin"), key: [0; 32], request: None }
}

pub fn spiffe(name: &str) -> SpiffeId {
    format!("spiffe://lerna.example.kz/{name}").parse().unwrap()
}

pub fn asker(name: &str) -> Asker {
    Asker { spiffe_id: spiffe(name), key: [0; 32], request: None }
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
            source_reference: None,
        }],
        consents: vec![consent(expires_at)],
        keep_held_consents: false,
    }
}

pub fn consent(expires_at: Option<Timestamp>) -> NewConsent {
    let terms = ConsentTerms {
        purpose: "payments".parse().unwrap(),
        fields: vec!["iin".parse().unwrap()],
        outreach: None,
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
