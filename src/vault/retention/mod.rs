//! The end of retention: what ends when, and the sweep that destroys what has ended (rules R8, R10).
//!
//! A sweep is an operation. It walks the subjects in the order of their ids, a few in a commit, and destroys each record
//! whose time is over: its versions, tokens and index rows, with an entry; each document, whole (rule R23); and the subject
//! with its key when nothing is left of it, or depersonalises it where the policy says so and nobody demanded destruction. A
//! block on use stops both (rules R11, R49). It runs daily by itself, and when an officer says so.

mod ending;
mod sweep;

use std::collections::BTreeMap;

pub(in crate::vault) use ending::{ANONYMISED, DESTROYED_RECORD, ENDED_SUBJECT, end_record, end_subject};

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
    domain::{
        caller::Caller,
        code::coded,
        consent::{Consent, ConsentState, RecordAddress, SubjectState},
        event::SubjectEvent,
        ids::{RecordId, SubjectId},
        names::{FieldName, PurposeName},
        time::Timestamp,
    },
    policy::{
        decide::Denial,
        model::{ExpiryKind, Policy},
        retention::{Keeping, Life, Until, expiry, keeping, month_of},
    },
    store::{
        ReadKeys,
        rows::{RecordRow, RecordState, SubjectRow, documents::DocumentRow},
    },
};

const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;
/// Subjects on one page of a plan.
pub const MAX_PLAN_PAGE: u32 = 256;

coded!(
    /// How a record stands to its end.
    Fate, "fate" {
        /// Its time is over: the next sweep destroys it.
        Over = "over",
        /// It ends at a date.
        Ends = "ends",
        /// Its purposes have ended, and a law keeps it until a date.
        KeptByLaw = "kept_by_law",
        /// It waits for an event that nobody has recorded.
        Waits = "waits",
        /// No consent ever covered it, and the policy does not say how long it waits for one.
        Unclaimed = "unclaimed",
        /// A block on the subject's use keeps it, whatever its end.
        Blocked = "blocked",
    }
);

/// Records that stand alike.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PlanKey {
    /// Field.
    pub field: FieldName,
    /// How they stand.
    pub fate: Fate,
    /// The month of the end in Kazakhstan, `2029-03`, where there is a date.
    pub month: Option<String>,
    /// The purpose that keeps them longest.
    pub purpose: Option<PurposeName>,
    /// The clause that ends it.
    pub clause: String,
    /// Events that they wait for, or for which a date stands in.
    pub missing: Vec<String>,
}

/// A part of a plan.
#[derive(Debug, Default)]
pub struct PlanPage {
    /// Numbers of records.
    pub rows: BTreeMap<PlanKey, u64>,
    /// Subjects that were looked at.
    pub subjects: u64,
    /// The last of them, where more may follow.
    pub next: Option<SubjectId>,
}

impl Vault {
    /// Says what ends when, for the next subjects after an id.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn plan_retention(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        after: Option<SubjectId>,
        size: u32,
    ) -> Result<PlanPage, VaultError> {
        let platform = self.target(caller, &asker, Call::PlanRetention, platform).await?;
        let size = size.clamp(1, MAX_PLAN_PAGE);
        let from = after.unwrap_or(SubjectId::from_bytes([0; 16]));
        let staff = self.shared.staff.load_full();
        // Nobody is read for a caller who may not ask; the deed refuses with an entry.
        let subjects = if Call::PlanRetention.allows(caller, platform, &staff).is_ok() {
            self.shared.store.wrapped_keys(platform, from, size).await.map_err(unavailable)?
        } else {
            Vec::new()
        };
        let subjects: Vec<_> = subjects.into_iter().map(|(id, _)| id).collect();
        let more = subjects.len() == usize::try_from(size).unwrap_or(usize::MAX);
        let next = subjects.last().copied().filter(|_| more);
        let count = u64::try_from(subjects.len()).unwrap_or(u64::MAX);
        let rows = self.run(platform, caller, asker, Look { subjects, count }).await?;
        Ok(PlanPage { rows, subjects: count, next })
    }
}

struct Look {
    subjects: Vec<SubjectId>,
    count: u64,
}

impl Deed for Look {
    type Answer = BTreeMap<PlanKey, u64>;

    fn call(&self) -> Call {
        Call::PlanRetention
    }

    fn changes(&self) -> bool {
        false
    }

    fn reads(&self, _context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        keys.subjects.extend(self.subjects.iter().copied());
        keys.documents_of_found = true;
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Self::Answer>, VaultError> {
        let count = Some(self.count);
        hand.log(|entry| Entry { object_kind: Some("retention".to_owned()), count, ..entry })?;
        let (scene, mut rows) = (hand.scene, BTreeMap::new());
        let policy = scene.policy()?;
        for id in &self.subjects {
            // One that is damaged is told of by reads and the reconciliation.
            let Ok(held) = Held::of(scene, *id) else { continue };
            for item in
                held.records.iter().map(|record| Item::of(record)).chain(held.documents.iter().copied())
            {
                if let Some(key) = held.plan_key(policy, item, scene.now) {
                    *rows.entry(key).or_default() += 1;
                }
            }
        }
        Ok(Deeded::answer(rows))
    }
}

/// What is kept and ends as one: a record, or a document with all its sides.
#[derive(Debug, Clone, Copy)]
struct Item<'a> {
    id: RecordId,
    field: &'a FieldName,
    collected_at: Timestamp,
}

impl<'a> Item<'a> {
    fn of(record: &'a RecordRow) -> Self {
        let address = &record.address;
        Self { id: address.record, field: &address.field, collected_at: record.created_at }
    }
}

