//! What one caller may ask of this process: so many calls at once, so many in a second. What is more is refused at once,
//! before its message is decoded.

use std::{
    collections::HashMap,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU32, Ordering},
    },
    time::{Duration, Instant},
};

use crate::domain::ids::CallerId;

/// What each caller may ask of one process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CallerLimits {
    /// Calls that run at once; streams count for as long as they are open.
    pub calls_at_once: u32,
    /// Calls that begin in a second, on average; as many may begin together.
    pub calls_per_second: u32,
}

impl Default for CallerLimits {
    fn default() -> Self {
        Self { calls_at_once: 512, calls_per_second: 20_000 }
    }
}

/// When to try again where too many calls run at once: nobody knows when one ends.
const WHEN_ONE_ENDS: Duration = Duration::from_millis(100);

/// Callers with what they do now. Only who is enrolled has a place, so their number is bounded.
#[derive(Debug)]
pub(super) struct Throttle {
    limits: CallerLimits,
    callers: Mutex<HashMap<CallerId, Arc<Doing>>>,
}

#[derive(Debug)]
struct Doing {
    running: AtomicU32,
    bucket: Mutex<Bucket>,
}

/// Calls that may begin: it fills up with time.
#[derive(Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

/// A call that runs; its place is given back when this is dropped.
#[derive(Debug)]
pub(super) struct Running(Arc<Doing>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.running.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Throttle {
    pub(super) fn new(limits: CallerLimits) -> Self {
        Self { limits, callers: Mutex::default() }
    }

    /// Lets a call of a caller begin.
    ///
    /// # Errors
    /// After how long it may be tried again.
    pub(super) fn admit(&self, caller: CallerId, now: Instant) -> Result<Running, Duration> {
        let doing = self.doing(caller, now);
        let most = self.limits.calls_at_once;
        let more = |running: u32| (running < most).then_some(running + 1);
        doing.running.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).map_err(|_| WHEN_ONE_ENDS)?;
        let running = Running(doing);
        let per_second = f64::from(self.limits.calls_per_second);
        let mut bucket = running.0.bucket.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_duration_since(bucket.at).as_secs_f64();
        bucket.left = (bucket.left + since * per_second).min(per_second);
        bucket.at = now;
        if bucket.left < 1.0 {
            let wait = Duration::from_secs_f64((1.0 - bucket.left) / per_second);
            drop(bucket);
            return Err(wait);
        }
        bucket.left -= 1.0;
        drop(bucket);
        Ok(running)
    }

    fn doing(&self, caller: CallerId, now: Instant) -> Arc<Doing> {
        let mut callers = self.callers.lock().unwrap_or_else(PoisonError::into_inner);
        let doing = callers.entry(caller).or_insert_with(|| {
            let bucket = Bucket { left: f64::from(self.limits.calls_per_second), at: now };
            Arc::new(Doing { running: AtomicU32::new(0), bucket: Mutex::new(bucket) })
        });
        Arc::clone(doing)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: CallerId = CallerId::from_bytes([1; 16]);
    const OTHER: CallerId = CallerId::from_bytes([2; 16]);

    #[test]
    fn a_place_is_given_back_when_a_call_ends_and_nobody_takes_anothers() {
        let throttle = Throttle::new(CallerLimits { calls_at_once: 2, calls_per_second: 1_000 });
        let now = Instant::now();
        let (first, second) = (throttle.admit(ONE, now).unwrap(), throttle.admit(ONE, now).unwrap());
        assert_eq!(throttle.admit(ONE, now).unwrap_err(), WHEN_ONE_ENDS);
        let other = throttle.admit(OTHER, now).unwrap();
        drop(first);
        let third = throttle.admit(ONE, now).unwrap();
        assert!(throttle.admit(ONE, now).is_err());
        drop((second, third, other));
        assert!(throttle.admit(ONE, now).is_ok());
    }

    #[test]
    fn a_second_gives_as_many_calls_as_are_allowed_and_no_more() {
        let throttle = Throttle::new(CallerLimits { calls_at_once: 100, calls_per_second: 4 });
        let start = Instant::now();
        let begins = |after: u64| {
            let at = start + Duration::from_millis(after);
            (0..10).filter(|_| throttle.admit(ONE, at).is_ok()).count()
        };
        assert_eq!(begins(0), 4, "a burst of a second's worth");
        assert_eq!(throttle.admit(ONE, start).unwrap_err(), Duration::from_millis(250));
        assert_eq!(begins(250), 1);
        assert_eq!(begins(1_000), 3);
        assert_eq!(begins(60_000), 4, "what was not used is not saved up");
        assert!(throttle.admit(OTHER, start).is_ok());
    }

    #[test]
    fn who_is_refused_takes_no_place() {
        let throttle = Throttle::new(CallerLimits { calls_at_once: 2, calls_per_second: 1 });
        let start = Instant::now();
        let first = throttle.admit(ONE, start).unwrap();
        for _ in 0..10 {
            assert!(throttle.admit(ONE, start).is_err());
        }
        drop(first);
        assert!(throttle.admit(ONE, start + Duration::from_secs(1)).is_ok());
    }
}
