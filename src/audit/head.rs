//! Signed heads: C2SP checkpoints, `<installation>/<platform>`, signed as notes.

use signed_note::{Note, Signer, StandardVerifier, VerificationError, Verifier, Verifiers};
use tlog_tiles::checkpoint::Checkpoint;

use super::tree::Hash;
use crate::domain::names::PlatformName;

/// Size and root of a log that a signature vouches for.
#[derive(Debug, Clone, PartialEq)]
pub struct Head {
    /// `<installation>/<platform>`.
    pub origin: String,
    /// Number of entries.
    pub size: u64,
    /// Root of the tree.
    pub root: Hash,
}

/// Why a head is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadHead {
    /// Not a checkpoint, or not a signed note.
    #[error("a head is malformed")]
    Malformed,
    /// No signature by the trusted key.
    #[error("a head is not signed by the trusted audit key")]
    Unsigned,
}

/// The origin of a platform's log.
#[must_use]
pub fn origin(installation: &str, platform: &PlatformName) -> String {
    format!("{installation}/{platform}")
}

impl Head {
    /// The signed text of the head.
    ///
    /// # Errors
    /// [`BadHead::Malformed`] where the origin cannot stand in a checkpoint.
    pub fn sign(&self, key: &dyn Signer) -> Result<String, BadHead> {
        let body = Checkpoint::new(&self.origin, self.size, self.root, "")
            .map_err(|_| BadHead::Malformed)?
            .to_bytes();
        let mut note = Note::new(&body, &[]).map_err(|_| BadHead::Malformed)?;
        note.add_sigs(&[key]).map_err(|_| BadHead::Malformed)?;
        String::from_utf8(note.to_bytes()).map_err(|_| BadHead::Malformed)
    }
}

/// A text of another kind than a head, signed as a note. Its first line says what it is, and so that it is no checkpoint.
///
/// # Errors
/// [`BadHead::Malformed`] where the text does not end with a line feed, or cannot stand in a note.
pub fn sign_text(text: &str, key: &dyn Signer) -> Result<String, BadHead> {
    let mut note = Note::new(text.as_bytes(), &[]).map_err(|_| BadHead::Malformed)?;
    note.add_sigs(&[key]).map_err(|_| BadHead::Malformed)?;
    String::from_utf8(note.to_bytes()).map_err(|_| BadHead::Malformed)
}

/// Checks heads against one trusted key.
pub struct HeadVerifier(StandardVerifier);

impl Verifiers for HeadVerifier {
    fn verifier(&self, name: &str, id: u32) -> Result<&dyn Verifier, VerificationError> {
        if name == self.0.name() && id == self.0.key_id() {
            Ok(&self.0)
        } else {
            Err(VerificationError::UnknownKey { name: name.to_owned(), id })
        }
    }
}

/// A text that is not a note verifier key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a verifier key; expected name+id+base64")]
pub struct BadVerifierKey;

impl HeadVerifier {
    /// Trusts this key, given from outside the installation.
    ///
    /// # Errors
    /// [`BadVerifierKey`].
    pub fn new(verifier_key: &str) -> Result<Self, BadVerifierKey> {
        StandardVerifier::new(verifier_key.trim()).map(Self).map_err(|_| BadVerifierKey)
    }

    /// The text of a note that [`sign_text`] made.
    ///
    /// # Errors
    /// [`BadHead`].
    pub fn open_text(&self, note: &str) -> Result<String, BadHead> {
        let note = Note::from_bytes(note.as_bytes()).map_err(|_| BadHead::Malformed)?;
        note.verify(self).map_err(|_| BadHead::Unsigned)?;
        String::from_utf8(note.text().to_vec()).map_err(|_| BadHead::Malformed)
    }

    /// Reads a head and checks its signature.
    ///
    /// # Errors
    /// [`BadHead`].
    pub fn open(&self, text: &str) -> Result<Head, BadHead> {
        let note = Note::from_bytes(text.as_bytes()).map_err(|_| BadHead::Malformed)?;
        note.verify(self).map_err(|_| BadHead::Unsigned)?;
        let checkpoint = Checkpoint::from_bytes(note.text()).map_err(|_| BadHead::Malformed)?;
        if !checkpoint.extension().is_empty() {
            return Err(BadHead::Malformed);
        }
        Ok(Head { origin: checkpoint.origin().to_owned(), size: checkpoint.size(), root: *checkpoint.hash() })
    }
}