/// The documents of a subject. One counts from the last side that came: until then it was not whole.
fn documents(rows: &[DocumentRow]) -> Vec<Item<'_>> {
    let mut sets: BTreeMap<RecordId, Item<'_>> = BTreeMap::new();
    for row in rows.iter().filter(|row| row.state == RecordState::Current) {
        let RecordAddress { record, field, .. } = &row.address.record;
        let item = Item { id: *record, field, collected_at: row.created_at };
        let set = sets.entry(*record).or_insert(item);
        set.collected_at = set.collected_at.max(row.created_at);
    }
    sets.into_values().collect()
}

/// A subject with everything that its retention counts from, each row believed.
struct Held<'a> {
    subject: &'a SubjectRow,
    records: Vec<&'a RecordRow>,
    documents: Vec<Item<'a>>,
    /// An upload is on its way.
    is_sent_more: bool,
    consents: Vec<Consent>,
    events: Vec<SubjectEvent>,
    /// Its destruction was demanded, by a request or an erasure that was called off, where the batch was asked for that.
    is_demanded: bool,
}

/// What of a subject is over.
struct Over<'a> {
    records: Vec<&'a RecordRow>,
    documents: Vec<Item<'a>>,
    /// What becomes of the subject, where nothing else is held.
    subject: Option<ExpiryKind>,
}

impl<'a> Held<'a> {
    fn of(scene: &'a Scene<'_>, id: SubjectId) -> Result<Self, Denial> {
        Ok(Self {
            subject: scene.subject(id)?,
            records: scene.records_of(id)?,
            documents: documents(scene.documents_of(id)?),
            is_sent_more: scene.uploads_of(id)?.iter().any(|upload| upload.expires_at > scene.now),
            consents: scene.consents_of(id)?,
            events: scene.events_of(id)?,
            is_demanded: scene.snapshot.demanded.contains(&id),
        })
    }

    fn keeping<'p>(&'p self, policy: &'p Policy, item: Item<'p>, now: Timestamp) -> Keeping<'p> {
        let life = Life {
            field: item.field,
            collected_at: item.collected_at,
            consents: &self.consents,
            events: &self.events,
            outreach: None,
        };
        keeping(policy, life, now)
    }

    /// What is over; nothing of a subject whose use is blocked, or that is erased already.
    fn over(&self, policy: &Policy, scene: &Scene<'_>) -> Over<'a> {
        let now = scene.now;
        if self.subject.state != SubjectState::Active {
            return Over { records: Vec::new(), documents: Vec::new(), subject: None };
        }
        let over = |item| self.keeping(policy, item, now).is_over(now);
        let records: Vec<_> = self.records.iter().filter(|record| over(Item::of(record))).copied().collect();
        let documents: Vec<_> = self.documents.iter().filter(|set| over(**set)).copied().collect();
        let all = records.len() == self.records.len() && documents.len() == self.documents.len();
        let empty = self.records.is_empty() && self.documents.is_empty();
        let ends = all && !self.is_sent_more && !(empty && self.waits_for_values(policy, now));
        // What was deleted by a call did not expire.
        let is_demanded = empty || self.is_demanded;
        let subject =
            ends.then(|| expiry(policy, |number| scene.context.version(number), &self.consents, is_demanded));
        Over { records, documents, subject }
    }

    /// Whether a value of one who has none may be on its way: the subject is new, or consents to what would be kept.
    fn waits_for_values(&self, policy: &Policy, now: Timestamp) -> bool {
        let is_new = self.subject.created_at.plus_micros(DAY_MICROS) > now;
        // As if they had come with the consent: an event that ended everything since counts.
        let would_keep = |consent: &Consent| {
            consent.terms.fields.iter().any(|field| {
                let id = RecordId::from_bytes([0; 16]);
                let item = Item { id, field, collected_at: consent.terms.given_at };
                !self.keeping(policy, item, now).is_over(now)
            })
        };
        let mut granted = self.consents.iter().filter(|consent| consent.state == ConsentState::Granted);
        is_new || granted.any(would_keep)
    }

    /// Where an item stands in a plan; none of an erased subject, which is destroyed by its erasure.
    fn plan_key(&self, policy: &Policy, item: Item<'_>, now: Timestamp) -> Option<PlanKey> {
        let keeping = self.keeping(policy, item, now);
        let longest = keeping.purposes.iter().max_by_key(|(_, ending)| ending.at.unwrap_or(LAST));
        let by_law = |at| keeping.minimum == Some(at) && keeping.purposes.iter().all(|(_, e)| e.is_past(now));
        let (fate, at) = match (self.subject.state, keeping.until) {
            (SubjectState::Erased, _) => return None,
            (SubjectState::Restricted, until) => (Fate::Blocked, until.date()),
            (SubjectState::Active, Until::At(at)) if at <= now => (Fate::Over, Some(at)),
            (SubjectState::Active, Until::At(at)) if by_law(at) => (Fate::KeptByLaw, Some(at)),
            (SubjectState::Active, Until::At(at)) => (Fate::Ends, Some(at)),
            (SubjectState::Active, Until::Open) => (Fate::Waits, None),
            (SubjectState::Active, Until::Unclaimed) => (Fate::Unclaimed, None),
        };
        let missing =
            longest.map(|(_, ending)| if ending.at.is_none() { &ending.waits } else { &ending.stood_in });
        Some(PlanKey {
            field: item.field.clone(),
            fate,
            month: at.map(month_of),
            purpose: longest.map(|(name, _)| (*name).clone()),
            clause: longest.map(|(_, ending)| ending.clause.to_owned()).unwrap_or_default(),
            missing: missing.into_iter().flatten().map(ToString::to_string).collect(),
        })
    }
}

const LAST: Timestamp = Timestamp::from_micros(i64::MAX);
