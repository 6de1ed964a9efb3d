//! What a new version of a policy changes: what it widens, what it narrows, and whose consent it needs anew (rule R30;
//! Law 94-V, Articles 8(4), 15).

use std::collections::BTreeSet;

use super::{BasisKind, ExpiryKind, Mark, Policy, Purpose, RecipientRule, Retention, Term, terms::Length};
use crate::domain::{
    code::coded,
    names::{FieldName, PurposeName},
};

coded!(
    /// What a change does to subjects.
    Effect, "effect" {
        /// More is read, told, kept or allowed.
        Widens = "widens",
        /// Less.
        Narrows = "narrows",
        /// Neither can be said of it: a lawyer reads it.
        Changes = "changes",
    }
);

/// Whose consent a change needs before anybody is read by it. Older consents keep their scope all the same.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asks {
    /// Nobody's.
    Nobody,
    /// Of each subject who consented to the purpose before.
    ConsentedTo(PurposeName),
    /// Of each subject who shall be read for a new purpose.
    ForNew(PurposeName),
}

/// One change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// What it does.
    pub effect: Effect,
    /// The part of the policy, such as `purpose payments`.
    pub place: String,
    /// What is different.
    pub what: String,
    /// The clause of the version that has it.
    pub clause: String,
    /// Whom it asks.
    pub asks: Asks,
}

/// Every change from one version to another, widening ones first.
#[must_use]
pub fn diff(old: &Policy, new: &Policy) -> Vec<Change> {
    let mut changes = Changes::default();
    changes.subjects(old, new);
    changes.consents(old, new);
    changes.responsible(old, new);
    changes.bans(old, new);
    changes.fields(old, new);
    changes.caps(old, new);
    changes.expiry(old, new);
    for (name, purpose) in new.purposes() {
        match old.purpose(name) {
            None => changes.new_purpose(name, purpose),
            Some(before) => OfPurpose { name, before, after: purpose }.compare(&mut changes),
        }
    }
    for (name, purpose) in old.purposes().filter(|(name, _)| new.purpose(name).is_none()) {
        let place = format!("purpose {name}");
        changes.add(Effect::Narrows, &place, "nobody reads for it any more", &purpose.clause, Asks::Nobody);
    }
    changes.0.sort_by_key(|change| change.effect);
    changes.0
}

#[derive(Default)]
struct Changes(Vec<Change>);

impl Changes {
    fn add(&mut self, effect: Effect, place: &str, what: impl Into<String>, clause: &str, asks: Asks) {
        let (place, what, clause) = (place.to_owned(), what.into(), clause.to_owned());
        self.0.push(Change { effect, place, what, clause, asks });
    }

    /// Members of a set that came and went; more of them is wider.
    fn set<T: PartialEq + std::fmt::Display>(
        &mut self,
        place: &str,
        noun: &str,
        (before, after): (&[T], &[T]),
        clause: &str,
        asks: &Asks,
    ) {
        for came in after.iter().filter(|item| !before.contains(item)) {
            self.add(Effect::Widens, place, format!("{noun} {came} is new"), clause, asks.clone());
        }
        for went in before.iter().filter(|item| !after.contains(item)) {
            self.add(Effect::Narrows, place, format!("{noun} {went} is gone"), clause, Asks::Nobody);
        }
    }

    fn subjects(&mut self, old: &Policy, new: &Policy) {
        let (before, after) = (&old.subject, &new.subject);
        let kinds = |of: &super::SubjectRules| of.kinds.iter().map(|kind| kind.as_str()).collect::<Vec<_>>();
        let clause = &after.clause;
        self.set("subject", "kind", (&kinds(before), &kinds(after)), clause, &Asks::Nobody);
        if before.min_age != after.min_age {
            let effect = if after.min_age < before.min_age { Effect::Widens } else { Effect::Narrows };
            let what = format!("least age {}, was {}", after.min_age, before.min_age);
            self.add(effect, "subject", what, clause, Asks::Nobody);
        }
        let managed = (names(&before.managed_by), names(&after.managed_by));
        self.set("subject", "caller who manages subjects", (&managed.0, &managed.1), clause, &Asks::Nobody);
        let sites = (names(&old.sites), names(&new.sites));
        self.set("version", "site", (&sites.0, &sites.1), &new.acceptance.clause, &Asks::Nobody);
    }

