//! The rules, stated once more and plainly: what each call answers, or with which reason it is refused.

use sandyq::{
    domain::{
        subject::{SubjectKind, ValueSource},
        token::TokenMode,
    },
    policy::model::View,
};

use super::{
    asks::{Ask, Ends, Given, NewConsent, NewValue},
    state::{Consent, Model, Part, Reason, Record, Request, Standing, Token},
    world::{PURPOSES, Purpose, Which, collects, is_indexed, masked, normal, outreach, purpose, reads},
};

/// Outcomes that must have been seen, or the sequences are poor.
pub const OUTCOMES: &[Reason] = &[
    "Tokenize",
    "Detokenize",
    "Compare",
    "Lookup",
    "Describe",
    "Revoke",
    "Update",
    "Grant",
    "Withdraw",
    "Restrict",
    "Unrestrict",
    "Erase",
    "Cancel",
    "Get",
    "INVALID_FIELDS",
    "CALLER_NOT_ALLOWED",
    "PURPOSE_NOT_DECLARED",
    "PURPOSE_INERT",
    "VIEW_NOT_ALLOWED",
    "FIELD_NOT_ALLOWED",
    "TOKEN_NOT_FOUND",
    "SUBJECT_NOT_FOUND",
    "CONSENT_NOT_FOUND",
    "VALUE_DIFFERS",
    "VALUE_NOT_UNIQUE",
    "TOKEN_SPENT",
    "TOKEN_REVOKED",
    "TOKEN_EXPIRED",
    "SUBJECT_ERASED",
    "SUBJECT_RESTRICTED",
    "SUBJECT_DESTROYED",
    "SUBJECT_NOT_RESTRICTED",
    "SUBJECT_NOT_ERASED",
    "SUBJECT_KIND_NOT_ALLOWED",
    "SOURCE_NOT_ALLOWED",
    "QUARANTINED",
    "LEGAL_REFERENCE_MISSING",
    "PUBLICATION_CONSENT_MISSING",
    "CONSENT_MISSING",
    "CONSENT_WITHDRAWN",
    "CONSENT_EXPIRED",
    "REQUEST_ID_REUSED",
    "REQUEST_ID_REQUIRED",
];

/// Time as the model counts it: a tick a step, and far more in the pause between two halves.
pub const HOUR: i64 = 1_000;

impl Model {
    pub fn fresh(
        &mut self,
        caller: &'static str,
        request: Option<Request>,
        ask: &Ask,
        at: i64,
    ) -> Result<Vec<Part>, Reason> {
        match ask {
            Ask::Tokenize { person, kind, values, consents } => {
                self.tokenize(caller, *person, *kind, values, consents, at)
            }
            Ask::Detokenize { token, purpose, view, reference } => {
                let value = self.read(caller, *token, purpose, Some(*view), *reference, false)?;
                let token = &mut self.tokens[*token];
                if token.mode == TokenMode::OneTime {
                    if request.is_none() {
                        return Err("REQUEST_ID_REQUIRED");
                    }
                    token.state = "spent";
                }
                let shown = if *view == View::Masked { masked(token.field, &value) } else { value };
                Ok(vec![Part::Is(shown), is(token.field), is(view.as_str())])
            }
            Ask::Compare { token, purpose, which, reference } => {
                let value = self.read(caller, *token, purpose, None, *reference, false)?;
                let (person, field) = self.owner(*token);
                let equal = normal(field, self.base, person, *which) == Some(value);
                Ok(vec![Part::Is(equal.to_string())])
            }
            Ask::Lookup { field, person, which, purpose, reference } => {
                self.lookup(caller, field, *person, *which, purpose, *reference)
            }
            Ask::Describe { token } => self.describe(caller, *token),
            Ask::Revoke { token } => {
                self.own(caller, *token)?;
                self.tokens[*token].state = "revoked";
                Ok(vec![Part::Any])
            }
            Ask::Update { token, which, source } => self.update(caller, *token, *which, *source),
            Ask::Grant { person, consent } => {
                records_consents(caller)?;
                well_formed(consent, at)?;
                self.present(*person)?;
                self.storable(*person)?;
                let consent = self.record(*person, consent, at);
                Ok(vec![consent, is("granted")])
            }
            Ask::Withdraw { consent } => {
                manages(caller)?;
                let now = self.now;
                let held = self.consents.get_mut(*consent).ok_or("CONSENT_NOT_FOUND")?;
                held.withdrawn.get_or_insert(now);
                Ok(vec![Part::Consent(*consent), is("withdrawn")])
            }
            Ask::Restrict { person, .. }
            | Ask::Unrestrict { person }
            | Ask::Erase { person }
            | Ask::Cancel { person } => {
                self.move_person(caller, *person, ask)?;
                Ok(if matches!(ask, Ask::Erase { .. }) { vec![Part::Any; 3] } else { vec![Part::Any] })
            }
            Ask::Get { person } => {
                manages(caller)?;
                self.present(*person)?;
                Ok(self.view(*person))
            }
        }
    }

