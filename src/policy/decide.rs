//! The decision: pure and total. Who asks, for what, on which facts; a permit or a denial with a stable reason.

mod denial;

pub use self::denial::Denial;
use super::{
    model::{BanKind, BasisKind, Mark, Policy, Purpose, RecipientRule, View},
    retention::{Life, ending, is_overruled, withdraws},
};
use crate::domain::{
    authority::ReleaseAuthority,
    caller::{Caller, CallerState, Role},
    consent::{Consent, ConsentState, ConsentTerms, RecordAddress, SubjectState},
    event::SubjectEvent,
    ids::{ConsentId, RecipientId},
    names::{FieldName, PurposeName},
    outreach::Outreach,
    recipient::{CountryCode, Recipient, RecipientKind},
    reference::Reference,
    time::Timestamp,
    token::TokenState,
};

/// Leave to open one record in one view. Its fields are private and [`decide`] is its only maker:
///
/// ```compile_fail,E0451
/// # use sandyq::{domain::consent::RecordAddress, policy::{decide::Permit, model::View}};
/// fn forge(address: RecordAddress) -> Permit {
///     Permit { address, view: View::Full, consent: None, recipient: None, sealed: false }
/// }
/// ```
#[derive(Debug)]
pub struct Permit {
    address: RecordAddress,
    view: View,
    consent: Option<ConsentId>,
    recipient: Option<RecipientId>,
    sealed: bool,
}

impl Permit {
    /// How much may be answered.
    #[must_use]
    pub const fn view(&self) -> View {
        self.view
    }

    /// The consent that the permit stands on; `None` where a law needs none.
    #[must_use]
    pub const fn consent(&self) -> Option<ConsentId> {
        self.consent
    }

    /// The recipient whom the value is for; `None` where it stays with the platform.
    #[must_use]
    pub const fn recipient(&self) -> Option<RecipientId> {
        self.recipient
    }

    /// Whether the value may leave only sealed to the recipient's key.
    #[must_use]
    pub const fn must_seal(&self) -> bool {
        self.sealed
    }
}

impl ReleaseAuthority for Permit {
    fn address(&self) -> &RecordAddress {
        &self.address
    }
}

/// What is asked.
#[derive(Debug, Clone, Copy)]
pub struct Ask<'a> {
    /// By whom.
    pub caller: &'a Caller,
    /// For which purpose.
    pub purpose: &'a PurposeName,
    /// How much.
    pub view: View,
    /// For whom outside the platform; `None` where the value stays with it.
    pub recipient: Option<RecipientAsk<'a>>,
    /// By which channel, and in whose name, the subject would be reached; `None` where nobody would be.
    pub outreach: Option<&'a Outreach>,
    /// The law, demand or case behind it, in the platform's numbering.
    pub reference: Option<&'a Reference>,
}

/// The recipient that a caller named.
#[derive(Debug, Clone, Copy)]
pub enum RecipientAsk<'a> {
    /// A registered one.
    Known(&'a Recipient),
    /// One that the platform has not registered.
    Unknown,
}

/// What is known about a token that was found.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The token.
    pub token: TokenState,
    /// When the token ends; `None` where it does not.
    pub token_expires_at: Option<Timestamp>,
    /// The subject.
    pub subject: SubjectState,
    /// Whether the record came before any consent, and waits for one (rule R38).
    pub quarantined: bool,
    /// The record behind the token.
    pub address: &'a RecordAddress,
    /// When its value was stored.
    pub collected_at: Timestamp,
    /// Every consent of the subject.
    pub consents: &'a [Consent],
    /// Every event of the subject.
    pub events: &'a [SubjectEvent],
}

