//! `sandyq.v1.RegisterService`.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::{
    authn::{Call, as_change, as_question},
    codes::same,
    convert::{Checker, page_size, time},
    limits::{answer, within_limit},
    log_convert::number,
    pb::{self, register_service_server},
    registers::{Answers, answers, place, place_token, reference},
    status::status,
    subject_service::name,
};
use crate::{
    domain::{
        data_copy::{CopyEnd, CopyKind, CopyOutcome, MAX_FIELDS},
        ids::CopyId,
        names::FieldName,
    },
    vault::{
        Vault,
        error::VaultError,
        registers::{CopyView, ListedCopies, MAX_PAGE, NewCopy, RegisterLines, RegisterPiece, RegisterSpan},
    },
};

same!(kind, kind_pb, CopyKind { Paper, File, Medium });
same!(outcome, outcome_pb, CopyOutcome { Destroyed, HandedOver });

/// Serves the registers.
pub struct RegisterService {
    vault: Arc<Vault>,
}

impl RegisterService {
    /// A service over an open vault.
    #[must_use]
    pub const fn new(vault: Arc<Vault>) -> Self {
        Self { vault }
    }

    async fn register(&self, call: Call, m: pb::RegisterCopyRequest) -> Result<CopyView, VaultError> {
        let subject = m.subject.map(|subject| name(Some(subject))).transpose()?;
        let mut check = Checker::new("");
        let kind = check.code("kind", kind(m.kind));
        let purpose = check.parse("purpose", &m.purpose);
        let fields = fields(&mut check, &m.fields);
        let holder = check.required_reference("holder", &m.holder);
        let reference = check.reference("reference", &m.reference);
        let made_at = check.past_time("make_time", m.make_time, self.vault.clock().now());
        let destroy_by = check.required_time("destroy_time", m.destroy_time);
        let given = kind.zip(purpose).zip(holder).zip(made_at.zip(destroy_by));
        let (((kind, purpose), holder), (made_at, destroy_by)) = check.finish(given)?;
        let new = NewCopy { kind, purpose, fields, subject, holder, reference, made_at, destroy_by };
        self.vault.register_copy(&call.caller, call.asker, &m.platform, new).await
    }

    async fn end(&self, call: Call, m: pb::EndCopyRequest) -> Result<CopyView, VaultError> {
        let mut check = Checker::new("");
        let id = check.parse::<CopyId>("copy_id", &m.copy_id);
        let outcome = check.code("outcome", outcome(m.outcome));
        let at = check.past_time("end_time", m.end_time, self.vault.clock().now());
        let act = check.required_reference("act", &m.act);
        let ((id, outcome), (at, act)) = check.finish(id.zip(outcome).zip(at.zip(act)))?;
        let end = CopyEnd { at, outcome, act };
        self.vault.end_copy(&call.caller, call.asker, &m.platform, id, end).await
    }

    async fn list(&self, call: Call, m: pb::ListCopiesRequest) -> Result<pb::ListCopiesResponse, VaultError> {
        let which = match pb::CopyFilter::try_from(m.filter) {
            Ok(pb::CopyFilter::Unspecified | pb::CopyFilter::Open) => ListedCopies::Open,
            Ok(pb::CopyFilter::Overdue) => ListedCopies::Overdue,
            Ok(pb::CopyFilter::All) => ListedCopies::All,
            Err(_) => return Err(VaultError::invalid("filter", "is no filter of copies")),
        };
        let (size, after) = (page_size(m.page_size, MAX_PAGE)?, place(&m.page_token)?);
        let (found, next) =
            self.vault.copies(&call.caller, call.asker, &m.platform, which, after, size).await?;
        Ok(pb::ListCopiesResponse {
            copies: found.iter().map(copy_pb).collect(),
            next_page_token: place_token(next),
        })
    }

    async fn export(&self, call: Call, m: pb::ExportRegistersRequest) -> Result<RegisterLines, VaultError> {
        let mut check = Checker::new("");
        let since = m.since_time.and_then(|at| check.time("since_time", at));
        let until = m.until_time.and_then(|at| check.time("until_time", at));
        if since.zip(until).is_some_and(|(since, until)| until < since) {
            check.refuse("until_time", "lies before the begin");
        }
        let span = check.finish(Some(RegisterSpan { since, until }))?;
        self.vault.export_registers(&call.caller, call.asker, &m.platform, span).await
    }
}

