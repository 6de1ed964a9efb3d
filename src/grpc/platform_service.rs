//! `sandyq.v1.PlatformService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    authn::{Call, as_change, as_plan, as_question},
    convert::{Checker, time},
    limits::answer,
    pb::{self, platform_service_server},
    platform_convert::{
        budget, caller, caller_terms, limit, new_platform, new_recipient, page, person, place, platform,
        public_key, recipient, required_platform, role, token,
    },
    proposal_convert::outcome,
    staff_convert::{key_sha256, new_staff_key, staff_key},
};
use crate::{
    domain::{
        caller::Role,
        ids::{CallerId, PersonId},
        names::RecipientName,
    },
    vault::{
        Vault,
        callers::{CallerRow, NewCaller},
        error::VaultError,
        install::VAULT,
        persons::{PersonView, RoleOf},
        platforms::PlatformView,
        recipients::{KeyAnswer, RecipientRow},
        staff_keys::StaffKeyRow,
    },
};

/// Serves platforms, callers, persons, recipients and budgets.
pub struct PlatformService {
    vault: Arc<Vault>,
}

impl PlatformService {
    /// A service over an open vault.
    #[must_use]
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }

    pub(super) async fn create(
        &self,
        call: Call,
        message: pb::CreatePlatformRequest,
    ) -> Result<pb::Platform, VaultError> {
        let (name, legal_name, bin) = new_platform(message)?;
        let made = self.vault.create_platform(&call.caller, call.asker, name, legal_name, bin).await?;
        Ok(platform(PlatformView { platform: made, policy_version: None }))
    }

    pub(super) async fn enrol(
        &self,
        call: Call,
        message: pb::EnrolCallerRequest,
    ) -> Result<pb::Caller, VaultError> {
        let mut check = Checker::new("");
        required_platform(&mut check, &message.platform);
        let spiffe_id = check.parse("spiffe_id", &message.spiffe_id);
        let terms = caller_terms(&mut check, &message.name, &message.roles, &message.key_pins);
        let person =
            if message.person_id.is_empty() { None } else { check.parse("person_id", &message.person_id) };
        let (spiffe_id, terms) = check.finish(spiffe_id.zip(terms))?;
        let new = NewCaller { spiffe_id, terms, person };
        let row = self.vault.enrol_caller(&call.caller, call.asker, &message.platform, new).await?;
        Ok(caller(&self.vault, &row))
    }

    pub(super) async fn update(
        &self,
        call: Call,
        message: pb::UpdateCallerRequest,
    ) -> Result<pb::Caller, VaultError> {
        let mut check = Checker::new("");
        let id: Option<CallerId> = check.parse("caller_id", &message.caller_id);
        let terms = caller_terms(&mut check, &message.name, &message.roles, &message.key_pins);
        let (id, terms) = check.finish(id.zip(terms))?;
        let row = self.vault.update_caller(&call.caller, call.asker, id, terms).await?;
        Ok(caller(&self.vault, &row))
    }

    pub(super) async fn enable(
        &self,
        call: Call,
        message: pb::EnableCallerRequest,
    ) -> Result<pb::Caller, VaultError> {
        let id = caller_id(&message.caller_id)?;
        let row = self.vault.enable_caller(&call.caller, call.asker, id).await?;
        Ok(caller(&self.vault, &row))
    }

    pub(super) async fn add_person(
        &self,
        call: Call,
        message: pb::EnrolPersonRequest,
    ) -> Result<pb::Person, VaultError> {
        let mut check = Checker::new("");
        let handle = check.parse("handle", &message.handle);
        let view = self.vault.enrol_person(&call.caller, call.asker, check.finish(handle)?).await?;
        Ok(person(&self.vault, &view))
    }

    async fn callers(
        &self,
        call: Call,
        message: pb::ListCallersRequest,
    ) -> Result<pb::ListCallersResponse, VaultError> {
        let page = page(message.page_size, place(&message.page_token)?)?;
        let found = self.vault.list_callers(&call.caller, call.asker, &message.platform, page).await?;
        let callers = found.rows.iter().map(|row: &CallerRow| caller(&self.vault, row)).collect();
        Ok(pb::ListCallersResponse { callers, next_page_token: token(found.next) })
    }

    async fn platforms(
        &self,
        call: Call,
        message: pb::ListPlatformsRequest,
    ) -> Result<pb::ListPlatformsResponse, VaultError> {
        let after =
            Some(message.page_token).filter(|name| !name.is_empty()).map(|name| (name, String::new()));
        let page = page(message.page_size, after)?;
        let found = self.vault.list_platforms(&call.caller, call.asker, page).await?;
        Ok(pb::ListPlatformsResponse {
            platforms: found.rows.into_iter().map(platform).collect(),
            next_page_token: found.next.map(|(name, _)| name).unwrap_or_default(),
            governance_mode: self.vault.settings().governance.as_str().to_owned(),
        })
    }

    async fn persons(
        &self,
        call: Call,
        message: pb::ListPersonsRequest,
    ) -> Result<pb::ListPersonsResponse, VaultError> {
        let after = Some(message.page_token).filter(|handle| !handle.is_empty());
        let page = page(message.page_size, after.map(|handle| (VAULT.to_owned(), handle)))?;
        let found = self.vault.list_persons(&call.caller, call.asker, page).await?;
        Ok(pb::ListPersonsResponse {
            persons: found.rows.iter().map(|view: &PersonView| person(&self.vault, view)).collect(),
            next_page_token: found.next.map(|(_, handle)| handle).unwrap_or_default(),
        })
    }

    pub(super) async fn grant(
        &self,
        call: Call,
        message: pb::GrantRoleRequest,
    ) -> Result<pb::Person, VaultError> {
        let of = role_of(&message.person_id, message.role)?;
        let view = self.vault.grant_role(&call.caller, call.asker, of, &message.platform).await?;
        Ok(person(&self.vault, &view))
    }

    async fn revoke(&self, call: Call, message: pb::RevokeRoleRequest) -> Result<pb::Person, VaultError> {
        let of = role_of(&message.person_id, message.role)?;
        let view = self.vault.revoke_role(&call.caller, call.asker, of, &message.platform).await?;
        Ok(person(&self.vault, &view))
    }

    pub(super) async fn enrol_key(
        &self,
        call: Call,
        message: pb::EnrolStaffKeyRequest,
    ) -> Result<pb::StaffKey, VaultError> {
        let new = new_staff_key(message)?;
        let row = self.vault.enrol_staff_key(&call.caller, call.asker, new).await?;
        Ok(staff_key(&self.vault, &row))
    }

    async fn staff_keys(
        &self,
        call: Call,
        message: pb::ListStaffKeysRequest,
    ) -> Result<pb::ListStaffKeysResponse, VaultError> {
        let after = Some(message.page_token).filter(|key| !key.is_empty());
        let page = page(message.page_size, after.map(|key| (VAULT.to_owned(), key)))?;
        let found = self.vault.list_staff_keys(&call.caller, call.asker, page).await?;
        Ok(pb::ListStaffKeysResponse {
            staff_keys: found.rows.iter().map(|row: &StaffKeyRow| staff_key(&self.vault, row)).collect(),
            next_page_token: found.next.map(|(_, key)| key).unwrap_or_default(),
        })
    }

    async fn withdraw_key(
        &self,
        call: Call,
        message: pb::WithdrawStaffKeyRequest,
    ) -> Result<pb::StaffKey, VaultError> {
        let key = key_sha256(&message.key_sha256)?;
        let row = self.vault.withdraw_staff_key(&call.caller, call.asker, key).await?;
        Ok(staff_key(&self.vault, &row))
    }

    pub(super) async fn register(
        &self,
        call: Call,
        message: pb::RegisterRecipientRequest,
    ) -> Result<pb::Recipient, VaultError> {
        let new = new_recipient(&message)?;
        let row = self.vault.register_recipient(&call.caller, call.asker, &message.platform, new).await?;
        Ok(recipient(&self.vault, &row))
    }

    pub(super) async fn update_key(
        &self,
        call: Call,
        message: pb::UpdateRecipientKeyRequest,
    ) -> Result<pb::Recipient, VaultError> {
        let mut check = Checker::new("");
        required_platform(&mut check, &message.platform);
        let name = check.parse("recipient", &message.recipient);
        let key = public_key(&mut check, &message.public_key);
        let (name, key) = check.finish(name.zip(key))?;
        let row =
            self.vault.update_recipient_key(&call.caller, call.asker, &message.platform, name, key).await?;
        Ok(recipient(&self.vault, &row))
    }

    async fn prove(
        &self,
        call: Call,
        message: pb::ProveRecipientKeyRequest,
    ) -> Result<pb::ProveRecipientKeyResponse, VaultError> {
        let mut check = Checker::new("");
        required_platform(&mut check, &message.platform);
        let name = check.parse("recipient", &message.recipient);
        let answer = <[u8; 32]>::try_from(message.answer.as_slice()).ok();
        if answer.is_none() {
            check.refuse("answer", "must have 32 bytes");
        }
        let (name, answer) = check.finish(name.zip(answer))?;
        let answer = KeyAnswer::new(answer);
        let done =
            self.vault.prove_recipient_key(&call.caller, call.asker, &message.platform, name, answer).await?;
        let recipient = Some(recipient(&self.vault, &done.row));
        Ok(pb::ProveRecipientKeyResponse { recipient, proved: done.proved })
    }

    async fn end(&self, call: Call, message: pb::EndRecipientRequest) -> Result<pb::Recipient, VaultError> {
        let mut check = Checker::new("");
        required_platform(&mut check, &message.platform);
        let name = check.parse("recipient", &message.recipient);
        let name: RecipientName = check.finish(name)?;
        let row = self.vault.end_recipient(&call.caller, call.asker, &message.platform, name).await?;
        Ok(recipient(&self.vault, &row))
    }

    async fn recipients(
        &self,
        call: Call,
        message: pb::ListRecipientsRequest,
    ) -> Result<pb::ListRecipientsResponse, VaultError> {
        let page = page(message.page_size, place(&message.page_token)?)?;
        let found = self.vault.list_recipients(&call.caller, call.asker, &message.platform, page).await?;
        let recipients = found.rows.iter().map(|row: &RecipientRow| recipient(&self.vault, row)).collect();
        Ok(pb::ListRecipientsResponse { recipients, next_page_token: token(found.next) })
    }

    pub(super) async fn open(
        &self,
        call: Call,
        message: pb::OpenPlatformRequest,
    ) -> Result<pb::Closure, VaultError> {
        let mut check = Checker::new("");
        required_platform(&mut check, &message.platform);
        check.finish(Some(()))?;
        let opened = self.vault.open_platform(&call.caller, call.asker, &message.platform).await?;
        Ok(pb::Closure {
            platform: message.platform,
            reason: opened.reason.as_str().to_owned(),
            close_time: Some(time(opened.closed_at)),
            open_time: opened.opened_at.map(time),
        })
    }

    pub(super) async fn set_limit(
        &self,
        call: Call,
        message: pb::SetBudgetRequest,
    ) -> Result<pb::Budget, VaultError> {
        let mut check = Checker::new("");
        let id: Option<CallerId> = check.parse("caller_id", &message.caller_id);
        let limit = limit(&mut check, &message);
        let (id, limit) = check.finish(id.zip(limit))?;
        Ok(budget(&self.vault.set_budget(&call.caller, call.asker, id, limit).await?))
    }

    async fn budgets(
        &self,
        call: Call,
        message: pb::ListBudgetsRequest,
    ) -> Result<pb::ListBudgetsResponse, VaultError> {
        let page = page(message.page_size, place(&message.page_token)?)?;
        let found = self.vault.list_budgets(&call.caller, call.asker, &message.platform, page).await?;
        let budgets = found.rows.iter().map(budget).collect();
        Ok(pb::ListBudgetsResponse { budgets, next_page_token: token(found.next) })
    }
}

