//! What the model holds, what a retry is answered, and how an answer is compared with the expected one.

use std::collections::{BTreeMap, HashMap};

use sandyq::domain::{
    subject::{SubjectKind, ValueSource},
    token::TokenMode,
};

use super::{
    asks::{Ask, SAME, Step, UNKNOWN},
    rules::HOUR,
    world::{FIELDS, purpose as purpose_named},
};

pub type Reason = &'static str;

/// A part of an answer.
#[derive(Debug, Clone, PartialEq)]
pub enum Part {
    Is(String),
    /// The text of a token, or the id of a consent or person: a new one says it here for the first time.
    Token(usize),
    Consent(usize),
    Person(usize),
    /// An instant or an id that only a retry repeats.
    Any,
}

#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Standing {
    Absent,
    Active,
    Restricted,
    Erased,
    Destroyed,
}

pub struct Person {
    pub id: Option<String>,
    pub standing: Standing,
    pub kind: SubjectKind,
    pub records: BTreeMap<&'static str, Record>,
}

pub struct Record {
    pub value: String,
    pub version: u32,
    pub source: ValueSource,
}

pub struct Token {
    pub text: Option<String>,
    pub person: usize,
    pub field: &'static str,
    pub mode: TokenMode,
    pub state: &'static str,
    pub ends: Option<i64>,
}

pub struct Consent {
    pub id: Option<String>,
    pub person: usize,
    pub purpose: &'static str,
    pub fields: Vec<&'static str>,
    pub given: i64,
    pub recorded: i64,
    pub ends: Option<i64>,
    pub publication: bool,
    pub withdrawn: Option<i64>,
}

/// A request that was done, and what was said then.
struct Done {
    body: u8,
    at: i64,
    said: Vec<String>,
}

/// A request id with the number of its body.
pub type Request = (usize, u8);

pub struct Model {
    pub base: u32,
    pub now: i64,
    pub people: Vec<Person>,
    pub tokens: Vec<Token>,
    pub consents: Vec<Consent>,
    done: HashMap<(&'static str, usize), Done>,
    /// The token that was asked about or made last.
    pub last: usize,
}

impl Model {
    pub fn new(base: u32) -> Self {
        let absent = || Person {
            id: None,
            standing: Standing::Absent,
            kind: SubjectKind::Natural,
            records: BTreeMap::new(),
        };
        let people = (0..3).map(|_| absent()).collect();
        let (tokens, consents) = (Vec::new(), Vec::new());
        Self { base, now: 0, people, tokens, consents, done: HashMap::new(), last: UNKNOWN }
    }

    /// The present tick, and on to the next.
    pub fn tick(&mut self) -> i64 {
        self.now += 1;
        self.now
    }

    /// Hours pass: what is erased is destroyed.
    pub fn pause(&mut self) {
        self.now += 5 * HOUR;
        for person in &mut self.people {
            if person.standing == Standing::Erased {
                person.standing = Standing::Destroyed;
                person.records.clear();
            }
        }
    }

    /// Puts the numbers of tokens and consents that there are in place of any numbers.
    pub fn resolve(&mut self, step: &Step) -> Option<(&'static str, Ask, bool)> {
        let Step::Ask { caller, ask, with_id, fitting } = step else { return None };
        let mut ask = ask.clone();
        match &mut ask {
            Ask::Detokenize { token, purpose, .. } | Ask::Compare { token, purpose, .. } => {
                let fields = purpose_named(purpose).filter(|_| *fitting).map_or(&FIELDS[..], |p| p.fields);
                *token = self.pick_token(fields, *token);
            }
            Ask::Describe { token } | Ask::Revoke { token } | Ask::Update { token, .. } => {
                *token = self.pick_token(&FIELDS, *token);
            }
            Ask::Withdraw { consent } => {
                *consent = match (*consent, self.consents.len()) {
                    (UNKNOWN, _) | (_, 0) => UNKNOWN,
                    (SAME, all) => all - 1,
                    (nth, all) => nth % all,
                };
            }
            Ask::Unrestrict { person } if *fitting => {
                *person = self.first_in(&[Standing::Restricted]).unwrap_or(*person);
            }
            Ask::Cancel { person } if *fitting => {
                *person = self.first_in(&[Standing::Erased, Standing::Destroyed]).unwrap_or(*person);
            }
            _ => {}
        }
        Some((caller, ask, *with_id))
    }

    fn pick_token(&mut self, fields: &[&str], nth: usize) -> usize {
        let fit = |n: &usize| fields.contains(&self.tokens[*n].field);
        let from: Vec<_> = (0..self.tokens.len()).filter(fit).collect();
        let token = match nth {
            SAME => return self.last,
            UNKNOWN => UNKNOWN,
            _ if from.is_empty() => UNKNOWN,
            _ => from[nth % from.len()],
        };
        self.last = token;
        token
    }

