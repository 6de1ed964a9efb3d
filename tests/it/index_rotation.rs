//! The index key rotated while the vault serves: everything is found and unique at each moment, whatever stops the work, and
//! the old version can be destroyed then.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use sandyq::{
    domain::{
        operation::{Operation, OperationState, Phase},
        reference::Reference,
        secret::Plaintext,
        subject::ValueSource,
        token::{AnyToken, TokenMode},
    },
    policy::decide::Denial,
    vault::{
        controls::Control,
        error::VaultError,
        keys::{KeyKind, KeyState, WhichKey},
        lookup::{Comparison, Search},
        page::PageAsk,
        revise::Correction,
        subjects::SubjectName,
        tokenize::{NewValue, NewValues, Tokenized},
    },
};

use crate::{
    common::{
        backend::{Backend, on_both},
        gate::{PASS, gated},
        operations::{operation, work_through},
        people::iin,
        vault::{OpenVault, POLICY, as_admin, asker, consent},
    },
    reconciled::{found, reconcile},
};

const MINUTE: i64 = 60 * 1_000_000;
const OLD: WhichKey = WhichKey { kind: KeyKind::Index, version: 1 };

/// A person as stored, and the number whose IIN is held now.
struct Person {
    number: u32,
    holds: u32,
    stored: Tokenized,
}

fn values(number: u32, holds: u32, modes: &[TokenMode]) -> impl Iterator<Item = NewValues> {
    modes.iter().map(move |mode| NewValues {
        subject_reference: format!("user-{number}"),
        subject_kind: None,
        fields: vec![NewValue {
            field: "iin".parse().unwrap(),
            value: Plaintext::new(iin(holds)),
            mode: *mode,
            expires_at: None,
            source: ValueSource::Subject,
            source_reference: None,
        }],
        consents: vec![consent(None)],
        keep_held_consents: false,
    })
}

/// Stores an IIN with a token of 160 bits and one of 12 digits.
async fn store(open: &OpenVault, number: u32) -> Person {
    let mut stored: Option<Tokenized> = None;
    for values in values(number, number, &[TokenMode::Random, TokenMode::Digits]) {
        let more = open.tokenize(values).await.unwrap();
        match &mut stored {
            None => stored = Some(more),
            Some(stored) => {
                assert_eq!(stored.subject, more.subject, "found by its reference");
                stored.tokens.extend(more.tokens);
            }
        }
    }
    Person { number, holds: number, stored: stored.unwrap() }
}

async fn people(open: &OpenVault, numbers: std::ops::Range<u32>) -> Vec<Person> {
    let mut people = Vec::new();
    for number in numbers {
        people.push(store(open, number).await);
    }
    people
}

/// The policy with an IIN that no two subjects may have.
async fn make_unique(open: &OpenVault) {
    let text = POLICY
        .replace("number = 1\n", "number = 2\n")
        .replace("type = \"iin\"\n", "type = \"iin\"\nunique = true\n");
    open.vault.apply_policy(&open.admin(), as_admin(), text, false).await.unwrap();
}

async fn look_up(open: &OpenVault, holds: u32) -> Vec<sandyq::domain::ids::SubjectId> {
    let search = Search {
        field: "iin".parse().unwrap(),
        value: Plaintext::new(iin(holds)),
        purpose: "payments".parse().unwrap(),
        outreach: None,
        reference: None,
    };
    let (found, more) =
        open.vault.lookup_tokens(&open.caller("payments"), asker("payments"), search).await.unwrap();
    assert!(!more);
    found.into_iter().map(|found| found.subject).collect()
}

/// Every way to find a person leads there: value, reference, both kinds of tokens; and nobody else may hold the value.
async fn all_found(open: &OpenVault, people: &[Person]) {
    some_found(open, people, 1).await;
}

/// The same of every so many people, and of the last.
async fn some_found(open: &OpenVault, people: &[Person], step: usize) {
    for person in people.iter().step_by(step).chain(people.last().filter(|_| step > 1)) {
        let Person { number, holds, stored } = person;
        assert_eq!(look_up(open, *holds).await, [stored.subject], "person {number}");
        for token in &stored.tokens {
            let value = open.detokenize(&token.token).await.unwrap().value;
            assert_eq!(value.expose(), iin(*holds), "person {number}");
        }
        let again = values(*number, *holds, &[TokenMode::Deterministic]).next().unwrap();
        let again = open.tokenize(NewValues { consents: Vec::new(), ..again }).await.unwrap();
        assert_eq!((again.subject, again.tokens[0].record_created), (stored.subject, false), "{number}");
    }
    let Some(person) = people.first() else { return };
    let equal = Comparison {
        token: AnyToken::parse(&person.stored.tokens[1].token.reveal()).unwrap(),
        purpose: "payments".parse().unwrap(),
        candidate: Plaintext::new(iin(person.holds)),
        outreach: None,
        reference: None,
    };
    let compared = open.vault.compare_value(&open.caller("payments"), asker("payments"), equal).await;
    assert!(compared.unwrap().equal);
    // First and last: behind the cursor, and before it.
    for person in [person, people.last().unwrap()] {
        let rival = values(900_000, person.holds, &[TokenMode::Random]).next().unwrap();
        assert_eq!(
            open.tokenize(rival).await.err(),
            Some(Denial::ValueNotUnique.into()),
            "{}",
            person.number
        );
    }
}

