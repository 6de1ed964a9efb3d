//! When a purpose's retention ends for a record, and until when a record is kept at all: pure, from the policy and what
//! is known of the subject (rules R6, R8, R9, R42, R52).

use std::cmp::Ordering;

use super::model::{BasisKind, ExpiryKind, Fallback, KAZAKHSTAN, Length, Mark, Policy, Purpose, Start, Term};
use crate::domain::{
    consent::{Consent, ConsentState, ConsentTerms},
    event::SubjectEvent,
    names::{EventName, FieldName, PurposeName},
    outreach::Outreach,
    time::Timestamp,
};

/// What terms count from.
#[derive(Debug, Clone, Copy)]
pub struct Life<'a> {
    /// The record's field.
    pub field: &'a FieldName,
    /// When the value was stored.
    pub collected_at: Timestamp,
    /// Every consent of the subject.
    pub consents: &'a [Consent],
    /// Every event of the subject.
    pub events: &'a [SubjectEvent],
    /// The channel and sender whose consents alone count; every consent where there is none.
    pub outreach: Option<&'a Outreach>,
}

/// How a purpose ends for a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ending<'a> {
    /// When; `None` where no term has a date yet.
    pub at: Option<Timestamp>,
    /// The clause that says so, where there is a date.
    pub clause: &'a str,
    /// Whether the subject's withdrawal ended it.
    pub by_withdrawal: bool,
    /// Events that are not recorded, and that terms wait for.
    pub waits: Vec<&'a EventName>,
    /// Events that are not recorded, and for which the earliest date that can be defended stands in (rule R42).
    pub stood_in: Vec<&'a EventName>,
}

impl Ending<'_> {
    /// Whether it has come.
    #[must_use]
    pub fn is_past(&self, now: Timestamp) -> bool {
        self.at.is_some_and(|at| at <= now)
    }
}

/// What becomes of a subject whose last data end (rule R8). It is depersonalised where the policy in force says so, and so does
/// every version that a consent of the subject names, since a new one does not change what an old consent was to (C-X10);
/// `version` finds one by its number, and one that is not known counts as destruction. Nobody is who demanded destruction, by
/// the withdrawal of any consent or otherwise.
#[must_use]
pub fn expiry<'a>(
    policy: &Policy,
    version: impl Fn(u32) -> Option<&'a Policy>,
    consents: &[Consent],
    is_demanded: bool,
) -> ExpiryKind {
    let depersonalises = |policy: &Policy| policy.expires_by() == ExpiryKind::Depersonalisation;
    let lets = |consent: &Consent| {
        consent.state == ConsentState::Granted
            && version(consent.terms.policy_version).is_some_and(depersonalises)
    };
    if !is_demanded && depersonalises(policy) && consents.iter().all(lets) {
        ExpiryKind::Depersonalisation
    } else {
        ExpiryKind::Destruction
    }
}

/// Until when a record is kept, and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Keeping<'a> {
    /// Until when.
    pub until: Until,
    /// The purposes that keep it, or kept it.
    pub purposes: Vec<(&'a PurposeName, Ending<'a>)>,
    /// Until when a law keeps it, restricted, although every purpose may have ended.
    pub minimum: Option<Timestamp>,
}

/// Until when a record is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Until {
    /// Until then; it may be past.
    At(Timestamp),
    /// A term waits for an event.
    Open,
    /// No consent ever covered it, and the policy does not say how long it may wait for one.
    Unclaimed,
}

impl Until {
    /// The date, where there is one.
    #[must_use]
    pub const fn date(self) -> Option<Timestamp> {
        match self {
            Self::At(at) => Some(at),
            Self::Open | Self::Unclaimed => None,
        }
    }
}

/// The month of an instant in Kazakhstan, such as `2029-03`.
#[must_use]
pub fn month_of(at: Timestamp) -> String {
    let instant = jiff::Timestamp::from_microsecond(at.as_micros());
    instant.map_or_else(
        |_| "never".to_owned(),
        |instant| {
            let date = KAZAKHSTAN.to_datetime(instant).date();
            format!("{:04}-{:02}", date.year(), date.month())
        },
    )
}

impl Keeping<'_> {
    /// Whether its time is over.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        matches!(self.until, Until::At(at) if at <= now)
    }
}

