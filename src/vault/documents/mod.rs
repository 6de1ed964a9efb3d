//! Documents: the sides of identity documents and faces, in sealed parts outside the database.
//!
//! All sides of one field of one subject are one set, which goes as a whole. A side that is sent again is a further version;
//! the older ones stay, and nobody reads them. A row is written when all its parts are durable, so that no row names an
//! object that is not there; where a row goes, its objects are doomed in the same commit and deleted afterwards. Objects
//! that no row names are what a crash leaves.

mod begin;
pub(in crate::vault) mod check;
pub(in crate::vault) mod collect;
mod delete;
mod describe;
mod download;
mod manifest;
pub(in crate::vault) mod reseal;
mod room;
mod sweep;
mod upload;

use std::sync::Arc;

pub use self::{
    begin::NewUpload,
    collect::Collected,
    describe::{DocumentView, HeldSide},
    download::{Chunk, DocumentHead, Download, DownloadAsk, Reading},
    room::{MIN_MEMORY_MIB, Slot},
    upload::{Begun, StoredSide, Uploading},
};
pub use crate::blobs::s3::{Bucket, Credentials};

use super::{Vault, act::Scene, error::VaultError};
use crate::{
    audit::entry::Entry,
    blobs::parts::{PartName, Parts},
    domain::{
        caller::{Caller, Role},
        document::{Side, SideAddress},
        ids::{DocumentId, SubjectId, UploadId},
        names::FieldName,
        subject::ValueSource,
    },
    policy::{
        decide::{Denial, require_role},
        model::{ImageLimits, Policy},
    },
    store::rows::{
        RecordState,
        documents::{DocumentRow, PartRow, UploadRow},
    },
};
use room::Room;

/// Where parts lie, and the memory that streams of them share.
pub struct Documents {
    parts: Parts,
    room: Room,
}

impl Documents {
    /// A place of parts, and so many MiB of memory for all streams together.
    #[must_use]
    pub fn new(parts: Parts, memory_mib: u32) -> Self {
        Self { parts, room: Room::new(memory_mib) }
    }
}

impl Vault {
    /// The same vault with a place for documents.
    #[must_use]
    pub fn with_documents(self, documents: Option<Documents>) -> Self {
        Self { documents: documents.map(Arc::new), ..self }
    }

    fn place(&self) -> Result<Arc<Documents>, VaultError> {
        Ok(self.documents.clone().ok_or(Denial::DocumentsNotConfigured)?)
    }

    /// Room in the memory that all streams share; waits for it while others have it.
    ///
    /// # Errors
    /// [`VaultError::Overloaded`] where none becomes free in time, [`Denial::DocumentsNotConfigured`].
    pub async fn stream_room(&self) -> Result<Slot, VaultError> {
        self.place()?.room.take().await
    }
}

/// Kind of object in the entry of a document's deletion.
pub(in crate::vault) const DELETED: &str = "documents";
/// Kind of object in the entry of a version of a side.
pub(in crate::vault) const VERSION: &str = "document";

/// The object of a listed part.
const fn object_of(part: &PartRow) -> PartName {
    PartName { platform: part.platform, upload: part.upload, object: part.object }
}

/// What the log says of a side.
fn about(kind: &str, address: &SideAddress, id: UploadId, entry: Entry) -> Entry {
    Entry {
        field: Some(address.record.field.to_string()),
        subject: Some((*address.record.subject.as_bytes()).into()),
        record: Some((*address.record.record.as_bytes()).into()),
        object_kind: Some(kind.to_owned()),
        object: Some(id.as_bytes().to_vec()),
        ..entry
    }
}

impl Scene<'_> {
    /// Every side of a subject in every version, each believed.
    pub(in crate::vault) fn documents_of(&self, subject: SubjectId) -> Result<&[DocumentRow], Denial> {
        let rows = self.found(self.snapshot.documents_of.get(&subject))?.map_or(&[][..], Vec::as_slice);
        for row in rows {
            let verified = self.keys().row.verify(&row.image(), &row.mac);
            verified.map_err(|e| self.damaged("documents", &e))?;
        }
        Ok(rows)
    }

    /// A subject's uploads that are not done, each believed.
    pub(in crate::vault) fn uploads_of(&self, subject: SubjectId) -> Result<&[UploadRow], Denial> {
        let rows = self.found(self.snapshot.uploads_of.get(&subject))?.map_or(&[][..], Vec::as_slice);
        for row in rows {
            let verified = self.keys().row.verify(&row.image(), &row.mac);
            verified.map_err(|e| self.damaged("uploads", &e))?;
        }
        Ok(rows)
    }

    /// The subject of a document; none where the platform has no such document. The row is not believed yet.
    fn subject_of_document(&self, id: DocumentId) -> Option<SubjectId> {
        let mut all = self.snapshot.documents_of.iter();
        all.find(|(_, rows)| {
            rows.as_ref().is_ok_and(|rows| rows.iter().any(|row| row.address.document() == id))
        })
        .map(|(subject, _)| *subject)
    }

    /// Every side and version of one document, believed.
    fn document(&self, id: DocumentId) -> Result<Vec<&DocumentRow>, Denial> {
        let Some(subject) = self.subject_of_document(id) else {
            // Damage hides which document a row is of.
            return match self.snapshot.documents_of.values().find_map(|rows| rows.as_ref().err()) {
                Some(damage) => Err(self.damaged(damage.table, damage)),
                None => Err(Denial::DocumentNotFound),
            };
        };
        Ok(self.documents_of(subject)?.iter().filter(|row| row.address.document() == id).collect())
    }
}

fn is_current(row: &DocumentRow) -> bool {
    row.state == RecordState::Current
}

/// The version of a side that is read; none where the side is not held.
fn current<'a>(rows: &[&'a DocumentRow], side: Side) -> Option<&'a DocumentRow> {
    rows.iter().copied().find(|row| row.address.side == side && is_current(row))
}

/// Whether the policy lets a caller upload a side of a field, and how much of it.
fn may_upload(
    scene: &Scene<'_>,
    caller: &Caller,
    field: &FieldName,
    side: Side,
    source: ValueSource,
) -> Result<ImageLimits, VaultError> {
    require_role(caller, Role::Service)?;
    let policy: &Policy = scene.policy()?;
    let declared = policy.field(field).ok_or(Denial::FieldNotAllowed)?;
    if !policy.may_collect(caller, declared) {
        return Err(Denial::CallerNotAllowed.into());
    }
    let Some(limits) = declared.image else {
        return Err(VaultError::invalid("start.field", "is no field of images"));
    };
    if !declared.field_type.sides().contains(&side) {
        return Err(VaultError::invalid("start.side", "is no side of this field"));
    }
    if !declared.accepts_source(source) {
        return Err(Denial::SourceNotAllowed.into());
    }
    Ok(limits)
}
