//! Restores: an old backup brings nothing back that was taken away since, the log goes on where it was, and what cannot be
//! told keeps a platform closed until two people open it.

mod breaches;
mod copies;
mod documents;
mod losses;
mod rights;
mod staff_keys;

use std::{fs, path::Path, process::Output};

use sandyq::{
    cli::{local::LocalInstallation, pki::Authority},
    grpc::pb::{
        self, proposal_service_client::ProposalServiceClient, subject_service_client::SubjectServiceClient,
    },
};
use serde_json::Value;

use crate::common::{
    backend::{Backend, on_both},
    house::{by_reference, erase},
    people::{iin, tokenize_request},
    second::second_verifier,
    served::{Served, Stored, detokenize_request, reason, replace_authorities, request_id},
};

const SECOND: &str = r#"
[[officer]]
handle = "second"
spiffe_id = "spiffe://vault.example.kz/second"
roles = ["platform_admin", "security_officer", "data_protection"]
"#;

/// A served installation with a place for backups, and a second officer.
async fn served(backend: &Backend) -> Served {
    let (platform, staff) = (Authority::new("p").unwrap(), Authority::new("s").unwrap());
    Served::start_files(backend, |files| {
        replace_authorities(files, &platform, &staff);
        staff.client(&["spiffe://vault.example.kz/second"]).unwrap().write(files, "second").unwrap();
        let path = files.join("sandyq.toml");
        fs::write(&path, fs::read_to_string(&path).unwrap() + SECOND).unwrap();
    })
    .await
}

fn sandyq(dir: &Path, args: &[&str]) -> Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sandyq"));
    let run = || command.args(args).current_dir(dir).output().unwrap();
    tokio::task::block_in_place(run)
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", text(&output.stderr)))
}

/// Makes a backup by the command, and answers its id.
fn back_up(served: &Served) -> String {
    let dir = served.running.installation.dir();
    let as_admin = ["--connection", "client-admin.toml", "--json"];
    let made = sandyq(dir, &[&["backup", "start", "--watch"][..], &as_admin].concat());
    assert_eq!(made.status.code(), Some(0), "{}", text(&made.stderr));
    let listed = json(&sandyq(dir, &[&["backup", "list"][..], &as_admin].concat()));
    listed["backups"][0]["backup_id"].as_str().unwrap().to_owned()
}

/// A stopped installation whose configuration names an empty database.
struct Stopped {
    dir: tempfile::TempDir,
    backend: Backend,
    key: String,
}

impl Stopped {
    async fn of(served: Served) -> Self {
        let Served { running, dir, backend } = served;
        let key = running.verifier_key.clone();
        let path = running.installation.config_path();
        running.stop().await.unwrap();
        let fresh = backend.fresh().await;
        let config = fs::read_to_string(&path).unwrap();
        let config = match (&backend, &fresh) {
            (Backend::Postgres(old), Backend::Postgres(new)) => config.replace(old.as_str(), new),
            _ if config.contains("restored.db") => config.replace("restored.db", "restored-again.db"),
            _ => config.replace("sandyq.db", "restored.db"),
        };
        fs::write(&path, config).unwrap();
        Self { dir, backend: fresh, key }
    }

    fn files(&self) -> std::path::PathBuf {
        self.dir.path().join("vault")
    }

    fn restore(&self, backup: &str, more: &[&str]) -> Output {
        sandyq(&self.files(), &[&["restore", backup, "--key", &self.key, "--json"][..], more].concat())
    }

    /// The database made anew, as the command says.
    async fn emptied(self) -> Self {
        let files = self.files();
        let fresh = self.backend.fresh().await;
        if let (Backend::Postgres(old), Backend::Postgres(new)) = (&self.backend, &fresh) {
            let path = files.join("sandyq.toml");
            fs::write(&path, fs::read_to_string(&path).unwrap().replace(old.as_str(), new)).unwrap();
        }
        for file in ["restored.db", "restored.db-wal", "restored.db-shm"] {
            let _gone = fs::remove_file(files.join(file));
        }
        Self { backend: fresh, ..self }
    }