async fn correct(open: &OpenVault, person: &mut Person, holds: u32) {
    let correction = Correction {
        token: AnyToken::parse(&person.stored.tokens[0].token.reveal()).unwrap(),
        value: Plaintext::new(iin(holds)),
        source: ValueSource::Subject,
        evidence: Reference::parse("ACT-17").unwrap(),
    };
    open.vault.update_record(&open.caller("backend"), asker("backend"), correction).await.unwrap();
    person.holds = holds;
}

/// A subject erased and taken back: its claim to a unique value ends and begins again, in each index.
async fn erase_and_take_back(open: &OpenVault, person: &Person) {
    let name = || SubjectName::Reference(format!("user-{}", person.number));
    let backend_caller = open.caller("backend");
    let erased = open.vault.erase_subject(&backend_caller, asker("backend"), "", name(), None);
    erased.await.unwrap();
    let admin = open.admin();
    let back = open.vault.cancel_erasure(&admin, as_admin(), "lerna", name(), None);
    back.await.unwrap();
}

async fn begin(open: &OpenVault) -> Result<Operation, VaultError> {
    open.vault.rotate_key(&open.admin(), as_admin(), "lerna", KeyKind::Index, 0).await
}

/// Versions of the index key, their states, and what is under each.
async fn usage(open: &OpenVault) -> Vec<(u32, KeyState, u64)> {
    let usages = open.vault.key_usage(&open.admin(), as_admin(), "lerna").await.unwrap();
    let index = usages.into_iter().filter(|usage| usage.kind == KeyKind::Index);
    index.map(|usage| (usage.version, usage.state, usage.uses)).collect()
}

on_both!(an_index_rotation_moves_what_everything_is_found_by);
async fn an_index_rotation_moves_what_everything_is_found_by(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    open.enrol_auditor().await;
    make_unique(&open).await;
    let mut people = people(&open, 0..40).await;
    let plan =
        open.vault.plan_rotation(&open.admin(), as_admin(), "lerna", KeyKind::Index, 10).await.unwrap();
    assert_eq!((plan.version, plan.subject_keys, plan.seconds, plan.blockers.len()), (2, 40, Some(4), 0));
    // Of each: the value, the reference, and the token of 12 digits.
    assert_eq!(usage(&open).await, [(1, KeyState::Active, 120)], "a plan changes nothing");

    let begun = begin(&open).await.unwrap();
    assert_eq!((begun.phase, begun.key_version, begun.total), (Phase::Activate, 2, 120));
    assert_eq!(begin(&open).await.err(), Some(Denial::RotationRunning.into()), "one at a time");
    work_through(&open).await;
    let done = operation(&open, begun.id).await;
    assert_eq!((done.state, done.done, done.total), (OperationState::Done, 120, 120));
    assert_eq!(usage(&open).await, [(1, KeyState::Retiring, 0), (2, KeyState::Active, 120)]);
    people.push(store(&open, 40).await);
    assert_eq!(usage(&open).await, [(1, KeyState::Retiring, 0), (2, KeyState::Active, 123)]);
    all_found(&open, &people).await;
    assert_eq!(found(&reconcile(&open, "lerna").await), []);

    // A restart loads both versions; a second rotation begins from the first.
    open.vault.close().await;
    drop(open);
    let open = OpenVault::open(&backend, dir.path(), None).await.unwrap();
    all_found(&open, &people).await;
    begin(&open).await.unwrap();
    work_through(&open).await;
    let versions = [(1, KeyState::Retiring, 0), (2, KeyState::Retiring, 0), (3, KeyState::Active, 123)];
    assert_eq!(usage(&open).await, versions);
    all_found(&open, &people).await;
}

