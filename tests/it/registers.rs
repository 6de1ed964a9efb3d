//! Registers: copies outside the vault until they are destroyed, and an export that holds offline.

use std::{
    collections::BTreeMap,
    path::Path,
    process::{Command, Output},
};

use sandyq::{
    audit::head::{BadHead, HeadVerifier},
    domain::{
        data_copy::{CopyEnd, CopyKind, CopyOutcome},
        reference::Reference,
    },
    grpc::pb::{self, register_service_client::RegisterServiceClient},
    vault::registers::{
        NewCopy,
        statement::{BadRegisters, FORMAT, ReadRegisters, Register, RegisterStatement},
    },
};
use serde_json::{Value, json};
use tonic::transport::Channel;

use crate::common::{
    backend::{Backend, on_both},
    people::{grant, iin, tokenize_request},
    recipients::{Pair, register},
    served::{Served, reason, request_id},
    vault::{OpenVault, as_admin},
};

const DAY: i64 = 86_400;

fn time(seconds: i64) -> prost_types::Timestamp {
    prost_types::Timestamp { seconds, nanos: 0 }
}

async fn registers(served: &Served, caller: &str) -> RegisterServiceClient<Channel> {
    RegisterServiceClient::new(served.channel(caller).await)
}

fn now(served: &Served) -> i64 {
    served.running.clock.now().as_micros() / 1_000_000
}

/// A copy on paper of somebody's IIN, made now, to be destroyed in 30 days.
fn paper(served: &Served) -> pb::RegisterCopyRequest {
    pb::RegisterCopyRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        kind: pb::CopyKind::Paper.into(),
        purpose: "payments".into(),
        fields: vec!["iin".into(), "surname".into()],
        holder: "HR/12".into(),
        reference: "BOX-7".into(),
        make_time: Some(time(now(served))),
        destroy_time: Some(time(now(served) + 30 * DAY)),
        ..pb::RegisterCopyRequest::default()
    }
}

fn ended(copy_id: &str, end_time: prost_types::Timestamp) -> pb::EndCopyRequest {
    pb::EndCopyRequest {
        request_id: request_id(),
        platform: "lerna".into(),
        copy_id: copy_id.into(),
        outcome: pb::CopyOutcome::Destroyed.into(),
        end_time: Some(end_time),
        act: "ACT-2026/9".into(),
    }
}

async fn listed(served: &Served, filter: pb::CopyFilter) -> Vec<pb::DataCopy> {
    let (mut all, mut page_token) = (Vec::new(), String::new());
    loop {
        let request = pb::ListCopiesRequest {
            platform: "lerna".into(),
            filter: filter.into(),
            page_size: 1,
            page_token,
        };
        let page = registers(served, "auditor").await.list_copies(request).await.unwrap().into_inner();
        assert!(page.copies.len() <= 1);
        all.extend(page.copies);
        page_token = page.next_page_token;
        if page_token.is_empty() {
            return all;
        }
    }
}

