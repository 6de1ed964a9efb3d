//! Keys of staff certificates that live on hardware, as people attested them.

use super::{caller::KeyPin, code::coded, ids::PersonId};

coded!(
    /// What an installation declares of its staff's keys.
    HardwareKeys, "rule of hardware keys" {
        /// A person's certificate counts only where its key lives on hardware, as two others attested.
        Required = "required",
        /// There are none, up to a number of subjects.
        DeclaredAbsent = "declared_absent",
    }
);

coded!(
    /// What is asked of a person's certificate now.
    KeyRule, "rule of staff keys" {
        /// Nothing beyond what its authority says.
        Absent = "absent",
        /// Keys are required and fewer than two people ever had one: nothing but enrolling them works.
        Begun = "begun",
        /// Its key is one of the person's, as attested.
        Required = "required",
    }
);

coded!(
    /// What the attestation of a key stands on.
    KeyEvidence, "evidence of a staff key" {
        /// Certificates of the device's vendor, up to a configured root.
        Chain = "chain",
        /// What the two people state of the device.
        Statement = "statement",
    }
);

coded!(
    /// Where a staff key stands.
    StaffKeyState, "state of a staff key" {
        /// Its certificates count.
        Active = "active",
        /// Lost or given back: it never counts again.
        Withdrawn = "withdrawn",
    }
);

/// A key of a person's certificates that lives on hardware.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct StaffKey {
    /// SHA-256 of the subject public key info.
    pub sha256: KeyPin,
    /// Whose it is.
    pub person: PersonId,
    /// What its attestation stands on.
    pub evidence: KeyEvidence,
    /// Serial number of the device.
    pub serial: String,
    /// What the device is, in the words of who attested it.
    pub device: String,
    /// The vendor's certificates, DER, one after the other; empty where people state it alone.
    pub chain: Vec<u8>,
    /// Who proposed its enrolment, and who approved.
    pub attested_by: [PersonId; 2],
    /// Where it stands.
    pub state: StaffKeyState,
}
