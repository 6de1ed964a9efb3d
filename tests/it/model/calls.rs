//! The same calls made of the vault, and its answers in words.

use std::{sync::Arc, time::Duration};

use sandyq::{
    crypto::random::SystemRng,
    domain::{
        consent::{Consent, ConsentAct, ConsentTerms, Language},
        ids::RequestId,
        reference::Reference,
        secret::Plaintext,
        subject::{RestrictionRequester, RestrictionTrigger},
        time::Timestamp,
        token::{AnyToken, Token},
    },
    grpc::status::error_row,
    policy::model::View,
    vault::{
        access::Call,
        act::Asker,
        consent::NewConsent as VaultConsent,
        detokenize::Detokenize,
        error::VaultError,
        lookup::{Comparison, Search},
        replay::{Asked, Part},
        revise::Correction,
        subjects::{Block, SubjectName, SubjectView},
        tokenize::{NewValue as VaultValue, NewValues},
    },
};

use super::{
    asks::{Ask, Ends, Flaw, Given, NewConsent, NewValue},
    state::{Model, Reason},
    world::{outreach, written},
};
use crate::common::vault::{OpenVault, as_admin, asker};

/// What the caller is told.
pub type Told = Result<Vec<String>, Reason>;

/// One sequence's calls. `when` is the time at which a request was made first: a retry has the same body.
pub struct Calls<'a> {
    pub open: &'a OpenVault,
    pub model: &'a Model,
    pub caller: &'static str,
    pub request: Option<(RequestId, u8)>,
    pub when: Timestamp,
}

/// A fresh request id.
pub fn request_id(open: &OpenVault) -> RequestId {
    RequestId::new(open.clock.now(), &SystemRng::new()).unwrap()
}

