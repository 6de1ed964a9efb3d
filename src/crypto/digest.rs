//! Hashes and message authentication codes.

use ring::{digest, hmac};

use super::aead::Key;
use crate::domain::{
    canonical::Canonical,
    token::{Token, TokenHash},
};

/// SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0_u8; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// The hash under which a token is stored: SHA-256 of its 160 random bits.
#[must_use]
pub fn token_hash(token: &Token) -> TokenHash {
    TokenHash(sha256(token.as_bytes()))
}

/// A row that was changed behind the vault: its MAC does not match its columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a stored row does not match its MAC")]
pub struct RowForged;

/// MAC of a row.
pub type RowMac = [u8; 32];

/// Per-platform key that authenticates rows which grant something.
pub struct RowKey(hmac::Key);

impl RowKey {
    /// The key with these bytes.
    #[must_use]
    pub fn new(key: &Key) -> Self {
        Self(hmac::Key::new(hmac::HMAC_SHA256, key.expose()))
    }

    /// HMAC-SHA256 of a row's image: table, primary key and every deciding column.
    #[must_use]
    pub fn mac(&self, image: &Canonical) -> RowMac {
        tag(&self.0, image)
    }

    /// Compares a stored MAC in constant time.
    ///
    /// # Errors
    /// [`RowForged`] when row and MAC do not belong together.
    pub fn verify(&self, image: &Canonical, mac: &RowMac) -> Result<(), RowForged> {
        hmac::verify(&self.0, image.as_bytes(), mac).map_err(|_| RowForged)
    }
}

/// Per-platform key of blind indexes: equal inputs have equal hashes within one platform and version only.
pub struct IndexKey {
    /// Version of the key, stored beside each hash.
    pub version: u32,
    key: hmac::Key,
}

impl IndexKey {
    /// The key with these bytes.
    #[must_use]
    pub fn new(version: u32, key: &Key) -> Self {
        Self { version, key: hmac::Key::new(hmac::HMAC_SHA256, key.expose()) }
    }

    /// Index hash of a platform's reference to a subject.
    #[must_use]
    pub fn subject_reference(&self, reference: &str) -> [u8; 32] {
        tag(&self.key, &Canonical::new("subject reference").text(reference))
    }
}

fn tag(key: &hmac::Key, input: &Canonical) -> [u8; 32] {
    let mut out = [0_u8; 32];
    out.copy_from_slice(hmac::sign(key, input.as_bytes()).as_ref());
    out
}
