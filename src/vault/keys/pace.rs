//! How fast long work goes: how much it takes at a time, and how long it rests for those who wait.

use std::{ops::RangeInclusive, time::Duration};

/// How much is done at a time.
#[derive(Debug, Clone)]
pub(in crate::vault) struct Pace {
    /// How long it should take.
    slice: Duration,
    /// Fewest and most rows.
    rows: RangeInclusive<u32>,
    /// Parts of ten of its own time that it rests after it, for others to come in between.
    rest_tenths: u32,
}

/// Of a commit that writes all of it: everybody else waits meanwhile.
pub(super) const IN_THE_LANE: Pace =
    Pace { slice: Duration::from_millis(20), rows: 16..=1_000, rest_tenths: 0 };
/// Where it is written before the commit, which tells of it alone. It rests after each statement: how much of its speed goes
/// for how much less that readers wait is in docs/performance.md.
pub(super) const BESIDE_IT: Pace =
    Pace { slice: Duration::from_millis(200), rows: 16..=1_500, rest_tenths: 4 };
/// Of a sweep, whose subjects bring their records, consents and events: a commit of the lane too, but nobody waits for its end.
pub(in crate::vault) const SWEEP: Pace =
    Pace { slice: Duration::from_millis(20), rows: 4..=8, rest_tenths: 15 };

impl Pace {
    /// Where to begin.
    pub(in crate::vault) const fn fewest(&self) -> u32 {
        *self.rows.start()
    }

    /// Rows of the next slice, from those of the last and the time that it took.
    pub(in crate::vault) fn fit(&self, rows: u32, took: Duration) -> u32 {
        let next = match took {
            took if took > self.slice => rows / 2,
            took if took < self.slice / 2 => rows * 2,
            _ => rows,
        };
        next.clamp(*self.rows.start(), *self.rows.end())
    }

    /// How long to rest after work that took so long.
    pub(in crate::vault) fn rest_after(&self, took: Duration) -> Duration {
        took.saturating_mul(self.rest_tenths) / 10
    }
}

/// How long to wait after so many rows, so that a second sees no more than the rate.
pub(in crate::vault) fn rest(rate: u32, rows: usize, took: Duration) -> Option<Duration> {
    let rows = u32::try_from(rows).unwrap_or(u32::MAX);
    let due = Duration::from_secs(1).checked_mul(rows)?.checked_div(rate)?;
    due.checked_sub(took)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commits_grow_and_shrink_with_their_time() {
        assert_eq!(IN_THE_LANE.fit(16, Duration::from_millis(1)), 32);
        assert_eq!(IN_THE_LANE.fit(64, Duration::from_millis(15)), 64);
        assert_eq!(IN_THE_LANE.fit(64, Duration::from_millis(25)), 32);
        assert_eq!(IN_THE_LANE.fit(1_000, Duration::ZERO), 1_000);
        assert_eq!(IN_THE_LANE.fit(16, Duration::from_secs(1)), 16);
    }

    #[test]
    fn a_rate_is_kept() {
        assert_eq!(rest(0, 100, Duration::ZERO), None);
        assert_eq!(rest(100, 50, Duration::from_millis(100)), Some(Duration::from_millis(400)));
        assert_eq!(rest(100, 50, Duration::from_secs(1)), None);
    }

    #[test]
    fn work_rests_as_long_as_it_took_others_time() {
        assert_eq!(IN_THE_LANE.rest_after(Duration::from_secs(1)), Duration::ZERO);
        assert_eq!(BESIDE_IT.rest_after(Duration::from_millis(10)), Duration::from_millis(4));
        assert_eq!(SWEEP.rest_after(Duration::from_millis(10)), Duration::from_millis(15));
    }
}
