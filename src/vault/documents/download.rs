//! A document read for a declared purpose: decided and logged as a value is, then sent part by part. Before each further
//! part it is decided again, so that a stream does not outlast an erasure, a block or a withdrawal.

use std::{ops::Range, sync::Arc};

use zeroize::Zeroizing;

use super::{
    Documents, VERSION, about, current,
    describe::{HeldSide, held_sides},
    manifest::Manifest,
    room::Slot,
};
use crate::{
    audit::entry::{Entry, Verdict},
    blobs::{BlobError, parts::PartName},
    crypto::{
        document::{MAX_SEALED_PART, PartPlace},
        envelope::SubjectKey,
    },
    domain::{
        caller::Caller,
        document::{PART_BYTES, Side, part_length, parts_of},
        ids::{CallerId, DocumentId, EntryId, PlatformId, UploadId},
        names::{FieldName, PurposeName, RecipientName},
        reference::Reference,
        time::Timestamp,
    },
    policy::{
        decide::{Ask, Denial, Permit, disclosed},
        model::View,
    },
    store::{ReadKeys, rows::documents::DocumentRow},
    vault::{
        Vault,
        access::Call,
        act::{Asker, Scene},
        context::Context,
        deed::{Deed, Deeded, Hand},
        detokenize::declared,
        error::{VaultError, unreadable},
        facts::{Held, TokenFacts, decide_on},
        replay::ItemOutcome,
        spending,
    },
};

/// A question for the content of a side.
#[derive(Clone)]
pub struct DownloadAsk {
    /// The document.
    pub document: DocumentId,
    /// Its side.
    pub side: Side,
    /// For what.
    pub purpose: PurposeName,
    /// [`View::Full`] answers the content, [`View::Masked`] what it is.
    pub view: View,
    /// For whom outside the platform.
    pub recipient: Option<RecipientName>,
    /// Why, in the platform's numbering.
    pub reference: Option<Reference>,
    /// Bytes that are wanted; past the end there are none.
    pub bytes: Range<u64>,
}

/// What is told before the content.
#[derive(Debug, Clone)]
pub struct DocumentHead {
    /// Field.
    pub field: FieldName,
    /// The side that is answered.
    pub side: HeldSide,
    /// Sides that are held.
    pub sides: Vec<Side>,
    /// The view.
    pub view: View,
    /// The entry that permits it.
    pub entry: EntryId,
}

/// Bytes of the content, with the share of memory that they take.
pub struct Chunk {
    /// The bytes.
    pub bytes: Zeroizing<Vec<u8>>,
    /// Given back when the chunk is on its way.
    pub slot: Slot,
}

/// A download: what is told first, and the content.
pub struct Download {
    /// What is told first.
    pub head: DocumentHead,
    /// None in a view that shows none of it.
    pub content: Option<Reading>,
}

impl Vault {
    /// Answers a side of a document. Nothing is answered before the entry is durable.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn download_document(
        self: &Arc<Self>,
        caller: &Arc<Caller>,
        asker: Asker,
        ask: DownloadAsk,
    ) -> Result<Download, VaultError> {
        let place = self.place()?;
        let payer = Some((caller.id, self.clock().now()));
        let deed = Read { ask: ask.clone(), first: None, payer };
        let opened = self.run(caller.platform, caller, asker.clone(), deed).await?;
        let Opened { head, content } = opened;
        let content = content.map(|content| {
            let size = content.manifest.size;
            let wanted = ask.bytes.start.min(size)..ask.bytes.end.min(size);
            let (vault, caller, entry) = (Arc::clone(self), Arc::clone(caller), head.entry);
            Reading { vault, place, caller, asker, ask, content, wanted, entry }
        });
        Ok(Download { head, content })
    }
}

/// A side that may be read.
struct Opened {
    head: DocumentHead,
    /// None in a view that shows none of it.
    content: Option<Content>,
}

/// What opens the content.
struct Content {
    platform: PlatformId,
    id: UploadId,
    side: Side,
    permit: Permit,
    key: SubjectKey,
    manifest: Manifest,
}

/// The decision.
struct Read {
    ask: DownloadAsk,
    /// Of a further part: which version the stream is of. A permit leaves no further entry then.
    first: Option<(UploadId, EntryId)>,
    /// Who pays for the content, asked at this moment; none of a further part.
    payer: Option<(CallerId, Timestamp)>,
}

impl Deed for Read {
    type Answer = Opened;

    fn call(&self) -> Call {
        Call::DownloadDocument
    }

