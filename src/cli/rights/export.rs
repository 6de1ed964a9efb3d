//! `sandyq rights export`: what is held of the person who asks, as JSON, as a page, or as values for another operator.

use std::{fs, io::Write as _, os::unix::fs::OpenOptionsExt as _, path::Path};

use serde_json::{Map, Value, json};
use zeroize::Zeroizing;

use super::{Which, page};
use crate::{
    cli::{
        client::rights,
        output::{Failure, Out, instant, refused},
        outreach,
        registers::code,
    },
    crypto::digest::sha256,
    grpc::pb,
};

pub(super) async fn run(
    which: Which,
    purpose: String,
    format: &str,
    language: &str,
    path: &Path,
    out: &mut Out,
) -> Result<(), Failure> {
    let request = pb::ExportCaseRequest { platform: which.at.platform, case_id: which.case, purpose };
    let answer = rights(which.at.client.connect().await?).export_case(request).await.map_err(refused)?;
    let export = answer.into_inner();
    let text = Zeroizing::new(match format {
        "html" => page::render(&export, language),
        "portable" => format!("{:#}\n", portable(&export)),
        _ => format!("{:#}\n", whole(&export)),
    });
    // It holds what the vault keeps from everybody else.
    let mut file = fs::File::options().create_new(true).write(true).mode(0o600).open(path)?;
    file.write_all(text.as_bytes())?;
    let hash = data_encoding::HEXLOWER.encode(&sha256(text.as_bytes()));
    let told = export.fields.iter().filter(|field| !field.value.is_empty()).count();
    let lines = [
        format!("export       {}", path.display()),
        format!("sha256       {hash}"),
        format!("fields       {} of {} with their values", told, export.fields.len()),
    ];
    let data = json!({
        "output": path, "sha256": hash, "fields": export.fields.len(), "values": told,
    });
    Ok(out.data(&data, &lines)?)
}

/// The person's own data for another operator: nothing of what this one does with them.
fn portable(export: &pb::ExportCaseResponse) -> Value {
    let full = |field: &&pb::ExportedField| field.view() == pb::View::Full;
    let values: Map<_, _> = export
        .fields
        .iter()
        .filter(full)
        .map(|field| {
            let value = json!({
                "type": field.field_type, "value": field.value, "source": source(field),
                "since": instant(field.hold_time.as_ref()),
            });
            (field.field.clone(), value)
        })
        .collect();
    let withheld: Vec<_> =
        export.fields.iter().filter(|field| !full(field)).map(|field| field.field.as_str()).collect();
    json!({
        "format": "sandyq-portable-1", "operator": export.operator, "operator_bin": export.operator_bin,
        "exported_at": instant(export.export_time.as_ref()), "data": values, "withheld": withheld,
    })
}

fn whole(export: &pb::ExportCaseResponse) -> Value {
    let case = export.case.clone().unwrap_or_default();
    json!({
        "format": "sandyq-access-1", "case_id": case.case_id, "reference": case.reference,
        "exported_at": instant(export.export_time.as_ref()), "operator": export.operator,
        "operator_bin": export.operator_bin, "policy_version": export.policy_version,
        "state": code(export.state().as_str_name(), "SUBJECT_STATE_"),
        "held_since": instant(export.create_time.as_ref()),
        "fields": export.fields.iter().map(field).collect::<Vec<_>>(),
        "consents": export.consents.iter().map(consent).collect::<Vec<_>>(),
        "disclosures": export.disclosures.iter().map(disclosure).collect::<Vec<_>>(),
        "more_disclosures": export.more_disclosures,
    })
}

pub(super) fn source(field: &pb::ExportedField) -> String {
    code(field.source().as_str_name(), "VALUE_SOURCE_")
}

fn field(field: &pb::ExportedField) -> Value {
    let purpose = |p: &pb::ExportedPurpose| {
        json!({
            "purpose": p.purpose, "clause": p.clause, "law": p.law, "basis_clause": p.basis_clause,
            "ends_at": instant(p.end_time.as_ref()), "ended": p.ended, "recipient_kinds": p.recipient_kinds,
        })
    };
    let shown = field.view() != pb::View::Unspecified;
    json!({
        "field": field.field, "type": field.field_type, "category": field.category,
        "value": shown.then_some(&field.value), "masked": field.view() == pb::View::Masked,
        "withheld": field.withheld, "version": field.record_version, "source": source(field),
        "accuracy": code(field.accuracy().as_str_name(), "ACCURACY_"),
        "since": instant(field.hold_time.as_ref()), "kept_until": instant(field.keep_time.as_ref()),
        "purposes": field.purposes.iter().map(purpose).collect::<Vec<_>>(),
    })
}

fn consent(consent: &pb::Consent) -> Value {
    let (channel, sender) = outreach::words(consent.outreach.as_ref()).unzip();
    json!({
        "consent_id": consent.consent_id, "purpose": consent.purpose, "fields": consent.fields,
        "state": code(consent.state().as_str_name(), "CONSENT_STATE_"),
        "given_at": instant(consent.give_time.as_ref()), "expires_at": instant(consent.expire_time.as_ref()),
        "withdrawn_at": instant(consent.withdraw_time.as_ref()), "policy_version": consent.policy_version,
        "channel": channel, "sender": sender,
    })
}

fn disclosure(d: &pb::Disclosure) -> Value {
    json!({
        "at": instant(d.disclose_time.as_ref()), "field": d.field, "purpose": d.purpose, "by": d.caller,
        "view": code(d.view().as_str_name(), "VIEW_"), "recipient": d.recipient, "reference": d.reference,
        "audit_entry_id": d.audit_entry_id,
    })
}
