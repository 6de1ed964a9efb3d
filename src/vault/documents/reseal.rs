//! Documents of a subject that gets a new key. Each part is sealed anew into a new object, which is on record as ready before it
//! is there; the commit that brings the new key lets the new objects take the place of the old, which are deleted then. So a
//! death in between leaves objects that are on record, and nothing that names one which is not there.

use std::time::{Duration, Instant};

use super::{
    Documents,
    manifest::{Listed, Manifest},
};
use crate::{
    blobs::{BlobError, parts::PartName},
    crypto::{
        document::{ContentHash, MAX_SEALED_PART, PartPlace, PartSalt},
        envelope::SubjectKey,
        keyring::WrapError,
    },
    domain::{
        ids::{ObjectId, PlatformId, UploadId},
        operation::{Operation, OperationKind},
    },
    policy::decide::Denial,
    store::{
        Swap, WhichOperations,
        rows::documents::{DocumentRow, PartRow},
    },
    vault::{
        Vault,
        error::{VaultError, unreadable},
        tokenize::unavailable,
    },
};

/// A worker that seals documents says at least so often that it lives.
const LIVES: Duration = Duration::from_secs(15);

/// A worker's hold on its operation.
pub(in crate::vault) struct Hold<'a> {
    pub(in crate::vault) operation: &'a mut Operation,
    told: Instant,
}

impl<'a> Hold<'a> {
    pub(in crate::vault) fn new(operation: &'a mut Operation) -> Self {
        Self { operation, told: Instant::now() }
    }
}

/// The documents of a subject under its new key.
#[derive(Default)]
pub(in crate::vault) struct NewDocuments {
    pub(in crate::vault) manifests: Vec<Swap<UploadId>>,
    /// Objects that are ready, also where it went no further.
    pub(in crate::vault) objects: Vec<ObjectId>,
}

/// Why documents were not sealed anew.
pub(in crate::vault) enum NotSealed {
    /// Something of them does not open, or is gone.
    Damaged,
    /// The operation is another's.
    Overtaken,
    /// It can be tried again.
    Failed(VaultError),
}

impl From<VaultError> for NotSealed {
    fn from(error: VaultError) -> Self {
        Self::Failed(error)
    }
}

impl From<WrapError> for NotSealed {
    fn from(error: WrapError) -> Self {
        match error {
            WrapError::Key(_) => Self::Damaged,
            WrapError::Seal(error) => Self::Failed(unavailable(error)),
        }
    }
}

/// A document with its keys and where its parts lie.
struct Anew<'a> {
    place: &'a Documents,
    row: &'a DocumentRow,
    old: &'a SubjectKey,
    new: &'a SubjectKey,
    /// The content, as it was opened and as it is stored now.
    hashes: (ContentHash, ContentHash),
}

impl Vault {
    /// Whether this process can reach the documents.
    pub(in crate::vault) const fn has_documents(&self) -> bool {
        self.documents.is_some()
    }

    /// Seals documents of a subject anew, part after part.
    pub(in crate::vault) async fn reseal_documents(
        &self,
        (old, new): (&SubjectKey, &SubjectKey),
        rows: &[DocumentRow],
        hold: &mut Hold<'_>,
        done: &mut NewDocuments,
    ) -> Result<(), NotSealed> {
        if rows.is_empty() {
            return Ok(());
        }
        let (place, rng) = (self.place()?, self.shared.rng.as_ref());
        for row in rows {
            let manifest = Manifest::open(old, &row.address, &row.sealed_manifest);
            let manifest = manifest.map_err(|_| NotSealed::Damaged)?;
            if manifest.size != row.size {
                return Err(NotSealed::Damaged);
            }
            let platform = row.address.record.platform;
            let mut ready = Vec::new();
            for position in (0..).take(manifest.parts.len()) {
                let object = ObjectId::random(rng).map_err(unavailable)?;
                ready.push(PartRow { platform, object, upload: row.id, position });
            }
            done.objects.extend(ready.iter().map(|part| part.object));
            self.shared.store.ready_parts(row, &ready).await.map_err(unavailable)?;
            let hashes = Default::default();
            let mut anew = Anew { place: &place, row, old, new, hashes };
            let mut parts = Vec::new();
            for (was, part) in manifest.parts.iter().zip(&ready) {
                if !self.lives(hold).await? {
                    return Err(NotSealed::Overtaken);
                }
                let last = part.position.saturating_add(1) == u32::try_from(ready.len()).unwrap_or(u32::MAX);
                let at = PartPlace { index: part.position, last };
                let salt = self.reseal_part(&mut anew, at, *was, part.object).await?;
                parts.push(Listed::new(part.object, salt));
            }
            let (opened, stored) = anew.hashes;
            if !opened.is(&manifest.sha256) || !stored.is(&manifest.sha256) {
                return Err(NotSealed::Damaged);
            }
            let sealed = Manifest { parts, ..manifest }.seal(new, &row.address, rng).map_err(unavailable)?;
            done.manifests.push(Swap { id: row.id, before: row.sealed_manifest.clone(), after: sealed });
        }
        Ok(())
    }

