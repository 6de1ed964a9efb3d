//! `sandyq.v1.PolicyService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    authn::{Call, as_plan, as_question},
    convert::{Checker, time},
    limits::within_limit,
    pb::{self, policy_service_server},
    platform_convert::page,
    proposal_convert::outcome,
    status::status,
};
use crate::{
    domain::{names::FieldName, secret::Plaintext, token::AnyToken},
    policy::{explain::Clause, model::Problem},
    vault::{
        Vault,
        error::VaultError,
        explain::{Explained, Question, SubjectBy, Target},
        policies::{Applied, PolicyView},
        refusals::Refusal,
    },
};

/// Serves policies, and the explanation of decisions.
pub struct PolicyService {
    vault: Arc<Vault>,
}

impl PolicyService {
    /// A service over an open vault.
    #[must_use]
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }

    fn version(&self, view: &PolicyView) -> pb::PolicyVersion {
        pb::PolicyVersion {
            platform: self.vault.platform_name(view.platform).map(|n| n.to_string()).unwrap_or_default(),
            version: view.version,
            sha256: view.sha256.to_vec(),
            apply_time: Some(time(view.applied_at)),
            effective_time: Some(time(view.effective_at)),
            govern_time: Some(time(view.governs_from)),
            governs: view.governs,
        }
    }

    async fn validate(&self, call: Call, text: &str) -> Result<pb::ValidatePolicyResponse, VaultError> {
        let checked = self.vault.validate_policy(&call.caller, call.asker, text).await?;
        Ok(pb::ValidatePolicyResponse {
            problems: checked.problems.iter().map(problem).collect(),
            version: checked.version.unwrap_or_default(),
            platform: checked.platform.map(|name| name.to_string()).unwrap_or_default(),
        })
    }

    pub(super) async fn apply(
        &self,
        call: Call,
        message: pb::ApplyPolicyRequest,
    ) -> Result<pb::ApplyPolicyResponse, VaultError> {
        use pb::apply_policy_response::Outcome;
        let applied = self.vault.apply_policy(&call.caller, call.asker, message.text, message.validate_only);
        let done = |applied| match applied {
            Applied::Version(view) => Outcome::Applied(self.version(&view)),
            Applied::Refused(problems) => {
                Outcome::Problems(pb::PolicyProblems { problems: problems.iter().map(problem).collect() })
            }
        };
        let outcome = outcome(&self.vault, applied, done, Outcome::Proposal).await?;
        Ok(pb::ApplyPolicyResponse { outcome: Some(outcome) })
    }

    async fn get(
        &self,
        call: Call,
        message: pb::GetPolicyRequest,
    ) -> Result<pb::GetPolicyResponse, VaultError> {
        let version = Some(message.version).filter(|version| *version > 0);
        let (view, text) =
            self.vault.get_policy(&call.caller, call.asker, &message.platform, version).await?;
        Ok(pb::GetPolicyResponse { policy: Some(self.version(&view)), text })
    }

    async fn list(
        &self,
        call: Call,
        message: pb::ListPoliciesRequest,
    ) -> Result<pb::ListPoliciesResponse, VaultError> {
        let mut check = Checker::new("");
        let below: Option<u32> =
            if message.page_token.is_empty() { None } else { check.parse("page_token", &message.page_token) };
        check.finish(Some(()))?;
        let size = page(message.page_size, None)?.size;
        let (versions, more) =
            self.vault.list_policies(&call.caller, call.asker, &message.platform, size, below).await?;
        let next = versions.last().filter(|_| more).map(|(view, _)| view.version.to_string());
        let policies = versions.iter().map(|(view, _)| self.version(view)).collect();
        Ok(pb::ListPoliciesResponse { policies, next_page_token: next.unwrap_or_default() })
    }

    async fn explain(
        &self,
        call: Call,
        message: pb::ExplainDecisionRequest,
    ) -> Result<pb::ExplainDecisionResponse, VaultError> {
        let mut check = Checker::new("");
        let target = match message.target {
            None => check.require("token", None),
            Some(pb::explain_decision_request::Target::Token(text)) => {
                let text = Plaintext::new(text);
                let token = AnyToken::parse(text.expose()).map_err(|_| {
                    self.vault.count_refusals(&call.caller, Refusal::TokenMalformed, 1);
                    VaultError::MistypedToken
                })?;
                Some(Target::Token(token))
            }
            Some(pb::explain_decision_request::Target::SubjectField(named)) => {
                subject_field(&mut check, named)
            }
        };
        let purpose = check.parse("purpose", &message.purpose);
        let view = check.view("view", message.view);
        let caller = if message.caller.is_empty() { None } else { check.parse("caller", &message.caller) };
        let recipient =
            if message.recipient.is_empty() { None } else { check.parse("recipient", &message.recipient) };
        let reference = check.reference("reference", &message.reference);
        let outreach = check.outreach(message.outreach.as_ref());
        let question = (|| {
            let (target, purpose, view) = (target?, purpose?, view?);
            Some(Question { target, purpose, caller, view, recipient, outreach, reference })
        })();
        let question = check.finish(question)?;
        let explained =
            self.vault.explain_decision(&call.caller, call.asker, &message.platform, question).await?;
        Ok(explanation(&explained))
    }
}

