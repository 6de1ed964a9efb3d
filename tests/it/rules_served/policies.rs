//! What no policy may say: a version that says it is not applied, and the one beside it could be.

use super::{go, next_version, refused, with};
use crate::common::backend::{Backend, on_both};

on_both!(r2_r3_r21_r22_r29_r31_r32_r48_r53_no_version_loosens_a_rule);
async fn r2_r3_r21_r22_r29_r31_r32_r48_r53_no_version_loosens_a_rule(backend: Backend) {
    let paying = "callers = [\"payments\"]";
    let answers = "[responsible]\noffice = \"DPO\"\ncontact = \"dpo@lerna.kz\"\nclause = \"14\"\n\n[subject]";
    let iin = "name = \"iin\"\ntype = \"iin\"\ncategory = \"ordinary\"";
    let risky = |dpia: &str| format!("{paying}\nhigh_risk = true{dpia}");
    let rows = [
        // R2: how a field is tied to its purpose, and what it is.
        (
            "{ name = \"iin\", given = \"stated\",",
            "{ name = \"iin\",",
            "given is missing",
            "{ name = \"iin\", given = \"inferred\",",
        ),
        (iin, "name = \"iin\"\ntype = \"iin\"", "category is missing", iin),
        // R3: neither a contract nor an interest opens a value.
        (
            "basis = { kind = \"consent\"",
            "basis = { kind = \"contract\"",
            "is no basis in Kazakhstan",
            "basis = { kind = \"consent\"",
        ),
        // R21: no card (5.4, 9.2), nothing biometric (5.2).
        (iin, "name = \"iin\"\ntype = \"card_number\"\ncategory = \"ordinary\"", "rule R21", iin),
        (iin, "name = \"iin\"\ntype = \"iin\"\ncategory = \"biometric\"", "ban biometric", iin),
        // R22: a hash is no view.
        ("views = [\"full\", \"masked\"]", "views = [\"hash\"]", "not a known view", "views = [\"masked\"]"),
        // R29: for whom a representative acts (8.1(а)), and from which age people are taken (2.1).
        (
            "represented = { who = [\"incapacitated_adult\"], clause = \"8.1(а)\" }\n",
            "",
            "for whom a representative may act",
            "represented = { who = [\"incapacitated_adult\"], clause = \"2.1\" }\n",
        ),
        ("min_age = 18", "min_age = \"operator-must-set\"", "18 is the stricter choice", "min_age = 21"),
        // R32: an address does not find out who somebody is (10.2).
        (
            "{ name = \"purchases\", given",
            "{ name = \"ip_address\", given",
            "ban ip_identity",
            "{ name = \"purchases\", given",
        ),
        // R53: no words beside the rules.
        (
            paying,
            "disclaimer = true\ncallers = [\"payments\"]",
            "unknown key",
            "callers = [\"payments\", \"backend\"]",
        ),
    ];
    with(&backend, "lerna", async |life| {
        for (from, wrong, rule, right) in rows {
            refused(life, from, wrong, rule, right).await;
        }
        // R31: what a person wrote has no recipients (9.1).
        let contractor = "clause = \"9.1\", encrypted = true, fields = [\"surname\", \"first_name\", \"email\", \"phone\"] },";
        let written = contractor.replace("\"phone\"]", "\"phone\", \"message\"]");
        refused(life, contractor, &written, "correspondence", contractor).await;
        // R48: what is risky was assessed, and somebody answers for it.
        let answered = next_version(life, &[("[subject]", answers)]);
        life.policy.text = answered;
        refused(life, paying, &risky(""), "dpia = the number", &risky("\ndpia = \"DPIA-2026/3\"")).await;
    })
    .await;
}

