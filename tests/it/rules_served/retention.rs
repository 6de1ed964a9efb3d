//! How long: purposes end by their terms, and what nothing keeps is destroyed.

use sandyq::grpc::pb::{self, subject_service_client::SubjectServiceClient};

use super::{answered, go, widened, with};
use crate::{
    common::backend::{Backend, on_both},
    scenarios::life::{Life, STAFF, came, told},
};

on_both!(r6_r7_r8_a_purpose_ends_with_its_term_its_withdrawal_or_its_years);
async fn r6_r7_r8_a_purpose_ends_with_its_term_its_withdrawal_or_its_years(backend: Backend) {
    // The telephone goes with the term of its consent, the address fourteen days after the withdrawal, the IIN three years
    // after the payment, which the cap of 7.3 would cut a day before.
    answered(
        &backend,
        "lerna",
        r#"
        backend | sign_up = { fields = ["phone", "email", "iin"], consents = [{ to = "request_comms", fields = ["phone"], until = "2027-05-01" }, { to = "marketing_mail", channel = "email", fields = ["email"] }, { to = "payments", fields = ["iin"] }] } | ok
        payments | event = { name = "payment" } | ok
        + 1 day
        backend | consent = { to = "payments", fields = ["iin"] } | ok
        + 59 days
        support | read = { purpose = "request_comms", fields = ["phone"] } | ok
        + 2 days
        support | read = { purpose = "request_comms", fields = ["phone"] } | CONSENT_EXPIRED
        staff | sweep = {} | ok
        staff | held = { state = "active", fields = ["email", "iin"] } | ok
        backend | withdraw = { purposes = ["marketing_mail"] } | ok
        mailing | read = { purpose = "marketing_mail", channel = "email", fields = ["email"] } | CONSENT_WITHDRAWN
        + 13 days
        staff | sweep = {} | ok
        staff | held = { state = "active", fields = ["email", "iin"] } | ok
        + 1 day
        staff | sweep = {} | ok
        staff | held = { state = "active", fields = ["iin"] } | ok
        mailing | read = { purpose = "marketing_mail", channel = "email", fields = ["email"] } | TOKEN_NOT_FOUND
        + 1019 days
        payments | read = { purpose = "payments", fields = ["iin"] } | ok
        + 2 days
        payments | read = { purpose = "payments", fields = ["iin"] } | RETENTION_ENDED
        staff | sweep = {} | ok
        payments | read = { purpose = "payments", fields = ["iin"] } | TOKEN_NOT_FOUND
        "#,
    )
    .await;
}

/// Whoever signs up under version 2, which depersonalises what ends, then does this: what staff is told after the sweep that follows the
/// end of both consents, and what the log calls that end.
async fn ends(life: &mut Life<'_>, acts: &str, came: (&str, &[&str])) {
    ends_under(life, [2, 2], acts, came).await;
}

/// The same where the two consents name these versions; version 1 destroys.
async fn ends_under(life: &mut Life<'_>, of: [u32; 2], acts: &str, (told, logged): (&str, &[&str])) {
    widened(life, &[("kind = \"destruction\"", "kind = \"depersonalisation\"")]).await;
    let [paying, asking] = of;
    go(
        life,
        &format!(
            r#"
        + 1 hour
        backend | sign_up = {{ fields = ["iin", "email"], consents = [{{ to = "payments", fields = ["iin"], until = "2027-05-01", policy_version = {paying} }}, {{ to = "request_comms", fields = ["email"], until = "2027-05-01", policy_version = {asking} }}] }} | ok
        "#
        ),
    )
    .await;
    go(life, acts).await;
    life.entries().await;
    go(life, &format!("+ 62 days\nstaff | sweep = {{}} | ok\n{told}")).await;
    let mut calls: Vec<_> = life.entries().await.into_iter().map(|entry| entry.call).collect();
    calls.retain(|call| call.starts_with("Operation/") && call.contains("Subject"));
    assert_eq!(calls, logged, "{acts}");
}

/// The platform's reference leads no longer to what is left of a person.
const DEPERSONALISED: (&str, &[&str]) = (
    r#"staff | held = { state = "erased", fields = [] } | SUBJECT_NOT_FOUND"#,
    &["Operation/AnonymiseSubject", "Operation/DestroySubject"],
);
/// The reference leads to the evidence alone.
const DESTROYED: (&str, &[&str]) = (
    r#"staff | held = { state = "erased", fields = [] } | ok"#,
    &["Operation/EndSubject", "Operation/DestroySubject"],
);

