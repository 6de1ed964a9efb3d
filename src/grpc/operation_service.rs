//! `sandyq.v1.OperationService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    authn::{Call, RequestIdRule, authenticate},
    convert::{Checker, page_size, time},
    limits::within_limit,
    pb::{self, operation_service_server},
    status::status,
};
use crate::{
    domain::{
        ids::OperationId,
        operation::{Operation, OperationState},
    },
    policy::decide::Denial,
    vault::{Vault, error::VaultError, operations::MAX_PAGE},
};

/// Serves operations.
pub struct OperationService {
    vault: Arc<Vault>,
}

impl OperationService {
    /// A service over an open vault.
    #[must_use]
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }

    fn call<T: prost::Message>(&self, request: &Request<T>) -> Result<Call, Status> {
        authenticate(&self.vault, request, "", RequestIdRule::Optional).map_err(|e| status(&e))
    }

    async fn list(
        &self,
        call: Call,
        m: pb::ListOperationsRequest,
    ) -> Result<pb::ListOperationsResponse, VaultError> {
        let size = page_size(m.page_size, MAX_PAGE)?;
        if !m.page_token.is_empty() {
            return Err(VaultError::invalid("page_token", "not a page of this list"));
        }
        let found = self.vault.operations(&call.caller, call.asker, &m.platform, size).await?;
        let wanted = pb::OperationState::try_from(m.state).unwrap_or(pb::OperationState::Unspecified);
        let operations = found.iter().map(|operation| self.operation_pb(operation));
        let matching =
            operations.filter(|o| wanted == pb::OperationState::Unspecified || o.state() == wanted);
        Ok(pb::ListOperationsResponse { operations: matching.collect(), next_page_token: String::new() })
    }

    fn operation_pb(&self, operation: &Operation) -> pb::Operation {
        let state = match operation.state {
            OperationState::Waiting => pb::OperationState::Waiting,
            OperationState::Running => pb::OperationState::Running,
            OperationState::Done => pb::OperationState::Done,
            OperationState::Cancelled => pb::OperationState::Cancelled,
            OperationState::Failed => pb::OperationState::Failed,
        };
        let platform = self.vault.platform_name(operation.platform);
        pb::Operation {
            operation_id: operation.id.to_string(),
            platform: platform.map(|name| name.to_string()).unwrap_or_default(),
            kind: operation.kind.as_str().to_owned(),
            state: state.into(),
            create_time: Some(time(operation.created_at)),
            due_time: Some(time(operation.due_at)),
            end_time: operation.ended_at.map(time),
            done: i64::try_from(operation.done).unwrap_or(i64::MAX),
            total: i64::try_from(operation.total).unwrap_or(i64::MAX),
        }
    }

    async fn get(
        &self,
        call: Call,
        m: pb::GetOperationRequest,
    ) -> Result<pb::GetOperationResponse, VaultError> {
        let mut check = Checker::new("");
        let id = check.parse("operation_id", &m.operation_id);
        let id: OperationId = check.finish(id)?;
        let found = self.vault.operation(&call.caller, call.asker, id).await?;
        let operation = found.ok_or(Denial::OperationNotFound)?;
        Ok(pb::GetOperationResponse { operation: Some(self.operation_pb(&operation)) })
    }
}

#[tonic::async_trait]
impl operation_service_server::OperationService for OperationService {
    async fn get_operation(
        &self,
        request: Request<pb::GetOperationRequest>,
    ) -> Result<Response<pb::GetOperationResponse>, Status> {
        let call = self.call(&request)?;
        within_limit(async { self.get(call, request.into_inner()).await.map_err(|e| status(&e)) })
            .await
            .map(Response::new)
    }

    async fn list_operations(
        &self,
        request: Request<pb::ListOperationsRequest>,
    ) -> Result<Response<pb::ListOperationsResponse>, Status> {
        let call = self.call(&request)?;
        within_limit(async { self.list(call, request.into_inner()).await.map_err(|e| status(&e)) })
            .await
            .map(Response::new)
    }
}