impl Calls<'_> {
    pub async fn make(&self, ask: &Ask) -> Told {
        let told = match ask {
            Ask::Tokenize { .. } => self.tokenize(ask).await,
            Ask::Detokenize { .. } | Ask::Compare { .. } | Ask::Lookup { .. } => self.question(ask).await,
            Ask::Describe { .. } | Ask::Revoke { .. } | Ask::Update { .. } => self.of_token(ask).await,
            Ask::Grant { .. } | Ask::Withdraw { .. } => self.of_consent(ask).await,
            Ask::Restrict { .. }
            | Ask::Unrestrict { .. }
            | Ask::Erase { .. }
            | Ask::Cancel { .. }
            | Ask::Get { .. } => self.of_person(ask).await,
        };
        told.map_err(|error| error_row(&error).reason)
    }

    fn asker(&self) -> Asker {
        let asker = if self.caller == "admin" { as_admin() } else { asker(self.caller) };
        let request = self.request.map(|(id, body)| Asked { id, body_mac: [body; 32], part: Part::Alone });
        Asker { request, ..asker }
    }

    fn caller(&self) -> Arc<sandyq::domain::caller::Caller> {
        if self.caller == "admin" { self.open.admin() } else { self.open.caller(self.caller) }
    }

    /// Staff names the platform that it acts for.
    fn platform(&self) -> &'static str {
        if self.caller == "admin" { "lerna" } else { "" }
    }

    fn reference_of(&self, person: usize) -> String {
        format!("model-{}-{person}", self.model.base)
    }

    fn token(&self, token: usize) -> AnyToken {
        match self.model.token_text(token) {
            Some(text) => AnyToken::parse(text).unwrap(),
            None => AnyToken::Random(Token::random(&SystemRng::new()).unwrap()),
        }
    }

    fn value(&self, field: &str, person: usize, which: super::world::Which) -> Plaintext {
        Plaintext::new(written(field, self.model.base, person, which))
    }

    fn end(&self, ends: Ends) -> Option<Timestamp> {
        match ends {
            Ends::Never => None,
            Ends::LongAgo => Some(self.when.plus_micros(-86_400_000_000)),
            Ends::InAnHour => Some(self.when.plus(Duration::from_hours(1))),
            Ends::InDays => Some(self.when.plus(Duration::from_hours(72))),
        }
    }

    fn consent(&self, new: &NewConsent) -> VaultConsent {
        let flawed = |flaw| new.flaw == Some(flaw);
        let mut fields: Vec<_> = new.fields.iter().map(|field| field.parse().unwrap()).collect();
        if flawed(Flaw::Field) {
            fields.push("ip_address".parse().unwrap());
        } else if flawed(Flaw::NoFields) {
            fields.clear();
        }
        let given_at = match new.given {
            Given::LongAgo => self.when.plus_micros(-2 * 86_400_000_000),
            Given::Now => self.when,
            Given::InAnHour => self.when.plus(Duration::from_hours(1)),
        };
        let terms = ConsentTerms {
            purpose: new.purpose.parse().unwrap(),
            fields,
            outreach: outreach(new.purpose, &new.fields),
            act: if flawed(Flaw::Act) { ConsentAct::Written } else { ConsentAct::Tick },
            given_at,
            expires_at: self.end(new.ends),
            third_party_transfer: false,
            cross_border_transfer: false,
            publication: new.publication,
            policy_version: if flawed(Flaw::Version) { 3 } else { 1 },
            language: if flawed(Flaw::Language) { Language::En } else { Language::Kk },
            text_sha256: [7; 32],
            site: if flawed(Flaw::Site) { "elsewhere.kz" } else { "skillbox.kz" }.parse().unwrap(),
        };
        let name = if flawed(Flaw::Name) { "" } else { "Сынақова Әлия" };
        VaultConsent { terms, subject_name: Plaintext::new(name.into()) }
    }

    async fn tokenize(&self, ask: &Ask) -> Result<Vec<String>, VaultError> {
        let Ask::Tokenize { person, kind, values, consents } = ask else { panic!("{ask:?}") };
        let value = |new: &NewValue| VaultValue {
            field: new.field.parse().unwrap(),
            value: self.value(new.field, *person, new.which),
            mode: new.mode,
            expires_at: self.end(new.ends),
            source: new.source,
            source_reference: new.source.needs_reference().then(|| Reference::parse("LIST-17").unwrap()),
        };
        let item = NewValues {
            subject_reference: self.reference_of(*person),
            subject_kind: *kind,
            fields: values.iter().map(value).collect(),
            consents: consents.iter().map(|consent| self.consent(consent)).collect(),
            keep_held_consents: false,
        };
        let vault = &self.open.vault;
        let answers = vault.tokenize(&self.caller(), self.asker(), Call::Tokenize, vec![item]).await;
        let stored = answers?.pop().unwrap()?;
        let mut said = vec![stored.subject.to_string()];
        for token in &stored.tokens {
            let created = if token.record_created { "new" } else { "held" };
            said.extend([token.token.reveal().to_string(), created.into()]);
        }
        said.extend(stored.consents.iter().map(ToString::to_string));
        Ok(said)
    }

    async fn question(&self, ask: &Ask) -> Result<Vec<String>, VaultError> {
        let (vault, caller) = (&self.open.vault, self.caller());
        let why = |reference: &bool| reference.then(|| Reference::parse("CASE-17").unwrap());
        match ask {
            Ask::Detokenize { token, purpose, view, reference } => {
                let question = Detokenize {
                    tokens: vec![Ok(self.token(*token))],
                    purpose: purpose.parse().unwrap(),
                    view: *view,
                    age_years: 0,
                    recipient: None,
                    outreach: outreach(purpose, &[self.model.owner(*token).1]),
                    reference: why(reference),
                    sealed: false,
                    call: Call::Detokenize,
                };
                let answers = vault.detokenize(&caller, self.asker(), question).await;
                let released = answers?.pop().unwrap()?;
                let view = View::as_str(released.view).to_owned();
                Ok(vec![released.value.expose().to_owned(), released.field.to_string(), view])
            }
            Ask::Compare { token, purpose, which, reference } => {
                let (person, field) = self.model.owner(*token);
                let question = Comparison {
                    token: self.token(*token),
                    purpose: purpose.parse().unwrap(),
                    candidate: self.value(field, person, *which),
                    outreach: outreach(purpose, &[field]),
                    reference: why(reference),
                };
                let compared = vault.compare_value(&caller, self.asker(), question).await?;
                Ok(vec![compared.equal.to_string()])
            }
            Ask::Lookup { field, person, which, purpose, reference } => {
                let search = Search {
                    field: field.parse().unwrap(),
                    value: self.value(field, *person, *which),
                    purpose: purpose.parse().unwrap(),
                    outreach: outreach(purpose, &[*field]),
                    reference: why(reference),
                };
                let (found, more) = vault.lookup_tokens(&caller, self.asker(), search).await?;
                let mut found: Vec<_> =
                    found.iter().map(|f| [f.subject.to_string(), f.token.reveal().to_string()]).collect();
                found.sort();
                Ok([more.to_string()].into_iter().chain(found.into_iter().flatten()).collect())
            }
            _ => panic!("{ask:?}"),
        }
    }

    async fn of_token(&self, ask: &Ask) -> Result<Vec<String>, VaultError> {
        let (vault, caller) = (&self.open.vault, self.caller());
        match ask {
            Ask::Describe { token } => {
                let told = vault.describe_token(&caller, self.asker(), self.token(*token)).await?;
                let purposes: Vec<_> = told.purposes.iter().map(ToString::to_string).collect();
                Ok(vec![
                    told.field.to_string(),
                    told.subject.to_string(),
                    told.mode.as_str().into(),
                    told.state.as_str().into(),
                    told.expired.to_string(),
                    told.record_version.to_string(),
                    told.source.as_str().into(),
                    purposes.join(" "),
                ])
            }
            Ask::Revoke { token } => {
                let at = vault.revoke_token(&caller, self.asker(), self.token(*token)).await?;
                Ok(vec![at.as_micros().to_string()])
            }
            Ask::Update { token, which, source } => {
                let (person, field) = self.model.owner(*token);
                let correction = Correction {
                    token: self.token(*token),
                    value: self.value(field, person, *which),
                    source: *source,
                    evidence: Reference::parse("ACT-17").unwrap(),
                };
                let corrected = vault.update_record(&caller, self.asker(), correction).await?;
                Ok(vec![corrected.version.to_string(), corrected.updated_at.as_micros().to_string()])
            }
            _ => panic!("{ask:?}"),
        }
    }

    async fn of_consent(&self, ask: &Ask) -> Result<Vec<String>, VaultError> {
        let (vault, caller) = (&self.open.vault, self.caller());
        let consent: Consent = match ask {
            Ask::Grant { person, consent } => {
                let (of, consent) = (self.reference_of(*person), self.consent(consent));
                vault.grant_consent(&caller, self.asker(), of, consent).await?
            }
            Ask::Withdraw { consent } => {
                let unknown = "con_aaaaaaaaaaaaaaaaaaaaaaaaaa";
                let id = self.model.consent_id(*consent).unwrap_or(unknown).parse().unwrap();
                vault.withdraw_consent(&caller, self.asker(), self.platform(), id).await?
            }
            _ => panic!("{ask:?}"),
        };
        Ok(vec![consent.id.to_string(), consent.state.as_str().into()])
    }

    async fn of_person(&self, ask: &Ask) -> Result<Vec<String>, VaultError> {
        let (vault, caller, platform) = (&self.open.vault, self.caller(), self.platform());
        let name = |person: &usize| SubjectName::Reference(self.reference_of(*person));
        let at = |time: Timestamp| time.as_micros().to_string();
        Ok(match ask {
            Ask::Restrict { person, ahead } => {
                let day = 86_400_000_000;
                let block = Block {
                    subject: name(person),
                    trigger: RestrictionTrigger::AccuracyDisputed,
                    requester: RestrictionRequester::Subject,
                    review_at: self.when.plus_micros(if *ahead { day } else { -day }),
                    reference: None,
                };
                vec![at(vault.restrict_subject(&caller, self.asker(), platform, block).await?.since)]
            }
            Ask::Unrestrict { person } => {
                vec![at(vault
                    .unrestrict_subject(&caller, self.asker(), platform, name(person), None)
                    .await?)]
            }
            Ask::Erase { person } => {
                let erasure =
                    vault.erase_subject(&caller, self.asker(), platform, name(person), None).await?;
                vec![at(erasure.erased_at), at(erasure.destroy_at), erasure.operation.to_string()]
            }
            Ask::Cancel { person } => {
                vec![at(vault.cancel_erasure(&caller, self.asker(), platform, name(person), None).await?)]
            }
            Ask::Get { person } => view(&vault.subject(&caller, self.asker(), platform, name(person)).await?),
            _ => panic!("{ask:?}"),
        })
    }
}

fn view(view: &SubjectView) -> Vec<String> {
    let mut said = vec![view.id.to_string(), view.kind.as_str().into(), view.state.as_str().into()];
    said.push(format!("restricted {}", view.restriction.is_some()));
    said.push(format!("erased {}", view.erasure.is_some()));
    said.push(format!("to be destroyed {}", view.operation.is_some()));
    said.extend(view.fields.iter().map(|f| format!("{} {} {}", f.field, f.version, f.source.as_str())));
    said.push(format!("{} tokens, {} consents", view.tokens, view.consents));
    said
}
