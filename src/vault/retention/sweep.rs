//! The sweep: begun by an officer or by the day, and worked on in small commits, each conditional on the worker's fence.

use std::time::Instant;

use super::{
    DAY_MICROS, Held, Item, Over,
    ending::{DESTROYED_RECORD, end_record, end_subject},
};
use crate::{
    audit::entry::{Entry, Verdict},
    domain::{
        caller::Caller,
        ids::{DocumentId, EntryId, OperationId, PlatformId, SubjectId},
        operation::{Cursor, Operation, OperationKind, OperationState},
    },
    policy::decide::Denial,
    store::{ReadKeys, WhichOperations, Write, rows::work::OperationRow},
    vault::{
        Vault,
        access::Call,
        act::{Act, Asker, Claim, Flow, Plan, Reply, Scene, reply},
        context::Context,
        deed::{Deed, Deeded, Hand},
        documents::DELETED,
        error::VaultError,
        keys::{SWEEP, rest},
        operations::{LEASE, begun_before},
        replay::ItemOutcome,
        tokenize::unavailable,
    },
};

/// The entry of a document that was destroyed.
pub(in crate::vault) const DESTROYED_DOCUMENT: &str = "Operation/DestroyDocument";

/// A platform has one sweep at a time.
const OBJECT: [u8; 16] = *b"retention       ";

impl Vault {
    /// Begins a sweep.
    ///
    /// # Errors
    /// [`VaultError`]; [`Denial::SweepRunning`] where one is not done yet.
    pub async fn sweep_retention(
        &self,
        caller: &Caller,
        asker: Asker,
        platform: &str,
        rate: u32,
    ) -> Result<Operation, VaultError> {
        let platform = self.target(caller, &asker, Call::SweepRetention, platform).await?;
        // Nothing is counted for a caller who may not ask; the deed refuses with an entry.
        let total = if self.may_ask(Call::SweepRetention, caller, platform) {
            self.count_subjects(platform).await?
        } else {
            0
        };
        let known = self.last_sweep(platform).await?;
        self.run(platform, caller, asker, Begin { known, total, rate }).await
    }

    /// Begins the sweeps that are due: a day after the last, or after the platform's first policy. Answers how many.
    ///
    /// # Errors
    /// [`VaultError`].
    pub async fn begin_daily_sweeps(&self) -> Result<usize, VaultError> {
        let (mut begun, mut failed) = (0, None);
        for (platform, _) in
            self.platforms().into_iter().filter(|(platform, _)| *platform != PlatformId::VAULT)
        {
            // One platform's trouble keeps no other's data beyond its time.
            match self.begin_daily_sweep(platform).await {
                Ok(begins) => begun += usize::from(begins),
                Err(error) => failed = Some(error),
            }
        }
        failed.map_or(Ok(begun), Err)
    }

    async fn begin_daily_sweep(&self, platform: PlatformId) -> Result<bool, VaultError> {
        let (context, now) = (self.context(platform)?, self.shared.clock.now());
        if context.is_closed() || context.policy(now).is_none() {
            return Ok(false);
        }
        let last = self.last_sweep(platform).await?;
        let first_policy = context.policies().last().map(|applied| applied.row.created_at);
        let since = last.as_ref().map(|last| last.created_at).or(first_policy);
        let is_early = since.is_none_or(|since| since.plus_micros(DAY_MICROS) > now);
        if is_early || last.as_ref().is_some_and(Operation::is_open) {
            return Ok(false);
        }
        let total = self.count_subjects(platform).await?;
        let (reply, waiting) = reply();
        self.platform(platform)?.lane.submit(Daily { last, total, begun: false, reply })?;
        waiting.answer().await
    }

