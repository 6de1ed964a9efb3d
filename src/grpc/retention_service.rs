//! `sandyq.v1.RetentionService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    authn::{Call, RequestIdRule, authenticate},
    convert::Checker,
    limits::answer,
    operation_service::operation_pb,
    pb::{self, retention_service_server},
    status::status,
};
use crate::{
    domain::ids::SubjectId,
    vault::{
        Vault,
        error::VaultError,
        retention::{Fate, MAX_PLAN_PAGE, PlanKey},
    },
};

/// Serves retention.
pub struct RetentionService {
    vault: Arc<Vault>,
}

impl RetentionService {
    /// A service over an open vault.
    #[must_use]
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }

    async fn plan(
        &self,
        call: Call,
        m: pb::PlanRetentionRequest,
    ) -> Result<pb::PlanRetentionResponse, VaultError> {
        let mut check = Checker::new("");
        let after: Option<SubjectId> =
            if m.page_token.is_empty() { None } else { check.parse("page_token", &m.page_token) };
        let size = match u32::try_from(m.page_size) {
            Ok(0) => Some(MAX_PLAN_PAGE),
            Ok(size) if size <= MAX_PLAN_PAGE => Some(size),
            Ok(_) | Err(_) => {
                check.refuse("page_size", &format!("must be from 0 to {MAX_PLAN_PAGE}"));
                None
            }
        };
        let size = check.finish(size)?;
        let page = self.vault.plan_retention(&call.caller, call.asker, &m.platform, after, size).await?;
        Ok(pb::PlanRetentionResponse {
            rows: page.rows.into_iter().map(|(key, records)| row(key, records)).collect(),
            subjects: i64::try_from(page.subjects).unwrap_or(i64::MAX),
            next_page_token: page.next.map(|id| id.to_string()).unwrap_or_default(),
        })
    }
}

fn row(key: PlanKey, records: u64) -> pb::RetentionRow {
    let fate = match key.fate {
        Fate::Over => pb::RetentionFate::Over,
        Fate::Ends => pb::RetentionFate::Ends,
        Fate::KeptByLaw => pb::RetentionFate::KeptByLaw,
        Fate::Waits => pb::RetentionFate::Waits,
        Fate::Unclaimed => pb::RetentionFate::Unclaimed,
        Fate::Blocked => pb::RetentionFate::Blocked,
    };
    pb::RetentionRow {
        field: key.field.to_string(),
        fate: fate.into(),
        month: key.month.unwrap_or_default(),
        purpose: key.purpose.map(|name| name.to_string()).unwrap_or_default(),
        clause: key.clause,
        missing_events: key.missing,
        records: i64::try_from(records).unwrap_or(i64::MAX),
    }
}

#[tonic::async_trait]
impl retention_service_server::RetentionService for RetentionService {
    async fn plan_retention(
        &self,
        request: Request<pb::PlanRetentionRequest>,
    ) -> Result<Response<pb::PlanRetentionResponse>, Status> {
        let call =
            authenticate(&self.vault, &request, "", RequestIdRule::Optional).map_err(|e| status(&e))?;
        answer(self.plan(call, request.into_inner()), |page| page).await
    }

    async fn sweep_retention(
        &self,
        request: Request<pb::SweepRetentionRequest>,
    ) -> Result<Response<pb::SweepRetentionResponse>, Status> {
        let id = &request.get_ref().request_id;
        let call =
            authenticate(&self.vault, &request, id, RequestIdRule::Required).map_err(|e| status(&e))?;
        let m = request.into_inner();
        let begun = self.vault.sweep_retention(&call.caller, call.asker, &m.platform, m.rate);
        let response =
            |operation| pb::SweepRetentionResponse { operation: Some(operation_pb(&self.vault, &operation)) };
        answer(begun, response).await
    }
}
