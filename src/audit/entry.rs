//! Entries of the log, in their frozen encoding.
//!
//! An entry is a CBOR map with small unsigned keys in ascending order, definite lengths and shortest integers
//! (RFC 8949, section 4.2, core deterministic encoding). Keys that do not apply are absent. Every text in it is an
//! id, a declared name, a code, or a checked reference: never a personal value.

use minicbor::{Decode, Encode, bytes::ByteArray};

use crate::domain::{
    code::coded,
    ids::{EntryId, PlatformId},
    time::Timestamp,
};

/// Version of the encoding.
pub const FORMAT: u32 = 1;

/// Longest entry, in bytes: what the two-byte length of an entry bundle can say (C2SP tlog-tiles).
pub const MAX_ENTRY_BYTES: usize = 65_535;

coded!(
    /// What an entry says was decided.
    Verdict, "verdict" {
        /// A value was released.
        Permit = "permit",
        /// It was not.
        Deny = "deny",
        /// A change was made, or a question without a value was answered.
        Done = "done",
    }
);

/// One entry. Field numbers are the keys of the CBOR map.
#[derive(Debug, Clone, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Entry {
    /// [`FORMAT`].
    #[n(0)]
    pub format: u32,
    /// Random id, chosen before the entry's position is known.
    #[n(1)]
    pub id: ByteArray<16>,
    /// Microseconds since the Unix epoch; never less than the entry before.
    #[n(2)]
    pub time: i64,
    /// Number of the platform whose log this is.
    #[n(3)]
    pub platform: u32,
    /// Id of the caller; absent where the vault itself acts.
    #[n(4)]
    pub caller: Option<ByteArray<16>>,
    /// Id of the person behind a staff caller.
    #[n(5)]
    pub person: Option<ByteArray<16>>,
    /// The call, such as `VaultService/Detokenize`.
    #[n(6)]
    pub call: String,
    /// Declared purpose.
    #[n(7)]
    pub purpose: Option<String>,
    /// Code of the view.
    #[n(8)]
    pub view: Option<String>,
    /// Declared field.
    #[n(9)]
    pub field: Option<String>,
    /// Id of the subject.
    #[n(10)]
    pub subject: Option<ByteArray<16>>,
    /// Id of the record.
    #[n(11)]
    pub record: Option<ByteArray<16>>,
    /// Id of the token's row.
    #[n(12)]
    pub token: Option<ByteArray<16>>,
    /// Id of the consent that a permit stands on, or that a change is about.
    #[n(13)]
    pub consent: Option<ByteArray<16>>,
    /// Kind of another object that a change is about: `subject`, `policy`, `caller`, `key`.
    #[n(14)]
    pub object_kind: Option<String>,
    /// Id of that object.
    #[n(15)]
    #[cbor(with = "minicbor::bytes")]
    pub object: Option<Vec<u8>>,
    /// MAC of the row that a change left, so that log and rows can be reconciled.
    #[n(16)]
    pub row_mac: Option<ByteArray<32>>,
    /// Declared recipient of a release.
    #[n(17)]
    pub recipient: Option<String>,
    /// The caller's reference, checked to hold no personal number.
    #[n(18)]
    pub reference: Option<String>,
    /// Code of the [`Verdict`].
    #[n(19)]
    pub verdict: String,
    /// Code of the reason of a denial.
    #[n(20)]
    pub reason: Option<String>,
    /// Version of the policy that decided.
    #[n(21)]
    pub policy_version: Option<u32>,
    /// The client's request id (UUIDv7).
    #[n(22)]
    pub request: Option<ByteArray<16>>,
    /// The entry that this one replays.
    #[n(23)]
    pub replay_of: Option<ByteArray<16>>,
    /// SHA-256 of further detail kept elsewhere, such as a policy's text.
    #[n(24)]
    pub detail_sha256: Option<ByteArray<32>>,
    /// How many refusals a summary stands for.
    #[n(25)]
    pub count: Option<u64>,
    /// The proposal that two people carried out with this act.
    #[n(26)]
    pub proposal: Option<ByteArray<16>>,
}

/// Bytes that are not an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BadEntry {
    /// Not the CBOR of an entry.
    #[error("not the encoding of an entry")]
    Malformed,
    /// Decodes, but is not the one deterministic encoding of what it says.
    #[error("not the deterministic encoding of its content")]
    NotDeterministic,
    /// A format this version does not know.
    #[error("entry format {0} is not known to this version")]
    UnknownFormat(u32),
    /// Longer than [`MAX_ENTRY_BYTES`].
    #[error("an entry has at most 65535 bytes")]
    TooLong,
}

