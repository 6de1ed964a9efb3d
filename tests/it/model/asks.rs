//! What is asked of model and vault, and the random sequences of it.

use sandyq::{
    domain::{
        subject::{SubjectKind, ValueSource},
        token::TokenMode,
    },
    policy::model::View,
};

use super::world::{CALLERS, FIELDS, PURPOSES, Which, purpose};
use crate::common::random::Choices;

/// Number of a token or consent that never was.
pub const UNKNOWN: usize = usize::MAX;
/// The token that the step before was about, or the newest consent.
pub const SAME: usize = usize::MAX - 1;

/// When a consent was given.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Given {
    LongAgo,
    Now,
    InAnHour,
}

/// When a token or consent ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Ends {
    Never,
    LongAgo,
    InAnHour,
    InDays,
}

/// What a consent has that the policy does not take.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Flaw {
    Act,
    Language,
    Site,
    Version,
    Name,
    Field,
    NoFields,
}

#[derive(Debug, Clone)]
pub struct NewConsent {
    pub purpose: &'static str,
    pub fields: Vec<&'static str>,
    pub given: Given,
    pub ends: Ends,
    pub publication: bool,
    pub flaw: Option<Flaw>,
}

#[derive(Debug, Clone)]
pub struct NewValue {
    pub field: &'static str,
    pub which: Which,
    pub mode: TokenMode,
    pub ends: Ends,
    pub source: ValueSource,
}

