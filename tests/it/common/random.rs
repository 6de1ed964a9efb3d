//! Random choices that a printed seed repeats.

/// `SplitMix64`: for choices of tests, not for keys.
pub struct Choices(u64);

impl Choices {
    /// Prints the seed.
    pub fn from_seed(seed: u64) -> Self {
        println!("seed {seed}");
        Self::quiet(seed)
    }

    /// Prints nothing: for a seed out of many, which the test prints itself where it fails.
    pub const fn quiet(seed: u64) -> Self {
        Self(seed)
    }

    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// A number below `end`.
    pub fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    pub fn pick<'a, T>(&mut self, from: &'a [T]) -> &'a T {
        let at = usize::try_from(self.below(u64::try_from(from.len()).unwrap())).unwrap();
        &from[at]
    }
}

/// How often a long test goes round: more in a full run (`scripts/test --full`).
#[expect(clippy::disallowed_methods, reason = "the test's own switch, not the vault's configuration")]
pub fn rounds(normal: u32, full: u32) -> u32 {
    if std::env::var_os("SANDYQ_FULL").is_some() { full } else { normal }
}
