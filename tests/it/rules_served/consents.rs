//! Who consents, how, and to what.

use sandyq::grpc::pb::{
    self, consent_service_client::ConsentServiceClient, vault_service_client::VaultServiceClient,
};

use super::{answered, go, widened, with};
use crate::{
    common::backend::{Backend, on_both},
    scenarios::{
        file::Agreed,
        life::{Life, came, told},
    },
};

/// A consent to letters with all that Article 8(4) asks for.
fn letters(life: &Life<'_>) -> pb::ConsentGrant {
    let fields = vec!["email".to_owned()];
    let channel = Some("email".to_owned());
    life.terms(&Agreed { to: "marketing_mail".into(), fields, channel, ..Agreed::default() }).unwrap()
}

on_both!(r4_r36_r51_a_consent_is_an_act_with_all_that_the_law_asks_for);
async fn r4_r36_r51_a_consent_is_an_act_with_all_that_the_law_asks_for(backend: Backend) {
    with(&backend, "lerna", async |life| {
        go(life, "backend | sign_up = { fields = [\"email\"] } | ok").await;
        let give = async |life: &Life<'_>, consent: pb::ConsentGrant| {
            let request = pb::GrantConsentRequest {
                request_id: life.served.request_id(),
                subject_reference: "person-1".into(),
                consent: Some(consent),
            };
            let mut backend = ConsentServiceClient::new(life.channel("backend").unwrap());
            came(told(backend.grant_consent(request).await).map(drop))
        };
        let lacking: [fn(&mut pb::ConsentGrant); 12] = [
            |c| c.subject_name.clear(),
            |c| c.purpose.clear(),
            |c| c.fields.clear(),
            |c| c.act = 0,
            |c| c.give_time = None,
            |c| c.third_party_transfer = None,
            |c| c.cross_border_transfer = None,
            |c| c.publication = None,
            |c| c.policy_version = 0,
            |c| c.language.clear(),
            |c| c.text_sha256.clear(),
            |c| c.site.clear(),
        ];
        for (at, lack) in lacking.into_iter().enumerate() {
            let mut consent = letters(life);
            lack(&mut consent);
            assert_eq!(give(life, consent).await, "INVALID_FIELDS", "{at}");
        }
        // 4.1 takes a tick; 5.1 names three sites; the text is there in Russian and Kazakh, and each has its hash.
        go(
            life,
            r#"
            mailing | read = { purpose = "marketing_mail", channel = "email", fields = ["email"] } | CONSENT_MISSING
            backend | consent = { to = "marketing_mail", channel = "email", fields = ["email"], act = "one_time_code" } | INVALID_FIELDS
            backend | consent = { to = "marketing_mail", channel = "email", fields = ["email"], act = "written" } | INVALID_FIELDS
            backend | consent = { to = "marketing_mail", channel = "email", fields = ["email"], site = "cap.kz" } | INVALID_FIELDS
            backend | consent = { to = "marketing_mail", channel = "email", fields = ["email"], language = "en" } | INVALID_FIELDS
            support | consent = { to = "marketing_mail", channel = "email", fields = ["email"] } | CALLER_NOT_ALLOWED
            mailing | read = { purpose = "marketing_mail", channel = "email", fields = ["email"] } | CONSENT_MISSING
            backend | consent = { to = "marketing_mail", channel = "email", fields = ["email"], site = "geekbrains.kz", language = "kk" } | ok
            mailing | read = { purpose = "marketing_mail", channel = "email", fields = ["email"] } | ok
            "#,
        )
        .await;
        assert_eq!(give(life, letters(life)).await, "ok");
    })
    .await;
}

on_both!(r24_r38_r41_a_partners_data_wait_and_a_withdrawal_does_not);
async fn r24_r38_r41_a_partners_data_wait_and_a_withdrawal_does_not(backend: Backend) {
    // 1.3, 1.4 and 5.2: a partner may supply names and no telemetry, nobody reads them before the person consents, and a
    // withdrawal binds before the access that it ends has ended.
    answered(
        &backend,
        "experimentum",
        r#"
        backend | sign_up = { fields = ["full_name"], source = "public" } | SOURCE_NOT_ALLOWED
        backend | sign_up = { fields = ["cookies"], source = "partner", proof = "LIST-17" } | SOURCE_NOT_ALLOWED
        backend | sign_up = { fields = ["full_name"], source = "partner" } | INVALID_FIELDS
        backend | sign_up = { fields = ["full_name"], source = "partner", proof = "ask Aliya" } | INVALID_FIELDS
        backend | sign_up = { fields = ["full_name"], source = "state_database" } | INVALID_FIELDS
        backend | sign_up = { fields = ["full_name"], source = "partner", proof = "LIST-17" } | ok
        backend | sign_up = { fields = ["email"] } | ok
        backend | event = { name = "first_login" } | ok
        licences | read = { purpose = "content_access", fields = ["full_name"] } | QUARANTINED
        licences | read = { purpose = "content_access", fields = ["email"] } | CONSENT_MISSING
        backend | consent = { to = "content_access", fields = ["full_name", "email"] } | ok
        licences | read = { purpose = "content_access", fields = ["full_name", "email"] } | ok
        + 1 day
        backend | withdraw = { purposes = ["content_access"] } | ok
        licences | read = { purpose = "content_access", fields = ["email"] } | CONSENT_WITHDRAWN
        licences | read = { purpose = "content_access", fields = ["full_name"] } | QUARANTINED
        licences | event = { name = "licence_end" } | ok
        licences | read = { purpose = "content_access", fields = ["email"] } | CONSENT_WITHDRAWN
        + 1 day
        backend | consent = { to = "content_access", fields = ["email"] } | ok
        licences | read = { purpose = "content_access", fields = ["email"] } | ok
        "#,
    )
    .await;
}

