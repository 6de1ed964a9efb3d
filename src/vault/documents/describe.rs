//! What is held of documents, without their content; and how far an upload is.

use super::{about, current};
use crate::{
    audit::entry::Entry,
    domain::{
        caller::Caller,
        document::{MediaType, PART_BYTES, Side},
        field::FieldType,
        ids::{DocumentId, RequestId, SubjectId},
        names::{FieldName, PurposeName},
        subject::ValueSource,
        time::Timestamp,
    },
    policy::{decide::Denial, model::Policy},
    store::{ReadKeys, rows::documents::DocumentRow},
    vault::{
        Vault,
        access::Call,
        act::{Asker, Scene},
        context::Context,
        deed::{Deed, Deeded, Hand},
        error::VaultError,
        replay::ItemOutcome,
        subjects::SubjectName,
    },
};

/// A document.
#[derive(Debug, Clone)]
pub struct DocumentView {
    /// The set.
    pub id: DocumentId,
    /// Whose.
    pub subject: SubjectId,
    /// Field.
    pub field: FieldName,
    /// Its type.
    pub field_type: FieldType,
    /// Sides that are held, in their present versions.
    pub sides: Vec<HeldSide>,
    /// Purposes of the caller that cover the field.
    pub purposes: Vec<PurposeName>,
}

/// A side that is held.
#[derive(Debug, Clone, Copy)]
pub struct HeldSide {
    /// Side.
    pub side: Side,
    /// Version that is read.
    pub version: u32,
    /// Versions that are held, those that were replaced among them.
    pub versions: u32,
    /// What it is.
    pub media_type: MediaType,
    /// Bytes.
    pub size: u64,
    /// Where it came from.
    pub source: ValueSource,
    /// When this version was stored.
    pub created_at: Timestamp,
}

impl DocumentView {
    /// Whether every side of its type is held.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.field_type.sides().iter().all(|side| self.sides.iter().any(|held| held.side == *side))
    }

    fn of(scene: &Scene<'_>, caller: &Caller, rows: &[&DocumentRow]) -> Result<Self, Denial> {
        let policy = scene.policy()?;
        let address = &rows.first().ok_or(Denial::DocumentNotFound)?.address;
        let field = &address.record.field;
        if !may_see(policy, caller, field) {
            return Err(Denial::DocumentNotFound);
        }
        let covering = policy.purposes_of(caller).filter(|(_, purpose)| purpose.covers(field));
        Ok(Self {
            id: address.document(),
            subject: address.record.subject,
            field: field.clone(),
            field_type: policy.field(field).ok_or(Denial::FieldNotAllowed)?.field_type,
            sides: held_sides(rows),
            purposes: covering.map(|(name, _)| name.clone()).collect(),
        })
    }
}

/// The sides of a set, each in its present version.
pub(super) fn held_sides(rows: &[&DocumentRow]) -> Vec<HeldSide> {
    let held = |side: &Side| {
        let row = current(rows, *side)?;
        let versions = rows.iter().filter(|row| row.address.side == *side).count();
        Some(HeldSide {
            side: *side,
            version: row.address.record.version,
            versions: u32::try_from(versions).unwrap_or(u32::MAX),
            media_type: row.media_type,
            size: row.size,
            source: row.source,
            created_at: row.created_at,
        })
    };
    Side::ALL.iter().filter_map(held).collect()
}

/// A caller that stores the field, that reads it, or that manages subjects; staff by its role.
fn may_see(policy: &Policy, caller: &Caller, field: &FieldName) -> bool {
    caller.person.is_some()
        || policy.may_manage_subjects(caller)
        || policy.field(field).is_some_and(|declared| policy.may_collect(caller, declared))
        || policy.purposes_of(caller).any(|(_, purpose)| purpose.covers(field))
}