    async fn start(self) -> Served {
        let installation = LocalInstallation::open(&self.files());
        Served { running: installation.start(true).await.unwrap(), dir: self.dir, backend: self.backend }
    }
}

async fn one_time(served: &Served, number: u32) -> String {
    let mut request = tokenize_request(number);
    request.fields.retain(|field| field.field == "iin");
    request.fields[0].token_mode = pb::TokenMode::OneTime.into();
    served.vault("backend").await.tokenize(request).await.unwrap().into_inner().tokens[0].token.clone()
}

async fn use_once(served: &Served, token: &str, id: &str) -> Result<String, String> {
    let mut ask = detokenize_request(token, "payments");
    ask.request_id = id.into();
    let answer = served.vault("payments").await.detokenize(ask).await;
    answer.map(|answer| answer.into_inner().value).map_err(|status| reason(&status))
}

async fn read(served: &Served, stored: &Stored) -> Result<String, String> {
    served.read("payments", "payments", stored.token("iin")).await
}

/// Log and rows agree on both platforms, and both verifiers take the log and hold it against the mirror.
fn verify(served: &Served) -> u64 {
    let dir = served.running.installation.dir();
    let mut size = 0;
    for platform in ["vault", "lerna"] {
        let agreed = sandyq(
            dir,
            &["audit", "reconcile", "--platform", platform, "--connection", "client-auditor.toml"],
        );
        assert_eq!(
            agreed.status.code(),
            Some(0),
            "{platform}: {}{}",
            text(&agreed.stdout),
            text(&agreed.stderr)
        );
        let out = format!("export-{platform}-{}", request_id());
        let exporting =
            ["audit", "export", "--platform", platform, "--out", &out, "--connection", "client-auditor.toml"];
        let exported = sandyq(dir, &exporting);
        assert_eq!(exported.status.code(), Some(0), "{}", text(&exported.stderr));
        let key = served.running.verifier_key.as_str();
        let verified = sandyq(dir, &["audit", "verify", &out, "--key", key, "--json"]);
        assert_eq!(verified.status.code(), Some(0), "{}", text(&verified.stdout));
        size = json(&verified)["entries"].as_u64().unwrap();
        let path = dir.join(&out);
        let (code, said) = second_verifier(&["export", path.to_str().unwrap(), "--key", key]);
        assert_eq!(code, Some(0), "{said}");
    }
    size
}

