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

use super::calls::Caller;
use crate::cli::{
    bench::{
        Failure,
        job::{Counted, DIGITS, Pace, Until},
        numbers::{float, micros, whole},
    },
    output::exit,
};

/// Most calls of an open loop that wait for an answer. One that finds no room is sent later, and counts as slow.
const WAITING: usize = 8_192;
/// Different reasons of failures that are kept apart.
const REASONS: usize = 32;

/// Calls until the end, at this pace.
pub(super) async fn run(caller: Arc<Caller>, pace: Pace, until: Until) -> Result<Counted, Failure> {
    match pace {
        Pace::Closed(callers) => closed(&caller, callers, until).await,
        Pace::Open(rate) => open(caller, rate, until).await,
    }
}

/// What was counted so far.
struct Tally {
    counted: Counted,
    latencies: Histogram<u64>,
}

impl Tally {
    fn new() -> Result<Self, Failure> {
        Ok(Self { counted: Counted::default(), latencies: Histogram::new(DIGITS)? })
    }

    fn take(&mut self, took: Duration, outcome: Result<u64, String>) -> Result<(), Failure> {
        self.latencies.record(micros(took))?;
        match outcome {
            Ok(items) => {
                self.counted.calls += 1;
                self.counted.items += items;
            }
            Err(reason) => {
                let failures = &mut self.counted.failures;
                let known = failures.len() < REASONS || failures.contains_key(&reason);
                *failures.entry(if known { reason } else { "others".to_owned() }).or_default() += 1;
            }
        }
        Ok(())
    }

    fn add(&mut self, other: Self) -> Result<(), Failure> {
        self.latencies.add(other.latencies)?;
        self.counted.calls += other.counted.calls;
        self.counted.items += other.counted.items;
        for (reason, count) in other.counted.failures {
            *self.counted.failures.entry(reason).or_default() += count;
        }
        Ok(())
    }

    fn end(mut self, began: Instant) -> Counted {
        self.counted.micros = micros(began.elapsed());
        self.counted.with_latencies(&self.latencies)
    }
}

async fn closed(caller: &Arc<Caller>, callers: u32, until: Until) -> Result<Counted, Failure> {
    let (number_of, began) = (Arc::new(AtomicU64::new(0)), Instant::now());
    let mut tasks = JoinSet::new();
    for number in 0..usize::try_from(callers)? {
        let (caller, number_of) = (Arc::clone(caller), Arc::clone(&number_of));
        tasks.spawn(async move {
            let mut tally = Tally::new()?;
            let Some(mut client) = caller.client(number) else { return Ok(tally) };
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
    Ok(all.end(began))
}

fn goes_on(until: Until, began: Instant, number: u64) -> bool {
    match until {
        Until::Seconds(seconds) => began.elapsed().as_secs_f64() < seconds,
        Until::Calls(calls) => number < calls,
    }
}

async fn open(caller: Arc<Caller>, rate: f64, until: Until) -> Result<Counted, Failure> {
    let calls = match until {
        Until::Seconds(seconds) => whole(rate * seconds),
        Until::Calls(calls) => calls,
    };
    if !rate.is_normal() || rate < 0.0 {
        return Err(Failure::new(exit::FAILED, "an open loop needs a rate above zero"));
    }
    let mut all = Tally::new()?;
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
            let (caller, tell) = (Arc::clone(&caller), tell.clone());
            runtime.spawn(async move {
                let Some(mut client) = usize::try_from(number).ok().and_then(|number| caller.client(number))
                else {
                    return;
                };
                let outcome = caller.call(&mut client).await;
                // The listener waits for every call.
                let _told = tell.send((due.elapsed(), outcome));
                drop(place);
            });
        }
    });
    while let Some((took, outcome)) = told.recv().await {
        all.take(took, outcome)?;
    }
    if pacer.join().is_err() {
        return Err(Failure::new(exit::FAILED, "the open loop broke off"));
    }
    Ok(all.end(began))
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
        let counted = one.end(Instant::now());
        assert_eq!((counted.calls, counted.items, counted.failed()), (2, 5, 1));
        assert_eq!(counted.latencies, [(100, 1), (200, 1), (300, 1)], "a failure takes time too");
    }

    #[test]
    fn reasons_do_not_grow_without_end() {
        let mut tally = Tally::new().unwrap();
        (0..100).for_each(|number| tally.take(Duration::ZERO, Err(number.to_string())).unwrap());
        assert_eq!(tally.counted.failures.len(), REASONS + 1);
        assert_eq!(tally.counted.failed(), 100);
    }
}
