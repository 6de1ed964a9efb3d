//! Tokens of every mode, replay of lost answers, look-up by value, corrections, and what guessing costs.

use std::{sync::Arc, time::Duration};

use sandyq::{
    crypto::random::SystemRng,
    domain::ids::RequestId,
    grpc::{
        authn::{Mark, Peer},
        pb::{self, vault_service_client::VaultServiceClient, vault_service_server::VaultService as _},
        tls::Shown,
        vault_service::VaultService,
    },
};
use tonic::transport::Channel;

use crate::common::{
    backend::{Backend, on_both},
    people::{iin, tokenize_request},
    served::{Served, detokenize_request, reason, request_id},
    vault::{OpenVault, spiffe},
};

type Client = VaultServiceClient<Channel>;

/// Stores the IIN of a person in a mode, and answers the token.
async fn token_in(client: &mut Client, number: u32, mode: pb::TokenMode) -> String {
    tokens_in(client, number, mode).await.unwrap().tokens[0].token.clone()
}

async fn tokens_in(
    client: &mut Client,
    number: u32,
    mode: pb::TokenMode,
) -> Result<pb::TokenizeResponse, tonic::Status> {
    let mut request = tokenize_request(number);
    request.fields.retain(|field| field.field == "iin");
    request.fields[0].token_mode = mode.into();
    client.tokenize(request).await.map(tonic::Response::into_inner)
}

on_both!(tokens_of_each_mode_answer_their_value);
async fn tokens_of_each_mode_answer_their_value(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let (mut writer, mut reader) = (served.vault("backend").await, served.vault("payments").await);
    let deterministic = token_in(&mut writer, 1, pb::TokenMode::Deterministic).await;
    assert_eq!(token_in(&mut writer, 1, pb::TokenMode::Deterministic).await, deterministic);
    let random = token_in(&mut writer, 1, pb::TokenMode::Random).await;
    assert_ne!(random, token_in(&mut writer, 1, pb::TokenMode::Random).await);
    // Nothing is derived from the value: another person's record of an equal value has another token.
    let mut twin = tokenize_request(2);
    twin.fields.retain(|field| field.field == "phone");
    twin.fields[0].value = "+77010000001".into();
    twin.fields[0].token_mode = pb::TokenMode::Deterministic.into();
    let of_two = writer.tokenize(twin).await.unwrap().into_inner().tokens[0].token.clone();
    let mut same = tokenize_request(1);
    same.fields.retain(|field| field.field == "phone");
    same.fields[0].token_mode = pb::TokenMode::Deterministic.into();
    let of_one = writer.tokenize(same).await.unwrap().into_inner().tokens[0].token.clone();
    assert_ne!(of_one, of_two);

    let digits = token_in(&mut writer, 1, pb::TokenMode::Digits).await;
    assert!(digits.len() == 12 && digits.bytes().all(|b| b.is_ascii_digit()));
    assert!(!sandyq::domain::iin::has_valid_check_digit(&digits), "never to be taken for an IIN");
    for token in [&deterministic, &random, &digits] {
        let answer = reader.detokenize(detokenize_request(token, "payments")).await.unwrap().into_inner();
        assert_eq!(answer.value, iin(1));
    }
    // An IIN pasted where a token belongs is refused before anything is looked up.
    let status = reader.detokenize(detokenize_request(&iin(1), "payments")).await.unwrap_err();
    assert_eq!(reason(&status), "TOKEN_MALFORMED");
    served.running.stop().await.unwrap();
}

on_both!(an_expiring_token_needs_its_end);
async fn an_expiring_token_needs_its_end(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let mut writer = served.vault("backend").await;
    let status = tokens_in(&mut writer, 1, pb::TokenMode::Expiring).await.unwrap_err();
    assert_eq!(reason(&status), "INVALID_FIELDS");
    let now = sandyq::domain::time::Clock::default().now().second();
    for (end, good) in [(now - 10, false), (now + 3_600, true), (now + 400 * 86_400, false)] {
        let mut request = tokenize_request(1);
        request.fields.retain(|field| field.field == "iin");
        request.fields[0].token_mode = pb::TokenMode::Expiring.into();
        request.fields[0].token_expire_time = Some(prost_types::Timestamp { seconds: end, nanos: 0 });
        assert_eq!(writer.tokenize(request).await.is_ok(), good, "{}", end - now);
    }
    let mut request = tokenize_request(1);
    request.fields[0].token_expire_time = Some(prost_types::Timestamp { seconds: now + 60, nanos: 0 });
    assert!(writer.tokenize(request).await.is_err(), "an end goes with the expiring mode alone");
    served.running.stop().await.unwrap();
}

