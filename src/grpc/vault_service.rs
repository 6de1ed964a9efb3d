//! `sandyq.v1.VaultService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    authn::{Call, RequestIdRule, authenticate},
    convert::{Checker, MAX_BATCH, new_values, source, time, view},
    limits::within_limit,
    pb::{self, vault_service_server},
    staff_convert::key_rule,
    status::{item_status, status},
};
use crate::{
    domain::{
        caller::CallerState,
        secret::Plaintext,
        token::{AnyToken, MistypedToken, TokenMode, TokenState},
    },
    policy::decide::Denial,
    vault::{
        Vault, access,
        describe::TokenDescription,
        detokenize::{Detokenize, Released},
        error::VaultError,
        lookup::{Comparison, Search},
        refusals::Refusal,
        release::SealedRelease,
        revise::Correction,
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

    /// One token; a mistyped one is counted.
    fn token(&self, call: &Call, token: String) -> Result<AnyToken, VaultError> {
        let text = Plaintext::new(token);
        AnyToken::parse(text.expose()).map_err(|MistypedToken| {
            self.vault.count_refusals(&call.caller, Refusal::TokenMalformed, 1);
            VaultError::MistypedToken
        })
    }

    async fn detokenize_all(
        &self,
        call: Call,
        question: Detokenize,
    ) -> Result<Vec<Result<pb::DetokenizeResponse, VaultError>>, VaultError> {
        let answers = self.vault.detokenize(&call.caller, call.asker, question).await?;
        Ok(answers.into_iter().map(|answer| answer.map(|released| released_pb(&released))).collect())
    }

    async fn compare(
        &self,
        call: Call,
        m: pb::CompareValueRequest,
    ) -> Result<pb::CompareValueResponse, VaultError> {
        let candidate = Plaintext::new(m.value);
        let mut check = Checker::new("");
        let purpose = check.parse("purpose", &m.purpose);
        let reference = check.reference("reference", &m.reference);
        let outreach = check.outreach(m.outreach.as_ref());
        let purpose = check.finish(purpose)?;
        let token = self.token(&call, m.token)?;
        let question = Comparison { token, purpose, candidate, outreach, reference };
        let compared = self.vault.compare_value(&call.caller, call.asker, question).await?;
        Ok(pb::CompareValueResponse { equal: compared.equal, audit_entry_id: compared.entry.to_string() })
    }

    async fn lookup(
        &self,
        call: Call,
        m: pb::LookupTokensRequest,
    ) -> Result<pb::LookupTokensResponse, VaultError> {
        let value = Plaintext::new(m.value);
        let mut check = Checker::new("");
        let (field, purpose) = (check.parse("field", &m.field), check.parse("purpose", &m.purpose));
        let reference = check.reference("reference", &m.reference);
        let outreach = check.outreach(m.outreach.as_ref());
        let (field, purpose) = check.finish(field.zip(purpose))?;
        let search = Search { field, value, purpose, outreach, reference };
        let (found, truncated) = self.vault.lookup_tokens(&call.caller, call.asker, search).await?;
        let tokens = found.iter().map(|found| pb::LookedUpToken {
            subject_id: found.subject.to_string(),
            token: found.token.reveal().to_string(),
        });
        Ok(pb::LookupTokensResponse { tokens: tokens.collect(), truncated })
    }

    async fn update(
        &self,
        call: Call,
        m: pb::UpdateRecordRequest,
    ) -> Result<pb::UpdateRecordResponse, VaultError> {
        let value = Plaintext::new(m.value);
        let mut check = Checker::new("");
        let source = check.source("source", m.source);
        let evidence = check.required_reference("evidence", &m.evidence);
        let (source, evidence) = check.finish(source.zip(evidence))?;
        let token = self.token(&call, m.token)?;
        let correction = Correction { token, value, source, evidence };
        let corrected = self.vault.update_record(&call.caller, call.asker, correction).await?;
        Ok(pb::UpdateRecordResponse {
            record_version: corrected.version,
            update_time: Some(time(corrected.updated_at)),
        })
    }

    /// Checks items, and answers nothing of those that pass.
    fn check_all(
        &self,
        call: &Call,
        items: Vec<Result<NewValues, VaultError>>,
    ) -> Result<Vec<Result<pb::TokenizeResponse, VaultError>>, VaultError> {
        self.vault.check_values(&call.caller, items).map(|checked| {
            checked.into_iter().map(|item| item.map(|()| pb::TokenizeResponse::default())).collect()
        })
    }

    async fn tokenize_all(
        &self,
        call: Call,
        items: Vec<Result<NewValues, VaultError>>,
        name: access::Call,
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

fn parse_tokens(tokens: Vec<String>) -> Vec<Result<AnyToken, MistypedToken>> {
    // The texts are zeroised once they are parsed: each is a key to a value.
    tokens.into_iter().map(Plaintext::new).map(|t| AnyToken::parse(t.expose())).collect()
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

/// A question for values, checked.
fn question(m: pb::BatchDetokenizeRequest, call: access::Call) -> Result<Detokenize, VaultError> {
    let tokens = parse_tokens(m.tokens);
    let mut check = Checker::new("");
    let purpose = check.parse("purpose", &m.purpose);
    let asked_view = check.view("view", m.view);
    let years = check.age_years(asked_view, m.age_years);
    let recipient = check.parse_optional("recipient", &m.recipient);
    let outreach = check.outreach(m.outreach.as_ref());
    let reference = check.reference("reference", &m.reference);
    let ((purpose, view), age_years) = check.finish(purpose.zip(asked_view).zip(years))?;
    Ok(Detokenize { tokens, purpose, view, age_years, recipient, outreach, reference, sealed: false, call })
}

/// A question for one value, as one for several.
fn batch_of_one(m: pb::DetokenizeRequest) -> pb::BatchDetokenizeRequest {
    pb::BatchDetokenizeRequest {
        request_id: m.request_id,
        tokens: vec![m.token],
        purpose: m.purpose,
        view: m.view,
        reference: m.reference,
        age_years: m.age_years,
        recipient: m.recipient,
        outreach: m.outreach,
    }
}

fn sealed_pb(release: SealedRelease) -> pb::SealedRelease {
    pb::SealedRelease {
        recipient: release.recipient.to_string(),
        enc: release.sealed.enc,
        ciphertext: release.sealed.ciphertext,
        suite: release.suite.to_owned(),
        key_id: release.key_id,
        audit_entry_ids: release.entries.iter().map(ToString::to_string).collect(),
        platform: release.platform,
        purpose: release.purpose,
        reference: release.reference,
        expire_time: Some(time(release.expires_at)),
        statement: release.statement,
    }
}

fn mode_pb(mode: TokenMode) -> pb::TokenMode {
    match mode {
        TokenMode::Random => pb::TokenMode::Random,
        TokenMode::Deterministic => pb::TokenMode::Deterministic,
        TokenMode::OneTime => pb::TokenMode::OneTime,
        TokenMode::Expiring => pb::TokenMode::Expiring,
        TokenMode::Digits => pb::TokenMode::Digits,
    }
}

fn state_pb(described: &TokenDescription) -> pb::TokenState {
    match described.state {
        TokenState::Active if described.expired => pb::TokenState::Expired,
        TokenState::Active => pb::TokenState::Active,
        TokenState::Spent => pb::TokenState::Spent,
        TokenState::Revoked => pb::TokenState::Revoked,
    }
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
        within_limit(async { one(self.tokenize_all(call, vec![Ok(values)], access::Call::Tokenize).await) })
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
                let keep_held_consents = message.keep_held_consents;
                new_values("", item.subject_reference, item.subject_kind, item.fields, item.consents, now)
                    .map(|values| NewValues { keep_held_consents, ..values })
            })
            .collect();
        let answers = if message.validate_only {
            self.check_all(&call, items).map_err(|e| status(&e))?
        } else {
            within_limit(async {
                self.tokenize_all(call, items, access::Call::BatchTokenize).await.map_err(|e| status(&e))
            })
            .await?
        };
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
        within_limit(async {
            match question(batch_of_one(m), access::Call::Detokenize) {
                Ok(asked) => one(self.detokenize_all(call, asked).await),
                Err(error) => Err(status(&error)),
            }
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
        let asked = question(m, access::Call::BatchDetokenize).map_err(|e| status(&e))?;
        if let Some(recipient) = asked.recipient.clone() {
            let release = within_limit(async {
                let released = self.vault.release(&call.caller, call.asker, recipient, asked).await;
                released.map_err(|e| status(&e))
            })
            .await?;
            let sealed = Some(sealed_pb(release));
            return Ok(Response::new(pb::BatchDetokenizeResponse { results: Vec::new(), sealed }));
        }
        let answers =
            within_limit(async { self.detokenize_all(call, asked).await.map_err(|e| status(&e)) }).await?;
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
        let token = self.token(&call, request.into_inner().token).map_err(|e| status(&e))?;
        let described = within_limit(async {
            self.vault.describe_token(&call.caller, call.asker, token).await.map_err(|e| status(&e))
        })
        .await?;
        Ok(Response::new(pb::DescribeTokenResponse {
            field: described.field.to_string(),
            field_type: described.field_type.as_str().to_owned(),
            subject_id: described.subject.to_string(),
            create_time: Some(time(described.created_at)),
            purposes: described.purposes.iter().map(ToString::to_string).collect(),
            mode: mode_pb(described.mode).into(),
            state: state_pb(&described).into(),
            expire_time: described.expires_at.map(time),
            record_version: described.record_version,
            source: source(described.source).into(),
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
            roles: self.vault.roles_of(caller).iter().map(|role| role.as_str().to_owned()).collect(),
            purposes: purposes.unwrap_or_default(),
            policy_version: policy.map_or(0, |p| p.version),
            person_id: caller.person.map(|id| id.to_string()).unwrap_or_default(),
            staff_key_rule: caller.person.map_or(0, |_| key_rule(self.vault.key_rule()).into()),
            has_staff_key: self.vault.has_staff_key(caller, &call.asker.key),
        }))
    }

    async fn compare_value(
        &self,
        request: Request<pb::CompareValueRequest>,
    ) -> Result<Response<pb::CompareValueResponse>, Status> {
        let call = self.call(&request, "", RequestIdRule::Optional)?;
        within_limit(async { self.compare(call, request.into_inner()).await.map_err(|e| status(&e)) })
            .await
            .map(Response::new)
    }

    async fn lookup_tokens(
        &self,
        request: Request<pb::LookupTokensRequest>,
    ) -> Result<Response<pb::LookupTokensResponse>, Status> {
        let call = self.call(&request, "", RequestIdRule::Optional)?;
        within_limit(async { self.lookup(call, request.into_inner()).await.map_err(|e| status(&e)) })
            .await
            .map(Response::new)
    }

    async fn revoke_token(
        &self,
        request: Request<pb::RevokeTokenRequest>,
    ) -> Result<Response<pb::RevokeTokenResponse>, Status> {
        let call = self.call(&request, &request.get_ref().request_id, RequestIdRule::Required)?;
        let token = self.token(&call, request.into_inner().token).map_err(|e| status(&e))?;
        let revoked = within_limit(async {
            self.vault.revoke_token(&call.caller, call.asker, token).await.map_err(|e| status(&e))
        })
        .await?;
        Ok(Response::new(pb::RevokeTokenResponse { revoke_time: Some(time(revoked)) }))
    }

    async fn update_record(
        &self,
        request: Request<pb::UpdateRecordRequest>,
    ) -> Result<Response<pb::UpdateRecordResponse>, Status> {
        let call = self.call(&request, &request.get_ref().request_id, RequestIdRule::Required)?;
        within_limit(async { self.update(call, request.into_inner()).await.map_err(|e| status(&e)) })
            .await
            .map(Response::new)
    }
}
