//! The vault and its mirror: what is acknowledged is mirrored, a dead mirror stops no read, and a database that was put
//! back to an older state is not served.

use std::{fs, path::Path, sync::Arc, time::Duration};

use sandyq::{
    audit::{
        entry::Entry,
        head::HeadVerifier,
        mirror::{Claim, MirrorVerifier, Mirrored},
    },
    blobs::mirror::{Mirror, MirrorReader},
    crypto::random::SystemRng,
    domain::{
        caller::Caller,
        ids::{ConsentId, RequestId},
        names::PlatformName,
        token::AnyToken,
    },
    policy::{decide::Denial, model::View},
    store::Store,
    vault::{
        act::Asker,
        context::LoadError,
        detokenize::Detokenize,
        error::VaultError,
        replay::{Asked, Part},
        tokenize::Tokenized,
    },
};

use crate::common::{
    backend::{Backend, on_both},
    vault::{OpenVault, PLATFORM, asker},
};

const PATIENT: Duration = Duration::from_mins(1);

fn mirror(dir: &Path, replica: &str) -> Mirror {
    Mirror::directory(&dir.join("mirror"), replica.parse().unwrap(), PATIENT).unwrap()
}

/// A new mirrored vault, and its store.
async fn create(backend: &Backend, dir: &Path) -> (OpenVault, Arc<dyn Store>) {
    let mut kept = None;
    let keep = |store: Arc<dyn Store>| Arc::clone(kept.insert(store));
    let open = OpenVault::create_mirrored(backend, dir, Some(mirror(dir, "a")), keep).await;
    (open, kept.unwrap())
}

async fn reopen(backend: &Backend, dir: &Path) -> Result<OpenVault, LoadError> {
    OpenVault::open(backend, dir, Some(mirror(dir, "a"))).await
}

/// The mirrored log of a platform, verified.
async fn mirrored(dir: &Path, key: &str, platform: &str) -> Mirrored {
    let platform: PlatformName = platform.parse().unwrap();
    let reader = MirrorReader::directory(&dir.join("mirror"), PATIENT).unwrap();
    let heads = reader.heads(&platform).await.unwrap();
    let segments = reader.segments(&platform).await.unwrap().found;
    let claims = segments.into_iter().map(|name| Claim { from: name.from, size: name.size, name }).collect();
    let trusted = HeadVerifier::new(key).unwrap();
    let mut verifier = MirrorVerifier::new(trusted, &format!("vault.example.kz/{platform}"), claims);
    for head in heads.found {
        verifier.head(head.replica.as_str(), &head.checkpoint);
    }
    while let Some(claim) = verifier.next_claim() {
        let bytes = reader.read_segment(&claim.name).await.unwrap();
        verifier.segment(&claim, &bytes);
    }
    let mirrored = verifier.finish();
    assert!(mirrored.report.holds(), "{:?}", mirrored.report.findings);
    mirrored
}

async fn entries(store: &Arc<dyn Store>) -> Vec<Entry> {
    let rows = store.entries(PLATFORM, 0, u32::MAX).await.unwrap();
    rows.iter().map(|row| Entry::decode(&row.entry).unwrap()).collect()
}

/// Closes the vault: then the mirror holds the whole log of the database, and nothing else.
async fn close_and_compare(backend: &Backend, dir: &Path, open: OpenVault) {
    open.vault.close().await;
    let key = open.vault.verifier_key();
    drop(open);
    let store = backend.store(dir).await;
    for platform in store.installation().await.unwrap().unwrap().platforms {
        let (id, name) = (platform.id, platform.name);
        let head = store.tree(id).await.unwrap().head;
        let mirrored = mirrored(dir, &key, name.as_str()).await;
        assert_eq!(mirrored.report.size, head.counters.size);
        assert_eq!(mirrored.roots[&head.counters.size].0, head.root);
    }
    store.close().await;
}

fn asked(open: &OpenVault, caller: &Caller) -> Asker {
    let id = RequestId::new(open.clock.now(), &SystemRng::new()).unwrap();
    let body_mac = open.vault.body_mac(caller, b"the same body").unwrap();
    Asker { request: Some(Asked { id, body_mac, part: Part::Alone }), ..asker("backend") }
}

