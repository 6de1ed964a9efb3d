//! Keys of recipients: enrolled by two people, and good for nothing until their holder has answered what only the private key opens.

use sandyq::{cli::local::LocalInstallation, crypto::digest::sha256, grpc::pb};

use crate::common::{
    backend::{Backend, on_both},
    house::{House, proposed},
    recipients::{Pair, proof, recipient, register},
    served::{Served, Stored, reason},
};

const DAY: i64 = 24 * 60 * 60 * 1_000_000;

fn bank(served: &Served, name: &str, public_key: Vec<u8>) -> pb::RegisterRecipientRequest {
    pb::RegisterRecipientRequest {
        request_id: served.request_id(),
        platform: "lerna".into(),
        name: name.into(),
        kind: pb::RecipientKind::Bank.into(),
        country: "KZ".into(),
        legal_name: "АО «Банк»".into(),
        contract_reference: "D-17/2026".into(),
        purposes: vec!["payments".into()],
        valid_until_time: Some(prost_types::Timestamp { seconds: 4_000_000_000, nanos: 0 }),
        public_key,
        ..pb::RegisterRecipientRequest::default()
    }
}

fn another(served: &Served, name: &str, pair: &Pair) -> pb::UpdateRecipientKeyRequest {
    pb::UpdateRecipientKeyRequest {
        request_id: served.request_id(),
        platform: "lerna".into(),
        recipient: name.into(),
        public_key: pair.public(),
    }
}

/// The key id that a release was sealed to, or why there was none.
async fn release(served: &Served, stored: &Stored, name: &str) -> Result<String, String> {
    let request = pb::BatchDetokenizeRequest {
        request_id: served.request_id(),
        tokens: vec![stored.token("iin").into()],
        purpose: "payments".into(),
        view: pb::View::Full.into(),
        recipient: name.into(),
        ..pb::BatchDetokenizeRequest::default()
    };
    let answer = served.vault("payments").await.batch_detokenize(request).await;
    answer.map(|sealed| sealed.into_inner().sealed.unwrap().key_id).map_err(|status| reason(&status))
}

async fn answer(
    served: &Served,
    name: &str,
    answer: Vec<u8>,
) -> Result<pb::ProveRecipientKeyResponse, String> {
    let request =
        pb::ProveRecipientKeyRequest { request_id: served.request_id(), ..proof("lerna", name, answer) };
    let answer = served.platforms("admin").await.prove_recipient_key(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| reason(&status))
}

async fn offered(served: &Served, name: &str) -> pb::OfferedRecipientKey {
    recipient(&mut served.platforms("admin").await, "lerna", name).await.offered_key.unwrap()
}

on_both!(a_key_counts_when_two_people_enrolled_it_and_its_holder_answered);
async fn a_key_counts_when_two_people_enrolled_it_and_its_holder_answered(backend: Backend) {
    let house = House::new(&backend).await;
    let (served, pair) = (&house.served, Pair::of(1));
    let stored = served.store(1).await;
    let mut admin = served.platforms("admin").await;
    let proposal = proposed!(admin, register_recipient(bank(served, "bank", pair.public())) in register_recipient_response);
    assert_eq!(answer(served, "bank", vec![7; 32]).await.err().as_deref(), Some("RECIPIENT_NOT_FOUND"));
    assert_eq!(release(served, &stored, "bank").await, Err("RECIPIENT_UNKNOWN".into()));
    // What the second person compares with what the recipient said.
    let get = pb::GetProposalRequest { proposal_id: proposal.proposal_id.clone() };
    let shown = house.proposals("second").await.get_proposal(get).await.unwrap().into_inner();
    house.approved(&proposal).await;

    let waiting = recipient(&mut admin, "lerna", "bank").await;
    let offered = waiting.offered_key.unwrap();
    assert!(shown.request_json.contains(&offered.key_id), "{}", shown.request_json);
    assert!(waiting.key.is_none());
    assert_eq!((offered.public_key.as_slice(), offered.wrong_answers), (pair.public().as_slice(), 0));
    let expected = format!(
        "sandyq-recipient-key 1\nlog vault.example.kz/lerna\nrecipient bank\nkey {}\nexpires ",
        offered.key_id
    );
    assert!(offered.statement.starts_with(&expected), "{}", offered.statement);
    assert_eq!(release(served, &stored, "bank").await, Err("RECIPIENT_KEY_MISSING".into()));
    assert_eq!(Pair::of(2).answer(&offered), None, "another key opens nothing");

    // One person is enough now: who answers has the private key. The answer is given once; a lost acknowledgement is repeated.
    let right = pair.answer(&offered).unwrap();
    let request = proof("lerna", "bank", right.clone());
    let done = admin.prove_recipient_key(request.clone()).await.unwrap().into_inner();
    assert!(done.proved);
    let key = done.recipient.as_ref().unwrap().key.as_ref().unwrap();
    assert_eq!((key.key_id.as_str(), key.update_time.is_some()), (offered.key_id.as_str(), true));
    assert_eq!(admin.prove_recipient_key(request).await.unwrap().into_inner(), done, "a retry");
    assert_eq!(answer(served, "bank", right).await.err().as_deref(), Some("KEY_NOT_OFFERED"));
    assert_eq!(release(served, &stored, "bank").await, Ok(offered.key_id));
    house.stop().await;
}

