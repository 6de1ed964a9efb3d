//! Reports of work on keys: what the vault says of a rotation or a rekey that ended, signed by the audit key, with the entries of
//! its log that say so and the proof that each is there. They hold ids, times and counts, and nothing of a person.
//! `docs/audit-log.md` describes them for a second verifier.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use signed_note::Signer;

use super::{
    entry::{Entry, Verdict},
    head::{Head, HeadVerifier, SignedHead, sign_text, unsigned_text},
    json::{instant, text},
    receipt::{BadReceipt, Proven, bad, open_text, read_text},
};
use crate::domain::{
    ids::{EntryId, OperationId},
    operation::{OperationKind, OperationState},
    time::Timestamp,
};

/// First line of a statement, and what a report calls itself.
const FORMAT: &str = "sandyq-key-report 1";

/// Somebody's act, by the entry that it left.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acted {
    /// Person, `per_…`; none where the calendar or the vault itself acted.
    pub person: Option<String>,
    /// Caller, `cal_…`.
    pub caller: Option<String>,
    /// When.
    #[serde(with = "instant")]
    pub time: Timestamp,
    /// The entry.
    #[serde(with = "text")]
    pub entry: EntryId,
}

/// A phase of the work.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PhaseDone {
    /// Which.
    pub phase: String,
    /// Its first commit.
    #[serde(with = "instant")]
    pub began: Timestamp,
    /// Its last commit.
    #[serde(with = "instant")]
    pub ended: Timestamp,
    /// Its commits.
    pub commits: u64,
    /// What they did, counted in what the phase works on.
    pub count: u64,
    /// Entry of the first commit.
    #[serde(with = "text")]
    pub first: EntryId,
    /// Entry of the last.
    #[serde(with = "text")]
    pub last: EntryId,
}

/// A version of the key, as it stood when the report was made.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VersionThen {
    /// Version.
    pub version: u32,
    /// State.
    pub state: String,
    /// Whether it was there before the work began.
    pub before: bool,
}

/// What the vault states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyStatement {
    /// The log that says so, `<installation>/<platform>`.
    pub origin: String,
    /// The operation.
    #[serde(with = "text")]
    pub operation: OperationId,
    /// What it did, such as `rekey_platform`.
    pub kind: String,
    /// What the key is for.
    pub key: String,
    /// The version that it made.
    pub version: u32,
    /// How it ended: `done`, `failed` or `cancelled`.
    pub state: String,
    /// Who proposed it, where it took two people.
    pub proposed: Option<Acted>,
    /// Who approved it then.
    pub approved: Option<Acted>,
    /// Who began it: the proposer, where it took two people.
    pub begun: Acted,
    /// Its end.
    pub ended: Acted,
    /// Its phases, in their order.
    pub phases: Vec<PhaseDone>,
    /// Whether everything was opened, or looked at, before the end.
    pub verified: bool,
    /// Versions of the key.
    pub versions: Vec<VersionThen>,
    /// When the report was made.
    #[serde(with = "instant")]
    pub made: Timestamp,
}

impl KeyStatement {
    /// The signed note.
    ///
    /// # Errors
    /// [`BadReceipt`] where it cannot be signed.
    pub fn sign(&self, key: &dyn Signer) -> Result<String, BadReceipt> {
        let json = serde_json::to_string_pretty(self).map_err(|_| BadReceipt::Malformed("statement"))?;
        sign_text(&format!("{FORMAT}\n{json}\n"), key).map_err(|_| BadReceipt::Malformed("statement"))
    }

    /// Entries that must say what the statement says, each with what it is called here.
    fn named(&self) -> Vec<(&'static str, EntryId)> {
        let mut named = vec![("beginning", self.begun.entry), ("end", self.ended.entry)];
        named.extend(self.proposed.iter().map(|act| ("proposal", act.entry)));
        named.extend(self.approved.iter().map(|act| ("approval", act.entry)));
        named.extend(self.phases.iter().flat_map(|phase| [("phase", phase.first), ("phase", phase.last)]));
        named
    }

    /// Every entry that the statement stands on.
    #[must_use]
    pub fn entries(&self) -> Vec<EntryId> {
        self.named().into_iter().map(|(_, entry)| entry).collect()
    }

