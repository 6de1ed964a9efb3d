//! `sandyq subject …`: what is held of a person, who saw it, blocks, events, erasure.

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::{
    client::{self, request_id, subjects},
    output::{Failure, Out, refused, show_time},
    receipt,
    registers::{At, code, number},
    values::when,
};
use crate::grpc::pb;

/// Which subject, and where.
#[derive(clap::Args, Debug, Clone)]
pub(super) struct Which {
    #[command(flatten)]
    pub(super) client: client::Args,
    /// The platform's reference to the subject, or the vault's id `sub_…`.
    pub(super) subject: String,
    /// Platform, for staff; a platform's own callers leave it out.
    #[arg(long, default_value = "")]
    pub(super) platform: String,
}

impl Which {
    pub(super) fn name(&self) -> pb::SubjectName {
        name_of(&self.subject)
    }
}

/// A subject by the platform's reference, or by the vault's id.
pub(super) fn name_of(text: &str) -> pb::SubjectName {
    use pb::subject_name::Subject;
    let subject = if text.starts_with("sub_") {
        Subject::SubjectId(text.to_owned())
    } else {
        Subject::SubjectReference(text.to_owned())
    };
    pb::SubjectName { subject: Some(subject) }
}

#[derive(Subcommand, Debug)]
pub(super) enum Command {
    /// Print what is held of a subject: fields, sources, versions; never a value.
    Get(Which),
    /// Print who saw which of the subject's values, when and why.
    Disclosures(Which),
    /// Record that something happened, such as the end of an agreement, as the policy declares it.
    Event {
        #[command(flatten)]
        which: Which,
        /// Name of the event in the policy.
        event: String,
        /// When, RFC 3339; now, where absent.
        #[arg(long)]
        at: Option<String>,
        /// Why a withdrawal is refused, where the event says that it is.
        #[arg(long, value_parser = ["law", "obligation"], requires = "ground")]
        withdrawal_bar: Option<String>,
        /// The law or the contract behind that, in the platform's numbering.
        #[arg(long, default_value = "", requires = "withdrawal_bar")]
        ground: String,
    },
    /// Block use of the subject's data until the block is lifted. It binds at once.
    Restrict {
        #[command(flatten)]
        which: Which,
        /// Why.
        #[arg(long, value_enum)]
        trigger: Trigger,
        /// Who asks for it.
        #[arg(long, value_enum)]
        requester: Requester,
        /// When somebody must look at it again, RFC 3339: a block is never an end state.
        #[arg(long)]
        review_at: String,
        /// The case, in the platform's numbering.
        #[arg(long, default_value = "")]
        reference: String,
    },
    /// Lift the block.
    Unrestrict {
        #[command(flatten)]
        which: Which,
        /// Why: the case, in the platform's numbering.
        #[arg(long)]
        reference: String,
    },
    /// Mark the value that the subject has in a field as confirmed or disputed; a correction begins unverified again.
    Mark {
        #[command(flatten)]
        which: Which,
        /// Field.
        field: String,
        /// The mark.
        #[arg(value_parser = ["confirmed", "disputed", "unverified"])]
        accuracy: String,
        /// The paper or the complaint behind it, in the platform's numbering.
        #[arg(long)]
        evidence: String,
    },
    /// List who is blocked, the soonest review first.
    Restrictions {
        #[command(flatten)]
        at: At,
        /// Those alone whose day of review is over.
        #[arg(long)]
        overdue: bool,
    },
    /// Erase the subject. Unreadable at once; keys are destroyed after the cooling time, and nothing brings them back.
    Erase {
        #[command(flatten)]
        which: Which,
        /// The case, in the platform's numbering.
        #[arg(long, default_value = "")]
        reference: String,
        /// Erase indeed; without it nothing is changed, and what would be erased is printed.
        #[arg(long)]
        yes: bool,
    },
    /// Print the receipts of an erasure: signed, and with the proof that the log has it.
    Receipt(receipt::ReceiptArgs),
    /// Call an erasure off, as long as the keys are not destroyed.
    CancelErasure {
        #[command(flatten)]
        which: Which,
        /// The case, in the platform's numbering.
        #[arg(long, default_value = "")]
        reference: String,
    },
}

