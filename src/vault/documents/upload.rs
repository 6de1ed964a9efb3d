//! An upload: its parts sealed and stored as they come, its row written when all are durable.

use std::sync::Arc;

use minicbor::bytes::ByteArray;
use tokio::task::JoinHandle;

use super::{
    Documents, VERSION, about,
    begin::{Abandon, Begin, NewUpload, Opened, asked, check_replaced},
    current,
    manifest::{Listed, Manifest},
    may_upload, object_of,
};
use crate::{
    audit::entry::Entry,
    blobs::parts::PartName,
    crypto::{
        document::{ContentHash, MAX_SEALED_PART, OpenPart, PartPlace, SealedPart},
        envelope::SubjectKey,
    },
    domain::{
        caller::Caller,
        document::{MediaType, Side, part_length, parts_of},
        ids::{DocumentId, ObjectId},
        reference::Reference,
        time::Timestamp,
    },
    policy::decide::Denial,
    store::{
        ReadKeys, Write,
        rows::{
            RecordState,
            documents::{DocumentRow, PartRow, UploadRow},
        },
    },
    vault::{
        Vault,
        access::Call,
        act::{Asker, Claim},
        context::Context,
        deed::{Deed, Deeded, Hand},
        error::{VaultError, unreadable},
        replay::ItemOutcome,
        storing::usable,
        tokenize::unavailable,
    },
};

/// A side that is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredSide {
    /// The set.
    pub document: DocumentId,
    /// The side.
    pub side: Side,
    /// Version of the side.
    pub version: u32,
    /// What it is.
    pub media_type: MediaType,
    /// When it was stored.
    pub created_at: Timestamp,
}

impl StoredSide {
    fn outcome(&self) -> ItemOutcome {
        let code = |at: Option<usize>| at.and_then(|at| i64::try_from(at).ok()).unwrap_or(-1);
        ItemOutcome {
            ids: vec![(*self.document.as_bytes()).into()],
            numbers: vec![
                code(Side::ALL.iter().position(|side| *side == self.side)),
                i64::from(self.version),
                code(MediaType::ALL.iter().position(|media| *media == self.media_type)),
                self.created_at.as_micros(),
            ],
            ..ItemOutcome::default()
        }
    }

    fn of(outcome: &ItemOutcome) -> Result<Self, Denial> {
        let at = |place| usize::try_from(outcome.number(place)?).map_err(|_| Denial::DataDamaged);
        Ok(Self {
            document: DocumentId::from_bytes(outcome.id(0)?),
            side: *Side::ALL.get(at(0)?).ok_or(Denial::DataDamaged)?,
            version: u32::try_from(outcome.number(1)?).map_err(|_| Denial::DataDamaged)?,
            media_type: *MediaType::ALL.get(at(2)?).ok_or(Denial::DataDamaged)?,
            created_at: outcome.time(3)?,
        })
    }
}

/// How an upload began.
pub enum Begun {
    /// It was done before; this is a retry.
    Stored(StoredSide),
    /// Its parts are wanted.
    Open(Box<Uploading>),
}

/// An upload whose stream goes on.
pub struct Uploading {
    vault: Arc<Vault>,
    place: Arc<Documents>,
    caller: Arc<Caller>,
    asker: Asker,
    row: UploadRow,
    key: SubjectKey,
    sha256: [u8; 32],
    replaces: u32,
    reference: Option<Reference>,
    hash: ContentHash,
    media_type: Option<MediaType>,
    parts: Vec<Listed>,
    part: OpenPart,
    /// The part before, while it is being stored.
    storing: Option<JoinHandle<Result<(), VaultError>>>,
}

impl Vault {
    /// Begins an upload, or carries one on that broke off: then parts that are durable are read and hashed again, and what
    /// follows `offset` is sent again.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn begin_upload(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        asker: Asker,
        new: NewUpload,
    ) -> Result<Begun, VaultError> {
        let begin = Begin {
            caller: Arc::clone(caller),
            asked: asked(&asker)?,
            configured: self.documents.is_some(),
            new: new.clone(),
        };
        let (row, key) = match self.run(caller.platform, caller, asker.clone(), begin).await? {
            Opened::Done(outcome) => return Ok(Begun::Stored(StoredSide::of(&outcome)?)),
            Opened::Open(row, key) => (row, key),
        };
        let mut uploading = Uploading {
            vault: Arc::clone(self),
            place: self.place()?,
            caller: Arc::clone(caller),
            asker,
            row,
            key,
            sha256: new.sha256,
            replaces: new.replaces,
            reference: new.reference,
            hash: ContentHash::default(),
            media_type: None,
            parts: Vec::new(),
            part: OpenPart::default(),
            storing: None,
        };
        uploading.read_again().await?;
        Ok(Begun::Open(Box::new(uploading)))
    }
}

