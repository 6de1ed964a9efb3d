//! What a person is told who asks: by field what is held, why, since when and until when; the consents; who saw it and to whom
//! it went (Law 94-V, Article 24; rule R13).
//!
//! Of one person, on a request whose asker is known. A value is in it only where a declared purpose lets this caller read it, and
//! is then decided, paid and logged as any read is; otherwise it is withheld with the reason.

use super::{believed, may_export};
use crate::{
    audit::entry::{Entry, Verdict},
    domain::{
        caller::Caller,
        consent::{Consent, SubjectState},
        event::Accuracy,
        field::FieldType,
        ids::{CaseId, SubjectId},
        names::{FieldName, PurposeName},
        reference::Reference,
        rights::{Case, CaseState, RightKind},
        secret::Plaintext,
        subject::ValueSource,
        time::Timestamp,
    },
    policy::{
        decide::{Ask, Denial},
        model::{BasisKind, Category, Policy, View},
        retention::{Life, ending, keeping},
    },
    store::{
        ReadKeys,
        rows::{RecordRow, SubjectRow, rights::CaseRow},
    },
    vault::{
        Vault,
        access::Call,
        accuracy::mark_of,
        act::Asker,
        context::Context,
        deed::{Deed, Deeded, Hand},
        detokenize::declared,
        error::VaultError,
        facts::{Held, TokenFacts, decide_on},
        replay::ItemOutcome,
        spending,
        subjects::Disclosure,
    },
};

/// Releases that one export tells of, the oldest first.
pub const MAX_USES: usize = 2_000;

/// What is held of a person, and why.
pub struct CaseExport {
    /// The request.
    pub case: Case,
    /// When it was looked.
    pub at: Timestamp,
    /// Whose data.
    pub subject: SubjectId,
    /// Where the person's data stand.
    pub state: SubjectState,
    /// Since when the platform has them.
    pub created_at: Timestamp,
    /// Registered name of the operator.
    pub operator: String,
    /// Its BIN.
    pub operator_bin: String,
    /// Version of the policy in force.
    pub policy_version: u32,
    /// Fields, by name.
    pub fields: Vec<ExportedField>,
    /// Consents, newest first.
    pub consents: Vec<Consent>,
    /// Who saw what, when and why, the oldest first.
    pub uses: Vec<Disclosure>,
    /// Whether there are more of these.
    pub more_uses: bool,
}

/// A field that is held.
pub struct ExportedField {
    /// Field.
    pub field: FieldName,
    /// Its type.
    pub field_type: FieldType,
    /// Its category.
    pub category: Category,
    /// Version of the record, from 1.
    pub version: u32,
    /// Where the value came from.
    pub source: ValueSource,
    /// What is known of how true it is.
    pub accuracy: Accuracy,
    /// Since when this version is held.
    pub since: Timestamp,
    /// Until when it is kept; none where a term waits for an event.
    pub until: Option<Timestamp>,
    /// Why it is held.
    pub purposes: Vec<ExportedPurpose>,
    /// The value as far as it may be told, or why it may not.
    pub value: Result<(View, Plaintext), Denial>,
}

/// A purpose that covers a field.
pub struct ExportedPurpose {
    /// Purpose.
    pub purpose: PurposeName,
    /// Its clause in the policy.
    pub clause: String,
    /// The article of a law that it stands on; none where it is a consent.
    pub law: Option<String>,
    /// The clause of its basis.
    pub basis_clause: String,
    /// When it ends, where there is a date.
    pub until: Option<Timestamp>,
    /// Whether it has ended.
    pub ended: bool,
    /// Kinds of recipients that the policy names for it.
    pub recipients: Vec<String>,
}

impl Vault {
    /// Tells what is held of the person who asks.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn export_case(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        id: CaseId,
        purpose: Option<PurposeName>,
    ) -> Result<CaseExport, VaultError> {
        let platform = self.target(caller, &asker, Call::ExportCase, platform).await?;
        let found = self.find_case(Call::ExportCase, caller, platform, id).await?;
        let asked_at = self.shared.clock.now();
        let deed = Export { found, purpose, caller: caller.clone(), asked_at };
        let mut export = self.run(platform, caller, asker, deed).await?;
        let (uses, more) = self.disclosures_of(platform, export.subject, 0, MAX_USES).await?;
        (export.uses, export.more_uses) = (uses, more.is_some());
        Ok(export)
    }
}

struct Export {
    /// As it was a moment ago.
    found: Option<CaseRow>,
    /// For which values are read; none for none.
    purpose: Option<PurposeName>,
    caller: Caller,
    asked_at: Timestamp,
}

impl Deed for Export {
    type Answer = CaseExport;

    fn call(&self) -> Call {
        Call::ExportCase
    }

