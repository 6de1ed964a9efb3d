//! Hardware keys of staff: the second factor. A person's certificate counts where its key lives on a device that two
//! other people attested. One person may have several; a lost one is withdrawn by any one officer, for good.

use super::{
    Vault,
    access::Call,
    act::{Asker, Claim, Scene},
    callers::living,
    context::Context,
    deed::{Deed, Deeded, Hand},
    error::{VaultError, Violation},
    page::{Page, PageAsk, Slice},
    replay::ItemOutcome,
};
use crate::{
    audit::entry::Entry,
    crypto::digest::sha256,
    domain::{
        caller::{Caller, KeyPin},
        ids::{PersonId, PlatformId},
        staff_key::{KeyEvidence, StaffKey, StaffKeyState},
        time::Timestamp,
    },
    policy::decide::Denial,
    store::{Write, rows::Mac},
};

pub use crate::store::rows::config::StaffKeyRow;

/// Keys that a person may have in use: at the belt, in the safe, and some to spare.
const MAX_KEYS: usize = 8;
/// Certificates of a vendor's chain, without the root.
const MAX_CHAIN: usize = 5;
/// Longest such certificate, in bytes.
const MAX_CERTIFICATE: usize = 4_096;
/// Characters of a device's serial number, and of the words for it.
const MAX_SERIAL: usize = 64;
const MAX_DEVICE: usize = 200;
/// People whose keys end the beginning: from then on each key is attested by two others.
const FIRST_PEOPLE: usize = 2;

/// Judges what a vendor says of a device.
pub trait Attestation: Send + Sync {
    /// Whether the chain leads from a configured root to a certificate of this key; answers the serial number that it
    /// names.
    ///
    /// # Errors
    /// The rule that it breaks.
    fn judge(&self, chain: &[Vec<u8>], key: &KeyPin, now: Timestamp) -> Result<Option<String>, &'static str>;
}

/// A key as it is to be enrolled.
#[derive(Debug, Clone)]
pub struct NewStaffKey {
    /// Whose it is.
    pub person: PersonId,
    /// SHA-256 of the subject public key info.
    pub sha256: KeyPin,
    /// Serial number of the device; empty where the vendor's certificates name it.
    pub serial: String,
    /// What the device is.
    pub device: String,
    /// The vendor's certificates, that of the key first, without the root; none where people state it alone.
    pub chain: Vec<Vec<u8>>,
}

impl Context {
    /// The key of this hash.
    #[must_use]
    pub fn staff_key(&self, sha256: &KeyPin) -> Option<&StaffKeyRow> {
        self.staff_keys().iter().find(|row| row.key.sha256 == *sha256)
    }

    /// Whether fewer than two people ever had a key. A withdrawn one counts, so that nobody goes back to the beginning
    /// by withdrawing.
    #[must_use]
    pub fn begins_staff_keys(&self) -> bool {
        let people: std::collections::BTreeSet<_> =
            self.staff_keys().iter().map(|row| row.key.person.as_bytes()).collect();
        people.len() < FIRST_PEOPLE
    }

    /// Whether a person had a key that was withdrawn at this moment or later.
    pub(super) fn lost_a_key_since(&self, person: PersonId, since: Timestamp) -> bool {
        self.staff_keys().iter().any(|row| {
            row.key.person == person && row.key.state == StaffKeyState::Withdrawn && row.updated_at >= since
        })
    }
}

impl Vault {
    /// Says that a person's key lives on hardware: always proposed by one and approved by another, neither of them the
    /// person. Each of the first two people proposes their own first key.
    ///
    /// # Errors
    /// [`VaultError`]; [`Denial::OwnStaffKey`] and [`Denial::StaffKeyTaken`].
    pub async fn enrol_staff_key(
        &self,
        caller: &Caller,
        asker: Asker,
        new: NewStaffKey,
    ) -> Result<StaffKeyRow, VaultError> {
        let proved = self.judge(&new);
        self.run(PlatformId::VAULT, caller, asker, Enrol { new, proved }).await
    }

