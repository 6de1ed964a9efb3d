//! Every register of a platform, row by row, and last what they are by the audit key. Read in pages: a country's consents do not
//! fit into memory.

use std::{collections::HashMap, sync::Arc};

use serde_json::{Value, json};
use tokio::sync::mpsc;

use super::{
    rows::{self, Release},
    statement::{FORMAT, Register, RegisterStatement, Tally},
};
use crate::{
    audit::entry::{Entry, Verdict},
    crypto::keyring::Keyring,
    domain::{
        calendar::WorkingCalendar,
        caller::Caller,
        consent::Consent,
        ids::{ConsentId, CopyId, PlatformId},
        platform::Platform,
        time::Timestamp,
    },
    store::{GrantingTable, ReadKeys, StoreError, copies::WhichCopies, rows::ConsentRow},
    vault::{
        Shared, Vault,
        access::Call,
        act::Asker,
        audit_log::{Ask, Stop, unreadable},
        context::Context,
        error::VaultError,
        stored_log::{bad_entry, decoded},
        tokenize::unavailable,
    },
};

const ROWS_AT_ONCE: u32 = 500;
const POLICIES_AT_ONCE: u32 = 16;
const ENTRIES_AT_ONCE: u32 = 1_000;
const LINES_A_PIECE: usize = 500;
/// Pieces that wait for a slow reader.
const PIECES_AHEAD: usize = 4;

/// Of which time releases are told; everything else stands as it is now.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct RegisterSpan {
    /// From then on; from the log's begin where there is none.
    pub since: Option<Timestamp>,
    /// Up to then; up to now where there is none.
    pub until: Option<Timestamp>,
}

/// A piece of an export.
#[derive(Debug)]
pub enum RegisterPiece {
    /// How far it is in the log.
    Progress {
        /// Entries looked at.
        entries_read: u64,
        /// Entries to look at.
        entries: u64,
    },
    /// The next lines of the file. Without the statement, which is the last of all, it is not whole.
    Lines(Vec<String>),
}

/// A stream of pieces; an error ends it.
pub type RegisterLines = mpsc::Receiver<Result<RegisterPiece, VaultError>>;

impl Vault {
    /// Every register of a platform, signed.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn export_registers(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        span: RegisterSpan,
    ) -> Result<RegisterLines, VaultError> {
        let platform = self.target(caller, &asker, Call::ExportRegisters, platform).await?;
        // The question is an entry before the first row is read.
        self.run(platform, caller, asker, Ask { call: Call::ExportRegisters, subject: None }).await?;
        let tree = self.shared.store.tree(platform).await.map_err(unreadable)?;
        let size = tree.head.counters.size;
        let first = self.first_since(platform, span.since, size).await.map_err(unreadable)?;
        let (sender, lines) = mpsc::channel(PIECES_AHEAD);
        let export = Export {
            shared: Arc::clone(&self.shared),
            calendar: Arc::clone(&self.settings.calendar),
            context: self.context(platform)?,
            operator: self.platform(platform)?.platform.clone(),
            platform,
            span,
            first,
            size,
            now: self.shared.clock.now(),
            tally: Tally::default(),
            lines: Vec::new(),
            sender,
        };
        tokio::spawn(export.run());
        Ok(lines)
    }
}

struct Export {
    shared: Arc<Shared>,
    calendar: Arc<WorkingCalendar>,
    /// Policies, callers and recipients as they were when it began.
    context: Arc<Context>,
    operator: Platform,
    platform: PlatformId,
    span: RegisterSpan,
    /// Positions of the first entry of the span, and of the one after the last of the log.
    first: u64,
    size: u64,
    now: Timestamp,
    tally: Tally,
    lines: Vec<String>,
    sender: mpsc::Sender<Result<RegisterPiece, VaultError>>,
}

