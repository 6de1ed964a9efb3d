//! Rules of `docs/rules.md` over the running service: a person under a shipped policy, asked for over gRPC and mutual TLS, on
//! either database, under a clock that is moved. A row says who does what and what is answered: the reason of the refusal, or
//! `ok` for what stands beside it and is allowed.

mod consents;
mod policies;
mod reads;
mod releases;
mod retention;
mod rights;

use sandyq::grpc::pb::{self, apply_policy_response::Outcome, policy_service_client::PolicyServiceClient};

use crate::{
    common::backend::Backend,
    scenarios::{
        file::Scenario,
        life::{Life, STAFF},
        time::date_of,
    },
};

/// Everybody is the same person, with a value in every field.
const PERSON: &str = r#"
[person]
reference = "person-1"
name = "Сынақова Әлия"

[values]
surname = "Сынақова"
first_name = "Әлия"
full_name = "Сынақова Әлия"
iin = "991231600002"
phone = "+77010000017"
email = "aliya@example.kz"
workplace = "Мектеп 17"
purchases = "course 17"
preferences = "courses of design"
payment_status = "paid"
message = "When does the course begin?"
support_request = "The page does not open."
cookies = "session 17"
ip_address = "203.0.113.17"
referrer = "https://example.kz/17"
other_data = "anything"
"#;

/// What the operator of a policy decided.
fn head(policy: &str) -> String {
    let (site, language, operator) = match policy {
        "lerna" => ("lerna.kz", "ru", ""),
        "experimentum" => ("experimentum.kz", "ru", "min_age = 18\n"),
        "cap" => ("cap.kz", "kk", "effective = \"2026-01-01\"\nmin_age = 18\n"),
        "aitube" => (
            "aitube.kz",
            "kk",
            "bin = \"211140009394\"\neffective = \"2026-01-01\"\nedition = \"2026-01-01\"\n\
             withdrawal_address = \"the address of the agreement\"\nmin_age = 18\n",
        ),
        other => panic!("{other}"),
    };
    format!(
        "policy = \"{policy}\"\nabout = \"Rules over the service.\"\nrules = []\nstarts = \"2027-03-01\"\n\
         site = \"{site}\"\nlanguage = \"{language}\"\n\n[operator]\n{operator}{PERSON}"
    )
}

/// Rows as a scenario: `who | act | answer`, or `+ 3 days` before the next.
fn scenario(policy: &str, rows: &str) -> Scenario {
    let (mut text, mut after) = (head(policy), String::new());
    for row in rows.lines().map(str::trim).filter(|row| !row.is_empty()) {
        if let Some(span) = row.strip_prefix("+ ") {
            after = format!("after = \"{span}\"\n");
            continue;
        }
        let cells: Vec<_> = row.split(" | ").collect();
        let [by, act, answer] = cells[..] else { panic!("{row}") };
        let says = toml::Value::String(row.to_owned());
        let frame = format!("says = {says}\nby = \"{by}\"\nanswer = \"{answer}\"\nentries = []\n");
        text = format!("{text}\n[[step]]\n{frame}{after}{act}\n");
        after.clear();
    }
    Scenario::parse(policy.to_owned(), &text).unwrap()
}

/// Serves a policy, and holds that each row is answered as it says. In the end log and rows agree.
async fn answered(backend: &Backend, policy: &str, rows: &str) {
    with(backend, policy, async |life| go(life, rows).await).await;
}

/// The same with more than rows can say.
async fn with(backend: &Backend, policy: &str, then: impl AsyncFnOnce(&mut Life<'_>)) {
    let nothing = scenario(policy, "staff | sweep = {} | ok");
    let mut life = Life::begin(&nothing, backend).await.unwrap();
    then(&mut life).await;
    life.end().await.unwrap();
}

async fn go(life: &mut Life<'_>, rows: &str) {
    for step in scenario(&life.scenario.head.policy, rows).steps {
        let answered = life.answers(&step).await;
        assert_eq!(answered, Ok(()), "{}: {}", life.scenario.name, step.frame.says);
    }
}

/// The next version of the policy, in force from today: its text with these changes.
fn next_version(life: &Life<'_>, changes: &[(&str, &str)]) -> String {
    let (mut text, today) = (life.policy.text.clone(), date_of(life.now()));
    for (from, to) in changes {
        assert!(text.contains(from), "{from}");
        text = text.replacen(from, to, 1);
    }
    let dated = |row: &str| match row.split_once(" = ") {
        Some(("number", _)) => "number = 2".to_owned(),
        Some(("effective", _)) => format!("effective = \"{today}\""),
        _ => row.to_owned(),
    };
    text.lines().map(dated).collect::<Vec<_>>().join("\n")
}

async fn apply(life: &Life<'_>, text: String, validate_only: bool) -> Outcome {
    let request = pb::ApplyPolicyRequest { request_id: life.served.request_id(), text, validate_only };
    let mut staff = PolicyServiceClient::new(life.channel(STAFF).unwrap());
    staff.apply_policy(request).await.unwrap().into_inner().outcome.unwrap()
}

/// Applies the next version.
async fn widened(life: &Life<'_>, changes: &[(&str, &str)]) {
    let applied = apply(life, next_version(life, changes), false).await;
    assert!(matches!(&applied, Outcome::Applied(version) if version.governs), "{changes:?}: {applied:?}");
}

/// No such version is applied, for this rule; and the one beside it could be.
async fn refused(life: &Life<'_>, from: &str, wrong: &str, rule: &str, right: &str) {
    match apply(life, next_version(life, &[(from, wrong)]), false).await {
        Outcome::Problems(found) => {
            assert!(found.problems.iter().any(|p| p.rule.contains(rule)), "{wrong}: {found:#?}");
        }
        other @ (Outcome::Applied(_) | Outcome::Proposal(_)) => panic!("{wrong}: {other:?}"),
    }
    let checked = apply(life, next_version(life, &[(from, right)]), true).await;
    assert!(matches!(checked, Outcome::Applied(_)), "{right}: {checked:#?}");
}