    /// An answer to a read for a purpose. `view` is none for a question that shows nothing.
    pub fn read(
        &self,
        caller: &str,
        token: usize,
        purpose: &str,
        view: Option<View>,
        reference: bool,
        again: bool,
    ) -> Result<String, Reason> {
        let purpose = may_ask(caller, purpose)?;
        if view.is_some_and(|view| view != View::Full && !(purpose.masked && view == View::Masked)) {
            return Err("VIEW_NOT_ALLOWED");
        }
        let token = self.token(token)?;
        // To a caller that has nothing to do with the field, the token never was.
        if !reads(caller, token.field) {
            return Err("TOKEN_NOT_FOUND");
        }
        if !purpose.fields.contains(&token.field) {
            return Err("FIELD_NOT_ALLOWED");
        }
        match token.state {
            "revoked" => return Err("TOKEN_REVOKED"),
            // Its answer was lost: the request that used it up may ask again for some minutes.
            "spent" if !again => return Err("TOKEN_SPENT"),
            _ if token.ends.is_some_and(|end| end <= self.now) => return Err("TOKEN_EXPIRED"),
            _ => {}
        }
        self.may_see(purpose, token.person, token.field, reference)
    }

    /// Whether a purpose may see a person's field now; and its value.
    fn may_see(
        &self,
        purpose: &Purpose,
        person: usize,
        field: &str,
        reference: bool,
    ) -> Result<String, Reason> {
        self.storable(person)?;
        let record = &self.people[person].records[field];
        let mine = || self.consents.iter().filter(|consent| consent.person == person);
        if record.source == ValueSource::Partner && mine().all(|consent| consent.withdrawn.is_some()) {
            return Err("QUARANTINED");
        }
        if purpose.law {
            return if reference { Ok(record.value.clone()) } else { Err("LEGAL_REFERENCE_MISSING") };
        }
        let covering: Vec<&Consent> =
            mine().filter(|c| c.purpose == purpose.name && c.fields.contains(&field)).collect();
        let last_no = covering.iter().filter_map(|consent| consent.withdrawn).max().unwrap_or(i64::MIN);
        // The last word counts: what was given or recorded before a withdrawal is ended by it.
        let (standing, ended): (Vec<&Consent>, Vec<&Consent>) =
            covering.into_iter().partition(|c| c.withdrawn.is_none() && c.given.min(c.recorded) > last_no);
        let begun: Vec<_> = standing.into_iter().filter(|c| c.given <= self.now).collect();
        let (live, expired): (Vec<_>, Vec<_>) =
            begun.into_iter().partition(|c| c.ends.is_none_or(|end| end > self.now));
        if live.iter().any(|c| c.publication || !purpose.publication) {
            Ok(record.value.clone())
        } else if !live.is_empty() {
            Err("PUBLICATION_CONSENT_MISSING")
        } else if !ended.is_empty() {
            Err("CONSENT_WITHDRAWN")
        } else if !expired.is_empty() {
            Err("CONSENT_EXPIRED")
        } else {
            Err("CONSENT_MISSING")
        }
    }