impl Export {
    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let _turn = shared.looking.lock().await;
        let failed = match self.rows().await {
            Ok(()) => self.end().await.err(),
            Err(Stop::Gone) => None,
            Err(Stop::Failed(error)) => Some(unreadable(error)),
        };
        if let Some(error) = failed {
            let _unheard = self.sender.send(Err(error)).await;
        }
    }

    async fn rows(&mut self) -> Result<(), Stop> {
        let head = json!({
            "registers": FORMAT, "platform": self.operator.name.to_string(), "operator": self.operator.legal_name,
            "bin": self.operator.bin, "made": self.now.to_string(),
        });
        self.line(None, &head).await?;
        self.policies().await?;
        self.configuration().await?;
        self.consents().await?;
        self.releases().await?;
        self.copies().await
    }

    async fn line(&mut self, register: Option<Register>, row: &Value) -> Result<(), Stop> {
        let line = row.to_string();
        self.tally.take(register, &line);
        self.lines.push(line);
        if self.lines.len() >= LINES_A_PIECE { self.flush().await } else { Ok(()) }
    }

    async fn flush(&mut self) -> Result<(), Stop> {
        let lines = std::mem::take(&mut self.lines);
        self.sender.send(Ok(RegisterPiece::Lines(lines))).await.map_err(|_| Stop::Gone)
    }

    /// The statement, last of all.
    async fn end(&mut self) -> Result<(), VaultError> {
        let signatory = self.shared.signatory().map_err(unavailable)?;
        let (rows, sha256) = std::mem::take(&mut self.tally).end();
        let statement = RegisterStatement {
            origin: signatory.origin(&self.operator.name),
            made: self.now.to_string(),
            since: self.span.since.map(|since| since.to_string()),
            until: self.span.until.map(|until| until.to_string()),
            log_size: self.size,
            rows,
            sha256,
        };
        let signed = statement.sign(&**signatory.active_key().map_err(unavailable)?).map_err(unavailable)?;
        self.lines.push(signed);
        // Whoever went away needs no answer.
        let _unheard = self.flush().await;
        Ok(())
    }

    fn keys(&self) -> &Keyring {
        &self.context.keys
    }

    async fn policies(&mut self) -> Result<(), Stop> {
        let governing = self.context.policy(self.now).map(|policy| policy.version);
        let mut below = u32::MAX;
        loop {
            let some = self.shared.store.policies(self.platform, below, POLICIES_AT_ONCE).await?;
            let Some(last) = some.last() else { return Ok(()) };
            below = last.version;
            for row in some {
                let believed = self.keys().row.verify(&row.image(), &row.mac).is_ok();
                let told = if believed {
                    rows::policy(&row, governing)
                } else {
                    rows::damaged(Register::Policies, &row.version.to_string())
                };
                self.line(Some(Register::Policies), &told).await?;
            }
        }
    }

    /// Purposes, recipients and access: what is loaded already, and was believed when it was.
    async fn configuration(&mut self) -> Result<(), Stop> {
        let (context, staff) = (Arc::clone(&self.context), self.shared.staff.load_full());
        let policy = context.policy(self.now);
        let mut told = Vec::new();
        if let Some(policy) = policy {
            let purposes = policy.purposes().map(|(name, purpose)| rows::purpose(policy, name, purpose));
            told.extend(purposes.map(|row| (Register::Purposes, row)));
        }
        told.extend(context.recipients().iter().map(|row| (Register::Recipients, rows::recipient(row))));
        for person in staff.persons() {
            let grants = staff.grants().iter().map(|row| &row.grant);
            let row = rows::person(person, grants, self.platform);
            told.extend(row.map(|row| (Register::Access, row)));
        }
        let of_staff = staff.callers().filter(|row| row.caller.platform != self.platform);
        for caller in context.callers().chain(of_staff) {
            told.push((Register::Access, rows::caller(caller, policy)));
        }
        for (register, row) in told {
            self.line(Some(register), &row).await?;
        }
        Ok(())
    }

    async fn consents(&mut self) -> Result<(), Stop> {
        let mut after = [0; 16];
        loop {
            let marks = self
                .shared
                .store
                .row_marks(self.platform, GrantingTable::Consents, after, ROWS_AT_ONCE)
                .await?;
            let Some((last, _)) = marks.last() else { return Ok(()) };
            after = *last;
            let ids: Vec<_> = marks.iter().map(|(id, _)| ConsentId::from_bytes(*id)).collect();
            let mut found = self.read_consents(ids.iter().copied()).await?;
            for id in ids {
                let told = match found.remove(&id) {
                    Some(Some(consent)) => rows::consent(&consent),
                    Some(None) => rows::damaged(Register::Consents, &id.to_string()),
                    // It went with its subject since the page was read.
                    None => continue,
                };
                self.line(Some(Register::Consents), &told).await?;
            }
        }
    }

    /// Consents by their ids; none of one that is damaged.
    async fn read_consents(
        &self,
        ids: impl Iterator<Item = ConsentId>,
    ) -> Result<HashMap<ConsentId, Option<Consent>>, StoreError> {
        let keys = ReadKeys { consents: ids.collect(), ..ReadKeys::default() };
        if keys.consents.is_empty() {
            return Ok(HashMap::new());
        }
        let read = self.shared.store.read(self.platform, &keys).await?;
        let believed =
            |row: ConsentRow| self.keys().row.verify(&row.image(), &row.mac).is_ok().then_some(row.consent);
        Ok(read.consents.into_iter().map(|(id, row)| (id, row.ok().and_then(believed))).collect())
    }

    /// Values that left, from the log.
    async fn releases(&mut self) -> Result<(), Stop> {
        let context = Arc::clone(&self.context);
        let until = self.span.until.map_or(i64::MAX, Timestamp::as_micros);
        let mut position = self.first;
        while position < self.size {
            let limit = u32::try_from(self.size - position).unwrap_or(u32::MAX).min(ENTRIES_AT_ONCE);
            let some = decoded(self.shared.store.as_ref(), self.platform, position, limit).await?;
            let Some((last, newest)) = some.last() else { return Err(bad_entry().into()) };
            let is_over = newest.time > until;
            position = last + 1;
            self.told(&context, &some, until).await?;
            if is_over {
                return Ok(());
            }
            let (entries_read, entries) = (position - self.first, self.size - self.first);
            let progress = RegisterPiece::Progress { entries_read, entries };
            self.sender.send(Ok(progress)).await.map_err(|_| Stop::Gone)?;
        }
        Ok(())
    }

    async fn told(&mut self, context: &Context, some: &[(u64, Entry)], until: i64) -> Result<(), Stop> {
        let permitted = |entry: &Entry| entry.verdict == Verdict::Permit.as_str() && entry.time <= until;
        let left: Vec<_> = some
            .iter()
            .filter(|(_, entry)| permitted(entry))
            .filter_map(|(position, entry)| Release::of(context, *position, entry))
            .collect();
        let consents = self.read_consents(left.iter().filter_map(Release::consent_to_publish)).await?;
        for release in left {
            let consent = release.consent_to_publish().and_then(|id| consents.get(&id)?.as_ref());
            for register in release.registers() {
                let row = release.row(register, consent, &self.calendar, self.now);
                self.line(Some(register), &row).await?;
            }
        }
        Ok(())
    }

    async fn copies(&mut self) -> Result<(), Stop> {
        let mut after = (Timestamp::from_micros(i64::MIN), CopyId::from_bytes([0; 16]));
        loop {
            let some =
                self.shared.store.data_copies(self.platform, WhichCopies::All, after, ROWS_AT_ONCE).await?;
            let Some(last) = some.last() else { return Ok(()) };
            after = (last.copy.facts.destroy_by, last.copy.id);
            for row in some {
                let told = if self.keys().row.verify(&row.image(), &row.mac).is_ok() {
                    rows::data_copy(&row.copy, self.now)
                } else {
                    rows::damaged(Register::Copies, &row.copy.id.to_string())
                };
                self.line(Some(Register::Copies), &told).await?;
            }
        }
    }
}
