//! The contract: classes of fields, redaction, documented errors, health, reflection.

use std::collections::BTreeSet;

use prost_reflect::{DescriptorPool, Value};
use sandyq::{
    domain::caller::Role,
    grpc::{pb, status::table},
    vault::access::Call,
};
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::common::{
    people::{iin, tokenize_request},
    served::Served,
};

fn pool() -> DescriptorPool {
    DescriptorPool::decode(pb::DESCRIPTORS).unwrap()
}

#[test]
fn every_field_has_a_data_class() {
    let pool = pool();
    let class = pool.get_extension_by_name("sandyq.v1.data_class").unwrap();
    let mut seen = 0;
    for message in pool.all_messages().filter(|m| m.package_name() == "sandyq.v1") {
        for field in message.fields() {
            let options = field.options();
            let number = options.get_extension(&class);
            assert!(
                matches!(number.as_ref(), Value::EnumNumber(n) if *n > 0),
                "{} declares no data class",
                field.full_name()
            );
            seen += 1;
        }
    }
    assert!(seen > 350, "the contract was walked");
}

/// A message field is at least as sensitive as anything inside it.
#[test]
fn a_message_field_carries_the_highest_class_inside() {
    let pool = pool();
    let class = pool.get_extension_by_name("sandyq.v1.data_class").unwrap();
    let number = |field: &prost_reflect::FieldDescriptor| {
        let options = field.options();
        let value = options.get_extension(&class);
        if let Value::EnumNumber(n) = value.as_ref() { *n } else { 0 }
    };
    for message in pool.all_messages().filter(|m| m.package_name() == "sandyq.v1") {
        for field in message.fields() {
            let kind = field.kind();
            let Some(inner) = kind.as_message().filter(|m| m.package_name() == "sandyq.v1") else { continue };
            let highest = inner.fields().map(|f| number(&f)).max().unwrap_or(1);
            assert!(number(&field) >= highest, "{} is below its content", field.full_name());
        }
    }
}

/// Calls that change nothing begin with one of these words; every other names its request, first of all.
#[test]
fn every_change_names_its_request() {
    let questions = [
        "Get",
        "List",
        "Describe",
        "WhoAmI",
        "Detokenize",
        "BatchDetokenize",
        "Download",
        "Compare",
        "Lookup",
        "Validate",
        "Explain",
        "Export",
        "Reconcile",
        "Watch",
        "Check",
        "Plan",
    ];
    let pool = pool();
    let mut changes = 0;
    for service in pool.services().filter(|s| s.package_name() == "sandyq.v1") {
        for method in service.methods().filter(|m| !questions.iter().any(|word| m.name().starts_with(word))) {
            let first = method.input().get_field(1).map(|field| field.name().to_owned());
            assert_eq!(first.as_deref(), Some("request_id"), "{}", method.full_name());
            changes += 1;
        }
    }
    assert!(changes > 20, "the contract was walked");
}

#[test]
fn every_list_is_paged() {
    let pool = pool();
    for service in pool.services().filter(|s| s.package_name() == "sandyq.v1") {
        for method in service.methods().filter(|m| m.name().starts_with("List")) {
            let (input, output) = (method.input(), method.output());
            for name in ["page_size", "page_token"] {
                assert!(input.get_field_by_name(name).is_some(), "{name} of {}", method.full_name());
            }
            assert!(output.get_field_by_name("next_page_token").is_some(), "{}", method.full_name());
        }
    }
}

#[test]
fn personal_fields_are_not_in_debug_output() {
    let request = tokenize_request(17);
    let result = pb::DetokenizeResult {
        outcome: Some(pb::detokenize_result::Outcome::Response(pb::DetokenizeResponse {
            value: iin(17),
            field: "iin".into(),
            view: pb::View::Full.into(),
            audit_entry_id: "ent_x".into(),
        })),
    };
    let batch = pb::BatchDetokenizeResponse { results: vec![result.clone()], sealed: None };
    let compare = pb::CompareValueRequest { value: iin(17), ..pb::CompareValueRequest::default() };
    let lookup = pb::LookupTokensRequest { value: iin(17), ..pb::LookupTokensRequest::default() };
    let update = pb::UpdateRecordRequest { value: iin(17), ..pb::UpdateRecordRequest::default() };
    let grant = pb::GrantConsentRequest {
        request_id: "id".into(),
        subject_reference: "user-17".into(),
        consent: Some(request.consents[0].clone()),
    };
    for text in [
        format!("{request:?}"),
        format!("{result:?}"),
        format!("{batch:?}"),
        format!("{grant:?}"),
        format!("{compare:?}{lookup:?}{update:?}"),
    ] {
        for canary in [iin(17).as_str(), "Сынақова", "user-17", "person17"] {
            assert!(!text.contains(canary), "{canary} in {text}");
        }
    }
    assert!(format!("{request:?}").contains(&request.request_id), "public fields are shown");
}

