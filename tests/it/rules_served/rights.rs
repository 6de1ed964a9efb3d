//! What a person may demand, by the law where the policy is silent.

use sandyq::grpc::pb::{self, subject_service_client::SubjectServiceClient};

use super::{answered, go, with};
use crate::{
    common::backend::{Backend, on_both},
    scenarios::life::{Life, STAFF, came, told},
};

on_both!(r12_r35_r54_the_law_gives_what_the_policy_does_not_name);
async fn r12_r35_r54_the_law_gives_what_the_policy_does_not_name(backend: Backend) {
    // The text of experimentum.kz knows a withdrawal and nothing else (5.2). Monday, 1 March 2027: one working day for
    // corrections, blocks and erasures, three for information.
    answered(
        &backend,
        "experimentum",
        r#"
        backend | sign_up = { fields = ["email"], consents = [{ to = "account_verify", fields = ["email"] }] } | ok
        backend | event = { name = "first_login" } | ok
        staff | request = { kind = "access", channel = "email", due = "2027-03-04" } | ok
        staff | refuse = { reasons = ["no_automated_decision"], channel = "email", language = "ru" } | INVALID_FIELDS
        staff | request = { kind = "portability", channel = "email", due = "2027-03-04" } | ok
        staff | request = { kind = "objection", channel = "email", due = "2027-03-04" } | ok
        staff | request = { kind = "restriction", channel = "email", due = "2027-03-02" } | ok
        staff | request = { kind = "erasure", channel = "email", due = "2027-03-02" } | ok
        staff | refuse = { reasons = ["law_bars"], channel = "email", language = "ru" } | INVALID_FIELDS
        staff | request = { kind = "correction", channel = "email", due = "2027-03-02" } | ok
        staff | late = { kinds = [] } | ok
        staff | identify = { method = "one_time_code", evidence = "CODE-17" } | ok
        staff | begin = {} | ok
        staff | fulfil = {} | CASE_NOT_DONE
        staff | reply = { channel = "email", language = "ru" } | CASE_NOT_DONE
        support | correct = { field = "email", value = "a@example.kz", evidence = "DOC-17" } | CALLER_NOT_ALLOWED
        backend | correct = { field = "email", value = "a.synakova@example.kz", evidence = "DOC-17" } | ok
        staff | fulfil = {} | ok
        backend | read = { purpose = "account_verify", fields = ["email"] } | ok
        staff | reply = { channel = "email", language = "ru" } | ok
        + 2 days
        staff | late = { kinds = ["restriction", "erasure"] } | ok
        + 2 days
        staff | late = { kinds = ["restriction", "erasure", "access", "portability", "objection"] } | ok
        "#,
    )
    .await;
}

/// Marks a value; the reason of the refusal, or `ok`.
async fn mark(life: &Life<'_>, by: &str, field: &str, accuracy: pb::Accuracy, evidence: &str) -> String {
    let request = pb::MarkAccuracyRequest {
        request_id: life.served.request_id(),
        subject: Some(life.subject_name()),
        platform: life.platform_for(by),
        field: field.into(),
        accuracy: accuracy.into(),
        evidence: evidence.into(),
    };
    let mut subjects = SubjectServiceClient::new(life.channel(by).unwrap());
    came(told(subjects.mark_accuracy(request).await).map(drop))
}

/// The mark of the email with its evidence, as staff is told.
async fn marked(life: &Life<'_>) -> (pb::Accuracy, String) {
    let request =
        pb::GetSubjectRequest { subject: Some(life.subject_name()), platform: life.platform_for(STAFF) };
    let mut staff = SubjectServiceClient::new(life.channel(STAFF).unwrap());
    let subject = staff.get_subject(request).await.unwrap().into_inner().subject.unwrap();
    let held = subject.fields.iter().find(|held| held.field == "email").unwrap();
    assert_eq!(held.accuracy_time.is_some(), !held.accuracy_evidence.is_empty());
    (held.accuracy(), held.accuracy_evidence.clone())
}

on_both!(r35_a_value_is_marked_by_its_version);
async fn r35_a_value_is_marked_by_its_version(backend: Backend) {
    use pb::Accuracy::{Confirmed, Disputed, Unspecified, Unverified};
    // 6.6 and 8.1: a person says that the address is wrong, the platform corrects it, and somebody sees the paper.
    with(&backend, "lerna", async |life| {
        go(
            life,
            r#"
            backend | sign_up = { fields = ["email"], consents = [{ to = "request_comms", fields = ["email"] }] } | ok
            "#,
        )
        .await;
        assert_eq!(marked(life).await, (Unverified, String::new()));
        assert_eq!(mark(life, "support", "email", Disputed, "CASE-17").await, "CALLER_NOT_ALLOWED");
        for (field, accuracy, evidence) in [
            ("email", Unspecified, "CASE-17"),
            ("email", Disputed, ""),
            ("email", Disputed, "991231600002"),
            ("iin", Disputed, "CASE-17"),
            ("no such field", Disputed, "CASE-17"),
        ] {
            assert_eq!(mark(life, STAFF, field, accuracy, evidence).await, "INVALID_FIELDS", "{field}");
        }
        assert_eq!(marked(life).await, (Unverified, String::new()));
        assert_eq!(mark(life, STAFF, "email", Disputed, "CASE-17").await, "ok");
        assert_eq!(marked(life).await, (Disputed, "CASE-17".into()));
        // The mark stops no use; and what was disputed is not what the correction holds.
        go(
            life,
            r#"
            support | read = { purpose = "request_comms", fields = ["email"] } | ok
            + 1 hour
            backend | correct = { field = "email", value = "a.synakova@example.kz", evidence = "DOC-17" } | ok
            support | read = { purpose = "request_comms", fields = ["email"] } | ok
            "#,
        )
        .await;
        assert_eq!(marked(life).await, (Unverified, String::new()));
        assert_eq!(mark(life, "backend", "email", Confirmed, "DOC-17").await, "ok");
        assert_eq!(marked(life).await, (Confirmed, "DOC-17".into()));
        assert_eq!(mark(life, STAFF, "email", Unverified, "CASE-18").await, "ok");
        assert_eq!(marked(life).await, (Unverified, "CASE-18".into()));
    })
    .await;
}
