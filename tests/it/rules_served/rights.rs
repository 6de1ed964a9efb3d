//! What a person may demand, by the law where the policy is silent.

use super::answered;
use crate::common::backend::{Backend, on_both};

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