on_both!(r47_nothing_that_was_taken_away_comes_back);
async fn r47_nothing_that_was_taken_away_comes_back(backend: Backend) {
    let served = served(&backend).await;
    let mut people = Vec::new();
    for number in 0..9 {
        people.push(served.store(number).await);
    }
    let once = one_time(&served, 8).await;
    let staff = person(&served, "third").await;
    let backup = back_up(&served);

    let mut subjects = SubjectServiceClient::new(served.channel("backend").await);
    subjects.erase_subject(erase(0)).await.unwrap();
    let withdraw = pb::WithdrawConsentRequest {
        request_id: request_id(),
        consent_id: people[1].consents["payments"].clone(),
        ..pb::WithdrawConsentRequest::default()
    };
    served.consents("backend").await.withdraw_consent(withdraw).await.unwrap();
    let revoke = pb::RevokeTokenRequest { request_id: request_id(), token: people[2].token("iin").into() };
    served.vault("backend").await.revoke_token(revoke).await.unwrap();
    let restrict = pb::RestrictSubjectRequest {
        request_id: request_id(),
        subject: Some(by_reference(3)),
        trigger: pb::RestrictionTrigger::AccuracyDisputed.into(),
        requester: pb::RestrictionRequester::Subject.into(),
        review_time: Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 }),
        reference: "CASE-1".into(),
        ..pb::RestrictSubjectRequest::default()
    };
    subjects.restrict_subject(restrict).await.unwrap();
    let event = pb::RecordEventRequest {
        request_id: request_id(),
        subject: Some(by_reference(4)),
        event: "last_active_action".into(),
        event_time: Some(prost_types::Timestamp { seconds: 1_790_000_000, nanos: 0 }),
        ..pb::RecordEventRequest::default()
    };
    subjects.record_event(event).await.unwrap();
    // Erased and called off: as if nothing had been.
    subjects.erase_subject(erase(5)).await.unwrap();
    let cancel = pb::CancelErasureRequest {
        request_id: request_id(),
        subject: Some(by_reference(5)),
        platform: "lerna".into(),
        ..pb::CancelErasureRequest::default()
    };
    let mut admin_subjects = SubjectServiceClient::new(served.channel("admin").await);
    admin_subjects.cancel_erasure(cancel).await.unwrap();
    let used = request_id();
    assert_eq!(use_once(&served, &once, &used).await, Ok(iin(8)));
    let mut platforms = served.platforms("admin").await;
    let support = caller_id(&served, "support").await;
    let disable = pb::DisableCallerRequest { request_id: request_id(), caller_id: support.clone() };
    platforms.disable_caller(disable).await.unwrap();
    let role = pb::RevokeRoleRequest {
        request_id: request_id(),
        person_id: staff.clone(),
        role: pb::Role::DataProtection.into(),
        platform: "lerna".into(),
    };
    platforms.revoke_role(role).await.unwrap();
    let gone = pb::DisablePersonRequest { request_id: request_id(), person_id: staff.clone() };
    platforms.disable_person(gone).await.unwrap();
    // Made since: lost, and listed.
    let late = served.store(20).await;
    let before = verify(&served);
    let receipts = [statements(&served, 0).await, statements(&served, 5).await];
    assert_eq!(receipts.each_ref().map(Vec::len), [1, 2]);

    let stopped = Stopped::of(served).await;
    let dry = stopped.restore(&backup, &["--dry-run"]);
    assert_eq!(dry.status.code(), Some(0), "{}", text(&dry.stderr));
    assert_eq!(json(&dry)["platforms"][1]["closed"], Value::Null, "{}", text(&dry.stdout));
    let report = stopped.files().join("report.json");
    let restored = stopped.restore(&backup, &["--report", report.to_str().unwrap()]);
    assert_eq!(restored.status.code(), Some(0), "{}", text(&restored.stderr));
    let report: Value = serde_json::from_slice(&fs::read(report).unwrap()).unwrap();
    assert_eq!(report, json(&restored));
    let lerna = &report["platforms"][1];
    assert_eq!(lerna["closed"], Value::Null, "{report}");
    for call in [
        "SubjectService/EraseSubject",
        "ConsentService/WithdrawConsent",
        "VaultService/RevokeToken",
        "VaultService/Detokenize",
        "PlatformService/DisableCaller",
    ] {
        assert_eq!(lerna["applied"][call], 1, "{call}: {report}");
    }
    assert_eq!((&lerna["lost"]["subject"], &lerna["lost"]["token"]), (&1.into(), &5.into()), "{report}");
    assert_eq!(lerna["lost"]["event"], 1, "{report}");
    let key = stopped.key.clone();
    let served = stopped.start().await;

    assert_eq!(read(&served, &people[0]).await, Err("SUBJECT_ERASED".into()));
    assert_eq!(statements(&served, 0).await, receipts[0], "stated again, word for word");
    assert_eq!(read(&served, &people[1]).await, Err("CONSENT_WITHDRAWN".into()));
    assert_eq!(read(&served, &people[2]).await, Err("TOKEN_REVOKED".into()));
    assert_eq!(read(&served, &people[3]).await, Err("SUBJECT_RESTRICTED".into()));
    assert_eq!(read(&served, &people[4]).await, Err("SUBJECT_RESTRICTED".into()), "an event is lost");
    assert_eq!(read(&served, &people[5]).await, Ok(iin(5)), "its erasure was called off");
    assert_eq!(read(&served, &people[6]).await, Ok(iin(6)));
    assert_eq!(use_once(&served, &once, &request_id()).await, Err("TOKEN_SPENT".into()));
    assert_eq!(use_once(&served, &once, &used).await, Err("REQUEST_ID_REUSED".into()), "its answer is lost");
    assert_eq!(read(&served, &late).await, Err("TOKEN_NOT_FOUND".into()));
    let disabled = served.read("support", "payments", people[6].token("iin")).await;
    assert_eq!(disabled, Err("CALLER_DISABLED".into()));
    let third = persons(&served).await.into_iter().find(|known| known.person_id == staff).unwrap();
    assert!(third.roles.is_empty() && third.disable_time.is_some(), "{third:?}");
    // Log and rows agree, both verifiers take it, and it goes on from where it was.
    served.store(21).await;
    assert!(verify(&served) > before);
    let files = served.running.installation.dir().to_owned();
    let export =
        ["audit", "export", "--platform", "lerna", "--out", "last", "--connection", "client-auditor.toml"];
    assert_eq!(sandyq(&files, &export).status.code(), Some(0));
    served.running.stop().await.unwrap();
    let (code, said) = second_verifier(&["export", files.join("last").to_str().unwrap(), "--key", &key]);
    assert_eq!(code, Some(0), "{said}");
    for platform in ["vault", "lerna"] {
        let mirrored =
            sandyq(&files, &["audit", "verify-mirror", "mirror", "--key", &key, "--platform", platform]);
        assert_eq!(mirrored.status.code(), Some(0), "{}", text(&mirrored.stdout));
    }
}

