//! Documents compared with what their own rows say, for a reconciliation: that a row is what its MAC and its manifest are of,
//! that the parts on record are those that the manifest lists, that their objects are there, and, where somebody asked, that
//! each opens at its place and all together are what was uploaded. Nothing is released, and nothing is changed.
//!
//! Rows are read while others write: what differs is read again, and counts where the row stayed as it was.

use std::{collections::BTreeSet, sync::Arc};

use super::{Documents, manifest::Manifest};
use crate::{
    blobs::{BlobError, parts::PartName},
    crypto::{
        aead::OpenError,
        document::{ContentHash, MAX_SEALED_PART, PartPlace},
        keyring::KeyKind,
    },
    domain::ids::{PlatformId, UploadId},
    store::{
        Damage, ReadKeys, Snapshot, Store, StoreError,
        rows::{config::KeyVersionRow, documents::DocumentRow},
    },
    vault::{
        context::Context,
        error::{VaultError, unreadable},
        reconcile::{Problem, RowFinding},
    },
};

/// Rows of one page: each may bring a hundred parts.
const AT_ONCE: u32 = 64;
/// How often a row is judged that others change meanwhile.
const TRIES: u32 = 3;

const ROWS: &str = "documents";
const PARTS: &str = "document_parts";
/// Objects, which lie in no table.
const OBJECTS: &str = "document_objects";

type Row = (UploadId, Result<DocumentRow, Damage>);

/// Why documents could not be compared.
pub(in crate::vault) enum CheckError {
    Store(StoreError),
    Refused(VaultError),
}

impl From<StoreError> for CheckError {
    fn from(error: StoreError) -> Self {
        Self::Store(error)
    }
}

/// What a page came to.
pub(in crate::vault) struct Checked {
    pub(in crate::vault) found: Vec<RowFinding>,
    /// Where the next one begins; none after the last.
    pub(in crate::vault) next: Option<UploadId>,
}

/// A look at the documents of a platform.
pub(in crate::vault) struct Check {
    store: Arc<dyn Store>,
    /// None where this process has no place for documents: then rows alone are compared.
    place: Option<Arc<Documents>>,
    platform: PlatformId,
    /// Whether each object is opened, or looked for alone.
    contents: bool,
    /// The shelf that was listed last.
    shelf: Option<(u8, BTreeSet<PartName>)>,
}

impl Check {
    pub(in crate::vault) const fn new(
        store: Arc<dyn Store>,
        place: Option<Arc<Documents>>,
        platform: PlatformId,
        contents: bool,
    ) -> Self {
        Self { store, place, platform, contents, shelf: None }
    }

    /// Compares versions of sides from an id on.
    pub(in crate::vault) async fn page(
        &mut self,
        context: &Context,
        from: UploadId,
    ) -> Result<Checked, CheckError> {
        let rows = self.store.documents_between(self.platform, (from, last_id()), AT_ONCE).await?;
        let subjects = self.subjects(&rows).await?;
        let mut found = Vec::new();
        for row in &rows {
            if !self.judge(context, row, &subjects).await?.is_empty() {
                found.extend(self.judge_again(context, row.0).await?);
            }
        }
        let full = rows.len() == usize::try_from(AT_ONCE).unwrap_or(usize::MAX);
        let next = rows.last().filter(|_| full).and_then(|(id, _)| after(*id));
        Ok(Checked { found, next })
    }

    /// What differs of a row that stayed as it was.
    async fn judge_again(&mut self, context: &Context, id: UploadId) -> Result<Vec<RowFinding>, CheckError> {
        for _ in 0..TRIES {
            let Some(row) = self.row(id).await? else { break };
            let subjects = self.subjects(std::slice::from_ref(&row)).await?;
            let found = self.judge(context, &row, &subjects).await?;
            if found.is_empty() || self.row(id).await?.is_some_and(|now| is_same(&now, &row)) {
                return Ok(found);
            }
        }
        // Gone, or always another: the next reconciliation meets it.
        Ok(Vec::new())
    }

    async fn row(&self, id: UploadId) -> Result<Option<Row>, StoreError> {
        Ok(self.store.documents_between(self.platform, (id, id), 1).await?.pop())
    }

    /// The subjects of rows, for their keys.
    async fn subjects(&self, rows: &[Row]) -> Result<Snapshot, StoreError> {
        let of = |(_, row): &Row| row.as_ref().ok().map(|row| row.address.record.subject);
        let subjects = rows.iter().filter_map(of).collect();
        self.store.read(self.platform, &ReadKeys { subjects, ..ReadKeys::default() }).await
    }

