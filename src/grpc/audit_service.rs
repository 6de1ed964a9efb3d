//! `sandyq.v1.AuditService`.

use std::{pin::Pin, sync::Arc};

use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{
    authn::{Call, as_question},
    convert::time,
    limits::within_limit,
    log_convert::{entries_from, number, page, piece, proof_question, question, sizes, step},
    pb::{self, audit_service_server},
    status::status,
};
use crate::vault::{Vault, error::VaultError};

/// Serves the log.
pub struct AuditService {
    vault: Arc<Vault>,
}

impl AuditService {
    /// A service over an open vault.
    #[must_use]
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }

    async fn entries(
        &self,
        call: Call,
        message: pb::ListEntriesRequest,
    ) -> Result<pb::ListEntriesResponse, VaultError> {
        let (filter, page_size, from) = question(&message)?;
        let listed =
            self.vault.list_entries(&call.caller, call.asker, &message.platform, filter, page_size, from);
        Ok(page(listed.await?))
    }

    async fn inclusion(
        &self,
        call: Call,
        message: pb::GetInclusionProofRequest,
    ) -> Result<pb::GetInclusionProofResponse, VaultError> {
        let (entry, size) = proof_question(&message)?;
        let proof =
            self.vault.inclusion_proof(&call.caller, call.asker, &message.platform, entry, size).await?;
        Ok(pb::GetInclusionProofResponse {
            leaf_hash: proof.leaf.to_vec(),
            hashes: proof.hashes.into_iter().map(|hash| hash.to_vec()).collect(),
            position: number(proof.position),
            size: number(proof.size),
            checkpoint: proof.checkpoint.unwrap_or_default(),
        })
    }

    async fn consistency(
        &self,
        call: Call,
        message: pb::GetConsistencyProofRequest,
    ) -> Result<pb::GetConsistencyProofResponse, VaultError> {
        let (from, to) = sizes(&message)?;
        let proof =
            self.vault.consistency_proof(&call.caller, call.asker, &message.platform, from, to).await?;
        Ok(pb::GetConsistencyProofResponse {
            hashes: proof.hashes.into_iter().map(|hash| hash.to_vec()).collect(),
            to_size: number(proof.to),
            checkpoint: proof.checkpoint.unwrap_or_default(),
        })
    }
}

#[tonic::async_trait]
impl audit_service_server::AuditService for AuditService {
    async fn get_head(
        &self,
        request: Request<pb::GetHeadRequest>,
    ) -> Result<Response<pb::GetHeadResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        let platform = request.into_inner().platform;
        let head = within_limit(async {
            self.vault.head(&call.caller, call.asker, &platform).await.map_err(|e| status(&e))
        })
        .await?;
        Ok(Response::new(pb::GetHeadResponse {
            checkpoint: head.checkpoint,
            size: number(head.size),
            update_time: Some(time(head.updated_at)),
        }))
    }

    type ExportLogStream = Pin<Box<dyn Stream<Item = Result<pb::ExportLogResponse, Status>> + Send>>;

    async fn export_log(
        &self,
        request: Request<pb::ExportLogRequest>,
    ) -> Result<Response<Self::ExportLogStream>, Status> {
        let call = as_question(&self.vault, &request)?;
        let message = request.into_inner();
        let (name, from) = (message.platform, message.entries_from);
        let (platform, pieces) = within_limit(async {
            let exported = async {
                let from = entries_from(from)?;
                self.vault.export_log(&call.caller, call.asker, &name, from).await
            };
            exported.await.map_err(|e| status(&e))
        })
        .await?;
        let name = self.vault.platform_name(platform).map_or(name, |name| name.to_string());
        let key = self.vault.verifier_key();
        let stream = ReceiverStream::new(pieces)
            .map(move |next| next.map(|next| piece(next, &name, &key)).map_err(|e| status(&e)));
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_entries(
        &self,
        request: Request<pb::ListEntriesRequest>,
    ) -> Result<Response<pb::ListEntriesResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        within_limit(async { self.entries(call, request.into_inner()).await.map_err(|e| status(&e)) })
            .await
            .map(Response::new)
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<pb::GetInclusionProofRequest>,
    ) -> Result<Response<pb::GetInclusionProofResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        within_limit(async { self.inclusion(call, request.into_inner()).await.map_err(|e| status(&e)) })
            .await
            .map(Response::new)
    }

    async fn get_consistency_proof(
        &self,
        request: Request<pb::GetConsistencyProofRequest>,
    ) -> Result<Response<pb::GetConsistencyProofResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        within_limit(async { self.consistency(call, request.into_inner()).await.map_err(|e| status(&e)) })
            .await
            .map(Response::new)
    }

    type ReconcileLogStream = Pin<Box<dyn Stream<Item = Result<pb::ReconcileLogResponse, Status>> + Send>>;

    async fn reconcile_log(
        &self,
        request: Request<pb::ReconcileLogRequest>,
    ) -> Result<Response<Self::ReconcileLogStream>, Status> {
        let call = as_question(&self.vault, &request)?;
        let platform = request.into_inner().platform;
        let steps = within_limit(async {
            self.vault.reconcile_log(&call.caller, call.asker, &platform).await.map_err(|e| status(&e))
        })
        .await?;
        let stream = ReceiverStream::new(steps).map(|next| next.map(step).map_err(|e| status(&e)));
        Ok(Response::new(Box::pin(stream)))
    }
}
