//! After a compromise everything is sealed under new keys while the vault serves: old keys open nothing then, every value and
//! document reads at each moment, and whatever happens to a person meanwhile is not lost.

mod meanwhile;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use sandyq::{
    crypto::{
        aead::Key,
        digest::{IndexKey, RowKey},
        document::{ContentHash, PartPlace},
        envelope::SubjectPlace,
        keyring::{IndexKeys, KeyKind, Keyring, WrappingKeys, key_version_place},
        kms::{Kms as _, local::LocalKms},
        random::SystemRng,
    },
    domain::{
        document::Side,
        ids::SubjectId,
        operation::{Operation, OperationState, Phase},
        proposal::ProposalState,
        reference::Reference,
        secret::Plaintext,
        subject::ValueSource,
        token::AnyToken,
    },
    policy::decide::Denial,
    store::{SealedOf, Store},
    vault::{
        controls::Control,
        documents::{Collected, StoredSide},
        keys::{KeyState, KeyUsage},
        revise::Correction,
        tokenize::Tokenized,
    },
};

use crate::{
    common::{
        backend::{Backend, on_both},
        documents::{PART, content},
        gate::{FAIL_AFTER, Gate, HOLD_BEFORE, PASS, gated},
        officers::{begin_rekey, enrol_second, propose_rekey},
        operations::{operation, work_through},
        people::iin,
        uploads::{Open, objects, place, reference, send},
        vault::{OpenVault, PLATFORM, as_admin, asker, spiffe},
    },
    reconciled::{found, reconcile},
};

const MINUTE: i64 = 60 * 1_000_000;
const FIRST: SubjectId = SubjectId::from_bytes([0; 16]);

/// An installation with people, and documents of some of them; another process answers beside the one that works.
struct World {
    dir: tempfile::TempDir,
    open: OpenVault,
    gate: Arc<Gate>,
    beside: Open,
    people: BTreeMap<u32, Tokenized>,
    /// What a person's IIN is, where it is not the person's number's.
    holds: BTreeMap<u32, u32>,
    sides: Vec<(StoredSide, Vec<u8>)>,
}

impl World {
    async fn new(backend: &Backend, people: u32) -> Self {
        let (dir, OpenVault { vault, clock }, gate) = gated(backend).await;
        let open = OpenVault { vault: vault.with_documents(Some(place(dir.path()))), clock };
        enrol_second(&open).await;
        open.clock.advance(MINUTE);
        let beside = Open::beside(Arc::clone(&gate.inner), &open.clock, dir.path()).await;
        beside.prepare(people.min(8)).await;
        let mut world = Self {
            dir,
            open,
            gate,
            beside,
            people: BTreeMap::new(),
            holds: BTreeMap::new(),
            sides: Vec::new(),
        };
        for number in 1..=people {
            let stored = world.open.store_iin(number).await;
            world.people.insert(number, stored);
        }
        for (number, side, size) in
            [(1, Side::Front, 2 * PART + 9), (1, Side::Back, 40), (2, Side::Front, PART)]
        {
            let image = content(number.into(), size);
            world.sides.push((world.beside.put(number, side, &image).await.unwrap(), image));
        }
        world
    }

    fn store(&self) -> &Arc<dyn Store> {
        &self.gate.inner
    }

    async fn correct(&mut self, number: u32, holds: u32) {
        correct(&self.open, &self.people[&number], holds).await;
        self.holds.insert(number, holds);
    }

    /// Every value reads by both processes, every document by the other.
    async fn all_read(&self) {
        for (number, stored) in &self.people {
            let expected = iin(*self.holds.get(number).unwrap_or(number));
            let value = self.open.detokenize(&stored.tokens[0].token).await.unwrap().value;
            assert_eq!(value.expose(), expected, "person {number}");
        }
        for (side, image) in &self.sides {
            assert!(self.beside.read(*side).await.unwrap() == *image);
        }
    }

    async fn sealed(&self) -> Vec<SealedOf> {
        self.store().sealed(PLATFORM, FIRST, 1_000).await.unwrap()
    }

    async fn usage(&self) -> Vec<(u32, KeyState, u64)> {
        let usages = self.open.vault.key_usage(&self.open.admin(), as_admin(), "lerna").await.unwrap();
        let platform = usages.into_iter().filter(|usage| usage.kind == KeyKind::Platform);
        platform.map(|KeyUsage { version, state, uses, .. }| (version, state, uses)).collect()
    }

