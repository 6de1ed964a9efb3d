//! The decision: pure and total. Who asks, for what, on which facts; a permit or a denial with a stable reason.

use crate::domain::{
    authority::ReleaseAuthority,
    caller::{Caller, CallerState, Role},
    code::coded,
    consent::{Consent, ConsentState, RecordAddress, SubjectState},
    ids::ConsentId,
    names::PurposeName,
    time::Timestamp,
    token::TokenState,
};

use super::model::{Policy, Purpose, View};

/// Leave to open one record in one view. Its fields are private and [`decide`] is its only maker:
///
/// ```compile_fail,E0451
/// # use sandyq::{domain::{consent::RecordAddress, ids::ConsentId}, policy::{decide::Permit, model::View}};
/// fn forge(address: RecordAddress, consent: ConsentId) -> Permit {
///     Permit { address, view: View::Full, consent }
/// }
/// ```
#[derive(Debug)]
pub struct Permit {
    address: RecordAddress,
    view: View,
    consent: ConsentId,
}

impl Permit {
    /// How much may be answered.
    #[must_use]
    pub const fn view(&self) -> View {
        self.view
    }

    /// The consent that the permit stands on.
    #[must_use]
    pub const fn consent(&self) -> ConsentId {
        self.consent
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
        /// The subject was erased.
        SubjectErased = "SUBJECT_ERASED",
        /// Use of the subject's data is blocked.
        SubjectRestricted = "SUBJECT_RESTRICTED",
        /// No consent covers the purpose and field.
        ConsentMissing = "CONSENT_MISSING",
        /// The consent that covered them was withdrawn.
        ConsentWithdrawn = "CONSENT_WITHDRAWN",
        /// The consent that covered them has ended.
        ConsentExpired = "CONSENT_EXPIRED",
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
        /// The request id came before, with another call or body.
        RequestIdReused = "REQUEST_ID_REUSED",
        /// The caller spent what it may in this window.
        BudgetExhausted = "BUDGET_EXHAUSTED",
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
}

/// What is known about a token that was found.
#[derive(Debug, Clone, Copy)]
pub struct Facts<'a> {
    /// The token.
    pub token: TokenState,
    /// The subject.
    pub subject: SubjectState,
    /// The record behind the token.
    pub address: &'a RecordAddress,
    /// Every consent of the subject.
    pub consents: &'a [Consent],
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
    if !purpose.covers(&facts.address.field) {
        return Err(Denial::FieldNotAllowed);
    }
    match facts.token {
        TokenState::Active => {}
        TokenState::Spent => return Err(Denial::TokenSpent),
        TokenState::Revoked => return Err(Denial::TokenRevoked),
    }
    match facts.subject {
        SubjectState::Active => {}
        SubjectState::Restricted => return Err(Denial::SubjectRestricted),
        SubjectState::Erased => return Err(Denial::SubjectErased),
    }
    let consent = live_consent(ask.purpose, facts, now)?;
    Ok(Permit { address: facts.address.clone(), view: ask.view, consent })
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
            | Denial::CallerNotAllowed
            | Denial::ViewNotAllowed
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
    if !purpose.names_caller(ask.caller) {
        return Err(Denial::CallerNotAllowed);
    }
    if !purpose.allows_view(ask.view) {
        return Err(Denial::ViewNotAllowed);
    }
    Ok(purpose)
}

