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
    /// Signed by an audit key that had handed over to another before.
    #[error("a head is signed by an audit key that had been replaced before it")]
    Replaced,
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
        self.sign_by(&[key])
    }

    /// The same, signed by each of these keys.
    ///
    /// # Errors
    /// As [`Self::sign`].
    pub fn sign_by(&self, keys: &[&dyn Signer]) -> Result<String, BadHead> {
        let body = Checkpoint::new(&self.origin, self.size, self.root, "")
            .map_err(|_| BadHead::Malformed)?
            .to_bytes();
        let mut note = Note::new(&body, &[]).map_err(|_| BadHead::Malformed)?;
        note.add_sigs(keys).map_err(|_| BadHead::Malformed)?;
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

/// The text of a note of which nobody checks the signature: for showing alone.
#[must_use]
pub fn unsigned_text(note: &str) -> Option<String> {
    let note = Note::from_bytes(note.as_bytes()).ok()?;
    String::from_utf8(note.text().to_vec()).ok()
}

/// A head as it was read: what it says, and signatures that nobody has checked yet.
#[derive(Debug)]
pub struct SignedHead {
    head: Head,
    note: Note,
}

impl SignedHead {
    /// Reads a head, and believes nothing of it.
    ///
    /// # Errors
    /// [`BadHead::Malformed`].
    pub fn parse(text: &str) -> Result<Self, BadHead> {
        let note = Note::from_bytes(text.as_bytes()).map_err(|_| BadHead::Malformed)?;
        let checkpoint = Checkpoint::from_bytes(note.text()).map_err(|_| BadHead::Malformed)?;
        if !checkpoint.extension().is_empty() {
            return Err(BadHead::Malformed);
        }
        let (origin, size) = (checkpoint.origin().to_owned(), checkpoint.size());
        Ok(Self { head: Head { origin, size, root: *checkpoint.hash() }, note })
    }

    /// What it says.
    #[must_use]
    pub const fn head(&self) -> &Head {
        &self.head
    }

    /// Whether this key signed it.
    #[must_use]
    pub fn is_signed_by(&self, key: &StandardVerifier) -> bool {
        let verifiers = HeadVerifier(vec![key.clone()]);
        self.note.verify(&verifiers).is_ok()
    }
}

/// Checks heads against trusted keys.
pub struct HeadVerifier(Vec<StandardVerifier>);

impl Verifiers for HeadVerifier {
    fn verifier(&self, name: &str, id: u32) -> Result<&dyn Verifier, VerificationError> {
        let known = self.0.iter().find(|key| name == key.name() && id == key.key_id());
        let unknown = || VerificationError::UnknownKey { name: name.to_owned(), id };
        known.map(|key| -> &dyn Verifier { key }).ok_or_else(unknown)
    }
}

/// A text that is not a note verifier key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("not a verifier key; expected name+id+base64, or one on each line")]
pub struct BadVerifierKey;

impl HeadVerifier {
    /// Trusts the key on each line, given from outside the installation.
    ///
    /// # Errors
    /// [`BadVerifierKey`], also where there is none.
    pub fn new(verifier_keys: &str) -> Result<Self, BadVerifierKey> {
        let lines = verifier_keys.lines().map(str::trim).filter(|line| !line.is_empty());
        let keys = lines.map(StandardVerifier::new).collect::<Result<Vec<_>, _>>();
        keys.ok().filter(|keys| !keys.is_empty()).map(Self).ok_or(BadVerifierKey)
    }

    /// The keys.
    #[must_use]
    pub fn into_keys(self) -> Vec<StandardVerifier> {
        self.0
    }

    /// The name that the first key has: that of its installation.
    #[must_use]
    pub fn installation(&self) -> &str {
        self.0.first().map_or("", |key| key.name())
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

    /// Reads a head and checks that a trusted key signed it. Of a whole log a [`super::chain::Chain`] tells more.
    ///
    /// # Errors
    /// [`BadHead`].
    pub fn open(&self, text: &str) -> Result<Head, BadHead> {
        let signed = SignedHead::parse(text)?;
        signed.note.verify(self).map_err(|_| BadHead::Unsigned)?;
        Ok(signed.head)
    }
}
