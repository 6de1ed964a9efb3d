//! Rows of documents: sides, uploads that are not done, and the objects that their parts lie in.

use super::{Mac, RecordState, platform_row};
use crate::domain::{
    canonical::Canonical,
    document::{MediaType, SideAddress},
    ids::{CallerId, ObjectId, PlatformId, RequestId, UploadId},
    secret::Sealed,
    subject::ValueSource,
    time::Timestamp,
};

/// One version of one side of a document.
#[derive(Debug, Clone)]
pub struct DocumentRow {
    /// Id of this row: the upload that made it.
    pub id: UploadId,
    /// Where the content belongs.
    pub address: SideAddress,
    /// State.
    pub state: RecordState,
    /// Where the content came from (rule R24).
    pub source: ValueSource,
    /// What it is.
    pub media_type: MediaType,
    /// Its bytes.
    pub size: u64,
    /// Its parts, in order; sealed.
    pub sealed_manifest: Sealed,
    /// Created.
    pub created_at: Timestamp,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl DocumentRow {
    /// What the MAC covers. The manifest is bound to its place by itself.
    #[must_use]
    pub fn image(&self) -> Canonical {
        side(platform_row("documents", self.address.record.platform), &self.address)
            .bytes(self.id.as_bytes())
            .text(self.state.as_str())
            .text(self.source.as_str())
            .text(self.media_type.as_str())
            .int(i64::try_from(self.size).unwrap_or(i64::MAX))
            .int(self.created_at.as_micros())
    }
}

/// An upload that is not done.
#[derive(Debug, Clone)]
pub struct UploadRow {
    /// Id.
    pub id: UploadId,
    /// Who uploads.
    pub caller: CallerId,
    /// The client's id of the upload.
    pub request: RequestId,
    /// HMAC of what the client said of it.
    pub body_mac: [u8; 32],
    /// Where the content will belong.
    pub address: SideAddress,
    /// Where the content comes from.
    pub source: ValueSource,
    /// Bytes, as declared.
    pub size: u64,
    /// Rises with each stream that carries it on; an older one writes nothing more.
    pub attempt: u32,
    /// Parts that are durable.
    pub parts: u32,
    /// Begun.
    pub created_at: Timestamp,
    /// Until when it can be carried on.
    pub expires_at: Timestamp,
    /// MAC of [`Self::image`].
    pub mac: Mac,
}

impl UploadRow {
    /// What the MAC covers: where the content will belong. How far it is, the parts themselves tell.
    #[must_use]
    pub fn image(&self) -> Canonical {
        side(platform_row("uploads", self.address.record.platform), &self.address)
            .bytes(self.id.as_bytes())
            .bytes(self.caller.as_bytes())
            .bytes(self.request.as_bytes())
            .bytes(&self.body_mac)
            .text(self.source.as_str())
            .int(i64::try_from(self.size).unwrap_or(i64::MAX))
            .int(self.created_at.as_micros())
            .int(self.expires_at.as_micros())
    }
}

/// An object that a part lies in. It grants nothing: what it holds is bound to its place by its seal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PartRow {
    /// Platform.
    pub platform: PlatformId,
    /// The object.
    pub object: ObjectId,
    /// The upload that it belongs to.
    pub upload: UploadId,
    /// Its place in the side, from 0.
    pub position: u32,
}

fn side(image: Canonical, address: &SideAddress) -> Canonical {
    image
        .bytes(address.record.subject.as_bytes())
        .bytes(address.record.record.as_bytes())
        .text(address.record.field.as_str())
        .text(address.side.as_str())
        .int(i64::from(address.record.version))
}
