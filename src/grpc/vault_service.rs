//! `sandyq.v1.VaultService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    authn::{Call, RequestIdRule, authenticate},
    convert::{Checker, MAX_BATCH, new_values, time, view},
    limits::within_limit,
    pb::{self, vault_service_server},
    status::{item_status, status, unserved},
};
use crate::{
    domain::{caller::CallerState, secret::Plaintext, token::Token},
    policy::decide::Denial,
    vault::{
        Vault,
        detokenize::{Detokenize, Released},
        error::VaultError,
        refusals::Refusal,
        tokenize::{NewValues, Tokenized},
    },
};

/// Serves values and tokens.
pub struct VaultService {
    vault: Arc<Vault>,
}

impl VaultService {
    /// A service over an open vault.
    #[must_use]
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }

    fn call<T: prost::Message>(
        &self,
        request: &Request<T>,
        id: &str,
        rule: RequestIdRule,
    ) -> Result<Call, Status> {
        authenticate(&self.vault, request, id, rule).map_err(|e| status(&e))
    }

    async fn detokenize_all(
        &self,
        call: Call,
        tokens: Vec<String>,
        purpose: &str,
        view_number: i32,
        reference: &str,
        name: &'static str,
    ) -> Result<Vec<Result<pb::DetokenizeResponse, VaultError>>, VaultError> {
        let mut check = Checker::new("");
        let purpose = check.parse("purpose", purpose);
        let asked_view = check.view("view", view_number);
        let reference = check.reference("reference", reference);
        let (purpose, asked_view) = check.finish(purpose.zip(asked_view))?;
        // The texts are zeroised once they are parsed: each is a key to a value.
        let tokens = tokens.into_iter().map(Plaintext::new).map(|t| Token::parse(t.expose())).collect();
        let question = Detokenize { tokens, purpose, view: asked_view, reference, call: name };
        let answers = self.vault.detokenize(&call.caller, call.asker, question).await?;
        Ok(answers.into_iter().map(|answer| answer.map(|released| released_pb(&released))).collect())
    }

    async fn tokenize_all(
        &self,
        call: Call,
        items: Vec<Result<NewValues, VaultError>>,
        name: &'static str,
    ) -> Result<Vec<Result<pb::TokenizeResponse, VaultError>>, VaultError> {
        let mut good = Vec::new();
        let places: Vec<_> = items.into_iter().map(|item| item.map(|values| good.push(values))).collect();
        let stored = if good.is_empty() {
            Vec::new()
        } else {
            self.vault.tokenize(&call.caller, call.asker, name, good).await?
        };
        let mut stored = stored.into_iter();
        Ok(places
            .into_iter()
            .map(|place| place.and_then(|()| stored.next().unwrap_or(Err(VaultError::Unavailable))))
            .map(|answer| answer.map(|tokenized| tokenized_pb(&tokenized)))
            .collect())
    }
}

fn released_pb(released: &Released) -> pb::DetokenizeResponse {
    pb::DetokenizeResponse {
        value: released.value.expose().to_owned(),
        field: released.field.to_string(),
        view: view(released.view).into(),
        audit_entry_id: released.entry.to_string(),
    }
}

fn tokenized_pb(tokenized: &Tokenized) -> pb::TokenizeResponse {
    let token = |new: &crate::vault::tokenize::NewToken| pb::FieldToken {
        field: new.field.to_string(),
        token: new.token.reveal().to_string(),
        record_created: new.record_created,
    };
    pb::TokenizeResponse {
        subject_id: tokenized.subject.to_string(),
        tokens: tokenized.tokens.iter().map(token).collect(),
        consent_ids: tokenized.consents.iter().map(ToString::to_string).collect(),
    }
}

fn one<T>(answers: Result<Vec<Result<T, VaultError>>, VaultError>) -> Result<Response<T>, Status> {
    let answer = answers.and_then(|mut all| all.pop().unwrap_or(Err(VaultError::Unavailable)));
    answer.map(Response::new).map_err(|e| status(&e))
}

/// Refuses releases to others and answers about an age, which are not served yet.
fn no_release(age_years: u32, recipient: &str) -> Result<(), Status> {
    let mut check = Checker::new("");
    check.unserved("age_years", age_years > 0);
    check.unserved("recipient", !recipient.is_empty());
    check.finish(Some(())).map_err(|e| status(&e))
}

fn check_batch(items: usize, field: &str) -> Result<(), Status> {
    if (1..=MAX_BATCH).contains(&items) {
        return Ok(());
    }
    Err(status(&VaultError::invalid(field, "a batch has 1 to 1000 items")))
}

#[tonic::async_trait]
impl vault_service_server::VaultService for VaultService {
    async fn tokenize(
        &self,
        request: Request<pb::TokenizeRequest>,
    ) -> Result<Response<pb::TokenizeResponse>, Status> {
        let call = self.call(&request, &request.get_ref().request_id, RequestIdRule::Required)?;
        let message = request.into_inner();
        let now = self.vault.clock().now();
        let values = new_values(
            "",
            message.subject_reference,
            message.subject_kind,
            message.fields,
            message.consents,
            now,
        )
        .map_err(|e| status(&e))?;
        within_limit(async { one(self.tokenize_all(call, vec![Ok(values)], "VaultService/Tokenize").await) })
            .await
    }