    fn changes(&self) -> bool {
        false
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        keys.subjects.extend(self.found.as_ref().and_then(|row| row.case.subject));
        if let Some(purpose) = &self.purpose {
            spending::reads_values(context, self.caller.id, purpose, self.asked_at, keys);
        }
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<CaseExport>, VaultError> {
        let scene = hand.scene;
        let policy = scene.policy()?;
        may_export(policy, hand.caller, self.purpose.as_ref())?;
        let case = believed(scene, self.found.as_ref())?.case.clone();
        match case.state {
            CaseState::IdentityChecked | CaseState::InWork => {}
            CaseState::Received => return Err(Denial::CaseStateUnsuitable.into()),
            CaseState::Answered | CaseState::Refused => return Err(Denial::CaseEnded.into()),
        }
        if !matches!(case.kind, RightKind::Access | RightKind::Portability) {
            return Err(Denial::CaseStateUnsuitable.into());
        }
        let subject = scene.subject(case.subject.ok_or(Denial::SubjectNotFound)?)?;
        hand.log(|entry| super::about(&case, entry))?;
        let fields = self.fields(hand, policy, subject, &case)?;
        Ok(Deeded::answer(CaseExport {
            at: scene.now,
            subject: subject.id,
            state: subject.state,
            created_at: subject.created_at,
            operator: policy.operator.legal_name.clone(),
            operator_bin: policy.operator.bin.clone(),
            policy_version: policy.version,
            fields,
            consents: scene.consents_of(subject.id)?,
            uses: Vec::new(),
            more_uses: false,
            case,
        }))
    }
}

impl Export {
    fn fields(
        &self,
        hand: &mut Hand<'_, '_>,
        policy: &Policy,
        subject: &SubjectRow,
        case: &Case,
    ) -> Result<Vec<ExportedField>, VaultError> {
        let scene = hand.scene;
        // Erased is erased: nothing of it is held any more.
        if subject.state == SubjectState::Erased {
            return Ok(Vec::new());
        }
        let (consents, recorded) = (scene.consents_of(subject.id)?, scene.recorded_events_of(subject.id)?);
        let events: Vec<_> = recorded.iter().map(|row| row.event.clone()).collect();
        let mut records = scene.records_of(subject.id)?;
        records.sort_by(|a, b| a.address.field.cmp(&b.address.field));
        let mut fields = Vec::new();
        for record in records {
            let name = &record.address.field;
            let life = Life {
                field: name,
                collected_at: record.created_at,
                consents: &consents,
                events: &events,
                outreach: None,
            };
            let declared = policy.field(name).ok_or(Denial::FieldNotAllowed)?;
            fields.push(ExportedField {
                field: name.clone(),
                field_type: declared.field_type,
                category: declared.category,
                version: record.address.version,
                source: record.source,
                accuracy: mark_of(recorded, record).map_or(Accuracy::Unverified, |(mark, _)| mark.accuracy),
                since: record.created_at,
                until: keeping(policy, life, scene.now).until.date(),
                purposes: purposes(policy, life, scene.now),
                value: self.value(hand, policy, subject, record, case)?,
            });
        }
        Ok(fields)
    }

    /// The value as far as the purpose lets this caller see it: in full, or masked.
    fn value(
        &self,
        hand: &mut Hand<'_, '_>,
        policy: &Policy,
        subject: &SubjectRow,
        record: &RecordRow,
        case: &Case,
    ) -> Result<Result<(View, Plaintext), Denial>, VaultError> {
        let Some(purpose) = &self.purpose else { return Ok(Err(Denial::PurposeNotDeclared)) };
        let scene = hand.scene;
        let reference = Reference::parse(&case.id.to_string().to_uppercase()).ok();
        let about = |entry: Entry, view: View| Entry {
            purpose: declared(scene, purpose),
            view: Some(view.as_str().to_owned()),
            reference: reference.as_ref().map(ToString::to_string),
            field: Some(record.address.field.to_string()),
            subject: Some((*subject.id.as_bytes()).into()),
            record: Some((*record.address.record.as_bytes()).into()),
            ..entry
        };
        let mut reason = Denial::ViewNotAllowed;
        for view in [View::Full, View::Masked] {
            let reference = reference.as_ref();
            let ask = Ask { caller: hand.caller, purpose, view, recipient: None, outreach: None, reference };
            let held = (Held::value(record), subject, TokenFacts::NONE);
            let decided = decide_on(scene, policy, ask, Some(held)).and_then(|permit| {
                spending::spend_value(scene, hand.plan, hand.caller, purpose)?;
                let opened = scene.subject_key(subject)?.open_value(&permit, &record.sealed_value);
                let value = opened.map_err(|e| scene.damaged("records", &e))?;
                Ok((permit.consent(), value))
            });
            match decided {
                Ok((consent, value)) => {
                    hand.log_as(Verdict::Permit, |entry| Entry {
                        consent: consent.map(|id| (*id.as_bytes()).into()),
                        ..about(entry, view)
                    })?;
                    let kind = policy.field(&record.address.field).map(|field| field.field_type);
                    let masked = kind.filter(|_| view == View::Masked).map(|kind| kind.mask(&value));
                    return Ok(Ok((view, masked.unwrap_or(value))));
                }
                Err(Denial::ViewNotAllowed) => {}
                Err(denial) => {
                    reason = denial;
                    break;
                }
            }
        }
        hand.refuse(reason, |entry| about(entry, View::Full))?;
        Ok(Err(reason))
    }
}

/// The purposes that cover a field and may be read by.
fn purposes(policy: &Policy, life: Life<'_>, now: Timestamp) -> Vec<ExportedPurpose> {
    let covering = policy.purposes().filter(|(_, p)| p.inert.is_none() && p.covers(life.field));
    let stands = |name: &PurposeName, law: bool| {
        law || life.consents.iter().any(|c| c.terms.purpose == *name && c.terms.fields.contains(life.field))
    };
    let told = covering.filter_map(|(name, purpose)| {
        let law = match &purpose.basis.kind {
            BasisKind::Consent => None,
            BasisKind::Law { article } => Some(article.clone()),
        };
        stands(name, law.is_some()).then(|| {
            let ending = ending(policy, name, purpose, life, now);
            ExportedPurpose {
                purpose: name.clone(),
                clause: purpose.clause.clone(),
                law,
                basis_clause: purpose.basis.clause.clone(),
                until: ending.at,
                ended: ending.is_past(now),
                recipients: purpose.recipients().iter().map(|rule| rule.kind.as_str().to_owned()).collect(),
            }
        })
    });
    told.collect()
}
