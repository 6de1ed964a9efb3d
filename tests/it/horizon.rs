//! Erasure reaches backups. Whoever has the backup files, the live database and the live KMS, and code that knows of no erasure
//! list, reads an erased value before the destruction date of the keys, and cannot after it.

use std::{
    path::Path,
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use sandyq::{
    audit::head::HeadVerifier,
    crypto::{
        kms::{Kms, local::LocalKms},
        random::SystemRng,
    },
    domain::{horizon::HorizonTerms, ids::BackupId, time::Clock},
    grpc::pb::{self, key_service_client::KeyServiceClient},
    store::{
        Store,
        copy::{Column, INSTALLATION, Row},
    },
    vault::{
        Vault, VaultOptions,
        backup::{BackupError, OpenBackup, Sink},
        context::LoadError,
        error::VaultError,
        keys::{KeyKind, KeyState, NewHorizon, WhichKey},
        subjects::SubjectName,
        tokenize::Tokenized,
    },
};

use crate::{
    backups::{back_up, place, with_place},
    common::{
        backend::{Backend, on_both},
        gate::{Gate, PASS},
        house::{House, proposed},
        operations::work_once,
        people::iin,
        served::request_id,
        vault::{OpenVault, as_admin, asker},
    },
    reconciled::{found, reconcile},
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

/// The same with a horizon of ten days, replaced every four, and a plan for it that holds so many days.
async fn with_horizon(backend: &Backend, dir: &Path, valid_days: u32) -> (OpenVault, Arc<dyn Kms>) {
    with_horizon_behind(backend, dir, valid_days, |store| store).await
}

/// The same behind another store.
async fn with_horizon_behind(
    backend: &Backend,
    dir: &Path,
    valid_days: u32,
    front: impl FnOnce(Arc<dyn Store>) -> Arc<dyn Store>,
) -> (OpenVault, Arc<dyn Kms>) {
    let made = OpenVault::create(backend, dir, |store| store).await;
    made.enrol_auditor().await;
    made.vault.close().await;
    drop(made);
    let kms: Arc<dyn Kms> = Arc::new(LocalKms::open(&dir.join("root"), &dir.join("unseal")).unwrap());
    let options = VaultOptions {
        backup_horizon_days: Some(10),
        rotate_every: Some(Duration::from_hours(96)),
        ..VaultOptions::default()
    };
    let store = front(backend.store(dir).await);
    let open = OpenVault::over(store, Arc::clone(&kms), None, options).await.unwrap();
    let open = with_place(open, dir);
    let other = HorizonTerms { horizon_days: 11, rotate_days: 4 };
    let refused = approve(&open, other, valid_days).await;
    assert!(matches!(refused, Err(VaultError::Invalid(_))), "the configuration says ten: {refused:?}");
    approve(&open, HorizonTerms { horizon_days: 10, rotate_days: 4 }, valid_days).await.unwrap();
    (open, kms)
}

async fn approve(open: &OpenVault, terms: HorizonTerms, valid_days: u32) -> Result<(), VaultError> {
    let new = NewHorizon { terms, valid_days };
    open.vault.schedule_horizon(&open.admin(), as_admin(), new).await.map(drop)
}

/// Twelve hours at a time; nobody touches a key.
async fn half_days(open: &OpenVault, count: i64, stays: &Tokenized) {
    for _ in 0..count {
        pass(open, 12, stays).await;
    }
}

/// Versions by state, of the keys that backups need.
async fn versions(open: &OpenVault, platform: &str) -> Vec<(String, u32, KeyState)> {
    let page = sandyq::vault::page::PageAsk { size: 100, after: None };
    let keys = open.vault.list_keys(&open.admin(), as_admin(), platform, page).await.unwrap().rows;
    let of_data = keys.into_iter().filter(|row| ["platform", "index", "root"].contains(&row.kind.as_str()));
    of_data.map(|row| (row.kind, row.version, row.state)).collect()
}

fn first(versions: &[(String, u32, KeyState)]) -> Vec<(&str, KeyState)> {
    versions
        .iter()
        .filter(|(_, version, _)| *version == 1)
        .map(|(kind, _, state)| (kind.as_str(), *state))
        .collect()
}

on_both!(the_horizon_passes_with_nobody_touching_a_key_and_nothing_erased_opens);
async fn the_horizon_passes_with_nobody_touching_a_key_and_nothing_erased_opens(backend: Backend) {
    use KeyState::{Destroyed, DestructionScheduled, Retiring};
    let dir = tempfile::tempdir().unwrap();
    let (open, kms) = with_horizon(&backend, dir.path(), 30).await;
    let (erased, stays) = (open.store_iin(1).await, open.store_iin(2).await);
    let key = open.vault.verifier_key();
    let before = back_up(&open).await;
    let name = SubjectName::Id(erased.subject);
    open.vault.erase_subject(&open.caller("backend"), asker("backend"), "", name, None).await.unwrap();

    half_days(&open, 11, &stays).await;
    assert_eq!(first(&versions(&open, "lerna").await), [("index", Retiring), ("platform", Retiring)]);
    let retired = [("index", Retiring), ("platform", Retiring), ("root", Retiring)];
    assert_eq!(first(&versions(&open, "vault").await), retired);
    let after = back_up(&open).await;
    half_days(&open, 6, &stays).await;
    let announced = [("index", DestructionScheduled), ("platform", DestructionScheduled)];
    assert_eq!(first(&versions(&open, "lerna").await), announced, "two days before");
    // The control: until then the backup gives everything away.
    let early = Thief::new(&backend).await;
    early.fill(dir.path(), &key, before, kms.as_ref()).await.unwrap();
    assert_eq!(early.read(&kms, &erased).await.unwrap(), iin(1), "the test reads what there is to be read");

    half_days(&open, 5, &stays).await;
    assert_eq!(first(&versions(&open, "lerna").await), [("index", Destroyed), ("platform", Destroyed)]);
    let gone = [("index", Destroyed), ("platform", Destroyed), ("root", Destroyed)];
    assert_eq!(first(&versions(&open, "vault").await), gone);
    let late = Thief::new(&backend).await;
    let refused = late.fill(dir.path(), &key, before, kms.as_ref()).await.unwrap_err();
    assert!(matches!(refused, BackupError::RootGone(1)), "{refused}");
    let refused = early.read(&kms, &erased).await.unwrap_err();
    assert!(matches!(refused, LoadError::Kms(_)), "{refused}");
    late.fill(dir.path(), &key, after, kms.as_ref()).await.unwrap();
    assert_eq!(late.read(&kms, &stays).await.unwrap(), iin(2));
    for platform in ["lerna", "vault"] {
        assert_eq!(found(&reconcile(&open, platform).await), [], "{platform}");
    }
    open.vault.close().await;
}

/// Whoever works dies before its first commit, then before its second, and so on, until somebody ends all that is due; how often.
async fn dying(open: &OpenVault, gate: &Gate, stays: &Tokenized) -> u64 {
    let mut commits = 0;
    loop {
        let before = gate.refused.load(Ordering::SeqCst);
        gate.fail_after(commits);
        drop(work_once(open).await);
        gate.set(PASS);
        assert_eq!(open.detokenize(&stays.tokens[0].token).await.unwrap().value.expose(), iin(2));
        // As if its minute were over, and the hour after which this process announces again what it could not.
        open.clock.advance(HOUR + HOUR / 30);
        if gate.refused.load(Ordering::SeqCst) == before {
            return commits;
        }
        commits += 1;
    }
}

on_both!(whatever_stops_it_the_horizon_passes);
/// Rotations by the calendar, announcements and destructions, of each kind of key.
async fn whatever_stops_it_the_horizon_passes(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let mut gate = None;
    let front = |inner| -> Arc<dyn Store> { gate.insert(Gate::before(inner)).clone() };
    let (open, kms) = with_horizon_behind(&backend, dir.path(), 30, front).await;
    let gate = gate.unwrap();
    let stays = open.store_iin(2).await;
    let mut deaths = 0;
    for _ in 0..22 {
        open.clock.advance(12 * HOUR);
        let page = sandyq::vault::page::PageAsk { size: 100, after: None };
        open.vault.list_keys(&open.admin(), as_admin(), "vault", page).await.unwrap();
        deaths += dying(&open, &gate, &stays).await;
    }
    println!("{deaths} deaths");
    assert!(deaths >= 15, "rotations, announcements and destructions of five keys: {deaths}");
    for platform in ["lerna", "vault"] {
        let found = versions(&open, platform).await;
        assert!(first(&found).iter().all(|(_, state)| *state == KeyState::Destroyed), "{found:?}");
        for kind in ["platform", "index"] {
            let active = |(of, _, state): &&(String, u32, KeyState)| of == kind && *state == KeyState::Active;
            assert_eq!(found.iter().filter(active).count(), 1, "{platform} {kind}: {found:?}");
        }
    }
    assert!(!kms.versions().await.unwrap().present.contains(&1));
    for platform in ["lerna", "vault"] {
        assert_eq!(found(&reconcile(&open, platform).await), [], "{platform}");
    }
    open.vault.close().await;
}

on_both!(what_nobody_approves_any_more_is_not_destroyed);
/// A plan that was revoked, after it scheduled; and one that expired.
async fn what_nobody_approves_any_more_is_not_destroyed(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let (open, kms) = with_horizon(&backend, dir.path(), 30).await;
    let stays = open.store_iin(2).await;
    half_days(&open, 18, &stays).await;
    let scheduled = first(&versions(&open, "lerna").await)
        .iter()
        .all(|(_, state)| *state == KeyState::DestructionScheduled);
    assert!(scheduled, "two days before");
    open.vault.revoke_horizon(&open.admin(), as_admin()).await.unwrap();
    half_days(&open, 6, &stays).await;
    for platform in ["lerna", "vault"] {
        let kept = versions(&open, platform).await;
        assert!(first(&kept).iter().all(|(_, state)| *state == KeyState::Retiring), "{kept:?}");
    }
    assert!(kms.versions().await.unwrap().present.contains(&1));
    let view = open.vault.horizon(&open.admin(), as_admin()).await.unwrap();
    assert!(!view.in_force && view.problems[0].contains("revoked"), "{view:?}");
    // Approved anew, for two days: what is due is announced, and the plan ends before its time.
    approve(&open, HorizonTerms { horizon_days: 10, rotate_days: 4 }, 1).await.unwrap();
    assert!(open.vault.horizon(&open.admin(), as_admin()).await.unwrap().in_force);
    half_days(&open, 5, &stays).await;
    let view = open.vault.horizon(&open.admin(), as_admin()).await.unwrap();
    assert!(!view.in_force && view.problems[0].contains("expired"), "{view:?}");
    assert!(
        kms.versions().await.unwrap().present.contains(&1),
        "a day of notice is longer than the plan held"
    );
    open.vault.close().await;
}

on_both!(two_people_approve_the_horizon_once_and_one_ends_it);
async fn two_people_approve_the_horizon_once_and_one_ends_it(backend: Backend) {
    let ninety = "directory = \"backups\"\nhorizon_days = 90";
    let house = House::new(&backend).await.mode("directory = \"backups\"", ninety).await;
    let stands = async |house: &House| {
        let mut keys = KeyServiceClient::new(house.served.channel("second").await);
        keys.get_horizon(pb::GetHorizonRequest {}).await.unwrap().into_inner()
    };
    let none = stands(&house).await;
    assert!(none.plan.is_none() && !none.in_force && none.problems[0].contains("no plan"), "{none:?}");
    let mut keys = KeyServiceClient::new(house.served.channel("admin").await);
    let request = pb::ScheduleHorizonRequest {
        request_id: request_id(),
        horizon_days: 90,
        rotate_days: 45,
        valid_days: 30,
    };
    let proposal = proposed!(keys, schedule_horizon(request) in schedule_horizon_response);
    assert_eq!(house.approve("admin", &proposal).await, Err("OWN_PROPOSAL".into()));
    assert!(!stands(&house).await.in_force);
    house.approved(&proposal).await;
    let found = stands(&house).await;
    let plan = found.plan.unwrap();
    assert!(found.in_force && found.problems.is_empty(), "{:?}", found.problems);
    assert!(!plan.approver_person_id.is_empty() && plan.approver_person_id != plan.proposer_person_id);
    // It is bound to what the configuration said.
    let house = house.mode("horizon_days = 90", "horizon_days = 60").await;
    let other = stands(&house).await;
    assert!(!other.in_force && other.problems[0].contains("something else"), "{other:?}");
    let house = house.mode("horizon_days = 60", "horizon_days = 90").await;
    assert!(stands(&house).await.in_force);
    let mut keys = KeyServiceClient::new(house.served.channel("second").await);
    let revoked = keys.revoke_horizon(pb::RevokeHorizonRequest { request_id: request_id() }).await.unwrap();
    assert!(revoked.into_inner().plan.unwrap().revoke_time.is_some());
    assert!(!stands(&house).await.in_force);
    house.stop().await;
}
