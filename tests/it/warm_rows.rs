//! Rows that are kept in memory after a read answer what the database would: whatever ends, changes or begins a permission
//! counts from its acknowledgement on, in this process and in every other.

use std::{path::Path, sync::Arc, time::Duration};

use sandyq::{
    crypto::kms::{Kms, local::LocalKms},
    domain::{
        secret::Plaintext,
        subject::{RestrictionRequester, RestrictionTrigger, ValueSource},
        token::AnyToken,
    },
    policy::decide::Denial,
    vault::{
        VaultOptions,
        error::VaultError,
        revise::Correction,
        subjects::{Block, SubjectName},
        tokenize::Tokenized,
        warm::WarmLimits,
    },
};

use crate::common::{
    backend::{Backend, on_both},
    people::iin,
    random::Choices,
    vault::{OpenVault, asker, consent, person},
};

/// What one read of the IIN gives: the value, or why not.
async fn read(open: &OpenVault, stored: &Tokenized) -> Result<String, Denial> {
    match open.detokenize(&stored.tokens[0].token).await {
        Ok(released) => Ok(released.value.expose().to_owned()),
        Err(VaultError::Denied(reason)) => Err(reason),
        Err(other) => panic!("{other:?}"),
    }
}

fn kms_of(dir: &Path) -> Arc<dyn Kms> {
    Arc::new(LocalKms::open(&dir.join("root"), &dir.join("unseal")).unwrap())
}

/// Everything that changes what is read, there and back.
struct Changes<'a> {
    open: &'a OpenVault,
    stored: &'a Tokenized,
}

impl Changes<'_> {
    fn subject(&self) -> SubjectName {
        SubjectName::Id(self.stored.subject)
    }

    async fn withdraw(&self) {
        let backend = self.open.caller("backend");
        let consent = self.stored.consents[0];
        self.open.vault.withdraw_consent(&backend, asker("backend"), "", consent).await.unwrap();
    }

    async fn grant(&self, number: u32) {
        let (backend, reference) = (self.open.caller("backend"), format!("user-{number}"));
        let mut again = consent(None);
        again.terms.given_at = self.open.clock.now();
        self.open.vault.grant_consent(&backend, asker("backend"), reference, again).await.unwrap();
    }

    async fn restrict(&self) {
        let block = Block {
            subject: self.subject(),
            trigger: RestrictionTrigger::AccuracyDisputed,
            requester: RestrictionRequester::Subject,
            review_at: self.open.clock.now().plus(Duration::from_hours(24)),
            reference: Some("CASE-1".parse().unwrap()),
        };
        let backend = self.open.caller("backend");
        self.open.vault.restrict_subject(&backend, asker("backend"), "", block).await.unwrap();
    }

    async fn unrestrict(&self) {
        let (backend, case) = (self.open.caller("backend"), "CASE-1".parse().unwrap());
        let (vault, by) = (&self.open.vault, asker("backend"));
        vault.unrestrict_subject(&backend, by, "", self.subject(), Some(case)).await.unwrap();
    }

    async fn correct(&self, number: u32) {
        let correction = Correction {
            token: self.token(),
            value: Plaintext::new(iin(number)),
            source: ValueSource::Subject,
            evidence: "PAPER-1".parse().unwrap(),
        };
        let backend = self.open.caller("backend");
        self.open.vault.update_record(&backend, asker("backend"), correction).await.unwrap();
    }

    async fn revoke(&self) {
        let backend = self.open.caller("backend");
        self.open.vault.revoke_token(&backend, asker("backend"), self.token()).await.unwrap();
    }

    fn token(&self) -> AnyToken {
        AnyToken::parse(&self.stored.tokens[0].token.reveal()).unwrap()
    }
}

/// Changes at one vault, each of which must show at the next read of another (or the same).
async fn every_change_shows(changing: &OpenVault, reading: &OpenVault) {
    let stored = changing.store_iin(1).await;
    let changes = Changes { open: changing, stored: &stored };
    for _ in 0..3 {
        assert_eq!(read(reading, &stored).await, Ok(iin(1)));
    }
    changes.restrict().await;
    for _ in 0..2 {
        assert_eq!(read(reading, &stored).await, Err(Denial::SubjectRestricted));
    }
    changes.unrestrict().await;
    assert_eq!(read(reading, &stored).await, Ok(iin(1)));
    changes.correct(2).await;
    for _ in 0..2 {
        assert_eq!(read(reading, &stored).await, Ok(iin(2)));
    }
    changes.withdraw().await;
    for _ in 0..2 {
        assert_eq!(read(reading, &stored).await, Err(Denial::ConsentWithdrawn));
    }
    changes.grant(1).await;
    for _ in 0..2 {
        assert_eq!(read(reading, &stored).await, Ok(iin(2)));
    }
    changes.revoke().await;
    for _ in 0..2 {
        assert_eq!(read(reading, &stored).await, Err(Denial::TokenRevoked));
    }
}

