//! What a restore cannot prove or bring back, and restores that broke off.

use std::fs;

use sandyq::grpc::pb;

use super::{
    Stopped, approve, back_up, caller_id, json, propose_to_open, read, sandyq, served, text, verify,
};
use crate::common::{
    backend::{Backend, on_both},
    people::iin,
    served::request_id,
};

#[tokio::test(flavor = "multi_thread")]
async fn a_backup_of_one_database_goes_into_the_other() {
    let served = served(&Backend::Sqlite).await;
    let stored = served.store(1).await;
    let backup = back_up(&served);
    let mut stopped = Stopped::of(served).await;
    let fresh = Backend::postgres().await;
    let path = stopped.files().join("sandyq.toml");
    let config = fs::read_to_string(&path).unwrap().replace("restored.db", "sandyq.db");
    fs::write(path, fresh.configure(&config)).unwrap();
    stopped.backend = fresh;
    let restored = stopped.restore(&backup, &[]);
    assert_eq!(restored.status.code(), Some(0), "{}", text(&restored.stderr));
    let served = stopped.start().await;
    assert_eq!(read(&served, &stored).await, Ok(iin(1)));
    verify(&served);
    served.running.stop().await.unwrap();
}

on_both!(what_no_entry_proves_is_put_to_its_strictest);
async fn what_no_entry_proves_is_put_to_its_strictest(backend: Backend) {
    let served = served(&backend).await;
    let stored = served.store(1).await;
    let bank = pb::RegisterRecipientRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        name: "bank".into(),
        kind: pb::RecipientKind::Bank.into(),
        country: "KZ".into(),
        legal_name: "АО «Банк»".into(),
        contract_reference: "D-17/2026".into(),
        purposes: vec!["payments".into()],
        valid_until_time: Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 }),
        public_key: vec![9; 32],
        ..pb::RegisterRecipientRequest::default()
    };
    let mut admin = served.platforms("admin").await;
    admin.register_recipient(bank.clone()).await.unwrap();
    let former = pb::RegisterRecipientRequest { request_id: request_id(), name: "former".into(), ..bank };
    admin.register_recipient(former).await.unwrap();
    let backup = back_up(&served);
    let dir = served.running.installation.dir().to_owned();
    let rotated = sandyq(
        &dir,
        &["keys", "rotate", "--platform", "lerna", "--watch", "--connection", "client-admin.toml"],
    );
    assert_eq!(rotated.status.code(), Some(0), "{}", text(&rotated.stderr));
    let pins = pb::UpdateCallerRequest {
        request_id: request_id(),
        caller_id: caller_id(&served, "support").await,
        name: "support".into(),
        roles: vec![pb::Role::Service.into()],
        key_pins: vec![vec![7; 32]],
    };
    admin.update_caller(pins).await.unwrap();
    let key = pb::UpdateRecipientKeyRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        recipient: "bank".into(),
        public_key: vec![7; 32],
    };
    admin.update_recipient_key(key).await.unwrap();
    let end = pb::EndRecipientRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        recipient: "former".into(),
    };
    admin.end_recipient(end).await.unwrap();
    let stopped = Stopped::of(served).await;
    let restored = stopped.restore(&backup, &[]);
    assert_eq!(restored.status.code(), Some(0), "{}", text(&restored.stderr));
    let report = json(&restored);
    for kind in ["caller", "recipient"] {
        assert_eq!(report["platforms"][1]["strict"][kind], 1, "{report}");
    }
    let served = stopped.start().await;
    assert_eq!(read(&served, &stored).await, Ok(iin(1)), "wrapped under the version before");
    let refused = served.read("support", "payments", stored.token("iin")).await;
    assert_eq!(refused, Err("CALLER_DISABLED".into()), "its pins are lost");
    let listed = pb::ListRecipientsRequest { platform: "lerna".into(), ..Default::default() };
    let listed = served.platforms("admin").await.list_recipients(listed).await.unwrap().into_inner();
    assert_eq!(listed.recipients.len(), 2);
    let ended = listed.recipients.iter().all(|recipient| recipient.end_time.is_some());
    assert!(ended, "the key of one is lost; the end of the other is what the log says it is");
    // The number of the lost version is not used again, and the next rotation goes through.
    let dir = served.running.installation.dir().to_owned();
    let rotate = ["keys", "rotate", "--platform", "lerna", "--watch", "--connection", "client-admin.toml"];
    let rotated = sandyq(&dir, &rotate);
    assert_eq!(rotated.status.code(), Some(0), "{}{}", text(&rotated.stdout), text(&rotated.stderr));
    assert!(text(&rotated.stdout).contains("key version 3") || text(&rotated.stdout).contains("done"));
    assert_eq!(read(&served, &stored).await, Ok(iin(1)));
    verify(&served);
    served.running.stop().await.unwrap();
}

