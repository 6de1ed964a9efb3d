//! `sandyq.v1.KeyService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    authn::{Call, as_change, as_plan, as_question},
    convert::{Checker, time},
    limits::answer,
    operation_service::operation_pb,
    pb::{self, key_service_server},
    platform_convert::{page, place, required_platform, token},
    proposal_convert::outcome,
    status::status,
};
use crate::{
    domain::horizon::{HorizonState, HorizonTerms},
    vault::{
        Vault,
        error::VaultError,
        keys::{
            HorizonRow, HorizonView, KeyKind, KeyState, KeyUsage, KeyVersionRow, NewHorizon, RotationPlan,
            WhichKey,
        },
        root_key::KmsReport,
    },
};

/// Serves keys.
pub struct KeyService {
    vault: Arc<Vault>,
}

impl KeyService {
    /// A service over an open vault.
    #[must_use]
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }

    fn key(&self, row: &KeyVersionRow) -> pb::KeyVersion {
        let platform = self.vault.platform_name(row.platform);
        let audit = (row.kind == KeyKind::Audit.as_str()).then_some(());
        pb::KeyVersion {
            platform: platform.map(|name| name.to_string()).unwrap_or_default(),
            kind: kind(&row.kind).into(),
            version: row.version,
            state: state(row.state).into(),
            create_time: Some(time(row.created_at)),
            destroy_time: row.destroy_at.map(time),
            verifier_key: audit.and_then(|()| self.vault.verifier_key_of(row.version)).unwrap_or_default(),
        }
    }

    async fn list(&self, call: Call, m: pb::ListKeysRequest) -> Result<pb::ListKeysResponse, VaultError> {
        let page = page(m.page_size, place(&m.page_token)?)?;
        let found = self.vault.list_keys(&call.caller, call.asker, &m.platform, page).await?;
        let keys = found.rows.iter().map(|row| self.key(row)).collect();
        Ok(pb::ListKeysResponse { keys, next_page_token: token(found.next) })
    }

    /// A platform has few versions, and its usages are one page.
    async fn usage(
        &self,
        call: Call,
        m: pb::ListKeyUsageRequest,
    ) -> Result<pb::ListKeyUsageResponse, VaultError> {
        page(m.page_size, None)?;
        if !m.page_token.is_empty() {
            return Err(VaultError::invalid("page_token", "not a page of this list"));
        }
        let found = self.vault.key_usage(&call.caller, call.asker, &m.platform).await?;
        let usages = found.into_iter().map(usage).collect();
        Ok(pb::ListKeyUsageResponse { usages, next_page_token: String::new() })
    }

    async fn report(
        &self,
        call: Call,
        m: pb::GetKeyReportRequest,
    ) -> Result<pb::GetKeyReportResponse, VaultError> {
        let mut check = Checker::new("");
        let id = check.parse("operation_id", &m.operation_id);
        let document = self.vault.key_report(&call.caller, call.asker, check.finish(id)?).await?;
        Ok(pb::GetKeyReportResponse { document })
    }

    pub(super) async fn rotate(
        &self,
        call: Call,
        m: pb::RotateKeyRequest,
    ) -> Result<pb::rotate_key_response::Outcome, VaultError> {
        use pb::rotate_key_response::Outcome;
        let mut check = Checker::new("");
        required_platform(&mut check, &m.platform);
        let kind = key_kind(m.kind());
        if kind.is_none() {
            check.refuse("kind", "must be given");
        }
        let kind = check.finish(kind)?;
        let (caller, asker) = (&call.caller, call.asker);
        if m.validate_only {
            let planned = self.vault.plan_rotation(caller, asker, &m.platform, kind, m.rate).await?;
            return Ok(Outcome::Plan(plan(planned)));
        }
        let begun = self.vault.rotate_key(caller, asker, &m.platform, kind, m.rate).await?;
        Ok(Outcome::Operation(operation_pb(&self.vault, &begun)))
    }

    pub(super) async fn rekey(
        &self,
        call: Call,
        m: pb::RekeyPlatformRequest,
    ) -> Result<pb::rekey_platform_response::Outcome, VaultError> {
        use pb::rekey_platform_response::Outcome;
        let mut check = Checker::new("");
        required_platform(&mut check, &m.platform);
        check.finish(Some(()))?;
        let (caller, asker) = (&call.caller, call.asker);
        if m.validate_only {
            return Ok(Outcome::Plan(plan(self.vault.plan_rekey(caller, asker, &m.platform, m.rate).await?)));
        }
        let begun = self.vault.rekey_platform(caller, asker, &m.platform, m.rate).await?;
        Ok(Outcome::Operation(operation_pb(&self.vault, &begun)))
    }

    pub(super) async fn disable(
        &self,
        call: Call,
        m: pb::DisableKeyRequest,
    ) -> Result<pb::KeyVersion, VaultError> {
        let which = which(m.kind, m.version)?;
        let row = self.vault.disable_key(&call.caller, call.asker, &m.platform, which).await?;
        Ok(self.key(&row))
    }

    pub(super) async fn enable(
        &self,
        call: Call,
        m: pb::EnableKeyRequest,
    ) -> Result<pb::KeyVersion, VaultError> {
        let which = which(m.kind, m.version)?;
        let row = self.vault.enable_key(&call.caller, call.asker, &m.platform, which).await?;
        Ok(self.key(&row))
    }

    pub(super) async fn schedule_horizon_of(
        &self,
        call: Call,
        m: pb::ScheduleHorizonRequest,
    ) -> Result<pb::HorizonPlan, VaultError> {
        let terms = HorizonTerms { horizon_days: m.horizon_days, rotate_days: m.rotate_days };
        let new = NewHorizon { terms, valid_days: m.valid_days };
        Ok(horizon(&self.vault.schedule_horizon(&call.caller, call.asker, new).await?))
    }

    pub(super) async fn schedule(
        &self,
        call: Call,
        m: pb::ScheduleKeyDestructionRequest,
    ) -> Result<pb::KeyVersion, VaultError> {
        let mut check = Checker::new("");
        let at = check.required_time("destroy_time", m.destroy_time);
        let at = check.finish(at)?;
        let (vault, which) = (&self.vault, which(m.kind, m.version)?);
        let (caller, asker, platform) = (&call.caller, call.asker, &m.platform);
        let row = if which.kind == KeyKind::Root {
            vault.schedule_root_destruction(caller, asker, platform, m.version, at).await?
        } else {
            vault.schedule_key_destruction(caller, asker, platform, which, at).await?
        };
        Ok(self.key(&row))
    }
}

