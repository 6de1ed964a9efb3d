//! The decision: pure and total. Who asks, for what, on which facts; a permit or a denial with a stable reason.

use super::{
    model::{BanKind, BasisKind, Mark, Policy, Purpose, RecipientRule, View},
    retention::{Life, ending, is_overruled},
};
use crate::domain::{
    authority::ReleaseAuthority,
    caller::{Caller, CallerState, Role},
    code::coded,
    consent::{Consent, ConsentState, ConsentTerms, RecordAddress, SubjectState},
    event::SubjectEvent,
    ids::{ConsentId, RecipientId},
    names::PurposeName,
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

coded!(
    /// Why a value is not answered. The codes are stable: clients and auditors rely on them (`docs/errors.md`).
    Denial, "denial" {
        /// The caller's enrolment is disabled.
        CallerDisabled = "CALLER_DISABLED",
        /// The policy does not declare the purpose.
        PurposeNotDeclared = "PURPOSE_NOT_DECLARED",
        /// The policy declares the purpose, and nobody reads by it.
        PurposeInert = "PURPOSE_INERT",
        /// The policy does not name the caller for this.
        CallerNotAllowed = "CALLER_NOT_ALLOWED",
        /// The purpose does not allow this view.
        ViewNotAllowed = "VIEW_NOT_ALLOWED",
        /// No such token on this platform.
        TokenNotFound = "TOKEN_NOT_FOUND",
        /// The purpose does not cover the field.
        FieldNotAllowed = "FIELD_NOT_ALLOWED",
        /// The token was used up.
        TokenSpent = "TOKEN_SPENT",
        /// The token was revoked.
        TokenRevoked = "TOKEN_REVOKED",
        /// The token's time has ended.
        TokenExpired = "TOKEN_EXPIRED",
        /// The subject was erased.
        SubjectErased = "SUBJECT_ERASED",
        /// Use of the subject's data is blocked.
        SubjectRestricted = "SUBJECT_RESTRICTED",
        /// The subject objects to decisions by machine, and the purpose makes them (rule R34).
        ObjectedTo = "OBJECTED_TO",
        /// The value came before any consent, and waits for one (rule R38).
        Quarantined = "QUARANTINED",
        /// The recipient is not registered, or not for this purpose, or not now, or of a kind that it does not name.
        RecipientUnknown = "RECIPIENT_UNKNOWN",
        /// The recipient is abroad; the purpose or the consent does not let the value go there.
        CrossBorder = "CROSS_BORDER",
        /// The value may leave only sealed, and the recipient has no key.
        RecipientKeyMissing = "RECIPIENT_KEY_MISSING",
        /// The policy gives nothing to this recipient for advertising.
        AdvertisingBarred = "ADVERTISING_BARRED",
        /// The read names neither the law nor the demand behind it.
        LegalReferenceMissing = "LEGAL_REFERENCE_MISSING",
        /// The consent does not allow transfer to third parties.
        TransferConsentMissing = "TRANSFER_CONSENT_MISSING",
        /// The consent does not allow publication.
        PublicationConsentMissing = "PUBLICATION_CONSENT_MISSING",
        /// An event without which the consent is not complete has not happened yet.
        ConsentIncomplete = "CONSENT_INCOMPLETE",
        /// No consent covers the purpose and field.
        ConsentMissing = "CONSENT_MISSING",
        /// The consent that covered them was withdrawn.
        ConsentWithdrawn = "CONSENT_WITHDRAWN",
        /// The consent that covered them has ended.
        ConsentExpired = "CONSENT_EXPIRED",
        /// The purpose may not keep the value any longer.
        RetentionEnded = "RETENTION_ENDED",
        /// The subject's record of the field holds another value.
        ValueDiffers = "VALUE_DIFFERS",
        /// The platform knows no such subject.
        SubjectNotFound = "SUBJECT_NOT_FOUND",
        /// The platform knows no such consent.
        ConsentNotFound = "CONSENT_NOT_FOUND",
        /// The subject has as many consents as a subject may have.
        TooManyConsents = "TOO_MANY_CONSENTS",
        /// No such platform, or none that this caller may see.
        PlatformNotFound = "PLATFORM_NOT_FOUND",
        /// No such caller, or none that this caller may see.
        CallerNotFound = "CALLER_NOT_FOUND",
        /// No such person of the staff.
        PersonNotFound = "PERSON_NOT_FOUND",
        /// The platform has no such recipient.
        RecipientNotFound = "RECIPIENT_NOT_FOUND",
        /// No key of the recipient waits for an answer.
        KeyNotOffered = "KEY_NOT_OFFERED",
        /// The platform has no such version of its policy, or none in force.
        PolicyNotFound = "POLICY_NOT_FOUND",
        /// Another has the name.
        NameTaken = "NAME_TAKEN",
        /// The certificate's URI is a caller's already, here or on another platform.
        CertificateTaken = "CERTIFICATE_TAKEN",
        /// The person was disabled, for good.
        PersonDisabled = "PERSON_DISABLED",
        /// Nobody would be left who has the security officer's role for the installation.
        LastOfficer = "LAST_OFFICER",
        /// Nobody locks themselves out.
        OwnAccount = "OWN_ACCOUNT",
        /// The key is or was enrolled as a staff key.
        StaffKeyTaken = "STAFF_KEY_TAKEN",
        /// No such staff key.
        StaffKeyNotFound = "STAFF_KEY_NOT_FOUND",
        /// No standing plan of the horizon was ever approved.
        HorizonNotFound = "HORIZON_NOT_FOUND",
        /// Nobody attests their own staff key.
        OwnStaffKey = "OWN_STAFF_KEY",
        /// The request id came before, with another call or body.
        RequestIdReused = "REQUEST_ID_REUSED",
        /// The policy does not take the field from this source.
        SourceNotAllowed = "SOURCE_NOT_ALLOWED",
        /// The policy does not take subjects of this kind, or the subject is of another.
        SubjectKindNotAllowed = "SUBJECT_KIND_NOT_ALLOWED",
        /// Another subject holds the value of a unique field.
        ValueNotUnique = "VALUE_NOT_UNIQUE",
        /// A token that answers once is asked without a request id.
        RequestIdRequired = "REQUEST_ID_REQUIRED",
        /// The value may leave only sealed to the recipient's key.
        SealRequired = "SEAL_REQUIRED",
        /// Another item of a sealed batch was denied, and it goes out whole or not at all.
        BatchIncomplete = "BATCH_INCOMPLETE",
        /// The value does not tell what the view asks.
        ViewUnavailable = "VIEW_UNAVAILABLE",
        /// The policy does not declare the event.
        EventNotDeclared = "EVENT_NOT_DECLARED",
        /// There is no block to lift.
        SubjectNotRestricted = "SUBJECT_NOT_RESTRICTED",
        /// There is no erasure to call off.
        SubjectNotErased = "SUBJECT_NOT_ERASED",
        /// The subject's keys are destroyed: nothing can bring the data back.
        SubjectDestroyed = "SUBJECT_DESTROYED",
        /// No such operation, or none that this caller may see.
        OperationNotFound = "OPERATION_NOT_FOUND",
        /// No such proposal, or none that this caller may see.
        ProposalNotFound = "PROPOSAL_NOT_FOUND",
        /// The proposal was approved, rejected, or failed before.
        ProposalEnded = "PROPOSAL_ENDED",
        /// Its time ended.
        ProposalExpired = "PROPOSAL_EXPIRED",
        /// Nobody approves what they proposed, with whichever certificate.
        OwnProposal = "OWN_PROPOSAL",
        /// The approver's person, role or certificate is no older than the proposal.
        ApproverTooNew = "APPROVER_TOO_NEW",
        /// The proposer may not make the call any more.
        ProposerNotAllowed = "PROPOSER_NOT_ALLOWED",
        /// The approval names another plan than the proposal has.
        PlanDiffers = "PLAN_DIFFERS",
        /// What needs two people needs persons, and the caller is none.
        PersonRequired = "PERSON_REQUIRED",
        /// The caller spent what it may in this window.
        BudgetExhausted = "BUDGET_EXHAUSTED",
        /// The operation has ended.
        OperationEnded = "OPERATION_ENDED",
        /// The operation is ended by a call of its own, not by this one.
        OperationUncontrolled = "OPERATION_UNCONTROLLED",
        /// The platform has no such key version.
        KeyNotFound = "KEY_NOT_FOUND",
        /// The version protects new data; a rotation must end that first.
        KeyActive = "KEY_ACTIVE",
        /// The version still wraps something.
        KeyInUse = "KEY_IN_USE",
        /// The version that the subject's key is wrapped under is disabled.
        KeyDisabled = "KEY_DISABLED",
        /// The version is in a state from which this cannot be done.
        KeyStateUnsuitable = "KEY_STATE_UNSUITABLE",
        /// A rotation of this key is not done yet.
        RotationRunning = "ROTATION_RUNNING",
        /// A sweep of retention is not done yet.
        SweepRunning = "SWEEP_RUNNING",
        /// The configuration names no place for backups.
        BackupNotConfigured = "BACKUP_NOT_CONFIGURED",
        /// A backup is not done yet.
        BackupRunning = "BACKUP_RUNNING",
        /// No such backup.
        BackupNotFound = "BACKUP_NOT_FOUND",
        /// The platform was restored, and two people have not opened it yet.
        PlatformClosed = "PLATFORM_CLOSED",
        /// The platform is open.
        PlatformNotClosed = "PLATFORM_NOT_CLOSED",
        /// The configuration names no place for documents.
        DocumentsNotConfigured = "DOCUMENTS_NOT_CONFIGURED",
        /// No such document or side, or none that this caller may see.
        DocumentNotFound = "DOCUMENT_NOT_FOUND",
        /// The side is held, in another version than the one that is to be replaced.
        DocumentExists = "DOCUMENT_EXISTS",
        /// The side has as many versions, or the subject as many open uploads, as there may be.
        TooManyDocuments = "TOO_MANY_DOCUMENTS",
        /// The content is larger than the policy allows, or than was declared.
        DocumentTooLarge = "DOCUMENT_TOO_LARGE",
        /// The content is of no type that the vault takes.
        MediaTypeNotAllowed = "MEDIA_TYPE_NOT_ALLOWED",
        /// The content has another hash than was declared.
        ContentDiffers = "CONTENT_DIFFERS",
        /// The stream ended before all bytes were there.
        UploadIncomplete = "UPLOAD_INCOMPLETE",
        /// The caller has no such upload that is not done.
        UploadNotFound = "UPLOAD_NOT_FOUND",
        /// The upload does not stand where the stream begins, or another stream carries it on.
        UploadMoved = "UPLOAD_MOVED",
        /// Data lies outside the declared sites, and nothing new is stored until it does not.
        StorageOutside = "STORAGE_OUTSIDE",
        /// A collection of the platform's documents is not done yet, or is held since a restore.
        CollectionRunning = "COLLECTION_RUNNING",
        /// The platform has no such request of a person.
        CaseNotFound = "CASE_NOT_FOUND",
        /// The request was answered or refused before.
        CaseEnded = "CASE_ENDED",
        /// What the request asks is not done yet.
        CaseNotDone = "CASE_NOT_DONE",
        /// Another step of the request comes first, or this one was taken already.
        CaseStateUnsuitable = "CASE_STATE_UNSUITABLE",
        /// The platform has no such breach.
        BreachNotFound = "BREACH_NOT_FOUND",
        /// The breach has ended.
        BreachClosed = "BREACH_CLOSED",
        /// The log was not looked through yet for whom the breach reaches, as it is known now.
        BreachNotAssessed = "BREACH_NOT_ASSESSED",
        /// Somebody is to be told of the breach first.
        BreachNotTold = "BREACH_NOT_TOLD",
        /// They were told of the breach before.
        BreachToldBefore = "BREACH_TOLD_BEFORE",
        /// The platform has no such copy of data outside the vault.
        CopyNotFound = "COPY_NOT_FOUND",
        /// The copy has ended before.
        CopyEnded = "COPY_ENDED",
        /// A stored row or value fails its authentication.
        DataDamaged = "DATA_DAMAGED",
    }
);

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
    /// What retention counts from.
    const fn life(&self) -> Life<'a> {
        let Self { address, collected_at, consents, events, .. } = *self;
        Life { field: &address.field, collected_at, consents, events }
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
    if !ask.view.fits(covered.ok_or(Denial::FieldNotAllowed)?.field_type) {
        return Err(Denial::ViewNotAllowed);
    }
    usable(facts, now)?;
    if policy.decides_by_machine(purpose) && is_objected_to(ask.purpose, facts, now) {
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
    if ending(policy, ask.purpose, purpose, facts.life(), now).is_past(now) {
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
            | Denial::BudgetExhausted
            | Denial::DataDamaged
    );
    let covered = address.is_some_and(|a| policy.purposes_of(caller).any(|(_, p)| p.covers(&a.field)));
    if always_told || covered { denial } else { Denial::TokenNotFound }
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
fn is_objected_to(purpose: &PurposeName, facts: Facts<'_>, now: Timestamp) -> bool {
    let objections = facts.events.iter().filter(|event| event.is_objection() && event.at <= now);
    objections.map(|event| event.at).max().is_some_and(|objected_at| {
        let anew = |c: &Consent| {
            c.terms.purpose == *purpose
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
/// consent's own list of fields binds: one given under an older policy keeps its scope. A withdrawal ends every consent
/// to the purpose that was given or recorded before it and covers the field ([`is_overruled`]).
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
    let withdrawn_at = facts.consents.iter().filter(covers).filter_map(|c| c.withdrawn_at).max();
    let (mut reason, mut missing) = (Denial::ConsentMissing, None);
    for consent in facts.consents.iter().filter(covers) {
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
    Err(missing.unwrap_or(reason))
}

/// Whether the event that completes every consent of this policy has happened.
fn is_complete(policy: &Policy, facts: Facts<'_>, now: Timestamp) -> bool {
    policy.consent.completed_by.as_ref().is_none_or(|completed| {
        facts.events.iter().any(|event| event.name == completed.event && event.at <= now)
    })
}

#[cfg(test)]
mod tests;
