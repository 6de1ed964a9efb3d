//! The policy file: one platform's privacy policy as data. Closed world: what it does not declare is refused.
//!
//! [`Policy::check`] reads a file in one pass and names every problem with its line: `table` reads keys, `load` turns
//! them into parts, `rules` holds what no single line can show. `docs/policies.md` is the format's reference.

mod cards;
mod diff;
mod load;
mod parts;
mod problem;
mod purpose;
mod rules;
mod settings;
mod show;
mod table;
mod terms;

use std::collections::{BTreeMap, BTreeSet};

pub(super) use self::load::KAZAKHSTAN;
pub use self::{
    diff::{Asks, Change, Effect, diff},
    parts::{
        Acceptance, AcceptanceKind, Agreement, Ban, BanKind, Basis, BasisKind, Category, ChannelRule,
        CompletedBy, ConsentRules, DeclaredBasis, Event, Field, Given, ImageLimits, Incapacity, Manner, Mark,
        NoOutreach, Operator, PromisedTerm, Purpose, PurposeField, RecipientRule, Represented, Responsible,
        SenderRule, SubjectRules, View,
    },
    problem::{PolicyError, Problem},
    show::{Line, show},
    terms::{Expiry, ExpiryKind, Fallback, Length, Minimum, Refusal, Retention, Start, Term},
};
use crate::domain::{
    caller::Caller,
    consent::{ConsentAct, Language},
    names::{CallerName, EventName, FieldName, PlatformName, PurposeName, SiteName},
    rights::RightKind,
    subject::SubjectKind,
    time::Timestamp,
};

/// Largest policy file, in bytes.
pub const MAX_POLICY_BYTES: usize = 1024 * 1024;

/// Where a file stands that is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    /// It shall be applied.
    New,
    /// It was.
    Applied,
}

/// A checked policy.
#[derive(Debug)]
pub struct Policy {
    /// The operator.
    pub operator: Operator,
    /// Version number, from 1.
    pub version: u32,
    /// How a version comes to bind subjects.
    pub acceptance: Acceptance,
    /// The agreement that the policy leans on.
    pub agreement: Option<Agreement>,
    /// Who answers for personal data.
    pub responsible: Option<Responsible>,
    /// Whose data it holds.
    pub subject: SubjectRules,
    /// What counts as a consent.
    pub consent: ConsentRules,
    /// What it says of the end of retention.
    pub expiry: Option<Expiry>,
    in_force: parts::InForce,
    sites: BTreeSet<SiteName>,
    languages: Vec<Language>,
    bans: Vec<Ban>,
    caps: Vec<Term>,
    events: BTreeMap<EventName, Event>,
    rights: BTreeMap<RightKind, PromisedTerm>,
    fields: BTreeMap<FieldName, Field>,
    purposes: BTreeMap<PurposeName, Purpose>,
}

impl Policy {
    /// Reads and checks a policy file.
    ///
    /// # Errors
    /// [`PolicyError`] holds every problem.
    pub fn parse(text: &str) -> Result<Self, PolicyError> {
        Self::check(text).map_err(PolicyError::new)
    }

    /// Reads a version that was applied. What has been asked of new ones since does not take it out of force: a purpose that
    /// advertises and names no channels is read by nobody until a new version names them.
    ///
    /// # Errors
    /// As [`Self::parse`].
    pub fn applied(text: &str) -> Result<Self, PolicyError> {
        load::policy(text, Standing::Applied).map_err(PolicyError::new)
    }

    /// Reads and checks a policy file.
    ///
    /// # Errors
    /// Every problem of the file, by line. Where it is not TOML, only what is wrong with that: the rest cannot be
    /// judged yet.
    pub fn check(text: &str) -> Result<Self, Vec<Problem>> {
        load::policy(text, Standing::New)
    }

    /// The instant from which this version is in force: 00:00 of its date in Kazakhstan (UTC+5).
    #[must_use]
    pub const fn effective_at(&self) -> Timestamp {
        self.in_force.effective
    }

    /// The instant from which this version governs; until then the older one does. Later than
    /// [`Self::effective_at`] where subjects accept it by days of use.
    #[must_use]
    pub const fn governs_from(&self) -> Timestamp {
        self.in_force.governs
    }

    /// A declared field.
    #[must_use]
    pub fn field(&self, name: &FieldName) -> Option<&Field> {
        self.fields.get(name)
    }

    /// A declared purpose.
    #[must_use]
    pub fn purpose(&self, name: &PurposeName) -> Option<&Purpose> {
        self.purposes.get(name)
    }

    /// A declared event.
    #[must_use]
    pub fn event(&self, name: &EventName) -> Option<&Event> {
        self.events.get(name)
    }

    /// Working days in which a request of a person is answered, and where that stands: the shorter of what the policy
    /// promises and what the law asks (rule R12).
    #[must_use]
    pub fn answers_within(&self, kind: RightKind) -> (u32, &str) {
        let law = kind.deadline();
        match self.rights.get(&kind) {
            Some(promised) if promised.working_days < law.working_days => {
                (promised.working_days, &promised.clause)
            }
            Some(_) | None => (law.working_days, law.clause),
        }
    }

    /// Every field.
    pub fn fields(&self) -> impl Iterator<Item = (&FieldName, &Field)> {
        self.fields.iter()
    }

    /// Every purpose.
    pub fn purposes(&self) -> impl Iterator<Item = (&PurposeName, &Purpose)> {
        self.purposes.iter()
    }

