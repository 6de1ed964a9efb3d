//! Randomness as an argument, so that tests can seed it.

/// The operating system had no randomness to give. Nothing that needs it may go on.
#[derive(Debug, thiserror::Error)]
#[error("no randomness from the operating system")]
pub struct RandomUnavailable;

/// A source of uniformly random bytes. Production uses `crypto::random::SystemRng`.
pub trait Rng: Send + Sync {
    /// Fills `out` with random bytes.
    ///
    /// # Errors
    /// [`RandomUnavailable`] when the source fails; `out` is then not to be used.
    fn fill(&self, out: &mut [u8]) -> Result<(), RandomUnavailable>;
}

/// `N` random bytes.
///
/// # Errors
/// [`RandomUnavailable`] when the source fails.
pub fn random_bytes<const N: usize>(rng: &dyn Rng) -> Result<[u8; N], RandomUnavailable> {
    let mut out = [0_u8; N];
    rng.fill(&mut out)?;
    Ok(out)
}