    fn first_in(&self, standings: &[Standing]) -> Option<usize> {
        self.people.iter().position(|person| standings.contains(&person.standing))
    }

    pub fn token_text(&self, token: usize) -> Option<&str> {
        self.tokens.get(token).map(|token| token.text.as_deref().expect("stored tokens are known"))
    }

    pub fn consent_id(&self, consent: usize) -> Option<&str> {
        self.consents.get(consent).map(|consent| consent.id.as_deref().expect("recorded consents are known"))
    }

    /// The person whose record is behind a token; of one that never was the first.
    pub fn owner(&self, token: usize) -> (usize, &'static str) {
        self.tokens.get(token).map_or((0, "iin"), |token| (token.person, token.field))
    }

    /// What the call must answer. `at` is when it was asked first.
    pub fn expect(
        &mut self,
        caller: &'static str,
        request: Option<Request>,
        ask: &Ask,
        at: i64,
    ) -> Result<Vec<Part>, Reason> {
        let before = request.and_then(|(id, body)| self.done.get(&(caller, id)).map(|done| (done, body)));
        match before {
            Some(_) if is_question(ask) => self.fresh(caller, request, ask, at),
            Some((done, body)) if done.body != body => Err("REQUEST_ID_REUSED"),
            Some((done, _)) => {
                let (said, asked) = (done.said.clone(), done.at);
                self.again(caller, ask, asked)?;
                Ok(match ask {
                    // A consent is answered as it stands now.
                    Ask::Grant { .. } => {
                        let id = said.first().unwrap();
                        let held =
                            self.consents.iter().find(|consent| consent.id.as_ref() == Some(id)).unwrap();
                        let state = if held.withdrawn.is_some() { "withdrawn" } else { "granted" };
                        vec![Part::Is(id.clone()), Part::Is(state.into())]
                    }
                    _ => said.into_iter().map(Part::Is).collect(),
                })
            }
            None => self.fresh(caller, request, ask, at),
        }
    }

    /// Takes over what a good answer said.
    pub fn learn(&mut self, caller: &'static str, request: Option<Request>, ask: &Ask, said: Vec<String>) {
        let spends = match ask {
            Ask::Detokenize { token, .. } => self.tokens[*token].mode == TokenMode::OneTime,
            _ => !is_question(ask),
        };
        if let Some((id, body)) = request.filter(|_| spends) {
            self.done.entry((caller, id)).or_insert(Done { body, at: self.now, said });
        }
    }

    /// Whether the answer is the expected one; what is new in it is kept.
    pub fn matches(&mut self, parts: &[Part], said: &[String]) -> bool {
        parts.len() == said.len() && parts.iter().zip(said).all(|(part, said)| self.is(part, said))
    }

    fn is(&mut self, part: &Part, said: &str) -> bool {
        let known = match part {
            Part::Any => return true,
            Part::Is(text) => return text == said,
            Part::Token(n) => self.tokens[*n].text.clone(),
            Part::Consent(n) => self.consents[*n].id.clone(),
            Part::Person(n) => self.people[*n].id.clone(),
        };
        if let Some(known) = known {
            return known == said;
        }
        let taken = |id: &Option<String>| id.as_deref() == Some(said);
        let new = !self.tokens.iter().any(|token| taken(&token.text))
            && !self.consents.iter().any(|consent| taken(&consent.id))
            && !self.people.iter().any(|person| taken(&person.id));
        match part {
            Part::Token(n) => self.tokens[*n].text = Some(said.into()),
            Part::Consent(n) => self.consents[*n].id = Some(said.into()),
            Part::Person(n) => self.people[*n].id = Some(said.into()),
            Part::Is(_) | Part::Any => {}
        }
        new
    }

    /// Whether a retry is answered: the caller and the data must still be in order.
    fn again(&mut self, caller: &str, ask: &Ask, asked: i64) -> Result<(), Reason> {
        match ask {
            Ask::Tokenize { person, .. } => self.storable(*person),
            Ask::Detokenize { token, purpose, view, reference } => {
                let recent = self.now - asked < HOUR / 6;
                self.read(caller, *token, purpose, Some(*view), *reference, recent).map(drop)
            }
            Ask::Revoke { token } | Ask::Update { token, .. } => self.own(caller, *token).map(drop),
            _ => Ok(()),
        }
    }
}

/// Questions change nothing, and their request id means nothing.
const fn is_question(ask: &Ask) -> bool {
    matches!(ask, Ask::Compare { .. } | Ask::Lookup { .. } | Ask::Describe { .. } | Ask::Get { .. })
}
