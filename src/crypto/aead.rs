//! AES-256-GCM behind one sealed-blob format.
//!
//! ```text
//! offset  length
//!      0       1   format, 1
//!      1       1   algorithm: 1 AES-256-GCM under a derived key, 2 AES-256-GCM key wrap
//!      2       4   only in a key wrap: version of the wrapping key, big-endian
//!   2|6       12   nonce, random
//!  14|18       n   ciphertext
//!               16  tag
//! ```
//!
//! The header is part of the associated data, and so is the blob's place (table, ids, field, version): a blob that
//! was moved, swapped, cut or changed does not open. Parsing is by checked reads; no key is ever tried in turn.

use aes_gcm::{
    Aes256Gcm,
    aead::{AeadInOut, KeyInit},
};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

use crate::domain::{
    canonical::Canonical,
    rng::{RandomUnavailable, Rng, random_bytes},
    secret::Sealed,
};

const FORMAT: u8 = 1;
const ALGORITHM_SEAL: u8 = 1;
const ALGORITHM_WRAP: u8 = 2;
pub(super) const NONCE_BYTES: usize = 12;
const TAG_BYTES: usize = 16;

/// 256 bits of key. No `Debug`, no `Clone`; zeroised on drop.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Key([u8; 32]);

impl Key {
    /// A new random key.
    ///
    /// # Errors
    /// [`RandomUnavailable`] when the source fails.
    pub fn random(rng: &dyn Rng) -> Result<Self, RandomUnavailable> {
        let mut bytes = Zeroizing::new([0_u8; 32]);
        rng.fill(bytes.as_mut_slice())?;
        Ok(Self::from_bytes(&bytes))
    }

    /// The key with these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: &[u8; 32]) -> Self {
        Self(*bytes)
    }

    /// The key bytes, for primitives inside this room.
    pub(super) const fn expose(&self) -> &[u8; 32] {
        &self.0
    }
}

/// Why a sealed blob does not open. Either means that stored data is damaged or was tampered with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum OpenError {
    /// Not the format: too short, or an unknown format or algorithm byte.
    #[error("a sealed blob is malformed")]
    Malformed,
    /// The tag does not match: wrong key, wrong place, or changed bytes.
    #[error("a sealed blob does not open at its place")]
    Forged,
    /// The wrap names a key version that is disabled.
    #[error("a key wrap names key version {0}, which is disabled")]
    DisabledKeyVersion(u32),
    /// The wrap names a key version that is not loaded.
    #[error("a key wrap names key version {0}, which is not loaded")]
    UnknownKeyVersion(u32),
}

/// Why something was not sealed.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    /// No nonce.
    #[error(transparent)]
    Random(#[from] RandomUnavailable),
    /// The cipher or the key derivation refused the length: beyond 64 GiB, which no limit lets through.
    #[error("the cipher refused the message")]
    Refused,
}

/// Seals `plaintext` for the place that `place` describes.
///
/// # Errors
/// [`SealError`].
pub fn seal(key: &Key, place: &Canonical, plaintext: &[u8], rng: &dyn Rng) -> Result<Sealed, SealError> {
    encrypt(key, &[FORMAT, ALGORITHM_SEAL], place, plaintext, rng)
}

/// Opens a blob made by [`seal`] for the same place.
///
/// # Errors
/// [`OpenError`].
pub fn open(key: &Key, place: &Canonical, blob: &Sealed) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let (header, body) = blob.as_bytes().split_at_checked(2).ok_or(OpenError::Malformed)?;
    if header != [FORMAT, ALGORITHM_SEAL] {
        return Err(OpenError::Malformed);
    }
    decrypt(key, header, place, body)
}

/// Wraps `key` under version `version` of the key `with`, for a place.
///
/// # Errors
/// [`SealError`].
pub fn wrap(
    with: &Key,
    version: u32,
    place: &Canonical,
    key: &Key,
    rng: &dyn Rng,
) -> Result<Sealed, SealError> {
    encrypt(with, &wrap_header(version), place, key.expose(), rng)
}

/// The version of the wrapping key that a wrap names.
///
/// # Errors
/// [`OpenError::Malformed`].
pub fn wrap_version(blob: &Sealed) -> Result<u32, OpenError> {
    split_wrap(blob).map(|(version, ..)| version)
}

/// Opens a wrap made by [`wrap`] for the same place. `with` must be the key of [`wrap_version`].
///
/// # Errors
/// [`OpenError`].
pub fn unwrap(with: &Key, place: &Canonical, blob: &Sealed) -> Result<Key, OpenError> {
    let (_, header, body) = split_wrap(blob)?;
    let bytes = decrypt(with, header, place, body)?;
    let bytes: &[u8; 32] = bytes.as_slice().try_into().map_err(|_| OpenError::Malformed)?;
    Ok(Key::from_bytes(bytes))
}

/// The associated data of a wrap under version `version`, for a KMS whose cipher runs elsewhere.
pub(super) fn wrap_associated_data(version: u32, place: &Canonical) -> Vec<u8> {
    associated_data(&wrap_header(version), place)
}

/// A wrap of what such a KMS sealed: nonce, ciphertext, tag.
pub(super) fn wrap_of(version: u32, body: &[u8]) -> Sealed {
    Sealed::from_bytes([&wrap_header(version), body].concat())
}

/// The version that a wrap names, and what the key of that version sealed.
pub(super) fn wrap_body(blob: &Sealed) -> Result<(u32, &[u8]), OpenError> {
    split_wrap(blob).map(|(version, _, body)| (version, body))
}

