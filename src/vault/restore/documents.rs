//! The last words of a log applied to documents. Their objects lie where they lay: those of rows that are lost are orphans now,
//! which another restore may name again, so the collector is held until an officer lets it go on.

use super::{
    RestoreError,
    newer::{Last, Newer},
    site::{Counts, Site, Step},
};
use crate::{
    domain::{
        ids::{OperationId, PlatformId, UploadId},
        operation::{Operation, OperationKind, OperationState},
    },
    store::{
        GrantingTable, ReadKeys, StoreError, WhichOperations, Write,
        rows::{RecordState, documents::DocumentRow, work::OperationRow},
    },
    vault::{
        access::Call,
        documents::{
            VERSION,
            collect::{OBJECT, SHELVES},
        },
    },
};

/// Rows that one commit changes.
const AT_ONCE: usize = 256;
/// Operations among which an open collection is looked for.
const RECENT: u32 = 64;

impl Site<'_> {
    /// Deletes documents again, and puts versions that were replaced out of use.
    pub(super) async fn apply_documents(
        &mut self,
        newer: &Newer,
        counts: &mut Counts,
    ) -> Result<(), RestoreError> {
        let deleted: Vec<_> = newer.deleted.iter().copied().collect();
        for some in deleted.chunks(AT_ONCE) {
            let mut step = Step::default();
            for id in some {
                step.applied(Call::DeleteDocument.as_str());
                step.writes.push(Write::DeleteDocument(*id));
            }
            self.commit(step, counts).await?;
        }
        let gone = |last: &Last| last.subject.is_some_and(|subject| newer.destroyed.contains_key(&subject));
        let told: Vec<_> = newer.of(GrantingTable::Documents).filter(|(_, last)| !gone(last)).collect();
        for some in told.chunks(AT_ONCE) {
            let subjects = some.iter().filter_map(|(_, last)| last.subject).collect();
            let keys = ReadKeys { subjects, documents_of_found: true, ..ReadKeys::default() };
            let snapshot = self.read(&keys).await?;
            let mut step = Step::default();
            for (id, last) in some {
                let id = UploadId::from_bytes(*id);
                let rows = match last.subject.and_then(|subject| snapshot.documents_of.get(&subject)) {
                    Some(rows) => rows.as_ref().map_err(|damage| StoreError::Damaged(*damage))?.as_slice(),
                    None => &[],
                };
                match rows.iter().find(|row| row.id == id) {
                    Some(row) => self.replaced(row, last, &mut step)?,
                    // One that came since; where it was deleted too, nothing is lost.
                    None => self.lost_version(id, last, newer, &mut step)?,
                }
            }
            self.commit(step, counts).await?;
        }
        self.hold_collector(counts).await
    }

    fn lost_version(
        &self,
        id: UploadId,
        last: &Last,
        newer: &Newer,
        step: &mut Step,
    ) -> Result<(), RestoreError> {
        let deleted = last.document.is_some_and(|document| newer.deleted.contains(&document));
        if deleted { Ok(()) } else { step.lost(self, VERSION, id.as_bytes(), last.subject) }
    }

    fn replaced(&self, row: &DocumentRow, last: &Last, step: &mut Step) -> Result<(), RestoreError> {
        let was = row.mac;
        let stored = Ok(row.clone());
        self.believed(&stored, DocumentRow::image, |row| row.mac)?;
        if last.mac == was {
            return Ok(());
        }
        let mut old = DocumentRow { state: RecordState::Superseded, ..row.clone() };
        old.mac = self.mac(&old.image());
        if old.mac == last.mac {
            step.applied(&last.call);
        } else {
            step.strict(self, VERSION, row.id.as_bytes(), old.mac, &last.call)?;
        }
        step.writes.push(Write::UpdateDocument(old, was));
        Ok(())
    }

    /// A collection that is paused from its beginning: as long as it is open, no other begins.
    async fn hold_collector(&mut self, counts: &mut Counts) -> Result<(), RestoreError> {
        if self.platform == PlatformId::VAULT {
            return Ok(());
        }
        let collections = WhichOperations::OfKind(OperationKind::CollectDocuments);
        let known = self.store.operations(self.platform, collections, RECENT).await?;
        let open = known.into_iter().map(|row| row.operation).find(Operation::is_open);
        let write = if let Some(open) = open {
            let fence = open.fence;
            let next = Operation {
                state: OperationState::Paused,
                fence: fence.saturating_add(1),
                lease_until: None,
                ..open
            };
            Write::UpdateOperation(OperationRow { operation: next }, fence)
        } else {
            let id = OperationId::random(self.rng())?;
            let kind = OperationKind::CollectDocuments;
            let held = Operation::new(id, self.platform, kind, OBJECT, self.now(), SHELVES);
            let operation = Operation { state: OperationState::Paused, ..held };
            Write::InsertOperation(OperationRow { operation })
        };
        let mut step = Step::default();
        step.writes.push(write);
        self.commit(step, counts).await
    }
}
