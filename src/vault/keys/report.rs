//! The report of a rotation or a rekey that ended: who proposed and approved it, its phases and what they did, the versions, and
//! the entries of the log that say so. It is made from the log when somebody asks, and signed by the audit key of then.

use std::collections::BTreeMap;

use super::rotation::key_kind;
use crate::{
    audit::{
        entry::Entry,
        key_report::{Acted, KeyReport, KeyStatement, PhaseDone, VersionThen},
        proof::Question,
        receipt::Proven,
    },
    domain::{
        caller::Caller,
        ids::{CallerId, EntryId, OperationId, PersonId, ProposalId},
        operation::{Operation, OperationKind, Phase},
        time::Timestamp,
    },
    policy::decide::Denial,
    store::{ReadKeys, StoreError},
    vault::{
        Vault,
        access::Call,
        act::Asker,
        audit_log::unreadable,
        deed::{Deed, Deeded, Hand},
        error::VaultError,
        stored_log::{StoredLog, bad_entry, decoded},
        tokenize::unavailable,
    },
};

const ENTRIES_AT_ONCE: u32 = 1_000;

impl Vault {
    /// The report of work on keys that ended, in JSON, on any platform that the caller may see.
    ///
    /// # Errors
    /// [`VaultError`]; [`Denial::OperationNotFound`], invalid where it is no work on keys, or is not done yet.
    pub async fn key_report(
        &self,
        caller: &Caller,
        asker: Asker,
        id: OperationId,
    ) -> Result<String, VaultError> {
        let found = self.find_operation(caller, id).await?;
        let platform = found.as_ref().map_or(caller.platform, |found| found.platform);
        match self.run(platform, caller, asker, Ask { id, known: found.is_some() }).await {
            // To staff, one that may not be seen and one that never was look the same.
            Err(VaultError::Denied(_)) if platform != caller.platform => {
                return Err(Denial::OperationNotFound.into());
            }
            done => done?,
        }
        let found = found.ok_or(Denial::OperationNotFound)?;
        if !is_reported(found.kind) {
            return Err(VaultError::invalid("operation_id", "is no rotation of a key, and no rekey"));
        }
        let Some(ended) = found.ended_at else {
            return Err(VaultError::invalid(
                "operation_id",
                "is not done yet: its report is made when it has ended",
            ));
        };
        let told = self.told_of(&found, ended).await.map_err(unreadable)?;
        self.reported(&found, told).await
    }

    /// What the log has of an operation, from its proposal to its end.
    async fn told_of(&self, found: &Operation, ended: Timestamp) -> Result<ToldOf, StoreError> {
        let mut told = ToldOf::default();
        self.each_entry(found, (found.created_at, ended), |position, entry| {
            told.hear(found, position, entry);
        })
        .await?;
        let proposal = told.begun.as_ref().and_then(|(_, begun)| begun.proposal);
        if let Some(proposal) = proposal.map(|id| ProposalId::from_bytes(*id)) {
            let keys = ReadKeys { proposals: [proposal].into(), ..ReadKeys::default() };
            let mut read = self.shared.store.read(found.platform, &keys).await?;
            let made = match read.proposals.remove(&proposal) {
                Some(row) => row?.created_at,
                None => found.created_at,
            };
            let of = |entry: &Entry| {
                entry.object_kind.as_deref() == Some("proposal")
                    && entry.object.as_deref() == Some(proposal.as_bytes().as_slice())
            };
            self.each_entry(found, (made, made), |position, entry| {
                if of(entry) && told.proposed.is_none() {
                    told.proposed = Some((position, entry.clone()));
                }
            })
            .await?;
            self.each_entry(found, (found.created_at, found.created_at), |position, entry| {
                if of(entry) && entry.call == Call::ApproveProposal.as_str() {
                    told.approved = Some((position, entry.clone()));
                }
            })
            .await?;
        }
        Ok(told)
    }

