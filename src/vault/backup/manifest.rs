//! The manifest of a backup: what it holds, under which key, and where each log stood. A note that the audit key signs, of
//! a line that says what it is and JSON that people can read.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use signed_note::Signer;

use super::BackupError;
use crate::{
    audit::{
        head::{HeadVerifier, sign_text},
        json::{instant, text},
    },
    crypto::backup::{BackupName, PartsHash},
    domain::{ids::BackupId, names::PlatformName, secret::Sealed, time::Timestamp},
};

/// First line of a manifest.
const FORMAT: &str = "sandyq-backup 1";

/// Where a platform's log stood.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogMark {
    /// Number of the platform.
    pub platform: u32,
    /// Its name.
    pub name: String,
    /// Entries.
    pub size: u64,
    /// The signed head.
    pub checkpoint: String,
}

/// What a backup holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// Name of the installation.
    pub installation: String,
    /// The backup.
    #[serde(with = "text")]
    pub backup: BackupId,
    /// The attempt at it that was completed.
    pub attempt: u32,
    /// Schema of its tables.
    pub schema: i64,
    /// The moment that it is of.
    #[serde(with = "instant")]
    pub taken_at: Timestamp,
    /// Version of the root key that wraps its key.
    pub root_version: u32,
    /// Its key, wrapped, in base64.
    wrapped_key: String,
    /// Parts.
    pub parts: u64,
    /// Bytes of all parts.
    pub bytes: u64,
    /// [`PartsHash`] of all parts, in hexadecimal digits.
    parts_sha256: String,
    /// Rows of each table.
    pub rows: BTreeMap<String, u64>,
    /// Each platform's log, by number.
    pub logs: Vec<LogMark>,
}

/// What is known of a backup before its parts are written.
pub(super) struct Begun {
    pub(super) name: BackupName,
    pub(super) schema: i64,
    pub(super) taken_at: Timestamp,
    pub(super) root_version: u32,
    pub(super) wrapped_key: Sealed,
}

impl Manifest {
    pub(super) fn new(begun: Begun, (parts, bytes, hash): (u64, u64, PartsHash)) -> Self {
        Self {
            installation: begun.name.installation,
            backup: begun.name.backup,
            attempt: begun.name.attempt,
            schema: begun.schema,
            taken_at: begun.taken_at,
            root_version: begun.root_version,
            wrapped_key: BASE64.encode(begun.wrapped_key.as_bytes()),
            parts,
            bytes,
            parts_sha256: data_encoding::HEXLOWER.encode(&hash.0),
            rows: BTreeMap::new(),
            logs: Vec::new(),
        }
    }

    pub(super) fn name(&self) -> BackupName {
        BackupName { installation: self.installation.clone(), backup: self.backup, attempt: self.attempt }
    }

    pub(super) fn wrapped_key(&self) -> Result<Sealed, BackupError> {
        let bytes = BASE64.decode(self.wrapped_key.as_bytes());
        bytes.map(Sealed::from_bytes).map_err(|_| BackupError::Manifest("its key is not base64"))
    }

    pub(super) fn has_hash(&self, hash: PartsHash) -> bool {
        self.parts_sha256 == data_encoding::HEXLOWER.encode(&hash.0)
    }

    /// Rows of all tables.
    #[must_use]
    pub fn row_count(&self) -> u64 {
        self.rows.values().sum()
    }

    /// The log of a platform, by its name.
    #[must_use]
    pub fn log(&self, name: &PlatformName) -> Option<&LogMark> {
        self.logs.iter().find(|log| log.name == name.as_str())
    }

    pub(super) fn sign(&self, key: &dyn Signer) -> Result<String, BackupError> {
        let json =
            serde_json::to_string_pretty(self).map_err(|_| BackupError::Manifest("it cannot be written"))?;
        Ok(sign_text(&format!("{FORMAT}\n{json}\n"), key)?)
    }

    /// Reads a manifest that the trusted key signed.
    ///
    /// # Errors
    /// [`BackupError`].
    pub fn open(note: &str, trusted: &HeadVerifier) -> Result<Self, BackupError> {
        let text = trusted.open_text(note)?;
        let json = text.strip_prefix(FORMAT).and_then(|rest| rest.strip_prefix('\n'));
        let json = json.ok_or(BackupError::Manifest("it does not begin as a manifest of format 1"))?;
        serde_json::from_str(json).map_err(|_| BackupError::Manifest("it does not say what a manifest says"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::{aead::Key, audit_key::AuditKey};

    #[test]
    fn a_manifest_is_read_as_signed_and_by_no_other_key() {
        let key = |seed| AuditKey::from_seed("vault.example.kz", &Key::from_bytes(&[seed; 32])).unwrap();
        let verifier = |key: &AuditKey| HeadVerifier::new(&key.verifier_key()).unwrap();
        let begun = Begun {
            name: BackupName {
                installation: "vault.example.kz".to_owned(),
                backup: BackupId::from_bytes([3; 16]),
                attempt: 2,
            },
            schema: 6,
            taken_at: Timestamp::from_micros(1_790_000_000_123_456),
            root_version: 4,
            wrapped_key: Sealed::from_bytes(vec![1, 2, 3]),
        };
        let mut manifest = Manifest::new(begun, (1, 9, PartsHash::NONE.with(b"part")));
        manifest.rows.insert("tokens".to_owned(), 7);
        let mark = LogMark { platform: 0, name: "vault".into(), size: 7, checkpoint: "a\nb\n".into() };
        manifest.logs.push(mark);
        let note = manifest.sign(&key(1)).unwrap();
        assert_eq!(Manifest::open(&note, &verifier(&key(1))).unwrap(), manifest);
        assert!(Manifest::open(&note, &verifier(&key(2))).is_err());
        assert!(
            Manifest::open(&note.replace("\"attempt\": 2", "\"attempt\": 3"), &verifier(&key(1))).is_err()
        );
        assert!(verifier(&key(1)).open(&note).is_err(), "a manifest is no head");
    }
}
