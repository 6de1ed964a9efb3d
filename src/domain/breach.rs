//! Breaches of the security of personal data (Law 94-V, Article 25(2)(8); Rules 481/НҚ): what is known of one, whom it
//! reaches, by when the authority is told, and the steps from the finding to the end. Pure.
//!
//! Nothing here is free text: a description stays in the operator's own file, whose number the register holds.

mod notice;

use super::{
    code::coded,
    consent::Language,
    ids::{BreachId, CallerId},
    names::{FieldName, PurposeName, RecipientName},
    reference::Reference,
    rights::RightsChannel,
    time::Timestamp,
};
pub use notice::{BreachNotice, Written};

/// Callers that one breach names at most.
pub const MAX_CALLERS: usize = 16;

coded!(
    /// What happened to the data.
    BreachKind, "kind of breach" {
        /// Somebody saw what was not for them.
        Access = "access",
        /// It was passed on or made public.
        Disclosure = "disclosure",
        /// It is not there any more, or where it is nobody knows.
        Loss = "loss",
        /// It was changed.
        Alteration = "alteration",
        /// It was destroyed.
        Destruction = "destruction",
    }
);

impl BreachKind {
    /// Whether what was changed counts, besides what was read.
    #[must_use]
    pub const fn counts_changes(self) -> bool {
        matches!(self, Self::Loss | Self::Alteration | Self::Destruction)
    }
}

coded!(
    /// How sure it is.
    BreachCertainty, "certainty" {
        /// It is looked into.
        Suspected = "suspected",
        /// It is so.
        Confirmed = "confirmed",
    }
);

coded!(
    /// Why it could happen.
    BreachCause, "cause of a breach" {
        /// Not known yet.
        Unknown = "unknown",
        /// A certificate, key or password was stolen.
        StolenCredential = "stolen_credential",
        /// Somebody of the staff did it.
        Insider = "insider",
        /// Software did what it should not.
        SoftwareFault = "software_fault",
        /// Something was set up wrongly.
        Misconfiguration = "misconfiguration",
        /// Somebody made a mistake.
        HumanMistake = "human_mistake",
        /// A program of an attacker ran.
        Malware = "malware",
        /// A device or carrier is gone.
        LostCarrier = "lost_carrier",
        /// It happened at somebody who had the data rightly.
        Recipient = "recipient",
    }
);

coded!(
    /// What it may come to for the person.
    BreachConsequence, "consequence of a breach" {
        /// Somebody may act in the person's name.
        IdentityTheft = "identity_theft",
        /// Money may be lost.
        Fraud = "fraud",
        /// Calls and letters that nobody asked for.
        UnwantedContact = "unwanted_contact",
        /// Others know what was nobody's business.
        Exposure = "exposure",
        /// A decision may rest on wrong data.
        WrongDecision = "wrong_decision",
        /// What the person uses may not work.
        LossOfService = "loss_of_service",
    }
);

coded!(
    /// What was done about it.
    BreachMeasure, "measure" {
        /// The caller is refused.
        CallerDisabled = "caller_disabled",
        /// Keys are others now.
        KeysReplaced = "keys_replaced",
        /// Use of the data is blocked.
        DataBlocked = "data_blocked",
        /// What was at fault is mended.
        FaultMended = "fault_mended",
        /// Fewer may see the data.
        AccessNarrowed = "access_narrowed",
        /// What went out was asked back or taken down.
        CopiesRecalled = "copies_recalled",
        /// What was lost or changed is put back.
        DataRestored = "data_restored",
        /// It is watched more closely.
        WatchRaised = "watch_raised",
        /// The police know.
        PoliceTold = "police_told",
    }
);

coded!(
    /// Who is told.
    Addressee, "addressee" {
        /// The authorised body for the protection of personal data.
        Authority = "authority",
        /// The people whose data are affected.
        Subjects = "subjects",
    }
);

coded!(
    /// Where a breach stands. It follows from what was done, and is not stored.
    BreachState, "state of a breach" {
        /// Nobody was told yet.
        Open = "open",
        /// The authority was.
        AuthorityTold = "authority_told",
        /// The people were.
        SubjectsTold = "subjects_told",
        /// Both were.
        Told = "told",
        /// It has ended.
        Closed = "closed",
    }
);

coded!(
    /// How a breach ended.
    BreachOutcome, "outcome of a breach" {
        /// Everybody was told who is told, and it is mended.
        Settled = "settled",
        /// It was looked into, and there was none.
        NotConfirmed = "not_confirmed",
    }
);

