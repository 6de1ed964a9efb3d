//! Erasure reaches backups. Whoever has the backup files, the live database and the live KMS, and code that knows of no erasure
//! list, reads an erased value before the destruction date of the keys, and cannot after it.

use std::{path::Path, sync::Arc, time::Duration};

use sandyq::{
    audit::head::HeadVerifier,
    crypto::{
        kms::{Kms, local::LocalKms},
        random::SystemRng,
    },
    domain::{ids::BackupId, time::Clock},
    store::{
        Store,
        copy::{Column, INSTALLATION, Row},
    },
    vault::{
        Vault,
        backup::{BackupError, OpenBackup, Sink},
        context::LoadError,
        keys::{KeyKind, KeyState, WhichKey},
        subjects::SubjectName,
        tokenize::Tokenized,
    },
};

use crate::{
    backups::{back_up, place, with_place},
    common::{
        backend::{Backend, on_both},
        operations::work_once,
        people::iin,
        vault::{OpenVault, as_admin, asker},
    },
};

/// The first version of a platform key.
const FIRST: WhichKey = WhichKey { kind: KeyKind::Platform, version: 1 };
const HOUR: i64 = 60 * 60 * 1_000_000;

/// Puts every row of a backup into a database, and asks no log what was taken away since.
struct Fill<'a>(&'a Arc<dyn Store>, Vec<Row>);

#[async_trait::async_trait]
impl Sink for Fill<'_> {
    async fn table(&mut self, _name: &str, _columns: &[Column]) -> Result<(), BackupError> {
        Ok(())
    }

    async fn rows(&mut self, table: &str, rows: Vec<Row>) -> Result<(), BackupError> {
        if table == INSTALLATION {
            self.1.extend(rows);
        } else {
            self.0.insert_rows(table, &rows).await.unwrap();
        }
        Ok(())
    }

    fn progress(&mut self, _rows: u64) {}
}

/// Somebody with everything but the erasure list.
struct Thief {
    backend: Backend,
    dir: tempfile::TempDir,
}

impl Thief {
    async fn new(backend: &Backend) -> Self {
        Self { backend: backend.fresh().await, dir: tempfile::tempdir().unwrap() }
    }

    /// Fills a database of their own from the backup files, with the KMS as it is now.
    async fn fill(&self, files: &Path, key: &str, id: BackupId, kms: &dyn Kms) -> Result<(), BackupError> {
        let trusted = HeadVerifier::new(key).unwrap();
        let opened = OpenBackup::open(place(files), id, &trusted, kms).await?;
        let store = self.backend.store(self.dir.path()).await;
        let mut fill = Fill(&store, Vec::new());
        opened.read(&mut fill).await?;
        let installation = fill.1;
        store.insert_rows(INSTALLATION, &installation).await.unwrap();
        store.close().await;
        Ok(())
    }

    /// The value behind a token, from the database that was filled, with the KMS as it is now.
    async fn read(&self, kms: &Arc<dyn Kms>, token: &Tokenized) -> Result<String, LoadError> {
        let (store, rng) = (self.backend.store(self.dir.path()).await, Arc::new(SystemRng::new()));
        let (kms, clock) = (Arc::clone(kms), Arc::new(Clock::default()));
        let open = OpenVault { vault: Vault::open(store, kms, Arc::clone(&clock), rng, None).await?, clock };
        let value = open.detokenize(&token.tokens[0].token).await.unwrap().value;
        let value = value.expose().to_owned();
        open.vault.close().await;
        Ok(value)
    }
}

/// Time passes, with somebody at work in both logs, and what is due is done.
async fn pass(open: &OpenVault, hours: i64, stays: &Tokenized) {
    for _ in 0..hours {
        open.clock.advance(HOUR);
    }
    let page = sandyq::vault::page::PageAsk { size: 100, after: None };
    open.vault.list_keys(&open.admin(), as_admin(), "vault", page).await.unwrap();
    open.detokenize(&stays.tokens[0].token).await.unwrap();
    work_once(open).await.unwrap();
}

