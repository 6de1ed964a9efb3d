//! A database administrator edits rows behind the vault: nothing edited is believed, moved or swapped data does not
//! decrypt, and nobody's neighbour suffers.

use std::process::Command;

use crate::common::{
    backend::{Backend, on_both},
    people::iin,
    served::Served,
};

const DAMAGED: &str = "DATA_DAMAGED";

/// Stores two people, runs an edit against the first one's rows, and says what reading the first IIN gives now. The
/// second person must stay readable.
async fn after_edit(backend: &Backend, sql: &'static str) -> Result<String, String> {
    let served = Served::start_on(&backend.fresh().await).await;
    let (first, second) = (served.store(1).await, served.store(2).await);
    assert!(served.sql(sql).await > 0, "the edit changed nothing: {sql}");
    let outcome = served.read("payments", "payments", first.token("iin")).await;
    assert_eq!(served.read("payments", "payments", second.token("iin")).await, Ok(iin(2)), "{sql}");
    served.running.stop().await.unwrap();
    outcome
}

/// The rows of the first person; `min(rowid)` does not exist in tables without row ids.
macro_rules! first {
    ($table:literal, $set:literal) => {
        first!($table, $set, "1 = 1")
    };
    ($table:literal, $set:literal, $and:literal) => {
        concat!(
            "UPDATE ",
            $table,
            " SET ",
            $set,
            " WHERE ",
            $and,
            " AND subject_id = (SELECT subject_id FROM subjects ORDER BY created_at LIMIT 1)"
        )
    };
}

macro_rules! first_tokens {
    ($set:literal) => {
        concat!(
            "UPDATE tokens SET ",
            $set,
            " WHERE record_id IN (SELECT record_id FROM records WHERE field = 'iin' AND subject_id = ",
            "(SELECT subject_id FROM subjects ORDER BY created_at LIMIT 1))"
        )
    };
}

on_both!(an_edited_row_that_grants_is_not_believed);
async fn an_edited_row_that_grants_is_not_believed(backend: Backend) {
    for sql in [
        first_tokens!("created_at = created_at + 1"),
        first_tokens!("state = 'revoked'"),
        first_tokens!("token_id = x'00112233445566778899aabbccddeeff'"),
        // The token of one person, pointed at the record of another.
        first_tokens!(
            "record_id = (SELECT record_id FROM records WHERE field = 'iin' AND subject_id = \
             (SELECT subject_id FROM subjects ORDER BY created_at DESC LIMIT 1))"
        ),
        // The token of an IIN, pointed at the same person's phone.
        first_tokens!(
            "record_id = (SELECT record_id FROM records WHERE field = 'phone' AND subject_id = \
             (SELECT subject_id FROM subjects ORDER BY created_at LIMIT 1))"
        ),
        first!("consents", "expires_at = given_at + 1000000000000000"),
        first!("consents", "given_at = given_at + 1"),
        first!("consents", "purpose = 'payments', fields = 'email,iin,phone'", "purpose = 'request_comms'"),
        first!("consents", "fields = 'first_name,iin,phone,surname'", "purpose = 'payments'"),
        first!("consents", "third_party_transfer = 0"),
        first!("consents", "policy_version = 9"),
        first!("consents", "channel = 'sms', sender = 'operator'", "purpose = 'payments'"),
        first!("consents", "text_sha256 = zeroblob(32)"),
        first!("consents", "mac = zeroblob(32)", "purpose = 'payments'"),
        first!("subjects", "state = 'restricted', restriction_trigger = 'legal_hold', review_at = 1"),
        first!("subjects", "created_at = created_at - 1"),
        first!("subjects", "mac = zeroblob(32)"),
        first!("records", "created_at = created_at + 1", "field = 'iin'"),
        first!("records", "field = 'iin_', state = 'current'", "field = 'iin'"),
        first!("records", "mac = zeroblob(32)", "field = 'iin'"),
        // Rows that cannot be at all: no name, a number out of range, an empty list, no current record.
        first!("records", "field = 'IIN!'", "field = 'iin'"),
        first!("records", "version = 1099511627776", "field = 'iin'"),
        first!("records", "state = 'superseded'", "field = 'iin'"),
        first!("consents", "fields = ''"),
        first!("consents", "site = 'NOT A SITE'"),
        first!("subjects", "index_version = -1"),
        first_tokens!("record_id = x'00112233445566778899aabbccddeeff'"),
    ] {
        let outcome = after_edit(&backend, sql).await;
        assert_eq!(outcome, Err(DAMAGED.into()), "{sql}");
    }
}

