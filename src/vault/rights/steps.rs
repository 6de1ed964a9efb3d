//! The steps of a case: who asks was found out, the work begins, the person is told.

use std::sync::Arc;

use super::{about, believed, notice, sealed};
use crate::{
    audit::entry::Entry,
    crypto::digest::sha256,
    domain::{
        calendar::WorkingCalendar,
        caller::Caller,
        consent::Language,
        ids::CaseId,
        reference::Reference,
        rights::{Case, Ending, Identity, IdentityMethod, Misstep, RefusalReason, RightsChannel},
        time::Timestamp,
    },
    policy::decide::Denial,
    store::{Write, rows::rights::CaseRow},
    vault::{
        Vault,
        access::Call,
        act::{Asker, Scene},
        deed::{Deed, Deeded, Hand},
        error::VaultError,
        replay::ItemOutcome,
        rights::CaseView,
    },
};

/// A step of a case before its end.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CaseStep {
    /// It was found out who asks.
    Identity {
        /// How.
        method: IdentityMethod,
        /// Where the evidence lies.
        evidence: Reference,
        /// When proof of what is asked came.
        proof_at: Option<Timestamp>,
    },
    /// The work begins.
    Work,
}

/// The end of a case.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseEnd {
    /// Why it is refused; none of an answer.
    pub reasons: Vec<RefusalReason>,
    /// The law, contract or decision behind it.
    pub ground: Option<Reference>,
    /// How the person is told.
    pub channel: RightsChannel,
    /// In which language.
    pub language: Language,
    /// SHA-256 of what goes with the notice.
    pub enclosure_sha256: Option<[u8; 32]>,
}

impl Vault {
    /// Takes a case a step ahead.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn advance_case(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        id: CaseId,
        step: CaseStep,
    ) -> Result<CaseView, VaultError> {
        let platform = self.target(caller, &asker, Call::AdvanceCase, platform).await?;
        let found = self.find_case(Call::AdvanceCase, caller, platform, id).await?;
        let calendar = Arc::clone(&self.settings.calendar);
        self.run(platform, caller, asker, Advance { found, step, calendar }).await?;
        self.case_as_stored(platform, id).await
    }

    /// Ends a case: with an answer, or with a refusal and its reasons.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn end_case(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        id: CaseId,
        end: CaseEnd,
    ) -> Result<CaseView, VaultError> {
        let call = if end.reasons.is_empty() { Call::AnswerCase } else { Call::RefuseCase };
        let platform = self.target(caller, &asker, call, platform).await?;
        let found = self.find_case(call, caller, platform, id).await?;
        self.run(platform, caller, asker, End { call, found, asked: end }).await?;
        self.case_as_stored(platform, id).await
    }
}

/// Writes a case after a step over itself as it was.
pub(super) fn step(
    hand: &mut Hand<'_, '_>,
    was: &CaseRow,
    next: Case,
    detail: Option<[u8; 32]>,
) -> Result<Deeded<()>, VaultError> {
    let row = sealed(hand.scene, next);
    hand.log(|entry| Entry {
        row_mac: Some(row.mac.into()),
        detail_sha256: detail.map(Into::into),
        ..about(&row.case, entry)
    })?;
    hand.plan.writes.push(Write::UpdateCase(row, was.mac));
    Ok(Deeded::changed((), ItemOutcome::default()))
}

pub(super) fn refused(step: Misstep) -> VaultError {
    match step {
        Misstep::Ended => Denial::CaseEnded.into(),
        Misstep::NotDone => Denial::CaseNotDone.into(),
        Misstep::OutOfOrder => Denial::CaseStateUnsuitable.into(),
        Misstep::Reason(reason) => {
            let rule = format!("{} refuses no request of this kind where it stands", reason.as_str());
            VaultError::invalid("reasons", rule)
        }
        Misstep::ReferenceMissing => {
            VaultError::invalid("ground", "is required: a reason stands on a law or a contract")
        }
    }
}

struct Advance {
    /// As it was a moment ago.
    found: Option<CaseRow>,
    step: CaseStep,
    calendar: Arc<WorkingCalendar>,
}

impl Advance {
    fn next(&self, case: &Case, scene: &Scene<'_>) -> Result<Case, VaultError> {
        let next = match &self.step {
            CaseStep::Work => case.begun(scene.now),
            CaseStep::Identity { method, evidence, proof_at } => {
                if proof_at.is_some() && !case.kind.deadline().from_proof {
                    let rule = "days of a request of this kind count from its receipt";
                    return Err(VaultError::invalid("identity.proof_time", rule));
                }
                let identity = Identity { method: *method, evidence: evidence.clone(), at: scene.now };
                let proof = proof_at.map(|came| (came, self.calendar.end_of(came, case.working_days)));
                case.identified(identity, proof)
            }
        };
        next.map_err(refused)
    }
}

impl Deed for Advance {
    type Answer = ();

    fn call(&self) -> Call {
        Call::AdvanceCase
    }

    fn changes(&self) -> bool {
        true
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<()>, VaultError> {
        let was = believed(hand.scene, self.found.as_ref())?;
        let mut next = self.next(&was.case, hand.scene)?;
        if next.due_at != was.case.due_at {
            next.calendar_sha256 = sha256(self.calendar.text().as_bytes());
        }
        step(hand, was, next, None)
    }

    fn again(&self, hand: &Hand<'_, '_>, _before: &ItemOutcome) -> Result<(), VaultError> {
        believed(hand.scene, self.found.as_ref())?;
        Ok(())
    }
}

struct End {
    call: Call,
    /// As it was a moment ago.
    found: Option<CaseRow>,
    asked: CaseEnd,
}

impl Deed for End {
    type Answer = ();

    fn call(&self) -> Call {
        self.call
    }

    fn changes(&self) -> bool {
        true
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<()>, VaultError> {
        let scene = hand.scene;
        let was = believed(scene, self.found.as_ref())?;
        let end = self.asked.clone();
        let ending = Ending {
            at: scene.now,
            reasons: end.reasons,
            reference: end.ground,
            channel: end.channel,
            language: end.language,
            notice_sha256: [0; 32],
            enclosure_sha256: end.enclosure_sha256,
        };
        let mut next = was.case.ended(ending).map_err(refused)?;
        let text = notice(&scene.policy()?.operator.legal_name, &next, scene.now).text(end.language);
        let hash = sha256(text.as_bytes());
        if let Some(ending) = &mut next.ending {
            ending.notice_sha256 = hash;
        }
        step(hand, was, next, Some(hash))
    }

    fn again(&self, hand: &Hand<'_, '_>, _before: &ItemOutcome) -> Result<(), VaultError> {
        believed(hand.scene, self.found.as_ref())?;
        Ok(())
    }
}