    fn tokenize(
        &mut self,
        caller: &str,
        person: usize,
        kind: Option<SubjectKind>,
        values: &[NewValue],
        consents: &[NewConsent],
        at: i64,
    ) -> Result<Vec<Part>, Reason> {
        if caller != "backend" && caller != "payments" {
            return Err("CALLER_NOT_ALLOWED");
        }
        for (n, value) in values.iter().enumerate() {
            let good = normal(value.field, self.base, person, value.which).is_some()
                && value.field != "shoe_size"
                && values[..n].iter().all(|other| other.field != value.field)
                && end(value.ends, at).is_none_or(|end| end > self.now);
            if !good {
                return Err("INVALID_FIELDS");
            }
        }
        consents.iter().try_for_each(|consent| well_formed(consent, at))?;
        for value in values {
            if !collects(caller, value.field) {
                return Err("CALLER_NOT_ALLOWED");
            }
            if value.source == ValueSource::Partner && value.field != "message" {
                return Err("SOURCE_NOT_ALLOWED");
            }
        }
        if !consents.is_empty() {
            records_consents(caller)?;
        }
        if kind == Some(SubjectKind::Legal) {
            return Err("SUBJECT_KIND_NOT_ALLOWED");
        }
        let known = self.people[person].standing != Standing::Absent;
        if known {
            self.storable(person)?;
            if kind.is_some_and(|kind| kind != self.people[person].kind) {
                return Err("SUBJECT_KIND_NOT_ALLOWED");
            }
        }
        for value in values {
            let normal = normal(value.field, self.base, person, value.which).unwrap();
            match self.people[person].records.get(value.field) {
                Some(held) if held.value != normal => return Err("VALUE_DIFFERS"),
                Some(_) => {}
                None => self.nobody_else_has(person, value.field, &normal)?,
            }
        }
        if !known {
            self.people[person].standing = Standing::Active;
            self.people[person].kind = kind.unwrap_or(SubjectKind::Natural);
        }
        let mut parts = vec![Part::Person(person)];
        for value in values {
            let records = &mut self.people[person].records;
            let created = !records.contains_key(value.field);
            let normal = normal(value.field, self.base, person, value.which).unwrap();
            records.entry(value.field).or_insert(Record { value: normal, version: 1, source: value.source });
            let token = self.token_of(person, value.field, value.mode, end(value.ends, at));
            parts.extend([Part::Token(token), is(if created { "new" } else { "held" })]);
        }
        parts.extend(consents.iter().map(|consent| self.record(person, consent, at)).collect::<Vec<_>>());
        Ok(parts)
    }

    /// A new token, or the one that the record has.
    fn token_of(&mut self, person: usize, field: &'static str, mode: TokenMode, ends: Option<i64>) -> usize {
        let same =
            |t: &Token| t.person == person && t.field == field && t.mode == mode && t.state == "active";
        let held = self.tokens.iter().position(same).filter(|_| mode == TokenMode::Deterministic);
        self.last = held.unwrap_or_else(|| {
            self.tokens.push(Token { text: None, person, field, mode, state: "active", ends });
            self.tokens.len() - 1
        });
        self.last
    }

    fn lookup(
        &mut self,
        caller: &str,
        field: &'static str,
        person: usize,
        which: Which,
        purpose: &str,
        reference: bool,
    ) -> Result<Vec<Part>, Reason> {
        let purpose = may_ask(caller, purpose)?;
        if !purpose.fields.contains(&field) {
            return Err("FIELD_NOT_ALLOWED");
        }
        let value = normal(field, self.base, person, which).ok_or("INVALID_FIELDS")?;
        let holds = |n: &usize| {
            self.people[*n].records.get(field).is_some_and(|record| record.value == value)
                && self.may_see(purpose, *n, field, reference).is_ok()
        };
        let mut found: Vec<_> = (0..self.people.len()).filter(|n| is_indexed(field) && holds(n)).collect();
        found.sort_by_key(|n| self.people[*n].id.clone());
        let mut parts = vec![is("false")];
        for person in found {
            let token = self.token_of(person, field, TokenMode::Deterministic, None);
            parts.extend([Part::Person(person), Part::Token(token)]);
        }
        Ok(parts)
    }

