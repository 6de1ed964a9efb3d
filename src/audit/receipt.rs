//! Receipts of erasures: what the vault says of one, signed by the audit key, with the proof that its log says it too.
//! They hold ids and times, and nothing of a person. `docs/audit-log.md` describes them for a second verifier.

use data_encoding::BASE64;
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use signed_note::Signer;

use super::{
    entry::{Entry, Verdict},
    head::{BadHead, Head, HeadVerifier, SignedHead, sign_text, unsigned_text},
    json::{instant, text},
    proof::{BadProof, check_inclusion},
    tree::{Hash, leaf_hash, split},
};
use crate::domain::{
    ids::{EntryId, SubjectId},
    receipt::ReceiptKind,
    time::Timestamp,
};

/// First line of a statement.
const STATEMENT: &str = "sandyq-erasure 1";
/// What a receipt calls itself.
const FORMAT: &str = "sandyq-receipt 1";
const DAY_MICROS: i64 = 24 * 60 * 60 * 1_000_000;

/// Until when a backup can hold what was erased.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BackupLimit {
    /// Days after which no backup is restored any more, as configured then.
    pub horizon_days: u32,
    /// The horizon of a backup that was taken just before the destruction.
    #[serde(with = "instant")]
    pub until: Timestamp,
}

/// What the vault states.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Statement {
    /// The log that says so, `<installation>/<platform>`.
    pub origin: String,
    /// What happened.
    #[serde(with = "text")]
    pub kind: ReceiptKind,
    /// To whom: the vault's random id.
    #[serde(with = "text")]
    pub subject: SubjectId,
    /// The entry of the log.
    #[serde(with = "text")]
    pub entry: EntryId,
    /// When it happened.
    #[serde(with = "instant")]
    pub time: Timestamp,
    /// Since when nothing of the subject was readable.
    #[serde(with = "instant")]
    pub erased_at: Timestamp,
    /// When keys, values, tokens and index entries are destroyed in the live database, or were to be.
    #[serde(with = "instant")]
    pub destroy_at: Timestamp,
    /// Until when a backup can hold them; none where no horizon is configured, or the erasure was called off.
    pub backups: Option<BackupLimit>,
    /// The same in words.
    pub says: String,
}

/// An erasure as its receipts tell of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The log, `<installation>/<platform>`.
    pub origin: String,
    /// Whose.
    pub subject: SubjectId,
    /// Since when it is unreadable.
    pub erased_at: Timestamp,
    /// When it is destroyed.
    pub destroy_at: Timestamp,
    /// Days after which no backup is restored, where there are.
    pub horizon_days: Option<u32>,
}

impl Statement {
    /// What is stated of an entry that did this at a time.
    #[must_use]
    pub fn new(kind: ReceiptKind, entry: EntryId, time: Timestamp, told: Told) -> Self {
        let Told { origin, subject, erased_at, destroy_at, horizon_days } = told;
        let gone_at = if kind == ReceiptKind::Destroyed { time } else { destroy_at };
        let backups = horizon_days.filter(|_| kind != ReceiptKind::CalledOff).map(|horizon_days| {
            let until = gone_at.plus_micros(i64::from(horizon_days) * DAY_MICROS);
            BackupLimit { horizon_days, until }
        });
        let says = says(kind, time, destroy_at, backups);
        Self { origin, kind, subject, entry, time, erased_at, destroy_at, backups, says }
    }

    /// The signed note.
    ///
    /// # Errors
    /// [`BadReceipt`] where it cannot be signed.
    pub fn sign(&self, key: &dyn Signer) -> Result<String, BadReceipt> {
        let json = serde_json::to_string_pretty(self).map_err(|_| BadReceipt::Malformed("statement"))?;
        sign_text(&format!("{STATEMENT}\n{json}\n"), key).map_err(|_| BadReceipt::Malformed("statement"))
    }

