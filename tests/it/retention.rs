//! The end of retention: what has ended is destroyed, each with its entry, and nothing else is; whatever stops a sweep,
//! another ends it; and nobody's clock destroys what an officer has not looked at.

use std::{
    process::{Command, Output},
    sync::Arc,
};

use sandyq::{
    audit::entry::Entry,
    domain::{
        event::SubjectEvent,
        ids::SubjectId,
        operation::{Operation, OperationKind, OperationState},
        secret::Plaintext,
        subject::{RestrictionRequester, RestrictionTrigger, ValueSource},
        token::TokenMode,
    },
    grpc::pb,
    policy::decide::Denial,
    store::Store,
    vault::{
        controls::Control,
        error::VaultError,
        retention::{Fate, PlanKey},
        subjects::{Block, SubjectName},
        tokenize::{NewValue, NewValues, Tokenized},
    },
};

use crate::{
    common::{
        backend::{Backend, on_both},
        gate::{PASS, gated},
        operations::{operation, work_once},
        served::{Served, request_id},
        vault::{OpenVault, PLATFORM, as_admin, asker, consent, person},
    },
    reconciled::{found, reconcile},
};

const MINUTE: i64 = 60 * 1_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

async fn create(backend: &Backend) -> (tempfile::TempDir, OpenVault) {
    let (dir, open, _store) = create_over(backend).await;
    (dir, open)
}

/// The same with the store below it, which no second process could open.
async fn create_over(backend: &Backend) -> (tempfile::TempDir, OpenVault, Arc<dyn Store>) {
    let dir = tempfile::tempdir().unwrap();
    let mut below = None;
    let open = OpenVault::create(backend, dir.path(), |store| {
        below = Some(Arc::clone(&store));
        store
    })
    .await;
    open.enrol_auditor().await;
    (dir, open, below.unwrap())
}

impl OpenVault {
    async fn withdraw_all(&self, stored: &Tokenized) {
        for consent in &stored.consents {
            let caller = self.caller("backend");
            self.vault.withdraw_consent(&caller, asker("backend"), "", *consent).await.unwrap();
        }
    }

    async fn begin_sweep(&self) -> Result<Operation, VaultError> {
        self.vault.sweep_retention(&self.admin(), as_admin(), "lerna", 0).await
    }

    async fn swept(&self) -> Operation {
        let begun = self.begin_sweep().await.unwrap();
        work_once(self).await.unwrap();
        let done = operation(self, begun.id).await;
        assert_eq!(done.state, OperationState::Done);
        done
    }

    async fn read_first(&self, stored: &Tokenized) -> Result<(), VaultError> {
        self.detokenize(&stored.tokens[0].token).await.map(drop)
    }

    async fn block(&self, subject: SubjectId) {
        let block = Block {
            subject: SubjectName::Id(subject),
            trigger: RestrictionTrigger::LegalHold,
            requester: RestrictionRequester::Authority,
            review_at: self.clock.now().plus_micros(400 * DAY),
            reference: None,
        };
        self.vault.restrict_subject(&self.caller("backend"), asker("backend"), "", block).await.unwrap();
    }

    /// Every entry of a call, from the log.
    async fn entries_of(&self, store: &dyn Store, call: &str) -> Vec<Entry> {
        let rows = store.entries(PLATFORM, 0, 10_000).await.unwrap();
        let entries = rows.iter().map(|row| Entry::decode(&row.entry).unwrap());
        entries.filter(|entry| entry.call == call).collect()
    }

    async fn plan(&self) -> Vec<(PlanKey, u64)> {
        let (mut rows, mut after) = (std::collections::BTreeMap::new(), None);
        loop {
            let page = self.vault.plan_retention(&self.admin(), as_admin(), "lerna", after, 2).await.unwrap();
            for (key, records) in page.rows {
                *rows.entry(key).or_default() += records;
            }
            after = page.next;
            if after.is_none() {
                return rows.into_iter().collect();
            }
        }
    }
}

/// An IIN for payments, and a surname without a consent.
fn with_surname(number: u32) -> NewValues {
    let mut values = person(number, None);
    values.fields.push(NewValue {
        field: "surname".parse().unwrap(),
        value: Plaintext::new("Сынақов".into()),
        mode: TokenMode::Random,
        expires_at: None,
        source: ValueSource::Subject,
        source_reference: None,
    });
    let mut second = consent(None);
    second.terms.purpose = "request_comms".parse().unwrap();
    second.terms.fields = vec!["surname".parse().unwrap()];
    values.consents.push(second);
    values
}