    /// Whether the days went on one by one: the last sweep of the platform, which comes daily, is no older than two. Where it is,
    /// time may have jumped, or nobody was here for long; what destroys waits until an officer begins a sweep. An entry of a
    /// service at the new time is no sign that it is right. The vault's own platform, which has no sweeps, goes by all others.
    pub(in crate::vault) async fn days_went_on(&self, platform: PlatformId) -> Result<bool, VaultError> {
        let all = self.platforms().into_iter().map(|(id, _)| id);
        let (mut swept, mut late) = (0, 0);
        for id in all.filter(|id| *id == platform || platform == PlatformId::VAULT) {
            if let Some(last) = self.last_sweep(id).await?.filter(|last| !last.is_open()) {
                let last = last.ended_at.map_or(last.created_at, |ended| ended.max(last.created_at));
                swept += 1;
                late += u32::from(last.plus_micros(2 * DAY_MICROS) < self.shared.clock.now());
            }
        }
        Ok(late == 0 || late < swept)
    }

    async fn last_sweep(&self, platform: PlatformId) -> Result<Option<Operation>, VaultError> {
        let which = WhichOperations::OfKind(OperationKind::SweepRetention);
        let rows = self.shared.store.operations(platform, which, 1).await.map_err(unavailable)?;
        Ok(rows.into_iter().next().map(|row| row.operation))
    }

    async fn count_subjects(&self, platform: PlatformId) -> Result<u64, VaultError> {
        Ok(self.wraps(platform).await?.iter().map(|(_, count)| count).sum())
    }

    /// Works on a sweep until it ends, waits, or is somebody else's.
    ///
    /// # Errors
    /// [`VaultError`]; whoever takes the operation next goes on where this one stopped.
    pub(in crate::vault) async fn sweep(&self, operation: &Operation) -> Result<(), VaultError> {
        let Some(mut taken) = self.sweep_step(operation.clone(), Step::Take).await? else { return Ok(()) };
        let mut rows = SWEEP.fewest();
        loop {
            let began = Instant::now();
            let limit = if taken.rate > 0 { rows.min(taken.rate) } else { rows };
            let after = taken.after();
            let read = self.shared.store.wrapped_keys(taken.platform, after, limit).await;
            let subjects: Vec<_> = read.map_err(unavailable)?.into_iter().map(|(id, _)| id).collect();
            let done = subjects.len();
            match self.sweep_step(taken.clone(), Step::Slice(subjects)).await? {
                Some(next) if next.is_open() => taken = next,
                _ => return Ok(()),
            }
            let took = began.elapsed();
            rows = SWEEP.fit(rows, took);
            let pause = rest(taken.rate, done, took).unwrap_or_default();
            tokio::time::sleep(pause.max(SWEEP.rest_after(took))).await;
        }
    }

    async fn sweep_step(&self, operation: Operation, step: Step) -> Result<Option<Operation>, VaultError> {
        let of = operation.clone();
        self.step_of(&of, |reply| StepAct { operation, step, answer: None, reply }).await
    }
}

fn new_sweep(scene: &Scene<'_>, total: u64, rate: u32) -> Result<Operation, VaultError> {
    let id = OperationId::random(scene.rng()).map_err(unavailable)?;
    let platform = scene.context.platform;
    let work = Operation::new(id, platform, OperationKind::SweepRetention, OBJECT, scene.now, total);
    Ok(Operation { rate, ..work })
}

struct Begin {
    /// The last sweep that there was.
    known: Option<Operation>,
    total: u64,
    rate: u32,
}

impl Deed for Begin {
    type Answer = Operation;

    fn call(&self) -> Call {
        Call::SweepRetention
    }

    fn changes(&self) -> bool {
        true
    }

    fn act(&mut self, hand: &mut Hand<'_, '_>) -> Result<Deeded<Operation>, VaultError> {
        if self.known.as_ref().is_some_and(Operation::is_open) {
            return Err(Denial::SweepRunning.into());
        }
        let operation = new_sweep(hand.scene, self.total, self.rate)?;
        hand.begin(operation, "operation")
    }

    fn again(&self, _hand: &Hand<'_, '_>, before: &ItemOutcome) -> Result<Operation, VaultError> {
        begun_before(&self.known, before)
    }
}

/// The day's sweep, which nobody asked for.
struct Daily {
    last: Option<Operation>,
    total: u64,
    begun: bool,
    reply: Reply<bool>,
}

