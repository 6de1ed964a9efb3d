//! Proposals as messages, and a plan as people read it.

use std::sync::LazyLock;

use prost_reflect::{
    DescriptorPool, DynamicMessage, FieldDescriptor, MessageDescriptor, ReflectMessage as _, Value,
};
use serde_json::{Map, Value as Json};

use super::{convert::time, pb};
use crate::{
    domain::{ids::PlatformId, proposal::ProposalState},
    vault::{
        Vault,
        access::Call,
        callers::fingerprint,
        error::VaultError,
        proposals::{PlanBytes, ProposalView},
    },
};

/// The outcome of a call that may need two people.
pub(super) async fn outcome<T, O>(
    vault: &Vault,
    work: impl Future<Output = Result<T, VaultError>>,
    applied: impl FnOnce(T) -> O,
    proposed: impl FnOnce(pb::Proposal) -> O,
) -> Result<O, VaultError> {
    // Boxed: what a change carries is large, and these calls are rare.
    match Box::pin(work).await {
        Ok(done) => Ok(applied(done)),
        Err(VaultError::Proposed(view)) => Ok(proposed(proposal(vault, &view))),
        Err(other) => Err(other),
    }
}

/// A proposal for an answer.
pub(super) fn proposal(vault: &Vault, view: &ProposalView) -> pb::Proposal {
    pb::Proposal {
        proposal_id: view.id.to_string(),
        kind: view.call.as_str().to_owned(),
        plan_sha256: view.plan_sha256.to_vec(),
        propose_time: Some(time(view.created_at)),
        expire_time: Some(time(view.expires_at)),
        state: state_pb(view.state).into(),
        platform: vault.platform_name(view.platform).map(|name| name.to_string()).unwrap_or_default(),
    }
}

/// The same with the people behind it.
pub(super) fn record(vault: &Vault, view: &ProposalView) -> pb::ProposalRecord {
    let staff = vault.context(PlatformId::VAULT).ok();
    let proposer = staff.as_ref().and_then(|staff| staff.person(view.proposer));
    pb::ProposalRecord {
        proposal: Some(proposal(vault, view)),
        proposer_person_id: view.proposer.to_string(),
        proposer_handle: proposer.map(|row| row.person.handle.to_string()).unwrap_or_default(),
        end_person_id: view.ended_by.map(|id| id.to_string()).unwrap_or_default(),
        end_time: view.ended_at.map(time),
        failure_reason: view.reason.clone().unwrap_or_default(),
    }
}

const fn state_pb(state: ProposalState) -> pb::ProposalState {
    match state {
        ProposalState::Open => pb::ProposalState::Open,
        ProposalState::Approved => pb::ProposalState::Approved,
        ProposalState::Rejected => pb::ProposalState::Rejected,
        ProposalState::Expired => pb::ProposalState::Expired,
        ProposalState::Failed => pb::ProposalState::Failed,
    }
}

/// The state that a list is narrowed to.
pub(super) fn wanted(number: i32) -> Result<Option<ProposalState>, VaultError> {
    let wanted = pb::ProposalState::try_from(number);
    let wanted = wanted.map_err(|_| VaultError::invalid("state", "is no state of proposals"))?;
    Ok(ProposalState::ALL.iter().copied().find(|state| state_pb(*state) == wanted))
}

/// What a call would do, in words.
#[expect(clippy::wildcard_enum_match_arm, reason = "the others are never proposed")]
pub(super) const fn summary(call: Call) -> &'static str {
    match call {
        Call::ApplyPolicy => "make a text the next version of a platform's policy",
        Call::CreatePlatform => "make a platform, for good",
        Call::EnrolCaller => "let a certificate call",
        Call::UpdateCaller => "give a caller another name, other roles or other keys",
        Call::EnableCaller => "let a disabled caller call again",
        Call::EnrolPerson => "make a member of staff known",
        Call::GrantRole => "give a person a role",
        Call::RegisterRecipient => "register a third party that values may go to",
        Call::UpdateRecipientKey => {
            "enrol another key of a recipient, to which releases are sealed once its holder has answered"
        }
        Call::SetBudget => "set what a caller may spend",
        Call::EraseSubject => "erase a subject beyond the caller's budget",
        Call::CancelErasure => "call a subject's erasure off",
        Call::RotateKey => {
            "make a new audit or root key, and take every log or every platform's keys over to it"
        }
        Call::RekeyPlatform => {
            "give a platform and all its subjects new keys, seal everything anew, and destroy the versions before"
        }
        Call::DisableKey => "refuse a key version: what it wraps cannot be read until it is enabled again",
        Call::EnableKey => "let a disabled key version open again what it wraps",
        Call::ScheduleKeyDestruction => {
            "destroy a key version that wraps nothing, at a date; of the root key also what it sealed in backups"
        }
        Call::ScheduleHorizon => {
            "destroy old versions of platform, index and root keys by the calendar, and with them what they sealed in backups"
        }
        Call::EnrolStaffKey => {
            "attest that a person's key lives on a device, so that the person may call with it"
        }
        Call::OpenPlatform => "open a platform that a restore closed",
        _ => "a call",
    }
}

