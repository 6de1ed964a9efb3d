//! Consents: recorded acts with the contents of Law 94-V, Article 8(4); withdrawal; listing.

use serde::Serialize;
use zeroize::Zeroizing;

use super::{
    Vault,
    access::Call,
    act::{Asker, Claim, Scene},
    context::Context,
    deed::{Deed, Deeded, Hand},
    error::{VaultError, Violation},
    replay::ItemOutcome,
    tokenize::unavailable,
};
use crate::{
    audit::entry::Entry,
    crypto::envelope::{SubjectKey, SubjectPlace},
    domain::{
        caller::Caller,
        consent::{Consent, ConsentState, ConsentTerms, SubjectState},
        field::FieldType,
        ids::{ConsentId, SubjectId},
        secret::Plaintext,
    },
    policy::{
        decide::Denial,
        model::{NoOutreach, Policy},
    },
    store::{
        ReadKeys, ReferenceKey, Write,
        rows::{ConsentRow, SubjectRow},
    },
};

/// Consents that one subject may have, of all states: each read of the subject's values looks at them.
pub const MAX_CONSENTS_OF_SUBJECT: usize = 500;
/// Consents on one page.
pub const MAX_PAGE: usize = 100;

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
    pub(super) fn violations(&self, context: &Context, policy: &Policy, prefix: &str) -> Vec<Violation> {
        let mut found = Vec::new();
        let mut refuse =
            |field: &str, rule: &str| found.push(Violation::new(format!("{prefix}{field}"), rule));
        if policy.purpose(&self.terms.purpose).is_none() {
            refuse("purpose", "the policy does not declare this purpose");
        } else if !self.is_within(policy) {
            refuse("fields", "the purpose does not cover each of these fields");
        }
        self.outreach_violations(policy, &mut refuse);
        // Who was shown an older text consented to what that text named, however wide the one in force is (rule R30).
        let shown = Some(self.terms.policy_version).filter(|version| *version <= policy.version);
        match shown.and_then(|version| context.version(version)) {
            None => refuse("policy_version", "the policy has no such version"),
            Some(shown) if !self.is_within(shown) => {
                refuse("policy_version", "this version does not name each of the fields for the purpose");
            }
            Some(shown) if self.outreach_in(policy).is_ok() && self.outreach_in(shown).is_err() => {
                refuse(
                    "policy_version",
                    "this version does not name the channel and the sender for the purpose",
                );
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
        if self.terms.expires_at.is_some_and(|end| end <= self.terms.given_at) {
            refuse("expire_time", "a term ends after it begins");
        }
        if let Err(rule) = FieldType::PersonName.normalise(&self.subject_name) {
            refuse("subject_name", &rule.to_string());
        }
        found
    }

    /// What is not as the policy reaches people by the purpose: a consent is for one channel and one sender (rule R5), and its
    /// fields serve that channel.
    fn outreach_violations(&self, policy: &Policy, refuse: &mut impl FnMut(&str, &str)) {
        match self.outreach_in(policy) {
            Ok(()) => {}
            Err(NoOutreach::Unnamed) => {
                refuse("outreach", "is required: the policy reaches people by this purpose (rule R5)");
            }
            Err(NoOutreach::Channel) => {
                refuse("outreach.channel", "the policy names no such channel for this purpose");
            }
            Err(NoOutreach::Sender) => {
                refuse("outreach.sender", "the policy names no such sender for this purpose");
            }
        }
        let Some(outreach) = &self.terms.outreach else { return };
        let types =
            self.terms.fields.iter().filter_map(|name| policy.field(name)).map(|field| field.field_type);
        if types.into_iter().any(|field_type| !outreach.channel.takes(field_type)) {
            refuse("fields", "one of these fields does not serve the channel");
        }
    }

    /// Whether a version reaches people so by the purpose; one that does not declare it says nothing of that.
    fn outreach_in(&self, policy: &Policy) -> Result<(), NoOutreach> {
        let purpose = policy.purpose(&self.terms.purpose);
        purpose.map_or(Ok(()), |purpose| purpose.allows_outreach(self.terms.outreach.as_ref()))
    }

    /// Whether a version declares the purpose, and each of the fields for it.
    fn is_within(&self, policy: &Policy) -> bool {
        let purpose = policy.purpose(&self.terms.purpose);
        purpose.is_some_and(|purpose| self.terms.fields.iter().all(|field| purpose.covers(field)))
    }

    /// The terms as they are recorded.
    pub(super) fn recorded_terms(&self) -> ConsentTerms {
        let mut terms = self.terms.clone();
        terms.fields.sort();
        terms.fields.dedup();
        terms
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
        let consent = Consent {
            id,
            subject,
            terms: self.recorded_terms(),
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
        if let Some(policy) =
            context.policy(self.shared.clock.now()).filter(|policy| policy.may_record_consents(caller))
        {
            let violations = consent.violations(&context, policy, "consent.");
            if !violations.is_empty() {
                return Err(VaultError::Invalid(violations));
            }
        }
        self.run(caller.platform, caller, asker, Grant { subject_reference, consent }).await
    }

    /// Withdraws a consent. One that is withdrawn already stays as it is.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn withdraw_consent(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        consent: ConsentId,
    ) -> Result<Consent, VaultError> {
        let platform = self.target(caller, &asker, Call::WithdrawConsent, platform).await?;
        self.run(platform, caller, asker, Withdraw(consent)).await
    }

    /// Lists a subject's consents, newest first, after the consent `after`; and whether there are more.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn list_consents(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        subject_reference: String,
        page_size: usize,
        after: Option<ConsentId>,
    ) -> Result<(Vec<Consent>, bool), VaultError> {
        let platform = self.target(caller, &asker, Call::ListConsents, platform).await?;
        let page_size = page_size.min(MAX_PAGE);
        self.run(platform, caller, asker, List { subject_reference, page_size, after }).await
    }
}