    /// What the entry must say for the statement to be true.
    fn check(&self, entry: &Entry) -> Result<(), BadReceipt> {
        let call = match self.kind {
            ReceiptKind::Erased => "SubjectService/EraseSubject",
            ReceiptKind::CalledOff => "SubjectService/CancelErasure",
            ReceiptKind::Destroyed => "Operation/DestroySubject",
        };
        let erased_then = self.kind != ReceiptKind::Erased || self.erased_at == self.time;
        let says = [
            ("entry", entry.entry_id() == self.entry),
            ("call", entry.call == call && entry.verdict == Verdict::Done.as_str()),
            ("subject", entry.subject.is_some_and(|id| *id == *self.subject.as_bytes())),
            ("time", entry.time == self.time.as_micros() && erased_then),
        ];
        match says.into_iter().find(|(_, same)| !same) {
            Some((what, _)) => Err(BadReceipt::Differs(what)),
            None => Ok(()),
        }
    }
}

fn says(kind: ReceiptKind, time: Timestamp, destroy_at: Timestamp, backups: Option<BackupLimit>) -> String {
    let live = match kind {
        ReceiptKind::Erased => format!(
            "Unreadable since {time}. Keys, values, tokens and index entries in the live database are destroyed from \
             {destroy_at} on; until then two people can call the erasure off. A second receipt follows the destruction."
        ),
        ReceiptKind::CalledOff => {
            return format!("Called off at {time}: the subject stands as before the erasure.");
        }
        ReceiptKind::Destroyed => {
            format!("Keys, values, tokens and index entries in the live database were destroyed at {time}.")
        }
    };
    let old = match backups {
        Some(limit) => format!(
            "A backup from before the destruction can hold them, sealed, until {}: by then it is older than {} days, and \
             no backup of that age is restored.",
            limit.until, limit.horizon_days
        ),
        None => "No horizon of backups is configured: a backup from before the destruction can hold them, sealed, for as \
                 long as that backup and its keys are kept."
            .to_owned(),
    };
    format!("{live} {old}")
}

/// A statement of a kind, as a trusted key signed it.
pub(super) fn open_text<T: DeserializeOwned>(
    kind: &str,
    note: &str,
    trusted: &HeadVerifier,
) -> Result<T, BadReceipt> {
    read_text(kind, &trusted.open_text(note).map_err(|e| bad("statement", e))?)
}

/// A statement of a kind: its first line says which.
pub(super) fn read_text<T: DeserializeOwned>(kind: &str, text: &str) -> Result<T, BadReceipt> {
    let json = text.strip_prefix(kind).and_then(|rest| rest.strip_prefix('\n'));
    let read = json.and_then(|json| serde_json::from_str(json).ok());
    read.ok_or(BadReceipt::Malformed("statement"))
}

/// An entry with the proof that a log has it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Proven {
    entry: String,
    position: u64,
    proof: Vec<String>,
}

impl Proven {
    /// An entry at a position, with the hashes of its proof.
    #[must_use]
    pub fn new(entry: &[u8], position: u64, proof: &[[u8; 32]]) -> Self {
        let proof = proof.iter().map(|hash| BASE64.encode(hash)).collect();
        Self { entry: BASE64.encode(entry), position, proof }
    }

    /// Where it is.
    #[must_use]
    pub const fn position(&self) -> u64 {
        self.position
    }

    /// Which entry it says it is; nobody checked it.
    #[must_use]
    pub fn id(&self) -> Option<EntryId> {
        let bytes = BASE64.decode(self.entry.as_bytes()).ok()?;
        Entry::decode(&bytes).ok().map(|entry| entry.entry_id())
    }

    /// The entry, where the log of this head has it there.
    ///
    /// # Errors
    /// [`BadReceipt`].
    pub fn entry_in(&self, head: &Head) -> Result<Entry, BadReceipt> {
        let bytes = BASE64.decode(self.entry.as_bytes()).map_err(|_| BadReceipt::Malformed("entry"))?;
        let entry = Entry::decode(&bytes).map_err(|_| BadReceipt::Malformed("entry"))?;
        check_inclusion(&self.hashes()?, head.size, head.root, self.position, leaf_hash(&bytes))
            .map_err(BadReceipt::NotInLog)?;
        Ok(entry)
    }