impl Vault {
    /// Describes a document.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn describe_document(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        document: DocumentId,
    ) -> Result<DocumentView, VaultError> {
        let platform = self.target(caller, &asker, Call::DescribeDocument, platform).await?;
        self.run(platform, caller, asker, Describe(document)).await
    }

    /// Documents of a subject that the caller may see, by field.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn list_documents(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        subject: SubjectName,
    ) -> Result<Vec<DocumentView>, VaultError> {
        let platform = self.target(caller, &asker, Call::ListDocuments, platform).await?;
        self.run(platform, caller, asker, List(subject)).await
    }

    /// How many bytes of the caller's own upload are durable: where its next stream begins.
    ///
    /// # Errors
    /// [`Denial::UploadNotFound`], also where it is done or its time has ended.
    pub async fn query_upload(
        &self,
        caller: &Caller,
        asker: Asker,
        request: RequestId,
    ) -> Result<(u64, Timestamp), VaultError> {
        let query = Query { request, caller: caller.id };
        self.run(caller.platform, caller, asker, query).await
    }
}

struct Describe(DocumentId);

impl Deed for Describe {
    type Answer = DocumentView;

    fn call(&self) -> Call {
        Call::DescribeDocument
    }

    fn changes(&self) -> bool {
        false
    }

    fn reads(&self, _context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        keys.documents.insert(self.0);
        keys.documents_of_found = true;
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<DocumentView>, VaultError> {
        let scene = hand.scene;
        let view = DocumentView::of(scene, hand.caller, &scene.document(self.0)?)?;
        hand.log(|entry| Entry {
            field: Some(view.field.to_string()),
            subject: Some((*view.subject.as_bytes()).into()),
            record: Some((*view.id.as_bytes()).into()),
            ..entry
        })?;
        Ok(Deeded::answer(view))
    }
}

struct List(SubjectName);

impl Deed for List {
    type Answer = Vec<DocumentView>;

    fn call(&self) -> Call {
        Call::ListDocuments
    }

    fn changes(&self) -> bool {
        false
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        self.0.reads(context, keys);
        keys.documents_of_found = true;
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Vec<DocumentView>>, VaultError> {
        let scene = hand.scene;
        let subject = self.0.find(scene)?;
        let rows = scene.documents_of(subject.id)?;
        let mut sets: Vec<DocumentId> = rows.iter().map(|row| row.address.document()).collect();
        sets.sort_unstable();
        sets.dedup();
        let mut views = Vec::new();
        for id in sets {
            let of_set: Vec<_> = rows.iter().filter(|row| row.address.document() == id).collect();
            match DocumentView::of(scene, hand.caller, &of_set) {
                Ok(view) => views.push(view),
                // One whose field the caller has nothing to do with, or that the policy no longer declares.
                Err(Denial::DocumentNotFound | Denial::FieldNotAllowed) => {}
                Err(other) => return Err(other.into()),
            }
        }
        views.sort_by(|a, b| a.field.cmp(&b.field));
        hand.log(|entry| Entry { subject: Some((*subject.id.as_bytes()).into()), ..entry })?;
        Ok(Deeded::answer(views))
    }
}

struct Query {
    request: RequestId,
    caller: crate::domain::ids::CallerId,
}

impl Deed for Query {
    type Answer = (u64, Timestamp);

    fn call(&self) -> Call {
        Call::QueryUpload
    }

    fn changes(&self) -> bool {
        false
    }

    fn reads(&self, _context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        keys.uploads.insert((self.caller, self.request));
        keys.documents_of_found = true;
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<(u64, Timestamp)>, VaultError> {
        let scene = hand.scene;
        let mut found = None;
        for subject in scene.snapshot.uploads_of.keys() {
            let open = scene.uploads_of(*subject)?;
            let ours = open.iter().find(|row| row.caller == self.caller && row.request == self.request);
            found = found.or(ours);
        }
        let row = found.filter(|row| row.expires_at > scene.now).ok_or(Denial::UploadNotFound)?;
        hand.log(|entry| about("upload", &row.address, row.id, entry))?;
        let part = u64::try_from(PART_BYTES).unwrap_or(u64::MAX);
        let durable = u64::from(row.parts).saturating_mul(part).min(row.size);
        Ok(Deeded::answer((durable, row.expires_at)))
    }
}
