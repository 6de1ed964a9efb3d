//! How calls follow each other, and how long each took.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use hdrhistogram::Histogram;
use tokio::{
    runtime::Handle,
    sync::{Semaphore, mpsc},
    task::JoinSet,
};

use super::calls::{Caller, Client};
use crate::cli::{
    bench::{
        Failure,
        job::{Counted, DIGITS, Pace, Until, steps},
        numbers::{float, micros, whole},
    },
    output::exit,
};

/// Most calls of an open loop that wait for an answer. One that finds no room is sent later, and counts as slow.
/// Four times as many as a lane of the vault takes, so that what it refuses is refused and not kept from it.
const WAITING: usize = 32_768;
/// Different reasons of failures that are kept apart.
const REASONS: usize = 32;

/// Whose turn it is.
pub(super) struct Callers(Vec<Caller>);

impl Callers {
    pub(super) fn new(callers: Vec<Caller>) -> Result<Arc<Self>, Failure> {
        if callers.is_empty() {
            return Err(Failure::new(exit::FAILED, "nobody is there to call"));
        }
        Ok(Arc::new(Self(callers)))
    }

    /// The so-manieth caller with its connections: all of them in turn, and each one's connections in turn.
    fn turn(&self, number: usize) -> Option<(&Caller, Client)> {
        let caller = self.0.get(number % self.0.len())?;
        Some((caller, caller.client(number / self.0.len())?))
    }
}

/// Calls until the end, at this pace.
pub(super) async fn run(callers: Arc<Callers>, pace: Pace, until: Until) -> Result<Counted, Failure> {
    match pace {
        Pace::Closed(number) => closed(&callers, number, until).await,
        Pace::Open(rate) => open(callers, rate, until).await,
    }
}

/// What was counted so far.
struct Tally {
    counted: Counted,
    answered: Histogram<u64>,
    refused: Histogram<u64>,
}

impl Tally {
    fn new() -> Result<Self, Failure> {
        let (answered, refused) = (Histogram::new(DIGITS)?, Histogram::new(DIGITS)?);
        Ok(Self { counted: Counted::default(), answered, refused })
    }

    fn take(&mut self, took: Duration, outcome: Result<u64, String>) -> Result<(), Failure> {
        match outcome {
            Ok(items) => {
                self.answered.record(micros(took))?;
                self.counted.calls += 1;
                self.counted.items += items;
            }
            Err(reason) => {
                self.refused.record(micros(took))?;
                let failures = &mut self.counted.failures;
                let known = failures.len() < REASONS || failures.contains_key(&reason);
                *failures.entry(if known { reason } else { "others".to_owned() }).or_default() += 1;
            }
        }
        Ok(())
    }

    fn add(&mut self, other: Self) -> Result<(), Failure> {
        self.answered.add(other.answered)?;
        self.refused.add(other.refused)?;
        self.counted.calls += other.counted.calls;
        self.counted.items += other.counted.items;
        for (reason, count) in other.counted.failures {
            *self.counted.failures.entry(reason).or_default() += count;
        }
        Ok(())
    }

    /// The end; of what was sent until then, so many calls were answered while others were sent still.
    fn end(self, began: Instant, sent: Option<(Instant, u64)>) -> Counted {
        let (until, calls_meanwhile) = sent.unwrap_or_else(|| (Instant::now(), self.counted.calls));
        Counted {
            micros: micros(began.elapsed()),
            sending_micros: micros(until.saturating_duration_since(began)),
            calls_meanwhile,
            answered: steps(&self.answered),
            refused: steps(&self.refused),
            ..self.counted
        }
    }
}

