//! Consents: recorded acts, withdrawal that binds at once, terms that end.

use std::time::Duration;

use sandyq::{
    domain::time::Clock,
    grpc::pb::{self, tokenize_result::Outcome},
    policy::decide::Denial,
    vault::error::VaultError,
};

use crate::common::{
    backend::{Backend, on_both},
    people::{grant, grant_letters, letters, tokenize_request},
    served::{Served, reason, request_id},
    vault::{OpenVault, person},
};

on_both!(a_withdrawal_binds_at_once_and_for_its_purpose_alone);
async fn a_withdrawal_binds_at_once_and_for_its_purpose_alone(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let person = served.store(1).await;
    let mut consents = served.consents("backend").await;
    let withdraw = || pb::WithdrawConsentRequest {
        request_id: request_id(),
        consent_id: person.consents["payments"].clone(),
        ..pb::WithdrawConsentRequest::default()
    };
    let withdrawn = consents.withdraw_consent(withdraw()).await.unwrap().into_inner().consent.unwrap();
    assert_eq!(withdrawn.state(), pb::ConsentState::Withdrawn);
    assert!(withdrawn.withdraw_time.is_some());
    for field in ["iin", "surname", "first_name"] {
        let refused = served.read("payments", "payments", person.token(field)).await;
        assert_eq!(refused, Err("CONSENT_WITHDRAWN".into()), "{field}");
    }
    assert!(served.read("support", "request_comms", person.token("phone")).await.is_ok());

    // Withdrawn again it stays as it was.
    let again = consents.withdraw_consent(withdraw()).await.unwrap().into_inner().consent.unwrap();
    assert_eq!(again.withdraw_time, withdrawn.withdraw_time);

    // The old act, sent once more, opens nothing; a fresh one opens the purpose again.
    let mut fresh = pb::GrantConsentRequest {
        request_id: request_id(),
        subject_reference: "user-1".into(),
        consent: Some(grant("payments", &["iin"])),
    };
    consents.grant_consent(fresh.clone()).await.unwrap();
    let refused = served.read("payments", "payments", person.token("iin")).await;
    assert_eq!(refused, Err("CONSENT_WITHDRAWN".into()), "given before the withdrawal");
    let now = Clock::default().now().as_micros();
    fresh.consent.as_mut().unwrap().give_time = Some(prost_types::Timestamp {
        seconds: now / 1_000_000,
        nanos: i32::try_from(now % 1_000_000).unwrap() * 1_000,
    });
    fresh.request_id = request_id();
    consents.grant_consent(fresh).await.unwrap();
    assert!(served.read("payments", "payments", person.token("iin")).await.is_ok());
    let refused = served.read("payments", "payments", person.token("surname")).await;
    assert_eq!(refused, Err("CONSENT_WITHDRAWN".into()), "its own list of data binds");
    served.running.stop().await.unwrap();
}

// A retry may have recorded a consent twice: the person's no ends both.
on_both!(a_withdrawal_ends_twins_too);
async fn a_withdrawal_ends_twins_too(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let first = served.store(1).await;
    let second = served.store(1).await;
    let request = pb::WithdrawConsentRequest {
        request_id: request_id(),
        consent_id: first.consents["payments"].clone(),
        ..pb::WithdrawConsentRequest::default()
    };
    served.consents("backend").await.withdraw_consent(request).await.unwrap();
    for token in [first.token("iin"), second.token("iin")] {
        assert_eq!(served.read("payments", "payments", token).await, Err("CONSENT_WITHDRAWN".into()));
    }
    served.running.stop().await.unwrap();
}

on_both!(a_term_ends);
async fn a_term_ends(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    let end = open.clock.now().plus(Duration::from_hours(1));
    let stored = open.tokenize(person(1, Some(end))).await.unwrap();
    let token = &stored.tokens[0].token;
    assert!(open.detokenize(token).await.is_ok());
    open.clock.advance(3_600_000_000);
    assert_eq!(open.detokenize(token).await.err(), Some(VaultError::Denied(Denial::ConsentExpired)));
}

on_both!(without_a_consent_nothing_is_read);
async fn without_a_consent_nothing_is_read(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    let mut values = person(1, None);
    values.consents.clear();
    let stored = open.tokenize(values).await.unwrap();
    let refused = open.detokenize(&stored.tokens[0].token).await.err();
    assert_eq!(refused, Some(VaultError::Denied(Denial::ConsentMissing)));
}

