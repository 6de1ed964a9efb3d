//! Lives of people under the five policies, as files that a lawyer can read and write (`tests/scenarios/README.md`): each runs
//! against a served vault under a clock that is moved, over gRPC and mutual TLS, on either database. Every step expects its
//! answer, and every entry that the log gets.

mod acts;
pub mod file;
pub mod life;
mod log;
mod requests;
pub mod time;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc};

use tokio::{sync::Semaphore, task::JoinSet};

use self::{
    file::{Scenario, all},
    life::Life,
};
use crate::common::backend::{Backend, on_both};

/// Scenarios that run side by side: each has a server, and the database has so many connections.
const AT_ONCE: usize = 4;

/// One file from its first day to its last; the error names file and step.
async fn run(scenario: &Scenario, backend: &Backend) -> Result<(), String> {
    let mut life = Life::begin(scenario, backend).await.map_err(|e| format!("{}: {e}", scenario.name))?;
    for (at, step) in scenario.steps.iter().enumerate() {
        let went = life.go(step).await;
        went.map_err(|e| format!("{}, step {} («{}»): {e}", scenario.name, at + 1, step.frame.says))?;
    }
    life.end().await.map_err(|e| format!("{}, at its end: {e}", scenario.name))
}

/// The files that run: all, or the one that `SANDYQ_SCENARIO` names.
#[expect(clippy::disallowed_methods, reason = "the test's own switch, not the vault's configuration")]
fn chosen() -> Vec<PathBuf> {
    let Some(name) = std::env::var_os("SANDYQ_SCENARIO") else { return all() };
    let files: Vec<_> = all().into_iter().filter(|path| path.file_stem() == Some(name.as_os_str())).collect();
    assert_eq!(files.len(), 1, "SANDYQ_SCENARIO is the name of a file of tests/scenarios without its ending");
    files
}

on_both!(every_life_goes_as_its_file_says);
async fn every_life_goes_as_its_file_says(backend: Backend) {
    let (room, mut running) = (Arc::new(Semaphore::new(AT_ONCE)), JoinSet::new());
    for path in chosen() {
        let (room, own) = (Arc::clone(&room), backend.fresh().await);
        running.spawn(async move {
            let _place = room.acquire_owned().await.unwrap();
            let scenario = Scenario::load(&path)?;
            run(&scenario, &own).await.map(|()| (scenario.name, scenario.steps.len()))
        });
    }
    let mut wrong = Vec::new();
    while let Some(ended) = running.join_next().await {
        match ended.unwrap_or_else(|panicked| Err(panicked.to_string())) {
            Ok((name, steps)) => println!("{name}: {steps} steps"),
            Err(error) => wrong.push(error),
        }
    }
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

#[test]
fn every_policy_has_a_life_and_three_go_wrong() {
    let scenarios = all().iter().map(|path| Scenario::load(path)).collect::<Result<Vec<_>, _>>().unwrap();
    let names: BTreeSet<_> = scenarios.iter().map(|scenario| scenario.name.as_str()).collect();
    for policy in ["aitube", "cap", "edoox", "experimentum", "lerna"] {
        assert!(names.contains(policy), "{policy} has no life");
    }
    for wrong in ["missing_event", "contested_accuracy", "demand_during_hold"] {
        assert!(names.contains(wrong), "{wrong}");
    }
    for scenario in &scenarios {
        assert!(
            !scenario.head.about.is_empty() && scenario.steps.iter().all(|step| !step.frame.says.is_empty())
        );
    }
}

/// A short life of which everything is right.
const GOOD: &str = r#"
policy = "lerna"
about = "Somebody signs up."
rules = ["R3"]
starts = "2027-02-01"
site = "lerna.kz"
language = "ru"

[person]
reference = "user-1"
name = "Сынақова Әлия"

[values]
email = "aliya@example.kz"

[[step]]
says = "An address without a consent."
by = "backend"
sign_up = { fields = ["email"] }
answer = "ok"
entries = [
    { call = "VaultService/Tokenize", object = "subject" },
    { call = "VaultService/Tokenize", field = "email" },
]

[[step]]
says = "Nobody reads it."
after = "1 hour"
by = "support"
read = { purpose = "request_comms", fields = ["email"] }
answer = "CONSENT_MISSING"
entries = [
    { call = "VaultService/Detokenize", decision = "deny", reason = "CONSENT_MISSING", purpose = "request_comms", field = "email" },
]
"#;

fn scenario(text: &str) -> Result<Scenario, String> {
    Scenario::parse("short".into(), text)
}

#[test]
fn what_is_misspelt_names_file_and_step() {
    assert!(scenario(GOOD).is_ok());
    for (right, wrong, expected) in [
        ("starts = ", "stars = ", "short: "),
        ("read = {", "reed = {", "short, step 2: «Nobody reads it.»: unknown variant `reed`"),
        (
            "purpose = \"request_comms\", fields",
            "purposes = \"request_comms\", fields",
            "unknown field `purposes`",
        ),
        ("decision = \"deny\"", "decided = \"deny\"", "unknown field `decided`"),
        ("after = \"1 hour\"", "later = \"1 hour\"", "one act, and this one has"),
        ("answer = \"CONSENT_MISSING\"\n", "", "missing field `answer`"),
        ("after = \"1 hour\"", "after = \"1 hour\"\non = \"2027-02-02\"", "either `after` or `on`"),
    ] {
        let text = GOOD.replacen(right, wrong, 1);
        assert_ne!(text, GOOD);
        let error = scenario(&text).err().unwrap();
        assert!(error.starts_with("short") && error.contains(expected), "{error}");
    }
}

/// What a file expects wrongly is found: an answer, an entry too many or too few, another reason, a day that is past.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_file_expects_wrongly_is_found() {
    let wrongly = async |right: &str, wrong: &str| {
        let text = GOOD.replacen(right, wrong, 1);
        assert_ne!(text, GOOD);
        run(&scenario(&text).unwrap(), &Backend::Sqlite).await.unwrap_err()
    };
    let error = wrongly("answer = \"CONSENT_MISSING\"", "answer = \"ok\"").await;
    assert_eq!(error, "short, step 2 («Nobody reads it.»): answered CONSENT_MISSING, not ok");
    let too_few = wrongly("    { call = \"VaultService/Tokenize\", field = \"email\" },\n", "").await;
    assert!(too_few.starts_with("short, step 1") && too_few.contains("the log has"), "{too_few}");
    let subject = "    { call = \"VaultService/Tokenize\", object = \"subject\" },\n";
    let too_many = wrongly(subject, &subject.repeat(2)).await;
    assert!(too_many.starts_with("short, step 1") && too_many.contains("the file expects"), "{too_many}");
    let reason = wrongly("reason = \"CONSENT_MISSING\"", "reason = \"CONSENT_EXPIRED\"").await;
    assert!(reason.contains("the file expects\n") && reason.contains("CONSENT_EXPIRED"), "{reason}");
    let past = wrongly("after = \"1 hour\"", "on = \"2027-01-31\"").await;
    assert!(past.contains("time goes ahead only"), "{past}");
    let nobody = wrongly("by = \"support\"", "by = \"suport\"").await;
    assert!(nobody.contains("the policy names no caller suport"), "{nobody}");
    let value = "[values]\nemail = \"aliya@example.kz\"";
    let right = run(&scenario(GOOD).unwrap(), &Backend::Sqlite).await;
    assert_eq!(right, Ok(()));
    let misspelt = wrongly(value, "[values]\nmail = \"aliya@example.kz\"").await;
    assert!(misspelt.contains("[values] has no email"), "{misspelt}");
}
