//! What a rekey does with each subject: it gets a new key, and all that was sealed under the old one is sealed anew. Whoever has
//! the old subject key with the old version of the platform key opens nothing of the database any more.
//!
//! A subject is exchanged in one commit, or not at all. What was read is prepared outside the lane; the commit states that each
//! piece is as it was read and that nothing more came, so whatever happens to a subject meanwhile has it read again. And it moves
//! `tighten_seq`: whatever was decided on the old key is decided again before it is committed.

use std::sync::Arc;

use super::piece::{Piece, Slice};
use crate::{
    audit::entry::{Entry, Verdict},
    crypto::{
        aead::{OpenError, wrap_version},
        envelope::{SubjectKey, SubjectPlace},
        keyring::{Keyring, WrapError},
    },
    domain::{
        ids::{EntryId, ObjectId, PlatformId, SubjectId},
        operation::{Cursor, Operation, Phase},
        rng::Rng,
    },
    store::{Many, Resealed, SealedOf, Swap, Write},
    vault::{
        Vault,
        act::{Claim, Plan, Scene},
        documents::reseal::{Hold, NewDocuments, NotSealed},
        error::VaultError,
        tokenize::unavailable,
    },
};

/// The entry of what a rekey sealed anew.
pub(super) const RESEAL: &str = "Operation/ResealValues";

/// Subjects under new keys.
pub(super) struct Resealing(pub(super) Arc<Vec<Resealed>>);

impl Resealing {
    /// Objects that stand ready for their documents.
    pub(super) fn objects(&self) -> Vec<ObjectId> {
        self.0.iter().flat_map(|of| of.objects.iter().copied()).collect()
    }

    /// False where the batch writes one of the subjects already.
    pub(super) fn plan(&self, scene: &Scene<'_>, plan: &mut Plan) -> Result<bool, VaultError> {
        for of in self.0.iter() {
            if !plan.claim(Claim::SubjectRow(of.key.id)) {
                return Ok(false);
            }
            for upload in &of.uploads {
                let id = EntryId::random(scene.rng()).map_err(unavailable)?;
                plan.entries.push(Entry {
                    object_kind: Some("upload".to_owned()),
                    object: Some(upload.id.as_bytes().to_vec()),
                    subject: Some((*of.key.id.as_bytes()).into()),
                    ..Entry::new(id, scene.now, scene.context.platform, RESEAL, Verdict::Done)
                });
                plan.writes.push(Write::DropUpload(upload.clone()));
            }
        }
        if !self.0.is_empty() {
            plan.tightens = true;
            plan.writes.push(Write::Many(Many::Reseal(Arc::clone(&self.0))));
        }
        Ok(true)
    }
}

impl Vault {
    /// The next subjects; none where the operation is another's by now.
    pub(super) async fn sealed_slice(
        &self,
        keys: &Keyring,
        taken: &mut Operation,
        after: SubjectId,
        rows: u32,
    ) -> Result<Option<Slice>, VaultError> {
        let (platform, verify) = (taken.platform, taken.phase == Phase::Verify);
        let version = taken.key_version;
        let read = self.shared.store.sealed(platform, after, rows).await.map_err(unavailable)?;
        let (mut count, mut last, mut damaged, mut resealed) = (0, None, false, Vec::new());
        for of in read {
            if wrap_version(&of.wrapped_key) == Ok(version) {
                damaged |= verify && !opens(platform, keys, &of);
            } else {
                // Documents take their time: a subject that has any is a slice of its own.
                let has_documents = !of.documents.is_empty();
                if has_documents && count > 0 {
                    break;
                }
                match self.reseal(keys, &of, taken).await {
                    Ok(anew) => resealed.push(anew),
                    Err(NotSealed::Damaged) => {
                        let (platform, subject) = (platform.get(), of.subject);
                        tracing::error!(platform, %subject, "something of a subject does not open, so it is not sealed anew");
                        damaged = true;
                    }
                    Err(NotSealed::Overtaken) => return Ok(None),
                    Err(NotSealed::Failed(error)) => return Err(error),
                }
                if has_documents {
                    (count, last) = (1, Some(of.subject));
                    break;
                }
            }
            (count, last) = (count + 1, Some(of.subject));
        }
        let piece = Piece::Reseal(Resealing(Arc::new(resealed)));
        Ok(Some(Slice { piece, rows: count, next: last.map(Cursor::from), damaged }))
    }

