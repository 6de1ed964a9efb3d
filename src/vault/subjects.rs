//! Subjects: what is held of them, who saw it, what happened to them, and the block on use.

use super::{
    Vault,
    access::Call,
    accuracy::mark_of,
    act::{Asker, Claim, Scene},
    consent::reference_keys,
    context::Context,
    deed::{Deed, Deeded, Hand},
    error::VaultError,
    replay::ItemOutcome,
    tokenize::unavailable,
};
use crate::{
    audit::entry::{Entry, Verdict},
    domain::{
        caller::Caller,
        consent::SubjectState,
        event::{AccuracyMark, SubjectEvent, WithdrawalRefusal},
        ids::{CallerId, EntryId, EventId, PlatformId, SubjectId},
        names::{EventName, FieldName},
        operation::Operation,
        reference::Reference,
        subject::{Restriction, RestrictionRequester, RestrictionTrigger, SubjectKind, ValueSource},
        time::Timestamp,
    },
    policy::decide::Denial,
    store::{
        ReadKeys, Write,
        rows::{EventRow, Mac, SubjectRow},
    },
};

/// Disclosures on one page.
pub const MAX_PAGE: usize = 100;

/// How a caller names a subject.
#[derive(Clone, PartialEq, Eq)]
pub enum SubjectName {
    /// By the platform's own reference.
    Reference(String),
    /// By the vault's id.
    Id(SubjectId),
}

/// What is held of a subject; no value.
#[derive(Debug)]
pub struct SubjectView {
    /// Id.
    pub id: SubjectId,
    /// Kind.
    pub kind: SubjectKind,
    /// State.
    pub state: SubjectState,
    /// Created.
    pub created_at: Timestamp,
    /// The block on use.
    pub restriction: Option<Restriction>,
    /// When it was erased, and when its keys are or were destroyed.
    pub erasure: Option<(Timestamp, Timestamp)>,
    /// The operation that destroys them.
    pub operation: Option<Operation>,
    /// Fields that are held.
    pub fields: Vec<HeldField>,
    /// Tokens of them, of all states.
    pub tokens: u64,
    /// Consents, of all states.
    pub consents: usize,
    /// Events, in the order in which they happened.
    pub events: Vec<EventRow>,
}

/// A field that is held.
#[derive(Debug)]
pub struct HeldField {
    /// Field.
    pub field: FieldName,
    /// Version of the record.
    pub version: u32,
    /// Where the value came from.
    pub source: ValueSource,
    /// When this version was stored.
    pub updated_at: Timestamp,
    /// How the value is marked, and since when.
    pub mark: Option<(AccuracyMark, Timestamp)>,
}

/// One release of a subject's value.
#[derive(Debug)]
pub struct Disclosure {
    /// When.
    pub at: Timestamp,
    /// The entry.
    pub entry: EntryId,
    /// The caller.
    pub caller: Option<CallerId>,
    /// What the log says of it.
    pub says: Entry,
}