/// People who are reached by what they are, not by what was read of them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Held {
    /// Those whose key was ever wrapped under this version of the platform's key.
    UnderKey(u32),
    /// Everybody of whom the platform held anything.
    Everyone,
}

/// Whom a breach reaches: the union of its ways in.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Reach {
    /// Those of whom these callers were told anything; sorted.
    pub callers: Vec<CallerId>,
    /// Those who are reached whatever was read.
    pub held: Option<Held>,
}

impl Reach {
    /// Whether no way in is known.
    #[must_use]
    pub const fn is_unknown(&self) -> bool {
        self.callers.is_empty() && self.held.is_none()
    }
}

/// What is known of a breach. It is replaced as more is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreachFacts {
    /// What happened.
    pub kind: BreachKind,
    /// How sure that is.
    pub certainty: BreachCertainty,
    /// Why.
    pub cause: BreachCause,
    /// Since when; none while it is not known.
    pub began_at: Option<Timestamp>,
    /// Until when; none while it goes on, or is not known.
    pub ended_at: Option<Timestamp>,
    /// Whom it reaches.
    pub reach: Reach,
    /// What it may come to.
    pub consequences: Vec<BreachConsequence>,
    /// What was done.
    pub measures: Vec<BreachMeasure>,
    /// The operator's own file on it.
    pub reference: Option<Reference>,
}

impl BreachFacts {
    /// Whether the times fit each other and the finding.
    ///
    /// # Errors
    /// The field at fault, and its rule.
    pub fn check(&self, found_at: Timestamp) -> Result<(), (&'static str, &'static str)> {
        if self.began_at.is_some_and(|began| began > found_at) {
            return Err(("begin_time", "lies after the time at which it was found out"));
        }
        if self.began_at.zip(self.ended_at).is_some_and(|(began, ended)| ended < began) {
            return Err(("end_time", "lies before the begin"));
        }
        Ok(())
    }

    /// Whether the log is looked through for the same people.
    fn reaches_as(&self, other: &Self) -> bool {
        (self.kind.counts_changes(), self.began_at, self.ended_at, &self.reach)
            == (other.kind.counts_changes(), other.began_at, other.ended_at, &other.reach)
    }
}

/// What the log tells of whom a breach reaches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreachScope {
    /// When it was looked through.
    pub at: Timestamp,
    /// Entries of the log by then.
    pub log_size: u64,
    /// Entries that count.
    pub entries: u64,
    /// People.
    pub subjects: u64,
    /// SHA-256 of their ids, 16 bytes each, in ascending order.
    pub subjects_sha256: [u8; 32],
    /// Which data, by name.
    pub fields: Vec<FieldName>,
    /// For which purposes, by name.
    pub purposes: Vec<PurposeName>,
    /// Recipients that values went to, by name.
    pub recipients: Vec<RecipientName>,
}

/// That somebody was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// When.
    pub at: Timestamp,
    /// How.
    pub channel: RightsChannel,
    /// Under which number: the authority's of its receipt, or the operator's of the mailing.
    pub reference: Option<Reference>,
    /// In which language.
    pub language: Language,
    /// SHA-256 of the notice.
    pub notice_sha256: [u8; 32],
    /// SHA-256 of what was sent with it, such as the list of people.
    pub enclosure_sha256: Option<[u8; 32]>,
}

/// How a breach ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreachEnd {
    /// When.
    pub at: Timestamp,
    /// How.
    pub outcome: BreachOutcome,
    /// The decision behind it.
    pub ground: Option<Reference>,
}

/// A breach.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// Id.
    pub id: BreachId,
    /// What is known.
    pub facts: BreachFacts,
    /// When it was found out. The authority's day counts from then, so it never changes.
    pub found_at: Timestamp,
    /// Working days in which the authority is told.
    pub working_days: u32,
    /// Where that stands.
    pub clause: String,
    /// SHA-256 of the calendar that they were counted by.
    pub calendar_sha256: [u8; 32],
    /// When that is overdue.
    pub due_at: Timestamp,
    /// Whom it reaches, by the log; none until it is looked through for what is known now.
    pub scope: Option<BreachScope>,
    /// That the authority was told.
    pub authority: Option<Told>,
    /// That the people were.
    pub subjects: Option<Told>,
    /// How it ended.
    pub end: Option<BreachEnd>,
    /// When it was registered.
    pub opened_at: Timestamp,
}