on_both!(r27_a_moved_cut_or_changed_ciphertext_does_not_decrypt);
async fn r27_a_moved_cut_or_changed_ciphertext_does_not_decrypt(backend: Backend) {
    for sql in [
        first!("records", "sealed_value = zeroblob(0)", "field = 'iin'"),
        first!("records", "sealed_value = x'01'", "field = 'iin'"),
        first!(
            "records",
            "sealed_value = substr(sealed_value, 1, length(sealed_value) - 1)",
            "field = 'iin'"
        ),
        first!("records", "sealed_value = CAST(sealed_value || x'00' AS BLOB)", "field = 'iin'"),
        first!("records", "sealed_value = CAST(x'02' || substr(sealed_value, 2) AS BLOB)", "field = 'iin'"),
        first!("records", "sealed_value = zeroblob(length(sealed_value))", "field = 'iin'"),
        // The other person's IIN in this person's place.
        first!(
            "records",
            "sealed_value = (SELECT sealed_value FROM records WHERE field = 'iin' AND subject_id = \
             (SELECT subject_id FROM subjects ORDER BY created_at DESC LIMIT 1))",
            "field = 'iin'"
        ),
        // The same person's surname in the place of the IIN.
        first!(
            "records",
            "sealed_value = (SELECT sealed_value FROM records r WHERE r.field = 'surname' AND r.subject_id = \
             (SELECT subject_id FROM subjects ORDER BY created_at LIMIT 1))",
            "field = 'iin'"
        ),
        first!("subjects", "wrapped_key = zeroblob(20)"),
        first!("subjects", "wrapped_key = CAST(x'010200000009' || substr(wrapped_key, 7) AS BLOB)"),
        first!(
            "subjects",
            "wrapped_key = (SELECT wrapped_key FROM subjects ORDER BY created_at DESC LIMIT 1)"
        ),
    ] {
        assert_eq!(after_edit(&backend, sql).await, Err(DAMAGED.into()), "{sql}");
    }
}

on_both!(a_withdrawal_cannot_be_undone_in_the_database);
async fn a_withdrawal_cannot_be_undone_in_the_database(backend: Backend) {
    use sandyq::grpc::pb;
    let served = Served::start_on(&backend.fresh().await).await;
    let person = served.store(1).await;
    let request = pb::WithdrawConsentRequest {
        request_id: crate::common::served::request_id(),
        consent_id: person.consents["payments"].clone(),
        ..pb::WithdrawConsentRequest::default()
    };
    served.consents("backend").await.withdraw_consent(request).await.unwrap();
    served.sql("UPDATE consents SET state = 'granted', withdrawn_at = NULL WHERE state = 'withdrawn'").await;
    let refused = served.read("payments", "payments", person.token("iin")).await;
    assert_eq!(refused, Err(DAMAGED.into()));
    served.running.stop().await.unwrap();
}

on_both!(an_edited_head_stops_the_platform_until_it_is_mended);
async fn an_edited_head_stops_the_platform_until_it_is_mended(backend: Backend) {
    for (edit, mend) in [
        ("UPDATE heads SET tighten_seq = tighten_seq + 1", "UPDATE heads SET tighten_seq = tighten_seq - 1"),
        ("UPDATE heads SET size = size - 1", "UPDATE heads SET size = size + 1"),
    ] {
        let served = Served::start_on(&backend.fresh().await).await;
        let person = served.store(1).await;
        served.sql(edit).await;
        let refused = served.read("payments", "payments", person.token("iin")).await;
        assert_eq!(refused, Err("UNAVAILABLE".into()), "{edit}");
        served.sql(mend).await;
        assert!(served.read("payments", "payments", person.token("iin")).await.is_ok(), "{mend}");
        served.running.stop().await.unwrap();
    }
}

on_both!(edited_configuration_rows_keep_the_vault_closed);
/// What is read only at start: edited, it keeps the vault closed, and the message says what does not hold.
async fn edited_configuration_rows_keep_the_vault_closed(backend: Backend) {
    for (sql, expected) in [
        ("UPDATE callers SET roles = 'service,auditor' WHERE name = 'payments'", "table callers"),
        ("UPDATE callers SET name = 'payments2' WHERE name = 'payments'", "table callers"),
        (
            "INSERT INTO callers SELECT 'spiffe://lerna.kz/intruder', x'00112233445566778899aabbccddeeff', platform_id, \
             'intruder', roles, pins, person_id, state, created_at, updated_at, mac FROM callers WHERE name = 'payments'",
            "table callers",
        ),
        ("UPDATE policies SET text = replace(text, 'support', 'payments')", "table policies"),
        ("UPDATE key_versions SET state = 'retiring' WHERE kind = 'platform'", "no active platform key"),
        ("UPDATE key_versions SET created_at = 1 WHERE kind = 'index'", "table key_versions"),
        (
            "UPDATE key_versions SET wrapped = (SELECT wrapped FROM key_versions WHERE kind = 'row' LIMIT 1) \
             WHERE kind = 'platform'",
            "does not open under this root",
        ),
        (
            "UPDATE heads SET checkpoint = replace(checkpoint, 'lerna', 'other')",
            "not signed by the audit key",
        ),
        ("UPDATE heads SET config_epoch = config_epoch + 1", "does not match its MAC"),
        ("UPDATE audit_entries SET leaf_hash = zeroblob(32) WHERE position = 3", "stored leaves"),
        ("DELETE FROM audit_entries WHERE position = 3", "stored leaves"),
        ("UPDATE schema_version SET version = 0", "run `sandyq migrate`"),
        ("UPDATE schema_version SET version = 999, oldest_binary = 999", "a binary of schema 999 or newer"),
    ] {
        let served = Served::start_on(&backend.fresh().await).await;
        served.store(1).await;
        let config = served.file("sandyq.toml");
        served.sql(sql).await;
        served.running.stop().await.unwrap();
        let output = Command::new(env!("CARGO_BIN_EXE_sandyq"))
            .args(["serve", "--config"])
            .arg(config)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{sql}");
        assert!(stderr.contains(expected), "{sql}: {stderr}");
    }
}
