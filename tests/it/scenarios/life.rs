//! A scenario on its way: the served vault, the person as the platform knows it, and the day.

use std::{
    collections::{BTreeMap, HashMap},
    sync::Arc,
    time::Duration,
};

use sandyq::{
    cli::pki::Authority,
    domain::time::{Clock, Timestamp},
    grpc::pb::{self, operation_service_client::OperationServiceClient, subject_name::Subject},
};
use tempfile::TempDir;
use tokio::time::timeout;
use tonic::{Response, Status, transport::Channel};

use super::{
    file::{Frame, Scenario, Step},
    time::{later, on},
};
use crate::{
    common::{
        backend::Backend,
        served::{Served, reason, replace_authorities},
    },
    policy_walk::{enrol, oracle::PolicyText},
};

/// Who acts for the operator with the roles of its staff.
pub const STAFF: &str = "staff";

/// How long an operation is waited for: a worker looks every few seconds.
const PATIENCE: Duration = Duration::from_mins(2);

/// What an act came to: `ok`, or the reason of a refusal. The outer error is a scenario that cannot go on.
pub type Came = Result<String, String>;

pub struct Life<'a> {
    pub served: Served,
    pub scenario: &'a Scenario,
    pub policy: PolicyText,
    channels: HashMap<String, Channel>,
    /// Names of callers by their ids.
    pub callers: HashMap<String, String>,
    /// The vault's id of the person.
    pub subject: Option<String>,
    /// By field.
    pub tokens: BTreeMap<String, String>,
    /// What a read must answer, by field.
    pub values: BTreeMap<String, String>,
    /// Those that were not withdrawn, by purpose.
    pub consents: BTreeMap<String, Vec<String>>,
    /// The last request of the person.
    pub case: Option<String>,
    /// By field.
    pub documents: BTreeMap<String, String>,
    /// What was uploaded, by field and side.
    pub images: BTreeMap<(String, String), Vec<u8>>,
    /// Private keys of recipients.
    pub recipients: TempDir,
    /// Position of the log from which on a step's entries stand.
    pub logged: i64,
}

/// An operator's decision as the file of the policy writes it.
fn decided(scenario: &Scenario) -> Result<PolicyText, String> {
    let name = &scenario.head.policy;
    let path = format!("{}/policies/{name}.toml", env!("CARGO_MANIFEST_DIR"));
    let text = std::fs::read_to_string(&path).map_err(|e| format!("policies/{name}.toml: {e}"))?;
    let written: Vec<_> = scenario.head.operator.iter().map(|(k, v)| (k.as_str(), v.to_string())).collect();
    let decisions: Vec<_> = written.iter().map(|(key, value)| (*key, value.as_str())).collect();
    let policy = PolicyText::decided(&text, &decisions);
    let open = |line: &&str| !line.starts_with('#') && line.contains("\"operator-must-set\"");
    match policy.text.lines().find(open) {
        Some(line) => Err(format!("[operator] must set what the policy leaves open: {line}")),
        None => Ok(policy),
    }
}

impl<'a> Life<'a> {
    /// Serves an installation on the scenario's first day, with the platform, its policy and every caller that it names.
    pub async fn begin(scenario: &'a Scenario, backend: &Backend) -> Result<Self, String> {
        let (policy, clock) = (decided(scenario)?, Arc::new(Clock::default()));
        let starts = on(&scenario.head.starts)?;
        clock.advance(starts.as_micros() - clock.now().as_micros());
        let (platform, staff) = (Authority::new("p").unwrap(), Authority::new("s").unwrap());
        let change = |files: &std::path::Path| replace_authorities(files, &platform, &staff);
        let served = Served::start_by(clock, backend, change).await;
        let mut channels = enrol(&served, &platform, &policy).await;
        channels.insert(STAFF.into(), served.channel("admin").await);
        let mut callers = HashMap::new();
        for platform in [policy.name(), "vault"] {
            let request = pb::ListCallersRequest {
                platform: platform.into(),
                page_size: 100,
                ..pb::ListCallersRequest::default()
            };
            let listed = served.platforms("admin").await.list_callers(request).await.unwrap().into_inner();
            callers.extend(listed.callers.into_iter().map(|caller| (caller.caller_id, caller.name)));
        }
        let values = scenario.head.values.clone();
        let mut life = Self {
            served,
            scenario,
            policy,
            channels,
            callers,
            subject: None,
            tokens: BTreeMap::new(),
            values,
            consents: BTreeMap::new(),
            case: None,
            documents: BTreeMap::new(),
            images: BTreeMap::new(),
            recipients: tempfile::tempdir().unwrap(),
            logged: 0,
        };
        // What made the platform is no part of the person's life.
        life.entries().await;
        Ok(life)
    }

    /// One step: the day, the act, the answer, the entries.
    pub async fn go(&mut self, step: &Step) -> Result<(), String> {
        self.answers(step).await?;
        self.compare_log(step).await
    }

    /// The same without the entries.
    pub async fn answers(&mut self, step: &Step) -> Result<(), String> {
        self.move_to(&step.frame)?;
        let came = self.act(&step.frame.by, &step.act).await?;
        let wanted = &step.frame.answer;
        if came == *wanted { Ok(()) } else { Err(format!("answered {came}, not {wanted}")) }
    }