on_both!(a_one_time_token_answers_once_and_again_to_the_same_request);
async fn a_one_time_token_answers_once_and_again_to_the_same_request(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let (mut writer, mut reader) = (served.vault("backend").await, served.vault("payments").await);
    let token = token_in(&mut writer, 1, pb::TokenMode::OneTime).await;
    let status = reader.detokenize(detokenize_request(&token, "payments")).await.unwrap_err();
    assert_eq!(reason(&status), "REQUEST_ID_REQUIRED");
    let mut ask = detokenize_request(&token, "payments");
    ask.request_id = request_id();
    let first = reader.detokenize(ask.clone()).await.unwrap().into_inner();
    assert_eq!(first.value, iin(1));
    // The answer was lost: the same request gets it again, decided anew and logged as a replay.
    let again = reader.detokenize(ask.clone()).await.unwrap().into_inner();
    assert_eq!(again.value, iin(1));
    assert_ne!(again.audit_entry_id, first.audit_entry_id);
    let mut other = ask.clone();
    other.request_id = request_id();
    assert_eq!(reason(&reader.detokenize(other).await.unwrap_err()), "TOKEN_SPENT");
    ask.reference = "ORDER-1".into();
    assert_eq!(reason(&reader.detokenize(ask).await.unwrap_err()), "REQUEST_ID_REUSED");
    served.running.stop().await.unwrap();
}

on_both!(of_many_who_ask_at_once_one_gets_a_one_time_token);
async fn of_many_who_ask_at_once_one_gets_a_one_time_token(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let token = token_in(&mut served.vault("backend").await, 1, pb::TokenMode::OneTime).await;
    let reader = served.vault("payments").await;
    let asks = (0..20).map(|_| {
        let (mut reader, mut ask) = (reader.clone(), detokenize_request(&token, "payments"));
        ask.request_id = request_id();
        tokio::spawn(async move { reader.detokenize(ask).await })
    });
    let asks: Vec<_> = asks.collect();
    let mut answered = 0;
    for ask in asks {
        match ask.await.unwrap() {
            Ok(answer) => {
                assert_eq!(answer.into_inner().value, iin(1));
                answered += 1;
            }
            Err(status) => assert_eq!(reason(&status), "TOKEN_SPENT"),
        }
    }
    assert_eq!(answered, 1);
    // Within one batch, too.
    let token = token_in(&mut served.vault("backend").await, 2, pb::TokenMode::OneTime).await;
    let batch = pb::BatchDetokenizeRequest {
        request_id: request_id(),
        tokens: vec![token.clone(), token],
        purpose: "payments".into(),
        view: pb::View::Full.into(),
        ..pb::BatchDetokenizeRequest::default()
    };
    let results = served.vault("payments").await.batch_detokenize(batch).await.unwrap().into_inner().results;
    assert!(matches!(results[0].outcome, Some(pb::detokenize_result::Outcome::Response(_))));
    assert!(matches!(results[1].outcome, Some(pb::detokenize_result::Outcome::Error(_))));
    served.running.stop().await.unwrap();
}