on_both!(consents_are_listed_by_page_newest_first);
async fn consents_are_listed_by_page_newest_first(backend: Backend) {
    let served = Served::start_on(&backend).await;
    served.store(1).await;
    let mut consents = served.consents("backend").await;
    for _ in 0..5 {
        let request = pb::GrantConsentRequest {
            request_id: request_id(),
            subject_reference: "user-1".into(),
            consent: Some(grant("payments", &["iin"])),
        };
        consents.grant_consent(request).await.unwrap();
    }
    let (mut all, mut page_token, mut pages) = (Vec::new(), String::new(), 0);
    loop {
        let request = pb::ListConsentsRequest {
            subject_reference: "user-1".into(),
            page_size: 3,
            page_token: page_token.clone(),
            ..pb::ListConsentsRequest::default()
        };
        let page = consents.list_consents(request).await.unwrap().into_inner();
        pages += 1;
        all.extend(page.consents);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            break;
        }
    }
    assert_eq!((all.len(), pages), (7, 3));
    let mut ids: Vec<_> = all.iter().map(|c| c.consent_id.clone()).collect();
    ids.sort();
    ids.dedup();
    assert_eq!(ids.len(), 7, "each once");
    assert_eq!(all.iter().filter(|c| c.purpose == "request_comms").count(), 1);
    assert!(all[..5].iter().all(|c| c.purpose == "payments"), "the first two were the oldest");
    served.running.stop().await.unwrap();
}

on_both!(consents_of_strangers_are_refused);
async fn consents_of_strangers_are_refused(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let person = served.store(1).await;
    let mut backend = served.consents("backend").await;
    let unknown = pb::GrantConsentRequest {
        request_id: request_id(),
        subject_reference: "nobody".into(),
        consent: Some(grant("payments", &["iin"])),
    };
    assert_eq!(reason(&backend.grant_consent(unknown).await.unwrap_err()), "SUBJECT_NOT_FOUND");
    let unknown = pb::WithdrawConsentRequest {
        request_id: request_id(),
        consent_id: "con_aaaaaaaaaaaaaaaaaaaaaaaaaa".into(),
        ..pb::WithdrawConsentRequest::default()
    };
    assert_eq!(reason(&backend.withdraw_consent(unknown).await.unwrap_err()), "CONSENT_NOT_FOUND");
    let mut payments = served.consents("payments").await;
    let not_theirs = pb::WithdrawConsentRequest {
        request_id: request_id(),
        consent_id: person.consents["payments"].clone(),
        ..pb::WithdrawConsentRequest::default()
    };
    assert_eq!(reason(&payments.withdraw_consent(not_theirs).await.unwrap_err()), "CALLER_NOT_ALLOWED");
    let list = pb::ListConsentsRequest {
        subject_reference: "user-1".into(),
        page_size: 0,
        page_token: String::new(),
        ..pb::ListConsentsRequest::default()
    };
    assert_eq!(reason(&payments.list_consents(list).await.unwrap_err()), "CALLER_NOT_ALLOWED");
    assert!(served.read("payments", "payments", person.token("iin")).await.is_ok(), "and nothing changed");
    served.running.stop().await.unwrap();
}

