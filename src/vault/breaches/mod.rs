//! Breaches of the security of personal data (Law 94-V, Article 25(2)(8); Rules 481/НҚ): the register, the authority's day, whom
//! each reaches, and what was told to whom (rule R28).
//!
//! As with requests of people, a breach is read before its step and written on condition that it did not change meanwhile; every
//! step leaves an entry with the MAC of the row, so that a day edited behind the vault, or a breach that is gone, is found.

mod search;
mod steps;
mod whom;

use std::sync::Arc;

use super::{
    Vault,
    access::Call,
    act::{Asker, Scene},
    context::Context,
    deed::{Deed, Deeded, Hand},
    error::VaultError,
    replay::ItemOutcome,
    tokenize::unavailable,
};
use crate::{
    audit::entry::Entry,
    crypto::{digest::sha256, keyring::KeyKind},
    domain::{
        breach::{Addressee, Breach, BreachFacts, BreachNotice, Held, NOTICE_WITHIN, Written},
        calendar::WorkingCalendar,
        caller::Caller,
        consent::Language,
        field::FieldType,
        ids::{BreachId, PlatformId},
        names::FieldName,
        platform::Platform,
        reference::Reference,
        time::Timestamp,
    },
    policy::decide::Denial,
    store::{Write, breaches::WhichBreaches, rows::breaches::BreachRow},
};
pub use search::{Assessment, BreachStep, BreachSteps};
pub use steps::{BreachClosing, BreachTold};

/// Breaches on one page.
pub const MAX_PAGE: usize = 100;

/// A breach as it is answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreachView {
    /// The breach.
    pub breach: Breach,
    /// Whether the authority's day is over and it was not told.
    pub overdue: bool,
    /// What the authority was told; none where it was not, or what is known has changed since.
    pub authority_notice: Option<String>,
    /// What the people were told, likewise.
    pub subjects_notice: Option<String>,
}

/// A notice as it would be told now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BreachDraft {
    /// The breach.
    pub view: BreachView,
    /// The notice.
    pub written: Written,
    /// The same as one text.
    pub text: String,
    /// SHA-256 of the text.
    pub sha256: [u8; 32],
}

/// Which breaches are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ListedBreaches {
    /// All.
    All,
    /// Those that have not ended.
    Open,
    /// Those of them of which the authority was not told in its day.
    Overdue,
}

/// Where a breach stands in a list: when the authority's day is over, and its id.
pub type BreachPlace = (Timestamp, BreachId);

