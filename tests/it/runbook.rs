//! The runbooks, command by command, as they stand there.

use std::{path::Path, process::Command, time::Duration};

use sandyq::{
    cli::{local::LocalInstallation, pki::Authority},
    domain::time::Clock,
};

use crate::common::{
    backend::Backend,
    people::iin,
    served::{Served, replace_authorities},
};

const KEYS: &str = include_str!("../../docs/runbooks/keys.md");

/// Commands of a runbook, in order.
fn commands(text: &str) -> Vec<String> {
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    blocks.flat_map(str::lines).map(|line| line.trim().to_owned()).filter(|line| !line.is_empty()).collect()
}

/// What one command said that the next ones need.
#[derive(Default)]
struct Said {
    all: String,
    proposal: String,
    plan: String,
    operation: String,
    person: String,
    /// Audit keys, as auditors keep them.
    keys: String,
}

impl Said {
    fn hear(&mut self, out: &str, errors: &str) {
        let word = |begin: &str| {
            let mut words = out.split_whitespace().chain(errors.split_whitespace());
            words.find(|word| word.starts_with(begin)).map(str::to_owned)
        };
        if let Some((_, hash)) = errors.rsplit_once("--hash ") {
            hash.trim().clone_into(&mut self.plan);
            self.proposal = word("prp_").unwrap();
        }
        self.operation = word("opr_").unwrap_or_else(|| self.operation.clone());
        self.person = word("per_").unwrap_or_else(|| self.person.clone());
        for key in out.split_whitespace().filter(|word| word.starts_with("vault.example.kz+")) {
            if !self.keys.contains(key) {
                self.keys = format!("{key}\n{}", self.keys);
            }
        }
        self.all += out;
        self.all += errors;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_rotated_and_destroyed_by_the_runbook() {
    let served = officers_without_keys().await;
    let config = std::fs::read_to_string(served.file("sandyq.toml")).unwrap();
    let horizon = config.replace("directory = \"backups\"", "directory = \"backups\"\nhorizon_days = 90");
    std::fs::write(served.file("sandyq.toml"), horizon).unwrap();
    let served = served.restart().await;
    let connection = std::fs::read_to_string(served.file("client-admin.toml")).unwrap();
    std::fs::write(served.file("client-second.toml"), connection.replace("admin.", "second.")).unwrap();
    let stored = served.store(1).await;
    let in_three_days = Clock::default().now().plus(Duration::from_hours(72)).to_string();
    let mut said = Said { keys: served.running.verifier_key.clone() + "\n", ..Said::default() };
    std::fs::write(served.file("audit-keys.txt"), &said.keys).unwrap();
    let commands = commands(KEYS);
    assert!(commands.len() >= 35, "{commands:?}");
    for command in commands {
        let command = command.replace("2027-01-01T00:00:00Z", &in_three_days);
        let path = Path::new(env!("CARGO_BIN_EXE_sandyq")).parent().unwrap().to_owned();
        let ran = tokio::task::block_in_place(|| {
            Command::new("sh")
                .args(["-c", &command])
                .current_dir(served.running.installation.dir())
                .env("PATH", format!("{}:/usr/bin:/bin", path.display()))
                .env("PROPOSAL", &said.proposal)
                .env("PLAN", &said.plan)
                .env("OPERATION", &said.operation)
                .env("PERSON", &said.person)
                .output()
                .unwrap()
        });
        let (out, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        // What waits for a second person says so by its exit code.
        let proposes = command.contains("keys rekey") && !command.contains("--dry-run");
        assert_eq!(ran.status.code(), Some(if proposes { 5 } else { 0 }), "{command}\n{out}{errors}");
        said.hear(&out, &errors);
        std::fs::write(served.file("audit-keys.txt"), &said.keys).unwrap();
        assert_eq!(served.read("payments", "payments", stored.token("iin")).await, Ok(iin(1)), "{command}");
    }
    for expected in [
        "would wrap    1 subject keys",
        "would seal    ",
        "unwrap     done in",
        "version 1  active, wraps",
        "state      done",
        "version 1    retiring               wraps 0",
        "destruction_scheduled",
        "versions are replaced after 45 days and destroyed after 90",
        "NOT IN FORCE",
        "rekey_platform",
        "approved  ",
        "verified: the audit key signed it, and the log has every entry",
    ] {
        assert!(said.all.contains(expected), "{expected} is not in\n{}", said.all);
    }
    served.running.stop().await.unwrap();
}

const RESIDENCY: &str = include_str!("../../docs/runbooks/residency.md");

#[tokio::test(flavor = "multi_thread")]
async fn where_everything_is_is_seen_and_proved_by_the_runbook() {
    let served = Served::start().await;
    let mut said = String::new();
    let commands = commands(RESIDENCY);
    assert!(commands.len() >= 5, "{commands:?}");
    let path = Path::new(env!("CARGO_BIN_EXE_sandyq")).parent().unwrap().to_owned();
    for command in commands {
        let ran = tokio::task::block_in_place(|| {
            Command::new("sh")
                .args(["-c", &command])
                .current_dir(served.running.installation.dir())
                .env("PATH", format!("{}:/usr/bin:/bin", path.display()))
                .env("AUDIT_KEY", &served.running.verifier_key)
                .output()
                .unwrap()
        });
        let (out, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{command}\n{out}{errors}");
        said = said + &out + &errors;
    }
    for expected in [
        "INSIDE   database",
        "site this-machine, here",
        "data stays in KZ",
        "sandyq residency report 1",
        "verified: signed by the audit key",
    ] {
        assert!(said.contains(expected), "{expected} is not in\n{said}");
    }
    // A report that was altered, and one that another key signed.
    let file = served.file("residency-report.txt");
    let note = std::fs::read_to_string(&file).unwrap();
    let second = Served::start().await;
    let other = second.running.verifier_key.clone();
    second.running.stop().await.unwrap();
    for (note, key) in
        [(note.replace("\"KZ\"", "\"DE\""), &served.running.verifier_key), (note.clone(), &other)]
    {
        std::fs::write(&file, note).unwrap();
        let verify = ["residency", "verify", file.to_str().unwrap(), "--key", key];
        let refused = Command::new(env!("CARGO_BIN_EXE_sandyq")).args(verify).output().unwrap();
        assert_eq!(refused.status.code(), Some(3), "{refused:?}");
    }
    served.running.stop().await.unwrap();
}

const RESTORE: &str = include_str!("../../docs/runbooks/restore.md");

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_made_and_restored_by_the_runbook() {
    let mut served = Some(Served::start().await);
    let stored = served.as_ref().unwrap().store(1).await;
    let dir = served.as_ref().unwrap().running.installation.dir().to_owned();
    let key = served.as_ref().unwrap().running.verifier_key.clone();
    let (mut backup, mut said, mut files) = (String::new(), String::new(), None);
    let commands = commands(RESTORE);
    assert!(commands.len() >= 7, "{commands:?}");
    for command in commands {
        // The runbook stops the vault before, and starts it after the restore.
        if command.contains("--dry-run") {
            let Served { running, dir: kept, .. } = served.take().unwrap();
            running.stop().await.unwrap();
            let path = dir.join("sandyq.toml");
            let config = std::fs::read_to_string(&path).unwrap();
            std::fs::write(path, config.replace("sandyq.db", "restored.db")).unwrap();
            files = Some(kept);
        } else if command.contains("reconcile") {
            let installation = LocalInstallation::open(&dir);
            let running = installation.start(true).await.unwrap();
            served = Some(Served { running, dir: files.take().unwrap(), backend: Backend::Sqlite });
        }
        let path = Path::new(env!("CARGO_BIN_EXE_sandyq")).parent().unwrap().to_owned();
        let ran = tokio::task::block_in_place(|| {
            Command::new("sh")
                .args(["-c", &command])
                .current_dir(&dir)
                .env("PATH", format!("{}:/usr/bin:/bin", path.display()))
                .env("BACKUP", &backup)
                .env("AUDIT_KEY", &key)
                .output()
                .unwrap()
        });
        let (out, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{command}\n{out}{errors}");
        if command.contains("backup list") {
            out.split_whitespace().next().unwrap().clone_into(&mut backup);
        }
        said = said + &out + &errors;
    }
    for expected in [
        "verified: signed, whole",
        "nothing was written",
        "restored: `sandyq serve` may start",
        "log and rows agree",
    ] {
        assert!(said.contains(expected), "{expected} is not in\n{said}");
    }
    let served = served.unwrap();
    assert_eq!(served.read("payments", "payments", stored.token("iin")).await, Ok(iin(1)));
    served.running.stop().await.unwrap();
}

const STAFF_KEYS: &str = include_str!("../../docs/runbooks/staff-keys.md");

/// The officers of the runbook, none of whom has a key yet.
async fn officers_without_keys() -> Served {
    let (platform, staff) = (Authority::new("p").unwrap(), Authority::new("s").unwrap());
    Served::start_files(&Backend::Sqlite, |files| {
        replace_authorities(files, &platform, &staff);
        let mut config = std::fs::read_to_string(files.join("sandyq.toml")).unwrap();
        for name in ["second", "local", "replaced"] {
            let uri =
                format!("spiffe://vault.example.kz/{}", if name == "replaced" { "second" } else { name });
            staff.client(&[&uri]).unwrap().write(files, name).unwrap();
        }
        for name in ["second", "local"] {
            config.push_str("\n[[officer]]\nroles = [\"security_officer\"]\nhandle = \"");
            config.push_str(name);
            config.push_str("\"\nspiffe_id = \"spiffe://vault.example.kz/");
            config.push_str(name);
            config.push_str("\"\n");
        }
        std::fs::write(files.join("sandyq.toml"), config).unwrap();
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn staff_enrols_and_replaces_its_keys_by_the_runbook() {
    let served = officers_without_keys().await;
    let config = std::fs::read_to_string(served.file("sandyq.toml")).unwrap();
    let required =
        config.replace("\"single-officer\"", "\"two-person\"").replace("\"declared_absent\"", "\"required\"");
    std::fs::write(served.file("sandyq.toml"), required).unwrap();
    let served = served.restart().await;
    let connection = std::fs::read_to_string(served.file("client-admin.toml")).unwrap();
    for name in ["second", "local"] {
        let own = connection.replace("admin.", &format!("{name}."));
        std::fs::write(served.file(&format!("client-{name}.toml")), own).unwrap();
    }
    let path = Path::new(env!("CARGO_BIN_EXE_sandyq")).parent().unwrap().to_owned();
    let (mut proposal, mut plan, mut said) = (String::new(), String::new(), String::new());
    let commands = commands(STAFF_KEYS);
    assert!(commands.len() >= 13, "{commands:?}");
    for command in commands {
        let ran = tokio::task::block_in_place(|| {
            Command::new("sh")
                .args(["-c", &command])
                .current_dir(served.running.installation.dir())
                .env("PATH", format!("{}:/usr/bin:/bin", path.display()))
                .env("PROPOSAL", &proposal)
                .env("PLAN", &plan)
                .output()
                .unwrap()
        });
        let (out, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        // What waits for a second person says so by its exit code.
        let expected = if command.contains("key enrol") { 5 } else { 0 };
        assert_eq!(ran.status.code(), Some(expected), "{command}\n{out}{errors}");
        if let Some((_, hash)) = errors.rsplit_once("--hash ") {
            hash.trim().clone_into(&mut plan);
            let id = errors.split_whitespace().find(|word| word.starts_with("prp_")).unwrap();
            id.clone_into(&mut proposal);
        }
        said = said + &out + &errors;
    }
    for expected in
        ["key       of the person's hardware\n", "token B, 1002, stated  WITHDRAWN", "WithdrawStaffKey"]
    {
        assert!(said.contains(expected), "{expected} is not in\n{said}");
    }
    served.running.stop().await.unwrap();
}