/// 1 to [`MAX_FIELDS`] fields, none twice.
fn fields(check: &mut Checker, names: &[String]) -> Vec<FieldName> {
    if names.is_empty() || names.len() > MAX_FIELDS {
        check.refuse("fields", "must name 1 to 64 fields");
    }
    let mut found: Vec<FieldName> = Vec::new();
    for (i, name) in names.iter().take(MAX_FIELDS).enumerate() {
        match check.parse(&format!("fields[{i}]"), name) {
            Some(field) if found.contains(&field) => check.refuse(&format!("fields[{i}]"), "stands twice"),
            Some(field) => found.push(field),
            None => {}
        }
    }
    found
}

fn copy_pb(view: &CopyView) -> pb::DataCopy {
    let (copy, facts) = (&view.copy, &view.copy.facts);
    let end = copy.end.as_ref();
    pb::DataCopy {
        copy_id: copy.id.to_string(),
        kind: kind_pb(facts.kind).into(),
        purpose: facts.purpose.to_string(),
        fields: facts.fields.iter().map(ToString::to_string).collect(),
        subject_id: facts.subject.map(|id| id.to_string()).unwrap_or_default(),
        holder: facts.holder.to_string(),
        reference: reference(facts.reference.as_ref()),
        make_time: Some(time(facts.made_at)),
        destroy_time: Some(time(facts.destroy_by)),
        overdue: view.overdue,
        register_time: Some(time(copy.recorded_at)),
        end_time: end.map(|end| time(end.at)),
        outcome: end.map_or(pb::CopyOutcome::Unspecified, |end| outcome_pb(end.outcome)).into(),
        act: reference(end.map(|end| &end.act)),
        late: copy.was_late(),
    }
}

fn piece_pb(piece: RegisterPiece) -> pb::ExportRegistersResponse {
    use pb::export_registers_response::Step;
    let step = match piece {
        RegisterPiece::Progress { entries_read, entries } => Step::Progress(pb::RegisterProgress {
            entries_read: number(entries_read),
            entries: number(entries),
        }),
        RegisterPiece::Lines(lines) => Step::Lines(pb::RegisterLines { lines }),
    };
    pb::ExportRegistersResponse { step: Some(step) }
}

#[tonic::async_trait]
impl register_service_server::RegisterService for RegisterService {
    async fn register_copy(
        &self,
        request: Request<pb::RegisterCopyRequest>,
    ) -> Result<Response<pb::RegisterCopyResponse>, Status> {
        let call = as_change(&self.vault, &request, &request.get_ref().request_id)?;
        let response = |view| pb::RegisterCopyResponse { copy: Some(copy_pb(&view)) };
        answer(self.register(call, request.into_inner()), response).await
    }

    async fn end_copy(
        &self,
        request: Request<pb::EndCopyRequest>,
    ) -> Result<Response<pb::EndCopyResponse>, Status> {
        let call = as_change(&self.vault, &request, &request.get_ref().request_id)?;
        let response = |view| pb::EndCopyResponse { copy: Some(copy_pb(&view)) };
        answer(self.end(call, request.into_inner()), response).await
    }

    async fn list_copies(
        &self,
        request: Request<pb::ListCopiesRequest>,
    ) -> Result<Response<pb::ListCopiesResponse>, Status> {
        let call = as_question(&self.vault, &request)?;
        answer(self.list(call, request.into_inner()), |page| page).await
    }

    type ExportRegistersStream = Answers<pb::ExportRegistersResponse>;

    async fn export_registers(
        &self,
        request: Request<pb::ExportRegistersRequest>,
    ) -> Result<Response<Self::ExportRegistersStream>, Status> {
        let call = as_question(&self.vault, &request)?;
        let begun = async { self.export(call, request.into_inner()).await.map_err(|e| status(&e)) };
        Ok(Response::new(answers(within_limit(begun).await?, piece_pb)))
    }
}
