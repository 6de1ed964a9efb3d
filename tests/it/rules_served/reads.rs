//! What is read: what the policy declares, on a consent or a law.

use super::{answered, go, widened, with};
use crate::common::backend::{Backend, on_both};

on_both!(r1_r2_r39_nothing_is_read_that_the_policy_does_not_declare);
async fn r1_r2_r39_nothing_is_read_that_the_policy_does_not_declare(backend: Backend) {
    answered(
        &backend,
        "lerna",
        r#"
        backend | sign_up = { fields = ["surname", "first_name", "iin", "email", "preferences"], consents = [{ to = "payments", fields = ["surname", "iin"] }, { to = "offers", channel = "email", fields = ["preferences", "email"] }, { to = "marketing_mail", channel = "email", fields = ["email"] }] } | ok
        payments | read = { purpose = "payments", fields = ["iin", "surname"] } | ok
        payments | read = { purpose = "resale", fields = ["iin"] } | PURPOSE_NOT_DECLARED
        payments | read = { purpose = "payment", fields = ["iin"] } | PURPOSE_NOT_DECLARED
        payments | read = { purpose = "request_comms", fields = ["surname"] } | CALLER_NOT_ALLOWED
        stranger | read = { purpose = "payments", fields = ["iin"] } | CALLER_NOT_ALLOWED
        payments | read = { purpose = "payments", fields = ["iin"], view = "sex" } | VIEW_NOT_ALLOWED
        mailing | read = { purpose = "offers", channel = "email", fields = ["preferences", "email"] } | ok
        mailing | read = { purpose = "marketing_mail", channel = "email", fields = ["email"] } | ok
        mailing | read = { purpose = "marketing_mail", channel = "email", fields = ["preferences"] } | FIELD_NOT_ALLOWED
        mailing | read = { purpose = "marketing_mail", channel = "email", fields = ["iin"] } | TOKEN_NOT_FOUND
        mailing | read = { purpose = "other_services", fields = ["email"] } | PURPOSE_INERT
        backend | sign_up = { fields = ["other_data"] } | INVALID_FIELDS
        backend | consent = { to = "resale", fields = ["email"] } | INVALID_FIELDS
        backend | consent = { to = "marketing_mail", channel = "email", fields = ["iin"] } | INVALID_FIELDS
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
        mailing | read = { purpose = "marketing_mail", channel = "email", fields = ["email"] } | CONSENT_MISSING
        mailing | read = { purpose = "offers", channel = "email", fields = ["email"] } | CONSENT_MISSING
        credit | read = { purpose = "bank_credit", fields = ["email"] } | CONSENT_MISSING
        backend | consent = { to = "marketing_mail", channel = "email", fields = ["email"] } | ok
        mailing | read = { purpose = "marketing_mail", channel = "email", fields = ["email"] } | ok
        mailing | read = { purpose = "offers", channel = "email", fields = ["email"] } | CONSENT_MISSING
        analytics | read = { purpose = "site_analytics", fields = ["cookies"] } | CONSENT_MISSING
        backend | consent = { to = "audience_research", fields = ["cookies"] } | ok
        analytics | read = { purpose = "audience_research", fields = ["cookies"] } | ok
        analytics | read = { purpose = "site_analytics", fields = ["cookies"] } | CONSENT_MISSING
        backend | consent = { to = "site_analytics", fields = ["cookies", "ip_address"], until = "2028-06-01" } | ok
        analytics | read = { purpose = "site_analytics", fields = ["cookies", "ip_address"] } | ok
        + 120 days
        analytics | read = { purpose = "site_analytics", fields = ["cookies"] } | CONSENT_EXPIRED
        backend | withdraw = { purposes = ["marketing_mail"] } | ok
        mailing | read = { purpose = "marketing_mail", channel = "email", fields = ["email"] } | CONSENT_WITHDRAWN
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
        backend | sign_up = { fields = ["email", "ip_address", "referrer"], consents = [{ to = "site_analytics", fields = ["ip_address", "referrer"] }, { to = "offers", channel = "email", fields = ["email"] }] } | ok
        analytics | read = { purpose = "ad_stats", fields = ["ip_address"] } | PURPOSE_INERT
        analytics | read = { purpose = "ad_stats", fields = ["ip_address"], view = "masked" } | PURPOSE_INERT
        analytics | read = { purpose = "site_analytics", fields = ["ip_address", "referrer"] } | ok
        analytics | read = { purpose = "site_analytics", fields = ["email"] } | TOKEN_NOT_FOUND
        mailing | read = { purpose = "offers", channel = "email", fields = ["email"] } | ok
        mailing | read = { purpose = "offers", channel = "email", fields = ["ip_address"] } | TOKEN_NOT_FOUND
        backend | consent = { to = "offers", channel = "email", fields = ["ip_address"] } | INVALID_FIELDS
        staff | recipient = { name = "researcher", kind = "partner", purposes = ["ad_stats"], contract = "D-1", until = "2030-01-01" } | INVALID_FIELDS
        staff | recipient = { name = "researcher", kind = "partner", purposes = ["audience_research"], contract = "D-1", until = "2030-01-01" } | INVALID_FIELDS
        staff | recipient = { name = "letters", kind = "mailing", purposes = ["marketing_mail"], contract = "D-1", until = "2030-01-01" } | ok
        "#,
    )
    .await;
}