    fn consents(&mut self, old: &Policy, new: &Policy) {
        let (before, after) = (&old.consent, &new.consent);
        let acts = |of: &super::ConsentRules| of.acts.iter().map(|act| act.as_str()).collect::<Vec<_>>();
        self.set("consent", "act", (&acts(before), &acts(after)), &after.clause, &Asks::Nobody);
        let event = |of: &super::ConsentRules| of.completed_by.as_ref().map(|c| c.event.clone());
        match (event(before), event(after)) {
            (Some(event), None) => {
                let what = format!("a consent is complete without {event}");
                self.add(Effect::Widens, "consent", what, &after.clause, Asks::Nobody);
            }
            (None, Some(event)) => {
                let what = format!("a consent is complete only with {event}");
                self.add(Effect::Narrows, "consent", what, &after.clause, Asks::Nobody);
            }
            (before, after_event) if before != after_event => {
                self.add(
                    Effect::Changes,
                    "consent",
                    "another event completes it",
                    &after.clause,
                    Asks::Nobody,
                );
            }
            _ => {}
        }
        self.days(
            "withdrawal_days",
            Some(before.withdrawal_days),
            Some(after.withdrawal_days),
            &after.clause,
        );
        self.days("unclaimed_days", before.unclaimed_days, after.unclaimed_days, &after.clause);
    }

    /// Days for which something is kept; none is without end.
    fn days(&mut self, key: &str, before: Option<u32>, after: Option<u32>, clause: &str) {
        if before == after {
            return;
        }
        let longer = after.unwrap_or(u32::MAX) > before.unwrap_or(u32::MAX);
        let shown = |days: Option<u32>| days.map_or("no end".to_owned(), |days| days.to_string());
        let what = format!("{key}: {}, was {}", shown(after), shown(before));
        self.add(
            if longer { Effect::Widens } else { Effect::Narrows },
            "consent",
            what,
            clause,
            Asks::Nobody,
        );
    }

    fn responsible(&mut self, old: &Policy, new: &Policy) {
        if old.responsible != new.responsible {
            let what = match &new.responsible {
                Some(now) => format!("{}, {}", now.office, now.contact),
                None => "nobody is named any more".to_owned(),
            };
            let clause =
                new.responsible.as_ref().or(old.responsible.as_ref()).map(|some| some.clause.clone());
            self.add(Effect::Changes, "responsible", what, &clause.unwrap_or_default(), Asks::Nobody);
        }
    }

    fn bans(&mut self, old: &Policy, new: &Policy) {
        for ban in old.bans().iter().filter(|ban| new.ban(ban.what).is_none()) {
            let place = format!("ban {}", ban.what.as_str());
            self.add(Effect::Widens, &place, "is lifted", &ban.clause, Asks::Nobody);
        }
        for ban in new.bans().iter().filter(|ban| old.ban(ban.what).is_none()) {
            let place = format!("ban {}", ban.what.as_str());
            self.add(Effect::Narrows, &place, "is new", &ban.clause, Asks::Nobody);
        }
    }