    /// Ends a key: its certificates are refused from now on, on open connections too.
    ///
    /// # Errors
    /// [`VaultError`]; [`Denial::OwnAccount`] of the very key that calls.
    pub async fn withdraw_staff_key(
        &self,
        caller: &Caller,
        asker: Asker,
        key: KeyPin,
    ) -> Result<StaffKeyRow, VaultError> {
        self.run(PlatformId::VAULT, caller, asker, Withdraw(key)).await
    }

    /// Lists keys by person, withdrawn ones too.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn list_staff_keys(
        &self,
        caller: &Caller,
        asker: Asker,
        page: PageAsk,
    ) -> Result<Page<StaffKeyRow>, VaultError> {
        let own = super::install::VAULT;
        self.gather(caller, &asker, Call::ListStaffKeys, own, page, |_, slice| List(slice)).await
    }

    /// The serial number that a vendor's chain proves, where there is one.
    fn judge(&self, new: &NewStaffKey) -> Result<Option<String>, &'static str> {
        if new.chain.is_empty() {
            return Ok(None);
        }
        if new.chain.len() > MAX_CHAIN || new.chain.iter().any(|der| der.len() > MAX_CERTIFICATE) {
            return Err("has at most 5 certificates of 4096 bytes each");
        }
        let roots = self.attestation.as_ref();
        let roots = roots.ok_or("the configuration names no staff.attestation_roots to judge it by")?;
        roots.judge(&new.chain, &new.sha256, self.clock().now())
    }
}

struct Enrol {
    new: NewStaffKey,
    /// What the vendor's chain proves.
    proved: Result<Option<String>, &'static str>,
}

impl Enrol {
    /// The device's serial number.
    fn serial(&self) -> Result<String, VaultError> {
        let new = &self.new;
        let mut found = Vec::new();
        let proved = match &self.proved {
            Ok(proved) => proved.as_deref(),
            Err(rule) => {
                found.push(Violation::new("attestation_chain", *rule));
                None
            }
        };
        let serial = if new.serial.is_empty() { proved.unwrap_or_default() } else { &new.serial };
        let plain = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
        if serial.is_empty() || serial.len() > MAX_SERIAL || !serial.bytes().all(plain) {
            found.push(Violation::new("serial", "must match [A-Za-z0-9-]{1,64}"));
        } else if proved.is_some_and(|proved| proved != serial) {
            found.push(Violation::new("serial", "is another than the vendor's certificate names"));
        }
        let device = &new.device;
        if device.is_empty() || device.len() > MAX_DEVICE || device.chars().any(char::is_control) {
            found.push(Violation::new("device", "says what the device is, in 1 to 200 bytes on one line"));
        }
        if found.is_empty() { Ok(serial.to_owned()) } else { Err(VaultError::Invalid(found)) }
    }

    /// Whether somebody may propose it. At the beginning nobody else could: each of the first two people brings the
    /// first key of their own, and the other approves.
    fn may_propose(&self, staff: &Context, proposer: PersonId) -> Result<(), Denial> {
        let person = self.new.person;
        let has_had_one = staff.staff_keys().iter().any(|row| row.key.person == person);
        let first = staff.begins_staff_keys() && !has_had_one;
        if proposer == person && !first { Err(Denial::OwnStaffKey) } else { Ok(()) }
    }
}

impl Deed for Enrol {
    type Answer = StaffKeyRow;

    fn call(&self) -> Call {
        Call::EnrolStaffKey
    }

    fn changes(&self) -> bool {
        true
    }

