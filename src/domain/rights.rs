//! Requests of people about their data (Law 94-V, Article 24): what can be asked, by when the law wants an answer, and the
//! steps from the request to the answer. Pure.

mod notice;

use super::{
    code::coded,
    consent::Language,
    ids::{CaseId, SubjectId},
    names::SiteName,
    reference::Reference,
    time::Timestamp,
};
pub use notice::{Notice, clock, day};

coded!(
    /// What a person asks for.
    RightKind, "kind of request" {
        /// What is held, why, since when, who saw it, to whom it went.
        Access = "access",
        /// A wrong value made right.
        Correction = "correction",
        /// A block on the use of the data.
        Restriction = "restriction",
        /// The person's own data in a form that another can read.
        Portability = "portability",
        /// Destruction.
        Erasure = "erasure",
        /// The data made to say nothing of the person, for good.
        Anonymisation = "anonymisation",
        /// No decision by a machine alone.
        Objection = "objection",
        /// The end of a consent.
        Withdrawal = "withdrawal",
    }
);

/// By when a request is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Deadline {
    /// Working days.
    pub working_days: u32,
    /// Where that stands.
    pub clause: &'static str,
    /// Whether the days count from the receipt of proof, where that came later than the request (rule R12).
    pub from_proof: bool,
}

const fn within(working_days: u32, clause: &'static str, from_proof: bool) -> Deadline {
    Deadline { working_days, clause, from_proof }
}

impl RightKind {
    /// Whether it asks that the data go: then they are destroyed when they end, and never depersonalised instead (rule R8).
    #[must_use]
    pub const fn demands_destruction(self) -> bool {
        matches!(self, Self::Erasure | Self::Withdrawal)
    }

    /// The law's deadline. A policy may promise less time; it cannot take more.
    #[must_use]
    pub const fn deadline(self) -> Deadline {
        match self {
            Self::Access | Self::Portability => within(3, "94-V 24; 395/НҚ 16", false),
            Self::Correction | Self::Erasure | Self::Anonymisation => within(1, "94-V 25(2)(8)", true),
            Self::Restriction => within(1, "94-V 25(2)(8)", false),
            Self::Objection => within(3, "94-V 19-1", false),
            Self::Withdrawal => within(15, "94-V 8(7)", false),
        }
    }

    /// Whether the vault does what is asked, or finds it done, so that nobody is told that it is done before it is.
    #[must_use]
    pub const fn is_done_by_vault(self) -> bool {
        !matches!(self, Self::Access | Self::Portability)
    }

    /// Whether a request of this kind may be refused for this reason. What a person may always know, no obligation and no
    /// law of keeping withholds.
    #[must_use]
    pub const fn allows(self, reason: RefusalReason) -> bool {
        use RefusalReason::{
            IdentityNotProved, LawBars, NoAutomatedDecision, NoData, NotConfirmed, ObligationUnfulfilled,
        };
        match reason {
            IdentityNotProved => true,
            NoData => !matches!(self, Self::Objection),
            NotConfirmed => matches!(self, Self::Correction | Self::Restriction | Self::Erasure),
            LawBars => {
                matches!(self, Self::Erasure | Self::Anonymisation | Self::Withdrawal | Self::Objection)
            }
            ObligationUnfulfilled => {
                matches!(self, Self::Erasure | Self::Anonymisation | Self::Withdrawal)
            }
            NoAutomatedDecision => matches!(self, Self::Objection),
        }
    }
}

coded!(
    /// How a request came.
    RightsChannel, "channel" {
        /// A form of the site.
        Site = "site",
        /// A letter by email.
        Email = "email",
        /// A letter on paper.
        Post = "post",
        /// In person.
        Person = "person",
        /// By telephone.
        Telephone = "telephone",
        /// The state's service of control of access to personal data (Article 8-1).
        StateService = "state_service",
        /// Another service through which consents are given (Article 8-2).
        OtherService = "other_service",
    }
);

coded!(
    /// Who asks.
    CaseRequester, "requester" {
        /// The person.
        Subject = "subject",
        /// Somebody who acts for the person and shows it.
        Representative = "representative",
    }
);

