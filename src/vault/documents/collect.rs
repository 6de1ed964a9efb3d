//! The collector: what broken uploads and a killed process left in the document store is deleted, and what is missing there
//! is reported. It is an operation that goes shelf by shelf, so that it ends nothing twice and any process carries it on.
//!
//! An object is an orphan where no row names it and its upload is not open. An upload is on record before its first object is
//! there, and the rows are read after the list of objects, so nothing that is on its way is taken for one.

use std::collections::{BTreeMap, BTreeSet};

use super::{Documents, VERSION, object_of};
use crate::{
    audit::entry::{Entry, Verdict},
    blobs::{BlobError, parts::PartName},
    crypto::document::MAX_SEALED_PART,
    domain::{
        caller::Caller,
        ids::{EntryId, OperationId, PlatformId, UploadId},
        operation::{Operation, OperationKind, OperationState},
        time::Timestamp,
    },
    policy::decide::Denial,
    store::{
        StoreError, WhichOperations, Write,
        rows::documents::{PartRow, UploadRow},
    },
    vault::{
        Vault,
        access::Call,
        act::{Act, Asker, Flow, Plan, Reply, Scene, reply},
        deed::{Deed, Deeded, Hand},
        error::{VaultError, unreadable},
        held::{Calls, Progressing, Step},
        operations::begun_before,
        replay::ItemOutcome,
        tokenize::unavailable,
    },
};

/// Shelves of a platform: the first byte of an upload's id.
pub(in crate::vault) const SHELVES: u64 = 256;
/// Operations among which an open collection is looked for.
const RECENT: u32 = 64;
/// The one collection that a platform has at a time.
pub(in crate::vault) const OBJECT: [u8; 16] = *b"documents       ";

const COLLECT: &str = "Operation/CollectDocuments";
const CALLS: Calls = Calls { progress: COLLECT, end: COLLECT };

/// What a collection found, or would delete.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Collected {
    /// Objects that there are.
    pub objects: u64,
    /// Uploads whose time has ended.
    pub expired: u64,
    /// Objects that no row names.
    pub orphans: u64,
    /// Parts of which the object is gone: damage.
    pub missing: u64,
}

impl Collected {
    fn add(&mut self, more: &Self) {
        self.objects += more.objects;
        self.expired += more.expired;
        self.orphans += more.orphans;
        self.missing += more.missing;
    }
}