async fn rotate(open: &OpenVault, platform: &str, kind: KeyKind) {
    open.vault.rotate_key(&open.admin(), as_admin(), platform, kind, 0).await.unwrap();
    work_once(open).await.unwrap();
}

on_both!(an_erased_value_is_out_of_reach_after_the_destruction_date_and_not_before);
async fn an_erased_value_is_out_of_reach_after_the_destruction_date_and_not_before(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = with_place(OpenVault::create(&backend, dir.path(), |store| store).await, dir.path());
    let kms = LocalKms::open(&dir.path().join("root"), &dir.path().join("unseal")).unwrap();
    let kms: Arc<dyn Kms> = Arc::new(kms);
    let (erased, stays) = (open.store_iin(1).await, open.store_iin(2).await);
    let key = open.vault.verifier_key();
    let before = back_up(&open).await;

    let name = SubjectName::Id(erased.subject);
    open.vault.erase_subject(&open.caller("backend"), asker("backend"), "", name, None).await.unwrap();
    pass(&open, 5, &stays).await;
    assert!(
        open.detokenize(&erased.tokens[0].token).await.is_err(),
        "unreadable at once, and destroyed by now"
    );

    // What the horizon does: keys rotated, the old versions scheduled for destruction.
    rotate(&open, "lerna", KeyKind::Platform).await;
    rotate(&open, "vault", KeyKind::Platform).await;
    rotate(&open, "vault", KeyKind::Root).await;
    let after = back_up(&open).await;
    let at = open.clock.now().plus(Duration::from_hours(25));
    let (admin, vault) = (open.admin(), &open.vault);
    for platform in ["lerna", "vault"] {
        vault.schedule_key_destruction(&admin, as_admin(), platform, FIRST, at).await.unwrap();
    }
    vault.schedule_root_destruction(&admin, as_admin(), "vault", 1, at).await.unwrap();

    // The control: until that date the backup gives everything away.
    let early = Thief::new(&backend).await;
    early.fill(dir.path(), &key, before, kms.as_ref()).await.unwrap();
    assert_eq!(early.read(&kms, &erased).await.unwrap(), iin(1), "the test reads what there is to be read");
    pass(&open, 13, &stays).await;
    assert_eq!(early.read(&kms, &erased).await.unwrap(), iin(1), "the date has not come");

    pass(&open, 13, &stays).await;
    let late = Thief::new(&backend).await;
    let refused = late.fill(dir.path(), &key, before, kms.as_ref()).await.unwrap_err();
    assert!(matches!(refused, BackupError::RootGone(1)), "{refused}");
    // Not even where the backup was opened in time: its keys are under the root that is gone.
    let refused = early.read(&kms, &erased).await.unwrap_err();
    assert!(matches!(refused, LoadError::Kms(_)), "{refused}");
    // And the keys of platforms that the root wrapped are gone from the live database, so that its own copy opens nothing.
    for platform in ["lerna", "vault"] {
        let page = sandyq::vault::page::PageAsk { size: 100, after: None };
        let keys = open.vault.list_keys(&open.admin(), as_admin(), platform, page).await.unwrap().rows;
        let old = keys.iter().find(|row| row.kind == "platform" && row.version == 1).unwrap();
        assert_eq!((old.state, old.wrapped.is_none()), (KeyState::Destroyed, true), "{platform}");
    }
    // A backup from after the rotation opens, and never had the key of the erased.
    late.fill(dir.path(), &key, after, kms.as_ref()).await.unwrap();
    assert_eq!(late.read(&kms, &stays).await.unwrap(), iin(2));
    assert_eq!(open.detokenize(&stays.tokens[0].token).await.unwrap().value.expose(), iin(2));
    open.vault.close().await;
}
