//! Values in, tokens out, and back: the contract of `VaultService`.

use sandyq::grpc::pb::{self, tokenize_result::Outcome};

use crate::common::{
    backend::{Backend, on_both},
    people::{grant, iin, tokenize_request},
    served::{Served, detokenize_request, reason, reason_of_item, request_id},
};

/// One fault put into a good request.
type Change<T> = fn(&mut T);

on_both!(a_value_comes_back_for_its_purpose_alone);
async fn a_value_comes_back_for_its_purpose_alone(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let person = served.store(1).await;
    let read = async |caller: &str, purpose: &str, field: &str| {
        served.read(caller, purpose, person.token(field)).await
    };
    assert_eq!(read("payments", "payments", "iin").await, Ok(iin(1)));
    assert_eq!(read("payments", "payments", "surname").await.as_deref(), Ok("Сынақова"));
    assert_eq!(read("support", "request_comms", "phone").await.as_deref(), Ok("+77010000001"));
    let refusals = [
        ("payments", "resale", "iin", "PURPOSE_NOT_DECLARED"),
        ("support", "payments", "iin", "CALLER_NOT_ALLOWED"),
        ("backend", "payments", "iin", "CALLER_NOT_ALLOWED"),
        ("auditor", "payments", "iin", "CALLER_NOT_ALLOWED"),
        // No purpose of the caller covers the field: as if the token never was.
        ("payments", "payments", "phone", "TOKEN_NOT_FOUND"),
        ("support", "request_comms", "iin", "TOKEN_NOT_FOUND"),
    ];
    for (caller, purpose, field, expected) in refusals {
        assert_eq!(read(caller, purpose, field).await, Err(expected.into()), "{caller} {purpose} {field}");
    }
    served.running.stop().await.unwrap();
}

on_both!(missing_and_forbidden_are_the_same_answer);
async fn missing_and_forbidden_are_the_same_answer(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let person = served.store(1).await;
    let never_was = {
        use sandyq::{crypto::random::SystemRng, domain::token::Token};
        Token::random(&SystemRng::new()).unwrap().reveal().to_string()
    };
    let mut client = served.vault("payments").await;
    let mut statuses = Vec::new();
    for token in [person.token("email"), &never_was] {
        let status = client.detokenize(detokenize_request(token, "payments")).await.unwrap_err();
        statuses.push((status.code(), status.message().to_owned(), status.details().to_vec()));
        let describe = pb::DescribeTokenRequest { token: token.to_owned() };
        let status = client.describe_token(describe).await.unwrap_err();
        statuses.push((status.code(), status.message().to_owned(), status.details().to_vec()));
    }
    assert_eq!(statuses[0], statuses[2], "to the byte");
    assert_eq!(statuses[1], statuses[3], "to the byte");
    served.running.stop().await.unwrap();
}

on_both!(a_masked_view_hides);
async fn a_masked_view_hides(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let person = served.store(1).await;
    let mut client = served.vault("support").await;
    for (field, masked) in [("phone", "+*******0001"), ("email", "p***@example.kz"), ("surname", "С***")] {
        let request = pb::DetokenizeRequest {
            view: pb::View::Masked.into(),
            ..detokenize_request(person.token(field), "request_comms")
        };
        assert_eq!(client.detokenize(request).await.unwrap().into_inner().value, masked);
    }
    served.running.stop().await.unwrap();
}

on_both!(the_same_value_again_is_a_further_token_and_another_is_refused);
async fn the_same_value_again_is_a_further_token_and_another_is_refused(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let first = served.store(1).await;
    let again = served.store(1).await;
    assert_eq!(first.subject, again.subject);
    assert_ne!(first.token("iin"), again.token("iin"));
    for token in [first.token("iin"), again.token("iin")] {
        assert_eq!(served.read("payments", "payments", token).await, Ok(iin(1)));
    }
    let mut other = tokenize_request(1);
    other.fields[2].value = iin(2);
    other.consents.clear();
    let status = served.vault("backend").await.tokenize(other).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (tonic::Code::AlreadyExists, "VALUE_DIFFERS"));
    // A normal form is one value, however it is written.
    let mut same = tokenize_request(1);
    same.fields = vec![pb::FieldValue {
        field: "phone".into(),
        value: " 8 (701) 000-00-01 ".into(),
        ..pb::FieldValue::default()
    }];
    same.consents.clear();
    let answer = served.vault("backend").await.tokenize(same).await.unwrap().into_inner();
    assert!(!answer.tokens[0].record_created);
    served.running.stop().await.unwrap();
}