on_both!(r46_a_copy_stands_in_the_register_until_it_is_destroyed);
async fn r46_a_copy_stands_in_the_register_until_it_is_destroyed(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let stored = served.store(1).await;
    let mut admin = registers(&served, "admin").await;
    let request = pb::RegisterCopyRequest {
        subject: Some(pb::SubjectName {
            subject: Some(pb::subject_name::Subject::SubjectReference("user-1".into())),
        }),
        ..paper(&served)
    };
    let first = admin.register_copy(request.clone()).await.unwrap().into_inner().copy.unwrap();
    assert_eq!((first.subject_id.as_str(), first.holder.as_str()), (stored.subject.as_str(), "HR/12"));
    assert!(!first.overdue && first.end_time.is_none());
    let again = admin.register_copy(request.clone()).await.unwrap().into_inner().copy.unwrap();
    assert_eq!(again, first, "a retry registers nothing new");

    // The platform's own service, which the policy lets manage subjects, registers what it exports; of many people, and sooner.
    let export = pb::RegisterCopyRequest {
        platform: String::new(),
        kind: pb::CopyKind::File.into(),
        make_time: Some(time(now(&served) - 3 * DAY)),
        destroy_time: Some(time(now(&served) - DAY)),
        reference: String::new(),
        ..paper(&served)
    };
    let second = registers(&served, "backend").await.register_copy(export).await.unwrap();
    let second = second.into_inner().copy.unwrap();
    assert!(second.overdue && second.subject_id.is_empty());
    let ids = async |filter| -> Vec<String> {
        listed(&served, filter).await.into_iter().map(|copy| copy.copy_id).collect()
    };
    let (one, two) = (first.copy_id.clone(), second.copy_id.clone());
    assert_eq!(ids(pb::CopyFilter::Open).await, [two.as_str(), &one], "the soonest first");
    assert_eq!(ids(pb::CopyFilter::Overdue).await, [two.as_str()]);

    let late = admin.end_copy(ended(&two, time(now(&served)))).await.unwrap().into_inner().copy.unwrap();
    assert!(late.late && !late.overdue && late.act == "ACT-2026/9");
    assert_eq!(ids(pb::CopyFilter::Open).await, [one.as_str()]);
    assert_eq!(ids(pb::CopyFilter::All).await, [two.as_str(), &one], "what has ended is not forgotten");
    let refused = async |request| {
        let status = registers(&served, "admin").await.end_copy(request).await.unwrap_err();
        reason(&status)
    };
    assert_eq!(refused(ended(&two, time(now(&served)))).await, "COPY_ENDED");
    assert_eq!(refused(ended("cpy_ygmd6epvdryaeunxg3j4fagntu", time(now(&served)))).await, "COPY_NOT_FOUND");
    assert_eq!(refused(ended(&one, time(now(&served) - DAY))).await, "INVALID_FIELDS", "before it was made");

    // Who may not: a service that manages nobody, and an auditor, who only looks.
    for caller in ["payments", "auditor"] {
        let request = pb::RegisterCopyRequest {
            platform: if caller == "auditor" { "lerna".into() } else { String::new() },
            request_id: request_id(),
            ..request.clone()
        };
        let status = registers(&served, caller).await.register_copy(request).await.unwrap_err();
        assert_eq!(reason(&status), "CALLER_NOT_ALLOWED", "{caller}");
    }

    // A day that somebody put off behind the vault, or an end that never was.
    for (there, back) in [
        ("destroy_by = destroy_by + 1", "destroy_by = destroy_by - 1"),
        ("holder = 'HR/13'", "holder = 'HR/12'"),
        ("ended_at = made_at, outcome = 'destroyed', act = 'ACT'", "ended_at = NULL, outcome = '', act = ''"),
    ] {
        let set = async |part: &str| {
            served.sql(&format!("UPDATE data_copies SET {part} WHERE subject_id IS NOT NULL")).await
        };
        assert_eq!(set(there).await, 1);
        assert_eq!(refused(ended(&one, time(now(&served)))).await, "DATA_DAMAGED", "{there}");
        set(back).await;
    }
    admin.end_copy(ended(&one, time(now(&served)))).await.unwrap();
    assert_eq!(ids(pb::CopyFilter::Open).await, Vec::<String>::new());
    served.running.stop().await.unwrap();
}

on_both!(r46_what_is_overdue_is_counted);
async fn r46_what_is_overdue_is_counted(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    let new = |days: i64| NewCopy {
        kind: CopyKind::Medium,
        purpose: "payments".parse().unwrap(),
        fields: vec!["iin".parse().unwrap()],
        subject: None,
        holder: Reference::parse("ARCHIVE").unwrap(),
        reference: None,
        made_at: open.clock.now(),
        destroy_by: open.clock.now().plus_micros(days * DAY * 1_000_000),
    };
    let counted = async || {
        open.vault.sample().await.unwrap();
        let copies = open.vault.meters().open_registers().copies;
        copies.iter().map(|open| (open.count, open.overdue)).collect::<Vec<_>>()
    };
    assert_eq!(counted().await, []);
    let mut ids = Vec::new();
    for days in [1, 2] {
        let copy = open.vault.register_copy(&open.admin(), as_admin(), "lerna", new(days)).await.unwrap();
        ids.push(copy.copy.id);
    }
    assert_eq!(counted().await, [(2, 0)]);
    open.clock.advance(DAY * 1_000_000);
    assert_eq!(counted().await, [(2, 1)]);
    let (at, act) = (open.clock.now(), Reference::parse("ACT-1").unwrap());
    let end = CopyEnd { at, outcome: CopyOutcome::HandedOver, act };
    open.vault.end_copy(&open.admin(), as_admin(), "lerna", ids[0], end).await.unwrap();
    assert_eq!(counted().await, [(1, 0)]);
}

type Change<'a> = &'a dyn Fn(&mut pb::RegisterCopyRequest);

