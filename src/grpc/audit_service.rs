//! `sandyq.v1.AuditService`.

use std::{pin::Pin, sync::Arc};

use prost::bytes::Bytes;
use tokio_stream::{Stream, StreamExt as _, wrappers::ReceiverStream};
use tonic::{Request, Response, Status};

use super::{
    authn::{Call, RequestIdRule, authenticate},
    convert::time,
    limits::within_limit,
    pb::{self, audit_service_server},
    status::{status, unserved},
};
use crate::{
    domain::{ids::PlatformId, time::Timestamp},
    policy::decide::Denial,
    vault::{
        Vault,
        audit_log::{Piece, SignedHead},
        error::VaultError,
    },
};

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

    fn call<T: prost::Message>(
        &self,
        request: &Request<T>,
        platform: &str,
    ) -> Result<(Call, PlatformId), Status> {
        let call = authenticate(&self.vault, request, "", RequestIdRule::Optional).map_err(|e| status(&e))?;
        let platform = self
            .vault
            .platform_named(platform)
            .ok_or_else(|| status(&VaultError::Denied(Denial::PlatformNotFound)))?;
        Ok((call, platform))
    }
}

fn number(size: u64) -> i64 {
    i64::try_from(size).unwrap_or(i64::MAX)
}

fn piece(piece: Piece, platform: &str, verifier_key: &str) -> pb::ExportLogResponse {
    use pb::export_log_response::Piece as Pb;
    let piece = match piece {
        Piece::Head(SignedHead { checkpoint, size, .. }) => Pb::Summary(pb::LogSummary {
            platform: platform.to_owned(),
            checkpoint,
            size: number(size),
            verifier_key: verifier_key.to_owned(),
        }),
        Piece::SecondHead(head) => Pb::Head(pb::LogHead {
            second: Some(time(Timestamp::from_micros(head.second.saturating_mul(1_000_000)))),
            checkpoint: head.checkpoint,
        }),
        Piece::Tile { level, index, hashes } => {
            Pb::Tile(pb::LogTile { level: u32::from(level), index: number(index), hashes: hashes.into() })
        }
        Piece::Entries { index, bundle } => {
            Pb::EntryBundle(pb::LogEntryBundle { index: number(index), entries: Bytes::from(bundle) })
        }
        Piece::RightEdge(hashes) => {
            Pb::RightEdge(pb::LogRightEdge { hashes: hashes.into_iter().map(|h| h.to_vec()).collect() })
        }
    };
    pb::ExportLogResponse { piece: Some(piece) }
}

#[tonic::async_trait]
impl audit_service_server::AuditService for AuditService {
    async fn get_head(
        &self,
        request: Request<pb::GetHeadRequest>,
    ) -> Result<Response<pb::GetHeadResponse>, Status> {
        let (call, platform) = self.call(&request, &request.get_ref().platform)?;
        let head = within_limit(async {
            self.vault.head(&call.caller, call.asker, platform).await.map_err(|e| status(&e))
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
        let (call, platform) = self.call(&request, &request.get_ref().platform)?;
        let name = request.into_inner().platform;
        let pieces = within_limit(async {
            self.vault.export_log(&call.caller, call.asker, platform).await.map_err(|e| status(&e))
        })
        .await?;
        let key = self.vault.verifier_key();
        let stream = ReceiverStream::new(pieces)
            .map(move |next| next.map(|next| piece(next, &name, &key)).map_err(|e| status(&e)));
        Ok(Response::new(Box::pin(stream)))
    }

    async fn list_entries(
        &self,
        _request: Request<pb::ListEntriesRequest>,
    ) -> Result<Response<pb::ListEntriesResponse>, Status> {
        Err(unserved())
    }

    async fn get_inclusion_proof(
        &self,
        _request: Request<pb::GetInclusionProofRequest>,
    ) -> Result<Response<pb::GetInclusionProofResponse>, Status> {
        Err(unserved())
    }

    async fn get_consistency_proof(
        &self,
        _request: Request<pb::GetConsistencyProofRequest>,
    ) -> Result<Response<pb::GetConsistencyProofResponse>, Status> {
        Err(unserved())
    }

    type ReconcileLogStream = Pin<Box<dyn Stream<Item = Result<pb::ReconcileLogResponse, Status>> + Send>>;

    async fn reconcile_log(
        &self,
        _request: Request<pb::ReconcileLogRequest>,
    ) -> Result<Response<Self::ReconcileLogStream>, Status> {
        Err(unserved())
    }
}