/// Working days in which the authority is told, and where that stands.
pub const NOTICE_WITHIN: (u32, &str) = (1, "94-V 25(2)(8); 481/НҚ");

/// A step that a breach does not take from where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BreachMisstep {
    /// It has ended.
    Closed,
    /// They were told before.
    ToldBefore,
    /// Nobody looked yet through the log for whom it reaches.
    NotAssessed,
    /// Somebody is to be told first.
    NotTold(Addressee),
    /// It stands on a decision, and none is named.
    GroundMissing,
    /// They were told before it was found out.
    ToldTooEarly,
}

impl Breach {
    /// Where it stands.
    #[must_use]
    pub const fn state(&self) -> BreachState {
        match (&self.end, &self.authority, &self.subjects) {
            (Some(_), _, _) => BreachState::Closed,
            (None, Some(_), Some(_)) => BreachState::Told,
            (None, Some(_), None) => BreachState::AuthorityTold,
            (None, None, Some(_)) => BreachState::SubjectsTold,
            (None, None, None) => BreachState::Open,
        }
    }

    /// Whether the authority's day is over and it was not told.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.end.is_none() && self.authority.is_none() && self.due_at <= now
    }

    /// Whether the authority was told after its day.
    #[must_use]
    pub fn was_late(&self) -> bool {
        self.authority.as_ref().is_some_and(|told| told.at >= self.due_at)
    }

    /// That somebody was told, where they were.
    #[must_use]
    pub const fn told(&self, whom: Addressee) -> Option<&Told> {
        match whom {
            Addressee::Authority => self.authority.as_ref(),
            Addressee::Subjects => self.subjects.as_ref(),
        }
    }

    /// The same with what is known now. What the log told stays only where it is asked for the same people.
    ///
    /// # Errors
    /// [`BreachMisstep`].
    pub fn amended(&self, facts: BreachFacts) -> Result<Self, BreachMisstep> {
        self.must_be_open()?;
        let scope = self.scope.clone().filter(|_| self.facts.reaches_as(&facts));
        Ok(Self { facts, scope, ..self.clone() })
    }

    /// The same with whom it reaches.
    ///
    /// # Errors
    /// [`BreachMisstep`].
    pub fn assessed(&self, scope: BreachScope) -> Result<Self, BreachMisstep> {
        self.must_be_open()?;
        Ok(Self { scope: Some(scope), ..self.clone() })
    }

    /// The same with somebody told. The authority is told what is known by its day; the people once it is known who they are.
    ///
    /// # Errors
    /// [`BreachMisstep`].
    pub fn reported(&self, whom: Addressee, told: Told) -> Result<Self, BreachMisstep> {
        self.must_be_open()?;
        if self.told(whom).is_some() {
            return Err(BreachMisstep::ToldBefore);
        }
        if told.at < self.found_at {
            return Err(BreachMisstep::ToldTooEarly);
        }
        match whom {
            Addressee::Authority => Ok(Self { authority: Some(told), ..self.clone() }),
            Addressee::Subjects if self.scope.is_none() => Err(BreachMisstep::NotAssessed),
            Addressee::Subjects => Ok(Self { subjects: Some(told), ..self.clone() }),
        }
    }

    /// The same with its end: everybody was told, or there was none after all.
    ///
    /// # Errors
    /// [`BreachMisstep`].
    pub fn closed(&self, end: BreachEnd) -> Result<Self, BreachMisstep> {
        self.must_be_open()?;
        match end.outcome {
            BreachOutcome::NotConfirmed if end.ground.is_none() => {
                return Err(BreachMisstep::GroundMissing);
            }
            BreachOutcome::NotConfirmed => {}
            BreachOutcome::Settled => {
                if self.authority.is_none() {
                    return Err(BreachMisstep::NotTold(Addressee::Authority));
                }
                let scope = self.scope.as_ref().ok_or(BreachMisstep::NotAssessed)?;
                if scope.subjects > 0 && self.subjects.is_none() {
                    return Err(BreachMisstep::NotTold(Addressee::Subjects));
                }
            }
        }
        Ok(Self { end: Some(end), ..self.clone() })
    }

    const fn must_be_open(&self) -> Result<(), BreachMisstep> {
        if self.end.is_some() { Err(BreachMisstep::Closed) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests;
