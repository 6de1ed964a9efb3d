//! Receipts of erasures: stated in the commit that erases, given again, and checked with the audit key alone.

use std::{fs, path::Path, process::Output, time::Duration};

use sandyq::{
    audit::{
        head::HeadVerifier,
        receipt::{BadReceipt, Receipt, Statement},
    },
    domain::receipt::ReceiptKind,
    grpc::pb::subject_service_client::SubjectServiceClient,
    policy::decide::Denial,
    vault::{error::VaultError, operations::Worked, receipts::ErasureReceipt, subjects::SubjectName},
};
use serde_json::Value;

use crate::common::{
    backend::{Backend, on_both},
    house::erase,
    people::iin,
    second::second_verifier,
    served::Served,
    vault::{OpenVault, as_admin, asker},
};

const HOUR: i64 = 60 * 60 * 1_000_000;

fn name(number: u32) -> SubjectName {
    SubjectName::Reference(format!("user-{number}"))
}

impl OpenVault {
    async fn receipts_of(&self, subject: SubjectName) -> Result<Vec<ErasureReceipt>, VaultError> {
        self.vault.erasure_receipts(&self.caller("backend"), asker("backend"), "", subject).await
    }

    /// What the receipts state, each checked.
    async fn stated(&self, subject: SubjectName) -> Vec<Statement> {
        let key = HeadVerifier::new(&self.vault.verifier_key()).unwrap();
        let stated = |given: ErasureReceipt| {
            let verified = Receipt::parse(&given.document).unwrap().verify(&key).unwrap();
            let statement = verified.statement;
            assert_eq!(
                (given.kind, given.entry, given.at),
                (statement.kind, statement.entry, statement.time)
            );
            statement
        };
        self.receipts_of(subject).await.unwrap().into_iter().map(stated).collect()
    }

    async fn erase_one(&self, number: u32) -> sandyq::vault::erasure::Erasure {
        let (caller, subject) = (self.caller("backend"), name(number));
        self.vault.erase_subject(&caller, asker("backend"), "", subject, None).await.unwrap()
    }
}

on_both!(an_erasure_has_a_receipt_and_its_end_a_second);
async fn an_erasure_has_a_receipt_and_its_end_a_second(backend: Backend) {
    let dir = tempfile::tempdir().unwrap();
    let open = OpenVault::create(&backend, dir.path(), |store| store).await;
    let stored = open.store_iin(1).await;
    assert_eq!(open.receipts_of(name(1)).await, Ok(Vec::new()), "never erased");
    assert_eq!(open.receipts_of(name(2)).await, Err(Denial::SubjectNotFound.into()));
    let payments = open.caller("payments");
    let refused = open.vault.erasure_receipts(&payments, asker("payments"), "", name(1)).await;
    assert_eq!(refused, Err(Denial::CallerNotAllowed.into()));

    let erasure = open.erase_one(1).await;
    let [first] = &open.stated(name(1)).await[..] else { panic!() };
    assert_eq!((first.kind, first.subject), (ReceiptKind::Erased, stored.subject));
    assert_eq!((first.erased_at, first.time), (erasure.erased_at, erasure.erased_at));
    assert_eq!(first.destroy_at, erasure.erased_at.plus(Duration::from_hours(4)));
    assert_eq!((first.origin.as_str(), first.backups), ("vault.example.kz/lerna", None));
    assert!(first.says.contains("No horizon of backups is configured"), "{}", first.says);

    // Called off, and erased again: what counts is the last erasure.
    open.vault.cancel_erasure(&open.admin(), as_admin(), "lerna", name(1), None).await.unwrap();
    let [erased, off] = &open.stated(name(1)).await[..] else { panic!() };
    assert_eq!((erased, off.kind), (first, ReceiptKind::CalledOff));
    assert_eq!((off.erased_at, off.destroy_at), (first.erased_at, first.destroy_at));
    open.clock.advance(HOUR);
    let again = open.erase_one(1).await;
    let [second] = &open.stated(name(1)).await[..] else { panic!() };
    assert_eq!((second.kind, second.erased_at), (ReceiptKind::Erased, again.erased_at));

    open.clock.advance(5 * HOUR);
    assert_eq!(open.vault.work().await.unwrap(), Worked { done: 1, left: 0, ..Worked::default() });
    for subject in [name(1), SubjectName::Id(stored.subject)] {
        let [erased, gone] = &open.stated(subject).await[..] else { panic!() };
        assert_eq!((erased, gone.kind), (second, ReceiptKind::Destroyed));
        assert!(gone.time >= second.destroy_at && gone.erased_at == second.erased_at);
    }
    // Given again later it states the same, with a proof up to the head of then; and nothing of the person.
    let before = open.receipts_of(name(1)).await.unwrap();
    for number in 2..40 {
        open.store_iin(number).await;
    }
    assert_eq!(open.stated(name(1)).await.len(), 2);
    let after = open.receipts_of(name(1)).await.unwrap();
    assert_ne!(before[0].document, after[0].document, "the log went on");
    for receipt in &after {
        assert!(!receipt.document.contains("user-1") && !receipt.document.contains(&iin(1)));
        let other =
            OpenVault::create(&Backend::Sqlite, tempfile::tempdir().unwrap().path(), |store| store).await;
        let key = HeadVerifier::new(&other.vault.verifier_key()).unwrap();
        let refused = Receipt::parse(&receipt.document).unwrap().verify(&key);
        assert_eq!(refused, Err(BadReceipt::Unsigned("statement")));
    }
}