/// A vault that stops at its n-th commit from now on, as if it were killed; what happens to people meanwhile; and another
/// worker that takes it up.
async fn killed_at(backend: &Backend, commit: u64) -> bool {
    let (dir, open, gate) = gated(&backend.fresh().await).await;
    open.enrol_auditor().await;
    make_unique(&open).await;
    let mut people = people(&open, 0..18).await;
    let begun = begin(&open).await.unwrap();
    gate.fail_after(commit);
    let rotations = open.vault.work().await.unwrap().long;
    let survived = open.vault.rotate(&rotations[0]).await.is_ok();
    gate.set(PASS);
    some_found(&open, &people, 6).await;
    people.push(store(&open, 100).await);
    correct(&open, &mut people[3], 200).await;
    erase_and_take_back(&open, &people[5]).await;
    some_found(&open, &people, 3).await;
    assert_eq!(look_up(&open, 3).await, [], "the value before the correction is nobody's");

    let _dir = dir;
    open.clock.advance(2 * MINUTE);
    work_through(&open).await;
    assert_eq!(operation(&open, begun.id).await.state, OperationState::Done, "commit {commit}");
    assert_eq!(
        usage(&open).await,
        [(1, KeyState::Retiring, 0), (2, KeyState::Active, 57)],
        "commit {commit}"
    );
    all_found(&open, &people).await;
    assert_eq!(found(&reconcile(&open, "lerna").await), [], "commit {commit}");
    survived
}

on_both!(whatever_stops_an_index_rotation_all_is_found_and_another_ends_it);
async fn whatever_stops_an_index_rotation_all_is_found_and_another_ends_it(backend: Backend) {
    let mut commit = 0;
    while !killed_at(&backend, commit).await {
        commit += 1;
    }
    println!("stopped before each of {commit} commits");
    assert!(commit >= 8, "take, activate, fill, verify, switch, drop, end: {commit}");
}

on_both!(an_index_rotation_that_is_given_up_hides_nothing);
async fn an_index_rotation_that_is_given_up_hides_nothing(backend: Backend) {
    let (_dir, open, gate) = gated(&backend).await;
    make_unique(&open).await;
    let mut people = people(&open, 0..20).await;
    let begun = begin(&open).await.unwrap();
    // Sixteen of twenty are in both indexes.
    gate.fail_after(3);
    let rotations = open.vault.work().await.unwrap().long;
    assert!(open.vault.rotate(&rotations[0]).await.is_err());
    gate.set(PASS);
    let half = [(1, KeyState::Active, 28), (2, KeyState::Active, 48)];
    assert_eq!(usage(&open).await, half);
    let control = async |control| open.vault.control(&open.admin(), as_admin(), begun.id, control).await;
    assert_eq!(control(Control::Pause).await.unwrap().state, OperationState::Paused);
    open.clock.advance(2 * MINUTE);
    assert!(open.vault.work().await.unwrap().long.is_empty(), "nobody takes it up");
    assert_eq!(usage(&open).await, half);
    all_found(&open, &people).await;
    assert_eq!(control(Control::Cancel).await.unwrap().state, OperationState::Cancelled);
    let given_up = [(1, KeyState::Active, 28), (2, KeyState::Retiring, 48)];
    assert_eq!(usage(&open).await, given_up);
    people.push(store(&open, 100).await);
    all_found(&open, &people).await;
    // What is under it would look as if it were not there.
    let second = WhichKey { version: 2, ..OLD };
    let disabled = open.vault.disable_key(&open.admin(), as_admin(), "lerna", second).await;
    assert_eq!(disabled.err(), Some(Denial::KeyInUse.into()));

    begin(&open).await.unwrap();
    work_through(&open).await;
    let moved = [(1, KeyState::Retiring, 0), (2, KeyState::Retiring, 0), (3, KeyState::Active, 63)];
    assert_eq!(usage(&open).await, moved);
    all_found(&open, &people).await;
}

