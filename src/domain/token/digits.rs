//! Tokens of 12 digits, for systems whose column for an IIN takes nothing else.

use zeroize::{Zeroize as _, Zeroizing};

use super::MistypedToken;
use crate::domain::{
    iin,
    rng::{RandomUnavailable, Rng, random_bytes},
};

const LEN: usize = 12;

/// How many strings of [`LEN`] digits there are.
const STRINGS: u64 = 1_000_000_000_000;

/// Draws before the source counts as broken. About three in four draws make a token, so that a sound source comes here
/// less than once in 2^200 tokens.
const MAX_DRAWS: usize = 128;

/// A random token of 12 digits that never passes the check of an IIN, by either pass: nobody can take it for a
/// person's number, and an IIN pasted in its place is refused.
///
/// It has less than 40 bits of entropy and its alphabet is known: a bare hash of it can be searched, so it is stored
/// under a keyed hash (`crypto::digest::IndexKey::digits_token`). There are about 8.3 × 10¹¹ of them, and two draws may
/// be equal: whoever stores one must see to it that it is new. No `Debug` and no `Display`; zeroised on drop.
///
/// ```compile_fail,E0277
/// let token = sandyq::domain::token::DigitsToken::parse("000000000001").unwrap();
/// println!("{token:?}");
/// ```
#[derive(PartialEq, Eq)]
pub struct DigitsToken([u8; LEN]);

impl DigitsToken {
    /// A new token; all that [`DigitsToken::parse`] accepts are equally likely.
    ///
    /// # Errors
    /// [`RandomUnavailable`] when the source fails, or gives nothing but unusable bytes.
    pub fn random(rng: &dyn Rng) -> Result<Self, RandomUnavailable> {
        for _ in 0..MAX_DRAWS {
            let bytes = Zeroizing::new(random_bytes::<5>(rng)?);
            let draw = bytes.iter().fold(0, |draw, byte| (draw << 8) | u64::from(*byte));
            if let Some(token) = Self::from_draw(draw) {
                return Ok(token);
            }
        }
        Err(RandomUnavailable)
    }

    /// The token that a draw of 40 uniform bits makes: its decimal digits, where they are a token. Each token has one
    /// draw and no more, so nothing is likelier than another; the other draws are thrown away.
    fn from_draw(draw: u64) -> Option<Self> {
        if draw >= STRINGS {
            return None;
        }
        let text = Zeroizing::new(format!("{draw:012}"));
        Self::parse(&text).ok()
    }

    /// Parses the text form.
    ///
    /// # Errors
    /// [`MistypedToken`] where it is not 12 ASCII digits, or reads as an IIN.
    pub fn parse(text: &str) -> Result<Self, MistypedToken> {
        let digits: [u8; LEN] = text.as_bytes().try_into().map_err(|_| MistypedToken)?;
        if !digits.iter().all(u8::is_ascii_digit) || iin::resembles_iin(text) {
            return Err(MistypedToken);
        }
        Ok(Self(digits))
    }

    /// The text form, for the answer to the platform and for sealing.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        Zeroizing::new(self.0.iter().copied().map(char::from).collect())
    }

    /// The ASCII digits, for hashing.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; LEN] {
        &self.0
    }
}

impl Drop for DigitsToken {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use proptest::prelude::{Just, prop_assert, prop_assert_eq, prop_oneof, proptest};

    use super::*;

    /// Gives the bytes that it was made of, then fails.
    struct Tape(Mutex<Vec<u8>>);

    impl Tape {
        fn of(draws: &[u64]) -> Self {
            Self(Mutex::new(draws.iter().flat_map(|draw| draw.to_be_bytes()[3..].to_vec()).collect()))
        }
    }

    impl Rng for Tape {
        fn fill(&self, out: &mut [u8]) -> Result<(), RandomUnavailable> {
            let mut bytes = self.0.lock().unwrap();
            if bytes.len() < out.len() {
                return Err(RandomUnavailable);
            }
            let rest = bytes.split_off(out.len());
            out.copy_from_slice(&bytes);
            *bytes = rest;
            Ok(())
        }
    }

    /// Both passes by another road: the second pass's weights are the first's plus two, modulo 11.
    fn fails_both_passes(draw: u64) -> bool {
        let (mut rest, mut weighed, mut sum) = (draw / 10, 0, 0);
        for weight in (1..=11).rev() {
            weighed += weight * (rest % 10);
            sum += rest % 10;
            rest /= 10;
        }
        ![weighed % 11, (weighed + 2 * sum) % 11].contains(&(draw % 10))
    }

    #[test]
    fn only_twelve_digits_that_are_no_iin() {
        for good in ["000000000001", "991231600003", "991231601100"] {
            assert_eq!(*DigitsToken::parse(good).unwrap().reveal(), good);
        }
        for bad in [
            "",
            "991231600002", // an IIN by the first pass
            "991231600301", // by the second
            "991231600009", // what the second pass would give
            "211140009394", // a BIN
            "000000000000", // what zero sums to
            "99123160000",
            "9912316000033",
            " 991231600003",
            "99123160000x",
            "+91231600003",
            "٩٩١٢٣١",
            "９９１２",
        ] {
            assert!(DigitsToken::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn unusable_draws_are_thrown_away() {
        let draws = [STRINGS, (1 << 40) - 1, 991_231_600_002, 211_140_009_394, 7, 8];
        let tape = Tape::of(&draws);
        assert_eq!(*DigitsToken::random(&tape).unwrap().reveal(), "000000000007");
        assert_eq!(tape.0.lock().unwrap().len(), 5, "one draw is left");
        assert!(DigitsToken::random(&Tape::of(&draws[..4])).is_err(), "the source fails");
        assert!(DigitsToken::random(&Tape::of(&[STRINGS; MAX_DRAWS + 1])).is_err(), "a source that is stuck");
    }

    proptest! {
        /// Uniform: equally likely draws, and between usable draws and tokens a one-to-one map. A draw makes at most
        /// one token, by definition; the token gives its draw back, so no two make the same; and every token has one.
        #[test]
        fn draws_and_tokens_are_one_to_one(draw in prop_oneof![0..1_u64 << 40, Just(STRINGS - 1), Just(STRINGS)]) {
            let token = DigitsToken::from_draw(draw);
            prop_assert_eq!(token.is_some(), draw < STRINGS && fails_both_passes(draw));
            if let Some(token) = token {
                prop_assert_eq!(token.reveal().parse::<u64>().unwrap(), draw);
                prop_assert!(!iin::has_valid_check_digit(&token.reveal()));
            }
        }

        #[test]
        fn every_token_has_a_draw(text in "[0-9]{12}") {
            let (parsed, drawn) = (DigitsToken::parse(&text).ok(), DigitsToken::from_draw(text.parse().unwrap()));
            prop_assert!(parsed == drawn);
        }
    }
}
