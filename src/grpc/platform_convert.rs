//! Messages of `PlatformService` to the vault's types and back.

use super::{
    codes::same,
    convert::{Checker, time},
    pb,
    registers::{distinct, reference},
};
use crate::{
    domain::{
        caller::{CallerState, KeyPin, Role},
        iin,
        names::PlatformName,
        operation::{BudgetKind, BudgetLimit},
        recipient::{Abroad, RecipientCondition, RecipientKind, RecipientState, Safeguard},
        reference::Reference,
    },
    vault::{
        Vault,
        budgets::BudgetView,
        callers::{CallerRow, CallerTerms, fingerprint},
        error::VaultError,
        page::{MAX_PAGE, PageAsk, Place},
        persons::PersonView,
        platforms::PlatformView,
        recipients::{NewRecipient, RecipientRow, SUITE},
    },
};

same!(
    safeguard,
    safeguard_pb,
    Safeguard { AdequateProtection, Treaty, Law, ContractClauses, SubjectConsent }
);
same!(
    condition,
    condition_pb,
    RecipientCondition {
        Confidentiality,
        ProtectionMeans,
        IncidentRecovery,
        RestrictedAccess,
        EffectivenessChecks,
        LawfulMeasures,
        NoOnwardTransfer,
    }
);

/// Longest registered name of an operator or recipient, in bytes.
const MAX_LEGAL_NAME: usize = 512;
/// Shortest and longest window of a budget, in seconds: a minute, and thirty days.
const WINDOWS: std::ops::RangeInclusive<u32> = 60..=2_592_000;

/// A page of a list, from the number of rows that is asked for and the place after which it begins.
pub(super) fn page(size: i32, after: Option<Place>) -> Result<PageAsk, VaultError> {
    match usize::try_from(size) {
        Ok(0) => Ok(PageAsk { size: MAX_PAGE, after }),
        Ok(size) => Ok(PageAsk { size: size.min(MAX_PAGE), after }),
        Err(_) => Err(VaultError::invalid("page_size", "must not be negative")),
    }
}

/// The place in a page token: `PLATFORM/KEY`; none at the beginning.
pub(super) fn place(token: &str) -> Result<Option<Place>, VaultError> {
    if token.is_empty() {
        return Ok(None);
    }
    let parts = token.split_once('/').map(|(platform, key)| (platform.to_owned(), key.to_owned()));
    parts.map(Some).ok_or(VaultError::invalid("page_token", "not a page of this list"))
}

/// The page token of a place.
pub(super) fn token(next: Option<Place>) -> String {
    next.map(|(platform, key)| format!("{platform}/{key}")).unwrap_or_default()
}

/// A platform's name, its operator's name and BIN.
pub(super) fn new_platform(
    message: pb::CreatePlatformRequest,
) -> Result<(PlatformName, String, String), VaultError> {
    let mut check = Checker::new("");
    let name = check.parse("name", &message.name);
    check_legal_name(&mut check, &message.legal_name);
    if !iin::has_valid_check_digit(&message.bin) {
        check.refuse("bin", "is not 12 digits with a valid check digit");
    }
    Ok((check.finish(name)?, message.legal_name, message.bin))
}

fn check_legal_name(check: &mut Checker, name: &str) {
    let printable = !name.chars().any(char::is_control) && name.trim() == name;
    if name.is_empty() || name.len() > MAX_LEGAL_NAME || !printable {
        check.refuse("legal_name", "must have 1 to 512 bytes, no control characters and no space around it");
    }
}

/// The platform of a request that must name one.
pub(super) fn required_platform(check: &mut Checker, name: &str) {
    if name.is_empty() {
        check.refuse("platform", "is required");
    }
}

pub(super) fn role(number: i32) -> Option<Role> {
    match pb::Role::try_from(number).ok()? {
        pb::Role::Unspecified => None,
        pb::Role::Service => Some(Role::Service),
        pb::Role::Auditor => Some(Role::Auditor),
        pb::Role::SecurityOfficer => Some(Role::SecurityOfficer),
        pb::Role::DataProtection => Some(Role::DataProtection),
        pb::Role::PlatformAdmin => Some(Role::PlatformAdmin),
    }
}