on_both!(a_retried_tokenize_gets_the_same_tokens);
async fn a_retried_tokenize_gets_the_same_tokens(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let mut writer = served.vault("backend").await;
    let request = tokenize_request(1);
    let first = writer.tokenize(request.clone()).await.unwrap().into_inner();
    let again = writer.tokenize(request.clone()).await.unwrap().into_inner();
    assert_eq!(first, again);
    // Also when both are on their way at once.
    let request = tokenize_request(2);
    let (mut one, mut two) = (writer.clone(), writer.clone());
    let (a, b) = tokio::join!(one.tokenize(request.clone()), two.tokenize(request.clone()));
    assert_eq!(a.unwrap().into_inner(), b.unwrap().into_inner());
    let mut other = request;
    other.fields.pop();
    assert_eq!(reason(&writer.tokenize(other).await.unwrap_err()), "REQUEST_ID_REUSED");
    // A batch keeps each item's outcome.
    let mut items: Vec<_> = [3, 4].into_iter().map(tokenize_request).collect();
    items[1].fields[2].value = "991231600003".into();
    let batch = pb::BatchTokenizeRequest {
        request_id: request_id(),
        items: items
            .into_iter()
            .map(|item| pb::TokenizeItem {
                subject_reference: item.subject_reference,
                fields: item.fields,
                consents: item.consents,
                ..pb::TokenizeItem::default()
            })
            .collect(),
        ..Default::default()
    };
    let first = writer.batch_tokenize(batch.clone()).await.unwrap().into_inner();
    let again = writer.batch_tokenize(batch).await.unwrap().into_inner();
    assert_eq!(first, again);
    assert!(matches!(first.results[1].outcome, Some(pb::tokenize_result::Outcome::Error(_))));
    served.running.stop().await.unwrap();
}

on_both!(a_value_is_found_compared_corrected_and_its_token_revoked);
async fn a_value_is_found_compared_corrected_and_its_token_revoked(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let stored = served.store(1).await;
    let (mut writer, mut reader) = (served.vault("backend").await, served.vault("payments").await);
    let compare = |value: String| pb::CompareValueRequest {
        token: stored.token("iin").into(),
        purpose: "payments".into(),
        value,
        ..pb::CompareValueRequest::default()
    };
    assert!(reader.compare_value(compare(iin(1))).await.unwrap().into_inner().equal);
    assert!(!reader.compare_value(compare(iin(2))).await.unwrap().into_inner().equal);
    assert!(!reader.compare_value(compare("nonsense".into())).await.unwrap().into_inner().equal);

    let search = |value: String| pb::LookupTokensRequest {
        field: "iin".into(),
        value,
        purpose: "payments".into(),
        ..pb::LookupTokensRequest::default()
    };
    let found = reader.lookup_tokens(search(iin(1))).await.unwrap().into_inner();
    assert_eq!(found.tokens.len(), 1);
    assert_eq!(found.tokens[0].subject_id, stored.subject);
    let token = found.tokens[0].token.clone();
    assert_eq!(reader.lookup_tokens(search(iin(1))).await.unwrap().into_inner().tokens[0].token, token);
    assert!(reader.lookup_tokens(search(iin(2))).await.unwrap().into_inner().tokens.is_empty());
    assert_eq!(served.read("payments", "payments", &token).await, Ok(iin(1)));

    let correction = pb::UpdateRecordRequest {
        request_id: request_id(),
        token: stored.token("iin").into(),
        value: iin(7),
        source: pb::ValueSource::Subject.into(),
        evidence: "ACT-17".into(),
    };
    let corrected = writer.update_record(correction.clone()).await.unwrap().into_inner();
    assert_eq!(corrected.record_version, 2);
    assert_eq!(writer.update_record(correction).await.unwrap().into_inner(), corrected, "replayed");
    assert_eq!(served.read("payments", "payments", &token).await, Ok(iin(7)), "all tokens follow");
    assert!(reader.lookup_tokens(search(iin(1))).await.unwrap().into_inner().tokens.is_empty());
    assert_eq!(reader.lookup_tokens(search(iin(7))).await.unwrap().into_inner().tokens.len(), 1);

    let revoke = pb::RevokeTokenRequest { request_id: request_id(), token: token.clone() };
    let revoked = writer.revoke_token(revoke.clone()).await.unwrap().into_inner();
    assert_eq!(writer.revoke_token(revoke.clone()).await.unwrap().into_inner(), revoked, "replayed");
    let again = pb::RevokeTokenRequest { request_id: request_id(), ..revoke };
    for _ in 0..2 {
        let answer = writer.revoke_token(again.clone()).await.unwrap().into_inner();
        assert_eq!(
            answer, revoked,
            "asked again, and again in a retry, it says since when the token answers nothing"
        );
    }
    assert_eq!(served.read("payments", "payments", &token).await, Err("TOKEN_REVOKED".into()));
    assert_eq!(served.read("payments", "payments", stored.token("iin")).await, Ok(iin(7)), "it alone");
    let described = reader.describe_token(pb::DescribeTokenRequest { token }).await.unwrap().into_inner();
    assert_eq!(described.state(), pb::TokenState::Revoked);
    assert_eq!((described.mode(), described.record_version), (pb::TokenMode::Deterministic, 2));
    served.running.stop().await.unwrap();
}