fn caller_id(text: &str) -> Result<CallerId, VaultError> {
    let mut check = Checker::new("");
    let id = check.parse("caller_id", text);
    check.finish(id)
}

fn person_id(text: &str) -> Result<PersonId, VaultError> {
    let mut check = Checker::new("");
    let id = check.parse("person_id", text);
    check.finish(id)
}

fn role_of(person: &str, number: i32) -> Result<RoleOf, VaultError> {
    let mut check = Checker::new("");
    let person = check.parse("person_id", person);
    let role = role(number).filter(|role| *role != Role::Service);
    if role.is_none() {
        check.refuse("role", "must be a role of the staff");
    }
    let (person, role) = check.finish(person.zip(role))?;
    Ok(RoleOf { person, role })
}

#[tonic::async_trait]
impl platform_service_server::PlatformService for PlatformService {
    async fn create_platform(
        &self,
        request: Request<pb::CreatePlatformRequest>,
    ) -> Result<Response<pb::CreatePlatformResponse>, Status> {
        use pb::create_platform_response::Outcome;
        let call = as_plan(&self.vault, &request, &request.get_ref().request_id)?;
        let work = self.create(call, request.into_inner());
        let work = outcome(&self.vault, work, Outcome::Applied, Outcome::Proposal);
        answer(work, |outcome| pb::CreatePlatformResponse { outcome: Some(outcome) }).await
    }

