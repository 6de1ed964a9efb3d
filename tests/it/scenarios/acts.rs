//! What people do to values, consents and the person as a whole, each by its call of the served vault.

use sandyq::{
    audit::{
        head::HeadVerifier,
        receipt::{Receipt, Statement},
    },
    crypto::digest::sha256,
    grpc::pb::{
        self, consent_service_client::ConsentServiceClient, retention_service_client::RetentionServiceClient,
        subject_service_client::SubjectServiceClient, vault_service_client::VaultServiceClient,
    },
};
use tonic::transport::Channel;

use super::{
    file::{
        Act, Agreed, Block, Correct, Disclosures, Event, Held, Plan, PlanRow, Read, Receipts, Referenced,
        Release, SignUp, Withdraw,
    },
    life::{Came, Life, came, is_to, told, word},
    time::{later, on, pb},
};
use crate::releases::Opening;

/// Months and missing events as a row of a plan shows them.
type Row = (String, String, String, String, Vec<String>);

impl Agreed {
    /// What a consent is kept as: its purpose, the channel where it has one, and the sender where that is not the operator.
    fn kept_as(&self) -> String {
        let by = self.channel.as_ref().map_or_else(String::new, |channel| format!(" by {channel}"));
        let sender = self.sender.as_ref().map_or_else(String::new, |sender| format!(" for {sender}"));
        format!("{}{by}{sender}", self.to)
    }
}

/// A channel and a sender as they are written.
fn outreach(channel: Option<&String>, sender: Option<&String>) -> Result<Option<pb::Outreach>, String> {
    let Some(channel) = channel else { return Ok(None) };
    let channel = word!(pb::Channel, "CHANNEL", channel)?;
    Ok(Some(pb::Outreach { channel, sender: sender.cloned().unwrap_or_default() }))
}