impl<'a> Facts<'a> {
    /// What retention counts from, as far as it is about this channel and sender.
    const fn life(&self, outreach: Option<&'a Outreach>) -> Life<'a> {
        let Self { address, collected_at, consents, events, .. } = *self;
        Life { field: &address.field, collected_at, consents, events, outreach }
    }
}

/// Decides one read. `facts` is `None` where the platform has no such token.
///
/// # Errors
/// A [`Denial`] is the other half of the answer. What the caller may learn of it is [`disclosed`]'s to say.
pub fn decide(
    policy: &Policy,
    ask: Ask<'_>,
    facts: Option<Facts<'_>>,
    now: Timestamp,
) -> Result<Permit, Denial> {
    let purpose = may_ask(policy, ask)?;
    let facts = facts.ok_or(Denial::TokenNotFound)?;
    let covered = policy.field(&facts.address.field).filter(|_| purpose.covers(&facts.address.field));
    let field_type = covered.ok_or(Denial::FieldNotAllowed)?.field_type;
    if !ask.view.fits(field_type) {
        return Err(Denial::ViewNotAllowed);
    }
    if ask.outreach.is_some_and(|outreach| !outreach.channel.takes(field_type)) {
        return Err(Denial::ChannelNotAllowed);
    }
    usable(facts, now)?;
    if policy.decides_by_machine(purpose) && is_objected_to(ask, facts, now) {
        return Err(Denial::ObjectedTo);
    }
    let release = release(policy, purpose, ask, facts, now)?;
    let to_authority = release.is_some_and(|release| release.rule.kind.is_authority());
    if ask.reference.is_none() && (to_authority || purpose.needs_reference()) {
        return Err(Denial::LegalReferenceMissing);
    }
    let needs = Needs::of(purpose, release);
    let consent = match purpose.basis.kind {
        BasisKind::Consent => Some(live_consent(policy, purpose, ask, facts, needs, now)?),
        BasisKind::Law { .. } => needs.without_consent()?,
    };
    if ending(policy, ask.purpose, purpose, facts.life(ask.outreach), now).is_past(now) {
        return Err(Denial::RetentionEnded);
    }
    Ok(Permit {
        address: facts.address.clone(),
        view: ask.view,
        consent,
        recipient: release.map(|release| release.recipient.id),
        sealed: release.is_some_and(|release| release.rule.encrypted),
    })
}

/// What a caller is told about a denial. A caller none of whose purposes covers the token's field learns only
/// what it would learn of a token that never was. Damage is always told: which field it hit cannot be trusted.
#[must_use]
pub fn disclosed(
    denial: Denial,
    policy: &Policy,
    caller: &Caller,
    address: Option<&RecordAddress>,
) -> Denial {
    let always_told = matches!(
        denial,
        Denial::CallerDisabled
            | Denial::PurposeNotDeclared
            | Denial::PurposeInert
            | Denial::CallerNotAllowed
            | Denial::ViewNotAllowed
            | Denial::ChannelRequired
            | Denial::ChannelNotAllowed
            | Denial::SenderNotAllowed
            | Denial::BudgetExhausted
            | Denial::DataDamaged
    );
    let covered = address.is_some_and(|a| may_know_of(policy, caller, &a.field));
    if always_told || covered { denial } else { Denial::TokenNotFound }
}

/// Whether a caller may learn that there is a value of a field: one of its purposes covers it.
#[must_use]
pub fn may_know_of(policy: &Policy, caller: &Caller, field: &FieldName) -> bool {
    policy.purposes_of(caller).any(|(_, purpose)| purpose.covers(field))
}

/// Whether the caller is enabled and has a role.
///
/// # Errors
/// [`Denial::CallerDisabled`] or [`Denial::CallerNotAllowed`].
pub fn require_role(caller: &Caller, role: Role) -> Result<(), Denial> {
    match caller.state {
        CallerState::Disabled => Err(Denial::CallerDisabled),
        CallerState::Enabled if caller.roles.contains(&role) => Ok(()),
        CallerState::Enabled => Err(Denial::CallerNotAllowed),
    }
}

/// The part of the decision that needs no look-up.
fn may_ask<'a>(policy: &'a Policy, ask: Ask<'_>) -> Result<&'a Purpose, Denial> {
    require_role(ask.caller, Role::Service)?;
    let purpose = policy.purpose(ask.purpose).ok_or(Denial::PurposeNotDeclared)?;
    if purpose.inert.is_some() {
        return Err(Denial::PurposeInert);
    }
    if !purpose.names_caller(ask.caller) {
        return Err(Denial::CallerNotAllowed);
    }
    if !purpose.allows_view(ask.view) {
        return Err(Denial::ViewNotAllowed);
    }
    purpose.allows_outreach(ask.outreach)?;
    Ok(purpose)
}

/// Whether token, subject and record can be used at all.
fn usable(facts: Facts<'_>, now: Timestamp) -> Result<(), Denial> {
    match facts.token {
        TokenState::Active if facts.token_expires_at.is_some_and(|end| end <= now) => {
            return Err(Denial::TokenExpired);
        }
        TokenState::Active => {}
        TokenState::Spent => return Err(Denial::TokenSpent),
        TokenState::Revoked => return Err(Denial::TokenRevoked),
    }
    match facts.subject {
        SubjectState::Active if facts.quarantined => Err(Denial::Quarantined),
        SubjectState::Active => Ok(()),
        SubjectState::Restricted => Err(Denial::SubjectRestricted),
        SubjectState::Erased => Err(Denial::SubjectErased),
    }
}

/// Whether the subject objected to decisions by machine and did not consent to this purpose since (Article 19-1).
fn is_objected_to(ask: Ask<'_>, facts: Facts<'_>, now: Timestamp) -> bool {
    let objections = facts.events.iter().filter(|event| event.is_objection() && event.at <= now);
    objections.map(|event| event.at).max().is_some_and(|objected_at| {
        let anew = |c: &Consent| {
            c.terms.purpose == *ask.purpose
                && c.terms.outreach.as_ref() == ask.outreach
                && c.state == ConsentState::Granted
                && (c.terms.given_at > objected_at && c.terms.given_at <= now)
        };
        !facts.consents.iter().any(anew)
    })
}

/// A recipient and the rule that lets it receive.
#[derive(Clone, Copy)]
struct Release<'a> {
    recipient: &'a Recipient,
    rule: &'a RecipientRule,
}