    fn may_approve(&self, approver: &Caller) -> Result<(), Denial> {
        if approver.person == Some(self.new.person) { Err(Denial::OwnStaffKey) } else { Ok(()) }
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<StaffKeyRow>, VaultError> {
        if !hand.plan.claim(Claim::Config) {
            return Ok(Deeded::Later);
        }
        let (scene, new) = (hand.scene, &self.new);
        living(scene.staff, new.person)?;
        let proposer = hand.caller.person.ok_or(Denial::PersonRequired)?;
        self.may_propose(scene.staff, proposer)?;
        let serial = self.serial()?;
        if scene.staff.staff_key(&new.sha256).is_some() {
            return Err(Denial::StaffKeyTaken.into());
        }
        let in_use =
            |row: &&StaffKeyRow| row.key.person == new.person && row.key.state == StaffKeyState::Active;
        if scene.staff.staff_keys().iter().filter(in_use).count() >= MAX_KEYS {
            return Err(VaultError::invalid("person_id", "has 8 keys in use; withdraw one first"));
        }
        // Before the approval nobody approves, and what is made here is thrown away.
        let approver = if hand.is_approved() { scene.caller(hand.asker)?.person } else { None };
        let key = StaffKey {
            sha256: new.sha256,
            person: new.person,
            evidence: if new.chain.is_empty() { KeyEvidence::Statement } else { KeyEvidence::Chain },
            serial,
            device: new.device.clone(),
            chain: new.chain.concat(),
            attested_by: [proposer, approver.unwrap_or(proposer)],
            state: StaffKeyState::Active,
        };
        let row = StaffKeyRow { key, created_at: scene.now, updated_at: scene.now, mac: [0; 32] };
        Ok(Deeded::changed(put(hand, row, None)?, ItemOutcome::default()))
    }

    fn again(&self, hand: &Hand<'_, '_>, _before: &ItemOutcome) -> Result<StaffKeyRow, VaultError> {
        find(hand.scene, &self.new.sha256).cloned().map_err(Into::into)
    }
}

struct Withdraw(KeyPin);

impl Deed for Withdraw {
    type Answer = StaffKeyRow;

    fn call(&self) -> Call {
        Call::WithdrawStaffKey
    }

    fn changes(&self) -> bool {
        true
    }

    fn tightens(&self) -> bool {
        true
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<StaffKeyRow>, VaultError> {
        if !hand.plan.claim(Claim::Config) {
            return Ok(Deeded::Later);
        }
        let mut row = find(hand.scene, &self.0)?.clone();
        // So whoever withdraws keeps a key, and the installation somebody who can call.
        if hand.asker.key == self.0 {
            return Err(Denial::OwnAccount.into());
        }
        if row.key.state == StaffKeyState::Withdrawn {
            log(hand, &row)?;
        } else {
            hand.plan.tightens = true;
            let was = row.mac;
            row.key.state = StaffKeyState::Withdrawn;
            row = put(hand, row, Some(was))?;
        }
        Ok(Deeded::changed(row, ItemOutcome::default()))
    }

    fn again(&self, hand: &Hand<'_, '_>, _before: &ItemOutcome) -> Result<StaffKeyRow, VaultError> {
        find(hand.scene, &self.0).cloned().map_err(Into::into)
    }
}

fn find<'s>(scene: &'s Scene<'_>, key: &KeyPin) -> Result<&'s StaffKeyRow, Denial> {
    scene.staff.staff_key(key).ok_or(Denial::StaffKeyNotFound)
}

fn put(hand: &mut Hand<'_, '_>, mut row: StaffKeyRow, was: Option<Mac>) -> Result<StaffKeyRow, VaultError> {
    row.updated_at = hand.scene.now;
    row.mac = hand.scene.keys().row.mac(&row.image());
    log(hand, &row)?;
    hand.plan.reconfigures = true;
    hand.plan.writes.push(Write::PutStaffKey(row.clone(), was));
    Ok(row)
}

fn log(hand: &mut Hand<'_, '_>, row: &StaffKeyRow) -> Result<(), VaultError> {
    hand.log(|entry| Entry {
        object_kind: Some("staff_key".to_owned()),
        object: Some(row.key.sha256.to_vec()),
        row_mac: Some(row.mac.into()),
        detail_sha256: Some(sha256(row.image().as_bytes()).into()),
        ..entry
    })?;
    Ok(())
}

struct List(Slice);

impl Deed for List {
    type Answer = Vec<(String, StaffKeyRow)>;

    fn call(&self) -> Call {
        Call::ListStaffKeys
    }

    fn changes(&self) -> bool {
        false
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Self::Answer>, VaultError> {
        let rows = hand.scene.context.staff_keys().iter();
        let name = |row: &StaffKeyRow| {
            format!("{}/{}", row.key.person, data_encoding::HEXLOWER.encode(&row.key.sha256))
        };
        let answer = self.0.of(rows.map(|row| (name(row), row.clone())));
        hand.log(|entry| Entry { object_kind: Some("staff_key".to_owned()), ..entry })?;
        Ok(Deeded::answer(answer))
    }
}
