//! `sandyq.v1.SubjectService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    authn::{Call, RequestIdRule, authenticate},
    codes::same,
    convert::{Checker, page_size, page_token, source, time, view_code},
    limits::within_limit,
    pb::{
        self, cancel_erasure_response::Outcome as Cancelled, erase_subject_response::Outcome as Erased,
        subject_service_server,
    },
    proposal_convert::outcome,
    registers::{place, place_token, reference},
    status::status,
};
use crate::{
    domain::{
        consent::SubjectState,
        event::{Accuracy, AccuracyMark, SubjectEvent, WithdrawalBar, WithdrawalRefusal},
        ids::PlatformId,
        receipt::ReceiptKind,
        subject::{Restriction, RestrictionRequester, RestrictionTrigger, SubjectKind},
    },
    vault::{
        Vault,
        erasure::Erasure,
        error::VaultError,
        restrictions::{self, ListedRestrictions, RestrictedSubject},
        subjects::{Block, Disclosure, MAX_PAGE, SubjectName, SubjectView},
    },
};

same!(pub(super) accuracy, accuracy_pb, Accuracy { Unverified, Confirmed, Disputed });
same!(bar, bar_pb, WithdrawalBar { Law, Obligation });

/// Serves subjects.
pub struct SubjectService {
    vault: Arc<Vault>,
}