fn wrap_header(version: u32) -> [u8; 6] {
    let [a, b, c, d] = version.to_be_bytes();
    [FORMAT, ALGORITHM_WRAP, a, b, c, d]
}

fn split_wrap(blob: &Sealed) -> Result<(u32, &[u8], &[u8]), OpenError> {
    let (header, body) = blob.as_bytes().split_at_checked(6).ok_or(OpenError::Malformed)?;
    let (kind, version) = header.split_first_chunk::<2>().ok_or(OpenError::Malformed)?;
    if kind != &[FORMAT, ALGORITHM_WRAP] {
        return Err(OpenError::Malformed);
    }
    let version = version.try_into().map_err(|_| OpenError::Malformed)?;
    Ok((u32::from_be_bytes(version), header, body))
}

fn associated_data(header: &[u8], place: &Canonical) -> Vec<u8> {
    let mut aad = Vec::with_capacity(header.len() + place.as_bytes().len());
    aad.extend_from_slice(header);
    aad.extend_from_slice(place.as_bytes());
    aad
}

fn encrypt(
    key: &Key,
    header: &[u8],
    place: &Canonical,
    plaintext: &[u8],
    rng: &dyn Rng,
) -> Result<Sealed, SealError> {
    // Random although each derived key seals once: a database restored from a backup may repeat a record version.
    let nonce = random_bytes::<NONCE_BYTES>(rng)?;
    let mut blob = Vec::with_capacity(header.len() + NONCE_BYTES + plaintext.len() + TAG_BYTES);
    blob.extend_from_slice(header);
    blob.extend_from_slice(&nonce);
    blob.extend_from_slice(plaintext);
    let cipher = Aes256Gcm::new(key.expose().into());
    let start = header.len() + NONCE_BYTES;
    let body = blob.get_mut(start..).unwrap_or_default();
    let tag = cipher
        .encrypt_inout_detached((&nonce).into(), &associated_data(header, place), body.into())
        .map_err(|_| SealError::Refused)?;
    blob.extend_from_slice(&tag);
    Ok(Sealed::from_bytes(blob))
}

fn decrypt(
    key: &Key,
    header: &[u8],
    place: &Canonical,
    body: &[u8],
) -> Result<Zeroizing<Vec<u8>>, OpenError> {
    let (nonce, rest) = body.split_first_chunk::<NONCE_BYTES>().ok_or(OpenError::Malformed)?;
    let (ciphertext, tag) = rest.split_last_chunk::<TAG_BYTES>().ok_or(OpenError::Malformed)?;
    let mut plaintext = Zeroizing::new(ciphertext.to_vec());
    Aes256Gcm::new(key.expose().into())
        .decrypt_inout_detached(
            nonce.into(),
            &associated_data(header, place),
            plaintext.as_mut_slice().into(),
            tag.into(),
        )
        .map_err(|_| OpenError::Forged)?;
    Ok(plaintext)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::random::SystemRng;

    #[test]
    fn ring_opens_what_aes_gcm_sealed() {
        use ring::aead::{AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
        let rng = SystemRng::new();
        let (key, place) = (Key::random(&rng).unwrap(), Canonical::new("oracle").text("x"));
        let blob = seal(&key, &place, b"synthetic", &rng).unwrap();
        let (header, body) = blob.as_bytes().split_at(2);
        let nonce = Nonce::try_assume_unique_for_key(&body[..12]).unwrap();
        let oracle = LessSafeKey::new(UnboundKey::new(&AES_256_GCM, key.expose()).unwrap());
        let mut body = body[12..].to_vec();
        let aad = associated_data(header, &place);
        assert_eq!(oracle.open_in_place(nonce, Aad::from(&aad), &mut body).unwrap(), b"synthetic");
    }

    #[test]
    fn no_changed_blob_opens() {
        let rng = SystemRng::new();
        let (key, place) = (Key::random(&rng).unwrap(), Canonical::new("t"));
        let sealed = seal(&key, &place, b"synthetic value", &rng).unwrap();
        let inner = Key::random(&rng).unwrap();
        let wrapped = wrap(&key, 3, &place, &inner, &rng).unwrap();
        for (blob, is_wrap) in [(&sealed, false), (&wrapped, true)] {
            let opens = |bytes: Vec<u8>| {
                let blob = Sealed::from_bytes(bytes);
                if is_wrap { unwrap(&key, &place, &blob).is_ok() } else { open(&key, &place, &blob).is_ok() }
            };
            let bytes = blob.as_bytes();
            assert!(opens(bytes.to_vec()));
            for at in 0..bytes.len() {
                for bit in 0..8 {
                    let mut flipped = bytes.to_vec();
                    flipped[at] ^= 1 << bit;
                    assert!(!opens(flipped), "bit {bit} of byte {at}");
                }
                assert!(!opens(bytes[..at].to_vec()), "cut to {at}");
                assert!(!opens(bytes[at + 1..].to_vec()), "cut from {at}");
            }
            assert!(!opens([bytes, &[0]].concat()), "longer");
        }
        assert!(open(&key, &place, &wrapped).is_err(), "a wrap is no seal");
        assert!(unwrap(&key, &place, &sealed).is_err(), "a seal is no wrap");
        assert_eq!(wrap_version(&wrapped), Ok(3));
    }

    proptest::proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..80)) {
            let (key, place, blob) = (Key::from_bytes(&[7; 32]), Canonical::new("t"), Sealed::from_bytes(bytes));
            proptest::prop_assert!(open(&key, &place, &blob).is_err());
            proptest::prop_assert!(unwrap(&key, &place, &blob).is_err());
        }
    }
}
