//! Clocks that are ten years off, in both directions: nothing that has ended is accepted, nothing is rotated again and again,
//! nothing is destroyed, and the log stays in its order. A clock that differs from the database's is in `audit_order.rs`.

use std::{sync::Arc, time::Duration};

use rcgen::{
    BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType, date_time_ymd,
};
use sandyq::{
    audit::entry::Entry,
    crypto::kms::local::LocalKms,
    domain::{operation::OperationState, token::TokenMode},
    grpc::pb::{self, vault_service_client::VaultServiceClient},
    policy::decide::Denial,
    store::Store,
    vault::{
        VaultOptions,
        error::VaultError,
        keys::{KeyKind, KeyState, WhichKey},
        subjects::SubjectName,
        tokenize::{NewValue, NewValues, Tokenized},
    },
};
use tonic::transport::Identity;

use crate::common::{
    backend::{Backend, on_both},
    metrics::{samples, scrape},
    operations::{operation, work_through},
    served::Served,
    vault::{OpenVault, PLATFORM, as_admin, asker, person, settings},
};

const HOUR: i64 = 60 * 60 * 1_000_000;
const DECADE: i64 = 3_653 * 24 * HOUR;

/// A vault whose keys are rotated each quarter, and its store.
async fn opened(backend: &Backend, dir: &std::path::Path) -> (OpenVault, Arc<dyn Store>) {
    let made = OpenVault::create(backend, dir, |store| store).await;
    made.vault.close().await;
    drop(made);
    let kms = Arc::new(LocalKms::open(&dir.join("root"), &dir.join("unseal")).unwrap());
    let options =
        VaultOptions { rotate_every: Some(Duration::from_hours(24 * 90)), ..VaultOptions::default() };
    let store = backend.store(dir).await;
    let open = OpenVault::over(Arc::clone(&store), kms, None, options).await.unwrap();
    (OpenVault { vault: open.vault.with_settings(settings()), ..open }, store)
}

/// Somebody whose consent ends in an hour, and somebody whose token does.
async fn ending(open: &OpenVault) -> [Tokenized; 2] {
    let end = Some(open.clock.now().plus_micros(HOUR));
    let by_token = person(2, None);
    let field = by_token.fields.into_iter().next().unwrap();
    let field = NewValue { mode: TokenMode::Expiring, expires_at: end, ..field };
    let by_token = NewValues { fields: vec![field], ..person(2, None) };
    [open.tokenize(person(1, end)).await.unwrap(), open.tokenize(by_token).await.unwrap()]
}

async fn read(open: &OpenVault, stored: &Tokenized) -> Result<(), VaultError> {
    open.detokenize(&stored.tokens[0].token).await.map(drop)
}

async fn have_ended(open: &OpenVault, [by_consent, by_token]: &[Tokenized; 2]) {
    assert_eq!(read(open, by_consent).await, Err(Denial::ConsentExpired.into()));
    assert_eq!(read(open, by_token).await, Err(Denial::TokenExpired.into()));
}

/// What the server does by itself, some times over, while callers go on asking.
async fn live_on(open: &OpenVault, asked: &Tokenized) {
    for _ in 0..3 {
        let _either = read(open, asked).await;
        open.vault.begin_daily_sweeps().await.unwrap();
        work_through(open).await;
        open.vault.end_expired_proposals().await.unwrap();
    }
}

async fn platform_keys(open: &OpenVault) -> Vec<(u32, KeyState)> {
    let usages = open.vault.key_usage(&open.admin(), as_admin(), "lerna").await.unwrap();
    let platform = usages.into_iter().filter(|usage| usage.kind == KeyKind::Platform);
    platform.map(|usage| (usage.version, usage.state)).collect()
}

/// Times in the log never go back.
async fn log_is_in_order(store: &Arc<dyn Store>) {
    let entries = store.entries(PLATFORM, 0, u32::MAX).await.unwrap();
    let times: Vec<_> = entries.iter().map(|row| Entry::decode(&row.entry).unwrap().time).collect();
    assert!(times.len() > 10 && times.is_sorted(), "{times:?}");
}