    fn move_to(&self, frame: &Frame) -> Result<(), String> {
        let now = self.now();
        let then = match (&frame.after, &frame.on) {
            (Some(span), _) => later(now, span)?,
            (None, Some(date)) => on(date)?,
            (None, None) => return Ok(()),
        };
        let ahead = then.as_micros() - now.as_micros();
        if ahead <= 0 {
            return Err("time goes ahead only".into());
        }
        self.served.running.clock.advance(ahead);
        Ok(())
    }

    pub fn now(&self) -> Timestamp {
        self.served.running.clock.now()
    }

    pub fn channel(&self, by: &str) -> Result<Channel, String> {
        let named = self.channels.get(by).cloned();
        named.ok_or_else(|| format!("the policy names no caller {by}: {:?}", self.channels.keys()))
    }

    /// Staff names the platform that it acts for; a service has one.
    pub fn platform_for(&self, by: &str) -> String {
        if by == STAFF { self.policy.name().into() } else { String::new() }
    }

    pub fn subject_name(&self) -> pb::SubjectName {
        let reference = Subject::SubjectReference(self.scenario.head.person.reference.clone());
        pb::SubjectName { subject: Some(reference) }
    }

    pub fn token(&self, field: &str) -> Result<String, String> {
        self.tokens.get(field).cloned().ok_or_else(|| format!("no step stored the field {field}"))
    }

    /// Every consent to these purposes that stands, by whichever channel where none is named.
    pub fn consents_to(&self, purposes: &[String]) -> Result<Vec<String>, String> {
        let mut all = Vec::new();
        for purpose in purposes {
            let before = all.len();
            let named = self.consents.iter().filter(|(kept, _)| is_to(kept, purpose));
            named.for_each(|(_, ids)| all.extend_from_slice(ids));
            if all.len() == before {
                return Err(format!("no consent to {purpose} stands"));
            }
        }
        Ok(all)
    }

    /// Waits until an operation of the platform has ended: the newest of its kind.
    pub async fn wait_for(&self, kind: &str) -> Result<(), String> {
        let mut operations = OperationServiceClient::new(self.channel(STAFF)?);
        let request = pb::ListOperationsRequest {
            platform: self.policy.name().into(),
            ..pb::ListOperationsRequest::default()
        };
        let listed = operations.list_operations(request).await.unwrap().into_inner().operations;
        let of_kind = listed.into_iter().find(|operation| operation.kind == kind);
        let operation = of_kind.ok_or_else(|| format!("no operation {kind} was begun"))?;
        let request = pb::WatchOperationRequest { operation_id: operation.operation_id };
        let mut stream = operations.watch_operation(request).await.unwrap().into_inner();
        let ended = timeout(PATIENCE, async {
            let mut state = pb::OperationState::Unspecified;
            while let Some(message) = stream.message().await.unwrap() {
                state = message.operation.unwrap().state();
            }
            state
        });
        let still =
            |_| format!("{kind} does not end; nothing is destroyed where the last sweep is two days old");
        let state = ended.await.map_err(still)?;
        if state == pb::OperationState::Done { Ok(()) } else { Err(format!("{kind} ended as {state:?}")) }
    }

    /// Ends the scenario: what the rows grant is what the log says.
    pub async fn end(self) -> Result<(), String> {
        let request = pb::ReconcileLogRequest { platform: self.policy.name().into() };
        let mut stream =
            self.served.audit("auditor").await.reconcile_log(request).await.unwrap().into_inner();
        let mut result = None;
        while let Some(message) = stream.message().await.unwrap() {
            if let Some(pb::reconcile_log_response::Step::Result(found)) = message.step {
                result = Some(found);
            }
        }
        let found = result.ok_or("the reconciliation ended without a result")?.findings;
        self.served.running.stop().await.unwrap();
        if found.is_empty() { Ok(()) } else { Err(format!("log and rows differ: {found:?}")) }
    }
}

/// What a call answered, or the reason of its refusal.
pub fn told<T>(answer: Result<Response<T>, Status>) -> Result<T, String> {
    answer.map(Response::into_inner).map_err(|status| reason(&status))
}

/// `ok`, or the reason.
pub fn came(told: Result<(), String>) -> String {
    told.err().unwrap_or_else(|| "ok".into())
}

/// What a word of a scenario means in an enumeration of the contract.
macro_rules! word {
    ($of:ty, $prefix:literal, $word:expr) => {{
        let word: &str = $word;
        let name = format!("{}_{}", $prefix, word.to_uppercase());
        let known = <$of>::from_str_name(&name).map(i32::from);
        known.ok_or_else(|| format!("{word}: there is no {name} in the contract"))
    }};
}
pub(crate) use word;

/// Whether a consent that is kept under this name is to the purpose, and by the channel where one is named with it.
pub fn is_to(kept: &str, purpose: &str) -> bool {
    kept.strip_prefix(purpose).is_some_and(|rest| rest.is_empty() || rest.starts_with(" by "))
}