    async fn reseal(
        &self,
        keys: &Keyring,
        of: &SealedOf,
        taken: &mut Operation,
    ) -> Result<Resealed, NotSealed> {
        let (platform, rng) = (taken.platform, self.shared.rng.as_ref());
        let old = keys.unwrap(of.subject, &of.wrapped_key).map_err(WrapError::Key)?;
        let new = SubjectKey::random(rng).map_err(unavailable)?;
        let wrapped = keys.wrap(of.subject, &new, rng)?;
        if !keys.unwrap(of.subject, &wrapped).map_err(WrapError::Key)?.is_same(&new) {
            return Err(WrapError::Key(OpenError::Forged).into());
        }
        // What may be damaged first: where it is, no object is made.
        let (mut documents, keys) = (NewDocuments::default(), (&old, &new));
        let rest = values(platform, keys, of, rng)?;
        let sealed = self.reseal_documents(keys, &of.documents, &mut Hold::new(taken), &mut documents).await;
        if let Err(error) = sealed {
            self.drop_ready(platform, &documents.objects).await;
            return Err(error);
        }
        let NewDocuments { manifests, objects } = documents;
        let key = Swap { id: of.subject, before: of.wrapped_key.clone(), after: wrapped };
        Ok(Resealed { key, documents: manifests, objects, uploads: of.uploads.clone(), ..rest })
    }
}

/// All of a subject but its key and documents.
fn values(
    platform: PlatformId,
    (old, new): (&SubjectKey, &SubjectKey),
    of: &SealedOf,
    rng: &dyn Rng,
) -> Result<Resealed, WrapError> {
    let mut values = Vec::new();
    for (address, before) in &of.values {
        let after = old.reseal_value(new, address, before, rng)?;
        values.push(Swap { id: address.record, before: before.clone(), after });
    }
    let mut tokens = Vec::new();
    for (id, before) in &of.tokens {
        let place = SubjectPlace::token(platform, of.subject, *id);
        tokens.push(Swap {
            id: *id,
            before: before.clone(),
            after: old.reseal_at(new, &place, before, rng)?,
        });
    }
    let mut consents = Vec::new();
    for (id, before) in &of.consents {
        let place = SubjectPlace::consent(platform, of.subject, *id);
        consents.push(Swap {
            id: *id,
            before: before.clone(),
            after: old.reseal_at(new, &place, before, rng)?,
        });
    }
    let place = SubjectPlace::reference(platform, of.subject);
    let reference = old.reseal_at(new, &place, &of.reference, rng)?;
    Ok(Resealed {
        key: Swap { id: of.subject, before: of.wrapped_key.clone(), after: of.wrapped_key.clone() },
        reference: Swap { id: of.subject, before: of.reference.clone(), after: reference },
        values,
        tokens,
        consents,
        documents: Vec::new(),
        objects: Vec::new(),
        uploads: Vec::new(),
    })
}

/// Whether all of a subject opens with its key.
fn opens(platform: PlatformId, keys: &Keyring, of: &SealedOf) -> bool {
    let subject = of.subject;
    let opened = keys.unwrap(subject, &of.wrapped_key).and_then(|key| {
        key.opens_at(&SubjectPlace::reference(platform, subject), &of.reference)?;
        of.values.iter().try_for_each(|(address, blob)| key.opens_value(address, blob))?;
        let place = |id| SubjectPlace::token(platform, subject, id);
        of.tokens.iter().try_for_each(|(id, blob)| key.opens_at(&place(*id), blob))?;
        let place = |id| SubjectPlace::consent(platform, subject, id);
        of.consents.iter().try_for_each(|(id, blob)| key.opens_at(&place(*id), blob))?;
        if Vault::opens_documents(&key, &of.documents) { Ok(()) } else { Err(OpenError::Forged) }
    });
    match opened {
        Ok(()) => true,
        Err(error) => {
            tracing::error!(platform = platform.get(), %subject, %error, "something of a subject does not open");
            false
        }
    }
}
