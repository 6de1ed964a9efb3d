//! What is asked of staff beyond a certificate: that its key is one of the person's hardware keys. Asked before every
//! call, and again in the lane where the call is decided, so that a key which another process withdrew gets nothing.

use std::sync::atomic::Ordering;

use super::{
    Vault,
    access::Call,
    act::Scene,
    context::Context,
    error::{VaultError, unreadable},
    settings::Settings,
};
use crate::domain::{
    caller::{Caller, KeyPin},
    staff_key::{HardwareKeys, KeyRule, StaffKeyState},
};

fn rule(required: bool, staff: &Context) -> KeyRule {
    match (required, staff.begins_staff_keys()) {
        (false, _) => KeyRule::Absent,
        (true, true) => KeyRule::Begun,
        (true, false) => KeyRule::Required,
    }
}

/// Whether a caller may make a call with this key; no call is one outside the contract.
fn check(
    required: bool,
    staff: &Context,
    caller: &Caller,
    key: &KeyPin,
    call: Option<Call>,
) -> Result<(), VaultError> {
    let Some(person) = caller.person else { return Ok(()) };
    let mut own = staff
        .staff_keys()
        .iter()
        .filter(|row| row.key.person == person && row.key.state == StaffKeyState::Active)
        .peekable();
    let has_one = own.peek().is_some();
    let enrolled = own.any(|row| row.key.sha256 == *key);
    let allowed = match rule(required, staff) {
        KeyRule::Absent => true,
        // Who has one already uses it.
        KeyRule::Begun => call.is_some_and(Call::works_before_keys) && (enrolled || !has_one),
        KeyRule::Required => enrolled,
    };
    if allowed { Ok(()) } else { Err(VaultError::StaffKeyNotEnrolled) }
}

impl Scene<'_> {
    /// Whether the caller of a request may make this call with its key.
    ///
    /// # Errors
    /// [`VaultError::StaffKeyNotEnrolled`].
    pub(super) fn second_factor(&self, call: Call, caller: &Caller, key: &KeyPin) -> Result<(), VaultError> {
        let required = self.shared.staff_keys_required.load(Ordering::SeqCst);
        check(required, self.staff, caller, key, Some(call))
    }
}

impl Vault {
    /// Whether a caller may make a call with this key, as far as this process knows.
    ///
    /// # Errors
    /// [`VaultError::StaffKeyNotEnrolled`].
    pub fn second_factor(&self, caller: &Caller, key: &KeyPin, call: Option<Call>) -> Result<(), VaultError> {
        let required = self.shared.staff_keys_required.load(Ordering::SeqCst);
        check(required, &self.shared.staff.load(), caller, key, call)
    }

    /// What is asked of a person's certificate now.
    #[must_use]
    pub fn key_rule(&self) -> KeyRule {
        rule(self.shared.staff_keys_required.load(Ordering::SeqCst), &self.shared.staff.load())
    }

    /// Whether a key is one of the caller's person.
    #[must_use]
    pub fn has_staff_key(&self, caller: &Caller, key: &KeyPin) -> bool {
        let staff = self.shared.staff.load();
        staff.staff_key(key).is_some_and(|row| {
            Some(row.key.person) == caller.person && row.key.state == StaffKeyState::Active
        })
    }

    /// Looks whether hardware keys are required: by the configuration, or by how many subjects there are. Says loudly
    /// what stands.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] where the subjects cannot be counted; what was known stays.
    pub async fn look_at_staff_keys(&self) -> Result<KeyRule, VaultError> {
        let Settings { hardware_keys, absent_up_to, .. } = self.settings;
        let beyond = match hardware_keys {
            HardwareKeys::Required => false,
            HardwareKeys::DeclaredAbsent => {
                let counted = self.shared.store.count_subjects(absent_up_to.saturating_add(1)).await;
                counted.map_err(unreadable)? > absent_up_to
            }
        };
        let required = hardware_keys == HardwareKeys::Required || beyond;
        self.shared.staff_keys_required.store(required, Ordering::SeqCst);
        if beyond {
            tracing::error!(
                absent_up_to,
                "STAFF NEEDS HARDWARE KEYS: there are more subjects than staff.absent_up_to_subjects; without an enrolled key \
                 a person's calls are refused"
            );
        }
        let rule = self.key_rule();
        match rule {
            KeyRule::Absent => tracing::warn!(
                absent_up_to,
                "NO HARDWARE KEYS: staff.hardware_keys is declared_absent; a copied certificate is a person"
            ),
            KeyRule::Begun => tracing::warn!(
                "STAFF KEYS ARE NOT ENROLLED YET: until two people have a hardware key, staff can do nothing but enrol them \
                 (sandyq staff key enrol)"
            ),
            KeyRule::Required => {}
        }
        Ok(rule)
    }
}