impl Vault {
    /// What is held of a subject.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn subject(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        subject: SubjectName,
    ) -> Result<SubjectView, VaultError> {
        let platform = self.target(caller, &asker, Call::GetSubject, platform).await?;
        let mut view = self.run(platform, caller, asker, Get(subject)).await?;
        let counted = self.shared.store.token_count(platform, view.id).await;
        view.tokens = counted.map_err(unavailable)?;
        Ok(view)
    }

    /// Releases of a subject's values from a position of the log on, oldest first; and where the next page begins.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn disclosures(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        subject: SubjectName,
        from: u64,
        page_size: usize,
    ) -> Result<(Vec<Disclosure>, Option<u64>), VaultError> {
        let platform = self.target(caller, &asker, Call::ListDisclosures, platform).await?;
        let id = self.run(platform, caller, asker, NameFor { subject, call: Call::ListDisclosures }).await?;
        self.disclosures_of(platform, id, from, page_size.min(MAX_PAGE)).await
    }

    /// Releases of a subject's values from a position of the log on, for a caller who may know.
    pub(super) async fn disclosures_of(
        &self,
        platform: PlatformId,
        id: SubjectId,
        from: u64,
        page_size: usize,
    ) -> Result<(Vec<Disclosure>, Option<u64>), VaultError> {
        let (mut found, mut next) = (Vec::new(), from);
        loop {
            let rows = self.shared.store.entries_of(platform, id, next, 256).await.map_err(unavailable)?;
            let Some((last, _)) = rows.last() else { return Ok((found, None)) };
            let after = last + 1;
            for (position, row) in rows {
                let entry = Entry::decode(&row.entry).map_err(unavailable)?;
                // The column says where to look; the entry says what happened.
                let theirs = entry.subject.is_some_and(|subject| *subject == *id.as_bytes());
                if !theirs || entry.verdict != Verdict::Permit.as_str() {
                    continue;
                }
                if found.len() == page_size {
                    return Ok((found, Some(position)));
                }
                found.push(Disclosure {
                    at: Timestamp::from_micros(entry.time),
                    entry: entry.entry_id(),
                    caller: entry.caller.map(|id| CallerId::from_bytes(*id)),
                    says: entry,
                });
            }
            next = after;
        }
    }

    /// Records that something happened to a subject. An event by which the operator refuses a withdrawal has its reason, and no
    /// other has one.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn record_event(
        &self,
        caller: &Caller,
        asker: Asker,
        subject: SubjectName,
        event: SubjectEvent,
        refusal: Option<WithdrawalRefusal>,
    ) -> Result<EventId, VaultError> {
        self.run(caller.platform, caller, asker, Record { subject, event, refusal }).await
    }

    /// Blocks use of a subject's data until somebody lifts it; a new block replaces one that is there.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn restrict_subject(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        block: Block,
    ) -> Result<Restriction, VaultError> {
        let platform = self.target(caller, &asker, Call::RestrictSubject, platform).await?;
        self.run(platform, caller, asker, block).await
    }

    /// Lifts the block.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn unrestrict_subject(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        subject: SubjectName,
        reference: Option<Reference>,
    ) -> Result<Timestamp, VaultError> {
        let platform = self.target(caller, &asker, Call::UnrestrictSubject, platform).await?;
        self.run(platform, caller, asker, Lift { subject, reference }).await
    }
}

impl SubjectName {
    pub(super) fn reads(&self, context: &Context, keys: &mut ReadKeys) {
        match self {
            Self::Reference(reference) => {
                keys.references.extend(reference_keys(context, reference));
            }
            Self::Id(id) => {
                keys.subjects.insert(*id);
            }
        }
    }

    /// The subject, believed.
    pub(super) fn find<'a>(&self, scene: &'a Scene<'_>) -> Result<&'a SubjectRow, Denial> {
        let found = match self {
            Self::Reference(reference) => scene.subject_by_reference(reference)?,
            Self::Id(id) if scene.snapshot.subjects.contains_key(id) => Some(scene.subject(*id)?),
            Self::Id(_) => None,
        };
        found.ok_or(Denial::SubjectNotFound)
    }
}

/// Whether the caller may manage subjects: a service that the policy names for it. Staff may by its role.
pub(super) fn may_manage(scene: &Scene<'_>, caller: &Caller) -> Result<(), Denial> {
    if caller.person.is_some() || scene.policy()?.may_manage_subjects(caller) {
        return Ok(());
    }
    Err(Denial::CallerNotAllowed)
}

/// A subject's row in a new state, with its MAC.
pub(super) fn changed(scene: &Scene<'_>, row: SubjectRow) -> SubjectRow {
    let mac = scene.keys().row.mac(&row.image());
    SubjectRow { mac, ..row }
}

/// What the log says of a change of a subject.
pub(super) fn about(id: SubjectId, mac: Mac, reference: Option<&Reference>, entry: Entry) -> Entry {
    Entry {
        subject: Some((*id.as_bytes()).into()),
        object_kind: Some("subject".to_owned()),
        row_mac: Some(mac.into()),
        reference: reference.map(ToString::to_string),
        ..entry
    }
}

struct Get(SubjectName);

impl Deed for Get {
    type Answer = SubjectView;

    fn call(&self) -> Call {
        Call::GetSubject
    }