    /// One run of the collector, whatever else waits.
    async fn collect(&self) {
        let begun = self.beside.begin_collection().await.unwrap();
        self.beside.vault.work_long(&begun).await.unwrap();
        assert_eq!(operation(&self.open, begun.id).await.state, OperationState::Done);
    }

    /// Every object has its row, and every row its object.
    async fn is_tidy(&self, backend: &Backend) {
        let after = self.beside.survey().await;
        assert_eq!(after, Collected { objects: after.objects, ..Collected::default() });
        let rows = "UPDATE document_parts SET doomed = doomed";
        assert_eq!(backend.sql(self.dir.path(), rows).await, after.objects);
    }
}

async fn correct(open: &OpenVault, person: &Tokenized, holds: u32) {
    let correction = Correction {
        token: AnyToken::parse(&person.tokens[0].token.reveal()).unwrap(),
        value: Plaintext::new(iin(holds)),
        source: ValueSource::Subject,
        evidence: Reference::parse("ACT-17").unwrap(),
    };
    open.vault.update_record(&open.caller("backend"), asker("backend"), correction).await.unwrap();
}

/// What a thief has: the first version of the platform key, out of the KMS.
async fn stolen(world: &World, root: &Path) -> Keyring {
    let kms = LocalKms::open(&root.join("root"), &root.join("unseal")).unwrap();
    let row = world.store().config(PLATFORM).await.unwrap().keys;
    let row = row.into_iter().find(|row| row.kind == "platform" && row.version == 1).unwrap();
    let place = key_version_place(PLATFORM, KeyKind::Platform, 1);
    let key = Arc::new(kms.unwrap(&place, &row.wrapped.unwrap()).await.unwrap());
    let rng = SystemRng::new();
    let random = || Key::random(&rng).unwrap();
    let index = BTreeMap::from([(1, Arc::new(IndexKey::new(1, &random())))]);
    let index = IndexKeys::new(index, &BTreeSet::from([1]), &BTreeSet::new()).unwrap();
    let wrapping = WrappingKeys { keys: BTreeMap::from([(1, key)]), disabled: BTreeSet::new(), active: 1 };
    let (row, request) = (Arc::new(RowKey::new(&random())), Arc::new(RowKey::new(&random())));
    Keyring::new(PLATFORM, wrapping, index, row, request).unwrap()
}

/// How much of what is sealed now opens with the keys that were wrapped then: of each subject its reference, values, tokens,
/// consents, manifests, and the first object of each document that lies on the disk.
fn opened(thief: &Keyring, then: &[SealedOf], now: &[SealedOf], dir: &Path) -> (usize, usize) {
    let (mut opens, mut all) = (0, 0);
    for of in now {
        let Some(old) = then.iter().find(|old| old.subject == of.subject) else { continue };
        let key = thief.unwrap(of.subject, &old.wrapped_key).expect("the thief has the key of then");
        let mut tried =
            vec![key.opens_at(&SubjectPlace::reference(PLATFORM, of.subject), &of.reference).is_ok()];
        tried.extend(of.values.iter().map(|(address, blob)| key.opens_value(address, blob).is_ok()));
        tried.extend(
            of.tokens.iter().map(|(id, blob)| {
                key.opens_at(&SubjectPlace::token(PLATFORM, of.subject, *id), blob).is_ok()
            }),
        );
        tried.extend(
            of.consents.iter().map(|(id, blob)| {
                key.opens_at(&SubjectPlace::consent(PLATFORM, of.subject, *id), blob).is_ok()
            }),
        );
        for row in &of.documents {
            tried.push(key.open_manifest(&row.address, &row.sealed_manifest).is_ok());
            let digits = data_encoding::HEXLOWER.encode(row.id.as_bytes());
            let (shelf, book) = digits.split_at(2);
            let parts = std::fs::read_dir(dir.join("documents/1").join(shelf).join(book)).unwrap();
            let at = PartPlace { index: 0, last: row.size <= 1 << 20 };
            let any = parts.into_iter().any(|part| {
                let bytes = std::fs::read(part.unwrap().path()).unwrap();
                key.hash_part(&row.address, at, bytes, &mut ContentHash::default()).is_ok()
            });
            tried.push(any);
        }
        opens += tried.iter().filter(|opened| **opened).count();
        all += tried.len();
    }
    (opens, all)
}

