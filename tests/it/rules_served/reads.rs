//! What is read: what the policy declares, on a consent or a law.

use super::answered;
use crate::common::backend::{Backend, on_both};

on_both!(r1_r2_r39_nothing_is_read_that_the_policy_does_not_declare);
async fn r1_r2_r39_nothing_is_read_that_the_policy_does_not_declare(backend: Backend) {
    answered(
        &backend,
        "lerna",
        r#"
        backend | sign_up = { fields = ["surname", "first_name", "iin", "email", "preferences"], consents = [{ to = "payments", fields = ["surname", "iin"] }, { to = "offers", fields = ["preferences", "email"] }, { to = "marketing_mail", fields = ["email"] }] } | ok
        payments | read = { purpose = "payments", fields = ["iin", "surname"] } | ok
        payments | read = { purpose = "resale", fields = ["iin"] } | PURPOSE_NOT_DECLARED
        payments | read = { purpose = "payment", fields = ["iin"] } | PURPOSE_NOT_DECLARED
        payments | read = { purpose = "request_comms", fields = ["surname"] } | CALLER_NOT_ALLOWED
        stranger | read = { purpose = "payments", fields = ["iin"] } | CALLER_NOT_ALLOWED
        payments | read = { purpose = "payments", fields = ["iin"], view = "sex" } | VIEW_NOT_ALLOWED
        mailing | read = { purpose = "offers", fields = ["preferences", "email"] } | ok
        mailing | read = { purpose = "marketing_mail", fields = ["email"] } | ok
        mailing | read = { purpose = "marketing_mail", fields = ["preferences"] } | FIELD_NOT_ALLOWED
        mailing | read = { purpose = "marketing_mail", fields = ["iin"] } | TOKEN_NOT_FOUND
        mailing | read = { purpose = "other_services", fields = ["email"] } | PURPOSE_INERT
        backend | sign_up = { fields = ["other_data"] } | INVALID_FIELDS
        backend | consent = { to = "resale", fields = ["email"] } | INVALID_FIELDS
        backend | consent = { to = "marketing_mail", fields = ["iin"] } | INVALID_FIELDS
        backend | event = { name = "birthday" } | EVENT_NOT_DECLARED
        staff | recipient = { name = "affiliate", kind = "affiliate", purposes = ["payments"], contract = "D-1", until = "2030-01-01" } | INVALID_FIELDS
        "#,
    )
    .await;
}

on_both!(r3_r5_r43_r50_each_purpose_stands_on_a_consent_of_its_own_or_on_a_law);
async fn r3_r5_r43_r50_each_purpose_stands_on_a_consent_of_its_own_or_on_a_law(backend: Backend) {
    // 7.2, 7.1(г), 10.1; what was collected before is read on a consent alone, and requests of people (24) without one.
    answered(
        &backend,
        "lerna",
        r#"
        backend | sign_up = { fields = ["email", "phone", "cookies", "ip_address"] } | ok
        support | read = { purpose = "request_comms", fields = ["email"] } | CONSENT_MISSING
        support | read = { purpose = "request_comms", fields = ["email"], reference = "CONTRACT-1" } | CONSENT_MISSING
        rights | read = { purpose = "subject_requests", fields = ["email"] } | LEGAL_REFERENCE_MISSING
        rights | read = { purpose = "subject_requests", fields = ["email"], reference = "CASE-17" } | ok
        + 1 year
        backend | consent = { to = "request_comms", fields = ["email"], given = "2028-02-01" } | ok
        support | read = { purpose = "request_comms", fields = ["email"] } | ok
        support | read = { purpose = "request_comms", fields = ["phone"] } | CONSENT_MISSING
        mailing | read = { purpose = "marketing_mail", fields = ["email"] } | CONSENT_MISSING
        mailing | read = { purpose = "offers", fields = ["email"] } | CONSENT_MISSING
        credit | read = { purpose = "bank_credit", fields = ["email"] } | CONSENT_MISSING
        backend | consent = { to = "marketing_mail", fields = ["email"] } | ok
        mailing | read = { purpose = "marketing_mail", fields = ["email"] } | ok
        mailing | read = { purpose = "offers", fields = ["email"] } | CONSENT_MISSING
        analytics | read = { purpose = "site_analytics", fields = ["cookies"] } | CONSENT_MISSING
        backend | consent = { to = "audience_research", fields = ["cookies"] } | ok
        analytics | read = { purpose = "audience_research", fields = ["cookies"] } | ok
        analytics | read = { purpose = "site_analytics", fields = ["cookies"] } | CONSENT_MISSING
        backend | consent = { to = "site_analytics", fields = ["cookies", "ip_address"], until = "2028-06-01" } | ok
        analytics | read = { purpose = "site_analytics", fields = ["cookies", "ip_address"] } | ok
        + 120 days
        analytics | read = { purpose = "site_analytics", fields = ["cookies"] } | CONSENT_EXPIRED
        backend | withdraw = { purposes = ["marketing_mail"] } | ok
        mailing | read = { purpose = "marketing_mail", fields = ["email"] } | CONSENT_WITHDRAWN
        support | read = { purpose = "request_comms", fields = ["email"] } | ok
        "#,
    )
    .await;
}

on_both!(r22_r32_statistics_read_nobody_and_an_address_finds_nobody);
async fn r22_r32_statistics_read_nobody_and_an_address_finds_nobody(backend: Backend) {
    // 7.1(в), 9.6 and 10.2: what works on depersonalised data reads no person, in no view; an address serves analytics alone.
    answered(
        &backend,
        "lerna",
        r#"
        backend | sign_up = { fields = ["email", "ip_address", "referrer"], consents = [{ to = "site_analytics", fields = ["ip_address", "referrer"] }, { to = "offers", fields = ["email"] }] } | ok
        analytics | read = { purpose = "ad_stats", fields = ["ip_address"] } | PURPOSE_INERT
        analytics | read = { purpose = "ad_stats", fields = ["ip_address"], view = "masked" } | PURPOSE_INERT
        analytics | read = { purpose = "site_analytics", fields = ["ip_address", "referrer"] } | ok
        analytics | read = { purpose = "site_analytics", fields = ["email"] } | TOKEN_NOT_FOUND
        mailing | read = { purpose = "offers", fields = ["email"] } | ok
        mailing | read = { purpose = "offers", fields = ["ip_address"] } | TOKEN_NOT_FOUND
        backend | consent = { to = "offers", fields = ["ip_address"] } | INVALID_FIELDS
        staff | recipient = { name = "researcher", kind = "partner", purposes = ["ad_stats"], contract = "D-1", until = "2030-01-01" } | INVALID_FIELDS
        staff | recipient = { name = "researcher", kind = "partner", purposes = ["audience_research"], contract = "D-1", until = "2030-01-01" } | INVALID_FIELDS
        staff | recipient = { name = "letters", kind = "mailing", purposes = ["marketing_mail"], contract = "D-1", until = "2030-01-01" } | ok
        "#,
    )
    .await;
}