async fn closed(callers: &Arc<Callers>, number: u32, until: Until) -> Result<Counted, Failure> {
    let (number_of, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let mut tasks = JoinSet::new();
    for number in 0..usize::try_from(number)? {
        let (callers, number_of) = (Arc::clone(callers), Arc::clone(&number_of));
        tasks.spawn(async move {
            let mut tally = Tally::new()?;
            let Some((caller, mut client)) = callers.turn(number) else { return Ok(tally) };
            while goes_on(until, began, number_of.fetch_add(1, Ordering::Relaxed)) {
                let sent = Instant::now();
                let outcome = caller.call(&mut client).await;
                tally.take(sent.elapsed(), outcome)?;
            }
            Ok::<_, Failure>(tally)
        });
    }
    let mut all = Tally::new()?;
    while let Some(one) = tasks.join_next().await {
        all.add(one??)?;
    }
    Ok(all.end(began, None))
}

fn goes_on(until: Until, began: Instant, number: u64) -> bool {
    match until {
        Until::Seconds(seconds) => began.elapsed().as_secs_f64() < seconds,
        Until::Calls(calls) => number < calls,
    }
}

/// What the listener of an open loop hears.
enum Heard {
    Ended(Duration, Result<u64, String>),
    /// The last call was sent.
    AllSent(Instant),
}

async fn open(callers: Arc<Callers>, rate: f64, until: Until) -> Result<Counted, Failure> {
    let calls = match until {
        Until::Seconds(seconds) => whole(rate * seconds),
        Until::Calls(calls) => calls,
    };
    if !rate.is_normal() || rate < 0.0 {
        return Err(Failure::new(exit::FAILED, "an open loop needs a rate above zero"));
    }
    let (mut all, mut sent) = (Tally::new()?, None);
    let (tell, mut told) = mpsc::unbounded_channel();
    let (runtime, began) = (Handle::current(), Instant::now());
    // A thread that sleeps is woken within some 60 µs, a timer of the runtime within a millisecond only.
    let pacer = std::thread::spawn(move || {
        let room = Arc::new(Semaphore::new(WAITING));
        let gap = Duration::from_secs_f64(1.0 / rate);
        for number in 0..calls {
            let due = began + gap.mul_f64(float(number));
            std::thread::sleep(due.saturating_duration_since(Instant::now()));
            let Ok(place) = runtime.block_on(Arc::clone(&room).acquire_owned()) else { return };
            let (callers, tell) = (Arc::clone(&callers), tell.clone());
            runtime.spawn(async move {
                let turn = usize::try_from(number).ok().and_then(|number| callers.turn(number));
                let Some((caller, mut client)) = turn else { return };
                let outcome = caller.call(&mut client).await;
                // The listener waits for every call.
                let _told = tell.send(Heard::Ended(due.elapsed(), outcome));
                drop(place);
            });
        }
        let _told = tell.send(Heard::AllSent(Instant::now()));
    });
    while let Some(heard) = told.recv().await {
        match heard {
            Heard::Ended(took, outcome) => all.take(took, outcome)?,
            Heard::AllSent(at) => sent = Some((at, all.counted.calls)),
        }
    }
    if pacer.join().is_err() {
        return Err(Failure::new(exit::FAILED, "the open loop broke off"));
    }
    Ok(all.end(began, sent))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_several_callers_counted_is_one_count() {
        let (mut one, mut other) = (Tally::new().unwrap(), Tally::new().unwrap());
        one.take(Duration::from_micros(100), Ok(2)).unwrap();
        other.take(Duration::from_micros(300), Err("LANE_FULL".to_owned())).unwrap();
        other.take(Duration::from_micros(200), Ok(3)).unwrap();
        one.add(other).unwrap();
        let counted = one.end(Instant::now(), None);
        assert_eq!((counted.calls, counted.items, counted.failed()), (2, 5, 1));
        assert_eq!(counted.answered, [(100, 1), (200, 1)]);
        assert_eq!(counted.refused, [(300, 1)], "a failure takes time too");
        assert_eq!(counted.histogram().unwrap().len(), 3);
    }

    #[test]
    fn reasons_do_not_grow_without_end() {
        let mut tally = Tally::new().unwrap();
        (0..100).for_each(|number| tally.take(Duration::ZERO, Err(number.to_string())).unwrap());
        assert_eq!(tally.counted.failures.len(), REASONS + 1);
        assert_eq!(tally.counted.failed(), 100);
    }
}
