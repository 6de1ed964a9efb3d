//! Rows of registers as they stand in an export: ids, names, codes and dates, and never a value.

use data_encoding::HEXLOWER;
use serde_json::{Value, json};

use super::statement::Register;
use crate::{
    audit::entry::Entry,
    domain::{
        calendar::WorkingCalendar,
        caller::{CallerState, RoleGrant},
        consent::{Consent, ConsentState},
        data_copy::DataCopy,
        ids::{CallerId, ConsentId, PersonId, PlatformId, SubjectId},
        names::{FieldName, PurposeName},
        recipient::{CountryCode, RecipientKind},
        reference::Reference,
        time::Timestamp,
    },
    policy::model::{BasisKind, Mark, Policy, Purpose, RecipientRule},
    store::rows::config::{CallerRow, PersonRow, PolicyRow, RecipientRow},
    vault::context::Context,
};

/// Working days in which what is published without a consent is taken down (Law 94-V, Article 6; rule R45).
const TAKE_DOWN_DAYS: u32 = 1;

/// A row that is not what it was when the vault wrote it.
pub(super) fn damaged(register: Register, id: &str) -> Value {
    json!({ "register": register.as_str(), "id": id, "damaged": true })
}

fn opt(time: Option<Timestamp>) -> Option<String> {
    time.map(|time| time.to_string())
}

pub(super) fn policy(row: &PolicyRow, governing: Option<u32>) -> Value {
    let parsed = Policy::applied(&row.text).ok();
    let dates =
        parsed.as_ref().map(|policy| (policy.effective_at(), policy.governs_from().max(row.created_at)));
    json!({
        "register": Register::Policies.as_str(), "version": row.version, "sha256": HEXLOWER.encode(&row.sha256),
        "applied_at": row.created_at.to_string(), "effective_at": opt(dates.map(|(effective, _)| effective)),
        "governs_from": opt(dates.map(|(_, governs)| governs)), "governs": governing == Some(row.version),
    })
}

pub(super) fn purpose(policy: &Policy, name: &PurposeName, purpose: &Purpose) -> Value {
    let basis = match &purpose.basis.kind {
        BasisKind::Consent => "consent".to_owned(),
        BasisKind::Law { article } => format!("law {article}"),
    };
    let marks: Vec<_> =
        Mark::ALL.iter().filter(|mark| purpose.is(**mark)).map(|mark| mark.as_str()).collect();
    let fields: Vec<_> = purpose.fields().map(|(field, _)| field.to_string()).collect();
    let recipient = |rule: &RecipientRule| json!({ "kind": rule.kind.as_str(), "abroad": rule.abroad, "sealed": rule.encrypted, "clause": rule.clause });
    let channels: Vec<_> = purpose.channels().iter().map(|rule| rule.channel.as_str()).collect();
    let senders: Vec<_> = purpose.senders().iter().map(|rule| rule.name.to_string()).collect();
    let ends: Vec<_> = policy.terms_of(purpose).map(ToString::to_string).collect();
    let responsible = policy.responsible.as_ref().map(|responsible| {
        json!({
            "office": responsible.office, "contact": responsible.contact, "clause": responsible.clause,
        })
    });
    json!({
        "register": Register::Purposes.as_str(), "purpose": name.to_string(), "clause": purpose.clause,
        "policy_version": policy.version, "basis": basis, "basis_clause": purpose.basis.clause, "marks": marks,
        "fields": fields, "recipients": purpose.recipients().iter().map(recipient).collect::<Vec<_>>(),
        "channels": channels, "senders": senders, "ends": ends, "inert": purpose.inert, "high_risk": purpose.is(Mark::HighRisk),
        "dpia": purpose.dpia.as_ref().map(Reference::to_string), "responsible": responsible,
    })
}

pub(super) fn recipient(row: &RecipientRow) -> Value {
    let of = &row.recipient;
    json!({
        "register": Register::Recipients.as_str(), "id": of.id.to_string(), "name": of.name.to_string(),
        "kind": of.kind.as_str(), "country": of.country.to_string(), "legal_name": row.legal_name,
        "contract": row.contract, "purposes": of.purposes.iter().map(ToString::to_string).collect::<Vec<_>>(),
        "valid_from": of.valid_from.to_string(), "valid_until": opt(of.valid_until), "state": of.state.as_str(),
        "has_key": row.public_key.is_some(), "registered_at": row.created_at.to_string(),
        "safeguard": row.abroad.as_ref().map(|abroad| abroad.safeguard.as_str()),
        "safeguard_reference": row.abroad.as_ref().and_then(|abroad| abroad.reference.as_ref()).map(Reference::as_str),
        "conditions": row.conditions.iter().map(|one| one.as_str()).collect::<Vec<_>>(),
    })
}

