//! Calls with a request id: as they were sent, and what came of them.

use std::{collections::HashMap, net::SocketAddr, path::Path};

use sandyq::grpc::pb::{
    self, consent_service_client::ConsentServiceClient, subject_service_client::SubjectServiceClient,
    vault_service_client::VaultServiceClient,
};
use tonic::{Status, transport::Channel};
use tonic_types::StatusExt as _;

use crate::common::{
    child::{Server, channel_to},
    people::{iin, tokenize_request},
    served::{detokenize_request, request_id},
};

/// A call about a synthetic person, by its number.
#[derive(Clone)]
pub struct Sent {
    pub person: u32,
    pub what: What,
}

#[derive(Clone)]
pub enum What {
    Tokenize(pb::TokenizeRequest),
    /// Of a token that answers once.
    Detokenize(pb::DetokenizeRequest),
    Withdraw(pb::WithdrawConsentRequest),
}

/// What a retry must answer again. Of a value not its entry: a replay has an entry of its own.
#[derive(Clone, PartialEq)]
pub enum Answer {
    Tokens(pb::TokenizeResponse),
    Value(String),
    Withdrawn(pb::WithdrawConsentResponse),
}

/// By person and request: no token belongs into the output of a test.
impl std::fmt::Debug for Sent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let what = match &self.what {
            What::Tokenize(_) => "Tokenize",
            What::Detokenize(_) => "Detokenize",
            What::Withdraw(_) => "WithdrawConsent",
        };
        let request = uuid::Uuid::from_bytes(self.request_id());
        write!(f, "{what} of person {}, request {request}", self.person)
    }
}

impl Sent {
    /// Everything of a new person, with random tokens.
    pub fn tokenize(person: u32) -> Self {
        Self { person, what: What::Tokenize(tokenize_request(person)) }
    }

    /// The same, but for the IIN a token that answers once.
    pub fn tokenize_once(person: u32) -> Self {
        let mut request = tokenize_request(person);
        request.fields[2].token_mode = pb::TokenMode::OneTime.into();
        Self { person, what: What::Tokenize(request) }
    }

    pub fn detokenize(person: u32, token: &str) -> Self {
        let mut request = detokenize_request(token, "payments");
        request.request_id = request_id();
        Self { person, what: What::Detokenize(request) }
    }

    pub fn withdraw(person: u32, consent: &str) -> Self {
        let request = pb::WithdrawConsentRequest {
            request_id: request_id(),
            consent_id: consent.into(),
            ..pb::WithdrawConsentRequest::default()
        };
        Self { person, what: What::Withdraw(request) }
    }

    pub fn request_id(&self) -> [u8; 16] {
        let id = match &self.what {
            What::Tokenize(request) => &request.request_id,
            What::Detokenize(request) => &request.request_id,
            What::Withdraw(request) => &request.request_id,
        };
        bytes_of(id)
    }

    /// Whether it ends a permission, and is answered only when the mirror has it.
    pub const fn tightens(&self) -> bool {
        matches!(self.what, What::Detokenize(_) | What::Withdraw(_))
    }
}

/// A request id as the log has it.
pub fn bytes_of(request_id: &str) -> [u8; 16] {
    *uuid::Uuid::try_parse(request_id).unwrap().as_bytes()
}

/// Whether a call got no answer: the server died, or could not say in time that the mirror has it. Any other refusal
/// is a fault.
pub fn is_lost(status: &Status) -> bool {
    status.get_details_error_info().is_none_or(|info| info.reason == "MIRROR_BEHIND")
}

/// The callers' connections.
#[derive(Clone)]
pub struct Clients {
    pub backend: VaultServiceClient<Channel>,
    pub payments: VaultServiceClient<Channel>,
    pub support: VaultServiceClient<Channel>,
    consents: ConsentServiceClient<Channel>,
    subjects: SubjectServiceClient<Channel>,
}

impl Clients {
    pub async fn connect(server: &Server, files: &Path) -> Self {
        Self::connect_to(server.address(), files).await
    }