on_both!(r5_each_channel_and_sender_is_consented_to_and_withdrawn_by_itself);
async fn r5_each_channel_and_sender_is_consented_to_and_withdrawn_by_itself(backend: Backend) {
    // 7.1(г): letters and calls, each with a consent of its own (Law 94-V, Articles 7(6), 15), in the operator's name alone.
    with(&backend, "lerna", async |life| {
        go(
            life,
            r#"
            backend | sign_up = { fields = ["email", "phone", "first_name"], consents = [{ to = "marketing_mail", channel = "email", fields = ["email", "first_name"], third_parties = true }, { to = "bank_credit", fields = ["email"] }] } | ok
            mailing | read = { purpose = "marketing_mail", fields = ["email"] } | CHANNEL_REQUIRED
            mailing | read = { purpose = "marketing_mail", channel = "sms", fields = ["phone"] } | CHANNEL_NOT_ALLOWED
            mailing | read = { purpose = "marketing_mail", channel = "email", fields = ["phone"] } | CHANNEL_NOT_ALLOWED
            mailing | read = { purpose = "marketing_mail", channel = "email", sender = "bank", fields = ["email"] } | SENDER_NOT_ALLOWED
            mailing | read = { purpose = "marketing_mail", channel = "email", fields = ["email", "first_name"] } | ok
            mailing | read = { purpose = "marketing_mail", channel = "call", fields = ["first_name"] } | CHANNEL_CONSENT_MISSING
            mailing | read = { purpose = "marketing_mail", channel = "call", fields = ["phone"] } | CONSENT_MISSING
            credit | read = { purpose = "bank_credit", channel = "email", fields = ["email"] } | CHANNEL_NOT_ALLOWED
            backend | consent = { to = "marketing_mail", fields = ["email"] } | INVALID_FIELDS
            backend | consent = { to = "marketing_mail", channel = "sms", fields = ["phone"] } | INVALID_FIELDS
            backend | consent = { to = "marketing_mail", channel = "email", fields = ["email", "phone"] } | INVALID_FIELDS
            backend | consent = { to = "marketing_mail", channel = "email", sender = "bank", fields = ["email"] } | INVALID_FIELDS
            backend | consent = { to = "bank_credit", channel = "email", fields = ["email"] } | INVALID_FIELDS
            staff | recipient = { name = "letters", kind = "mailing", purposes = ["marketing_mail"], contract = "D-1", until = "2030-01-01", has_key = true } | ok
            mailing | release = { purpose = "marketing_mail", fields = ["email"], recipient = "letters" } | CHANNEL_REQUIRED
            mailing | release = { purpose = "marketing_mail", channel = "email", fields = ["email"], recipient = "letters" } | ok
            backend | consent = { to = "marketing_mail", channel = "call", fields = ["phone", "first_name"] } | ok
            mailing | read = { purpose = "marketing_mail", channel = "call", fields = ["phone", "first_name"] } | ok
            backend | withdraw = { purposes = ["marketing_mail by call"] } | ok
            mailing | read = { purpose = "marketing_mail", channel = "call", fields = ["phone", "first_name"] } | CONSENT_WITHDRAWN
            mailing | read = { purpose = "marketing_mail", channel = "email", fields = ["email", "first_name"] } | ok
            + 15 days
            staff | sweep = {} | ok
            staff | held = { state = "active", fields = ["email", "first_name"] } | ok
            "#,
        )
        .await;
        // A version that names a bank as a sender, and the channels of another purpose: no older consent is for them.
        let calls = "{ name = \"call\", given = \"stated\", clause = \"7.1(г)\" },\n]";
        let bank = "senders = [{ name = \"operator\", clause = \"7.1(г)\" }, { name = \"bank\", clause = \"9.1\" }]";
        let credit = "name = \"bank_credit\"";
        let letters = "channels = [{ name = \"email\", given = \"stated\", clause = \"1\" }, { name = \"call\", given = \"stated\", clause = \"1\" }]";
        let changes = [(calls, format!("{calls}\n{bank}")), (credit, format!("{credit}\n{letters}"))];
        widened(life, &changes.each_ref().map(|(from, to)| (*from, to.as_str()))).await;
        go(
            life,
            r#"
            credit | read = { purpose = "bank_credit", fields = ["email"] } | CHANNEL_REQUIRED
            credit | read = { purpose = "bank_credit", channel = "email", fields = ["email"] } | CHANNEL_CONSENT_MISSING
            mailing | read = { purpose = "marketing_mail", channel = "email", sender = "bank", fields = ["email"] } | SENDER_CONSENT_MISSING
            backend | consent = { to = "marketing_mail", channel = "email", sender = "bank", fields = ["email"] } | INVALID_FIELDS
            backend | consent = { to = "marketing_mail", channel = "email", sender = "bank", fields = ["email"], policy_version = 2 } | ok
            mailing | read = { purpose = "marketing_mail", channel = "email", sender = "bank", fields = ["email"] } | ok
            backend | withdraw = { purposes = ["marketing_mail by email"] } | ok
            mailing | read = { purpose = "marketing_mail", channel = "email", fields = ["email"] } | CONSENT_WITHDRAWN
            mailing | read = { purpose = "marketing_mail", channel = "email", sender = "operator", fields = ["email"] } | CONSENT_WITHDRAWN
            mailing | read = { purpose = "marketing_mail", channel = "email", sender = "bank", fields = ["email"] } | ok
            "#,
        )
        .await;
    })
    .await;
}