impl Daily {
    /// A sweep that comes by itself is a day after the last one, or after the log's last entry where there was none. If it
    /// is far later, time may have jumped, and everything would seem to have ended: an officer must begin it.
    fn time_is_plain(&self, scene: &Scene<'_>) -> bool {
        self.last
            .as_ref()
            .map_or(!scene.time_jumped(), |last| last.created_at.plus_micros(2 * DAY_MICROS) > scene.now)
    }
}

impl Act for Daily {
    fn writes(&self) -> bool {
        true
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_abandoned()
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        self.begun = false;
        if !self.time_is_plain(scene) {
            tracing::error!(
                platform = scene.context.platform.get(),
                "the last sweep of retention is more than two days ago: time may have jumped, so an officer must begin it"
            );
            return Ok(Flow::Ready);
        }
        let operation = new_sweep(scene, self.total, 0)?;
        log(&operation, scene, plan, "Operation/BeginSweep", |entry| entry)?;
        plan.writes.push(Write::InsertOperation(OperationRow { operation }));
        self.begun = true;
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        let Self { begun, reply, .. } = *self;
        reply.send(outcome.map(|()| begun));
    }
}

enum Step {
    /// Raise the fence and begin.
    Take,
    /// Look at these subjects; none is the end.
    Slice(Vec<SubjectId>),
}

/// A step of the vault's own work: nobody outside asked for it now.
struct StepAct {
    /// As the worker last saw or left it.
    operation: Operation,
    step: Step,
    answer: Option<Operation>,
    reply: Reply<Option<Operation>>,
}

impl Act for StepAct {
    fn writes(&self) -> bool {
        true
    }

    fn is_abandoned(&self) -> bool {
        self.reply.is_abandoned()
    }

    fn reads(&self, _context: &Context, keys: &mut ReadKeys) {
        if let Step::Slice(subjects) = &self.step {
            keys.subjects.extend(subjects.iter().copied());
            keys.documents_of_found = true;
            keys.demands_of_found = true;
        }
    }

    fn decide(&mut self, scene: &Scene<'_>, plan: &mut Plan) -> Result<Flow, VaultError> {
        self.answer = None;
        if scene.time_jumped() {
            tracing::error!(
                platform = scene.context.platform.get(),
                operation = %self.operation.id,
                "time is more than a day past the log's last entry: the sweep waits until somebody is logged there"
            );
            return Ok(Flow::Ready);
        }
        let next = match &self.step {
            Step::Take => take(&self.operation, scene, plan)?,
            Step::Slice(subjects) => match slice(&self.operation, subjects, scene, plan)? {
                None => return Ok(Flow::Later),
                next => next,
            },
        };
        if let Some(next) = next {
            plan.writes
                .push(Write::UpdateOperation(OperationRow { operation: next.clone() }, self.operation.fence));
            self.answer = Some(next);
        }
        Ok(Flow::Ready)
    }

    fn finish(self: Box<Self>, outcome: Result<(), VaultError>) {
        let Self { answer, reply, .. } = *self;
        reply.send(outcome.map(|()| answer));
    }
}

fn take(operation: &Operation, scene: &Scene<'_>, plan: &mut Plan) -> Result<Option<Operation>, VaultError> {
    let leased = operation.lease_until.is_some_and(|until| until > scene.now);
    let open = matches!(operation.state, OperationState::Waiting | OperationState::Running);
    if operation.due_at > scene.now || leased || !open {
        return Ok(None);
    }
    log(operation, scene, plan, "Operation/Take", |entry| entry)?;
    Ok(Some(Operation {
        state: OperationState::Running,
        fence: operation.fence.saturating_add(1),
        lease_until: Some(scene.now.plus(LEASE)),
        ..operation.clone()
    }))
}

