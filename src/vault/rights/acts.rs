//! What a request does: the act that the law knows for its kind, in the commit that says so in the register.
//!
//! Each act leaves the entries that it leaves by itself, under its own call, and the case's entry comes last: a restore and the
//! reconciliation read the log as if somebody had erased, blocked or withdrawn by hand.

use std::time::Duration;

use super::{
    believed,
    corrections::{Corrected, Fulfilled, corrected_since},
    steps::refused,
};
use crate::{
    audit::entry::{Entry, Verdict},
    domain::{
        caller::Caller,
        consent::{ConsentState, SubjectState},
        event::SubjectEvent,
        ids::{CallerId, CaseId, ConsentId, EventId, SubjectId},
        operation::BudgetKind,
        rights::{CaseRequester, RightKind},
        subject::{RestrictionRequester, RestrictionTrigger},
        time::Timestamp,
    },
    policy::{decide::Denial, model::ExpiryKind},
    store::{
        ReadKeys, Write,
        rows::{EventRow, rights::CaseRow},
    },
    vault::{
        Vault,
        access::Call,
        act::{Asker, Claim, Scene},
        consent::consent_entry,
        context::Context,
        deed::{Deed, Deeded, Hand},
        erasure::Erase,
        error::VaultError,
        replay::ItemOutcome,
        retention::{DESTROYED_RECORD, end_record, end_subject},
        spending,
        subjects::{Block, SubjectName},
        tokenize::unavailable,
    },
};

/// What the act needs to know besides the case.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CaseAct {
    /// When the block is looked at again; of a restriction.
    pub review_at: Option<Timestamp>,
    /// Which consents end; of a withdrawal. None of them means every one that is in force.
    pub consents: Vec<ConsentId>,
}

impl Vault {
    /// Does what a request asks, and records that in the register. A correction is made by the platform's service
    /// ([`Vault::update_record`]); here it is found made since the request came.
    ///
    /// # Errors
    /// [`VaultError`]; [`Denial::CaseNotDone`] where nothing was corrected.
    pub async fn fulfil_case(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        id: CaseId,
        act: CaseAct,
    ) -> Result<Fulfilled, VaultError> {
        let platform = self.target(caller, &asker, Call::FulfilCase, platform).await?;
        let found = self.find_case(Call::FulfilCase, caller, platform, id).await?;
        let subject = found.as_ref().and_then(|row| row.case.subject);
        let deed = Fulfil {
            found,
            act,
            caller: caller.id,
            asked_at: self.shared.clock.now(),
            cooling: self.shared.options.erasure_cooling,
        };
        let corrected = self.run(platform, caller, asker, deed).await?;
        let former = match subject {
            Some(subject) => self.releases_before(platform, subject, &corrected).await?,
            None => Vec::new(),
        };
        Ok(Fulfilled { view: self.case_as_stored(platform, id).await?, former })
    }
}

struct Fulfil {
    /// As it was a moment ago.
    found: Option<CaseRow>,
    act: CaseAct,
    caller: CallerId,
    asked_at: Timestamp,
    cooling: Duration,
}

impl Deed for Fulfil {
    /// What was corrected.
    type Answer = Corrected;

    fn call(&self) -> Call {
        Call::FulfilCase
    }

    fn changes(&self) -> bool {
        true
    }

    fn tightens(&self) -> bool {
        true
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        keys.subjects.extend(self.found.as_ref().and_then(|row| row.case.subject));
        keys.documents_of_found = true;
        spending::reads(context, self.caller, BudgetKind::Erasure, self.asked_at, keys);
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Corrected>, VaultError> {
        let was = believed(hand.scene, self.found.as_ref())?;
        let next = was.case.done(hand.scene.now).map_err(refused)?;
        let subject = was.case.subject.ok_or(Denial::SubjectNotFound)?;
        let corrected = corrections(hand.scene, was)?;
        let done = match was.case.kind {
            RightKind::Erasure => self.erase(hand, was, subject)?,
            RightKind::Restriction => self.restrict(hand, was, subject)?,
            RightKind::Anonymisation => anonymise(hand, subject)?,
            RightKind::Objection => object(hand, subject)?,
            RightKind::Withdrawal => self.withdraw(hand, subject)?,
            RightKind::Correction if corrected.is_empty() => return Err(Denial::CaseNotDone.into()),
            RightKind::Correction => true,
            RightKind::Access | RightKind::Portability => {
                let rule = "a request of this kind is fulfilled by an answer";
                return Err(VaultError::invalid("case_id", rule));
            }
        };
        if !done {
            return Ok(Deeded::Later);
        }
        hand.plan.tightens = true;
        Ok(super::steps::step(hand, was, next, None)?.with(corrected))
    }

    fn again(&self, hand: &Hand<'_, '_>, _before: &ItemOutcome) -> Result<Corrected, VaultError> {
        Ok(corrections(hand.scene, believed(hand.scene, self.found.as_ref())?)?)
    }
}

/// What was corrected since a request for that came; of other requests nothing is looked at.
fn corrections(scene: &Scene<'_>, row: &CaseRow) -> Result<Corrected, Denial> {
    match row.case.subject {
        Some(subject) if row.case.kind == RightKind::Correction => {
            corrected_since(scene, subject, row.case.received_at)
        }
        Some(_) | None => Ok(Corrected::new()),
    }
}

/// The same act under its own call; false where it must wait for the next batch.
fn by_itself<D: Deed>(hand: &mut Hand<'_, '_>, mut deed: D) -> Result<bool, VaultError> {
    let mut own = Hand::new(hand.scene, hand.plan, hand.caller, hand.asker, deed.call());
    match deed.act(&mut own)? {
        Deeded::Done(_) => Ok(true),
        Deeded::Later => Ok(false),
        Deeded::Refused(denial) => Err(denial.into()),
    }
}

/// An entry under another call than the deed's.
fn log(hand: &mut Hand<'_, '_>, call: &str, fill: impl FnOnce(Entry) -> Entry) -> Result<(), VaultError> {
    let entry = fill(hand.scene.entry(call, hand.asker, hand.caller, Verdict::Done)?);
    hand.plan.entries.push(entry);
    Ok(())
}

impl Fulfil {
    fn erase(&self, hand: &mut Hand<'_, '_>, was: &CaseRow, subject: SubjectId) -> Result<bool, VaultError> {
        // Two people may have erased beyond the budget already: what is asked is done.
        if hand.scene.subject(subject)?.state == SubjectState::Erased {
            return Ok(true);
        }
        let name = SubjectName::Id(subject);
        let reference = was.case.reference.clone();
        by_itself(hand, Erase::new(name, reference, self.caller, self.asked_at, self.cooling))
    }

