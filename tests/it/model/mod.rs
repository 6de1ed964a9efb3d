//! The vault against a small model: random sequences of calls must be answered, or refused with the very reason, as the
//! model says. A sequence that is not is made as short as it fails, and printed with its seed.

#![expect(clippy::wildcard_enum_match_arm, reason = "a call that a function is not about has no part in it")]

mod asks;
mod calls;
mod rules;
mod state;
mod world;

use std::{
    collections::BTreeMap,
    sync::{
        Arc,
        atomic::{AtomicU32, Ordering},
    },
};

use sandyq::{
    domain::{
        caller::Role,
        ids::RequestId,
        operation::{BudgetKind, BudgetLimit},
        time::Timestamp,
    },
    vault::{
        callers::{CallerTerms, NewCaller},
        policies::Applied,
    },
};
use tokio::task::JoinSet;

use crate::common::{
    backend::{Backend, on_both},
    random::{Choices, rounds},
    vault::{OpenVault, POLICY, as_admin, spiffe},
};
use asks::{Ask, Step};
use calls::{Calls, request_id};
use state::Model;

/// Sequences that run at once.
const AT_ONCE: u32 = 100;
/// Sequences that one installation serves: there are some thousand synthetic IINs.
const OF_AN_INSTALLATION: u32 = 800;
const SEED: u64 = 20_261_125;

/// How often calls were answered, and each reason was told.
type Seen = BTreeMap<String, u32>;

/// A vault for sequences, with numbers that none has used.
struct Place {
    open: OpenVault,
    numbers: AtomicU32,
    _dir: tempfile::TempDir,
}

impl Place {
    async fn create(backend: &Backend) -> Arc<Self> {
        let dir = tempfile::tempdir().unwrap();
        let open = OpenVault::create(backend, dir.path(), |store| store).await;
        let (vault, admin) = (&open.vault, open.admin());
        let applied = vault.apply_policy(&admin, as_admin(), world::policy(POLICY), false).await.unwrap();
        assert!(matches!(applied, Applied::Version(_)), "{applied:?}");
        for name in ["mailing", "credit", "rights"] {
            let terms =
                CallerTerms { name: name.parse().unwrap(), roles: vec![Role::Service], pins: Vec::new() };
            let new = NewCaller { spiffe_id: spiffe(name), terms, person: None };
            vault.enrol_caller(&admin, as_admin(), "lerna", new).await.unwrap();
        }
        // Budgets are shared by all sequences, so they must never end.
        for caller in world::CALLERS.iter().filter(|caller| **caller != "admin") {
            for kind in BudgetKind::ALL {
                let limit = BudgetLimit { limit: 1_000_000_000, ..BudgetLimit::default_of(*kind) };
                vault.set_budget(&admin, as_admin(), open.caller(caller).id, limit).await.unwrap();
            }
        }
        Arc::new(Self { open, numbers: AtomicU32::new(0), _dir: dir })
    }

    /// Hours pass, and what is due is destroyed.
    async fn pause(&self) {
        self.open.clock.advance(5 * 3_600_000_000);
        while self.open.vault.work().await.unwrap().done > 0 {}
    }
}

/// A request that was made with an id.
struct Made {
    caller: &'static str,
    ask: Ask,
    id: RequestId,
    at: i64,
    when: Timestamp,
}

/// A sequence on its way.
struct Run {
    place: Arc<Place>,
    model: Model,
    made: Vec<Made>,
    /// How often each outcome was seen.
    seen: Seen,
}

impl Run {
    fn new(place: &Arc<Place>) -> Self {
        let base = place.numbers.fetch_add(1, Ordering::SeqCst);
        Self { place: Arc::clone(place), model: Model::new(base), made: Vec::new(), seen: BTreeMap::new() }
    }

    /// Makes every step, and says where the vault differs from the model.
    async fn half(&mut self, steps: &[Step]) -> Result<(), String> {
        for step in steps {
            self.step(step).await.map_err(|differs| format!("{step:?}\n  {differs}"))?;
        }
        Ok(())
    }

    async fn step(&mut self, step: &Step) -> Result<(), String> {
        // SQLite's time has milliseconds: each step gets its own.
        self.place.open.clock.advance(2_000);
        let at = self.model.tick();
        if let Some((caller, ask, with_id)) = self.model.resolve(step) {
            let (id, when) = (request_id(&self.place.open), self.place.open.clock.now());
            let made = Made { caller, ask, id, at, when };
            if with_id {
                self.made.push(made);
                return self.compare(self.made.len() - 1, 0).await;
            }
            return self.call(&made, None).await;
        }
        let Step::Again { nth, other_body } = step else { return Ok(()) };
        if self.made.is_empty() {
            Ok(())
        } else {
            self.compare(self.made.len() - 1 - nth % self.made.len(), u8::from(*other_body)).await
        }
    }

