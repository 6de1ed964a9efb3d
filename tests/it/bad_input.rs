//! Input that no honest client sends: each gets its documented error, and nothing is stored. What is wrong with single
//! fields is in `values.rs`.

use prost::Message as _;
use sandyq::{
    cli::pki::Authority,
    crypto::random::SystemRng,
    domain::token::Token,
    grpc::pb::{self, vault_service_client::VaultServiceClient},
};
use tonic::{Code, Status};

use crate::common::{
    backend::{Backend, on_both},
    people::{iin, tokenize_request},
    raw::call,
    served::{Served, detokenize_request, reason, request_id},
};

async fn size(served: &Served) -> i64 {
    let request = pb::GetHeadRequest { platform: "lerna".into() };
    served.audit("auditor").await.get_head(request).await.unwrap().into_inner().size
}

fn refused(answer: Result<Vec<u8>, Status>) -> (Code, String) {
    let status = answer.unwrap_err();
    (status.code(), reason(&status))
}

on_both!(messages_that_are_none_are_refused);
async fn messages_that_are_none_are_refused(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let channel = served.channel("backend").await;
    let before = size(&served).await;
    let good = tokenize_request(1).encode_to_vec();
    let mut cases = vec![
        // Field 2, the subject's reference, as a number; and as a text that is not UTF-8.
        ("another type", vec![0x10, 0x01]),
        ("not UTF-8", vec![0x12, 0x02, 0xc3, 0x28]),
        ("a length beyond the end", vec![0x12, 0x7f, b'a']),
        ("cut", good[..good.len() - 1].to_vec()),
        ("no message at all", vec![0xff; 64]),
    ];
    // An IIN inside bytes that do not decode must not come back in the error.
    let mut with_value = vec![0x10, 0x01];
    with_value.extend_from_slice(iin(1).as_bytes());
    cases.push(("a value beside", with_value));
    for (what, bytes) in cases {
        for path in ["VaultService/Tokenize", "VaultService/BatchTokenize"] {
            let status = call(&channel, path, bytes.clone()).await.unwrap_err();
            let expected = (Code::InvalidArgument, "MESSAGE_MALFORMED");
            assert_eq!((status.code(), reason(&status).as_str()), expected, "{what}");
            assert!(!format!("{status:?}").contains(&iin(1)), "{what}");
        }
    }
    let mut large = tokenize_request(1);
    large.fields[0].value = "a".repeat(5 << 20);
    let answer = call(&channel, "VaultService/Tokenize", large.encode_to_vec()).await;
    assert_eq!(refused(answer), (Code::InvalidArgument, "MESSAGE_TOO_LARGE".into()));

    let items = vec![pb::TokenizeItem::default(); 10_000];
    let batch = pb::BatchTokenizeRequest { request_id: request_id(), items, ..Default::default() };
    let answer = call(&channel, "VaultService/BatchTokenize", batch.encode_to_vec()).await;
    assert_eq!(refused(answer), (Code::InvalidArgument, "INVALID_FIELDS".into()));
    let batch = pb::BatchDetokenizeRequest {
        request_id: request_id(),
        tokens: vec!["sq1_x".into(); 10_000],
        purpose: "payments".into(),
        view: pb::View::Full.into(),
        ..pb::BatchDetokenizeRequest::default()
    };
    let answer =
        call(&served.channel("payments").await, "VaultService/BatchDetokenize", batch.encode_to_vec()).await;
    assert_eq!(refused(answer), (Code::InvalidArgument, "INVALID_FIELDS".into()));
    assert_eq!(size(&served).await, before, "nothing was stored, and nothing decided");
    served.running.stop().await.unwrap();
}

on_both!(a_request_id_with_another_body_or_call_is_refused);
async fn a_request_id_with_another_body_or_call_is_refused(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let mut client = served.vault("backend").await;
    let request = tokenize_request(1);
    let first = client.tokenize(request.clone()).await.unwrap().into_inner();
    let mut other = tokenize_request(2);
    other.request_id.clone_from(&request.request_id);
    let status = client.tokenize(other.clone()).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::AlreadyExists, "REQUEST_ID_REUSED"));
    let revoke = pb::RevokeTokenRequest {
        request_id: request.request_id.clone(),
        token: first.tokens[0].token.clone(),
    };
    let status = client.revoke_token(revoke).await.unwrap_err();
    assert_eq!(reason(&status), "REQUEST_ID_REUSED", "another call");
    // Nothing of the other body was stored: its subject is not there.
    let subject = pb::subject_name::Subject::SubjectReference(other.subject_reference);
    let request = pb::GetSubjectRequest {
        subject: Some(pb::SubjectName { subject: Some(subject) }),
        platform: String::new(),
    };
    let mut subjects = pb::subject_service_client::SubjectServiceClient::new(served.channel("backend").await);
    assert_eq!(reason(&subjects.get_subject(request).await.unwrap_err()), "SUBJECT_NOT_FOUND");
    served.running.stop().await.unwrap();
}

on_both!(tokens_that_are_not_this_platforms_get_one_answer);
async fn tokens_that_are_not_this_platforms_get_one_answer(backend: Backend) {
    let (platform, staff) = (Authority::new("p").unwrap(), Authority::new("s").unwrap());
    let served = Served::start_with(&backend, &platform, &staff).await;
    let person = served.store(1).await;
    let mut foreign = VaultServiceClient::new(served.neighbour(&platform).await);
    let unknown = Token::random(&SystemRng::new()).unwrap().reveal().to_string();
    let mut answers = Vec::new();
    for token in [person.token("iin"), &unknown] {
        let status = foreign.detokenize(detokenize_request(token, "payments")).await.unwrap_err();
        assert_eq!((status.code(), reason(&status).as_str()), (Code::NotFound, "TOKEN_NOT_FOUND"));
        answers.push((status.message().to_owned(), status.details().to_vec()));
        let request = pb::DescribeTokenRequest { token: (*token).to_owned() };
        let status = foreign.describe_token(request).await.unwrap_err();
        answers.push((status.message().to_owned(), status.details().to_vec()));
        let request = pb::RevokeTokenRequest { request_id: request_id(), token: (*token).to_owned() };
        let status = foreign.revoke_token(request).await.unwrap_err();
        answers.push((status.message().to_owned(), status.details().to_vec()));
    }
    assert_eq!(answers[..3], answers[3..], "to the byte");
    assert_eq!(
        served.read("payments", "payments", person.token("iin")).await,
        Ok(iin(1)),
        "nothing happened"
    );

    // A mistyped one is refused before any look-up.
    let before = size(&served).await;
    let mistyped = person.token("iin").replace("sq1_", "sq1_a");
    let mut payments = served.vault("payments").await;
    let status = payments.detokenize(detokenize_request(&mistyped, "payments")).await.unwrap_err();
    assert_eq!((status.code(), reason(&status).as_str()), (Code::InvalidArgument, "TOKEN_MALFORMED"));
    assert_eq!(size(&served).await, before);
    served.running.stop().await.unwrap();
}
