//! What leaves: to whom the purpose names, by its contract, sealed where the text says so, abroad by a consent to that.

use super::answered;
use crate::common::backend::{Backend, on_both};

on_both!(r16_r17_r20_r44_payments_go_sealed_to_whom_9_2_names_and_abroad_by_a_consent);
async fn r16_r17_r20_r44_payments_go_sealed_to_whom_9_2_names_and_abroad_by_a_consent(backend: Backend) {
    answered(
        &backend,
        "lerna",
        r#"
        backend | sign_up = { fields = ["surname", "first_name", "iin"], consents = [{ to = "payments", fields = ["surname", "first_name", "iin", "payment_status"], third_parties = true }] } | ok
        payments | sign_up = { fields = ["payment_status"] } | ok
        payments | read = { purpose = "payments", fields = ["iin"], recipient = "bank" } | RECIPIENT_UNKNOWN
        staff | recipient = { name = "bank", kind = "bank", country = "DE", purposes = ["payments"], contract = "D-1", until = "2028-01-01" } | INVALID_FIELDS
        staff | recipient = { name = "bank", kind = "bank", purposes = ["payments"], contract = "D-1", until = "2028-01-01", has_key = true } | ok
        staff | recipient = { name = "keyless", kind = "bank", purposes = ["payments"], contract = "D-2", until = "2028-01-01" } | ok
        staff | recipient = { name = "visa", kind = "payment_system", country = "US", purposes = ["payments"], contract = "D-3", until = "2030-01-01", safeguard = "unspecified" } | INVALID_FIELDS
        staff | recipient = { name = "visa", kind = "payment_system", country = "US", purposes = ["payments"], contract = "D-3", until = "2030-01-01", safeguard = "unspecified", paper = "SCC-17" } | INVALID_FIELDS
        staff | recipient = { name = "visa", kind = "payment_system", country = "US", purposes = ["payments"], contract = "D-3", until = "2030-01-01", safeguard = "treaty" } | INVALID_FIELDS
        staff | recipient = { name = "visa", kind = "payment_system", country = "US", purposes = ["payments"], contract = "D-3", until = "2030-01-01", safeguard = "subject_consent", paper = "SCC-17" } | INVALID_FIELDS
        staff | recipient = { name = "kaspi", kind = "bank", purposes = ["payments"], contract = "D-3", until = "2030-01-01", safeguard = "law", paper = "LAW-17" } | INVALID_FIELDS
        staff | recipient = { name = "visa", kind = "payment_system", country = "US", purposes = ["payments"], contract = "D-3", until = "2030-01-01", promised = ["confidentiality", "confidentiality"] } | INVALID_FIELDS
        staff | recipient = { name = "visa", kind = "payment_system", country = "US", purposes = ["payments"], contract = "D-3", until = "2030-01-01", safeguard = "contract_clauses", paper = "SCC-17", promised = ["confidentiality", "no_onward_transfer"], has_key = true } | ok
        payments | read = { purpose = "payments", fields = ["iin", "surname"], recipient = "bank" } | SEAL_REQUIRED
        payments | read = { purpose = "payments", fields = ["payment_status"], recipient = "bank" } | FIELD_NOT_ALLOWED
        payments | release = { purpose = "payments", fields = ["surname", "payment_status"], recipient = "bank" } | FIELD_NOT_ALLOWED
        payments | release = { purpose = "payments", fields = ["surname", "first_name", "iin"], recipient = "keyless" } | RECIPIENT_KEY_MISSING
        payments | release = { purpose = "payments", fields = ["surname", "first_name", "iin"], recipient = "bank" } | ok
        payments | release = { purpose = "payments", fields = ["surname", "first_name", "iin"], recipient = "visa" } | CROSS_BORDER
        backend | consent = { to = "payments", fields = ["surname", "first_name", "iin"], third_parties = true, abroad = true } | ok
        payments | release = { purpose = "payments", fields = ["surname", "first_name", "iin"], recipient = "visa" } | ok
        backend | consent = { to = "request_comms", fields = ["surname"], third_parties = true } | ok
        support | read = { purpose = "request_comms", fields = ["surname"], recipient = "bank" } | RECIPIENT_UNKNOWN
        + 300 days
        payments | read = { purpose = "payments", fields = ["iin"], recipient = "bank" } | SEAL_REQUIRED
        + 7 days
        payments | read = { purpose = "payments", fields = ["iin"], recipient = "bank" } | RECIPIENT_UNKNOWN
        payments | read = { purpose = "payments", fields = ["iin"], recipient = "visa" } | SEAL_REQUIRED
        staff | end_recipient = { name = "visa" } | ok
        payments | read = { purpose = "payments", fields = ["iin"], recipient = "visa" } | RECIPIENT_UNKNOWN
        payments | read = { purpose = "payments", fields = ["iin"] } | ok
        "#,
    )
    .await;
}

