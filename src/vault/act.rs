//! What a use case is to the lane: the rows it needs, its decision, and its answer.

use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, atomic::Ordering},
};

pub use super::reply::{Reply, Waiting, reply};
use super::{
    Shared,
    access::Call,
    approval::Approval,
    consent::reference_keys,
    context::Context,
    detokenize::hashes_of,
    error::VaultError,
    replay::{Asked, Part},
};
use crate::{
    audit::entry::{Entry, Verdict},
    crypto::{aead::OpenError, envelope::SubjectKey, keyring::Keyring},
    domain::{
        caller::{Caller, KeyPin},
        consent::{Consent, SubjectState},
        ids::{CallerId, ConsentId, EntryId, ProposalId, RecordId, RequestId, SubjectId},
        names::{FieldName, PlatformName, SpiffeId},
        operation::BudgetWindow,
        rng::Rng,
        time::Timestamp,
        token::{AnyToken, TokenHash},
    },
    policy::{decide::Denial, model::Policy},
    store::{
        Damage, IndexKeyOfValue, Many, ReadKeys, Snapshot, Write,
        rows::{ConsentRow, RecordRow, SubjectRow, TokenRow, work::ProposalRow},
    },
};

/// Who asks, as the connection and the request say.
#[derive(Debug, Clone)]
pub struct Asker {
    /// URI of the client certificate.
    pub spiffe_id: SpiffeId,
    /// The certificate's key.
    pub key: KeyPin,
    /// The client's request id, with what it came with.
    pub request: Option<Asked>,
}

/// Whether an act may be part of this batch.
#[derive(Debug, PartialEq, Eq)]
pub enum Flow {
    /// Its entries and writes are in the plan.
    Ready,
    /// It touches a row that the batch already writes: next batch.
    Later,
}

/// A use case on its way through the lane.
pub trait Act: Send + Sync {
    /// Items it stands for, at least 1.
    fn weight(&self) -> usize {
        1
    }

    /// Whether it writes rows. Acts that do are decided after those that do not, so that a batch's log reads in
    /// the order of its effects: what was permitted stands before what ended the permission.
    fn writes(&self) -> bool;

    /// Whether it turned, or may have turned, a permit into a denial: it is answered when the mirror has its entry.
    /// Asked after [`Act::decide`].
    fn tightens(&self) -> bool {
        false
    }

    /// Whether nobody waits for its answer any more.
    fn is_abandoned(&self) -> bool;

    /// Whether its caller may learn that there is a value of a field. Only then may an answer come sooner, without a read, than that of a
    /// token that never was.
    fn may_know_of(&self, _context: &Context, _field: &FieldName) -> bool {
        false
    }

    /// Adds what it needs to see.
    fn reads(&self, _context: &Context, _keys: &mut ReadKeys) {}

    /// Decides, and adds entries and writes to the plan. May be called again on a newer snapshot; the last call
    /// counts. The answer stays inside the act.
    ///
    /// # Errors
    /// [`VaultError`] where it cannot be decided at all; its part of the plan is then dropped.
    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError>;

    /// Sends the answer: after the commit is durable, or with the error that took its place.
    fn finish(self: Box<Self>, outcome: Result<(), VaultError>);
}

/// A row that a batch writes, or would create.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Claim {
    /// The subject behind a reference hash.
    Subject([u8; 32]),
    /// A subject's own row.
    SubjectRow(SubjectId),
    /// A consent.
    Consent(ConsentId),
    /// A token.
    Token(TokenHash),
    /// A record's version or its deterministic token.
    Record(RecordId),
    /// A value of a unique field.
    Value(IndexKeyOfValue),
    /// A request.
    Request(CallerId, RequestId),
    /// A proposal.
    Proposal(ProposalId),
    /// The documents of a field of a subject.
    Document(SubjectId, FieldName),
    /// Policy, callers and all other configuration.
    Config,
}