    /// What the policy bars.
    #[must_use]
    pub fn bans(&self) -> &[Ban] {
        &self.bans
    }

    /// The ban of this kind, where the policy has it.
    #[must_use]
    pub fn ban(&self, what: BanKind) -> Option<&Ban> {
        self.bans.iter().find(|ban| ban.what == what)
    }

    /// Terms that end every purpose but those for claims.
    #[must_use]
    pub fn caps(&self) -> &[Term] {
        &self.caps
    }

    /// What becomes of a subject when the last of its data ends, and nobody demanded that they are destroyed. A policy that does
    /// not say destroys, which is the stricter (rule R8).
    #[must_use]
    pub fn expires_by(&self) -> ExpiryKind {
        self.expiry.as_ref().map_or(ExpiryKind::Destruction, |expiry| expiry.kind)
    }

    /// The terms that end a purpose: its own, and the caps unless it is for claims.
    pub fn terms_of<'a>(&'a self, purpose: &'a Purpose) -> impl Iterator<Item = &'a Term> {
        let caps = if purpose.is(Mark::Claims) { &[] } else { self.caps.as_slice() };
        purpose.retention.ends().iter().chain(caps)
    }

    /// Whether a purpose decides by machine or profiles: where the policy marks it so, or it reads what is computed from other
    /// fields.
    #[must_use]
    pub fn decides_by_machine(&self, purpose: &Purpose) -> bool {
        let derived = |name| self.field(name).is_some_and(|field| !field.sources_of_derived().is_empty());
        purpose.is(Mark::Automated) || purpose.fields().any(|(name, _)| derived(name))
    }

    /// The purposes that name this caller.
    pub fn purposes_of<'a>(
        &'a self,
        caller: &'a Caller,
    ) -> impl Iterator<Item = (&'a PurposeName, &'a Purpose)> {
        self.purposes.iter().filter(|(_, purpose)| purpose.names_caller(caller))
    }

    /// Whether this caller may store the field.
    #[must_use]
    pub fn may_collect(&self, caller: &Caller, field: &Field) -> bool {
        field.collected_by.contains(&caller.name)
    }

    /// Every caller that the policy names.
    #[must_use]
    pub fn caller_names(&self) -> BTreeSet<&CallerName> {
        let collectors = self.fields.values().flat_map(|field| &field.collected_by);
        let readers = self.purposes.values().flat_map(|purpose| &purpose.callers);
        let recorders = self.events.values().flat_map(|event| &event.recorded_by);
        collectors
            .chain(readers)
            .chain(recorders)
            .chain(&self.consent.recorded_by)
            .chain(&self.subject.managed_by)
            .collect()
    }

    /// Whether this caller may store any field at all.
    #[must_use]
    pub fn collects_anything(&self, caller: &Caller) -> bool {
        self.fields.values().any(|field| self.may_collect(caller, field))
    }

    /// Whether this caller may record, withdraw and list consents.
    #[must_use]
    pub fn may_record_consents(&self, caller: &Caller) -> bool {
        self.consent.recorded_by.contains(&caller.name)
    }

    /// Whether this caller may restrict and erase subjects and record events of theirs.
    #[must_use]
    pub fn may_manage_subjects(&self, caller: &Caller) -> bool {
        self.subject.managed_by.contains(&caller.name)
    }

    /// Whether the event refuses a withdrawal, so that what a purpose keeps outlives it (rules R7, R9).
    #[must_use]
    pub fn refuses_withdrawal(&self, event: &EventName) -> bool {
        let refusals = self.purposes.values().filter_map(|purpose| purpose.retention.refusal.as_ref());
        refusals.map(|refusal| &refusal.event).any(|name| name == event)
    }

    /// Whether this caller may record the event: it manages subjects, or the event names it.
    #[must_use]
    pub fn may_record_event(&self, caller: &Caller, event: &EventName) -> bool {
        self.events
            .get(event)
            .is_some_and(|event| event.recorded_by.contains(&caller.name) || self.may_manage_subjects(caller))
    }

    /// Whether the policy takes this act for a consent.
    #[must_use]
    pub fn accepts_act(&self, act: ConsentAct) -> bool {
        self.consent.acts.contains(&act)
    }

    /// Whether the platform may hold data of such a subject.
    #[must_use]
    pub fn accepts_kind(&self, kind: SubjectKind) -> bool {
        self.subject.kinds.contains(&kind)
    }

    /// Whether the policy is published in this language.
    #[must_use]
    pub fn speaks(&self, language: Language) -> bool {
        self.languages.contains(&language)
    }

    /// Whether the policy governs this site.
    #[must_use]
    pub fn governs(&self, site: &SiteName) -> bool {
        self.sites.contains(site)
    }
}

/// What a text says it is, also where the rest of it is refused: its version, and the platform that it names.
#[must_use]
pub fn claims(text: &str) -> (Option<u32>, Option<PlatformName>) {
    let root = if text.len() > MAX_POLICY_BYTES { None } else { text.parse::<toml::Table>().ok() };
    let part = |table: &str, key: &str| root.as_ref()?.get(table)?.get(key).cloned();
    let version = part("version", "number").and_then(|value| value.as_integer());
    let name = part("platform", "name").and_then(|value| value.as_str()?.parse().ok());
    (version.and_then(|number| u32::try_from(number).ok()), name)
}

#[cfg(test)]
mod tests;