impl Entry {
    /// An entry with its required parts; the rest is absent.
    #[must_use]
    pub fn new(id: EntryId, time: Timestamp, platform: PlatformId, call: &str, verdict: Verdict) -> Self {
        Self {
            format: FORMAT,
            id: (*id.as_bytes()).into(),
            time: time.as_micros(),
            platform: platform.get(),
            caller: None,
            person: None,
            call: call.to_owned(),
            purpose: None,
            view: None,
            field: None,
            subject: None,
            record: None,
            token: None,
            consent: None,
            object_kind: None,
            object: None,
            row_mac: None,
            recipient: None,
            reference: None,
            verdict: verdict.as_str().to_owned(),
            reason: None,
            policy_version: None,
            request: None,
            replay_of: None,
            detail_sha256: None,
            count: None,
            proposal: None,
        }
    }

    /// The id.
    #[must_use]
    pub fn entry_id(&self) -> EntryId {
        EntryId::from_bytes(*self.id)
    }

    /// The bytes of the leaf.
    ///
    /// # Errors
    /// [`BadEntry::TooLong`].
    pub fn encode(&self) -> Result<Vec<u8>, BadEntry> {
        let bytes = minicbor::to_vec(self).map_err(|_| BadEntry::Malformed)?;
        if bytes.len() > MAX_ENTRY_BYTES { Err(BadEntry::TooLong) } else { Ok(bytes) }
    }

    /// Reads the bytes of a leaf and checks that they are the deterministic encoding.
    ///
    /// # Errors
    /// [`BadEntry`].
    pub fn decode(bytes: &[u8]) -> Result<Self, BadEntry> {
        let entry: Self = minicbor::decode(bytes).map_err(|_| BadEntry::Malformed)?;
        if entry.format != FORMAT {
            return Err(BadEntry::UnknownFormat(entry.format));
        }
        if entry.encode()? != bytes {
            return Err(BadEntry::NotDeterministic);
        }
        Ok(entry)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Entry {
        Entry {
            caller: Some([2; 16].into()),
            person: Some([3; 16].into()),
            purpose: Some("payments".into()),
            view: Some("full".into()),
            field: Some("iin".into()),
            subject: Some([4; 16].into()),
            record: Some([5; 16].into()),
            token: Some([6; 16].into()),
            consent: Some([7; 16].into()),
            object_kind: Some("key".into()),
            object: Some(vec![8, 9]),
            row_mac: Some([10; 32].into()),
            recipient: Some("bank".into()),
            reference: Some("ORDER-1".into()),
            reason: Some("CONSENT_MISSING".into()),
            policy_version: Some(1),
            request: Some([11; 16].into()),
            replay_of: Some([12; 16].into()),
            detail_sha256: Some([13; 32].into()),
            count: Some(14),
            proposal: Some([15; 16].into()),
            ..Entry::new(
                EntryId::from_bytes([1; 16]),
                Timestamp::from_micros(1_790_000_000_000_000),
                PlatformId::new(1),
                "VaultService/Detokenize",
                Verdict::Permit,
            )
        }
    }

    /// The encoding is frozen: this is the same entry as in docs/audit-log.md.
    #[test]
    fn the_encoding_is_frozen() {
        let entry = Entry::new(
            EntryId::from_bytes([1; 16]),
            Timestamp::from_micros(1_790_000_000_000_000),
            PlatformId::new(1),
            "VaultService/WhoAmI",
            Verdict::Done,
        );
        let hex = data_encoding::HEXLOWER.encode(&entry.encode().unwrap());
        assert_eq!(
            hex,
            "a6000101500101010101010101010101010101010102\
             1b00065bfeda25e000030106735661756c7453657276\
             6963652f57686f416d491364646f6e65"
        );
    }

    #[test]
    fn entries_round_trip() {
        for entry in [full(), Entry { caller: None, object: None, ..full() }] {
            assert_eq!(Entry::decode(&entry.encode().unwrap()), Ok(entry));
        }
    }

    #[test]
    fn only_the_deterministic_encoding_is_an_entry() {
        let bytes = full().encode().unwrap();
        for cut in 0..bytes.len() {
            assert!(Entry::decode(&bytes[..cut]).is_err());
        }
        assert_eq!(Entry::decode(&[bytes.as_slice(), &[0]].concat()), Err(BadEntry::NotDeterministic));
        // The same map with an indefinite length: a valid CBOR text of the same content.
        let mut indefinite = vec![0xbf];
        indefinite.extend_from_slice(&bytes[2..]);
        indefinite.push(0xff);
        assert!(Entry::decode(&indefinite).is_err());
        let future = Entry { format: 2, ..full() };
        assert_eq!(Entry::decode(&future.encode().unwrap()), Err(BadEntry::UnknownFormat(2)));
    }

    proptest::proptest! {
        #[test]
        fn garbage_never_panics(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..200)) {
            let _outcome = Entry::decode(&bytes);
        }
    }
}