/// Everything that a batch will commit.
#[derive(Debug, Default)]
pub struct Plan {
    /// Log entries in order.
    pub entries: Vec<Entry>,
    /// Rows.
    pub writes: Vec<Write>,
    claims: HashSet<Claim>,
    /// What was spent of each budget: before this batch, and with it.
    spent: BTreeMap<BudgetWindow, (u64, u64)>,
    /// Moves `tighten_seq`.
    pub tightens: bool,
    /// Moves `config_epoch`.
    pub reconfigures: bool,
}

/// A state of a [`Plan`] to return to.
#[derive(Debug, Clone, Copy)]
pub struct Mark {
    entries: usize,
    writes: usize,
    tightens: bool,
    reconfigures: bool,
}

impl Plan {
    /// Takes a row for the present act. False where the batch has it already.
    pub fn claim(&mut self, claim: Claim) -> bool {
        self.claims.insert(claim)
    }

    /// Whether anything was logged since `mark`.
    #[must_use]
    pub const fn logged_since(&self, mark: Mark) -> bool {
        self.entries.len() > mark.entries
    }

    /// Whether rows were written since `mark`.
    #[must_use]
    pub const fn writes_since(&self, mark: Mark) -> bool {
        self.writes.len() > mark.writes
    }

    /// Puts an entry before those that came after `mark`.
    pub fn log_before(&mut self, mark: Mark, entry: Entry) {
        self.entries.insert(mark.entries.min(self.entries.len()), entry);
    }

    /// The present state.
    #[must_use]
    pub const fn mark(&self) -> Mark {
        Mark {
            entries: self.entries.len(),
            writes: self.writes.len(),
            tightens: self.tightens,
            reconfigures: self.reconfigures,
        }
    }

    /// Spends one of a budget, unless it is used up.
    ///
    /// # Errors
    /// [`Denial::BudgetExhausted`].
    pub fn spend(&mut self, window: BudgetWindow, before: u64, limit: u64) -> Result<(), Denial> {
        let (_, spent) = self.spent.entry(window).or_insert((before, before));
        if *spent >= limit {
            return Err(Denial::BudgetExhausted);
        }
        *spent += 1;
        Ok(())
    }

    /// Gives one back that this batch spent.
    pub fn give_back(&mut self, window: &BudgetWindow) {
        if let Some((before, spent)) = self.spent.get_mut(window) {
            *spent = spent.saturating_sub(1).max(*before);
        }
    }

    /// What is spent of a budget, with this batch.
    #[must_use]
    pub fn spent(&self, window: &BudgetWindow, before: u64) -> u64 {
        self.spent.get(window).map_or(before, |(_, spent)| *spent)
    }

    /// Everything to write, what was spent included. New subject keys come last: that commit states that nothing of those
    /// subjects was written under the old ones.
    #[must_use]
    pub fn into_writes(self) -> Vec<Write> {
        let (last, first): (Vec<_>, Vec<_>) =
            self.writes.into_iter().partition(|write| matches!(write, Write::Many(Many::Reseal(_))));
        let spends = self.spent.into_iter().filter(|(_, (before, after))| before < after);
        let spends = spends.map(|(window, (before, after))| Write::Spend { window, before, after });
        first.into_iter().chain(spends).chain(last).collect()
    }

    /// Drops what came after `mark`. Claims and what was spent stay: at worst an act waits for the next batch, and a
    /// question that missed has cost what it costs.
    pub fn undo_to(&mut self, mark: Mark) {
        self.entries.truncate(mark.entries);
        self.writes.truncate(mark.writes);
        self.tightens = mark.tightens;
        self.reconfigures = mark.reconfigures;
    }
}

/// A token with what stands behind it, each row believed.
#[derive(Debug, Clone, Copy)]
pub struct Found<'a> {
    /// The token.
    pub token: &'a TokenRow,
    /// The current version of its record.
    pub record: &'a RecordRow,
    /// The record's subject.
    pub subject: &'a SubjectRow,
}

/// What an act decides on.
pub struct Scene<'a> {
    pub(crate) shared: &'a Shared,
    /// Name of the platform.
    pub name: &'a PlatformName,
    /// Policy, callers and keys.
    pub context: &'a Context,
    /// The vault's own platform: staff.
    pub staff: &'a Context,
    /// Rows.
    pub snapshot: &'a Snapshot,
    /// The database's time, never below the last entry's.
    pub now: Timestamp,
}