    fn fields(&mut self, old: &Policy, new: &Policy) {
        for (name, field) in new.fields() {
            let place = format!("field {name}");
            let Some(before) = old.field(name) else {
                self.add(
                    Effect::Widens,
                    &place,
                    "is new; it is read for the purposes that list it",
                    &field.clause,
                    Asks::Nobody,
                );
                continue;
            };
            let sources = |of: &super::Field| of.sources.iter().map(|s| s.as_str()).collect::<Vec<_>>();
            self.set(&place, "source", (&sources(before), &sources(field)), &field.clause, &Asks::Nobody);
            let collectors = (names(&before.collected_by), names(&field.collected_by));
            self.set(
                &place,
                "collecting caller",
                (&collectors.0, &collectors.1),
                &field.clause,
                &Asks::Nobody,
            );
            if (before.category, before.field_type) != (field.category, field.field_type) {
                let what = format!(
                    "is {} {}, was {} {}",
                    field.category.as_str(),
                    field.field_type.as_str(),
                    before.category.as_str(),
                    before.field_type.as_str()
                );
                self.add(Effect::Changes, &place, what, &field.clause, Asks::Nobody);
            }
        }
        for (name, field) in old.fields().filter(|(name, _)| new.field(name).is_none()) {
            self.add(
                Effect::Narrows,
                &format!("field {name}"),
                "is not taken any more",
                &field.clause,
                Asks::Nobody,
            );
        }
    }

    fn caps(&mut self, old: &Policy, new: &Policy) {
        self.terms("cap", old.caps(), new.caps());
    }

    /// What is depersonalised is kept after all, if not of anybody.
    fn expiry(&mut self, old: &Policy, new: &Policy) {
        let (before, after) = (old.expires_by(), new.expires_by());
        if before == after {
            return;
        }
        let effect = match after {
            ExpiryKind::Destruction => Effect::Narrows,
            ExpiryKind::Depersonalisation => Effect::Widens,
        };
        let what = format!("the end is {}, was {}", after.as_str(), before.as_str());
        let clause = new.expiry.as_ref().or(old.expiry.as_ref()).map(|some| some.clause.clone());
        self.add(effect, "expiry", what, &clause.unwrap_or_default(), Asks::Nobody);
    }

    /// Each term ends something: one less, or a longer one, keeps more.
    fn terms(&mut self, place: &str, before: &[Term], after: &[Term]) {
        for term in after {
            match before.iter().find(|known| known.from == term.from && known.missing == term.missing) {
                Some(known) if known.length == term.length => {}
                Some(known) => {
                    let effect =
                        if longer(term.length, known.length) { Effect::Widens } else { Effect::Narrows };
                    self.add(effect, place, format!("{term}; was: {known}"), &term.clause, Asks::Nobody);
                }
                None => {
                    self.add(Effect::Narrows, place, format!("{term}: is new"), &term.clause, Asks::Nobody);
                }
            }
        }
        let gone = |known: &&Term| !after.iter().any(|t| t.from == known.from && t.missing == known.missing);
        for term in before.iter().filter(gone) {
            self.add(Effect::Widens, place, format!("{term}: is gone"), &term.clause, Asks::Nobody);
        }
    }

    fn retention(&mut self, place: &str, before: &Retention, after: &Retention) {
        self.terms(place, before.ends(), after.ends());
        if before.minimum != after.minimum {
            let shown = |of: &Retention| {
                of.minimum.as_ref().map_or("none".to_owned(), |m| {
                    format!("{} after {} (law {})", m.length, m.from, m.article)
                })
            };
            let effect = match (&before.minimum, &after.minimum) {
                (None, Some(_)) => Effect::Widens,
                (Some(_), None) => Effect::Narrows,
                _ => Effect::Changes,
            };
            self.add(
                effect,
                place,
                format!("minimum {}, was {}", shown(after), shown(before)),
                &after.clause,
                Asks::Nobody,
            );
        }
        if before.refusal != after.refusal {
            self.add(
                Effect::Changes,
                place,
                "another event, or none, refuses a withdrawal",
                &after.clause,
                Asks::Nobody,
            );
        }
    }

    fn new_purpose(&mut self, name: &PurposeName, purpose: &Purpose) {
        let place = format!("purpose {name}");
        if let Some(why) = &purpose.inert {
            self.add(
                Effect::Changes,
                &place,
                format!("is new and inert: {why}"),
                &purpose.clause,
                Asks::Nobody,
            );
            return;
        }
        let fields: Vec<_> = purpose.fields().map(|(field, _)| field.to_string()).collect();
        let what = format!("is new, on the basis of {}: {}", basis(purpose), fields.join(", "));
        let asks =
            if purpose.basis.kind == BasisKind::Consent { Asks::ForNew(name.clone()) } else { Asks::Nobody };
        self.add(Effect::Widens, &place, what, &purpose.clause, asks);
    }
}