on_both!(r23_an_image_is_kept_once_a_purpose_names_it_and_for_that_purpose);
async fn r23_an_image_is_kept_once_a_purpose_names_it_and_for_that_purpose(backend: Backend) {
    // 2.3 collects images of documents and ties them to no purpose (C-T16).
    let image = |kind: &str| {
        format!(
            "[[field]]\nname = \"id_image\"\ntype = \"{kind}\"\ncategory = \"ordinary\"\n\
             collected_by = [\"backend\"]\nclause = \"2.3\"\n"
        )
    };
    let purpose = "[[purpose]]\nname = \"id_check\"\nclause = \"2.2(1)\"\nbasis = { kind = \"consent\", clause = \"2.6\" }\n\
                   retention = { clause = \"2.5\" }\nseparate = true\ncallers = [\"backend\"]\nviews = [\"full\"]\n\
                   fields = [{ name = \"id_image\", given = \"stated\", clause = \"2.3\" }]\n";
    let ban = "[[ban]]\nwhat = \"onward_transfer\"";
    let with_ban = |more: &str| format!("{more}\n{ban}");
    with(&backend, "aitube", async |life| {
        go(life, "backend | sign_up = { fields = [\"email\"] } | ok").await;
        go(life, "backend | upload = { field = \"id_image\", side = \"front\" } | FIELD_NOT_ALLOWED").await;
        let named = with_ban(&(image("document_image") + "\n" + purpose));
        let face = with_ban(&(image("face_image") + "\n" + purpose));
        refused(life, ban, &with_ban(&image("document_image")), "no purpose uses it", &named).await;
        refused(life, ban, &face, "an image of a face has the category biometric", &named).await;
        let add = image("document_image") + "\n" + purpose;
        go(
            life,
            &format!(
                r#"
                staff | policy = {{ number = 2, effective = "2027-03-01", add = {add:?} }} | ok
                + 8 days
                backend | upload = {{ field = "id_image", side = "front" }} | ok
                backend | download = {{ field = "id_image", side = "front", purpose = "id_check" }} | CONSENT_MISSING
                backend | consent = {{ to = "id_check", fields = ["id_image"], policy_version = 2 }} | ok
                backend | download = {{ field = "id_image", side = "front", purpose = "id_check" }} | ok
                backend | download = {{ field = "id_image", side = "front", purpose = "service" }} | FIELD_NOT_ALLOWED
                "#
            ),
        )
        .await;
    })
    .await;
}

on_both!(r24_an_image_comes_from_a_source_that_is_named_and_with_its_paper);
async fn r24_an_image_comes_from_a_source_that_is_named_and_with_its_paper(backend: Backend) {
    // 2.4: third parties may enrich what is held, by contract.
    let add = "[[field]]\nname = \"id_image\"\ntype = \"document_image\"\ncategory = \"ordinary\"\nclause = \"2.3, 2.4\"\n\
               sources = [\"subject\", \"partner\"]\ncollected_by = [\"backend\"]\n\n\
               [[purpose]]\nname = \"id_check\"\nclause = \"2.2(1)\"\nbasis = { kind = \"consent\", clause = \"2.6\" }\n\
               retention = { clause = \"2.5\" }\nseparate = true\ncallers = [\"backend\"]\nviews = [\"full\"]\n\
               fields = [{ name = \"id_image\", given = \"stated\", clause = \"2.3\" }]\n";
    with(&backend, "aitube", async |life| {
        go(
            life,
            &format!(
                r#"
                backend | sign_up = {{ fields = ["email"] }} | ok
                staff | policy = {{ number = 2, effective = "2027-03-01", add = {add:?} }} | ok
                + 8 days
                backend | upload = {{ field = "id_image", side = "front", source = "state_database", source_reference = "EGOV-17" }} | SOURCE_NOT_ALLOWED
                backend | upload = {{ field = "id_image", side = "front", source = "partner" }} | INVALID_FIELDS
                backend | upload = {{ field = "id_image", side = "front", source = "partner", source_reference = "ask Aliya" }} | INVALID_FIELDS
                backend | upload = {{ field = "id_image", side = "front", source = "partner", evidence = "ACT-17" }} | INVALID_FIELDS
                backend | upload = {{ field = "id_image", side = "front", source = "partner", evidence = "ACT-17", source_reference = "LIST-17" }} | INVALID_FIELDS
                backend | upload = {{ field = "id_image", side = "front", evidence = "ACT-17" }} | INVALID_FIELDS
                backend | upload = {{ field = "id_image", side = "front" }} | ok
                "#
            ),
        )
        .await;
        life.entries().await;
        go(
            life,
            r#"
            backend | upload = { field = "id_image", side = "back", source = "partner", source_reference = "LIST-17" } | ok
            backend | upload = { field = "id_image", side = "back", source = "partner", replaces = 1 } | INVALID_FIELDS
            backend | upload = { field = "id_image", side = "back", source = "partner", replaces = 1, evidence = "ACT-18", source_reference = "LIST-18" } | INVALID_FIELDS
            backend | upload = { field = "id_image", side = "back", source = "partner", replaces = 1, evidence = "ACT-18" } | ok
            "#,
        )
        .await;
        // The entries that a version is stored by name the paper.
        let entries = life.entries().await;
        let stored = entries.iter().filter(|entry| entry.object_kind == "document" && !entry.reference.is_empty());
        assert_eq!(stored.map(|entry| entry.reference.as_str()).collect::<Vec<_>>(), ["LIST-17", "ACT-18"]);
    })
    .await;
}
