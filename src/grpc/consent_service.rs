//! `sandyq.v1.ConsentService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    authn::{Call, RequestIdRule, authenticate},
    convert::{Checker, consent, new_consent, page_size},
    limits::within_limit,
    pb::{self, consent_service_server},
    status::status,
};
use crate::{
    domain::ids::ConsentId,
    vault::{Vault, consent::MAX_PAGE, error::VaultError},
};

/// Serves consents.
pub struct ConsentService {
    vault: Arc<Vault>,
}

impl ConsentService {
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

    async fn grant(&self, call: Call, message: pb::GrantConsentRequest) -> Result<pb::Consent, VaultError> {
        let mut check = Checker::new("");
        check.subject_reference(&message.subject_reference);
        check.finish(Some(()))?;
        let grant = message.consent.ok_or(VaultError::invalid("consent", "is required"))?;
        let grant = new_consent("consent.", grant, self.vault.clock().now())?;
        let recorded =
            self.vault.grant_consent(&call.caller, call.asker, message.subject_reference, grant).await?;
        Ok(consent(&recorded))
    }

    async fn withdraw(
        &self,
        call: Call,
        message: pb::WithdrawConsentRequest,
    ) -> Result<pb::Consent, VaultError> {
        let mut check = Checker::new("");
        let id = check.parse("consent_id", &message.consent_id);
        let id: ConsentId = check.finish(id)?;
        Ok(consent(&self.vault.withdraw_consent(&call.caller, call.asker, &message.platform, id).await?))
    }

    async fn list(
        &self,
        call: Call,
        message: pb::ListConsentsRequest,
    ) -> Result<pb::ListConsentsResponse, VaultError> {
        let mut check = Checker::new("");
        check.subject_reference(&message.subject_reference);
        let after: Option<ConsentId> =
            if message.page_token.is_empty() { None } else { check.parse("page_token", &message.page_token) };
        check.finish(Some(()))?;
        let size = page_size(message.page_size, MAX_PAGE)?;
        let (consents, more) = self
            .vault
            .list_consents(
                &call.caller,
                call.asker,
                &message.platform,
                message.subject_reference,
                size,
                after,
            )
            .await?;
        let next = consents.last().filter(|_| more).map(|last| last.id.to_string());
        Ok(pb::ListConsentsResponse {
            consents: consents.iter().map(consent).collect(),
            next_page_token: next.unwrap_or_default(),
        })
    }
}

#[tonic::async_trait]
impl consent_service_server::ConsentService for ConsentService {
    async fn grant_consent(
        &self,
        request: Request<pb::GrantConsentRequest>,
    ) -> Result<Response<pb::GrantConsentResponse>, Status> {
        let call = self.call(&request, &request.get_ref().request_id, RequestIdRule::Required)?;
        let granted =
            within_limit(async { self.grant(call, request.into_inner()).await.map_err(|e| status(&e)) })
                .await?;
        Ok(Response::new(pb::GrantConsentResponse { consent: Some(granted) }))
    }

    async fn withdraw_consent(
        &self,
        request: Request<pb::WithdrawConsentRequest>,
    ) -> Result<Response<pb::WithdrawConsentResponse>, Status> {
        let call = self.call(&request, &request.get_ref().request_id, RequestIdRule::Required)?;
        let withdrawn =
            within_limit(async { self.withdraw(call, request.into_inner()).await.map_err(|e| status(&e)) })
                .await?;
        Ok(Response::new(pb::WithdrawConsentResponse { consent: Some(withdrawn) }))
    }

    async fn list_consents(
        &self,
        request: Request<pb::ListConsentsRequest>,
    ) -> Result<Response<pb::ListConsentsResponse>, Status> {
        let call = self.call(&request, "", RequestIdRule::Optional)?;
        within_limit(async { self.list(call, request.into_inner()).await.map_err(|e| status(&e)) })
            .await
            .map(Response::new)
    }
}