/// Why a collection stopped.
#[derive(Debug, thiserror::Error)]
enum CollectError {
    #[error(transparent)]
    Place(#[from] BlobError),
    #[error(transparent)]
    Store(#[from] StoreError),
    #[error("the platform's log could not be written")]
    Log(#[from] VaultError),
}

impl Vault {
    /// Begins a collection on a platform.
    ///
    /// # Errors
    /// [`VaultError`]; [`Denial::CollectionRunning`] where one is not done yet, or is held since a restore.
    pub async fn collect_documents(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
    ) -> Result<Operation, VaultError> {
        let platform = self.target(caller, &asker, Call::CollectDocuments, platform).await?;
        let recent = self
            .shared
            .store
            .operations(platform, WhichOperations::OfKind(OperationKind::CollectDocuments), RECENT)
            .await;
        let known = recent.map_err(unavailable)?.into_iter().map(|row| row.operation).collect();
        let start = Start { known, configured: self.documents.is_some() };
        self.run(platform, caller, asker, start).await
    }

    /// What a collection would find now. Nothing is changed.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn survey_documents(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
    ) -> Result<Collected, VaultError> {
        let platform = self.target(caller, &asker, Call::CollectDocuments, platform).await?;
        self.run(platform, caller, asker, Survey).await?;
        let (place, mut found) = (self.place()?, Collected::default());
        for first in 0..=u8::MAX {
            let look = Look::of(self, &place, platform, first).await.map_err(unreadable)?;
            found.add(&look.counts());
        }
        Ok(found)
    }

    /// Works on a collection until it ends, or is paused or somebody else's.
    ///
    /// # Errors
    /// [`VaultError`]; whoever takes the operation next goes on with it.
    pub(in crate::vault) async fn collect(&self, operation: &Operation) -> Result<(), VaultError> {
        let Some(place) = self.documents.clone() else {
            tracing::error!(operation = %operation.id, "a collection waits, and no [documents] place is configured");
            return Ok(());
        };
        let Some(mut taken) = self.hold_step(operation.clone(), Step::Take, CALLS).await? else {
            return Ok(());
        };
        self.drop_left_ready(operation.platform).await?;
        let (mut found, mut telling) = (Collected::default(), Progressing::default());
        for first in 0..=u8::MAX {
            match self.collect_shelf(&place, &taken, first).await {
                Ok(some) => found.add(&some),
                Err(error) => {
                    tell_failure(&taken, &error);
                    return self.end_collection(taken, OperationState::Failed).await;
                }
            }
            if telling.is_due() {
                let step = Step::Progress { done: u64::from(first) + 1, total: SHELVES };
                match self.hold_step(taken, step, CALLS).await? {
                    Some(next) => taken = next,
                    // Paused, cancelled or taken: what was collected is collected.
                    None => return Ok(()),
                }
            }
        }
        tracing::info!(
            operation = %taken.id,
            objects = found.objects,
            expired = found.expired,
            orphans = found.orphans,
            missing = found.missing,
            "a collection of documents ended"
        );
        let taken = Operation { done: SHELVES, total: SHELVES, ..taken };
        // Damage is no good end: somebody must look.
        let state = if found.missing == 0 { OperationState::Done } else { OperationState::Failed };
        self.end_collection(taken, state).await
    }

    async fn end_collection(&self, taken: Operation, state: OperationState) -> Result<(), VaultError> {
        self.hold_step(taken, Step::End(state), CALLS).await.map(drop)
    }

    async fn collect_shelf(
        &self,
        place: &Documents,
        operation: &Operation,
        first: u8,
    ) -> Result<Collected, CollectError> {
        let look = Look::of(self, place, operation.platform, first).await?;
        let found = look.counts();
        if !(look.expired.is_empty() && look.missing.is_empty() && look.orphans.is_empty()) {
            // On record first: what is deleted without an entry was never there.
            self.tell_found(operation, &look).await?;
        }
        for orphan in &look.orphans {
            place.parts.delete(orphan).await?;
        }
        if !look.expired.is_empty() {
            self.sweep_parts(operation.platform).await;
        }
        Ok(found)
    }

    async fn tell_found(&self, operation: &Operation, look: &Look) -> Result<(), VaultError> {
        let (reply, waiting) = reply();
        let act = Tell {
            operation: operation.id,
            expired: look.expired.clone(),
            orphans: u64::try_from(look.orphans.len()).unwrap_or(u64::MAX),
            missing: look.missing.clone(),
            reply,
        };
        self.platform(operation.platform)?.lane.submit(act)?;
        waiting.answer().await
    }
}

fn tell_failure(operation: &Operation, error: &CollectError) {
    let error: &(dyn std::error::Error + 'static) = error;
    tracing::error!(operation = %operation.id, error, "a collection of documents failed");
}

/// One shelf as it is.
struct Look {
    objects: u64,
    expired: Vec<UploadRow>,
    orphans: Vec<PartName>,
    missing: Vec<PartRow>,
}

impl Look {
    async fn of(
        vault: &Vault,
        place: &Documents,
        platform: PlatformId,
        first: u8,
    ) -> Result<Self, CollectError> {
        let store = vault.shared.store.as_ref();
        // The objects first: a row that names one of them is there before or with it.
        let listed: BTreeSet<PartName> = place.parts.shelf(platform, first).await?.into_iter().collect();
        let at = |rest: u8| {
            let mut id = [rest; 16];
            id[0] = first;
            UploadId::from_bytes(id)
        };
        let range = (at(0), at(u8::MAX));
        let uploads = store.uploads_between(platform, range).await?;
        let parts = store.parts_between(platform, range).await?;
        let now: Timestamp = vault.shared.clock.now();
        let (expired, open): (Vec<_>, Vec<_>) = uploads.into_iter().partition(|row| row.expires_at <= now);
        let open: BTreeSet<UploadId> = open.into_iter().map(|row| row.id).collect();
        let ended: BTreeSet<UploadId> = expired.iter().map(|row| row.id).collect();
        let named: BTreeMap<PartName, PartRow> =
            parts.into_iter().map(|row| (object_of(&row), row)).collect();
        let orphan = |name: &&PartName| {
            !open.contains(&name.upload) && (!named.contains_key(name) || ended.contains(&name.upload))
        };
        let orphans: Vec<_> = listed.iter().filter(orphan).copied().collect();
        let mut missing = Vec::new();
        for (name, row) in named.iter().filter(|(name, _)| !listed.contains(name)) {
            // It may have come after the list was made, or gone with its row.
            if ended.contains(&name.upload) || place.parts.get(name, MAX_SEALED_PART).await?.is_some() {
                continue;
            }
            if store.parts_of(platform, name.upload).await?.contains(row) {
                missing.push(*row);
            }
        }
        Ok(Self { objects: u64::try_from(listed.len()).unwrap_or(u64::MAX), expired, orphans, missing })
    }

    fn counts(&self) -> Collected {
        let count = |some: usize| u64::try_from(some).unwrap_or(u64::MAX);
        Collected {
            objects: self.objects,
            expired: count(self.expired.len()),
            orphans: count(self.orphans.len()),
            missing: count(self.missing.len()),
        }
    }
}

/// What was found, on record; uploads whose time has ended go with it.
struct Tell {
    operation: OperationId,
    expired: Vec<UploadRow>,
    orphans: u64,
    missing: Vec<PartRow>,
    reply: Reply<()>,
}

impl Act for Tell {
    fn writes(&self) -> bool {
        true
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_abandoned()
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        let entry = |kind: &str, object: &[u8]| {
            let id = EntryId::random(scene.rng()).map_err(unavailable)?;
            Ok::<_, VaultError>(Entry {
                object_kind: Some(kind.to_owned()),
                object: Some(object.to_vec()),
                ..Entry::new(id, scene.now, scene.context.platform, COLLECT, Verdict::Done)
            })
        };
        for row in &self.expired {
            scene.keys().row.verify(&row.image(), &row.mac).map_err(|e| scene.damaged("uploads", &e))?;
            plan.entries.push(entry("upload", row.id.as_bytes())?);
            plan.writes.push(Write::DropUpload(row.clone()));
        }
        if self.orphans > 0 {
            let told = entry("operation", self.operation.as_bytes())?;
            plan.entries.push(Entry { count: Some(self.orphans), ..told });
        }
        for part in &self.missing {
            tracing::error!(
                platform = scene.context.platform.get(),
                upload = %part.upload,
                position = part.position,
                "an object of a document is gone"
            );
            let told = entry(VERSION, part.upload.as_bytes())?;
            plan.entries.push(Entry {
                verdict: Verdict::Deny.as_str().to_owned(),
                reason: Some(Denial::DataDamaged.as_str().to_owned()),
                ..told
            });
        }
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        self.reply.send(outcome);
    }
}

struct Survey;

impl Deed for Survey {
    type Answer = ();

    fn call(&self) -> Call {
        Call::CollectDocuments
    }

    fn changes(&self) -> bool {
        false
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<()>, VaultError> {
        hand.log(|entry| entry)?;
        Ok(Deeded::answer(()))
    }
}

struct Start {
    /// Collections that there were.
    known: Vec<Operation>,
    configured: bool,
}

impl Deed for Start {
    type Answer = Operation;

    fn call(&self) -> Call {
        Call::CollectDocuments
    }

    fn changes(&self) -> bool {
        true
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Operation>, VaultError> {
        if !self.configured {
            return Err(Denial::DocumentsNotConfigured.into());
        }
        if self.known.iter().any(Operation::is_open) {
            return Err(Denial::CollectionRunning.into());
        }
        let id = OperationId::random(hand.scene.rng()).map_err(unavailable)?;
        let (platform, now) = (hand.scene.context.platform, hand.scene.now);
        let kind = OperationKind::CollectDocuments;
        let operation = Operation::new(id, platform, kind, OBJECT, now, SHELVES);
        hand.begin(operation, "operation")
    }

    fn again(&self, _hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<Operation, VaultError> {
        begun_before(&self.known, before)
    }
}
