//! `sandyq.v1.OperationService`.

use std::{pin::Pin, sync::Arc, time::Duration};

use tokio::sync::mpsc;
use tokio_stream::{Stream, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{
    authn::{Call, as_change, as_question},
    convert::{Checker, time},
    limits::{answer, within_limit},
    pb::{self, operation_service_server},
    platform_convert::{page, place, token},
    status::status,
};
use crate::{
    domain::{
        ids::OperationId,
        operation::{Operation, OperationState},
    },
    policy::decide::Denial,
    vault::{Vault, access::Call as Asked, controls::Control, error::VaultError},
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

    async fn list(
        &self,
        call: Call,
        m: pb::ListOperationsRequest,
    ) -> Result<pb::ListOperationsResponse, VaultError> {
        let page = page(m.page_size, place(&m.page_token)?)?;
        let wanted = m.state();
        let found = self.vault.operations(&call.caller, call.asker, &m.platform, page).await?;
        let operations = found.rows.iter().map(|operation| operation_pb(&self.vault, operation));
        let matching =
            operations.filter(|o| wanted == pb::OperationState::Unspecified || o.state() == wanted);
        Ok(pb::ListOperationsResponse { operations: matching.collect(), next_page_token: token(found.next) })
    }

    async fn control(
        &self,
        call: Call,
        operation_id: &str,
        control: Control,
    ) -> Result<Option<pb::Operation>, VaultError> {
        let id = operation_id_of(operation_id)?;
        let operation = self.vault.control(&call.caller, call.asker, id, control).await?;
        Ok(Some(operation_pb(&self.vault, &operation)))
    }

    async fn get(
        &self,
        call: Call,
        m: pb::GetOperationRequest,
    ) -> Result<pb::GetOperationResponse, VaultError> {
        let id = operation_id_of(&m.operation_id)?;
        let found = self.vault.operation(&call.caller, call.asker, Asked::GetOperation, id).await?;
        let operation = found.ok_or(Denial::OperationNotFound)?;
        Ok(pb::GetOperationResponse { operation: Some(operation_pb(&self.vault, &operation)) })
    }
}

/// An operation as a message.
pub(super) fn operation_pb(vault: &Vault, operation: &Operation) -> pb::Operation {
    let state = match operation.state {
        OperationState::Waiting => pb::OperationState::Waiting,
        OperationState::Running => pb::OperationState::Running,
        OperationState::Paused => pb::OperationState::Paused,
        OperationState::Done => pb::OperationState::Done,
        OperationState::Cancelled => pb::OperationState::Cancelled,
        OperationState::Failed => pb::OperationState::Failed,
    };
    let platform = vault.platform_name(operation.platform);
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
        phase: operation.phase.as_str().to_owned(),
        key_version: operation.key_version,
        rate: operation.rate,
    }
}

fn operation_id_of(text: &str) -> Result<OperationId, VaultError> {
    let mut check = Checker::new("");
    let id = check.parse("operation_id", text);
    check.finish(id)
}

/// How often a watched operation is looked at.
const WATCHED_EVERY: Duration = Duration::from_secs(1);

/// Sends an operation whenever it changed, until it has ended or nobody listens.
async fn watch(
    vault: Arc<Vault>,
    call: Call,
    id: OperationId,
    mut seen: Operation,
    to: mpsc::Sender<Result<pb::WatchOperationResponse, Status>>,
) {
    let mut ticks = tokio::time::interval(WATCHED_EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let response = pb::WatchOperationResponse { operation: Some(operation_pb(&vault, &seen)) };
        if to.send(Ok(response)).await.is_err() || !seen.is_open() {
            return;
        }
        loop {
            ticks.tick().await;
            if to.is_closed() {
                return;
            }
            if let Err(error) = call.still_stands(&vault, Asked::WatchOperation) {
                let _gone = to.send(Err(status(&error))).await;
                return;
            }
            // Asked anew each time: a role that was taken away ends the watching too.
            match vault.operation(&call.caller, call.asker.clone(), Asked::WatchOperation, id).await {
                Ok(Some(next)) if next == seen => {}
                Ok(Some(next)) => {
                    seen = next;
                    break;
                }
                Ok(None) => return,
                Err(error) => {
                    let _gone = to.send(Err(status(&error))).await;
                    return;
                }
            }
        }
    }
}

#[tonic::async_trait]
impl operation_service_server::OperationService for OperationService {
    async fn get_operation(
        &self,
        request: Request<pb::GetOperationRequest>,
    ) -> Result<Response<pb::GetOperationResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        within_limit(async { self.get(call, request.into_inner()).await.map_err(|e| status(&e)) })
            .await
            .map(Response::new)
    }

    async fn list_operations(
        &self,
        request: Request<pb::ListOperationsRequest>,
    ) -> Result<Response<pb::ListOperationsResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        within_limit(async { self.list(call, request.into_inner()).await.map_err(|e| status(&e)) })
            .await
            .map(Response::new)
    }

    type WatchOperationStream =
        Pin<Box<dyn Stream<Item = Result<pb::WatchOperationResponse, Status>> + Send>>;

    async fn watch_operation(
        &self,
        request: Request<pb::WatchOperationRequest>,
    ) -> Result<Response<Self::WatchOperationStream>, Status> {
        let call = as_question(&self.vault, &request)?;
        let first = within_limit(async {
            let id = operation_id_of(&request.get_ref().operation_id).map_err(|e| status(&e))?;
            let found =
                self.vault.operation(&call.caller, call.asker.clone(), Asked::WatchOperation, id).await;
            let found = found.and_then(|found| Ok(found.ok_or(Denial::OperationNotFound)?));
            found.map(|operation| (id, operation)).map_err(|e| status(&e))
        });
        let (id, operation) = first.await?;
        let (to, stream) = mpsc::channel(1);
        tokio::spawn(watch(Arc::clone(&self.vault), call, id, operation, to));
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }

    async fn pause_operation(
        &self,
        request: Request<pb::PauseOperationRequest>,
    ) -> Result<Response<pb::PauseOperationResponse>, Status> {
        let call = as_change(&self.vault, &request, &request.get_ref().request_id)?;
        let m = request.into_inner();
        let response = |operation| pb::PauseOperationResponse { operation };
        answer(self.control(call, &m.operation_id, Control::Pause), response).await
    }

    async fn resume_operation(
        &self,
        request: Request<pb::ResumeOperationRequest>,
    ) -> Result<Response<pb::ResumeOperationResponse>, Status> {
        let call = as_change(&self.vault, &request, &request.get_ref().request_id)?;
        let m = request.into_inner();
        let response = |operation| pb::ResumeOperationResponse { operation };
        answer(self.control(call, &m.operation_id, Control::Resume(m.rate)), response).await
    }

    async fn cancel_operation(
        &self,
        request: Request<pb::CancelOperationRequest>,
    ) -> Result<Response<pb::CancelOperationResponse>, Status> {
        let call = as_change(&self.vault, &request, &request.get_ref().request_id)?;
        let m = request.into_inner();
        let response = |operation| pb::CancelOperationResponse { operation };
        answer(self.control(call, &m.operation_id, Control::Cancel), response).await
    }
}