async fn withdraw(open: &OpenVault, asker: &Asker, consent: ConsentId) -> Result<(), VaultError> {
    let caller = open.caller("backend");
    open.vault.withdraw_consent(&caller, asker.clone(), "", consent).await.map(drop)
}

on_both!(a_withdrawal_is_mirrored_before_it_is_acknowledged);
async fn a_withdrawal_is_mirrored_before_it_is_acknowledged(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let (open, store) = create(&backend, dir.path()).await;
    let (first, second) = (open.store_iin(1).await, open.store_iin(2).await);
    let backend_caller = open.caller("backend");
    withdraw(&open, &asked(&open, &backend_caller), first.consents[0]).await.unwrap();
    // Nobody waits here: the answer came after the mirror.
    let size = u64::try_from(entries(&store).await.len()).unwrap();
    assert_eq!(mirrored(dir.path(), &open.vault.verifier_key(), "lerna").await.report.size, size);

    // A disk that went away: reads go on, and so does the withdrawal, but for its acknowledgement.
    let (root, away) = (dir.path().join("mirror"), dir.path().join("away"));
    fs::rename(&root, &away).unwrap();
    let request = asked(&open, &backend_caller);
    assert!(open.detokenize(&second.tokens[0].token).await.is_ok());
    assert_eq!(withdraw(&open, &request, second.consents[0]).await, Err(VaultError::MirrorBehind));
    let refused = open.detokenize(&second.tokens[0].token).await.err();
    assert_eq!(refused, Some(VaultError::Denied(Denial::ConsentWithdrawn)), "it binds all the same");
    let third = open.store_iin(3).await;
    assert!(open.detokenize(&third.tokens[0].token).await.is_ok());

    fs::rename(&away, &root).unwrap();
    assert_eq!(withdraw(&open, &request, second.consents[0]).await, Ok(()));
    let log = entries(&store).await;
    let id = *request.request.unwrap().id.as_bytes();
    let of: Vec<_> = log.iter().filter(|entry| entry.request.is_some_and(|request| *request == id)).collect();
    assert_eq!(of.len(), 2, "one decision and one replay");
    assert_eq!((of[0].replay_of, of[1].replay_of), (None, Some(of[0].id)));
    drop(store);
    close_and_compare(&backend, dir.path(), open).await;
}