/// Why use is blocked.
#[derive(ValueEnum, Debug, Clone, Copy)]
pub(super) enum Trigger {
    /// Accuracy is disputed, and is being checked.
    AccuracyDisputed,
    /// Processing is said to be unlawful.
    UnlawfulProcessing,
    /// A complaint, an appeal, a dispute.
    LegalHold,
    /// The authority demands it.
    AuthorityDemand,
    /// The subject asks for it.
    SubjectRequest,
}

/// Who asks for a block.
#[derive(ValueEnum, Debug, Clone, Copy)]
pub(super) enum Requester {
    /// The subject.
    Subject,
    /// The subject's representative.
    Representative,
    /// The authority.
    Authority,
    /// The operator itself.
    Operator,
}

pub(super) async fn run(command: Command, out: &mut Out) -> Result<(), Failure> {
    match command {
        Command::Get(which) => get(&which, out).await,
        Command::Disclosures(which) => disclosures(&which, out).await,
        Command::Event { which, event, at, withdrawal_bar, ground } => {
            let bar = withdrawal_bar
                .as_deref()
                .map(|code| number("WITHDRAWAL_BAR_", code, pb::WithdrawalBar::from_str_name).map(i32::from));
            let request = pb::RecordEventRequest {
                request_id: request_id()?,
                subject: Some(which.name()),
                platform: which.platform.clone(),
                event,
                event_time: Some(when(at.as_deref())?),
                withdrawal_bar: bar.transpose()?.unwrap_or_default(),
                ground,
            };
            let answer = subjects(which.client.connect().await?).record_event(request).await;
            let id = answer.map_err(|s| Failure::refused(&s))?.into_inner().event_id;
            Ok(out.data(&json!({ "event_id": id }), &[format!("event        {id}")])?)
        }
        Command::Restrict { which, trigger, requester, review_at, reference } => {
            let request = pb::RestrictSubjectRequest {
                request_id: request_id()?,
                subject: Some(which.name()),
                platform: which.platform.clone(),
                trigger: trigger.number(),
                requester: requester.number(),
                review_time: Some(when(Some(&review_at))?),
                reference,
            };
            let answer = subjects(which.client.connect().await?).restrict_subject(request).await;
            let block =
                answer.map_err(|s| Failure::refused(&s))?.into_inner().restriction.unwrap_or_default();
            let (since, review) = (show_time(block.restrict_time), show_time(block.review_time));
            let lines = [format!("blocked      {since}"), format!("review       {review}")];
            Ok(out.data(&json!({ "restricted_at": since, "review_at": review }), &lines)?)
        }
        Command::Unrestrict { which, reference } => {
            let request = pb::UnrestrictSubjectRequest {
                request_id: request_id()?,
                subject: Some(which.name()),
                platform: which.platform.clone(),
                reference,
            };
            let answer = subjects(which.client.connect().await?).unrestrict_subject(request).await;
            let at = show_time(answer.map_err(|s| Failure::refused(&s))?.into_inner().unrestrict_time);
            Ok(out.data(&json!({ "unrestricted_at": at }), &[format!("lifted       {at}")])?)
        }
        Command::Mark { which, field, accuracy, evidence } => {
            let request = pb::MarkAccuracyRequest {
                request_id: request_id()?,
                subject: Some(which.name()),
                platform: which.platform.clone(),
                field,
                accuracy: number("ACCURACY_", &accuracy, pb::Accuracy::from_str_name)?.into(),
                evidence,
            };
            let answer = subjects(which.client.connect().await?).mark_accuracy(request).await;
            let at = show_time(answer.map_err(refused)?.into_inner().mark_time);
            Ok(out.data(&json!({ "marked_at": at }), &[format!("marked       {at}")])?)
        }
        Command::Restrictions { at, overdue } => restrictions(at, overdue, out).await,
        Command::Erase { which, yes: false, .. } => {
            get(&which, out).await?;
            Ok(out.note("nothing was erased: say --yes to erase this subject")?)
        }
        Command::Erase { which, reference, yes: true } => erase(&which, reference, out).await,
        Command::Receipt(args) => receipt::run(args, out).await,
        Command::CancelErasure { which, reference } => {
            let request = pb::CancelErasureRequest {
                request_id: request_id()?,
                subject: Some(which.name()),
                platform: which.platform.clone(),
                reference,
            };
            let answer = subjects(which.client.connect().await?).cancel_erasure(request).await;
            match answer.map_err(|s| Failure::refused(&s))?.into_inner().outcome {
                Some(pb::cancel_erasure_response::Outcome::Applied(done)) => {
                    let at = show_time(done.cancel_time);
                    Ok(out.data(&json!({ "cancelled_at": at }), &[format!("called off   {at}")])?)
                }
                Some(pb::cancel_erasure_response::Outcome::Proposal(p)) => Err(Failure::proposed(&p)),
                None => Ok(()),
            }
        }
    }
}