on_both!(a_batch_answers_each_item_alone_and_in_order);
async fn a_batch_answers_each_item_alone_and_in_order(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let mut backend = served.vault("backend").await;
    let item = |number: u32| {
        let request = tokenize_request(number);
        pb::TokenizeItem {
            subject_reference: request.subject_reference,
            fields: request.fields,
            consents: request.consents,
            ..pb::TokenizeItem::default()
        }
    };
    let mut items: Vec<_> = (1..=8).map(item).collect();
    items[2].fields[2].value = "991231600003".into();
    items[4].subject_reference = String::new();
    let twice = items[5].subject_reference.clone();
    items[6].subject_reference = twice;
    let request = pb::BatchTokenizeRequest { request_id: request_id(), items, ..Default::default() };
    let results = backend.batch_tokenize(request).await.unwrap().into_inner().results;
    let mut tokens = Vec::new();
    for (i, result) in results.into_iter().enumerate() {
        match result.outcome.unwrap() {
            Outcome::Response(response) => {
                tokens.push(response.tokens.into_iter().find(|t| t.field == "iin").unwrap().token);
                assert!(![2, 4, 6].contains(&i), "{i}");
            }
            Outcome::Error(error) => {
                assert_eq!(error.code, i32::from(tonic::Code::InvalidArgument));
                assert!([2, 4, 6].contains(&i), "{i}");
            }
        }
    }
    let good: Vec<u32> = vec![1, 2, 4, 6, 8];
    assert_eq!(tokens.len(), good.len());
    tokens.insert(1, "sq1_mistyped".into());
    let request = pb::BatchDetokenizeRequest {
        request_id: request_id(),
        tokens,
        purpose: "payments".into(),
        view: pb::View::Full.into(),
        reference: "ORDER-1".into(),
        ..pb::BatchDetokenizeRequest::default()
    };
    let results =
        served.vault("payments").await.batch_detokenize(request).await.unwrap().into_inner().results;
    let values: Vec<_> = results
        .into_iter()
        .map(|result| match result.outcome.unwrap() {
            pb::detokenize_result::Outcome::Response(response) => response.value,
            pb::detokenize_result::Outcome::Error(error) => error.message,
        })
        .collect();
    let expected: Vec<_> = good.into_iter().map(iin).collect();
    assert_eq!(values[0], expected[0]);
    assert!(values[1].contains("not a token"));
    assert_eq!(values[2..], expected[1..]);
    served.running.stop().await.unwrap();
}

on_both!(concurrent_writers_of_one_subject_agree);
async fn concurrent_writers_of_one_subject_agree(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let channel = served.channel("backend").await;
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..32 {
        let channel = channel.clone();
        tasks.spawn(async move {
            let mut client = pb::vault_service_client::VaultServiceClient::new(channel);
            client.tokenize(tokenize_request(7)).await.unwrap().into_inner()
        });
    }
    let answers = tasks.join_all().await;
    assert!(answers.iter().all(|a| a.subject_id == answers[0].subject_id), "one subject");
    let created = answers.iter().filter(|a| a.tokens[2].record_created).count();
    assert_eq!(created, 1, "one record");
    served.running.stop().await.unwrap();
}