impl Uploading {
    /// Takes bytes of the part at hand, and answers how many: fewer than there are where the part is complete, and must be
    /// stored first.
    ///
    /// # Errors
    /// [`Denial::DocumentTooLarge`] at the byte that passes the declared size; then nothing of the upload stays.
    pub async fn take(&mut self, bytes: &[u8]) -> Result<usize, VaultError> {
        let wanted = part_length(self.row.size, self.position()) - self.part.len();
        if wanted == 0 && !bytes.is_empty() {
            return Err(self.abandon(Denial::DocumentTooLarge).await);
        }
        let some = bytes.get(..wanted.min(bytes.len())).unwrap_or_default();
        Ok(self.part.fill(some))
    }

    /// Whether the part at hand has all its bytes.
    #[must_use]
    pub fn part_is_complete(&self) -> bool {
        !self.part.is_empty() && self.part.len() == part_length(self.row.size, self.position())
    }

    /// Seals the part at hand, and stores it while the client sends the next: it is durable when [`Uploading::stored`] has
    /// returned. One part at a time is being stored: the stream's share of the memory is for both.
    ///
    /// # Errors
    /// [`Denial::MediaTypeNotAllowed`] of the first part; and those of [`Uploading::stored`], of the part before.
    pub async fn store_part(&mut self) -> Result<(), VaultError> {
        self.stored().await?;
        let part = std::mem::take(&mut self.part);
        if self.position() == 0 {
            self.media_type = MediaType::sniff(part.expose());
            if self.media_type.is_none() {
                return Err(self.abandon(Denial::MediaTypeNotAllowed).await);
            }
        }
        self.hash.update(part.expose());
        let (position, rng) = (self.position(), self.vault.shared.rng.as_ref());
        let sealed = self.key.seal_part(&self.row.address, self.place_of(position), part, rng);
        let SealedPart { salt, bytes } = sealed.map_err(unavailable)?;
        let object = ObjectId::random(rng).map_err(unavailable)?;
        let work = store(Arc::clone(&self.vault), Arc::clone(&self.place), self.row.clone(), object, bytes);
        self.storing = Some(tokio::spawn(work));
        self.row.parts = position.saturating_add(1);
        self.parts.push(Listed::new(object, salt));
        Ok(())
    }

    /// Waits until every part that was taken whole is durable.
    ///
    /// # Errors
    /// [`Denial::UploadMoved`] where another stream carries the upload on or it is gone.
    pub async fn stored(&mut self) -> Result<(), VaultError> {
        match self.storing.take() {
            Some(storing) => storing.await.map_err(|_| VaultError::Unavailable)?,
            None => Ok(()),
        }
    }

    /// Writes the row, when every part is durable and the content has the declared hash.
    ///
    /// # Errors
    /// [`Denial::UploadIncomplete`] where bytes are missing: the upload can be carried on. [`Denial::ContentDiffers`] where
    /// the hash is another: then nothing of it stays.
    pub async fn finish(mut self) -> Result<StoredSide, VaultError> {
        self.stored().await?;
        let Some(media_type) = self.media_type.filter(|_| self.position() == parts_of(self.row.size)) else {
            return Err(Denial::UploadIncomplete.into());
        };
        if !self.hash.clone().is(&self.sha256) {
            return Err(self.abandon(Denial::ContentDiffers).await);
        }
        let Self { vault, caller, asker, row, key, sha256, replaces, reference, parts, .. } = self;
        let manifest = Manifest { size: row.size, sha256: ByteArray::from(sha256), parts };
        let finish = Finish { row, key, manifest, media_type, replaces, reference };
        vault.run(caller.platform, &caller, asker, finish).await
    }

    fn position(&self) -> u32 {
        u32::try_from(self.parts.len()).unwrap_or(u32::MAX)
    }

    fn place_of(&self, index: u32) -> PartPlace {
        PartPlace { index, last: index.saturating_add(1) == parts_of(self.row.size) }
    }

    /// Hashes the parts that are durable already.
    async fn read_again(&mut self) -> Result<(), VaultError> {
        if self.row.parts == 0 {
            return Ok(());
        }
        let platform = self.row.address.record.platform;
        let stored = self.vault.shared.store.parts_of(platform, self.row.id).await.map_err(unavailable)?;
        for part in stored {
            let PartRow { object, position, .. } = part;
            if position != self.position() || position >= self.row.parts {
                return Err(Denial::UploadMoved.into());
            }
            let found = self.place.parts.get(&object_of(&part), MAX_SEALED_PART).await.map_err(unreadable)?;
            let Some(bytes) = found else { return Err(self.abandon(Denial::DataDamaged).await) };
            let at = self.place_of(position);
            match self.key.hash_part(&self.row.address, at, bytes, &mut self.hash) {
                Ok((salt, media_type)) => {
                    if position == 0 {
                        self.media_type = media_type;
                    }
                    self.parts.push(Listed::new(object, salt));
                }
                Err(_) => return Err(self.abandon(Denial::DataDamaged).await),
            }
        }
        if self.position() == self.row.parts { Ok(()) } else { Err(Denial::UploadMoved.into()) }
    }