impl Vault {
    /// Registers a breach.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn open_breach(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        found_at: Timestamp,
        facts: BreachFacts,
    ) -> Result<BreachView, VaultError> {
        let platform = self.target(caller, &asker, Call::OpenBreach, platform).await?;
        let calendar = Arc::clone(&self.settings.calendar);
        let id = self.run(platform, caller, asker, Open { found_at, facts, calendar }).await?;
        self.breach_as_stored(platform, id).await
    }

    /// A breach.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn breach(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        id: BreachId,
    ) -> Result<BreachView, VaultError> {
        let platform = self.target(caller, &asker, Call::GetBreach, platform).await?;
        let breach = self.look_at_breach(Call::GetBreach, caller, asker, platform, id).await?;
        self.breach_view(platform, breach)
    }

    /// What the authority or the people are told of a breach, as it is known now.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn breach_notice(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        id: BreachId,
        (to, language): (Addressee, Language),
    ) -> Result<BreachDraft, VaultError> {
        let call = Call::GetBreachNotice;
        let platform = self.target(caller, &asker, call, platform).await?;
        let breach = self.look_at_breach(call, caller, asker, platform, id).await?;
        let (context, operator) = (self.context(platform)?, self.operator_of(platform)?);
        let now = self.shared.clock.now();
        let written = written(&context, &operator, &breach, (to, language), now);
        let text = written.text();
        let sha256 = sha256(text.as_bytes());
        Ok(BreachDraft { view: self.breach_view(platform, breach)?, written, text, sha256 })
    }

    /// Breaches in the order in which the authority is to be told, after one; and the place of the last, where more may follow.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn breaches(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        which: ListedBreaches,
        after: Option<BreachPlace>,
        size: usize,
    ) -> Result<(Vec<BreachView>, Option<BreachPlace>), VaultError> {
        let platform = self.target(caller, &asker, Call::ListBreaches, platform).await?;
        let size = size.clamp(1, MAX_PAGE);
        let after = after.unwrap_or((Timestamp::from_micros(i64::MIN), BreachId::from_bytes([0; 16])));
        let mut found = Vec::new();
        if self.may_ask(Call::ListBreaches, caller, platform) {
            // One more than the page takes, to know whether there are more.
            let limit = u32::try_from(size + 1).map_err(unavailable)?;
            let which = match which {
                ListedBreaches::All => WhichBreaches::All,
                ListedBreaches::Open => WhichBreaches::Open,
                ListedBreaches::Overdue => WhichBreaches::Overdue(self.shared.clock.now()),
            };
            found = self.shared.store.breaches(platform, which, after, limit).await.map_err(unavailable)?;
        }
        let more = found.len() > size;
        found.truncate(size);
        let next = found.last().map(|row| (row.breach.due_at, row.breach.id)).filter(|_| more);
        let breaches = self.run(platform, caller, asker, List(found)).await?;
        let views = breaches.into_iter().map(|breach| self.breach_view(platform, breach));
        Ok((views.collect::<Result<_, _>>()?, next))
    }

    /// A breach as it was a moment ago; none is read for a caller who may not ask, whom the deed refuses with an entry.
    async fn find_breach(
        &self,
        call: Call,
        caller: &Caller,
        platform: PlatformId,
        id: BreachId,
    ) -> Result<Option<BreachRow>, VaultError> {
        if !self.may_ask(call, caller, platform) {
            return Ok(None);
        }
        self.shared.store.breach(platform, id).await.map_err(unavailable)
    }

    /// The same believed, with an entry of the question.
    async fn look_at_breach(
        &self,
        call: Call,
        caller: &Caller,
        asker: Asker,
        platform: PlatformId,
        id: BreachId,
    ) -> Result<Breach, VaultError> {
        let found = self.find_breach(call, caller, platform, id).await?;
        self.run(platform, caller, asker, Look { call, found }).await
    }

    /// The breach after a step: what a caller is answered is what is stored.
    async fn breach_as_stored(&self, platform: PlatformId, id: BreachId) -> Result<BreachView, VaultError> {
        let row = self.shared.store.breach(platform, id).await.map_err(unavailable)?;
        let (row, context) = (row.ok_or(Denial::BreachNotFound)?, self.context(platform)?);
        context.keys.row.verify(&row.image(), &row.mac).map_err(|_| Denial::DataDamaged)?;
        self.breach_view(platform, row.breach)
    }

    fn breach_view(&self, platform: PlatformId, breach: Breach) -> Result<BreachView, VaultError> {
        let (context, operator) = (self.context(platform)?, self.operator_of(platform)?);
        let notice = |to| told_text(&context, &operator, &breach, to);
        Ok(BreachView {
            overdue: breach.is_overdue(self.shared.clock.now()),
            authority_notice: notice(Addressee::Authority),
            subjects_notice: notice(Addressee::Subjects),
            breach,
        })
    }

    fn operator_of(&self, platform: PlatformId) -> Result<Platform, VaultError> {
        Ok(self.platform(platform)?.platform.clone())
    }
}

/// The notice of a breach as it is known now, by the policy that governed then.
fn written(
    context: &Context,
    operator: &Platform,
    breach: &Breach,
    (to, language): (Addressee, Language),
    at: Timestamp,
) -> Written {
    // A field that only an older version of the policy declares is of that version's type.
    let kind = |name: &FieldName| -> Option<FieldType> {
        let mut policies = context.policies().iter();
        policies.find_map(|applied| applied.policy.field(name)).map(|field| field.field_type)
    };
    let names = breach.scope.as_ref().map_or(&[][..], |scope| &scope.fields);
    let fields: Vec<_> = names.iter().map(|name| (name.clone(), kind(name))).collect();
    let responsible = context.policy(at).and_then(|policy| policy.responsible.as_ref());
    let contact = responsible.map(|responsible| format!("{}, {}", responsible.office, responsible.contact));
    let contact = contact.as_deref();
    BreachNotice { operator, breach, fields: &fields, contact, to }.written(language)
}

/// What somebody was told, made again, where it still is what its hash says.
fn told_text(context: &Context, operator: &Platform, breach: &Breach, to: Addressee) -> Option<String> {
    let told = breach.told(to)?;
    let text = written(context, operator, breach, (to, told.language), told.at).text();
    (sha256(text.as_bytes()) == told.notice_sha256).then_some(text)
}