/// A standing plan for an answer.
fn horizon(row: &HorizonRow) -> pb::HorizonPlan {
    let plan = &row.plan;
    pb::HorizonPlan {
        plan_id: plan.id.to_string(),
        horizon_days: plan.terms.horizon_days,
        rotate_days: plan.terms.rotate_days,
        plan_sha256: plan.sha256.to_vec(),
        proposer_person_id: plan.proposer.to_string(),
        approver_person_id: plan.approver.map(|id| id.to_string()).unwrap_or_default(),
        approve_time: Some(time(row.created_at)),
        expire_time: Some(time(plan.expires_at)),
        revoke_time: Some(row.updated_at).filter(|_| plan.state == HorizonState::Revoked).map(time),
    }
}

fn usage(of: KeyUsage) -> pb::KeyUsage {
    let uses = i64::try_from(of.uses).unwrap_or(i64::MAX);
    let counted = |kind| if of.kind == kind { uses } else { 0 };
    pb::KeyUsage {
        kind: kind(of.kind.as_str()).into(),
        version: of.version,
        state: state(of.state).into(),
        subject_keys: counted(KeyKind::Platform),
        hashes: counted(KeyKind::Index),
    }
}

/// A version of a key; of the platform key where nothing is said. A kind from a newer contract is another key.
fn which(number: i32, version: u32) -> Result<WhichKey, VaultError> {
    let kind = match pb::KeyKind::try_from(number).map(key_kind) {
        Ok(kind) => kind.unwrap_or(KeyKind::Platform),
        Err(_) => return Err(VaultError::invalid("kind", "is none that this vault knows")),
    };
    Ok(WhichKey { kind, version })
}

