//! Receipts of erasures. Each is stated and signed in the commit that does what it states, so there is no erasure without
//! one; the proof that its entry is in the log is made when somebody asks, up to the head of then.

use std::sync::Arc;

use super::{
    Vault,
    access::Call,
    act::{Asker, Scene},
    audit_log::unreadable,
    context::Context,
    deed::{Deed, Deeded, Hand},
    error::VaultError,
    heads::Signatory,
    replay::ItemOutcome,
    stored_log::{StoredLog, bad_entry, decoded},
    subjects::{SubjectName, may_manage},
    tokenize::unavailable,
};
use crate::{
    audit::{
        entry::Entry,
        proof::Question,
        receipt::{BadReceipt, Receipt, Statement, Told},
    },
    crypto::audit_key::AuditKey,
    domain::{
        caller::Caller,
        ids::{EntryId, PlatformId, SubjectId},
        names::PlatformName,
        receipt::ReceiptKind,
        time::Timestamp,
    },
    store::{
        ReadKeys, StoreError, Write,
        rows::{SubjectRow, log::ReceiptRow},
    },
};

const ENTRIES_AT_ONCE: u32 = 1_000;
/// An erasure has at most two receipts: its own, and that of its end.
const OF_ONE_ERASURE: u32 = 2;

/// A receipt as it is given.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ErasureReceipt {
    /// What of.
    pub kind: ReceiptKind,
    /// When that happened.
    pub at: Timestamp,
    /// The entry of the log.
    pub entry: EntryId,
    /// The receipt to keep, in JSON.
    pub document: String,
}

/// Whoever states what was done on a platform.
pub(super) struct Stating<'a> {
    pub(super) signatory: &'a Signatory,
    /// The audit key that signs now.
    pub(super) key: &'a Arc<AuditKey>,
    pub(super) name: &'a PlatformName,
    /// Days after which no backup is restored.
    pub(super) horizon_days: Option<u32>,
}

impl Stating<'_> {
    /// The receipt of what an entry did with a subject; of its being called off, as the subject was before.
    pub(super) fn receipt(
        &self,
        kind: ReceiptKind,
        (entry, at): (EntryId, Timestamp),
        erased: &SubjectRow,
    ) -> Result<Write, BadReceipt> {
        let told = Told {
            origin: self.signatory.origin(self.name),
            subject: erased.id,
            erased_at: erased.erased_at.unwrap_or(at),
            destroy_at: erased.destroy_at.unwrap_or(at),
            horizon_days: self.horizon_days,
        };
        let statement = Statement::new(kind, entry, at, told).sign(&**self.key)?;
        let (platform, subject) = (erased.platform, erased.id);
        Ok(Write::InsertReceipt(ReceiptRow { platform, entry, subject, kind, statement, created_at: at }))
    }
}

impl Scene<'_> {
    /// The receipt of what an entry of this batch does with a subject.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] where it cannot be signed: nothing is done then.
    pub(super) fn receipt(
        &self,
        kind: ReceiptKind,
        entry: EntryId,
        erased: &SubjectRow,
    ) -> Result<Write, VaultError> {
        let horizon_days = self.shared.options.backup_horizon_days;
        let signatory = self.shared.signatory().map_err(unavailable)?;
        let key = signatory.active_key().map_err(unavailable)?;
        let stating = Stating { signatory: &signatory, key, name: self.name, horizon_days };
        stating.receipt(kind, (entry, self.now), erased).map_err(unavailable)
    }
}

impl Vault {
    /// The receipts of a subject's last erasure, oldest first; none where it was never erased.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn erasure_receipts(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        subject: SubjectName,
    ) -> Result<Vec<ErasureReceipt>, VaultError> {
        let platform = self.target(caller, &asker, Call::GetErasureReceipts, platform).await?;
        let id = self.run(platform, caller, asker, Ask(subject)).await?;
        let stored = self.shared.store.receipts(platform, id, OF_ONE_ERASURE).await.map_err(unavailable)?;
        let first = stored.iter().position(|row| row.kind == ReceiptKind::Erased).unwrap_or(stored.len());
        let mut receipts = Vec::new();
        for row in stored.into_iter().take(first + 1).rev() {
            receipts.push(self.given(platform, row).await.map_err(unreadable)?);
        }
        Ok(receipts)
    }

    async fn given(&self, platform: PlatformId, row: ReceiptRow) -> Result<ErasureReceipt, StoreError> {
        let store = self.shared.store.as_ref();
        let log = StoredLog::load(store, platform).await?;
        let size = log.size();
        let position = self.position_of(platform, row.entry, row.created_at, size).await?;
        let position = position.ok_or_else(bad_entry)?;
        let entry = store.entries(platform, position, 1).await?.pop().ok_or_else(bad_entry)?.entry;
        let proof = log.prove(Question::Inclusion { position, size }).await?.map_err(|_| bad_entry())?;
        let proof: Vec<_> = proof.into_iter().map(|hash| hash.0).collect();
        let checkpoint = log.head().checkpoint.clone();
        let receipt = Receipt::new(row.statement, &entry, position, &proof, checkpoint);
        let document = receipt.to_json().map_err(|_| bad_entry())?;
        Ok(ErasureReceipt { kind: row.kind, at: row.created_at, entry: row.entry, document })
    }

    /// Position of an entry whose time is known; the log is in the order of time.
    pub(super) async fn position_of(
        &self,
        platform: PlatformId,
        id: EntryId,
        at: Timestamp,
        size: u64,
    ) -> Result<Option<u64>, StoreError> {
        let mut next = self.first_since(platform, Some(at), size).await?;
        loop {
            let some = decoded(self.shared.store.as_ref(), platform, next, ENTRIES_AT_ONCE).await?;
            for (position, entry) in &some {
                if entry.time > at.as_micros() || *position >= size {
                    return Ok(None);
                }
                if entry.entry_id() == id {
                    return Ok(Some(*position));
                }
            }
            let Some((last, _)) = some.last() else { return Ok(None) };
            next = last + 1;
        }
    }
}

/// Finds the subject, and logs the question.
struct Ask(SubjectName);

impl Deed for Ask {
    type Answer = SubjectId;

    fn call(&self) -> Call {
        Call::GetErasureReceipts
    }

    fn changes(&self) -> bool {
        false
    }

    fn reads(&self, context: &Context, _before: Option<&ItemOutcome>, keys: &mut ReadKeys) {
        self.0.reads(context, keys);
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<SubjectId>, VaultError> {
        may_manage(hand.scene, hand.caller)?;
        let id = self.0.find(hand.scene)?.id;
        hand.log(|entry| Entry { subject: Some((*id.as_bytes()).into()), ..entry })?;
        Ok(Deeded::answer(id))
    }
}