/// What the receipts of a subject's last erasure state, signatures left out.
async fn statements(served: &Served, number: u32) -> Vec<String> {
    let mut subjects = SubjectServiceClient::new(served.channel("backend").await);
    let subject = Some(by_reference(number));
    let ask = pb::GetErasureReceiptsRequest { subject, ..pb::GetErasureReceiptsRequest::default() };
    let given = subjects.get_erasure_receipts(ask).await.unwrap().into_inner().receipts;
    let stated = given.into_iter().map(|receipt| {
        let receipt = sandyq::audit::receipt::Receipt::parse(&receipt.document).unwrap();
        let key = sandyq::audit::head::HeadVerifier::new(&served.running.verifier_key).unwrap();
        serde_json::to_string(&receipt.verify(&key).unwrap().statement).unwrap()
    });
    stated.collect()
}

async fn persons(served: &Served) -> Vec<pb::Person> {
    let request = pb::ListPersonsRequest::default();
    served.platforms("admin").await.list_persons(request).await.unwrap().into_inner().persons
}

/// A person with a role on one platform.
async fn person(served: &Served, handle: &str) -> String {
    let mut admin = served.platforms("admin").await;
    let enrol = pb::EnrolPersonRequest { request_id: request_id(), handle: handle.into() };
    admin.enrol_person(enrol).await.unwrap();
    let known = persons(served).await.into_iter().find(|known| known.handle == handle).unwrap();
    let grant = pb::GrantRoleRequest {
        request_id: request_id(),
        person_id: known.person_id.clone(),
        role: pb::Role::DataProtection.into(),
        platform: "lerna".into(),
    };
    admin.grant_role(grant).await.unwrap();
    known.person_id
}

async fn caller_id(served: &Served, name: &str) -> String {
    let request = pb::ListCallersRequest { platform: "lerna".into(), ..pb::ListCallersRequest::default() };
    let callers = served.platforms("admin").await.list_callers(request).await.unwrap().into_inner().callers;
    callers.into_iter().find(|caller| caller.name == name).unwrap().caller_id
}

/// Proposes to open a platform as `admin`.
async fn propose_to_open(served: &Served, platform: &str) -> Result<pb::Proposal, String> {
    let request = pb::OpenPlatformRequest { request_id: request_id(), platform: platform.into() };
    match served.platforms("admin").await.open_platform(request).await {
        Ok(answer) => match answer.into_inner().outcome.unwrap() {
            pb::open_platform_response::Outcome::Proposal(proposal) => Ok(proposal),
            pb::open_platform_response::Outcome::Applied(opened) => panic!("one person opened {opened:?}"),
        },
        Err(status) => Err(reason(&status)),
    }
}

