//! What a person is told who asks: whole, of this person alone, and with values only where a purpose reads them.

use std::os::unix::fs::PermissionsExt as _;

use sandyq::grpc::pb::{self, rights_service_client::RightsServiceClient};

use crate::common::{
    backend::{Backend, on_both},
    house::by_reference,
    people::{grant_letters, iin, tokenize_request},
    served::{Served, reason, request_id},
};

fn open(kind: pb::RightKind, number: u32) -> pb::OpenCaseRequest {
    let now = sandyq::domain::time::Clock::default().now().second();
    pb::OpenCaseRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        subject: Some(by_reference(number)),
        kind: kind.into(),
        channel: pb::RightsChannel::Site.into(),
        requester: pb::CaseRequester::Subject.into(),
        reference: "IN-2026/17".into(),
        receive_time: Some(prost_types::Timestamp { seconds: now - 60, nanos: 0 }),
        ..pb::OpenCaseRequest::default()
    }
}

async fn identify(served: &Served, case_id: &str) {
    let identity = pb::IdentityCheck {
        method: pb::IdentityMethod::Login.into(),
        evidence: "LOGIN-17".into(),
        proof_time: None,
    };
    let advance = pb::AdvanceCaseRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        case_id: case_id.into(),
        step: Some(pb::advance_case_request::Step::Identity(identity)),
    };
    RightsServiceClient::new(served.channel("admin").await).advance_case(advance).await.unwrap();
}

async fn opened(served: &Served, kind: pb::RightKind, number: u32) -> String {
    let mut admin = RightsServiceClient::new(served.channel("admin").await);
    admin.open_case(open(kind, number)).await.unwrap().into_inner().case.unwrap().case_id
}

async fn export(
    served: &Served,
    caller: &str,
    case_id: &str,
    purpose: &str,
) -> Result<pb::ExportCaseResponse, String> {
    let request =
        pb::ExportCaseRequest { platform: "lerna".into(), case_id: case_id.into(), purpose: purpose.into() };
    let mut client = RightsServiceClient::new(served.channel(caller).await);
    let answer = client.export_case(request).await;
    answer.map(tonic::Response::into_inner).map_err(|status| reason(&status))
}

fn field<'a>(export: &'a pb::ExportCaseResponse, name: &str) -> &'a pb::ExportedField {
    export.fields.iter().find(|field| field.field == name).unwrap()
}

on_both!(r13_who_asks_is_told_what_is_held_why_and_who_saw_it);
async fn r13_who_asks_is_told_what_is_held_why_and_who_saw_it(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let stored = served.store(1).await;
    served.store(2).await;
    served.read("payments", "payments", stored.token("iin")).await.unwrap();
    let id = opened(&served, pb::RightKind::Access, 1).await;
    let early = export(&served, "admin", &id, "").await;
    assert_eq!(
        early.err(),
        Some("CASE_STATE_UNSUITABLE".into()),
        "nobody is told before it is known who asks"
    );
    identify(&served, &id).await;

    // Staff is told everything but values.
    let told = export(&served, "admin", &id, "").await.unwrap();
    assert_eq!(told.fields.len(), 5);
    assert!(told.fields.iter().all(|field| field.value.is_empty() && !field.withheld.is_empty()));
    assert_eq!(told.operator, "ТОО «Ньюскилз»");
    let held = field(&told, "iin");
    assert_eq!(
        (held.field_type.as_str(), held.record_version, held.source()),
        ("iin", 1, pb::ValueSource::Subject)
    );
    assert!(held.hold_time.is_some());
    let why = held.purposes.iter().find(|purpose| purpose.purpose == "payments").unwrap();
    assert_eq!((why.clause.as_str(), why.law.as_str(), why.ended), ("7.1(ж)", "", false));
    assert!(why.recipient_kinds.contains(&"bank".to_owned()), "{why:?}");
    let law = field(&told, "surname").purposes.iter().find(|p| p.purpose == "subject_requests").unwrap();
    assert_eq!(law.law, "94-V/24(1)");
    assert_eq!(told.consents.len(), 2);
    let seen: Vec<_> = told.disclosures.iter().map(|d| (d.field.as_str(), d.caller.as_str())).collect();
    assert_eq!(seen, [("iin", "payments")], "of this person alone");
    let staff = export(&served, "admin", &id, "subject_requests").await.unwrap();
    assert_eq!(field(&staff, "surname").withheld, "CALLER_NOT_ALLOWED", "no role reads values");

    // The service that the policy names for requests of people reads what that purpose covers, and no more.
    let answered = export(&served, "rights", &id, "subject_requests").await.unwrap();
    let surname = field(&answered, "surname");
    assert_eq!((surname.view(), surname.value.is_empty()), (pb::View::Full, false));
    assert_eq!(field(&answered, "iin").withheld, "FIELD_NOT_ALLOWED");
    assert!(answered.fields.iter().all(|field| field.value != iin(1) && field.value != iin(2)));
    // Each value is decided and logged as any read: the export itself is among those who saw it.
    let by_rights: Vec<_> = answered.disclosures.iter().filter(|d| d.caller == "rights").collect();
    let values = answered.fields.iter().filter(|field| !field.value.is_empty()).count();
    assert_eq!(by_rights.len(), values);
    let reference = by_rights[0].reference.to_lowercase();
    assert_eq!((by_rights[0].purpose.as_str(), reference), ("subject_requests", id.clone()));

    // A purpose on consent opens nobody's file to a service, and neither does another kind of request.
    let mailing = export(&served, "mailing", &id, "marketing_mail").await;
    assert_eq!(mailing.err(), Some("CALLER_NOT_ALLOWED".into()));
    let without = export(&served, "rights", &id, "").await;
    assert_eq!(without.err(), Some("CALLER_NOT_ALLOWED".into()));
    let other = opened(&served, pb::RightKind::Correction, 1).await;
    identify(&served, &other).await;
    let wrong = export(&served, "rights", &other, "subject_requests").await;
    assert_eq!(wrong.err(), Some("CASE_STATE_UNSUITABLE".into()));
    served.running.stop().await.unwrap();
}

