//! Marks on values: confirmed or disputed, by whose paper, and since when (Law 94-V, Article 13; rule R35). A mark is of the version
//! that stood when it was made: a correction begins unverified again, and older marks stay on record.

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
    domain::{
        caller::Caller,
        consent::SubjectState,
        event::{AccuracyMark, SubjectEvent},
        ids::EventId,
        time::Timestamp,
    },
    policy::decide::Denial,
    store::{
        ReadKeys, Write,
        rows::{EventRow, RecordRow},
    },
};

impl Vault {
    /// Marks the value that a subject has in a field. Answers since when the mark stands.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn mark_accuracy(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        subject: SubjectName,
        mark: AccuracyMark,
    ) -> Result<Timestamp, VaultError> {
        let platform = self.target(caller, &asker, Call::MarkAccuracy, platform).await?;
        self.run(platform, caller, asker, Mark { subject, mark }).await
    }
}

/// The mark that stands on the version of a record, and since when: the last that was made since that version was stored.
pub(super) fn mark_of<'e>(
    events: &'e [EventRow],
    record: &RecordRow,
) -> Option<(&'e AccuracyMark, Timestamp)> {
    let marks = events.iter().filter_map(|row| row.mark.as_ref().map(|mark| (mark, row.recorded_at, row.id)));
    let of_version =
        marks.filter(|(mark, at, _)| mark.field == record.address.field && *at >= record.created_at);
    of_version.max_by_key(|(_, at, id)| (*at, *id)).map(|(mark, at, _)| (mark, at))
}

struct Mark {
    subject: SubjectName,
    mark: AccuracyMark,
}

impl Mark {
    fn row(&self, scene: &Scene<'_>) -> Result<EventRow, VaultError> {
        let subject = self.subject.find(scene)?;
        if subject.state == SubjectState::Erased {
            return Err(Denial::SubjectErased.into());
        }
        if scene.records_of(subject.id)?.iter().all(|record| record.address.field != self.mark.field) {
            return Err(VaultError::invalid(
                "field",
                "the vault holds no value of the subject in this field",
            ));
        }
        let mut row = EventRow {
            platform: scene.context.platform,
            id: EventId::random(scene.rng()).map_err(unavailable)?,
            subject: subject.id,
            event: SubjectEvent::accuracy(scene.now).ok_or(VaultError::Unavailable)?,
            refusal: None,
            mark: Some(self.mark.clone()),
            recorded_at: scene.now,
            mac: [0; 32],
        };
        row.mac = scene.keys().row.mac(&row.image());
        Ok(row)
    }
}

impl Deed for Mark {
    type Answer = Timestamp;

    fn call(&self) -> Call {
        Call::MarkAccuracy
    }

    fn changes(&self) -> bool {
        true
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        self.subject.reads(context, keys);
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Timestamp>, VaultError> {
        may_manage(hand.scene, hand.caller)?;
        let row = self.row(hand.scene)?;
        // Of two marks the later stands: no two of a subject are of one instant.
        if !hand.plan.claim(Claim::SubjectRow(row.subject)) {
            return Ok(Deeded::Later);
        }
        hand.log(|entry| Entry {
            subject: Some((*row.subject.as_bytes()).into()),
            field: Some(self.mark.field.to_string()),
            object_kind: Some("event".to_owned()),
            object: Some(row.id.as_bytes().to_vec()),
            row_mac: Some(row.mac.into()),
            reference: Some(self.mark.evidence.to_string()),
            ..entry
        })?;
        let at = row.recorded_at;
        hand.plan.writes.push(Write::InsertEvent(row));
        let numbers = vec![at.as_micros()];
        Ok(Deeded::changed(at, ItemOutcome { numbers, ..ItemOutcome::default() }))
    }

    fn again(&self, hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<Timestamp, VaultError> {
        may_manage(hand.scene, hand.caller)?;
        Ok(before.time(0)?)
    }
}