async fn approve(served: &Served, who: &str, proposal: &pb::Proposal) -> Result<(), String> {
    let request = pb::ApproveProposalRequest {
        request_id: request_id(),
        proposal_id: proposal.proposal_id.clone(),
        plan_sha256: proposal.plan_sha256.clone(),
    };
    let mut proposals = ProposalServiceClient::new(served.channel(who).await);
    proposals.approve_proposal(request).await.map(drop).map_err(|status| reason(&status))
}

/// Restores with a mirror that the test spoilt, and answers the report and what is served then, with a new mirror.
async fn restored_closed(served: Served, backup: &str, spoil: impl FnOnce(&Path)) -> (Value, Served) {
    let stopped = Stopped::of(served).await;
    let files = stopped.files();
    spoil(&files.join("mirror"));
    let restored = stopped.restore(backup, &[]);
    assert_eq!(restored.status.code(), Some(0), "{}", text(&restored.stderr));
    if files.join("mirror").exists() {
        fs::rename(files.join("mirror"), files.join("mirror-as-evidence")).unwrap();
    }
    (json(&restored), stopped.start().await)
}

on_both!(a_mirror_that_is_missing_cut_or_forked_keeps_it_closed_until_two_open_it);
async fn a_mirror_that_is_missing_cut_or_forked_keeps_it_closed_until_two_open_it(backend: Backend) {
    for spoilt in ["mirror_missing", "mirror_damaged"] {
        let served = served(&backend.fresh().await).await;
        let stored = served.store(1).await;
        let backup = back_up(&served);
        served.store(2).await;
        let (report, served) = restored_closed(served, &backup, |mirror| {
            if spoilt == "mirror_missing" {
                fs::remove_dir_all(mirror).unwrap();
                return;
            }
            for platform in ["lerna", "vault"] {
                let segments = fs::read_dir(mirror.join(platform).join("segments")).unwrap();
                let mut segments: Vec<_> = segments.map(|entry| entry.unwrap().path()).collect();
                segments.sort();
                fs::remove_file(segments.last().unwrap()).unwrap();
            }
        })
        .await;
        assert_eq!(report["platforms"][1]["closed"], spoilt, "{report}");
        assert_eq!(report["platforms"][0]["closed"], spoilt, "{report}");
        let closed = Err("PLATFORM_CLOSED".to_owned());
        assert_eq!(read(&served, &stored).await, closed);
        let refused = served.vault("backend").await.tokenize(tokenize_request(3)).await.unwrap_err();
        assert_eq!(reason(&refused), "PLATFORM_CLOSED");
        let mut subjects = SubjectServiceClient::new(served.channel("backend").await);
        let refused = subjects.erase_subject(erase(1)).await.unwrap_err();
        assert!(["PLATFORM_CLOSED", "INVALID_FIELDS"].contains(&reason(&refused).as_str()));
        let look = pb::GetSubjectRequest { subject: Some(by_reference(1)), platform: String::new() };
        assert_eq!(reason(&subjects.get_subject(look).await.unwrap_err()), "PLATFORM_CLOSED");
        // One person cannot open it, also where one officer does alone what should take two.
        for platform in ["vault", "lerna"] {
            let proposal = propose_to_open(&served, platform).await.unwrap();
            assert_eq!(approve(&served, "admin", &proposal).await, Err("OWN_PROPOSAL".into()));
            if platform == "lerna" {
                assert_eq!(read(&served, &stored).await, closed, "a proposal opens nothing");
            }
            approve(&served, "second", &proposal).await.unwrap();
        }
        assert_eq!(read(&served, &stored).await, Ok(iin(1)));
        assert_eq!(propose_to_open(&served, "lerna").await.err(), Some("PLATFORM_NOT_CLOSED".into()));
        verify(&served);
        served.running.stop().await.unwrap();
    }
}

