//! Requests of people about their data (Law 94-V, Article 24): the register, its clocks, and what the person was told
//! (rules R12 to R14, R40).
//!
//! A case is read before its step and written on condition that it did not change meanwhile; every step leaves an entry with
//! the MAC of the row, so that a deadline edited behind the vault, or a case that is gone, is found.

mod acts;
mod corrections;
mod export;
mod steps;

use std::sync::Arc;

use super::{
    Vault,
    access::Call,
    act::{Asker, Claim, Scene},
    context::Context,
    deed::{Deed, Deeded, Hand},
    error::VaultError,
    replay::ItemOutcome,
    subjects::{SubjectName, may_manage},
    tokenize::unavailable,
};
use crate::{
    audit::entry::Entry,
    crypto::digest::sha256,
    domain::{
        calendar::WorkingCalendar,
        caller::Caller,
        ids::{CaseId, PlatformId},
        names::{PurposeName, SiteName},
        reference::Reference,
        rights::{Case, CaseRequester, CaseState, Notice, RightKind, RightsChannel},
        time::Timestamp,
    },
    policy::{
        decide::Denial,
        model::{BasisKind, Policy},
    },
    store::{ReadKeys, Write, cases::WhichCases, rows::rights::CaseRow},
};
pub use acts::CaseAct;
pub use corrections::Fulfilled;
pub use export::{CaseExport, ExportedField, ExportedPurpose, MAX_USES};
pub use steps::{CaseEnd, CaseStep};

/// Cases on one page.
pub const MAX_PAGE: usize = 100;

/// A request as it came.
#[derive(Clone)]
pub struct NewCase {
    /// Whose data; none where the platform knows nobody like that.
    pub subject: Option<SubjectName>,
    /// What is asked.
    pub kind: RightKind,
    /// How it came.
    pub channel: RightsChannel,
    /// Through which site.
    pub site: Option<SiteName>,
    /// Who asks.
    pub requester: CaseRequester,
    /// The paper that lets a representative act.
    pub representation: Option<Reference>,
    /// The platform's own number of it.
    pub reference: Option<Reference>,
    /// When it came.
    pub received_at: Timestamp,
}

/// A case as it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CaseView {
    /// The case.
    pub case: Case,
    /// Whether its time is over without an answer.
    pub overdue: bool,
    /// What the person was told.
    pub notice: Option<String>,
}

/// Which cases are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Listed {
    /// All.
    All,
    /// Those without an answer.
    Open,
    /// Those of them whose time is over.
    Overdue,
}

/// Where a case stands in a list: when it is due, and its id.
pub type CasePlace = (Timestamp, CaseId);