on_both!(a_rekey_seals_everything_anew_and_old_keys_open_nothing);
async fn a_rekey_seals_everything_anew_and_old_keys_open_nothing(backend: Backend) {
    let mut world = World::new(&backend, 20).await;
    world.open.enrol_auditor().await;
    world.correct(3, 1_003).await;
    // Erased, and not yet destroyed: it may come back.
    let erased = world.people.remove(&4).unwrap();
    world.beside.erase(4).await;
    let (thief, then) = (stolen(&world, world.dir.path()).await, world.sealed().await);
    let (opens, all) = opened(&thief, &then, &then, world.dir.path());
    assert!(opens == all && all > 80, "the control: {opens} of {all}");
    // An upload on its way: its parts are under the old key.
    let image = content(9, 2 * PART);
    let sent = world.beside.upload(5, Side::Front, &image);
    let mut uploading = world.beside.begin(&sent, 0).await.unwrap();
    send(&mut uploading, &image[..PART]).await.unwrap();

    let plan = world.open.vault.plan_rekey(&world.open.admin(), as_admin(), "lerna", 5).await.unwrap();
    // Three versions of documents in five parts, and the part of the upload.
    assert_eq!((plan.version, plan.subject_keys, plan.values, plan.parts), (2, 20, 21, 6));
    assert_eq!((plan.seconds, plan.blockers.len()), (Some(6), 0));
    let begun = begin_rekey(&world.open).await.unwrap();
    assert_eq!((begun.phase, begun.key_version, begun.total), (Phase::Activate, 2, 40));
    for kind in [KeyKind::Platform, KeyKind::Index] {
        let refused = world.open.vault.rotate_key(&world.open.admin(), as_admin(), "lerna", kind, 0).await;
        assert_eq!(refused.err(), Some(Denial::RotationRunning.into()), "{kind:?}");
    }
    assert_eq!(begin_rekey(&world.open).await.err(), Some(Denial::RotationRunning.into()));
    work_through(&world.open).await;
    let done = operation(&world.open, begun.id).await;
    assert_eq!((done.state, done.done, done.total), (OperationState::Done, 40, 40));

    world.all_read().await;
    assert_eq!(send(&mut uploading, &image[PART..]).await, Err(Denial::UploadMoved.into()));
    assert_eq!(world.beside.query(&sent).await.err(), Some(Denial::UploadNotFound.into()));
    world.is_tidy(&backend).await;
    let now = world.sealed().await;
    assert_eq!(opened(&thief, &then, &now, world.dir.path()), (0, all));
    for of in &now {
        assert!(
            thief.unwrap(of.subject, &of.wrapped_key).is_err(),
            "the old platform key opens no key of now"
        );
    }
    assert_eq!(found(&reconcile(&world.open, "lerna").await), []);
    let admin = world.open.admin();
    let back = world.open.vault.cancel_erasure(&admin, as_admin(), "lerna", reference(4), None);
    back.await.unwrap();
    world.people.insert(4, erased);
    world.all_read().await;

    // The version of before goes by itself.
    assert_eq!(world.usage().await, [(1, KeyState::DestructionScheduled, 0), (2, KeyState::Active, 20)]);
    for _ in 0..3 {
        world.open.clock.advance(20 * 60 * MINUTE);
        world.all_read().await;
        work_through(&world.open).await;
    }
    assert_eq!(world.usage().await, [(2, KeyState::Active, 20)]);
    world.all_read().await;
    // And another begins where this one ended.
    let again = begin_rekey(&world.open).await.unwrap();
    work_through(&world.open).await;
    assert_eq!(operation(&world.open, again.id).await.state, OperationState::Done);
    world.all_read().await;
}

/// A worker that stops at its n-th commit from now on, as if it were killed, and another that takes its work up.
async fn killed_at(backend: &Backend, commit: u64) -> bool {
    let backend = backend.fresh().await;
    let world = World::new(&backend, 18).await;
    let begun = begin_rekey(&world.open).await.unwrap();
    world.gate.fail_after(commit);
    let due = world.open.vault.work().await.unwrap().long;
    let survived = world.open.vault.work_long(&due[0]).await.is_ok();
    world.gate.set(PASS);
    world.all_read().await;
    let kept: u64 = world.usage().await.iter().map(|(_, _, keys)| keys).sum();
    assert_eq!(kept, 18, "no key was lost");
    world.open.clock.advance(2 * MINUTE);
    // The collector takes nothing that is ready, nor leaves anything that is not.
    world.collect().await;
    world.all_read().await;
    work_through(&world.open).await;
    assert_eq!(operation(&world.open, begun.id).await.state, OperationState::Done, "commit {commit}");
    world.all_read().await;
    world.is_tidy(&backend).await;
    assert_eq!(objects(world.dir.path()), 5);
    survived
}