    /// Seals a part into a new object, and reads that: the old one goes.
    async fn reseal_part(
        &self,
        anew: &mut Anew<'_>,
        at: PartPlace,
        was: Listed,
        object: ObjectId,
    ) -> Result<PartSalt, NotSealed> {
        let Anew { place, row, old, new, hashes } = anew;
        let slot = place.room.take().await?;
        let (platform, upload) = (row.address.record.platform, row.id);
        let find = async |object| {
            let name = PartName { platform, upload, object };
            match place.parts.get(&name, MAX_SEALED_PART).await {
                Ok(Some(bytes)) => Ok(bytes),
                Ok(None) | Err(BlobError::TooLarge { .. }) => Err(NotSealed::Damaged),
                Err(error) => Err(unreadable(error).into()),
            }
        };
        let (salt, bytes) = (was.salt(), find(was.object()).await?);
        let rng = self.shared.rng.as_ref();
        let sealed = old.reseal_part(new, (&row.address, at), (&salt, bytes), &mut hashes.0, rng)?;
        let name = PartName { platform, upload, object };
        place.parts.put(&name, sealed.bytes).await.map_err(unreadable)?;
        let stored = find(object).await?;
        let (salt, _) = new
            .hash_part(&row.address, at, stored, &mut hashes.1)
            .map_err(|error| NotSealed::from(WrapError::Key(error)))?;
        slot.release();
        if salt == sealed.salt { Ok(salt) } else { Err(NotSealed::Damaged) }
    }

    /// Says that the worker lives, where it is time; false where the operation is another's by now.
    async fn lives(&self, hold: &mut Hold<'_>) -> Result<bool, VaultError> {
        if hold.told.elapsed() < LIVES {
            return Ok(true);
        }
        let Some(next) = self.hold_key_work(hold.operation).await? else { return Ok(false) };
        *hold.operation = next;
        hold.told = Instant::now();
        Ok(true)
    }

    /// Whether manifests open with the key of their subject.
    pub(in crate::vault) fn opens_documents(key: &SubjectKey, rows: &[DocumentRow]) -> bool {
        rows.iter().all(|row| Manifest::open(key, &row.address, &row.sealed_manifest).is_ok())
    }

    /// Deletes objects that stood ready in vain. Where that fails, whoever takes the operation next does it, or the collector.
    pub(in crate::vault) async fn drop_ready(&self, platform: PlatformId, objects: &[ObjectId]) {
        if objects.is_empty() {
            return;
        }
        match self.shared.store.doom_ready(platform, Some(objects)).await {
            Ok(_) => drop(self.sweep_parts(platform).await),
            Err(error) => {
                let error: &(dyn std::error::Error + 'static) = &error;
                tracing::warn!(
                    platform = platform.get(),
                    error,
                    "parts that stood ready could not be dropped yet"
                );
            }
        }
    }

    /// Drops all objects that stand ready, where nobody is at work that made them so.
    pub(super) async fn drop_left_ready(&self, platform: PlatformId) -> Result<(), VaultError> {
        let which = WhichOperations::OfKind(OperationKind::RekeyPlatform);
        let newest = self.shared.store.operations(platform, which, 1).await.map_err(unavailable)?;
        if newest.iter().any(|row| row.operation.is_open()) {
            return Ok(());
        }
        self.drop_all_ready(platform).await
    }

    /// Drops all objects that stand ready on a platform.
    pub(in crate::vault) async fn drop_all_ready(&self, platform: PlatformId) -> Result<(), VaultError> {
        if self.shared.store.doom_ready(platform, None).await.map_err(unavailable)? > 0 {
            self.sweep_parts(platform).await;
        }
        Ok(())
    }

    /// What stands in the way of documents that are held.
    pub(in crate::vault) fn documents_in_the_way(&self, parts: u64) -> Option<String> {
        let unreachable = parts > 0 && !self.has_documents();
        unreachable.then(|| {
            format!(
                "{}: documents are held, and this process has no place for them",
                Denial::DocumentsNotConfigured.as_str()
            )
        })
    }
}
