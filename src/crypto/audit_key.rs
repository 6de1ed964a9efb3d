//! The Ed25519 key that signs heads of the log.

use data_encoding::BASE64;
use ring::signature::{Ed25519KeyPair, KeyPair as _};
use signed_note::{Signer, key_id};

use super::aead::Key;

/// Algorithm byte of Ed25519 in note keys (C2SP signed-note).
const NOTE_ED25519: u8 = 1;

/// An audit key that does not load.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the audit key does not load from its seed")]
pub struct BadAuditKey;

/// Signs heads. Named after the installation, as note keys are.
pub struct AuditKey {
    name: String,
    pair: Ed25519KeyPair,
    id: u32,
}

impl AuditKey {
    /// The key with this seed (RFC 8032: 32 bytes).
    ///
    /// # Errors
    /// [`BadAuditKey`] where the seed is refused.
    pub fn from_seed(installation: &str, seed: &Key) -> Result<Self, BadAuditKey> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.expose()).map_err(|_| BadAuditKey)?;
        let id = key_id(installation, &encoded(&pair));
        Ok(Self { name: installation.to_owned(), pair, id })
    }

    /// The public half as a note verifier key: `name+id+base64`. To be kept outside the installation.
    #[must_use]
    pub fn verifier_key(&self) -> String {
        format!("{}+{:08x}+{}", self.name, self.id, BASE64.encode(&encoded(&self.pair)))
    }
}

fn encoded(pair: &Ed25519KeyPair) -> Vec<u8> {
    [&[NOTE_ED25519], pair.public_key().as_ref()].concat()
}

impl Signer for AuditKey {
    fn name(&self) -> &str {
        &self.name
    }

    fn key_id(&self) -> u32 {
        self.id
    }

    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, signature::Error> {
        Ok(self.pair.sign(message).as_ref().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use signed_note::{StandardVerifier, Verifier as _};

    #[test]
    fn another_implementation_verifies_the_signature() {
        let key = AuditKey::from_seed("vault.example.kz", &Key::from_bytes(&[7; 32])).unwrap();
        let verifier = StandardVerifier::new(&key.verifier_key()).unwrap();
        assert_eq!(verifier.key_id(), Signer::key_id(&key));
        let signature = key.sign(b"message\n").unwrap();
        assert!(verifier.verify(b"message\n", &signature));
        assert!(!verifier.verify(b"massage\n", &signature));
    }
}