fn sandyq(dir: &Path, line: &str) -> Output {
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_sandyq"));
    tokio::task::block_in_place(|| command.args(line.split(' ')).current_dir(dir).output().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_command_keeps_and_checks_receipts_and_the_second_verifier_agrees() {
    let served = Served::start_files(&Backend::Sqlite, |files| {
        let path = files.join("sandyq.toml");
        let config = fs::read_to_string(&path).unwrap();
        fs::write(
            &path,
            config.replace("directory = \"backups\"", "directory = \"backups\"\nhorizon_days = 90"),
        )
        .unwrap();
    })
    .await;
    served.store(1).await;
    served.store(2).await;
    let dir = served.running.installation.dir().to_owned();
    let key = served.running.verifier_key.clone();
    let as_admin = "--platform lerna --connection client-admin.toml";
    let never = sandyq(&dir, &format!("subject receipt user-1 {as_admin}"));
    assert_eq!(never.status.code(), Some(1), "{never:?}");
    let mut subjects = SubjectServiceClient::new(served.channel("admin").await);
    subjects.erase_subject(erase(1)).await.unwrap();

    let line = format!("--json subject receipt user-1 {as_admin} --out kept.json --key {key}");
    let given = sandyq(&dir, &line);
    assert_eq!(given.status.code(), Some(0), "{given:?}");
    let told: Value = serde_json::from_slice(&given.stdout).unwrap();
    assert_eq!((&told["verified"], &told["told"][0]["kind"]), (&true.into(), &"erased".into()));
    let until = told["told"][0]["backups_until"].as_str().unwrap();
    assert!(told["told"][0]["says"].as_str().unwrap().contains(until), "{told}");
    assert_eq!(sandyq(&dir, &line).status.code(), Some(1), "a file is never written over");
    let unchecked = sandyq(&dir, &format!("subject receipt user-1 {as_admin}"));
    let said = String::from_utf8(unchecked.stdout).unwrap();
    assert!(said.contains("Unreadable since") && said.contains("not verified: say --key"), "{said}");

    let subject = told["told"][0]["subject_id"].as_str().unwrap();
    let verify =
        |file: &str, more: &str| sandyq(&dir, &format!("subject receipt verify {file} --key {key}{more}"));
    let good = verify("kept.json", &format!(" --subject {subject}"));
    assert_eq!(good.status.code(), Some(0), "{good:?}");
    assert!(String::from_utf8(good.stdout).unwrap().contains("verified: the audit key signed it"));
    let other = verify("kept.json", " --subject sub_aaaaaaaaaaaaaaaaaaaaaaaaaa");
    assert_eq!(other.status.code(), Some(3), "{other:?}");
    let second = |file: &str| {
        let path = dir.join(file);
        second_verifier(&["receipt", path.to_str().unwrap(), "--key", &key])
    };
    let (code, said) = second("kept.json");
    assert_eq!((code, said.contains(subject)), (Some(0), true), "{said}");

    // Whatever is changed, both verifiers say no.
    let kept = fs::read_to_string(dir.join("kept.json")).unwrap();
    let receipt = serde_json::from_str::<Value>(&kept).unwrap()["receipts"][0].clone();
    let day = &until[..10];
    let spoil: [(&str, Value); 5] = [
        ("statement", receipt["statement"].as_str().unwrap().replace(day, "2020-01-01").into()),
        ("position", 0.into()),
        ("proof", Value::Array(Vec::new())),
        ("checkpoint", receipt["statement"].clone()),
        ("entry", "AAAA".into()),
    ];
    for (part, value) in spoil {
        let mut spoilt = receipt.clone();
        spoilt[part] = value;
        fs::write(dir.join("spoilt.json"), spoilt.to_string()).unwrap();
        assert_eq!(verify("spoilt.json", "").status.code(), Some(3), "{part}");
        assert_eq!(second("spoilt.json").0, Some(3), "{part}");
    }
    fs::write(dir.join("spoilt.json"), "{}").unwrap();
    assert_eq!(verify("spoilt.json", "").status.code(), Some(1));
    served.running.stop().await.unwrap();
}
