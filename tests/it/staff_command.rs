//! `sandyq platform`, `policy`, `certificate` and `completions`, as officers and scripts use them.

use std::{
    fs,
    process::{Command, Output},
};

use serde_json::Value;

use crate::common::{backend::Backend, house::House, served::Served, vault::POLICY};

/// The command with these words, as the officer of an installation.
fn run(served: &Served, json: bool, line: &str, more: &[&str]) -> Output {
    let connection = served.running.installation.connection_path("admin");
    let mut command = Command::new(env!("CARGO_BIN_EXE_sandyq"));
    if json {
        command.arg("--json");
    }
    command.args(line.split(' ')).args(more).arg("--connection").arg(connection).output().unwrap()
}

/// The data of a command that must succeed.
fn ask(served: &Served, line: &str, more: &[&str]) -> Value {
    let output = run(served, true, line, more);
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// What a command says that must not succeed, with its exit code.
fn refused(served: &Served, line: &str) -> (i32, String) {
    let output = run(served, false, line, &[]);
    assert!(!output.status.success(), "{line}");
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().unwrap(), String::from_utf8(said).unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn callers_and_platforms_are_managed() {
    let served = Served::start().await;
    let person = served.store(1).await;
    let made = ask(&served, "platform create second --bin 211140009394 --legal-name", &["ТОО «Екінші»"]);
    assert_eq!(made["platforms"][0]["bin"], "211140009394");
    let listed = ask(&served, "platform list", &[]);
    let names: Vec<_> = listed["platforms"].as_array().unwrap().iter().map(|p| &p["name"]).collect();
    assert_eq!(names, ["lerna", "second", "vault"]);
    assert_eq!(listed["governance"], "single-officer");
    let told = String::from_utf8(run(&served, false, "platform list", &[]).stdout).unwrap();
    assert!(told.contains("one person does alone what should take two"), "{told}");

    let uri = "spiffe://lerna.example.kz/extra";
    let enrol = format!("platform caller enrol --platform second extra --role service --spiffe-id {uri}");
    assert_eq!(ask(&served, &enrol, &[])["callers"][0]["state"], "enabled");
    let (code, said) = refused(&served, &enrol);
    assert!(code == 4 && said.contains("CERTIFICATE_TAKEN"), "{said}");

    // Pinned to its own key it goes on, to another it does not.
    let file = |name: &str| served.file(name).display().to_string();
    let certificate = Command::new(env!("CARGO_BIN_EXE_sandyq"))
        .args(["--json", "certificate", &file("payments.pem")])
        .output()
        .unwrap();
    let certificate: Value = serde_json::from_slice(&certificate.stdout).unwrap();
    assert_eq!(certificate["spiffe_id"], "spiffe://lerna.example.kz/payments");
    let update = "platform caller update payments --platform lerna";
    let pinned = ask(&served, update, &["--pin-certificate", &file("payments.pem")]);
    assert_eq!(pinned["callers"][0]["pins"][0], certificate["pin"]);
    assert!(served.read("payments", "payments", person.token("iin")).await.is_ok());
    ask(&served, update, &["--pin-certificate", &file("support.pem")]);
    let read = served.read("payments", "payments", person.token("iin")).await;
    assert_eq!(read, Err("KEY_NOT_PINNED".into()));
    assert_eq!(ask(&served, update, &["--no-pins"])["callers"][0]["pins"].as_array().unwrap().len(), 0);

    ask(&served, "platform caller disable payments --platform lerna", &[]);
    let read = served.read("payments", "payments", person.token("iin")).await;
    assert_eq!(read, Err("CALLER_DISABLED".into()));
    ask(&served, "platform caller enable payments --platform lerna", &[]);
    assert!(served.read("payments", "payments", person.token("iin")).await.is_ok());
    let (code, said) = refused(&served, "platform caller disable nobody");
    assert!(code == 1 && said.contains("you see no caller nobody"), "{said}");

    let budget = "platform budget set backend --platform lerna --kind enumeration --limit 7 --window 60";
    assert_eq!(ask(&served, budget, &[])["budgets"][0]["limit"], 7);
    let budgets = ask(&served, "platform budget list --platform lerna", &[]);
    let of_backend = |b: &&Value| b["caller"] == "backend" && b["kind"] == "enumeration";
    assert_eq!(budgets["budgets"].as_array().unwrap().iter().find(of_backend).unwrap()["limit"], 7);
    served.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn persons_and_recipients_are_managed() {
    let served = Served::start().await;
    let made = ask(&served, "platform person enrol k-17", &[]);
    assert_eq!(made["persons"][0]["roles"].as_array().unwrap().len(), 0);
    let granted = ask(&served, "platform person grant k-17 auditor --platform lerna", &[]);
    assert_eq!(granted["persons"][0]["roles"][0]["platform"], "lerna");
    ask(&served, "platform person grant k-17 data_protection", &[]);
    let revoked = ask(&served, "platform person revoke k-17 data_protection", &[]);
    assert_eq!(revoked["persons"][0]["roles"].as_array().unwrap().len(), 1);
    let (code, said) = refused(&served, "platform person grant k-17 service");
    assert!(code == 4 && said.contains("must be a role of the staff"), "{said}");
    let (code, said) = refused(&served, "platform person revoke admin security_officer");
    assert!(code == 4 && said.contains("LAST_OFFICER"), "{said}");
    let id = made["persons"][0]["person_id"].as_str().unwrap();
    assert!(ask(&served, "platform person disable", &[id])["persons"][0]["disabled_at"].is_string());
    let persons = ask(&served, "platform person list", &[]);
    assert_eq!(persons["persons"].as_array().unwrap().len(), 2);

    let register = "platform recipient register bank --platform lerna --kind bank --contract D-17 --condition confidentiality --condition no-onward-transfer \
                    --purpose payments --valid-until 2099-01-01T00:00:00+05:00 --legal-name Bank";
    let register = register.split_whitespace().collect::<Vec<_>>().join(" ");
    let registered = ask(&served, &register, &[]);
    let registered = &registered["recipients"][0];
    assert_eq!((&registered["country"], &registered["safeguard"]), (&"KZ".into(), &Value::Null));
    assert_eq!(registered["conditions"], serde_json::json!(["confidentiality", "no_onward_transfer"]));
    let key = "09".repeat(32);
    let keyed = ask(&served, "platform recipient key bank --platform lerna --public-key", &[&key]);
    let keyed = &keyed["recipients"][0];
    assert!(keyed["offered_key_id"].is_string() && keyed["key_id"].is_null(), "nobody has answered for it");
    assert!(
        ask(&served, "platform recipient end bank --platform lerna", &[])["recipients"][0]["ended_at"]
            .is_string()
    );
    let recipients = ask(&served, "platform recipient list", &[]);
    assert_eq!(recipients["recipients"].as_array().unwrap().len(), 1);
    served.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn policies_are_managed() {
    let served = Served::start().await;
    let person = served.store(1).await;
    let write = |name: &str, text: &str| {
        fs::write(served.file(name), text).unwrap();
        served.file(name).display().to_string()
    };
    let second = POLICY.replacen("number = 1\n", "number = 2\n", 1).replace("\"analytics\"", "\"analitics\"");
    let (good, bad) = (write("good.toml", &second), write("bad.toml", "format = 2\n"));

    // Offline needs no vault; both find the same.
    let offline = |file: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandyq"));
        command.args(["policy", "validate", "--offline", file]).output().unwrap()
    };
    assert!(offline(&good).status.success());
    let found = offline(&bad);
    assert_eq!(found.status.code(), Some(1));
    let told = String::from_utf8(found.stdout).unwrap();
    assert!(told.contains("line 1: format: this vault reads format 1"), "{told}");
    let online = run(&served, false, "policy validate", &[&bad]);
    assert_eq!((online.status.code(), String::from_utf8(online.stdout).unwrap()), (Some(1), told));
    ask(&served, "policy validate", &[&good]);
    let shown = ask(&served, "policy show --language kk", &[&good]);
    let lines = shown["lines"].as_array().unwrap();
    assert!(lines.iter().any(|line| line["text"] == "Мақсаттар" && line["depth"] == 0), "{shown}");
    let stored = ask(&served, "policy show --platform lerna", &[]);
    assert_eq!((&stored["platform"], &stored["version"]), (&"lerna".into(), &1.into()));
    let wide = served.file("wide.toml").display().to_string();
    fs::write(&wide, POLICY.replacen("callers = [\"payments\"]", "callers = [\"payments\", \"support\"]", 1))
        .unwrap();
    let found = ask(&served, "policy diff", &[&wide]);
    assert_eq!(found["changes"][0]["what"], "caller support is new", "{found}");
    assert_eq!(found["changes"].as_array().unwrap().len(), 1, "{found}");

    let dry = ask(&served, "policy apply --dry-run", &[&good]);
    assert_eq!((dry["applied"].as_bool(), dry["policy"]["version"].as_u64()), (Some(false), Some(2)));
    assert_eq!(dry["callers_missing"][0], "analitics");
    let versions = |served: &Served| {
        let listed = ask(served, "policy list --platform lerna", &[]);
        let all = listed["policies"].as_array().unwrap().clone();
        all.iter().map(|p| p["version"].as_u64().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(versions(&served), [1], "a dry run changes nothing");
    assert_eq!(ask(&served, "policy apply", &[&good])["applied"], true);
    assert_eq!(versions(&served), [2, 1]);
    let again = run(&served, false, "policy apply", &[&good]);
    assert_eq!(again.status.code(), Some(1));
    assert!(String::from_utf8(again.stdout).unwrap().contains("version 2 is applied already"));
    let text = run(&served, false, "policy get --platform lerna", &[]).stdout;
    assert_eq!(String::from_utf8(text).unwrap(), second);

    let explain = "policy explain --platform lerna --purpose payments --caller payments";
    let permit = ask(&served, explain, &[person.token("iin")]);
    assert_eq!((permit["decision"].as_str(), permit["policy_version"].as_u64()), (Some("permit"), Some(2)));
    let by_field = ask(&served, explain, &["--subject", "user-1", "--field", "phone"]);
    assert_eq!(
        (by_field["decision"].as_str(), &by_field["reason"]),
        (Some("deny"), &"FIELD_NOT_ALLOWED".into())
    );
    served.running.stop().await.unwrap();
}

#[test]
fn completions_name_the_commands() {
    for shell in ["bash", "zsh", "fish"] {
        let output =
            Command::new(env!("CARGO_BIN_EXE_sandyq")).args(["completions", shell]).output().unwrap();
        let script = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success() && script.contains("detokenize"), "{shell}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_needs_two_people_says_how_another_approves_it() {
    let house = House::new(&Backend::Sqlite).await;
    let connection = fs::read_to_string(house.served.file("client-admin.toml")).unwrap();
    let connection = connection.replace("admin.pem", "second.pem").replace("admin.key", "second.key");
    fs::write(house.served.file("client-second.toml"), connection).unwrap();
    let command = |who: &str, json: bool, line: &str| {
        let connection = house.served.running.installation.connection_path(who);
        let mut command = Command::new(env!("CARGO_BIN_EXE_sandyq"));
        if json {
            command.arg("--json");
        }
        command.args(line.split(' ')).arg("--connection").arg(connection).output().unwrap()
    };
    let said = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let enrol = "platform caller enrol --platform lerna extra --role service --spiffe-id spiffe://lerna.example.kz/extra";
    let proposed = command("admin", true, enrol);
    assert_eq!(proposed.status.code(), Some(5));
    let told: Value = serde_json::from_slice(&proposed.stderr).unwrap();
    let id = told["proposal"]["proposal_id"].as_str().unwrap();
    let hash = told["proposal"]["plan_sha256"].as_str().unwrap();
    let next = format!("proposal approve {id} --hash {hash}");
    assert!(told["error"].as_str().unwrap().contains(&format!("sandyq {next}")), "{told}");

    let listed: Value = serde_json::from_slice(&command("second", true, "proposal list").stdout).unwrap();
    assert_eq!(listed["proposals"][0]["proposal_id"], id);
    let shown = said(&command("second", false, &format!("proposal show {id}")).stdout);
    for line in
        ["would        let a certificate call", "name: extra", &format!("hash         {hash}"), "(per_"]
    {
        assert!(shown.contains(line), "{line} in {shown}");
    }
    // Nobody sits at a terminal here, and another plan is not this one.
    let asked = command("second", false, &next);
    assert!(asked.status.code() == Some(2) && said(&asked.stderr).contains("say --yes"), "{asked:?}");
    let other = format!("proposal approve {id} --hash {} --yes", "0".repeat(64));
    assert!(said(&command("second", false, &other).stderr).contains("PLAN_DIFFERS"));
    let own = command("admin", false, &format!("{next} --yes"));
    assert!(own.status.code() == Some(4) && said(&own.stderr).contains("OWN_PROPOSAL"), "{own:?}");
    let done: Value =
        serde_json::from_slice(&command("second", true, &format!("{next} --yes")).stdout).unwrap();
    assert_eq!(done["proposal"]["state"], "approved");
    let ended = command("second", false, &format!("proposal reject {id}"));
    assert!(said(&ended.stderr).contains("PROPOSAL_ENDED"), "{ended:?}");
    let listed: Value =
        serde_json::from_slice(&command("second", true, "proposal list --all").stdout).unwrap();
    assert_eq!(listed["proposals"][0]["state"], "approved");
    house.stop().await;
}