    /// Drops the upload with its parts. It is done also where the client has gone.
    async fn abandon(&mut self, reason: Denial) -> VaultError {
        // What is on its way is then counted, and goes with the rest.
        let _stored = self.stored().await;
        let (vault, caller, asker) = (Arc::clone(&self.vault), Arc::clone(&self.caller), self.asker.clone());
        let deed = Abandon { row: self.row.clone(), reason };
        let platform = caller.platform;
        let dropped = tokio::spawn(async move {
            let told = vault.run(platform, &caller, asker, deed).await;
            vault.sweep_some_parts(platform).await;
            told
        });
        match dropped.await {
            Ok(Ok(())) => reason.into(),
            Ok(Err(told)) => told,
            Err(_) => VaultError::Unavailable,
        }
    }
}

/// Stores a sealed part, and counts it.
async fn store(
    vault: Arc<Vault>,
    place: Arc<Documents>,
    row: UploadRow,
    object: ObjectId,
    bytes: Vec<u8>,
) -> Result<(), VaultError> {
    let name = PartName { platform: row.address.record.platform, upload: row.id, object };
    place.parts.put(&name, bytes).await.map_err(unreadable)?;
    let counted = vault.shared.store.count_part(&row, row.parts, object).await;
    if counted.map_err(unavailable)? {
        return Ok(());
    }
    // Nothing names the object; where it cannot be deleted now, the collector finds it.
    let _gone = place.parts.delete(&name).await;
    Err(Denial::UploadMoved.into())
}

/// The end of an upload.
struct Finish {
    row: UploadRow,
    key: SubjectKey,
    manifest: Manifest,
    media_type: MediaType,
    replaces: u32,
    reference: Option<Reference>,
}

impl Deed for Finish {
    type Answer = StoredSide;

    fn call(&self) -> Call {
        Call::UploadDocument
    }

    fn changes(&self) -> bool {
        true
    }

    fn reads(&self, _context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        keys.subjects.insert(self.row.address.record.subject);
        keys.documents_of_found = true;
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<StoredSide>, VaultError> {
        let (scene, row) = (hand.scene, &self.row);
        let (record, side) = (&row.address.record, row.address.side);
        may_upload(scene, hand.caller, &record.field, side, row.source)?;
        let subject = scene.subject(record.subject)?;
        usable(subject)?;
        let open = scene.uploads_of(subject.id)?;
        let ours =
            |open: &&UploadRow| (open.id, open.attempt, open.parts) == (row.id, row.attempt, row.parts);
        open.iter().find(ours).ok_or(Denial::UploadMoved)?;
        if !scene.subject_key(subject)?.is_same(&self.key) {
            // The parts are sealed under a key that the subject has no more.
            return Err(Denial::UploadMoved.into());
        }
        if !hand.plan.claim(Claim::Document(subject.id, record.field.clone())) {
            return Ok(Deeded::Later);
        }
        let held =
            scene.documents_of(subject.id)?.iter().filter(|held| held.address.record.field == record.field);
        let held: Vec<_> = held.collect();
        let before = current(&held, side);
        check_replaced(before.map(|held| held.address.record.version), self.replaces)?;
        if let Some(before) = before {
            let mut old = DocumentRow { state: RecordState::Superseded, ..before.clone() };
            old.mac = scene.keys().row.mac(&old.image());
            hand.plan.tightens = true;
            hand.log(|entry| {
                let row_mac = Some(old.mac.into());
                Entry { row_mac, ..about(VERSION, &old.address, old.id, entry) }
            })?;
            hand.plan.writes.push(Write::UpdateDocument(old, before.mac));
        }
        let sealed = self.manifest.seal(&self.key, &row.address, scene.rng()).map_err(unavailable)?;
        let mut new = DocumentRow {
            id: row.id,
            address: row.address.clone(),
            state: RecordState::Current,
            source: row.source,
            media_type: self.media_type,
            size: row.size,
            sealed_manifest: sealed,
            created_at: scene.now,
            mac: [0; 32],
        };
        new.mac = scene.keys().row.mac(&new.image());
        hand.log(|entry| Entry {
            row_mac: Some(new.mac.into()),
            reference: self.reference.as_ref().map(ToString::to_string),
            ..about(VERSION, &new.address, new.id, entry)
        })?;
        let stored = StoredSide {
            document: new.address.document(),
            side,
            version: new.address.record.version,
            media_type: new.media_type,
            created_at: new.created_at,
        };
        hand.plan.writes.push(Write::InsertDocument(new));
        hand.plan.writes.push(Write::EndUpload(row.clone()));
        Ok(Deeded::changed(stored, stored.outcome()))
    }

    fn again(&self, _hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<StoredSide, VaultError> {
        Ok(StoredSide::of(before)?)
    }
}
