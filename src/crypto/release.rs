//! Values sealed to a recipient's key: HPKE (RFC 9180) in base mode, so that whoever carries them cannot read them. They are
//! bound to what is said of them by HPKE's `info`; there is no associated data, which not every library lets one give.

use hpke::{
    Deserializable as _, OpModeS, Serializable as _, aead::AesGcm256, kdf::HkdfSha256, kem::X25519HkdfSha256,
    setup_sender_with_rng,
};

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::digest::sha256;
use crate::domain::rng::Rng;

/// The suite, as the contract names it.
pub const SUITE: &str = "DHKEM(X25519, HKDF-SHA256), HKDF-SHA256, AES-256-GCM";

/// A public key that is none, or a machine without randomness.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("nothing can be sealed to this key")]
pub struct NotSealed;

/// What a recipient opens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SealedToKey {
    /// The encapsulated key, 32 bytes.
    pub enc: Vec<u8>,
    /// The ciphertext with its tag.
    pub ciphertext: Vec<u8>,
}

impl SealedToKey {
    /// SHA-256 of the encapsulated key and the ciphertext.
    #[must_use]
    pub fn sha256(&self) -> [u8; 32] {
        sha256(&[self.enc.as_slice(), self.ciphertext.as_slice()].concat())
    }
}

/// The id of a public key: SHA-256 in hexadecimal.
#[must_use]
pub fn key_id(public_key: &[u8; 32]) -> String {
    data_encoding::HEXLOWER.encode(&sha256(public_key))
}

/// Whether 32 bytes are a key that releases can be sealed to.
///
/// # Errors
/// [`NotSealed`].
pub fn check_key(public_key: &[u8; 32], rng: &dyn Rng) -> Result<(), NotSealed> {
    seal_to(public_key, b"check", b"check", rng).map(drop)
}

/// Seals `plaintext` to a key. `info` is what the recipient must have.
///
/// # Errors
/// [`NotSealed`].
pub fn seal_to(
    public_key: &[u8; 32],
    info: &[u8],
    plaintext: &[u8],
    rng: &dyn Rng,
) -> Result<SealedToKey, NotSealed> {
    type Kem = X25519HkdfSha256;
    let key = <Kem as hpke::Kem>::PublicKey::from_bytes(public_key).map_err(|_| NotSealed)?;
    let mut source = Source { rng, failed: false };
    let sender = setup_sender_with_rng::<AesGcm256, HkdfSha256, Kem>(&OpModeS::Base, &key, info, &mut source);
    let (enc, mut context) = sender.map_err(|_| NotSealed)?;
    if source.failed {
        return Err(NotSealed);
    }
    let ciphertext = context.seal(plaintext, &[]).map_err(|_| NotSealed)?;
    Ok(SealedToKey { enc: enc.to_bytes().to_vec(), ciphertext })
}

/// Bytes of an answer.
pub const ANSWER_BYTES: usize = 32;

/// What only the holder of a key can answer.
pub struct Challenge {
    /// The answer, sealed: the encapsulated key, then the ciphertext with its tag.
    pub sealed: [u8; 80],
    /// SHA-256 of the answer.
    pub answer_sha256: [u8; 32],
}

/// Seals a random answer to a key. `info` is what the holder must have.
///
/// # Errors
/// [`NotSealed`].
pub fn challenge(public_key: &[u8; 32], info: &[u8], rng: &dyn Rng) -> Result<Challenge, NotSealed> {
    let mut answer = Zeroizing::new([0; ANSWER_BYTES]);
    rng.fill(answer.as_mut_slice()).map_err(|_| NotSealed)?;
    let sealed = seal_to(public_key, info, answer.as_slice(), rng)?;
    let sealed = [sealed.enc.as_slice(), sealed.ciphertext.as_slice()].concat();
    Ok(Challenge {
        sealed: sealed.try_into().map_err(|_| NotSealed)?,
        answer_sha256: sha256(answer.as_slice()),
    })
}

