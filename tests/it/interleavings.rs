//! The log alone proves it: under concurrent reads and changes on two replicas, no permit stands after what ended its
//! permission.

use std::{
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
    time::Duration,
};

use sandyq::{
    audit::entry::Entry,
    domain::subject::{RestrictionRequester, RestrictionTrigger},
    store::Store,
    vault::{
        error::VaultError,
        subjects::{Block, SubjectName},
        tokenize::Tokenized,
    },
};
use tokio::task::JoinSet;

use crate::common::{
    backend::{Backend, on_both},
    random::{Choices, rounds},
    vault::{OpenVault, PLATFORM, asker},
};

/// Subjects that are worked on at once.
const AT_ONCE: u32 = 40;
/// Erasures are paid from a budget of 100 a day.
const ERASURES: u32 = 90;

#[derive(Debug, Clone, Copy, PartialEq)]
enum End {
    Withdraw,
    Restrict,
    Revoke,
    Erase,
}

async fn end(open: &OpenVault, stored: &Tokenized, how: End) -> Result<(), VaultError> {
    let backend = open.caller("backend");
    let name = SubjectName::Id(stored.subject);
    let (vault, by) = (&open.vault, asker("backend"));
    match how {
        End::Withdraw => vault.withdraw_consent(&backend, by, "", stored.consents[0]).await.map(drop),
        End::Restrict => {
            let block = Block {
                subject: name,
                trigger: RestrictionTrigger::SubjectRequest,
                requester: RestrictionRequester::Subject,
                review_at: open.clock.now().plus(Duration::from_hours(24)),
                reference: None,
            };
            vault.restrict_subject(&backend, by, "", block).await.map(drop)
        }
        End::Revoke => {
            let token = sandyq::domain::token::AnyToken::parse(&stored.tokens[0].token.reveal()).unwrap();
            vault.revoke_token(&backend, by, token).await.map(drop)
        }
        End::Erase => vault.erase_subject(&backend, by, "", name, None).await.map(drop),
    }
}

async fn yields(count: u64) {
    for _ in 0..count {
        tokio::task::yield_now().await;
    }
}

/// One subject: four reads and one end of its permission, at random moments, on random replicas.
async fn interleave(replicas: Arc<[OpenVault; 2]>, number: u32, seed: u64, erasures: Arc<AtomicU32>) {
    let mut choices = Choices::from_seed(seed);
    let stored = Arc::new(replicas[usize::try_from(choices.below(2)).unwrap()].store_iin(number).await);
    let mut how = *choices.pick(&[End::Withdraw, End::Restrict, End::Revoke, End::Erase]);
    if how == End::Erase && erasures.fetch_add(1, Ordering::SeqCst) >= ERASURES {
        how = End::Withdraw;
    }
    let mut tasks = JoinSet::new();
    for _ in 0..4 {
        let (replicas, stored) = (Arc::clone(&replicas), Arc::clone(&stored));
        let (at, wait) = (usize::try_from(choices.below(2)).unwrap(), choices.below(40));
        tasks.spawn(async move {
            yields(wait).await;
            // Permitted or denied: the log must agree with itself either way.
            let _either = replicas[at].detokenize(&stored.tokens[0].token).await;
        });
    }
    let (at, wait) = (usize::try_from(choices.below(2)).unwrap(), choices.below(40));
    let (ending, theirs) = (Arc::clone(&replicas), Arc::clone(&stored));
    tasks.spawn(async move {
        yields(wait).await;
        end(&ending[at], &theirs, how).await.unwrap();
        // What was acknowledged binds the other replica at once.
        assert!(ending[1 - at].detokenize(&theirs.tokens[0].token).await.is_err(), "{how:?}");
    });
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
}

