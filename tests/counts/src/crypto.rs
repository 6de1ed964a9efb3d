//! Of the room what values and tokens are opened with.

#[path = "../../../src/crypto/aead.rs"]
pub mod aead;
#[path = "../../../src/crypto/digest.rs"]
pub mod digest;
#[path = "../../../src/crypto/envelope.rs"]
pub mod envelope;
#[path = "../../../src/crypto/keyring.rs"]
pub mod keyring;
