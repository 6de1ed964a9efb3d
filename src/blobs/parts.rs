//! Where parts of documents lie, outside the database.
//!
//! ```text
//! sandyq-documents                                marks the place, and names this layout
//! <platform's number>/<2 hex digits>/<30 more>/<32 more>   a sealed part: the first 32 digits are the random id of its
//!                                                          upload, the others its own
//! ```
//!
//! An upload is on record before its first part is here, so a name tells to whom it may belong still.

use std::{path::Path, sync::Arc, time::Duration};

use data_encoding::HEXLOWER;

use super::{
    error::BlobError,
    place::{Kind, Place, Put},
    s3::Bucket,
};
use crate::domain::{
    ids::{ObjectId, PlatformId, UploadId},
    territory::{Territory, Use},
};

const PARTS: Kind = Kind {
    tidy: true,
    what: "document store",
    used_for: Use::Documents,
    marker: "sandyq-documents",
    text: "sandyq-documents 1\n",
};

/// Name of a part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PartName {
    /// Whose.
    pub platform: PlatformId,
    /// The upload that it came by.
    pub upload: UploadId,
    /// Its own id.
    pub object: ObjectId,
}

impl PartName {
    fn path(&self) -> String {
        let digits = HEXLOWER.encode(self.upload.as_bytes());
        let (first, book) = digits.split_at_checked(2).unwrap_or_default();
        format!("{}/{first}/{book}/{}", self.platform.get(), HEXLOWER.encode(self.object.as_bytes()))
    }
}

/// A place of parts.
#[derive(Clone)]
pub struct Parts(Place);

impl Parts {
    /// A directory, made with mode 0700 where it is missing; its parent must be there. Each later operation fails after
    /// `limit`; this one runs on the calling thread, without a limit.
    ///
    /// # Errors
    /// [`BlobError`].
    pub fn create(path: &Path, limit: Duration) -> Result<Self, BlobError> {
        Place::create(path, &PARTS)?;
        Place::directory(path, &PARTS, limit).map(Self)
    }

    /// A bucket of an S3 service, reached where `territory` admits it; one that is empty is made such a place.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn bucket(
        bucket: &Bucket,
        territory: &Arc<dyn Territory>,
        limit: Duration,
    ) -> Result<Self, BlobError> {
        Place::create_bucket(bucket, territory, &PARTS, limit).await.map(Self)
    }

    /// Writes a part under a name that nothing else has, durable when this returns.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn put(&self, name: &PartName, bytes: Vec<u8>) -> Result<(), BlobError> {
        self.0.put(&name.path(), bytes, Put::Over).await
    }

    /// A part of so many bytes at most; none where there is no such object.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn get(&self, name: &PartName, limit: usize) -> Result<Option<Vec<u8>>, BlobError> {
        self.0.find(name.path(), u64::try_from(limit).unwrap_or(u64::MAX)).await
    }

    /// Parts of a platform whose uploads' ids begin with this byte, in order. What else lies there is told to the log, and
    /// left alone.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn shelf(&self, platform: PlatformId, first: u8) -> Result<Vec<PartName>, BlobError> {
        let prefix = format!("{}/{first:02x}", platform.get());
        let parse = |file: &str| {
            let (book, object) = file.split_once('/')?;
            let upload = UploadId::from_bytes(id_of(&format!("{first:02x}{book}"))?);
            let name = PartName { platform, upload, object: ObjectId::from_bytes(id_of(object)?) };
            // One spelling: what is deleted by its name is what was listed.
            (name.path() == format!("{prefix}/{file}")).then_some(name)
        };
        let listing = self.0.list(&prefix, parse).await?;
        if !listing.strange.is_empty() {
            tracing::warn!(
                count = listing.strange.len(),
                prefix,
                "objects that are no parts lie in the document store"
            );
        }
        Ok(listing.found)
    }

    /// Deletes a part that may be gone already.
    ///
    /// # Errors
    /// [`BlobError`].
    pub async fn delete(&self, name: &PartName) -> Result<(), BlobError> {
        self.0.delete(&name.path()).await
    }
}

fn id_of(digits: &str) -> Option<[u8; 16]> {
    HEXLOWER.decode(digits.as_bytes()).ok()?.try_into().ok()
}
