//! The command as people and scripts use it: the demo, an installation from nothing, development mode, refusals.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::SocketAddr,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
};

use sandyq::cli::local::LocalInstallation;

fn sandyq(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_sandyq")).args(args).output().unwrap()
}

fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

#[test]
fn the_demo_tells_its_story_and_ends_well() {
    let output = sandyq(&["demo"]);
    let text = stdout(&output);
    assert_eq!(output.status.code(), Some(0), "{}", stderr(&output));
    for part in [
        "991231600002           permitted by ent_",
        "PURPOSE_NOT_DECLARED",
        "CALLER_NOT_ALLOWED",
        "the same 1060921 bytes, permitted by ent_",
        "DOCUMENT_NOT_FOUND",
        "parts left  0",
        "CONSENT_WITHDRAWN",
        "verified: up to this head nothing was changed, removed or added unseen",
    ] {
        assert!(text.contains(part), "{part} is not in:\n{text}");
    }
}

#[test]
fn the_tampered_demo_names_the_entry_and_fails() {
    let output = sandyq(&["demo", "--tamper"]);
    assert_eq!(output.status.code(), Some(3), "{}", stdout(&output));
    assert!(stderr(&output).contains("entry 16 (ent_"), "{}", stderr(&output));
}

#[test]
fn an_installation_is_made_once() {
    let dir = tempfile::tempdir().unwrap();
    let local =
        LocalInstallation::create(&dir.path().join("v"), SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let config = local.config_path();
    let init = || sandyq(&["--json", "init", "--config", config.to_str().unwrap()]);
    let text = fs::read_to_string(&config).unwrap();
    for (from, to, expected) in [
        ("\"security_officer\", ", "", "needs the role security_officer"),
        ("spiffe://vault.example.kz", "spiffe://lerna.example.kz", "which staff does not share"),
        ("spiffe://vault.example.kz", "spiffe://elsewhere.kz", "no client authority is declared"),
        ("\"security_officer\"", "\"security_officer\", \"service\"", "and never service"),
        ("[\"platform_admin\"", "[\"root\"", "officer admin: not a known role"),
        ("handle = \"admin\"", "handle = \"Admin\"", "officer Admin: a person's handle must match"),
        ("single-officer", "two-person", "in two-person mode two [[officer]] need the role security_officer"),
    ] {
        assert!(text.contains(from), "{from}");
        fs::write(&config, text.replace(from, to)).unwrap();
        let refused = init();
        assert!(!refused.status.success() && stderr(&refused).contains(expected), "{}", stderr(&refused));
    }
    fs::write(&config, &text).unwrap();
    let first = init();
    assert!(first.status.success(), "{}", stderr(&first));
    let first: serde_json::Value = serde_json::from_slice(&first.stdout).unwrap();
    // The first runs made the installation and were refused its officers.
    assert_eq!(first["officers_enrolled"].as_bool(), Some(true));
    assert_eq!(first["governance"], "single-officer");

    // Officers are enrolled once; afterwards the file may go without them.
    fs::write(&config, text.split("[[officer]]").next().unwrap()).unwrap();
    let again: serde_json::Value = serde_json::from_slice(&init().stdout).unwrap();
    assert_eq!(
        (again["created"].as_bool(), again["officers_enrolled"].as_bool()),
        (Some(false), Some(false))
    );
    assert_eq!(again["verifier_key"], first["verifier_key"], "the keys are the same");
    assert!(sandyq(&["migrate", "--config", config.to_str().unwrap()]).status.success());
}

/// Each fault of a configuration or of its files, and what is said about it.
#[test]
fn unsafe_or_broken_installations_do_not_serve() {
    type Break = fn(&Path);
    fn edit(path: &Path, from: &str, to: &str) {
        let text = fs::read_to_string(path).unwrap();
        assert!(text.contains(from), "{from}");
        fs::write(path, text.replacen(from, to, 1)).unwrap();
    }
    fn open_to_all(path: &Path) {
        use std::os::unix::fs::PermissionsExt as _;
        fs::set_permissions(path, fs::Permissions::from_mode(0o644)).unwrap();
    }
    let cases: Vec<(&str, Break)> = vec![
        ("unknown field `lissen`", |d| edit(&d.join("sandyq.toml"), "listen", "lissen")),
        ("others may read this secret", |d| open_to_all(&d.join("unseal.key"))),
        ("name \"mirror-beside-database\" in accept_risks", |d| {
            edit(&d.join("sandyq.toml"), "\"mirror-beside-database\", ", "");
        }),
        ("name \"unseal-key-beside-root\" in accept_risks", |d| {
            edit(&d.join("sandyq.toml"), ", \"unseal-key-beside-root\"", "");
        }),
        ("name \"no-mirror\" in accept_risks", |d| {
            edit(&d.join("sandyq.toml"), "\"mirror-beside-database\", ", "");
            edit(&d.join("sandyq.toml"), "[mirror]\ndirectory = \"mirror\"\n", "");
        }),
        ("\"mirror-beside-database\", which is no risk here", |d| {
            edit(&d.join("sandyq.toml"), "directory = \"mirror\"", "directory = \"../mirror\"");
        }),
        ("name \"database-not-verified\" in accept_risks", |d| {
            let url = "postgres = \"postgres://sandyq@db.example.kz/sandyq?sslmode=require\"";
            edit(&d.join("sandyq.toml"), "sqlite = \"sandyq.db\"", url);
        }),
        ("erasure.cooling_minutes must be from 1 to 480", |d| {
            edit(&d.join("sandyq.toml"), "[governance]", "[erasure]\ncooling_minutes = 481\n\n[governance]");
        }),
        ("others may read this secret", |d| open_to_all(&d.join("server.key"))),
        ("unseal.key: not an unseal key", |d| {
            edit(&d.join("unseal.key"), "sandyq-unseal-1:", "sandyq-unseal-2:");
        }),
        ("does not open with this unseal key", |d| {
            let other = d.join("other");
            fs::create_dir(&other).unwrap();
            let rng = sandyq::crypto::random::SystemRng::new();
            let (root, unseal) = (other.join("root"), other.join("unseal"));
            sandyq::crypto::kms::local::LocalKms::create(&root, &unseal, &rng).unwrap();
            fs::rename(unseal, d.join("unseal.key")).unwrap();
        }),
        ("does not open under this root", |d| {
            let other = d.join("other");
            fs::create_dir(&other).unwrap();
            let rng = sandyq::crypto::random::SystemRng::new();
            let (root, unseal) = (other.join("root"), other.join("unseal"));
            sandyq::crypto::kms::local::LocalKms::create(&root, &unseal, &rng).unwrap();
            fs::rename(root, d.join("root.json")).unwrap();
            fs::rename(unseal, d.join("unseal.key")).unwrap();
        }),
        ("sandyq init` makes a new installation", |d| fs::remove_file(d.join("sandyq.db")).unwrap()),
        ("governance.mode must be", |d| edit(&d.join("sandyq.toml"), "single-officer", "no-officer")),
        ("governance.proposal_hours must be from 1 to 168", |d| {
            edit(&d.join("sandyq.toml"), "[governance]", "[governance]\nproposal_hours = 169");
        }),
        ("missing field `governance`", |d| {
            edit(&d.join("sandyq.toml"), "[governance]\nmode = \"single-officer\"\n", "");
        }),
        ("missing field `staff`", |d| {
            edit(&d.join("sandyq.toml"), "[staff]\nhardware_keys = \"declared_absent\"\n", "");
        }),
        ("staff.hardware_keys must be", |d| edit(&d.join("sandyq.toml"), "declared_absent", "none")),
        ("needs governance.mode = \"two-person\"", |d| {
            edit(&d.join("sandyq.toml"), "declared_absent", "required");
        }),
        ("staff.attestation_roots holds no certificate", |d| {
            fs::write(d.join("vendors.pem"), "").unwrap();
            edit(&d.join("sandyq.toml"), "[staff]", "[staff]\nattestation_roots = \"vendors.pem\"");
        }),
        ("server's key does not parse", |d| fs::write(d.join("server.key"), "nothing").unwrap()),
        ("stands for two trust domains", |d| {
            fs::copy(d.join("staff-authority.pem"), d.join("platform-authority.pem")).map(drop).unwrap();
        }),
        ("holds no certificate", |d| fs::write(d.join("platform-authority.pem"), "").unwrap()),
    ];
    for (i, (expected, change)) in cases.into_iter().enumerate() {
        let dir = tempfile::tempdir().unwrap();
        let local =
            LocalInstallation::create(&dir.path().join("v"), SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let config = local.config_path();
        let config = config.to_str().unwrap();
        assert!(sandyq(&["init", "--config", config]).status.success());
        serve_once(config);
        change(local.dir());
        let (code, log) = refused_start(config);
        assert!(log.contains(expected), "case {i}: {expected} not in {log}");
        assert_eq!(code, Some(1), "case {i}");
    }
}

/// Exit code and log of a start that should be refused; one that serves all the same is ended.
fn refused_start(config: &str) -> (Option<i32>, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sandyq"))
        .args(["serve", "--config", config])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut log = String::new();
    for line in BufReader::new(child.stderr.take().unwrap()).lines() {
        log.push_str(&line.unwrap());
        log.push('\n');
        if log.contains("serving address") {
            terminate(&child);
        }
    }
    (child.wait().unwrap().code(), log)
}

fn serve_once(config: &str) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sandyq"))
        .args(["serve", "--config", config])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    assert!(lines.any(|line| line.unwrap().contains("serving address")));
    terminate(&child);
    lines.for_each(drop);
    assert!(child.wait().unwrap().success(), "SIGTERM ends it in order");
}

fn terminate(child: &std::process::Child) {
    let status = Command::new("kill").args(["-TERM", &child.id().to_string()]).status().unwrap();
    assert!(status.success());
}

/// The three commands that `sandyq dev` prints, run as printed.
#[test]
fn development_mode_and_its_three_commands() {
    let dir = tempfile::tempdir().unwrap();
    let files = dir.path().join("dev");
    let mut child = Command::new(env!("CARGO_BIN_EXE_sandyq"))
        .args(["dev", "--port", "0", "--dir", files.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut printed: Vec<String> = Vec::new();
    for line in lines.by_ref() {
        let last = line.starts_with("Ctrl-C");
        printed.push(line);
        if last {
            break;
        }
    }
    assert!(printed.iter().any(|line| line.contains("DEV: throw-away keys")), "{printed:?}");
    let commands: Vec<Vec<&str>> = printed
        .iter()
        .filter_map(|line| line.strip_prefix("  sandyq "))
        .map(|line| line.split_whitespace().collect())
        .collect();
    assert_eq!(commands.len(), 3);

    let stored = stdout(&sandyq(&commands[0]));
    let token = stored.lines().find_map(|line| line.strip_prefix("iin")).unwrap().trim().to_owned();
    let mut read = commands[1].clone();
    assert_eq!(read.pop(), Some("TOKEN"));
    read.push(&token);
    assert_eq!(stdout(&sandyq(&read)), "iin          991231600002\n");
    assert!(stdout(&sandyq(&commands[2])).starts_with("vault.example.kz/lerna\n"));

    // Bad input is told by its place, never by its content.
    for bad in [
        "{\"subject\":\"u\",\"fields\":{\"iin\":991231600002}}",
        "{\"subject\":\"u\",\"fields\":\"Сынақова\"}",
    ] {
        let input = dir.path().join("bad.json");
        fs::write(&input, bad).unwrap();
        let backend = files.join("client-backend.toml");
        let args =
            ["tokenize", "--connection", backend.to_str().unwrap(), "--input", input.to_str().unwrap()];
        let output = sandyq(&args);
        assert_eq!(output.status.code(), Some(1));
        let said = stdout(&output) + &stderr(&output);
        assert!(said.contains("line 1 column") && !said.contains("9912") && !said.contains("Сын"), "{said}");
    }

    // Refused: exit code 4, and the reason.
    let mut masked_for_another = read.clone();
    let purpose = masked_for_another.iter().position(|a| *a == "payments").unwrap();
    masked_for_another[purpose] = "request_comms";
    let refused = sandyq(&masked_for_another);
    assert_eq!(refused.status.code(), Some(4));
    assert!(stdout(&refused).contains("CALLER_NOT_ALLOWED"), "{}", stdout(&refused));

    // Who am I, and consents.
    let backend = files.join("client-backend.toml");
    let backend = backend.to_str().unwrap();
    assert!(stdout(&sandyq(&["whoami", "--connection", backend])).contains("backend of platform lerna"));
    let list = sandyq(&["--json", "consent", "list", "--connection", backend, "user-000117"]);
    let list: serde_json::Value = serde_json::from_slice(&list.stdout).unwrap();
    let payments = list["consents"].as_array().unwrap().iter().find(|c| c["purpose"] == "payments").unwrap();
    let id = payments["consent_id"].as_str().unwrap();
    assert!(sandyq(&["consent", "withdraw", "--connection", backend, id]).status.success());
    let refused = sandyq(&read);
    assert_eq!(refused.status.code(), Some(4));
    assert!(stdout(&refused).contains("CONSENT_WITHDRAWN"), "{}", stdout(&refused));

    // A directory that is there already is never taken.
    let again = sandyq(&["dev", "--port", "0", "--dir", files.to_str().unwrap()]);
    assert_eq!(again.status.code(), Some(1));
    assert!(stderr(&again).contains("is not empty"));
    terminate(&child);
    assert!(child.wait().unwrap().success());
}

#[test]
fn waiting_for_the_schema_ends_when_somebody_else_has_made_it() {
    let dir = tempfile::tempdir().unwrap();
    let local =
        LocalInstallation::create(&dir.path().join("v"), SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
    let config = local.config_path();
    let mut waiting = Command::new(env!("CARGO_BIN_EXE_sandyq"))
        .args(["migrate", "--wait", "--config", config.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut said = BufReader::new(waiting.stderr.take().unwrap()).lines().map_while(Result::ok);
    assert!(said.next().unwrap().starts_with("waiting: "));
    assert!(!dir.path().join("v/sandyq.db").exists(), "who waits makes nothing");
    let made = sandyq(&["init", "--config", config.to_str().unwrap()]);
    assert!(made.status.success(), "{}", stderr(&made));
    let ended = waiting.wait_with_output().unwrap();
    assert!(ended.status.success() && stdout(&ended).contains("has schema"), "{}", stdout(&ended));
}

#[test]
fn wrong_usage_has_its_own_exit_code() {
    assert_eq!(sandyq(&["serve", "--nonsense"]).status.code(), Some(2));
    assert_eq!(sandyq(&["--help"]).status.code(), Some(0));
    assert_eq!(sandyq(&["audit", "verify", "/nonexistent", "--key", "x"]).status.code(), Some(1));
}

/// Every `sandyq …` line in a code block of README and docs names a command and flags that exist.
#[test]
fn commands_in_documents_exist() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut checked = 0;
    for file in documents(root) {
        let text = fs::read_to_string(&file).unwrap();
        let file = file.display();
        for block in text.split("```sh").skip(1).map(|rest| rest.split("```").next().unwrap()) {
            for line in block.lines().filter_map(|line| line.trim().strip_prefix("sandyq ")) {
                let words: Vec<&str> = line.split_whitespace().collect();
                let help = help_of(&words);
                assert!(help.status.success(), "{file}: {line}: {}", stderr(&help));
                for flag in words.iter().filter(|w| w.starts_with("--")) {
                    assert!(stdout(&help).contains(flag), "{file}: {flag} of {line} does not exist");
                }
                checked += 1;
            }
        }
    }
    assert!(checked >= 9, "{checked} commands were found");
}

/// README and every page below docs.
fn documents(root: &Path) -> Vec<PathBuf> {
    let mut found = vec![root.join("README.md")];
    let mut folders = vec![root.join("docs")];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|end| end == "md") {
                found.push(path);
            }
        }
    }
    found
}

/// The help of the command that a line begins with: a word after a command without subcommands is an argument of it.
fn help_of(words: &[&str]) -> Output {
    let mut args = Vec::new();
    loop {
        let help = sandyq(&[args.as_slice(), &["--help"]].concat());
        let said = stdout(&help);
        // Of a command that takes an argument or a subcommand, a word that is no subcommand is the argument.
        let follows = |word: &&&str| {
            said.contains("\nCommands:\n")
                && (said.contains(&format!("\n  {word} ")) || !said.contains("\nArguments:\n"))
        };
        let next = words.get(args.len()).filter(follows);
        match next {
            Some(next) => args.push(*next),
            None => return help,
        }
    }
}

/// The configuration in the documentation is the one that works.
#[test]
fn the_documented_configuration_parses() {
    let text = include_str!("../../docs/configuration.md");
    let block = text.split("```toml").nth(1).unwrap().split("```").next().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("sandyq.toml");
    fs::write(&path, block).unwrap();
    let config = sandyq::config::Config::load(&path).unwrap();
    assert_eq!(config.client_authority.len(), 2);
}