on_both!(a_mirror_of_another_history_is_told_and_keeps_it_closed);
async fn a_mirror_of_another_history_is_told_and_keeps_it_closed(backend: Backend) {
    let served = served(&backend).await;
    let stored = served.store(1).await;
    let early = back_up(&served);
    served.store(2).await;
    let late = back_up(&served);
    // Another history from the early backup on: restored without the mirror, and gone on.
    let (_, served) = restored_closed(served, &early, |mirror| {
        fs::rename(mirror, mirror.with_file_name("first-mirror")).unwrap();
    })
    .await;
    for platform in ["vault", "lerna"] {
        let proposal = propose_to_open(&served, platform).await.unwrap();
        approve(&served, "second", &proposal).await.unwrap();
    }
    served.store(3).await;
    // The later backup is of the first history, its mirror of the second.
    let (report, served) = restored_closed(served, &late, |_| ()).await;
    assert_eq!(report["platforms"][1]["closed"], "mirror_differs", "{report}");
    assert_eq!(read(&served, &stored).await, Err("PLATFORM_CLOSED".into()));
    served.running.stop().await.unwrap();
}

on_both!(what_does_not_hold_is_refused_before_anything_is_written);
async fn what_does_not_hold_is_refused_before_anything_is_written(backend: Backend) {
    let served = served(&backend).await;
    served.store(1).await;
    let backup = back_up(&served);
    let stopped = Stopped::of(served).await;
    let files = stopped.files();
    let attempt = fs::read_dir(files.join("backups").join(&backup)).unwrap();
    let attempt = attempt.map(|entry| entry.unwrap().path()).find(|path| path.is_dir()).unwrap();
    let part = fs::read_dir(attempt).unwrap().next().unwrap().unwrap().path();
    let whole = fs::read(&part).unwrap();
    for at in [20, whole.len() / 2, whole.len() - 1] {
        let mut flipped = whole.clone();
        flipped[at] ^= 1;
        fs::write(&part, flipped).unwrap();
        assert_eq!(stopped.restore(&backup, &[]).status.code(), Some(3), "byte {at}");
    }
    fs::write(&part, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(stopped.restore(&backup, &[]).status.code(), Some(3));
    fs::write(&part, &whole).unwrap();
    assert!(!files.join("restored.db").exists(), "nothing was written");
    // Older than the horizon.
    let config = fs::read_to_string(files.join("sandyq.toml")).unwrap();
    let narrow = config.replace("directory = \"backups\"", "directory = \"backups\"\nhorizon_days = 0");
    fs::write(files.join("sandyq.toml"), narrow).unwrap();
    let old = stopped.restore(&backup, &[]);
    assert!(text(&old.stderr).contains("horizon"), "{}", text(&old.stderr));
    fs::write(files.join("sandyq.toml"), config).unwrap();
    // Into an empty database only.
    assert_eq!(stopped.restore(&backup, &[]).status.code(), Some(0));
    let twice = stopped.restore(&backup, &[]);
    assert!(text(&twice.stderr).contains("holds an installation already"), "{}", text(&twice.stderr));
    // A restore that broke off before its end: nobody serves that, and it says what to do.
    let dir = if matches!(stopped.backend, Backend::Sqlite) {
        fs::rename(files.join("restored.db"), files.join("sandyq.db")).unwrap();
        for side in ["restored.db-wal", "restored.db-shm"] {
            let _gone = fs::remove_file(files.join(side));
        }
        let path = files.join("sandyq.toml");
        fs::write(&path, fs::read_to_string(&path).unwrap().replace("restored.db", "sandyq.db")).unwrap();
        files.clone()
    } else {
        files.clone()
    };
    stopped.backend.sql(&dir, "DELETE FROM installation").await;
    let half = stopped.restore(&backup, &[]);
    assert!(text(&half.stderr).contains("a restore into it broke off"), "{}", text(&half.stderr));
    let serve = sandyq(&files, &["serve"]);
    assert!(text(&serve.stderr).contains("holds no installation"), "{}", text(&serve.stderr));
}