on_both!(whatever_stops_a_rekey_another_ends_it);
async fn whatever_stops_a_rekey_another_ends_it(backend: Backend) {
    let mut commit = 0;
    while !killed_at(&backend, commit).await {
        commit += 1;
    }
    println!("stopped before each of {commit} commits");
    assert!(commit >= 8, "take, activate, each document, the others, verify, end");
}

on_both!(one_that_is_called_off_leaves_nothing_after_one_collection);
async fn one_that_is_called_off_leaves_nothing_after_one_collection(backend: Backend) {
    let world = World::new(&backend, 3).await;
    let begun = begin_rekey(&world.open).await.unwrap();
    // Killed when the objects of a document are there, and their commit is not.
    let due = world.open.vault.work().await.unwrap().long;
    while objects(world.dir.path()) == 5 {
        // Taken and activated, or taken and somebody without documents done.
        world.gate.fail_after(2);
        drop(world.open.vault.work_long(&operation(&world.open, due[0].id).await).await);
        world.gate.set(PASS);
        world.open.clock.advance(2 * MINUTE);
    }
    assert_eq!(world.beside.survey().await.orphans, 0, "what is ready is no orphan");
    let admin = world.open.admin();
    let cancelled = world.open.vault.control(&admin, as_admin(), begun.id, Control::Cancel);
    assert_eq!(cancelled.await.unwrap().state, OperationState::Cancelled);
    world.collect().await;
    assert_eq!(objects(world.dir.path()), 5);
    world.is_tidy(&backend).await;
    world.all_read().await;
    // What is left under either version, the next one seals anew.
    let again = begin_rekey(&world.open).await.unwrap();
    work_through(&world.open).await;
    assert_eq!(operation(&world.open, again.id).await.state, OperationState::Done);
    let scheduled = KeyState::DestructionScheduled;
    assert_eq!(world.usage().await, [(1, scheduled, 0), (2, scheduled, 0), (3, KeyState::Active, 3)]);
    world.all_read().await;
}

on_both!(a_worker_of_a_rekey_that_was_overtaken_writes_nothing);
async fn a_worker_of_a_rekey_that_was_overtaken_writes_nothing(backend: Backend) {
    let world = World::new(&backend, 6).await;
    let begun = begin_rekey(&world.open).await.unwrap();
    let due = world.open.vault.work().await.unwrap().long;
    world.gate.fail_after(1);
    assert!(world.open.vault.work_long(&due[0]).await.is_err());
    world.gate.set(PASS);
    let stale: Operation = operation(&world.open, begun.id).await;
    let control = async |control| {
        world.open.vault.control(&world.open.admin(), as_admin(), begun.id, control).await.unwrap()
    };
    let paused = control(Control::Pause).await;
    assert_eq!((paused.state, paused.fence), (OperationState::Paused, stale.fence + 1));
    let before = world.usage().await;
    world.open.vault.rotate(&stale).await.unwrap();
    assert_eq!((world.usage().await, objects(world.dir.path())), (before, 5), "it wrote nothing");
    assert_eq!(operation(&world.open, begun.id).await, paused);
    control(Control::Resume(Some(5_000))).await;
    work_through(&world.open).await;
    assert_eq!(operation(&world.open, begun.id).await.state, OperationState::Done);
    world.all_read().await;
}