    fn changes(&self) -> bool {
        false
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        self.0.reads(context, keys);
        keys.operations_of_found = true;
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<SubjectView>, VaultError> {
        let scene = hand.scene;
        may_manage(scene, hand.caller)?;
        let row = self.0.find(scene)?;
        let (records, mut events) = (scene.records_of(row.id)?, scene.recorded_events_of(row.id)?.to_vec());
        events.sort_by_key(|row| (row.event.at, row.id));
        let fields = records.iter().map(|record| HeldField {
            mark: mark_of(&events, record).map(|(mark, since)| (mark.clone(), since)),
            field: record.address.field.clone(),
            version: record.address.version,
            source: record.source,
            updated_at: record.created_at,
        });
        let mut fields: Vec<_> = fields.collect();
        fields.sort_by(|a, b| a.field.cmp(&b.field));
        let view = SubjectView {
            id: row.id,
            kind: row.kind,
            state: row.state,
            created_at: row.created_at,
            restriction: row.restriction,
            erasure: row.erased_at.zip(row.destroy_at),
            operation: scene.snapshot.operations_on.get(row.id.as_bytes()).map(|o| o.operation.clone()),
            fields,
            tokens: 0,
            consents: scene.consents_of(row.id)?.len(),
            events,
        };
        hand.log(|entry| Entry { subject: Some((*view.id.as_bytes()).into()), ..entry })?;
        Ok(Deeded::answer(view))
    }
}

/// Finds a subject for a question that is answered from elsewhere, and logs the question.
struct NameFor {
    subject: SubjectName,
    call: Call,
}

impl Deed for NameFor {
    type Answer = SubjectId;

    fn call(&self) -> Call {
        self.call
    }

    fn changes(&self) -> bool {
        false
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        self.subject.reads(context, keys);
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<SubjectId>, VaultError> {
        let id = self.subject.find(hand.scene)?.id;
        hand.log(|entry| Entry { subject: Some((*id.as_bytes()).into()), ..entry })?;
        Ok(Deeded::answer(id))
    }
}

struct Record {
    subject: SubjectName,
    event: SubjectEvent,
    refusal: Option<WithdrawalRefusal>,
}

impl Record {
    fn may(&self, scene: &Scene<'_>, caller: &Caller) -> Result<(), Denial> {
        let policy = scene.policy()?;
        let name: &EventName = &self.event.name;
        policy.event(name).ok_or(Denial::EventNotDeclared)?;
        if policy.may_record_event(caller, name) { Ok(()) } else { Err(Denial::CallerNotAllowed) }
    }

    /// Whether it has a reason where it needs one, and there alone.
    fn has_its_reason(&self, scene: &Scene<'_>) -> Result<(), VaultError> {
        match (scene.policy()?.refuses_withdrawal(&self.event.name), &self.refusal) {
            (true, None) => Err(VaultError::invalid(
                "withdrawal_bar",
                "is required: a refusal of a withdrawal has a reason",
            )),
            (false, Some(_)) => {
                Err(VaultError::invalid("withdrawal_bar", "goes with an event that refuses a withdrawal"))
            }
            (true, Some(_)) | (false, None) => Ok(()),
        }
    }
}

impl Deed for Record {
    type Answer = EventId;

    fn call(&self) -> Call {
        Call::RecordEvent
    }

