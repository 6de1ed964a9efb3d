//! The operating system's randomness.

use ring::rand::SecureRandom as _;

use crate::domain::rng::{RandomUnavailable, Rng};

/// The operating system's random generator.
#[expect(clippy::disallowed_types, reason = "the one home of the system's randomness")]
#[derive(Debug)]
pub struct SystemRng(ring::rand::SystemRandom);

impl SystemRng {
    /// The generator.
    #[expect(clippy::disallowed_types, reason = "the one home of the system's randomness")]
    #[must_use]
    pub fn new() -> Self {
        Self(ring::rand::SystemRandom::new())
    }
}

impl Default for SystemRng {
    fn default() -> Self {
        Self::new()
    }
}

impl Rng for SystemRng {
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomUnavailable> {
        self.0.fill(out).map_err(|_| RandomUnavailable)
    }
}