/// `docs/errors.md` has a row for each reason, and none besides.
#[test]
fn errors_are_documented() {
    let docs = include_str!("../../docs/errors.md");
    let documented: BTreeSet<_> = docs
        .lines()
        .filter_map(|line| line.strip_prefix("| `"))
        .map(|line| {
            let mut cells = line.split('|');
            let reason = cells.next().unwrap().trim().trim_end_matches('`').to_owned();
            (reason, cells.next().unwrap().trim().to_owned())
        })
        .collect();
    let actual: BTreeSet<_> =
        table().iter().map(|row| (row.reason.to_owned(), code_name(row.code))).collect();
    assert_eq!(documented, actual);
}

/// `docs/access.md` has a row for each call, with the roles that the vault decides by.
#[test]
fn access_is_documented() {
    let roles = |roles: &[Role]| match roles {
        [] => "every enrolled caller".to_owned(),
        roles => roles.iter().map(|role| format!("`{}`", role.as_str())).collect::<Vec<_>>().join(", "),
    };
    let expected: Vec<_> = Call::ALL
        .iter()
        .map(|call| {
            let about_the_vault = match call.roles_on_vault() {
                same if same == call.roles() => "the same".to_owned(),
                other => roles(other),
            };
            let entry = if call.unlogged().is_some() { "no" } else { "yes" };
            format!("| `{}` | {} | {about_the_vault} | {entry} |", call.as_str(), roles(call.roles()))
        })
        .collect();
    let docs = include_str!("../../docs/access.md");
    let documented: Vec<_> = docs.lines().filter(|line| line.starts_with("| `")).collect();
    assert_eq!(documented, expected);
}

/// Each call of the contract has its roles, and no other has.
#[test]
fn every_call_has_its_roles() {
    let pool = pool();
    let services = pool.services().filter(|s| s.package_name() == "sandyq.v1");
    let calls: BTreeSet<_> = services
        .flat_map(|s| s.methods().map(|m| format!("{}/{}", s.name(), m.name())).collect::<Vec<_>>())
        .collect();
    let known: BTreeSet<_> = Call::ALL.iter().map(|call| call.as_str().to_owned()).collect();
    assert_eq!(calls, known);
}

/// What answers with a proposal needs two people, and nothing else. An erasure needs them only beyond a budget, and of
/// rotations those of keys that are one for the whole installation.
#[test]
fn every_call_that_needs_two_answers_with_a_proposal() {
    let pool = pool();
    let mut found = BTreeSet::new();
    for service in pool.services().filter(|s| s.package_name() == "sandyq.v1") {
        for method in service.methods() {
            let outcomes =
                method.output().oneofs().flat_map(|o| o.fields().collect::<Vec<_>>()).collect::<Vec<_>>();
            if outcomes.iter().any(|field| field.name() == "proposal") {
                found.insert(format!("{}/{}", service.name(), method.name()));
            }
        }
    }
    let at_times = [Call::EraseSubject, Call::RotateKey];
    let needs = Call::ALL.iter().filter(|call| call.needs_two() || at_times.contains(call));
    assert_eq!(found, needs.map(|call| call.as_str().to_owned()).collect());
    assert!(!Call::ApproveProposal.needs_two(), "an approval is never proposed");
}

/// The code as the protocol writes it: `INVALID_ARGUMENT` of `InvalidArgument`.
fn code_name(code: tonic::Code) -> String {
    let mut name = String::new();
    for c in format!("{code:?}").chars() {
        if c.is_ascii_uppercase() && !name.is_empty() {
            name.push('_');
        }
        name.push(c.to_ascii_uppercase());
    }
    name
}

#[tokio::test(flavor = "multi_thread")]
async fn health_is_told_per_service() {
    let served = Served::start().await;
    let mut client = HealthClient::new(served.channel("backend").await);
    for service in ["", "sandyq.v1.VaultService", "sandyq.v1.ConsentService", "sandyq.v1.AuditService"] {
        let request = HealthCheckRequest { service: service.into() };
        let answer = client.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    assert!(client.check(HealthCheckRequest { service: "nothing".into() }).await.is_err());
    served.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reflection_lists_the_services() {
    use tonic_reflection::pb::v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let served = Served::start().await;
    let mut client = ServerReflectionClient::new(served.channel("backend").await);
    let request = ServerReflectionRequest {
        host: String::new(),
        message_request: Some(MessageRequest::ListServices(String::new())),
    };
    let mut answers = client.server_reflection_info(tokio_stream::once(request)).await.unwrap().into_inner();
    let answer = answers.message().await.unwrap().unwrap().message_response.unwrap();
    let MessageResponse::ListServicesResponse(list) = answer else { panic!("another answer") };
    let names: BTreeSet<_> = list.service.into_iter().map(|s| s.name).collect();
    for service in ["sandyq.v1.VaultService", "sandyq.v1.ConsentService", "sandyq.v1.AuditService"] {
        assert!(names.contains(service), "{service}");
    }
    served.running.stop().await.unwrap();
}
