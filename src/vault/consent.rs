//! Consents: recorded acts with the contents of Law 94-V, Article 8(4); withdrawal; listing.

use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    Vault,
    act::{Act, Asker, Claim, Flow, Plan, Reply, Scene, reply},
    context::Context,
    error::{VaultError, Violation},
    tokenize::unavailable,
};
use crate::{
    audit::entry::{Entry, Verdict},
    crypto::envelope::{SubjectKey, SubjectPlace},
    domain::{
        caller::{Caller, Role},
        consent::{Consent, ConsentState, ConsentTerms, SubjectState},
        field::FieldType,
        ids::{ConsentId, SubjectId},
        secret::Plaintext,
    },
    policy::{
        decide::{Denial, require_role},
        model::Policy,
    },
    store::{
        ReadKeys, ReferenceKey, Write,
        rows::{ConsentRow, Mac, SubjectRow},
    },
};

/// Consents that one subject may have, of all states: each read of the subject's values looks at them.
pub const MAX_CONSENTS_OF_SUBJECT: usize = 500;
/// Consents on one page.
pub const MAX_PAGE: usize = 100;

const GRANT: &str = "ConsentService/GrantConsent";
const WITHDRAW: &str = "ConsentService/WithdrawConsent";
const LIST: &str = "ConsentService/ListConsents";

/// A consent as it was given.
pub struct NewConsent {
    /// To what, when, how and where.
    pub terms: ConsentTerms,
    /// The subject's name as it stands in the consent.
    pub subject_name: Plaintext,
}

/// What is sealed with a consent: the parts of Article 8(4) that name people.
#[derive(Serialize)]
struct Evidence<'a> {
    operator: &'a str,
    operator_bin: &'a str,
    subject_name: &'a str,
}

impl NewConsent {
    /// What the policy does not take; `prefix` is the path of the consent in the request.
    pub(super) fn violations(&self, policy: &Policy, prefix: &str) -> Vec<Violation> {
        let mut found = Vec::new();
        let mut refuse =
            |field: &str, rule: &str| found.push(Violation::new(format!("{prefix}{field}"), rule));
        match policy.purpose(&self.terms.purpose) {
            None => refuse("purpose", "the policy does not declare this purpose"),
            Some(purpose) if !self.terms.fields.iter().all(|field| purpose.covers(field)) => {
                refuse("fields", "the purpose does not cover each of these fields");
            }
            Some(_) => {}
        }
        if self.terms.fields.is_empty() {
            refuse("fields", "a consent lists its data (Article 8(4))");
        }
        if !policy.accepts_act(self.terms.act) {
            refuse("act", "the policy does not take this act for a consent");
        }
        if !policy.speaks(self.terms.language) {
            refuse("language", "the policy has no text in this language");
        }
        if !policy.governs(&self.terms.site) {
            refuse("site", "the policy does not govern this site");
        }
        if self.terms.policy_version == 0 || self.terms.policy_version > policy.version {
            refuse("policy_version", "the policy has no such version");
        }
        if self.terms.expires_at.is_some_and(|end| end <= self.terms.given_at) {
            refuse("expire_time", "a term ends after it begins");
        }
        if let Err(rule) = FieldType::PersonName.normalise(&self.subject_name) {
            refuse("subject_name", &rule.to_string());
        }
        found
    }

    /// The row of this consent for a subject, recorded now.
    pub(super) fn seal(
        &self,
        scene: &Scene<'_>,
        subject: SubjectId,
        key: &SubjectKey,
    ) -> Result<ConsentRow, VaultError> {
        let policy = scene.policy()?;
        let platform = scene.context.platform;
        let id = ConsentId::random(scene.rng()).map_err(unavailable)?;
        let evidence = Evidence {
            operator: &policy.operator.legal_name,
            operator_bin: &policy.operator.bin,
            subject_name: self.subject_name.expose().trim(),
        };
        let evidence = Zeroizing::new(serde_json::to_vec(&evidence).map_err(unavailable)?);
        let mut terms = self.terms.clone();
        terms.fields.sort();
        terms.fields.dedup();
        let consent = Consent {
            id,
            subject,
            terms,
            state: ConsentState::Granted,
            recorded_at: scene.now,
            withdrawn_at: None,
        };
        let place = SubjectPlace::consent(platform, subject, id);
        let sealed_evidence = key.seal_at(&place, &evidence, scene.rng()).map_err(unavailable)?;
        let mut row = ConsentRow { platform, consent, sealed_evidence, mac: [0; 32] };
        row.mac = scene.keys().row.mac(&row.image());
        Ok(row)
    }
}

