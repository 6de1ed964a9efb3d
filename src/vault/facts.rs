//! What a decision rests on, gathered from rows that are believed.

use super::act::{Found, Scene};
use crate::{
    domain::{
        consent::{Consent, ConsentState, RecordAddress},
        event::SubjectEvent,
        ids::SubjectId,
        names::RecipientName,
        subject::ValueSource,
        time::Timestamp,
        token::TokenState,
    },
    policy::{
        decide::{Ask, Denial, Facts, Permit, RecipientAsk, decide},
        model::Policy,
    },
    store::rows::{EventRow, RecordRow, SubjectRow, config::RecipientRow},
};

/// What a decision knows of a token.
#[derive(Debug, Clone, Copy)]
pub(super) struct TokenFacts {
    pub(super) state: TokenState,
    pub(super) expires_at: Option<Timestamp>,
}

impl TokenFacts {
    /// Of a question that names no token.
    pub(super) const NONE: Self = Self { state: TokenState::Active, expires_at: None };

    pub(super) const fn of(found: &Found<'_>) -> Self {
        Self { state: found.token.state, expires_at: found.token.expires_at }
    }
}

/// What a decision is about: the place of the content, and where it came from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Held<'a> {
    pub(super) address: &'a RecordAddress,
    pub(super) source: ValueSource,
    pub(super) collected_at: Timestamp,
}

impl<'a> Held<'a> {
    pub(super) const fn value(record: &'a RecordRow) -> Self {
        Self { address: &record.address, source: record.source, collected_at: record.created_at }
    }
}

impl Scene<'_> {
    /// Every event of a subject, each believed.
    ///
    /// # Errors
    /// [`Denial::DataDamaged`] where one was changed behind the vault.
    pub(super) fn events_of(&self, subject: SubjectId) -> Result<Vec<SubjectEvent>, Denial> {
        Ok(self.recorded_events_of(subject)?.iter().map(|row| row.event.clone()).collect())
    }

    /// The same as they were recorded.
    ///
    /// # Errors
    /// As [`Self::events_of`].
    pub(super) fn recorded_events_of(&self, subject: SubjectId) -> Result<&[EventRow], Denial> {
        let rows = self.found(self.snapshot.events_of.get(&subject))?.map_or(&[][..], |rows| rows.as_slice());
        for row in rows {
            let verified = self.keys().row.verify(&row.image(), &row.mac);
            verified.map_err(|e| self.damaged("subject_events", &e))?;
        }
        Ok(rows)
    }

    /// A recipient as a decision sees it.
    pub(super) fn recipient_ask(&self, name: Option<&RecipientName>) -> Option<RecipientAsk<'_>> {
        name.map(|name| {
            let row = self.recipient(name);
            row.map_or(RecipientAsk::Unknown, |row| RecipientAsk::Known(&row.recipient))
        })
    }

    /// A registered recipient: the one in force where several had the name.
    pub(super) fn recipient(&self, name: &RecipientName) -> Option<&RecipientRow> {
        let named = || self.context.recipients().iter().filter(|row| row.recipient.name == *name);
        named().find(|row| row.recipient.state.as_str() == "active").or_else(|| named().next())
    }
}

/// Decides on a record and what the vault knows of its subject. `found` is `None` where there is no such record.
///
/// # Errors
/// The [`Denial`].
pub(super) fn decide_on(
    scene: &Scene<'_>,
    policy: &Policy,
    ask: Ask<'_>,
    found: Option<(Held<'_>, &SubjectRow, TokenFacts)>,
) -> Result<Permit, Denial> {
    let Some((held, subject, token)) = found else { return decide(policy, ask, None, scene.now) };
    let (consents, events) = (scene.consents_of(subject.id)?, scene.events_of(subject.id)?);
    let facts = Facts {
        token: token.state,
        token_expires_at: token.expires_at,
        subject: subject.state,
        quarantined: is_quarantined(held.source, &consents),
        address: held.address,
        collected_at: held.collected_at,
        consents: &consents,
        events: &events,
    };
    decide(policy, ask, Some(facts), scene.now)
}

/// A partner's data waits for the subject's own consent, whatever for (rule R38).
fn is_quarantined(source: ValueSource, consents: &[Consent]) -> bool {
    source == ValueSource::Partner && consents.iter().all(|c| c.state != ConsentState::Granted)
}
