//! The last words of a log applied to the rows of a backup. Where the MAC in the entry proves what the row became, it becomes
//! that; where it does not, the row is put to its strictest state, and an entry says so.

use std::collections::BTreeMap;

use super::{
    RestoreError,
    newer::{Last, Newer},
    site::{Counts, Site, Step},
};
use crate::{
    domain::{
        consent::{ConsentState, SubjectState},
        ids::{
            BreachId, CaseId, ConsentId, CopyId, OperationId, ProposalId, RecordId, SubjectId, TokenRowId,
        },
        operation::{Operation, OperationKind, OperationState},
        proposal::ProposalState,
        receipt::ReceiptKind,
        rng::random_bytes,
        subject::{Restriction, RestrictionRequester, RestrictionTrigger},
        time::Timestamp,
        token::TokenState,
    },
    policy::model::ExpiryKind,
    store::{
        GrantingTable, ReadKeys, Write,
        rows::{
            ConsentRow, SubjectRow, TokenRow,
            breaches::BreachRow,
            copies::CopyRow,
            rights::CaseRow,
            work::{OperationRow, ProposalRow},
        },
    },
    vault::{
        MAX_COOLING,
        access::Call,
        context::AppliedPolicy,
        keys::MOVED,
        retention::{ANONYMISED, DESTROYED_RECORD, ENDED_SUBJECT},
    },
};

/// Rows that one commit changes.
const AT_ONCE: usize = 256;
const MINUTE: i64 = 60 * 1_000_000;

/// Subjects of whom something is lost that may have ended their data, or have said how they are to end, and what it was.
type Blocked = BTreeMap<SubjectId, &'static str>;