const fn role_pb(role: Role) -> pb::Role {
    match role {
        Role::Service => pb::Role::Service,
        Role::Auditor => pb::Role::Auditor,
        Role::SecurityOfficer => pb::Role::SecurityOfficer,
        Role::DataProtection => pb::Role::DataProtection,
        Role::PlatformAdmin => pb::Role::PlatformAdmin,
    }
}

/// Name, roles and pins of a caller.
pub(super) fn caller_terms(
    check: &mut Checker,
    name: &str,
    roles: &[i32],
    pins: &[Vec<u8>],
) -> Option<CallerTerms> {
    let name = check.parse("name", name);
    let mut known = Vec::new();
    for (i, number) in roles.iter().enumerate() {
        match role(*number) {
            Some(role) => known.push(role),
            None => check.refuse(&format!("roles[{i}]"), "is not a role"),
        }
    }
    let mut keys: Vec<KeyPin> = Vec::new();
    for (i, pin) in pins.iter().enumerate() {
        match pin.as_slice().try_into() {
            Ok(pin) => keys.push(pin),
            Err(_) => check.refuse(&format!("key_pins[{i}]"), "must have 32 bytes"),
        }
    }
    Some(CallerTerms { name: name?, roles: known, pins: keys })
}

/// A recipient as it is to be registered.
pub(super) fn new_recipient(message: &pb::RegisterRecipientRequest) -> Result<NewRecipient, VaultError> {
    let mut check = Checker::new("");
    required_platform(&mut check, &message.platform);
    let name = check.parse("name", &message.name);
    let kind = kind(message.kind);
    let kind = check.require("kind", kind);
    let country = check.parse("country", &message.country);
    check_legal_name(&mut check, &message.legal_name);
    let contract = Reference::parse(&message.contract_reference);
    let contract = contract.map_err(|e| check.refuse("contract_reference", &e.to_string())).ok();
    let abroad = abroad(&mut check, message);
    let conditions =
        distinct(&mut check, "conditions", &message.conditions, RecipientCondition::ALL.len(), condition);
    if message.purposes.is_empty() {
        check.refuse("purposes", "a recipient is registered for at least one purpose");
    }
    let purposes = message.purposes.iter().enumerate();
    let purposes: Vec<_> =
        purposes.filter_map(|(i, name)| check.parse(&format!("purposes[{i}]"), name)).collect();
    let valid_from = message.valid_from_time.and_then(|t| check.time("valid_from_time", t));
    let valid_until = check.require("valid_until_time", message.valid_until_time);
    let valid_until = valid_until.and_then(|t| check.time("valid_until_time", t));
    let key = Some(&message.public_key).filter(|key| !key.is_empty());
    let public_key = key.and_then(|key| public_key(&mut check, key));
    let new = (|| {
        Some(NewRecipient {
            name: name?,
            kind: kind?,
            country: country?,
            legal_name: message.legal_name.clone(),
            contract: contract?,
            abroad,
            conditions,
            purposes,
            valid_from,
            valid_until: valid_until?,
            public_key,
        })
    })();
    check.finish(new)
}

/// On what a recipient abroad receives. What is missing beside its country, the vault says.
fn abroad(check: &mut Checker, message: &pb::RegisterRecipientRequest) -> Option<Abroad> {
    let reference = check.reference("safeguard_reference", &message.safeguard_reference);
    if message.safeguard == i32::from(pb::Safeguard::Unspecified) {
        if reference.is_some() {
            check.refuse("safeguard", "is required where its reference is given");
        }
        return None;
    }
    let safeguard = check.code("safeguard", safeguard(message.safeguard))?;
    Some(Abroad { safeguard, reference })
}