// Each of these came between what the worker read and its commit: the commit must not believe that nothing did.
on_both!(what_came_meanwhile_is_not_left_under_the_old_key);
async fn what_came_meanwhile_is_not_left_under_the_old_key(backend: Backend) {
    let mut world = World::new(&backend, 6).await;
    let begun = begin_rekey(&world.open).await.unwrap();
    let (mut holds, mut rounds, mut locks, mut wrote) = (1_000, 0, 0, false);
    let open = &world.open;
    world.gate.set(HOLD_BEFORE);
    let due = async {
        let due = open.vault.work().await.unwrap().long;
        open.vault.work_long(&due[0]).await
    };
    tokio::pin!(due);
    let ended = loop {
        tokio::select! {
            ended = &mut due => break ended,
            permit = world.gate.committed.acquire() => {
                permit.unwrap().forget();
                let now = world.gate.locks.load(Ordering::SeqCst);
                // A commit at its first try, whose head nobody holds.
                wrote = !wrote && now == locks && rounds < 8;
                locks = now;
                if wrote {
                    rounds += 1;
                    holds += 1;
                    for number in 3..=6 {
                        write_beside(&world, number, 10 * holds + number).await;
                    }
                }
                world.gate.go_on.add_permits(1);
            }
        }
    };
    world.gate.set(PASS);
    ended.unwrap();
    assert!(locks > 0, "it met them, and tried again");
    assert_eq!(operation(&world.open, begun.id).await.state, OperationState::Done);
    world.holds.extend((3..=6).map(|number| (number, 10 * holds + number)));
    world.all_read().await;
    assert_eq!(world.usage().await[1], (2, KeyState::Active, 6));
}

/// Another process corrects a value, in the worker's back.
async fn write_beside(world: &World, number: u32, holds: u32) {
    let correction = Correction {
        token: AnyToken::parse(&world.people[&number].tokens[0].token.reveal()).unwrap(),
        value: Plaintext::new(iin(holds)),
        source: ValueSource::Subject,
        evidence: Reference::parse("ACT-17").unwrap(),
    };
    let caller = world.beside.vault.caller(&spiffe("backend")).unwrap();
    world.beside.vault.update_record(&caller, asker("backend"), correction).await.unwrap();
}

on_both!(a_commit_whose_outcome_is_unknown_loses_no_document);
async fn a_commit_whose_outcome_is_unknown_loses_no_document(backend: Backend) {
    let world = World::new(&backend, 2).await;
    begin_rekey(&world.open).await.unwrap();
    for _ in 0..12 {
        world.gate.set(FAIL_AFTER);
        let due = world.open.vault.work().await.unwrap().long;
        let Some(first) = due.first() else { break };
        drop(world.open.vault.work_long(first).await);
        world.gate.set(PASS);
        world.all_read().await;
        world.open.clock.advance(2 * MINUTE);
    }
    work_through(&world.open).await;
    world.all_read().await;
    world.is_tidy(&backend).await;
}

on_both!(everybody_goes_on_while_everything_is_sealed_anew);
async fn everybody_goes_on_while_everything_is_sealed_anew(backend: Backend) {
    let world = Arc::new(World::new(&backend, 40).await);
    let working = Arc::new(AtomicBool::new(true));
    let mut others = tokio::task::JoinSet::new();
    // Values are read, and looked up, by the process that works.
    others.spawn({
        let (world, working) = (Arc::clone(&world), Arc::clone(&working));
        async move {
            while working.load(Ordering::SeqCst) {
                for number in 1..=15 {
                    let stored = &world.people[&number].tokens[0].token;
                    assert_eq!(world.open.detokenize(stored).await.unwrap().value.expose(), iin(number));
                }
            }
            Vec::new()
        }
    });
    // Documents are read, and stored, by another.
    others.spawn({
        let (world, working) = (Arc::clone(&world), Arc::clone(&working));
        async move {
            let mut number = 2;
            while working.load(Ordering::SeqCst) {
                for (side, image) in &world.sides {
                    assert!(world.beside.read(*side).await.unwrap() == *image, "a stream goes on");
                }
                number += 1;
                if number <= 8 {
                    let image = content(number.into(), PART + 7);
                    match world.beside.put(number, Side::Front, &image).await {
                        Ok(side) => assert!(world.beside.read(side).await.unwrap() == image),
                        Err(error) => assert_eq!(error, Denial::UploadMoved.into()),
                    }
                }
            }
            Vec::new()
        }
    });
    // People are corrected, erased and taken back, and come.
    others.spawn({
        let (world, working) = (Arc::clone(&world), Arc::clone(&working));
        async move {
            let (mut round, mut now) = (0, Vec::new());
            while working.load(Ordering::SeqCst) {
                round += 1;
                let number = 16 + round % 10;
                correct(&world.open, &world.people[&number], 2_000 + round).await;
                now.retain(|(known, _)| *known != number);
                now.push((number, 2_000 + round));
                let (gone, admin) = (30 + round % 5, world.open.admin());
                let caller = world.open.caller("backend");
                let erased =
                    world.open.vault.erase_subject(&caller, asker("backend"), "", reference(gone), None);
                erased.await.unwrap();
                let back =
                    world.open.vault.cancel_erasure(&admin, as_admin(), "lerna", reference(gone), None);
                back.await.unwrap();
                world.open.store_iin(500 + round).await;
            }
            assert!(round > 1, "it went on meanwhile");
            now
        }
    });
    let begun = begin_rekey(&world.open).await.unwrap();
    work_through(&world.open).await;
    assert_eq!(operation(&world.open, begun.id).await.state, OperationState::Done);
    working.store(false, Ordering::SeqCst);
    let mut holds = BTreeMap::new();
    while let Some(changed) = others.join_next().await {
        holds.extend(changed.unwrap());
    }
    let mut world = Arc::into_inner(world).unwrap();
    world.holds = holds;
    world.all_read().await;
    // Every subject is under the new version, and opens: also what came while it ran.
    let usage = world.usage().await;
    assert_eq!((usage[0].0, usage[0].2, usage[1].0), (1, 0, 2), "{usage:?}");
    let again = begin_rekey(&world.open).await.unwrap();
    work_through(&world.open).await;
    assert_eq!(operation(&world.open, again.id).await.state, OperationState::Done);
    world.all_read().await;
}