on_both!(an_old_index_version_is_destroyed_and_nothing_is_lost);
async fn an_old_index_version_is_destroyed_and_nothing_is_lost(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    make_unique(&open).await;
    let people = people(&open, 0..6).await;
    let gone = store(&open, 50).await;
    // Somebody who is destroyed: nothing of it can be hashed anew, and nothing of it needs the old version.
    let name = || SubjectName::Reference("user-50".into());
    let backend_caller = open.caller("backend");
    let erased = open.vault.erase_subject(&backend_caller, asker("backend"), "", name(), None);
    erased.await.unwrap();
    open.clock.advance(5 * 60 * MINUTE);
    work_through(&open).await;
    let (admin, vault) = (open.admin(), &open.vault);
    let destroy = async || {
        let at = open.clock.now().plus(Duration::from_hours(25));
        vault.schedule_key_destruction(&admin, as_admin(), "lerna", OLD, at).await
    };
    assert_eq!(destroy().await.err(), Some(Denial::KeyActive.into()));
    begin(&open).await.unwrap();
    work_through(&open).await;
    assert_eq!(usage(&open).await, [(1, KeyState::Retiring, 0), (2, KeyState::Active, 18)]);
    let again = values(50, 50, &[TokenMode::Random]).next().unwrap();
    assert_eq!(
        open.tokenize(again).await.err(),
        Some(Denial::SubjectErased.into()),
        "as long as it is there"
    );
    destroy().await.unwrap();
    for _ in 0..2 {
        open.clock.advance(20 * 60 * MINUTE);
        all_found(&open, &people).await;
        work_through(&open).await;
    }
    let page = PageAsk { size: 100, after: None };
    let keys = vault.list_keys(&admin, as_admin(), "lerna", page).await.unwrap();
    let index: Vec<_> =
        keys.rows.iter().filter(|row| row.kind == "index").map(|row| (row.version, row.state)).collect();
    assert_eq!(index, [(1, KeyState::Destroyed), (2, KeyState::Active)]);
    let bytes = "UPDATE key_versions SET state = state WHERE kind = 'index' AND wrapped IS NULL";
    assert_eq!(backend.sql(dir.path(), bytes).await, 1, "its bytes are gone");
    all_found(&open, &people).await;
    // The person who was erased is unknown now, and may come back as somebody new.
    let back = values(50, 50, &[TokenMode::Random]).next().unwrap();
    assert_ne!(open.tokenize(back).await.unwrap().subject, gone.stored.subject);
    open.vault.close().await;
    drop(open);
    let open = OpenVault::open(&backend, dir.path(), None).await.unwrap();
    open.clock.advance(45 * 60 * MINUTE);
    all_found(&open, &people).await;
}

on_both!(an_index_entry_that_was_edited_stops_the_rotation_at_its_end);
async fn an_index_entry_that_was_edited_stops_the_rotation_at_its_end(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    make_unique(&open).await;
    let mut people = people(&open, 0..3).await;
    let zeros =
        if matches!(backend, Backend::Sqlite) { "zeroblob(32)" } else { "decode(repeat('00', 32), 'hex')" };
    let edit = format!("UPDATE index_entries SET value_hash = {zeros}");
    let one = " WHERE record_id = (SELECT record_id FROM index_entries ORDER BY record_id LIMIT 1)";
    assert_eq!(backend.sql(dir.path(), &(edit + one)).await, 1);
    let begun = begin(&open).await.unwrap();
    work_through(&open).await;
    assert_eq!(operation(&open, begun.id).await.state, OperationState::Failed);
    let versions: Vec<_> =
        usage(&open).await.into_iter().map(|(version, state, _)| (version, state)).collect();
    assert_eq!(versions, [(1, KeyState::Active), (2, KeyState::Retiring)], "nothing more is put there");
    people.push(store(&open, 10).await);
    all_found(&open, &people[3..]).await;
}

/// Two vaults on one database, both finding and storing while one of them rotates: nothing is missed.
#[tokio::test(flavor = "multi_thread")]
async fn two_replicas_find_everything_while_one_rotates_the_index() {
    let backend = Backend::postgres().await;
    let dir = tempfile::tempdir().unwrap();
    let first = Arc::new(OpenVault::create(&backend, dir.path(), |store| store).await);
    let second = Arc::new(OpenVault::open(&backend, dir.path(), None).await.unwrap());
    make_unique(&first).await;
    let stored = Arc::new(people(&first, 0..60).await);
    let rotating = Arc::new(AtomicBool::new(true));
    let mut tasks = tokio::task::JoinSet::new();
    for (number, open) in [&first, &second].into_iter().enumerate() {
        let (open, stored, rotating) = (Arc::clone(open), Arc::clone(&stored), Arc::clone(&rotating));
        tasks.spawn(async move {
            let mut new = Vec::new();
            for round in 0.. {
                if !rotating.load(Ordering::SeqCst) && round > 0 {
                    break;
                }
                let person = &stored[(round * 7 + number) % stored.len()];
                assert_eq!(look_up(&open, person.holds).await, [person.stored.subject]);
                let value = open.detokenize(&person.stored.tokens[1].token).await.unwrap().value;
                assert_eq!(value.expose(), iin(person.holds));
                new.push(store(&open, u32::try_from(1_000 + 2 * round + number).unwrap()).await);
            }
            new
        });
    }
    begin(&first).await.unwrap();
    work_through(&second).await;
    rotating.store(false, Ordering::SeqCst);
    let mut new = Vec::new();
    while let Some(more) = tasks.join_next().await {
        new.extend(more.unwrap());
    }
    let count = u64::try_from(3 * (stored.len() + new.len())).unwrap();
    for open in [&first, &second] {
        assert_eq!(usage(open).await, [(1, KeyState::Retiring, 0), (2, KeyState::Active, count)]);
        all_found(open, &stored).await;
        all_found(open, &new).await;
    }
}