on_both!(r10_r49_a_sweep_destroys_what_has_ended_and_nothing_else);
async fn r10_r49_a_sweep_destroys_what_has_ended_and_nothing_else(backend: Backend) {
    let (dir, open, store) = create_over(&backend).await;
    let (gone, kept, held) = (open.store_iin(1).await, open.store_iin(2).await, open.store_iin(3).await);
    let half = open.tokenize(with_surname(4)).await.unwrap();
    open.withdraw_all(&gone).await;
    open.withdraw_all(&held).await;
    open.block(held.subject).await;
    let caller = open.caller("backend");
    open.vault.withdraw_consent(&caller, asker("backend"), "", half.consents[0]).await.unwrap();

    // For 14 days a refusal of the withdrawal may be recorded.
    assert_eq!(open.swept().await.done, 4, "every subject was looked at");
    assert_eq!(open.read_first(&gone).await, Err(Denial::ConsentWithdrawn.into()));
    let plan = open.plan().await;
    let over = |plan: &[(PlanKey, u64)]| -> u64 {
        plan.iter().filter(|(key, _)| key.fate == Fate::Over).map(|(_, records)| records).sum()
    };
    assert_eq!(over(&plan), 0, "{plan:?}");
    open.clock.advance(15 * DAY);
    let plan = open.plan().await;
    assert_eq!(over(&plan), 2, "{plan:?}");
    let blocked = plan.iter().find(|(key, _)| key.fate == Fate::Blocked).unwrap();
    assert_eq!((blocked.1, blocked.0.field.as_str()), (1, "iin"));
    assert_eq!(open.swept().await.done, 4);

    assert_eq!(open.read_first(&gone).await, Err(Denial::TokenNotFound.into()));
    assert_eq!(open.read_first(&half).await, Err(Denial::TokenNotFound.into()));
    assert!(open.read_first(&kept).await.is_ok());
    assert_eq!(open.read_first(&held).await, Err(Denial::SubjectRestricted.into()));
    let count = async |table: &str, rows: u64| {
        let sql = format!("UPDATE {table} SET platform_id = platform_id WHERE platform_id = 1");
        assert_eq!(backend.sql(dir.path(), &sql).await, rows, "{table}");
    };
    count("records", 3).await;
    count("tokens", 3).await;
    count("index_entries", 3).await;
    count("consents", 5).await;
    let destroyed = "UPDATE subjects SET state = state WHERE wrapped_key IS NULL AND state = 'erased'";
    assert_eq!(backend.sql(dir.path(), destroyed).await, 1, "a subject of whom nothing is left");

    let records = open.entries_of(store.as_ref(), "Operation/DestroyRecord").await;
    let subjects: Vec<_> =
        records.iter().map(|entry| entry.subject.map(|id| SubjectId::from_bytes(*id))).collect();
    assert_eq!(records.len(), 2);
    assert!(subjects.contains(&Some(gone.subject)) && subjects.contains(&Some(half.subject)));
    assert!(
        records.iter().all(|entry| entry.field.as_deref() == Some("iin") && entry.policy_version == Some(1))
    );
    assert_eq!(open.entries_of(store.as_ref(), "Operation/DestroySubject").await.len(), 1);
    assert_eq!(found(&reconcile(&open, "lerna").await), [], "log and rows agree");

    // The block lifted, the next sweep takes the rest.
    let name = SubjectName::Id(held.subject);
    open.vault.unrestrict_subject(&caller, asker("backend"), "", name, None).await.unwrap();
    open.swept().await;
    assert_eq!(open.read_first(&held).await, Err(Denial::TokenNotFound.into()));
    count("records", 2).await;
    assert_eq!(found(&reconcile(&open, "lerna").await), []);
}

on_both!(an_event_ends_a_purpose_and_the_next_sweep_the_record);
async fn an_event_ends_a_purpose_and_the_next_sweep_the_record(backend: Backend) {
    let (_dir, open) = create(&backend).await;
    let stored = open.store_iin(1).await;
    assert!(open.read_first(&stored).await.is_ok());
    let event = SubjectEvent { name: "account_deleted".parse().unwrap(), at: open.clock.now() };
    let name = SubjectName::Id(stored.subject);
    open.vault.record_event(&open.caller("backend"), asker("backend"), name, event, None).await.unwrap();
    assert_eq!(open.read_first(&stored).await, Err(Denial::RetentionEnded.into()));
    open.swept().await;
    assert_eq!(open.read_first(&stored).await, Err(Denial::TokenNotFound.into()));
}