/// Somebody's value, edited behind the vault.
async fn spoil(world: &World, backend: &Backend, number: u32) {
    let subject = data_encoding::HEXLOWER.encode(world.people[&number].subject.as_bytes());
    let (literal, spoilt) = match backend {
        Backend::Sqlite => (format!("x'{subject}'"), "x'0000'"),
        Backend::Postgres(_) => (format!("'\\x{subject}'"), "'\\x0000'"),
    };
    let sql = format!("UPDATE records SET sealed_value = {spoilt} WHERE subject_id = {literal}");
    assert_eq!(backend.sql(world.dir.path(), &sql).await, 1);
}

// One thing that does not open must not be thrown away with its key.
on_both!(what_does_not_open_keeps_its_key);
async fn what_does_not_open_keeps_its_key(backend: Backend) {
    let world = World::new(&backend, 5).await;
    spoil(&world, &backend, 5).await;
    let begun = begin_rekey(&world.open).await.unwrap();
    work_through(&world.open).await;
    assert_eq!(operation(&world.open, begun.id).await.state, OperationState::Failed);
    let usage = world.usage().await;
    assert_eq!(usage, [(1, KeyState::Retiring, 1), (2, KeyState::Active, 4)], "the old version is kept");
    let number = 3;
    let value = world.open.detokenize(&world.people[&number].tokens[0].token).await.unwrap().value;
    assert_eq!(value.expose(), iin(number));
}

on_both!(what_was_spoilt_since_keeps_the_old_version);
async fn what_was_spoilt_since_keeps_the_old_version(backend: Backend) {
    let world = World::new(&backend, 5).await;
    let begun = begin_rekey(&world.open).await.unwrap();
    let due = world.open.vault.work().await.unwrap().long;
    // Step by step, until everything is sealed anew, and nothing of it opened once more: a worker takes it, and does one thing.
    while operation(&world.open, begun.id).await.phase != Phase::Verify {
        world.gate.fail_after(2);
        drop(world.open.vault.work_long(&operation(&world.open, due[0].id).await).await);
        world.gate.set(PASS);
        world.open.clock.advance(2 * MINUTE);
    }
    spoil(&world, &backend, 5).await;
    work_through(&world.open).await;
    assert_eq!(operation(&world.open, begun.id).await.state, OperationState::Failed);
    assert_eq!(world.usage().await, [(1, KeyState::Retiring, 0), (2, KeyState::Active, 5)]);
}

on_both!(one_officer_alone_never_rekeys);
async fn one_officer_alone_never_rekeys(backend: Backend) {
    let world = World::new(&backend, 2).await;
    let proposed = propose_rekey(&world.open).await.unwrap();
    assert_eq!(proposed.state, ProposalState::Open, "also where one officer is enough for all else");
    assert_eq!(world.usage().await, [(1, KeyState::Active, 3)], "two subject keys, and the proposal's");
}