/// A person, with the roles that hold on a platform.
pub(super) fn person<'a>(
    row: &PersonRow,
    grants: impl Iterator<Item = &'a RoleGrant>,
    platform: PlatformId,
) -> Option<Value> {
    let here = grants.filter(|grant| {
        grant.state == CallerState::Enabled
            && grant.person == row.person.id
            && (grant.scope == platform || grant.scope == PlatformId::VAULT)
    });
    let roles: Vec<_> = here
        .map(|grant| {
            let scope = if grant.scope == PlatformId::VAULT { "installation" } else { "platform" };
            json!({ "role": grant.role.as_str(), "scope": scope })
        })
        .collect();
    (!roles.is_empty()).then(|| {
        json!({
            "register": Register::Access.as_str(), "who": "person", "id": row.person.id.to_string(),
            "name": row.person.handle.to_string(), "state": row.person.state.as_str(), "roles": roles,
            "since": row.created_at.to_string(), "changed_at": row.updated_at.to_string(),
        })
    })
}

/// A certificate, with what the policy in force lets it read and store.
pub(super) fn caller(row: &CallerRow, policy: Option<&Policy>) -> Value {
    let of = &row.caller;
    let purposes: Vec<_> =
        policy.iter().flat_map(|policy| policy.purposes_of(of)).map(|(name, _)| name.to_string()).collect();
    let collects = policy.is_some_and(|policy| policy.collects_anything(of));
    json!({
        "register": Register::Access.as_str(), "who": "caller", "id": of.id.to_string(), "name": of.name.to_string(),
        "certificate": of.spiffe_id.to_string(), "state": of.state.as_str(), "collects": collects,
        "roles": of.roles.iter().map(|role| json!({ "role": role.as_str(), "scope": "platform" })).collect::<Vec<_>>(),
        "person": of.person.map(|id| id.to_string()), "purposes": purposes,
        "since": row.created_at.to_string(), "changed_at": row.updated_at.to_string(),
    })
}

pub(super) fn consent(consent: &Consent) -> Value {
    let terms = &consent.terms;
    json!({
        "register": Register::Consents.as_str(), "consent": consent.id.to_string(),
        "subject": consent.subject.to_string(), "purpose": terms.purpose.to_string(),
        "fields": terms.fields.iter().map(FieldName::to_string).collect::<Vec<_>>(), "act": terms.act.as_str(),
        "given_at": terms.given_at.to_string(), "expires_at": opt(terms.expires_at),
        "recorded_at": consent.recorded_at.to_string(), "withdrawn_at": opt(consent.withdrawn_at),
        "channel": terms.outreach.as_ref().map(|outreach| outreach.channel.as_str()),
        "sender": terms.outreach.as_ref().map(|outreach| outreach.sender.to_string()),
        "state": consent.state.as_str(), "third_party_transfer": terms.third_party_transfer,
        "cross_border_transfer": terms.cross_border_transfer, "publication": terms.publication,
        "policy_version": terms.policy_version, "language": terms.language.as_str(),
        "text_sha256": HEXLOWER.encode(&terms.text_sha256), "site": terms.site.to_string(),
    })
}

pub(super) fn data_copy(copy: &DataCopy, now: Timestamp) -> Value {
    let facts = &copy.facts;
    json!({
        "register": Register::Copies.as_str(), "copy": copy.id.to_string(), "kind": facts.kind.as_str(),
        "purpose": facts.purpose.to_string(),
        "fields": facts.fields.iter().map(FieldName::to_string).collect::<Vec<_>>(),
        "subject": facts.subject.map(|id| id.to_string()), "holder": facts.holder.to_string(),
        "reference": facts.reference.as_ref().map(Reference::to_string), "made_at": facts.made_at.to_string(),
        "destroy_by": facts.destroy_by.to_string(), "recorded_at": copy.recorded_at.to_string(),
        "overdue": copy.is_overdue(now), "late": copy.was_late(),
        "ended_at": opt(copy.end.as_ref().map(|end| end.at)),
        "outcome": copy.end.as_ref().map(|end| end.outcome.as_str()),
        "act": copy.end.as_ref().map(|end| end.act.to_string()),
    })
}