    /// The same to an address that leads to the server.
    pub async fn connect_to(address: SocketAddr, files: &Path) -> Self {
        let channel = async |caller| channel_to(address, files, caller).await.unwrap();
        let backend = channel("backend").await;
        Self {
            backend: VaultServiceClient::new(backend.clone()),
            payments: VaultServiceClient::new(channel("payments").await),
            support: VaultServiceClient::new(channel("support").await),
            consents: ConsentServiceClient::new(backend.clone()),
            subjects: SubjectServiceClient::new(backend),
        }
    }

    /// Sends a call, and checks of its answer what must be so whenever it is answered.
    pub async fn send(&mut self, sent: &Sent) -> Result<Answer, Status> {
        Ok(match &sent.what {
            What::Tokenize(request) => {
                let answer = self.backend.tokenize(request.clone()).await?.into_inner();
                assert_eq!((answer.tokens.len(), answer.consent_ids.len()), (5, 2));
                Answer::Tokens(answer)
            }
            What::Detokenize(request) => {
                let value = self.payments.detokenize(request.clone()).await?.into_inner().value;
                assert_eq!(value, iin(sent.person));
                Answer::Value(value)
            }
            What::Withdraw(request) => {
                let answer = self.consents.withdraw_consent(request.clone()).await?.into_inner();
                assert_eq!(answer.consent.as_ref().unwrap().state(), pb::ConsentState::Withdrawn);
                Answer::Withdrawn(answer)
            }
        })
    }

    /// One record of each field, one token of each, and the consents once.
    pub async fn is_stored_once(&mut self, person: u32) {
        let name = pb::subject_name::Subject::SubjectReference(format!("user-{person}"));
        let subject = Some(pb::SubjectName { subject: Some(name) });
        let request = pb::GetSubjectRequest { subject, ..pb::GetSubjectRequest::default() };
        let held = self.subjects.get_subject(request).await.unwrap().into_inner().subject.unwrap();
        assert!(held.fields.iter().all(|field| field.record_version == 1));
        let counts = (held.fields.len(), held.token_count, held.consent_count);
        assert_eq!(counts, (5, 5, 2), "person {person}");
    }

    /// Reads tokens, and compares their values with those that were stored.
    pub async fn read_back(&mut self, tokens: &[Token]) {
        let mut by_purpose: HashMap<&str, Vec<&Token>> = HashMap::new();
        for token in tokens {
            let purpose =
                if ["phone", "email"].contains(&token.field.as_str()) { "request_comms" } else { "payments" };
            by_purpose.entry(purpose).or_default().push(token);
        }
        for (purpose, tokens) in by_purpose {
            let client = if purpose == "payments" { &mut self.payments } else { &mut self.support };
            for tokens in tokens.chunks(1_000) {
                let request = pb::BatchDetokenizeRequest {
                    request_id: request_id(),
                    tokens: tokens.iter().map(|token| token.text.clone()).collect(),
                    purpose: purpose.into(),
                    view: pb::View::Full.into(),
                    ..pb::BatchDetokenizeRequest::default()
                };
                let results = client.batch_detokenize(request).await.unwrap().into_inner().results;
                assert_eq!(results.len(), tokens.len());
                for (result, token) in results.into_iter().zip(tokens) {
                    let Some(pb::detokenize_result::Outcome::Response(read)) = result.outcome else {
                        panic!("the {} of person {} is gone", token.field, token.person)
                    };
                    assert_eq!(read.value, token.value, "person {}", token.person);
                }
            }
        }
    }
}

/// A token that can be read at any time, with its value.
pub struct Token {
    person: u32,
    field: String,
    text: String,
    value: String,
}

/// The tokens of an answered Tokenize that nothing ends.
pub fn lasting(sent: &Sent, answer: &Answer) -> Vec<Token> {
    let (What::Tokenize(request), Answer::Tokens(answer)) = (&sent.what, answer) else { return Vec::new() };
    let once = request.fields.iter().any(|field| field.token_mode() == pb::TokenMode::OneTime);
    let both = request.fields.iter().zip(&answer.tokens);
    // Who has a token that answers once withdraws a consent too: then its purpose reads nothing.
    let ends = |field: &str| once && ["iin", "phone", "email"].contains(&field);
    both.filter(|(field, _)| !ends(&field.field))
        .map(|(field, token)| Token {
            person: sent.person,
            field: field.field.clone(),
            text: token.token.clone(),
            value: field.value.clone(),
        })
        .collect()
}