on_both!(every_change_shows_at_the_next_read);
async fn every_change_shows_at_the_next_read(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    every_change_shows(&open, &open).await;
    assert!(open.vault.meters().warm_items() > 0, "rows were at hand");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_another_process_shows_at_the_next_read() {
    let (backend, dir) = (Backend::postgres().await, tempfile::tempdir().unwrap());
    let first = OpenVault::create(&backend, dir.path(), |store| store).await;
    let second = OpenVault::open(&backend, dir.path(), None).await.unwrap();
    every_change_shows(&first, &second).await;
    assert!(second.vault.meters().warm_items() > 0, "rows were at hand");
}

/// Reads of another process are no change: both go on without reading again.
#[tokio::test(flavor = "multi_thread")]
async fn reads_and_new_people_leave_what_is_at_hand() {
    let (backend, dir) = (Backend::postgres().await, tempfile::tempdir().unwrap());
    let first = OpenVault::create(&backend, dir.path(), |store| store).await;
    let second = OpenVault::open(&backend, dir.path(), None).await.unwrap();
    let stored = first.store_iin(1).await;
    let warm = |open: &OpenVault| open.vault.meters().warm_items();
    for open in [&first, &second] {
        assert_eq!(read(open, &stored).await, Ok(iin(1)));
    }
    let before = (warm(&first), warm(&second));
    for number in 2..12 {
        first.store_iin(number).await;
        for open in [&first, &second] {
            assert_eq!(read(open, &stored).await, Ok(iin(1)));
        }
    }
    // The clock is read once a second, with the rows.
    let gained = (warm(&first) - before.0, warm(&second) - before.1);
    assert!(gained.0 >= 5 && gained.1 >= 5, "{gained:?} of 10");
}

on_both!(time_passes_for_what_is_at_hand);
async fn time_passes_for_what_is_at_hand(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    let end = open.clock.now().plus(Duration::from_hours(1));
    let stored = open.tokenize(person(1, Some(end))).await.unwrap();
    for _ in 0..3 {
        assert_eq!(read(&open, &stored).await, Ok(iin(1)));
    }
    open.clock.advance(61 * 60 * 1_000_000);
    assert_eq!(read(&open, &stored).await, Err(Denial::ConsentExpired));
}

on_both!(a_row_that_is_edited_is_found_where_none_is_kept);
async fn a_row_that_is_edited_is_found_where_none_is_kept(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    drop(OpenVault::create(&backend, dir.path(), |store| store).await);
    let kms = kms_of(dir.path());
    let options =
        VaultOptions { warm: WarmLimits { rows: 0, ..WarmLimits::default() }, ..VaultOptions::default() };
    let open = OpenVault::open_with(&backend, dir.path(), kms, None, options).await.unwrap();
    let stored = open.store_iin(1).await;
    assert_eq!(read(&open, &stored).await, Ok(iin(1)));
    assert!(backend.sql(dir.path(), "UPDATE tokens SET created_at = created_at + 1").await > 0);
    assert_eq!(read(&open, &stored).await, Err(Denial::DataDamaged));
    assert_eq!(open.vault.meters().warm_items(), 0);
}

/// Many people in little room, with changes among the reads: whatever was forgotten or kept, each read is right.
#[tokio::test(flavor = "multi_thread")]
async fn in_little_room_every_read_is_right() {
    let (backend, dir) = (Backend::postgres().await, tempfile::tempdir().unwrap());
    drop(OpenVault::create(&backend, dir.path(), |store| store).await);
    let small =
        VaultOptions { warm: WarmLimits { rows: 160, ..WarmLimits::default() }, ..VaultOptions::default() };
    let replicas = [
        OpenVault::open_with(&backend, dir.path(), kms_of(dir.path()), None, small).await.unwrap(),
        OpenVault::open_with(&backend, dir.path(), kms_of(dir.path()), None, small).await.unwrap(),
    ];
    let seed = 20_261_129;
    println!("seed {seed}");
    let mut choices = Choices::from_seed(seed);
    let mut people = Vec::new();
    for number in 0..60_u32 {
        people.push((replicas[0].store_iin(number).await, Ok(iin(number)), false));
    }
    for step in 0..600_u32 {
        let at = usize::try_from(choices.below(60)).unwrap();
        let open = &replicas[usize::try_from(choices.below(2)).unwrap()];
        let (stored, expected, blocked) = &mut people[at];
        let changes = Changes { open, stored };
        match choices.below(12) {
            0 if !*blocked => {
                changes.restrict().await;
                *blocked = true;
            }
            0 => {
                changes.unrestrict().await;
                *blocked = false;
            }
            1 if !*blocked => {
                changes.correct(1_000 + step).await;
                *expected = Ok(iin(1_000 + step));
            }
            _ => {
                let told = if *blocked { Err(Denial::SubjectRestricted) } else { expected.clone() };
                assert_eq!(read(open, stored).await, told, "step {step}, person {at}");
            }
        }
    }
    let warm: Vec<_> = replicas.iter().map(|open| open.vault.meters().warm_items()).collect();
    println!("{warm:?} of some 270 reads at each were at hand");
    assert!(warm.iter().all(|items| *items > 0), "{warm:?}");
}