static CONTRACT: LazyLock<Option<DescriptorPool>> =
    LazyLock::new(|| DescriptorPool::decode(pb::DESCRIPTORS).ok());

/// A request as JSON without personal fields, and the names of those.
pub(super) fn readable(call: Call, plan: &PlanBytes) -> Option<(String, Vec<String>)> {
    let (service, method) = call.as_str().split_once('/')?;
    let service = CONTRACT.as_ref()?.get_service_by_name(&format!("sandyq.v1.{service}"))?;
    let request = service.methods().find(|known| known.name() == method)?.input();
    let message = DynamicMessage::decode(request, plan.expose()).ok()?;
    let mut withheld = Vec::new();
    let json = object(&message, "", &mut withheld);
    Some((Json::Object(json).to_string(), withheld))
}

fn object(message: &DynamicMessage, path: &str, withheld: &mut Vec<String>) -> Map<String, Json> {
    let fields = message.fields().filter(|(field, _)| field.name() != "request_id");
    let mut shown = Map::new();
    for (field, value) in fields {
        let path = format!("{path}{}", field.name());
        if is_personal(&field) {
            withheld.push(path);
        } else {
            let json = json(&field, value, &format!("{path}."), withheld);
            shown.insert(field.name().to_owned(), json);
            // What the approver compares with what the key's holder said.
            if let ("public_key", Some(key)) = (field.name(), value.as_bytes()) {
                let id = data_encoding::HEXLOWER.encode(&fingerprint(key));
                shown.insert("key_id".to_owned(), Json::from(id));
            }
        }
    }
    shown
}

/// Personal data and secrets are not shown to whoever may approve; names that mean something only beside another table
/// are, or nobody could tell what is approved. A field without a class is not shown either.
fn is_personal(field: &FieldDescriptor) -> bool {
    let class = field.parent_pool().get_extension_by_name("sandyq.v1.data_class");
    let options = field.options();
    let number = class.and_then(|class| options.get_extension(&class).as_enum_number());
    !number
        .and_then(|number| pb::DataClass::try_from(number).ok())
        .is_some_and(|class| matches!(class, pb::DataClass::Public | pb::DataClass::Pseudonym))
}

fn json(field: &FieldDescriptor, value: &Value, path: &str, withheld: &mut Vec<String>) -> Json {
    match value {
        Value::Bool(flag) => Json::from(*flag),
        Value::I32(number) => Json::from(*number),
        Value::I64(number) => Json::from(*number),
        Value::U32(number) => Json::from(*number),
        Value::U64(number) => Json::from(*number),
        Value::F32(number) => Json::from(*number),
        Value::F64(number) => Json::from(*number),
        Value::String(text) => Json::from(text.as_str()),
        Value::Bytes(bytes) => Json::from(data_encoding::HEXLOWER.encode(bytes)),
        Value::EnumNumber(number) => {
            let kind = field.kind();
            let known = kind.as_enum().and_then(|kind| kind.get_value(*number));
            known.map_or(Json::from(*number), |known| Json::from(known.name()))
        }
        Value::Message(message) if is_time(&message.descriptor()) => message
            .transcode_to::<prost_types::Timestamp>()
            .map_or(Json::Null, |at| Json::from(at.to_string())),
        Value::Message(message) => Json::Object(object(message, path, withheld)),
        Value::List(items) => items.iter().map(|item| json(field, item, path, withheld)).collect(),
        // The contract has none.
        Value::Map(_) => Json::Null,
    }
}

fn is_time(message: &MessageDescriptor) -> bool {
    message.full_name() == "google.protobuf.Timestamp"
}
