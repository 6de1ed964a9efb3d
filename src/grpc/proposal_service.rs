//! `sandyq.v1.ProposalService`.

use std::sync::Arc;

use prost::Message;
use tonic::{Request, Response, Status};

use super::{
    authn::{Call, RequestIdRule, authenticate},
    convert::Checker,
    key_service::KeyService,
    limits::within_limit,
    pb::{self, proposal_service_server},
    platform_convert::{page, place, token},
    platform_service::PlatformService,
    policy_service::PolicyService,
    proposal_convert::{readable, record, summary, wanted},
    status::status,
    subject_service::SubjectService,
};
use crate::{
    domain::ids::ProposalId,
    policy::decide::Denial,
    vault::{
        Vault,
        access::Call as Kind,
        approval::{Approving, ToRun},
        error::VaultError,
    },
};

/// Serves proposals.
pub struct ProposalService {
    vault: Arc<Vault>,
}

impl ProposalService {
    /// A service over an open vault.
    #[must_use]
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }

    async fn list(
        &self,
        call: Call,
        m: pb::ListProposalsRequest,
    ) -> Result<pb::ListProposalsResponse, VaultError> {
        let page = page(m.page_size, place(&m.page_token)?)?;
        let wanted = wanted(m.state)?;
        let found = self.vault.list_proposals(&call.caller, call.asker, &m.platform, wanted, page).await?;
        Ok(pb::ListProposalsResponse {
            proposals: found.page.rows.iter().map(|view| record(&self.vault, view)).collect(),
            next_page_token: token(found.page.next),
            damaged_proposal_ids: found.damaged.iter().map(ToString::to_string).collect(),
        })
    }

    async fn get(
        &self,
        call: Call,
        m: pb::GetProposalRequest,
    ) -> Result<pb::GetProposalResponse, VaultError> {
        let id = proposal_id(&m.proposal_id)?;
        let (view, plan) = self.vault.proposal(&call.caller, call.asker, id).await?;
        let shown = plan.map(|plan| readable(view.call, &plan).ok_or(Denial::DataDamaged)).transpose()?;
        let (request_json, withheld_fields) = shown.unwrap_or_default();
        Ok(pb::GetProposalResponse {
            proposal: Some(record(&self.vault, &view)),
            summary: summary(view.call).to_owned(),
            request_json,
            withheld_fields,
        })
    }

    async fn approve(
        &self,
        call: Call,
        m: pb::ApproveProposalRequest,
    ) -> Result<pb::ApproveProposalResponse, VaultError> {
        let mut check = Checker::new("");
        let id = check.parse("proposal_id", &m.proposal_id);
        let sha256 = <[u8; 32]>::try_from(m.plan_sha256.as_slice()).ok();
        if sha256.is_none() {
            check.refuse("plan_sha256", "must have 32 bytes");
        }
        let (id, sha256) = check.finish(id.zip(sha256))?;
        let view = match self.vault.approve_proposal(&call.caller, call.asker.clone(), id, sha256).await? {
            Approving::Before(view) => *view,
            Approving::Run(run) => {
                call.still_stands(&self.vault, Kind::ApproveProposal)?;
                let (kind, proposer, asker) = (run.call, Arc::clone(&run.proposer), run.asker.clone());
                // Boxed: it holds the future of every call that can be proposed.
                let mut done = Box::pin(self.run(*run)).await;
                if let Err(error @ VaultError::Invalid(_)) = &done
                    && !ToRun::is_decided(&asker)
                {
                    // Refused on its way to the lane: it can never be carried out, and waits for nobody any more.
                    done = self.vault.void_proposal(kind, &proposer, asker.clone(), error.clone()).await;
                }
                ToRun::outcome(&asker, done)?
            }
        };
        Ok(pb::ApproveProposalResponse { proposal: Some(record(&self.vault, &view)) })
    }

    async fn reject(
        &self,
        call: Call,
        m: pb::RejectProposalRequest,
    ) -> Result<pb::RejectProposalResponse, VaultError> {
        let id = proposal_id(&m.proposal_id)?;
        let view = self.vault.reject_proposal(&call.caller, call.asker, id).await?;
        Ok(pb::RejectProposalResponse { proposal: Some(record(&self.vault, &view)) })
    }

    /// Runs a proposed request by the way that it came, as its proposer's.
    #[expect(clippy::wildcard_enum_match_arm, reason = "no other call is ever proposed")]
    async fn run(&self, run: ToRun) -> Result<(), VaultError> {
        let ToRun { call: kind, plan, proposer, asker } = run;
        let call = Call { caller: proposer, asker, standing: None };
        let platforms = PlatformService::new(Arc::clone(&self.vault));
        let policies = PolicyService::new(Arc::clone(&self.vault));
        let subjects = SubjectService::new(Arc::clone(&self.vault));
        let keys = KeyService::new(Arc::clone(&self.vault));
        let plan = plan.expose();
        match kind {
            Kind::ApplyPolicy => policies.apply(call, read(plan)?).await.map(drop),
            Kind::CreatePlatform => platforms.create(call, read(plan)?).await.map(drop),
            Kind::OpenPlatform => platforms.open(call, read(plan)?).await.map(drop),
            Kind::EnrolCaller => platforms.enrol(call, read(plan)?).await.map(drop),
            Kind::UpdateCaller => platforms.update(call, read(plan)?).await.map(drop),
            Kind::EnableCaller => platforms.enable(call, read(plan)?).await.map(drop),
            Kind::EnrolPerson => platforms.add_person(call, read(plan)?).await.map(drop),
            Kind::GrantRole => platforms.grant(call, read(plan)?).await.map(drop),
            Kind::EnrolStaffKey => platforms.enrol_key(call, read(plan)?).await.map(drop),
            Kind::RegisterRecipient => platforms.register(call, read(plan)?).await.map(drop),
            Kind::UpdateRecipientKey => platforms.update_key(call, read(plan)?).await.map(drop),
            Kind::SetBudget => platforms.set_limit(call, read(plan)?).await.map(drop),
            Kind::EraseSubject => subjects.erase(call, read(plan)?).await.map(drop),
            Kind::CancelErasure => subjects.cancel(call, read(plan)?).await.map(drop),
            Kind::RotateKey => keys.rotate(call, read(plan)?).await.map(drop),
            Kind::RekeyPlatform => keys.rekey(call, read(plan)?).await.map(drop),
            Kind::DisableKey => keys.disable(call, read(plan)?).await.map(drop),
            Kind::EnableKey => keys.enable(call, read(plan)?).await.map(drop),
            Kind::ScheduleHorizon => keys.schedule_horizon_of(call, read(plan)?).await.map(drop),
            Kind::ScheduleKeyDestruction => keys.schedule(call, read(plan)?).await.map(drop),
            _ => Err(Denial::DataDamaged.into()),
        }
    }
}