on_both!(ten_years_ahead_nothing_is_destroyed_and_no_key_rotated);
async fn ten_years_ahead_nothing_is_destroyed_and_no_key_rotated(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let (open, store) = opened(&backend, dir.path()).await;
    let kept = open.store_iin(4).await;
    // A plain day goes by, and its sweep.
    for _ in 0..2 {
        open.clock.advance(13 * HOUR);
        read(&open, &kept).await.unwrap();
    }
    assert_eq!(open.vault.begin_daily_sweeps().await.unwrap(), 1);
    work_through(&open).await;

    // What waits for its time: an old key, and an erased person.
    let admin = open.admin();
    open.vault.rotate_key(&admin, as_admin(), "lerna", KeyKind::Platform, 0).await.unwrap();
    work_through(&open).await;
    let old = WhichKey { kind: KeyKind::Platform, version: 1 };
    let in_days = open.clock.now().plus_micros(49 * HOUR);
    open.vault.schedule_key_destruction(&admin, as_admin(), "lerna", old, in_days).await.unwrap();
    open.store_iin(3).await;
    let name = SubjectName::Reference("user-3".into());
    let caller = open.caller("backend");
    let erased = open.vault.erase_subject(&caller, asker("backend"), "", name, None).await;
    let erasure = erased.unwrap().operation;
    let ends = ending(&open).await;
    let keys = [(1, KeyState::DestructionScheduled), (2, KeyState::Active)];
    assert_eq!(platform_keys(&open).await, keys);

    open.clock.advance(DECADE);
    have_ended(&open, &ends).await;
    live_on(&open, &kept).await;
    assert_eq!(operation(&open, erasure).await.state, OperationState::Waiting);
    // An officer looked, which is no word that the time is right either.
    live_on(&open, &kept).await;
    assert_eq!(platform_keys(&open).await, keys, "neither destroyed nor rotated");
    for sql in [
        "UPDATE subjects SET state = state WHERE wrapped_key IS NULL",
        "UPDATE key_versions SET state = state WHERE wrapped IS NULL",
    ] {
        assert_eq!(backend.sql(dir.path(), sql).await, 0, "{sql}");
    }

    // The clock is put right: what had ended by then is not accepted, and the log goes on where it is.
    open.clock.advance(-DECADE);
    have_ended(&open, &ends).await;
    live_on(&open, &kept).await;
    assert_eq!(platform_keys(&open).await, keys);
    log_is_in_order(&store).await;

    // Where the time is right after all, an officer's sweep says so.
    open.clock.advance(DECADE);
    open.vault.sweep_retention(&admin, as_admin(), "lerna", 0).await.unwrap();
    work_through(&open).await;
    open.vault.work().await.unwrap();
    assert_eq!(operation(&open, erasure).await.state, OperationState::Done);
    open.vault.close().await;
}

on_both!(ten_years_behind_nothing_that_ended_comes_back);
async fn ten_years_behind_nothing_that_ended_comes_back(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let (open, store) = opened(&backend, dir.path()).await;
    let (kept, ends) = (open.store_iin(4).await, ending(&open).await);
    assert_eq!((read(&open, &ends[0]).await, read(&open, &ends[1]).await), (Ok(()), Ok(())));
    open.clock.advance(2 * HOUR);
    have_ended(&open, &ends).await;
    let keys = platform_keys(&open).await;

    open.clock.advance(-DECADE);
    have_ended(&open, &ends).await;
    read(&open, &kept).await.unwrap();
    live_on(&open, &kept).await;
    // By its own clock this process knows of no policy yet, and takes nothing in.
    let new = open.tokenize(person(5, None)).await.err();
    assert_eq!(new, Some(Denial::CallerNotAllowed.into()));
    assert_eq!(platform_keys(&open).await, keys);
    log_is_in_order(&store).await;
    open.clock.advance(DECADE);
    read(&open, &kept).await.unwrap();
    have_ended(&open, &ends).await;
    log_is_in_order(&store).await;
    open.vault.close().await;
}

/// A certificate of the payments service with these dates.
fn dated(issuer: &Issuer<'_, KeyPair>, from: i32, until: i32) -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    let uri = "spiffe://lerna.example.kz/payments".try_into().unwrap();
    params.subject_alt_names.push(SanType::URI(uri));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    (params.not_before, params.not_after) = (date_time_ymd(from, 1, 1), date_time_ymd(until, 1, 1));
    Identity::from_pem(params.signed_by(&key, issuer).unwrap().pem(), key.serialize_pem())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_outside_its_dates_gets_no_handshake() {
    let key = KeyPair::generate().unwrap();
    let mut params = CertificateParams::new(Vec::new()).unwrap();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.not_after = date_time_ymd(2095, 6, 1);
    let ends = params.not_after.unix_timestamp();
    let root = params.self_signed(&key).unwrap().pem();
    let issuer = Issuer::new(params, key);
    let served = Served::start_files(&Backend::Sqlite, |files| {
        std::fs::write(files.join("platform-authority.pem"), &root).unwrap();
    })
    .await;
    let whoami = async |identity| {
        let channel = served.connect(Some(identity)).await.ok()?;
        let answer = VaultServiceClient::new(channel).who_am_i(pb::WhoAmIRequest {}).await.ok()?;
        Some(answer.into_inner().caller)
    };
    assert_eq!(whoami(dated(&issuer, 2020, 2090)).await.as_deref(), Some("payments"));
    for (from, until) in [(2010, 2020), (2090, 2099)] {
        assert_eq!(whoami(dated(&issuer, from, until)).await, None, "{from} to {until}");
    }
    // The first root that ends is told long before.
    let told = samples(&scrape(served.running.health.unwrap()).await);
    let told = &told["sandyq_certificate_expires_timestamp_seconds{of=\"AUTHORITY\"}"];
    assert_eq!(told.parse::<f64>().unwrap().to_string(), ends.to_string());
    served.running.stop().await.unwrap();
}