impl SubjectService {
    /// A service over an open vault.
    #[must_use]
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }

    fn call<T: prost::Message>(
        &self,
        request: &Request<T>,
        id: &str,
        rule: RequestIdRule,
    ) -> Result<Call, Status> {
        authenticate(&self.vault, request, id, rule).map_err(|e| status(&e))
    }

    async fn get(&self, call: Call, m: pb::GetSubjectRequest) -> Result<pb::GetSubjectResponse, VaultError> {
        let subject = name(m.subject)?;
        let view = self.vault.subject(&call.caller, call.asker, &m.platform, subject).await?;
        Ok(pb::GetSubjectResponse { subject: Some(subject_pb(&view)) })
    }

    async fn disclosures(
        &self,
        call: Call,
        m: pb::ListDisclosuresRequest,
    ) -> Result<pb::ListDisclosuresResponse, VaultError> {
        let subject = name(m.subject)?;
        let (size, from) = (page_size(m.page_size, MAX_PAGE)?, page_token(&m.page_token)?);
        let (found, next) =
            self.vault.disclosures(&call.caller, call.asker, &m.platform, subject, from, size).await?;
        let disclosures = disclosures_pb(&self.vault, call.caller.platform, &m.platform, &found);
        Ok(pb::ListDisclosuresResponse {
            disclosures,
            next_page_token: next.map(|position| position.to_string()).unwrap_or_default(),
        })
    }

    async fn record(
        &self,
        call: Call,
        m: pb::RecordEventRequest,
    ) -> Result<pb::RecordEventResponse, VaultError> {
        let subject = name(m.subject)?;
        let now = self.vault.clock().now();
        let mut check = Checker::new("");
        check.own_platform(&m.platform);
        let event = check.parse("event", &m.event);
        let at = check.past_time("event_time", m.event_time, now);
        let refusal = refusal(&mut check, m.withdrawal_bar, &m.ground);
        let (name, at) = check.finish(event.zip(at))?;
        let event = SubjectEvent { name, at };
        let id = self.vault.record_event(&call.caller, call.asker, subject, event, refusal).await?;
        Ok(pb::RecordEventResponse { event_id: id.to_string() })
    }

    async fn restrict(
        &self,
        call: Call,
        m: pb::RestrictSubjectRequest,
    ) -> Result<pb::RestrictSubjectResponse, VaultError> {
        let subject = name(m.subject)?;
        let mut check = Checker::new("");
        let trigger = check.code("trigger", trigger(m.trigger));
        let requester = check.code("requester", requester(m.requester));
        let review_at = check.required_time("review_time", m.review_time);
        let reference = check.reference("reference", &m.reference);
        let ((trigger, requester), review_at) = check.finish(trigger.zip(requester).zip(review_at))?;
        let block = Block { subject, trigger, requester, review_at, reference };
        let restriction = self.vault.restrict_subject(&call.caller, call.asker, &m.platform, block).await?;
        Ok(pb::RestrictSubjectResponse { restriction: Some(restriction_pb(&restriction)) })
    }

    async fn unrestrict(
        &self,
        call: Call,
        m: pb::UnrestrictSubjectRequest,
    ) -> Result<pb::UnrestrictSubjectResponse, VaultError> {
        let subject = name(m.subject)?;
        let mut check = Checker::new("");
        let reference = check.required_reference("reference", &m.reference);
        let reference = check.finish(reference)?;
        let (caller, platform) = (&call.caller, &m.platform);
        let lifted =
            self.vault.unrestrict_subject(caller, call.asker, platform, subject, Some(reference)).await?;
        Ok(pb::UnrestrictSubjectResponse { unrestrict_time: Some(time(lifted)) })
    }

    async fn mark(
        &self,
        call: Call,
        m: pb::MarkAccuracyRequest,
    ) -> Result<pb::MarkAccuracyResponse, VaultError> {
        let subject = name(m.subject)?;
        let mut check = Checker::new("");
        let field = check.parse("field", &m.field);
        let accuracy = check.code("accuracy", accuracy(m.accuracy));
        let evidence = check.required_reference("evidence", &m.evidence);
        let ((field, accuracy), evidence) = check.finish(field.zip(accuracy).zip(evidence))?;
        let mark = AccuracyMark { field, accuracy, evidence };
        let at = self.vault.mark_accuracy(&call.caller, call.asker, &m.platform, subject, mark).await?;
        Ok(pb::MarkAccuracyResponse { mark_time: Some(time(at)) })
    }

    async fn restrictions(
        &self,
        call: Call,
        m: pb::ListRestrictionsRequest,
    ) -> Result<pb::ListRestrictionsResponse, VaultError> {
        let which = match pb::RestrictionFilter::try_from(m.filter) {
            Ok(pb::RestrictionFilter::Unspecified | pb::RestrictionFilter::All) => ListedRestrictions::All,
            Ok(pb::RestrictionFilter::Overdue) => ListedRestrictions::Overdue,
            Err(_) => return Err(VaultError::invalid("filter", "is no filter of blocks")),
        };
        let (size, after) = (page_size(m.page_size, restrictions::MAX_PAGE)?, place(&m.page_token)?);
        let (found, next) =
            self.vault.restrictions(&call.caller, call.asker, &m.platform, which, after, size).await?;
        let one = |subject: &RestrictedSubject| pb::RestrictedSubject {
            subject_id: subject.id.to_string(),
            restriction: Some(restriction_pb(&subject.restriction)),
            overdue: subject.overdue,
        };
        Ok(pb::ListRestrictionsResponse {
            subjects: found.iter().map(one).collect(),
            next_page_token: place_token(next),
        })
    }

    pub(super) async fn erase(
        &self,
        call: Call,
        m: pb::EraseSubjectRequest,
    ) -> Result<pb::EraseSubjectResponse, VaultError> {
        let subject = name(m.subject)?;
        let mut check = Checker::new("");
        let reference = check.reference("reference", &m.reference);
        check.finish(Some(()))?;
        let work = self.vault.erase_subject(&call.caller, call.asker, &m.platform, subject, reference);
        let done = |erasure: Erasure| {
            Erased::Applied(pb::Erasure {
                erase_time: Some(time(erasure.erased_at)),
                destroy_time: Some(time(erasure.destroy_at)),
                operation_id: erasure.operation.to_string(),
            })
        };
        let outcome = outcome(&self.vault, work, done, Erased::Proposal).await?;
        Ok(pb::EraseSubjectResponse { outcome: Some(outcome) })
    }

    pub(super) async fn cancel(
        &self,
        call: Call,
        m: pb::CancelErasureRequest,
    ) -> Result<pb::CancelErasureResponse, VaultError> {
        let subject = name(m.subject)?;
        let mut check = Checker::new("");
        let reference = check.reference("reference", &m.reference);
        check.finish(Some(()))?;
        let work = self.vault.cancel_erasure(&call.caller, call.asker, &m.platform, subject, reference);
        let done = |at| Cancelled::Applied(pb::ErasureCancellation { cancel_time: Some(time(at)) });
        let outcome = outcome(&self.vault, work, done, Cancelled::Proposal).await?;
        Ok(pb::CancelErasureResponse { outcome: Some(outcome) })
    }

    async fn receipts(
        &self,
        call: Call,
        m: pb::GetErasureReceiptsRequest,
    ) -> Result<pb::GetErasureReceiptsResponse, VaultError> {
        let subject = name(m.subject)?;
        let given = self.vault.erasure_receipts(&call.caller, call.asker, &m.platform, subject).await?;
        let receipts = given.into_iter().map(|receipt| pb::ErasureReceipt {
            kind: receipt_kind(receipt.kind).into(),
            act_time: Some(time(receipt.at)),
            audit_entry_id: receipt.entry.to_string(),
            document: receipt.document,
        });
        Ok(pb::GetErasureReceiptsResponse { receipts: receipts.collect() })
    }
}