on_both!(bad_input_is_refused_field_by_field_and_changes_nothing);
async fn bad_input_is_refused_field_by_field_and_changes_nothing(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let mut client = served.vault("backend").await;
    let size = served.audit("auditor").await;
    let head = async |mut audit: pb::audit_service_client::AuditServiceClient<_>| {
        audit.get_head(pb::GetHeadRequest { platform: "lerna".into() }).await.unwrap().into_inner().size
    };
    let before = head(size.clone()).await;
    let cases: Vec<(&str, Change<pb::TokenizeRequest>)> = vec![
        ("request_id", |r| r.request_id.clear()),
        ("request_id", |r| r.request_id = "00000000-0000-4000-8000-000000000000".into()),
        ("request_id", |r| r.request_id = "01890a5d-ac96-774b-bcce-b302099a8057".into()),
        ("subject_reference", |r| r.subject_reference.clear()),
        ("subject_reference", |r| r.subject_reference = "x".repeat(257)),
        ("fields", |r| (r.fields, r.consents) = (Vec::new(), Vec::new())),
        ("fields[0].field", |r| r.fields[0].field = "passport".into()),
        ("fields[0].field", |r| r.fields[0].field = "Not A Name".into()),
        ("fields[1].field", |r| r.fields[1].field = "surname".into()),
        ("fields[2].value", |r| r.fields[2].value = "991231600003".into()),
        ("fields[0].value", |r| r.fields[0].value = "4111111111111111".into()),
        ("fields[3].value", |r| r.fields[3].value = "12345".into()),
        ("fields[4].value", |r| r.fields[4].value = "a".repeat(5000)),
        ("consents[0].purpose", |r| r.consents[0].purpose = "resale".into()),
        ("consents[0].fields", |r| r.consents[0].fields = vec!["phone".into()]),
        ("consents[0].fields", |r| r.consents[0].fields.clear()),
        ("consents[0].act", |r| r.consents[0].act = 0),
        ("consents[0].act", |r| r.consents[0].act = pb::ConsentAct::Written.into()),
        ("consents[0].subject_name", |r| r.consents[0].subject_name.clear()),
        ("consents[0].give_time", |r| r.consents[0].give_time = None),
        ("consents[0].give_time", |r| r.consents[0].give_time.as_mut().unwrap().seconds = 250_000_000_000),
        ("consents[0].expire_time", |r| r.consents[0].expire_time = r.consents[0].give_time),
        ("consents[0].third_party_transfer", |r| r.consents[0].third_party_transfer = None),
        ("consents[0].cross_border_transfer", |r| r.consents[0].cross_border_transfer = None),
        ("consents[0].publication", |r| r.consents[0].publication = None),
        ("consents[0].policy_version", |r| r.consents[0].policy_version = 2),
        ("consents[0].language", |r| r.consents[0].language = "en".into()),
        ("consents[0].text_sha256", |r| r.consents[0].text_sha256 = vec![1]),
        ("consents[0].site", |r| r.consents[0].site = "elsewhere.kz".into()),
    ];
    for (i, (field, change)) in cases.into_iter().enumerate() {
        use tonic_types::StatusExt as _;
        let mut request = tokenize_request(1);
        change(&mut request);
        let status = client.tokenize(request).await.unwrap_err();
        assert_eq!(
            (status.code(), reason(&status).as_str()),
            (tonic::Code::InvalidArgument, "INVALID_FIELDS")
        );
        let details = status.get_error_details();
        let violations = &details.bad_request().unwrap().field_violations;
        assert!(violations.iter().any(|v| v.field == field), "case {i}: {field} not in {violations:?}");
    }
    assert_eq!(head(size).await, before, "nothing was written");
    served.running.stop().await.unwrap();
}

// What it costs to refuse a request must not grow with the request.
on_both!(a_request_full_of_faults_gets_a_short_answer);
async fn a_request_full_of_faults_gets_a_short_answer(backend: Backend) {
    use tonic_types::StatusExt as _;
    let served = Served::start_on(&backend).await;
    let mut client = served.vault("backend").await;
    let mut requests = Vec::new();
    let mut request = tokenize_request(1);
    request.consents = vec![pb::ConsentGrant::default(); 500_000];
    requests.push(request);
    let mut request = tokenize_request(1);
    request.fields = vec![pb::FieldValue::default(); 500_000];
    requests.push(request);
    let mut request = tokenize_request(1);
    request.consents[0].fields = vec![String::new(); 500_000];
    requests.push(request);
    let mut request = tokenize_request(1);
    request.consents = vec![pb::ConsentGrant::default(); 32];
    requests.push(request);
    for request in requests {
        let status = client.tokenize(request).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_FIELDS");
        assert!(status.get_error_details().bad_request().unwrap().field_violations.len() <= 16);
        assert!(status.details().len() < 4_096, "{}", status.details().len());
    }
    served.running.stop().await.unwrap();
}

on_both!(questions_of_bad_form_are_refused);
async fn questions_of_bad_form_are_refused(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let person = served.store(1).await;
    let mut client = served.vault("payments").await;
    let cases: [(&str, Change<pb::DetokenizeRequest>); 8] = [
        ("INVALID_FIELDS", |r| r.view = 0),
        ("INVALID_FIELDS", |r| r.view = 77),
        ("INVALID_FIELDS", |r| r.purpose = "Payments!".into()),
        ("INVALID_FIELDS", |r| r.reference = "order 17".into()),
        ("INVALID_FIELDS", |r| r.reference = "991231600002".into()),
        ("INVALID_FIELDS", |r| r.request_id = "x".into()),
        ("TOKEN_MALFORMED", |r| r.token.push('a')),
        ("TOKEN_MALFORMED", |r| r.token.clear()),
    ];
    for (i, (expected, change)) in cases.into_iter().enumerate() {
        let mut request = detokenize_request(person.token("iin"), "payments");
        change(&mut request);
        let status = client.detokenize(request).await.unwrap_err();
        assert_eq!(reason(&status), expected, "case {i}");
    }
    for tokens in [Vec::new(), vec![person.token("iin").to_owned(); 1001]] {
        let request = pb::BatchDetokenizeRequest {
            request_id: request_id(),
            tokens,
            purpose: "payments".into(),
            view: pb::View::Full.into(),
            reference: String::new(),
            ..pb::BatchDetokenizeRequest::default()
        };
        let status = client.batch_detokenize(request).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_FIELDS");
    }
    served.running.stop().await.unwrap();
}