fn plan(plan: RotationPlan) -> pb::RotationPlan {
    pb::RotationPlan {
        version: plan.version,
        subject_keys: i64::try_from(plan.subject_keys).unwrap_or(i64::MAX),
        estimated_seconds: plan.seconds.map_or(0, |seconds| i64::try_from(seconds).unwrap_or(i64::MAX)),
        blockers: plan.blockers,
        logs: i64::try_from(plan.logs).unwrap_or(i64::MAX),
        platform_keys: i64::try_from(plan.platform_keys).unwrap_or(i64::MAX),
        values: i64::try_from(plan.values).unwrap_or(i64::MAX),
        document_parts: i64::try_from(plan.parts).unwrap_or(i64::MAX),
    }
}

fn kms_report(report: KmsReport) -> pb::CheckKmsResponse {
    let steps = report.steps.into_iter().map(|step| pb::KmsStep {
        name: step.name.to_owned(),
        duration_micros: i64::try_from(step.took.as_micros()).unwrap_or(i64::MAX),
        problem: step.problem.unwrap_or_default(),
    });
    let versions = report.roots.into_iter().map(|root| pb::RootVersion {
        version: root.version,
        active: root.active,
        present: root.present,
        keys: i64::try_from(root.keys).unwrap_or(i64::MAX),
    });
    pb::CheckKmsResponse {
        place: report.place,
        steps: steps.collect(),
        versions: versions.collect(),
        problems: report.problems,
    }
}

fn kind(code: &str) -> pb::KeyKind {
    match code.parse() {
        Ok(KeyKind::Platform) => pb::KeyKind::Platform,
        Ok(KeyKind::Index) => pb::KeyKind::Index,
        Ok(KeyKind::Row) => pb::KeyKind::Row,
        Ok(KeyKind::Request) => pb::KeyKind::Request,
        Ok(KeyKind::Audit) => pb::KeyKind::Audit,
        Ok(KeyKind::Root) => pb::KeyKind::Root,
        Err(_) => pb::KeyKind::Unspecified,
    }
}

const fn key_kind(kind: pb::KeyKind) -> Option<KeyKind> {
    match kind {
        pb::KeyKind::Unspecified => None,
        pb::KeyKind::Platform => Some(KeyKind::Platform),
        pb::KeyKind::Index => Some(KeyKind::Index),
        pb::KeyKind::Row => Some(KeyKind::Row),
        pb::KeyKind::Request => Some(KeyKind::Request),
        pb::KeyKind::Audit => Some(KeyKind::Audit),
        pb::KeyKind::Root => Some(KeyKind::Root),
    }
}

const fn state(state: KeyState) -> pb::KeyState {
    match state {
        KeyState::Pending => pb::KeyState::Pending,
        KeyState::Active => pb::KeyState::Active,
        KeyState::Retiring => pb::KeyState::Retiring,
        KeyState::Disabled => pb::KeyState::Disabled,
        KeyState::DestructionScheduled => pb::KeyState::DestructionScheduled,
        KeyState::Destroyed => pb::KeyState::Destroyed,
    }
}

