//! The log looked through for whom a breach reaches: counted and recorded, or told one by one. Read in pages, with at most
//! [`IDS_AT_ONCE`] ids in memory; more people take another walk over the log for each million.

use std::sync::Arc;

use tokio::sync::mpsc;

use super::{
    BreachView, Look,
    steps::{Advance, Step},
    whom::{Id, Names, Question, Walk},
};
use crate::{
    crypto::{document::ContentHash, keyring::KeyKind},
    domain::{
        breach::{Breach, BreachScope, Held},
        caller::Caller,
        ids::{BreachId, PlatformId, SubjectId},
        time::Timestamp,
    },
    policy::decide::Denial,
    store::{StoreError, rows::breaches::BreachRow},
    vault::{
        Shared, Vault,
        access::Call,
        act::Asker,
        audit_log::{Stop, unreadable},
        error::VaultError,
        stored_log::{bad_entry, decoded},
    },
};

/// People of whom one walk keeps the ids.
const IDS_AT_ONCE: usize = 1_000_000;
/// Ids of one piece of an answer.
const IDS_A_PIECE: usize = 1_000;
const ENTRIES_AT_ONCE: u32 = 1_000;
/// Entries after which it is told how far it is.
const TOLD_EVERY: u64 = 20_000;
/// Steps that wait for a slow reader.
const STEPS_AHEAD: usize = 4;

/// One step of a search.
#[derive(Debug)]
pub enum BreachStep {
    /// So far.
    Progress {
        /// Entries looked at, in all walks.
        entries_read: u64,
        /// Entries of the log.
        entries: u64,
    },
    /// People, in ascending order of their ids.
    Subjects(Vec<SubjectId>),
    /// Last: the breach as it is recorded.
    Result(Box<BreachView>),
}

/// A stream of steps; an error ends it.
pub type BreachSteps = mpsc::Receiver<Result<BreachStep, VaultError>>;

/// A search whose result is recorded. It is begun for somebody who may, and runs beside the stream that tells of it.
pub struct Assessment {
    search: Search,
    platform: PlatformId,
    caller: Caller,
    asker: Asker,
    /// As it was a moment ago.
    found: Option<BreachRow>,
}

impl Vault {
    /// Begins to find in the log whom a breach reaches; [`Vault::assess_breach`] does it.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn begin_assessment(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        id: BreachId,
    ) -> Result<(BreachSteps, Assessment), VaultError> {
        let call = Call::AssessBreach;
        let platform = self.target(caller, &asker, call, platform).await?;
        let found = self.find_breach(call, caller, platform, id).await?;
        // The question is an entry before the first page is read; the request's own is that of its end.
        let question = Asker { request: None, ..asker.clone() };
        let breach = self.run(platform, caller, question, Look { call, found: found.clone() }).await?;
        if breach.facts.reach.is_unknown() {
            let rule = "names no way in yet: a caller, a key version, or everyone";
            return Err(VaultError::invalid("breach_id", rule));
        }
        let (steps, search) = self.search(platform, &breach, None).await?;
        Ok((steps, Assessment { search, platform, caller: caller.clone(), asker, found }))
    }

    /// Finds in the log whom a breach reaches, and records how many, which data, purposes and recipients. What comes of it is
    /// the last step of the stream.
    pub async fn assess_breach(&self, assessment: Assessment) {
        let Assessment { search, platform, caller, asker, found } = assessment;
        let sender = search.sender.clone();
        let last = match search.run(false).await {
            Ok(scope) => self.record_scope(platform, &caller, asker, found, scope).await,
            Err(Stop::Gone) => return,
            Err(Stop::Failed(error)) => Err(unreadable(error)),
        };
        let _unheard = sender.send(last.map(|view| BreachStep::Result(Box::new(view)))).await;
    }

    /// Tells one by one whom a breach reaches, as the log stood when that was recorded.
    ///
    /// # Errors
    /// [`VaultError`]; in the stream [`Denial::DataDamaged`] where the log tells of others than it did then.
    pub async fn breach_subjects(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        id: BreachId,
    ) -> Result<BreachSteps, VaultError> {
        let call = Call::ExportBreachSubjects;
        let platform = self.target(caller, &asker, call, platform).await?;
        let breach = self.look_at_breach(call, caller, asker, platform, id).await?;
        let recorded = breach.scope.clone().ok_or(Denial::BreachNotAssessed)?;
        let view = self.breach_view(platform, breach.clone())?;
        let (steps, search) = self.search(platform, &breach, Some(recorded.log_size)).await?;
        tokio::spawn(async move {
            let sender = search.sender.clone();
            let last = match search.run(true).await {
                Ok(scope) if scope.is_of(&recorded) => Ok(BreachStep::Result(Box::new(view))),
                Ok(_) => {
                    tracing::error!(breach = %id, "the log tells of other people than when the breach was assessed");
                    Err(Denial::DataDamaged.into())
                }
                Err(Stop::Gone) => return,
                Err(Stop::Failed(error)) => Err(unreadable(error)),
            };
            let _unheard = sender.send(last).await;
        });
        Ok(steps)
    }

    async fn search(
        &self,
        platform: PlatformId,
        breach: &Breach,
        end: Option<u64>,
    ) -> Result<(BreachSteps, Search), VaultError> {
        let size = self.shared.store.tree(platform).await.map_err(unreadable)?.head.counters.size;
        let end = end.unwrap_or(size).min(size);
        let made_at = match breach.facts.reach.held {
            Some(Held::UnderKey(version)) => {
                let context = self.context(platform)?;
                let key = context.key(KeyKind::Platform, version).ok_or(Denial::KeyNotFound)?;
                Some(key.created_at)
            }
            Some(Held::Everyone) | None => None,
        };
        let question = Question::of(&breach.facts, made_at);
        let first = self.first_since(platform, question.since(), end).await.map_err(unreadable)?;
        let (sender, steps) = mpsc::channel(STEPS_AHEAD);
        let shared = Arc::clone(&self.shared);
        Ok((steps, Search { shared, platform, question, first, end, read: 0, sender }))
    }

    async fn record_scope(
        &self,
        platform: PlatformId,
        caller: &Caller,
        asker: Asker,
        found: Option<BreachRow>,
        scope: BreachScope,
    ) -> Result<BreachView, VaultError> {
        let id = found.as_ref().map(|row| row.breach.id).ok_or(Denial::BreachNotFound)?;
        let operator = self.operator_of(platform)?;
        let deed = Advance { call: Call::AssessBreach, found, operator, step: Step::Assess(scope) };
        self.run(platform, caller, asker, deed).await?;
        self.breach_as_stored(platform, id).await
    }
}