/// Releases of a subject's values, with the names that their callers have today.
pub(super) fn disclosures_pb(
    vault: &Vault,
    own: PlatformId,
    platform: &str,
    found: &[Disclosure],
) -> Vec<pb::Disclosure> {
    let platform = if platform.is_empty() { Some(own) } else { vault.platform_named(platform) };
    let callers = platform.and_then(|id| vault.context(id).ok());
    let caller_name = |disclosure: &Disclosure| {
        let context = callers.as_ref()?;
        let row = context.callers().find(|row| Some(row.caller.id) == disclosure.caller)?;
        Some(row.caller.name.to_string())
    };
    let one = |disclosure: &Disclosure| pb::Disclosure {
        disclose_time: Some(time(disclosure.at)),
        call: disclosure.says.call.clone(),
        caller_id: disclosure.caller.map(|id| id.to_string()).unwrap_or_default(),
        caller: caller_name(disclosure).unwrap_or_default(),
        purpose: disclosure.says.purpose.clone().unwrap_or_default(),
        view: disclosure.says.view.as_deref().map_or(pb::View::Unspecified, view_code).into(),
        field: disclosure.says.field.clone().unwrap_or_default(),
        recipient: disclosure.says.recipient.clone().unwrap_or_default(),
        reference: disclosure.says.reference.clone().unwrap_or_default(),
        audit_entry_id: disclosure.entry.to_string(),
    };
    found.iter().map(one).collect()
}

/// How a request names a subject.
pub(super) fn name(name: Option<pb::SubjectName>) -> Result<SubjectName, VaultError> {
    let mut check = Checker::new("subject.");
    let named = match name.and_then(|name| name.subject) {
        Some(pb::subject_name::Subject::SubjectReference(reference)) => {
            check.subject_reference(&reference);
            Some(SubjectName::Reference(reference))
        }
        Some(pb::subject_name::Subject::SubjectId(id)) => check.parse("subject_id", &id).map(SubjectName::Id),
        None => return Err(VaultError::invalid("subject", "is required")),
    };
    check.finish(named)
}

/// Why a withdrawal is refused, with the law or the contract behind it.
fn refusal(check: &mut Checker, number: i32, ground: &str) -> Option<WithdrawalRefusal> {
    if number == i32::from(pb::WithdrawalBar::Unspecified) {
        if !ground.is_empty() {
            check.refuse("ground", "goes with `withdrawal_bar`");
        }
        return None;
    }
    let (bar, ground) =
        (check.code("withdrawal_bar", bar(number)), check.required_reference("ground", ground));
    bar.zip(ground).map(|(bar, ground)| WithdrawalRefusal { bar, ground })
}