/// A vault that stops at its n-th commit of a sweep, as if it were killed, and another that takes its work up.
async fn killed_at(backend: &Backend, commit: u64) -> bool {
    let (dir, open, gate) = gated(&backend.fresh().await).await;
    let mut stored = Vec::new();
    for number in 0..20 {
        let one = open.store_iin(number).await;
        if number % 2 == 0 {
            open.withdraw_all(&one).await;
        }
        stored.push(one);
    }
    open.clock.advance(15 * DAY);
    let begun = open.begin_sweep().await.unwrap();
    gate.fail_after(commit);
    let work = open.vault.work().await.unwrap().long;
    let survived = open.vault.work_long(&work[0]).await.is_ok();
    gate.set(PASS);
    let _dir = dir;
    open.clock.advance(2 * MINUTE);
    work_once(&open).await.unwrap();
    let done = operation(&open, begun.id).await;
    assert_eq!((done.state, done.done, done.total), (OperationState::Done, 20, 20), "commit {commit}");
    for (number, one) in stored.iter().enumerate() {
        assert_eq!(open.read_first(one).await.is_ok(), number % 2 == 1, "commit {commit}, person {number}");
    }
    survived
}

on_both!(whatever_stops_a_sweep_another_ends_it);
async fn whatever_stops_a_sweep_another_ends_it(backend: Backend) {
    let mut commit = 0;
    while !killed_at(&backend, commit).await {
        commit += 1;
    }
    assert!(commit >= 4, "take, several slices, the end: {commit}");
}

on_both!(a_sweep_is_paused_resumed_and_cancelled);
async fn a_sweep_is_paused_resumed_and_cancelled(backend: Backend) {
    let (_dir, open) = create(&backend).await;
    let gone = open.store_iin(1).await;
    open.withdraw_all(&gone).await;
    open.clock.advance(15 * DAY);
    let begun = open.begin_sweep().await.unwrap();
    assert_eq!((begun.kind, begun.total), (OperationKind::SweepRetention, 1));
    assert_eq!(open.begin_sweep().await.err(), Some(Denial::SweepRunning.into()), "one at a time");
    let control = async |control| open.vault.control(&open.admin(), as_admin(), begun.id, control).await;
    assert_eq!(control(Control::Pause).await.unwrap().state, OperationState::Paused);
    work_once(&open).await.unwrap();
    open.vault.work_long(&begun).await.unwrap();
    assert_eq!(open.read_first(&gone).await, Err(Denial::ConsentWithdrawn.into()), "nobody works on it");
    control(Control::Resume(None)).await.unwrap();
    assert_eq!(control(Control::Cancel).await.unwrap().state, OperationState::Cancelled);
    work_once(&open).await.unwrap();
    assert_eq!(open.read_first(&gone).await, Err(Denial::ConsentWithdrawn.into()), "it was called off");
    open.swept().await;
    assert_eq!(open.read_first(&gone).await, Err(Denial::TokenNotFound.into()));
}

on_both!(the_day_sweeps_by_itself_until_time_jumps);
async fn the_day_sweeps_by_itself_until_time_jumps(backend: Backend) {
    let (_dir, open) = create(&backend).await;
    let gone = open.store_iin(1).await;
    open.withdraw_all(&gone).await;
    assert_eq!(open.vault.begin_daily_sweeps().await.unwrap(), 0, "a policy's first day ends nothing");
    open.clock.advance(25 * HOUR);
    // Somebody is logged, or the sweep itself would wait: more than a day has passed.
    assert!(open.read_first(&gone).await.is_err());
    assert_eq!(open.vault.begin_daily_sweeps().await.unwrap(), 1);
    assert_eq!(open.vault.begin_daily_sweeps().await.unwrap(), 0, "one is open");
    work_once(&open).await.unwrap();
    assert_eq!(open.vault.begin_daily_sweeps().await.unwrap(), 0, "one a day");
    open.clock.advance(23 * HOUR);
    assert_eq!(open.vault.begin_daily_sweeps().await.unwrap(), 0);
    open.clock.advance(2 * HOUR);
    assert!(open.read_first(&gone).await.is_err());
    assert_eq!(open.vault.begin_daily_sweeps().await.unwrap(), 1);
    work_once(&open).await.unwrap();

    // Three years on, everything would seem to have ended; reads by services do not make time right.
    let kept = open.store_iin(2).await;
    open.clock.advance(3 * 366 * DAY);
    assert_eq!(open.read_first(&kept).await, Err(Denial::RetentionEnded.into()), "denials by expiry go on");
    assert_eq!(open.vault.begin_daily_sweeps().await.unwrap(), 0);
    open.swept().await;
    assert_eq!(open.read_first(&kept).await, Err(Denial::TokenNotFound.into()), "an officer said so");
    open.clock.advance(25 * HOUR);
    assert!(open.read_first(&kept).await.is_err());
    assert_eq!(open.vault.begin_daily_sweeps().await.unwrap(), 1, "and the days go on");
}

