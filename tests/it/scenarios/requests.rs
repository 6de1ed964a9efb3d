//! What people ask of an operator, and what its staff does: requests with their clocks, documents, versions of the policy,
//! recipients.

use sandyq::{
    crypto::digest::sha256,
    grpc::pb::{
        self, advance_case_request::Step, document_service_client::DocumentServiceClient,
        rights_service_client::RightsServiceClient,
    },
};
use tonic::transport::Channel;

use super::{
    file::{
        Asked, Document, Download, Fulfil, Identify, Late, Named, OfField, Policy, Recipient, Refuse, Reply,
        Tell, Upload,
    },
    life::{Came, Life, came, told, word},
    time::{date_of, from_pb, later, on, pb},
};
use crate::{
    common::{
        documents::{Documents, content, messages},
        recipients::{applied, proof},
    },
    policy_walk::oracle::PolicyText,
    releases::{answer, pair},
};

/// An image larger than one part, so that parts are put together.
const IMAGE_BYTES: usize = (1 << 20) + 17;

impl Life<'_> {
    fn rights(&self, by: &str) -> Result<RightsServiceClient<Channel>, String> {
        Ok(RightsServiceClient::new(self.channel(by)?))
    }

    fn case_id(&self) -> Result<String, String> {
        self.case.clone().ok_or_else(|| "no step registered a request".into())
    }

    pub async fn request(&mut self, by: &str, of: &Asked) -> Came {
        let received = of.received.as_deref().map_or(Ok(self.now()), on)?;
        let request = pb::OpenCaseRequest {
            request_id: self.served.request_id(),
            platform: self.platform_for(by),
            subject: Some(self.subject_name()),
            kind: word!(pb::RightKind, "RIGHT_KIND", &of.kind)?,
            channel: word!(pb::RightsChannel, "RIGHTS_CHANNEL", &of.channel)?,
            site: of.site.clone().unwrap_or_default(),
            requester: word!(
                pb::CaseRequester,
                "CASE_REQUESTER",
                of.requester.as_deref().unwrap_or("subject")
            )?,
            representation: of.representation.clone(),
            reference: of.reference.clone(),
            receive_time: Some(pb(received)),
            ..pb::OpenCaseRequest::default()
        };
        match told(self.rights(by)?.open_case(request).await) {
            Ok(opened) => {
                let case = opened.case.unwrap();
                self.case = Some(case.case_id.clone());
                is_due(&case, of.due.as_deref())
            }
            Err(refused) => Ok(refused),
        }
    }

    async fn advance(&self, by: &str, step: Step) -> Result<Result<pb::Case, String>, String> {
        let request = pb::AdvanceCaseRequest {
            request_id: self.served.request_id(),
            platform: self.platform_for(by),
            case_id: self.case_id()?,
            step: Some(step),
        };
        Ok(told(self.rights(by)?.advance_case(request).await).map(|answer| answer.case.unwrap()))
    }

    pub async fn identify(&self, by: &str, of: &Identify) -> Came {
        let identity = pb::IdentityCheck {
            method: word!(pb::IdentityMethod, "IDENTITY_METHOD", &of.method)?,
            evidence: of.evidence.clone(),
            proof_time: of.proof.as_deref().map(on).transpose()?.map(pb),
        };
        match self.advance(by, Step::Identity(identity)).await? {
            Ok(case) => is_due(&case, of.due.as_deref()),
            Err(refused) => Ok(refused),
        }
    }

    pub async fn begin_work(&self, by: &str) -> Came {
        Ok(came(self.advance(by, Step::Work(pb::WorkBegun {})).await?.map(drop)))
    }

    pub async fn fulfil(&self, by: &str, of: &Fulfil) -> Came {
        let review = of.review_after.as_deref().map(|span| later(self.now(), span)).transpose()?;
        let request = pb::FulfilCaseRequest {
            request_id: self.served.request_id(),
            platform: self.platform_for(by),
            case_id: self.case_id()?,
            review_time: review.map(pb),
            consent_ids: self.consents_to(&of.purposes)?,
        };
        let former = match told(self.rights(by)?.fulfil_case(request).await) {
            Ok(done) => done.former_releases,
            Err(refused) => return Ok(refused),
        };
        let found: Vec<_> = former.into_iter().map(|release| (release.recipient, release.field)).collect();
        let expected = of.former.iter().map(|former| (former.recipient.clone(), former.field.clone()));
        if found == expected.collect::<Vec<_>>() { Ok("ok".into()) } else { Err(format!("{found:?} had it")) }
    }

    /// By field the view of the value, or why it is withheld; and each value is the person's.
    pub async fn tell(&self, by: &str, of: &Tell) -> Came {
        let request = pb::ExportCaseRequest {
            platform: self.platform_for(by),
            case_id: self.case_id()?,
            purpose: of.purpose.clone(),
        };
        let export = match told(self.rights(by)?.export_case(request).await) {
            Ok(export) => export,
            Err(refused) => return Ok(refused),
        };
        let mut found = std::collections::BTreeMap::new();
        for field in export.fields {
            let how = if field.view() == pb::View::Full { "full" } else { "masked" };
            if how == "full" && self.values.get(&field.field) != Some(&field.value) {
                return Err(format!("{} was told as «{}»", field.field, field.value));
            }
            let how = if field.withheld.is_empty() { how.into() } else { field.withheld };
            found.insert(field.field, how);
        }
        if found == of.fields { Ok("ok".into()) } else { Err(format!("told were {found:?}")) }
    }

    pub async fn reply(&self, by: &str, of: &Reply) -> Came {
        let request = pb::AnswerCaseRequest {
            request_id: self.served.request_id(),
            platform: self.platform_for(by),
            case_id: self.case_id()?,
            channel: word!(pb::RightsChannel, "RIGHTS_CHANNEL", &of.channel)?,
            language: of.language.clone(),
            ..pb::AnswerCaseRequest::default()
        };
        Ok(came(told(self.rights(by)?.answer_case(request).await).map(drop)))
    }

    pub async fn refuse(&self, by: &str, of: &Refuse) -> Came {
        let mut reasons = Vec::new();
        for reason in &of.reasons {
            reasons.push(word!(pb::RefusalReason, "REFUSAL_REASON", reason)?);
        }
        let request = pb::RefuseCaseRequest {
            request_id: self.served.request_id(),
            platform: self.platform_for(by),
            case_id: self.case_id()?,
            reasons,
            ground: of.ground.clone(),
            channel: word!(pb::RightsChannel, "RIGHTS_CHANNEL", &of.channel)?,
            language: of.language.clone(),
        };
        Ok(came(told(self.rights(by)?.refuse_case(request).await).map(drop)))
    }

    pub async fn late(&self, by: &str, of: &Late) -> Came {
        let request = pb::ListCasesRequest {
            platform: self.platform_for(by),
            filter: pb::CaseFilter::Overdue.into(),
            ..pb::ListCasesRequest::default()
        };
        let cases = match told(self.rights(by)?.list_cases(request).await) {
            Ok(listed) => listed.cases,
            Err(refused) => return Ok(refused),
        };
        let kind =
            |case: &pb::Case| case.kind().as_str_name().trim_start_matches("RIGHT_KIND_").to_lowercase();
        // Those of one instant come in any order.
        let (mut late, mut expected) = (cases.iter().map(kind).collect::<Vec<_>>(), of.kinds.clone());
        late.sort();
        expected.sort();
        if late == expected { Ok("ok".into()) } else { Err(format!("late are {late:?}")) }
    }

    fn documents(&self, by: &str) -> Result<Documents, String> {
        Ok(Documents(DocumentServiceClient::new(self.channel(by)?)))
    }

    fn document_id(&self, field: &str) -> Result<String, String> {
        self.documents.get(field).cloned().ok_or_else(|| format!("no step uploaded {field}"))
    }

    /// An image of the scenario's own, another at each upload.
    pub async fn upload(&mut self, by: &str, of: &Upload) -> Came {
        let number = u64::try_from(self.images.len()).unwrap() + u64::from(of.replaces) * 100;
        let image = content(number, IMAGE_BYTES);
        let start = pb::UploadStart {
            subject: Some(self.subject_name()),
            field: of.field.clone(),
            side: word!(pb::DocumentSide, "DOCUMENT_SIDE", &of.side)?,
            size_bytes: i64::try_from(image.len()).unwrap(),
            sha256: sha256(&image).to_vec(),
            replace_version: of.replaces,
            evidence: of.evidence.clone(),
            source: word!(pb::ValueSource, "VALUE_SOURCE", of.source.as_deref().unwrap_or("subject"))?,
            source_reference: of.source_reference.clone(),
            ..pb::UploadStart::default()
        };
        let sent = messages(&self.served.request_id(), start, &image, 200_000);
        let stored = self.documents(by)?.0.upload_document(tokio_stream::iter(sent)).await;
        Ok(came(told(stored).map(|stored| {
            self.documents.insert(of.field.clone(), stored.document_id);
            self.images.insert((of.field.clone(), of.side.clone()), image);
        })))
    }

    pub async fn download(&self, by: &str, of: &Download) -> Came {
        let request = pb::DownloadDocumentRequest {
            document_id: self.document_id(&of.field)?,
            side: word!(pb::DocumentSide, "DOCUMENT_SIDE", &of.side)?,
            purpose: of.purpose.clone(),
            view: pb::View::Full.into(),
            recipient: of.recipient.clone(),
            reference: of.reference.clone(),
            ..pb::DownloadDocumentRequest::default()
        };
        let (_, bytes, ended) = self.documents(by)?.get(request).await;
        let wanted = self.images.get(&(of.field.clone(), of.side.clone()));
        if ended.is_ok() && Some(&bytes) != wanted {
            return Err(format!("{} bytes came that are not the image", bytes.len()));
        }
        Ok(came(ended))
    }

    pub async fn document(&self, by: &str, of: &Document) -> Came {
        let request = pb::DescribeDocumentRequest {
            document_id: self.document_id(&of.field)?,
            platform: self.platform_for(by),
        };
        let document = match told(self.documents(by)?.0.describe_document(request).await) {
            Ok(answer) => answer.document.unwrap(),
            Err(refused) => return Ok(refused),
        };
        let side = |held: &pb::HeldSide| {
            held.side().as_str_name().trim_start_matches("DOCUMENT_SIDE_").to_lowercase()
        };
        let sides: Vec<_> = document.sides.iter().map(side).collect();
        if (&sides, document.complete) == (&of.sides, of.whole) {
            return Ok("ok".into());
        }
        Err(format!("the sides {sides:?} are held; whole: {}", document.complete))
    }

    pub async fn delete_document(&self, by: &str, of: &OfField) -> Came {
        let request = pb::DeleteDocumentRequest {
            request_id: self.served.request_id(),
            document_id: self.document_id(&of.field)?,
            platform: self.platform_for(by),
            reference: String::new(),
        };
        Ok(came(told(self.documents(by)?.0.delete_document(request).await).map(drop)))
    }

    /// The same file with another number and date, and with what is added at its end.
    pub async fn apply_policy(&mut self, by: &str, of: &Policy) -> Came {
        let of_version = |line: &str| {
            line.starts_with("number = ").then(|| format!("number = {}", of.number)).or_else(|| {
                line.starts_with("effective = ").then(|| format!("effective = \"{}\"", of.effective))
            })
        };
        let lines = self.policy.text.lines().map(|line| of_version(line).unwrap_or_else(|| line.into()));
        let text = lines.collect::<Vec<_>>().join("\n") + "\n" + &of.add;
        let request = pb::ApplyPolicyRequest {
            request_id: self.served.request_id(),
            text: text.clone(),
            validate_only: false,
        };
        let applied = told(
            pb::policy_service_client::PolicyServiceClient::new(self.channel(by)?)
                .apply_policy(request)
                .await,
        );
        let applied = match applied {
            Ok(answer) => answer.outcome.unwrap(),
            Err(refused) => return Ok(refused),
        };
        if !matches!(applied, pb::apply_policy_response::Outcome::Applied(_)) {
            return Err(format!("{applied:?}"));
        }
        self.policy = PolicyText::decided(&text, &[]);
        Ok("ok".into())
    }

    pub async fn register_recipient(&self, by: &str, of: &Recipient) -> Came {
        let kind = if of.kind == "state" { "state_body" } else { &of.kind };
        let country = of.country.clone().unwrap_or_else(|| "KZ".into());
        let unless_given = if country == "KZ" { "unspecified" } else { "subject_consent" };
        let safeguard = of.safeguard.as_deref().unwrap_or(unless_given);
        let promised = |one: &String| word!(pb::RecipientCondition, "RECIPIENT_CONDITION", one);
        let has_key = of.has_key.then(|| pair(self.recipients.path(), &of.name));
        let request = pb::RegisterRecipientRequest {
            request_id: self.served.request_id(),
            platform: self.platform_for(by),
            name: of.name.clone(),
            kind: word!(pb::RecipientKind, "RECIPIENT_KIND", kind)?,
            country,
            safeguard: word!(pb::Safeguard, "SAFEGUARD", safeguard)?,
            safeguard_reference: of.paper.clone(),
            conditions: of.promised.iter().map(promised).collect::<Result<_, String>>()?,
            legal_name: format!("ТОО «{}»", of.name),
            contract_reference: of.contract.clone(),
            purposes: of.purposes.clone(),
            valid_until_time: Some(pb(on(&of.until)?)),
            public_key: has_key.unwrap_or_default(),
            ..pb::RegisterRecipientRequest::default()
        };
        let mut staff = pb::platform_service_client::PlatformServiceClient::new(self.channel(by)?);
        let registered = match told(staff.register_recipient(request).await) {
            Ok(registered) => applied(registered),
            Err(refused) => return Ok(refused),
        };
        let Some(offered) = registered.offered_key else { return Ok("ok".into()) };
        // The recipient shows that the key is its own.
        let log = format!("vault.example.kz/{}", self.policy.name());
        let answer = answer(self.recipients.path(), &of.name, &log, &of.name, &offered)?;
        let request = pb::ProveRecipientKeyRequest {
            request_id: self.served.request_id(),
            ..proof(self.policy.name(), &of.name, answer)
        };
        match told(staff.prove_recipient_key(request).await) {
            Ok(answered) if !answered.proved => Err("the recipient does not hold its key".into()),
            answered => Ok(came(answered.map(drop))),
        }
    }

    pub async fn end_recipient(&self, by: &str, of: &Named) -> Came {
        let request = pb::EndRecipientRequest {
            request_id: self.served.request_id(),
            platform: self.platform_for(by),
            recipient: of.name.clone(),
        };
        let mut staff = pb::platform_service_client::PlatformServiceClient::new(self.channel(by)?);
        Ok(came(told(staff.end_recipient(request).await).map(drop)))
    }
}

/// Whether the last day of a request is the one that the file expects: it is over at the end of that day.
fn is_due(case: &pb::Case, expected: Option<&str>) -> Came {
    let Some(expected) = expected else { return Ok("ok".into()) };
    let last = date_of(from_pb(case.due_time.unwrap()).plus_micros(-1));
    if last == expected { Ok("ok".into()) } else { Err(format!("it is due on {last}, not on {expected}")) }
}