fn trigger(number: i32) -> Option<RestrictionTrigger> {
    match pb::RestrictionTrigger::try_from(number).ok()? {
        pb::RestrictionTrigger::Unspecified => None,
        pb::RestrictionTrigger::AccuracyDisputed => Some(RestrictionTrigger::AccuracyDisputed),
        pb::RestrictionTrigger::UnlawfulProcessing => Some(RestrictionTrigger::UnlawfulProcessing),
        pb::RestrictionTrigger::LegalHold => Some(RestrictionTrigger::LegalHold),
        pb::RestrictionTrigger::AuthorityDemand => Some(RestrictionTrigger::AuthorityDemand),
        pb::RestrictionTrigger::SubjectRequest => Some(RestrictionTrigger::SubjectRequest),
    }
}

fn requester(number: i32) -> Option<RestrictionRequester> {
    match pb::RestrictionRequester::try_from(number).ok()? {
        pb::RestrictionRequester::Unspecified => None,
        pb::RestrictionRequester::Subject => Some(RestrictionRequester::Subject),
        pb::RestrictionRequester::Representative => Some(RestrictionRequester::Representative),
        pb::RestrictionRequester::Authority => Some(RestrictionRequester::Authority),
        pb::RestrictionRequester::Operator => Some(RestrictionRequester::Operator),
    }
}

const fn receipt_kind(kind: ReceiptKind) -> pb::ErasureReceiptKind {
    match kind {
        ReceiptKind::Erased => pb::ErasureReceiptKind::Erased,
        ReceiptKind::CalledOff => pb::ErasureReceiptKind::CalledOff,
        ReceiptKind::Destroyed => pb::ErasureReceiptKind::Destroyed,
    }
}

fn restriction_pb(restriction: &Restriction) -> pb::Restriction {
    let trigger = match restriction.trigger {
        RestrictionTrigger::AccuracyDisputed => pb::RestrictionTrigger::AccuracyDisputed,
        RestrictionTrigger::UnlawfulProcessing => pb::RestrictionTrigger::UnlawfulProcessing,
        RestrictionTrigger::LegalHold => pb::RestrictionTrigger::LegalHold,
        RestrictionTrigger::AuthorityDemand => pb::RestrictionTrigger::AuthorityDemand,
        RestrictionTrigger::SubjectRequest => pb::RestrictionTrigger::SubjectRequest,
    };
    let requester = match restriction.requester {
        RestrictionRequester::Subject => pb::RestrictionRequester::Subject,
        RestrictionRequester::Representative => pb::RestrictionRequester::Representative,
        RestrictionRequester::Authority => pb::RestrictionRequester::Authority,
        RestrictionRequester::Operator => pb::RestrictionRequester::Operator,
    };
    pb::Restriction {
        trigger: trigger.into(),
        requester: requester.into(),
        restrict_time: Some(time(restriction.since)),
        review_time: Some(time(restriction.review_at)),
    }
}

pub(super) const fn state_pb(state: SubjectState) -> pb::SubjectState {
    match state {
        SubjectState::Active => pb::SubjectState::Active,
        SubjectState::Restricted => pb::SubjectState::Restricted,
        SubjectState::Erased => pb::SubjectState::Erased,
    }
}