/// What the log says of a consent.
pub(super) fn consent_entry(entry: Entry, row: &ConsentRow) -> Entry {
    Entry {
        purpose: Some(row.consent.terms.purpose.to_string()),
        subject: Some((*row.consent.subject.as_bytes()).into()),
        consent: Some((*row.consent.id.as_bytes()).into()),
        object_kind: Some("consent".to_owned()),
        row_mac: Some(row.mac.into()),
        detail_sha256: Some(row.consent.terms.text_sha256.into()),
        ..entry
    }
}

impl Vault {
    /// Records a consent of a subject that the platform has.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn grant_consent(
        &self,
        caller: &Caller,
        asker: Asker,
        subject_reference: String,
        consent: NewConsent,
    ) -> Result<Consent, VaultError> {
        let context = self.context(caller.platform)?;
        // Who may not record consents learns nothing of what the policy declares; the lane refuses it, and logs that.
        if let Some(policy) = context.policy().filter(|policy| policy.may_record_consents(caller)) {
            let violations = consent.violations(policy, "consent.");
            if !violations.is_empty() {
                return Err(VaultError::Invalid(violations));
            }
        }
        self.consent_act(caller, asker, Question::Grant { subject_reference, consent }).await
    }

    /// Withdraws a consent. One that is withdrawn already stays as it is.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn withdraw_consent(
        &self,
        caller: &Caller,
        asker: Asker,
        consent: ConsentId,
    ) -> Result<Consent, VaultError> {
        self.consent_act(caller, asker, Question::Withdraw(consent)).await
    }

    async fn consent_act(
        &self,
        caller: &Caller,
        asker: Asker,
        question: Question,
    ) -> Result<Consent, VaultError> {
        let (reply, waiting) = reply();
        let act = ConsentActOf { asker, question, answer: Err(VaultError::Unavailable), reply };
        self.submit(caller, act)?;
        waiting.answer().await
    }

    /// Lists a subject's consents, newest first, after the consent `after`; and whether there are more.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn list_consents(
        &self,
        caller: &Caller,
        asker: Asker,
        subject_reference: String,
        page_size: usize,
        after: Option<ConsentId>,
    ) -> Result<(Vec<Consent>, bool), VaultError> {
        let (reply, waiting) = reply();
        let act = ListAct {
            asker,
            subject_reference,
            page_size: page_size.min(MAX_PAGE),
            after,
            answer: Err(VaultError::Unavailable),
            reply,
        };
        self.submit(caller, act)?;
        waiting.answer().await
    }
}

enum Question {
    Grant { subject_reference: String, consent: NewConsent },
    Withdraw(ConsentId),
}

impl Question {
    const fn call(&self) -> &'static str {
        match self {
            Self::Grant { .. } => GRANT,
            Self::Withdraw(_) => WITHDRAW,
        }
    }
}

struct ConsentActOf {
    asker: Asker,
    question: Question,
    answer: Result<Consent, VaultError>,
    reply: Reply<Consent>,
}

/// What a grant or withdrawal comes to.
enum Change {
    Insert(ConsentRow),
    Withdraw(ConsentRow, Mac),
    /// Withdrawn already.
    Nothing(ConsentRow),
}

impl Act for ConsentActOf {
    fn writes(&self) -> bool {
        true
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_abandoned()
    }

    fn reads(&self, context: &Context, keys: &mut ReadKeys) {
        match &self.question {
            Question::Grant { subject_reference, .. } => {
                keys.references.insert(reference_key(context, subject_reference));
            }
            Question::Withdraw(id) => {
                keys.consents.insert(*id);
            }
        }
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        let caller = scene.caller(&self.asker)?;
        let claim = match &self.question {
            Question::Grant { subject_reference, .. } => {
                Claim::Subject(scene.keys().index.subject_reference(subject_reference))
            }
            Question::Withdraw(id) => Claim::Consent(*id),
        };
        if !plan.claim(claim) {
            return Ok(Flow::Later);
        }
        let call = self.question.call();
        let change =
            may_record(scene, &caller).map_err(VaultError::from).and_then(|()| match &self.question {
                Question::Grant { subject_reference, consent } => grant(scene, subject_reference, consent),
                Question::Withdraw(id) => withdraw(scene, *id).map_err(VaultError::from),
            });
        let change = match change {
            Ok(change) => change,
            Err(VaultError::Denied(reason)) => {
                plan.entries.push(scene.denial(call, &self.asker, &caller, reason)?);
                self.answer = Err(reason.into());
                return Ok(Flow::Ready);
            }
            Err(other) => return Err(other),
        };
        let entry = scene.entry(call, &self.asker, &caller, Verdict::Done)?;
        let (row, write) = match change {
            Change::Insert(row) => (row.clone(), Some(Write::InsertConsent(row))),
            Change::Withdraw(row, was) => {
                plan.tightens = true;
                (row.clone(), Some(Write::UpdateConsent(row, was)))
            }
            Change::Nothing(row) => (row, None),
        };
        plan.entries.push(consent_entry(entry, &row));
        plan.writes.extend(write);
        self.answer = Ok(row.consent);
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        let Self { answer, reply, .. } = *self;
        reply.send(outcome.and(answer));
    }
}