    async fn judge(
        &mut self,
        context: &Context,
        (id, row): &Row,
        subjects: &Snapshot,
    ) -> Result<Vec<RowFinding>, CheckError> {
        let edited = || Ok(vec![finding(ROWS, id.as_bytes(), Problem::Edited)]);
        let Ok(row) = row else { return edited() };
        let keys = &context.keys;
        if keys.row.verify(&row.image(), &row.mac).is_err() {
            return edited();
        }
        let subject = row.address.record.subject;
        let wrapped = subjects.subjects.get(&subject).and_then(|row| row.as_ref().ok());
        let Some(wrapped) = wrapped.and_then(|row| row.wrapped_key.as_ref()) else {
            // Without a subject or its key, the log tells what is wrong.
            return Ok(Vec::new());
        };
        let key = match keys.unwrap(subject, wrapped) {
            Ok(key) => key,
            // Its version is disabled by an officer, or could not be loaded by this process, which its health tells. That is
            // no edit, and whoever has the version judges the row.
            Err(OpenError::DisabledKeyVersion(_)) => return Ok(Vec::new()),
            Err(OpenError::UnknownKeyVersion(version)) if is_on_record(context, version) => {
                return Ok(Vec::new());
            }
            Err(OpenError::UnknownKeyVersion(_) | OpenError::Malformed | OpenError::Forged) => {
                return Ok(vec![finding("subjects", subject.as_bytes(), Problem::Edited)]);
            }
        };
        let manifest = match Manifest::open(&key, &row.address, &row.sealed_manifest) {
            Ok(manifest) if manifest.size == row.size => manifest,
            Ok(_) | Err(_) => return edited(),
        };
        let mut found = self.judge_parts(*id, &manifest).await?;
        let Some(place) = self.place.clone() else { return Ok(found) };
        let count = u32::try_from(manifest.parts.len()).unwrap_or(u32::MAX);
        let (mut hash, mut whole) = (ContentHash::default(), true);
        for (index, part) in (0..).zip(&manifest.parts) {
            let name = PartName { platform: self.platform, upload: *id, object: part.object() };
            let problem = if self.contents {
                let _slot = place.room.take().await.map_err(CheckError::Refused)?;
                match find(&place, &name).await? {
                    Found::Missing => Some(Problem::Missing),
                    Found::TooLarge => Some(Problem::Edited),
                    Found::Bytes(bytes) => {
                        let at = PartPlace { index, last: index.saturating_add(1) == count };
                        let opened = key.hash_part(&row.address, at, bytes, &mut hash);
                        let is_listed = opened.is_ok_and(|(salt, _)| salt == part.salt());
                        (!is_listed).then_some(Problem::Edited)
                    }
                }
            } else if self.is_listed(&place, &name).await?
                || !matches!(find(&place, &name).await?, Found::Missing)
            {
                // Listed, or come since the list was made.
                None
            } else {
                Some(Problem::Missing)
            };
            whole &= problem.is_none();
            found.extend(problem.map(|problem| finding(OBJECTS, part.object().as_bytes(), problem)));
        }
        if self.contents && whole && !hash.is(&manifest.sha256) {
            return edited();
        }
        Ok(found)
    }

    /// Parts on record against those of the manifest.
    async fn judge_parts(&self, id: UploadId, manifest: &Manifest) -> Result<Vec<RowFinding>, StoreError> {
        let stored = self.store.parts_of(self.platform, id).await?;
        let mut found = Vec::new();
        for (position, part) in (0_u32..).zip(&manifest.parts) {
            let is_there = stored.iter().any(|row| row.position == position && row.object == part.object());
            if !is_there {
                found.push(finding(PARTS, part.object().as_bytes(), Problem::Missing));
            }
        }
        for row in &stored {
            let at = usize::try_from(row.position).unwrap_or(usize::MAX);
            if manifest.parts.get(at).is_none_or(|part| part.object() != row.object) {
                found.push(finding(PARTS, row.object.as_bytes(), Problem::Unknown));
            }
        }
        Ok(found)
    }

    /// Whether an object is on its shelf, which is listed once for all that lies there.
    async fn is_listed(&mut self, place: &Documents, name: &PartName) -> Result<bool, CheckError> {
        let first = name.upload.as_bytes().first().copied().unwrap_or_default();
        if self.shelf.as_ref().is_none_or(|(listed, _)| *listed != first) {
            let listed = place.parts.shelf(self.platform, first).await.map_err(refused)?;
            self.shelf = Some((first, listed.into_iter().collect()));
        }
        Ok(self.shelf.as_ref().is_some_and(|(_, names)| names.contains(name)))
    }
}

fn is_on_record(context: &Context, version: u32) -> bool {
    let of_platform = |row: &KeyVersionRow| row.kind == KeyKind::Platform.as_str();
    context.key_rows().iter().any(|row| of_platform(row) && row.version == version)
}

enum Found {
    Missing,
    TooLarge,
    Bytes(Vec<u8>),
}

async fn find(place: &Documents, name: &PartName) -> Result<Found, CheckError> {
    match place.parts.get(name, MAX_SEALED_PART).await {
        Ok(None) => Ok(Found::Missing),
        Ok(Some(bytes)) => Ok(Found::Bytes(bytes)),
        Err(BlobError::TooLarge { .. }) => Ok(Found::TooLarge),
        Err(error) => Err(refused(error)),
    }
}

fn refused(error: BlobError) -> CheckError {
    CheckError::Refused(unreadable(error))
}

fn finding(table: &'static str, object: &[u8; 16], problem: Problem) -> RowFinding {
    RowFinding { table, object: object.to_vec(), problem }
}

/// Whether nothing of a row changed: a rekey leaves its MAC as it was, and brings another manifest.
fn is_same((_, now): &Row, (_, before): &Row) -> bool {
    match (now, before) {
        (Ok(now), Ok(before)) => {
            now.mac == before.mac && now.sealed_manifest.as_bytes() == before.sealed_manifest.as_bytes()
        }
        (Err(_), Err(_)) => true,
        _ => false,
    }
}

/// The least id.
pub(in crate::vault) const fn first_id() -> UploadId {
    UploadId::from_bytes([0; 16])
}

const fn last_id() -> UploadId {
    UploadId::from_bytes([u8::MAX; 16])
}

/// The next id; none after the greatest.
fn after(id: UploadId) -> Option<UploadId> {
    let next = u128::from_be_bytes(*id.as_bytes()).checked_add(1)?;
    Some(UploadId::from_bytes(next.to_be_bytes()))
}