on_both!(r8_what_expires_is_depersonalised_where_the_policy_says_so);
async fn r8_what_expires_is_depersonalised_where_the_policy_says_so(backend: Backend) {
    with(&backend, "lerna", async |life| {
        // Who asked for something else demanded nothing.
        let access = r#"backend | request = { kind = "access", channel = "email", reference = "IN-17" } | ok"#;
        ends(life, access, DEPERSONALISED).await;
        // The look-up by the same reference finds nobody: who comes back is a new subject.
        let before = life.subject.clone();
        go(
            life,
            r#"
            backend | sign_up = { fields = ["email"], consents = [{ to = "request_comms", fields = ["email"], policy_version = 2 }] } | ok
            "#,
        )
        .await;
        assert_ne!(life.subject, before);
    })
    .await;
}

on_both!(r8_what_anybody_demanded_to_destroy_is_not_depersonalised);
async fn r8_what_anybody_demanded_to_destroy_is_not_depersonalised(backend: Backend) {
    for demand in [
        r#"backend | withdraw = { purposes = ["request_comms"] } | ok"#,
        r#"backend | request = { kind = "erasure", channel = "email", reference = "IN-17" } | ok"#,
        r#"backend | request = { kind = "withdrawal", channel = "email", reference = "IN-17" } | ok"#,
        // An erasure that was called off was a demand too.
        "backend | erase = {} | ok\n+ 1 hour\nstaff | call_off = {} | ok",
    ] {
        with(&backend.fresh().await, "lerna", async |life| ends(life, demand, DESTROYED).await).await;
    }
}

on_both!(r8_who_consented_to_a_version_that_destroys_is_destroyed);
async fn r8_who_consented_to_a_version_that_destroys_is_destroyed(backend: Backend) {
    // What they asked for demands nothing.
    let access = r#"backend | request = { kind = "access", channel = "email", reference = "IN-17" } | ok"#;
    for of in [[1, 1], [2, 1], [1, 2]] {
        with(&backend.fresh().await, "lerna", async |life| ends_under(life, of, access, DESTROYED).await)
            .await;
    }
}

on_both!(r8_what_a_call_deleted_did_not_expire);
async fn r8_what_a_call_deleted_did_not_expire(backend: Backend) {
    let ban = "[[ban]]\nwhat = \"genetic\"";
    let image = format!(
        "[[field]]\nname = \"id_image\"\ntype = \"document_image\"\ncategory = \"ordinary\"\nclause = \"1\"\n\
         collected_by = [\"backend\"]\n\n[[purpose]]\nname = \"id_check\"\nclause = \"1\"\nseparate = true\n\
         basis = {{ kind = \"consent\", clause = \"1\" }}\nretention = {{ clause = \"1\" }}\ncallers = [\"backend\"]\n\
         views = [\"full\"]\nfields = [{{ name = \"id_image\", given = \"stated\", clause = \"1\" }}]\n\n{ban}"
    );
    with(&backend, "lerna", async |life| {
        let depersonalises = ("kind = \"destruction\"", "kind = \"depersonalisation\"");
        widened(life, &[depersonalises, (ban, &image)]).await;
        // The address has ended a month before the image, which a call deletes: nothing is left that could end.
        go(
            life,
            r#"
            + 1 hour
            backend | sign_up = { fields = ["email"], consents = [{ to = "request_comms", fields = ["email"], until = "2027-04-01", policy_version = 2 }, { to = "id_check", fields = ["id_image"], until = "2027-05-01", policy_version = 2 }] } | ok
            backend | upload = { field = "id_image", side = "front" } | ok
            + 32 days
            staff | sweep = {} | ok
            staff | held = { state = "active", fields = [] } | ok
            backend | delete_document = { field = "id_image" } | ok
            + 30 days
            staff | sweep = {} | ok
            "#,
        )
        .await;
        go(life, DESTROYED.0).await;
    })
    .await;
}