impl BreachScope {
    /// Whether these are the same people.
    fn is_of(&self, recorded: &Self) -> bool {
        (self.subjects, self.subjects_sha256) == (recorded.subjects, recorded.subjects_sha256)
    }
}

struct Search {
    shared: Arc<Shared>,
    platform: PlatformId,
    question: Question,
    /// Positions of the first entry that may count, and of the one after the last.
    first: u64,
    end: u64,
    /// Entries looked at, in all walks.
    read: u64,
    sender: mpsc::Sender<Result<BreachStep, VaultError>>,
}

impl Search {
    /// Looks through the log as often as the number of people takes.
    async fn run(mut self, tells_ids: bool) -> Result<BreachScope, Stop> {
        let shared = Arc::clone(&self.shared);
        let _turn = shared.looking.lock().await;
        let (mut hash, mut subjects, mut told) = (ContentHash::default(), 0, None);
        let mut next = Some([0; 16]);
        while let Some(from) = next {
            let (ids, after, names) = self.walk(from).await?;
            subjects += u64::try_from(ids.len()).unwrap_or(u64::MAX);
            for id in &ids {
                hash.update(id);
            }
            if tells_ids {
                self.tell(ids).await?;
            }
            told.get_or_insert(names);
            next = after;
        }
        let names = told.unwrap_or_default();
        Ok(BreachScope {
            at: Timestamp::from_micros(0),
            log_size: self.end,
            entries: names.entries,
            subjects,
            subjects_sha256: hash.finish(),
            fields: parsed(&names.fields)?,
            purposes: parsed(&names.purposes)?,
            recipients: parsed(&names.recipients)?,
        })
    }

    async fn walk(&mut self, from: Id) -> Result<(Vec<Id>, Option<Id>, Names), Stop> {
        let question = self.question.clone();
        let mut walk = Walk::new(&question, from, IDS_AT_ONCE);
        let mut position = self.first;
        'log: while position < self.end {
            let limit = u32::try_from(self.end - position).unwrap_or(u32::MAX).min(ENTRIES_AT_ONCE);
            let some = decoded(self.shared.store.as_ref(), self.platform, position, limit).await?;
            if some.is_empty() {
                return Err(bad_entry().into());
            }
            for (at, entry) in some {
                if question.is_over(&entry) {
                    break 'log;
                }
                walk.take(&entry);
                position = at + 1;
                self.read += 1;
            }
            if self.read % TOLD_EVERY < u64::from(ENTRIES_AT_ONCE) {
                let entries = self.end - self.first;
                let progress = BreachStep::Progress { entries_read: self.read, entries };
                self.sender.send(Ok(progress)).await.map_err(|_| Stop::Gone)?;
            }
        }
        let (ids, next, names) = walk.end();
        Ok((ids.into_iter().collect(), next, names))
    }

    async fn tell(&self, ids: Vec<Id>) -> Result<(), Stop> {
        for some in ids.chunks(IDS_A_PIECE) {
            let some = some.iter().map(|id| SubjectId::from_bytes(*id)).collect();
            self.sender.send(Ok(BreachStep::Subjects(some))).await.map_err(|_| Stop::Gone)?;
        }
        Ok(())
    }
}

fn parsed<'a, T: std::str::FromStr>(
    names: impl IntoIterator<Item = &'a String>,
) -> Result<Vec<T>, StoreError> {
    names.into_iter().map(|name| name.parse().map_err(|_| bad_entry())).collect()
}