    async fn list_platforms(
        &self,
        request: Request<pb::ListPlatformsRequest>,
    ) -> Result<Response<pb::ListPlatformsResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        answer(self.platforms(call, request.into_inner()), |page| page).await
    }

    async fn enrol_caller(
        &self,
        request: Request<pb::EnrolCallerRequest>,
    ) -> Result<Response<pb::EnrolCallerResponse>, Status> {
        use pb::enrol_caller_response::Outcome;
        let call = as_plan(&self.vault, &request, &request.get_ref().request_id)?;
        let work = self.enrol(call, request.into_inner());
        let work = outcome(&self.vault, work, Outcome::Applied, Outcome::Proposal);
        answer(work, |outcome| pb::EnrolCallerResponse { outcome: Some(outcome) }).await
    }

    async fn update_caller(
        &self,
        request: Request<pb::UpdateCallerRequest>,
    ) -> Result<Response<pb::UpdateCallerResponse>, Status> {
        use pb::update_caller_response::Outcome;
        let call = as_plan(&self.vault, &request, &request.get_ref().request_id)?;
        let work = self.update(call, request.into_inner());
        let work = outcome(&self.vault, work, Outcome::Applied, Outcome::Proposal);
        answer(work, |outcome| pb::UpdateCallerResponse { outcome: Some(outcome) }).await
    }

    async fn disable_caller(
        &self,
        request: Request<pb::DisableCallerRequest>,
    ) -> Result<Response<pb::DisableCallerResponse>, Status> {
        let call = as_change(&self.vault, &request, &request.get_ref().request_id)?;
        let work = async {
            let id = caller_id(&request.get_ref().caller_id)?;
            self.vault.disable_caller(&call.caller, call.asker, id).await
        };
        answer(work, |row| pb::DisableCallerResponse { caller: Some(caller(&self.vault, &row)) }).await
    }

    async fn enable_caller(
        &self,
        request: Request<pb::EnableCallerRequest>,
    ) -> Result<Response<pb::EnableCallerResponse>, Status> {
        use pb::enable_caller_response::Outcome;
        let call = as_plan(&self.vault, &request, &request.get_ref().request_id)?;
        let work = self.enable(call, request.into_inner());
        let work = outcome(&self.vault, work, Outcome::Applied, Outcome::Proposal);
        answer(work, |outcome| pb::EnableCallerResponse { outcome: Some(outcome) }).await
    }

    async fn list_callers(
        &self,
        request: Request<pb::ListCallersRequest>,
    ) -> Result<Response<pb::ListCallersResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        answer(self.callers(call, request.into_inner()), |page| page).await
    }

    async fn enrol_person(
        &self,
        request: Request<pb::EnrolPersonRequest>,
    ) -> Result<Response<pb::EnrolPersonResponse>, Status> {
        use pb::enrol_person_response::Outcome;
        let call = as_plan(&self.vault, &request, &request.get_ref().request_id)?;
        let work = self.add_person(call, request.into_inner());
        let work = outcome(&self.vault, work, Outcome::Applied, Outcome::Proposal);
        answer(work, |outcome| pb::EnrolPersonResponse { outcome: Some(outcome) }).await
    }

    async fn list_persons(
        &self,
        request: Request<pb::ListPersonsRequest>,
    ) -> Result<Response<pb::ListPersonsResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        answer(self.persons(call, request.into_inner()), |page| page).await
    }

    async fn disable_person(
        &self,
        request: Request<pb::DisablePersonRequest>,
    ) -> Result<Response<pb::DisablePersonResponse>, Status> {
        let call = as_change(&self.vault, &request, &request.get_ref().request_id)?;
        let work = async {
            let id = person_id(&request.get_ref().person_id)?;
            self.vault.disable_person(&call.caller, call.asker, id).await
        };
        answer(work, |view| pb::DisablePersonResponse { person: Some(person(&self.vault, &view)) }).await
    }

    async fn grant_role(
        &self,
        request: Request<pb::GrantRoleRequest>,
    ) -> Result<Response<pb::GrantRoleResponse>, Status> {
        use pb::grant_role_response::Outcome;
        let call = as_plan(&self.vault, &request, &request.get_ref().request_id)?;
        let work = self.grant(call, request.into_inner());
        let work = outcome(&self.vault, work, Outcome::Applied, Outcome::Proposal);
        answer(work, |outcome| pb::GrantRoleResponse { outcome: Some(outcome) }).await
    }

    async fn revoke_role(
        &self,
        request: Request<pb::RevokeRoleRequest>,
    ) -> Result<Response<pb::RevokeRoleResponse>, Status> {
        let call = as_change(&self.vault, &request, &request.get_ref().request_id)?;
        let response = |person| pb::RevokeRoleResponse { person: Some(person) };
        answer(self.revoke(call, request.into_inner()), response).await
    }

    async fn enrol_staff_key(
        &self,
        request: Request<pb::EnrolStaffKeyRequest>,
    ) -> Result<Response<pb::EnrolStaffKeyResponse>, Status> {
        use pb::enrol_staff_key_response::Outcome;
        let call = as_plan(&self.vault, &request, &request.get_ref().request_id)?;
        let work = self.enrol_key(call, request.into_inner());
        let work = outcome(&self.vault, work, Outcome::Applied, Outcome::Proposal);
        answer(work, |outcome| pb::EnrolStaffKeyResponse { outcome: Some(outcome) }).await
    }

    async fn list_staff_keys(
        &self,
        request: Request<pb::ListStaffKeysRequest>,
    ) -> Result<Response<pb::ListStaffKeysResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        answer(self.staff_keys(call, request.into_inner()), |page| page).await
    }

    async fn withdraw_staff_key(
        &self,
        request: Request<pb::WithdrawStaffKeyRequest>,
    ) -> Result<Response<pb::WithdrawStaffKeyResponse>, Status> {
        let call = as_change(&self.vault, &request, &request.get_ref().request_id)?;
        let response = |key| pb::WithdrawStaffKeyResponse { staff_key: Some(key) };
        answer(self.withdraw_key(call, request.into_inner()), response).await
    }

    async fn register_recipient(
        &self,
        request: Request<pb::RegisterRecipientRequest>,
    ) -> Result<Response<pb::RegisterRecipientResponse>, Status> {
        use pb::register_recipient_response::Outcome;
        let call = as_plan(&self.vault, &request, &request.get_ref().request_id)?;
        let work = self.register(call, request.into_inner());
        let work = outcome(&self.vault, work, |done| Outcome::Applied(Box::new(done)), Outcome::Proposal);
        answer(work, |outcome| pb::RegisterRecipientResponse { outcome: Some(outcome) }).await
    }

    async fn open_platform(
        &self,
        request: Request<pb::OpenPlatformRequest>,
    ) -> Result<Response<pb::OpenPlatformResponse>, Status> {
        use pb::open_platform_response::Outcome;
        let call = as_plan(&self.vault, &request, &request.get_ref().request_id)?;
        let work = self.open(call, request.into_inner());
        let work = outcome(&self.vault, work, Outcome::Applied, Outcome::Proposal);
        answer(work, |outcome| pb::OpenPlatformResponse { outcome: Some(outcome) }).await
    }

    async fn update_recipient_key(
        &self,
        request: Request<pb::UpdateRecipientKeyRequest>,
    ) -> Result<Response<pb::UpdateRecipientKeyResponse>, Status> {
        use pb::update_recipient_key_response::Outcome;
        let call = as_plan(&self.vault, &request, &request.get_ref().request_id)?;
        let work = self.update_key(call, request.into_inner());
        let work = outcome(&self.vault, work, |done| Outcome::Applied(Box::new(done)), Outcome::Proposal);
        answer(work, |outcome| pb::UpdateRecipientKeyResponse { outcome: Some(outcome) }).await
    }

    async fn prove_recipient_key(
        &self,
        request: Request<pb::ProveRecipientKeyRequest>,
    ) -> Result<Response<pb::ProveRecipientKeyResponse>, Status> {
        let call = as_change(&self.vault, &request, &request.get_ref().request_id)?;
        answer(self.prove(call, request.into_inner()), |proved| proved).await
    }

    async fn end_recipient(
        &self,
        request: Request<pb::EndRecipientRequest>,
    ) -> Result<Response<pb::EndRecipientResponse>, Status> {
        let call = as_change(&self.vault, &request, &request.get_ref().request_id)?;
        let response = |ended| pb::EndRecipientResponse { recipient: Some(ended) };
        answer(self.end(call, request.into_inner()), response).await
    }

    async fn list_recipients(
        &self,
        request: Request<pb::ListRecipientsRequest>,
    ) -> Result<Response<pb::ListRecipientsResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        answer(self.recipients(call, request.into_inner()), |page| page).await
    }

    async fn set_budget(
        &self,
        request: Request<pb::SetBudgetRequest>,
    ) -> Result<Response<pb::SetBudgetResponse>, Status> {
        use pb::set_budget_response::Outcome;
        let call = as_plan(&self.vault, &request, &request.get_ref().request_id)?;
        let work = self.set_limit(call, request.into_inner());
        let work = outcome(&self.vault, work, Outcome::Applied, Outcome::Proposal);
        answer(work, |outcome| pb::SetBudgetResponse { outcome: Some(outcome) }).await
    }

    async fn list_budgets(
        &self,
        request: Request<pb::ListBudgetsRequest>,
    ) -> Result<Response<pb::ListBudgetsResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        answer(self.budgets(call, request.into_inner()), |page| page).await
    }
}