/// Walks the log: every permit must stand before what ended its consent, subject or token.
fn permits_stand_before_their_ends(entries: &[Entry]) -> (usize, usize) {
    let (mut ended, mut permits) = (HashMap::new(), 0);
    for (position, entry) in entries.iter().enumerate() {
        if entry.verdict == "permit" {
            permits += 1;
            let grounds = [("consent", entry.consent), ("subject", entry.subject), ("token", entry.token)];
            for (kind, id) in grounds {
                let before = id.and_then(|id| ended.get(&(kind, *id)));
                assert_eq!(before, None, "the permit at {position} stands after the end of its {kind}");
            }
        }
        if entry.verdict == "done" {
            let end = match entry.call.as_str() {
                "ConsentService/WithdrawConsent" => ("consent", entry.consent),
                "SubjectService/RestrictSubject" | "SubjectService/EraseSubject" => {
                    ("subject", entry.subject)
                }
                "VaultService/RevokeToken" => ("token", entry.token),
                _ => continue,
            };
            if let (kind, Some(id)) = end {
                ended.insert((kind, *id), position);
            }
        }
    }
    (permits, ended.len())
}

on_both!(no_permit_stands_after_what_ended_it);
async fn no_permit_stands_after_what_ended_it(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let mut kept: Option<Arc<dyn Store>> = None;
    let first = OpenVault::create(&backend, dir.path(), |store| Arc::clone(kept.insert(store))).await;
    let store = kept.unwrap();
    // SQLite has one vault; PostgreSQL has two, which know nothing of each other.
    let second = match &backend {
        Backend::Sqlite => None,
        Backend::Postgres(_) => Some(OpenVault::open(&backend, dir.path(), None).await.unwrap()),
    };
    let total = rounds(400, 10_000);
    let erasures = Arc::new(AtomicU32::new(0));
    let mut seeds = Choices::from_seed(20_261_123);
    let Some(second) = second else { return alone(Arc::new(first), &store, total, seeds).await };
    let replicas = Arc::new([first, second]);
    for wave in 0..total.div_ceil(AT_ONCE) {
        let mut tasks = JoinSet::new();
        for number in (wave * AT_ONCE)..((wave + 1) * AT_ONCE).min(total) {
            let seed = seeds.next();
            tasks.spawn(interleave(Arc::clone(&replicas), number, seed, Arc::clone(&erasures)));
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    }
    let (permits, ends) = permits_stand_before_their_ends(&entries(&store).await);
    println!("{total} interleavings: {permits} permits, {ends} ends");
    assert!(permits > usize::try_from(total / 4).unwrap() && ends == usize::try_from(total).unwrap());
}

/// The same in one process: reads and ends share its batches.
async fn alone(open: Arc<OpenVault>, store: &Arc<dyn Store>, total: u32, mut seeds: Choices) {
    for wave in 0..total.div_ceil(AT_ONCE) {
        let mut tasks = JoinSet::new();
        for number in (wave * AT_ONCE)..((wave + 1) * AT_ONCE).min(total) {
            let (open, seed) = (Arc::clone(&open), seeds.next());
            tasks.spawn(async move {
                let mut choices = Choices::from_seed(seed);
                let stored = open.store_iin(number).await;
                let how = *choices.pick(&[End::Withdraw, End::Restrict, End::Revoke]);
                let (a, b, c) = (choices.below(20), choices.below(20), choices.below(20));
                let token = &stored.tokens[0].token;
                let reads = async |wait| {
                    yields(wait).await;
                    let _either = open.detokenize(token).await;
                };
                let ends = async {
                    yields(b).await;
                    end(&open, &stored, how).await.unwrap();
                    assert!(open.detokenize(token).await.is_err(), "{how:?}");
                };
                tokio::join!(reads(a), ends, reads(c));
            });
        }
        while let Some(done) = tasks.join_next().await {
            done.unwrap();
        }
    }
    let (permits, ends) = permits_stand_before_their_ends(&entries(store).await);
    println!("{total} interleavings: {permits} permits, {ends} ends");
    assert!(permits > usize::try_from(total / 8).unwrap() && ends == usize::try_from(total).unwrap());
}

async fn entries(store: &Arc<dyn Store>) -> Vec<Entry> {
    let rows = store.entries(PLATFORM, 0, u32::MAX).await.unwrap();
    rows.iter().map(|row| Entry::decode(&row.entry).unwrap()).collect()
}