impl Site<'_> {
    /// Applies what the entries tell of rows of data.
    pub(super) async fn apply_rows(
        &mut self,
        newer: &Newer,
        counts: &mut Counts,
    ) -> Result<(), RestoreError> {
        let mut blocked = self.called_off(newer);
        self.apply_events(newer, &mut blocked, counts).await?;
        self.apply_consents(newer, &mut blocked, counts).await?;
        self.apply_cases(newer, &mut blocked, counts).await?;
        self.apply_subjects(newer, &blocked, counts).await?;
        self.apply_ends(newer, counts).await?;
        self.apply_tokens(newer, counts).await?;
        self.apply_proposals(newer, counts).await?;
        self.apply_breaches(newer, counts).await?;
        self.apply_copies(newer, counts).await?;
        self.find_corrections(newer, counts).await
    }

    /// Who demanded erasure, and of whom no row may say so any more because it was called off: blocked where anybody may be
    /// depersonalised, which none of them is (rule R8). Elsewhere a called-off erasure leaves nothing to look at.
    fn called_off(&self, newer: &Newer) -> Blocked {
        let depersonalises = |applied: &AppliedPolicy| applied.policy.expires_by() != ExpiryKind::Destruction;
        if !self.context.policies().iter().any(depersonalises) {
            return Blocked::new();
        }
        newer.called_off.iter().map(|id| (*id, "erasure")).collect()
    }

    /// An event cannot be made again from its entry, and may have ended a purpose: the subject is blocked instead.
    async fn apply_events(
        &mut self,
        newer: &Newer,
        blocked: &mut Blocked,
        counts: &mut Counts,
    ) -> Result<(), RestoreError> {
        let all: Vec<_> = newer.of(GrantingTable::Events).collect();
        for some in all.chunks(AT_ONCE) {
            let mut step = Step::default();
            for (id, last) in some {
                step.lost(self, "event", id, last.subject)?;
                blocked.extend(last.subject.map(|subject| (subject, "event")));
            }
            self.commit(step, counts).await?;
        }
        Ok(())
    }

    async fn apply_subjects(
        &mut self,
        newer: &Newer,
        blocked: &Blocked,
        counts: &mut Counts,
    ) -> Result<(), RestoreError> {
        let mut all: BTreeMap<SubjectId, Option<&Last>> = blocked.keys().map(|id| (*id, None)).collect();
        all.extend(newer.destroyed.keys().map(|id| (*id, None)));
        let told = newer.of(GrantingTable::Subjects);
        all.extend(told.map(|(id, last)| (SubjectId::from_bytes(id), Some(last))));
        let all: Vec<_> = all.into_iter().collect();
        for some in all.chunks(AT_ONCE) {
            let subjects = some.iter().map(|(id, _)| *id).collect();
            let keys = ReadKeys { subjects, operations_of_found: true, ..ReadKeys::default() };
            let snapshot = self.read(&keys).await?;
            let mut step = Step::default();
            for (id, last) in some {
                let Some(row) = snapshot.subjects.get(id) else {
                    if last.is_some() {
                        step.lost(self, "subject", id.as_bytes(), None)?;
                    }
                    continue;
                };
                let row = self.believed(row, |row| row.image(), |row| row.mac)?;
                let mut next =
                    last.map_or(Ok(SubjectRow::clone(row)), |last| self.subject(row, last, &mut step))?;
                if let Some(lost) = blocked.get(id)
                    && next.state == SubjectState::Active
                {
                    next = self.block(next, self.now());
                    step.strict(self, "subject", id.as_bytes(), next.mac, lost)?;
                }
                if last.is_some_and(|last| last.moved) {
                    step.kept(self, "subject", id.as_bytes(), next.mac)?;
                }
                let records = snapshot.records_of.get(id).into_iter().flatten();
                let ended = row.state != SubjectState::Erased && next.state == SubjectState::Erased;
                let revived = row.state == SubjectState::Erased && next.state != SubjectState::Erased;
                for record in records {
                    if ended {
                        step.writes.push(Write::EndClaims(*record));
                    } else if revived {
                        let field = snapshot.records.get(record).and_then(|row| row.as_ref().ok());
                        if field.is_some_and(|row| self.is_unique(&row.address.field)) {
                            step.writes.push(Write::Claim(*record));
                        }
                    }
                }
                let destroyed = newer.destroyed.contains_key(id) && next.state == SubjectState::Erased;
                let open = snapshot.operations_on.get(id.as_bytes()).map(|row| &row.operation);
                step.writes.extend(self.work_of(&next, open, destroyed)?);
                if next.mac != row.mac {
                    step.writes.extend(self.receipt(row, &next, *last)?);
                    step.writes.push(Write::UpdateSubject(next.clone(), row.mac));
                }
                if let Some(told) =
                    newer.destroyed.get(id).filter(|_| destroyed && next.wrapped_key.is_some())
                {
                    step.applied(crate::vault::reconcile::DESTROYED);
                    step.writes.push(self.stating()?.receipt(ReceiptKind::Destroyed, *told, &next)?);
                    step.writes.push(Write::DestroySubject(next));
                }
            }
            self.commit(step, counts).await?;
        }
        Ok(())
    }

    /// The receipt of an erasure that the backup does not have, or of its being called off.
    fn receipt(
        &self,
        row: &SubjectRow,
        next: &SubjectRow,
        last: Option<&Last>,
    ) -> Result<Option<Write>, RestoreError> {
        // What retention ended was not erased first: its one receipt is that of the destruction.
        let Some(last) = last.filter(|last| ![ENDED_SUBJECT, ANONYMISED].contains(&last.call.as_str()))
        else {
            return Ok(None);
        };
        let (kind, erased) = match (row.state, next.state) {
            (_, SubjectState::Erased) => (ReceiptKind::Erased, next),
            (SubjectState::Erased, _) => (ReceiptKind::CalledOff, row),
            _ => return Ok(None),
        };
        Ok(Some(self.stating()?.receipt(kind, (last.entry, last.at), erased)?))
    }

    /// The operation that destroys an erased subject, made or ended as the subject now stands.
    fn work_of(
        &self,
        subject: &SubjectRow,
        open: Option<&Operation>,
        destroyed: bool,
    ) -> Result<Option<Write>, RestoreError> {
        let end = |open: &Operation, state| {
            let next = Operation { fence: open.fence.saturating_add(1), ..open.clone() };
            Write::UpdateOperation(OperationRow { operation: next.ended(state, self.now()) }, open.fence)
        };
        Ok(match (subject.state, open) {
            (SubjectState::Erased, Some(open)) if destroyed => Some(end(open, OperationState::Failed)),
            (SubjectState::Erased, None) if !destroyed && subject.wrapped_key.is_some() => {
                let id = OperationId::random(self.rng())?;
                let (kind, object) = (OperationKind::DestroySubject, *subject.id.as_bytes());
                let work = Operation::new(id, subject.platform, kind, object, self.now(), 1);
                let due_at = subject.destroy_at.unwrap_or(self.now());
                Some(Write::InsertOperation(OperationRow { operation: Operation { due_at, ..work } }))
            }
            (SubjectState::Active | SubjectState::Restricted, Some(open)) => {
                Some(end(open, OperationState::Cancelled))
            }
            (SubjectState::Erased | SubjectState::Active | SubjectState::Restricted, _) => None,
        })
    }

    fn subject(&self, row: &SubjectRow, last: &Last, step: &mut Step) -> Result<SubjectRow, RestoreError> {
        if last.mac == row.mac || last.call == MOVED {
            return Ok(row.clone());
        }
        let erased = |destroy_at, restriction| SubjectRow {
            state: SubjectState::Erased,
            erased_at: Some(last.at),
            destroy_at: Some(destroy_at),
            restriction,
            ..row.clone()
        };
        let live = |state, restriction| SubjectRow {
            state,
            restriction,
            erased_at: None,
            destroy_at: None,
            ..row.clone()
        };
        if last.call == ANONYMISED {
            // Nothing led there any more, and nothing does again; to which hash it was put, no entry says.
            let reference_hash = random_bytes(self.rng())?;
            let mut next = SubjectRow { reference_hash, ..erased(last.at, None) };
            next.mac = self.mac(&next.image());
            step.strict(self, "subject", row.id.as_bytes(), next.mac, &last.call)?;
            return Ok(next);
        }
        let erase = [Call::EraseSubject.as_str(), ENDED_SUBJECT].contains(&last.call.as_str());
        let candidates: Vec<SubjectRow> = if erase {
            let minutes = 0..=i64::try_from(MAX_COOLING.as_secs() / 60).unwrap_or(0);
            minutes
                .flat_map(|minutes| {
                    [row.restriction, None].map(|r| erased(last.at.plus_micros(minutes * MINUTE), r))
                })
                .collect()
        } else {
            vec![live(SubjectState::Active, None), live(SubjectState::Restricted, row.restriction)]
        };
        for mut next in candidates {
            next.mac = self.mac(&next.image());
            if next.mac == last.mac {
                step.applied(&last.call);
                return Ok(next);
            }
        }
        let next = if erase {
            let mut next = erased(last.at.plus(MAX_COOLING), None);
            next.mac = self.mac(&next.image());
            next
        } else if row.state == SubjectState::Erased {
            row.clone()
        } else {
            self.block(row.clone(), last.at)
        };
        step.strict(self, "subject", row.id.as_bytes(), next.mac, &last.call)?;
        Ok(next)
    }

    /// A subject that nobody uses and nobody destroys until somebody has looked.
    fn block(&self, row: SubjectRow, since: Timestamp) -> SubjectRow {
        let restriction = Restriction {
            trigger: RestrictionTrigger::LegalHold,
            requester: RestrictionRequester::Operator,
            since,
            review_at: self.now(),
        };
        let mut next = SubjectRow { state: SubjectState::Restricted, restriction: Some(restriction), ..row };
        next.mac = self.mac(&next.image());
        next
    }

    /// Records whose retention ended: what a backup still holds of them goes again.
    async fn apply_ends(&mut self, newer: &Newer, counts: &mut Counts) -> Result<(), RestoreError> {
        let all: Vec<_> = newer.ended.iter().copied().collect();
        for some in all.chunks(AT_ONCE) {
            let mut step = Step::default();
            for record in some {
                step.applied(DESTROYED_RECORD);
                step.writes.push(Write::DestroyRecord(*record));
            }
            self.commit(step, counts).await?;
        }
        Ok(())
    }

    async fn apply_tokens(&mut self, newer: &Newer, counts: &mut Counts) -> Result<(), RestoreError> {
        let gone = |last: &Last| {
            last.subject.is_some_and(|subject| newer.destroyed.contains_key(&subject))
                || last.record.is_some_and(|record| newer.ended.contains(&record))
        };
        let all: Vec<_> = newer.of(GrantingTable::Tokens).filter(|(_, last)| !gone(last)).collect();
        for some in all.chunks(AT_ONCE) {
            let token_rows = some.iter().map(|(id, _)| TokenRowId::from_bytes(*id)).collect();
            let snapshot = self.read(&ReadKeys { token_rows, ..ReadKeys::default() }).await?;
            let mut step = Step::default();
            for (id, last) in some {
                let row = snapshot.token_hashes.get(&TokenRowId::from_bytes(*id));
                let Some(row) = row.and_then(|hash| snapshot.tokens.get(hash)) else {
                    step.lost(self, "token", id, last.subject)?;
                    continue;
                };
                let row = self.believed(row, |row| row.image(), |row| row.mac)?;
                if row.mac == last.mac || last.call == MOVED {
                    if last.moved {
                        step.kept(self, "token", id, row.mac)?;
                    }
                    continue;
                }
                let states = [TokenState::Spent, TokenState::Revoked, TokenState::Active];
                let sealed = |state| {
                    let mut next = TokenRow { state, ..TokenRow::clone(row) };
                    next.mac = self.mac(&next.image());
                    next
                };
                let proved = states.map(sealed).into_iter().find(|next| next.mac == last.mac);
                let next = if let Some(next) = proved {
                    step.applied(&last.call);
                    next
                } else {
                    let next = sealed(TokenState::Revoked);
                    step.strict(self, "token", id, next.mac, &last.call)?;
                    next
                };
                if last.moved {
                    step.kept(self, "token", id, next.mac)?;
                }
                step.writes.push(Write::UpdateToken(next, row.mac));
            }
            self.commit(step, counts).await?;
        }
        Ok(())
    }

    /// A consent that was given and withdrawn since is lost, and with it the word that its subject is to be destroyed and not
    /// depersonalised (rule R8): the subject is blocked instead.
    async fn apply_consents(
        &mut self,
        newer: &Newer,
        blocked: &mut Blocked,
        counts: &mut Counts,
    ) -> Result<(), RestoreError> {
        let all: Vec<_> = newer.of(GrantingTable::Consents).collect();
        for some in all.chunks(AT_ONCE) {
            let consents = some.iter().map(|(id, _)| ConsentId::from_bytes(*id)).collect();
            let snapshot = self.read(&ReadKeys { consents, ..ReadKeys::default() }).await?;
            let mut step = Step::default();
            for (id, last) in some {
                let Some(row) = snapshot.consents.get(&ConsentId::from_bytes(*id)) else {
                    step.lost(self, "consent", id, last.subject)?;
                    if last.call == Call::WithdrawConsent.as_str() {
                        blocked.extend(last.subject.map(|subject| (subject, "consent")));
                    }
                    continue;
                };
                let row = self.believed(row, ConsentRow::image, |row| row.mac)?;
                if row.mac == last.mac {
                    continue;
                }
                let mut next = row.clone();
                (next.consent.state, next.consent.withdrawn_at) = (ConsentState::Withdrawn, Some(last.at));
                next.mac = self.mac(&next.image());
                if next.mac == last.mac {
                    step.applied(&last.call);
                } else {
                    step.strict(self, "consent", id, next.mac, &last.call)?;
                }
                step.writes.push(Write::UpdateConsent(next, row.mac));
            }
            self.commit(step, counts).await?;
        }
        Ok(())
    }

    async fn apply_proposals(&mut self, newer: &Newer, counts: &mut Counts) -> Result<(), RestoreError> {
        let all: Vec<_> = newer.of(GrantingTable::Proposals).collect();
        for some in all.chunks(AT_ONCE) {
            let proposals = some.iter().map(|(id, _)| ProposalId::from_bytes(*id)).collect();
            let snapshot = self.read(&ReadKeys { proposals, ..ReadKeys::default() }).await?;
            let mut step = Step::default();
            for (id, last) in some {
                let Some(row) = snapshot.proposals.get(&ProposalId::from_bytes(*id)) else {
                    step.lost(self, "proposal", id, None)?;
                    continue;
                };
                let row = self.believed(row, ProposalRow::image, |row| row.mac)?;
                if row.mac == last.mac {
                    continue;
                }
                let ended = |state, ended_by, reason: Option<&String>| {
                    let (ended_at, reason) = (Some(last.at), reason.cloned());
                    let mut next =
                        ProposalRow { sealed: None, state, ended_by, ended_at, reason, ..row.clone() };
                    next.mac = self.mac(&next.image());
                    next
                };
                let candidates = [
                    ended(ProposalState::Approved, last.person, None),
                    ended(ProposalState::Failed, last.person, last.reason.as_ref()),
                    ended(ProposalState::Rejected, last.person, None),
                    ended(ProposalState::Expired, None, None),
                ];
                let proved = candidates.into_iter().find(|next| next.mac == last.mac);
                let next = if let Some(next) = proved {
                    step.applied(&last.call);
                    next
                } else {
                    let next = ended(ProposalState::Expired, None, None);
                    step.strict(self, "proposal", id, next.mac, &last.call)?;
                    next
                };
                step.writes.push(Write::EndProposal(next, row.mac));
            }
            self.commit(step, counts).await?;
        }
        Ok(())
    }

    /// Requests of people: one that is newer than the backup is lost and told so, and its subject is blocked, since it may have
    /// demanded that the data go, and what it asked no entry says; of one that went on since, the step that the backup has stands
    /// again, so that nobody who asked is passed by.
    async fn apply_cases(
        &mut self,
        newer: &Newer,
        blocked: &mut Blocked,
        counts: &mut Counts,
    ) -> Result<(), RestoreError> {
        let all: Vec<_> = newer.of(GrantingTable::Cases).collect();
        for some in all.chunks(AT_ONCE) {
            let mut step = Step::default();
            for (id, last) in some {
                let row = self
                    .store
                    .case(self.platform, CaseId::from_bytes(*id))
                    .await
                    .map_err(RestoreError::from)?;
                let Some(row) = row.map(Ok) else {
                    step.lost(self, "case", id, last.subject)?;
                    blocked.extend(last.subject.map(|subject| (subject, "case")));
                    continue;
                };
                let row = self.believed(&row, CaseRow::image, |row| row.mac)?;
                if row.mac != last.mac {
                    step.strict(self, "case", id, row.mac, &last.call)?;
                }
            }
            self.commit(step, counts).await?;
        }
        Ok(())
    }

    /// Breaches: as requests of people. Of one that went on since, the step that the backup has stands again, so that nobody
    /// takes the authority for told who was not; who knows better records it anew.
    async fn apply_breaches(&mut self, newer: &Newer, counts: &mut Counts) -> Result<(), RestoreError> {
        let all: Vec<_> = newer.of(GrantingTable::Breaches).collect();
        for some in all.chunks(AT_ONCE) {
            let mut step = Step::default();
            for (id, last) in some {
                let row = self.store.breach(self.platform, BreachId::from_bytes(*id)).await;
                let Some(row) = row.map_err(RestoreError::from)?.map(Ok) else {
                    step.lost(self, "breach", id, None)?;
                    continue;
                };
                let row = self.believed(&row, BreachRow::image, |row| row.mac)?;
                if row.mac != last.mac {
                    step.strict(self, "breach", id, row.mac, &last.call)?;
                }
            }
            self.commit(step, counts).await?;
        }
        Ok(())
    }

    /// Copies of data outside the vault: as breaches. One that ended since stands as open again, so that somebody looks for it.
    async fn apply_copies(&mut self, newer: &Newer, counts: &mut Counts) -> Result<(), RestoreError> {
        let all: Vec<_> = newer.of(GrantingTable::Copies).collect();
        for some in all.chunks(AT_ONCE) {
            let mut step = Step::default();
            for (id, last) in some {
                let row = self.store.data_copy(self.platform, CopyId::from_bytes(*id)).await;
                let Some(row) = row.map_err(RestoreError::from)?.map(Ok) else {
                    step.lost(self, "copy", id, last.subject)?;
                    continue;
                };
                let row = self.believed(&row, CopyRow::image, |row| row.mac)?;
                if row.mac != last.mac {
                    step.strict(self, "copy", id, row.mac, &last.call)?;
                }
            }
            self.commit(step, counts).await?;
        }
        Ok(())
    }

    /// Corrections that are lost: the value before is what is held again.
    async fn find_corrections(&mut self, newer: &Newer, counts: &mut Counts) -> Result<(), RestoreError> {
        let all: Vec<_> = newer.corrected.iter().collect();
        for some in all.chunks(AT_ONCE) {
            let subjects = some.iter().map(|(_, corrected)| corrected.subject).collect();
            let snapshot = self.read(&ReadKeys { subjects, ..ReadKeys::default() }).await?;
            let mut step = Step::default();
            for (id, corrected) in some {
                let ended = newer.ended.contains(&RecordId::from_bytes(**id));
                if ended || newer.destroyed.contains_key(&corrected.subject) {
                    continue;
                }
                let record = snapshot.records.iter().find(|(known, _)| known.as_bytes() == *id);
                let held = record.and_then(|(_, row)| row.as_ref().ok());
                if held.is_none_or(|row| u64::from(row.address.version) < corrected.version) {
                    step.lost(self, "record", *id, Some(corrected.subject))?;
                }
            }
            self.commit(step, counts).await?;
        }
        Ok(())
    }
}