    fn describe(&self, caller: &str, token: usize) -> Result<Vec<Part>, Reason> {
        let token = self.own(caller, token)?;
        let record = &self.people[token.person].records[token.field];
        let mut purposes: Vec<_> = PURPOSES
            .iter()
            .filter(|purpose| purpose.caller == caller && purpose.fields.contains(&token.field))
            .map(|purpose| purpose.name)
            .collect();
        purposes.sort_unstable();
        let expired = token.ends.is_some_and(|end| end <= self.now);
        Ok(vec![
            is(token.field),
            Part::Person(token.person),
            is(token.mode.as_str()),
            is(token.state),
            Part::Is(expired.to_string()),
            Part::Is(record.version.to_string()),
            is(record.source.as_str()),
            Part::Is(purposes.join(" ")),
        ])
    }

    fn update(
        &mut self,
        caller: &str,
        token: usize,
        which: Which,
        source: ValueSource,
    ) -> Result<Vec<Part>, Reason> {
        let Token { person, field, state, ends, .. } = *self.own(caller, token)?;
        if !collects(caller, field) {
            return Err("CALLER_NOT_ALLOWED");
        }
        if source == ValueSource::Partner && field != "message" {
            return Err("SOURCE_NOT_ALLOWED");
        }
        self.storable(person)?;
        match state {
            "spent" => return Err("TOKEN_SPENT"),
            "revoked" => return Err("TOKEN_REVOKED"),
            _ if ends.is_some_and(|end| end <= self.now) => return Err("TOKEN_EXPIRED"),
            _ => {}
        }
        let value = normal(field, self.base, person, which).ok_or("INVALID_FIELDS")?;
        self.nobody_else_has(person, field, &value)?;
        let record = self.people[person].records.get_mut(field).unwrap();
        if record.value != value {
            *record = Record { value, version: record.version + 1, source };
        }
        Ok(vec![Part::Is(record.version.to_string()), Part::Any])
    }

    fn move_person(&mut self, caller: &str, person: usize, ask: &Ask) -> Result<(), Reason> {
        match ask {
            // Staff alone calls an erasure off.
            Ask::Cancel { .. } if caller != "admin" => return Err("CALLER_NOT_ALLOWED"),
            _ => manages(caller)?,
        }
        self.present(person)?;
        let next = match (ask, self.people[person].standing) {
            (Ask::Cancel { .. }, Standing::Destroyed) => return Err("SUBJECT_DESTROYED"),
            (Ask::Cancel { .. }, Standing::Erased) => {
                if let Some(email) = self.people[person].records.get("email").map(|r| r.value.clone()) {
                    self.nobody_else_has(person, "email", &email)?;
                }
                Standing::Active
            }
            (Ask::Cancel { .. }, _) => return Err("SUBJECT_NOT_ERASED"),
            (_, Standing::Erased | Standing::Destroyed) => return Err("SUBJECT_ERASED"),
            (Ask::Restrict { ahead: false, .. }, _) => return Err("INVALID_FIELDS"),
            (Ask::Restrict { .. }, _) => Standing::Restricted,
            (Ask::Unrestrict { .. }, Standing::Active) => return Err("SUBJECT_NOT_RESTRICTED"),
            (Ask::Unrestrict { .. }, _) => Standing::Active,
            (Ask::Erase { .. }, Standing::Restricted) => return Err("SUBJECT_RESTRICTED"),
            _ => Standing::Erased,
        };
        self.people[person].standing = next;
        Ok(())
    }

    /// What is held of a person.
    pub fn view(&self, n: usize) -> Vec<Part> {
        let person = &self.people[n];
        let (standing, gone) = (person.standing, person.standing == Standing::Destroyed);
        let erased = standing == Standing::Erased || gone;
        let state = match standing {
            Standing::Restricted => "restricted",
            Standing::Erased | Standing::Destroyed => "erased",
            Standing::Active | Standing::Absent => "active",
        };
        let flag = |name: &str, set: bool| Part::Is(format!("{name} {set}"));
        let mut parts = vec![Part::Person(n), is(person.kind.as_str()), is(state)];
        parts.push(flag("restricted", standing == Standing::Restricted));
        parts.extend([flag("erased", erased), flag("to be destroyed", erased && !gone)]);
        parts.extend(person.records.iter().map(|(field, record)| {
            Part::Is(format!("{field} {} {}", record.version, record.source.as_str()))
        }));
        let tokens = self.tokens.iter().filter(|token| token.person == n && !gone).count();
        let consents = self.consents.iter().filter(|consent| consent.person == n).count();
        parts.push(Part::Is(format!("{tokens} tokens, {consents} consents")));
        parts
    }