/// One call. People, tokens and consents are named by their number in the sequence.
#[derive(Debug, Clone)]
pub enum Ask {
    Tokenize { person: usize, kind: Option<SubjectKind>, values: Vec<NewValue>, consents: Vec<NewConsent> },
    Detokenize { token: usize, purpose: &'static str, view: View, reference: bool },
    Compare { token: usize, purpose: &'static str, which: Which, reference: bool },
    Lookup { field: &'static str, person: usize, which: Which, purpose: &'static str, reference: bool },
    Describe { token: usize },
    Revoke { token: usize },
    Update { token: usize, which: Which, source: ValueSource },
    Grant { person: usize, consent: NewConsent },
    Withdraw { consent: usize },
    Restrict { person: usize, ahead: bool },
    Unrestrict { person: usize },
    Erase { person: usize },
    Cancel { person: usize },
    Get { person: usize },
}

impl Ask {
    /// Which call it is.
    pub fn name(&self) -> String {
        format!("{self:?}").split(' ').next().unwrap().to_owned()
    }
}

/// A step of a sequence.
#[derive(Debug, Clone)]
pub enum Step {
    /// `fitting`: of a token that the purpose covers, or a person whose state can end so, as long as there is one.
    Ask { caller: &'static str, ask: Ask, with_id: bool, fitting: bool },
    /// Asks again what was asked with an id, the `nth` before last, the same way or with another body.
    Again { nth: usize, other_body: bool },
}

/// A sequence, in two halves: hours pass between them.
pub fn sequence(choices: &mut Choices) -> [Vec<Step>; 2] {
    let people = size(choices, 1, 3);
    let mut first: Vec<_> = (0..people).map(|person| opening(choices, person)).collect();
    let mut rest = Vec::new();
    let length = size(choices, 4, 22);
    while rest.len() < length {
        if one_in(choices, 8) {
            rest.extend(story(choices, people));
        } else {
            rest.push(step(choices, people));
        }
    }
    // Half of the sequences have no pause, so that there is room for all that happens within an hour.
    let later = if choices.below(2) == 0 { Vec::new() } else { rest.split_off(rest.len() / 2) };
    first.append(&mut rest);
    [first, later]
}

fn size(choices: &mut Choices, from: usize, to: usize) -> usize {
    from + usize::try_from(choices.below(u64::try_from(to - from + 1).unwrap())).unwrap()
}

fn one_in(choices: &mut Choices, n: u64) -> bool {
    choices.below(n) == 0
}

/// Something to work with: most values of a person and two consents.
fn opening(choices: &mut Choices, person: usize) -> Step {
    let values = FIELDS.iter().take(size(choices, 4, 7)).map(|field| {
        let mode = *choices.pick(TokenMode::ALL);
        let ends = if mode == TokenMode::Expiring { Ends::InAnHour } else { Ends::Never };
        let partner = *field == "message" && one_in(choices, 2);
        let source = if partner { ValueSource::Partner } else { ValueSource::Subject };
        let which = if one_in(choices, 16) { Which::OfNext } else { Which::First };
        NewValue { field, which, mode, ends, source }
    });
    let values = values.collect();
    let given = |choices: &mut Choices, purpose| NewConsent { flaw: None, ..consent(choices, purpose) };
    let mut consents = vec![given(choices, "payments"), given(choices, "request_comms")];
    if one_in(choices, 4) {
        consents.clear();
    } else if one_in(choices, 2) {
        let purpose = *choices.pick(&["marketing_mail", "content_publication", "bank_credit"]);
        consents.push(given(choices, purpose));
    }
    for consent in consents.iter_mut().filter(|_| !one_in(choices, 6)) {
        (consent.given, consent.ends) = (Given::LongAgo, Ends::Never);
    }
    let ask = Ask::Tokenize { person, kind: None, values, consents };
    Step::Ask { caller: "backend", ask, with_id: true, fitting: true }
}

fn good(field: &'static str, mode: TokenMode) -> NewValue {
    NewValue { field, which: Which::First, mode, ends: Ends::Never, source: ValueSource::Subject }
}

fn value(choices: &mut Choices) -> NewValue {
    let mode = *choices.pick(TokenMode::ALL);
    let ends = match mode {
        TokenMode::Expiring if one_in(choices, 8) => Ends::LongAgo,
        TokenMode::Expiring => *choices.pick(&[Ends::InAnHour, Ends::InDays]),
        TokenMode::Random | TokenMode::Deterministic | TokenMode::OneTime | TokenMode::Digits => Ends::Never,
    };
    let field = if one_in(choices, 40) { "shoe_size" } else { *choices.pick(&FIELDS) };
    let partner = one_in(choices, if field == "message" { 2 } else { 30 });
    let source = if partner { ValueSource::Partner } else { ValueSource::Subject };
    NewValue { which: which(choices), ends, source, ..good(field, mode) }
}

fn which(choices: &mut Choices) -> Which {
    use Which::{Bad, First, OfNext, Rewritten, Second};
    match choices.below(20) {
        0 => Bad,
        1 => OfNext,
        2..=4 => Second,
        5..=7 => Rewritten,
        _ => First,
    }
}

/// A consent that is well formed, but for one in twelve.
fn consent(choices: &mut Choices, purpose: &'static str) -> NewConsent {
    use Flaw::{Act, Field, Language, Name, NoFields, Site, Version};
    let mut fields = super::world::purpose(purpose).map_or(vec!["iin"], |purpose| purpose.fields.to_vec());
    if one_in(choices, 3) && fields.len() > 1 {
        fields.truncate(size(choices, 1, fields.len() - 1));
    }
    // Letters or calls, each with a consent of its own; at times one for both, which is refused.
    if super::world::outreach(purpose, &fields).is_some() && !one_in(choices, 8) {
        fields = vec![*choices.pick(&["email", "phone"])];
    }
    let flaws = [Act, Language, Site, Version, Name, Field, NoFields];
    let flaw = one_in(choices, 24).then(|| *choices.pick(&flaws));
    let given =
        *choices.pick(&[Given::LongAgo, Given::LongAgo, Given::Now, Given::Now, Given::Now, Given::InAnHour]);
    let ends = match (choices.below(12), given) {
        (0, _) | (1..=3, Given::LongAgo) => Ends::LongAgo,
        (4, _) => Ends::InAnHour,
        (5, _) => Ends::InDays,
        _ => Ends::Never,
    };
    NewConsent { purpose, fields, given, ends, publication: one_in(choices, 2), flaw }
}

fn any_consent(choices: &mut Choices) -> NewConsent {
    let purpose = purpose_of(choices);
    consent(choices, purpose)
}

/// Mostly one that somebody reads by.
fn purpose_of(choices: &mut Choices) -> &'static str {
    match choices.below(40) {
        0 => "resale",
        1 => "ad_stats",
        2 => "legal",
        3..=25 => {
            choices.pick::<&str>(&["payments", "request_comms", "request_comms", "content_publication"])
        }
        _ => choices.pick(&PURPOSES[..PURPOSES.len() - 2]).name,
    }
}

/// The purpose's caller, mostly.
fn caller_of(choices: &mut Choices, of: &str) -> &'static str {
    let own = purpose(of).map(|purpose| purpose.caller).filter(|caller| !caller.is_empty());
    own.filter(|_| !one_in(choices, 8)).unwrap_or_else(|| service(choices))
}

fn service(choices: &mut Choices) -> &'static str {
    choices.pick::<&str>(&CALLERS[..CALLERS.len() - 1])
}

fn writer(choices: &mut Choices) -> &'static str {
    if one_in(choices, 12) { service(choices) } else { "backend" }
}

fn manager(choices: &mut Choices) -> &'static str {
    match choices.below(12) {
        0 => service(choices),
        1..=3 => "admin",
        _ => "backend",
    }
}

fn nth(choices: &mut Choices) -> usize {
    match choices.below(30) {
        0 => UNKNOWN,
        1..=5 => SAME,
        _ => size(choices, 0, 999),
    }
}