    fn restrict(
        &self,
        hand: &mut Hand<'_, '_>,
        was: &CaseRow,
        subject: SubjectId,
    ) -> Result<bool, VaultError> {
        let review_at = self.act.review_at;
        let review_at =
            review_at.ok_or(VaultError::invalid("review_time", "is required of a restriction"))?;
        let requester = match was.case.requester {
            CaseRequester::Subject => RestrictionRequester::Subject,
            CaseRequester::Representative => RestrictionRequester::Representative,
        };
        let block = Block {
            subject: SubjectName::Id(subject),
            trigger: RestrictionTrigger::SubjectRequest,
            requester,
            review_at,
            reference: was.case.reference.clone(),
        };
        by_itself(hand, block)
    }

    fn withdraw(&self, hand: &mut Hand<'_, '_>, subject: SubjectId) -> Result<bool, VaultError> {
        let scene = hand.scene;
        let rows =
            scene.found(scene.snapshot.consents_of.get(&subject))?.map_or(&[][..], |rows| rows.as_slice());
        if let Some(other) = self.act.consents.iter().find(|id| rows.iter().all(|row| row.consent.id != **id))
        {
            let rule = format!("{other} is no consent of this person");
            return Err(VaultError::invalid("consent_ids", rule));
        }
        let asked = |id| self.act.consents.is_empty() || self.act.consents.contains(&id);
        for row in rows.iter().filter(|row| asked(row.consent.id)) {
            scene.trust_consent(row)?;
            if row.consent.state != ConsentState::Granted {
                continue;
            }
            if !hand.plan.claim(Claim::Consent(row.consent.id)) {
                return Ok(false);
            }
            let mut next = row.clone();
            (next.consent.state, next.consent.withdrawn_at) = (ConsentState::Withdrawn, Some(scene.now));
            next.mac = scene.keys().row.mac(&next.image());
            log(hand, Call::WithdrawConsent.as_str(), |entry| consent_entry(entry, &next))?;
            hand.plan.writes.push(Write::UpdateConsent(next, row.mac));
        }
        Ok(true)
    }
}

/// From now on no purpose that decides by machine reads the subject's values (Article 19-1), until the subject consents to
/// that purpose anew.
fn object(hand: &mut Hand<'_, '_>, subject: SubjectId) -> Result<bool, VaultError> {
    let scene = hand.scene;
    if scene.subject(subject)?.state == SubjectState::Erased {
        return Err(Denial::SubjectErased.into());
    }
    let id = EventId::random(scene.rng()).map_err(unavailable)?;
    let event = SubjectEvent::objection(scene.now).ok_or(VaultError::Unavailable)?;
    let platform = scene.context.platform;
    let mut row = EventRow {
        platform,
        id,
        subject,
        event,
        refusal: None,
        mark: None,
        recorded_at: scene.now,
        mac: [0; 32],
    };
    row.mac = scene.keys().row.mac(&row.image());
    log(hand, Call::RecordEvent.as_str(), |entry| Entry {
        subject: Some((*subject.as_bytes()).into()),
        object_kind: Some("event".to_owned()),
        object: Some(id.as_bytes().to_vec()),
        row_mac: Some(row.mac.into()),
        ..entry
    })?;
    hand.plan.writes.push(Write::InsertEvent(row));
    Ok(true)
}

/// Everything that names the person goes at once, as a sweep of retention ends a subject: values, tokens, index, the key and
/// the platform's reference. Consents, events, requests and entries stay under the subject's id, which the look-up by reference leads to no
/// longer. It cannot be called off, so it is paid from the budget of erasures.
fn anonymise(hand: &mut Hand<'_, '_>, subject: SubjectId) -> Result<bool, VaultError> {
    let scene = hand.scene;
    let row = scene.subject(subject)?;
    match row.state {
        SubjectState::Active => {}
        SubjectState::Restricted => return Err(Denial::SubjectRestricted.into()),
        SubjectState::Erased => return Err(Denial::SubjectErased.into()),
    }
    let records = scene.records_of(subject)?;
    let own = [Claim::SubjectRow(subject), Claim::Subject(row.reference_hash)];
    let claims = own.into_iter().chain(records.iter().map(|record| Claim::Record(record.address.record)));
    for claim in claims {
        if !hand.plan.claim(claim) {
            return Ok(false);
        }
    }
    spending::spend(scene, hand.plan, hand.caller, BudgetKind::Erasure)?;
    let begin = |call: &str| scene.entry(call, hand.asker, hand.caller, Verdict::Done);
    for record in records {
        end_record(record, begin(DESTROYED_RECORD)?, hand.plan);
    }
    end_subject(row, ExpiryKind::Depersonalisation, scene, hand.plan, begin)?;
    Ok(true)
}