    fn record(&mut self, person: usize, new: &NewConsent, at: i64) -> Part {
        self.consents.push(Consent {
            id: None,
            person,
            purpose: new.purpose,
            fields: new.fields.clone(),
            given: given(new.given, at),
            recorded: self.now,
            ends: end(new.ends, at),
            publication: new.publication,
            withdrawn: None,
        });
        Part::Consent(self.consents.len() - 1)
    }

    /// The email is unique among those whose data may come into use again.
    fn nobody_else_has(&self, person: usize, field: &str, value: &str) -> Result<(), Reason> {
        let taken = self.people.iter().enumerate().any(|(n, other)| {
            n != person
                && matches!(other.standing, Standing::Active | Standing::Restricted)
                && other.records.get(field).is_some_and(|record| record.value == value)
        });
        if field == "email" && taken { Err("VALUE_NOT_UNIQUE") } else { Ok(()) }
    }

    fn token(&self, token: usize) -> Result<&Token, Reason> {
        let found = self.tokens.get(token).filter(|t| self.people[t.person].standing != Standing::Destroyed);
        found.ok_or("TOKEN_NOT_FOUND")
    }

    /// A token whose field the caller stores or reads.
    pub fn own(&self, caller: &str, token: usize) -> Result<&Token, Reason> {
        let found = self.token(token)?;
        if collects(caller, found.field) || reads(caller, found.field) {
            Ok(found)
        } else {
            Err("TOKEN_NOT_FOUND")
        }
    }

    fn present(&self, person: usize) -> Result<(), Reason> {
        if self.people[person].standing == Standing::Absent { Err("SUBJECT_NOT_FOUND") } else { Ok(()) }
    }

    pub fn storable(&self, person: usize) -> Result<(), Reason> {
        match self.people[person].standing {
            Standing::Absent | Standing::Active => Ok(()),
            Standing::Restricted => Err("SUBJECT_RESTRICTED"),
            Standing::Erased | Standing::Destroyed => Err("SUBJECT_ERASED"),
        }
    }
}

pub fn end(ends: Ends, at: i64) -> Option<i64> {
    match ends {
        Ends::Never => None,
        Ends::LongAgo => Some(-HOUR),
        Ends::InAnHour => Some(at + HOUR),
        Ends::InDays => Some(at + 72 * HOUR),
    }
}

/// Whether the policy takes a consent as it is written.
fn well_formed(consent: &NewConsent, at: i64) -> Result<(), Reason> {
    let covered = purpose(consent.purpose)
        .is_some_and(|purpose| consent.fields.iter().all(|field| purpose.fields.contains(field)));
    let ends_early = end(consent.ends, at).is_some_and(|end| end <= given(consent.given, at));
    // A telephone takes no letters, and a mailbox no calls.
    let mixed = outreach(consent.purpose, &consent.fields).is_some() && consent.fields.len() > 1;
    let good = covered && !mixed && !consent.fields.is_empty() && !ends_early && consent.flaw.is_none();
    if good { Ok(()) } else { Err("INVALID_FIELDS") }
}

fn given(given: Given, at: i64) -> i64 {
    match given {
        Given::LongAgo => -2 * HOUR,
        Given::Now => at,
        Given::InAnHour => at + HOUR,
    }
}

fn is(text: &str) -> Part {
    Part::Is(text.to_owned())
}

fn may_ask(caller: &str, name: &str) -> Result<&'static Purpose, Reason> {
    let purpose = purpose(name).ok_or("PURPOSE_NOT_DECLARED")?;
    match purpose.caller {
        "" => Err("PURPOSE_INERT"),
        own if own == caller => Ok(purpose),
        _ => Err("CALLER_NOT_ALLOWED"),
    }
}

fn records_consents(caller: &str) -> Result<(), Reason> {
    if caller == "backend" { Ok(()) } else { Err("CALLER_NOT_ALLOWED") }
}

/// The platform's service that the policy names, and staff.
fn manages(caller: &str) -> Result<(), Reason> {
    if caller == "backend" || caller == "admin" { Ok(()) } else { Err("CALLER_NOT_ALLOWED") }
}