/// One purpose of both versions.
struct OfPurpose<'a> {
    name: &'a PurposeName,
    before: &'a Purpose,
    after: &'a Purpose,
}

impl OfPurpose<'_> {
    fn compare(&self, changes: &mut Changes) {
        let place = format!("purpose {}", self.name);
        let (before, after, clause) = (self.before, self.after, &self.after.clause);
        match (&before.inert, &after.inert) {
            (Some(_), None) => changes.add(Effect::Widens, &place, "is read now", clause, self.asks()),
            (None, Some(why)) => {
                changes.add(Effect::Narrows, &place, format!("is inert: {why}"), clause, Asks::Nobody);
            }
            _ => {}
        }
        let fields = |of: &Purpose| of.fields().map(|(name, _)| name.clone()).collect::<Vec<FieldName>>();
        changes.set(&place, "field", (&fields(before), &fields(after)), clause, &self.asks());
        let callers = (names(&before.callers), names(&after.callers));
        changes.set(&place, "caller", (&callers.0, &callers.1), clause, &Asks::Nobody);
        let views = |of: &Purpose| of.views.iter().map(|view| view.as_str()).collect::<Vec<_>>();
        changes.set(&place, "view", (&views(before), &views(after)), clause, &Asks::Nobody);
        self.outreach(changes, &place);
        self.basis(changes, &place);
        self.marks(changes, &place);
        for rule in after.recipients() {
            match before.recipient(rule.kind) {
                None => {
                    let what = format!("recipient {} is new", rule.kind.as_str());
                    changes.add(Effect::Widens, &place, what, &rule.clause, self.asks());
                }
                Some(known) => self.recipient(changes, known, rule),
            }
        }
        for rule in before.recipients().iter().filter(|rule| after.recipient(rule.kind).is_none()) {
            let what = format!("recipient {} is gone", rule.kind.as_str());
            changes.add(Effect::Narrows, &place, what, &rule.clause, Asks::Nobody);
        }
        changes.retention(&format!("{place}, retention"), &before.retention, &after.retention);
    }

    /// A wider purpose, field or recipient needs a fresh act of those who consented to less.
    fn asks(&self) -> Asks {
        match self.after.basis.kind {
            BasisKind::Consent => Asks::ConsentedTo(self.name.clone()),
            BasisKind::Law { .. } => Asks::Nobody,
        }
    }

    /// A new channel or sender is consented to by itself (rule R5). A purpose that did not say by which it reaches people asks
    /// everybody anew: the consents to it were for none.
    fn outreach(&self, changes: &mut Changes, place: &str) {
        let channels =
            |of: &Purpose| of.channels.iter().map(|rule| rule.channel.as_str()).collect::<Vec<_>>();
        let senders = |of: &Purpose| of.senders.iter().map(|rule| rule.name.clone()).collect::<Vec<_>>();
        let (before, after, clause) = (self.before, self.after, &self.after.clause);
        match (before.channels.is_empty(), after.channels.is_empty()) {
            (true, true) => {}
            (true, false) => {
                let what = format!("reaches people by {} alone", channels(after).join(", "));
                changes.add(Effect::Narrows, place, what, clause, self.asks());
            }
            (false, true) => {
                let what = "does not say any more by which channels it reaches people";
                changes.add(Effect::Widens, place, what, clause, self.asks());
            }
            (false, false) => {
                changes.set(place, "channel", (&channels(before), &channels(after)), clause, &self.asks());
                changes.set(place, "sender", (&senders(before), &senders(after)), clause, &self.asks());
            }
        }
    }

    fn basis(&self, changes: &mut Changes, place: &str) {
        let (before, after) = (&self.before.basis, &self.after.basis);
        if before.kind == after.kind {
            return;
        }
        let what = format!("stands on {}, was {}", basis(self.after), basis(self.before));
        let (effect, asks) = match (&before.kind, &after.kind) {
            (BasisKind::Consent, BasisKind::Law { .. }) => (Effect::Widens, Asks::Nobody),
            (BasisKind::Law { .. }, BasisKind::Consent) => (Effect::Narrows, Asks::ForNew(self.name.clone())),
            _ => (Effect::Changes, Asks::Nobody),
        };
        changes.add(effect, place, what, &after.clause, asks);
    }

    /// Most marks guard; that a purpose advertises or publishes is more than it did.
    fn marks(&self, changes: &mut Changes, place: &str) {
        for mark in Mark::ALL {
            let effect = match (self.before.is(*mark), self.after.is(*mark)) {
                (true, true) | (false, false) => continue,
                (was, _) => match mark {
                    Mark::Separate | Mark::Written | Mark::LegalReference if was => Effect::Widens,
                    Mark::Separate | Mark::Written | Mark::LegalReference => Effect::Narrows,
                    Mark::Advertising | Mark::Publication | Mark::Claims | Mark::Automated if was => {
                        Effect::Narrows
                    }
                    Mark::Advertising | Mark::Publication | Mark::Claims | Mark::Automated => Effect::Widens,
                    Mark::HighRisk => Effect::Changes,
                },
            };
            let what = format!(
                "{} is {}",
                mark.as_str(),
                if self.after.is(*mark) { "set" } else { "not set any more" }
            );
            let own_act = matches!(mark, Mark::Separate | Mark::Written);
            let asks = match effect {
                Effect::Widens if !own_act => self.asks(),
                Effect::Narrows if own_act => self.asks(),
                Effect::Widens | Effect::Narrows | Effect::Changes => Asks::Nobody,
            };
            changes.add(effect, place, what, &self.after.clause, asks);
        }
    }

    fn recipient(&self, changes: &mut Changes, before: &RecipientRule, after: &RecipientRule) {
        let place = format!("purpose {}, recipient {}", self.name, after.kind.as_str());
        let reached = |rule: &RecipientRule, of: &Purpose| {
            of.fields().map(|(name, _)| name.clone()).filter(|name| rule.covers(name)).collect::<Vec<_>>()
        };
        let fields = (reached(before, self.before), reached(after, self.after));
        changes.set(&place, "field", (&fields.0, &fields.1), &after.clause, &self.asks());
        if before.abroad != after.abroad {
            let (effect, asks) =
                if after.abroad { (Effect::Widens, self.asks()) } else { (Effect::Narrows, Asks::Nobody) };
            changes.add(
                effect,
                &place,
                if after.abroad { "may be abroad" } else { "is in Kazakhstan only" },
                &after.clause,
                asks,
            );
        }
        if before.encrypted != after.encrypted {
            let effect = if after.encrypted { Effect::Narrows } else { Effect::Widens };
            let what =
                if after.encrypted { "gets values sealed only" } else { "gets values that are not sealed" };
            changes.add(effect, &place, what, &after.clause, Asks::Nobody);
        }
        if before.manner != after.manner {
            let what = format!("{}, was {}", after.manner.as_str(), before.manner.as_str());
            changes.add(Effect::Changes, &place, what, &after.clause, self.asks());
        }
    }
}

fn longer(length: Length, other: Length) -> bool {
    // From a day on which no month is short.
    let from = crate::domain::time::Timestamp::from_micros(1_767_225_600_000_000);
    length.after(from) > other.after(from)
}

fn names<T: ToString>(set: &BTreeSet<T>) -> Vec<String> {
    set.iter().map(ToString::to_string).collect()
}

pub(super) fn basis(purpose: &Purpose) -> String {
    match &purpose.basis.kind {
        BasisKind::Consent => "consent".to_owned(),
        BasisKind::Law { article } => format!("law {article}"),
    }
}
