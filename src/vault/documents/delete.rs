//! Deletion of a document: the whole set, every side and version, at once (rule R23).

use super::DELETED;
use crate::{
    audit::entry::Entry,
    domain::{
        caller::Caller,
        consent::SubjectState,
        ids::{CallerId, DocumentId},
        operation::BudgetKind,
        reference::Reference,
        time::Timestamp,
    },
    policy::decide::Denial,
    store::{ReadKeys, Write},
    vault::{
        Vault,
        access::Call,
        act::{Asker, Claim},
        context::Context,
        deed::{Deed, Deeded, Hand},
        error::VaultError,
        replay::ItemOutcome,
        spending,
        subjects::may_manage,
    },
};

impl Vault {
    /// Deletes a document. It spends the caller's budget of erasures, and is refused while the subject is blocked.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn delete_document(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        document: DocumentId,
        reference: Option<Reference>,
    ) -> Result<Timestamp, VaultError> {
        let platform = self.target(caller, &asker, Call::DeleteDocument, platform).await?;
        let deed = Delete { document, reference, caller: caller.id, asked_at: self.shared.clock.now() };
        let deleted = self.run(platform, caller, asker, deed).await?;
        // The answer waits for a few objects, and for no place that does not answer: what is left, the worker deletes.
        self.sweep_some_parts(platform).await;
        Ok(deleted)
    }
}

struct Delete {
    document: DocumentId,
    reference: Option<Reference>,
    caller: CallerId,
    asked_at: Timestamp,
}

impl Deed for Delete {
    type Answer = Timestamp;

    fn call(&self) -> Call {
        Call::DeleteDocument
    }

    fn changes(&self) -> bool {
        true
    }

    fn tightens(&self) -> bool {
        true
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        keys.documents.insert(self.document);
        keys.documents_of_found = true;
        spending::reads(context, self.caller, BudgetKind::Erasure, self.asked_at, keys);
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Timestamp>, VaultError> {
        let scene = hand.scene;
        may_manage(scene, hand.caller)?;
        let rows = scene.document(self.document)?;
        let record = &rows.first().ok_or(Denial::DocumentNotFound)?.address.record;
        let subject = scene.subject(record.subject)?;
        match subject.state {
            SubjectState::Active => {}
            SubjectState::Restricted => return Err(Denial::SubjectRestricted.into()),
            SubjectState::Erased => return Err(Denial::SubjectErased.into()),
        }
        if !hand.plan.claim(Claim::Document(subject.id, record.field.clone())) {
            return Ok(Deeded::Later);
        }
        // A stolen certificate must not burn a country in a minute.
        spending::spend(scene, hand.plan, hand.caller, BudgetKind::Erasure)?;
        hand.log(|entry| Entry {
            field: Some(record.field.to_string()),
            subject: Some((*subject.id.as_bytes()).into()),
            record: Some((*self.document.as_bytes()).into()),
            object_kind: Some(DELETED.to_owned()),
            object: Some(DocumentId::as_bytes(&self.document).to_vec()),
            reference: self.reference.as_ref().map(ToString::to_string),
            ..entry
        })?;
        hand.plan.tightens = true;
        hand.plan.writes.push(Write::DeleteDocument(self.document));
        let numbers = vec![scene.now.as_micros()];
        Ok(Deeded::changed(scene.now, ItemOutcome { numbers, ..ItemOutcome::default() }))
    }

    fn again(&self, hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<Timestamp, VaultError> {
        may_manage(hand.scene, hand.caller)?;
        Ok(before.time(0)?)
    }
}