/// A consent of this subject that covers purpose and field now; or why there is none. A consent's own list of
/// fields binds: one given under an older policy keeps its scope. A withdrawal ends every consent to the purpose that
/// was given or recorded before it and covers the field, also a twin that a retry recorded, before or after: the
/// person's last word was no.
fn live_consent(purpose: &PurposeName, facts: Facts<'_>, now: Timestamp) -> Result<ConsentId, Denial> {
    let covers = |c: &&Consent| {
        c.subject == facts.address.subject
            && c.terms.purpose == *purpose
            && c.terms.fields.contains(&facts.address.field)
    };
    let withdrawn_at = facts.consents.iter().filter(covers).filter_map(|c| c.withdrawn_at).max();
    let mut reason = Denial::ConsentMissing;
    for consent in facts.consents.iter().filter(covers) {
        match consent.state {
            ConsentState::Withdrawn => reason = Denial::ConsentWithdrawn,
            ConsentState::Granted
                if withdrawn_at.is_some_and(|end| consent.recorded_at.min(consent.terms.given_at) <= end) =>
            {
                reason = Denial::ConsentWithdrawn;
            }
            ConsentState::Granted if consent.terms.given_at > now => {}
            ConsentState::Granted if consent.terms.expires_at.is_some_and(|end| end <= now) => {
                if reason == Denial::ConsentMissing {
                    reason = Denial::ConsentExpired;
                }
            }
            ConsentState::Granted => return Ok(consent.id),
        }
    }
    Err(reason)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::{
        consent::{ConsentAct, ConsentTerms, Language},
        ids::{CallerId, PlatformId, RecordId, SubjectId},
    };

    const NOW: Timestamp = Timestamp::from_micros(1_800_000_000_000_000);
    const SUBJECT: SubjectId = SubjectId::from_bytes([2; 16]);

    fn policy() -> Policy {
        Policy::parse(include_str!("../../policies/lerna.toml")).unwrap()
    }

    fn caller(name: &str, roles: &[Role]) -> Caller {
        Caller {
            id: CallerId::from_bytes([1; 16]),
            platform: PlatformId::new(1),
            name: name.parse().unwrap(),
            spiffe_id: format!("spiffe://lerna.kz/{name}").parse().unwrap(),
            roles: roles.to_vec(),
            pins: Vec::new(),
            person: None,
            state: CallerState::Enabled,
        }
    }

    fn address(field: &str) -> RecordAddress {
        RecordAddress {
            platform: PlatformId::new(1),
            subject: SUBJECT,
            record: RecordId::from_bytes([3; 16]),
            field: field.parse().unwrap(),
            version: 1,
        }
    }

    fn consent(purpose: &str, fields: &[&str]) -> Consent {
        Consent {
            id: ConsentId::from_bytes([4; 16]),
            subject: SUBJECT,
            terms: ConsentTerms {
                purpose: purpose.parse().unwrap(),
                fields: fields.iter().map(|f| f.parse().unwrap()).collect(),
                act: ConsentAct::Tick,
                given_at: NOW.plus_micros(-10),
                expires_at: None,
                third_party_transfer: true,
                cross_border_transfer: false,
                publication: false,
                policy_version: 1,
                language: Language::Ru,
                text_sha256: [5; 32],
                site: "skillbox.kz".parse().unwrap(),
            },
            state: ConsentState::Granted,
            recorded_at: NOW.plus_micros(-5),
            withdrawn_at: None,
        }
    }

    struct Case {
        caller: Caller,
        purpose: &'static str,
        view: View,
        field: &'static str,
        known: bool,
        token: TokenState,
        subject: SubjectState,
        consents: Vec<Consent>,
    }

    impl Case {
        fn good() -> Self {
            Self {
                caller: caller("payments", &[Role::Service]),
                purpose: "payments",
                view: View::Full,
                field: "iin",
                known: true,
                token: TokenState::Active,
                subject: SubjectState::Active,
                consents: vec![consent("payments", &["iin", "surname"])],
            }
        }

        fn decide(&self) -> Result<Permit, Denial> {
            let (purpose, address) = (self.purpose.parse().unwrap(), address(self.field));
            let ask = Ask { caller: &self.caller, purpose: &purpose, view: self.view };
            let facts = Facts {
                token: self.token,
                subject: self.subject,
                address: &address,
                consents: &self.consents,
            };
            decide(&policy(), ask, self.known.then_some(facts), NOW)
        }
    }

    type Change = fn(&mut Case);

    /// One change of a permitted case at a time, each with its reason.
    #[test]
    fn the_decision_as_a_table() {
        assert_eq!(Case::good().decide().unwrap().consent(), ConsentId::from_bytes([4; 16]));
        let table: Vec<(Denial, Change)> = vec![
            (Denial::CallerDisabled, |c| c.caller.state = CallerState::Disabled),
            (Denial::CallerNotAllowed, |c| c.caller.roles = vec![Role::Auditor]),
            (Denial::CallerNotAllowed, |c| c.caller = caller("support", &[Role::Service])),
            (Denial::PurposeNotDeclared, |c| c.purpose = "resale"),
            (Denial::TokenNotFound, |c| c.known = false),
            (Denial::FieldNotAllowed, |c| c.field = "phone"),
            (Denial::TokenSpent, |c| c.token = TokenState::Spent),
            (Denial::TokenRevoked, |c| c.token = TokenState::Revoked),
            (Denial::SubjectRestricted, |c| c.subject = SubjectState::Restricted),
            (Denial::SubjectErased, |c| c.subject = SubjectState::Erased),
            (Denial::ConsentMissing, |c| c.consents.clear()),
            (Denial::ConsentMissing, |c| c.consents = vec![consent("request_comms", &["iin"])]),
            (Denial::ConsentMissing, |c| c.consents = vec![consent("payments", &["surname"])]),
            (Denial::ConsentMissing, |c| c.consents[0].terms.given_at = NOW.plus_micros(1)),
            (Denial::ConsentMissing, |c| c.consents[0].subject = SubjectId::from_bytes([9; 16])),
            (Denial::ConsentWithdrawn, |c| c.consents[0].state = ConsentState::Withdrawn),
            (Denial::ConsentExpired, |c| c.consents[0].terms.expires_at = Some(NOW)),
        ];
        for (i, (denial, change)) in table.into_iter().enumerate() {
            let mut case = Case::good();
            change(&mut case);
            assert_eq!(case.decide().err(), Some(denial), "row {i}");
        }
    }

    #[test]
    fn a_fresh_consent_outlives_a_withdrawn_one_and_a_twin_does_not() {
        let mut case = Case::good();
        let withdrawn_at = Some(NOW.plus_micros(-6));
        let withdrawn =
            Consent { state: ConsentState::Withdrawn, withdrawn_at, ..consent("payments", &["iin"]) };
        case.consents.insert(0, withdrawn);
        assert_eq!(case.decide().err(), Some(Denial::ConsentWithdrawn), "given before, recorded after");
        case.consents[1].terms.given_at = NOW.plus_micros(-5);
        assert!(case.decide().is_ok());
        case.consents[1].recorded_at = NOW.plus_micros(-6);
        assert_eq!(case.decide().err(), Some(Denial::ConsentWithdrawn), "recorded before the withdrawal");
        case.consents[0].terms.fields = vec!["surname".parse().unwrap()];
        assert!(case.decide().is_ok(), "the withdrawal of another field");
        case.consents[1].terms.expires_at = Some(NOW.plus_micros(1));
        assert!(case.decide().is_ok(), "a term ends at its instant, not before");
    }

    #[test]
    fn a_caller_outside_the_field_learns_nothing() {
        let (policy, support) = (policy(), caller("support", &[Role::Service]));
        for denial in [Denial::FieldNotAllowed, Denial::ConsentWithdrawn, Denial::SubjectErased] {
            assert_eq!(disclosed(denial, &policy, &support, Some(&address("iin"))), Denial::TokenNotFound);
            assert_eq!(disclosed(denial, &policy, &support, Some(&address("phone"))), denial);
        }
        assert_eq!(
            disclosed(Denial::PurposeNotDeclared, &policy, &support, None),
            Denial::PurposeNotDeclared
        );
    }
}