/// To whom the value would go, as far as policy and registration allow it.
fn release<'a>(
    policy: &Policy,
    purpose: &'a Purpose,
    ask: Ask<'a>,
    facts: Facts<'_>,
    now: Timestamp,
) -> Result<Option<Release<'a>>, Denial> {
    let Some(asked) = ask.recipient else { return Ok(None) };
    let barred = policy.ban(BanKind::AdvertisingTransfer).is_some() || purpose.recipients().is_empty();
    if purpose.is(Mark::Advertising) && barred {
        return Err(Denial::AdvertisingBarred);
    }
    let RecipientAsk::Known(recipient) = asked else { return Err(Denial::RecipientUnknown) };
    let unlisted =
        if purpose.is(Mark::Advertising) { Denial::AdvertisingBarred } else { Denial::RecipientUnknown };
    let rule = purpose.recipient(recipient.kind).ok_or(unlisted)?;
    if !recipient.may_receive(ask.purpose, now) {
        return Err(Denial::RecipientUnknown);
    }
    if !rule.covers(&facts.address.field) {
        return Err(Denial::FieldNotAllowed);
    }
    if !rule.allows_country(recipient.country) {
        return Err(Denial::CrossBorder);
    }
    if rule.encrypted && !recipient.has_key {
        return Err(Denial::RecipientKeyMissing);
    }
    Ok(Some(Release { recipient, rule }))
}

/// What a consent must allow besides purpose and field (Law 94-V, Article 8(4)).
#[derive(Clone, Copy)]
struct Needs {
    transfer: bool,
    abroad: bool,
    publication: bool,
}

impl Needs {
    /// Authorities receive by lawful demand (Article 9), the public by a consent to publication: neither is a transfer
    /// to a third party by consent.
    fn of(purpose: &Purpose, release: Option<Release<'_>>) -> Self {
        let kind = release.map(|release| release.rule.kind);
        let public = kind == Some(RecipientKind::Public);
        Self {
            transfer: kind.is_some_and(|kind| !kind.is_authority() && !public),
            abroad: release.is_some_and(|release| release.recipient.country != CountryCode::KZ),
            publication: public || purpose.is(Mark::Publication),
        }
    }