    /// Whether the entries say the same.
    fn check(&self, entries: &BTreeMap<EntryId, Entry>) -> Result<(), BadReceipt> {
        let find = |what, id: &EntryId| entries.get(id).ok_or(BadReceipt::Differs(what));
        for (what, id) in self.named() {
            find(what, &id)?;
        }
        let acted = |what, act: &Acted| {
            let entry = find(what, &act.entry)?;
            let person = entry.person.map(|id| crate::domain::ids::PersonId::from_bytes(*id).to_string());
            let same = entry.time == act.time.as_micros() && person == act.person;
            if same { Ok(entry) } else { Err(BadReceipt::Differs(what)) }
        };
        let begun = acted("beginning", &self.begun)?;
        let calls = ["KeyService/RotateKey", "KeyService/RekeyPlatform", "Schedule/RotateKey"];
        let is_rekey = self.kind == OperationKind::RekeyPlatform.as_str();
        if !calls.contains(&begun.call.as_str()) || (begun.call == "KeyService/RekeyPlatform") != is_rekey {
            return Err(BadReceipt::Differs("beginning"));
        }
        match (&self.proposed, &self.approved, begun.proposal) {
            (None, None, None) => {}
            (Some(proposed), Some(approved), Some(proposal)) => {
                let (first, second) = (acted("proposal", proposed)?, acted("approval", approved)?);
                let of = |entry: &Entry| entry.object.as_deref() == Some(proposal.as_slice());
                if !of(first) || first.call != begun.call || proposed.person != self.begun.person {
                    return Err(BadReceipt::Differs("proposal"));
                }
                let other = approved.person.is_some() && approved.person != proposed.person;
                let done = second.verdict == Verdict::Done.as_str();
                if !of(second) || !other || !done || second.call != "ProposalService/ApproveProposal" {
                    return Err(BadReceipt::Differs("approval"));
                }
            }
            _ => return Err(BadReceipt::Differs("proposal")),
        }
        let end = acted("end", &self.ended)?;
        let ended_so = match end.call.as_str() {
            "Operation/EndRotation" => self.state == OperationState::Done.as_str(),
            "Operation/Fail" => self.state == OperationState::Failed.as_str(),
            "OperationService/CancelOperation" => self.state == OperationState::Cancelled.as_str(),
            _ => false,
        };
        let whose = end.object.as_deref() == Some(self.operation.as_bytes().as_slice());
        if !ended_so || !whose || (self.verified && self.state != OperationState::Done.as_str()) {
            return Err(BadReceipt::Differs("end"));
        }
        for phase in &self.phases {
            let (first, last) = (find("phase", &phase.first)?, find("phase", &phase.last)?);
            if first.time != phase.began.as_micros() || last.time != phase.ended.as_micros() {
                return Err(BadReceipt::Differs("phase"));
            }
        }
        Ok(())
    }
}

/// A report: the statement, and the proof of each entry that it stands on. Kept as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyReport {
    format: String,
    statement: String,
    entries: Vec<Proven>,
    checkpoint: String,
}

/// A report that holds.
#[derive(Debug, Clone, PartialEq)]
pub struct ReportHeld {
    /// What it states.
    pub statement: KeyStatement,
    /// Positions of the entries, by their ids.
    pub positions: BTreeMap<EntryId, u64>,
    /// The head of the log that they are in.
    pub head: Head,
}

impl KeyReport {
    /// A report of its parts.
    #[must_use]
    pub fn new(statement: String, entries: Vec<Proven>, checkpoint: String) -> Self {
        Self { format: FORMAT.to_owned(), statement, entries, checkpoint }
    }

    /// Reads a report.
    ///
    /// # Errors
    /// [`BadReceipt::NoReport`].
    pub fn parse(json: &str) -> Result<Self, BadReceipt> {
        let read: Result<Self, _> = serde_json::from_str(json);
        read.ok().filter(|report| report.format == FORMAT).ok_or(BadReceipt::NoReport)
    }

    /// The text that is kept.
    ///
    /// # Errors
    /// [`BadReceipt::NoReport`], which cannot be.
    pub fn to_json(&self) -> Result<String, BadReceipt> {
        serde_json::to_string(self).map_err(|_| BadReceipt::NoReport)
    }

    /// Checks everything, with keys that came from outside the installation.
    ///
    /// # Errors
    /// [`BadReceipt`].
    pub fn verify(&self, trusted: &HeadVerifier) -> Result<ReportHeld, BadReceipt> {
        let statement: KeyStatement = open_text(FORMAT, &self.statement, trusted)?;
        let head = trusted.open(&self.checkpoint).map_err(|e| bad("checkpoint", e))?;
        if head.origin != statement.origin {
            return Err(BadReceipt::OtherLog(statement.origin));
        }
        let (mut entries, mut positions) = (BTreeMap::new(), BTreeMap::new());
        for proven in &self.entries {
            let entry = proven.entry_in(&head)?;
            positions.insert(entry.entry_id(), proven.position());
            entries.insert(entry.entry_id(), entry);
        }
        statement.check(&entries)?;
        Ok(ReportHeld { statement, positions, head })
    }

    /// What it says, where nobody checks it: for reading alone.
    ///
    /// # Errors
    /// [`BadReceipt::Malformed`].
    pub fn unchecked(&self) -> Result<ReportHeld, BadReceipt> {
        let text = unsigned_text(&self.statement).ok_or(BadReceipt::Malformed("statement"))?;
        let head = SignedHead::parse(&self.checkpoint).map_err(|e| bad("checkpoint", e))?.head().clone();
        let positions = self.entries.iter().filter_map(|proven| Some((proven.id()?, proven.position())));
        Ok(ReportHeld { statement: read_text(FORMAT, &text)?, positions: positions.collect(), head })
    }
}