    /// Entries of a platform's log between two moments, both included.
    async fn each_entry(
        &self,
        found: &Operation,
        (from, to): (Timestamp, Timestamp),
        mut hear: impl FnMut(u64, &Entry),
    ) -> Result<(), StoreError> {
        let store = self.shared.store.as_ref();
        let size = store.tree(found.platform).await?.head.counters.size;
        let mut next = self.first_since(found.platform, Some(from), size).await?;
        loop {
            let some = decoded(store, found.platform, next, ENTRIES_AT_ONCE).await?;
            for (position, entry) in &some {
                if entry.time > to.as_micros() || *position >= size {
                    return Ok(());
                }
                if entry.time >= from.as_micros() {
                    hear(*position, entry);
                }
            }
            let Some((last, _)) = some.last() else { return Ok(()) };
            next = last + 1;
        }
    }

    async fn reported(&self, found: &Operation, told: ToldOf) -> Result<String, VaultError> {
        let signatory = self.shared.signatory().map_err(unavailable)?;
        let name = self.platform_name(found.platform).ok_or(VaultError::Unavailable)?;
        let missing = || unreadable(bad_entry());
        let begun = told.begun.as_ref().ok_or_else(missing)?;
        let ended = told.ended.as_ref().ok_or_else(missing)?;
        let kind = key_kind(found.kind);
        let rows = self.context(found.platform)?;
        let versions = rows.key_rows().iter().filter(|row| row.kind == kind.as_str());
        let verify = told.phases.iter().any(|phase| phase.phase == Phase::Verify.as_str());
        let statement = KeyStatement {
            origin: signatory.origin(&name),
            operation: found.id,
            kind: found.kind.as_str().to_owned(),
            key: kind.as_str().to_owned(),
            version: found.key_version,
            state: found.state.as_str().to_owned(),
            proposed: told.proposed.as_ref().map(|(_, entry)| acted(entry)),
            approved: told.approved.as_ref().map(|(_, entry)| acted(entry)),
            begun: acted(&begun.1),
            ended: acted(&ended.1),
            phases: told.phases.clone(),
            verified: verify && ended.1.call == END,
            versions: versions
                .map(|row| VersionThen {
                    version: row.version,
                    state: row.state.as_str().to_owned(),
                    before: row.version < found.key_version,
                })
                .collect(),
            made: self.shared.clock.now(),
        };
        let note = statement.sign(&**signatory.active_key().map_err(unavailable)?).map_err(unavailable)?;
        let store = self.shared.store.as_ref();
        let log = StoredLog::load(store, found.platform).await.map_err(unreadable)?;
        let size = log.size();
        let positions = told.positions();
        let (mut proven, mut done) = (Vec::new(), std::collections::BTreeSet::new());
        for id in statement.entries() {
            let position = *positions.get(&id).ok_or_else(missing)?;
            if !done.insert(position) {
                continue;
            }
            let row = store.entries(found.platform, position, 1).await.map_err(unreadable)?;
            let entry = row.into_iter().next().ok_or_else(missing)?.entry;
            let proof = log.prove(Question::Inclusion { position, size }).await.map_err(unreadable)?;
            let proof: Vec<_> = proof.map_err(|_| missing())?.into_iter().map(|hash| hash.0).collect();
            proven.push(Proven::new(&entry, position, &proof));
        }
        KeyReport::new(note, proven, log.head().checkpoint.clone()).to_json().map_err(unavailable)
    }
}

/// What the log says when a rotation ends well.
const END: &str = "Operation/EndRotation";

const fn is_reported(kind: OperationKind) -> bool {
    matches!(
        kind,
        OperationKind::RotatePlatformKey
            | OperationKind::RotateIndexKey
            | OperationKind::RotateAuditKey
            | OperationKind::RotateRootKey
            | OperationKind::RekeyPlatform
    )
}

/// Entries of an operation, with their positions.
#[derive(Default)]
struct ToldOf {
    proposed: Option<(u64, Entry)>,
    approved: Option<(u64, Entry)>,
    begun: Option<(u64, Entry)>,
    ended: Option<(u64, Entry)>,
    phases: Vec<PhaseDone>,
    /// Of the first and last commit of each phase.
    at: BTreeMap<EntryId, u64>,
}