/// What seldom comes by chance, step after step.
fn story(choices: &mut Choices, people: usize) -> Vec<Step> {
    let person = size(choices, 0, people - 1);
    let by = |caller, ask| Step::Ask { caller, ask, with_id: true, fitting: true };
    let store = |person, value| {
        by("backend", Ask::Tokenize { person, kind: None, values: vec![value], consents: Vec::new() })
    };
    let email = |which| NewValue { which, ..good("email", TokenMode::Random) };
    let other = store((person + 2) % 3, email(Which::OfNext));
    let (caller, purpose) = *choices.pick(&[("payments", "payments"), ("support", "request_comms")]);
    let token = size(choices, 0, 999);
    let read = || by(caller, Ask::Detokenize { token, purpose, view: View::Full, reference: true });
    match choices.below(8) {
        // A unique value that somebody else takes over, while its person is erased or after a correction.
        0 => vec![by("backend", Ask::Erase { person }), other, by("admin", Ask::Cancel { person })],
        1 => {
            let source = ValueSource::Subject;
            let correct = Ask::Update { token: SAME, which: Which::Second, source };
            vec![store(person, email(Which::First)), by("backend", correct), other]
        }
        // A call that changes nothing, and its id with another body.
        2 => {
            let same = || store(person, good("iin", TokenMode::Deterministic));
            vec![same(), same(), Step::Again { nth: 0, other_body: true }]
        }
        // A consent recorded twice and withdrawn once; a fresh one opens the purpose again.
        3 | 4 => {
            let grant = |given| {
                let fields = super::world::purpose(purpose).unwrap().fields.to_vec();
                let (ends, publication, flaw) = (Ends::Never, false, None);
                let consent = NewConsent { purpose, fields, given, ends, publication, flaw };
                by("backend", Ask::Grant { person, consent })
            };
            let withdraw = by("backend", Ask::Withdraw { consent: SAME });
            let twice = [grant(Given::LongAgo), grant(Given::Now), withdraw, read()];
            twice.into_iter().chain([grant(Given::LongAgo), read(), grant(Given::Now), read()]).collect()
        }
        // A permission that ends between an answer and its retry.
        _ => {
            let end = match choices.below(5) {
                0 => Ask::Withdraw { consent: nth(choices) },
                1 => Ask::Restrict { person, ahead: true },
                2 => Ask::Erase { person },
                _ => Ask::Revoke { token: SAME },
            };
            vec![read(), by("backend", end), Step::Again { nth: 1, other_body: false }]
        }
    }
}

fn step(choices: &mut Choices, people: usize) -> Step {
    let person = size(choices, 0, people - 1);
    let (caller, ask) = match choices.below(100) {
        0..=11 => {
            let kind = match choices.below(20) {
                0 => Some(SubjectKind::Legal),
                1 => Some(SubjectKind::Represented),
                2 => Some(SubjectKind::Natural),
                _ => None,
            };
            let values = (0..size(choices, 1, 2)).map(|_| value(choices)).collect();
            let consents = (0..size(choices, 0, 3) / 2).map(|_| any_consent(choices)).collect();
            (writer(choices), Ask::Tokenize { person, kind, values, consents })
        }
        12..=43 => {
            let purpose = purpose_of(choices);
            let view = match choices.below(24) {
                0 => View::BirthYear,
                1..=5 => View::Masked,
                _ => View::Full,
            };
            let ask = Ask::Detokenize { token: nth(choices), purpose, view, reference: one_in(choices, 2) };
            (caller_of(choices, purpose), ask)
        }
        44..=48 => {
            let (purpose, which) = (purpose_of(choices), which(choices));
            let ask = Ask::Compare { token: nth(choices), purpose, which, reference: one_in(choices, 2) };
            (caller_of(choices, purpose), ask)
        }
        49..=54 => {
            let purpose = purpose_of(choices);
            let fields = super::world::purpose(purpose).map_or(&FIELDS[..], |purpose| purpose.fields);
            let any = one_in(choices, 8) || fields.is_empty();
            let field = if any { choices.pick(&FIELDS) } else { choices.pick(fields) };
            let which = which(choices);
            let ask = Ask::Lookup { field, person, which, purpose, reference: one_in(choices, 2) };
            (caller_of(choices, purpose), ask)
        }
        55..=56 => {
            (*choices.pick(&["backend", "payments", "support"]), Ask::Describe { token: nth(choices) })
        }
        57..=60 => (*choices.pick(&["backend", "backend", "payments"]), Ask::Revoke { token: nth(choices) }),
        61..=65 => {
            let source = if one_in(choices, 5) { ValueSource::Partner } else { ValueSource::Subject };
            (writer(choices), Ask::Update { token: nth(choices), which: which(choices), source })
        }
        66..=70 => (writer(choices), Ask::Grant { person, consent: any_consent(choices) }),
        71..=75 => (manager(choices), Ask::Withdraw { consent: nth(choices) }),
        76..=77 => (manager(choices), Ask::Restrict { person, ahead: !one_in(choices, 6) }),
        78..=79 => (manager(choices), Ask::Unrestrict { person }),
        80..=81 => (manager(choices), Ask::Erase { person }),
        82..=83 => (*choices.pick(&["admin", "admin", "admin", "backend"]), Ask::Cancel { person }),
        84 => (manager(choices), Ask::Get { person }),
        _ => {
            let far = if one_in(choices, 3) { 999 } else { 3 };
            return Step::Again { nth: size(choices, 0, far), other_body: one_in(choices, 5) };
        }
    };
    Step::Ask { caller, ask, with_id: !one_in(choices, 6), fitting: !one_in(choices, 5) }
}