fn may_record(scene: &Scene<'_>, caller: &Caller) -> Result<(), Denial> {
    require_role(caller, Role::Service)?;
    if scene.policy()?.may_record_consents(caller) { Ok(()) } else { Err(Denial::CallerNotAllowed) }
}

fn grant(scene: &Scene<'_>, subject_reference: &str, consent: &NewConsent) -> Result<Change, VaultError> {
    let subject = find_subject(scene, subject_reference)?;
    match subject.state {
        SubjectState::Active => {}
        SubjectState::Restricted => return Err(Denial::SubjectRestricted.into()),
        SubjectState::Erased => return Err(Denial::SubjectErased.into()),
    }
    if scene.consents_of(subject.id)?.len() >= MAX_CONSENTS_OF_SUBJECT {
        return Err(Denial::TooManyConsents.into());
    }
    let key = scene.subject_key(subject)?;
    Ok(Change::Insert(consent.seal(scene, subject.id, &key)?))
}

fn withdraw(scene: &Scene<'_>, id: ConsentId) -> Result<Change, Denial> {
    let row = scene.found(scene.snapshot.consents.get(&id))?.ok_or(Denial::ConsentNotFound)?;
    scene.trust_consent(row)?;
    let mut row = row.clone();
    match row.consent.state {
        ConsentState::Withdrawn => Ok(Change::Nothing(row)),
        ConsentState::Granted => {
            row.consent.state = ConsentState::Withdrawn;
            row.consent.withdrawn_at = Some(scene.now);
            let was = row.mac;
            row.mac = scene.keys().row.mac(&row.image());
            Ok(Change::Withdraw(row, was))
        }
    }
}

pub(super) fn reference_key(context: &Context, reference: &str) -> ReferenceKey {
    let index = &context.keys.index;
    (index.version, index.subject_reference(reference))
}

fn find_subject<'a>(scene: &'a Scene<'_>, reference: &str) -> Result<&'a SubjectRow, Denial> {
    let key = reference_key(scene.context, reference);
    scene.subject_by_reference(&key)?.ok_or(Denial::SubjectNotFound)
}

struct ListAct {
    asker: Asker,
    subject_reference: String,
    page_size: usize,
    after: Option<ConsentId>,
    answer: Result<(Vec<Consent>, bool), VaultError>,
    reply: Reply<(Vec<Consent>, bool)>,
}

impl Act for ListAct {
    fn writes(&self) -> bool {
        false
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_abandoned()
    }

    fn reads(&self, context: &Context, keys: &mut ReadKeys) {
        keys.references.insert(reference_key(context, &self.subject_reference));
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        let caller = scene.caller(&self.asker)?;
        let listed = may_record(scene, &caller).and_then(|()| {
            let subject = find_subject(scene, &self.subject_reference)?.id;
            Ok((subject, scene.consents_of(subject)?))
        });
        match listed {
            Ok((subject, consents)) => {
                plan.entries.push(Entry {
                    subject: Some((*subject.as_bytes()).into()),
                    ..scene.entry(LIST, &self.asker, &caller, Verdict::Done)?
                });
                let start = match self.after {
                    None => Some(0),
                    Some(after) => consents.iter().position(|c| c.id == after).map(|at| at + 1),
                };
                self.answer = match start {
                    Some(start) => {
                        let more = consents.len() > start + self.page_size;
                        Ok((consents.into_iter().skip(start).take(self.page_size).collect(), more))
                    }
                    None => Err(VaultError::invalid("page_token", "not a page of this list")),
                };
            }
            Err(reason) => {
                plan.entries.push(scene.denial(LIST, &self.asker, &caller, reason)?);
                self.answer = Err(reason.into());
            }
        }
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        let Self { answer, reply, .. } = *self;
        reply.send(outcome.and(answer));
    }
}
