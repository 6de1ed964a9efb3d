//! The beginning of an upload, and the next stream of one that broke off.

use std::sync::Arc;

use super::{about, current, may_upload};
use crate::{
    crypto::envelope::SubjectKey,
    domain::{
        caller::Caller,
        consent::RecordAddress,
        document::{PART_BYTES, Side, SideAddress},
        ids::{DocumentId, RecordId, UploadId},
        names::FieldName,
        reference::Reference,
        subject::ValueSource,
        time::Timestamp,
    },
    policy::decide::Denial,
    store::{
        ReadKeys, Write,
        rows::{SubjectRow, documents::UploadRow},
    },
    vault::{
        access::Call,
        act::{Asker, Claim, Scene},
        context::Context,
        deed::{Deed, Deeded, Hand},
        error::VaultError,
        replay::{self, Asked, ItemOutcome, Standing},
        storing::usable,
        subjects::SubjectName,
        tokenize::unavailable,
    },
};

/// How long an upload can be carried on. Its request id is refused after as long.
const LIFE_MICROS: i64 = 24 * 60 * 60 * 1_000_000;
/// Uploads of one subject that may be open.
const MAX_OPEN: usize = 8;

/// What a client says of an upload.
#[derive(Clone)]
pub struct NewUpload {
    /// Whose.
    pub subject: SubjectName,
    /// Field.
    pub field: FieldName,
    /// Side.
    pub side: Side,
    /// Bytes of the content.
    pub size: u64,
    /// SHA-256 of the content.
    pub sha256: [u8; 32],
    /// Where it comes from.
    pub source: ValueSource,
    /// The version of the side that it replaces; 0 where there is none.
    pub replaces: u32,
    /// The papers behind it, in the platform's numbering: of a replacement its evidence (rule R35), otherwise that of the source
    /// (rules R24, R38).
    pub reference: Option<Reference>,
    /// Where in the content this stream begins: 0, or a border of parts up to which they are durable.
    pub offset: u64,
}

/// An upload whose stream may go on.
pub(super) enum Opened {
    /// Its parts are wanted.
    Open(UploadRow, SubjectKey),
    /// It was done before.
    Done(ItemOutcome),
}

/// The deed. It is no change in the sense of a replay: the request is on record when the upload is done.
pub(super) struct Begin {
    pub(super) new: NewUpload,
    pub(super) caller: Arc<Caller>,
    pub(super) asked: Asked,
    pub(super) configured: bool,
}

impl Deed for Begin {
    type Answer = Opened;

    fn call(&self) -> Call {
        Call::UploadDocument
    }

    fn changes(&self) -> bool {
        false
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        self.new.subject.reads(context, keys);
        keys.requests.insert((self.caller.id, self.asked.id));
        keys.documents_of_found = true;
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Opened>, VaultError> {
        let (scene, new) = (hand.scene, &self.new);
        if !self.configured {
            return Err(Denial::DocumentsNotConfigured.into());
        }
        let limits = may_upload(scene, hand.caller, &new.field, new.side, new.source)?;
        match replay::standing(scene, hand.plan, hand.caller, Call::UploadDocument.as_str(), hand.asker)? {
            Standing::New => {}
            Standing::Twin => return Ok(Deeded::Later),
            Standing::Done(outcome, _) => {
                let of = outcome.entry;
                hand.log(|entry| crate::audit::entry::Entry { replay_of: Some(of), ..entry })?;
                return Ok(Deeded::answer(Opened::Done(outcome.item())));
            }
        }
        if new.source.needs_reference() && new.reference.is_none() {
            return Err(VaultError::invalid("start.source_reference", ValueSource::REFERENCE_MISSING));
        }
        if new.size > u64::from(limits.max_bytes) {
            return Err(Denial::DocumentTooLarge.into());
        }
        let subject = new.subject.find(scene)?;
        usable(subject)?;
        let key = scene.subject_key(subject)?;
        let open = scene.uploads_of(subject.id)?;
        let own = |row: &&UploadRow| row.caller == self.caller.id && row.request == self.asked.id;
        let row = match open.iter().find(own) {
            Some(known) => self.take(scene, known)?,
            None if new.offset > 0 => return Err(Denial::UploadNotFound.into()),
            None => {
                // Two first sides at once must become one set.
                if !hand.plan.claim(Claim::Document(subject.id, new.field.clone())) {
                    return Ok(Deeded::Later);
                }
                // Those whose time has ended wait for the collector alone.
                if open.iter().filter(|upload| upload.expires_at > scene.now).count() >= MAX_OPEN {
                    return Err(Denial::TooManyDocuments.into());
                }
                self.create(scene, subject, limits.max_versions)?
            }
        };
        hand.log(|entry| {
            let reference = new.reference.as_ref().map(ToString::to_string);
            crate::audit::entry::Entry { reference, ..about("upload", &row.address, row.id, entry) }
        })?;
        hand.plan.writes.push(match row.attempt {
            1 => Write::InsertUpload(row.clone()),
            attempt => Write::TakeUpload(row.clone(), attempt - 1),
        });
        Ok(Deeded::answer(Opened::Open(row, key)))
    }
}

impl Begin {
    /// The next attempt at an upload: an older stream of it writes nothing more.
    fn take(&self, scene: &Scene<'_>, known: &UploadRow) -> Result<UploadRow, Denial> {
        if known.body_mac != self.asked.body_mac {
            return Err(Denial::RequestIdReused);
        }
        if known.expires_at <= scene.now {
            return Err(Denial::UploadNotFound);
        }
        let part = u64::try_from(PART_BYTES).unwrap_or(u64::MAX);
        // Also its end, where every part is durable and the end of the stream alone was lost: what a query answers then.
        let offset = self.new.offset;
        let is_border = offset.is_multiple_of(part) || offset == known.size;
        let parts = u32::try_from(offset.div_ceil(part)).unwrap_or(u32::MAX);
        if !is_border || parts > known.parts {
            return Err(Denial::UploadMoved);
        }
        Ok(UploadRow { attempt: known.attempt.saturating_add(1), parts, ..known.clone() })
    }