/// Whether a withdrawal ended a consent that stands as granted: whatever was given or recorded before it is ended, also a
/// twin that a retry recorded, before or after. The person's last word was no.
pub(super) fn is_overruled(consent: &Consent, withdrawn_at: Option<Timestamp>) -> bool {
    withdrawn_at.is_some_and(|end| consent.recorded_at.min(consent.terms.given_at) <= end)
}

/// Whether the withdrawal of this consent also ends others that are for a channel and sender: those for its own, and where it
/// was for none, each.
pub(super) fn withdraws(consent: &Consent, outreach: Option<&Outreach>) -> bool {
    consent.terms.outreach.is_none() || consent.terms.outreach.as_ref() == outreach
}

/// How the subject's consents stand, to a purpose or to any, as far as they cover a field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Standing {
    Never,
    /// At least one is live: the last was given, and the last of them ends, then.
    Live {
        given_at: Timestamp,
        expires_at: Option<Timestamp>,
    },
    /// Each has ended, the last one then.
    Ended {
        given_at: Timestamp,
        at: Timestamp,
        withdrawn: bool,
    },
}

impl Standing {
    fn of(life: Life<'_>, purpose: Option<&PurposeName>, now: Timestamp) -> Self {
        let covers = |c: &&Consent| {
            purpose.is_none_or(|purpose| c.terms.purpose == *purpose)
                && c.terms.fields.contains(life.field)
                && c.terms.given_at <= now
                && life.outreach.is_none_or(|outreach| c.terms.outreach.as_ref() == Some(outreach))
        };
        let mut standing = Self::Never;
        for consent in life.consents.iter().filter(covers) {
            let withdrawn_at = last_withdrawal(life, &consent.terms);
            let given_at = consent.terms.given_at;
            let ended = match consent.state {
                ConsentState::Withdrawn => consent.withdrawn_at.map(|at| (at, true)),
                ConsentState::Granted if is_overruled(consent, withdrawn_at) => {
                    withdrawn_at.map(|at| (at, true))
                }
                ConsentState::Granted => {
                    consent.terms.expires_at.filter(|end| *end <= now).map(|at| (at, false))
                }
            };
            standing = standing.and(match ended {
                Some((at, withdrawn)) => Self::Ended { given_at, at, withdrawn },
                None => Self::Live { given_at, expires_at: consent.terms.expires_at },
            });
        }
        standing
    }

    fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Never, other) | (other, Self::Never) => other,
            (Self::Live { given_at: a, expires_at: x }, Self::Live { given_at: b, expires_at: y }) => {
                Self::Live { given_at: a.max(b), expires_at: x.and_then(|x| Some(x.max(y?))) }
            }
            (
                Self::Ended { given_at: a, at: x, withdrawn: by_x },
                Self::Ended { given_at: b, at: y, withdrawn: by_y },
            ) => Self::Ended {
                // That of the one which ended last, as it was while that one lived: an end must not move what has ended.
                given_at: match x.cmp(&y) {
                    Ordering::Greater => a,
                    Ordering::Less => b,
                    Ordering::Equal => a.max(b),
                },
                at: x.max(y),
                withdrawn: (by_x && x >= y) || (by_y && y >= x),
            },
            (live @ Self::Live { .. }, Self::Ended { .. })
            | (Self::Ended { .. }, live @ Self::Live { .. }) => live,
        }
    }

    const fn given_at(self) -> Option<Timestamp> {
        match self {
            Self::Never => None,
            Self::Live { given_at, .. } | Self::Ended { given_at, .. } => Some(given_at),
        }
    }

    const fn ended_at(self) -> Option<Timestamp> {
        match self {
            Self::Ended { at, .. } => Some(at),
            Self::Never | Self::Live { .. } => None,
        }
    }

    /// The end that the consents set, come or to come.
    const fn end(self) -> Option<Timestamp> {
        match self {
            Self::Never => None,
            Self::Live { expires_at, .. } => expires_at,
            Self::Ended { at, .. } => Some(at),
        }
    }

    const fn is_withdrawn(self) -> bool {
        matches!(self, Self::Ended { withdrawn: true, .. })
    }
}