/// An X25519 public key (RFC 7748).
pub(super) fn public_key(check: &mut Checker, bytes: &[u8]) -> Option<[u8; 32]> {
    let key = <[u8; 32]>::try_from(bytes).ok().filter(|key| *key != [0; 32]);
    if key.is_none() {
        check.refuse("public_key", "must be an X25519 key of 32 bytes, not all zero");
    }
    key
}

fn kind(number: i32) -> Option<RecipientKind> {
    let number = pb::RecipientKind::try_from(number).ok()?;
    RecipientKind::ALL.iter().copied().find(|kind| kind_pb(*kind) == number)
}

const fn kind_pb(kind: RecipientKind) -> pb::RecipientKind {
    match kind {
        RecipientKind::State => pb::RecipientKind::StateBody,
        RecipientKind::Court => pb::RecipientKind::Court,
        RecipientKind::Bank => pb::RecipientKind::Bank,
        RecipientKind::PaymentSystem => pb::RecipientKind::PaymentSystem,
        RecipientKind::Partner => pb::RecipientKind::Partner,
        RecipientKind::Affiliate => pb::RecipientKind::Affiliate,
        RecipientKind::Contractor => pb::RecipientKind::Contractor,
        RecipientKind::Mailing => pb::RecipientKind::Mailing,
        RecipientKind::Analytics => pb::RecipientKind::Analytics,
        RecipientKind::Hosting => pb::RecipientKind::Hosting,
        RecipientKind::ItProcessor => pb::RecipientKind::ItProcessor,
        RecipientKind::Public => pb::RecipientKind::Public,
    }
}

/// A limit, without its caller.
pub(super) fn limit(check: &mut Checker, message: &pb::SetBudgetRequest) -> Option<BudgetLimit> {
    let kind = match pb::BudgetKind::try_from(message.kind) {
        Ok(pb::BudgetKind::Enumeration) => Some(BudgetKind::Enumeration),
        Ok(pb::BudgetKind::Erasure) => Some(BudgetKind::Erasure),
        Ok(pb::BudgetKind::DisclosureHour) => Some(BudgetKind::DisclosureHour),
        Ok(pb::BudgetKind::DisclosureDay) => Some(BudgetKind::DisclosureDay),
        Ok(pb::BudgetKind::Unspecified) | Err(_) => None,
    };
    let kind = check.require("kind", kind);
    if i64::try_from(message.limit).is_err() {
        check.refuse("limit", "is too large");
    }
    if !WINDOWS.contains(&message.window_seconds) {
        check.refuse("window_seconds", "must be 60 to 2592000");
    }
    if kind.and_then(BudgetKind::fixed_window).is_some_and(|fixed| fixed != message.window_seconds) {
        check.refuse("window_seconds", "must be 3600 for disclosure_hour, and 86400 for disclosure_day");
    }
    let (limit, window_seconds) = (message.limit, message.window_seconds);
    Some(BudgetLimit { caller: None, kind: kind?, limit, window_seconds })
}

/// A platform for an answer.
pub(super) fn platform(view: PlatformView) -> pb::Platform {
    pb::Platform {
        name: view.platform.name.to_string(),
        legal_name: view.platform.legal_name,
        bin: view.platform.bin,
        create_time: Some(time(view.platform.created_at)),
        policy_version: view.policy_version.unwrap_or_default(),
    }
}

/// A caller for an answer.
pub(super) fn caller(vault: &Vault, row: &CallerRow) -> pb::Caller {
    let caller = &row.caller;
    let state = match caller.state {
        CallerState::Enabled => pb::CallerState::Enabled,
        CallerState::Disabled => pb::CallerState::Disabled,
    };
    pb::Caller {
        caller_id: caller.id.to_string(),
        platform: vault.platform_name(caller.platform).map(|name| name.to_string()).unwrap_or_default(),
        name: caller.name.to_string(),
        spiffe_id: caller.spiffe_id.to_string(),
        roles: caller.roles.iter().map(|role| role_pb(*role).into()).collect(),
        key_pins: caller.pins.iter().map(|pin| pin.to_vec()).collect(),
        person_id: caller.person.map(|id| id.to_string()).unwrap_or_default(),
        state: state.into(),
        enrol_time: Some(time(row.created_at)),
        update_time: Some(time(row.updated_at)),
    }
}