on_both!(a_policy_that_is_lost_keeps_the_platform_closed);
async fn a_policy_that_is_lost_keeps_the_platform_closed(backend: Backend) {
    let served = served(&backend).await;
    let stored = served.store(1).await;
    let backup = back_up(&served);
    let next = crate::common::vault::POLICY.replacen("number = 1\n", "number = 2\n", 1).replacen(
        "effective = \"2024-01-03\"",
        "effective = \"2024-02-01\"",
        1,
    );
    let apply = pb::ApplyPolicyRequest { request_id: request_id(), text: next.clone(), validate_only: false };
    served.policies("admin").await.apply_policy(apply).await.unwrap();
    let stopped = Stopped::of(served).await;
    let report = json(&stopped.restore(&backup, &[]));
    assert_eq!(report["platforms"][1]["closed"], "policy_lost", "{report}");
    let served = stopped.start().await;
    assert_eq!(read(&served, &stored).await, Err("PLATFORM_CLOSED".into()));
    let apply = pb::ApplyPolicyRequest { request_id: request_id(), text: next, validate_only: false };
    served.policies("admin").await.apply_policy(apply).await.unwrap();
    let proposal = propose_to_open(&served, "lerna").await.unwrap();
    approve(&served, "second", &proposal).await.unwrap();
    assert_eq!(read(&served, &stored).await, Ok(iin(1)));
    verify(&served);
    served.running.stop().await.unwrap();
}

on_both!(a_restore_that_is_killed_leaves_nothing_to_serve);
async fn a_restore_that_is_killed_leaves_nothing_to_serve(backend: Backend) {
    let served = served(&backend).await;
    let stored = served.store(0).await;
    for number in 1..40 {
        served.store(number).await;
    }
    let backup = back_up(&served);
    let mut stopped = Stopped::of(served).await;
    let (mut killed, mut pause) = (0, 20);
    loop {
        let mut child = std::process::Command::new(env!("CARGO_BIN_EXE_sandyq"))
            .args(["restore", &backup, "--key", &stopped.key])
            .current_dir(stopped.files())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        // However far it came: later with each attempt, until one comes to its end.
        let (began, pause_now) = (std::time::Instant::now(), std::time::Duration::from_millis(pause));
        let mut ended = None;
        while ended.is_none() && began.elapsed() < pause_now {
            tokio::task::yield_now().await;
            ended = child.try_wait().unwrap();
        }
        if ended.is_some_and(|status| status.success()) {
            break;
        }
        child.kill().unwrap();
        child.wait().unwrap();
        (killed, pause) = (killed + 1, pause + pause / 4 + 10);
        let again = stopped.restore(&backup, &[]);
        if again.status.success() {
            // Killed before it wrote anything.
            break;
        }
        let said = text(&again.stderr);
        if said.contains("holds an installation already") {
            break;
        }
        assert!(said.contains("a restore into it broke off"), "{said}");
        let serve = sandyq(&stopped.files(), &["serve"]);
        assert!(text(&serve.stderr).contains("holds no installation"), "{}", text(&serve.stderr));
        stopped = stopped.emptied().await;
    }
    println!("killed {killed} times");
    let served = stopped.start().await;
    assert_eq!(read(&served, &stored).await, Ok(iin(0)));
    verify(&served);
    served.running.stop().await.unwrap();
}