fn last_withdrawal(life: Life<'_>, terms: &ConsentTerms) -> Option<Timestamp> {
    let of = |c: &&Consent| {
        c.terms.purpose == terms.purpose
            && c.terms.fields.contains(life.field)
            && withdraws(c, terms.outreach.as_ref())
    };
    life.consents.iter().filter(of).filter_map(|c| c.withdrawn_at).max()
}

/// When a purpose ends for a record. The earliest of its terms counts: its own and the caps, the end of the consent that
/// it stands on, and for derived data the ends of every source.
#[must_use]
pub fn ending<'a>(
    policy: &'a Policy,
    name: &PurposeName,
    purpose: &'a Purpose,
    life: Life<'_>,
    now: Timestamp,
) -> Ending<'a> {
    let mut ending = own_ending(policy, name, purpose, life, now);
    let sources = policy.field(life.field).map_or(&[][..], |field| field.sources_of_derived());
    for source in sources {
        let of_source = keeping_by_purposes(policy, Life { field: source, outreach: None, ..life }, now);
        let at = match of_source.until {
            Until::At(at) => Some(at),
            Until::Open => None,
            // Nothing permits the source, so nothing permits what was computed from it.
            Until::Unclaimed => Some(life.collected_at),
        };
        ending.narrow(at, "rule R52", false);
    }
    ending
}

impl<'a> Ending<'a> {
    fn narrow(&mut self, at: Option<Timestamp>, clause: &'a str, by_withdrawal: bool) {
        if let Some(at) = at
            && self.at.is_none_or(|known| at < known)
        {
            (self.at, self.clause, self.by_withdrawal) = (Some(at), clause, by_withdrawal);
        }
    }
}

fn own_ending<'a>(
    policy: &'a Policy,
    name: &PurposeName,
    purpose: &'a Purpose,
    life: Life<'_>,
    now: Timestamp,
) -> Ending<'a> {
    let by_consent = purpose.basis.kind == BasisKind::Consent;
    let standing = Standing::of(life, by_consent.then_some(name), now);
    let (waits, stood_in) = (Vec::new(), Vec::new());
    let mut ending = Ending { at: None, clause: "", by_withdrawal: false, waits, stood_in };
    if by_consent {
        ending.narrow(standing.end(), &policy.consent.clause, standing.is_withdrawn());
    } else if purpose.is(Mark::Claims)
        && standing.is_withdrawn()
        && let Some(withdrawn_at) = standing.ended_at()
        && !is_refused(purpose, life, withdrawn_at, now)
    {
        ending.narrow(Some(withdrawn_at), &policy.consent.clause, true);
    }
    let counted = Counted { life, standing, by_consent, now };
    for term in policy.terms_of(purpose) {
        ending.narrow(counted.end(term), &term.clause, false);
        if let Start::Event(event) = &term.from
            && counted.event(event, term.length).is_none()
        {
            let missing = if term.missing.is_some() { &mut ending.stood_in } else { &mut ending.waits };
            if !missing.contains(&event) {
                missing.push(event);
            }
        }
    }
    ending
}

/// Whether the operator recorded, after the withdrawal, that it refuses it (Law 94-V, Article 8(2)).
fn is_refused(purpose: &Purpose, life: Life<'_>, withdrawn_at: Timestamp, now: Timestamp) -> bool {
    purpose.retention.refusal.as_ref().is_some_and(|refusal| {
        life.events.iter().any(|e| e.name == refusal.event && (withdrawn_at..=now).contains(&e.at))
    })
}

/// From what a purpose's terms count.
#[derive(Clone, Copy)]
struct Counted<'a> {
    life: Life<'a>,
    standing: Standing,
    by_consent: bool,
    now: Timestamp,
}