#[tonic::async_trait]
impl key_service_server::KeyService for KeyService {
    async fn list_keys(
        &self,
        request: Request<pb::ListKeysRequest>,
    ) -> Result<Response<pb::ListKeysResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        answer(self.list(call, request.into_inner()), |page| page).await
    }

    async fn list_key_usage(
        &self,
        request: Request<pb::ListKeyUsageRequest>,
    ) -> Result<Response<pb::ListKeyUsageResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        answer(self.usage(call, request.into_inner()), |page| page).await
    }

    async fn get_key_report(
        &self,
        request: Request<pb::GetKeyReportRequest>,
    ) -> Result<Response<pb::GetKeyReportResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        answer(self.report(call, request.into_inner()), |report| report).await
    }

    async fn check_kms(
        &self,
        request: Request<pb::CheckKmsRequest>,
    ) -> Result<Response<pb::CheckKmsResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        answer(self.vault.kms_report(&call.caller, call.asker), kms_report).await
    }

    async fn rotate_key(
        &self,
        request: Request<pb::RotateKeyRequest>,
    ) -> Result<Response<pb::RotateKeyResponse>, Status> {
        use pb::rotate_key_response::Outcome;
        let call = as_plan(&self.vault, &request, &request.get_ref().request_id)?;
        let work =
            outcome(&self.vault, self.rotate(call, request.into_inner()), |done| done, Outcome::Proposal);
        answer(work, |outcome| pb::RotateKeyResponse { outcome: Some(outcome) }).await
    }

    async fn rekey_platform(
        &self,
        request: Request<pb::RekeyPlatformRequest>,
    ) -> Result<Response<pb::RekeyPlatformResponse>, Status> {
        use pb::rekey_platform_response::Outcome;
        let call = as_plan(&self.vault, &request, &request.get_ref().request_id)?;
        let work =
            outcome(&self.vault, self.rekey(call, request.into_inner()), |done| done, Outcome::Proposal);
        answer(work, |outcome| pb::RekeyPlatformResponse { outcome: Some(outcome) }).await
    }

    async fn disable_key(
        &self,
        request: Request<pb::DisableKeyRequest>,
    ) -> Result<Response<pb::DisableKeyResponse>, Status> {
        use pb::disable_key_response::Outcome;
        let call = as_plan(&self.vault, &request, &request.get_ref().request_id)?;
        let work = self.disable(call, request.into_inner());
        let work = outcome(&self.vault, work, Outcome::Applied, Outcome::Proposal);
        answer(work, |outcome| pb::DisableKeyResponse { outcome: Some(outcome) }).await
    }

    async fn enable_key(
        &self,
        request: Request<pb::EnableKeyRequest>,
    ) -> Result<Response<pb::EnableKeyResponse>, Status> {
        use pb::enable_key_response::Outcome;
        let call = as_plan(&self.vault, &request, &request.get_ref().request_id)?;
        let work = self.enable(call, request.into_inner());
        let work = outcome(&self.vault, work, Outcome::Applied, Outcome::Proposal);
        answer(work, |outcome| pb::EnableKeyResponse { outcome: Some(outcome) }).await
    }

    async fn schedule_key_destruction(
        &self,
        request: Request<pb::ScheduleKeyDestructionRequest>,
    ) -> Result<Response<pb::ScheduleKeyDestructionResponse>, Status> {
        use pb::schedule_key_destruction_response::Outcome;
        let call = as_plan(&self.vault, &request, &request.get_ref().request_id)?;
        let work = self.schedule(call, request.into_inner());
        let work = outcome(&self.vault, work, Outcome::Applied, Outcome::Proposal);
        answer(work, |outcome| pb::ScheduleKeyDestructionResponse { outcome: Some(outcome) }).await
    }

    async fn cancel_key_destruction(
        &self,
        request: Request<pb::CancelKeyDestructionRequest>,
    ) -> Result<Response<pb::CancelKeyDestructionResponse>, Status> {
        let call = as_change(&self.vault, &request, &request.get_ref().request_id)?;
        let m = request.into_inner();
        let which = which(m.kind, m.version).map_err(|e| status(&e))?;
        let work = self.vault.cancel_key_destruction(&call.caller, call.asker, &m.platform, which);
        answer(work, |row| pb::CancelKeyDestructionResponse { key: Some(self.key(&row)) }).await
    }

    async fn schedule_horizon(
        &self,
        request: Request<pb::ScheduleHorizonRequest>,
    ) -> Result<Response<pb::ScheduleHorizonResponse>, Status> {
        use pb::schedule_horizon_response::Outcome;
        let call = as_plan(&self.vault, &request, &request.get_ref().request_id)?;
        let work = self.schedule_horizon_of(call, request.into_inner());
        let work = outcome(&self.vault, work, Outcome::Applied, Outcome::Proposal);
        answer(work, |outcome| pb::ScheduleHorizonResponse { outcome: Some(outcome) }).await
    }

    async fn get_horizon(
        &self,
        request: Request<pb::GetHorizonRequest>,
    ) -> Result<Response<pb::GetHorizonResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        let work = self.vault.horizon(&call.caller, call.asker);
        let response = |view: HorizonView| pb::GetHorizonResponse {
            plan: view.row.as_ref().map(horizon),
            in_force: view.in_force,
            problems: view.problems,
        };
        answer(work, response).await
    }

    async fn revoke_horizon(
        &self,
        request: Request<pb::RevokeHorizonRequest>,
    ) -> Result<Response<pb::RevokeHorizonResponse>, Status> {
        let call = as_change(&self.vault, &request, &request.get_ref().request_id)?;
        let work = self.vault.revoke_horizon(&call.caller, call.asker);
        answer(work, |row| pb::RevokeHorizonResponse { plan: Some(horizon(&row)) }).await
    }
}