    fn changes(&self) -> bool {
        true
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        self.subject.reads(context, keys);
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<EventId>, VaultError> {
        let scene = hand.scene;
        self.may(scene, hand.caller)?;
        self.has_its_reason(scene)?;
        let subject = self.subject.find(scene)?;
        if subject.state == SubjectState::Erased {
            return Err(Denial::SubjectErased.into());
        }
        let id = EventId::random(scene.rng()).map_err(unavailable)?;
        let mut row = EventRow {
            platform: scene.context.platform,
            id,
            subject: subject.id,
            event: self.event.clone(),
            refusal: self.refusal.clone(),
            mark: None,
            recorded_at: scene.now,
            mac: [0; 32],
        };
        row.mac = scene.keys().row.mac(&row.image());
        hand.log(|entry| Entry {
            subject: Some((*subject.id.as_bytes()).into()),
            object_kind: Some("event".to_owned()),
            object: Some(id.as_bytes().to_vec()),
            row_mac: Some(row.mac.into()),
            reference: row.refusal.as_ref().map(|refusal| refusal.ground.to_string()),
            ..entry
        })?;
        hand.plan.writes.push(Write::InsertEvent(row));
        let ids = vec![(*id.as_bytes()).into()];
        Ok(Deeded::changed(id, ItemOutcome { ids, ..ItemOutcome::default() }))
    }

    fn again(&self, hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<EventId, VaultError> {
        self.may(hand.scene, hand.caller)?;
        Ok(EventId::from_bytes(before.id(0)?))
    }
}

/// A block to be put on a subject.
pub struct Block {
    /// The subject.
    pub subject: SubjectName,
    /// Why.
    pub trigger: RestrictionTrigger,
    /// Who asks.
    pub requester: RestrictionRequester,
    /// When somebody must look at it again.
    pub review_at: Timestamp,
    /// The case, in the platform's numbering.
    pub reference: Option<Reference>,
}

impl Deed for Block {
    type Answer = Restriction;

    fn call(&self) -> Call {
        Call::RestrictSubject
    }

    fn changes(&self) -> bool {
        true
    }

    fn tightens(&self) -> bool {
        true
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        self.subject.reads(context, keys);
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Restriction>, VaultError> {
        let scene = hand.scene;
        may_manage(scene, hand.caller)?;
        let row = self.subject.find(scene)?;
        if row.state == SubjectState::Erased {
            return Err(Denial::SubjectErased.into());
        }
        if self.review_at <= scene.now {
            return Err(VaultError::invalid("review_time", "lies ahead: a block is never an end state"));
        }
        if !hand.plan.claim(Claim::SubjectRow(row.id)) {
            return Ok(Deeded::Later);
        }
        let restriction = Restriction {
            trigger: self.trigger,
            requester: self.requester,
            since: scene.now,
            review_at: self.review_at,
        };
        let next =
            SubjectRow { state: SubjectState::Restricted, restriction: Some(restriction), ..row.clone() };
        let next = changed(scene, next);
        hand.log(|entry| about(next.id, next.mac, self.reference.as_ref(), entry))?;
        hand.plan.tightens = true;
        hand.plan.writes.push(Write::UpdateSubject(next, row.mac));
        let numbers = vec![restriction.since.as_micros()];
        Ok(Deeded::changed(restriction, ItemOutcome { numbers, ..ItemOutcome::default() }))
    }

    fn again(&self, hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<Restriction, VaultError> {
        may_manage(hand.scene, hand.caller)?;
        Ok(Restriction {
            trigger: self.trigger,
            requester: self.requester,
            since: before.time(0)?,
            review_at: self.review_at,
        })
    }
}

struct Lift {
    subject: SubjectName,
    reference: Option<Reference>,
}

impl Deed for Lift {
    type Answer = Timestamp;

    fn call(&self) -> Call {
        Call::UnrestrictSubject
    }

    fn changes(&self) -> bool {
        true
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        self.subject.reads(context, keys);
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Timestamp>, VaultError> {
        let scene = hand.scene;
        may_manage(scene, hand.caller)?;
        let row = self.subject.find(scene)?;
        match row.state {
            SubjectState::Restricted => {}
            SubjectState::Active => return Err(Denial::SubjectNotRestricted.into()),
            SubjectState::Erased => return Err(Denial::SubjectErased.into()),
        }
        if !hand.plan.claim(Claim::SubjectRow(row.id)) {
            return Ok(Deeded::Later);
        }
        let next = SubjectRow { state: SubjectState::Active, restriction: None, ..row.clone() };
        let next = changed(scene, next);
        hand.log(|entry| about(next.id, next.mac, self.reference.as_ref(), entry))?;
        hand.plan.writes.push(Write::UpdateSubject(next, row.mac));
        let numbers = vec![scene.now.as_micros()];
        Ok(Deeded::changed(scene.now, ItemOutcome { numbers, ..ItemOutcome::default() }))
    }

    fn again(&self, hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<Timestamp, VaultError> {
        may_manage(hand.scene, hand.caller)?;
        Ok(before.time(0)?)
    }
}