    fn create(
        &self,
        scene: &Scene<'_>,
        subject: &SubjectRow,
        max_versions: u32,
    ) -> Result<UploadRow, VaultError> {
        let new = &self.new;
        let held = scene.documents_of(subject.id)?;
        let of_side: Vec<_> = held
            .iter()
            .filter(|row| row.address.record.field == new.field && row.address.side == new.side)
            .collect();
        check_replaced(current(&of_side, new.side).map(|row| row.address.record.version), new.replaces)?;
        if of_side.len() >= usize::try_from(max_versions).unwrap_or(usize::MAX) {
            return Err(Denial::TooManyDocuments.into());
        }
        let sets = held.iter().map(|row| &row.address);
        let sets = sets.chain(scene.uploads_of(subject.id)?.iter().map(|row| &row.address));
        let mut set = sets.filter(|address| address.record.field == new.field).map(SideAddress::document);
        let document = match set.next() {
            Some(document) => document,
            None => DocumentId::random(scene.rng()).map_err(unavailable)?,
        };
        let last = of_side.iter().map(|row| row.address.record.version).max().unwrap_or(0);
        let record = RecordAddress {
            platform: scene.context.platform,
            subject: subject.id,
            record: RecordId::from_bytes(*document.as_bytes()),
            field: new.field.clone(),
            version: last.saturating_add(1),
        };
        let mut row = UploadRow {
            id: UploadId::random(scene.rng()).map_err(unavailable)?,
            caller: self.caller.id,
            request: self.asked.id,
            body_mac: self.asked.body_mac,
            address: SideAddress { record, side: new.side },
            source: new.source,
            size: new.size,
            attempt: 1,
            parts: 0,
            created_at: scene.now,
            expires_at: Timestamp::plus_micros(scene.now, LIFE_MICROS),
            mac: [0; 32],
        };
        row.mac = scene.keys().row.mac(&row.image());
        Ok(row)
    }
}

/// A side that is held is replaced only by who says which version: nobody overwrites what they have not seen.
pub(super) fn check_replaced(held: Option<u32>, replaces: u32) -> Result<(), Denial> {
    match held {
        Some(version) if version != replaces => Err(Denial::DocumentExists),
        None if replaces > 0 => Err(Denial::DocumentNotFound),
        Some(_) | None => Ok(()),
    }
}

/// Drops an upload that comes to nothing, for the reason that the client is told.
pub(super) struct Abandon {
    pub(super) row: UploadRow,
    pub(super) reason: Denial,
}

impl Deed for Abandon {
    type Answer = ();

    fn call(&self) -> Call {
        Call::UploadDocument
    }

    fn changes(&self) -> bool {
        false
    }

    fn reads(&self, _context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        keys.uploads.insert((self.row.caller, self.row.request));
        keys.documents_of_found = true;
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<()>, VaultError> {
        let (scene, row) = (hand.scene, &self.row);
        hand.refuse(self.reason, |entry| about("upload", &row.address, row.id, entry))?;
        // Where another stream has it by now, it is that one's.
        let open = scene.uploads_of(row.address.record.subject)?;
        if open.iter().any(|open| open.id == row.id && open.attempt == row.attempt) {
            hand.plan.writes.push(Write::DropUpload(row.clone()));
        }
        Ok(Deeded::refused(self.reason))
    }
}

/// Who asks, with the request that every upload has.
pub(super) fn asked(asker: &Asker) -> Result<Asked, VaultError> {
    asker.request.clone().ok_or_else(|| Denial::RequestIdRequired.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_version_that_was_seen_is_replaced() {
        assert_eq!(check_replaced(None, 0), Ok(()));
        assert_eq!(check_replaced(Some(3), 3), Ok(()));
        assert_eq!(check_replaced(Some(3), 0), Err(Denial::DocumentExists));
        assert_eq!(check_replaced(Some(3), 2), Err(Denial::DocumentExists));
        assert_eq!(check_replaced(None, 1), Err(Denial::DocumentNotFound));
    }
}