#[tokio::test(flavor = "multi_thread")]
async fn r46_what_no_copy_can_be_is_refused_field_by_field() {
    let served = Served::start().await;
    let changes: [(&str, Change<'_>); 10] = [
        ("kind", &|c| c.kind = 0),
        ("purpose", &|c| c.purpose = "resale".into()),
        ("fields", &|c| c.fields.clear()),
        ("fields[1]", &|c| c.fields = vec!["iin".into(), "iin".into()]),
        ("fields[0]", &|c| c.fields = vec!["cookies".into()]),
        ("holder", &|c| c.holder.clear()),
        ("holder", &|c| c.holder = "Айгүл из отдела кадров".into()),
        ("reference", &|c| c.reference = iin(1)),
        ("destroy_time", &|c| c.destroy_time = c.make_time),
        // The cap of 7.3: nothing is kept for more than three years.
        ("destroy_time", &|c| {
            c.destroy_time = c.make_time.map(|made| time(made.seconds + 4 * 366 * DAY));
        }),
    ];
    for (field, change) in changes {
        let mut request = paper(&served);
        change(&mut request);
        let status = registers(&served, "admin").await.register_copy(request).await.unwrap_err();
        assert_eq!(reason(&status), "INVALID_FIELDS", "{field}");
        let details = tonic_types::StatusExt::get_error_details(&status);
        let named: Vec<_> =
            details.bad_request().unwrap().field_violations.iter().map(|v| v.field.clone()).collect();
        assert_eq!(named, [field]);
    }
    assert!(listed(&served, pb::CopyFilter::All).await.is_empty(), "and nothing is registered");
    let nobody = pb::RegisterCopyRequest {
        subject: Some(pb::SubjectName {
            subject: Some(pb::subject_name::Subject::SubjectReference("nobody".into())),
        }),
        ..paper(&served)
    };
    let status = registers(&served, "admin").await.register_copy(nobody).await.unwrap_err();
    assert_eq!(reason(&status), "SUBJECT_NOT_FOUND");
    served.running.stop().await.unwrap();
}

/// Somebody whose data went to a bank, abroad and to everybody; and who took the consent to the last back.
async fn life(served: &Served) -> pb::TokenizeResponse {
    for (name, kind, country, purpose) in [
        ("bank", pb::RecipientKind::Bank, "KZ", "payments"),
        ("visa", pb::RecipientKind::PaymentSystem, "US", "payments"),
        ("forum", pb::RecipientKind::Public, "KZ", "content_publication"),
    ] {
        let request = pb::RegisterRecipientRequest {
            request_id: request_id(),
            platform: "lerna".into(),
            name: name.into(),
            kind: kind.into(),
            country: country.into(),
            legal_name: format!("АО «{name}»"),
            contract_reference: format!("D-17/{}", name.to_uppercase()),
            purposes: vec![purpose.into()],
            valid_until_time: Some(time(4_000_000_000)),
            conditions: vec![
                pb::RecipientCondition::NoOnwardTransfer.into(),
                pb::RecipientCondition::Confidentiality.into(),
            ],
            ..Default::default()
        };
        let abroad = pb::RegisterRecipientRequest {
            safeguard: pb::Safeguard::Treaty.into(),
            safeguard_reference: "TREATY-17".into(),
            ..request.clone()
        };
        let request = if country == "KZ" { request } else { abroad };
        let mut staff = served.platforms("admin").await;
        if name == "forum" {
            staff.register_recipient(request).await.unwrap();
        } else {
            register(&mut staff, request, &Pair::of(1)).await;
        }
    }
    let mut request = tokenize_request(1);
    request.fields.push(pb::FieldValue {
        field: "user_post".into(),
        value: "Жақсы курс".into(),
        ..Default::default()
    });
    let mut published = grant("content_publication", &["user_post"]);
    published.publication = Some(true);
    request.consents.push(published);
    request.consents.iter_mut().for_each(|consent| consent.cross_border_transfer = Some(true));
    let stored = served.vault("backend").await.tokenize(request).await.unwrap().into_inner();
    let token = |field: &str| stored.tokens.iter().find(|t| t.field == field).unwrap().token.clone();
    for recipient in ["bank", "visa"] {
        let request = pb::BatchDetokenizeRequest {
            request_id: request_id(),
            tokens: vec![token("iin")],
            purpose: "payments".into(),
            view: pb::View::Full.into(),
            recipient: recipient.into(),
            reference: format!("PAY-{}", recipient.to_uppercase()),
            ..Default::default()
        };
        assert!(
            served
                .vault("payments")
                .await
                .batch_detokenize(request)
                .await
                .unwrap()
                .into_inner()
                .sealed
                .is_some()
        );
    }
    let request = pb::DetokenizeRequest {
        token: token("user_post"),
        purpose: "content_publication".into(),
        view: pb::View::Full.into(),
        recipient: "forum".into(),
        ..Default::default()
    };
    served.vault("backend").await.detokenize(request).await.unwrap();
    // And a read that stays with the platform.
    served.read("payments", "payments", &token("iin")).await.unwrap();
    stored
}

async fn withdraw(served: &Served, consent_id: &str) {
    let request = pb::WithdrawConsentRequest {
        request_id: request_id(),
        consent_id: consent_id.into(),
        ..Default::default()
    };
    served.consents("backend").await.withdraw_consent(request).await.unwrap();
}

/// The file of an export.
async fn exported(served: &Served, caller: &str, since: i64) -> Result<String, String> {
    use pb::export_registers_response::Step;
    let request = pb::ExportRegistersRequest {
        platform: "lerna".into(),
        since_time: (since > 0).then(|| time(since)),
        until_time: None,
    };
    let mut calls = registers(served, caller).await;
    let mut steps = calls.export_registers(request).await.map_err(|s| reason(&s))?.into_inner();
    let mut file = String::new();
    while let Some(step) = steps.message().await.map_err(|s| reason(&s))? {
        if let Some(Step::Lines(some)) = step.step {
            file = file + &some.lines.join("\n") + "\n";
        }
    }
    Ok(file)
}

fn check(file: &str, key: &str) -> Result<RegisterStatement, BadRegisters> {
    ReadRegisters::read(file.as_bytes(), |_, _| ())?.verify(&HeadVerifier::new(key).unwrap())
}

fn rows(file: &str, of: Register) -> Vec<Value> {
    let mut found = Vec::new();
    let read = ReadRegisters::read(file.as_bytes(), |register, row| {
        if register == of {
            found.push(row);
        }
    });
    assert!(read.is_ok());
    found
}

on_both!(r45_r46_r48_every_register_is_in_an_export_that_holds_offline);
async fn r45_r46_r48_every_register_is_in_an_export_that_holds_offline(backend: Backend) {
    let served = Served::start_on(&backend).await;
    let stored = life(&served).await;
    registers(&served, "admin").await.register_copy(paper(&served)).await.unwrap();
    let before = exported(&served, "admin", 0).await.unwrap();
    withdraw(&served, &stored.consent_ids[2]).await;
    let file = exported(&served, "auditor", 0).await.unwrap();
    let statement = check(&file, &served.running.verifier_key).unwrap();
    assert_eq!(statement.origin, "vault.example.kz/lerna");

    let told = |of: Register, keys: &[&str]| -> Vec<Vec<String>> {
        let text = |row: &Value, key: &str| match &row[key] {
            Value::String(text) => text.clone(),
            other
            @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_)) => {
                other.to_string()
            }
        };
        rows(&file, of).iter().map(|row| keys.iter().map(|key| text(row, key)).collect()).collect()
    };
    assert_eq!(told(Register::Policies, &["version", "governs"]), [["1", "true"]]);
    let purposes = told(Register::Purposes, &["purpose", "basis", "dpia"]);
    assert!(purposes.contains(&["payments", "consent", "null"].map(String::from).to_vec()), "{purposes:?}");
    let recipients = rows(&file, Register::Recipients);
    let of = |name: &str| {
        let row = recipients.iter().find(|row| row["name"] == name).unwrap();
        ["country", "contract", "state", "safeguard", "safeguard_reference", "conditions"]
            .map(|key| row[key].clone())
    };
    let promised = json!(["confidentiality", "no_onward_transfer"]);
    let visa = [json!("US"), json!("D-17/VISA"), json!("active"), json!("treaty"), json!("TREATY-17")];
    assert_eq!(of("visa"), [&visa[..], std::slice::from_ref(&promised)].concat()[..]);
    let bank = [json!("KZ"), json!("D-17/BANK"), json!("active"), json!(null), json!(null), promised];
    assert_eq!((of("bank"), recipients.len()), (bank, 3), "registered with their contracts");
    let access = told(Register::Access, &["who", "name", "state"]);
    for (who, name) in [("caller", "backend"), ("caller", "payments"), ("person", "admin")] {
        assert!(access.contains(&[who, name, "enabled"].map(String::from).to_vec()), "{access:?}");
    }
    let consents = told(Register::Consents, &["subject", "purpose", "state", "cross_border_transfer"]);
    assert_eq!(consents.len(), 3);
    let withdrawn =
        [stored.subject_id.as_str(), "content_publication", "withdrawn", "true"].map(str::to_owned);
    assert!(consents.contains(&withdrawn.to_vec()), "{consents:?}");
    let keys = ["recipient", "kind", "country", "field", "reference", "subject"];
    let id = stored.subject_id.as_str();
    let release =
        |of: [&str; 5]| [of.as_slice(), &[id]].concat().into_iter().map(String::from).collect::<Vec<_>>();
    let bank = release(["bank", "bank", "KZ", "iin", "PAY-BANK"]);
    let visa = release(["visa", "payment_system", "US", "iin", "PAY-VISA"]);
    assert_eq!(told(Register::Transfers, &keys), [bank, visa.clone()], "and nothing that stayed");
    assert_eq!(told(Register::CrossBorder, &keys), [visa]);
    assert_eq!(
        told(Register::Publications, &["recipient", "field", "subject"]),
        [["forum", "user_post", id]]
    );
    assert_eq!(
        told(Register::Copies, &["kind", "holder", "overdue", "ended_at"]),
        [["paper", "HR/12", "false", "null"]]
    );
    for (register, count) in
        [("transfers", 2), ("cross_border", 1), ("publications", 1), ("consents", 3), ("copies", 1)]
    {
        assert_eq!(statement.rows[register], count, "{register}");
    }

    // What is published without a consent any more is to be taken down within a working day (rule R45).
    let taken_down = |file: &str| rows(file, Register::Publications)[0]["take_down_by"].clone();
    assert_eq!(taken_down(&before), Value::Null);
    assert!(taken_down(&file).is_string(), "{file}");
    assert_eq!(taken_down(&file), taken_down(&file));

    // Releases of another time are left out; what stands now stays.
    let later = exported(&served, "auditor", now(&served) + DAY).await.unwrap();
    let later = check(&later, &served.running.verifier_key).unwrap();
    assert!(!later.rows.contains_key("transfers") && later.rows["consents"] == 3 && later.since.is_some());

    for value in [iin(1).as_str(), "Сынақова", "+7701", "example.kz/person", "Жақсы"] {
        assert!(!file.contains(value), "{value} is in a register");
    }
    for caller in ["backend", "payments"] {
        assert_eq!(exported(&served, caller, 0).await.unwrap_err(), "CALLER_NOT_ALLOWED", "{caller}");
    }
    assert!(rows(&exported(&served, "auditor", 0).await.unwrap(), Register::Consents).len() == 3);

    // A row that was edited behind the vault is told as damaged, and hides no other.
    served.sql("UPDATE consents SET publication = 1 - publication WHERE purpose = 'payments'").await;
    served.sql("UPDATE data_copies SET holder = 'HR/13'").await;
    let damaged = exported(&served, "auditor", 0).await.unwrap();
    let found = |of| rows(&damaged, of).iter().filter(|row| row["damaged"] == true).count();
    assert_eq!((found(Register::Consents), found(Register::Copies)), (1, 1));
    assert_eq!(rows(&damaged, Register::Consents).len(), 3);
    served.running.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_that_was_altered_is_found_out() {
    let served = Served::start().await;
    life(&served).await;
    let (file, key) = (exported(&served, "auditor", 0).await.unwrap(), served.running.verifier_key.clone());
    check(&file, &key).unwrap();
    let lines: Vec<_> = file.lines().collect();
    let of = |lines: &[&str]| lines.join("\n") + "\n";
    let whole = lines.len();
    assert!(whole > 20, "{whole} lines");
    for i in 0..whole {
        let mut without = lines.clone();
        without.remove(i);
        let expected = match i {
            0 => BadRegisters::Format(1),
            i if i == whole - 1 => BadRegisters::Format(whole),
            _ => BadRegisters::Differs("bytes"),
        };
        assert_eq!(check(&of(&without), &key), Err(expected), "without line {i}");
        if i > 0 && i < whole - 1 {
            let mut twice = lines.clone();
            twice.insert(i, lines[i]);
            assert_eq!(check(&of(&twice), &key), Err(BadRegisters::Differs("bytes")), "line {i} twice");
        }
    }
    let visa = file.replacen("PAY-VISA", "PAY-BANK", 1);
    assert_eq!(check(&visa, &key), Err(BadRegisters::Differs("bytes")));
    let other = file.replace("\\\"transfers\\\":2", "\\\"transfers\\\":1");
    assert_ne!(other, file);
    assert_eq!(check(&other, &key), Err(BadRegisters::Unsigned(BadHead::Unsigned)));
    assert_eq!(check(&format!("{file}{{}}\n"), &key), Err(BadRegisters::Format(whole + 1)), "after the end");
    assert_eq!(check("", &key), Err(BadRegisters::Format(1)));
    assert_eq!(check(&file[..file.len() - 1], &key), Err(BadRegisters::Format(whole)), "cut");
    let unknown = file.replacen("\"register\":\"policies\"", "\"register\":\"politics\"", 1);
    assert!(matches!(check(&unknown, &key), Err(BadRegisters::Format(_))));
    assert!(lines[0].contains(FORMAT));
    let elsewhere = Served::start().await;
    let foreign = &elsewhere.running.verifier_key;
    assert_eq!(check(&file, foreign), Err(BadRegisters::Unsigned(BadHead::Unsigned)));
    elsewhere.running.stop().await.unwrap();
    served.running.stop().await.unwrap();
}