on_both!(r29_r37_people_are_those_whom_the_policy_takes);
async fn r29_r37_people_are_those_whom_the_policy_takes(backend: Backend) {
    use pb::SubjectKind::{Legal, Natural, Represented};
    // 2.1 and 8.1(а): adults, and adults who are not capable through a representative, who shows a paper. 3 of cap.kz:
    // natural persons, and nobody is represented.
    for (policy, kinds) in [("lerna", &[Natural, Represented][..]), ("cap", &[Natural])] {
        with(&backend.fresh().await, policy, async |life| {
            for kind in [Natural, Legal, Represented] {
                let request = pb::TokenizeRequest {
                    request_id: life.served.request_id(),
                    subject_reference: format!("person-{}", i32::from(kind)),
                    fields: vec![pb::FieldValue {
                        field: "email".into(),
                        value: "aliya@example.kz".into(),
                        ..pb::FieldValue::default()
                    }],
                    consents: Vec::new(),
                    subject_kind: kind.into(),
                };
                let mut backend = VaultServiceClient::new(life.channel("backend").unwrap());
                let stored = came(told(backend.tokenize(request).await).map(drop));
                let expected = if kinds.contains(&kind) { "ok" } else { "SUBJECT_KIND_NOT_ALLOWED" };
                assert_eq!(stored, expected, "{policy}: {kind:?}");
            }
            go(
                life,
                r#"
                staff | request = { kind = "access", channel = "site", requester = "representative" } | INVALID_FIELDS
                staff | request = { kind = "access", channel = "site", representation = "POWER-17" } | INVALID_FIELDS
                staff | request = { kind = "access", channel = "site", requester = "representative", representation = "POWER-17" } | ok
                "#,
            )
            .await;
        })
        .await;
    }
}

on_both!(r30_what_is_wider_asks_again_and_old_consents_keep_their_scope);
async fn r30_what_is_wider_asks_again_and_old_consents_keep_their_scope(backend: Backend) {
    with(&backend, "lerna", async |life| {
        go(
            life,
            r#"
            backend | sign_up = { fields = ["email", "iin"], consents = [{ to = "request_comms", fields = ["email"] }] } | ok
            support | read = { purpose = "request_comms", fields = ["email"] } | ok
            support | read = { purpose = "request_comms", fields = ["iin"] } | TOKEN_NOT_FOUND
            backend | consent = { to = "request_comms", fields = ["iin"] } | INVALID_FIELDS
            "#,
        )
        .await;
        let message = "    { name = \"message\", given = \"inferred\", clause = \"5.4(в)\" },\n";
        let wider = format!("{message}    {{ name = \"iin\", given = \"stated\", clause = \"5.4\" }},\n");
        widened(life, &[(message, &wider)]).await;
        // Going on using the site accepts the version (11.5), and no wider consent (C-L19).
        go(
            life,
            r#"
            support | read = { purpose = "request_comms", fields = ["email"] } | ok
            support | read = { purpose = "request_comms", fields = ["iin"] } | CONSENT_MISSING
            backend | consent = { to = "request_comms", fields = ["iin"], policy_version = 1 } | INVALID_FIELDS
            backend | consent = { to = "request_comms", fields = ["email", "iin"], policy_version = 1 } | INVALID_FIELDS
            backend | consent = { to = "request_comms", fields = ["iin"], policy_version = 3 } | INVALID_FIELDS
            backend | sign_up = { fields = ["iin"], consents = [{ to = "request_comms", fields = ["iin"], policy_version = 1 }] } | INVALID_FIELDS
            support | read = { purpose = "request_comms", fields = ["iin"] } | CONSENT_MISSING
            backend | consent = { to = "request_comms", fields = ["email"], policy_version = 1 } | ok
            backend | consent = { to = "request_comms", fields = ["iin"], policy_version = 2 } | ok
            support | read = { purpose = "request_comms", fields = ["iin"] } | ok
            "#,
        )
        .await;
    })
    .await;
}