on_both!(a_begun_sweep_waits_where_time_jumped);
async fn a_begun_sweep_waits_where_time_jumped(backend: Backend) {
    let (_dir, open) = create(&backend).await;
    let begun = open.begin_sweep().await.unwrap();
    open.clock.advance(30 * HOUR);
    work_once(&open).await.unwrap();
    assert_eq!(operation(&open, begun.id).await.state, OperationState::Waiting);
    // What an officer does is logged; then it goes on.
    open.plan().await;
    work_once(&open).await.unwrap();
    assert_eq!(operation(&open, begun.id).await.state, OperationState::Done);
}

fn run(served: &Served, line: &str, more: &[&str]) -> Output {
    let connection = served.running.installation.connection_path("admin");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandyq"));
    command
        .arg("--json")
        .args(line.split(' '))
        .args(more)
        .arg("--connection")
        .arg(connection)
        .output()
        .unwrap()
}

fn ask(served: &Served, line: &str, more: &[&str]) -> serde_json::Value {
    let output = run(served, line, more);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    // Of long work, how it ended: each step is an object of its own.
    serde_json::Deserializer::from_slice(&output.stdout).into_iter().last().unwrap().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_plans_and_sweeps() {
    let served = Served::start().await;
    let person = served.store(1).await;
    let plan = ask(&served, "retention plan --platform lerna", &[]);
    assert_eq!(plan["subjects"], 1, "{plan}");
    let rows = plan["rows"].as_array().unwrap();
    let iin = rows.iter().find(|row| row["field"] == "iin").unwrap();
    assert_eq!(
        (&iin["fate"], &iin["purpose"], &iin["records"]),
        (&"ends".into(), &"payments".into(), &1.into()),
        "{iin}"
    );
    assert!(iin["missing_events"].as_array().unwrap().contains(&"payment".into()), "{iin}");

    let page = served.file("retention.html").display().to_string();
    ask(&served, "retention plan --platform lerna --html", &[&page]);
    let text = std::fs::read_to_string(&page).unwrap();
    assert!(text.contains("<svg") && text.contains("payments") && !text.contains("src="), "{text}");
    let again = run(&served, "retention plan --platform lerna --html", &[&page]);
    assert_eq!(again.status.code(), Some(1), "a page is not written over");

    let dry = ask(&served, "retention sweep --platform lerna", &[]);
    assert_eq!(dry["rows"], serde_json::json!([]), "nothing is over");
    let done = ask(&served, "retention sweep --platform lerna --yes --watch", &[]);
    assert_eq!((&done["kind"], &done["state"]), (&"sweep_retention".into(), &"done".into()), "{done}");
    assert!(served.read("payments", "payments", person.token("iin")).await.is_ok());

    // A platform's own service neither plans nor sweeps.
    let channel = served.channel("backend").await;
    let mut client = pb::retention_service_client::RetentionServiceClient::new(channel);
    let sweep =
        pb::SweepRetentionRequest { request_id: request_id(), ..pb::SweepRetentionRequest::default() };
    assert_eq!(client.sweep_retention(sweep).await.unwrap_err().code(), tonic::Code::PermissionDenied);
    let look = pb::PlanRetentionRequest::default();
    assert_eq!(client.plan_retention(look).await.unwrap_err().code(), tonic::Code::PermissionDenied);
    served.running.stop().await.unwrap();
}