fn sandyq(dir: &Path, line: &str, copy: &str) -> Output {
    let path = Path::new(env!("CARGO_BIN_EXE_sandyq")).parent().unwrap().to_owned();
    let mut shell = Command::new("sh");
    shell.args(["-c", line]).current_dir(dir).env("COPY", copy);
    tokio::task::block_in_place(|| {
        shell.env("PATH", format!("{}:/usr/bin:/bin", path.display())).output().unwrap()
    })
}

/// Commands of `docs/registers.md`, as they stand there.
#[tokio::test(flavor = "multi_thread")]
async fn registers_are_kept_by_the_document() {
    let text = include_str!("../../docs/registers.md");
    let blocks = text.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let commands: Vec<_> =
        blocks.flat_map(str::lines).map(str::trim).filter(|line| !line.is_empty()).collect();
    let served = Served::start().await;
    life(&served).await;
    let dir = served.running.installation.dir().to_owned();
    std::fs::write(dir.join("audit.key"), &served.running.verifier_key).unwrap();
    let (mut copy, mut said) = (String::new(), String::new());
    assert!(commands.len() >= 5, "{commands:?}");
    for command in commands {
        let ran = sandyq(&dir, command, &copy);
        let (out, errors) = (String::from_utf8_lossy(&ran.stdout), String::from_utf8_lossy(&ran.stderr));
        assert!(ran.status.success(), "{command}\n{out}{errors}");
        if command.contains("registers copy ") {
            out.split_whitespace().find(|word| word.starts_with("cpy_")).unwrap().clone_into(&mut copy);
        }
        said = said + &out + &errors;
    }
    for expected in
        ["paper for payments", "HR/12", "destroyed, ACT-2026/9", "verified: the audit key", "no copy"]
    {
        assert!(said.contains(expected), "{expected} is not in\n{said}");
    }
    let page = std::fs::read_to_string(dir.join("registers.html")).unwrap();
    for expected in
        ["Registers of lerna", "Transfers abroad", "PAY-VISA", "Verified", "take down by", "HR/12"]
    {
        assert!(page.contains(expected), "{expected} is not on the page");
    }
    let kept = std::fs::read_to_string(dir.join("registers.jsonl")).unwrap();
    for value in [iin(1).as_str(), "Сынақова"] {
        assert!(!page.contains(value) && !said.contains(value) && !kept.contains(value), "{value}");
    }
    std::fs::write(dir.join("other.jsonl"), kept.replacen("PAY-VISA", "PAY-BANK", 1)).unwrap();
    let bad = sandyq(&dir, "sandyq registers verify other.jsonl --key audit.key", "");
    assert_eq!(bad.status.code(), Some(3), "{}", String::from_utf8_lossy(&bad.stderr));
    let mode = std::os::unix::fs::PermissionsExt::mode(
        &std::fs::metadata(dir.join("registers.jsonl")).unwrap().permissions(),
    );
    assert_eq!(mode & 0o777, 0o600, "nobody else may read it");
    let counts: BTreeMap<String, u64> = check(&kept, &served.running.verifier_key).unwrap().rows;
    assert_eq!(counts["copies"], 1);
    served.running.stop().await.unwrap();
}