coded!(
    /// How it was found out that it is the person who asks.
    IdentityMethod, "method of an identity check" {
        /// The person was signed in at the site.
        Login = "login",
        /// A code sent to a telephone or mailbox on record, and told back.
        OneTimeCode = "one_time_code",
        /// An electronic digital signature.
        ElectronicSignature = "electronic_signature",
        /// A document that somebody of the staff looked at. The vault keeps no copy here.
        DocumentSeen = "document_seen",
        /// The state's service vouches for the person.
        StateService = "state_service",
    }
);

coded!(
    /// Where a request stands. Whether it is overdue follows from the time, and is not stored.
    CaseState, "state of a request" {
        /// Registered.
        Received = "received",
        /// It is known who asks.
        IdentityChecked = "identity_checked",
        /// Somebody does what is asked.
        InWork = "in_work",
        /// Done, and the person was told.
        Answered = "answered",
        /// Refused with reasons, and the person was told.
        Refused = "refused",
    }
);

coded!(
    /// Why a request is refused.
    RefusalReason, "reason of a refusal" {
        /// It is not proved that the person asks, or that who asks may act for the person.
        IdentityNotProved = "identity_not_proved",
        /// The platform holds nothing of the person that the request is about.
        NoData = "no_data",
        /// What the request says was checked and is not so.
        NotConfirmed = "not_confirmed",
        /// A law forbids it (Article 8(2)).
        LawBars = "law_bars",
        /// An obligation of the person is not fulfilled (Article 8(2)).
        ObligationUnfulfilled = "obligation_unfulfilled",
        /// No decision about the person is made by a machine alone.
        NoAutomatedDecision = "no_automated_decision",
    }
);

impl RefusalReason {
    /// Whether it says nothing without the law or contract behind it.
    #[must_use]
    pub const fn needs_reference(self) -> bool {
        matches!(self, Self::LawBars | Self::ObligationUnfulfilled)
    }
}

/// How it was found out who asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// How.
    pub method: IdentityMethod,
    /// Where the evidence lies, in the platform's numbering; never a document itself.
    pub evidence: Reference,
    /// When.
    pub at: Timestamp,
}

/// How a request ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending {
    /// When.
    pub at: Timestamp,
    /// Why it was refused; none of an answer.
    pub reasons: Vec<RefusalReason>,
    /// The law, contract or decision behind it.
    pub reference: Option<Reference>,
    /// How the person was told.
    pub channel: RightsChannel,
    /// In which language.
    pub language: Language,
    /// SHA-256 of the notice.
    pub notice_sha256: [u8; 32],
    /// SHA-256 of what went with it, such as an export.
    pub enclosure_sha256: Option<[u8; 32]>,
}

/// A request of a person.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Case {
    /// Id.
    pub id: CaseId,
    /// Whose data; none where the platform knows nobody like that.
    pub subject: Option<SubjectId>,
    /// What is asked.
    pub kind: RightKind,
    /// How it came.
    pub channel: RightsChannel,
    /// Through which site, where it was one.
    pub site: Option<SiteName>,
    /// Who asks.
    pub requester: CaseRequester,
    /// The paper that lets a representative act (rule R29).
    pub representation: Option<Reference>,
    /// The platform's own number of it.
    pub reference: Option<Reference>,
    /// When it came.
    pub received_at: Timestamp,
    /// From when its days count: when it came, or when proof did.
    pub counts_from: Timestamp,
    /// Working days in which it is answered: the shorter of policy and law.
    pub working_days: u32,
    /// Where that stands.
    pub clause: String,
    /// SHA-256 of the calendar that they were counted by.
    pub calendar_sha256: [u8; 32],
    /// When it is overdue.
    pub due_at: Timestamp,
    /// State.
    pub state: CaseState,
    /// Who asks, as it was found out.
    pub identity: Option<Identity>,
    /// When the work on it began.
    pub begun_at: Option<Timestamp>,
    /// When what is asked was done, of a kind that the vault does itself.
    pub done_at: Option<Timestamp>,
    /// How it ended.
    pub ending: Option<Ending>,
    /// When it was registered.
    pub opened_at: Timestamp,
}