/// Destroys what has ended of some subjects; none where another act of the batch has one of them.
fn slice(
    operation: &Operation,
    subjects: &[SubjectId],
    scene: &Scene<'_>,
    plan: &mut Plan,
) -> Result<Option<Operation>, VaultError> {
    let policy = scene.policy()?;
    let mut destroyed = 0;
    for id in subjects {
        let held = match Held::of(scene, *id) {
            Ok(held) => held,
            Err(error) => {
                // One damaged row must not keep all others beyond their time.
                tracing::error!(platform = operation.platform.get(), subject = %id, ?error, "the sweep passes a subject by");
                continue;
            }
        };
        let over = held.over(policy, scene);
        if over.records.is_empty() && over.documents.is_empty() && over.subject.is_none() {
            continue;
        }
        if !claim(plan, &held, &over) {
            return Ok(None);
        }
        for record in &over.records {
            end_record(record, entry(operation, scene, DESTROYED_RECORD)?, plan);
            plan.tightens = true;
        }
        for document in &over.documents {
            destroy_document(operation, *id, *document, scene, plan)?;
        }
        destroyed += count(over.records.len() + over.documents.len());
        if let Some(kind) = over.subject {
            end_subject(held.subject, kind, scene, plan, |call| entry(operation, scene, call))?;
        }
    }
    let rows = count(subjects.len());
    let next = Operation {
        resume_after: subjects.last().copied().map(Cursor::from).or(operation.resume_after),
        lease_until: Some(scene.now.plus(LEASE)),
        // Subjects that came since are looked at too.
        done: operation.done + rows,
        total: operation.total.max(operation.done + rows),
        ..operation.clone()
    };
    log(operation, scene, plan, "Operation/SweepRetention", |entry| Entry {
        count: Some(destroyed),
        ..entry
    })?;
    if subjects.is_empty() {
        let ended = Operation { done: next.total, ..next };
        return Ok(Some(ended.ended(OperationState::Done, scene.now)));
    }
    Ok(Some(next))
}

fn count(some: usize) -> u64 {
    u64::try_from(some).unwrap_or(u64::MAX)
}

fn claim(plan: &mut Plan, held: &Held<'_>, over: &Over<'_>) -> bool {
    let subject = held.subject;
    let own = [Claim::SubjectRow(subject.id), Claim::Subject(subject.reference_hash)];
    let records = over.records.iter().map(|record| Claim::Record(record.address.record));
    let documents = over.documents.iter().map(|set| Claim::Document(subject.id, set.field.clone()));
    // What a withdrawal in the same batch would change: which end the subject meets.
    let consents = held.consents.iter().map(|consent| Claim::Consent(consent.id));
    own.into_iter().chain(records).chain(documents).chain(consents).all(|claim| plan.claim(claim))
}

fn destroy_document(
    operation: &Operation,
    subject: SubjectId,
    document: Item<'_>,
    scene: &Scene<'_>,
    plan: &mut Plan,
) -> Result<(), VaultError> {
    log(operation, scene, plan, DESTROYED_DOCUMENT, |entry| Entry {
        field: Some(document.field.to_string()),
        subject: Some((*subject.as_bytes()).into()),
        record: Some((*document.id.as_bytes()).into()),
        object_kind: Some(DELETED.to_owned()),
        object: Some(document.id.as_bytes().to_vec()),
        ..entry
    })?;
    plan.tightens = true;
    plan.writes.push(Write::DeleteDocument(DocumentId::from_bytes(*document.id.as_bytes())));
    Ok(())
}

fn log(
    operation: &Operation,
    scene: &Scene<'_>,
    plan: &mut Plan,
    call: &str,
    fill: impl FnOnce(Entry) -> Entry,
) -> Result<(), VaultError> {
    plan.entries.push(fill(entry(operation, scene, call)?));
    Ok(())
}

/// An entry of what an operation does by itself.
fn entry(operation: &Operation, scene: &Scene<'_>, call: &str) -> Result<Entry, VaultError> {
    let id = EntryId::random(scene.rng()).map_err(unavailable)?;
    Ok(Entry {
        object_kind: Some("operation".to_owned()),
        object: Some(OperationId::as_bytes(&operation.id).to_vec()),
        policy_version: scene.context.policy(scene.now).map(|policy| policy.version),
        ..Entry::new(id, scene.now, scene.context.platform, call, Verdict::Done)
    })
}
