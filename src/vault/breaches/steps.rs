//! The steps of a breach: more is known, it is known whom it reaches, somebody was told, it has ended.

use super::{BreachView, about, believed, check, sealed, written};
use crate::{
    audit::entry::Entry,
    crypto::digest::sha256,
    domain::{
        breach::{
            Addressee, Breach, BreachEnd, BreachFacts, BreachMisstep, BreachOutcome, BreachScope, Told,
        },
        caller::Caller,
        consent::Language,
        ids::BreachId,
        platform::Platform,
        reference::Reference,
        rights::RightsChannel,
        time::Timestamp,
    },
    policy::decide::Denial,
    store::{Write, rows::breaches::BreachRow},
    vault::{
        Vault,
        access::Call,
        act::{Asker, Scene},
        deed::{Deed, Deeded, Hand},
        error::VaultError,
        replay::ItemOutcome,
    },
};

/// That somebody was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreachTold {
    /// Who.
    pub whom: Addressee,
    /// When.
    pub at: Timestamp,
    /// How.
    pub channel: RightsChannel,
    /// In which language.
    pub language: Language,
    /// The authority's number of its receipt, or the operator's of the mailing.
    pub reference: Option<Reference>,
    /// SHA-256 of what was sent with the notice.
    pub enclosure_sha256: Option<[u8; 32]>,
}

/// How a breach ends.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreachClosing {
    /// How.
    pub outcome: BreachOutcome,
    /// The decision behind it.
    pub ground: Option<Reference>,
}

impl Vault {
    /// Replaces what is known of a breach.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn amend_breach(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        id: BreachId,
        facts: BreachFacts,
    ) -> Result<BreachView, VaultError> {
        let step = Step::Amend(facts);
        self.step_of_breach(Call::AmendBreach, caller, asker, platform, id, step).await
    }

    /// Records that the authority or the people were told, with the notice as it stands now.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn report_breach(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        id: BreachId,
        told: BreachTold,
    ) -> Result<BreachView, VaultError> {
        let step = Step::Report(told);
        self.step_of_breach(Call::ReportBreach, caller, asker, platform, id, step).await
    }

    /// Ends a breach.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn close_breach(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        id: BreachId,
        closing: BreachClosing,
    ) -> Result<BreachView, VaultError> {
        let step = Step::Close(closing);
        self.step_of_breach(Call::CloseBreach, caller, asker, platform, id, step).await
    }

    async fn step_of_breach(
        &self,
        call: Call,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        id: BreachId,
        step: Step,
    ) -> Result<BreachView, VaultError> {
        let platform = self.target(caller, &asker, call, platform).await?;
        let found = self.find_breach(call, caller, platform, id).await?;
        let operator = self.operator_of(platform)?;
        self.run(platform, caller, asker, Advance { call, found, operator, step }).await?;
        self.breach_as_stored(platform, id).await
    }
}

/// A step.
pub(super) enum Step {
    Amend(BreachFacts),
    /// Whom it reaches; its time is that of the commit.
    Assess(BreachScope),
    Report(BreachTold),
    Close(BreachClosing),
}

/// A step on its way through the lane.
pub(super) struct Advance {
    pub(super) call: Call,
    /// As it was a moment ago.
    pub(super) found: Option<BreachRow>,
    pub(super) operator: Platform,
    pub(super) step: Step,
}

/// What an entry says beside the row: the hash of a notice, or of people's ids with their number.
#[derive(Default)]
struct Detail {
    sha256: Option<[u8; 32]>,
    count: Option<u64>,
}

fn refused(step: BreachMisstep) -> VaultError {
    match step {
        BreachMisstep::Closed => Denial::BreachClosed.into(),
        BreachMisstep::ToldBefore => Denial::BreachToldBefore.into(),
        BreachMisstep::NotAssessed => Denial::BreachNotAssessed.into(),
        BreachMisstep::NotTold(Addressee::Authority | Addressee::Subjects) => Denial::BreachNotTold.into(),
        BreachMisstep::GroundMissing => {
            VaultError::invalid("ground", "is required: that there was none stands on a decision")
        }
        BreachMisstep::ToldTooEarly => {
            VaultError::invalid("tell_time", "lies before the time at which it was found out")
        }
    }
}

impl Advance {
    /// The breach after the step, and what the entry says of it.
    fn next(&self, scene: &Scene<'_>, was: &Breach) -> Result<(Breach, Detail), VaultError> {
        let (next, detail) = match &self.step {
            Step::Amend(facts) => {
                check(scene, facts, was.found_at)?;
                (was.amended(facts.clone()), Detail::default())
            }
            Step::Assess(scope) => {
                let scope = BreachScope { at: scene.now, ..scope.clone() };
                let detail = Detail { sha256: Some(scope.subjects_sha256), count: Some(scope.subjects) };
                (was.assessed(scope), detail)
            }
            Step::Report(told) => {
                let to = (told.whom, told.language);
                let text = written(scene.context, &self.operator, was, to, told.at).text();
                let hash = sha256(text.as_bytes());
                let record = Told {
                    at: told.at,
                    channel: told.channel,
                    reference: told.reference.clone(),
                    language: told.language,
                    notice_sha256: hash,
                    enclosure_sha256: told.enclosure_sha256,
                };
                (was.reported(told.whom, record), Detail { sha256: Some(hash), count: None })
            }
            Step::Close(closing) => {
                let BreachClosing { outcome, ground } = closing.clone();
                (was.closed(BreachEnd { at: scene.now, outcome, ground }), Detail::default())
            }
        };
        Ok((next.map_err(refused)?, detail))
    }
}

impl Deed for Advance {
    type Answer = ();

    fn call(&self) -> Call {
        self.call
    }

    fn changes(&self) -> bool {
        true
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<()>, VaultError> {
        let was = believed(hand.scene, self.found.as_ref())?;
        let (next, detail) = self.next(hand.scene, &was.breach)?;
        let row = sealed(hand.scene, next);
        hand.log(|entry| Entry {
            row_mac: Some(row.mac.into()),
            detail_sha256: detail.sha256.map(Into::into),
            count: detail.count,
            ..about(&row.breach, entry)
        })?;
        hand.plan.writes.push(Write::UpdateBreach(row, was.mac));
        Ok(Deeded::changed((), ItemOutcome::default()))
    }

    fn again(&self, hand: &Hand<'_, '_>, _before: &ItemOutcome) -> Result<(), VaultError> {
        believed(hand.scene, self.found.as_ref())?;
        Ok(())
    }
}