/// A step that a request does not take from where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Misstep {
    /// It was answered or refused before.
    Ended,
    /// Another step comes first, or was taken already.
    OutOfOrder,
    /// What it asks is not done yet.
    NotDone,
    /// This kind of request is not refused for that.
    Reason(RefusalReason),
    /// A reason stands on a law or contract, and none is named.
    ReferenceMissing,
}

impl Case {
    /// Whether it waits for an answer.
    #[must_use]
    pub const fn is_open(&self) -> bool {
        matches!(self.state, CaseState::Received | CaseState::IdentityChecked | CaseState::InWork)
    }

    /// Whether its time is over without an answer.
    #[must_use]
    pub fn is_overdue(&self, now: Timestamp) -> bool {
        self.is_open() && self.due_at <= now
    }

    /// The same after it is known who asks. Where the days count from proof and it came later than the request, `proof` is
    /// when it came and when the days are over since.
    ///
    /// # Errors
    /// [`Misstep`].
    pub fn identified(
        &self,
        identity: Identity,
        proof: Option<(Timestamp, Timestamp)>,
    ) -> Result<Self, Misstep> {
        self.stands(CaseState::Received)?;
        let proof = proof.filter(|(came, _)| self.kind.deadline().from_proof && *came > self.received_at);
        let (counts_from, due_at) = proof.unwrap_or((self.counts_from, self.due_at));
        let state = CaseState::IdentityChecked;
        Ok(Self { state, identity: Some(identity), counts_from, due_at, ..self.clone() })
    }

    /// The same with the work on it begun.
    ///
    /// # Errors
    /// [`Misstep`].
    pub fn begun(&self, at: Timestamp) -> Result<Self, Misstep> {
        self.stands(CaseState::IdentityChecked)?;
        Ok(Self { state: CaseState::InWork, begun_at: Some(at), ..self.clone() })
    }

    /// The same with what it asks done.
    ///
    /// # Errors
    /// [`Misstep`].
    pub fn done(&self, at: Timestamp) -> Result<Self, Misstep> {
        self.stands(CaseState::InWork)?;
        if self.done_at.is_some() {
            return Err(Misstep::OutOfOrder);
        }
        Ok(Self { done_at: Some(at), ..self.clone() })
    }

    /// The same with its end: an answer comes after the work, a refusal whenever its reasons are known.
    ///
    /// # Errors
    /// [`Misstep`].
    pub fn ended(&self, ending: Ending) -> Result<Self, Misstep> {
        let state = if ending.reasons.is_empty() {
            self.stands(CaseState::InWork)?;
            if self.kind.is_done_by_vault() && self.done_at.is_none() {
                return Err(Misstep::NotDone);
            }
            CaseState::Answered
        } else {
            if !self.is_open() {
                return Err(Misstep::Ended);
            }
            // What is done is not refused any more.
            if self.done_at.is_some() {
                return Err(Misstep::OutOfOrder);
            }
            for reason in &ending.reasons {
                if !self.kind.allows(*reason) {
                    return Err(Misstep::Reason(*reason));
                }
                // Who asks was found out: the reason is spent.
                if *reason == RefusalReason::IdentityNotProved && self.identity.is_some() {
                    return Err(Misstep::Reason(*reason));
                }
                if reason.needs_reference() && ending.reference.is_none() {
                    return Err(Misstep::ReferenceMissing);
                }
            }
            CaseState::Refused
        };
        Ok(Self { state, ending: Some(ending), ..self.clone() })
    }

    fn stands(&self, state: CaseState) -> Result<(), Misstep> {
        match self.state {
            here if here == state => Ok(()),
            CaseState::Answered | CaseState::Refused => Err(Misstep::Ended),
            CaseState::Received | CaseState::IdentityChecked | CaseState::InWork => Err(Misstep::OutOfOrder),
        }
    }
}

#[cfg(test)]
mod tests;