impl Asker {
    /// The approval that the request is.
    #[must_use]
    pub fn approval(&self) -> Option<&Arc<Approval>> {
        match self.request.as_ref().map(|asked| &asked.part) {
            Some(Part::Approval(approval)) => Some(approval),
            _ => None,
        }
    }
}

impl Scene<'_> {
    /// Randomness.
    #[must_use]
    pub fn rng(&self) -> &dyn Rng {
        self.shared.rng.as_ref()
    }

    /// The caller as enrolled now.
    ///
    /// # Errors
    /// [`VaultError::UnknownCaller`] where the enrolment is gone, [`VaultError::KeyNotPinned`] where it pins other keys.
    pub fn caller(&self, asker: &Asker) -> Result<Arc<Caller>, VaultError> {
        let caller = self.context.caller(&asker.spiffe_id);
        let caller =
            caller.or_else(|| self.staff.caller(&asker.spiffe_id)).ok_or(VaultError::UnknownCaller)?;
        if caller.accepts_key(&asker.key) { Ok(caller) } else { Err(VaultError::KeyNotPinned) }
    }

    /// Whether the caller may make this call on this platform.
    ///
    /// # Errors
    /// [`Denial::CallerDisabled`], [`Denial::CallerNotAllowed`], [`Denial::PlatformClosed`] or [`Denial::StorageOutside`].
    pub fn authorise(&self, call: Call, caller: &Caller) -> Result<(), Denial> {
        call.allows(caller, self.context.platform, self.staff)?;
        if self.context.is_closed() && !call.works_while_closed() {
            return Err(Denial::PlatformClosed);
        }
        if call.brings_data() { self.storage_is_inside() } else { Ok(()) }
    }

    /// Refuses to store anything new while data lies outside the declared sites, where the operator wants it so.
    ///
    /// # Errors
    /// [`Denial::StorageOutside`].
    pub fn storage_is_inside(&self) -> Result<(), Denial> {
        if self.shared.storage_outside.load(Ordering::SeqCst) {
            return Err(Denial::StorageOutside);
        }
        Ok(())
    }

    /// The policy in force.
    ///
    /// # Errors
    /// [`Denial::CallerNotAllowed`] where the platform has none: nothing is allowed then. [`Denial::PlatformClosed`].
    pub fn policy(&self) -> Result<&Policy, Denial> {
        if self.context.is_closed() {
            return Err(Denial::PlatformClosed);
        }
        self.context.policy(self.now).ok_or(Denial::CallerNotAllowed)
    }

    /// An entry of this call, to be filled in.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] without randomness.
    pub fn entry(
        &self,
        call: &str,
        asker: &Asker,
        caller: &Caller,
        verdict: Verdict,
    ) -> Result<Entry, VaultError> {
        let id = EntryId::random(self.rng()).map_err(|_| VaultError::Unavailable)?;
        Ok(Entry {
            caller: Some((*caller.id.as_bytes()).into()),
            person: caller.person.map(|id| (*id.as_bytes()).into()),
            policy_version: self.context.policy(self.now).map(|p| p.version),
            request: asker.request.as_ref().map(|r| (*r.id.as_bytes()).into()),
            ..Entry::new(id, self.now, self.context.platform, call, verdict)
        })
    }

    /// An entry of a denial.
    ///
    /// # Errors
    /// [`VaultError::Unavailable`] without randomness.
    pub fn denial(
        &self,
        call: &str,
        asker: &Asker,
        caller: &Caller,
        reason: Denial,
    ) -> Result<Entry, VaultError> {
        Ok(Entry {
            reason: Some(reason.as_str().to_owned()),
            ..self.entry(call, asker, caller, Verdict::Deny)?
        })
    }

    /// The platform's keys.
    #[must_use]
    pub fn keys(&self) -> &Keyring {
        &self.context.keys
    }

    /// A row of the snapshot; none where there is none.
    ///
    /// # Errors
    /// [`Denial::DataDamaged`] where there is one that cannot be.
    pub fn found<'r, T>(&self, row: Option<&'r Result<T, Damage>>) -> Result<Option<&'r T>, Denial> {
        match row {
            None => Ok(None),
            Some(Ok(row)) => Ok(Some(row)),
            Some(Err(damage)) => Err(self.damaged(damage.table, damage)),
        }
    }

    /// A token as it was given, with what stands behind it, each row believed.
    ///
    /// # Errors
    /// As [`Self::token`].
    pub fn token_given(&self, token: &AnyToken) -> Result<Option<Found<'_>>, Denial> {
        let mut found = hashes_of(self.context, token).filter_map(|hash| self.token(&hash).transpose());
        found.next().transpose()
    }

    /// A token of the snapshot with what stands behind it, each row believed.
    ///
    /// # Errors
    /// [`Denial::DataDamaged`] where a row was changed behind the vault, or is missing.
    pub fn token(&self, hash: &TokenHash) -> Result<Option<Found<'_>>, Denial> {
        let Some(token) = self.found(self.snapshot.tokens.get(hash))? else { return Ok(None) };
        self.trust_token(token)?;
        let record = self.record(token.record)?;
        Ok(Some(Found { token, record, subject: self.subject(record.address.subject)? }))
    }

    /// The current version of a record that must be there.
    ///
    /// # Errors
    /// [`Denial::DataDamaged`].
    pub fn record(&self, id: RecordId) -> Result<&RecordRow, Denial> {
        let record = self.found(self.snapshot.records.get(&id))?;
        let record = record.ok_or_else(|| self.damaged("records", &Missing))?;
        self.trust_record(record)?;
        Ok(record)
    }

    /// A subject that must be there.
    ///
    /// # Errors
    /// [`Denial::DataDamaged`].
    pub fn subject(&self, id: SubjectId) -> Result<&SubjectRow, Denial> {
        let subject = self.found(self.snapshot.subjects.get(&id))?;
        let subject = subject.ok_or_else(|| self.damaged("subjects", &Missing))?;
        self.trust_subject(subject)?;
        Ok(subject)
    }

    /// The subject that the platform knows by a reference.
    ///
    /// # Errors
    /// [`Denial::DataDamaged`].
    pub fn subject_by_reference(&self, reference: &str) -> Result<Option<&SubjectRow>, Denial> {
        let mut keys = reference_keys(self.context, reference);
        let found = keys.find_map(|key| self.snapshot.references.get(&key));
        found.map(|id| self.subject(*id)).transpose()
    }

    /// The current records of a subject.
    ///
    /// # Errors
    /// [`Denial::DataDamaged`].
    pub fn records_of(&self, subject: SubjectId) -> Result<Vec<&RecordRow>, Denial> {
        let ids = self.snapshot.records_of.get(&subject);
        ids.into_iter().flatten().map(|id| self.record(*id)).collect()
    }

    /// Believes a subject's row.
    ///
    /// # Errors
    /// [`Denial::DataDamaged`] where it was changed behind the vault.
    pub fn trust_subject(&self, row: &SubjectRow) -> Result<(), Denial> {
        self.trust("subjects", self.keys().row.verify(&row.image(), &row.mac))
    }

    /// Believes a record's row.
    ///
    /// # Errors
    /// [`Denial::DataDamaged`] where it was changed behind the vault.
    pub fn trust_record(&self, row: &RecordRow) -> Result<(), Denial> {
        self.trust("records", self.keys().row.verify(&row.image(), &row.mac))
    }

    /// Believes a token's row.
    ///
    /// # Errors
    /// [`Denial::DataDamaged`] where it was changed behind the vault.
    pub fn trust_token(&self, row: &TokenRow) -> Result<(), Denial> {
        self.trust("tokens", self.keys().row.verify(&row.image(), &row.mac))
    }

    /// Believes a consent's row.
    ///
    /// # Errors
    /// [`Denial::DataDamaged`] where it was changed behind the vault.
    pub fn trust_consent(&self, row: &ConsentRow) -> Result<(), Denial> {
        self.trust("consents", self.keys().row.verify(&row.image(), &row.mac))
    }

    /// A proposal of the snapshot, believed.
    ///
    /// # Errors
    /// [`Denial::ProposalNotFound`], or [`Denial::DataDamaged`] where it was changed behind the vault.
    pub fn proposal(&self, id: ProposalId) -> Result<&ProposalRow, Denial> {
        let row = self.found(self.snapshot.proposals.get(&id))?.ok_or(Denial::ProposalNotFound)?;
        self.trust("proposals", self.keys().row.verify(&row.image(), &row.mac))?;
        Ok(row)
    }

    /// Every consent of a subject, newest first, each believed.
    ///
    /// # Errors
    /// [`Denial::DataDamaged`] where one was changed behind the vault.
    pub fn consents_of(&self, subject: SubjectId) -> Result<Vec<Consent>, Denial> {
        let rows =
            self.found(self.snapshot.consents_of.get(&subject))?.map_or(&[][..], |rows| rows.as_slice());
        rows.iter().map(|row| self.trust_consent(row).map(|()| row.consent.clone())).collect()
    }

    /// Opens a subject's key.
    ///
    /// # Errors
    /// [`Denial::SubjectErased`] where it is destroyed, [`Denial::DataDamaged`] where it does not open.
    pub fn subject_key(&self, row: &SubjectRow) -> Result<SubjectKey, Denial> {
        let Some(wrapped) = row.wrapped_key.as_ref() else {
            let destroyed = row.state == SubjectState::Erased;
            return Err(if destroyed { Denial::SubjectErased } else { self.damaged("subjects", &Missing) });
        };
        self.keys().unwrap(row.id, wrapped).map_err(|e| match e {
            OpenError::DisabledKeyVersion(_) => Denial::KeyDisabled,
            OpenError::Malformed | OpenError::Forged | OpenError::UnknownKeyVersion(_) => {
                self.damaged("subjects", &e)
            }
        })
    }

    /// Whether time is so far past the log's last entry that it may have jumped: what destroys waits then.
    #[must_use]
    pub const fn time_jumped(&self) -> bool {
        self.now.as_micros() - self.snapshot.logged_at.as_micros() > JUMP_MICROS
    }

    /// Reports damage to the operator, who must act on it, and says what the caller is told.
    pub fn damaged(&self, table: &'static str, error: &(dyn std::error::Error + 'static)) -> Denial {
        self.shared.meters.count_damaged();
        tracing::error!(
            platform = self.context.platform.get(),
            table,
            error,
            "stored data fails authentication"
        );
        Denial::DataDamaged
    }

    fn trust<E: std::error::Error + 'static>(
        &self,
        table: &'static str,
        verified: Result<(), E>,
    ) -> Result<(), Denial> {
        verified.map_err(|e| self.damaged(table, &e))
    }
}