on_both!(r8_r11_a_block_stops_the_depersonalisation_too);
async fn r8_r11_a_block_stops_the_depersonalisation_too(backend: Backend) {
    let block = r#"staff | block = { trigger = "legal_hold", requester = "authority", review_after = "90 days", reference = "COURT-17" } | ok"#;
    let stays: (&str, &[&str]) =
        (r#"staff | held = { state = "restricted", fields = ["iin", "email"] } | ok"#, &[]);
    with(&backend, "lerna", async |life| {
        ends(life, block, stays).await;
        let (told, logged) = DEPERSONALISED;
        let lifted = r#"staff | unblock = { reference = "COURT-17/2" } | ok"#;
        go(life, &format!("{lifted}\n+ 1 hour\nstaff | sweep = {{}} | ok\n{told}")).await;
        let calls: Vec<_> = life.entries().await.into_iter().map(|entry| entry.call).collect();
        assert!(logged.iter().all(|call| calls.iter().any(|logged| logged == call)), "{calls:?}");
    })
    .await;
}

on_both!(r7_r9_r42_claims_outlive_the_licence_and_a_withdrawal_only_by_a_refusal_with_its_reason);
async fn r7_r9_r42_claims_outlive_the_licence_and_a_withdrawal_only_by_a_refusal_with_its_reason(
    backend: Backend,
) {
    // 5.1, 5.2: the product stops with the withdrawal; claims stand on a recorded refusal alone, and until the licence's
    // end is recorded the plan says that it is missing.
    answered(
        &backend,
        "experimentum",
        r#"
        backend | sign_up = { fields = ["email"], consents = [{ to = "content_access", fields = ["email"] }] } | ok
        backend | event = { name = "first_login" } | ok
        staff | plan = { rows = [{ field = "email", fate = "ends", purpose = "claims", month = "2030-03", missing = ["licence_end"] }] } | ok
        + 30 days
        legal | read = { purpose = "claims", fields = ["email"] } | LEGAL_REFERENCE_MISSING
        legal | read = { purpose = "claims", fields = ["email"], reference = "COURT-17" } | ok
        backend | withdraw = { purposes = ["content_access"] } | ok
        + 1 hour
        licences | read = { purpose = "content_access", fields = ["email"] } | CONSENT_WITHDRAWN
        legal | read = { purpose = "claims", fields = ["email"], reference = "COURT-17" } | RETENTION_ENDED
        sales | event = { name = "withdrawal_refused", bar = "obligation", ground = "D-17" } | CALLER_NOT_ALLOWED
        legal | event = { name = "withdrawal_refused" } | INVALID_FIELDS
        legal | event = { name = "withdrawal_refused", bar = "obligation" } | INVALID_FIELDS
        legal | event = { name = "withdrawal_refused", ground = "D-17" } | INVALID_FIELDS
        legal | event = { name = "withdrawal_refused", bar = "law", ground = "991231600002" } | INVALID_FIELDS
        legal | read = { purpose = "claims", fields = ["email"], reference = "COURT-17" } | RETENTION_ENDED
        legal | event = { name = "withdrawal_refused", bar = "obligation", ground = "D-17" } | ok
        licences | event = { name = "licence_end", bar = "obligation", ground = "D-17" } | INVALID_FIELDS
        + 1 hour
        legal | read = { purpose = "claims", fields = ["email"], reference = "COURT-17" } | ok
        licences | read = { purpose = "content_access", fields = ["email"] } | CONSENT_WITHDRAWN
        licences | event = { name = "licence_end" } | ok
        + 30 days
        staff | sweep = {} | ok
        staff | held = { state = "active", fields = ["email"], refused = ["obligation D-17"] } | ok
        staff | plan = { rows = [{ field = "email", fate = "ends", purpose = "claims", month = "2030-03" }] } | ok
        + 1100 days
        legal | read = { purpose = "claims", fields = ["email"], reference = "COURT-17" } | RETENTION_ENDED
        staff | sweep = {} | ok
        legal | read = { purpose = "claims", fields = ["email"], reference = "COURT-17" } | TOKEN_NOT_FOUND
        "#,
    )
    .await;
}

on_both!(r10_r49_a_dispute_holds_what_a_sweep_would_destroy);
async fn r10_r49_a_dispute_holds_what_a_sweep_would_destroy(backend: Backend) {
    answered(
        &backend,
        "lerna",
        r#"
        backend | sign_up = { fields = ["iin", "email"], consents = [{ to = "payments", fields = ["iin"] }, { to = "request_comms", fields = ["email"] }] } | ok
        staff | block = { trigger = "legal_hold", requester = "authority", review_after = "90 days", reference = "COURT-17" } | ok
        payments | read = { purpose = "payments", fields = ["iin"] } | SUBJECT_RESTRICTED
        backend | erase = {} | SUBJECT_RESTRICTED
        backend | withdraw = { purposes = ["payments"] } | ok
        + 30 days
        staff | sweep = {} | ok
        staff | held = { state = "restricted", fields = ["iin", "email"] } | ok
        staff | unblock = { reference = "COURT-17/2" } | ok
        support | read = { purpose = "request_comms", fields = ["email"] } | ok
        payments | read = { purpose = "payments", fields = ["iin"] } | CONSENT_WITHDRAWN
        + 1 hour
        staff | sweep = {} | ok
        staff | held = { state = "active", fields = ["email"] } | ok
        payments | read = { purpose = "payments", fields = ["iin"] } | TOKEN_NOT_FOUND
        "#,
    )
    .await;
}

on_both!(r52_a_profile_ends_with_what_it_was_computed_from);
async fn r52_a_profile_ends_with_what_it_was_computed_from(backend: Backend) {
    with(&backend, "lerna", async |life| {
        let plain = "name = \"preferences\"\ntype";
        let derived = "name = \"preferences\"\nderived_from = [\"purchases\"]\ntype";
        widened(life, &[(plain, derived)]).await;
        go(
            life,
            r#"
            + 1 hour
            backend | sign_up = { fields = ["purchases", "preferences"], consents = [{ to = "offers", channel = "email", fields = ["preferences"], policy_version = 2 }, { to = "offers", channel = "email", fields = ["purchases"], until = "2027-06-01", policy_version = 2 }] } | ok
            mailing | read = { purpose = "offers", channel = "email", fields = ["preferences", "purchases"] } | ok
            + 90 days
            mailing | read = { purpose = "offers", channel = "email", fields = ["preferences", "purchases"] } | ok
            + 5 days
            mailing | read = { purpose = "offers", channel = "email", fields = ["purchases"] } | CONSENT_EXPIRED
            mailing | read = { purpose = "offers", channel = "email", fields = ["preferences"] } | RETENTION_ENDED
            "#,
        )
        .await;
    })
    .await;
}

/// Who is blocked, as staff is told: whether each review is over.
async fn reviews(life: &Life<'_>, filter: pb::RestrictionFilter) -> Vec<bool> {
    let request = pb::ListRestrictionsRequest {
        platform: life.platform_for(STAFF),
        filter: filter.into(),
        ..pb::ListRestrictionsRequest::default()
    };
    let mut staff = SubjectServiceClient::new(life.channel(STAFF).unwrap());
    let listed = staff.list_restrictions(request).await.unwrap().into_inner();
    assert!(listed.subjects.iter().all(|blocked| Some(&blocked.subject_id) == life.subject.as_ref()));
    listed.subjects.iter().map(|blocked| blocked.overdue).collect()
}

on_both!(r11_a_block_is_told_from_its_day_of_review_on);
async fn r11_a_block_is_told_from_its_day_of_review_on(backend: Backend) {
    use pb::RestrictionFilter::{All, Overdue};
    // 6.5: a block is lifted where its trigger is not confirmed, and never ends by itself.
    with(&backend, "lerna", async |life| {
        go(
            life,
            r#"
            backend | sign_up = { fields = ["email"], consents = [{ to = "request_comms", fields = ["email"] }] } | ok
            staff | block = { trigger = "accuracy_disputed", requester = "subject", review_after = "30 days", reference = "CASE-17" } | ok
            + 29 days
            support | read = { purpose = "request_comms", fields = ["email"] } | SUBJECT_RESTRICTED
            "#,
        )
        .await;
        assert_eq!((reviews(life, All).await, reviews(life, Overdue).await), (vec![false], vec![]));
        go(
            life,
            r#"
            + 1 day
            support | read = { purpose = "request_comms", fields = ["email"] } | SUBJECT_RESTRICTED
            "#,
        )
        .await;
        assert_eq!((reviews(life, All).await, reviews(life, Overdue).await), (vec![true], vec![true]));
        let mut service = SubjectServiceClient::new(life.channel("backend").unwrap());
        let refused = told(service.list_restrictions(pb::ListRestrictionsRequest::default()).await);
        assert_eq!(came(refused.map(drop)), "CALLER_NOT_ALLOWED");
        // Decided anew: it stands, with a further day; and then it is lifted.
        go(
            life,
            r#"
            staff | block = { trigger = "accuracy_disputed", requester = "subject", review_after = "10 days", reference = "CASE-17" } | ok
            "#,
        )
        .await;
        assert_eq!((reviews(life, All).await, reviews(life, Overdue).await), (vec![false], vec![]));
        go(
            life,
            r#"
            + 11 days
            staff | unblock = { reference = "CASE-17" } | ok
            support | read = { purpose = "request_comms", fields = ["email"] } | ok
            "#,
        )
        .await;
        assert_eq!((reviews(life, All).await, reviews(life, Overdue).await), (vec![], vec![]));
    })
    .await;
}