    async fn compare(&mut self, made: usize, body: u8) -> Result<(), String> {
        let made_again = self.made.swap_remove(made);
        let compared = self.call(&made_again, Some((made, body))).await;
        self.made.push(made_again);
        let last = self.made.len() - 1;
        self.made.swap(made, last);
        compared
    }

    async fn call(&mut self, made: &Made, request: Option<(usize, u8)>) -> Result<(), String> {
        let Made { caller, ask, id, at, when } = made;
        let calls = Calls {
            open: &self.place.open,
            model: &self.model,
            caller,
            request: request.map(|(_, body)| (*id, body)),
            when: *when,
        };
        let told = calls.make(ask).await;
        let expected = self.model.expect(caller, request, ask, *at);
        *self
            .seen
            .entry(expected.as_ref().err().map_or_else(|| ask.name(), |reason| (*reason).into()))
            .or_default() += 1;
        match (&expected, told) {
            (Ok(parts), Ok(said)) if self.model.matches(parts, &said) => {
                self.model.learn(caller, request, ask, said);
                Ok(())
            }
            (Err(reason), Err(told)) if *reason == told => Ok(()),
            (_, told) => Err(format!("{caller}: {ask:?}\n  model: {expected:?}\n  vault: {told:?}")),
        }
    }

    /// What the vault holds in the end is what the model holds.
    async fn end(&mut self) -> Result<(), String> {
        for person in 0..3 {
            self.step(&Step::Ask {
                caller: "backend",
                ask: Ask::Get { person },
                with_id: false,
                fitting: true,
            })
            .await?;
        }
        Ok(())
    }
}

/// Runs sequences at once, with one pause for all; the first that differs, with what it was.
async fn wave(
    place: &Arc<Place>,
    sequences: &[[Vec<Step>; 2]],
    seen: &mut Seen,
) -> Result<(), (usize, String)> {
    let mut runs: Vec<_> = sequences.iter().map(|_| Run::new(place)).collect();
    for half in 0..2 {
        let mut tasks = JoinSet::new();
        for (n, (sequence, mut run)) in sequences.iter().zip(runs.drain(..)).enumerate() {
            let steps = sequence[half].clone();
            tasks.spawn(async move {
                let mut outcome = run.half(&steps).await;
                if half == 1 && outcome.is_ok() {
                    outcome = run.end().await;
                }
                (n, run, outcome)
            });
        }
        let mut back = tasks.join_all().await;
        back.sort_by_key(|(n, ..)| *n);
        for (n, run, outcome) in back {
            outcome.map_err(|differs| (n, differs))?;
            runs.push(run);
        }
        if half == 0 {
            place.pause().await;
            for run in &mut runs {
                run.model.pause();
            }
        }
    }
    for (outcome, times) in runs.into_iter().flat_map(|run| run.seen) {
        *seen.entry(outcome).or_default() += times;
    }
    Ok(())
}

/// Takes away step after step as long as the rest still fails.
async fn shorten(backend: &Backend, mut sequence: [Vec<Step>; 2]) -> ([Vec<Step>; 2], String) {
    let place = Place::create(&backend.fresh().await).await;
    let mut why = String::from("it does not fail alone");
    for half in 0..2 {
        for at in (0..sequence[half].len()).rev() {
            let mut shorter = sequence.clone();
            shorter[half].remove(at);
            if let Err((_, differs)) = wave(&place, std::slice::from_ref(&shorter), &mut Seen::new()).await {
                (sequence, why) = (shorter, differs);
            }
        }
    }
    (sequence, why)
}

on_both!(the_vault_answers_as_the_model_says);
async fn the_vault_answers_as_the_model_says(backend: Backend) {
    let total = rounds(500, 10_000);
    let (mut seeds, mut seen) = (Choices::from_seed(SEED), BTreeMap::new());
    let mut place = Place::create(&backend).await;
    for wave_of in 0..total.div_ceil(AT_ONCE) {
        let first = wave_of * AT_ONCE;
        if place.numbers.load(Ordering::SeqCst) + AT_ONCE > OF_AN_INSTALLATION {
            place = Place::create(&backend.fresh().await).await;
        }
        let these: Vec<_> = (first..(first + AT_ONCE).min(total)).map(|_| seeds.next()).collect();
        let sequences: Vec<_> = these.iter().map(|seed| asks::sequence(&mut Choices::quiet(*seed))).collect();
        if let Err((n, differs)) = wave(&place, &sequences, &mut seen).await {
            let (short, why) = shorten(&backend, sequences[n].clone()).await;
            println!("sequence of seed {}:\n{differs}", these[n]);
            let steps: Vec<_> = short
                .iter()
                .flat_map(|half| half.iter().map(|s| format!("\n  {s:?}")).chain(["\n  -- hours".into()]))
                .collect();
            panic!("seed {}, shortened to{}\n{why}", these[n], steps.concat());
        }
    }
    println!("{total} sequences: {seen:?}");
    for outcome in rules::OUTCOMES {
        assert!(seen.contains_key(*outcome), "no sequence came to {outcome}");
    }
}