on_both!(a_consent_in_the_same_terms_is_kept_where_the_call_asks_so);
async fn a_consent_in_the_same_terms_is_kept_where_the_call_asks_so(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let mut writer = served.vault("backend").await;
    let mut store = async |consents: Vec<pb::ConsentGrant>, keep_held_consents| {
        let request = tokenize_request(1);
        let mut fields = request.fields;
        for field in &mut fields {
            field.token_mode = pb::TokenMode::Deterministic.into();
        }
        let item = pb::TokenizeItem { subject_reference: "user-1".into(), fields, consents, subject_kind: 0 };
        let request = pb::BatchTokenizeRequest {
            request_id: request_id(),
            items: vec![item],
            keep_held_consents,
            ..pb::BatchTokenizeRequest::default()
        };
        let answer = writer.batch_tokenize(request).await.unwrap().into_inner();
        let Some(Outcome::Response(stored)) = answer.results[0].outcome.clone() else { panic!("{answer:?}") };
        stored
    };
    let (first, second) = (grant("payments", &["iin", "surname"]), grant("request_comms", &["phone"]));
    let stored = store(vec![first.clone(), second.clone()], true).await;
    assert_eq!(served.rows("consents").await, 2);
    // The list of data is the same in another order; a name that is spelled otherwise is no other consent.
    let turned = pb::ConsentGrant {
        subject_name: "Сынақова".into(),
        ..grant("payments", &["surname", "iin"])
    };
    let again = store(vec![second.clone(), turned], true).await;
    assert_eq!(again.consent_ids, [stored.consent_ids[1].clone(), stored.consent_ids[0].clone()]);
    let texts =
        |answer: &pb::TokenizeResponse| -> Vec<_> { answer.tokens.iter().map(|t| t.token.clone()).collect() };
    assert_eq!(texts(&again), texts(&stored));
    assert_eq!(served.rows("consents").await, 2);
    // Each term counts.
    let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
    let others = [
        grant("payments", &["iin"]),
        pb::ConsentGrant { give_time: at(1_790_000_001), ..first.clone() },
        pb::ConsentGrant { expire_time: at(2_690_000_000), ..first.clone() },
        pb::ConsentGrant { publication: Some(true), ..first.clone() },
        pb::ConsentGrant { text_sha256: vec![1; 32], ..first.clone() },
        pb::ConsentGrant { language: "kk".into(), ..first.clone() },
    ];
    let more = store(others.to_vec(), true).await;
    assert!(more.consent_ids.iter().all(|id| !stored.consent_ids.contains(id)));
    assert_eq!(served.rows("consents").await, 8);
    // Unless it is asked for, each is an act of its own.
    assert!(!stored.consent_ids.contains(&store(vec![second], false).await.consent_ids[0]));
    assert_eq!(served.rows("consents").await, 9);
    // What was withdrawn stays so.
    let withdraw = pb::WithdrawConsentRequest {
        request_id: request_id(),
        consent_id: stored.consent_ids[0].clone(),
        ..pb::WithdrawConsentRequest::default()
    };
    served.consents("backend").await.withdraw_consent(withdraw).await.unwrap();
    assert_eq!(store(vec![first], true).await.consent_ids, stored.consent_ids[..1]);
    let surname = &stored.tokens.iter().find(|token| token.field == "surname").unwrap().token;
    assert_eq!(served.read("payments", "payments", surname).await, Err("CONSENT_WITHDRAWN".into()));
    served.running.stop().await.unwrap();
}

on_both!(r5_every_question_for_a_value_names_its_channel);
/// Comparing, looking up and explaining are decided as reading is, and lists tell for what a consent is.
async fn r5_every_question_for_a_value_names_its_channel(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let mut person = tokenize_request(1);
    person.consents.push(grant_letters("marketing_mail", &["email"]));
    let stored = served.vault("backend").await.tokenize(person).await.unwrap().into_inner();
    let token = &stored.tokens.iter().find(|token| token.field == "email").unwrap().token;
    let mut mailing = served.vault("mailing").await;
    let by = |channel: pb::Channel| Some(pb::Outreach { channel: channel.into(), sender: String::new() });
    for (outreach, answer) in [
        (Some(letters()), Ok(())),
        (None, Err("CHANNEL_REQUIRED")),
        (by(pb::Channel::Call), Err("CHANNEL_NOT_ALLOWED")),
        (by(pb::Channel::Unspecified), Err("INVALID_FIELDS")),
        (Some(pb::Outreach { sender: "A bank".into(), ..letters() }), Err("INVALID_FIELDS")),
        (Some(pb::Outreach { sender: "bank".into(), ..letters() }), Err("SENDER_NOT_ALLOWED")),
    ] {
        let compare = pb::CompareValueRequest {
            token: token.clone(),
            purpose: "marketing_mail".into(),
            value: "person1@example.kz".into(),
            outreach: outreach.clone(),
            ..pb::CompareValueRequest::default()
        };
        let search = pb::LookupTokensRequest {
            field: "email".into(),
            value: "person1@example.kz".into(),
            purpose: "marketing_mail".into(),
            outreach: outreach.clone(),
            ..pb::LookupTokensRequest::default()
        };
        let explain = pb::ExplainDecisionRequest {
            platform: "lerna".into(),
            caller: "mailing".into(),
            target: Some(pb::explain_decision_request::Target::Token(token.clone())),
            purpose: "marketing_mail".into(),
            view: pb::View::Full.into(),
            outreach: outreach.clone(),
            ..pb::ExplainDecisionRequest::default()
        };
        let compared = mailing.compare_value(compare).await.map(|answer| answer.into_inner().equal);
        assert_eq!(
            compared.map_err(|s| reason(&s)),
            answer.map(|()| true).map_err(str::to_owned),
            "{outreach:?}"
        );
        let found = mailing.lookup_tokens(search).await.map(|answer| answer.into_inner().tokens.len());
        // A telephone's channel takes no mailbox: nobody is found, and why is in the log.
        let found = if outreach == by(pb::Channel::Call) { found.map(|found| found + 1) } else { found };
        let expected = if outreach == by(pb::Channel::Call) { Ok(1) } else { answer.map(|()| 1) };
        assert_eq!(found.map_err(|s| reason(&s)), expected.map_err(str::to_owned), "{outreach:?}");
        let mut policies = served.policies("admin").await;
        let explained = policies.explain_decision(explain).await.map(|answer| answer.into_inner().reason);
        match answer {
            Err("INVALID_FIELDS") => {
                assert_eq!(explained.map_err(|s| reason(&s)), Err("INVALID_FIELDS".into()));
            }
            _ => assert_eq!(explained.unwrap(), answer.err().unwrap_or_default()),
        }
    }
    let list =
        pb::ListConsentsRequest { subject_reference: "user-1".into(), ..pb::ListConsentsRequest::default() };
    let listed = served.consents("backend").await.list_consents(list).await.unwrap().into_inner().consents;
    let told: Vec<_> = listed.into_iter().filter_map(|consent| consent.outreach).collect();
    assert_eq!(told, [pb::Outreach { channel: pb::Channel::Email.into(), sender: "operator".into() }]);
    served.running.stop().await.unwrap();
}