    fn hashes(&self) -> Result<Vec<Hash>, BadReceipt> {
        let malformed = BadReceipt::Malformed("proof");
        let mut hashes = Vec::new();
        for hash in &self.proof {
            let bytes = BASE64.decode(hash.as_bytes()).map_err(|_| malformed.clone())?;
            let one = split(&bytes).filter(|one| one.len() == 1).ok_or_else(|| malformed.clone())?;
            hashes.extend(one);
        }
        Ok(hashes)
    }
}

/// A receipt: the statement, and the proof that its entry is in the log. Kept as JSON.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Receipt {
    format: String,
    statement: String,
    entry: String,
    position: u64,
    proof: Vec<String>,
    checkpoint: String,
}

/// Why a receipt is not believed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum BadReceipt {
    /// Not a receipt at all.
    #[error("not a receipt of erasure, format 1")]
    NotOne,
    /// Not a report of work on keys.
    #[error("not a report of work on keys, format 1")]
    NoReport,
    /// A part is not what it must be.
    #[error("its {0} is malformed")]
    Malformed(&'static str),
    /// No trusted key signed a part.
    #[error("its {0} is not signed by a trusted audit key")]
    Unsigned(&'static str),
    /// The head is of another log.
    #[error("its statement is of the log {0}, its checkpoint of another")]
    OtherLog(String),
    /// The proof does not lead from the entry to the head.
    #[error("its entry is not in the log: {0}")]
    NotInLog(BadProof),
    /// The entry says something else than the statement.
    #[error("its entry does not say what the statement says: the {0} differs")]
    Differs(&'static str),
}

/// A receipt that holds.
#[derive(Debug, Clone, PartialEq)]
pub struct Verified {
    /// What it states.
    pub statement: Statement,
    /// Position of the entry.
    pub position: u64,
    /// The head of the log that it is in.
    pub head: Head,
}

impl Receipt {
    /// A receipt of its parts.
    #[must_use]
    pub fn new(
        statement: String,
        entry: &[u8],
        position: u64,
        proof: &[[u8; 32]],
        checkpoint: String,
    ) -> Self {
        let Proven { entry, position, proof } = Proven::new(entry, position, proof);
        Self { format: FORMAT.to_owned(), statement, entry, position, proof, checkpoint }
    }

    /// Reads a receipt.
    ///
    /// # Errors
    /// [`BadReceipt::NotOne`].
    pub fn parse(json: &str) -> Result<Self, BadReceipt> {
        let read: Result<Self, _> = serde_json::from_str(json);
        read.ok().filter(|receipt| receipt.format == FORMAT).ok_or(BadReceipt::NotOne)
    }

    /// The text that is kept.
    ///
    /// # Errors
    /// [`BadReceipt::NotOne`], which cannot be.
    pub fn to_json(&self) -> Result<String, BadReceipt> {
        serde_json::to_string(self).map_err(|_| BadReceipt::NotOne)
    }

    /// Checks everything, with keys that came from outside the installation: an audit key that was replaced since may
    /// have signed the statement, and its successor the head.
    ///
    /// # Errors
    /// [`BadReceipt`].
    pub fn verify(&self, trusted: &HeadVerifier) -> Result<Verified, BadReceipt> {
        let statement: Statement = open_text(STATEMENT, &self.statement, trusted)?;
        let head = trusted.open(&self.checkpoint).map_err(|e| bad("checkpoint", e))?;
        if head.origin != statement.origin {
            return Err(BadReceipt::OtherLog(statement.origin));
        }
        let (entry, proof) = (self.entry.clone(), self.proof.clone());
        statement.check(&Proven { entry, position: self.position, proof }.entry_in(&head)?)?;
        Ok(Verified { statement, position: self.position, head })
    }

    /// What it says, where nobody checks it: for reading alone.
    ///
    /// # Errors
    /// [`BadReceipt::Malformed`].
    pub fn unchecked(&self) -> Result<Verified, BadReceipt> {
        let text = unsigned_text(&self.statement).ok_or(BadReceipt::Malformed("statement"))?;
        let head = SignedHead::parse(&self.checkpoint).map_err(|e| bad("checkpoint", e))?.head().clone();
        Ok(Verified { statement: read_text(STATEMENT, &text)?, position: self.position, head })
    }
}

pub(super) fn bad(what: &'static str, bad: BadHead) -> BadReceipt {
    match bad {
        BadHead::Malformed => BadReceipt::Malformed(what),
        BadHead::Unsigned | BadHead::Replaced => BadReceipt::Unsigned(what),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        audit::tree::LogTree,
        crypto::{aead::Key, audit_key::AuditKey},
        domain::ids::PlatformId,
    };

    const ORIGIN: &str = "vault.example.kz/lerna";

    fn key(seed: u8) -> AuditKey {
        AuditKey::from_seed("vault.example.kz", &Key::from_bytes(&[seed; 32])).unwrap()
    }

    fn trusted(keys: &[&AuditKey]) -> HeadVerifier {
        let lines: Vec<_> = keys.iter().map(|key| key.verifier_key()).collect();
        HeadVerifier::new(&lines.join("\n")).unwrap()
    }

    fn told(horizon_days: Option<u32>) -> Told {
        let (erased_at, destroy_at) = (Timestamp::from_micros(1), Timestamp::from_micros(9));
        let subject = SubjectId::from_bytes([4; 16]);
        Told { origin: ORIGIN.into(), subject, erased_at, destroy_at, horizon_days }
    }

    fn statement() -> Statement {
        let entry = EntryId::from_bytes([1; 16]);
        Statement::new(ReceiptKind::Erased, entry, Timestamp::from_micros(1), told(Some(90)))
    }

    fn entry() -> Entry {
        let (id, at) = (EntryId::from_bytes([1; 16]), Timestamp::from_micros(1));
        let call = "SubjectService/EraseSubject";
        let subject = Some([4; 16].into());
        Entry { subject, ..Entry::new(id, at, PlatformId::new(1), call, Verdict::Done) }
    }

    /// A log of one other entry and this one, and the receipt.
    fn receipt(statement: &Statement, entry: &Entry, signer: &AuditKey, head_by: &AuditKey) -> Receipt {
        let (bytes, first) = (entry.encode().unwrap(), leaf_hash(b"another"));
        let mut tree = LogTree::empty();
        tree.append(first, &mut Vec::new());
        tree.append(leaf_hash(&bytes), &mut Vec::new());
        let head = Head { origin: ORIGIN.into(), size: 2, root: tree.root() };
        let note = statement.sign(signer).unwrap();
        Receipt::new(note, &bytes, 1, &[first.0], head.sign(head_by).unwrap())
    }

    #[test]
    fn a_receipt_holds_also_across_a_change_of_the_audit_key() {
        let (old, new) = (key(1), key(2));
        let both = receipt(&statement(), &entry(), &old, &old);
        let kept = Receipt::parse(&both.to_json().unwrap()).unwrap();
        assert_eq!(kept.verify(&trusted(&[&old])).unwrap().statement, statement());
        let later = receipt(&statement(), &entry(), &old, &new);
        assert!(later.verify(&trusted(&[&new, &old])).is_ok());
        assert_eq!(later.verify(&trusted(&[&new])), Err(BadReceipt::Unsigned("statement")));
        assert_eq!(later.verify(&trusted(&[&old])), Err(BadReceipt::Unsigned("checkpoint")));
    }

    #[test]
    fn what_the_entry_does_not_say_is_not_believed() {
        let key = key(1);
        let refused = |statement: &Statement, entry: &Entry| {
            receipt(statement, entry, &key, &key).verify(&trusted(&[&key])).unwrap_err()
        };
        let other = |id: u8| EntryId::from_bytes([id; 16]);
        let cases = [
            (Statement { entry: other(2), ..statement() }, entry(), "entry"),
            (Statement { kind: ReceiptKind::Destroyed, ..statement() }, entry(), "call"),
            (statement(), Entry { verdict: "deny".into(), ..entry() }, "call"),
            (statement(), Entry { subject: None, ..entry() }, "subject"),
            (statement(), Entry { time: 2, ..entry() }, "time"),
            (Statement { erased_at: Timestamp::from_micros(0), ..statement() }, entry(), "time"),
        ];
        for (statement, entry, what) in cases {
            assert_eq!(refused(&statement, &entry), BadReceipt::Differs(what));
        }
        let elsewhere = Statement { origin: "vault.example.kz/cap".into(), ..statement() };
        assert_eq!(refused(&elsewhere, &entry()), BadReceipt::OtherLog(elsewhere.origin));
    }

    #[test]
    fn a_changed_part_is_found() {
        let key = key(1);
        let good = receipt(&statement(), &entry(), &key, &key);
        let bad = |change: &dyn Fn(&mut Receipt)| {
            let mut receipt = good.clone();
            change(&mut receipt);
            receipt.verify(&trusted(&[&key])).unwrap_err()
        };
        let until = |r: &mut Receipt| r.statement = r.statement.replace("1970-04-01", "1970-03-01");
        assert_eq!(bad(&until), BadReceipt::Unsigned("statement"));
        assert_eq!(bad(&|r| r.position = 0), BadReceipt::NotInLog(BadProof::Wrong));
        assert_eq!(bad(&|r| r.position = 2), BadReceipt::NotInLog(BadProof::OutOfRange));
        assert_eq!(bad(&|r| r.proof.clear()), BadReceipt::NotInLog(BadProof::Wrong));
        assert_eq!(bad(&|r| r.proof[0].truncate(4)), BadReceipt::Malformed("proof"));
        assert_eq!(bad(&|r| r.entry.truncate(4)), BadReceipt::Malformed("entry"));
        let other = Entry { count: Some(1), ..entry() }.encode().unwrap();
        assert_eq!(bad(&|r| r.entry = BASE64.encode(&other)), BadReceipt::NotInLog(BadProof::Wrong));
        // A head may not stand for a statement, nor a statement for a head.
        assert_eq!(bad(&|r| r.statement = r.checkpoint.clone()), BadReceipt::Malformed("statement"));
        assert_eq!(bad(&|r| r.checkpoint = r.statement.clone()), BadReceipt::Malformed("checkpoint"));
        assert_eq!(Receipt::parse("{}"), Err(BadReceipt::NotOne));
    }

    #[test]
    fn words_and_dates_say_the_same() {
        let at = Timestamp::from_micros(20);
        let of = |kind, days| Statement::new(kind, EntryId::from_bytes([1; 16]), at, told(days));
        let limited = of(ReceiptKind::Destroyed, Some(90));
        assert_eq!(
            limited.backups.unwrap().until,
            at.plus_micros(90 * DAY_MICROS),
            "counted from the destruction"
        );
        assert!(limited.says.contains("until 1970-04-01T00:00:00.000020Z"), "{}", limited.says);
        let erased = of(ReceiptKind::Erased, Some(90)).backups.unwrap().until;
        assert_eq!(erased, Timestamp::from_micros(9).plus_micros(90 * DAY_MICROS), "from its date");
        let unlimited = of(ReceiptKind::Erased, None);
        assert_eq!(unlimited.backups, None);
        assert!(unlimited.says.contains("No horizon of backups is configured"), "{}", unlimited.says);
        let off = of(ReceiptKind::CalledOff, Some(90));
        assert!(off.backups.is_none() && off.says.starts_with("Called off"), "{}", off.says);
    }
}
