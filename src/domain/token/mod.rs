//! Tokens: what a platform holds instead of a value.

mod digits;

use data_encoding::BASE32_NOPAD;
use zeroize::Zeroizing;

pub use self::digits::DigitsToken;
use super::code::coded;
use super::rng::{RandomUnavailable, Rng, random_bytes};

const PREFIX: &str = "sq1_";
const RANDOM_BYTES: usize = 20;
const TEXT_LEN: usize = PREFIX.len() + 39;

/// A random token of 160 bits.
///
/// Text form: `sq1_`, then 39 characters of lower-case base32 (RFC 4648, no padding) over the 20 random bytes and
/// their CRC-32. A checksum in the text lets a mistyped token be refused before anything is looked up: CRC-32 finds
/// every error within 32 adjacent bits, so every wrong character, swapped neighbours, and runs of up to six.
///
/// The vault stores only its SHA-256 (160 random bits need no key) and a sealed copy. There is no `Debug` or
/// `Display`, so that a token cannot slip into a log.
#[derive(PartialEq, Eq)]
pub struct Token([u8; RANDOM_BYTES]);

/// A text that is not a token: wrong length, alphabet or checksum, or an IIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "not a token: expected sq1_ and 39 characters of lower-case base32 with a valid checksum, or 12 digits that are no IIN"
)]
pub struct MistypedToken;

/// The key under which a token is found: SHA-256 of a random token's bytes, or the platform's keyed hash of a token of
/// 12 digits.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, PartialOrd, Ord)]
pub struct TokenHash(pub [u8; 32]);

impl Token {
    /// A new token.
    ///
    /// # Errors
    /// [`RandomUnavailable`] when the source fails.
    pub fn random(rng: &dyn Rng) -> Result<Self, RandomUnavailable> {
        Ok(Self(random_bytes(rng)?))
    }

    /// Parses the text form.
    ///
    /// # Errors
    /// [`MistypedToken`] where length, alphabet or checksum are wrong.
    pub fn parse(text: &str) -> Result<Self, MistypedToken> {
        let body = text.strip_prefix(PREFIX).ok_or(MistypedToken)?;
        if text.len() != TEXT_LEN || body.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(MistypedToken);
        }
        let upper = Zeroizing::new(body.to_ascii_uppercase());
        let bytes = Zeroizing::new(BASE32_NOPAD.decode(upper.as_bytes()).map_err(|_| MistypedToken)?);
        let (random, checksum) = bytes.split_first_chunk::<RANDOM_BYTES>().ok_or(MistypedToken)?;
        if checksum != crc32fast::hash(random).to_be_bytes() {
            return Err(MistypedToken);
        }
        Ok(Self(*random))
    }

    /// The text form, for the answer to the platform and for sealing.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0_u8; RANDOM_BYTES + 4]);
        let (random, checksum) = bytes.split_at_mut(RANDOM_BYTES);
        random.copy_from_slice(&self.0);
        checksum.copy_from_slice(&crc32fast::hash(&self.0).to_be_bytes());
        let mut text = Zeroizing::new(String::with_capacity(TEXT_LEN));
        text.push_str(PREFIX);
        BASE32_NOPAD.encode_append(bytes.as_slice(), &mut text);
        text.make_ascii_lowercase();
        text
    }

    /// The random bytes, for hashing.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; RANDOM_BYTES] {
        &self.0
    }
}

impl Drop for Token {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

/// A token of either text form.
pub enum AnyToken {
    /// 160 random bits.
    Random(Token),
    /// 12 digits.
    Digits(DigitsToken),
}

impl AnyToken {
    /// Parses either text form.
    ///
    /// # Errors
    /// [`MistypedToken`] where the text is neither.
    pub fn parse(text: &str) -> Result<Self, MistypedToken> {
        if text.starts_with(PREFIX) {
            Token::parse(text).map(Self::Random)
        } else {
            DigitsToken::parse(text).map(Self::Digits)
        }
    }

    /// The text form, for the answer to the platform and for sealing.
    #[must_use]
    pub fn reveal(&self) -> Zeroizing<String> {
        match self {
            Self::Random(token) => token.reveal(),
            Self::Digits(token) => token.reveal(),
        }
    }
}

coded!(
    /// How a token was made, and so what it may do. All but `digits` have the text form of [`Token`].
    TokenMode, "token mode" {
        /// Random; each Tokenize makes a further one.
        Random = "random",
        /// Random; each Tokenize of the same record answers the same one.
        Deterministic = "deterministic",
        /// Good for one read.
        OneTime = "one_time",
        /// Good until an instant.
        Expiring = "expiring",
        /// Random, of 12 digits ([`DigitsToken`]).
        Digits = "digits",
    }
);

coded!(
    /// Where a token stands.
    TokenState, "token state" {
        /// May be used.
        Active = "active",
        /// Used up: it has answered as often as it may.
        Spent = "spent",
        /// Ended for good.
        Revoked = "revoked",
    }
);

#[cfg(test)]
mod tests {
    use super::*;

    struct Fixed(u8);
    impl Rng for Fixed {
        fn fill(&self, out: &mut [u8]) -> Result<(), RandomUnavailable> {
            for (i, b) in out.iter_mut().enumerate() {
                *b = self.0.wrapping_mul(31).wrapping_add(u8::try_from(i).unwrap());
            }
            Ok(())
        }
    }

    #[test]
    fn text_form_round_trips() {
        for seed in 0..=255 {
            let token = Token::random(&Fixed(seed)).unwrap();
            let text = token.reveal();
            assert_eq!(text.len(), 43);
            assert!(Token::parse(&text).is_ok_and(|t| t == token));
        }
    }

    #[test]
    fn every_wrong_character_and_every_swap_is_found() {
        let text = Token::random(&Fixed(7)).unwrap().reveal();
        let chars: Vec<char> = text.chars().collect();
        for at in 0..chars.len() {
            for other in "abcdefghijklmnopqrstuvwxyz234567018_ Aя".chars() {
                let mut wrong = chars.clone();
                if wrong[at] != other {
                    wrong[at] = other;
                    assert!(Token::parse(&wrong.into_iter().collect::<String>()).is_err());
                }
            }
            if at > 0 && chars[at] != chars[at - 1] {
                let mut wrong = chars.clone();
                wrong.swap(at, at - 1);
                assert!(Token::parse(&wrong.into_iter().collect::<String>()).is_err());
            }
        }
        for cut in 0..chars.len() {
            assert!(Token::parse(&chars[..cut].iter().collect::<String>()).is_err());
        }
    }

    #[test]
    fn a_text_is_one_kind_of_token_or_none() {
        let random = Token::random(&Fixed(7)).unwrap().reveal();
        assert!(
            AnyToken::parse(&random).is_ok_and(|t| matches!(t, AnyToken::Random(_)) && t.reveal() == random)
        );
        let digits = "991231600003";
        assert!(
            AnyToken::parse(digits).is_ok_and(|t| matches!(t, AnyToken::Digits(_)) && *t.reveal() == digits)
        );
        for bad in ["", "991231600002", "sq1_991231600003", &random[1..], &format!("{digits}\n")] {
            assert!(AnyToken::parse(bad).is_err());
        }
    }
}