fn subject_field(check: &mut Checker, named: pb::SubjectField) -> Option<Target> {
    use pb::subject_name::Subject;
    let field: Option<FieldName> = check.parse("subject_field.field", &named.field);
    let by = match named.subject.and_then(|name| name.subject) {
        Some(Subject::SubjectReference(reference)) => {
            check.subject_reference(&reference);
            Some(SubjectBy::Reference(reference))
        }
        Some(Subject::SubjectId(id)) => check.parse("subject_field.subject_id", &id).map(SubjectBy::Id),
        None => check.require("subject_field.subject", None),
    };
    Some(Target::Field(by?, field?))
}

fn problem(problem: &Problem) -> pb::PolicyProblem {
    pb::PolicyProblem {
        line: u32::try_from(problem.line).unwrap_or_default(),
        place: problem.place.clone(),
        rule: problem.rule.clone(),
    }
}

fn explanation(explained: &Explained) -> pb::ExplainDecisionResponse {
    let (decision, reason) = match explained.decision {
        Ok(_) => (pb::Decision::Permit, String::new()),
        Err(denial) => (pb::Decision::Deny, denial.as_str().to_owned()),
    };
    pb::ExplainDecisionResponse {
        decision: decision.into(),
        reason,
        clauses: explained.clauses.iter().map(clause).collect(),
        consent_id: explained.decision.ok().flatten().map(|id| id.to_string()).unwrap_or_default(),
        policy_version: explained.policy_version,
    }
}

/// A clause of a law is told as such; one of the policy says first what it is about.
fn clause(clause: &Clause) -> pb::DecisionClause {
    let first = clause.says.split([' ', ',', ':']).next().unwrap_or_default();
    let kind = match first {
        _ if clause.clause.starts_with("Law ") => "law",
        "field" | "basis" | "retention" | "consent" | "recipient" | "channel" | "sender" | "ban" => first,
        _ => "purpose",
    };
    pb::DecisionClause { clause: clause.clause.clone(), kind: kind.to_owned(), text: clause.says.clone() }
}

async fn answer<T>(work: impl Future<Output = Result<T, VaultError>>) -> Result<Response<T>, Status> {
    within_limit(async { work.await.map_err(|e| status(&e)) }).await.map(Response::new)
}

#[tonic::async_trait]
impl policy_service_server::PolicyService for PolicyService {
    async fn validate_policy(
        &self,
        request: Request<pb::ValidatePolicyRequest>,
    ) -> Result<Response<pb::ValidatePolicyResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        answer(self.validate(call, &request.get_ref().text)).await
    }

    async fn apply_policy(
        &self,
        request: Request<pb::ApplyPolicyRequest>,
    ) -> Result<Response<pb::ApplyPolicyResponse>, Status> {
        let id = &request.get_ref().request_id;
        let call = as_plan(&self.vault, &request, id)?;
        answer(self.apply(call, request.into_inner())).await
    }

    async fn get_policy(
        &self,
        request: Request<pb::GetPolicyRequest>,
    ) -> Result<Response<pb::GetPolicyResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        answer(self.get(call, request.into_inner())).await
    }

    async fn list_policies(
        &self,
        request: Request<pb::ListPoliciesRequest>,
    ) -> Result<Response<pb::ListPoliciesResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        answer(self.list(call, request.into_inner())).await
    }

    async fn explain_decision(
        &self,
        request: Request<pb::ExplainDecisionRequest>,
    ) -> Result<Response<pb::ExplainDecisionResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        answer(self.explain(call, request.into_inner())).await
    }
}