/// Destruction waits where the log's last entry is older than this. Any logged call of somebody who sees that the time is
/// right lets it go on.
const JUMP_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// A part of a row that must be there.
#[derive(Debug, thiserror::Error)]
#[error("a row or key that another row needs is missing")]
struct Missing;

/// Acts that are decided at a stretch.
const ACTS_AT_A_STRETCH: usize = 64;

/// Steps back after so many acts, so that other platforms' calls get the processor that a large batch would keep for milliseconds.
pub(super) async fn step_back_after(number: usize) {
    if number % ACTS_AT_A_STRETCH == ACTS_AT_A_STRETCH - 1 {
        tokio::task::yield_now().await;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;

    use super::*;

    #[tokio::test]
    async fn others_have_their_turn_within_a_large_batch() {
        let had = Arc::new(AtomicBool::new(false));
        let other = Arc::clone(&had);
        tokio::spawn(async move { other.store(true, Ordering::SeqCst) });
        for number in 0..ACTS_AT_A_STRETCH - 1 {
            step_back_after(number).await;
        }
        assert!(!had.load(Ordering::SeqCst), "nobody waits for a turn that is not needed");
        step_back_after(ACTS_AT_A_STRETCH - 1).await;
        assert!(had.load(Ordering::SeqCst));
    }
}