/// A person for an answer.
pub(super) fn person(vault: &Vault, view: &PersonView) -> pb::Person {
    let row = &view.row;
    let grants = view.grants.iter().map(|grant| pb::RoleGrant {
        role: role_pb(grant.grant.role).into(),
        // A role on the vault's own platform holds for the whole installation.
        platform: Some(grant.grant.scope)
            .filter(|scope| scope.get() != 0)
            .and_then(|scope| vault.platform_name(scope))
            .map(|name| name.to_string())
            .unwrap_or_default(),
        grant_time: Some(time(grant.updated_at)),
    });
    pb::Person {
        person_id: row.person.id.to_string(),
        handle: row.person.handle.to_string(),
        roles: grants.collect(),
        enrol_time: Some(time(row.created_at)),
        disable_time: Some(row.updated_at).filter(|_| row.person.state == CallerState::Disabled).map(time),
    }
}

/// A recipient for an answer.
pub(super) fn recipient(vault: &Vault, row: &RecipientRow) -> pb::Recipient {
    let recipient = &row.recipient;
    let key = row.public_key.map(|key| pb::RecipientKey {
        key_id: data_encoding::HEXLOWER.encode(&fingerprint(&key)),
        public_key: key.to_vec(),
        update_time: row
            .key_proved_at
            .or(Some(row.updated_at).filter(|_| recipient.state == RecipientState::Active))
            .map(time),
    });
    let offered_key = row.offered.as_ref().map(|offered| {
        let (enc, ciphertext) = offered.sealed.split_at(32);
        pb::OfferedRecipientKey {
            key_id: data_encoding::HEXLOWER.encode(&fingerprint(&offered.public_key)),
            public_key: offered.public_key.to_vec(),
            statement: offered.statement.clone(),
            suite: SUITE.to_owned(),
            enc: enc.to_vec(),
            ciphertext: ciphertext.to_vec(),
            expire_time: Some(time(offered.expires_at)),
            wrong_answers: offered.wrong.into(),
        }
    });
    let abroad = row.abroad.as_ref();
    pb::Recipient {
        platform: vault.platform_name(row.platform).map(|name| name.to_string()).unwrap_or_default(),
        name: recipient.name.to_string(),
        kind: kind_pb(recipient.kind).into(),
        country: recipient.country.to_string(),
        legal_name: row.legal_name.clone(),
        contract_reference: row.contract.clone(),
        purposes: recipient.purposes.iter().map(ToString::to_string).collect(),
        valid_from_time: Some(time(recipient.valid_from)),
        valid_until_time: recipient.valid_until.map(time),
        key,
        offered_key,
        register_time: Some(time(row.created_at)),
        end_time: Some(row.updated_at).filter(|_| recipient.state == RecipientState::Ended).map(time),
        safeguard: abroad.map_or(pb::Safeguard::Unspecified, |abroad| safeguard_pb(abroad.safeguard)).into(),
        safeguard_reference: reference(abroad.and_then(|abroad| abroad.reference.as_ref())),
        conditions: row.conditions.iter().map(|one| condition_pb(*one).into()).collect(),
    }
}

/// A budget for an answer.
pub(super) fn budget(view: &BudgetView) -> pb::Budget {
    let kind = match view.limit.kind {
        BudgetKind::Enumeration => pb::BudgetKind::Enumeration,
        BudgetKind::Erasure => pb::BudgetKind::Erasure,
        BudgetKind::DisclosureHour => pb::BudgetKind::DisclosureHour,
        BudgetKind::DisclosureDay => pb::BudgetKind::DisclosureDay,
    };
    pb::Budget {
        caller_id: view.caller.to_string(),
        kind: kind.into(),
        limit: view.limit.limit,
        window_seconds: view.limit.window_seconds,
        spent: view.spent,
        window_start_time: Some(view.window_start).filter(|_| view.spent > 0).map(time),
        purpose: view.purpose.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}