on_both!(a_retry_is_answered_as_before_when_the_token_has_expired_since);
async fn a_retry_is_answered_as_before_when_the_token_has_expired_since(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let OpenVault { vault, clock } = OpenVault::create(&backend, dir.path(), |store| store).await;
    let vault = Arc::new(vault);
    let service = VaultService::new(Arc::clone(&vault));
    let in_an_hour = clock.now().plus(Duration::from_hours(1)).second();
    let mut message = tokenize_request(1);
    message.fields.truncate(3);
    message.fields[2].token_mode = pb::TokenMode::Expiring.into();
    message.fields[2].token_expire_time = Some(prost_types::Timestamp { seconds: in_an_hour, nanos: 0 });
    let tokenize = async |message: pb::TokenizeRequest| {
        let mut request = tonic::Request::new(message);
        let mark = Mark { key: [0; 32], issuer: [0; 32], serial: vec![1] };
        request.extensions_mut().insert(Peer { spiffe_id: spiffe("backend"), mark, shown: Shown::default() });
        service.tokenize(request).await.map(tonic::Response::into_inner)
    };
    let first = tokenize(message.clone()).await.unwrap();
    clock.advance(2 * 60 * 60 * 1_000_000);
    let tokens =
        |answer: pb::TokenizeResponse| answer.tokens.into_iter().map(|token| token.token).collect::<Vec<_>>();
    assert_eq!(tokens(tokenize(message.clone()).await.unwrap()), tokens(first));
    // What is new may not end in the past.
    let new = pb::TokenizeRequest {
        request_id: RequestId::new(clock.now(), &SystemRng::new()).unwrap().to_string(),
        subject_reference: "user-2".into(),
        ..message
    };
    assert_eq!(reason(&tokenize(new).await.unwrap_err()), "INVALID_FIELDS");
}

on_both!(guessing_is_paid_for_and_stopped);
async fn guessing_is_paid_for_and_stopped(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let stored = served.store(1).await;
    let mut reader = served.vault("payments").await;
    let guess = |value: String| pb::CompareValueRequest {
        token: stored.token("iin").into(),
        purpose: "payments".into(),
        value,
        ..pb::CompareValueRequest::default()
    };
    for number in 100..200 {
        assert!(!reader.compare_value(guess(iin(number))).await.unwrap().into_inner().equal);
    }
    // The budget of the hour is gone, for hits as for misses and for every way of guessing.
    for status in [
        reader.compare_value(guess(iin(300))).await.unwrap_err(),
        reader.compare_value(guess(iin(1))).await.unwrap_err(),
        reader
            .lookup_tokens(pb::LookupTokensRequest {
                field: "iin".into(),
                value: iin(1),
                purpose: "payments".into(),
                ..pb::LookupTokensRequest::default()
            })
            .await
            .unwrap_err(),
        reader.detokenize(detokenize_request("000000000005", "payments")).await.unwrap_err(),
    ] {
        assert_eq!(reason(&status), "BUDGET_EXHAUSTED");
    }
    assert!(served.read("payments", "payments", stored.token("iin")).await.is_ok(), "a token is no guess");
    let mut support = served.vault("support").await;
    let other = support.compare_value(pb::CompareValueRequest {
        token: stored.token("phone").into(),
        purpose: "request_comms".into(),
        value: "+77010000001".into(),
        ..pb::CompareValueRequest::default()
    });
    assert!(other.await.unwrap().into_inner().equal, "each caller has its own");
    served.running.stop().await.unwrap();
}