fn read<T: Message + Default>(plan: &[u8]) -> Result<T, VaultError> {
    T::decode(plan).map_err(|_| VaultError::invalid("request", "is none that this release can carry out"))
}

fn proposal_id(text: &str) -> Result<ProposalId, VaultError> {
    let mut check = Checker::new("");
    let id = check.parse("proposal_id", text);
    check.finish(id)
}

/// Each call is authenticated and run alike.
macro_rules! calls {
    ($($name:ident($request:ident) -> $response:ident = $run:ident, $rule:ident, |$message:ident| $id:expr;)+) => {
        #[tonic::async_trait]
        impl proposal_service_server::ProposalService for ProposalService {
            $(
                async fn $name(
                    &self,
                    request: Request<pb::$request>,
                ) -> Result<Response<pb::$response>, Status> {
                    let $message = request.get_ref();
                    let call = authenticate(&self.vault, &request, $id, RequestIdRule::$rule);
                    let call = call.map_err(|e| status(&e))?;
                    within_limit(async {
                        self.$run(call, request.into_inner()).await.map_err(|e| status(&e))
                    })
                    .await
                    .map(Response::new)
                }
            )+
        }
    };
}

calls! {
    list_proposals(ListProposalsRequest) -> ListProposalsResponse = list, Optional, |_m| "";
    get_proposal(GetProposalRequest) -> GetProposalResponse = get, Optional, |_m| "";
    approve_proposal(ApproveProposalRequest) -> ApproveProposalResponse = approve, Required, |m| &m.request_id;
    reject_proposal(RejectProposalRequest) -> RejectProposalResponse = reject, Required, |m| &m.request_id;
}
