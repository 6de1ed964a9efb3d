//! Hardware keys of staff as messages.

use super::{
    convert::{Checker, time},
    pb,
};
use crate::{
    domain::{
        caller::KeyPin,
        ids::PlatformId,
        staff_key::{KeyRule, StaffKeyState},
    },
    vault::{
        Vault,
        callers::fingerprint,
        error::VaultError,
        staff_keys::{NewStaffKey, StaffKeyRow},
    },
};

/// The hash of a public key.
pub(super) fn key_sha256(bytes: &[u8]) -> Result<KeyPin, VaultError> {
    bytes.try_into().map_err(|_| VaultError::invalid("key_sha256", "must have 32 bytes"))
}

/// A key as it is to be enrolled.
pub(super) fn new_staff_key(message: pb::EnrolStaffKeyRequest) -> Result<NewStaffKey, VaultError> {
    let mut check = Checker::new("");
    let person = check.parse("person_id", &message.person_id);
    let sha256 = <KeyPin>::try_from(message.key_sha256.as_slice()).ok();
    if sha256.is_none() {
        check.refuse("key_sha256", "must have 32 bytes");
    }
    let (person, sha256) = check.finish(person.zip(sha256))?;
    let pb::EnrolStaffKeyRequest { serial, device, attestation_chain: chain, .. } = message;
    Ok(NewStaffKey { person, sha256, serial, device, chain })
}

/// A key for an answer.
pub(super) fn staff_key(vault: &Vault, row: &StaffKeyRow) -> pb::StaffKey {
    let (key, staff) = (&row.key, vault.context(PlatformId::VAULT).ok());
    let person = staff.as_ref().and_then(|staff| staff.person(key.person));
    let [proposer, approver] = &key.attested_by;
    pb::StaffKey {
        key_sha256: key.sha256.to_vec(),
        person_id: key.person.to_string(),
        handle: person.map(|row| row.person.handle.to_string()).unwrap_or_default(),
        serial: key.serial.clone(),
        device: key.device.clone(),
        attestation_sha256: Some(&key.chain)
            .filter(|chain| !chain.is_empty())
            .map(|chain| fingerprint(chain).to_vec())
            .unwrap_or_default(),
        proposer_person_id: proposer.to_string(),
        approver_person_id: approver.to_string(),
        enrol_time: Some(time(row.created_at)),
        withdraw_time: Some(row.updated_at).filter(|_| key.state == StaffKeyState::Withdrawn).map(time),
    }
}

/// What is asked of staff, for an answer.
pub(super) const fn key_rule(rule: KeyRule) -> pb::StaffKeyRule {
    match rule {
        KeyRule::Absent => pb::StaffKeyRule::Absent,
        KeyRule::Begun => pb::StaffKeyRule::Begun,
        KeyRule::Required => pb::StaffKeyRule::Required,
    }
}