on_both!(a_token_is_described_without_its_value);
async fn a_token_is_described_without_its_value(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let person = served.store(1).await;
    let request = pb::DescribeTokenRequest { token: person.token("iin").into() };
    let described = served.vault("payments").await.describe_token(request).await.unwrap().into_inner();
    assert_eq!((described.field.as_str(), described.field_type.as_str()), ("iin", "iin"));
    assert_eq!(described.subject_id, person.subject);
    assert_eq!(described.purposes, ["payments"]);
    assert!(described.create_time.is_some());
    served.running.stop().await.unwrap();
}

on_both!(only_callers_that_the_policy_names_may_store);
async fn only_callers_that_the_policy_names_may_store(backend: Backend) {
    let served = Served::start_on(&backend).await;
    for caller in ["payments", "support"] {
        let status = served.vault(caller).await.tokenize(tokenize_request(1)).await.unwrap_err();
        assert_eq!(reason(&status), "CALLER_NOT_ALLOWED", "{caller}");
    }
    let mut request = tokenize_request(1);
    request.fields.clear();
    request.consents = vec![grant("payments", &["iin"])];
    let status = served.vault("payments").await.tokenize(request).await.unwrap_err();
    assert_eq!(reason(&status), "CALLER_NOT_ALLOWED", "nor record consents");
    served.running.stop().await.unwrap();
}

on_both!(everything_is_there_after_a_restart);
async fn everything_is_there_after_a_restart(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let person = served.store(1).await;
    let served = served.restart().await;
    assert_eq!(served.read("payments", "payments", person.token("iin")).await, Ok(iin(1)));
    let again = served.store(1).await;
    assert_eq!(again.subject, person.subject);
    served.running.stop().await.unwrap();
}

on_both!(a_batch_that_is_only_checked_changes_nothing_and_looks_at_nothing);
async fn a_batch_that_is_only_checked_changes_nothing_and_looks_at_nothing(backend: Backend) {
    let served = Served::start_on(&backend).await;
    served.store(9).await;
    let item = |number: u32| {
        let request = tokenize_request(number);
        pb::TokenizeItem {
            subject_reference: request.subject_reference,
            fields: request.fields,
            consents: request.consents,
            ..pb::TokenizeItem::default()
        }
    };
    let mut items: Vec<_> = (1..=6).map(item).collect();
    items[1].fields[2].value = "991231600003".into();
    items[2].fields[0].field = "nickname".into();
    items[3].consents[0].purpose = "resale".into();
    items[4].fields[0].source = pb::ValueSource::Public.into();
    // Another value than the one held: only the data would tell.
    items[5].subject_reference = "user-9".into();
    let request = pb::BatchTokenizeRequest {
        request_id: request_id(),
        items,
        validate_only: true,
        ..pb::BatchTokenizeRequest::default()
    };
    let head = pb::GetHeadRequest { platform: "lerna".into() };
    let mut log = served.audit("auditor").await;
    let before = log.get_head(head.clone()).await.unwrap().into_inner().size;
    let rows = served.rows("subjects").await;
    let answer = served.vault("backend").await.batch_tokenize(request.clone()).await.unwrap().into_inner();
    let told = answer.results.iter().map(|result| match result.outcome.as_ref().unwrap() {
        Outcome::Response(response) => {
            assert_eq!(*response, pb::TokenizeResponse::default());
            "good".to_owned()
        }
        Outcome::Error(status) => reason_of_item(status),
    });
    let told: Vec<_> = told.collect();
    let wrong = "INVALID_FIELDS";
    assert_eq!(told, ["good", wrong, wrong, wrong, "SOURCE_NOT_ALLOWED", "good"]);
    let answer = served.vault("payments").await.batch_tokenize(request.clone()).await.unwrap().into_inner();
    let told = answer.results.into_iter().map(|result| match result.outcome.unwrap() {
        Outcome::Response(_) => panic!("payments may store none of it"),
        Outcome::Error(status) => reason_of_item(&status),
    });
    let told: Vec<_> = told.collect();
    let not_allowed = "CALLER_NOT_ALLOWED";
    assert_eq!(told, [not_allowed, wrong, wrong, wrong, not_allowed, not_allowed]);
    assert_eq!(log.get_head(head).await.unwrap().into_inner().size, before);
    assert_eq!(served.rows("subjects").await, rows);
    // Its id was used for nothing.
    let stored = pb::BatchTokenizeRequest { validate_only: false, ..request };
    let answer = served.vault("backend").await.batch_tokenize(stored).await.unwrap().into_inner();
    let good = answer.results.iter().filter(|result| matches!(result.outcome, Some(Outcome::Response(_))));
    assert_eq!(good.count(), 1);
    served.running.stop().await.unwrap();
}