/// A value that left, by its entry.
pub(super) struct Release<'a> {
    pub(super) position: u64,
    pub(super) entry: &'a Entry,
    /// Who received it, as registered then.
    to: Option<&'a RecipientRow>,
    is_publication: bool,
}

impl<'a> Release<'a> {
    /// None where it stayed with the platform and was for no publication.
    pub(super) fn of(context: &'a Context, position: u64, entry: &'a Entry) -> Option<Self> {
        let at = Timestamp::from_micros(entry.time);
        let named = |name: &String| {
            let rows = context.recipients().iter().filter(|row| row.recipient.name.as_str() == name);
            rows.filter(|row| row.created_at <= at).max_by_key(|row| row.created_at)
        };
        let to = entry.recipient.as_ref().and_then(named);
        let publishes = || {
            let purpose = entry.purpose.as_ref()?.parse::<PurposeName>().ok()?;
            Some(context.policy(at)?.purpose(&purpose)?.is(Mark::Publication))
        };
        let to_all = to.is_some_and(|row| row.recipient.kind == RecipientKind::Public);
        let is_publication = to_all || publishes().unwrap_or(false);
        (entry.recipient.is_some() || is_publication).then_some(Self { position, entry, to, is_publication })
    }

    /// The registers that it stands in.
    pub(super) fn registers(&self) -> impl Iterator<Item = Register> {
        let kind = self.to.map(|row| row.recipient.kind);
        let third = self.entry.recipient.is_some() && kind != Some(RecipientKind::Public);
        let abroad = self.to.is_some_and(|row| row.recipient.country != CountryCode::KZ);
        let all = [
            (Register::Transfers, third),
            (Register::CrossBorder, abroad),
            (Register::Publications, self.is_publication),
        ];
        all.into_iter().filter(|(_, stands)| *stands).map(|(register, _)| register)
    }

    /// The consent of a publication, whose end takes it down.
    pub(super) fn consent_to_publish(&self) -> Option<ConsentId> {
        self.entry.consent.filter(|_| self.is_publication).map(|id| ConsentId::from_bytes(*id))
    }

    /// The row of a register.
    pub(super) fn row(
        &self,
        register: Register,
        consent: Option<&Consent>,
        calendar: &WorkingCalendar,
        now: Timestamp,
    ) -> Value {
        let entry = self.entry;
        let mut row = json!({
            "register": register.as_str(), "entry": entry.entry_id().to_string(), "position": self.position,
            "time": Timestamp::from_micros(entry.time).to_string(), "call": entry.call, "purpose": entry.purpose,
            "field": entry.field, "view": entry.view,
            "subject": entry.subject.map(|id| SubjectId::from_bytes(*id).to_string()),
            "recipient": entry.recipient, "kind": self.to.map(|row| row.recipient.kind.as_str()),
            "country": self.to.map(|row| row.recipient.country.to_string()),
            "contract": self.to.map(|row| row.contract.clone()), "reference": entry.reference,
            "consent": entry.consent.map(|id| ConsentId::from_bytes(*id).to_string()),
            "caller": entry.caller.map(|id| CallerId::from_bytes(*id).to_string()),
            "person": entry.person.map(|id| PersonId::from_bytes(*id).to_string()),
            "policy_version": entry.policy_version,
        });
        if register == Register::Publications
            && let Some(fields) = row.as_object_mut()
        {
            let ended = consent.and_then(|consent| ended_at(consent, now));
            let take_down = ended.map(|at| calendar.end_of(at, TAKE_DOWN_DAYS));
            fields.insert("consent_ended_at".to_owned(), json!(opt(ended)));
            fields.insert("take_down_by".to_owned(), json!(opt(take_down)));
        }
        row
    }
}

/// When a consent ended, where it has.
fn ended_at(consent: &Consent, now: Timestamp) -> Option<Timestamp> {
    match consent.state {
        ConsentState::Withdrawn => consent.withdrawn_at,
        ConsentState::Granted => consent.terms.expires_at.filter(|end| *end <= now),
    }
}