impl ToldOf {
    fn hear(&mut self, found: &Operation, position: u64, entry: &Entry) {
        let begins = ["KeyService/RotateKey", "KeyService/RekeyPlatform", "Schedule/RotateKey"];
        let of_key = entry.object_kind.as_deref() == Some("key");
        if self.begun.is_none()
            && entry.time == found.created_at.as_micros()
            && of_key
            && (entry.row_mac.is_some() || found.kind == OperationKind::RotateRootKey)
            && begins.contains(&entry.call.as_str())
        {
            self.begun = Some((position, entry.clone()));
            self.add(position, entry, Phase::Activate);
            return;
        }
        let its_own = entry.object.as_deref() == Some(found.id.as_bytes().as_slice());
        let made = format!("{}/{}", key_kind(found.kind).as_str(), found.key_version);
        let its_key = of_key && entry.object.as_deref() == Some(made.as_bytes());
        if self.begun.is_none() || !(its_own || its_key) {
            return;
        }
        let phase = match entry.call.as_str() {
            "Operation/MakeRoot" | "Operation/ActivateKey" => Some(Phase::Activate),
            "Operation/RewrapKeys" => Some(Phase::Rewrap),
            super::rekey::RESEAL => Some(Phase::Reseal),
            "Operation/FillIndex" => Some(Phase::Fill),
            "Operation/HandOver" => Some(Phase::Announce),
            "Operation/VerifyKeys" | "Operation/VerifyIndex" => Some(Phase::Verify),
            "Operation/DropIndex" => Some(Phase::Drop),
            END if found.kind == OperationKind::RotateIndexKey => Some(Phase::Drop),
            END => Some(Phase::Verify),
            _ => None,
        };
        if let Some(phase) = phase {
            self.add(position, entry, phase);
        }
        let ends = [END, "Operation/Fail", Call::CancelOperation.as_str()];
        if its_own && ends.contains(&entry.call.as_str()) {
            self.ended = Some((position, entry.clone()));
        }
    }

    fn add(&mut self, position: u64, entry: &Entry, phase: Phase) {
        let (id, time) = (entry.entry_id(), Timestamp::from_micros(entry.time));
        self.at.insert(id, position);
        let count = entry.count.unwrap_or(0);
        match self.phases.iter_mut().find(|known| known.phase == phase.as_str()) {
            Some(known) => {
                // A root rotation that met a new platform goes back to a phase that it was in.
                (known.ended, known.last) = (time, id);
                known.commits += 1;
                known.count += count;
            }
            None => self.phases.push(PhaseDone {
                phase: phase.as_str().to_owned(),
                began: time,
                ended: time,
                commits: 1,
                count,
                first: id,
                last: id,
            }),
        }
    }

    fn positions(&self) -> BTreeMap<EntryId, u64> {
        let single = [&self.proposed, &self.approved, &self.begun, &self.ended];
        let single = single.into_iter().flatten().map(|(position, entry)| (entry.entry_id(), *position));
        self.at.iter().map(|(id, position)| (*id, *position)).chain(single).collect()
    }
}

fn acted(entry: &Entry) -> Acted {
    Acted {
        person: entry.person.map(|id| PersonId::from_bytes(*id).to_string()),
        caller: entry.caller.map(|id| CallerId::from_bytes(*id).to_string()),
        time: Timestamp::from_micros(entry.time),
        entry: entry.entry_id(),
    }
}

/// The question, on record.
struct Ask {
    id: OperationId,
    known: bool,
}

impl Deed for Ask {
    type Answer = ();

    fn call(&self) -> Call {
        Call::GetKeyReport
    }

    fn changes(&self) -> bool {
        false
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<()>, VaultError> {
        if !self.known {
            return Err(Denial::OperationNotFound.into());
        }
        hand.log(|entry| Entry {
            object_kind: Some("operation".to_owned()),
            object: Some(self.id.as_bytes().to_vec()),
            ..entry
        })?;
        Ok(Deeded::answer(()))
    }
}