fn subject_pb(view: &SubjectView) -> pb::Subject {
    let kind = match view.kind {
        SubjectKind::Natural => pb::SubjectKind::Natural,
        SubjectKind::Legal => pb::SubjectKind::Legal,
        SubjectKind::Represented => pb::SubjectKind::Represented,
    };
    let state = state_pb(view.state);
    let fields = view.fields.iter().map(|held| pb::HeldField {
        field: held.field.to_string(),
        record_version: held.version,
        source: source(held.source).into(),
        update_time: Some(time(held.updated_at)),
        accuracy: accuracy_pb(held.mark.as_ref().map_or(Accuracy::Unverified, |(mark, _)| mark.accuracy))
            .into(),
        accuracy_evidence: reference(held.mark.as_ref().map(|(mark, _)| &mark.evidence)),
        accuracy_time: held.mark.as_ref().map(|(_, since)| time(*since)),
    });
    let events = view.events.iter().map(|row| {
        let refusal = row.refusal.as_ref();
        let ground = refusal.map(|refusal| &refusal.ground);
        let accuracy = row.mark.as_ref().map(|mark| mark.accuracy);
        pb::RecordedEvent {
            event_id: row.id.to_string(),
            event: row.event.name.to_string(),
            event_time: Some(time(row.event.at)),
            record_time: Some(time(row.recorded_at)),
            withdrawal_bar: refusal
                .map_or(pb::WithdrawalBar::Unspecified, |refusal| bar_pb(refusal.bar))
                .into(),
            ground: reference(ground.or(row.mark.as_ref().map(|mark| &mark.evidence))),
            field: row.mark.as_ref().map(|mark| mark.field.to_string()).unwrap_or_default(),
            accuracy: accuracy.map_or(pb::Accuracy::Unspecified, accuracy_pb).into(),
        }
    });
    pb::Subject {
        subject_id: view.id.to_string(),
        kind: kind.into(),
        state: state.into(),
        create_time: Some(time(view.created_at)),
        restriction: view.restriction.as_ref().map(restriction_pb),
        erasure: view.erasure.map(|(erased_at, destroy_at)| pb::Erasure {
            erase_time: Some(time(erased_at)),
            destroy_time: Some(time(destroy_at)),
            operation_id: view.operation.as_ref().map(|o| o.id.to_string()).unwrap_or_default(),
        }),
        fields: fields.collect(),
        token_count: i64::try_from(view.tokens).unwrap_or(i64::MAX),
        consent_count: i64::try_from(view.consents).unwrap_or(i64::MAX),
        events: events.collect(),
    }
}

/// Each call is authenticated, checked and run alike.
macro_rules! calls {
    ($($name:ident($request:ident) -> $response:ident = $run:ident, $rule:ident, |$message:ident| $id:expr;)+) => {
        #[tonic::async_trait]
        impl subject_service_server::SubjectService for SubjectService {
            $(
                async fn $name(
                    &self,
                    request: Request<pb::$request>,
                ) -> Result<Response<pb::$response>, Status> {
                    let $message = request.get_ref();
                    let call = self.call(&request, $id, RequestIdRule::$rule)?;
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
    get_subject(GetSubjectRequest) -> GetSubjectResponse = get, Optional, |_m| "";
    list_disclosures(ListDisclosuresRequest) -> ListDisclosuresResponse = disclosures, Optional, |_m| "";
    record_event(RecordEventRequest) -> RecordEventResponse = record, Required, |m| &m.request_id;
    restrict_subject(RestrictSubjectRequest) -> RestrictSubjectResponse = restrict, Required, |m| &m.request_id;
    unrestrict_subject(UnrestrictSubjectRequest) -> UnrestrictSubjectResponse = unrestrict, Required, |m| &m.request_id;
    mark_accuracy(MarkAccuracyRequest) -> MarkAccuracyResponse = mark, Required, |m| &m.request_id;
    list_restrictions(ListRestrictionsRequest) -> ListRestrictionsResponse = restrictions, Optional, |_m| "";
    get_erasure_receipts(GetErasureReceiptsRequest) -> GetErasureReceiptsResponse = receipts, Optional, |_m| "";
    erase_subject(EraseSubjectRequest) -> EraseSubjectResponse = erase, Plan, |m| &m.request_id;
    cancel_erasure(CancelErasureRequest) -> CancelErasureResponse = cancel, Plan, |m| &m.request_id;
}