on_both!(closing_mirrors_what_is_left);
async fn closing_mirrors_what_is_left(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let (open, _) = create(&backend, dir.path()).await;
    for number in 0..20 {
        let stored = open.store_iin(number).await;
        assert!(open.detokenize(&stored.tokens[0].token).await.is_ok());
    }
    close_and_compare(&backend, dir.path(), open).await;

    // Another start goes on where the mirror stands.
    let open = reopen(&backend, dir.path()).await.unwrap();
    open.store_iin(20).await;
    close_and_compare(&backend, dir.path(), open).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_share_one_mirror() {
    let (backend, dir) = (Backend::postgres().await, tempfile::tempdir().unwrap());
    let (one, _) = create(&backend, dir.path()).await;
    let two = OpenVault::open(&backend, dir.path(), Some(mirror(dir.path(), "b"))).await.unwrap();
    let caller = one.caller("backend");
    let tell = async |open: &OpenVault, from: u32| {
        for number in from..from + 10 {
            let stored = open.store_iin(number).await;
            assert!(open.detokenize(&stored.tokens[0].token).await.is_ok());
            withdraw(open, &asked(open, &caller), stored.consents[0]).await.unwrap();
        }
    };
    tokio::join!(tell(&one, 0), tell(&two, 100));
    one.vault.close().await;
    close_and_compare(&backend, dir.path(), two).await;
}

/// Keeps the rows of the log as they are now.
async fn save(backend: &Backend, dir: &Path) {
    for sql in [
        "CREATE TABLE saved_heads AS SELECT * FROM heads",
        "CREATE TABLE saved_tiles AS SELECT * FROM audit_tiles",
    ] {
        backend.sql(dir, sql).await;
    }
}

/// Puts the platform's log back to what was saved.
async fn put_back(backend: &Backend, dir: &Path) {
    for sql in [
        "DELETE FROM heads WHERE platform_id = 1",
        "INSERT INTO heads SELECT * FROM saved_heads WHERE platform_id = 1",
        "DELETE FROM audit_entries WHERE platform_id = 1 \
         AND position >= (SELECT size FROM saved_heads WHERE platform_id = 1)",
        "DELETE FROM audit_heads WHERE platform_id = 1 \
         AND size > (SELECT size FROM saved_heads WHERE platform_id = 1)",
        "DELETE FROM audit_tiles WHERE platform_id = 1",
        "INSERT INTO audit_tiles SELECT * FROM saved_tiles WHERE platform_id = 1",
    ] {
        backend.sql(dir, sql).await;
    }
}

async fn read_many(open: &OpenVault, stored: &Tokenized, times: u32) {
    for _ in 0..times {
        assert!(open.detokenize(&stored.tokens[0].token).await.is_ok());
    }
}

on_both!(a_database_that_was_put_back_is_not_served);
async fn a_database_that_was_put_back_is_not_served(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let (open, _) = create(&backend, dir.path()).await;
    let stored = open.store_iin(1).await;
    save(&backend, dir.path()).await;
    read_many(&open, &stored, 5).await;
    let caller = open.caller("backend");
    withdraw(&open, &asked(&open, &caller), open.store_iin(2).await.consents[0]).await.unwrap();
    put_back(&backend, dir.path()).await;

    // While it runs: the lane's next look at the head is enough.
    let refused = open.detokenize(&stored.tokens[0].token).await.err();
    assert_eq!(refused, Some(VaultError::Unavailable));
    let refused = open.detokenize(&stored.tokens[0].token).await.err();
    assert_eq!(refused, Some(VaultError::Unavailable));
    open.vault.close().await;
    drop(open);

    // After a restart.
    let refusal = |opened: Result<OpenVault, LoadError>| match opened.err() {
        Some(LoadError::Mirror { platform, problem }) => (platform.to_string(), problem.to_owned()),
        other => panic!("{other:?}"),
    };
    let (platform, problem) = refusal(reopen(&backend, dir.path()).await);
    assert!(platform == "lerna" && problem.contains("shorter"), "{problem}");

    // Another history on top of the old state, longer than what was mirrored.
    let forger = OpenVault::open(&backend, dir.path(), None).await.unwrap();
    read_many(&forger, &stored, 30).await;
    forger.vault.close().await;
    drop(forger);
    assert!(refusal(reopen(&backend, dir.path()).await).1.contains("rewritten"));
    assert!(OpenVault::open(&backend, dir.path(), None).await.is_ok(), "only the mirror tells");
}

/// A log that grew without a mirror for longer than a segment, cut at heads of single seconds.
#[tokio::test(flavor = "multi_thread")]
async fn a_long_backlog_is_mirrored_in_segments() {
    let (backend, dir) = (Backend::Sqlite, tempfile::tempdir().unwrap());
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    let stored = open.store_iin(1).await;
    let caller = open.caller("payments");
    for _ in 0..67 {
        let question = Detokenize {
            tokens: (0..1_000).map(|_| AnyToken::parse(&stored.tokens[0].token.reveal())).collect(),
            purpose: "payments".parse().unwrap(),
            view: View::Full,
            outreach: None,
            reference: None,
            age_years: 0,
            recipient: None,
            sealed: false,
            call: sandyq::vault::access::Call::BatchDetokenize,
        };
        open.vault.detokenize(&caller, asker("payments"), question).await.unwrap();
        // Batches come in less than a second each; the heads at which a segment may end are of whole seconds.
        open.clock.advance(100_000);
    }
    open.vault.close().await;
    drop(open);
    let open = reopen(&backend, dir.path()).await.unwrap();
    close_and_compare(&backend, dir.path(), open).await;
    let reader = MirrorReader::directory(&dir.path().join("mirror"), PATIENT).unwrap();
    let segments = reader.segments(&"lerna".parse().unwrap()).await.unwrap().found;
    assert!(segments.len() >= 2, "{segments:?}");
    assert!(segments.iter().all(|name| name.size - name.from <= 65_536));
}