    async fn batch_tokenize(
        &self,
        request: Request<pb::BatchTokenizeRequest>,
    ) -> Result<Response<pb::BatchTokenizeResponse>, Status> {
        let call = self.call(&request, &request.get_ref().request_id, RequestIdRule::Required)?;
        let message = request.into_inner();
        check_batch(message.items.len(), "items")?;
        let now = self.vault.clock().now();
        let items = message
            .items
            .into_iter()
            .map(|item| {
                new_values("", item.subject_reference, item.subject_kind, item.fields, item.consents, now)
            })
            .collect();
        let answers = within_limit(async {
            self.tokenize_all(call, items, "VaultService/BatchTokenize").await.map_err(|e| status(&e))
        })
        .await?;
        let results = answers
            .into_iter()
            .map(|answer| match answer {
                Ok(response) => pb::tokenize_result::Outcome::Response(response),
                Err(error) => pb::tokenize_result::Outcome::Error(item_status(&error)),
            })
            .map(|outcome| pb::TokenizeResult { outcome: Some(outcome) })
            .collect();
        Ok(Response::new(pb::BatchTokenizeResponse { results }))
    }

    async fn detokenize(
        &self,
        request: Request<pb::DetokenizeRequest>,
    ) -> Result<Response<pb::DetokenizeResponse>, Status> {
        let call = self.call(&request, &request.get_ref().request_id, RequestIdRule::Optional)?;
        let m = request.into_inner();
        no_release(m.age_years, &m.recipient)?;
        within_limit(async {
            let name = "VaultService/Detokenize";
            one(self.detokenize_all(call, vec![m.token], &m.purpose, m.view, &m.reference, name).await)
        })
        .await
    }

    async fn batch_detokenize(
        &self,
        request: Request<pb::BatchDetokenizeRequest>,
    ) -> Result<Response<pb::BatchDetokenizeResponse>, Status> {
        let call = self.call(&request, &request.get_ref().request_id, RequestIdRule::Optional)?;
        let m = request.into_inner();
        check_batch(m.tokens.len(), "tokens")?;
        no_release(m.age_years, &m.recipient)?;
        let answers = within_limit(async {
            let name = "VaultService/BatchDetokenize";
            self.detokenize_all(call, m.tokens, &m.purpose, m.view, &m.reference, name)
                .await
                .map_err(|e| status(&e))
        })
        .await?;
        let results = answers
            .into_iter()
            .map(|answer| match answer {
                Ok(response) => pb::detokenize_result::Outcome::Response(response),
                Err(error) => pb::detokenize_result::Outcome::Error(item_status(&error)),
            })
            .map(|outcome| pb::DetokenizeResult { outcome: Some(outcome) })
            .collect();
        Ok(Response::new(pb::BatchDetokenizeResponse { results, sealed: None }))
    }

    async fn describe_token(
        &self,
        request: Request<pb::DescribeTokenRequest>,
    ) -> Result<Response<pb::DescribeTokenResponse>, Status> {
        let call = self.call(&request, "", RequestIdRule::Optional)?;
        let text = Plaintext::new(request.into_inner().token);
        let token = Token::parse(text.expose()).map_err(|_| {
            self.vault.count_refusals(&call.caller, Refusal::TokenMalformed, 1);
            status(&VaultError::MistypedToken)
        })?;
        let described = within_limit(async {
            self.vault.describe_token(&call.caller, call.asker, &token).await.map_err(|e| status(&e))
        })
        .await?;
        Ok(Response::new(pb::DescribeTokenResponse {
            field: described.field.to_string(),
            field_type: described.field_type.as_str().to_owned(),
            subject_id: described.subject.to_string(),
            create_time: Some(time(described.created_at)),
            purposes: described.purposes.iter().map(ToString::to_string).collect(),
            ..pb::DescribeTokenResponse::default()
        }))
    }

    async fn who_am_i(
        &self,
        request: Request<pb::WhoAmIRequest>,
    ) -> Result<Response<pb::WhoAmIResponse>, Status> {
        let call = self.call(&request, "", RequestIdRule::Optional)?;
        let caller = &call.caller;
        if caller.state == CallerState::Disabled {
            return Err(status(&Denial::CallerDisabled.into()));
        }
        let context = self.vault.context(caller.platform).map_err(|e| status(&e))?;
        let policy = context.policy(self.vault.clock().now());
        let purposes = policy.map(|p| p.purposes_of(caller).map(|(name, _)| name.to_string()).collect());
        Ok(Response::new(pb::WhoAmIResponse {
            spiffe_id: caller.spiffe_id.to_string(),
            platform: self
                .vault
                .platform_name(caller.platform)
                .map(|name| name.to_string())
                .unwrap_or_default(),
            caller: caller.name.to_string(),
            roles: caller.roles.iter().map(|role| role.as_str().to_owned()).collect(),
            purposes: purposes.unwrap_or_default(),
            policy_version: policy.map_or(0, |p| p.version),
            person_id: String::new(),
        }))
    }

    async fn compare_value(
        &self,
        _request: Request<pb::CompareValueRequest>,
    ) -> Result<Response<pb::CompareValueResponse>, Status> {
        Err(unserved())
    }

    async fn lookup_tokens(
        &self,
        _request: Request<pb::LookupTokensRequest>,
    ) -> Result<Response<pb::LookupTokensResponse>, Status> {
        Err(unserved())
    }

    async fn revoke_token(
        &self,
        _request: Request<pb::RevokeTokenRequest>,
    ) -> Result<Response<pb::RevokeTokenResponse>, Status> {
        Err(unserved())
    }

    async fn update_record(
        &self,
        _request: Request<pb::UpdateRecordRequest>,
    ) -> Result<Response<pb::UpdateRecordResponse>, Status> {
        Err(unserved())
    }
}