/// Believes a row that was read beside the batch.
fn believed<'r>(scene: &Scene<'_>, row: Option<&'r BreachRow>) -> Result<&'r BreachRow, Denial> {
    let row = row.ok_or(Denial::BreachNotFound)?;
    let verified = scene.keys().row.verify(&row.image(), &row.mac);
    verified.map_err(|e| scene.damaged("breaches", &e))?;
    Ok(row)
}

/// A row of a breach, with its MAC.
fn sealed(scene: &Scene<'_>, breach: Breach) -> BreachRow {
    let mut row = BreachRow { platform: scene.context.platform, breach, mac: [0; 32] };
    row.mac = scene.keys().row.mac(&row.image());
    row
}

/// What the log says of a breach.
fn about(breach: &Breach, entry: Entry) -> Entry {
    Entry {
        object_kind: Some("breach".to_owned()),
        object: Some(breach.id.as_bytes().to_vec()),
        reference: breach.facts.reference.as_ref().map(Reference::to_string),
        ..entry
    }
}

/// Refuses what does not fit: times, callers that the platform never enrolled, a version that it has not.
fn check(scene: &Scene<'_>, facts: &BreachFacts, found_at: Timestamp) -> Result<(), VaultError> {
    facts.check(found_at).map_err(|(field, rule)| VaultError::invalid(format!("facts.{field}"), rule))?;
    let enrolled = |context: &Context, id| context.callers().any(|row| row.caller.id == id);
    let known = |id| enrolled(scene.context, id) || enrolled(scene.staff, id);
    if !facts.reach.callers.iter().all(|id| known(*id)) {
        return Err(Denial::CallerNotFound.into());
    }
    match facts.reach.held {
        Some(Held::UnderKey(version)) if scene.context.key(KeyKind::Platform, version).is_none() => {
            Err(Denial::KeyNotFound.into())
        }
        Some(Held::UnderKey(_) | Held::Everyone) | None => Ok(()),
    }
}

struct Open {
    found_at: Timestamp,
    facts: BreachFacts,
    calendar: Arc<WorkingCalendar>,
}

impl Deed for Open {
    type Answer = BreachId;

    fn call(&self) -> Call {
        Call::OpenBreach
    }

    fn changes(&self) -> bool {
        true
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<BreachId>, VaultError> {
        let scene = hand.scene;
        check(scene, &self.facts, self.found_at)?;
        let (working_days, clause) = NOTICE_WITHIN;
        let id = BreachId::random(scene.rng()).map_err(unavailable)?;
        let breach = Breach {
            id,
            facts: self.facts.clone(),
            found_at: self.found_at,
            working_days,
            clause: clause.to_owned(),
            calendar_sha256: sha256(self.calendar.text().as_bytes()),
            due_at: self.calendar.end_of(self.found_at, working_days),
            scope: None,
            authority: None,
            subjects: None,
            end: None,
            opened_at: scene.now,
        };
        let row = sealed(scene, breach);
        hand.log(|entry| Entry {
            row_mac: Some(row.mac.into()),
            detail_sha256: Some(row.breach.calendar_sha256.into()),
            ..about(&row.breach, entry)
        })?;
        hand.plan.writes.push(Write::InsertBreach(row));
        let ids = vec![(*id.as_bytes()).into()];
        Ok(Deeded::changed(id, ItemOutcome { ids, ..ItemOutcome::default() }))
    }

    fn again(&self, _hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<BreachId, VaultError> {
        Ok(BreachId::from_bytes(before.id(0)?))
    }
}

/// A question about one breach.
struct Look {
    call: Call,
    found: Option<BreachRow>,
}

impl Deed for Look {
    type Answer = Breach;

    fn call(&self) -> Call {
        self.call
    }

    fn changes(&self) -> bool {
        false
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Breach>, VaultError> {
        let breach = &believed(hand.scene, self.found.as_ref())?.breach;
        hand.log(|entry| about(breach, entry))?;
        Ok(Deeded::answer(breach.clone()))
    }
}

struct List(Vec<BreachRow>);

impl Deed for List {
    type Answer = Vec<Breach>;

    fn call(&self) -> Call {
        Call::ListBreaches
    }

    fn changes(&self) -> bool {
        false
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Self::Answer>, VaultError> {
        let count = u64::try_from(self.0.len()).ok();
        hand.log(|entry| Entry { object_kind: Some("breach".to_owned()), count, ..entry })?;
        let one = |row: &BreachRow| Ok(believed(hand.scene, Some(row))?.breach.clone());
        Ok(Deeded::answer(self.0.iter().map(one).collect::<Result<_, VaultError>>()?))
    }
}