on_both!(wrong_answers_time_and_another_offer_end_a_challenge);
async fn wrong_answers_time_and_another_offer_end_a_challenge(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let (first, second) = (Pair::of(1), Pair::of(2));
    let stored = served.store(1).await;
    let mut staff = served.platforms("admin").await;
    register(&mut staff, bank(&served, "bank", Vec::new()), &first).await;
    staff.register_recipient(bank(&served, "other", second.public())).await.unwrap();
    let held = release(&served, &stored, "bank").await.unwrap();

    // Two wrong answers are counted, and the right one still counts; until then the key before is sealed to.
    staff.update_recipient_key(another(&served, "bank", &second)).await.unwrap();
    let right = second.answer(&offered(&served, "bank").await).unwrap();
    let of_other = second.answer(&offered(&served, "other").await).unwrap();
    for (wrong, count) in [(of_other, 1), (vec![0; 32], 2)] {
        let told = answer(&served, "bank", wrong).await.unwrap();
        assert!(!told.proved);
        assert_eq!(told.recipient.unwrap().offered_key.unwrap().wrong_answers, count);
    }
    assert_eq!(answer(&served, "bank", right[1..].to_vec()).await.err().as_deref(), Some("INVALID_FIELDS"));
    assert_eq!(release(&served, &stored, "bank").await, Ok(held.clone()));
    assert!(answer(&served, "bank", right.clone()).await.unwrap().proved);
    let taken = release(&served, &stored, "bank").await.unwrap();
    assert_ne!(taken, held);

    // The third wrong answer ends it: the right one comes too late.
    staff.update_recipient_key(another(&served, "bank", &first)).await.unwrap();
    let right = first.answer(&offered(&served, "bank").await).unwrap();
    for left in [true, true, false] {
        let told = answer(&served, "bank", vec![1; 32]).await.unwrap();
        assert_eq!((told.proved, told.recipient.unwrap().offered_key.is_some()), (false, left));
    }
    assert_eq!(answer(&served, "bank", right).await.err().as_deref(), Some("KEY_NOT_OFFERED"));

    // Another offer, of the same key too, has another answer.
    staff.update_recipient_key(another(&served, "bank", &first)).await.unwrap();
    let stale = first.answer(&offered(&served, "bank").await).unwrap();
    staff.update_recipient_key(another(&served, "bank", &first)).await.unwrap();
    assert!(!answer(&served, "bank", stale).await.unwrap().proved);

    // Seven days are over.
    let right = first.answer(&offered(&served, "bank").await).unwrap();
    served.running.clock.advance(7 * DAY);
    assert_eq!(answer(&served, "bank", right).await.err().as_deref(), Some("KEY_NOT_OFFERED"));
    assert_eq!(release(&served, &stored, "bank").await, Ok(taken));

    // With the recipient's end nothing waits any more.
    let end = pb::EndRecipientRequest {
        request_id: served.request_id(),
        platform: "lerna".into(),
        recipient: "other".into(),
    };
    let ended = staff.end_recipient(end).await.unwrap().into_inner().recipient.unwrap();
    assert!(ended.offered_key.is_none());
    assert_eq!(answer(&served, "other", vec![1; 32]).await.err().as_deref(), Some("RECIPIENT_NOT_FOUND"));
    let mut small = vec![0; 32];
    small[0] = 1;
    let small = pb::UpdateRecipientKeyRequest { public_key: small, ..another(&served, "bank", &first) };
    let refused = staff.update_recipient_key(small).await.unwrap_err();
    assert_eq!(reason(&refused), "INVALID_FIELDS", "a point of small order");
    served.running.stop().await.unwrap();
}