impl Vault {
    /// Registers a request.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn open_case(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        new: NewCase,
    ) -> Result<CaseView, VaultError> {
        let platform = self.target(caller, &asker, Call::OpenCase, platform).await?;
        let calendar = Arc::clone(&self.settings.calendar);
        let id = self.run(platform, caller, asker, Open { new, calendar }).await?;
        self.case_as_stored(platform, id).await
    }

    /// A case.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn case(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        id: CaseId,
    ) -> Result<CaseView, VaultError> {
        let platform = self.target(caller, &asker, Call::GetCase, platform).await?;
        let found = self.find_case(Call::GetCase, caller, platform, id).await?;
        self.run(platform, caller, asker, Get(found)).await
    }

    /// Cases in the order in which they are due, after one; and the place of the last, where more may follow.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn cases(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        which: Listed,
        after: Option<CasePlace>,
        size: usize,
    ) -> Result<(Vec<CaseView>, Option<CasePlace>), VaultError> {
        let platform = self.target(caller, &asker, Call::ListCases, platform).await?;
        let size = size.clamp(1, MAX_PAGE);
        let after = after.unwrap_or((Timestamp::from_micros(i64::MIN), CaseId::from_bytes([0; 16])));
        let mut found = Vec::new();
        if self.may_ask(Call::ListCases, caller, platform) {
            // One more than the page takes, to know whether there are more.
            let limit = u32::try_from(size + 1).map_err(unavailable)?;
            let which = match which {
                Listed::All => WhichCases::All,
                Listed::Open => WhichCases::Open,
                Listed::Overdue => WhichCases::Overdue(self.shared.clock.now()),
            };
            found = self.shared.store.cases(platform, which, after, limit).await.map_err(unavailable)?;
        }
        let more = found.len() > size;
        found.truncate(size);
        let place = |row: &CaseRow| (row.case.due_at, row.case.id);
        let next = found.last().map(place).filter(|_| more);
        Ok((self.run(platform, caller, asker, List(found)).await?, next))
    }

    /// A case as it was a moment ago; none is read for a caller who may not ask, whom the deed refuses with an entry.
    pub(super) async fn find_case(
        &self,
        call: Call,
        caller: &Caller,
        platform: PlatformId,
        id: CaseId,
    ) -> Result<Option<CaseRow>, VaultError> {
        if !self.may_ask(call, caller, platform) {
            return Ok(None);
        }
        self.shared.store.case(platform, id).await.map_err(unavailable)
    }

    /// The case after a step: what a caller is answered is what is stored.
    pub(super) async fn case_as_stored(
        &self,
        platform: PlatformId,
        id: CaseId,
    ) -> Result<CaseView, VaultError> {
        let row = self.shared.store.case(platform, id).await.map_err(unavailable)?;
        let (row, context) = (row.ok_or(Denial::CaseNotFound)?, self.context(platform)?);
        context.keys.row.verify(&row.image(), &row.mac).map_err(|_| Denial::DataDamaged)?;
        Ok(view(&context, &row.case, self.shared.clock.now()))
    }
}

fn view(context: &Context, case: &Case, now: Timestamp) -> CaseView {
    CaseView { overdue: case.is_overdue(now), notice: notice_of(context, case), case: case.clone() }
}

/// The notice of a case that ended: its template again, under the operator's name of that time, which its hash proves.
fn notice_of(context: &Context, case: &Case) -> Option<String> {
    let ending = case.ending.as_ref()?;
    let mut names: Vec<&str> =
        context.policies().iter().map(|applied| applied.policy.operator.legal_name.as_str()).collect();
    names.dedup();
    let texts = names.into_iter().map(|operator| notice(operator, case, ending.at).text(ending.language));
    let mut same = texts.filter(|text| sha256(text.as_bytes()) == ending.notice_sha256);
    same.next()
}

/// What a notice on a case says, which ended or ends then.
fn notice<'a>(operator: &'a str, case: &'a Case, ended_at: Timestamp) -> Notice<'a> {
    Notice {
        operator,
        case: case.id,
        reference: case.reference.as_ref(),
        kind: case.kind,
        received_at: case.received_at,
        ended_at,
        reasons: case.ending.as_ref().map_or(&[], |ending| &ending.reasons),
        ground: case.ending.as_ref().and_then(|ending| ending.reference.as_ref()),
    }
}

/// Whether the caller may be told what is held of a person, besides staff by its role: a service that manages subjects, or one
/// that asks for a purpose that names it and stands on a law, as the answer to a person does. A consent to something else
/// opens nobody's file.
fn may_export(policy: &Policy, caller: &Caller, purpose: Option<&PurposeName>) -> Result<(), Denial> {
    let named = || {
        let purpose = policy.purpose(purpose?)?;
        (purpose.basis.kind != BasisKind::Consent && purpose.names_caller(caller)).then_some(())
    };
    if caller.person.is_some() || policy.may_manage_subjects(caller) || named().is_some() {
        return Ok(());
    }
    Err(Denial::CallerNotAllowed)
}

/// Believes a row that was read beside the batch.
fn believed<'r>(scene: &Scene<'_>, row: Option<&'r CaseRow>) -> Result<&'r CaseRow, Denial> {
    let row = row.ok_or(Denial::CaseNotFound)?;
    let verified = scene.keys().row.verify(&row.image(), &row.mac);
    verified.map_err(|e| scene.damaged("rights_cases", &e))?;
    Ok(row)
}

/// A row of a case, with its MAC.
fn sealed(scene: &Scene<'_>, case: Case) -> CaseRow {
    let mut row = CaseRow { platform: scene.context.platform, case, mac: [0; 32] };
    row.mac = scene.keys().row.mac(&row.image());
    row
}