/// Whether the caller may record and end consents: a service that the policy names for it. Staff may by its role.
fn may_record(scene: &Scene<'_>, caller: &Caller) -> Result<(), Denial> {
    if caller.person.is_some() || scene.policy()?.may_record_consents(caller) {
        return Ok(());
    }
    Err(Denial::CallerNotAllowed)
}

struct Grant {
    subject_reference: String,
    consent: NewConsent,
}

impl Deed for Grant {
    type Answer = Consent;

    fn call(&self) -> Call {
        Call::GrantConsent
    }

    fn changes(&self) -> bool {
        true
    }

    fn reads(&self, context: &Context, before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        keys.references.extend(reference_keys(context, &self.subject_reference));
        keys.consents.extend(before.and_then(|b| b.id(0).ok()).map(ConsentId::from_bytes));
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Consent>, VaultError> {
        let scene = hand.scene;
        may_record(scene, hand.caller)?;
        let own = scene.keys().index.current().subject_reference(&self.subject_reference);
        if !hand.plan.claim(Claim::Subject(own)) {
            return Ok(Deeded::Later);
        }
        let subject = find_subject(scene, &self.subject_reference)?;
        match subject.state {
            SubjectState::Active => {}
            SubjectState::Restricted => return Err(Denial::SubjectRestricted.into()),
            SubjectState::Erased => return Err(Denial::SubjectErased.into()),
        }
        if scene.consents_of(subject.id)?.len() >= MAX_CONSENTS_OF_SUBJECT {
            return Err(Denial::TooManyConsents.into());
        }
        let row = self.consent.seal(scene, subject.id, &scene.subject_key(subject)?)?;
        hand.log(|entry| consent_entry(entry, &row))?;
        let answer = row.consent.clone();
        hand.plan.writes.push(Write::InsertConsent(row));
        let ids = vec![(*answer.id.as_bytes()).into()];
        Ok(Deeded::changed(answer, ItemOutcome { ids, ..ItemOutcome::default() }))
    }

    fn again(&self, hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<Consent, VaultError> {
        may_record(hand.scene, hand.caller)?;
        Ok(recorded(hand.scene, ConsentId::from_bytes(before.id(0)?))?.consent.clone())
    }
}

struct Withdraw(ConsentId);

impl Deed for Withdraw {
    type Answer = Consent;

    fn call(&self) -> Call {
        Call::WithdrawConsent
    }

    fn changes(&self) -> bool {
        true
    }

    fn tightens(&self) -> bool {
        true
    }

    fn reads(&self, _context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        keys.consents.insert(self.0);
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Consent>, VaultError> {
        let scene = hand.scene;
        may_record(scene, hand.caller)?;
        if !hand.plan.claim(Claim::Consent(self.0)) {
            return Ok(Deeded::Later);
        }
        let mut row = recorded(scene, self.0)?.clone();
        if row.consent.state == ConsentState::Granted {
            let was = row.mac;
            row.consent.state = ConsentState::Withdrawn;
            row.consent.withdrawn_at = Some(scene.now);
            row.mac = scene.keys().row.mac(&row.image());
            hand.plan.tightens = true;
            hand.plan.writes.push(Write::UpdateConsent(row.clone(), was));
        }
        hand.log(|entry| consent_entry(entry, &row))?;
        Ok(Deeded::changed(row.consent, ItemOutcome::default()))
    }

    fn again(&self, hand: &Hand<'_, '_>, _before: &ItemOutcome) -> Result<Consent, VaultError> {
        may_record(hand.scene, hand.caller)?;
        Ok(recorded(hand.scene, self.0)?.consent.clone())
    }
}

/// A consent on record, believed.
fn recorded<'a>(scene: &'a Scene<'_>, id: ConsentId) -> Result<&'a ConsentRow, Denial> {
    let row = scene.found(scene.snapshot.consents.get(&id))?.ok_or(Denial::ConsentNotFound)?;
    scene.trust_consent(row)?;
    Ok(row)
}

/// Where a subject with this reference may be found. It has one hash; which key version it is under, its row says.
pub(super) fn reference_keys(context: &Context, reference: &str) -> impl Iterator<Item = ReferenceKey> {
    context.keys.index.readable().map(move |index| (index.version, index.subject_reference(reference)))
}

fn find_subject<'a>(scene: &'a Scene<'_>, reference: &str) -> Result<&'a SubjectRow, Denial> {
    scene.subject_by_reference(reference)?.ok_or(Denial::SubjectNotFound)
}

struct List {
    subject_reference: String,
    page_size: usize,
    after: Option<ConsentId>,
}

impl Deed for List {
    type Answer = (Vec<Consent>, bool);

    fn call(&self) -> Call {
        Call::ListConsents
    }

    fn changes(&self) -> bool {
        false
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        keys.references.extend(reference_keys(context, &self.subject_reference));
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Self::Answer>, VaultError> {
        let scene = hand.scene;
        may_record(scene, hand.caller)?;
        let subject = find_subject(scene, &self.subject_reference)?.id;
        let consents = scene.consents_of(subject)?;
        let start = match self.after {
            None => Some(0),
            Some(after) => consents.iter().position(|c| c.id == after).map(|at| at + 1),
        };
        hand.log(|entry| Entry { subject: Some((*subject.as_bytes()).into()), ..entry })?;
        let start = start.ok_or_else(|| VaultError::invalid("page_token", "not a page of this list"))?;
        let more = consents.len() > start + self.page_size;
        Ok(Deeded::answer((consents.into_iter().skip(start).take(self.page_size).collect(), more)))
    }
}