on_both!(an_edited_challenge_is_not_believed);
async fn an_edited_challenge_is_not_believed(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let mut staff = served.platforms("admin").await;
    staff.register_recipient(bank(&served, "bank", Pair::of(1).public())).await.unwrap();
    let mine = sha256(&[5; 32]);
    let edit = format!(
        "UPDATE recipients SET offer_answer_sha256 = x'{}' WHERE platform_id = 1",
        data_encoding::HEXLOWER.encode(&mine)
    );
    assert_eq!(served.sql(&edit).await, 1);
    let Served { running, dir, .. } = served;
    let installation = LocalInstallation::open(running.installation.dir());
    running.stop().await.unwrap();
    let refused = format!("{:?}", installation.start(false).await.err().unwrap());
    assert!(refused.contains("recipients") && refused.contains("changed behind the vault"), "{refused}");
    drop(dir);
}

on_both!(the_command_shows_a_challenge_and_takes_its_answer);
async fn the_command_shows_a_challenge_and_takes_its_answer(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let pair = Pair::of(1);
    let key = data_encoding::HEXLOWER.encode(&pair.public());
    let connection = served.file("client-admin.toml").display().to_string();
    let run = |args: &[&str]| {
        let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sandyq"));
        command.args(["--json", "platform", "recipient"]).args(args).args(["--platform", "lerna"]);
        let output =
            tokio::task::block_in_place(|| command.args(["--connection", &connection]).output().unwrap());
        let said: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        (output.status.code(), said, String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let register = [
        "register",
        "bank",
        "--kind",
        "bank",
        "--legal-name",
        "АО «Банк»",
        "--contract",
        "D-17",
        "--purpose",
        "payments",
        "--valid-until",
        "2099-01-01T00:00:00+05:00",
        "--public-key",
        &key,
    ];
    let (code, said, error) = run(&register);
    assert_eq!((code, said["recipients"][0]["key_id"].is_null()), (Some(0), true), "{error}");
    let offered = offered(&served, "bank").await;
    assert_eq!(said["recipients"][0]["offered_key_id"], offered.key_id.as_str());
    let (code, said, _) = run(&["challenge", "bank"]);
    assert_eq!((code, said["statement"].as_str()), (Some(0), Some(offered.statement.as_str())));
    assert_eq!(said["ciphertext"], data_encoding::BASE64.encode(&offered.ciphertext));
    let (code, _, error) = run(&["prove", "bank", "--answer", &"00".repeat(32)]);
    assert!(code == Some(4) && error.contains("that is not the answer"), "{code:?} {error}");
    let right = data_encoding::HEXLOWER.encode(&pair.answer(&offered).unwrap());
    let (code, said, error) = run(&["prove", "bank", "--answer", &right]);
    assert_eq!(
        (code, said["recipients"][0]["key_id"].as_str()),
        (Some(0), Some(offered.key_id.as_str())),
        "{error}"
    );
    let (code, _, error) = run(&["challenge", "bank"]);
    assert!(code == Some(1) && error.contains("no key of bank waits"), "{error}");
    served.running.stop().await.unwrap();
}