/// Whether an answer is the one whose hash is kept, in constant time.
#[must_use]
pub fn is_answer(answer: &[u8], answer_sha256: &[u8; 32]) -> bool {
    sha256(answer).ct_eq(answer_sha256).into()
}

/// The vault's randomness as the library wants it, which knows no failure: a failure is remembered, and what was made
/// is thrown away.
struct Source<'a> {
    rng: &'a dyn Rng,
    failed: bool,
}

impl rand_core::TryRng for Source<'_> {
    type Error = std::convert::Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Self::Error> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Self::Error> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, out: &mut [u8]) -> Result<(), Self::Error> {
        self.failed |= self.rng.fill(out).is_err();
        Ok(())
    }
}

impl rand_core::TryCryptoRng for Source<'_> {}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{crypto::random::SystemRng, domain::rng::RandomUnavailable};
    use hpke::{Kem as _, OpModeR, setup_receiver};

    fn pair() -> (Vec<u8>, [u8; 32]) {
        let (secret, public) = X25519HkdfSha256::derive_keypair(&[7; 32]);
        (secret.to_bytes().to_vec(), public.to_bytes().into())
    }

    fn open(secret: &[u8], sealed: &SealedToKey, info: &[u8]) -> Option<Vec<u8>> {
        let secret = <X25519HkdfSha256 as hpke::Kem>::PrivateKey::from_bytes(secret).unwrap();
        let enc = <X25519HkdfSha256 as hpke::Kem>::EncappedKey::from_bytes(&sealed.enc).unwrap();
        let receiver =
            setup_receiver::<AesGcm256, HkdfSha256, X25519HkdfSha256>(&OpModeR::Base, &secret, &enc, info);
        receiver.unwrap().open(&sealed.ciphertext, &[]).ok()
    }

    #[test]
    fn only_the_recipient_opens_and_only_with_the_same_context() {
        let (rng, (secret, public)) = (SystemRng::new(), pair());
        let info = b"lerna to bank";
        let sealed = seal_to(&public, info, b"synthetic", &rng).unwrap();
        assert_eq!(open(&secret, &sealed, info).as_deref(), Some(&b"synthetic"[..]));
        assert_eq!(open(&secret, &sealed, b"lerna to other"), None);
        assert_eq!(open(&[9; 32], &sealed, info), None);
        let mut cut = sealed.clone();
        cut.ciphertext.pop();
        assert_eq!(open(&secret, &cut, info), None);
        assert_ne!(sealed, seal_to(&public, info, b"synthetic", &rng).unwrap(), "fresh each time");
    }

    #[test]
    fn only_the_holder_answers_a_challenge() {
        let (rng, (secret, public)) = (SystemRng::new(), pair());
        let made = challenge(&public, b"lerna, bank", &rng).unwrap();
        let sealed = SealedToKey { enc: made.sealed[..32].to_vec(), ciphertext: made.sealed[32..].to_vec() };
        let answer = open(&secret, &sealed, b"lerna, bank").unwrap();
        assert_eq!(answer.len(), ANSWER_BYTES);
        assert!(is_answer(&answer, &made.answer_sha256));
        assert_eq!(open(&secret, &sealed, b"lerna, other"), None);
        assert!(!is_answer(&answer[1..], &made.answer_sha256) && !is_answer(&[0; 32], &made.answer_sha256));
        let another = challenge(&public, b"lerna, bank", &rng).unwrap();
        assert!(!is_answer(&answer, &another.answer_sha256), "fresh each time");
        assert!(challenge(&[0; 32], b"x", &rng).is_err(), "a point of small order");
    }

    #[test]
    fn bad_keys_and_missing_randomness_seal_nothing() {
        struct Broken;
        impl Rng for Broken {
            fn fill(&self, _out: &mut [u8]) -> Result<(), RandomUnavailable> {
                Err(RandomUnavailable)
            }
        }
        let (_, public) = pair();
        assert_eq!(seal_to(&public, b"x", b"x", &Broken).err(), Some(NotSealed));
        assert!(check_key(&[0; 32], &SystemRng::new()).is_err(), "a point of small order");
        assert!(check_key(&public, &SystemRng::new()).is_ok());
    }
}
