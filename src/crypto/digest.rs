//! Hashes and message authentication codes.

use ring::{digest, hmac};

use super::aead::Key;
use crate::domain::{
    canonical::Canonical,
    names::FieldName,
    secret::Plaintext,
    token::{DigitsToken, Token, TokenHash},
};

/// SHA-256 of `bytes`.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut out = [0_u8; 32];
    out.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    out
}

/// The hash under which a token is stored: SHA-256 of its 160 random bits. For tokens of 12 digits, which can be tried
/// out, see [`IndexKey::digits_token`].
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

    /// The hash under which a token of 12 digits is stored: there are so few that a bare hash could be searched.
    #[must_use]
    pub fn digits_token(&self, token: &DigitsToken) -> TokenHash {
        TokenHash(tag(&self.key, &Canonical::new("digits token").bytes(token.as_bytes())))
    }

    /// Index hash of a field's normalised value. Equal values of two fields differ.
    #[must_use]
    pub fn value(&self, field: &FieldName, value: &Plaintext) -> [u8; 32] {
        tag(&self.key, &Canonical::new("field value").text(field.as_str()).text(value.expose()))
    }
}

fn tag(key: &hmac::Key, input: &Canonical) -> [u8; 32] {
    let mut out = [0_u8; 32];
    out.copy_from_slice(hmac::sign(key, input.as_bytes()).as_ref());
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn index(version: u32, byte: u8) -> IndexKey {
        IndexKey::new(version, &Key::from_bytes(&[byte; 32]))
    }

    #[test]
    fn index_hashes_differ_by_key_kind_field_and_value() {
        let (iin, bin): (FieldName, FieldName) = ("iin".parse().unwrap(), "bin".parse().unwrap());
        let text = |text: &str| Plaintext::new(text.to_owned());
        let digits = |text: &str| DigitsToken::parse(text).unwrap();
        let hashes = |key: IndexKey| {
            [
                key.subject_reference("991231600003"),
                key.digits_token(&digits("991231600003")).0,
                key.digits_token(&digits("991231600004")).0,
                key.value(&iin, &text("991231600003")),
                key.value(&bin, &text("991231600003")),
                key.value(&iin, &text("991231600004")),
                key.value(&"ii".parse().unwrap(), &text("n991231600003")),
            ]
        };
        let all = [hashes(index(1, 7)), hashes(index(1, 8))].concat();
        for (i, a) in all.iter().enumerate() {
            for (j, b) in all.iter().enumerate() {
                assert_eq!(i == j, a == b, "{i} {j}");
            }
        }
        assert_eq!(hashes(index(1, 7)), hashes(index(2, 7)), "the version is stored beside, not hashed");
    }

    /// Frozen: stored hashes must be found again. Computed with another implementation of HMAC (Python's hmac).
    #[test]
    fn index_hashes_are_frozen() {
        let hex = |hash: [u8; 32]| data_encoding::HEXLOWER.encode(&hash);
        let key = index(1, 7);
        assert_eq!(
            hex(key.digits_token(&DigitsToken::parse("991231600003").unwrap()).0),
            "14e6e97a00c4aa16a38aef440de2c5bf707f794c20814b90e1e1d7472d173bed"
        );
        let value = Plaintext::new("991231600002".to_owned());
        assert_eq!(
            hex(key.value(&"iin".parse().unwrap(), &value)),
            "79e738b8f49dd033e63b17b18b6082bbf76fbc524df2a917395f48a4d327796d"
        );
    }
}