    fn changes(&self) -> bool {
        false
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        keys.documents.insert(self.ask.document);
        keys.documents_of_found = true;
        if let Some((caller, at)) = self.payer {
            spending::reads_values(context, caller, &self.ask.purpose, at, keys);
        }
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Opened>, VaultError> {
        let (scene, ask) = (hand.scene, &self.ask);
        let rows = match scene.document(ask.document) {
            Ok(rows) => rows,
            Err(Denial::DocumentNotFound) => Vec::new(),
            Err(damage) => return Err(damage.into()),
        };
        // A stream goes on with the version that it began with, also where another replaced it.
        let found = match self.first {
            Some((id, _)) => rows.iter().copied().find(|row| row.id == id),
            None => current(&rows, ask.side),
        };
        let decided = self.decide(scene, hand.caller, found).and_then(|(permit, content)| {
            // The masked view answers no value.
            if self.payer.is_some() && content.is_some() {
                spending::spend_value(scene, hand.plan, hand.caller, &ask.purpose)?;
            }
            Ok((permit, content))
        });
        let about_it = |entry: Entry| {
            let entry = Entry {
                purpose: declared(scene, &ask.purpose),
                view: Some(ask.view.as_str().to_owned()),
                reference: ask.reference.as_ref().map(ToString::to_string),
                recipient: ask
                    .recipient
                    .as_ref()
                    .and_then(|name| scene.recipient(name))
                    .map(|row| row.recipient.name.to_string()),
                replay_of: self.first.map(|(_, entry)| (*entry.as_bytes()).into()),
                ..entry
            };
            match found {
                Some(row) => about(VERSION, &row.address, row.id, entry),
                None => entry,
            }
        };
        match (decided, found) {
            (Ok((permit, content)), Some(row)) => {
                let given = permit.consent().map(|id| (*id.as_bytes()).into());
                let entry = match self.first {
                    Some((_, entry)) => entry,
                    None => {
                        hand.log_as(Verdict::Permit, |entry| Entry { consent: given, ..about_it(entry) })?
                    }
                };
                let present = held_sides(&rows);
                let sides = present.iter().map(|held| held.side).collect();
                let side = present.into_iter().find(|held| held.side == row.address.side);
                let side = side.ok_or(Denial::DocumentNotFound)?;
                let field = row.address.record.field.clone();
                let content = content.map(|(key, manifest)| Content {
                    platform: row.address.record.platform,
                    id: row.id,
                    side: row.address.side,
                    permit,
                    key,
                    manifest,
                });
                let head = DocumentHead { field, side, sides, view: ask.view, entry };
                Ok(Deeded::answer(Opened { head, content }))
            }
            (decided, found) => {
                let reason = decided.err().unwrap_or(Denial::DocumentNotFound);
                hand.refuse(reason, about_it)?;
                let told = scene.policy().map_or(reason, |policy| {
                    disclosed(reason, policy, hand.caller, found.map(|row| &row.address.record))
                });
                Ok(Deeded::refused(no_token(told)))
            }
        }
    }
}

/// What the decision calls a token, a caller knows as a document.
fn no_token(denial: Denial) -> Denial {
    if denial == Denial::TokenNotFound { Denial::DocumentNotFound } else { denial }
}

type Decided = (Permit, Option<(SubjectKey, Manifest)>);

impl Read {
    fn decide(
        &self,
        scene: &Scene<'_>,
        caller: &Caller,
        found: Option<&DocumentRow>,
    ) -> Result<Decided, Denial> {
        let (policy, question) = (scene.policy()?, &self.ask);
        let ask = Ask {
            caller,
            purpose: &question.purpose,
            view: question.view,
            recipient: scene.recipient_ask(question.recipient.as_ref()),
            // An image is sent to nobody: a policy has none in a purpose with channels.
            outreach: None,
            reference: question.reference.as_ref(),
        };
        let known = match found {
            None => None,
            Some(row) => {
                let (address, source) = (&row.address.record, row.source);
                let held = Held { address, source, collected_at: row.created_at };
                Some((held, scene.subject(row.address.record.subject)?, TokenFacts::NONE))
            }
        };
        let permit = decide_on(scene, policy, ask, known).map_err(no_token)?;
        let (Some(row), Some((_, subject, _))) = (found, known) else {
            return Err(Denial::DocumentNotFound);
        };
        if permit.must_seal() {
            return Err(Denial::SealRequired);
        }
        if permit.view() != View::Full {
            return Ok((permit, None));
        }
        let key = scene.subject_key(subject)?;
        let manifest = Manifest::open(&key, &row.address, &row.sealed_manifest);
        let manifest = manifest.map_err(|e| scene.damaged("documents", &e))?;
        if manifest.size != row.size {
            return Err(Denial::DataDamaged);
        }
        Ok((permit, Some((key, manifest))))
    }
}

/// [`PART_BYTES`] as a place in the content.
const PART: u64 = 1 << 20;
const _: () = assert!(PART_BYTES == 1 << 20);

/// Where the part ends that a byte lies in.
const fn part_end(at: u64) -> u64 {
    (at / PART + 1) * PART
}

/// The content of a side, read piece by piece as somebody takes it: who takes nothing more holds no memory.
pub struct Reading {
    vault: Arc<Vault>,
    place: Arc<Documents>,
    caller: Arc<Caller>,
    asker: Asker,
    ask: DownloadAsk,
    content: Content,
    /// Bytes that are wanted and there.
    wanted: Range<u64>,
    entry: EntryId,
}

impl Reading {
    /// Where each piece begins, in order.
    pub fn starts(&self) -> impl Iterator<Item = u64> + use<> {
        let end = self.wanted.end;
        std::iter::successors(Some(self.wanted.start), |at| Some(part_end(*at)))
            .take_while(move |at| *at < end)
    }