on_both!(r17_a_recipient_receives_in_its_dates_and_for_its_purposes_alone);
async fn r17_a_recipient_receives_in_its_dates_and_for_its_purposes_alone(backend: Backend) {
    // 8: contractors, with safeguards alone. Nothing but their registration, consents and kind being right, stands in the way.
    answered(
        &backend,
        "cap",
        r#"
        backend | sign_up = { fields = ["full_name"], consents = [{ to = "comms", fields = ["full_name"], third_parties = true }, { to = "education", fields = ["full_name"], third_parties = true }] } | ok
        staff | recipient = { name = "helper", kind = "contractor", purposes = ["comms"], contract = "", until = "2027-05-01" } | INVALID_FIELDS
        staff | recipient = { name = "helper", kind = "contractor", purposes = [], contract = "D-1", until = "2027-05-01" } | INVALID_FIELDS
        support | read = { purpose = "comms", fields = ["full_name"], recipient = "helper" } | RECIPIENT_UNKNOWN
        staff | recipient = { name = "helper", kind = "contractor", purposes = ["comms"], contract = "D-1", until = "2027-05-01" } | ok
        staff | recipient = { name = "school", kind = "contractor", purposes = ["comms", "education"], contract = "D-2", until = "2030-01-01" } | ok
        support | read = { purpose = "comms", fields = ["full_name"], recipient = "helper" } | ok
        education | read = { purpose = "education", fields = ["full_name"], recipient = "helper" } | RECIPIENT_UNKNOWN
        education | read = { purpose = "education", fields = ["full_name"], recipient = "school" } | ok
        + 60 days
        support | read = { purpose = "comms", fields = ["full_name"], recipient = "helper" } | ok
        + 2 days
        support | read = { purpose = "comms", fields = ["full_name"], recipient = "helper" } | RECIPIENT_UNKNOWN
        support | read = { purpose = "comms", fields = ["full_name"], recipient = "school" } | ok
        staff | end_recipient = { name = "school" } | ok
        support | read = { purpose = "comms", fields = ["full_name"], recipient = "school" } | RECIPIENT_UNKNOWN
        support | read = { purpose = "comms", fields = ["full_name"] } | ok
        "#,
    )
    .await;
}

on_both!(r5_a_release_says_by_which_channel_and_in_whose_name_people_are_reached);
async fn r5_a_release_says_by_which_channel_and_in_whose_name_people_are_reached(backend: Backend) {
    // Who writes letters for the operator opens what is stated for letters in its name.
    answered(
        &backend,
        "lerna",
        r#"
        backend | sign_up = { fields = ["email"], consents = [{ to = "marketing_mail", channel = "email", fields = ["email"], third_parties = true }] } | ok
        staff | recipient = { name = "letters", kind = "mailing", purposes = ["marketing_mail"], contract = "D-1", until = "2030-01-01", has_key = true } | ok
        mailing | release = { purpose = "marketing_mail", fields = ["email"], recipient = "letters" } | CHANNEL_REQUIRED
        mailing | release = { purpose = "marketing_mail", channel = "call", fields = ["email"], recipient = "letters" } | CHANNEL_NOT_ALLOWED
        mailing | release = { purpose = "marketing_mail", channel = "email", fields = ["email"], recipient = "letters" } | ok
        "#,
    )
    .await;
}

on_both!(r18_r19_state_bodies_get_what_they_lawfully_demand_and_nobody_else_gets_anything);
async fn r18_r19_state_bodies_get_what_they_lawfully_demand_and_nobody_else_gets_anything(backend: Backend) {
    // 6.2: nobody but state bodies, the partner of 1.3 neither; courts for claims alone (5.1).
    answered(
        &backend,
        "experimentum",
        r#"
        backend | sign_up = { fields = ["email"], consents = [{ to = "account_verify", fields = ["email"], third_parties = true }] } | ok
        backend | event = { name = "first_login" } | ok
        staff | recipient = { name = "partner", kind = "partner", purposes = ["account_verify"], contract = "D-1", until = "2030-01-01" } | INVALID_FIELDS
        staff | recipient = { name = "letters", kind = "mailing", purposes = ["account_verify"], contract = "D-1", until = "2030-01-01" } | INVALID_FIELDS
        staff | recipient = { name = "court", kind = "court", purposes = ["account_verify"], contract = "LAW-1", until = "2030-01-01" } | INVALID_FIELDS
        staff | recipient = { name = "court", kind = "court", purposes = ["claims"], contract = "LAW-1", until = "2030-01-01" } | ok
        staff | recipient = { name = "police", kind = "state", purposes = ["account_verify"], contract = "LAW-2", until = "2030-01-01" } | ok
        backend | read = { purpose = "account_verify", fields = ["email"], recipient = "police" } | LEGAL_REFERENCE_MISSING
        backend | read = { purpose = "account_verify", fields = ["email"], recipient = "police", reference = "DEMAND-17" } | ok
        backend | read = { purpose = "account_verify", fields = ["email"], recipient = "court", reference = "DEMAND-17" } | RECIPIENT_UNKNOWN
        legal | read = { purpose = "claims", fields = ["email"], recipient = "court" } | LEGAL_REFERENCE_MISSING
        legal | read = { purpose = "claims", fields = ["email"], recipient = "court", reference = "COURT-17" } | ok
        "#,
    )
    .await;
}

on_both!(r31_what_a_person_wrote_goes_to_nobody);
async fn r31_what_a_person_wrote_goes_to_nobody(backend: Backend) {
    // 4.1, 8: a contractor helps with support, and gets the name; 4.3 of aitube.kz says the same of messages.
    answered(
        &backend,
        "cap",
        r#"
        backend | sign_up = { fields = ["full_name", "support_request"], consents = [{ to = "comms", fields = ["full_name", "support_request"], third_parties = true }] } | ok
        staff | recipient = { name = "helper", kind = "contractor", purposes = ["comms"], contract = "D-1", until = "2030-01-01" } | ok
        support | read = { purpose = "comms", fields = ["support_request"] } | ok
        support | read = { purpose = "comms", fields = ["full_name"], recipient = "helper" } | ok
        support | read = { purpose = "comms", fields = ["support_request"], recipient = "helper" } | FIELD_NOT_ALLOWED
        "#,
    )
    .await;
}