async fn erase(which: &Which, reference: String, out: &mut Out) -> Result<(), Failure> {
    let request = pb::EraseSubjectRequest {
        request_id: request_id()?,
        subject: Some(which.name()),
        platform: which.platform.clone(),
        reference,
    };
    let answer = subjects(which.client.connect().await?).erase_subject(request).await;
    match answer.map_err(|s| Failure::refused(&s))?.into_inner().outcome {
        Some(pb::erase_subject_response::Outcome::Applied(erasure)) => {
            let (erased, destroyed) = (show_time(erasure.erase_time), show_time(erasure.destroy_time));
            let lines = [
                format!("erased       {erased}; nothing of the subject is readable from now on"),
                format!(
                    "destruction  {destroyed}, by {}; `subject cancel-erasure` until then",
                    erasure.operation_id
                ),
            ];
            let data = json!({
                "erased_at": erased, "destroy_at": destroyed, "operation_id": erasure.operation_id,
            });
            Ok(out.data(&data, &lines)?)
        }
        Some(pb::erase_subject_response::Outcome::Proposal(p)) => Err(Failure::proposed(&p)),
        None => Ok(()),
    }
}

async fn restrictions(at: At, overdue: bool, out: &mut Out) -> Result<(), Failure> {
    let filter = if overdue { pb::RestrictionFilter::Overdue } else { pb::RestrictionFilter::All };
    let mut calls = subjects(at.client.connect().await?);
    let (mut lines, mut rows, mut page_token) = (Vec::new(), Vec::new(), String::new());
    loop {
        let (platform, filter) = (at.platform.clone(), filter.into());
        let request = pb::ListRestrictionsRequest { platform, filter, page_size: 0, page_token };
        let page = calls.list_restrictions(request).await.map_err(refused)?.into_inner();
        for subject in page.subjects {
            let block = subject.restriction.unwrap_or_default();
            let trigger = code(block.trigger().as_str_name(), "RESTRICTION_TRIGGER_");
            let requester = code(block.requester().as_str_name(), "RESTRICTION_REQUESTER_");
            let (since, review) = (show_time(block.restrict_time), show_time(block.review_time));
            let late = if subject.overdue { "  OVERDUE" } else { "" };
            lines
                .push(format!("{}  review {review}  {trigger:<19} by {requester}{late}", subject.subject_id));
            rows.push(json!({
                "subject_id": subject.subject_id, "trigger": trigger, "requester": requester,
                "restricted_at": since, "review_at": review, "overdue": subject.overdue,
            }));
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    if lines.is_empty() {
        lines.push("no block".to_owned());
    }
    Ok(out.data(&json!({ "subjects": rows }), &lines)?)
}

async fn get(which: &Which, out: &mut Out) -> Result<(), Failure> {
    let request = pb::GetSubjectRequest { subject: Some(which.name()), platform: which.platform.clone() };
    let answer = subjects(which.client.connect().await?).get_subject(request).await;
    let subject = answer.map_err(|s| Failure::refused(&s))?.into_inner().subject.unwrap_or_default();
    let short = |name: &str, prefix: &str| name.trim_start_matches(prefix).to_lowercase();
    let state = short(subject.state().as_str_name(), "SUBJECT_STATE_");
    let kind = short(subject.kind().as_str_name(), "SUBJECT_KIND_");
    let mut lines = vec![
        format!("subject      {}", subject.subject_id),
        format!("state        {state}, {kind}"),
        format!("tokens       {}", subject.token_count),
        format!("consents     {}", subject.consent_count),
    ];
    if let Some(block) = &subject.restriction {
        lines.push(format!("blocked      until reviewed on {}", show_time(block.review_time)));
    }
    if let Some(erasure) = &subject.erasure {
        lines.push(format!("destruction  {}", show_time(erasure.destroy_time)));
    }
    let mut fields = Vec::new();
    for held in &subject.fields {
        let source = short(held.source().as_str_name(), "VALUE_SOURCE_");
        let (version, updated) = (held.record_version, show_time(held.update_time));
        let accuracy = code(held.accuracy().as_str_name(), "ACCURACY_");
        lines.push(format!(
            "{:<12} version {version}, from {source}, {updated}, {accuracy} {}",
            held.field, held.accuracy_evidence
        ));
        fields.push(json!({
            "field": held.field, "version": version, "source": source, "updated_at": updated,
            "accuracy": accuracy, "accuracy_evidence": held.accuracy_evidence,
        }));
    }
    let mut events = Vec::new();
    for event in &subject.events {
        let some = Some(event.withdrawal_bar()).filter(|bar| *bar != pb::WithdrawalBar::Unspecified);
        let bar = some.map(|bar| code(bar.as_str_name(), "WITHDRAWAL_BAR_"));
        let why = bar.as_ref().map(|bar| format!(", barred by {bar} {}", event.ground)).unwrap_or_default();
        let at = show_time(event.event_time);
        lines.push(format!("event        {at}  {}{why}", event.event));
        events.push(json!({
            "event_id": event.event_id, "event": event.event, "at": at,
            "recorded_at": show_time(event.record_time), "withdrawal_bar": bar, "ground": event.ground,
            "field": event.field,
        }));
    }
    let data = json!({
        "subject_id": subject.subject_id, "state": state, "kind": kind, "fields": fields, "events": events,
        "tokens": subject.token_count, "consents": subject.consent_count,
        "review_at": subject.restriction.as_ref().map(|block| show_time(block.review_time)),
        "destroy_at": subject.erasure.as_ref().map(|erasure| show_time(erasure.destroy_time)),
    });
    Ok(out.data(&data, &lines)?)
}

async fn disclosures(which: &Which, out: &mut Out) -> Result<(), Failure> {
    let mut service = subjects(which.client.connect().await?);
    let (mut lines, mut all, mut page_token) = (Vec::new(), Vec::new(), String::new());
    loop {
        let request = pb::ListDisclosuresRequest {
            subject: Some(which.name()),
            platform: which.platform.clone(),
            page_size: 0,
            page_token,
        };
        let answer = service.list_disclosures(request).await;
        let page = answer.map_err(|s| Failure::refused(&s))?.into_inner();
        for d in &page.disclosures {
            let at = show_time(d.disclose_time);
            let to = if d.recipient.is_empty() { String::new() } else { format!(" for {}", d.recipient) };
            lines.push(format!(
                "{at}  {:<12} {:<16} by {}{to}  {}",
                d.field, d.purpose, d.caller, d.audit_entry_id
            ));
            all.push(json!({
                "at": at, "field": d.field, "purpose": d.purpose, "caller": d.caller, "caller_id": d.caller_id,
                "recipient": d.recipient, "reference": d.reference, "audit_entry_id": d.audit_entry_id,
            }));
        }
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return Ok(out.data(&json!({ "disclosures": all }), &lines)?);
        }
    }
}

impl Trigger {
    fn number(self) -> i32 {
        match self {
            Self::AccuracyDisputed => pb::RestrictionTrigger::AccuracyDisputed,
            Self::UnlawfulProcessing => pb::RestrictionTrigger::UnlawfulProcessing,
            Self::LegalHold => pb::RestrictionTrigger::LegalHold,
            Self::AuthorityDemand => pb::RestrictionTrigger::AuthorityDemand,
            Self::SubjectRequest => pb::RestrictionTrigger::SubjectRequest,
        }
        .into()
    }
}

impl Requester {
    fn number(self) -> i32 {
        match self {
            Self::Subject => pb::RestrictionRequester::Subject,
            Self::Representative => pb::RestrictionRequester::Representative,
            Self::Authority => pb::RestrictionRequester::Authority,
            Self::Operator => pb::RestrictionRequester::Operator,
        }
        .into()
    }
}
