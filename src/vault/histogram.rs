//! How values fall between bounds, counted without a lock.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::Duration,
};

use super::meters::{add, zeros};

/// Counts how values fall between bounds.
#[derive(Debug)]
pub struct Histogram {
    bounds: &'static [u64],
    /// One more than the bounds: what is above them all.
    counts: Box<[AtomicU64]>,
    sum: AtomicU64,
}

impl Histogram {
    pub(super) fn new(bounds: &'static [u64]) -> Self {
        Self { bounds, counts: zeros(bounds.len() + 1), sum: AtomicU64::new(0) }
    }

    pub(super) fn record(&self, value: u64) {
        let place = self.bounds.partition_point(|bound| *bound < value);
        add(&self.counts, place, 1);
        self.sum.fetch_add(value, Ordering::Relaxed);
    }

    pub(super) fn record_time(&self, time: Duration) {
        self.record(u64::try_from(time.as_micros()).unwrap_or(u64::MAX));
    }

    /// The upper bounds, each with how many values were not above it, and at last all of them.
    pub fn cumulative(&self) -> impl Iterator<Item = (Option<u64>, u64)> {
        let bounds = self.bounds.iter().copied().map(Some).chain([None]);
        let counts = self.counts.iter().scan(0_u64, |all, count| {
            *all = all.saturating_add(count.load(Ordering::Relaxed));
            Some(*all)
        });
        bounds.zip(counts)
    }

    /// The sum of all values.
    #[must_use]
    pub fn sum(&self) -> u64 {
        self.sum.load(Ordering::Relaxed)
    }

    /// Whether nothing was recorded.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.counts.iter().all(|count| count.load(Ordering::Relaxed) == 0)
    }
}