fn run(served: &Served, caller: &str, args: &[&str]) -> serde_json::Value {
    let connection = served.running.installation.connection_path(caller);
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sandyq"));
    command.arg("--json").args(args).arg("--connection").arg(connection);
    let output = tokio::task::block_in_place(|| command.output().unwrap());
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn r33_the_answer_is_a_file_for_the_person_alone() {
    let served = Served::start().await;
    let mut person = tokenize_request(1);
    person.consents.push(grant_letters("marketing_mail", &["email"]));
    let stored = served.store_person(person).await;
    served.read("payments", "payments", stored.token("iin")).await.unwrap();
    let id = opened(&served, pb::RightKind::Portability, 1).await;
    identify(&served, &id).await;
    for (language, letters) in
        [("kk", "эл. пошта, оператор"), ("ru", "эл. почта, оператор"), ("en", "email, the operator")]
    {
        let path = served.file(&format!("answer-{language}.html"));
        let output = path.display().to_string();
        let args = ["rights", "export", &id, "--platform", "lerna", "--purpose", "subject_requests"];
        let more = ["--format", "html", "--language", language, "--output", &output];
        let told = run(&served, "rights", &[&args[..], &more].concat());
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(told["sha256"], data_encoding::HEXLOWER.encode(&sandyq::crypto::digest::sha256(&bytes)));
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let page = String::from_utf8(bytes).unwrap();
        assert!(page.contains(&format!("<html lang=\"{language}\">")) && page.contains("Сынақов"));
        assert!(
            !page.contains("src=") && !page.contains("http") && !page.contains("<script"),
            "nothing is loaded"
        );
        assert!(!page.contains(&iin(1)), "no purpose here reads it");
        assert!(page.contains(&format!("marketing_mail ({letters})")), "by which channel, in whose name");
    }
    let path = served.file("portable.json").display().to_string();
    let args = ["rights", "export", &id, "--platform", "lerna", "--purpose", "subject_requests"];
    run(&served, "rights", &[&args[..], &["--format", "portable", "--output", &path]].concat());
    let portable: serde_json::Value = serde_json::from_slice(&std::fs::read(&path).unwrap()).unwrap();
    assert_eq!(portable["format"], "sandyq-portable-1");
    assert_eq!(portable["data"]["surname"]["type"], "person_name");
    assert!(portable["withheld"].as_array().unwrap().contains(&"iin".into()), "{portable}");
    assert!(portable.get("disclosures").is_none());
    served.running.stop().await.unwrap();
}