impl Counted<'_> {
    fn end(self, term: &Term) -> Option<Timestamp> {
        self.start(&term.from, term.length, term.missing).map(|start| term.length.after(start))
    }

    fn start(self, from: &Start, length: Length, missing: Option<Fallback>) -> Option<Timestamp> {
        match from {
            Start::Collection => Some(self.life.collected_at),
            Start::Consent => Some(self.consented_at()),
            Start::Withdrawal => self.standing.ended_at(),
            Start::Event(event) => self.event(event, length).or_else(|| match missing? {
                Fallback::Collection => Some(self.life.collected_at),
                Fallback::Consent => Some(self.consented_at()),
            }),
        }
    }

    fn consented_at(self) -> Timestamp {
        self.standing.given_at().unwrap_or(self.life.collected_at)
    }

    /// The last time that it happened. What happened before the value was stored did not happen to it; and what ends a
    /// purpose at once does not end a consent that was given later.
    fn event(self, name: &EventName, length: Length) -> Option<Timestamp> {
        let fresh = if self.by_consent && length.is_none() { self.standing.given_at() } else { None };
        let since = fresh.map_or(self.life.collected_at, |given_at| given_at.max(self.life.collected_at));
        let happened =
            self.life.events.iter().filter(|e| e.name == *name && e.at >= since && e.at <= self.now);
        happened.map(|e| e.at).max()
    }
}

/// Until when a record is kept: by the last purpose that keeps it, and not less than a law asks for. A purpose keeps what
/// the subject consented to; one for claims keeps what a consent once covered; another purpose on the basis of a law reads
/// what is there and keeps nothing.
#[must_use]
pub fn keeping<'a>(policy: &'a Policy, life: Life<'_>, now: Timestamp) -> Keeping<'a> {
    let mut keeping = keeping_by_purposes(policy, life, now);
    let sources = policy.field(life.field).map_or(&[][..], |field| field.sources_of_derived());
    if !sources.is_empty() {
        for (name, ending) in &mut keeping.purposes {
            if let Some(purpose) = policy.purpose(name) {
                *ending = self::ending(policy, name, purpose, life, now);
            }
        }
        keeping.until = until(policy, &keeping.purposes, life);
    }
    keeping.minimum = minimum(policy, life, now);
    if let (Until::At(at), Some(minimum)) = (keeping.until, keeping.minimum) {
        keeping.until = Until::At(at.max(minimum));
    } else if let (Until::Unclaimed, Some(minimum)) = (keeping.until, keeping.minimum) {
        keeping.until = Until::At(minimum);
    }
    keeping
}

fn keeping_by_purposes<'a>(policy: &'a Policy, life: Life<'_>, now: Timestamp) -> Keeping<'a> {
    let claimed = Standing::of(life, None, now) != Standing::Never;
    let keeps = |name: &PurposeName, purpose: &Purpose| match purpose.basis.kind {
        BasisKind::Consent => Standing::of(life, Some(name), now) != Standing::Never,
        BasisKind::Law { .. } => claimed && purpose.is(Mark::Claims),
    };
    let covering =
        policy.purposes().filter(|(_, purpose)| purpose.inert.is_none() && purpose.covers(life.field));
    let purposes: Vec<_> = covering
        .filter(|(name, purpose)| keeps(name, purpose))
        .map(|(name, purpose)| (name, own_ending(policy, name, purpose, life, now)))
        .collect();
    Keeping { until: until(policy, &purposes, life), purposes, minimum: None }
}

fn until(policy: &Policy, purposes: &[(&PurposeName, Ending<'_>)], life: Life<'_>) -> Until {
    if purposes.is_empty() {
        let days = policy.consent.unclaimed_days;
        return days
            .map_or(Until::Unclaimed, |days| Until::At(Length::of_days(days).after(life.collected_at)));
    }
    let mut last = life.collected_at;
    for (_, ending) in purposes {
        let Some(at) = ending.at else { return Until::Open };
        // A refusal of the withdrawal may still be recorded.
        let wait = if ending.by_withdrawal { policy.consent.withdrawal_days } else { 0 };
        last = last.max(Length::of_days(wait).after(at));
    }
    Until::At(last)
}

/// Until when laws keep the record, where what they count from has happened.
fn minimum(policy: &Policy, life: Life<'_>, now: Timestamp) -> Option<Timestamp> {
    let covering = policy.purposes().filter(|(_, purpose)| purpose.covers(life.field));
    covering
        .filter_map(|(name, purpose)| {
            let minimum = purpose.retention.minimum.as_ref()?;
            let by_consent = purpose.basis.kind == BasisKind::Consent;
            let standing = Standing::of(life, by_consent.then_some(name), now);
            let counted = Counted { life, standing, by_consent, now };
            let start = counted.start(&minimum.from, minimum.length, None)?;
            Some(minimum.length.after(start))
        })
        .max()
}

#[cfg(test)]
mod tests;