impl Life<'_> {
    pub async fn act(&mut self, by: &str, act: &Act) -> Came {
        match act {
            Act::SignUp(of) => self.sign_up(by, of).await,
            Act::Consent(of) => self.give_consent(by, of).await,
            Act::Withdraw(of) => self.withdraw(by, of).await,
            Act::Event(of) => self.event(by, of).await,
            Act::Read(of) => self.read(by, of).await,
            Act::Release(of) => self.release(by, of).await,
            Act::Correct(of) => self.correct(by, of).await,
            Act::Block(of) => self.block(by, of).await,
            Act::Unblock(of) => self.unblock(by, of).await,
            Act::Erase(of) => self.erase(by, of).await,
            Act::CallOff(of) => self.call_off(by, of).await,
            Act::Destruction(_) => self.wait_for("destroy_subject").await.map(|()| "ok".into()),
            Act::Sweep(_) => self.sweep(by).await,
            Act::Plan(of) => self.plan(by, of).await,
            Act::Held(of) => self.held(by, of).await,
            Act::Disclosures(of) => self.disclosures(by, of).await,
            Act::Receipts(of) => self.receipts(by, of).await,
            Act::Request(of) => self.request(by, of).await,
            Act::Identify(of) => self.identify(by, of).await,
            Act::Begin(_) => self.begin_work(by).await,
            Act::Fulfil(of) => self.fulfil(by, of).await,
            Act::Tell(of) => self.tell(by, of).await,
            Act::Reply(of) => self.reply(by, of).await,
            Act::Refuse(of) => self.refuse(by, of).await,
            Act::Late(of) => self.late(by, of).await,
            Act::Upload(of) => self.upload(by, of).await,
            Act::Download(of) => self.download(by, of).await,
            Act::Document(of) => self.document(by, of).await,
            Act::DeleteDocument(of) => self.delete_document(by, of).await,
            Act::Policy(of) => self.apply_policy(by, of).await,
            Act::Recipient(of) => self.register_recipient(by, of).await,
            Act::EndRecipient(of) => self.end_recipient(by, of).await,
        }
    }

    fn vault(&self, by: &str) -> Result<VaultServiceClient<Channel>, String> {
        Ok(VaultServiceClient::new(self.channel(by)?))
    }

    fn subjects(&self, by: &str) -> Result<SubjectServiceClient<Channel>, String> {
        Ok(SubjectServiceClient::new(self.channel(by)?))
    }

    async fn sign_up(&mut self, by: &str, of: &SignUp) -> Came {
        let source = word!(pb::ValueSource, "VALUE_SOURCE", of.source.as_deref().unwrap_or("subject"))?;
        let mut fields = Vec::new();
        for field in &of.fields {
            let value = self.values.get(field).ok_or_else(|| format!("[values] has no {field}"))?;
            let (field, value, source_reference) = (field.clone(), value.clone(), of.proof.clone());
            fields.push(pb::FieldValue {
                field,
                value,
                source,
                source_reference,
                ..pb::FieldValue::default()
            });
        }
        let person = &self.scenario.head.person;
        let kind = person.kind.as_deref().unwrap_or("natural");
        let request = pb::TokenizeRequest {
            request_id: self.served.request_id(),
            subject_reference: person.reference.clone(),
            fields,
            consents: of.consents.iter().map(|given| self.terms(given)).collect::<Result<_, _>>()?,
            subject_kind: word!(pb::SubjectKind, "SUBJECT_KIND", kind)?,
        };
        let stored = told(self.vault(by)?.tokenize(request).await);
        Ok(came(stored.map(|stored| {
            self.subject = Some(stored.subject_id);
            self.tokens.extend(stored.tokens.into_iter().map(|token| (token.field, token.token)));
            for (given, id) in of.consents.iter().zip(stored.consent_ids) {
                self.consents.entry(given.kept_as()).or_default().push(id);
            }
        })))
    }

    /// A consent with all that Article 8(4) asks for.
    pub fn terms(&self, given: &Agreed) -> Result<pb::ConsentGrant, String> {
        let head = &self.scenario.head;
        let at = given.given.as_deref().map_or(Ok(self.now()), on)?;
        let until = given.until.as_deref().map(on).transpose()?;
        Ok(pb::ConsentGrant {
            purpose: given.to.clone(),
            fields: given.fields.clone(),
            subject_name: head.person.name.clone(),
            act: word!(pb::ConsentAct, "CONSENT_ACT", given.act.as_deref().unwrap_or("tick"))?,
            give_time: Some(pb(at)),
            expire_time: until.map(pb),
            third_party_transfer: Some(given.third_parties),
            cross_border_transfer: Some(given.abroad),
            publication: Some(given.publication),
            policy_version: given.policy_version.unwrap_or(1),
            language: given.language.as_ref().unwrap_or(&head.language).clone(),
            text_sha256: sha256(head.policy.as_bytes()).to_vec(),
            site: given.site.as_ref().unwrap_or(&head.site).clone(),
            outreach: outreach(given.channel.as_ref(), given.sender.as_ref())?,
        })
    }

    async fn give_consent(&mut self, by: &str, given: &Agreed) -> Came {
        let request = pb::GrantConsentRequest {
            request_id: self.served.request_id(),
            subject_reference: self.scenario.head.person.reference.clone(),
            consent: Some(self.terms(given)?),
        };
        let granted = told(ConsentServiceClient::new(self.channel(by)?).grant_consent(request).await);
        Ok(came(granted.map(|granted| {
            let id = granted.consent.unwrap().consent_id;
            self.consents.entry(given.kept_as()).or_default().push(id);
        })))
    }

    async fn withdraw(&mut self, by: &str, of: &Withdraw) -> Came {
        let mut client = ConsentServiceClient::new(self.channel(by)?);
        for consent_id in self.consents_to(&of.purposes)? {
            let request = pb::WithdrawConsentRequest {
                request_id: self.served.request_id(),
                consent_id,
                platform: self.platform_for(by),
            };
            if let Err(refused) = told(client.withdraw_consent(request).await) {
                return Ok(refused);
            }
        }
        self.consents.retain(|kept, _| !of.purposes.iter().any(|purpose| is_to(kept, purpose)));
        Ok("ok".into())
    }

    async fn event(&self, by: &str, of: &Event) -> Came {
        let request = pb::RecordEventRequest {
            request_id: self.served.request_id(),
            subject: Some(self.subject_name()),
            platform: self.platform_for(by),
            event: of.name.clone(),
            event_time: Some(pb(of.on.as_deref().map_or(Ok(self.now()), on)?)),
            withdrawal_bar: word!(
                pb::WithdrawalBar,
                "WITHDRAWAL_BAR",
                of.bar.as_deref().unwrap_or("unspecified")
            )?,
            ground: of.ground.clone(),
        };
        Ok(came(told(self.subjects(by)?.record_event(request).await).map(drop)))
    }

    /// All fields of one step are answered alike.
    async fn read(&self, by: &str, of: &Read) -> Came {
        let view = of.view.as_deref().unwrap_or("full");
        let mut answers = Vec::new();
        for field in &of.fields {
            let request = pb::DetokenizeRequest {
                request_id: self.served.request_id(),
                token: self.token(field)?,
                purpose: of.purpose.clone(),
                view: word!(pb::View, "VIEW", view)?,
                reference: of.reference.clone(),
                age_years: of.age,
                recipient: of.recipient.clone(),
                outreach: outreach(of.channel.as_ref(), of.sender.as_ref())?,
            };
            let answer = told(self.vault(by)?.detokenize(request).await);
            let expected = match view {
                "full" => self.values.get(field),
                _ => of.is.as_ref(),
            };
            if let Ok(answered) = &answer
                && Some(&answered.value) != expected
            {
                return Err(format!("{field} was answered as «{}», not {expected:?}", answered.value));
            }
            answers.push(answer.err().unwrap_or_else(|| "ok".into()));
        }
        answers.dedup();
        match &answers[..] {
            [answer] => Ok(answer.clone()),
            _ => Err(format!("fields were answered differently: {answers:?}")),
        }
    }

    /// The recipient opens what it gets with its own library, as `docs/releases.md` says.
    async fn release(&self, by: &str, of: &Release) -> Came {
        let request = pb::BatchDetokenizeRequest {
            request_id: self.served.request_id(),
            tokens: of.fields.iter().map(|field| self.token(field)).collect::<Result<_, _>>()?,
            purpose: of.purpose.clone(),
            view: pb::View::Full.into(),
            recipient: of.recipient.clone(),
            reference: of.reference.clone(),
            outreach: outreach(of.channel.as_ref(), of.sender.as_ref())?,
            ..pb::BatchDetokenizeRequest::default()
        };
        let answer = match told(self.vault(by)?.batch_detokenize(request).await) {
            Ok(answer) => answer,
            Err(refused) => return Ok(refused),
        };
        if !answer.results.is_empty() {
            return Err("values came beside the sealed ones".into());
        }
        let (log, now) = (format!("vault.example.kz/{}", self.policy.name()), self.now());
        let now = now.to_string().replace('Z', "+00:00");
        let reached =
            of.channel.as_ref().map(|by| format!("{by} {}", of.sender.as_deref().unwrap_or("operator")));
        let opening = Opening {
            dir: self.recipients.path(),
            key: &self.served.running.verifier_key,
            log: &log,
            purpose: &of.purpose,
            recipient: &of.recipient,
            secret: &of.recipient,
            outreach: reached.as_deref().unwrap_or_default(),
            reference: &of.reference,
            now: Some(&now),
            seen: "seen",
        };
        let opened = opening.open(&answer.sealed.ok_or("nothing was sealed")?)?;
        let value = |field: &String| serde_json::json!({ "field": field, "value": self.values[field] });
        let expected: Vec<_> = of.fields.iter().map(value).collect();
        if opened == serde_json::Value::Array(expected) { Ok("ok".into()) } else { Err(opened.to_string()) }
    }

    async fn correct(&mut self, by: &str, of: &Correct) -> Came {
        let request = pb::UpdateRecordRequest {
            request_id: self.served.request_id(),
            token: self.token(&of.field)?,
            value: of.value.clone(),
            source: word!(pb::ValueSource, "VALUE_SOURCE", of.source.as_deref().unwrap_or("subject"))?,
            evidence: of.evidence.clone(),
        };
        let corrected = told(self.vault(by)?.update_record(request).await);
        Ok(came(corrected.map(|_| {
            self.values.insert(of.field.clone(), of.value.clone());
        })))
    }

    async fn block(&self, by: &str, of: &Block) -> Came {
        let request = pb::RestrictSubjectRequest {
            request_id: self.served.request_id(),
            subject: Some(self.subject_name()),
            platform: self.platform_for(by),
            trigger: word!(pb::RestrictionTrigger, "RESTRICTION_TRIGGER", &of.trigger)?,
            requester: word!(pb::RestrictionRequester, "RESTRICTION_REQUESTER", &of.requester)?,
            review_time: Some(pb(later(self.now(), &of.review_after)?)),
            reference: of.reference.clone(),
        };
        Ok(came(told(self.subjects(by)?.restrict_subject(request).await).map(drop)))
    }

    async fn unblock(&self, by: &str, of: &Referenced) -> Came {
        let request = pb::UnrestrictSubjectRequest {
            request_id: self.served.request_id(),
            subject: Some(self.subject_name()),
            platform: self.platform_for(by),
            reference: of.reference.clone(),
        };
        Ok(came(told(self.subjects(by)?.unrestrict_subject(request).await).map(drop)))
    }

    async fn erase(&self, by: &str, of: &Referenced) -> Came {
        let request = pb::EraseSubjectRequest {
            request_id: self.served.request_id(),
            subject: Some(self.subject_name()),
            platform: self.platform_for(by),
            reference: of.reference.clone(),
        };
        Ok(came(told(self.subjects(by)?.erase_subject(request).await).map(drop)))
    }

    async fn call_off(&self, by: &str, of: &Referenced) -> Came {
        let request = pb::CancelErasureRequest {
            request_id: self.served.request_id(),
            subject: Some(self.subject_name()),
            platform: self.platform_for(by),
            reference: of.reference.clone(),
        };
        Ok(came(told(self.subjects(by)?.cancel_erasure(request).await).map(drop)))
    }

    async fn sweep(&self, by: &str) -> Came {
        let request = pb::SweepRetentionRequest {
            request_id: self.served.request_id(),
            platform: self.platform_for(by),
            ..pb::SweepRetentionRequest::default()
        };
        let begun = told(RetentionServiceClient::new(self.channel(by)?).sweep_retention(request).await);
        if begun.is_ok() {
            self.wait_for("sweep_retention").await?;
        }
        Ok(came(begun.map(drop)))
    }

    async fn plan(&self, by: &str, of: &Plan) -> Came {
        let request = pb::PlanRetentionRequest {
            platform: self.policy.name().into(),
            ..pb::PlanRetentionRequest::default()
        };
        let planned = told(RetentionServiceClient::new(self.channel(by)?).plan_retention(request).await);
        let planned = match planned {
            Ok(planned) => planned.rows,
            Err(refused) => return Ok(refused),
        };
        let mut rows: Vec<Row> = Vec::new();
        for row in planned {
            let fate = row.fate().as_str_name().trim_start_matches("RETENTION_FATE_").to_lowercase();
            rows.push((row.field, fate, row.purpose, row.month, row.missing_events));
        }
        let written = |row: &PlanRow| {
            let PlanRow { field, fate, purpose, month, missing } = row;
            (field.clone(), fate.clone(), purpose.clone(), month.clone(), missing.clone())
        };
        let mut expected: Vec<Row> = of.rows.iter().map(written).collect();
        rows.sort();
        expected.sort();
        if rows == expected { Ok("ok".into()) } else { Err(format!("the plan is {rows:#?}")) }
    }

    async fn held(&self, by: &str, of: &Held) -> Came {
        let request =
            pb::GetSubjectRequest { subject: Some(self.subject_name()), platform: self.platform_for(by) };
        let subject = match told(self.subjects(by)?.get_subject(request).await) {
            Ok(answer) => answer.subject.unwrap(),
            Err(refused) => return Ok(refused),
        };
        let state = subject.state().as_str_name().trim_start_matches("SUBJECT_STATE_").to_lowercase();
        let refusals =
            subject.events.iter().filter(|event| event.withdrawal_bar() != pb::WithdrawalBar::Unspecified);
        let bar = |event: &pb::RecordedEvent| {
            event.withdrawal_bar().as_str_name().trim_start_matches("WITHDRAWAL_BAR_").to_lowercase()
        };
        let refused: Vec<_> = refusals.map(|event| format!("{} {}", bar(event), event.ground)).collect();
        let mut fields: Vec<_> = subject.fields.into_iter().map(|held| held.field).collect();
        let mut expected = of.fields.clone();
        fields.sort();
        expected.sort();
        if (&state, &fields, &refused) == (&of.state, &expected, &of.refused) {
            return Ok("ok".into());
        }
        Err(format!("the person is {state}, with {fields:?}; refused: {refused:?}"))
    }

    async fn disclosures(&self, by: &str, of: &Disclosures) -> Came {
        let request = pb::ListDisclosuresRequest {
            subject: Some(self.subject_name()),
            platform: self.platform_for(by),
            ..pb::ListDisclosuresRequest::default()
        };
        let listed = match told(self.subjects(by)?.list_disclosures(request).await) {
            Ok(answer) => answer.disclosures,
            Err(refused) => return Ok(refused),
        };
        let mut told: Vec<_> = listed.into_iter().map(|d| (d.field, d.purpose, d.recipient)).collect();
        let written = of.of.iter().map(|d| (d.field.clone(), d.purpose.clone(), d.recipient.clone()));
        let mut expected: Vec<_> = written.collect();
        told.sort();
        expected.sort();
        if told == expected { Ok("ok".into()) } else { Err(format!("told are {told:#?}")) }
    }

    /// Receipts verify with the audit key alone.
    async fn receipts(&self, by: &str, of: &Receipts) -> Came {
        let request = pb::GetErasureReceiptsRequest {
            subject: Some(self.subject_name()),
            platform: self.platform_for(by),
        };
        let given = match told(self.subjects(by)?.get_erasure_receipts(request).await) {
            Ok(answer) => answer.receipts,
            Err(refused) => return Ok(refused),
        };
        let key = HeadVerifier::new(&self.served.running.verifier_key).unwrap();
        let stated = |receipt: &pb::ErasureReceipt| -> Statement {
            Receipt::parse(&receipt.document).unwrap().verify(&key).unwrap().statement
        };
        let kinds: Vec<_> = given.iter().map(|receipt| stated(receipt).kind.as_str().to_owned()).collect();
        if kinds == of.kinds { Ok("ok".into()) } else { Err(format!("there are receipts {kinds:?}")) }
    }
}