    /// What a consent with these terms lacks.
    fn missing_from(self, terms: &ConsentTerms) -> Option<Denial> {
        if self.publication && !terms.publication {
            Some(Denial::PublicationConsentMissing)
        } else if self.transfer && !terms.third_party_transfer {
            Some(Denial::TransferConsentMissing)
        } else if self.abroad && !terms.cross_border_transfer {
            Some(Denial::CrossBorder)
        } else {
            None
        }
    }

    /// Without a consent, what needs one is denied.
    fn without_consent(self) -> Result<Option<ConsentId>, Denial> {
        if self.publication {
            Err(Denial::PublicationConsentMissing)
        } else if self.transfer {
            Err(Denial::TransferConsentMissing)
        } else if self.abroad {
            Err(Denial::CrossBorder)
        } else {
            Ok(None)
        }
    }
}

/// A consent of this subject that covers purpose and field now and allows what is needed; or why there is none. A
/// consent's own list of fields binds: one given under an older policy keeps its scope; so do its channel and its sender.
/// A withdrawal ends every consent to the purpose, by the same channel and sender, that was given or recorded before it and
/// covers the field ([`is_overruled`]).
fn live_consent(
    policy: &Policy,
    purpose: &Purpose,
    ask: Ask<'_>,
    facts: Facts<'_>,
    needs: Needs,
    now: Timestamp,
) -> Result<ConsentId, Denial> {
    let covers = |c: &&Consent| {
        c.subject == facts.address.subject
            && c.terms.purpose == *ask.purpose
            && c.terms.fields.contains(&facts.address.field)
    };
    let withdrawn = facts.consents.iter().filter(covers).filter(|c| withdraws(c, ask.outreach));
    let withdrawn_at = withdrawn.filter_map(|c| c.withdrawn_at).max();
    let (mut reason, mut missing, mut elsewhere) = (Denial::ConsentMissing, None, None);
    for consent in facts.consents.iter().filter(covers) {
        if consent.terms.outreach.as_ref() != ask.outreach {
            elsewhere = elsewhere.max(Some(nearness(consent, ask.outreach)));
            continue;
        }
        match consent.state {
            ConsentState::Withdrawn => reason = Denial::ConsentWithdrawn,
            ConsentState::Granted if is_overruled(consent, withdrawn_at) => reason = Denial::ConsentWithdrawn,
            ConsentState::Granted if consent.terms.given_at > now => {}
            ConsentState::Granted if consent.terms.expires_at.is_some_and(|end| end <= now) => {
                if reason == Denial::ConsentMissing {
                    reason = Denial::ConsentExpired;
                }
            }
            ConsentState::Granted if !purpose.accepts_act(consent.terms.act) => {}
            ConsentState::Granted => match needs.missing_from(&consent.terms) {
                Some(denial) => missing = missing.or(Some(denial)),
                None if is_complete(policy, facts, now) => return Ok(consent.id),
                None => missing = Some(Denial::ConsentIncomplete),
            },
        }
    }
    let reason =
        if reason == Denial::ConsentMissing { elsewhere.map_or(reason, |(_, why)| why) } else { reason };
    Err(missing.unwrap_or(reason))
}

/// What a consent lacks that is for another channel or sender than is asked for; the nearer of them counts more.
fn nearness(consent: &Consent, asked: Option<&Outreach>) -> (u8, Denial) {
    let channel = |outreach: Option<&Outreach>| outreach.map(|outreach| outreach.channel);
    if channel(consent.terms.outreach.as_ref()) == channel(asked) {
        (1, Denial::SenderConsentMissing)
    } else {
        (0, Denial::ChannelConsentMissing)
    }
}

/// Whether the event that completes every consent of this policy has happened.
fn is_complete(policy: &Policy, facts: Facts<'_>, now: Timestamp) -> bool {
    policy.consent.completed_by.as_ref().is_none_or(|completed| {
        facts.events.iter().any(|event| event.name == completed.event && event.at <= now)
    })
}

#[cfg(test)]
mod tests;