    /// The piece that begins there: bytes that lie in one part and are wanted. An error ends the content.
    ///
    /// # Errors
    /// [`VaultError`]: what forbids it by now, or a part that is not what was stored, of which nothing is answered.
    pub async fn piece(&self, from: u64) -> Result<Chunk, VaultError> {
        match self.chunk(from).await {
            Err(VaultError::Denied(Denial::DataDamaged)) => Err(self.damaged().await),
            other => other,
        }
    }

    async fn chunk(&self, from: u64) -> Result<Chunk, VaultError> {
        let again = if from > self.wanted.start { self.decide_again().await? } else { None };
        let content = again.as_ref().unwrap_or(&self.content);
        let slot = self.place.room.take().await?;
        let parts = parts_of(content.manifest.size);
        let index = u32::try_from(from / PART).unwrap_or(u32::MAX);
        let at = PartPlace { index, last: index.saturating_add(1) == parts };
        let mut bytes = match self.open(content, at).await {
            // Where it was sealed anew meanwhile, its objects are others.
            Err(VaultError::Denied(Denial::DataDamaged)) => match self.decide_again().await? {
                Some(fresh) if fresh.manifest != content.manifest => self.open(&fresh, at).await?,
                Some(_) | None => return Err(Denial::DataDamaged.into()),
            },
            other => other?,
        };
        // The part was authenticated whole; what is not wanted of it stays here.
        let start = part_end(from) - PART;
        let within = |at: u64| usize::try_from(at - start).unwrap_or(usize::MAX);
        bytes.truncate(within(self.wanted.end.min(part_end(from))));
        let before = within(from).min(bytes.len());
        bytes.drain(..before);
        Ok(Chunk { bytes, slot })
    }

    /// A part, whole and genuine, or nothing of it.
    async fn open(&self, content: &Content, at: PartPlace) -> Result<Zeroizing<Vec<u8>>, VaultError> {
        let position = usize::try_from(at.index).unwrap_or(usize::MAX);
        let listed = content.manifest.parts.get(position).ok_or(Denial::DataDamaged)?;
        let name = PartName { platform: content.platform, upload: content.id, object: listed.object() };
        let found = self.place.parts.get(&name, MAX_SEALED_PART).await;
        let object = match found {
            Ok(Some(object)) => object,
            Ok(None) | Err(BlobError::TooLarge { .. }) => return Err(Denial::DataDamaged.into()),
            Err(error) => return Err(unreadable(error)),
        };
        let opened = content.key.open_part(&content.permit, content.side, at, &listed.salt(), object);
        let opened = opened.map_err(|_| Denial::DataDamaged)?;
        if opened.len() == part_length(content.manifest.size, at.index) {
            Ok(opened)
        } else {
            Err(Denial::DataDamaged.into())
        }
    }

    /// The content as it lies now, if it may still be read.
    async fn decide_again(&self) -> Result<Option<Content>, VaultError> {
        let first = Some((self.content.id, self.entry));
        let read = Read { ask: self.ask.clone(), first, payer: None };
        let again = self.vault.run(self.caller.platform, &self.caller, self.asker.clone(), read);
        again.await.map(|opened| opened.content)
    }

    /// Puts on record that a part is not what was stored.
    async fn damaged(&self) -> VaultError {
        let content = &self.content;
        tracing::error!(
            platform = content.platform.get(),
            upload = %content.id,
            "a stored part of a document fails authentication, or is gone"
        );
        let found = Damaged { ask: self.ask.clone(), id: content.id, entry: self.entry };
        let told = self.vault.run(self.caller.platform, &self.caller, self.asker.clone(), found).await;
        told.err().unwrap_or(VaultError::Unavailable)
    }
}

/// The entry of a part that does not open.
struct Damaged {
    ask: DownloadAsk,
    id: UploadId,
    entry: EntryId,
}

impl Deed for Damaged {
    type Answer = ();

    fn call(&self) -> Call {
        Call::DownloadDocument
    }

    fn changes(&self) -> bool {
        false
    }

    fn reads(&self, _context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        keys.documents.insert(self.ask.document);
        keys.documents_of_found = true;
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<()>, VaultError> {
        let scene = hand.scene;
        let rows = scene.document(self.ask.document).unwrap_or_default();
        let row = rows.into_iter().find(|row| row.id == self.id);
        // Objects are deleted after their rows: where the row is gone too, nothing is damaged.
        let reason = if row.is_some() { Denial::DataDamaged } else { Denial::DocumentNotFound };
        hand.refuse(reason, |entry| {
            let entry = Entry {
                purpose: declared(scene, &self.ask.purpose),
                view: Some(self.ask.view.as_str().to_owned()),
                replay_of: Some((*self.entry.as_bytes()).into()),
                ..entry
            };
            match row {
                Some(row) => about(VERSION, &row.address, row.id, entry),
                None => entry,
            }
        })?;
        Ok(Deeded::refused(reason))
    }
}