/// What the log says of a case.
fn about(case: &Case, entry: Entry) -> Entry {
    Entry {
        subject: case.subject.map(|id| (*id.as_bytes()).into()),
        object_kind: Some("case".to_owned()),
        object: Some(case.id.as_bytes().to_vec()),
        reference: case.reference.as_ref().map(ToString::to_string),
        ..entry
    }
}

struct Open {
    new: NewCase,
    calendar: Arc<WorkingCalendar>,
}

impl Deed for Open {
    type Answer = CaseId;

    fn call(&self) -> Call {
        Call::OpenCase
    }

    fn changes(&self) -> bool {
        true
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        if let Some(subject) = &self.new.subject {
            subject.reads(context, keys);
        }
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<CaseId>, VaultError> {
        let scene = hand.scene;
        may_manage(scene, hand.caller)?;
        let policy = scene.policy()?;
        let new = self.new.clone();
        if new.site.as_ref().is_some_and(|site| !policy.governs(site)) {
            return Err(VaultError::invalid("site", "the policy does not govern this site"));
        }
        let subject = new.subject.as_ref().map(|name| name.find(scene)).transpose()?.map(|row| row.id);
        if let Some(subject) = subject.filter(|_| new.kind.demands_destruction()) {
            // A sweep of the same moment sees the demand, or comes first.
            if !hand.plan.claim(Claim::SubjectRow(subject)) {
                return Ok(Deeded::Later);
            }
            hand.plan.tightens = true;
        }
        let (working_days, clause) = policy.answers_within(new.kind);
        let id = CaseId::random(scene.rng()).map_err(unavailable)?;
        let case = Case {
            id,
            subject,
            kind: new.kind,
            channel: new.channel,
            site: new.site,
            requester: new.requester,
            representation: new.representation,
            reference: new.reference,
            received_at: new.received_at,
            counts_from: new.received_at,
            working_days,
            clause: clause.to_owned(),
            calendar_sha256: sha256(self.calendar.text().as_bytes()),
            due_at: self.calendar.end_of(new.received_at, working_days),
            state: CaseState::Received,
            identity: None,
            begun_at: None,
            done_at: None,
            ending: None,
            opened_at: scene.now,
        };
        let row = sealed(scene, case);
        hand.log(|entry| Entry {
            row_mac: Some(row.mac.into()),
            detail_sha256: Some(row.case.calendar_sha256.into()),
            ..about(&row.case, entry)
        })?;
        hand.plan.writes.push(Write::InsertCase(row));
        let ids = vec![(*id.as_bytes()).into()];
        Ok(Deeded::changed(id, ItemOutcome { ids, ..ItemOutcome::default() }))
    }

    fn again(&self, hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<CaseId, VaultError> {
        may_manage(hand.scene, hand.caller)?;
        Ok(CaseId::from_bytes(before.id(0)?))
    }
}

struct Get(Option<CaseRow>);

impl Deed for Get {
    type Answer = CaseView;

    fn call(&self) -> Call {
        Call::GetCase
    }

    fn changes(&self) -> bool {
        false
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<CaseView>, VaultError> {
        let case = &believed(hand.scene, self.0.as_ref())?.case;
        hand.log(|entry| about(case, entry))?;
        Ok(Deeded::answer(view(hand.scene.context, case, hand.scene.now)))
    }
}

struct List(Vec<CaseRow>);

impl Deed for List {
    type Answer = Vec<CaseView>;

    fn call(&self) -> Call {
        Call::ListCases
    }

    fn changes(&self) -> bool {
        false
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Self::Answer>, VaultError> {
        let scene = hand.scene;
        let count = u64::try_from(self.0.len()).ok();
        hand.log(|entry| Entry { object_kind: Some("case".to_owned()), count, ..entry })?;
        let one = |row: &CaseRow| Ok(view(scene.context, &believed(scene, Some(row))?.case, scene.now));
        Ok(Deeded::answer(self.0.iter().map(one).collect::<Result<_, VaultError>>()?))
    }
}
