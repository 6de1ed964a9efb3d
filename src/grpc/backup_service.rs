//! `sandyq.v1.BackupService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    authn::{Call, as_change, as_question},
    convert::{Checker, time},
    limits::answer,
    operation_service::operation_pb,
    pb::{self, backup_service_server},
    platform_convert::page,
};
use crate::{
    domain::ids::BackupId,
    vault::{
        Vault,
        backup::{LogMark, Manifest},
        error::VaultError,
    },
};

/// Serves backups.
pub struct BackupService {
    vault: Arc<Vault>,
}

impl BackupService {
    /// A service over an open vault.
    #[must_use]
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }

    async fn list(
        &self,
        call: Call,
        m: pb::ListBackupsRequest,
    ) -> Result<pb::ListBackupsResponse, VaultError> {
        let size = page(m.page_size, None)?.size;
        let after = if m.page_token.is_empty() { None } else { Some(id_of("page_token", &m.page_token)?) };
        let all = self.vault.list_backups(&call.caller, call.asker).await?;
        let begin = after
            .map_or(Some(0), |after| all.iter().position(|known| known.backup == after).map(|at| at + 1));
        let begin = begin.ok_or(VaultError::invalid("page_token", "not a page of this list"))?;
        let rest = all.get(begin..).unwrap_or_default();
        let shown = rest.get(..size).unwrap_or(rest);
        let next = if shown.len() < rest.len() { shown.last() } else { None };
        Ok(pb::ListBackupsResponse {
            backups: shown.iter().map(backup_pb).collect(),
            next_page_token: next.map(|last| last.backup.to_string()).unwrap_or_default(),
        })
    }

    async fn get(&self, call: Call, m: pb::GetBackupRequest) -> Result<pb::GetBackupResponse, VaultError> {
        let id = id_of("backup_id", &m.backup_id)?;
        let found = self.vault.backup(&call.caller, call.asker, id).await?;
        Ok(pb::GetBackupResponse { backup: Some(backup_pb(&found)) })
    }
}

fn id_of(field: &str, text: &str) -> Result<BackupId, VaultError> {
    let mut check = Checker::new("");
    let id = check.parse(field, text);
    check.finish(id)
}

fn backup_pb(manifest: &Manifest) -> pb::Backup {
    let log = |log: &LogMark| pb::BackupLog {
        platform: log.name.clone(),
        size: i64::try_from(log.size).unwrap_or(i64::MAX),
        checkpoint: log.checkpoint.clone(),
    };
    pb::Backup {
        backup_id: manifest.backup.to_string(),
        snapshot_time: Some(time(manifest.taken_at)),
        schema_version: manifest.schema,
        root_version: manifest.root_version,
        size_bytes: i64::try_from(manifest.bytes).unwrap_or(i64::MAX),
        rows: i64::try_from(manifest.row_count()).unwrap_or(i64::MAX),
        logs: manifest.logs.iter().map(log).collect(),
    }
}

#[tonic::async_trait]
impl backup_service_server::BackupService for BackupService {
    async fn start_backup(
        &self,
        request: Request<pb::StartBackupRequest>,
    ) -> Result<Response<pb::StartBackupResponse>, Status> {
        let id = &request.get_ref().request_id;
        let call = as_change(&self.vault, &request, id)?;
        let started = self.vault.start_backup(&call.caller, call.asker);
        let response =
            |operation| pb::StartBackupResponse { operation: Some(operation_pb(&self.vault, &operation)) };
        answer(started, response).await
    }

    async fn list_backups(
        &self,
        request: Request<pb::ListBackupsRequest>,
    ) -> Result<Response<pb::ListBackupsResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        answer(self.list(call, request.into_inner()), |page| page).await
    }

    async fn get_backup(
        &self,
        request: Request<pb::GetBackupRequest>,
    ) -> Result<Response<pb::GetBackupResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        answer(self.get(call, request.into_inner()), |found| found).await
    }
}
