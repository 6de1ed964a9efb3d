//! The certificates that the server's handshakes are made with, as far as they are measured.

use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use crate::domain::time::Timestamp;

/// Whether they are those of the files, and when they end.
#[derive(Debug)]
pub struct CertificatesInUse {
    fit: AtomicBool,
    until: [AtomicI64; 2],
}

impl CertificatesInUse {
    pub(super) const fn new() -> Self {
        Self { fit: AtomicBool::new(true), until: [AtomicI64::new(0), AtomicI64::new(0)] }
    }

    /// Records whether they are those of the files, and when the first of the server's own and the first root of an authority ends.
    pub fn set(&self, fit: bool, until: [Timestamp; 2]) {
        self.fit.store(fit, Ordering::Relaxed);
        for (kept, until) in self.until.iter().zip(until) {
            kept.store(until.as_micros(), Ordering::Relaxed);
        }
    }

    /// Whether they are those of the files.
    #[must_use]
    pub fn fit(&self) -> bool {
        self.fit.load(Ordering::Relaxed)
    }

    /// When the first of the server's own ends, and the first root of an authority, in microseconds; 0 for not known yet.
    #[must_use]
    pub fn until(&self) -> [i64; 2] {
        self.until.each_ref().map(|until| until.load(Ordering::Relaxed))
    }
}
