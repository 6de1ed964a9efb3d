//! What the vault states of values that it releases sealed to a recipient: whose key, what for, until when, by which entries of
//! the log, and the hash of what is sealed; signed by the audit key. `docs/releases.md` describes it for a recipient.

use std::fmt::Write as _;

use data_encoding::HEXLOWER;
use signed_note::Signer;

use super::head::{BadHead, sign_text};
use crate::domain::{
    ids::EntryId, names::RecipientName, outreach::Outreach, reference::Reference, time::Timestamp,
};

/// First line of a statement.
const STATEMENT: &str = "sandyq-release 1";

/// What is stated before the values are sealed: the seal is bound to it.
#[derive(Debug, Clone, Copy)]
pub struct Terms<'a> {
    /// The log, `<installation>/<platform>`.
    pub origin: &'a str,
    /// To whom.
    pub recipient: &'a RecipientName,
    /// The recipient's key: SHA-256 of its 32 bytes, in lower-case hexadecimal.
    pub key_id: &'a str,
    /// What for, as the platform's policy declares it.
    pub purpose: &'a str,
    /// By which channel and in whose name people may be reached, of a purpose that reaches them: the consents say no more.
    pub outreach: Option<&'a Outreach>,
    /// The caller's reference, such as the number of a payment.
    pub reference: Option<&'a Reference>,
    /// From when on the recipient takes it no more.
    pub expires_at: Timestamp,
    /// The entry of the log for each value, in order.
    pub entries: &'a [EntryId],
}

impl Terms<'_> {
    /// Its lines: the `info` of HPKE.
    #[must_use]
    pub fn lines(&self) -> String {
        let Terms { origin, recipient, key_id, purpose, .. } = self;
        let mut lines =
            format!("{STATEMENT}\nlog {origin}\nrecipient {recipient}\nkey {key_id}\npurpose {purpose}\n");
        // Nothing fails to be written to a string.
        if let Some(outreach) = self.outreach {
            let _ok = writeln!(lines, "outreach {outreach}");
        }
        if let Some(reference) = self.reference {
            let _ok = writeln!(lines, "reference {reference}");
        }
        let _ok = writeln!(lines, "expires {}", self.expires_at);
        for entry in self.entries {
            let _ok = writeln!(lines, "entry {entry}");
        }
        lines
    }
}

/// The signed note: the lines, and the SHA-256 of what is sealed.
///
/// # Errors
/// [`BadHead`] where it cannot be signed.
pub fn sign(lines: &str, sealed_sha256: &[u8; 32], key: &dyn Signer) -> Result<String, BadHead> {
    sign_text(&format!("{lines}sealed {}\n", HEXLOWER.encode(sealed_sha256)), key)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::head::HeadVerifier,
        crypto::{aead::Key, audit_key::AuditKey},
    };

    #[test]
    fn the_lines_are_those_of_the_document_and_the_note_verifies() {
        let recipient = "bank".parse().unwrap();
        let reference = Reference::parse("PAY-17").unwrap();
        let entries = [EntryId::from_bytes([0; 16]), EntryId::from_bytes([1; 16])];
        let terms = Terms {
            origin: "vault.example.kz/lerna",
            recipient: &recipient,
            key_id: "00ff",
            purpose: "payments",
            outreach: None,
            reference: Some(&reference),
            expires_at: Timestamp::from_micros(1_800_000_000_000_000),
            entries: &entries,
        };
        let lines = terms.lines();
        assert_eq!(
            lines,
            "sandyq-release 1\nlog vault.example.kz/lerna\nrecipient bank\nkey 00ff\npurpose payments\n\
             reference PAY-17\nexpires 2027-01-15T08:00:00.000000Z\nentry ent_aaaaaaaaaaaaaaaaaaaaaaaaaa\n\
             entry ent_aeaqcaibaeaqcaibaeaqcaibae\n"
        );
        assert!(!Terms { reference: None, ..terms }.lines().contains("reference"));
        let outreach = "sms operator".parse().unwrap();
        let lines_of_letters = Terms { outreach: Some(&outreach), ..terms }.lines();
        assert!(lines_of_letters.contains("\npurpose payments\noutreach sms operator\nreference PAY-17\n"));
        let key = AuditKey::from_seed("vault.example.kz", &Key::from_bytes(&[3; 32])).unwrap();
        let note = sign(&lines, &[9; 32], &key).unwrap();
        let trusted = HeadVerifier::new(&key.verifier_key()).unwrap();
        let text = trusted.open_text(&note).unwrap();
        assert_eq!(text, format!("{lines}sealed {}\n", "09".repeat(32)));
        assert!(trusted.open_text(&note.replace("bank", "bonk")).is_err());
        assert!(trusted.open(&note).is_err(), "it is no head");
    }
}