/// What the command prints as JSON; its exit code must be this one.
fn command(served: &Served, caller: &str, args: &[&str], code: i32) -> serde_json::Value {
    let connection = served.running.installation.connection_path(caller);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sandyq"));
    command.arg("--json").args(args).arg("--connection").arg(connection);
    let output = tokio::task::block_in_place(|| command.output().unwrap());
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{args:?}: {said}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| said.into())
}

#[tokio::test(flavor = "multi_thread")]
async fn r5_the_command_names_channel_and_sender() {
    let served = Served::start().await;
    let person = |more: &str| {
        let consent = format!(
            "{{\"purpose\": \"marketing_mail\", \"fields\": [\"email\"], \"subject_name\": \"Сынақова Әлия\", \
             \"act\": \"tick\", \"third_party_transfer\": false, \"cross_border_transfer\": false, \
             \"publication\": false, \"policy_version\": 1, \"language\": \"ru\", \"site\": \"skillbox.kz\", \
             \"text_sha256\": \"{}\"{more}}}",
            "07".repeat(32)
        );
        let text = format!(
            "{{\"subject\": \"user-1\", \"fields\": {{\"email\": \"person1@example.kz\"}}, \"consents\": [{consent}]}}"
        );
        let path = served.file("person.json");
        std::fs::write(&path, text).unwrap();
        path.display().to_string()
    };
    let store = |more: &str, code| command(&served, "backend", &["tokenize", "--input", &person(more)], code);
    for (wrong, code) in [
        ("", 4),
        (", \"channel\": \"sms\"", 4),
        (", \"channel\": \"fax\"", 1),
        (", \"sender\": \"operator\"", 1),
    ] {
        assert!(store(wrong, code).get("tokens").is_none(), "{wrong}");
    }
    let token = store(", \"channel\": \"email\"", 0)["tokens"]["email"].as_str().unwrap().to_owned();
    let read = |more: &[&str], code| {
        let args = [&["detokenize", "--purpose", "marketing_mail"], more, &[token.as_str()]].concat();
        command(&served, "mailing", &args, code)
    };
    assert_eq!(read(&["--channel", "email"], 0)["results"][0]["value"], "person1@example.kz");
    let with_sender = read(&["--channel", "email", "--sender", "operator"], 0);
    assert_eq!(with_sender["results"][0]["field"], "email");
    for (more, reason) in [
        (&[][..], "CHANNEL_REQUIRED"),
        (&["--channel", "sms"], "CHANNEL_NOT_ALLOWED"),
        (&["--channel", "email", "--sender", "bank"], "SENDER_NOT_ALLOWED"),
    ] {
        let refused = read(more, 4)["results"][0]["error"].to_string();
        assert!(refused.contains(reason), "{refused}");
    }
    let listed = command(&served, "backend", &["consent", "list", "user-1"], 0);
    let consent = &listed["consents"][0];
    assert_eq!((&consent["channel"], &consent["sender"]), (&"email".into(), &"operator".into()));
    let id = consent["consent_id"].as_str().unwrap();
    command(&served, "backend", &["consent", "withdraw", id], 0);
    assert!(
        read(&["--channel", "email"], 4)["results"][0]["error"].to_string().contains("CONSENT_WITHDRAWN")
    );
    served.running.stop().await.unwrap();
}
